"""What turns handlers into a running service.

The cast: `Deps` is the first argument of every handler; a `Service` starts and stops; `assemble` builds one from a
service's routers, loops and subscriptions and adds the loops that every service has (`shared.upkeep`). `shared.hosting`
puts services into a process.

The promise: a service starts as soon as its database answers and is migrated, with or without the broker; a database
or broker that goes away delays work and loses none; stopping lets what was begun end and goes backwards through the
start.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, cast

import httpx
from fastapi import APIRouter

from shared import feed, migrate, upkeep
from shared.bus import BATCH_MAX, Bus
from shared.clock import Clock
from shared.db import Database
from shared.errors import Unavailable
from shared.events import Event, Message
from shared.feed import Puller
from shared.ids import Ids
from shared.keys import KeyRing
from shared.log import get_logger
from shared.loops import Loop, Troubles
from shared.outbox import SEQUENCE_BATCH, Relay, Sequencer
from shared.settings import SERVICES, ServiceName, Settings
from shared.streams import Streams
from shared.subscriptions import Subscription, durable_of
from shared.together import Gathering, Together
from shared.web import ReadinessCheck

log = get_logger(__name__)

BACKGROUND_CONNECTIONS = 14
INTAKE_CONNECTIONS = 10
"""Both, times three services, and the console's few stay below the 80 connections that all together may take."""

DATABASE_RETRY_SECONDS = 0.5
DATABASE_REMINDER_TRIES = 20
FIRST_PULL_SECONDS_MAX = 5.0
AFTER_FIRST_PULL = frozenset({"timers", "coverage", "expiry"})
"""Loops that fire deadlines. They start when the feeds have been read, so that no deadline fires which an event that
lies there unread has settled."""

RELAY_SECONDS = 1.0
SEQUENCER_SECONDS = 1.0
SEQUENCER_LINGER_SECONDS = 0.2
"""Positions are for streams and feeds, which people and other roads read: pages go first."""

PULL_TICK_SECONDS = 1.0


@dataclass(frozen=True)
class Deps:
    """What a service works with: the first argument of every handler.

    `intake` holds the connections of requests and acknowledgements, `database` those of everything else. `first_pull`
    is set once the feeds have been read after a start, or five seconds later; loops that fire deadlines start then.
    """

    service: ServiceName
    settings: Settings
    clock: Clock
    ids: Ids
    keys: KeyRing
    database: Database
    intake: Database
    relay: Relay
    loops: dict[str, Loop] = field(default_factory=dict)
    pullers: dict[str, Puller] = field(default_factory=dict)
    streams: Streams = field(default_factory=Streams)
    first_pull: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def keyring(self) -> KeyRing:
        """The installation's keys, under the name that `shared.web` asks for."""
        return self.keys

    def wake(self, *names: str) -> None:
        """Asks these loops for a pass now."""
        for name in names:
            self.loops[name].wake()

    def consumer(self, event: type[Event]) -> str:
        """The name under which this service handles an event: `escalation-alert_released-v1`."""
        return durable_of(self.service, event)

    async def pull_now(self, source: str) -> None:
        """Reads what is new on a source's feed now: for a request that names something not heard of yet."""
        if (puller := self.pullers.get(source)) is not None:
            await puller.pull_now()


Handler = Callable[[Deps, Message[Any]], Awaitable[None]]
Reconcile = Callable[[Deps], Awaitable[list[str]]]
"""Compares what should be with what is, repairs, and returns one stable sentence for each thing that needs a person."""


