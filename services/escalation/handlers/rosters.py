"""What roster says: duty plans, partners, credentials, and what its people are to be told."""

from __future__ import annotations

from datetime import datetime

from services.escalation import notices, store
from services.escalation.deps import EscalationDeps
from services.escalation.joining.domain import page_newcomers
from services.escalation.saving import save_outcomes
from shared import inbox, record
from shared.contracts import (
    CredentialsPublished,
    DutyPlanPublished,
    NoticeIssued,
    PartnerChanged,
)
from shared.db import Transaction
from shared.errors import ALERT_OPENING, Unavailable
from shared.events import Cause, Message
from shared.security import on_credentials_published as keep_credentials

LEFT_BEHIND_SECONDS = 1.0
"""An opening that is not stored after this has been left behind: it takes some hundredths of a second."""


async def on_duty_plan_published(deps: EscalationDeps, message: Message[DutyPlanPublished]) -> None:
    """Keeps the newest plan of each partner; a lower version is ignored.

    Whoever is being asked without a plan, by ringing the office alone, is asked by this one at once; and so is whoever
    it puts on a level that an unanswered escalation has reached already.
    """
    now, plan = deps.clock.now(), message.body
    await deps.senders.settled()
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(DutyPlanPublished), message_id=message.id, now=now):
            return
        await _let_openings_pass(tx, now)
        kept = await store.save_plan(tx, plan.partner, plan.plan_version, plan.model_dump_json(), now)
        woken = await store.save_due_without_levels(tx, plan.partner, now) if kept and plan.levels else 0
        joined = await _page_newcomers(deps, tx, plan.partner, cause=Cause.of(message), now=now) if kept else 0
    if joined:
        deps.wake("delivery")
    if kept:
        deps.wake("warming")
    if woken:
        deps.wake("timers")


async def _let_openings_pass(tx: Transaction, now: datetime) -> None:
    """Raises `Unavailable` while an opening has been left behind by a process that died: whoever goes on with it
    decides by the plans of then, so that every page that has left becomes a row.
    """
    if await store.is_opening(tx, now, for_seconds=LEFT_BEHIND_SECONDS):
        raise Unavailable("an alert is to be opened by the plans of before", code=ALERT_OPENING)


async def _page_newcomers(deps: EscalationDeps, tx: Transaction, partner: str, *, cause: Cause, now: datetime) -> int:
    """Pages whoever the new plan puts on levels that were reached already; returns for how many escalations."""
    asked = await store.load_asked_of(tx, partner) if deps.serves(partner) else []
    if not asked:
        return 0
    directory = await deps.directories.find_one(tx, partner)
    paged = await store.find_points_paged(tx, [escalation.id for escalation in asked])
    outcomes = [
        outcome
        for escalation in asked
        if (outcome := page_newcomers(escalation, directory, paged.get(escalation.id, set()), now)) is not None
    ]
    entries = [
        record.Entry(
            kind="contact.added",
            partner=partner,
            alert_id=outcome.escalation.alert.alert_id,
            object_id=outcome.escalation.id,
            data={
                "contact_ids": sorted(
                    {str(page.target.contact_id) for page in outcome.pages if page.target.contact_id}
                ),
                "pages": len(outcome.pages),
                "by": "duty_plan",
            },
        )
        for outcome in outcomes
    ]
    await record.append(tx, entries, cause=cause, ids=deps.ids, now=now)
    # Nothing is announced: levels and deadlines stay as they were.
    await save_outcomes(tx, outcomes, ids=deps.ids, cause=cause, now=now)
    return len(outcomes)


async def on_partner_changed(deps: EscalationDeps, message: Message[PartnerChanged]) -> None:
    """Keeps office and endpoints of each partner for the day when its plan is missing."""
    now, partner = deps.clock.now(), message.body
    await deps.senders.settled()
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(PartnerChanged), message_id=message.id, now=now):
            return
        await _let_openings_pass(tx, now)
        await store.save_partner(tx, partner.partner, partner.version, partner.model_dump_json(), now)


async def on_notice_issued(deps: EscalationDeps, message: Message[NoticeIssued]) -> None:
    """Pages whom a notice of roster is for, over the contact points that suit it."""
    now, notice = deps.clock.now(), message.body
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(NoticeIssued), message_id=message.id, now=now):
            return
        pages = await notices.issue(
            tx,
            deps,
            partner=notice.partner,
            kind=notice.kind,
            contact_ids=notice.contact_ids,
            to_office=notice.to_office,
            facts=notice.facts,
            items=notice.items,
            urgent=notice.urgent,
            expires_at=notice.expires_at,
            now=now,
            notice_id=notice.notice_id,
            cause=Cause.of(message),
        )
    if pages:
        deps.wake("delivery")


async def on_credentials_published(deps: EscalationDeps, message: Message[CredentialsPublished]) -> None:
    """Keeps the credentials by which this service issues and checks tokens while roster is down."""
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        if await inbox.accept(tx, consumer=deps.consumer(CredentialsPublished), message_id=message.id, now=now):
            await keep_credentials(tx, message.body)
