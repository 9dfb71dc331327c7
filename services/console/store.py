"""The rows of the console: sessions."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, Index, LargeBinary, Table, Text, Uuid, delete, insert, select, update
from sqlalchemy.dialects.postgresql import JSONB

from shared.db import Transaction, service_metadata

metadata = service_metadata()

sessions = Table(
    "sessions",
    metadata,
    Column("cookie_sha256", LargeBinary, primary_key=True),
    Column("id", Uuid, nullable=False),
    Column("client_id", Text, nullable=False),
    Column("claims", JSONB, nullable=False),
    Column("created_at", DateTime(timezone=True), nullable=False),
    Column("seen_at", DateTime(timezone=True), nullable=False),
    Index("ix_sessions_seen_at", "seen_at"),
)


async def insert_session(
    tx: Transaction, cookie_sha256: bytes, *, session_id: UUID, client_id: str, claims: dict[str, Any], now: datetime
) -> None:
    """Keeps a session that begins now."""
    values = {"cookie_sha256": cookie_sha256, "id": session_id, "client_id": client_id, "claims": claims}
    await tx.execute(insert(sessions).values(**values, created_at=now, seen_at=now))


async def find_session(tx: Transaction, cookie_sha256: bytes) -> Any | None:
    """The session of a cookie, or None."""
    return (await tx.execute(select(sessions).where(sessions.c.cookie_sha256 == cookie_sha256))).first()


async def save_seen(tx: Transaction, cookie_sha256: bytes, now: datetime) -> None:
    """Somebody used the session at this time."""
    await tx.execute(update(sessions).where(sessions.c.cookie_sha256 == cookie_sha256).values(seen_at=now))


async def delete_session(tx: Transaction, cookie_sha256: bytes) -> UUID | None:
    """Ends a session; its id, or None if there was none."""
    ended = delete(sessions).where(sessions.c.cookie_sha256 == cookie_sha256).returning(sessions.c.id)
    found: UUID | None = (await tx.execute(ended)).scalar_one_or_none()
    return found


async def delete_old(tx: Transaction, *, seen_before: datetime, created_before: datetime) -> int:
    """Removes sessions that have ended by their age."""
    old = (sessions.c.seen_at < seen_before) | (sessions.c.created_at < created_before)
    return (await tx.execute(delete(sessions).where(old))).rowcount
