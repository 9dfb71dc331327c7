"""Whose turn it is: where a contact's point has failed, the next one does not wait for its delay any more."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from services.escalation import store
from services.escalation.saving import due_at_of
from shared.contracts import ChannelName, Precedence
from shared.db import Transaction

PRECEDENCES = tuple(Precedence)


def has_next(row: store.Row) -> bool:
    """Whether anything can wait behind this page: not behind a page to a partner's own system."""
    return row["contact_id"] is not None or row["level"] > 0 or row["channel"] != ChannelName.WEBHOOK


def precedence_of(row: store.Row) -> Precedence:
    """The precedence of the page's alert."""
    priority: int = row["priority"]
    return PRECEDENCES[priority % 10]


async def start_next(tx: Transaction, failed: Sequence[UUID], now: datetime) -> int:
    """Makes due what waits next behind each of these pages; returns how many pages.

    At night a page that may not ring then goes on waiting for the morning.
    """
    if not failed:
        return 0
    turn: dict[UUID, datetime] = {}
    due: dict[UUID, datetime] = {}
    for row in await store.load_waiting(tx, failed, now):
        if turn.setdefault(row["behind"], row["due_at"]) == row["due_at"]:
            at = due_at_of(row, precedence_of(row), now)
            if at < row["due_at"]:
                due[row["id"]] = at
    if due:
        await store.save_due(tx, due)
    return len(due)
