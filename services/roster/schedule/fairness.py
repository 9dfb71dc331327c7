"""What a rota asks of whom: duty in all, nights, weekends and holidays, so that the load can be compared.

Counted by the clock of the layer that gave the shift, else of the rota:

- a *night* is 22:00 to 06:00 and belongs to the date on which it begins; it counts if the contact had at least an hour
  of it, and once however many shifts touch it;
- a *weekend day* is a Saturday or Sunday, a *holiday* a day that the rota's calendar or the partner's own list names;
  each counts if the contact had any of it. A holiday on a Sunday counts as both.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from functools import partial
from uuid import UUID
from zoneinfo import ZoneInfo

from services.roster.schedule.instants import hand_over_at
from services.roster.schedule.model import Rota, Shift
from services.roster.schedule.shifts import shifts
from services.roster.schedule.windows import holiday_on
from shared.ids import ContactId

NIGHT_FROM, NIGHT_UNTIL = time(22), time(6)
NIGHT_COUNTS_FROM = timedelta(hours=1)
"""Less of a night than this counts for nothing: a hand-over at 22:30 is no night for who leaves."""

_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Load:
    """Duty of one kind: hours in all, and how many nights, weekend days and holidays it touched."""

    hours: float = 0.0
    nights: int = 0
    weekend_days: int = 0
    holidays: int = 0


@dataclass(frozen=True, slots=True)
class Burden:
    """What one contact carries in a rota."""

    contact_id: ContactId
    as_holder: Load
    as_deputy: Load


@dataclass(slots=True)
class _Tally:
    duty: timedelta = timedelta()
    nights: dict[date, timedelta] = field(default_factory=lambda: defaultdict(timedelta))
    weekend_days: set[date] = field(default_factory=set)
    holidays: set[date] = field(default_factory=set)

    def load(self) -> Load:
        """The sums."""
        nights = sum(1 for had in self.nights.values() if had >= NIGHT_COUNTS_FROM)
        return Load(self.duty / timedelta(hours=1), nights, len(self.weekend_days), len(self.holidays))


def fairness(rota: Rota, from_at: datetime, to_at: datetime) -> tuple[Burden, ...]:
    """What each contact carries in [from_at, to_at), most hours as holder first.

    Raises `Invalid` as `shifts` does.
    """
    return burdens(rota, shifts(rota, from_at, to_at))


def burdens(rota: Rota, computed: tuple[Shift, ...]) -> tuple[Burden, ...]:
    """What each contact carries in the shifts of a rota."""
    zones = _zones(rota)
    is_holiday = _remembered(partial(holiday_on, rota))
    holders: dict[ContactId, _Tally] = defaultdict(_Tally)
    deputies: dict[ContactId, _Tally] = defaultdict(_Tally)
    for shift in computed:
        zone = zones.get(shift.origin, zones[rota.id])
        _count(holders[shift.contact_id], shift, zone, is_holiday)
        if shift.deputy_id is not None:
            _count(deputies[shift.deputy_id], shift, zone, is_holiday)
    carried = [
        Burden(contact_id, holders.get(contact_id, _Tally()).load(), deputies.get(contact_id, _Tally()).load())
        for contact_id in {*holders, *deputies}
    ]
    carried.sort(key=lambda one: (-one.as_holder.hours, -one.as_deputy.hours, one.contact_id))
    return tuple(carried)


def _zones(rota: Rota) -> dict[UUID, ZoneInfo]:
    """The zone of each layer that has its own, and of the rota itself."""
    layers = [*rota.layers, *(layer for replacement in rota.replacements for layer in replacement.layers)]
    found: dict[UUID, ZoneInfo] = {layer.id: ZoneInfo(layer.time_zone) for layer in layers if layer.time_zone}
    found[rota.id] = ZoneInfo(rota.time_zone)
    return found


def _remembered(ask: Callable[[date], str | None]) -> Callable[[date], bool]:
    known: dict[date, bool] = {}

    def is_holiday(on: date) -> bool:
        if on not in known:
            known[on] = ask(on) is not None
        return known[on]

    return is_holiday


def _count(tally: _Tally, shift: Shift, zone: ZoneInfo, is_holiday: Callable[[date], bool]) -> None:
    tally.duty += shift.end_at - shift.start_at
    first = shift.start_at.astimezone(zone).date()
    last = (shift.end_at - timedelta(microseconds=1)).astimezone(zone).date()
    for number in range((last - first).days + 1):
        on = first + number * _DAY
        if on.isoweekday() >= 6:
            tally.weekend_days.add(on)
        if is_holiday(on):
            tally.holidays.add(on)
    # A night that began on the day before the shift may still go on.
    for number in range(-1, (last - first).days + 1):
        on = first + number * _DAY
        begins_at = max(hand_over_at(on, NIGHT_FROM, zone), shift.start_at)
        ends_at = min(hand_over_at(on + _DAY, NIGHT_UNTIL, zone), shift.end_at)
        if begins_at < ends_at:
            tally.nights[on] += ends_at - begins_at
