"""The rows of coverage goals: one for each alert that has one, where its raiser is served.

A row is locked after its alert's head and before escalations.
"""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from sqlalchemy import Column, DateTime, Index, Integer, SmallInteger, Table, Text, Uuid, text
from sqlalchemy.dialects.postgresql import ARRAY

from services.escalation.coverage.domain import Countdown, GoalState
from services.escalation.store import Row, metadata
from shared.contracts import CoverageGoal
from shared.db import Transaction, raw

coverage_goals = Table(
    "coverage_goals",
    metadata,
    Column("alert_id", Uuid, primary_key=True),
    Column("raiser", Text, nullable=False),
    Column("partners", SmallInteger, nullable=False),
    Column("within_seconds", Integer, nullable=False),
    Column("asked", ARRAY(Text), nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("state", Text, nullable=False),
    Column("decided_at", DateTime(timezone=True)),
    Index("ix_coverage_goals_due_at", "due_at", postgresql_where=text("state = 'open'")),
    Index("ix_coverage_goals_decided_at", "decided_at"),
)


async def load(tx: Transaction, alert_id: UUID) -> Countdown | None:
    """The goal of an alert, locked; None if it has none here."""
    connection = await raw(tx)
    row = await connection.fetchrow("SELECT * FROM coverage_goals WHERE alert_id = $1 FOR UPDATE", alert_id)
    return None if row is None else _countdown_of(row)


async def load_due(tx: Transaction, now: datetime, limit: int) -> list[Countdown]:
    """Open goals whose due time has come, locked; those that somebody else holds are left to them."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT * FROM coverage_goals WHERE state = 'open' AND due_at <= $1 ORDER BY due_at LIMIT $2"
        " FOR UPDATE SKIP LOCKED",
        now,
        limit,
    )
    return [_countdown_of(row) for row in rows]


async def find_next_due(tx: Transaction) -> datetime | None:
    """When the next open goal is due."""
    connection = await raw(tx)
    return await connection.fetchval("SELECT min(due_at) FROM coverage_goals WHERE state = 'open'")  # type: ignore[no-any-return]


async def insert(tx: Transaction, countdown: Countdown) -> bool:
    """Keeps a new goal; False if the alert has one, which then asks those as well who were added later."""
    connection = await raw(tx)
    is_new = await connection.fetchval(
        "INSERT INTO coverage_goals AS g (alert_id, raiser, partners, within_seconds, asked, due_at, state, decided_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (alert_id) DO UPDATE"
        " SET asked = (SELECT array_agg(DISTINCT code ORDER BY code) FROM unnest(g.asked || excluded.asked) AS code)"
        " RETURNING xmax = 0",
        countdown.alert_id,
        countdown.raiser,
        countdown.goal.partners,
        countdown.goal.within_seconds,
        sorted(countdown.asked),
        countdown.due_at,
        countdown.state,
        countdown.decided_at,
    )
    return bool(is_new)


async def save(tx: Transaction, countdown: Countdown) -> None:
    """Writes what has changed of a goal: its due time and its state."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE coverage_goals SET due_at = $2, state = $3, decided_at = $4 WHERE alert_id = $1",
        countdown.alert_id,
        countdown.due_at,
        countdown.state,
        countdown.decided_at,
    )


async def end(tx: Transaction, alert_id: UUID, now: datetime) -> None:
    """Ends an alert's goal if nothing has been decided yet."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE coverage_goals SET state = $2, decided_at = $3 WHERE alert_id = $1 AND state = 'open'",
        alert_id,
        GoalState.ENDED,
        now,
    )


async def find_acknowledged(tx: Transaction, alert_id: UUID) -> dict[str, datetime]:
    """When the partners that this node serves have acknowledged the alert."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT partner, acknowledged_at FROM escalations"
        " WHERE alert_id = $1 AND kind = 'answer' AND acknowledged_at IS NOT NULL",
        alert_id,
    )
    return {row["partner"]: row["acknowledged_at"] for row in rows}


async def find_shown(tx: Transaction, raiser: str | None, decided_since: datetime) -> list[Row]:
    """Goals of this raiser, or of all, that are open or were decided lately, with how many acknowledged in time."""
    connection = await raw(tx)
    return await connection.fetch(
        """
        SELECT g.*, (
            SELECT count(*) FROM escalations e
            WHERE e.alert_id = g.alert_id AND e.kind = 'answer' AND e.acknowledged_at <= g.due_at
        ) + (
            SELECT count(*) FROM alert_heads h, jsonb_each_text(h.answered) AS a(partner, at)
            WHERE h.alert_id = g.alert_id AND a.at::timestamptz <= g.due_at AND a.partner = ANY(g.asked)
            AND NOT EXISTS (SELECT FROM escalations e WHERE e.alert_id = g.alert_id AND e.partner = a.partner)
        ) AS acknowledged
        FROM coverage_goals g
        WHERE (g.state = 'open' OR g.decided_at >= $2 AND g.state <> 'ended') AND ($1::text IS NULL OR g.raiser = $1)
        ORDER BY g.alert_id
        """,
        raiser,
        decided_since,
    )


def _countdown_of(row: Row) -> Countdown:
    return Countdown(
        alert_id=row["alert_id"],
        raiser=row["raiser"],
        goal=CoverageGoal(partners=row["partners"], within_seconds=row["within_seconds"]),
        asked=frozenset(row["asked"]),
        due_at=row["due_at"],
        state=GoalState(row["state"]),
        decided_at=row["decided_at"],
    )
