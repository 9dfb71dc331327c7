"""alerting alone, on a real database: people of several partners, a clock that moves when told, and what was published."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import text

from services.alerting.content import Proposal
from services.alerting.handlers import Call
from shared.clock import ManualClock
from shared.contracts import Area, Info, Precedence, Role, Severity
from shared.db import Database
from shared.events import Cause, Event, Message
from shared.idempotency import Attempt
from shared.ids import Ids, MessageId, SeededBits
from shared.migrate import template
from shared.outbox import Relay
from shared.security import Principal, PrincipalKind
from tests.support.cluster import Cluster

KABUL = datetime(2021, 8, 15, 9, 30, tzinfo=UTC)
"""The day on which the Afghan government fell and embassies in Kabul told their citizens to shelter in place."""

PARTNERS = ("US", "AU", "CA", "ES", "IT", "NZ", "GB", "EU", "DE", "BR", "XR")

ALL_ROLES = {
    "officer": (Role.DUTY_OFFICER,),
    "second": (Role.RELEASER,),
    "drafter": (Role.DRAFTER,),
    "senior": (Role.SENIOR_CONTACT,),
    "keeper": (Role.ROSTER_MANAGER,),
    "observer": (Role.OBSERVER,),
    "auditor": (Role.AUDITOR,),
    "administrator": (Role.ADMINISTRATOR,),
    "secretariat": (Role.SECRETARIAT, Role.DUTY_OFFICER),
}


def person(
    partner: str, what: str = "officer", *, number: int = 1, kind: PrincipalKind = PrincipalKind.PERSON
) -> Principal:
    """A made-up person of a partner, by what they are there for."""
    return Principal(
        subject=f"{partner.lower()}-{what}-{number}",
        client_id=f"{partner.lower()}-{what}-{number}",
        partner=partner,
        roles=frozenset(ALL_ROLES[what]),
        kind=kind,
        name=f"{what.title()} {number} of {partner}",
    )


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
    """The broker's place: confirms everything and remembers it."""

    def __init__(self) -> None:
        self.published: list[Message[Any]] = []
        self.confirms = True

    async def publish(self, messages: Sequence[Message[Any]], *, timeout_seconds: float) -> set[MessageId]:
        if not self.confirms:
            return set()
        self.published += messages
        return {message.id for message in messages}


@dataclass
class Rig:
    """What handlers are given, and what tests look at."""

    database: Database
    clock: ManualClock
    ids: Ids
    bus: Recorder
    relay: Relay
    service: str = "alerting"
    woken: list[str] = field(default_factory=list)

    @property
    def intake(self) -> Database:
        return self.database

    def wake(self, *names: str) -> None:
        self.woken += names

    def consumer(self, event: type[Event]) -> str:
        return f"{self.service}-{event.name}-v{event.version}"

    def call(self, principal: Principal, *, key: str | None = None, sha256: str = "0" * 64) -> Call:
        """A request of somebody, with or without an Idempotency-Key."""
        attempt = None if key is None else Attempt(principal.client_id, "POST /v1/alerts", key, sha256)
        cause = Cause(correlation_id=self.ids.new(), subject=principal.subject, partner=principal.partner)
        return Call(principal=principal, cause=cause, request_sha256=sha256, attempt=attempt)

    def message(self, body: Any) -> Message[Any]:
        """An event as it comes from the bus."""
        return Message(
            id=MessageId(self.ids.new()), body=body, occurred_at=self.clock.now(), correlation_id=self.ids.new()
        )

    async def rows(self, sql: str, **values: Any) -> list[Any]:
        """What a query finds."""
        async with self.database.transaction() as tx:
            return list((await tx.execute(text(sql), values)).all())

    async def count(self, table: str) -> int:
        """How many rows a table has."""
        return int((await self.rows(f"SELECT count(*) FROM {table}"))[0][0])

    async def events(self, type_: str) -> list[Any]:
        """Bodies of the outbox rows of one type, in order."""
        found = await self.rows(
            "SELECT body FROM outbox WHERE type LIKE :pattern ORDER BY occurred_at, id", pattern=f"%.{type_}.%"
        )
        import orjson

        return [orjson.loads(row.body) for row in found]


@asynccontextmanager
async def alerting_rig(cluster: Cluster, *, partners: Sequence[str] = PARTNERS) -> AsyncIterator[Rig]:
    """A rig on a fresh database in which these partners are known and active."""
    await cluster.prepare("alerting", template("alerting"))
    async with cluster.clone("alerting") as clone:
        database = Database(clone.url, pool_size=8)
        clock = ManualClock(KABUL)
        bus = Recorder()
        rig = Rig(database, clock, Ids(clock.now, SeededBits(7)), bus, Relay(database, bus, clock))
        async with database.transaction() as tx:
            for code in partners:
                await tx.execute(text("INSERT INTO partners VALUES (:code, :code, 'member', true, 1)"), {"code": code})
        try:
            yield rig
        finally:
            await database.close()


def alert_id_of(stored: Any) -> UUID:
    """The id in a handler's answer."""
    import orjson

    return UUID(orjson.loads(stored.body)["id"])


__all__ = [
    "KABUL",
    "PARTNERS",
    "Area",
    "Info",
    "Recorder",
    "Rig",
    "Severity",
    "alert_id_of",
    "alerting_rig",
    "person",
    "proposal",
]
