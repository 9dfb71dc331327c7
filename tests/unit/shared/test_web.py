from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from openapi_spec_validator import validate
from pydantic import BaseModel, Field, TypeAdapter, ValidationError
from structlog.testing import capture_logs

from shared import problems, streams, tokens, web
from shared.clock import ManualClock
from shared.contracts import Precedence, Role
from shared.db import Transaction
from shared.errors import Conflict, ContractViolation, FieldError, Forbidden, Invalid, NotFound, Unavailable
from shared.events import Cause
from shared.ids import Ids, SeededBits
from shared.keys import KeyRing
from shared.paging import PAGE_SIZE_MAX, decode_cursor, encode_cursor
from shared.security import Principal, PrincipalKind, administrator, issue_token, service
from shared.streams import StreamEvent, Streams
from shared.web import UtcDateTime

NOW = datetime(2021, 8, 15, 6, 0, tzinfo=UTC)
REQUEST_ID = "017b4a2e-0000-7000-8000-00000000abcd"


class NoDatabase:
    """Stands where the database does, for callers that have no credential row; every other caller needs a real one."""

    def __init__(self) -> None:
        self.down = False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Transaction]:
        if self.down:
            raise Unavailable("the database does not answer; try again", code="database_unavailable")
        yield None  # type: ignore[misc]

    statement = transaction


@dataclass
class Deps:
    """What identity is given here."""

    keyring: KeyRing = field(default_factory=KeyRing.generate)
    clock: ManualClock = field(default_factory=lambda: ManualClock(NOW))
    intake: NoDatabase = field(default_factory=NoDatabase)
    ids: Ids = field(init=False)

    def __post_init__(self) -> None:
        self.ids = Ids(self.clock.now, SeededBits(1))


class Draft(BaseModel):
    """A body with the kinds of fields that requests have."""

    model_config = {"extra": "forbid"}

    headline: str = Field(max_length=10)
    precedence: Precedence
    expires: UtcDateTime
    to: list[int] = []


RAISED: dict[str, Exception] = {
    "invalid": Invalid("two fields are wrong", errors=[FieldError("to[0]", "must be a partner", "unknown_partner")]),
    "field": Invalid("must be a partner", field="to", code="unknown_partner"),
    "missing": NotFound("there is no such alert"),
    "forbidden": Forbidden("this needs the role releaser"),
    "conflict": Conflict("the alert has ended", code="alert_ended"),
    "unavailable": Unavailable("the database does not answer; try again"),
    "violation": ContractViolation("hidden-detail"),
    "bug": RuntimeError("hidden-detail"),
}


def application(
    deps: Deps, *, body_bytes_max: int = 2_000, ready: dict[str, web.ReadinessCheck] | None = None
) -> FastAPI:
    """A small service with one of everything."""
    router = APIRouter(tags=["example"])
    caller = web.authenticated(deps)

    @router.post("/v1/drafts/{draft_id}")
    async def make_draft(draft_id: UUID, draft: Draft) -> Draft:
        return draft

    @router.get("/v1/me")
    async def who_am_i(request: Request, principal: Principal = Depends(caller)) -> dict[str, Any]:
        cause = web.cause_of(request, principal)
        return {"subject": principal.subject, "correlation_id": cause.correlation_id, "trace": cause.trace_parent}

    @router.get("/v1/raise/{name}")
    async def raise_it(name: str) -> None:
        raise RAISED[name]

    @router.put("/v1/thing")
    async def edit(if_match: web.IfMatchHeader) -> str:
        if_match.require(3)
        return "edited"

    return web.build_app(
        "Example",
        [router, web.common_router(deps, checks=ready or {})],
        service="example",
        clock=deps.clock,
        ids=deps.ids,
        public_url="https://redphone.example",
        body_bytes_max=body_bytes_max,
    )


