"""Timers: claims escalations whose due time has come, and asks `decide` what that means.

The loop takes no input: it looks for rows that are due, in bounded batches, skipping those that somebody else holds. It
locks the same row that an acknowledgement locks, so an answered partner is never escalated.
"""

from __future__ import annotations

from services.escalation import store
from services.escalation.domain import DueTimeReached, decide
from services.escalation.handlers import EscalationDeps, save_ended
from services.escalation.model import Outcome
from shared.events import Cause

BATCH = 500
POLL_SECONDS = 1.0


class Timers:
    """Raises what is due. One per process, any number of processes."""

    def __init__(self, deps: EscalationDeps) -> None:
        self._deps = deps

    async def run_once(self) -> int:
        """Decides one batch of due escalations; returns how many."""
        deps, now = self._deps, self._deps.clock.now()
        async with deps.database.transaction() as tx:
            due = await store.load_due(tx, now, BATCH)
            if not due:
                return 0
            directories = await deps.directories.find(tx, sorted({e.partner for e in due}))
            made = await store.count_attempts(tx, [e.id for e in due])
            outcomes: list[Outcome] = [
                decide(e, DueTimeReached(directory=directories[e.partner], attempts=made.get(e.id, 0)), now)
                for e in due
            ]
            cause = Cause(correlation_id=deps.ids.new())
            messages = await save_ended(tx, deps, due, outcomes, cause=cause, now=now)
        deps.wake("delivery")
        deps.relay.publish_soon(messages)
        return len(due)

    async def next_in_seconds(self) -> float:
        """How long until the next escalation falls due, at most `POLL_SECONDS`."""
        async with self._deps.database.transaction() as tx:
            due_at = await store.find_next_due(tx)
        if due_at is None:
            return POLL_SECONDS
        return min(POLL_SECONDS, max(0.0, (due_at - self._deps.clock.now()).total_seconds()))
