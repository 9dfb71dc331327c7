"""The HTTP face of escalation: status, acknowledgements, positions, takeovers, the board. No rule lives here."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path as FilePath
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from services.escalation import answers, push_key, reading
from services.escalation.answering import link_page
from services.escalation.board import BoardNews, follow_board, read_board
from services.escalation.deliveries import api as api_deliveries
from services.escalation.deps import EscalationDeps
from services.escalation.hand_overs import api as api_hand_overs
from services.escalation.heartbeats import api as api_heartbeats
from services.escalation.joining import api as api_asked
from services.escalation.statistics import api as api_statistics
from services.escalation.talk import api as api_talk
from services.escalation.verification import api as api_points
from services.escalation.views import (
    Board,
    EscalationDetail,
    EscalationView,
    escalation_detail,
    escalation_view,
    shown,
)
from services.escalation.webhooks import WEBHOOKS
from shared.contracts import EscalationKind, EscalationState, PositionStance
from shared.errors import NotFound
from shared.openapi import Documentation, declare_documentation
from shared.paging import PAGE_SIZE_DEFAULT, CursorText, Page, PageSize, decode_cursor, encode_cursor
from shared.problems import ProblemType, declare_problems, problem_responses
from shared.security import Principal
from shared.streams import STREAM_RESPONSES, last_event_id
from shared.web import UtcDateTime, authenticated, cause_of, join, new_router, still_allowed

declare_problems(
    {
        "escalation_ended": ProblemType(409, "The alert has ended", "Nothing is asked of you any more."),
        "already_answered": ProblemType(
            409, "Your government has answered", "Take another position if the answer is no longer right."
        ),
        "no_position_asked": ProblemType(
            409, "No position is asked", "Only a partner that owes an answer takes a position."
        ),
        "not_unreached": ProblemType(
            409, "The partner is not unreached", "Wait until all its levels are spent, or raise the level now."
        ),
        "not_waiting": ProblemType(
            409, "Nobody is waited for", "Look at the state: the partner has answered or ended."
        ),
        "nothing_to_acknowledge": ProblemType(
            409, "No answer is owed", "A partner that is only informed need not acknowledge."
        ),
        "use_takeover": ProblemType(409, "A takeover is taken over", "Use the takeover call."),
        "not_your_escalation": ProblemType(
            403, "Another government is asked", "Only the partner that is asked can answer for itself."
        ),
        "required": ProblemType(422, "Something that is needed was left out", "Give the field that `errors` names."),
        "not_allowed": ProblemType(422, "A field does not belong here", "Leave out the field that `errors` names."),
        "out_of_range": ProblemType(422, "A time is out of range", "Take a time from now to 30 days ahead."),
        "too_long": ProblemType(422, "A text is too long", "Shorten the field that `errors` names."),
        "unknown_contact": ProblemType(
            422, "No such contact in your duty plan", "Name a contact of your own government's rota."
        ),
        "person_required": ProblemType(403, "A person is needed", "Use the credential of a person, not of a system."),
    }
)

declare_documentation("escalation", Documentation(FilePath(__file__).with_name("examples.json"), WEBHOOKS))

EscalationId = Annotated[UUID, Path(description="The escalation's id.")]


class AcknowledgementRequest(BaseModel):
    """Who has received and understood the alert."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{}]})

    contact_id: UUID | None = Field(
        default=None,
        description="For systems only, and required there: the contact of your duty plan who acknowledged. The record"
        " says that your system asserted so. A person acknowledges for themselves and leaves it out.",
    )
    via: Literal["api", "command_line"] = "api"


class AcknowledgementsRequest(AcknowledgementRequest):
    """The same for several alerts, for those who know no escalation id."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"alert_ids": ["01a201d9-0894-76cc-818c-a0f06597d362"]}, {"alert_ids": "all"}]},
    )

    alert_ids: Annotated[list[UUID], Field(min_length=1, max_length=answers.ALERTS_PER_CALL_MAX)] | Literal["all"] = (
        Field(description="Ids of alerts, or `all` that your government still owes an answer to.")
    )


class PositionRequest(BaseModel):
    """The partner's substantive answer. "No" is a valid answer and needs no reason."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"stance": "committed", "offer": "200 places, two charter flights from Islamabad"},
                {"stance": "considering", "answer_by": "2021-08-16T05:00:00Z"},
                {"stance": "declined"},
            ]
        },
    )

    stance: PositionStance
    answer_by: UtcDateTime | None = Field(default=None, description="Required for `considering`, for nothing else.")
    note: str | None = Field(default=None, max_length=2000, description="No personal data of displaced people, ever.")
    offer: str | None = Field(default=None, max_length=2000)
    estimated_arrival: UtcDateTime | None = None
    contact_id: UUID | None = Field(default=None, description="For systems only: the contact who answers.")


