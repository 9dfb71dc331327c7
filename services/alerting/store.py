"""The rows of alerting, and every query on them. `load_*` locks, `find_*` does not; time is always a parameter.

Whatever changes an alert goes through `write`: one statement for alert, crisis, timeline, outbox, record and the answer
kept for an `Idempotency-Key`. Releasing is what this network exists for, and one statement takes a third of the time of
six. No table refers to another by a foreign key: locking the parents would be the dearest part of a release.

Locks are taken from a message to the one that it corrects, never the other way, so two of them cannot wait for each
other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    DateTime,
    Index,
    Integer,
    Select,
    Table,
    Text,
    Uuid,
    and_,
    false,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
    update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, insert

from services.alerting.content import Content
from services.alerting.domain import Alert, AlertState, Crisis, CrisisState
from services.alerting.visibility import COMMUNITY, Access, Viewer, access_to
from shared import outbox
from shared.contracts import Actor, MsgType, PartnerChanged, Recipient, Tlp
from shared.db import Transaction, raw, service_metadata
from shared.errors import Conflict
from shared.events import Event, Message
from shared.idempotency import Attempt, StoredResponse
from shared.ids import AlertId, CrisisId
from shared.outbox import sequences

metadata = service_metadata()

LOOKED_AT_MAX = 5000
"""Rows that one look at the news goes through, so that somebody who may see few of many keeps nobody waiting."""

crises = Table(
    "crises",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("owner", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("countries", ARRAY(Text), nullable=False),
    Column("tlp", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("opened_at", DateTime(timezone=True), nullable=False),
    Column("opened_by", JSONB, nullable=False),
    Column("changed_at", DateTime(timezone=True), nullable=False),
    Column("version", Integer, nullable=False),
    Column("request_sha256", Text),
)

alerts = Table(
    "alerts",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("root_id", Uuid, nullable=False),
    Column("corrects", Uuid),
    Column("asks_anew", Boolean, nullable=False),
    Column("reference", Text, nullable=False),
    Column("crisis_id", Uuid, nullable=False),
    Column("raiser", Text, nullable=False),
    Column("msg_type", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("status", Text, nullable=False),
    Column("precedence", Text, nullable=False),
    Column("tlp", Text, nullable=False),
    Column("content", JSONB, nullable=False),
    Column("recipients", JSONB, nullable=False),
    Column("addressed", ARRAY(Text), nullable=False),
    Column("drafted_at", DateTime(timezone=True), nullable=False),
    Column("drafted_by", JSONB, nullable=False),
    Column("authors", JSONB, nullable=False),
    Column("released_at", DateTime(timezone=True)),
    Column("released_by", JSONB),
    Column("expires_at", DateTime(timezone=True)),
    Column("self_release_reason", Text),
    Column("needs_review", Boolean, nullable=False),
    Column("ended_at", DateTime(timezone=True)),
    Column("ended_by", JSONB),
    Column("end_note", Text),
    Column("superseded_by", Uuid),
    Column("request_sha256", Text),
    Column("unconfirmed", ARRAY(Text), nullable=False),
    Column("said_again_at", DateTime(timezone=True)),
    Column("times_said_again", Integer, nullable=False),
    Index("uq_alerts_reference", "reference", unique=True),
    Index("ix_alerts_crisis_id", "crisis_id"),
    Index("ix_alerts_raiser_id", "raiser", "id"),
    Index("ix_alerts_expiring", "expires_at", postgresql_where=text("state = 'released'")),
    Index("ix_alerts_unconfirmed", "released_at", postgresql_where=text("state = 'released' AND unconfirmed <> '{}'")),
)
"""`unconfirmed`: addressed partners whose escalation has not been reported as opened yet."""

timeline = Table(
    "timeline",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("alert_id", Uuid, nullable=False),
    Column("occurred_at", DateTime(timezone=True), nullable=False),
    Column("type", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("visible_to", ARRAY(Text), nullable=False),
    Column("position", BigInteger),
    Index("ix_timeline_alert_id_occurred_at_id", "alert_id", "occurred_at", "id"),
    Index("ix_timeline_unnumbered", "id", postgresql_where=text("position IS NULL")),
    Index("uq_timeline_position", "position", unique=True),
)
"""What happened, as events; the sequencer gives committed rows their position, which the stream resumes from."""

partners = Table(
    "partners",
    metadata,
    Column("code", Text, primary_key=True),
    Column("name", Text, nullable=False),
    Column("standing", Text, nullable=False),
    Column("active", Boolean, nullable=False),
    Column("version", Integer, nullable=False),
)

reference_counters = Table(
    "reference_counters",
    metadata,
    Column("raiser", Text, primary_key=True),
    Column("year", Integer, primary_key=True, autoincrement=False),
    Column("last_number", Integer, nullable=False),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the timeline. `type` is an event's wire type, or a name without dots for what only alerting knows."""

    id: UUID
    alert_id: UUID
    occurred_at: datetime
    type: str
    body: str
    visible_to: tuple[str, ...]
    position: int | None = None


