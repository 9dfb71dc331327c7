"""The rows of roster. `load_*` locks, `find_*` does not.

    partners            one row each, with `version` (counts every change, the ETag) and the state of its duty plan
    offices, contacts, contact_points, rotas, overrides, replacements, policies, endpoints, issued_credentials
                        what a partner owns, in its order (`place`)
    imported_shifts     what the partner's own calendars say of a rota, in the order of time
    deadlines           the network's table
    seeded_hashes       what a network file last wrote of an object, kept when the object is removed
    point_health        what escalation says about contact points and endpoints

Whoever writes for a partner holds its row's lock, which orders all writes of one partner; network files also hold one
lock together, so that two of them never create the same thing. Addresses are encrypted, each bound to its own id; the
form in which they leave, sealed for escalation, lies beside them with the name of the sealing key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache, partial
from typing import Any
from uuid import UUID

from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Index,
    Integer,
    Table,
    Text,
    Uuid,
    any_,
    bindparam,
    delete,
    func,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert

from services.roster import documents
from services.roster.changes import Changed, Placed, plain
from services.roster.documents import partner_of, state_of, unopened
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
from services.roster.hand_overs.domain import LOOKED_BACK
from services.roster.schedule import (
    EARLIEST_AT,
    LATEST_AT,
    ON_CALL_HORIZON_DAYS,
    ImportedShift,
    Override,
    Replacement,
    Rota,
)
from shared.contracts import Deadlines, Precedence
from shared.db import Transaction, raw, service_metadata
from shared.ids import PartnerCode
from shared.keys import KeyRing, point_context

metadata = service_metadata()

READ_AT_ONCE = 5
"""Partners that are read and put together in one go: between them the event loop serves others."""

_NETWORK_LOCK = 0x52_50_4E_45_54
"""Names the advisory lock of network files."""

_ONE_SNAPSHOT = "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"
"""What is read beside a partner, in the same transaction, is of the same instant."""

ANSWERING_KEPT = 256
"""So many partners, as they were last read, are not put together again: to do so takes as long as to read them."""

ANSWERING_BEFORE = max(LOOKED_BACK) + timedelta(days=1)
ANSWERING_AFTER = timedelta(days=ON_CALL_HORIZON_DAYS + 1)
"""How far around an instant anything of a rota can matter to who answers then, the change before included."""


def _at(name: str, *, nullable: bool = True) -> Column[datetime]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


def _owned(name: str, *columns: Any, key: str = "id") -> Table:
    """A table of things that a partner owns, in its order."""
    return Table(
        name,
        metadata,
        Column(key, Text if key == "client_id" else Uuid, primary_key=True),
        Column("partner", Text, nullable=False),
        *columns,
        Column("place", Integer, nullable=False),
        Index(f"ix_{name}_partner", "partner"),
    )


partners = Table(
    "partners",
    metadata,
    Column("code", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("standing", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("languages", ARRAY(Text), nullable=False),
    Column("iso3", Text),
    Column("m49", Text),
    Column("active", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
    _at("changed_at", nullable=False),
    Column("plan_asked", Integer, nullable=False),
    _at("plan_due_at", nullable=False),
    Column("plan_version", Integer, nullable=False),
    _at("plan_computed_at"),
    _at("plan_valid_until"),
    Column("plan_failures", Integer, nullable=False),
    Index("ix_partners_plan_due_at", "plan_due_at"),
)

offices = _owned(
    "offices",
    Column("name", Text, nullable=False),
    Column("switchboard", Text),
    Column("embassies", JSONB, nullable=False),
)

contacts = _owned(
    "contacts",
    Column("name", Text, nullable=False),
    Column("title", Text, nullable=False),
    Column("languages", ARRAY(Text), nullable=False),
    Column("time_zone", Text),
)

contact_points = _owned(
    "contact_points",
    Column("owner_id", Uuid, nullable=False),
    Column("channel", Text, nullable=False),
    Column("encrypted_address", Text, nullable=False),
    Column("label", Text),
    _at("verified_at"),
    _at("confirmed_at"),
    Column("delay_seconds", Integer, nullable=False, server_default=text("0")),
    Column("sealed_address", Text),
    Column("sealing_key", Text),
)

rotas = _owned(
    "rotas",
    Column("name", Text, nullable=False),
    Column("time_zone", Text, nullable=False),
    Column("layers", JSONB, nullable=False),
    Column("holiday_calendar", Text),
    Column("extra_holidays", JSONB, nullable=False, server_default=text("'[]'")),
    Column("signs_hand_over", Boolean, nullable=False, server_default=text("false")),
    Column("notice_hours", ARRAY(Integer), nullable=False, server_default=text("'{24}'")),
)

overrides = _owned(
    "overrides",
    Column("rota_id", Uuid, nullable=False),
    Column("contact_id", Uuid),
    _at("start_at", nullable=False),
    _at("end_at", nullable=False),
    Column("deputy_id", Uuid),
)

replacements = _owned(
    "replacements",
    Column("rota_id", Uuid, nullable=False),
    Column("name", Text, nullable=False),
    _at("start_at", nullable=False),
    _at("end_at", nullable=False),
    Column("layers", JSONB, nullable=False),
)

imported_shifts = _owned(
    "imported_shifts",
    Column("rota_id", Uuid, nullable=False),
    Column("calendar_id", Uuid, nullable=False),
    Column("contact_id", Uuid, nullable=False),
    _at("start_at", nullable=False),
    _at("end_at", nullable=False),
)

policies = Table(
    "policies",
    metadata,
    Column("partner", Text, primary_key=True),
    Column("levels", JSONB, nullable=False),
)

endpoints = _owned(
    "endpoints",
    Column("encrypted_url", Text, nullable=False),
    Column("description", Text, nullable=False),
    _at("created_at"),
    Column("sealed_url", Text),
    Column("sealing_key", Text),
)

issued_credentials = _owned(
    "issued_credentials",
    Column("kind", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("roles", ARRAY(Text), nullable=False),
    Column("contact_id", Uuid),
    Column("secret_sha256", Text, nullable=False),
    _at("revoked_at"),
    Column("version", Integer, nullable=False),
    key="client_id",
)

deadlines = Table(
    "deadlines",
    metadata,
    Column("precedence", Text, primary_key=True),
    Column("acknowledge_within_seconds", Integer, nullable=False),
    Column("next_level_every_seconds", Integer),
    Column("unreached_after_seconds", Integer, nullable=False),
    Column("position_within_seconds", Integer, nullable=False),
    Column("read_back", Boolean, nullable=False, server_default=text("false")),
    Column("version", Integer, nullable=False),
)

seeded_hashes = Table(
    "seeded_hashes",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("content_hash", Text, nullable=False),
)

point_health = Table(
    "point_health",
    metadata,
    Column("contact_point_id", Uuid, primary_key=True),
    Column("partner", Text, nullable=False),
    Column("failing", Boolean, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("reason", Text),
    _at("since_at", nullable=False),
    _at("said_at", nullable=False),
    Column("hard", Boolean, nullable=False, server_default=text("false")),
    Index("ix_point_health_partner", "partner"),
)


# --- reading ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StoredPartner:
    """A partner with all that it owns, and what its row counts."""

    state: PartnerState
    version: int
    plan_asked: int
    plan_due_at: datetime
    plan_version: int


@dataclass(frozen=True, slots=True)
class StoredDeadlines:
    """The network's table of deadlines; version 0 is a table that nobody has written."""

    table: Mapping[Precedence, Deadlines]
    version: int


