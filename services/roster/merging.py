"""One partner with the items of a network file written over it.

The promise: pure, and a file changes nothing but what it can say. Overrides, replacements, imported shifts,
verifications, confirmations, secrets and revocations stay; so does the order of what was there before, and what is new
comes after it. An address that changes has not been verified yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from services.roster.domain import (
    Contact,
    ContactPoint,
    Credential,
    DutyOffice,
    Endpoint,
    EscalationPolicy,
    Partner,
    PartnerState,
)
from services.roster.network import Item
from services.roster.schedule import Rota

T = TypeVar("T")


def merged(state: PartnerState | None, items: Iterable[Item], *, now: datetime) -> PartnerState:
    """The state with the items written, in their order; `None` is a partner that the first item creates."""
    for item in items:
        if isinstance(item.value, Partner):
            active = state.partner.active if state is not None else True
            partner = replace(item.value, active=active)
            state = PartnerState(partner) if state is None else replace(state, partner=partner)
        else:
            assert state is not None, "a partner is written before what belongs to it"
            state = _with(state, item, now)
    assert state is not None, "a new partner comes with an item of its own"
    return state


def _with(state: PartnerState, item: Item, now: datetime) -> PartnerState:
    match item.value:
        case DutyOffice() as office:
            state = replace(state, offices=put(state.offices, office, _keeping("points")))
        case Contact() as contact:
            state = replace(state, contacts=put(state.contacts, contact, _keeping("points")))
        case ContactPoint() as point:
            state = _with_point(state, item.owner_id, point)
        case Rota() as rota:
            state = replace(state, rotas=put(state.rotas, rota, _keeping("overrides", "replacements", "imported")))
        case EscalationPolicy() as policy:
            state = replace(state, policy=policy)
        case Endpoint() as endpoint:
            created = replace(endpoint, created_at=now)
            state = replace(state, endpoints=put(state.endpoints, created, _keeping("created_at")))
        case Credential() as credential:
            kept = put(state.credentials, credential, _changed_credential, key="client_id")
            state = replace(state, credentials=kept)
    return state


def _with_point(state: PartnerState, owner_id: UUID | None, point: ContactPoint) -> PartnerState:
    def holding(owner: Any) -> Any:
        if owner.id != owner_id:
            return owner
        return replace(owner, points=put(owner.points, point, changed_point))

    return replace(state, offices=tuple(map(holding, state.offices)), contacts=tuple(map(holding, state.contacts)))


def put(things: tuple[T, ...], new: T, carry_over: Callable[[T, T], T], *, key: str = "id") -> tuple[T, ...]:
    """The things with the new one in the place of the one that has its key, or at the end.

    `carry_over(old, new)` says what of the old one stays.
    """
    name = getattr(new, key)
    if any(getattr(thing, key) == name for thing in things):
        return tuple(carry_over(thing, new) if getattr(thing, key) == name else thing for thing in things)
    return (*things, new)


def changed_point(old: ContactPoint, new: ContactPoint) -> ContactPoint:
    """The new point with what is still known of it: nothing, if it leads elsewhere."""
    if (old.channel, old.address) != (new.channel, new.address):
        return new
    return replace(new, verified_at=old.verified_at, confirmed_at=old.confirmed_at)


def _changed_credential(old: Credential, new: Credential) -> Credential:
    return replace(new, secret_sha256=old.secret_sha256, revoked_at=old.revoked_at, version=old.version + 1)


def _keeping(*names: str) -> Callable[[Any, Any], Any]:
    return lambda old, new: replace(new, **{name: getattr(old, name) for name in names})
