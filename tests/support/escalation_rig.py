"""Escalation alone, built as in production, on a real database: time, chance, the bus and the outside world are the
test's.

`Outlet` stands where the webhook channel is: it records what leaves the house and answers as the test says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import httpx
import orjson
from fastapi import FastAPI
from pydantic import SecretStr

from services.escalation.app import build
from services.escalation.channels import AttemptState, Outgoing, Reason, SendResult
from services.escalation.deps import EscalationDeps
from services.escalation.handlers import SUBSCRIPTIONS
from shared.clock import ManualClock
from shared.contracts import (
    DEFAULT_DEADLINES,
    Actor,
    AlertEnded,
    AlertReleased,
    ChannelName,
    CredentialKind,
    CredentialsPublished,
    DutyPlanPublished,
    EndReason,
    EscalationKind,
    Info,
    LevelTarget,
    MsgType,
    PlannedContact,
    PlannedEndpoint,
    PlannedLevel,
    PlannedOffice,
    PlannedPoint,
    PlannedRota,
    PlannedShift,
    Precedence,
    PublishedCredential,
    Recipient,
    Role,
    Status,
    Tlp,
)
from shared.db import raw
from shared.events import Event, Message
from shared.ids import Ids, MessageId, SeededBits, derived
from shared.keys import KeyRing, point_context
from shared.loops import run_until_idle
from shared.migrate import template
from shared.process import Service
from shared.security import Principal, PrincipalKind, issue_token
from shared.settings import Settings
from shared.web import build_app
from tests.support.cluster import Cluster
from tests.support.memory_bus import MemoryBroker, MemoryBus

KABUL = datetime(2021, 8, 15, 9, 30, tzinfo=UTC)

ACCEPTED = SendResult(AttemptState.DELIVERED, Reason.ACCEPTED, None, 204, None, 0.01)
REFUSED = SendResult(AttemptState.FAILED, Reason.HTTP_STATUS, "HTTP 500", 500, None, 0.01)


def sent_by(name: str) -> SendResult:
    """What a channel answers whose provider has taken a message; each gets a provider id of its own."""
    return SendResult(AttemptState.SENT, Reason.ACCEPTED, None, 201, None, 0.01, provider=f"{name} provider")


def message(body: Event, ids: Ids, at: datetime) -> Message[Any]:
    """An event as it comes from the bus."""
    return Message(id=MessageId(ids.new()), body=body, occurred_at=at, correlation_id=ids.new())


@dataclass
class Outlet:
    """The outside world: remembers every page, and answers by contact point."""

    name: str = "webhook"
    provider: str = "webhook"
    usual: SendResult = ACCEPTED
    sent: list[Outgoing] = field(default_factory=list)
    answers: dict[str, SendResult] = field(default_factory=dict)
    on_send: Callable[[Outgoing], Any] | None = None

    async def send(self, page: Outgoing) -> SendResult:
        self.sent.append(page)
        if self.on_send is not None:
            await self.on_send(page)
        answer = next((answer for part, answer in self.answers.items() if part in page.target), self.usual)
        if answer.state is AttemptState.SENT:
            return replace(answer, provider_id=f"{page.page_id}.{page.attempt}")
        return answer

    def make_ready(self, page: Outgoing) -> Outgoing:
        """Nothing is signed here."""
        return page

    async def prepare(self, contact_point_id: UUID, target: str) -> None:
        """Nothing is warmed here."""

    async def close(self) -> None:
        """Nothing is held here."""

    def take(self) -> list[tuple[str, str]]:
        """What has left since the last call, as (message type, target), in order of sending; forgets it."""
        taken = [(page.message_type, page.target.removeprefix("https://")) for page in self.sent]
        self.sent.clear()
        return taken

    def data(self, index: int = -1) -> dict[str, Any]:
        """The data of one message that was sent."""
        return cast("dict[str, Any]", orjson.loads(self.sent[index].body)["data"])


@dataclass
class Rig:
    """Escalation, its clock and its outside world."""

    service: Service
    clock: ManualClock
    outlet: Outlet
    broker: MemoryBroker
    bus: MemoryBus
    keys: KeyRing
    ids: Ids
    outlets: dict[str, Outlet] = field(default_factory=dict)
    """Every channel by its name; `outlet` is the webhook's."""
    callers: dict[str, Principal] = field(default_factory=dict)
    """Whose credentials are published, by client id."""

    @cached_property
    def application(self) -> FastAPI:
        """The service's routes in an application of their own, as the process serves them; made once."""
        return build_app("Escalation", self.service.routers, service="escalation", clock=self.clock, ids=self.ids)

    @property
    def deps(self) -> EscalationDeps:
        return cast("EscalationDeps", self.service.deps)

    async def handle(self, body: Event, *, twice: bool = True) -> None:
        """Handles an event, and handles the same message again, which must change nothing."""
        arrived = message(body, self.ids, self.clock.now())
        for _ in range(2 if twice else 1):
            await SUBSCRIPTIONS[type(body)](self.deps, arrived)

    async def settle(self) -> None:
        """Runs bus and loops until nothing is left to do at this instant."""
        loops = [
            self.service.loops[name] for name in ("timers", "coverage", "delivery", "recorder", "relay", "sequencer")
        ]
        for _ in range(50):
            done = await run_until_idle(loops)
            await self.service.deps.relay.drain()
            done += await self.bus.run_once()
            delivery = self.service.loops["delivery"].run_once
            await cast("Any", delivery).__self__.idle()
            if not done:
                return
        raise AssertionError("escalation never came to rest")

    async def forward(self, **duration: float) -> None:
        """Moves time on, from due time to due time, and settles at each."""
        target = self.clock.now() + timedelta(**duration)
        while (due_at := await self._next_due()) is not None and due_at <= target:
            self.clock.advance(max(0.0, (due_at - self.clock.now()).total_seconds()))
            await self.settle()
        self.clock.advance((target - self.clock.now()).total_seconds())
        await self.settle()

    async def rows(self, sql: str, *values: object) -> list[Any]:
        """What a query finds."""
        async with self.deps.database.transaction() as tx:
            return list(await (await raw(tx)).fetch(sql, *values))

    async def escalation(self, partner: str, kind: str = "answer") -> Any:
        """The newest escalation row of a partner."""
        rows = await self.rows(
            "SELECT * FROM escalations WHERE partner = $1 AND kind = $2 ORDER BY opened_at DESC, id DESC LIMIT 1",
            partner,
            kind,
        )
        return rows[0]

    async def events(self, name: str) -> list[Any]:
        """The bodies of the events of one name that were written to the outbox, oldest first."""
        rows = await self.rows("SELECT body FROM outbox WHERE type LIKE '%.' || $1 || '.v1' ORDER BY id", name)
        return [orjson.loads(row["body"]) for row in rows]

    async def _next_due(self) -> datetime | None:
        rows = await self.rows(
            "SELECT least((SELECT min(due_at) FROM escalations WHERE due_at > $1),"
            " (SELECT min(due_at) FROM coverage_goals WHERE state = 'open' AND due_at > $1),"
            " (SELECT min(due_at) FROM pages WHERE state = 'due' AND due_at > $1)) AS due_at",
            self.clock.now(),
        )
        return cast("datetime | None", rows[0]["due_at"])

    # --- what there is ------------------------------------------------------------------------------------------------

    def point(self, name: str, channel: ChannelName = ChannelName.WEBHOOK, **changes: Any) -> PlannedPoint:
        """A contact point: a webhook `https://<name>`, or the name itself as the address on another channel."""
        point_id = derived("point", channel, name) if channel is not ChannelName.WEBHOOK else derived("point", name)
        address = f"https://{name}" if channel is ChannelName.WEBHOOK else name
        sealed = self.keys.seal(address, context=point_context(point_id))
        fields: dict[str, Any] = {"id": point_id, "channel": channel, "sealed_address": sealed, "verified": True}
        return PlannedPoint(**{**fields, **changes})

    def contact(self, partner: str, number: int, *, reachable: bool = True) -> PlannedContact:
        """Person `number` of a partner, reached at `<partner>-<number>`."""
        name = f"{partner.lower()}-{number}"
        return PlannedContact(
            id=derived("contact", name),
            name=f"Example Person {number} of {partner}",
            title=f"Senior contact {number}",
            points=(self.point(name),) if reachable else (),
            subjects=(name,),
        )

    def plan(self, partner: str, *, levels: int = 2, version: int = 1, **changes: Any) -> DutyPlanPublished:
        """A plan with one person per level in a rota each, an office and one endpoint."""
        now = self.clock.now()
        contacts = tuple(self.contact(partner, number) for number in range(1, levels + 1))
        rotas = tuple(
            PlannedRota(
                id=derived("rota", partner, str(number)),
                name=f"Level {number}",
                shifts=(
                    PlannedShift(
                        contact_id=contact.id, start_at=now - timedelta(days=1), end_at=now + timedelta(days=13)
                    ),
                ),
            )
            for number, contact in enumerate(contacts, start=1)
        )
        endpoint_id = derived("point", f"{partner.lower()}-system")
        fields: dict[str, Any] = {
            "partner": partner,
            "plan_version": version,
            "computed_at": now,
            "valid_from": now - timedelta(days=1),
            "valid_until": now + timedelta(days=13),
            "time_zone": "Europe/London",
            "levels": tuple(PlannedLevel(targets=(LevelTarget(kind="rota", id=rota.id),)) for rota in rotas),
            "rotas": rotas,
            "contacts": contacts,
            "office": PlannedOffice(
                id=derived("office", partner),
                name=f"Duty office {partner}",
                switchboard="+999000100",
                embassies=(("CA", "+999000200"),),
                points=(self.point(f"{partner.lower()}-office"),),
            ),
            "endpoints": (
                PlannedEndpoint(
                    id=endpoint_id,
                    sealed_url=self.keys.seal(f"https://{partner.lower()}-system", context=point_context(endpoint_id)),
                    description="crisis room",
                ),
            ),
            "deadlines": DEFAULT_DEADLINES,
        }
        return DutyPlanPublished(**{**fields, **changes})

    def released(self, *to: str, informed: tuple[str, ...] = (), **changes: Any) -> AlertReleased:
        """An alert of Canada about Kabul, released now."""
        now = self.clock.now()
        alert_id = changes.pop("alert_id", None) or self.ids.new()
        officer = Actor(
            subject="ca-1", partner="CA", name="Example Person 1 of CA", contact_id=derived("contact", "ca-1")
        )
        recipients = [Recipient(partner=code, addressed_at=now) for code in to]
        recipients += [Recipient(partner=code, kind=EscalationKind.INFORMATION, addressed_at=now) for code in informed]
        fields: dict[str, Any] = {
            "alert_id": alert_id,
            "root_alert_id": alert_id,
            "reference": "RP-CA-2021-0001",
            "crisis_id": derived("crisis", "kabul"),
            "raiser": "CA",
            "status": Status.ACTUAL,
            "msg_type": MsgType.ALERT,
            "precedence": Precedence.FLASH,
            "tlp": Tlp.AMBER,
            "released_at": now,
            "expires_at": now + timedelta(days=2),
            "recipients": tuple(recipients),
            "released_by": officer,
            "drafted_by": officer,
            "info": (Info(event="Evacuation", headline="Kabul: evacuation before the airport closes"),),
        }
        return AlertReleased(**{**fields, **changes})

    def update_of(self, earlier: AlertReleased, **changes: Any) -> AlertReleased:
        """An Update that corrects an alert, to the same partners, released now."""
        return earlier.model_copy(
            update={
                "alert_id": self.ids.new(),
                "corrects": earlier.alert_id,
                "msg_type": MsgType.UPDATE,
                "released_at": self.clock.now(),
                **changes,
            }
        )

    def ended(self, alert: AlertReleased, reason: Any = EndReason.CANCELLED) -> AlertEnded:
        """The end of an alert, now."""
        return AlertEnded(
            alert_id=alert.alert_id,
            root_alert_id=alert.root_alert_id,
            reference=alert.reference,
            raiser=alert.raiser,
            reason=reason,
            ended_at=self.clock.now(),
            recipients=alert.recipients,
        )


