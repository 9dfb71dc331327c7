"""Messages that come side by side are handled together: one transaction for all that wait, not one for each.

The cast: a handler is marked as `Together` where a service lists what it subscribes to; a `Gathering` takes messages
one by one, as every `Subscription` hands them over, and gives them to such a handler as they have come together while
the one before was at work. A message that comes alone waits for nobody, and under load the batches grow by themselves.

The promise: nothing changes for the message. It is done when the transaction that holds its inbox row is committed, and
only then is it acknowledged to the broker. When a batch fails, for whatever reason, its messages are handled
one by one: an error ends with the message that it belongs to, and one that can never be handled keeps no other waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from dataclasses import dataclass
from typing import Any

from shared.events import Message
from shared.log import get_logger

log = get_logger(__name__)

TOGETHER_MAX = 100
"""Messages in one transaction: it stays far below the time that a handler has, on a slow database too."""

ONE_BY_ONE_MAX = 4
"""Messages of failed batches that are at work at once, so that they leave connections to all others."""

BATCH_SECONDS_MAX = 4.0
"""A batch that takes longer is given up: half of the time that each of its messages has, so that the other half is left
for handling it alone."""

_Waiting = tuple[Message[Any], asyncio.Future[bool]]
"""A message and what ends its wait: True when it was done with others, False when it is to be handled alone."""

HandleMany = Callable[[Any, Sequence[Message[Any]]], Awaitable[None]]


@dataclass(frozen=True)
class Together:
    """Marks a handler that takes any number of messages, of one event or several, the same one perhaps twice.

    It commits their inbox rows and effects in one transaction, or none of them.
    """

    handle: HandleMany

    async def __call__(self, deps: Any, message: Message[Any]) -> None:
        """Handles one message by itself."""
        await self.handle(deps, [message])


class Gathering:
    """What waits for one `Together`, and the task that hands it over."""

    def __init__(self, deps: Any, handler: Together) -> None:
        self._deps = deps
        self._handle = handler.handle
        self._waiting: list[_Waiting] = []
        self._work: asyncio.Task[None] | None = None
        self._places = asyncio.Semaphore(ONE_BY_ONE_MAX)

    async def handle(self, message: Message[Any]) -> None:
        """Returns when the message is done, with others or alone; raises what its own handling has raised.

        Whoever gives up waiting leaves open whether it was done, as with every commit whose end is unknown.
        """
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((message, done))
        if self._work is None:
            # With a context of its own: what is logged about all must not bear the marks of the first.
            self._work = asyncio.create_task(self._hand_over(), name="together", context=Context())
        if not await done:
            async with self._places:
                await self._handle(self._deps, [message])

    async def _hand_over(self) -> None:
        batch: list[_Waiting] = []
        try:
            while self._waiting:
                batch, self._waiting = self._waiting[:TOGETHER_MAX], self._waiting[TOGETHER_MAX:]
                batch = [waiting for waiting in batch if not waiting[1].done()]
                if batch:
                    await self._handle_batch(batch)
        finally:
            self._work = None
            for _, done in (*batch, *self._waiting):
                done.cancel()  # of no effect on those that have ended: all of them, unless this task was cancelled
            self._waiting = []

    async def _handle_batch(self, batch: Sequence[_Waiting]) -> None:
        try:
            async with asyncio.timeout(BATCH_SECONDS_MAX):
                await self._handle(self._deps, [message for message, _ in batch])
        except Exception as error:  # noqa: BLE001 - it reaches whoever brought the message, now or when tried alone
            if len(batch) > 1:
                log.warning("messages.separated", messages=len(batch), error=type(error).__name__)
            alone = len(batch) == 1 and not isinstance(error, TimeoutError)
            for _, done in batch:
                if not done.done():
                    done.set_exception(error) if alone else done.set_result(False)
        else:
            for _, done in batch:
                if not done.done():
                    done.set_result(True)
