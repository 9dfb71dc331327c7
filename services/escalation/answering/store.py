"""The rows by which pages are answered: tried codes, replies that came in, and which pages belong to one message.

    answer_codes        one row per page whose code was tried; its lock is what concurrent tries wait for
    provider_messages   one row per reply that a provider handed over, with what was answered to it

Locks: answer codes by page id, before any escalation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, SmallInteger, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from services.escalation import store
from services.escalation.store import Row, dump, metadata
from shared.db import Transaction, raw

answer_codes = Table(
    "answer_codes",
    metadata,
    Column("page_id", Uuid, primary_key=True),
    Column("wrong_tries", SmallInteger, nullable=False),
    Column("locked_at", DateTime(timezone=True)),
)

provider_messages = Table(
    "provider_messages",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("message_id", Text, primary_key=True),
    Column("received_at", DateTime(timezone=True), nullable=False),
    Column("answer", JSONB),
)

_PAGE = (
    "id, escalation_id, alert_id, partner, contact_point_id, contact_id, channel, told, message_type, level, asks,"
    " data, languages, time_zone, sent_with, created_at"
)


async def find_page(tx: Transaction, page_id: UUID, now: datetime) -> Row | None:
    """One page, or None. Raises `Unavailable` where it may have left and is not stored yet."""
    connection = await raw(tx)
    row: Row | None = await connection.fetchrow(f"SELECT {_PAGE} FROM pages WHERE id = $1", page_id)  # noqa: S608
    if row is None:
        await store.refuse_while_opening(tx, now)
    return row


async def find_message(tx: Transaction, page_id: UUID) -> list[Row]:
    """The pages that left as one message with this one, by id, itself included: its code answers all of them."""
    connection = await raw(tx)
    return list(
        await connection.fetch(f"SELECT {_PAGE} FROM pages WHERE id = $1 OR sent_with = $1 ORDER BY id", page_id)  # noqa: S608
    )


async def find_replied_to(tx: Transaction, reply_keys: Sequence[bytes], since: datetime, limit: int) -> list[Row]:
    """Pages to this address since an instant whose code the address may have been told: those that ask before those
    that only inform, and among them the newest first.

    One that was tried more than once may have left alone after it had left in another's message.
    """
    connection = await raw(tx)
    return list(
        await connection.fetch(
            f"SELECT {_PAGE} FROM pages WHERE reply_key = ANY($1) AND created_at > $2"  # noqa: S608
            " AND escalation_id IS NOT NULL AND (sent_with IS NULL OR sent_with = id OR attempts > 1)"
            " ORDER BY asks DESC, created_at DESC, id DESC LIMIT $3",
            list(reply_keys),
            since,
            limit,
        )
    )


async def load_tries(tx: Transaction, page_ids: Sequence[UUID]) -> dict[UUID, Row]:
    """How often a wrong code was given for each of these pages; locked in the order of their ids."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "INSERT INTO answer_codes AS c (page_id, wrong_tries)"
        " SELECT id, 0 FROM unnest($1::uuid[]) AS t(id) ORDER BY id"
        " ON CONFLICT (page_id) DO UPDATE SET wrong_tries = c.wrong_tries RETURNING *",
        sorted(page_ids),
    )
    return {row["page_id"]: row for row in rows}


async def save_tries(tx: Transaction, page_id: UUID, wrong_tries: int, locked_at: datetime | None) -> None:
    """Writes how often a wrong code was given for a page, and since when its code is locked."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE answer_codes SET wrong_tries = $2, locked_at = $3 WHERE page_id = $1", page_id, wrong_tries, locked_at
    )


async def is_locked(tx: Transaction, page_id: UUID) -> bool:
    """Whether the page's code was tried too often."""
    connection = await raw(tx)
    return bool(await connection.fetchval("SELECT locked_at IS NOT NULL FROM answer_codes WHERE page_id = $1", page_id))


async def count_locked(tx: Transaction, escalation_id: UUID, contact_point_id: UUID) -> int:
    """How many pages of this escalation to this contact point have a locked code."""
    connection = await raw(tx)
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM pages p JOIN answer_codes c ON c.page_id = p.id"
            " WHERE p.escalation_id = $1 AND p.contact_point_id = $2 AND c.locked_at IS NOT NULL",
            escalation_id,
            contact_point_id,
        )
    )