async def lock_network(tx: Transaction) -> None:
    """Waits until no other transaction creates partners or changes deadlines."""
    await tx.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _NETWORK_LOCK})


async def load_partner(tx: Transaction, keys: KeyRing, code: str) -> StoredPartner | None:
    """One partner whole, its row locked; None if there is none."""
    return (await load_partners(tx, keys, [code])).get(PartnerCode(code))


async def load_partners(tx: Transaction, keys: KeyRing, codes: Collection[str]) -> dict[PartnerCode, StoredPartner]:
    """Those of these partners that exist, whole, their rows locked in the order of their codes."""
    connection = await raw(tx)
    # Locked by a statement of its own: what is read then is what whoever had the lock has left.
    lock = "SELECT code FROM partners WHERE code = ANY($1) ORDER BY code FOR UPDATE"
    found = [row["code"] for row in await connection.fetch(lock, sorted(codes))]
    stored: dict[PartnerCode, StoredPartner] = {}
    for first in range(0, len(found), READ_AT_ONCE):
        stored |= await _whole(tx, keys, found[first : first + READ_AT_ONCE])
    return stored


async def find_partner(tx: Transaction, keys: KeyRing, code: str) -> StoredPartner | None:
    """One partner whole, all of one instant, whoever edits it meanwhile; None if there is none.

    The first statement of its transaction: from here on, all that it reads is of that instant.
    """
    await (await raw(tx)).execute(_ONE_SNAPSHOT)
    return (await _whole(tx, keys, [code])).get(PartnerCode(code))


