"""The whole network in one process: three services on real databases, while time, chance, the broker and the outside
world are the test's.

Nothing moves by itself. `settle` lets everything happen that is due at this instant; `fast_forward` moves the clock
from due time to due time, so that timers fire in their order. No loop's own timer runs, and nothing sleeps. Services
are imported when the world is made, and one that is not written yet is left out.
"""

from __future__ import annotations

import asyncio
import copy
import importlib
import importlib.util
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from pydantic import SecretStr
from sqlalchemy import text

from shared import outbox, security
from shared.clock import ManualClock
from shared.contracts import CredentialKind, CredentialsPublished, PublishedCredential, Role
from shared.db import Database
from shared.events import Cause, Event, Message
from shared.hosting import host
from shared.ids import Ids, SeededBits
from shared.keys import KeyRing
from shared.loops import Loop
from shared.migrate import template
from shared.process import Service
from shared.settings import SERVICES, Settings
from tests.support.cluster import Clone, Cluster
from tests.support.memory_bus import MemoryBroker, MemoryBus

STARTED_AT = datetime(2021, 8, 15, 9, 30, tzinfo=UTC)
"""Kabul: the day on which embassies told their citizens to shelter in place."""

PUBLIC_URL = "http://redphone.test"
PASSES_MAX = 200
STEP_SECONDS_MAX = 60.0
STEP_SECONDS_WITHOUT_BUS = 1.0
"""While the broker is away the feeds carry everything, and those are read every second."""

_UNTIMED = frozenset({"clock", "cleaning", "heartbeats"})
"""Loops that would only disturb a story: heartbeats go to everybody every hour and have tests of their own."""
_DUE_COLUMNS = ("due_at", "expires_at", "leased_until", "valid_until", "said_again_at", "recompute_at")
"""Columns whose passing makes something happen; a name that a table does not have is no matter."""


