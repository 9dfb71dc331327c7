"""What the page of statistics and the report make of the APIs' answers, and tables that no spreadsheet runs."""

from __future__ import annotations

import csv
import io
import re
from datetime import UTC, date, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.console.after_action import CSV_HEAD, Failure, courses, csv_rows, goals
from services.console.csv_text import BYTE_ORDER_MARK, csv_of
from services.console.statistics_view import (
    BARS_HEIGHT,
    DAYS_DEFAULT,
    LINE_HEIGHT,
    LINE_WIDTH,
    bars,
    bars_text,
    bars_width,
    duration,
    line,
    period_asked,
)
from services.console.words import Reader

NOW = datetime(2021, 8, 15, 12, tzinfo=UTC)
TODAY = date(2021, 8, 15)


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mark", ["=", "+", "-", "@", "\t", "\r", " =", "\uff1d"])
def test_no_cell_is_a_formula(mark: str) -> None:
    """What somebody wrote is text, whatever it begins with; a number of ours stays a number."""
    (row,) = list(csv.reader(io.StringIO(csv_of(["a", "b"], [[f'{mark}HYPERLINK("x")', -1.5]]).split("\r\n", 1)[1])))
    assert row == [f'\'{mark}HYPERLINK("x")', "-1.5"]


@given(st.lists(st.lists(st.text(max_size=30) | st.integers() | st.none(), min_size=2, max_size=2), max_size=5))
def test_a_table_is_read_back_as_it_was_written(rows: list[list[Any]]) -> None:
    """Commas, quotes and line ends in cells belong to them; the mark of UTF-8 stands first."""
    text = csv_of(["one", "two"], rows)
    assert text.startswith(BYTE_ORDER_MARK + "one,two\r\n")
    read = list(csv.reader(io.StringIO(text.removeprefix(BYTE_ORDER_MARK), newline="")))
    assert len(read) == len(rows) + 1
    for written, found in zip(rows, read[1:], strict=True):
        for cell, shown in zip(written, found, strict=True):
            plain = "" if cell is None else str(cell).replace("\x00", "")
            assert shown in (plain, f"'{plain}")


# --- the period -------------------------------------------------------------------------------------------------------


def test_the_period_is_whole_days() -> None:
    """So many days until today, or two days with all that lies between; by default ninety."""
    assert period_asked("", "", "", NOW).days == DAYS_DEFAULT
    week = period_asked("7", "", "", NOW)
    assert (week.first, week.last, week.days) == (date(2021, 8, 9), TODAY, 7)
    typed = period_asked("", "2021-02-28", "2021-03-01", NOW)
    assert (typed.from_at, typed.to_at) == (datetime(2021, 2, 28, tzinfo=UTC), datetime(2021, 3, 2, tzinfo=UTC))
    assert period_asked("30", "", "2021-03-01", NOW).days == 30


@pytest.mark.parametrize(
    ("days", "first", "last"),
    [
        ("", "x", ""),
        ("", "2021-02-30", ""),
        ("", "", "9999-12-31"),
        ("", "2021-03-02", "2021-03-01"),
        ("", "", "0001-01-01"),
    ],
)
def test_what_is_no_period_is_passed_over_and_said(days: str, first: str, last: str) -> None:
    """The usual period is shown instead."""
    asked = period_asked(days, first, last, NOW)
    assert (asked.is_readable, asked.last, asked.days) == (False, TODAY, DAYS_DEFAULT)


def test_days_that_are_not_offered_are_the_usual_ones() -> None:
    """An address that somebody has made up."""
    for days in ("0", "-7", "1e9", "99999999999999", "\u0667"):
        assert period_asked(days, "", "", NOW).days == DAYS_DEFAULT


# --- drawings ---------------------------------------------------------------------------------------------------------


@given(st.lists(st.integers(min_value=0, max_value=10**6), min_size=1, max_size=12))
def test_bars_stay_within_their_drawing_and_leave_none_out(distribution: list[int]) -> None:
    """One bar for each bucket that holds any, however little, none higher than the drawing."""
    drawn = re.findall(r"M(\d+) \d+v-(\d+)h(\d+)v\d+z", bars(distribution))
    assert len(drawn) == sum(count > 0 for count in distribution)
    for left, height, width in drawn:
        assert int(left) + int(width) <= bars_width(len(distribution))
        assert 0 < int(height) <= BARS_HEIGHT


def test_a_distribution_is_said_in_words() -> None:
    """The buckets that hold any, the last one as longer than all."""
    assert bars_text([2, 0, 1], [60, 120], Reader()) == "up to 60 sec: 2; more than 2 min: 1"
    assert bars_text([0, 0, 0], [60, 120], Reader()) == ""


