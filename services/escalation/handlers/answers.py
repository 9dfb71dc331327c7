"""What has become of escalations, our own and other nodes': unreached, acknowledged, answered, asked back.

Takeovers open and end here, and the raiser is told.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from services.escalation import store
from services.escalation.coverage import countdown
from services.escalation.deps import EscalationDeps
from services.escalation.domain import CoverageMissed, End, decide
from services.escalation.messages import answer_data, instant, takeover_brief
from services.escalation.model import UNANSWERED, AlertFacts, planned_in_order
from services.escalation.opening import (
    carry_takeover,
    facts_of_unreached,
    open_takeover,
)
from services.escalation.saving import (
    again_rows,
    announce,
    notice_rows,
    open_outcomes,
    save_ended,
    save_outcomes,
    started_events,
)
from services.escalation.talk import store as question_store
from services.escalation.telling import alarm_gaps, tell_partners
from shared import inbox
from shared.contracts import (
    SECRETARIAT,
    CoverageGoalMissed,
    EndReason,
    EscalationState,
    PartnerAcknowledged,
    PartnerUnreached,
    PositionTaken,
    QuestionAnswered,
    QuestionAsked,
    ReadBackGiven,
)
from shared.db import Transaction
from shared.errors import Unavailable
from shared.events import Cause, Message


async def on_partner_unreached(deps: EscalationDeps, message: Message[PartnerUnreached]) -> None:
    """Raiser and secretariat, where this node serves them, are asked to take the unreached partner over."""
    now, event, cause = deps.clock.now(), message.body, Cause.of(message)
    takers = [c for c in dict.fromkeys((event.raiser, SECRETARIAT)) if c != event.partner and deps.serves(c)]
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(PartnerUnreached), message_id=message.id, now=now):
            return
        head = await store.load_head(tx, event.alert_id, now)
        if head.facts is None:
            await store.save_facts(tx, facts_of_unreached(event))
        if head.ended_at is not None or head.superseded_by is not None or now >= event.expires_at:
            return
        if await _has_answered_since(deps, tx, event, head):
            return
        existing = {e.partner: e for e in await store.load_takeovers(tx, event.alert_id, event.partner)}
        directories = await deps.directories.find(tx, takers)
        outcomes = [
            open_takeover(
                id=existing[taker].id if taker in existing else deps.ids.new(),
                event=event,
                taker=taker,
                directory=directories[taker],
                deadlines=deps.directories.deadlines_of(directories[taker], event.precedence),
                brief=takeover_brief(event),
                now=now,
            )
            for taker in takers
            if taker not in existing or existing[taker].state is EscalationState.ENDED
        ]
        had_it = await store.find_taken_over(tx, event.root_alert_id, event.alert_id, event.partner)
        outcomes = [carry_takeover(o, had_it.get(o.escalation.partner), now) for o in outcomes]
        opened = await open_outcomes(
            tx, [o for o in outcomes if o.escalation.partner not in existing], ids=deps.ids, now=now
        )
        # Unreached a second time (the first answer was "wrong person"): the takeovers that had ended begin again.
        again = [outcome for outcome in outcomes if outcome.escalation.partner in existing]
        messages = await save_outcomes(tx, again, ids=deps.ids, cause=cause, now=now)
        await alarm_gaps(deps, tx, [None] * len(outcomes), outcomes, now)
        events = started_events(event.alert_id, event.raiser, [*opened, *again], now)
        messages += await announce(tx, events, ids=deps.ids, cause=cause, now=now)
    deps.wake("delivery", "timers")
    deps.relay.publish_soon(messages)


async def _has_answered_since(
    deps: EscalationDeps, tx: Transaction, event: PartnerUnreached, head: store.AlertHead
) -> bool:
    """Whether the partner is no longer unreached: here its row says so, for another node's partner its answer that
    came before.
    """
    if not deps.serves(event.partner):
        answered_at = head.answered.get(event.partner)
        return answered_at is not None and answered_at >= event.unreached_at
    escalation_id = await store.find_escalation_id(tx, event.alert_id, event.partner)
    current = None if escalation_id is None else await store.load_one(tx, escalation_id)
    return current is not None and current.state is not EscalationState.UNREACHED


async def on_partner_acknowledged(deps: EscalationDeps, message: Message[PartnerAcknowledged]) -> None:
    """The raiser's systems are told; takeovers of this partner are no longer needed."""
    now, event = deps.clock.now(), message.body
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(PartnerAcknowledged), message_id=message.id, now=now):
            return
        if not deps.serves(event.partner):
            head = await store.load_head(tx, event.alert_id, now)
            await store.save_answered(tx, head, event.partner, event.acknowledged_at)
        messages = await countdown.count_again(deps, tx, event.alert_id, cause=Cause.of(message), now=now)
        # A takeover that began after this acknowledgement is about a later silence.
        takeovers = [
            e
            for e in await store.load_takeovers(tx, event.alert_id, event.partner)
            if e.state is not EscalationState.ENDED and e.clock_started_at <= event.acknowledged_at
        ]
        outcomes = [decide(e, End(reason=EndReason.ACKNOWLEDGED, at=now), now) for e in takeovers]
        messages += await save_ended(tx, deps, takeovers, outcomes, cause=Cause.of(message), now=now)
        await _tell_raiser(deps, tx, event, now)
    deps.wake("delivery")
    deps.relay.publish_soon(messages)


