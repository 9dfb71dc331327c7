"""Notices before shifts on a real database: issued when due, once, whatever is computed again."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text

from services.roster import shift_notifying
from services.roster import store as roster_store
from shared.contracts import NoticeIssued, Role
from tests.integration.roster.test_readiness import person
from tests.support.cluster import Cluster
from tests.support.roster_rig import Rig, applied, roster_rig

HOUR = timedelta(hours=1)
RELEASER = 6
"""Which of Canada's contacts is in no rota."""


@pytest_asyncio.fixture
async def rig(cluster: Cluster) -> AsyncIterator[Rig]:
    """The service with the shipped network, its plans published and what was late issued."""
    async with roster_rig(cluster, after=told) as made:
        yield made


async def told(rig: Rig) -> None:
    """The shipped network, its plans published and what was late issued."""
    await applied(rig)
    await settle(rig)


async def settle(rig: Rig) -> None:
    """Lets plans be published and notices be computed and issued until nothing is due."""
    await rig.publish_plans()
    while await shift_notifying.notify_of_shifts(rig.deps):
        pass


async def ahead(rig: Rig, partner: str = "CA") -> list[Any]:
    """The notices of shifts that were issued to a partner's people."""
    return [one for one in await rig.events(NoticeIssued, partner) if one.kind == "shift_ahead"]