def test_a_line_goes_over_the_whole_drawing() -> None:
    """From the oldest to the newest score; one day is no line."""
    history = [{"score": 0}, {"score": 50}, {"score": 100}]
    assert line(history) == f"M0.0 {LINE_HEIGHT}.0L{LINE_WIDTH / 2} {LINE_HEIGHT / 2}L{LINE_WIDTH}.0 0.0"
    assert line(history[:1]) == ""


def test_durations_are_the_same_in_every_language() -> None:
    """Hours, minutes, seconds."""
    assert [duration(one) for one in (None, 0, 59.6, 3661)] == ["–", "0:00:00", "0:01:00", "1:01:01"]


# --- the report -------------------------------------------------------------------------------------------------------


def escalation(partner: str, **changes: Any) -> dict[str, Any]:
    """One escalation as the API shows it to the raiser."""
    fields: dict[str, Any] = {
        "id": partner,
        "partner": partner,
        "kind": "answer",
        "subject_partner": None,
        "state": "acknowledged",
        "clock_started_at": "2021-08-15T12:00:00Z",
        "notified_at": "2021-08-15T12:00:02Z",
        "acknowledgement": {"at": "2021-08-15T12:03:00Z", "by": "=Example", "late": False},
        "takeover": None,
        "position": {"stance": "committed"},
        "gaps": [],
        "level": 1,
        "levels": 2,
        "read_back": None,
    }
    return {**fields, **changes}


def detail(one: dict[str, Any], *attempts: tuple[str, str, str]) -> dict[str, Any]:
    """The same with one page for each attempt: channel, state, reason."""
    pages = [
        {"channel": channel, "attempts": [{"state": state, "reason": reason}]} for channel, state, reason in attempts
    ]
    return {**one, "pages": pages}


def test_a_report_tells_each_partners_course() -> None:
    """Times from release, attempts, what failed and how often, who was unreached; informed partners come last."""
    us = escalation("US")
    gb = escalation("GB", state="unreached", acknowledgement=None, position=None, gaps=["empty_level"])
    it = escalation("IT", kind="information", acknowledgement=None, position=None)
    takeover = escalation("CA", id="t", kind="takeover", subject_partner="GB")
    tried = [("sms", "failed", "timeout"), ("sms", "failed", "timeout"), ("email", "delivered", "accepted")]
    found = courses([it, us, gb, takeover], {"US": detail(us, *tried), "GB": detail(gb)})
    assert [one.partner for one in found] == ["GB", "US", "IT"]
    gb_course, us_course, it_course = found
    assert (us_course.told_seconds, us_course.acknowledged_seconds) == (2, 180)
    assert (us_course.pages, us_course.attempts) == (3, 3)
    assert us_course.failures == (Failure("sms", "timeout", 2),)
    assert (gb_course.was_unreached, us_course.was_unreached) == (True, False)
    assert (gb_course.acknowledged_seconds, gb_course.gaps) == (None, ("empty_level",))
    assert (it_course.pages, it_course.failures) == (None, None)
    alert = {"reference": "RP-CA-2021-0001", "status": "Actual", "precedence": "FLASH"}
    rows = csv_rows(alert, found)
    assert all(len(row) == len(CSV_HEAD) for row in rows)
    assert "sms timeout x2" in csv_of(CSV_HEAD, rows)
    assert ",'=Example," in csv_of(CSV_HEAD, rows)


def test_who_was_reached_in_the_end_was_unreached_all_the_same() -> None:
    """Somebody was asked to take the partner over: that belongs into the review."""
    late = escalation("GB")
    takeover = escalation("CA", id="t", kind="takeover", subject_partner="GB")
    (course,) = courses([late, takeover], {})
    assert course.was_unreached
    assert course.acknowledged_seconds == 180


def test_goals_are_read_from_the_timeline() -> None:
    """Met and missed, whatever else stands there."""
    missed = {"acknowledged": 1, "goal": {"partners": 2, "within_seconds": 300}, "missing": ["GB"]}
    timeline = [
        {"type": "alert_released", "at": "2021-08-15T12:00:00Z", "data": {}},
        {"type": "coverage_goal_missed", "at": "2021-08-15T12:05:00Z", "data": missed},
    ]
    (goal,) = goals(timeline)
    assert (goal.is_met, goal.have, goal.want, goal.within_seconds, goal.missing) == (False, 1, 2, 300, ("GB",))
