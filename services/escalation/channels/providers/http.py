"""The way to a provider's HTTP API: one client for each, kept open.

The cast: an `ApiClient`, a `Reply` (the provider has answered) and a `Failure` (it has not, and why).

The promise: a request ends within the seconds that it was given, goes to the configured address and nowhere else (no
redirect, no proxy from the environment), and reads at most `REPLY_BYTES_MAX`. A failure tells nothing of the request.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import orjson
from pyreqwest.client import Client, ClientBuilder
from pyreqwest.exceptions import ClientClosedError, PyreqwestError

from services.escalation.channels import Cost, Reason
from services.escalation.channels.outcomes import failure_of
from services.escalation.channels.providers import Answer
from services.escalation.retry import parse_retry_after
from shared.clock import Clock
from shared.log import get_logger

log = get_logger(__name__)

CONNECT_SECONDS = 2.0
REPLY_BYTES_MAX = 65_536
IN_FLIGHT_MAX = 64
"""Requests to one provider at once, urgent ones, and once more others; further ones wait for a place within their own
time. That is our limit, and so what is urgent waits for urgent ones alone."""

IDLE_SECONDS = 55.0
_REQUEST_SECONDS_MAX = 10.0
PROVIDER_ID_CHARACTERS_MAX = 200

_CURRENCY = re.compile(r"[A-Z]{3}")
_AMOUNT = re.compile(r"-?[0-9]{1,7}(\.[0-9]{1,8})?")
_CODE = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, whatever its status. `body` is empty if it is no JSON object."""

    status_code: int
    body: Mapping[str, Any]
    retry_after_seconds: float | None


@dataclass(frozen=True, slots=True)
class Failure:
    """No usable answer. The provider may have acted all the same, except where the reason says that it could not."""

    reason: Reason
    detail: str
    status_code: int | None = None


class ApiClient:
    """Talks to the provider at `base_url` (scheme, host and port). `headers` go with every request."""

    def __init__(self, base_url: str, *, headers: Mapping[str, str], user_agent: str, clock: Clock) -> None:
        self._base_url = base_url.rstrip("/")
        self._headers = dict(headers)
        self._user_agent = user_agent
        self._clock = clock
        self._room = {urgent: asyncio.Semaphore(IN_FLIGHT_MAX) for urgent in (True, False)}
        self._building: asyncio.Task[Client] | None = None
        self._closed = False

    async def post(
        self, path: str, body: bytes, content_type: str, *, seconds: float, is_urgent: bool = True
    ) -> Reply | Failure:
        """Posts within so many seconds. Never raises, except for being cancelled."""
        admitted = False
        deadline = asyncio.get_running_loop().time() + seconds
        try:
            async with asyncio.timeout_at(deadline), self._room[is_urgent]:
                admitted = True
                client = await self._client()
                # The client goes on with a request whose awaiting task was cancelled; its own limit makes it let go.
                left_seconds = max(deadline - asyncio.get_running_loop().time(), 0.001)
                request = (
                    client.post(f"{self._base_url}{path}")
                    .header("content-type", content_type)
                    .body_bytes(body)
                    .timeout(timedelta(seconds=left_seconds))
                    .streamed_read_buffer_limit(0)
                )
                async with request.build_streamed() as response:
                    content = bytearray()
                    while (chunk := await response.body_reader.read_chunk()) is not None:
                        content += chunk
                        if len(content) > REPLY_BYTES_MAX:
                            limit = f"more than {REPLY_BYTES_MAX} bytes"
                            return Failure(Reason.RESPONSE_TOO_LARGE, limit, response.status)
                    pause = parse_retry_after(response.get_header("retry-after"), now=self._clock.now())
                    return Reply(response.status, _object(bytes(content)), pause)
        except TimeoutError:
            if not admitted:
                return Failure(Reason.PROVIDER_BUSY, "no place for a further request in time")
            return Failure(Reason.TIMEOUT, "no complete answer in time")
        except PyreqwestError as error:
            outcome = failure_of(error)
            return Failure(outcome.reason, outcome.detail or outcome.reason)
        except Exception as error:  # noqa: BLE001 - whatever is wrong here, the next provider is to be asked
            log.error("provider.request_failed", error=type(error).__name__)
            return Failure(Reason.INTERNAL, type(error).__name__)

    async def prepare(self) -> None:
        """Builds the client, which reads the certificate authorities."""
        if not self._closed:
            await self._client()

    async def close(self) -> None:
        """Closes all connections."""
        self._closed = True
        building, self._building = self._building, None
        if building is not None:
            with contextlib.suppress(Exception):  # what could not be built need not be closed
                await (await building).close()

    async def _client(self) -> Client:
        if self._closed:
            raise ClientClosedError("the provider's client is closed", {"causes": None})
        if self._building is None or _has_failed(self._building):
            self._building = asyncio.create_task(asyncio.to_thread(self._build), name="build provider client")
        return await asyncio.shield(self._building)

    def _build(self) -> Client:
        return (
            ClientBuilder()
            .no_proxy()
            .follow_redirects(False)
            .referer(False)
            .gzip(False)
            .brotli(False)
            .zstd(False)
            .deflate(False)
            .http1_only()
            .https_only(self._base_url.startswith("https://"))
            .min_tls_version("TLSv1.2")
            .user_agent(self._user_agent)
            .default_headers(self._headers)
            .connect_timeout(timedelta(seconds=CONNECT_SECONDS))
            .timeout(timedelta(seconds=_REQUEST_SECONDS_MAX))
            .pool_idle_timeout(timedelta(seconds=IDLE_SECONDS))
            .build()
        )


