"""The outbox: what was committed goes out, at least once, and readers who resume skip nothing."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text

from shared import outbox, record
from shared.db import Database
from shared.errors import ContractViolation
from shared.events import EVENT_BYTES_MAX, Cause, wire_body
from shared.outbox import FEED_SCAN_MAX, Relay, Sequencer, feed_page
from tests.integration.shared.conftest import Broker, Desk


async def published(database: Database) -> int:
    """Rows that are marked as published."""
    async with database.transaction() as tx:
        return int((await tx.execute(text("SELECT count(*) FROM outbox WHERE published_at IS NOT NULL"))).scalar_one())


async def test_rolled_back_event_is_never_published(desk: Desk, broker: Broker) -> None:
    """An event whose transaction fails leaves no row, so nothing claims what did not happen."""

    async def crash() -> None:
        async with desk.database.transaction() as tx:
            await outbox.append(tx, [desk.ended()], cause=Cause(desk.ids.new()), ids=desk.ids, now=desk.clock.now())
            raise RuntimeError("crash")

    with pytest.raises(RuntimeError, match="crash"):
        await crash()
    desk.clock.advance(10)
    assert await Relay(desk.database, broker, desk.clock).run_once() == 0
    assert broker.given == []


async def test_inline_publishing_is_marked_by_the_loop(desk: Desk, broker: Broker) -> None:
    """What went out right after the commit is marked in the next pass and does not go out again."""
    relay = Relay(desk.database, broker, desk.clock)
    messages = await desk.append(desk.ended(), desk.ended())
    await relay.publish(messages)
    desk.clock.advance(10)
    await relay.run_once()
    assert broker.given == [message.id for message in messages]
    assert await published(desk.database) == 2


async def test_loop_publishes_what_the_broker_missed(desk: Desk, broker: Broker) -> None:
    """While the broker confirms nothing, rows wait; when it is back the loop publishes them under the same ids."""
    relay = Relay(desk.database, broker, desk.clock)
    broker.confirms = False
    messages = await desk.append(desk.ended())
    await relay.publish(messages)
    desk.clock.advance(10)
    assert await relay.run_once() == 0
    async with desk.database.transaction() as tx:
        assert await outbox.unpublished(tx, older_than=desk.clock.now()) == 1
    broker.confirms = True
    assert await relay.run_once() == 1
    assert set(broker.given) == {messages[0].id}
    assert await published(desk.database) == 1


async def test_crash_between_publish_and_mark_publishes_again(desk: Desk, broker: Broker) -> None:
    """A process that dies after publishing leaves the row unmarked, and another one sends the same id again."""
    messages = await desk.append(desk.ended())
    await Relay(desk.database, broker, desk.clock).publish(messages)  # this relay's memory dies here
    desk.clock.advance(10)
    assert await Relay(desk.database, broker, desk.clock).run_once() == 1
    assert broker.given == [messages[0].id, messages[0].id]


async def test_two_relays_share_the_rows(desk: Desk) -> None:
    """Relays that run at once take different rows: each row goes out once, all of them go out."""
    messages = await desk.append(*(desk.ended() for _ in range(300)))
    desk.clock.advance(10)
    brokers = [Broker(), Broker()]
    relays = [Relay(desk.database, broker, desk.clock) for broker in brokers]
    while sum(await asyncio.gather(*(relay.run_once() for relay in relays))):
        pass
    given = brokers[0].given + brokers[1].given
    assert sorted(given) == sorted(message.id for message in messages)


async def test_young_rows_are_left_to_their_writer(desk: Desk, broker: Broker) -> None:
    """The loop takes no row that was committed within the last second: whoever committed it is publishing it now."""
    await desk.append(desk.ended())
    desk.clock.advance(0.5)
    assert await Relay(desk.database, broker, desk.clock).run_once() == 0
    desk.clock.advance(0.5)
    assert await Relay(desk.database, broker, desk.clock).run_once() == 1


@pytest.mark.logs_error("outbox.row_unreadable")
async def test_unreadable_row_keeps_nothing_from_going_out(desk: Desk, broker: Broker) -> None:
    """A row that this version cannot read is reported and passed over; the others are published."""
    messages = await desk.append(desk.ended(), desk.ended())
    async with desk.database.transaction() as tx:
        await tx.execute(
            text("UPDATE outbox SET type = 'redphone.alerting.unheard_of.v9' WHERE id = :id"), {"id": messages[0].id}
        )
    desk.clock.advance(10)
    relay = Relay(desk.database, broker, desk.clock)
    assert await relay.run_once() == 1
    assert broker.given == [messages[1].id]
    assert await relay.run_once() == 0


async def test_loop_publishes_the_text_that_was_stored(desk: Desk, broker: Broker) -> None:
    """A row of a newer version goes out with the fields that this version does not know; nothing of it is shown."""
    stored = await desk.append(desk.ended())
    async with desk.database.transaction() as tx:
        newer = wire_body(stored[0]).removesuffix(b"}") + b',"newer":7}'
        row = {"id": stored[0].id, "body": newer.decode()}
        await tx.execute(text("UPDATE outbox SET body = :body WHERE id = :id"), row)
    desk.clock.advance(10)
    await Relay(desk.database, broker, desk.clock).run_once()
    assert broker.messages == stored
    assert wire_body(broker.messages[0]) == newer
    assert "newer" not in repr(broker.messages[0])


async def test_event_too_large_is_refused_before_it_is_stored(desk: Desk) -> None:
    """An event that no broker would take fails its transaction, instead of waiting in the outbox for ever."""
    event = desk.ended().model_copy(update={"note": "x" * EVENT_BYTES_MAX})
    with pytest.raises(ContractViolation, match="bytes long"):
        await desk.append(event)


async def test_late_commit_is_never_skipped(desk: Desk) -> None:
    """A row with an older id that commits after younger ones were read still gets a later position."""
    sequencer = Sequencer(desk.database, ("outbox",))
    late, young = desk.ended(), desk.ended()
    async with desk.database.transaction() as tx:
        slow = await outbox.append(tx, [late], cause=Cause(desk.ids.new()), ids=desk.ids, now=desk.clock.now())
        desk.clock.advance(1)
        fast = await desk.append(young)
        assert await sequencer.run_once() == 1
        async with desk.database.transaction() as reader:
            first = await feed_page(reader, epoch=None, after=0, limit=10, viewer=None)
        assert [row.id for row in first.rows] == [fast[0].id]
    assert await sequencer.run_once() == 1
    async with desk.database.transaction() as reader:
        second = await feed_page(reader, epoch=first.epoch, after=first.read_up_to, limit=10, viewer=None)
    assert slow[0].id < fast[0].id
    assert [row.id for row in second.rows] == [slow[0].id]


async def test_two_sequencers_give_each_position_once(desk: Desk) -> None:
    """Sequencers that run at once leave no gap and no double among the positions."""
    await desk.append(*(desk.ended() for _ in range(50)))
    await asyncio.gather(*(Sequencer(desk.database, ("outbox",)).run_once() for _ in range(4)))
    async with desk.database.transaction() as tx:
        positions = (await tx.execute(text("SELECT position FROM outbox ORDER BY position"))).scalars().all()
    assert positions == list(range(1, 51))


async def test_record_is_numbered_too(desk: Desk) -> None:
    """Rows of the record get positions of their own."""
    async with desk.database.transaction() as tx:
        entry = record.Entry(kind="alert.released", partner="CA")
        await record.append(tx, [entry], cause=Cause(desk.ids.new()), ids=desk.ids, now=desk.clock.now())
    assert await Sequencer(desk.database, ("outbox", "record")).run_once() == 1


async def test_feed_page_limits_rows_and_scan(desk: Desk) -> None:
    """A page holds at most its limit, and a partner that may read nothing still gets past a bounded stretch."""
    async with desk.database.transaction() as tx:
        await tx.execute(
            text(
                """
                INSERT INTO outbox (id, type, key, body, visible_to, correlation_id, occurred_at, position)
                SELECT gen_random_uuid(), 't', 'k', '{}', ARRAY['CA'], gen_random_uuid(), :now, n
                FROM generate_series(1, :count) AS n
                """
            ),
            {"now": desk.clock.now(), "count": FEED_SCAN_MAX + 10},
        )
        await tx.execute(
            text("INSERT INTO sequences (name, last_position) VALUES ('outbox', :last)"), {"last": FEED_SCAN_MAX + 10}
        )
    async with desk.database.transaction() as tx:
        mine = await feed_page(tx, epoch=None, after=0, limit=7, viewer="CA")
        others = await feed_page(tx, epoch=None, after=0, limit=7, viewer="NL")
        rest = await feed_page(tx, epoch=0, after=others.read_up_to, limit=7, viewer="NL")
        again = await feed_page(tx, epoch=3, after=50, limit=7, viewer="CA")
    assert (len(mine.rows), mine.read_up_to, mine.has_more) == (7, 7, True)
    assert (others.rows, others.read_up_to, others.has_more) == ([], FEED_SCAN_MAX, True)
    assert (rest.rows, rest.read_up_to, rest.has_more) == ([], FEED_SCAN_MAX + 10, False)
    assert again.rows[0].position == 1, "positions of another epoch begin anew"


async def test_feed_page_limits_bytes(desk: Desk) -> None:
    """Large events share a page only as far as the limit of bytes goes, but one always fits."""
    big = "x" * 800_000
    await desk.append(*(desk.ended().model_copy(update={"note": big}) for _ in range(4)))
    await Sequencer(desk.database, ("outbox",)).run_once()
    seen, after, pages = 0, 0, 0
    more = True
    while more:
        async with desk.database.transaction() as tx:
            page = await feed_page(tx, epoch=None, after=after, limit=100, viewer=None)
        assert sum(len(row.body) for row in page.rows) <= outbox.FEED_BYTES_MAX
        seen, after, pages, more = seen + len(page.rows), page.read_up_to, pages + 1, page.has_more
    assert (seen, pages) == (4, 2)
