"""The page behind a link, over HTTP: what it shows, what changes when a form is sent, and what never does."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
import structlog

from services.escalation.answering import links
from services.escalation.answering.replies import REPLACEMENTS_MAX, WRONG_TRIES_MAX
from services.escalation.people.texts import LANGUAGES, page_texts
from shared.contracts import (
    AlertReleased,
    ChannelName,
    DutyPlanPublished,
    EndReason,
    Info,
    LevelTarget,
    PlannedContact,
    PlannedLevel,
    PlannedPoint,
    Status,
    Tlp,
)
from shared.errors import Unavailable
from shared.ids import derived
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Rig, escalation_rig

URL = "https://redphone.example"
PAGE_BYTES_MAX = 15_000
HEADLINE = "Kabul: evacuation before the airport closes"


@pytest_asyncio.fixture
async def rig(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Rig]:
    """Escalation that pages people by SMS and voice."""
    async with escalation_rig(cluster, tmp_path, people=("sms", "voice"), public_url=URL) as built:
        yield built


@pytest_asyncio.fixture
async def client(rig: Rig) -> AsyncIterator[httpx.AsyncClient]:
    """A browser of no particular kind: no cookie, no script, no token."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(rig.application), base_url=URL) as browsing:
        yield browsing


def somebody(rig: Rig, number: int = 1, **changes: Any) -> PlannedContact:
    """Person `number` of Great Britain, reached by SMS."""
    fields: dict[str, Any] = {
        "id": derived("contact", f"gb-{number}"),
        "name": f"Example Person {number} of GB",
        "title": f"Senior contact {number}",
        "points": (rig.point(f"+4477009001{number:02}", ChannelName.SMS),),
        "subjects": (f"gb-{number}",),
    }
    return PlannedContact(**{**fields, **changes})


def plan(rig: Rig, *people: PlannedContact, partner: str = "GB", **changes: Any) -> DutyPlanPublished:
    """A plan with one person for each level, whatever the hour."""
    fields = {
        "endpoints": (),
        "levels": tuple(PlannedLevel(targets=(LevelTarget(kind="contact", id=one.id),)) for one in people),
        "contacts": people,
        "rotas": (),
    }
    return rig.plan(partner).model_copy(update={**fields, **changes})


def office_plan(rig: Rig) -> DutyPlanPublished:
    """A plan whose only level is the duty office, which has a mobile telephone."""
    point: PlannedPoint = rig.point("+447700900999", ChannelName.SMS)
    given = rig.plan("GB")
    assert given.office is not None
    office = given.office.model_copy(update={"points": (point,)})
    level = PlannedLevel(targets=(LevelTarget(kind="office", id=office.id),))
    return given.model_copy(update={"endpoints": (), "levels": (level,), "office": office})


async def paged(rig: Rig, *people: PlannedContact, **changes: Any) -> tuple[AlertReleased, UUID]:
    """An alert of Canada to Great Britain, paged; and the id of the first page."""
    await rig.handle(plan(rig, *(people or (somebody(rig),))))
    alert = rig.released("GB", **changes)
    await rig.handle(alert)
    await rig.settle()
    return alert, await newest_page(rig)


async def newest_page(rig: Rig) -> UUID:
    """The page that was written last."""
    rows = await rig.rows("SELECT id FROM pages ORDER BY created_at DESC, id DESC LIMIT 1")
    return rows[0]["id"]  # type: ignore[no-any-return]


def path_of(rig: Rig, page_id: UUID) -> str:
    """Where the link of a page leads."""
    return f"/a/{links.token_of(rig.keys, page_id)}"


def wrong_code(rig: Rig, page_id: UUID) -> str:
    """Four digits that are not the page's."""
    return str((int(links.code_of(rig.keys, page_id)) + 1) % 10_000).zfill(4)


async def send(client: httpx.AsyncClient, rig: Rig, page_id: UUID, act: str = "acknowledge", **fields: str) -> Any:
    """Sends the page's form, with its code unless another is given."""
    data = {"code": links.code_of(rig.keys, page_id), "act": act, **fields}
    return await client.post(path_of(rig, page_id), data=data)


