"""The HTTP face of hand-overs: which there are, and signing one. No rule lives here."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from services.escalation.deps import EscalationDeps
from services.escalation.hand_overs import handlers as hand_overs
from services.escalation.hand_overs.domain import NOTE_CHARACTERS_MAX, SIGNED_AHEAD_MAX, HandOverState, Side
from services.escalation.hand_overs.handlers import HandOver, Signature
from shared.contracts import EscalationKind, EscalationState, Precedence
from shared.problems import ProblemType, declare_problems, problem_responses
from shared.security import Principal
from shared.web import UtcDateTime, authenticated, cause_of

declare_problems(
    {
        "hand_over_not_yet": ProblemType(
            409,
            "It is too early to sign",
            "Sign from two hours before the shift begins: then it is clear what is open.",
        ),
        "hand_over_past": ProblemType(409, "The rota has been handed over again", "Sign the newest hand-over."),
        "not_your_hand_over": ProblemType(
            403, "Others hand over here", "Whoever hands over and whoever takes over sign, each for themselves."
        ),
    }
)


class SignatureRequest(BaseModel):
    """Signs for whoever calls."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"note": "Ottawa promised a list by six; call them if it does not come."}, {}]},
    )

    note: str | None = Field(
        default=None,
        max_length=NOTE_CHARACTERS_MAX,
        description="For the other one, who alone can read it. No personal data of displaced people, ever.",
    )


class OpenEscalationView(BaseModel):
    """An escalation in which something is still owed."""

    escalation_id: UUID
    alert_id: UUID
    reference: str
    precedence: Precedence
    kind: EscalationKind
    state: EscalationState
    level: int


class SignatureView(BaseModel):
    """One of the two, and what they have signed."""

    contact_id: UUID
    name: str | None = Field(description="Null once the person has left the duty plan.")
    title: str | None
    signed_at: UtcDateTime | None
    note: str | None = Field(description="Shown to the two alone.")
    open_escalations: list[OpenEscalationView] | None = Field(
        description="What was open when they signed; null before, and to whoever sees no escalations."
    )


class HandOverView(BaseModel):
    """A change from one person to the next. Until both have signed, both are paged."""

    id: UUID
    rota_id: UUID
    rota: str
    state: HandOverState
    outgoing: SignatureView
    incoming: SignatureView
    start_at: UtcDateTime = Field(description="When the incoming person's shift begins.")
    until_at: UtcDateTime = Field(description="When their time ends as far as the duty plan knows; so long it counts.")
    signed_from: UtcDateTime = Field(description="From when on it can be signed.")
    own_side: Side | None = Field(description="Which of the two you are; null for anybody else.")


class HandOversView(BaseModel):
    """The hand-overs of the last and the coming 24 hours, and every one that still counts."""

    hand_overs: list[HandOverView]
    open_escalations: list[OpenEscalationView] = Field(
        description="Your government's escalations that are open now: what is handed over."
    )


def add_routes(routes: APIRouter, deps: EscalationDeps) -> None:
    """Adds the routes by which shifts are handed over."""
    caller = authenticated(deps)

    @routes.get(
        "/v1/hand-overs",
        tags=["Hand-overs"],
        summary="Hand-overs between shifts",
        response_model=HandOversView,
        responses=problem_responses("not_found", "role_missing", "invalid"),
    )
    async def list_hand_overs(
        principal: Principal = Depends(caller),
        partner: Annotated[
            str | None, Query(min_length=2, max_length=2, description="Your own government's code; left out, the same.")
        ] = None,
        state: Annotated[HandOverState | None, Query(description="Only those in this state.")] = None,
    ) -> HandOversView:
        """Your government's hand-overs in rotas that want them signed, from its newest duty plan, in order of time:
        who hands over to whom, who has signed, and which escalations are open.
        """
        found = await hand_overs.list_hand_overs(deps, principal, partner, state)
        return HandOversView(
            hand_overs=[_view(one) for one in found.hand_overs],
            open_escalations=[OpenEscalationView.model_validate(one) for one in found.open_escalations],
        )

    @routes.post(
        "/v1/hand-overs/{hand_over_id}/signature",
        tags=["Hand-overs"],
        summary="Sign a hand-over",
        response_model=HandOverView,
        responses=problem_responses(
            "not_found",
            "role_missing",
            "person_required",
            "not_your_hand_over",
            "hand_over_not_yet",
            "hand_over_past",
            "invalid",
        ),
    )
    async def sign_hand_over(
        hand_over_id: Annotated[UUID, Path(description="The hand-over's id.")],
        body: SignatureRequest,
        request: Request,
        principal: Principal = Depends(caller),
    ) -> HandOverView:
        """Signs for yourself, as the one who hands over or the one who takes over, from two hours before the shift
        begins until the next change. Once both have signed, only the incoming person is paged at further levels.

        The signature keeps which escalations were open. It needs no `Idempotency-Key`: a second one changes nothing.
        """
        cause = cause_of(request, principal)
        return _view(await hand_overs.sign_hand_over(deps, principal, hand_over_id, body.note, cause=cause))


def _view(found: HandOver) -> HandOverView:
    change = found.change
    return HandOverView(
        id=change.id,
        rota_id=change.rota_id,
        rota=change.rota,
        state=found.state,
        outgoing=_signature(found.outgoing),
        incoming=_signature(found.incoming),
        start_at=change.start_at,
        until_at=change.until_at,
        signed_from=change.start_at - SIGNED_AHEAD_MAX,
        own_side=found.own_side,
    )


def _signature(signature: Signature) -> SignatureView:
    listed = signature.open_escalations
    return SignatureView(
        contact_id=signature.contact_id,
        name=signature.contact.name if signature.contact is not None else None,
        title=signature.contact.title if signature.contact is not None else None,
        signed_at=signature.signed_at,
        note=signature.note,
        open_escalations=None if listed is None else [OpenEscalationView.model_validate(one) for one in listed],
    )