@asynccontextmanager
async def calling(
    deps: Deps, app: FastAPI | None = None, headers: dict[str, str] | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application."""
    transport = httpx.ASGITransport(app or application(deps))
    async with httpx.AsyncClient(transport=transport, base_url="http://example", headers=headers) as client:
        yield client


def bearer(deps: Deps, principal: Principal | None = None) -> dict[str, str]:
    """The header of a caller who needs no credential row."""
    token = issue_token(deps.keyring, principal or service("roster"), now=deps.clock.now(), token_id=deps.ids.new())
    return {"authorization": f"Bearer {token}"}


@pytest.fixture
def deps() -> Deps:
    """A fresh set for each test."""
    return Deps()


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    """What is logged meanwhile."""
    with capture_logs() as captured:
        yield captured


GOOD = {"headline": "Help", "precedence": "FLASH", "expires": "2021-08-15T10:00:00+04:00"}


# --- problems ---------------------------------------------------------------------------------------------------------


async def test_problem_has_the_documented_shape(deps: Deps) -> None:
    """A refusal is RFC 9457 in every member: this is the snapshot that partners' programs are written against."""
    async with calling(deps, headers={"x-request-id": REQUEST_ID}) as client:
        answer = await client.get("/v1/raise/invalid")
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "/problems/invalid",
        "title": "The input is wrong",
        "status": 422,
        "detail": "two fields are wrong",
        "instance": f"urn:uuid:{REQUEST_ID}",
        "code": "invalid",
        "errors": [{"field": "to[0]", "detail": "must be a partner", "code": "unknown_partner"}],
    }


@pytest.mark.parametrize(
    ("name", "status", "code", "page"),
    [
        ("field", 422, "unknown_partner", "/problems/invalid"),
        ("missing", 404, "not_found", "/problems/not_found"),
        ("forbidden", 403, "forbidden", "/problems/forbidden"),
        ("conflict", 409, "alert_ended", "/problems/conflict"),
        ("unavailable", 503, "unavailable", "/problems/unavailable"),
    ],
)
async def test_each_error_has_its_status(deps: Deps, name: str, status: int, code: str, page: str) -> None:
    """Every error of the house has one status; a code without a page of its own leads to its family's."""
    async with calling(deps) as client:
        answer = await client.get(f"/v1/raise/{name}")
        assert (await client.get(answer.json()["type"])).json()["status"] == status
    assert (answer.status_code, answer.json()["code"], answer.json()["type"]) == (status, code, page)
    assert answer.headers.get("retry-after") == ("1" if status == 503 else None)


@pytest.mark.logs_error("request.crashed")
@pytest.mark.parametrize("name", ["bug", "violation"])
async def test_bug_tells_nothing_but_an_id(deps: Deps, logs: list[Any], name: str) -> None:
    """A bug is a 500 without details; the log has them at ERROR under the same id."""
    async with calling(deps) as client:
        answer = await client.get(f"/v1/raise/{name}")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "hidden-detail" not in answer.text
    assert [line["log_level"] for line in logs if line["event"] == "request.crashed"] == ["error"]
    assert answer.json()["instance"] == f"urn:uuid:{answer.headers['x-request-id']}"


async def test_wrong_fields_are_named_as_in_json(deps: Deps) -> None:
    """Each wrong field is named by its place in the JSON, with what would be right, and without what was sent."""
    body = {"headline": "hidden-value", "precedence": "hidden-value", "to": [1, "hidden-value"], "hedline": "x"}
    async with calling(deps) as client:
        answer = await client.post(f"/v1/drafts/{REQUEST_ID}", json=body)
    found = {error["field"]: error["detail"] for error in answer.json()["errors"]}
    assert answer.status_code == 422
    assert found["expires"] == "is required"
    assert found["precedence"] == "Input should be 'FLASH', 'IMMEDIATE', 'PRIORITY' or 'ROUTINE'"
    assert found["hedline"] == "is not a field of this request; check its spelling"
    assert found.keys() == {"headline", "precedence", "to[1]", "expires", "hedline"}
    assert "hidden-value" not in answer.text


