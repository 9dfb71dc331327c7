"""The outbox: the only door to the bus, and the numbered journal that the feed serves.

`append` writes events in the caller's transaction. After the commit the caller hands the same messages to
`Relay.publish`, which tries at once; the relay loop publishes whatever that missed. Rows are never deleted on
publishing. A crash in between publishes twice: the message id is the broker's key for duplicates, and the inbox
removes the rest.

The sequencer gives *committed* rows their position, one writer at a time, so a reader that asks for "after position n"
never skips a row whose transaction committed late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    Index,
    Integer,
    Table,
    Text,
    Uuid,
    all_,
    any_,
    bindparam,
    func,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY

from shared.clock import Clock
from shared.db import Database, Transaction, raw, rows_to_json, shared_metadata
from shared.errors import ContractViolation
from shared.events import EVENT_BYTES_MAX, EVERYONE, Cause, Event, Message, parse, wire_body
from shared.ids import Ids, MessageId
from shared.log import get_logger

log = get_logger(__name__)

RELAY_BATCH = 200
SEQUENCE_BATCH = 1000
INLINE_TIMEOUT_SECONDS = 0.5
RELAY_TIMEOUT_SECONDS = 1.0
FEED_SCAN_MAX = 5000
FEED_BYTES_MAX = 2_000_000
RELAY_GRACE_SECONDS = 1.0
"""How old a row must be before a relay takes it: younger ones are still in the hands of whoever committed them."""

outbox = Table(
    "outbox",
    shared_metadata,
    Column("id", Uuid, primary_key=True),
    Column("type", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("visible_to", ARRAY(Text), nullable=False),
    Column("correlation_id", Uuid, nullable=False),
    Column("causation_id", Uuid),
    Column("trace_parent", Text),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("published_at", DateTime(timezone=True)),
    Column("position", BigInteger),
    Index("ix_outbox_unpublished", "id", postgresql_where=text("published_at IS NULL")),
    Index("ix_outbox_unnumbered", "id", postgresql_where=text("position IS NULL")),
    Index("uq_outbox_position", "position", unique=True),
)

sequences = Table(
    "sequences",
    shared_metadata,
    Column("name", Text, primary_key=True),
    Column("last_position", BigInteger, nullable=False),
    Column("epoch", Integer, nullable=False, server_default="0"),
)
"""The last position that was given out, one row per numbered table; locking the row makes the sequencer single."""


class Publisher(Protocol):
    """The part of the bus that the relay needs."""

    async def publish(self, messages: Sequence[Message[Any]], *, timeout_seconds: float) -> set[MessageId]:
        """Returns the ids that the broker confirmed; never raises for broker trouble."""


def wrap(events: Iterable[Event], *, cause: Cause, ids: Ids, now: datetime) -> list[Message[Event]]:
    """The messages for events, before they are stored: for statements that insert outbox rows themselves.

    Each is written as text here, once: what is stored is what goes out.
    """
    return [
        Message(
            id=MessageId(ids.new()),
            body=event,
            raw=event.model_dump_json().encode(),
            occurred_at=now,
            correlation_id=cause.correlation_id,
            causation_id=cause.causation_id,
            trace_parent=cause.trace_parent,
        )
        for event in events
    ]


def row_of(message: Message[Event]) -> dict[str, Any]:
    """The outbox row of a message; raises `ContractViolation` for an event that no broker would take."""
    body = wire_body(message)
    if len(body) > EVENT_BYTES_MAX:
        detail = f"{message.body.type} is {len(body)} bytes long; at most {EVENT_BYTES_MAX} fit"
        raise ContractViolation(detail, code="event_too_large")
    return {
        "id": message.id,
        "type": message.body.type,
        "key": message.body.key,
        "body": body.decode(),
        "visible_to": sorted(message.body.visible_to()),
        "correlation_id": message.correlation_id,
        "causation_id": message.causation_id,
        "trace_parent": message.trace_parent,
        "occurred_at": message.occurred_at,
    }


_INSERT = "INSERT INTO outbox SELECT * FROM jsonb_populate_recordset(NULL::outbox, $1::jsonb)"


async def append(
    tx: Transaction, events: Iterable[Event], *, cause: Cause, ids: Ids, now: datetime
) -> list[Message[Event]]:
    """Writes events into the caller's transaction; give the result to `Relay.publish` after the commit."""
    messages = wrap(events, cause=cause, ids=ids, now=now)
    await append_messages(tx, messages)
    return messages


async def append_messages(tx: Transaction, messages: Sequence[Message[Event]]) -> None:
    """As `append`, for messages that are made already: of several causes, or of a text that was written elsewhere."""
    if messages:
        connection = await raw(tx)
        await connection.execute(_INSERT, rows_to_json([row_of(message) for message in messages]))


