"""The processes that serve: `up` (everything on one machine), `serve` (one service), `deploy` (migrations and streams).

The promise: one clear sentence for whatever stands in the way; silence while all is well; SIGTERM and Ctrl-C end
everything in good order, at any moment, and say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from asyncpg import PostgresError
from fastapi import FastAPI
from rich.text import Text
from sqlalchemy.exc import SQLAlchemyError

from redphone import files
from redphone.client import URL_DEFAULT, Client, Connection
from redphone.exits import Exit, Failed
from redphone.installation import Installation, build_services, complete, deploy, installation
from redphone.local import LocalServerError, ServerUrls, given_servers
from redphone.local_postgres import create_missing_databases
from redphone.network import Applied, send_network
from redphone.output import Output, summary_grid
from shared import hosting
from shared.clock import SystemClock
from shared.ids import Ids
from shared.keys import KeyRing, KeysUnusable
from shared.log import configure
from shared.security import administrator, issue_token
from shared.settings import DATA_DIR_DEFAULT, ServiceName, Settings, SettingsWrong, load

START_POLL_SECONDS = 0.05


# --- what all three share ---------------------------------------------------------------------------------------------


def load_settings(**overrides: Any) -> Settings:
    """The settings of the environment, or a `Failed` that names every mistake."""
    try:
        return load(os.environ, **overrides)
    except SettingsWrong as error:
        raise Failed("The configuration is wrong.", details=error.mistakes, exit_code=Exit.USAGE) from None


def _quiet_level() -> str:
    """Warnings only, unless the environment asks for more: whoever looks at a terminal wants to see what is wrong."""
    return os.environ.get("REDPHONE_LOG_LEVEL") or "WARNING"


def bind(settings: Settings) -> socket.socket:
    """The socket of the settings' address, or a `Failed` that says who may have it and what to do."""
    try:
        return hosting.listen(settings.host, settings.port)
    except OSError as error:
        holder = files.holder_of(settings.data_dir)
        held = [f"{settings.data_dir.resolve()} is in use by another Red Phone (process {holder})."] if holder else []
        raise Failed(
            f"Cannot listen on {settings.host} port {settings.port}: {error.strerror}.",
            details=[*held, "Stop what listens there, or choose another port: --port 8001 (0 takes a free one)."],
            exit_code=Exit.NOT_RUNNING,
        ) from None


@asynccontextmanager
async def explained() -> AsyncIterator[None]:
    """Turns what can go wrong while servers and services start into one sentence."""
    try:
        yield
    except (LocalServerError, KeysUnusable, ValueError) as error:
        raise Failed(str(error), exit_code=Exit.NOT_RUNNING) from None
    except TimeoutError:
        raise Failed("NATS does not answer. Check REDPHONE_NATS_URL.", exit_code=Exit.NOT_RUNNING) from None
    except (PostgresError, SQLAlchemyError, OSError) as error:
        raise Failed(
            f"PostgreSQL cannot be used: {_first_line(error)}",
            details=["Check the REDPHONE_…DATABASE_URL variables; migrations need the database's owner."],
            exit_code=Exit.NOT_RUNNING,
        ) from None


def _first_line(error: Exception) -> str:
    original = getattr(error, "orig", None) or error
    return str(original).strip().split("\n", 1)[0] or type(original).__name__


class Signals:
    """SIGTERM and SIGINT: before the server runs, the first one cancels the start; from then on the server obeys them.

    The server raises a signal again once it has stopped, which must not cut short what stops after it.
    """

    def __init__(self, starting: asyncio.Task[Any]) -> None:
        self._starting: asyncio.Task[Any] | None = starting
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop)

    def leave_to_server(self) -> None:
        """The server is about to run."""
        self._starting = None

    def _stop(self) -> None:
        if self._starting is not None:
            self._starting.cancel()
            self._starting = None


async def serve_until_stopped(app: FastAPI, listening: socket.socket, when_serving: Coroutine[Any, Any, None]) -> None:
    """Serves until a signal; `when_serving` runs beside it, and what it raises ends the server and is raised here."""
    beside = asyncio.create_task(when_serving)

    def end_server(done: asyncio.Task[None]) -> None:
        if not done.cancelled() and done.exception() is not None:
            signal.raise_signal(signal.SIGTERM)

    beside.add_done_callback(end_server)
    try:
        await hosting.serve(app, listening)
    except RuntimeError as error:
        raise Failed(str(error), exit_code=Exit.NOT_RUNNING) from None
    finally:
        beside.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await beside


