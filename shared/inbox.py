"""The inbox: each consumer handles each message once, however often and by whichever road it arrives.

`accept` and the handler's effects commit together. Dead letters live here, too: messages that can never be handled
become a row, and an operator is told.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Column, DateTime, Integer, Table, Text, Uuid, select, update
from sqlalchemy.dialects.postgresql import JSONB, insert

from shared.db import Transaction, shared_metadata
from shared.ids import MessageId

inbox = Table(
    "inbox",
    shared_metadata,
    Column("consumer", Text, primary_key=True),
    Column("message_id", Uuid, primary_key=True),
    Column("accepted_at", DateTime(timezone=True), nullable=False),
)

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
)


async def accept(tx: Transaction, *, consumer: str, message_id: MessageId, now: datetime) -> bool:
    """True the first time; False when this consumer has handled the message before, by whichever road it came."""
    inserted = await tx.execute(
        insert(inbox).values(consumer=consumer, message_id=message_id, accepted_at=now).on_conflict_do_nothing()
    )
    return bool(inserted.rowcount == 1)


async def bury(tx: Transaction, **columns: Any) -> None:
    """Writes a dead letter; the same letter twice is one row."""
    await tx.execute(insert(dead_letters).values(**columns).on_conflict_do_nothing())


async def raise_alarms(tx: Transaction, now: datetime) -> list[Any]:
    """The dead letters of which no operator has been told yet, marked as told from now on."""
    fresh = (
        await tx.execute(
            select(dead_letters.c.id, dead_letters.c.consumer, dead_letters.c.type, dead_letters.c.reason)
            .where(dead_letters.c.alarmed_at.is_(None))
            .with_for_update(skip_locked=True)
        )
    ).all()
    if fresh:
        await tx.execute(
            update(dead_letters).where(dead_letters.c.id.in_([row.id for row in fresh])).values(alarmed_at=now)
        )
    return list(fresh)
