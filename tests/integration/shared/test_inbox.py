"""The inbox: each consumer handles each message once, and dead letters are told of once."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from shared import inbox
from shared.ids import MessageId
from tests.integration.shared.conftest import Desk


def letter(desk: Desk, **changes: Any) -> dict[str, Any]:
    """Columns of a dead letter."""
    columns: dict[str, Any] = {
        "id": desk.ids.new(),
        "consumer": "c",
        "message_id": desk.ids.new(),
        "type": "t",
        "subject": "s",
        "headers": {},
        "body": "{}",
        "reason": "malformed",
        "error": "e",
        "deliveries": 1,
        "buried_at": desk.clock.now(),
    }
    return columns | changes


async def accept(desk: Desk, consumer: str, message_id: MessageId) -> bool:
    """One delivery whose handler does nothing else."""
    async with desk.database.transaction() as tx:
        return await inbox.accept(tx, consumer=consumer, message_id=message_id, now=desk.clock.now())


async def test_second_copy_is_dropped_for_that_consumer_only(desk: Desk) -> None:
    """The same message is new once to each consumer."""
    message_id = MessageId(desk.ids.new())
    assert await accept(desk, "a", message_id)
    assert not await accept(desk, "a", message_id)
    assert await accept(desk, "b", message_id)


async def test_many_are_accepted_at_once(desk: Desk) -> None:
    """Of many pairs those come back that are new, each once, to each consumer by itself."""
    known, first, second = (MessageId(desk.ids.new()) for _ in range(3))
    assert await accept(desk, "a", known)
    pairs = [("a", known), ("a", first), ("b", known), ("a", second), ("a", first)]
    async with desk.database.transaction() as tx:
        fresh = await inbox.accept_many(tx, pairs, now=desk.clock.now())
        assert await inbox.accept_many(tx, [], now=desk.clock.now()) == set()
    assert fresh == {("a", first), ("a", second), ("b", known)}
    assert not await accept(desk, "a", first)


async def test_failed_handler_leaves_no_trace(desk: Desk) -> None:
    """A message whose handling failed is new again: acceptance and effects commit together."""
    message_id = MessageId(desk.ids.new())

    async def fail() -> None:
        async with desk.database.transaction() as tx:
            assert await inbox.accept(tx, consumer="a", message_id=message_id, now=desk.clock.now())
            raise RuntimeError("bug")

    with pytest.raises(RuntimeError, match="bug"):
        await fail()
    assert await accept(desk, "a", message_id)


async def test_copies_at_once_are_handled_once(desk: Desk) -> None:
    """Of copies that arrive by both roads at once, one is accepted and the others wait and are dropped."""
    message_id = MessageId(desk.ids.new())
    accepted = await asyncio.gather(*(accept(desk, "a", message_id) for _ in range(6)))
    assert sorted(accepted) == [False] * 5 + [True]


async def test_dead_letter_is_one_row_and_one_alarm(desk: Desk) -> None:
    """The same letter twice is one row; operators are told of it once."""
    columns = letter(desk)
    async with desk.database.transaction() as tx:
        await inbox.bury(tx, **columns)
        await inbox.bury(tx, **columns)
    async with desk.database.transaction() as tx:
        assert await inbox.count_dead_letters(tx) == 1
        assert [row.id for row in await inbox.raise_alarms(tx, desk.clock.now())] == [columns["id"]]
    async with desk.database.transaction() as tx:
        assert await inbox.raise_alarms(tx, desk.clock.now()) == []


async def test_ended_knows_accepted_and_buried(desk: Desk) -> None:
    """Whoever reads the feed learns in one question which messages need nothing any more."""
    accepted, buried, fresh = (MessageId(desk.ids.new()) for _ in range(3))
    await accept(desk, "a", accepted)
    async with desk.database.transaction() as tx:
        await inbox.bury(tx, **letter(desk, consumer="a", message_id=buried))
        found = await inbox.ended(tx, [("a", accepted), ("a", buried), ("a", fresh), ("b", accepted)])
    assert found == {("a", accepted), ("a", buried)}


async def test_old_rows_are_forgotten_in_batches(desk: Desk) -> None:
    """Cleaning removes only what is older than the promised days, and at most a batch at a time."""
    old = desk.clock.now() - timedelta(days=inbox.KEPT_DAYS, seconds=1)
    async with desk.database.transaction() as tx:
        await tx.execute(
            text("INSERT INTO inbox SELECT 'a', gen_random_uuid(), :old FROM generate_series(1, :count)"),
            {"old": old, "count": inbox.CLEANED_AT_ONCE_MAX + 3},
        )
    young = MessageId(desk.ids.new())
    await accept(desk, "a", young)
    counts = []
    for _ in range(3):
        async with desk.database.transaction() as tx:
            counts.append(await inbox.clean(tx, now=desk.clock.now()))
    assert counts == [inbox.CLEANED_AT_ONCE_MAX, 3, 0]
    assert not await accept(desk, "a", young)
