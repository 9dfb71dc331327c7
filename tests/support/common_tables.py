"""A database with nothing but the tables that every service has, for tests of what all services share."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from shared.db import Database
from tests.support.cluster import Cluster

MIGRATIONS = Path(__file__).parents[2] / "shared" / "migrations"


@asynccontextmanager
async def common_tables(cluster: Cluster) -> AsyncIterator[Database]:
    """The database, dropped afterwards. It is no clone, so that the templates stay those of whole services."""
    name = f"common_{next(cluster._numbers)}"
    clone = await cluster._create("alerting", name, source="template1")
    connection = await asyncpg.connect(clone.owner_url)
    for script in sorted(MIGRATIONS.glob("*.sql")):
        await connection.execute(script.read_text())
    await connection.close()
    database = Database(clone.owner_url, pool_size=4)
    try:
        yield database
    finally:
        await database.close()
        async with cluster._as_superuser("postgres") as superuser:
            await superuser.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
