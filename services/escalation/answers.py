"""What people do: acknowledge, take a position, take an unreached partner over, raise a level.

Every act is one transaction on intake's own connections: load with lock, decide, save, commit, publish. The answer is
given after the commit, so "acknowledged" is true when it is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from uuid import UUID

from services.escalation import store
from services.escalation.deps import EscalationDeps
from services.escalation.domain import Acknowledge, RaiseLevel, TakeOver, TakePosition, decide
from services.escalation.model import Escalation, Outcome
from services.escalation.reading import may_see
from services.escalation.saving import save_outcomes
from services.escalation.talk import read_backs
from services.escalation.telling import alarm_gaps
from shared import record
from shared.contracts import SECRETARIAT, Actor, EscalationKind, EscalationState, PositionStance, Role
from shared.db import Transaction
from shared.errors import Forbidden, Invalid, NotFound
from shared.events import Cause, Event, Message
from shared.security import Principal

ANSWERING_ROLES = (Role.DUTY_OFFICER, Role.SENIOR_CONTACT)
TAKING_OVER_ROLES = (Role.DUTY_OFFICER, Role.RELEASER)
OPENING_LOOKS_MAX, OPENING_LOOK_SECONDS = 20, 0.05
"""An alert that is named in the moment in which it is opened is looked for so often, and so long after each other."""

ALERTS_PER_CALL_MAX = 100

Decided = tuple[Escalation, Outcome]
"""An escalation as it was, locked, and what was decided about it."""


@dataclass(frozen=True, slots=True)
class Answering:
    """Who answers for a partner, and how: a person for themselves, a system that names a contact of its partner's plan,
    or whoever answers the page `page_id`.
    """

    actor: Actor
    asserted_by_system: str | None = None
    via: str = "api"
    page_id: UUID | None = None


async def acknowledge(
    deps: EscalationDeps,
    principal: Principal,
    escalation_id: UUID,
    *,
    contact_id: UUID | None,
    via: str,
    cause: Cause,
) -> Escalation:
    """A named human has it. The acknowledgement and the stop are one transaction on one locked row.

    Acknowledging twice is harmless: the first one stands. Acknowledging a takeover takes the partner over. Whoever
    acknowledges a message that an Update has corrected meanwhile, without asking anew, has acknowledged that, too.
    """
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        decided = await _acknowledged(deps, tx, principal, escalation_id, contact_id, via, now)
        messages = await save_decided(deps, tx, decided, cause=cause, now=now)
    await deps.relay.publish(messages)
    deps.wake("delivery", "timers")
    return decided[0][1].escalation


async def acknowledge_alerts(
    deps: EscalationDeps,
    principal: Principal,
    alert_ids: Sequence[UUID] | None,
    *,
    contact_id: UUID | None,
    via: str,
    cause: Cause,
) -> list[Escalation]:
    """The same by alert, for those who know no escalation id; None is all that the partner still owes an answer to.

    Those that are named are acknowledged all or none, in one transaction. An alert that this service has not heard of
    yet is looked for once in alerting's feed before it is called unknown.
    """
    found = await _escalations_for(deps, principal, alert_ids)
    if alert_ids is not None and len(found) < len(set(alert_ids)):
        await deps.pull_now("alerting")
        found = await _escalations_for(deps, principal, alert_ids)
        for _ in range(OPENING_LOOKS_MAX):
            if len(found) == len(set(alert_ids)) or not await is_opening(deps):
                break
            # First pages have just left, perhaps the very one that is answered here.
            await deps.senders.settled(*alert_ids)
            await deps.clock.sleep(OPENING_LOOK_SECONDS)
            found = await _escalations_for(deps, principal, alert_ids)
        if len(found) < len(set(alert_ids)):
            raise NotFound("there is no such alert, or your government was not asked")
    done: list[Escalation] = []
    for start in range(0, len(found), ALERTS_PER_CALL_MAX):
        batch = found[start : start + ALERTS_PER_CALL_MAX]
        done += await _acknowledge_batch(deps, principal, batch, contact_id, via, cause)
    return done


async def _acknowledge_batch(  # noqa: PLR0917 - one caller, right above
    deps: EscalationDeps,
    principal: Principal,
    escalation_ids: Sequence[UUID],
    contact_id: UUID | None,
    via: str,
    cause: Cause,
) -> list[Escalation]:
    now = deps.clock.now()
    decided: dict[UUID, Decided] = {}
    async with deps.intake.transaction() as tx:
        # Locked in one order, whatever the caller's is.
        for escalation_id in sorted(escalation_ids):
            if escalation_id in decided:
                continue
            for before, outcome in await _acknowledged(deps, tx, principal, escalation_id, contact_id, via, now):
                decided[before.id] = (before, outcome)
        messages = await save_decided(deps, tx, list(decided.values()), cause=cause, now=now)
    await deps.relay.publish(messages)
    deps.wake("delivery", "timers")
    return [decided[escalation_id][1].escalation for escalation_id in escalation_ids]


async def is_opening(deps: EscalationDeps) -> bool:
    """Whether what is not found may be there in a moment."""
    async with deps.intake.transaction() as tx:
        return await store.is_opening(tx, deps.clock.now())


async def _escalations_for(deps: EscalationDeps, principal: Principal, alert_ids: Sequence[UUID] | None) -> list[UUID]:
    async with deps.intake.transaction() as tx:
        if alert_ids is None:
            alert_ids = await store.find_open_alerts_of(tx, principal.partner)
            if not alert_ids:
                await store.refuse_while_opening(tx, deps.clock.now())
        found = [
            await store.find_escalation_id(tx, alert_id, principal.partner) for alert_id in dict.fromkeys(alert_ids)
        ]
    return [escalation_id for escalation_id in found if escalation_id is not None]


async def _acknowledged(  # noqa: PLR0917 - its callers are right above
    deps: EscalationDeps,
    tx: Transaction,
    principal: Principal,
    escalation_id: UUID,
    contact_id: UUID | None,
    via: str,
    now: datetime,
) -> list[Decided]:
    """The decision for the escalation that was named, first, and for those that are answered with it."""
    named = await find_own(tx, principal, escalation_id)
    answering = await answering_of(deps, tx, principal, contact_id)
    return await decide_acknowledged(tx, named, replace(answering, via=via), now)


async def decide_acknowledged(tx: Transaction, named: Escalation, answering: Answering, now: datetime) -> list[Decided]:
    """What it comes to that somebody acknowledges `named`, which need not be locked yet: its own decision first.

    Who may answer for the partner is the caller's to check. Save it with `save_decided`.
    """
    if named.kind is EscalationKind.TAKEOVER:
        taking = TakeOver(by=answering.actor, via=answering.via, page_id=answering.page_id)
        return await _taken_over(tx, named, taking, now)
    command = Acknowledge(
        by=answering.actor,
        via=answering.via,
        asserted_by_system=answering.asserted_by_system,
        page_id=answering.page_id,
    )
    escalation = await _load(tx, named.id)
    decided = [(escalation, decide(escalation, command, now))]
    if escalation.state is EscalationState.ENDED:
        # Superseded, or expired a moment before its renewal arrived: the Update is what is asked now.
        newest = await find_corrected_by(tx, escalation)
        if newest is not None and newest.kind is EscalationKind.ANSWER:
            newest = await _load(tx, newest.id)
            if newest.acknowledged_at is not None:
                # Somebody was quicker: theirs is the one acknowledgement of the whole chain.
                return [(escalation, Outcome(_as_acknowledged_in(escalation, newest))), (newest, Outcome(newest))]
            decided.append((newest, decide(newest, command, now)))
    return decided


def _as_acknowledged_in(escalation: Escalation, newest: Escalation) -> Escalation:
    """An escalation that had ended, with the acknowledgement of the Update's; itself if it has one of its own."""
    if escalation.acknowledged_at is not None:
        return escalation
    return replace(
        escalation,
        acknowledged_at=newest.acknowledged_at,
        acknowledged_by=newest.acknowledged_by,
        asserted_by_system=newest.asserted_by_system,
        acknowledged_via=newest.acknowledged_via,
        late=newest.late,
    )


