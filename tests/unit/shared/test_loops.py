"""Loops tell of trouble once, however many of them share it, and say when it is over."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

import pytest
from structlog.testing import capture_logs

from shared.clock import ManualClock
from shared.errors import Unavailable
from shared.loops import TROUBLE_REMINDER_SECONDS, Loop, Troubles
from tests.support.world import STARTED_AT

GONE = Unavailable("the database does not answer; try again", code="database_unavailable")


def lines(logs: list[Any]) -> list[tuple[str, int]]:
    """What was said, and how many failures it had counted."""
    return [(line["event"], line["failures"]) for line in logs]


def test_a_trouble_of_many_loops_is_told_once() -> None:
    """Thirty loops that miss the database make one line when it goes and one when the last of them works again."""
    clock = ManualClock(STARTED_AT)
    troubles = Troubles(clock)
    names = [f"loop-{number}" for number in range(30)]
    with capture_logs() as logs:
        for _ in range(10):
            for name in names:
                troubles.failed(name, GONE)
            clock.advance(5)
        for name in names:
            troubles.passed(name)
    assert lines(logs) == [("loop.failed", 1), ("loop.recovered", 300)]
    assert logs[0]["error"] == "database_unavailable"
    assert logs[1]["seconds"] == 50


def test_a_trouble_that_lasts_is_told_again_in_growing_silence() -> None:
    """An hour without a database makes seven lines, the pauses between them ever longer."""
    clock = ManualClock(STARTED_AT)
    troubles = Troubles(clock)
    said = []
    with capture_logs() as logs:
        for _ in range(3600 // 5):
            before = len(logs)
            troubles.failed("timers", GONE)
            if len(logs) > before:
                said.append(clock.monotonic())
            clock.advance(5)
    pauses = [later - earlier for earlier, later in itertools.pairwise(said)]
    assert said[:2] == [0, TROUBLE_REMINDER_SECONDS]
    assert len(said) <= 7
    assert pauses == sorted(pauses)


@pytest.mark.parametrize("error", [ValueError("a bug"), GONE])
def test_a_trouble_that_comes_back_is_told_again(error: Exception) -> None:
    """What was over and begins anew is news."""
    troubles = Troubles(ManualClock(STARTED_AT))
    with capture_logs() as logs:
        for _ in range(2):
            troubles.failed("timers", error)
            troubles.passed("timers")
    assert lines(logs) == [("loop.failed", 1), ("loop.recovered", 1)] * 2


def test_a_bug_of_one_loop_is_its_own_trouble() -> None:
    """A bug is told with its trace beside an outage, which needs none; each ends by itself."""
    troubles = Troubles(ManualClock(STARTED_AT))
    bug = ValueError("a bug")
    with capture_logs() as logs:
        troubles.failed("delivery", GONE)
        troubles.failed("timers", bug)
        troubles.passed("timers")
    assert [(line["loop"], line.get("exc_info")) for line in logs] == [
        ("delivery", None),
        ("timers", bug),
        ("timers", None),
    ]


async def test_a_loop_whose_pass_swallows_the_cancellation_ends_all_the_same() -> None:
    """A library that takes being cancelled for a failure of its own does not keep a service from stopping."""
    begun = asyncio.Event()

    async def stubborn() -> int:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise GONE from None
        return 0

    loop = Loop("stubborn", stubborn, interval_seconds=60, clock=ManualClock(STARTED_AT))
    loop.start()
    await begun.wait()
    with capture_logs() as logs:
        await asyncio.wait_for(loop.stop(), 10)
    assert (loop.running, logs) == (False, [])
    begun.clear()
    loop.start()
    await asyncio.wait_for(begun.wait(), 10)
    await asyncio.wait_for(loop.stop(), 10)
