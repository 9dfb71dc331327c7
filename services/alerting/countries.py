"""Countries by their ISO 3166-1 codes, read once: people may write alpha-2 or alpha-3, alerts hold alpha-3."""

from __future__ import annotations

import pycountry

ALPHA_3: dict[str, str] = {country.alpha_3: country.name for country in pycountry.countries}
"""Alpha-3 code → English short name."""

_ALPHA_2_TO_3: dict[str, str] = {country.alpha_2: country.alpha_3 for country in pycountry.countries}


def alpha_3(code: str) -> str | None:
    """The alpha-3 code of an alpha-2 or alpha-3 code in any case; None if ISO 3166-1 does not know it."""
    upper = code.strip().upper()
    return upper if upper in ALPHA_3 else _ALPHA_2_TO_3.get(upper)


def name_of(code: str) -> str:
    """The English short name of an alpha-3 code, or the code itself if it is unknown."""
    return ALPHA_3.get(code, code)
