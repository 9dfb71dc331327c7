"""Statistics: how fast partners acknowledge, drills apart, with coverage, heartbeats and readiness."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Annotated, Any, TypeVar

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.console import statistics_view as view
from services.console.apis import Down, Missing, Refused
from services.console.board_view import CHANNELS
from services.console.csv_text import csv_response
from services.console.sessions import Session
from services.console.web import Face
from services.console.words import reader_of
from shared.contracts import SECRETARIAT, Role
from shared.web import render_instant

T = TypeVar("T")

FAILING_SHOWN_MAX = 50
SCORES_SHOWN_MAX = 400
HISTORIES_MAX = 40
"""So many partners' readiness is drawn over time for the secretariat; of the others the present score is shown."""
AT_ONCE = 8
READINESS_DAYS_MAX = 365

Typed = Annotated[str, Query(max_length=20)]


def add_routes(routes: APIRouter, face: Face) -> None:
    """Adds the page and its download."""

    async def find(session: Session, asked: view.PeriodAsked, status: str) -> Any:
        params = {"from": render_instant(asked.from_at), "to": render_instant(asked.to_at), "status": status}
        return await face.apis.get(session, "escalation", "/v1/statistics", **params)

    @routes.get("/statistics")
    async def show_statistics(
        request: Request,
        days: Typed = "",
        first: Annotated[str, Query(alias="from", max_length=20)] = "",
        last: Annotated[str, Query(alias="to", max_length=20)] = "",
    ) -> Response:
        """The period's tables; what an API that is down would have said is missing, and is named."""
        session = await face.session(request)
        asked, reader = view.period_asked(days, first, last, face.deps.clock.now()), reader_of(request)
        down: list[str] = []
        refusal: Refused | None = None

        async def unless(read: Awaitable[T], instead: T) -> T:
            nonlocal refusal
            try:
                return await read
            except Down as error:
                down.append(error.api)
            except Missing:
                pass
            except Refused as error:
                # Whoever may not see a part is not told that there is one; a period that is refused is explained.
                refusal = error if error.status == 422 else refusal
            return instead

        real, drills, beats, readiness = await asyncio.gather(
            unless(find(session, asked, "Actual"), None),
            unless(find(session, asked, "drills"), None),
            unless(_heartbeats(face, session), None),
            unless(_readiness(face, session, min(asked.days, READINESS_DAYS_MAX)), None),
        )
        return face.page(
            request,
            "statistics.html",
            session,
            asked=asked,
            parts=[("Actual", real), ("drills", drills)],
            beats=beats,
            readiness=readiness,
            down=sorted(set(down)),
            refusal=refusal,
            days_offered=view.DAYS_OFFERED,
            channels=CHANNELS,
            duration=view.duration,
            bars=view.bars,
            bars_text=lambda counts, bounds: view.bars_text(counts, bounds, reader),
            bars_size=(view.bars_width(len(real["buckets_seconds"]) + 1 if real else 0), view.BARS_HEIGHT),
            line=view.line,
            line_size=(view.LINE_WIDTH, view.LINE_HEIGHT),
        )

    @routes.get("/statistics.csv")
    async def download_statistics(
        request: Request,
        days: Typed = "",
        first: Annotated[str, Query(alias="from", max_length=20)] = "",
        last: Annotated[str, Query(alias="to", max_length=20)] = "",
    ) -> Response:
        """The same numbers as a table, drills marked as such."""
        session = await face.session(request)
        asked = view.period_asked(days, first, last, face.deps.clock.now())
        found = [await find(session, asked, status) for status in ("Actual", "drills")]
        name = f"red-phone-statistics-{asked.first}-{asked.last}.csv"
        return csv_response(name, view.csv_head(found[0]["buckets_seconds"]), view.csv_rows(found))


async def _heartbeats(face: Face, session: Session) -> dict[str, Any]:
    """How many paths are in each state, and those that fail."""
    page = await face.apis.get(session, "escalation", "/v1/heartbeats", state="failing", limit=FAILING_SHOWN_MAX)
    return {"counts": page["counts"], "failing": page["items"]}


async def _readiness(face: Face, session: Session, days: int) -> list[dict[str, Any]]:
    """The reader's own readiness over time; for the secretariat everybody's, over time for the first of them."""
    me, limit = session.principal, asyncio.Semaphore(AT_ONCE)

    async def one(code: str) -> dict[str, Any]:
        async with limit:
            found: dict[str, Any] = await face.apis.get(session, "roster", f"/v1/partners/{code}/readiness", days=days)
            return found

    if me.partner != SECRETARIAT or not me.has(Role.SECRETARIAT):
        return [await one(me.partner)]
    scores = await face.apis.items(session, "roster", "/v1/readiness", limit=SCORES_SHOWN_MAX)
    drawn = await asyncio.gather(*(one(score["partner"]) for score in scores[:HISTORIES_MAX]))
    return [*drawn, *({**score, "history": []} for score in scores[HISTORIES_MAX:])]
