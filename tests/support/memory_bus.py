"""The bus without a broker: the same ends, delays, duplicates and dead letters, one step at a time and in a known
order.

`MemoryBroker` holds what a NATS server would hold and outlives every `MemoryBus`, which is one service's connection to
it. Messages cross as headers and bytes, so whatever breaks on the wire breaks here too. Nothing moves by itself:
`run_once` delivers what is due by the given clock, `deliver` picks one. The contract tests hold this and the real one
to the same cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.broker import DUPLICATE_WINDOW_SECONDS
from shared.clock import Clock
from shared.events import Message, headers_of, wire_body
from shared.ids import MessageId
from shared.subscriptions import Delivery, End, Failures, Subscription, attend, filter_of


@dataclass(frozen=True)
class Stored:
    """A message as the stream keeps it."""

    subject: str
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Pending:
    """A message that a consumer still owes an end, and when it may be delivered next."""

    stored: Stored
    deliveries: int = 0
    due_monotonic: float = 0.0


@dataclass
class Consumer:
    """A durable consumer: it keeps its place while its service is away."""

    subscription: Subscription
    pending: list[Pending] = field(default_factory=list)


class MemoryBroker:
    """What the broker holds. While `down`, it takes and delivers nothing, and keeps everything."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.down = False
        self.stored: list[Stored] = []
        self.consumers: dict[str, Consumer] = {}
        self._seen: dict[str, float] = {}

    def store(self, subject: str, headers: Mapping[str, str], body: bytes, *, message_id: str | None = None) -> None:
        """Keeps a message once per id and ten minutes, and sets it out for every consumer of its subject."""
        present = self.clock.monotonic()
        if message_id is not None:
            if present - self._seen.get(message_id, float("-inf")) < DUPLICATE_WINDOW_SECONDS:
                return
            self._seen[message_id] = present
        stored = Stored(subject, dict(headers), body)
        self.stored.append(stored)
        for consumer in self.consumers.values():
            self._set_out(consumer, stored)

    def attach(self, subscription: Subscription) -> Consumer:
        """The durable consumer of the subscription; a new one begins with all that is stored."""
        consumer = self.consumers.get(subscription.durable)
        if consumer is None:
            consumer = self.consumers[subscription.durable] = Consumer(subscription)
            for stored in self.stored:
                self._set_out(consumer, stored)
        return consumer

    def replay(self) -> None:
        """Sets everything out again, as if all consumers had been made anew: each handler sees each message again."""
        for consumer in self.consumers.values():
            for stored in self.stored:
                self._set_out(consumer, stored)

    @staticmethod
    def _set_out(consumer: Consumer, stored: Stored) -> None:
        if stored.subject.startswith(filter_of(consumer.subscription.event).removesuffix("*")):
            consumer.pending.append(Pending(stored))


class MemoryBus:
    """One service's bus. Several on one broker are several services, or several replicas of one."""

    def __init__(self, clock: Clock, *, broker: MemoryBroker | None = None) -> None:
        self.broker = broker or MemoryBroker(clock)
        self._clock = clock
        self._subscriptions: list[Subscription] = []
        self._started = False
        self._failures = Failures()

    @property
    def healthy(self) -> bool:
        return self._started and not self.broker.down

    @property
    def down(self) -> bool:
        return self.broker.down

    @down.setter
    def down(self, value: bool) -> None:
        self.broker.down = value

    async def start(self) -> None:
        self._started = True

    async def stop(self) -> None:
        self._started = False

    async def subscribe(self, subscription: Subscription) -> None:
        self._subscriptions.append(subscription)
        self.broker.attach(subscription)

    async def publish(
        self,
        messages: Sequence[Message[Any]],
        *,
        timeout_seconds: float,  # noqa: ARG002 - memory answers at once
    ) -> set[MessageId]:
        if not self.healthy:
            return set()
        for message in messages:
            body = wire_body(message)
            self.broker.store(message.body.subject, headers_of(message), body, message_id=str(message.id))
        return {message.id for message in messages}

    def due(self) -> list[tuple[Subscription, Pending]]:
        """What could be delivered now, in the order of the subscriptions and then of the stream."""
        if not self.healthy:
            return []
        present = self._clock.monotonic()
        return [
            (subscription, pending)
            for subscription in self._subscriptions
            for pending in self.broker.consumers[subscription.durable].pending
            if pending.due_monotonic <= present
        ]

    async def deliver(self, position: int = 0) -> bool:
        """Delivers the message at `position` of `due`, so that a test can choose the order; False if there is none."""
        due = self.due()
        if position >= len(due):
            return False
        await self._attend(*due[position])
        return True

    async def run_once(self) -> int:
        """Delivers everything that is due now once; returns how many that were. For `settle`."""
        due = self.due()
        for subscription, pending in due:
            await self._attend(subscription, pending)
        return len(due)

    async def _attend(self, subscription: Subscription, pending: Pending) -> None:
        consumer = self.broker.consumers[subscription.durable]
        if not any(other is pending for other in consumer.pending):
            return
        pending.deliveries += 1
        stored = pending.stored
        delivery = Delivery(stored.subject, stored.headers, stored.body, pending.deliveries)
        outcome = await attend(subscription, delivery, self._failures)
        if outcome.end is End.NAK:
            pending.due_monotonic = self._clock.monotonic() + outcome.delay_seconds
        else:
            consumer.pending = [other for other in consumer.pending if other is not pending]