async def test_unreadable_requests(deps: Deps) -> None:
    """Broken JSON is 400, another content type 415, an unknown address 404 and a wrong method 405 with Allow."""
    address = f"/v1/drafts/{REQUEST_ID}"
    async with calling(deps) as client:
        broken = await client.post(address, content=b'{"headline": ', headers={"content-type": "application/json"})
        text = await client.post(address, content=b"{}", headers={"content-type": "text/plain"})
        nameless = await client.post(address, content=b"{}")
        empty = await client.post(address, headers={"content-type": "application/json"})
        bytes_ = await client.post(address, content=b"\xff\xfe", headers={"content-type": "application/json"})
        unknown = await client.get("/v1/nothing")
        method = await client.delete("/v1/me")
        place = await client.post("/v1/drafts/not-an-id", json=GOOD)
    assert [
        (r.status_code, r.json()["code"]) for r in (broken, text, nameless, empty, bytes_, unknown, method, place)
    ] == [
        (400, "malformed"),
        (415, "unsupported_media_type"),
        (415, "unsupported_media_type"),
        (422, "invalid"),
        (400, "malformed"),
        (404, "not_found"),
        (405, "method_not_allowed"),
        (422, "invalid"),
    ]
    assert method.headers["allow"] == "GET"
    assert place.json()["errors"][0]["field"] == "draft_id"


def test_problem_codes_are_declared_once() -> None:
    """A service may add codes and repeat its own declaration, and cannot change what a code means."""
    mine = {"example_code": problems.ProblemType(409, "Example", "Nothing.")}
    try:
        problems.declare_problems(mine)
        problems.declare_problems(mine)
        with pytest.raises(ValueError, match="declared twice"):
            problems.declare_problems({"example_code": problems.ProblemType(410, "Example", "Nothing.")})
        assert (
            problems.problem_responses("example_code", "conflict")[409]["description"] == "Example · Not in this state"
        )
    finally:
        del problems.PROBLEMS["example_code"]


async def test_every_problem_has_a_page(deps: Deps) -> None:
    """Each code's page says what it means and what to do; an unknown code is a 404 like anything missing."""
    async with calling(deps) as client:
        listed = (await client.get("/problems")).json()["problems"]
        assert [page["code"] for page in listed] == list(problems.PROBLEMS)
        assert (await client.get("/problems/conflict")).json()["what_to_do"]
        assert (await client.get("/problems/nothing")).json()["code"] == "not_found"


# --- the gate ---------------------------------------------------------------------------------------------------------


async def test_large_requests_are_refused_before_they_are_read(deps: Deps) -> None:
    """Bodies, headers, queries and paths have limits, each with its own answer; at the limit all is well."""
    address = f"/v1/drafts/{REQUEST_ID}"
    json_ = {"content-type": "application/json"}
    async with calling(deps) as client:
        body = await client.post(address, content=b" " * 2_001, headers=json_)
        at_limit = await client.post(address, content=json.dumps(GOOD).encode().ljust(2_000), headers=json_)
        lying = await client.post(address, content=b"{}", headers=json_ | {"content-length": "-5"})
        header = await client.get("/healthz", headers={"x-large": "x" * web.HEADER_BYTES_MAX})
        query = await client.get("/healthz?" + "x" * (web.QUERY_BYTES_MAX + 1))
        path = await client.get("/" + "x" * web.PATH_BYTES_MAX)
    assert at_limit.status_code == 200
    assert [(r.status_code, r.json()["code"]) for r in (body, lying, header, query, path)] == [
        (413, "body_too_large"),
        (413, "body_too_large"),
        (431, "headers_too_large"),
        (414, "address_too_long"),
        (414, "address_too_long"),
    ]


async def test_body_is_counted_while_it_arrives(deps: Deps) -> None:
    """A body without a declared length is cut off at the limit, long before it ends."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(1_000):
            sent += 500
            yield b" " * 500

    async with calling(deps) as client:
        answer = await client.post(
            f"/v1/drafts/{REQUEST_ID}", content=endless(), headers={"content-type": "application/json"}
        )
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert sent <= 4_000


async def test_correlation_id_is_taken_or_made(deps: Deps) -> None:
    """A caller's UUID is kept from the answer to the cause; anything else is replaced. A sane trace goes along."""
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    async with calling(deps, headers=bearer(deps)) as client:
        kept = await client.get("/v1/me", headers={"x-request-id": REQUEST_ID, "traceparent": trace})
        made = await client.get("/v1/me", headers={"x-request-id": "evil\tvalue" + "x" * 26, "traceparent": "x" * 55})
    assert kept.headers["x-request-id"] == kept.json()["correlation_id"] == REQUEST_ID
    assert kept.json()["trace"] == trace
    assert UUID(made.headers["x-request-id"]) == UUID(made.json()["correlation_id"])
    assert made.json()["trace"] is None


