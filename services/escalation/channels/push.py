"""Pages to browsers: Web Push, encrypted for one subscription, so that the push service in between reads nothing.

The cast: a `PushChannel`, which encrypts (RFC 8291, aes128gcm), signs who sends (VAPID, RFC 8292) and hands over to the
push service of the subscription (RFC 8030); `PushLimits`; `payload_of`, which is what the browser gets to show.

The promise: an attempt ends within `total_seconds`. A push service is an address that a stranger may have chosen, so it
is guarded like any webhook: checked, resolved, pinned, never followed elsewhere. 2xx means that the service has the
message (`sent`); that a screen lit up nobody tells. 404 and 410 mean that the subscription is gone for good.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

import http_ece
import orjson
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from joserfc import jwt
from joserfc.jwk import ECKey
from pyreqwest.client import Client
from pyreqwest.exceptions import PyreqwestError
from pyreqwest.request import RequestBuilder

from services.escalation.channels import AttemptState, Outgoing, PersonMessage, Reason, SendResult
from services.escalation.channels.outcomes import Outcome, failure_of, refused
from services.escalation.retry import parse_retry_after
from shared.carriers import WEB_PUSH
from shared.clock import Clock
from shared.egress import Address, CheckedUrl, EgressRefused, Resolver
from shared.keys import PushKey
from shared.pinned import pinned_client
from shared.push_subscription import PushSubscription, SubscriptionRefused, read_subscription
from shared.settings import Settings

log = structlog.get_logger(__name__)

PAYLOAD_BYTES_MAX = 3_000
"""Services must take 4096 bytes encrypted (RFC 8030, section 7.2); older Apple and Microsoft services stop earlier."""
TITLE_CHARACTERS_MAX = 200

TIME_TO_LIVE_SECONDS = 12 * 3600
"""How long the service keeps a message for a telephone that is switched off: a night."""
TOKEN_SECONDS = 12 * 3600
"""Services refuse tokens that are valid for more than 24 hours (RFC 8292, section 2)."""
TOKEN_RENEWED_SECONDS = 3600
"""A token is replaced so long before its end, so that a service whose clock is ahead accepts it still."""
TOKENS_KEPT_MAX = 1_000
_MESSAGE_ID = re.compile(r"/([A-Za-z0-9._~:%=-]{1,40})[A-Za-z0-9._~:%=-]*$")

ADDRESSES_PER_ATTEMPT_MAX = 2
BUILD_THREADS_MAX = 2


@dataclass(frozen=True, slots=True)
class PushLimits:
    """What a push service may cost us. Tests pass smaller ones; production keeps these."""

    total_seconds: float = 5.0
    connect_seconds: float = 2.0
    clients_max: int = 200
    """Push services whose connections are kept warm. The browsers of the world use four; the rest are strangers'."""
    idle_seconds: float = 55.0


@dataclass(slots=True)
class _Progress:
    status_code: int | None = None
    message_id: str | None = None


def push_channel(
    settings: Settings,
    keys: Sequence[PushKey],
    *,
    clock: Clock,
    resolver: Resolver,
    version: str,
    extra_roots_pem: bytes | None = None,
) -> PushChannel | None:
    """The channel, if this installation says who it is to push services and has a key to sign with."""
    if settings.push_subject is None:
        return None
    if not keys:
        log.warning(
            "push.off", why="the keys hold no push_keys", remedy="add them to the key file, see docs/channels/push.md"
        )
        return None
    return PushChannel(
        clock=clock,
        resolver=resolver,
        keys=keys,
        subject=settings.push_subject,
        version=version,
        extra_roots_pem=extra_roots_pem,
    )


