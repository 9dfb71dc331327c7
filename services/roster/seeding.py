"""What applying a network file would do: lays its items beside what is stored.

The cast: `content_hash` says whether an item and a stored object are the same, `CurrentNetwork` is what is stored as
far as that matters, and `plan` says what to create, what to update, what is the same, and what is left alone and why.

The promise: pure, and applying a file twice changes nothing the second time. What a partner has edited since a file
last wrote it is left alone unless the file is applied with that partner's own credential. Nothing is ever deleted:
what is missing from the file is none of its business.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from enum import StrEnum
from typing import Any
from uuid import UUID

from services.roster.domain import Contact, ContactPoint, Credential, DutyOffice, Endpoint, Partner, PartnerState
from services.roster.network import (
    Item,
    Kind,
    NetworkFile,
    PrecedenceDeadlines,
    Value,
    credential_id,
    deadlines_id,
    partner_id,
    policy_id,
)
from services.roster.schedule import Layer, OnHolidays, Rota
from shared.contracts import SECRETARIAT, Deadlines, Precedence
from shared.ids import PartnerCode

_NOT_SEEDED: Mapping[type, frozenset[str]] = {
    Partner: frozenset({"active"}),
    DutyOffice: frozenset({"points"}),
    Contact: frozenset({"points"}),
    ContactPoint: frozenset({"verified_at", "confirmed_at"}),
    Rota: frozenset({"overrides", "replacements", "imported"}),
    Endpoint: frozenset({"created_at"}),
    Credential: frozenset({"secret_sha256", "revoked_at", "version"}),
}
"""What a file does not say of an object: it belongs to the daily work or is an object of its own."""

_SAID_BEFORE: Mapping[type, Mapping[str, object]] = {
    Layer: {"on_holidays": OnHolidays.ANY},
    Rota: {"notice_hours": (24,)},
}
"""What an object was before it could say so: left out, as an absent field is."""

_UNORDERED = frozenset({"embassies", "roles"})
"""Fields whose order means nothing, so that a table may keep them in another one."""


def content_hash(value: Value) -> str:
    """The hash of what a network file can say of an object; of a stored object and of an item alike.

    What is empty, 0 or `None` is left out, so that a new optional field does not make every stored object look edited.
    """
    canonical = json.dumps(_content(value), sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _content(value: Any) -> Any:
    if isinstance(value, Deadlines):
        value = value.model_dump()
    elif is_dataclass(value) and not isinstance(value, type):
        skipped = _NOT_SEEDED.get(type(value), frozenset())
        before = _SAID_BEFORE.get(type(value), {})
        value = {field.name: getattr(value, field.name) for field in fields(value) if field.name not in skipped}
        for name, default in before.items():
            # Nothing at all is not what it was before, and must not be left out like it.
            value[name] = None if value[name] == default else value[name] or "none"
        value.update({name: sorted(value[name]) for name in _UNORDERED & value.keys()})
    if isinstance(value, dict):
        content = {name: _content(part) for name, part in value.items()}
        return {name: part for name, part in content.items() if part not in (None, "", [], {}, 0)}
    if isinstance(value, (tuple, list)):
        return [_content(part) for part in value]
    return value


@dataclass(frozen=True, slots=True)
class CurrentNetwork:
    """What is stored, as far as a plan must know it.

    `hashes` holds the content hash of every stored object by its id, `seeded` the hash of what a network file last
    wrote, also of objects that have been removed since. `partners` are all partners, `client_partners` tells whose
    each client id is.
    """

    hashes: Mapping[UUID, str]
    seeded: Mapping[UUID, str]
    partners: Mapping[PartnerCode, Partner]
    client_partners: Mapping[str, PartnerCode]

    @classmethod
    def of(
        cls,
        states: Iterable[PartnerState],
        deadlines: Mapping[Precedence, Deadlines],
        seeded: Mapping[UUID, str],
    ) -> CurrentNetwork:
        """From the states of all partners, the stored deadlines and the hashes that network files have written."""
        hashes = {deadlines_id(p): content_hash(PrecedenceDeadlines(p, given)) for p, given in deadlines.items()}
        partners: dict[PartnerCode, Partner] = {}
        client_partners: dict[str, PartnerCode] = {}
        for state in states:
            code = state.partner.code
            partners[code] = state.partner
            hashes[partner_id(code)] = content_hash(state.partner)
            if state.policy.levels:
                hashes[policy_id(code)] = content_hash(state.policy)
            owners: tuple[DutyOffice | Contact, ...] = (*state.offices, *state.contacts)
            for owner in owners:
                hashes[owner.id] = content_hash(owner)
                hashes.update({point.id: content_hash(point) for point in owner.points})
            hashes.update({rota.id: content_hash(rota) for rota in state.rotas})
            hashes.update({endpoint.id: content_hash(endpoint) for endpoint in state.endpoints})
            for credential in state.credentials:
                hashes[credential_id(credential.client_id)] = content_hash(credential)
                client_partners[credential.client_id] = code
        return cls(hashes, seeded, partners, client_partners)


class Reason(StrEnum):
    """Why an item of the file was not written."""

    EDITED = "edited"
    REMOVED = "removed"
    NOT_YOURS = "not_yours"
    NEEDS_ADMINISTRATOR = "needs_administrator"
    STANDING = "standing"
    MISSING_REFERENCE = "missing_reference"
    CLIENT_ID_TAKEN = "client_id_taken"


@dataclass(frozen=True, slots=True)
class Change:
    """An item to write; `content_hash` is what to remember as seeded."""

    item: Item
    content_hash: str


@dataclass(frozen=True, slots=True)
class LeftAlone:
    """An item that is not written, because it differs from what is stored and may not, or is somebody else's.

    `detail` is a sentence for a person.
    """

    item: Item
    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True)
class NetworkPlan:
    """What applying a file would do. Creates and updates stand in an order in which they can be written."""

    creates: tuple[Change, ...]
    updates: tuple[Change, ...]
    unchanged: tuple[Item, ...]
    left_alone: tuple[LeftAlone, ...]


def plan(
    network_file: NetworkFile, current: CurrentNetwork, *, acting_partner: str | None, is_administrator: bool
) -> NetworkPlan:
    """Compares a file with what is stored; see the promise of this module.

    `acting_partner` is the partner of the credential that the file is applied with, `None` for an operator on the
    machine itself. Whoever is no administrator writes only what belongs to the acting partner, and no credentials or
    deadlines. What belongs to others is not compared for them at all: that a guess is right would be an answer, too.
    """
    creates: list[Change] = []
    updates: list[Change] = []
    unchanged: list[Item] = []
    left_alone: list[LeftAlone] = []
    present = set(current.hashes)
    for item in network_file.items:
        owner = item.partner or PartnerCode(SECRETARIAT)
        if not is_administrator and acting_partner != owner:
            detail = f"It belongs to {owner}; only {owner} or an administrator can apply it."
            left_alone.append(LeftAlone(item, Reason.NOT_YOURS, detail))
            continue
        new, stored = content_hash(item.value), current.hashes.get(item.id)
        if new == stored:
            unchanged.append(item)
            continue
        kept = _refusal(item, current, present, acting_partner, is_administrator=is_administrator)
        if kept is not None:
            left_alone.append(LeftAlone(item, *kept))
        else:
            (creates if stored is None else updates).append(Change(item, new))
            present.add(item.id)
    return NetworkPlan(tuple(creates), tuple(updates), tuple(unchanged), tuple(left_alone))


def _refusal(
    item: Item, current: CurrentNetwork, present: set[UUID], acting_partner: str | None, *, is_administrator: bool
) -> tuple[Reason, str] | None:
    """Why an item that differs is left alone; `None` means that it is written. Deadlines belong to the secretariat."""
    owner = item.partner or PartnerCode(SECRETARIAT)
    is_own = acting_partner == owner
    stored = current.hashes.get(item.id)
    missing = [key for reference, key in item.references if reference not in present]
    refusal: tuple[Reason, str] | None = None
    if not is_administrator and (
        item.kind in (Kind.CREDENTIAL, Kind.DEADLINES) or (item.kind is Kind.PARTNER and stored is None)
    ):
        refusal = Reason.NEEDS_ADMINISTRATOR, f"Only an administrator can change the {item.kind} of a network."
    elif not is_administrator and _changes_standing(item, current):
        refusal = Reason.STANDING, "A partner's standing is changed by an administrator alone."
    elif isinstance(item.value, Credential) and current.client_partners.get(item.value.client_id, owner) != owner:
        refusal = Reason.CLIENT_ID_TAKEN, "This client id belongs to another partner; choose another one."
    elif stored is None and item.id in current.seeded and not is_own:
        refusal = Reason.REMOVED, f"{owner} has removed it since; {owner}'s own credential can apply it again."
    elif stored is not None and current.seeded.get(item.id) != stored and not is_own:
        refusal = Reason.EDITED, f"{owner} has edited it since; {owner}'s own credential can overwrite that."
    elif missing:
        refusal = Reason.MISSING_REFERENCE, f"It names what is not there: {', '.join(missing)}."
    return refusal


def _changes_standing(item: Item, current: CurrentNetwork) -> bool:
    if not isinstance(item.value, Partner) or item.value.code not in current.partners:
        return False
    return current.partners[item.value.code].standing is not item.value.standing
