"""Coverage goals end to end: counted down, met, missed and escalated, through Updates, ends, disorder and restarts."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from services.escalation import domain, saving, store
from services.escalation.board import read_board
from services.escalation.domain import Acknowledge
from services.escalation.handlers import SUBSCRIPTIONS
from shared.contracts import (
    Actor,
    AlertReleased,
    CoverageGoal,
    CoverageGoalMissed,
    EndReason,
    EscalationKind,
    PartnerAcknowledged,
    Role,
)
from shared.errors import Unavailable
from shared.events import Cause
from shared.ids import derived
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Rig, escalation_rig, message, person

GOAL = CoverageGoal(partners=2, within_seconds=300)
RAISER = person("CA", Role.DUTY_OFFICER)
SECRETARIAT_OFFICER = person("XR", Role.SECRETARIAT)


async def released(rig: Rig, *to: str, goal: CoverageGoal | None = GOAL, **changes: Any) -> AlertReleased:
    """An alert of Canada with a goal, paged."""
    for code in (*to, "CA", "XR"):
        await rig.handle(rig.plan(code))
    alert = rig.released(*to, coverage_goal=goal, **changes)
    await rig.handle(alert)
    await rig.settle()
    rig.outlet.take()
    return alert


async def acknowledge(rig: Rig, partner: str) -> None:
    """A person of the partner acknowledges, and everything that follows happens."""
    deps, now = rig.deps, rig.clock.now()
    by = Actor(subject=f"{partner.lower()}-1", partner=partner, contact_id=derived("contact", f"{partner.lower()}-1"))
    row = await rig.escalation(partner)
    async with deps.database.transaction() as tx:
        escalation = await store.load_one(tx, row["id"])
        assert escalation is not None
        outcome = domain.decide(escalation, Acknowledge(by=by), now)
        cause = Cause(correlation_id=deps.ids.new())
        messages = await saving.save_outcomes(tx, [outcome], ids=deps.ids, cause=cause, now=now)
    await deps.relay.publish(messages)
    await rig.settle()


async def goals(rig: Rig) -> list[tuple[UUID, str]]:
    """Every goal with its state."""
    rows = await rig.rows("SELECT alert_id, state FROM coverage_goals ORDER BY due_at, alert_id")
    return [(row["alert_id"], row["state"]) for row in rows]


async def test_a_missed_goal_raises_whoever_is_silent_and_tells_people(rig: Rig) -> None:
    """At the due time, and not before: silent partners' next level, raiser's and secretariat's officers and systems."""
    await released(rig, "GB", "US", "ES")
    await acknowledge(rig, "GB")
    rig.outlet.take()
    await rig.forward(seconds=299.9)
    assert [page for page in rig.outlet.take() if page[0] == "coverage.missed"] == []
    await rig.forward(seconds=0.1)
    levels = {row["partner"]: row["level"] for row in await rig.rows("SELECT partner, level FROM escalations")}
    assert levels == {"GB": 1, "US": 2, "ES": 2}
    sent = rig.outlet.take()
    assert {target for kind, target in sent if kind == "coverage.missed"} == {"ca-1", "ca-system", "xr-1", "xr-system"}
    assert {target for kind, target in sent if kind == "alert.released"} == {"us-2", "es-2"}
    (missed,) = await rig.events("coverage_goal_missed")
    assert (missed["acknowledged"], missed["asked"], missed["missing"]) == (1, 3, ["ES", "US"])
    raised = await rig.events("level_raised")
    assert {(event["partner"], event["reason"], event["coverage_missed"]) for event in raised} == {
        ("US", "deadline_passed", True),
        ("ES", "deadline_passed", True),
    }


async def test_what_people_are_told_of_a_missed_goal_is_counted(rig: Rig) -> None:
    """The message to the raiser says how many were wanted and had answered, and who is missing."""
    await released(rig, "GB", "US")
    await rig.forward(seconds=300)
    (said,) = [
        rig.outlet.data(index)
        for index, page in enumerate(rig.outlet.sent)
        if page.message_type == "coverage.missed" and "ca-system" in page.target
    ]
    assert (said["wanted"], said["addressed"], said["answered"], said["within_seconds"]) == (2, 2, 0, 300)
    assert said["missing"] == ["GB", "US"]


