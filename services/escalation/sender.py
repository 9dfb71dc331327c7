"""Webhooks leave through processes of their own, so that signing and sending take every core.

The cast
    SharedOut      the channel that delivery knows: each endpoint belongs to one of several sender processes
    SenderProcess  keeps one child, and passes pages to it
    _Link          one life of the child: its socket, and the pages that it has not answered yet
    main           the child: a `WebhookChannel`, fed from the socket

The promise: whatever the child does, a page gets a result. A child that dies or stands still is replaced, and what it
had not answered is sent by this process, under the same id. The child has no database and decides nothing: a page is
sent when it is committed and leased; what comes before, for signing, is only kept. A page that has waited in its queue
for too long is not begun, so that delivery looks at it once more. When this process ends, however it does, the socket
closes and the child ends.

Each line on the socket is one JSON array, whose first element says what it is.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import socket
import sys
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from ipaddress import ip_network
from typing import Any
from uuid import UUID

import orjson
import uvloop

from services.escalation.channels import NOT_BEGUN, AttemptState, Channel, Outgoing, Reason, SendResult
from services.escalation.channels.webhook import WebhookChannel
from shared.clock import Clock, SystemClock
from shared.egress import EgressPolicy, Resolver
from shared.log import configure, get_logger
from shared.webhooks import SigningKey

log = get_logger(__name__)

ANSWER_SECONDS_MAX = 8.0
"""A child that owes an answer for longer, which is more than any attempt may take, stands still and is ended."""

WATCH_SECONDS = 1.0
RESTART_SECONDS = 0.5
STOP_SECONDS_MAX = 3.0
LINE_BYTES_MAX = 1_000_000
KEPT_READY_MAX = 4096
"""Pages made ready whose transaction may have failed: the oldest are forgotten. Far fewer are ever on their way."""

COLLECT_AFTER = (50_000, 20, 50)
"""As for every process of ours: garbage is looked for when nothing is being sent."""

ANSWERS_LINGER_SECONDS = 0.01
"""Answers are gathered for so long: recording can wait, and each wake-up of the other process takes from sending."""


@dataclass(frozen=True)
class SetUp:
    """What the child is told first. It comes through the socket, since others can read arguments and environment."""

    signing_keys: Sequence[str]
    version: str
    policy: Mapping[str, Any]
    log_level: str
    now: str

    @classmethod
    def of(
        cls,
        *,
        signing_keys: Sequence[SigningKey],
        version: str,
        policy: EgressPolicy,
        log_level: str,
        clock: Clock,
    ) -> SetUp:
        """The set-up of a child that sends as this process would."""
        return cls(
            signing_keys=[key.to_text() for key in signing_keys],
            version=version,
            policy={
                "allow_http": policy.allow_http,
                "allow_loopback": policy.allow_loopback,
                "extra_networks": [str(network) for network in policy.extra_networks],
            },
            log_level=log_level,
            now=clock.now().isoformat(),
        )

    def channel(self) -> WebhookChannel:
        """The child's channel."""
        clock = SystemClock()
        clock.synchronise(datetime.fromisoformat(self.now))
        networks = tuple(ip_network(network) for network in self.policy["extra_networks"])
        policy = EgressPolicy(**{**self.policy, "extra_networks": networks})
        return WebhookChannel(
            clock=clock,
            resolver=Resolver(policy, monotonic=clock.monotonic),
            signing_keys=[SigningKey.from_text(key) for key in self.signing_keys],
            version=self.version,
        )


# --- this process -----------------------------------------------------------------------------------------------------


class _Lost(Exception):
    """The child has ended before it answered."""


