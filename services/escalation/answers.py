"""What people do: acknowledge, take a position, take an unreached partner over, raise a level.

Every act is one transaction on intake's own connections: load with lock, decide, save, commit, publish. The answer is
given after the commit, so "acknowledged" is true when it is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.escalation import store
from services.escalation.domain import Acknowledge, Input, RaiseLevel, TakeOver, TakePosition, decide
from services.escalation.handlers import EscalationDeps
from services.escalation.model import Escalation, Outcome
from services.escalation.saving import save_outcomes
from shared.contracts import SECRETARIAT, Actor, EscalationKind, EscalationState, PositionStance, Role
from shared.db import Transaction
from shared.errors import Forbidden, Invalid, NotFound
from shared.events import Cause
from shared.security import Principal

ANSWERING_ROLES = (Role.DUTY_OFFICER, Role.SENIOR_CONTACT)
TAKING_OVER_ROLES = (Role.DUTY_OFFICER, Role.RELEASER)
ALERTS_PER_CALL_MAX = 100
SEEING_ROLES = (*ANSWERING_ROLES, Role.DRAFTER, Role.RELEASER, Role.SECRETARIAT)


@dataclass(frozen=True, slots=True)
class Answering:
    """Who answers for a partner: a person for themselves, or a system that names a contact of its partner's plan."""

    actor: Actor
    asserted_by_system: str | None = None


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

    Acknowledging twice is harmless: the first one stands. Acknowledging a takeover takes the partner over.
    """
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        escalation = await _load_own(tx, principal, escalation_id)
        answering = await _answering(deps, tx, principal, contact_id)
        command: Input = Acknowledge(by=answering.actor, via=via, asserted_by_system=answering.asserted_by_system)
        if escalation.kind is EscalationKind.TAKEOVER:
            command = TakeOver(by=answering.actor)
        outcomes = await _with_siblings(tx, escalation, command, now)
        messages = await save_outcomes(tx, outcomes, ids=deps.ids, cause=cause, now=now)
    await deps.relay.publish(messages)
    deps.wake("delivery", "timers")
    return outcomes[0].escalation


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

    An alert that this service has not heard of yet is looked for once in alerting's feed before it is called unknown.
    """
    found = await _escalations_for(deps, principal, alert_ids)
    if alert_ids is not None and len(found) < len(set(alert_ids)):
        await deps.pull_now("alerting")
        found = await _escalations_for(deps, principal, alert_ids)
        if len(found) < len(set(alert_ids)):
            raise NotFound("there is no such alert, or your government was not asked")
    return [
        await acknowledge(deps, principal, escalation_id, contact_id=contact_id, via=via, cause=cause)
        for escalation_id in found
    ]


async def _escalations_for(deps: EscalationDeps, principal: Principal, alert_ids: Sequence[UUID] | None) -> list[UUID]:
    async with deps.intake.transaction() as tx:
        if alert_ids is None:
            alert_ids = await store.find_open_alerts_of(tx, principal.partner)
        found = [
            await store.find_escalation_id(tx, alert_id, principal.partner) for alert_id in dict.fromkeys(alert_ids)
        ]
    return [escalation_id for escalation_id in found if escalation_id is not None]


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
        escalation = await _load_own(tx, principal, escalation_id)
        answering = await _answering(deps, tx, principal, request.contact_id)
        command = TakePosition(
            stance=request.stance,
            by=answering.actor,
            directory=await deps.directories.find_one(tx, escalation.partner),
            answer_by_at=request.answer_by_at,
            note=request.note,
            offer=request.offer,
            estimated_arrival_at=request.estimated_arrival_at,
        )
        outcome = decide(escalation, command, now)
        messages = await save_outcomes(tx, [outcome], ids=deps.ids, cause=cause, now=now)
    await deps.relay.publish(messages)
    deps.wake("delivery", "timers")
    return outcome.escalation


