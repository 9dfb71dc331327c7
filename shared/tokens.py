"""`POST /v1/tokens`: client id and secret become a short-lived signed token, at every service, also without roster.

The request may be JSON, a form, or carry the client in HTTP Basic, as RFC 6749 has it for client credentials; refusals
are problems, and their `code` is the RFC's where it has one.

Secrets have 256 random bits, so guessing needs no lock to stop it. A lock would let anybody keep a government out by
sending wrong secrets in its name. So wrong ones are counted, reported and slowed down with 429, and the right one is
accepted at any time.
"""

from __future__ import annotations

import base64
import binascii
from collections import OrderedDict
from operator import attrgetter
from typing import Annotated, Any, Literal
from urllib.parse import parse_qs, unquote_plus

import orjson
from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from shared.clock import Clock
from shared.errors import Invalid
from shared.log import get_logger
from shared.problems import HttpProblem, field_errors, problem_responses
from shared.security import (
    CLIENT_ID_LENGTH_MAX,
    SECRET_LENGTH_MAX,
    TOKEN_SECONDS,
    IdentityDeps,
    Unauthenticated,
    authenticate,
    issue_token,
)

log = get_logger(__name__)

FAILURES_MAX = 10
FAILURE_WINDOW_SECONDS = 60.0
COUNTED_CLIENTS_MAX = 10_000
TOKEN_REQUEST_BYTES_MAX = 4_000


class TokenRequest(BaseModel):
    """Client credentials (RFC 6749, section 4.4). Unknown fields, `scope` for example, are ignored as the RFC asks."""

    model_config = ConfigDict(extra="ignore")

    grant_type: Literal["client_credentials"] = "client_credentials"
    client_id: Annotated[str, StringConstraints(min_length=1, max_length=CLIENT_ID_LENGTH_MAX)] = Field(
        examples=["ca-duty-officer"]
    )
    client_secret: Annotated[str, StringConstraints(min_length=1, max_length=SECRET_LENGTH_MAX)] = Field(
        examples=["rps_…"]
    )


class TokenAnswer(BaseModel):
    """A token and what it says."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - the scheme, not a secret
    expires_in: int = Field(description="Seconds from now.", examples=[TOKEN_SECONDS])
    partner: str = Field(examples=["CA"])
    subject: str = Field(examples=["ca-duty-officer"])
    roles: list[str] = Field(examples=[["duty_officer"]])


class WrongSecrets:
    """Counts wrong secrets per client id within a sliding minute, in bounded memory."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._since: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def count(self, client_id: str) -> int:
        """Notes one more and returns how many there were in this window."""
        present = self._clock.monotonic()
        since, failures = self._since.pop(client_id, (present, 0))
        if present - since > FAILURE_WINDOW_SECONDS:
            since, failures = present, 0
        self._since[client_id] = (since, failures + 1)
        if len(self._since) > COUNTED_CLIENTS_MAX:
            self._since.popitem(last=False)
        return failures + 1

    def forget(self, client_id: str) -> None:
        """The right secret came."""
        self._since.pop(client_id, None)


def token_router(deps: IdentityDeps) -> APIRouter:
    """The one route."""
    router = APIRouter(generate_unique_id_function=attrgetter("name"))
    wrong_secrets = WrongSecrets(deps.clock)
    schema = TokenRequest.model_json_schema()

    @router.post(
        "/v1/tokens",
        tags=["Access"],
        summary="Get a token for a client id and its secret",
        response_model=TokenAnswer,
        responses=problem_responses("malformed", "invalid_client", "unsupported_media_type", "too_many_failures"),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {"schema": schema},
                    "application/x-www-form-urlencoded": {"schema": schema},
                },
            }
        },
    )
    async def get_token(request: Request, response: Response) -> TokenAnswer:
        """Exchanges client credentials for a token of 15 minutes. Works at every service, also while others are down.

        A token ends early when its credential is revoked or changed; then, and when it expires, get a new one here.
        """
        asked = await read_token_request(request)
        now = deps.clock.now()
        try:
            async with deps.intake.transaction() as tx:
                principal = await authenticate(tx, asked.client_id, asked.client_secret)
        except Unauthenticated as refusal:
            failures = wrong_secrets.count(asked.client_id)
            if failures == FAILURES_MAX:
                log.warning("credential.refused_often", client_id=_loggable(asked.client_id), failures=failures)
            if failures > FAILURES_MAX:
                raise HttpProblem(
                    f"more than {FAILURES_MAX} wrong secrets within a minute for this client id",
                    code="too_many_failures",
                    headers={"Retry-After": str(int(FAILURE_WINDOW_SECONDS))},
                ) from refusal
            raise
        wrong_secrets.forget(asked.client_id)
        token = issue_token(deps.keyring, principal, now=now, token_id=deps.ids.new())
        response.headers["Cache-Control"] = "no-store"
        return TokenAnswer(
            access_token=token,
            expires_in=TOKEN_SECONDS,
            partner=principal.partner,
            subject=principal.subject,
            roles=sorted(principal.roles),
        )

    return router


async def read_token_request(request: Request) -> TokenRequest:
    """The request in any of its three forms; raises a problem that never repeats what was sent."""
    body = await request.body()
    if len(body) > TOKEN_REQUEST_BYTES_MAX:
        raise HttpProblem(f"a token request has at most {TOKEN_REQUEST_BYTES_MAX} bytes", code="body_too_large")
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/json":
        fields = _json_fields(body)
    elif content_type == "application/x-www-form-urlencoded":
        fields = _form_fields(body)
    elif not body:
        fields = {}
    else:
        raise HttpProblem("send application/json or application/x-www-form-urlencoded", code="unsupported_media_type")
    fields |= _basic_fields(request.headers.get("authorization", ""))
    try:
        return TokenRequest.model_validate(fields)
    except ValidationError as error:
        mistakes = field_errors(error.errors(include_input=False, include_url=False))
        named = ", ".join(mistake.field for mistake in mistakes)
        raise Invalid(f"the input is wrong in: {named}", errors=mistakes) from None


def _json_fields(body: bytes) -> dict[str, Any]:
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise HttpProblem("the body is not JSON", code="malformed") from None
    if not isinstance(fields, dict):
        raise HttpProblem("the body must be a JSON object", code="malformed")
    return fields


def _form_fields(body: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qs(body.decode("utf-8"), keep_blank_values=True, strict_parsing=True, max_num_fields=20)
    except ValueError:
        raise HttpProblem("the body is not a form", code="malformed") from None
    if any(len(values) > 1 for values in pairs.values()):
        raise HttpProblem("a field of the form is given twice", code="malformed")
    return {name: values[0] for name, values in pairs.items()}


def _basic_fields(header: str) -> dict[str, Any]:
    """Client id and secret of HTTP Basic, each form-encoded before, as RFC 6749, section 2.3.1, has it."""
    scheme, _, encoded = header.partition(" ")
    if scheme.lower() != "basic":
        return {}
    try:
        client_id, separator, secret = base64.b64decode(encoded.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise HttpProblem("the Authorization header is not HTTP Basic", code="malformed") from None
    if not separator:
        raise HttpProblem("the Authorization header is not HTTP Basic", code="malformed")
    return {"client_id": unquote_plus(client_id), "client_secret": unquote_plus(secret)}


def _loggable(client_id: str) -> str:
    """What a stranger sent as a client id, without line breaks and the like, and not without end."""
    return "".join(character for character in client_id[:60] if character.isprintable())
