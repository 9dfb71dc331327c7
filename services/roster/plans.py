"""Publishes duty plans: a loop that is woken by each change and looks every second for what is due.

A partner's row says when its next plan is due: at once when anything of it changed, which the change's own transaction
writes, and otherwise a day after the last one, when it still holds for 13 days; a plan that had to be a short one is
due after half of its time. So a change is never without its
plan after a crash, and there is one way to a plan, not a second one inside every edit: a change commits in
milliseconds whatever its rotas cost, and the plan follows it within moments.

A plan is computed outside of any transaction and published only if nothing has changed meanwhile; otherwise it is
computed again. One partner's plan that cannot be computed is put off and reported; the old plan holds, and the others
are published.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from services.roster import store
from services.roster.handlers import RosterDeps
from services.roster.worker import COMPUTE_SECONDS_MAX, WORKER_TROUBLES, compute_plan
from shared import outbox, record
from shared.errors import Unavailable
from shared.events import Cause
from shared.log import get_logger
from shared.loops import Loop
from shared.process import Deps

log = get_logger(__name__)

BATCH = 20
LOOK_SECONDS = 1.0
RENEWED_EVERY = timedelta(days=1)
FAILED_AGAIN_AFTER = timedelta(minutes=1)
AHEAD_MIN = timedelta(days=12)
"""A plan that ends sooner than this, and is due, was not renewed when it should have been."""

CODES_SHOWN_MAX = 10


async def publish_plans(deps: RosterDeps) -> int:
    """One pass: publishes at most `BATCH` plans that are due. Returns how many partners it looked at."""
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        due = await store.find_plans_due(tx, now=now, limit=BATCH)
    for code in due:
        try:
            await _publish_one(deps, code, now)
        except Unavailable as error:
            if error.code not in WORKER_TROUBLES:
                raise
            await _put_off(deps, code, now, error)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one partner must not stop the others
            await _put_off(deps, code, now, error)
    return len(due)


async def _put_off(deps: RosterDeps, code: str, now: datetime, error: Exception) -> None:
    """Leaves the old plan in force and tries again later; the operators hear of it by `plan_troubles`.

    The log gets no traceback: it could repeat an address.
    """
    log.warning("plan.failed", partner=code, error=type(error).__name__)
    async with deps.database.transaction() as tx:
        await store.save_plan_failure(tx, code, due_at=now + FAILED_AGAIN_AFTER)


async def _publish_one(deps: RosterDeps, code: str, now: datetime) -> None:
    async with deps.database.transaction() as tx:
        stored = await store.find_partner(tx, deps.keys, code)
        deadlines = await store.find_deadlines(tx)
    if stored is None or stored.plan_due_at > now:
        # Another process was quicker.
        return
    plan_version = stored.plan_version + 1
    sealing_key = deps.keys.sealing_keys[0].public.public_bytes_raw()
    plan = await deps.shifts.run(
        COMPUTE_SECONDS_MAX, compute_plan, stored.state, dict(deadlines.table), plan_version, now, sealing_key
    )
    async with deps.database.transaction() as tx:
        if not await store.load_unchanged(tx, code, plan_asked=stored.plan_asked, plan_version=stored.plan_version):
            return
        await store.save_plan(
            tx,
            code,
            plan_version=plan_version,
            computed_at=plan.computed_at,
            valid_until=plan.valid_until,
            due_at=min(now + RENEWED_EVERY, now + (plan.valid_until - now) / 2),
        )
        cause = Cause(correlation_id=deps.ids.new())
        facts = {"plan_version": plan_version, "valid_until": plan.valid_until.isoformat()}
        entry = record.Entry(kind="duty_plan.published", partner=code, data=facts)
        await record.append(tx, [entry], cause=cause, ids=deps.ids, now=now)
        messages = await outbox.append(tx, [plan], cause=cause, ids=deps.ids, now=now)
    await deps.relay.publish(messages)
    deps.wake("readiness", "shift_notices")
    log.info("plan.published", partner=code, plan_version=plan_version)


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