async def find_without_addresses(tx: Transaction, code: str) -> StoredPartner | None:
    """As `find_partner`, for whoever looks at people and rotas: every address and URL is empty, nothing is opened."""
    await (await raw(tx)).execute(_ONE_SNAPSHOT)
    found = await _documents(tx, documents.WITHOUT_ADDRESSES, [code])
    return _stored(found[0], state_of(found[0]["document"], unopened)) if found else None


async def find_answering(tx: Transaction, code: str, *, at: datetime) -> PartnerState | None:
    """What says who answers at an instant: offices, people, levels, and rotas with what is around that instant.

    Contact points, endpoints and credentials are not read. One statement, so it needs no transaction around it.
    """
    window = _around(at - ANSWERING_BEFORE), _around(at + ANSWERING_AFTER)
    found = await _documents(tx, documents.ANSWERING, [code], *window)
    return _answering(found[0]["document"]) if found else None


@lru_cache(maxsize=ANSWERING_KEPT)
def _answering(document: str) -> PartnerState:
    return state_of(document, unopened)


def _around(at: datetime) -> datetime:
    return min(max(at, EARLIEST_AT), LATEST_AT)


@dataclass(frozen=True, slots=True)
class PartnerSummary:
    """What everybody may know of a partner."""

    partner: Partner
    office: str | None
    version: int


async def find_summaries(tx: Transaction, *, after: str | None, limit: int) -> list[PartnerSummary]:
    """Partners in the order of their codes, with the name of the first office of each."""
    first_office = (
        select(offices.c.name)
        .where(offices.c.partner == partners.c.code)
        .order_by(offices.c.place, offices.c.id)
        .limit(1)
        .scalar_subquery()
    )
    found = select(partners, first_office.label("office")).order_by(partners.c.code).limit(limit)
    if after is not None:
        found = found.where(partners.c.code > after)
    return [PartnerSummary(partner_of(row), row.office, row.version) for row in await tx.execute(found)]


async def find_summary(tx: Transaction, code: str) -> PartnerSummary | None:
    """What everybody may know of one partner."""
    row = (await tx.execute(select(partners).where(partners.c.code == code))).first()
    if row is None:
        return None
    first = select(offices.c.name).where(offices.c.partner == code).order_by(offices.c.place, offices.c.id).limit(1)
    return PartnerSummary(partner_of(row), (await tx.execute(first)).scalar_one_or_none(), row.version)


async def find_deadlines(tx: Transaction) -> StoredDeadlines:
    """The deadlines that were written, by precedence."""
    rows = (await tx.execute(select(deadlines))).all()
    table = {
        Precedence(row.precedence): Deadlines(
            acknowledge_within_seconds=row.acknowledge_within_seconds,
            next_level_every_seconds=row.next_level_every_seconds,
            unreached_after_seconds=row.unreached_after_seconds,
            position_within_seconds=row.position_within_seconds,
            read_back=row.read_back,
        )
        for row in rows
    }
    return StoredDeadlines(table, max((row.version for row in rows), default=0))


async def find_seeded(tx: Transaction, ids: Collection[UUID]) -> dict[UUID, str]:
    """What network files have written, of those objects of these ids that they have written at all."""
    wanted = select(seeded_hashes).where(seeded_hashes.c.id == any_(_uuids(ids)))
    return {row.id: row.content_hash for row in await tx.execute(wanted)}


async def find_client_partners(tx: Transaction, client_ids: Collection[str]) -> dict[str, PartnerCode]:
    """Whose each of these client ids is."""
    table = issued_credentials.c
    wanted = select(table.client_id, table.partner).where(table.client_id == any_(_texts(client_ids)))
    return {row.client_id: PartnerCode(row.partner) for row in await tx.execute(wanted)}


async def find_taken_ids(tx: Transaction, ids: Collection[UUID]) -> set[UUID]:
    """Those of these ids that something of any partner has."""
    wanted = [
        select(table.c.id).where(table.c.id == any_(_uuids(ids)))
        for table in (
            offices,
            contacts,
            contact_points,
            rotas,
            overrides,
            replacements,
            imported_shifts,
            endpoints,
        )
    ]
    found: set[UUID] = set()
    for statement in wanted:
        found |= set((await tx.execute(statement)).scalars())
    return found


@dataclass(frozen=True, slots=True)
class Health:
    """A contact point or endpoint that fails; `hard` if a provider says that nobody can be reached there."""

    failures: int
    reason: str | None
    since_at: datetime
    hard: bool = False


