"""A telephone company and a mail server in one process: `python -m bench.people_sink LOG HTTP_PORT SMTP_PORT`.

Both take everything as fast as they can and note when a message was complete: Unix seconds, port, `sms` or `email`.
`POST /dead` makes the telephone company hang: it takes requests and answers none, the worst that a provider can do;
`POST /alive` ends that, and answers those who still wait.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from pathlib import Path
from typing import IO, ClassVar, cast

import uvloop

from bench.own_sink import _content_length

SMS, EMAIL = "sms", "email"
DEAD, ALIVE = "/dead", "/alive"


class Telephone(asyncio.Protocol):
    """One connection to the telephone company, which speaks as much of Twilio's Messages API as a sender reads."""

    numbers = itertools.count(1)
    is_dead = False
    waiting: ClassVar[list[Telephone]] = []

    def __init__(self, log: IO[str], port: int) -> None:
        self._log = log
        self._port = port
        self._buffer = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            body_end = end + 4 + _content_length(head)
            if len(self._buffer) < body_end:
                return
            self._buffer = self._buffer[body_end:]
            self._answer(head.split(b" ", 2)[1].decode())

    def _answer(self, path: str) -> None:
        assert self._transport is not None
        if path in (DEAD, ALIVE):
            Telephone.is_dead = path == DEAD
            self._transport.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            while not self.is_dead and self.waiting:
                self.waiting.pop().take()
        elif self.is_dead:
            self.waiting.append(self)
        else:
            self.take()

    def take(self) -> None:
        """Takes the message, if whoever sent it still waits."""
        assert self._transport is not None
        if not self._transport.is_closing():
            body = b'{"sid": "SM%032x", "status": "queued"}' % next(self.numbers)
            head = f"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            self._transport.write(head.encode() + body)
            self._log.write(f"{time.time():.6f} {self._port} {SMS}\n")


class Mail(asyncio.Protocol):
    """One session with the mail server (RFC 5321), in plain text: it is on this machine."""

    def __init__(self, log: IO[str], port: int) -> None:
        self._log = log
        self._port = port
        self._buffer = b""
        self._in_text = False
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)
        self._transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            mark = b"\r\n.\r\n" if self._in_text else b"\r\n"
            end = self._buffer.find(mark)
            if end < 0:
                return
            line, self._buffer = self._buffer[:end], self._buffer[end + len(mark) :]
            self._answer(line)

    def _answer(self, line: bytes) -> None:
        assert self._transport is not None
        if self._in_text:
            self._in_text = False
            self._log.write(f"{time.time():.6f} {self._port} {EMAIL}\n")
            self._transport.write(b"250 taken\r\n")
            return
        verb = line[:4].upper()
        if verb == b"EHLO":
            self._transport.write(b"250-sink\r\n250-8BITMIME\r\n250 SMTPUTF8\r\n")
        elif verb == b"DATA":
            self._in_text = True
            self._transport.write(b"354 go on\r\n")
        elif verb == b"QUIT":
            self._transport.write(b"221 bye\r\n")
            self._transport.close()
        else:
            self._transport.write(b"250 yes\r\n")


async def main(log: Path, http_port: int, smtp_port: int) -> None:
    """Listens until the process is ended."""
    loop = asyncio.get_running_loop()
    with log.open("a", buffering=1) as file:
        await loop.create_server(lambda: Telephone(file, http_port), "127.0.0.1", http_port, backlog=1024)
        await loop.create_server(lambda: Mail(file, smtp_port), "127.0.0.1", smtp_port, backlog=1024)
        await loop.create_future()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
