"""The delivery log: what was sent to the reader's own systems, what they answered, and once more on request; and how
its people and offices were reached, for those who keep the roster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from services.console.apis import Missing, Refused
from services.console.board_view import CHANNELS, REASONS
from services.console.web import HEADERS, Face
from services.console.words import _

SHOWN = 50

KINDS: Mapping[str, str] = {
    "alert.released": _("Alert"),
    "alert.updated": _("Update"),
    "alert.ended": _("End of an alert"),
    "level.raised": _("Position due"),
    "partner.unreached": _("Takeover"),
    "answer.received": _("An answer"),
    "coverage.missed": _("A goal missed"),
    "question.asked": _("A question"),
    "question.answered": _("An answer to a question"),
    "read_back.requested": _("Read-back"),
    "read_back.given": _("Read-back"),
    "notice.issued": _("Notice"),
    "contact_point.verification": _("Verification"),
    "contact_point.failing": _("Notice"),
    "test.ping": _("Test"),
}
"""What a message to a person was, in a word; its text is never shown."""

ThingId = Annotated[str, Path(max_length=40, pattern=r"^[0-9a-f-]+$")]
Text = Annotated[str, Query(max_length=300)]


def add_routes(routes: APIRouter, face: Face) -> None:
    """Adds the pages."""

    @routes.get("/deliveries")
    async def list_deliveries(
        request: Request, endpoint: Text = "", delivered: Text = "", cursor: Text = "", said: Text = ""
    ) -> Response:
        """The newest messages, of one endpoint or of all."""
        session = await face.session(request)
        page = await face.apis.get(
            session,
            "escalation",
            "/v1/deliveries",
            contact_point_id=endpoint or None,
            delivered=delivered or None,
            cursor=cursor or None,
            limit=SHOWN,
        )
        try:
            path = f"/v1/partners/{session.principal.partner}/endpoints"
            endpoints = (await face.apis.get(session, "roster", path))["items"]
        except (Missing, Refused):
            endpoints = []
        return face.page(
            request,
            "deliveries.html",
            session,
            deliveries=page["items"],
            next_cursor=page["next_cursor"],
            endpoints=endpoints,
            endpoint=endpoint,
            delivered=delivered,
            reasons=REASONS,
            said=said,
        )

    @routes.get("/deliveries/people")
    async def list_deliveries_to_people(
        request: Request, point: Text = "", delivered: Text = "", cursor: Text = ""
    ) -> Response:
        """The newest messages to the reader's own people and offices, of one contact point or of all."""
        session = await face.session(request)
        page = await face.apis.get(
            session,
            "escalation",
            "/v1/deliveries",
            kind="people",
            contact_point_id=point or None,
            delivered=delivered or None,
            cursor=cursor or None,
            limit=SHOWN,
        )
        return face.page(
            request,
            "deliveries_people.html",
            session,
            deliveries=page["items"],
            next_cursor=page["next_cursor"],
            point=point,
            delivered=delivered,
            reasons=REASONS,
            channels=CHANNELS,
            kinds=KINDS,
        )

    @routes.get("/deliveries/{delivery}")
    async def show_delivery(request: Request, delivery: ThingId, said: Text = "") -> Response:
        """One message with its body and every attempt."""
        session = await face.session(request)
        one = await face.apis.get(session, "escalation", f"/v1/deliveries/{delivery}")
        return face.page(request, "delivery.html", session, one=one, reasons=REASONS, said=said)

    @routes.post("/deliveries/{delivery}/replay")
    async def replay(request: Request, delivery: ThingId) -> Response:
        """Sends it once more, under the same id."""
        session = await face.session(request)
        await face.form(request, session)
        await face.apis.call(session, "escalation", "POST", f"/v1/deliveries/{delivery}/replay", json={})
        return RedirectResponse(f"/deliveries/{delivery}?said=replayed", status_code=303, headers=dict(HEADERS))

    @routes.post("/endpoints/{endpoint}/ping")
    async def ping(request: Request, endpoint: ThingId) -> Response:
        """Sends a test message to one of the reader's endpoints."""
        session = await face.session(request)
        await face.form(request, session)
        await face.apis.call(session, "escalation", "POST", f"/v1/endpoints/{endpoint}/ping", json={})
        return RedirectResponse(f"/deliveries?endpoint={endpoint}&said=pinged", status_code=303, headers=dict(HEADERS))
