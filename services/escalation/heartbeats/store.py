"""The rows of heartbeats, one for each path. `load_*` locks, `find_*` does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Float,
    Index,
    Integer,
    Table,
    Text,
    Uuid,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import insert as insert_into

from services.escalation.heartbeats.domain import Heartbeat, Kind, State
from services.escalation.store import metadata
from shared.db import Transaction, raw


def _at(name: str, *, nullable: bool = True) -> Column[datetime]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


heartbeats = Table(
    "heartbeats",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("partner", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("provider", Text),
    Column("told", Text, nullable=False),
    Column("sealed_address", Text),
    _at("next_at", nullable=False),
    _at("leased_until"),
    Column("beat_id", Uuid),
    _at("beat_at"),
    Column("is_out", Boolean, nullable=False),
    Column("provider_id", Text),
    _at("ended_at"),
    Column("answering", Boolean),
    Column("reason", Text),
    Column("answer_seconds", Float),
    _at("answered_at"),
    Column("failures", Integer, nullable=False),
    _at("failing_since_at"),
    _at("told_at"),
    _at("published_at"),
    _at("certificate_valid_until"),
    _at("certificate_checked_at"),
    _at("requested_at"),
    Index("ix_heartbeats_next_at", "next_at"),
    Index("ix_heartbeats_partner", "partner", "id"),
)

_COLUMNS = tuple(field.name for field in fields(Heartbeat))
_OF_STATE: Mapping[State, ColumnElement[bool]] = {
    State.UNCHECKED: heartbeats.c.answering.is_(None),
    State.ANSWERING: heartbeats.c.answering.is_(True),
    State.FAILING: heartbeats.c.answering.is_(False),
}


def _heartbeat_of(row: Mapping[str, Any]) -> Heartbeat:
    return Heartbeat(**{**{name: row[name] for name in _COLUMNS}, "kind": Kind(row["kind"])})


def _values(beat: Heartbeat) -> dict[str, Any]:
    return {**asdict(beat), "kind": beat.kind.value}


# --- which there are --------------------------------------------------------------------------------------------------


async def find_paths(tx: Transaction) -> list[Heartbeat]:
    """All of them."""
    connection = await raw(tx)
    return [_heartbeat_of(row) for row in await connection.fetch("SELECT * FROM heartbeats")]


async def insert(tx: Transaction, beats: Sequence[Heartbeat]) -> None:
    """Adds new paths; one that another process has just added stays as it is."""
    if beats:
        await tx.execute(insert_into(heartbeats).on_conflict_do_nothing(), [_values(beat) for beat in beats])


async def delete(tx: Transaction, ids: Sequence[UUID]) -> None:
    """Forgets paths that are gone."""
    if ids:
        connection = await raw(tx)
        await connection.execute("DELETE FROM heartbeats WHERE id = ANY($1)", list(ids))


# --- beats ------------------------------------------------------------------------------------------------------------


async def find_oldest_due(tx: Transaction, now: datetime, *, loop_backs: Sequence[UUID]) -> datetime | None:
    """Since when the oldest beat is due that nobody sends; None if none is. Of loop-backs only these count."""
    connection = await raw(tx)
    due_at: datetime | None = await connection.fetchval(
        "SELECT min(next_at) FROM heartbeats WHERE next_at <= $1 AND (leased_until IS NULL OR leased_until <= $1)"
        " AND (kind = 'endpoint' OR id = ANY($2))",
        now,
        list(loop_backs),
    )
    return due_at


async def are_pages_leaving(tx: Transaction, now: datetime) -> bool:
    """Whether pages are due at this instant, or on their way from any process."""
    connection = await raw(tx)
    leaving = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pages WHERE state = 'due' AND due_at <= $1)"
        " OR EXISTS (SELECT FROM pages WHERE state = 'leased' AND leased_until > $1)",
        now,
    )
    return bool(leaving)


async def load_unreturned(tx: Transaction, now: datetime, limit: int) -> list[Heartbeat]:
    """Loop-backs that should have come back by now, locked; those that somebody else holds are left to them."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT * FROM heartbeats WHERE is_out AND next_at <= $1 ORDER BY next_at LIMIT $2 FOR UPDATE SKIP LOCKED",
        now,
        limit,
    )
    return [_heartbeat_of(row) for row in rows]


