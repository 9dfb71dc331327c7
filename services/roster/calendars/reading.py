"""From the text of a calendar to the times that it names in a window: pure, and run in a process that can be killed.

The cast: `read_calendar` is all of it. `lines` makes components of bytes, `zones` says what a zone's name means, and
`times` reads dates and rules and refuses those that are attacks. Recurrence itself is what the library
`recurring_ical_events` does, one series after the other, so that a broken one costs none of the others.

The promise: what can be read is read, and what cannot is told with its line; nothing is guessed. Whatever the text, the
work is bounded: by its bytes, its components, the dates of its rules, and the occurrences in the window.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import recurring_ical_events
from icalendar import Calendar, Event
from icalendar.prop import vRecur

from services.roster.calendars.lines import Component, Findings, Property, components_of, text_of
from services.roster.calendars.model import (
    EVENT_DAYS_MAX,
    EVENTS_MAX,
    NAME_CHARACTERS_MAX,
    PEOPLE_MAX,
    RULE_STEPS_MAX,
    SUMMARY_CHARACTERS_MAX,
    UID_CHARACTERS_MAX,
    WINDOW_AFTER,
    WINDOW_BEFORE,
    CalendarEvent,
    Reading,
    Unreadable,
)
from services.roster.calendars.times import (
    Context,
    Length,
    Moment,
    Unusable,
    instant_of,
    length_of,
    moment_of,
    moments_of,
    periods_of,
    rule_of,
)
from services.roster.calendars.zones import Zones

_STEPS_MAX = 10 * RULE_STEPS_MAX
"""Dates that all rules of one calendar may run through."""
_DAY = timedelta(days=1)
_ESCAPED = re.compile(r"\\([\\;,nN])")
_KEY = "X-KEY"
"""Carries the place of an event in the list of those that were checked through the library and back."""


@dataclass(slots=True)
class _Owned:
    """Available time of somebody (RFC 7953): where it holds, and how it ranks. 1 ranks highest."""

    owner: str | None
    rank: int
    from_at: datetime
    to_at: datetime


@dataclass(slots=True)
class _Checked:
    """One event of which every value was read and checked."""

    line: int
    uid: str
    start: Moment
    end: Moment
    length: Length | None
    summary: str
    people: tuple[str, ...]
    organizer: str | None
    sequence: int
    is_cancelled: bool
    notes: tuple[str, ...]
    recurrence: Moment | None = None
    and_future: bool = False
    rules: list[vRecur] = field(default_factory=list)
    steps: int = 0
    additions: list[Any] = field(default_factory=list)
    exceptions: list[Moment] = field(default_factory=list)
    owned: _Owned | None = None

    @property
    def content(self) -> tuple[Any, ...]:
        """What two copies of one event have in common."""
        rules = tuple(str(sorted(rule.items())) for rule in self.rules)
        return (self.start, self.end, self.summary, rules, tuple(self.additions), tuple(self.exceptions))


def read_calendar(raw: bytes, *, zone: str, now: datetime) -> Reading | Unreadable:
    """What a calendar names between seven days before `now` and 400 days after it; the rota is in `zone`."""
    findings = Findings()
    text = text_of(raw, findings)
    if isinstance(text, Unreadable):
        return text
    roots = components_of(text, findings)
    if isinstance(roots, Unreadable):
        return roots
    reader = _Reader(findings, roots, ZoneInfo(zone), now)
    events = reader.events()
    return Reading(
        name=reader.name,
        events=tuple(sorted(events, key=lambda event: (event.start_at, event.end_at, event.uid, event.recurrence))),
        faults=tuple(sorted(findings.faults, key=lambda fault: fault.line)),
        faults_omitted=findings.faults_omitted,
        notes=tuple(sorted(findings.notes.items())),
        truncated=findings.truncated,
    )


class _Reader:
    def __init__(self, findings: Findings, roots: Sequence[Component], zone: ZoneInfo, now: datetime) -> None:
        self._findings = findings
        self._zone = zone
        self._from_at, self._to_at = now - WINDOW_BEFORE, now + WINDOW_AFTER
        inner = [child for root in roots if root.name == "VCALENDAR" for child in root.children]
        self._components = [*(root for root in roots if root.name != "VCALENDAR"), *inner]
        self._zones = Zones((one for one in self._components if one.name == "VTIMEZONE"), now)
        self._steps = 0
        named = (root.first(name) for root in roots for name in ("X-WR-CALNAME", "NAME"))
        self.name = next((_text(one, NAME_CHARACTERS_MAX) for one in named if one is not None), None)

    def events(self) -> list[CalendarEvent]:
        """All occurrences in the window, until there are too many."""
        checked = list(self._checked())
        higher = _ranked(one.owned for one in checked if one.owned is not None)
        found: dict[CalendarEvent, None] = {}
        for series in self._series(checked):
            try:
                occurrences = self._occurrences(series)
            except Exception:  # noqa: BLE001 - the library raises whatever comes out of what it was given
                self._findings.add(series[0].line, "bad_rule", "the dates of this event cannot be computed")
                continue
            for one, event in occurrences:
                for piece in _pieces(event, one.owned, higher):
                    found[piece] = None
            if len(found) > EVENTS_MAX:
                detail = f"there are more than {EVENTS_MAX} times in 400 days; what stands from here on is left out"
                self._findings.add(series[0].line, "too_many_events", detail, always=True)
                return list(found)[:EVENTS_MAX]
        return list(found)

    # --- checking

    def _checked(self) -> Iterator[_Checked]:
        for component in self._components:
            if component.name == "VEVENT":
                yield from self._try(component, None)
            elif component.name == "VAVAILABILITY":
                try:
                    owned = self._owned(component)
                except Unusable as fault:
                    self._findings.add(component.line, fault.code, fault.detail)
                    continue
                for child in component.children:
                    if child.name == "AVAILABLE":
                        yield from self._try(child, owned)

    def _try(self, component: Component, owned: _Owned | None) -> Iterator[_Checked]:
        try:
            yield self._check(component, owned)
        except Unusable as fault:
            self._findings.add(component.line, fault.code, fault.detail)

    def _check(self, component: Component, owned: _Owned | None) -> _Checked:
        context = Context(self._zones, self._zone)
        begins = component.first("DTSTART")
        if begins is None:
            raise Unusable("no_beginning", "the event has no DTSTART that could be read")
        start = moment_of(begins, context)
        context.inside(start)
        end, length = _end_of(component, start, context)
        begin_at, end_at = instant_of(start, self._zone), instant_of(end, self._zone)
        status = component.first("STATUS")
        is_cancelled = status is not None and status.value.strip().upper() == "CANCELLED"
        if not is_cancelled and end_at <= begin_at:
            if end_at == begin_at:
                raise Unusable("lasts_no_time", "the event lasts no time: it has neither a later DTEND nor a DURATION")
            raise Unusable("ends_before_it_begins", "the event ends before it begins")
        if end_at - begin_at > timedelta(days=EVENT_DAYS_MAX):
            raise Unusable("too_long", f"the event lasts longer than {EVENT_DAYS_MAX} days")
        uid = component.first("UID")
        organizer = component.first("ORGANIZER")
        people = [_mail(one) for one in list(component.every("ATTENDEE"))[:PEOPLE_MAX]]
        checked = _Checked(
            line=component.line,
            uid=uid.value[:UID_CHARACTERS_MAX] if uid is not None and uid.value else _made_uid(component),
            start=start,
            end=end,
            length=length,
            summary=_text(component.first("SUMMARY"), SUMMARY_CHARACTERS_MAX) or "",
            people=tuple(dict.fromkeys(one for one in people if one is not None)),
            organizer=owned.owner if owned is not None else _mail(organizer) if organizer is not None else None,
            sequence=_sequence(component),
            is_cancelled=is_cancelled,
            notes=(),
            owned=owned,
        )
        self._check_recurrence(checked, component, context)
        notes = []
        if context.floating:
            notes.append("floating")
        if not isinstance(start, datetime):
            notes.append("all_day")
        transparency = component.first("TRANSP")
        if transparency is not None and transparency.value.strip().upper() == "TRANSPARENT":
            notes.append("free")
        checked.notes = tuple(notes)
        return checked

    def _check_recurrence(self, checked: _Checked, component: Component, context: Context) -> None:
        if (moved := component.first("RECURRENCE-ID")) is not None:
            checked.recurrence = moment_of(moved, context)
            checked.and_future = moved.parameters.get("RANGE", "").upper() == "THISANDFUTURE"
        elif not checked.is_cancelled:
            for rule in component.every("RRULE"):
                made, steps = rule_of(rule, checked.start, self._to_at, context)
                self._steps += steps
                if self._steps > _STEPS_MAX:
                    raise Unusable("rule_too_long", "the calendar's rules name too many dates; this one is left out")
                checked.rules.append(made)
        if any(component.every("EXRULE")):
            raise Unusable("bad_rule", "the event has an EXRULE, which calendars no longer have")
        for prop in component.properties:
            try:
                if prop.name == "RDATE":
                    checked.additions += list(periods_of(prop, context))
                elif prop.name == "EXDATE":
                    checked.exceptions += list(moments_of(prop, context))
            except Unusable as fault:
                self._findings.add(prop.line, fault.code, fault.detail)

    def _owned(self, component: Component) -> _Owned:
        context = Context(self._zones, self._zone)
        begins, ends, lasts = (component.first(name) for name in ("DTSTART", "DTEND", "DURATION"))
        start = moment_of(begins, context) if begins is not None else None
        from_at = instant_of(start, self._zone) if start is not None else datetime.min.replace(tzinfo=UTC)
        to_at = datetime.max.replace(tzinfo=UTC)
        if ends is not None:
            to_at = instant_of(moment_of(ends, context), self._zone)
        elif lasts is not None and start is not None:
            to_at = instant_of(length_of(lasts.value).after(start), self._zone)
        owner, priority = component.first("ORGANIZER"), component.first("PRIORITY")
        number = int(priority.value) if priority is not None and re.fullmatch(r"[0-9]", priority.value) else 0
        # Undefined is 0 and ranks lowest (RFC 7953, section 3.1).
        return _Owned(_mail(owner) if owner is not None else None, number or 10, from_at, to_at)

    # --- occurrences

    def _series(self, checked: Iterable[_Checked]) -> Iterator[list[_Checked]]:
        """Events that belong together: one with its rules, and the occurrences of it that were moved."""
        by_uid: dict[tuple[str, int], list[_Checked]] = defaultdict(list)
        for one in checked:
            by_uid[one.uid, id(one.owned) if one.owned is not None else 0].append(one)
        for members in by_uid.values():
            changed = [one for one in members if one.recurrence is not None]
            cores = self._newest([one for one in members if one.recurrence is None])
            if len(cores) <= 1:
                yield [*cores, *changed]
                continue
            # Some programs give several events one name. They are different events all the same.
            for number, core in enumerate(cores):
                yield [core, *(changed if number == 0 else [])]

    def _newest(self, cores: list[_Checked]) -> list[_Checked]:
        newest = max((one.sequence for one in cores), default=0)
        kept: dict[tuple[Any, ...], _Checked] = {}
        for one in cores:
            if one.sequence == newest and one.content not in kept:
                kept[one.content] = one
            else:
                self._findings.notes["duplicate"] += 1
        if len(kept) <= 1:
            return list(kept.values())
        numbered = []
        for number, one in enumerate(kept.values(), start=1):
            if number > 1:
                one.uid = f"{one.uid}#{hashlib.sha256(repr(one.content).encode()).hexdigest()[:12]}"
            numbered.append(one)
        return numbered

    def _occurrences(self, series: list[_Checked]) -> list[tuple[_Checked, CalendarEvent]]:
        if series[0].is_cancelled and series[0].recurrence is None:
            self._findings.notes["cancelled"] += 1
            return []
        calendar = Calendar()
        for number, one in enumerate(series):
            calendar.add_component(_component(one, number))
        # A day more on both sides, because whole days are of the rota's zone and the library's are of no zone.
        query = recurring_ical_events.of(calendar, components=["VEVENT"], skip_bad_series=False)
        occurrences = []
        used: set[int] = set()
        for found in query.between(self._from_at - _DAY, self._to_at + _DAY):
            one = series[int(str(found[_KEY]))]
            start, end = found["DTSTART"].dt, found["DTEND"].dt
            if one.length is not None and _span(start, end) == one.length.on_the_wall:
                # The library adds lengths by the clock on the wall, and hours are hours on the day of the change, too.
                end = one.length.after(start)
            begin_at, end_at = instant_of(start, self._zone), instant_of(end, self._zone)
            if not begin_at < end_at or not (begin_at < self._to_at and end_at > self._from_at):
                continue
            if one.is_cancelled:
                self._findings.notes["cancelled"] += 1
                continue
            if one.line not in used:
                used.add(one.line)
                self._findings.notes.update(one.notes)
            # A change of this and all that follow gives each of them its own name, the first one's.
            is_named = "RECURRENCE-ID" in found and not one.and_future
            recurrence = found["RECURRENCE-ID"].dt if is_named else start
            event = CalendarEvent(
                uid=one.uid,
                recurrence=instant_of(recurrence, self._zone).isoformat(),
                start_at=begin_at,
                end_at=end_at,
                summary=one.summary,
                people=one.people,
                organizer=one.organizer,
                line=one.line,
            )
            occurrences.append((one, event))
        return occurrences


def _span(start: Moment, end: Moment) -> timedelta:
    """How long something lasts by the calendar and the clock on the wall, which is what the library keeps."""
    if isinstance(start, datetime) and isinstance(end, datetime):
        return end.replace(tzinfo=None) - start.replace(tzinfo=None)
    return timedelta(days=end.toordinal() - start.toordinal())


def _component(one: _Checked, number: int) -> Event:
    event = Event()
    event.add("UID", one.uid)
    event.add("DTSTART", one.start)
    event.add("DTEND", one.end if one.length is None else one.start + one.length.on_the_wall)
    event.add("SEQUENCE", one.sequence)
    event.add(_KEY, str(number))
    if one.recurrence is not None:
        parameters = {"RANGE": "THISANDFUTURE"} if one.and_future else {}
        event.add("RECURRENCE-ID", one.recurrence, parameters=parameters)
    for rule in one.rules:
        event.add("RRULE", rule)
    # One property for each, because the values of one must be of one kind and of one zone.
    for moment in one.additions:
        event.add("RDATE", [moment])
    for moment in one.exceptions:
        event.add("EXDATE", [moment])
    return event


def _end_of(component: Component, start: Moment, context: Context) -> tuple[Moment, Length | None]:
    ends, lasts = component.first("DTEND"), component.first("DURATION")
    if ends is not None:
        end = moment_of(ends, context)
        if isinstance(end, datetime) == isinstance(start, datetime):
            return end, None
        raise Unusable("bad_value", "one of DTSTART and DTEND is a whole day and the other is not")
    if lasts is not None:
        length = length_of(lasts.value)
        return length.after(start), length
    return (start, None) if isinstance(start, datetime) else (start + _DAY, None)


# --- available time ---------------------------------------------------------------------------------------------------


def _ranked(owned: Iterable[_Owned]) -> dict[str, list[_Owned]]:
    ranked: dict[str, list[_Owned]] = defaultdict(list)
    for one in {id(one): one for one in owned}.values():
        if one.owner is not None:
            ranked[one.owner].append(one)
    return ranked


def _pieces(event: CalendarEvent, owned: _Owned | None, ranked: dict[str, list[_Owned]]) -> Iterator[CalendarEvent]:
    """What of an event holds: of available time only what lies in its component's bounds and in no higher one's."""
    if owned is None:
        yield event
        return
    pieces = [(max(event.start_at, owned.from_at), min(event.end_at, owned.to_at))]
    for other in ranked.get(owned.owner or "", ()):
        if other.rank < owned.rank:
            pieces = [
                piece
                for start, end in pieces
                for piece in ((start, min(end, other.from_at)), (max(start, other.to_at), end))
            ]
    whole = (event.start_at, event.end_at)
    for start, end in pieces:
        if start < end:
            recurrence = event.recurrence if (start, end) == whole else f"{event.recurrence}/{start.isoformat()}"
            yield replace(event, start_at=start, end_at=end, recurrence=recurrence)


# --- texts ------------------------------------------------------------------------------------------------------------


def _text(prop: Property | None, characters_max: int) -> str | None:
    """A text as people may be shown it: one line, without characters that control how it is shown."""
    if prop is None:
        return None
    unescaped = _ESCAPED.sub(lambda found: " " if found[1] in "nN" else found[1], prop.value)
    shown = "".join(one if unicodedata.category(one) not in ("Cc", "Cf", "Cs") else " " for one in unescaped)
    return " ".join(shown.split())[:characters_max] or None


def _mail(prop: Property) -> str | None:
    """The e-mail address of somebody, in small letters."""
    given = prop.value if "@" in prop.value else prop.parameters.get("EMAIL", "")
    address = given.strip().lower().removeprefix("mailto:").partition("?")[0]
    return address if 3 <= len(address) <= 254 and "@" in address and " " not in address else None


def _sequence(component: Component) -> int:
    found = component.first("SEQUENCE")
    return int(found.value) if found is not None and re.fullmatch(r"[0-9]{1,9}", found.value) else 0


def _made_uid(component: Component) -> str:
    """A name for an event that has none: the same as long as the event is the same."""
    told = "\n".join(f"{one.name}:{one.parameters}:{one.value}" for one in component.properties)
    return f"unnamed-{hashlib.sha256(told.encode()).hexdigest()[:32]}"
