"""Migrations are the truth of the schema, and the table objects say the same."""

from __future__ import annotations

import asyncio
import importlib

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, MetaData, Table

from shared import feed, idempotency, inbox, outbox, record, security
from shared.db import Database, shared_metadata
from shared.migrate import is_current, template, upgrade
from tests.support.cluster import Cluster

SERVICES = ("alerting", "roster", "escalation")
SHARED_TABLES = {
    "outbox": outbox.outbox,
    "sequences": outbox.sequences,
    "inbox": inbox.inbox,
    "dead_letters": inbox.dead_letters,
    "record": record.record,
    "feed_cursors": feed.feed_cursors,
    "credentials": security.credentials,
    "credential_versions": security.credential_versions,
    "idempotency_keys": idempotency.idempotency_keys,
}


def own_metadata(service: str) -> MetaData:
    """The service's own tables, as its stores declare them; the app knows them all."""
    importlib.import_module(f"services.{service}.app")
    store = importlib.import_module(f"services.{service}.store")
    found = {value.metadata for value in vars(store).values() if isinstance(value, Table)} - {shared_metadata}
    assert len(found) == 1, f"the tables of services/{service}/store.py are on one metadata of the service's own"
    return found.pop()


def differences(connection: Connection, metadatas: list[MetaData]) -> list[object]:
    """What the database has and the table objects do not, or the other way round."""
    context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
    return list(compare_metadata(context, metadatas))  # type: ignore[arg-type]


@pytest.fixture(params=SERVICES)
def service(request: pytest.FixtureRequest) -> str:
    """Each service."""
    return str(request.param)


def test_shared_metadata_is_complete() -> None:
    """Every table that all databases have is known here, so that none escapes the comparison."""
    assert set(shared_metadata.tables) == set(SHARED_TABLES)


async def test_schema_equals_table_objects(cluster: Cluster, service: str) -> None:
    """After all migrations, real schema and declared tables are the same, column by column and index by index."""
    await cluster.prepare(service, template(service))
    async with cluster.clone(service) as clone:
        database = Database(clone.owner_url)
        try:
            async with database.transaction() as tx:
                assert await tx.run_sync(differences, [shared_metadata, own_metadata(service)]) == []
        finally:
            await database.close()


async def test_replicas_migrate_once(cluster: Cluster, service: str) -> None:
    """Replicas that start at once on an empty database migrate it once, and each finds it current afterwards."""
    async with cluster.empty(service) as clone:
        await asyncio.gather(*(upgrade(service, clone.owner_url) for _ in range(3)))
        database = Database(clone.url)
        try:
            assert await is_current(database, service)
        finally:
            await database.close()


async def test_empty_database_is_not_current(cluster: Cluster, service: str) -> None:
    """A database without tables is told apart from a migrated one, so that no replica serves on it."""
    async with cluster.empty(service) as clone:
        database = Database(clone.url)
        try:
            assert not await is_current(database, service)
        finally:
            await database.close()