async def everything(rig: Rig) -> list[Any]:
    """All rows that an answer could change."""
    found = []
    for table in ("escalations", "pages", "attempts", "outbox", "record", "answer_codes", "questions"):
        found += [tuple(row) for row in await rig.rows(f"SELECT * FROM {table} ORDER BY 1, 2")]  # noqa: S608
    return found


# --- looking ----------------------------------------------------------------------------------------------------------


async def test_the_page_shows_who_asks_what_by_when(rig: Rig, client: httpx.AsyncClient) -> None:
    """An old telephone shows sender, text and deadline in the reader's zone, without script, cookie or more."""
    _alert, page_id = await paged(rig, somebody(rig, time_zone="Asia/Kolkata"))
    answer = await client.get(path_of(rig, page_id))
    assert answer.status_code == 200
    assert "FLASH" in answer.text
    assert "Canada" in answer.text
    assert HEADLINE in answer.text
    assert "15:10 (09:40 UTC)" in answer.text
    assert len(answer.content) < PAGE_BYTES_MAX
    assert "<script" not in answer.text
    assert "set-cookie" not in answer.headers
    assert not re.findall(r"(?:src|href|action)=\"(?!\?lang=|https://redphone\.example\")[^\"]+", answer.text)
    assert links.code_of(rig.keys, page_id) not in answer.text


async def test_headers_keep_the_page_to_itself(rig: Rig, client: httpx.AsyncClient) -> None:
    """Nothing is loaded, framed, kept, indexed or told to the next site; the one style is named by its hash."""
    _alert, page_id = await paged(rig)
    for path in (path_of(rig, page_id), "/a/unknown"):
        headers = (await client.get(path)).headers
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == "no-store"
        assert "noindex" in headers["x-robots-tag"]
        policy = headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "form-action 'self'" in policy
        assert "script-src" not in policy


async def test_the_style_is_the_one_that_the_policy_names(rig: Rig, client: httpx.AsyncClient) -> None:
    """A browser that checks the hash of the style takes it."""
    _alert, page_id = await paged(rig)
    answer = await client.get(path_of(rig, page_id))
    style = re.search(r"<style>(.*?)</style>", answer.text, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    assert f"'sha256-{digest}'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PATCH", "PROPFIND"])
async def test_looking_changes_nothing(rig: Rig, client: httpx.AsyncClient, method: str) -> None:
    """Whatever fetches the link, however often and with the code in the address or not, leaves everything as it was."""
    _alert, page_id = await paged(rig)
    before = await everything(rig)
    code = links.code_of(rig.keys, page_id)
    for query in ("", f"?code={code}&act=acknowledge", "?lang=fr"):
        answer = await client.request(method, path_of(rig, page_id) + query, headers={"Purpose": "prefetch"})
        assert answer.status_code in (200, 405)
    assert await everything(rig) == before


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b"", "application/x-www-form-urlencoded"),
        (b"act=acknowledge", "application/x-www-form-urlencoded"),
        (b"act=acknowledge&code=", "application/x-www-form-urlencoded"),
        (b"act=acknowledge&code=12", "application/x-www-form-urlencoded"),
        (b'{"act":"acknowledge"}', "application/json"),
        (b"\xff\xfe=\xff", "application/x-www-form-urlencoded"),
        (b"&".join(b"a%d=1" % number for number in range(100)), "application/x-www-form-urlencoded"),
        (b"note=" + b"a" * 50_000, "application/x-www-form-urlencoded"),
    ],
)
async def test_a_scanner_that_posts_changes_nothing(
    rig: Rig, client: httpx.AsyncClient, content: bytes, content_type: str
) -> None:
    """A POST without four digits is no try, whatever it holds: it gets the page again, which asks for the code."""
    _alert, page_id = await paged(rig)
    before = await everything(rig)
    answer = await client.post(path_of(rig, page_id), content=content, headers={"Content-Type": content_type})
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text
    after = await everything(rig)
    assert [row for row in after if row not in before] == [(page_id, 0, None)]


