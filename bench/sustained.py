"""`python -m bench sustained`: how many alerts a second, each to ten partners, Red Phone keeps up with for a while.

Alerts are raised as fast as their webhooks arrive: a new one as soon as fewer than `IN_FLIGHT_MAX` alerts' worth of
webhooks are missing. So the rate is the one that the whole chain holds, and not only the first of its links.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from bench import report
from bench.rig import PATH, Rig, rig

PARTNERS = 10
IN_FLIGHT_MAX = 20
RAISERS = 4
WARM_UP_ALERTS = 20
DRAIN_SECONDS_MAX = 60.0
PAUSE_SECONDS = 0.01

_LAG = """
SELECT extract(epoch FROM max(p.delivered_at) - (h.facts ->> 'released_at')::timestamptz)::float AS seconds
FROM alert_heads h JOIN pages p USING (alert_id) WHERE p.message_type = 'alert.released'
GROUP BY h.alert_id, h.facts HAVING min(p.created_at) > $1 ORDER BY min(p.created_at)
"""


async def sustained(seconds: float, *, own_sink: bool, progress: Callable[[str], None]) -> dict[str, Any]:
    """The rate held, the lag of the last webhook behind its release, and what memory did meanwhile."""
    progress(f"building up for {PARTNERS} partners")
    async with rig(PARTNERS, own_sink=own_sink) as running:
        for _ in range(WARM_UP_ALERTS):
            await running.raiser.raise_alert()
        await running.quiet()
        running.sink.arrivals.forget()
        database_began_at = await running.escalation_database.fetchval("SELECT clock_timestamp()")
        memory_before = _memory(running)
        progress(f"raising alerts for {seconds:g} s")
        raised, took = await _raise_for(running, seconds)
        drained_seconds = await _drain(running, raised * running.endpoints)
        lags = [row["seconds"] * 1000 for row in await running.escalation_database.fetch(_LAG, database_began_at)]
        memory_after = _memory(running)
        third = max(1, len(lags) // 3)
        return {
            "bench": "sustained",
            "partners": running.endpoints,
            "seconds": seconds,
            "sink": running.sink.kind,
            "alerts": raised,
            "alerts_per_second": report.rounded(raised / seconds),
            "webhooks_per_second": report.rounded(raised * running.endpoints / seconds),
            "accept_ms": report.percentiles([value * 1000 for value in took]),
            "lag_ms": report.percentiles(lags),
            "lag_first_third_ms": report.percentiles(lags[:third]),
            "lag_last_third_ms": report.percentiles(lags[-third:]),
            "drained_seconds": report.rounded(drained_seconds),
            "memory_mib": {
                name: {
                    "start": report.rounded(memory_before[name]),
                    "end": report.rounded(memory_after[name]),
                    "growth": report.rounded(memory_after[name] - memory_before[name]),
                }
                for name in memory_before
            },
        }


async def _raise_for(running: Rig, seconds: float) -> tuple[int, list[float]]:
    """Raises alerts until the time is up: how many, and how long each answer took (seconds)."""
    took: list[float] = []
    sending = 0
    ends = time.monotonic() + seconds
    arrivals = running.sink.arrivals

    async def raise_alerts() -> None:
        nonlocal sending
        while time.monotonic() < ends:
            if (len(took) + sending) * running.endpoints - arrivals.count(PATH) >= IN_FLIGHT_MAX * running.endpoints:
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            sending += 1
            try:
                took.append((await running.raiser.raise_alert())[2])
            finally:
                sending -= 1

    async def look() -> None:
        while True:
            arrivals.read()
            await asyncio.sleep(PAUSE_SECONDS)

    looking = asyncio.create_task(look())
    try:
        await asyncio.gather(*(raise_alerts() for _ in range(RAISERS)))
    finally:
        looking.cancel()
    return len(took), took


async def _drain(running: Rig, webhooks: int) -> float:
    """Waits until every webhook has come and is recorded; how long that took (seconds)."""
    begun = time.monotonic()
    await running.sink.arrivals.wait_for(PATH, webhooks, seconds=DRAIN_SECONDS_MAX)
    await running.quiet()
    return time.monotonic() - begun


def _memory(running: Rig) -> dict[str, float]:
    return {name: process.memory_mib() for name, process in running.services.items()}
