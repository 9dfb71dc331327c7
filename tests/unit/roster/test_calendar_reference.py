"""The reference calendars: real files and examples of the standards, each with what it must give."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.roster.calendars.model import Reading, Unreadable
from services.roster.calendars.reading import read_calendar

REFERENCE = Path(__file__).parents[3].parent / "shared" / "data" / "ical"

pytestmark = [
    pytest.mark.reference,
    pytest.mark.skipif(not REFERENCE.is_dir(), reason="the reference data is not there"),
]

TESTED = {
    "broken_ical.ics",
    "calendar_with_unicode.ics",
    "event_with_recurrence_exdates_on_different_lines.ics",
    "goalert-oncall-render.ics",
    "issue_722_missing_timezones.ics",
    "issue_722_timezone_transition_ambiguity.ics",
    "multiple_timezones.ics",
    "pagerduty-feed-format.ics",
    "rfc_5545_RDATE_example.ics",
    "rfc_7953_1.ics",
    "rfc_7953_2.ics",
}


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    """An instant in UTC."""
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


def reading_of(name: str, now: datetime, zone: str = "Europe/Rome") -> Reading:
    """What is read of a reference file."""
    found = read_calendar((REFERENCE / name).read_bytes(), zone=zone, now=now)
    assert not isinstance(found, Unreadable)
    return found


def spans(reading: Reading) -> list[tuple[datetime, datetime]]:
    """Beginning and end of every event."""
    return [(event.start_at, event.end_at) for event in reading.events]


def faults(reading: Reading) -> list[tuple[int, str]]:
    """Line and code of every fault."""
    return [(fault.line, fault.code) for fault in reading.faults]


def test_every_file_is_tested() -> None:
    """A file that is added to the reference data needs a test here."""
    assert {path.name for path in REFERENCE.glob("*.ics")} == TESTED


def test_broken_line() -> None:
    """A semicolon too much is passed over and told; the event, which has no end, is told as well."""
    reading = reading_of("broken_ical.ics", at(2014, 4, 1))
    assert faults(reading) == [(2, "lasts_no_time"), (4, "repaired")]
    assert reading.events == ()


def test_unicode() -> None:
    """The calendar's name keeps its letters; a calendar without events has no faults."""
    reading = reading_of("calendar_with_unicode.ics", at(2014, 4, 1))
    assert reading.name == "äöü ÄÖÜ €"
    assert (reading.events, reading.faults) == ((), ())


def test_exceptions_on_lines_of_their_own() -> None:
    """Each exception date takes its occurrence away, and the rule ends where it says, through the change of clocks."""
    reading = reading_of("event_with_recurrence_exdates_on_different_lines.ics", at(2012, 4, 1))
    days = [(event.start_at.month, event.start_at.day) for event in reading.events]
    assert days == [(3, 27), (4, 24), (5, 8), (5, 15), (5, 22), (6, 5), (6, 12), (6, 19), (6, 26), (7, 3)]
    assert spans(reading)[0] == (at(2012, 3, 27, 8), at(2012, 3, 27, 16))
    assert len({event.recurrence for event in reading.events}) == len(reading.events)


def test_goalert() -> None:
    """The shifts of an on-call tool are read with their alarms passed over."""
    reading = reading_of("goalert-oncall-render.ics", at(2020, 1, 5))
    assert spans(reading) == [
        (at(2020, 1, 1, 8), at(2020, 1, 15, 8)),
        (at(2020, 2, 1, 8), at(2020, 2, 15, 8)),
    ]
    assert reading.events[0].summary == "On-Call (GoAlert: Sched)"
    assert not reading.faults


def test_zones_without_definition() -> None:
    """Zones of the database need no definition, also two in one event; events without a beginning are told."""
    reading = reading_of("issue_722_missing_timezones.ics", at(2014, 8, 28))
    assert spans(reading) == [(at(2014, 8, 29, 12), at(2014, 8, 29, 15))]
    assert faults(reading) == [(9, "no_beginning"), (15, "no_beginning")]


def test_period_among_recurrence_dates() -> None:
    """A recurrence date that is a period has its own length."""
    reading = reading_of("issue_722_missing_timezones.ics", at(2024, 9, 10))
    assert spans(reading) == [(at(2024, 9, 13, 10), at(2024, 9, 13, 12))]


