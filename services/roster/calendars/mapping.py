"""From the events of a calendar to the contacts who are on duty: pure, and never a guess.

The cast: a `Rule` is what the roster manager says ("`Ann E.` is this contact"); `map_events` goes through the ways
below for each event and takes the first that names anybody. A way that names two people names nobody: the event is
unmapped and told with its reason.

    1. the rules: a part of the summary, the whole of it, or an e-mail address of the event
    2. an e-mail address of those who attend, or else of whoever owns the event, that is a contact point
    3. the name of a contact as whole words in the summary
    4. the name or client id of a person's credential as whole words in the summary

Events of one calendar that begin at the same instant and mean two people name two people, too: none of them is a shift.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.roster.calendars.model import CalendarEvent, Fault
from services.roster.domain import PartnerState
from services.roster.schedule import CalendarId, ImportedShift, ImportedShiftId
from shared.contracts import ChannelName
from shared.ids import ContactId, derived

RULES_MAX = 200
MATCH_CHARACTERS_MAX = 200
UNMAPPED_MAX = 100
"""Summaries that are told one by one; of further ones only how many there are."""

_BETWEEN_PARTS = re.compile(r"\s+[-–—|]\s+|[:;,/()\[\]|–—]|\s\+\s|\s&\s")
_NOT_A_WORD = re.compile(r"[^\w]+")


@dataclass(frozen=True, slots=True)
class Rule:
    """What a text in a calendar means: a part of a summary, or an e-mail address."""

    match: str
    contact_id: ContactId


@dataclass(frozen=True, slots=True)
class Names:
    """By what the people of a partner can be told in a calendar: each text with those whom it may mean, folded."""

    contacts: frozenset[ContactId]
    by_mail: dict[str, frozenset[ContactId]]
    by_name: dict[str, frozenset[ContactId]]
    by_credential: dict[str, frozenset[ContactId]]


@dataclass(frozen=True, slots=True)
class Unmapped:
    """Events of one summary that are nobody's, and why: `unknown_person` or `ambiguous`; `count` of them."""

    summary: str
    reason: str
    count: int
    line: int
    people: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Mapped:
    """What a calendar brings: shifts in the order of their beginnings, and what could not be mapped.

    `stray_rules` are texts of rules whose contact is gone. `ties` say of each event that is nobody's because another
    one begins when it does where that stands.
    """

    shifts: tuple[ImportedShift, ...]
    unmapped: tuple[Unmapped, ...]
    unmapped_count: int
    stray_rules: tuple[str, ...]
    ties: tuple[Fault, ...] = ()


def names_of(state: PartnerState) -> Names:
    """By what the contacts of a partner can be told: names, e-mail addresses, and credentials that are not revoked."""
    by_mail: dict[str, set[ContactId]] = defaultdict(set)
    by_name: dict[str, set[ContactId]] = defaultdict(set)
    by_credential: dict[str, set[ContactId]] = defaultdict(set)
    for contact in state.contacts:
        if words := _words(contact.name):
            by_name[words].add(contact.id)
        for point in contact.points:
            if point.channel is ChannelName.EMAIL:
                by_mail[folded(point.address)].add(contact.id)
    known = frozenset(contact.id for contact in state.contacts)
    for credential in state.credentials:
        if credential.contact_id not in known or credential.revoked_at is not None:
            continue
        for text in (credential.name, credential.client_id):
            if words := _words(text):
                by_credential[words].add(credential.contact_id)
    return Names(known, _frozen(by_mail), _frozen(by_name), _frozen(by_credential))


def map_events(calendar_id: CalendarId, events: Iterable[CalendarEvent], rules: Sequence[Rule], names: Names) -> Mapped:
    """The shifts that these events are. The same event of the same calendar is the same shift each time."""
    said: dict[str, set[ContactId]] = defaultdict(set)
    for rule in rules:
        if rule.contact_id in names.contacts:
            said[folded(rule.match)].add(rule.contact_id)
    found: dict[ImportedShiftId, tuple[ImportedShift, CalendarEvent]] = {}
    unmapped: dict[tuple[str, str, tuple[str, ...]], tuple[int, int]] = {}
    named = [_Known(known) for known in (names.by_name, names.by_credential)]
    remembered: dict[tuple[str, tuple[str, ...], str | None], frozenset[ContactId]] = {}
    lost: list[tuple[CalendarEvent, str]] = []
    for event in events:
        told = (event.summary, event.people, event.organizer)
        meant = remembered.get(told)
        if meant is None:
            meant = remembered[told] = _meant(event, said, names, named)
        if len(meant) == 1:
            (contact_id,) = meant
            shift = _shift(calendar_id, event, contact_id, event.recurrence)
            same, _ = found.get(shift.id, (None, None))
            if same is not None and (same.start_at, same.end_at) != (event.start_at, event.end_at):
                # Told under one name, and another time all the same: neither takes the other's place.
                shift = _shift(calendar_id, event, contact_id, f"{event.recurrence}/{event.start_at.isoformat()}")
            found[shift.id] = (shift, event)
        else:
            lost.append((event, "ambiguous" if meant else "unknown_person"))
    shifts, tied = _without_ties(found.values())
    lost += [(event, "ambiguous") for event, _ in tied]
    for event, reason in lost:
        people = event.people or ((event.organizer,) if event.organizer is not None else ())
        key = (event.summary, reason, people)
        number, line = unmapped.get(key, (0, event.line))
        unmapped[key] = (number + 1, line)
    shown = [Unmapped(text, reason, *told, people) for (text, reason, people), told in unmapped.items()]
    shown.sort(key=lambda one: (-one.count, one.line))
    return Mapped(
        shifts=tuple(sorted(shifts, key=lambda shift: (shift.start_at, shift.end_at, shift.id))),
        unmapped=tuple(shown[:UNMAPPED_MAX]),
        unmapped_count=len(lost),
        stray_rules=tuple(rule.match for rule in rules if rule.contact_id not in names.contacts),
        ties=tuple(
            Fault(line, "two_at_once", f"names one of two people at the same time, the other stands on line {other}")
            for line, other in {event.line: other.line for event, other in reversed(tied)}.items()
        ),
    )


