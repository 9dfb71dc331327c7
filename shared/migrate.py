"""Migrations: the schema of each service's database, brought up to date by its owner role before the service runs.

The cast: `services/<name>/migrations/versions/` holds one branch of numbered migrations per service; the first one,
with the branch label `<name>`, calls `create_common_tables`. `upgrade` runs what is missing, `is_current` tells whether
anything is.

The promise: all missing migrations are one transaction under a lock, so replicas that start at once do the work once,
and a migration that fails leaves nothing half made. There is no way back but a new migration.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Awaitable, Callable
from pathlib import Path

from alembic import command, op
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from shared.db import Database, driver_url
from shared.log import get_logger

log = get_logger(__name__)

WAIT_FOR_OTHERS = "60s"
"""How long a replica waits while another one migrates, and a migration for a table that is in use."""

_LOCK = 0x52_50_4D_49_47
"""Names the advisory lock; PostgreSQL keeps such locks apart by database."""

_SHARED = Path(__file__).with_name("migrations")
_FIRST = ("0001_common.sql", "0002_identity.sql")


def create_common_tables() -> None:
    """Creates the tables that every service's database has; the first thing that a service's first migration does."""
    for name in _FIRST:
        execute_script((_SHARED / name).read_text(encoding="utf-8"))


def execute_script(sql: str) -> None:
    """Runs several SQL statements, separated by semicolons, inside the migration's transaction; none at all is fine."""
    if not sql.strip():  # to which the driver has no answer
        return
    adapted = op.get_bind().connection.dbapi_connection
    assert adapted is not None
    adapted.run_async(lambda connection: connection.execute(sql))


async def upgrade(service: str, owner_url: str) -> None:
    """Brings the database at the owner's URL up to date; does nothing if it is. Safe to run at many places at once."""
    engine = create_async_engine(
        driver_url(owner_url),
        poolclass=NullPool,
        connect_args={"server_settings": {"lock_timeout": WAIT_FOR_OTHERS, "application_name": f"migrate-{service}"}},
    )
    try:
        async with engine.begin() as connection:
            # The lock comes first: it begins the transaction, too, which scripts run by the driver itself rely on.
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _LOCK})
            before = await connection.run_sync(_revisions)
            await connection.run_sync(_upgrade, service)
            after = await connection.run_sync(_revisions)
    finally:
        await engine.dispose()
    if before != after:
        log.info("database.migrated", service=service, before=sorted(before), after=sorted(after))


async def is_current(database: Database, service: str) -> bool:
    """Whether the database has every migration of this version of the service, as its readiness asks."""
    async with database.transaction() as tx:
        present = await tx.run_sync(_revisions)
    return present == set(ScriptDirectory.from_config(_config(service)).get_heads())


def template(service: str) -> Callable[[str], Awaitable[None]]:
    """`upgrade` for one service, as whoever makes databases wants it."""

    async def migrate(owner_url: str) -> None:
        await upgrade(service, owner_url)

    return migrate


def _migrations(service: str) -> Path:
    found = importlib.util.find_spec(f"services.{service}")
    if found is None or not found.submodule_search_locations:
        message = f"there is no service {service!r}"
        raise LookupError(message)
    return Path(found.submodule_search_locations[0]) / "migrations"


def _config(service: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SHARED).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.set_main_option("version_locations", str(_migrations(service)).replace("%", "%%"))
    config.set_main_option("recursive_version_locations", "true")
    return config


def _revisions(connection: Connection) -> set[str]:
    return set(MigrationContext.configure(connection).get_current_heads())


def _upgrade(connection: Connection, service: str) -> None:
    config = _config(service)
    config.attributes["connection"] = connection
    command.upgrade(config, f"{service}@head")
