"""What is read of calendars, and of what only claims to be one."""

from __future__ import annotations

import gzip
import time as clock
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.roster.calendars import model
from services.roster.calendars.model import Reading, Unreadable
from services.roster.calendars.reading import read_calendar

NOW = datetime(2026, 10, 20, 9, 30, tzinfo=UTC)


def at(day: int, hour: int = 0, minute: int = 0, *, month: int = 10) -> datetime:
    """An instant of autumn 2026."""
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def event(*lines: str, uid: str = "one") -> str:
    """An event of these lines."""
    return "\n".join(["BEGIN:VEVENT", f"UID:{uid}", "SUMMARY:Ann", *lines, "END:VEVENT"])


def calendar(*parts: str) -> bytes:
    """A calendar of these components."""
    return "\r\n".join(["BEGIN:VCALENDAR", "VERSION:2.0", *parts, "END:VCALENDAR", ""]).encode()


def read(raw: bytes, zone: str = "Europe/Rome") -> Reading:
    """What is read of bytes that are a calendar."""
    found = read_calendar(raw, zone=zone, now=NOW)
    assert isinstance(found, Reading), found
    return found


def refused(raw: bytes) -> str:
    """Why bytes are no calendar."""
    found = read_calendar(raw, zone="Europe/Rome", now=NOW)
    assert isinstance(found, Unreadable)
    return found.code


def spans(raw: bytes, zone: str = "Europe/Rome") -> list[tuple[datetime, datetime]]:
    """Beginning and end of every event."""
    return [(one.start_at, one.end_at) for one in read(raw, zone).events]


def codes(raw: bytes) -> list[str]:
    """The codes of all faults, in the order of their lines."""
    return [fault.code for fault in read(raw).faults]


DAY = ("DTSTART:20261021T060000Z", "DTEND:20261021T180000Z")


# --- times ------------------------------------------------------------------------------------------------------------


def test_floating_times_are_the_rotas() -> None:
    """Times without a zone are read in the rota's zone, which is noted."""
    raw = calendar(event("DTSTART:20261021T080000", "DTEND:20261021T200000"))
    assert spans(raw, "America/Toronto") == [(at(21, 12), at(22))]
    assert dict(read(raw).notes) == {"floating": 1}


def test_the_end_is_in_the_zone_of_the_beginning() -> None:
    """An end and an exception without a zone belong to the beginning's, and not to the rota's."""
    raw = calendar(
        event(
            "DTSTART;TZID=America/Toronto:20261021T080000",
            "DTEND:20261021T200000",
            "RRULE:FREQ=DAILY;COUNT=3",
            "EXDATE:20261022T080000",
        )
    )
    assert spans(raw) == [(at(21, 12), at(22)), (at(23, 12), at(24))]


def test_whole_days_are_the_rotas() -> None:
    """A whole day is one of the rota's zone, from its first instant on; without an end it is one day."""
    raw = calendar(
        event("DTSTART;VALUE=DATE:20261024", "DTEND;VALUE=DATE:20261026"), event("DTSTART:20261101", uid="b")
    )
    assert spans(raw) == [(at(23, 22), at(25, 23)), (at(31, 23), at(1, 23, month=11))]
    assert dict(read(raw).notes) == {"all_day": 2}


def test_whole_day_on_which_midnight_does_not_exist() -> None:
    """Where the clocks go forward at midnight the day begins at one o'clock."""
    raw = calendar(event("DTSTART;VALUE=DATE:20261018"))
    now = datetime(2018, 10, 20, tzinfo=UTC)
    found = read_calendar(raw.replace(b"20261018", b"20181104"), zone="America/Sao_Paulo", now=now)
    assert isinstance(found, Reading)
    assert [(one.start_at, one.end_at) for one in found.events] == [
        (datetime(2018, 11, 4, 3, tzinfo=UTC), datetime(2018, 11, 5, 2, tzinfo=UTC))
    ]


