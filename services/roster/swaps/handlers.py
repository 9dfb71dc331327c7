"""What people do with swaps: offer, accept, decline, withdraw.

Who is on call in a stretch is computed outside of the transaction, as it is everywhere (a rota may take long); the
transaction then goes on only if the roster is still of the version that was looked at, and looks again otherwise. It
holds the partner's row, which orders all writes of one partner, and then the swap's: of two who accept one offer at
once, one wins.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.roster import domain as roster
from services.roster import store as roster_store
from services.roster.handlers import READING_ROLES, Call, RosterDeps, missing, save_changed
from services.roster.schedule import OverrideId, Rota, Shift, contacts_of
from services.roster.store import StoredPartner
from services.roster.swaps import domain, store
from services.roster.swaps.domain import Stretch, Swap, SwapState
from services.roster.worker import compute, compute_shifts
from shared import idempotency, outbox, record
from shared.contracts import NoticeIssued, Role
from shared.db import Transaction
from shared.errors import Conflict, Forbidden, Unavailable
from shared.events import Event, Message
from shared.idempotency import StoredResponse
from shared.ids import ContactId, PartnerCode, RotaId
from shared.log import get_logger
from shared.security import Principal
from shared.web import render_instant

log = get_logger(__name__)

TRIES_MAX = 5
"""How often the roster may change between looking and writing; each time somebody else's change went through."""

Windows = Sequence[Sequence[tuple[RotaId, tuple[Shift, ...]]]]
"""For each stretch the shifts of every rota in it."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What somebody offers. Without `offered_by` it is the caller; without `offered_to` it is open to the rota."""

    rota_id: UUID
    stretch: Stretch
    offered_by: UUID | None = None
    offered_to: UUID | None = None
    in_return: Stretch | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A swap as it is now, with what is needed to show it: its roster, and what else its taker is on call for."""

    swap: Swap
    state: roster.PartnerState
    double_duty: tuple[str, ...] = ()


Answer = Callable[[Outcome], StoredResponse]


# --- reading ----------------------------------------------------------------------------------------------------------


async def own_swaps(
    deps: RosterDeps, principal: Principal, code: str, *, state: SwapState | None, before: UUID | None, limit: int
) -> list[Outcome]:
    """The swaps of the caller's government, the newest first; those who may not read its rosters see their own."""
    reader = _reader(principal, code)
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        stored = await roster_store.find_without_addresses(tx, code)
        if stored is None:
            raise missing()
        member_of = [rota.id for rota in stored.state.rotas if reader in contacts_of(rota)]
        found = await store.find_swaps(
            tx, code, state=state, reader=reader, rota_ids=member_of, before=before, limit=limit, now=now
        )
    return [Outcome(swap, stored.state) for swap in found]


async def own_swap(deps: RosterDeps, principal: Principal, code: str, swap_id: UUID) -> Outcome:
    """One of them."""
    reader = _reader(principal, code)
    async with deps.intake.transaction() as tx:
        stored = await roster_store.find_without_addresses(tx, code)
        swap = await store.find_swap(tx, code, swap_id)
    if stored is None or swap is None or not _may_see(swap, stored.state, reader):
        raise missing("swap")
    return Outcome(swap, stored.state)


# --- writing ----------------------------------------------------------------------------------------------------------


async def offer_swap(
    deps: RosterDeps, call: Call, code: str, offer: Offer, *, dry_run: bool, answer: Answer
) -> StoredResponse:
    """Offers a stretch and tells whom it is offered to; with `dry_run` it is only said what would be offered."""
    _own(call.principal, code)
    by, on_behalf = _acting(call.principal, offer.offered_by)
    to = None if offer.offered_to is None else ContactId(offer.offered_to)

    def made_of(state: roster.PartnerState, now: datetime) -> Swap:
        rota = _rota_of(state, offer.rota_id)
        code_of = PartnerCode(code)
        swap = Swap(deps.ids.new(), code_of, rota.id, by, to, offer.stretch, offer.in_return, offered_at=now)
        roster.require(domain.offer_faults(swap, state, rota, now=now), "This cannot be offered.")
        return swap

    for _ in range(TRIES_MAX):
        now = deps.clock.now()
        seen = await _seen(deps, code)
        swap = made_of(seen.state, now)
        windows = await _windows(deps, seen.state, swap)
        async with _unchanged(deps, code, seen) as (tx, stored):
            if stored is None:
                continue
            if call.attempt is not None and not dry_run:
                done = await idempotency.begin(tx, call.attempt, now=now)
                if done is not None:
                    return done
            domain.require_room(swap, await store.find_waiting(tx, by, now=now))
            domain.require_held(swap, to, [dict(window)[swap.rota_id] for window in windows])
            outcome = Outcome(swap, stored.state, _double_duties(stored.state, swap, to, windows))
            response = answer(outcome)
            if dry_run:
                return response
            await store.add_swap(tx, swap)
            data = _terms(swap) | {"on_behalf": on_behalf, "after": {"state": swap.state.value}}
            await _record(tx, deps, call, swap, "swap.offered", data, now)
            facts = {"offered_by": _name(stored.state, by)}
            notice = _notice(deps, outcome, "swap_offered", _asked(outcome), facts, now)
            messages = await outbox.append(tx, notice, cause=call.cause, ids=deps.ids, now=now)
            if call.attempt is not None:
                await idempotency.finish(tx, call.attempt, response)
        await deps.relay.publish(messages)
        return response
    raise _moving()