class Acknowledgements(BaseModel):
    """The escalations as they stand after the acknowledgement."""

    escalations: list[EscalationView]


def router(deps: EscalationDeps, news: BoardNews) -> APIRouter:
    """All routes of escalation."""
    routes = new_router()
    join(routes, push_key.router(deps.settings, deps.keys))
    caller = authenticated(deps)

    @routes.get(
        "/v1/escalations",
        tags=["Escalations"],
        summary="List escalations",
        response_model=Page[EscalationView],
        responses=problem_responses("invalid"),
    )
    async def list_escalations(
        principal: Principal = Depends(caller),
        alert_id: UUID | None = None,
        partner: Annotated[str | None, Query(pattern="^[A-Z]{2}$")] = None,
        state: EscalationState | None = None,
        kind: EscalationKind | None = None,
        limit: PageSize = PAGE_SIZE_DEFAULT,
        cursor: CursorText = None,
    ) -> Page[EscalationView]:
        """Escalations that you may see, newest first: your government's own, those of alerts that it raised, and for
        the secretariat all.
        """
        after = None
        if cursor is not None:
            opened_at, last_id = decode_cursor(cursor, UtcDateTime, UUID)
            after = (opened_at, last_id)
        wanted = reading.Wanted(
            alert_id=alert_id, partner=partner, state=state, kind=kind, after=after, limit=limit + 1
        )
        async with deps.intake.transaction() as tx:
            rows = await reading.find_cells(tx, principal, wanted)
        page, more = rows[:limit], len(rows) > limit
        return Page(
            items=[escalation_view(row, principal) for row in page],
            next_cursor=encode_cursor(page[-1]["opened_at"], str(page[-1]["id"])) if more else None,
        )

    @routes.get(
        "/v1/escalations/{escalation_id}",
        tags=["Escalations"],
        summary="One escalation with every page and attempt",
        response_model=EscalationDetail,
        responses=problem_responses("not_found"),
    )
    async def get_escalation(escalation_id: EscalationId, principal: Principal = Depends(caller)) -> EscalationDetail:
        """State, level, what happens next and when, every page and attempt with its reason."""
        async with deps.intake.transaction() as tx:
            row = await reading.get_one(tx, principal, escalation_id)
            pages = await reading.find_pages(tx, escalation_id)
            attempts = await reading.find_attempts(tx, [page["id"] for page in pages])
        return escalation_detail(row, pages, attempts, principal)

    @routes.post(
        "/v1/escalations/{escalation_id}/acknowledgement",
        tags=["Escalations"],
        summary="Acknowledge: a named human has it",
        response_model=EscalationView,
        responses=problem_responses("not_found", "forbidden", "invalid", "nothing_to_acknowledge"),
    )
    async def acknowledge(
        escalation_id: EscalationId,
        request: Request,
        body: AcknowledgementRequest = AcknowledgementRequest(),
        principal: Principal = Depends(caller),
    ) -> EscalationView:
        """Says "received and understood" for your government. It stops your government's escalation and no other's.

        Valid in every state, also before the first page has arrived, and late. It needs no `Idempotency-Key`: when an
        answer was lost, send it again; the first acknowledgement stands and nothing happens twice. A person may leave
        the body out. Acknowledging a message that an Update has corrected since acknowledges that Update too, unless it
        asks anew. For an escalation of kind takeover it means that you take the unreached partner over.
        """
        cause = cause_of(request, principal)
        await answers.acknowledge(deps, principal, escalation_id, contact_id=body.contact_id, via=body.via, cause=cause)
        return await shown(deps, principal, escalation_id)

    @routes.post(
        "/v1/acknowledgements",
        tags=["Escalations"],
        summary="Acknowledge by alert",
        response_model=Acknowledgements,
        responses=problem_responses("not_found", "forbidden", "invalid"),
    )
    async def acknowledge_alerts(
        body: AcknowledgementsRequest, request: Request, principal: Principal = Depends(caller)
    ) -> Acknowledgements:
        """Acknowledges for your government by alert id, or `all` that it still owes an answer to.

        Named alerts are acknowledged all or none. An alert that escalation has not heard of yet is looked for once
        before it is answered as missing. It needs no `Idempotency-Key`: sent again, it changes nothing.
        """
        done = await answers.acknowledge_alerts(
            deps,
            principal,
            None if body.alert_ids == "all" else body.alert_ids,
            contact_id=body.contact_id,
            via=body.via,
            cause=cause_of(request, principal),
        )
        return Acknowledgements(escalations=[await shown(deps, principal, escalation.id) for escalation in done])

    @routes.post(
        "/v1/escalations/{escalation_id}/position",
        tags=["Escalations"],
        summary="Take a position",
        response_model=EscalationView,
        responses=problem_responses("not_found", "forbidden", "invalid", "escalation_ended", "already_answered"),
    )
    async def take_position(
        escalation_id: EscalationId, body: PositionRequest, request: Request, principal: Principal = Depends(caller)
    ) -> EscalationView:
        """Answers for your government: committed, declined, noted, considering until a time, or wrong person.

        Whoever takes a position has acknowledged. A position may change until the alert ends; the record keeps each.
        `wrong_person` pages the next level at once and answers nothing: if you had acknowledged yourself, asking begins
        again. A takeover knows no other position. It needs no `Idempotency-Key`: the same position sent again by the
        same person is one position.
        """
        wanted = answers.PositionRequest(
            stance=body.stance,
            contact_id=body.contact_id,
            answer_by_at=body.answer_by,
            note=body.note,
            offer=body.offer,
            estimated_arrival_at=body.estimated_arrival,
        )
        await answers.take_position(deps, principal, escalation_id, wanted, cause=cause_of(request, principal))
        return await shown(deps, principal, escalation_id)

    def act(path: str, summary: str, do: Callable[..., Awaitable[object]], conflict: str, description: str) -> None:
        async def handle(
            escalation_id: EscalationId, request: Request, principal: Principal = Depends(caller)
        ) -> EscalationView:
            await do(deps, principal, escalation_id, cause=cause_of(request, principal))
            return await shown(deps, principal, escalation_id)

        handle.__name__ = do.__name__
        routes.post(
            f"/v1/escalations/{{escalation_id}}/{path}",
            tags=["Escalations"],
            summary=summary,
            description=description,
            response_model=EscalationView,
            responses=problem_responses("not_found", "forbidden", conflict),
        )(handle)

    act(
        "takeover",
        "Take over an unreached partner",
        answers.take_over,
        "not_unreached",
        "A human of the raiser or the secretariat will reach the partner by other means. Both are asked again after 30"
        " minutes, until the partner acknowledges. Sent again by the same person, it is the same takeover.",
    )
    act(
        "raise-level",
        "Raise the level now",
        answers.raise_level,
        "not_waiting",
        "The secretariat pages the next level without waiting for the deadline.",
    )

    @routes.get(
        "/v1/board",
        summary="The board: alert × partner",
        tags=["Board"],
        response_model=Board,
    )
    async def get_board(principal: Principal = Depends(caller)) -> Board:
        """Every escalation that you may see of alerts that are open, or ended within the last hour."""
        return await read_board(deps, principal)

    @routes.get(
        "/v1/board/stream",
        summary="The board as a stream",
        tags=["Board"],
        responses={**STREAM_RESPONSES, **problem_responses("too_many_streams")},
        response_class=Response,
    )
    async def stream_board(
        principal: Principal = Depends(caller), resume: str | None = Depends(last_event_id)
    ) -> Response:
        """Server-sent events: `board` with the whole, then `cells` with what changed, `coverage` with all goals when
        one of them changes, and `as_of` every two seconds.

        Data older than that is STALE: the stream is cut, whatever the connection says. Resumes with `Last-Event-ID`.
        """
        if not reading.sees_escalations(principal):
            raise NotFound("there is no board for your roles")
        source = follow_board(deps, principal, news, resume)
        return deps.streams.respond(principal, source, allowed=still_allowed(deps, principal))

    api_deliveries.add_routes(routes, deps)
    api_heartbeats.add_routes(routes, deps)
    api_asked.add_routes(routes, deps)
    api_hand_overs.add_routes(routes, deps)
    api_points.add_routes(routes, deps)
    api_statistics.add_routes(routes, deps)
    api_talk.add_routes(routes, deps)
    link_page.add_routes(routes, deps)
    return routes
