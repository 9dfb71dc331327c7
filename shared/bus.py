"""The bus: committed events go out, and each subscription's messages come in. Beside `shared.broker` the only importer
of nats.

The cast: a `Bus` publishes and consumes; `NatsBus` does so on JetStream; `_Pull` is one subscription's loop;
what the broker must hold is in `shared.broker`.

The promise: nothing here is the truth. Publishing returns what the broker has confirmed and never raises for broker
trouble; whatever is missing is *unknown* and is published again with the same id. Every message ends in one of the
three ends of `shared.subscriptions`. The bus may be absent at the start, hang, restart, or lose its streams: it is
picked up again.

Waiting here is about sockets, so it is measured on the event loop's own clock, not on the injected one.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js import api
from nats.js.errors import NotFoundError

from shared.broker import (
    STREAM_BYTES_MAX,
    SigningClient,
    check_server,
    discard,
    ensure_consumer,
    ensure_stream,
    ensure_streams,
    streams,
)
from shared.clock import Clock
from shared.events import Message, headers_of, wire_body
from shared.ids import MessageId
from shared.log import get_logger
from shared.loops import Loop
from shared.subscriptions import (
    DeadLetter,
    DeadLetterReason,
    Delivery,
    End,
    Failures,
    Subscription,
    attend,
    stream_of,
)

__all__ = [
    "Bus",
    "DeadLetter",
    "DeadLetterReason",
    "NatsBus",
    "Subscription",
    "check_server",
    "ensure_streams",
]

log = get_logger(__name__)

BATCH_MAX = 50
PULL_SECONDS = 30.0
HEARTBEAT_SECONDS = 1.0
SILENCE_SECONDS_MAX = 2.5
"""Without message, status or heartbeat for so long, a pull request is lost and is made anew."""

STALE_SECONDS = 8.0
"""A message that has waited here for so long is left to the broker, which is about to deliver it again."""

ACK_SECONDS_MAX = 2.0
PUBLISH_AT_ONCE_MAX = 256
"""Publications on their way at the same time; the rest of a batch waits for a free place."""

PING_SECONDS = 2
PINGS_OUTSTANDING_MAX = 2
RECONNECT_SECONDS = 0.25
CONNECT_SECONDS_MAX = 5.0
START_SECONDS_MAX = 1.0
"""How long `start` waits for the first connection before it goes on without one."""

PROBE_SECONDS = 1.0
ANSWER_AGE_SECONDS_MAX = 3.0
"""Within this time JetStream must have answered, and publishing must not have failed, for the bus to be healthy."""

DISCONNECTED_SECONDS_MAX = 10.0
"""A client that has not reconnected by then is replaced by a fresh one, and the operators are told."""

RETRY_SECONDS = 0.5
STOP_SECONDS_MAX = 5.0
DRAIN_SECONDS_MAX = 1.0
"""How long a stop waits for what is on its way to it; a broker that is away sends nothing."""

HAND_BACK_SECONDS = 0.1
"""Delay of a nak at stop: short, since another process shall take the message, but never zero."""


class Bus(Protocol):
    """What services know of the bus."""

    @property
    def healthy(self) -> bool:
        """Connected, JetStream answered within the last three seconds, and what was published since was confirmed."""

    async def publish(self, messages: Sequence[Message[Any]], *, timeout_seconds: float) -> set[MessageId]:
        """Publishes side by side; returns the ids that the broker has confirmed. Never raises for broker trouble.

        An id that is missing is *unknown*: it may have arrived. Publish it again; the broker drops the second copy
        within ten minutes, the inbox after that.
        """

    async def subscribe(self, subscription: Subscription) -> None:
        """Starts handling messages; before or after `start`. The durable consumer is created if it is missing."""

    async def start(self) -> None:
        """Connects. Returns after a second at most, connected or not; the attempts go on."""

    async def stop(self) -> None:
        """Takes no more messages, lets the handlers finish for five seconds, gives the rest back, and closes."""


class NatsBus:
    """The bus on NATS JetStream, one connection per process and service.

    `manage_streams` is for a machine without a deploy step: streams that are missing are created, also after somebody
    has deleted them. Otherwise a missing stream is an alarm.
    """

    def __init__(
        self,
        servers: Sequence[str],
        *,
        service: str,
        clock: Clock,
        nkey_seed: str | None = None,
        manage_streams: bool = False,
        stream_bytes_max: int = STREAM_BYTES_MAX,
    ) -> None:
        self._servers = list(servers)
        self._service = service
        self._nkey_seed = nkey_seed
        self._manage_streams = manage_streams
        self._stream_bytes_max = stream_bytes_max
        self._client: SigningClient | None = None
        self._connected = asyncio.Event()
        self._down_since: float | None = None
        self._down_reported = False
        self._answered_at = float("-inf")
        self._unconfirmed_at = float("-inf")
        self._troubles: dict[str, str] = {}
        self._pulls: list[_Pull] = []
        self._publishing: set[asyncio.Task[None]] = set()
        self._started = False
        self._watch = Loop(f"bus:{service}", self._watch_once, interval_seconds=PROBE_SECONDS, clock=clock)
        self.failures = Failures()

    @property
    def healthy(self) -> bool:
        """As `Bus` says."""
        present = asyncio.get_running_loop().time()
        return (
            self._usable is not None
            and present - self._answered_at <= ANSWER_AGE_SECONDS_MAX
            and present - self._unconfirmed_at > ANSWER_AGE_SECONDS_MAX
            and not self._troubles
        )

    async def start(self) -> None:
        """As `Bus` says."""
        self._started = True
        self._down_since = asyncio.get_running_loop().time()
        self._watch.start()
        for pull in self._pulls:
            pull.start()
        with suppress(TimeoutError):
            async with asyncio.timeout(START_SECONDS_MAX):
                await self._connected.wait()

    async def stop(self) -> None:
        """As `Bus` says."""
        self._started = False
        await self._watch.stop()
        await asyncio.gather(*(pull.stop() for pull in self._pulls))
        if self._client is not None:
            await discard(self._client, flush=self._usable is not None)
        self._client = None
        self._connected.clear()

    async def subscribe(self, subscription: Subscription) -> None:
        """As `Bus` says."""
        pull = _Pull(self, subscription)
        self._pulls.append(pull)
        if self._started:
            pull.start()

    async def publish(self, messages: Sequence[Message[Any]], *, timeout_seconds: float) -> set[MessageId]:
        """As `Bus` says."""
        client = self._usable
        if client is None or not messages:
            return set()
        confirmed: set[MessageId] = set()
        errors: dict[str, int] = {}
        places = asyncio.Semaphore(PUBLISH_AT_ONCE_MAX)
        stream = client.jetstream()

        async def publish_one(message: Message[Any]) -> None:
            async with places:
                try:
                    await stream.publish(
                        message.body.subject,
                        wire_body(message),
                        timeout=timeout_seconds,
                        headers={**headers_of(message), api.Header.MSG_ID.value: str(message.id)},
                    )
                    confirmed.add(message.id)
                except Exception as error:  # noqa: BLE001 - whatever it is, the id stays unconfirmed and is tried again
                    errors[_name(error)] = errors.get(_name(error), 0) + 1

        tasks = {asyncio.create_task(publish_one(message)) for message in messages}
        self._publishing |= tasks
        for task in tasks:
            task.add_done_callback(self._publishing.discard)
        # Not asyncio.timeout: the client library may swallow a cancellation, and the caller's time is up all the same.
        _, late = await asyncio.wait(tasks, timeout=timeout_seconds)
        for task in late:
            task.cancel()
        if len(confirmed) == len(messages):
            self.answered()
            self._unconfirmed_at = float("-inf")
        else:
            self._unconfirmed_at = asyncio.get_running_loop().time()
            log.warning(
                "bus.publish_unconfirmed", unconfirmed=len(messages) - len(confirmed), late=len(late), errors=errors
            )
        return set(confirmed)

    # --- for the pull loops -------------------------------------------------------------------------------------------

    async def connection(self) -> Client:
        """The connected client, waiting for it if need be."""
        while True:
            await self._connected.wait()
            if (client := self._usable) is not None:
                return client
            self._connected.clear()

    def answered(self) -> None:
        """JetStream has just answered."""
        self._answered_at = asyncio.get_running_loop().time()

    def in_trouble(self, what: str, error: str) -> None:
        """Something does not work; the bus is unhealthy until `recovered` says otherwise. Logged once."""
        if self._troubles.get(what) != error:
            log.warning("bus.impaired", service=self._service, part=what, error=error)
        self._troubles[what] = error

    def recovered(self, what: str) -> None:
        """It works again, or always did."""
        if self._troubles.pop(what, None) is not None:
            log.info("bus.recovered", service=self._service, part=what)

    async def stream_missing(self, stream: str, client: Client) -> None:
        """Creates it where that is our task; otherwise only the deploy step may, and a person has to run it."""
        if self._manage_streams:
            await ensure_stream(client.jetstream(), stream, replicas=1, bytes_max=self._stream_bytes_max)
            log.warning("bus.stream_created", stream=stream)
        elif f"stream {stream}" not in self._troubles:
            log.error("bus.stream_missing", stream=stream, service=self._service)
        self._troubles[f"stream {stream}"] = "missing"

    # --- connection ---------------------------------------------------------------------------------------------------

    @property
    def _usable(self) -> SigningClient | None:
        return self._client if self._client is not None and self._client.is_connected else None

    async def _watch_once(self) -> int:
        """Keeps one client, replaces it when it is closed or stuck, and asks JetStream whether it is there."""
        present = asyncio.get_running_loop().time()
        if (client := self._usable) is not None:
            self._down_since = None
            self._connected.set()
            await self._probe(client)
            return 0
        self._down_since = present if self._down_since is None else self._down_since
        down_seconds = present - self._down_since
        if down_seconds > DISCONNECTED_SECONDS_MAX and not self._down_reported:
            self._down_reported = True
            log.error("bus.unreachable", service=self._service, seconds=round(down_seconds))
        if self._client is None or self._client.is_closed or down_seconds > DISCONNECTED_SECONDS_MAX:
            if self._client is not None:
                await discard(self._client, flush=False)
            self._client = await self._connect()
            if self._client is not None:
                await self._on_connected()
                await self._probe(self._client)
        return 0

    async def _connect(self) -> SigningClient | None:
        client = SigningClient()
        attempt = asyncio.create_task(client.connect(**self._options()))
        # The library tries for ever, and within an attempt may swallow a cancellation: so it gets a task of its own.
        try:
            await asyncio.wait({attempt}, timeout=CONNECT_SECONDS_MAX)
            if attempt.done() and not attempt.cancelled() and attempt.exception() is None and client.is_connected:
                return client
            if attempt.done() and not attempt.cancelled() and (error := attempt.exception()) is not None:
                await self._on_error(error if isinstance(error, Exception) else RuntimeError(str(error)))
        except asyncio.CancelledError:
            attempt.cancel()
            await discard(client, flush=False)
            raise
        attempt.cancel()
        await discard(client, flush=False)
        return None

    def _options(self) -> dict[str, Any]:
        options: dict[str, Any] = {
            "servers": self._servers,
            "name": f"redphone-{self._service}",
            "inbox_prefix": f"_INBOX_{self._service}",
            "ping_interval": PING_SECONDS,
            "max_outstanding_pings": PINGS_OUTSTANDING_MAX,
            "max_reconnect_attempts": -1,
            "reconnect_time_wait": RECONNECT_SECONDS,
            "connect_timeout": 2,
            "error_cb": self._on_error,
            "disconnected_cb": self._on_disconnected,
            "reconnected_cb": self._on_connected,
            "closed_cb": self._on_closed,
        }
        if self._nkey_seed is not None:
            options["nkeys_seed_str"] = self._nkey_seed
        return options

    async def _on_error(self, error: Exception) -> None:
        """The client's own report, several a second while a server is away: each is logged once per outage."""
        text = f"{type(error).__name__}: {error}"
        if "permissions violation" in text.lower():
            log.error("bus.permission_denied", service=self._service, error=text)
        elif self._troubles.get("connection") != text:
            self._troubles["connection"] = text
            log.warning("bus.connection_failed", service=self._service, error=text)

    async def _on_disconnected(self) -> None:
        self._connected.clear()
        if self._down_since is None:
            self._down_since = asyncio.get_running_loop().time()
        if self._started:
            log.warning("bus.disconnected", service=self._service)

    async def _on_connected(self) -> None:
        self._down_since, self._down_reported = None, False
        self._troubles.pop("connection", None)
        self._connected.set()
        log.info("bus.connected", service=self._service)
        for pull in self._pulls:
            pull.renew()

    async def _on_closed(self) -> None:
        self._watch.wake()

    async def _probe(self, client: Client) -> None:
        """Asks for the stream that we publish to: its leader must be there, or nothing that we publish is kept."""
        stream = stream_of(self._service)
        try:
            if stream in streams():
                await client.jetstream(timeout=PROBE_SECONDS).stream_info(stream)
            else:
                await client.jetstream(timeout=PROBE_SECONDS).account_info()
        except NotFoundError:
            with suppress(Exception):
                await self.stream_missing(stream, client)
        except Exception as error:  # noqa: BLE001 - reported below, and the next probe follows in a second
            self.in_trouble("probe", _name(error))
        else:
            self.answered()
            self.recovered("probe")
            self.recovered(f"stream {stream}")