class _Link:
    """One life of the child."""

    def __init__(self, child: asyncio.subprocess.Process, writer: asyncio.StreamWriter, clock: Clock) -> None:
        self.child = child
        self._writer = writer
        self._clock = clock
        self._waiting: OrderedDict[int, tuple[asyncio.Future[SendResult], float]] = OrderedDict()
        self._sent = 0
        self._lines: list[bytes] = []
        self._ready: dict[str, str] = {}
        """Stands in a page for the headers that only the child knows; each life has its own."""

    def say(self, *words: Any) -> None:
        """Sends one line, together with what else is said in this step of the event loop."""
        if not self._lines:
            asyncio.get_running_loop().call_soon(self._flush)
        self._lines.append(orjson.dumps(words))

    def make_ready(self, page: Outgoing) -> Outgoing:
        """Lets the child sign a page ahead of its attempt."""
        self.say("ready", *_fields(page))
        return replace(page, headers=self._ready)

    async def send(self, page: Outgoing) -> SendResult:
        """The child's result. Raises `_Lost`."""
        if self._writer.is_closing():
            raise _Lost
        future: asyncio.Future[SendResult] = asyncio.get_running_loop().create_future()
        self._sent = number = self._sent + 1
        present = self._clock.monotonic()
        self._waiting[number] = (future, present)
        within = page.begin_within_seconds
        begin_by = None if within is None else present + within
        if page.headers is self._ready:
            self.say("send", number, begin_by, f"{page.page_id}/{page.attempt}")
        else:
            self.say("send whole", number, begin_by, *_fields(page))
        return await future

    async def listen(self, reader: asyncio.StreamReader) -> None:
        """Takes results until the child is gone; then everything that it owes is lost."""
        try:
            while line := await reader.readline():
                for number, *result in orjson.loads(line):
                    future, _ = self._waiting.pop(number)
                    if not future.done():
                        future.set_result(_result_of(result))
        except (ValueError, KeyError) as error:
            log.error("sender.unreadable", error=type(error).__name__)
        except OSError:
            pass  # it has ended without a word
        finally:
            self._writer.close()
            with suppress(ProcessLookupError):
                self.child.kill()
            for future, _ in self._waiting.values():
                if not future.done():
                    future.set_exception(_Lost())
            self._waiting.clear()

    def owes_seconds(self) -> float:
        """How long the oldest page has waited for its result."""
        oldest = next(iter(self._waiting.values()), None)
        return 0.0 if oldest is None else self._clock.monotonic() - oldest[1]

    def _flush(self) -> None:
        self._writer.write(b"\n".join(self._lines) + b"\n")
        self._lines = []


