"""Pages and attempts: leasing what is due, recording what became of it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.escalation.store.rows import dump
from shared.db import Transaction, raw

NOT_SENT = "no_longer_wanted"
"""The reason of an attempt that was leased and not begun, because its escalation had been answered or ended."""


ENDING_TYPES = ("alert.ended", "answer.received")
"""What is sent to those who were paged once it is over, for the alert or for a takeover."""


async def end_pages(tx: Transaction, escalation_ids: Sequence[UUID], *, only_asking: bool) -> None:
    """Ends the pages of these escalations that are still to be sent: those that an answer makes idle, or all.

    Idle are pages that ask for the answer, and those that tell the partner's own system of a level.
    """
    if escalation_ids:
        connection = await raw(tx)
        await connection.execute(
            "UPDATE pages SET state = 'ended' WHERE id IN ("
            "SELECT id FROM pages WHERE escalation_id = ANY($1) AND state IN ('due', 'leased')"
            " AND (asks OR message_type = 'level.raised' OR NOT $2) ORDER BY id FOR UPDATE)",
            list(escalation_ids),
            only_asking,
        )


async def find_paged_points(tx: Transaction, escalation_ids: Sequence[UUID]) -> list[Any]:
    """Every contact point that was paged for these escalations or for those that they go on from, once each: where an
    ending message goes.

    Who was paged for a message that an Update has corrected may have gone off duty since, and still believes it. Who
    has had an ending message since they were last paged needs no second one.
    """
    if not escalation_ids:
        return []
    connection = await raw(tx)
    return list(
        await connection.fetch(
            f"""
            WITH ending AS (
                SELECT e.id, e.alert_id, e.partner, e.subject_partner, h.root_alert_id
                FROM escalations e JOIN alert_heads h USING (alert_id) WHERE e.id = ANY($1)
            ), chain AS (
                SELECT n.id AS ending_id, n.alert_id AS ending_alert_id, e.id
                FROM ending n JOIN alert_heads h ON h.root_alert_id = n.root_alert_id
                JOIN escalations e ON e.alert_id = h.alert_id
                    AND e.partner = n.partner AND e.subject_partner = n.subject_partner
            )
            SELECT DISTINCT ON (c.ending_id, p.contact_point_id) c.ending_id AS escalation_id,
                c.ending_alert_id AS alert_id, p.partner, p.contact_point_id, p.contact_id, p.channel,
                p.sealed_address, p.told, p.level, p.priority, p.languages, p.time_zone
            FROM chain c JOIN pages p ON p.escalation_id = c.id
            WHERE p.message_type <> ALL($2) AND EXISTS (
                SELECT FROM attempts a WHERE a.page_id = p.id AND a.reason IS DISTINCT FROM '{NOT_SENT}'
            ) AND NOT EXISTS (
                SELECT FROM chain x JOIN pages o ON o.escalation_id = x.id
                WHERE x.ending_id = c.ending_id AND o.contact_point_id = p.contact_point_id
                    AND o.message_type = ANY($2) AND o.created_at >= p.created_at
            )
            ORDER BY c.ending_id, p.contact_point_id, p.created_at DESC
            """,  # noqa: S608 - our own text
            list(escalation_ids),
            list(ENDING_TYPES),
        )
    )


PAGE_COLUMNS = (
    "id, escalation_id, alert_id, partner, contact_point_id, contact_id, channel, sealed_address, told, message_type,"
    " level, data, attempts, due_at, give_up_at, created_at, asks, priority, languages, time_zone, answer_by_at"
)


async def lease_pages(
    tx: Transaction, *, now: datetime, leased_until: datetime, limit: int, busy: Mapping[UUID, int], per_point: int
) -> list[Any]:
    """Leases due pages and those whose lease has lapsed, and writes their attempt rows.

    `busy` says how many sends each endpoint has under way already: at most `per_point` in all, so that one that hangs
    never takes all senders. Of a person's contact point all pages are leased, because they leave as one message.
    """
    connection = await raw(tx)
    return list(
        await connection.fetch(
            f"""
            WITH candidates AS (
                SELECT id, channel, priority, due_at, row_number() OVER (
                    PARTITION BY contact_point_id ORDER BY priority, due_at, id
                ) AS place
                FROM pages
                WHERE (state = 'due' AND due_at <= $1 OR state = 'leased' AND leased_until <= $1)
            ), busy AS (
                SELECT * FROM unnest($5::uuid[], $6::integer[]) AS b(contact_point_id, sending)
            ), chosen AS (
                SELECT p.id FROM pages p JOIN candidates c USING (id) LEFT JOIN busy b USING (contact_point_id)
                WHERE (c.channel <> 'webhook' OR c.place <= $4 - coalesce(b.sending, 0))
                  AND (p.state = 'due' AND p.due_at <= $1 OR p.state = 'leased' AND p.leased_until <= $1)
                ORDER BY c.priority, c.due_at, p.id LIMIT $3 FOR UPDATE OF p SKIP LOCKED
            ), lapsed AS (
                UPDATE attempts a SET state = 'expired', reason = 'lease_lapsed', finished_at = $1
                FROM pages p JOIN chosen USING (id)
                WHERE a.page_id = p.id AND a.number = p.attempts AND a.state IS NULL
            ), leased AS (
                UPDATE pages p SET state = 'leased', leased_until = $2, attempts = p.attempts + 1
                FROM chosen c WHERE p.id = c.id RETURNING p.*
            ), begun AS (
                INSERT INTO attempts (page_id, number, started_at) SELECT id, attempts, $1 FROM leased
            )
            SELECT {PAGE_COLUMNS} FROM leased ORDER BY priority, due_at, id
            """,  # noqa: S608 - our own column names
            now,
            leased_until,
            limit,
            per_point,
            list(busy),
            list(busy.values()),
        )
    )


async def hold_pages(
    tx: Transaction,
    held: Mapping[UUID, datetime],
    *,
    by_actual: Collection[UUID],
    unheld_precedence: int,
    now: datetime,
) -> None:
    """Lets asking pages to these contact points of people wait until the instant given for each, so that they gather.

    Those of `unheld_precedence`, an Actual alert's or a drill's, are left alone; so are those of an Actual alert where
    only a drill has spoken, which is at points that are not in `by_actual`.
    """
    connection = await raw(tx)
    await connection.execute(
        "WITH held AS ("
        " SELECT p.id, h.until FROM unnest($1::uuid[], $2::timestamptz[]) AS h(contact_point_id, until)"
        " JOIN pages p USING (contact_point_id) WHERE p.state = 'due' AND p.due_at <= $3 AND h.until > $3"
        # What an answer ends just now is left to it: pages of several escalations are locked here.
        " AND p.asks AND p.channel <> 'webhook' AND p.priority % 10 <> $4"
        " AND (p.priority >= 10 OR p.contact_point_id = ANY($5)) FOR UPDATE OF p SKIP LOCKED"
        ") UPDATE pages p SET due_at = held.until FROM held WHERE p.id = held.id",
        list(held),
        list(held.values()),
        now,
        unheld_precedence,
        list(by_actual),
    )


async def find_message(tx: Transaction, page_id: UUID) -> list[Any]:
    """The pages that leave as one message with this one, itself first; none if there is no such page."""
    connection = await raw(tx)
    return list(
        await connection.fetch(
            f"SELECT {PAGE_COLUMNS} FROM pages WHERE id = $1 OR sent_with = $1"  # noqa: S608 - our own column names
            " ORDER BY id <> $1, priority, due_at, id",
            page_id,
        )
    )


async def save_sent_with(tx: Transaction, page_ids: Sequence[UUID], now: datetime) -> set[UUID]:
    """Lets these leased pages leave in the message of the first; returns those that are still to be sent. The rest were
    ended meanwhile, and their attempts say so.
    """
    connection = await raw(tx)
    rows = await connection.fetch(
        "UPDATE pages SET sent_with = $1 WHERE id IN ("
        # Pages of several escalations: in the order in which answers lock them as well.
        "SELECT id FROM pages WHERE id = ANY($2) AND state = 'leased' ORDER BY id FOR UPDATE) RETURNING id",
        page_ids[0],
        list(page_ids),
    )
    wanted = {row["id"] for row in rows}
    if len(wanted) < len(page_ids):
        await find_still_leased(tx, [page_id for page_id in page_ids if page_id not in wanted], now)
    return wanted


async def load_waiting(tx: Transaction, page_ids: Sequence[UUID], now: datetime) -> list[Any]:
    """Pages that wait for their turn behind one of these: to the same contact or office, of the same escalation.

    Locked; one that somebody else holds is left to them, because it is being sent or ended.
    """
    connection = await raw(tx)
    return list(
        await connection.fetch(
            "SELECT w.id, p.id AS behind, w.due_at, w.channel, w.contact_id, w.time_zone, w.priority"
            " FROM pages p JOIN pages w ON w.escalation_id = p.escalation_id AND w.partner = p.partner"
            " AND w.contact_id IS NOT DISTINCT FROM p.contact_id AND w.asks = p.asks"
            " WHERE p.id = ANY($1) AND w.state = 'due' AND w.attempts = 0 AND w.due_at > $2"
            " AND (w.channel <> 'webhook' OR w.contact_id IS NOT NULL)"
            " ORDER BY w.due_at, w.id FOR UPDATE OF w SKIP LOCKED",
            list(page_ids),
            now,
        )
    )


async def save_due(tx: Transaction, due: Mapping[UUID, datetime]) -> None:
    """Moves the time at which waiting pages are due."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE pages p SET due_at = d.due_at FROM unnest($1::uuid[], $2::timestamptz[]) AS d(id, due_at)"
        " WHERE p.id = d.id AND p.state = 'due'",
        list(due),
        list(due.values()),
    )


