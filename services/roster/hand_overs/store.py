"""The rows of hand-overs: when each of the two has signed, as escalation says."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import Column, DateTime, Table, Text, Uuid

from services.roster.hand_overs.domain import CurrentChange, Signatures
from services.roster.store import metadata
from shared.contracts import HandOverSigned
from shared.db import Transaction, raw

hand_overs = Table(
    "hand_overs",
    metadata,
    Column("rota_id", Uuid, primary_key=True),
    Column("start_at", DateTime(timezone=True), primary_key=True),
    Column("outgoing_id", Uuid, primary_key=True),
    Column("incoming_id", Uuid, primary_key=True),
    Column("partner", Text, nullable=False),
    Column("outgoing_signed_at", DateTime(timezone=True)),
    Column("incoming_signed_at", DateTime(timezone=True)),
)

KEPT_FOR = timedelta(days=92)
"""Who is on call is shown with a change of the last month at most; the record keeps who has signed."""


async def save(tx: Transaction, signed: HandOverSigned) -> None:
    """Keeps what was signed. A signature is never taken back, so the order of events does not matter."""
    connection = await raw(tx)
    await connection.execute(
        "INSERT INTO hand_overs AS h"
        " (rota_id, start_at, outgoing_id, incoming_id, partner, outgoing_signed_at, incoming_signed_at)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7)"
        " ON CONFLICT (rota_id, start_at, outgoing_id, incoming_id) DO UPDATE SET"
        " outgoing_signed_at = coalesce(h.outgoing_signed_at, excluded.outgoing_signed_at),"
        " incoming_signed_at = coalesce(h.incoming_signed_at, excluded.incoming_signed_at)"
        " WHERE h.partner = excluded.partner",
        signed.rota_id,
        signed.start_at,
        signed.outgoing_id,
        signed.incoming_id,
        signed.partner,
        signed.outgoing_signed_at,
        signed.incoming_signed_at,
    )
    await connection.execute(
        "DELETE FROM hand_overs WHERE partner = $1 AND start_at < $2", signed.partner, signed.start_at - KEPT_FOR
    )


async def find(tx: Transaction, partner: str, changes: Sequence[CurrentChange]) -> dict[CurrentChange, Signatures]:
    """Who has signed these changes of a partner's rotas."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT h.* FROM hand_overs h JOIN unnest($2::uuid[], $3::timestamptz[], $4::uuid[], $5::uuid[])"
        " AS w(rota_id, start_at, outgoing_id, incoming_id) USING (rota_id, start_at, outgoing_id, incoming_id)"
        " WHERE h.partner = $1",
        partner,
        [change.rota_id for change in changes],
        [change.start_at for change in changes],
        [change.outgoing_id for change in changes],
        [change.incoming_id for change in changes],
    )
    signed = {
        (row["rota_id"], row["start_at"]): Signatures(row["outgoing_signed_at"], row["incoming_signed_at"])
        for row in rows
    }
    return {change: signed.get((change.rota_id, change.start_at), Signatures()) for change in changes}
