"""The rows of the delivery log: pages to a partner's own systems, and every attempt at them.

`load_*` locks, `find_*` does not. What a caller may see is part of each query: rows of others are not found. Pages to
people and offices are listed apart, for those who keep the roster; they are neither shown with their text nor replayed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.escalation.store import PAGE_COLUMNS, Row
from shared.contracts import ChannelName
from shared.db import Transaction, raw

PING_TYPE = "test.ping"
WAITING = ("due", "leased")
"""States of a page that is on its way."""

_TO_SYSTEMS = f"p.channel = '{ChannelName.WEBHOOK}' AND p.contact_id IS NULL"

_TO_PEOPLE = f"NOT ({_TO_SYSTEMS})"

_COLUMNS = ", ".join(f"p.{name}" for name in PAGE_COLUMNS.split(", "))
_SHOWN = f"{_COLUMNS}, p.state, p.delivered_at"


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which deliveries to find. None means: whatever."""

    to_people: bool = False
    contact_point_id: UUID | None = None
    state: str | None = None
    is_delivered: bool | None = None
    from_at: datetime | None = None
    to_at: datetime | None = None
    after: tuple[datetime, UUID] | None = None
    limit: int = 50


async def find_deliveries(tx: Transaction, partner: str, wanted: Wanted) -> list[Row]:
    """Pages to the partner's systems, or to its people and offices, newest first."""
    connection = await raw(tx)
    after_at, after_id = wanted.after or (None, None)
    conditions = f"""
        {_TO_PEOPLE if wanted.to_people else _TO_SYSTEMS} AND p.partner = $1
        AND ($2::uuid IS NULL OR p.contact_point_id = $2)
        AND ($3::text IS NULL OR p.state = $3)
        AND ($4::boolean IS NULL OR (p.delivered_at IS NOT NULL) = $4)
        AND ($5::timestamptz IS NULL OR p.created_at >= $5)
        AND ($6::timestamptz IS NULL OR p.created_at < $6)
        AND ($7::timestamptz IS NULL OR (p.created_at, p.id) < ($7, $8::uuid))
    """
    return list(
        await connection.fetch(
            f"""
            SELECT * FROM (
                SELECT {_SHOWN} FROM escalations e JOIN pages p ON p.escalation_id = e.id
                WHERE e.partner = $1 AND {conditions}
                UNION ALL
                SELECT {_SHOWN} FROM pages p WHERE p.escalation_id IS NULL AND {conditions}
            ) AS found
            ORDER BY created_at DESC, id DESC LIMIT $9
            """,  # noqa: S608 - our own text
            partner,
            wanted.contact_point_id,
            wanted.state,
            wanted.is_delivered,
            wanted.from_at,
            wanted.to_at,
            after_at,
            after_id,
            wanted.limit,
        )
    )


async def find_delivery(tx: Transaction, partner: str, page_id: UUID) -> Row | None:
    """One page to a system of the partner, or None."""
    connection = await raw(tx)
    row: Row | None = await connection.fetchrow(
        f"SELECT {_SHOWN} FROM pages p WHERE {_TO_SYSTEMS} AND p.partner = $1 AND p.id = $2",  # noqa: S608
        partner,
        page_id,
    )
    return row


async def find_newest_attempts(tx: Transaction, page_ids: Sequence[UUID], limit: int) -> list[Row]:
    """The newest attempts at each of these pages, oldest of them first."""
    connection = await raw(tx)
    return list(
        await connection.fetch(
            "SELECT * FROM (SELECT a.*, row_number() OVER (PARTITION BY page_id ORDER BY number DESC) AS age"
            " FROM attempts a WHERE page_id = ANY($1)) AS newest WHERE age <= $2 ORDER BY page_id, number",
            list(page_ids),
            limit,
        )
    )


async def find_replayable(
    tx: Transaction, partner: str, contact_point_id: UUID, *, from_at: datetime, to_at: datetime, limit: int
) -> list[Row]:
    """Pages to this endpoint that were made from one instant to another, oldest first; test messages are left out."""
    connection = await raw(tx)
    conditions = f"""
        {_TO_SYSTEMS} AND p.partner = $1 AND p.contact_point_id = $2 AND p.message_type <> '{PING_TYPE}'
        AND p.created_at >= $3 AND p.created_at < $4
    """
    return list(
        await connection.fetch(
            f"""
            SELECT id, created_at FROM (
                SELECT p.id, p.created_at FROM escalations e JOIN pages p ON p.escalation_id = e.id
                WHERE e.partner = $1 AND {conditions}
                UNION ALL
                SELECT p.id, p.created_at FROM pages p WHERE p.escalation_id IS NULL AND {conditions}
            ) AS found
            ORDER BY created_at, id LIMIT $5
            """,  # noqa: S608 - our own text
            partner,
            contact_point_id,
            from_at,
            to_at,
            limit,
        )
    )


async def count_pings(tx: Transaction, partner: str, contact_point_id: UUID, since: datetime) -> int:
    """How many test messages were made for this endpoint since an instant."""
    connection = await raw(tx)
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM pages WHERE escalation_id IS NULL AND partner = $1 AND contact_point_id = $2"
            " AND message_type = $3 AND created_at > $4",
            partner,
            contact_point_id,
            PING_TYPE,
            since,
        )
    )


async def save_replayed(
    tx: Transaction,
    page_ids: Sequence[UUID],
    *,
    sealed_address: str,
    priority: int,
    give_up_at: datetime,
    now: datetime,
) -> list[UUID]:
    """Makes pages due again that are over, to this address; returns which. What is on its way already stays as it is.

    The precedence within `priority` is each page's own.
    """
    connection = await raw(tx)
    rows = await connection.fetch(
        "UPDATE pages SET state = 'due', due_at = $2, sealed_address = $3, priority = $4 + priority % 10,"
        " give_up_at = $5"
        " WHERE id = ANY($1) AND state NOT IN ('due', 'leased') RETURNING id",
        list(page_ids),
        now,
        sealed_address,
        priority,
        give_up_at,
    )
    return sorted(row["id"] for row in rows)
