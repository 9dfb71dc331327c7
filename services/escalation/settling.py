"""Requests wait for rows: the first pages of a release leave before escalations and pages are stored.

Whoever answers such a page at once must not be told that there is no such thing. A request waits until what its own
process has begun is stored, some hundredths of a second; and while another process is at it, or has died over it, what
is not found is answered with "try again".
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.escalation.answers import is_opening
from services.escalation.deps import EscalationDeps
from shared.errors import ALERT_OPENING, Unavailable
from shared.problems import ProblemType, declare_problems, instance_of, problem_response

declare_problems(
    {
        ALERT_OPENING: ProblemType(
            503, "The alert is just being opened", "Retry with the same Idempotency-Key after Retry-After."
        )
    }
)

WAIT_SECONDS_MAX = 0.3
"""A request waits no longer: what it is about may have nothing to do with what is being opened."""


def wait_for_rows(routes: APIRouter, deps: EscalationDeps) -> None:
    """Lets every route of the router wait."""
    for route in routes.routes:
        if isinstance(route, APIRoute):
            # The link page says by itself, to whoever has a link of ours, that it should be tried again.
            route.app = _Waiting(route.app, deps, says_missing=route.path.startswith("/v1/"))


class _Waiting:
    """One route."""

    def __init__(self, answer: ASGIApp, deps: EscalationDeps, *, says_missing: bool) -> None:
        self._answer = answer
        self._deps = deps
        self._says_missing = says_missing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(WAIT_SECONDS_MAX):
                await self._deps.senders.settled()
        withheld = False

        async def pass_on(message: Message) -> None:
            nonlocal withheld
            if message["type"] == "http.response.start" and message["status"] == 404 and self._says_missing:
                withheld = await self._is_opening()
            if not withheld:
                await send(message)

        await self._answer(scope, receive, pass_on)
        if withheld:
            detail = "this may be there in a moment; try again"
            problem = problem_response(ALERT_OPENING, detail, instance=instance_of(Request(scope)))
            await problem(scope, receive, send)

    async def _is_opening(self) -> bool:
        try:
            return await is_opening(self._deps)
        except Unavailable:
            return False  # what was answered without the database stands
