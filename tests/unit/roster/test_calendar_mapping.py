"""Who is meant by what stands in a calendar."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from services.roster.calendars.mapping import UNMAPPED_MAX, Mapped, Rule, map_events, names_of, parts_of
from services.roster.calendars.model import CalendarEvent
from services.roster.domain import Contact, ContactPoint, Credential, Partner, PartnerState
from services.roster.schedule import CalendarId
from shared.contracts import ChannelName, CredentialKind, Standing
from shared.ids import ContactId, ContactPointId, PartnerCode

NOW = datetime(2026, 10, 20, 9, 30, tzinfo=UTC)
CALENDAR = CalendarId(UUID(int=1))
ANN, BEN, LEE, PARK = (ContactId(UUID(int=number)) for number in range(11, 15))


def contact(contact_id: ContactId, name: str, *addresses: str) -> Contact:
    """A contact with e-mail addresses, and a telephone that no calendar names."""
    points = [
        ContactPoint(ContactPointId(UUID(int=contact_id.int * 100 + number)), ChannelName.EMAIL, address)
        for number, address in enumerate(addresses)
    ]
    telephone = ContactPoint(ContactPointId(UUID(int=contact_id.int * 100 + 99)), ChannelName.VOICE, "+16135550123")
    return Contact(contact_id, name, points=(*points, telephone))


def credential(
    client_id: str, contact_id: ContactId | None, name: str, revoked_at: datetime | None = None
) -> Credential:
    """A person's credential."""
    return Credential(
        client_id=client_id,
        kind=CredentialKind.PERSON,
        name=name,
        roles=(),
        contact_id=contact_id,
        secret_sha256="0" * 64,
        revoked_at=revoked_at,
    )


STATE = PartnerState(
    partner=Partner(PartnerCode("CA"), "Canada", Standing.MEMBER, "America/Toronto"),
    contacts=(
        contact(ANN, "Ann Exémple", "Ann.E@ca.example"),
        contact(BEN, "Ben Example", "ben@ca.example", "desk@ca.example"),
        contact(LEE, "Ann Lee", "desk@ca.example"),
        contact(PARK, "Ann Lee Park"),
    ),
    credentials=(
        credential("ca-duty-7", PARK, "Desk seven"),
        credential("old-one", BEN, "Old one", revoked_at=NOW),
        credential("ca-system", None, "System"),
    ),
)


def event(summary: str, *people: str, organizer: str | None = None, uid: str = "one", number: int = 0) -> CalendarEvent:
    """An event of a day."""
    start = NOW + timedelta(days=number)
    return CalendarEvent(uid, start.isoformat(), start, start + timedelta(hours=8), summary, people, organizer, line=7)


def mapped(*events: CalendarEvent, rules: tuple[Rule, ...] = ()) -> Mapped:
    """What these events are."""
    return map_events(CALENDAR, events, rules, names_of(STATE))


def meant(one: CalendarEvent, *rules: Rule) -> ContactId | str:
    """Whom an event means, or why nobody."""
    found = mapped(one, rules=rules)
    return found.shifts[0].contact_id if found.shifts else found.unmapped[0].reason


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (event("Duty", "ann.e@CA.example"), ANN),
        (event("Duty", "somebody@else.example", organizer="ben@ca.example"), BEN),
        (event("Duty", "ann.e@ca.example", organizer="ben@ca.example"), ANN),
        (event("Duty", organizer="ann.e@ca.example"), ANN),
        (event("On call: BEN  EXAMPLE (nights)"), BEN),
        (event("Garde Ann Exe\u0301mple"), ANN),
        (event("On Call - Ann Lee"), LEE),
        (event("Ann Lee Park, second"), PARK),
        (event("Duty of desk seven"), PARK),
        (event("ca-duty-7"), PARK),
    ],
)
def test_who_is_meant(one: CalendarEvent, expected: ContactId) -> None:
    """People are told by their e-mail addresses, then by name as whole words, then by their credentials."""
    assert meant(one) == expected


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (event("Duty"), "unknown_person"),
        (event(""), "unknown_person"),
        (event("Annabel Exémples"), "unknown_person"),
        (event("old-one"), "unknown_person"),
        (event("System"), "unknown_person"),
        (event("Duty", "ann.e@ca.example", "ben@ca.example"), "ambiguous"),
        (event("Duty", "desk@ca.example"), "ambiguous"),
        (event("Ann Lee and Ben Example"), "ambiguous"),
    ],
)
def test_nobody_is_guessed(one: CalendarEvent, reason: str) -> None:
    """An event that names nobody, or two, is nobody's, and says which of the two it is."""
    assert meant(one) == reason


