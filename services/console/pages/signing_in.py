"""Sign in and out, and what the reader chooses: language, zone, theme."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from services.console.apis import Down, Refused
from services.console.web import HEADERS, WRITTEN_BY, Face, owner_of
from services.console.words import LANGUAGE_COOKIE, LANGUAGES, THEME_COOKIE, THEMES, Reader, _, reader_of

PREFERENCE_SECONDS = 365 * 24 * 3600
PATH_CHARACTERS_MAX = 1000
KEPT = "kept."
"""Begins the names of fields that a form had sent when its session was over."""

_FIELDS: Mapping[str, str] = {
    "act": _("Button pressed"),
    "headline": _("What has happened, in one line"),
    "countries": _("Country"),
    "instruction": _("What is asked"),
    "description": _("What is known"),
    "precedence": _("How fast"),
    "to": _("Who must answer"),
    "for_information": _("For information"),
    "tlp": _("Who may read"),
    "self_release_reason": _("Why no second person can release"),
    "stance": _("Our answer"),
    "offer": _("What we can offer"),
    "note": _("Note"),
}
"""Fields of our forms as their pages name them; any other is shown by the name that it is sent under."""
_VALUES: Mapping[tuple[str, str], str] = {
    ("act", "draft"): _("Draft for a second person"),
    ("act", "release"): _("Release now"),
    ("act", "preview"): _("Preview: whom it wakes"),
    ("stance", "committed"): _("We can"),
    ("stance", "declined"): _("We cannot"),
    ("stance", "considering"): _("We will tell you in"),
    ("stance", "noted"): _("Noted"),
}
_SECRET = frozenset({"code", "subscription", "client_secret"})
"""Fields that are shown without what stands in them."""
_MARKS = frozenset({"key", "seen", "version"})
"""Fields that a form carries for itself, and nobody has typed."""


def shown_before_sending(kept: Iterable[tuple[str, str]], reader: Reader) -> list[tuple[str, str | None]]:
    """What a kept form would send, for its reader to judge: names and values; None stands for a secret."""
    typed: dict[str, list[str]] = {}
    for name, value in kept:
        if name not in _MARKS and value.strip():
            typed.setdefault(name, []).append(reader.say(_VALUES[name, value]) if (name, value) in _VALUES else value)
    return [
        (reader.say(_FIELDS[name]) if name in _FIELDS else name, None if name in _SECRET else ", ".join(values))
        for name, values in typed.items()
    ]


def own_path(path: str) -> str:
    """The path if it leads to a page of ours, else the board: nobody is sent elsewhere by a link to our sign-in."""
    plain = path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable()
    return path if plain and len(path) <= PATH_CHARACTERS_MAX else "/"


def add_routes(routes: APIRouter, face: Face) -> None:
    """Adds the pages."""

    @routes.get("/sign-in")
    async def show_sign_in(
        request: Request, after: Annotated[str, Query(max_length=2000)] = "/", over: bool = False
    ) -> Response:
        """The form. Where a reader has left, and nobody has come since, the browser lets go of what was typed.

        A link elsewhere that says so is not believed.
        """
        own = request.headers.get("sec-fetch-site", "same-origin") == "same-origin"
        forget = over and own and await face.session_or_none(request) is None
        return face.page(
            request,
            "sign_in.html",
            None,
            after=own_path(after),
            kept=[],
            trouble=None,
            client_id="",
            forget=forget,
        )

    @routes.post("/sign-in")
    async def sign_in(request: Request) -> Response:
        """Begins a session; what a form had sent before is then offered again."""
        fields = await face.form(request, None)
        client_id, after = fields.get("client_id", "").strip(), own_path(fields.get("after", "/"))
        pairs = await face.form_pairs(request)
        kept = [(name.removeprefix(KEPT), value) for name, value in pairs if name.startswith(KEPT)]
        try:
            token = await face.apis.sign_in(client_id, fields.get("client_secret", "").strip())
        except (Refused, Down) as error:
            trouble = "down" if isinstance(error, Down) else error.code
            return face.page(
                request,
                "sign_in.html",
                None,
                status=503 if isinstance(error, Down) else error.status,
                after=after,
                kept=kept,
                trouble=trouble,
                client_id=client_id,
            )
        value = await face.sessions.begin(token, face.cause(request))
        response: Response = RedirectResponse(after, status_code=303, headers=dict(HEADERS))
        typed = [(name, text) for name, text in kept if name != WRITTEN_BY]
        session = await face.sessions.find(value) if typed else None
        # Somebody else who signs in on that page does not get to see it.
        if typed and dict(kept).get(WRITTEN_BY) == owner_of(session):
            shown = shown_before_sending(typed, reader_of(request))
            response = face.page(request, "resume.html", session, after=after, kept=typed, shown=shown)
        response.set_cookie(face.sessions.cookie_name, value, **face.sessions.cookie_options)
        return response

    @routes.post("/sign-out")
    async def sign_out(request: Request) -> Response:
        """Ends the session."""
        session = await face.session(request)
        await face.form(request, session)
        await face.sessions.end(request.cookies.get(face.sessions.cookie_name), face.cause(request, session))
        response = RedirectResponse("/sign-in?over=1", status_code=303, headers=dict(HEADERS))
        response.delete_cookie(face.sessions.cookie_name, **face.sessions.cookie_options)
        return response

    @routes.post("/preferences")
    async def set_preferences(request: Request) -> Response:
        """Keeps language and theme in cookies, and goes back to the page."""
        fields = await face.form(request, await face.session_or_none(request))
        response = RedirectResponse(own_path(fields.get("after", "/")), status_code=303, headers=dict(HEADERS))
        options = {**face.sessions.cookie_options, "max_age": PREFERENCE_SECONDS}
        if fields.get("language") in LANGUAGES:
            response.set_cookie(LANGUAGE_COOKIE, fields["language"], **options)
        if fields.get("theme") in THEMES:
            response.set_cookie(THEME_COOKIE, fields["theme"], **options)
        return response