async def replace_pages(tx: Transaction, replaced: Mapping[UUID, UUID], now: datetime) -> None:
    """Makes each page (old id → new id) anew, due now, and ends the old one: the same message under another code."""
    connection = await raw(tx)
    columns = [str(row["attname"]) for row in await connection.fetch(_COLUMNS_OF_PAGES)]
    own = {
        "id": "t.new_id",
        "state": "'due'",
        "due_at": "$3",
        "leased_until": "NULL",
        "attempts": "0",
        "first_attempt_at": "NULL",
        "delivered_at": "NULL",
        "sent_with": "NULL",
        "message_type": "CASE WHEN p.message_type IN ('alert.released', 'alert.updated') THEN 'code.replaced'"
        " ELSE p.message_type END",
        "created_at": "$3",
    }
    await connection.execute(
        f"INSERT INTO pages ({', '.join(columns)})"  # noqa: S608 - the table's own column names
        f" SELECT {', '.join(own.get(name, f'p.{name}') for name in columns)}"
        " FROM pages p JOIN unnest($1::uuid[], $2::uuid[]) AS t(old_id, new_id) ON p.id = t.old_id",
        list(replaced),
        list(replaced.values()),
        now,
    )
    await connection.execute(
        "UPDATE pages SET state = 'ended' WHERE id = ANY($1) AND state IN ('due', 'leased')", list(replaced)
    )


_COLUMNS_OF_PAGES = (
    "SELECT attname FROM pg_attribute WHERE attrelid = 'pages'::regclass AND attnum > 0 AND NOT attisdropped"
)


async def accept_reply(tx: Transaction, provider: str, message_id: str, now: datetime) -> bool:
    """Remembers a reply; False if it was handled before. A copy that comes meanwhile waits here."""
    connection = await raw(tx)
    found = await connection.fetchval(
        "INSERT INTO provider_messages (provider, message_id, received_at) VALUES ($1, $2, $3)"
        " ON CONFLICT DO NOTHING RETURNING true",
        provider,
        message_id,
        now,
    )
    return bool(found)


async def save_answer(tx: Transaction, provider: str, message_id: str, answer: Mapping[str, Any]) -> None:
    """Keeps what was answered to a reply, as its outcome and not as its words."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE provider_messages SET answer = $3 WHERE provider = $1 AND message_id = $2",
        provider,
        message_id,
        dump(answer),
    )


async def find_answer(tx: Transaction, provider: str, message_id: str) -> dict[str, Any] | None:
    """What was answered to a reply that was handled before."""
    connection = await raw(tx)
    found: dict[str, Any] | None = await connection.fetchval(
        "SELECT answer FROM provider_messages WHERE provider = $1 AND message_id = $2", provider, message_id
    )
    return found


async def forget_replies(tx: Transaction, before: datetime, limit: int) -> int:
    """Forgets replies that came before an instant; returns how many."""
    connection = await raw(tx)
    done = await connection.execute(
        "DELETE FROM provider_messages WHERE (provider, message_id) IN ("
        "SELECT provider, message_id FROM provider_messages WHERE received_at < $1 LIMIT $2)",
        before,
        limit,
    )
    return int(done.split()[-1])


async def end_pages_of(
    tx: Transaction, escalation_ids: Sequence[UUID], contact_id: UUID | None, contact_point_id: UUID
) -> int:
    """Ends what still asks one contact, or the one contact point of an office, for these answers; returns how many."""
    connection = await raw(tx)
    done = await connection.execute(
        "UPDATE pages SET state = 'ended' WHERE id IN ("
        "SELECT id FROM pages WHERE escalation_id = ANY($1) AND state IN ('due', 'leased') AND asks"
        " AND CASE WHEN $2::uuid IS NULL THEN contact_point_id = $3 ELSE contact_id = $2 END ORDER BY id FOR UPDATE)",
        list(escalation_ids),
        contact_id,
        contact_point_id,
    )
    return int(done.split()[-1])
