"""Dates, times, lengths and recurrence rules as calendars write them (RFC 5545, section 3.3), checked before use."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from zoneinfo import ZoneInfo

from icalendar.prop import vRecur

from services.roster.calendars.lines import Property
from services.roster.calendars.model import RULE_STEPS_MAX, YEAR_MAX, YEAR_MIN
from services.roster.calendars.zones import Zones
from services.roster.schedule import hand_over_at

Moment = date | datetime
"""A whole day, or an instant with its zone."""

_DATE = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})")
_DATE_TIME = re.compile(r"([0-9]{4})([0-9]{2})([0-9]{2})T([0-9]{2})([0-9]{2})([0-9]{2})(Z?)")
_DURATION = re.compile(
    r"\+?P(?:([0-9]{1,4})W|(?:([0-9]{1,5})D)?(?:T(?:([0-9]{1,6})H)?(?:([0-9]{1,8})M)?(?:([0-9]{1,9})S)?)?)"
)
_RULE_PART = re.compile(r"([A-Z]+)=([A-Z0-9,:+-]+)")
_RULE_PARTS = frozenset(
    {
        *("FREQ", "UNTIL", "COUNT", "INTERVAL", "BYSECOND", "BYMINUTE", "BYHOUR", "BYDAY", "BYMONTHDAY", "BYYEARDAY"),
        *("BYWEEKNO", "BYMONTH", "BYSETPOS", "WKST"),
    }
)
_LONGEST_MONTHS = {2: 29, 4: 30, 6: 30, 9: 30, 11: 30}


class Unusable(Exception):
    """A value that is not used: `code` and `detail` as a `Fault` tells them."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
        self.detail = detail


@dataclass(slots=True)
class Context:
    """How the times of one event are read: the zone for those that name none, and whether one was read so."""

    zones: Zones
    zone: tzinfo
    floating: bool = False

    def inside(self, moment: Moment) -> None:
        """From here on, times without a zone are read in that of `moment`: an event's end belongs to its beginning."""
        if isinstance(moment, datetime) and moment.tzinfo not in (None, UTC):
            assert moment.tzinfo is not None
            self.zone = moment.tzinfo


