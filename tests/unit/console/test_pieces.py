"""Timeline sentences, server-sent events, own paths, partner codes: the small pure pieces of the console."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from services.console.apis import ServerEvent, events_of
from services.console.pages.alerts import codes_of
from services.console.pages.signing_in import own_path
from services.console.timeline import happened
from services.console.words import LANGUAGES, Reader


async def lines(text: str) -> AsyncIterator[str]:
    """The lines of a stream."""
    for line in text.split("\n"):
        yield line


async def test_events_of_a_stream_are_read_as_they_were_said() -> None:
    """Names, ids and several lines of data; comments are passed over."""
    text = ": ping\n\nevent: board\nid: 7\ndata: {\ndata: }\n\nevent: as_of\ndata:x\n\nid: 9\n\n"
    assert [one async for one in events_of(lines(text))] == [
        ServerEvent("board", "{\n}", "7"),
        ServerEvent("as_of", "x", "7"),
    ]


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/alerts/x?said=1", "/alerts/x?said=1"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("https://evil.example", "/"),
        ("", "/"),
        ("/a\r\nSet-Cookie: x", "/"),
        ("/" + "a" * 2000, "/"),
    ],
)
def test_nobody_is_sent_elsewhere_after_signing_in(path: str, expected: str) -> None:
    """Only a path of ours is followed."""
    assert own_path(path) == expected


def test_partner_codes_are_read_as_people_write_them() -> None:
    """Commas, spaces, small letters."""
    assert codes_of(" es, it gb,, ") == ["ES", "IT", "GB"]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_event_has_its_sentence(language: str) -> None:
    """What happened is told in every language, with whom it is about."""
    entry = {
        "id": "1",
        "alert_id": "2",
        "at": "2026-11-22T12:00:32Z",
        "type": "partner_acknowledged",
        "data": {
            "partner": "US",
            "acknowledged_by": {"partner": "US", "name": "Drew Example"},
            "seconds_from_release": 32.0,
            "late": True,
        },
    }
    said = happened(entry, Reader(language))
    assert (said.partner, said.tone) == ("US", "good")
    assert "Drew Example" in said.text


def test_an_event_that_has_no_sentence_is_named() -> None:
    """Nothing of a timeline is left out."""
    entry = {"id": "1", "alert_id": "2", "at": "2026-11-22T12:00:00Z", "type": "something_new", "data": {"note": "n"}}
    said = happened(entry, Reader())
    assert (said.text, said.note) == ("Something new", "n")
