"""Everything on one machine: embedded servers, migrated databases, streams, and the services in one application.

The cast: `complete` turns the settings of an environment into those of running servers; `deploy` brings databases and
broker to this version; `build_services` and `installation` put the rest together. `redphone up`, `redphone demo` and
tests stand on `installation`; `redphone serve` and `redphone deploy` use the parts alone.

The promise: the services start only on databases and streams of this version, and when the block of `installation`
ends, servers that it started have ended in good order.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from fastapi import FastAPI
from pydantic import SecretStr

from redphone.local import GivenServers, LocalServers, ServerUrls, prepare_data_directory
from redphone.local_postgres import grant_use
from services.alerting.app import build as build_alerting
from services.console.app import build as build_console
from services.escalation.app import build as build_escalation
from services.roster.app import build as build_roster
from shared import migrate
from shared.broker import ensure_streams
from shared.bus import NatsBus
from shared.clock import Clock, SystemClock
from shared.events import Event
from shared.hosting import host
from shared.ids import Ids
from shared.keys import KeyRing
from shared.process import Service
from shared.settings import ServiceName, Settings

ALL_SERVICES: tuple[ServiceName, ...] = ("alerting", "roster", "escalation", "console")

_BUILDERS: Mapping[ServiceName, Callable[..., Service]] = {
    "alerting": build_alerting,
    "roster": build_roster,
    "escalation": build_escalation,
    "console": build_console,
}


@dataclass(frozen=True)
class Installation:
    """What `installation` gives: `app` starts the services when it is served."""

    settings: Settings
    urls: ServerUrls
    servers: LocalServers
    keys: KeyRing
    clock: Clock
    ids: Ids
    services: Sequence[Service]
    app: FastAPI

    @property
    def started(self) -> bool:
        """Whether every service works."""
        return all(service.started for service in self.services)


def complete(settings: Settings, urls: ServerUrls) -> Settings:
    """The settings with the addresses of running servers filled in."""
    found = {f"{name}_database_url": SecretStr(url) for name, url in urls.database_urls.items()}
    found |= {f"{name}_owner_database_url": SecretStr(url) for name, url in urls.owner_urls.items()}
    return settings.model_copy(update={**found, "nats_url": SecretStr(urls.nats_url)})


def build_services(
    names: Sequence[ServiceName], settings: Settings, *, clock: Clock, ids: Ids, keys: KeyRing, manage_streams: bool
) -> list[Service]:
    """The named services, each with a connection of its own to the broker. Raises `ValueError` if one has no database.

    `manage_streams` is for a machine without a deploy step: streams that somebody deletes are made again.
    """
    assert settings.nats_url is not None, "the settings name no broker"
    servers = [settings.nats_url.get_secret_value()]
    return [
        _BUILDERS[name](
            settings,
            clock=clock,
            ids=ids,
            keys=keys,
            bus=NatsBus(servers, service=name, clock=clock, manage_streams=manage_streams),
        )
        for name in names
    ]


async def deploy(services: Sequence[Service], settings: Settings, urls: ServerUrls) -> None:
    """Brings the services' databases and the broker's streams and consumers to this version; may be repeated.

    Raises `TimeoutError` if the broker does not answer, and the database's own errors.
    """
    for service in services:
        # One after the other: Alembic keeps the migration that is under way in a global of the process.
        owner_url = urls.owner_urls[service.name]
        await migrate.upgrade(service.name, owner_url)
        await grant_use(owner_url=owner_url, url=urls.database_urls[service.name])
    assert settings.nats_url is not None, "the settings name no broker"
    consumes: dict[str, list[type[Event]]] = {
        service.name: [subscription.event for subscription in service.subscriptions] for service in services
    }
    await ensure_streams([settings.nats_url.get_secret_value()], consumes)


@asynccontextmanager
async def installation(
    settings: Settings, given: GivenServers, *, fsync: bool = True, nats_port: int | None = None
) -> AsyncIterator[Installation]:
    """Servers started (those that are not given) and watched over, databases and streams ready, services built.

    Serve `app` inside the block, to its end: the services need their servers while they stop. `fsync` is given up only
    where data may be lost. Raises `LocalServerError`, `KeysUnusable` and what `deploy` raises.
    """
    prepare_data_directory(settings.data_dir)
    servers = LocalServers(settings.data_dir, given=given, fsync=fsync, sync_always=fsync, nats_port=nats_port)
    urls = await servers.start()
    watching = asyncio.create_task(servers.supervise(), name="servers")
    try:
        keys = settings.keyring()
        clock = SystemClock()
        ids = Ids(clock.now)
        completed = complete(settings, urls)
        services = build_services(ALL_SERVICES, completed, clock=clock, ids=ids, keys=keys, manage_streams=True)
        await deploy(services, completed, urls)
        yield Installation(
            settings=completed,
            urls=urls,
            servers=servers,
            keys=keys,
            clock=clock,
            ids=ids,
            services=services,
            app=host(services),
        )
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await servers.stop()
