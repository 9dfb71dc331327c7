"""Shifts from a rota: turns of its layers, laid over each other.

`shifts` is the only place where a rota becomes instants. Its result is sorted, does not overlap, and any instant of it
is the same whatever window was asked for, so that a screen and a page can never disagree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import heappop, heappush
from itertools import pairwise
from zoneinfo import ZoneInfo

from services.roster.schedule.instants import hand_over_at
from services.roster.schedule.model import (
    EARLIEST_AT,
    EARLIEST_DATE,
    LATEST_AT,
    LATEST_DATE,
    ON_CALL_HORIZON_DAYS,
    SPAN_DAYS_MAX,
    Frequency,
    Gap,
    Layer,
    LayerId,
    OverrideId,
    Rota,
    Shift,
)
from shared.errors import Invalid
from shared.ids import ContactId

_DAYS = {Frequency.DAILY: 1, Frequency.WEEKLY: 7}


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
    days = _DAYS[layer.rotation.frequency] * layer.rotation.every
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
