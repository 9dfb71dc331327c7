"""Watches that every released alert has opened its escalations, raises an alarm if not, and says it again until it has.

Escalation reports with `EscalationsStarted` whose escalations are open. For a partner that is still missing after
half a minute, the alert is published once more, as a new message: under the old id the broker would drop it as a
duplicate, and so would the inbox if the first copy had ended as a dead letter. Escalation opens at most one
escalation for an alert and a partner, so saying it again does no harm.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from prometheus_client import Counter

from services.alerting import domain, handlers, store
from shared import outbox, record
from shared.events import Cause
from shared.log import get_logger
from shared.loops import Loop

if TYPE_CHECKING:
    from shared.process import Deps

log = get_logger(__name__)

INTERVAL_SECONDS = 10.0
UNCONFIRMED_AFTER_SECONDS = 30
BATCH = 50

UNCONFIRMED = Counter(
    "redphone_alerting_unconfirmed_total",
    "Times that a released alert was said again because escalations of it were missing",
)


async def say_again(deps: Deps) -> int:
    """One pass: publishes unconfirmed alerts once more, and tells the operator. Returns how many."""
    now = deps.clock.now()
    cause = Cause(correlation_id=deps.ids.new())
    since = now - timedelta(seconds=UNCONFIRMED_AFTER_SECONDS)
    async with deps.database.transaction() as tx:
        waiting = await store.load_unconfirmed(tx, released_before=since, said_before=since, limit=BATCH)
        if not waiting:
            return 0
        events = [domain.released_event(alert) for alert in waiting]
        messages = await outbox.append(tx, events, cause=cause, ids=deps.ids, now=now)
        await store.mark_said_again(tx, [alert.id for alert in waiting], now=now)
        await record.append(tx, map(handlers.said_again_record, waiting), cause=cause, ids=deps.ids, now=now)
    deps.wake("sequencer")
    await deps.relay.publish(messages)
    for alert in waiting:
        UNCONFIRMED.inc()
        log.error(
            "alert.unconfirmed",
            alert_id=str(alert.id),
            reference=alert.reference,
            missing=sorted(alert.unconfirmed),
            seconds_since_release=round((now - alert.released_at).total_seconds()) if alert.released_at else None,
        )
    return len(waiting)


def confirming_loop(deps: Deps) -> Loop:
    """The loop, not yet started."""

    async def run_once() -> int:
        return await say_again(deps)

    return Loop("confirming", run_once, interval_seconds=INTERVAL_SECONDS, again_when=BATCH, clock=deps.clock)
