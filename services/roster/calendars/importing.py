"""What a calendar does to its rota: pure.

The shifts that a calendar brings take the place of those that it brought before. What lies before the window that is
read stays for a while as it was, so that who was on duty last month does not change when the calendar forgets it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from services.roster.calendars.mapping import Mapped, map_events, names_of
from services.roster.calendars.model import FAULTS_MAX, WINDOW_BEFORE, Reading
from services.roster.calendars.store import Findings, StoredCalendar
from services.roster.changes import in_order
from services.roster.domain import PartnerState
from services.roster.rota_edits import with_rota
from services.roster.schedule import IMPORTED_MAX, CalendarId, ImportedShift, Rota

KEPT = timedelta(days=92)
"""How long shifts stay that are over and that the calendar does not tell any more."""


@dataclass(frozen=True, slots=True)
class Brought:
    """A calendar as it was read and mapped, and its partner with the shifts that it brings."""

    calendar: StoredCalendar
    state: PartnerState
    mapped: Mapped
    is_empty_now: bool
    """Whether it had shifts ahead, and has none any more."""


def bring(state: PartnerState, rota: Rota, calendar: StoredCalendar, reading: Reading, *, now: datetime) -> Brought:
    """What a reading makes of the calendar and of the partner."""
    mapped = map_events(calendar.id, reading.events, calendar.rules, names_of(state))
    faults = (*reading.faults, *mapped.ties)
    before = [shift for shift in rota.imported if shift.calendar_id == calendar.id]
    told = replace(
        calendar,
        read_at=now,
        events=len(reading.events),
        shifts=len(mapped.shifts),
        unmapped=mapped.unmapped_count,
        findings=Findings(
            title=reading.name,
            unmapped=mapped.unmapped,
            faults=tuple(sorted(faults[:FAULTS_MAX], key=lambda fault: fault.line)),
            faults_omitted=reading.faults_omitted + len(faults[FAULTS_MAX:]),
            notes=reading.notes,
            stray_rules=mapped.stray_rules,
            basis=basis_of(state, rota, calendar),
        ),
    )
    return Brought(
        calendar=told,
        state=with_shifts(state, rota, calendar.id, mapped.shifts, now=now),
        mapped=mapped,
        is_empty_now=_ahead(before, now) and not _ahead(mapped.shifts, now),
    )


def basis_of(state: PartnerState, rota: Rota, calendar: StoredCalendar) -> str:
    """Stands for everything beside the text on which the shifts of a calendar depend."""
    names = names_of(state)
    told = [
        rota.time_zone,
        sorted((rule.match, str(rule.contact_id)) for rule in calendar.rules),
        *(
            sorted((text, sorted(map(str, people))) for text, people in known.items())
            for known in (names.by_mail, names.by_name, names.by_credential)
        ),
        sorted(map(str, names.contacts)),
    ]
    return hashlib.sha256(repr(told).encode()).hexdigest()


def with_shifts(
    state: PartnerState, rota: Rota, calendar_id: CalendarId, shifts: Iterable[ImportedShift], *, now: datetime
) -> PartnerState:
    """The partner with these shifts as those of the calendar, and with those that are over and not told any more."""
    brought = {shift.id: shift for shift in shifts}
    others = [shift for shift in rota.imported if shift.calendar_id != calendar_id]
    over = [
        shift
        for shift in rota.imported
        if shift.calendar_id == calendar_id
        and shift.id not in brought
        and now - KEPT < shift.end_at <= now - WINDOW_BEFORE
    ]
    room = max(0, IMPORTED_MAX - len(others) - len(brought))
    newest = sorted(over, key=lambda shift: shift.end_at)[-room:] if room else []
    return with_rota(state, replace(rota, imported=in_order([*others, *newest, *brought.values()])))


def without_calendar(state: PartnerState, rota: Rota, calendar_id: UUID) -> PartnerState:
    """The partner without anything that the calendar brought."""
    left = [shift for shift in rota.imported if shift.calendar_id != calendar_id]
    return with_rota(state, replace(rota, imported=in_order(left)))


def _ahead(shifts: Iterable[ImportedShift], now: datetime) -> bool:
    return any(shift.end_at > now for shift in shifts)