async def take_over(deps: EscalationDeps, principal: Principal, escalation_id: UUID, *, cause: Cause) -> Escalation:
    """A human of raiser or secretariat takes an unreached partner over. `escalation_id` may name either escalation."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        escalation = await store.load_one(tx, escalation_id)
        if escalation is None or not may_see(principal, escalation):
            raise _missing()
        raiser, own = escalation.alert.raiser, principal.partner
        allowed = own == raiser and principal.has(*TAKING_OVER_ROLES)
        if not allowed and not (own == SECRETARIAT and principal.has(Role.SECRETARIAT, Role.DUTY_OFFICER)):
            raise Forbidden("only the raising government's officers and the secretariat take a partner over")
        if not principal.is_person:
            raise Forbidden("only a person can take a partner over", code="person_required")
        outcomes = await _with_siblings(tx, escalation, TakeOver(by=principal.actor()), now)
        messages = await save_outcomes(tx, outcomes, ids=deps.ids, cause=cause, now=now)
    await deps.relay.publish(messages)
    deps.wake("timers")
    return outcomes[0].escalation


async def raise_level(deps: EscalationDeps, principal: Principal, escalation_id: UUID, *, cause: Cause) -> Escalation:
    """The secretariat raises a level now, without waiting for the deadline."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        escalation = await store.load_one(tx, escalation_id)
        if escalation is None or not may_see(principal, escalation):
            raise _missing()
        principal.require(Role.SECRETARIAT)
        directory = await deps.directories.find_one(tx, escalation.partner)
        outcome = decide(escalation, RaiseLevel(by=principal.actor(), directory=directory), now)
        messages = await save_outcomes(tx, [outcome], ids=deps.ids, cause=cause, now=now)
    await deps.relay.publish(messages)
    deps.wake("delivery", "timers")
    return outcome.escalation


async def _with_siblings(tx: Transaction, escalation: Escalation, command: Input, now: datetime) -> list[Outcome]:
    """The decision, first for the escalation that was named; a takeover is one act on all that belong to it."""
    outcome = decide(escalation, command, now)
    if not isinstance(command, TakeOver):
        return [outcome]
    subject = escalation.subject_partner or escalation.partner
    siblings = await store.load_takeovers(tx, escalation.alert.alert_id, subject)
    unreached = await store.find_escalation_id(tx, escalation.alert.alert_id, subject)
    if unreached is not None:
        siblings += await store.load_many(tx, [unreached])
    others = [e for e in siblings if e.id != escalation.id and _can_be_taken_over(e)]
    return [outcome, *(decide(e, command, now) for e in others)]


def _can_be_taken_over(escalation: Escalation) -> bool:
    if escalation.kind is EscalationKind.TAKEOVER:
        return escalation.state is not EscalationState.ENDED
    return escalation.state is EscalationState.UNREACHED


async def _load_own(tx: Transaction, principal: Principal, escalation_id: UUID) -> Escalation:
    escalation = await store.load_one(tx, escalation_id)
    if escalation is None or not may_see(principal, escalation):
        raise _missing()
    if escalation.partner != principal.partner:
        raise Forbidden("only the partner that is asked can answer", code="not_your_escalation")
    if not (escalation.partner == SECRETARIAT and principal.has(Role.SECRETARIAT)):
        principal.require(*ANSWERING_ROLES)
    return escalation


async def _answering(deps: EscalationDeps, tx: Transaction, principal: Principal, contact_id: UUID | None) -> Answering:
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


def may_see(principal: Principal, escalation: Escalation) -> bool:
    """Whether the caller may know of this escalation: the partner asked, the raiser, and the secretariat.

    Another addressed partner may, if the alert makes answers visible. Who may not gets the answer for a missing one.
    """
    if not may_read(principal):
        return False
    if principal.partner in (escalation.partner, escalation.alert.raiser, SECRETARIAT):
        return True
    return escalation.kind is not EscalationKind.TAKEOVER and principal.partner in escalation.alert.answers_visible_to


def may_read(principal: Principal) -> bool:
    """Whether the caller's roles read escalations at all; administrators, auditors and roster managers alone do not."""
    return principal.is_service or principal.has(*SEEING_ROLES)


def _missing() -> NotFound:
    return NotFound("there is no such escalation")
