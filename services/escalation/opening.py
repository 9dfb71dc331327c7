"""How an escalation begins: fresh, carried over from the message that an Update corrects, or as a takeover.

An Update carries clock, level and answer of its predecessor over and takes the earlier of each deadline, so that
correcting a message again and again never keeps a partner from the next level. `asks_anew` reopens those who had
answered.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from services.escalation.directory import Directory
from services.escalation.levels import NEVER, gap_tuple, level_pages, raise_due_levels, unreached_event
from services.escalation.model import (
    ANSWERED,
    INTERVAL_SECONDS_DEFAULT,
    LEVELS_MAX,
    TAKEOVER_ASK_AGAIN_SECONDS,
    UNANSWERED,
    AlertFacts,
    DueReason,
    Escalation,
    Outcome,
    about,
    asking_type,
    changed,
    earlier,
    planned,
    planned_in_order,
    with_due,
)
from shared.contracts import (
    Deadlines,
    EndReason,
    EscalationKind,
    EscalationState,
    Gap,
    LevelReason,
    LevelTarget,
    PartnerAcknowledged,
    PartnerUnreached,
    PlannedLevel,
    PositionStance,
)


@dataclass(frozen=True, slots=True)
class Opening:
    """Everything that opening one escalation takes. `predecessor_attempts`: how many were made for that one."""

    id: UUID
    alert: AlertFacts
    partner: str
    kind: Literal[EscalationKind.ANSWER, EscalationKind.INFORMATION]
    addressed_at: datetime
    directory: Directory
    deadlines: Deadlines
    acknowledge_within_seconds: int | None = None
    predecessor: Escalation | None = None
    predecessor_attempts: int = 0
    ended_reason: EndReason | None = None
    ended_at: datetime | None = None


def open_escalation(opening: Opening, now: datetime) -> Outcome:
    """Opens one partner's escalation with its first pages; already ended if the end came before the beginning.

    An Update carries clock, level and answer of its predecessor over and takes the earlier deadline, so that
    correcting a message again and again never keeps a partner from the next level. `asks_anew` reopens those who had
    answered.
    """
    predecessor = opening.predecessor
    if predecessor is not None and predecessor.state is EscalationState.ENDED:
        predecessor = _before_expiry(predecessor)
    fresh = _fresh(opening, now)
    if opening.ended_reason is not None:
        answered = predecessor is not None and predecessor.state in ANSWERED and not opening.alert.asks_anew
        return Outcome(
            replace(
                _with_answer(fresh, predecessor) if predecessor is not None and answered else fresh,
                state=EscalationState.ENDED,
                ended_at=opening.ended_at or now,
                end_reason=opening.ended_reason,
                due_at=None,
                due_reason=None,
            )
        )
    message_type = asking_type(fresh)
    if predecessor is None or predecessor.kind is EscalationKind.INFORMATION:
        return _first_pages(fresh, opening.directory, message_type, now)
    # Who owed an answer goes on owing it, whatever the Update says: no correction releases a partner.
    fresh = replace(fresh, kind=EscalationKind.ANSWER)
    if predecessor.state in ANSWERED:
        if opening.alert.asks_anew:
            # What was owed before was answered: the clock of the new question starts with its own release.
            fresh = replace(fresh, clock_started_at=min(max(opening.alert.released_at, opening.addressed_at), now))
            return _first_pages(fresh, opening.directory, message_type, now)
        return _carry_answer(fresh, predecessor, opening.directory, message_type, now)
    return _carry_clock(fresh, opening, predecessor, message_type, now)


def open_all(openings: Iterable[Opening], now: datetime) -> Iterator[Outcome]:
    """`open_escalation` of each, one after the other.

    Most partners of a release open alike: by the same clock, with pages of level 1 alone. That decision is
    made once and filled in for the others, in less than half the time.
    """
    patterns: list[_Pattern] = []
    for opening in openings:
        alike = (pattern.filled(opening, now) for pattern in patterns)
        outcome = next((filled for filled in alike if filled is not None), None)
        if outcome is None:
            outcome = open_escalation(opening, now)
            if len(patterns) < PATTERNS_MAX and _Pattern.is_given_by(opening, outcome):
                patterns.append(_Pattern(opening, outcome.escalation))
        yield outcome


PATTERNS_MAX = 4
"""Few different waits occur in one release; looking through many patterns would cost what they save."""


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One opening, and the escalation that it came to, for openings that differ in partner and people only.

    What else a decision depends on is the clock, which `filled` compares, and whom the levels reach: as long as level 1
    reaches somebody and no gap is to be told, nothing above it is looked at.
    """

    opening: Opening
    escalation: Escalation

    @staticmethod
    def is_given_by(opening: Opening, outcome: Outcome) -> bool:
        """Whether others may open alike."""
        opened = outcome.escalation
        return (
            _is_plain(opening)
            and opened.paged
            and opened.level == 1
            and opened.due_reason is DueReason.NEXT_LEVEL
            and not opened.gaps
            and not outcome.events
        )

    def filled(self, opening: Opening, now: datetime) -> Outcome | None:
        """The outcome for another opening; None if it is not alike."""
        levels = opening.directory.levels()[:LEVELS_MAX]
        if not (_is_plain(opening) and self._has_clock_of(opening, levels)) or opening.directory.gap(now) is not None:
            return None
        targets, _gap = opening.directory.at_level(levels[0], now)
        message_type, precedence = asking_type(self.escalation), opening.alert.precedence
        pages = planned_in_order(targets, message_type, level=1, asks=True, precedence=precedence, now=now)
        if not pages:
            return None
        endpoints = planned(opening.directory.endpoint_targets(), message_type, level=0, asks=True)
        single = any(target.is_single_way for target in targets)
        opened = changed(self.escalation, id=opening.id, partner=opening.partner, levels=levels, one_provider=single)
        return Outcome(opened, pages=(*endpoints, *pages))

    def _has_clock_of(self, other: Opening, levels: Sequence[PlannedLevel]) -> bool:
        mine, known = self.opening, self.escalation.levels
        return (
            other.alert is mine.alert
            and other.addressed_at == mine.addressed_at
            and other.acknowledge_within_seconds == mine.acknowledge_within_seconds
            and (other.deadlines is mine.deadlines or other.deadlines == mine.deadlines)
            and len(levels) == len(known)
            and all(level.wait_seconds == own.wait_seconds for level, own in zip(levels, known, strict=True))
        )


