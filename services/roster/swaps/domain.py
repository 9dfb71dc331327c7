"""A swap: who offers which stretch of a rota to whom, in return for what, and what became of it.

`offered → accepted | declined | withdrawn | expired`. An offer names one colleague, or nobody: then it is open to
everybody of the rota. It expires when the first of its stretches begins, because a shift that has begun cannot be
given away as a whole.

The promise: pure. Whether somebody holds a stretch is read from shifts that `schedule` has computed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from services.roster.domain import PartnerState
from services.roster.rota_edits import with_override
from services.roster.schedule import OVERRIDES_MAX, Override, OverrideId, Rota, Shift, contacts_of
from shared.errors import Conflict, FieldError
from shared.ids import ContactId, PartnerCode, RotaId

LOOK_AHEAD = timedelta(days=366)
"""How far ahead a stretch may end: rotas are rarely planned further than a year."""

OPEN_OFFERS_MAX = 20
"""Offers of one contact that wait for an answer."""

URGENT_WITHIN = timedelta(hours=12)
"""A swap that begins so soon is told at once: a notice that waits for the morning could come too late."""


class SwapState(StrEnum):
    """What became of an offer. All but `OFFERED` are final."""

    OFFERED = "offered"
    ACCEPTED = "accepted"
    DECLINED = "declined"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a rota's time, [start_at, end_at)."""

    start_at: datetime
    end_at: datetime

    def overlaps(self, other: Stretch) -> bool:
        """Whether the two share any instant."""
        return self.start_at < other.end_at and other.start_at < self.end_at


@dataclass(frozen=True, slots=True)
class Swap:
    """One offer. `offered_to` is `None` for an open one; `in_return` is what the other one gives for it.

    `declined_by` are those who have said no, in that order; `answered_by` is who accepted.
    """

    id: UUID
    partner: PartnerCode
    rota_id: RotaId
    offered_by: ContactId
    offered_to: ContactId | None
    stretch: Stretch
    in_return: Stretch | None
    offered_at: datetime
    state: SwapState = SwapState.OFFERED
    declined_by: tuple[ContactId, ...] = ()
    accepted_by: ContactId | None = None
    ended_at: datetime | None = None
    version: int = 1

    @property
    def stretches(self) -> tuple[Stretch, ...]:
        """What is given, and what is given back."""
        return (self.stretch,) if self.in_return is None else (self.stretch, self.in_return)

    @property
    def expires_at(self) -> datetime:
        """When nobody can accept it any more: the beginning of the first stretch."""
        return min(stretch.start_at for stretch in self.stretches)

    def state_at(self, now: datetime) -> SwapState:
        """The state, which is `EXPIRED` from the instant on, whenever the row says so, too."""
        expired = self.state is SwapState.OFFERED and now >= self.expires_at
        return SwapState.EXPIRED if expired else self.state

    def concerns(self, contact_id: ContactId | UUID | None, rota: Rota | None) -> bool:
        """Whether the contact has a part in it: as one of the two, or as one of those to whom it is open."""
        if contact_id in (self.offered_by, self.offered_to, self.accepted_by):
            return contact_id is not None
        return self.offered_to is None and rota is not None and contact_id in contacts_of(rota)


# --- what is refused --------------------------------------------------------------------------------------------------


def offer_faults(swap: Swap, state: PartnerState, rota: Rota, *, now: datetime) -> Iterator[FieldError]:
    """What is wrong with an offer, whoever is on call."""
    yield from _stretch_faults("", swap.stretch, now)
    if swap.in_return is not None:
        yield from _stretch_faults("in_return.", swap.in_return, now)
        if swap.offered_to is None:
            yield FieldError("in_return", "needs offered_to: name the colleague who holds that stretch")
        if swap.in_return.overlaps(swap.stretch):
            yield FieldError("in_return", "overlaps what is offered; name another time")
    if all(contact.id != swap.offered_by for contact in state.contacts):
        yield FieldError("offered_by", "is no contact of your government")
    if swap.offered_to == swap.offered_by:
        yield FieldError("offered_to", "is whoever offers; name a colleague, or leave it out")
    elif swap.offered_to is not None and swap.offered_to not in contacts_of(rota):
        yield FieldError("offered_to", "does not belong to this rota; name one of its people, or leave it out")


def _stretch_faults(prefix: str, stretch: Stretch, now: datetime) -> Iterator[FieldError]:
    if stretch.start_at <= now:
        yield FieldError(f"{prefix}start_at", "is over; offer a stretch that is still to begin")
    if stretch.end_at <= stretch.start_at:
        yield FieldError(f"{prefix}end_at", "does not lie after start_at; use a later instant")
    elif stretch.end_at > now + LOOK_AHEAD:
        yield FieldError(f"{prefix}end_at", f"is too far away; offer at most {LOOK_AHEAD.days} days ahead")


