"""PostgreSQL: pools with short tempers, and transactions whose commit is plain to see.

`Database.transaction()` yields a SQLAlchemy connection inside a transaction: leaving the block commits, an exception
rolls back. Trouble with the server becomes `Unavailable`; a commit whose answer is lost is *unknown*, and callers try
again with the same idempotency key. Time is always a parameter: `now()` in SQL is not used.

Every service has intake connections of its own (requests, acknowledgements) beside those for background work, so that a
busy background never keeps a person waiting.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy import MetaData, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry

from shared.errors import Invalid, Unavailable

POOL_TIMEOUT_SECONDS = 1.0
CONNECT_TIMEOUT_SECONDS = 2.0
COMMAND_TIMEOUT_SECONDS = 3.0
LOCK_TIMEOUT = "1s"
IDLE_IN_TRANSACTION_TIMEOUT = "5s"
PING_AFTER_SECONDS = 1.0
"""A connection that has rested for longer is asked whether it still lives before it is used; one whose socket has been
closed is noticed without asking."""

NAMING = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    "pk": "pk_%(table_name)s",
}

shared_metadata = MetaData(naming_convention=NAMING)
"""The tables that exist in the database of every service."""

Transaction = AsyncConnection
"""A connection inside an open transaction; only `Database.transaction` makes one."""


def service_metadata() -> MetaData:
    """The metadata for one service's own tables, with the house's names for constraints."""
    return MetaData(naming_convention=NAMING)


_USED_AT = "redphone_used_at"

_CONNECTION_STATES = ("08", "57P", "53", "55P03", "40001", "40P01", "25P03", "57014")
"""SQLSTATE prefixes that say "not now": connection lost, shut down, out of resources, lock or statement timed out."""

_DRIVER_LOST = (asyncpg.InterfaceError, asyncpg.InternalClientError)
"""What the driver raises on a connection that was lost; the second if that happens in the middle of its own step."""

_TEXT_STATES = frozenset({"22021", "22P05"})
"""SQLSTATEs for text with a zero character, which PostgreSQL does not store. A caller sent it: no bug, and no alarm."""


def driver_url(url: str) -> str:
    """The same address for SQLAlchemy with asyncpg; takes `postgresql://` and `postgres://` as people write them."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in {"postgres", "postgresql"}:
        message = "a database URL begins with postgresql://"
        raise ValueError(message)
    return f"postgresql+asyncpg://{rest}"


class Database:
    """One pool of connections to one database."""

    def __init__(self, url: str, *, pool_size: int = 8, application_name: str = "redphone") -> None:
        self._engine = create_async_engine(
            driver_url(url),
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=POOL_TIMEOUT_SECONDS,
            pool_use_lifo=True,
            json_serializer=lambda value: orjson.dumps(value).decode(),
            json_deserializer=orjson.loads,
            hide_parameters=True,
            isolation_level="AUTOCOMMIT",  # `transaction` begins and commits on the driver's own connection
            connect_args={
                "timeout": CONNECT_TIMEOUT_SECONDS,
                "command_timeout": COMMAND_TIMEOUT_SECONDS,
                "server_settings": {
                    "application_name": application_name,
                    "lock_timeout": LOCK_TIMEOUT,
                    "idle_in_transaction_session_timeout": IDLE_IN_TRANSACTION_TIMEOUT,
                    "jit": "off",
                    "TimeZone": "UTC",
                },
            },
        )
        event.listen(self._engine.sync_engine, "checkout", _refuse_dead)
        event.listen(self._engine.sync_engine, "checkin", _note_use)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        """A transaction: commits when the block ends, rolls back on an exception. Raises `Unavailable` for trouble.

        The driver's own transaction spans the block, so that statements through SQLAlchemy and statements on the
        driver's connection (`raw`) are in it alike.
        """
        with _trouble_told():
            async with self._engine.connect() as connection:
                driver = await raw(connection)
                async with driver.transaction():
                    yield connection

    @asynccontextmanager
    async def statement(self) -> AsyncIterator[Transaction]:
        """A connection for one statement, which is a transaction by itself: one way to the server in place of three.

        Raises `Unavailable` for trouble.
        """
        with _trouble_told():
            async with self._engine.connect() as connection:
                yield connection

    async def time(self) -> datetime:
        """The database server's present instant: what the process clock follows."""
        async with self.transaction() as tx:
            return (await tx.execute(text("SELECT clock_timestamp()"))).scalar_one()  # type: ignore[no-any-return]

    async def warm(self, connections: int) -> None:
        """Opens connections ahead of the first request."""
        opened = [await self._engine.connect() for _ in range(connections)]
        for connection in opened:
            await connection.close()

    async def close(self) -> None:
        """Closes every connection."""
        await self._engine.dispose()


