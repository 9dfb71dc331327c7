"""Pages to partners' systems: one signed POST to an address that the guard has chosen.

The cast: a `WebhookChannel`, which keeps one HTTP client per contact point (an endpoint), pinned to one resolved
address while TLS verifies against the name; and `WebhookLimits`. `outcomes` turns what the client raises into a reason
that is true.

The promise: an attempt ends within `total_seconds`, whatever the other side does; it follows no redirect, uses no proxy
from the environment, unpacks nothing and reads at most `response_bytes_max`; endpoints share no connection and wait for
no place of each other. Only a complete 2xx answer counts as delivered. Everything else is tried again under the same
`webhook-id`, also when the endpoint may have had the page: two pages are a nuisance, a missing one is a catastrophe.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import timedelta
from uuid import UUID

import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pyreqwest.client import Client
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.request import RequestBuilder, StreamRequest

from services.escalation.channels import AttemptState, Outgoing, Reason, SendResult
from services.escalation.channels.outcomes import Outcome, failure_of, refused
from services.escalation.retry import parse_retry_after
from shared import webhooks
from shared.carriers import WEBHOOK
from shared.clock import Clock
from shared.egress import Address, CheckedUrl, EgressRefused, Resolver, check_url
from shared.pinned import pinned_client
from shared.webhooks import SigningKey

log = structlog.get_logger(__name__)

ADDRESSES_PER_ATTEMPT_MAX = 2
"""A name with an unreachable first address gets a second chance at once, because nothing was sent on the first."""
BUILD_THREADS_MAX = 2
NEARLY_ALL_SECONDS = 0.01
"""A request that has so much of its time left keeps the client's own limit, which is the whole time."""


@dataclass(frozen=True, slots=True)
class WebhookLimits:
    """What an endpoint may cost us. Tests pass smaller ones; production keeps these."""

    total_seconds: float = 5.0
    """For everything: name, connection, request, and reading the answer to its end."""
    connect_seconds: float = 2.0
    response_bytes_max: int = 65_536
    in_flight_max: int = 64
    """Attempts at one endpoint at the same time. Further ones wait for a place within their own five seconds."""
    clients_max: int = 2_000
    """Clients kept warm; the one unused for longest goes first, and never one in use."""
    idle_seconds: float = 55.0
    """Connections are kept for less than the 60 s after which common servers drop theirs."""


@dataclass(slots=True)
class _Connection:
    """A client that can reach exactly one address."""

    address: Address
    client: Client


@dataclass(slots=True)
class _Endpoint:
    """What is kept about one contact point."""

    target: str = field(repr=False)
    url: CheckedUrl
    room: asyncio.Semaphore
    users: int = 0
    connection: _Connection | None = None
    building: dict[Address, asyncio.Task[_Connection]] = field(default_factory=dict)
    failed: set[Address] = field(default_factory=set)
    """Addresses that could not be connected to since one last could."""


@dataclass(frozen=True, slots=True)
class _Ready:
    """A request that was made ahead of its attempt, for one client."""

    connection: _Connection
    request: StreamRequest


@dataclass(slots=True)
class _Progress:
    """How far an attempt got, for the result of one that is cut off."""

    admitted: bool = False
    status_code: int | None = None