def test_nights_end_by_the_clock_on_the_wall() -> None:
    """A night that recurs with DTEND ends at the same local time also when clocks change; so nobody's shift is cut."""
    raw = calendar(
        event(
            "DTSTART;TZID=Europe/Rome:20261023T200000",
            "DTEND;TZID=Europe/Rome:20261024T080000",
            "RRULE:FREQ=DAILY;COUNT=3",
        )
    )
    assert spans(raw) == [(at(23, 18), at(24, 6)), (at(24, 18), at(25, 7)), (at(25, 19), at(26, 7))]


def test_hours_of_a_duration_are_hours() -> None:
    """Twelve hours are twelve hours on the night of the change, and a day is a day by the calendar."""
    raw = calendar(
        event("DTSTART;TZID=Europe/Rome:20261024T200000", "DURATION:PT12H", "RRULE:FREQ=DAILY;COUNT=2"),
        event("DTSTART;TZID=Europe/Rome:20261024T120000", "DURATION:P1D", uid="b"),
    )
    assert spans(raw) == [(at(24, 10), at(25, 11)), (at(24, 18), at(25, 6)), (at(25, 19), at(26, 7))]


@pytest.mark.parametrize(
    "name",
    [
        "Europe/Berlin",
        "europe/berlin",
        "W. Europe Standard Time",
        "/mozilla.org/20050126_1/Europe/Berlin",
        "/freeassociation.sourceforge.net/Europe/Berlin",
        '"Europe/Berlin"',
    ],
)
def test_zones_that_are_certain(name: str) -> None:
    """A zone is known by its name in the database, behind a program's path, and by what Windows calls it."""
    raw = calendar(event(f"DTSTART;TZID={name}:20261021T080000", f"DTEND;TZID={name}:20261021T200000"))
    assert spans(raw, "UTC") == [(at(21, 6), at(21, 18))]


@pytest.mark.parametrize("name", ["Customized Time Zone", "EST", "Berlin", "GMT+0200", "Mars/Olympus", "../etc/passwd"])
def test_zones_that_are_not(name: str) -> None:
    """What might be one zone or another is told with its line, and the event is not guessed at."""
    raw = calendar(event(f"DTSTART;TZID={name}:20261021T080000", "DURATION:PT1H"), event(*DAY, uid="b"))
    reading = read(raw)
    assert [(fault.line, fault.code) for fault in reading.faults] == [(3, "unknown_time_zone")]
    assert [one.uid for one in reading.events] == ["b"]


DEFINED = """BEGIN:VTIMEZONE
TZID:Customized Time Zone
BEGIN:STANDARD
DTSTART:16010101T030000
TZOFFSETFROM:+0300
TZOFFSETTO:+0200
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10
END:STANDARD
BEGIN:DAYLIGHT
DTSTART:16010101T020000
TZOFFSETFROM:+0200
TZOFFSETTO:+0300
RRULE:FREQ=YEARLY;BYDAY=-1SU;BYMONTH=3
END:DAYLIGHT
END:VTIMEZONE"""


def test_zone_of_the_calendars_own() -> None:
    """A zone that the calendar defines is read as it is defined, before and after its change."""
    raw = calendar(
        DEFINED,
        event("DTSTART;TZID=Customized Time Zone:20261024T080000", "DURATION:PT1H", "RRULE:FREQ=DAILY;COUNT=2"),
    )
    assert spans(raw) == [(at(24, 5), at(24, 6)), (at(25, 6), at(25, 7))]


def test_zone_with_its_history() -> None:
    """What was over long ago costs nothing: the last of it says what holds until the rules of today begin."""
    history = "".join(
        f"BEGIN:{kind}\nDTSTART:{year}{month}01T030000\nTZOFFSETFROM:+0300\nTZOFFSETTO:+0500\nEND:{kind}\n"
        for year in range(1950, 2020)
        for kind, month in (("STANDARD", "10"), ("DAYLIGHT", "03"))
    )
    started = clock.perf_counter()
    events = [
        event(f"DTSTART;TZID=Customized Time Zone:20261024T{n % 24:02}0000", "DURATION:PT1H", uid=f"{n}")
        for n in range(1_000)
    ]
    raw = calendar(DEFINED.replace("BEGIN:STANDARD\n", f"{history}BEGIN:STANDARD\n", 1), *events)
    found = spans(raw)
    assert clock.perf_counter() - started < 5
    assert len(found) == 1_000
    assert found[0][0] == at(23, 21)