async def find_corrected_by(tx: Transaction, escalation: Escalation) -> Escalation | None:
    """The same partner's escalation, or takeover, of the newest Update; None if an Update on the way to it asks anew.

    Not locked: whoever acts on several locks them in one order.
    """
    newest = await store.find_carried_to(tx, escalation.alert.alert_id)
    if newest is None:
        return None
    if escalation.kind is EscalationKind.TAKEOVER:
        family = await store.find_takeover_family(tx, newest, escalation.subject_partner)
        found = [await store.find_escalation(tx, one) for one in family]
        mine = (escalation.partner, escalation.subject_partner)
        return next((e for e in found if e is not None and (e.partner, e.subject_partner) == mine), None)
    escalation_id = await store.find_escalation_id(tx, newest, escalation.partner)
    return None if escalation_id is None else await store.find_escalation(tx, escalation_id)


async def save_decided(
    deps: EscalationDeps, tx: Transaction, decided: Sequence[Decided], *, cause: Cause, now: datetime
) -> list[Message[Event]]:
    """Saves; an act that changed nothing, because it had been done before, writes nothing.

    An acknowledgement that the network wants read back waits for that from now on.
    """
    changed = [outcome for before, outcome in decided if outcome.escalation is not before]
    # What changes along with the escalation that announces the act has a row in the record, too.
    silent = [
        record.Entry(
            kind="escalation.changed_along",
            partner=outcome.escalation.partner,
            alert_id=outcome.escalation.alert.alert_id,
            object_id=outcome.escalation.id,
            data={"state": outcome.escalation.state, "subject_partner": outcome.escalation.subject_partner},
        )
        for outcome in changed
        if not outcome.events
    ]
    await record.append(tx, silent, cause=cause, ids=deps.ids, now=now)
    messages = await save_outcomes(tx, changed, ids=deps.ids, cause=cause, now=now)
    await read_backs.require(deps, tx, changed, now)
    return messages


