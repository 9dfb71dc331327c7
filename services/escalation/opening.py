"""How an escalation begins: fresh, carried over from the message that an Update corrects, or as a takeover.

An Update carries clock, level and answer of its predecessor over and takes the earlier of each deadline, so that
correcting a message again and again never keeps a partner from the next level. `asks_anew` reopens those who had
answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal
from uuid import UUID

from services.escalation.directory import Directory
from services.escalation.levels import gap_tuple, level_pages, raise_due_levels, unreached_event
from services.escalation.model import (
    ANSWERED,
    INTERVAL_SECONDS_DEFAULT,
    LEVELS_MAX,
    UNANSWERED,
    AlertFacts,
    DueReason,
    Escalation,
    Outcome,
    PlannedPage,
    earlier,
    planned,
    with_due,
)
from shared.contracts import (
    Deadlines,
    EndReason,
    EscalationKind,
    EscalationState,
    LevelReason,
    LevelTarget,
    PartnerUnreached,
    PlannedLevel,
)


@dataclass(frozen=True, slots=True)
class Opening:
    """Everything that opening one escalation takes."""

    id: UUID
    alert: AlertFacts
    partner: str
    kind: Literal[EscalationKind.ANSWER, EscalationKind.INFORMATION]
    addressed_at: datetime
    directory: Directory
    deadlines: Deadlines
    acknowledge_within_seconds: int | None = None
    asks_anew: bool = False
    predecessor: Escalation | None = None
    ended_reason: EndReason | None = None
    ended_at: datetime | None = None


def open_escalation(opening: Opening, now: datetime) -> Outcome:
    """Opens one partner's escalation with its first pages; already ended if the end came before the beginning.

    An Update carries clock, level and answer of its predecessor over and takes the earlier deadline, so that
    correcting a message again and again never keeps a partner from the next level. `asks_anew` reopens those who had
    answered.
    """
    fresh = _fresh(opening, now)
    if opening.ended_reason is not None:
        ended = replace(
            fresh,
            state=EscalationState.ENDED,
            ended_at=opening.ended_at or now,
            end_reason=opening.ended_reason,
            due_at=None,
            due_reason=None,
        )
        return Outcome(_with_predecessor_answer(ended, opening.predecessor))
    message_type = "alert.updated" if opening.alert.is_update else "alert.released"
    predecessor = opening.predecessor
    if predecessor is not None and predecessor.state is EscalationState.ENDED:
        predecessor = None
    if predecessor is None or predecessor.kind is EscalationKind.INFORMATION:
        return _first_pages(fresh, opening.directory, message_type, now)
    if predecessor.state in ANSWERED:
        if opening.asks_anew:
            return _first_pages(fresh, opening.directory, message_type, now)
        return _carry_answer(fresh, predecessor, opening.directory, message_type, now)
    return _carry_clock(fresh, predecessor, opening.directory, message_type, now)


def _fresh(opening: Opening, now: datetime) -> Escalation:
    alert, deadlines = opening.alert, opening.deadlines
    # A release dated ahead comes from another node's clock: it starts on arrival.
    start_at = min(max(alert.released_at, opening.addressed_at), now)
    within = deadlines.acknowledge_within_seconds
    if opening.acknowledge_within_seconds is not None:
        within = min(within, opening.acknowledge_within_seconds)
    kind = opening.kind
    if opening.predecessor is not None and opening.predecessor.kind is EscalationKind.ANSWER:
        kind = EscalationKind.ANSWER
    return Escalation(
        id=opening.id,
        alert=alert,
        partner=opening.partner,
        kind=kind,
        opened_at=now,
        clock_started_at=min(opening.addressed_at, now),
        expires_at=alert.expires_at,
        levels=opening.directory.levels()[:LEVELS_MAX],
        acknowledge_by_at=start_at + timedelta(seconds=within),
        next_level_every_seconds=deadlines.next_level_every_seconds,
        unreached_at=start_at + timedelta(seconds=max(within, deadlines.unreached_after_seconds)),
        position_by_at=start_at + timedelta(seconds=deadlines.position_within_seconds),
        due_at=start_at,
        due_reason=DueReason.NEXT_LEVEL,
    )


def _first_pages(fresh: Escalation, directory: Directory, message_type: str, now: datetime) -> Outcome:
    endpoints = planned(directory.endpoint_targets(), message_type, level=0, asks=True)
    if fresh.kind is EscalationKind.INFORMATION:
        # A partner that is only informed owes no answer: one page to office and endpoints, final when one is accepted.
        pages = (*endpoints, *planned(directory.office_targets(), message_type, level=0, asks=True))
        return Outcome(
            replace(
                fresh,
                levels=(),
                acknowledge_by_at=None,
                unreached_at=None,
                position_by_at=None,
                due_at=fresh.expires_at,
                due_reason=DueReason.EXPIRY,
                paged=bool(pages),
                gaps=gap_tuple(directory.gap(now)),
            ),
            pages=pages,
        )
    raised = raise_due_levels(fresh, directory, message_type, LevelReason.RELEASED, now)
    # The opening itself is announced by EscalationsStarted, so level 1 needs no LevelRaised of its own.
    return Outcome(
        replace(raised.escalation, paged=bool(endpoints) or raised.escalation.paged),
        events=raised.events[1:],
        pages=(*endpoints, *raised.pages),
    )


def _carry_answer(
    fresh: Escalation, old: Escalation, directory: Directory, message_type: str, now: datetime
) -> Outcome:
    pages = _informing_pages(old, directory, message_type, now)
    carried = replace(
        _with_predecessor_answer(fresh, old),
        state=old.state,
        levels=old.levels,
        level=old.level,
        notified_at=old.notified_at,
        due_at=earlier(old.due_at, fresh.expires_at),
        due_reason=old.due_reason,
        position_by_at=old.position_by_at,
        position_reminders=old.position_reminders,
        first_attempt_at=old.first_attempt_at,
        paged=True,
    )
    return Outcome(carried, pages=pages)


def _with_predecessor_answer(escalation: Escalation, old: Escalation | None) -> Escalation:
    if old is None or old.acknowledged_at is None:
        return escalation
    return replace(
        escalation,
        acknowledged_at=old.acknowledged_at,
        acknowledged_by=old.acknowledged_by,
        asserted_by_system=old.asserted_by_system,
        acknowledged_via=old.acknowledged_via,
        late=old.late,
        position=old.position,
    )


def _carry_clock(fresh: Escalation, old: Escalation, directory: Directory, message_type: str, now: datetime) -> Outcome:
    """Unanswered: level and clock go on, and everybody whom the first message reached gets the correction."""
    carried = replace(
        _with_earlier_deadlines(fresh, old),
        levels=old.levels or fresh.levels,
        level=old.level,
        first_attempt_at=old.first_attempt_at,
        unreached_postponed=old.unreached_postponed,
        gaps=old.gaps,
        paged=True,
    )
    pages = (
        *planned(directory.endpoint_targets(), message_type, level=0, asks=True),
        *level_pages(carried, directory, range(1, old.level + 1), message_type, now),
    )
    if old.state is not EscalationState.UNREACHED:
        return Outcome(_next_step(carried, earlier(old.due_at, fresh.acknowledge_by_at)), pages=pages)
    carried = replace(
        with_due(carried, carried.expires_at, DueReason.EXPIRY),
        state=EscalationState.UNREACHED,
        taken_over_by=old.taken_over_by,
        taken_over_at=old.taken_over_at,
    )
    return Outcome(carried, events=(unreached_event(carried, directory, attempts=0, now=now),), pages=pages)


def merge_late_predecessor(escalation: Escalation, old: Escalation) -> Escalation:
    """The Update's escalation once its predecessor's release has arrived after it: any order ends in the same
    deadlines.
    """
    if escalation.state not in UNANSWERED or escalation.kind is not EscalationKind.ANSWER:
        return escalation
    merged = _with_earlier_deadlines(escalation, old)
    due_at = merged.due_at
    if merged.level <= 1 and old.acknowledge_by_at is not None:
        due_at = earlier(due_at, old.acknowledge_by_at)
    return _next_step(merged, due_at)


def _with_earlier_deadlines(escalation: Escalation, old: Escalation) -> Escalation:
    return replace(
        escalation,
        clock_started_at=min(escalation.clock_started_at, old.clock_started_at),
        acknowledge_by_at=earlier(escalation.acknowledge_by_at, old.acknowledge_by_at),
        unreached_at=earlier(escalation.unreached_at, old.unreached_at),
        position_by_at=earlier(escalation.position_by_at, old.position_by_at),
    )


def _next_step(escalation: Escalation, due_at: datetime | None) -> Escalation:
    """The escalation with its next step at `due_at`, or `unreached` where that comes first."""
    assert escalation.unreached_at is not None
    if due_at is None or due_at >= escalation.unreached_at:
        return with_due(escalation, escalation.unreached_at, DueReason.UNREACHED)
    return with_due(escalation, due_at, DueReason.NEXT_LEVEL)


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
        first = PlannedLevel(targets=(LevelTarget(kind="contact", id=officer), *(levels[0].targets if levels else ())))
        levels = (first, *levels[1:])
    alert = AlertFacts(
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
    fresh = Escalation(
        id=id,
        alert=alert,
        partner=taker,
        kind=EscalationKind.TAKEOVER,
        subject_partner=event.partner,
        opened_at=now,
        clock_started_at=now,
        expires_at=event.expires_at,
        levels=levels,
        acknowledge_by_at=now + timedelta(seconds=deadlines.next_level_every_seconds or INTERVAL_SECONDS_DEFAULT),
        next_level_every_seconds=deadlines.next_level_every_seconds,
        due_at=now,
        due_reason=DueReason.NEXT_LEVEL,
        brief=brief,
    )
    endpoints = planned(directory.endpoint_targets(), "partner.unreached", level=0, asks=True)
    raised = raise_due_levels(fresh, directory, "partner.unreached", LevelReason.PARTNER_UNREACHED, now)
    return Outcome(
        replace(raised.escalation, paged=bool(endpoints) or raised.escalation.paged),
        events=raised.events[1:],
        pages=(*endpoints, *raised.pages),
    )


def _informing_pages(
    old: Escalation, directory: Directory, message_type: str, now: datetime
) -> tuple[PlannedPage, ...]:
    """An Update that asks nothing anew: told to the endpoints and to the levels that the first message reached."""
    return (
        *planned(directory.endpoint_targets(), message_type, level=0, asks=False),
        *level_pages(old, directory, range(1, old.level + 1), message_type, now),
    )
