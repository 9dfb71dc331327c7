"""What a rota's weeks look like."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from services.console.rota_view import (
    Clocks,
    NoSuchTime,
    instant_of,
    local_text,
    monday_of,
    people_of,
    shifts_between,
    weeks_of,
)
from services.console.words import Reader

NAMES = {"ann": "Ann", "bea": "Bea", "cem": "Cem"}
TORONTO = "America/Toronto"
MONDAY = date(2026, 11, 16)
NOW = datetime(2026, 11, 18, 17, 0, tzinfo=UTC)


def shift(person: str, start_at: str, end_at: str, **changes: Any) -> dict[str, Any]:
    """One shift as the API shows it."""
    return {
        "contact_id": person,
        "name": NAMES[person],
        "title": "Duty officer",
        "start_at": start_at,
        "end_at": end_at,
        "deputy_id": None,
        "deputy_name": None,
        "origin": "layer",
        "origin_name": "Daily",
        **changes,
    }


def found(*shifts: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """The shifts of one rota as the API shows them."""
    return {"time_zone": TORONTO, "shifts": list(shifts), "gaps": [], "holidays": [], **changes}


def rota(**changes: Any) -> dict[str, Any]:
    """A rota in which Bea takes her turn before Ann."""
    layer = {"participants": ["bea", "ann"], "deputies": ["cem"]}
    return {"layers": [layer], "overrides": [], "replacements": [], **changes}


def one_week(shown: dict[str, Any], of: dict[str, Any] | None = None, *, is_mirrored: bool = False) -> Any:
    """The week of `MONDAY`."""
    (week,) = weeks_of(shown, of or rota(), first=MONDAY, count=1, now=NOW, names=NAMES, is_mirrored=is_mirrored)
    return week


def test_days_are_those_of_the_rotas_own_clock() -> None:
    """Seven equal days, a marked weekend, the day that it is there, and its holidays by name."""
    week = one_week(found(holidays=[{"on": "2026-11-20", "name": "Founding day"}]))
    assert [day.on.day for day in week.days] == [16, 17, 18, 19, 20, 21, 22]
    assert [day.is_weekend for day in week.days] == [False] * 5 + [True] * 2
    assert [day.on.day for day in week.days if day.is_today] == [18]
    assert [day.holiday for day in week.days if day.holiday] == ["Founding day"]
    assert week.has_holiday
    assert week.days[1].span.x == pytest.approx(100 / 7, abs=0.01)
    assert week.now_x == pytest.approx(100 * 2.5 / 7, abs=0.01)


def test_a_day_is_as_long_as_its_clocks_make_it() -> None:
    """In the week in which clocks are put back, one day has 25 hours, and the week is whole all the same."""
    (week,) = weeks_of(found(), rota(), first=date(2026, 10, 26), count=1, now=NOW, names=NAMES, is_mirrored=False)
    longest = max(week.days, key=lambda day: day.span.width)
    assert longest.on == date(2026, 11, 1)
    assert longest.span.width == pytest.approx(100 * 25 / 169, abs=0.01)
    assert sum(day.span.width for day in week.days) == pytest.approx(100, abs=0.05)


def test_a_bar_that_the_week_cuts_speaks_of_its_whole_shift() -> None:
    """It is drawn up to the edge, in both weeks, and its times are the shift's own."""
    long = shift("ann", "2026-11-14T13:00:00Z", "2026-11-24T13:00:00Z")
    weeks = weeks_of(found(long), rota(), first=MONDAY, count=2, now=NOW, names=NAMES, is_mirrored=False)
    bars = [week.lanes[0].bars[0] for week in weeks]
    assert (bars[0].span.x, bars[0].span.width) == (0, 100)
    assert bars[1].span.width == pytest.approx(100 * (1 + 8 / 24) / 7, abs=0.01)
    assert {(bar.start_at, bar.end_at) for bar in bars} == {
        (datetime(2026, 11, 14, 13, tzinfo=UTC), datetime(2026, 11, 24, 13, tzinfo=UTC))
    }
    assert bars[0].is_now


def test_lanes_stand_in_the_order_of_turns_with_deputies_in_lanes_of_their_own() -> None:
    """People keep their places; whoever only stands in has a lane; strangers to the rota come last."""
    week = one_week(
        found(
            shift("ann", "2026-11-16T13:00:00Z", "2026-11-17T13:00:00Z", deputy_id="cem", deputy_name="Cem"),
            shift("bea", "2026-11-17T13:00:00Z", "2026-11-18T13:00:00Z"),
        )
    )
    assert [lane.name for lane in week.lanes] == ["Bea", "Ann", "Cem"]
    assert [(bar.kind, bar.name, bar.deputy) for bar in week.lanes[2].bars] == [("deputy", "Ann", "Cem")]
    assert people_of(rota()) == ["bea", "ann", "cem"]


