"""Services in a process: one application on one origin, a socket, a signal to stop.

The cast: `host` makes one application of services, `listen` takes an address, `serve` answers until the process is told
to stop, `run` gives the process its event loop.

The promise: the process answers `/healthz` from the first moment, `/readyz` with what it waits for, and after SIGTERM
every request that was taken gets its answer.
"""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from types import FrameType
from typing import Any, TypeVar, cast

import httpx
import uvicorn
import uvloop
from fastapi import APIRouter, FastAPI

from shared import docs_page
from shared.in_process import InProcess
from shared.log import get_logger
from shared.process import Service
from shared.web import ReadinessCheck, build_app, common_router

log = get_logger(__name__)

T = TypeVar("T")

SHUTDOWN_SECONDS_MAX = 3

STOP_SECONDS_MAX = 20.0
"""A service that takes longer to stop is left: everything that matters is a row, and the next start finds it."""

COLLECT_AFTER = (50_000, 20, 50)
"""Python's own (700, 10, 10) looks through everything that a process holds, every duty plan for example, in the middle
of sending a thousand pages: tens of milliseconds each time, and little is ever found."""


def host(services: Sequence[Service], *, title: str = "Red Phone", routers: Sequence[APIRouter] = ()) -> FastAPI:
    """One application of several services (or of one): one origin, one OpenAPI document, one set of common routes.

    Starting the application starts the services in the background, so that the process answers `/healthz` while it
    waits for a database; `/readyz` tells when they work. Feeds of services that are here are read without a socket.
    """
    first = services[0].deps
    names = "+".join(service.name for service in services)
    checks: dict[str, ReadinessCheck] = {}
    for service in services:
        checks |= {f"{service.name}.{check}": found for check, found in service.checks.items()}

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        starting = asyncio.create_task(_start_all(services), name=f"start:{names}")
        starting.add_done_callback(lambda task: _report_start(app, task))
        try:
            yield
        finally:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
            for service in reversed(services):
                await stop_in_time(service)

    app = build_app(
        title,
        [
            common_router(first, checks=checks),
            *(router for service in services for router in service.routers),
            docs_page.router(),
            *routers,
        ],
        service=names if len(services) == 1 else "redphone",
        clock=first.clock,
        ids=first.ids,
        public_url=first.settings.public_url,
        lifespan=lifespan,
    )
    app.state.closing = [service.deps.streams.close for service in services]
    app.state.failed = False
    app.state.ended = asyncio.Event()
    app.state.stop = app.state.ended.set
    transport = httpx.ASGITransport(app=app, raise_app_exceptions=False)
    names_here = [service.name for service in services]
    for service in services:
        service.feed_through(transport, names_here)
        if service.on_hosted is not None:
            service.on_hosted(InProcess(app), names_here)
    return app


async def stop_in_time(service: Service) -> None:
    """Stops a service, and gives up after `STOP_SECONDS_MAX`: a process that never ends is worse than one that dies."""
    try:
        async with asyncio.timeout(STOP_SECONDS_MAX):
            await service.stop()
    except TimeoutError:
        log.error("service.stop_abandoned", service=service.name, seconds=STOP_SECONDS_MAX)


async def _start_all(services: Sequence[Service]) -> None:
    await asyncio.gather(*(service.start() for service in services))


def _report_start(app: FastAPI, task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        log.error("service.start_failed", error=type(error).__name__, exc_info=error)
        app.state.failed = True
        app.state.stop()


class _Server(uvicorn.Server):
    """Ends open streams first, because the server waits for them, and returns after a signal in place of raising it
    again, so that whoever called can clean up.
    """

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self.end_streams()
        super().handle_exit(sig, frame)

    def end_streams(self) -> None:
        """Ends what would otherwise stay open for ever."""
        for close in cast("FastAPI", self.config.app).state.closing:
            close()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        with super().capture_signals():
            try:
                yield
            finally:
                self._captured_signals.clear()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes a free one. Raises `OSError` when the address is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError:
        listening.close()
        raise
    listening.set_inheritable(False)
    return listening


def address_of(listening: socket.socket) -> str:
    """The socket's own address as a URL."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def serve(app: FastAPI, listening: socket.socket) -> None:
    """Serves until SIGTERM, SIGINT or `app.state.stop()`: open requests have three seconds to end, streams end at once.

    Raises `RuntimeError` when a service could not start for a reason that waiting does not mend.
    """
    config = uvicorn.Config(
        app,
        http="httptools",
        lifespan="on",
        access_log=False,
        log_config=None,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS_MAX,
    )
    server = _Server(config)
    log.info("process.listening", address=address_of(listening))

    async def end() -> None:
        await app.state.ended.wait()
        server.end_streams()
        server.should_exit = True

    ending = asyncio.create_task(end())
    try:
        await server.serve(sockets=[listening])
    finally:
        ending.cancel()
        listening.close()
    if app.state.failed:
        raise RuntimeError("a service could not start; the log says why")


def run(main: Coroutine[Any, Any, T]) -> T:
    """Runs a process's main coroutine on the fast event loop, with garbage collection that keeps out of the way."""
    gc.set_threshold(*COLLECT_AFTER)
    return uvloop.run(main)
