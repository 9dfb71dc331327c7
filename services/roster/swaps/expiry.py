"""Writes down that offers have expired: a loop.

Nobody waits for it, because an offer that is over is refused whatever its row says.
"""

from __future__ import annotations

from services.roster.handlers import RosterDeps
from services.roster.swaps import domain, store
from services.roster.swaps.domain import SwapState
from shared import record
from shared.events import Cause
from shared.loops import Loop

LOOK_SECONDS = 60.0
BATCH = 100


async def expire_swaps(deps: RosterDeps) -> int:
    """One pass: gives offers whose first stretch has begun their last state; returns how many."""
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        over = await store.load_expired(tx, now=now, limit=BATCH)
        for swap in over:
            await store.save_swap(tx, domain.ended(swap, SwapState.EXPIRED, now=swap.expires_at))
        moved = {"before": {"state": SwapState.OFFERED.value}, "after": {"state": SwapState.EXPIRED.value}}
        entries = [
            record.Entry(
                kind="swap.expired",
                partner=swap.partner,
                object_id=swap.id,
                data={"rota_id": str(swap.rota_id), "offered_by": str(swap.offered_by), **moved},
            )
            for swap in over
        ]
        await record.append(tx, entries, cause=Cause(correlation_id=deps.ids.new()), ids=deps.ids, now=now)
    return len(over)


def swaps_loop(deps: RosterDeps) -> Loop:
    """The loop, not yet started."""

    async def run_once() -> int:
        return await expire_swaps(deps)

    return Loop("swaps", run_once, interval_seconds=LOOK_SECONDS, again_when=BATCH, clock=deps.clock)