@dataclass(frozen=True, slots=True)
class Head:
    """A place in the numbered timeline. Positions of different epochs cannot be compared."""

    epoch: int
    position: int


# --- writing ----------------------------------------------------------------------------------------------------------

_KEPT = {"id", "request_sha256", "said_again_at", "times_said_again"}
_CHANGED = [column.name for column in alerts.columns if column.name not in _KEPT]

# `record` alone would mean PostgreSQL's own type of that name, so the table is named with its schema.
_WRITE = f"""
WITH new_crises AS (
    INSERT INTO crises SELECT * FROM jsonb_populate_recordset(NULL::crises, $1::jsonb)
), new_alerts AS (
    INSERT INTO alerts SELECT * FROM jsonb_populate_recordset(NULL::alerts, $2::jsonb)
), changed_alerts AS (
    UPDATE alerts SET ({", ".join(_CHANGED)}) = ROW({", ".join("changed." + name for name in _CHANGED)})
    FROM jsonb_populate_recordset(NULL::alerts, $3::jsonb) AS changed WHERE alerts.id = changed.id
), new_timeline AS (
    INSERT INTO timeline SELECT * FROM jsonb_populate_recordset(NULL::timeline, $4::jsonb) ON CONFLICT DO NOTHING
), new_outbox AS (
    INSERT INTO outbox SELECT * FROM jsonb_populate_recordset(NULL::outbox, $5::jsonb)
), new_record AS (
    INSERT INTO record SELECT * FROM jsonb_populate_recordset(NULL::public.record, $6::jsonb)
)
UPDATE idempotency_keys SET status = $10, headers = $11::jsonb, body = $12
WHERE client_id = $7 AND route = $8 AND key = $9
"""  # noqa: S608 - the names are those of our own columns


async def write(
    tx: Transaction,
    *,
    new: Sequence[tuple[Alert, str | None]] = (),
    changed: Sequence[Alert] = (),
    opened: Sequence[Crisis] = (),
    entries: Iterable[Entry] = (),
    messages: Iterable[Message[Event]] = (),
    records: Iterable[Mapping[str, Any]] = (),
    answer: tuple[Attempt | None, StoredResponse] | None = None,
) -> None:
    """Everything that one decision changes, in one statement.

    `new` pairs an alert with the hash of the request that made it. Raises `Conflict` when its id was taken meanwhile.
    """
    attempt, stored = answer or (None, None)
    if attempt is None:
        stored = None
    arguments = (
        _json([_crisis_row(crisis, None) for crisis in opened]),
        _json([{**_alert_row(alert), "request_sha256": sha256} for alert, sha256 in new]),
        _json([_alert_row(alert) for alert in changed]),
        _json([_entry_row(entry) for entry in entries]),
        _json([outbox.row_of(message) for message in messages]),
        _json(list(records)),
        attempt and attempt.client_id,
        attempt and attempt.route,
        attempt and attempt.key,
        stored and stored.status,
        _json(dict(stored.headers)) if stored else None,
        stored and stored.body,
    )
    try:
        await (await raw(tx)).execute(_WRITE, *arguments)
    except asyncpg.UniqueViolationError:
        raise Conflict("an object with this id was created a moment ago; read it", code="id_taken") from None


async def save_crisis(tx: Transaction, crisis: Crisis, *, request_sha256: str | None = None) -> None:
    """Inserts or changes a crisis."""
    row = _crisis_row(crisis, request_sha256)
    changed = {name: row[name] for name in ("state", "changed_at", "version")}
    await tx.execute(insert(crises).values(row).on_conflict_do_update(index_elements=["id"], set_=changed))


async def follow_draft(tx: Transaction, crisis: Crisis) -> None:
    """What the crisis of a draft says follows the edits of it; a crisis of its own standing stays as it is."""
    others = (
        select(alerts.c.id).where(alerts.c.crisis_id == crisis.id, alerts.c.state != AlertState.DRAFT.value).exists()
    )
    await tx.execute(
        update(crises)
        .where(crises.c.id == crisis.id, crises.c.request_sha256.is_(None), ~others)
        .values(name=crisis.name, countries=list(crisis.countries), tlp=crisis.tlp.value)
    )