@dataclass
class World:
    """Three services and everything around them."""

    clock: ManualClock
    ids: Ids
    keys: KeyRing
    broker: MemoryBroker
    services: dict[str, Service]
    buses: dict[str, MemoryBus]
    http: httpx.AsyncClient
    outlets: Mapping[str, Any]
    told: Any = None
    """What was learnt by whatever came before, as `world` says."""
    _due: dict[str, list[tuple[str, str]]] = field(default_factory=dict)
    _versions: dict[str, int] = field(default_factory=dict)
    _credentials: dict[str, list[PublishedCredential]] = field(default_factory=dict)

    def database(self, service: str) -> Database:
        """A service's database."""
        return self.services[service].deps.database

    async def rows(self, service: str, sql: str, **values: Any) -> list[Any]:
        """What a query finds in a service's database."""
        async with self.database(service).transaction() as tx:
            return list((await tx.execute(text(sql), values)).all())

    # --- people and requests

    async def officer(self, partner: str, *roles: Role, name: str = "officer") -> dict[str, str]:
        """The headers of a person of the partner with these roles (a duty officer if none is named), known to every
        service as if roster had published the credential.
        """
        client_id = f"{partner.lower()}-{name}"
        credential = PublishedCredential(
            client_id=client_id,
            kind=CredentialKind.PERSON,
            subject=client_id,
            name=f"{name.title()} of {partner}",
            partner=partner,
            roles=roles or (Role.DUTY_OFFICER,),
            secret_sha256=security.hash_secret(f"secret of {client_id}"),
        )
        known = [other for other in self._credentials.get(partner, []) if other.client_id != client_id]
        self._credentials[partner] = [*known, credential]
        self._versions[partner] = version = self._versions.get(partner, 0) + 1
        published = CredentialsPublished(
            partner=partner, version=version, credentials=tuple(self._credentials[partner])
        )
        for service in self.services.values():
            async with service.deps.database.transaction() as tx:
                await security.on_credentials_published(tx, published)
        async with next(iter(self.services.values())).deps.database.transaction() as tx:
            return self.headers(await security.authenticate(tx, client_id, f"secret of {client_id}"))

    def administrator(self) -> dict[str, str]:
        """The headers of whoever holds the key file of the installation."""
        return self.headers(security.administrator("tests"))

    def headers(self, principal: security.Principal) -> dict[str, str]:
        """A fresh token of somebody, as a request carries it."""
        token = security.issue_token(
            self.keys, principal, now=self.clock.now(), token_id=self.ids.new(), lifetime_seconds=3600
        )
        return {"Authorization": f"Bearer {token}"}

    def key(self) -> dict[str, str]:
        """A new Idempotency-Key."""
        return {"Idempotency-Key": str(self.ids.new())}

    async def publish(self, service: str, *events: Event) -> Sequence[Message[Any]]:
        """Commits and publishes events as the service that owns them would."""
        deps = self.services[service].deps
        async with deps.database.transaction() as tx:
            cause = Cause(correlation_id=self.ids.new())
            messages = await outbox.append(tx, events, cause=cause, ids=self.ids, now=self.clock.now())
        await deps.relay.publish(messages)
        return messages

    # --- time

    async def settle(self) -> int:
        """Lets happen what is due at this instant, until nothing is left to do; returns how much it was."""
        total = 0
        for _ in range(PASSES_MAX):
            done = 0
            for name, service in self.services.items():
                for loop in self._loops(service):
                    done += await loop.run_once()
                await _idle(service.loops.values())
                await service.deps.relay.drain()
                done += await self.buses[name].run_once()
            total += done
            if not done:
                return total
        raise AssertionError(f"the world did not come to rest within {PASSES_MAX} passes")

    async def fast_forward(self, seconds: float) -> None:
        """Moves time on, stopping at every instant at which something falls due."""
        end_at = self.clock.now() + timedelta(seconds=seconds)
        await self.settle()
        while (now := self.clock.now()) < end_at:
            step = STEP_SECONDS_WITHOUT_BUS if self.broker.down else STEP_SECONDS_MAX
            next_at = min(end_at, now + timedelta(seconds=step), await self._next_due(now) or end_at)
            for bus in self.buses.values():
                if (bus_seconds := _next_delivery_seconds(bus, self.clock.monotonic())) is not None:
                    next_at = min(next_at, now + timedelta(seconds=bus_seconds))
            self.clock.advance((next_at - now).total_seconds())
            await self.settle()

    async def _next_due(self, now: datetime) -> datetime | None:
        found = []
        for name in self.services:
            if name not in self._due:
                columns = await self.rows(
                    name,
                    """
                    SELECT table_name, column_name FROM information_schema.columns
                    WHERE table_schema = 'public' AND column_name = ANY(:names)
                      AND data_type = 'timestamp with time zone'
                    """,
                    names=list(_DUE_COLUMNS),
                )
                self._due[name] = [(row.table_name, row.column_name) for row in columns]
            for table, column in self._due[name]:
                query = f"SELECT min({column}) AS due_at FROM {table} WHERE {column} > :now"  # noqa: S608 - from the catalogue
                found += [row.due_at for row in await self.rows(name, query, now=now) if row.due_at is not None]
        return min(found, default=None)

    @staticmethod
    def _loops(service: Service) -> list[Loop]:
        return [loop for name, loop in service.loops.items() if name not in _UNTIMED]


async def _idle(loops: Iterable[Loop]) -> None:
    """Waits for what a loop has begun and left running, where its owner can tell."""
    for loop in loops:
        idle = getattr(getattr(loop.run_once, "__self__", None), "idle", None)
        if idle is not None:
            await idle()


def _next_delivery_seconds(bus: MemoryBus, present: float) -> float | None:
    waits = [
        pending.due_monotonic - present
        for consumer in bus.broker.consumers.values()
        for pending in consumer.pending
        if pending.due_monotonic > present
    ]
    return min(waits, default=None)


