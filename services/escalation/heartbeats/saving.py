"""What follows when a beat has ended: the row, an entry in the record, the event, and the word to people.

The record gets a line where something begins or is over. A heartbeat that only goes on leaves no trace but its row:
twenty-four a day from each path would bury what matters.
"""

from __future__ import annotations

from prometheus_client import Counter

from services.escalation.deps import EscalationDeps
from services.escalation.heartbeats import store, telling
from services.escalation.heartbeats.domain import After, Heartbeat, State
from shared import outbox, record
from shared.contracts import EndpointChecked
from shared.db import Transaction
from shared.events import Cause, Event, Message

ENDED = Counter("redphone_heartbeats_total", "Heartbeats by what became of them.", ("kind", "outcome"))


async def save_after(deps: EscalationDeps, tx: Transaction, before: Heartbeat, after: After) -> list[Message[Event]]:
    """Writes what a beat has come to; returns what is to be published after the commit."""
    now, beat = deps.clock.now(), after.heartbeat
    cause = Cause(correlation_id=deps.ids.new())
    await store.save(tx, beat)
    if (kind := _kind_of(before, beat)) is not None:
        data = {"kind": beat.kind.value, "channel": beat.channel, "provider": beat.provider, "reason": beat.reason}
        entry = record.Entry(kind=kind, partner=beat.partner, object_id=beat.id, data=data)
        await record.append(tx, [entry], cause=cause, ids=deps.ids, now=now)
    messages: list[Message[Event]] = []
    if after.publishes:
        checked = EndpointChecked(
            endpoint_id=beat.id,
            partner=beat.partner,
            checked_at=now,
            answering=bool(beat.answering),
            reason=beat.reason,
            certificate_valid_until=beat.certificate_valid_until,
        )
        messages = await outbox.append(tx, [checked], cause=cause, ids=deps.ids, now=now)
    if after.news is not None:
        await telling.tell(deps, tx, before, after, now=now)
    return messages


def count(beat: Heartbeat, outcome: str) -> None:
    """Counts one beat."""
    ENDED.labels(beat.kind.value, outcome).inc()


def _kind_of(before: Heartbeat, after: Heartbeat) -> str | None:
    """What the record says of a change; None where nothing begins and nothing is over."""
    if State.FAILING not in (before.state, after.state) or before.state is after.state:
        return None
    return "heartbeat.failed" if after.state is State.FAILING else "heartbeat.recovered"
