"""Questions that many ask at once."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest

from services.console.asking import AskedOnce
from tests.support.waiting import eventually


class Source:
    """Counts its questions, and answers when it is told to."""

    def __init__(self) -> None:
        self.asked = 0
        self.answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def question(self) -> str:
        """The answer."""
        self.asked += 1
        return await self.answer


async def test_many_share_one_question_and_the_next_asks_anew() -> None:
    """While a question is on its way everybody waits for its answer; afterwards it is asked again."""
    once, source = AskedOnce[str](), Source()
    waiting = [asyncio.create_task(once.ask("key", source.question)) for _ in range(5)]
    other = asyncio.create_task(once.ask("other", source.question))
    await eventually(lambda: source.asked == 2)
    source.answer.set_result("yes")
    assert await asyncio.gather(*waiting, other) == ["yes"] * 6
    assert source.asked == 2
    assert await once.ask("key", source.question) == "yes"
    assert source.asked == 3


async def test_trouble_reaches_everybody_who_waits() -> None:
    """Each of them sees the error, and the next one is not told of it."""
    once, source = AskedOnce[str](), Source()
    waiting = [asyncio.create_task(once.ask("key", source.question)) for _ in range(2)]
    await eventually(lambda: source.asked == 1)
    source.answer.set_exception(OSError("gone"))
    for one in waiting:
        with pytest.raises(OSError, match="gone"):
            await one
    again = Source()
    again.answer.set_result("back")
    assert await once.ask("key", again.question) == "back"


async def test_whoever_goes_leaves_the_question_to_the_others() -> None:
    """The first one's leaving takes the answer from nobody."""
    once, source = AskedOnce[str](), Source()
    first, second = (asyncio.create_task(once.ask("key", source.question)) for _ in range(2))
    await eventually(lambda: source.asked == 1)
    first.cancel()
    await asyncio.wait([first])
    source.answer.set_result("yes")
    assert await second == "yes"


async def test_trouble_that_nobody_waits_for_is_forgotten() -> None:
    """Whoever asked is gone: nothing is logged, and the next one asks anew."""
    once, source, again = AskedOnce[str](), Source(), Source()
    gone = asyncio.create_task(once.ask("key", source.question))
    await eventually(lambda: source.asked == 1)
    gone.cancel()
    await asyncio.wait([gone])
    source.answer.set_exception(OSError("gone"))
    again.answer.set_result("back")

    async def is_back() -> bool:
        with suppress(OSError):
            return await once.ask("key", again.question) == "back"
        return False

    await eventually(is_back)