@dataclass(frozen=True, slots=True)
class Length:
    """Days by the calendar, and then seconds by the clock."""

    days: int
    seconds: int

    @property
    def on_the_wall(self) -> timedelta:
        """How far the clock on the wall moves on meanwhile, if nobody changes it."""
        return timedelta(days=self.days, seconds=self.seconds)

    def after(self, start: Moment) -> Moment:
        """The end of what begins at `start` and lasts so long."""
        if not isinstance(start, datetime):
            return start + timedelta(days=self.days + -(-self.seconds // 86_400))
        moved = start + timedelta(days=self.days)
        if not self.seconds:
            return moved
        return moved.astimezone(UTC) + timedelta(seconds=self.seconds)


def moment_of(prop: Property, context: Context, text: str | None = None) -> Moment:
    """The date or instant of a property, or of one part of its value; raises `Unusable`."""
    value = (prop.value if text is None else text).strip().upper()
    kind = prop.parameters.get("VALUE", "").upper()
    if (found := _DATE.fullmatch(value)) is not None and kind in ("", "DATE", "DATE-TIME"):
        return _date(prop.name, found)
    if (found := _DATE_TIME.fullmatch(value)) is None or kind not in ("", "DATE-TIME", "PERIOD"):
        raise Unusable("bad_value", f"{prop.name} is not a date, or date and time, as calendars write them")
    on = _date(prop.name, found)
    try:
        # The last second of a leap minute is a second that clocks do not show.
        wall = datetime.combine(on, time(int(found[4]), int(found[5]), min(int(found[6]), 59)))
    except ValueError:
        raise Unusable("bad_value", f"{prop.name} names a time that no clock shows") from None
    if found[7]:
        return wall.replace(tzinfo=UTC)
    name = prop.parameters.get("TZID")
    if name is None:
        context.floating = True
        return wall.replace(tzinfo=context.zone)
    zone = context.zones.find(name)
    if zone is None:
        raise Unusable("unknown_time_zone", f"{prop.name} is in an unknown time zone; the event is not guessed at")
    return wall.replace(tzinfo=zone)


def moments_of(prop: Property, context: Context) -> Iterator[Moment]:
    """The dates or instants of a list."""
    for part in prop.value.split(","):
        yield moment_of(prop, context, part)


def periods_of(prop: Property, context: Context) -> Iterator[Moment | tuple[datetime, datetime]]:
    """The dates, instants or periods of a list."""
    for part in prop.value.split(","):
        first, slash, last = part.partition("/")
        start = moment_of(prop, context, first)
        if not slash:
            yield start
            continue
        if not isinstance(start, datetime):
            raise Unusable("bad_value", f"{prop.name} holds a period that does not begin at an instant")
        end = length_of(last).after(start) if "P" in last.upper() else moment_of(prop, context, last)
        if not isinstance(end, datetime) or end <= start:
            raise Unusable("ends_before_it_begins", f"{prop.name} holds a period that does not end after its beginning")
        # Of one zone, so that the end is the end by the clock of the beginning.
        yield start, end.astimezone(start.tzinfo)


def length_of(text: str) -> Length:
    """How long a DURATION is; raises `Unusable`."""
    found = _DURATION.fullmatch(text.strip().upper())
    if found is None or not any(found.groups()):
        raise Unusable("bad_value", "a DURATION is not written as calendars write it, or is negative")
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return Length(weeks * 7 + days, hours * 3600 + minutes * 60 + seconds)


def instant_of(moment: Moment, zone: ZoneInfo) -> datetime:
    """A moment in UTC; a day begins at the first instant at which the clock in `zone` shows it."""
    if isinstance(moment, datetime):
        return moment.astimezone(UTC)
    return hand_over_at(moment, time(0), zone)


def rule_of(prop: Property, start: Moment, until_at: datetime, context: Context) -> tuple[vRecur, int]:
    """A recurrence rule that is safe to follow from `start` to `until_at`, and the steps which that takes at most.

    Raises `Unusable` for one that is malformed, more frequent than hourly, without any date, or too long.
    """
    parts = _parts(prop.value.upper().rstrip(";"))
    frequency = parts.get("FREQ", "")
    if frequency in ("SECONDLY", "MINUTELY"):
        raise Unusable("rule_too_frequent", f"the event recurs {frequency.lower()}; nobody's duty does")
    if frequency not in ("HOURLY", "DAILY", "WEEKLY", "MONTHLY", "YEARLY"):
        raise Unusable("bad_rule", "the recurrence rule has no frequency that is known")
    _refuse_empty(parts)
    if "UNTIL" in parts:
        until = _until(prop, parts["UNTIL"], start, context)
        parts["UNTIL"] = until
    steps = _steps(parts, start, until_at)
    if steps > RULE_STEPS_MAX:
        detail = f"the event recurs more than {RULE_STEPS_MAX} times before it ends, or has begun too long ago"
        raise Unusable("rule_too_long", detail)
    try:
        return vRecur.from_ical(";".join(f"{name}={value}" for name, value in parts.items())), steps
    except (ValueError, KeyError, TypeError, OverflowError):
        raise Unusable("bad_rule", "the recurrence rule is not written as calendars write it") from None


def _date(name: str, found: re.Match[str]) -> date:
    try:
        on = date(int(found[1]), int(found[2]), int(found[3]))
    except ValueError:
        raise Unusable("bad_value", f"{name} names a date that is in no calendar") from None
    if not YEAR_MIN <= on.year <= YEAR_MAX:
        raise Unusable("bad_value", f"{name} lies outside the years {YEAR_MIN} to {YEAR_MAX}")
    return on


def _parts(text: str) -> dict[str, str]:
    parts: dict[str, str] = {}
    for part in text.split(";"):
        found = _RULE_PART.fullmatch(part.strip())
        if found is None or found[1] not in _RULE_PARTS or found[1] in parts:
            raise Unusable("bad_rule", "the recurrence rule is not written as calendars write it")
        parts[found[1]] = found[2]
    return parts


def _numbers(parts: dict[str, str], name: str) -> list[int]:
    try:
        return [int(number) for number in parts[name].split(",")] if name in parts else []
    except ValueError:
        raise Unusable("bad_rule", "the recurrence rule is not written as calendars write it") from None


def _refuse_empty(parts: dict[str, str]) -> None:
    """Refuses rules of which no date can come: looking for one would run to the end of time."""
    for name in ("INTERVAL", "COUNT"):
        if any(not 1 <= number <= 1_000_000 for number in _numbers(parts, name)):
            raise Unusable("bad_rule", f"the {name} of the recurrence rule cannot be")
    days, months = _numbers(parts, "BYMONTHDAY"), _numbers(parts, "BYMONTH")
    longest = max((_LONGEST_MONTHS.get(month, 31) for month in months), default=31)
    if days and all(abs(day) > longest for day in days):
        raise Unusable("bad_rule", "the recurrence rule names days that its months do not have")


def _steps(parts: dict[str, str], start: Moment, until_at: datetime) -> int:
    """How many dates a rule can name between its beginning and the end of the window."""
    begins = start.astimezone(UTC) if isinstance(start, datetime) else datetime.combine(start, time(0), UTC)
    days = max((until_at - begins).days, 0) + 1
    a_day = 24 if parts["FREQ"] == "HOURLY" else max(1, len(_numbers(parts, "BYHOUR")))
    a_day *= max(1, len(_numbers(parts, "BYMINUTE"))) * max(1, len(_numbers(parts, "BYSECOND")))
    if parts["FREQ"] in ("DAILY", "HOURLY"):
        interval = (_numbers(parts, "INTERVAL") or [1])[0]
        days = days // interval + 1
    if (count := _numbers(parts, "COUNT")) and not any(name.startswith("BY") for name in parts):
        return min(count[0], days * a_day)
    return days * a_day


def _until(prop: Property, text: str, start: Moment, context: Context) -> str:
    """UNTIL in the form that belongs to the beginning: a date for whole days, else an instant in UTC."""
    until = moment_of(Property(prop.line, "UNTIL", text), context)
    if not isinstance(start, datetime):
        return (until.date() if isinstance(until, datetime) else until).strftime("%Y%m%d")
    if not isinstance(until, datetime):
        # Until a date means to its end, in the event's zone.
        until = datetime.combine(until, time(23, 59, 59), start.tzinfo)
    return until.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
