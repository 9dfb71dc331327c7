"""A whole network in one seed: alerting and two instances of escalation on real databases, and everything that can
happen to them, one step at a time.

The seed decides which step comes next: people raise, correct, cancel, acknowledge, answer and take over; plans change,
run out and cannot be read; receivers fail; the bus loses its head, repeats itself and reorders; time moves, also far;
processes die before and after a commit and between sending and recording. First safety: `invariants.SAFETY` after every
step. Then liveness: the faults end, time moves on, and `invariants.LIVENESS` must hold; then every message is replayed
and nothing may change; then the alerts expire and everything must have ended. One seed is one trace.

    python -m tests.simulation.simulator --seeds 1000 --from 1
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any, cast
from unittest import mock
from uuid import UUID

import asyncpg
import orjson
import structlog
from structlog.testing import capture_logs

from services.alerting import handlers as alerting
from services.alerting.app import build as build_alerting
from services.alerting.calls import Call
from services.alerting.content import Proposal
from services.escalation import answers, handed
from services.escalation.answers import PositionRequest
from services.escalation.app import build as build_escalation
from services.escalation.channels import AttemptState, ProviderStatus, Reason
from services.escalation.deps import EscalationDeps
from services.escalation.handlers.rosters import LEFT_BEHIND_SECONDS
from services.escalation.joining import handlers as asked
from services.escalation.leased import LEASE_SECONDS
from services.escalation.receipts import note_status
from shared import feed
from shared.clock import ManualClock
from shared.contracts import (
    AlertReleased,
    ChannelName,
    LevelTarget,
    PartnerChanged,
    PlannedContact,
    PlannedLevel,
    PlannedRota,
    PositionStance,
    Precedence,
    Role,
    Standing,
)
from shared.errors import Rejected
from shared.events import Cause, Event, Message, headers_of
from shared.idempotency import Attempt, StoredResponse
from shared.ids import Ids, MessageId, SeededBits, derived
from shared.keys import KeyRing
from shared.loops import Loop
from shared.migrate import template
from shared.process import Service
from shared.security import Principal
from shared.settings import Settings
from tests.simulation import invariants
from tests.simulation.invariants import Happened, Ledger, Moment, Quiet, Row, Sent, Snapshot, Violated
from tests.simulation.nodes import AFTER_COMMIT, BEFORE_COMMIT, Died, Node
from tests.support import alerting_rig
from tests.support.cluster import Cluster
from tests.support.escalation_rig import REFUSED, Outlet, Rig, person, sent_by, system
from tests.support.memory_bus import MemoryBroker, MemoryBus, Pending
from tests.support.world import STARTED_AT, settings_for

PARTNERS = ("CA", "GB", "US", "DE", "XR")
RAISERS = ("CA", "GB")
LEVELS_MAX = 3
NOBODY_THERE = replace(REFUSED, reason=Reason.ADDRESS_UNKNOWN)
"""What a provider says of a number that nobody has."""

STEPS = 130
ALERTS_MAX = 4
TRACE_SHOWN = 25
IDLE_TRIES_MAX = 20
NOTHING = "-"
"""What an action says that found nothing to do: it is no step."""

MANY_AT_ONCE = frozenset({"pull", "acknowledge_early", "tick", "crash"})
"""Actions in which one escalation may be decided on more than once."""

UNREADABLE_PLAN = '{"partner"'

CALM_SECONDS = LEASE_SECONDS + 2
"""By then the relays have taken over what nobody published, and the leases of the dead have lapsed."""

NIGHT_SECONDS = 11 * 3600
"""By then it is morning for everybody, and what did not ring at night has been told."""

QUIET_STEPS_ONE_BY_ONE = 40
"""From due time to due time so often; then at once to `unreached`, for a partner may have its last level rung every
minute for hours."""

QUIET_STEPS_MAX = 60
"""So many steps at most until the last partner that is asked has answered or is unreached."""

ANNOUNCED = frozenset(
    {
        "duty_plan.lacking",
        "duty_plan.unreadable",
        "alert.unconfirmed",
        "alert.arrived_expired",
        "reconciler.alarm_raised",
        "feed.pull_failed",
        "feed.recovered",
        "message.postponed",
    }
)
"""What a service may log at WARNING or above when the world is as bad as it is here."""

SHOWN = (
    "escalations_started",
    "partner_notified",
    "level_raised",
    "partner_acknowledged",
    "position_taken",
    "partner_unreached",
    "partner_taken_over",
    "escalations_ended",
)
"""Events of escalation that alerting's timeline shows."""

ESCALATIONS = """
    SELECT id, alert_id, partner, kind, subject_partner, raiser, state, level, jsonb_array_length(levels) AS levels,
        opened_at, expires_at, acknowledge_by_at, next_level_every_seconds, unreached_at, due_at, due_reason,
        acknowledged_at, acknowledged_by ->> 'subject' AS acknowledged_by, position ->> 'stance' AS position_stance,
        position ->> 'taken_at' AS position_at, taken_over_at, end_reason, array_to_string(gaps, ' ') AS gaps,
        stopped
    FROM escalations ORDER BY id
"""
PAGES = """
    SELECT id, escalation_id, contact_point_id, contact_id, channel, told, message_type, level, asks, state, due_at,
        attempts, created_at
    FROM pages ORDER BY id
"""
ALERTS = """
    SELECT id, root_id, corrects, superseded_by, asks_anew, reference, raiser, state, addressed, recipients::text,
        unconfirmed, expires_at
    FROM alerts ORDER BY id
"""
FIRST_ATTEMPTS = """
    SELECT e.id AS escalation_id, min(a.started_at) AS first_at
    FROM escalations e JOIN alert_heads h USING (alert_id)
    JOIN alert_heads chain ON chain.root_alert_id = h.root_alert_id
    JOIN escalations earlier ON earlier.alert_id = chain.alert_id AND earlier.partner = e.partner
        AND earlier.subject_partner = e.subject_partner
    JOIN pages p ON p.escalation_id = earlier.id JOIN attempts a ON a.page_id = p.id
    WHERE e.id = ANY($1) AND NOT (a.started_at = $2 AND p.id = ANY($3)) GROUP BY 1
"""
ESCALATION_TABLES = ("alert_heads", "escalations", "pages", "attempts", "outbox", "record", "duty_plans")
ALERTING_TABLES = ("alerts", "timeline", "outbox", "record", "crises")
NEVER_THE_SAME = {"outbox": "published_at, position", "record": "position", "timeline": "position"}
"""Columns that a replay may touch: they say when something travelled, not what happened."""


