"""Which contact points fail: counted over attempts and providers' later words, told once, forgotten when one works.

Three failures in a row are told to people on both sides; a provider's word that nobody can be reached at an address is
told at once, and takes the verification away at roster. Trying goes on in either case. What a provider has taken and
not delivered yet is no sign that such an address works.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypedDict
from uuid import UUID

from services.escalation import store
from services.escalation.channels import AttemptState, Reason
from shared.contracts import ChannelName, ContactPointFailing, ContactPointRecovered
from shared.db import Transaction
from shared.events import Event

FAILING_AFTER = 3
"""After so many failures in a row people on both sides are told."""

HARD = frozenset({Reason.ADDRESS_UNKNOWN})
"""Reasons that are final: trying again finds nobody there either."""


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of one page: its row (contact point, channel, partner, alert), and how it ended."""

    row: store.Row
    state: AttemptState
    reason: Reason

    @property
    def accepted(self) -> bool:
        """Whether somebody has taken it."""
        return self.state in (AttemptState.SENT, AttemptState.DELIVERED)


async def note_health(tx: Transaction, tried: Sequence[Tried], now: datetime) -> list[Event]:
    """Counts what failed and forgets what works again; the events that tell of it."""
    return [*await _failing(tx, tried, now), *await _recovered(tx, tried, now)]


async def _failing(tx: Transaction, tried: Sequence[Tried], now: datetime) -> list[Event]:
    about: dict[UUID, store.Row] = {}
    counted: dict[UUID, dict[str, Any]] = {}
    for one in tried:
        if one.accepted:
            continue
        point = one.row["contact_point_id"]
        about[point] = one.row
        count = counted.setdefault(point, {"contact_point_id": point, "failures": 0, "hard": False})
        count.update(
            partner=one.row["partner"],
            channel=one.row["channel"],
            failures=count["failures"] + 1,
            last_reason=one.reason,
            hard=count["hard"] or one.reason in HARD,
        )
    rows = await store.save_failures(tx, list(counted.values()), now)
    news = [row for row in rows if not row["told"] and (row["hard"] or row["failures"] >= FAILING_AFTER)]
    if not news:
        return []
    await store.save_told(tx, [row["contact_point_id"] for row in news])
    raisers = await store.find_raisers(tx, [about[row["contact_point_id"]]["alert_id"] for row in news])
    return [
        ContactPointFailing(
            **_point(row, about[row["contact_point_id"]], raisers),
            failures=row["failures"],
            reason=row["last_reason"],
            since_at=row["since_at"],
            hard=row["hard"],
        )
        for row in news
    ]


async def _recovered(tx: Transaction, tried: Sequence[Tried], now: datetime) -> list[Event]:
    about = {one.row["contact_point_id"]: one.row for one in tried if one.accepted}
    if not about:
        return []
    delivered = {one.row["contact_point_id"] for one in tried if one.state is AttemptState.DELIVERED}
    rows = await store.forget_failures(tx, list(about), delivered=list(delivered))
    forgotten = [row for row in rows if row["told"]]
    if not forgotten:
        return []
    raisers = await store.find_raisers(tx, [about[row["contact_point_id"]]["alert_id"] for row in forgotten])
    return [
        ContactPointRecovered(**_point(row, about[row["contact_point_id"]], raisers), recovered_at=now)
        for row in forgotten
    ]


class _Point(TypedDict):
    contact_point_id: UUID
    partner: str
    raiser: str | None
    alert_id: UUID | None
    channel: ChannelName


def _point(row: store.Row, page: store.Row, raisers: Mapping[UUID | None, str]) -> _Point:
    return _Point(
        contact_point_id=row["contact_point_id"],
        partner=row["partner"],
        raiser=raisers.get(page["alert_id"]),
        alert_id=page["alert_id"],
        channel=ChannelName(row["channel"]),
    )
