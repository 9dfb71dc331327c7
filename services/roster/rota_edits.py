"""Edits of one rota: laying something over it and taking it away again.

The promise: pure. A rota keeps a limited number of overrides and replacements; what has long been over makes room for
what is new, so that nobody has to tidy up before they can cover a colleague.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TypeVar
from uuid import UUID

from services.roster.domain import PartnerState
from services.roster.schedule import OVERRIDES_MAX, REPLACEMENTS_MAX, Override, Replacement, Rota

T = TypeVar("T", Override, Replacement)


def with_override(rota: Rota, override: Override, *, now: datetime) -> Rota:
    """The rota with the override over all that it has."""
    return replace(rota, overrides=(*_with_room(rota.overrides, OVERRIDES_MAX, now), override))


def with_replacement(rota: Rota, replacement: Replacement, *, now: datetime) -> Rota:
    """The rota with the replacement over those that it has."""
    return replace(rota, replacements=(*_with_room(rota.replacements, REPLACEMENTS_MAX, now), replacement))


def with_rota(state: PartnerState, rota: Rota) -> PartnerState:
    """The state with this rota in the place of the one of its id."""
    return replace(state, rotas=tuple(rota if one.id == rota.id else one for one in state.rotas))


def without_past_shifts(state: PartnerState, contact_id: UUID, *, now: datetime) -> PartnerState:
    """The state without what calendars said of a contact and what is over: nobody else could take that away.

    What is still ahead stays, and keeps the contact: somebody is counted on there.
    """
    rotas = []
    for rota in state.rotas:
        left = tuple(one for one in rota.imported if one.contact_id != contact_id or one.end_at > now)
        rotas.append(rota if len(left) == len(rota.imported) else replace(rota, imported=left))
    return replace(state, rotas=tuple(rotas))


def _with_room(things: tuple[T, ...], limit: int, now: datetime) -> tuple[T, ...]:
    """The things without as many of those that ended first as are one too many; what is not over stays."""
    over = sorted((thing for thing in things if thing.end_at <= now), key=lambda thing: thing.end_at)
    gone = {thing.id for thing in over[: max(0, len(things) + 1 - limit)]}
    return tuple(thing for thing in things if thing.id not in gone)
