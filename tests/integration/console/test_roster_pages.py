"""The roster's pages as a browser without script gets them: seen, tried, saved, offered, signed and verified."""

from __future__ import annotations

import html
import re
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.console.conftest import Browser
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Outlet, sent_by
from tests.support.marked_network import marked_world
from tests.support.world import PUBLIC_URL, World

MONDAY = datetime(2021, 8, 16, 7, 0, tzinfo=UTC)
"""08:00 in London: the hand-over of the next shift."""
HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)> {{7*7}}"


def stretch(rota: str, start_at: datetime = MONDAY, hours: int = 24) -> str:
    """The address of a stretch of a rota."""
    end_at = start_at + timedelta(hours=hours)
    return f"/roster/rotas/{rota}/stretch?start_at={start_at:%Y-%m-%dT%H:%M:%SZ}&end_at={end_at:%Y-%m-%dT%H:%M:%SZ}"


def fields_of(page: httpx.Response, form: str) -> dict[str, str]:
    """What a browser would send of a form: its inputs, and what is chosen."""
    found = re.search(rf"<form[^>]*(?:id|action)=\"{re.escape(form)}\".*?</form>", page.text, re.DOTALL)
    assert found is not None, f"no form {form} in\n{page.text}"
    fields = {}
    for tag in re.findall(r"<input[^>]*>", found.group()):
        name, value = re.search(r'name="([^"]*)"', tag), re.search(r'value="([^"]*)"', tag)
        if name is not None:
            fields[name.group(1)] = html.unescape(value.group(1)) if value is not None else ""
    for name, options in re.findall(r'<select name="([^"]*)".*?>(.*?)</select>', found.group(), re.DOTALL):
        chosen = re.search(r'value="([^"]*)" selected', options) or re.search(r'value="([^"]*)"', options)
        fields[name] = chosen.group(1) if chosen is not None else ""
    return fields


@pytest.fixture
async def keeper(made: World, browser: Browser) -> dict[str, str]:
    """The headers of Canada's roster manager, who is signed in with the browser as well."""
    await browser.sign_in("ca-keeper")
    return await browser.network.sign_in(made, "ca-keeper")