def test_zone_that_has_not_changed_for_long() -> None:
    """A zone whose last change is past has the offset of that change."""
    ended = DEFINED.replace("BYMONTH=10", "BYMONTH=10;UNTIL=20150101T000000Z").replace(
        "BYMONTH=3", "BYMONTH=3;UNTIL=20140601T000000Z"
    )
    raw = calendar(ended, event("DTSTART;TZID=Customized Time Zone:20261024T080000", "DURATION:PT1H"))
    assert spans(raw) == [(at(24, 6), at(24, 7))]


def test_zone_of_another_calendar() -> None:
    """What one calendar calls its zone is not what another one finds under the name."""
    read(calendar(DEFINED, event("DTSTART;TZID=Customized Time Zone:20261024T080000", "DURATION:PT1H")))
    assert codes(calendar(event("DTSTART;TZID=Customized Time Zone:20261024T080000", "DURATION:PT1H"))) == [
        "unknown_time_zone"
    ]


def test_zone_with_one_offset() -> None:
    """A zone that knows one offset alone has it always."""
    observance = "DTSTART:20200101T000000\nTZOFFSETFROM:+0430\nTZOFFSETTO:+0430"
    definition = f"BEGIN:VTIMEZONE\nTZID:Camp\nBEGIN:STANDARD\n{observance}\nEND:STANDARD\nEND:VTIMEZONE"
    assert spans(calendar(definition, event("DTSTART;TZID=Camp:20261021T080000", "DURATION:PT30M"))) == [
        (at(21, 3, 30), at(21, 4))
    ]


@pytest.mark.parametrize(
    "rule", ["FREQ=SECONDLY", "FREQ=YEARLY;BYSECOND=1,2", "FREQ=DAILY", "FREQ=YEARLY;BYMONTH=1,2;BYDAY=MO,TU,WE"]
)
def test_zone_that_is_an_attack(rule: str) -> None:
    """A definition that changes more often than zones do is no definition."""
    definition = DEFINED.replace("FREQ=YEARLY;BYDAY=-1SU;BYMONTH=10", rule)
    started = clock.perf_counter()
    found = codes(calendar(definition, event("DTSTART;TZID=Customized Time Zone:20261024T080000", "DURATION:PT1H")))
    assert found == ["unknown_time_zone"]
    assert clock.perf_counter() - started < 1


# --- recurrence -------------------------------------------------------------------------------------------------------


def test_occurrence_that_was_moved() -> None:
    """A moved occurrence is at its new time, keeps its name, and its old time is free."""
    raw = calendar(
        event(*DAY, "RRULE:FREQ=DAILY;COUNT=3"),
        event("RECURRENCE-ID:20261022T060000Z", "DTSTART:20261022T080000Z", "DTEND:20261022T090000Z"),
    )
    found = read(raw).events
    assert [one.start_at for one in found] == [at(21, 6), at(22, 8), at(23, 6)]
    assert found[1].recurrence == at(22, 6).isoformat()


def test_this_and_future() -> None:
    """A change of this and all later occurrences moves them all."""
    raw = calendar(
        event(*DAY, "RRULE:FREQ=DAILY;COUNT=4"),
        event(
            "RECURRENCE-ID;RANGE=THISANDFUTURE:20261023T060000Z", "DTSTART:20261023T070000Z", "DTEND:20261023T190000Z"
        ),
    )
    assert [start.hour for start, _ in spans(raw)] == [6, 6, 7, 7]
    # Each is told apart from the others, or all but one of them would be lost as the same shift.
    assert len({one.recurrence for one in read(raw).events}) == 4


