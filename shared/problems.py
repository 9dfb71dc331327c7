"""What every refusal looks like: RFC 9457 problems with a stable code, the field, and what would be right.

The cast: `PROBLEMS` names every code with its status, a title and what to do about it; each service adds its own with
`declare_problems`. `problem_response` makes the answer; `install` turns every error of the house, and everything that
the web framework refuses by itself, into one. The page of a code is served at its `type`, `/problems/{code}`.

The promise: no answer repeats the caller's input or tells what went wrong inside; a bug is a 500 with an id under which
the log has the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from shared.errors import Conflict, FieldError, Forbidden, Invalid, NotFound, RedPhoneError, Rejected, Unavailable
from shared.log import get_logger
from shared.security import Unauthenticated

log = get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
FIELD_ERRORS_MAX = 50
RETRY_AFTER_SECONDS = 1
"""What `Retry-After` says with 503: databases come back within seconds, and the caller's key makes a retry safe."""


CORRELATION_ID = "redphone.correlation_id"
"""Where the gate leaves the id of the request in the ASGI scope."""

NO_CORRELATION_ID = UUID(int=0)


@dataclass(frozen=True, slots=True)
class ProblemType:
    """One kind of refusal: its HTTP status, its title, and what the caller should do."""

    status: int
    title: str
    remedy: str


PROBLEMS: dict[str, ProblemType] = {
    "malformed": ProblemType(400, "The request cannot be read", "Send well-formed JSON, or the media type you name."),
    "idempotency_key_missing": ProblemType(
        400, "An Idempotency-Key is needed", "Send a new UUID as Idempotency-Key; send the same one with every retry."
    ),
    "idempotency_key_malformed": ProblemType(
        400, "The Idempotency-Key cannot be used", "Use 1 to 200 visible ASCII characters; a UUID is best."
    ),
    "token_missing": ProblemType(
        401, "A token is needed", "Get one at POST /v1/tokens and send it as `Authorization: Bearer …`."
    ),
    "token_invalid": ProblemType(
        401, "The token is not ours", "Get a new one at POST /v1/tokens of this installation."
    ),
    "token_expired": ProblemType(401, "The token has expired", "Get a new one at POST /v1/tokens."),
    "credential_revoked": ProblemType(
        401, "The credential has changed", "Get a new token; if that is refused, ask your roster manager."
    ),
    "invalid_client": ProblemType(
        401, "Client id or secret is wrong", "Check both; if they are right, the credential was revoked."
    ),
    "forbidden": ProblemType(403, "Your roles do not allow this", "Use a credential with the role that is named."),
    "role_missing": ProblemType(403, "A role is missing", "Use a credential with the role that is named."),
    "not_found": ProblemType(
        404, "There is no such thing, or it is not yours to see", "Check the address and whose credential you use."
    ),
    "method_not_allowed": ProblemType(405, "Not with this method", "Use one of the methods in the Allow header."),
    "not_acceptable": ProblemType(406, "Not in this form", "Ask for a media type that the documentation names."),
    "conflict": ProblemType(409, "Not in this state", "Read the object again and decide anew."),
    "idempotency_in_flight": ProblemType(
        409, "The first request with this key is still at work", "Repeat it after a second, with the same key."
    ),
    "precondition_failed": ProblemType(
        412, "Somebody else changed it meanwhile", "Read it again and send the new ETag as If-Match."
    ),
    "body_too_large": ProblemType(413, "The body is too large", "Stay below the limit that the detail names."),
    "address_too_long": ProblemType(414, "The address is too long", "Stay below the limit that the detail names."),
    "unsupported_media_type": ProblemType(
        415, "Not with this content type", "Send application/json, or what the documentation names for this call."
    ),
    "invalid": ProblemType(422, "The input is wrong", "Correct the fields that `errors` names."),
    "rejected": ProblemType(422, "This cannot be done", "Read the detail; the same request gets the same answer."),
    "control_characters": ProblemType(
        422, "Text holds control characters", "Send plain text: no zero characters, and line breaks only in long texts."
    ),
    "cursor_invalid": ProblemType(422, "The cursor cannot be read", "Use `next_cursor` as it came, or start anew."),
    "idempotency_key_reused": ProblemType(
        422, "The Idempotency-Key was used for another request", "Use a new key for a new request."
    ),
    "precondition_required": ProblemType(
        428, "An If-Match header is needed", "Read the object and send its ETag as If-Match."
    ),
    "too_many_failures": ProblemType(
        429, "Too many wrong secrets", "Check the secret. The right one is accepted at any time."
    ),
    "too_many_streams": ProblemType(429, "Too many open streams", "Close one, or use one stream for everything."),
    "headers_too_large": ProblemType(431, "The headers are too large", "Stay below the limit that the detail names."),
    "internal": ProblemType(
        500, "Something went wrong on our side", "Tell the operator the id in `instance`; retry with the same key."
    ),
    "unavailable": ProblemType(
        503,
        "Not now",
        "Retry with the same Idempotency-Key: the first try may have been stored, and the key makes it safe.",
    ),
    "database_unavailable": ProblemType(
        503, "The database does not answer", "Retry with the same Idempotency-Key after Retry-After."
    ),
    "database_busy": ProblemType(
        503, "All database connections are busy", "Retry with the same Idempotency-Key after Retry-After."
    ),
}
"""Every code, for answers and for the documentation. Codes are stable; one that is not here shows its class's page."""

