"""Escalations under whatever may happen to them: people come and go, time passes, timers are late, answers arrive.

Hypothesis chooses the acts; the rules of the machine are what must hold after each of them (safety), and what must
come of it when nothing but time is left (liveness).
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from services.escalation.directory import Directory
from services.escalation.domain import (
    Acknowledge,
    DueTimeReached,
    End,
    Input,
    PageAccepted,
    PagesAttempted,
    RaiseLevel,
    TakePosition,
    decide,
)
from services.escalation.joining.domain import ASKED_STILL, add_contact, page_newcomers, stop_pages
from services.escalation.levels import next_level
from services.escalation.model import ANSWERED, UNANSWERED, DueReason, Escalation, Outcome
from services.escalation.opening import open_escalation
from services.escalation.paging import URGENT
from shared.clock import ManualClock
from shared.contracts import (
    Actor,
    ChannelName,
    EndReason,
    EscalationState,
    Gap,
    LevelRaised,
    LevelReason,
    PartnerUnreached,
    PlannedContact,
    PositionStance,
    Precedence,
)
from shared.errors import Rejected
from tests.support.escalation_cases import (
    MINUTE,
    OFFICE,
    T0,
    contact,
    directory,
    human,
    opening,
    plan,
    point,
    update,
)

XR = Actor(subject="xr-1", partner="XR")
LEVELS_MAX = 5
DEADLINE_REASONS = {LevelReason.DEADLINE_PASSED, LevelReason.REPEATED, LevelReason.RELEASED}


def reached_by_telephone(number: int, verified: tuple[bool, ...]) -> PlannedContact:
    """A person with a system, an SMS at once and a call after two minutes, as far as each is verified."""
    points = (
        *contact(number).points,
        point(f"sms-{number}", ChannelName.SMS),
        point(f"voice-{number}", ChannelName.VOICE).model_copy(update={"delay_seconds": 120}),
    )
    known = (one.model_copy(update={"verified": ok}) for one, ok in zip(points, verified, strict=True))
    return contact(number).model_copy(update={"points": tuple(known), "time_zone": "Asia/Tokyo"})


def with_telephones(verified: list[tuple[bool, ...]]) -> Directory:
    """A directory with a level for each person."""
    contacts = tuple(reached_by_telephone(number, flags) for number, flags in enumerate(verified, start=1))
    return directory(*[True] * len(contacts), contacts=contacts)


plans = st.one_of(
    st.lists(st.tuples(*[st.booleans()] * 3), min_size=1, max_size=LEVELS_MAX).map(with_telephones),
    st.lists(st.booleans(), min_size=1, max_size=LEVELS_MAX).map(lambda on_duty: directory(*on_duty)),
    st.lists(st.booleans(), min_size=1, max_size=LEVELS_MAX).map(
        lambda on_duty: Directory(plan=plan(*on_duty), readable=False)
    ),
    st.lists(st.sampled_from([None, 30, 120, 3600]), min_size=LEVELS_MAX, max_size=LEVELS_MAX).map(
        lambda waits: directory(*[True] * LEVELS_MAX, waits=waits)
    ),
    st.just(Directory(office=OFFICE)),
    st.just(Directory()),
)
stances = st.sampled_from(list(PositionStance))


class OneEscalation(RuleBasedStateMachine):
    """One partner's escalation of one alert, and of the Updates that correct it."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = ManualClock(T0)
        self.known = Directory()
        self.updates = 1
        self.levels_paged: set[int] = set()
        self.rung: set[UUID] = set()
        self.steps: list[Outcome] = []

    @property
    def now(self) -> datetime:
        return self.clock.now()

    @initialize(
        known=plans,
        precedence=st.sampled_from(list(Precedence)),
        late_minutes=st.sampled_from([0, 0, 1, 12, 45, 3000]),
        within=st.sampled_from([None, 60, 600, 100_000]),
        expires_minutes=st.sampled_from([7, 25, 200, 6000]),
    )
    def open(
        self, known: Directory, precedence: Precedence, late_minutes: int, within: int | None, expires_minutes: int
    ) -> None:
        self.known = known
        self.clock.advance(late_minutes * 60)
        request = opening(known, precedence, acknowledge_within_seconds=within)
        # What has expired before it arrives is opened as ended by the handler; here it lives for a while.
        expires_at = self.now + expires_minutes * MINUTE
        request = replace(request, alert=replace(request.alert, expires_at=expires_at))
        opened = open_escalation(request, self.now)
        self.escalation = opened.escalation
        self._follow(opened, before=None)

    # --- what happens -------------------------------------------------------------------------------------------------

    @rule(known=plans)
    def publish_plan(self, known: Directory) -> None:
        """People come and go, plans fail and recover. Whoever comes to a level that was reached is paged."""
        self.known = known
        joined = page_newcomers(self.escalation, known, self.rung, self.now)
        if joined is not None:
            assert not self.rung & {page.target.contact_point_id for page in joined.pages}, "each point once"
            self._join(joined)

    @rule(number=st.integers(1, LEVELS_MAX))
    def add(self, number: int) -> None:
        """Somebody is added."""
        before = self.escalation
        try:
            outcome = add_contact(before, contact(number).id, self.known, self.rung, self.now)
        except Rejected:
            return
        assert before.state in ASKED_STILL
        self._join(outcome)

    @rule(number=st.integers(1, LEVELS_MAX))
    def stop(self, number: int) -> None:
        """Somebody stops their own pages."""
        self._join(stop_pages(self.escalation, contact(number).id))

    @rule(minutes=st.sampled_from([0.1, 1, 4.9, 5, 9, 10, 61, 400]))
    def pass_time(self, minutes: float) -> None:
        """Time passes with the timers awake."""
        self._run_until(self.now + minutes * MINUTE)

    @rule(minutes=st.sampled_from([5, 16, 120, 2000]))
    def be_down(self, minutes: int) -> None:
        """Time passes while nothing runs; then every deadline is overdue at once."""
        self.clock.advance(minutes * 60)
        self._fire()

    @rule(accepted=st.booleans())
    @precondition(lambda self: self.escalation.paged)
    def deliver(self, accepted: bool) -> None:
        """A page was tried."""
        taken = PageAccepted(ChannelName.WEBHOOK, "Duty office", self.escalation.level) if accepted else None
        self._ask(PagesAttempted(self.now, taken))

    @rule(number=st.integers(1, 3))
    def acknowledge(self, number: int) -> None:
        """Somebody has it."""
        self._ask(Acknowledge(human(number)))
        assert self.escalation.acknowledged_at is not None

    @rule(stance=stances, number=st.integers(1, 3), minutes=st.integers(1, 500))
    def answer(self, stance: PositionStance, number: int, minutes: int) -> None:
        """The partner takes a position, or says that the wrong person was asked."""
        until = self.now + minutes * MINUTE if stance is PositionStance.CONSIDERING else None
        self._ask(TakePosition(stance, human(number), self.known, answer_by_at=until))

    @rule()
    def raise_by_hand(self) -> None:
        """The secretariat raises the level."""
        self._ask(RaiseLevel(XR, self.known))

    @rule(asks_anew=st.booleans(), precedence=st.sampled_from(list(Precedence)))
    @precondition(lambda self: self.escalation.state is not EscalationState.ENDED)
    def correct(self, asks_anew: bool, precedence: Precedence) -> None:
        """The raiser corrects the alert: the old escalation ends, and the Update's goes on from it."""
        old = self.escalation
        self.updates += 1
        outcome = update(
            old,
            self.known,
            self.now,
            asks_anew=asks_anew,
            precedence=precedence,
            number=str(self.updates),
            addressed_at=self.now,
            expires_at=self.now + 6000 * MINUTE,
        )
        if old.state in UNANSWERED:
            assert outcome.escalation.unreached_at is not None
            assert old.unreached_at is not None
            assert outcome.escalation.unreached_at <= old.unreached_at, "an Update never gives more time"
            assert outcome.escalation.level >= old.level
        if outcome.escalation.acknowledged_at is None and old.state in ANSWERED:
            self.levels_paged = set()
        self.rung = set()
        self._follow(outcome, before=None)

    @rule(reason=st.sampled_from([EndReason.CANCELLED, EndReason.CLOSED]))
    @precondition(lambda self: self.escalation.state is not EscalationState.ENDED and len(self.steps) > 12)
    def end(self, reason: EndReason) -> None:
        """The raiser ends the alert."""
        self._ask(End(reason, self.now))

    # --- how it is driven ---------------------------------------------------------------------------------------------

    def _join(self, outcome: Outcome) -> None:
        """Who is asked has changed, and nothing else: neither levels nor deadlines nor the answer."""
        changed = {"added", "stopped", "paged", "one_provider"}
        before, after = vars(self.escalation), vars(outcome.escalation)
        assert {name for name in before if before[name] != after[name]} <= changed
        assert outcome.events == ()
        self._note_pages(outcome)
        self.steps.append(outcome)
        self.escalation = outcome.escalation

    def _note_pages(self, outcome: Outcome) -> None:
        points = [page.target.contact_point_id for page in outcome.pages]
        assert len(points) == len(set(points)), "one decision rings one contact point once"
        assert all(outcome.escalation.still_asks(page.target) for page in outcome.pages if page.asks), "who has stopped"
        urgent = outcome.escalation.alert.precedence in URGENT
        for page in outcome.pages:
            assert page.delay_seconds >= page.target.delays.urgent_seconds * urgent, "no point before its turn"
            assert not urgent or page.delay_seconds == page.target.delays.urgent_seconds, "no quiet rule holds it back"
        self.rung |= set(points)

    def _ask(self, command: Input) -> None:
        before = self.escalation
        try:
            outcome = decide(before, command, self.now)
        except Rejected:
            return
        self._follow(outcome, before)

    def _fire(self) -> None:
        for _ in range(100):
            due_at = self.escalation.due_at
            if due_at is None or due_at > self.now:
                return
            self._ask(DueTimeReached(self.known))
        raise AssertionError("a due time that has come was never moved on")

    def _run_until(self, at: datetime) -> None:
        for _ in range(5000):
            due_at = self.escalation.due_at
            if due_at is None or due_at > at:
                break
            self.clock.advance(max(0.0, (due_at - self.now).total_seconds()))
            self._fire()
        self.clock.advance(max(0.0, (at - self.now).total_seconds()))

    def _follow(self, outcome: Outcome, before: Escalation | None) -> None:
        after = outcome.escalation
        self.steps.append(outcome)
        raised = [event for event in outcome.events if isinstance(event, LevelRaised)]
        levels = {page.level for page in outcome.pages if page.level}
        if before is not None:
            self._check_step(before, outcome, raised)
            highest = max({event.level for event in raised} | {after.level})
            assert all(level <= highest for level in levels), "no page of a level that was not announced"
            if outcome.pages:
                assert raised, "no page without a LevelRaised"
        self._note_pages(outcome)
        self.levels_paged |= levels
        self.escalation = after

    def _check_step(self, before: Escalation, outcome: Outcome, raised: list[Any]) -> None:
        after = outcome.escalation
        if before.state is EscalationState.ENDED:
            assert outcome.pages == (), "after the end nothing pages"
            assert after.state is EscalationState.ENDED
        if before.state in ANSWERED and after.state in ANSWERED:
            reasons = {event.reason for event in raised}
            assert not reasons & DEADLINE_REASONS, "no deadline from before an acknowledgement raises a level after it"
        if after.due_at is not None and after.due_at != before.due_at:
            assert after.due_at >= min(self.now, before.due_at or self.now), "due times never move back before now"
        if before.state in UNANSWERED and after.state in UNANSWERED and before.acknowledged_at is None:
            assert after.unreached_at == before.unreached_at, "nothing gives an unanswered partner more time"
        self._check_no_level_is_skipped(before, after)
        for event in outcome.events:
            if isinstance(event, PartnerUnreached):
                self._check_unreached(before)

    def _check_no_level_is_skipped(self, before: Escalation, after: Escalation) -> None:
        begin = before.level if before.levels == after.levels else 0
        for number in range(begin + 1, after.level + 1):
            if number in self.levels_paged or any(page.level == number for page in self.steps[-1].pages):
                continue
            named = {Gap.EMPTY_LEVEL, Gap.NO_REACHABLE_POINT, Gap.ALL_LEVELS_EMPTY}
            raised = [event for event in self.steps[-1].events if isinstance(event, LevelRaised)]
            rung = any(number == event.level for event in raised)
            assert rung or after.stopped or named & set(after.gaps), f"level {number} was skipped and no gap says so"

    def _check_unreached(self, before: Escalation) -> None:
        assert before.unreached_at is not None
        assert self.now >= before.unreached_at, "nobody is unreached early"
        found, targets, _ = next_level(before, self.known, before.level, self.now)
        assert not (targets and found > before.level), "unreached only after every reachable level was paged"
        if before.first_attempt_at is not None:
            interval = timedelta(seconds=before.interval_seconds)
            assert self.now >= before.first_attempt_at + interval, "one interval after the first attempt at least"

    # --- what always holds --------------------------------------------------------------------------------------------

    @invariant()
    def has_a_due_time_while_it_is_open(self) -> None:
        """I2: none is open without a due time, and what has ended has none."""
        escalation = self.escalation
        assert (escalation.due_at is None) == (escalation.state is EscalationState.ENDED)
        assert (escalation.due_reason is None) == (escalation.due_at is None)
        if escalation.due_at is not None:
            assert escalation.due_at <= escalation.expires_at

    @invariant()
    def state_and_answer_agree(self) -> None:
        """Answered states name who answered; unanswered ones name nobody."""
        escalation = self.escalation
        if escalation.state in ANSWERED:
            assert escalation.acknowledged_by is not None
        if escalation.state in UNANSWERED:
            assert escalation.acknowledged_by is None
            assert escalation.due_reason in (DueReason.NEXT_LEVEL, DueReason.UNREACHED, DueReason.EXPIRY)
        if escalation.state is EscalationState.CONSIDERING:
            assert escalation.position is not None

    def teardown(self) -> None:
        """Liveness: when nothing but time is left, every escalation is answered, unreached, or ended."""
        if not hasattr(self, "escalation"):
            return
        self._run_until(max(self.now, self.escalation.unreached_at or self.now) + timedelta(days=3))
        assert self.escalation.state not in UNANSWERED
        self._run_until(self.escalation.expires_at)
        assert self.escalation.state is EscalationState.ENDED
        assert self.escalation.due_at is None


TestOneEscalation = OneEscalation.TestCase
TestOneEscalation.settings = settings(
    max_examples=80,
    stateful_step_count=25,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
TestOneEscalation = pytest.mark.timeout(300)(TestOneEscalation)
