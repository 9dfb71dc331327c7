"""Duty plans: whose is due, what it is made of, and what became of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import func, or_, select, update

from services.roster import documents
from services.roster.store.reading import around, read_documents
from services.roster.store.tables import partners
from shared.db import Transaction, raw
from shared.ids import PartnerCode


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
    found = await read_documents(tx, documents.FOR_PLANS, codes, around(from_at), around(to_at), sealing_key)
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