async def own(made: World, headers: dict[str, str], path: str = "") -> Any:
    """What the API answers of Canada's roster."""
    answer = await made.http.get(f"/v1/partners/CA{path}", headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def duty_rota(made: World, headers: dict[str, str], **changes: Any) -> dict[str, Any]:
    """Canada's rota of duty officers, with these fields written."""
    (rota,) = (await own(made, headers, "/rotas"))["items"]
    if changes:
        etag = (await made.http.get("/v1/partners/CA/rotas", headers=headers)).headers["ETag"]
        layers = [{**layer, **changes} for layer in rota["layers"]]
        body = {
            "name": rota["name"],
            "time_zone": rota["time_zone"],
            "layers": layers,
            "extra_holidays": [{"on": "2021-08-18", "name": f"Founding day {HOSTILE}"}],
            "signs_hand_over": True,
        }
        answer = await made.http.put(
            f"/v1/partners/CA/rotas/{rota['id']}", json=body, headers={**headers, "If-Match": etag}
        )
        assert answer.status_code == 200, answer.text
        await made.settle()
    return dict(rota)


async def test_everybody_sees_their_own_roster_and_the_secretariat_sees_scores_without_names(
    made: World, browser: Browser, keeper: dict[str, str]
) -> None:
    """Names for one's own government alone, a missing page for others, scores for the secretariat; the strict policy
    holds on every page.
    """
    people = {one["name"]: one["id"] for one in (await own(made, keeper, "/contacts"))["items"]}
    rota = await duty_rota(made, keeper, participants=[people["NameDutyCA"], people["NameSeniorCA"]])
    pages = {}
    for path in ("/roster", f"/roster/rotas/{rota['id']}", stretch(rota["id"]), "/roster/people", "/roster/me"):
        pages[path] = page = await browser.get(path)
        assert page.status_code == 200, page.text
        assert "script-src 'self'" in page.headers["content-security-policy"]
        assert not re.search(r"<script(?![^>]*\bsrc=)|<[^>]+\s(style|on\w+)=", page.text), path
        assert 'aria-current="page"' in page.text
        for other in ("NameDutyUS", "RotanameUS", "NameDutyGB"):
            assert other not in page.text
    shown = pages["/roster"].text
    assert "NameDutyCA" in shown
    assert "No deputy" in shown
    assert "Mon 16 Aug 08:00" in shown
    assert "Mon 16 Aug 07:00 for you" in shown
    assert "Contact point not verified" in shown
    drawn = pages[f"/roster/rotas/{rota['id']}"].text
    assert drawn.count('class="bar is-duty') >= 28
    assert drawn.count('class="day is-weekend') == 8
    assert drawn.count("Founding day") == 2
    assert "<script>alert" not in drawn
    assert re.search(r'class="now".*?x1="[\d.]+%"', drawn, re.DOTALL)
    numbers = [mark.text for mark in browser.network.marks if mark.owner == "CA" and mark.about.endswith("phone")]
    own_number = browser.network.of("point", "CA", "keeper phone")
    for number in numbers:
        assert (number in pages["/roster/people"].text) is (number == own_number)
    for path in (f"/roster/rotas/{own_number}", "/roster/rotas/0191a8c0-0000-7000-8000-000000000001"):
        assert (await browser.get(path)).status_code in (404, 422)

    await browser.sign_in("us-keeper")
    assert (await browser.get(f"/roster/rotas/{rota['id']}")).status_code == 404
    assert (await browser.get("/roster/partners/CA")).status_code == 404
    await browser.sign_in("ca-observer")
    sent_on = await browser.get("/roster")
    assert (sent_on.status_code, sent_on.headers["location"]) == (303, "/roster/me")

    await browser.sign_in("xr-secretariat")
    for path in ("/roster", "/roster/partners/CA"):
        page = await browser.get(path)
        assert "Partner CA" in page.text
        for mark in browser.network.marks:
            if mark.owner == "CA" and mark.kind in ("name", "point", "label", "endpoint"):
                assert mark.text not in page.text, (path, mark)
    tree = await browser.get("/roster/call-tree.pdf")
    assert tree.headers["location" if tree.status_code == 303 else "content-type"] in (
        "/roster?said=tree_not_ready",
        "application/pdf",
    )


@pytest.mark.logs_error("reconciler.alarm_raised")
async def test_an_override_is_shown_saved_and_removed_only_as_it_was_shown(
    made: World, browser: Browser, keeper: dict[str, str]
) -> None:
    """A hole is announced before it is made; a roster that was changed in between and a form that was changed after the
    preview are shown again, with what was typed; nobody else's word makes an override.
    """
    rota = await duty_rota(made, keeper)
    address = f"/roster/rotas/{rota['id']}/overrides"
    page = await browser.get(stretch(rota["id"]))
    early = await browser.post(address, {**fields_of(page, "override"), "contact_id": ""})
    assert (early.status_code, "Choose somebody, or nobody." in early.text) == (422, True)
    wrong = {**fields_of(page, "override"), "contact_id": "nobody", "end": "2021-13-45T99:00"}
    refused = await browser.post(address, wrong)
    assert (refused.status_code, "not a time that the clocks there show" in refused.text) == (422, True)
    assert 'value="2021-13-45T99:00"' in refused.text

    shown = await browser.post(address, {**fields_of(page, "override"), "contact_id": "nobody", "act": "preview"})
    assert shown.status_code == 200
    assert "Nobody would be on duty" in shown.text
    assert "NameDutyCA" in shown.text
    assert (await own(made, keeper, f"/rotas/{rota['id']}"))["overrides"] == []

    later = {"contact_id": None, "start_at": "2021-08-25T07:00:00Z", "end_at": "2021-08-25T09:00:00Z"}
    other = await made.http.post(f"/v1/partners/CA/rotas/{rota['id']}/overrides", json=later, headers=keeper)
    assert other.status_code == 201, other.text
    conflict = await browser.post(address, {**fields_of(shown, "override"), "act": "save"})
    assert "Somebody else has changed the roster since: look again." in conflict.text
    assert 'value="nobody" selected' in conflict.text
    assert len((await own(made, keeper, f"/rotas/{rota['id']}"))["overrides"]) == 1

    changed = {**fields_of(conflict, "override"), "act": "save", "end": "2021-08-16T20:00"}
    again = await browser.post(address, changed)
    assert "You have changed the form since the preview." in again.text
    saved = await browser.post(address, {**fields_of(again, "override"), "act": "save"})
    assert (saved.status_code, saved.headers["location"]) == (
        303,
        f"/roster/rotas/{rota['id']}?from=2021-08-16&said=override",
    )
    await made.settle()
    made_now = (await own(made, keeper, f"/rotas/{rota['id']}"))["overrides"][-1]
    assert (made_now["contact_id"], made_now["end_at"]) == (None, "2021-08-16T19:00:00Z")
    drawn = (await browser.get(saved.headers["location"])).text
    assert "Saved." in drawn
    assert drawn.count('class="hole"') == 2
    assert "Nobody is on duty" in (await browser.get("/roster")).text

    removal = await browser.get(f"{address}/{made_now['id']}")
    assert "Somebody would be on duty again" in removal.text
    gone = await browser.post(
        f"{address}/{made_now['id']}", {**fields_of(removal, f"{address}/{made_now['id']}"), "act": "save"}
    )
    assert gone.status_code == 303
    assert [one["id"] for one in (await own(made, keeper, f"/rotas/{rota['id']}"))["overrides"]] != [made_now["id"]]
    assert (await browser.get(f"{address}/{made_now['id']}")).status_code == 404

    await browser.sign_in("ca-duty")
    theirs = await browser.get(stretch(rota["id"]))
    assert 'id="override"' not in theirs.text
    body = {**fields_of(shown, "override"), "csrf": browser.csrf, "act": "save"}
    assert (await browser.post(address, body)).status_code == 403
    foreign = await browser.post(address, {**body, "csrf": "another session's"})
    assert (foreign.status_code, "did not come from a page" in foreign.text) == (403, True)


@pytest.mark.logs_error("reconciler.alarm_raised")
async def test_a_swap_is_offered_and_taken_and_a_hand_over_is_signed(
    made: World, browser: Browser, keeper: dict[str, str]
) -> None:
    """What is offered waits on the colleague's page and is theirs at a click; a note stays while it is too early to
    sign, and both signatures end the hand-over.
    """
    people = {one["name"]: one["id"] for one in (await own(made, keeper, "/contacts"))["items"]}
    pair = [people["NameDutyCA"], people["NameSeniorCA"]]
    rota = await duty_rota(made, keeper, participants=pair)
    shifts = await own(made, keeper, "/shifts?from=2021-08-16T00:00:00Z&to=2021-08-20T00:00:00Z")
    mine = next(one for one in shifts["rotas"][0]["shifts"] if one["name"] == "NameDutyCA" and "T07" in one["start_at"])

    await browser.sign_in("ca-duty")
    page = await browser.get(stretch(rota["id"], datetime.fromisoformat(mine["start_at"])))
    address = f"/roster/rotas/{rota['id']}/swaps"
    shown = await browser.post(address, {**fields_of(page, "swap"), "offered_to": pair[1], "act": "preview"})
    assert "The offer holds until" in shown.text
    assert (await own(made, keeper, "/swaps"))["items"] == []
    offered = await browser.post(address, {**fields_of(shown, "swap"), "act": "save"})
    assert offered.headers["location"].endswith("said=swap"), offered.text
    twice = await browser.post(address, {**fields_of(shown, "swap"), "act": "preview"})
    assert (twice.status_code, "Not saved." in twice.text) == (409, True)
    assert "Withdraw" in (await browser.get("/roster")).text

    await browser.sign_in("ca-senior")
    waiting = await browser.get("/roster")
    assert "NameDutyCA offers" in waiting.text
    swap = re.search(r"/roster/swaps/([0-9a-f-]+)/accept", waiting.text)
    assert swap is not None
    taken = await browser.post(f"/roster/swaps/{swap.group(1)}/accept")
    assert (taken.status_code, taken.headers["location"]) == (303, "/roster?said=accept")
    assert (await own(made, keeper, f"/swaps/{swap.group(1)}"))["state"] == "accepted"
    assert "Swaps that wait" not in (await browser.get("/roster")).text
    late = await browser.post(f"/roster/swaps/{swap.group(1)}/decline")
    assert (late.status_code, "This was refused" in late.text) == (409, True)

    await made.settle()
    listed = (await made.http.get("/v1/hand-overs", headers=keeper)).json()["hand_overs"]
    early = max(listed, key=lambda one: one["start_at"])
    note = f"A list by six. {HOSTILE}"
    refused = await browser.post(f"/roster/hand-overs/{early['id']}", {"note": note})
    assert (refused.status_code, "Not signed." in refused.text) == (409, True)
    assert "<script>alert" not in refused.text
    made.clock.advance((datetime.fromisoformat(early["start_at"]) - made.clock.now()).total_seconds() - 3600)
    await made.settle()
    keeper = await browser.network.sign_in(made, "ca-keeper")
    for client_id in ("ca-senior", "ca-duty"):
        await browser.sign_in(client_id)
        form = await browser.get("/roster")
        signed = await browser.post(f"/roster/hand-overs/{early['id']}", {"note": note})
        assert signed.status_code == 303, (form.text, signed.text)
    page = await browser.get("/roster?said=signed")
    assert html.escape("<script>alert(1)</script>") in page.text
    listed = (await made.http.get("/v1/hand-overs", headers=keeper)).json()["hand_overs"]
    assert next(one for one in listed if one["id"] == early["id"])["state"] == "signed"


@pytest.fixture
async def with_sms(cluster: Cluster, tmp_path: Path) -> AsyncIterator[tuple[World, Browser]]:
    """A world that sends short messages, and a browser."""
    outlets = {"webhook": Outlet(), "sms": Outlet(name="sms", provider="sms provider", usual=sent_by("sms"))}
    async with (
        marked_world(cluster, tmp_path, ("CA", "XR"), outlets=outlets) as (made, network),
        httpx.AsyncClient(transport=made.http._transport, base_url=PUBLIC_URL) as http,
    ):
        yield made, Browser(network, http)


async def test_ones_own_points_are_kept_verified_and_confirmed(with_sms: tuple[World, Browser]) -> None:
    """What is typed survives moving, mistakes and a roster that was changed meanwhile; a code makes a number verified;
    all are confirmed at once.
    """
    made, browser = with_sms
    await browser.sign_in("ca-duty")
    page = await browser.get("/roster/me")
    fields = fields_of(page, "own-points")
    added = await browser.post("/roster/me", {**fields, "act": "add"})
    assert "Not saved yet." in added.text
    typed = {**fields_of(added, "own-points"), "channel-3": "sms", "address-3": HOSTILE, "label-3": "Night"}
    moved = await browser.post("/roster/me", {**typed, "act": "up:3"})
    fields = fields_of(moved, "own-points")
    assert (fields["address-2"], fields["label-2"]) == (HOSTILE, "Night")
    refused = await browser.post("/roster/me", {**fields, "act": "save"})
    assert (refused.status_code, 'id="fault-2"' in refused.text) == (422, True)
    assert "<script>alert" not in refused.text

    good = {**fields_of(refused, "own-points"), "address-2": "+447700900123", "act": "save"}
    headers = await browser.network.sign_in(made, "ca-duty")
    points = (await made.http.get("/v1/me/contact-points", headers=headers)).json()["items"]
    confirmed = await made.http.post(f"/v1/me/contact-points/{points[0]['id']}/confirmation", headers=headers)
    assert confirmed.status_code == 200, confirmed.text
    conflict = await browser.post("/roster/me", good)
    assert (conflict.status_code, "look again" in conflict.text) == (412, True)
    saved = await browser.post("/roster/me", {**fields_of(conflict, "own-points"), "act": "save"})
    assert (saved.status_code, saved.headers["location"]) == (303, "/roster/me?said=saved")
    points = (await made.http.get("/v1/me/contact-points", headers=headers)).json()["items"]
    assert [one["label"] for one in points] == [None, None, "Night", None]
    new = points[2]["id"]

    page = await browser.get("/roster/me")
    soon = await browser.post(f"/roster/points/{new}/verification", {"place": "me"})
    assert soon.headers["location"] == f"/roster/me?said=unknown&point={new}#point-{new}"
    await made.settle()
    sent = await browser.post(f"/roster/points/{new}/verification", {"place": "//elsewhere.example"})
    assert sent.headers["location"] == f"/roster/me?said=sent&point={new}#point-{new}"
    await made.settle()
    asked = await browser.get(f"/roster/me?said=sent&point={new}")
    assert "A code is on its way." in asked.text
    wrong = await browser.post(f"/roster/points/{new}/code", {"code": "1 2 3"})
    assert "said=code_wrong" in wrong.headers["location"]
    pages = [page for page in made.outlets["sms"].sent if page.target == "+447700900123"]
    (code,) = set(re.findall(r"\b[0-9]{6}\b", pages[-1].message.short))
    right = await browser.post(f"/roster/points/{new}/code", {"code": f"{code[:3]} {code[3:]}"})
    assert "said=verified" in right.headers["location"]
    await made.settle()
    done = await browser.post("/roster/me/confirm")
    assert "4 contact points are still right." in (await browser.get(done.headers["location"])).text
    points = (await made.http.get("/v1/me/contact-points", headers=headers)).json()["items"]
    assert all(one["confirmed_at"] for one in points)
    assert points[2]["verified_at"] is not None
    push = await browser.post("/roster/me/push", {"subscription": "no subscription", "label": "Phone"})
    assert (push.status_code, "Not saved." in push.text) == (422, True)
