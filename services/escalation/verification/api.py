"""The HTTP face of verifying contact points: have a code sent, return it. No rule lives here."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from services.escalation.answering import links
from services.escalation.deps import EscalationDeps
from services.escalation.verification import handlers as verification
from services.escalation.verification.handlers import Stage, Verifying
from shared.contracts import ChannelName
from shared.problems import ProblemType, declare_problems, problem_responses
from shared.security import Principal
from shared.web import UtcDateTime, authenticated, cause_of

declare_problems(
    {
        "not_your_contact_point": ProblemType(403, "Another person's contact point", "Ask its owner to verify it."),
        "contact_point_unusable": ProblemType(
            409, "Nothing can be sent there", "Use a channel that this installation sends over, or enter it again."
        ),
        "verification_just_sent": ProblemType(409, "A code was just sent", "Wait a minute before you ask for another."),
        "verification_limit": ProblemType(409, "Too many codes in a day", "Check the address, and try tomorrow."),
        "verification_not_asked": ProblemType(409, "No code was sent", "Ask for one first."),
        "verification_expired": ProblemType(409, "The code holds no more", "Ask for another one."),
        "verification_locked": ProblemType(409, "Too many wrong codes", "Ask for another one."),
        "verification_code_wrong": ProblemType(422, "This is not the code", "Look at the newest message."),
        "endpoint_did_not_answer": ProblemType(
            409, "The system did not answer with 2xx", "Look at its log; the test message was signed like every other."
        ),
    }
)

PointId = Annotated[UUID, Path(description="The contact point's id, or an endpoint's.")]


class ReturnedCode(BaseModel):
    """The code as it was read."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"code": "482913"}]})

    code: str = Field(pattern=f"^[0-9]{{{links.VERIFICATION_DIGITS}}}$", description="Six digits.", examples=["482913"])


class VerificationView(BaseModel):
    """How far the verification of a contact point is."""

    contact_point_id: UUID
    channel: ChannelName
    stage: Stage
    code_valid_until: UtcDateTime | None = Field(default=None, description="Absent once it is verified.")
    tries_left: int | None = Field(default=None, description="Wrong codes that are still possible.")
    verified_at: UtcDateTime | None = None


def add_routes(routes: APIRouter, deps: EscalationDeps) -> None:
    """Adds the routes by which contact points are verified."""
    caller = authenticated(deps)

    @routes.post(
        "/v1/contact-points/{contact_point_id}/verification",
        tags=["Contact points"],
        summary="Verify a contact point",
        response_model=VerificationView,
        responses=problem_responses(
            "not_found",
            "role_missing",
            "not_your_contact_point",
            "contact_point_unusable",
            "verification_just_sent",
            "verification_limit",
            "endpoint_did_not_answer",
        ),
    )
    async def start_verification(
        contact_point_id: PointId, request: Request, principal: Principal = Depends(caller)
    ) -> VerificationView:
        """Sends a code of six digits over that very point, for its owner to return within half an hour.

        For your own points; your roster manager does it for offices and endpoints. A system gets a signed `test.ping`
        instead, and is verified if it answers with 2xx. One code a minute; a new one ends the one before. It needs no
        `Idempotency-Key`: sent again within the minute, it is refused and nothing is sent.
        """
        cause = cause_of(request, principal)
        return _view(await verification.start_verification(deps, principal, contact_point_id, cause=cause))

    @routes.post(
        "/v1/contact-points/{contact_point_id}/verification/code",
        tags=["Contact points"],
        summary="Return the code",
        response_model=VerificationView,
        responses=problem_responses(
            "not_found",
            "role_missing",
            "not_your_contact_point",
            "contact_point_unusable",
            "verification_not_asked",
            "verification_expired",
            "verification_locked",
            "verification_code_wrong",
            "invalid",
        ),
    )
    async def return_code(
        contact_point_id: PointId, body: ReturnedCode, request: Request, principal: Principal = Depends(caller)
    ) -> VerificationView:
        """Says that the code has arrived: the point is verified from now on, until its address changes.

        After five wrong codes it is locked, and another has to be asked for. It needs no `Idempotency-Key`: the right
        code sent again is the same verification.
        """
        cause = cause_of(request, principal)
        return _view(await verification.return_code(deps, principal, contact_point_id, body.code, cause=cause))


def _view(verifying: Verifying) -> VerificationView:
    return VerificationView(
        contact_point_id=verifying.contact_point_id,
        channel=verifying.channel,
        stage=verifying.stage,
        code_valid_until=verifying.code_valid_until,
        tries_left=verifying.tries_left,
        verified_at=verifying.verified_at,
    )
