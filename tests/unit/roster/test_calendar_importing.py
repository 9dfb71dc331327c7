"""What a calendar does to its rota: which shifts come, stay and go."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from services.roster import schedule
from services.roster.calendars.importing import KEPT, basis_of, bring, with_shifts, without_calendar
from services.roster.calendars.mapping import Rule
from services.roster.calendars.model import FAULTS_MAX, WINDOW_BEFORE, CalendarEvent, Fault, Reading
from services.roster.calendars.store import StoredCalendar
from services.roster.changes import in_order
from services.roster.domain import Contact, Partner, PartnerState
from services.roster.rota_edits import without_past_shifts
from services.roster.schedule import IMPORTED_MAX, CalendarId, ImportedShift, ImportedShiftId, Rota
from shared.contracts import Standing
from shared.ids import ContactId, PartnerCode, RotaId

NOW = datetime(2026, 10, 20, 9, 30, tzinfo=UTC)
ANN, BEN = ContactId(UUID(int=11)), ContactId(UUID(int=12))
OURS, OTHERS = CalendarId(UUID(int=1)), CalendarId(UUID(int=2))


def shift(number: int, days: float, *, calendar: CalendarId = OURS, contact: ContactId = ANN) -> ImportedShift:
    """An hour that ends so many days from now."""
    end = NOW + timedelta(days=days)
    return ImportedShift(ImportedShiftId(UUID(int=number)), calendar, contact, end - timedelta(hours=1), end)


def state_with(*shifts: ImportedShift) -> PartnerState:
    """A partner whose only rota has these shifts."""
    ordered = tuple(sorted(shifts, key=lambda one: one.start_at))
    return PartnerState(
        Partner(PartnerCode("CA"), "Canada", Standing.MEMBER, "America/Toronto"),
        contacts=(Contact(ANN, "Ann Example"), Contact(BEN, "Ben Example")),
        rotas=(Rota(RotaId(UUID(int=21)), "Duty", "America/Toronto", imported=ordered),),
    )


def numbers(state: PartnerState) -> list[int]:
    """The ids of the shifts that the rota has."""
    return [one.id.int for one in state.rotas[0].imported]


def calendar(*rules: Rule) -> StoredCalendar:
    """A file of the ministry's."""
    code, rota_id = PartnerCode("CA"), RotaId(UUID(int=21))
    return StoredCalendar(OURS, code, rota_id, "Ministry", None, rules, created_at=NOW, next_at=NOW)


def test_what_is_told_takes_the_place_of_what_was() -> None:
    """What the calendar still tells stays, what it tells no more goes, and other calendars are left alone."""
    state = state_with(shift(1, 1), shift(2, 2), shift(3, 2, calendar=OTHERS))
    after = with_shifts(state, state.rotas[0], OURS, [shift(2, 2), shift(4, 3)], now=NOW)
    assert sorted(numbers(after)) == [2, 3, 4]
    assert sorted(numbers(without_calendar(after, after.rotas[0], OURS))) == [3]


def test_what_is_long_over_stays_for_a_while() -> None:
    """What lies before the window stays for three months; inside of the window the calendar alone says what was."""
    before, kept = -WINDOW_BEFORE / timedelta(days=1), -KEPT / timedelta(days=1)
    state = state_with(shift(1, kept - 1), shift(2, kept + 1), shift(3, before - 1), shift(4, before + 1), shift(5, 1))
    assert numbers(with_shifts(state, state.rotas[0], OURS, [], now=NOW)) == [2, 3]


def test_what_is_over_gives_way_to_what_is_told() -> None:
    """Past shifts never take the place that those to come need; the oldest go first."""
    state = state_with(shift(1, -9), shift(2, -8))
    told = [shift(100 + number, 1 + number / 10) for number in range(IMPORTED_MAX - 1)]
    after = with_shifts(state, state.rotas[0], OURS, told, now=NOW)
    assert len(after.rotas[0].imported) == IMPORTED_MAX
    assert numbers(after)[0] == 2
    more = with_shifts(state, state.rotas[0], OURS, [*told, shift(99, 300)], now=NOW)
    assert 2 not in numbers(more)


def test_two_people_at_the_same_time_are_told() -> None:
    """Neither is taken over from one calendar, and its findings name both lines beside what could not be read."""
    until = NOW + timedelta(hours=8)
    events = tuple(
        CalendarEvent(name, NOW.isoformat(), NOW, until, f"{name} Example", line=line)
        for name, line in (("Ann", 5), ("Ben", 12))
    )
    reading = Reading(None, events, faults=tuple(Fault(9, "bad_value", "is wrong") for _ in range(FAULTS_MAX - 1)))
    state = state_with()
    brought = bring(state, state.rotas[0], calendar(), reading, now=NOW)
    assert numbers(brought.state) == []
    assert (brought.calendar.shifts, brought.calendar.unmapped) == (0, 2)
    findings = brought.calendar.findings
    assert (len(findings.faults), findings.faults_omitted) == (FAULTS_MAX, 1)
    assert "two_at_once" in {fault.code for fault in findings.faults}


@pytest.mark.parametrize("numbered", [(1, 2), (2, 1)])
def test_of_two_calendars_the_newer_one_holds(numbered: tuple[int, int]) -> None:
    """Where events of two calendars begin together, whatever the ids of their shifts and the order they came in."""
    ours, others = shift(numbered[0], 1, contact=ANN), shift(numbered[1], 1, calendar=OTHERS, contact=BEN)
    state = state_with()
    for first, second in ((ours, others), (others, ours)):
        rota = replace(state.rotas[0], imported=(first, second))
        assert [one.contact_id for one in schedule.shifts(rota, NOW, NOW + timedelta(days=2))] == [BEN]
        assert in_order(rota.imported) == (ours, others)


def test_a_calendar_that_is_empty_all_of_a_sudden() -> None:
    """It had shifts ahead and has none any more; one whose shifts are all over has simply come to its end."""
    nothing = Reading(None, ())
    ahead, over = state_with(shift(1, 1)), state_with(shift(1, -1))
    assert bring(ahead, ahead.rotas[0], calendar(), nothing, now=NOW).is_empty_now
    assert not bring(over, over.rotas[0], calendar(), nothing, now=NOW).is_empty_now
    event = CalendarEvent("one", "one", NOW, NOW + timedelta(hours=1), "Ann Example")
    assert not bring(ahead, ahead.rotas[0], calendar(), Reading(None, (event,)), now=NOW).is_empty_now


def test_on_what_a_mapping_depends() -> None:
    """Another rule, name or zone is another basis; another telephone number or title is not."""
    state = state_with()
    rota = state.rotas[0]
    basis = basis_of(state, rota, calendar())
    renamed = PartnerState(state.partner, contacts=(Contact(ANN, "Anna Example"), state.contacts[1]), rotas=state.rotas)
    titled = PartnerState(
        state.partner, contacts=(Contact(ANN, "Ann Example", title="Head"), state.contacts[1]), rotas=state.rotas
    )
    assert basis_of(titled, rota, calendar()) == basis
    assert basis_of(renamed, rota, calendar()) != basis
    assert basis_of(state, rota, calendar(Rule("A. E.", ANN))) != basis
    assert basis_of(state, Rota(rota.id, rota.name, "Europe/Rome"), calendar()) != basis


def test_past_shifts_of_somebody_who_leaves() -> None:
    """What is over goes with them, what is ahead stays, and others keep theirs."""
    state = state_with(shift(1, -1), shift(2, 1), shift(3, -1, contact=BEN))
    assert sorted(numbers(without_past_shifts(state, ANN, now=NOW))) == [2, 3]
