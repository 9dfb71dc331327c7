"""What happens on X: what HTTP asks of escalation, and what the bus tells it.

Every handler shows the same few lines: transaction, inbox or idempotency, load with lock, decide, save, commit,
publish. Locks are taken in one order: alert head, escalations by id, pages. Events come in any order and more than
once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from services.escalation import store
from services.escalation.directories import Directories
from services.escalation.domain import (
    End,
    decide,
)
from services.escalation.messages import answer_data, content_of, takeover_brief
from services.escalation.model import AlertFacts, Escalation, Outcome, planned
from services.escalation.opening import Opening, merge_late_predecessor, open_escalation, open_takeover
from services.escalation.saving import announce, notice_rows, open_outcomes, save_outcomes
from shared import inbox
from shared.contracts import (
    SECRETARIAT,
    AlertEnded,
    AlertReleased,
    CredentialsPublished,
    DutyPlanPublished,
    EndedEscalation,
    EndReason,
    EscalationKind,
    EscalationsEnded,
    EscalationsStarted,
    EscalationState,
    Gap,
    PartnerAcknowledged,
    PartnerChanged,
    PartnerUnreached,
    PositionTaken,
    StartedEscalation,
)
from shared.db import Transaction
from shared.events import Cause, Event, Message
from shared.log import get_logger
from shared.process import Deps
from shared.security import on_credentials_published as keep_credentials

log = get_logger(__name__)

ALARMING_GAPS = frozenset({Gap.NO_DUTY_PLAN, Gap.DUTY_PLAN_EXPIRED, Gap.DUTY_PLAN_UNREADABLE, Gap.ALL_LEVELS_EMPTY})
"""Gaps of which raiser and secretariat are told at once: nobody can be sure that a phone rings there."""


@dataclass(frozen=True, kw_only=True)
class EscalationDeps(Deps):
    """What escalation's handlers need beside what every service has."""

    directories: Directories

    def serves(self, partner: str) -> bool:
        """Whether this installation escalates for the partner; a government may run its own node."""
        return self.settings.serves(partner)


# --- alerts -----------------------------------------------------------------------------------------------------------


async def on_alert_released(deps: EscalationDeps, message: Message[AlertReleased]) -> None:
    """Opens one escalation per addressed partner with the pages of its first level, all in one transaction."""
    now, released = deps.clock.now(), message.body
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(AlertReleased), message_id=message.id, now=now):
            return
        facts = facts_of(released)
        predecessor = None if released.corrects is None else await store.load_head(tx, released.corrects, now)
        head = await store.load_head(tx, released.alert_id, now)
        await store.save_release(tx, facts, released.corrects, content_of(released))
        old: Sequence[Escalation] = ()
        if predecessor is not None:
            await store.save_superseded(tx, predecessor.alert_id, released.alert_id)
            if predecessor.facts is not None:
                old = await store.load_of_alert(tx, predecessor.alert_id)
        outcomes = await _open_all(deps, tx, released, facts=facts, head=head, old=old, now=now)
        opened = await open_outcomes(tx, outcomes, ids=deps.ids, now=now)
        await _alarm_gaps(deps, tx, opened, now)
        events = _started(released.alert_id, released.raiser, opened, now)
        messages = await announce(tx, events, ids=deps.ids, cause=Cause.of(message), now=now)
        messages += await _supersede(deps, tx, released, old, head, cause=Cause.of(message), now=now)
        if head.superseded_by is not None:
            await _merge_into_update(deps, tx, head.superseded_by, opened, cause=Cause.of(message), now=now)
    deps.wake("delivery", "timers")
    deps.relay.publish_soon(messages)


def facts_of(released: AlertReleased) -> AlertFacts:
    """What escalations keep of an alert."""
    to = tuple(r.partner for r in released.recipients if r.kind is EscalationKind.ANSWER)
    return AlertFacts(
        alert_id=released.alert_id,
        root_alert_id=released.root_alert_id,
        reference=released.reference,
        raiser=released.raiser,
        status=released.status,
        precedence=released.precedence,
        tlp=released.tlp,
        released_at=released.released_at,
        expires_at=released.expires_at,
        released_by=released.released_by,
        answers_visible_to=to if released.answers_visible else (),
        is_update=released.corrects is not None,
    )


