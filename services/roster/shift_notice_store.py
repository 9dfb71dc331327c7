"""The rows of notices before shifts. `load_*` locks, `find_*` does not.

shift_notices         one row per notice, due or issued; unique by kind, rota, reader, shift and hours
shift_notice_plans    for which duty plan of each partner they were last computed, and when a failure is tried again
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
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
    tuple_,
)
from sqlalchemy import update as update_of
from sqlalchemy.dialects.postgresql import ARRAY, insert

from services.roster import store
from services.roster.shift_notices import NoticeKind, ShiftNotice
from services.roster.store import metadata, partners
from shared.db import Transaction
from shared.ids import PartnerCode

shift_notices = Table(
    "shift_notices",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("partner", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("rota_id", Uuid, nullable=False),
    Column("contact_id", Uuid, nullable=False),
    Column("other_id", Uuid),
    Column("start_at", DateTime(timezone=True), nullable=False),
    Column("end_at", DateTime(timezone=True), nullable=False),
    Column("hours", Integer, nullable=False),
    Column("due_at", DateTime(timezone=True), nullable=False),
    Column("issued_at", DateTime(timezone=True)),
    # True by default: of rows without it nobody knows whether their end is one.
    Column("goes_on", Boolean, nullable=False, server_default=text("true")),
    Index("uq_shift_notices_once", "kind", "rota_id", "contact_id", "start_at", "hours", unique=True),
    Index("ix_shift_notices_partner", "partner"),
    Index("ix_shift_notices_due_at", "due_at", postgresql_where=text("issued_at IS NULL")),
)

shift_notice_plans = Table(
    "shift_notice_plans",
    metadata,
    Column("partner", Text, primary_key=True),
    Column("plan_version", Integer, nullable=False),
    Column("again_at", DateTime(timezone=True)),
)


async def find_stale(tx: Transaction, *, now: datetime, limit: int) -> list[PartnerCode]:
    """Partners that have published a duty plan since their notices were computed."""
    table, owner = shift_notice_plans.c, partners.c
    wanted = (
        select(owner.code)
        .outerjoin(shift_notice_plans, table.partner == owner.code)
        .where(owner.active, owner.plan_version > func.coalesce(table.plan_version, 0))
        .where(or_(table.again_at.is_(None), table.again_at <= now))
        .order_by(owner.plan_computed_at, owner.code)
        .limit(limit)
    )
    return [PartnerCode(code) for code in (await tx.execute(wanted)).scalars()]


async def load_version(tx: Transaction, code: str) -> int | None:
    """The plan that the partner's notices were computed for, its row locked; None if somebody else holds it."""
    await tx.execute(insert(shift_notice_plans).values(partner=code, plan_version=0).on_conflict_do_nothing())
    table = shift_notice_plans.c
    wanted = select(table.plan_version).where(table.partner == code).with_for_update(skip_locked=True)
    return (await tx.execute(wanted)).scalar_one_or_none()


async def find_issued(tx: Transaction, code: str) -> list[ShiftNotice]:
    """What was issued to a partner's people and is still remembered."""
    wanted = select(shift_notices).where(shift_notices.c.partner == code, shift_notices.c.issued_at.is_not(None))
    return [_notice(row) for row in await tx.execute(wanted)]


async def find_known(tx: Transaction, code: str, *, now: datetime) -> list[ShiftNotice]:
    """What was computed for a partner's people, issued or not, of time that is not over."""
    wanted = select(shift_notices).where(shift_notices.c.partner == code, shift_notices.c.end_at > now)
    return [_notice(row) for row in await tx.execute(wanted)]


async def forget(tx: Transaction, notices: Iterable[ShiftNotice]) -> None:
    """These say what is no longer so."""
    table = shift_notices.c
    keys = [(one.kind.value, one.rota_id, one.contact_id, one.start_at, one.hours) for one in notices]
    if keys:
        key = tuple_(table.kind, table.rota_id, table.contact_id, table.start_at, table.hours)
        await tx.execute(delete(shift_notices).where(key.in_(keys)))


async def replace_unissued(
    tx: Transaction, code: str, notices: Iterable[tuple[UUID, ShiftNotice]], *, plan_version: int
) -> None:
    """Puts these in the place of all that were not issued. One that was issued before stays as it is, and so does
    what was taken from somebody, which cannot be computed a second time. Among these may be issued ones with another
    end, whose rows were forgotten before.
    """
    table = shift_notices.c
    replaced = (table.partner == code, table.issued_at.is_(None), table.kind != NoticeKind.TAKEN.value)
    await tx.execute(delete(shift_notices).where(*replaced))
    rows = [
        # Not `asdict`, which copies each value deeply.
        {"id": notice_id, "partner": code, **_values(notice), "kind": notice.kind.value}
        for notice_id, notice in notices
    ]
    if rows:
        await tx.execute(insert(shift_notices).on_conflict_do_nothing(), rows)
    kept = shift_notice_plans
    await tx.execute(update_of(kept).where(kept.c.partner == code).values(plan_version=plan_version, again_at=None))


async def save_failure(tx: Transaction, code: str, *, again_at: datetime) -> None:
    """The partner's notices could not be computed; those that there are stay, and it is tried again then."""
    await tx.execute(
        update_of(shift_notice_plans).where(shift_notice_plans.c.partner == code).values(again_at=again_at)
    )


async def forget_past(tx: Transaction, code: str, *, ended_before: datetime) -> None:
    """Shifts that ended so long ago cannot be announced again, nor made longer."""
    table = shift_notices.c
    await tx.execute(delete(shift_notices).where(table.partner == code, table.end_at < ended_before))


async def load_due(tx: Transaction, *, now: datetime, limit: int) -> list[tuple[UUID, PartnerCode, ShiftNotice]]:
    """Notices that are due, locked, the longest waiting first."""
    table = shift_notices.c
    wanted = select(shift_notices).where(table.due_at <= now, table.issued_at.is_(None))
    wanted = wanted.order_by(table.due_at, table.start_at, table.id).limit(limit).with_for_update(skip_locked=True)
    return [(row.id, PartnerCode(row.partner), _notice(row)) for row in await tx.execute(wanted)]


async def save_issued(tx: Transaction, ids: Sequence[UUID], *, now: datetime) -> None:
    """These were issued."""
    wanted = bindparam(None, list(ids), type_=ARRAY(Uuid), unique=True)
    await tx.execute(update_of(shift_notices).where(shift_notices.c.id == any_(wanted)).values(issued_at=now))


async def find_names(tx: Transaction, ids: Iterable[UUID]) -> Mapping[UUID, str]:
    """What rotas and contacts are called; nothing for one that is gone."""
    wanted = bindparam(None, sorted(set(ids)), type_=ARRAY(Uuid), unique=True)
    found: dict[UUID, str] = {}
    for table in (store.rotas, store.contacts):
        rows = await tx.execute(select(table.c.id, table.c.name).where(table.c.id == any_(wanted)))
        found |= {row.id: row.name for row in rows}
    return found


def _values(kept: object) -> dict[str, Any]:
    return {name: getattr(kept, name) for name in ShiftNotice.__slots__}


def _notice(row: object) -> ShiftNotice:
    values = _values(row)
    return ShiftNotice(**values | {"kind": NoticeKind(values["kind"])})