async def accept_swap(
    deps: RosterDeps,
    call: Call,
    code: str,
    swap_id: UUID,
    *,
    on_behalf_of: UUID | None,
    force: bool,
    answer: Answer,
) -> StoredResponse:
    """Takes what is offered: the overrides, the swap's state and both notices in one transaction. Twice is harmless.

    `force` lets a roster manager put somebody on two duties at once.
    """
    _own(call.principal, code)
    by, on_behalf = _acting(call.principal, on_behalf_of)
    if force:
        call.principal.require(Role.ROSTER_MANAGER)
    for _ in range(TRIES_MAX):
        now = deps.clock.now()
        seen = await _seen(deps, code)
        looked_at = await own_swap(deps, call.principal, code, swap_id)
        # What is over cannot be computed for long any more, and need not be.
        is_open = looked_at.swap.state_at(now) is SwapState.OFFERED
        windows = await _windows(deps, seen.state, looked_at.swap) if is_open else []
        async with _unchanged(deps, code, seen) as (tx, stored):
            if stored is None:
                continue
            if call.attempt is not None and (done := await idempotency.begin(tx, call.attempt, now=now)) is not None:
                return done
            swap = await _loaded(tx, call, stored, swap_id)
            messages: list[Message[Event]] = []
            if swap.state is SwapState.ACCEPTED and swap.accepted_by == by:
                outcome = Outcome(swap, stored.state)
            else:
                domain.require_open(swap, now=now)
                _require_asked(swap, stored.state, by)
                domain.require_held(swap, by, [dict(window).get(swap.rota_id, ()) for window in windows])
                double = _double_duties(stored.state, swap, by, windows)
                if double and not force:
                    raise Conflict(
                        f"whoever takes this is on call in {', '.join(double)} at the same time", code="double_duty"
                    )
                override_ids = [OverrideId(one) for one in deps.ids.many(len(swap.stretches))]
                after = domain.with_overrides(stored.state, swap, by, override_ids, now=now)
                _, messages = await save_changed(tx, deps, stored, after, cause=call.cause, now=now)
                outcome = Outcome(domain.accepted(swap, by, now=now), after, double)
                await store.save_swap(tx, outcome.swap)
                data = _terms(swap) | {
                    "accepted_by": str(by),
                    "on_behalf": on_behalf,
                    "forced": bool(double),
                    "overrides": [str(one) for one in override_ids],
                }
                await _record_move(tx, deps, call, swap, outcome.swap, data, now)
                facts = {"accepted_by": _name(after, by)}
                notice = _notice(deps, outcome, "swap_accepted", [swap.offered_by, by], facts, now)
                messages += await outbox.append(tx, notice, cause=call.cause, ids=deps.ids, now=now)
            response = answer(outcome)
            if call.attempt is not None:
                await idempotency.finish(tx, call.attempt, response)
        await deps.relay.publish(messages)
        deps.wake("plans")
        return response
    raise _moving()


async def decline_swap(
    deps: RosterDeps, call: Call, code: str, swap_id: UUID, *, on_behalf_of: UUID | None, answer: Answer
) -> StoredResponse:
    """Says no. An open offer stays open for the others, until all have said no. Twice is harmless."""
    _own(call.principal, code)
    by, on_behalf = _acting(call.principal, on_behalf_of)

    def decide(swap: Swap, state: roster.PartnerState, now: datetime) -> tuple[Swap, dict[str, Any]]:
        if by in swap.declined_by and swap.state in (SwapState.OFFERED, SwapState.DECLINED):
            return swap, {}
        domain.require_open(swap, now=now)
        _require_asked(swap, state, by)
        asked = _members(state, swap.rota_id)
        return domain.declined(swap, by, asked, now=now), {"declined_by": str(by), "on_behalf": on_behalf}

    def told(outcome: Outcome, now: datetime) -> list[NoticeIssued]:
        if outcome.swap.state is not SwapState.DECLINED:
            return []
        facts = {"declined_by": _name(outcome.state, by)}
        return _notice(deps, outcome, "swap_declined", [outcome.swap.offered_by], facts, now)

    return await _move(deps, call, code, swap_id, decide, told, answer)


