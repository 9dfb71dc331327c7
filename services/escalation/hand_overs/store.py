"""The rows of hand-overs: who has signed, when, and what was open at that moment."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.escalation.hand_overs.domain import OPEN_STATES, Change, Side, is_open
from services.escalation.store import Row, dump
from shared.db import Transaction, raw


async def find(tx: Transaction, partner: str, hand_over_ids: Sequence[UUID]) -> dict[UUID, Row]:
    """What is signed of these hand-overs of a partner; those that nobody has signed are absent."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT * FROM hand_overs WHERE partner = $1 AND id = ANY($2)", partner, list(hand_over_ids)
    )
    return {row["id"]: row for row in rows}


async def count_open(tx: Transaction, partner: str) -> int:
    """How many of a partner's escalations are open: what is handed over with a shift."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT e.kind, e.state FROM escalations e JOIN alert_heads h USING (alert_id)"
        " WHERE e.partner = $1 AND e.state = ANY($2) AND h.superseded_by IS NULL AND h.ended_at IS NULL",
        partner,
        sorted(OPEN_STATES),
    )
    return sum(is_open(row["kind"], row["state"]) for row in rows)


async def load(tx: Transaction, partner: str, change: Change) -> Row:
    """The row of a hand-over, locked; made if there is none."""
    connection = await raw(tx)
    await connection.execute(
        "INSERT INTO hand_overs (id, partner, rota_id, start_at, outgoing_id, incoming_id)"
        " VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING",
        change.id,
        partner,
        change.rota_id,
        change.start_at,
        change.outgoing_id,
        change.incoming_id,
    )
    row: Row | None = await connection.fetchrow("SELECT * FROM hand_overs WHERE id = $1 FOR UPDATE", change.id)
    assert row is not None, "hand-overs are never deleted"
    return row


async def save_signature(
    tx: Transaction,
    hand_over_id: UUID,
    side: Side,
    *,
    signed_at: datetime,
    open_escalations: Sequence[dict[str, Any]],
    note: str | None,
) -> Row:
    """Keeps one signature; returns the row as it is then. Where both have signed now, every process learns of it."""
    connection = await raw(tx)
    row: Row | None = await connection.fetchrow(
        f"UPDATE hand_overs SET {side}_signed_at = $2, {side}_open = $3, {side}_note = $4"  # noqa: S608 - our own names
        " WHERE id = $1 RETURNING *",
        hand_over_id,
        signed_at,
        dump(list(open_escalations)),
        note,
    )
    assert row is not None, "it was loaded before"
    if row["outgoing_signed_at"] is not None and row["incoming_signed_at"] is not None:
        await connection.execute(
            "INSERT INTO hand_over_versions AS v (partner, version) VALUES ($1, 1)"
            " ON CONFLICT (partner) DO UPDATE SET version = v.version + 1",
            row["partner"],
        )
    return row
