"""Pages to chat rooms and the long tail: Apprise, kept in processes of its own.

The cast: a `ChatChannel`; its `_Worker` processes (see `chat_worker`), each of which works on many messages at once;
`ChatLimits`.

The promise: an attempt ends within `total_seconds`, whatever a server or a library does, and nobody waits for one that
hangs: a server that answers to nothing can hold `per_server_max` messages and no more, a worker with too many given-up
messages in it gets no new ones and is killed as soon as its last living one has ended, and another stands in for it at
once. The addresses, which are secrets, go through pipes and stand in no log, no argument and no environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import sys
from collections import OrderedDict
from collections.abc import Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import structlog

from services.escalation.channels import AttemptState, Outgoing, PersonMessage, Reason, SendResult
from services.escalation.channels.outcomes import Outcome, refused
from services.escalation.retry import parse_retry_after
from shared.carriers import CHAT
from shared.chat_urls import SCHEMAS, ChatUrl, ChatUrlRefused, check_chat_url
from shared.clock import Clock
from shared.egress import EgressPolicy, EgressRefused, Resolver

log = structlog.get_logger(__name__)

TEXT_CHARACTERS_MAX = 20_000
_ROOT = Path(__file__).resolve().parents[3]
_WORKER = Path(__file__).with_name("chat_worker.py")
_PASSED_ON = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
"""What the worker gets of the environment: where certificates lie, and no proxy, no database and no key."""


@dataclass(frozen=True, slots=True)
class ChatLimits:
    """What a chat service may cost us. Tests pass smaller ones; production keeps these."""

    total_seconds: float = 10.0
    """For everything, the several requests of some services and a worker's start included."""
    per_server_max: int = 32
    """Messages on their way to one server, of the urgent ones and of the others. Further ones wait for a place within
    their own ten seconds."""
    per_worker_max: int = 64
    abandoned_max: int = 16
    """Given-up messages that still hang in a worker; with more it is replaced."""
    workers_max: int = 6
    urgent_workers_max: int = 2
    """Beyond those, for urgent messages alone."""
    servers_max: int = 1_000


def words_of(message: PersonMessage) -> dict[str, str]:
    """What of a message is handed to a worker: Apprise knows what each service makes of title and text."""
    return {"title": message.subject, "body": message.text[:TEXT_CHARACTERS_MAX]}


