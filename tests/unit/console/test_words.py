"""Languages, times and numbers as the reader writes them."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from starlette.requests import Request

from services.console.words import LANGUAGES, Reader, negotiated, plural, reader_of


def request(cookies: str = "", accepted: str = "") -> Request:
    """A request with these cookies."""
    headers = [(b"cookie", cookies.encode()), (b"accept-language", accepted.encode())]
    return Request({"type": "http", "headers": headers})


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        ("fr-CA,fr;q=0.9,en;q=0.8", "fr"),
        ("nl,de;q=0.5,en;q=0.4", "de"),
        ("nl", "en"),
        ("", "en"),
        ("en;q=0.1,ar;q=0.9", "ar"),
        ("x;q=a,;;,\x00", "en"),
        ("," * 5000 + "fr", "en"),
    ],
)
def test_the_language_is_what_the_browser_asks_for_first_among_ours(accepted: str, expected: str) -> None:
    """Weights count, unknown languages are passed over, nonsense gives English."""
    assert negotiated(accepted) == expected


def test_what_the_reader_has_chosen_goes_before_what_the_browser_asks_for() -> None:
    """Language, zone and theme come from cookies if they are known ones."""
    chosen = reader_of(request("redphone_language=ar; redphone_zone=Asia%2FKabul; redphone_theme=dark", "fr"))
    assert chosen == Reader("ar", "Asia/Kabul", "dark")
    assert chosen.direction == "rtl"


def test_cookies_that_mean_nothing_are_passed_over() -> None:
    """A hostile cookie changes nothing."""
    assert reader_of(request("redphone_language=../x; redphone_zone=../../etc/passwd; redphone_theme=<b>")) == Reader()


def test_an_instant_is_shown_by_the_readers_clock() -> None:
    """The same instant, by two clocks."""
    at = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
    assert Reader(zone="Asia/Kabul").at(at, form="time") == "16:30"
    assert Reader(zone="Asia/Kabul").at("2026-11-22T12:00:00Z", "America/Toronto", form="time") == "07:00"


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_language_writes_times_spans_and_numbers(language: str) -> None:
    """No language lacks a form."""
    reader = Reader(language, "Europe/Madrid")
    at = datetime(2026, 3, 29, 1, 0, tzinfo=UTC)
    for form in ("short", "time", "date", "seconds", "long"):
        assert reader.at(at, form=form)
    assert reader.span(600)
    assert reader.number(1234.5)


def test_a_text_without_a_translation_is_shown_in_english() -> None:
    """A text that nobody has translated is never missing."""
    assert Reader("de").say("No such text stands anywhere: %(n)s", n=3) == "No such text stands anywhere: 3"
    assert plural("ar")("%(num)s zebra", "%(num)s zebras", 1) == "%(num)s zebra"
    assert Reader("en").say_number("%(num)s zebra", "%(num)s zebras", 1200) == "1,200 zebras"
