"""Counts coverage goals down: begins with the alert, counts at every acknowledgement, decides at the due time.

The cast: `open_goal`, `count_again` and `Countdowns`, the loop that finds goals that are due. What a missed goal leads
to is a handler's business (`handlers.on_coverage_goal_missed`), on every node that serves somebody concerned.

The promise: an alert without a goal costs nothing here. A goal is decided once, by a row that stays due until its
outcome is committed, so that no restart loses it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from services.escalation import store
from services.escalation.coverage import store as coverage_store
from services.escalation.coverage.domain import Countdown, GoalState, counted, earlier, opened
from services.escalation.saving import announce
from shared.contracts import AlertReleased, CoverageGoalMet, CoverageGoalMissed, EscalationKind
from shared.db import Transaction
from shared.events import Cause, Event, Message
from shared.process import Deps

BATCH = 100
POLL_SECONDS = 1.0


async def open_goal(
    deps: Deps,
    tx: Transaction,
    released: AlertReleased,
    head: store.AlertHead,
    *,
    predecessor: store.AlertHead | None,
    before: Countdown | None,
    cause: Cause,
    now: datetime,
) -> list[Message[Event]]:
    """Begins the countdown of a release that has a goal; an Update goes on with its predecessor's.

    To be called when the escalations are open; `before` is the predecessor's goal, locked before them. Releases come
    late, twice, or after their own Update: then the newest Update takes over the earlier due time. A goal is counted
    where its raiser is served.
    """
    if released.coverage_goal is None or not deps.settings.serves(released.raiser):
        return []
    countdown = opened(
        released.alert_id,
        released.raiser,
        released.coverage_goal,
        asked=frozenset(r.partner for r in released.recipients if r.kind is EscalationKind.ANSWER),
        released_at=released.released_at,
        now=now,
        asks_anew=released.asks_anew,
        predecessor=before,
    )
    over = head.ended_at is not None or head.superseded_by is not None or now >= released.expires_at
    kept = replace(countdown, state=GoalState.ENDED, decided_at=now) if over else countdown
    if not await coverage_store.insert(tx, kept):
        return []
    if head.superseded_by is not None and countdown.state is GoalState.OPEN:
        newest = await coverage_store.load(tx, await store.load_newest(tx, head.superseded_by, now))
        if newest is not None:
            await coverage_store.save(tx, earlier(newest, countdown))
    if predecessor is not None and not released.asks_anew:
        # Other nodes' partners acknowledge once for the whole chain.
        for partner, at in predecessor.answered.items():
            await store.save_answered(tx, head, partner, at)
            head = replace(head, answered={**head.answered, partner: at})
    if kept.state is not GoalState.OPEN or not (predecessor is not None or head.answered):
        return []
    return await _decide(deps, tx, [kept], {kept.alert_id: head}, cause=cause, now=now)


async def count_again(
    deps: Deps, tx: Transaction, alert_id: UUID, *, cause: Cause, now: datetime
) -> list[Message[Event]]:
    """Somebody has acknowledged: the goal may be met now."""
    countdown = await coverage_store.load(tx, alert_id)
    if countdown is None or countdown.state is not GoalState.OPEN:
        return []
    return await _decide(deps, tx, [countdown], await store.find_heads(tx, [alert_id]), cause=cause, now=now)


async def _decide(
    deps: Deps,
    tx: Transaction,
    countdowns: Sequence[Countdown],
    heads: dict[UUID, store.AlertHead],
    *,
    cause: Cause,
    now: datetime,
) -> list[Message[Event]]:
    events: list[Event] = []
    for countdown in countdowns:
        head = heads[countdown.alert_id]
        if head.ended_at is not None or head.superseded_by is not None:
            await coverage_store.end(tx, countdown.alert_id, now)
            continue
        here = await coverage_store.find_acknowledged(tx, countdown.alert_id)
        count = counted(countdown, {**head.answered, **here}, now)
        if count.state is GoalState.OPEN:
            continue
        await coverage_store.save(tx, replace(countdown, state=count.state, decided_at=now))
        common: dict[str, Any] = {
            "alert_id": countdown.alert_id,
            "raiser": countdown.raiser,
            "goal": countdown.goal,
            "due_at": countdown.due_at,
            "acknowledged": count.acknowledged,
            "asked": len(countdown.asked),
        }
        events.append(
            CoverageGoalMet(**common, met_at=count.met_at)
            if count.met_at is not None
            else CoverageGoalMissed(**common, missed_at=now, missing=count.missing)
        )
    return await announce(tx, events, ids=deps.ids, cause=cause, now=now)


class Countdowns:
    """Decides goals that are due. One per process, any number of processes."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps

    async def run_once(self) -> int:
        """Decides one batch of due goals; returns how many."""
        deps, now = self._deps, self._deps.clock.now()
        async with deps.database.transaction() as tx:
            due = await coverage_store.load_due(tx, now, BATCH)
            if not due:
                return 0
            heads = await store.find_heads(tx, [countdown.alert_id for countdown in due])
            cause = Cause(correlation_id=deps.ids.new())
            messages = await _decide(deps, tx, due, heads, cause=cause, now=now)
        await deps.relay.publish(messages)
        return len(due)

    async def next_in_seconds(self) -> float:
        """How long until the next goal is due, at most `POLL_SECONDS`."""
        async with self._deps.database.transaction() as tx:
            due_at = await coverage_store.find_next_due(tx)
        if due_at is None:
            return POLL_SECONDS
        return min(POLL_SECONDS, max(0.0, (due_at - self._deps.clock.now()).total_seconds()))
