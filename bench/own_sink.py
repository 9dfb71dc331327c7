"""A fast sink for machines without nginx: `python -m bench.own_sink LOG FIRST_PORT COUNT`.

It answers every request with 204 as soon as its body is complete, and notes when that was: Unix seconds, port, path.
It understands what HTTP clients send here, requests with a Content-Length, and nothing more.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import IO, cast

import uvloop

ANSWER = b"HTTP/1.1 204 No Content\r\n\r\n"


class Receiver(asyncio.Protocol):
    """One connection."""

    def __init__(self, log: IO[str], port: int) -> None:
        self._log = log
        self._port = port
        self._buffer = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's are none by class

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        assert self._transport is not None
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            head = self._buffer[:end]
            body_end = end + 4 + _content_length(head)
            if len(self._buffer) < body_end:
                return
            self._buffer = self._buffer[body_end:]
            self._transport.write(ANSWER)
            path = head.split(b" ", 2)[1].decode()
            self._log.write(f"{time.time():.6f} {self._port} {path}\n")


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


async def main(log: Path, first_port: int, count: int) -> None:
    """Listens until the process is ended."""
    loop = asyncio.get_running_loop()
    with log.open("a", buffering=1) as file:
        for port in range(first_port, first_port + count):

            def receiver(port: int = port) -> Receiver:
                return Receiver(file, port)

            await loop.create_server(receiver, "127.0.0.1", port, backlog=128)
        await loop.create_future()


if __name__ == "__main__":
    uvloop.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