def _is_plain(opening: Opening) -> bool:
    """Whether nothing came before: no predecessor and no end."""
    return opening.kind is EscalationKind.ANSWER and opening.predecessor is None and opening.ended_reason is None


def _fresh(opening: Opening, now: datetime) -> Escalation:
    alert, deadlines = opening.alert, opening.deadlines
    # A release dated ahead comes from another node's clock: it starts on arrival.
    start_at = min(max(alert.released_at, opening.addressed_at), now)
    within = deadlines.acknowledge_within_seconds
    if opening.acknowledge_within_seconds is not None:
        within = min(within, opening.acknowledge_within_seconds)
    unreached_after = deadlines.unreached_after_seconds
    if unreached_after <= within:
        # The second level is paged at the acknowledge-by time: it gets one interval before the partner is unreached.
        unreached_after = within + (deadlines.next_level_every_seconds or INTERVAL_SECONDS_DEFAULT)
    return Escalation(
        id=opening.id,
        alert=alert,
        partner=opening.partner,
        kind=opening.kind,
        opened_at=now,
        clock_started_at=min(opening.addressed_at, now),
        expires_at=alert.expires_at,
        levels=opening.directory.levels()[:LEVELS_MAX],
        acknowledge_by_at=start_at + timedelta(seconds=within),
        next_level_every_seconds=deadlines.next_level_every_seconds,
        unreached_at=start_at + timedelta(seconds=unreached_after),
        position_by_at=start_at + timedelta(seconds=deadlines.position_within_seconds),
        due_at=start_at,
        due_reason=DueReason.NEXT_LEVEL,
    )


