"""What a live screen knows of the board: who has answered, what is stale, and how it looks in eighty columns."""

from __future__ import annotations

import io
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from rich.console import Console

from redphone.output import countdown, instant, span
from redphone.watch import STALE_SECONDS, ServerEvent, View, events_of, has_answered, picture
from shared.clock import ManualClock

START = datetime(2021, 8, 15, 6, 0, tzinfo=UTC)


def at(seconds: float) -> str:
    """An instant after the release, as the API writes it."""
    return (START + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def cell(partner: str, **changes: Any) -> dict[str, Any]:
    """One escalation as the board shows it."""
    return {
        "id": f"escalation-{partner}",
        "alert": {
            "id": "alert-1",
            "reference": "RP-CA-2021-0001",
            "raiser": "CA",
            "precedence": "FLASH",
            "status": "Actual",
            "headline": "Kabul: evacuation flights needed before 31 August",
            "released_at": at(0),
            "ended_at": None,
        },
        "partner": partner,
        "kind": "answer",
        "subject_partner": None,
        "state": "notified",
        "level": 1,
        "levels": 3,
        "clock_started_at": at(0),
        "next_due_at": at(600),
        "next_due": "next_level",
        "acknowledgement": None,
        "position": None,
        "takeover": None,
        "gaps": [],
        "last_attempt": {
            "at": at(1),
            "state": "failed",
            "reason": "http_status",
            "detail": None,
            "channel": "webhook",
            "told": "Duty officer",
        },
        "ended_at": None,
        **changes,
    }


def acknowledged(partner: str, **changes: Any) -> dict[str, Any]:
    """One that a named human has acknowledged."""
    by = {"at": at(42), "by": "Avery Example", "asserted_by_system": None, "via": "api", "late": False}
    return cell(partner, state="acknowledged", acknowledgement=by, **changes)


@pytest.fixture
def view() -> View:
    """A view of everything, ten seconds after the release."""
    return View(ManualClock(START + timedelta(seconds=10)), lambda _: True)


def board(*cells: dict[str, Any], as_of: str = at(10)) -> ServerEvent:
    """The first event of a board stream."""
    return ServerEvent("board", {"as_of": as_of, "escalations": list(cells)}, "1")


def shown(view: View, width: int = 80) -> str:
    """The picture as text."""
    console = Console(width=width, file=io.StringIO(), markup=False)
    with console.capture() as captured:
        console.print(picture(view))
    return captured.get()


def test_everybody_has_answered_only_when_all_have(view: View) -> None:
    """One silent partner keeps the watch open; those who are only told do not."""
    view.take(board(acknowledged("US"), cell("GB"), cell("BR", kind="information")))
    assert not view.everybody_answered
    view.take(ServerEvent("cells", [acknowledged("GB")], "2"))
    assert view.everybody_answered


def test_nobody_owing_is_not_everybody_answered(view: View) -> None:
    """Before the escalations are opened, nobody has answered."""
    view.take(board())
    assert not view.everybody_answered
    assert not view.is_over


def test_an_answer_counts_after_the_end(view: View) -> None:
    """A partner that acknowledged has answered, also when the alert has ended since; one that did not has not."""
    assert has_answered(acknowledged("US", ended_at=at(60)) | {"state": "ended"})
    assert not has_answered(cell("GB", state="ended", ended_at=at(60)))
    view.take(board(acknowledged("US", ended_at=at(60)), cell("GB", state="ended", ended_at=at(60))))
    assert view.is_over
    assert not view.everybody_answered


def test_a_view_keeps_what_is_wanted_only() -> None:
    """Cells of other alerts are passed over."""
    view = View(ManualClock(START), lambda each: bool(each["partner"] == "US"))
    assert [each["partner"] for each in view.take(board(cell("US"), cell("GB")))] == ["US"]
    assert list(view.cells) == ["escalation-US"]


def test_a_new_board_replaces_what_was_known(view: View) -> None:
    """After a reconnection without memory, what is gone from the board is gone from the screen."""
    view.take(board(cell("US"), cell("GB")))
    view.take(board(cell("US")))
    assert list(view.cells) == ["escalation-US"]


def test_silence_is_shown_as_stale() -> None:
    """A screen that hears nothing says STALE in words, and stops saying it when the server speaks again."""
    clock = ManualClock(START)
    view = View(clock, lambda _: True)
    view.take(board(cell("US"), as_of=at(0)))
    clock.advance(STALE_SECONDS + 1)
    assert "STALE" in shown(view)
    view.take(ServerEvent("as_of", {"as_of": at(STALE_SECONDS + 1)}, "2"))
    assert "STALE" not in shown(view)


def test_countdowns_follow_the_servers_clock() -> None:
    """A machine whose clock is wrong counts down to the server's deadline all the same."""
    view = View(ManualClock(START + timedelta(hours=3)), lambda _: True)
    view.take(board(cell("US"), as_of=at(10)))
    assert "level 2 in 9:50" in shown(view)


def test_the_picture_names_what_matters_in_eighty_columns(view: View) -> None:
    """Partner, state, level, what comes next, last attempt with its reason; those who are silent come first."""
    silent = cell("GB", gaps=["empty_level"], one_provider=True)
    takeover = cell("XR", kind="takeover", subject_partner="GB", next_due="ask_again")
    view.take(board(acknowledged("US"), silent, takeover))
    text = shown(view)
    assert max(map(len, text.splitlines())) <= 80
    assert text.index("GB") < text.index("US ")
    assert "1 of 2 acknowledged" in text
    assert "acknowledged in 0:42" in text
    assert "Avery Example" in text
    assert "http status webhook" in text
    assert "empty level" in text
    assert "one provider" in text
    assert "XR for GB" in text


@pytest.mark.parametrize(
    ("state", "words"), [("open", "goal 1 of 2 in 4:50"), ("met", "goal 1 of 2 met"), ("missed", "goal 1 of 2 missed")]
)
def test_the_picture_counts_the_goal_down(view: View, state: str, words: str) -> None:
    """Beside the alert stands how its coverage goal stands: what is left of the time, or the outcome."""
    goal = {"alert_id": "alert-1", "partners": 2, "acknowledged": 1, "due_at": at(300), "state": "open"}
    whole = board(acknowledged("US"), cell("GB"))
    whole.data["coverage"] = [goal]
    view.take(whole)
    view.take(ServerEvent("coverage", [{**goal, "state": state}], None))
    assert words in " ".join(shown(view).split())


def test_control_characters_of_a_headline_do_nothing(view: View) -> None:
    """What a partner wrote cannot move the cursor of the wall-board."""
    shouting = cell("US")
    shouting["alert"] = {**shouting["alert"], "headline": "\x1b[2Jgone"}
    view.take(board(shouting))
    assert "\x1b[2J" not in shown(view)


async def test_events_are_read_from_the_stream() -> None:
    """Names, data and ids come through; pings and broken data are passed over."""

    async def body() -> AsyncIterator[bytes]:
        yield b'retry: 2000\n\n: ping\n\nevent: board\nid: 7\ndata: {"as_of": 1}\n\n'
        yield b"event: cells\nid: 8\ndata: not json\n\nevent: as_of\nid: 9\nda"
        yield b'ta: {"as_of": 2}\n\n'

    answer = httpx.Response(200, content=body())
    found = [event async for event in events_of(answer)]
    assert found == [ServerEvent("board", {"as_of": 1}, "7"), ServerEvent("as_of", {"as_of": 2}, "9")]


@pytest.mark.parametrize(
    ("seconds", "words", "clock"),
    [(0, "0 s", "0:00"), (59.9, "59 s", "0:59"), (605, "10 min 05 s", "10:05"), (7384, "2 h 03 min", "2:03:04")],
)
def test_lengths_of_time(seconds: float, words: str, clock: str) -> None:
    """Lengths are written as people say them, countdowns as a clock shows them."""
    assert (span(seconds), countdown(seconds)) == (words, clock)


def test_an_instant_has_utc_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Times are local, with UTC beside them, and with their day where it is not today."""
    monkeypatch.setenv("TZ", "America/Toronto")
    time.tzset()
    try:
        assert instant(at(0), now=START) == "02:00:00 EDT (06:00Z)"
        assert instant(at(86_400), now=START) == "16 Aug 02:00 EDT (06:00Z)"
        assert instant("2022-01-01T12:00:00Z", now=START) == "01 Jan 2022 07:00 EST (12:00Z)"
        assert instant(None, now=START) == "–"
    finally:
        monkeypatch.delenv("TZ")
        time.tzset()
