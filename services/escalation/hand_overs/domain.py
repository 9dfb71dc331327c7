"""Changes from one shift to the next, who signs them, and when. Pure.

The cast: a `Change` is one person handing a rota over to another at an instant, as the duty plan says it. Its id is
made from rota, instant and both people, so that whoever computes it finds the same one, and a plan that changes any of
them makes it another hand-over, which nobody has signed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from uuid import UUID

from shared.contracts import DutyPlanPublished, EscalationKind, EscalationState, PlannedRota, PlannedShift
from shared.errors import Conflict
from shared.ids import derived

SIGNED_AHEAD_MAX = timedelta(hours=2)
"""A hand-over can be signed this long before the incoming person's shift begins: before, nobody knows what is open."""

LISTED = timedelta(hours=24)
"""Hand-overs of so long ago and so far ahead are listed, beside those that still count."""

NOTE_CHARACTERS_MAX = 1000


OPEN_STATES = frozenset(
    {
        EscalationState.PENDING,
        EscalationState.NOTIFIED,
        EscalationState.ACKNOWLEDGED,
        EscalationState.CONSIDERING,
        EscalationState.UNREACHED,
    }
)
"""States of an escalation in which something is still owed, by the partner or to it."""


class Side(StrEnum):
    """Who signs."""

    OUTGOING = "outgoing"
    INCOMING = "incoming"


class HandOverState(StrEnum):
    """Who has signed."""

    UNSIGNED = "unsigned"
    PARTLY_SIGNED = "partly_signed"
    SIGNED = "signed"


@dataclass(frozen=True, slots=True)
class Change:
    """One person hands a rota over to another; `until_at` is when the incoming one's time ends."""

    id: UUID
    rota_id: UUID
    rota: str
    outgoing_id: UUID
    incoming_id: UUID
    start_at: datetime
    until_at: datetime

    def side_of(self, contact_id: UUID | None) -> Side | None:
        """Which of the two a person is; None for anybody else."""
        if contact_id is None:
            return None
        sides = {self.outgoing_id: Side.OUTGOING, self.incoming_id: Side.INCOMING}
        return sides.get(contact_id)

    def other(self, side: Side) -> UUID:
        """The person on the other side."""
        return self.incoming_id if side is Side.OUTGOING else self.outgoing_id


@dataclass(frozen=True, slots=True)
class _Turn:
    """One person's shifts that follow each other without a break."""

    contact_id: UUID
    start_at: datetime
    end_at: datetime


def hand_over_id(rota_id: UUID, start_at: datetime, outgoing_id: UUID, incoming_id: UUID) -> UUID:
    """The id of a hand-over, the same wherever it is computed."""
    at = start_at.astimezone(UTC).isoformat(timespec="microseconds")
    return derived("hand-over", str(rota_id), at, str(outgoing_id), str(incoming_id))


def changes_of(rota: PlannedRota) -> list[Change]:
    """Every hand-over of a rota from one person to another, in order: none where nobody was on duty in between."""
    return [
        Change(
            id=hand_over_id(rota.id, after.start_at, before.contact_id, after.contact_id),
            rota_id=rota.id,
            rota=rota.name,
            outgoing_id=before.contact_id,
            incoming_id=after.contact_id,
            start_at=after.start_at,
            until_at=after.end_at,
        )
        for before, after in pairwise(_turns(rota.shifts))
        if before.end_at == after.start_at and before.contact_id != after.contact_id
    ]


def _turns(shifts: Iterable[PlannedShift]) -> list[_Turn]:
    found: list[_Turn] = []
    for shift in sorted(shifts, key=lambda shift: shift.start_at):
        start_at, end_at = shift.start_at.astimezone(UTC), shift.end_at.astimezone(UTC)
        last = found[-1] if found else None
        if last is not None and (last.contact_id, last.end_at) == (shift.contact_id, start_at):
            found[-1] = _Turn(shift.contact_id, last.start_at, end_at)
        else:
            found.append(_Turn(shift.contact_id, start_at, end_at))
    return found


def signed_changes(plan: DutyPlanPublished) -> list[Change]:
    """The hand-overs of all rotas of a plan that want them signed, in order of time."""
    found = [change for rota in plan.rotas if rota.signs_hand_over for change in changes_of(rota)]
    return sorted(found, key=lambda change: (change.start_at, change.rota, change.id))


def listed(plan: DutyPlanPublished, now: datetime) -> list[Change]:
    """Those of the last and of the coming 24 hours, and those that still count however long ago they were."""
    return [
        change
        for change in signed_changes(plan)
        if now - LISTED <= change.start_at <= now + LISTED or change.start_at <= now < change.until_at
    ]


def check_open(change: Change, now: datetime) -> None:
    """Raises `Conflict` where it is too early or too late to sign."""
    if now < change.start_at - SIGNED_AHEAD_MAX:
        raise Conflict("it can be signed from two hours before the shift begins", code="hand_over_not_yet")
    if now >= change.until_at:
        raise Conflict("the rota has been handed over again since", code="hand_over_past")


def is_open(kind: str, state: str) -> bool:
    """Whether something is still owed in an escalation; whoever is only informed owes nothing once they are."""
    informed = kind == EscalationKind.INFORMATION and state == EscalationState.NOTIFIED
    return state in OPEN_STATES and not informed


def state_of(outgoing_signed_at: datetime | None, incoming_signed_at: datetime | None) -> HandOverState:
    """Who has signed, in one word."""
    signed = [at is not None for at in (outgoing_signed_at, incoming_signed_at)]
    if all(signed):
        return HandOverState.SIGNED
    return HandOverState.PARTLY_SIGNED if any(signed) else HandOverState.UNSIGNED
