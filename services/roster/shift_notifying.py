"""Tells people of their shifts before these begin: rows that are computed after each duty plan, and a loop that issues
what is due.

A plan that was published makes its partner's rows stale; they are computed in the worker's process and replace all
that were not issued. A notice is issued by the transaction that marks its row, so that a crash issues it later and
never twice.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

from services.roster import shift_notice_store as rows
from services.roster import store
from services.roster.domain import PartnerState
from services.roster.handlers import RosterDeps
from services.roster.readiness.store import plans_are_coming
from services.roster.shift_notices import GivenAway, NoticeKind, ShiftNotice, changes_of, notices_of
from services.roster.swaps.store import find_given_away
from services.roster.worker import WORKER_TROUBLES, compute
from shared import outbox, record
from shared.contracts import NoticeIssued
from shared.errors import Unavailable
from shared.events import Cause
from shared.log import get_logger
from shared.loops import Loop
from shared.web import render_instant

log = get_logger(__name__)

PARTNERS_AT_ONCE = 20
BATCH = 100
LOOK_SECONDS = 1.0
FAILED_AGAIN_AFTER = timedelta(minutes=1)
REMEMBERED_FOR = timedelta(days=30)
LATE_KEPT_FOR = timedelta(hours=1)
"""How long after the beginning of a shift its notice is still worth something."""


async def notify_of_shifts(deps: RosterDeps) -> int:
    """One pass: computes what plans have made stale, then issues at most `BATCH` notices. Returns how much it did.

    Nothing is computed while duty plans are being published: those come first, and the worker computes both.
    """
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        coming = await plans_are_coming(tx, now)
        stale = [] if coming else await rows.find_stale(tx, now=now, limit=PARTNERS_AT_ONCE)
    for code in stale:
        await _compute_one(deps, code)
    return len(stale) + await _issue_due(deps)


async def _compute_one(deps: RosterDeps, code: str) -> None:
    now = deps.clock.now()
    try:
        await _compute(deps, code, now)
    except Exception as error:
        if isinstance(error, Unavailable) and error.code not in WORKER_TROUBLES:
            raise
        log.warning("shift_notices.failed", partner=code, error=type(error).__name__)
        async with deps.database.transaction() as tx:
            if await rows.load_version(tx, code) is not None:
                await rows.save_failure(tx, code, again_at=now + FAILED_AGAIN_AFTER)


async def _compute(deps: RosterDeps, code: str, now: datetime) -> None:
    async with deps.database.transaction() as tx:
        stored = await store.find_without_addresses(tx, code)
        issued = await rows.find_issued(tx, code)
        known = await rows.find_known(tx, code, now=now)
        given = await find_given_away(tx, code, now=now)
    if stored is None:
        return
    away = [GivenAway(rota_id, who, to, stretch.start_at, stretch.end_at) for rota_id, who, to, stretch in given]
    notices, void = await compute(deps.shifts, _made, stored.state, issued, known, away, now)
    async with deps.database.transaction() as tx:
        version = await rows.load_version(tx, code)
        if version is None or version >= stored.plan_version:
            # Another process was quicker.
            return
        await rows.forget(tx, void)
        made = zip(deps.ids.many(len(notices)), notices, strict=True)
        await rows.replace_unissued(tx, code, made, plan_version=stored.plan_version)
        await rows.forget_past(tx, code, ended_before=now - REMEMBERED_FOR)


def _made(
    state: PartnerState,
    issued: Sequence[ShiftNotice],
    known: Sequence[ShiftNotice],
    given: Sequence[GivenAway],
    now: datetime,
) -> tuple[tuple[ShiftNotice, ...], tuple[ShiftNotice, ...]]:
    """What there is to tell a partner's people, and what they were told that is no longer so."""
    changed = changes_of(state, known, given, now)
    void = set(changed.void)
    told = (*(one for one in issued if one not in void), *changed.kept)
    return (*changed.due, *changed.kept, *notices_of(state, told, now)), changed.void


async def _issue_due(deps: RosterDeps) -> int:
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        due = await rows.load_due(tx, now=now, limit=BATCH)
        if not due:
            return 0
        ids = [one for _, _, notice in due for one in (notice.rota_id, notice.contact_id, notice.other_id) if one]
        names = await rows.find_names(tx, ids)
        # Of a rota or a person that is gone there is nothing to tell.
        tellable = [one for one in due if one[2].rota_id in names and one[2].contact_id in names]
        taken = Counter(_whose(code, notice) for _, code, notice in tellable if notice.kind is NoticeKind.TAKEN)
        notices = []
        for notice_id, code, notice in tellable:
            further = taken.pop(_whose(code, notice), 0) - 1 if notice.kind is NoticeKind.TAKEN else 0
            if further >= 0:
                notices.append(_issued(notice_id, code, notice, names, now, further=further))
        await rows.save_issued(tx, [notice_id for notice_id, _, _ in due], now=now)
        cause = Cause(correlation_id=deps.ids.new())
        entries = [
            record.Entry(
                kind="notice.issued",
                partner=notice.partner,
                object_id=notice.notice_id,
                data={"kind": notice.kind, "start_at": notice.facts["start_at"], "urgent": notice.urgent},
            )
            for notice in notices
        ]
        await record.append(tx, entries, cause=cause, ids=deps.ids, now=now)
        messages = await outbox.append(tx, notices, cause=cause, ids=deps.ids, now=now)
    await deps.relay.publish(messages)
    return len(due)


def _whose(code: str, notice: ShiftNotice) -> tuple[str, UUID, UUID]:
    """What was taken from one person in one rota is told as one: the soonest, and how much more there is."""
    return (code, notice.rota_id, notice.contact_id)


def _issued(
    notice_id: UUID, code: str, notice: ShiftNotice, names: Mapping[UUID, str], now: datetime, *, further: int
) -> NoticeIssued:
    facts = {"rota": names[notice.rota_id], "start_at": render_instant(notice.start_at)}
    other = "" if notice.other_id is None else names.get(notice.other_id, "")
    to: tuple[UUID, ...] = (notice.contact_id,)
    if notice.kind is NoticeKind.HAND_OVER:
        kind = "hand_over_due"
        facts |= {"outgoing": other, "incoming": names[notice.contact_id]}
        to = (notice.other_id, notice.contact_id) if notice.other_id is not None and other else to
    elif notice.kind is NoticeKind.TAKEN:
        kind = "shift_changed"
        facts["end_at"] = render_instant(notice.end_at)
        if further:
            facts["count"] = str(further)
    else:
        kind = "shift_ahead"
        facts["end_at"] = render_instant(notice.end_at)
        if notice.kind is NoticeKind.AS_DEPUTY:
            facts["as_deputy"] = "true"
        elif other:
            facts["deputy"] = other
    return NoticeIssued(
        notice_id=notice_id,
        partner=code,
        kind=kind,
        contact_ids=to,
        facts=facts,
        urgent=notice.is_urgent,
        issued_at=now,
        expires_at=max(notice.start_at, now) + LATE_KEPT_FOR,
    )


def shift_notices_loop(deps: RosterDeps) -> Loop:
    """The loop, not yet started."""

    async def run_once() -> int:
        return await notify_of_shifts(deps)

    return Loop("shift_notices", run_once, interval_seconds=LOOK_SECONDS, again_when=PARTNERS_AT_ONCE, clock=deps.clock)