def test_what_is_cancelled() -> None:
    """A cancelled event, and a cancelled occurrence of one, are nobody's duty."""
    raw = calendar(
        event(*DAY, "STATUS:CANCELLED", uid="gone"),
        event(*DAY, "RRULE:FREQ=DAILY;COUNT=2"),
        event("RECURRENCE-ID:20261022T060000Z", "DTSTART:20261022T060000Z", "DURATION:PT12H", "STATUS:CANCELLED"),
    )
    assert spans(raw) == [(at(21, 6), at(21, 18))]
    assert dict(read(raw).notes) == {"cancelled": 2}


def test_exceptions_and_additions() -> None:
    """Exceptions take away, also those that name a date; additions add."""
    raw = calendar(
        event(
            *DAY,
            "RRULE:FREQ=DAILY;COUNT=4",
            "EXDATE:20261022T060000Z",
            "EXDATE;VALUE=DATE:20261023",
            "RDATE:20261101T060000Z,20261102T060000Z",
        )
    )
    assert [start.day for start, _ in spans(raw)] == [21, 24, 1, 2]


def test_until_without_a_zone() -> None:
    """An end of the rule without a zone is of the event's own, and one that is a date holds to the end of that day."""
    local = event(
        "DTSTART;TZID=America/Toronto:20261021T200000", "DURATION:PT1H", "RRULE:FREQ=DAILY;UNTIL=20261022T200000"
    )
    dated = event("DTSTART;TZID=America/Toronto:20261021T200000", "DURATION:PT1H", "RRULE:FREQ=DAILY;UNTIL=20261022")
    assert len(spans(calendar(local))) == 2
    assert len(spans(calendar(dated))) == 2


def test_window() -> None:
    """Only what touches the window is read: seven days back, 400 days ahead."""
    found = spans(calendar(event("DTSTART:20200101T000000Z", "DURATION:P1D", "RRULE:FREQ=DAILY")))
    assert found[0][0] == at(13)
    assert found[0][1] > NOW - model.WINDOW_BEFORE
    assert found[-1][0] < NOW + model.WINDOW_AFTER <= found[-1][1]
    assert len(found) == 408


def test_copies_and_namesakes() -> None:
    """An older version gives way, a copy counts once, and different events of one name are different events."""
    other = ("DTSTART:20261025T060000Z", "DTEND:20261025T180000Z")
    versions = calendar(event(*DAY), event(*other, "SEQUENCE:1"))
    assert spans(versions) == [(at(25, 6), at(25, 18))]
    copies = calendar(event(*DAY), event(*DAY))
    assert (len(spans(copies)), dict(read(copies).notes)) == (1, {"duplicate": 1})
    namesakes = read(calendar(event(*DAY), event(*other))).events
    assert len({one.uid for one in namesakes}) == len(namesakes) == 2


def test_overlapping_events_are_both_read() -> None:
    """Which of two overlapping events holds is the rota's rule and not the reader's."""
    raw = calendar(event(*DAY), event("DTSTART:20261021T120000Z", "DTEND:20261021T200000Z", uid="b"))
    assert spans(raw) == [(at(21, 6), at(21, 18)), (at(21, 12), at(21, 20))]


def test_free_time_counts() -> None:
    """An event that is marked as free is used all the same, since whole days are marked so by default; it is noted."""
    assert dict(read(calendar(event(*DAY, "TRANSP:TRANSPARENT"))).notes) == {"free": 1}


