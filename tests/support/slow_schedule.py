"""Who is on duty, computed a second time: slowly, for one instant, and so that everybody can see that it is right.

The cast: a `WallClock` hangs in one zone and knows the latest time that it has shown so far, so a clock that is set
back shows nothing new. `SlowRota` asks the clocks of a rota what they have shown and looks up who has that turn. It
knows nothing of offsets, gaps, folds or windows of instants, and shares no code with `services.roster.schedule` but
the shapes. `made_rota` draws rotas of every kind, from a seed or from Hypothesis.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from importlib import resources
from typing import Protocol, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from dateutil.rrule import rrulestr

from services.roster.schedule import (
    CalendarId,
    Frequency,
    Holiday,
    ImportedShift,
    ImportedShiftId,
    Layer,
    LayerId,
    OnHolidays,
    Override,
    OverrideId,
    Replacement,
    ReplacementId,
    Restriction,
    Rota,
    Rotation,
)
from shared import holiday_calendars
from shared.ids import ContactId, RotaId, SeededBits

SECOND, MINUTE, HOUR, DAY = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
PARTNERS = ("US", "AU", "CA", "ES", "IT", "NZ", "GB", "DE", "BR", "BE", "LU")
"""The ten partners; the institutions of the EU sit in Belgium and Luxembourg."""
FIRST_YEAR, LAST_YEAR = 1996, 2044
"""Windows lie within these years."""
ALL_ZONES = tuple(sorted(available_timezones()))
PEOPLE = tuple(ContactId(UUID(int=number)) for number in range(1, 6))

Duty = tuple[ContactId, ContactId | None] | None
"""Holder and deputy, or nobody."""

Thing = TypeVar("Thing")


@cache
def partner_zones() -> tuple[str, ...]:
    """Every zone of every partner, by the IANA database's own table of countries."""
    table = (resources.files("tzdata") / "zoneinfo" / "zone.tab").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in table.splitlines() if line and not line.startswith("#")]
    return tuple(sorted(row[2].strip() for row in rows if row[0] in PARTNERS))


# --- the second computation -------------------------------------------------------------------------------------------


class WallClock:
    """A clock on a wall, and the instants at which somebody sets it."""

    def __init__(self, zone_name: str) -> None:
        self._zone = ZoneInfo(zone_name)
        self.set_at = self._all_settings()
        self._shown_before = [self.local(instant - SECOND) for instant in self.set_at]

    def local(self, instant: datetime) -> datetime:
        """What it shows."""
        return instant.astimezone(self._zone).replace(tzinfo=None)

    def latest_shown(self, instant: datetime) -> datetime:
        """The latest time that it has shown up to an instant, to the second."""
        shown = self.local(instant)
        last = bisect_right(self.set_at, instant)
        for number in range(last - 1, -1, -1):
            if instant - self.set_at[number] > 3 * DAY:
                break
            shown = max(shown, self._shown_before[number])
        return shown

    def _all_settings(self) -> list[datetime]:
        found = []
        instant = datetime(FIRST_YEAR - 1, 1, 1, tzinfo=UTC)
        offset = self._offset(instant)
        while instant.year <= LAST_YEAR + 1:
            following = instant + 7 * DAY
            if (after := self._offset(following)) != offset:
                low, high = instant, following
                while high - low > SECOND:
                    middle = low + (high - low) // SECOND // 2 * SECOND
                    if self._offset(middle) == offset:
                        low = middle
                    else:
                        high = middle
                found.append(high)
            instant, offset = following, after
        return found

    def _offset(self, instant: datetime) -> timedelta | None:
        return instant.astimezone(self._zone).utcoffset()


@cache
def wall_clock(zone_name: str) -> WallClock:
    """The clock of a zone."""
    return WallClock(zone_name)


