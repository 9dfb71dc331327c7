"""The rows of verifications: which contact point was sent a code, when, and how often a wrong one came back."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import delete, select, update
from sqlalchemy.dialects.postgresql import insert

from services.escalation import store
from shared.db import Transaction

_table = store.verifications


@dataclass(frozen=True, slots=True)
class Verification:
    """The newest code that was asked for at one contact point. `page_id` makes the code, and is what carries it.

    `fingerprint` names the address that it went to; `asked` counts the codes since `first_asked_at`.
    """

    contact_point_id: UUID
    partner: str
    page_id: UUID
    fingerprint: str
    wrong_tries: int
    asked_at: datetime
    first_asked_at: datetime
    asked: int
    verified_at: datetime | None = None


async def load(tx: Transaction, contact_point_id: UUID) -> Verification | None:
    """The verification of a contact point, its row locked; None if none was ever asked for."""
    wanted = select(_table).where(_table.c.contact_point_id == contact_point_id).with_for_update()
    row = (await tx.execute(wanted)).mappings().first()
    return None if row is None else Verification(**row)


async def save(tx: Transaction, verification: Verification) -> bool:
    """Keeps a new code in the place of the one before; False if another request was quicker by an instant."""
    values = {name: getattr(verification, name) for name in Verification.__slots__}
    kept = insert(_table).values(**values)
    changed = {name: kept.excluded[name] for name in values if name != "contact_point_id"}
    written = await tx.execute(
        kept.on_conflict_do_update(
            index_elements=["contact_point_id"], set_=changed, where=_table.c.asked_at < verification.asked_at
        ).returning(_table.c.contact_point_id)
    )
    return written.first() is not None


async def save_wrong_try(tx: Transaction, contact_point_id: UUID) -> None:
    """Counts a wrong code."""
    changed = update(_table).where(_table.c.contact_point_id == contact_point_id)
    await tx.execute(changed.values(wrong_tries=_table.c.wrong_tries + 1))


async def save_verified(tx: Transaction, contact_point_id: UUID, verified_at: datetime) -> None:
    """The point works: its owner has said so, or its system. What a provider had said of it is forgotten."""
    changed = update(_table).where(_table.c.contact_point_id == contact_point_id)
    await tx.execute(changed.values(verified_at=verified_at))
    health = store.point_health
    await tx.execute(delete(health).where(health.c.contact_point_id == contact_point_id, health.c.hard))
