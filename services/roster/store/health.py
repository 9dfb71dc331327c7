"""What escalation says about contact points and endpoints."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert

from services.roster.store.tables import contact_points, endpoints, point_health
from shared.db import Transaction


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