async def find_next_page_due(tx: Transaction) -> datetime | None:
    """When the next page falls due or the next lease lapses."""
    connection = await raw(tx)
    return await connection.fetchval(  # type: ignore[no-any-return]
        "SELECT least((SELECT min(due_at) FROM pages WHERE state = 'due'),"
        " (SELECT min(leased_until) FROM pages WHERE state = 'leased'))"
    )


async def find_still_leased(tx: Transaction, page_ids: Sequence[UUID], now: datetime) -> set[UUID]:
    """Which of these leased pages are still to be sent: the rest were ended meanwhile, and their attempts say so."""
    connection = await raw(tx)
    rows = await connection.fetch("SELECT id FROM pages WHERE id = ANY($1) AND state = 'leased'", list(page_ids))
    wanted = {row["id"] for row in rows}
    if dropped := [page_id for page_id in page_ids if page_id not in wanted]:
        await connection.execute(
            f"UPDATE attempts a SET state = 'expired', reason = '{NOT_SENT}', finished_at = $2"  # noqa: S608
            " FROM pages p WHERE p.id = ANY($1) AND a.page_id = p.id AND a.number = p.attempts AND a.state IS NULL",
            dropped,
            now,
        )
    return wanted


async def save_results(tx: Transaction, results: Sequence[Mapping[str, Any]]) -> None:
    """Records finished attempts and moves their pages on, in one statement.

    A result row has page_id, number, started_at, finished_at, state, reason, detail, status_code, elapsed_seconds,
    provider, provider_id, cost_amount, cost_currency, next_due_at (None: the page is done), accepted and delivered_at.
    A page that was ended meanwhile stays ended, and one that was leased again since belongs to the newer attempt.
    """
    connection = await raw(tx)
    await connection.execute(
        """
        WITH results AS (
            SELECT * FROM jsonb_to_recordset($1) AS r(
                page_id uuid, number integer, started_at timestamptz, finished_at timestamptz, state text, reason text,
                detail text, status_code smallint, elapsed_seconds double precision, provider text, provider_id text,
                cost_amount numeric, cost_currency text, next_due_at timestamptz, accepted boolean,
                delivered_at timestamptz
            )
        ), recorded AS (
            UPDATE attempts a SET finished_at = r.finished_at, state = r.state, reason = r.reason, detail = r.detail,
                status_code = r.status_code, elapsed_seconds = r.elapsed_seconds, provider = r.provider,
                provider_id = r.provider_id, cost_amount = r.cost_amount, cost_currency = r.cost_currency,
                delivered_at = r.delivered_at
            FROM results r WHERE a.page_id = r.page_id AND a.number = r.number
        )
        UPDATE pages p SET
            state = CASE WHEN p.state <> 'leased' THEN p.state WHEN r.next_due_at IS NULL THEN 'done' ELSE 'due' END,
            due_at = coalesce(r.next_due_at, p.due_at),
            leased_until = NULL,
            first_attempt_at = coalesce(p.first_attempt_at, r.started_at),
            delivered_at = coalesce(p.delivered_at, r.delivered_at)
        FROM results r WHERE p.id = r.page_id AND (p.attempts = r.number OR r.accepted)
        """,
        dump(list(results)),
    )