def person(partner: str, *roles: Role, number: int = 1) -> Principal:
    """Person `number` of a partner, as the contact of the same name in its plan."""
    name = f"{partner.lower()}-{number}"
    return Principal(
        subject=name,
        client_id=name,
        partner=partner,
        roles=frozenset(roles or (Role.SENIOR_CONTACT,)),
        kind=PrincipalKind.PERSON,
        name=f"Example Person {number} of {partner}",
        contact_id=derived("contact", name),
    )


def system(partner: str) -> Principal:
    """A partner's own system."""
    return Principal(
        subject=f"{partner.lower()}-system",
        client_id=f"{partner.lower()}-system",
        partner=partner,
        roles=frozenset({Role.SENIOR_CONTACT}),
        kind=PrincipalKind.SYSTEM,
        name=f"System of {partner}",
    )


async def publish_credentials(rig: Rig, people: Sequence[Principal]) -> None:
    """The credentials of these callers, as roster publishes them; each calls with the roles that it has here."""
    rig.callers.update({one.client_id: one for one in people})
    for code in sorted({one.partner for one in people}):
        held = tuple(
            PublishedCredential(
                client_id=one.client_id,
                kind=CredentialKind(one.kind.value),
                subject=one.subject,
                name=one.name,
                partner=code,
                roles=tuple(one.roles),
                contact_id=one.contact_id,
                secret_sha256="0" * 64,
            )
            for one in people
            if one.partner == code
        )
        await rig.handle(CredentialsPublished(partner=code, version=1, credentials=held))