_CODE_OF_STATUS = {
    400: "malformed",
    401: "token_missing",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    409: "conflict",
    413: "body_too_large",
    414: "address_too_long",
    415: "unsupported_media_type",
    422: "invalid",
    429: "too_many_failures",
    431: "headers_too_large",
    503: "unavailable",
}

_CODE_OF_CLASS: tuple[tuple[type[RedPhoneError], str], ...] = (
    (Invalid, "invalid"),
    (NotFound, "not_found"),
    (Forbidden, "forbidden"),
    (Conflict, "conflict"),
    (Rejected, "rejected"),
    (Unauthenticated, "token_invalid"),
    (Unavailable, "unavailable"),
)


class HttpProblem(RedPhoneError):
    """A refusal that exists only in HTTP (a missing header, a limit): its status is that of its code in `PROBLEMS`."""

    code = "malformed"

    def __init__(self, detail: str, *, code: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail, code=code)
        self.headers = dict(headers or {})


class FieldProblem(BaseModel):
    """One mistake in the input."""

    field: str = Field(description="Where it stands, as in JSON: `info[0].headline`.", examples=["precedence"])
    detail: str = Field(description="What is wrong and what would be right.")
    code: str = Field(description="Stable name of the mistake.", examples=["missing"])


class Problem(BaseModel):
    """A refusal, after RFC 9457."""

    type: str = Field(description="Page about this kind of problem.", examples=["/problems/invalid"])
    title: str = Field(description="The kind of problem, always the same text.", examples=["The input is wrong"])
    status: int = Field(description="The HTTP status.", examples=[422])
    detail: str = Field(description="What is wrong this time.")
    instance: str = Field(description="This very request, as the log knows it.", examples=["urn:uuid:0191…"])
    code: str = Field(description="Stable name for programs.", examples=["invalid"])
    errors: list[FieldProblem] = Field(default_factory=list, description="Each wrong field, where there are fields.")


def declare_problems(problems: Mapping[str, ProblemType]) -> None:
    """Adds a service's codes to `PROBLEMS`; the same code with another meaning is a mistake in the program."""
    for code, problem in problems.items():
        if PROBLEMS.setdefault(code, problem) != problem:
            message = f"the problem code {code!r} is declared twice"
            raise ValueError(message)


def problem_body(
    code: str, detail: str, *, instance: str, fallback: str = "internal", errors: Sequence[FieldError] = ()
) -> dict[str, Any]:
    """The members of a problem. `fallback` is the documented code that stands in for one that has no page."""
    page = code if code in PROBLEMS else fallback
    body: dict[str, Any] = {
        "type": f"/problems/{page}",
        "title": PROBLEMS[page].title,
        "status": PROBLEMS[page].status,
        "detail": detail,
        "instance": instance,
        "code": code,
    }
    if errors:
        body["errors"] = [
            {"field": error.field, "detail": error.detail, "code": error.code} for error in errors[:FIELD_ERRORS_MAX]
        ]
    return body


