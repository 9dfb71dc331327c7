"""Proves every partner's coming 14 days: after each of its duty plans, each hour, and when a hole comes near.

The loop is woken by each duty plan and by each heartbeat's news, and looks every second for what is due. A proof is
computed in the worker's process, as duty plans are; what it makes due (warnings of holes, the weekly digest, asking for
confirmation) is written with it in one transaction, the notices included, so that a crash tells everything later and
nothing twice. One partner's proof that cannot be made is put off and reported; the others are made.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.roster import store as roster_store
from services.roster.domain import Contact, DutyOffice, PartnerState
from services.roster.handlers import RosterDeps
from services.roster.readiness import store
from services.roster.readiness.checks import prove
from services.roster.readiness.findings import Finding, Proof
from services.roster.readiness.handlers import known_facts
from services.roster.readiness.score import score_of
from services.roster.readiness.store import StoredReadiness
from services.roster.readiness.telling import (
    CHASED_FOR,
    Chase,
    News,
    chases,
    forgotten,
    holes_to_tell,
    managers_of,
    news,
    next_digest_at,
    next_look_at,
)
from services.roster.schedule import Rota
from services.roster.worker import WORKER_TROUBLES, compute
from shared import outbox, record
from shared.contracts import SECRETARIAT, NoticeIssued
from shared.db import Transaction
from shared.errors import Unavailable
from shared.events import Cause, Event, Message
from shared.ids import PartnerCode
from shared.log import get_logger
from shared.loops import Loop
from shared.process import Deps
from shared.web import render_instant

log = get_logger(__name__)

BATCH = 20
LOOK_SECONDS = 1.0
PROVEN_EVERY = timedelta(hours=1)
FAILED_AGAIN_AFTER = timedelta(minutes=5)
LATE_AFTER = timedelta(hours=2)
"""A partner that was not proven for this long is an alarm."""

DIGEST_ITEMS_MAX = 100
DIGEST_KEPT_FOR = timedelta(days=3)
CHASE_KEPT_FOR = timedelta(days=3)
HOLE_KEPT_FOR = timedelta(hours=24)
"""How long after it was issued, or a hole after it has begun, a notice that nobody could take is still told."""

CHASES_REMEMBERED_FOR = 2 * CHASED_FOR
"""For longer than anybody is asked, so that nobody is asked twice."""

SCORES_KEPT_FOR = timedelta(days=732)
"""Two years, the longest history that can be asked for."""

CODES_SHOWN_MAX = 10


async def prove_partners(deps: RosterDeps) -> int:
    """One pass: proves at most `BATCH` partners that are due. Returns how many it looked at.

    None while duty plans are being published: those come first, and the worker computes both.
    """
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        due = [] if await store.plans_are_coming(tx, now) else await store.find_due(tx, now=now, limit=BATCH)
    for code in due:
        try:
            await _prove_one(deps, code, now)
        except Unavailable as error:
            if error.code not in WORKER_TROUBLES:
                raise
            await _put_off(deps, code, now, error)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with one partner must not stop the others
            await _put_off(deps, code, now, error)
    return len(due)


async def _put_off(deps: RosterDeps, code: str, now: datetime, error: Exception) -> None:
    """Leaves the old proof and tries again later; the operators hear of it by `readiness_troubles`.

    The log gets no traceback: it could repeat an address.
    """
    log.warning("readiness.failed", partner=code, error=type(error).__name__)
    async with deps.database.transaction() as tx:
        await store.save_failure(tx, code, due_at=now + FAILED_AGAIN_AFTER)


async def _prove_one(deps: RosterDeps, code: str, now: datetime) -> None:
    async with deps.database.transaction() as tx:
        stored = await roster_store.find_without_addresses(tx, code)
        facts = await known_facts(tx, deps, code)
    if stored is None:
        return
    proof = await compute(deps.shifts, prove, stored.state, facts, now)
    messages: list[Message[Event]] = []
    async with deps.database.transaction() as tx:
        kept = await store.load_readiness(tx, code, now=now)
        if kept is None or (kept.proved_at is not None and kept.proved_at > now):
            # Another process was quicker.
            return
        told = _Told(deps, stored.state, proof, kept, now)
        notices = [*await _tell_holes(tx, told), *await _tell_digest(tx, told), *await _ask_to_confirm(tx, told)]
        instants = [now + PROVEN_EVERY, next_look_at(proof, now), told.next_digest_at]
        await store.save_proof(
            tx,
            code,
            proof,
            score=score_of(proof),
            plan_version=stored.plan_version,
            proved_at=now,
            due_at=min(at for at in instants if at is not None),
        )
        await store.forget_old(tx, code, before=(now - SCORES_KEPT_FOR).date())
        cause = Cause(correlation_id=deps.ids.new())
        entries = [
            record.Entry(
                kind="notice.issued",
                partner=notice.partner,
                object_id=notice.notice_id,
                data={"kind": notice.kind, "about": code, "urgent": notice.urgent, "items": len(notice.items)},
            )
            for notice in notices
        ]
        await record.append(tx, entries, cause=cause, ids=deps.ids, now=now)
        messages = await outbox.append(tx, notices, cause=cause, ids=deps.ids, now=now)
    await deps.relay.publish(messages)


@dataclass(frozen=True, slots=True)
class _Told:
    """What a proof is told from."""

    deps: RosterDeps
    state: PartnerState
    proof: Proof
    kept: StoredReadiness
    now: datetime

    @property
    def code(self) -> PartnerCode:
        """The partner's code."""
        return self.state.partner.code

    @property
    def next_digest_at(self) -> datetime:
        """When the next digest is due: the one that is planned, unless it is past."""
        due_at = self.kept.digest_due_at
        if due_at is not None and due_at > self.now:
            return due_at
        return next_digest_at(self.state.partner.time_zone, self.now)

    def notice(self, kind: str, facts: Mapping[str, str], *, kept_for: timedelta, **more: Any) -> NoticeIssued:
        """A notice to this partner's people, unless `more` names another."""
        given: dict[str, Any] = {"partner": self.code, "issued_at": self.now, "expires_at": self.now + kept_for} | more
        return NoticeIssued(notice_id=self.deps.ids.new(), kind=kind, facts=dict(facts), **given)