@dataclass(frozen=True, slots=True)
class PositionRequest:
    """The substantive answer as the caller gives it."""

    stance: PositionStance
    contact_id: UUID | None = None
    answer_by_at: datetime | None = None
    note: str | None = None
    offer: str | None = None
    estimated_arrival_at: datetime | None = None


async def take_position(
    deps: EscalationDeps, principal: Principal, escalation_id: UUID, request: PositionRequest, *, cause: Cause
) -> Escalation:
    """The partner answers: considering until a time, committed, declined, noted, or "wrong person"."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        await find_own(tx, principal, escalation_id)
        answering = await answering_of(deps, tx, principal, request.contact_id)
        decided = await decide_position(deps, tx, escalation_id, answering, request, now)
        messages = await save_decided(deps, tx, [decided], cause=cause, now=now)
    await deps.relay.publish(messages)
    deps.wake("delivery", "timers")
    return decided[1].escalation


async def decide_position(  # noqa: PLR0917 - all of it is the question
    deps: EscalationDeps,
    tx: Transaction,
    escalation_id: UUID,
    answering: Answering,
    request: PositionRequest,
    now: datetime,
) -> Decided:
    """What it comes to that somebody takes a position; raises `Rejected` if the state does not allow it.

    Who may answer for the partner is the caller's to check. Save it with `save_decided`.
    """
    escalation = await _load(tx, escalation_id)
    command = TakePosition(
        stance=request.stance,
        by=answering.actor,
        directory=await deps.directories.find_one(tx, escalation.partner),
        asserted_by_system=answering.asserted_by_system,
        answer_by_at=request.answer_by_at,
        note=request.note,
        offer=request.offer,
        estimated_arrival_at=request.estimated_arrival_at,
        via=answering.via,
        page_id=answering.page_id,
    )
    outcome = decide(escalation, command, now)
    await alarm_gaps(deps, tx, [escalation], [outcome], now)
    return escalation, outcome


async def take_over(deps: EscalationDeps, principal: Principal, escalation_id: UUID, *, cause: Cause) -> Escalation:
    """A human of raiser or secretariat takes an unreached partner over. `escalation_id` may name either escalation."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        escalation = await find_visible(tx, principal, escalation_id)
        raiser, own = escalation.alert.raiser, principal.partner
        allowed = own == raiser and principal.has(*TAKING_OVER_ROLES)
        if not allowed and not (own == SECRETARIAT and principal.has(Role.SECRETARIAT, Role.DUTY_OFFICER)):
            raise Forbidden("only the raising government's officers and the secretariat take a partner over")
        if not principal.is_person:
            raise Forbidden("only a person can take a partner over", code="person_required")
        decided = await _taken_over(tx, escalation, TakeOver(by=principal.actor()), now)
        messages = await save_decided(deps, tx, decided, cause=cause, now=now)
    await deps.relay.publish(messages)
    deps.wake("timers")
    return decided[0][1].escalation


