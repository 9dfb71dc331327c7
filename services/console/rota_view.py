"""What a rota's weeks look like: a lane for each person, bars for their shifts, and what is laid over or missing.

The cast: `weeks_of` lays the shifts that the API answers out into `Week`s. A `Week` has days, lanes and bars in percent
of its width, so that it is drawn at any size without a script.

The promise: pure. A bar that is cut by the edge of its week still speaks of its whole shift; where the script runs from
right to left, so does time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from babel.dates import format_date, format_datetime

from services.console.words import Reader, _, as_instant

Json = Mapping[str, Any]

WEEK = timedelta(days=7)
DAY = timedelta(days=1)
SATURDAY = 5

ORIGINS: Mapping[str, str] = {
    "layer": _("Rotation"),
    "replacement": _("Replacement"),
    "override": _("Override"),
    "calendar": _("Calendar"),
}
"""What puts somebody on duty, as roster names it."""


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a week's width, in percent from the edge where the week begins to be drawn."""

    x: float
    width: float


@dataclass(frozen=True, slots=True)
class Day:
    """One day by the rota's clock."""

    on: date
    span: Span
    is_weekend: bool
    is_today: bool
    holiday: str | None


@dataclass(frozen=True, slots=True)
class Bar:
    """One stretch in a lane, with the whole of the shift that it is part of.

    `kind` is `duty`, `deputy`, or for what lies over the rotation `override`, `replacement` or `calendar`.
    """

    kind: str
    span: Span
    start_at: datetime
    end_at: datetime
    name: str | None
    deputy: str | None
    origin: str
    is_now: bool = False


@dataclass(frozen=True, slots=True)
class Lane:
    """What one person does in a week; without a name, what is laid over the rotation."""

    name: str | None
    bars: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Hole:
    """Nobody is on duty."""

    span: Span
    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True)
class Week:
    """Seven days of a rota. `now_x` is where the present instant lies, if it lies in this week."""

    days: tuple[Day, ...]
    lanes: tuple[Lane, ...]
    holes: tuple[Hole, ...]
    now_x: float | None

    @property
    def has_holiday(self) -> bool:
        """Whether one of its days is free."""
        return any(day.holiday for day in self.days)


@dataclass(frozen=True, slots=True)
class Frame:
    """The edges of a week as instants, and in which direction it is read."""

    start_at: datetime
    end_at: datetime
    is_mirrored: bool

    def span(self, start_at: datetime, end_at: datetime) -> Span | None:
        """The part of [start_at, end_at) that lies in the week; None if there is none."""
        start, end = max(start_at, self.start_at), min(end_at, self.end_at)
        if start >= end:
            return None
        whole = self.end_at - self.start_at
        x, width = 100 * ((start - self.start_at) / whole), 100 * ((end - start) / whole)
        return Span(round(100 - x - width if self.is_mirrored else x, 3), round(width, 3))


def monday_of(day: date) -> date:
    """The Monday of a day's week."""
    return day - timedelta(days=day.weekday())


def midnight(day: date, zone: str) -> datetime:
    """When a day begins by the clocks of a zone."""
    return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)


def weeks_of(
    found: Json, rota: Json, *, first: date, count: int, now: datetime, names: Mapping[str, str], is_mirrored: bool
) -> list[Week]:
    """The weeks from the Monday `first` on.

    `found` holds the rota's shifts, gaps and holidays in a window that is at least as long; `rota` what its manager
    wrote; `names` the people by their ids. Days are those of the rota's zone.
    """
    holidays = {one["on"]: one["name"] for one in found["holidays"]}
    weeks = []
    for number in range(count):
        monday = first + number * WEEK
        edges = [midnight(monday + timedelta(days=place), found["time_zone"]) for place in range(8)]
        frame = Frame(edges[0], edges[7], is_mirrored)
        days = tuple(
            Day(
                on=(on := monday + timedelta(days=place)),
                span=frame.span(edges[place], edges[place + 1]) or Span(0, 0),
                is_weekend=place >= SATURDAY,
                is_today=edges[place] <= now < edges[place + 1],
                holiday=holidays.get(on.isoformat()),
            )
            for place in range(7)
        )
        shown = frame.span(now, now + timedelta(microseconds=1))
        now_x = None if shown is None else shown.x
        weeks.append(Week(days, tuple(_lanes(frame, found["shifts"], rota, names, now)), _holes(frame, found), now_x))
    return weeks


def people_of(rota: Json) -> list[str]:
    """The contacts that a rota names, in the order of their turns."""
    layers = [*rota["layers"], *(layer for one in rota["replacements"] for layer in one["layers"])]
    return list(dict.fromkeys(person for layer in layers for person in (*layer["participants"], *layer["deputies"])))


def _holes(frame: Frame, found: Json) -> tuple[Hole, ...]:
    spans = ((frame.span(start, end), start, end) for start, end in map(_stretch, found["gaps"]))
    return tuple(Hole(span, start, end) for span, start, end in spans if span is not None)


