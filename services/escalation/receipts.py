"""What providers say later of the messages that they took: delivered, or not after all.

`note_status` takes one such word. It may come twice, in any order, and before the attempt itself is recorded; then it
is kept until that is. A message that did not arrive makes its pages due again as long as they are wanted, and the
contact's next point is paged at once. That nothing was heard changes nothing: the next point's own delay runs anyway.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.escalation import store
from services.escalation.channels import AttemptState, Cost, ProviderStatus, Reason
from services.escalation.health import HARD, Tried, note_health
from services.escalation.model import Escalation
from services.escalation.retry import HOPELESS_REPEAT_SECONDS, REPEAT_SECONDS
from services.escalation.saving import announce, due_at_of
from services.escalation.turns import has_next, precedence_of, start_next
from shared import record
from shared.contracts import EscalationState
from shared.db import Transaction, raw
from shared.events import Cause, Event, Message
from shared.process import Deps

EARLY_KEPT = timedelta(days=1)
"""A receipt whose message nobody recorded in this time belongs to no message of ours."""

NO_KEY = "no key was pressed"
"""What is told of a call that somebody, or a machine, took without an answer."""

ASKING = frozenset({EscalationState.PENDING, EscalationState.NOTIFIED, EscalationState.UNREACHED})
REMINDING = frozenset({EscalationState.ACKNOWLEDGED, EscalationState.CONSIDERING})


async def note_status(deps: Deps, status: ProviderStatus, *, now: datetime) -> bool:
    """Keeps what a provider says of a message. False if it is not known: not ours, or not recorded yet."""
    if await _note(deps, status, now):
        return True
    async with deps.database.transaction() as tx:
        await _keep(tx, status, now)
    # It may have been recorded in between, by somebody who looked for early receipts a moment too early.
    return await note_early(deps, [(status.provider, status.provider_id)], now=now) > 0


async def note_early(deps: Deps, messages: Sequence[tuple[str, str]], *, now: datetime) -> int:
    """Notes receipts that came before these messages, (provider, provider id), were recorded; returns how many."""
    async with deps.database.transaction() as tx:
        early = await _find_early(tx, messages)
    noted = [status for status in early if await _note(deps, status, now)]
    if noted:
        async with deps.database.transaction() as tx:
            await _forget(tx, noted)
    return len(noted)


async def take_early(tx: Transaction, provider: str, provider_id: str) -> ProviderStatus | None:
    """What was told of a message before it was written down who has it, and forgets it: for what is no page."""
    early = await _find_early(tx, [(provider, provider_id)])
    await _forget(tx, early)
    return early[0] if early else None


async def _note(deps: Deps, status: ProviderStatus, now: datetime) -> bool:
    cause = Cause(correlation_id=deps.ids.new())
    messages: list[Message[Event]] = []
    async with deps.database.transaction() as tx:
        known = await _find_attempts(tx, status)
        if not known:
            return False
        # Escalations before pages: the one order of locks.
        wanting = {e.id: e for e in await store.load_many(tx, sorted({row["escalation_id"] for row in known} - {None}))}
        rows = await _load_attempts(tx, status)
        if status.cost is not None:
            await _save_cost(tx, rows[0], status.cost)
        news = [row for row in rows if _is_news(row["attempt_state"], status.state)]
        if news:
            await _save_state(tx, news, status, now)
            again = _again(news, status, wanting, now)
            await store.save_reopened(tx, again)
            if status.state is AttemptState.DELIVERED:
                await store.save_arrived(tx, [(row["id"], row["number"]) for row in news], now)
            health = await note_health(tx, [Tried(row, status.state, status.reason) for row in news], now)
            await start_next(tx, [page_id for page_id in again if has_next(_row(news, page_id))], now)
            entries = [_entry_of(row, status) for row in news]
            await record.append(tx, entries, cause=cause, ids=deps.ids, now=now)
            messages = await announce(tx, health, ids=deps.ids, cause=cause, now=now)
    deps.relay.publish_soon(messages)
    if status.state is AttemptState.FAILED:
        deps.wake("delivery")
    return True


def _is_news(before: str | None, said: AttemptState) -> bool:
    """Whether this word changes anything: that it arrived is the last word, and failing comes only after sending."""
    if said is AttemptState.DELIVERED:
        return before != AttemptState.DELIVERED
    return said is AttemptState.FAILED and before == AttemptState.SENT


def _again(
    news: Sequence[store.Row], status: ProviderStatus, wanting: dict[UUID, Escalation], now: datetime
) -> dict[UUID, datetime]:
    """The pages that are to be tried again, and when."""
    if status.state is not AttemptState.FAILED:
        return {}
    seconds = HOPELESS_REPEAT_SECONDS if status.reason in HARD else REPEAT_SECONDS
    again = {}
    for row in news:
        # A page that was tried again since belongs to the newer attempt.
        if row["state"] == "done" and row["attempts"] == row["number"] and _wanted(row, wanting, now):
            again[row["id"]] = due_at_of(row, precedence_of(row), now + timedelta(seconds=seconds))
    return again


def _wanted(row: store.Row, wanting: dict[UUID, Escalation], now: datetime) -> bool:
    if row["give_up_at"] <= now:
        return False
    escalation = wanting.get(row["escalation_id"])
    if escalation is None:
        return True
    if escalation.state is EscalationState.ENDED:
        return row["message_type"] in store.ENDING_TYPES
    if not row["asks"]:
        return True
    if not {row["contact_id"], row["contact_point_id"]}.isdisjoint(escalation.stopped):
        return False
    reminds = row["message_type"] == "level.raised" and escalation.state in REMINDING
    return reminds or escalation.state in ASKING


def _row(rows: Sequence[store.Row], page_id: UUID) -> store.Row:
    return next(row for row in rows if row["id"] == page_id)


def _entry_of(row: store.Row, status: ProviderStatus) -> record.Entry:
    return record.Entry(
        kind="page.receipt_noted",
        partner=row["partner"],
        alert_id=row["alert_id"],
        object_id=row["id"],
        data={
            "attempt": row["number"],
            "state": status.state,
            "reason": status.reason,
            "provider": status.provider,
        },
    )


# --- rows -------------------------------------------------------------------------------------------------------------

_OF_MESSAGE = """
SELECT p.*, a.number, a.state AS attempt_state
FROM attempts a JOIN pages p ON p.id = a.page_id WHERE a.provider = $1 AND a.provider_id = $2 ORDER BY p.id, a.number
"""


async def _find_attempts(tx: Transaction, status: ProviderStatus) -> list[store.Row]:
    connection = await raw(tx)
    return list(await connection.fetch(_OF_MESSAGE, status.provider, status.provider_id))


async def _load_attempts(tx: Transaction, status: ProviderStatus) -> list[store.Row]:
    connection = await raw(tx)
    return list(await connection.fetch(f"{_OF_MESSAGE} FOR UPDATE OF p, a", status.provider, status.provider_id))


async def _save_cost(tx: Transaction, row: store.Row, cost: Cost) -> None:
    """Of a message that carried several pages the first attempt bears the cost."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE attempts SET cost_amount = $3, cost_currency = $4 WHERE page_id = $1 AND number = $2",
        row["id"],
        row["number"],
        cost.amount,
        cost.currency,
    )