async def test_a_link_that_is_not_ours_and_one_that_was_altered_look_alike(rig: Rig, client: httpx.AsyncClient) -> None:
    """Altered, made up, of another installation, or of a page that is not there: the same 404, for GET and POST."""
    _alert, page_id = await paged(rig)
    token = links.token_of(rig.keys, page_id)
    altered = ("B" if token[0] != "B" else "C") + token[1:]
    missing = links.token_of(rig.keys, rig.ids.new())
    answers = [await client.get(f"/a/{one}") for one in (altered, missing, "x", "%00", "é" * 20, token + "A")]
    answers += [
        await client.post(f"/a/{one}", data={"code": "1234", "act": "acknowledge"}) for one in (altered, missing)
    ]
    assert {answer.status_code for answer in answers} == {404}
    assert len({answer.text for answer in answers}) == 1


@pytest.mark.parametrize("language", LANGUAGES)
async def test_the_reader_chooses_the_language(rig: Rig, client: httpx.AsyncClient, language: str) -> None:
    """The contact's language is shown first; every other is one tap away, with its own direction, and fits 15 kB."""
    _alert, page_id = await paged(rig, somebody(rig, languages=("fr", "en")))
    first = await client.get(path_of(rig, page_id))
    assert '<html lang="fr" dir="ltr">' in first.text
    chosen = await client.get(path_of(rig, page_id) + f"?lang={language}")
    direction = "rtl" if language == "ar" else "ltr"
    assert f'<html lang="{language}" dir="{direction}">' in chosen.text
    after = await client.post(
        path_of(rig, page_id) + f"?lang={language}",
        data={"code": links.code_of(rig.keys, page_id), "act": "acknowledge"},
    )
    assert f'<html lang="{language}" dir="{direction}">' in after.text
    assert "{" not in re.sub(r"<style>.*?</style>", "", after.text, flags=re.DOTALL)
    assert len(after.content) < PAGE_BYTES_MAX


async def test_every_field_has_a_label(rig: Rig, client: httpx.AsyncClient) -> None:
    """Whoever listens to the page hears what each field is for, and is told of an error at once."""
    _alert, page_id = await paged(rig)
    for answer in (await client.get(path_of(rig, page_id)), await send(client, rig, page_id)):
        labelled = set(re.findall(r'<label for="([^"]+)"', answer.text))
        shown = re.findall(r"<(?:input|textarea|select)([^>]*)>", answer.text)
        for attributes in shown:
            if 'type="hidden"' in attributes or 'type="radio"' in attributes:
                continue
            named = re.search(r'id="([^"]+)"', attributes)
            assert "aria-label=" in attributes or (named is not None and named[1] in labelled), attributes
        assert 'aria-live="assertive"' in answer.text


async def test_what_the_alert_says_is_text_and_never_markup(rig: Rig, client: httpx.AsyncClient) -> None:
    """A headline with markup in it is shown as it is written."""
    hostile = "<img src=x onerror=alert(1)> & co"
    _alert, page_id = await paged(rig, info=(Info(event="Evacuation", headline=hostile),))
    text = (await client.get(path_of(rig, page_id))).text
    assert "<img" not in text
    assert "&lt;img src=x onerror=alert(1)&gt; &amp; co" in text
    echoed = await client.post(path_of(rig, page_id), data={"code": '"><script>', "name": '"><script>', "act": "x"})
    assert "<script" not in echoed.text


async def test_a_drill_says_so_first(rig: Rig, client: httpx.AsyncClient) -> None:
    """EXERCISE leads the page of a drill."""
    _alert, page_id = await paged(rig, status=Status.EXERCISE)
    text = (await client.get(path_of(rig, page_id))).text
    assert text.index("EXERCISE") < text.index("<h1>")
    assert 'class="banner"' in text


@pytest.mark.parametrize("tlp", [Tlp.RED, Tlp.AMBER_STRICT])
async def test_a_strict_label_leaves_precedence_and_sender(rig: Rig, client: httpx.AsyncClient, tlp: Tlp) -> None:
    """At RED and AMBER+STRICT the page names precedence and sender and where to log in, after the code as before."""
    alert, page_id = await paged(rig, tlp=tlp)
    for answer in (await client.get(path_of(rig, page_id)), await send(client, rig, page_id)):
        assert "FLASH" in answer.text
        assert HEADLINE not in answer.text
        assert alert.reference not in answer.text
        assert URL in answer.text
    assert (await rig.escalation("GB"))["state"] == "acknowledged"


