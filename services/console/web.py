"""How pages are answered: who reads, what they may send, and what is shown when something stands in the way.

The cast: `Face` is what every page works with; `PageRoute` turns what the APIs say into pages: sign in again, there is
no such thing, this was refused, this API is down.

The promise: every page carries the strict policy below; nothing typed is lost when a session has ended; a form that
another site sends is refused before anything is read from it.
"""

from __future__ import annotations

import gzip
import hashlib
import hmac
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import jinja2
from fastapi import APIRouter, Request
from fastapi.routing import APIRoute
from starlette.responses import HTMLResponse, RedirectResponse, Response

from services.console.apis import Apis, Down, Missing, Refused, SignedOut
from services.console.sessions import Session, Sessions
from services.console.words import LANGUAGES, Reader, _, reader_of
from shared.contracts import Role
from shared.events import Cause
from shared.problems import CORRELATION_ID
from shared.process import Deps

FORM_BYTES_MAX = 200_000
FORM_FIELDS_MAX = 500


COMPRESSED_FROM_BYTES = 1000
PAGE_LEVEL = 4
"""A board of four thousand cells is packed in some tens of milliseconds, to a twentieth."""
OWNER_CHARACTERS = 32
WRITTEN_BY = "written-by"
"""Among the fields of a kept form: whose page it was, as `owner_of` says it."""
STATIC_AGE_SECONDS = 365 * 24 * 3600

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self';"
    " connect-src 'self'; manifest-src 'self'; worker-src 'self'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Referrer-Policy": "same-origin",
    "Cache-Control": "no-store",
    "X-Robots-Tag": "noindex, nofollow",
    "Vary": "Cookie, Accept-Language, Accept-Encoding",
}

_FOLDER = Path(__file__).parent
_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(_FOLDER / "templates"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    auto_reload=False,
)
_KINDS = {
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
    ".webmanifest": "application/manifest+json",
    ".mp3": "audio/mpeg",
    ".wav": "audio/wav",
}


_WATCHING = frozenset({Role.DUTY_OFFICER, Role.SENIOR_CONTACT, Role.DRAFTER, Role.RELEASER, Role.SECRETARIAT})


def menu_of(session: Session | None) -> list[tuple[str, str]]:
    """The pages that the reader's roles can do something with: address and name. The APIs decide; this only tidies."""
    if session is None:
        return []
    me = session.principal
    pages = [
        ("/", _("Board"), me.has(*_WATCHING)),
        ("/alerts", _("Alerts"), me.has(*_WATCHING, Role.OBSERVER)),
        ("/acknowledge", _("Acknowledge"), me.has(Role.DUTY_OFFICER, Role.SENIOR_CONTACT)),
        ("/raise", _("Raise"), me.has(Role.DRAFTER, Role.DUTY_OFFICER)),
        ("/roster", _("Roster"), me.has(*_WATCHING, Role.ROSTER_MANAGER) or me.contact_id is not None),
        ("/deliveries", _("Deliveries"), me.has(Role.ROSTER_MANAGER, Role.DUTY_OFFICER, Role.SECRETARIAT)),
        ("/statistics", _("Statistics"), me.has(*_WATCHING)),
    ]
    return [(address, name) for address, name, useful in pages if useful]


def owner_of(session: Session | None) -> str:
    """Whose texts a browser keeps: a mark of the person that names nobody, the same in each of their sessions."""
    if session is None:
        return ""
    me = session.principal
    return hashlib.sha256(f"{me.partner}\0{me.subject}".encode()).hexdigest()[:OWNER_CHARACTERS]


class CrossSite(Exception):
    """A form that does not come from a page of this session."""


class FormTooLarge(Exception):
    """More than any form of ours holds."""


