"""What happens on X: what HTTP asks of escalation, and what the bus tells it.

Every handler shows the same few lines: transaction, inbox or idempotency, load with lock, decide, save, commit,
publish. Locks are taken in one order: alert head, coverage goal, escalations by id, pages. Events come in any order and
more than once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.escalation import notices, store
from services.escalation.coverage import countdown
from services.escalation.coverage import store as coverage_store
from services.escalation.coverage.domain import Countdown
from services.escalation.directories import Directories
from services.escalation.domain import CoverageMissed, End, decide
from services.escalation.handover import HandOver, Senders
from services.escalation.joining.domain import page_newcomers
from services.escalation.messages import answer_data, content_of, instant, takeover_brief
from services.escalation.model import UNANSWERED, AlertFacts, Escalation, Outcome, planned_in_order
from services.escalation.notices import store as notice_store
from services.escalation.opening import (
    Opening,
    carry_takeover,
    merge_late_predecessor,
    open_escalation,
    open_takeover,
)
from services.escalation.releasing import decide_opening, facts_of, page_ahead
from services.escalation.saving import (
    again_rows,
    announce,
    notice_rows,
    open_outcomes,
    open_parts,
    save_outcomes,
)
from services.escalation.talk import store as question_store
from shared import inbox, record
from shared.contracts import (
    SECRETARIAT,
    AlertEnded,
    AlertReleased,
    CoverageGoalMissed,
    CredentialsPublished,
    DutyPlanPublished,
    EndedEscalation,
    EndReason,
    EscalationKind,
    EscalationsEnded,
    EscalationsStarted,
    EscalationState,
    Gap,
    NoticeIssued,
    PartnerAcknowledged,
    PartnerChanged,
    PartnerUnreached,
    PositionTaken,
    Precedence,
    QuestionAnswered,
    QuestionAsked,
    ReadBackGiven,
    ReleaseAsked,
    StartedEscalation,
    Status,
)
from shared.db import Transaction
from shared.errors import ALERT_OPENING, Unavailable
from shared.events import Cause, Event, Message
from shared.ids import derived
from shared.log import get_logger
from shared.process import Deps
from shared.security import on_credentials_published as keep_credentials

log = get_logger(__name__)

ALARMING_GAPS = frozenset({Gap.NO_DUTY_PLAN, Gap.DUTY_PLAN_EXPIRED, Gap.DUTY_PLAN_UNREADABLE, Gap.ALL_LEVELS_EMPTY})
"""Gaps of which raiser and secretariat are told at once: nobody can be sure that a phone rings there."""


LEFT_BEHIND_SECONDS = 1.0
"""An opening that is not stored after this has been left behind: it takes some hundredths of a second."""

TIMERS_LOOK_WITHIN = timedelta(seconds=2)
"""What falls due later than this need not wake the timers, which look every second by themselves."""

RELEASE_ASKED_FOR = timedelta(days=1)
"""How long people are written to about a draft that waits for them."""
UNANSWERED_TOLD_FOR = timedelta(days=3)
"""How long a drill that nobody acknowledged is still worth a message."""


@dataclass(frozen=True, kw_only=True)
class EscalationDeps(Deps):
    """What escalation's handlers need beside what every service has."""

    directories: Directories
    senders: Senders

    def serves(self, partner: str) -> bool:
        """Whether this installation escalates for the partner; a government may run its own node."""
        return self.settings.serves(partner)


# --- alerts -----------------------------------------------------------------------------------------------------------


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
            events = _started(released.alert_id, released.raiser, opened, now)
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


