"""Who is told of a path that fails, or works again: by notices, which page people without an escalation.

A partner's endpoint: whoever keeps the partner's roster, and once the secretariat; in the morning, because people are
paged whatever the endpoint does. A provider: the secretariat at once, at night too, and again each day, because
everybody's pages over that provider are at stake.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from services.escalation import notices
from services.escalation.deps import EscalationDeps
from services.escalation.heartbeats.domain import After, Heartbeat, News
from services.escalation.messages import instant
from shared.contracts import SECRETARIAT
from shared.db import Transaction

HOLDS = timedelta(days=1)


async def tell(deps: EscalationDeps, tx: Transaction, before: Heartbeat, after: After, *, now: datetime) -> None:
    """Issues the notices that follow from a beat. Those that are due now are found by the delivery loop."""
    beat = after.heartbeat
    kind = "heartbeat_recovered" if after.news is News.RECOVERED else "heartbeat_failed"
    facts = {
        "what": beat.kind.value,
        "since_at": instant(beat.failing_since_at or before.failing_since_at or now),
    }
    if beat.reason is not None:
        facts["reason"] = beat.reason
    if not beat.is_endpoint:
        directory = await deps.directories.find_one(tx, SECRETARIAT)
        on_duty = {target.contact_id for target in directory.on_duty(now) if target.contact_id is not None}
        await notices.issue(
            tx,
            deps,
            partner=SECRETARIAT,
            kind=kind,
            contact_ids=sorted(on_duty),
            to_office=True,
            facts={**facts, "provider": beat.told},
            urgent=True,
            expires_at=now + HOLDS,
            now=now,
        )
        return
    await notices.issue(
        tx,
        deps,
        partner=beat.partner,
        kind=kind,
        to_roster_managers=True,
        facts={**facts, "endpoint": beat.told},
        urgent=False,
        expires_at=now + HOLDS,
        now=now,
    )
    if beat.partner != SECRETARIAT:
        await notices.issue(
            tx,
            deps,
            partner=SECRETARIAT,
            kind=kind,
            to_office=True,
            facts={**facts, "endpoint": f"{beat.partner}: {beat.told}"},
            urgent=False,
            expires_at=now + HOLDS,
            now=now,
        )