@contextmanager
def _trouble_told() -> Iterator[None]:
    """Makes `Unavailable` of what speaks of the server's state, and `Invalid` of text that cannot be stored."""
    try:
        yield
    except PoolTimeoutError as error:
        raise Unavailable("all database connections are busy; try again", code="database_busy") from error
    except (DBAPIError, OSError, TimeoutError, asyncpg.PostgresError, *_DRIVER_LOST) as error:
        if (trouble := _trouble(error)) is not None:
            raise trouble from error
        if _state_of(error) in _TEXT_STATES:
            raise Invalid("text holds a character that cannot be stored", code="control_characters") from None
        raise


def _refuse_dead(connection: Any, entry: ConnectionPoolEntry, _proxy: object) -> None:
    """When a connection is taken from the pool: a dead one is replaced by the pool, before anything is sent on it."""
    used_at = entry.info.get(_USED_AT)
    if used_at is None:
        return
    if connection.driver_connection.is_closed():
        raise DisconnectionError
    if time.monotonic() - used_at > PING_AFTER_SECONDS:
        try:
            connection.ping()
        except (DBAPIError, OSError, TimeoutError, asyncpg.PostgresError, *_DRIVER_LOST) as error:
            raise DisconnectionError from error


def _note_use(_connection: object, entry: ConnectionPoolEntry) -> None:
    entry.info[_USED_AT] = time.monotonic()


async def raw(tx: Transaction) -> asyncpg.Connection[Any]:
    """The driver's own connection inside the same transaction, for hot statements and batches."""
    assert tx.sync_connection is not None, "a transaction holds a connection"
    connection = tx.sync_connection.connection.driver_connection
    assert isinstance(connection, asyncpg.Connection)
    return connection


def rows_to_json(rows: Sequence[Mapping[str, Any]]) -> str:
    """Rows as one JSON array, for statements that read them with `jsonb_populate_recordset`: 200 rows are one
    parameter.
    """
    return orjson.dumps(rows, default=_as_text).decode()


def _as_text(value: object) -> str:
    if isinstance(value, UUID):  # the driver's own class, which orjson does not know
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _trouble(error: BaseException) -> Unavailable | None:
    """`Unavailable` if the error speaks of the server's state, None if it does not."""
    if isinstance(error, (OSError, TimeoutError, InterfaceError, OperationalError)):
        return Unavailable("the database does not answer; try again", code="database_unavailable")
    if isinstance(_driver_error(error), (OSError, TimeoutError, *_DRIVER_LOST)):
        return Unavailable("the database does not answer; try again", code="database_unavailable")
    if _state_of(error).startswith(_CONNECTION_STATES):
        return Unavailable("the database cannot do this now; try again", code="database_unavailable")
    return None


def _driver_error(error: BaseException) -> BaseException | None:
    """The driver's own error, beneath what SQLAlchemy makes of it."""
    original = error.orig if isinstance(error, DBAPIError) else error
    return getattr(original, "__cause__", None) or original


def _state_of(error: BaseException) -> str:
    """The SQLSTATE; empty for an error that has none."""
    original = error.orig if isinstance(error, DBAPIError) else error
    state = getattr(_driver_error(error), "sqlstate", None) or getattr(original, "sqlstate", None)
    return state if isinstance(state, str) else ""
