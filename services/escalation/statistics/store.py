"""Counting in the database: one statement for answers, one for coverage goals. Nothing here locks a row.

What a caller may see is part of each statement. A year of two hundred partners is a scan of some ten thousand rows.
"""

from __future__ import annotations

from services.escalation.statistics.domain import ROWS_MAX, CoverageTally, Period, Sight, Tally, bucket_conditions
from shared.contracts import Precedence
from shared.db import Transaction, raw

_DISTRIBUTION = ", ".join(f"count(*) FILTER (WHERE {condition})" for condition in bucket_conditions("seconds"))

_COUNTED = """
    SELECT e.partner, h.facts ->> 'precedence' AS precedence, e.late, e.acknowledged_at, e.taken_over_at,
        extract(epoch FROM e.acknowledged_at - e.clock_started_at)::float8 AS seconds,
        e.state = 'unreached' OR e.taken_over_at IS NOT NULL
            OR NOT e.unreached_postponed AND e.unreached_at <= least(e.acknowledged_at, e.ended_at)
            OR (e.alert_id, e.partner) IN (
                SELECT t.alert_id, t.subject_partner FROM escalations t WHERE t.kind = 'takeover'
            ) AS unreached
    FROM escalations e
    JOIN alert_heads h USING (alert_id)
    LEFT JOIN escalations successor
        ON successor.alert_id = h.superseded_by AND successor.partner = e.partner AND successor.kind = 'answer'
    WHERE e.kind = 'answer' AND e.clock_started_at >= $2 AND e.clock_started_at < $3
      AND (h.facts ->> 'status' <> 'Actual') = $4
      AND ($1::text IS NULL OR e.partner = $1 OR e.raiser = $1)
      AND (
          e.end_reason IS DISTINCT FROM 'superseded'
          OR e.acknowledged_at <= e.ended_at AND successor.acknowledged_at IS DISTINCT FROM e.acknowledged_at
      )
"""


async def find_tallies(tx: Transaction, sight: Sight, period: Period, *, drills: bool) -> list[Tally]:
    """Every partner's answers by precedence, and those of all together."""
    connection = await raw(tx)
    rows = await connection.fetch(
        f"""
        WITH counted AS ({_COUNTED})
        SELECT partner, precedence, count(*) AS asked, count(acknowledged_at) AS acknowledged,
            count(*) FILTER (WHERE late AND acknowledged_at IS NOT NULL) AS late,
            count(*) FILTER (WHERE unreached) AS unreached, count(taken_over_at) AS taken_over,
            percentile_disc(0.5) WITHIN GROUP (ORDER BY seconds) AS median_seconds,
            percentile_disc(0.9) WITHIN GROUP (ORDER BY seconds) AS p90_seconds,
            ARRAY[{_DISTRIBUTION}] AS distribution
        FROM counted GROUP BY GROUPING SETS ((partner, precedence), (precedence)) LIMIT $5
        """,  # noqa: S608 - our own text
        sight.partner,
        period.from_at,
        period.to_at,
        drills,
        ROWS_MAX,
    )
    return [
        Tally(**{**row, "precedence": Precedence(row["precedence"]), "distribution": tuple(row["distribution"])})
        for row in rows
    ]


async def find_coverage(tx: Transaction, sight: Sight, period: Period, *, drills: bool) -> list[CoverageTally]:
    """Coverage goals that were decided in the period, of one raiser or of all."""
    connection = await raw(tx)
    rows = await connection.fetch(
        """
        SELECT g.raiser, h.facts ->> 'precedence' AS precedence,
            count(*) FILTER (WHERE g.state = 'met') AS met, count(*) FILTER (WHERE g.state = 'missed') AS missed
        FROM coverage_goals g JOIN alert_heads h USING (alert_id)
        WHERE g.decided_at >= $2 AND g.decided_at < $3 AND g.state IN ('met', 'missed')
          AND (h.facts ->> 'status' <> 'Actual') = $4 AND ($1::text IS NULL OR g.raiser = $1)
        GROUP BY 1, 2 ORDER BY 1, 2 LIMIT $5
        """,
        sight.partner,
        period.from_at,
        period.to_at,
        drills,
        ROWS_MAX,
    )
    return [CoverageTally(**{**row, "precedence": Precedence(row["precedence"])}) for row in rows]
