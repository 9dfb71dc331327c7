"""The console's pages as a browser without script gets them: who sees what, what is refused, what is kept."""

from __future__ import annotations

import html
import re
from typing import Any

import httpx
import pytest

from services.console.sessions import AGE_MAX, IDLE_MAX
from services.console.web import FORM_BYTES_MAX, FORM_FIELDS_MAX
from shared.in_process import InProcess
from tests.integration.console.conftest import Browser
from tests.support.world import World

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> {{7*7}}"


async def raised(made: World, browser: Browser, *, to: tuple[str, ...] = ("US", "GB"), headline: str = "Kabul") -> Any:
    """An alert that Canada has released, as the API shows it."""
    body = {"headline": headline, "countries": ["AFG"], "to": list(to), "precedence": "FLASH"}
    headers = {**await browser.network.sign_in(made, "ca-duty"), **made.key()}
    answer = await made.http.post("/v1/alerts", json={**body, "self_release_reason": "alone"}, headers=headers)
    assert answer.status_code == 202, answer.text
    await made.settle()
    return answer.json()


async def test_a_stranger_is_asked_to_sign_in_and_comes_back(browser: Browser) -> None:
    """A page needs a session; after signing in the reader is where they wanted to be. The browser holds no token."""
    asked = await browser.get("/alerts?state=draft")
    assert (asked.status_code, asked.headers["location"]) == (303, "/sign-in?after=/alerts%3Fstate%3Ddraft")
    done = await browser.sign_in("ca-duty", after="/alerts?state=draft")
    assert (done.status_code, done.headers["location"]) == (303, "/alerts?state=draft")
    cookie = done.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "eyJ" not in cookie
    assert (await browser.get("/alerts")).status_code == 200


async def test_a_wrong_secret_says_no_more_than_that(browser: Browser) -> None:
    """Wrong name and wrong secret look the same, and what was typed as a name is shown as text."""
    for client_id in ("ca-duty", HOSTILE):
        refused = await browser.post("/sign-in", {"client_id": client_id, "client_secret": "rps_wrong"})
        assert refused.status_code == 401
        assert "do not fit together" in refused.text
        assert "<script>alert" not in refused.text
        assert "set-cookie" not in refused.headers


async def test_every_page_carries_the_strict_policy(made: World, browser: Browser) -> None:
    """No inline script or style, nothing from elsewhere, no frame, no copy kept."""
    await browser.sign_in("ca-duty")
    alert = await raised(made, browser)
    for path in (
        "/sign-in",
        "/",
        "/alerts",
        f"/alerts/{alert['id']}",
        f"/alerts/{alert['id']}/report",
        "/raise",
        "/nothing",
    ):
        page = await browser.get(path)
        if path == "/nothing":
            continue
        assert page.status_code == 200, path
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert page.headers["cache-control"] == "no-store"
        assert not re.search(r"<script(?![^>]*\bsrc=)", page.text), path
        assert not re.search(r"<[^>]+\s(style|on\w+)=", page.text), path


async def test_the_board_shows_who_has_not_answered(made: World, browser: Browser) -> None:
    """Each partner's cell with state, level and what happens next; after an answer, who and when."""
    await raised(made, browser)
    await browser.sign_in("ca-duty")
    board = (await browser.get("/")).text
    assert board.count('class="cell is-waiting') == 2
    assert "Level 1 of 2" in board
    headers = {**await browser.network.sign_in(made, "us-duty"), **made.key()}
    await made.http.post("/v1/acknowledgements", json={"alert_ids": "all"}, headers=headers)
    await made.settle()
    await made.services["escalation"].loops["board"].run_once()
    fresh = await browser.http.get("/alerts/RP-CA-2021-0001")
    assert "Acknowledged" in fresh.text
    assert "NameDutyUS" in fresh.text