def _lanes(frame: Frame, shifts: Iterable[Json], rota: Json, names: Mapping[str, str], now: datetime) -> Iterator[Lane]:
    order = people_of(rota)
    bars: dict[str, list[Bar]] = {}
    for shift in shifts:
        start, end = _stretch(shift)
        span = frame.span(start, end)
        if span is None:
            continue
        whole = (start, end, shift["name"], shift["deputy_name"], shift["origin"], start <= now < end)
        bars.setdefault(shift["contact_id"], []).append(Bar("duty", span, *whole))
        if shift["deputy_id"] is not None:
            bars.setdefault(shift["deputy_id"], []).append(Bar("deputy", span, *whole))
            names = {shift["deputy_id"]: shift["deputy_name"], **names}
        names = {shift["contact_id"]: shift["name"], **names}
    for person in sorted(bars, key=lambda one: (order.index(one) if one in order else len(order), names.get(one, ""))):
        yield Lane(names.get(person, ""), tuple(bars[person]))
    over = tuple(_over(frame, shifts, rota, names))
    if over:
        yield Lane(None, over)


def _over(frame: Frame, shifts: Iterable[Json], rota: Json, names: Mapping[str, str]) -> Iterator[Bar]:
    """What lies over the rotation, the lowest first: calendars, replacements, overrides."""
    calendars = [(one, one["name"], one["deputy_name"]) for one in shifts if one["origin"] == "calendar"]
    replacements = [(one, one["name"], None) for one in rota["replacements"]]
    overrides = [
        (one, names.get(one["contact_id"] or ""), names.get(one["deputy_id"] or "")) for one in rota["overrides"]
    ]
    for kind, laid in (("calendar", calendars), ("replacement", replacements), ("override", overrides)):
        for one, name, deputy in laid:
            start, end = _stretch(one)
            span = frame.span(start, end)
            if span is not None:
                yield Bar(kind, span, start, end, name, deputy, kind)


def _stretch(one: Json) -> tuple[datetime, datetime]:
    return as_instant(one["start_at"]), as_instant(one["end_at"])


def shifts_between(found: Json, start_at: datetime, end_at: datetime) -> list[Json]:
    """The shifts and holes that touch [start_at, end_at), in order of time; a hole has no `name`."""
    rows = [*found["shifts"], *({**gap, "name": None, "deputy_name": None, "origin": None} for gap in found["gaps"])]
    touching = [row for row in rows if as_instant(row["start_at"]) < end_at and start_at < as_instant(row["end_at"])]
    return sorted(touching, key=lambda row: as_instant(row["start_at"]))


# --- clocks -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Clocks:
    """Instants by the clock of a roster, with the reader's own beside it where that shows another time."""

    reader: Reader
    zone: str

    def there(self, instant: datetime | str) -> str:
        """By the roster's clock."""
        return self.reader.at(instant, self.zone)

    def here(self, instant: datetime | str) -> str | None:
        """By the reader's clock; None where it is the same."""
        there, here = self.reader.local(instant, self.zone), self.reader.local(instant)
        return None if there.utcoffset() == here.utcoffset() else self.reader.at(instant)

    @property
    def name(self) -> str:
        """What the roster's zone is called, by its city."""
        return self.zone.rpartition("/")[2].replace("_", " ")

    def day(self, on: date, form: str = "EEE d") -> str:
        """A weekday and its number."""
        return format_date(on, form, locale=self.reader.locale)

    def days(self, first: date, last: date) -> str:
        """A range of days."""
        return f"{self.day(first, 'd MMM')} – {self.day(last, 'd MMM y')}"

    def clock(self, instant: datetime) -> str:
        """Hour and minute alone."""
        return format_datetime(self.reader.local(instant, self.zone), "HH:mm", locale=self.reader.locale)


LOCAL_FORM = "%Y-%m-%dT%H:%M"
"""As a browser writes a date and a time in a form."""


def local_text(instant: datetime | str, zone: str) -> str:
    """An instant as a field of a form holds it."""
    return as_instant(instant).astimezone(ZoneInfo(zone)).strftime(LOCAL_FORM)


class NoSuchTime(ValueError):
    """A text that is no time, or a time that the clocks of the zone skip."""


def instant_of(text: str, zone: str, meant: Collection[datetime] = ()) -> datetime:
    """The instant that a field of a form means.

    Where clocks are put back an hour is there twice; then it is one of those `meant` if the text is theirs, else the
    first. Raises `NoSuchTime`.
    """
    for instant in meant:
        if local_text(instant, zone) == text:
            return instant
    try:
        local = datetime.strptime(text, LOCAL_FORM).replace(tzinfo=ZoneInfo(zone))
        instant = local.astimezone(UTC)
    except (ValueError, OverflowError):
        raise NoSuchTime from None
    if local_text(instant, zone) != text:
        raise NoSuchTime
    return instant
