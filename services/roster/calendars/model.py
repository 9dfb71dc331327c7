"""What reading a calendar gives, and its limits. Shapes only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

BYTES_MAX = 1_000_000
LINE_CHARACTERS_MAX = 20_000
"""Of one line after unfolding: several hundred exception dates. Longer ones are left out and reported."""
COMPONENTS_MAX = 10_000
DEPTH_MAX = 8
"""An alarm in an event in a calendar is three deep."""
PROPERTIES_MAX = 500
"""Of one event, those that are looked at."""
EVENTS_MAX = 5_000
"""Occurrences in the window: twelve a day."""
WINDOW_BEFORE = timedelta(days=7)
WINDOW_AFTER = timedelta(days=400)
EVENT_DAYS_MAX = 366
RULE_STEPS_MAX = 100_000
"""How many dates one recurrence rule may run through from its beginning to the end of the window: every day since 1900
is 46,000 of them, every hour since 2015 is 100,000.
"""
YEAR_MIN, YEAR_MAX = 1900, 2199
OBSERVANCES_MAX = 12
"""Of one time zone that a calendar defines for itself, in the years that are looked at."""
FAULTS_MAX = 100
"""Faults that are told one by one; of further ones only how many there are."""
SUMMARY_CHARACTERS_MAX = 200
UID_CHARACTERS_MAX = 300
PEOPLE_MAX = 50
NAME_CHARACTERS_MAX = 100


@dataclass(frozen=True, slots=True)
class CalendarEvent:
    """One time in [start_at, end_at), UTC, that a calendar names.

    `recurrence` tells the occurrences of one `uid` apart, and stays the same when one of them is moved. `people` are
    the e-mail addresses of those who attend, `organizer` that of whoever owns the event; `line` is where it stands.
    """

    uid: str
    recurrence: str
    start_at: datetime
    end_at: datetime
    summary: str
    people: tuple[str, ...] = ()
    organizer: str | None = None
    line: int = 0


@dataclass(frozen=True, slots=True)
class Fault:
    """What of a calendar could not be read or used: the line on which it stands, a stable code, and one sentence.

    The sentence never repeats what the calendar says.
    """

    line: int
    code: str
    detail: str


@dataclass(frozen=True, slots=True)
class Reading:
    """A calendar as far as it could be read, its events in the order of their beginnings.

    `notes` count by code what was read in a certain way: `floating` (times without a zone, read in the rota's),
    `all_day` (whole days of the rota's zone), `free` (marked as not taking up time, and used all the same),
    `cancelled` and `duplicate` (left out), `repaired` (lines), `not_utf8` and `nul_bytes`. A `truncated` calendar has
    no end.
    """

    name: str | None
    events: tuple[CalendarEvent, ...]
    faults: tuple[Fault, ...] = ()
    faults_omitted: int = 0
    notes: tuple[tuple[str, int], ...] = ()
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Why nothing at all of a text is used: a stable code and one sentence."""

    code: str
    detail: str