async def test_what_found_nothing_is_no_news(deps: Deps, logs: list[Any]) -> None:
    """Probes, and requests whose route says that there was nothing to do, leave their line at DEBUG only."""
    app = application(deps)

    @app.get("/v1/nothing")
    async def look(request: Request) -> None:
        web.say_nothing_found(request)

    async with calling(deps, app) as client:
        for path in ("/healthz", "/readyz", "/metrics", "/v1/nothing", "/v1/raise/missing"):
            await client.get(path)
    lines = [(line["route"], line["log_level"]) for line in logs if line["event"] == "request.handled"]
    assert lines == [
        ("/healthz", "debug"),
        ("/readyz", "debug"),
        ("/metrics", "debug"),
        ("/v1/nothing", "debug"),
        ("/v1/raise/{name}", "info"),
    ]


async def test_one_line_per_request_without_secrets(deps: Deps, logs: list[Any]) -> None:
    """Each request leaves one line with its route, status and caller; queries, tokens and odd paths stay out of it."""
    async with calling(deps, headers=bearer(deps)) as client:
        await client.get("/v1/me?token=hidden")
        await client.get("/l/hidden")
        await client.get("/healthz")
        await client.post(f"/v1/drafts/{REQUEST_ID}", json=GOOD)
    lines = [line for line in logs if line["event"] == "request.handled" and line["log_level"] == "info"]
    assert [(line["route"], line["status"]) for line in lines] == [
        ("/v1/me", 200),
        ("unmatched", 404),
        ("/v1/drafts/{draft_id}", 200),
    ]
    assert (lines[0]["client_id"], lines[0]["partner"]) == ("service:roster", "ZZ")
    assert lines[2]["draft_id"] == REQUEST_ID
    assert "hidden" not in str(logs)
    assert "Bearer" not in str(logs)


async def test_security_headers(deps: Deps) -> None:
    """Every answer forbids sniffing, framing, scripts, referrers and caching, unless the route says otherwise."""
    async with calling(deps) as client:
        plain = await client.get("/healthz")
        keys = await client.get("/.well-known/redphone-keys")
        refused = await client.get("/nothing")
    for answer in (plain, refused):
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "max-age" in answer.headers["strict-transport-security"]
    assert keys.headers["cache-control"] == "public, max-age=300"


# --- who calls --------------------------------------------------------------------------------------------------------


async def test_token_makes_the_caller(deps: Deps) -> None:
    """A good token gives the handler its principal, whatever case the scheme is written in."""
    async with calling(deps) as client:
        assert (await client.get("/v1/me", headers=bearer(deps))).json()["subject"] == "service:roster"
        lower = {"authorization": bearer(deps, administrator("x"))["authorization"].replace("Bearer", "bearer")}
        assert (await client.get("/v1/me", headers=lower)).json()["subject"] == "administrator:x"


@pytest.mark.parametrize(
    ("header", "code", "challenge"),
    [
        (None, "token_missing", 'Bearer realm="redphone"'),
        ("Basic YTpi", "token_missing", 'Bearer realm="redphone"'),
        ("Bearer", "token_missing", 'Bearer realm="redphone"'),
        ("Bearer nonsense", "token_invalid", 'Bearer realm="redphone", error="invalid_token"'),
        ("Bearer a.b.c", "token_invalid", 'Bearer realm="redphone", error="invalid_token"'),
    ],
)
async def test_no_caller_is_401_with_a_challenge(deps: Deps, header: str | None, code: str, challenge: str) -> None:
    """Without a good token the answer is 401 and says how to do it right."""
    async with calling(deps) as client:
        answer = await client.get("/v1/me", headers={"authorization": header} if header else {})
    assert (answer.status_code, answer.json()["code"]) == (401, code)
    assert answer.headers["www-authenticate"] == challenge


