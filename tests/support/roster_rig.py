"""roster alone, on a real database: its application, a clock that moves when told, tokens for anybody, the outbox."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import httpx
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy import text

from services.roster import store
from services.roster.app import build
from services.roster.domain import PartnerState
from services.roster.handlers import RosterDeps
from services.roster.worker import Worker
from shared.clock import ManualClock
from shared.contracts import CredentialsPublished, DutyPlanPublished, PartnerChanged
from shared.db import Database
from shared.events import Event, Message, parse
from shared.hosting import host
from shared.ids import Ids, MessageId, SeededBits
from shared.keys import KeyRing
from shared.migrate import template
from shared.process import Service
from shared.security import Principal, administrator, authenticate, issue_token
from shared.settings import Settings
from tests.support.cluster import Clone, Cluster
from tests.support.memory_bus import MemoryBroker, MemoryBus

NOW = datetime(2026, 10, 20, 9, 30, tzinfo=UTC)
"""After the shipped rotas begin, and days before clocks change in Europe and then in America."""

NETWORK = Path(__file__).parents[2] / "network" / "rdn.toml"

WORKER = Worker()
"""One process for all tests of a session: starting one costs half a second, and it keeps nothing."""


_CANADAS_DUTIES = re.compile(r"\[partners\.CA\.rotas\.duty\].*?(?=\[partners\.CA\.endpoints\.main\])", re.DOTALL)
_PLAIN_DUTIES = """\
[partners.CA.rotas.duty]
name = "Duty officers"

[[partners.CA.rotas.duty.layers]]
name = "Daily"
rotation = "daily"
participants = ["duty-1", "duty-2", "duty-3"]
starts_on = 2026-01-05
hand_over_time = 08:00:00

[partners.CA.rotas.senior]
name = "Senior contacts"

[[partners.CA.rotas.senior.layers]]
name = "Weekly"
rotation = "weekly"
participants = ["senior-1", "senior-2"]
starts_on = 2026-01-05
hand_over_time = 08:00:00

[[partners.CA.levels]]
targets = ["rota:duty"]

[[partners.CA.levels]]
targets = ["rota:senior"]

[[partners.CA.levels]]
targets = ["rota:duty", "rota:senior", "office:main"]