async def find_failing(tx: Transaction, code: str) -> dict[UUID, Health]:
    """The contact points and endpoints of a partner that fail now."""
    table = point_health.c
    wanted = select(point_health).where(table.partner == code, table.failing)
    found = await tx.execute(wanted)
    return {row.contact_point_id: Health(row.failures, row.reason, row.since_at, row.hard) for row in found}


async def _whole(tx: Transaction, keys: KeyRing, codes: Sequence[str]) -> dict[PartnerCode, StoredPartner]:
    def opened(point_id: UUID, encrypted: str) -> str:
        return keys.decrypt(encrypted, context=point_context(point_id))

    return {
        PartnerCode(row["code"]): _stored(row, state_of(row["document"], opened))
        for row in await _documents(tx, documents.WHOLE, codes)
    }


async def _documents(tx: Transaction, reading: documents.Reading, *parameters: Any) -> list[Any]:
    connection = await raw(tx)
    return await connection.fetch(reading.statement, *parameters)


def _stored(row: Mapping[str, Any], state: PartnerState) -> StoredPartner:
    return StoredPartner(state, row["version"], row["plan_asked"], row["plan_due_at"], row["plan_version"])


# --- writing ----------------------------------------------------------------------------------------------------------


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
        await tx.execute(delete(table).where(key == any_(_uuids(removed)), table.c.partner == partner))
    elsewhere = [one.id for one in changed if one.before and _address(one.before) != _address(one.after)]
    if elsewhere:
        await tx.execute(delete(point_health).where(point_health.c.contact_point_id == any_(_uuids(elsewhere))))


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


async def save_health(
    tx: Transaction, point_id: UUID, partner: str, health: Health, *, failing: bool, said_at: datetime
) -> bool:
    """Keeps what escalation says of a contact point or endpoint of this partner; False if something newer is known.

    A point that the partner does not have (any more) is passed over.
    """
    for table in (contact_points, endpoints):
        known = select(table.c.id).where(table.c.id == point_id, table.c.partner == partner)
        if (await tx.execute(known)).first() is not None:
            break
    else:
        return False
    values = {
        "failing": failing,
        "failures": health.failures,
        "reason": health.reason,
        "since_at": health.since_at,
        "said_at": said_at,
        "hard": health.hard,
    }
    said = insert(point_health).values(contact_point_id=point_id, partner=partner, **values)
    written = await tx.execute(
        said.on_conflict_do_update(
            index_elements=["contact_point_id"], set_=values, where=point_health.c.said_at < said_at
        ).returning(point_health.c.contact_point_id)
    )
    return written.first() is not None


async def forget_hard_failure(tx: Transaction, point_id: UUID) -> None:
    """A code has come back from a point of which a provider had said that nobody can be reached there."""
    table = point_health.c
    await tx.execute(
        update(point_health).where(table.contact_point_id == point_id, table.hard).values(failing=False, hard=False)
    )


# --- duty plans -------------------------------------------------------------------------------------------------------


async def find_plans_due(tx: Transaction, *, now: datetime, limit: int) -> list[PartnerCode]:
    """Partners whose duty plan is due, the longest waiting first."""
    due = select(partners.c.code).where(partners.c.plan_due_at <= now)
    found = await tx.execute(due.order_by(partners.c.plan_due_at, partners.c.code).limit(limit))
    return [PartnerCode(code) for code in found.scalars()]


@dataclass(frozen=True, slots=True)
class DueState:
    """A partner as its next duty plan is made of it: a document with sealed forms in place of addresses."""

    code: PartnerCode
    document: str
    plan_asked: int
    plan_due_at: datetime
    plan_version: int


async def find_for_plans(
    tx: Transaction, codes: Sequence[str], *, from_at: datetime, to_at: datetime, sealing_key: str
) -> list[DueState]:
    """What duty plans of these partners are made of; of overrides and the like what lies in a window.

    A point or endpoint that is not sealed with this key has no sealed form in the document.
    """
    found = await _documents(tx, documents.FOR_PLANS, codes, _around(from_at), _around(to_at), sealing_key)
    return [
        DueState(PartnerCode(row["code"]), row["document"], row["plan_asked"], row["plan_due_at"], row["plan_version"])
        for row in found
    ]


@dataclass(frozen=True, slots=True)
class Unsealed:
    """A contact point or endpoint without the sealed form that is wanted."""

    id: UUID
    encrypted: str


_UNSEALED = """
SELECT id, encrypted_address AS encrypted FROM contact_points
WHERE partner = ANY($1) AND sealing_key IS DISTINCT FROM $2
UNION ALL
SELECT id, encrypted_url FROM endpoints WHERE partner = ANY($1) AND sealing_key IS DISTINCT FROM $2
"""


