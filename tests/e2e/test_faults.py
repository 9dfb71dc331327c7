"""kill -9 at the worst moments, on real processes.

Nothing that was answered 2xx is lost, no page is forgotten, and nobody who has answered is rung again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests.support.receiver import Receiver
from tests.support.stack import Stack
from tests.support.waiting import eventually

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """Three service processes on real servers, four partners, short deadlines."""
    async with Receiver() as receiver, Stack(tmp_path_factory.mktemp("stack"), receiver) as stack:
        yield stack


@pytest_asyncio.fixture(loop_scope="module")
async def stack(running: Stack) -> Stack:
    """The same, whole again after whatever the test before did to it."""
    await running.make_whole()
    await running.close_all()
    return running


async def reached(stack: Stack, alert: Any, *codes: str) -> None:
    """Waits until the system and the first person of each partner have been paged, and that is stored."""
    await eventually(
        lambda: all(stack.received(f"/{code}/{who}", alert) for code in codes for who in ("system", "first")),
        within_seconds=60,
    )

    async def are_stored() -> bool:
        return set(codes) <= set(await stack.states(alert))

    await eventually(are_stored)


async def stays_quiet(stack: Stack, alert: Any, answered: str, *, waiting: str) -> None:
    """No page is made for the partner that answered while the one that did not goes through all its levels."""
    path = f"/v1/escalations?alert_id={alert['id']}&partner={answered}"
    answers = await stack.call("escalation", "GET", path, by="ca-officer")
    acknowledged_at = answers["items"][0]["acknowledgement"]["at"]

    async def unreached() -> bool:
        return (await stack.states(alert))[waiting] == "unreached"

    await eventually(unreached, within_seconds=60)
    assert stack.received(f"/{waiting}/second", alert)
    pages = [m for who in ("first", "second") for m in stack.received(f"/{answered}/{who}", alert)]
    assert [m for m in pages if m["timestamp"] > acknowledged_at] == [], "an answered partner is never escalated"


async def test_killed_between_commit_and_publish(stack: Stack) -> None:
    """A release that was committed and never published reaches everybody after the restart, and is one alert."""
    await stack.restart_dying("alerting", "before_publish")
    with pytest.raises(httpx.HTTPError):
        await stack.raise_alert("GB", "US", key="commit-publish")
    await stack.died("alerting")
    await stack.start("alerting")
    alert = await stack.raise_alert("GB", "US", key="commit-publish")
    await reached(stack, alert, "GB", "US")
    assert set(await stack.states(alert)) == {"GB", "US"}
    listed = await stack.call("alerting", "GET", "/v1/alerts", by="ca-officer")
    assert [row["id"] for row in listed["items"]].count(alert["id"]) == 1
    assert len(listed["items"]) == 1, "one Idempotency-Key, one alert"


async def test_killed_between_publish_and_open(stack: Stack) -> None:
    """A release that arrived while escalation died is opened after its restart, with all partners."""
    await stack.restart_dying("escalation", "before_opening")
    alert = await stack.raise_alert("GB", "US", key="publish-open")
    await stack.died("escalation")
    await stack.start("escalation")
    await reached(stack, alert, "GB", "US")
    assert set(await stack.states(alert)) == {"GB", "US"}


async def test_killed_between_open_and_send(stack: Stack) -> None:
    """Pages that were leased and never sent go out when their lease has lapsed."""
    await stack.restart_dying("escalation", "after_opening")
    alert = await stack.raise_alert("GB", "US", key="open-send")
    await stack.died("escalation")
    await stack.start("escalation")
    await reached(stack, alert, "GB", "US")


async def test_killed_between_send_and_record(stack: Stack) -> None:
    """A page that was sent and not recorded is sent again under the same webhook-id."""
    await stack.restart_dying("escalation", "before_record")
    alert = await stack.raise_alert("GB", key="send-record")

    def released_to_gb() -> list[str]:
        paths = ("/GB/system", "/GB/first")
        return [m["id"] for path in paths for m in stack.received(path, alert) if m["type"] == "alert.released"]

    await stack.died("escalation")
    sent_before = released_to_gb()
    assert sent_before
    await stack.start("escalation")
    await eventually(lambda: len(released_to_gb()) >= len(sent_before) + 2, within_seconds=60)
    assert len(set(released_to_gb())) == 2, "one for the system, one for the person, each under its own id"


async def test_killed_between_acknowledgement_and_answer(stack: Stack) -> None:
    """An acknowledgement that was committed stands although nobody heard of it, and the raiser is told."""
    alert = await stack.raise_alert("GB", "US", key="acknowledgement")
    await reached(stack, alert, "GB", "US")
    await stack.restart_dying("escalation", "after_acknowledgement")
    with pytest.raises(httpx.HTTPError):
        await stack.acknowledge(alert, "gb-officer")
    await stack.died("escalation")
    await stack.start("escalation")
    assert (await stack.states(alert))["GB"] == "acknowledged"
    await eventually(lambda: any(m["type"] == "answer.received" for m in stack.received("/CA/system", alert)))


async def test_everything_killed_at_once(stack: Stack) -> None:
    """All three services and both servers are killed after a 202; all of it is there again when they are."""
    alert = await stack.raise_alert("GB", "US", key="everything")
    for service in ("alerting", "escalation", "roster"):
        await stack.kill(service)
    await stack.servers.nats.kill()
    await stack.servers.postgres.kill()
    await stack.make_whole()
    await reached(stack, alert, "GB", "US")
    await stack.acknowledge(alert, "gb-officer")
    await stays_quiet(stack, alert, "GB", waiting="US")
    assert (await stack.states(alert))["GB"] == "acknowledged"


async def test_the_bus_is_gone(stack: Stack) -> None:
    """With NATS down an alert still gets out by the feed, is answered, and the answer comes back; then all goes on."""
    await stack.servers.nats.kill()
    alert = await stack.raise_alert("GB", "US", key="no-bus")
    await reached(stack, alert, "GB", "US")
    await stack.acknowledge(alert, "gb-officer")
    await eventually(lambda: any(m["type"] == "answer.received" for m in stack.received("/CA/system", alert)))
    await stack.servers.nats.start()
    second = await stack.raise_alert("GB", key="bus-again")
    await reached(stack, second, "GB")
    assert set(await stack.states(second)) == {"GB"}


async def test_roster_is_away(stack: Stack) -> None:
    """Without roster people get tokens, release, are paged and acknowledge."""
    await stack.kill("roster")
    stack.forget_tokens()
    alert = await stack.raise_alert("GB", key="no-roster")
    await reached(stack, alert, "GB")
    await stack.acknowledge(alert, "gb-second")
    assert await stack.states(alert) == {"GB": "acknowledged"}


async def test_the_database_is_away_and_comes_back(stack: Stack) -> None:
    """A request during an outage of PostgreSQL is refused honestly; afterwards the same key raises one alert."""
    await stack.servers.postgres.kill()
    with pytest.raises(AssertionError, match="503"):
        await stack.raise_alert("GB", key="no-database")
    await stack.servers.postgres.start()
    raised: list[Any] = []

    async def comes_back() -> bool:
        try:
            raised.append(await stack.raise_alert("GB", key="no-database"))
        except AssertionError:
            return False
        return True

    await eventually(comes_back, within_seconds=60)
    await reached(stack, raised[0], "GB")
