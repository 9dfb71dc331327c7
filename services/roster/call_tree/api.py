"""The HTTP face of call trees: one document in three forms, each at an address of its own. No rule lives here."""

from __future__ import annotations

import asyncio

from fastapi import APIRouter, Depends, Request
from pydantic import Field
from starlette.responses import HTMLResponse, Response

from services.roster.call_tree import handlers, page
from services.roster.call_tree.document import CallTree
from services.roster.handlers import Call, RosterDeps
from shared.problems import ProblemType, declare_problems, problem_responses
from shared.security import Principal
from shared.web import authenticated, cause_of

declare_problems(
    {
        "call_tree_not_ready": ProblemType(
            503, "The call tree is being made", "Retry after Retry-After; it takes about a minute."
        ),
    }
)

_PROBLEMS = problem_responses("role_missing", "call_tree_not_ready")


class CallTreeView(CallTree):
    """A call tree, and how old it is."""

    age_seconds: int = Field(description="Since it was made; it is renewed daily, and soon after changes.")


def add_routes(routes: APIRouter, deps: RosterDeps) -> None:
    """Adds the routes of call trees."""
    caller = authenticated(deps)

    async def asking(request: Request, principal: Principal = Depends(caller)) -> Call:
        return Call(principal, cause_of(request, principal))

    @routes.get(
        "/v1/call-tree",
        summary="The call tree as a page",
        response_class=HTMLResponse,
        responses={200: {"description": "The page.", "content": {"text/html": {"example": _PAGE}}}, **_PROBLEMS},
    )
    async def get_call_tree_page(call: Call = Depends(asking)) -> Response:
        """Whom to ring at each government, in order, to read and to print; with names and numbers of your own people.

        Of other governments it holds offices, switchboards, embassies and roles. The secretariat's holds nobody's
        people. It was made beforehand, and says when; each time it is fetched stands in the record.
        """
        found = await handlers.fetch_call_tree(deps, call, "html")
        # In a thread, because a page of two hundred governments takes longer than the event loop may stand still.
        html = await asyncio.to_thread(page.page_of, found.document, now=deps.clock.now())
        return HTMLResponse(html, headers=page.HEADERS)

    @routes.get(
        "/v1/call-tree.pdf",
        summary="The call tree as a PDF",
        response_class=Response,
        responses={
            200: {
                "description": "The document, A4.",
                "content": {
                    "application/pdf": {"schema": {"type": "string", "format": "binary"}, "example": "%PDF-1.7 …"}
                },
            },
            **_PROBLEMS,
        },
    )
    async def get_call_tree_pdf(call: Call = Depends(asking)) -> Response:
        """The same to print and to keep in a drawer, marked TLP:AMBER on every page.

        Print it once a week. Letters that its fonts do not have are in their Latin form.
        """
        found = await handlers.fetch_call_tree(deps, call, "pdf")
        name = f"call-tree-{found.made_at:%Y-%m-%d}.pdf"
        headers = {**page.PRIVATE, "Content-Disposition": f'inline; filename="{name}"'}
        return Response(found.pdf, media_type="application/pdf", headers=headers)

    @routes.get(
        "/v1/call-tree.json", summary="The call tree for programs", response_model=CallTreeView, responses=_PROBLEMS
    )
    async def get_call_tree(call: Call = Depends(asking)) -> Response:
        """The same as JSON, with its age."""
        found = await handlers.fetch_call_tree(deps, call, "json")
        age = max(0, int((deps.clock.now() - found.made_at).total_seconds()))
        body = found.document.removesuffix("}") + f',"age_seconds":{age}}}'
        return Response(body, media_type="application/json", headers=page.PRIVATE)


_PAGE = "<!DOCTYPE html><title>Call tree</title>…"
