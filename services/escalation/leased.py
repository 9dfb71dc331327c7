"""Pages that this process may send: under a lease that is stored, or by a promise to store it.

The cast: a `Leased` page, alone or as the first of a message, and the `Promise` by which pages of a release leave
before they are rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence, Set
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import UUID

from services.escalation import store
from services.escalation.channels import Outgoing
from services.escalation.messages import AlertPart

LEASE_SECONDS = 15.0
"""Three times a channel's own total time limit; a crash delays a leased page by at most this."""


HELD_FOR_OPEN_SECONDS = store.OPENING_SECONDS_MAX - 2.0
"""For so long nobody but the process that has begun an opening stores it, clocks that differ included."""


class Leased(NamedTuple):
    """A page that this process has leased: its row, what it says of its alert, and what is ready of it.

    `others` are further pages to the same person that leave in its message.
    """

    row: store.Row
    part: AlertPart | None
    ready: Outgoing | None = None
    others: tuple[Leased, ...] = ()
    promise: Promise | None = None
    """Of a page that leaves before it is stored."""

    @property
    def pages(self) -> tuple[Leased, ...]:
        """All pages of the message, the one that gives link and code first."""
        return (self, *self.others)

    def only(self, wanted: Set[UUID]) -> Leased | None:
        """The message without the pages that are no longer wanted; None if none is left."""
        if self.row["id"] in wanted and not self.others:
            return self
        return together([page for page in self.pages if page.row["id"] in wanted])


class Promise:
    """Pages of one alert that leave before they are stored, by an opening that is."""

    def __init__(self, opening: store.BegunOpening) -> None:
        self.opening = opening
        self.started: set[UUID] = set()
        """The pages that this process has started."""
        self.under_way = 0
        self.hurry = asyncio.Event()
        """Set when there is nothing to wait for any more: all were tried, or somebody wants to see the rows."""
        self.settled = asyncio.Event()
        """Set when nobody is about to store them: it is done, or has failed for now."""
        self._over = asyncio.Event()
        self._is_kept = False

    def is_open(self, now: datetime) -> bool:
        """Whether there are no rows yet, so that nobody can have ended or answered them. After a while somebody else
        may have written them: a process can stand still.
        """
        return not self._over.is_set() and now < self.opening.at + timedelta(seconds=HELD_FOR_OPEN_SECONDS)

    def end(self, *, kept: bool) -> None:
        """The rows are there, or this process will not store them any more."""
        if not self._over.is_set():
            self._is_kept = kept
            self._over.set()
        self.settled.set()

    def begun(self, page_id: UUID) -> None:
        """One more page is on its way."""
        self.started.add(page_id)
        self.under_way += 1

    def tried(self) -> None:
        """One of them has been tried."""
        self.under_way -= 1
        if not self.under_way:
            self.hurry.set()

    async def is_kept(self) -> bool:
        """Waits for the rows, and says whether they came."""
        await self._over.wait()
        return self._is_kept


def together(pages: Sequence[Leased]) -> Leased | None:
    """One message of several pages, most urgent first."""
    if not pages:
        return None
    first, *others = (page._replace(others=()) for page in pages)
    return first._replace(others=tuple(others), ready=None if others else first.ready)
