"""The rows of what is said between raiser and partner beside the answer: questions back, and read-backs.

    questions       one row per question, here where it was asked and where the raiser is served
    read_backs      one row per acknowledgement that the network wants repeated and confirmed

They are locked after the escalation that they belong to.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Literal
from uuid import UUID

from sqlalchemy import Boolean, Column, DateTime, Index, SmallInteger, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

from services.escalation.store import NOT_SENT, Row, dump, metadata
from shared.contracts import Actor, QuestionAnswered, QuestionAsked
from shared.db import Transaction, raw

questions = Table(
    "questions",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("alert_id", Uuid, nullable=False),
    Column("escalation_id", Uuid, nullable=False),
    Column("partner", Text, nullable=False),
    Column("raiser", Text, nullable=False),
    Column("question", Text, nullable=False),
    Column("asked_at", DateTime(timezone=True), nullable=False),
    Column("asked_by", JSONB, nullable=False),
    Column("answer", Text),
    Column("answered_at", DateTime(timezone=True)),
    Column("answered_by", JSONB),
    Index("ix_questions_alert_id", "alert_id", "asked_at"),
)

read_backs = Table(
    "read_backs",
    metadata,
    Column("escalation_id", Uuid, primary_key=True),
    Column("alert_id", Uuid, nullable=False),
    Column("required_at", DateTime(timezone=True), nullable=False),
    Column("country", Text),
    Column("request", Text),
    Column("time", Text),
    Column("given_at", DateTime(timezone=True)),
    Column("given_by", JSONB),
    Column("correct", Boolean),
    Column("note", Text),
    Column("confirmed_at", DateTime(timezone=True)),
    Column("confirmed_by", JSONB),
    Column("rejections", SmallInteger, nullable=False),
)


# --- questions --------------------------------------------------------------------------------------------------------


async def insert_question(tx: Transaction, event: QuestionAsked) -> bool:
    """Keeps a question; False if it is known."""
    connection = await raw(tx)
    found = await connection.fetchval(
        "INSERT INTO questions (id, alert_id, escalation_id, partner, raiser, question, asked_at, asked_by)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING RETURNING true",
        event.question_id,
        event.alert_id,
        event.escalation_id,
        event.partner,
        event.raiser,
        event.question,
        event.asked_at,
        dump(event.asked_by),
    )
    return bool(found)


async def find_same(tx: Transaction, escalation_id: UUID, question: str) -> Row | None:
    """The question that says the same for the same escalation and waits for its answer."""
    connection = await raw(tx)
    row: Row | None = await connection.fetchrow(
        "SELECT * FROM questions WHERE escalation_id = $1 AND question = $2 AND answered_at IS NULL LIMIT 1",
        escalation_id,
        question,
    )
    return row


async def count_questions(tx: Transaction, alert_id: UUID, partner: str) -> int:
    """How many questions a partner has asked about an alert."""
    connection = await raw(tx)
    return int(
        await connection.fetchval(
            "SELECT count(*) FROM questions WHERE alert_id = $1 AND partner = $2", alert_id, partner
        )
    )


async def find_question(tx: Transaction, question_id: UUID) -> Row | None:
    """One question, without a lock."""
    connection = await raw(tx)
    row: Row | None = await connection.fetchrow("SELECT * FROM questions WHERE id = $1", question_id)
    return row


async def load_question(tx: Transaction, question_id: UUID) -> Row | None:
    """One question, locked."""
    connection = await raw(tx)
    row: Row | None = await connection.fetchrow("SELECT * FROM questions WHERE id = $1 FOR UPDATE", question_id)
    return row


async def save_answer(
    tx: Transaction, question_id: UUID, answer: str | None, answered_at: datetime, answered_by: Actor
) -> None:
    """Keeps the raiser's answer; the first counts."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE questions SET answer = $2, answered_at = $3, answered_by = $4 WHERE id = $1 AND answered_at IS NULL",
        question_id,
        answer,
        answered_at,
        dump(answered_by),
    )


async def keep_answered(tx: Transaction, event: QuestionAnswered) -> None:
    """Keeps the answer to a question that was asked through this node."""
    await save_answer(tx, event.question_id, event.answer, event.answered_at, event.answered_by)


async def find_questions(tx: Transaction, alert_id: UUID, limit: int) -> list[Row]:
    """The questions about an alert, oldest first."""
    connection = await raw(tx)
    return list(
        await connection.fetch(
            "SELECT * FROM questions WHERE alert_id = $1 ORDER BY asked_at, id LIMIT $2", alert_id, limit
        )
    )


