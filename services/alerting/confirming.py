"""Watches that every released alert has opened its escalations, raises an alarm if not, and says it again until it has.

Escalation reports with `EscalationsStarted` whose escalations are open. For a partner that is still missing after
half a minute, the alert is published once more, as a new message: under the old id the broker would drop it as a
duplicate, and so would the inbox if the first copy had ended as a dead letter. Escalation opens at most one
escalation for an alert and a partner, so saying it again does no harm. It is said in growing intervals, because an
escalation that is away for days will find all of them.
"""

from __future__ import annotations

from prometheus_client import Counter

from services.alerting import domain, journal, store
from shared import outbox, record
from shared.events import Cause
from shared.log import get_logger
from shared.process import Deps

log = get_logger(__name__)

UNCONFIRMED_AFTER_SECONDS = 30
AGAIN_SECONDS_MAX = 600
BATCH = 50

SAID_AGAIN = Counter(
    "redphone_alerting_said_again_total", "Times that an alert was published once more for lack of escalations"
)


async def say_again(deps: Deps) -> list[str]:
    """One pass of the reconciler: publishes unconfirmed alerts once more, and returns an alarm for each of them."""
    now = deps.clock.now()
    cause = Cause(correlation_id=deps.ids.new())
    async with deps.database.transaction() as tx:
        waiting = await store.load_unconfirmed(
            tx,
            now=now,
            after_seconds=UNCONFIRMED_AFTER_SECONDS,
            again_seconds_max=AGAIN_SECONDS_MAX,
            limit=BATCH,
        )
        due = [alert for alert, is_due in waiting if is_due]
        events = [domain.released_event(alert) for alert in due]
        messages = await outbox.append(tx, events, cause=cause, ids=deps.ids, now=now)
        if due:
            await store.mark_said_again(tx, [alert.id for alert in due], now=now)
            await record.append(tx, map(journal.said_again_record, due), cause=cause, ids=deps.ids, now=now)
    await deps.relay.publish(messages)
    for alert in due:
        SAID_AGAIN.inc()
        log.error("alert.unconfirmed", alert_id=str(alert.id), missing=sorted(alert.unconfirmed))
    return [_alarm(alert) for alert, _ in waiting]


def _alarm(alert: domain.Alert) -> str:
    """Named by the alert alone, so that it stands as one alarm until the last escalation is open."""
    return f"{alert.reference} was released, and not all of its escalations have been reported as open"
