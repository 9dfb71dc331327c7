"""`python -m bench roster`: how fast duty plans and answers follow the rotas of many large partners.

The partners lie in roster's database as an import would have left them, and all three services run, so that the plans
are taken by escalation as they come. Everything is asked for over HTTP, as in production: new deadlines make every plan
stale at once, an edit of a rota makes one stale, and `on-call` is read by one client. A plan counts as published when
the broker, which has then written it to disk, hands it to a listener.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import tempfile
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import nats
from nats.js import api
from pyreqwest.client import Client, ClientBuilder

from bench import report
from bench.governments import Government, governments
from bench.processes import Process
from bench.rig import (
    QUIET_CPU_SECONDS,
    QUIET_SECONDS,
    QUIET_SECONDS_MAX,
    THE_THREE,
    Refused,
    deploy,
    environment_of,
    start_service,
    until_ready,
)
from bench.sinks import free_ports
from redphone.local import LocalServers, ServerUrls
from services.roster import publication, store
from services.roster.changes import changes
from services.roster.publication import PLAN_DAYS
from shared import outbox, security
from shared.clock import SystemClock
from shared.contracts import CredentialKind, DutyPlanPublished
from shared.db import Database
from shared.events import Cause
from shared.ids import Ids
from shared.keys import KeyRing, point_context
from shared.security import Principal, PrincipalKind, administrator, issue_token

PUBLISHED_SECONDS_MAX = 120.0
SETTLED_SECONDS_MAX = 240.0
WARM_UP_READS = 100
WARM_UP_CHANGES = 3
READ_DAYS_AROUND = 7
SEED = 4
"""Which partners and instants are asked for is the same in every run."""

_UNSETTLED = """
SELECT EXISTS (SELECT FROM partners p LEFT JOIN readiness r ON r.partner = p.code
               WHERE p.plan_version = 0 OR r.partner IS NULL OR r.plan_version < p.plan_version OR r.due_at <= $1)
    OR EXISTS (SELECT FROM partners p LEFT JOIN shift_notice_plans n ON n.partner = p.code
               WHERE coalesce(n.plan_version, 0) < p.plan_version)
"""
"""Whether a proof or the notices of any partner are older than its duty plan."""


@dataclass
class Listener:
    """What came over the bus: when each plan of a partner did."""

    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)
    times: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))

    async def take(self, message: Any) -> None:
        """A plan has come."""
        async with self.arrived:
            self.times[message.subject.rpartition(".")[2].upper()].append(time.perf_counter())
            self.arrived.notify_all()

    async def until(self, codes: Sequence[str], counts: Mapping[str, int]) -> list[float]:
        """Waits until each of these partners has had more plans than `counts` says; when each one's next came."""
        async with asyncio.timeout(PUBLISHED_SECONDS_MAX), self.arrived:
            await self.arrived.wait_for(lambda: all(len(self.times[code]) > counts.get(code, 0) for code in codes))
        return [self.times[code][counts.get(code, 0)] for code in codes]

    def counts(self) -> dict[str, int]:
        """How many plans of each partner have come."""
        return {code: len(times) for code, times in self.times.items()}


@dataclass(frozen=True)
class RosterRig:
    """Everything, running."""

    urls: ServerUrls
    keys: KeyRing
    ids: Ids
    client: Client
    url: str
    services: Mapping[str, Process]
    partners: Sequence[Government]
    listener: Listener
    database: asyncpg.Connection[Any]

    def token(self, principal: Principal) -> dict[str, str]:
        """The header of a caller."""
        token = issue_token(self.keys, principal, now=datetime.now(UTC), token_id=self.ids.new())
        return {"authorization": f"Bearer {token}"}

    def manager(self, partner: Government) -> dict[str, str]:
        """The header of a partner's roster manager."""
        own = partner.manager
        return self.token(
            Principal(
                subject=own.subject,
                client_id=own.client_id,
                partner=partner.code,
                roles=frozenset(own.roles),
                kind=PrincipalKind(CredentialKind.PERSON.value),
                name=own.name,
                contact_id=own.contact_id,
                credential_version=own.version,
            )
        )

    async def settled(self) -> None:
        """Waits until every partner has its plan, and proofs and notices are those of it."""
        async with asyncio.timeout(SETTLED_SECONDS_MAX):
            while await self.database.fetchval(_UNSETTLED, datetime.now(UTC)):
                self.services["roster"].check()
                await asyncio.sleep(0.05)

    async def quiet(self) -> None:
        """Waits, twenty seconds at most, until roster does nothing but look around: call trees are printed last."""
        await self.settled()
        process = self.services["roster"]
        deadline, before = time.monotonic() + QUIET_SECONDS_MAX, process.cpu_seconds()
        while time.monotonic() < deadline:
            await asyncio.sleep(QUIET_SECONDS)
            after = process.cpu_seconds()
            if after - before <= QUIET_CPU_SECONDS:
                return
            before = after


