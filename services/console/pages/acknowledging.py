"""Acknowledge: what the reader's government is asked now, a button for each and one for all, then its answer.

Made for a telephone: one column, no script needed. What was acknowledged stays on the page until the government has
said what it will do, or the alert has ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from services.console.board_view import owes_acknowledgement
from services.console.pages.alerts import CONSIDERING_HOURS
from services.console.web import Face

SHOWN_MAX = 200
"""Of each state. More alerts than that are open at once nowhere; the board shows them all."""

_STATES = ("pending", "notified", "unreached", "acknowledged", "considering")
_PRECEDENCES = ("FLASH", "IMMEDIATE", "PRIORITY", "ROUTINE")


def add_routes(routes: APIRouter, face: Face) -> None:
    """Adds the page."""

    @routes.get("/acknowledge")
    async def show_asked(request: Request, said: Annotated[str | None, Query(max_length=40)] = None) -> Response:
        """What is asked now, the most urgent first; below it, what waits for a position."""
        session = await face.session(request)
        partner = session.principal.partner
        found = await asyncio.gather(
            *(
                face.apis.items(
                    session,
                    "escalation",
                    "/v1/escalations",
                    limit=SHOWN_MAX,
                    partner=partner,
                    kind="answer",
                    state=state,
                )
                for state in _STATES
            )
        )
        running = [one for some in found for one in some if one["alert"]["ended_at"] is None]
        return face.page(
            request,
            "acknowledge.html",
            session,
            asked=_urgent_first(one for one in running if owes_acknowledgement(one)),
            answered=_urgent_first(one for one in running if not owes_acknowledgement(one)),
            hours=CONSIDERING_HOURS,
            said=said,
            key=lambda: str(face.deps.ids.new()),
        )


def _urgent_first(escalations: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    def urgency(one: dict[str, Any]) -> tuple[bool, int, str]:
        alert = one["alert"]
        due = one["acknowledge_by"] or alert["expires_at"]
        return alert["status"] != "Actual", _PRECEDENCES.index(alert["precedence"]), due

    return sorted(escalations, key=urgency)
