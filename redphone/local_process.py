"""One server process: started so that it cannot outlive us, watched, stopped in good order, and found again after a
crash.

`Server` is what PostgreSQL and the NATS server have in common (`local_postgres` and `local_nats` say how they differ).
Two facts about each are kept apart: whether it *runs*, and whether it is *wanted*. One that is wanted and does not run
is the supervisor's work.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import psutil
import structlog

log = structlog.get_logger(__name__)

START_SECONDS_MAX = 60.0  # recovery after a crash replays at most the write-ahead log since the last checkpoint
PROBE_PAUSE_SECONDS = 0.02
STOP_SECONDS_MAX = 10.0
LEFTOVER_SECONDS_MAX = 10.0
LOG_BYTES_MAX = 10_000_000
LOG_TAIL_BYTES = 8_000


class LocalServerError(Exception):
    """The embedded servers cannot do what was asked; the message is one sentence that says what to do."""


@dataclass(frozen=True, slots=True)
class Account:
    """The user and group of the operating system as whom a server runs."""

    uid: int
    gid: int

    @classmethod
    def own(cls) -> Account:
        """The account of this process."""
        return cls(os.geteuid(), os.getegid())


class Server:
    """A server process; a subclass says how it is started (`command`) and when it is ready (`is_ready`)."""

    name: str
    stop_signals: Sequence[signal.Signals] = (signal.SIGINT, signal.SIGKILL)

    def __init__(self, log_path: Path) -> None:
        self.log_path = log_path
        self.wanted = False
        self.started = asyncio.Event()
        self._process: asyncio.subprocess.Process | None = None
        self._log_offset = 0
        self._lock = asyncio.Lock()

    def command(self) -> list[str]:
        """The program with its arguments."""
        raise NotImplementedError

    def account(self) -> Account:
        """As whom the program runs."""
        return Account.own()

    async def prepare(self) -> None:
        """What must be there before the program is started."""

    async def complete(self) -> None:
        """What must be there before anybody else uses the server."""

    async def is_ready(self) -> bool:
        """Whether the server answers; must not raise while it is still starting."""
        raise NotImplementedError

    def explain(self, log_tail: str) -> str | None:
        """One sentence for a person on why the server ended; None where another try may help."""
        raise NotImplementedError

    @property
    def pid(self) -> int | None:
        """The process id while the server runs, for tests that signal it."""
        return self._process.pid if self._process is not None and self.running else None

    @property
    def running(self) -> bool:
        """Whether the process exists; a stopped (SIGSTOP) one does."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start and wait until it answers; does nothing if it runs. LocalServerError if it does not come up."""
        async with self._lock:
            if self.running:
                return
            self.wanted = True
            try:
                await self.prepare()
                async with asyncio.timeout(START_SECONDS_MAX):
                    while not await self._start_once():
                        log.info("server.start_repeated", server=self.name)
                await self.complete()
            except TimeoutError:
                await self._end(signal.SIGKILL)
                message = f"{self.name} did not answer within {START_SECONDS_MAX:.0f} s; its log is {self.log_path}."
                raise LocalServerError(message) from None
            except OSError as error:
                await self._end(signal.SIGKILL)
                message = f"{self.name} cannot be started: {error.strerror} ({error.filename or self.log_path})."
                raise LocalServerError(message) from error
            except BaseException:
                await self._end(signal.SIGKILL)
                raise
            self.started.set()

    async def stop(self) -> None:
        """Stop in good order, harder step by step if it does not end; does nothing if it does not run."""
        async with self._lock:
            self.wanted = False
            self.started.clear()
            for number in self.stop_signals:
                if await self._end(number):
                    return

    async def kill(self) -> None:
        """End it as a crash would (SIGKILL). It stays wanted, so a supervisor starts it again."""
        await self._end(signal.SIGKILL)

    async def exited(self) -> None:
        """Return once the process has ended."""
        if self._process is not None:
            await self._process.wait()

    async def _start_once(self) -> bool:
        """True once it is ready; False if it ended for a reason that passes."""
        self._process = await self._spawn()
        while not await self.is_ready():
            if await self._exited_within(PROBE_PAUSE_SECONDS):
                sentence = self.explain(self.log_tail())
                if sentence is not None:
                    raise LocalServerError(sentence)
                return False
        return self.running

    async def _spawn(self) -> asyncio.subprocess.Process:
        if self.log_path.exists() and self.log_path.stat().st_size > LOG_BYTES_MAX:
            self.log_path.replace(self.log_path.with_suffix(".old.log"))
        with open_private(self.log_path, append=True) as log_file:
            self._log_offset = log_file.tell()
            # A session of its own: Ctrl-C on the terminal must reach the services first, which still need their
            # servers.
            return await asyncio.create_subprocess_exec(
                *guarded(self.command(), self.account()),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log_file,
                stderr=log_file,
                start_new_session=True,
                cwd="/",
                env=_plain_environment(),
            )

    async def _end(self, number: signal.Signals) -> bool:
        """Send the signal and wait; True once the process has ended."""
        if self._process is None or not self.running:
            return True
        self._process.send_signal(number)
        return await self._exited_within(STOP_SECONDS_MAX)

    async def _exited_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self.exited()
        except TimeoutError:
            return False
        return True

    def log_tail(self) -> str:
        """The last lines that this run of the server wrote."""
        with self.log_path.open("rb") as log_file:
            size = log_file.seek(0, os.SEEK_END)
            log_file.seek(max(self._log_offset, size - LOG_TAIL_BYTES))
            return log_file.read(LOG_TAIL_BYTES).decode(errors="replace")