async def roster(
    partners: int, contacts: int, *, runs: int, edits: int, reads: int, progress: Callable[[str], None]
) -> dict[str, Any]:
    """The figures that `bench/README.md` explains."""
    async with _rig(partners, contacts, progress=progress) as running:
        chance = random.Random(SEED)
        all_plans, settled, cpu = [], [], []
        for number in range(1, runs + 1):
            progress(f"all plans, {number} of {runs}")
            process = running.services["roster"]
            cpu_before = process.cpu_seconds()
            begun, ended = await _all_plans(running)
            await running.settled()
            all_plans.append(ended - begun)
            settled.append(time.perf_counter() - begun)
            cpu.append(process.cpu_seconds() - cpu_before)
        progress(f"{edits} single edits")
        edited = await _edits(running, edits, chance)
        progress(f"{reads} reads of who is on call")
        await running.quiet()
        read = await _reads(running, reads, chance)
        return {
            "bench": "roster",
            "partners": partners,
            "contacts": contacts,
            "contact_points": contacts * 3 + 1,
            "rotas": len(running.partners[0].state.rotas),
            "plan_days": PLAN_DAYS,
            "processes": list(THE_THREE),
            "all_plans_seconds": report.middle_and_worst(all_plans),
            "settled_seconds": report.middle_and_worst(settled),
            "roster_cpu_seconds": report.middle_and_worst(cpu),
            "edits": edits,
            "edit_answer_ms": _spread([one * 1000 for one, _ in edited]),
            "edit_published_ms": _spread([one * 1000 for _, one in edited]),
            "reads": reads,
            "on_call_ms": _spread([one * 1000 for one in read]),
            "memory_mib": report.rounded(running.services["roster"].memory_mib()),
        }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {**report.percentiles(values), "max": report.rounded(max(values))}


async def _all_plans(running: RosterRig) -> tuple[float, float]:
    """When an administrator sent new deadlines, and when the last partner's plan was on the bus."""
    header = running.token(administrator("bench"))
    kept = await running.client.get(f"{running.url}/v1/deadlines").headers(header).build().send()
    table = await kept.json()
    table["deadlines"]["ROUTINE"]["acknowledge_within_seconds"] += 1
    before = running.listener.counts()
    begun = time.perf_counter()
    answer = await (
        running.client.put(f"{running.url}/v1/deadlines")
        .headers({**header, "if-match": kept.headers["etag"]})
        .body_json(table)
        .build()
        .send()
    )
    if answer.status != 200:
        raise Refused(f"roster answered {answer.status}: {await answer.text()}")
    return begun, max(await running.listener.until([one.code for one in running.partners], before))


async def _edits(running: RosterRig, count: int, chance: random.Random) -> list[tuple[float, float]]:
    """For each edit, on services at rest: how long its answer took, and how long after that the plan was out."""
    found = []
    for number in range(WARM_UP_CHANGES + count):
        await running.settled()
        partner = chance.choice(running.partners)
        header = running.manager(partner)
        request = await _edit(running, partner, header, number, chance)
        before = running.listener.counts()
        begun = time.perf_counter()
        answer = await request.send()
        text = await answer.text()
        ended = time.perf_counter()
        if answer.status not in (200, 201):
            raise Refused(f"roster answered {answer.status}: {text}")
        (arrived,) = await running.listener.until([partner.code], before)
        found.append((ended - begun, max(0.0, arrived - ended)))
    return found[WARM_UP_CHANGES:]


async def _edit(
    running: RosterRig, partner: Government, header: Mapping[str, str], number: int, chance: random.Random
) -> Any:
    """In turn: a new override of a rota, and a rota put in whole."""
    rotas = partner.state.rotas
    url = f"{running.url}/v1/partners/{partner.code}/rotas/{chance.choice(rotas).id}"
    if number % 2:
        start_at = datetime.now(UTC) + timedelta(hours=1 + number)
        person = chance.choice(partner.state.contacts).id
        end_at = start_at + timedelta(hours=8)
        override = {"contact_id": str(person), "start_at": start_at.isoformat(), "end_at": end_at.isoformat()}
        return running.client.post(f"{url}/overrides").headers(header).body_json(override).build()
    kept = await running.client.get(url).headers(header).build().send()
    shown = await kept.json()
    body = {name: shown[name] for name in _ROTA_FIELDS}
    hours = [48, 2] if body["notice_hours"] == [24] else [24]
    tag = kept.headers["etag"]
    edited = {**body, "notice_hours": hours, "name": f"{body['name'].partition(' (')[0]} ({number})"}
    return running.client.put(url).headers({**header, "if-match": tag}).body_json(edited).build()


