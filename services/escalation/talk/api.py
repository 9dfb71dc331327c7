"""The HTTP face of what raiser and partner say to each other: questions back, and read-backs. No rule lives here."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from services.escalation.deps import EscalationDeps
from services.escalation.store import actor_of
from services.escalation.talk import handlers as talk
from services.escalation.talk import questions, read_backs
from services.escalation.views import EscalationView, View, shown
from shared.problems import ProblemType, declare_problems, problem_responses
from shared.security import Principal
from shared.web import UtcDateTime, authenticated, cause_of

declare_problems(
    {
        "too_many_questions": ProblemType(
            409, "Too many questions", "Call the raiser's duty office; its number is in the alert."
        ),
        "question_answered": ProblemType(
            409, "The question has its answer", "Read it; ask another if it is not enough."
        ),
        "not_the_raiser": ProblemType(403, "Another government raised it", "Only officers of the raiser can say this."),
        "no_read_back_asked": ProblemType(
            409,
            "No read-back is asked for",
            "Acknowledge first; the network's table says at which precedence it is asked.",
        ),
        "no_read_back_given": ProblemType(409, "No read-back was given", "Wait until the partner has repeated it."),
        "read_back_confirmed": ProblemType(409, "The read-back is settled", "Look at the escalation."),
    }
)

EscalationId = Annotated[UUID, Path(description="The escalation's id.")]


class QuestionRequest(BaseModel):
    """A question to the raiser. No personal data of displaced people, ever."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"text": "Are unaccompanied minors among the 200 people?"}]},
    )

    text: str = Field(min_length=1, max_length=questions.QUESTION_CHARACTERS_MAX)
    contact_id: UUID | None = Field(default=None, description="For systems only: the contact who asks.")


class QuestionAnswerRequest(BaseModel):
    """The raiser's answer, for all who were asked."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"text": "Yes, eleven; UNICEF is with them."}]}
    )

    text: str = Field(min_length=1, max_length=questions.ANSWER_CHARACTERS_MAX)


class ReadBackRequest(BaseModel):
    """What was understood, in one's own words."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"country": "Afghanistan", "request": "200 places, transit", "time": "by 04:00 UTC tomorrow"}]
        },
    )

    country: str = Field(min_length=1, max_length=read_backs.READ_BACK_CHARACTERS_MAX)
    request: str = Field(min_length=1, max_length=read_backs.READ_BACK_CHARACTERS_MAX)
    time: str = Field(min_length=1, max_length=read_backs.READ_BACK_CHARACTERS_MAX)
    contact_id: UUID | None = Field(default=None, description="For systems only: the contact who repeats it.")


class ReadBackConfirmation(BaseModel):
    """Whether what was repeated is right."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"correct": True}, {"correct": False, "note": "It is 400 places, not 200."}]},
    )

    correct: bool
    note: str | None = Field(default=None, max_length=read_backs.NOTE_CHARACTERS_MAX)


class QuestionView(View):
    """A question back, with its answer as soon as there is one."""

    id: UUID
    alert_id: UUID
    partner: str | None
    """Who wanted to know; None where that is not yours to see."""
    question: str | None
    """None where the handling label withholds it from you; so with `answer`."""
    asked_at: UtcDateTime
    asked_by: str | None
    """The person's name; shown to their own government and to the raiser."""
    answer: str | None
    answered_at: UtcDateTime | None
    answered_by: str | None
    """Shown to the raiser."""


class Questions(BaseModel):
    """The questions about one alert, oldest first."""

    questions: list[QuestionView]