class _Renew(Exception):
    """The pull request is void: make a new one, with a new inbox."""


class _Pull:
    """One subscription's loop: asks for a batch, hands each message to a free place, reports how it ended.

    `CONSUMER.MSG.NEXT` is spoken directly, because the library's `fetch` of more than one message stalls for seconds
    after an idle time-out.
    """

    def __init__(self, bus: NatsBus, subscription: Subscription) -> None:
        self._bus = bus
        self._subscription = subscription
        self._stream = stream_of(subscription.event.owner)
        self._places = asyncio.Semaphore(subscription.concurrency)
        self._arrived: asyncio.Queue[tuple[float, Msg] | None] = asyncio.Queue()
        self._handling: set[asyncio.Task[None]] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the loop."""
        self._task = asyncio.create_task(self._run(), name=f"pull:{self._subscription.durable}")

    def renew(self) -> None:
        """The connection is new, so the server has forgotten the pull request."""
        self._arrived.put_nowait(None)

    async def stop(self) -> None:
        """Ends the loop; handlers finish, or are cancelled after a while; what was not begun goes back."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        while not self._arrived.empty():
            if (item := self._arrived.get_nowait()) is not None and not _status(item[1]):
                await self._tell(item[1].nak(HAND_BACK_SECONDS))
        if self._handling:
            _, late = await asyncio.wait(self._handling, timeout=STOP_SECONDS_MAX)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _run(self) -> None:
        durable = self._subscription.durable
        while True:
            client = await self._bus.connection()
            try:
                await self._pull_from(client)
            except _Renew as reason:
                log.info("bus.pull_renewed", consumer=durable, reason=str(reason))
            except NotFoundError as error:
                self._bus.in_trouble(durable, _name(error))
                with suppress(Exception):
                    await self._bus.stream_missing(self._stream, client)
                await self._pause()
            except Exception as error:  # noqa: BLE001 - reported once as a trouble; the loop goes on
                self._bus.in_trouble(durable, _name(error))
                await self._pause()

    async def _pause(self) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(RETRY_SECONDS):
                await asyncio.get_running_loop().create_future()

    async def _pull_from(self, client: Client) -> None:
        """Pulls with one inbox until a request is void; the next inbox receives nothing of older requests."""
        await ensure_consumer(client.jetstream(), self._subscription.service, self._subscription.event)
        self._bus.recovered(f"stream {self._stream}")
        inbox = client.new_inbox()

        async def arrive(message: Msg) -> None:
            self._arrived.put_nowait((asyncio.get_running_loop().time(), message))

        pulling = await client.subscribe(inbox, cb=arrive)
        try:
            while True:
                await self._pull_batch(client, inbox)
        except asyncio.CancelledError:
            # What the broker sent before it hears of this still arrives, so that stop() can give it back: otherwise
            # another process would get it only when the broker holds it for lost.
            with suppress(Exception):
                async with asyncio.timeout(DRAIN_SECONDS_MAX):
                    await pulling.drain()  # type: ignore[no-untyped-call]
            raise
        finally:
            with suppress(Exception):
                await pulling.unsubscribe()

    async def _pull_batch(self, client: Client, inbox: str) -> None:
        request = {
            "batch": BATCH_MAX,
            "expires": int(PULL_SECONDS * 1e9),
            "idle_heartbeat": int(HEARTBEAT_SECONDS * 1e9),
        }
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self._stream}.{self._subscription.durable}"
        await client.publish(subject, json.dumps(request).encode(), reply=inbox)
        wanted = BATCH_MAX
        while wanted:
            try:
                async with asyncio.timeout(SILENCE_SECONDS_MAX):
                    item = await self._arrived.get()
            except TimeoutError:
                self._bus.in_trouble(self._subscription.durable, "heartbeats are missing")
                reason = "silence"
                raise _Renew(reason) from None
            if item is None:
                reason = "reconnected"
                raise _Renew(reason)
            arrived_at, message = item
            match _status(message):
                case "":
                    wanted -= 1
                    await self._begin(arrived_at, message)
                case "100":
                    pass
                case "404" | "408":
                    return
                case status:
                    await self._pause()
                    reason = f"{status} {(message.headers or {}).get('Description', '')}"
                    raise _Renew(reason)
            self._bus.answered()
            self._bus.recovered(self._subscription.durable)

    async def _begin(self, arrived_at: float, message: Msg) -> None:
        try:
            await self._places.acquire()
        except asyncio.CancelledError:
            self._arrived.put_nowait((arrived_at, message))  # for stop() to give back
            raise
        if asyncio.get_running_loop().time() - arrived_at > STALE_SECONDS:
            self._places.release()
            return
        task = asyncio.create_task(self._attend(message))
        self._handling.add(task)
        task.add_done_callback(self._handling.discard)

    async def _attend(self, message: Msg) -> None:
        delivery = Delivery(message.subject, message.headers or {}, message.data, message.metadata.num_delivered)
        try:
            outcome = await attend(self._subscription, delivery, self._bus.failures)
            match outcome.end:
                case End.ACK:
                    await self._tell(message.ack_sync(timeout=ACK_SECONDS_MAX))
                case End.NAK:
                    await self._tell(message.nak(outcome.delay_seconds))
                case End.TERMINATE:
                    await self._tell(message.term())
        except asyncio.CancelledError:
            await self._tell(message.nak(HAND_BACK_SECONDS))
            raise
        finally:
            self._places.release()

    async def _tell(self, sending: Awaitable[Any]) -> None:
        """Tells the broker. If it does not hear, the message comes again and the inbox knows it."""
        try:
            await sending
        except Exception as error:  # noqa: BLE001 - see above; nothing is lost
            log.warning("message.ack_unconfirmed", consumer=self._subscription.durable, error=_name(error))


def _status(message: Msg) -> str:
    """Status code of a control message; empty for an event, which always has a reply subject to ack on."""
    return "" if message.reply.startswith("$JS.ACK.") else (message.headers or {}).get("Status", "unknown")


def _name(error: Exception) -> str:
    code = getattr(error, "err_code", None)
    return f"{type(error).__name__} {code}" if code else type(error).__name__
