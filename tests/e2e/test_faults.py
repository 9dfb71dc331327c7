"""kill -9 at the worst moments, on real processes: nothing answered 2xx is lost, no page forgotten, nobody rung who
answered.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.support.receiver import Receiver
from tests.support.stack import Stack
from tests.support.waiting import eventually


@pytest_asyncio.fixture
async def stack(tmp_path: Path) -> AsyncIterator[Stack]:
    """Three service processes on real servers, four partners, short deadlines."""
    async with Receiver() as receiver, Stack(tmp_path, receiver) as running:
        yield running


async def reached(stack: Stack, *codes: str) -> None:
    """Waits until the system and the first person of each partner have been paged."""
    await eventually(
        lambda: all(stack.received(f"/{code}/system") and stack.received(f"/{code}/first") for code in codes)
    )


async def test_killed_between_commit_and_publish(stack: Stack) -> None:
    """A release that was committed and never published reaches everybody after the restart, once."""
    await stack.restart_dying("alerting", "before_publish")
    with pytest.raises(httpx.HTTPError):
        await stack.raise_alert("GB", "US")
    await stack.died("alerting")
    await stack.start("alerting")
    answer = await stack.raise_alert("GB", "US")
    await reached(stack, "GB", "US")
    states = await stack.states(answer["id"])
    assert set(states) == {"GB", "US"}
    listed = await stack.call("alerting", "GET", "/v1/alerts", by="ca-officer")
    assert [alert["id"] for alert in listed["items"]] == [answer["id"]], "one Idempotency-Key, one alert"


async def test_killed_between_publish_and_open(stack: Stack) -> None:
    """A release that arrived while escalation died is opened after its restart, with all partners."""
    await stack.restart_dying("escalation", "before_opening")
    answer = await stack.raise_alert("GB", "US")
    await stack.died("escalation")
    await stack.start("escalation")
    await reached(stack, "GB", "US")
    assert set(await stack.states(answer["id"])) == {"GB", "US"}


async def test_killed_between_open_and_send(stack: Stack) -> None:
    """Pages that were leased and never sent go out when their lease has lapsed."""
    await stack.restart_dying("escalation", "after_opening")
    await stack.raise_alert("GB", "US")
    await stack.died("escalation")
    await stack.start("escalation")
    await reached(stack, "GB", "US")


async def test_killed_between_send_and_record(stack: Stack) -> None:
    """A page that was sent and not recorded is sent again under the same webhook-id."""
    await stack.restart_dying("escalation", "before_record")
    answer = await stack.raise_alert("GB")
    await stack.died("escalation")
    sent_before = {message["id"] for message in stack.received("/GB/system")}
    assert sent_before
    await stack.start("escalation")
    await eventually(lambda: len(stack.received("/GB/system")) > len(sent_before), within_seconds=40)
    again = {message["id"] for message in stack.received("/GB/system") if message["type"] == "alert.released"}
    assert again == sent_before
    await stack.acknowledge(answer["id"], "gb-officer")


async def test_killed_between_acknowledgement_and_answer(stack: Stack) -> None:
    """An acknowledgement that was committed stands, although nobody heard of it: the partner is not escalated."""
    answer = await stack.raise_alert("GB", "US")
    await reached(stack, "GB", "US")
    await stack.restart_dying("escalation", "after_acknowledgement")
    with pytest.raises(httpx.HTTPError):
        await stack.acknowledge(answer["id"], "gb-officer")
    await stack.died("escalation")
    await stack.start("escalation")
    await eventually(lambda: bool(stack.received("/US/second")), within_seconds=30)
    assert (await stack.states(answer["id"]))["GB"] == "acknowledged"
    assert stack.received("/GB/second") == []
    await eventually(lambda: any(m["type"] == "answer.received" for m in stack.received("/CA/system")))


async def test_everything_killed_at_once(stack: Stack) -> None:
    """All three services and both servers are killed after a 202; all of it is there again when they are."""
    answer = await stack.raise_alert("GB", "US")
    for service in ("alerting", "escalation", "roster"):
        await stack.kill(service)
    await stack.servers.nats.kill()
    await stack.servers.postgres.kill()
    await stack.servers.postgres.start()
    await stack.servers.nats.start()
    for service in ("alerting", "escalation"):
        await stack.start(service)
    await reached(stack, "GB", "US")
    await stack.acknowledge(answer["id"], "gb-officer")
    await eventually(lambda: bool(stack.received("/US/second")), within_seconds=30)
    assert stack.received("/GB/second") == [], "an answered partner is never escalated"


async def test_the_bus_is_gone(stack: Stack) -> None:
    """With NATS down an alert still gets out by the feed, is answered, and the answer comes back."""
    await stack.servers.nats.kill()
    answer = await stack.raise_alert("GB", "US")
    await reached(stack, "GB", "US")
    await stack.acknowledge(answer["id"], "gb-officer")
    await eventually(lambda: any(m["type"] == "answer.received" for m in stack.received("/CA/system")))
    await stack.servers.nats.start()
    second = await stack.raise_alert("GB", key="alert-2")
    await eventually(lambda: len(stack.received("/GB/first")) >= 2)
    assert set(await stack.states(second["id"])) == {"GB"}


async def test_roster_is_away(stack: Stack) -> None:
    """Without roster people get tokens, release, are paged and acknowledge."""
    await stack.kill("roster")
    answer = await stack.raise_alert("GB")
    await reached(stack, "GB")
    await stack.acknowledge(answer["id"], "gb-second")
    assert await stack.states(answer["id"]) == {"GB": "acknowledged"}


async def test_the_database_is_away_and_comes_back(stack: Stack) -> None:
    """A request during an outage of PostgreSQL is refused honestly; afterwards the same key raises one alert."""
    await stack.servers.postgres.kill()
    with pytest.raises(AssertionError, match="503"):
        await stack.raise_alert("GB")
    await stack.servers.postgres.start()

    async def raised() -> bool:
        try:
            await stack.raise_alert("GB")
        except AssertionError:
            return False
        return True

    await eventually(raised, within_seconds=30)
    await reached(stack, "GB")
