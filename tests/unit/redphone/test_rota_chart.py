"""The chart of a rota's weeks: days by its own clock, every hole, the days on which clocks change."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from redphone.rota_chart import HOLE, LETTERS, NO_SUCH_TIME, OTHER, chart, drawn, window

MADRID = "Europe/Madrid"


def shift(contact: str, start: datetime, end: datetime, deputy: str | None = None) -> dict[str, Any]:
    """A shift as the API shows it."""
    shown = {
        "contact_id": contact,
        "name": f"{contact} Example",
        "start_at": start.isoformat(),
        "end_at": end.isoformat(),
    }
    return {**shown, "deputy_id": deputy, "deputy_name": f"{deputy} Example" if deputy else None}


def rota(shifts: Sequence[dict[str, Any]], zone: str = MADRID, **more: Any) -> dict[str, Any]:
    """A rota of the answer of shifts."""
    return {"name": "Duty", "time_zone": zone, "shifts": list(shifts), "gaps": [], "holidays": [], **more}


def at(zone: str, *when: int) -> datetime:
    """An instant by the clock of a zone."""
    return datetime(*when, tzinfo=ZoneInfo(zone)).astimezone(UTC)  # type: ignore[misc, arg-type]


def test_a_day_is_that_of_the_rotas_clock() -> None:
    """A hand-over at eight in Madrid stands in the cell of eight, on an ordinary day and after a change of clocks."""
    shifts = [
        shift("Ann", at(MADRID, 2026, 10, 23, 8), at(MADRID, 2026, 10, 26, 8)),
        shift("Ben", at(MADRID, 2026, 10, 26, 8), at(MADRID, 2026, 10, 28, 8)),
    ]
    days = chart(rota(shifts), date(2026, 10, 24), 3).days
    assert [day.cells for day in days] == ["A" * 48, "A" * 48, "A" * 16 + "B" * 32]
    assert [day.clocks_change for day in days] == [False, True, False]


def test_the_hour_that_is_not_there_is_shown_as_such() -> None:
    """In spring the cells of the hour that the clocks jump over are no hole and nobody's."""
    spring = rota([shift("Ann", at(MADRID, 2026, 3, 28, 0), at(MADRID, 2026, 3, 31, 0))])
    (day,) = chart(spring, date(2026, 3, 29), 1).days
    assert day.cells == "A" * 4 + NO_SUCH_TIME * 2 + "A" * 42


@pytest.mark.parametrize("second", [False, True])
def test_a_hole_in_either_of_two_equal_hours_is_seen(second: bool) -> None:
    """In autumn an hour is there twice; a hole in the first or in the second one marks its cells."""
    start_at = datetime(2026, 10, 25, 1 if second else 0, tzinfo=UTC)
    shifts = [
        shift("Ann", datetime(2026, 10, 24, tzinfo=UTC), start_at),
        shift("Ann", start_at + timedelta(hours=1), datetime(2026, 10, 27, tzinfo=UTC)),
    ]
    (day,) = chart(rota(shifts), date(2026, 10, 25), 1).days
    assert day.cells == "A" * 4 + HOLE * 2 + "A" * 42


def test_a_hole_of_a_minute_is_seen_and_most_of_a_cell_decides() -> None:
    """A hole however short marks its cell; where two share one, whoever has more of it is shown."""
    nine, day = at("UTC", 2026, 5, 4, 9), timedelta(days=1)
    minutes = timedelta(minutes=1)
    shifts = [
        shift("Ann", nine - day, nine + 10 * minutes),
        shift("Ben", nine + 10 * minutes, nine + 75 * minutes),
        shift("Ann", nine + 76 * minutes, nine + day),
    ]
    cells = chart(rota(shifts, "UTC"), date(2026, 5, 4), 1).days[0].cells
    assert cells[16:24] == "AABB" + HOLE + "AAA"
    hourly = chart(rota(shifts, "UTC"), date(2026, 5, 4), 1, cells_per_hour=1).days[0].cells
    assert hourly == "A" * 9 + "B" + HOLE + "A" * 13


def test_a_day_without_midnight_has_all_its_hours() -> None:
    """Where the clocks jump at midnight the day begins at one, and the window of a day reaches to the next."""
    zone = "America/Santiago"
    start_at, end_at = window(ZoneInfo(zone), date(2026, 9, 6), 1)
    assert end_at - start_at == timedelta(hours=23)
    full = rota([shift("Ann", start_at - timedelta(days=1), end_at + timedelta(days=1))], zone)
    (day,) = chart(full, date(2026, 9, 6), 1).days
    assert day.cells == NO_SUCH_TIME * 2 + "A" * 46


def test_people_are_named_with_their_hours_and_deputies_beside_the_days() -> None:
    """Holders come before those who are deputies alone; a day shows its deputies' letters and its holiday."""
    start_at = at("UTC", 2026, 5, 4, 0)
    shifts = [
        shift("Ann", start_at, start_at + timedelta(hours=12), "Eve"),
        shift("Ben", start_at + timedelta(hours=12), start_at + timedelta(hours=24), "Ann"),
    ]
    shown = chart(rota(shifts, "UTC", holidays=[{"on": "2026-05-04", "name": "Star Day"}]), date(2026, 5, 4), 1)
    assert [(one.letter, one.name, one.hours) for one in shown.people] == [
        ("A", "Ann Example", 12),
        ("B", "Ben Example", 12),
        ("C", "Eve Example", 0),
    ]
    assert (shown.days[0].deputies, shown.days[0].holiday) == ("CA", "Star Day")
    text = [line.plain for line in drawn(shown, today=date(2026, 5, 4))]
    assert "▸Mon  4 May " + "A" * 24 + "B" * 24 + " +C+A Star Day" in text


def test_more_people_than_letters_are_still_drawn() -> None:
    """After the last letter everybody is the same sign, with a name in the legend."""
    start_at = at("UTC", 2026, 5, 4, 0)
    hour = timedelta(hours=1)
    shifts = [shift(f"P{n}", start_at + n * hour, start_at + (n + 1) * hour) for n in range(len(LETTERS) + 2)]
    shown = chart(rota(shifts, "UTC"), date(2026, 5, 4), 3)
    assert shown.people[-1].letter == OTHER
    assert OTHER in shown.days[-1].cells


def test_what_others_wrote_moves_no_cursor() -> None:
    """Names and holidays are shown without control characters."""
    start_at = at("UTC", 2026, 5, 4, 0)
    shifts = [shift("A\x1b[2J", start_at, start_at + timedelta(days=1))]
    hostile = rota(shifts, "UTC", holidays=[{"on": "2026-05-04", "name": "\x1b]0;x\x07"}], name="D\x1b[1m")
    assert "\x1b" not in "".join(
        line.plain for line in drawn(chart(hostile, date(2026, 5, 4), 1), today=date(2026, 5, 4))
    )


def test_holes_are_listed_by_the_rotas_clock() -> None:
    """Below the legend each hole stands with its local times, across midnight with both dates."""
    gaps = [{"start_at": "2026-05-04T20:00:00Z", "end_at": "2026-05-05T01:00:00Z"}]
    lines = [
        line.plain for line in drawn(chart(rota([], MADRID, gaps=gaps), date(2026, 5, 4), 1), today=date(2026, 5, 4))
    ]
    assert lines[-1].strip() == "!  nobody Mon  4 May 22:00–Tue  5 May 03:00"