"""


def shipped_text() -> str:
    """The network file as it is shipped."""
    return NETWORK.read_text(encoding="utf-8")


def network_text() -> str:
    """The same with plain rotas for Canada, daily and weekly, without deputies: what they say is easily foreseen."""
    plain, count = _CANADAS_DUTIES.subn(_PLAIN_DUTIES, shipped_text())
    assert count == 1, "Canada's rotas stand where they stood"
    return plain


@dataclass
class Rig:
    """The service, not started, and what tests ask of it."""

    service: Service
    clock: ManualClock
    keys: KeyRing
    broker: MemoryBroker
    client: httpx.AsyncClient
    database: Database
    application: FastAPI

    @property
    def deps(self) -> RosterDeps:
        """What handlers are given."""
        return cast("RosterDeps", self.service.deps)

    def administrator(self) -> dict[str, str]:
        """The headers of whoever holds the key file of the installation."""
        return self.headers(administrator("tests"))

    def headers(self, principal: Principal) -> dict[str, str]:
        """A token for a principal, without asking for its credential."""
        token = issue_token(self.keys, principal, now=self.clock.now(), token_id=self.deps.ids.new())
        return {"Authorization": f"Bearer {token}"}

    async def sign_in(self, client_id: str, secret: str) -> dict[str, str]:
        """The headers that a credential buys; raises `Unauthenticated` as the service does."""
        async with self.database.transaction() as tx:
            return self.headers(await authenticate(tx, client_id, secret))

    async def apply(self, content: str | None = None, *, headers: dict[str, str] | None = None, **query: Any) -> Any:
        """Applies a network file, the shipped one unless another is given; the answer."""
        return await self.client.post(
            "/v1/network",
            content=(network_text() if content is None else content).encode(),
            headers={"Content-Type": "application/toml", **(headers or self.administrator())},
            params=query,
        )

    async def stored(self, partner: str) -> PartnerState:
        """What is stored of a partner."""
        async with self.database.transaction() as tx:
            found = await store.find_partner(tx, self.keys, partner)
        assert found is not None, f"{partner} is not there"
        return found.state

    async def publish_plans(self) -> None:
        """Lets the loop publish until nothing is due."""
        while await self.service.loops["plans"].run_once():
            pass

    async def events(self, event: type[Event], partner: str | None = None) -> list[Any]:
        """Outbox events of a type, in order of their making."""
        rows = await self.rows(
            "SELECT type, body FROM outbox WHERE type = :type ORDER BY occurred_at, id", type=event.type
        )
        found = [parse(row.type, row.body.encode()) for row in rows]
        return [one for one in found if partner is None or getattr(one, "partner", None) == partner]

    async def plan(self, partner: str) -> DutyPlanPublished:
        """The newest duty plan of a partner."""
        found: list[DutyPlanPublished] = await self.events(DutyPlanPublished, partner)
        return max(found, key=lambda plan: plan.plan_version)

    async def changed(self, partner: str) -> PartnerChanged:
        """What was last said of a partner."""
        found: list[PartnerChanged] = await self.events(PartnerChanged, partner)
        return max(found, key=lambda changed: changed.version)

    async def credentials(self, partner: str) -> CredentialsPublished:
        """The credentials that were last published of a partner."""
        found: list[CredentialsPublished] = await self.events(CredentialsPublished, partner)
        return max(found, key=lambda published: published.version)

    async def rows(self, sql: str, **values: Any) -> list[Any]:
        """What a query finds."""
        async with self.database.transaction() as tx:
            return list((await tx.execute(text(sql), values)).all())

    async def count(self, table: str) -> int:
        """How many rows a table has."""
        return int((await self.rows(f"SELECT count(*) FROM {table}"))[0][0])  # noqa: S608 - our own names

    async def dump(self) -> str:
        """Every row of every table as text, for what must not be there in clear."""
        names = await self.rows("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        parts = [str(await self.rows(f"SELECT t::text FROM {row.tablename} t")) for row in names]  # noqa: S608
        return "\n".join(parts)

    def message(self, body: Event) -> Message[Any]:
        """An event as it comes from the bus."""
        return Message(
            id=MessageId(self.deps.ids.new()),
            body=body,
            occurred_at=self.clock.now(),
            correlation_id=self.deps.ids.new(),
        )


async def applied(rig: Rig) -> None:
    """The shipped network is known, with plain rotas for Canada."""
    answer = await rig.apply()
    assert answer.status_code == 200, answer.text


@asynccontextmanager
async def roster_rig(
    cluster: Cluster, *, after: Callable[[Rig], Awaitable[None]] | None = None, **settings: Any
) -> AsyncIterator[Rig]:
    """The service on a database of its own, its loops at rest. What comes `after` a fresh one is done for the first
    test that asks for it, by the name of the function; the others get a copy of the database that it leaves.
    """
    await cluster.prepare("roster", template("roster"))
    state = f"{after.__module__}.{after.__qualname__}" if after is not None else ""
    if after is not None and state not in cluster.kept:
        keys = KeyRing.generate()
        async with cluster.clone("roster") as clone:
            async with _rig_on(clone, keys, SeededBits(11), settings) as rig:
                await after(rig)
            await cluster.keep("roster", clone, state)
        cluster.kept[state] = keys
    async with cluster.clone("roster", state=state) as clone:
        # Ids are drawn from elsewhere than those that the state has already.
        keys, seed = (cluster.kept[state], 12) if state else (KeyRing.generate(), 11)
        async with _rig_on(clone, keys, SeededBits(seed), settings) as rig:
            yield rig


@asynccontextmanager
async def _rig_on(clone: Clone, keys: KeyRing, bits: SeededBits, settings: dict[str, Any]) -> AsyncIterator[Rig]:
    clock = ManualClock(NOW)
    ids = Ids(clock.now, bits)
    broker = MemoryBroker(clock)
    bus = MemoryBus(clock, broker=broker)
    await bus.start()
    service = build(
        Settings(roster_database_url=SecretStr(clone.url), **settings),
        clock=clock,
        ids=ids,
        keys=keys,
        bus=bus,
        files=WORKER,
        shifts=WORKER,
    )
    app = host([service])
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=True)
    try:
        async with httpx.AsyncClient(transport=transport, base_url="http://roster.test") as client:
            yield Rig(service, clock, keys, broker, client, service.deps.intake, app)
    finally:
        await service.deps.relay.drain()
        await service.deps.intake.close()
        await service.deps.database.close()
