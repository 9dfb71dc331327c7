"""When each partner's line test of a month is due. Pure: everything is drawn from a secret by HMAC.

A year is planned as a whole, so that kinds rotate and two tests of a partner are never less than `APART` from each
other. Each third of a year holds one test at night and one at the weekend in drawn order, a third of each of the kinds
but holiday once a year, and a fourth on a public holiday. One drawn third goes without the holiday, so that a partner
with few of them is not always tested on the same; where a third has none, the next holds its own in the first month
that has one. Between two years lies a drawn cut, at a different place each year,
around which no test is planned: a year needs to know nothing of its neighbours, and every day of the year can be hit.

A test that could not begin is put off to the same time of the next day, until its month is over. Nothing of this is
stored: who can read the database learns nothing of the tests to come.
"""

from __future__ import annotations

import hmac
from calendar import monthrange
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from itertools import count, pairwise
from typing import TypeVar
from zoneinfo import ZoneInfo

T = TypeVar("T")

APART = timedelta(days=14)
"""At least this lies between two tests of a partner."""

APART_DAYS = 15
"""The same between two dates, whatever the hours of the day."""

STARTS_WITHIN = timedelta(minutes=15)
"""A test that could not begin for so long, for whatever reason, is put off to the next day."""

NIGHT_FROM, NIGHT_UNTIL = time(22), time(6)
"""The partner's own night. Holidays and weekends mean the day."""

OFFICE_FROM, OFFICE_UNTIL = time(8), time(18)

CUT_FROM = (12, 18)
CUT_DAYS = 22
"""The cut between two years is a day from 18 December to 8 January."""

AROUND_CUT_DAYS = 7
ATTEMPTS_WITH_HOLIDAYS = 100
"""Holidays are fixed days: where they cannot be kept apart in so many draws, the year goes without."""

ATTEMPTS_MAX = 400
SATURDAY = 5
MONTHS_OF_THIRD = 4


class Kind(StrEnum):
    """At what time somebody is tested, by the partner's own clock and calendar."""

    NIGHT = "night"
    WEEKEND = "weekend"
    HOLIDAY = "holiday"
    WORKING_DAY = "working_day"


@dataclass(frozen=True, slots=True)
class Planned:
    """One month's test."""

    kind: Kind
    at: datetime


def kind_of(at: datetime, time_zone: ZoneInfo, holidays: Collection[date]) -> Kind:
    """What an instant is to somebody there; night comes first, then holiday, then weekend."""
    local = at.astimezone(time_zone)
    if local.time() >= NIGHT_FROM or local.time() < NIGHT_UNTIL:
        return Kind.NIGHT
    if local.date() in holidays:
        return Kind.HOLIDAY
    return Kind.WEEKEND if local.weekday() >= SATURDAY else Kind.WORKING_DAY


def planned(partner: str, month: date, secret: bytes, time_zone: ZoneInfo, holidays: Collection[date]) -> Planned:
    """The partner's test of the month that `month` lies in. `holidays` are those of that year."""
    return planned_year(partner, month.year, secret, time_zone, holidays)[month.month - 1]


def planned_year(
    partner: str, year: int, secret: bytes, time_zone: ZoneInfo, holidays: Collection[date]
) -> tuple[Planned, ...]:
    """The partner's twelve tests of a year: the first draw that keeps every rule."""
    first = _cut(partner, year, secret) + timedelta(days=AROUND_CUT_DAYS + 1)
    last = min(_cut(partner, year + 1, secret) - timedelta(days=AROUND_CUT_DAYS), date(year, 12, 31))
    own = {day for day in holidays if day.year == year}
    free = sorted(day for day in own if first <= day <= last)
    for attempt in range(ATTEMPTS_MAX):
        draws = _Draws(secret, partner, year, attempt)
        kept = free if attempt < ATTEMPTS_WITH_HOLIDAYS else []
        kinds = _kinds(draws, kept)
        days = _days(draws, kinds, own, first, last)
        if days is None:
            continue
        drawn = [Planned(kind, _at(draws, day, kind, time_zone)) for kind, day in zip(kinds, days, strict=True)]
        if _is_kept(drawn, days, time_zone, holidays):
            return tuple(drawn)
    message = f"no draw of {year} keeps the rules"
    raise AssertionError(message)


def due_try(test: Planned, now: datetime, time_zone: ZoneInfo) -> datetime | None:
    """The try of a test that may begin now: its own time or that of a later day of its month; None: not now."""
    if now < test.at:
        return None
    begin = test.at.astimezone(time_zone).replace(tzinfo=None)
    passed = (now.astimezone(time_zone).date() - begin.date()).days
    for days in (passed, passed - 1):
        local = begin + timedelta(days=days)
        at = _instant(local, time_zone)
        if days >= 0 and local.month == begin.month and at <= now < at + STARTS_WITHIN:
            return at
    return None


# --- drawing ----------------------------------------------------------------------------------------------------------


