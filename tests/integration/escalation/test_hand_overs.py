"""Handing a shift over: who is listed, who may sign, what a signature keeps, and whom running escalations page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from services.escalation.directories import Directories
from services.escalation.hand_overs.domain import NOTE_CHARACTERS_MAX, hand_over_id
from services.escalation.handlers.alerts import on_alert_released
from shared.contracts import (
    ChannelName,
    DutyPlanPublished,
    EndReason,
    LevelTarget,
    PlannedLevel,
    PlannedRota,
    PlannedShift,
    Precedence,
    Role,
)
from shared.errors import Unavailable
from shared.ids import derived
from shared.loops import Loop
from shared.security import Principal
from tests.integration.escalation.test_api import code_of
from tests.integration.escalation.test_handover import fail_once
from tests.support.cluster import Cluster
from tests.support.escalation_rig import KABUL, Rig, calling, escalation_rig, person, publish_credentials, system

CHANGE_AT = KABUL + timedelta(minutes=7)
"""In the middle of an escalation that opens at `KABUL`: its second level is due three minutes later."""
AHEAD_AT = CHANGE_AT + timedelta(hours=8)


def caller(client_id: str, principal: Principal) -> Principal:
    """The principal under a client id of its own."""
    return replace(principal, client_id=client_id, credential_version=1)


OUTGOING = caller("outgoing", person("GB", number=1))
INCOMING = caller("incoming", person("GB", Role.DUTY_OFFICER, number=2))
OTHER = caller("other", person("GB", number=3))
KEEPER = caller("keeper", person("GB", Role.ROSTER_MANAGER, number=1))
DRAFTER = caller("drafter", person("GB", Role.DRAFTER, number=1))
SYSTEM = caller("system", system("GB"))
STRANGER = caller("stranger", person("US", number=1))
PEOPLE = (OUTGOING, INCOMING, OTHER, KEEPER, DRAFTER, SYSTEM, STRANGER)
NOTE = "Ottawa promised a list by six."


@pytest_asyncio.fixture
async def rig(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Rig]:
    """Escalation with a plan of GB whose people change in the middle of an escalation."""
    async with escalation_rig(cluster, tmp_path, people=("email",)) as built:
        await publish_credentials(built, PEOPLE)
        await built.handle(planned(built))
        await built.handle(built.plan("US"))
        yield built


def planned(rig: Rig, *, version: int = 1, signs: bool = True) -> DutyPlanPublished:
    """Three levels page one rota: the first person until `CHANGE_AT`, the second for eight hours, then the third."""
    plan = rig.plan("GB", levels=3, version=version)
    shifts = tuple(
        PlannedShift(contact_id=rig.contact("GB", number).id, start_at=start_at, end_at=end_at)
        for number, start_at, end_at in (
            (1, KABUL - timedelta(days=2), CHANGE_AT),
            (2, CHANGE_AT, AHEAD_AT),
            (3, AHEAD_AT, KABUL + timedelta(days=13)),
        )
    )
    rota = PlannedRota(id=rota_id(), name="Duty officers", shifts=shifts, signs_hand_over=signs)
    level = PlannedLevel(targets=(LevelTarget(kind="rota", id=rota.id),))
    return plan.model_copy(update={"rotas": (rota,), "levels": (level, level, level), "endpoints": ()})


def rota_id() -> UUID:
    """The rota of all levels."""
    return derived("rota", "GB", "1")


def change_id(rig: Rig) -> UUID:
    """The hand-over from the first person to the second."""
    return hand_over_id(rota_id(), CHANGE_AT, rig.contact("GB", 1).id, rig.contact("GB", 2).id)


async def sign(rig: Rig, principal: Principal, note: str | None = None, *, of: UUID | None = None) -> Any:
    """What a caller gets for signing."""
    body = {} if note is None else {"note": note}
    async with calling(rig, principal) as client:
        return await client.post(f"/v1/hand-overs/{of or change_id(rig)}/signature", json=body)


async def listing(rig: Rig, principal: Principal, **query: str) -> Any:
    """What a caller gets for the list."""
    async with calling(rig, principal) as client:
        return await client.get("/v1/hand-overs", params=query)


# --- the list ---------------------------------------------------------------------------------------------------------


async def test_the_list_says_who_hands_over_to_whom_and_what_is_open(rig: Rig) -> None:
    """From the newest plan, in order of time, with the escalations in which something is still owed."""
    await rig.handle(rig.released("GB"))
    await rig.handle(rig.released("US", informed=("GB",), reference="RP-CA-2021-0002"))
    ended = rig.released("GB", reference="RP-CA-2021-0003")
    await rig.handle(ended)
    await rig.handle(rig.ended(ended, EndReason.CLOSED))
    await rig.settle()
    answer = await listing(rig, OUTGOING)
    assert answer.status_code == 200, answer.text
    first, second = answer.json()["hand_overs"]
    assert (first["id"], first["rota"], first["state"]) == (str(change_id(rig)), "Duty officers", "unsigned")
    assert [first["outgoing"]["name"], first["incoming"]["name"]] == [OUTGOING.name, INCOMING.name]
    assert datetime.fromisoformat(first["signed_from"]) == CHANGE_AT - timedelta(hours=2)
    assert [datetime.fromisoformat(first[name]) for name in ("start_at", "until_at")] == [CHANGE_AT, AHEAD_AT]
    assert second["outgoing"]["contact_id"] == str(INCOMING.contact_id)
    assert [first["own_side"], second["own_side"]] == ["outgoing", None]
    (open_one,) = answer.json()["open_escalations"]
    assert (open_one["reference"], open_one["precedence"], open_one["state"], open_one["level"]) == (
        "RP-CA-2021-0001",
        "FLASH",
        "notified",
        1,
    )


async def test_who_sees_the_list(rig: Rig) -> None:
    """The partner's officers and contacts; its roster manager without escalations; nobody of another government."""
    await rig.handle(rig.released("GB"))
    await rig.settle()
    assert len((await listing(rig, OTHER, partner="GB")).json()["open_escalations"]) == 1
    keeper = (await listing(rig, KEEPER)).json()
    assert (len(keeper["hand_overs"]), keeper["open_escalations"]) == (2, [])
    assert code_of(await listing(rig, DRAFTER)) == (403, "role_missing")
    assert code_of(await listing(rig, STRANGER, partner="GB")) == (404, "not_found")
    assert (await listing(rig, STRANGER)).json()["hand_overs"] == []


