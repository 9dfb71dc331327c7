"""What one transaction hands over to the senders of its own process, as `handover.HandOver` says."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

from services.escalation import store
from services.escalation.channels import Outgoing
from services.escalation.leased import LEASE_SECONDS, Leased, Promise
from services.escalation.messages import AlertPart
from services.escalation.model import AlertFacts
from shared.db import Transaction

if TYPE_CHECKING:
    from services.escalation.delivery import Delivery

SENDING_FIRST_SECONDS_MAX = 0.1
"""So long at most the rows of a release wait for its pages to be tried; who asks for them waits for less."""


class HandedOver:
    """What one transaction hands over; see `handover.HandOver`."""

    def __init__(self, delivery: Delivery, now: datetime, *, open_for: int) -> None:
        self._delivery = delivery
        self._leased_until = now + timedelta(seconds=LEASE_SECONDS)
        self._open_for = open_for
        self._making_ready: asyncio.Task[None] | None = None
        self._sending: Sequence[asyncio.Task[None]] = ()
        self._promised: tuple[UUID, Promise] | None = None
        self._begins = False
        self._began_elsewhere = False
        self.parts: dict[UUID, AlertPart] = {}
        self.rows: list[dict[str, Any]] = []
        self.ready: list[Outgoing | None] = []
        self._points: Counter[UUID] = Counter()
        self.reserved = 0
        self.left_due = False

    @property
    def takes_pages(self) -> bool:
        return self._open_for > 0

    def begin(self, alert_id: UUID, opening: store.BegunOpening) -> None:
        self._promised, self._begins = (alert_id, self._delivery.promise(alert_id, opening)), True

    def withdraw(self) -> None:
        assert self._promised is not None
        assert not self._sending
        self._delivery.end_promise(*self._promised, kept=False)
        self._promised, self._begins = None, False

    def resume(self, alert_id: UUID, opening: store.BegunOpening) -> None:
        if not self._begins:
            self._began_elsewhere = self._delivery.begun(alert_id) != opening
            self._promised = (alert_id, self._delivery.promise(alert_id, opening))
            self._promised[1].settled.clear()
            self._leased_until = opening.at + timedelta(seconds=LEASE_SECONDS)

    async def tried_first(self) -> None:
        if self._promised is not None and self._sending:
            with suppress(TimeoutError):
                async with asyncio.timeout(SENDING_FIRST_SECONDS_MAX):
                    await self._promised[1].hurry.wait()

    def says(self, facts: AlertFacts, content: Mapping[str, Any]) -> None:
        self.parts[facts.alert_id] = self._delivery.render(facts, content)

    async def read(self, tx: Transaction, alert_ids: Set[UUID]) -> None:
        self.parts |= await self._delivery.parts_of(tx, alert_ids)

    def lease(self, rows: Sequence[dict[str, Any]]) -> None:
        # What waits for its turn is for the loop.
        due = [row for row in rows if row["due_at"] <= row["created_at"]]
        speaking = [row for row in due if row["alert_id"] in self.parts]
        left = [row for row in speaking if self._has_left(row)]
        speaking = [row for row in speaking if not self._has_left(row)]
        taken = self._delivery.reserve(speaking, self._open_for - self.reserved, self._points)
        self.left_due = self.left_due or len(due) > len(taken) + len(left)
        for row in (*left, *taken):
            row.update(state="leased", leased_until=self._leased_until, attempts=1)
        if self._begins and self._promised is not None:
            pages = [Leased(row, self.parts[row["alert_id"]], promise=self._promised[1]) for row in taken]
            self._sending = [*self._sending, *self._delivery.start_promised(pages)]
            return
        self.reserved += len(taken)
        self.rows += taken
        if self.rows and (self._making_ready is None or self._making_ready.done()):
            self._making_ready = asyncio.create_task(self._delivery.make_ready(self), name="make pages ready")

    def _has_left(self, row: dict[str, Any]) -> bool:
        """Whether the page has left before it is stored: of what another process has begun that must be assumed."""
        if self._promised is None or self._begins:
            return False
        return self._began_elsewhere or row["id"] in self._promised[1].started

    def keep(self, escalation_ids: Set[UUID]) -> None:
        self._stop_making_ready()
        pairs = itertools.zip_longest(self.rows, self.ready)
        kept = [(row, ready) for row, ready in pairs if row["escalation_id"] in escalation_ids]
        self.rows, self.ready = [row for row, _ in kept], [ready for _, ready in kept]

    def drop(self) -> None:
        """The transaction has failed: nothing of it was stored. What has left before waits for another one."""
        self._stop_making_ready()
        if self._promised is not None:
            alert_id, promise = self._promised
            promise.settled.set()
            leave = partial(self._delivery.end_promise, alert_id, promise, kept=False)
            asyncio.get_running_loop().call_later(LEASE_SECONDS, leave)

    def start(self) -> None:
        """The transaction has committed. What is not ready yet is made so by its own attempt."""
        self._stop_making_ready()
        if self._promised is not None:
            alert_id, promise = self._promised
            self._delivery.end_promise(alert_id, promise, kept=True)
        pairs = itertools.zip_longest(self.rows, self.ready)
        pages = [Leased(row, self.parts[row["alert_id"]], ready) for row, ready in pairs]
        if pages:
            self._sending = [self._delivery.start_all(pages, self._delivery.monotonic())]

    def _stop_making_ready(self) -> None:
        if self._making_ready is not None:
            self._making_ready.cancel()

    async def tried(self) -> None:
        if self._sending:
            await asyncio.shield(asyncio.gather(*self._sending, return_exceptions=True))
