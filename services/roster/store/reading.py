"""Partners whole or in part, what everybody may know of them, and what stands beside them.

Rows are locked in the order of codes. Whoever needs several things of one instant reads them after the partner, in the
same transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

from sqlalchemy import Text, Uuid, any_, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY

from services.roster import documents
from services.roster.documents import partner_of, state_of, unopened
from services.roster.domain import Partner, PartnerState
from services.roster.hand_overs.domain import LOOKED_BACK
from services.roster.schedule import EARLIEST_AT, LATEST_AT, ON_CALL_HORIZON_DAYS
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
    replacements,
    rotas,
    seeded_hashes,
)
from shared.contracts import Deadlines, Precedence
from shared.db import Transaction, raw
from shared.ids import PartnerCode
from shared.keys import KeyRing, point_context

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
    found = await read_documents(tx, documents.WITHOUT_ADDRESSES, [code])
    return _stored(found[0], state_of(found[0]["document"], unopened)) if found else None


async def find_answering(tx: Transaction, code: str, *, at: datetime) -> PartnerState | None:
    """What says who answers at an instant: offices, people, levels, and rotas with what is around that instant.

    Contact points, endpoints and credentials are not read. One statement, so it needs no transaction around it.
    """
    window = around(at - ANSWERING_BEFORE), around(at + ANSWERING_AFTER)
    found = await read_documents(tx, documents.ANSWERING, [code], *window)
    return _answering(found[0]["document"]) if found else None


@lru_cache(maxsize=ANSWERING_KEPT)
def _answering(document: str) -> PartnerState:
    return state_of(document, unopened)


def around(at: datetime) -> datetime:
    """The instant, or the end of the time that rotas know."""
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
    wanted = select(seeded_hashes).where(seeded_hashes.c.id == any_(uuids(ids)))
    return {row.id: row.content_hash for row in await tx.execute(wanted)}


async def find_client_partners(tx: Transaction, client_ids: Collection[str]) -> dict[str, PartnerCode]:
    """Whose each of these client ids is."""
    table = issued_credentials.c
    wanted = select(table.client_id, table.partner).where(table.client_id == any_(_texts(client_ids)))
    return {row.client_id: PartnerCode(row.partner) for row in await tx.execute(wanted)}


async def find_taken_ids(tx: Transaction, ids: Collection[UUID]) -> set[UUID]:
    """Those of these ids that something of any partner has."""
    wanted = [
        select(table.c.id).where(table.c.id == any_(uuids(ids)))
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


async def _whole(tx: Transaction, keys: KeyRing, codes: Sequence[str]) -> dict[PartnerCode, StoredPartner]:
    def opened(point_id: UUID, encrypted: str) -> str:
        return keys.decrypt(encrypted, context=point_context(point_id))

    return {
        PartnerCode(row["code"]): _stored(row, state_of(row["document"], opened))
        for row in await read_documents(tx, documents.WHOLE, codes)
    }


async def read_documents(tx: Transaction, reading: documents.Reading, *parameters: Any) -> list[Any]:
    """A row for each partner that was found, with its document."""
    connection = await raw(tx)
    return await connection.fetch(reading.statement, *parameters)


def _stored(row: Mapping[str, Any], state: PartnerState) -> StoredPartner:
    return StoredPartner(state, row["version"], row["plan_asked"], row["plan_due_at"], row["plan_version"])


def _texts(values: Collection[str]) -> Any:
    """Texts as one array parameter: however many there are, the statement stays the same."""
    return bindparam(None, sorted(values), type_=ARRAY(Text), unique=True)


def uuids(values: Collection[UUID]) -> Any:
    """Ids as one array parameter."""
    return bindparam(None, sorted(values), type_=ARRAY(Uuid), unique=True)