class Chance:
    """Seeded dice."""

    def __init__(self, seed: int) -> None:
        self._bits = SeededBits(seed)

    def below(self, count: int) -> int:
        """A number from 0 to just below `count`."""
        return self._bits(32) % count

    def percent(self, likely: int) -> bool:
        """True in `likely` of 100 cases."""
        return self.below(100) < likely

    def pick(self, options: Sequence[Any]) -> Any:
        """One of them."""
        return options[self.below(len(options))]

    def weighted(self, options: Mapping[str, int]) -> str:
        """A name, as likely as its weight says."""
        left = self.below(sum(options.values()))
        for name, weight in options.items():
            left -= weight
            if left < 0:
                return name
        raise AssertionError("weights add up")


@dataclass
class Request:
    """What a caller has sent, so that it can be sent again with the same key."""

    key: str
    send: Callable[[], Awaitable[StoredResponse]]


class Failed(AssertionError):
    """A seed broke a promise; the message holds the seed and the end of its trace."""

    def __init__(self, seed: int, violated: BaseException, trace: Sequence[str]) -> None:
        shown = "\n".join(f"  {line}" for line in trace[-TRACE_SHOWN:])
        again = f"python -m tests.simulation.simulator --from {seed} --seeds 1"
        super().__init__(f"seed {seed}: {violated!r}\n{shown}\nagain: {again}")
        self.seed = seed
        self.violated = violated


@dataclass
class Arena:
    """Two empty databases that many seeds play in, one after the other."""

    settings: Settings
    keys: KeyRing
    alerting: asyncpg.Connection[Any]
    escalation: asyncpg.Connection[Any]

    async def clear(self) -> None:
        """Empties every table."""
        for connection in (self.alerting, self.escalation):
            names = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
            listed = ", ".join(sorted(row["tablename"] for row in names if "alembic" not in row["tablename"]))
            await connection.execute(f"TRUNCATE {listed}")


@asynccontextmanager
async def arena(cluster: Cluster, directory: Path) -> AsyncIterator[Arena]:
    """Fresh clones for a run of seeds."""
    for service in ("alerting", "escalation"):
        await cluster.prepare(service, template(service))
    async with cluster.clone("alerting") as one, cluster.clone("escalation") as other:
        connections = [await asyncpg.connect(clone.owner_url) for clone in (one, other)]
        try:
            yield Arena(
                settings_for({"alerting": one.url, "escalation": other.url}, directory),
                KeyRing.generate(),
                *connections,
            )
        finally:
            for connection in connections:
                await connection.close()


async def play(arena: Arena, seed: int, *, steps: int = STEPS) -> list[str]:
    """Plays one seed and returns its trace. Raises `Failed` where a promise is broken."""
    await arena.clear()
    simulation = Simulation(arena, seed)
    # Every other seed hands just-committed pages to the senders, as a service does whose loops run.
    running = property(lambda loop: seed % 2 == 1 and loop.name == "delivery")
    asyncio.get_running_loop().set_exception_handler(_pass_over_the_dead)
    with (
        _heard(simulation),
        mock.patch.object(feed, "PULL_CONCURRENCY", 1),
        mock.patch.object(Loop, "running", running),
        mock.patch.object(handed, "SENDING_FIRST_SECONDS_MAX", 0),
    ):
        try:
            await simulation.begin()
            await simulation.rage(steps)
            await simulation.calm()
        except (Violated, AssertionError) as error:
            raise Failed(seed, error, simulation.trace) from error
        except Exception as error:
            raise Failed(seed, error, simulation.trace) from error
        finally:
            await simulation.end()
    return simulation.trace


