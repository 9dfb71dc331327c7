"""The board: alert × partner, live."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from services.console.apis import SignedOut
from services.console.live import CHECKED_SECONDS, Hub, facts_of
from services.console.web import HEADERS, Face, menu_of
from services.console.words import as_instant, reader_of

MARK_MAX = 60


def add_routes(routes: APIRouter, face: Face, hub: Hub) -> None:
    """Adds the page and its stream."""

    @routes.get("/")
    async def show_board(request: Request, wall: Annotated[bool, Query()] = False) -> Response:
        """Everything that the reader may see of what is open; `wall` for a screen that nobody touches."""
        session = await face.session(request)
        if all(address != "/" for address, _name in menu_of(session)):
            return RedirectResponse(
                (menu_of(session) or [("/alerts", "")])[0][0], status_code=303, headers=dict(HEADERS)
            )
        await hub.check(session)
        audience = hub.audience(session)
        await audience.ready(session)
        age_seconds = (face.deps.clock.now() - as_instant(audience.as_of)).total_seconds() if audience.as_of else 0.0
        facts = facts_of(audience, reader_of(request))
        return face.page(request, "board.html", session, wall=wall, age_seconds=max(0.0, age_seconds), **facts)

    @routes.get("/board/stream")
    async def stream_board(request: Request, seen: Annotated[str, Query(max_length=MARK_MAX)] = "") -> Response:
        """Pieces of the page as they change, and every two seconds the age of its data."""
        session = await face.session(request)
        await hub.check(session, within_seconds=CHECKED_SECONDS)
        audience = hub.audience(session)
        source = audience.follow(session, reader_of(request), request.headers.get("last-event-id") or seen)

        async def still_signed_in() -> bool:
            found = await face.sessions.find(request.cookies.get(face.sessions.cookie_name))
            try:
                await hub.check(session, within_seconds=CHECKED_SECONDS)
            except SignedOut:
                return False
            return found is not None

        return face.deps.streams.respond(session.principal, source, allowed=still_signed_in)
