"""Waiting in tests: on a condition, with an end, never for a time that is hoped to be enough."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

POLL_SECONDS = 0.02


async def eventually(condition: Callable[[], bool | Awaitable[bool]], *, within_seconds: float = 20.0) -> None:
    """Return as soon as the condition holds; AssertionError if it does not within the time."""
    try:
        async with asyncio.timeout(within_seconds):
            while not await _holds(condition):
                await _pause()
    except TimeoutError:
        message = f"this did not happen within {within_seconds} s: {inspect.getsource(condition).strip()}"
        raise AssertionError(message) from None


async def _holds(condition: Callable[[], bool | Awaitable[bool]]) -> bool:
    answer = condition()
    return answer if isinstance(answer, bool) else await answer


async def _pause() -> None:
    try:
        async with asyncio.timeout(POLL_SECONDS):
            await asyncio.get_running_loop().create_future()
    except TimeoutError:
        return
