"""The web server that counterparts run on, beside whatever else the process does."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator

import uvicorn


class QuietServer(uvicorn.Server):
    """Leaves the process's signals alone, and ends at once when told."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._ended = asyncio.Event()

    def end(self) -> None:
        """Closes all connections; `serve` returns."""
        self.should_exit = self.force_exit = True
        self._ended.set()

    async def main_loop(self) -> None:
        """Serves until it is told to end."""
        await self.on_tick(0)
        await self._ended.wait()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing is captured."""
        yield
