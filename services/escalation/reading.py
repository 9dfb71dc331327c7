"""Reading for people: escalations as lists, in full, and as the board. Nothing here locks or changes a row.

What a caller may see is part of each query: rows of others are not found, they are not hidden afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from services.escalation.store import Row, facts_of_json
from services.escalation.store.tables import escalations
from shared.contracts import SECRETARIAT, Role
from shared.db import Transaction, raw
from shared.errors import NotFound
from shared.security import Principal

SEEING_ROLES = frozenset({Role.DUTY_OFFICER, Role.SENIOR_CONTACT, Role.DRAFTER, Role.RELEASER, Role.SECRETARIAT})
"""Roles that see escalations. Observers read what alerts say where handling allows it, not who answered whom; those who
run the installation, audit the record or keep a roster see none.
"""

_VISIBLE = """
    ($1 OR e.partner = $2 OR e.raiser = $2 OR e.kind <> 'takeover' AND h.facts -> 'answers_visible_to' ? $2)
"""
"""Whether the caller may know of an escalation: the partner asked, the raiser, the secretariat, and another addressed
partner if the alert makes answers visible. Needs `_caller` as its first two parameters.
"""

ROWS_MAX = 20_000
"""The most cells that one board shows: a hundred open alerts to the whole network of two hundred partners."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which escalations to find. None means: whatever."""

    escalation_id: UUID | None = None
    alert_id: UUID | None = None
    partner: str | None = None
    state: str | None = None
    kind: str | None = None
    after: tuple[datetime, UUID] | None = None
    changed_since: datetime | None = None
    ended_since: datetime | None = None
    open_alerts_only: bool = False
    limit: int = ROWS_MAX


_COLUMNS = ", ".join(f"e.{column.name}" for column in escalations.columns if column.name != "levels")
"""Whom each level pages is most of a row, and nothing of it is shown but how many there are."""

_LAST_ATTEMPT = """
LEFT JOIN (
    SELECT DISTINCT ON (p.escalation_id) p.escalation_id, a.started_at, a.finished_at, a.state, a.reason, a.detail,
        p.channel, p.told
    FROM found f JOIN pages p ON p.escalation_id = f.id JOIN attempts a ON a.page_id = p.id
    ORDER BY p.escalation_id, a.started_at DESC
) last ON last.escalation_id = e.id
"""
"""The last attempt of each that was `found`, in one go: one by one takes ten times as long for a large board."""


FINISHED_WITHIN = timedelta(minutes=5)
"""How long after its start an attempt may end and still be found by its start: none is waited for so long. The end of
one whose process was killed comes with a new attempt, which is found."""

_CHANGED = """
AND e.id IN (
    SELECT id FROM escalations WHERE changed_at > $9
    UNION
    SELECT p.escalation_id FROM attempts a JOIN pages p ON p.id = a.page_id
    WHERE a.started_at > $14 AND (a.started_at > $9 OR a.finished_at > $9)
)
"""
"""What the indexes find first: an open board asks for a handful of cells among thousands, several times a second."""

READ_BACK_COLUMNS = (
    "required_at",
    "country",
    "request",
    "time",
    "given_at",
    "given_by",
    "correct",
    "note",
    "rejections",
)
_READ_BACK_COLUMNS = ", ".join(f"rb.{name} AS read_back_{name}" for name in READ_BACK_COLUMNS)


