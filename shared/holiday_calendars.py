"""Which days are free where: national holidays of a country or one of its regions, and of the European institutions.

A calendar is named by ISO 3166-1 alpha-2 (`CA`), by the package's code for a region behind it, mostly ISO 3166-2
(`CA-QC`), or `EU`. Countries come from the package `holidays`; what it does not have comes from `holidays.toml` beside
this file, which says its own format. A country alone has the days that all of it keeps, so a partner whose days differ
from place to place names the region of its seat: `AU-ACT`, `GB-ENG`, `DE-BE`, `ES-MD`. Where a country moves a day
that falls on a weekend, both days are there, the second as "(observed)".
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

import holidays as package
from dateutil.easter import easter

_FILE = Path(__file__).with_name("holidays.toml")
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Rules:
    """One table of the file; months and days are pairs."""

    fixed: tuple[tuple[tuple[int, int], tuple[int, int], str], ...]
    easter: tuple[tuple[int, str], ...]
    dates: Mapping[date, str]
    without: frozenset[date]
    categories: tuple[str, ...]
    weekdays_only: bool


@lru_cache(maxsize=4096)
def names(calendar: str, year: int) -> Mapping[date, str]:
    """The holidays of one year, by date, named in English where the package has it; empty for an unknown calendar."""
    if not is_calendar(calendar):
        return MappingProxyType({})
    country, _, region = calendar.partition("-")
    rules = _filed().get(calendar)
    found: dict[date, str] = {}
    if country in _regions():
        categories = ("public", *(rules.categories if rules else ()))
        kept = package.country_holidays(
            country, subdiv=region or None, years=year, language="en_US", categories=categories
        )
        found |= {on: name for on, name in kept.items() if on.year == year}
    if rules is not None:
        for on, name in _by_rule(rules, year):
            found.setdefault(on, name)
        for on in rules.without:
            found.pop(on, None)
    return MappingProxyType(dict(sorted(found.items())))


@lru_cache(maxsize=4096)
def is_calendar(name: str) -> bool:
    """Whether there is such a calendar."""
    country, mark, region = name.partition("-")
    if not mark:
        return country in _filed() or country in _regions()
    return region in _regions().get(country, ())


@lru_cache(maxsize=1)
def _regions() -> Mapping[str, frozenset[str]]:
    """The countries of the package, each with its regions."""
    known = package.list_supported_countries(include_aliases=True)
    return {country: frozenset(regions) for country, regions in known.items() if len(country) == 2}


def _by_rule(rules: _Rules, year: int) -> Iterator[tuple[date, str]]:
    for first, last, name in rules.fixed:
        on = date(year, *first)
        while on <= date(year, *last):
            if not rules.weekdays_only or on.isoweekday() <= 5:
                yield on, name
            on += _DAY
    for days, name in rules.easter:
        on = easter(year) + days * _DAY
        if not rules.weekdays_only or on.isoweekday() <= 5:
            yield on, name
    yield from ((on, name) for on, name in rules.dates.items() if on.year == year)


@lru_cache(maxsize=1)
def _filed() -> Mapping[str, _Rules]:
    """The calendars of the file."""
    return {name: _read(table) for name, table in tomllib.loads(_FILE.read_text(encoding="utf-8")).items()}


def _read(table: Mapping[str, Any]) -> _Rules:
    return _Rules(
        fixed=tuple(
            (_month_and_day(one["on"]), _month_and_day(one.get("to", one["on"])), one["name"])
            for one in table.get("fixed", ())
        ),
        easter=tuple((one["days"], one["name"]) for one in table.get("easter", ())),
        dates={date.fromisoformat(one["on"]): one["name"] for one in table.get("dates", ())},
        without=frozenset(date.fromisoformat(on) for on in table.get("without", ())),
        categories=tuple(table.get("categories", ())),
        weekdays_only=table.get("weekdays_only", False),
    )


def _month_and_day(text: str) -> tuple[int, int]:
    month, day = text.split("-")
    return int(month), int(day)
