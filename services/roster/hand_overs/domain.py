"""Who handed a rota over to whoever holds it, however long ago within a month. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from services.roster import schedule
from services.roster.schedule import Rota, Shift

LOOKED_BACK = (timedelta(days=2), timedelta(days=31))
"""How far back the change is looked for: most are found within two days, and a turn is hardly ever longer than a month.
Whoever has held a rota for longer than that is not in anybody's hand-over any more."""

INSTANT = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class CurrentChange:
    """One person took over from another at `start_at`, and holds the rota still."""

    rota_id: UUID
    start_at: datetime
    outgoing_id: UUID
    incoming_id: UUID


@dataclass(frozen=True, slots=True)
class Signatures:
    """When each of the two has signed; None: not yet."""

    outgoing_at: datetime | None = None
    incoming_at: datetime | None = None

    @property
    def both(self) -> bool:
        """Whether the outgoing person is paged no more."""
        return self.outgoing_at is not None and self.incoming_at is not None


def with_change_before(rota: Rota, shifts: Sequence[Shift]) -> tuple[Shift, ...]:
    """The shifts of a window, preceded by what is needed to know the change that its first holder is in: their time
    before the window, and the shift that ended with it.

    Only in a rota that wants hand-overs signed, and where there was a change from another person without a gap.
    """
    shifts = tuple(shifts)
    if not rota.signs_hand_over or not shifts:
        return shifts
    first = shifts[0]
    for looked_back in LOOKED_BACK:
        from_at = first.start_at - looked_back
        earlier = schedule.shifts(rota, from_at, first.start_at) if from_at >= schedule.EARLIEST_AT else ()
        begun_at, before = first.start_at, None
        for shift in reversed(earlier):
            if shift.end_at != begun_at:
                return shifts
            if shift.contact_id != first.contact_id:
                before = shift
                break
            begun_at = shift.start_at
        if before is None and begun_at > from_at:
            return shifts
        if before is not None:
            own = (replace(first, start_at=begun_at, end_at=first.start_at),) if begun_at < first.start_at else ()
            return (before, *own, *shifts)
    return shifts


def current_change(rota: Rota, at: datetime) -> CurrentChange | None:
    """The change that whoever holds the rota at an instant is in."""
    latest_at = min(at + INSTANT, schedule.LATEST_AT)
    covered = [shift for shift in schedule.shifts(rota, at, latest_at) if shift.start_at <= at < shift.end_at]
    before, *_ = with_change_before(rota, covered) or (None,)
    if before is None or before.contact_id == covered[0].contact_id:
        return None
    return CurrentChange(rota.id, before.end_at, before.contact_id, covered[0].contact_id)