class ChatChannel:
    """Apprise URLs of the services in `shared.chat_urls`, as far as `schemas` allows them here."""

    name = "chat"
    provider = CHAT

    def __init__(
        self, *, clock: Clock, resolver: Resolver, schemas: Set[str], limits: ChatLimits | None = None
    ) -> None:
        self._clock = clock
        self._resolver = resolver
        self._schemas = frozenset(schemas)
        self._limits = limits or ChatLimits()
        self._workers: list[_Worker] = []
        self._starting = asyncio.Lock()
        self._servers: OrderedDict[tuple[str, str, bool], asyncio.Semaphore] = OrderedDict()
        self._closed = False

    async def send(self, page: Outgoing) -> SendResult:
        """Hand the page over once. Returns within `total_seconds`; never raises except for being cancelled."""
        started = self._clock.monotonic()
        schema = None
        status_code = None
        try:
            async with asyncio.timeout(self._limits.total_seconds):
                checked = check_chat_url(page.target, schemas=self._schemas, policy=self._resolver.policy)
                schema = checked.schema
                outcome, status_code = await self._attempt(page, checked)
        except TimeoutError:
            outcome = Outcome(Reason.TIMEOUT, f"no answer within {self._limits.total_seconds:g} s")
        except EgressRefused as refusal:
            outcome = refused(refusal)
        except ChatUrlRefused as refusal:
            outcome = Outcome(Reason.TARGET_REFUSED, refusal.detail)
        except Exception as error:  # noqa: BLE001 - the delivery loop relies on a result for every page
            log.error(
                "chat.send_failed",
                contact_point_id=str(page.contact_point_id),
                page_id=str(page.page_id),
                error=type(error).__name__,
            )
            outcome = Outcome(Reason.INTERNAL, type(error).__name__)
        return SendResult(
            state=AttemptState.SENT if outcome.reason is Reason.ACCEPTED else AttemptState.FAILED,
            reason=outcome.reason,
            detail=outcome.detail,
            status_code=status_code,
            retry_after_seconds=outcome.retry_after_seconds,
            elapsed_seconds=self._clock.monotonic() - started,
            provider=schema,
        )

    def make_ready(self, page: Outgoing) -> Outgoing:
        """Nothing can be done ahead: Apprise renders for its service."""
        return page

    async def prepare(self, contact_point_id: UUID, target: str) -> None:
        """Starts a worker, and resolves the server. Sends nothing; what fails is left to the first attempt."""
        try:
            async with asyncio.timeout(self._limits.total_seconds):
                checked = check_chat_url(target, schemas=self._schemas, policy=self._resolver.policy)
                await self._worker_with_room(is_urgent=False)
                if checked.server is not None:
                    await self._resolver.resolve(checked.server)
        except (ChatUrlRefused, EgressRefused, TimeoutError):
            return
        except Exception as error:  # noqa: BLE001 - preparing is a convenience and must not stop its caller
            log.warning("chat.prepare_failed", contact_point_id=str(contact_point_id), error=type(error).__name__)

    async def close(self) -> None:
        """Kill the workers. Attempts under way end as failed with `channel_unavailable`."""
        self._closed = True
        workers, self._workers = self._workers, []
        for worker in workers:
            await worker.stop()
        self._resolver.close()

    async def _attempt(self, page: Outgoing, checked: ChatUrl) -> tuple[Outcome, int | None]:
        if self._closed:
            return Outcome(Reason.CHANNEL_UNAVAILABLE, "the channel is closed"), None
        if page.message is None:
            return Outcome(Reason.INTERNAL, "the page holds no text for a person"), None
        if checked.server is not None:
            # Apprise resolves the name once more. The fence in the worker looks at the address that it connects to.
            await self._resolver.resolve(checked.server)
        is_urgent = page.message.goes_first
        async with self._server(checked, is_urgent=is_urgent):
            worker = await self._worker_with_room(is_urgent=is_urgent)
            if worker is None:
                return Outcome(Reason.ENDPOINT_BUSY, "all workers are busy"), None
            try:
                answer = await worker.work({"url": checked.url, **words_of(page.message)})
            finally:
                if worker.is_spent:
                    worker.kill()
        if answer is None:
            return Outcome(Reason.CHANNEL_UNAVAILABLE, "the worker ended"), None
        return outcome_of(answer, checked.schema, now=self._clock.now()), answer["status"]

    def _server(self, checked: ChatUrl, *, is_urgent: bool) -> asyncio.Semaphore:
        """The places of the server that a message goes to: what is urgent never waits for what is not."""
        server = f"{checked.server.host}:{checked.server.port}" if checked.server else ""
        key = (checked.schema, server, is_urgent)
        places = self._servers.get(key)
        if places is None:
            places = self._servers[key] = asyncio.Semaphore(self._limits.per_server_max)
            if len(self._servers) > self._limits.servers_max:
                self._servers.popitem(last=False)
        self._servers.move_to_end(key)
        return places

    async def _worker_with_room(self, *, is_urgent: bool) -> _Worker | None:
        """A worker that takes one more message, started if there is none; None if there are as many as may be."""
        limit = self._limits.workers_max + (self._limits.urgent_workers_max if is_urgent else 0)
        if (worker := self._open_worker(limit)) is not None:
            return worker
        async with self._starting:
            if (worker := self._open_worker(limit)) is not None:
                return worker
            self._workers = [other for other in self._workers if not other.has_ended]
            if self._closed or len(self._workers) >= limit:
                return None
            worker = await _Worker.start(self._limits, self._resolver.policy)
            self._workers.append(worker)
            return worker

    def _open_worker(self, limit: int) -> _Worker | None:
        return next((worker for worker in self._workers[:limit] if worker.is_open), None)


