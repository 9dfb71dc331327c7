"""One question for all who ask the same at the same moment, as two hundred boards do that come back together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

Answer = TypeVar("Answer")


class AskedOnce(Generic[Answer]):
    """Questions that are on their way, by what they ask for. Nothing is remembered once it is answered."""

    def __init__(self) -> None:
        self._asked: dict[Hashable, asyncio.Task[Answer]] = {}

    async def ask(self, key: Hashable, question: Callable[[], Awaitable[Answer]]) -> Answer:
        """The answer, or the trouble, of the question that is on its way; if none is, of this one.

        Whoever stops waiting leaves the question to the others.
        """
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.ensure_future(_answer(question))
            task.add_done_callback(lambda done: self._ended(key, done))
        return await asyncio.shield(task)

    def _ended(self, key: Hashable, task: asyncio.Task[Answer]) -> None:
        del self._asked[key]
        if not task.cancelled():
            # Trouble that nobody waits for any more is nobody's.
            task.exception()


async def _answer(question: Callable[[], Awaitable[Answer]]) -> Answer:
    return await question()
