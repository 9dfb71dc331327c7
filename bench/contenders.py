"""What Red Phone is compared with, on the same endpoints: a bare loop of HTTP clients, and Prometheus Alertmanager.

The bare loop sends the very bodies that Red Phone has just sent, signed beforehand, and writes nothing. Alertmanager
writes nothing before it sends either, and signs nothing.
"""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import orjson
from pyreqwest.client import Client, ClientBuilder

from bench.processes import Process
from bench.rig import DESCRIPTION, HEADLINE, INSTRUCTION, Rig
from bench.sinks import Sink, free_ports
from services.escalation import store
from services.escalation.messages import alert_part, page_body
from shared import webhooks

BARE_PATH = "/bare"
ALERTMANAGER_PATH = "/alertmanager"
ALERTMANAGER = shutil.which("prometheus-alertmanager")
BUILD_AT_ONCE = 2


@dataclass
class BareLoop:
    """One warm client per endpoint, and nothing else."""

    urls: Sequence[str]
    clients: list[Client] = field(default_factory=list)

    async def start(self) -> None:
        """Builds the clients as Red Phone builds its own, and lets each of them connect."""
        places = asyncio.Semaphore(BUILD_AT_ONCE)

        async def build() -> Client:
            async with places:
                return await asyncio.to_thread(_build_client)

        self.clients = await asyncio.gather(*(build() for _ in self.urls))
        await self.send([({}, b"{}")] * len(self.urls))

    async def send(self, signed: Sequence[tuple[dict[str, str], bytes]]) -> float:
        """Sends one body to each endpoint, all at once; when it began, as Unix seconds."""

        async def post(client: Client, url: str, headers: dict[str, str], body: bytes) -> None:
            await client.post(url).headers(headers).body_bytes(body).build().send()

        begun_at = time.time()
        await asyncio.gather(
            *(post(client, url, *what) for client, url, what in zip(self.clients, self.urls, signed, strict=True))
        )
        return begun_at

    async def close(self) -> None:
        """Closes the connections."""
        await asyncio.gather(*(client.close() for client in self.clients))


def _build_client() -> Client:
    return (
        ClientBuilder()
        .no_proxy()
        .follow_redirects(False)
        .referer(False)
        .gzip(False)
        .brotli(False)
        .zstd(False)
        .deflate(False)
        .http1_only()
        .http1_lower_case_headers()
        .default_headers({"content-type": "application/json"})
        .connect_timeout(timedelta(seconds=2))
        .timeout(timedelta(seconds=5))
        .pool_idle_timeout(timedelta(seconds=3600))
        .build()
    )


async def signed_bodies(running: Rig, alert_id: UUID) -> list[tuple[dict[str, str], bytes]]:
    """Headers and body of every webhook that Red Phone has sent for the alert."""
    connection = running.escalation_database
    head = await connection.fetchrow("SELECT facts, content FROM alert_heads WHERE alert_id = $1", alert_id)
    assert head is not None, "the alert has no head"
    part = alert_part(store.facts_of_json(head["facts"]), orjson.loads(head["content"]), "https://redphone.example")
    pages = await connection.fetch("SELECT * FROM pages WHERE alert_id = $1", alert_id)
    now = datetime.now(UTC)
    bodies = [(str(page["id"]), page_body(page, None, part)) for page in pages]
    return [(webhooks.headers(running.keys.webhook_keys, page_id, now, body), body) for page_id, body in bodies]


async def least_seconds(running: Rig, bodies: Sequence[tuple[dict[str, str], bytes]]) -> float:
    """What a release costs at least beside the bare loop, whoever decides and whatever is written: two commits that
    reach the disk, one in each service, and a signature for each webhook, made on two cores at once.

    Neither request, broker, decision nor the rows of escalations and pages are in it.
    """
    keys, now, bodies_only = running.keys.webhook_keys, datetime.now(UTC), [body for _headers, body in bodies]
    begun_at = time.perf_counter()
    for body in bodies_only:
        webhooks.headers(keys, "floor", now, body)
    signing = (time.perf_counter() - begun_at) / 2
    begun_at = time.perf_counter()
    for _ in range(2):
        await running.escalation_database.execute(
            "INSERT INTO inbox (consumer, message_id, accepted_at) VALUES ('bench', $1, $2)", uuid4(), now
        )
    return signing + time.perf_counter() - begun_at


@dataclass(frozen=True)
class Alertmanager:
    """A running Alertmanager with one webhook receiver per endpoint."""

    process: Process
    client: Client
    url: str

    @classmethod
    async def start(cls, directory: Path, sink: Sink) -> Alertmanager | None:
        """Starts it and waits until it answers; None where it is not installed."""
        if ALERTMANAGER is None:
            return None
        config = _write_configuration(directory, sink.urls(ALERTMANAGER_PATH))
        [port] = free_ports(1)
        process = Process.start(
            "alertmanager",
            [
                ALERTMANAGER,
                f"--config.file={config}",
                f"--storage.path={directory}",
                f"--web.listen-address=127.0.0.1:{port}",
                "--cluster.listen-address=",
                "--log.level=error",
            ],
            directory / "alertmanager.log",
        )
        await process.until_listening(port)
        return cls(process, ClientBuilder().no_proxy().build(), f"http://127.0.0.1:{port}/api/v2/alerts")

    async def raise_alert(self) -> float:
        """Posts one alert of its own group; when it was posted, as Unix seconds."""
        alert = {
            "labels": {"alertname": f"bench-{uuid4()}", "severity": "critical"},
            "annotations": {"summary": HEADLINE, "description": DESCRIPTION, "instruction": INSTRUCTION},
        }
        request = self.client.post(self.url).body_json([alert]).build()
        sent_at = time.time()
        answer = await request.send()
        if answer.status != 200:
            raise RuntimeError(f"alertmanager answered {answer.status}: {await answer.text()}")
        return sent_at

    async def close(self) -> None:
        """Ends the process."""
        await self.client.close()
        self.process.stop()


def _write_configuration(directory: Path, urls: Sequence[str]) -> Path:
    directory.mkdir()
    path = directory / "alertmanager.yml"
    path.write_text(orjson.dumps(_configuration(urls)).decode())  # JSON is YAML, too
    return path


def _configuration(urls: Sequence[str]) -> dict[str, Any]:
    names = [f"endpoint-{number}" for number in range(len(urls))]
    return {
        "route": {
            "receiver": names[0],
            "group_by": ["..."],
            "group_wait": "0s",
            "group_interval": "1h",
            "repeat_interval": "24h",
            "routes": [{"receiver": name, "continue": True} for name in names],
        },
        "receivers": [
            {"name": name, "webhook_configs": [{"url": url, "send_resolved": False}]}
            for name, url in zip(names, urls, strict=True)
        ],
    }