async def until_stopped(main: Callable[[Signals], Coroutine[Any, Any, None]]) -> None:
    """Runs `main`, which a signal may cancel; that is an end in good order."""
    task = asyncio.current_task()
    assert task is not None, "this runs in a task"
    signals = Signals(task)
    try:
        await main(signals)
    except asyncio.CancelledError:
        task.uncancel()


def run(main: Coroutine[Any, Any, None]) -> None:
    """Runs one of the coroutines below on the fast event loop, in the main thread."""
    hosting.run(main)


# --- up ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class UpOptions:
    """What the command line said; None leaves it to the environment."""

    data_dir: Path | None = None
    host: str | None = None
    port: int | None = None
    network: Path | None = None
    development: bool = False


async def up(options: UpOptions, output: Output) -> None:
    """Runs everything until SIGTERM or Ctrl-C. Raises `Failed`."""
    settings = load_settings(
        data_dir=options.data_dir,
        host=options.host,
        port=options.port,
        development=options.development or None,
        log_level=_quiet_level(),
    )
    network = (options.network.name, files.read_text(options.network)) if options.network is not None else None
    configure(level=settings.log_level, json_lines=settings.log_json)
    listening = bind(settings)
    address = hosting.address_of(listening)
    settings = settings.model_copy(update={"public_url": settings.public_url or address})

    async def run(signals: Signals) -> None:
        async with explained(), installation(settings, given_servers(os.environ)) as running:
            signals.leave_to_server()
            await serve_until_stopped(running.app, listening, announce(running))
            output.note("Stopping …")

    async def announce(running: Installation) -> None:
        while not running.started:
            await running.clock.sleep(START_POLL_SECONDS)
        async with local_client(running, address) as client:
            await _report(client, running, address, network=network, output=output)

    output.note("Starting PostgreSQL, NATS and the services …")
    try:
        await until_stopped(run)
    finally:
        listening.close()
    output.say(f"Stopped. The data stays in {settings.data_dir.resolve()}.", event="stopped")


def local_client(running: Installation, address: str) -> Client:
    """Calls the application in this process, as the administrator of this machine."""
    token = issue_token(running.keys, administrator("redphone up"), now=running.clock.now(), token_id=running.ids.new())
    return Client(
        Connection(url=address, token=token),
        clock=running.clock,
        ids=running.ids,
        transport=httpx.ASGITransport(app=running.app),
    )


async def _report(
    client: Client,
    running: Installation,
    address: str,
    *,
    network: tuple[str, str] | None,
    output: Output,
) -> None:
    """Brings in the network file on the first start, and says what there is and what to do next."""
    partners = await _partner_count(client)
    data_dir = running.settings.data_dir.resolve()
    applied: Applied | None = None
    if network is not None and partners == 0:
        file_name, text = network
        applied = await send_network(client, text, file_name)
        if applied.secrets:
            files.save_credentials(data_dir / files.CREDENTIALS_NAME, applied.secrets)
        partners = await _partner_count(client)
    facts = {
        "event": "up",
        "url": address,
        "console_url": console_url(address),
        "data_dir": str(data_dir),
        "pid": os.getpid(),
        "partners": partners,
        "credentials_file": str(data_dir / files.CREDENTIALS_NAME) if applied and applied.secrets else None,
        "development": running.settings.development,
    }
    if output.as_json:
        output.json(facts)
        return
    shown = summary_grid()
    shown.add_row("Console", f"{console_url(address)} in a browser; sign in with a name and secret of the credentials")
    shown.add_row("APIs", address)
    shown.add_row("Data", f"{data_dir} · {_servers(running.urls)}")
    shown.add_row("Partners", str(partners) if partners else "none yet")
    if applied is not None and network is not None:
        shown.add_row("", f"from {network[0]}: {applied.sentence}")
    if applied is not None and applied.secrets:
        shown.add_row("Credentials", f"{len(applied.secrets)} new, saved in {data_dir / files.CREDENTIALS_NAME}")
        shown.add_row("", "Their secrets are shown nowhere else.")
    if network is not None and applied is None and not (data_dir / files.CREDENTIALS_NAME).exists():
        # A first start that was killed has applied the file and taken the secrets with it.
        shown.add_row("Credentials", "The partners are here, their secrets are not in the data directory. If they are")
        shown.add_row("", "lost: redphone network secret PARTNER --all --save FILE makes new ones.")
    if running.settings.development:
        shown.add_row("Mode", "development: webhooks may go to this machine, over http. Never in production.")
    for number, step in enumerate(next_steps(partners, address, data_dir)):
        shown.add_row("" if number else "Next", step)
    output.show(Text("Red Phone is running. Ctrl-C stops it.", style="bold green"))
    output.show(shown)