async def test_expired_and_foreign_tokens(deps: Deps) -> None:
    """An expired token is told apart from one that another installation signed."""
    expired, foreign = bearer(deps), bearer(Deps())
    deps.clock.advance(1_000)
    async with calling(deps) as client:
        assert (await client.get("/v1/me", headers=expired)).json()["code"] == "token_expired"
        assert (await client.get("/v1/me", headers=foreign)).json()["code"] == "token_invalid"


async def test_no_database_is_503_not_401(deps: Deps) -> None:
    """While the database is away, callers are asked to try again, not told that their token is wrong."""
    deps.intake.down = True
    async with calling(deps, headers=bearer(deps)) as client:
        answer = await client.get("/v1/me")
        refused = await client.post("/v1/tokens", json={"client_id": "a", "client_secret": "b"})
    assert (answer.status_code, answer.json()["code"]) == (503, "database_unavailable")
    assert refused.status_code == 503


@pytest.mark.parametrize(
    ("content", "content_type", "status", "named"),
    [
        (b"", "application/json", 400, []),
        (b"[]", "application/json", 400, []),
        (b"{}", "application/json", 422, ["client_id", "client_secret"]),
        (b'{"client_id": 5, "client_secret": "x"}', "application/json", 422, ["client_id"]),
        (b"client_id=a", "application/x-www-form-urlencoded", 422, ["client_secret"]),
        (b"client_id=a&client_id=b", "application/x-www-form-urlencoded", 400, []),
        (b"\xff", "application/x-www-form-urlencoded", 400, []),
        (b"grant_type=password&client_id=a&client_secret=b", "application/x-www-form-urlencoded", 422, ["grant_type"]),
        (b"client_id=" + b"a" * 201 + b"&client_secret=b", "application/x-www-form-urlencoded", 422, ["client_id"]),
        (b"<a/>", "text/xml", 415, []),
        (b" " * 4_001, "application/json", 413, []),
    ],
)
async def test_malformed_token_requests(
    deps: Deps, content: bytes, content_type: str, status: int, named: list[str]
) -> None:
    """A token request that cannot be meant is refused with the fields at fault before any database is asked."""
    deps.intake.down = True
    async with calling(deps, application(deps, body_bytes_max=10_000)) as client:
        answer = await client.post("/v1/tokens", content=content, headers={"content-type": content_type})
    assert answer.status_code == status
    assert [error["field"] for error in answer.json().get("errors", [])] == named


@pytest.mark.parametrize("header", ["Basic", "Basic ***", "Basic YWJj", "Basic /////w=="])
async def test_malformed_basic_credentials(deps: Deps, header: str) -> None:
    """HTTP Basic that cannot be read is a 400, not a crash."""
    async with calling(deps) as client:
        answer = await client.post("/v1/tokens", headers={"authorization": header})
    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")


def test_wrong_secrets_are_counted_in_bounded_memory() -> None:
    """Counts grow within a minute, start anew after it or after the right secret, and the oldest client falls out."""
    clock = ManualClock(NOW)
    counter = tokens.WrongSecrets(clock)
    assert [counter.count("a") for _ in range(3)] == [1, 2, 3]
    clock.advance(61)
    assert counter.count("a") == 1
    counter.forget("a")
    assert counter.count("a") == 1
    for number in range(tokens.COUNTED_CLIENTS_MAX):
        counter.count(f"client {number}")
    assert counter.count("a") == 1


# --- values -----------------------------------------------------------------------------------------------------------

INSTANT: TypeAdapter[datetime] = TypeAdapter(UtcDateTime)


@pytest.mark.parametrize(
    ("text", "rendered"),
    [
        ("2021-08-15T06:00:00Z", "2021-08-15T06:00:00Z"),
        ("2021-08-15T10:30:00+04:30", "2021-08-15T06:00:00Z"),
        ("2021-08-15t06:00:00.25z", "2021-08-15T06:00:00.250000Z"),
    ],
)
def test_instants_are_rendered_in_utc(text: str, rendered: str) -> None:
    """Whatever offset an instant came with, it is kept and shown in UTC with Z."""
    assert INSTANT.dump_json(INSTANT.validate_json(json.dumps(text))) == json.dumps(rendered).encode()


