"""Alert heads: one row per alert that was heard of, also if only its end was."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.escalation.model import AlertFacts
from services.escalation.store.plans import VERSIONS, Versions
from services.escalation.store.rows import (
    INSTANTS_BY_PARTNER,
    AlertHead,
    BegunOpening,
    dump,
    facts_of_json,
    facts_to_json,
)
from shared.contracts import EndReason
from shared.db import Transaction, raw
from shared.errors import ALERT_OPENING, Unavailable

_HEAD = "alert_id, facts, superseded_by, ended_at, end_reason, answered, opening_id, opening_at"

OPENING_SECONDS_MAX = 10.0
"""For so long the process that has begun an opening may be at it; as long as the broker waits for its word. After that
whoever gets the release goes on with it."""

OPENING_WAITED_FOR_SECONDS = 60.0
"""So long everything else about the alert waits for its opening. A release that could not be handled by then is a dead
letter, of which people have been told."""


CHAIN_LENGTH_MAX = 1000
"""How many Updates of Updates are followed: more than any crisis has had, and an end to a ring of them."""


async def begin_opening(
    tx: Transaction, alert_id: UUID, opening: BegunOpening, codes: Sequence[str]
) -> dict[str, Versions] | None:
    """Promises that an alert of which nothing is known yet will be opened by `opening`; None if something is known.

    Returns what `find_versions` does, from the same statement: it is committed before any page leaves, by whoever has
    given a connection without a transaction.
    """
    connection = await raw(tx)
    rows = await connection.fetch(
        "WITH begun AS (INSERT INTO alert_heads (alert_id, received_at, opening_id, opening_at)"  # noqa: S608 - our own text
        " VALUES ($2, $4, $3, $4) ON CONFLICT DO NOTHING RETURNING alert_id)"
        f" SELECT v.* FROM begun LEFT JOIN ({VERSIONS}) AS v ON true",
        list(codes),
        alert_id,
        opening.id,
        opening.at,
    )
    if not rows:
        return None
    return {row["partner"]: (row["plan_version"], row["version"], row["signed_version"]) for row in rows if row[0]}


async def is_opening(tx: Transaction, now: datetime, *, for_seconds: float = 0) -> bool:
    """Whether any alert has been begun, so long ago, and is not stored: what is not found may be there in a moment."""
    connection = await raw(tx)
    found = await connection.fetchval(
        "SELECT EXISTS (SELECT FROM alert_heads WHERE opening_id IS NOT NULL AND opening_at > $1 AND opening_at <= $2)",
        now - timedelta(seconds=OPENING_WAITED_FOR_SECONDS),
        now - timedelta(seconds=for_seconds),
    )
    return bool(found)


async def refuse_while_opening(tx: Transaction, now: datetime) -> None:
    """Raises `Unavailable` where nothing was found that may be there in a moment."""
    if await is_opening(tx, now):
        raise Unavailable("this may be there in a moment; try again", code=ALERT_OPENING)


async def load_head(
    tx: Transaction, alert_id: UUID, now: datetime, *, opens: UUID | None = None, is_ours: bool = False
) -> AlertHead:
    """The alert's head, locked; inserted if unknown, because the end may come before the beginning.

    Raises `Unavailable` while the alert is being opened: for everything but the message `opens` that opens it, and for
    that one, too, unless this process `is_ours` or the one that has begun must be held for dead.
    """
    connection = await raw(tx)
    row = await connection.fetchrow(
        "INSERT INTO alert_heads (alert_id, received_at) VALUES ($1, $2)"  # noqa: S608 - our own column names
        f" ON CONFLICT DO NOTHING RETURNING {_HEAD}",
        alert_id,
        now,
    )
    if row is None:
        row = await connection.fetchrow(f"SELECT {_HEAD} FROM alert_heads WHERE alert_id = $1 FOR UPDATE", alert_id)  # noqa: S608
    assert row is not None
    head = _head_of(row)
    if head.opening is None:
        return head
    at_it = head.opening.id == opens
    seconds = OPENING_WAITED_FOR_SECONDS if not at_it else 0.0 if is_ours else OPENING_SECONDS_MAX
    if now < head.opening.at + timedelta(seconds=seconds):
        raise Unavailable("the alert is just being opened; try again", code=ALERT_OPENING)
    return head if at_it else replace(head, opening=None)


async def find_heads(tx: Transaction, alert_ids: Sequence[UUID]) -> dict[UUID, AlertHead]:
    """The heads of the alerts that are known, without a lock."""
    connection = await raw(tx)
    rows = await connection.fetch(f"SELECT {_HEAD} FROM alert_heads WHERE alert_id = ANY($1)", list(alert_ids))  # noqa: S608
    return {row["alert_id"]: _head_of(row) for row in rows}


async def find_facts(tx: Transaction, alert_id: UUID) -> AlertFacts | None:
    """What is kept of an alert; None while its release has not arrived."""
    known = await find_heads(tx, [alert_id])
    return known[alert_id].facts if alert_id in known else None


def _head_of(row: Any) -> AlertHead:
    return AlertHead(
        alert_id=row["alert_id"],
        facts=None if row["facts"] is None else facts_of_json(row["facts"]),
        superseded_by=row["superseded_by"],
        ended_at=row["ended_at"],
        end_reason=None if row["end_reason"] is None else EndReason(row["end_reason"]),
        answered={} if row["answered"] is None else INSTANTS_BY_PARTNER.validate_python(row["answered"]),
        opening=None if row["opening_id"] is None else BegunOpening(row["opening_id"], row["opening_at"]),
    )


async def load_newest(tx: Transaction, alert_id: UUID, now: datetime) -> UUID:
    """The newest Update in the chain that begins with this alert; the head of each is locked on the way, older first.

    It is the alert itself where nothing has corrected it.
    """
    for _ in range(CHAIN_LENGTH_MAX):
        head = await load_head(tx, alert_id, now)
        if head.superseded_by is None or head.superseded_by == alert_id:
            break
        alert_id = head.superseded_by
    return alert_id


async def save_facts(tx: Transaction, facts: AlertFacts) -> None:
    """Keeps what another message says of an alert until its release arrives."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE alert_heads SET root_alert_id = $2, facts = $3 WHERE alert_id = $1 AND facts IS NULL",
        facts.alert_id,
        facts.root_alert_id,
        dump(facts_to_json(facts)),
    )