def _first_pages(fresh: Escalation, directory: Directory, message_type: str, now: datetime) -> Outcome:
    endpoints = planned(directory.endpoint_targets(), message_type, level=0, asks=True)
    if fresh.kind is EscalationKind.INFORMATION:
        # A partner that is only informed owes no answer: one page to office and endpoints, final when one is accepted.
        office = planned_in_order(
            directory.office_targets(), message_type, level=0, asks=True, precedence=fresh.alert.precedence, now=now
        )
        pages = (*endpoints, *office)
        informed = replace(fresh, levels=(), acknowledge_by_at=None, unreached_at=None, position_by_at=None)
        gaps = gap_tuple(directory.gap(now)) or (() if pages else (Gap.NO_REACHABLE_POINT,))
        return Outcome(
            replace(with_due(informed, fresh.expires_at, DueReason.EXPIRY), paged=bool(pages), gaps=gaps), pages=pages
        )
    # The opening itself is announced by EscalationsStarted, so level 1 needs no LevelRaised of its own.
    raised = raise_due_levels(fresh, directory, message_type, LevelReason.RELEASED, now, first_is_announced=True)
    if not endpoints:
        return raised
    return Outcome(changed(raised.escalation, paged=True), events=raised.events, pages=(*endpoints, *raised.pages))


def _carry_answer(
    fresh: Escalation, old: Escalation, directory: Directory, message_type: str, now: datetime
) -> Outcome:
    """Told to the endpoints and to the levels that the first message reached; nothing is asked anew."""
    pages = (
        *planned(directory.endpoint_targets(), message_type, level=0, asks=False),
        *level_pages(old, directory, message_type, now, asks=False),
    )
    carried = replace(_with_answer(fresh, old), paged=old.paged or bool(pages), first_attempt_at=old.first_attempt_at)
    return Outcome(carried, pages=pages)


def _before_expiry(ended: Escalation) -> Escalation | None:
    """The answer of a predecessor whose time ran out before its renewal arrived; None: it gives nothing on.

    A message is renewed by an Update, often at the last minute. Whoever had answered by then is not asked again only
    because the Update took longer than that minute.
    """
    if ended.end_reason is not EndReason.EXPIRED or ended.acknowledged_at is None:
        return None
    state, due_at = EscalationState.ACKNOWLEDGED, ended.position_by_at
    if ended.position is not None and ended.position.stance is not PositionStance.WRONG_PERSON:
        state, due_at = EscalationState(ended.position.stance.value), ended.position.answer_by_at
    if due_at is None or ended.position_reminders:
        return replace(ended, state=state, due_at=NEVER, due_reason=DueReason.EXPIRY)
    return replace(ended, state=state, due_at=due_at, due_reason=DueReason.POSITION)


def _with_answer(escalation: Escalation, old: Escalation) -> Escalation:
    """The escalation with the other's answer, and with what is still owed after it."""
    assert old.due_at is not None
    assert old.due_reason is not None
    due_at, due_reason = old.due_at, old.due_reason
    if due_reason is DueReason.EXPIRY:
        # The end of the message before is not ours: what its end had cut off is owed by its own time.
        due_at, due_reason = _position_owed(old) or (escalation.expires_at, DueReason.EXPIRY)
    return replace(
        with_due(escalation, due_at, due_reason),
        state=old.state,
        levels=old.levels,
        level=old.level,
        added=old.added,
        stopped=old.stopped,
        taken_over_by=old.taken_over_by,
        taken_over_at=old.taken_over_at,
        notified_at=old.notified_at,
        clock_started_at=min(escalation.clock_started_at, old.clock_started_at),
        acknowledge_by_at=old.acknowledge_by_at,
        unreached_at=old.unreached_at,
        position_by_at=old.position_by_at,
        position_reminders=old.position_reminders,
        acknowledged_at=old.acknowledged_at,
        acknowledged_by=old.acknowledged_by,
        asserted_by_system=old.asserted_by_system,
        acknowledged_via=old.acknowledged_via,
        late=old.late,
        position=old.position,
    )


def _position_owed(old: Escalation) -> tuple[datetime, DueReason] | None:
    """By when somebody who has answered still owes a position; None: they owe none, or were reminded of it already."""
    if old.position_reminders:
        return None
    by_at = old.position_by_at if old.state is EscalationState.ACKNOWLEDGED else None
    if old.state is EscalationState.CONSIDERING and old.position is not None:
        by_at = old.position.answer_by_at
    return None if by_at is None else (by_at, DueReason.POSITION)