def test_what_lies_over_the_rotation_has_a_lane() -> None:
    """Calendars, replacements and overrides, an override of nobody without a name; other weeks have no such lane."""
    over = {"start_at": "2026-11-17T00:00:00Z", "end_at": "2026-11-18T00:00:00Z"}
    laid = rota(
        overrides=[{**over, "contact_id": None, "deputy_id": None}, {**over, "contact_id": "ann", "deputy_id": "cem"}],
        replacements=[{**over, "name": "Summer", "layers": []}],
    )
    shown = found(shift("bea", "2026-11-16T00:00:00Z", "2026-11-17T00:00:00Z", origin="calendar"))
    lane = one_week(shown, laid).lanes[-1]
    assert lane.name is None
    assert [(bar.kind, bar.name) for bar in lane.bars] == [
        ("calendar", "Bea"),
        ("replacement", "Summer"),
        ("override", None),
        ("override", "Ann"),
    ]
    later = weeks_of(shown, laid, first=date(2026, 11, 23), count=1, now=NOW, names=NAMES, is_mirrored=False)
    assert later[0].lanes == ()
    assert later[0].now_x is None


def test_holes_are_drawn_where_nobody_is_on_duty() -> None:
    """A hole lies where the API says, and not in other weeks."""
    hole = {"start_at": "2026-11-21T05:00:00Z", "end_at": "2026-11-22T05:00:00Z"}
    week = one_week(found(gaps=[hole]))
    assert week.holes[0].span.x == pytest.approx(100 * 5 / 7, abs=0.01)
    assert week.holes[0].span.width == pytest.approx(100 / 7, abs=0.01)


def test_where_script_runs_from_right_to_left_time_does_too() -> None:
    """Every span is mirrored, so Monday lies at the right."""
    bar = shift("ann", "2026-11-16T05:00:00Z", "2026-11-17T05:00:00Z")
    week = one_week(found(bar), is_mirrored=True)
    assert week.lanes[0].bars[0].span.x == pytest.approx(600 / 7, abs=0.01)
    assert week.days[6].span.x == pytest.approx(0, abs=0.01)
    assert week.now_x == pytest.approx(100 - 100 * 2.5 / 7, abs=0.01)


def test_the_table_has_shifts_and_holes_in_order_of_time() -> None:
    """What only touches the window stands in it; a hole has no name."""
    shown = found(
        shift("ann", "2026-11-17T00:00:00Z", "2026-11-18T00:00:00Z"),
        gaps=[{"start_at": "2026-11-16T00:00:00Z", "end_at": "2026-11-17T00:00:00Z"}],
    )
    rows = shifts_between(shown, datetime(2026, 11, 16, 12, tzinfo=UTC), datetime(2026, 11, 17, 1, tzinfo=UTC))
    assert [row["name"] for row in rows] == [None, "Ann"]
    assert shifts_between(shown, datetime(2026, 11, 18, tzinfo=UTC), datetime(2026, 11, 19, tzinfo=UTC)) == []


def test_the_readers_clock_is_shown_only_where_it_differs() -> None:
    """A reader in Berlin sees both clocks of a Canadian roster, one in Toronto one."""
    there, here = Clocks(Reader(zone="Europe/Berlin"), TORONTO), Clocks(Reader(zone=TORONTO), TORONTO)
    assert (there.there(NOW), there.here(NOW)) == ("Wed 18 Nov 12:00", "Wed 18 Nov 18:00")
    assert here.here(NOW) is None
    assert there.name == "Toronto"
    assert monday_of(date(2026, 11, 22)) == MONDAY


def test_a_time_in_a_form_is_that_of_the_rotas_clock() -> None:
    """What is written back is the same instant; a time that clocks skip, and no time at all, are refused."""
    instant = datetime(2026, 7, 1, 12, 0, tzinfo=UTC)
    assert local_text(instant, TORONTO) == "2026-07-01T08:00"
    assert instant_of("2026-07-01T08:00", TORONTO) == instant
    for wrong in ("2026-03-08T02:30", "", "tomorrow", "2026-02-30T10:00", "0001-01-01T00:00"):
        with pytest.raises(NoSuchTime):
            instant_of(wrong, TORONTO)


def test_an_hour_that_is_there_twice_is_the_one_that_was_meant() -> None:
    """The text of a stretch that begins in the second of the two hours still means that one."""
    first, second = datetime(2026, 11, 1, 5, 30, tzinfo=UTC), datetime(2026, 11, 1, 6, 30, tzinfo=UTC)
    assert local_text(first, TORONTO) == local_text(second, TORONTO) == "2026-11-01T01:30"
    assert instant_of("2026-11-01T01:30", TORONTO) == first
    assert instant_of("2026-11-01T01:30", TORONTO, (second,)) == second