# --- holes ------------------------------------------------------------------------------------------------------------


async def _tell_holes(tx: Transaction, told: _Told) -> list[NoticeIssued]:
    """Warns the partner's roster managers and office, and the secretariat, which learns the role and no name."""
    code, now = told.code, told.now
    known = await store.find_told_holes(tx, code)
    await store.forget_holes(tx, forgotten(told.proof, known))
    due = holes_to_tell(told.proof, known, now)
    if not due:
        return []
    names: dict[UUID | None, str] = {rota.id: rota.name for rota in told.state.rotas}
    elsewhere = await store.find_managers(tx, SECRETARIAT) if code != SECRETARIAT else None
    notices = []
    for hole in due:
        finding = hole.finding
        await store.save_told(tx, code, hole, told.deps.ids.many(1 + len(hole.others)), now=now)
        facts = {"rota": names[finding.rota_id], **_span(finding)}
        kept_for = max(finding.begins_at - now, timedelta()) + HOLE_KEPT_FOR
        urgent: dict[str, Any] = {"urgent": True, "to_office": True, "kept_for": kept_for}
        notices.append(told.notice("hole_ahead", facts, contact_ids=managers_of(told.state.credentials), **urgent))
        if elsewhere is not None:
            facts["partner"] = code
            whose: dict[str, Any] = {"partner": SECRETARIAT, "contact_ids": elsewhere}
            notices.append(told.notice("hole_ahead_elsewhere", facts, **whose, **urgent))
        log.warning("readiness.hole_ahead", partner=code, rota_id=str(finding.rota_id), because=hole.because.value)
    return notices


def _span(finding: Finding) -> dict[str, str]:
    found = {"begins_at": render_instant(finding.begins_at)}
    return found if finding.ends_at is None else found | {"ends_at": render_instant(finding.ends_at)}


