"""The loop that keeps calendars up to date: subscriptions every hour, files every day, what fails with patience.

A calendar's row says when it is due. Whoever takes it puts it off for a moment first, so that two processes never read
the same one, and one that dies over it gives it back.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta

from services.roster.calendars import store
from services.roster.calendars.handlers import LOOKED_AT_EVERY, refresh
from services.roster.handlers import RosterDeps
from services.roster.schedule import CalendarId
from shared import record
from shared.errors import Unavailable
from shared.events import Cause
from shared.log import get_logger
from shared.loops import Loop

log = get_logger(__name__)

BATCH = 10
LOOK_SECONDS = 10.0
CLAIMED_FOR = timedelta(minutes=3)
"""Longer than one refresh can take, with its fetch and its place in the line of what is read."""


async def refresh_due(deps: RosterDeps) -> int:
    """One pass: refreshes at most `BATCH` calendars that are due, side by side. Returns how many."""
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        due = await store.claim_due(tx, now=now, until=now + CLAIMED_FOR, limit=BATCH)
    await asyncio.gather(*(_one(deps, calendar_id) for calendar_id in due))
    return len(due)


async def _one(deps: RosterDeps, calendar_id: CalendarId) -> None:
    try:
        await refresh(deps, calendar_id, Cause(correlation_id=deps.ids.new()))
    except Unavailable as error:
        if error.code == "worker_lost":
            # Perhaps it was this one that the process died of.
            await _put_off(deps, calendar_id, error)
            return
        # It is due again when nobody holds it any more.
        log.info("calendar.put_off", calendar_id=str(calendar_id), error=error.code)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one calendar must not stop the others
        await _put_off(deps, calendar_id, error)


async def _put_off(deps: RosterDeps, calendar_id: CalendarId, error: Exception) -> None:
    """Leaves it alone for an hour and says so, since nobody else can know that it is not read. Its shifts stay."""
    log.warning("calendar.not_refreshed", calendar_id=str(calendar_id), error=type(error).__name__)
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        partner = await store.save_trouble(tx, calendar_id, reason="internal", now=now, until=now + LOOKED_AT_EVERY)
        if partner is not None:
            data = {"reason": "internal"}
            entry = record.Entry(kind="calendar.failing", partner=partner, object_id=calendar_id, data=data)
            cause = Cause(correlation_id=deps.ids.new())
            await record.append(tx, [entry], cause=cause, ids=deps.ids, now=now)


def calendars_loop(deps: RosterDeps) -> Loop:
    """The loop, not yet started."""

    async def run_once() -> int:
        return await refresh_due(deps)

    return Loop("calendars", run_once, interval_seconds=LOOK_SECONDS, again_when=BATCH, clock=deps.clock)
