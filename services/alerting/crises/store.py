"""The rows of crises, and every query on them. `find_*` does not lock unless it is asked to."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, case, false, or_, select, update
from sqlalchemy.dialects.postgresql import insert

from services.alerting.content import Content
from services.alerting.crises.domain import Crisis, CrisisState, as_led
from services.alerting.domain import AlertState
from services.alerting.tables import alerts, crises, plain
from services.alerting.visibility import COMMUNITY, Access, Viewer, access_to
from shared.contracts import Actor, Tlp
from shared.db import Transaction
from shared.errors import Conflict
from shared.ids import AlertId, CrisisId

_leader = alerts.alias("leader")
_OF_LEADER = ("raiser", "state", "tlp", "addressed", "content", "version", "released_at")


async def add_crisis(tx: Transaction, crisis: Crisis, *, request_sha256: str) -> None:
    """Inserts a crisis; raises `Conflict` when its id was taken meanwhile, by whomever."""
    row = row_of(crisis, request_sha256)
    added = await tx.execute(insert(crises).values(row).on_conflict_do_nothing().returning(crises.c.id))
    if added.first() is None:
        raise Conflict("a crisis with this id was opened a moment ago; read it", code="id_taken", field="id")


async def save_crisis(tx: Transaction, crisis: Crisis) -> None:
    """Writes what moves: state, and when. The row counts its own changes, without those of a leading alert."""
    moved = {"state": crisis.state.value, "changed_at": crisis.changed_at, "version": crises.c.version + 1}
    await tx.execute(update(crises).where(crises.c.id == crisis.id).values(moved))


async def find_crisis_request(tx: Transaction, crisis_id: UUID) -> tuple[str, str | None] | None:
    """Owner and request hash of a crisis, for a caller who supplied its id; None if there is no such crisis."""
    row = (await tx.execute(select(crises.c.owner, crises.c.request_sha256).where(crises.c.id == crisis_id))).first()
    return None if row is None else (row.owner, row.request_sha256)


def _visible(viewer: Viewer) -> ColumnElement[bool]:
    """The crises that the viewer may know of.

    One that an alert has opened is its owner's alone until something of it is released. Then whoever reads one of its
    released alerts knows that there is such a crisis; what it is called for them is decided by `_shown`.
    """
    released = select(alerts.c.id).where(alerts.c.crisis_id == crises.c.id, alerts.c.state != AlertState.DRAFT.value)
    standing = or_(crises.c.request_sha256.is_not(None), released.exists())

    def handled_as(labels: Iterable[Tlp]) -> ColumnElement[bool]:
        values = [tlp.value for tlp in labels]
        led = released.where(alerts.c.tlp.in_(values)).exists()
        return case((crises.c.led_by.is_(None), and_(standing, crises.c.tlp.in_(values))), else_=led)

    ways: list[ColumnElement[bool]] = []
    if viewer.reads_for_partner:
        addressed = released.where(alerts.c.addressed.contains([viewer.partner])).exists()
        ways += [crises.c.owner == viewer.partner, addressed]
    if viewer.reads_community:
        ways.append(handled_as(COMMUNITY))
    if viewer.is_secretariat:
        ways.append(handled_as(tlp for tlp in Tlp if not tlp.link_only))
    return or_(false(), *ways)


async def find_crises(
    tx: Transaction, viewer: Viewer, *, state: str | None, before: UUID | None, limit: int
) -> list[Crisis]:
    """Crises that the viewer may know of, the newest id first."""
    query = _with_leader().where(_visible(viewer)).order_by(crises.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(crises.c.state == state)
    if before is not None:
        query = query.where(crises.c.id < before)
    return [_shown(row, viewer) for row in await tx.execute(query)]


async def find_crisis(tx: Transaction, viewer: Viewer, crisis_id: UUID, *, lock: bool = False) -> Crisis | None:
    """The crisis, if the viewer may know of it."""
    query = _with_leader().where(crises.c.id == crisis_id, _visible(viewer))
    row = (await tx.execute(query.with_for_update(of=crises) if lock else query)).first()
    return None if row is None else _shown(row, viewer)


def row_of(crisis: Crisis, request_sha256: str | None) -> dict[str, Any]:
    """The row of a crisis: for statements that insert it with its first alert."""
    return {
        "id": crisis.id,
        "owner": crisis.owner,
        "name": crisis.name,
        "countries": list(crisis.countries),
        "tlp": crisis.tlp.value,
        "state": crisis.state.value,
        "opened_at": crisis.opened_at,
        "opened_by": crisis.opened_by.model_dump(mode="json"),
        "changed_at": crisis.changed_at,
        "version": crisis.version,
        "request_sha256": request_sha256,
        "led_by": crisis.led_by and str(crisis.led_by),
    }


def _with_leader() -> Select[Any]:
    columns = [_leader.c[name].label(f"leader_{name}") for name in _OF_LEADER]
    return select(crises, *columns).join_from(crises, _leader, _leader.c.id == crises.c.led_by, isouter=True)


def _shown(row: Any, viewer: Viewer) -> Crisis:
    """The crisis as the viewer may know it: with what its leading alert says only if they may read that."""
    crisis = _crisis_of(row)
    if row.leader_raiser is None:
        return crisis
    granted = access_to(
        viewer,
        raiser=row.leader_raiser,
        state=AlertState(row.leader_state),
        tlp=Tlp(row.leader_tlp),
        addressed=row.leader_addressed,
    )
    if granted < Access.TEXT:
        return crisis
    content = Content.model_validate(row.leader_content)
    return as_led(crisis, content, alert_version=row.leader_version, released_at=row.leader_released_at)


def _crisis_of(row: Any) -> Crisis:
    return Crisis(
        id=CrisisId(plain(row.id)),
        owner=row.owner,
        name=row.name,
        countries=tuple(row.countries),
        tlp=Tlp(row.tlp),
        state=CrisisState(row.state),
        opened_at=row.opened_at,
        opened_by=Actor.model_validate(row.opened_by),
        changed_at=row.changed_at,
        version=row.version,
        led_by=None if row.led_by is None else AlertId(plain(row.led_by)),
    )