async def test_the_list_can_be_narrowed_to_a_state(rig: Rig) -> None:
    """Whoever comes on duty asks for what is not signed yet."""
    await sign(rig, OUTGOING)
    states = ("unsigned", "partly_signed", "signed")
    found = [len((await listing(rig, OTHER, state=state)).json()["hand_overs"]) for state in states]
    assert found == [1, 1, 0]
    assert (await listing(rig, OTHER, state="lost")).status_code == 422


# --- signing ----------------------------------------------------------------------------------------------------------


async def test_both_sign_and_it_is_kept_recorded_told_and_announced(rig: Rig) -> None:
    """Each for themselves, with what was open then; the other one is told; roster hears of it."""
    await rig.handle(rig.released("GB"))
    await rig.settle()
    first = (await sign(rig, OUTGOING, NOTE)).json()
    assert (first["state"], first["outgoing"]["note"]) == ("partly_signed", NOTE)
    assert [one["reference"] for one in first["outgoing"]["open_escalations"]] == ["RP-CA-2021-0001"]
    assert first["incoming"]["signed_at"] is None
    rig.clock.advance(1)
    second = (await sign(rig, INCOMING)).json()
    assert second["state"] == "signed"
    assert second["outgoing"]["note"] == NOTE
    events = await rig.events("hand_over_signed")
    assert [event.get("incoming_signed_at") is not None for event in events] == [False, True]
    assert {event["outgoing_id"] for event in events} == {str(OUTGOING.contact_id)}
    entries = await rig.rows("SELECT data::text AS data FROM record WHERE kind = 'hand_over.signed' ORDER BY id")
    assert len(entries) == 2
    assert all(NOTE not in entry["data"] and OUTGOING.name not in entry["data"] for entry in entries)
    told = await rig.rows(
        "SELECT contact_id, data -> 'facts' ->> 'signed_by' AS by FROM pages WHERE message_type = 'notice.issued'"
    )
    assert {(row["contact_id"], row["by"]) for row in told} == {
        (INCOMING.contact_id, OUTGOING.name),
        (OUTGOING.contact_id, INCOMING.name),
    }