def test_higher_availability() -> None:
    """Available time of a higher rank takes the place of lower ones of its owner while it holds (RFC 7953)."""

    def available(uid: str, *bounds: str, start: str, rank: int) -> str:
        inner = f"BEGIN:AVAILABLE\nUID:{uid}\nDTSTART:{start}\nDURATION:PT8H\nRRULE:FREQ=DAILY;COUNT=3\nEND:AVAILABLE"
        head = ["BEGIN:VAVAILABILITY", "ORGANIZER:mailto:Ann@ca.example", f"PRIORITY:{rank}", *bounds]
        return "\n".join([*head, inner, "END:VAVAILABILITY"])

    raw = calendar(
        available("low", start="20261021T060000Z", rank=0),
        available("high", "DTSTART:20261022T000000Z", "DURATION:P1D", start="20261021T120000Z", rank=1),
    )
    assert spans(raw) == [(at(21, 6), at(21, 14)), (at(22, 12), at(22, 20)), (at(23, 6), at(23, 14))]
    assert {one.organizer for one in read(raw).events} == {"ann@ca.example"}


# --- what is broken ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lines", "code"),
    [
        (("DTSTART:20261021T060000Z",), "lasts_no_time"),
        (("DTSTART:20261021T060000Z", "DTEND:20261021T060000Z"), "lasts_no_time"),
        (("DTSTART:20261021T060000Z", "DTEND:20261021T050000Z"), "ends_before_it_begins"),
        (("DTSTART:20261021T060000Z", "DURATION:-PT1H"), "bad_value"),
        (("DTSTART:20261021T060000Z", "DTEND;VALUE=DATE:20261022"), "bad_value"),
        (("DTSTART:20260230T060000Z", "DURATION:PT1H"), "bad_value"),
        (("DTSTART:20261021T250000Z", "DURATION:PT1H"), "bad_value"),
        (("DTSTART:00010101T000000Z", "DURATION:PT1H"), "bad_value"),
        (("DTSTART:tomorrow", "DURATION:PT1H"), "bad_value"),
        (("DTSTART:20250101T000000Z", "DTEND:20270101T000000Z"), "too_long"),
        (("DTEND:20261021T050000Z",), "no_beginning"),
        ((*DAY, "RRULE:FREQ=SOMETIMES"), "bad_rule"),
        ((*DAY, "RRULE:FREQ=DAILY;INTERVAL=0"), "bad_rule"),
        ((*DAY, "RRULE:FREQ=DAILY;COUNT=-1"), "bad_rule"),
        ((*DAY, "RRULE:FREQ=DAILY;FREQ=DAILY"), "bad_rule"),
        ((*DAY, "RRULE:FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30"), "bad_rule"),
        ((*DAY, "RRULE:FREQ=DAILY;UNTIL=never"), "bad_value"),
        ((*DAY, "RRULE:FREQ=DAILY;BYDAY=XX"), "bad_rule"),
        ((*DAY, "EXRULE:FREQ=WEEKLY"), "bad_rule"),
        ((*DAY, "RRULE:FREQ=SECONDLY"), "rule_too_frequent"),
        ((*DAY, "RRULE:FREQ=MINUTELY;INTERVAL=90"), "rule_too_frequent"),
        (("DTSTART:19000101T000000Z", "DURATION:PT1H", "RRULE:FREQ=HOURLY"), "rule_too_long"),
        ((*DAY, f"RRULE:FREQ=DAILY;BYMINUTE={','.join(map(str, range(60)))};BYSECOND=1,2,3,4,5,6"), "rule_too_long"),
    ],
)
def test_events_that_are_left_out(lines: tuple[str, ...], code: str) -> None:
    """An event that cannot be used is told with its line and why, and the next one is read."""
    raw = calendar(event(*lines), event("DTSTART:20261022T060000Z", "DURATION:PT1H", uid="next"))
    reading = read(raw)
    assert [(fault.line, fault.code) for fault in reading.faults] == [(3, code)]
    assert [one.uid for one in reading.events] == ["next"]


def test_lines_that_are_broken() -> None:
    """A broken line costs that line alone."""
    raw = calendar(event("this is nothing", ": nor this", "EXDATE:soon", "ATTENDEE", *DAY))
    assert [(fault.line, fault.code) for fault in read(raw).faults] == [
        (6, "not_a_property"),
        (7, "not_a_property"),
        (8, "bad_value"),
        (9, "not_a_property"),
    ]
    assert len(spans(raw)) == 1


