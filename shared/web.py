"""HTTP habits that all services share: one gate in front, one way to say who calls, one set of common routes.

The cast: the `Gate` (limits, correlation id, security headers, one log line per request, bugs become a 500), the
dependency that `authenticated` makes (a `Principal` or a 401), `common_router` (tokens, keys, health, metrics, problem
pages), and `build_app`, which puts routers together into one application with one OpenAPI document.

The promise: nothing is answered 2xx here; handlers commit first and answer then. Whoever belongs to somebody else's
object gets the 404 of a missing one; that is the services' part, `Forbidden` is only for what the caller may know of.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from operator import attrgetter
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, FastAPI, Header, Request, Security, routing
from fastapi.dependencies.models import Dependant
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, Histogram, generate_latest
from pydantic import AfterValidator, BeforeValidator, PlainSerializer, WithJsonSchema
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from shared import problems
from shared.clock import Clock
from shared.events import Cause
from shared.ids import Ids
from shared.log import get_logger
from shared.openapi import BODY_LIMIT, make_document
from shared.problems import CORRELATION_ID, HttpProblem, problem_response, problem_responses
from shared.security import IdentityDeps, Principal, TokenVerifier, Unauthenticated, check_current, still_stands
from shared.tokens import token_router

log = get_logger(__name__)

BODY_BYTES_MAX = 1_000_000
HEADER_BYTES_MAX = 16_384
QUERY_BYTES_MAX = 4_096
PATH_BYTES_MAX = 1_024
READY_SECONDS_MAX = 2.0
INSTANTS_REMEMBERED_MAX = 256

PRINCIPAL = "redphone.principal"
"""Where authentication leaves the caller in the ASGI scope, for the log line."""

NOTHING_FOUND = "redphone.nothing_found"
"""Where a route leaves in the ASGI scope that there was nothing to do, for the level of the log line."""

_QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
_TRACE_PARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")

_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
"""Sent with every answer that does not set them itself."""

_STRICT_TRANSPORT = (b"strict-transport-security", b"max-age=63072000; includeSubDomains")

REQUEST_SECONDS = Histogram(
    "redphone_request_seconds",
    "Time from the request's headers to the end of the answer.",
    ("service", "method", "route", "status"),
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10),
)


# --- the gate ---------------------------------------------------------------------------------------------------------


class Gate:
    """The outermost layer, as plain ASGI: what passes it is of bearable size, has an id, and leaves one log line.

    The line of a probe, and of a request that found nothing to do, is DEBUG.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        service: str,
        clock: Clock,
        ids: Ids,
        body_bytes_max: int = BODY_BYTES_MAX,
        body_bytes_of: Mapping[str, int] | None = None,
        strict_transport: bool = False,
    ) -> None:
        self.app = app
        self.service = service
        self.clock = clock
        self.ids = ids
        self.body_bytes_max = body_bytes_max
        self.body_bytes_of = body_bytes_of or {}
        self.added = (*_SECURITY_HEADERS, *((_STRICT_TRANSPORT,) if strict_transport else ()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request; anything but HTTP passes through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = self.clock.monotonic()
        headers = dict(scope["headers"])
        correlation_id = _uuid_or_none(headers.get(b"x-request-id", b"")) or self.ids.new()
        scope[CORRELATION_ID] = correlation_id
        answer = _Answer(send, (*self.added, (b"x-request-id", str(correlation_id).encode())))
        with bound_contextvars(service=self.service, correlation_id=str(correlation_id)):
            try:
                refusal = self._refusal(scope, headers)
                if refusal is None:
                    await self.app(scope, self._counted(receive, self._limit(scope)), answer.send)
                else:
                    await refusal(scope, receive, answer.send)
            except ClientDisconnect:
                log.debug("request.abandoned")
            except Exception as error:
                log.exception("request.crashed", method=scope["method"], error=type(error).__name__)
                if answer.status is not None:
                    # Half an answer is out: only a broken connection can tell the client so.
                    raise
                crash = problem_response(
                    "internal", problems.PROBLEMS["internal"].remedy, instance=f"urn:uuid:{correlation_id}"
                )
                await crash(scope, receive, answer.send)
            self._report(scope, answer.status, self.clock.monotonic() - started)

    def _refusal(self, scope: Scope, headers: Mapping[bytes, bytes]) -> Response | None:
        """The answer to a request that is too large to look at, or None."""
        instance = f"urn:uuid:{scope[CORRELATION_ID]}"
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES_MAX:
            return problem_response(
                "headers_too_large", f"headers may have {HEADER_BYTES_MAX} bytes in all", instance=instance
            )
        if len(scope["query_string"]) > QUERY_BYTES_MAX or len(scope["path"]) > PATH_BYTES_MAX:
            limits = f"a path may have {PATH_BYTES_MAX} bytes and a query {QUERY_BYTES_MAX}"
            return problem_response("address_too_long", limits, instance=instance)
        declared = headers.get(b"content-length", b"0")
        if not declared.isdigit() or int(declared[:20]) > self._limit(scope):
            return problem_response("body_too_large", _body_sentence(self._limit(scope)), instance=instance)
        return None

    def _limit(self, scope: Scope) -> int:
        return self.body_bytes_of.get(scope["path"], self.body_bytes_max)

    @staticmethod
    def _counted(receive: Receive, limit: int) -> Receive:
        """`receive` that stops a body which grows beyond the limit, whatever its headers said."""
        received = 0

        async def counted() -> Message:
            nonlocal received
            message = await receive()
            if message["type"] == "http.request":
                received += len(message.get("body", b""))
                if received > limit:
                    # The framework passes on this exception alone while it reads a body.
                    raise HTTPException(413, _body_sentence(limit))
            return message

        return counted

    def _report(self, scope: Scope, status: int | None, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "unmatched")
        shown = str(status or 499)  # 499: the client went before there was an answer
        REQUEST_SECONDS.labels(self.service, scope["method"], route, shown).observe(seconds)
        facts: dict[str, Any] = {
            name: str(value)
            for name, value in scope.get("path_params", {}).items()
            if isinstance(value, UUID) or _uuid_or_none(str(value).encode()) is not None
        }
        principal = scope.get(PRINCIPAL)
        if isinstance(principal, Principal):
            facts |= {"client_id": principal.client_id, "partner": principal.partner}
        say = log.debug if route in _QUIET_PATHS or scope.get(NOTHING_FOUND, False) else log.info
        say(
            "request.handled",
            method=scope["method"],
            route=route,
            status=int(shown),
            milliseconds=round(seconds * 1000, 2),
            **facts,
        )


def say_nothing_found(request: Request) -> None:
    """Makes the request's log line DEBUG: for what is asked every few seconds and mostly finds nothing."""
    request.scope[NOTHING_FOUND] = True


class _Answer:
    """The way out: adds the headers that are missing and remembers the status."""

    def __init__(self, send: Send, added: Sequence[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._added = added
        self.status: int | None = None

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            present = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [*message["headers"], *(pair for pair in self._added if pair[0] not in present)]
        await self._send(message)


def _body_sentence(limit: int) -> str:
    return f"a body may have at most {limit} bytes here"


def _uuid_or_none(text: bytes) -> UUID | None:
    if len(text) != 36:
        return None
    try:
        return UUID(text.decode("ascii"))
    except ValueError:
        return None


def cause_of(request: Request, principal: Principal) -> Cause:
    """The cause of what a handler writes for this request: its correlation id, the caller, and a trace if one came."""
    trace_parent = request.headers.get("traceparent", "")
    return Cause(
        correlation_id=request.scope[CORRELATION_ID],
        subject=principal.subject,
        partner=principal.partner,
        trace_parent=trace_parent if _TRACE_PARENT.fullmatch(trace_parent) else None,
    )


# --- who calls --------------------------------------------------------------------------------------------------------

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="token",
    bearerFormat="JWT",
    description="A token from `POST /v1/tokens`, valid for 15 minutes.",
)


class _Caller:
    """Tells who calls, for one service."""

    def __init__(self, deps: IdentityDeps) -> None:
        self._deps = deps
        self._tokens = TokenVerifier(deps.keyring)

    async def identify(self, request: Request) -> Principal:
        """The caller, asked for once in a request: the token's signature first, then the credential's row."""
        known = request.scope.get(PRINCIPAL)
        if isinstance(known, Principal):
            return known
        bearer = await _bearer(request)
        if bearer is None:
            raise Unauthenticated("this call needs a token: Authorization: Bearer …", code="token_missing")
        claims = self._tokens.verify(bearer.credentials, now=self._deps.clock.now())
        async with self._deps.intake.statement() as tx:
            principal = await check_current(tx, claims)
        request.scope[PRINCIPAL] = principal
        return principal

    async def current_principal(
        self,
        request: Request,
        _: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)],
    ) -> Principal:
        """The dependency. Its second parameter is there for the documentation alone."""
        return await self.identify(request)


def authenticated(deps: IdentityDeps) -> Callable[..., Awaitable[Principal]]:
    """The dependency that gives a handler its caller: the token's signature first, then the credential's row.

    Raises `Unauthenticated` (401), never 403: what a role may do is for the handler, which knows what may be known.
    Inside a function that builds a router, declare it as `principal: Principal = Depends(caller)`: an annotation is
    text here and cannot name a local variable. The router is made by `new_router`, which has the caller known first.
    """
    return _Caller(deps).current_principal


class CallerFirst(APIRoute):
    """A route that knows who calls before it reads what they send: nobody unknown has a body parsed, and a stranger
    learns of a mistake in it no more than that a token is needed.
    """

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's handler, with the question put before it where the route asks who calls."""
        handle = super().get_route_handler()
        caller = _caller_of(self.dependant)
        if caller is None:
            return handle

        async def handle_known(request: Request) -> Response:
            await caller.identify(request)
            return await handle(request)

        return handle_known


def _caller_of(dependant: Dependant) -> _Caller | None:
    """Who tells who calls, if anything that a route depends on wants to know."""
    owner = getattr(dependant.call, "__self__", None)
    if isinstance(owner, _Caller):
        return owner
    return next((found for one in dependant.dependencies if (found := _caller_of(one)) is not None), None)


def new_router(*, tags: Sequence[str] = ()) -> APIRouter:
    """An empty router whose routes know their caller before they read a body, and are called as their functions are."""
    return APIRouter(route_class=CallerFirst, tags=list(tags), generate_unique_id_function=attrgetter("name"))


def join(router: APIRouter, *others: APIRouter) -> None:
    """Adds the routes of the others as they stand.

    The framework's `include_router` builds each of them once more, for prefixes and settings that ours do not have:
    with two hundred routes that is most of the time that a service takes to start.
    """
    for other in others:
        router.routes.extend(other.routes)


def still_allowed(deps: IdentityDeps, principal: Principal) -> Callable[[], Awaitable[bool]]:
    """For streams: asks whether the credential behind an open stream still stands."""

    async def ask() -> bool:
        async with deps.intake.statement() as tx:
            return await still_stands(tx, principal)

    return ask


# --- values -----------------------------------------------------------------------------------------------------------


def _only_text(value: object) -> object:
    if isinstance(value, datetime):
        return value
    if not isinstance(value, str) or "T" not in value.upper():
        raise ValueError("must be a date and time with its offset, for example 2021-08-15T06:00:00Z")
    return value


def _in_utc(value: datetime) -> datetime:
    if value.tzinfo is None:
        raise ValueError("must say its offset from UTC: end with Z, for example 2021-08-15T06:00:00Z")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must lie within the years 1 to 9999, in UTC") from None


@lru_cache(maxsize=INSTANTS_REMEMBERED_MAX)
def render_instant(value: datetime) -> str:
    """RFC 3339 in UTC with `Z`, the only form of an instant in our JSON.

    Remembered, because an alert to 200 partners says the same instant 200 times.
    """
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


UtcDateTime = Annotated[
    datetime,
    BeforeValidator(_only_text),
    AfterValidator(_in_utc),
    PlainSerializer(render_instant, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2021-08-15T06:00:00Z"]}),
]
"""An instant in requests and answers: refuses what has no offset, and numbers; always answers in UTC with `Z`."""


def etag_of(version: int) -> str:
    """The ETag of an object whose row counts its versions."""
    return f'"{version}"'


class IfMatch:
    """The `If-Match` header of an edit: which version the caller has seen."""

    def __init__(self, header: str | None) -> None:
        self.header = header

    def require(self, version: int) -> None:
        """Raises 428 if the caller did not say what they had seen, 412 if it is not this version."""
        if self.header is None:
            raise HttpProblem("this edit needs If-Match with the ETag you have read", code="precondition_required")
        self.allow(version)

    def allow(self, version: int) -> None:
        """Raises 412 if the caller said what they had seen and it is not this version; no header allows everything."""
        if self.header is None or self.header.strip() == "*":
            return
        # A weak tag never matches here (RFC 9110, section 13.1.1), so no prefix is taken off.
        if etag_of(version) not in {tag.strip() for tag in self.header.split(",")}:
            raise HttpProblem(f"the present ETag is {etag_of(version)}", code="precondition_failed")


async def _if_match(
    header: Annotated[
        str | None,
        Header(alias="If-Match", description="The ETag that you have read. Somebody else's edit is kept so."),
    ] = None,
) -> IfMatch:
    return IfMatch(header)


IfMatchHeader = Annotated[IfMatch, Depends(_if_match)]
"""A parameter of this type gives the handler the caller's `If-Match`."""


# --- common routes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Degraded:
    """Something is wrong that people should see, and the process does its work all the same."""

    detail: str


ReadinessCheck = Callable[[], Awaitable[str | Degraded | None]]
"""Returns None when all is well, and otherwise one sentence about what is not; `Degraded` keeps the process ready."""


def common_router(deps: IdentityDeps, *, checks: Mapping[str, ReadinessCheck]) -> APIRouter:
    """What every process answers, once, however many services it hosts."""
    router = new_router(tags=["Installation"])
    join(router, token_router(deps))

    @router.get("/.well-known/redphone-keys", summary="Public keys of tokens, webhooks and feed")
    async def public_keys() -> JSONResponse:
        """A JSON Web Key Set for tokens; beside it, the keys that sign webhooks (`whpk_…`) and feed entries.

        During a change of keys each list holds two or more: the first signs, all are valid.
        """
        return JSONResponse(deps.keyring.public_keys(), headers={"Cache-Control": "public, max-age=300"})

    @router.get("/healthz", summary="Whether the process is alive")
    async def is_alive() -> dict[str, str]:
        """Answers as long as the event loop turns; asks nothing of anybody."""
        return {"status": "alive"}

    @router.get(
        "/readyz",
        summary="Whether the process can do its work",
        responses={503: {"description": "It cannot do its work now; the body says why, as with 200."}},
    )
    async def is_ready() -> JSONResponse:
        """200 if all named checks pass, otherwise 503; every check says what it found.

        A check may be degraded: what it names needs a person, and the process does its work all the same.
        """
        found = dict(zip(checks, await asyncio.gather(*(_ask(check) for check in checks.values())), strict=True))
        ready = not any(isinstance(trouble, str) for trouble in found.values())
        body = {"ready": ready, "checks": {name: _finding(trouble) for name, trouble in found.items()}}
        return JSONResponse(body, status_code=200 if ready else 503)

    @router.get("/metrics", summary="Figures for Prometheus", include_in_schema=False)
    async def metrics() -> Response:
        """The process's counters in Prometheus' text form."""
        return Response(generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})

    @router.get("/problems", summary="All kinds of problems")
    async def all_problems() -> dict[str, Any]:
        """Every code that a refusal may have, with its status, its title, and what to do."""
        return {"problems": [problems.page_of(code) for code in problems.PROBLEMS]}

    @router.get("/problems/{code}", summary="One kind of problem", responses=problem_responses("not_found"))
    async def one_problem(code: str) -> dict[str, Any]:
        """What a problem's `type` leads to: what the code means and what to do about it."""
        page = problems.page_of(code)
        if page is None:
            raise HttpProblem("there is no problem with this code", code="not_found")
        return page

    return router


def _finding(trouble: str | Degraded | None) -> dict[str, Any]:
    if isinstance(trouble, Degraded):
        return {"ok": True, "degraded": True, "detail": trouble.detail}
    return {"ok": trouble is None, "detail": trouble}


async def _ask(check: ReadinessCheck) -> str | Degraded | None:
    try:
        async with asyncio.timeout(READY_SECONDS_MAX):
            return await check()
    except TimeoutError:
        return f"no answer within {READY_SECONDS_MAX:g} s"
    except Exception as error:
        log.warning("readiness.failed", error=type(error).__name__, exc_info=True)
        return f"the check failed: {type(error).__name__}"


# --- the application --------------------------------------------------------------------------------------------------


def build_app(
    title: str,
    routers: Sequence[APIRouter],
    *,
    service: str,
    clock: Clock,
    ids: Ids,
    public_url: str | None = None,
    description: str = "",
    version: str = "1",
    lifespan: Callable[[FastAPI], AbstractAsyncContextManager[None]] | None = None,
    body_bytes_max: int = BODY_BYTES_MAX,
) -> FastAPI:
    """One application of all the routers, with the gate in front and problems for every refusal.

    The framework's interactive pages are left out, because they load programs from elsewhere; `docs_page` shows the
    document to people, and `/openapi.json` is what tools read.
    """
    app = FastAPI(
        title=title,
        description=description,
        version=version,
        servers=[{"url": public_url}] if public_url else None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
        lifespan=lifespan,
    )
    for router in routers:
        join(app.router, router)
    problems.install(app)
    app.add_middleware(
        Gate,
        service=service,
        clock=clock,
        ids=ids,
        body_bytes_max=body_bytes_max,
        body_bytes_of=_body_limits(app),
        strict_transport=bool(public_url and public_url.startswith("https://")),
    )
    # FastAPI's documented way to enrich the document.
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    return app


def _body_limits(app: FastAPI) -> dict[str, int]:
    """Limits of routes that take larger bodies than all others, by path."""
    limits: dict[str, int] = {}
    for route in routing.iter_route_contexts(app.routes):
        if BODY_LIMIT in (extra := getattr(route, "openapi_extra", None) or {}):
            limits[str(route.path)] = extra[BODY_LIMIT]
    return limits


def _document(app: FastAPI) -> dict[str, Any]:
    """The document, made once."""
    if app.openapi_schema is None:
        app.openapi_schema = make_document(app)
    return app.openapi_schema