class Remembered:
    """What was chosen once for a data directory and must stay so: ports, token, socket directory. Mode 0600."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values: dict[str, str | int] = {}
        if path.exists():
            try:
                self._values = json.loads(path.read_bytes())
            except ValueError:
                log.warning("server.choices_unreadable", path=str(path))

    def get(self, key: str) -> str | int | None:
        """The value, or None if nothing has been chosen yet."""
        return self._values.get(key)

    def put(self, **values: str | int) -> None:
        """Keep the values; on disk before this returns, and never half written."""
        self._values |= values
        fresh = self._path.with_suffix(".new")
        with open_private(fresh) as file:
            file.write(json.dumps(self._values, indent=1).encode())
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(self._path)


def guarded(command: Sequence[str], account: Account) -> list[str]:
    """The command wrapped so that it runs as the account and ends when this process does (see
    `redphone/local_child.py`).
    """
    child = str(Path(__file__).with_name("local_child.py"))
    return [sys.executable, "-I", "-S", child, str(os.getpid()), str(account.uid), str(account.gid), *command]


async def keep_running(server: Server, *, pause_seconds_max: float = 5.0) -> None:
    """Start the server again whenever it ends while it is wanted; returns only by cancellation."""
    failures = 0
    while True:
        await server.started.wait()
        await server.exited()
        if not server.wanted:
            continue
        log.warning("server.died", server=server.name, failures=failures)
        try:
            await server.start()
        except LocalServerError as error:
            failures += 1
            log.error("server.not_restarted", server=server.name, failures=failures, reason=str(error))
            await _pause(min(pause_seconds_max, 0.25 * 2**failures))
        else:
            failures = 0
            log.info("server.restarted", server=server.name)


async def take_down_leftovers(programs: Iterable[tuple[str, str]]) -> int:
    """End servers of a former run that was killed: (program name, argument that names our own directory or file).

    The caller holds the lock of the data directory, so no living run owns them. Returns how many there were.
    """
    return await asyncio.to_thread(_take_down, list(programs))


def _take_down(programs: list[tuple[str, str]]) -> int:
    found = []
    for process in psutil.process_iter(["cmdline"]):
        arguments = process.info["cmdline"] or []
        if any(arguments and Path(arguments[0]).name == name and argument in arguments for name, argument in programs):
            found.append(process)
    waiting = found
    for number in (signal.SIGINT, signal.SIGKILL):
        for process in waiting:
            try:
                process.send_signal(number)
            except psutil.NoSuchProcess:
                continue
        deadline = time.monotonic() + LEFTOVER_SECONDS_MAX
        while (waiting := [process for process in waiting if _is_alive(process)]) and time.monotonic() < deadline:
            psutil.wait_procs(waiting, timeout=PROBE_PAUSE_SECONDS)
    if waiting:
        message = f"A server of a former run (process {waiting[0].pid}) cannot be stopped; stop it and start again."
        raise LocalServerError(message)
    return len(found)


def _is_alive(process: psutil.Process) -> bool:
    """Whether it still does anything: where nobody collects orphans, one that has ended stays listed as a zombie."""
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def _pause(seconds: float) -> None:
    """The one wait that is for time alone: a server that does not come up is not tried in a tight loop."""
    try:
        async with asyncio.timeout(seconds):
            await asyncio.get_running_loop().create_future()
    except TimeoutError:
        return


def open_private(path: Path, *, append: bool = False) -> BinaryIO:
    """A file that only we may read, open for writing; emptied unless `append`."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_APPEND if append else os.O_TRUNC)
    return os.fdopen(os.open(path, flags, 0o600), "ab" if append else "wb")


def _plain_environment() -> dict[str, str]:
    """Only what a program needs to run: PG* variables and the like must not change a server's behaviour."""
    kept = {key: value for key, value in os.environ.items() if key in {"PATH", "HOME", "TMPDIR", "LD_LIBRARY_PATH"}}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


async def run_program(command: Sequence[str], account: Account) -> tuple[int, str]:
    """Run a short program (initdb) under the same guard; its exit status and what it said."""
    process = await asyncio.create_subprocess_exec(
        *guarded(command, account),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        cwd="/",
        env=_plain_environment(),
    )
    try:
        async with asyncio.timeout(START_SECONDS_MAX):
            said, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode or 0, said.decode(errors="replace")
