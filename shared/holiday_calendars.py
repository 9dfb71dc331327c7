"""Which days are free where: national holidays of a country or one of its regions, and of the European institutions.

A calendar is named by ISO 3166-1 alpha-2 (`CA`), by ISO 3166-2 for a region (`CA-QC`), or `EU`. Countries come from the
package `holidays`; what it does not have comes from `holidays.toml` beside this file.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import lru_cache

import holidays as package


@lru_cache(maxsize=4096)
def names(calendar: str, year: int) -> Mapping[date, str]:
    """The holidays of one year, by date, named in English where the package has it; empty for an unknown calendar."""
    country, _, region = calendar.partition("-")
    try:
        found = package.country_holidays(country, subdiv=region or None, years=year, language="en_US")
    except (NotImplementedError, KeyError):
        return {}
    return dict(found)


def is_calendar(name: str) -> bool:
    """Whether there is such a calendar."""
    country, _, region = name.partition("-")
    regions = package.list_supported_countries(include_aliases=True).get(country)
    return regions is not None and (not region or region in regions)