def _pass_over_the_dead(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A task that ended with its process has nobody to tell."""
    if not isinstance(context.get("exception"), Died):
        loop.default_exception_handler(context)


@contextmanager
def _heard(simulation: Simulation) -> Iterator[None]:
    with capture_logs() as heard:
        simulation.heard = cast("list[dict[str, Any]]", heard)
        yield


class Simulation:
    """One seed's world."""

    def __init__(self, arena: Arena, seed: int) -> None:
        self.arena = arena
        self.chance = Chance(seed)
        self.clock = ManualClock(STARTED_AT)
        self.ids = Ids(self.clock.now, SeededBits(seed ^ 0x5EED))
        self.broker = MemoryBroker(self.clock)
        self.outlet = Outlet()
        self.short = Outlet(name="sms", provider="sms provider", usual=sent_by("sms"))
        self.outlets = (self.outlet, self.short)
        self.ledger = Ledger()
        self.snapshot = Snapshot()
        self.trace: list[str] = []
        self.heard: list[dict[str, Any]] = []
        self.requests: list[Request] = []
        self.plan_versions = dict.fromkeys(PARTNERS, 0)
        jitter = Chance(seed ^ 0x717E)

        def escalation(bus: MemoryBus) -> Service:
            return build_escalation(
                arena.settings,
                clock=self.clock,
                ids=self.ids,
                keys=arena.keys,
                bus=bus,
                channels={outlet.name: outlet for outlet in self.outlets},
                jitter=lambda: jitter.below(1000) / 1000,
            )

        def alerting_(bus: MemoryBus) -> Service:
            return build_alerting(arena.settings, clock=self.clock, ids=self.ids, bus=bus, keys=arena.keys)

        self.alerting = Node("alerting", alerting_, self.clock, self.broker)
        self.pair = [Node(f"escalation-{n}", escalation, self.clock, self.broker) for n in (1, 2)]
        self.nodes = [self.alerting, *self.pair]
        first, second = self.pair
        self.alerting.peers = {"escalation": first}
        first.peers = {"alerting": self.alerting, "escalation": second}
        second.peers = {"alerting": self.alerting, "escalation": first}
        self._seen: dict[str, list[UUID]] = {"outbox": [], "record": []}
        self._sent_before = [0] * len(self.outlets)
        self._heard_before = 0

    # --- life -------------------------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """Starts the nodes and makes the partners known."""
        for node in self.nodes:
            await node.start()
        for partner in PARTNERS:
            rig = self._rig()
            plan = rig.plan(partner)
            self._roster_says(
                PartnerChanged(
                    partner=partner,
                    version=1,
                    name=partner,
                    standing=Standing.SECRETARIAT if partner == "XR" else Standing.MEMBER,
                    time_zone="Europe/London",
                    office=plan.office if self.chance.percent(80) else None,
                    endpoints=plan.endpoints if self.chance.percent(80) else (),
                )
            )
            if self.chance.percent(85):
                self._publish_plan(partner)
        for node in self.nodes[:2]:
            while await node.bus.run_once():
                pass

    async def end(self) -> None:
        """Ends the nodes."""
        for node in self.nodes:
            if hasattr(node, "service"):
                await node.end()

    async def rage(self, steps: int) -> None:
        """Lets `steps` things happen, each checked."""
        done = 0
        for _ in range(steps * IDLE_TRIES_MAX):
            name = self.chance.weighted(WEIGHTS)
            said = await ACTIONS[name](self)
            if said == NOTHING:
                continue
            await self._look(f"{name} {said}", single=name not in MANY_AT_ONCE)
            done += 1
            if done == steps:
                return

    async def _look(self, step: str, *, single: bool = True) -> None:
        """Looks at everything that there is, and holds it to every promise."""
        for node in self.nodes:
            await node.deps.relay.drain()
        self.trace.append(f"{len(self.trace):03} {self.clock.now():%d %H:%M:%S.%f} {step}")
        moment = Moment(
            step=step,
            at=self.clock.now(),
            before=self.snapshot,
            after=await self._snapshot(),
            events=[
                Happened(row["type"].split(".")[2], orjson.loads(row["body"])) for row in await self._fresh("outbox")
            ],
            record=await self._fresh("record"),
            sent=self._left(),
            ledger=self.ledger,
            first_attempts={},
            single=single,
        )
        unreached = [row["id"] for _old, row in moment.changed if row["state"] == "unreached"]
        if unreached:
            # In one step deadlines come before sending: what was tried in it had not been when they were decided.
            tried = [page["id"] for page in moment.after.pages.values() if _is_tried(page, moment.before)]
            rows = await self.arena.escalation.fetch(FIRST_ATTEMPTS, unreached, moment.at, tried)
            cast("dict[UUID, Any]", moment.first_attempts).update({r["escalation_id"]: r["first_at"] for r in rows})
        if moment.events:
            self.trace[-1] += " → " + ", ".join(_told(event) for event in moment.events)
        if moment.sent:
            self.trace[-1] += " ⇒ " + ", ".join(f"{sent.message_type} {sent.target[8:]}" for sent in moment.sent)
        for invariant in invariants.SAFETY:
            invariant(moment)
        self._listen()
        invariants.note(moment)
        self.snapshot = moment.after

    async def _snapshot(self) -> Snapshot:
        escalation, alerting_ = self.arena.escalation, self.arena.alerting
        return Snapshot(
            escalations={row["id"]: row for row in await escalation.fetch(ESCALATIONS)},
            pages={row["id"]: row for row in await escalation.fetch(PAGES)},
            alerts={row["id"]: row for row in await alerting_.fetch(ALERTS)},
            opening=await self._count_openings(),
            dead_letters=await escalation.fetchval("SELECT count(*) FROM dead_letters")
            + await alerting_.fetchval("SELECT count(*) FROM dead_letters"),
        )

    async def _count_openings(self) -> int:
        count = await self.arena.escalation.fetchval("SELECT count(*) FROM alert_heads WHERE opening_id IS NOT NULL")
        return cast("int", count)

    async def _fresh(self, table: str) -> list[Row]:
        seen = self._seen[table]
        columns = "id, type, body" if table == "outbox" else "id, kind, object_id, data::text"
        rows = await self.arena.escalation.fetch(
            f"SELECT {columns} FROM {table} WHERE NOT id = ANY($1) ORDER BY id",  # noqa: S608 - our own names
            seen,
        )
        seen += [row["id"] for row in rows]
        return list(rows)

    def _left(self) -> list[Sent]:
        fresh = [
            page for outlet, seen in zip(self.outlets, self._sent_before, strict=True) for page in outlet.sent[seen:]
        ]
        self._sent_before = [len(outlet.sent) for outlet in self.outlets]
        return [Sent(page.page_id, page.attempt, page.message_type, page.target, page.body) for page in fresh]

    def _listen(self) -> None:
        """I12: whoever logs at WARNING or above must be one of those whom such a world gives a reason to."""
        fresh, self._heard_before = self.heard[self._heard_before :], len(self.heard)
        for entry in fresh:
            if entry["log_level"] in {"warning", "error", "critical"} and entry["event"] not in ANNOUNCED:
                raise Violated("I12", f"unexpected in the log: {entry}")

    # --- what people do -----------------------------------------------------------------------------------------------

    async def raise_alert(self) -> str:
        """An officer who is alone raises an alert."""
        if len(self.requests) >= ALERTS_MAX:
            return NOTHING
        raiser = self.chance.pick(RAISERS)
        others = [code for code in PARTNERS if code != raiser]
        to = [code for code in others if self.chance.percent(60)] or others[:1]
        informed = [code for code in others if code not in to and self.chance.percent(40)]
        words = Proposal(
            headline="Kabul: evacuation of people at risk before the airport closes",
            countries=("AF",),
            to=tuple(to),
            for_information=tuple(informed),
            precedence=Precedence(
                self.chance.pick(("FLASH", "FLASH", "FLASH", "IMMEDIATE", "IMMEDIATE", "PRIORITY", "ROUTINE"))
            ),
            acknowledge_within_seconds=self.chance.pick((None, None, None, 120)),
            answers_visible=self.chance.percent(30),
        )
        call = self._call(raiser, keyed=True)

        async def send() -> StoredResponse:
            return await alerting.draft_alert(self.alerting.deps, call, words, self_release_reason="I am alone")

        return f"{words.precedence} {raiser} to {to} and {informed}: {await self._send(call, send)}"

    async def correct_alert(self) -> str:
        """The raiser corrects its alert."""
        alert = self._released_alert()
        if alert is None or len(self.requests) >= 2 * ALERTS_MAX:
            return NOTHING
        asks_anew = self.chance.percent(40)
        call = self._call(alert["raiser"], keyed=True)
        words = Proposal(headline="Kabul: the gate has moved")

        async def send() -> StoredResponse:
            return await alerting.draft_update(
                self.alerting.deps,
                call,
                alert["id"],
                words,
                asks_anew=asks_anew,
                self_release_reason="I am alone",
            )

        return f"{alert['reference']} asks_anew={asks_anew}: {await self._send(call, send)}"

    async def add_recipients(self) -> str:
        """The raiser addresses its alert to somebody else, too."""
        alert = self._released_alert()
        if alert is None:
            return NOTHING
        fresh = [code for code in PARTNERS if code not in alert["addressed"] and code != alert["raiser"]]
        if not fresh:
            return NOTHING
        code = self.chance.pick(fresh)
        to, informed = ((code,), ()) if self.chance.percent(70) else ((), (code,))
        call = self._call(alert["raiser"])

        async def send() -> StoredResponse:
            return await alerting.add_recipients(
                self.alerting.deps,
                call,
                alert["id"],
                to=to,
                for_information=informed,
                self_release_reason="I am alone",
            )

        return f"{alert['reference']} {code}: {await self._asked(send)}"

    async def end_alert(self) -> str:
        """The raiser recalls its alert, or stands it down."""
        alert = self._released_alert()
        if alert is None or self.chance.percent(40):
            return NOTHING
        call, end = self._call(alert["raiser"]), self.chance.pick((alerting.cancel_alert, alerting.close_alert))

        async def send() -> StoredResponse:
            return cast(
                "StoredResponse",
                await end(self.alerting.deps, call, alert["id"], note="over", self_release_reason="I am alone"),
            )

        return f"{end.__name__} {alert['reference']}: {await self._asked(send)}"

    async def send_again(self) -> str:
        """A caller who does not know whether it was done sends the same request again, with the same key."""
        if not self.requests:
            return NOTHING
        request = self.chance.pick(self.requests)
        return f"{request.key[-6:]}: {await self._retried(request)}"

    async def acknowledge(self) -> str:
        """Somebody of a partner acknowledges: a person, or a system that names one."""
        row = self._open_escalation()
        if row is None:
            return NOTHING
        node, number = self._node(), 1 + self.chance.below(LEVELS_MAX)
        contact_id = None
        principal = self._who(row, number)
        if self.chance.percent(20):
            principal, contact_id = system(row["partner"]), self._rig().contact(row["partner"], number).id

        async def send() -> Any:
            return await answers.acknowledge(
                self._deps(node), principal, row["id"], contact_id=contact_id, via="api", cause=self._cause(principal)
            )

        return f"{node.name} {principal.subject} {_short(row)}: {await self._acknowledged(send)}"

    async def acknowledge_early(self) -> str:
        """Somebody acknowledges by the alert's id, perhaps before escalation has heard of it."""
        alert = self._released_alert()
        if alert is None:
            return NOTHING
        node, principal = self._node(), person(self.chance.pick(alert["addressed"]))

        async def send() -> Any:
            done = await answers.acknowledge_alerts(
                self._deps(node), principal, [alert["id"]], contact_id=None, via="api", cause=self._cause(principal)
            )
            return done[0]

        return f"{node.name} {principal.subject} {alert['reference']}: {await self._acknowledged(send)}"

    async def take_position(self) -> str:
        """Somebody answers, or says that the wrong person was asked."""
        row = self._open_escalation()
        if row is None:
            return NOTHING
        stance = PositionStance(
            self.chance.pick(("considering", "committed", "declined", "noted", "wrong_person", "wrong_person"))
        )
        wait = self.chance.pick((60, 600, 7200))
        answer_by_at = self.clock.now() + timedelta(seconds=wait) if stance is PositionStance.CONSIDERING else None
        node, principal = self._node(), person(row["partner"], number=1 + self.chance.below(LEVELS_MAX))
        if stance is PositionStance.WRONG_PERSON:
            self._may_take_back(row, principal)

        async def send() -> Any:
            return await answers.take_position(
                self._deps(node),
                principal,
                row["id"],
                PositionRequest(stance=stance, answer_by_at=answer_by_at),
                cause=self._cause(principal),
            )

        answered = self._asked if stance is PositionStance.WRONG_PERSON else self._acknowledged
        return f"{node.name} {principal.subject} {stance} {_short(row)}: {await answered(send)}"

    async def take_over(self) -> str:
        """Somebody of raiser or secretariat takes an unreached partner over."""
        rows = [row for row in self._rows() if row["state"] == "unreached" or row["kind"] == "takeover"]
        if not rows:
            return NOTHING
        row, node = self.chance.pick(rows), self._node()
        principal = self.chance.pick((person(row["raiser"], Role.DUTY_OFFICER), person("XR", Role.SECRETARIAT)))

        async def send() -> Any:
            return await answers.take_over(self._deps(node), principal, row["id"], cause=self._cause(principal))

        return f"{node.name} {principal.subject} {_short(row)}: {await self._asked(send)}"

    async def raise_level(self) -> str:
        """The secretariat raises a level."""
        row = self._open_escalation()
        if row is None:
            return NOTHING
        node, principal = self._node(), person("XR", Role.SECRETARIAT)

        async def send() -> Any:
            return await answers.raise_level(self._deps(node), principal, row["id"], cause=self._cause(principal))

        return f"{node.name} {_short(row)}: {await self._asked(send)}"

    async def add_contact(self) -> str:
        """Somebody of the partner that is asked has one more person paged."""
        row = self._open_escalation()
        if row is None:
            return NOTHING
        node, number = self._node(), 1 + self.chance.below(LEVELS_MAX)
        principal, contact_id = self._who(row, 1), derived("contact", f"{row['partner'].lower()}-{number}")

        async def send() -> Any:
            cause = self._cause(principal)
            return await asked.add_contact(self._deps(node), principal, row["id"], contact_id, cause=cause)

        return f"{node.name} {_short(row)} {number}: {await self._asked(send)}"

    async def stop_pages(self) -> str:
        """Somebody has had enough of their own pages."""
        row = self._open_escalation()
        if row is None:
            return NOTHING
        node, principal = self._node(), self._who(row, 1 + self.chance.below(LEVELS_MAX))

        async def send() -> Any:
            return await asked.stop_pages(self._deps(node), principal, row["id"], cause=self._cause(principal))

        return f"{node.name} {_short(row)} {principal.subject}: {await self._asked(send)}"

    async def receipt(self) -> str:
        """A provider says what became of some message that it took, perhaps again, perhaps the opposite."""
        if not self.short.sent:
            return NOTHING
        node, page = self._node(), self.chance.pick(self.short.sent)
        arrived = self.chance.percent(60)
        status = ProviderStatus(
            self.short.provider,
            f"{page.page_id}.{page.attempt}",
            AttemptState.DELIVERED if arrived else AttemptState.FAILED,
            Reason.ACCEPTED if arrived else self.chance.pick((Reason.NOT_DELIVERED, Reason.ADDRESS_UNKNOWN)),
        )
        known = await note_status(node.deps, status, now=self.clock.now())
        return f"{node.name} {page.target} {status.reason} {known}"

    # --- what roster says -----------------------------------------------------------------------------------------

    async def change_plan(self) -> str:
        """A partner's plan changes: people leave, rotas are empty, it runs out, or it says nothing at all."""
        partner = self.chance.pick(PARTNERS)
        return f"{partner} {self._publish_plan(partner)}"

    async def spoil_plan(self) -> str:
        """A plan is stored that this version cannot read."""
        if self.snapshot.opening:
            return NOTHING  # whoever stores plans lets openings pass that were left behind
        partner = self.chance.pick(PARTNERS)
        self.plan_versions[partner] += 1
        await self.arena.escalation.execute(
            "UPDATE duty_plans SET body = $3, plan_version = $2,"
            " previous_body = CASE body WHEN $3 THEN previous_body ELSE body END WHERE partner = $1",
            partner,
            self.plan_versions[partner],
            UNREADABLE_PLAN,
        )
        return str(partner)

    def _publish_plan(self, partner: str) -> str:
        self.plan_versions[partner] += 1
        stale = self.plan_versions[partner] > 2 and self.chance.percent(10)
        version = self.plan_versions[partner] - (2 if stale else 0)
        plan = self._rig().plan(partner, levels=1 + self.chance.below(LEVELS_MAX), version=version)
        changes: dict[str, Any] = {"contacts": tuple(self._reached(contact) for contact in plan.contacts)}
        kind = self.chance.weighted(PLANS)
        if kind == "empty_level":
            empty = self.chance.below(len(plan.rotas))
            changes["rotas"] = tuple(
                PlannedRota(id=rota.id, name=rota.name) if number == empty else rota
                for number, rota in enumerate(plan.rotas)
            )
        elif kind == "all_empty":
            changes["rotas"] = tuple(PlannedRota(id=rota.id, name=rota.name) for rota in plan.rotas)
        elif kind == "expires":
            changes["valid_until"] = self.clock.now() + timedelta(minutes=self.chance.pick((-60, 5, 20)))
        elif kind == "unreachable":
            changes["contacts"] = tuple(contact.model_copy(update={"points": ()}) for contact in plan.contacts)
        elif kind == "no_levels":
            changes["levels"] = ()
        elif kind == "no_office":
            changes |= {"office": None, "endpoints": ()}
        elif kind == "short_waits":
            changes["levels"] = tuple(
                level.model_copy(update={"wait_seconds": self.chance.pick((1, 30, 90))}) for level in plan.levels
            )
        elif kind == "one_person":
            target = LevelTarget(kind="contact", id=plan.contacts[0].id)
            changes["levels"] = tuple(PlannedLevel(targets=(target,)) for _ in plan.levels)
        self._roster_says(plan.model_copy(update=changes))
        return f"{kind} of {len(plan.levels)} v{version}"

    def _reached(self, contact: PlannedContact) -> PlannedContact:
        """Some people have a telephone beside their system, at once or after a while, verified or not."""
        if self.chance.percent(50):
            return contact
        changes = {"delay_seconds": self.chance.pick((0, 30, 120)), "verified": self.chance.percent(70)}
        number = self._rig().point(f"+999{contact.subjects[0]}", ChannelName.SMS, **changes)
        return contact.model_copy(update={"points": (*contact.points, number), "time_zone": "Asia/Tokyo"})

    def _roster_says(self, body: Event) -> None:
        said = Message(
            id=MessageId(self.ids.new()), body=body, occurred_at=self.clock.now(), correlation_id=self.ids.new()
        )
        self.broker.store(body.subject, headers_of(said), body.model_dump_json().encode(), message_id=str(said.id))

    # --- what the bus does ------------------------------------------------------------------------------------------

    async def deliver(self) -> str:
        """Some node handles some message, not always the oldest."""
        busy = [node for node in self.nodes if node.bus.due()]
        if not busy:
            return NOTHING
        node = self.chance.pick(busy)
        return f"{node.name} {await self._deliver(node)}"

    async def _deliver(self, node: Node) -> str:
        due = node.bus.due()
        if not due:
            return NOTHING
        position = 0 if self.chance.percent(60) else self.chance.below(len(due))
        subscription = due[position][0]
        await node.bus.deliver(position)
        return subscription.event.event_name

    async def redeliver(self) -> str:
        """The broker sets a message out again that was handled long ago."""
        if not self.broker.stored:
            return NOTHING
        stored = self.chance.pick(self.broker.stored)
        for consumer in self.broker.consumers.values():
            if stored.subject.startswith(f"{consumer.subscription.event.type}."):
                consumer.pending.append(Pending(stored))
        return str(stored.subject.split(".")[2])

    async def drop_bus(self) -> str:
        """The broker goes away, or comes back."""
        self.broker.down = not self.broker.down
        return "down" if self.broker.down else "up"

    async def pull(self) -> str:
        """A node reads a feed."""
        node = self.chance.pick(self.nodes)
        return f"{node.name} {await self._pull(node)}"

    async def _pull(self, node: Node) -> str:
        source = self.chance.pick(sorted(node.peers))
        await node.peers[source].run("sequencer")
        return f"{source} {await node.deps.pullers[source].pull_now()}"

    async def relay(self) -> str:
        """A relay publishes what was left over."""
        return await self._looped("relay", self.nodes)

    async def say_again(self) -> str:
        """The reconcilers look for what is missing."""
        return await self._looped("reconciler", self.nodes)

    async def _looped(self, loop: str, nodes: Sequence[Node]) -> str:
        node = self.chance.pick(nodes)
        done = await node.run(loop)
        return f"{node.name} {done}" if done else NOTHING

    # --- what time does ---------------------------------------------------------------------------------------------

    async def timers(self) -> str:
        """One instance fires what is due."""
        return await self._looped("timers", self.pair)

    async def expire(self) -> str:
        """Alerting ends what has run out."""
        return await self._looped("expiry", [self.alerting])

    async def lease(self) -> str:
        """One instance leases what is due to be sent."""
        return await self._looped("delivery", self.pair)

    async def send(self) -> str:
        """One instance sends some of what it has leased."""
        busy = [node for node in self.pair if node.held]
        if not busy:
            return NOTHING
        node = self.chance.pick(busy)
        count = 1 + self.chance.below(len(node.held))
        await node.send(count)
        return f"{node.name} {count}"

    async def record(self) -> str:
        """One instance records what became of its attempts."""
        return await self._looped("recorder", self.pair)

    async def tick(self) -> str:
        """One instance does at once what a healthy one does: fires, leases, sends, records."""
        node = self.chance.pick(self.pair)
        done = [await node.run("timers"), await node.run("delivery")]
        await node.send(len(node.held))
        return f"{node.name} {[*done, await node.run('recorder')]}"

    async def wait(self) -> str:
        """Time passes: a moment, until the next thing falls due, or far beyond."""
        how = self.chance.weighted(WAITS)
        now = self.clock.now()
        due = [row["due_at"] for row in self._rows() if row["due_at"] is not None and row["due_at"] > now]
        due += [p["due_at"] for p in self.snapshot.pages.values() if p["state"] == "due" and p["due_at"] > now]
        next_seconds = (min(due) - now).total_seconds() if due else 1.0
        seconds = {
            "moment": 0.02,
            "second": 1.0,
            "lease": 16.0,
            "next": next_seconds,
            "before": max(0.0, next_seconds - 0.001),
            "minutes": 60.0 * (1 + self.chance.below(10)),
            "hour": 3600.0,
            "far": 3600.0 * (6 + self.chance.below(40)),
        }[how]
        self.clock.advance(seconds)
        return f"{how} {seconds:g} s"

    # --- what goes wrong --------------------------------------------------------------------------------------------

    async def receivers(self) -> str:
        """Receivers begin to fail, or recover."""
        if self.outlet.answers and self.chance.percent(50):
            for outlet in self.outlets:
                outlet.answers.clear()
            return "recover"
        partner = self.chance.pick(PARTNERS).lower()
        if self.chance.percent(25):
            self.short.answers[partner] = self.chance.pick((REFUSED, NOBODY_THERE))
            return f"telephones of {partner} fail"
        target = f"{partner}-{self.chance.pick(('system', 'office', '1', '2', ''))}"
        self.outlet.answers[target] = REFUSED
        return f"{target}* fails"

    async def crash(self) -> str:
        """A node dies, at a commit of whatever it is doing, or in between; and starts again."""
        node = self.chance.pick(self.nodes)
        node.dies_at = self.chance.pick((None, BEFORE_COMMIT, AFTER_COMMIT))
        doing = "nothing"
        if node.dies_at is not None:
            doing = self.chance.pick(MORTAL_ESCALATION if node.is_escalation else MORTAL_ALERTING)
            node.spared = self.chance.below(2)
            try:
                await self._do_mortally(node, doing)
            except (Died, asyncio.CancelledError):
                # Who waits for a task that has died is cancelled.
                assert node.is_dead
        where = node.dies_at or "in between"
        await node.end()
        if await self._count_openings():
            # What the others learn of plans within a second of such a death is beyond the promise (ADR 0023).
            self.clock.advance(LEFT_BEHIND_SECONDS)
        await node.start()
        return f"{node.name} {where}, doing {doing}"

    async def _do_mortally(self, node: Node, doing: str) -> None:
        if doing == "deliver":
            await self._deliver(node)
        elif doing == "release":
            if not any(subscription.event is AlertReleased for subscription, _pending in node.bus.due()):
                await self.raise_alert()
            due = [subscription.event for subscription, _pending in node.bus.due()]
            if AlertReleased in due:
                await node.bus.deliver(due.index(AlertReleased))
        elif doing == "pull":
            await self._pull(node)
        elif doing == "answer":
            await self._answer_mortally(node)
        elif doing == "request":
            await self.chance.pick((self.raise_alert, self.correct_alert, self.end_alert, self.add_recipients))()
        else:
            await node.run(doing)

    async def _answer_mortally(self, node: Node) -> None:
        row = self._open_escalation()
        if row is None:
            return
        principal = person(row["partner"])
        deps, cause = self._deps(node), self._cause(principal)
        if self.chance.percent(60):
            await self._asked(
                lambda: answers.acknowledge(deps, principal, row["id"], contact_id=None, via="api", cause=cause)
            )
            return
        self._may_take_back(row, principal)
        wanted = PositionRequest(stance=PositionStance.WRONG_PERSON)
        await self._asked(lambda: answers.take_position(deps, principal, row["id"], wanted, cause=cause))

    # --- once it is over --------------------------------------------------------------------------------------------

    async def calm(self) -> None:
        """Ends the faults, lets time pass, holds the world to its liveness; then replays and runs everything out."""
        self.trace.append("--- calm")
        self.broker.down = False
        for outlet in self.outlets:
            outlet.answers.clear()
        for request in self.requests:
            if request.key not in self.ledger.alert_of_key:
                await self._retried(request)
        await self._look("calm", single=False)
        await self._settle()
        self.clock.advance(CALM_SECONDS)
        await self._settle()
        for step in range(QUIET_STEPS_MAX):
            asked = [row for row in self._rows() if row["kind"] == "answer"]
            waiting = [row for row in asked if row["state"] in invariants.UNANSWERED]
            if not waiting:
                break
            next_at = min(row["due_at"] for row in waiting)
            if step >= QUIET_STEPS_ONE_BY_ONE:
                next_at = max(next_at, *(row["unreached_at"] for row in waiting))
            self.clock.advance(max(0.0, (next_at - self.clock.now()).total_seconds()))
            await self._settle()
        self.clock.advance(CALM_SECONDS)
        await self._settle()
        quiet = await self._quiet()
        for invariant in invariants.LIVENESS:
            invariant(quiet)
        await self._replay()
        last_at = max((row["expires_at"] for row in self.snapshot.alerts.values() if row["expires_at"]), default=None)
        if last_at is not None:
            self.clock.advance(max(0.0, (last_at - self.clock.now()).total_seconds()))
            await self._settle()
            for seconds in (CALM_SECONDS, NIGHT_SECONDS):
                self.clock.advance(seconds)
                await self._settle()
        invariants.everything_has_ended(self.snapshot)
        invariants.the_outbox_is_empty(await self._quiet())

    async def _settle(self) -> None:
        """Lets everything happen that is due at this instant."""
        for passed in range(60):
            done = 0
            for node in self.pair:
                done += await node.run("timers") if node is self.pair[0] else 0
                done += await node.run("delivery") if node is self.pair[0] else 0
                done += len(node.held)
                await node.send(len(node.held))
                done += await node.run("recorder")
            done += await self.alerting.run("expiry")
            for node in self.nodes:
                await node.deps.relay.drain()
                done += await node.run("relay")
                done += await node.bus.run_once()
            if not done and passed:
                return
            await self._look("settle", single=False)
        raise Violated("I2", "the world does not come to rest")

    async def _quiet(self) -> Quiet:
        escalation, alerting_ = self.arena.escalation, self.arena.alerting
        told = await escalation.fetch(
            "SELECT p.escalation_id, count(*) AS made FROM attempts a JOIN pages p ON p.id = a.page_id"
            " WHERE a.state IN ('sent', 'delivered') AND p.escalation_id IS NOT NULL GROUP BY 1"
        )
        shown = [f"redphone.escalation.{name}.v1" for name in SHOWN]
        published = await escalation.fetch("SELECT id, type FROM outbox WHERE type = ANY($1)", shown)
        late = "SELECT count(*) FROM outbox WHERE published_at IS NULL"
        return Quiet(
            at=self.clock.now(),
            snapshot=self.snapshot,
            ledger=self.ledger,
            told={row["escalation_id"]: row["made"] for row in told},
            reported=frozenset(row["id"] for row in await alerting_.fetch("SELECT id FROM timeline")),
            published={row["id"]: row["type"].split(".")[2] for row in published},
            unpublished=await escalation.fetchval(late) + await alerting_.fetchval(late),
        )

    async def _replay(self) -> None:
        """I7: every message again, to everybody, changes nothing."""
        before = await self._everything()
        self.broker.replay()
        await self._settle()
        after = await self._everything()
        changed = sorted(table for table in before if before[table] != after[table])
        if changed:
            raise Violated("I7", f"a replay changed {changed}")

    async def _everything(self) -> dict[str, list[str]]:
        found = {}
        for connection, tables in (
            (
                self.arena.escalation,
                ("alert_heads", "escalations", "pages", "attempts", "outbox", "record", "duty_plans"),
            ),
            (self.arena.alerting, ("alerts", "timeline", "outbox", "record", "crises")),
        ):
            for table in tables:
                without = "".join(f" - '{name.strip()}'" for name in NEVER_THE_SAME.get(table, "").split(",") if name)
                rows = await connection.fetch(f"SELECT (to_jsonb(t){without})::text AS row FROM public.{table} t")  # noqa: S608
                found[f"{table} of {'alerting' if connection is self.arena.alerting else 'escalation'}"] = sorted(
                    row["row"] for row in rows
                )
        return found

    # --- asking -----------------------------------------------------------------------------------------------------

    async def _send(self, call: Call, send: Callable[[], Awaitable[StoredResponse]]) -> str:
        assert call.attempt is not None
        request = Request(call.attempt.key, send)
        self.requests.append(request)
        self.ledger.keys.add(request.key)
        return await self._retried(request)

    async def _retried(self, request: Request) -> str:
        answer: StoredResponse | None = None

        async def send() -> StoredResponse:
            nonlocal answer
            answer = await request.send()
            return answer

        said = await self._asked(send)
        if answer is not None:
            alert_id = UUID(orjson.loads(answer.body)["id"])
            if self.ledger.alert_of_key.setdefault(request.key, alert_id) != alert_id:
                raise Violated("I5", f"the key {request.key} was answered with two alerts")
        return said

    async def _asked(self, send: Callable[[], Awaitable[Any]]) -> str:
        try:
            await send()
        except Rejected as refusal:
            return f"refused, {refusal.code}"
        return "done"

    async def _acknowledged(self, send: Callable[[], Awaitable[Any]]) -> str:
        escalation: Any = None

        async def sent() -> None:
            nonlocal escalation
            escalation = await send()

        said = await self._asked(sent)
        if escalation is not None and escalation.kind == "answer":
            self.ledger.acknowledged[escalation.id] = escalation.acknowledged_by.subject
        return said

    def _may_take_back(self, row: Row, principal: Principal) -> None:
        """Whoever says "wrong person" takes back their own acknowledgement, of the whole chain of Updates."""
        if row["acknowledged_by"] == principal.subject:
            root = self.snapshot.alerts[row["alert_id"]]["root_id"]
            for escalation_id in list(self.ledger.acknowledged):
                other = self.snapshot.escalations[escalation_id]
                same = self.snapshot.alerts[other["alert_id"]]["root_id"] == root
                if same and other["partner"] == row["partner"] and other["state"] == "ended":
                    del self.ledger.acknowledged[escalation_id]
            self.ledger.acknowledged.pop(row["id"], None)

    def _call(self, partner: str, *, keyed: bool = False) -> Call:
        principal = alerting_rig.person(partner)
        key = str(self.ids.new())
        return Call(
            principal=principal,
            cause=self._cause(principal),
            request_sha256=key,
            attempt=Attempt(principal.client_id, "POST /v1/alerts", key, key) if keyed else None,
        )

    def _cause(self, principal: Principal) -> Cause:
        return Cause(correlation_id=self.ids.new(), subject=principal.subject, partner=principal.partner)

    def _who(self, row: Row, number: int) -> Principal:
        """Who answers an escalation: a senior contact, or for a takeover somebody who may take over."""
        if row["kind"] != "takeover":
            return person(row["partner"], number=number)
        return person(row["partner"], Role.DUTY_OFFICER, Role.SECRETARIAT, number=number)

    def _node(self) -> Node:
        return cast("Node", self.chance.pick(self.pair))

    def _deps(self, node: Node) -> EscalationDeps:
        return cast("EscalationDeps", node.deps)

    def _rig(self) -> Rig:
        """What plans are made with."""
        first = self.pair[0]
        return Rig(first.service, self.clock, self.outlet, self.broker, first.bus, self.arena.keys, self.ids)

    def _rows(self) -> list[Row]:
        return [row for row in self.snapshot.escalations.values() if row["state"] != "ended"]

    def _open_escalation(self) -> Row | None:
        rows = self._rows()
        if self.chance.percent(10):
            rows = list(self.snapshot.escalations.values())
        return self.chance.pick(rows) if rows else None

    def _released_alert(self) -> Row | None:
        rows = [row for row in self.snapshot.alerts.values() if row["state"] == "released"]
        return self.chance.pick(rows) if rows else None


def _is_tried(page: Row, before: Snapshot) -> bool:
    """Whether the page was tried in this step."""
    old = before.pages.get(page["id"])
    return old is None or old["attempts"] != page["attempts"]


def _short(row: Row) -> str:
    about = f" for {row['subject_partner']}" if row["subject_partner"] else ""
    return f"{row['partner']}{about} {str(row['id'])[-4:]} ({row['state']})"


def _told(event: Happened) -> str:
    body = event.body
    if "escalations" in body:
        return f"{event.name} {[part['partner'] for part in body['escalations']]}"
    level = f" {body['level']} {body['reason']}" if event.name == "level_raised" else ""
    return f"{event.name}{level} {body.get('partner')} {str(body.get('escalation_id'))[-4:]}"


WEIGHTS: Mapping[str, int] = {
    "raise_alert": 5,
    "correct_alert": 3,
    "add_recipients": 2,
    "end_alert": 1,
    "send_again": 2,
    "acknowledge": 5,
    "acknowledge_early": 2,
    "take_position": 4,
    "take_over": 2,
    "raise_level": 2,
    "add_contact": 2,
    "stop_pages": 2,
    "receipt": 4,
    "change_plan": 3,
    "spoil_plan": 1,
    "deliver": 26,
    "redeliver": 2,
    "drop_bus": 2,
    "pull": 3,
    "relay": 4,
    "say_again": 1,
    "timers": 8,
    "expire": 2,
    "lease": 7,
    "send": 9,
    "record": 7,
    "tick": 4,
    "wait": 14,
    "receivers": 4,
    "crash": 5,
}
ACTIONS: Mapping[str, Callable[[Simulation], Awaitable[str]]] = {name: getattr(Simulation, name) for name in WEIGHTS}
PLANS: Mapping[str, int] = {
    "good": 8,
    "empty_level": 3,
    "all_empty": 1,
    "expires": 2,
    "unreachable": 1,
    "no_levels": 1,
    "no_office": 1,
    "short_waits": 2,
    "one_person": 1,
}
WAITS: Mapping[str, int] = {
    "moment": 3,
    "second": 4,
    "lease": 3,
    "next": 8,
    "before": 2,
    "minutes": 5,
    "hour": 2,
    "far": 1,
}
MORTAL_ESCALATION = ("deliver", "deliver", "release", "timers", "delivery", "recorder", "relay", "pull", "answer")
MORTAL_ALERTING = ("deliver", "relay", "pull", "request", "request", "expiry", "reconciler")


# --- by hand ----------------------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """How a run of seeds went."""

    seeds: int = 0
    failed: list[Failed] = field(default_factory=list)


async def run(first: int, count: int, *, steps: int) -> Tally:
    """Plays seeds one after the other, and tells of each that fails."""
    cluster, tally = Cluster(), Tally()
    await cluster.start()
    try:
        with tempfile.TemporaryDirectory(prefix="redphone-simulation-") as directory:
            async with arena(cluster, Path(directory)) as played:
                for seed in range(first, first + count):
                    tally.seeds += 1
                    try:
                        await play(played, seed, steps=steps)
                    except Failed as failure:
                        tally.failed.append(failure)
                        sys.stdout.write(f"{failure}\n\n")
                        sys.stdout.flush()
    finally:
        await cluster.stop()
    return tally


def main() -> None:
    """Plays the seeds that the command line names; the exit status is 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.simulator", description="Simulate the network.")
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds")
    parser.add_argument("--from", dest="first", type=int, default=1, help="the first seed")
    parser.add_argument("--steps", type=int, default=STEPS, help="steps under faults in each")
    arguments = parser.parse_args()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
    logging.getLogger().setLevel(logging.ERROR)
    tally = asyncio.run(run(arguments.first, arguments.seeds, steps=arguments.steps))
    seeds = [failure.seed for failure in tally.failed]
    sys.stdout.write(f"{tally.seeds} seeds, {len(seeds)} failed{f': {seeds}' if seeds else ''}\n")
    sys.exit(1 if seeds else 0)


if __name__ == "__main__":
    main()