def payload_of(message: PersonMessage, message_type: str) -> bytes:
    """What the console page's service worker gets: JSON of at most `PAYLOAD_BYTES_MAX` bytes.

    `title` and `body` are shown, `link` is opened by a tap, a notification replaces the one before it with the same
    `tag`, and an `urgent` one stays on the screen.
    """
    shown = {
        "title": message.subject[:TITLE_CHARACTERS_MAX],
        "body": message.short,
        "link": message.link,
        "tag": topic_of(message, message_type),
        "urgent": message.is_urgent,
        "language": message.language,
    }
    while len(payload := orjson.dumps(shown)) > PAYLOAD_BYTES_MAX and (body := str(shown["body"])):
        # A character has at most six bytes in JSON, so that this never cuts too much and ends after a few rounds.
        surplus_characters = (len(payload) - PAYLOAD_BYTES_MAX) // 6 + len("…") + 1
        shown["body"] = f"{cut}…" if (cut := body[:-surplus_characters].rstrip()) else ""
    return payload


def topic_of(message: PersonMessage, message_type: str) -> str:
    """The name under which a newer message replaces one that still waits at the push service.

    32 characters of base64url, as RFC 8030 wants (section 5.4). An update replaces what it updates; a question about an
    alert never replaces the alert.
    """
    digest = hashlib.sha256(f"{message.thread}\n{message_type}".encode()).digest()
    return base64.urlsafe_b64encode(digest)[:32].decode("ascii")


def message_id_of(location: str | None) -> str | None:
    """How a push service names a message that it has taken: the beginning of the last part of `Location` (RFC 8030,
    section 5). Not all of a long one: where it alone gives access, whoever reads it here could delete the message.
    """
    found = _MESSAGE_ID.search(location or "")
    return None if found is None else found[1]