def _carry_clock(fresh: Escalation, opening: Opening, old: Escalation, message_type: str, now: datetime) -> Outcome:
    """Unanswered: level and clock go on, and everybody whom the first message reached gets the correction."""
    assert old.due_at is not None
    directory = opening.directory
    carried = replace(
        _with_earlier_deadlines(fresh, old),
        levels=old.levels or fresh.levels,
        level=old.level,
        first_attempt_at=old.first_attempt_at,
        unreached_postponed=old.unreached_postponed,
        gaps=old.gaps,
        added=old.added,
        # What asks anew asks everybody.
        stopped=() if fresh.alert.asks_anew else old.stopped,
    )
    pages = (
        *planned(directory.endpoint_targets(), message_type, level=0, asks=True),
        *level_pages(carried, directory, message_type, now, asks=True),
    )
    carried = replace(carried, paged=old.paged or bool(pages))
    if old.state is EscalationState.UNREACHED:
        carried = replace(
            with_due(carried, carried.expires_at, DueReason.EXPIRY),
            state=EscalationState.UNREACHED,
            taken_over_by=old.taken_over_by,
            taken_over_at=old.taken_over_at,
        )
        event = unreached_event(carried, directory, opening.predecessor_attempts, now)
        return Outcome(carried, events=(event,), pages=pages)
    # The earlier of the two next steps; between them and `unreached` nothing is put off. What was granted after an
    # outage (one interval for whoever was paged late) is part of the clock that goes on.
    unreached_at, step_at = carried.unreached_at, fresh.acknowledge_by_at
    assert unreached_at is not None
    if old.due_reason is DueReason.NEXT_LEVEL:
        step_at = earlier(step_at, old.due_at)
    if step_at is not None and step_at < unreached_at:
        return Outcome(with_due(carried, step_at, DueReason.NEXT_LEVEL), pages=pages)
    if old.due_reason is DueReason.UNREACHED and old.unreached_at is not None and old.due_at > old.unreached_at:
        unreached_at = old.due_at
    return Outcome(with_due(carried, unreached_at, DueReason.UNREACHED), pages=pages)


def merge_late_predecessor(escalation: Escalation, old: Escalation) -> Outcome:
    """The Update's escalation once its predecessor's release has arrived after it: any order ends in the same state.

    `old` is the predecessor as it would stand now if it had come first. Its earlier deadlines, its interval and its
    answer (unless the Update asks anew) are taken over; a level that it would have reached is due at once.
    """
    if escalation.kind is not EscalationKind.ANSWER or old.kind is not EscalationKind.ANSWER:
        return Outcome(escalation)
    if escalation.state not in UNANSWERED:
        return Outcome(escalation)
    if old.state in ANSWERED:
        if escalation.alert.asks_anew:
            return Outcome(escalation)
        return _merge_answer(escalation, old)
    merged = _with_earlier_deadlines(escalation, old)
    due_at, due_reason = escalation.due_at, escalation.due_reason
    assert due_at is not None
    assert due_reason is not None
    if old.due_reason is DueReason.NEXT_LEVEL and old.due_at is not None and old.due_at < due_at:
        due_at, due_reason = old.due_at, DueReason.NEXT_LEVEL
    if old.level > escalation.level and old.acknowledge_by_at is not None:
        due_at, due_reason = min(due_at, old.acknowledge_by_at), DueReason.NEXT_LEVEL
    if merged.unreached_at is not None and due_at >= merged.unreached_at:
        due_at, due_reason = merged.unreached_at, DueReason.UNREACHED
    return Outcome(with_due(merged, due_at, due_reason))


def _merge_answer(escalation: Escalation, old: Escalation) -> Outcome:
    assert old.acknowledged_at is not None
    assert old.acknowledged_by is not None
    merged = replace(
        _with_answer(escalation, old), level=max(escalation.level, old.level), notified_at=escalation.notified_at
    )
    event = PartnerAcknowledged(
        **about(merged),
        acknowledged_at=old.acknowledged_at,
        acknowledged_by=old.acknowledged_by,
        asserted_by_system=old.asserted_by_system,
        via="carried_over",
        late=old.late,
        seconds_from_release=(old.acknowledged_at - merged.clock_started_at).total_seconds(),
    )
    return Outcome(merged, events=(event,), stops_pages=True)