async def on_coverage_goal_missed(deps: EscalationDeps, message: Message[CoverageGoalMissed]) -> None:
    """Whoever has not answered is asked at the next level now; the raiser's and the secretariat's people are told."""
    now, event, cause = deps.clock.now(), message.body, Cause.of(message)
    async with deps.senders.hand_over() as handed, deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(CoverageGoalMissed), message_id=message.id, now=now):
            return
        # An Update may have taken the alert's place since: it is what is waited for now.
        newest = await store.load_newest(tx, event.alert_id, now)
        head = await store.load_head(tx, newest, now)
        if head.facts is None:
            raise Unavailable("the alert itself has not arrived yet")
        if head.ended_at is not None:
            return
        silent = [e for e in await store.load_of_alert(tx, newest) if e.state in UNANSWERED]
        directories = await deps.directories.find(tx, sorted({e.partner for e in silent}))
        outcomes = [decide(e, CoverageMissed(directory=directories[e.partner]), now) for e in silent]
        await alarm_gaps(deps, tx, silent, outcomes, now)
        await handed.read(tx, {newest})
        messages = await save_ended(tx, deps, silent, outcomes, cause=cause, now=now, handed=handed)
        data = {
            "wanted": event.goal.partners,
            "addressed": event.asked,
            "answered": event.acknowledged,
            "within_seconds": event.goal.within_seconds,
            "due_at": instant(event.due_at),
            "missing": list(event.missing),
        }
        codes = (event.raiser, SECRETARIAT)
        await tell_partners(
            deps, tx, head.facts, codes=codes, message_type="coverage.missed", data=data, now=now, people=True
        )
    deps.wake("delivery", "timers")
    deps.relay.publish_soon(messages, after=handed.tried)


async def on_position_taken(deps: EscalationDeps, message: Message[PositionTaken]) -> None:
    """The raiser's systems are told of the answer."""
    now, event = deps.clock.now(), message.body
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(PositionTaken), message_id=message.id, now=now):
            return
        await _tell_raiser(deps, tx, event, now)
    deps.wake("delivery")


async def _tell_raiser(
    deps: EscalationDeps, tx: Transaction, event: PartnerAcknowledged | PositionTaken, now: datetime
) -> None:
    facts = await store.find_facts(tx, event.alert_id)
    if facts is not None:
        await tell_partners(
            deps, tx, facts, codes=(facts.raiser,), message_type="answer.received", data=answer_data(event), now=now
        )


async def on_question_asked(deps: EscalationDeps, message: Message[QuestionAsked]) -> None:
    """The raiser's officers on duty and its systems are told of a question."""
    now, event = deps.clock.now(), message.body
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(QuestionAsked), message_id=message.id, now=now):
            return
        if event.question is None or not deps.serves(event.raiser):
            return
        facts = await _facts_of(tx, event.alert_id)
        await question_store.insert_question(tx, event)
        asked = {
            "question_id": str(event.question_id),
            "partner": event.partner,
            "by": event.asked_by.name,
            "question": event.question,
        }
        data = {"asked": asked}
        codes = (event.raiser,)
        await tell_partners(
            deps, tx, facts, codes=codes, message_type="question.asked", data=data, now=now, people=True
        )
    deps.wake("delivery")


async def on_question_answered(deps: EscalationDeps, message: Message[QuestionAnswered]) -> None:
    """Everybody who was asked by the alert, as far as this node serves them, is told question and answer: systems, and
    whoever was paged or has acknowledged.
    """
    now, event = deps.clock.now(), message.body
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(QuestionAnswered), message_id=message.id, now=now):
            return
        if event.answer is None:
            return
        facts = await _facts_of(tx, event.alert_id)
        await question_store.keep_answered(tx, event)
        words = {"question_id": str(event.question_id), "question": event.question, "answer": event.answer}
        data = {"asked": words}
        asked = await question_store.find_partners_asked(tx, event.alert_id)
        reached = await question_store.find_points_reached(tx, [row["id"] for row in asked])
        directories = await deps.directories.find(tx, [row["partner"] for row in asked])
        rows: list[dict[str, Any]] = []
        for row in asked:
            directory = directories[row["partner"]]
            known = {point["contact_point_id"] for point in reached if point["escalation_id"] == row["id"]}
            answerer = store.actor_of(row["acknowledged_by"])
            targets = directory.endpoint_targets()
            if answerer is not None and answerer.contact_id is not None:
                targets += tuple(t for t in directory.every_target() if t.contact_id == answerer.contact_id)
            elif not known:
                targets += directory.on_duty(now)
            others = [target for target in targets if target.contact_point_id not in known]
            pages = planned_in_order(
                others, "question.answered", level=0, asks=False, precedence=facts.precedence, now=now
            )
            rows += notice_rows(pages, alert=facts, partner=row["partner"], data=data, ids=deps.ids, now=now)
        rows += again_rows(reached, "question.answered", alert=facts, data=data, ids=deps.ids, now=now)
        await store.insert_pages(tx, rows)
    deps.wake("delivery")


async def on_read_back_given(deps: EscalationDeps, message: Message[ReadBackGiven]) -> None:
    """The raiser's officers on duty and its systems are told what was repeated, to confirm or reject it."""
    now, event = deps.clock.now(), message.body
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(ReadBackGiven), message_id=message.id, now=now):
            return
        facts = await _facts_of(tx, event.alert_id)
        said = "; ".join(filter(None, (event.country, event.request, event.time)))
        repeated = {
            "escalation_id": str(event.escalation_id),
            "partner": event.partner,
            "by": event.given_by.name,
            "read_back": said,
        }
        data = {"repeated": repeated}
        codes = (event.raiser,)
        await tell_partners(
            deps, tx, facts, codes=codes, message_type="read_back.given", data=data, now=now, people=True
        )
    deps.wake("delivery")


async def _facts_of(tx: Transaction, alert_id: UUID) -> AlertFacts:
    """What is known of the alert; `Unavailable`, and so asked again, while its release is still on its way."""
    facts = await store.find_facts(tx, alert_id)
    if facts is None:
        raise Unavailable("the release of this alert has not arrived here yet")
    return facts