def require_room(swap: Swap, waiting: Sequence[Swap]) -> None:
    """Raises if those of its offerer's swaps that wait leave no room: too many, or one of the same time."""
    same = next((one for one in waiting if one.rota_id == swap.rota_id and one.stretch.overlaps(swap.stretch)), None)
    if same is not None:
        raise Conflict(f"this time is offered already, in swap {same.id}", code="already_offered")
    if len(waiting) >= OPEN_OFFERS_MAX:
        raise Conflict(f"{OPEN_OFFERS_MAX} offers wait for an answer; withdraw one", code="too_many_offers")


def require_open(swap: Swap, *, now: datetime) -> None:
    """Raises `Conflict` with the state of an offer that is not open any more."""
    state = swap.state_at(now)
    if state is not SwapState.OFFERED:
        raise Conflict(f"the swap is {state}", code=f"swap_{state}")


def require_held(swap: Swap, accepter: ContactId | None, held: Sequence[Sequence[Shift]]) -> None:
    """Raises `Conflict` unless the two hold what they give; `held` are the rota's shifts in each of the stretches.

    Without an accepter it is the one to whom it is offered.
    """
    givers = (swap.offered_by, accepter or swap.offered_to)
    for giver, stretch, shifts in zip(givers, swap.stretches, held, strict=False):
        if giver is None or not holds(shifts, giver, stretch):
            who = "whoever offers" if giver == swap.offered_by else "the other one"
            raise Conflict(
                f"{who} is not on call in all of {stretch.start_at.isoformat()} to {stretch.end_at.isoformat()}",
                code="shift_not_held",
            )


def holds(shifts: Sequence[Shift], contact_id: ContactId, stretch: Stretch) -> bool:
    """Whether the contact is on call in every instant of the stretch, in one shift or several."""
    reached = stretch.start_at
    for shift in shifts:
        if shift.contact_id == contact_id and shift.start_at <= reached < shift.end_at:
            reached = shift.end_at
    return reached >= stretch.end_at


def double_duties(
    rotas: Mapping[RotaId, str],
    takers: Sequence[ContactId | None],
    windows: Sequence[Sequence[tuple[RotaId, Sequence[Shift]]]],
    rota_id: RotaId,
) -> tuple[str, ...]:
    """Names of the other rotas in which whoever takes a stretch is on call at the same time.

    `windows` holds for each stretch the shifts of every rota in it, `takers` who takes it.
    """
    found = {
        other
        for taker, window in zip(takers, windows, strict=False)
        for other, shifts in window
        if other != rota_id and any(shift.contact_id == taker for shift in shifts)
    }
    return tuple(name for key, name in rotas.items() if key in found)


# --- what happens -----------------------------------------------------------------------------------------------------


def accepted(swap: Swap, by: ContactId, *, now: datetime) -> Swap:
    """The swap, agreed."""
    return replace(swap, state=SwapState.ACCEPTED, accepted_by=by, ended_at=now, version=swap.version + 1)


def declined(swap: Swap, by: ContactId, asked: Collection[ContactId], *, now: datetime) -> Swap:
    """The swap after somebody said no. An open one stays open until everybody of `asked` has."""
    refusers = swap.declined_by if by in swap.declined_by else (*swap.declined_by, by)
    left = set(asked) - set(refusers) - {swap.offered_by}
    if swap.offered_to is None and left:
        return replace(swap, declined_by=refusers, version=swap.version + 1)
    return replace(swap, state=SwapState.DECLINED, declined_by=refusers, ended_at=now, version=swap.version + 1)


def ended(swap: Swap, state: SwapState, *, now: datetime) -> Swap:
    """The swap, withdrawn or expired."""
    return replace(swap, state=state, ended_at=now, version=swap.version + 1)


def with_overrides(
    state: PartnerState, swap: Swap, by: ContactId, ids: Sequence[OverrideId], *, now: datetime
) -> PartnerState:
    """The partner's state after the swap: one override for each stretch, laid over all that is there.

    Overrides that are over make room for them, as for every other one.
    """
    takers = (by, swap.offered_by)
    made = tuple(
        Override(override_id, taker, stretch.start_at, stretch.end_at)
        for override_id, taker, stretch in zip(ids, takers, swap.stretches, strict=False)
    )

    def changed(rota: Rota) -> Rota:
        if rota.id != swap.rota_id:
            return rota
        for override in made:
            rota = with_override(rota, override, now=now)
        if len(rota.overrides) > OVERRIDES_MAX:
            raise Conflict(
                f"the rota would have more than {OVERRIDES_MAX} overrides that are not over; have some removed",
                code="too_many_overrides",
            )
        return rota

    return replace(state, rotas=tuple(map(changed, state.rotas)))