# --- acknowledging ----------------------------------------------------------------------------------------------------


async def test_the_code_acknowledges(rig: Rig, client: httpx.AsyncClient) -> None:
    """The four digits acknowledge as the contact that was paged; the record says who, how and from which page."""
    _alert, page_id = await paged(rig)
    answer = await send(client, rig, page_id)
    assert answer.status_code == 200
    assert 'role="status"' in answer.text
    row = await rig.escalation("GB")
    assert row["state"] == "acknowledged"
    assert row["acknowledged_via"] == "link"
    assert row["acknowledged_by"]["name"] == "Example Person 1 of GB"
    [event] = await rig.events("partner_acknowledged")
    assert event["page_id"] == str(page_id)
    [entry] = await rig.rows("SELECT * FROM record WHERE kind = 'escalation.partner_acknowledged'")
    assert entry["subject"] == "gb-1"
    assert entry["subject_partner"] == "GB"
    assert entry["data"]["via"] == "link"
    assert entry["data"]["page_id"] == str(page_id)
    assert "name" not in str(entry["data"])


async def test_arabic_digits_and_spaces_are_the_same_code(rig: Rig, client: httpx.AsyncClient) -> None:
    """A code typed in Arabic-Indic digits, with a space, is the code."""
    _alert, page_id = await paged(rig)
    code = links.code_of(rig.keys, page_id)
    arabic = "".join(chr(0x660 + int(digit)) for digit in code)
    await send(client, rig, page_id, code=f" {arabic[:2]} {arabic[2:]} ")
    assert (await rig.escalation("GB"))["state"] == "acknowledged"


async def test_acknowledging_twice_is_one(rig: Rig, client: httpx.AsyncClient) -> None:
    """A form that is sent again, by an impatient hand or a bad line, changes nothing and says that all is well."""
    _alert, page_id = await paged(rig)
    await send(client, rig, page_id)
    rig.clock.advance(30)
    answer = await send(client, rig, page_id)
    assert answer.status_code == 200
    assert len(await rig.events("partner_acknowledged")) == 1


async def test_a_wrong_code_changes_nothing_but_is_counted(rig: Rig, client: httpx.AsyncClient) -> None:
    """A wrong code is answered with how many tries are left, and the right one still counts after four."""
    _alert, page_id = await paged(rig)
    for left in range(WRONG_TRIES_MAX - 1, 0, -1):
        answer = await send(client, rig, page_id, code=wrong_code(rig, page_id))
        assert answer.status_code == 403
        assert f": {left}." in answer.text
    assert (await rig.escalation("GB"))["state"] == "notified"
    assert (await send(client, rig, page_id)).status_code == 200
    assert (await rig.escalation("GB"))["state"] == "acknowledged"


async def test_five_wrong_codes_lock_the_page_and_send_another(rig: Rig, client: httpx.AsyncClient) -> None:
    """After five the right code is refused, too; partner and secretariat are told, and a new message is on its way."""
    _alert, page_id = await paged(rig)
    rig.outlets["sms"].sent.clear()
    for _ in range(WRONG_TRIES_MAX):
        assert (await send(client, rig, page_id, code=wrong_code(rig, page_id))).status_code == 403
    assert (await send(client, rig, page_id)).status_code == 403
    assert (await rig.escalation("GB"))["state"] == "notified"
    [event] = await rig.events("answer_code_locked")
    assert event["page_id"] == str(page_id)
    assert event["replaced"] is True
    await rig.settle()
    [sent] = rig.outlets["sms"].sent
    assert sent.message_type == "code.replaced"
    assert sent.page_id != page_id
    again = UUID(str(sent.page_id))
    assert links.token_of(rig.keys, again) != links.token_of(rig.keys, page_id)
    await send(client, rig, again)
    assert (await rig.escalation("GB"))["state"] == "acknowledged"


