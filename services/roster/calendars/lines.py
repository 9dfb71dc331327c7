"""From bytes to components: text, unfolded lines, and the tree of what begins and ends (RFC 5545, section 3.1).

The promise: pure, and linear in what it is given. A broken line costs that line alone, and every property knows the
line on which it stands.
"""

from __future__ import annotations

import codecs
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from services.roster.calendars.model import (
    BYTES_MAX,
    COMPONENTS_MAX,
    DEPTH_MAX,
    FAULTS_MAX,
    LINE_CHARACTERS_MAX,
    PROPERTIES_MAX,
    Fault,
    Unreadable,
)

_ROOTS = frozenset({"VCALENDAR", "VEVENT", "VAVAILABILITY"})
"""What a text must begin to be a calendar; the last two stand alone in some files."""
_SIDE_BY_SIDE = frozenset({"VEVENT", "VAVAILABILITY", "VTIMEZONE", "VTODO", "VJOURNAL", "VFREEBUSY"})
"""What never lies in one another: the beginning of one says that the end of the one before is missing."""
_LINE_END = re.compile(r"\r\n|\n|\r")
_BEGIN_OF_ROOT = re.compile(r"(?im)^BEGIN:(?:VCALENDAR|VEVENT|VAVAILABILITY)[ \t]*\r?$")
_NAME = re.compile(r"[A-Za-z0-9-]+")
_PARAMETER = re.compile(r';([^":;=]*+)(?:=((?:[^":;]|"[^"]*+")*+))?')
_BYTE_ORDER_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_COMPRESSED = (b"\x1f\x8b", b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"(\xb5/\xfd")

_READ = frozenset(
    {
        *("DTSTART", "DTEND", "DURATION", "RRULE", "RDATE", "EXDATE", "EXRULE", "RECURRENCE-ID", "UID", "SEQUENCE"),
        *("SUMMARY", "STATUS", "TRANSP", "ORGANIZER", "ATTENDEE", "PRIORITY", "X-WR-CALNAME", "NAME"),
        *("TZID", "TZOFFSETFROM", "TZOFFSETTO", "TZNAME", "X-LIC-LOCATION"),
    }
)
"""All other properties are passed over."""


@dataclass(frozen=True, slots=True)
class Property:
    """One line: its name and the names of its parameters in capitals, its value as it is written."""

    line: int
    name: str
    value: str
    parameters: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Component:
    """What stands between BEGIN and END."""

    name: str
    line: int
    properties: list[Property] = field(default_factory=list)
    children: list[Component] = field(default_factory=list)

    def first(self, name: str) -> Property | None:
        """The first property of this name."""
        return next((one for one in self.properties if one.name == name), None)

    def every(self, name: str) -> Iterator[Property]:
        """All properties of this name."""
        return (one for one in self.properties if one.name == name)


@dataclass(slots=True)
class Findings:
    """What was noticed on the way."""

    faults: list[Fault] = field(default_factory=list)
    faults_omitted: int = 0
    notes: Counter[str] = field(default_factory=Counter)
    truncated: bool = False

    def add(self, line: int, code: str, detail: str, *, always: bool = False) -> None:
        """Tells one fault, or counts it if there are many; `always` is for what concerns the whole calendar."""
        if always or len(self.faults) < FAULTS_MAX:
            self.faults.append(Fault(line, code, detail))
        else:
            self.faults_omitted += 1


def text_of(raw: bytes, findings: Findings) -> str | Unreadable:
    """The text of a calendar, whatever encodes it, or why these bytes are none."""
    if len(raw) > BYTES_MAX:
        return Unreadable("calendar_too_large", f"a calendar may have at most {BYTES_MAX} bytes")
    if raw.startswith(_COMPRESSED):
        return Unreadable("calendar_compressed", "this is a compressed file; unpack it first")
    encoding = next((name for mark, name in _BYTE_ORDER_MARKS if raw.startswith(mark)), "utf-8")
    try:
        text = raw.decode(encoding)
    except UnicodeDecodeError:
        # What older office programs write; every byte stands for something, so that no line is lost.
        text = raw.decode("cp1252", errors="replace")
        findings.notes["not_utf8"] += 1
    if "\x00" in text:
        findings.notes["nul_bytes"] += text.count("\x00")
        text = text.replace("\x00", "")
    if not text.strip():
        return Unreadable("calendar_empty", "there is nothing in it")
    if _BEGIN_OF_ROOT.search(text) is None:
        start = text[:2000].lower()
        if "<html" in start or "<!doctype" in start:
            return Unreadable("not_a_calendar", "this is a web page, not a calendar; perhaps it asks to sign in")
        return Unreadable("not_a_calendar", "this is no calendar: it has no line BEGIN:VCALENDAR")
    return text


