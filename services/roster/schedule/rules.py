"""Recurrence rules of RFC 5545: which are allowed, and the local times at which they happen.

A rule is read on local times without a zone, from `starts_on` at the hand-over time (its DTSTART) on; that moment
itself counts only if the rule names it. What a rule must not say, because a layer says it elsewhere or because a
hand-over cannot be so often, is refused with what to use instead. Months and years in which a rule names no day have
no turn, as RFC 5545 says: the turn before goes on.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import islice, takewhile

from dateutil.rrule import rrulestr

from services.roster.schedule.model import EVERY_MAX, LATEST_DATE, RULE_CHARACTERS_MAX

RULE_TURNS_MAX = 20_000
"""Turns that are counted from the start of a rule, after which its layer ends: 54 years of daily turns."""
RULE_PROVEN_DAYS = 3660
"""A rule that would reach its last turn within this time, a little more than ten years, is refused."""
RULE_SILENCE_DAYS_MAX = 732
"""How long the first and the second turn of a rule may keep waiting: two years."""
RULES_REMEMBERED = 2048
"""Of so many rules is it remembered what is wrong with them."""

_INTERVAL_MAX = {
    "HOURLY": EVERY_MAX["hourly"],
    "DAILY": EVERY_MAX["daily"],
    "WEEKLY": EVERY_MAX["weekly"],
    "MONTHLY": 12,
    "YEARLY": 2,
}
_INSTEAD = {
    "COUNT": "use ends_on",
    "UNTIL": "use ends_on",
    "DTSTART": "use starts_on and hand_over_time; where the rule ends, use ends_on",
    "TZID": "use time_zone; where the rule ends, use ends_on",
    "BYSECOND": "hand-overs are at whole minutes",
    "BYEASTER": "RFC 5545 has no such part; use holidays",
}
_TEXT = re.compile(r"[A-Za-z0-9=;,+-]*")
_NUMBER = re.compile(r"[+-]?[0-9]{1,3}")
_WEEKDAY = re.compile(r"(?P<nth>[+-]?[0-9]{1,2})?(MO|TU|WE|TH|FR|SA|SU)")
_CYCLE_YEARS = 400
"""The Gregorian calendar repeats after 400 years, to the weekday."""
_NINETEEN_CYCLES = 19 * _CYCLE_YEARS
_LAST_YEAR = LATEST_DATE.year + 10
"""So far the beginnings of turns are sought, because the last turn that anybody may ask for ends with the next one."""


@lru_cache(maxsize=RULES_REMEMBERED)
def rule_faults(rule: str, first: datetime) -> tuple[str, ...]:
    """What is wrong with a rule whose layer starts at the local time `first`, each with what would be right.

    Counting the turns of a rule takes up to a tenth of a second, and one rota may hold 210 rules: each is asked once.
    """
    return tuple(_faults(rule, first))


def _faults(rule: str, first: datetime) -> Iterator[str]:
    if len(rule) > RULE_CHARACTERS_MAX:
        yield f"holds {len(rule)} characters; at most {RULE_CHARACTERS_MAX} are possible"
        return
    if not _TEXT.fullmatch(rule):
        yield "is no recurrence rule; use one line such as FREQ=WEEKLY;BYDAY=MO,FR, without RRULE: before it"
        return
    wrong = list(_part_faults(rule.upper()))
    if wrong:
        yield from wrong
        return
    try:
        yield from _turn_faults(rule, first)
    except ValueError:
        yield "never happens; check that its parts can be true together"


def _turn_faults(rule: str, first: datetime) -> Iterator[str]:
    """What is wrong with the times at which a readable rule happens. Raises `ValueError` if it cannot happen."""
    coming = _times(rule, first)
    silence = timedelta(days=RULE_SILENCE_DAYS_MAX)
    begins = next(coming, None)
    if begins is None or begins - first > silence:
        yield f"does not happen within {RULE_SILENCE_DAYS_MAX} days after starts_on; check its parts"
        return
    follows = next(coming, None)
    if follows is None or follows - begins > silence:
        yield f"does not happen again within {RULE_SILENCE_DAYS_MAX} days; use a layer with ends_on for a single turn"
        return
    proven = first + timedelta(days=RULE_PROVEN_DAYS)
    turns = sum(1 for _ in takewhile(lambda at: at <= proven, islice(coming, RULE_TURNS_MAX)))
    if turns + 2 > RULE_TURNS_MAX:
        yield f"gives more than {RULE_TURNS_MAX} turns in ten years; use the frequency hourly"


def _part_faults(rule: str) -> Iterator[str]:
    parts: dict[str, str] = {}
    for part in rule.split(";"):
        name, mark, value = part.partition("=")
        if not mark or not value:
            yield f"holds {part[:40]!a}; use parts such as BYDAY=MO,FR with ; between them"
        elif name in parts:
            yield f"names {name} twice; name it once"
        else:
            parts[name] = value
    frequency = parts.pop("FREQ", None)
    if frequency not in _INTERVAL_MAX:
        yield f"needs FREQ, one of {', '.join(_INTERVAL_MAX)}"
        return
    for name, value in parts.items():
        if name in _INSTEAD:
            yield f"must not hold {name}; {_INSTEAD[name]}"
        elif name not in _PARTS:
            yield f"holds {name[:40]!a}, which is no part of a rule; use {', '.join(_PARTS)}"
        elif remedy := _PARTS[name](value, frequency):
            yield f"holds a {name} that is not possible; {remedy}"
    if "BYWEEKNO" in parts and "BYDAY" not in parts:
        yield "names weeks without days; add BYDAY"
    if "BYSETPOS" in parts and not any(name.startswith("BY") and name != "BYSETPOS" for name in parts):
        yield "holds BYSETPOS alone; name the days from which it chooses, for example with BYDAY"
    if "BYWEEKNO" in parts and any(character.isdigit() for character in parts.get("BYDAY", "")):
        yield "counts days within weeks; use BYDAY without numbers beside BYWEEKNO"


def _numbers(
    low: int, high: int, *, signed: bool = False, only: tuple[str, ...] = tuple(_INTERVAL_MAX), single: bool = False
) -> Callable[[str, str], str | None]:
    """A check of a list of whole numbers from `low` to `high`, with `signed` from `-high` to `-low`, too."""
    remedy = f"use {'one' if single else 'whole numbers'} of {low} to {high}{' or below zero' if signed else ''}"

    def check(value: str, frequency: str) -> str | None:
        if frequency not in only:
            return f"it goes with {', '.join(only)} only"
        found = value.split(",")
        if single and len(found) > 1:
            return remedy
        for one in found:
            if not _NUMBER.fullmatch(one) or not low <= (abs(int(one)) if signed else int(one)) <= high:
                return remedy
        return None

    return check


def _interval(value: str, frequency: str) -> str | None:
    return _numbers(1, _INTERVAL_MAX[frequency], single=True)(value, frequency)


def _days(value: str, frequency: str) -> str | None:
    for one in value.split(","):
        found = _WEEKDAY.fullmatch(one)
        if found is None or (found["nth"] is not None and not 1 <= abs(int(found["nth"])) <= 53):
            return "use days such as MO or, by month and year, 1MO and -1FR"
        if found["nth"] is not None and frequency not in ("MONTHLY", "YEARLY"):
            return "numbered days go with MONTHLY, YEARLY only"
    return None


def _week_start(value: str, _frequency: str) -> str | None:
    return None if value in ("MO", "TU", "WE", "TH", "FR", "SA", "SU") else "use a day such as MO"


_PARTS: dict[str, Callable[[str, str], str | None]] = {
    "INTERVAL": _interval,
    "BYMONTH": _numbers(1, 12),
    "BYWEEKNO": _numbers(1, 53, signed=True, only=("YEARLY",)),
    "BYYEARDAY": _numbers(1, 366, signed=True, only=("HOURLY", "YEARLY")),
    "BYMONTHDAY": _numbers(1, 31, signed=True, only=("HOURLY", "DAILY", "MONTHLY", "YEARLY")),
    "BYDAY": _days,
    "BYHOUR": _numbers(0, 23),
    # One minute past the hour, so that no two hand-overs are less than an hour apart.
    "BYMINUTE": _numbers(0, 59, single=True),
    "BYSETPOS": _numbers(1, 366, signed=True, only=("DAILY", "WEEKLY", "MONTHLY", "YEARLY")),
    "WKST": _week_start,
}


def times(rule: str, first: datetime, until: datetime) -> tuple[datetime, ...]:
    """The local times of turn 0, 1, 2 … of a rule that starts at `first`, at least up to the first one after `until`.

    At most `RULE_TURNS_MAX`, and none after the years that rotas may speak of. A rule that cannot be read has none.
    """
    years = 2
    while first.year + years <= min(until.year, LATEST_DATE.year):
        years *= 2
    found = _times_of(rule, first, years)
    while found and found[-1] <= until and len(found) < RULE_TURNS_MAX and first.year + years <= LATEST_DATE.year:
        years *= 2
        found = _times_of(rule, first, years)
    return found


def turn_at(found: tuple[datetime, ...], shown: datetime) -> int:
    """The number of the turn that holds when the local clock shows `shown`; -1 before the first one."""
    return bisect_right(found, shown) - 1


@lru_cache(maxsize=2048)
def _times_of(rule: str, first: datetime, years: int) -> tuple[datetime, ...]:
    last_year = min(first.year + years, _LAST_YEAR)
    try:
        return tuple(takewhile(lambda at: at.year <= last_year, islice(_times(rule, first), RULE_TURNS_MAX)))
    except ValueError:
        # Was allowed when it was stored: a hole that everybody sees, instead of a duty plan that cannot be computed.
        return ()


def _times(rule: str, first: datetime) -> Iterator[datetime]:
    """Local times of a rule without end.

    The library searches to the year 9999 for a rule that no longer happens. Some cycles of the calendar later it has
    at most four centuries to search, which takes a fraction of a second.
    """
    shifted = first.replace(year=first.year + _NINETEEN_CYCLES)
    for at in rrulestr(rule, dtstart=shifted):
        yield at.replace(year=at.year - _NINETEEN_CYCLES)