def message_of(row: Any) -> Message[Event]:
    """The message of an outbox row, with the row's own text."""
    stored = row.body.encode()
    return Message(
        id=MessageId(row.id),
        body=parse(row.type, stored),
        raw=stored,
        occurred_at=row.occurred_at,
        correlation_id=row.correlation_id,
        causation_id=row.causation_id,
        trace_parent=row.trace_parent,
    )


class Relay:
    """Publishes committed rows: at once for whoever just committed, and in a loop for whatever that missed."""

    def __init__(self, database: Database, publisher: Publisher, clock: Clock) -> None:
        self._database = database
        self._publisher = publisher
        self._clock = clock
        self._in_hand: set[MessageId] = set()
        self._confirmed: set[MessageId] = set()
        self._unreadable: set[MessageId] = set()
        self._background: set[asyncio.Task[None]] = set()
        self.on_publish: list[Callable[[], None]] = []

    async def publish(self, messages: Sequence[Message[Event]]) -> None:
        """Publishes just-committed messages and waits at most half a second. Never raises: the loop is the backstop."""
        if not messages:
            return
        for wake in self.on_publish:
            wake()
        ids = {message.id for message in messages}
        self._in_hand |= ids
        try:
            self._confirmed |= await self._publisher.publish(messages, timeout_seconds=INLINE_TIMEOUT_SECONDS)
        finally:
            self._in_hand -= ids

    def publish_soon(
        self, messages: Sequence[Message[Event]], *, after: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Like `publish`, without keeping the caller: for background work whose result nobody awaits.

        `after` is waited for first; if that takes a second, they are left to the loop.
        """
        if messages:
            task = asyncio.create_task(
                self.publish(messages) if after is None else self._publish_after(messages, after)
            )
            self._background.add(task)
            task.add_done_callback(self._background.discard)

    async def _publish_after(self, messages: Sequence[Message[Event]], after: Callable[[], Awaitable[None]]) -> None:
        try:
            async with asyncio.timeout(RELAY_GRACE_SECONDS):
                await after()
        except TimeoutError:
            return
        await self.publish(messages)

    async def run_once(self) -> int:
        """One pass: marks what was confirmed, publishes what is left over. Returns the number of rows published."""
        confirmed, self._confirmed = self._confirmed, set()
        now = self._clock.now()
        try:
            async with self._database.transaction() as tx:
                await _mark(tx, confirmed, now)
                done = await self._publish_rest(tx, now)
                await _mark(tx, done, now)
        except BaseException:
            # Whether it was committed is unknown; marking a row twice does no harm.
            self._confirmed |= confirmed
            raise
        return len(done)

    async def _publish_rest(self, tx: Transaction, now: datetime) -> set[MessageId]:
        left_out = self._in_hand | self._confirmed | self._unreadable
        rows = (
            await tx.execute(
                select(outbox)
                .where(outbox.c.published_at.is_(None))
                .where(outbox.c.occurred_at <= now - timedelta(seconds=RELAY_GRACE_SECONDS))
                .where(outbox.c.id != all_(_array("left_out", left_out)))
                .order_by(outbox.c.id)
                .limit(RELAY_BATCH)
                .with_for_update(skip_locked=True)
            )
        ).all()
        messages = []
        for row in rows:
            try:
                messages.append(message_of(row))
            except ContractViolation as error:
                # It cannot go out by this version, and must not keep the others from going out.
                self._unreadable.add(row.id)
                log.error("outbox.row_unreadable", message_id=str(row.id), type=row.type, code=error.code)
        return await self._publisher.publish(messages, timeout_seconds=RELAY_TIMEOUT_SECONDS) if messages else set()

    async def drain(self) -> None:
        """Waits for publishing under way; called when the service stops."""
        if self._background:
            await asyncio.gather(*self._background, return_exceptions=True)


def _array(name: str, ids: set[MessageId]) -> Any:
    """Ids as one array parameter: however many there are, the statement stays the same."""
    return bindparam(name, sorted(ids), type_=ARRAY(Uuid))


async def _mark(tx: Transaction, ids: set[MessageId], now: datetime) -> None:
    if ids:
        marked = update(outbox).where(outbox.c.id == any_(_array("marked", ids)), outbox.c.published_at.is_(None))
        await tx.execute(marked.values(published_at=now))


async def unpublished(tx: Transaction, *, older_than: datetime) -> int:
    """How many rows wait for the broker since before `older_than`: what the reconciler watches."""
    found = await tx.execute(
        text("SELECT count(*) FROM outbox WHERE published_at IS NULL AND occurred_at < :older_than"),
        {"older_than": older_than},
    )
    return int(found.scalar_one())


class Sequencer:
    """Numbers committed rows of the outbox, and of any table given, so that readers can resume from a position."""

    def __init__(self, database: Database, tables: Sequence[str] = ("outbox",)) -> None:
        self._database = database
        self._tables = tables
        self.on_numbered: list[Callable[[], None]] = []

    async def run_once(self) -> int:
        """One pass over every table; returns the number of rows that got a position."""
        total = 0
        for table in self._tables:
            async with self._database.transaction() as tx:
                total += await number_rows(tx, table)
        if total:
            for wake in self.on_numbered:
                wake()
        return total


async def number_rows(tx: Transaction, table: str) -> int:
    """Gives the next positions to the committed rows of `table` that have none, in the order of their ids."""
    connection = await raw(tx)
    waiting = await connection.fetchval(f"SELECT true FROM {table} WHERE position IS NULL LIMIT 1")  # noqa: S608 - our own names
    if not waiting:
        return 0
    # Locked by a statement of its own: the next one then sees every row that another sequencer has numbered meanwhile.
    lock = "SELECT last_position FROM sequences WHERE name = $1 FOR UPDATE"
    if (last := await connection.fetchval(lock, table)) is None:
        await connection.execute(
            "INSERT INTO sequences (name, last_position) VALUES ($1, 0) ON CONFLICT DO NOTHING", table
        )
        last = await connection.fetchval(lock, table)
    numbered = await connection.fetchval(
        f"""
        WITH waiting AS (
            SELECT id, row_number() OVER (ORDER BY id) AS step FROM (
                SELECT id FROM {table} WHERE position IS NULL ORDER BY id LIMIT $2
            ) AS oldest
        ), numbered AS (
            UPDATE {table} AS t SET position = $1::bigint + waiting.step FROM waiting WHERE t.id = waiting.id
            RETURNING true
        ), counted AS (
            SELECT count(*) AS rows FROM numbered
        )
        UPDATE sequences SET last_position = $1::bigint + counted.rows FROM counted WHERE name = $3
        RETURNING counted.rows
        """,  # noqa: S608 - our own names
        last,
        SEQUENCE_BATCH,
        table,
    )
    return int(numbered)


@dataclass(frozen=True, slots=True)
class FeedRow:
    """One numbered row of the outbox, its event still as text."""

    position: int
    id: UUID
    type: str
    body: str
    correlation_id: UUID
    causation_id: UUID | None
    occurred_at: datetime


@dataclass(frozen=True, slots=True)
class FeedRows:
    """What was found, up to which position everything has been looked at, and in which epoch positions count."""

    rows: list[FeedRow]
    read_up_to: int
    has_more: bool
    epoch: int


async def feed_page(tx: Transaction, *, epoch: int | None, after: int, limit: int, viewer: str | None) -> FeedRows:
    """Up to `limit` numbered rows after a position, for one partner, or for services (`viewer` None: all).

    A position of another epoch (the database came back from a backup, and positions were given out anew) begins at the
    start again. One page looks at `FEED_SCAN_MAX` rows and holds `FEED_BYTES_MAX` at most, but one row at least.
    """
    head = (
        await tx.execute(select(sequences.c.last_position, sequences.c.epoch).where(sequences.c.name == "outbox"))
    ).first()
    last, present_epoch = (head.last_position, head.epoch) if head is not None else (0, 0)
    if epoch is not None and epoch != present_epoch:
        after = 0
    scanned = min(last, after + FEED_SCAN_MAX)
    found = select(
        outbox.c.position,
        outbox.c.id,
        outbox.c.type,
        outbox.c.body,
        outbox.c.correlation_id,
        outbox.c.causation_id,
        outbox.c.occurred_at,
        func.sum(func.octet_length(outbox.c.body)).over(order_by=outbox.c.position).label("bytes_so_far"),
        func.row_number().over(order_by=outbox.c.position).label("number"),
    ).where(outbox.c.position > after, outbox.c.position <= scanned)
    if viewer is not None:
        found = found.where(outbox.c.visible_to.overlap([viewer, EVERYONE]))
    found_rows = found.order_by(outbox.c.position).limit(limit + 1).subquery()
    fits = (found_rows.c.bytes_so_far <= FEED_BYTES_MAX) | (found_rows.c.number == 1)
    kept = (await tx.execute(select(found_rows).where(fits).order_by(found_rows.c.position).limit(limit))).all()
    rows = [FeedRow(r.position, r.id, r.type, r.body, r.correlation_id, r.causation_id, r.occurred_at) for r in kept]
    more_found = (await tx.execute(select(func.count()).select_from(found_rows))).scalar_one() > len(rows)
    read_up_to = rows[-1].position if more_found else max(scanned, after)
    return FeedRows(rows, read_up_to, has_more=more_found or scanned < last, epoch=present_epoch)
