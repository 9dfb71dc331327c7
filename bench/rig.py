"""What a benchmark stands on: real servers that write to disk, one process per service, partners, and a raiser.

The promise: the build-up is production's. PostgreSQL syncs every commit and NATS every message; each service is a
process of its own; the address guard is on, with loopback allowed since that is where the sink is; everything is
recorded. Nothing is left behind.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
from pyreqwest.client import Client, ClientBuilder

from bench import network, sinks
from bench.processes import Process, ProcessFailed
from redphone.local import LocalServers, ServerUrls
from shared.bus import NatsBus
from shared.clock import SystemClock
from shared.events import Cause, Event
from shared.ids import Ids
from shared.keys import KeyRing
from shared.outbox import wrap
from shared.security import new_secret

THE_THREE = ("alerting", "roster", "escalation")
REDPHONE = (sys.executable, "-m", "redphone")
PATH = "/redphone"
OFFICE_PATH = "/office"
READY_SECONDS_MAX = 30.0
LOAD_SECONDS_MAX = 60.0
PUBLISH_BATCH = 200
TOKEN_SECONDS = 600
QUIET_SECONDS = 0.25
QUIET_CPU_SECONDS = 0.02
"""What the services take together within `QUIET_SECONDS` while they do nothing but look around."""
QUIET_SECONDS_MAX = 20.0
HEADLINE = "Kabul: evacuation of people at risk before the airport closes"
DESCRIPTION = (
    "The government has fallen and crowds press towards the airport. Embassies tell their citizens to shelter in place"
    " until they are called. Three convoys wait at the ministry; the road to the northern gate is open from 04:00 to"
    " 06:00 local time. Overflight permission is being arranged with the neighbouring states."
)
INSTRUCTION = "Say how many seats and visas you can offer in the coming 72 hours, and who speaks for you on the ground."


Publication = Callable[[Sequence[network.Partner], KeyRing, str, datetime], Iterable[Event]]


class Refused(RuntimeError):
    """The service answered a request of the benchmark with something else than expected."""


@dataclass
class Raiser:
    """The officer who raises alerts, over one warm connection."""

    client: Client
    url: str
    secret: str
    to: list[str]
    precedence: str = "PRIORITY"
    _token: str = ""
    _until: float = 0.0

    async def raise_alert(self) -> tuple[UUID, float, float]:
        """Releases one alert to every partner: its id, when the request was sent (Unix seconds), and how long the
        answer took (seconds).
        """
        token = await self.token()
        body = {
            "headline": HEADLINE,
            "description": DESCRIPTION,
            "instruction": INSTRUCTION,
            "countries": ["AFG"],
            "to": self.to,
            "precedence": self.precedence,
            "self_release_reason": "alone on duty",
        }
        request = (
            self.client.post(f"{self.url}/v1/alerts")
            .headers({"authorization": f"Bearer {token}", "idempotency-key": str(uuid4())})
            .body_json(body)
            .build()
        )
        sent_at, begun = time.time(), time.perf_counter()
        answer = await request.send()
        took = time.perf_counter() - begun
        if answer.status != 202:
            raise Refused(f"alerting answered {answer.status}: {await answer.text()}")
        return UUID((await answer.json())["id"]), sent_at, took

    async def token(self) -> str:
        """A token that is good for some minutes more."""
        if time.monotonic() > self._until:
            body = {"client_id": network.CLIENT_ID, "client_secret": self.secret}
            answer = await self.client.post(f"{self.url}/v1/tokens").body_json(body).build().send()
            if answer.status != 200:
                raise Refused(f"alerting gave no token: {answer.status} {await answer.text()}")
            self._token, self._until = (await answer.json())["access_token"], time.monotonic() + TOKEN_SECONDS
        return self._token


@dataclass(frozen=True)
class Rig:
    """Everything, running."""

    directory: Path
    urls: ServerUrls
    keys: KeyRing
    sink: sinks.Sink
    services: Mapping[str, Process]
    partners: Sequence[network.Partner]
    raiser: Raiser
    escalation_database: asyncpg.Connection[Any]
    ports: Mapping[str, int]

    def port(self, service: str) -> int:
        """Where a service listens on this machine."""
        return self.ports[service]

    def url(self, service: str) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.ports[service]}"

    @property
    def endpoints(self) -> int:
        """How many webhooks one alert means."""
        return sum(len(partner.urls) for partner in self.partners)

    def check(self) -> None:
        """Raises `ProcessFailed` if any process has ended."""
        for process in (*self.services.values(), self.sink.process):
            process.check()

    async def quiet(self) -> None:
        """Waits until every page has been sent and recorded, and no process has anything left to do."""
        while await self.escalation_database.fetchval(_BUSY):
            self.check()
            await asyncio.sleep(0.05)
        deadline = time.monotonic() + QUIET_SECONDS_MAX
        before = self.cpu_seconds()
        while time.monotonic() < deadline:
            await asyncio.sleep(QUIET_SECONDS)
            after = self.cpu_seconds()
            if after - before <= QUIET_CPU_SECONDS:
                return
            before = after

    def cpu_seconds(self) -> float:
        """Processor time that all services have taken so far."""
        return sum(process.cpu_seconds() for process in self.services.values())


_BUSY = """
SELECT EXISTS (SELECT FROM pages WHERE state = 'leased' OR state = 'due' AND due_at <= clock_timestamp())
    OR EXISTS (SELECT FROM outbox WHERE position IS NULL)
