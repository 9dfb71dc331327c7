"""One migrated database per test, a clock that moves when told, and made-up events about Kabul in August 2021."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from typing import Any

import pytest

from shared import outbox
from shared.clock import ManualClock
from shared.contracts import AlertEnded, EndReason, EscalationKind, Recipient
from shared.db import Database
from shared.events import Cause, Event, Message
from shared.ids import Ids, MessageId, SeededBits
from shared.migrate import template
from tests.support.cluster import Clone, Cluster

STARTED_AT = datetime(2021, 8, 15, 6, 0, tzinfo=UTC)


class Broker:
    """Stands for the bus: confirms what it is told to confirm and remembers everything it was given."""

    def __init__(self) -> None:
        self.confirms = True
        self.healthy = True
        self.given: list[MessageId] = []
        self.messages: list[Message[Any]] = []

    async def publish(self, messages: Sequence[Message[Any]], *, timeout_seconds: float) -> set[MessageId]:  # noqa: ARG002
        self.given += [message.id for message in messages]
        self.messages += messages
        return {message.id for message in messages} if self.confirms else set()


class Desk:
    """What a handler works with, and events to write."""

    def __init__(self, database: Database, clone: Clone) -> None:
        self.database = database
        self.clone = clone
        self.clock = ManualClock(STARTED_AT)
        self.ids = Ids(self.clock.now, SeededBits(1))

    def ended(self, raiser: str = "CA", to: Sequence[str] = ("NL",)) -> AlertEnded:
        """An event that raiser and recipients may read."""
        recipients = [Recipient(partner=p, kind=EscalationKind.ANSWER, addressed_at=self.clock.now()) for p in to]
        alert_id = self.ids.new()
        return AlertEnded(
            alert_id=alert_id,
            root_alert_id=alert_id,
            reference="RP-CA-2021-0042",
            raiser=raiser,
            reason=EndReason.CLOSED,
            ended_at=self.clock.now(),
            recipients=tuple(recipients),
        )

    async def append(self, *events: Event) -> list[Message[Event]]:
        """Commits events to the outbox."""
        async with self.database.transaction() as tx:
            return await outbox.append(tx, events, cause=Cause(self.ids.new()), ids=self.ids, now=self.clock.now())


@pytest.fixture
async def desk(cluster: Cluster) -> AsyncIterator[Desk]:
    """A database of alerting."""
    await cluster.prepare("alerting", template("alerting"))
    async with cluster.clone("alerting") as clone:
        database = Database(clone.url)
        yield Desk(database, clone)
        await database.close()


@pytest.fixture
def broker() -> Broker:
    """A broker that confirms."""
    return Broker()