async def withdraw_swap(deps: RosterDeps, call: Call, code: str, swap_id: UUID, *, answer: Answer) -> StoredResponse:
    """Takes the offer back: whoever offered it, or a roster manager. Twice is harmless."""
    _own(call.principal, code)

    def decide(swap: Swap, _state: roster.PartnerState, now: datetime) -> tuple[Swap, dict[str, Any]]:
        is_own = call.principal.is_person and call.principal.contact_id == swap.offered_by
        if not is_own:
            call.principal.require(Role.ROSTER_MANAGER)
        if swap.state is SwapState.WITHDRAWN:
            return swap, {}
        domain.require_open(swap, now=now)
        return domain.ended(swap, SwapState.WITHDRAWN, now=now), {"on_behalf": not is_own}

    def told(outcome: Outcome, now: datetime) -> list[NoticeIssued]:
        facts = {"offered_by": _name(outcome.state, outcome.swap.offered_by)}
        return _notice(deps, outcome, "swap_withdrawn", _asked(outcome), facts, now)

    return await _move(deps, call, code, swap_id, decide, told, answer)


async def _move(  # noqa: PLR0917 - as `change_partner`, and what is told besides
    deps: RosterDeps,
    call: Call,
    code: str,
    swap_id: UUID,
    decide: Callable[[Swap, roster.PartnerState, datetime], tuple[Swap, dict[str, Any]]],
    told: Callable[[Outcome, datetime], Iterable[NoticeIssued]],
    answer: Answer,
) -> StoredResponse:
    """A move for which nobody has to know who is on call. `decide` gives the same swap back where nothing moves."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        if call.attempt is not None and (done := await idempotency.begin(tx, call.attempt, now=now)) is not None:
            return done
        stored = await roster_store.load_partner(tx, deps.keys, code)
        if stored is None:
            raise missing()
        swap = await _loaded(tx, call, stored, swap_id)
        after, data = decide(swap, stored.state, now)
        outcome = Outcome(after, stored.state)
        messages: list[Message[Event]] = []
        if after != swap:
            await store.save_swap(tx, after)
            await _record_move(tx, deps, call, swap, after, _terms(swap) | data, now)
            messages = await outbox.append(tx, told(outcome, now), cause=call.cause, ids=deps.ids, now=now)
        response = answer(outcome)
        if call.attempt is not None:
            await idempotency.finish(tx, call.attempt, response)
    await deps.relay.publish(messages)
    return response


# --- who may ----------------------------------------------------------------------------------------------------------


def _own(principal: Principal, code: str) -> None:
    if principal.partner != code:
        raise missing()


def _reader(principal: Principal, code: str) -> ContactId | None:
    """Whose swaps the caller sees: `None` for all of its government, else the caller's own contact."""
    _own(principal, code)
    if principal.has(*READING_ROLES):
        return None
    if not principal.is_person or principal.contact_id is None:
        raise Forbidden("your credential belongs to no contact of your government", code="not_a_contact")
    return ContactId(principal.contact_id)


def _may_see(swap: Swap, state: roster.PartnerState, reader: ContactId | None) -> bool:
    return reader is None or swap.concerns(reader, _rota_or_none(state, swap.rota_id))


def _acting(principal: Principal, named: UUID | None) -> tuple[ContactId, bool]:
    """For whom the caller acts, and whether that is somebody else, which takes a roster manager."""
    own = principal.contact_id if principal.is_person else None
    if named is not None and named != own:
        principal.require(Role.ROSTER_MANAGER)
        return ContactId(named), True
    if own is None:
        raise Forbidden("your credential belongs to no contact of your government", code="not_a_contact")
    return ContactId(own), False


def _require_asked(swap: Swap, state: roster.PartnerState, by: ContactId) -> None:
    """Raises unless the offer is made to this contact, alone or as one of the rota."""
    asked = [swap.offered_to] if swap.offered_to is not None else _members(state, swap.rota_id)
    if by == swap.offered_by or by not in asked:
        raise Forbidden("this is not offered to you", code="not_offered_to_you")


async def _loaded(tx: Transaction, call: Call, stored: StoredPartner, swap_id: UUID) -> Swap:
    swap = await store.load_swap(tx, stored.state.partner.code, swap_id)
    reader = _reader(call.principal, stored.state.partner.code)
    if swap is None or not _may_see(swap, stored.state, reader):
        raise missing("swap")
    return swap


# --- the roster -------------------------------------------------------------------------------------------------------


async def _seen(deps: RosterDeps, code: str) -> StoredPartner:
    async with deps.intake.transaction() as tx:
        stored = await roster_store.find_without_addresses(tx, code)
    if stored is None:
        raise missing()
    return stored


