"""What differs between two states of a partner: what the store writes, and what the record says about it.

The cast: `changes` compares two states object by object. A `Changed` names one object with what it was and what it is;
an object's own parts (points of a contact, overrides and replacements of a rota) are objects of their own. `recorded`
is what the record may keep of one change, and `entries` what it keeps of all of them: the shifts that came from a
calendar are counted there, one entry for each rota, because nobody reads a thousand.

The promise: pure. The record gets the names of all fields that changed and the values of those that are neither
personal nor secret: never a name of a person, a number, an address, or anything of a secret.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import date, datetime, time
from enum import StrEnum
from typing import Any
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
from services.roster.network import credential_id, partner_id, policy_id
from services.roster.schedule import ImportedShift, Override, Replacement, Rota

Object = (
    Partner
    | DutyOffice
    | Contact
    | ContactPoint
    | Rota
    | Override
    | Replacement
    | ImportedShift
    | EscalationPolicy
    | Endpoint
    | Credential
)

NOUNS: Mapping[type, str] = {
    Partner: "partner",
    DutyOffice: "office",
    Contact: "contact",
    ContactPoint: "contact_point",
    Rota: "rota",
    Override: "override",
    Replacement: "replacement",
    ImportedShift: "imported_shift",
    EscalationPolicy: "policy",
    Endpoint: "endpoint",
    Credential: "credential",
}

_RECORDED: Mapping[type, frozenset[str]] = {
    Partner: frozenset({"code", "name", "standing", "time_zone", "languages", "iso3", "m49", "active"}),
    DutyOffice: frozenset({"name"}),
    Contact: frozenset({"title", "languages"}),
    ContactPoint: frozenset({"channel", "delay_seconds", "verified_at", "confirmed_at"}),
    Rota: frozenset(
        {
            "name",
            "time_zone",
            "layers",
            "holiday_calendar",
            "extra_holidays",
            "signs_hand_over",
            "notice_hours",
        }
    ),
    Override: frozenset({"contact_id", "start_at", "end_at", "deputy_id"}),
    Replacement: frozenset({"name", "start_at", "end_at", "layers"}),
    ImportedShift: frozenset({"calendar_id", "contact_id", "start_at", "end_at"}),
    EscalationPolicy: frozenset({"levels"}),
    Endpoint: frozenset({"created_at"}),
    Credential: frozenset({"client_id", "kind", "roles", "contact_id", "revoked_at", "version"}),
}
"""Fields whose values the record keeps; of all others it only says that they changed."""


@dataclass(frozen=True, slots=True)
class Placed:
    """An object without its parts, what it belongs to (a contact, office or rota), and its place among its like."""

    value: Object
    owner_id: UUID | None
    place: int


@dataclass(frozen=True, slots=True)
class Changed:
    """One object that was created (`before` is None), removed (`after` is None), changed, or only moved."""

    id: UUID
    before: Placed | None
    after: Placed | None

    @property
    def type(self) -> type[Object]:
        """What kind of object it is."""
        placed = self.after or self.before
        assert placed is not None, "a change has a before or an after"
        return type(placed.value)

    @property
    def only_moved(self) -> bool:
        """Whether nothing but its place is another one."""
        return self.before is not None and self.after is not None and self.before.value == self.after.value


def changes(before: PartnerState | None, after: PartnerState) -> tuple[Changed, ...]:
    """Every object that differs, those that others may name first."""
    old, new = (dict(_objects(before)) if before is not None else {}), dict(_objects(after))
    differing = (Changed(key, old.get(key), new.get(key)) for key in {**old, **new} if old.get(key) != new.get(key))
    return tuple(sorted(differing, key=lambda changed: list(NOUNS).index(changed.type)))


def recorded(changed: Changed) -> tuple[str, dict[str, Any]]:
    """The kind of the record row (`contact.changed`) and what it may say."""
    before = changed.before.value if changed.before is not None else None
    after = changed.after.value if changed.after is not None else None
    verb = "created" if before is None else "removed" if after is None else "changed"
    differing = sorted(
        field.name
        for field in fields(changed.type)
        if before is None or after is None or getattr(before, field.name) != getattr(after, field.name)
    )
    kept = [name for name in differing if name in _RECORDED[changed.type]]
    data: dict[str, Any] = {"fields": differing if verb == "changed" else []}
    for moment, value in (("before", before), ("after", after)):
        if value is not None:
            data[moment] = {name: plain(getattr(value, name)) for name in kept}
    return f"{NOUNS[changed.type]}.{verb}", data


def entries(changed: Iterable[Changed]) -> Iterator[tuple[UUID, str, dict[str, Any]]]:
    """What the record says of all changes: object, kind and data. Of what only moved it says nothing."""
    imported: dict[UUID, list[Changed]] = defaultdict(list)
    for one in changed:
        if one.type is ImportedShift:
            imported[_rota_of(one)].append(one)
        elif not one.only_moved:
            yield (one.id, *recorded(one))
    for rota_id, ones in imported.items():
        yield rota_id, "calendar.imported", _counted(ones)


def _rota_of(one: Changed) -> UUID:
    placed = one.after or one.before
    owner_id = placed.owner_id if placed is not None else None
    assert owner_id is not None, "an imported shift belongs to a rota"
    return owner_id


def _counted(ones: Sequence[Changed]) -> dict[str, Any]:
    """How many shifts came, went and changed, of which calendars, and between which instants."""
    placed = [one for changed in ones for one in (changed.before, changed.after) if one is not None]
    shifts = [one.value for one in placed if isinstance(one.value, ImportedShift)]
    return {
        "added": sum(1 for one in ones if one.before is None),
        "removed": sum(1 for one in ones if one.after is None),
        "changed": sum(1 for one in ones if one.before is not None and one.after is not None),
        "calendars": sorted({str(shift.calendar_id) for shift in shifts}),
        "from_at": min(shift.start_at for shift in shifts).isoformat(),
        "until_at": max(shift.end_at for shift in shifts).isoformat(),
    }


def in_order(shifts: Iterable[ImportedShift]) -> tuple[ImportedShift, ...]:
    """Imported shifts in the one order in which a rota keeps them: by their beginning, their calendar, and their id."""
    return tuple(sorted(shifts, key=lambda shift: (shift.start_at, shift.calendar_id, shift.id)))


def plain(value: Any) -> Any:
    """A value as JSON can hold it."""
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (tuple, list)):
        return [plain(part) for part in value]
    if isinstance(value, (UUID, StrEnum)):
        return str(value)
    return value.isoformat() if isinstance(value, (datetime, date, time)) else value


def _objects(state: PartnerState) -> Iterator[tuple[UUID, Placed]]:
    code = state.partner.code
    yield partner_id(code), Placed(state.partner, None, 0)
    for office_place, office in enumerate(state.offices):
        yield office.id, Placed(replace(office, points=()), None, office_place)
        yield from _points(office.id, office.points)
    for contact_place, contact in enumerate(state.contacts):
        yield contact.id, Placed(replace(contact, points=()), None, contact_place)
        yield from _points(contact.id, contact.points)
    for rota_place, rota in enumerate(state.rotas):
        yield rota.id, Placed(replace(rota, overrides=(), replacements=(), imported=()), None, rota_place)
        for override_place, override in enumerate(rota.overrides):
            yield override.id, Placed(override, rota.id, override_place)
        for replacement_place, replacement in enumerate(rota.replacements):
            yield replacement.id, Placed(replacement, rota.id, replacement_place)
        for shift in rota.imported:
            # In the order of time: a place of its own for each would make every import rewrite all that follow.
            yield shift.id, Placed(shift, rota.id, 0)
    if state.policy.levels:
        yield policy_id(code), Placed(state.policy, None, 0)
    for endpoint_place, endpoint in enumerate(state.endpoints):
        yield endpoint.id, Placed(endpoint, None, endpoint_place)
    for credential_place, credential in enumerate(state.credentials):
        yield credential_id(credential.client_id), Placed(credential, None, credential_place)


def _points(owner_id: UUID, points: Sequence[ContactPoint]) -> Iterator[tuple[UUID, Placed]]:
    for place, point in enumerate(points):
        yield point.id, Placed(point, owner_id, place)