async def find_unsealed(tx: Transaction, codes: Sequence[str], *, sealing_key: str) -> list[Unsealed]:
    """What of these partners was never sealed since it was written, or with another key than this one."""
    rows = await (await raw(tx)).fetch(_UNSEALED, codes, sealing_key)
    return [Unsealed(row["id"], row["encrypted"]) for row in rows]


async def save_sealed(tx: Transaction, sealed: Sequence[tuple[Unsealed, str]], *, sealing_key: str) -> None:
    """Keeps sealed forms, unless an address has changed meanwhile: whoever changed it has sealed it."""
    connection = await raw(tx)
    values = [one.id for one, _ in sealed], [one.encrypted for one, _ in sealed], [text_ for _, text_ in sealed]
    for table, kept, form in (
        ("contact_points", "encrypted_address", "sealed_address"),
        ("endpoints", "encrypted_url", "sealed_url"),
    ):
        await connection.execute(
            f"UPDATE {table} AS t SET {form} = s.sealed, sealing_key = $4"  # noqa: S608 - our own names
            " FROM unnest($1::uuid[], $2::text[], $3::text[]) AS s(id, encrypted, sealed)"
            f" WHERE t.id = s.id AND t.{kept} = s.encrypted",
            *values,
            sealing_key,
        )


@dataclass(frozen=True, slots=True)
class SavedPlan:
    """A duty plan that takes the place of the one before: made of `plan_asked`, and the next one due at `due_at`."""

    code: PartnerCode
    plan_asked: int
    plan_version: int
    computed_at: datetime
    valid_until: datetime
    due_at: datetime


_LOCK_UNCHANGED = """
SELECT p.code FROM partners p JOIN unnest($1::text[], $2::int[], $3::int[]) AS w(code, plan_asked, plan_version)
    ON p.code = w.code AND p.plan_asked = w.plan_asked AND p.plan_version = w.plan_version - 1
ORDER BY p.code FOR UPDATE OF p SKIP LOCKED
"""
_SAVE_PLANS = """
UPDATE partners AS p SET plan_version = w.plan_version, plan_computed_at = w.computed_at,
    plan_valid_until = w.valid_until, plan_due_at = w.due_at, plan_failures = 0
FROM unnest($1::text[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[])
    AS w(code, plan_version, computed_at, valid_until, due_at)
WHERE p.code = w.code
"""


async def save_plans(tx: Transaction, plans: Sequence[SavedPlan]) -> set[PartnerCode]:
    """These duty plans are published, as far as nothing has asked for or published another one meanwhile.

    Returns the partners whose plans are; not those whose row somebody else holds: whoever that is changes it.
    """
    connection = await raw(tx)
    wanted = [[one.code for one in plans], [one.plan_asked for one in plans], [one.plan_version for one in plans]]
    found = {PartnerCode(row["code"]) for row in await connection.fetch(_LOCK_UNCHANGED, *wanted)}
    kept = [one for one in plans if one.code in found]
    await connection.execute(
        _SAVE_PLANS,
        [one.code for one in kept],
        [one.plan_version for one in kept],
        [one.computed_at for one in kept],
        [one.valid_until for one in kept],
        [one.due_at for one in kept],
    )
    return found


async def save_plan_failure(tx: Transaction, code: str, *, due_at: datetime) -> None:
    """The partner's duty plan could not be computed; the old one holds, and it is tried again at `due_at`."""
    table = partners.c
    await tx.execute(
        update(partners)
        .where(table.code == code)
        .values(plan_failures=table.plan_failures + 1, plan_due_at=func.greatest(table.plan_due_at, due_at))
    )


async def find_plan_troubles(tx: Transaction, *, now: datetime, ahead: timedelta) -> tuple[list[str], list[str]]:
    """Codes of the partners whose plan failed, and of those whose plan is due and ends less than `ahead` from now."""
    table = partners.c
    failed = await tx.execute(select(table.code).where(table.plan_failures > 0).order_by(table.code))
    ending = await tx.execute(
        select(table.code)
        .where(
            func.coalesce(table.plan_valid_until, table.changed_at + timedelta(days=14)) < now + ahead,
            or_(table.plan_due_at <= now, table.plan_failures > 0),
        )
        .order_by(table.code)
    )
    return list(failed.scalars()), list(ending.scalars())


def _texts(values: Collection[str]) -> Any:
    """Texts as one array parameter: however many there are, the statement stays the same."""
    return bindparam(None, sorted(values), type_=ARRAY(Text), unique=True)


def _uuids(values: Collection[UUID]) -> Any:
    return bindparam(None, sorted(values), type_=ARRAY(Uuid), unique=True)
