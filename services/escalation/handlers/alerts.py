"""What alerting says of an alert: it is released, it has ended, a draft waits for a second pair of eyes.

Events come in any order and more than once. What a release opens is decided in `releasing`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from services.escalation import notices, store
from services.escalation.coverage import countdown
from services.escalation.coverage import store as coverage_store
from services.escalation.coverage.domain import Countdown
from services.escalation.deps import EscalationDeps
from services.escalation.domain import End, decide
from services.escalation.messages import content_of, instant
from services.escalation.model import AlertFacts, Escalation, Outcome
from services.escalation.notices import store as notice_store
from services.escalation.opening import (
    Opening,
    merge_late_predecessor,
    open_escalation,
)
from services.escalation.releasing import decide_opening, facts_of, page_ahead
from services.escalation.saving import (
    again_rows,
    announce,
    open_parts,
    save_ended,
    save_outcomes,
    started_events,
)
from services.escalation.telling import alarm_gaps, tell_partners
from shared import inbox
from shared.contracts import (
    SECRETARIAT,
    AlertEnded,
    AlertReleased,
    EndReason,
    EscalationKind,
    EscalationState,
    Precedence,
    ReleaseAsked,
    Status,
)
from shared.db import Transaction
from shared.events import Cause, Event, Message
from shared.ids import derived
from shared.log import get_logger

log = get_logger(__name__)

TIMERS_LOOK_WITHIN = timedelta(seconds=2)
"""What falls due later than this need not wake the timers, which look every second by themselves."""

RELEASE_ASKED_FOR = timedelta(days=1)
"""How long people are written to about a draft that waits for them."""

UNANSWERED_TOLD_FOR = timedelta(days=3)
"""How long a drill that nobody acknowledged is still worth a message."""


async def on_alert_released(deps: EscalationDeps, message: Message[AlertReleased]) -> None:
    """Opens one escalation per addressed partner with the pages of its first level, all in one transaction.

    Where nothing can come in between, the pages leave first, and are written while they are on their way.
    """
    now, released, cause = deps.clock.now(), message.body, Cause.of(message)
    await deps.senders.settled(released.alert_id, released.corrects)
    async with deps.senders.hand_over() as handed:
        ahead = await page_ahead(deps, message, handed, now)
        ours = deps.senders.begun(released.alert_id, by=message.id)
        async with deps.database.transaction() as tx:
            if not await inbox.accept(tx, consumer=deps.consumer(AlertReleased), message_id=message.id, now=now):
                if ours is not None:
                    # It was stored, and only the word of that was lost.
                    handed.resume(released.alert_id, ours)
                return
            predecessor = None if released.corrects is None else await store.load_head(tx, released.corrects, now)
            head = await store.load_head(tx, released.alert_id, now, opens=message.id, is_ours=ours is not None)
            if head.opening is not None:
                now = head.opening.at
                handed.resume(released.alert_id, head.opening)
            facts = facts_of(released, head.facts)
            await store.save_release(tx, facts, released.corrects, content_of(released))
            old: Sequence[Escalation] = ()
            before: Countdown | None = None
            if predecessor is not None:
                before = await coverage_store.load(tx, predecessor.alert_id)
                await store.save_superseded(tx, predecessor.alert_id, released.alert_id)
                if predecessor.facts is not None:
                    old = await store.load_of_alert(tx, predecessor.alert_id)
            begun = ahead or await decide_opening(deps, tx, released, handed, facts=facts, head=head, old=old, now=now)
            opened = await open_parts(tx, begun.parts, now=now, handed=handed)
            alarmed = await alarm_gaps(deps, tx, [None] * len(opened), opened, now)
            events = started_events(released.alert_id, released.raiser, opened, now)
            messages = await announce(tx, events, ids=deps.ids, cause=cause, now=now)
            messages += await countdown.open_goal(
                deps, tx, released, head, predecessor=predecessor, before=before, cause=cause, now=now
            )
            if predecessor is not None:
                await coverage_store.end(tx, predecessor.alert_id, now)
            told_before = await _tell_who_was_told_before(deps, tx, old, opened, now)
            messages += await _supersede(deps, tx, released, old, head, cause=cause, now=now)
            if head.superseded_by is not None:
                messages += await _merge_into_update(
                    deps, tx, head.superseded_by, begun.openings, opened, cause=cause, now=now
                )
            if ahead is None and head.opening is not None:
                messages += await _end_at_once(deps, tx, released, head, opened, cause=cause)
            if now >= released.expires_at and head.ended_at is None and opened:
                await _alarm_never_paged(deps, tx, facts, opened, now)
                alarmed = True
    if handed.left_due or alarmed or told_before or predecessor is not None or head.superseded_by is not None:
        deps.wake("delivery")
    if any(o.escalation.due_at is not None and o.escalation.due_at - now < TIMERS_LOOK_WITHIN for o in opened):
        deps.wake("timers")
    # What is shown to people waits until the pages have left.
    deps.relay.publish_soon(messages, after=handed.tried)


async def _end_at_once(
    deps: EscalationDeps,
    tx: Transaction,
    released: AlertReleased,
    head: store.AlertHead,
    opened: Sequence[Outcome],
    *,
    cause: Cause,
) -> list[Message[Event]]:
    """What was begun before a crash may have ended since: whoever was paged then is told so now."""
    now, reason, ended_at = deps.clock.now(), head.end_reason, head.ended_at
    if reason is None and head.superseded_by is not None:
        reason, ended_at = EndReason.SUPERSEDED, now
    if reason is None and now >= released.expires_at:
        reason, ended_at = EndReason.EXPIRED, released.expires_at
    if reason is None or ended_at is None:
        return []
    open_ones = [o.escalation for o in opened if o.escalation.state is not EscalationState.ENDED]
    outcomes = [decide(escalation, End(reason=reason, at=ended_at), now) for escalation in open_ones]
    return await save_ended(tx, deps, open_ones, outcomes, cause=cause, now=now)


async def _supersede(
    deps: EscalationDeps,
    tx: Transaction,
    released: AlertReleased,
    old: Sequence[Escalation],
    head: store.AlertHead,
    *,
    cause: Cause,
    now: datetime,
) -> list[Message[Event]]:
    """Ends the corrected message's escalations. Whoever gets no Update instead is told of the end."""
    addressed = {recipient.partner for recipient in released.recipients}
    old = [escalation for escalation in old if escalation.state is not EscalationState.ENDED]
    unpaged = head.ended_at is not None or now >= released.expires_at
    outcomes = []
    for escalation in old:
        ended = decide(escalation, End(reason=EndReason.SUPERSEDED, at=now), now)
        # Takers hear of the Update by the takeover that follows for it, if its partner is still addressed.
        left_out = (escalation.subject_partner or escalation.partner) not in addressed
        outcomes.append(replace(ended, sends_ending=left_out or unpaged))
    return await save_ended(tx, deps, old, outcomes, cause=cause, now=now)