async def find_cells(tx: Transaction, principal: Principal, wanted: Wanted) -> list[Row]:
    """Escalations that the caller may see, newest first, each with its last attempt and, as `alert`, the facts of its
    alert, which are read once for all that have the same.
    """
    if not sees_escalations(principal):
        return []
    connection = await raw(tx)
    after_at, after_id = wanted.after or (None, None)
    since = wanted.changed_since
    rows = await connection.fetch(
        f"""
            WITH found AS (
            SELECT {_COLUMNS}, jsonb_array_length(e.levels) AS level_count,
                h.ended_at AS alert_ended_at, h.superseded_by, h.content -> 'info' -> 0 ->> 'headline' AS headline
            FROM escalations e JOIN alert_heads h USING (alert_id)
            WHERE {_VISIBLE}
              AND ($3::uuid IS NULL OR e.alert_id = $3)
              AND ($4::text IS NULL OR e.partner = $4)
              AND ($5::text IS NULL OR e.state = $5)
              AND ($6::text IS NULL OR e.kind = $6)
              AND ($7::timestamptz IS NULL OR (e.opened_at, e.id) < ($7, $8::uuid))
              AND ($13::uuid IS NULL OR e.id = $13)
              {_CHANGED if since is not None else "AND $9::timestamptz IS NULL AND $14::timestamptz IS NULL"}
              AND (NOT $10 OR h.superseded_by IS NULL AND (h.ended_at IS NULL OR h.ended_at > $11))
            ORDER BY e.opened_at DESC, e.id DESC LIMIT $12
            )
            SELECT e.*,
                last.started_at AS last_started_at, last.finished_at AS last_finished_at, last.state AS last_state,
                last.reason AS last_reason, last.detail AS last_detail, last.channel AS last_channel,
                last.told AS last_told, {_READ_BACK_COLUMNS}
            FROM found e LEFT JOIN read_backs rb ON rb.escalation_id = e.id {_LAST_ATTEMPT}
            ORDER BY e.opened_at DESC, e.id DESC
            """,  # noqa: S608 - our own text
        *_caller(principal),
        wanted.alert_id,
        wanted.partner,
        wanted.state,
        wanted.kind,
        after_at,
        after_id,
        since,
        wanted.open_alerts_only,
        wanted.ended_since,
        wanted.limit,
        wanted.escalation_id,
        since - FINISHED_WITHIN if since is not None else None,
    )
    heads = await connection.fetch(
        "SELECT alert_id, facts FROM alert_heads WHERE alert_id = ANY($1)", list({row["alert_id"] for row in rows})
    )
    facts = {head["alert_id"]: facts_of_json(head["facts"]) for head in heads}
    return [{**row, "alert": facts[row["alert_id"]]} for row in rows]


async def may_see(tx: Transaction, principal: Principal, escalation_id: UUID) -> bool:
    """Whether the caller may know of this escalation. Who may not gets the answer for a missing one."""
    if not sees_escalations(principal):
        return False
    connection = await raw(tx)
    return bool(
        await connection.fetchval(
            "SELECT EXISTS (SELECT FROM escalations e JOIN alert_heads h USING (alert_id)"  # noqa: S608 - our own text
            f" WHERE {_VISIBLE} AND e.id = $3)",
            *_caller(principal),
            escalation_id,
        )
    )


def sees_escalations(principal: Principal) -> bool:
    """Whether the caller's roles see any escalation at all."""
    return principal.is_service or principal.has(*SEEING_ROLES)


def _caller(principal: Principal) -> tuple[bool, str]:
    return principal.partner == SECRETARIAT or principal.is_service, principal.partner


async def find_one(tx: Transaction, principal: Principal, escalation_id: UUID) -> Row | None:
    """One escalation that the caller may see, or None."""
    rows = await find_cells(tx, principal, Wanted(escalation_id=escalation_id, limit=1))
    return rows[0] if rows else None


async def get_one(tx: Transaction, principal: Principal, escalation_id: UUID) -> Row:
    """The same; raises `NotFound`, in the same words for what is not there and for what is not the caller's to see."""
    row = await find_one(tx, principal, escalation_id)
    if row is None:
        raise NotFound("there is no such escalation")
    return row


async def find_pages(tx: Transaction, escalation_id: UUID) -> list[Row]:
    """The pages of an escalation, oldest first."""
    connection = await raw(tx)
    return list(
        await connection.fetch(
            "SELECT id, contact_id, channel, told, message_type, level, asks, state, due_at, attempts, delivered_at,"
            " sent_with, created_at FROM pages WHERE escalation_id = $1 ORDER BY created_at, id",
            escalation_id,
        )
    )


async def find_attempts(tx: Transaction, page_ids: Sequence[UUID]) -> list[Row]:
    """The attempts of these pages, oldest first."""
    connection = await raw(tx)
    return list(
        await connection.fetch(
            "SELECT * FROM attempts WHERE page_id = ANY($1) ORDER BY page_id, number", list(page_ids)
        )
    )


async def find_newest(tx: Transaction) -> str:
    """What names the newest event, numbered or not yet: the board has news when it is another one."""
    connection = await raw(tx)
    return str(
        await connection.fetchval(
            "SELECT concat_ws(' ', (SELECT max(position) FROM outbox),"
            " (SELECT id FROM outbox WHERE position IS NULL ORDER BY id DESC LIMIT 1))"
        )
    )
