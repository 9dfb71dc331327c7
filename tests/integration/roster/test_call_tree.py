from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from pypdf import PdfReader
from sqlalchemy import text

from services.roster import schedule
from services.roster import store as roster_store
from services.roster.call_tree import renewal
from services.roster.call_tree.renewal import AGAIN_AFTER, DAILY, FAILED_AGAIN_AFTER, LATE_AFTER, SETTLED
from services.roster.call_tree.store import NETWORK_EDITION
from services.roster.worker import Worker
from shared.contracts import Role
from shared.errors import Unavailable
from shared.keys import CannotOpen
from shared.security import Principal, PrincipalKind
from tests.support.cluster import Cluster
from tests.support.roster_rig import Rig, applied, roster_rig

FORMS = ("/v1/call-tree", "/v1/call-tree.pdf", "/v1/call-tree.json")
PARTNERS = ("CA", "NZ", "XR")
EDITIONS = len(PARTNERS) + 1
"""One for each partner, and one without anybody's people."""


@pytest_asyncio.fixture
async def rig(cluster: Cluster) -> AsyncIterator[Rig]:
    """Three partners of the shipped network, half a minute after it was applied."""
    async with roster_rig(cluster, after=applied) as made:
        async with made.database.transaction() as tx:
            await tx.execute(text("UPDATE partners SET active = code = ANY(:codes)"), {"codes": list(PARTNERS)})
        made.clock.advance(SETTLED.total_seconds())
        yield made


async def renew(rig: Rig) -> int:
    """Lets the loop work until nothing is due; how much it made."""
    made = 0
    while found := await rig.service.loops["call-trees"].run_once():
        made += found
    return made


async def person(rig: Rig, partner: str, role: Role) -> dict[str, str]:
    """The headers of a partner's credential that has the role and as few others as possible."""
    published = await rig.credentials(partner)
    found = min((one for one in published.credentials if role in one.roles), key=lambda one: len(one.roles))
    kind = PrincipalKind(found.kind.value)
    who = (found.subject, found.client_id, partner, frozenset(found.roles), kind, found.name, found.contact_id)
    return rig.headers(Principal(*who, found.version))


async def newcomer(rig: Rig, partner: str, role: Role) -> dict[str, str]:
    """The headers of a new person with this role alone."""
    client_id = f"{partner.lower()}-{role.value.replace('_', '-')}-alone"
    body = {"client_id": client_id, "kind": "person", "name": "Somebody", "roles": [role.value]}
    made = await rig.client.post(f"/v1/partners/{partner}/credentials", json=body, headers=rig.administrator())
    assert made.status_code == 201, made.text
    return await rig.sign_in(client_id, made.json()["secret"])


async def get(rig: Rig, path: str, headers: dict[str, str]) -> httpx.Response:
    """One answer."""
    return await rig.client.get(path, headers=headers)


async def edit(rig: Rig, partner: str, path: str, body: Any) -> None:
    """An edit by the partner's roster manager."""
    headers = await person(rig, partner, Role.ROSTER_MANAGER)
    etag = (await get(rig, f"/v1/partners/{partner}", headers)).headers["ETag"]
    answer = await rig.client.put(f"/v1/partners/{partner}/{path}", json=body, headers={**headers, "If-Match": etag})
    assert answer.status_code == 200, answer.text


async def switch_board(rig: Rig, partner: str, number: str) -> None:
    """Gives the partner's office another switchboard, which every government's call tree has."""
    office = (await rig.stored(partner)).offices[0]
    await edit(rig, partner, f"offices/{office.id}", {"name": office.name, "switchboard": number, "points": []})


def pdf_text(answer: httpx.Response) -> str:
    """The text of a PDF."""
    return "\n".join(one.extract_text() for one in PdfReader(io.BytesIO(answer.content)).pages)


async def test_all_three_forms_say_the_same(rig: Rig) -> None:
    """Page, PDF and JSON hold the caller's own people and every government's switchboard."""
    assert await renew(rig) == len(PARTNERS) + EDITIONS
    headers = await person(rig, "CA", Role.DUTY_OFFICER)
    html, pdf, json = [await get(rig, path, headers) for path in FORMS]
    assert [one.status_code for one in (html, pdf, json)] == [200, 200, 200]
    assert html.headers["Content-Type"] == "text/html; charset=utf-8"
    assert html.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert pdf.headers["Content-Type"] == "application/pdf"
    assert {one.headers["Cache-Control"] for one in (html, pdf, json)} == {"no-store"}
    said = json.json()
    assert (said["edition"], said["tlp"], said["age_seconds"]) == ("CA", "TLP:AMBER", 0)
    wanted = [one["offices"][0]["switchboard"] for one in said["partners"]]
    own = await rig.stored("CA")
    on_rotas = {contact_id for rota in own.rotas for contact_id in schedule.contacts_of(rota)}
    people = [contact for contact in own.contacts if contact.id in on_rotas]
    assert len(people) == 5
    wanted += [contact.name for contact in people]
    wanted += [point.address for contact in people for point in contact.points[:2]]
    assert [one["code"] for one in said["partners"]] == ["CA", "NZ", "XR"]
    for form in (html.text, pdf_text(pdf), json.text):
        assert [one for one in wanted if one not in form] == []