async def _tell_who_was_told_before(
    deps: EscalationDeps,
    tx: Transaction,
    old: Sequence[Escalation],
    opened: Sequence[Outcome],
    now: datetime,
) -> bool:
    """An Update reaches everybody whom the corrected message had reached: who has gone off duty since still believes
    it. Nothing is asked of them. Returns whether there was anybody.
    """
    current = {
        outcome.escalation.partner: outcome
        for outcome in opened
        if outcome.escalation.kind is not EscalationKind.TAKEOVER
        and outcome.escalation.state is not EscalationState.ENDED
    }
    partners = {e.id: e.partner for e in old if e.kind is not EscalationKind.TAKEOVER and e.partner in current}
    points, alert = [], None
    for point in await store.find_paged_points(tx, list(partners)):
        outcome = current[partners[point["escalation_id"]]]
        if all(page.target.contact_point_id != point["contact_point_id"] for page in outcome.pages):
            alert = outcome.escalation.alert
            points.append({**point, "escalation_id": outcome.escalation.id, "alert_id": alert.alert_id})
    if alert is not None:
        await store.insert_pages(tx, again_rows(points, "alert.updated", alert=alert, data={}, ids=deps.ids, now=now))
    return bool(points)


async def _merge_into_update(
    deps: EscalationDeps,
    tx: Transaction,
    update_id: UUID,
    openings: Sequence[Opening],
    opened: Sequence[Outcome],
    *,
    cause: Cause,
    now: datetime,
) -> list[Message[Event]]:
    """This release was overtaken by its own Update: the newest Update's escalations take over the earlier deadlines."""
    fresh = {outcome.escalation.partner for outcome in opened}
    as_if = [open_escalation(replace(o, ended_reason=None), now) for o in openings if o.partner in fresh]
    late = {outcome.escalation.partner: outcome.escalation for outcome in as_if}
    newest = await store.load_newest(tx, update_id, now)
    current = [e for e in await store.load_of_alert(tx, newest) if e.partner in late and e.subject_partner == ""]
    merged = [merge_late_predecessor(e, late[e.partner]) for e in current]
    changed = [outcome for e, outcome in zip(current, merged, strict=True) if outcome.escalation != e]
    return await save_outcomes(tx, changed, ids=deps.ids, cause=cause, now=now)


