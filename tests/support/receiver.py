"""A webhook receiver on loopback that behaves as told, well or badly, and remembers what it was sent.

It speaks HTTP/1.1 by hand, because a server library would refuse to misbehave. `behaviour` may be changed between
requests; each request is answered by the one that holds when its head has arrived.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import Self

from shared import webhooks

WAIT_SECONDS = 10.0


@dataclass(frozen=True)
class Received:
    """One request: header names in lower case."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Exchange:
    """One request being answered: what a behaviour works with."""

    receiver: Receiver
    request: Received
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def write(self, raw: bytes) -> None:
        """Send bytes as they are."""
        self.writer.write(raw)
        await self.writer.drain()

    async def until_client_leaves(self) -> None:
        """Wait until the other side closes the connection, or the receiver stops."""
        while await self.reader.read(4096):
            pass


Behaviour = Callable[[Exchange], Awaitable[bool]]
"""Answers a request; whether the connection stays open afterwards."""


def status(code: int, *, headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> Behaviour:
    """Answer at once with this status."""

    async def behave(exchange: Exchange) -> bool:
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        await exchange.write(f"HTTP/1.1 {code} Word\r\nContent-Length: {len(body)}\r\n{lines}\r\n".encode() + body)
        return True

    return behave


ok = status(200, body=b'{"received":true}')


async def hang(exchange: Exchange) -> bool:
    """Read the request and never answer."""
    await exchange.until_client_leaves()
    return False


async def drip(exchange: Exchange) -> bool:
    """Say 200 and then send a byte so often that no read ever times out."""
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while not exchange.receiver.released.is_set():
        await exchange.write(b"x")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(exchange.receiver.released.wait(), 0.02)
    return False


async def oversize(exchange: Exchange) -> bool:
    """Say 200 and send without end, as fast as it is read."""
    await exchange.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    chunk = b"4000\r\n" + b"x" * 0x4000 + b"\r\n"
    while not exchange.receiver.released.is_set():
        await exchange.write(chunk)
        exchange.receiver.bytes_sent += len(chunk)
    return False


async def huge_head(exchange: Exchange) -> bool:
    """Say 200 and then send headers without end."""
    await exchange.write(b"HTTP/1.1 200 OK\r\n")
    while not exchange.receiver.released.is_set():
        await exchange.write(b"X-Padding: " + b"x" * 4000 + b"\r\n")
    return False


async def gzip_bomb(exchange: Exchange) -> bool:
    """Say 200 with a small body that unpacks to 50 MB."""
    body = gzip.compress(bytes(50_000_000))
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return True


async def disconnect(_exchange: Exchange) -> bool:
    """Read the whole request and hang up."""
    return False


async def reset_after_200(exchange: Exchange) -> bool:
    """Say 200, send half of the body, and reset the connection."""
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    # Lingering for zero seconds makes the kernel send RST and not FIN.
    raw = exchange.writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return False


async def lying_length(exchange: Exchange) -> bool:
    """Say 200, announce more than is sent, and hang up politely."""
    await exchange.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nshort")
    return False


async def garbage(exchange: Exchange) -> bool:
    """Answer with something that is not HTTP."""
    await exchange.write(b"\x00\x01\x02 what is this?\r\n\r\n")
    return False


@dataclass
class Receiver:
    """A server on one free port of 127.0.0.1 (or of `host`)."""

    behaviour: Behaviour = ok
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    hang_up_on_connect: bool = False
    requests: list[Received] = field(default_factory=list)
    connections: int = 0
    connections_open: int = 0
    bytes_sent: int = 0
    port: int = 0

    def __post_init__(self) -> None:
        self.released = asyncio.Event()
        self._changed = asyncio.Condition()
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, self.host, self.port, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        self.released.set()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*(writer.wait_closed() for writer in self._writers), return_exceptions=True)

    @property
    def url(self) -> str:
        """Where it listens, by address."""
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}/hook"

    def named_url(self, name: str) -> str:
        """Where it listens, by a name that the test must make resolvable."""
        return f"{'https' if self.tls else 'http'}://{name}:{self.port}/hook"

    async def wait_for(self, condition: Callable[[Receiver], bool]) -> None:
        """Wait until the condition holds, at most `WAIT_SECONDS`."""
        async with asyncio.timeout(WAIT_SECONDS), self._changed:
            await self._changed.wait_for(lambda: condition(self))

    def verify(self, keys: Sequence[webhooks.VerifyingKey], *, now: datetime) -> list[str]:
        """The ids of all received messages, each after its signature was checked."""
        return [webhooks.verify(keys, request.headers, request.body, now=now) for request in self.requests]

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self._count(connections=1)
        try:
            while not self.hang_up_on_connect:
                request = await self._read(reader)
                self.requests.append(request)
                await self._count()
                if not await self.behaviour(Exchange(self, request, reader, writer)):
                    break
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()
            self.connections_open -= 1
            await self._count()

    async def _count(self, *, connections: int = 0) -> None:
        self.connections += connections
        self.connections_open += connections
        async with self._changed:
            self._changed.notify_all()

    async def _read(self, reader: asyncio.StreamReader) -> Received:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        method, path, _ = head[0].split(" ")
        pairs = (line.split(":", 1) for line in head[1:] if line)
        headers = {name.lower(): value.strip() for name, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return Received(method, path, headers, body)
