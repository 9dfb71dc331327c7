"""The weeks of a rota as text: a line for each day, its 24 hours in blocks, a letter and a colour for each person.

The cast: `chart` lays the shifts of a window over the days of the rota's zone; a `Day` holds one character a cell, and
`drawn` makes coloured text of it all, with a legend. `!` is a stretch in which nobody is on duty, `·` one that the
clocks jump over.

The promise: pure. A hole is shown however short it is; where a person holds only part of a cell, the one who holds most
of it is shown.
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from rich.text import Text

from redphone.output import plain

HOLE, NO_SUCH_TIME, OTHER = "!", "·", "?"
LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits
"""One for each person, as far as they last; whoever comes after them is `?`."""
COLOURS = (
    "black on bright_cyan",
    "black on bright_green",
    "black on bright_yellow",
    "white on blue",
    "black on bright_magenta",
    "white on dark_green",
    "black on orange1",
    "white on purple",
    "black on grey78",
    "white on dark_cyan",
)
"""None of them is red, which is for holes."""

CELLS_PER_HOUR = 2
LABEL_CHARACTERS = 12
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody of the chart, with all hours in it."""

    contact_id: str
    letter: str
    name: str
    hours: float


@dataclass(frozen=True, slots=True)
class Day:
    """One date of the rota's clock. `deputies` are the letters of those who stand in on it, in order."""

    on: date
    cells: str
    deputies: str
    holiday: str | None
    clocks_change: bool


@dataclass(frozen=True, slots=True)
class Chart:
    """The days of some weeks, the people in them, and the holes with their instants."""

    name: str
    zone: str
    days: tuple[Day, ...]
    people: tuple[Person, ...]
    holes: tuple[tuple[datetime, datetime], ...]
    cells_per_hour: int


@dataclass(frozen=True, slots=True)
class _Stretch:
    start_at: datetime
    end_at: datetime
    contact_id: str
    deputy_id: str | None


def window(zone: ZoneInfo, from_on: date, days: int) -> tuple[datetime, datetime]:
    """The instants between which these local dates lie."""
    return (_instant(zone, from_on), _instant(zone, from_on + days * _DAY))


def chart(rota: Mapping[str, Any], from_on: date, days: int, *, cells_per_hour: int = CELLS_PER_HOUR) -> Chart:
    """The chart of one rota of an answer of `GET …/shifts` that covers these days."""
    zone = ZoneInfo(rota["time_zone"])
    shifts = [
        _Stretch(
            datetime.fromisoformat(shift["start_at"]),
            datetime.fromisoformat(shift["end_at"]),
            shift["contact_id"],
            shift.get("deputy_id"),
        )
        for shift in rota["shifts"]
    ]
    people = _people(rota["shifts"], shifts)
    letters = {person.contact_id: person.letter for person in people}
    holidays = {day["on"]: day["name"] for day in rota.get("holidays", ())}
    grid = _Grid(zone, shifts, letters, holidays, cells_per_hour)
    return Chart(
        name=rota["name"],
        zone=rota["time_zone"],
        days=tuple(grid.day(from_on + number * _DAY) for number in range(days)),
        people=people,
        holes=tuple(
            (datetime.fromisoformat(gap["start_at"]), datetime.fromisoformat(gap["end_at"])) for gap in rota["gaps"]
        ),
        cells_per_hour=cells_per_hour,
    )


def drawn(shown: Chart, *, today: date) -> Iterator[Text]:
    """The lines of a chart: hours, weeks, legend, holes."""
    styles = {person.letter: COLOURS[place % len(COLOURS)] for place, person in enumerate(shown.people)}
    yield Text.assemble((plain(shown.name), "bold"), (f"  {shown.zone}", "dim"))
    yield Text(" " * LABEL_CHARACTERS + _hours(shown.cells_per_hour), style="dim")
    for place, day in enumerate(shown.days):
        if day.on.isoweekday() == 1 and place:
            yield Text("")
        yield _line(day, styles, today)
    yield Text("")
    for person in shown.people:
        name = f" {plain(person.name)}"
        yield Text.assemble((f" {person.letter} ", styles[person.letter]), name, (f"  {person.hours:.0f} h", "dim"))
    zone = ZoneInfo(shown.zone)
    if shown.holes:
        yield Text("")
    for start_at, end_at in shown.holes:
        yield Text(f" {HOLE}  nobody {span_text(start_at.astimezone(zone), end_at.astimezone(zone))}", style="bold red")


def span_text(start: datetime, end: datetime) -> str:
    """A stretch of local time: `Mon 26 Oct 14:00–18:00`, the second date only where it is another one."""
    until = f"{end:%H:%M}" if end.date() == start.date() else f"{day_text(end.date())} {end:%H:%M}"
    return f"{day_text(start.date())} {start:%H:%M}–{until}"


