"""A real PostgreSQL and a real NATS server per test session (and xdist worker), and a fresh database for each test.

A template database per service is migrated once; a test gets a clone of it in some 10 ms, or 50 where files lie on a
disk, and commits for real. What many tests begin with is kept as a further template, with what was learnt in making it.
PostgreSQL runs without fsync here: these tests are about what is written, not about power cuts. NATS lives as long: a
test that makes streams deletes them, or gives them names of its own.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from redphone.local import LocalServers, ServerUrls, database_name
from redphone.local_postgres import access_rights, table_rights

MEMORY_BYTES = 4 << 30
"""So much must be free in memory for its files to lie there: a server's log of writes alone may take one."""

Migrate = Callable[[str], Awaitable[None]]
"""Brings the database at an owner's URL up to date."""


@dataclass(frozen=True)
class Clone:
    """One test's database: `url` logs in as the service does, `owner_url` as migrations do."""

    name: str
    url: str
    owner_url: str


class Cluster:
    """Both servers in a temporary directory, and the templates that tests clone."""

    def __init__(self) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="redphone-test-", dir=_memory()))
        self.servers = LocalServers(self._directory, fsync=False, sync_always=False)
        self._urls: ServerUrls | None = None
        self._templates: dict[str, str] = {}
        self.kept: dict[str, Any] = {}
        """What goes with a state that was kept, by its name."""
        self._numbers = itertools.count(1)

    async def start(self) -> None:
        """Start both servers; about a second."""
        self._urls = await self.servers.start()

    async def stop(self) -> None:
        """Stop both servers and remove everything."""
        await self.servers.stop()
        shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def urls(self) -> ServerUrls:
        """Where the servers are."""
        assert self._urls is not None, "the cluster is not started"
        return self._urls

    @property
    def nats_url(self) -> str:
        """Where the broker is."""
        return self.urls.nats_url

    async def prepare(self, service: str, migrate: Migrate) -> None:
        """Make the service's template by running its migrations once; nothing to do on a second call."""
        if service in self._templates:
            return
        template = f"template_{service}"
        clone = await self._create_empty(service, template)
        await migrate(clone.owner_url)
        self._templates[service] = template

    async def keep(self, service: str, clone: Clone, state: str) -> None:
        """Makes a template of what is in a clone that nobody uses any more."""
        kept = await self._create(service, f"kept_{next(self._numbers)}", source=clone.name)
        self._templates[f"{service} {state}"] = kept.name

    @asynccontextmanager
    async def clone(self, service: str, *, state: str = "") -> AsyncIterator[Clone]:
        """A fresh copy of the service's template (empty, if none was prepared), or of a state that was kept; dropped
        afterwards with its connections.
        """
        if service not in self._templates:
            await self.prepare(service, _no_migration)
        source = self._templates[f"{service} {state}" if state else service]
        clone = await self._create(service, f"{service}_{next(self._numbers)}", source=source)
        try:
            yield clone
        finally:
            await self._drop(clone)

    @asynccontextmanager
    async def empty(self, service: str) -> AsyncIterator[Clone]:
        """A database of the service before its first migration, dropped afterwards with its connections."""
        clone = await self._create_empty(service, f"{service}_{next(self._numbers)}")
        try:
            yield clone
        finally:
            await self._drop(clone)

    async def _create_empty(self, service: str, name: str) -> Clone:
        clone = await self._create(service, name, source="template1")
        async with self._as_superuser(name) as connection:
            await connection.execute(
                table_rights(owner=f"{database_name(service)}_owner", login=database_name(service))
            )
        return clone

    async def _drop(self, clone: Clone) -> None:
        async with self._as_superuser("postgres") as connection:
            await connection.execute(f"DROP DATABASE IF EXISTS {clone.name} WITH (FORCE)")

    async def _create(self, service: str, name: str, *, source: str) -> Clone:
        owner = f"{database_name(service)}_owner"
        async with self._as_superuser("postgres") as connection:
            # Copied file by file: half as long as through the log, which nobody needs here.
            await connection.execute(f"CREATE DATABASE {name} TEMPLATE {source} STRATEGY FILE_COPY OWNER {owner}")
            await connection.execute(access_rights(name, login=database_name(service)))
        return Clone(
            name=name,
            url=self.servers.postgres.url(name, role=database_name(service)),
            owner_url=self.servers.postgres.url(name, role=owner),
        )

    @asynccontextmanager
    async def _as_superuser(self, database: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
        connection = await asyncpg.connect(self.servers.postgres.url(database, role="postgres"))
        try:
            yield connection
        finally:
            await connection.close()


def _memory() -> Path | None:
    """Where files are kept in memory, if there is room; a copy of a database is five hundred files."""
    shared_memory = Path("/dev/shm")
    roomy = shared_memory.is_dir() and shutil.disk_usage(shared_memory).free >= MEMORY_BYTES
    return shared_memory if roomy else None


async def _no_migration(_owner_url: str) -> None:
    """For a service that has no tables in a test."""
