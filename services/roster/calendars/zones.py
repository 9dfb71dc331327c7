"""Which zone a calendar means by a name: only where that is certain, and never a guess.

Certain are: names of the IANA database; those names behind the path of a program's own (`/mozilla.org/…/Europe/Rome`);
the names of Windows, each of which stands for one zone of that database; and a name that the calendar defines for
itself, which then is read as it is defined. Abbreviations (`EST`) are none of these: some who write them mean a zone
with daylight saving, and some one without.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from icalendar import Timezone
from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

from services.roster.calendars.lines import Component
from services.roster.calendars.model import OBSERVANCES_MAX, YEAR_MAX

_UTC_NAMES = frozenset({"utc", "etc/utc", "z", "zulu", "gmt", "etc/gmt", "uct", "universal"})
_OFFSET = re.compile(r"[+-][0-9]{4}(?:[0-9]{2})?")
_RULE = re.compile(
    r"FREQ=YEARLY(?:;(?:(?:BYMONTH|BYDAY|UNTIL|INTERVAL|WKST)=[A-Z0-9+-]+|BYMONTHDAY=[0-9,+-]{1,30}))*", re.IGNORECASE
)
"""Once a year: one month, and one weekday of it, perhaps within some days."""
_START = re.compile(r"[0-9]{8}T[0-9]{6}")
_UNTIL = re.compile(r"UNTIL=([0-9]{4})")
YEARS_BEFORE = 3
"""A zone of a calendar's own is read from so many years before the window on: what recurs may have begun earlier, but
it recurs by the clock on the wall.
"""


class Zones:
    """The zones of one calendar."""

    def __init__(self, defined: Iterable[Component], now: datetime) -> None:
        self._first_year = now.year - YEARS_BEFORE
        self._defined: dict[str, Component] = {}
        self._known: dict[str, tzinfo | None] = {}
        for component in defined:
            name = component.first("TZID")
            if name is not None:
                self._defined.setdefault(_cleaned(name.value), component)

    def find(self, name: str) -> tzinfo | None:
        """The zone that this name means for certain, or None."""
        cleaned = _cleaned(name)
        if cleaned not in self._known:
            self._known[cleaned] = self._look_up(cleaned)
        return self._known[cleaned]

    def _look_up(self, name: str) -> tzinfo | None:
        if (known := known_zone(name)) is not None:
            return known
        component = self._defined.get(name)
        if component is None:
            return None
        location = component.first("X-LIC-LOCATION")
        if location is not None and (known := known_zone(_cleaned(location.value))) is not None:
            return known
        return _as_defined(component, self._first_year)


def known_zone(name: str) -> tzinfo | None:
    """The zone of a name that needs no definition."""
    lowered = name.lower()
    if lowered in _UTC_NAMES:
        return UTC
    names = _known_names()
    candidates = [lowered]
    if name.startswith("/"):
        parts = lowered.strip("/").split("/")
        candidates = ["/".join(parts[-count:]) for count in (3, 2) if count <= len(parts)]
    for candidate in candidates:
        if candidate in names:
            return ZoneInfo(names[candidate])
    return None


@lru_cache(maxsize=1)
def _known_names() -> dict[str, str]:
    """Names in small letters, by which programs that do not keep to capitals are understood as well."""
    known = available_timezones()
    plain = (one for one in known if "/" in one and not one.startswith(("Etc/", "SystemV/", "posix/", "right/")))
    names = {name.lower(): name for name in plain}
    return names | {windows.lower(): name for windows, name in WINDOWS_TO_OLSON.items() if name in known}


def _cleaned(name: str) -> str:
    return name.strip().strip('"').strip()


@dataclass(frozen=True, slots=True)
class _Observance:
    """One offset of a zone that a calendar defines: once from `start` on, or each year by `rule` up to `until_year`."""

    kind: str
    start: str
    offset_from: str
    offset_to: str
    rule: str | None
    until_year: int

    @property
    def year(self) -> int:
        """The last year in which it begins."""
        return self.until_year if self.rule is not None else int(self.start[:4])

    def lines(self, number: int, first_year: int) -> list[str]:
        """The observance as it is written, its rule from `first_year` on: zones are looked up from their beginning."""
        start = self.start
        if self.rule is not None and int(start[:4]) < first_year:
            day = "28" if start[4:8] == "0229" else start[6:8]
            start = f"{first_year:04}{start[4:6]}{day}{start[8:]}"
        rules = [] if self.rule is None else [f"RRULE:{self.rule}"]
        return [
            f"BEGIN:{self.kind}",
            f"DTSTART:{start}",
            f"TZOFFSETFROM:{self.offset_from}",
            f"TZOFFSETTO:{self.offset_to}",
            f"TZNAME:{self.kind}{number}",
            *rules,
            f"END:{self.kind}",
        ]


def _as_defined(component: Component, first_year: int) -> tzinfo | None:
    """The zone that a calendar defines, as it is from `first_year` on.

    None if the definition is not of the usual kind, or makes no zone.
    """
    children = [child for child in component.children if child.name in ("STANDARD", "DAYLIGHT")]
    observances = [one for one in map(_observance, children) if one is not None]
    if not observances or len(observances) != len(children):
        return None
    # Of what was over before, the last one says what holds until something else does.
    over = sorted((one for one in observances if one.year < first_year), key=lambda one: (one.year, one.start))
    needed = [*over[-1:], *(one for one in observances if one.year >= first_year)]
    if len(needed) == 1 and needed[0].rule is None:
        return _fixed(needed[0].offset_to)
    if len(needed) > OBSERVANCES_MAX:
        return None
    lines = ["BEGIN:VTIMEZONE", "TZID:defined"]
    for number, one in enumerate(needed):
        lines += one.lines(number, first_year)
    lines += ["END:VTIMEZONE", ""]
    try:
        defined = Timezone.from_ical("\r\n".join(lines))
        # Not looked up by name: what one calendar calls its zone must never be what another one finds.
        zone: tzinfo = defined.to_tz(lookup_tzid=False)  # type: ignore[attr-defined]
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, AttributeError):
        return None
    return zone


def _observance(component: Component) -> _Observance | None:
    """One observance; None if anything of it is out of the ordinary."""
    start, before, after = (component.first(name) for name in ("DTSTART", "TZOFFSETFROM", "TZOFFSETTO"))
    rules = [rule.value.upper() for rule in component.every("RRULE")]
    if start is None or before is None or after is None or _START.fullmatch(start.value) is None:
        return None
    offsets_are_plain = all(_OFFSET.fullmatch(offset.value) for offset in (before, after))
    rules_are_plain = len(rules) <= 1 and all(_RULE.fullmatch(rule) for rule in rules)
    if not offsets_are_plain or not rules_are_plain or any(component.every("RDATE")):
        return None
    rule = rules[0] if rules else None
    until = _UNTIL.search(rule or "")
    return _Observance(
        component.name, start.value, before.value, after.value, rule, int(until[1]) if until else YEAR_MAX
    )


def _fixed(offset: str) -> tzinfo | None:
    sign = -1 if offset[0] == "-" else 1
    try:
        return timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5])))
    except ValueError:
        return None
