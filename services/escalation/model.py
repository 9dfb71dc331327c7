"""The nouns of escalation: one partner's obligation as a value, and what a decision comes to. No rule lives here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from enum import StrEnum
from typing import Any, TypedDict
from uuid import UUID

from services.escalation.directory import Target
from shared.contracts import (
    Actor,
    EndReason,
    EscalationKind,
    EscalationState,
    Gap,
    PlannedLevel,
    PositionStance,
    Precedence,
    Status,
    Tlp,
)
from shared.events import Event

TAKEOVER_ASK_AGAIN_SECONDS = 30 * 60
"""A human who took an unreached partner over is asked again after this, until the partner acknowledges."""

INTERVAL_SECONDS_DEFAULT = 60 * 60
"""Stands in for "one interval" at a precedence whose table names none (ROUTINE)."""

LAST_LEVEL_WAIT_SECONDS_MIN = 60
"""A partner's own wait after its last level makes that level repeat sooner than the network says, but not sooner than
this: a wait is there to bring the next person in, not to ring the same one every second.
"""

LEVELS_MAX = 20
NOTE_CHARACTERS_MAX = 2000

ANSWERED = frozenset(
    {
        EscalationState.ACKNOWLEDGED,
        EscalationState.CONSIDERING,
        EscalationState.COMMITTED,
        EscalationState.DECLINED,
        EscalationState.NOTED,
    }
)
FINAL = frozenset({EscalationState.COMMITTED, EscalationState.DECLINED, EscalationState.NOTED})
UNANSWERED = frozenset({EscalationState.PENDING, EscalationState.NOTIFIED})


class DueReason(StrEnum):
    """What happens at `due_at` if nobody does anything."""

    NEXT_LEVEL = "next_level"
    UNREACHED = "unreached"
    POSITION = "position"
    ASK_AGAIN = "ask_again"
    EXPIRY = "expiry"


@dataclass(frozen=True, slots=True)
class AlertFacts:
    """What an escalation needs to know of its alert; the same for all partners, and never changed after release."""

    alert_id: UUID
    root_alert_id: UUID
    reference: str
    raiser: str
    status: Status
    precedence: Precedence
    tlp: Tlp
    released_at: datetime
    expires_at: datetime
    released_by: Actor
    answers_visible_to: tuple[str, ...] = ()
    is_update: bool = False
    asks_anew: bool = False


@dataclass(frozen=True, slots=True)
class Position:
    """A partner's substantive answer as it stands."""

    stance: PositionStance
    taken_at: datetime
    taken_by: Actor
    answer_by_at: datetime | None = None
    note: str | None = None
    offer: str | None = None
    estimated_arrival_at: datetime | None = None


@dataclass(frozen=True)
class Escalation:
    """One row. `levels` and the waits are copied when it opens; `due_at` is None only when it has ended."""

    id: UUID
    alert: AlertFacts
    partner: str
    kind: EscalationKind
    opened_at: datetime
    clock_started_at: datetime
    expires_at: datetime
    subject_partner: str = ""
    state: EscalationState = EscalationState.PENDING
    levels: tuple[PlannedLevel, ...] = ()
    level: int = 0
    acknowledge_by_at: datetime | None = None
    next_level_every_seconds: int | None = None
    unreached_at: datetime | None = None
    position_by_at: datetime | None = None
    due_at: datetime | None = None
    due_reason: DueReason | None = None
    paged: bool = False
    first_attempt_at: datetime | None = None
    unreached_postponed: bool = False
    position_reminders: int = 0
    notified_at: datetime | None = None
    acknowledged_at: datetime | None = None
    acknowledged_by: Actor | None = None
    asserted_by_system: str | None = None
    acknowledged_via: str | None = None
    late: bool = False
    position: Position | None = None
    taken_over_by: Actor | None = None
    taken_over_at: datetime | None = None
    ended_at: datetime | None = None
    end_reason: EndReason | None = None
    gaps: tuple[Gap, ...] = ()
    one_provider: bool = False
    """Somebody who was paged can be reached through one provider alone: if that fails, nothing rings there."""
    added: tuple[UUID, ...] = ()
    """Contacts who were added while it ran."""
    stopped: tuple[UUID, ...] = ()
    """Contacts who stopped their own pages, and contact points of offices at which somebody did."""
    brief: Mapping[str, Any] | None = None
    """For a takeover: the unreached partner, its office's numbers and the call script."""

    def still_asks(self, target: Target) -> bool:
        """Whether nobody has stopped the pages to this contact point."""
        return not self.stopped or not self.has_stopped(target.contact_id, target.contact_point_id)

    def has_stopped(self, contact_id: UUID | None, contact_point_id: UUID) -> bool:
        """Whether this contact, or somebody at this contact point of an office, wants no more pages."""
        return contact_id in self.stopped or contact_point_id in self.stopped

    @property
    def interval_seconds(self) -> int:
        """The wait between levels after the acknowledge-by time."""
        return self.next_level_every_seconds or INTERVAL_SECONDS_DEFAULT


