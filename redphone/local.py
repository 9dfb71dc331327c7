"""A real PostgreSQL and a real NATS server from Python wheels, kept in one data directory.

The cast: `LocalServers` holds the directory and both servers; `Postgres` and `Nats` say how each is started;
`given_servers` reads the environment for servers that exist already and are then used instead. The promise: data
survives a restart and a kill -9; no server outlives us; nobody else on the machine can reach the data, the socket or
the broker; whatever is wrong is said in one sentence.

    servers.lock           who holds the directory; the mark that the directory is ours
    servers.json           what was chosen once: ports, broker token, socket directory
    postgres/  nats/       the data          *.log    what the servers said
    run/                   PostgreSQL's socket, or a directory in the system's temporary one if this path is too long

The wheel's programs are called directly. Its Python class keeps the server running after a kill -9, opens the
directories above to others, and may put the socket where everybody can write.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import structlog

from redphone.local_nats import Nats
from redphone.local_postgres import SERVICES, Postgres, create_missing_databases, database_name
from redphone.local_process import LocalServerError, Remembered, Server, keep_running, take_down_leftovers

log = structlog.get_logger(__name__)

__all__ = [
    "SERVICES",
    "GivenServers",
    "LocalServerError",
    "LocalServers",
    "ServerUrls",
    "database_name",
    "given_servers",
]


@dataclass(frozen=True)
class ServerUrls:
    """Where everything is. `database_urls` per service log in as a role that owns nothing, `owner_urls` as the owner
    that migrations need. They are plain `postgresql://` URLs. `monitor_url` is None for a broker that is not ours.
    """

    database_urls: dict[str, str]
    owner_urls: dict[str, str]
    nats_url: str
    monitor_url: str | None


@dataclass(frozen=True)
class GivenServers:
    """Servers that exist already, from the environment; what is missing here is started locally."""

    database_urls: dict[str, str] = field(default_factory=dict)
    owner_urls: dict[str, str] = field(default_factory=dict)
    nats_url: str | None = None

    @property
    def has_databases(self) -> bool:
        """Whether every service has its database, so that no PostgreSQL of our own is needed."""
        return set(SERVICES) <= self.database_urls.keys()


def given_servers(environment: Mapping[str, str]) -> GivenServers:
    """What REDPHONE_DATABASE_URL, REDPHONE_<SERVICE>_DATABASE_URL, REDPHONE_<SERVICE>_OWNER_DATABASE_URL and
    REDPHONE_NATS_URL give. The first one names a server: each service takes the database `redphone_<service>` on it.
    """
    database_urls, owner_urls = {}, {}
    base = environment.get("REDPHONE_DATABASE_URL")
    for service in SERVICES:
        own = environment.get(f"REDPHONE_{service.upper()}_DATABASE_URL")
        if own is None and base is not None:
            own = urlsplit(base)._replace(path=f"/{database_name(service)}").geturl()
        if own is not None:
            database_urls[service] = own
            owner_urls[service] = environment.get(f"REDPHONE_{service.upper()}_OWNER_DATABASE_URL", own)
    return GivenServers(database_urls, owner_urls, environment.get("REDPHONE_NATS_URL"))


def prepare_data_directory(path: Path) -> Path:
    """Create the directory, closed to others (0700), and mark it as ours; its absolute path. May be called again.

    A directory that has something else in it is refused, so that a mistyped path closes nobody's home directory.
    """
    directory = path.expanduser().resolve()
    mark = directory / "servers.lock"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not mark.exists() and any(directory.iterdir()):
            message = (
                f"{directory} is not empty and was not made by Red Phone; choose another directory with --data-dir."
            )
            raise LocalServerError(message)
        if os.geteuid() not in {0, directory.stat().st_uid}:
            message = f"{directory} belongs to another user; choose another directory with --data-dir."
            raise LocalServerError(message)
        directory.chmod(0o700)
        mark.touch(mode=0o600)
    except OSError as error:
        message = f"{directory} cannot be used as data directory ({error.strerror}); choose another with --data-dir."
        raise LocalServerError(message) from error
    return directory


class LocalServers:
    """Both servers on one data directory. `fsync` and `sync_always` are switched off only where data may be lost:
    tests.

    The servers are tied to the *thread* that calls `start` (the kernel ends them when it ends), so call it in one that
    stays.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        given: GivenServers | None = None,
        fsync: bool = True,
        sync_always: bool = True,
        nats_port: int | None = None,
    ) -> None:
        self._path = data_dir
        self._given = given or GivenServers()
        self._fsync, self._sync_always, self._nats_port = fsync, sync_always, nats_port
        self._postgres: Postgres | None = None
        self._nats: Nats | None = None
        self._lock_file: int | None = None

    @property
    def postgres(self) -> Postgres:
        """Our PostgreSQL, once started; to stop, kill and start it alone."""
        assert self._postgres is not None, "there is no PostgreSQL of our own"
        return self._postgres

    @property
    def nats(self) -> Nats:
        """Our NATS server, once started; to stop, kill and start it alone."""
        assert self._nats is not None, "there is no NATS server of our own"
        return self._nats

    async def start(self) -> ServerUrls:
        """Start what is not given and wait until all of it answers; LocalServerError if anything stands in the way."""
        try:
            if not self._given.has_databases or self._given.nats_url is None:
                await self._start_own()
            await create_missing_databases(self._given.owner_urls.values())
        except BaseException:
            await self.stop()
            raise
        return self.urls()

    async def _start_own(self) -> None:
        directory = prepare_data_directory(self._path)
        self._lock_file = _hold(directory)
        remembered = Remembered(directory / "servers.json")
        postgres = Postgres(directory, remembered, fsync=self._fsync)
        nats = Nats(directory, remembered, sync_always=self._sync_always, fixed_port=self._nats_port)
        leftovers = await take_down_leftovers([postgres.recognised_by, nats.recognised_by])
        if leftovers:
            log.warning("server.leftovers_ended", count=leftovers)
        if not self._given.has_databases:
            self._postgres = postgres
        if self._given.nats_url is None:
            self._nats = nats
        outcomes = await asyncio.gather(*(server.start() for server in self._servers()), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome

    def _servers(self) -> list[Server]:
        return [server for server in (self._postgres, self._nats) if server is not None]

    def urls(self) -> ServerUrls:
        """Where everything is; they stay the same when a server is restarted."""
        own = self._postgres
        local = {service: own.url(database_name(service)) for service in SERVICES} if own else {}
        owners = {s: own.url(database_name(s), role=f"{database_name(s)}_owner") for s in SERVICES} if own else {}
        return ServerUrls(
            database_urls=local | self._given.database_urls,
            owner_urls=owners | self._given.owner_urls,
            nats_url=self._given.nats_url or self.nats.url,
            monitor_url=self._nats.monitor_url if self._nats else None,
        )

    async def supervise(self) -> None:
        """Start our servers again whenever one dies; runs until cancelled, beside the services."""
        async with asyncio.TaskGroup() as group:
            for server in self._servers():
                group.create_task(keep_running(server))

    async def stop(self) -> None:
        """Stop both in good order and give the directory free; may be called at any time, also twice."""
        await asyncio.gather(*(server.stop() for server in self._servers()))
        if self._postgres is not None:
            self._postgres.remove_outside_socket_directory()
        self._postgres = self._nats = None
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None


def _hold(directory: Path) -> int:
    """Take the lock of the directory and write our process id into it; the open file, whose closing gives it free.

    The kernel drops the lock with the process, so a lock file without a living holder is simply taken over.
    """
    lock_file = os.open(directory / "servers.lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(lock_file, 20).decode(errors="replace").strip() or "unknown"
        os.close(lock_file)
        message = (
            f"{directory} is in use by another Red Phone (process {holder}); "
            "stop that one first, or choose another directory with --data-dir."
        )
        raise LocalServerError(message) from error
    os.ftruncate(lock_file, 0)
    os.write(lock_file, f"{os.getpid()}\n".encode())
    return lock_file