class SlowRota:
    """Looks up who is on duty at one instant. `until` bounds what may be asked."""

    def __init__(self, rota: Rota, until: datetime) -> None:
        self._rota = rota
        self._until = until.replace(tzinfo=None) + 40 * DAY
        self._beginnings: dict[Layer, list[datetime]] = {}

    def at(self, instant: datetime) -> Duty:
        """Who is on duty."""
        return self._after_overrides(instant, list(self._rota.overrides))

    def _after_overrides(self, instant: datetime, overrides: list[Override]) -> Duty:
        if not overrides:
            return self._without_overrides(instant)
        last = overrides[-1]
        beneath = self._after_overrides(instant, overrides[:-1])
        if not last.start_at <= instant < last.end_at:
            return beneath
        if last.contact_id is None:
            return None
        return self._standing_in(last.contact_id, last.deputy_id, beneath)

    def _without_overrides(self, instant: datetime) -> Duty:
        for replacement in reversed(self._rota.replacements):
            if replacement.start_at <= instant < replacement.end_at:
                return self._of_layers(instant, replacement.layers)
        duty = self._of_layers(instant, self._rota.layers)
        for imported in sorted(self._rota.imported, key=lambda one: one.start_at):
            if imported.start_at <= instant < imported.end_at:
                duty = self._standing_in(imported.contact_id, None, duty)
        return duty

    @staticmethod
    def _standing_in(contact_id: ContactId, deputy_id: ContactId | None, beneath: Duty) -> Duty:
        if deputy_id is not None:
            return contact_id, deputy_id
        stays = beneath[1] if beneath is not None else None
        return contact_id, stays if stays != contact_id else None

    def _of_layers(self, instant: datetime, layers: Sequence[Layer]) -> Duty:
        for layer in layers:
            duty = self._of_layer(layer, wall_clock(layer.time_zone or self._rota.time_zone).latest_shown(instant))
            if duty is not None:
                return duty
        return None

    def _of_layer(self, layer: Layer, shown: datetime) -> Duty:
        if layer.ends_on is not None and shown >= datetime.combine(layer.ends_on, layer.hand_over_time):
            return None
        turn = bisect_right(self._turns(layer), shown) - 1
        if turn < 0 or not self._is_open(layer, shown):
            return None
        holder = layer.participants[turn % len(layer.participants)]
        around = [layer.deputies[(turn + n) % len(layer.deputies)] for n in range(len(layer.deputies))]
        others = [deputy for deputy in around if deputy != holder]
        return holder, others[0] if others else None

    def _turns(self, layer: Layer) -> list[datetime]:
        """All beginnings, one after the other from the first, as a person would mark them in a diary."""
        if layer not in self._beginnings:
            first = datetime.combine(layer.starts_on, layer.hand_over_time)
            if layer.rotation.frequency is Frequency.RULE:
                rule = rrulestr(str(layer.rotation.rule), dtstart=first)
                marked = rule.between(first, self._until, inc=True)
            else:
                unit = {"hourly": HOUR, "daily": DAY, "weekly": 7 * DAY}[layer.rotation.frequency]
                marked = [first]
                while marked[-1] <= self._until:
                    marked.append(marked[-1] + layer.rotation.every * unit)
            self._beginnings[layer] = marked
        return self._beginnings[layer]

    def _is_open(self, layer: Layer, shown: datetime) -> bool:
        for back in (2, 1, 0):
            on = shown.date() - back * DAY
            if layer.on_holidays is OnHolidays.ONLY and not self._is_holiday(on):
                continue
            if layer.on_holidays is OnHolidays.NEVER and self._is_holiday(on):
                continue
            if not layer.restrictions:
                begins = datetime.combine(on, layer.hand_over_time)
                if begins <= shown < begins + DAY:
                    return True
            for restriction in layer.restrictions:
                begins, ends = datetime.combine(on, restriction.from_time), datetime.combine(on, restriction.until_time)
                if ends <= begins:
                    ends += DAY
                if begins <= shown < ends and (not restriction.weekdays or on.isoweekday() in restriction.weekdays):
                    return True
        return False

    def _is_holiday(self, on: date) -> bool:
        if any(holiday.on == on for holiday in self._rota.extra_holidays):
            return True
        calendar = self._rota.holiday_calendar
        return calendar is not None and on in holiday_calendars.names(calendar, on.year)


