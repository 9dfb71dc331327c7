"""The board: alert × partner, live."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from services.console.live import Hub
from services.console.web import HEADERS, Face, menu_of
from services.console.words import reader_of


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
        audience = hub.audience(session)
        await audience.ready(session)
        reader = reader_of(request)
        return face.page(
            request,
            "board.html",
            session,
            wall=wall,
            alerts=audience.board(reader),
            needs=audience.needs(reader),
            is_empty=not audience.rows.cells,
            as_of=audience.as_of,
            version=audience.version,
        )

    @routes.get("/board/stream")
    async def stream_board(request: Request, seen: Annotated[int | None, Query(ge=0)] = None) -> Response:
        """Pieces of the page as they change, and every two seconds the age of its data."""
        session = await face.session(request)
        audience = hub.audience(session)
        last = request.headers.get("last-event-id", "")
        version = int(last) if last.isdigit() else seen
        source = audience.follow(session, reader_of(request), version)

        async def still_signed_in() -> bool:
            return await face.sessions.find(request.cookies.get(face.sessions.cookie_name)) is not None

        return face.deps.streams.respond(session.principal, source, allowed=still_signed_in)
