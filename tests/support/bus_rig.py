"""The bus in two kinds, memory and NATS, behind one face, so that the same cases hold for both."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Mapping, MutableMapping
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pytest
from nats.aio.client import Client

from redphone.local_nats import Nats
from redphone.local_process import Remembered
from shared.broker import ensure_streams
from shared.bus import Bus, NatsBus
from shared.clock import ManualClock, SystemClock
from shared.contracts import AlertEnded, EndReason
from shared.events import Message
from shared.ids import Ids, MessageId
from tests.support.memory_bus import MemoryBroker, MemoryBus

CONSUMES = {"escalation": (AlertEnded,)}
CLOCK = SystemClock()
IDS = Ids(CLOCK.now)


def make_message() -> Message[AlertEnded]:
    """A message with every part of the envelope filled."""
    body = AlertEnded(
        alert_id=IDS.new(),
        root_alert_id=IDS.new(),
        reference="RP-CA-2026-0042",
        raiser="CA",
        reason=EndReason.CLOSED,
        ended_at=CLOCK.now(),
    )
    return Message(
        id=MessageId(IDS.new()),
        body=body,
        occurred_at=CLOCK.now(),
        correlation_id=IDS.new(),
        causation_id=IDS.new(),
        trace_parent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )


class Rig(Protocol):
    """What a case may do, whatever the bus is made of."""

    def bus(self, service: str) -> Bus:
        """A bus of a service; stopped at the end of the test."""

    async def until(self, condition: Callable[[], bool], *, within_seconds: float = 10.0) -> None:
        """Lets messages flow until the condition holds; fails if it does not in time."""

    async def quiet(self) -> None:
        """Lets messages flow until none is on its way: what has not been delivered by now will not be."""

    async def publish_raw(self, subject: str, headers: Mapping[str, str], body: bytes) -> None:
        """Publishes whatever it is, as a broken or hostile writer would."""

    async def cut(self) -> None:
        """Takes the broker away without warning."""

    async def mend(self) -> None:
        """Brings the broker back with what it held."""

    async def close(self) -> None:
        """Ends everything."""


class MemoryRig:
    """The memory bus on a manual clock; waiting moves the clock."""

    def __init__(self) -> None:
        self.clock = ManualClock(datetime(2026, 1, 1, tzinfo=UTC))
        self.broker = MemoryBroker(self.clock)
        self.buses: list[MemoryBus] = []

    def bus(self, service: str) -> Bus:  # noqa: ARG002 - the memory bus knows services by their subscriptions
        bus = MemoryBus(self.clock, broker=self.broker)
        self.buses.append(bus)
        return bus

    async def until(self, condition: Callable[[], bool], *, within_seconds: float = 10.0) -> None:
        for _ in range(int(within_seconds * 50)):
            if condition():
                return
            for bus in self.buses:
                await bus.run_once()
            await turn(0.001)
            self.clock.advance(0.1)
        pytest.fail("the condition did not come true")

    async def quiet(self) -> None:
        for _ in range(200):
            for bus in self.buses:
                await bus.run_once()
            self.clock.advance(0.1)

    async def publish_raw(self, subject: str, headers: Mapping[str, str], body: bytes) -> None:
        self.broker.store(subject, headers, body)

    async def cut(self) -> None:
        self.broker.down = True

    async def mend(self) -> None:
        self.broker.down = False

    async def close(self) -> None:
        for bus in self.buses:
            await bus.stop()


class NatsRig:
    """The bus on a NATS server of this module's own, which may be killed."""

    def __init__(self, server: Nats) -> None:
        self.server = server
        self.buses: list[NatsBus] = []

    def bus(self, service: str, *, manage_streams: bool = False) -> NatsBus:
        bus = NatsBus([self.server.url], service=service, clock=CLOCK, manage_streams=manage_streams)
        self.buses.append(bus)
        return bus

    async def until(self, condition: Callable[[], bool], *, within_seconds: float = 10.0) -> None:
        async with asyncio.timeout(within_seconds):
            while not condition():
                await turn()

    async def quiet(self) -> None:
        """A consumer that owes nothing has nothing on its way."""
        async with asyncio.timeout(10), self.client() as client:
            while True:
                info = await client.jetstream().consumer_info("ALERTING", "escalation-alert_ended-v1")
                if not info.num_pending and not info.num_ack_pending:
                    return
                await turn()

    async def publish_raw(self, subject: str, headers: Mapping[str, str], body: bytes) -> None:
        async with self.client() as client:
            await client.jetstream().publish(subject, body, headers=dict(headers))

    def client(self) -> ConnectedClient:
        """A plain client, as an operator would use."""
        return ConnectedClient(self.server.url)

    async def cut(self) -> None:
        await self.server.kill()

    async def mend(self) -> None:
        await self.server.start()

    def pause(self) -> None:
        """The server hangs: its sockets stay open and nothing answers."""
        assert self.server.pid is not None
        os.kill(self.server.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """The server goes on."""
        assert self.server.pid is not None
        os.kill(self.server.pid, signal.SIGCONT)

    async def close(self) -> None:
        await asyncio.gather(*(bus.stop() for bus in self.buses))


class ConnectedClient:
    """A plain connection for the length of a block."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client = Client()

    async def __aenter__(self) -> Client:
        async with asyncio.timeout(5):
            await self._client.connect(self._url)
        return self._client

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()


async def turn(seconds: float = 0.01) -> None:
    """Gives all other tasks and the servers a short time; for use between two looks at a condition."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asyncio.Event().wait()


@asynccontextmanager
async def running_server(directory: Path, *, sync_always: bool = True) -> AsyncIterator[Nats]:
    """A NATS server of one test's own, as `redphone up` runs it."""
    server = Nats(directory, Remembered(directory / "servers.json"), sync_always=sync_always, fixed_port=None)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def running_nats_rig(directory: Path) -> AsyncIterator[NatsRig]:
    """The real bus, with the deploy step done."""
    async with running_server(directory) as server:
        await ensure_streams([server.url], CONSUMES)
        rig = NatsRig(server)
        try:
            yield rig
        finally:
            await rig.close()


Logs = list[MutableMapping[str, Any]]


def errors_of(logs: Logs) -> list[str]:
    """Names of what was logged as an error."""
    return [str(entry["event"]) for entry in logs if entry["log_level"] == "error"]