def _started(alert_id: UUID, raiser: str, opened: Sequence[Outcome], now: datetime) -> list[Event]:
    if not opened:
        return []
    started = EscalationsStarted(
        alert_id=alert_id,
        raiser=raiser,
        started_at=now,
        escalations=tuple(
            StartedEscalation(
                escalation_id=outcome.escalation.id,
                partner=outcome.escalation.partner,
                kind=outcome.escalation.kind,
                state=outcome.escalation.state,
                level=outcome.escalation.level,
                due_at=outcome.escalation.due_at,
                acknowledge_by_at=outcome.escalation.acknowledge_by_at,
                unreached_at=outcome.escalation.unreached_at,
                gaps=outcome.escalation.gaps,
                one_provider=outcome.escalation.one_provider,
                told=tuple(dict.fromkeys(page.target.told for page in outcome.pages)),
            )
            for outcome in opened
        ),
    )
    return [started, *(event for outcome in opened for event in outcome.events)]


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


async def save_ended(
    tx: Transaction,
    deps: Deps,
    before: Sequence[Escalation],
    outcomes: Sequence[Outcome],
    *,
    cause: Cause,
    now: datetime,
    handed: HandOver | None = None,
) -> list[Message[Event]]:
    """Saves decisions, and announces those that are endings in one event for each alert and reason."""
    endings: dict[tuple[UUID, str, EndReason], list[EndedEscalation]] = {}
    for old, outcome in zip(before, outcomes, strict=True):
        reason = outcome.escalation.end_reason
        if reason is not None and old.state is not EscalationState.ENDED:
            ended = EndedEscalation(escalation_id=old.id, partner=old.partner, kind=old.kind, state_before=old.state)
            endings.setdefault((old.alert.alert_id, old.alert.raiser, reason), []).append(ended)
    events = [
        EscalationsEnded(alert_id=alert_id, raiser=raiser, reason=reason, ended_at=now, escalations=tuple(listed))
        for (alert_id, raiser, reason), listed in endings.items()
    ]
    return await save_outcomes(tx, outcomes, ids=deps.ids, cause=cause, now=now, more_events=events, handed=handed)


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


async def alarm_gaps(
    deps: EscalationDeps,
    tx: Transaction,
    before: Sequence[Escalation | None],
    outcomes: Sequence[Outcome],
    now: datetime,
) -> bool:
    """Tells raiser and secretariat at once where nobody can be sure that a telephone rings: their systems and people.

    `before` is None for an escalation that has just opened. A gap is told of once. Returns whether any was told of.
    """
    told = False
    for old, outcome in zip(before, outcomes, strict=True):
        escalation = outcome.escalation
        known = set(old.gaps) if old is not None else set()
        news = ALARMING_GAPS.intersection(escalation.gaps) - known
        unheard = old is None and not escalation.paged
        if escalation.state is EscalationState.ENDED or not (news or unheard):
            continue
        log.error(
            "duty_plan.lacking",
            partner=escalation.partner,
            alert_id=str(escalation.alert.alert_id),
            gaps=[gap.value for gap in escalation.gaps],
        )
        told = True
        codes = [c for c in (escalation.alert.raiser, SECRETARIAT) if c != escalation.partner]
        data = {"partner_without_duty": escalation.partner, "gaps": list(escalation.gaps)}
        await _notify(
            deps, tx, escalation.alert, codes=codes, message_type="level.raised", data=data, now=now, people=True
        )
    return told


async def _alarm_never_paged(
    deps: EscalationDeps, tx: Transaction, facts: AlertFacts, opened: Sequence[Outcome], now: datetime
) -> None:
    """An alert that had expired before it arrived pages nobody any more; whoever believes that it did must know."""
    never_paged = sorted(outcome.escalation.partner for outcome in opened)
    log.error("alert.arrived_expired", alert_id=str(facts.alert_id), partners=never_paged)
    data = {"reason": EndReason.EXPIRED, "ended_at": instant(facts.expires_at), "never_paged": never_paged}
    codes = (facts.raiser, SECRETARIAT)
    await _notify(deps, tx, facts, codes=codes, message_type="alert.ended", data=data, now=now, people=True)