class _Draws:
    """Numbers that nobody can foresee without the secret, the same for the same question."""

    def __init__(self, secret: bytes, *about: object) -> None:
        self._secret = secret
        self._about = "|".join(map(str, about))
        self._numbers = count()

    def below(self, limit: int) -> int:
        """The next number from 0 to `limit` - 1. 64 bits make the lean towards small ones too small to see."""
        asked = f"{self._about}|{next(self._numbers)}".encode()
        return int.from_bytes(hmac.digest(self._secret, asked, "sha256")[:8], "big") % limit

    def one_of(self, items: Sequence[T]) -> T:
        """One of these."""
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        """These in drawn order."""
        left, drawn = list(items), []
        while left:
            drawn.append(left.pop(self.below(len(left))))
        return drawn


def _cut(partner: str, year: int, secret: bytes) -> date:
    """The day between the tests of the year before and those of this one."""
    begin = date(year - 1, *CUT_FROM)
    return begin + timedelta(days=_Draws(secret, partner, "cut", year).below(CUT_DAYS))


def _kinds(draws: _Draws, holidays: Sequence[date]) -> list[Kind]:
    """The kinds of twelve months."""
    kinds: list[Kind] = []
    owed = False
    having = sorted({(day.month - 1) // MONTHS_OF_THIRD for day in holidays})
    without = draws.below(3) if len(having) > 1 else None
    for first, extra in zip((1, 5, 9), draws.shuffled((Kind.WORKING_DAY, Kind.NIGHT, Kind.WEEKEND)), strict=True):
        months = sorted({day.month for day in holidays if first <= day.month < first + MONTHS_OF_THIRD})
        others = draws.shuffled((Kind.NIGHT, Kind.WEEKEND, extra))
        if months and (first - 1) // MONTHS_OF_THIRD != without:
            chosen = months[0] if owed else draws.one_of(months)
            others.insert(chosen - first, Kind.HOLIDAY)
        else:
            others.insert(draws.below(MONTHS_OF_THIRD), draws.one_of((Kind.NIGHT, Kind.WEEKEND)))
        owed = not months
        kinds += others
    return kinds


def _days(
    draws: _Draws, kinds: Sequence[Kind], holidays: Collection[date], first: date, last: date
) -> list[date] | None:
    """A day from `first` to `last` for each kind, far enough from each other; None if this draw has none for one."""
    year = last.year
    fixed = {
        month: draws.one_of(sorted(day for day in holidays if day.month == month and first <= day <= last))
        for month, kind in enumerate(kinds, start=1)
        if kind is Kind.HOLIDAY
    }
    chosen: list[date] = []
    for month, kind in enumerate(kinds, start=1):
        low = max(first, chosen[-1] + timedelta(days=APART_DAYS)) if chosen else first
        following = fixed.get(month + 1)
        high = last if following is None else min(last, following - timedelta(days=APART_DAYS))
        days = (date(year, month, day) for day in range(1, monthrange(year, month)[1] + 1))
        if month in fixed:
            days = (day for day in days if day == fixed[month])
        fitting = [day for day in days if low <= day <= high and _is_day_for(kind, day, holidays)]
        if not fitting:
            return None
        chosen.append(draws.one_of(fitting))
    return chosen


def _is_day_for(kind: Kind, day: date, holidays: Collection[date]) -> bool:
    if kind is Kind.NIGHT:
        return True
    if kind is Kind.HOLIDAY or day in holidays:
        return kind is Kind.HOLIDAY and day in holidays
    return (day.weekday() >= SATURDAY) is (kind is Kind.WEEKEND)


def _at(draws: _Draws, day: date, kind: Kind, time_zone: ZoneInfo) -> datetime:
    """A minute of the day that fits the kind."""
    begin, end = {
        Kind.NIGHT: (NIGHT_FROM, NIGHT_UNTIL),
        Kind.WORKING_DAY: (OFFICE_FROM, OFFICE_UNTIL),
    }.get(kind, (NIGHT_UNTIL, NIGHT_FROM))
    first, minutes = begin.hour * 60, (end.hour - begin.hour) % 24 * 60
    minute = (first + draws.below(minutes)) % (24 * 60)
    return _instant(datetime.combine(day, time(minute // 60, minute % 60)), time_zone)


def _instant(local: datetime, time_zone: ZoneInfo) -> datetime:
    """The instant of a local time; one that a change of clocks has left out comes as much later as it has left out."""
    return local.replace(tzinfo=time_zone).astimezone(UTC)


def _is_kept(drawn: Sequence[Planned], days: Sequence[date], time_zone: ZoneInfo, holidays: Collection[date]) -> bool:
    """Whether the instants are what was drawn, also where clocks change."""
    fits = all(
        test.at.astimezone(time_zone).date() == day and kind_of(test.at, time_zone, holidays) is test.kind
        for test, day in zip(drawn, days, strict=True)
    )
    return fits and all(after.at - before.at >= APART for before, after in pairwise(drawn))
