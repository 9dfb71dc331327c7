"""What a partner may ask about the messages to its own systems: test them, read what was sent, have it sent again.

The promises: a replay has the same `webhook-id` and, byte for byte, the same body, so that a receiver that had it drops
it; it goes to where the endpoint is now and to no address that it once had; alerts go before tests and replays. Nobody
reads or replays what was sent to another government, and the text of an alert is shown to those alone who see alerts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.escalation import reading, store
from services.escalation.deliveries import store as delivery_log
from services.escalation.deliveries.store import PING_TYPE
from services.escalation.deps import EscalationDeps
from services.escalation.directory import Target
from services.escalation.messages import alert_part, page_body
from services.escalation.store import Row
from shared import record
from shared.contracts import Precedence, Role
from shared.db import Transaction
from shared.errors import Conflict, Forbidden, Invalid, NotFound
from shared.events import Cause
from shared.security import Principal

ROLES = (Role.ROSTER_MANAGER, Role.DUTY_OFFICER, Role.SENIOR_CONTACT)
"""People who look after a government's systems, or answer for it. Its systems may look after themselves."""

PINGS_MAX = 10
PINGS_WITHIN = timedelta(minutes=1)

REPLAYED_PAGES_MAX = 500
REPLAY_RANGE_MAX = timedelta(days=31)
REPLAY_TRIED_FOR = timedelta(hours=1)
"""How long a replayed message is tried again if the endpoint does not take it."""

PING_PRIORITY = 20 + Precedence.FLASH.rank
REPLAY_PRIORITY = 30
"""Tens: behind alerts (0), drills (10) and tests (20)."""


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a replay came to."""

    page_ids: tuple[UUID, ...]
    """What is sent again."""
    on_their_way: int
    """How many were being sent anyway."""
    continue_from: datetime | None = None
    """Where the rest of the range begins, if there is more than one replay takes."""


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message with all attempts, and its body if the caller may read it."""

    row: Row
    attempts: Sequence[Row]
    body: bytes | None


def require_access(principal: Principal) -> None:
    """Raises `Forbidden` unless the caller looks after its government's systems, or is one of them."""
    is_own_system = not principal.is_person and principal.has(*reading.SEEING_ROLES, *ROLES)
    if not is_own_system and not principal.has(*ROLES):
        wanted = " or ".join(role.value for role in ROLES)
        raise Forbidden(f"this needs the role {wanted}", code="role_missing")


def require_roster(principal: Principal) -> None:
    """Raises `Forbidden` unless the caller keeps its government's roster: how people are reached is theirs to mend."""
    if not principal.is_person or not principal.has(Role.ROSTER_MANAGER):
        raise Forbidden(f"this needs the role {Role.ROSTER_MANAGER.value}", code="role_missing")


async def ping_endpoint(deps: EscalationDeps, principal: Principal, endpoint_id: UUID, *, cause: Cause) -> UUID:
    """Stores a test message to an endpoint, to be sent at once and once; returns its id."""
    require_access(principal)
    now, page_id = deps.clock.now(), deps.ids.new()
    async with deps.intake.transaction() as tx:
        target = await _endpoint(deps, tx, principal, endpoint_id)
        pings = await delivery_log.count_pings(tx, principal.partner, endpoint_id, now - PINGS_WITHIN)
        if pings >= PINGS_MAX:
            raise Conflict(f"{PINGS_MAX} test messages a minute are enough; wait", code="too_many_pings")
        await store.insert_pages(tx, [_ping_row(target, principal.partner, page_id, now)])
        entry = record.Entry(kind="endpoint.pinged", partner=principal.partner, object_id=endpoint_id)
        await record.append(tx, [entry], cause=cause, ids=deps.ids, now=now)
    deps.wake("delivery")
    return page_id


async def read_delivery(deps: EscalationDeps, principal: Principal, page_id: UUID, attempts_max: int) -> Delivery:
    """One message, rendered again as it was sent; raises `NotFound` for what is not the caller's partner's."""
    require_access(principal)
    async with deps.intake.transaction() as tx:
        row = await delivery_log.find_delivery(tx, principal.partner, page_id)
        if row is None:
            raise _missing()
        attempts = await delivery_log.find_newest_attempts(tx, [page_id], attempts_max)
        body = None
        if reading.sees_escalations(principal) or row["alert_id"] is None:
            body = await _body_of(deps, tx, row)
    return Delivery(row, attempts, body)