async def test_a_note_is_read_by_the_two_alone_and_lies_encrypted(rig: Rig) -> None:
    """A colleague sees that both have signed and not what they wrote to each other; the row does not say it either."""
    await sign(rig, OUTGOING, NOTE)
    (seen,) = (await listing(rig, OTHER, state="partly_signed")).json()["hand_overs"]
    assert (seen["outgoing"]["note"], seen["outgoing"]["signed_at"] is not None) == (None, True)
    (read,) = (await listing(rig, INCOMING, state="partly_signed")).json()["hand_overs"]
    assert read["outgoing"]["note"] == NOTE
    (row,) = await rig.rows("SELECT h::text AS text FROM hand_overs h")
    assert NOTE not in row["text"]


async def test_signing_twice_changes_nothing(rig: Rig) -> None:
    """The first signature stands, with its time and its note, also after the time to sign."""
    first = await sign(rig, OUTGOING, NOTE)
    await rig.forward(minutes=1)
    again = await sign(rig, OUTGOING, "something else")
    assert again.json() == first.json()
    rig.clock.advance((AHEAD_AT - rig.clock.now()).total_seconds())
    assert (await sign(rig, OUTGOING)).json()["outgoing"] == first.json()["outgoing"]
    assert len(await rig.events("hand_over_signed")) == 1
    assert len(await rig.rows("SELECT id FROM record WHERE kind = 'hand_over.signed'")) == 1