async def test_what_handling_withholds_is_on_no_page(made: World, browser: Browser) -> None:
    """The secretariat sees that there is an alert and how it goes, not what it says; others see nothing at all."""
    body = {"headline": "Secrettext", "countries": ["AFG"], "to": ["US"], "precedence": "FLASH", "tlp": "TLP:RED"}
    headers = {**await browser.network.sign_in(made, "ca-duty"), **made.key()}
    alert = (await made.http.post("/v1/alerts", json={**body, "self_release_reason": "alone"}, headers=headers)).json()
    await made.settle()
    await browser.sign_in("xr-secretariat")
    for path in ("/", "/alerts", f"/alerts/{alert['id']}"):
        page = await browser.get(path)
        assert page.status_code == 200
        assert "Secrettext" not in page.text
        assert "Withheld by its handling label" in page.text
    await browser.sign_in("gb-duty")
    hidden, missing = await browser.get(f"/alerts/{alert['id']}"), await browser.get(f"/alerts/{made.ids.new()}")
    assert (hidden.status_code, missing.status_code) == (404, 404)
    own_marks = [hidden.text.replace(alert["id"], ""), missing.text.replace(str(missing.url).rpartition("/")[2], "")]
    assert len({re.sub(r'name="csrf" value="[^"]+"', "", text) for text in own_marks}) == 1


async def test_hostile_text_is_shown_as_text(made: World, browser: Browser) -> None:
    """What somebody wrote never becomes part of a page."""
    await raised(made, browser, headline=HOSTILE)
    await browser.sign_in("us-duty")
    for path in ("/", "/alerts", "/alerts/RP-CA-2021-0001", "/alerts/RP-CA-2021-0001/report"):
        page = (await browser.get(path)).text
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "&lt;script&gt;alert(1)" in page
        assert "{{7*7}}" in page


async def test_a_form_of_another_site_is_refused(made: World, browser: Browser) -> None:
    """Without the page's mark, or from elsewhere, nothing is done."""
    alert = await raised(made, browser)
    await browser.sign_in("ca-duty")
    await browser.get(f"/alerts/{alert['id']}")
    path, note = f"/alerts/{alert['id']}/close", {"note": "over"}
    for attack in (
        await browser.http.post(path, data=note),
        await browser.http.post(path, data={**note, "csrf": "0" * 64}),
        await browser.http.post(path, data={**note, "csrf": browser.csrf}, headers={"origin": "https://evil.example"}),
        await browser.http.post(path, data={**note, "csrf": browser.csrf}, headers={"sec-fetch-site": "cross-site"}),
    ):
        assert attack.status_code == 403
        assert "did not come from a page of Red Phone" in attack.text
    headers = await browser.network.sign_in(made, "ca-duty")
    assert (await made.http.get(f"/v1/alerts/{alert['id']}", headers=headers)).json()["ended_at"] is None


async def test_raising_with_a_preview_and_a_second_person(made: World, browser: Browser) -> None:
    """The preview names whom it would wake and changes nothing; a double click is one draft; another releases."""
    await browser.sign_in("ca-duty")
    await browser.get("/raise")
    typed = {"headline": "Kabul", "countries": "AFG", "precedence": "FLASH", "to": ["US", "GB"], "instruction": "Say"}
    preview = await browser.post("/raise/preview", {**typed, "act": "preview"})
    assert preview.status_code == 200
    assert "Duty role" in preview.text
    assert "NameDutyUS" not in preview.text
    assert 'value="Kabul"' in preview.text
    key = browser.key
    first = await browser.post("/raise", {**typed, "act": "draft", "key": key})
    again = await browser.post("/raise", {**typed, "act": "draft", "key": key})
    assert first.status_code == 303
    assert first.headers["location"] == again.headers["location"]
    page = first.headers["location"].partition("?")[0]
    alone = await browser.get(page)
    assert "Why no second person can release" in alone.text
    await browser.sign_in("ca-releaser")
    await browser.get(page)
    released = await browser.post(f"{page}/release", {"precedence": "FLASH"})
    assert released.status_code == 303, released.text
    await made.settle()
    assert "partners are being reached" in (await browser.get(page)).text


async def test_what_the_api_refuses_comes_back_into_the_form(browser: Browser) -> None:
    """The fault stands beside its field, and nothing typed is lost."""
    await browser.sign_in("ca-duty")
    await browser.get("/raise")
    typed = {
        "headline": "Kabul",
        "countries": "NOWHERE",
        "precedence": "FLASH",
        "to": ["US"],
        "description": "Long text",
    }
    refused = await browser.post("/raise", {**typed, "act": "draft"})
    assert refused.status_code == 422
    assert 'id="fault-countries"' in refused.text
    assert "Long text" in refused.text


