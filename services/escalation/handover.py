"""Pages that were just committed, handed to the senders of the same process under their lease.

A page is otherwise stored as due, and the delivery loop finds and leases it: a second transaction between a release and
its first page. Here the page is stored as leased, with its attempt row, by the transaction that makes it, and starts
when that has committed. The promise stays the same: a crash before the commit leaves no page, a crash after it leaves a
lease that lapses. What finds no free sender stays due, for whichever process is free.

The pages of a new release start still earlier, when one row that promises them is committed, and are stored while they
are on their way: `begin`, `tried_first` and `settled`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol
from uuid import UUID

from services.escalation.channels import SendResult
from services.escalation.model import AlertFacts
from services.escalation.store import BegunOpening
from shared.db import Transaction


class HandOver(Protocol):
    """What one transaction hands over. Nothing starts before its block has ended, nor if that raised, but what `begin`
    has announced.
    """

    @property
    def left_due(self) -> bool:
        """Whether pages were left for the delivery loop."""

    @property
    def takes_pages(self) -> bool:
        """Whether there is anybody to send them."""

    def begin(self, alert_id: UUID, opening: BegunOpening) -> None:
        """The opening is being promised: what is leased from now on starts at once. Its attempts are recorded when the
        block has ended, or when a later one that `resume`s the opening has.
        """

    def withdraw(self) -> None:
        """It was not promised, and nothing has been leased."""

    def resume(self, alert_id: UUID, opening: BegunOpening) -> None:
        """This block stores what was begun before, and may have left: nothing starts again before its lease lapses."""

    async def tried_first(self) -> None:
        """Waits until what has begun has been tried once, for a tenth of a second at most and not when somebody waits
        for the rows: sending goes before writing.
        """

    def lease(self, rows: Sequence[dict[str, Any]]) -> None:
        """Makes leased rows of as many of these page rows as senders are free for; the others stay due.

        They are rendered and signed while the database writes. A page of which it is not known what it says stays due.
        """

    def keep(self, escalation_ids: Set[UUID]) -> None:
        """Leaves out pages of other escalations than these: they were not stored."""

    async def read(self, tx: Transaction, alert_ids: Set[UUID]) -> None:
        """Reads what is stored of these alerts, for pages about them."""

    def says(self, facts: AlertFacts, content: Mapping[str, Any]) -> None:
        """What the pages say of their alert: the same that is stored."""

    async def tried(self) -> None:
        """Waits until every page that was handed over has been tried once."""


class Senders(Protocol):
    """The part of delivery that handlers know."""

    def hand_over(self) -> AbstractAsyncContextManager[HandOver]:
        """Enter it before the transaction, so that it ends after the commit."""

    def begun(self, alert_id: UUID, *, by: UUID | None = None) -> BegunOpening | None:
        """The opening that this process has begun for the alert, by this message if one is named, and could not store
        yet.
        """

    async def settled(self, *alert_ids: UUID | None) -> None:
        """Waits until what this process has begun is stored, or has failed to be: for these alerts, or for all."""

    async def try_once(self, row: Mapping[str, Any]) -> SendResult:
        """Sends a page that is stored nowhere, once: to ask whether a contact point answers."""