@dataclass(frozen=True)
class Service:
    """One service, ready to start. `loops` are in `deps.loops`; tests call their `run_once` and never start it."""

    name: ServiceName
    deps: Deps
    bus: Bus
    routes: Sequence[Callable[[Deps], APIRouter]]
    """What makes its routers."""
    subscriptions: Sequence[Subscription]
    checks: Mapping[str, ReadinessCheck]
    on_start: Sequence[Callable[[Deps], Awaitable[None]]] = ()
    on_stop: Sequence[Callable[[], Awaitable[None]]] = ()
    on_hosted: Callable[[httpx.AsyncBaseTransport, Sequence[str]], None] | None = None
    """Told how to call the services that are in this process, and which they are."""
    _running: AsyncExitStack = field(default_factory=AsyncExitStack)

    @cached_property
    def routers(self) -> tuple[APIRouter, ...]:
        """Its HTTP routes, made when they are wanted: that takes longer than to make all the rest."""
        return tuple(make(self.deps) for make in self.routes)

    @property
    def loops(self) -> dict[str, Loop]:
        """All loops by name."""
        return self.deps.loops

    async def start(self) -> None:
        """Starts: waits for the database as long as it takes, then bus and loops. Returns when the service works.

        The process clock follows the database's before anything else begins.
        """
        deps = self.deps
        async with AsyncExitStack() as starting:
            starting.push_async_callback(deps.intake.close)
            starting.push_async_callback(deps.database.close)
            await self._await_database()
            for begin in self.on_start:
                await begin(deps)
            for end in self.on_stop:
                starting.push_async_callback(end)
            for puller in deps.pullers.values():
                starting.push_async_callback(puller.close)
            starting.push_async_callback(deps.relay.drain)
            starting.push_async_callback(self.bus.stop)
            for subscription in self.subscriptions:
                await self.bus.subscribe(subscription)
            await self.bus.start()
            for loop in deps.loops.values():
                starting.push_async_callback(loop.stop)
                if loop.name not in AFTER_FIRST_PULL:
                    loop.start()
            gate = asyncio.create_task(self._open_gate(), name=f"first-pull:{self.name}")
            starting.push_async_callback(_end, gate)
            starting.callback(deps.streams.close)
            self._running.push_async_exit(starting.pop_all())
        log.info("service.started", service=self.name)

    async def stop(self) -> None:
        """Stops what was started, the last first; handlers and publications under way may end."""
        await self._running.aclose()
        log.info("service.stopped", service=self.name)

    @property
    def started(self) -> bool:
        """Whether the loops run."""
        return any(loop.running for loop in self.loops.values())

    def feed_through(self, transport: httpx.AsyncBaseTransport, sources: Sequence[str]) -> None:
        """Pulls the feeds of these sources in this process, unless the deployment has named an address."""
        for source in sources:
            puller = self.deps.pullers.get(source)
            if puller is not None and puller.base_url is None:
                puller.transport = transport

    async def _await_database(self) -> None:
        tries = 0
        while (trouble := await self._database_trouble()) is not None:
            if tries % DATABASE_REMINDER_TRIES == 0:
                log.warning("database.awaited", service=self.name, reason=trouble)
            tries += 1
            await self.deps.clock.sleep(DATABASE_RETRY_SECONDS)

    async def _database_trouble(self) -> str | None:
        try:
            if not await migrate.is_current(self.deps.database, self.name):
                return "the database lacks migrations of this version: run the deploy step"
            await upkeep.synchronise(self.deps)
        except Unavailable as error:
            return error.detail
        return None

    async def _open_gate(self) -> None:
        try:
            async with asyncio.timeout(FIRST_PULL_SECONDS_MAX):
                await asyncio.gather(*(puller.first_pull.wait() for puller in self.deps.pullers.values()))
        except TimeoutError:
            log.warning("feed.first_pull_late", service=self.name)
        self.deps.first_pull.set()
        for name in AFTER_FIRST_PULL & self.loops.keys():
            self.loops[name].start()


