"""The partners' side of a demonstration: one HTTP server on this machine that plays every system and every telephone.

The cast: `Receivers` listens on one free port; each address `/<partner>/<place>` is a partner's system, its office or
one person's telephone; a `Receipt` is one request as it came. The promise: every request is checked as a partner would
check it (signature, time, body) before anything else happens, and every one is kept, believed or not.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Any, Self

import orjson

from redphone.demo_network import RELIEF, SYSTEM
from redphone.demo_scenario import DUTY, OFFICE, SENIOR, Machine
from shared import webhooks
from shared.clock import Clock
from shared.webhooks import VerifyingKey, WebhookRefused

HEAD_BYTES_MAX = 16_384
FAILURES_FIRST = 2
"""How often a system that fails first fails."""

_REQUEST = re.compile(r"POST /([A-Z]{2})/([a-z0-9-]{1,64}) HTTP/1\.1")
_CODES = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 500: "Internal Server Error"}


@dataclass(frozen=True)
class Receipt:
    """One request as a partner got it. `status` is what was answered, None if the partner never answered."""

    partner: str
    place: str
    message_id: str
    type: str
    level: int
    asks_partner: str
    alert_id: str
    escalation_id: str | None
    headline: str
    data: Mapping[str, Any] = field(repr=False)
    at: datetime
    status: int | None
    refused: str | None
    """Why the message was not believed; None if its signature was good."""
    repeated: bool
    """Whether this id had been accepted here before."""

    @property
    def at_system(self) -> bool:
        """Whether this reached a system and not a person or an office."""
        return self.place.startswith(SYSTEM)

    @property
    def notice_kind(self) -> str | None:
        """What a notice about a roster is about; None for messages about alerts."""
        return str(self.data.get("kind")) if self.type == "notice.issued" else None

    @property
    def asks(self) -> bool:
        """Whether the message asks somebody to answer, and is no mere notice."""
        return self.type in ("alert.released", "level.raised", "partner.unreached")


@dataclass
class _Request:
    partner: str
    place: str
    headers: dict[str, str]
    body: bytes


class Receivers:
    """All partners on one port of 127.0.0.1. `on_receipt` is called for each request once it has been answered, or as
    soon as it is clear that it never will be.
    """

    def __init__(
        self,
        clock: Clock,
        *,
        machines: Mapping[str, Machine],
        slow_seconds: float,
        on_receipt: Callable[[Receipt], None],
    ) -> None:
        self.receipts: list[Receipt] = []
        self.strays = 0
        """Requests that were for no address of ours."""
        self.keys: Sequence[VerifyingKey] = ()
        self._clock = clock
        self._machines = machines
        self._slow_seconds = slow_seconds
        self._on_receipt = on_receipt
        self._failed: Counter[str] = Counter()
        self._accepted: set[tuple[str, str, str]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=HEAD_BYTES_MAX)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None, "leaving follows entering"
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def url(self) -> str:
        """Where the partners are."""
        assert self._server is not None, "the receivers listen inside their block only"
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (request := await self._read(reader)) is not None:
                if isinstance(request, int):
                    self.strays += 1
                    _answer(writer, request)
                elif not await self._take(request, reader, writer):
                    return
                await writer.drain()
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError):
            return
        finally:
            writer.close()

    async def _read(self, reader: asyncio.StreamReader) -> _Request | int | None:
        """One request, the status that refuses it, or None at the end of the connection."""
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        except asyncio.IncompleteReadError:
            return None
        pairs = (line.partition(":") for line in head[1:] if line)
        if not head[0].endswith(" HTTP/1.1"):
            raise ValueError("this is no HTTP")
        headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
        length = int(headers.get("content-length", "0"))
        if not 0 <= length <= webhooks.BODY_BYTES_MAX:
            raise ValueError("no body of such a length is sent by Red Phone")
        body = await reader.readexactly(length)
        found = _REQUEST.fullmatch(head[0])
        return 404 if found is None else _Request(found[1], found[2], headers, body)

    async def _take(self, request: _Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Checks a message, behaves as its partner's part says; False when the connection ends with it."""
        at = self._clock.now()
        if _is_heartbeat(request):
            # Part of no crisis: who plays a machine that fails does so when it is paged.
            _answer(writer, 200)
            return True
        refused: str | None = None
        try:
            webhooks.verify(self.keys, request.headers, request.body, now=at)
        except WebhookRefused as refusal:
            refused = refusal.reason.value
        place = (request.partner, request.place, request.headers.get(webhooks.HEADER_ID, ""))
        repeated = place in self._accepted
        machine = self._machines.get(request.partner) if request.place.startswith(SYSTEM) else None
        status = 401 if refused is not None else self._status_of(machine, request.partner)
        if status == 200:
            self._accepted.add(place)
        if machine is Machine.SLOW and status == 200:
            await self._clock.sleep(self._slow_seconds)
        if status is not None:
            _answer(writer, status)
        self._keep(request, at=at, status=status, refused=refused, repeated=repeated)
        if status is None:
            # Silence until the sender loses patience.
            await reader.read(1)
        return status is not None

    def _status_of(self, machine: Machine | None, partner: str) -> int | None:
        if machine is Machine.HANGS:
            return None
        if machine is Machine.DOWN:
            return 503
        if machine is Machine.FAILS_FIRST and self._failed[partner] < FAILURES_FIRST:
            self._failed[partner] += 1
            return 500
        return 200

    def _keep(
        self, request: _Request, *, at: datetime, status: int | None, refused: str | None, repeated: bool
    ) -> None:
        try:
            message = orjson.loads(request.body)
            data = message["data"]
            alert = data.get("alert") or {}
            info = alert.get("info") or [{}]
            receipt = Receipt(
                partner=request.partner,
                place=request.place,
                message_id=request.headers.get(webhooks.HEADER_ID, ""),
                type=str(message["type"]),
                level=int(data.get("level", 0)),
                asks_partner=str(data.get("partner", "")),
                alert_id=str(alert.get("id", "")),
                escalation_id=data.get("escalation_id"),
                headline=str(info[0].get("headline", "")),
                data=data,
                at=at,
                status=status,
                refused=refused,
                repeated=repeated,
            )
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            self.strays += 1
            return
        self.receipts.append(receipt)
        self._on_receipt(receipt)


def _is_heartbeat(request: _Request) -> bool:
    return request.body.startswith(b'{"type":"test.heartbeat"')


def place_name(place: str) -> str:
    """The place in words."""
    names = {
        SYSTEM: "system",
        OFFICE: "office",
        DUTY: "duty officer",
        SENIOR: "senior contact",
        RELIEF: "second officer",
    }
    return names.get(place, place)


def _answer(writer: asyncio.StreamWriter, status: int) -> None:
    body = orjson.dumps({"received": status == 200})
    head = f"HTTP/1.1 {status} {_CODES.get(status, 'Unavailable')}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
