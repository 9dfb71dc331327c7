"""The rows of call trees: what everybody may know of each partner, and the editions as they are handed out.

call_tree_sheets    one for each active partner, in clear: it holds nothing of a person
call_trees          one for each edition: the document and its PDF, encrypted, because they hold people's numbers
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Column, DateTime, Integer, Table, Text, delete, func, literal, or_, select
from sqlalchemy.dialects.postgresql import insert

from services.roster.store import metadata, partners
from shared.db import Transaction
from shared.keys import KeyRing
from shared.security import INSTALLATION

NETWORK_EDITION = INSTALLATION
"""Names the edition that holds nobody's own people; no partner has this code."""


def _at(name: str, *, nullable: bool = False) -> Column[datetime]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


call_tree_sheets = Table(
    "call_tree_sheets",
    metadata,
    Column("partner", Text, primary_key=True),
    Column("partner_version", Integer, nullable=False),
    _at("made_at", nullable=True),
    _at("again_at", nullable=True),
    Column("document", Text),
)

call_trees = Table(
    "call_trees",
    metadata,
    Column("edition", Text, primary_key=True),
    _at("made_at", nullable=True),
    _at("due_at"),
    Column("failures", Integer, nullable=False),
    Column("inputs", Text, nullable=False),
    Column("encrypted_document", Text),
    Column("encrypted_pdf", Text),
)


# --- sheets -----------------------------------------------------------------------------------------------------------


async def find_sheets_due(
    tx: Transaction, *, now: datetime, settled: timedelta, age: timedelta, limit: int
) -> list[str]:
    """Active partners whose sheet is missing, of another version than they are, or of that age; the oldest first.

    A partner that was edited less than `settled` ago is left for later: more edits may follow. So is one whose sheet
    has failed, until it is to be tried again.
    """
    sheet, partner = call_tree_sheets.c, partners.c
    due = (
        select(partner.code)
        .join(call_tree_sheets, sheet.partner == partner.code, isouter=True)
        .where(
            partner.active,
            partner.changed_at <= now - settled,
            or_(sheet.again_at.is_(None), sheet.again_at <= now),
            or_(sheet.partner.is_(None), sheet.partner_version != partner.version, sheet.made_at <= now - age),
        )
        .order_by(sheet.made_at.asc().nulls_first(), partner.code)
        .limit(limit)
    )
    return list((await tx.execute(due)).scalars())


async def save_sheet(tx: Transaction, code: str, *, version: int, document: str, now: datetime) -> None:
    """Replaces a partner's sheet."""
    values = {"partner_version": version, "made_at": now, "again_at": None, "document": document}
    kept = insert(call_tree_sheets).values(partner=code, **values)
    await tx.execute(kept.on_conflict_do_update(index_elements=["partner"], set_=values))


async def save_sheet_failure(tx: Transaction, code: str, *, again_at: datetime) -> None:
    """A sheet could not be made; the old one stays, if there is one, and it is tried again then."""
    kept = insert(call_tree_sheets).values(partner=code, partner_version=0, again_at=again_at)
    await tx.execute(kept.on_conflict_do_update(index_elements=["partner"], set_={"again_at": again_at}))


async def drop_inactive(tx: Transaction) -> int:
    """Takes away sheets and editions of partners that take no part any more; returns how many."""
    taking_part = select(partners.c.code).where(partners.c.active)
    gone = [
        await tx.execute(delete(call_tree_sheets).where(call_tree_sheets.c.partner.not_in(taking_part))),
        await tx.execute(
            delete(call_trees).where(
                call_trees.c.edition.not_in(taking_part), call_trees.c.edition != literal(NETWORK_EDITION)
            )
        ),
    ]
    return sum(one.rowcount for one in gone)


async def find_sheets(tx: Transaction) -> list[str]:
    """All sheets as JSON."""
    table = call_tree_sheets.c
    return list((await tx.execute(select(table.document).where(table.document.is_not(None)))).scalars())