async def save_reopened(tx: Transaction, due: Mapping[UUID, datetime]) -> None:
    """Makes pages due again that were done, because their message did not arrive after all."""
    if due:
        connection = await raw(tx)
        await connection.execute(
            "UPDATE pages p SET state = 'due', due_at = d.due_at FROM unnest($1::uuid[], $2::timestamptz[])"
            " AS d(id, due_at) WHERE p.id = d.id AND p.state = 'done'",
            list(due),
            list(due.values()),
        )


async def save_arrived(tx: Transaction, attempts: Sequence[tuple[UUID, int]], now: datetime) -> None:
    """Notes that these attempts' messages have arrived; what waits to be sent again because of them need not be."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE pages p SET delivered_at = coalesce(p.delivered_at, $3),"
        " state = CASE WHEN p.state = 'due' AND p.attempts = n.number THEN 'done' ELSE p.state END"
        " FROM unnest($1::uuid[], $2::integer[]) AS n(id, number) WHERE p.id = n.id",
        [page_id for page_id, _ in attempts],
        [number for _, number in attempts],
        now,
    )


async def count_attempts(tx: Transaction, escalation_ids: Sequence[UUID]) -> dict[UUID, int]:
    """How many attempts were made for each of these escalations."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT escalation_id, sum(attempts)::integer AS made FROM pages WHERE escalation_id = ANY($1) GROUP BY 1",
        list(escalation_ids),
    )
    return {row["escalation_id"]: row["made"] for row in rows}


async def find_first_attempts(tx: Transaction, escalation_ids: Sequence[UUID]) -> dict[UUID, datetime]:
    """When the first attempt for each of these escalations began."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT p.escalation_id, min(a.started_at) AS first_at FROM pages p JOIN attempts a ON a.page_id = p.id"
        " WHERE p.escalation_id = ANY($1) GROUP BY 1",
        list(escalation_ids),
    )
    return {row["escalation_id"]: row["first_at"] for row in rows}


async def find_raisers(tx: Transaction, alert_ids: Sequence[UUID | None]) -> dict[UUID | None, str]:
    """Who raised each of these alerts."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT alert_id, facts ->> 'raiser' AS raiser FROM alert_heads WHERE alert_id = ANY($1) AND facts IS NOT NULL",
        [alert_id for alert_id in alert_ids if alert_id is not None],
    )
    return {row["alert_id"]: row["raiser"] for row in rows}
