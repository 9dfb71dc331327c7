"""What makes the console an application of a telephone: its manifest, its worker, its offline page, push messages.

The promise: nothing of the console is shown from a store as if it were live. The worker keeps the offline page and the
files that pages are drawn with, and nothing else. A push subscription joins the contact points that are there.
"""

from __future__ import annotations

from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from services.console.apis import Answer, Down, Missing, Refused
from services.console.sessions import Session
from services.console.web import HEADERS, Face, render, static_url
from services.console.words import THEMES, _, reader_of

NAME = "Red Phone"
ICONS = (
    ("icon-192.png", "192x192", "any"),
    ("icon-512.png", "512x512", "any"),
    ("icon-maskable-192.png", "192x192", "maskable"),
    ("icon-maskable-512.png", "512x512", "maskable"),
)
OFFLINE_FILES = ("style.css", "mark.svg", "icons.svg")
"""What the offline page is drawn with."""
SUBSCRIPTION_CHARACTERS_MAX = 4_000
LABEL_CHARACTERS_MAX = 80
CHANGES_TRIED_MAX = 3
OWN_POINTS = "/v1/me/contact-points"
OWN_PAGE = "/roster/me"


def add_routes(routes: APIRouter, face: Face) -> None:
    """Adds what needs no session: browsers ask for it by themselves; and the two routes of push messages."""

    @routes.get("/manifest.webmanifest")
    async def get_manifest(request: Request) -> Response:
        """What the application is called, and how it looks on a home screen."""
        reader = reader_of(request)
        manifest = {
            "id": "/",
            "name": NAME,
            "short_name": NAME,
            "description": reader.say(_("Alerts among governments: who was told, who has answered, who must be called.")),
            "lang": reader.language,
            "dir": reader.direction,
            "start_url": "/",
            "scope": "/",
            "display": "standalone",
            "background_color": "#f5f5f2",
            "theme_color": "#c4122f",
            "icons": [
                {"src": static_url(name), "sizes": sizes, "type": "image/png", "purpose": purpose}
                for name, sizes, purpose in ICONS
            ],
            "shortcuts": [
                {"name": reader.say(_("Acknowledge")), "url": "/acknowledge"},
                {"name": reader.say(_("Board")), "url": "/"},
            ],
        }
        return Response(orjson.dumps(manifest), media_type="application/manifest+json", headers=dict(HEADERS))

    @routes.get("/service-worker.js")
    async def get_worker(request: Request) -> Response:
        """The worker in the reader's language. It changes with the files that it keeps, so browsers replace it."""
        script = render(
            "service-worker.js",
            reader_of(request),
            files=[static_url(name) for name in (*OFFLINE_FILES, ICONS[0][0])],
            icon=static_url(ICONS[0][0]),
        )
        headers = {**HEADERS, "Cache-Control": "no-cache", "Service-Worker-Allowed": "/"}
        return Response(script, media_type="text/javascript; charset=utf-8", headers=headers)

    @routes.get("/offline")
    async def show_offline(request: Request, theme: Annotated[str, Query(max_length=10)] = "auto") -> Response:
        """The page that a browser shows when it reaches nothing."""
        chosen = theme if theme in THEMES else "auto"
        return face.page(request, "offline.html", None, theme=chosen)

    @routes.get("/push/key")
    async def get_push_key(request: Request) -> Response:
        """The key that a browser subscribes with; 404 where this installation sends no push messages."""
        session = await face.session(request)
        key = await face.apis.get(session, "escalation", "/v1/push/key")
        return Response(orjson.dumps(key), media_type="application/json", headers=dict(HEADERS))

    @routes.post("/push/subscription")
    async def add_push_point(request: Request) -> Response:
        """Adds a browser's subscription as a contact point of the reader, and sends the code that proves it."""
        session = await face.session(request)
        form = await face.form(request, session)
        subscription = form.get("subscription", "")[: SUBSCRIPTION_CHARACTERS_MAX + 1]
        label = form.get("label", "").strip()[:LABEL_CHARACTERS_MAX] or reader_of(request).say(_("This browser"))
        point_id = await _add_point(face, session, subscription, label)
        said = "push"
        try:
            await face.apis.call(
                session, "escalation", "POST", f"/v1/contact-points/{point_id}/verification", json={}
            )
        except (Refused, Missing, Down):
            # The point is kept all the same; its owner asks for another code on their page.
            said = "push_kept"
        return RedirectResponse(f"{OWN_PAGE}?said={said}", status_code=303, headers=dict(HEADERS))


async def _add_point(face: Face, session: Session, subscription: str, label: str) -> str:
    """The id of the contact point that this subscription is, after it has been added beside the others."""
    for tried in range(CHANGES_TRIED_MAX):
        seen = await face.apis.call(session, "roster", "GET", OWN_POINTS)
        points = [{name: one.get(name) for name in _KEPT} for one in seen.body["items"]]
        known = _point_of(seen, subscription)
        if known is not None and known["address"] == subscription:
            break
        added = {"channel": "push", "address": subscription, "label": label}
        if known is None:
            points.append(added)
        else:
            points = [{**one, **added} if one["id"] == known["id"] else one for one in points]
        try:
            await face.apis.call(session, "roster", "PUT", OWN_POINTS, json={"points": points}, etag=seen.etag)
            break
        except Refused as refusal:
            # Somebody has changed the points in between: they are read again, so that no change is lost.
            if refusal.status != 412 or tried + 1 == CHANGES_TRIED_MAX:
                raise
    found = _point_of(await face.apis.call(session, "roster", "GET", OWN_POINTS), subscription)
    if found is None:
        raise Missing("the contact point is gone again")
    return str(found["id"])


_KEPT = ("id", "channel", "label", "delay_seconds")
"""What is sent of a point that stays; its address is left out, so it stays as well."""


def _point_of(seen: Answer, subscription: str) -> dict[str, Any] | None:
    """The contact point of the same browser, whatever else its subscription says now."""
    points: list[dict[str, Any]] = seen.body["items"]
    wanted = endpoint_of(subscription)
    return next((one for one in points if one["channel"] == "push" and endpoint_of(one["address"]) == wanted), None)


def endpoint_of(subscription: str) -> str:
    """Where a push service takes the messages of a subscription; the text itself if it is none."""
    try:
        said = orjson.loads(subscription)
    except orjson.JSONDecodeError:
        return subscription
    endpoint = said.get("endpoint") if isinstance(said, dict) else None
    return endpoint if isinstance(endpoint, str) else subscription