async def test_a_session_that_ended_in_the_middle_of_a_form_loses_nothing(made: World, browser: Browser) -> None:
    """What was typed is kept through signing in, and sent only when the reader says so."""
    await browser.sign_in("ca-duty")
    await browser.get("/raise")
    made.clock.advance(IDLE_MAX.total_seconds() + 1)
    typed = {"headline": "Kabul at risk", "countries": "AFG", "precedence": "FLASH", "to": "US", "act": "draft"}
    asked = await browser.post("/raise", typed)
    assert asked.status_code == 401
    assert 'name="kept.headline" value="Kabul at risk"' in asked.text
    resumed = await browser.sign_in("ca-duty", after="/raise", **kept_in(asked))
    assert resumed.status_code == 200
    assert 'name="headline" value="Kabul at risk"' in resumed.text
    sent = await browser.post("/raise", {**typed, "key": str(made.ids.new())})
    assert sent.status_code == 303


async def test_what_was_typed_is_given_back_to_nobody_else(made: World, browser: Browser) -> None:
    """A colleague signs in on the page of somebody whose session has ended: they come to a page of their own."""
    await browser.sign_in("ca-duty")
    await browser.get("/raise")
    made.clock.advance(IDLE_MAX.total_seconds() + 1)
    asked = await browser.post("/raise", {"headline": "Kabul at risk", "act": "draft"})
    for forged in ({}, {"kept.written-by": ""}):
        begun = await browser.sign_in("ca-releaser", after="/raise", **{**kept_in(asked), **forged})
        assert (begun.status_code, begun.headers["location"]) == (303, "/raise")


def kept_in(page: httpx.Response) -> dict[str, str]:
    """What a page for signing in keeps of a form."""
    fields = hidden_fields(page.text).items()
    return {name: html.unescape(value) for name, value in fields if name.startswith("kept.")}


async def test_a_session_ends_by_its_age_and_by_signing_out(made: World, browser: Browser) -> None:
    """Use keeps a session alive, but not for ever; signing out ends it at once, also for a copy of the cookie."""
    await browser.sign_in("ca-duty")
    for _ in range(int(AGE_MAX / (IDLE_MAX / 2)) - 1):
        made.clock.advance(IDLE_MAX.total_seconds() / 2)
        assert (await browser.get("/alerts")).status_code == 200
    made.clock.advance(IDLE_MAX.total_seconds() / 2 + 1)
    assert (await browser.get("/alerts")).status_code == 303
    await browser.sign_in("ca-duty")
    copy = dict(browser.http.cookies)
    await browser.get("/alerts")
    assert (await browser.post("/sign-out")).status_code == 303
    browser.http.cookies.update(copy)
    assert (await browser.get("/alerts")).status_code == 303
    kinds = [row.kind for row in await made.rows("console", "SELECT kind FROM record ORDER BY recorded_at, id")]
    assert sorted(kinds) == ["session.began", "session.began", "session.ended"]


async def test_a_revoked_credential_ends_its_session_at_the_next_step(made: World, browser: Browser) -> None:
    """What an administrator revokes stops acting, whatever cookie there is."""
    await browser.sign_in("us-duty")
    assert (await browser.get("/alerts")).status_code == 200
    headers = made.administrator()
    version = (await made.http.get("/v1/partners/US/credentials", headers=headers)).headers["ETag"]
    path = "/v1/partners/US/credentials/us-duty/revocation"
    assert (await made.http.post(path, headers={**headers, "If-Match": version})).status_code == 200
    await made.settle()
    assert (await browser.get("/alerts")).headers["location"].startswith("/sign-in")


async def test_an_api_that_is_down_is_named(made: World, browser: Browser, monkeypatch: pytest.MonkeyPatch) -> None:
    """The page says which part does not answer, and shows what the others know."""
    alert = await raised(made, browser)
    await browser.sign_in("ca-duty")
    monkeypatch.setattr("shared.in_process.InProcess.handle_async_request", down_for("/v1/escalations"))
    page = await browser.get(f"/alerts/{alert['id']}")
    assert page.status_code == 200
    assert "escalation does not answer" in page.text
    assert "Kabul" in page.text
    monkeypatch.setattr("shared.in_process.InProcess.handle_async_request", down_for("/v1/alerts"))
    gone = await browser.get(f"/alerts/{alert['id']}")
    assert gone.status_code == 503
    assert "alerting does not answer" in gone.text


