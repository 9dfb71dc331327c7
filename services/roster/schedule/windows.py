"""Windows: the hours that restrictions and holidays leave to a layer, and which days are holidays of a rota."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

from services.roster.schedule.instants import hand_over_at
from services.roster.schedule.model import Holiday, Layer, OnHolidays, Restriction, Rota
from shared import holiday_calendars

_DAY = timedelta(days=1)


def holiday_on(rota: Rota, on: date) -> str | None:
    """The name of the holiday that a date is for a rota, by its calendar or the partner's own list; `None` if none."""
    for own in rota.extra_holidays:
        if own.on == on:
            return own.name
    if rota.holiday_calendar is None:
        return None
    return holiday_calendars.names(rota.holiday_calendar, on.year).get(on)


def holidays_between(rota: Rota, from_date: date, to_date: date) -> tuple[Holiday, ...]:
    """The holidays of a rota from one date to another, both included, in order."""
    days = (from_date + number * _DAY for number in range((to_date - from_date).days + 1))
    named = ((on, holiday_on(rota, on)) for on in days)
    return tuple(Holiday(on, name) for on, name in named if name is not None)


def is_restricted(layer: Layer) -> bool:
    """Whether anything takes hours or days away from a layer."""
    return bool(layer.restrictions) or layer.on_holidays is not OnHolidays.ANY


def windows(
    layer: Layer, rota: Rota, zone: ZoneInfo, from_at: datetime, to_at: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """The stretches of [from_at, to_at) that restrictions and holidays leave to a layer: in order, without overlap."""
    # What begins two dates ago has ended when this date begins.
    on = from_at.astimezone(zone).date() - _DAY
    last = to_at.astimezone(zone).date() + _DAY
    held: tuple[datetime, datetime] | None = None
    while on <= last:
        if _counts(layer, rota, on):
            for begins_at, ends_at in _of_date(layer, zone, on):
                start_at, end_at = max(begins_at, from_at), min(ends_at, to_at)
                if end_at <= start_at:
                    continue
                if held is None:
                    held = start_at, end_at
                elif start_at <= held[1]:
                    held = held[0], max(held[1], end_at)
                else:
                    yield held
                    held = start_at, end_at
        on += _DAY
    if held is not None:
        yield held


def _counts(layer: Layer, rota: Rota, on: date) -> bool:
    if layer.on_holidays is OnHolidays.ANY:
        return True
    return (holiday_on(rota, on) is not None) is (layer.on_holidays is OnHolidays.ONLY)


def _of_date(layer: Layer, zone: ZoneInfo, on: date) -> list[tuple[datetime, datetime]]:
    """What begins on a date, in order of its beginning."""
    if not layer.restrictions:
        time_of_day = layer.hand_over_time
        return [(hand_over_at(on, time_of_day, zone), hand_over_at(on + _DAY, time_of_day, zone))]
    weekday = on.isoweekday()
    return sorted(
        (hand_over_at(on, one.from_time, zone), hand_over_at(_ends(one, on), one.until_time, zone))
        for one in layer.restrictions
        if not one.weekdays or weekday in one.weekdays
    )


def _ends(restriction: Restriction, on: date) -> date:
    return on if restriction.until_time > restriction.from_time else on + _DAY
