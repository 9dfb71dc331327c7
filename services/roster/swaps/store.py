"""The rows of swaps. `load_*` locks, `find_*` does not."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Column, DateTime, Index, Integer, Table, Text, Uuid, and_, or_, select, text, update
from sqlalchemy.dialects.postgresql import ARRAY, insert

from services.roster.store import metadata
from services.roster.swaps.domain import Stretch, Swap, SwapState
from shared.db import Transaction
from shared.ids import ContactId, PartnerCode, RotaId


def _at(name: str, *, nullable: bool = False) -> Column[datetime]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


swaps = Table(
    "swaps",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("partner", Text, nullable=False),
    Column("rota_id", Uuid, nullable=False),
    Column("offered_by", Uuid, nullable=False),
    Column("offered_to", Uuid),
    _at("start_at"),
    _at("end_at"),
    _at("return_start_at", nullable=True),
    _at("return_end_at", nullable=True),
    _at("offered_at"),
    _at("expires_at"),
    Column("state", Text, nullable=False),
    Column("declined_by", ARRAY(Uuid), nullable=False),
    Column("accepted_by", Uuid),
    _at("ended_at", nullable=True),
    Column("version", Integer, nullable=False),
    Index("ix_swaps_partner", "partner", "id"),
    Index("ix_swaps_expires_at", "expires_at", postgresql_where=text("state = 'offered'")),
)


async def add_swap(tx: Transaction, swap: Swap) -> None:
    """Writes a new offer."""
    stretch, back = swap.stretch, swap.in_return
    await tx.execute(
        insert(swaps).values(
            id=swap.id,
            partner=swap.partner,
            rota_id=swap.rota_id,
            offered_by=swap.offered_by,
            offered_to=swap.offered_to,
            start_at=stretch.start_at,
            end_at=stretch.end_at,
            return_start_at=None if back is None else back.start_at,
            return_end_at=None if back is None else back.end_at,
            offered_at=swap.offered_at,
            expires_at=swap.expires_at,
            **_moving(swap),
        )
    )


async def save_swap(tx: Transaction, swap: Swap) -> None:
    """Writes what moves: state, answers, version, and when it ended."""
    await tx.execute(update(swaps).where(swaps.c.id == swap.id).values(_moving(swap)))


async def load_swap(tx: Transaction, code: str, swap_id: UUID) -> Swap | None:
    """A swap of this partner, its row locked; None if there is none. The partner's row is locked before it."""
    return _first(await tx.execute(_one(code, swap_id).with_for_update()))


async def find_swap(tx: Transaction, code: str, swap_id: UUID) -> Swap | None:
    """A swap of this partner; None if there is none."""
    return _first(await tx.execute(_one(code, swap_id)))


async def find_waiting(tx: Transaction, offered_by: ContactId, *, now: datetime) -> list[Swap]:
    """The offers of a contact that can still be accepted."""
    table = swaps.c
    wanted = select(swaps).where(
        table.offered_by == offered_by, table.state == SwapState.OFFERED.value, table.expires_at > now
    )
    return [_swap(row) for row in await tx.execute(wanted)]


async def find_given_away(
    tx: Transaction, code: str, *, now: datetime
) -> list[tuple[RotaId, ContactId, ContactId, Stretch]]:
    """Whose time of which rota went to whom in a swap of this partner, as far as it is not over."""
    table = swaps.c
    wanted = select(swaps).where(table.partner == code, table.state == SwapState.ACCEPTED.value)
    wanted = wanted.where(or_(table.end_at > now, table.return_end_at > now))
    found: list[tuple[RotaId, ContactId, ContactId, Stretch]] = []
    for swap in map(_swap, await tx.execute(wanted)):
        if swap.accepted_by is None:
            continue
        found.append((swap.rota_id, swap.offered_by, swap.accepted_by, swap.stretch))
        if swap.in_return is not None:
            found.append((swap.rota_id, swap.accepted_by, swap.offered_by, swap.in_return))
    return found


async def find_swaps(
    tx: Transaction,
    code: str,
    *,
    state: SwapState | None,
    reader: ContactId | None,
    rota_ids: Collection[RotaId],
    before: UUID | None,
    limit: int,
    now: datetime,
) -> list[Swap]:
    """A partner's swaps, the newest first; with a `reader` only those in which that contact has a part.

    `rota_ids` are the rotas to which the reader belongs, whose open offers are the reader's concern, too.
    """
    table = swaps.c
    wanted = select(swaps).where(table.partner == code).order_by(table.id.desc()).limit(limit)
    if before is not None:
        wanted = wanted.where(table.id < before)
    if reader is not None:
        to_all = and_(table.offered_to.is_(None), table.rota_id.in_(sorted(rota_ids)))
        own = (table.offered_by == reader, table.offered_to == reader, table.accepted_by == reader)
        wanted = wanted.where(or_(*own, to_all))
    if state is SwapState.OFFERED:
        wanted = wanted.where(table.state == state.value, table.expires_at > now)
    elif state is SwapState.EXPIRED:
        over = and_(table.state == SwapState.OFFERED.value, table.expires_at <= now)
        wanted = wanted.where(or_(table.state == state.value, over))
    elif state is not None:
        wanted = wanted.where(table.state == state.value)
    return [_swap(row) for row in await tx.execute(wanted)]


async def load_expired(tx: Transaction, *, now: datetime, limit: int) -> list[Swap]:
    """Offers whose time is over and whose rows do not say so yet, locked; those that somebody else holds are left."""
    table = swaps.c
    over = select(swaps).where(table.state == SwapState.OFFERED.value, table.expires_at <= now)
    found = await tx.execute(over.order_by(table.expires_at).limit(limit).with_for_update(skip_locked=True))
    return [_swap(row) for row in found]


def _one(code: str, swap_id: UUID) -> Any:
    return select(swaps).where(swaps.c.id == swap_id, swaps.c.partner == code)


def _first(found: Any) -> Swap | None:
    row = found.first()
    return None if row is None else _swap(row)


def _moving(swap: Swap) -> dict[str, Any]:
    return {
        "state": swap.state.value,
        "declined_by": list(swap.declined_by),
        "accepted_by": swap.accepted_by,
        "ended_at": swap.ended_at,
        "version": swap.version,
    }


def _swap(row: Any) -> Swap:
    back = None if row.return_start_at is None else Stretch(row.return_start_at, row.return_end_at)
    return Swap(
        # The driver's own kind of UUID is none that our JSON knows.
        id=UUID(int=row.id.int),
        partner=PartnerCode(row.partner),
        rota_id=RotaId(row.rota_id),
        offered_by=ContactId(row.offered_by),
        offered_to=ContactId(row.offered_to) if row.offered_to is not None else None,
        stretch=Stretch(row.start_at, row.end_at),
        in_return=back,
        offered_at=row.offered_at,
        state=SwapState(row.state),
        declined_by=tuple(ContactId(one) for one in row.declined_by),
        accepted_by=ContactId(row.accepted_by) if row.accepted_by is not None else None,
        ended_at=row.ended_at,
        version=row.version,
    )
