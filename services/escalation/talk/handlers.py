"""What raiser and partner say to each other by API and command line: questions, their answers, and read-backs.

Every act is one transaction on intake's own connections, and is answered after its commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from services.escalation import store
from services.escalation.answers import answering_of, find_own, find_visible
from services.escalation.deps import EscalationDeps
from services.escalation.model import AlertFacts
from services.escalation.reading import sees_escalations
from services.escalation.store import Row
from services.escalation.talk import questions, read_backs
from services.escalation.talk import store as question_store
from services.escalation.talk.questions import Asking
from shared.contracts import SECRETARIAT, Role
from shared.db import Transaction
from shared.errors import Forbidden, NotFound
from shared.events import Cause
from shared.security import Principal

RAISER_ROLES = (Role.DUTY_OFFICER, Role.RELEASER, Role.SENIOR_CONTACT)
"""Who speaks for the raiser."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A question as the caller may see it."""

    row: Row
    sees_asker: bool
    """Which government wanted to know."""
    sees_person: bool
    sees_text: bool
    sees_answerer: bool


async def ask_question(
    deps: EscalationDeps,
    principal: Principal,
    escalation_id: UUID,
    text: str,
    *,
    contact_id: UUID | None,
    cause: Cause,
) -> Shown:
    """Asks the raiser. The same words again, while they wait for an answer, are the same question."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        await find_own(tx, principal, escalation_id)
        answering = await answering_of(deps, tx, principal, contact_id)
        asking = Asking(answering.actor)
        question_id, messages = await questions.ask(deps, tx, escalation_id, asking, text, cause=cause, now=now)
        shown = await _shown(tx, principal, question_id)
    await deps.relay.publish(messages)
    return shown


async def answer_question(
    deps: EscalationDeps, principal: Principal, question_id: UUID, text: str, *, cause: Cause
) -> Shown:
    """A person of the raiser answers, and all who were asked are told."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        await _shown(tx, principal, question_id)
        question = await question_store.load_question(tx, question_id)
        assert question is not None, "questions are never deleted"
        _check_raiser(principal, question["raiser"])
        messages = await questions.answer(deps, tx, question, principal.actor(), text, cause=cause, now=now)
        shown = await _shown(tx, principal, question_id)
    await deps.relay.publish(messages)
    return shown


async def list_questions(deps: EscalationDeps, principal: Principal, alert_id: UUID) -> list[Shown]:
    """The questions about an alert, oldest first: all for raiser and secretariat; for a partner that was asked its own,
    and what others asked as soon as it is answered.
    """
    async with deps.intake.transaction() as tx:
        facts = await _facts(tx, principal, alert_id)
        rows = await question_store.find_questions(tx, alert_id, questions.QUESTIONS_SHOWN_MAX)
    found = [_as_seen(row, principal, facts) for row in rows]
    return [shown for shown in found if shown is not None]


async def give_read_back(
    deps: EscalationDeps,
    principal: Principal,
    escalation_id: UUID,
    said: read_backs.ReadBack,
    *,
    contact_id: UUID | None,
    cause: Cause,
) -> None:
    """Repeats country, request and time for the caller's government."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        await find_own(tx, principal, escalation_id)
        answering = await answering_of(deps, tx, principal, contact_id)
        giving = Asking(answering.actor)
        messages = await read_backs.give(deps, tx, escalation_id, giving, said, cause=cause, now=now)
    await deps.relay.publish(messages)


async def confirm_read_back(
    deps: EscalationDeps,
    principal: Principal,
    escalation_id: UUID,
    *,
    correct: bool,
    note: str | None,
    cause: Cause,
) -> None:
    """A person of the raiser says whether a read-back is right."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        escalation = await find_visible(tx, principal, escalation_id)
        _check_raiser(principal, escalation.alert.raiser)
        messages = await read_backs.confirm(
            deps, tx, escalation_id, principal.actor(), correct=correct, note=note, cause=cause, now=now
        )
    await deps.relay.publish(messages)
    deps.wake("delivery")


def _check_raiser(principal: Principal, raiser: str) -> None:
    if principal.partner != raiser or not principal.has(*RAISER_ROLES):
        raise Forbidden("only the raising government's officers can say this", code="not_the_raiser")
    if not principal.is_person:
        raise Forbidden("only a person can say this", code="person_required")


async def _shown(tx: Transaction, principal: Principal, question_id: UUID) -> Shown:
    """One question that the caller may see; for anybody else there is none."""
    row = await question_store.find_question(tx, question_id)
    if row is not None:
        shown = _as_seen(row, principal, await _facts(tx, principal, row["alert_id"], "there is no such question"))
        if shown is not None:
            return shown
    raise NotFound("there is no such question")


async def _facts(
    tx: Transaction, principal: Principal, alert_id: UUID, missing: str = "there is no such alert"
) -> AlertFacts:
    """The facts of an alert that the caller may know of: as raiser, as secretariat, or because they were asked."""
    head = (await store.find_heads(tx, [alert_id])).get(alert_id)
    if head is None or head.facts is None or not sees_escalations(principal):
        raise NotFound(missing)
    own = principal.partner in (head.facts.raiser, SECRETARIAT) or principal.is_service
    if not own and await store.find_escalation_id(tx, alert_id, principal.partner) is None:
        raise NotFound(missing)
    return head.facts


def _as_seen(row: Row, principal: Principal, facts: AlertFacts) -> Shown | None:
    """What the caller sees of a question; None if nothing."""
    viewer = principal.partner
    if viewer in (row["raiser"], row["partner"]):
        answerer = viewer == row["raiser"]
        return Shown(row, sees_asker=True, sees_person=True, sees_text=True, sees_answerer=answerer)
    if viewer == SECRETARIAT or principal.is_service:
        # That there is a question is the secretariat's concern; its words are where handling allows them.
        text = not facts.tlp.link_only
        return Shown(row, sees_asker=True, sees_person=False, sees_text=text, sees_answerer=False)
    if row["answered_at"] is None:
        return None
    asker = viewer in facts.answers_visible_to
    return Shown(row, sees_asker=asker, sees_person=False, sees_text=True, sees_answerer=False)
