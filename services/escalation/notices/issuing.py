"""Writes the pages of a notice: pages of no alert and of no escalation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.escalation import store
from services.escalation.deps import EscalationDeps
from services.escalation.hand_overs import store as hand_over_store
from services.escalation.notices import store as notice_store
from services.escalation.notices.domain import Chosen, choose
from services.escalation.people.notice_texts import MESSAGE_TYPE
from shared import record
from shared.contracts import Precedence
from shared.db import Transaction
from shared.events import Cause
from shared.ids import derived
from shared.log import get_logger

log = get_logger(__name__)

BEHIND_ALL = 20
"""Added to the priority of a page: alerts are below 10, drills below 20."""
URGENT_PRIORITY = BEHIND_ALL + Precedence.FLASH.rank
"""By its last digit no attempt waits for the morning, the first as little as a later one."""
CALM_PRIORITY = BEHIND_ALL + Precedence.ROUTINE.rank

TRIED_FOR_MAX = timedelta(days=7)
"""However long a notice would hold, nobody is written to about it for longer."""

HAND_OVER_DUE = "hand_over_due"

ITEMS_KEPT_MAX = 200
"""Of a digest: more than fourteen days of findings of one partner, and far below what a row may hold."""


async def issue(
    tx: Transaction,
    deps: EscalationDeps,
    *,
    partner: str,
    kind: str,
    contact_ids: Sequence[UUID] = (),
    to_office: bool = False,
    to_roster_managers: bool = False,
    to_office_otherwise: bool = False,
    facts: Mapping[str, str],
    items: Sequence[Mapping[str, str]] = (),
    urgent: bool,
    expires_at: datetime,
    now: datetime,
    notice_id: UUID | None = None,
    cause: Cause | None = None,
) -> int:
    """Writes the pages of one notice; returns how many. Wake `delivery` after the commit.

    With `to_roster_managers` it goes to whoever keeps this partner's roster, and to its office where none of them can
    be reached; so it does with `to_office_otherwise`, where none of `contact_ids` can be. A `notice_id` that was issued
    before writes nothing, and neither does a partner without a duty plan or one that this installation does not serve.
    `cause` is what brought it about, for the record.
    """
    if not deps.serves(partner):
        return 0
    notice_id = notice_id or deps.ids.new()
    expires_at = min(expires_at, now + TRIED_FOR_MAX)
    fresh = await notice_store.insert(tx, notice_id, partner=partner, kind=kind, issued_at=now, expires_at=expires_at)
    if not fresh:
        return 0
    directory = await deps.directories.find_one(tx, partner)
    if directory.plan is None or now >= expires_at:
        reason = "no_duty_plan" if directory.plan is None else "expired"
        log.warning("notice.not_sent", partner=partner, kind=kind, reason=reason)
        return 0
    managers = await notice_store.find_roster_managers(tx, partner) if to_roster_managers else []
    people = [*contact_ids, *managers]
    chosen = choose(directory, people, to_office=to_office, urgent=urgent, expires_at=expires_at, now=now)
    if not chosen and (to_roster_managers or to_office_otherwise):
        chosen = choose(directory, (), to_office=True, urgent=urgent, expires_at=expires_at, now=now)
    if not chosen:
        log.warning("notice.not_sent", partner=partner, kind=kind, reason="nobody_reachable")
        return 0
    if kind == HAND_OVER_DUE and "open" not in facts:
        # Roster, which issues it, knows of no escalation.
        facts = {**facts, "open": str(await hand_over_store.count_open(tx, partner))}
    data = {
        "kind": kind,
        "urgent": urgent,
        "facts": dict(facts),
        "items": [dict(item) for item in items[:ITEMS_KEPT_MAX]],
    }
    rows = [_page_row(one, notice_id, partner, data, urgent=urgent, expires_at=expires_at, now=now) for one in chosen]
    await store.insert_pages(tx, rows)
    entry = record.Entry(
        kind="notice.paged",
        partner=partner,
        object_id=notice_id,
        data={"kind": kind, "urgent": urgent, "pages": len(rows), "items": len(items)},
    )
    cause = cause or Cause(correlation_id=deps.ids.new())
    await record.append(tx, [entry], cause=cause, ids=deps.ids, now=now)
    return len(rows)


def _page_row(
    chosen: Chosen,
    notice_id: UUID,
    partner: str,
    data: Mapping[str, Any],
    *,
    urgent: bool,
    expires_at: datetime,
    now: datetime,
) -> dict[str, Any]:
    target = chosen.target
    row: dict[str, Any] = {
        "id": derived("notice", str(notice_id), str(target.contact_point_id)),
        "escalation_id": None,
        "alert_id": None,
        "partner": partner,
        "contact_point_id": target.contact_point_id,
        "contact_id": target.contact_id,
        "channel": target.channel,
        "sealed_address": target.sealed_address,
        "told": target.told,
        "message_type": MESSAGE_TYPE,
        "level": 0,
        "asks": False,
        "data": data,
        "priority": URGENT_PRIORITY if urgent else CALM_PRIORITY,
        "state": "due",
        "due_at": chosen.due_at,
        "attempts": 0,
        "give_up_at": expires_at,
        "created_at": now,
    }
    if target.languages is not None:
        row.update(languages=list(target.languages), time_zone=target.time_zone)
    return row


async def forget_notices(deps: EscalationDeps) -> int:
    """Forgets notices that have expired; returns how many. One that is told again after that is not sent either."""
    async with deps.database.transaction() as tx:
        return await notice_store.delete_expired(tx, deps.clock.now())
