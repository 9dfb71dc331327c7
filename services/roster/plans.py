"""Publishes duty plans: a loop that is woken by each change and looks every second for what is due.

A partner's row says when its next plan is due: at once when anything of it changed, which the change's own transaction
writes, and otherwise a day after the last one, when it still holds for 13 days; a plan that had to be a short one is
due after half of its time. So a change is never without its plan after a crash, and there is one way to a plan, not a
second one inside every edit: a change commits in milliseconds whatever its rotas cost, and the plan follows it within
moments.

Plans that are due together are made in groups: one reading, one task of the worker and one transaction for several
partners, and as many groups at a time as the worker has processes. A plan is computed outside of any transaction and
published only if nothing has changed meanwhile; otherwise it is computed again. One partner's plan that cannot be
computed is put off and reported; the old plan holds, and the others are published: a group that fails as a whole is
made again partner by partner.

Addresses leave sealed. What is not yet sealed with the present key is sealed first, in the worker, and kept beside the
address for the plans to come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from services.roster import store
from services.roster.hand_overs.domain import LOOKED_BACK
from services.roster.handlers import RosterDeps
from services.roster.publication import PLAN_DAYS, PLAN_LEAD
from services.roster.store import DueState, SavedPlan, Unsealed
from services.roster.worker import (
    COMPUTE_SECONDS_MAX,
    WORKER_TROUBLES,
    PlanFault,
    PlanTask,
    PlanText,
    compute_plans,
    compute_sealed,
)
from shared import outbox, record
from shared.db import Transaction
from shared.errors import Unavailable
from shared.events import Cause, Event, Message
from shared.ids import MessageId
from shared.keys import CannotOpen, point_context
from shared.log import get_logger
from shared.loops import Loop
from shared.process import Deps

log = get_logger(__name__)

BATCH = 20
GROUP = 10
"""Partners of one group: few enough that reading and writing them holds nobody up, enough to share the ways."""

SEALED_AT_ONCE = 500
LOOK_SECONDS = 1.0
RENEWED_EVERY = timedelta(days=1)
FAILED_AGAIN_AFTER = timedelta(minutes=1)
AHEAD_MIN = timedelta(days=12)
"""A plan that ends sooner than this, and is due, was not renewed when it should have been."""

READ_BEFORE = PLAN_LEAD + max(LOOKED_BACK) + timedelta(days=1)
READ_AHEAD = timedelta(days=PLAN_DAYS + 1)
"""So far around now overrides and the like can matter to a plan, the change that it begins with included."""

CODES_SHOWN_MAX = 10


async def publish_plans(deps: RosterDeps) -> int:
    """One pass: publishes at most `BATCH` plans that are due. Returns how many partners it looked at."""
    now = deps.clock.now()
    async with deps.database.statement() as tx:
        due = await store.find_plans_due(tx, now=now, limit=BATCH)
    groups = [due[first : first + GROUP] for first in range(0, len(due), GROUP)]
    places = asyncio.Semaphore(deps.shifts.processes)

    async def publish(group: Sequence[str]) -> Exception | None:
        async with places:
            try:
                await _publish_group(deps, group, now)
            except Exception as error:  # noqa: BLE001 - the other groups are published all the same
                return error
        return None

    outcomes = await asyncio.gather(*map(publish, groups))
    # One after the other, so that what kills a process or takes too long is found to be one partner's.
    for group, error in zip(groups, outcomes, strict=True):
        if error is not None:
            await _publish_singly(deps, group, now, error)
    return len(due)


async def _publish_singly(deps: RosterDeps, group: Sequence[str], now: datetime, failed: Exception) -> None:
    """Each partner of a group that failed; if it had but one, nothing better can come of it."""
    for code in group:
        error: Exception | None = failed
        if len(group) > 1:
            try:
                await _publish_group(deps, [code], now)
                error = None
            except Exception as alone:  # noqa: BLE001 - whatever is wrong with one partner must not stop the others
                error = alone
        if isinstance(error, Unavailable) and error.code not in WORKER_TROUBLES:
            raise error
        if error is not None:
            await _put_off(deps, code, now, type(error).__name__)


async def _put_off(deps: RosterDeps, code: str, now: datetime, error: str) -> None:
    """Leaves the old plan in force and tries again later; the operators hear of it by `plan_troubles`.

    The log gets no traceback: it could repeat an address.
    """
    log.warning("plan.failed", partner=code, error=error)
    async with deps.database.transaction() as tx:
        await store.save_plan_failure(tx, code, due_at=now + FAILED_AGAIN_AFTER)


async def _publish_group(deps: RosterDeps, codes: Sequence[str], now: datetime) -> None:
    key = deps.keys.sealing_keys[0]
    await _seal(deps, codes)
    async with deps.database.transaction() as tx:
        found = await store.find_for_plans(
            tx, codes, from_at=now - READ_BEFORE, to_at=now + READ_AHEAD, sealing_key=key.id
        )
        # After the partners: new deadlines ask every partner for a plan, so older ones here make that plan void.
        deadlines = await store.find_deadlines(tx)
    # What is not due any more another process was quicker with.
    due = [one for one in found if one.plan_due_at <= now]
    if not due:
        return
    made = await deps.shifts.run(
        COMPUTE_SECONDS_MAX,
        compute_plans,
        [PlanTask(one.document, one.plan_version + 1) for one in due],
        dict(deadlines.table),
        now,
    )
    plans = [(one, plan) for one, plan in zip(due, made, strict=True) if isinstance(plan, PlanText)]
    async with deps.database.transaction() as tx:
        messages = await _save(tx, deps, plans, now)
    await deps.relay.publish(messages)
    if messages:
        deps.wake("readiness", "shift_notices")
        log.info("plans.published", partners=[message.body.key for message in messages])
    for one, plan in zip(due, made, strict=True):
        if isinstance(plan, PlanFault):
            await _put_off(deps, one.code, now, plan.error)


async def _save(
    tx: Transaction, deps: RosterDeps, plans: Sequence[tuple[DueState, PlanText]], now: datetime
) -> list[Message[Event]]:
    """Writes the plans of those partners of whom nothing has changed, each with its event and record row."""
    if not plans:
        return []
    saved = await store.save_plans(tx, [_saved(one, plan, now) for one, plan in plans])
    messages: list[Message[Event]] = []
    rows = []
    for one, plan in plans:
        if one.code not in saved:
            continue
        cause = Cause(correlation_id=deps.ids.new())
        facts = {"plan_version": one.plan_version + 1, "valid_until": plan.head.valid_until.isoformat()}
        entry = record.Entry(kind="duty_plan.published", partner=one.code, data=facts)
        rows.append(record.row_of(entry, cause=cause, row_id=deps.ids.new(), now=now))
        messages.append(Message(MessageId(deps.ids.new()), plan.head, now, cause.correlation_id, raw=plan.text))
    if messages:
        await record.append_rows(tx, rows)
        await outbox.append_messages(tx, messages)
    return messages


def _saved(one: DueState, plan: PlanText, now: datetime) -> SavedPlan:
    due_at = min(now + RENEWED_EVERY, now + (plan.head.valid_until - now) / 2)
    return SavedPlan(one.code, one.plan_asked, one.plan_version + 1, now, plan.head.valid_until, due_at)


async def _seal(deps: RosterDeps, codes: Sequence[str]) -> None:
    """Seals what these partners have that is not sealed with the present key.

    An address that cannot be opened stays without a sealed form, and its partner's plan cannot be made.
    """
    key = deps.keys.sealing_keys[0]
    async with deps.database.statement() as tx:
        unsealed = await store.find_unsealed(tx, codes, sealing_key=key.id)
    for first in range(0, len(unsealed), SEALED_AT_ONCE):
        opened: list[tuple[Unsealed, str]] = []
        for one in unsealed[first : first + SEALED_AT_ONCE]:
            try:
                opened.append((one, deps.keys.decrypt(one.encrypted, context=point_context(one.id))))
            except CannotOpen:
                log.warning("address.not_opened", point_id=str(one.id))
        addresses = [(one.id, address) for one, address in opened]
        public = key.public.public_bytes_raw()
        forms = await deps.shifts.run(COMPUTE_SECONDS_MAX, compute_sealed, addresses, public)
        async with deps.database.transaction() as tx:
            await store.save_sealed(
                tx,
                [(one, form) for (one, _), form in zip(opened, forms, strict=True)],
                sealing_key=key.id,
            )


def plans_loop(deps: RosterDeps) -> Loop:
    """The loop, not yet started."""

    async def run_once() -> int:
        return await publish_plans(deps)

    return Loop("plans", run_once, interval_seconds=LOOK_SECONDS, again_when=BATCH, clock=deps.clock)


async def plan_troubles(deps: Deps) -> list[str]:
    """Compares what should be with what is: partners whose plan cannot be computed, or was not renewed in time."""
    async with deps.database.transaction() as tx:
        failed, ending = await store.find_plan_troubles(tx, now=deps.clock.now(), ahead=AHEAD_MIN)
    alarms = []
    if failed:
        alarms.append(f"the duty plan cannot be computed, and the old one holds: {_shown(failed)}")
    if ending:
        alarms.append(f"the duty plan was not renewed: {_shown(ending)}")
    return alarms


def _shown(codes: list[str]) -> str:
    more = f" and {len(codes) - CODES_SHOWN_MAX} more" if len(codes) > CODES_SHOWN_MAX else ""
    return ", ".join(codes[:CODES_SHOWN_MAX]) + more