def problem_response(
    code: str,
    detail: str,
    *,
    instance: str,
    fallback: str = "internal",
    errors: Sequence[FieldError] = (),
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The answer for a problem, with the headers that its status asks for."""
    body = problem_body(code, detail, instance=instance, fallback=fallback, errors=errors)
    sent = dict(headers or {})
    if body["status"] == 401:
        # RFC 6750 names an error only when a token was sent.
        error = "" if code == "token_missing" else ', error="invalid_token"'
        sent.setdefault("WWW-Authenticate", f'Bearer realm="redphone"{error}')
    if body["status"] == 503:
        sent.setdefault("Retry-After", str(RETRY_AFTER_SECONDS))
    return Response(orjson.dumps(body), status_code=body["status"], media_type=MEDIA_TYPE, headers=sent)


def instance_of(request: Request) -> str:
    """The name of this request in answers: its correlation id as a URN."""
    return f"urn:uuid:{request.scope.get(CORRELATION_ID, NO_CORRELATION_ID)}"


# --- from errors to answers -------------------------------------------------------------------------------------------


async def on_red_phone_error(request: Request, error: Exception) -> Response:
    """Any deliberate error. One that HTTP callers cannot have caused is a bug and goes on as such."""
    assert isinstance(error, RedPhoneError)
    fallback = next((code for cls, code in _CODE_OF_CLASS if isinstance(error, cls)), None)
    if fallback is None and not isinstance(error, HttpProblem):
        raise error
    return problem_response(
        error.code,
        error.detail,
        instance=instance_of(request),
        fallback=fallback or "malformed",
        errors=error.errors if isinstance(error, Rejected) else (),
        headers=error.headers if isinstance(error, HttpProblem) else None,
    )


async def on_http_exception(request: Request, error: Exception) -> Response:
    """What the framework refuses by itself: unknown addresses, wrong methods, bodies that it cannot parse."""
    assert isinstance(error, HTTPException)
    code = _CODE_OF_STATUS.get(error.status_code, "internal" if error.status_code >= 500 else "malformed")
    detail = PROBLEMS[code].title if error.detail in _STANDARD_PHRASES else str(error.detail)
    return problem_response(code, detail, instance=instance_of(request), headers=error.headers)


async def on_validation_error(request: Request, error: Exception) -> Response:
    """Input that does not fit its declaration: unreadable (400), of the wrong type (415), or wrong in fields (422)."""
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    instance = instance_of(request)
    if any(mistake["type"] == "json_invalid" for mistake in found):
        place = next(mistake["loc"][-1] for mistake in found if mistake["type"] == "json_invalid")
        return problem_response("malformed", f"the body is not JSON (at character {place})", instance=instance)
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    body_alone = any(tuple(mistake["loc"]) == ("body",) and mistake["type"] != "missing" for mistake in found)
    if body_alone and not (content_type == "application/json" or content_type.endswith("+json")):
        return problem_response(
            "unsupported_media_type", "the body must be JSON with content-type: application/json", instance=instance
        )
    errors = field_errors(found)
    named = ", ".join(dict.fromkeys(error.field for error in errors[:5]))
    return problem_response("invalid", f"the input is wrong in: {named}", instance=instance, errors=errors)


def field_errors(found: Sequence[Any]) -> tuple[FieldError, ...]:
    """The mistakes that pydantic reports, fields named as in JSON, without the values that were sent."""
    return tuple(
        FieldError(field=_field_name(mistake["loc"]), detail=_sentence(mistake), code=str(mistake["type"]))
        for mistake in found[:FIELD_ERRORS_MAX]
    )


_STANDARD_PHRASES = frozenset({"Not Found", "Method Not Allowed"})
_PLACES = frozenset({"body", "query", "path", "header", "cookie"})


def _field_name(location: Sequence[str | int]) -> str:
    parts = list(location)
    if len(parts) > 1 and parts[0] in _PLACES:
        parts = parts[1:]
    name = ""
    for part in parts:
        if isinstance(part, int):
            name += f"[{part}]"
        elif not any(mark in part for mark in "[({ ") and not part.startswith("function-"):
            # Branches of a union appear in the location, too; they are no fields.
            name += f".{part}" if name else part
    return name or "body"


def _sentence(mistake: Mapping[str, Any]) -> str:
    match mistake["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "is not a field of this request; check its spelling"
        case "union_tag_invalid":
            # The library's own sentence repeats what was sent.
            return f"type must be one of {mistake['ctx']['expected_tags']}"
        case "value_error":
            return str(mistake["msg"]).removeprefix("Value error, ")
        case _:
            return str(mistake["msg"])


def install(app: FastAPI) -> None:
    """Makes every refusal of the application a problem. Bugs are caught further out, by the gate in `shared.web`."""
    app.add_exception_handler(RedPhoneError, on_red_phone_error)
    app.add_exception_handler(RequestValidationError, on_validation_error)
    app.add_exception_handler(HTTPException, on_http_exception)


# --- documentation ----------------------------------------------------------------------------------------------------


def problem_responses(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route for these codes, with an example of each. Any route may also answer 401, 422, 503."""
    responses: dict[int | str, dict[str, Any]] = {}
    for code in codes:
        problem = PROBLEMS[code]
        answer = responses.setdefault(
            problem.status,
            {
                "description": problem.title,
                "content": {
                    MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": {}},
                },
            },
        )
        if problem.title not in answer["description"]:
            answer["description"] += f" · {problem.title}"
        example = problem_body(code, problem.remedy, instance="urn:uuid:01910000-0000-7000-8000-000000000000")
        answer["content"][MEDIA_TYPE]["examples"][code] = {"summary": problem.title, "value": example}
    return responses


def page_of(code: str) -> dict[str, Any] | None:
    """What `/problems/{code}` says, or None for a code that is not documented."""
    problem = PROBLEMS.get(code)
    if problem is None:
        return None
    return {
        "type": f"/problems/{code}",
        "code": code,
        "status": problem.status,
        "title": problem.title,
        "what_to_do": problem.remedy,
    }