def test_zone_that_the_calendar_defines() -> None:
    """A zone of the calendar's own is read as it is defined, on both sides of its change and at the change itself."""
    text = (REFERENCE / "issue_722_timezone_transition_ambiguity.ics").read_text(encoding="utf-8")
    lasting = text.replace("END:VEVENT", "DURATION:PT1H\nEND:VEVENT")
    reading = read_calendar(lasting.encode(), zone="Europe/Rome", now=at(2024, 3, 1))
    assert isinstance(reading, Reading)
    assert [event.start_at.isoformat() for event in reading.events] == [
        "2024-03-02T20:00:00+00:00",
        "2024-05-04T19:00:01+00:00",
        "2024-05-04T22:00:01+00:00",
        "2024-08-02T22:00:00+00:00",
    ]
    as_it_is = reading_of("issue_722_timezone_transition_ambiguity.ics", at(2024, 3, 1))
    assert [code for _, code in faults(as_it_is)] == ["lasts_no_time"] * 4


def test_recurrence_dates_that_are_times() -> None:
    """Events that last no time are told; of an event that lasts, the broken recurrence dates are."""
    reading = reading_of("multiple_timezones.ics", at(2021, 3, 1))
    assert faults(reading) == [(20, "lasts_no_time"), (25, "lasts_no_time"), (30, "lasts_no_time")]
    text = (REFERENCE / "multiple_timezones.ics").read_text(encoding="utf-8")
    lasting = text.replace("END:VEVENT", "DURATION:PT1H\nEND:VEVENT")
    longer = read_calendar(lasting.encode(), zone="Europe/Rome", now=at(2021, 3, 1))
    assert isinstance(longer, Reading)
    assert spans(longer) == [
        (at(2021, 3, 1, 23), at(2021, 3, 2)),
        (at(2021, 3, 2), at(2021, 3, 2, 1)),
        (at(2021, 3, 2, 5), at(2021, 3, 2, 6)),
    ]
    assert faults(longer) == [(23, "bad_value"), (29, "bad_value"), (35, "bad_value")]
    assert dict(longer.notes) == {"floating": 1}


def test_pagerduty() -> None:
    """The feed of an on-call tool gives shifts with the address of who is on call."""
    reading = reading_of("pagerduty-feed-format.ics", at(2025, 3, 1))
    assert reading.name == "On Call Schedule"
    assert spans(reading) == [(at(2025, 2, 28, 2), at(2025, 3, 2, 2)), (at(2025, 3, 2, 2), at(2025, 3, 4, 2))]
    assert {event.people for event in reading.events} == {("my-user@acme.com",)}
    assert [event.uid for event in reading.events] == ["Q0D9CMF30RBLWA", "Q1KI14XNZ75WYE"]


def test_recurrence_dates_without_a_beginning() -> None:
    """Examples that show a single property are no events: each is told with its line, and none is guessed at."""
    reading = reading_of("rfc_5545_RDATE_example.ics", at(1997, 1, 1))
    assert faults(reading) == [(line, "no_beginning") for line in (2, 6, 10, 14, 19, 24)]
    assert reading.events == ()


def test_availability() -> None:
    """Available time of the standard's first example is duty of its organizer, on working days from nine to five."""
    reading = reading_of("rfc_7953_1.ics", at(2011, 10, 10))
    assert spans(reading)[0] == (at(2011, 10, 3, 13), at(2011, 10, 3, 21))
    assert {event.organizer for event in reading.events} == {"bernard@example.com"}
    november = [event.start_at.hour for event in reading.events if event.start_at > at(2011, 11, 7)]
    assert november[0] == 14, "clocks in Montreal went back on 6 November"
    assert all(event.start_at.weekday() < 5 for event in reading.events)


def test_availability_with_bounds() -> None:
    """Of the standard's second example nothing lies outside of the bounds of the whole."""
    reading = reading_of("rfc_7953_2.ics", at(2011, 10, 10))
    assert reading.events[-1].end_at <= at(2011, 12, 2, 5)
    thursday = [
        (event.start_at, event.end_at) for event in reading.events if event.start_at.date().isoformat() == "2011-10-06"
    ]
    assert thursday == [(at(2011, 10, 6, 13), at(2011, 10, 6, 16)), (at(2011, 10, 6, 13), at(2011, 10, 6, 21))]
    later = {event.start_at.weekday() for event in reading.events if event.start_at > at(2011, 10, 7)}
    assert later == {0, 1, 2, 3}