async def _open_all(
    deps: EscalationDeps,
    tx: Transaction,
    released: AlertReleased,
    *,
    facts: AlertFacts,
    head: store.AlertHead,
    old: Sequence[Escalation],
    now: datetime,
) -> list[Outcome]:
    recipients = [r for r in released.recipients if deps.serves(r.partner)]
    directories = await deps.directories.find(tx, [r.partner for r in recipients])
    before = {e.partner: e for e in old if e.kind is not EscalationKind.TAKEOVER}
    ended_reason = head.end_reason or (EndReason.SUPERSEDED if head.superseded_by is not None else None)
    return [
        open_escalation(
            Opening(
                id=escalation_id,
                alert=facts,
                partner=recipient.partner,
                kind=recipient.kind,
                addressed_at=recipient.addressed_at,
                directory=directories[recipient.partner],
                deadlines=deps.directories.deadlines_of(directories[recipient.partner], facts.precedence),
                acknowledge_within_seconds=released.acknowledge_within_seconds,
                asks_anew=released.asks_anew,
                predecessor=before.get(recipient.partner),
                ended_reason=ended_reason,
                ended_at=head.ended_at,
            ),
            now,
        )
        for recipient, escalation_id in zip(recipients, deps.ids.many(len(recipients)), strict=True)
    ]


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
    outcomes = []
    for escalation in old:
        ended = decide(escalation, End(reason=EndReason.SUPERSEDED, at=now), now)
        left_out = escalation.partner not in addressed or escalation.kind is EscalationKind.TAKEOVER
        outcomes.append(replace(ended, sends_ending=ended.stops_pages and (left_out or head.ended_at is not None)))
    return await save_ended(tx, deps, old, outcomes, cause=cause, now=now)


async def save_ended(
    tx: Transaction,
    deps: Deps,
    before: Sequence[Escalation],
    outcomes: Sequence[Outcome],
    *,
    cause: Cause,
    now: datetime,
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
    return await save_outcomes(tx, outcomes, ids=deps.ids, cause=cause, now=now, more_events=events)


async def _merge_into_update(
    deps: EscalationDeps,
    tx: Transaction,
    update_id: UUID,
    opened: Sequence[Outcome],
    *,
    cause: Cause,
    now: datetime,
) -> None:
    """This release was overtaken by its own Update: the Update's escalations take over the earlier deadlines."""
    await store.load_head(tx, update_id, now)
    late = {outcome.escalation.partner: outcome.escalation for outcome in opened}
    current = [e for e in await store.load_of_alert(tx, update_id) if e.partner in late]
    merged = [Outcome(merge_late_predecessor(e, late[e.partner])) for e in current if e.subject_partner == ""]
    await save_outcomes(tx, merged, ids=deps.ids, cause=cause, now=now)


async def _alarm_gaps(deps: EscalationDeps, tx: Transaction, opened: Sequence[Outcome], now: datetime) -> None:
    """Tells raiser and secretariat at once where nobody can be sure that a phone rings."""
    worrying = [o.escalation for o in opened if ALARMING_GAPS.intersection(o.escalation.gaps)]
    for escalation in worrying:
        log.error(
            "duty_plan.lacking",
            partner=escalation.partner,
            alert_id=str(escalation.alert.alert_id),
            gaps=[gap.value for gap in escalation.gaps],
        )
        data = {"partner_without_duty": escalation.partner, "gaps": list(escalation.gaps)}
        codes = (escalation.alert.raiser, SECRETARIAT)
        await _notify(deps, tx, escalation.alert, codes=codes, message_type="level.raised", data=data, now=now)


async def _notify(
    deps: EscalationDeps,
    tx: Transaction,
    alert: AlertFacts,
    *,
    codes: Sequence[str],
    message_type: str,
    data: Mapping[str, Any],
    now: datetime,
) -> None:
    """Informs the systems of partners that an answer is not asked of: one page to each endpoint."""
    served = [code for code in dict.fromkeys(codes) if deps.serves(code)]
    directories = await deps.directories.find(tx, served)
    for code in served:
        pages = planned(directories[code].endpoint_targets(), message_type, level=0, asks=False)
        rows = notice_rows(pages, alert=alert, partner=code, data=data, ids=deps.ids, now=now)
        await store.insert_pages(tx, rows)


async def on_alert_ended(deps: EscalationDeps, message: Message[AlertEnded]) -> None:
    """Ends every escalation of the alert. An end that comes before its release is kept until that comes."""
    now, ended = deps.clock.now(), message.body
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(AlertEnded), message_id=message.id, now=now):
            return
        await store.load_head(tx, ended.alert_id, now)
        await store.save_end(tx, ended.alert_id, ended.reason, ended.ended_at)
        open_ones = await store.load_of_alert(tx, ended.alert_id)
        outcomes = [decide(e, End(reason=ended.reason, at=ended.ended_at), now) for e in open_ones]
        messages = await save_ended(tx, deps, open_ones, outcomes, cause=Cause.of(message), now=now)
    deps.wake("delivery")
    deps.relay.publish_soon(messages)