async def put_on(rig: Rig, number: int, begins_in: timedelta, lasts: timedelta) -> Any:
    """Puts Canada's contact of this number on its first rota; the contact."""
    state = await rig.stored("CA")
    contact, rota = state.contacts[number], state.rotas[0]
    start_at = rig.clock.now() + begins_in
    body = {
        "contact_id": str(contact.id),
        "start_at": start_at.isoformat(),
        "end_at": (start_at + lasts).isoformat(),
    }
    headers = await person(rig, Role.ROSTER_MANAGER)
    answer = await rig.client.post(f"/v1/partners/CA/rotas/{rota.id}/overrides", json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return contact


async def test_shifts_of_the_coming_day_are_told_once(rig: Rig) -> None:
    """Each holder of a shift that begins within 24 hours has been told; the next day's are told in their turn."""
    found = await ahead(rig)
    state = await rig.stored("CA")
    assert len(found) >= 1
    for one in found:
        assert rig.clock.now() < datetime.fromisoformat(one.facts["start_at"]) <= rig.clock.now() + 24 * HOUR
        assert one.facts["rota"] in {rota.name for rota in state.rotas}
        assert (len(one.contact_ids), one.to_office) == (1, False)
    rig.clock.advance(24 * 3600)
    await settle(rig)
    later = await ahead(rig)
    assert len(later) > len(found)
    told = [(one.contact_ids, one.facts["start_at"], one.facts["rota"]) for one in later]
    assert len(told) == len(set(told))


async def test_a_recomputation_tells_nothing_again(rig: Rig) -> None:
    """An edit that leaves a shift as it is, and a plan that is renewed, issue nothing anew."""
    before = await ahead(rig)
    await put_on(rig, 2, 5 * 24 * HOUR, HOUR)
    await settle(rig)
    async with rig.database.transaction() as tx:
        await tx.execute(text("UPDATE shift_notice_plans SET plan_version = 0"))
    await settle(rig)
    assert await ahead(rig) == before


async def test_whoever_is_put_on_late_is_told_at_once(rig: Rig) -> None:
    """Inside the rota's 24 hours the notice goes out with the plan, urgent because the shift begins soon."""
    contact = await put_on(rig, RELEASER, 3 * HOUR, HOUR)
    await settle(rig)
    (notice,) = [one for one in await ahead(rig) if one.contact_ids == (contact.id,)]
    assert notice.urgent
    assert datetime.fromisoformat(notice.facts["start_at"]) == rig.clock.now() + 3 * HOUR
    assert notice.expires_at > rig.clock.now() + 3 * HOUR


async def test_whoever_holds_on_is_told(rig: Rig) -> None:
    """A shift that was told and is made longer is told once more, of what was added; days without news add nothing."""
    contact = await put_on(rig, RELEASER, 3 * HOUR, HOUR)
    await settle(rig)
    now = rig.clock.now()
    await put_on(rig, RELEASER, 4 * HOUR, 5 * HOUR)
    await settle(rig)
    own = [one.facts for one in await ahead(rig) if one.contact_ids == (contact.id,)]
    spans = {
        tuple((datetime.fromisoformat(facts[name]) - now) / HOUR for name in ("start_at", "end_at")) for facts in own
    }
    assert (spans, len(own)) == ({(3, 4), (4, 9)}, 2)


async def test_a_shift_without_an_end_is_told_once(rig: Rig) -> None:
    """Who holds a rota for longer than is looked ahead hears of its beginning alone, however many days go by."""
    contact = await put_on(rig, RELEASER, 3 * HOUR, 40 * 24 * HOUR)
    for _ in range(3):
        await settle(rig)
        rig.clock.advance(24 * 3600)
    assert len([one for one in await ahead(rig) if one.contact_ids == (contact.id,)]) == 1
    assert await rig.count(f"shift_notices WHERE contact_id = '{contact.id}' AND goes_on") == 1


async def test_whoever_steps_in_long_after_the_beginning_is_told(rig: Rig) -> None:
    """An override whose beginning lies hours back tells at once whoever is on call from this moment on."""
    await settle(rig)
    rig.clock.advance(20 * 3600)
    await settle(rig)
    contact = await put_on(rig, RELEASER, -3 * HOUR, 6 * HOUR)
    await settle(rig)
    (notice,) = [one for one in await ahead(rig) if one.contact_ids == (contact.id,)]
    assert notice.urgent
    assert datetime.fromisoformat(notice.facts["start_at"]) == rig.clock.now()


async def test_a_shift_that_was_taken_away_is_not_told(rig: Rig) -> None:
    """What is not issued yet follows every change."""
    contact = await put_on(rig, RELEASER, 60 * HOUR, HOUR)
    await settle(rig)
    assert await rig.count(f"shift_notices WHERE contact_id = '{contact.id}' AND issued_at IS NULL") > 0
    async with rig.database.transaction() as tx:
        await tx.execute(text("DELETE FROM overrides"))
        await tx.execute(text("UPDATE partners SET plan_asked = plan_asked + 1, plan_due_at = changed_at"))
    await settle(rig)
    rig.clock.advance(13 * 3600)
    await settle(rig)
    assert not [one for one in await ahead(rig) if one.contact_ids == (contact.id,)]


async def test_two_replicas_issue_each_notice_once(rig: Rig) -> None:
    """Two processes that find the same notices due issue each once."""
    rig.clock.advance(24 * 3600)
    await rig.publish_plans()
    await asyncio.gather(*(shift_notifying.notify_of_shifts(rig.deps) for _ in range(3)))
    await settle(rig)
    told = [(one.contact_ids, one.facts["start_at"], one.facts["rota"]) for one in await ahead(rig)]
    assert len(told) == len(set(told))


async def test_a_notice_survives_a_crash(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Mark and notice commit together: after a crash before that, whoever starts next issues it."""
    contact = await put_on(rig, RELEASER, 3 * HOUR, HOUR)
    await rig.publish_plans()

    async def dies(*_: Any, **__: Any) -> None:
        raise asyncio.CancelledError

    with monkeypatch.context() as patched:
        patched.setattr("shared.outbox.append", dies)
        with pytest.raises(asyncio.CancelledError):
            await shift_notifying.notify_of_shifts(rig.deps)
    assert not [one for one in await ahead(rig) if one.contact_ids == (contact.id,)]
    await settle(rig)
    assert len([one for one in await ahead(rig) if one.contact_ids == (contact.id,)]) == 1


async def test_a_partner_that_cannot_be_read_stops_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is due is issued and the others' notices are computed; that partner's are tried again after a minute."""
    contact = await put_on(rig, RELEASER, 3 * HOUR, HOUR)
    await rig.publish_plans()
    find = roster_store.find_without_addresses
    asked: list[str] = []

    async def failing(tx: Any, code: str) -> Any:
        asked.append(code)
        if code == "NZ":
            raise ValueError(code)
        return await find(tx, code)

    async with rig.database.transaction() as tx:
        await tx.execute(text("UPDATE shift_notice_plans SET plan_version = 0"))
        await tx.execute(
            text("UPDATE partners SET plan_computed_at = plan_computed_at - interval '1 h' WHERE code='NZ'")
        )
    monkeypatch.setattr(roster_store, "find_without_addresses", failing)
    while await shift_notifying.notify_of_shifts(rig.deps):
        pass
    assert asked[0] == "NZ"
    assert asked.count("NZ") == 1
    assert len([one for one in await ahead(rig) if one.contact_ids == (contact.id,)]) == 1
    rig.clock.advance(shift_notifying.FAILED_AGAIN_AFTER.total_seconds())
    await shift_notifying.notify_of_shifts(rig.deps)
    assert asked.count("NZ") == 2


async def test_a_hand_over_that_is_signed_is_told_to_both(rig: Rig) -> None:
    """A quarter of an hour before the shift changes, to outgoing and incoming by name, and only where it is signed."""
    async with rig.database.transaction() as tx:
        await tx.execute(text("UPDATE rotas SET signs_hand_over = true WHERE partner = 'CA' AND place = 0"))
        await tx.execute(text("UPDATE partners SET plan_asked = plan_asked + 1, plan_due_at = changed_at"))
    await settle(rig)
    (row,) = await rig.rows("SELECT * FROM shift_notices WHERE kind = 'hand_over' ORDER BY due_at LIMIT 1")
    assert row.due_at == row.start_at - timedelta(minutes=15)
    rig.clock.advance((row.due_at - rig.clock.now()).total_seconds())
    await settle(rig)
    (notice,) = [one for one in await rig.events(NoticeIssued) if one.kind == "hand_over_due"]
    names = {contact.id: contact.name for contact in (await rig.stored("CA")).contacts}
    assert notice.contact_ids == (row.other_id, row.contact_id)
    assert (notice.facts["outgoing"], notice.facts["incoming"]) == (names[row.other_id], names[row.contact_id])
    assert (notice.partner, notice.urgent) == ("CA", True)


async def test_what_is_past_is_forgotten(rig: Rig) -> None:
    """Rows of shifts that began a month ago are gone."""
    rig.clock.advance(40 * 24 * 3600)
    await settle(rig)
    (row,) = await rig.rows("SELECT min(start_at) AS first_at FROM shift_notices")
    assert row.first_at > rig.clock.now() - timedelta(days=31)


async def test_whoever_loses_a_shift_is_told_once(rig: Rig) -> None:
    """Somebody else's override tells the holder so, with the next plan and never again; taken away, it is told anew."""
    state = await rig.stored("CA")
    row = (await shifts_known(rig, state.rotas[0].id))[0]
    other = next(n for n, one in enumerate(state.contacts) if one.id != row.contact_id)
    await put_on(rig, other, row.start_at - rig.clock.now(), row.end_at - row.start_at)
    await settle(rig)
    await put_on(rig, other, row.start_at - rig.clock.now() + 40 * 24 * HOUR, HOUR)
    await settle(rig)
    (notice,) = [one for one in await rig.events(NoticeIssued, "CA") if one.kind == "shift_changed"]
    assert (notice.contact_ids, notice.to_office) == ((row.contact_id,), False)
    assert datetime.fromisoformat(notice.facts["start_at"]) == row.start_at
    assert datetime.fromisoformat(notice.facts["end_at"]) == row.end_at
    assert "count" not in notice.facts


async def test_many_shifts_that_go_are_one_notice(rig: Rig) -> None:
    """Whoever is taken out of the whole fortnight hears of the first shift, and how many more there were."""
    state = await rig.stored("CA")
    known = [one.contact_id for one in await shifts_known(rig, state.rotas[0].id)]
    other = next(n for n, one in enumerate(state.contacts) if one.id not in known)
    await put_on(rig, other, HOUR, 14 * 24 * HOUR)
    await settle(rig)
    found = [one for one in await rig.events(NoticeIssued, "CA") if one.kind == "shift_changed"]
    told = {one.contact_ids[0]: 1 + int(one.facts.get("count", "0")) for one in found}
    assert len(told) == len(found)
    assert set(known) <= set(told)
    assert all(told[one] >= known.count(one) for one in known)
    assert max(told.values()) > 1


async def shifts_known(rig: Rig, rota_id: Any) -> list[Any]:
    """The shifts of a rota of which the notice is still to come, the soonest first."""
    wanted = "SELECT * FROM shift_notices WHERE kind = 'shift' AND issued_at IS NULL ORDER BY start_at"
    return [row for row in await rig.rows(wanted) if row.rota_id == rota_id]
