"""Ends alerts whose time has passed: a loop that looks for them every second.

The row itself is the reminder, so an alert that ran out while nothing was running ends at the next start. Several
replicas share the work: rows that one of them holds are left to it. Escalation ends its own rows at the same instant
by its copy of `expires_at`; the event says so to everybody else.
"""

from __future__ import annotations

from services.alerting import domain, journal, store
from shared import outbox
from shared.events import Cause
from shared.log import get_logger
from shared.loops import Loop
from shared.process import Deps

log = get_logger(__name__)

INTERVAL_SECONDS = 1.0
BATCH = 50


async def expire_alerts(deps: Deps) -> int:
    """One pass: ends at most `BATCH` alerts, in one transaction, and says so. Returns how many."""
    now = deps.clock.now()
    cause = Cause(correlation_id=deps.ids.new())
    async with deps.database.transaction() as tx:
        expired = await store.load_expired(tx, now=now, limit=BATCH)
        endings = [ending for alert in expired if (ending := domain.expire(alert, now=now)) is not None]
        if not endings:
            return 0
        alerts = [ending.alert for ending in endings]
        messages = outbox.wrap([ending.event for ending in endings], cause=cause, ids=deps.ids, now=now)
        await store.write(
            tx,
            changed=alerts,
            entries=[journal.entry_of(message, alert) for message, alert in zip(messages, alerts, strict=True)],
            messages=messages,
            records=journal.record_rows(deps, [journal.ended_record(alert) for alert in alerts], cause, now),
        )
    deps.wake("timeline")
    await deps.relay.publish(messages)
    for alert in alerts:
        log.info("alert.expired", alert_id=str(alert.id), reference=alert.reference)
    return len(alerts)


def expiry_loop(deps: Deps) -> Loop:
    """The loop, not yet started."""

    async def run_once() -> int:
        return await expire_alerts(deps)

    return Loop("expiry", run_once, interval_seconds=INTERVAL_SECONDS, again_when=BATCH, clock=deps.clock)
