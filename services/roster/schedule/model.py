"""What a rota is made of, and its limits. Shapes only; what they mean is computed in `shifts`.

All times of day are local: in the layer's zone if it has one, else in the rota's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from enum import StrEnum
from typing import NewType
from uuid import UUID

from shared.ids import ContactId, RotaId

LayerId = NewType("LayerId", UUID)
OverrideId = NewType("OverrideId", UUID)
ReplacementId = NewType("ReplacementId", UUID)
CalendarId = NewType("CalendarId", UUID)
ImportedShiftId = NewType("ImportedShiftId", UUID)

LAYERS_MAX = 10
PARTICIPANTS_MAX = 100
OVERRIDES_MAX = 100
REPLACEMENTS_MAX = 20
RESTRICTIONS_MAX = 14
EXTRA_HOLIDAYS_MAX = 100
IMPORTED_MAX = 2_000
"""Shifts of one rota that came from calendars: more than five a day for a year."""
NOTICES_MAX = 3
NOTICE_HOURS_MAX = 14 * 24
EVERY_MAX = {"hourly": 24 * 14, "daily": 52, "weekly": 52}
"""Turns of at most fourteen days in hours, 52 days or 52 weeks."""
RULE_CHARACTERS_MAX = 300
OVERRIDE_DAYS_MAX = 366
SPAN_DAYS_MAX = 4000
"""A little more than ten years: the longest window that `shifts` computes in one call."""
EARLIEST_DATE, EARLIEST_AT = date(1970, 1, 1), datetime(1970, 1, 1, tzinfo=UTC)
LATEST_DATE, LATEST_AT = date(2199, 12, 31), datetime(2200, 1, 1, tzinfo=UTC)
"""Outside these dates a typing error is likelier than an intention, and zone data says nothing."""
ON_CALL_HORIZON_DAYS = 14
"""`on_call` tells the beginning and end of a shift as far as this many days before and after the instant asked for."""


class Frequency(StrEnum):
    """The unit in which a rotation counts its turns; `RULE` is a recurrence rule of RFC 5545."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    RULE = "rule"


@dataclass(frozen=True, slots=True)
class Rotation:
    """How long one turn is: `every` hours, days or weeks of the local clock, or from one date of `rule` to the next.

    `rule` is the text behind `RRULE:`, such as `FREQ=WEEKLY;BYDAY=MO,FR`, and there for `RULE` alone.
    """

    frequency: Frequency
    every: int = 1
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class Restriction:
    """Hours of some weekdays (ISO: 1 is Monday; none named: every day), from `from_time` until `until_time`.

    An end that is not later than the beginning lies on the next day, so 00:00 to 00:00 is the whole day; a night
    belongs to the weekday on which it begins.
    """

    from_time: time
    until_time: time
    weekdays: tuple[int, ...] = ()


class OnHolidays(StrEnum):
    """Whether a layer covers holidays: as any day, nothing else, or never."""

    ANY = "any"
    ONLY = "only"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Layer:
    """One rotation of a rota.

    `hand_over_time` is a local wall time. A weekly rotation hands over on the weekday of `starts_on`. From the
    hand-over time of `ends_on` the layer covers nothing; `None` means that it has no end. Turn n is covered by
    participant n and by deputy n, each counted round; a deputy who is the participant gives way to the next one.
    `restrictions` and `on_holidays` take days and hours away, they never shift the turns. A layer's day begins at its
    hand-over time, and a restriction belongs to the date on which it begins: that date says whether it is a holiday.
    """

    id: LayerId
    name: str
    rotation: Rotation
    participants: tuple[ContactId, ...]
    starts_on: date
    hand_over_time: time
    ends_on: date | None = None
    deputies: tuple[ContactId, ...] = ()
    time_zone: str | None = None
    restrictions: tuple[Restriction, ...] = ()
    on_holidays: OnHolidays = OnHolidays.ANY


@dataclass(frozen=True, slots=True)
class Override:
    """Replaces whoever would be on call in [start_at, end_at); `contact_id` `None` means that nobody is.

    Without a `deputy_id` the deputy of what lies beneath stays, unless it is the person who stands in.
    """

    id: OverrideId
    contact_id: ContactId | None
    start_at: datetime
    end_at: datetime
    deputy_id: ContactId | None = None


@dataclass(frozen=True, slots=True)
class Replacement:
    """Other layers in the place of all of the rota's in [start_at, end_at): a summer, a conference, a move.

    What came from calendars gives way to it, too; overrides still lie over it. Of two that overlap the last one holds.
    """

    id: ReplacementId
    name: str
    start_at: datetime
    end_at: datetime
    layers: tuple[Layer, ...]


@dataclass(frozen=True, slots=True)
class ImportedShift:
    """A shift that the ministry's own calendar says; it outranks the layers, whose deputies stay as with an override.

    Of two that overlap the one that begins later holds, until its end.
    """

    id: ImportedShiftId
    calendar_id: CalendarId
    contact_id: ContactId
    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True)
class Holiday:
    """A day that is free, in the rota's zone."""

    on: date
    name: str


@dataclass(frozen=True, slots=True)
class Rota:
    """One on-call schedule: `layers` in the order of their precedence, `overrides` and `replacements` in the order of
    their making.

    `holiday_calendar` names one of `shared.holiday_calendars` (`CA`, `CA-QC`, `EU`); `extra_holidays` are the
    partner's own. With `signs_hand_over` outgoing and incoming are both paged until both have signed. `notice_hours`
    say how long before a shift its holder is told.
    """

    id: RotaId
    name: str
    time_zone: str
    layers: tuple[Layer, ...] = ()
    overrides: tuple[Override, ...] = ()
    replacements: tuple[Replacement, ...] = ()
    imported: tuple[ImportedShift, ...] = ()
    holiday_calendar: str | None = None
    extra_holidays: tuple[Holiday, ...] = ()
    signs_hand_over: bool = False
    notice_hours: tuple[int, ...] = (24,)


@dataclass(frozen=True, slots=True)
class Shift:
    """One contact on call in [start_at, end_at), UTC, with a deputy if there is one; `origin` says what says so."""

    contact_id: ContactId
    start_at: datetime
    end_at: datetime
    origin: LayerId | OverrideId | ImportedShiftId
    deputy_id: ContactId | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Nobody is on call in [start_at, end_at), UTC."""

    start_at: datetime
    end_at: datetime
