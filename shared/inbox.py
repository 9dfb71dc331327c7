"""The inbox: each consumer handles each message once, however often and by whichever road it arrives.

`accept` and the handler's effects commit together. Dead letters live here, too: messages that can never be handled
become a row, and an operator is told.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, Index, Integer, Table, Text, Uuid, func, select, text, update
from sqlalchemy.dialects.postgresql import JSONB, insert

from shared.db import Transaction, raw, shared_metadata
from shared.ids import MessageId

inbox = Table(
    "inbox",
    shared_metadata,
    Column("consumer", Text, primary_key=True),
    Column("message_id", Uuid, primary_key=True),
    Column("accepted_at", DateTime(timezone=True), nullable=False),
    Index("ix_inbox_accepted_at", "accepted_at"),
)

KEPT_DAYS = 14
"""How long the inbox remembers a message: longer than any road may take to bring its second copy."""

CLEANED_AT_ONCE_MAX = 1000
ALARMS_AT_ONCE_MAX = 200

dead_letters = Table(
    "dead_letters",
    shared_metadata,
    Column("id", Uuid, primary_key=True),
    Column("consumer", Text, nullable=False),
    Column("message_id", Uuid),
    Column("type", Text),
    Column("subject", Text),
    Column("headers", JSONB, nullable=False),
    Column("body", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("error", Text, nullable=False),
    Column("deliveries", Integer, nullable=False),
    Column("buried_at", DateTime(timezone=True), nullable=False),
    Column("alarmed_at", DateTime(timezone=True)),
    Index("ix_dead_letters_unalarmed", "id", postgresql_where=text("alarmed_at IS NULL")),
    Index("ix_dead_letters_message_id", "message_id"),
)


async def accept(tx: Transaction, *, consumer: str, message_id: MessageId, now: datetime) -> bool:
    """True the first time; False when this consumer has handled the message before, by whichever road it came."""
    connection = await raw(tx)
    inserted = await connection.execute(
        "INSERT INTO inbox (consumer, message_id, accepted_at) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
        consumer,
        message_id,
        now,
    )
    return inserted == "INSERT 0 1"


async def accept_many(
    tx: Transaction, pairs: Iterable[tuple[str, MessageId]], *, now: datetime
) -> set[tuple[str, MessageId]]:
    """Which pairs of consumer and message id are here for the first time; like `accept`, in one statement.

    They are written in one order everywhere, so that two processes with the same messages wait for each other once.
    """
    ordered = sorted(set(pairs))
    connection = await raw(tx)
    fresh = await connection.fetch(
        "INSERT INTO inbox (consumer, message_id, accepted_at)"
        " SELECT consumer, message_id, $3 FROM unnest($1::text[], $2::uuid[]) AS given (consumer, message_id)"
        " ON CONFLICT DO NOTHING RETURNING consumer, message_id",
        [consumer for consumer, _ in ordered],
        [message_id for _, message_id in ordered],
        now,
    )
    return {(row["consumer"], MessageId(row["message_id"])) for row in fresh}


async def bury(tx: Transaction, **columns: Any) -> None:
    """Writes a dead letter; the same letter twice is one row."""
    await tx.execute(insert(dead_letters).values(**columns).on_conflict_do_nothing())


async def raise_alarms(tx: Transaction, now: datetime) -> list[Any]:
    """The dead letters of which no operator has been told yet, marked as told from now on."""
    fresh = (
        await tx.execute(
            select(dead_letters.c.id, dead_letters.c.consumer, dead_letters.c.type, dead_letters.c.reason)
            .where(dead_letters.c.alarmed_at.is_(None))
            .limit(ALARMS_AT_ONCE_MAX)
            .with_for_update(skip_locked=True)
        )
    ).all()
    if fresh:
        await tx.execute(
            update(dead_letters).where(dead_letters.c.id.in_([row.id for row in fresh])).values(alarmed_at=now)
        )
    return list(fresh)


async def ended(tx: Transaction, pairs: Collection[tuple[str, UUID]]) -> set[tuple[str, UUID]]:
    """Which of these pairs of consumer and message id need no handling: accepted before, or a dead letter."""
    if not pairs:
        return set()
    message_ids = [message_id for _, message_id in pairs]
    accepted = select(inbox.c.consumer, inbox.c.message_id).where(
        inbox.c.consumer.in_({consumer for consumer, _ in pairs}), inbox.c.message_id.in_(message_ids)
    )
    buried = select(dead_letters.c.consumer, dead_letters.c.message_id).where(
        dead_letters.c.message_id.in_(message_ids)
    )
    found = (await tx.execute(accepted.union(buried))).all()
    return {(row.consumer, row.message_id) for row in found} & set(pairs)


async def count_dead_letters(tx: Transaction) -> int:
    """How many dead letters lie here, for readiness: each is an incident until somebody has removed it."""
    return int((await tx.execute(select(func.count()).select_from(dead_letters))).scalar_one())


async def clean(tx: Transaction, *, now: datetime) -> int:
    """Forgets a batch of messages that were accepted more than `KEPT_DAYS` ago; returns how many."""
    gone = await tx.execute(
        text(
            """
            DELETE FROM inbox WHERE (consumer, message_id) IN (
                SELECT consumer, message_id FROM inbox WHERE accepted_at < :before ORDER BY accepted_at LIMIT :batch
            )
            """
        ),
        {"before": now - timedelta(days=KEPT_DAYS), "batch": CLEANED_AT_ONCE_MAX},
    )
    return int(gone.rowcount)