_ROTA_FIELDS = (
    "name",
    "time_zone",
    "layers",
    "holiday_calendar",
    "extra_holidays",
    "signs_hand_over",
    "notice_hours",
)


async def _reads(running: RosterRig, count: int, chance: random.Random) -> list[float]:
    """How long each answer about who is on call took: of any partner, half of them asked for by its own people."""
    headers = [running.manager(partner) for partner in running.partners]
    now = datetime.now(UTC)
    taken = []
    for number in range(WARM_UP_READS + count):
        asked = chance.randrange(len(running.partners))
        asking = asked if number % 2 else chance.randrange(len(running.partners))
        at = now + timedelta(seconds=chance.randrange(-READ_DAYS_AROUND * 86400, READ_DAYS_AROUND * 86400))
        request = (
            running.client.get(f"{running.url}/v1/partners/{running.partners[asked].code}/on-call")
            .query({"at": at.strftime("%Y-%m-%dT%H:%M:%SZ")})
            .headers(headers[asking])
            .build()
        )
        begun = time.perf_counter()
        answer = await request.send()
        text = await answer.text()
        taken.append(time.perf_counter() - begun)
        if answer.status != 200:
            raise Refused(f"roster answered {answer.status}: {text}")
    return taken[WARM_UP_READS:]


# --- what it stands on ------------------------------------------------------------------------------------------------


@asynccontextmanager
async def _rig(partners: int, contacts: int, *, progress: Callable[[str], None]) -> AsyncIterator[RosterRig]:
    directory = Path(tempfile.mkdtemp(prefix="redphone-bench-"))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        servers = LocalServers(directory / "data")
        urls = await servers.start()
        stack.push_async_callback(servers.stop)
        keys = KeyRing.generate()
        keys.save(directory / "keys.json")
        ports = dict(zip(THE_THREE, free_ports(len(THE_THREE)), strict=True))
        configured = environment_of(directory, urls, ports)
        await deploy(configured, directory)
        ids = Ids(SystemClock().now)
        made = governments(partners, contacts, datetime.now(UTC))
        progress(f"storing {partners} partners with {contacts} contacts each")
        await _store(made, keys, ids, urls)
        client = ClientBuilder().no_proxy().build()
        stack.push_async_callback(client.close)
        listener = Listener()
        broker = await nats.connect(urls.nats_url)
        stack.push_async_callback(broker.close)
        await broker.jetstream().subscribe(
            f"{DutyPlanPublished.type}.*",
            cb=listener.take,
            ordered_consumer=True,
            config=api.ConsumerConfig(headers_only=True, deliver_policy=api.DeliverPolicy.NEW),
        )
        processes = {name: start_service(name, ports[name], configured, directory) for name in THE_THREE}
        for process in processes.values():
            stack.callback(process.stop)
        for name, process in processes.items():
            await until_ready(client, process, ports[name])
        database = await asyncpg.connect(urls.database_urls["roster"])
        stack.push_async_callback(database.close)
        url = f"http://127.0.0.1:{ports['roster']}"
        running = RosterRig(urls, keys, ids, client, url, processes, made, listener, database)
        progress("waiting for the first plans")
        await listener.until([one.code for one in made], {})
        await running.quiet()
        yield running
        for process in processes.values():
            process.check()


async def _store(made: Sequence[Government], keys: KeyRing, ids: Ids, urls: ServerUrls) -> None:
    """Writes the partners as roster's own handlers do; its outbox tells the others of them."""
    database = Database(urls.database_urls["roster"], pool_size=1)
    try:
        for government in made:
            state, now = government.state, datetime.now(UTC)
            async with database.transaction() as tx:
                version = await store.save_partner(tx, keys, state.partner, changes(None, state), now=now)
                published = publication.credentials_published(state, version=version)
                await security.on_credentials_published(tx, published)
                changed = publication.partner_changed(
                    state,
                    version=version,
                    seal=lambda point_id, address: keys.seal(address, context=point_context(point_id)),
                )
                cause = Cause(correlation_id=ids.new())
                await outbox.append(tx, [changed, published], cause=cause, ids=ids, now=now)
    finally:
        await database.close()
