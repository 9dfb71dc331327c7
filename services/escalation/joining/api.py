"""The HTTP face of changing who is asked: add a contact, stop one's own pages. No rule lives here."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request
from pydantic import BaseModel, ConfigDict, Field

from services.escalation.deps import EscalationDeps
from services.escalation.joining import handlers as asked
from services.escalation.views import EscalationView, shown
from shared.problems import ProblemType, declare_problems, problem_responses
from shared.security import Principal
from shared.web import authenticated, cause_of

declare_problems(
    {
        "pages_stopped": ProblemType(
            409, "This person has stopped their own pages", "Add somebody else, or call them yourself."
        ),
        "unreachable": ProblemType(
            409, "Nothing can be sent to this person", "Add somebody who has a contact point, or call them yourself."
        ),
        "too_many_added": ProblemType(409, "Too many people were added", "Raise the level, or answer."),
    }
)

EscalationId = Annotated[UUID, Path(description="The escalation's id.")]


class AddedContact(BaseModel):
    """Who is to be paged as well."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"contact_id": "01a201d9-0894-76cc-818c-a0f06597d362"}]}
    )

    contact_id: UUID = Field(description="A contact of your own government's duty plan.")


def add_routes(routes: APIRouter, deps: EscalationDeps) -> None:
    """Adds the routes by which the circle of those who are asked changes."""
    caller = authenticated(deps)

    @routes.post(
        "/v1/escalations/{escalation_id}/contacts",
        tags=["Escalations"],
        summary="Page one more person",
        response_model=EscalationView,
        responses=problem_responses(
            "not_found",
            "role_missing",
            "not_your_escalation",
            "invalid",
            "unknown_contact",
            "nothing_to_acknowledge",
            "escalation_ended",
            "already_answered",
            "pages_stopped",
            "unreachable",
            "too_many_added",
        ),
    )
    async def add_escalation_contact(
        escalation_id: EscalationId, body: AddedContact, request: Request, principal: Principal = Depends(caller)
    ) -> EscalationView:
        """Pages a further person of your own government at once, each contact point in its own turn.

        For whoever answers for the government that is asked, while no answer was given. Levels and deadlines stay as
        they are; repeats, corrections and the end reach the added person, too. It needs no `Idempotency-Key`: added
        twice is added once.
        """
        await asked.add_contact(deps, principal, escalation_id, body.contact_id, cause=cause_of(request, principal))
        return await shown(deps, principal, escalation_id)

    @routes.post(
        "/v1/escalations/{escalation_id}/pages/stop",
        tags=["Escalations"],
        summary="Stop your own pages",
        response_model=EscalationView,
        responses=problem_responses("not_found", "not_your_escalation", "person_required"),
    )
    async def stop_pages(
        escalation_id: EscalationId, request: Request, principal: Principal = Depends(caller)
    ) -> EscalationView:
        """Ends your own pages of this escalation, and nobody else's. It is no answer: others go on being asked, at the
        same times as before, and the record says that you stopped. You still hear when the alert ends.

        It needs no `Idempotency-Key`: stopped twice is stopped once.
        """
        await asked.stop_pages(deps, principal, escalation_id, cause=cause_of(request, principal))
        return await shown(deps, principal, escalation_id)