async def test_signing_waits_for_an_opening_that_was_left_behind(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes on with it pages the same people: until both have signed these are the outgoing person, too."""
    monkeypatch.setattr(Loop, "running", property(lambda _loop: True))
    rig.clock.advance((CHANGE_AT - rig.clock.now()).total_seconds())
    arrived = await fail_once(rig, monkeypatch, "GB")
    for principal in (OUTGOING, INCOMING):
        assert code_of(await sign(rig, principal)) == (503, "alert_opening")
    await on_alert_released(rig.deps, arrived)
    paged = await rig.rows("SELECT contact_id FROM pages WHERE message_type = 'alert.released'")
    assert {row["contact_id"] for row in paged} == {rig.contact("GB", number).id for number in (1, 2)}
    for principal in (OUTGOING, INCOMING):
        assert (await sign(rig, principal)).status_code == 200


@pytest.mark.parametrize(
    ("principal", "refused"),
    [
        (OTHER, (403, "not_your_hand_over")),
        (KEEPER, (403, "role_missing")),
        (SYSTEM, (403, "person_required")),
        (STRANGER, (404, "not_found")),
    ],
)
async def test_nobody_else_signs(rig: Rig, principal: Principal, refused: tuple[int, str]) -> None:
    """Not a colleague, not a system, not without the role; another government learns of nothing."""
    assert code_of(await sign(rig, principal)) == refused
    assert await rig.rows("SELECT id FROM hand_overs") == []


async def test_too_early_too_late_and_never(rig: Rig) -> None:
    """From two hours before until the next change; and only what the newest plan holds."""
    later = hand_over_id(rota_id(), AHEAD_AT, rig.contact("GB", 2).id, rig.contact("GB", 3).id)
    assert code_of(await sign(rig, INCOMING, of=later)) == (409, "hand_over_not_yet")
    assert code_of(await sign(rig, INCOMING, of=rig.ids.new())) == (404, "not_found")
    rig.clock.advance((AHEAD_AT - rig.clock.now()).total_seconds())
    assert code_of(await sign(rig, OUTGOING)) == (409, "hand_over_past")
    await rig.handle(planned(rig, version=2, signs=False))
    assert code_of(await sign(rig, INCOMING, of=later)) == (404, "not_found")


@pytest.mark.parametrize(("length", "status"), [(NOTE_CHARACTERS_MAX, 200), (NOTE_CHARACTERS_MAX + 1, 422)])
async def test_a_note_has_a_limit(rig: Rig, length: int, status: int) -> None:
    """A thousand characters, and not one more."""
    assert (await sign(rig, OUTGOING, "x" * length)).status_code == status


@pytest.mark.parametrize(("note", "status"), [("a\nb\tc", 200), ("a\x00b", 422), ("a\x1b[2Jb", 422)])
async def test_a_note_is_plain_text(rig: Rig, note: str, status: int) -> None:
    """Lines and tabs, and no other control character: it is shown on terminals."""
    assert (await sign(rig, OUTGOING, note)).status_code == status


# --- whom escalations page --------------------------------------------------------------------------------------------


async def test_a_shift_change_in_the_middle_of_an_escalation_is_honoured(rig: Rig) -> None:
    """The next level pages the new person, and the old one until both have signed; after that the new one alone."""
    await rig.handle(rig.released("GB"))
    await rig.settle()
    assert paged(rig) == {"gb-1"}
    await rig.forward(minutes=10)
    assert paged(rig) == {"gb-1", "gb-2"}
    assert (await sign(rig, INCOMING)).status_code == 200
    await rig.forward(minutes=5)
    assert paged(rig) == {"gb-1", "gb-2"}
    assert (await sign(rig, OUTGOING)).status_code == 200
    await rig.forward(minutes=5)
    assert paged(rig) == {"gb-2"}


async def test_what_was_signed_beforehand_holds_from_the_first_instant(rig: Rig) -> None:
    """Both sign before the change: the old person is not paged after it."""
    for principal in (OUTGOING, INCOMING):
        assert (await sign(rig, principal)).status_code == 200
    await rig.handle(rig.released("GB"))
    await rig.settle()
    assert paged(rig) == {"gb-1"}
    await rig.forward(minutes=10)
    assert paged(rig) == {"gb-2"}


async def test_an_outgoing_person_acknowledges_as_well(rig: Rig) -> None:
    """Whoever of the two answers first stops the escalation."""
    await rig.handle(rig.released("GB"))
    await rig.forward(minutes=12)
    escalation_id = (await rig.escalation("GB"))["id"]
    async with calling(rig, OUTGOING) as client:
        answer = await client.post(f"/v1/escalations/{escalation_id}/acknowledgement", json={})
    assert answer.json()["state"] == "acknowledged", answer.text
    paged(rig)
    await rig.forward(minutes=10)
    assert "gb-2" not in {page.target for page in rig.outlet.sent if page.message_type == "alert.released"}


async def test_other_processes_learn_of_signatures_and_of_plans(rig: Rig) -> None:
    """What is kept in memory is compared with the database each time: nobody goes on with an old answer."""
    elsewhere = Directories(frozenset(ChannelName))

    async def on_duty() -> set[UUID | None]:
        async with rig.deps.database.transaction() as tx:
            directory = await elsewhere.find_one(tx, "GB")
        return {target.contact_id for target in directory.on_duty(CHANGE_AT)}

    both = {OUTGOING.contact_id, INCOMING.contact_id}
    assert await on_duty() == both
    await sign(rig, OUTGOING)
    assert await on_duty() == both
    await sign(rig, INCOMING)
    assert await on_duty() == {INCOMING.contact_id}
    await rig.handle(planned(rig, version=2))
    assert await on_duty() == {INCOMING.contact_id}
    await rig.handle(planned(rig, version=3, signs=False))
    assert await on_duty() == {INCOMING.contact_id}


async def test_signatures_that_could_not_be_read_are_read_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A database that fails in the middle leaves nothing that passes for read: the next look finds who has signed."""
    elsewhere = Directories(frozenset(ChannelName))
    await sign(rig, OUTGOING)
    await sign(rig, INCOMING)

    async def fails(*_: object) -> list[object]:
        raise Unavailable("the database does not answer")

    async with rig.deps.database.transaction() as tx:
        with monkeypatch.context() as patched:
            patched.setattr("services.escalation.store.find_signed", fails)
            with pytest.raises(Unavailable):
                await elsewhere.find_one(tx, "GB")
        directory = await elsewhere.find_one(tx, "GB")
    assert {target.contact_id for target in directory.on_duty(CHANGE_AT)} == {INCOMING.contact_id}


def paged(rig: Rig) -> set[str]:
    """Whose systems were asked since the last call; people of GB are reached at `gb-1` and so on."""
    sent = {page.target.removeprefix("https://") for page in rig.outlet.sent if page.message_type == "alert.released"}
    rig.outlet.sent.clear()
    return sent - {"gb-office", "gb-system"}


async def test_levels_are_those_of_the_precedence(rig: Rig) -> None:
    """The tests above rest on it: FLASH asks level 2 after ten minutes and each further level after five."""
    await rig.handle(rig.released("GB", precedence=Precedence.FLASH))
    assert (await rig.escalation("GB"))["due_at"] == KABUL + timedelta(minutes=10)
