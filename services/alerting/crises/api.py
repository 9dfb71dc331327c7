"""The HTTP face of crises. No rule lives here."""

from __future__ import annotations

from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response

from services.alerting import views
from services.alerting.bodies import CrisisBody, CrisisEdit
from services.alerting.crises import handlers, store
from services.alerting.crises.domain import CrisisState
from services.alerting.face import Face, needs_key, reader, viewer_of
from services.alerting.views import CrisisView
from shared.errors import NotFound
from shared.idempotency import OptionalIdempotencyKey
from shared.paging import PAGE_SIZE_DEFAULT, CursorText, Page, PageSize, decode_cursor, encode_cursor
from shared.problems import problem_responses
from shared.security import Principal
from shared.web import IfMatchHeader, etag_of


def add_routes(routes: APIRouter, face: Face) -> None:
    """Adds the routes of crises."""

    @routes.post(
        "/v1/crises",
        tags=["Crises"],
        summary="Open a crisis",
        status_code=201,
        response_model=None,
        responses={
            201: {"model": CrisisView, "description": "The crisis."},
            **problem_responses("idempotency_key_missing", "role_missing", "id_taken"),
        },
    )
    async def open_crisis(
        *, request: Request, principal: Principal = Depends(face.caller), body: CrisisBody, key: OptionalIdempotencyKey
    ) -> Response:
        """Opens a crisis that alerts can belong to. An alert that names none opens its own."""
        needs_key(key or body.id)
        answer = await handlers.open_crisis(
            face.deps,
            await face.call_of(request, principal, key),
            name=body.name,
            countries=body.countries,
            tlp=body.tlp,
            state=body.state,
            crisis_id=body.id,
        )
        return answer.response()

    @routes.get(
        "/v1/crises",
        tags=["Crises"],
        summary="Crises that you may see, the newest first",
        responses=problem_responses("role_missing", "cursor_invalid"),
    )
    async def list_crises(
        *,
        principal: Principal = Depends(face.caller),
        limit: PageSize = PAGE_SIZE_DEFAULT,
        cursor: CursorText = None,
        state: CrisisState | None = None,
    ) -> Page[CrisisView]:
        """Your partner's own crises, those of alerts addressed to it, and those for the whole network."""
        viewer = reader(principal)
        before = None if cursor is None else decode_cursor(cursor, UUID)[0]
        async with face.deps.intake.transaction() as tx:
            found = await store.find_crises(tx, viewer, state=state, before=before, limit=limit + 1)
        shown = [views.crisis_view(crisis) for crisis in found[:limit]]
        return Page(items=shown, next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None)

    @routes.get(
        "/v1/crises/{crisis_id}",
        tags=["Crises"],
        summary="One crisis",
        response_model=None,
        responses={200: {"model": CrisisView, "description": "The crisis."}, **problem_responses("not_found")},
    )
    async def show_crisis(*, principal: Principal = Depends(face.caller), crisis_id: UUID) -> Response:
        """The crisis, if you may see it; its alerts are `GET /v1/alerts?crisis_id=`."""
        async with face.deps.intake.transaction() as tx:
            found = await store.find_crisis(tx, viewer_of(principal), crisis_id)
        if found is None:
            raise NotFound("there is no such crisis")
        view = views.crisis_view(found)
        return Response(view.model_dump_json(), media_type="application/json", headers={"ETag": etag_of(found.version)})

    @routes.patch(
        "/v1/crises/{crisis_id}",
        tags=["Crises"],
        summary="Move a crisis on",
        response_model=None,
        responses={
            200: {"model": CrisisView, "description": "The crisis as it is now."},
            **problem_responses(
                "role_missing",
                "not_yours",
                "not_found",
                "crisis_goes_forward",
                "precondition_failed",
                "precondition_required",
            ),
        },
    )
    async def move_crisis(
        *,
        request: Request,
        principal: Principal = Depends(face.caller),
        crisis_id: UUID,
        body: CrisisEdit,
        if_match: IfMatchHeader,
    ) -> Response:
        """Moves your partner's crisis to a later state: activated, stood down, closed."""
        call = await face.call_of(request, principal, None)
        answer = await handlers.move_crisis(face.deps, call, crisis_id, body.state, check_version=if_match.require)
        return answer.response()