async def lease(
    tx: Transaction, *, ids: Sequence[UUID], now: datetime, leased_until: datetime, loop_backs: Sequence[UUID]
) -> list[Heartbeat]:
    """Takes as many due paths as there are `ids`, which become their beats' ids; those that work go first.

    A beat whose lease has lapsed keeps the id and the time that it had. Of loop-backs only those in `loop_backs`:
    another process may know providers that this one does not.
    """
    connection = await raw(tx)
    due = await connection.fetch(
        "SELECT id FROM heartbeats WHERE next_at <= $1 AND (leased_until IS NULL OR leased_until <= $1) AND NOT is_out"
        " AND (kind = 'endpoint' OR id = ANY($3)) ORDER BY failures > 0, next_at LIMIT $2 FOR UPDATE SKIP LOCKED",
        now,
        len(ids),
        list(loop_backs),
    )
    if not due:
        return []
    rows = await connection.fetch(
        "UPDATE heartbeats h SET leased_until = $3, beat_id = coalesce(h.beat_id, n.beat_id),"
        " beat_at = CASE WHEN h.beat_id IS NULL THEN $4 ELSE h.beat_at END"
        " FROM unnest($1::uuid[], $2::uuid[]) AS n(id, beat_id) WHERE h.id = n.id RETURNING h.*",
        [row["id"] for row in due],
        list(ids[: len(due)]),
        leased_until,
        now,
    )
    return [_heartbeat_of(row) for row in rows]


async def load(tx: Transaction, path_id: UUID) -> Heartbeat | None:
    """One path, locked."""
    connection = await raw(tx)
    row = await connection.fetchrow("SELECT * FROM heartbeats WHERE id = $1 FOR UPDATE", path_id)
    return None if row is None else _heartbeat_of(row)


async def find(tx: Transaction, path_id: UUID) -> Heartbeat | None:
    """One path."""
    connection = await raw(tx)
    row = await connection.fetchrow("SELECT * FROM heartbeats WHERE id = $1", path_id)
    return None if row is None else _heartbeat_of(row)


async def load_beat(tx: Transaction, beat_id: UUID) -> Heartbeat | None:
    """The path whose beat this is, locked; None if that beat is over."""
    connection = await raw(tx)
    row = await connection.fetchrow("SELECT * FROM heartbeats WHERE beat_id = $1 FOR UPDATE", beat_id)
    return None if row is None else _heartbeat_of(row)


async def find_awaited(tx: Transaction) -> list[Heartbeat]:
    """Loop-backs on their way."""
    connection = await raw(tx)
    rows = await connection.fetch("SELECT * FROM heartbeats WHERE kind = 'loop_back' AND beat_id IS NOT NULL")
    return [_heartbeat_of(row) for row in rows]


async def find_beat_of(tx: Transaction, provider: str, provider_id: str) -> UUID | None:
    """The loop-back that a provider knows by this name, as long as it is waited for."""
    connection = await raw(tx)
    beat_id: UUID | None = await connection.fetchval(
        "SELECT beat_id FROM heartbeats WHERE kind = 'loop_back' AND provider = $1 AND provider_id = $2",
        provider,
        provider_id,
    )
    return beat_id


async def save(tx: Transaction, beat: Heartbeat) -> None:
    """Writes a path as it is now."""
    await tx.execute(update(heartbeats).where(heartbeats.c.id == beat.id).values(**_values(beat)))


# --- reading ----------------------------------------------------------------------------------------------------------


async def find_visible(
    tx: Transaction,
    *,
    partner: str | None,
    kind: Kind | None,
    state: State | None,
    after: tuple[str, UUID] | None,
    limit: int,
) -> list[Heartbeat]:
    """Paths of a partner, or of all if it is None, by partner and id."""
    columns = heartbeats.c
    wanted = select(heartbeats).order_by(columns.partner, columns.id).limit(limit)
    if partner is not None:
        wanted = wanted.where(columns.partner == partner)
    if kind is not None:
        wanted = wanted.where(columns.kind == kind.value)
    if state is not None:
        wanted = wanted.where(_OF_STATE[state])
    if after is not None:
        wanted = wanted.where(tuple_(columns.partner, columns.id) > tuple_(*after))
    return [_heartbeat_of(dict(row)) for row in (await tx.execute(wanted)).mappings()]


async def count(tx: Transaction, *, partner: str | None, kind: Kind | None) -> dict[tuple[Kind, State], int]:
    """How many paths there are of each kind and state."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT kind, answering, count(*) AS number FROM heartbeats WHERE ($1::text IS NULL OR partner = $1)"
        " AND ($2::text IS NULL OR kind = $2) GROUP BY kind, answering",
        partner,
        kind,
    )
    states = {None: State.UNCHECKED, True: State.ANSWERING, False: State.FAILING}
    return {(Kind(row["kind"]), states[row["answering"]]): row["number"] for row in rows}
