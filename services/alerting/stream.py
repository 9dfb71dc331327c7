"""The stream: everything that a caller may see, as it happens, from any place on.

The cast: `News` numbers committed timeline rows and wakes whoever listens; `follow` is one listener's endless source.
One look per second and process finds what another replica has numbered, however many people listen here.

The promise: a row that was committed is sent to every listener who may see it, once, in the order of its position;
whoever comes back with the id of the last event misses nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

from services.alerting import reading, views
from services.alerting.reading import Head
from services.alerting.tables import timeline
from services.alerting.visibility import Viewer
from shared.clock import Clock
from shared.db import Database
from shared.loops import Loop
from shared.outbox import Sequencer
from shared.paging import decode_cursor, encode_cursor
from shared.streams import StreamEvent

LOOK_SECONDS = 1.0
LINGER_SECONDS = 0.1
"""Pages go before what is shown of them."""
BATCH = 100
LOOKS_AT_ONCE_MAX = 4
"""Listeners that look at the same time, however many wake together: each look holds a connection of the background."""

LOST_WAKE_SECONDS = 5.0
"""A listener looks for itself after this long, should a wake ever be lost."""


class News:
    """Numbers the timeline, and lets listeners wait for what is new."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._sequencer = Sequencer(database, (timeline.name,))
        self._head: Head | None = None
        self._changed = asyncio.Event()
        self.looking = asyncio.Semaphore(LOOKS_AT_ONCE_MAX)

    async def run_once(self) -> int:
        """One pass: numbers what was committed, and wakes the listeners if the timeline has grown anywhere."""
        numbered = await self._sequencer.run_once()
        async with self._database.transaction() as tx:
            head = await reading.head(tx)
        if head != self._head:
            self._head = head
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()
        return numbered

    def changed(self) -> asyncio.Event:
        """Is set once something new has been numbered after this call."""
        return self._changed


def news_loop(news: News, clock: Clock) -> Loop:
    """The loop `timeline`, not yet started."""
    return Loop("timeline", news.run_once, interval_seconds=LOOK_SECONDS, linger_seconds=LINGER_SECONDS, clock=clock)


def place_of(event_id: str) -> Head:
    """Where an event id stands; raises `Invalid` for anything that we did not make."""
    epoch, position = decode_cursor(event_id, int, int)
    return Head(epoch, position)


async def follow(database: Database, news: News, viewer: Viewer, after: Head) -> AsyncGenerator[StreamEvent]:
    """All that the viewer may see after a place, for ever."""
    while True:
        changed = news.changed()
        async with news.looking, database.transaction() as tx:
            found, reached, more = await reading.find_news(tx, viewer, after=after, limit=BATCH)
        for entry, granted in found:
            view = views.entry_view(entry, granted, viewer)
            yield StreamEvent(
                data=view.model_dump_json(),
                event=view.type,
                id=encode_cursor(reached.epoch, entry.position),
            )
        after = reached
        if not more:
            await _wait(changed)


async def _wait(changed: asyncio.Event) -> None:
    try:
        async with asyncio.timeout(LOST_WAKE_SECONDS):
            await changed.wait()
    except TimeoutError:
        return