async def test_tries_at_the_same_moment_are_counted_one_by_one(rig: Rig, client: httpx.AsyncClient) -> None:
    """Twenty wrong codes at once are five tries: nobody gets more by hurrying, and one lock is told once."""
    _alert, page_id = await paged(rig)
    answers = await asyncio.gather(*(send(client, rig, page_id, code=wrong_code(rig, page_id)) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {403}
    [row] = await rig.rows("SELECT * FROM answer_codes")
    assert row["wrong_tries"] == WRONG_TRIES_MAX
    assert len(await rig.events("answer_code_locked")) == 1
    assert len(await rig.rows("SELECT 1 FROM record WHERE kind = 'answer_code.refused'")) == WRONG_TRIES_MAX


async def test_guessing_on_and_on_does_not_ring_on_and_on(rig: Rig, client: httpx.AsyncClient) -> None:
    """After some locked messages no further one follows, and the event says so."""
    _alert, page_id = await paged(rig)
    for _ in range(REPLACEMENTS_MAX + 1):
        rig.clock.advance(1)
        for _ in range(WRONG_TRIES_MAX):
            await send(client, rig, page_id, code=wrong_code(rig, page_id))
        await rig.settle()
        page_id = await newest_page(rig)
    events = await rig.events("answer_code_locked")
    assert [event["replaced"] for event in events] == [True] * REPLACEMENTS_MAX + [False]


async def test_a_late_answer_counts_and_says_late(rig: Rig, client: httpx.AsyncClient) -> None:
    """Whoever acknowledges after the deadline, when the partner is unreached already, is late and welcome."""
    for partner in ("CA", "XR"):
        await rig.handle(rig.plan(partner))
    _alert, page_id = await paged(rig)
    await rig.forward(minutes=45)
    assert (await rig.escalation("GB"))["state"] == "unreached"
    assert (await send(client, rig, page_id)).status_code == 200
    row = await rig.escalation("GB")
    assert row["state"] == "acknowledged"
    assert row["late"] is True


async def test_a_link_is_good_for_seven_days(rig: Rig, client: httpx.AsyncClient) -> None:
    """After seven days the code acknowledges nothing, and the page says that the link has expired."""
    _alert, page_id = await paged(rig, expires_at=rig.clock.now().replace(month=9))
    rig.clock.advance(7 * 24 * 3600 + 1)
    answer = await send(client, rig, page_id)
    assert answer.status_code == 410
    assert (await rig.escalation("GB"))["acknowledged_at"] is None
    assert '<input type="text" id="code"' not in (await client.get(path_of(rig, page_id))).text


async def test_an_expired_link_tells_nothing_of_the_alert(rig: Rig, client: httpx.AsyncClient) -> None:
    """Whoever finds an old link in a mailbox or a history reads that it has expired, and not what the alert said."""
    alert, page_id = await paged(rig, expires_at=rig.clock.now().replace(month=9))
    assert alert.reference in (await client.get(path_of(rig, page_id))).text
    rig.clock.advance(7 * 24 * 3600 + 1)
    for answer in (await client.get(path_of(rig, page_id)), await send(client, rig, page_id, "show")):
        assert alert.reference not in answer.text
        assert "Kabul" not in answer.text
        assert page_texts(("en",))["error_expired"] in answer.text


async def test_an_alert_that_has_ended_asks_nothing(rig: Rig, client: httpx.AsyncClient) -> None:
    """After the end the page says so, and the code changes nothing."""
    alert, page_id = await paged(rig)
    await rig.handle(rig.ended(alert, EndReason.CANCELLED))
    before = await rig.escalation("GB")
    answer = await send(client, rig, page_id)
    assert answer.status_code == 410
    after = await rig.escalation("GB")
    assert (after["state"], after["acknowledged_at"]) == ("ended", None)
    assert after["changed_at"] == before["changed_at"]


async def test_the_link_of_a_corrected_message_acknowledges_the_update(rig: Rig, client: httpx.AsyncClient) -> None:
    """The page of an older message shows the Update's words, and its code acknowledges the Update."""
    alert, page_id = await paged(rig)
    update = rig.update_of(alert, info=(Info(event="Evacuation", headline="The airport closes tonight"),))
    await rig.handle(update)
    text = (await client.get(path_of(rig, page_id))).text
    assert "The airport closes tonight" in text
    assert HEADLINE not in text
    assert (await send(client, rig, page_id)).status_code == 200
    rows = await rig.rows("SELECT acknowledged_at FROM escalations WHERE alert_id = $1", update.alert_id)
    assert rows[0]["acknowledged_at"] is not None


async def test_an_update_that_asks_anew_wants_its_own_message_answered(rig: Rig, client: httpx.AsyncClient) -> None:
    """Where the Update asks anew, the older message's code acknowledges nothing and says why."""
    alert, page_id = await paged(rig)
    update = rig.update_of(alert, asks_anew=True)
    await rig.handle(update)
    assert (await send(client, rig, page_id)).status_code == 410
    rows = await rig.rows("SELECT acknowledged_at FROM escalations WHERE alert_id = $1", update.alert_id)
    assert rows[0]["acknowledged_at"] is None


async def test_the_code_of_a_gathered_message_answers_all_of_it(rig: Rig, client: httpx.AsyncClient) -> None:
    """Two alerts that left in one message are shown together, and its code acknowledges both."""
    await rig.handle(plan(rig, somebody(rig)))
    await rig.handle(rig.released("GB", reference="RP-CA-2021-0001"))
    await rig.handle(rig.released("GB", reference="RP-CA-2021-0002"))
    await rig.settle()
    rows = await rig.rows("SELECT id, sent_with FROM pages ORDER BY id")
    leader = next(row["sent_with"] for row in rows if row["sent_with"] is not None)
    text = (await client.get(path_of(rig, leader))).text
    assert "RP-CA-2021-0001" in text
    assert "RP-CA-2021-0002" in text
    await send(client, rig, leader)
    states = await rig.rows("SELECT DISTINCT state FROM escalations")
    assert [row["state"] for row in states] == ["acknowledged"]
    taken = await send(client, rig, leader, "position", stance="declined")
    assert taken.status_code == 422
    escalation = (await rig.rows("SELECT id FROM escalations ORDER BY id LIMIT 1"))[0]["id"]
    taken = await send(client, rig, leader, "position", stance="declined", escalation=str(escalation))
    assert taken.status_code == 200
    states = await rig.rows("SELECT state FROM escalations ORDER BY id")
    assert [row["state"] for row in states] == ["declined", "acknowledged"]


async def test_an_office_gives_a_name(rig: Rig, client: httpx.AsyncClient) -> None:
    """A page to an office is acknowledged by a named person; without the name nothing changes."""
    await rig.handle(office_plan(rig))
    await rig.handle(rig.released("GB"))
    await rig.settle()
    page_id = await newest_page(rig)
    assert 'id="name"' in (await client.get(path_of(rig, page_id))).text
    for name in ("", " ", "1", "\u200b\u200b", "x" * 200):
        assert (await send(client, rig, page_id, name=name)).status_code == 422
    assert (await rig.escalation("GB"))["state"] == "notified"
    await send(client, rig, page_id, name="  Jo   Example ")
    row = await rig.escalation("GB")
    assert row["acknowledged_by"]["name"] == "Jo Example"
    assert "Jo" not in row["acknowledged_by"]["subject"]
    [entry] = await rig.rows("SELECT * FROM record WHERE kind = 'escalation.partner_acknowledged'")
    assert "Jo" not in str(dict(entry))


async def test_the_link_of_a_takeover_takes_over(rig: Rig, client: httpx.AsyncClient) -> None:
    """Whoever is asked to reach an unreached partner finds its numbers on the page, and takes it over by the code."""
    await rig.handle(plan(rig, somebody(rig, 7), partner="CA"))
    await rig.handle(rig.plan("XR"))
    await rig.handle(rig.plan("GB", levels=1))
    await rig.handle(rig.released("GB"))
    await rig.forward(minutes=45)
    rows = await rig.rows(
        "SELECT id FROM pages WHERE partner = 'CA' AND message_type = 'partner.unreached' ORDER BY id"
    )
    page_id = rows[0]["id"]
    assert "+999000100" in (await client.get(path_of(rig, page_id))).text
    answer = await send(client, rig, page_id)
    assert answer.status_code == 200
    assert 'role="status"' in answer.text
    row = await rig.escalation("CA", "takeover")
    assert row["taken_over_by"]["name"] == "Example Person 7 of GB"
    [event] = await rig.events("partner_taken_over")
    assert (event["via"], event["page_id"]) == ("link", str(page_id))


async def test_a_contact_who_left_the_duty_plan_cannot_answer(rig: Rig, client: httpx.AsyncClient) -> None:
    """Whoever is no longer in a readable plan speaks for the government no more."""
    _alert, page_id = await paged(rig)
    await rig.handle(plan(rig, somebody(rig, 2)).model_copy(update={"plan_version": 2}))
    assert (await send(client, rig, page_id)).status_code == 403
    assert (await rig.escalation("GB"))["acknowledged_at"] is None


# --- after it ---------------------------------------------------------------------------------------------------------


async def test_after_acknowledging_the_page_asks_for_the_position(rig: Rig, client: httpx.AsyncClient) -> None:
    """The next form carries the code that the person typed; the position is theirs, from this page."""
    _alert, page_id = await paged(rig)
    text = (await send(client, rig, page_id)).text
    assert f'name="code" value="{links.code_of(rig.keys, page_id)}"' in text
    taken = await send(client, rig, page_id, "position", stance="committed", note="200 places")
    assert taken.status_code == 200
    row = await rig.escalation("GB")
    assert row["state"] == "committed"
    assert row["position"]["note"] == "200 places"
    looked = (await client.get(path_of(rig, page_id))).text
    assert "Acknowledged at" in looked
    assert "For your information" not in looked
    [event] = await rig.events("position_taken")
    assert (event["via"], event["page_id"]) == ("link", str(page_id))


async def test_considering_takes_one_of_the_times_that_are_offered(rig: Rig, client: httpx.AsyncClient) -> None:
    """Until when the government considers is chosen from a list; a time that is no time is refused."""
    _alert, page_id = await paged(rig)
    text = (await send(client, rig, page_id)).text
    until = re.search(r'<option value="(2021-[^"]+)"', text)
    assert until is not None
    for wrong in ("", "tomorrow", "2020-01-01T00:00:00+00:00"):
        refused = await send(client, rig, page_id, "position", stance="considering", until=wrong)
        assert refused.status_code in (200, 409)
        assert (await rig.escalation("GB"))["state"] == "acknowledged"
    await send(client, rig, page_id, "position", stance="considering", until=until[1])
    assert (await rig.escalation("GB"))["state"] == "considering"


@pytest.mark.parametrize(
    "act", ["position", "ask", "stop", "wrong_person", "acknowledge_all", "read_back", "show", "?"]
)
async def test_every_form_needs_the_code(rig: Rig, client: httpx.AsyncClient, act: str) -> None:
    """Nothing that the page offers is done without the code, also after somebody has acknowledged."""
    _alert, page_id = await paged(rig)
    await send(client, rig, page_id)
    before = await everything(rig)
    fields = {"stance": "declined", "question": "Why?", "country": "a", "request": "b", "time": "c"}
    assert (await send(client, rig, page_id, act, code="", **fields)).status_code == 422
    assert (await send(client, rig, page_id, act, code=wrong_code(rig, page_id), **fields)).status_code == 403
    changed = [row for row in await everything(rig) if row not in before]
    assert len(changed) == 2, "the count, and its row in the record"


async def test_the_wrong_person_passes_it_on_at_once(rig: Rig, client: httpx.AsyncClient) -> None:
    """Whoever is the wrong person says so with the code alone, and the next person is paged."""
    _alert, page_id = await paged(rig, somebody(rig), somebody(rig, 2))
    rig.outlets["sms"].sent.clear()
    assert (await send(client, rig, page_id, "wrong_person")).status_code == 200
    await rig.settle()
    assert [sent.target for sent in rig.outlets["sms"].sent] == ["+447700900102"]
    assert (await rig.escalation("GB"))["state"] == "notified"


async def test_all_for_my_government_answers_every_open_alert(rig: Rig, client: httpx.AsyncClient) -> None:
    """One button acknowledges what the government still owes, with how many there are; nobody else's."""
    await rig.handle(plan(rig, somebody(rig)))
    await rig.handle(plan(rig, somebody(rig, 3), partner="US"))
    for number in range(1, 4):
        await rig.handle(rig.released("GB", "US", reference=f"RP-CA-2021-000{number}"))
        await rig.settle()
        rig.clock.advance(90)
    page_id = (await rig.rows("SELECT id FROM pages WHERE partner = 'GB' ORDER BY created_at LIMIT 1"))[0]["id"]
    shown = await send(client, rig, page_id, "show")
    assert "3" in re.findall(r'value="acknowledge_all"[^>]*>([^<]*)<', shown.text)[0]
    assert (await send(client, rig, page_id, "acknowledge_all")).status_code == 200
    states = await rig.rows("SELECT partner, state FROM escalations ORDER BY partner")
    assert {row["state"] for row in states if row["partner"] == "GB"} == {"acknowledged"}
    assert "acknowledged" not in {row["state"] for row in states if row["partner"] == "US"}


async def test_whoever_stops_their_pages_leaves_the_others_theirs(rig: Rig, client: httpx.AsyncClient) -> None:
    """Stopping ends what still asks this person; the escalation goes on to the next level."""
    _alert, page_id = await paged(rig, somebody(rig), somebody(rig, 2))
    assert (await send(client, rig, page_id, "stop")).status_code == 200
    rig.outlets["sms"].sent.clear()
    await rig.forward(minutes=11)
    assert "+447700900102" in [sent.target for sent in rig.outlets["sms"].sent]
    [entry] = await rig.rows("SELECT * FROM record WHERE kind = 'pages.stopped'")
    assert entry["subject"] == "gb-1"


# --- when all else is down, and in the log ----------------------------------------------------------------------------


async def test_acknowledging_works_while_the_bus_is_down(rig: Rig, client: httpx.AsyncClient) -> None:
    """The page needs escalation's own database and nothing else."""
    _alert, page_id = await paged(rig)
    await rig.bus.stop()
    assert (await client.get(path_of(rig, page_id))).status_code == 200
    assert (await send(client, rig, page_id)).status_code == 200
    assert (await rig.escalation("GB"))["state"] == "acknowledged"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_database_that_is_away_is_told_to_a_person(rig: Rig, client: httpx.AsyncClient, method: str) -> None:
    """While nothing can be recorded the person reads so in their language, and not a problem for machines."""
    _alert, page_id = await paged(rig)

    def away() -> Any:
        raise Unavailable("the database does not answer; try again", code="database_unavailable")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rig.deps.intake, "transaction", away)
        answer = await client.request(method, path_of(rig, page_id) + "?lang=de")
    assert answer.status_code == 503
    assert '<html lang="de"' in answer.text
    assert page_texts(("de",))["error_busy"] in answer.text
    assert answer.headers["cache-control"] == "no-store"


async def test_no_log_line_holds_a_token_or_a_code(rig: Rig, client: httpx.AsyncClient) -> None:
    """Requests to the page are logged by their route, whatever comes of them; a crash as well."""
    _alert, page_id = await paged(rig)
    token, code = links.token_of(rig.keys, page_id), links.code_of(rig.keys, page_id)
    with structlog.testing.capture_logs() as lines:
        await client.get(path_of(rig, page_id))
        await send(client, rig, page_id, code=wrong_code(rig, page_id))
        await send(client, rig, page_id)
        await client.get(f"/a/{token}/more")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rig.deps.intake, "transaction", lambda: (_ for _ in ()).throw(RuntimeError(token)))
            assert (await client.get(path_of(rig, page_id))).status_code == 500
    assert [line for line in lines if line["event"] == "request.crashed"]
    assert {line["route"] for line in lines if line["event"] == "request.handled"} >= {"/a/{token}"}
    said = [{**line, "exc_info": None} for line in lines]
    assert token not in str(said)
    assert f"'{code}'" not in str(said)
