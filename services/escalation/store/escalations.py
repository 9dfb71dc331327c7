"""Escalations that exist: loading, finding, saving."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.escalation.model import AlertFacts, Escalation
from services.escalation.store.heads import CHAIN_LENGTH_MAX
from services.escalation.store.rows import (
    ESCALATION_COLUMNS,
    SAVED_COLUMNS,
    dump,
    escalation_of,
    escalation_row,
    facts_of_json,
)
from shared.db import Transaction, raw

_SELECT = (
    "SELECT "  # noqa: S608 - our own column names
    + ", ".join(f"e.{name}::text" if name == "levels" else f"e.{name}" for name in ESCALATION_COLUMNS)
    + ", h.facts::text FROM escalations e JOIN alert_heads h USING (alert_id)"
)
"""Levels and facts come as text, because the same ones come for hundreds of rows and are read once."""

_DUE = "ORDER BY e.due_at LIMIT $2 FOR UPDATE OF e SKIP LOCKED"


def _escalations_of(rows: Iterable[Any]) -> list[Escalation]:
    facts: dict[str, AlertFacts] = {}
    found = []
    for row in rows:
        stored = row["facts"]
        if stored not in facts:
            facts[stored] = facts_of_json(stored)
        found.append(escalation_of(row, facts[stored]))
    return found


async def load_of_alert(tx: Transaction, alert_id: UUID) -> list[Escalation]:
    """All escalations of an alert, locked in the order of their ids. The head must be locked before."""
    connection = await raw(tx)
    return _escalations_of(
        await connection.fetch(f"{_SELECT} WHERE alert_id = $1 ORDER BY e.id FOR UPDATE OF e", alert_id)
    )


async def find_escalation(tx: Transaction, escalation_id: UUID) -> Escalation | None:
    """One escalation, without a lock."""
    connection = await raw(tx)
    found = _escalations_of(await connection.fetch(f"{_SELECT} WHERE e.id = $1", escalation_id))
    return found[0] if found else None


async def find_carried_to(tx: Transaction, alert_id: UUID) -> UUID | None:
    """The newest Update of an alert, if none on the way to it asks anew; None otherwise, or if nothing corrects it."""
    connection = await raw(tx)
    rows = await connection.fetch(
        """
        WITH RECURSIVE chain AS (
            SELECT superseded_by AS alert_id, 1 AS place FROM alert_heads WHERE alert_id = $1
            UNION ALL
            SELECT h.superseded_by, c.place + 1 FROM chain c JOIN alert_heads h USING (alert_id) WHERE c.place < $2
        )
        SELECT c.alert_id, coalesce((h.facts ->> 'asks_anew')::boolean, false) AS asks_anew
        FROM chain c JOIN alert_heads h USING (alert_id) ORDER BY c.place
        """,
        alert_id,
        CHAIN_LENGTH_MAX,
    )
    return None if not rows or any(row["asks_anew"] for row in rows) else rows[-1]["alert_id"]


async def find_taken_over(
    tx: Transaction, root_alert_id: UUID, alert_id: UUID, subject_partner: str
) -> dict[str, Escalation]:
    """By taker, the newest takeover of a partner that a human took for an earlier message of this chain.

    What was taken over before the partner answered is over, whichever message that was about: a later silence is
    another one.
    """
    connection = await raw(tx)
    rows = await connection.fetch(
        f"{_SELECT} WHERE h.root_alert_id = $1 AND alert_id <> $2 AND e.subject_partner = $3"
        " AND e.taken_over_at IS NOT NULL AND NOT EXISTS ("
        "SELECT FROM escalations o JOIN alert_heads oh USING (alert_id) WHERE oh.root_alert_id = $1"
        " AND o.subject_partner = $3 AND o.end_reason = 'acknowledged' AND o.ended_at >= e.taken_over_at"
        ") ORDER BY e.taken_over_at",
        root_alert_id,
        alert_id,
        subject_partner,
    )
    return {escalation.partner: escalation for escalation in _escalations_of(rows)}


async def find_takeover_family(tx: Transaction, alert_id: UUID, subject_partner: str) -> list[UUID]:
    """The unreached partner's own escalation and the takeovers for it, as far as they are here."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT id FROM escalations WHERE alert_id = $1"
        " AND (subject_partner = $2 OR partner = $2 AND subject_partner = '')",
        alert_id,
        subject_partner,
    )
    return [row["id"] for row in rows]


async def load_one(tx: Transaction, escalation_id: UUID) -> Escalation | None:
    """One escalation, locked."""
    connection = await raw(tx)
    found = _escalations_of(await connection.fetch(f"{_SELECT} WHERE e.id = $1 FOR UPDATE OF e", escalation_id))
    return found[0] if found else None


async def load_many(tx: Transaction, escalation_ids: Sequence[UUID]) -> list[Escalation]:
    """Several escalations, locked in the order of their ids."""
    connection = await raw(tx)
    return _escalations_of(
        await connection.fetch(f"{_SELECT} WHERE e.id = ANY($1) ORDER BY e.id FOR UPDATE OF e", list(escalation_ids))
    )


async def load_takeovers(tx: Transaction, alert_id: UUID, subject_partner: str) -> list[Escalation]:
    """The takeover escalations for an unreached partner, locked."""
    connection = await raw(tx)
    return _escalations_of(
        await connection.fetch(
            f"{_SELECT} WHERE alert_id = $1 AND e.subject_partner = $2 ORDER BY e.id FOR UPDATE OF e",
            alert_id,
            subject_partner,
        )
    )