async def test_nobody_gets_anothers_people(rig: Rig) -> None:
    """No edition holds the name of another government's person, nor any of their numbers."""
    await renew(rig)
    states = {code: await rig.stored(code) for code in ("CA", "NZ", "XR")}
    for code in states:
        headers = await person(rig, code, Role.DUTY_OFFICER)
        text_of_all = "".join([(await get(rig, path, headers)).text for path in (FORMS[0], FORMS[2])])
        text_of_all += pdf_text(await get(rig, FORMS[1], headers))
        for other in set(states) - {code}:
            names = {contact.name for contact in states[other].contacts}
            private = {point.address for one in states[other].contacts for point in one.points}
            private |= {point.address for one in states[other].offices for point in one.points}
            assert [one for one in names | private if one in text_of_all] == []


async def test_the_secretariat_gets_offices_and_roles_alone(rig: Rig) -> None:
    """Who has the role secretariat and no other gets the edition without any people; observers and services none."""
    await renew(rig)
    secretariat = (await get(rig, FORMS[2], await newcomer(rig, "XR", Role.SECRETARIAT))).json()
    assert (secretariat["edition"], secretariat["own"], len(secretariat["partners"])) == (None, None, 3)
    for headers in (await newcomer(rig, "CA", Role.OBSERVER), rig.administrator()):
        for path in FORMS:
            refused = await get(rig, path, headers)
            assert (refused.status_code, refused.json()["code"]) == (403, "role_missing")


async def test_each_fetch_is_in_the_record_without_a_name(rig: Rig) -> None:
    """Who fetched which form of which edition; nothing of what it holds."""
    await renew(rig)
    headers = await person(rig, "CA", Role.DUTY_OFFICER)
    for path in FORMS:
        await get(rig, path, headers)
    rows = await rig.rows("SELECT partner, subject_partner, data FROM record WHERE kind = 'call_tree.fetched'")
    assert {row.data["form"] for row in rows} == {"html", "pdf", "json"}
    assert {(row.partner, row.subject_partner, row.data["own"]) for row in rows} == {("CA", "CA", True)}
    assert {frozenset(row.data) for row in rows} == {frozenset({"form", "made_at", "own"})}


async def test_until_it_is_made_it_is_being_made(rig: Rig) -> None:
    """Before the first pass the answer is 503 with a hint when to come again."""
    answer = await get(rig, FORMS[1], await person(rig, "CA", Role.DUTY_OFFICER))
    assert (answer.status_code, answer.json()["code"]) == (503, "call_tree_not_ready")
    assert "Retry-After" in answer.headers


async def test_it_is_encrypted_at_rest(rig: Rig) -> None:
    """No number of a person stands in clear in any row."""
    await renew(rig)
    kept = "".join(str(tuple(row)) for row in await rig.rows("SELECT * FROM call_trees"))
    kept += "".join(str(tuple(row)) for row in await rig.rows("SELECT * FROM call_tree_sheets"))
    people = (await rig.stored("CA")).contacts
    assert [one.name for one in people if one.name in kept] == []
    assert [point.address for one in people for point in one.points if point.address in kept] == []


