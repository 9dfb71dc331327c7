"""The rows of notices: which were issued. Their words are in their pages alone."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from shared.contracts import Role
from shared.db import Transaction, raw


async def insert(
    tx: Transaction, notice_id: UUID, *, partner: str, kind: str, issued_at: datetime, expires_at: datetime
) -> bool:
    """Notes a notice; False if it was issued before."""
    connection = await raw(tx)
    fresh = await connection.fetchval(
        "INSERT INTO notices (notice_id, partner, kind, issued_at, expires_at) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT DO NOTHING RETURNING true",
        notice_id,
        partner,
        kind,
        issued_at,
        expires_at,
    )
    return bool(fresh)


async def find_roster_managers(tx: Transaction, partner: str) -> list[UUID]:
    """The contacts whose credentials let them keep this partner's roster."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT DISTINCT contact_id FROM credentials WHERE partner = $1 AND kind = 'person' AND $2 = ANY(roles)"
        " AND revoked_at IS NULL AND contact_id IS NOT NULL ORDER BY contact_id",
        partner,
        Role.ROSTER_MANAGER.value,
    )
    return [row["contact_id"] for row in rows]


async def delete_expired(tx: Transaction, before: datetime) -> int:
    """Forgets notices that had expired before an instant; returns how many."""
    connection = await raw(tx)
    done: str = await connection.execute("DELETE FROM notices WHERE expires_at < $1", before)
    return int(done.rpartition(" ")[2])