def test_rules_go_first() -> None:
    """What the roster manager says of a part of the summary or an address outranks names, whatever the capitals."""
    assert meant(event("On call – ann e.", "ben@ca.example"), Rule("Ann E.", ANN)) == ANN
    assert meant(event("On call", "Guest@Else.example"), Rule("guest@else.EXAMPLE", BEN)) == BEN
    assert meant(event("Night duty"), Rule("night duty", LEE)) == LEE
    assert meant(event("Ann E. two"), Rule("Ann E.", ANN)) == "unknown_person"
    assert meant(event("Ann E., Ben"), Rule("Ann E.", ANN), Rule("Ben", BEN)) == "ambiguous"


def test_no_time_takes_the_place_of_another() -> None:
    """Two times of one name are two shifts, the same ones each time; the same time twice is one."""
    one = event("Ann Exémple")
    other = replace(one, start_at=one.start_at + timedelta(days=1), end_at=one.end_at + timedelta(days=1))
    found = mapped(one, other, one)
    assert [(shift.start_at, shift.end_at) for shift in found.shifts] == [
        (one.start_at, one.end_at),
        (other.start_at, other.end_at),
    ]
    assert found.shifts[0] == mapped(one).shifts[0]


def test_two_people_at_the_same_time_are_not_guessed() -> None:
    """Events that begin together for two people are nobody's, each told with its line; the same person's stay."""
    first, second = event("Ann Exémple", uid="a"), replace(event("Ben Example", uid="b"), line=21)
    alone, twice = event("Ben Example", uid="c", number=1), replace(event("Ben Example", uid="d", number=1), line=30)
    again = event("Ann Exémple", uid="a", number=2), replace(event("Ben Example", uid="b", number=2), line=21)
    found = mapped(first, second, alone, twice, *again)
    assert [(shift.contact_id, shift.start_at) for shift in found.shifts] == [(BEN, alone.start_at)] * 2
    assert found.unmapped_count == 4
    assert {(one.summary, one.reason, one.count, one.line) for one in found.unmapped} == {
        ("Ann Exémple", "ambiguous", 2, 7),
        ("Ben Example", "ambiguous", 2, 21),
    }
    assert {(fault.line, fault.code) for fault in found.ties} == {(7, "two_at_once"), (21, "two_at_once")}
    assert {fault.line: fault.detail.rpartition(" ")[2] for fault in found.ties} == {7: "21", 21: "7"}
    assert "two people at the same time" in found.ties[0].detail


def test_rule_of_somebody_who_is_gone() -> None:
    """A rule for a contact that there is no more says nothing, and is told."""
    gone = Rule("Ann E.", ContactId(UUID(int=99)))
    found = mapped(event("Ann E."), rules=(gone,))
    assert (found.shifts, found.stray_rules) == ((), ("Ann E.",))


def test_shifts_keep_their_ids() -> None:
    """The same occurrence of the same calendar is the same shift when it is moved, and another for another person."""
    first = mapped(event("Ben Example")).shifts[0]
    moved = CalendarEvent("one", NOW.isoformat(), NOW + timedelta(hours=2), NOW + timedelta(hours=4), "Ben Example")
    assert mapped(moved).shifts[0].id == first.id
    assert mapped(event("Ann Lee")).shifts[0].id != first.id
    assert map_events(CalendarId(UUID(int=2)), [event("Ben Example")], (), names_of(STATE)).shifts[0].id != first.id


def test_unmapped_are_counted_by_summary() -> None:
    """A summary that is nobody's is told once, with how often it stands there; of many the most frequent are told."""
    found = mapped(*(event("Carl", number=number) for number in range(3)), event("Dora", "d@else.example"))
    assert [(one.summary, one.count, one.people) for one in found.unmapped] == [
        ("Carl", 3, ()),
        ("Dora", 1, ("d@else.example",)),
    ]
    assert found.unmapped_count == 4
    many = mapped(*(event(f"Person {number}") for number in range(UNMAPPED_MAX + 5)))
    assert (len(many.unmapped), many.unmapped_count) == (UNMAPPED_MAX, UNMAPPED_MAX + 5)


def test_parts_of_a_summary() -> None:
    """A summary's parts stand between dashes, colons, commas, slashes and brackets; a hyphen in a name is none."""
    assert parts_of("On Call - Jean-Luc P.: nights / week (2)") == (
        "on call - jean-luc p.: nights / week (2)",
        "on call",
        "jean-luc p.",
        "nights",
        "week",
        "2",
    )
