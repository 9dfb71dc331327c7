"""From local times to instants, and which zones there are.

Daylight saving follows one rule: **a hand-over happens at the first instant at which the local clock shows the
hand-over time or a later one.**
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

_SECOND = timedelta(seconds=1)


def hand_over_at(on: date, hand_over_time: time, zone: ZoneInfo) -> datetime:
    """The first instant (UTC) at which the clock in `zone` shows `hand_over_time` of the date `on`, or a later time."""
    wall = datetime.combine(on, hand_over_time)
    first = wall.replace(tzinfo=zone).astimezone(UTC)
    if first.astimezone(zone).replace(tzinfo=None) == wall:
        return first
    # The clocks jump over this time. With fold=1 the offset after the jump is applied, which gives an instant before
    # it, and `first` lies after it: the jump itself, a whole second of UTC, is found in between by halving.
    before = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    steps = int((first - before) / _SECOND)
    low, high = 0, steps
    while high - low > 1:
        middle = (low + high) // 2
        if (before + middle * _SECOND).astimezone(zone).replace(tzinfo=None) >= wall:
            high = middle
        else:
            low = middle
    return before + high * _SECOND


def is_zone(name: str) -> bool:
    """Whether the IANA database of this machine knows the zone."""
    return name in _known_zones()


@lru_cache(maxsize=1)
def _known_zones() -> frozenset[str]:
    return frozenset(available_timezones())