async def find_partners_asked(tx: Transaction, alert_id: UUID) -> list[Row]:
    """The partners' own escalations of an alert: id, partner, kind, and who acknowledged."""
    connection = await raw(tx)
    return list(
        await connection.fetch(
            "SELECT id, partner, kind, acknowledged_by FROM escalations WHERE alert_id = $1 AND kind <> 'takeover'"
            " ORDER BY partner",
            alert_id,
        )
    )


async def find_points_reached(tx: Transaction, escalation_ids: Sequence[UUID]) -> list[Row]:
    """Every contact point that a page of these escalations was sent to, once for each escalation."""
    connection = await raw(tx)
    return list(
        await connection.fetch(
            "SELECT DISTINCT ON (p.escalation_id, p.contact_point_id) p.escalation_id, p.alert_id, p.partner,"  # noqa: S608
            " p.contact_point_id, p.contact_id, p.channel, p.sealed_address, p.told, p.priority, p.languages,"
            " p.time_zone, p.reply_key"
            " FROM pages p WHERE p.escalation_id = ANY($1) AND EXISTS ("
            f"SELECT FROM attempts a WHERE a.page_id = p.id AND a.reason IS DISTINCT FROM '{NOT_SENT}')"
            " ORDER BY p.escalation_id, p.contact_point_id, p.created_at DESC",
            list(escalation_ids),
        )
    )


# --- read-backs -------------------------------------------------------------------------------------------------------


async def require_read_back(tx: Transaction, escalation_id: UUID, alert_id: UUID, now: datetime) -> None:
    """From now on this acknowledgement is to be repeated and confirmed, whatever was said for an earlier one."""
    connection = await raw(tx)
    await connection.execute(
        "INSERT INTO read_backs (escalation_id, alert_id, required_at, rejections) VALUES ($1, $2, $3, 0)"
        " ON CONFLICT (escalation_id) DO UPDATE SET required_at = $3, country = NULL, request = NULL, time = NULL,"
        " given_at = NULL, given_by = NULL, correct = NULL, note = NULL, confirmed_at = NULL, confirmed_by = NULL",
        escalation_id,
        alert_id,
        now,
    )


async def find_read_backs(tx: Transaction, escalation_ids: Sequence[UUID]) -> dict[UUID, Row]:
    """The read-backs of these escalations, for which the network asks for one."""
    if not escalation_ids:
        return {}
    connection = await raw(tx)
    rows = await connection.fetch("SELECT * FROM read_backs WHERE escalation_id = ANY($1)", list(escalation_ids))
    return {row["escalation_id"]: row for row in rows}


async def load_read_back(tx: Transaction, escalation_id: UUID) -> Row | None:
    """One read-back, locked."""
    connection = await raw(tx)
    row: Row | None = await connection.fetchrow(
        "SELECT * FROM read_backs WHERE escalation_id = $1 FOR UPDATE", escalation_id
    )
    return row


async def save_read_back(
    tx: Transaction, escalation_id: UUID, said: tuple[str, str, str], given_at: datetime, given_by: Actor
) -> None:
    """Keeps what was repeated: country, request, time. It is not confirmed yet."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE read_backs SET country = $2, request = $3, time = $4, given_at = $5, given_by = $6, correct = NULL,"
        " note = NULL, confirmed_at = NULL, confirmed_by = NULL WHERE escalation_id = $1",
        escalation_id,
        *said,
        given_at,
        dump(given_by),
    )


async def save_confirmation(
    tx: Transaction, escalation_id: UUID, *, correct: bool, note: str | None, at: datetime, by: Actor
) -> None:
    """Keeps what the raiser said of a read-back."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE read_backs SET correct = $2, note = $3, confirmed_at = $4, confirmed_by = $5,"
        " rejections = rejections + CASE WHEN $2 THEN 0 ELSE 1 END WHERE escalation_id = $1",
        escalation_id,
        correct,
        note,
        at,
        dump(by),
    )


async def touch_escalation(tx: Transaction, escalation_id: UUID, now: datetime) -> None:
    """Says that what is shown of this escalation has changed."""
    connection = await raw(tx)
    await connection.execute("UPDATE escalations SET changed_at = $2 WHERE id = $1", escalation_id, now)


def read_back_state(row: Row, prefix: str = "") -> Literal["required", "given", "confirmed"]:
    """Where a read-back stands, from its columns; a rejected one is required again."""
    if row[f"{prefix}given_at"] is None or row[f"{prefix}correct"] is False:
        return "required"
    return "given" if row[f"{prefix}correct"] is None else "confirmed"
