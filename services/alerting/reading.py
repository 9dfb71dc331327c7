"""What viewers read: alerts, chains and the timeline, each query narrowed to what its viewer may know of.

The promise: `visible` says in SQL what `visibility.access` says of one alert, and a test compares the two. Nothing here
locks.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, DateTime, Select, Uuid, and_, false, literal, or_, select, tuple_

from services.alerting.domain import Alert, AlertState
from services.alerting.store import Entry, alert_of
from services.alerting.tables import alerts, plain, timeline
from services.alerting.visibility import COMMUNITY, Access, Viewer, access_to
from shared.contracts import Tlp
from shared.db import Transaction
from shared.ids import AlertId
from shared.outbox import sequences

LOOKED_AT_MAX = 5000
"""Rows that one look at the news goes through, so that somebody who may see few of many keeps nobody waiting."""


@dataclass(frozen=True, slots=True)
class Head:
    """A place in the numbered timeline. Positions of different epochs cannot be compared."""

    epoch: int
    position: int


def visible(viewer: Viewer) -> ColumnElement[bool]:
    """The alerts that the viewer may know of: `visibility.access` in SQL."""
    released = alerts.c.state != AlertState.DRAFT.value
    addressed = alerts.c.addressed.contains([viewer.partner])
    ways: list[ColumnElement[bool]] = []
    if viewer.reads_for_partner:
        ways += [alerts.c.raiser == viewer.partner, and_(released, addressed)]
    if viewer.reads_community:
        ways.append(and_(released, alerts.c.tlp.in_([tlp.value for tlp in COMMUNITY])))
    if viewer.is_secretariat:
        ways.append(released)
    return or_(false(), *ways)


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list of alerts is narrowed to; None: not narrowed."""

    state: str | None = None
    raiser: str | None = None
    status: str | None = None
    precedence: str | None = None
    crisis_id: UUID | None = None
    reference: str | None = None


async def find_alerts(
    tx: Transaction, viewer: Viewer, filters: Filters, *, before: UUID | None, limit: int
) -> list[Alert]:
    """Alerts that the viewer may know of, the newest id first, after those up to `before`."""
    query = select(alerts).where(visible(viewer)).order_by(alerts.c.id.desc()).limit(limit)
    for name in Filters.__dataclass_fields__:
        if (value := getattr(filters, name)) is not None:
            query = query.where(alerts.c[name] == value)
    if before is not None:
        query = query.where(alerts.c.id < before)
    return [alert_of(row) for row in await tx.execute(query)]


async def find_chain(tx: Transaction, root_id: UUID, until: UUID) -> list[Alert]:
    """The earlier messages of a chain, oldest first, up to but without `until`, which may be a draft."""
    of_chain = or_(alerts.c.released_at.is_not(None), alerts.c.id == until)
    query = select(alerts).where(alerts.c.root_id == root_id, of_chain).order_by(alerts.c.id)
    chain = [alert_of(row) for row in await tx.execute(query)]
    known = {alert.id: alert for alert in chain}
    found: list[Alert] = []
    alert = known.get(AlertId(until))
    while alert is not None and alert.corrects is not None:
        alert = known.get(alert.corrects)
        if alert is not None:
            found.append(alert)
    return found[::-1]


async def find_timeline(
    tx: Transaction, viewer: Viewer, alert_id: UUID, *, after: tuple[datetime, UUID] | None, limit: int
) -> list[tuple[Entry, Access]]:
    """What the viewer may see of an alert's timeline, oldest first, after a place in it, with their access to it."""
    query = (
        _entries_for(viewer)
        .where(timeline.c.alert_id == alert_id)
        .order_by(timeline.c.occurred_at, timeline.c.id)
        .limit(limit)
    )
    if after is not None:
        place = tuple_(literal(after[0], DateTime(timezone=True)), literal(after[1], Uuid))
        query = query.where(tuple_(timeline.c.occurred_at, timeline.c.id) > place)
    return [_seen(row, viewer) for row in await tx.execute(query)]


async def find_news(
    tx: Transaction, viewer: Viewer, *, after: Head, limit: int
) -> tuple[list[tuple[Entry, Access]], Head, bool]:
    """Numbered rows after a place that the viewer may see, up to which place was looked, and whether there is more.

    A place of another epoch (the database came back from a backup, and positions were given out anew) begins at the
    start. One look goes through `LOOKED_AT_MAX` rows.
    """
    last = await head(tx)
    begin = after.position if after.epoch == last.epoch else 0
    if last.position <= begin:
        return [], last, False
    until = min(last.position, begin + LOOKED_AT_MAX)
    query = (
        _entries_for(viewer)
        .where(timeline.c.position > begin, timeline.c.position <= until)
        .order_by(timeline.c.position)
        .limit(limit)
    )
    found = [_seen(row, viewer) for row in await tx.execute(query)]
    if len(found) == limit:
        until = found[-1][0].position or until
    return found, Head(last.epoch, until), until < last.position


def _entries_for(viewer: Viewer) -> Select[Any]:
    return (
        select(timeline, alerts.c.raiser, alerts.c.state, alerts.c.tlp, alerts.c.addressed)
        .join(alerts, alerts.c.id == timeline.c.alert_id)
        .where(timeline.c.visible_to.overlap(list(viewer.keys)), visible(viewer))
    )


def _seen(row: Any, viewer: Viewer) -> tuple[Entry, Access]:
    granted = access_to(
        viewer, raiser=row.raiser, state=AlertState(row.state), tlp=Tlp(row.tlp), addressed=row.addressed
    )
    return _entry_of(row), granted


async def head(tx: Transaction) -> Head:
    """The newest numbered place of the timeline: where a fresh stream begins."""
    query = select(sequences.c.epoch, sequences.c.last_position).where(sequences.c.name == timeline.name)
    row = (await tx.execute(query)).first()
    return Head(0, 0) if row is None else Head(row.epoch, row.last_position)


def _entry_of(row: Any) -> Entry:
    return Entry(
        id=plain(row.id),
        alert_id=plain(row.alert_id),
        occurred_at=row.occurred_at,
        type=row.type,
        body=row.body,
        visible_to=tuple(row.visible_to),
        position=row.position,
    )