# --- rotas of every kind ----------------------------------------------------------------------------------------------


class Chance(Protocol):
    """Where a made rota takes its choices from."""

    def number(self, low: int, high: int) -> int:
        """A whole number from `low` to `high`, both included."""

    def pick(self, things: Sequence[Thing]) -> Thing:
        """One of several things."""


class SeededChance:
    """Choices that a seed repeats."""

    def __init__(self, seed: int) -> None:
        self._bits = SeededBits(seed)

    def number(self, low: int, high: int) -> int:
        return low + self._bits(40) % (high - low + 1)

    def pick(self, things: Sequence[Thing]) -> Thing:
        return things[self.number(0, len(things) - 1)]


@dataclass(frozen=True)
class Made:
    """A rota and a window."""

    rota: Rota
    from_at: datetime
    to_at: datetime


_RULES = (
    "FREQ=WEEKLY;BYDAY=MO,FR",
    "FREQ=WEEKLY;INTERVAL=2;BYDAY=WE",
    "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,SU;WKST=SU",
    "FREQ=DAILY",
    "FREQ=DAILY;INTERVAL=3",
    "FREQ=DAILY;BYHOUR=2,14;BYMINUTE=30",
    "FREQ=DAILY;BYHOUR=8,20",
    "FREQ=MONTHLY",
    "FREQ=MONTHLY;BYMONTHDAY=1,15",
    "FREQ=MONTHLY;BYMONTHDAY=-1",
    "FREQ=MONTHLY;BYDAY=1MO,3MO",
    "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
    "FREQ=YEARLY;BYMONTH=3,10;BYDAY=-1SU",
    "FREQ=YEARLY;BYWEEKNO=13,43;BYDAY=SU",
    "FREQ=HOURLY;INTERVAL=6",
    "FREQ=HOURLY;INTERVAL=5;BYDAY=SA,SU",
)
_CALENDARS = (None, *("US", "AU", "CA", "ES", "IT", "NZ", "GB", "DE", "BR", "EU", "AU-ACT", "GB-ENG"))
_OFFICE, _NIGHT = (time(9), time(17)), (time(20), time(8))