"""


@asynccontextmanager
async def rig(
    endpoints: int,
    *,
    own_sink: bool = False,
    environment: Mapping[str, str] | None = None,
    events: Publication = network.events,
    services: Sequence[str] = THE_THREE,
) -> AsyncIterator[Rig]:
    """Starts everything for so many endpoints, and ends it again. `environment` configures the services further, and
    `events` are what roster publishes of the partners.
    """
    directory = Path(tempfile.mkdtemp(prefix="redphone-bench-"))
    async with AsyncExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        servers = LocalServers(directory / "data")
        urls = await servers.start()
        stack.push_async_callback(servers.stop)
        sink = await sinks.start_sink(directory / "sink", endpoints, own=own_sink)
        stack.callback(sink.process.stop)
        keys = KeyRing.generate()
        keys.save(directory / "keys.json")
        ports = dict(zip(services, sinks.free_ports(len(services)), strict=True))
        configured = {**environment_of(directory, urls, ports), **(environment or {})}
        await deploy(configured, directory)
        await _put_heartbeats_off(urls.owner_urls["escalation"])
        processes = {name: start_service(name, ports[name], configured, directory) for name in services}
        for process in processes.values():
            stack.callback(process.stop)
        client = ClientBuilder().no_proxy().build()
        stack.push_async_callback(client.close)
        for name, process in processes.items():
            await until_ready(client, process, ports[name])
        database = await asyncpg.connect(urls.database_urls["escalation"])
        stack.push_async_callback(database.close)
        partners = network.partners(sink.urls(PATH), sink.urls(OFFICE_PATH))
        secret = new_secret()
        published = list(events(partners, keys, secret, datetime.now(UTC)))
        await _load(published, len(partners), urls)
        raiser = Raiser(client, f"http://127.0.0.1:{ports['alerting']}", secret, [p.code for p in partners])
        running = Rig(directory, urls, keys, sink, processes, partners, raiser, database, ports)
        await asyncio.sleep(QUIET_SECONDS)
        running.check()
        yield running
        running.check()


async def deploy(environment: Mapping[str, str], directory: Path) -> None:
    """Brings databases and streams to this version, as a deployment does."""
    deploying = Process.start(
        "redphone deploy", [*REDPHONE, "deploy"], directory / "deploy.log", environment=environment
    )
    await deploying.until_ended()


_NO_HEARTBEATS = """
CREATE FUNCTION put_off() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.next_at := NEW.next_at + interval '7 days'; RETURN NEW; END $$;
CREATE TRIGGER put_off BEFORE INSERT ON heartbeats FOR EACH ROW EXECUTE FUNCTION put_off();
"""


async def _put_heartbeats_off(owner_url: str) -> None:
    """The sinks count requests, and are to count alerts alone: no heartbeat comes while this runs."""
    owner = await asyncpg.connect(owner_url)
    try:
        await owner.execute(_NO_HEARTBEATS)
    finally:
        await owner.close()


def environment_of(directory: Path, urls: ServerUrls, ports: Mapping[str, int]) -> dict[str, str]:
    """How the services of a benchmark are configured: as in production, but for plain HTTP on loopback."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("REDPHONE_")}
    environment |= {f"REDPHONE_{name.upper()}_DATABASE_URL": url for name, url in urls.database_urls.items()}
    environment |= {f"REDPHONE_{name.upper()}_OWNER_DATABASE_URL": url for name, url in urls.owner_urls.items()}
    apis = {name: f"http://127.0.0.1:{ports[name]}" for name in THE_THREE}
    environment |= {f"REDPHONE_FEED_{name.upper()}_URL": url for name, url in apis.items()}
    environment |= {f"REDPHONE_API_{name.upper()}_URL": url for name, url in apis.items()}
    return environment | {
        "REDPHONE_NATS_URL": urls.nats_url,
        "REDPHONE_KEYS_FILE": str(directory / "keys.json"),
        "REDPHONE_PUBLIC_URL": "https://redphone.example",
        "REDPHONE_DEVELOPMENT": "true",
        "REDPHONE_LOG_JSON": "true",
    }