async def test_a_goal_that_is_met_says_so_at_once_and_escalates_nothing(rig: Rig) -> None:
    """The answer that fills the number meets the goal; at the due time nothing more happens."""
    await released(rig, "GB", "US", "ES")
    await acknowledge(rig, "GB")
    assert await rig.events("coverage_goal_met") == []
    rig.clock.advance(60)
    await acknowledge(rig, "US")
    (met,) = await rig.events("coverage_goal_met")
    assert (met["acknowledged"], met["asked"]) == (2, 3)
    await rig.forward(seconds=300)
    assert await rig.events("coverage_goal_missed") == []
    assert (await rig.escalation("ES"))["level"] == 1


async def test_an_alert_without_a_goal_has_no_row(rig: Rig) -> None:
    """Nothing is kept and nothing is counted where nobody asked for it."""
    await released(rig, "GB", goal=None)
    await acknowledge(rig, "GB")
    await rig.forward(seconds=600)
    assert await goals(rig) == []


async def test_a_goal_that_came_due_while_everything_was_down_is_decided_by_the_answers(rig: Rig) -> None:
    """After a restart the row is due: answers in time meet it although the count comes late, later ones do not."""
    first = await released(rig, "GB", "US")
    second = await released(rig, "GB", "US", reference="RP-CA-2021-0002")
    await rig.rows(
        "UPDATE escalations SET state = 'acknowledged', acknowledged_at = $1 WHERE alert_id = $2",
        rig.clock.now() + timedelta(seconds=300),
        first.alert_id,
    )
    await rig.rows(
        "UPDATE escalations SET state = 'acknowledged', acknowledged_at = $1 WHERE alert_id = $2",
        rig.clock.now() + timedelta(seconds=300.001),
        second.alert_id,
    )
    rig.clock.advance(4000)
    await rig.settle()
    assert dict(await goals(rig)) == {first.alert_id: "met", second.alert_id: "missed"}


