"""What changed of a partner becomes rows; deadlines; and what network files have written."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from sqlalchemy import Table, any_, delete, update
from sqlalchemy.dialects.postgresql import insert

from services.roster.changes import Changed, Placed, plain
from services.roster.domain import (
    Contact,
    ContactPoint,
    Credential,
    DutyOffice,
    Endpoint,
    EscalationPolicy,
    Partner,
)
from services.roster.schedule import ImportedShift, Override, Replacement, Rota
from services.roster.store.reading import uuids
from services.roster.store.tables import (
    contact_points,
    contacts,
    deadlines,
    endpoints,
    imported_shifts,
    issued_credentials,
    offices,
    overrides,
    partners,
    point_health,
    policies,
    replacements,
    rotas,
    seeded_hashes,
)
from shared.contracts import Deadlines, Precedence
from shared.db import Transaction
from shared.keys import KeyRing, point_context


async def save_partner(
    tx: Transaction, keys: KeyRing, partner: Partner, changed: Iterable[Changed], *, now: datetime
) -> int:
    """Writes what changed of one partner, counts its version up and asks for a new duty plan; returns the version.

    The caller holds the partner's row, or the network's lock if it is a new one.
    """
    values = {
        "code": partner.code,
        "name": partner.name,
        "standing": partner.standing.value,
        "time_zone": partner.time_zone,
        "languages": list(partner.languages),
        "iso3": partner.iso3,
        "m49": partner.m49,
        "active": partner.active,
        "changed_at": now,
        "plan_due_at": now,
    }
    counted = {"version": partners.c.version + 1, "plan_asked": partners.c.plan_asked + 1}
    written = await tx.execute(
        insert(partners)
        .values(**values, version=1, plan_asked=1, plan_version=0, plan_failures=0)
        .on_conflict_do_update(index_elements=["code"], set_={**values, **counted})
        .returning(partners.c.version)
    )
    version = int(written.scalar_one())
    by_type: dict[type, list[Changed]] = defaultdict(list)
    for one in changed:
        by_type[one.type].append(one)
    for kind, (table, row_of) in _WRITTEN.items():
        await _write(tx, table, by_type.get(kind, []), partner.code, partial(row_of, keys))
    for one in by_type.get(EscalationPolicy, []):
        assert one.after is not None, "a policy is replaced and never removed"
        levels = plain(one.after.value.levels) if isinstance(one.after.value, EscalationPolicy) else []
        kept = insert(policies).values(partner=partner.code, levels=levels)
        await tx.execute(kept.on_conflict_do_update(index_elements=["partner"], set_={"levels": levels}))
    return version


async def _write(
    tx: Transaction,
    table: Table,
    changed: Sequence[Changed],
    partner: str,
    row_of: Callable[[Placed], dict[str, Any]],
) -> None:
    key = next(iter(table.primary_key.columns))
    rows = [{**row_of(one.after), "partner": partner, "place": one.after.place} for one in changed if one.after]
    if rows:
        statement = insert(table)
        replaced = {name: statement.excluded[name] for name in rows[0] if name != key.name}
        await tx.execute(statement.on_conflict_do_update(index_elements=[key.name], set_=replaced), rows)
    removed = [one.id for one in changed if one.after is None]
    if removed:
        await tx.execute(delete(table).where(key == any_(uuids(removed)), table.c.partner == partner))
    elsewhere = [one.id for one in changed if one.before and _address(one.before) != _address(one.after)]
    if elsewhere:
        await tx.execute(delete(point_health).where(point_health.c.contact_point_id == any_(uuids(elsewhere))))


def _address(placed: Placed | None) -> str | None:
    """Where a contact point or endpoint leads; what is known of its health is about that."""
    match placed.value if placed is not None else None:
        case ContactPoint(address=address) | Endpoint(url=address):
            return address
    return None


def _office_row(_keys: KeyRing, placed: Placed) -> dict[str, Any]:
    office = placed.value
    assert isinstance(office, DutyOffice)
    return {
        "id": office.id,
        "name": office.name,
        "switchboard": office.switchboard,
        "embassies": plain(office.embassies),
    }


def _contact_row(_keys: KeyRing, placed: Placed) -> dict[str, Any]:
    contact = placed.value
    assert isinstance(contact, Contact)
    return {
        "id": contact.id,
        "name": contact.name,
        "title": contact.title,
        "languages": list(contact.languages),
        "time_zone": contact.time_zone,
    }


def _point_row(keys: KeyRing, placed: Placed) -> dict[str, Any]:
    point = placed.value
    assert isinstance(point, ContactPoint)
    return {
        "id": point.id,
        "owner_id": placed.owner_id,
        "channel": point.channel.value,
        "encrypted_address": keys.encrypt(point.address, context=point_context(point.id)),
        "label": point.label,
        "verified_at": point.verified_at,
        "confirmed_at": point.confirmed_at,
        "delay_seconds": point.delay_seconds,
        # Another address has no sealed form yet; its next duty plan has it made.
        "sealed_address": None,
        "sealing_key": None,
    }


def _rota_row(_keys: KeyRing, placed: Placed) -> dict[str, Any]:
    rota = placed.value
    assert isinstance(rota, Rota)
    return {
        "id": rota.id,
        "name": rota.name,
        "time_zone": rota.time_zone,
        "layers": plain(rota.layers),
        "holiday_calendar": rota.holiday_calendar,
        "extra_holidays": plain(rota.extra_holidays),
        "signs_hand_over": rota.signs_hand_over,
        "notice_hours": list(rota.notice_hours),
    }


def _override_row(_keys: KeyRing, placed: Placed) -> dict[str, Any]:
    override = placed.value
    assert isinstance(override, Override)
    return {
        "id": override.id,
        "rota_id": placed.owner_id,
        "contact_id": override.contact_id,
        "start_at": override.start_at,
        "end_at": override.end_at,
        "deputy_id": override.deputy_id,
    }


def _replacement_row(_keys: KeyRing, placed: Placed) -> dict[str, Any]:
    replacement = placed.value
    assert isinstance(replacement, Replacement)
    return {
        "id": replacement.id,
        "rota_id": placed.owner_id,
        "name": replacement.name,
        "start_at": replacement.start_at,
        "end_at": replacement.end_at,
        "layers": plain(replacement.layers),
    }


def _imported_row(_keys: KeyRing, placed: Placed) -> dict[str, Any]:
    shift = placed.value
    assert isinstance(shift, ImportedShift)
    return {
        "id": shift.id,
        "rota_id": placed.owner_id,
        "calendar_id": shift.calendar_id,
        "contact_id": shift.contact_id,
        "start_at": shift.start_at,
        "end_at": shift.end_at,
    }


def _endpoint_row(keys: KeyRing, placed: Placed) -> dict[str, Any]:
    endpoint = placed.value
    assert isinstance(endpoint, Endpoint)
    return {
        "id": endpoint.id,
        "encrypted_url": keys.encrypt(endpoint.url, context=point_context(endpoint.id)),
        "description": endpoint.description,
        "created_at": endpoint.created_at,
        "sealed_url": None,
        "sealing_key": None,
    }


def _credential_row(_keys: KeyRing, placed: Placed) -> dict[str, Any]:
    credential = placed.value
    assert isinstance(credential, Credential)
    return {
        "client_id": credential.client_id,
        "kind": credential.kind.value,
        "name": credential.name,
        "roles": [role.value for role in credential.roles],
        "contact_id": credential.contact_id,
        "secret_sha256": credential.secret_sha256,
        "revoked_at": credential.revoked_at,
        "version": credential.version,
    }


_WRITTEN: Mapping[type, tuple[Table, Callable[[KeyRing, Placed], dict[str, Any]]]] = {
    DutyOffice: (offices, _office_row),
    Contact: (contacts, _contact_row),
    ContactPoint: (contact_points, _point_row),
    Rota: (rotas, _rota_row),
    Override: (overrides, _override_row),
    Replacement: (replacements, _replacement_row),
    ImportedShift: (imported_shifts, _imported_row),
    Endpoint: (endpoints, _endpoint_row),
    Credential: (issued_credentials, _credential_row),
}


async def save_deadlines(
    tx: Transaction, table: Mapping[Precedence, Deadlines], *, version: int, now: datetime
) -> None:
    """Writes these deadlines as one version and asks for a new duty plan of every partner."""
    rows = [
        {"precedence": precedence.value, **given.model_dump(), "version": version}
        for precedence, given in table.items()
    ]
    statement = insert(deadlines)
    replaced = {name: statement.excluded[name] for name in rows[0] if name != "precedence"}
    await tx.execute(statement.on_conflict_do_update(index_elements=["precedence"], set_=replaced), rows)
    await tx.execute(update(partners).values(plan_asked=partners.c.plan_asked + 1, plan_due_at=now))


async def save_seeded(tx: Transaction, hashes: Mapping[UUID, str]) -> None:
    """Remembers what a network file has written."""
    if hashes:
        rows = [{"id": key, "content_hash": content_hash} for key, content_hash in hashes.items()]
        statement = insert(seeded_hashes)
        replaced = {"content_hash": statement.excluded.content_hash}
        await tx.execute(statement.on_conflict_do_update(index_elements=["id"], set_=replaced), rows)
