"""Red Phone as production runs it: real servers, one process per service, killed and started again as a test likes.

`Stack.start` runs `redphone serve` as a real process. With `dying=` it starts the same through `tests.support.dying`,
which ends the process by SIGKILL at one named place in the code: the product itself has no such switch.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
import orjson

from redphone.local import LocalServers, ServerUrls
from shared.clock import SystemClock
from shared.ids import derived
from shared.keys import KeyRing
from shared.security import administrator, issue_token
from tests.support.receiver import Receiver
from tests.support.waiting import eventually

SERVICES = ("roster", "alerting", "escalation")
ROOT = Path(__file__).resolve().parents[2]

DEADLINES = """
acknowledge_within_seconds = {acknowledge}
next_level_every_seconds = {interval}
unreached_after_seconds = {unreached}
position_within_seconds = 600
"""

PARTNER = """
[partners.{code}]
name = "Example government {code}"
standing = "{standing}"
time_zone = "Europe/London"

[partners.{code}.offices.main]
name = "Duty office {code}"
switchboard = "+999000100"
points.webhook = {{ channel = "webhook", address = "{url}/{code}/office" }}

[partners.{code}.contacts.first]
name = "First Example of {code}"
title = "Duty officer"
points.webhook = {{ channel = "webhook", address = "{url}/{code}/first" }}

[partners.{code}.contacts.second]
name = "Second Example of {code}"
title = "Senior contact"
points.webhook = {{ channel = "webhook", address = "{url}/{code}/second" }}

[[partners.{code}.levels]]
targets = ["contact:first"]

[[partners.{code}.levels]]
targets = ["contact:second"]

[partners.{code}.endpoints.system]
url = "{url}/{code}/system"

[partners.{code}.credentials.{lower}-officer]
kind = "person"
contact = "first"
roles = ["duty_officer"]