async def save_answered(tx: Transaction, head: AlertHead, partner: str, at: datetime) -> None:
    """Remembers when a partner of another node acknowledged: its newest acknowledgement counts."""
    known = head.answered.get(partner)
    if known is None or known < at:
        connection = await raw(tx)
        answered = {code: instant.isoformat() for code, instant in {**head.answered, partner: at}.items()}
        await connection.execute(
            "UPDATE alert_heads SET answered = $2 WHERE alert_id = $1", head.alert_id, dump(answered)
        )


async def save_release(tx: Transaction, facts: AlertFacts, corrects: UUID | None, content: Any) -> None:
    """Fills a head with what its release says; what was begun for it ahead is stored with it."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE alert_heads SET root_alert_id = $2, corrects = $3, facts = $4, content = $5,"
        " opening_id = NULL, opening_at = NULL WHERE alert_id = $1",
        facts.alert_id,
        facts.root_alert_id,
        corrects,
        dump(facts_to_json(facts)),
        dump(content),
    )


async def save_superseded(tx: Transaction, alert_id: UUID, superseded_by: UUID) -> None:
    """Marks a head as corrected by an Update."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE alert_heads SET superseded_by = $2 WHERE alert_id = $1 AND superseded_by IS NULL",
        alert_id,
        superseded_by,
    )


async def save_end(tx: Transaction, alert_id: UUID, reason: EndReason, ended_at: datetime) -> None:
    """Marks a head as ended; the first end counts."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE alert_heads SET ended_at = $2, end_reason = $3 WHERE alert_id = $1 AND ended_at IS NULL",
        alert_id,
        ended_at,
        reason,
    )


async def find_content(tx: Transaction, alert_ids: Sequence[UUID]) -> dict[UUID, tuple[AlertFacts, dict[str, Any]]]:
    """Facts and content of released alerts: what pages are rendered from."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT alert_id, facts, content FROM alert_heads WHERE alert_id = ANY($1) AND facts IS NOT NULL",
        list(alert_ids),
    )
    return {row["alert_id"]: (facts_of_json(row["facts"]), row["content"]) for row in rows}
