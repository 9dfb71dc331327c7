"""Fetches calendars from addresses that governments gave us: one GET to an address that the guard has chosen.

The cast: a `CalendarFetcher`; what it returns is `Fetched`, `NotModified` or `Failed`.

The promise: a fetch ends within `total_seconds` and reads at most `bytes_max`, whatever the other side does. It follows
no redirect, uses no proxy from the environment, sends nothing that tells who asks, and unpacks nothing. The URL is a
secret: it stands in no log, in no reason and in no error.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyreqwest.client import Client
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.response import Response

from services.roster.calendars.model import BYTES_MAX
from shared.egress import Address, CheckedUrl, EgressPolicy, EgressRefused, RefusalReason, Resolver, check_url
from shared.log import get_logger
from shared.pinned import Trouble, pinned_client, trouble_of

log = get_logger(__name__)

ADDRESSES_PER_FETCH_MAX = 2
VALIDATOR_CHARACTERS_MAX = 200
"""Of an ETag or a date that is sent back; a longer one is not kept."""
BUILD_THREADS_MAX = 2


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """What a calendar's server may cost us. Tests pass smaller ones; production keeps these."""

    total_seconds: float = 10.0
    """For everything: name, connection, request, and reading the answer to its end."""
    connect_seconds: float = 3.0
    bytes_max: int = BYTES_MAX
    at_once_max: int = 4
    """Fetches under way; further ones wait."""


@dataclass(frozen=True, slots=True)
class Fetched:
    """What the server sent, and what it names this version by."""

    raw: bytes
    etag: str | None
    last_modified: str | None


@dataclass(frozen=True, slots=True)
class NotModified:
    """The server has nothing newer than what was fetched before."""


@dataclass(frozen=True, slots=True)
class Failed:
    """Why there is nothing: a stable code and a few words of our own."""

    reason: str
    detail: str


def address_of(url: str) -> str:
    """The URL that is fetched for one that people copy: calendar programs show `webcal://` for https."""
    for scheme in ("webcal://", "webcals://"):
        if url[: len(scheme)].lower() == scheme:
            return f"https://{url[len(scheme) :]}"
    return url


class CalendarFetcher:
    """Fetches calendars, each over a connection of its own.

    `extra_roots_pem` are certificate authorities to trust beside the system's.
    """

    def __init__(
        self,
        *,
        policy: EgressPolicy,
        monotonic: Callable[[], float],
        version: str,
        limits: FetchLimits | None = None,
        resolver: Resolver | None = None,
        extra_roots_pem: bytes | None = None,
    ) -> None:
        self._resolver = resolver or Resolver(policy, monotonic=monotonic)
        self._user_agent = f"RedPhone/{version}"
        self._limits = limits or FetchLimits()
        roots = x509.load_pem_x509_certificates(extra_roots_pem) if extra_roots_pem is not None else []
        self._extra_roots = [root.public_bytes(Encoding.DER) for root in roots]
        self._builders = ThreadPoolExecutor(BUILD_THREADS_MAX, thread_name_prefix="calendar-client")
        self._room = asyncio.Semaphore(self._limits.at_once_max)

    @property
    def policy(self) -> EgressPolicy:
        """What this installation connects to."""
        return self._resolver.policy

    async def fetch(self, url: str, *, etag: str | None, last_modified: str | None) -> Fetched | NotModified | Failed:
        """One GET; never raises except for being cancelled. The waiting for room does not count as time."""
        headers = {"accept": "text/calendar, text/plain;q=0.5, */*;q=0.1", "accept-encoding": "identity"}
        if etag is not None:
            headers["if-none-match"] = etag
        if last_modified is not None:
            headers["if-modified-since"] = last_modified
        async with self._room:
            try:
                async with asyncio.timeout(self._limits.total_seconds):
                    return await self._from_some_address(check_url(url, self.policy), headers)
            except TimeoutError:
                return Failed("timeout", f"no complete answer within {self._limits.total_seconds:g} s")
            except EgressRefused as refusal:
                return _refused(refusal)
            except Exception as error:  # noqa: BLE001 - one calendar's trouble must not stop the others
                log.error("calendar.fetch_failed", error=type(error).__name__)
                return Failed("internal", type(error).__name__)

    async def close(self) -> None:
        """Stops asking the name service. Fetches under way end by their own limit."""
        self._resolver.close()
        self._builders.shutdown(wait=False, cancel_futures=True)

    async def _from_some_address(self, url: CheckedUrl, headers: dict[str, str]) -> Fetched | NotModified | Failed:
        outcome: Fetched | NotModified | Failed = Failed("internal", "no address")
        for address in (await self._resolver.resolve(url))[:ADDRESSES_PER_FETCH_MAX]:
            outcome = await self._get(url, address, headers)
            if not (isinstance(outcome, Failed) and outcome.reason == Trouble.CONNECT_FAILED):
                break
        return outcome

    async def _get(self, url: CheckedUrl, address: Address, headers: dict[str, str]) -> Fetched | NotModified | Failed:
        loop = asyncio.get_running_loop()
        client = await loop.run_in_executor(self._builders, self._build, url, address)
        try:
            request = client.get(url.url).headers(headers).streamed_read_buffer_limit(0).build_streamed()
            async with request as response:
                return await self._answer(response)
        except PyreqwestError as error:
            trouble, detail = trouble_of(error)
            return Failed(trouble.value, detail)
        finally:
            await client.close()

    async def _answer(self, response: Response) -> Fetched | NotModified | Failed:
        if response.status == 304:
            return NotModified()
        if 300 <= response.status < 400:
            return Failed("redirect_refused", f"HTTP {response.status}: subscribe to the address that it leads to")
        if response.status != 200:
            return Failed("http_status", f"HTTP {response.status}")
        if (_header(response, "content-encoding") or "identity").strip().lower() != "identity":
            return Failed("response_compressed", "the server compresses, although it was asked not to")
        parts: list[bytes] = []
        received = 0
        while (chunk := await response.body_reader.read_chunk()) is not None:
            received += len(chunk)
            if received > self._limits.bytes_max:
                return Failed("response_too_large", f"more than {self._limits.bytes_max} bytes")
            parts.append(bytes(chunk))
        etag, last_modified = (_header(response, name) for name in ("etag", "last-modified"))
        return Fetched(b"".join(parts), _validator(etag), _validator(last_modified))

    def _build(self, url: CheckedUrl, address: Address) -> Client:
        return (
            pinned_client(
                url,
                address,
                user_agent=self._user_agent,
                connect_seconds=self._limits.connect_seconds,
                total_seconds=self._limits.total_seconds,
                extra_roots_der=self._extra_roots,
            )
            .pool_idle_timeout(timedelta(seconds=1))
            .build()
        )


def _header(response: Response, name: str) -> str | None:
    """A header of the answer; None also for one that is no text."""
    try:
        return response.get_header(name)
    except ValueError:
        return None


def _validator(text: str | None) -> str | None:
    """What may be sent back as it came: short, and of visible characters."""
    if text is None or len(text) > VALIDATOR_CHARACTERS_MAX or not text.isascii() or not text.isprintable():
        return None
    return text


def _refused(refusal: EgressRefused) -> Failed:
    match refusal.reason:
        case RefusalReason.ADDRESS_REFUSED | RefusalReason.TOO_MANY_ADDRESSES:
            reason = "address_refused"
        case RefusalReason.NAME_UNKNOWN | RefusalReason.NAME_SERVICE_TIMEOUT:
            reason = "dns_failed"
        case _:
            reason = "target_refused"
    return Failed(reason, refusal.detail)
