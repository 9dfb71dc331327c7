"""From shifts to iCalendar text that the common calendar programs read: pure, and the same for the same shifts.

Times are instants in UTC, so that no program has to know a zone. The name of an event is its rota and its beginning:
whoever takes a shift over changes the event and does not make a second one. SEQUENCE and DTSTAMP are the version of the
partner's roster and when that was made. No telephone number and no address stands in it, and it takes up no time:
whoever is on duty for a week is not busy for a week.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from importlib.resources import files
from typing import Any

from icalendar import Calendar, Event

from services.roster.schedule import Rota, Shift
from shared.ids import ContactId, derived

PRODUCT = "-//Red Phone//Rosters//EN"
REFRESH_EVERY = timedelta(hours=1)
FALLBACK_LANGUAGE = "en"


@dataclass(frozen=True, slots=True)
class Roster:
    """What is written: `rotas` with their shifts, in a partner's version of `version`, made at `changed_at`.

    With `contact_id` only what that contact holds, alone or as deputy, in the words of `language`.
    """

    title: str
    rotas: Sequence[tuple[Rota, Sequence[Shift]]]
    names: Mapping[ContactId, str]
    version: int
    changed_at: datetime
    contact_id: ContactId | None = None
    language: str = FALLBACK_LANGUAGE


def write_calendar(roster: Roster) -> bytes:
    """The calendar as a file: CRLF, lines folded at 75 bytes."""
    words = words_of(roster.language)
    calendar = Calendar()
    calendar.add("PRODID", PRODUCT)
    calendar.add("VERSION", "2.0")
    calendar.add("CALSCALE", "GREGORIAN")
    calendar.add("METHOD", "PUBLISH")
    calendar.add("NAME", roster.title)
    calendar.add("X-WR-CALNAME", roster.title)
    calendar.add("REFRESH-INTERVAL", REFRESH_EVERY, parameters={"VALUE": "DURATION"})
    calendar.add("X-PUBLISHED-TTL", "PT1H")
    for rota, shifts in roster.rotas:
        for shift in shifts:
            summary = _summary(roster, rota, shift, words)
            if summary is not None:
                calendar.add_component(_event(roster, rota, shift, summary, words))
    written: bytes = calendar.to_ical()
    return written


def words_of(language: str) -> dict[str, str]:
    """The words of a language (`fr`, `pt-BR`), or the English ones if there are none."""
    known = _texts()
    return known.get(language) or known.get(language.partition("-")[0]) or known[FALLBACK_LANGUAGE]


def languages() -> Iterable[str]:
    """All languages that have words."""
    return _texts().keys()


@lru_cache(maxsize=1)
def _texts() -> dict[str, dict[str, str]]:
    text = files(__package__).joinpath("texts.toml").read_text(encoding="utf-8")
    found: dict[str, Any] = tomllib.loads(text)
    return found


def _summary(roster: Roster, rota: Rota, shift: Shift, words: Mapping[str, str]) -> str | None:
    """What the event is called; None if it is not the reader's."""
    if roster.contact_id is None:
        name = roster.names.get(shift.contact_id, words["somebody"])
        return words["of_all"].format(rota=rota.name, name=name)
    if shift.contact_id == roster.contact_id:
        return words["own"].format(rota=rota.name)
    if shift.deputy_id == roster.contact_id:
        return words["as_deputy"].format(rota=rota.name)
    return None


def _event(roster: Roster, rota: Rota, shift: Shift, summary: str, words: Mapping[str, str]) -> Event:
    event = Event()
    event.add("UID", f"{derived('exported shift', str(rota.id), shift.start_at.isoformat())}@redphone")
    event.add("DTSTAMP", roster.changed_at.replace(microsecond=0))
    event.add("LAST-MODIFIED", roster.changed_at.replace(microsecond=0))
    event.add("SEQUENCE", roster.version)
    event.add("DTSTART", shift.start_at)
    event.add("DTEND", shift.end_at)
    event.add("SUMMARY", summary)
    if shift.deputy_id is not None and shift.deputy_id != roster.contact_id:
        name = roster.names.get(shift.deputy_id, words["somebody"])
        event.add("DESCRIPTION", words["deputy"].format(name=name))
    event.add("STATUS", "CONFIRMED")
    event.add("TRANSP", "TRANSPARENT")
    event.add("CLASS", "PRIVATE")
    return event
