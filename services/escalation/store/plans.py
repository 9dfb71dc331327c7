"""Duty plans, partners, and the health of contact points."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.escalation.store.rows import dump
from shared.db import Transaction, raw


async def save_plan(tx: Transaction, partner: str, plan_version: int, body: str, now: datetime) -> bool:
    """Keeps a plan if it is newer than the one that is kept, and that one beside it; False if it is not newer."""
    connection = await raw(tx)
    found = await connection.fetchval(
        "INSERT INTO duty_plans AS t (partner, plan_version, body, received_at) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (partner) DO UPDATE SET plan_version = $2, body = $3, previous_body = t.body, received_at = $4"
        " WHERE t.plan_version < $2 RETURNING true",
        partner,
        plan_version,
        body,
        now,
    )
    return bool(found)


async def save_partner(tx: Transaction, partner: str, version: int, body: str, now: datetime) -> bool:
    """Keeps a partner's own data if newer; False if it is not."""
    connection = await raw(tx)
    found = await connection.fetchval(
        "INSERT INTO partners AS t (partner, version, body, received_at) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT (partner) DO UPDATE SET version = $2, body = $3, received_at = $4"
        " WHERE t.version < $2 RETURNING true",
        partner,
        version,
        body,
        now,
    )
    return bool(found)


Versions = tuple[int | None, int | None, int | None]
"""Which version of a partner's plan, own data and signed hand-overs is kept."""

VERSIONS = (
    "SELECT coalesce(d.partner, p.partner) AS partner, d.plan_version, p.version, h.version AS signed_version"
    " FROM duty_plans d FULL JOIN partners p ON p.partner = d.partner"
    " LEFT JOIN hand_over_versions h ON h.partner = coalesce(d.partner, p.partner)"
    " WHERE $1::text[] IS NULL OR coalesce(d.partner, p.partner) = ANY($1)"
)


async def find_versions(tx: Transaction, codes: Sequence[str] | None) -> dict[str, Versions]:
    """Which versions are kept of each of these partners, as far as anything is; None asks for all."""
    connection = await raw(tx)
    rows = await connection.fetch(VERSIONS, None if codes is None else list(codes))
    return {row["partner"]: (row["plan_version"], row["version"], row["signed_version"]) for row in rows}


async def find_bodies(tx: Transaction, codes: Sequence[str]) -> list[Any]:
    """The stored plan and partner data of these partners, as JSON text."""
    connection = await raw(tx)
    return list(
        await connection.fetch(
            "SELECT coalesce(d.partner, p.partner) AS partner, d.plan_version, d.body AS plan,"
            " d.previous_body AS previous, p.version, p.body AS own"
            " FROM duty_plans d FULL JOIN partners p ON p.partner = d.partner"
            " WHERE coalesce(d.partner, p.partner) = ANY($1)",
            list(codes),
        )
    )


async def find_signed(tx: Transaction, since: Mapping[str, datetime]) -> list[Any]:
    """The hand-overs of these partners since an instant each that both have signed, with the version of that."""
    connection = await raw(tx)
    return list(
        await connection.fetch(
            "SELECT v.partner, v.version,"
            " coalesce(array_agg(h.id) FILTER (WHERE h.id IS NOT NULL), '{}') AS hand_over_ids"
            " FROM unnest($1::text[], $2::timestamptz[]) AS w(partner, since)"
            " JOIN hand_over_versions v ON v.partner = w.partner"
            " LEFT JOIN hand_overs h ON h.partner = w.partner AND h.start_at >= w.since"
            " AND h.outgoing_signed_at IS NOT NULL AND h.incoming_signed_at IS NOT NULL GROUP BY 1, 2",
            list(since),
            list(since.values()),
        )
    )


async def save_failures(tx: Transaction, failed: Sequence[Mapping[str, Any]], now: datetime) -> list[Any]:
    """Counts failures in a row per contact point; returns the rows as they are now."""
    if not failed:
        return []
    connection = await raw(tx)
    return list(
        await connection.fetch(
            "INSERT INTO point_health AS h"
            " (contact_point_id, partner, channel, failures, last_reason, since_at, told, hard)"
            " SELECT contact_point_id, partner, channel, failures, last_reason, $2, false, hard"
            " FROM jsonb_to_recordset($1) AS r(contact_point_id uuid, partner text, channel text, failures integer,"
            " last_reason text, hard boolean)"
            " ON CONFLICT (contact_point_id) DO UPDATE SET failures = h.failures + excluded.failures,"
            # That it is final is news once more.
            " last_reason = excluded.last_reason, hard = h.hard OR excluded.hard,"
            " told = h.told AND (h.hard OR NOT excluded.hard) RETURNING *",
            dump(list(failed)),
            now,
        )
    )


async def save_told(tx: Transaction, contact_point_ids: Sequence[UUID]) -> None:
    """Remembers that people were told of these failing contact points."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE point_health SET told = true WHERE contact_point_id = ANY($1)", list(contact_point_ids)
    )


async def forget_failures(
    tx: Transaction, contact_point_ids: Sequence[UUID], *, delivered: Sequence[UUID] = ()
) -> list[Any]:
    """Forgets the failures of contact points that accepted a page, final ones only of those that have `delivered` it;
    returns the forgotten rows.
    """
    connection = await raw(tx)
    return list(
        await connection.fetch(
            "DELETE FROM point_health WHERE contact_point_id = ANY($1)"
            " AND (NOT hard OR contact_point_id = ANY($2)) RETURNING *",
            list(contact_point_ids),
            list(delivered),
        )
    )
