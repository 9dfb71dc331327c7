"""The delivery log: what was sent to the reader's own systems, what they answered, and once more on request."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from services.console.apis import Missing, Refused
from services.console.board_view import REASONS
from services.console.web import HEADERS, Face

SHOWN = 50

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