async def test_it_is_there_while_nothing_can_make_it(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the process for documents gone, what was made is handed out and says its age, and the loop tries again."""
    await renew(rig)

    async def lost(*_: Any) -> Any:
        raise Unavailable("the work was interrupted; try again", code="worker_lost")

    monkeypatch.setattr(Worker, "run", lost)
    rig.clock.advance(DAILY.total_seconds() + 2 * 3600)
    assert await renewal.renew_call_trees(rig.deps) == 0
    headers = await person(rig, "CA", Role.DUTY_OFFICER)
    assert (await get(rig, FORMS[2], headers)).json()["age_seconds"] == DAILY.total_seconds() + 2 * 3600
    assert "could not be renewed" in (await get(rig, FORMS[0], headers)).text
    assert (await get(rig, FORMS[1], headers)).content.startswith(b"%PDF")


async def made_at(rig: Rig) -> dict[str, Any]:
    """When each edition was made."""
    return {row.edition: row.made_at for row in await rig.rows("SELECT edition, made_at FROM call_trees")}


async def test_a_change_is_in_every_edition_within_minutes(rig: Rig) -> None:
    """Another switchboard is in all editions, not before five minutes after the last; meanwhile the old ones stand."""
    await renew(rig)
    before = await made_at(rig)
    await switch_board(rig, "CA", "+16135550177")
    assert await renew(rig) == 0
    rig.clock.advance(SETTLED.total_seconds())
    assert await renew(rig) == 1
    assert await made_at(rig) == before
    rig.clock.advance((AGAIN_AFTER - SETTLED).total_seconds())
    assert await renew(rig) == EDITIONS
    told = (await get(rig, FORMS[2], await person(rig, "NZ", Role.DUTY_OFFICER))).json()
    (canada,) = [one for one in told["partners"] if one["code"] == "CA"]
    assert canada["offices"][0]["switchboard"] == "+16135550177"


async def test_a_change_of_ones_own_people_renews_ones_own_edition_alone(rig: Rig) -> None:
    """A contact's new number concerns no other government: only that edition is made anew."""
    await renew(rig)
    rig.clock.advance(AGAIN_AFTER.total_seconds())
    contact = (await rig.stored("CA")).contacts[0]
    points = [{"channel": "voice", "address": "+16135550166"}]
    await edit(rig, "CA", f"contacts/{contact.id}", {"name": contact.name, "title": contact.title, "points": points})
    rig.clock.advance(SETTLED.total_seconds())
    before = await made_at(rig)
    await renew(rig)
    after = await made_at(rig)
    assert {code for code in after if after[code] != before[code]} == {"CA"}
    assert "+16135550166" in (await get(rig, FORMS[2], await person(rig, "CA", Role.DUTY_OFFICER))).text


async def test_all_are_renewed_daily(rig: Rig) -> None:
    """Shifts move on although nobody edits: after a day everything is made anew, and before it nothing."""
    await renew(rig)
    rig.clock.advance(DAILY.total_seconds() - 1)
    assert await renew(rig) == 0
    rig.clock.advance(1)
    assert await renew(rig) == len(PARTNERS) + EDITIONS


async def test_one_that_cannot_be_made_stops_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is put off, the others are made, and after two days the operators are told; then it is made again."""
    made = renewal._made

    async def failing(deps: Any, edition: str, now: Any) -> Any:
        if edition == "CA":
            raise ValueError(edition)
        return await made(deps, edition, now)

    monkeypatch.setattr(renewal, "_made", failing)
    await renew(rig)
    assert set(await made_at(rig)) - {one for one, at in (await made_at(rig)).items() if at is not None} == {"CA"}
    assert (await get(rig, FORMS[2], await person(rig, "CA", Role.DUTY_OFFICER))).status_code == 503
    assert await renewal.call_tree_troubles(rig.deps) == []
    rig.clock.advance(LATE_AFTER.total_seconds())
    await renew(rig)
    assert await renewal.call_tree_troubles(rig.deps) == ["the call tree was not renewed: CA"]
    monkeypatch.setattr(renewal, "_made", made)
    rig.clock.advance(FAILED_AGAIN_AFTER.total_seconds())
    await renew(rig)
    assert await renewal.call_tree_troubles(rig.deps) == []
    assert (await get(rig, FORMS[2], await person(rig, "CA", Role.DUTY_OFFICER))).status_code == 200


async def test_a_partner_that_cannot_be_read_stops_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its sheet is put off, not tried in every pass, and the others' sheets and editions are made."""
    find = roster_store.find_partner
    asked: list[str] = []

    async def failing(tx: Any, keys: Any, code: str) -> Any:
        asked.append(code)
        if code == "CA":
            raise CannotOpen(code)
        return await find(tx, keys, code)

    with monkeypatch.context() as patched:
        patched.setattr(roster_store, "find_partner", failing)
        await renew(rig)
        assert set(await made_at(rig)) == {"NZ", "XR", NETWORK_EDITION}
        asked.clear()
        assert await renew(rig) == 0
        assert asked == []
    rig.clock.advance(FAILED_AGAIN_AFTER.total_seconds())
    await renew(rig)
    assert "CA" in await made_at(rig)


async def test_who_takes_no_part_any_more_is_in_none(rig: Rig) -> None:
    """An inactive partner's sheet and edition go, and the others are made without it."""
    await renew(rig)
    async with rig.database.transaction() as tx:
        await tx.execute(text("UPDATE partners SET active = false WHERE code = 'NZ'"))
    rig.clock.advance(AGAIN_AFTER.total_seconds())
    await renew(rig)
    assert "NZ" not in await made_at(rig)
    told = (await get(rig, FORMS[2], await person(rig, "CA", Role.DUTY_OFFICER))).json()
    assert "NZ" not in [one["code"] for one in told["partners"]]
