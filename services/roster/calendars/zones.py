"""Which zone a calendar means by a name: only where that is certain, and never a guess.

Certain are: names of the IANA database; those names behind the path of a program's own (`/mozilla.org/…/Europe/Rome`);
the names of Windows, each of which stands for one zone of that database; and a name that the calendar defines for
itself, which then is read as it is defined. Abbreviations (`EST`) are none of these: some who write them mean a zone
with daylight saving, and some one without.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, timedelta, timezone, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

from icalendar import Timezone
from icalendar.timezone.windows_to_olson import WINDOWS_TO_OLSON

from services.roster.calendars.lines import Component
from services.roster.calendars.model import OBSERVANCES_MAX

_UTC_NAMES = frozenset({"utc", "etc/utc", "z", "zulu", "gmt", "etc/gmt", "uct", "universal"})
_OFFSET = re.compile(r"[+-][0-9]{4}(?:[0-9]{2})?")
_RULE = re.compile(r"FREQ=YEARLY(?:;(?:BYMONTH|BYDAY|BYMONTHDAY|UNTIL|INTERVAL|WKST)=[A-Z0-9,+-]+)*", re.IGNORECASE)
_START = re.compile(r"[0-9]{8}T[0-9]{6}")


class Zones:
    """The zones of one calendar."""

    def __init__(self, defined: Iterable[Component]) -> None:
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
        return _as_defined(component)


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
    names = {
        name.lower(): name
        for name in available_timezones()
        if "/" in name and not name.startswith(("Etc/", "SystemV/", "posix/", "right/"))
    }
    return names | {
        windows.lower(): name for windows, name in WINDOWS_TO_OLSON.items() if name in available_timezones()
    }


def _cleaned(name: str) -> str:
    return name.strip().strip('"').strip()


def _as_defined(component: Component) -> tzinfo | None:
    """The zone that a calendar defines; None if the definition is not of the usual kind, or makes no zone."""
    observances = [child for child in component.children if child.name in ("STANDARD", "DAYLIGHT")]
    if not 1 <= len(observances) <= OBSERVANCES_MAX:
        return None
    written = [_written(child, number) for number, child in enumerate(observances)]
    lines = ["BEGIN:VTIMEZONE", "TZID:defined"]
    for one in written:
        if one is None:
            return None
        lines += one
    offset = observances[0].first("TZOFFSETTO")
    if len(observances) == 1 and offset is not None and not any(observances[0].every("RRULE")):
        return _fixed(offset.value)
    lines += ["END:VTIMEZONE", ""]
    try:
        defined = Timezone.from_ical("\r\n".join(lines))
        # Not looked up by name: what one calendar calls its zone must never be what another one finds.
        zone: tzinfo = defined.to_tz(lookup_tzid=False)  # type: ignore[attr-defined]
    except (ValueError, KeyError, TypeError, IndexError, OverflowError, AttributeError):
        return None
    return zone


def _written(observance: Component, number: int) -> list[str] | None:
    """One observance in lines of our own; None if anything of it is out of the ordinary."""
    start, before, after = (observance.first(name) for name in ("DTSTART", "TZOFFSETFROM", "TZOFFSETTO"))
    rules = [rule.value for rule in observance.every("RRULE")]
    if start is None or before is None or after is None or _START.fullmatch(start.value) is None:
        return None
    offsets_are_plain = all(_OFFSET.fullmatch(offset.value) for offset in (before, after))
    rules_are_plain = len(rules) <= 1 and all(_RULE.fullmatch(rule) for rule in rules)
    if not offsets_are_plain or not rules_are_plain or any(observance.every("RDATE")):
        return None
    return [
        f"BEGIN:{observance.name}",
        f"DTSTART:{start.value}",
        f"TZOFFSETFROM:{before.value}",
        f"TZOFFSETTO:{after.value}",
        f"TZNAME:{observance.name}{number}",
        *(f"RRULE:{rule}" for rule in rules),
        f"END:{observance.name}",
    ]


def _fixed(offset: str) -> tzinfo | None:
    sign = -1 if offset[0] == "-" else 1
    try:
        return timezone(sign * timedelta(hours=int(offset[1:3]), minutes=int(offset[3:5])))
    except ValueError:
        return None