async def add_entries(tx: Transaction, entries: Iterable[Entry]) -> None:
    """Adds rows to the timeline; a row that is there already stays as it is."""
    rows = [_entry_row(entry) for entry in entries]
    if rows:
        await tx.execute(insert(timeline).on_conflict_do_nothing(), rows)


async def confirm(tx: Transaction, alert_id: UUID, codes: Iterable[str]) -> None:
    """Notes that the escalations of these partners have been opened."""
    await tx.execute(
        text(
            "UPDATE alerts SET unconfirmed = ARRAY("
            "SELECT code FROM unnest(unconfirmed) AS code WHERE code <> ALL(CAST(:codes AS text[]))"
            ") WHERE id = :alert_id AND unconfirmed <> '{}'"
        ),
        {"alert_id": alert_id, "codes": list(codes)},
    )


async def save_partner(tx: Transaction, partner: PartnerChanged) -> bool:
    """Keeps what is known of a partner; False for an older version than the one that is kept."""
    values = {
        "code": partner.partner,
        "name": partner.name,
        "standing": partner.standing.value,
        "active": partner.active,
        "version": partner.version,
    }
    upsert = insert(partners).values(values)
    saved = await tx.execute(
        upsert.on_conflict_do_update(
            index_elements=["code"],
            set_={name: upsert.excluded[name] for name in values},
            where=partners.c.version < upsert.excluded.version,
        )
    )
    return bool(saved.rowcount)


# --- what a decision needs --------------------------------------------------------------------------------------------


_PARTNERS = "SELECT code, active FROM partners"

_NEXT_NUMBER = """
WITH next AS (
    INSERT INTO reference_counters (raiser, year, last_number) VALUES ($1, $2, 1)
    ON CONFLICT (raiser, year) DO UPDATE SET last_number = reference_counters.last_number + 1
    RETURNING last_number
)
SELECT last_number, (SELECT jsonb_object_agg(code, active) FROM partners)::text AS partners FROM next
"""

_LOAD = "SELECT * FROM alerts WHERE id = $1 FOR UPDATE"


async def known_partners(tx: Transaction) -> dict[str, bool]:
    """Every known partner code, and whether it is active."""
    return {row["code"]: row["active"] for row in await (await raw(tx)).fetch(_PARTNERS)}


async def next_number(tx: Transaction, raiser: str, year: int) -> tuple[int, dict[str, bool]]:
    """The next reference number of a raiser's year, and every known partner: what a new alert needs, in one question.

    The counter's row stays locked until the commit, so that no number is given twice or left out.
    """
    row = await (await raw(tx)).fetchrow(_NEXT_NUMBER, raiser, year)
    assert row is not None
    return row["last_number"], orjson.loads(row["partners"] or "{}")


async def load_alert(tx: Transaction, alert_id: UUID) -> Alert | None:
    """The alert, locked."""
    row = await (await raw(tx)).fetchrow(_LOAD, alert_id)
    return None if row is None else _alert_of(SimpleNamespace(**row))


async def find_alert(tx: Transaction, alert_id: UUID) -> Alert | None:
    """The alert as it is now."""
    row = (await tx.execute(select(alerts).where(alerts.c.id == alert_id))).first()
    return None if row is None else _alert_of(row)


async def find_id(tx: Transaction, reference: str) -> UUID | None:
    """The id of the alert that people call by this reference."""
    found = (await tx.execute(select(alerts.c.id).where(alerts.c.reference == reference))).scalar_one_or_none()
    return None if found is None else _plain(found)


async def find_request(tx: Transaction, alert_id: UUID) -> tuple[str, str | None] | None:
    """Raiser and request hash of an alert, for a caller who supplied its id; None if there is no such alert."""
    row = (await tx.execute(select(alerts.c.raiser, alerts.c.request_sha256).where(alerts.c.id == alert_id))).first()
    return None if row is None else (row.raiser, row.request_sha256)


async def find_crisis_request(tx: Transaction, crisis_id: UUID) -> tuple[str, str | None] | None:
    """Owner and request hash of a crisis, for a caller who supplied its id; None if there is no such crisis."""
    row = (await tx.execute(select(crises.c.owner, crises.c.request_sha256).where(crises.c.id == crisis_id))).first()
    return None if row is None else (row.owner, row.request_sha256)