@asynccontextmanager
async def calling(rig: Rig, principal: Principal | None) -> AsyncIterator[httpx.AsyncClient]:
    """A client that calls as this principal, whose credential is published."""
    headers = {}
    if principal is not None:
        caller = replace(rig.callers.get(principal.client_id, principal), credential_version=1)
        token = issue_token(rig.keys, caller, now=rig.clock.now(), token_id=rig.ids.new())
        headers = {"Authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(rig.application)
    async with httpx.AsyncClient(transport=transport, base_url="http://escalation", headers=headers) as client:
        yield client


@asynccontextmanager
async def escalation_rig(
    cluster: Cluster,
    tmp_path: Path,
    *,
    people: Sequence[str] = (),
    channels: Mapping[str, Any] | None = None,
    clock: ManualClock | None = None,
    **settings: Any,
) -> AsyncIterator[Rig]:
    """A rig on a fresh database, with the handlers subscribed and no loop running.

    `people` names the channels to people that there are beside the webhook, each with a provider of its own;
    `channels` are real ones beside them.
    """
    await cluster.prepare("escalation", template("escalation"))
    clock = clock or ManualClock(KABUL)
    ids = Ids(clock.now, SeededBits(7))
    keys = KeyRing.generate()
    broker = MemoryBroker(clock)
    bus = MemoryBus(clock, broker=broker)
    outlet = Outlet()
    outlets = {name: Outlet(name=name, provider=f"{name} provider", usual=sent_by(name)) for name in people}
    async with cluster.clone("escalation") as database:
        service = build(
            Settings(data_dir=tmp_path, escalation_database_url=SecretStr(database.url), **settings),
            clock=clock,
            ids=ids,
            keys=keys,
            bus=bus,
            channels={"webhook": outlet, **outlets, **(channels or {})},
            jitter=lambda: 0.5,
        )
        for subscription in service.subscriptions:
            await bus.subscribe(subscription)
        await bus.start()
        yield Rig(service, clock, outlet, broker, bus, keys, ids, {"webhook": outlet, **outlets})
        await service.deps.relay.drain()
        await bus.stop()
        await service.deps.intake.close()
        await service.deps.database.close()