class PushChannel:
    """Web Push to the installed console page.

    A subscription belongs to the VAPID key that the browser was given; during a change of `keys` each is tried, and
    which one fits is remembered. `subject` is whom the service writes to when something is wrong with what we send.
    """

    name = "push"
    provider = WEB_PUSH

    def __init__(
        self,
        *,
        clock: Clock,
        resolver: Resolver,
        keys: Sequence[PushKey],
        subject: str,
        version: str,
        limits: PushLimits | None = None,
        extra_roots_pem: bytes | None = None,
    ) -> None:
        self._clock = clock
        self._resolver = resolver
        self._keys = tuple(keys)
        self._signers = [ECKey.import_key(_pem(key)) for key in self._keys]
        self._subject = subject
        self._user_agent = f"RedPhone/{version}"
        self._limits = limits or PushLimits()
        roots = x509.load_pem_x509_certificates(extra_roots_pem) if extra_roots_pem is not None else []
        self._extra_roots = [root.public_bytes(Encoding.DER) for root in roots]
        self._clients: OrderedDict[tuple[str, Address], Client] = OrderedDict()
        self._builders = ThreadPoolExecutor(BUILD_THREADS_MAX, thread_name_prefix="push-client")
        self._tokens: OrderedDict[tuple[str, int], tuple[str, float]] = OrderedDict()
        self._fitting: OrderedDict[UUID, int] = OrderedDict()
        self._closed = False

    async def send(self, page: Outgoing) -> SendResult:
        """Hand the page over once. Returns within `total_seconds`; never raises except for being cancelled."""
        started = self._clock.monotonic()
        progress = _Progress()
        deadline = asyncio.get_running_loop().time() + self._limits.total_seconds
        try:
            async with asyncio.timeout_at(deadline):
                outcome = await self._attempt(page, progress, deadline)
        except TimeoutError:
            outcome = Outcome(Reason.TIMEOUT, f"no answer within {self._limits.total_seconds:g} s")
        except EgressRefused as refusal:
            outcome = refused(refusal)
        except SubscriptionRefused:
            outcome = Outcome(Reason.TARGET_REFUSED, "the address is no push subscription")
        except Exception as error:  # noqa: BLE001 - the delivery loop relies on a result for every page
            log.error(
                "push.send_failed",
                contact_point_id=str(page.contact_point_id),
                page_id=str(page.page_id),
                error=type(error).__name__,
            )
            outcome = Outcome(Reason.INTERNAL, type(error).__name__)
        return SendResult(
            state=AttemptState.SENT if outcome.reason is Reason.ACCEPTED else AttemptState.FAILED,
            reason=outcome.reason,
            detail=outcome.detail,
            status_code=progress.status_code,
            retry_after_seconds=outcome.retry_after_seconds,
            elapsed_seconds=self._clock.monotonic() - started,
            provider=self.provider,
            provider_id=progress.message_id if outcome.reason is Reason.ACCEPTED else None,
        )

    def make_ready(self, page: Outgoing) -> Outgoing:
        """Encrypts the page. One that cannot be is left as it is: its attempt says why."""
        try:
            return self._encrypted(page, read_subscription(page.target, self._resolver.policy))
        except (SubscriptionRefused, EgressRefused):
            return page

    async def prepare(self, contact_point_id: UUID, target: str) -> None:
        """Resolve the push service and build the client. Sends nothing; what fails is left to the first attempt."""
        try:
            async with asyncio.timeout(self._limits.total_seconds):
                endpoint = read_subscription(target, self._resolver.policy).endpoint
                await self._client(endpoint, (await self._resolver.resolve(endpoint))[0])
        except (SubscriptionRefused, EgressRefused, TimeoutError):
            return
        except Exception as error:  # noqa: BLE001 - preparing is a convenience and must not stop its caller
            log.warning("push.prepare_failed", contact_point_id=str(contact_point_id), error=type(error).__name__)

    async def close(self) -> None:
        """Close all connections. Attempts under way end as failed with `channel_unavailable`."""
        self._closed = True
        clients = list(self._clients.values())
        self._clients.clear()
        for client in clients:
            await client.close()
        self._resolver.close()
        self._builders.shutdown(wait=False, cancel_futures=True)

    def _encrypted(self, page: Outgoing, subscription: PushSubscription) -> Outgoing:
        if page.message is None:
            return page
        body = http_ece.encrypt(
            payload_of(page.message, page.message_type),
            private_key=generate_private_key(SECP256R1()),
            dh=subscription.public_key,
            auth_secret=subscription.secret,
            version="aes128gcm",
        )
        headers = {
            "content-encoding": "aes128gcm",
            "content-type": "application/octet-stream",
            "ttl": str(TIME_TO_LIVE_SECONDS),
            "urgency": "high" if page.message.is_urgent else "normal",
            "topic": topic_of(page.message, page.message_type),
        }
        return replace(page, body=body, headers=headers)

    async def _attempt(self, page: Outgoing, progress: _Progress, deadline: float) -> Outcome:
        if self._closed:
            return Outcome(Reason.CHANNEL_UNAVAILABLE, "the channel is closed")
        subscription = read_subscription(page.target, self._resolver.policy)
        ready = page if page.headers is not None else self._encrypted(page, subscription)
        if ready.headers is None:
            return Outcome(Reason.INTERNAL, "the page holds no text for a person")
        first = self._fitting.get(page.contact_point_id, 0)
        outcome = Outcome(Reason.CHANNEL_UNAVAILABLE, "there is no push key")
        for number in sorted(range(len(self._keys)), key=lambda number: number != first):
            headers = {**ready.headers, "authorization": self._authorization(subscription.origin, number)}
            outcome = await self._hand_over(subscription.endpoint, headers, ready.body, progress, deadline)
            # 401 or 403 is what services answer to a key that the subscription was not made with.
            if progress.status_code not in (401, 403):
                if outcome.reason is Reason.ACCEPTED and number != first:
                    self._remember(page.contact_point_id, number)
                break
        return outcome

    async def _hand_over(
        self, endpoint: CheckedUrl, headers: dict[str, str], body: bytes, progress: _Progress, deadline: float
    ) -> Outcome:
        outcome = Outcome(Reason.INTERNAL)
        for address in (await self._resolver.resolve(endpoint))[:ADDRESSES_PER_ATTEMPT_MAX]:
            client = await self._client(endpoint, address)
            # The client goes on with a request whose awaiting task was cancelled; its own limit ends that as well.
            remaining_seconds = max(deadline - asyncio.get_running_loop().time(), 0.001)
            request = client.post(endpoint.url).headers(headers).body_bytes(body)
            outcome = await self._post(request.timeout(timedelta(seconds=remaining_seconds)), progress)
            if outcome.reason is not Reason.CONNECT_FAILED:
                break
        return outcome

    async def _post(self, request: RequestBuilder, progress: _Progress) -> Outcome:
        try:
            # The status decides; beside it only the name is read that the service gives to the message.
            async with request.streamed_read_buffer_limit(0).build_streamed() as response:
                progress.status_code = response.status
                progress.message_id = message_id_of(response.get_header("location"))
                retry_after = parse_retry_after(response.get_header("retry-after"), now=self._clock.now())
                return outcome_of(response.status, retry_after)
        except PyreqwestError as error:
            return failure_of(error)

    def _authorization(self, origin: str, number: int) -> str:
        """The VAPID header for a push service, signed once for many messages."""
        now = self._clock.now().timestamp()
        token, until = self._tokens.get((origin, number), ("", 0.0))
        if now >= until - TOKEN_RENEWED_SECONDS:
            until = now + TOKEN_SECONDS
            claims = {"aud": origin, "exp": int(until), "sub": self._subject}
            token = jwt.encode({"typ": "JWT", "alg": "ES256"}, claims, self._signers[number])
            self._tokens[origin, number] = (token, until)
            while len(self._tokens) > TOKENS_KEPT_MAX:
                self._tokens.popitem(last=False)
        return f"vapid t={token}, k={self._keys[number].public_text}"

    def _remember(self, contact_point_id: UUID, number: int) -> None:
        self._fitting[contact_point_id] = number
        while len(self._fitting) > TOKENS_KEPT_MAX:
            self._fitting.popitem(last=False)

    async def _client(self, endpoint: CheckedUrl, address: Address) -> Client:
        """The client that reaches this service at exactly this address. Services share none."""
        key = (f"{endpoint.scheme}://{endpoint.host}:{endpoint.port}", address)
        client = self._clients.get(key)
        if client is None:
            # Building loads the certificate authorities, some milliseconds each: never on the event loop.
            built = await asyncio.get_running_loop().run_in_executor(
                self._builders, self._build_client, endpoint, address
            )
            client = self._clients.setdefault(key, built)
        self._clients.move_to_end(key)
        while len(self._clients) > self._limits.clients_max:
            # Only let go, so that what is under way on it may end.
            self._clients.popitem(last=False)
        return client

    def _build_client(self, endpoint: CheckedUrl, address: Address) -> Client:
        return (
            pinned_client(
                endpoint,
                address,
                user_agent=self._user_agent,
                connect_seconds=self._limits.connect_seconds,
                total_seconds=self._limits.total_seconds,
                extra_roots_der=self._extra_roots,
            )
            .pool_idle_timeout(timedelta(seconds=self._limits.idle_seconds))
            .build()
        )


def outcome_of(status_code: int, retry_after_seconds: float | None) -> Outcome:
    """What a push service's status means (RFC 8030, sections 5 and 7.3; RFC 8292, section 4)."""
    detail = f"HTTP {status_code}"
    if 200 <= status_code < 300:
        return Outcome(Reason.ACCEPTED, detail)
    if 300 <= status_code < 400:
        return Outcome(Reason.REDIRECT_REFUSED, detail)
    if status_code in (404, 410):
        return Outcome(Reason.ADDRESS_UNKNOWN, f"{detail}: the subscription is gone")
    if status_code == 429:
        return Outcome(Reason.PROVIDER_BUSY, detail, retry_after_seconds)
    if status_code >= 500:
        return Outcome(Reason.PROVIDER_UNAVAILABLE, detail, retry_after_seconds)
    return Outcome(Reason.PROVIDER_REFUSED, detail, retry_after_seconds)


def _pem(key: PushKey) -> bytes:
    return key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