def add_routes(routes: APIRouter, deps: EscalationDeps) -> None:
    """Questions and read-backs."""
    caller = authenticated(deps)

    @routes.post(
        "/v1/escalations/{escalation_id}/questions",
        tags=["Questions"],
        summary="Ask the raiser",
        status_code=201,
        response_model=QuestionView,
        responses=problem_responses(
            "not_found", "forbidden", "invalid", "no_position_asked", "escalation_ended", "too_many_questions"
        ),
    )
    async def ask_question(
        escalation_id: EscalationId, body: QuestionRequest, request: Request, principal: Principal = Depends(caller)
    ) -> QuestionView:
        """Asks what your government needs to know before it answers. The raiser's officers on duty and its systems are
        told at once; the answer goes to all who were asked, and does not say who wanted to know.

        A question stops nothing: acknowledge as well. It needs no `Idempotency-Key`: the same words again are the same
        question while it waits for its answer.
        """
        shown = await talk.ask_question(
            deps,
            principal,
            escalation_id,
            body.text,
            contact_id=body.contact_id,
            cause=cause_of(request, principal),
        )
        return _view(shown)

    @routes.post(
        "/v1/questions/{question_id}/answer",
        tags=["Questions"],
        summary="Answer a question",
        response_model=QuestionView,
        responses=problem_responses("not_found", "forbidden", "invalid", "question_answered"),
    )
    async def answer_question(
        question_id: Annotated[UUID, Path(description="The question's id.")],
        body: QuestionAnswerRequest,
        request: Request,
        principal: Principal = Depends(caller),
    ) -> QuestionView:
        """Answers for the raising government. Everybody who was asked by the alert is told question and answer."""
        return _view(
            await talk.answer_question(deps, principal, question_id, body.text, cause=cause_of(request, principal))
        )

    @routes.get(
        "/v1/questions",
        tags=["Questions"],
        summary="The questions about an alert",
        response_model=Questions,
        responses=problem_responses("not_found", "invalid"),
    )
    async def list_questions(
        alert_id: Annotated[UUID, Query(description="The alert's id.")], principal: Principal = Depends(caller)
    ) -> Questions:
        """All of them for the raiser and the secretariat. If you were asked: your government's own, and what others
        asked as soon as it is answered.
        """
        return Questions(questions=[_view(shown) for shown in await talk.list_questions(deps, principal, alert_id)])

    @routes.post(
        "/v1/escalations/{escalation_id}/read-back",
        tags=["Read-back"],
        summary="Repeat country, request and time",
        response_model=EscalationView,
        responses=problem_responses("not_found", "forbidden", "invalid", "no_read_back_asked", "read_back_confirmed"),
    )
    async def give_read_back(
        escalation_id: EscalationId, body: ReadBackRequest, request: Request, principal: Principal = Depends(caller)
    ) -> EscalationView:
        """Repeats what your government has understood, where the network asks for that; the raiser confirms it.

        It needs no `Idempotency-Key`: the same words again are the same read-back.
        """
        await talk.give_read_back(
            deps,
            principal,
            escalation_id,
            read_backs.ReadBack(body.country, body.request, body.time),
            contact_id=body.contact_id,
            cause=cause_of(request, principal),
        )
        return await shown(deps, principal, escalation_id)

    @routes.post(
        "/v1/escalations/{escalation_id}/read-back/confirmation",
        tags=["Read-back"],
        summary="Say whether a read-back is right",
        response_model=EscalationView,
        responses=problem_responses("not_found", "forbidden", "invalid", "no_read_back_given", "read_back_confirmed"),
    )
    async def confirm_read_back(
        escalation_id: EscalationId,
        body: ReadBackConfirmation,
        request: Request,
        principal: Principal = Depends(caller),
    ) -> EscalationView:
        """For a person of the raising government. A read-back that is not right is asked for again at once."""
        await talk.confirm_read_back(
            deps,
            principal,
            escalation_id,
            correct=body.correct,
            note=body.note,
            cause=cause_of(request, principal),
        )
        return await shown(deps, principal, escalation_id)


def _view(shown: talk.Shown) -> QuestionView:
    row = shown.row
    asked_by, answered_by = actor_of(row["asked_by"]), actor_of(row["answered_by"])
    return QuestionView(
        id=row["id"],
        alert_id=row["alert_id"],
        partner=row["partner"] if shown.sees_asker else None,
        question=row["question"] if shown.sees_text else None,
        asked_at=row["asked_at"],
        asked_by=asked_by.name if shown.sees_person and asked_by is not None else None,
        answer=row["answer"] if shown.sees_text else None,
        answered_at=row["answered_at"],
        answered_by=answered_by.name if shown.sees_answerer and answered_by is not None else None,
    )
