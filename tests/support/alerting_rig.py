"""alerting alone, on a real database: people of every partner, a clock that moves when told, and what was published."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from typing import Any
from uuid import UUID

import httpx
import orjson
from sqlalchemy import insert, text

from services.alerting import api, tables
from services.alerting.calls import Call
from services.alerting.content import Proposal
from services.alerting.expiry import expiry_loop
from services.alerting.line_tests.loop import line_tests_loop
from services.alerting.stream import News, news_loop
from shared.clock import ManualClock
from shared.contracts import Precedence, Role
from shared.db import Database
from shared.events import Cause, Message
from shared.idempotency import Attempt
from shared.ids import Ids, MessageId, SeededBits
from shared.keys import KeyRing
from shared.migrate import template
from shared.outbox import Relay
from shared.process import Deps
from shared.security import Principal, PrincipalKind, credentials, issue_token
from shared.settings import load
from shared.web import build_app
from tests.support.cluster import Cluster

KABUL = datetime(2021, 8, 15, 9, 30, tzinfo=UTC)
"""The day on which the Afghan government fell and embassies in Kabul told their citizens to shelter in place."""

PARTNERS = ("US", "AU", "CA", "ES", "IT", "NZ", "GB", "EU", "DE", "BR", "XR")

ROLES: dict[str, tuple[Role, ...]] = {
    "officer": (Role.DUTY_OFFICER,),
    "second": (Role.RELEASER,),
    "drafter": (Role.DRAFTER,),
    "senior": (Role.SENIOR_CONTACT,),
    "keeper": (Role.ROSTER_MANAGER,),
    "observer": (Role.OBSERVER,),
    "auditor": (Role.AUDITOR,),
    "administrator": (Role.ADMINISTRATOR,),
    "secretariat": (Role.SECRETARIAT,),
}


def person(partner: str, what: str = "officer", *, number: int = 1) -> Principal:
    """A made-up person of a partner, by what they are there for; `system` is a system with an officer's roles."""
    kind = PrincipalKind.SYSTEM if what == "system" else PrincipalKind.PERSON
    return Principal(
        subject=f"{partner.lower()}-{what}-{number}",
        client_id=f"{partner.lower()}-{what}-{number}",
        partner=partner,
        roles=frozenset(ROLES.get(what, (Role.DUTY_OFFICER, Role.RELEASER))),
        kind=kind,
        name=f"{what.title()} {number} of {partner}",
        credential_version=1,
    )


@cache
def everybody() -> tuple[Principal, ...]:
    """One person of each kind, and a second officer, for every partner."""
    people = [person(partner, what) for partner in PARTNERS for what in (*ROLES, "system")]
    return (*people, *(person(partner, number=2) for partner in PARTNERS))


def proposal(**changes: Any) -> Proposal:
    """The least alert about Kabul, with changes."""
    fields: dict[str, Any] = {
        "headline": "Kabul: evacuation of people at risk before the airport closes",
        "countries": ("AF",),
        "to": ("US", "GB", "DE"),
        "precedence": Precedence.FLASH,
    }
    return Proposal(**{**fields, **changes})


class Recorder:
    """The broker's place: confirms everything, or nothing, and remembers what it was given."""

    def __init__(self) -> None:
        self.published: list[Message[Any]] = []
        self.confirms = True

    async def publish(self, messages: Sequence[Message[Any]], *, timeout_seconds: float) -> set[MessageId]:  # noqa: ARG002
        """Takes the messages."""
        if not self.confirms:
            return set()
        self.published += messages
        return {message.id for message in messages}