def made_rota(chance: Chance, zone_name: str, zones: Sequence[str], window_days: int) -> Made:
    """A rota in one zone, some layers in others, and a window mostly around an instant at which a clock is set."""
    settings = [at for at in wall_clock(zone_name).set_at if FIRST_YEAR <= at.year < LAST_YEAR - window_days // 365]
    if settings and chance.number(0, 9) > 0:
        middle = chance.pick(settings)
    else:
        latest_days = (LAST_YEAR - FIRST_YEAR - 1) * 365 - window_days
        middle = datetime(FIRST_YEAR, 1, 1, tzinfo=UTC) + HOUR * chance.number(0, 24 * latest_days)
    from_at = middle - MINUTE * chance.number(0, min(window_days, 5) * 24 * 60)
    to_at = from_at + window_days * DAY
    calendar = chance.pick(_CALENDARS)
    maker = _Maker(chance, zone_name, zones, middle, from_at, to_at, knows_holidays=calendar is not None)
    rota = Rota(
        RotaId(UUID(int=100)),
        "made",
        zone_name,
        layers=maker.layers(3),
        overrides=tuple(maker.override(number) for number in range(maker.few(3))),
        replacements=tuple(maker.replacement(number) for number in range(maker.few(2))),
        imported=tuple(maker.imported(number) for number in range(maker.few(4))),
        holiday_calendar=calendar,
        extra_holidays=tuple(Holiday(middle.date() + day * DAY, "own") for day in range(maker.few(2))),
    )
    return Made(rota, from_at, to_at)


@dataclass
class _Maker:
    chance: Chance
    zone_name: str
    zones: Sequence[str]
    middle: datetime
    from_at: datetime
    to_at: datetime
    knows_holidays: bool
    made_layers: int = 0

    def few(self, most: int) -> int:
        """None, most often."""
        return max(0, self.chance.number(-most, most))

    def layers(self, most: int) -> tuple[Layer, ...]:
        return tuple(self.layer() for _ in range(self.chance.number(1, most)))

    def layer(self) -> Layer:
        self.made_layers += 1
        chance = self.chance
        rotation = self.rotation()
        back_days = 30 if rotation.frequency is Frequency.HOURLY else 900
        starts_on = self.middle.date() - DAY * chance.number(-2, chance.pick((2, 14, back_days)))
        return Layer(
            id=LayerId(UUID(int=200 + self.made_layers)),
            name="layer",
            rotation=rotation,
            participants=self.people(1, 4),
            starts_on=starts_on,
            hand_over_time=self.time_of_day(),
            ends_on=starts_on + DAY * chance.number(1, 90) if chance.number(0, 5) == 0 else None,
            deputies=self.people(0, 3),
            time_zone=chance.pick(self.zones) if chance.number(0, 4) == 0 else None,
            restrictions=tuple(self.restriction() for _ in range(self.few(2))),
            on_holidays=chance.pick((OnHolidays.ANY, *OnHolidays)) if self.knows_holidays else OnHolidays.ANY,
        )

    def rotation(self) -> Rotation:
        frequency = self.chance.pick(tuple(Frequency))
        if frequency is Frequency.RULE:
            return Rotation(frequency, 1, self.chance.pick(_RULES))
        most = 36 if frequency is Frequency.HOURLY else 4
        return Rotation(frequency, self.chance.number(1, most))

    def restriction(self) -> Restriction:
        from_time, until_time = self.chance.pick((_OFFICE, _NIGHT, (self.time_of_day(), self.time_of_day())))
        weekdays = self.chance.pick(((), (1, 2, 3, 4, 5), (6, 7), (7,), (1, 3, 5, 6)))
        return Restriction(from_time, until_time, weekdays)

    def time_of_day(self) -> time:
        """Often one that a clock skips or shows twice when it is set at `middle`."""
        kind = self.chance.number(0, 3)
        if kind == 0:
            return time(2, 30)
        if kind == 1:
            near = wall_clock(self.zone_name).local(self.middle) + MINUTE * self.chance.number(-90, 90)
            return near.time().replace(second=0, microsecond=0)
        return time(self.chance.number(0, 23), self.chance.pick((0, 0, 15, 30, 59)))

    def people(self, least: int, most: int) -> tuple[ContactId, ...]:
        return tuple(self.chance.pick(PEOPLE) for _ in range(self.chance.number(least, most)))

    def stretch(self) -> tuple[datetime, datetime]:
        minutes = int((self.to_at - self.from_at) / MINUTE)
        start_at = self.from_at + MINUTE * self.chance.number(-600, minutes)
        return start_at, start_at + MINUTE * self.chance.number(1, max(2000, minutes // 4))

    def override(self, number: int) -> Override:
        start_at, end_at = self.stretch()
        contact_id = self.chance.pick((*PEOPLE, None))
        deputy_id = None
        if contact_id is not None and self.chance.number(0, 2) == 0:
            deputy_id = self.chance.pick([person for person in PEOPLE if person != contact_id])
        return Override(OverrideId(UUID(int=300 + number)), contact_id, start_at, end_at, deputy_id)

    def replacement(self, number: int) -> Replacement:
        start_at, end_at = self.stretch()
        return Replacement(ReplacementId(UUID(int=400 + number)), "instead", start_at, end_at, self.layers(2))

    def imported(self, number: int) -> ImportedShift:
        start_at, end_at = self.stretch()
        calendar_id = CalendarId(UUID(int=600))
        return ImportedShift(
            ImportedShiftId(UUID(int=500 + number)), calendar_id, self.chance.pick(PEOPLE), start_at, end_at
        )
