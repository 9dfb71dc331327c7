"""The heartbeat: it reaches a real server outside while all is well, and falls silent with everything that matters."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
import structlog.testing
from pydantic import SecretStr

from services.escalation.app import overdue
from services.escalation.heartbeat import VITAL_LOOPS, Heartbeat, trouble_of
from shared.db import Database
from shared.loops import STALLED_SECONDS, Loop
from tests.support import receiver as behaviours
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Rig, escalation_rig
from tests.support.receiver import Receiver, status
from tests.support.waiting import eventually

SECRET = "b0b5c1d2-hidden"


@pytest_asyncio.fixture
async def outside() -> AsyncIterator[Receiver]:
    """Somebody who watches."""
    async with Receiver() as receiver:
        yield receiver


@pytest_asyncio.fixture
async def rig(cluster: Cluster, tmp_path: Path, outside: Receiver) -> AsyncIterator[Rig]:
    """Escalation with an outside watchdog, its vital loops running on a clock that moves when told."""
    url = SecretStr(f"{outside.url}/{SECRET}")
    async with escalation_rig(cluster, tmp_path, development=True, heartbeat_url=url) as built:
        for name in VITAL_LOOPS:
            built.service.loops[name].start()
        yield built
        for name in VITAL_LOOPS:
            await built.service.loops[name].stop()
        await heart_of(built).close()


def heart_of(rig: Rig) -> Heartbeat:
    """The part that beats."""
    return cast("Heartbeat", cast("Any", rig.service.loops["heartbeat"].run_once).__self__)


async def is_well(rig: Rig) -> bool:
    """Whether the heart would beat now."""
    return await trouble_of(rig.deps, overdue) is None


async def test_it_beats_while_all_is_well(rig: Rig, outside: Receiver) -> None:
    """Each pass is one GET of the administrator's address, with nothing of ours in it."""
    for beats in (1, 2):
        await heart_of(rig).run_once()
        assert len(outside.requests) == beats
    request = outside.requests[0]
    assert (request.method, request.path, request.body) == ("GET", f"/hook/{SECRET}", b"")


@pytest.mark.parametrize("name", VITAL_LOOPS)
async def test_it_stops_when_a_loop_is_stuck(rig: Rig, outside: Receiver, name: str) -> None:
    """A loop that hangs in a pass is silence outside as soon as it counts as stalled; when it goes on, so do we."""
    loop = rig.service.loops[name]
    await loop.stop()
    held, go_on = asyncio.Event(), asyncio.Event()
    run_once = loop.run_once

    async def hanging() -> int:
        held.set()
        await go_on.wait()
        return await run_once()

    loop.run_once = hanging
    loop.start()
    await asyncio.wait_for(held.wait(), 10)
    rig.clock.advance(STALLED_SECONDS + 5)
    # The others have made a pass since; this one has not.
    await eventually(lambda: _others_are_fresh(rig, loop))
    await heart_of(rig).run_once()
    assert outside.requests == []
    go_on.set()
    await eventually(lambda: is_well(rig))
    await heart_of(rig).run_once()
    assert len(outside.requests) == 1


def _others_are_fresh(rig: Rig, stuck: Loop) -> bool:
    others = [rig.service.loops[name] for name in VITAL_LOOPS]
    for other in others:
        other.wake()
    return all(other is stuck or not other.stalled for other in others)


async def test_it_does_not_begin_before_the_deadlines_are_watched(rig: Rig, outside: Receiver) -> None:
    """A process whose timers have not started yet raises no level: it is not called well."""
    await rig.service.loops["timers"].stop()
    await heart_of(rig).run_once()
    assert outside.requests == []


async def test_it_stops_when_the_database_is_gone(rig: Rig, outside: Receiver) -> None:
    """Loops that made a pass a moment ago are no excuse: without its database Red Phone can do nothing."""
    gone = Database("postgresql://nobody@127.0.0.1:1/nothing", pool_size=1, application_name="gone")
    heart = Heartbeat(replace(rig.deps, database=gone), SecretStr(f"{outside.url}/{SECRET}"), overdue)
    await heart.run_once()
    await heart.close()
    await gone.close()
    assert outside.requests == []


async def test_it_stops_when_something_is_overdue(rig: Rig, outside: Receiver) -> None:
    """An escalation that nobody acts on is silence, although every loop passes."""
    for code in ("GB", "CA"):
        await rig.handle(rig.plan(code))
    await rig.handle(rig.released("GB"))
    await rig.service.loops["timers"].stop()
    await rig.rows("UPDATE escalations SET due_at = $1", rig.clock.now())
    rig.clock.advance(11)
    idle = rig.service.loops["timers"]
    idle.run_once = _nothing
    idle.start()
    await heart_of(rig).run_once()
    assert outside.requests == []


async def _nothing() -> int:
    return 0


async def test_why_it_is_silent_or_unheard_is_logged_once_without_the_address(rig: Rig) -> None:
    """Operators read the reason when it begins; the address, which holds a secret, stands in no line."""
    async with Receiver(status(500)) as deaf, Receiver(behaviours.hang) as slow:
        for receiver, because in ((deaf, "HTTP 500"), (slow, "ReadTimeout")):
            url = SecretStr(f"{receiver.url}/{SECRET}")
            heart = Heartbeat(rig.deps, url, overdue, total_seconds=0.2)
            with structlog.testing.capture_logs() as lines:
                await heart.run_once()
                await heart.run_once()
            await heart.close()
            assert [(line["event"], line["because"]) for line in lines] == [("heartbeat.unheard", because)]
            assert SECRET not in str(lines)
    await rig.service.loops["timers"].stop()
    with structlog.testing.capture_logs() as lines:
        await heart_of(rig).run_once()
        await heart_of(rig).run_once()
    assert [line["event"] for line in lines if "heartbeat" in line["event"]] == ["heartbeat.withheld"]


async def test_without_an_address_there_is_no_loop(cluster: Cluster, tmp_path: Path) -> None:
    """Nothing beats where nobody watches."""
    async with escalation_rig(cluster, tmp_path) as unwatched:
        assert "heartbeat" not in unwatched.service.loops