def day_text(on: date) -> str:
    """A date as it stands in the chart: `Mon 26 Oct`."""
    return f"{WEEKDAYS[on.weekday()]} {on.day:2d} {_MONTHS[on.month - 1]}"


def _people(shown: Sequence[Mapping[str, Any]], shifts: Iterable[_Stretch]) -> tuple[Person, ...]:
    """Everybody, holders before those who are deputies alone, each in the order in which they come."""
    names: dict[str, str] = {}
    for shift in shown:
        names.setdefault(shift["contact_id"], shift["name"])
    for shift in shown:
        if shift.get("deputy_id"):
            names.setdefault(shift["deputy_id"], shift.get("deputy_name") or "")
    hours = dict.fromkeys(names, timedelta())
    for stretch in shifts:
        hours[stretch.contact_id] += stretch.end_at - stretch.start_at
    return tuple(
        Person(
            contact_id, LETTERS[place] if place < len(LETTERS) else OTHER, name, hours[contact_id] / timedelta(hours=1)
        )
        for place, (contact_id, name) in enumerate(names.items())
    )


@dataclass(frozen=True, slots=True)
class _Grid:
    """What the cells of all days are made from."""

    zone: ZoneInfo
    shifts: Sequence[_Stretch]
    letters: Mapping[str, str]
    holidays: Mapping[str, str]
    cells_per_hour: int

    def day(self, on: date) -> Day:
        """One date."""
        start_at, end_at = window(self.zone, on, 1)
        touching = [shift for shift in self.shifts if shift.start_at < end_at and shift.end_at > start_at]
        deputies = dict.fromkeys(self.letters[shift.deputy_id] for shift in touching if shift.deputy_id is not None)
        length = timedelta(hours=1) / self.cells_per_hour
        midnight = datetime.combine(on, time())
        return Day(
            on=on,
            cells="".join(
                self._cell(midnight + number * length, length, touching) for number in range(24 * self.cells_per_hour)
            ),
            deputies="".join(deputies),
            holiday=self.holidays.get(on.isoformat()),
            clocks_change=end_at - start_at != _DAY,
        )

    def _cell(self, wall: datetime, length: timedelta, shifts: Sequence[_Stretch]) -> str:
        """What one cell shows: a stretch of the local clock, which can lie there twice or not at all."""
        held: dict[str, timedelta] = {}
        exists = False
        for fold in (0, 1):
            start_at = wall.replace(tzinfo=self.zone, fold=fold).astimezone(UTC)
            is_shown = start_at.astimezone(self.zone).replace(tzinfo=None) == wall
            if not is_shown or (fold and not _is_twice(self.zone, wall)):
                continue
            exists, covered = True, timedelta()
            for shift in shifts:
                part = min(shift.end_at, start_at + length) - max(shift.start_at, start_at)
                if part > timedelta():
                    held[shift.contact_id] = held.get(shift.contact_id, timedelta()) + part
                    covered += part
            if covered < length:
                return HOLE
        return self.letters[max(held, key=lambda contact_id: held[contact_id])] if exists else NO_SUCH_TIME


def _is_twice(zone: ZoneInfo, wall: datetime) -> bool:
    first, second = (wall.replace(tzinfo=zone, fold=fold) for fold in (0, 1))
    return first.utcoffset() != second.utcoffset()


def _instant(zone: ZoneInfo, on: date) -> datetime:
    """The beginning of a local date; where midnight does not exist, the moment after the jump."""
    return datetime.combine(on, time(), tzinfo=zone).astimezone(UTC)


def _hours(cells_per_hour: int) -> str:
    step = 2 if cells_per_hour > 1 else 4
    return "".join(f"{hour:02d}".ljust(step * cells_per_hour) for hour in range(0, 24, step))


def _line(day: Day, styles: Mapping[str, str], today: date) -> Text:
    mark = "▸" if day.on == today else " "
    weekend = day.on.isoweekday() >= 6
    line = Text(f"{mark}{day_text(day.on)} ", style="bold" if day.on == today else "")
    line.stylize("magenta" if day.holiday else "dim" if weekend else "", 1)
    for letter in day.cells:
        style = (
            "bold white on red"
            if letter == HOLE
            else "dim"
            if letter == NO_SUCH_TIME
            else styles.get(letter, "reverse")
        )
        line.append(letter, style)
    if day.deputies:
        line.append(" +" + "+".join(day.deputies), "dim")
    if day.holiday:
        line.append(f" {plain(day.holiday)}", "magenta")
    if day.clocks_change:
        line.append(" clocks change", "yellow")
    return line
