"""The record: every state change writes a row in its own transaction, from the first day.

Rows hold what an auditor needs (who, what, when, about which alert and partner) and no contact detail or message text.
They are not chained yet: a sealer numbers committed rows (`position`) and can add them to a Merkle log later.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, Column, DateTime, Index, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import JSONB

from shared.db import Transaction, raw, rows_to_json, shared_metadata
from shared.events import Cause
from shared.ids import Ids

record = Table(
    "record",
    shared_metadata,
    Column("id", Uuid, primary_key=True),
    Column("recorded_at", DateTime(timezone=True), nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text),
    Column("subject_partner", Text),
    Column("partner", Text),
    Column("alert_id", Uuid),
    Column("object_id", Uuid),
    Column("data", JSONB, nullable=False),
    Column("correlation_id", Uuid, nullable=False),
    Column("causation_id", Uuid),
    Column("position", BigInteger),
    Index("ix_record_alert_id", "alert_id"),
    Index("ix_record_unnumbered", "id", postgresql_where=text("position IS NULL")),
    Index("uq_record_position", "position", unique=True),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One state change. `kind` is `noun.past_verb`; `data` holds values that are neither personal nor secret."""

    kind: str
    partner: str | None = None
    alert_id: UUID | None = None
    object_id: UUID | None = None
    data: dict[str, Any] = field(default_factory=dict)


def row_of(entry: Entry, *, cause: Cause, row_id: UUID, now: datetime) -> dict[str, Any]:
    """The record row of an entry: for statements that insert record rows themselves."""
    return {
        "id": row_id,
        "recorded_at": now,
        "kind": entry.kind,
        "subject": cause.subject,
        "subject_partner": cause.partner,
        "partner": entry.partner,
        "alert_id": entry.alert_id,
        "object_id": entry.object_id,
        "data": entry.data,
        "correlation_id": cause.correlation_id,
        "causation_id": cause.causation_id,
    }


# `record` alone would mean PostgreSQL's own type of that name.
_INSERT = "INSERT INTO record SELECT * FROM jsonb_populate_recordset(NULL::public.record, $1::jsonb)"


async def append(tx: Transaction, entries: Iterable[Entry], *, cause: Cause, ids: Ids, now: datetime) -> None:
    """Writes record rows into the caller's transaction."""
    listed = list(entries)
    if listed:
        row_ids = ids.many(len(listed))
        await append_rows(
            tx,
            [row_of(entry, cause=cause, row_id=row_id, now=now) for entry, row_id in zip(listed, row_ids, strict=True)],
        )


async def append_rows(tx: Transaction, rows: Sequence[dict[str, Any]]) -> None:
    """As `append`, for rows that `row_of` has made of several causes."""
    connection = await raw(tx)
    await connection.execute(_INSERT, rows_to_json(rows))