async def _alarm_never_paged(
    deps: EscalationDeps, tx: Transaction, facts: AlertFacts, opened: Sequence[Outcome], now: datetime
) -> None:
    """An alert that had expired before it arrived pages nobody any more; whoever believes that it did must know."""
    never_paged = sorted(outcome.escalation.partner for outcome in opened)
    log.error("alert.arrived_expired", alert_id=str(facts.alert_id), partners=never_paged)
    data = {"reason": EndReason.EXPIRED, "ended_at": instant(facts.expires_at), "never_paged": never_paged}
    codes = (facts.raiser, SECRETARIAT)
    await tell_partners(deps, tx, facts, codes=codes, message_type="alert.ended", data=data, now=now, people=True)


async def on_alert_ended(deps: EscalationDeps, message: Message[AlertEnded]) -> None:
    """Ends every escalation of the alert. An end that comes before its release is kept until that comes."""
    now, ended = deps.clock.now(), message.body
    await deps.senders.settled(ended.alert_id)
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(AlertEnded), message_id=message.id, now=now):
            return
        head = await store.load_head(tx, ended.alert_id, now)
        await store.save_end(tx, ended.alert_id, ended.reason, ended.ended_at)
        await coverage_store.end(tx, ended.alert_id, now)
        known = await store.load_of_alert(tx, ended.alert_id) if head.facts is not None else []
        open_ones = [e for e in known if e.state is not EscalationState.ENDED]
        outcomes = [decide(e, End(reason=ended.reason, at=ended.ended_at), now) for e in open_ones]
        messages = await save_ended(tx, deps, open_ones, outcomes, cause=Cause.of(message), now=now)
        if ended.reason is EndReason.EXPIRED:
            await _tell_of_unanswered_drill(tx, deps, known, cause=Cause.of(message), now=now)
    deps.wake("delivery")
    deps.relay.publish_soon(messages)


async def _tell_of_unanswered_drill(
    tx: Transaction, deps: EscalationDeps, known: Sequence[Escalation], *, cause: Cause, now: datetime
) -> None:
    """An exercise has run out: the roster managers of whoever did not acknowledge it learn so, with the morning's
    mail. They can mend what an alert would have met.
    """
    for escalation in known:
        facts = escalation.alert
        if facts.status is not Status.EXERCISE or escalation.kind is not EscalationKind.ANSWER:
            continue
        if escalation.acknowledged_at is None:
            await notices.issue(
                tx,
                deps,
                partner=escalation.partner,
                kind="drill_unanswered",
                to_roster_managers=True,
                facts={"reference": facts.reference, "since_at": instant(facts.released_at)},
                urgent=False,
                expires_at=now + UNANSWERED_TOLD_FOR,
                now=now,
                notice_id=derived("drill_unanswered", str(escalation.id)),
                cause=cause,
            )


async def on_release_asked(deps: EscalationDeps, message: Message[ReleaseAsked]) -> None:
    """Tells those who may release a draft that it waits: at once and over every contact point where lives are at risk.

    Of a draft that was released before this arrived nobody is told.
    """
    now, asked = deps.clock.now(), message.body
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(ReleaseAsked), message_id=message.id, now=now):
            return
        if await store.find_facts(tx, asked.alert_id) is not None:
            return
        pages = await notices.issue(
            tx,
            deps,
            partner=asked.raiser,
            kind="release_asked",
            contact_ids=await notice_store.find_releasers(tx, asked.raiser, asked.drafted_by),
            to_office_otherwise=True,
            facts={
                "alert_id": str(asked.alert_id),
                "reference": asked.reference,
                "precedence": asked.precedence.value,
                "status": asked.status.value,
                "drafted_by": asked.drafted_by.name or asked.drafted_by.subject,
            },
            urgent=asked.precedence in (Precedence.FLASH, Precedence.IMMEDIATE),
            expires_at=asked.drafted_at + RELEASE_ASKED_FOR,
            now=now,
            notice_id=derived("release_asked", str(asked.alert_id)),
            cause=Cause.of(message),
        )
    if pages:
        deps.wake("delivery")