def down_for(prefix: str) -> Any:
    """A transport on which calls to one part fail as a lost connection does."""
    usual = InProcess.handle_async_request

    async def call(self: InProcess, request: httpx.Request) -> httpx.Response:
        if request.url.path.startswith(prefix):
            raise httpx.ConnectError("refused")
        return await usual(self, request)

    return call


def hidden_fields(page: str) -> dict[str, str]:
    """What a form of this page sends without being seen."""
    return dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page))


@pytest.mark.parametrize(
    "elsewhere", [{"origin": "https://evil.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}]
)
async def test_a_form_of_another_site_is_not_kept_through_signing_in(
    browser: Browser, elsewhere: dict[str, str]
) -> None:
    """It comes without the session's cookie, as if the session had ended: it is refused, and nothing of it is kept."""
    evil = {"headline": "Evacuate everything", "to": "US", "act": "release", "self_release_reason": "alone"}
    refused = await browser.http.post("/raise", data=evil, headers=elsewhere)
    assert refused.status_code == 403
    assert "did not come from a page of Red Phone" in refused.text
    assert "Evacuate everything" not in refused.text


async def test_what_would_be_sent_is_shown_before_it_is(made: World, browser: Browser) -> None:
    """Whoever goes on where they were reads where it goes and every field; a secret is named and not shown."""
    await browser.sign_in("ca-duty")
    await browser.get("/raise")
    made.clock.advance(IDLE_MAX.total_seconds() + 1)
    typed = {"headline": HOSTILE, "act": "release", "x-other": "Other text", "code": "4711"}
    asked = await browser.post("/raise", typed)
    assert asked.status_code == 401
    resumed = await browser.sign_in("ca-duty", after="/raise", **kept_in(asked))
    shown = resumed.text[resumed.text.index("What would be sent") : resumed.text.index("<form method", 3000)]
    assert "<code>/raise</code>" in shown
    for seen in (html.escape(HOSTILE, quote=False)[:30], "Release now", "x-other", "Other text", "not shown here"):
        assert seen in shown, seen
    assert "4711" not in shown
    assert "<script>alert" not in resumed.text
    assert hidden_fields(resumed.text)["act"] == "release"


@pytest.mark.parametrize(
    "body",
    [b"a=" + b"x" * FORM_BYTES_MAX, b"a=\xff\xfe", b"&".join(b"a=1" for _ in range(FORM_FIELDS_MAX + 1))],
    ids=["bytes", "no UTF-8", "fields"],
)
async def test_a_form_that_no_page_of_ours_sends_is_no_fault_of_ours(browser: Browser, body: bytes) -> None:
    """Too long, too many fields, no text: a stranger is told so, and the world's log has no error."""
    content_type = {"content-type": "application/x-www-form-urlencoded"}
    refused = await browser.http.post("/raise", content=body, headers=content_type)
    assert refused.status_code == 413
    assert "This is too much" in refused.text


async def test_what_a_browser_keeps_is_marked_as_one_persons(browser: Browser) -> None:
    """The mark is the same in each session of a person, another for another, and names nobody; a stranger has none."""
    marks = []
    for client_id in ("ca-duty", "ca-releaser", "ca-duty"):
        await browser.sign_in(client_id)
        page = (await browser.get("/raise")).text
        marks += re.findall(r'<html[^>]* data-owner="([0-9a-f]{32})"', page)
    assert len(marks) == 3
    assert marks[0] == marks[2] != marks[1]
    assert 'data-owner=""' in (await browser.get("/sign-in")).text


async def test_signing_out_lets_go_of_what_was_typed(browser: Browser) -> None:
    """The page after it says so to the browser; one that a link elsewhere leads to does not, nor one while somebody is
    signed in, nor one that only asks for signing in.
    """
    await browser.sign_in("ca-duty")
    await browser.get("/alerts")
    assert "data-drafts-forget" not in (await browser.get("/sign-in?over=1")).text
    left = (await browser.post("/sign-out")).headers["location"]
    assert "data-drafts-forget" in (await browser.get(left)).text
    assert "data-drafts-forget" not in (await browser.get(left, **{"sec-fetch-site": "cross-site"})).text
    assert "data-drafts-forget" not in (await browser.get("/sign-in?after=/raise")).text


async def test_whoever_has_written_some_of_a_draft_is_asked_why_they_are_alone(made: World, browser: Browser) -> None:
    """The draft names whoever began it. Another author is told why it was not released, and says why they are alone."""
    drafter = {**await browser.network.sign_in(made, "ca-duty"), **made.key()}
    body = {"headline": "Kabul", "countries": ["AFG"], "to": ["US"], "precedence": "FLASH"}
    draft = await made.http.post("/v1/alerts", json=body, headers=drafter)
    assert draft.status_code == 201, draft.text
    path = f"/alerts/{draft.json()['id']}"
    editor = {**await browser.network.sign_in(made, "ca-releaser"), "If-Match": draft.headers["ETag"]}
    edited = await made.http.patch(f"/v1{path}", json={"instruction": "Seats?"}, headers=editor)
    assert edited.status_code == 200, edited.text
    await browser.sign_in("ca-releaser")
    assert 'name="self_release_reason"' not in (await browser.get(path)).text
    refused = await browser.post(f"{path}/release", {"precedence": "FLASH"})
    assert refused.status_code == 403
    assert "Not released: you have written some of it" in refused.text
    assert "<option selected>FLASH</option>" in refused.text
    assert 'name="self_release_reason"' in refused.text
    released = await browser.post(f"{path}/release", {"precedence": "FLASH", "self_release_reason": "alone at night"})
    assert (released.status_code, released.headers["location"]) == (303, f"{path}?said=release")


async def test_an_officer_who_is_no_releaser_is_asked_why_they_are_alone(made: World, browser: Browser) -> None:
    """They can never be the second person, so the form of another's draft asks for the reason at once."""
    drafter = {**await browser.network.sign_in(made, "ca-releaser"), **made.key()}
    body = {"headline": "Kabul", "countries": ["AFG"], "to": ["US"], "precedence": "FLASH"}
    path = f"/alerts/{(await made.http.post('/v1/alerts', json=body, headers=drafter)).json()['id']}"
    await browser.sign_in("ca-duty")
    page = (await browser.get(path)).text
    assert re.search(r'name="self_release_reason"[^>]* required', page)
    assert "You have written it yourself" not in page
    released = await browser.post(f"{path}/release", {"precedence": "FLASH", "self_release_reason": "alone at night"})
    assert (released.status_code, released.headers["location"]) == (303, f"{path}?said=release")


async def test_only_what_the_page_has_shown_is_released(made: World, browser: Browser) -> None:
    """The author edits while the second person reads: nothing is released before they have read that, too."""
    author = await browser.network.sign_in(made, "ca-duty")
    body = {"headline": "Kabul", "countries": ["AFG"], "to": ["US"], "precedence": "FLASH"}
    draft = await made.http.post("/v1/alerts", json=body, headers={**author, **made.key()})
    assert draft.status_code == 201, draft.text
    path = f"/alerts/{draft.json()['id']}"
    await browser.sign_in("ca-releaser")
    await browser.get(path)
    changed = {**author, "If-Match": draft.headers["ETag"]}
    assert (await made.http.patch(f"/v1{path}", json={"headline": "Herat"}, headers=changed)).status_code == 200
    refused = await browser.post(f"{path}/release", {"precedence": "FLASH"})
    assert refused.status_code == 412
    assert "Not released: it has been changed" in refused.text
    assert "Herat" in refused.text
    for garbled in ("", "\u0663", "two"):
        refused = await browser.post(f"{path}/release", {"precedence": "FLASH", "version": garbled})
        assert refused.status_code == 412
    released = await browser.post(f"{path}/release", {"precedence": "FLASH"})
    assert (released.status_code, released.headers["location"]) == (303, f"{path}?said=release")
