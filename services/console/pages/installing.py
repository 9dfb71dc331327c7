"""What makes the console an application of a telephone: its manifest, its worker, its offline page.

The promise: nothing of the console is shown from a store as if it were live. The worker keeps the offline page and the
files that it is drawn with, and nothing else. None of this needs a session: browsers ask for it by themselves.
"""

from __future__ import annotations

from typing import Annotated

import orjson
from fastapi import APIRouter, Query, Request
from starlette.responses import Response

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


def add_routes(routes: APIRouter, face: Face) -> None:
    """Adds the manifest, the worker and the offline page."""

    @routes.get("/manifest.webmanifest")
    async def get_manifest(request: Request) -> Response:
        """What the application is called, and how it looks on a home screen."""
        reader = reader_of(request)
        manifest = {
            "id": "/",
            "name": NAME,
            "short_name": NAME,
            "description": reader.say(
                _("Alerts among governments: who was told, who has answered, who must be called.")
            ),
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
