"""Rotas as calendars: what the common programs need, and that our own reader gets back what was written."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest
from icalendar import Calendar

from services.roster import schedule
from services.roster.calendars.mapping import map_events, names_of
from services.roster.calendars.model import Reading
from services.roster.calendars.reading import read_calendar
from services.roster.calendars.writing import PRODUCT, Roster, languages, words_of, write_calendar
from services.roster.domain import Contact, Partner, PartnerState
from services.roster.schedule import CalendarId, Frequency, Layer, LayerId, Override, OverrideId, Rota, Rotation
from shared.contracts import Standing
from shared.ids import ContactId, PartnerCode, RotaId

NOW = datetime(2026, 10, 20, 9, 30, tzinfo=UTC)
ANN, BEN, EVE = (ContactId(UUID(int=number)) for number in range(11, 14))
NAMES = {ANN: "Ann Exémple", BEN: "Ben Example", EVE: "Eve, the “third”; of a very long name that has to be folded"}
ROTA = Rota(
    id=RotaId(UUID(int=21)),
    name="Duty officers",
    time_zone="Europe/Rome",
    layers=(
        Layer(
            id=LayerId(UUID(int=31)),
            name="Days",
            rotation=Rotation(Frequency.DAILY, 1),
            participants=(ANN, BEN, EVE),
            starts_on=NOW.date() - timedelta(days=30),
            hand_over_time=time(8),
            deputies=(BEN, EVE, ANN),
        ),
    ),
    overrides=(Override(OverrideId(UUID(int=41)), BEN, NOW + timedelta(days=3), NOW + timedelta(days=3, hours=5)),),
)
FROM, TO = NOW - timedelta(days=3), NOW + timedelta(days=60)


def roster(**changes: object) -> Roster:
    """The rota with all its shifts."""
    whole = Roster(
        title="Red Phone: Duty officers",
        rotas=[(ROTA, schedule.shifts(ROTA, FROM, TO))],
        names=NAMES,
        version=7,
        changed_at=NOW,
    )
    return replace(whole, **changes)  # type: ignore[arg-type]


def events_of(raw: bytes) -> list[Any]:
    """The events that a calendar program finds."""
    return list(Calendar.from_ical(raw).walk("VEVENT"))


def test_what_calendar_programs_need() -> None:
    """CRLF, folded lines of at most 75 bytes, who made it, that it is published, and DTSTAMP and UID in each event."""
    raw = write_calendar(roster())
    lines = raw.split(b"\r\n")
    assert lines[0] == b"BEGIN:VCALENDAR"
    assert lines[-1] == b""
    assert all(len(line) <= 75 and b"\n" not in line and b"\r" not in line for line in lines)
    assert {f"PRODID:{PRODUCT}".encode(), b"VERSION:2.0", b"METHOD:PUBLISH", b"CALSCALE:GREGORIAN"} <= set(lines)
    assert b"REFRESH-INTERVAL;VALUE=DURATION:PT1H" in lines
    assert b"X-WR-CALNAME:Red Phone: Duty officers" in lines
    events = events_of(raw)
    assert len(events) == len(schedule.shifts(ROTA, FROM, TO))
    for event in events:
        assert not event.errors
        assert event["DTSTAMP"].dt == NOW
        assert event["DTSTART"].to_ical().endswith(b"Z")
        assert event["DTEND"].to_ical().endswith(b"Z")
        assert event["SEQUENCE"] == 7
        assert event["TRANSP"] == "TRANSPARENT"
    assert len({str(event["UID"]) for event in events}) == len(events)


def test_the_same_for_the_same() -> None:
    """Written twice it is the same, so that programs need not fetch it again."""
    assert write_calendar(roster()) == write_calendar(roster())


def test_a_shift_that_is_taken_over_keeps_its_name() -> None:
    """Whoever takes a shift over changes the event and makes no second one."""
    shifts = schedule.shifts(ROTA, FROM, TO)
    other = [replace(shifts[0], contact_id=EVE), *shifts[1:]]
    before = {str(event["UID"]) for event in events_of(write_calendar(roster()))}
    after = events_of(write_calendar(roster(rotas=[(ROTA, other)], version=8)))
    assert {str(event["UID"]) for event in after} == before


def test_round_trip() -> None:
    """What was exported gives the same shifts when it is imported again, through the change of clocks."""
    reading = read_calendar(write_calendar(roster()), zone="America/Toronto", now=NOW)
    assert isinstance(reading, Reading)
    assert not reading.faults
    contacts = tuple(Contact(contact_id, name) for contact_id, name in NAMES.items())
    state = PartnerState(Partner(PartnerCode("IT"), "Italy", Standing.MEMBER, "Europe/Rome"), contacts=contacts)
    found = map_events(CalendarId(UUID(int=1)), reading.events, (), names_of(state))
    assert found.unmapped == ()
    again = replace(ROTA, layers=(), overrides=(), imported=found.shifts)
    told = [(shift.contact_id, shift.start_at, shift.end_at) for shift in schedule.shifts(again, FROM, TO)]
    assert told == [(shift.contact_id, shift.start_at, shift.end_at) for shift in schedule.shifts(ROTA, FROM, TO)]


def test_own_shifts() -> None:
    """Somebody's own calendar holds what they hold and where they are the deputy, and names them nowhere."""
    events = events_of(write_calendar(roster(contact_id=ANN, language="de")))
    shifts = [one for one in schedule.shifts(ROTA, FROM, TO) if ANN in (one.contact_id, one.deputy_id)]
    assert [event["DTSTART"].dt for event in events] == [shift.start_at for shift in shifts]
    assert {str(event["SUMMARY"]) for event in events} == {
        "Red Phone: Duty officers (Sie)",
        "Red Phone: Duty officers (Sie, in Vertretung)",
    }
    assert not any("Ann" in str(event.get("DESCRIPTION", "")) for event in events)
    assert any(str(event.get("DESCRIPTION", "")) == "Vertretung: Ben Example" for event in events)


def test_names_cannot_break_out() -> None:
    """A rota whose name holds line ends and colons adds no line of its own to the calendar."""
    named = replace(ROTA, name="A\r\nEND:VEVENT\nATTENDEE:x")
    raw = write_calendar(roster(rotas=[(named, schedule.shifts(ROTA, FROM, TO)[:1])]))
    assert b"\r\nATTENDEE" not in raw
    assert len(events_of(raw)) == 1


@pytest.mark.parametrize("language", ["en", "fr", "es", "it", "pt", "de", "ar"])
def test_every_language_has_every_word(language: str) -> None:
    """Each of the seven languages has all words, with the places that English has."""
    english, words = words_of("en"), words_of(language)
    assert language in languages()
    assert words.keys() == english.keys()
    for key, text in words.items():
        assert {place for place in ("{rota}", "{name}") if place in text} == {
            place for place in ("{rota}", "{name}") if place in english[key]
        }


def test_other_languages_are_english() -> None:
    """A language without words gets the English ones, and a regional one those of its language."""
    assert words_of("mi") == words_of("en")
    assert words_of("pt-BR") == words_of("pt")