# --- the digest -------------------------------------------------------------------------------------------------------


async def _tell_digest(tx: Transaction, told: _Told) -> list[NoticeIssued]:
    """Tells the roster managers what is new or worse since the last digest, if it is time and there is anything.

    A partner without roster managers has its office told.
    """
    code, proof, kept = told.code, told.proof, told.kept
    if kept.digest_due_at is None:
        await store.save_first_digest(tx, code, due_at=told.next_digest_at)
        return []
    if kept.digest_due_at > told.now:
        return []
    fresh = list(news(proof.findings, kept.digest_findings, kept.digest_until_at))
    await store.save_digest(tx, code, proof.findings, until_at=proof.to_at, due_at=told.next_digest_at)
    if not fresh:
        return []
    managers = managers_of(told.state.credentials)
    return [
        told.notice(
            "readiness_digest",
            {"score": str(score_of(proof)), "findings": str(len(fresh))},
            contact_ids=managers,
            to_office=not managers,
            items=tuple(_items(told.state, fresh[:DIGEST_ITEMS_MAX])),
            kept_for=DIGEST_KEPT_FOR,
        )
    ]


def _items(state: PartnerState, fresh: Sequence[tuple[Finding, News]]) -> Iterator[dict[str, str]]:
    """The findings in words of the partner's own."""
    things: tuple[Contact | DutyOffice | Rota, ...] = (*state.contacts, *state.offices, *state.rotas)
    names: dict[UUID | None, str] = {thing.id: thing.name for thing in things}
    systems: dict[UUID | None, str] = {one.id: one.description for one in state.endpoints}
    for finding, new in fresh:
        item: dict[str, str | None] = {
            "code": finding.code.value,
            **_span(finding),
            "rota": names.get(finding.rota_id),
            "contact": names.get(finding.contact_id or finding.office_id),
            "endpoint": systems.get(finding.endpoint_id),
            "new": new.value,
        }
        yield {name: value for name, value in item.items() if value}


# --- asking for confirmation ------------------------------------------------------------------------------------------


async def _ask_to_confirm(tx: Transaction, told: _Told) -> list[NoticeIssued]:
    """Asks each contact whose points have come to a stage at which they were not asked before."""
    code, now = told.code, told.now
    await store.forget_chases(tx, code, expired_before=now - CHASES_REMEMBERED_FOR)
    asked: dict[UUID, Chase] = {}
    for chase in await store.save_chases(tx, code, list(chases(told.state, now)), now=now):
        # Who is asked for two ends at once is asked for the first.
        asked.setdefault(chase.contact_id, chase)
    return [
        told.notice(
            "points_unconfirmed",
            {"expires_at": render_instant(chase.expires_at), "count": str(chase.count)},
            contact_ids=(chase.contact_id,),
            kept_for=CHASE_KEPT_FOR,
        )
        for chase in asked.values()
    ]


# --- the loop ---------------------------------------------------------------------------------------------------------


def readiness_loop(deps: RosterDeps) -> Loop:
    """The loop, not yet started."""

    async def run_once() -> int:
        return await prove_partners(deps)

    return Loop("readiness", run_once, interval_seconds=LOOK_SECONDS, again_when=BATCH, clock=deps.clock)


async def readiness_troubles(deps: Deps) -> list[str]:
    """What needs a person: partners with nobody on call within a day, and partners that are not proven any more."""
    async with deps.database.transaction() as tx:
        holes, late = await store.find_troubles(tx, proven_before=deps.clock.now() - LATE_AFTER)
    alarms = []
    if holes:
        alarms.append(f"nobody is on call at some time within 24 hours: {_shown(holes)}")
    if late:
        alarms.append(f"the coming 14 days cannot be proven for more than two hours: {_shown(late)}")
    return alarms


def _shown(codes: Sequence[Any]) -> str:
    more = f" and {len(codes) - CODES_SHOWN_MAX} more" if len(codes) > CODES_SHOWN_MAX else ""
    return ", ".join(codes[:CODES_SHOWN_MAX]) + more