async def replay_delivery(deps: EscalationDeps, principal: Principal, page_id: UUID, *, cause: Cause) -> Replayed:
    """Has one message sent again, to where its endpoint is now."""
    require_access(principal)
    async with deps.intake.transaction() as tx:
        row = await delivery_log.find_delivery(tx, principal.partner, page_id)
        if row is None:
            raise _missing()
        replayed = await _replay(deps, tx, principal, row["contact_point_id"], [page_id], cause=cause)
    deps.wake("delivery")
    return replayed


async def replay_endpoint(
    deps: EscalationDeps, principal: Principal, endpoint_id: UUID, from_at: datetime, to_at: datetime, *, cause: Cause
) -> Replayed:
    """Has everything that an endpoint was sent from one instant to another sent again, oldest first."""
    require_access(principal)
    if not from_at < to_at or to_at - from_at > REPLAY_RANGE_MAX:
        days = REPLAY_RANGE_MAX.days
        raise Invalid(f"must be before `to`, and at most {days} days before it", code="out_of_range", field="from")
    async with deps.intake.transaction() as tx:
        await _endpoint(deps, tx, principal, endpoint_id)
        rows = await delivery_log.find_replayable(
            tx, principal.partner, endpoint_id, from_at=from_at, to_at=to_at, limit=REPLAYED_PAGES_MAX + 1
        )
        page_ids = [row["id"] for row in rows[:REPLAYED_PAGES_MAX]]
        replayed = await _replay(deps, tx, principal, endpoint_id, page_ids, cause=cause)
    deps.wake("delivery")
    rest = rows[REPLAYED_PAGES_MAX:]
    return Replayed(replayed.page_ids, replayed.on_their_way, rest[0]["created_at"] if rest else None)


async def _replay(
    deps: EscalationDeps,
    tx: Transaction,
    principal: Principal,
    endpoint_id: UUID,
    page_ids: Sequence[UUID],
    *,
    cause: Cause,
) -> Replayed:
    now = deps.clock.now()
    target = await _endpoint(deps, tx, principal, endpoint_id)
    again = await delivery_log.save_replayed(
        tx,
        page_ids,
        sealed_address=target.sealed_address,
        priority=REPLAY_PRIORITY,
        give_up_at=now + REPLAY_TRIED_FOR,
        now=now,
    )
    entries = [
        record.Entry(kind="page.replayed", partner=principal.partner, object_id=page_id, data={"to": str(endpoint_id)})
        for page_id in again
    ]
    await record.append(tx, entries, cause=cause, ids=deps.ids, now=now)
    return Replayed(tuple(again), len(page_ids) - len(again))


async def _endpoint(deps: EscalationDeps, tx: Transaction, principal: Principal, endpoint_id: UUID) -> Target:
    """The caller's own endpoint as it is now. What is another government's, and what is gone, is answered alike."""
    directory = await deps.directories.find_one(tx, principal.partner)
    for target in directory.endpoint_targets():
        if target.contact_point_id == endpoint_id:
            return target
    raise NotFound("there is no such endpoint of your government")


def _missing() -> NotFound:
    return NotFound("there is no such message to a system of your government")


async def _body_of(deps: EscalationDeps, tx: Transaction, row: Row) -> bytes:
    part = None
    if row["alert_id"] is not None:
        found = await store.find_content(tx, [row["alert_id"]])
        if row["alert_id"] in found:
            facts, content = found[row["alert_id"]]
            part = alert_part(facts, content, deps.settings.public_url or "")
    return page_body(row, row["data"], part)


def _ping_row(target: Target, partner: str, page_id: UUID, now: datetime) -> dict[str, Any]:
    return {
        "id": page_id,
        "escalation_id": None,
        "alert_id": None,
        "partner": partner,
        "contact_point_id": target.contact_point_id,
        "contact_id": None,
        "channel": target.channel,
        "sealed_address": target.sealed_address,
        "told": target.told,
        "message_type": PING_TYPE,
        "level": 0,
        "asks": False,
        "data": None,
        "priority": PING_PRIORITY,
        "state": "due",
        "due_at": now,
        "attempts": 0,
        # Given up with its first attempt: a test asks how things are now.
        "give_up_at": now,
        "created_at": now,
    }