@dataclass(frozen=True)
class Face:
    """What every page works with."""

    deps: Deps
    sessions: Sessions
    apis: Apis

    async def session(self, request: Request) -> Session:
        """Who is signed in; raises `SignedOut`."""
        session = await self.session_or_none(request)
        if session is None:
            raise SignedOut("sign in")
        return session

    async def session_or_none(self, request: Request) -> Session | None:
        """Who is signed in, if anybody is; looked up once in a request."""
        if not hasattr(request.state, "session"):
            request.state.session = await self.sessions.find(request.cookies.get(self.sessions.cookie_name))
        found: Session | None = request.state.session
        return found

    async def form(self, request: Request, session: Session | None) -> dict[str, str]:
        """The fields of a form of this session; of a field that is there several times, the last.

        Raises `CrossSite` and `FormTooLarge`. Without a session the origin alone is asked for.
        """
        self.require_own_site(request)
        fields = dict(await self.form_pairs(request))
        self._require_mark(request, session, fields.pop("csrf", ""))
        return fields

    async def form_pairs(self, request: Request) -> list[tuple[str, str]]:
        """The fields of a form in their order, unchecked; read once in a request."""
        if not hasattr(request.state, "form"):
            body = await request.body()
            if len(body) > FORM_BYTES_MAX:
                raise FormTooLarge
            try:
                request.state.form = parse_qsl(
                    body.decode("utf-8"), keep_blank_values=True, max_num_fields=FORM_FIELDS_MAX
                )
            except ValueError:
                raise FormTooLarge from None
        found: list[tuple[str, str]] = request.state.form
        return found

    def require_own_site(self, request: Request) -> None:
        """Raises `CrossSite` if the browser says that another site sends this; nothing of the form is read."""
        site = request.headers.get("sec-fetch-site", "same-origin")
        origin = request.headers.get("origin")
        if site not in ("same-origin", "none") or (origin is not None and not self._is_own(request, origin)):
            raise CrossSite

    def _require_mark(self, request: Request, session: Session | None, csrf: str) -> None:
        if session is not None:
            given = csrf or request.headers.get("x-csrf-token", "")
            if not hmac.compare_digest(given.encode(), self._mark_of(session, given.partition(".")[0]).encode()):
                raise CrossSite

    def _mark_of(self, session: Session, nonce: str) -> str:
        """What proves that a form is ours; another one on each page, because a packed page tells its repeated parts by
        its length. The nonce says whose page it was, so that a kept form is given back to nobody else.
        """
        return f"{nonce}.{hmac.new(session.csrf.encode(), nonce.encode(), hashlib.sha256).hexdigest()}"

    def _is_own(self, request: Request, origin: str) -> bool:
        public = self.deps.settings.public_url
        hosts = {request.headers.get("host", "")}
        if public is not None:
            hosts.add(urlsplit(public).netloc)
        return urlsplit(origin).netloc in hosts

    def cause(self, request: Request, session: Session | None = None) -> Cause:
        """Why the console writes something."""
        who = session.principal if session is not None else None
        return Cause(
            request.scope[CORRELATION_ID],
            subject=who.subject if who is not None else None,
            partner=who.partner if who is not None else None,
        )

    def page(
        self, request: Request, template: str, session: Session | None, *, status: int = 200, **context: Any
    ) -> Response:
        """A page in the reader's language."""
        html = self.rendered(request, template, session, **context).encode()
        headers = dict(HEADERS)
        if len(html) >= COMPRESSED_FROM_BYTES and takes_gzip(request):
            html, headers["Content-Encoding"] = gzip.compress(html, PAGE_LEVEL), "gzip"
        return HTMLResponse(html, status_code=status, headers=headers)

    def rendered(self, request: Request, template: str, session: Session | None, **context: Any) -> str:
        """A template as text, with all that every page needs."""
        reader = reader_of(request)
        return render(
            template,
            reader,
            session=session,
            me=session.principal if session is not None else None,
            csrf=self._mark_of(session, f"{owner_of(session)}-{self.deps.ids.new()}") if session is not None else "",
            path=request.url.path,
            owner=owner_of(session),
            menu=menu_of(session),
            now=self.deps.clock.now(),
            **context,
        )


def takes_gzip(request: Request) -> bool:
    """Whether the browser can unpack."""
    return "gzip" in request.headers.get("accept-encoding", "")


def render(template: str, reader: Reader, **context: Any) -> str:
    """A template in a reader's words; `_` and `ngettext` translate, `at` writes an instant by the reader's clock."""
    return _TEMPLATES.get_template(template).render(
        reader=reader,
        _=reader.say,
        ngettext=reader.say_number,
        at=reader.at,
        languages=LANGUAGES,
        static=static_url,
        **context,
    )