def _has_failed(task: asyncio.Task[Client]) -> bool:
    return task.done() and (task.cancelled() or task.exception() is not None)


def _object(content: bytes) -> Mapping[str, Any]:
    try:
        parsed = orjson.loads(content)
    except orjson.JSONDecodeError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def answer_of(
    said: Reply | Failure,
    *,
    provider_id: object,
    code: str | None,
    unknown_address_codes: frozenset[str],
    cost: Cost | None = None,
) -> Answer:
    """What a provider's answer to a new message or call means. `code` is its own name for what is wrong.

    A code that is not known here is a refusal: codes are changed by their owners, statuses are not.
    """
    if isinstance(said, Failure):
        return Answer(said.reason, said.detail, said.status_code)
    status = said.status_code
    detail = f"HTTP {status}" if code is None else f"HTTP {status}, error {code}"
    if 200 <= status < 300:
        is_id = isinstance(provider_id, str) and provider_id.isascii() and provider_id.isprintable()
        if not is_id or not 0 < len(str(provider_id)) <= PROVIDER_ID_CHARACTERS_MAX:
            return Answer(Reason.RESPONSE_MALFORMED, f"{detail} without an id", status)
        return Answer(Reason.ACCEPTED, None, status, provider_id=str(provider_id), cost=cost)
    if status == 429:
        reason = Reason.PROVIDER_BUSY
    elif status == 408 or status >= 500:
        reason = Reason.PROVIDER_UNAVAILABLE
    elif 300 <= status < 400:
        reason = Reason.REDIRECT_REFUSED
    else:
        reason = Reason.ADDRESS_UNKNOWN if code in unknown_address_codes else Reason.PROVIDER_REFUSED
    return Answer(reason, detail, status, said.retry_after_seconds)


def cost_of(amount: object, currency: object) -> Cost | None:
    """A price as providers write it, always as what it costs us; None where none is told."""
    if not isinstance(currency, str) or not _CURRENCY.fullmatch(currency.upper()):
        return None
    if not isinstance(amount, str) or not _AMOUNT.fullmatch(amount):
        return None
    # Twilio writes what it takes from the account as a negative number.
    return Cost(abs(Decimal(amount)), currency.upper())


def error_code(value: object) -> str | None:
    """A provider's error code, if it is one: digits only, so that nothing else of an answer gets into a detail."""
    text = str(value) if isinstance(value, str | int) else ""
    return text if _CODE.fullmatch(text) else None