class SenderProcess:
    """The webhook channel with a child that does the work; `own` does it while there is no child."""

    def __init__(
        self, own: Channel, set_up: SetUp, *, clock: Clock, answer_seconds_max: float = ANSWER_SECONDS_MAX
    ) -> None:
        self.name, self.provider = own.name, own.provider
        self._own = own
        self._set_up = set_up
        self._clock = clock
        self._answer_seconds_max = answer_seconds_max
        self._link: _Link | None = None
        self._keeping: asyncio.Task[None] | None = None
        self._prepared: OrderedDict[UUID, str] = OrderedDict()

    @property
    def process_id(self) -> int | None:
        """The child's, or None while there is none."""
        return None if self._link is None else self._link.child.pid

    async def send(self, page: Outgoing) -> SendResult:
        """As `Channel` says."""
        if self._link is not None:
            try:
                return await self._link.send(page)
            except _Lost:
                log.warning("sender.lost_page", page_id=str(page.page_id), attempt=page.attempt)
        whole = page if page.headers else replace(page, headers=None)
        return await self._own.send(whole)

    def make_ready(self, page: Outgoing) -> Outgoing:
        """As `Channel` says."""
        return self._own.make_ready(page) if self._link is None else self._link.make_ready(page)

    async def prepare(self, contact_point_id: UUID, target: str) -> None:
        """As `Channel` says; the first call starts the child."""
        self._prepared[contact_point_id] = target
        self._prepared.move_to_end(contact_point_id)
        if len(self._prepared) > KEPT_READY_MAX:
            self._prepared.popitem(last=False)
        if self._keeping is None:
            self._keeping = asyncio.create_task(self._keep(), name="keep sender")
        elif self._link is not None:
            self._link.say("prepare", contact_point_id, target)

    async def close(self) -> None:
        """As `Channel` says; ends the child."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        await self._own.close()

    async def _keep(self) -> None:
        """Keeps a child running."""
        while True:
            try:
                await self._live()
            except OSError as error:
                log.warning("sender.not_started", error=type(error).__name__)
            await self._clock.sleep(RESTART_SECONDS)

    async def _live(self) -> None:
        """One life of the child, from its start to its end."""
        ours, theirs = socket.socketpair()
        with theirs:
            child = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "services.escalation.sender", str(theirs.fileno())),
                stdin=asyncio.subprocess.DEVNULL,
                pass_fds=(theirs.fileno(),),
                env={name: value for name, value in os.environ.items() if not name.startswith("REDPHONE_")},
            )
        reader, writer = await asyncio.open_connection(sock=ours, limit=LINE_BYTES_MAX)
        link = _Link(child, writer, self._clock)
        link.say("set up", asdict(self._set_up))
        for point, target in self._prepared.items():
            link.say("prepare", str(point), target)
        self._link = link
        listening = asyncio.create_task(link.listen(reader), name="listen to sender")
        try:
            while not listening.done():
                await asyncio.wait({listening}, timeout=WATCH_SECONDS)
                if link.owes_seconds() > self._answer_seconds_max:
                    log.warning("sender.stands_still", process_id=child.pid)
                    child.kill()
            log.warning("sender.ended", process_id=child.pid)
        finally:
            self._link = None
            writer.close()
            listening.cancel()
            await asyncio.gather(listening, return_exceptions=True)
            await child.wait()


class SharedOut:
    """One channel of several: what goes to one contact point always leaves by the same of them."""

    def __init__(self, channels: Sequence[Channel]) -> None:
        self.name, self.provider = channels[0].name, channels[0].provider
        self._channels = channels

    async def send(self, page: Outgoing) -> SendResult:
        """As `Channel` says."""
        return await self._of(page.contact_point_id).send(page)

    def make_ready(self, page: Outgoing) -> Outgoing:
        """As `Channel` says."""
        return self._of(page.contact_point_id).make_ready(page)

    async def prepare(self, contact_point_id: UUID, target: str) -> None:
        """As `Channel` says."""
        await self._of(contact_point_id).prepare(contact_point_id, target)

    async def close(self) -> None:
        """As `Channel` says."""
        await asyncio.gather(*(channel.close() for channel in self._channels))

    def _of(self, contact_point_id: UUID) -> Channel:
        return self._channels[contact_point_id.int % len(self._channels)]


def _fields(page: Outgoing) -> tuple[Any, ...]:
    return (
        str(page.page_id),
        page.attempt,
        page.message_type,
        str(page.contact_point_id),
        page.target,
        page.body.decode(),
        page.sent_at,
    )


def _result_of(words: Sequence[Any]) -> SendResult:
    if not words:
        return NOT_BEGUN
    state, reason, detail, status_code, retry_after_seconds, elapsed_seconds = words
    return SendResult(AttemptState(state), Reason(reason), detail, status_code, retry_after_seconds, elapsed_seconds)


# --- the child --------------------------------------------------------------------------------------------------------


class _Child:
    """What the child keeps: its channel, the pages that are ready, and the answers that it has not given yet."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self._clock = SystemClock()
        self._ready: OrderedDict[str, Outgoing] = OrderedDict()
        self._answers: list[tuple[Any, ...]] = []
        self._sending: set[asyncio.Task[None]] = set()
        self._points: asyncio.Queue[tuple[UUID, str]] = asyncio.Queue()
        self._preparing: asyncio.Task[None] | None = None
        self.channel: WebhookChannel | None = None

    def hear(self, words: Sequence[Any]) -> None:
        """Does what one line says."""
        match words:
            case ["send", number, begin_by, key]:
                self._start(number, begin_by, self._ready.pop(key, None))
            case ["send whole", number, begin_by, *fields]:
                self._start(number, begin_by, _page_of(fields))
            case ["ready", page_id, attempt, *_]:
                assert self.channel is not None
                self._ready[f"{page_id}/{attempt}"] = self.channel.make_ready(_page_of(words[1:]))
                if len(self._ready) > KEPT_READY_MAX:
                    self._ready.popitem(last=False)
            case ["prepare", point, target]:
                self._points.put_nowait((UUID(point), target))
            case ["set up", told]:
                set_up = SetUp(**told)
                configure(level=set_up.log_level, json_lines=True)
                self.channel = set_up.channel()
                self._preparing = asyncio.create_task(self._prepare(self.channel))

    def _start(self, number: int, begin_by: float | None, page: Outgoing | None) -> None:
        if page is None or (begin_by is not None and self._clock.monotonic() > begin_by):
            self._answer(number)
            return
        task = asyncio.create_task(self._send(number, page))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)

    async def _send(self, number: int, page: Outgoing) -> None:
        assert self.channel is not None
        result = await self.channel.send(page)
        self._answer(
            number,
            *(result.state, result.reason, result.detail),
            *(result.status_code, result.retry_after_seconds, result.elapsed_seconds),
        )

    def _answer(self, *words: Any) -> None:
        if not self._answers:
            asyncio.get_running_loop().call_later(ANSWERS_LINGER_SECONDS, self._flush)
        self._answers.append(words)

    def _flush(self) -> None:
        self._writer.write(orjson.dumps(self._answers) + b"\n")
        self._answers = []

    async def _prepare(self, channel: WebhookChannel) -> None:
        while True:
            await channel.prepare(*await self._points.get())


def _page_of(fields: Sequence[Any]) -> Outgoing:
    page_id, attempt, message_type, point, target, body, sent_at = fields
    return Outgoing(
        page_id=UUID(page_id),
        attempt=attempt,
        message_type=message_type,
        contact_point_id=UUID(point),
        target=target,
        body=body.encode(),
        sent_at=datetime.fromisoformat(sent_at),
    )


async def _work(descriptor: int) -> None:
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=descriptor), limit=LINE_BYTES_MAX)
    child = _Child(writer)
    while line := await reader.readline():
        child.hear(orjson.loads(line))


def main() -> None:
    """Runs the child until the other end of its socket closes."""
    # A terminal's interrupt and a supervisor's end reach both processes, and the other one decides when sending ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    gc.set_threshold(*COLLECT_AFTER)
    uvloop.run(_work(int(sys.argv[1])))


if __name__ == "__main__":
    main()