def start_service(name: str, port: int, environment: Mapping[str, str], directory: Path) -> Process:
    """A service in a process of its own."""
    return Process.start(
        name,
        [*REDPHONE, "serve", name, "--port", str(port)],
        directory / f"{name}.log",
        environment=environment,
    )


async def until_ready(client: Client, process: Process, port: int) -> None:
    """Waits until the service says that it is ready. Raises `ProcessFailed`."""
    await process.until_listening(port)
    deadline = time.monotonic() + READY_SECONDS_MAX
    while (answer := await client.get(f"http://127.0.0.1:{port}/readyz").build().send()).status != 200:
        process.check()
        if time.monotonic() > deadline:
            raise ProcessFailed(f"{process.name} does not become ready: {await answer.text()}")
        await asyncio.sleep(0.1)


async def _load(published: Sequence[Event], count: int, urls: ServerUrls) -> None:
    """Publishes the partners as roster does, and waits until both other services keep them."""
    clock = SystemClock()
    ids = Ids(clock.now)
    bus = NatsBus([urls.nats_url], service="roster", clock=clock)
    await bus.start()
    try:
        messages = wrap(published, cause=Cause(correlation_id=ids.new()), ids=ids, now=clock.now())
        for start in range(0, len(messages), PUBLISH_BATCH):
            batch = messages[start : start + PUBLISH_BATCH]
            if len(await bus.publish(batch, timeout_seconds=10)) != len(batch):
                raise Refused("the broker did not confirm the partners")
    finally:
        await bus.stop()
    wanted = {
        "alerting": ("SELECT count(*) FROM partners", count + 1),
        "escalation": ("SELECT count(*) FROM duty_plans", count),
    }
    deadline = time.monotonic() + LOAD_SECONDS_MAX
    for service, (query, wanted_count) in wanted.items():
        connection = await asyncpg.connect(urls.database_urls[service])
        try:
            while await connection.fetchval(query) < wanted_count:
                if time.monotonic() > deadline:
                    raise Refused(f"{service} did not take all partners")
                await asyncio.sleep(0.05)
        finally:
            await connection.close()