class _Worker:
    """One process and the messages that it works on."""

    def __init__(self, process: asyncio.subprocess.Process, limits: ChatLimits) -> None:
        self._process = process
        self._limits = limits
        self._jobs: dict[int, asyncio.Future[dict[str, Any] | None]] = {}
        self._abandoned: set[int] = set()
        self._numbers = itertools.count(1)
        self._killed = False
        self._reading = asyncio.create_task(self._read(), name="read chat worker")

    @classmethod
    async def start(cls, limits: ChatLimits, policy: EgressPolicy) -> _Worker:
        """A new process; it may be given work at once, which it begins when it has loaded what it needs."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            str(_WORKER),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            # The threads' memory pools would count as more address space than the process may have.
            env={name: os.environ[name] for name in _PASSED_ON if name in os.environ}
            | {"PYTHONPATH": str(_ROOT), "MALLOC_ARENA_MAX": "2"},
            # A Ctrl-C in the terminal is for the parent, which ends this process when it is done.
            start_new_session=True,
        )
        worker = cls(process, limits)
        worker.write(
            {
                "allow_http": policy.allow_http,
                "allow_loopback": policy.allow_loopback,
                "extra_networks": [str(network) for network in policy.extra_networks],
            }
        )
        return worker

    @property
    def has_ended(self) -> bool:
        """Whether nothing can be asked of it any more."""
        return self._killed or self._process.returncode is not None

    @property
    def is_open(self) -> bool:
        """Whether it takes one more message."""
        busy = len(self._jobs) + len(self._abandoned)
        return not self.has_ended and busy < self._limits.per_worker_max and not self._has_too_many_hanging

    @property
    def is_spent(self) -> bool:
        """Whether only messages that hang are left in it, and too many of them."""
        return self._has_too_many_hanging and not self._jobs

    @property
    def _has_too_many_hanging(self) -> bool:
        return len(self._abandoned) > self._limits.abandoned_max

    def write(self, line: dict[str, Any]) -> None:
        """Hands one line over, without waiting for it to be read."""
        assert self._process.stdin is not None
        self._process.stdin.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))

    async def work(self, job: dict[str, Any]) -> dict[str, Any] | None:
        """The worker's answer, or None if the worker ended before. Whoever stops waiting leaves the message hanging."""
        number = next(self._numbers)
        future: asyncio.Future[dict[str, Any] | None] = asyncio.get_running_loop().create_future()
        self._jobs[number] = future
        try:
            self.write({"id": number, **job})
            return await future
        except asyncio.CancelledError:
            self._abandoned.add(number)
            raise
        finally:
            self._jobs.pop(number, None)

    def kill(self) -> None:
        """Ends it, whatever it is at."""
        if not self._killed:
            self._killed = True
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()

    async def stop(self) -> None:
        """Ends it and waits until it has ended."""
        self.kill()
        await self._process.wait()
        await self._reading

    async def _read(self) -> None:
        assert self._process.stdout is not None
        try:
            while line := await self._process.stdout.readline():
                answer = orjson.loads(line)
                number = answer.get("id")
                self._abandoned.discard(number)
                future = self._jobs.get(number)
                if future is not None and not future.done():
                    future.set_result(answer)
        except ValueError:
            # Whatever wrote this is no worker of ours any more.
            log.error("chat.worker_garbled")
        finally:
            self.kill()
            for future in self._jobs.values():
                if not future.done():
                    future.set_result(None)


_ERRORS = {
    "Fenced": (Reason.ADDRESS_REFUSED, "the host is not on the public internet"),
    "UrlRefused": (Reason.TARGET_REFUSED, "the address is not complete"),
    "SSLError": (Reason.TLS_FAILED, "no secure connection could be agreed"),
    "ConnectTimeout": (Reason.CONNECT_FAILED, "no connection in time"),
    "ReadTimeout": (Reason.TIMEOUT, "no answer in time"),
    "ConnectionError": (Reason.CONNECT_FAILED, "no connection, or it broke off"),
}
"""By what the worker calls them: its own two, and classes of the HTTP library."""


def outcome_of(answer: Mapping[str, Any], schema: str, *, now: datetime) -> Outcome:
    """What a worker's answer means.

    Apprise itself says yes or no; why not, the last HTTP status says, or the error of the last request.
    """
    if answer["sent"]:
        return Outcome(Reason.ACCEPTED)
    if answer["error"] in _ERRORS:
        return Outcome(*_ERRORS[answer["error"]])
    status = answer["status"]
    if status is None:
        return Outcome(Reason.PROVIDER_REFUSED, f"{schema} did not take it")
    reason = Reason.PROVIDER_UNAVAILABLE if status >= 500 else Reason.PROVIDER_REFUSED
    if status == 429:
        reason = Reason.PROVIDER_BUSY
    elif status == 410 or (status == 404 and not SCHEMAS[schema].own_host):
        # A server of one's own says 404 also while it is being moved; a great service's 404 means what it says.
        reason = Reason.ADDRESS_UNKNOWN
    return Outcome(reason, f"HTTP {status}", parse_retry_after(answer["retry_after"], now=now))
