"""Languages, times and numbers as the reader writes them.

The cast: `Reader` is who looks at a page: a language, a zone, a theme. `catalogue` reads the translations, which lie as
PO files in `locale/`; English stands in the templates and in the code themselves, so a text without a translation is
shown in English and never missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

from babel import Locale
from babel.dates import format_datetime, format_timedelta
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po
from babel.numbers import format_decimal
from starlette.requests import Request

LANGUAGES: Mapping[str, str] = {
    "en": "English",
    "fr": "Français",
    "es": "Español",
    "it": "Italiano",
    "pt": "Português",
    "de": "Deutsch",
    "ar": "العربية",
}
"""The languages of the console, each named in itself."""

RIGHT_TO_LEFT = frozenset({"ar"})
THEMES = ("auto", "light", "dark")
LANGUAGE_COOKIE, ZONE_COOKIE, THEME_COOKIE = "redphone_language", "redphone_zone", "redphone_theme"
ACCEPTED_MAX = 20
_LOCALES = Path(__file__).with_name("locale")


@dataclass(frozen=True, slots=True)
class Reader:
    """Who looks at a page: in which language, by which clock (an IANA zone), light or dark."""

    language: str = "en"
    zone: str = "UTC"
    theme: str = "auto"

    @property
    def direction(self) -> str:
        """The direction of the script."""
        return "rtl" if self.language in RIGHT_TO_LEFT else "ltr"

    @property
    def locale(self) -> Locale:
        """What Babel formats by."""
        return _locale(self.language)

    def say(self, text: str, **values: object) -> str:
        """The text in the reader's language, `%(name)s` filled in."""
        translated = catalogue(self.language)(text)
        return translated % values if values else translated

    def say_number(self, one: str, many: str, number: int, **values: object) -> str:
        """The form that fits the number; `%(num)s` is the number as the reader writes it."""
        form = plural(self.language)(one, many, number)
        return form % {"num": format_decimal(number, locale=self.locale), **values}

    def local(self, instant: datetime | str, zone: str | None = None) -> datetime:
        """An instant on the reader's clock, or on that of another zone."""
        return as_instant(instant).astimezone(_zone(zone or self.zone))

    def at(self, instant: datetime | str, zone: str | None = None, *, form: str = "short") -> str:
        """An instant by the reader's clock, or by that of another zone."""
        local = self.local(instant, zone)
        pattern = {
            "short": "EEE d MMM HH:mm",
            "time": "HH:mm",
            "date": "EEE d MMM y",
            "seconds": "EEE d MMM HH:mm:ss",
            "long": "EEE d MMM y HH:mm:ss",
        }
        return format_datetime(local, pattern[form], locale=self.locale)

    def span(self, seconds: float) -> str:
        """A length of time in its largest unit."""
        return format_timedelta(timedelta(seconds=seconds), locale=self.locale, format="short", threshold=1.2)

    def number(self, value: float) -> str:
        """A number as the reader writes it."""
        return format_decimal(value, locale=self.locale)


def _(text: str) -> str:
    """Marks a text for translation; it is translated where it is shown."""
    return text


def n_(one: str, many: str) -> tuple[str, str]:
    """Marks a text with a number for translation: its forms for one and for many."""
    return one, many


def reader_of(request: Request, zone_default: str = "UTC") -> Reader:
    """What the request says of its reader: what they have chosen, else what their browser asks for."""
    cookies = request.cookies
    language = cookies.get(LANGUAGE_COOKIE, "")
    zone = cookies.get(ZONE_COOKIE, "").replace("%2F", "/")
    theme = cookies.get(THEME_COOKIE, "auto")
    return Reader(
        language if language in LANGUAGES else negotiated(request.headers.get("accept-language", "")),
        zone if zone in _zones() else zone_default,
        theme if theme in THEMES else "auto",
    )


def negotiated(accepted: str) -> str:
    """The first of our languages that a browser asks for, by its weights; English if there is none."""
    asked: list[tuple[float, str]] = []
    for part in accepted.split(",")[:ACCEPTED_MAX]:
        name, _, weight = part.strip().partition(";q=")
        try:
            asked.append((-float(weight or 1), name.partition("-")[0].lower()))
        except ValueError:
            continue
    return next((name for _, name in sorted(asked, key=lambda one: one[0]) if name in LANGUAGES), "en")


def as_instant(value: datetime | str) -> datetime:
    """An instant as the APIs write it."""
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return at.astimezone(UTC)


@cache
def catalogue(language: str) -> Callable[[str], str]:
    """Translates texts without numbers."""
    known = _catalog(language)
    texts = {message.id: message.string for message in known or () if isinstance(message.id, str) and message.string}
    return lambda text: str(texts.get(text, text))


@cache
def plural(language: str) -> Callable[[str, str, int], str]:
    """Translates texts with a number in them."""
    known = _catalog(language)
    forms = {message.id[0]: message.string for message in known or () if isinstance(message.id, (tuple, list))}
    chooses = known.plural_expr if known is not None else "(n != 1)"
    choose = _plural_rule(chooses)

    def translate(one: str, many: str, number: int) -> str:
        found = forms.get(one)
        if not found or not all(found):
            return one if number == 1 else many
        return str(found[min(choose(number), len(found) - 1)])

    return translate


def _plural_rule(expression: str) -> Callable[[int], int]:
    from gettext import c2py  # noqa: PLC0415 - only here

    rule: Callable[[int], int] = c2py(expression)
    return rule


@cache
def _catalog(language: str) -> Catalog | None:
    path = _LOCALES / f"{language}.po"
    if not path.exists():
        return None
    with path.open("rb") as file:
        return read_po(file, locale=language)


@cache
def _locale(language: str) -> Locale:
    return Locale.parse(language)


@lru_cache(maxsize=700)
def _zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


@cache
def _zones() -> frozenset[str]:
    return frozenset(available_timezones())
