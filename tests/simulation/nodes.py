"""A service as a process that can die: built as production builds it, on a database that outlives it.

A node dies at a commit, before or after it, or between two steps: whatever it held in memory (leased pages, unrecorded
attempts, confirmations) is gone, and the next life finds the work again by looking. Nothing moves by itself: what a
running service would start at once (a leased page, a publication) waits here until a step says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

import httpx

from services.escalation.delivery import Delivery
from shared import feed
from shared.clock import ManualClock
from shared.db import Transaction
from shared.process import Deps, Service
from shared.web import build_app
from tests.support.memory_bus import MemoryBroker, MemoryBus

BEFORE_COMMIT = "before commit"
AFTER_COMMIT = "after commit"


class Died(BaseException):
    """The process is gone; whoever waited for it does not know what was done. No `except Exception` catches it."""


class Node:
    """One process with one service, over all its lives."""

    def __init__(
        self, name: str, build: Callable[[MemoryBus], Service], clock: ManualClock, broker: MemoryBroker
    ) -> None:
        self.name = name
        self.dies_at: str | None = None
        """Where the next transaction ends the process, if anywhere."""
        self.spared = 0
        """So many transactions end well before."""
        self.held: list[tuple[Any, ...]] = []
        """Pages that were leased and have not started yet."""
        self.peers: dict[str, Node] = {}
        """Whose feeds this node reads, by source."""
        self.service: Service
        self.bus: MemoryBus
        self._build = build
        self._clock = clock
        self._broker = broker
        self._app: httpx.ASGITransport | None = None

    async def start(self) -> None:
        """Begins a life."""
        self.bus = MemoryBus(self._clock, broker=self._broker)
        self.service = self._build(self.bus)
        self.held, self.dies_at, self._app = [], None, None
        life = _Life()
        for database in (self.deps.database, self.deps.intake):
            cast("Any", database).transaction = self._mortal(database.transaction, life)
            cast("Any", database).statement = self._mortal(database.statement, life)
        self._life = life
        for subscription in self.service.subscriptions:
            await self.bus.subscribe(subscription)
        await self.bus.start()
        for source, puller in self.deps.pullers.items():
            puller.transport = _Road(self, source)
        if self.is_escalation:
            delivery = self.delivery
            self._send = delivery._start
            cast("Any", delivery)._start = self._hold

    async def end(self) -> None:
        """Ends this life, as SIGKILL does: what it had in memory is gone."""
        self._life.over = True
        await self.deps.relay.drain()
        if self.is_escalation:
            self.delivery.leave_promises()
        await asyncio.gather(*self.delivery._sending if self.is_escalation else (), return_exceptions=True)
        for puller in self.deps.pullers.values():
            await puller.close()
        await self.deps.intake.close()
        await self.deps.database.close()

    @property
    def deps(self) -> Deps:
        """What its handlers are given."""
        return self.service.deps

    @property
    def is_escalation(self) -> bool:
        """Whether it sends pages."""
        return self.service.name == "escalation"

    @property
    def delivery(self) -> Delivery:
        """Its delivery loop."""
        return cast("Delivery", cast("Any", self.service.loops["delivery"].run_once).__self__)

    async def run(self, loop: str) -> int:
        """One pass of one of its loops."""
        return await self.service.loops[loop].run_once()

    async def send(self, count: int) -> None:
        """Lets the first `count` held pages start, and waits for their results, which nobody has recorded yet."""
        started, self.held = self.held[:count], self.held[count:]
        for leased in started:
            self._send(*leased)
        await asyncio.gather(*self.delivery._sending)

    def _hold(self, *leased: Any) -> asyncio.Future[None]:
        page = leased[0]
        if page.promise is not None and page.row["id"].int % 2:
            # Of what leaves before it is stored, half has left when the node dies over storing it.
            return self._send(*leased)
        self.held.append(leased)
        begun = asyncio.get_running_loop().create_future()
        begun.set_result(None)
        return begun

    @property
    def transport(self) -> httpx.ASGITransport:
        """The way to its feed."""
        if self._app is None:
            app = build_app(
                self.name,
                [feed.router(self.deps)],
                service=self.service.name,
                clock=self.deps.clock,
                ids=self.deps.ids,
            )
            self._app = httpx.ASGITransport(app)
        return self._app

    @property
    def is_dead(self) -> bool:
        """Whether this life is over."""
        return self._life.over

    def _mortal(
        self, transaction: Callable[[], AbstractAsyncContextManager[Transaction]], life: _Life
    ) -> Callable[[], Any]:
        @asynccontextmanager
        async def dying() -> AsyncIterator[Transaction]:
            if life.over:
                raise Died
            self.spared, dies_at = max(0, self.spared - 1), None if self.spared else self.dies_at
            async with transaction() as tx:
                yield tx
                if dies_at == BEFORE_COMMIT:
                    life.over = True
                    raise Died
            if dies_at == AFTER_COMMIT:
                life.over = True
                raise Died

        return dying


class _Life:
    """One life of a node: once it is over, nothing that is left of it reaches the database."""

    over = False


class _Road(httpx.AsyncBaseTransport):
    """From a node to the feed of a source, whichever life that is in."""

    def __init__(self, node: Node, source: str) -> None:
        self._node = node
        self._source = source

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        peer = self._node.peers.get(self._source)
        if peer is None:
            raise httpx.ConnectError("nobody serves this feed here")
        return await peer.transport.handle_async_request(request)