@pytest.mark.parametrize("value", ["2021-08-15T06:00:00", "2021-08-15", 1628985600, "1628985600", None, True, "soon"])
def test_instants_need_their_offset(value: object) -> None:
    """Instants without offset, dates, numbers and other texts are refused."""
    with pytest.raises(ValidationError):
        INSTANT.validate_json(json.dumps(value))


@pytest.mark.parametrize("value", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"])
async def test_instants_beyond_all_years_are_refused(deps: Deps, value: str) -> None:
    """An instant whose offset takes it out of the calendar is a wrong field, and not a crash that rings an alarm."""
    with pytest.raises(ValidationError, match="years 1 to 9999"):
        INSTANT.validate_python(value)
    async with calling(deps) as client:
        body = {"headline": "Kabul", "precedence": "FLASH", "expires": value}
        answer = await client.post(f"/v1/drafts/{REQUEST_ID}", json=body)
    assert [error["field"] for error in answer.json()["errors"]] == ["expires"]


@pytest.mark.parametrize(
    ("header", "status"),
    [
        (None, 428),
        ('"2"', 412),
        ('W/"3"', 412),
        ("3", 412),
        ("", 412),
        ('"3"', 200),
        ('"1", "3"', 200),
        ("*", 200),
    ],
)
async def test_edits_need_the_version_that_was_read(deps: Deps, header: str | None, status: int) -> None:
    """Without If-Match an edit is 428, with another version 412; weak tags never match."""
    async with calling(deps) as client:
        answer = await client.put("/v1/thing", headers={} if header is None else {"if-match": header})
    assert answer.status_code == status
    assert web.etag_of(3) == '"3"'


def test_cursor_comes_back_typed() -> None:
    """A cursor gives back the sort key that it was made of."""
    key = (NOW, UUID(REQUEST_ID), 5)
    assert decode_cursor(encode_cursor(*key), datetime, UUID, int) == key


@pytest.mark.parametrize(
    "text", ["", "x", "é", "====", "bm90IGpzb24", encode_cursor(1, 2), encode_cursor("x"), "W" * 501]
)
def test_made_up_cursors_are_refused(text: str) -> None:
    """A cursor that we did not make is refused with a code of its own."""
    with pytest.raises(Invalid) as refusal:
        decode_cursor(text, int)
    assert (refusal.value.code, refusal.value.errors[0].field) == ("cursor_invalid", "cursor")
    assert PAGE_SIZE_MAX == 200


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ("a\0b", str),
        (-1, int),
        (1 << 63, int),
        ("2021-08-15T06:00:00", datetime),
        ("0001-01-01T00:00:00+14:00", datetime),
        ("9999-12-31T23:59:59-14:00", datetime),
    ],
)
def test_cursor_of_what_no_row_can_have_is_refused(part: object, kind: type) -> None:
    """What a database cannot compare is refused as a made-up cursor, and never gets as far as a query."""
    with pytest.raises(Invalid) as refusal:
        decode_cursor(encode_cursor(part), kind)
    assert refusal.value.code == "cursor_invalid"


# --- common routes ----------------------------------------------------------------------------------------------------


async def test_readiness_names_every_check(deps: Deps) -> None:
    """One failing check makes 503, a degraded one does not; each says what it found, a crash its kind only."""

    async def well() -> str | None:
        return None

    async def broken() -> str | None:
        return "the broker is away for 12 s"

    async def crashing() -> str | None:
        raise RuntimeError("hidden-detail")

    async def limping() -> web.Degraded:
        return web.Degraded("the broker is away, the feed works")

    async with calling(deps, application(deps, ready={"bus": limping})) as client:
        assert (await client.get("/readyz")).json() == {
            "ready": True,
            "checks": {"bus": {"ok": True, "degraded": True, "detail": "the broker is away, the feed works"}},
        }
    async with calling(deps, application(deps, ready={"database": well})) as client:
        assert (await client.get("/readyz")).json() == {
            "ready": True,
            "checks": {"database": {"ok": True, "detail": None}},
        }
    async with calling(deps, application(deps, ready={"a": well, "b": broken, "c": crashing})) as client:
        answer = await client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["checks"]["b"] == {"ok": False, "detail": "the broker is away for 12 s"}
    assert answer.json()["checks"]["c"] == {"ok": False, "detail": "the check failed: RuntimeError"}