class WebhookChannel:
    """Standard Webhooks with Ed25519 signatures over HTTP/1.1.

    `extra_roots_pem` are certificate authorities to trust beside the system's; unreadable ones raise `ValueError`.
    """

    name = "webhook"
    provider = WEBHOOK

    def __init__(
        self,
        *,
        clock: Clock,
        resolver: Resolver,
        signing_keys: Sequence[SigningKey],
        version: str,
        limits: WebhookLimits | None = None,
        extra_roots_pem: bytes | None = None,
    ) -> None:
        self._clock = clock
        self._resolver = resolver
        self._signing_keys = tuple(signing_keys)
        self._user_agent = f"RedPhone/{version}"
        self._limits = limits or WebhookLimits()
        # Read here, because a certificate that cannot be read must fail the start and not the first page.
        roots = x509.load_pem_x509_certificates(extra_roots_pem) if extra_roots_pem is not None else []
        self._extra_roots = [root.public_bytes(Encoding.DER) for root in roots]
        self._endpoints: OrderedDict[UUID, _Endpoint] = OrderedDict()
        self._builders = ThreadPoolExecutor(BUILD_THREADS_MAX, thread_name_prefix="webhook-client")
        self._closed = False

    async def send(self, page: Outgoing) -> SendResult:
        """POST the page once. Returns within `total_seconds`; never raises except for being cancelled."""
        started = self._clock.monotonic()
        progress = _Progress()
        deadline = asyncio.get_running_loop().time() + self._limits.total_seconds
        try:
            if self._is_ready(page):
                # All that is waited for is the client, which keeps the deadline by itself and at less cost.
                outcome = await self._attempt(page, progress, deadline)
            else:
                async with asyncio.timeout_at(deadline):
                    outcome = await self._attempt(page, progress, deadline)
        except TimeoutError:
            reason = Reason.TIMEOUT if progress.admitted else Reason.ENDPOINT_BUSY
            outcome = Outcome(reason, f"no complete answer within {self._limits.total_seconds:g} s")
        except Exception as error:  # noqa: BLE001 - the delivery loop relies on a result for every page
            log.error(
                "webhook.send_failed",
                contact_point_id=str(page.contact_point_id),
                page_id=str(page.page_id),
                error=type(error).__name__,
            )
            outcome = Outcome(Reason.INTERNAL, type(error).__name__)
        return SendResult(
            state=AttemptState.DELIVERED if outcome.reason is Reason.ACCEPTED else AttemptState.FAILED,
            reason=outcome.reason,
            detail=outcome.detail,
            status_code=progress.status_code,
            retry_after_seconds=outcome.retry_after_seconds,
            elapsed_seconds=self._clock.monotonic() - started,
        )

    def make_ready(self, page: Outgoing) -> Outgoing:
        """Signs the page, and makes the request of it where the client is there: half of what sending it costs."""
        signed = self._signed(page)
        endpoint, request = self._endpoints.get(page.contact_point_id), None
        if endpoint is not None and endpoint.connection is not None and endpoint.target == page.target:
            built = _request(endpoint.connection, endpoint.url, signed, page.body).build_streamed()
            request = _Ready(endpoint.connection, built)
        return replace(page, headers=signed, request=request)

    def _signed(self, page: Outgoing) -> Mapping[str, str]:
        return webhooks.headers(self._signing_keys, str(page.page_id), page.sent_at, page.body)

    async def prepare(self, contact_point_id: UUID, target: str) -> None:
        """Resolve the name and build the client, so that a page finds both ready. Sends nothing.

        What fails here is left to the first attempt, which reports it.
        """
        try:
            async with asyncio.timeout(self._limits.total_seconds):
                await self._connect(self._endpoint(contact_point_id, target))
        except (EgressRefused, TimeoutError):
            return
        except Exception as error:  # noqa: BLE001 - preparing is a convenience and must not stop its caller
            log.warning("webhook.prepare_failed", contact_point_id=str(contact_point_id), error=type(error).__name__)

    def is_busy(self, contact_point_id: UUID) -> bool:
        """Whether a further attempt at this endpoint would have to wait for one that is under way."""
        endpoint = self._endpoints.get(contact_point_id)
        return endpoint is not None and endpoint.room.locked()

    async def close(self) -> None:
        """Close all connections. Attempts under way end as failed with `channel_unavailable`."""
        self._closed = True
        endpoints = list(self._endpoints.values())
        self._endpoints.clear()
        for endpoint in endpoints:
            for task in endpoint.building.values():
                task.cancel()
            if endpoint.connection is not None:
                await endpoint.connection.client.close()
        self._resolver.close()
        self._builders.shutdown(wait=False, cancel_futures=True)

    def _is_ready(self, page: Outgoing) -> bool:
        """Whether nothing stands between the page and a warm client."""
        endpoint = self._endpoints.get(page.contact_point_id)
        return (
            endpoint is not None
            and endpoint.connection is not None
            and endpoint.target == page.target
            and not endpoint.room.locked()
        )

    async def _attempt(self, page: Outgoing, progress: _Progress, deadline: float) -> Outcome:
        if self._closed:
            return Outcome(Reason.CHANNEL_UNAVAILABLE, "the channel is closed")
        try:
            endpoint = self._endpoint(page.contact_point_id, page.target)
        except EgressRefused as refusal:
            return refused(refusal)
        endpoint.users += 1
        try:
            async with endpoint.room:
                progress.admitted = True
                return await self._post_to_some_address(endpoint, page, progress, deadline)
        finally:
            endpoint.users -= 1

    async def _post_to_some_address(
        self, endpoint: _Endpoint, page: Outgoing, progress: _Progress, deadline: float
    ) -> Outcome:
        signed = self._signed(page) if page.headers is None else page.headers
        outcome = Outcome(Reason.INTERNAL)
        tried: set[Address] = set()
        for _ in range(ADDRESSES_PER_ATTEMPT_MAX):
            try:
                if tried:
                    async with asyncio.timeout_at(deadline):
                        connection = await self._connect(endpoint)
                else:
                    connection = await self._connect(endpoint)
            except EgressRefused as refusal:
                return refused(refusal)
            if connection.address in tried:
                break
            tried.add(connection.address)
            left_seconds = max(deadline - asyncio.get_running_loop().time(), 0.001)
            # Whether the client's own limit, which is the whole time, will do.
            is_early = left_seconds >= self._limits.total_seconds - NEARLY_ALL_SECONDS
            if isinstance(page.request, _Ready) and page.request.connection is connection and is_early:
                request = page.request.request
            else:
                built = _request(connection, endpoint.url, signed, page.body)
                if not is_early:
                    built = built.timeout(timedelta(seconds=left_seconds))
                request = built.build_streamed()
            outcome = await self._post(request, progress)
            if outcome.reason is not Reason.CONNECT_FAILED:
                endpoint.failed.clear()
                break
            endpoint.failed.add(connection.address)
        return outcome

    async def _post(self, request: StreamRequest, progress: _Progress) -> Outcome:
        # The client goes on with a request whose awaiting task was cancelled; its own limit makes it let go as well.
        try:
            async with request as response:
                progress.status_code = status_code = response.status
                if not 200 <= status_code < 300:
                    # The status has decided. What else the endpoint says is not read, which costs a connection.
                    retry_after = parse_retry_after(response.get_header("retry-after"), now=self._clock.now())
                    reason = Reason.REDIRECT_REFUSED if 300 <= status_code < 400 else Reason.HTTP_STATUS
                    return Outcome(reason, f"HTTP {status_code}", retry_after)
                if status_code == 204 or response.get_header("content-length") == "0":
                    return Outcome(Reason.ACCEPTED, f"HTTP {status_code}")
                received = 0
                while (chunk := await response.body_reader.read_chunk()) is not None:
                    received += len(chunk)
                    if received > self._limits.response_bytes_max:
                        # A page of this size is no receiver's receipt but most likely a web page that says 200 to all.
                        limit = self._limits.response_bytes_max
                        return Outcome(Reason.RESPONSE_TOO_LARGE, f"more than {limit} bytes")
                return Outcome(Reason.ACCEPTED, f"HTTP {status_code}")
        except PyreqwestError as error:
            return failure_of(error)

    def _endpoint(self, contact_point_id: UUID, target: str) -> _Endpoint:
        """The endpoint of a contact point; a new one if its URL has been changed. Raises `EgressRefused`."""
        endpoint = self._endpoints.get(contact_point_id)
        if endpoint is not None and endpoint.target == target:
            self._endpoints.move_to_end(contact_point_id)
            return endpoint
        url = check_url(target, self._resolver.policy)
        endpoint = _Endpoint(target=target, url=url, room=asyncio.Semaphore(self._limits.in_flight_max))
        self._endpoints[contact_point_id] = endpoint
        self._endpoints.move_to_end(contact_point_id)
        if len(self._endpoints) > self._limits.clients_max:
            unused = (key for key, other in self._endpoints.items() if not other.users and other is not endpoint)
            if (oldest := next(unused, None)) is not None:
                del self._endpoints[oldest]
        return endpoint

    async def _connect(self, endpoint: _Endpoint) -> _Connection:
        """The client for an address that the guard allows now: the warm one as long as its address still is one.

        Addresses that could not be reached are left out until all of them could not.
        """
        if endpoint.url.address is not None and endpoint.connection is not None:
            # An address that stands in the URL itself never changes; it was checked before the client was built.
            return endpoint.connection
        addresses = await self._resolver.resolve(endpoint.url)
        candidates = [address for address in addresses if address not in endpoint.failed]
        if not candidates:
            endpoint.failed.clear()
            candidates = list(addresses)
        if endpoint.connection is not None and endpoint.connection.address in candidates:
            return endpoint.connection
        address = candidates[0]
        building = endpoint.building.get(address)
        if building is None:
            building = asyncio.create_task(self._build(endpoint, address), name="build webhook client")
            endpoint.building[address] = building
            building.add_done_callback(lambda task: _built(endpoint, address, task))
        return await asyncio.shield(building)

    async def _build(self, endpoint: _Endpoint, address: Address) -> _Connection:
        # Building loads the certificate authorities, some milliseconds each: never on the event loop.
        client = await asyncio.get_running_loop().run_in_executor(
            self._builders, self._build_client, endpoint.url, address
        )
        # The client before this one is only let go, so that what is under way on it may end.
        endpoint.connection = _Connection(address, client)
        return endpoint.connection

    def _build_client(self, url: CheckedUrl, address: Address) -> Client:
        return (
            pinned_client(
                url,
                address,
                user_agent=self._user_agent,
                connect_seconds=self._limits.connect_seconds,
                total_seconds=self._limits.total_seconds,
                extra_roots_der=self._extra_roots,
            )
            .http1_lower_case_headers()
            .default_headers({"content-type": "application/json"})
            .pool_idle_timeout(timedelta(seconds=self._limits.idle_seconds))
            .build()
        )


def _request(connection: _Connection, url: CheckedUrl, signed: Mapping[str, str], body: bytes) -> RequestBuilder:
    # Without a buffer the status is known as soon as it has come; otherwise the client first fills the buffer.
    request = connection.client.post(url.url).headers(signed).body_bytes(body)
    return request.streamed_read_buffer_limit(0)


def _built(endpoint: _Endpoint, address: Address, task: asyncio.Task[_Connection]) -> None:
    endpoint.building.pop(address, None)
    if not task.cancelled():
        # Read so that a failure nobody waits for any more is not reported as an unhandled error.
        task.exception()