def _without_ties(
    found: Iterable[tuple[ImportedShift, CalendarEvent]],
) -> tuple[list[ImportedShift], list[tuple[CalendarEvent, CalendarEvent]]]:
    """The shifts that no other person's begins together with, and the events of all others, each with another's."""
    by_start: dict[datetime, list[tuple[ImportedShift, CalendarEvent]]] = defaultdict(list)
    for shift, event in found:
        by_start[shift.start_at].append((shift, event))
    left: list[ImportedShift] = []
    tied: list[tuple[CalendarEvent, CalendarEvent]] = []
    for together in by_start.values():
        for shift, event in together:
            other = next((each for one, each in together if one.contact_id != shift.contact_id), None)
            if other is None:
                left.append(shift)
            else:
                tied.append((event, other))
    return left, tied


def _shift(calendar_id: CalendarId, event: CalendarEvent, contact_id: ContactId, recurrence: str) -> ImportedShift:
    shift_id = ImportedShiftId(derived("imported", str(calendar_id), event.uid, recurrence, str(contact_id)))
    return ImportedShift(shift_id, calendar_id, contact_id, event.start_at, event.end_at)


def folded(text: str) -> str:
    """A text as texts are compared: without difference of capitals, of spaces, and of how accents are encoded."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def parts_of(summary: str) -> tuple[str, ...]:
    """The summary and its parts between dashes, colons, commas, slashes and brackets, folded."""
    parts = [folded(summary), *(folded(part) for part in _BETWEEN_PARTS.split(summary) if part)]
    return tuple(dict.fromkeys(part for part in parts if part))


class _Known:
    """Names by the word that they begin with, so that not every name is sought in every summary."""

    def __init__(self, people: dict[str, frozenset[ContactId]]) -> None:
        self.people = people
        self._by_first: dict[str, list[str]] = defaultdict(list)
        for name in people:
            self._by_first[name.partition(" ")[0]].append(name)

    def inside(self, words: str) -> list[str]:
        """The names that stand as whole words in a text that has a space before, between and after its words."""
        firsts = dict.fromkeys(words.split())
        return [name for first in firsts for name in self._by_first.get(first, ()) if f" {name} " in words]


def _meant(
    event: CalendarEvent, said: dict[str, set[ContactId]], names: Names, named: Iterable[_Known]
) -> frozenset[ContactId]:
    addresses = [*event.people, *([event.organizer] if event.organizer is not None else [])]
    texts = [*parts_of(event.summary), *map(folded, addresses)]
    if meant := frozenset().union(*(said.get(text, frozenset()) for text in texts)):
        return meant
    for group in (event.people, addresses):
        if meant := frozenset().union(*(names.by_mail.get(folded(one), frozenset()) for one in group)):
            return meant
    words = f" {_words(event.summary)} "
    for known in named:
        found = known.inside(words)
        # "Ann Lee" does not stand there beside "Ann Lee Park", it is a part of her.
        longest = [name for name in found if not any(name != other and f" {name} " in f" {other} " for other in found)]
        if meant := frozenset().union(*(known.people[name] for name in longest)):
            return meant
    return frozenset()


def _words(text: str) -> str:
    return " ".join(_NOT_A_WORD.sub(" ", folded(text)).split())


def _frozen(found: dict[str, set[ContactId]]) -> dict[str, frozenset[ContactId]]:
    return {text: frozenset(people) for text, people in found.items()}


def rule_of(match: str, contact_id: UUID) -> Rule:
    """A rule as somebody gives it."""
    return Rule(match.strip(), ContactId(contact_id))
