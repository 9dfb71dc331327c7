"""Processes that a benchmark starts, watches and ends."""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

START_SECONDS_MAX = 90.0
STOP_SECONDS_MAX = 10.0
LOG_LINES_SHOWN = 15


class ProcessFailed(RuntimeError):
    """A process did not start, or ended before it was told to; the text holds the end of its log."""


@dataclass(frozen=True)
class Process:
    """One process of ours, with everything that it says in a log file."""

    name: str
    popen: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(
        cls, name: str, command: Sequence[str], log: Path, *, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Starts it; `environment` None gives it ours."""
        with log.open("ab") as output:
            popen = subprocess.Popen(  # noqa: S603 - our own command lines
                list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, env=environment
            )
        return cls(name, popen, log)

    def check(self) -> None:
        """Raises `ProcessFailed` if it has ended."""
        if self.popen.poll() is not None:
            lines = self.log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
            raise ProcessFailed("\n".join([f"{self.name} ended with status {self.popen.returncode}", *lines]))

    async def until_listening(self, port: int) -> None:
        """Waits until something listens on the port of this machine. Raises `ProcessFailed`."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            self.check()
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                if time.monotonic() > deadline:
                    raise ProcessFailed(f"{self.name} does not listen on port {port}") from None
                await asyncio.sleep(0.05)
            else:
                writer.close()
                return

    async def until_ended(self) -> None:
        """Waits until it has ended well. Raises `ProcessFailed`."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while self.popen.poll() is None:
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{self.name} does not end")
            await asyncio.sleep(0.05)
        if self.popen.returncode != 0:
            self.check()

    def memory_mib(self) -> float:
        """Resident memory, that of its children included."""
        return sum(process.memory_info().rss for process in self._family()) / 1024 / 1024

    def cpu_seconds(self) -> float:
        """Processor time taken so far, user and system, that of its children included."""
        return sum(float(times.user + times.system) for times in (process.cpu_times() for process in self._family()))

    def _family(self) -> list[psutil.Process]:
        process = psutil.Process(self.popen.pid)
        return [process, *process.children(recursive=True)]

    def stop(self) -> None:
        """Ends it, politely first. May be called twice."""
        if self.popen.poll() is None:
            self.popen.terminate()
            try:
                self.popen.wait(STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                self.popen.kill()
                self.popen.wait()
