"""Questions back to the raiser: a partner that is asked wants to know something before it answers.

A question goes to the raiser's officers on duty and its systems. The answer goes to all who were asked, because what
one government needs to know the others need, too; who wanted to know stays between the two. Asked or answered again in
the same words, it is the same question and the same answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.escalation import store
from services.escalation.deps import EscalationDeps
from services.escalation.model import Escalation, about
from services.escalation.saving import announce
from services.escalation.store import Row
from services.escalation.talk import store as question_store
from shared.contracts import Actor, EscalationKind, EscalationState, QuestionAnswered, QuestionAsked
from shared.db import Transaction
from shared.errors import Conflict, Invalid
from shared.events import Cause, Event, Message

QUESTION_CHARACTERS_MAX = 2000
ANSWER_CHARACTERS_MAX = 2000

QUESTIONS_MAX = 50
"""Of one partner about one alert: more than a person asks, and an end to a system that runs wild."""

QUESTIONS_SHOWN_MAX = 20_000
"""Fifty of each of four hundred partners: no limit is met below what can be asked."""


@dataclass(frozen=True, slots=True)
class Asking:
    """Who asks for a partner, and by which way."""

    actor: Actor
    via: str = "api"
    page_id: UUID | None = None


def checked_text(text: str, field: str, characters_max: int) -> str:
    """A person's words, without what surrounds them; raises `Invalid` for none and for too many."""
    said = text.replace("\r\n", "\n").strip()
    if not said:
        raise Invalid("say it in words", code="required", field=field)
    if len(said) > characters_max:
        raise Invalid(f"at most {characters_max} characters", code="too_long", field=field)
    return said


async def ask(
    deps: EscalationDeps,
    tx: Transaction,
    escalation_id: UUID,
    asking: Asking,
    question: str,
    *,
    cause: Cause,
    now: datetime,
) -> tuple[UUID, list[Message[Event]]]:
    """Writes a question of the escalation's partner; returns its id, and what to publish after the commit.

    Who may ask for the partner is the caller's to check. Raises `Conflict` where nothing can be asked any more.
    """
    question = checked_text(question, "text", QUESTION_CHARACTERS_MAX)
    escalation = await store.load_one(tx, escalation_id)
    assert escalation is not None, "escalations are never deleted"
    _check_open(escalation)
    if (same := await question_store.find_same(tx, escalation_id, question)) is not None:
        return same["id"], []
    if await question_store.count_questions(tx, escalation.alert.alert_id, escalation.partner) >= QUESTIONS_MAX:
        raise Conflict(
            f"your government has asked {QUESTIONS_MAX} questions about this alert", code="too_many_questions"
        )
    event = QuestionAsked(
        **about(escalation),
        question_id=deps.ids.new(),
        asked_at=now,
        asked_by=asking.actor,
        question=question,
        via=asking.via,
        page_id=asking.page_id,
    )
    await question_store.insert_question(tx, event)
    return event.question_id, await announce(tx, [event], ids=deps.ids, cause=cause, now=now)


def _check_open(escalation: Escalation) -> None:
    if escalation.kind is not EscalationKind.ANSWER:
        raise Conflict("only a partner that is asked for an answer asks back", code="no_position_asked")
    if escalation.state is EscalationState.ENDED:
        raise Conflict("the alert has ended: ask the raiser's duty office", code="escalation_ended")


async def answer(
    deps: EscalationDeps, tx: Transaction, question: Row, by: Actor, text: str, *, cause: Cause, now: datetime
) -> list[Message[Event]]:
    """Writes the raiser's answer to a question that is locked; returns what to publish after the commit."""
    said = checked_text(text, "text", ANSWER_CHARACTERS_MAX)
    if question["answered_at"] is not None:
        if question["answer"] == said:
            return []
        raise Conflict("this question has its answer", code="question_answered")
    asked = await question_store.find_partners_asked(tx, question["alert_id"])
    event = QuestionAnswered(
        alert_id=question["alert_id"],
        question_id=question["id"],
        raiser=question["raiser"],
        partner=question["partner"],
        asked=tuple(sorted({question["partner"], *(row["partner"] for row in asked)})),
        question=question["question"],
        answer=said,
        answered_at=now,
        answered_by=by,
    )
    await question_store.save_answer(tx, question["id"], said, now, by)
    return await announce(tx, [event], ids=deps.ids, cause=cause, now=now)