async def raise_level(deps: EscalationDeps, principal: Principal, escalation_id: UUID, *, cause: Cause) -> Escalation:
    """The secretariat raises a level now, without waiting for the deadline."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        await find_visible(tx, principal, escalation_id)
        if principal.partner != SECRETARIAT:
            raise Forbidden("only the secretariat raises a level", code="role_missing")
        principal.require(Role.SECRETARIAT)
        escalation = await _load(tx, escalation_id)
        directory = await deps.directories.find_one(tx, escalation.partner)
        outcome = decide(escalation, RaiseLevel(by=principal.actor(), directory=directory), now)
        await alarm_gaps(deps, tx, [escalation], [outcome], now)
        messages = await save_decided(deps, tx, [(escalation, outcome)], cause=cause, now=now)
    await deps.relay.publish(messages)
    deps.wake("delivery", "timers")
    return outcome.escalation


async def _taken_over(tx: Transaction, named: Escalation, command: TakeOver, now: datetime) -> list[Decided]:
    """The decisions, first for the escalation that was named: a takeover is one act on all that belong to it.

    They are locked together in the order of their ids, because two people may name two different ones at once. The act
    is announced once, for the unreached partner's own escalation where that is here.
    """
    subject = named.subject_partner or named.partner
    family = await store.load_many(tx, await store.find_takeover_family(tx, named.alert.alert_id, subject))
    family.sort(key=lambda e: e.id != named.id)
    decided = [(e, decide(e, command, now)) for e in family if e.id == named.id or _can_be_taken_over(e)]
    announcing = sorted((o for _, o in decided if o.events), key=lambda o: bool(o.escalation.subject_partner))[:1]
    return [(e, o if o in announcing else replace(o, events=())) for e, o in decided]


def _can_be_taken_over(escalation: Escalation) -> bool:
    if escalation.kind is EscalationKind.TAKEOVER:
        return escalation.state is not EscalationState.ENDED
    return escalation.state is EscalationState.UNREACHED


async def find_visible(tx: Transaction, principal: Principal, escalation_id: UUID) -> Escalation:
    """An escalation, not locked, if the caller may know of it. Whose it is and of which kind never changes."""
    escalation = await store.find_escalation(tx, escalation_id) if await may_see(tx, principal, escalation_id) else None
    if escalation is None:
        raise NotFound("there is no such escalation")
    return escalation


async def find_own(tx: Transaction, principal: Principal, escalation_id: UUID) -> Escalation:
    """An escalation, not locked, that the caller may answer for their partner."""
    escalation = await find_visible(tx, principal, escalation_id)
    if escalation.partner != principal.partner:
        raise Forbidden("only the partner that is asked can answer", code="not_your_escalation")
    if not (escalation.partner == SECRETARIAT and principal.has(Role.SECRETARIAT)):
        principal.require(*ANSWERING_ROLES)
    return escalation


async def _load(tx: Transaction, escalation_id: UUID) -> Escalation:
    escalation = await store.load_one(tx, escalation_id)
    assert escalation is not None, "escalations are never deleted"
    return escalation


async def answering_of(
    deps: EscalationDeps, tx: Transaction, principal: Principal, contact_id: UUID | None
) -> Answering:
    """Who answers. A system must name a contact of its partner's duty plan, and the record says that it asserted so."""
    if principal.is_person:
        if contact_id is not None and contact_id != principal.contact_id:
            raise Invalid("a person answers for themselves: leave the contact out", field="contact_id")
        return Answering(principal.actor())
    if contact_id is None:
        raise Invalid("a system names the contact who answered", code="required", field="contact_id")
    directory = await deps.directories.find_one(tx, principal.partner)
    contact = directory.contact(contact_id)
    if contact is None:
        raise Invalid("no such contact in your government's duty plan", code="unknown_contact", field="contact_id")
    subject = contact.subjects[0] if contact.subjects else f"contact:{contact.id}"
    actor = Actor(subject=subject, partner=principal.partner, name=contact.name, contact_id=contact.id)
    return Answering(actor, asserted_by_system=principal.subject)
