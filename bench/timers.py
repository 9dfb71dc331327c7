"""`python -m bench timers`: 10,000 open escalations of which 1,000 fall due at the same instant; how late is each?

The escalations are opened by real alerts, one per partner and alert. Then a random tenth of them is given one and the
same due time, and the running escalation service has to notice, decide, write, and page the next level of each.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from bench import report
from bench.rig import OFFICE_PATH, PATH, Rig, rig

PARTNERS = 100
LEAD_SECONDS = 5.0
WAIT_SECONDS_MAX = 60.0

_SET_DUE = """
UPDATE escalations SET due_at = $1 WHERE id IN (
    SELECT id FROM escalations WHERE state IN ('pending', 'notified') AND kind = 'answer' ORDER BY random() LIMIT $2
)
"""
_RAISED = """
SELECT extract(epoch FROM (body::jsonb ->> 'raised_at')::timestamptz - $1)::float * 1000 AS late
FROM outbox WHERE type = 'redphone.escalation.level_raised.v1' AND occurred_at >= $1
"""


async def timers(escalations: int, due: int, *, own_sink: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """How late the levels were raised, and how late the pages of those levels arrived."""
    partners = min(PARTNERS, escalations)
    progress(f"opening {escalations} escalations with {partners} partners")
    async with rig(partners, own_sink=own_sink) as running:
        alerts = -(-escalations // running.endpoints)
        for number in range(1, alerts + 1):
            await running.raiser.raise_alert()
            await running.sink.arrivals.wait_for(PATH, number * running.endpoints)
        await running.quiet()
        database = running.escalation_database
        opened = await database.fetchval("SELECT count(*) FROM escalations WHERE due_at IS NOT NULL")
        await database.execute("ANALYZE")
        due_at = await database.fetchval("SELECT clock_timestamp()") + timedelta(seconds=LEAD_SECONDS)
        await database.execute(_SET_DUE, due_at, due)
        progress(f"{due} of {opened} escalations fall due in {LEAD_SECONDS:g} s")
        running.sink.arrivals.forget()
        came = await _arrivals(running, due)
        await running.quiet()
        raised = [row["late"] for row in await database.fetch(_RAISED, due_at)]
        if len(raised) != due:
            raise RuntimeError(f"{len(raised)} levels were raised, and {due} escalations were due")
        arrived = [(at - due_at.timestamp()) * 1000 for at in came]
        return {
            "bench": "timers",
            "open_escalations": opened,
            "due_at_once": due,
            "partners": partners,
            "sink": running.sink.kind,
            "raised_late_ms": {**report.percentiles(raised), "max": report.rounded(max(raised))},
            "page_arrived_late_ms": {**report.percentiles(arrived), "max": report.rounded(max(arrived))},
            "too_early": sum(late < 0 for late in raised),
        }


async def _arrivals(running: Rig, due: int) -> list[float]:
    await asyncio.sleep(LEAD_SECONDS)
    return await running.sink.arrivals.wait_for(OFFICE_PATH, due, seconds=WAIT_SECONDS_MAX)
