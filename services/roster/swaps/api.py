"""The HTTP face of swaps. No rule lives here.

Whoever has a person's credential that belongs to a contact swaps for themselves and needs no role for it; roster
managers do it on others' behalf. To every other government none of it is there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from services.roster.api_owned import Code, RotaId
from services.roster.handlers import Call, RosterDeps
from services.roster.swaps import handlers
from services.roster.swaps.domain import SwapState
from services.roster.swaps.handlers import Answer, Offer, Outcome
from services.roster.swaps.views import AcceptanceBody, AnswerBody, OfferBody, SwapView, swap_view
from shared import idempotency
from shared.idempotency import OptionalIdempotencyKey, StoredResponse
from shared.paging import PAGE_SIZE_DEFAULT, CursorText, Page, PageSize, decode_cursor, encode_cursor
from shared.problems import ProblemType, declare_problems, problem_responses
from shared.security import Principal
from shared.web import authenticated, cause_of, etag_of

declare_problems(
    {
        "already_offered": ProblemType(
            409, "This time is offered already", "Withdraw the other offer, or offer another time."
        ),
        "too_many_offers": ProblemType(409, "Too many offers wait", "Withdraw one of them."),
        "swap_accepted": ProblemType(
            409, "The swap is accepted", "Read it; offer the stretch anew to change it again."
        ),
        "swap_declined": ProblemType(409, "The swap is declined", "Have it offered anew."),
        "swap_withdrawn": ProblemType(409, "The swap is withdrawn", "Have it offered anew."),
        "swap_expired": ProblemType(
            409, "The swap has expired", "Its time has begun; a roster manager can add an override."
        ),
        "shift_not_held": ProblemType(
            409, "Somebody else holds the shift", "Read the shifts of the rota and offer what is held."
        ),
        "double_duty": ProblemType(
            409, "Two duties at the same time", "Let somebody else take it, or have a roster manager force it."
        ),
        "too_many_overrides": ProblemType(
            409, "The rota has too many overrides", "Have a roster manager remove those that are over."
        ),
        "not_offered_to_you": ProblemType(403, "This is not offered to you", "Ask whoever offers it."),
    }
)

SwapId = Annotated[UUID, Path(description="The swap's id.")]
_STATE = Query(description="Only swaps in this state.")
_READ = problem_responses("not_found", "not_a_contact", "cursor_invalid")
_CLOSED = ("swap_accepted", "swap_declined", "swap_withdrawn", "swap_expired")
_ANSWERED = ("not_found", "not_a_contact", "role_missing", "not_offered_to_you", "invalid", "idempotency_key_reused")


def add_routes(routes: APIRouter, deps: RosterDeps) -> None:
    """Adds the routes of swaps."""
    caller = authenticated(deps)
    acting = _acting(caller)

    def answering(status: int = 200, *, dry_run: bool = False) -> Answer:
        now = deps.clock.now()

        def answer(outcome: Outcome) -> StoredResponse:
            swap = outcome.swap
            headers = {} if dry_run else {"ETag": etag_of(swap.version)}
            if status == 201:
                headers["Location"] = f"/v1/partners/{swap.partner}/swaps/{swap.id}"
            view = swap_view(swap, outcome.state, now=now, double_duty=outcome.double_duty)
            return StoredResponse.json(status, view, headers)

        return answer

    @routes.post(
        "/v1/partners/{code}/rotas/{rota_id}/swaps",
        summary="Offer a stretch of a shift",
        status_code=201,
        response_model=SwapView,
        responses={
            200: {"model": SwapView, "description": "With `dry_run`: what would be offered. Nothing was stored."},
            **problem_responses(
                "not_found",
                "not_a_contact",
                "role_missing",
                "invalid",
                "shift_not_held",
                "already_offered",
                "too_many_offers",
                "idempotency_key_reused",
                "worker_busy",
            ),
        },
    )
    async def offer_swap(
        code: Code,
        rota_id: RotaId,
        body: OfferBody,
        dry_run: Annotated[bool, Query(description="Only say what would be offered, and nobody is told.")] = False,
        call: Call = Depends(acting),
    ) -> Response:
        """Offers what you are on call for to one colleague of the rota, or to all of them, who are told so.

        The whole stretch must be yours; it may be part of a shift, or span several. With `in_return` you take a
        stretch of that colleague's for it. Nothing changes until it is accepted, and the offer expires when the first
        of the stretches begins.
        """
        offer = Offer(
            rota_id,
            body.stretch(),
            body.offered_by,
            body.offered_to,
            None if body.in_return is None else body.in_return.stretch(),
        )
        answer = answering(200 if dry_run else 201, dry_run=dry_run)
        return (await handlers.offer_swap(deps, call, code, offer, dry_run=dry_run, answer=answer)).response()

    @routes.get("/v1/partners/{code}/swaps", summary="List swaps", response_model=Page[SwapView], responses=_READ)
    async def list_swaps(
        code: Code,
        principal: Principal = Depends(caller),
        state: Annotated[SwapState | None, _STATE] = None,
        limit: PageSize = PAGE_SIZE_DEFAULT,
        cursor: CursorText = None,
    ) -> Page[SwapView]:
        """The swaps of your government, the newest first. Those who do not read its rosters see their own, and what is
        open to them.
        """
        before = None if cursor is None else decode_cursor(cursor, UUID)[0]
        found = await handlers.own_swaps(deps, principal, code, state=state, before=before, limit=limit + 1)
        now = deps.clock.now()
        return Page(
            items=[swap_view(one.swap, one.state, now=now) for one in found[:limit]],
            next_cursor=encode_cursor(found[limit - 1].swap.id) if len(found) > limit else None,
        )

    @routes.get("/v1/partners/{code}/swaps/{swap_id}", summary="One swap", response_model=SwapView, responses=_READ)
    async def get_swap(code: Code, swap_id: SwapId, principal: Principal = Depends(caller)) -> Response:
        """One offer, and what became of it."""
        return answering()(await handlers.own_swap(deps, principal, code, swap_id)).response()

    @routes.post(
        "/v1/partners/{code}/swaps/{swap_id}/acceptance",
        summary="Accept a swap",
        response_model=SwapView,
        responses=problem_responses(
            *_ANSWERED, *_CLOSED, "shift_not_held", "double_duty", "too_many_overrides", "worker_busy"
        ),
    )
    async def accept_swap(
        code: Code, swap_id: SwapId, body: AcceptanceBody | None = None, call: Call = Depends(acting)
    ) -> Response:
        """Takes the stretch, and gives what was asked in return. The rota has it at once, and both are told.

        Refused if either no longer holds what they give, or if it puts the taker on two duties at once, unless a
        roster manager forces that. Accepting what you have accepted changes nothing.
        """
        given = body or AcceptanceBody()
        answer = await handlers.accept_swap(
            deps,
            call,
            code,
            swap_id,
            on_behalf_of=given.on_behalf_of,
            force=given.force,
            answer=answering(),
        )
        return answer.response()

    @routes.post(
        "/v1/partners/{code}/swaps/{swap_id}/refusal",
        summary="Decline a swap",
        response_model=SwapView,
        responses=problem_responses(*_ANSWERED, "swap_accepted", "swap_withdrawn", "swap_expired", "swap_declined"),
    )
    async def decline_swap(
        code: Code, swap_id: SwapId, body: AnswerBody | None = None, call: Call = Depends(acting)
    ) -> Response:
        """Says no, without a reason. An offer to everybody stays open for the others until all have said no."""
        given = body or AnswerBody()
        answer = await handlers.decline_swap(
            deps, call, code, swap_id, on_behalf_of=given.on_behalf_of, answer=answering()
        )
        return answer.response()

    @routes.post(
        "/v1/partners/{code}/swaps/{swap_id}/withdrawal",
        summary="Withdraw a swap",
        response_model=SwapView,
        responses=problem_responses("not_found", "not_a_contact", "role_missing", "idempotency_key_reused", *_CLOSED),
    )
    async def withdraw_swap(code: Code, swap_id: SwapId, call: Call = Depends(acting)) -> Response:
        """Takes back an offer that nobody has accepted: your own, or anybody's for a roster manager."""
        return (await handlers.withdraw_swap(deps, call, code, swap_id, answer=answering())).response()


def _acting(caller: Callable[..., Awaitable[Principal]]) -> Callable[..., Awaitable[Call]]:
    """The dependency for doing something, with or without an Idempotency-Key."""

    async def call(request: Request, key: OptionalIdempotencyKey, principal: Principal = Depends(caller)) -> Call:
        attempt = None if key is None else await idempotency.attempt(request, principal, key)
        return Call(principal, cause_of(request, principal), attempt=attempt)

    return call