async def test_keys_health_and_figures_need_no_token(deps: Deps) -> None:
    """Public keys, liveness and figures are open; the keys are those that verify our tokens."""
    async with calling(deps) as client:
        keys = (await client.get("/.well-known/redphone-keys")).json()
        assert keys == deps.keyring.public_keys()
        assert (await client.get("/healthz")).json() == {"status": "alive"}
        figures = await client.get("/metrics")
    assert figures.headers["content-type"].startswith("text/plain")
    assert (
        'redphone_request_seconds_count{method="GET",route="/healthz",service="example",status="200"}' in figures.text
    )


async def test_openapi_document(deps: Deps) -> None:
    """The document is valid OpenAPI 3.1, speaks of our problems alone, and marks what needs a token."""
    async with calling(deps) as client:
        document = (await client.get("/openapi.json")).json()
    validate(document)
    assert document["openapi"].startswith("3.1")
    assert document["servers"] == [{"url": "https://redphone.example"}]
    assert "HTTPValidationError" not in json.dumps(document)
    assert {"Problem", "FieldProblem", "Draft"} <= document["components"]["schemas"].keys()
    assert document["paths"]["/v1/me"]["get"]["security"] == [{"token": []}]
    assert {"401", "503"} <= document["paths"]["/v1/me"]["get"]["responses"].keys()
    assert "security" not in document["paths"]["/healthz"]["get"]
    assert "application/json" in document["paths"]["/v1/tokens"]["post"]["requestBody"]["content"]
    assert document["components"]["schemas"]["Draft"]["properties"]["expires"]["format"] == "date-time"


# --- streams ----------------------------------------------------------------------------------------------------------

CALLER = Principal(
    subject="ca-wall",
    client_id="ca-wall-1",
    partner="CA",
    roles=frozenset({Role.OBSERVER}),
    kind=PrincipalKind.SYSTEM,
    name="Example Wall",
)


class Wire:
    """The client's end of one streamed answer, as ASGI sees it."""

    def __init__(self) -> None:
        self.gone = asyncio.Event()
        self.chunks: list[bytes] = []
        self.status = 0
        self.ended = False
        self.news = asyncio.Condition()

    async def receive(self) -> dict[str, Any]:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        async with self.news:
            if message["type"] == "http.response.start":
                self.status = message["status"]
            else:
                self.chunks.append(message["body"])
                self.ended = not message["more_body"]
            self.news.notify_all()

    async def until(self, count: int) -> None:
        async with asyncio.timeout(5), self.news:
            await self.news.wait_for(lambda: len(self.chunks) >= count)


