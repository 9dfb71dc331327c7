"""The receiving side: a process that answers every POST on many ports, and what it noted about their arrival.

The cast: nginx where it is installed, `bench.own_sink` elsewhere; `Arrivals` reads what either of them notes, one line
per request: Unix seconds, port, path. Contenders use paths of their own on the same ports, so all of them are received
by the same process and timed by the same clock.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import socket
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.processes import Process

NGINX = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
POLL_SECONDS = 0.02
PORTS_FROM, PORTS_TO = 20_000, 32_000
"""Below the range from which systems take the ports of outgoing connections."""

_NGINX_CONFIG = """
daemon off;
master_process off;
pid {directory}/nginx.pid;
error_log {directory}/nginx-error.log;
worker_rlimit_nofile 16384;
events {{ worker_connections 16000; }}
http {{
    log_format arrival '$msec $server_port $uri';
    access_log {log} arrival;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_body_buffer_size 64k;
    keepalive_timeout 3600s;
    keepalive_requests 100000000;
    server {{
        {listens}
        location / {{ return 204; }}
    }}
}}
"""


class SinkSilent(RuntimeError):
    """Fewer requests arrived than were sent within the time that the benchmark waits."""


@dataclass
class Arrivals:
    """Reads the sink's notes. `of(path)` is what came on a path since the last `forget`, as Unix seconds by port."""

    log: Path
    _offset: int = 0
    _rest: str = ""
    _times: dict[str, list[tuple[float, int]]] = field(default_factory=lambda: defaultdict(list))

    def read(self) -> None:
        """Takes in what has been noted since the last time."""
        with self.log.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        self._offset += len(added)
        *lines, self._rest = (self._rest + added.decode()).split("\n")
        for line in lines:
            at, port, path = line.split(" ", 2)
            self._times[path].append((float(at), int(port)))

    def of(self, path: str) -> list[float]:
        """When each request on the path came, in the order of arrival."""
        return sorted(at for at, _port in self._times[path])

    def count(self, path: str) -> int:
        """How many requests have been read on the path."""
        return len(self._times[path])

    def forget(self) -> None:
        """Starts counting afresh."""
        self.read()
        self._times.clear()

    async def wait_for(self, path: str, count: int, *, seconds: float = 60.0) -> list[float]:
        """The arrival times of the first `count` requests on a path. Raises `SinkSilent` when they do not come."""
        deadline = time.monotonic() + seconds
        while True:
            self.read()
            if len(self._times[path]) >= count:
                return self.of(path)[:count]
            if time.monotonic() > deadline:
                raise SinkSilent(f"{len(self._times[path])} of {count} requests arrived on {path} in {seconds:g} s")
            await asyncio.sleep(POLL_SECONDS)


@dataclass(frozen=True)
class Sink:
    """A running sink."""

    kind: str
    ports: list[int]
    arrivals: Arrivals
    process: Process

    def urls(self, path: str) -> list[str]:
        """One URL per port, on a contender's own path."""
        return [f"http://127.0.0.1:{port}{path}" for port in self.ports]


async def start_sink(directory: Path, ports: int, *, own: bool = False) -> Sink:
    """Starts nginx (or our own sink, if it is missing or `own`) on `ports` free ports and waits until it answers."""
    kind = "own" if own or NGINX is None else "nginx"
    chosen = free_ports(ports)
    command, arrivals = _prepare(directory, chosen, own=kind == "own")
    process = Process.start(f"sink ({kind})", command, directory / "sink.log")
    for port in (chosen[0], chosen[-1]):
        await process.until_listening(port)
    return Sink(kind, chosen, arrivals, process)


def _prepare(directory: Path, ports: Sequence[int], *, own: bool) -> tuple[list[str], Arrivals]:
    """Makes the sink's directory: the command line that starts it, and what reads its notes."""
    directory.mkdir(parents=True)
    log = directory / "arrivals.log"
    log.touch()
    if own or NGINX is None:
        return [sys.executable, "-m", "bench.own_sink", str(log), str(ports[0]), str(len(ports))], Arrivals(log)
    config = directory / "nginx.conf"
    listens = "\n        ".join(f"listen 127.0.0.1:{port};" for port in ports)
    config.write_text(_NGINX_CONFIG.format(directory=directory, log=log, listens=listens))
    return [NGINX, "-p", str(directory), "-c", str(config)], Arrivals(log)


def free_ports(count: int) -> list[int]:
    """So many ports in a row on which nobody listens at the moment."""
    for _ in range(200):
        first = random.randrange(PORTS_FROM, PORTS_TO - count)
        ports = list(range(first, first + count))
        if all(map(_is_free, ports)):
            return ports
    raise RuntimeError(f"no {count} free ports in a row between {PORTS_FROM} and {PORTS_TO}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True