async def load_due(tx: Transaction, now: datetime, limit: int) -> list[Escalation]:
    """Escalations whose due time has come, locked; those that somebody else holds are left to them.

    Those of drills are looked for where Actual alerts leave room.
    """
    connection = await raw(tx)
    drills = await connection.fetchval(
        "SELECT array_agg(alert_id) FROM alert_heads WHERE facts ->> 'status' <> 'Actual' AND ended_at IS NULL"
    )
    rows = await connection.fetch(
        f"{_SELECT} WHERE e.due_at <= $1 AND e.alert_id <> ALL($3) {_DUE}", now, limit, drills or []
    )
    if drills and (left := limit - len(rows)):
        rows += await connection.fetch(
            f"{_SELECT} WHERE e.due_at <= $1 AND e.alert_id = ANY($3) {_DUE}", now, left, drills
        )
    return _escalations_of(rows)


async def load_unattempted(tx: Transaction, escalation_ids: Sequence[UUID]) -> list[Escalation]:
    """Those of these escalations, locked, to which a first attempt or a first acceptance would be news."""
    if not escalation_ids:
        return []
    connection = await raw(tx)
    return _escalations_of(
        await connection.fetch(
            f"{_SELECT} WHERE e.id = ANY($1) AND (e.first_attempt_at IS NULL OR e.notified_at IS NULL)"
            " AND e.state <> 'ended' ORDER BY e.id FOR UPDATE OF e",
            list(escalation_ids),
        )
    )


async def find_next_due(tx: Transaction) -> datetime | None:
    """When the next escalation falls due."""
    connection = await raw(tx)
    return await connection.fetchval("SELECT min(due_at) FROM escalations WHERE due_at IS NOT NULL")  # type: ignore[no-any-return]


async def count_stuck(tx: Transaction, before: datetime) -> tuple[int, int]:
    """How many open escalations have no due time, and how many have been due since before an instant."""
    connection = await raw(tx)
    row = await connection.fetchrow(
        "SELECT count(*) FILTER (WHERE due_at IS NULL) AS timeless, count(*) FILTER (WHERE due_at < $1) AS late"
        " FROM escalations WHERE state <> 'ended' AND (due_at IS NULL OR due_at < $1)",
        before,
    )
    assert row is not None
    return row["timeless"], row["late"]


async def find_escalation_id(tx: Transaction, alert_id: UUID, partner: str) -> UUID | None:
    """The partner's own escalation of an alert, or None."""
    connection = await raw(tx)
    return await connection.fetchval(  # type: ignore[no-any-return]
        "SELECT id FROM escalations WHERE alert_id = $1 AND partner = $2 AND subject_partner = ''", alert_id, partner
    )


async def find_open_alerts_of(tx: Transaction, partner: str) -> list[UUID]:
    """Alerts to which the partner still owes an answer, oldest first."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT alert_id FROM escalations WHERE partner = $1 AND kind = 'answer'"
        " AND state IN ('pending', 'notified', 'unreached') ORDER BY opened_at",
        partner,
    )
    return [row["alert_id"] for row in rows]


async def load_asked_of(tx: Transaction, partner: str) -> list[Escalation]:
    """The escalations in which a partner's people are still asked, locked in the order of their ids."""
    connection = await raw(tx)
    return _escalations_of(
        await connection.fetch(
            f"{_SELECT} WHERE e.partner = $1 AND e.kind <> 'information'"
            " AND e.state IN ('pending', 'notified', 'unreached') ORDER BY e.id FOR UPDATE OF e",
            partner,
        )
    )


async def find_points_paged(tx: Transaction, escalation_ids: Sequence[UUID]) -> dict[UUID, set[UUID]]:
    """The contact points that have a page of each of these escalations."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT escalation_id, array_agg(DISTINCT contact_point_id) AS points FROM pages"
        " WHERE escalation_id = ANY($1) GROUP BY 1",
        list(escalation_ids),
    )
    return {row["escalation_id"]: set(row["points"]) for row in rows}


async def save_stopped(tx: Transaction, escalation_ids: Sequence[UUID], contact_id: UUID) -> None:
    """Keeps that a contact, or a contact point of an office, is not paged any more for these escalations."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE escalations SET stopped = array_append(stopped, $2) WHERE id IN ("
        "SELECT id FROM escalations WHERE id = ANY($1) AND state <> 'ended'"
        " AND NOT $2 = ANY(coalesce(stopped, '{}')) ORDER BY id FOR UPDATE)",
        list(escalation_ids),
        contact_id,
    )


async def save_due_without_levels(tx: Transaction, partner: str, now: datetime) -> int:
    """Makes due what waits for a partner's next level without knowing any level; returns how many."""
    connection = await raw(tx)
    done = await connection.execute(
        "UPDATE escalations SET due_at = $2 WHERE id IN ("
        "SELECT id FROM escalations WHERE partner = $1 AND due_reason = 'next_level' AND due_at > $2"
        " AND levels = '[]' ORDER BY id FOR UPDATE)",
        partner,
        now,
    )
    return int(done.split()[-1])


async def save(tx: Transaction, changed: Sequence[Escalation], now: datetime) -> None:
    """Writes changed escalations back, in one statement."""
    if not changed:
        return
    connection = await raw(tx)
    assignments = ", ".join(f"{name} = n.{name}" for name in SAVED_COLUMNS)
    await connection.execute(
        f"UPDATE escalations e SET {assignments}"  # noqa: S608 - our own column names
        " FROM jsonb_populate_recordset(NULL::escalations, $1) n WHERE e.id = n.id",
        dump([escalation_row(escalation, now) for escalation in changed]),
    )