def test_a_calendar_that_breaks_off() -> None:
    """What is whole is read, what breaks off is left out, and that it breaks off is told."""
    whole = calendar(event(*DAY), event("DTSTART:20261022T060000Z", "DTEND:20261022T180000Z", uid="b"))
    reading = read(whole[: whole.index(b"UID:b") + 30])
    assert (reading.truncated, len(reading.events)) == (True, 1)
    assert [fault.code for fault in reading.faults] == ["truncated"]


def test_events_inside_events() -> None:
    """What begins inside an event and does not end is told and left out; the rest is read."""
    nested = "BEGIN:VEVENT\nUID:outer\nBEGIN:VALARM\n" + event(*DAY, uid="inner")
    reading = read(calendar(nested, event(*DAY, uid="next")))
    assert [one.uid for one in reading.events] == ["inner", "next"]
    assert [(fault.line, fault.code) for fault in reading.faults] == [(3, "not_ended"), (5, "not_ended")]
    without_end = read(calendar(event(*DAY), "BEGIN:VALARM"))
    assert [one.uid for one in without_end.events] == ["one"]
    assert refused(calendar("BEGIN:VALARM\n" * model.DEPTH_MAX)) == "calendar_too_large"


def test_calendars_one_after_the_other() -> None:
    """Two calendars in one text are both read, also if the first one's end is missing."""
    two = calendar(event(*DAY, uid="a")) + calendar(event(*DAY, uid="b"))
    assert [one.uid for one in read(two).events] == ["a", "b"]
    joined = two.replace(b"END:VCALENDAR\r\n", b"", 1)
    assert [one.uid for one in read(joined).events] == ["a", "b"]
    assert codes(joined) == ["not_ended"]


