"""The approved texts of all languages, and what languages, countries and partners are called in them.

The cast: `Catalogue` holds `texts/*.toml`, one file for each language; `choose_language` picks one for a reader.
English has every text and stands in for what another language lacks.
"""

from __future__ import annotations

import gettext
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import pycountry

FALLBACK: Final = "en"
LANGUAGES: Final = ("en", "fr", "es", "it", "pt", "de", "ar")
RIGHT_TO_LEFT: Final = frozenset({"ar"})


class MissingText(LookupError):
    """One language lacks a text, or a text asks for a value that its message does not have."""


class Catalogue:
    """The texts of all languages, by dotted key. `tables` are the parsed files by language."""

    def __init__(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        self._texts = {language: dict(_flat(table)) for language, table in tables.items()}

    def keys(self, language: str) -> frozenset[str]:
        """Every key that this language has."""
        return frozenset(self._texts.get(language, {}))

    def has(self, key: str) -> bool:
        """Whether the fallback language has this text."""
        return key in self._texts[FALLBACK]

    def find(self, language: str, key: str) -> str:
        """One text as it is written; raises `MissingText`."""
        found = self._texts.get(language, {}).get(key)
        if not isinstance(found, str):
            raise MissingText(f"{language} has no {key}")
        return found

    def items(self, language: str, key: str) -> tuple[str, ...]:
        """A list of words; raises `MissingText`."""
        found = self._texts.get(language, {}).get(key)
        if not isinstance(found, list):
            raise MissingText(f"{language} has no {key}")
        return tuple(found)

    def find_or_fallback(self, language: str, key: str) -> str:
        """One text, in the fallback language if need be: for those that are understood beside another language."""
        try:
            return self.find(language, key)
        except MissingText:
            return self.find(FALLBACK, key)


def _flat(table: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    pairs: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            pairs += _flat(value, f"{prefix}{key}.")
        else:
            pairs.append((f"{prefix}{key}", value))
    return pairs


@cache
def catalogue() -> Catalogue:
    """The approved texts, read once."""
    folder = Path(__file__).parent / "texts"
    return Catalogue(
        {language: tomllib.loads((folder / f"{language}.toml").read_text("utf-8")) for language in LANGUAGES}
    )


def primary(tag: str) -> str:
    """`fr` of `fr-CA`."""
    return tag.strip().replace("_", "-").split("-")[0].lower()


def choose_language(languages: Sequence[str]) -> str:
    """The first of the reader's languages that there are texts in; English if there is none."""
    return next((code for tag in languages if (code := primary(tag)) in LANGUAGES), FALLBACK)


def is_right_to_left(language: str) -> bool:
    """Whether pages and mails in this language carry `dir="rtl"`."""
    return primary(language) in RIGHT_TO_LEFT


def own_name(texts: Catalogue, tag: str) -> str:
    """What speakers of a language call it; for one that there are no texts in, its English name or its tag."""
    code = primary(tag)
    try:
        return texts.find(code, "about.name")
    except MissingText:
        known = pycountry.languages.get(alpha_2=code) if len(code) == 2 else None
        return tag if known is None else str(known.name)


@cache
def _countries_in(language: str) -> gettext.NullTranslations:
    return gettext.translation("iso3166-1", pycountry.LOCALES_DIR, languages=[language], fallback=True)


@cache
def country_name(code: str, language: str) -> str:
    """A country's usual name in a language, by its ISO 3166-1 code of two or three letters; the code if unknown."""
    known = pycountry.countries.get(alpha_2=code) if len(code) == 2 else pycountry.countries.get(alpha_3=code)
    if known is None:
        return code
    name = str(getattr(known, "common_name", known.name))
    return name if language == FALLBACK else _countries_in(language).gettext(name)


def partner_name(code: str, given: str, language: str, *, texts: Catalogue | None = None) -> str:
    """A partner's name in a language. In English it is the one that the partner gave."""
    texts = texts or catalogue()
    if language == FALLBACK and given:
        return given
    try:
        return texts.find(language, f"partners.{code}")
    except MissingText:
        name = country_name(code, language) if len(code) == 2 else code
        return given or name if name == code else name
