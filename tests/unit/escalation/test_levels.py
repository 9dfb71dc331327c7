"""When each level is paged, and what is done about those that are empty, overdue, or left."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.escalation.directory import Directory
from services.escalation.domain import RaiseLevel, decide
from services.escalation.model import DueReason
from shared.contracts import (
    DEFAULT_DEADLINES,
    Actor,
    EscalationState,
    Gap,
    LevelRaised,
    LevelReason,
    PartnerUnreached,
    Precedence,
)
from tests.support.escalation_cases import MINUTE, T0, begin, directory, facts, people, plan

XR = Actor(subject="xr-1", partner="XR")


@pytest.mark.parametrize(
    ("precedence", "minutes", "unreached"),
    [
        (Precedence.FLASH, [0, 10, 15, 20, 25], 30),
        (Precedence.IMMEDIATE, [0, 30, 45, 60, 75], 90),
        (Precedence.PRIORITY, [0, 180, 240, 300], 360),
        (Precedence.ROUTINE, [0, 1440], 2880),
    ],
)
def test_each_precedence_has_its_step_times(precedence: Precedence, minutes: list[float], unreached: int) -> None:
    """Level 1 at release, level 2 at the acknowledge-by time, then one interval each, the last level repeating."""
    story = begin(directory(True, True), precedence).until(T0 + unreached * MINUTE - timedelta(seconds=1))
    assert [at for at, _ in story.log] == minutes
    assert [who for _, who in story.log] == [["person-1"], *[["person-2"]] * (len(minutes) - 1)]
    assert story.named(PartnerUnreached) == []
    assert story.until(T0 + unreached * MINUTE).escalation.state is EscalationState.UNREACHED
    assert len(story.named(PartnerUnreached)) == 1


def test_more_levels_come_one_interval_after_another() -> None:
    """Level 2 at the acknowledge-by time, each further level one interval later."""
    story = begin(directory(True, True, True, True)).until(T0 + 21 * MINUTE)
    assert story.log == [(0, ["person-1"]), (10, ["person-2"]), (15, ["person-3"]), (20, ["person-4"])]


def test_levels_that_would_not_fit_are_paged_at_the_last_step() -> None:
    """Nobody is called unreached while a level was never paged: the last step before it takes all that are left."""
    story = begin(directory(*[True] * 8)).until(T0 + 40 * MINUTE)
    assert story.log[-1] == (25.0, ["person-5", "person-6", "person-7", "person-8"])
    assert story.escalation.state is EscalationState.UNREACHED
    assert story.escalation.level == 8


def test_a_precedence_without_interval_pages_all_that_is_left_at_its_acknowledge_by_time() -> None:
    """ROUTINE names no interval: the levels beyond the second come with the second, and nothing repeats."""
    story = begin(directory(True, True, True), Precedence.ROUTINE).until(T0 + timedelta(hours=47))
    assert story.log == [(0, ["person-1"]), (1440, ["person-2", "person-3"])]


def test_a_partners_wait_shortens_the_step() -> None:
    """A partner that waits two minutes after level 1 has level 2 paged after two minutes; the rest follows from
    there.
    """
    story = begin(directory(True, True, True, waits=[120, None, None])).until(T0 + 13 * MINUTE)
    assert story.log == [(0, ["person-1"]), (2, ["person-2"]), (7, ["person-3"]), (12, ["person-3"])]


def test_a_partners_wait_never_lengthens_a_step() -> None:
    """A policy that waits an hour changes nothing at FLASH."""
    story = begin(directory(True, True, True, waits=[3600, 3600, 3600])).until(T0 + 26 * MINUTE)
    assert [at for at, _ in story.log] == [0, 10, 15, 20, 25]


def test_a_wait_after_the_last_level_rings_nobody_every_second() -> None:
    """The last level repeats sooner if its partner says so, but at most once a minute."""
    story = begin(directory(True, True, waits=[60, 1])).until(T0 + 4 * MINUTE)
    assert [at for at, _ in story.log] == [0, 1, 2, 3, 4]


def test_the_alerts_own_time_shortens_the_tables() -> None:
    """An alert that wants an answer within four minutes has level 2 paged then."""
    story = begin(directory(), acknowledge_within_seconds=240).until(T0 + 10 * MINUTE)
    assert [at for at, _ in story.log] == [0, 4, 9]


def test_the_alerts_own_time_never_lengthens_the_tables() -> None:
    """An alert may not give a partner longer than its precedence does."""
    story = begin(directory(), acknowledge_within_seconds=7200).until(T0 + 10 * MINUTE)
    assert [at for at, _ in story.log] == [0, 10]


def test_deadlines_without_room_leave_level_two_its_interval() -> None:
    """A table in which nobody is waited for after the acknowledge-by time gives level 2 one interval all the same."""
    tight = DEFAULT_DEADLINES[Precedence.FLASH].model_copy(update={"unreached_after_seconds": 600})
    story = begin(directory(), deadlines=tight).until(T0 + 14 * MINUTE)
    assert story.log == [(0, ["person-1"]), (10, ["person-2"])]
    assert story.until(T0 + 15 * MINUTE).escalation.state is EscalationState.UNREACHED


@pytest.mark.parametrize(
    ("on_duty", "expected"),
    [
        ((False, True, True), [(0, ["person-2"]), (10, ["person-3"]), (15, ["person-3"])]),
        ((True, False, True), [(0, ["person-1"]), (10, ["person-3"]), (15, ["person-3"])]),
        ((True, True, False), [(0, ["person-1"]), (10, ["person-2"]), (15, ["person-2"])]),
    ],
)
def test_an_empty_level_is_skipped_at_once(on_duty: tuple[bool, ...], expected: list[tuple[float, list[str]]]) -> None:
    """First, middle or last: a level whose rota is empty is never waited for, and the gap is shown."""
    story = begin(directory(*on_duty)).until(T0 + 16 * MINUTE)
    assert story.log == expected
    assert Gap.EMPTY_LEVEL in story.escalation.gaps


def test_a_level_of_people_without_a_usable_point_is_skipped_too() -> None:
    """A person whom no channel of this installation reaches cannot be rung: the gap says so."""
    known = Directory(plan=plan(True, True), channels=frozenset())
    story = begin(known)
    assert story.log == []
    assert {Gap.NO_REACHABLE_POINT, Gap.ALL_LEVELS_EMPTY} <= set(story.escalation.gaps)


def test_if_every_level_is_empty_the_duty_office_is_paged() -> None:
    """Nobody on duty anywhere: the office rings, at every step, and the gap is shown."""
    story = begin(directory(False, False)).until(T0 + 11 * MINUTE)
    assert story.log == [(0, ["office"]), (10, ["office"])]
    assert Gap.ALL_LEVELS_EMPTY in story.escalation.gaps


def test_a_gap_appears_with_the_step_that_met_it() -> None:
    """LevelRaised names the gaps that were passed on the way."""
    story = begin(directory(True, False, True)).until(T0 + 10 * MINUTE)
    (raised,) = story.named(LevelRaised)
    assert (raised.level, raised.gaps, raised.told) == (3, (Gap.EMPTY_LEVEL,), ("Senior contact 3",))


def test_overdue_levels_are_paged_together() -> None:
    """After an outage every level whose time has come is paged at once, each once, with the reason of each."""
    story = begin(directory(True, True, True, True))
    outcome = story.overdue(T0 + 16 * MINUTE)
    assert people(outcome) == ["person-2", "person-3"]
    assert story.escalation.due_at == T0 + 20 * MINUTE
    assert [event.reason for event in story.named(LevelRaised)] == [LevelReason.DEADLINE_PASSED] * 2


def test_after_an_outage_whoever_is_paged_late_has_one_interval() -> None:
    """Overdue beyond `unreached`: the levels are paged, and one interval passes before the partner is unreached."""
    story = begin(directory())
    assert people(story.overdue(T0 + 200 * MINUTE)) == ["person-2"]
    assert story.until(T0 + 204 * MINUTE).escalation.state is EscalationState.NOTIFIED
    assert story.until(T0 + 205 * MINUTE).escalation.state is EscalationState.UNREACHED


def test_a_release_that_arrives_late_pages_everything_that_is_due_and_waits_one_interval() -> None:
    """The clock runs from release; an arrival after the whole of it still gives every level one interval."""
    story = begin(directory(), at=T0 + 45 * MINUTE)
    assert story.log == [(45, ["person-1", "person-2"])]
    assert story.until(T0 + 49 * MINUTE).escalation.state is EscalationState.NOTIFIED
    assert story.until(T0 + 50 * MINUTE).escalation.state is EscalationState.UNREACHED


def test_nobody_is_unreached_sooner_than_one_interval_after_the_first_attempt() -> None:
    """Pages that could not leave until minute 28 are waited for until minute 33."""
    story = begin(directory(), accepts=False).until(T0 + 28 * MINUTE)
    story.accepts = True
    story.take(decide(story.escalation, RaiseLevel(by=XR, directory=story.known), T0 + 28 * MINUTE), T0 + 28 * MINUTE)
    assert story.until(T0 + 32 * MINUTE).escalation.state is EscalationState.NOTIFIED
    assert story.until(T0 + 33 * MINUTE).escalation.state is EscalationState.UNREACHED


def test_pages_that_never_left_are_waited_for_once() -> None:
    """A sender that is down gets one interval; then the partner is unreached, and people are told."""
    story = begin(directory(), accepts=False).until(T0 + 34 * MINUTE)
    assert story.escalation.state is EscalationState.PENDING
    assert story.until(T0 + 35 * MINUTE).escalation.state is EscalationState.UNREACHED


def test_a_repeat_after_two_days_of_outage_is_one_page() -> None:
    """However many repeats were missed, the last level is rung once, and the next is due in the future."""
    known = directory(waits=[None, 60])
    story = begin(known, Precedence.PRIORITY)
    outcome = story.overdue(T0 + 300 * MINUTE + timedelta(seconds=30))
    assert people(outcome) == ["person-2"]
    assert story.escalation.due_at == T0 + 301 * MINUTE


def test_one_contact_point_is_rung_once_in_one_decision() -> None:
    """Who holds two overdue levels is paged once for both."""
    published = plan(True, True)
    same = published.rotas[0].model_copy(update={"id": published.rotas[1].id})
    known = Directory(plan=published.model_copy(update={"rotas": (published.rotas[0], same)}))
    assert begin(known, at=T0 + 11 * MINUTE).log == [(11, ["person-1"])]


def test_the_secretariat_raises_a_level_now() -> None:
    """By hand the next level is paged at once; the event says who did it, and nothing is put off by it."""
    story = begin(directory(True, True, True)).until(T0)
    story.take(decide(story.escalation, RaiseLevel(by=XR, directory=story.known), T0 + 2 * MINUTE), T0 + 2 * MINUTE)
    (raised,) = story.named(LevelRaised)
    assert (raised.level, raised.reason, raised.raised_by) == (2, LevelReason.RAISED_BY_HAND, XR)
    story.until(T0 + 8 * MINUTE)
    assert story.log == [(0, ["person-1"]), (2, ["person-2"]), (7, ["person-3"])]


def test_raising_by_hand_never_delays_the_clock() -> None:
    """Raised by hand half a minute before the next level was due, that one is still due then."""
    story = begin(directory(True, True, True))
    at = T0 + 9.5 * MINUTE
    story.take(decide(story.escalation, RaiseLevel(by=XR, directory=story.known), at), at)
    assert story.escalation.due_at == T0 + 10 * MINUTE


def test_level_people_come_from_the_newest_plan_and_waits_from_the_opening() -> None:
    """A shift change between two levels is honoured; a changed policy is not, until the next alert."""
    story = begin(directory(True, True))
    newer = plan(True, True, True, waits=[60, 60, 60])
    swapped = newer.rotas[1].model_copy(
        update={"shifts": (newer.rotas[1].shifts[0].model_copy(update={"contact_id": newer.contacts[2].id}),)}
    )
    story.known = Directory(plan=newer.model_copy(update={"rotas": (newer.rotas[0], swapped, newer.rotas[2])}))
    assert story.until(T0 + 15 * MINUTE).log == [(0, ["person-1"]), (10, ["person-3"]), (15, ["person-3"])]


def test_the_partners_system_hears_of_each_further_level() -> None:
    """Endpoints are paged once per alert; afterwards they are told that a level was raised, and asked nothing."""
    story = begin(directory())
    outcome = story.overdue(T0 + 10 * MINUTE)
    notices = [page for page in outcome.pages if page.target.sealed_address == "system"]
    assert [(page.message_type, page.asks) for page in notices] == [("level.raised", False)]


def test_a_step_beyond_expiry_is_the_expiry() -> None:
    """An alert that expires before the next step ends by itself at its expiry, and nobody is rung after it."""
    story = begin(directory())
    assert story.escalation.due_reason is DueReason.NEXT_LEVEL
    brief = begin(directory(), alert=facts(expires_at=T0 + 8 * MINUTE))
    assert (brief.escalation.due_at, brief.escalation.due_reason) == (T0 + 8 * MINUTE, DueReason.EXPIRY)
    assert brief.until(T0 + 60 * MINUTE).escalation.state is EscalationState.ENDED
    assert brief.log == [(0, ["person-1"])]


def test_a_plan_that_arrives_late_is_used_from_its_first_level() -> None:
    """An escalation that opened without a plan rings the office; once a plan is known, level 1 comes next, not 2."""
    office_only = Directory(office=plan().office)
    story = begin(office_only)
    assert story.log == [(0, ["office"])]
    assert Gap.NO_DUTY_PLAN in story.escalation.gaps
    story.known = directory(True, True)
    story.until(T0 + 15 * MINUTE)
    assert story.log[1:] == [(10, ["person-1"]), (15, ["person-2"])]
    assert Gap.NO_DUTY_PLAN not in story.escalation.gaps