async def find_digest(tx: Transaction) -> str:
    """Names what all sheets say together: the same as long as none says anything else."""
    table = call_tree_sheets.c
    each = select(func.md5(table.document)).where(table.document.is_not(None)).order_by(table.partner)
    found = (await tx.execute(each)).scalars()
    return hashlib.sha256("".join(found).encode()).hexdigest()


# --- editions ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class EditionState:
    """When an edition was made and from what; `made_at` is `None` for one that could not be made yet."""

    made_at: datetime | None
    due_at: datetime
    failures: int
    inputs: str


@dataclass(frozen=True, slots=True)
class Edition:
    """A call tree as it is handed out: the document as JSON, and its PDF."""

    made_at: datetime
    document: str
    pdf: bytes


async def find_versions(tx: Transaction) -> dict[str, int]:
    """The version of every partner that has a sheet: only then it can have an edition."""
    table = call_tree_sheets.c
    found = select(table.partner, table.partner_version).where(table.document.is_not(None))
    return {row.partner: row.partner_version for row in await tx.execute(found)}


async def find_states(tx: Transaction) -> Mapping[str, EditionState]:
    """The states of all editions."""
    table = call_trees.c
    found = await tx.execute(select(table.edition, table.made_at, table.due_at, table.failures, table.inputs))
    return {row.edition: EditionState(row.made_at, row.due_at, row.failures, row.inputs) for row in found}


async def save_edition(
    tx: Transaction, keys: KeyRing, edition: str, made: Edition, *, inputs: str, due_at: datetime
) -> None:
    """Replaces an edition by a newer one."""
    values = {
        "made_at": made.made_at,
        "due_at": due_at,
        "failures": 0,
        "inputs": inputs,
        "encrypted_document": _encrypted(keys, edition, "document", made.document.encode()),
        "encrypted_pdf": _encrypted(keys, edition, "pdf", made.pdf),
    }
    kept = insert(call_trees).values(edition=edition, **values)
    older = func.coalesce(call_trees.c.made_at <= made.made_at, True)
    await tx.execute(kept.on_conflict_do_update(index_elements=["edition"], set_=values, where=older))


async def save_failure(tx: Transaction, edition: str, *, due_at: datetime) -> None:
    """An edition could not be made; the old one stays, and it is tried again at `due_at`."""
    kept = insert(call_trees).values(edition=edition, due_at=due_at, failures=1, inputs="")
    again = {"due_at": due_at, "failures": call_trees.c.failures + 1}
    await tx.execute(kept.on_conflict_do_update(index_elements=["edition"], set_=again))


async def find_edition(tx: Transaction, keys: KeyRing, edition: str) -> Edition | None:
    """An edition whole; None if it was never made."""
    table = call_trees.c
    row = (await tx.execute(select(call_trees).where(table.edition == edition, table.made_at.is_not(None)))).first()
    if row is None:
        return None
    document = _decrypted(keys, edition, "document", row.encrypted_document)
    return Edition(row.made_at, document.decode(), _decrypted(keys, edition, "pdf", row.encrypted_pdf))


async def find_late(tx: Transaction, *, now: datetime, age: timedelta) -> list[str]:
    """Partners whose edition is older than that, or is missing although they have taken part for so long."""
    made = (
        select(partners.c.code)
        .join(call_trees, call_trees.c.edition == partners.c.code, isouter=True)
        .where(
            partners.c.active,
            func.coalesce(call_trees.c.made_at, partners.c.changed_at) <= now - age,
        )
        .order_by(partners.c.code)
    )
    return list((await tx.execute(made)).scalars())


def _context(edition: str, part: str) -> bytes:
    return f"call_tree {edition} {part}".encode()


def _encrypted(keys: KeyRing, edition: str, part: str, content: bytes) -> str:
    return keys.encrypt(base64.b64encode(zlib.compress(content)).decode(), context=_context(edition, part))


def _decrypted(keys: KeyRing, edition: str, part: str, encrypted: str) -> bytes:
    return zlib.decompress(base64.b64decode(keys.decrypt(encrypted, context=_context(edition, part))))