async def test_a_kill_before_the_outcome_is_committed_loses_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that dies while it decides leaves the goal due; whoever comes next decides it once."""
    await released(rig, "GB", "US")
    rig.clock.advance(300)
    with monkeypatch.context() as dying:
        dying.setattr("services.escalation.coverage.countdown.announce", _killed)
        with pytest.raises(ArithmeticError):
            await rig.service.loops["coverage"].run_once()
    assert [state for _, state in await goals(rig)] == ["open"]
    await rig.settle()
    await rig.settle()
    assert len(await rig.events("coverage_goal_missed")) == 1


async def _killed(*_arguments: Any, **_named: Any) -> Any:
    raise ArithmeticError


async def test_an_update_takes_the_goal_over_with_its_clock(rig: Rig) -> None:
    """The earlier due time wins; what the Update replaces is counted no more."""
    alert = await released(rig, "GB", "US")
    rig.clock.advance(200)
    update = rig.update_of(alert)
    await rig.handle(update)
    await rig.settle()
    assert await goals(rig) == [(alert.alert_id, "ended"), (update.alert_id, "open")]
    await rig.forward(seconds=100)
    (missed,) = await rig.events("coverage_goal_missed")
    assert missed["alert_id"] == str(update.alert_id)


async def test_an_update_after_a_missed_goal_does_not_escalate_again(rig: Rig) -> None:
    """People are told once; the Update carries the outcome."""
    alert = await released(rig, "GB", "US")
    await rig.forward(seconds=300)
    await rig.handle(rig.update_of(alert))
    await rig.forward(seconds=300)
    assert len(await rig.events("coverage_goal_missed")) == 1


async def test_answers_carry_over_to_an_update(rig: Rig) -> None:
    """Who has acknowledged the first message counts for the Update as well; one more answer meets its goal."""
    alert = await released(rig, "GB", "US", "ES")
    await acknowledge(rig, "GB")
    rig.clock.advance(1)
    await rig.handle(rig.update_of(alert))
    await rig.settle()
    await acknowledge(rig, "US")
    (met,) = await rig.events("coverage_goal_met")
    assert met["acknowledged"] == 2


async def test_an_update_that_overtakes_its_original_keeps_the_earlier_clock(rig: Rig) -> None:
    """I7: in either order the Update's goal is due when the original's would have been."""
    for code in ("GB", "US", "CA", "XR"):
        await rig.handle(rig.plan(code))
    alert = rig.released("GB", "US", coverage_goal=GOAL)
    rig.clock.advance(100)
    update = rig.update_of(alert)
    await rig.handle(update)
    await rig.handle(alert)
    rows = await rig.rows("SELECT state, due_at FROM coverage_goals WHERE alert_id = $1", update.alert_id)
    assert [(row["state"], row["due_at"]) for row in rows] == [("open", alert.released_at + timedelta(seconds=300))]


@pytest.mark.parametrize("reason", [EndReason.CANCELLED, EndReason.CLOSED, EndReason.EXPIRED])
@pytest.mark.parametrize("is_early", [False, True])
async def test_an_end_ends_the_goal(rig: Rig, reason: EndReason, is_early: bool) -> None:
    """Nothing is counted for an alert that is over, also where its end came before its release."""
    for code in ("GB", "US", "CA", "XR"):
        await rig.handle(rig.plan(code))
    alert = rig.released("GB", "US", coverage_goal=GOAL)
    for body in (rig.ended(alert, reason), alert) if is_early else (alert, rig.ended(alert, reason)):
        await rig.handle(body)
    await rig.forward(seconds=400)
    assert [state for _, state in await goals(rig)] == ["ended"]
    assert await rig.events("coverage_goal_missed") == []


async def test_partners_added_later_are_counted(rig: Rig) -> None:
    """The goal counts everybody who is asked by now."""
    alert = await released(rig, "GB", "US")
    more = rig.released("GB", "US", "ES", alert_id=alert.alert_id, coverage_goal=GOAL)
    await rig.handle(rig.plan("ES"))
    await rig.handle(more)
    await acknowledge(rig, "ES")
    await acknowledge(rig, "US")
    (met,) = await rig.events("coverage_goal_met")
    assert met["asked"] == 3


async def test_a_missed_goal_that_arrives_before_its_alert_waits_for_it(rig: Rig) -> None:
    """On a node that hears of the miss first nothing is lost: the message comes again until the alert is there."""
    alert = rig.released("GB", coverage_goal=GOAL)
    missed = CoverageGoalMissed(
        alert_id=alert.alert_id,
        raiser="CA",
        goal=GOAL,
        due_at=rig.clock.now(),
        acknowledged=0,
        asked=1,
        missed_at=rig.clock.now(),
        missing=("GB",),
    )
    arrived = message(missed, rig.ids, rig.clock.now())
    with pytest.raises(Unavailable):
        await SUBSCRIPTIONS[CoverageGoalMissed](rig.deps, arrived)
    await rig.handle(rig.plan("GB"))
    await rig.handle(alert)
    await SUBSCRIPTIONS[CoverageGoalMissed](rig.deps, arrived)
    await SUBSCRIPTIONS[CoverageGoalMissed](rig.deps, arrived)
    assert (await rig.escalation("GB"))["level"] == 2


async def test_another_nodes_partners_count_and_are_raised_there(cluster: Cluster, tmp_path: Path) -> None:
    """A node that serves raiser and one partner counts the answers that other nodes report; it raises its own."""
    async with escalation_rig(cluster, tmp_path, partners=frozenset({"CA", "GB"})) as rig:
        alert = await released(rig, "GB", "US", "ES")
        answer = PartnerAcknowledged(
            alert_id=alert.alert_id,
            escalation_id=rig.ids.new(),
            partner="US",
            raiser="CA",
            kind=EscalationKind.ANSWER,
            acknowledged_at=rig.clock.now(),
            acknowledged_by=Actor(subject="us-1", partner="US"),
        )
        await rig.handle(answer)
        await rig.forward(seconds=300)
        (missed,) = await rig.events("coverage_goal_missed")
        assert (missed["acknowledged"], missed["missing"]) == (1, ["ES", "GB"])
        assert (await rig.escalation("GB"))["level"] == 2
    async with escalation_rig(cluster, tmp_path, partners=frozenset({"US"})) as elsewhere:
        await released(elsewhere, "GB", "US", "ES")
        assert await goals(elsewhere) == []


async def test_the_board_shows_the_countdown_to_raiser_and_secretariat(rig: Rig) -> None:
    """Goal, count, due time and outcome: for the raiser and the secretariat, and for nobody else."""
    alert = await released(rig, "GB", "US")
    await acknowledge(rig, "GB")
    for principal in (RAISER, SECRETARIAT_OFFICER):
        (shown,) = (await read_board(rig.deps, principal)).coverage
        assert (shown.alert_id, shown.state, shown.acknowledged, shown.partners) == (alert.alert_id, "open", 1, 2)
        assert (shown.asked, shown.due_at) == (2, alert.released_at + timedelta(seconds=300))
    assert (await read_board(rig.deps, person("GB"))).coverage == []
    await rig.forward(seconds=300)
    assert (await read_board(rig.deps, RAISER)).coverage[0].state == "missed"
    await rig.forward(days=1, seconds=1)
    assert (await read_board(rig.deps, RAISER)).coverage == []
