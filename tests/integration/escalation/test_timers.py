"""Deadlines: none early, none forgotten, none in another's way."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, cast

import pytest

from services.escalation import timers
from services.escalation.app import overdue
from services.escalation.domain import decide
from shared.contracts import DEFAULT_DEADLINES, Precedence, Status
from tests.support.escalation_rig import Rig


async def released(rig: Rig, *to: str, **changes: Any) -> Any:
    """An alert of Canada to these partners, paged."""
    for code in to:
        await rig.handle(rig.plan(code))
    alert = rig.released(*to, **changes)
    await rig.handle(alert)
    await rig.settle()
    rig.outlet.take()
    return alert


async def test_no_deadline_fires_before_it_is_due(rig: Rig) -> None:
    """I4: a millisecond before ten minutes nothing happens; at ten minutes level 2 is paged."""
    await released(rig, "GB")
    rig.clock.advance(599.999)
    assert await rig.service.loops["timers"].run_once() == 0
    rig.clock.advance(0.001)
    assert await rig.service.loops["timers"].run_once() == 1
    assert (await rig.escalation("GB"))["level"] == 2


async def test_the_loop_sleeps_until_the_next_deadline_and_never_longer_than_a_second(rig: Rig) -> None:
    """The next due time decides how long it waits; a deadline that a newer row brings is found within a second."""
    loop = cast("timers.Timers", cast("Any", rig.service.loops["timers"].run_once).__self__)
    assert await loop.next_in_seconds() == timers.POLL_SECONDS
    await released(rig, "GB")
    assert await loop.next_in_seconds() == timers.POLL_SECONDS
    rig.clock.advance(599.6)
    assert await loop.next_in_seconds() == pytest.approx(0.4, abs=0.01)
    rig.clock.advance(60)
    assert await loop.next_in_seconds() == 0.0


async def test_every_overdue_escalation_is_found_after_an_outage(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """More are due than one pass takes: the passes that follow take the rest, each once."""
    monkeypatch.setattr(timers, "BATCH", 2)
    await released(rig, "GB", "US", "ES", "IT", "NZ")
    rig.clock.advance(700)
    await rig.settle()
    rows = await rig.rows("SELECT partner, level FROM escalations")
    assert {row["level"] for row in rows} == {2}
    assert len(await rig.events("level_raised")) == 5


@pytest.mark.logs_error("escalation.undecided")
async def test_a_row_that_cannot_be_decided_stops_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """I11: a bug that one escalation brings out is an alarm, its row stays due soon, and everybody else is raised."""
    await released(rig, "GB", "US")

    def broken(escalation: Any, command: Any, now: Any) -> Any:
        if escalation.partner == "GB":
            raise ZeroDivisionError
        return decide(escalation, command, now)

    monkeypatch.setattr(timers, "decide", broken)
    rig.clock.advance(600)
    await rig.service.loops["timers"].run_once()
    assert (await rig.escalation("US"))["level"] == 2
    stuck = await rig.escalation("GB")
    assert stuck["level"] == 1
    assert (stuck["due_at"] - rig.clock.now()).total_seconds() == timers.UNDECIDED_RETRY_SECONDS
    monkeypatch.undo()
    await rig.forward(seconds=timers.UNDECIDED_RETRY_SECONDS)
    assert (await rig.escalation("GB"))["level"] == 2


async def test_an_escalation_ends_itself_at_its_expiry(rig: Rig) -> None:
    """No AlertEnded ever comes: the rows know their alert's expiry, end at it, and tell those who were paged."""
    start = rig.clock.now()
    await released(rig, "GB", expires_at=start.replace(hour=start.hour + 1), precedence=Precedence.PRIORITY)
    await rig.forward(minutes=59)
    assert (await rig.escalation("GB"))["state"] == "notified"
    await rig.forward(minutes=1)
    row = await rig.escalation("GB")
    assert (row["state"], row["end_reason"], row["due_at"]) == ("ended", "expired", None)
    assert sorted(rig.outlet.take()) == [("alert.ended", "gb-1"), ("alert.ended", "gb-system")]
    (ended,) = await rig.events("escalations_ended")
    assert ended["reason"] == "expired"