class Source:
    """A source that can be fed, and tells when it was closed."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[StreamEvent | Exception | None] = asyncio.Queue()
        self.closed = False

    async def __call__(self) -> AsyncIterator[StreamEvent]:
        try:
            while (event := await self.queue.get()) is not None:
                if isinstance(event, Exception):
                    raise event
                yield event
        finally:
            self.closed = True


def started(registry: Streams, source: Source, wire: Wire, **options: Any) -> asyncio.Task[None]:
    """The stream as a task."""
    answer = registry.respond(CALLER, source(), **options)
    return asyncio.create_task(answer({"type": "http"}, wire.receive, wire.send))


async def test_stream_sends_events_and_ends_with_its_source() -> None:
    """The retry hint comes first, then each event with its id; when the source ends, so does the answer."""
    registry, source, wire = Streams(), Source(), Wire()
    source.queue.put_nowait(StreamEvent('{"a":1}', event="alert.released", id="c1"))
    source.queue.put_nowait(None)
    await asyncio.wait_for(started(registry, source, wire), 5)
    assert wire.status == 200
    assert wire.chunks[:2] == [b"retry: 2000\n\n", b'event: alert.released\ndata: {"a":1}\nid: c1\n\n']
    assert wire.ended
    assert source.closed
    assert not registry.open


@pytest.mark.parametrize("end", ["client", "process"])
async def test_stream_ends_when_client_or_process_goes(end: str) -> None:
    """A client that goes, and a process that stops, end the stream at once and close its source."""
    registry, source, wire = Streams(), Source(), Wire()
    task = started(registry, source, wire)
    source.queue.put_nowait(StreamEvent("{}"))
    await wire.until(2)
    assert registry.open == {"ca-wall-1": 1}
    if end == "client":
        wire.gone.set()
    else:
        registry.close()
    await asyncio.wait_for(task, 5)
    assert wire.ended == (end == "process")
    assert source.closed
    assert not registry.open


async def test_stream_pings_and_asks_whether_it_may_go_on() -> None:
    """Between pings the permission is asked; trouble with asking changes nothing, a no ends the stream."""
    answers: list[bool | Unavailable] = [True, Unavailable("away"), False]

    async def allowed() -> bool:
        answer = answers.pop(0)
        if isinstance(answer, Unavailable):
            raise answer
        return answer

    registry, source, wire = Streams(ping_seconds=0.01), Source(), Wire()
    await asyncio.wait_for(started(registry, source, wire, allowed=allowed), 5)
    assert wire.chunks == [b"retry: 2000\n\n", b": ping\n\n", b": ping\n\n", b": closing\n\n"]


async def test_slow_reader_is_left_behind() -> None:
    """A client that does not read is dropped after the limit; its source is closed."""
    registry, source, wire = Streams(send_seconds_max=0.01), Source(), Wire()

    async def never(_message: Any) -> None:
        await asyncio.Event().wait()

    answer = registry.respond(CALLER, source())
    await asyncio.wait_for(answer({"type": "http"}, wire.receive, never), 5)
    assert not registry.open


@pytest.mark.logs_error("stream.failed")
@pytest.mark.parametrize(("error", "level"), [(Unavailable("away"), "warning"), (RuntimeError("bug"), "error")])
async def test_trouble_in_the_source_ends_the_stream(logs: list[Any], error: Exception, level: str) -> None:
    """Trouble ends the stream in good order, so that the client resumes; a bug is logged as one."""
    registry, source, wire = Streams(), Source(), Wire()
    source.queue.put_nowait(error)
    await asyncio.wait_for(started(registry, source, wire), 5)
    assert wire.ended
    assert [line["log_level"] for line in logs] == [level]


async def test_streams_have_a_limit_per_client() -> None:
    """One credential may hold so many streams; the next is 429, and a place is free again once one ends."""
    registry = Streams(per_client_max=1)
    source, wire = Source(), Wire()
    task = started(registry, source, wire)
    await wire.until(1)
    with pytest.raises(problems.HttpProblem) as refusal:
        registry.respond(CALLER, source())
    assert (refusal.value.code, refusal.value.headers) == ("too_many_streams", {"Retry-After": "5"})
    wire.gone.set()
    await asyncio.wait_for(task, 5)
    registry.respond(CALLER, source())


@pytest.mark.parametrize(
    ("headers", "query", "expected"),
    [
        ({}, "", None),
        ({"last-event-id": "c1"}, "", "c1"),
        ({}, "?last_event_id=c2", "c2"),
        ({"last-event-id": "c1"}, "?last_event_id=c2", "c1"),
        ({"last-event-id": "a b"}, "", 422),
        ({"last-event-id": "x" * 201}, "", 422),
    ],
)
async def test_last_event_id(deps: Deps, headers: dict[str, str], query: str, expected: str | int | None) -> None:
    """Where to go on comes from the header, else from the query, and is refused if it cannot be an id of ours."""
    router = APIRouter()

    @router.get("/v1/stream")
    async def stream(after: Annotated[str | None, Depends(streams.last_event_id)]) -> str | None:
        return after

    app = web.build_app("Example", [router], service="example", clock=deps.clock, ids=deps.ids)
    async with calling(deps, app) as client:
        answer = await client.get(f"/v1/stream{query}", headers=headers)
    assert expected == (answer.json() if answer.status_code == 200 else answer.status_code)


def test_cause_is_made_of_the_request() -> None:
    """The cause names subject and partner of the caller."""
    request = Request({"type": "http", "headers": [], problems.CORRELATION_ID: UUID(REQUEST_ID)})
    assert web.cause_of(request, CALLER) == Cause(correlation_id=UUID(REQUEST_ID), subject="ca-wall", partner="CA")