def _with_earlier_deadlines(escalation: Escalation, old: Escalation) -> Escalation:
    intervals = [e.next_level_every_seconds for e in (escalation, old) if e.next_level_every_seconds is not None]
    return replace(
        escalation,
        clock_started_at=min(escalation.clock_started_at, old.clock_started_at),
        acknowledge_by_at=earlier(escalation.acknowledge_by_at, old.acknowledge_by_at),
        next_level_every_seconds=min(intervals, default=None),
        unreached_at=earlier(escalation.unreached_at, old.unreached_at),
        position_by_at=earlier(escalation.position_by_at, old.position_by_at),
    )


def facts_of_unreached(event: PartnerUnreached) -> AlertFacts:
    """What a takeover needs to know of an alert whose release has not arrived at this node yet."""
    return AlertFacts(
        alert_id=event.alert_id,
        root_alert_id=event.root_alert_id,
        reference=event.reference,
        raiser=event.raiser,
        status=event.status,
        precedence=event.precedence,
        tlp=event.tlp,
        released_at=event.unreached_at,
        expires_at=event.expires_at,
        released_by=event.released_by,
        answers_visible_to=event.answers_visible_to,
    )


def open_takeover(
    *,
    id: UUID,  # noqa: A002 - the row's own name for it
    event: PartnerUnreached,
    taker: str,
    directory: Directory,
    deadlines: Deadlines,
    brief: Mapping[str, Any],
    now: datetime,
) -> Outcome:
    """Opens the escalation by which `taker` (raiser or secretariat) is asked to take an unreached partner over.

    The raising officer is paged first if on duty. It repeats by the alert's interval until a human takes over, the
    partner acknowledges, or the alert ends; it never becomes unreached itself.
    """
    levels = directory.levels()[:LEVELS_MAX]
    officer = event.released_by.contact_id if event.released_by.partner == taker else None
    if officer is not None and directory.is_on_duty(officer, now):
        # First, and together with level 1: whoever raised the alert knows it best, and may be on the telephone.
        first = LevelTarget(kind="contact", id=officer)
        begin = levels[0] if levels else PlannedLevel()
        levels = (begin.model_copy(update={"targets": (first, *begin.targets)}), *levels[1:])
    fresh = Escalation(
        id=id,
        alert=facts_of_unreached(event),
        partner=taker,
        kind=EscalationKind.TAKEOVER,
        subject_partner=event.partner,
        opened_at=now,
        clock_started_at=min(event.unreached_at, now),
        expires_at=event.expires_at,
        levels=levels,
        acknowledge_by_at=now + timedelta(seconds=deadlines.next_level_every_seconds or INTERVAL_SECONDS_DEFAULT),
        next_level_every_seconds=deadlines.next_level_every_seconds,
        due_at=now,
        due_reason=DueReason.NEXT_LEVEL,
        brief=brief,
    )
    endpoints = planned(directory.endpoint_targets(), "partner.unreached", level=0, asks=True)
    raised = raise_due_levels(
        fresh, directory, "partner.unreached", LevelReason.PARTNER_UNREACHED, now, first_is_announced=True
    )
    return Outcome(
        changed(raised.escalation, paged=bool(endpoints) or raised.escalation.paged),
        events=raised.events,
        pages=(*endpoints, *raised.pages),
    )


def carry_takeover(opened: Outcome, before: Escalation | None, now: datetime) -> Outcome:
    """The takeover after an Update, where a human had taken the partner over for the corrected message `before`.

    They are not rung again before their half hour is over; their systems are told of the new message.
    """
    if before is None or before.taken_over_at is None:
        return opened
    ask_again_at = before.taken_over_at + timedelta(seconds=TAKEOVER_ASK_AGAIN_SECONDS)
    if ask_again_at <= now:
        return opened
    carried = replace(
        with_due(opened.escalation, ask_again_at, DueReason.ASK_AGAIN),
        state=EscalationState.ACKNOWLEDGED,
        taken_over_by=before.taken_over_by,
        taken_over_at=before.taken_over_at,
    )
    told = tuple(replace(page, asks=False) for page in opened.pages if page.level == 0)
    return Outcome(carried, pages=told)
