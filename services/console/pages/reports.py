"""The after-action draft of one alert, to print and as a table."""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from services.console import after_action
from services.console.apis import Down, Missing
from services.console.board_view import CHANNELS, GAPS, REASONS
from services.console.csv_text import csv_response
from services.console.pages.alerts import TIMELINE_MAX, AlertRef
from services.console.sessions import Session
from services.console.statistics_view import duration
from services.console.timeline import STANCES, happened
from services.console.web import Face
from services.console.words import reader_of

ESCALATIONS_MAX = 1000
DETAILS_MAX = 250
"""Escalations whose every attempt is read: more than there are partners."""
AT_ONCE = 8


def add_routes(routes: APIRouter, face: Face) -> None:
    """Adds the report and its download."""

    @routes.get("/alerts/{alert}/report")
    async def show_report(request: Request, alert: AlertRef) -> Response:
        """What happened, on paper: times, attempts, what failed, questions, goals, and lines to write on."""
        session, reader = await face.session(request), reader_of(request)
        shown = await face.apis.get(session, "alerting", f"/v1/alerts/{alert}")
        context = await _context(face, session, shown)
        info = shown["info"] or []
        chosen = next((one for one in info if one["language"].split("-")[0] == reader.language), None)
        return face.page(
            request,
            "report.html",
            session,
            **{**context, "timeline": [happened(entry, reader) for entry in context["timeline"]]},
            alert=shown,
            chosen=chosen or (info[0] if info else None),
            goals=after_action.goals(context["timeline"]),
            stances=STANCES,
            gaps=GAPS,
            reasons=REASONS,
            channels=CHANNELS,
            duration=duration,
        )

    @routes.get("/alerts/{alert}/report.csv")
    async def download_report(request: Request, alert: AlertRef) -> Response:
        """The partners' courses as a table. It is whole, or there is none."""
        session = await face.session(request)
        shown = await face.apis.get(session, "alerting", f"/v1/alerts/{alert}")
        context = await _context(face, session, shown)
        if "escalation" in context["down"]:
            raise Down("escalation")
        rows = after_action.csv_rows(shown, context["courses"])
        return csv_response(f"{shown['reference']}.csv", after_action.CSV_HEAD, rows)


async def _context(face: Face, session: Session, alert: dict[str, Any]) -> dict[str, Any]:
    """What the report is made of. What an API that is down would have said is missing, and is named."""
    down: set[str] = set()
    limit = asyncio.Semaphore(AT_ONCE)

    async def unless_down(read: Any, instead: Any) -> Any:
        async with limit:
            try:
                return await read
            except Down as error:
                down.add(error.api)
            except Missing:
                pass
            return instead

    apis, alert_id = face.apis, alert["id"]
    timeline, escalations, questions = await asyncio.gather(
        unless_down(apis.items(session, "alerting", f"/v1/alerts/{alert_id}/timeline", limit=TIMELINE_MAX), []),
        unless_down(apis.items(session, "escalation", "/v1/escalations", limit=ESCALATIONS_MAX, alert_id=alert_id), []),
        unless_down(apis.get(session, "escalation", "/v1/questions", alert_id=alert_id), {"questions": []}),
    )
    wanted = [one["id"] for one in escalations if one["kind"] != "takeover"][:DETAILS_MAX]
    details = await asyncio.gather(
        *(unless_down(apis.get(session, "escalation", f"/v1/escalations/{one}"), None) for one in wanted)
    )
    known = {one["id"]: one for one in details if one is not None}
    return {
        "timeline": timeline,
        "courses": after_action.courses(escalations, known),
        "questions": questions["questions"],
        "down": sorted(down),
    }