async def _save_state(tx: Transaction, rows: Sequence[store.Row], status: ProviderStatus, now: datetime) -> None:
    connection = await raw(tx)
    await connection.execute(
        "UPDATE attempts a SET state = $3, reason = $4, detail = coalesce($5, a.detail),"
        " delivered_at = CASE WHEN $3 = 'delivered' THEN $6 ELSE a.delivered_at END"
        " FROM unnest($1::uuid[], $2::integer[]) AS n(page_id, number)"
        " WHERE a.page_id = n.page_id AND a.number = n.number",
        [row["id"] for row in rows],
        [row["number"] for row in rows],
        status.state,
        status.reason,
        status.detail,
        now,
    )


async def _keep(tx: Transaction, status: ProviderStatus, now: datetime) -> None:
    """Keeps a receipt that came too early: of two the one that says more."""
    connection = await raw(tx)
    await connection.execute("DELETE FROM early_receipts WHERE received_at < $1", now - EARLY_KEPT)
    await connection.execute(
        "INSERT INTO early_receipts AS r"
        " (provider, provider_id, state, reason, detail, cost_amount, cost_currency, received_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (provider, provider_id) DO UPDATE SET"
        " state = CASE WHEN r.state = 'delivered' OR excluded.state = 'sent' THEN r.state ELSE excluded.state END,"
        " reason = CASE WHEN r.state = 'delivered' OR excluded.state = 'sent' THEN r.reason ELSE excluded.reason END,"
        " detail = coalesce(excluded.detail, r.detail), cost_amount = coalesce(excluded.cost_amount, r.cost_amount),"
        " cost_currency = coalesce(excluded.cost_currency, r.cost_currency)",
        status.provider,
        status.provider_id,
        status.state,
        status.reason,
        status.detail,
        None if status.cost is None else status.cost.amount,
        None if status.cost is None else status.cost.currency,
        now,
    )


async def _find_early(tx: Transaction, messages: Sequence[tuple[str, str]]) -> list[ProviderStatus]:
    connection = await raw(tx)
    rows: Sequence[Any] = await connection.fetch(
        "SELECT r.* FROM early_receipts r JOIN unnest($1::text[], $2::text[]) AS m(provider, provider_id)"
        " USING (provider, provider_id)",
        [provider for provider, _ in messages],
        [provider_id for _, provider_id in messages],
    )
    return [
        ProviderStatus(
            provider=row["provider"],
            provider_id=row["provider_id"],
            state=AttemptState(row["state"]),
            reason=Reason(row["reason"]),
            detail=row["detail"],
            cost=None if row["cost_amount"] is None else Cost(row["cost_amount"], row["cost_currency"]),
        )
        for row in rows
    ]


async def _forget(tx: Transaction, noted: Sequence[ProviderStatus]) -> None:
    connection = await raw(tx)
    await connection.execute(
        "DELETE FROM early_receipts r USING unnest($1::text[], $2::text[]) AS m(provider, provider_id)"
        " WHERE r.provider = m.provider AND r.provider_id = m.provider_id",
        [status.provider for status in noted],
        [status.provider_id for status in noted],
    )