def settings_for(clones: Mapping[str, str], directory: Path) -> Settings:
    """Settings of a development machine with these databases."""
    urls = {f"{service}_database_url": SecretStr(url) for service, url in clones.items()}
    return Settings(data_dir=directory, development=True, public_url=PUBLIC_URL, **urls)  # type: ignore[arg-type]


@asynccontextmanager
async def world(
    cluster: Cluster,
    directory: Path,
    *,
    services: Sequence[str] = SERVICES,
    outlets: Mapping[str, Any] | None = None,
    after: Callable[[World], Awaitable[Any]] | None = None,
    state: str = "",
) -> AsyncIterator[World]:
    """A new world on databases of its own. `outlets` stand where escalation's channels are (channel name to channel);
    by default one that remembers every webhook and accepts it.

    What comes `after` a fresh one is done for the first test that names this `state`; the others get a copy of the
    databases that it leaves. What it returns is `World.told`.
    """
    present = [service for service in services if _is_written(service)]
    for service in present:
        await cluster.prepare(service, template(service))
    if after is not None and state not in cluster.kept:
        keys = KeyRing.generate()
        async with AsyncExitStack() as stack:
            clones = {service: await stack.enter_async_context(cluster.clone(service)) for service in present}
            async with _world_on(clones, directory, keys, outlets, seed=1) as first:
                told, at = await after(first), first.clock.now()
            for service, clone in clones.items():
                await cluster.keep(service, clone, state)
        cluster.kept[state] = keys, told, at
    async with AsyncExitStack() as stack:
        clones = {service: await stack.enter_async_context(cluster.clone(service, state=state)) for service in present}
        # Ids are drawn from elsewhere than those that the state has already.
        keys, told, at = cluster.kept[state] if state else (KeyRing.generate(), None, STARTED_AT)
        async with _world_on(clones, directory, keys, outlets, seed=2 if state else 1, at=at) as made:
            made.told = copy.deepcopy(told)
            yield made


@asynccontextmanager
async def _world_on(
    clones: Mapping[str, Clone],
    directory: Path,
    keys: KeyRing,
    outlets: Mapping[str, Any] | None,
    *,
    seed: int,
    at: datetime = STARTED_AT,
) -> AsyncIterator[World]:
    clock = ManualClock(at)
    ids = Ids(clock.now, SeededBits(seed))
    broker = MemoryBroker(clock)
    if outlets is None and "escalation" in clones:
        outlets = {"webhook": importlib.import_module("tests.support.escalation_rig").Outlet()}
    async with AsyncExitStack() as stack:
        settings = settings_for({service: clone.url for service, clone in clones.items()}, directory)
        built: dict[str, Service] = {}
        buses: dict[str, MemoryBus] = {}
        for service in clones:
            buses[service] = MemoryBus(clock, broker=broker)
            build = importlib.import_module(f"services.{service}.app").build
            extra: dict[str, Any] = {"channels": outlets, "jitter": lambda: 0.5}
            accepted = inspect.signature(build).parameters
            built[service] = build(
                settings,
                clock=clock,
                ids=ids,
                bus=buses[service],
                keys=keys,
                **{name: value for name, value in extra.items() if name in accepted and value is not None},
            )
            stack.push_async_callback(_close, built[service])
        app = host(list(built.values()))
        http = httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url=PUBLIC_URL)
        stack.push_async_callback(http.aclose)
        for name, service_ in built.items():
            for begin in service_.on_start:
                await begin(service_.deps)
            for subscription in service_.subscriptions:
                await buses[name].subscribe(subscription)
            await buses[name].start()
            service_.deps.first_pull.set()
        made = World(clock, ids, keys, broker, built, buses, http, outlets or {})
        await made.settle()
        yield made


def _is_written(service: str) -> bool:
    return importlib.util.find_spec(f"services.{service}.app") is not None


async def _close(service: Service) -> None:
    service.deps.streams.close()
    await service.deps.relay.drain()
    for end in service.on_stop:
        await end()
    for puller in service.deps.pullers.values():
        await puller.close()
    await asyncio.gather(service.deps.intake.close(), service.deps.database.close())