async def load_expired(tx: Transaction, *, now: datetime, limit: int) -> list[Alert]:
    """Released alerts whose time has passed, locked; those that somebody else holds are left to them."""
    query = (
        select(alerts)
        .where(alerts.c.state == AlertState.RELEASED.value, alerts.c.expires_at <= now)
        .order_by(alerts.c.expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [_alert_of(row) for row in await tx.execute(query)]


async def load_unconfirmed(
    tx: Transaction, *, now: datetime, after_seconds: int, again_seconds_max: int, limit: int
) -> list[tuple[Alert, bool]]:
    """Released alerts of which some escalation has not been reported after so long; True: to be said again now.

    The wait is `after_seconds` at first and doubles each time, up to `again_seconds_max`. What is due comes first.
    """
    doublings = func.least(alerts.c.times_said_again, 30) - 1
    wait_seconds = func.least(after_seconds * func.power(2.0, doublings), again_seconds_max)
    is_due = or_(
        alerts.c.said_again_at.is_(None),
        alerts.c.said_again_at + func.make_interval(0, 0, 0, 0, 0, 0, wait_seconds) <= now,
    )
    query = (
        select(alerts, is_due.label("is_due"))
        .where(
            alerts.c.state == AlertState.RELEASED.value,
            alerts.c.unconfirmed != text("'{}'::text[]"),
            alerts.c.released_at < now - timedelta(seconds=after_seconds),
        )
        .order_by(is_due.desc(), alerts.c.said_again_at.nulls_first(), alerts.c.released_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [(_alert_of(row), row.is_due) for row in await tx.execute(query)]


async def mark_said_again(tx: Transaction, alert_ids: Sequence[UUID], *, now: datetime) -> None:
    """Notes that these alerts were published once more."""
    await tx.execute(
        update(alerts)
        .where(alerts.c.id.in_(alert_ids))
        .values(said_again_at=now, times_said_again=alerts.c.times_said_again + 1)
    )


# --- what viewers read ------------------------------------------------------------------------------------------------


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
    return [_alert_of(row) for row in await tx.execute(query)]


def _crisis_visible(viewer: Viewer) -> ColumnElement[bool]:
    """The crises that the viewer may know of. One that a draft has opened is its owner's alone until the release."""
    released = select(alerts.c.id).where(alerts.c.crisis_id == crises.c.id, alerts.c.state != AlertState.DRAFT.value)
    standing = or_(crises.c.request_sha256.is_not(None), released.exists())
    ways: list[ColumnElement[bool]] = []
    if viewer.reads_for_partner:
        addressed = released.where(alerts.c.addressed.contains([viewer.partner])).exists()
        ways += [crises.c.owner == viewer.partner, addressed]
    if viewer.reads_community:
        ways.append(and_(standing, crises.c.tlp.in_([tlp.value for tlp in COMMUNITY])))
    if viewer.is_secretariat:
        ways.append(and_(standing, crises.c.tlp.not_in([tlp.value for tlp in Tlp if tlp.link_only])))
    return or_(false(), *ways)


async def find_crises(
    tx: Transaction, viewer: Viewer, *, state: str | None, before: UUID | None, limit: int
) -> list[Crisis]:
    """Crises that the viewer may know of, the newest id first."""
    query = select(crises).where(_crisis_visible(viewer)).order_by(crises.c.id.desc()).limit(limit)
    if state is not None:
        query = query.where(crises.c.state == state)
    if before is not None:
        query = query.where(crises.c.id < before)
    return [_crisis_of(row) for row in await tx.execute(query)]


async def find_crisis(tx: Transaction, viewer: Viewer, crisis_id: UUID, *, lock: bool = False) -> Crisis | None:
    """The crisis, if the viewer may know of it."""
    query = select(crises).where(crises.c.id == crisis_id, _crisis_visible(viewer))
    row = (await tx.execute(query.with_for_update(of=crises) if lock else query)).first()
    return None if row is None else _crisis_of(row)


async def crisis_of(tx: Transaction, crisis_id: UUID) -> Crisis | None:
    """The crisis of an alert, whoever may know of it."""
    row = (await tx.execute(select(crises).where(crises.c.id == crisis_id))).first()
    return None if row is None else _crisis_of(row)


async def find_chain(tx: Transaction, root_id: UUID, until: UUID) -> list[Alert]:
    """The earlier messages of a chain, oldest first, up to but without `until`."""
    query = select(alerts).where(alerts.c.root_id == root_id, alerts.c.released_at.is_not(None)).order_by(alerts.c.id)
    chain = [_alert_of(row) for row in await tx.execute(query)]
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


# --- rows and values --------------------------------------------------------------------------------------------------


def _json(value: Any) -> str:
    return orjson.dumps(value, default=str).decode()


def _alert_row(alert: Alert) -> dict[str, Any]:
    content = alert.content
    return {
        "id": str(alert.id),
        "root_id": str(alert.root_id),
        "corrects": alert.corrects and str(alert.corrects),
        "asks_anew": alert.asks_anew,
        "reference": alert.reference,
        "crisis_id": str(alert.crisis_id),
        "raiser": alert.raiser,
        "msg_type": alert.msg_type.value,
        "state": alert.state.value,
        "version": alert.version,
        "status": content.status.value,
        "precedence": content.precedence.value,
        "tlp": content.tlp.value,
        "content": orjson.Fragment(content.model_dump_json()),
        "recipients": [recipient.model_dump(mode="json") for recipient in alert.recipients],
        "addressed": sorted(alert.addressed),
        "drafted_at": alert.drafted_at,
        "drafted_by": alert.drafted_by.model_dump(mode="json"),
        "authors": [author.model_dump(mode="json") for author in alert.authors],
        "released_at": alert.released_at,
        "released_by": alert.released_by and alert.released_by.model_dump(mode="json"),
        "expires_at": alert.expires_at,
        "self_release_reason": alert.self_release_reason,
        "needs_review": alert.needs_review,
        "ended_at": alert.ended_at,
        "ended_by": alert.ended_by and alert.ended_by.model_dump(mode="json"),
        "end_note": alert.end_note,
        "superseded_by": alert.superseded_by and str(alert.superseded_by),
        "unconfirmed": sorted(alert.unconfirmed),
        "times_said_again": 0,
    }


def _alert_of(row: Any) -> Alert:
    return Alert(
        id=AlertId(_plain(row.id)),
        root_id=AlertId(_plain(row.root_id)),
        corrects=None if row.corrects is None else AlertId(_plain(row.corrects)),
        asks_anew=row.asks_anew,
        reference=row.reference,
        crisis_id=CrisisId(_plain(row.crisis_id)),
        raiser=row.raiser,
        msg_type=MsgType(row.msg_type),
        state=AlertState(row.state),
        version=row.version,
        content=Content.model_validate(row.content),
        recipients=tuple(Recipient.model_validate(recipient) for recipient in row.recipients),
        drafted_at=row.drafted_at,
        drafted_by=Actor.model_validate(row.drafted_by),
        authors=tuple(Actor.model_validate(author) for author in row.authors),
        released_at=row.released_at,
        released_by=row.released_by and Actor.model_validate(row.released_by),
        expires_at=row.expires_at,
        self_release_reason=row.self_release_reason,
        needs_review=row.needs_review,
        ended_at=row.ended_at,
        ended_by=row.ended_by and Actor.model_validate(row.ended_by),
        end_note=row.end_note,
        superseded_by=None if row.superseded_by is None else AlertId(_plain(row.superseded_by)),
        unconfirmed=frozenset(row.unconfirmed),
    )


def _crisis_row(crisis: Crisis, request_sha256: str | None) -> dict[str, Any]:
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
    }


def _crisis_of(row: Any) -> Crisis:
    return Crisis(
        id=CrisisId(_plain(row.id)),
        owner=row.owner,
        name=row.name,
        countries=tuple(row.countries),
        tlp=Tlp(row.tlp),
        state=CrisisState(row.state),
        opened_at=row.opened_at,
        opened_by=Actor.model_validate(row.opened_by),
        changed_at=row.changed_at,
        version=row.version,
    )


def _entry_row(entry: Entry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "alert_id": entry.alert_id,
        "occurred_at": entry.occurred_at,
        "type": entry.type,
        "body": entry.body,
        "visible_to": list(entry.visible_to),
    }


def _entry_of(row: Any) -> Entry:
    return Entry(
        id=_plain(row.id),
        alert_id=_plain(row.alert_id),
        occurred_at=row.occurred_at,
        type=row.type,
        body=row.body,
        visible_to=tuple(row.visible_to),
        position=row.position,
    )


def _plain(driver_id: UUID) -> UUID:
    """The standard library's UUID instead of the driver's own subclass, which serialisers refuse."""
    return UUID(int=driver_id.int)