def console_url(address: str) -> str:
    """Where the board is."""
    return f"{address}/"


async def _partner_count(client: Client) -> int:
    return len(await client.items("/v1/partners"))


def _servers(urls: ServerUrls) -> str:
    own_broker = urls.monitor_url is not None
    own_database = all("host=" in url for url in urls.database_urls.values())
    if own_broker and own_database:
        return "PostgreSQL and NATS embedded"
    given = [name for name, own in (("PostgreSQL", own_database), ("NATS", own_broker)) if not own]
    return f"{' and '.join(given)} as the environment says"


def next_steps(partners: int, address: str, data_dir: Path) -> list[str]:
    """What somebody who has just started it would type next, in another terminal."""
    named = [
        *([f"export REDPHONE_URL={address}"] if address != URL_DEFAULT else []),
        *([f"export REDPHONE_DATA_DIR={data_dir}"] if data_dir != DATA_DIR_DEFAULT.resolve() else []),
    ]
    if not partners:
        return [*named, "redphone network apply network/rdn.toml"]
    return [*named, "redphone on-call", "redphone doctor", "redphone alert raise --help"]


# --- serve and deploy -------------------------------------------------------------------------------------------------


def _production_urls() -> ServerUrls:
    """Where the deployment's servers are, or a `Failed` that names what is missing."""
    given = given_servers(os.environ)
    missing = [] if given.nats_url else ["REDPHONE_NATS_URL is not set: where NATS is, for example nats://nats:4222."]
    if not given.has_databases:
        missing.append(
            "REDPHONE_DATABASE_URL is not set: where PostgreSQL is, for example postgresql://redphone@db:5432/. "
            "REDPHONE_<SERVICE>_DATABASE_URL names one service's own."
        )
    if given.nats_url is None or missing:
        raise Failed(
            "The environment does not say where the servers are.",
            details=[*missing, "redphone up brings its own servers."],
            exit_code=Exit.USAGE,
        )
    return ServerUrls(given.database_urls, given.owner_urls, given.nats_url, monitor_url=None)


async def serve(name: ServiceName, *, host: str | None, port: int | None, output: Output) -> None:
    """Runs one service until a signal, on the servers of the environment. Raises `Failed`.

    The first line on standard output is its address, for whoever started it with port 0.
    """
    settings = load_settings(host=host, port=port)
    settings = complete(settings, _production_urls())
    configure(level=settings.log_level, json_lines=settings.log_json)
    listening = bind(settings)
    address = hosting.address_of(listening)

    async def run(signals: Signals) -> None:
        async with explained():
            clock = SystemClock()
            [service] = build_services(
                [name], settings, clock=clock, ids=Ids(clock.now), keys=settings.keyring(), manage_streams=False
            )
            app = hosting.host([service])
        signals.leave_to_server()
        await serve_until_stopped(app, listening, announce())

    async def announce() -> None:
        output.say(f"{name} listening on {address}", event="listening", service=name, url=address, pid=os.getpid())

    try:
        await until_stopped(run)
    finally:
        listening.close()


async def deploy_all(names: Sequence[ServiceName], output: Output) -> None:
    """Makes databases and streams fit this version, and returns; may be repeated. Raises `Failed`."""
    urls = _production_urls()
    settings = complete(load_settings(log_level=_quiet_level()), urls)
    configure(level=settings.log_level, json_lines=settings.log_json)
    async with explained():
        clock = SystemClock()
        await create_missing_databases([urls.owner_urls[name] for name in names])
        services = build_services(
            names, settings, clock=clock, ids=Ids(clock.now), keys=KeyRing.generate(), manage_streams=False
        )
        await deploy(services, settings, urls)
    done = ", ".join(names)
    output.say(f"Databases, streams and consumers are ready for: {done}.", event="deployed", services=list(names))