# --- our own and other nodes' events ----------------------------------------------------------------------------------


async def on_partner_unreached(deps: EscalationDeps, message: Message[PartnerUnreached]) -> None:
    """Raiser and secretariat, where this node serves them, are asked to take the unreached partner over."""
    now, event = deps.clock.now(), message.body
    takers = [c for c in dict.fromkeys((event.raiser, SECRETARIAT)) if c != event.partner and deps.serves(c)]
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(PartnerUnreached), message_id=message.id, now=now):
            return
        head = await store.load_head(tx, event.alert_id, now)
        if head.ended_at is not None or head.superseded_by is not None:
            return
        subject = await store.find_escalation_id(tx, event.alert_id, event.partner)
        if subject is not None:
            current = await store.load_one(tx, subject)
            if current is not None and current.state is not EscalationState.UNREACHED:
                return
        directories = await deps.directories.find(tx, takers)
        outcomes = [
            open_takeover(
                id=deps.ids.new(),
                event=event,
                taker=taker,
                directory=directories[taker],
                deadlines=deps.directories.deadlines_of(directories[taker], event.precedence),
                brief=takeover_brief(event),
                now=now,
            )
            for taker in takers
        ]
        opened = await open_outcomes(tx, outcomes, ids=deps.ids, now=now)
        events = _started(event.alert_id, event.raiser, opened, now)
        messages = await announce(tx, events, ids=deps.ids, cause=Cause.of(message), now=now)
    deps.wake("delivery", "timers")
    deps.relay.publish_soon(messages)


async def on_partner_acknowledged(deps: EscalationDeps, message: Message[PartnerAcknowledged]) -> None:
    """The raiser's systems are told; takeovers of this partner are no longer needed."""
    now, event = deps.clock.now(), message.body
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(PartnerAcknowledged), message_id=message.id, now=now):
            return
        takeovers = await store.load_takeovers(tx, event.alert_id, event.partner)
        outcomes = [decide(e, End(reason=EndReason.ACKNOWLEDGED, at=now), now) for e in takeovers]
        messages = await save_ended(tx, deps, takeovers, outcomes, cause=Cause.of(message), now=now)
        await _tell_raiser(deps, tx, event, now)
    deps.wake("delivery")
    deps.relay.publish_soon(messages)


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
    known = await store.find_heads(tx, [event.alert_id])
    facts = known[event.alert_id].facts if event.alert_id in known else None
    if facts is not None:
        await _notify(
            deps, tx, facts, codes=(facts.raiser,), message_type="answer.received", data=answer_data(event), now=now
        )


async def on_duty_plan_published(deps: EscalationDeps, message: Message[DutyPlanPublished]) -> None:
    """Keeps the newest plan of each partner; a lower version is ignored."""
    now, plan = deps.clock.now(), message.body
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(DutyPlanPublished), message_id=message.id, now=now):
            return
        kept = await store.save_plan(tx, plan.partner, plan.plan_version, plan.model_dump_json(), now)
    if kept:
        deps.wake("warming")


async def on_partner_changed(deps: EscalationDeps, message: Message[PartnerChanged]) -> None:
    """Keeps office and endpoints of each partner for the day when its plan is missing."""
    now, partner = deps.clock.now(), message.body
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(PartnerChanged), message_id=message.id, now=now):
            return
        await store.save_partner(tx, partner.partner, partner.version, partner.model_dump_json(), now)


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
    PositionTaken: on_position_taken,
}