@asynccontextmanager
async def _unchanged(
    deps: RosterDeps, code: str, seen: StoredPartner
) -> AsyncIterator[tuple[Transaction, StoredPartner | None]]:
    """A transaction that holds the partner's row; `None` if it is not of the version that was looked at."""
    async with deps.intake.transaction() as tx:
        stored = await roster_store.load_partner(tx, deps.keys, code)
        if stored is None:
            raise missing()
        yield tx, stored if stored.version == seen.version else None


async def _windows(deps: RosterDeps, state: roster.PartnerState, swap: Swap) -> Windows:
    """The shifts of all rotas in each of the swap's stretches, computed as paging computes them."""
    windows = []
    for stretch in swap.stretches:
        found = await compute(deps.shifts, compute_shifts, state.rotas, stretch.start_at, stretch.end_at)
        windows.append([(rota.id, shifts) for rota, shifts in zip(state.rotas, found, strict=True)])
    return windows


def _double_duties(state: roster.PartnerState, swap: Swap, by: ContactId | None, windows: Windows) -> tuple[str, ...]:
    names = {rota.id: rota.name for rota in state.rotas}
    return domain.double_duties(names, (by, swap.offered_by), windows, swap.rota_id)


def _rota_or_none(state: roster.PartnerState, rota_id: UUID) -> Rota | None:
    return next((rota for rota in state.rotas if rota.id == rota_id), None)


def _rota_of(state: roster.PartnerState, rota_id: UUID) -> Rota:
    rota = _rota_or_none(state, rota_id)
    if rota is None:
        raise missing("rota")
    return rota


def _members(state: roster.PartnerState, rota_id: UUID) -> frozenset[ContactId]:
    rota = _rota_or_none(state, rota_id)
    return contacts_of(rota) if rota is not None else frozenset()


def _name(state: roster.PartnerState, contact_id: ContactId) -> str:
    return next((contact.name for contact in state.contacts if contact.id == contact_id), "")


def _moving() -> Unavailable:
    return Unavailable("the roster is being changed by others; try again")


# --- what is told -----------------------------------------------------------------------------------------------------


def _asked(outcome: Outcome) -> list[ContactId]:
    """To whom the offer is made."""
    swap = outcome.swap
    if swap.offered_to is not None:
        return [swap.offered_to]
    return sorted(_members(outcome.state, swap.rota_id) - {swap.offered_by})


def _notice(  # noqa: PLR0917 - its callers are above
    deps: RosterDeps, outcome: Outcome, kind: str, to: Sequence[ContactId], facts: dict[str, str], now: datetime
) -> list[NoticeIssued]:
    """One notice to the people, or none where there is nobody (any more)."""
    swap, known = outcome.swap, {contact.id for contact in outcome.state.contacts}
    people = tuple(one for one in to if one in known)
    if not people:
        return []
    rota = _rota_or_none(outcome.state, swap.rota_id)
    told = {
        "rota": rota.name if rota is not None else "",
        "start_at": render_instant(swap.stretch.start_at),
        "end_at": render_instant(swap.stretch.end_at),
        **facts,
    }
    if swap.in_return is not None and kind in ("swap_offered", "swap_accepted"):
        told |= {
            "return_start_at": render_instant(swap.in_return.start_at),
            "return_end_at": render_instant(swap.in_return.end_at),
        }
    return [
        NoticeIssued(
            notice_id=deps.ids.new(),
            partner=swap.partner,
            kind=kind,
            contact_ids=people,
            facts=told,
            urgent=swap.expires_at <= now + domain.URGENT_WITHIN,
            issued_at=now,
            expires_at=swap.expires_at,
        )
    ]


def _terms(swap: Swap) -> dict[str, Any]:
    """What the record says of the offer itself: ids and instants."""
    return {
        "rota_id": str(swap.rota_id),
        "offered_by": str(swap.offered_by),
        "offered_to": None if swap.offered_to is None else str(swap.offered_to),
        "stretches": [[render_instant(one.start_at), render_instant(one.end_at)] for one in swap.stretches],
    }


async def _record_move(  # noqa: PLR0917 - as above
    tx: Transaction, deps: RosterDeps, call: Call, before: Swap, after: Swap, data: dict[str, Any], now: datetime
) -> None:
    # One who says no to an open offer ends it for nobody else.
    kind = "swap.declined" if after.state is SwapState.OFFERED else f"swap.{after.state.value}"
    moved = {"before": {"state": before.state.value}, "after": {"state": after.state.value}}
    await _record(tx, deps, call, after, kind, data | moved, now)


async def _record(  # noqa: PLR0917 - as above
    tx: Transaction, deps: RosterDeps, call: Call, swap: Swap, kind: str, data: dict[str, Any], now: datetime
) -> None:
    entry = record.Entry(kind=kind, partner=swap.partner, object_id=swap.id, data=data)
    await record.append(tx, [entry], cause=call.cause, ids=deps.ids, now=now)