def components_of(text: str, findings: Findings) -> list[Component] | Unreadable:
    """The outermost components of a text, or why there are too many."""
    roots: list[Component] = []
    open_ones: list[Component] = []
    count = last = 0
    for last, content in _content_lines(text):
        name, _, rest = content.partition(":")
        name = name.strip().upper()
        if name == "BEGIN":
            count += 1
            if count > COMPONENTS_MAX or len(open_ones) >= DEPTH_MAX:
                detail = f"it has more than {COMPONENTS_MAX} parts, or they lie more than {DEPTH_MAX} deep"
                return Unreadable("calendar_too_large", detail)
            component = Component(rest.strip().upper(), last)
            _end_before(component, open_ones, roots, findings)
            if open_ones:
                open_ones[-1].children.append(component)
            elif component.name in _ROOTS:
                roots.append(component)
            open_ones.append(component)
        elif name == "END":
            _close(open_ones, rest.strip().upper(), last, findings)
        elif open_ones:
            _add_property(open_ones[-1], content, last, findings)
    if open_ones:
        findings.truncated = True
        detail = f"the calendar breaks off: what begins on line {open_ones[-1].line} has no end"
        findings.add(last, "truncated", detail, always=True)
        # What breaks off may lack its most important half.
        while open_ones and open_ones[-1].name != "VCALENDAR":
            _leave_out(open_ones, roots)
    return roots


def _end_before(component: Component, open_ones: list[Component], roots: list[Component], findings: Findings) -> None:
    """Ends what cannot hold the component that begins: an event loses its half, a calendar keeps what it has."""
    if component.name != "VCALENDAR" and component.name not in _SIDE_BY_SIDE:
        return
    while open_ones and open_ones[-1].name != "VCALENDAR":
        left = open_ones[-1]
        detail = f"what begins here has no end before line {component.line}, and is left out"
        findings.add(left.line, "not_ended", detail)
        _leave_out(open_ones, roots)
    if component.name == "VCALENDAR" and open_ones:
        findings.add(component.line, "not_ended", "a calendar begins here before the one in front of it has ended")
        open_ones.clear()


def _close(open_ones: list[Component], name: str, line: int, findings: Findings) -> None:
    if all(component.name != name for component in open_ones):
        findings.add(line, "unexpected_end", "something ends here that has not begun")
        return
    while open_ones[-1].name != name:
        detail = f"what begins here has no end before line {line}, and is left out"
        findings.add(open_ones[-1].line, "not_ended", detail)
        _leave_out(open_ones, [])
    open_ones.pop()


def _leave_out(open_ones: list[Component], roots: list[Component]) -> None:
    """Takes the innermost open component away, of which nobody knows what is missing."""
    left = open_ones.pop()
    siblings = open_ones[-1].children if open_ones else roots
    siblings[:] = [one for one in siblings if one is not left]


def _content_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with the number of their first one, those that begin with a space or tab joined to the one before."""
    parts: list[str] = []
    first = 0
    for number, line in enumerate(_LINE_END.split(text), start=1):
        if line[:1] in (" ", "\t") and parts:
            parts.append(line[1:])
            continue
        if parts and (joined := "".join(parts)).strip():
            yield first, joined
        parts, first = [line], number
    if parts and (joined := "".join(parts)).strip():
        yield first, joined


def _add_property(component: Component, content: str, line: int, findings: Findings) -> None:
    found = _NAME.match(content)
    if found is None:
        findings.add(line, "not_a_property", "the line does not begin with the name of a property")
        return
    name = found[0].upper()
    if name not in _READ:
        if ":" not in content:
            findings.add(line, "not_a_property", "the line has no colon")
        return
    if len(content) > LINE_CHARACTERS_MAX:
        findings.add(line, "line_too_long", f"{name} is longer than {LINE_CHARACTERS_MAX} characters, and is left out")
        return
    if len(component.properties) >= PROPERTIES_MAX:
        findings.add(line, "too_many_lines", f"this event has more than {PROPERTIES_MAX} lines; the rest is left out")
        return
    parameters: dict[str, str] = {}
    at = found.end()
    while (parameter := _PARAMETER.match(content, at)) is not None:
        at = parameter.end()
        if parameter[2] is None:
            # A semicolon too much, as some programs write it. What follows it is read all the same.
            findings.notes["repaired"] += 1
            findings.add(line, "repaired", f"{name} has a parameter without a value, which is passed over")
        else:
            parameters[parameter[1].strip().upper()] = parameter[2].replace('"', "").strip()
    if content[at : at + 1] != ":":
        findings.add(line, "not_a_property", f"{name} has no value that could be read")
        return
    component.properties.append(Property(line, name, content[at + 1 :].strip(), parameters))
