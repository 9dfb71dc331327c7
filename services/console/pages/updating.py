"""Update a released alert: the form of a new one, filled with what was said, for those whom it has reached.

The promise: what was not changed is not sent, so an update of one line leaves areas, times and translations as they
are; a changed text replaces all of them, and the form says so beforehand.
"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from services.console.apis import Missing, Refused
from services.console.pages.alerts import AlertRef
from services.console.pages.raising import PRECEDENCES, TEXTS, WORDS_MAX, Typed, countries
from services.console.sessions import Session
from services.console.web import HEADERS, Face
from services.console.words import reader_of


def add_routes(routes: APIRouter, face: Face) -> None:
    """Adds the page."""

    @routes.get("/alerts/{alert}/update")
    async def show_update(request: Request, alert: AlertRef) -> Response:
        """The form with what the alert says now."""
        session = await face.session(request)
        shown = await _own(face, session, alert)
        return await _form(face, request, session, shown, said_by(shown), fresh=True)

    @routes.post("/alerts/{alert}/update")
    async def update(request: Request, alert: AlertRef) -> Response:
        """Drafts the update for a second person, or releases it at once with a reason."""
        session = await face.session(request)
        typed = Typed(await face.form(request, session))
        shown = await _own(face, session, alert)
        alone = typed.get("act") == "release"
        body = changes(said_by(shown), typed, reader_of(request).language)
        if alone:
            body["self_release_reason"] = typed.get("self_release_reason")
        try:
            answer = await face.apis.call(
                session,
                "alerting",
                "POST",
                f"/v1/alerts/{shown['id']}/updates",
                json=body,
                key=typed.get("key") or None,
            )
        except Refused as error:
            return await _form(face, request, session, shown, typed, refusal=error)
        said = "release" if alone else "drafted"
        return RedirectResponse(f"/alerts/{answer.body['id']}?said={said}", status_code=303, headers=dict(HEADERS))


def said_by(alert: dict[str, Any]) -> Typed:
    """What the alert says, as the form shows it: the text that governs, and not its translations."""
    info: dict[str, Any] = next((one for one in alert["info"] or () if not one["is_translation"]), {})
    values = {name: info.get(name) or "" for name in TEXTS}
    return Typed({**values, "precedence": alert["precedence"], "countries": ", ".join(alert["countries"] or ())})


def changes(before: Typed, typed: Typed, language: str) -> dict[str, Any]:
    """What the API is sent: all three texts if one of them was changed, and each other thing that was."""
    body: dict[str, Any] = {"asks_anew": bool(typed.get("asks_anew"))}
    if any(typed.get(name) != before.get(name) for name in TEXTS):
        body |= {name: typed.get(name) for name in TEXTS}
    if typed.country_codes(language) != before.country_codes(language):
        body["countries"] = typed.country_codes(language)
    if typed.get("precedence") != before.get("precedence"):
        body["precedence"] = typed.get("precedence")
    return body


async def _own(face: Face, session: Session, alert: str) -> dict[str, Any]:
    shown: dict[str, Any] = await face.apis.get(session, "alerting", f"/v1/alerts/{alert}")
    if shown["raiser"] != session.principal.partner:
        raise Missing("only its raiser updates an alert")
    return shown


async def _form(
    face: Face,
    request: Request,
    session: Session,
    alert: dict[str, Any],
    typed: Typed,
    *,
    refusal: Refused | None = None,
    fresh: bool = False,
) -> Response:
    return face.page(
        request,
        "update.html",
        session,
        status=refusal.status if refusal is not None else 200,
        alert=alert,
        typed=typed,
        precedences=PRECEDENCES,
        countries=countries(reader_of(request).language),
        refusal=refusal,
        faults=refusal.by_field if refusal is not None else {},
        words_max=WORDS_MAX,
        fresh=fresh,
        key=typed.get("key") or str(face.deps.ids.new()),
    )
