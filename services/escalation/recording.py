"""Records finished attempts with their reasons, in batches, and what they mean to escalations and to health."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.escalation import store
from services.escalation.channels import AttemptState, SendResult
from services.escalation.domain import PageAccepted, PagesAttempted, decide
from services.escalation.health import HARD, Tried, note_health
from services.escalation.model import Escalation, Outcome
from services.escalation.receipts import note_early
from services.escalation.retry import HOPELESS_REPEAT_SECONDS, next_attempt_seconds
from services.escalation.saving import due_at_of, save_outcomes
from services.escalation.turns import has_next, precedence_of, start_next
from shared import record
from shared.contracts import ChannelName
from shared.events import Cause, Event, Message
from shared.process import Deps

RECORD_LINGER_SECONDS = 0.4
"""Finished attempts are written when nothing is on its way any more, or after this: sending goes first."""

FAILED_LINGER_SECONDS = 0.05
"""The same where a person's page has failed."""

RECORD_BATCH = 1000


@dataclass(frozen=True, slots=True)
class Finished:
    """One attempt that is over and not yet recorded."""

    row: store.Row
    started_at: datetime
    finished_at: datetime
    result: SendResult

    @property
    def accepted(self) -> bool:
        return self.result.state in (AttemptState.SENT, AttemptState.DELIVERED)


class Recorder:
    """Records finished attempts in batches: attempts and pages in one statement, and what follows for escalations."""

    def __init__(self, deps: Deps, jitter: Callable[[], float], at_rest: asyncio.Event) -> None:
        self._deps = deps
        self._jitter = jitter
        self._at_rest = at_rest
        self._waiting: list[Finished] = []

    def add(self, finished: Finished) -> None:
        """Takes one finished attempt; the loop writes it after `RECORD_LINGER_SECONDS` at the latest."""
        self._waiting.append(finished)
        self._deps.wake("recorder")

    async def run_once(self) -> int:
        """Writes what has gathered; returns the number of attempts."""
        if not self._waiting:
            return 0
        if len(self._waiting) < RECORD_BATCH:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._linger_seconds()):
                    await self._at_rest.wait()
        batch, self._waiting = self._waiting[:RECORD_BATCH], self._waiting[RECORD_BATCH:]
        try:
            messages, started = await self._write(batch)
        except BaseException:
            self._waiting = batch + self._waiting
            raise
        self._deps.relay.publish_soon(messages)
        if started:
            self._deps.wake("delivery")
        results = (entry.result for entry in batch)
        if taken := {(r.provider, r.provider_id) for r in results if r.provider and r.provider_id}:
            await note_early(self._deps, sorted(taken), now=self._deps.clock.now())
        return len(batch)

    def _linger_seconds(self) -> float:
        """Somebody's next contact point may wait for the word that this one has failed."""
        return FAILED_LINGER_SECONDS if any(_starts_next(entry) for entry in self._waiting) else RECORD_LINGER_SECONDS

    async def _write(self, batch: Sequence[Finished]) -> tuple[list[Message[Event]], int]:
        """Writes the batch; returns what is to be published, and how many pages became due by it."""
        deps, now = self._deps, self._deps.clock.now()
        escalation_ids = sorted({entry.row["escalation_id"] for entry in batch} - {None})
        cause = Cause(correlation_id=deps.ids.new())
        async with deps.database.transaction() as tx:
            # Escalations before pages: the one order of locks. Only those that this is news for are locked at all.
            fresh = await store.load_unattempted(tx, escalation_ids)
            await store.save_results(tx, [self._result_row(entry) for entry in batch])
            outcomes = _attempted(fresh, batch, now)
            tried = [Tried(entry.row, entry.result.state, entry.result.reason) for entry in batch]
            health = await note_health(tx, tried, now)
            started = await start_next(tx, [entry.row["id"] for entry in batch if _starts_next(entry)], now)
            await record.append(tx, [_entry_of(entry) for entry in batch], cause=cause, ids=deps.ids, now=now)
            messages = await save_outcomes(tx, outcomes, ids=deps.ids, cause=cause, now=now, more_events=health)
        return messages, started

    def _result_row(self, entry: Finished) -> dict[str, Any]:
        result, next_due_at = entry.result, None
        if not entry.accepted:
            gap = next_attempt_seconds(
                entry.row["attempts"], retry_after_seconds=result.retry_after_seconds, jitter=self._jitter
            )
            if result.reason in HARD:
                gap = HOPELESS_REPEAT_SECONDS
            next_due_at = max(entry.started_at + timedelta(seconds=gap), entry.finished_at)
            if entry.row["channel"] != ChannelName.WEBHOOK:
                next_due_at = due_at_of(entry.row, precedence_of(entry.row), next_due_at)
            if next_due_at >= entry.row["give_up_at"]:
                next_due_at = None
        return {
            "page_id": entry.row["id"],
            "number": entry.row["attempts"],
            "started_at": entry.started_at,
            "finished_at": entry.finished_at,
            "state": result.state,
            "reason": result.reason,
            "detail": result.detail,
            "status_code": result.status_code,
            "elapsed_seconds": result.elapsed_seconds,
            "provider": result.provider,
            "provider_id": result.provider_id,
            "cost_amount": None if result.cost is None else result.cost.amount,
            "cost_currency": None if result.cost is None else result.cost.currency,
            "next_due_at": next_due_at,
            "accepted": entry.accepted,
            "delivered_at": entry.finished_at if result.state is AttemptState.DELIVERED else None,
        }


def _starts_next(entry: Finished) -> bool:
    """Whether the contact's next point is paged because of this: by the first failure, and by no later one again."""
    return not entry.accepted and entry.row["attempts"] == 1 and has_next(entry.row)


def _entry_of(entry: Finished) -> record.Entry:
    return record.Entry(
        kind="page.attempted",
        partner=entry.row["partner"],
        alert_id=entry.row["alert_id"],
        object_id=entry.row["id"],
        data={"attempt": entry.row["attempts"], "state": entry.result.state, "reason": entry.result.reason},
    )


def _attempted(escalations: Sequence[Escalation], batch: Sequence[Finished], now: datetime) -> list[Outcome]:
    """What the attempts of the batch mean to each of these escalations."""
    by_escalation: dict[UUID, list[Finished]] = {}
    for entry in batch:
        by_escalation.setdefault(entry.row["escalation_id"], []).append(entry)
    outcomes = []
    for escalation in escalations:
        mine = by_escalation[escalation.id]
        hit = next((entry.row for entry in mine if entry.accepted), None)
        accepted = None
        if hit is not None:
            accepted = PageAccepted(channel=ChannelName(hit["channel"]), told=hit["told"], level=hit["level"])
        started_at = min(entry.started_at for entry in mine)
        outcomes.append(decide(escalation, PagesAttempted(started_at=started_at, accepted=accepted), now))
    return outcomes
