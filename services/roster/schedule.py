"""Shifts from rotas: who is on call, computed once for paging, screen, export and readiness alike.

The cast: a `Rota` belongs to one partner and keeps local time in one IANA zone. Its `Layer`s are ordered by
precedence: at any instant the first layer that covers it answers, and the layers after it show through where it does
not. A layer's `Rotation` cuts time into *turns*; turn 0 begins at the hand-over of `starts_on`, and the participants
take the turns in order. An `Override` lies over all layers, and of two overrides the one that comes last in the rota
holds, because it was said last. A `Shift` is what comes out: one contact from one instant to another.

The promise: `shifts` is the only place where local times become instants. Its result is sorted, does not overlap, and
any instant of it is the same whatever window was asked for, so that a screen and a page can never disagree.

Daylight saving follows one rule: **a hand-over happens at the first instant at which the local clock shows the
hand-over time or a later one.** So a hand-over time that does not exist on a day falls on the first instant after the
gap, one that exists twice falls on its first occurrence, and as this instant never moves backwards from one date to
the next, turns can neither overlap nor leave a hole. Turns are counted in local dates, never in hours, so that
nothing drifts.

Another kind of rotation is another way to yield turns: `_turns` is the one place that knows about it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import lru_cache
from heapq import heappop, heappush
from itertools import pairwise
from typing import NewType
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from shared.errors import Invalid
from shared.ids import ContactId, RotaId

LayerId = NewType("LayerId", UUID)
OverrideId = NewType("OverrideId", UUID)

LAYERS_MAX = 10
PARTICIPANTS_MAX = 100
OVERRIDES_MAX = 100
EVERY_MAX = 52
"""Turns of at most 52 days or 52 weeks."""
OVERRIDE_DAYS_MAX = 366
SPAN_DAYS_MAX = 4000
"""A little more than ten years: the longest window that `shifts` computes in one call."""
EARLIEST_DATE, EARLIEST_AT = date(1970, 1, 1), datetime(1970, 1, 1, tzinfo=UTC)
LATEST_DATE, LATEST_AT = date(2199, 12, 31), datetime(2200, 1, 1, tzinfo=UTC)
"""Outside these dates a typing error is likelier than an intention, and zone data says nothing."""
ON_CALL_HORIZON_DAYS = 14
"""`on_call` tells the beginning and end of a shift as far as this many days before and after the instant asked for."""

_SECOND = timedelta(seconds=1)


class Frequency(StrEnum):
    """The unit in which a rotation counts its turns."""

    DAILY = "daily"
    WEEKLY = "weekly"


_DAYS = {Frequency.DAILY: 1, Frequency.WEEKLY: 7}


@dataclass(frozen=True, slots=True)
class Rotation:
    """How long one turn is: `every` days or weeks, counted in local dates."""

    frequency: Frequency
    every: int = 1

    @property
    def turn_days(self) -> int:
        """The length of one turn in local dates."""
        return _DAYS[self.frequency] * self.every


@dataclass(frozen=True, slots=True)
class Layer:
    """One rotation of a rota.

    `hand_over_time` is a local wall time. A weekly rotation hands over on the weekday of `starts_on`. From the
    hand-over time of `ends_on` the layer covers nothing; `None` means that it has no end.
    """

    id: LayerId
    name: str
    rotation: Rotation
    participants: tuple[ContactId, ...]
    starts_on: date
    hand_over_time: time
    ends_on: date | None = None


@dataclass(frozen=True, slots=True)
class Override:
    """Replaces whoever would be on call in [start_at, end_at); `contact_id` `None` means that nobody is."""

    id: OverrideId
    contact_id: ContactId | None
    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True)
class Rota:
    """One on-call schedule: `layers` in the order of their precedence, `overrides` in the order of their making."""

    id: RotaId
    name: str
    time_zone: str
    layers: tuple[Layer, ...] = ()
    overrides: tuple[Override, ...] = ()


@dataclass(frozen=True, slots=True)
class Shift:
    """One contact on call in [start_at, end_at), UTC; `origin` is the layer or the override that says so."""

    contact_id: ContactId
    start_at: datetime
    end_at: datetime
    origin: LayerId | OverrideId


@dataclass(frozen=True, slots=True)
class Gap:
    """Nobody is on call in [start_at, end_at), UTC."""

    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True)
class _Segment:
    """What one source says about a stretch of time, before they are laid over each other. Rank 0 outranks all."""

    start_at: datetime
    end_at: datetime
    rank: int
    contact_id: ContactId | None
    origin: LayerId | OverrideId


def shifts(rota: Rota, from_at: datetime, to_at: datetime) -> tuple[Shift, ...]:
    """All shifts of [from_at, to_at), in order, without overlap, cut at both ends of the window.

    Neighbouring turns of the same contact and the same origin are one shift. Raises `Invalid` if the window is naive,
    reversed, longer than `SPAN_DAYS_MAX` or outside the years that rotas may speak of.
    """
    from_at, to_at = _checked_window(from_at, to_at)
    segments: list[_Segment] = []
    for rank, override in enumerate(reversed(rota.overrides)):
        if override.start_at < to_at and override.end_at > from_at:
            start_at, end_at = max(override.start_at, from_at), min(override.end_at, to_at)
            segments.append(
                _Segment(start_at.astimezone(UTC), end_at.astimezone(UTC), rank, override.contact_id, override.id)
            )
    zone = ZoneInfo(rota.time_zone)
    for rank, layer in enumerate(rota.layers, start=len(rota.overrides)):
        for number, start_at, end_at in _turns(layer, zone, from_at, to_at):
            contact_id = layer.participants[number % len(layer.participants)]
            segments.append(_Segment(max(start_at, from_at), min(end_at, to_at), rank, contact_id, layer.id))
    return tuple(_flatten(segments))


def on_call(rota: Rota, at: datetime) -> Shift | None:
    """The shift that covers the instant `at`, or `None` if nobody is on call.

    Its beginning and end are told as far as `ON_CALL_HORIZON_DAYS` away.
    """
    _checked_window(at, at)
    horizon = timedelta(days=ON_CALL_HORIZON_DAYS)
    around = shifts(rota, max(at - horizon, EARLIEST_AT), min(at + horizon, LATEST_AT))
    return next((shift for shift in around if shift.start_at <= at < shift.end_at), None)


def gaps(rota: Rota, from_at: datetime, to_at: datetime) -> tuple[Gap, ...]:
    """The stretches of [from_at, to_at) in which nobody is on call, in order."""
    return gaps_between(shifts(rota, from_at, to_at), from_at, to_at)


def gaps_between(covered: tuple[Shift, ...], from_at: datetime, to_at: datetime) -> tuple[Gap, ...]:
    """The stretches of [from_at, to_at) that the given shifts, sorted and without overlap, leave open."""
    from_at, to_at = from_at.astimezone(UTC), to_at.astimezone(UTC)
    ends = [from_at, *(shift.end_at for shift in covered)]
    starts = [*(shift.start_at for shift in covered), to_at]
    return tuple(Gap(end_at, start_at) for end_at, start_at in zip(ends, starts, strict=True) if end_at < start_at)


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


def _checked_window(from_at: datetime, to_at: datetime) -> tuple[datetime, datetime]:
    if from_at.tzinfo is None or to_at.tzinfo is None:
        raise Invalid("Both ends of a window need an offset, such as 2026-03-01T08:00:00Z.", field="from")
    if not EARLIEST_AT <= from_at <= to_at <= LATEST_AT:
        raise Invalid(f"A window must end after it begins, between {EARLIEST_DATE} and {LATEST_DATE}.", field="to")
    if to_at - from_at > timedelta(days=SPAN_DAYS_MAX):
        raise Invalid(f"A window can be at most {SPAN_DAYS_MAX} days long.", field="to")
    return from_at.astimezone(UTC), to_at.astimezone(UTC)


def _turns(
    layer: Layer, zone: ZoneInfo, from_at: datetime, to_at: datetime
) -> Iterator[tuple[int, datetime, datetime]]:
    """The turns (number, start_at, end_at) of a layer that touch the window, in order; never one that lasts no time."""
    days = layer.rotation.turn_days
    until_at = to_at
    if layer.ends_on is not None:
        until_at = min(to_at, hand_over_at(layer.ends_on, layer.hand_over_time, zone))
    # Two dates back, because the local date may be a day ahead and a zone may have skipped a whole date.
    elapsed_days = (from_at.astimezone(zone).date() - layer.starts_on).days - 2
    number = max(0, elapsed_days // days)
    on = layer.starts_on + timedelta(days=number * days)
    start_at = hand_over_at(on, layer.hand_over_time, zone)
    while start_at < until_at:
        on += timedelta(days=days)
        next_at = hand_over_at(on, layer.hand_over_time, zone)
        end_at = min(next_at, until_at)
        if end_at > from_at and end_at > start_at:
            yield number, start_at, end_at
        number, start_at = number + 1, next_at


def _flatten(segments: list[_Segment]) -> list[Shift]:
    """Lays the segments over each other: between any two edges the one of the lowest rank holds."""
    segments.sort(key=lambda segment: segment.start_at)
    edges = sorted({edge for segment in segments for edge in (segment.start_at, segment.end_at)})
    active: list[tuple[int, int]] = []
    result: list[Shift] = []
    coming = 0
    for start_at, end_at in pairwise(edges):
        while coming < len(segments) and segments[coming].start_at <= start_at:
            heappush(active, (segments[coming].rank, coming))
            coming += 1
        while active and segments[active[0][1]].end_at <= start_at:
            heappop(active)
        if not active:
            continue
        winner = segments[active[0][1]]
        if winner.contact_id is None:
            continue
        if (
            result
            and result[-1].end_at == start_at
            and (result[-1].contact_id, result[-1].origin) == (winner.contact_id, winner.origin)
        ):
            result[-1] = Shift(winner.contact_id, result[-1].start_at, end_at, winner.origin)
        else:
            result.append(Shift(winner.contact_id, start_at, end_at, winner.origin))
    return result
