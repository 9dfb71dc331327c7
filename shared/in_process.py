"""Calls an application of this very process as if over HTTP, streams included.

httpx's own ASGI transport reads an answer to its end before it gives it out; an event stream has none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import httpx
from starlette.types import ASGIApp, Message


class InProcess(httpx.AsyncBaseTransport):
    """An httpx transport that calls `app`. Closing an answer tells the application that the client has gone."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The application's answer, as soon as its head is there; raises `httpx.RemoteProtocolError` if none comes."""
        call = _Call(await request.aread())
        scope: dict[str, object] = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": request.method,
            "headers": [(name.lower(), value) for name, value in request.headers.raw],
            "scheme": request.url.scheme,
            "path": request.url.path,
            "raw_path": request.url.raw_path.split(b"?")[0],
            "query_string": request.url.query,
            "server": (request.url.host, request.url.port),
            "client": ("127.0.0.1", 0),
            "root_path": "",
        }
        call.task = asyncio.create_task(self._run(scope, call), name=f"in-process {request.url.path}")
        try:
            head = await call.head
        except BaseException:
            await call.aclose()
            raise
        return httpx.Response(head["status"], headers=head.get("headers", []), stream=call)

    async def _run(self, scope: dict[str, object], call: _Call) -> None:
        try:
            await self._app(scope, call.receive, call.send)
        except Exception:  # noqa: BLE001 - whatever it was, the application has logged it: here the connection breaks
            call.broken = True
        finally:
            call.end()


class _Call(httpx.AsyncByteStream):
    """One request under way, and the answer's body."""

    def __init__(self, body: bytes) -> None:
        self._body: bytes | None = body
        self._chunks: asyncio.Queue[bytes | None] = asyncio.Queue(maxsize=64)
        self._gone = asyncio.Event()
        self.head: asyncio.Future[Message] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None
        self.broken = False

    async def receive(self) -> Message:
        """What the application reads: the body once, and then the client's going."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """What the application says."""
        if message["type"] == "http.response.start":
            self.head.set_result(message)
        elif message["type"] == "http.response.body":
            if message.get("body"):
                await self._chunks.put(message["body"])
            if not message.get("more_body", False):
                await self._chunks.put(None)

    def end(self) -> None:
        """The application has returned."""
        if not self.head.done():
            self.head.set_exception(httpx.RemoteProtocolError("the application gave no answer"))
            self.head.exception()
        if self._chunks.full():
            self._chunks.get_nowait()
        self._chunks.put_nowait(None)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while (chunk := await self._chunks.get()) is not None:
            yield chunk
        if self.broken:
            raise httpx.RemoteProtocolError("the application broke off its answer")

    async def aclose(self) -> None:
        """The client has read enough."""
        self._gone.set()
        if self.task is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
