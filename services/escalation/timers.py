"""Timers: claims escalations whose due time has come, and asks `decide` what that means.

The loop takes no input: it looks for rows that are due, in bounded batches, skipping those that somebody else holds. It
locks the same row that an acknowledgement locks, so an answered partner is never escalated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from services.escalation import store
from services.escalation.deps import EscalationDeps
from services.escalation.directory import Directory
from services.escalation.domain import DueTimeReached, decide
from services.escalation.model import Escalation, Outcome
from services.escalation.saving import save_ended
from services.escalation.telling import alarm_gaps
from shared.db import Transaction
from shared.events import Cause
from shared.log import get_logger

log = get_logger(__name__)

BATCH = 250
UNDECIDED_RETRY_SECONDS = 10
POLL_SECONDS = 1.0


class Timers:
    """Raises what is due. One per process, any number of processes."""

    def __init__(self, deps: EscalationDeps) -> None:
        self._deps = deps

    async def run_once(self) -> int:
        """Decides one batch of due escalations; returns how many."""
        deps, now = self._deps, self._deps.clock.now()
        async with deps.senders.hand_over() as handed, deps.database.transaction() as tx:
            due = await store.load_due(tx, now, BATCH)
            if not due:
                return 0
            directories = await deps.directories.find(tx, sorted({e.partner for e in due}))
            made = await store.count_attempts(tx, [e.id for e in due])
            due = await _with_attempts_begun(tx, due, made)
            outcomes = [self._decide(e, directories[e.partner], made.get(e.id, 0), now) for e in due]
            await alarm_gaps(deps, tx, due, outcomes, now)
            cause = Cause(correlation_id=deps.ids.new())
            await handed.read(tx, {e.alert.alert_id for e in due})
            messages = await save_ended(tx, deps, due, outcomes, cause=cause, now=now, handed=handed)
        deps.wake("delivery")
        # What is shown to people waits until the pages have left.
        deps.relay.publish_soon(messages, after=handed.tried)
        return len(due)

    def _decide(self, escalation: Escalation, directory: Directory, attempts: int, now: datetime) -> Outcome:
        try:
            return decide(escalation, DueTimeReached(directory=directory, attempts=attempts), now)
        except Exception:  # a bug that one row brings out must not keep every other deadline from firing
            log.exception("escalation.undecided", escalation_id=str(escalation.id), partner=escalation.partner)
            return Outcome(replace(escalation, due_at=now + timedelta(seconds=UNDECIDED_RETRY_SECONDS)))

    async def next_in_seconds(self) -> float:
        """How long until the next escalation falls due, at most `POLL_SECONDS`."""
        async with self._deps.database.transaction() as tx:
            due_at = await store.find_next_due(tx)
        if due_at is None:
            return POLL_SECONDS
        return min(POLL_SECONDS, max(0.0, (due_at - self._deps.clock.now()).total_seconds()))


async def _with_attempts_begun(
    tx: Transaction, due: Sequence[Escalation], made: Mapping[UUID, int]
) -> list[Escalation]:
    """The same with their first attempt where it has begun and is not recorded: its sender is slow, or has died.

    Whoever may have been paged a moment ago gets an interval to answer like everybody else.
    """
    unrecorded = [e.id for e in due if e.first_attempt_at is None and made.get(e.id)]
    begun = await store.find_first_attempts(tx, unrecorded) if unrecorded else {}
    return [replace(e, first_attempt_at=begun[e.id]) if e.id in begun else e for e in due]