def pieces_of(template: str, reader: Reader, **context: Any) -> Any:
    """The macros of a template, ready to be called many times in a reader's words. They answer with escaped HTML."""
    words = {"reader": reader, "_": reader.say, "ngettext": reader.say_number, "at": reader.at, "static": static_url}
    return _TEMPLATES.get_template(template).make_module({**words, **context})


# --- what stands in the way -------------------------------------------------------------------------------------------


def page_route(face: Face) -> type[APIRoute]:
    """The class of routes that answer with pages, whatever happens."""

    class PageRoute(APIRoute):
        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            handle = super().get_route_handler()

            async def handle_page(request: Request) -> Response:
                try:
                    try:
                        return await handle(request)
                    except SignedOut:
                        return await signed_out(face, request)
                except (Missing, Down, Refused, CrossSite, FormTooLarge) as error:
                    return await _trouble(face, request, error)

            return handle_page

    return PageRoute


async def signed_out(face: Face, request: Request) -> Response:
    """Asks for signing in. What a form had sent is kept in the page, and offered again afterwards.

    Raises `CrossSite` and `FormTooLarge`. Another site's form always comes without a session, because its cookie is not
    sent along: kept, it would be offered with our mark as if the reader had typed it.
    """
    if request.method == "GET":
        if request.headers.get("hx-request") == "true":
            return Response(status_code=401, headers={**HEADERS, "HX-Redirect": "/sign-in"})
        asked = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        after = f"?after={quote(asked)}" if asked != "/" else ""
        return RedirectResponse(f"/sign-in{after}", status_code=303, headers=dict(HEADERS))
    face.require_own_site(request)
    pairs = await face.form_pairs(request)
    written_by = next((mark.partition("-")[0] for name, mark in pairs if name == "csrf"), "")
    kept = [(WRITTEN_BY, written_by), *((name, value) for name, value in pairs if name != "csrf")]
    return face.page(
        request, "sign_in.html", None, status=401, after=request.url.path, kept=kept, trouble=None, client_id=""
    )


async def _trouble(face: Face, request: Request, error: Exception) -> Response:
    """The page that says what stands in the way."""
    status, kind = 422, "refused"
    match error:
        case Missing():
            status, kind = 404, "missing"
        case Down():
            status, kind = 503, "down"
        case Refused():
            status = error.status
        case CrossSite():
            status, kind = 403, "cross_site"
        case FormTooLarge():
            status, kind = 413, "too_large"
    session = await face.session_or_none(request)
    api = error.api if isinstance(error, Down) else None
    refusal = error if isinstance(error, Refused) else None
    return face.page(request, "trouble.html", session, status=status, kind=kind, api=api, refusal=refusal)


# --- what is static ---------------------------------------------------------------------------------------------------


@cache
def _static() -> Mapping[str, tuple[bytes, str, str, bytes | None]]:
    """Every static file by name: its bytes, its type, a mark of its content, and its bytes packed, if that is less."""
    found = {}
    for path in sorted((_FOLDER / "static").rglob("*")):
        if path.is_file() and path.suffix in _KINDS:
            content = path.read_bytes()
            name = path.relative_to(_FOLDER / "static").as_posix()
            packed = gzip.compress(content, mtime=0)
            mark = hashlib.sha256(content).hexdigest()[:12]
            found[name] = (content, _KINDS[path.suffix], mark, packed if len(packed) < len(content) * 0.9 else None)
    return found


def static_url(name: str) -> str:
    """The address of a static file; it changes with its content, so browsers keep it for ever."""
    return f"/static/{name}?v={_static()[name][2]}"


def add_static(routes: APIRouter) -> None:
    """Adds the route of static files."""

    @routes.get("/static/{name:path}")
    async def get_static(request: Request, name: str, v: str = "") -> Response:
        """One file, kept by browsers for as long as its address names its content."""
        found = _static().get(name)
        if found is None:
            raise Missing("there is no such file")
        content, kind, mark, packed = found
        age = f"public, max-age={STATIC_AGE_SECONDS}, immutable" if v == mark else "no-cache"
        headers = {"Cache-Control": age, "Content-Security-Policy": POLICY, "Vary": "Accept-Encoding"}
        if packed is not None and takes_gzip(request):
            content, headers["Content-Encoding"] = packed, "gzip"
        return Response(content, media_type=kind, headers=headers)