@pytest.mark.parametrize(
    ("raw", "code"),
    [
        (b"", "calendar_empty"),
        (b" \r\n ", "calendar_empty"),
        (b"<!DOCTYPE html><html><body>Please sign in</body></html>", "not_a_calendar"),
        (b"name;from;to\nAnn;Monday;Tuesday\n", "not_a_calendar"),
        (gzip.compress(b"BEGIN:VCALENDAR\nEND:VCALENDAR\n"), "calendar_compressed"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", "not_a_calendar"),
        (b"BEGIN:VCALENDAR\n" + b"x" * model.BYTES_MAX, "calendar_too_large"),
        (b"BEGIN:VCALENDAR\n" + b"BEGIN:VTODO\nEND:VTODO\n" * (model.COMPONENTS_MAX + 1), "calendar_too_large"),
    ],
)
def test_what_is_no_calendar(raw: bytes, code: str) -> None:
    """Bytes that are no calendar are refused as a whole, with why."""
    assert refused(raw) == code


def test_encodings() -> None:
    """UTF-8 with a mark, UTF-16 and what older programs write are read; the last is noted, and so are NUL bytes."""
    text = calendar(event(*DAY)).decode().replace("SUMMARY:Ann", "SUMMARY:Amélie")
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert read(text.encode(encoding)).events[0].summary == "Amélie"
    old = read(text.encode("cp1252"))
    assert (old.events[0].summary, dict(old.notes)) == ("Amélie", {"not_utf8": 1})
    holed = read(text.replace("Am", "A\x00m").encode())
    assert (holed.events[0].summary, dict(holed.notes)) == ("Amélie", {"nul_bytes": 1})


def test_folded_and_escaped() -> None:
    """Folded lines are joined and escapes resolved; characters that control the screen are gone."""
    raw = calendar(event("X-LONG:a\r\n  b", *DAY)).replace(
        b"SUMMARY:Ann", b"SUMMARY:Duty\\, A\r\n nn\\nE.\x1b[31m\xe2\x80\xae"
    )
    assert read(raw).events[0].summary == "Duty, Ann E. [31m"


def test_long_lines_and_many_faults() -> None:
    """Lines beyond the limit are left out, and of many faults the first are told and the others counted."""
    long = calendar(event(*DAY, "EXDATE:" + "20261021T060000Z," * 2_000))
    assert codes(long) == ["line_too_long"]
    many = read(calendar(*(event(uid=str(number)) for number in range(model.FAULTS_MAX + 7))))
    assert (len(many.faults), many.faults_omitted) == (model.FAULTS_MAX, 7)
    lines = calendar(
        event(*DAY, *(f"ATTENDEE:mailto:{number}@ca.example" for number in range(model.PROPERTIES_MAX + 9)))
    )
    assert "too_many_lines" in codes(lines)
    assert len(read(lines).events[0].people) == model.PEOPLE_MAX


# --- attacks ----------------------------------------------------------------------------------------------------------


def test_rules_without_end_end_quickly() -> None:
    """Calendars full of rules that would run for hours are read within seconds, and say what was left out."""
    attacks = [
        *(event("DTSTART:19000101T000000Z", "DURATION:PT1S", "RRULE:FREQ=SECONDLY", uid=f"s{n}") for n in range(200)),
        *(event("DTSTART:19000101T000000Z", "DURATION:PT1H", "RRULE:FREQ=DAILY", uid=f"d{n}") for n in range(200)),
        *(event("DTSTART:20150801T000000Z", "DURATION:PT1H", "RRULE:FREQ=HOURLY", uid=f"h{n}") for n in range(200)),
    ]
    started = clock.perf_counter()
    reading = read(calendar(*attacks))
    assert clock.perf_counter() - started < 10
    assert len(reading.events) == model.EVENTS_MAX
    assert {"rule_too_frequent", "too_many_events"} <= {fault.code for fault in reading.faults}


def test_a_great_calendar_is_read_quickly() -> None:
    """A calendar of nearly the greatest size takes a few seconds at most."""
    count = 4_900
    start = datetime(2026, 10, 21, tzinfo=UTC)
    parts = []
    for number in range(count):
        begin = start + timedelta(hours=number)
        parts.append(event(f"DTSTART:{begin:%Y%m%dT%H%M%SZ}", "DURATION:PT1H", "TRANSP:OPAQUE", uid=f"event-{number}"))
    raw = calendar(*parts)
    assert model.BYTES_MAX * 0.5 < len(raw) < model.BYTES_MAX
    started = clock.perf_counter()
    assert len(read(raw).events) == count
    assert clock.perf_counter() - started < 10


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes(noise: bytes) -> None:
    """Whatever bytes stand in a calendar, something is answered and nothing is raised."""
    read_calendar(noise, zone="Europe/Rome", now=NOW)
    read_calendar(calendar(event(*DAY)) + noise, zone="Europe/Rome", now=NOW)
    read_calendar(b"BEGIN:VCALENDAR\n" + noise + b"\nEND:VCALENDAR", zone="Europe/Rome", now=NOW)


VALUES = st.sampled_from(
    [
        "20261021T060000Z",
        "20261021T080000",
        "20261021",
        "99991231T235959Z",
        "P1D",
        "PT1H",
        "FREQ=DAILY",
        "-1",
        "",
        "x,y",
    ]
)
PROPERTIES = st.sampled_from(
    ["DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "RECURRENCE-ID", "UID", "SEQUENCE", "STATUS", "TZID"]
)


@settings(max_examples=400, deadline=None)
@given(
    st.lists(st.tuples(PROPERTIES, st.sampled_from(["", ";TZID=Europe/Rome", ";VALUE=DATE", ";", ";TZID=?"]), VALUES))
)
def test_any_lines(lines: list[tuple[str, str, str]]) -> None:
    """Whatever lines an event has, something is answered, every event ends after it begins, and nothing is raised."""
    body = "\n".join(f"{name}{parameters}:{value}" for name, parameters, value in lines)
    found = read_calendar(calendar(f"BEGIN:VEVENT\n{body}\nEND:VEVENT"), zone="Europe/Rome", now=NOW)
    assert isinstance(found, Reading)
    assert all(one.start_at < one.end_at for one in found.events)
