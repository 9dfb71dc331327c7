"""Pages that were just committed, handed to the senders of the same process under their lease.

A page is otherwise stored as due, and the delivery loop finds and leases it: a second transaction between a release and
its first page. Here the page is stored as leased, with its attempt row, by the transaction that makes it, and starts
when that has committed. The promise stays the same: a crash before the commit leaves no page, a crash after it leaves a
lease that lapses. What finds no free sender stays due, for whichever process is free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol
from uuid import UUID

from services.escalation.channels import SendResult
from services.escalation.model import AlertFacts
from shared.db import Transaction


class HandOver(Protocol):
    """What one transaction hands over. Nothing starts before its block has ended, nor if that raised."""

    @property
    def left_due(self) -> bool:
        """Whether pages were left for the delivery loop."""

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

    async def try_once(self, row: Mapping[str, Any]) -> SendResult:
        """Sends a page that is stored nowhere, once: to ask whether a contact point answers."""