async def test_a_page_that_has_just_begun_gets_its_interval(rig: Rig) -> None:
    """The senders were down for half an hour; the first page begins, and its end is not recorded yet, as `unreached`
    falls due: whoever is being rung gets an interval to answer, and no more for the next try.
    """
    await rig.handle(rig.plan("GB"))
    await rig.handle(rig.released("GB"))
    deadlines, delivery = rig.service.loops["timers"], rig.service.loops["delivery"]
    while (row := await rig.escalation("GB"))["due_reason"] != "unreached" or not row["unreached_postponed"]:
        rig.clock.advance((row["due_at"] - rig.clock.now()).total_seconds())
        await deadlines.run_once()
    rig.clock.advance((row["due_at"] - rig.clock.now()).total_seconds() - 1)
    await delivery.run_once()
    began_at = rig.clock.now()
    rig.clock.advance(1)
    await deadlines.run_once()
    row = await rig.escalation("GB")
    assert (row["state"], row["due_at"]) == ("pending", began_at + timedelta(minutes=5))
    rig.clock.advance(299)
    await deadlines.run_once()
    assert (await rig.escalation("GB"))["state"] == "unreached"


async def test_what_nothing_acts_on_is_an_alarm(rig: Rig) -> None:
    """I2, watched: an open escalation without a due time, or long past it, is reported by the reconciler."""
    await released(rig, "GB", "US")
    assert await overdue(rig.deps) == []
    rig.clock.advance(620)
    assert await overdue(rig.deps) == ["escalations are overdue and nothing acts on them"]
    await rig.rows("UPDATE escalations SET due_at = NULL WHERE partner = 'GB' RETURNING 1")
    assert "escalations are open without a due time" in await overdue(rig.deps)


async def test_informed_partners_owe_nothing_and_end_with_the_alert(rig: Rig) -> None:
    """One page to office and endpoint, nothing afterwards, and the ending."""
    for code in ("ES", "CA", "XR"):
        await rig.handle(rig.plan(code))
    alert = await released(rig, "GB", informed=("ES",))
    assert (await rig.escalation("ES", "information"))["state"] == "notified"
    await rig.forward(minutes=31)
    assert not [target for _type, target in rig.outlet.take() if target.startswith("es-")]
    await rig.handle(rig.ended(alert))
    await rig.settle()
    assert {("alert.ended", "es-office"), ("alert.ended", "es-system")} <= set(rig.outlet.take())


@pytest.mark.logs_error("duty_plan.lacking")
async def test_a_partner_without_a_plan_has_the_networks_deadlines(rig: Rig) -> None:
    """The newest plan of anybody carries the network's table, in whatever order plans are read; before any is known,
    the default table stands.
    """
    await rig.handle(rig.released("GB"))
    default = await rig.escalation("GB")
    assert (default["acknowledge_by_at"] - rig.clock.now()).total_seconds() == 600
    rig.clock.advance(1)
    short = DEFAULT_DEADLINES[Precedence.FLASH].model_copy(update={"acknowledge_within_seconds": 60})
    now = rig.clock.now()
    await rig.handle(rig.plan("CA", deadlines={**DEFAULT_DEADLINES, Precedence.FLASH: short}))
    await rig.handle(rig.plan("XR", computed_at=now - timedelta(days=1)))
    await rig.handle(rig.released("CA", "XR", "GB", raiser="US"))
    newest = await rig.escalation("GB")
    assert (newest["acknowledge_by_at"] - now).total_seconds() == 60
    assert (newest["unreached_at"] - now).total_seconds() == 1800


async def test_deadlines_of_drills_come_after_those_of_actual_alerts(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many deadlines of a drill have waited for longer, one pass takes those of Actual alerts first."""
    monkeypatch.setattr(timers, "BATCH", 2)
    await released(rig, "GB", "US", "ES", status=Status.EXERCISE, note="RED BELL")
    rig.clock.advance(5)
    await released(rig, "IT", "NZ", reference="RP-CA-2021-0002")
    rig.clock.advance(600)
    levels = []
    for _ in range(3):
        await rig.service.loops["timers"].run_once()
        rows = await rig.rows("SELECT partner FROM escalations WHERE level = 2 ORDER BY partner")
        levels.append([row["partner"] for row in rows])
    assert levels[0] == ["IT", "NZ"]
    assert levels[2] == ["ES", "GB", "IT", "NZ", "US"]