def assemble(
    name: ServiceName,
    settings: Settings,
    *,
    clock: Clock,
    ids: Ids,
    keys: KeyRing,
    bus: Bus,
    router: Callable[[Deps], APIRouter],
    subscriptions: Mapping[type[Event], Handler],
    loops: Callable[[Deps], Sequence[Loop]] = lambda _: (),
    numbered: Sequence[str] = (),
    reconcile: Sequence[Reconcile] = (),
    on_start: Sequence[Callable[[Deps], Awaitable[None]]] = (),
    on_stop: Sequence[Callable[[], Awaitable[None]]] = (),
    concurrency: Mapping[type[Event], int] | None = None,
    extend: Callable[[Deps], Deps] = lambda deps: deps,
    connections: tuple[int, int] = (BACKGROUND_CONNECTIONS, INTAKE_CONNECTIONS),
) -> Service:
    """A service of its own parts and of those that every service has.

    `numbered` names further tables whose committed rows get positions; their loop is `sequencer`. `reconcile` runs
    every ten seconds. `concurrency` is for events whose handlers may run more than four at a time; what is subscribed
    to with one `Together` is handled in one batch, whatever its events. `extend` gives back the service's own kind of
    `Deps`, made from the common one. `connections` are those of background work and of intake. Raises `ValueError` if
    the settings name no database.
    """
    url = settings.database_url_of(name)
    if url is None:
        raise ValueError(f"no database is named for {name}: set REDPHONE_{name.upper()}_DATABASE_URL")
    database = Database(url, pool_size=connections[0], application_name=f"redphone-{name}")
    intake = Database(url, pool_size=connections[1], application_name=f"redphone-{name}-intake")
    relay = Relay(database, bus, clock)
    deps = extend(Deps(name, settings, clock, ids, keys, database, intake, relay))
    gatherings = {
        handler: Gathering(deps, handler) for handler in subscriptions.values() if isinstance(handler, Together)
    }
    subscribed = [
        Subscription(
            service=name,
            event=event,
            handle=gatherings[handler].handle if isinstance(handler, Together) else _with(deps, handler),
            dead_letter=upkeep.burial(deps),
            concurrency=BATCH_MAX if isinstance(handler, Together) else (concurrency or {}).get(event, 4),
            together=isinstance(handler, Together),
        )
        for event, handler in subscriptions.items()
    ]
    for source in sorted({subscription.event.owner for subscription in subscribed}):
        deps.pullers[source] = _puller(deps, source, subscribed, bus)
    sequencer = Sequencer(database, ("outbox", "record", *numbered))
    own_loops = [
        Loop("relay", relay.run_once, interval_seconds=RELAY_SECONDS, again_when=100, clock=clock),
        Loop(
            "sequencer",
            sequencer.run_once,
            interval_seconds=SEQUENCER_SECONDS,
            again_when=SEQUENCE_BATCH,
            linger_seconds=SEQUENCER_LINGER_SECONDS,
            clock=clock,
        ),
        *(
            Loop(f"feed:{source}", puller.run_once, interval_seconds=PULL_TICK_SECONDS, clock=clock)
            for source, puller in deps.pullers.items()
        ),
        *upkeep.loops(deps, bus, reconcile),
    ]
    deps.loops.update({loop.name: loop for loop in own_loops})
    relay.on_publish.append(deps.loops["sequencer"].wake)
    deps.loops.update({loop.name: loop for loop in loops(deps)})
    troubles = Troubles(clock)
    for loop in deps.loops.values():
        loop.troubles = troubles
    return Service(
        name=name,
        deps=deps,
        bus=bus,
        routes=(router, feed.router),
        subscriptions=subscribed,
        checks=upkeep.checks(deps, bus),
        on_start=on_start,
        on_stop=on_stop,
    )


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _with(deps: Deps, handler: Handler) -> Callable[[Message[Any]], Awaitable[None]]:
    async def handle(message: Message[Any]) -> None:
        await handler(deps, message)

    return handle


def _puller(deps: Deps, source: str, subscriptions: Sequence[Subscription], bus: Bus) -> Puller:
    named = deps.settings.feed_url_of(cast("ServiceName", source)) if source in SERVICES else None
    return Puller(
        source,
        service=deps.service,
        subscriptions=[subscription for subscription in subscriptions if subscription.event.owner == source],
        database=deps.database,
        keyring=deps.keys,
        clock=deps.clock,
        ids=deps.ids,
        bus_healthy=lambda: bus.healthy,
        base_url=named,
    )
