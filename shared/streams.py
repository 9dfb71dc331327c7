"""Server-sent events: streams that resume, notice that nobody listens any more, and end when the process does.

A source is an asynchronous iterator of `StreamEvent`; it waits for its own news and starts after `last_event_id`. This
module adds what every stream needs: the hint when to reconnect, a ping every 15 seconds, an end when the client is gone
or does not read, a limit per client, and an end at once when `Streams.close` is called, because a server waits for its
open streams before it stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Header, Query
from fastapi.sse import format_sse_event
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from shared.errors import Unavailable
from shared.log import get_logger
from shared.problems import HttpProblem
from shared.security import Principal

log = get_logger(__name__)

PING_SECONDS = 15.0
RETRY_MILLISECONDS = 2000
STREAMS_PER_CLIENT_MAX = 20
STREAMS_MAX = 2000
SEND_SECONDS_MAX = 20.0
"""A client that takes longer to read one event is gone, whatever its connection says; it resumes where it was."""

_LAST_EVENT_ID = re.compile(r"[\x21-\x7e]{1,200}")
_PING = b": ping\n\n"
_CLOSING = b": closing\n\n"

STREAM_RESPONSES: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Server-sent events. Reconnect with `Last-Event-ID` to miss nothing.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    }
}
"""The `responses` of a route that streams."""


@dataclass(frozen=True, slots=True)
class StreamEvent:
    """One event: `data` is JSON text, `id` is what the client sends back as `Last-Event-ID`."""

    data: str
    event: str | None = None
    id: str | None = None

    def encode(self) -> bytes:
        """The event as bytes on the wire."""
        return format_sse_event(data_str=self.data, event=self.event, id=self.id)


Allowed = Callable[[], Awaitable[bool]]
"""Asked at every ping: whether this caller may still listen."""


async def _last_event_id(
    header: Annotated[str | None, Header(alias="Last-Event-ID", description="Resume after this event.")] = None,
    query: Annotated[
        str | None, Query(alias="last_event_id", description="The same, for clients that cannot set headers.")
    ] = None,
) -> str | None:
    value = header or query
    if not value:
        return None
    if not _LAST_EVENT_ID.fullmatch(value):
        raise HttpProblem("Last-Event-ID must be an id that this stream has sent", code="cursor_invalid")
    return value


last_event_id = _last_event_id
"""A dependency: where the client wants to go on, or None for a fresh start. The source checks what it means."""


class Streams:
    """All open streams of one process."""

    def __init__(
        self,
        *,
        per_client_max: int = STREAMS_PER_CLIENT_MAX,
        total_max: int = STREAMS_MAX,
        ping_seconds: float = PING_SECONDS,
        send_seconds_max: float = SEND_SECONDS_MAX,
    ) -> None:
        self.per_client_max = per_client_max
        self.total_max = total_max
        self.ping_seconds = ping_seconds
        self.send_seconds_max = send_seconds_max
        self.closing = asyncio.Event()
        self.open: Counter[str] = Counter()

    def respond(
        self,
        principal: Principal,
        source: AsyncIterator[StreamEvent],
        *,
        allowed: Allowed | None = None,
    ) -> Response:
        """The answer that streams `source` until it ends; raises 429 when the caller has too many streams open.

        `source` is closed in the end, whatever ends it. When `allowed` says no, the stream ends and the client has to
        ask anew; while `allowed` cannot be answered (`Unavailable`), the stream goes on.
        """
        if self.open[principal.client_id] >= self.per_client_max or self.open.total() >= self.total_max:
            raise HttpProblem(
                f"at most {self.per_client_max} streams at a time for one credential",
                code="too_many_streams",
                headers={"Retry-After": "5"},
            )
        return EventStream(self, principal.client_id, source, allowed)

    def close(self) -> None:
        """Ends every stream now, and each new one after its first line. Call it when the process begins to stop."""
        self.closing.set()

    @contextlib.contextmanager
    def counted(self, client_id: str) -> Iterator[None]:
        """Counts one stream of the client for as long as the block lasts."""
        self.open[client_id] += 1
        try:
            yield
        finally:
            self.open[client_id] -= 1
            if not self.open[client_id]:
                del self.open[client_id]


class EventStream(Response):
    """The answer itself. Its headers go out at once, so that a client knows that it is connected."""

    media_type = "text/event-stream"

    def __init__(
        self, streams: Streams, client_id: str, source: AsyncIterator[StreamEvent], allowed: Allowed | None
    ) -> None:
        super().__init__(headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})
        del self.headers["content-length"]
        self._streams = streams
        self._client_id = client_id
        self._source = source
        self._allowed = allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - the shape of ASGI
        """Sends events until the source ends, the client goes, or the process stops."""
        waiting: dict[str, asyncio.Task[Any]] = {}
        with self._streams.counted(self._client_id):
            try:
                await self._send(
                    send, {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
                )
                await self._send_chunk(send, f"retry: {RETRY_MILLISECONDS}\n\n".encode())
                waiting["gone"] = asyncio.create_task(_disconnected(receive))
                waiting["closing"] = asyncio.create_task(self._streams.closing.wait())
                await self._pump(send, waiting)
            except (OSError, TimeoutError):
                log.debug("stream.abandoned", client_id=self._client_id)
            finally:
                for task in waiting.values():
                    task.cancel()
                await asyncio.gather(*waiting.values(), return_exceptions=True)
                if isinstance(self._source, AsyncGenerator):
                    await self._source.aclose()

    async def _pump(self, send: Send, waiting: dict[str, asyncio.Task[Any]]) -> None:
        """Forwards news as they come. Permission is asked at every ping, and pings come on a busy stream, too."""
        seconds = asyncio.get_running_loop().time
        ping_at = seconds() + self._streams.ping_seconds
        while True:
            if "news" not in waiting:
                waiting["news"] = asyncio.create_task(_next(self._source))
            done, _ = await asyncio.wait(
                waiting.values(), timeout=max(0.0, ping_at - seconds()), return_when=asyncio.FIRST_COMPLETED
            )
            if waiting["gone"] in done:
                return
            if waiting["closing"] in done:
                break
            if waiting["news"] in done:
                event = _result(waiting.pop("news"), self._client_id)
                if event is None:
                    break
                await self._send_chunk(send, event.encode())
            if seconds() >= ping_at:
                if not await self._still_allowed():
                    break
                await self._send_chunk(send, _PING)
                ping_at = seconds() + self._streams.ping_seconds
        await self._send_chunk(send, _CLOSING, last=True)

    async def _still_allowed(self) -> bool:
        if self._allowed is None:
            return True
        try:
            return await self._allowed()
        except Unavailable:
            return True

    async def _send_chunk(self, send: Send, chunk: bytes, *, last: bool = False) -> None:
        await self._send(send, {"type": "http.response.body", "body": chunk, "more_body": not last})

    async def _send(self, send: Send, message: dict[str, Any]) -> None:
        async with asyncio.timeout(self._streams.send_seconds_max):
            await send(message)


async def _next(source: AsyncIterator[StreamEvent]) -> StreamEvent | None:
    return await anext(source, None)


def _result(news: asyncio.Task[StreamEvent | None], client_id: str) -> StreamEvent | None:
    """The next event, or None when the source has ended; trouble ends the stream, and the client resumes."""
    error = news.exception()
    if error is None:
        return news.result()
    if isinstance(error, Unavailable):
        log.warning("stream.interrupted", client_id=client_id, code=error.code)
        return None
    log.error("stream.failed", client_id=client_id, exc_info=error)
    return None


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