@dataclass(frozen=True, slots=True)
class PlannedPage:
    """One message to one contact point. `asks` pages end with the acknowledgement; the others inform and stay."""

    target: Target
    message_type: str
    level: int
    asks: bool
    delay_seconds: float = 0.0
    """How long after the decision it is due: a contact's points are paged in the order that they chose."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a decision comes to.

    `stops_pages` ends the pages that were written before this decision and are still to be sent: all of them if the
    escalation has ended, otherwise those that ask for an answer. `sends_ending`: one ending message to all paged.
    """

    escalation: Escalation
    events: tuple[Event, ...] = ()
    pages: tuple[PlannedPage, ...] = ()
    stops_pages: bool = False
    sends_ending: bool = False


class About(TypedDict):
    """What every event about one escalation has in common."""

    alert_id: UUID
    escalation_id: UUID
    partner: str
    raiser: str
    kind: EscalationKind
    subject_partner: str | None
    answers_visible_to: tuple[str, ...]


def about(escalation: Escalation) -> About:
    """The fields that every event about this escalation begins with."""
    alert = escalation.alert
    return About(
        alert_id=alert.alert_id,
        escalation_id=escalation.id,
        partner=escalation.partner,
        raiser=alert.raiser,
        kind=escalation.kind,
        subject_partner=escalation.subject_partner or None,
        answers_visible_to=tuple(code for code in alert.answers_visible_to if code != escalation.partner),
    )


def planned(targets: Sequence[Target], message_type: str, *, level: int, asks: bool) -> tuple[PlannedPage, ...]:
    """One page to each contact point, at once."""
    return tuple(PlannedPage(target=target, message_type=message_type, level=level, asks=asks) for target in targets)


def planned_in_order(
    targets: Sequence[Target], message_type: str, *, level: int, asks: bool, precedence: Precedence, now: datetime
) -> tuple[PlannedPage, ...]:
    """One page to each contact point whose turn comes, when it comes; see `paging`."""
    return tuple(
        PlannedPage(target=target, message_type=message_type, level=level, asks=asks, delay_seconds=wait)
        for target in targets
        if (wait := target.wait_seconds(precedence, now)) is not None
    )


def asking_type(escalation: Escalation) -> str:
    """The message type of a page that asks this partner for its answer."""
    if escalation.kind is EscalationKind.TAKEOVER:
        return "partner.unreached"
    return "alert.updated" if escalation.alert.is_update else "alert.released"


_FIELDS = frozenset(field.name for field in fields(Escalation))


def changed(escalation: Escalation, **changes: Any) -> Escalation:
    """`dataclasses.replace` at a twentieth of its cost, which a thousand openings at once notice."""
    assert changes.keys() <= _FIELDS, f"an escalation has no {sorted(changes.keys() - _FIELDS)}"
    copy = object.__new__(Escalation)
    copy.__dict__.update(escalation.__dict__)
    copy.__dict__.update(changes)
    return copy


def with_due(escalation: Escalation, at: datetime, reason: DueReason) -> Escalation:
    """The escalation with its next due time: `at`, or the alert's expiry if that comes first and so ends it."""
    if at >= escalation.expires_at:
        return changed(escalation, due_at=escalation.expires_at, due_reason=DueReason.EXPIRY)
    return changed(escalation, due_at=at, due_reason=reason)


def earlier(one: datetime | None, other: datetime | None) -> datetime | None:
    """The earlier of two instants; None is no instant at all."""
    if one is None or other is None:
        return one or other
    return min(one, other)


def with_gaps(escalation: Escalation, gaps: Iterable[Gap]) -> Escalation:
    """The escalation with these gaps shown beside those that it has."""
    return changed(escalation, gaps=tuple(dict.fromkeys((*escalation.gaps, *gaps))))
