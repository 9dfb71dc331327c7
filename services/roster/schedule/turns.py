"""Turns: how a layer's rotation cuts local time, and who has each turn.

Turns are counted in local times without a zone, and only their beginnings become instants, so nothing drifts.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from services.roster.schedule import rules
from services.roster.schedule.instants import hand_over_at
from services.roster.schedule.model import Frequency, Layer
from shared.ids import ContactId

_STEP = {
    Frequency.HOURLY: timedelta(hours=1),
    Frequency.DAILY: timedelta(days=1),
    Frequency.WEEKLY: timedelta(weeks=1),
}


def turns(layer: Layer, zone: ZoneInfo, from_at: datetime, to_at: datetime) -> Iterator[tuple[int, datetime, datetime]]:
    """The turns (number, start_at, end_at) of a layer that touch the window, in order; never one that lasts no time.

    They are cut at `ends_on` and at the end of the window, not at its beginning.
    """
    until_at = to_at
    if layer.ends_on is not None:
        until_at = min(to_at, hand_over_at(layer.ends_on, layer.hand_over_time, zone))
    if until_at <= from_at:
        return
    begun = _begun(layer, from_at.astimezone(zone).replace(tzinfo=None), until_at.astimezone(zone).replace(tzinfo=None))
    number, beginning = next(begun, (0, None))
    if beginning is None:
        return
    start_at = _instant(beginning, zone)
    for next_number, next_beginning in begun:
        if start_at >= until_at:
            return
        next_at = _instant(next_beginning, zone)
        end_at = min(next_at, until_at)
        if end_at > from_at and end_at > start_at:
            yield number, start_at, end_at
        number, start_at = next_number, next_at


def holder_and_deputy(layer: Layer, turn: int) -> tuple[ContactId, ContactId | None]:
    """Who covers a turn of a layer: participants and deputies each counted round, never one person as both."""
    holder = layer.participants[turn % len(layer.participants)]
    for offset in range(len(layer.deputies)):
        deputy = layer.deputies[(turn + offset) % len(layer.deputies)]
        if deputy != holder:
            return holder, deputy
    return holder, None


def _begun(layer: Layer, shown: datetime, until: datetime) -> Iterator[tuple[int, datetime]]:
    """Numbers and local beginnings of the turns, from the one that holds when the local clock shows `shown` (or from
    turn 0) on. Where a rule has no more turns a last entry says when: the end of what can be counted.
    """
    first = datetime.combine(layer.starts_on, layer.hand_over_time)
    rotation = layer.rotation
    if rotation.frequency is not Frequency.RULE:
        step = _STEP[rotation.frequency] * rotation.every
        number = max(0, (shown - first) // step)
        while True:
            yield number, first + number * step
            number += 1
    # Two days more than asked for, because a zone may skip a date.
    found = rules.times(rotation.rule or "", first, until + timedelta(days=2))
    number = max(0, rules.turn_at(found, shown))
    yield from enumerate(islice(found, number, None), start=number)


def _instant(local: datetime, zone: ZoneInfo) -> datetime:
    found = local.replace(tzinfo=zone).astimezone(UTC)
    if found.astimezone(zone).replace(tzinfo=None) == local:
        return found
    return hand_over_at(local.date(), local.time(), zone)
