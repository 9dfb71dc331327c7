"""Changing who is asked while an escalation runs: adding somebody, and stopping one's own pages.

One transaction each, like every act of people: load with lock, decide, save, record, commit.
"""

from __future__ import annotations

from uuid import UUID

from services.escalation import store
from services.escalation.answering import store as reply_store
from services.escalation.answers import find_own, find_visible
from services.escalation.deps import EscalationDeps
from services.escalation.joining import domain as joining
from services.escalation.model import Escalation
from services.escalation.saving import save_outcomes
from shared import record
from shared.db import Transaction
from shared.errors import Forbidden, NotFound
from shared.events import Cause
from shared.security import Principal


async def add_contact(
    deps: EscalationDeps, principal: Principal, escalation_id: UUID, contact_id: UUID, *, cause: Cause
) -> Escalation:
    """Pages one more person of the caller's own government at once, each contact point in its turn."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        await find_own(tx, principal, escalation_id)
        escalation = await _load(tx, escalation_id)
        directory = await deps.directories.find_one(tx, escalation.partner)
        paged = await store.find_points_paged(tx, [escalation_id])
        outcome = joining.add_contact(escalation, contact_id, directory, paged.get(escalation_id, set()), now)
        if outcome.escalation is escalation:
            return escalation
        added = record.Entry(
            kind="contact.added",
            partner=escalation.partner,
            alert_id=escalation.alert.alert_id,
            object_id=escalation_id,
            data={"contact_id": str(contact_id), "pages": len(outcome.pages), "by": "hand"},
        )
        await record.append(tx, [added], cause=cause, ids=deps.ids, now=now)
        messages = await save_outcomes(tx, [outcome], ids=deps.ids, cause=cause, now=now)
    await deps.relay.publish(messages)
    deps.wake("delivery")
    return outcome.escalation


async def stop_pages(deps: EscalationDeps, principal: Principal, escalation_id: UUID, *, cause: Cause) -> Escalation:
    """Ends the caller's own pages of this escalation. It answers nothing: others go on being asked."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        named = await find_visible(tx, principal, escalation_id)
        if named.partner != principal.partner:
            raise Forbidden("only whoever is paged can stop their pages", code="not_your_escalation")
        if not principal.is_person or principal.contact_id is None:
            raise Forbidden("only a person stops their own pages", code="person_required")
        escalation = await _load(tx, escalation_id)
        outcome = joining.stop_pages(escalation, principal.contact_id)
        if outcome.escalation is escalation:
            return escalation
        await save_outcomes(tx, [outcome], ids=deps.ids, cause=cause, now=now)
        ended = await reply_store.end_pages_of(tx, [escalation_id], principal.contact_id, principal.contact_id)
        stopped = record.Entry(
            kind="pages.stopped",
            partner=escalation.partner,
            alert_id=escalation.alert.alert_id,
            object_id=escalation_id,
            data={"contact_id": str(principal.contact_id), "via": "api", "pages": ended},
        )
        await record.append(tx, [stopped], cause=cause, ids=deps.ids, now=now)
    return outcome.escalation


async def _load(tx: Transaction, escalation_id: UUID) -> Escalation:
    escalation = await store.load_one(tx, escalation_id)
    if escalation is None:
        raise NotFound("there is no such escalation")
    return escalation
