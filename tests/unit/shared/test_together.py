"""Messages that come side by side are handled in one go, and an error ends with the message that it belongs to."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from shared import together
from shared.contracts import AlertEnded
from shared.errors import Rejected
from shared.events import Message
from shared.together import TOGETHER_MAX, Gathering, Together
from tests.support.bus_rig import make_message, turn
from tests.support.waiting import eventually


class Desk:
    """A handler that notes what it was given at a time; it waits at the door, and refuses what is poison."""

    def __init__(self) -> None:
        self.given: list[list[Message[Any]]] = []
        self.done: list[Message[Any]] = []
        self.poison: dict[Any, Exception] = {}
        self.door = asyncio.Event()
        self.door.set()
        self.gathering = Gathering("deps", Together(self.handle_many))

    async def handle_many(self, deps: Any, messages: Sequence[Message[Any]]) -> None:
        assert deps == "deps"
        self.given.append(list(messages))
        await self.door.wait()
        for message in messages:
            if (error := self.poison.get(message.id)) is not None:
                raise error
        self.done += messages

    @property
    def sizes(self) -> list[int]:
        return [len(batch) for batch in self.given]

    def bring(self, messages: Sequence[Message[Any]]) -> list[asyncio.Task[None]]:
        return [asyncio.create_task(self.gathering.handle(message)) for message in messages]

    async def at_work_on(self, message: Message[AlertEnded]) -> asyncio.Task[None]:
        """A first message that keeps the handler busy until the door opens, so that the next ones wait."""
        self.door.clear()
        (task,) = self.bring([message])
        await eventually(lambda: self.sizes == [1])
        return task


def made(count: int) -> list[Message[AlertEnded]]:
    """So many messages."""
    return [make_message() for _ in range(count)]


async def test_message_that_comes_alone_waits_for_nobody() -> None:
    """One message at a time is one batch at a time."""
    desk, messages = Desk(), made(3)
    for message in messages:
        await desk.gathering.handle(message)
    assert desk.given == [[message] for message in messages]


async def test_what_came_meanwhile_is_handled_together() -> None:
    """Everything that comes while the handler is at work is its next batch, in the order in which it came."""
    desk, first, messages = Desk(), make_message(), made(7)
    busy = await desk.at_work_on(first)
    waiting = desk.bring(messages)
    await turn()
    assert desk.sizes == [1], "one batch at a time"
    assert not any(task.done() for task in waiting), "nothing is done before its transaction is"
    desk.door.set()
    await asyncio.gather(busy, *waiting)
    assert desk.given == [[first], messages]


async def test_batches_have_a_limit() -> None:
    """However many wait, a batch never holds more than `TOGETHER_MAX`."""
    desk, first, messages = Desk(), make_message(), made(2 * TOGETHER_MAX + 1)
    busy = await desk.at_work_on(first)
    waiting = desk.bring(messages)
    await turn()
    desk.door.set()
    await asyncio.gather(busy, *waiting)
    assert desk.sizes == [1, TOGETHER_MAX, TOGETHER_MAX, 1]
    assert desk.done == [first, *messages]


async def test_poison_hurts_only_itself() -> None:
    """Beside a message that can never be handled all others are, and its own error reaches whoever brought it."""
    desk, first, messages = Desk(), make_message(), made(9)
    desk.poison[messages[4].id] = Rejected("never", code="poison")
    busy = await desk.at_work_on(first)
    waiting = desk.bring(messages)
    await turn()
    desk.door.set()
    await busy
    ended = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(one, Rejected) for one in ended] == [number == 4 for number in range(9)]
    assert {message.id for message in desk.done} == {m.id for m in (first, *messages)} - {messages[4].id}
    assert await asyncio.gather(*desk.bring(made(2))) == [None, None], "and what comes later is handled"


async def test_error_of_one_alone_is_its_own() -> None:
    """A message by itself is tried once, and raises what its handling raised."""
    desk, message = Desk(), make_message()
    desk.poison[message.id] = Rejected("never", code="poison")
    with pytest.raises(Rejected, match="never"):
        await desk.gathering.handle(message)
    assert desk.sizes == [1]


async def test_whoever_gives_up_takes_nobody_along() -> None:
    """A message whose time is up is left out of the next batch; the others are handled."""
    desk, first, messages = Desk(), make_message(), made(3)
    busy = await desk.at_work_on(first)
    waiting = desk.bring(messages)
    await turn()
    waiting[1].cancel()
    await asyncio.gather(waiting[1], return_exceptions=True)
    desk.door.set()
    await asyncio.gather(busy, waiting[0], waiting[2])
    assert desk.given[1] == [messages[0], messages[2]]


async def test_giving_up_midway_leaves_the_batch_at_work() -> None:
    """A message whose time is up while its batch is at work does not stop the batch."""
    desk, first = Desk(), make_message()
    busy = await desk.at_work_on(first)
    busy.cancel()
    await asyncio.gather(busy, return_exceptions=True)
    desk.door.set()
    await desk.gathering.handle(make_message())
    assert first in desk.done


async def test_batch_that_hangs_is_taken_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch that takes too long is given up, and each of its messages is handled alone, in the time that it has."""
    monkeypatch.setattr(together, "BATCH_SECONDS_MAX", 0.05)
    desk, messages = Desk(), made(3)
    desk.door.clear()
    waiting = desk.bring(messages)
    await eventually(lambda: desk.sizes == [3, 1, 1, 1])
    assert not any(task.done() for task in waiting)
    desk.door.set()
    await asyncio.gather(*waiting)
    assert len(desk.done) == 3


async def test_called_with_one_it_handles_one() -> None:
    """In the list of subscriptions it is a handler like all others."""
    desk, message = Desk(), make_message()
    await Together(desk.handle_many)("deps", message)
    assert desk.given == [[message]]