@dataclass
class Rig:
    """What handlers are given, and what tests look at."""

    deps: Deps
    clock: ManualClock
    bus: Recorder
    news: News
    url: str
    _app: Any = None

    def call(self, principal: Principal, *, key: str | None = None, sha256: str = "0" * 64) -> Call:
        """A request of somebody, with or without an Idempotency-Key."""
        attempt = None if key is None else Attempt(principal.client_id, "POST /v1/alerts", key, sha256)
        cause = Cause(correlation_id=self.deps.ids.new(), subject=principal.subject, partner=principal.partner)
        return Call(principal=principal, cause=cause, request_sha256=sha256, attempt=attempt)

    def message(self, body: Any) -> Message[Any]:
        """An event as it comes from the bus."""
        ids = self.deps.ids
        return Message(id=MessageId(ids.new()), body=body, occurred_at=self.clock.now(), correlation_id=ids.new())

    def client(self, principal: Principal | None = None) -> httpx.AsyncClient:
        """An HTTP client that speaks for somebody."""
        headers = {}
        if principal is not None:
            token = issue_token(self.deps.keys, principal, now=self.clock.now(), token_id=self.deps.ids.new())
            headers["Authorization"] = f"Bearer {token}"
        return httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app()), base_url="http://redphone.test", headers=headers
        )

    def app(self) -> Any:
        """The application as one process serves it."""
        if self._app is None:
            self._app = build_app(
                "alerting", [api.router(self.deps, self.news)], service="alerting", clock=self.clock, ids=self.deps.ids
            )
        return self._app

    async def rows(self, sql: str, **values: Any) -> list[Any]:
        """What a query finds."""
        async with self.deps.database.transaction() as tx:
            return list((await tx.execute(text(sql), values)).all())

    async def count(self, table: str) -> int:
        """How many rows a table has."""
        return int((await self.rows(f"SELECT count(*) FROM {table}"))[0][0])  # noqa: S608 - our own names

    async def whole(self, table: str) -> list[Any]:
        """Every row of a table."""
        return await self.rows(f"SELECT * FROM {table} ORDER BY 1")  # noqa: S608 - our own names

    async def delete_all(self, table: str) -> None:
        """Empties a table."""
        async with self.deps.database.transaction() as tx:
            await tx.execute(text(f"DELETE FROM {table}"))  # noqa: S608 - our own names

    async def state_of(self, alert_id: UUID) -> str:
        """The alert's state."""
        return str((await self.rows("SELECT state FROM alerts WHERE id = :id", id=alert_id))[0].state)

    async def events(self, name: str) -> list[dict[str, Any]]:
        """Bodies of the outbox rows of one kind, in order."""
        found = await self.rows(
            "SELECT body FROM outbox WHERE type = :type ORDER BY occurred_at, id", type=f"redphone.alerting.{name}.v1"
        )
        return [orjson.loads(row.body) for row in found]

    async def records(self) -> list[str]:
        """The kinds of all record rows, in order."""
        return [row.kind for row in await self.rows("SELECT kind FROM record ORDER BY recorded_at, kind")]


@asynccontextmanager
async def alerting_rig(cluster: Cluster) -> AsyncIterator[Rig]:
    """A rig on a fresh database, in which every partner is known and active and everybody has a credential."""
    await cluster.prepare("alerting", template("alerting"))
    async with cluster.clone("alerting") as clone:
        database = Database(clone.url, pool_size=8)
        clock = ManualClock(KABUL)
        bus = Recorder()
        deps = Deps(
            service="alerting",
            settings=load({}),
            clock=clock,
            ids=Ids(clock.now, SeededBits(7)),
            keys=_keys(),
            database=database,
            intake=database,
            relay=Relay(database, bus, clock),
        )
        news = News(database)
        own_loops = (expiry_loop(deps), line_tests_loop(deps), news_loop(news, clock))
        deps.loops.update({loop.name: loop for loop in own_loops})
        deps.first_pull.set()
        async with database.transaction() as tx:
            known = [
                {"code": code, "name": code, "standing": "member", "active": True, "version": 1} for code in PARTNERS
            ]
            await tx.execute(insert(tables.partners), known)
            await tx.execute(insert(credentials), [_credential(one) for one in everybody()])
        try:
            yield Rig(deps, clock, bus, news, clone.url)
        finally:
            await database.close()


@cache
def _keys() -> KeyRing:
    return KeyRing.generate()


def _credential(principal: Principal) -> dict[str, Any]:
    return {
        "client_id": principal.client_id,
        "kind": principal.kind.value,
        "subject": principal.subject,
        "name": principal.name,
        "partner": principal.partner,
        "roles": [role.value for role in principal.roles],
        "contact_id": None,
        "secret_sha256": "0" * 64,
        "revoked_at": None,
        "version": 1,
    }


def body_of(stored: Any) -> dict[str, Any]:
    """A handler's answer."""
    decoded: dict[str, Any] = orjson.loads(stored.body)
    return decoded


def id_of(stored: Any) -> UUID:
    """The id in a handler's answer."""
    return UUID(body_of(stored)["id"])