async def _notify(
    deps: EscalationDeps,
    tx: Transaction,
    alert: AlertFacts,
    *,
    codes: Sequence[str],
    message_type: str,
    data: Mapping[str, Any],
    now: datetime,
    people: bool = False,
) -> None:
    """Informs partners of which no answer is asked: one page to each of their endpoints, and if it is an alarm, to
    whoever is on duty at their first level.
    """
    served = [code for code in dict.fromkeys(codes) if deps.serves(code)]
    directories = await deps.directories.find(tx, served)
    for code in served:
        targets = [*directories[code].endpoint_targets(), *(directories[code].on_duty(now) if people else ())]
        pages = planned_in_order(targets, message_type, level=0, asks=False, precedence=alert.precedence, now=now)
        rows = notice_rows(pages, alert=alert, partner=code, data=data, ids=deps.ids, now=now)
        await store.insert_pages(tx, rows)


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


# --- our own and other nodes' events ----------------------------------------------------------------------------------


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
        events = _started(event.alert_id, event.raiser, [*opened, *again], now)
        messages += await announce(tx, events, ids=deps.ids, cause=cause, now=now)
    deps.wake("delivery", "timers")
    deps.relay.publish_soon(messages)


def facts_of_unreached(event: PartnerUnreached) -> AlertFacts:
    """What a takeover needs to know of an alert whose release has not arrived at this node yet."""
    return AlertFacts(
        alert_id=event.alert_id,
        root_alert_id=event.root_alert_id,
        reference=event.reference,
        raiser=event.raiser,
        status=event.status,
        precedence=event.precedence,
        tlp=event.tlp,
        released_at=event.unreached_at,
        expires_at=event.expires_at,
        released_by=event.released_by,
        answers_visible_to=event.answers_visible_to,
    )


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
        await _notify(
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
    facts = await _find_facts(tx, event.alert_id)
    if facts is not None:
        await _notify(
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
        await _notify(deps, tx, facts, codes=codes, message_type="question.asked", data=data, now=now, people=True)
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
        await _notify(deps, tx, facts, codes=codes, message_type="read_back.given", data=data, now=now, people=True)
    deps.wake("delivery")


async def _find_facts(tx: Transaction, alert_id: UUID) -> AlertFacts | None:
    known = await store.find_heads(tx, [alert_id])
    return known[alert_id].facts if alert_id in known else None


async def _facts_of(tx: Transaction, alert_id: UUID) -> AlertFacts:
    """What is known of the alert; `Unavailable`, and so asked again, while its release is still on its way."""
    facts = await _find_facts(tx, alert_id)
    if facts is None:
        raise Unavailable("the release of this alert has not arrived here yet")
    return facts


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


async def on_release_asked(deps: EscalationDeps, message: Message[ReleaseAsked]) -> None:
    """Tells those who may release a draft that it waits: at once and over every contact point where lives are at risk.

    Of a draft that was released before this arrived nobody is told.
    """
    now, asked = deps.clock.now(), message.body
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(ReleaseAsked), message_id=message.id, now=now):
            return
        if await _find_facts(tx, asked.alert_id) is not None:
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


async def on_credentials_published(deps: EscalationDeps, message: Message[CredentialsPublished]) -> None:
    """Keeps the credentials by which this service issues and checks tokens while roster is down."""
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        if await inbox.accept(tx, consumer=deps.consumer(CredentialsPublished), message_id=message.id, now=now):
            await keep_credentials(tx, message.body)


SUBSCRIPTIONS: dict[type[Event], Callable[[EscalationDeps, Message[Any]], Awaitable[None]]] = {
    AlertReleased: on_alert_released,
    AlertEnded: on_alert_ended,
    DutyPlanPublished: on_duty_plan_published,
    PartnerChanged: on_partner_changed,
    CredentialsPublished: on_credentials_published,
    PartnerUnreached: on_partner_unreached,
    PartnerAcknowledged: on_partner_acknowledged,
    CoverageGoalMissed: on_coverage_goal_missed,
    PositionTaken: on_position_taken,
    QuestionAsked: on_question_asked,
    QuestionAnswered: on_question_answered,
    ReadBackGiven: on_read_back_given,
    NoticeIssued: on_notice_issued,
    ReleaseAsked: on_release_asked,
}
