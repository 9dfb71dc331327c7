"""The world of the tests: it holds what is written, comes to rest, and moves from due time to due time."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from shared.contracts import AlertEnded, EndReason
from tests.support.cluster import Cluster
from tests.support.world import World, world


async def ended(world: World) -> AlertEnded:
    """An event of alerting that escalation handles."""
    alert_id = world.ids.new()
    return AlertEnded(
        alert_id=alert_id,
        root_alert_id=alert_id,
        reference="RP-CA-2021-0042",
        raiser="CA",
        reason=EndReason.CLOSED,
        ended_at=world.clock.now(),
    )


async def test_event_crosses_by_the_bus(cluster: Cluster, tmp_path: Path) -> None:
    """What alerting has published is in escalation's inbox once the world has settled."""
    async with world(cluster, tmp_path, services=("alerting", "escalation")) as all_of_it:
        (message,) = await all_of_it.publish("alerting", await ended(all_of_it))
        await all_of_it.settle()
        inbox = await all_of_it.rows("escalation", "SELECT message_id FROM inbox")
        assert [row.message_id for row in inbox] == [message.id]


async def test_event_crosses_without_the_bus(cluster: Cluster, tmp_path: Path) -> None:
    """With the broker away the same event arrives by the feed within two seconds, and only once when it is back."""
    async with world(cluster, tmp_path, services=("alerting", "escalation")) as all_of_it:
        all_of_it.broker.down = True
        (message,) = await all_of_it.publish("alerting", await ended(all_of_it))
        await all_of_it.fast_forward(2)
        query = "SELECT message_id FROM inbox WHERE consumer = 'escalation-alert_ended-v1'"
        assert [row.message_id for row in await all_of_it.rows("escalation", query)] == [message.id]
        all_of_it.broker.down = False
        await all_of_it.fast_forward(30)
        assert len(await all_of_it.rows("escalation", query)) == 1
        assert await all_of_it.rows("alerting", "SELECT id FROM outbox WHERE published_at IS NULL") == []


async def test_fast_forward_ends_where_it_was_told(cluster: Cluster, tmp_path: Path) -> None:
    """However many stops there are on the way, the clock has moved by what was asked."""
    async with world(cluster, tmp_path, services=("alerting", "escalation")) as all_of_it:
        before = all_of_it.clock.now()
        await all_of_it.fast_forward(185)
        assert all_of_it.clock.now() == before + timedelta(seconds=185)


async def test_officer_is_known_to_every_service(cluster: Cluster, tmp_path: Path) -> None:
    """A person of a partner may read each service's feed with one token."""
    async with world(cluster, tmp_path, services=("alerting", "escalation")) as all_of_it:
        headers = await all_of_it.officer("NL")
        for service in all_of_it.services:
            answer = await all_of_it.http.get(f"/v1/feed/{service}", headers=headers)
            assert answer.status_code == 200, answer.text
