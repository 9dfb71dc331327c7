"""The whole of Red Phone as `redphone up` runs it, on real servers, for tests that look at it from outside.

One process, the eleven partners of `network/rdn.toml`, and a mail provider on this machine, so that a message can be
read as its reader reads it. FLASH waits for as long as in the network file; IMMEDIATE waits for seconds, so that levels
rise and partners become unreached while a test looks on.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import sys
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import asyncpg
import httpx

from redphone.counterparts.mail import MailProvider, ReceivedMail
from redphone.local import LocalServers, ServerUrls
from shared.clock import SystemClock
from tests.support.stack import ROOT, free_port
from tests.support.waiting import eventually

START_SECONDS_MAX = 150.0
QUICK = {
    "acknowledge_within_seconds": 6,
    "next_level_every_seconds": 3,
    "unreached_after_seconds": 10,
    "position_within_seconds": 600,
}
"""The deadlines of IMMEDIATE here."""

_LINK = re.compile(r"https?://\S+/a/[A-Za-z0-9_-]+")
_CODE = re.compile(r"(?<!\w)[^\W\d_]{2,} ([0-9]{4})(?![0-9])")


@dataclass(frozen=True)
class Asked:
    """What a message gives its reader to answer with: the page behind the link, and the code."""

    link: str
    code: str
    mail: ReceivedMail


@dataclass
class System:
    """A running `redphone up` with servers of its own. Use as an asynchronous context manager."""

    directory: Path
    mail: MailProvider = field(default_factory=lambda: MailProvider(clock=SystemClock()))
    credentials: dict[str, str] = field(default_factory=dict)
    process: asyncio.subprocess.Process | None = None

    def __post_init__(self) -> None:
        self.port = free_port()
        self.servers = LocalServers(self.directory / "servers", fsync=False, sync_always=False)
        self._urls: ServerUrls | None = None
        self._running = AsyncExitStack()
        self._tokens: dict[str, str] = {}
        self._keys = count(1)
        self._http = httpx.AsyncClient(base_url=self.url, timeout=20, trust_env=False)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self._http.aclose)
            stack.push_async_callback(self.servers.stop)
            self._urls = await self.servers.start()
            await stack.enter_async_context(self.mail)
            self.mail.public_url = self.url
            stack.push_async_callback(self.kill)
            await self.start()
            await eventually(self._everybody_is_known, within_seconds=START_SECONDS_MAX)
            self._running = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._running.aclose()

    # --- the process --------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Starts it, and returns when it works."""
        data = self.directory / "data"
        network = self.directory / "network.toml"
        if not network.exists():
            network.write_text(_quick((ROOT / "network" / "rdn.toml").read_text("utf-8")), "utf-8")
        with (self.directory / "up.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "redphone", "up", "--data-dir", str(data), "--port", str(self.port)),
                *("--network", str(network), "--development", "--json"),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environment(),
            )
        assert self.process.stdout is not None
        async with asyncio.timeout(START_SECONDS_MAX):
            line = await self.process.stdout.readline()
        assert line, (self.directory / "up.log").read_text("utf-8")[-2000:]
        saved = json.loads((data / "credentials.json").read_bytes())["credentials"]
        self.credentials = {one["client_id"]: one["client_secret"] for one in saved}

    async def kill(self) -> None:
        """Kill -9."""
        process, self.process = self.process, None
        if process is not None:
            if process.returncode is None:
                process.kill()
            await process.wait()

    def freeze(self) -> None:
        """Stops the process where it stands: connections stay open, and nothing comes any more."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Lets it go on."""
        with suppress(ProcessLookupError):
            if self.process is not None:
                self.process.send_signal(signal.SIGCONT)

    def _environment(self) -> dict[str, str]:
        assert self._urls is not None
        kept = {name: value for name, value in os.environ.items() if not name.startswith("REDPHONE_")}
        given = {f"REDPHONE_{name.upper()}_DATABASE_URL": url for name, url in self._urls.database_urls.items()}
        given |= {f"REDPHONE_{name.upper()}_OWNER_DATABASE_URL": url for name, url in self._urls.owner_urls.items()}
        home = {"XDG_STATE_HOME": str(self.directory / "state"), "NO_COLOR": "1", "PYTHONPATH": str(ROOT)}
        return kept | given | home | self.mail.environment() | {"REDPHONE_NATS_URL": self._urls.nats_url}

    async def _everybody_is_known(self) -> bool:
        for client_id in self.credentials:
            if await self._token(client_id) is None:
                return False
        return bool(await self.rows("escalation", "SELECT 1 FROM duty_plans HAVING count(*) = 11"))

    async def rows(self, service: str, sql: str, *values: Any) -> list[Any]:
        """What a query finds in a service's database."""
        assert self._urls is not None
        connection = await asyncpg.connect(self._urls.owner_urls[service])
        try:
            return list(await connection.fetch(sql, *values))
        finally:
            await connection.close()

    # --- people -------------------------------------------------------------------------------------------------------

    async def call(self, client_id: str, method: str, path: str, body: Any = None) -> Any:
        """An API call by somebody; the parsed answer of a 2xx, else the test fails with the problem."""
        headers = {"Authorization": f"Bearer {await self._token(client_id)}"}
        if method == "POST":
            headers["Idempotency-Key"] = f"key-{next(self._keys)}-{os.getpid()}"
        answer = await self._http.request(method, path, json=body, headers=headers)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    async def _token(self, client_id: str) -> str | None:
        if client_id not in self._tokens:
            body = {"client_id": client_id, "client_secret": self.credentials[client_id]}
            answer = await self._http.post("/v1/tokens", json=body)
            if not answer.is_success:
                return None
            self._tokens[client_id] = answer.json()["access_token"]
        return self._tokens[client_id]

    async def raise_alert(self, *to: str, by: str = "ca-duty-officer", **said: Any) -> Any:
        """Somebody, alone on duty, raises an alert (FLASH unless said otherwise) and releases it at once."""
        body = {
            "headline": "Kabul: evacuation before the airport closes",
            "countries": ["AFG"],
            "to": list(to),
            "precedence": "FLASH",
            "self_release_reason": "alone on duty at night",
        }
        return await self.call(by, "POST", "/v1/alerts", {**body, **said})

    async def close_all(self) -> None:
        """Stands every open alert down, so that the next test finds an empty board."""
        for row in await self.rows("alerting", "SELECT id, raiser FROM alerts WHERE state = 'released'"):
            body = {"self_release_reason": "the test is over"}
            await self.call(f"{row['raiser'].lower()}-duty-officer", "POST", f"/v1/alerts/{row['id']}/close", body)

    async def asked(self, alert: Any, *addresses: str) -> Asked:
        """Waits for the message about an alert that reaches one of these mailboxes, and reads link and code in it."""

        def found() -> Asked | None:
            for mail in self.mail.mails:
                link, code = _LINK.search(mail.text), _CODE.search(mail.text)
                if mail.to in addresses and alert["reference"] in mail.subject + mail.text and link and code:
                    return Asked(link.group(), code.group(1), mail)
            return None

        await eventually(lambda: found() is not None)
        asked = found()
        assert asked is not None
        return asked


def _quick(network: str) -> str:
    """The network file with the deadlines of IMMEDIATE shortened."""
    table = "".join(f"{name} = {seconds}\n" for name, seconds in QUICK.items())
    return re.sub(r"(\[deadlines\.IMMEDIATE\]\n).*?\n(?=\[)", rf"\g<1>{table}\n", network, flags=re.DOTALL)
