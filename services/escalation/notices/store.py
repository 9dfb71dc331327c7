"""The rows of notices: which were issued. Their words are in their pages alone."""

from __future__ import annotations

from datetime import datetime
from uuid import UUID

from shared.contracts import Actor, Role
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
    return await _find_people(tx, partner, Role.ROSTER_MANAGER)


async def find_releasers(tx: Transaction, partner: str, author: Actor) -> list[UUID]:
    """The contacts whose credentials let them release what `author` has drafted for this partner."""
    return await _find_people(tx, partner, Role.RELEASER, Role.DUTY_OFFICER, but=author)


async def _find_people(tx: Transaction, partner: str, *roles: Role, but: Actor | None = None) -> list[UUID]:
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT DISTINCT contact_id FROM credentials WHERE partner = $1 AND kind = 'person' AND roles && $2::text[]"
        " AND revoked_at IS NULL AND contact_id IS NOT NULL AND contact_id IS DISTINCT FROM $3"
        " AND subject IS DISTINCT FROM $4 ORDER BY contact_id",
        partner,
        [role.value for role in roles],
        but.contact_id if but is not None else None,
        but.subject if but is not None else None,
    )
    return [row["contact_id"] for row in rows]


async def delete_expired(tx: Transaction, before: datetime) -> int:
    """Forgets notices that had expired before an instant; returns how many."""
    connection = await raw(tx)
    done: str = await connection.execute("DELETE FROM notices WHERE expires_at < $1", before)
    return int(done.rpartition(" ")[2])
