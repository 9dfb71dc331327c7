"""The HTTP face of what a person keeps of themselves: their own contact points. No rule lives here.

It needs no role: whoever has a person's credential that belongs to a contact keeps that contact's points, and sees
nobody else's. That a point works is verified at escalation, which owns the channels.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request
from starlette.responses import Response

from services.roster import bodies, domain, handlers, views
from services.roster.addresses import url_fault
from services.roster.api_owned import answer_of
from services.roster.bodies import OwnPointsBody
from services.roster.domain import Contact
from services.roster.handlers import Call, RosterDeps, missing
from services.roster.views import OwnPoints, Written
from shared.egress import policy_of
from shared.idempotency import StoredResponse
from shared.problems import ProblemType, declare_problems, problem_responses
from shared.security import Principal
from shared.web import IfMatchHeader, authenticated, cause_of, etag_of

declare_problems(
    {
        "not_a_contact": ProblemType(
            403, "You are no contact", "Have your roster manager tie your credential to your contact."
        ),
    }
)

PointId = Annotated[UUID, Path(description="The contact point's id.")]


def add_routes(routes: APIRouter, deps: RosterDeps) -> None:
    """Adds the routes by which a person keeps their own contact points."""
    caller = authenticated(deps)

    @routes.get(
        "/v1/me/contact-points",
        summary="Your own contact points",
        response_model=OwnPoints,
        responses=problem_responses("not_a_contact", "not_found"),
    )
    async def list_own_points(principal: Principal = Depends(caller)) -> Response:
        """How you are reached, with whole addresses, in your order. Your colleagues see them masked."""
        stored, contact, failing = await handlers.own_contact(deps, principal)
        return answer_of(views.own_points_view(contact, failing), stored.version)

    @routes.put(
        "/v1/me/contact-points",
        summary="Replace your own contact points",
        response_model=Written,
        responses=problem_responses(
            "not_a_contact", "not_found", "invalid", "precondition_failed", "precondition_required"
        ),
    )
    async def replace_own_points(
        body: OwnPointsBody, request: Request, if_match: IfMatchHeader, principal: Principal = Depends(caller)
    ) -> Response:
        """Replaces them all. One that is named by its id keeps its address if that is left out, and when it worked.

        A new or changed address is unverified until you return the code that
        `POST /v1/contact-points/{id}/verification` sends there; in an emergency it is tried all the same, last.
        """

        def change(contact: Contact) -> Contact:
            settings = deps.settings
            rule = partial(url_fault, policy_of(settings), chat_schemas=settings.chat_schemas)
            changed = bodies.with_own_points(body, contact, ids=deps.ids, url_fault=rule)
            domain.require(domain.contact_faults(changed), "The input is wrong; nothing was changed.")
            return changed

        call = Call(principal, cause_of(request, principal), if_match.require)
        return await _changed(deps, call, change)

    @routes.post(
        "/v1/me/contact-points/{point_id}/confirmation",
        summary="Confirm a contact point",
        response_model=Written,
        responses=problem_responses("not_a_contact", "not_found"),
    )
    async def confirm_own_point(
        point_id: PointId, request: Request, principal: Principal = Depends(caller)
    ) -> Response:
        """Says that this is still how you are reached. Everybody is asked to say so every 90 days."""
        now = deps.clock.now()

        def change(contact: Contact) -> Contact:
            if all(point.id != point_id for point in contact.points):
                raise missing("contact point")
            points = (replace(one, confirmed_at=now) if one.id == point_id else one for one in contact.points)
            return replace(contact, points=tuple(points))

        return await _changed(deps, Call(principal, cause_of(request, principal)), change)


async def _changed(deps: RosterDeps, call: Call, change: handlers.ContactChange) -> Response:
    def answer(version: int) -> StoredResponse:
        assert call.principal.contact_id is not None, "only contacts come this far"
        written = Written(id=call.principal.contact_id, version=version)
        return StoredResponse.json(200, written, {"ETag": etag_of(version)})

    return (await handlers.change_own_points(deps, call, change, answer=answer)).response()
