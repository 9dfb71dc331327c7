"""Alerts: the list, one alert with all that happened to it, and what its people may do about it."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from services.console.apis import Down, Missing, Refused
from services.console.board_view import GAPS, attempt_text, row_of
from services.console.sessions import Session
from services.console.timeline import STANCES, happened
from services.console.web import HEADERS, Face
from services.console.words import reader_of
from services.console.world import HEIGHT, WIDTH, area_map
from shared.web import render_instant

LISTED_MAX = 50
TIMELINE_MAX = 2000
ASKED = "/acknowledge"
DRAFTING = frozenset({"drafter", "releaser", "duty_officer"})
CONSIDERING_HOURS = (1, 2, 4, 8, 12, 24, 48)

AlertRef = Annotated[str, Path(max_length=40, pattern=r"^[A-Za-z0-9-]+$")]
EscalationRef = Annotated[str, Path(max_length=40, pattern=r"^[A-Za-z0-9-]+$")]


def add_routes(routes: APIRouter, face: Face) -> None:
    """Adds the pages and their acts."""
    _reading(routes, face)
    _acting(routes, face)


def _reading(routes: APIRouter, face: Face) -> None:
    @routes.get("/alerts")
    async def list_alerts(request: Request, state: Annotated[str | None, Query(max_length=20)] = None) -> Response:
        """The newest alerts that the reader may see; drafts wait at the top for a second person."""
        session = await face.session(request)
        alerts = await face.apis.items(session, "alerting", "/v1/alerts", limit=LISTED_MAX, state=state or None)
        drafts = [alert for alert in alerts if alert["state"] == "draft"]
        rest = [alert for alert in alerts if alert["state"] != "draft"]
        return face.page(request, "alerts.html", session, drafts=drafts, alerts=rest, state=state or "")

    @routes.get("/alerts/{alert}")
    async def show_alert(
        request: Request, alert: AlertRef, said: Annotated[str | None, Query(max_length=40)] = None
    ) -> Response:
        """One alert: what it says, where, who was told, what came back, and what may be done now."""
        session = await face.session(request)
        shown = await face.apis.get(session, "alerting", f"/v1/alerts/{alert}")
        context = await _context(face, request, session, shown)
        return face.page(request, "alert.html", session, **context, said=said)


async def _context(face: Face, request: Request, session: Session, alert: dict[str, Any]) -> dict[str, Any]:
    """All that the pages of one alert show. What an API that is down would have said is missing, and is named."""
    reader, down = reader_of(request), []

    async def unless_down(read: Any, instead: Any) -> Any:
        try:
            return await read
        except Down as error:
            down.append(error.api)
            return instead
        except Missing:
            return instead

    path = f"/v1/alerts/{alert['id']}"
    timeline, escalations, questions = await asyncio.gather(
        unless_down(face.apis.items(session, "alerting", f"{path}/timeline", limit=TIMELINE_MAX), []),
        unless_down(face.apis.items(session, "escalation", "/v1/escalations", alert_id=alert["id"]), []),
        unless_down(face.apis.get(session, "escalation", "/v1/questions", alert_id=alert["id"]), {"questions": []}),
    )
    row = row_of(alert["id"], escalations, None) if escalations else None
    info = alert["info"] or []
    chosen = next((one for one in info if one["language"].split("-")[0] == reader.language), info[0] if info else None)
    me = session.principal
    roles = {role.value for role in me.roles}
    is_own = alert["raiser"] == me.partner
    is_author = (alert.get("drafted_by") or {}).get("subject") == me.subject
    running = alert["state"] == "released" and alert["ended_at"] is None
    return {
        "alert": alert,
        "chosen": chosen,
        "map": area_map(alert["countries"] or [], [area for one in info[:1] for area in one["areas"]]),
        "map_size": (WIDTH, HEIGHT),
        "timeline": [happened(entry, reader) for entry in timeline],
        "row": row,
        "escalations": {one["id"]: one for one in escalations},
        "questions": questions["questions"],
        "attempt": lambda cell: attempt_text(cell, reader),
        "gaps": GAPS,
        "stances": STANCES,
        "hours": CONSIDERING_HOURS,
        "down": sorted(set(down)),
        "running": running,
        "may_release": is_own and alert["state"] == "draft" and bool(roles & {"releaser", "duty_officer"}),
        "may_update": is_own and running and alert["superseded_by"] is None and bool(roles & DRAFTING),
        "may_end": is_own and running and bool(roles & {"releaser", "duty_officer"}),
        "may_answer": bool(roles & {"duty_officer", "senior_contact"}),
        "may_take_over": bool(roles & {"secretariat"}) or (is_own and "duty_officer" in roles),
        "wrote_some": False,
        "has_changed": False,
        "confirmed_precedence": "",
        "is_author": is_author,
        # Only a releaser can be the second person.
        "needs_reason": is_author or "releaser" not in roles,
        "key": str(face.deps.ids.new()),
    }


def _acting(routes: APIRouter, face: Face) -> None:
    @routes.post("/alerts/{alert}/{act}")
    async def act_on_alert(request: Request, alert: AlertRef, act: str) -> Response:
        """Releases, recalls, stands down, or addresses more partners."""
        session = await face.session(request)
        form = await face.form(request, session)
        reason = form.get("self_release_reason", "").strip() or None
        note = form.get("note", "").strip() or None
        bodies: dict[str, dict[str, Any]] = {
            "release": {"precedence": form.get("precedence", ""), "self_release_reason": reason},
            "cancel": {"note": note or "", "self_release_reason": reason},
            "close": {"note": note, "self_release_reason": reason},
            "recipients": {
                "to": codes_of(form.get("to", "")),
                "for_information": codes_of(form.get("for_information", "")),
                "self_release_reason": reason,
            },
        }
        if act not in bodies:
            raise Missing("there is no such act")
        # Only what the page has shown is released.
        version = form.get("version", "")
        etag = f'"{version if version.isascii() and version.isdecimal() else 0}"' if act == "release" else None
        try:
            await face.apis.call(
                session,
                "alerting",
                "POST",
                f"/v1/alerts/{alert}/{act}",
                json=bodies[act],
                key=form.get("key"),
                etag=etag,
            )
        except Refused as error:
            if act != "release" or error.code not in ("second_person_needed", "precondition_failed"):
                raise
            shown = await face.apis.get(session, "alerting", f"/v1/alerts/{alert}")
            context = await _context(face, request, session, shown)
            if error.code == "precondition_failed":
                context["has_changed"] = True
            else:
                # The alert names whoever began it; that others have written in it is known from this refusal alone.
                context |= {"wrote_some": True, "needs_reason": True, "confirmed_precedence": bodies[act]["precedence"]}
            return face.page(request, "alert.html", session, status=error.status, **context, said=None)
        return _back(f"/alerts/{alert}", act)

    @routes.post("/escalations/{escalation}/{act}")
    async def act_on_escalation(request: Request, escalation: EscalationRef, act: str) -> Response:
        """Acknowledges, takes a position, takes over, or raises the level now."""
        session = await face.session(request)
        form = await face.form(request, session)
        path = f"/v1/escalations/{escalation}"
        if act == "position":
            body: dict[str, Any] = {"stance": form.get("stance", "")}
            if body["stance"] == "considering":
                hours = form.get("hours", "")
                until = face.deps.clock.now() + timedelta(hours=min(int(hours), 999) if hours.isdigit() else 0)
                body["answer_by"] = render_instant(until)
            body |= {name: text for name in ("note", "offer") if (text := form.get(name, "").strip())}
            await face.apis.call(session, "escalation", "POST", f"{path}/position", json=body, key=form.get("key"))
        elif act in ("acknowledgement", "takeover", "raise-level"):
            await face.apis.call(session, "escalation", "POST", f"{path}/{act}", json={}, key=form.get("key"))
        else:
            raise Missing("there is no such act")
        if form.get("after") == ASKED:
            return _back(ASKED, act)
        return _back(f"/alerts/{form.get('alert', '')}" if form.get("alert") else "/", act, f"cell-{escalation}")

    @routes.post("/acknowledge-all")
    async def acknowledge_all(request: Request) -> Response:
        """Acknowledges everything that the reader's government is asked."""
        session = await face.session(request)
        form = await face.form(request, session)
        await face.apis.call(
            session, "escalation", "POST", "/v1/acknowledgements", json={"alert_ids": "all"}, key=form.get("key")
        )
        return _back(ASKED, "all")


def codes_of(text: str) -> list[str]:
    """Partner codes as people write them: separated by commas or spaces, in small letters too."""
    return [part.upper() for part in text.replace(",", " ").split()]


def _back(path: str, said: str, anchor: str = "") -> Response:
    mark = f"#{anchor}" if anchor else ""
    return RedirectResponse(f"{path}?said={quote(said)}{mark}", status_code=303, headers=dict(HEADERS))