[partners.{code}.credentials.{lower}-second]
kind = "person"
contact = "second"
roles = ["releaser", "senior_contact"]
"""


def free_port() -> int:
    """A port on loopback that nobody holds now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Stack:
    """Servers, processes, one receiver that plays all partners, and the credentials of their people."""

    directory: Path
    receiver: Receiver
    codes: tuple[str, ...] = ("CA", "GB", "US", "XR")
    services: tuple[str, ...] = SERVICES
    acknowledge_seconds: int = 4
    interval_seconds: int = 2
    unreached_seconds: int = 12
    processes: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = {service: free_port() for service in self.services}
        self.servers = LocalServers(self.directory / "servers", fsync=False)
        self.keys_file = self.directory / "keys.json"
        self.clock = SystemClock()
        self._tokens: dict[str, str] = {}
        self._dying: set[str] = set()
        self._raised: list[Any] = []
        self._client = httpx.AsyncClient(timeout=10, trust_env=False)
        self._urls: ServerUrls | None = None

    async def __aenter__(self) -> Self:
        KeyRing.generate().save(self.keys_file)
        self._urls = await self.servers.start()
        await self.run("deploy")
        await asyncio.gather(*map(self.start, self.services))
        await self.apply_network()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for service in list(self.processes):
            await self.kill(service)
        await self._client.aclose()
        await self.servers.stop()

    @property
    def environment(self) -> dict[str, str]:
        """What every process is told."""
        assert self._urls is not None
        named = {"REDPHONE_NATS_URL": self._urls.nats_url}
        for service in self._urls.database_urls:
            named[f"REDPHONE_{service.upper()}_DATABASE_URL"] = self._urls.database_urls[service]
            named[f"REDPHONE_{service.upper()}_OWNER_DATABASE_URL"] = self._urls.owner_urls[service]
        for service in SERVICES:
            named[f"REDPHONE_FEED_{service.upper()}_URL"] = self.url(service)
            named[f"REDPHONE_API_{service.upper()}_URL"] = self.url(service)
        return {
            **{key: value for key, value in os.environ.items() if not key.startswith("REDPHONE_")},
            **named,
            "REDPHONE_KEYS_FILE": str(self.keys_file),
            "REDPHONE_PUBLIC_URL": self.url("alerting"),
            "REDPHONE_DEVELOPMENT": "true",
            "REDPHONE_LOG_JSON": "true",
            "PYTHONPATH": str(ROOT),
        }

    def url(self, service: str) -> str:
        """Where a service listens."""
        return f"http://127.0.0.1:{self.ports[service]}"

    async def run(self, *arguments: str) -> None:
        """Runs a `redphone` command to its end."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "redphone", *arguments, env=self.environment, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()

    async def start(self, service: str, *, dying: str | None = None) -> None:
        """Starts a service and waits until it is ready; `dying` names the place at which it will end by SIGKILL."""
        module = ["redphone"] if dying is None else ["tests.support.dying", dying]
        with (self.directory / f"{service}.log").open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                *module,
                "serve",
                service,
                "--port",
                str(self.ports[service]),
                env=self.environment,
                stdout=log,
                stderr=log,
            )
        self.processes[service] = process
        await eventually(lambda: self._ready(service), within_seconds=60)

    async def _ready(self, service: str) -> bool:
        assert self.processes[service].returncode is None, f"{service} ended while it was starting"
        try:
            return (await self._client.get(f"{self.url(service)}/readyz")).status_code == 200
        except httpx.HTTPError:
            return False

    async def kill(self, service: str) -> None:
        """Kill -9."""
        process = self.processes.pop(service)
        if process.returncode is None:
            process.send_signal(signal.SIGKILL)
        await process.wait()

    async def make_whole(self) -> None:
        """Everything runs, as at the beginning."""
        if not self.servers.postgres.running:
            await self.servers.postgres.start()
        if not self.servers.nats.running:
            await self.servers.nats.start()
        for service in self.services:
            if service in self._dying:
                await self.kill(service)
            if service not in self.processes:
                await self.start(service)
        self._dying.clear()

    async def close_all(self) -> None:
        """Closes every alert of an earlier test."""
        while self._raised:
            alert = self._raised.pop()
            await self.call("alerting", "POST", f"/v1/alerts/{alert['id']}/close", by="ca-second", body={})

    async def died(self, service: str) -> None:
        """Waits until a service that was started to die has done so."""
        async with asyncio.timeout(30):
            code = await self.processes.pop(service).wait()
        self._dying.discard(service)
        assert code == -signal.SIGKILL, f"{service} ended with {code}"

    async def restart_dying(self, service: str, place: str) -> None:
        """Starts a service anew so that it will end by SIGKILL at `place`."""
        await self.kill(service)
        await self.start(service, dying=place)
        self._dying.add(service)

    # --- people -------------------------------------------------------------------------------------------------------

    async def apply_network(self) -> None:
        """Brings in the partners, and waits until escalation and alerting know them."""
        text = "format = 1\n"
        for precedence in ("FLASH", "IMMEDIATE", "PRIORITY", "ROUTINE"):
            text += f"[deadlines.{precedence}]" + DEADLINES.format(
                acknowledge=self.acknowledge_seconds, interval=self.interval_seconds, unreached=self.unreached_seconds
            )
        for code in self.codes:
            standing = "secretariat" if code == "XR" else "member"
            text += PARTNER.format(code=code, lower=code.lower(), standing=standing, url=self.receiver.url)
        ring = KeyRing.load(self.keys_file)
        token = issue_token(ring, administrator("test"), now=self.clock.now(), token_id=derived("token", "test"))
        answer = await self._client.post(
            f"{self.url('roster')}/v1/network",
            content=text,
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/toml"},
        )
        assert answer.status_code == 200, answer.text
        self.secrets = {secret["client_id"]: secret["secret"] for secret in answer.json()["secrets"]}
        for service in ("alerting", "escalation"):
            await eventually(lambda service=service: self._knows(service), within_seconds=60)  # type: ignore[misc]

    async def _knows(self, service: str) -> bool:
        for client_id in self.secrets:
            answer = await self._client.post(
                f"{self.url(service)}/v1/tokens",
                json={"client_id": client_id, "client_secret": self.secrets[client_id]},
            )
            if answer.status_code != 200:
                return False
        if service != "escalation":
            return True
        import asyncpg

        assert self._urls is not None
        connection = await asyncpg.connect(self._urls.owner_urls["escalation"])
        try:
            return bool(await connection.fetchval("SELECT count(*) FROM duty_plans") == len(self.codes))
        finally:
            await connection.close()

    async def call(self, service: str, method: str, path: str, *, by: str, body: Any = None, key: str = "") -> Any:
        """An API call by somebody; returns the parsed answer of a 2xx, else fails with the problem."""
        token = await self.token(service, by)
        headers = {"Authorization": f"Bearer {token}", **({"Idempotency-Key": key} if key else {})}
        answer = await self._client.request(method, f"{self.url(service)}{path}", json=body, headers=headers)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json()

    async def token(self, service: str, client_id: str) -> str:
        """A token, from whichever service is asked."""
        if client_id not in self._tokens:
            answer = await self._client.post(
                f"{self.url(service)}/v1/tokens",
                json={"client_id": client_id, "client_secret": self.secrets[client_id]},
            )
            assert answer.status_code == 200, answer.text
            self._tokens[client_id] = answer.json()["access_token"]
        return self._tokens[client_id]

    def forget_tokens(self) -> None:
        """Everybody has to ask for a token again."""
        self._tokens.clear()

    async def raise_alert(self, *to: str, key: str) -> Any:
        """Canada's officer, alone at night, raises FLASH and releases it at once."""
        body = {
            "headline": "Kabul: evacuation before the airport closes",
            "countries": ["AF"],
            "to": list(to),
            "precedence": "FLASH",
            "self_release_reason": "alone on duty at night",
        }
        alert = await self.call("alerting", "POST", "/v1/alerts", by="ca-officer", body=body, key=key)
        if alert["id"] not in {raised["id"] for raised in self._raised}:
            self._raised.append(alert)
        return alert

    async def acknowledge(self, alert: Any, by: str) -> Any:
        """Somebody acknowledges for their government, by alert."""
        return await self.call("escalation", "POST", "/v1/acknowledgements", by=by, body={"alert_ids": [alert["id"]]})

    async def states(self, alert: Any) -> dict[str, str]:
        """State by partner, as the raiser sees it; takeovers left out."""
        page = await self.call(
            "escalation", "GET", f"/v1/escalations?alert_id={alert['id']}&kind=answer", by="ca-officer"
        )
        return {row["partner"]: row["state"] for row in page["items"]}

    def received(self, path: str, alert: Any) -> list[dict[str, Any]]:
        """The messages about an alert that arrived at a path: webhook-id, type and data."""
        messages = [
            {"id": request.headers["webhook-id"], **orjson.loads(request.body)}
            for request in list(self.receiver.requests)
            if request.path == f"/hook{path}"
        ]
        return [message for message in messages if message["data"].get("alert", {}).get("id") == alert["id"]]
