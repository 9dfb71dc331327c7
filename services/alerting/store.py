"""The rows of alerting, and every query on them. `load_*` locks, `find_*` does not; time is always a parameter.

Whatever changes an alert goes through `write`: one statement for alert, crisis, timeline, outbox, record and the answer
kept for an `Idempotency-Key`. Releasing is what this network exists for, and one statement takes a third of the time of
six.

Locks are taken from a message to the one that it corrects, never the other way, so two of them cannot wait for each
other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from types import MappingProxyType, SimpleNamespace
from typing import Any
from uuid import UUID

import asyncpg
import orjson
from sqlalchemy import func, or_, select, text, update
from sqlalchemy.dialects.postgresql import insert

from services.alerting.content import Content, Network
from services.alerting.crises import store as crisis_store
from services.alerting.crises.domain import Crisis
from services.alerting.domain import Alert, AlertState
from services.alerting.tables import alerts, deadlines, partners, plain
from shared import idempotency, outbox
from shared.contracts import (
    DEFAULT_DEADLINES,
    RECIPIENTS,
    Actor,
    Deadlines,
    DeadlinesChanged,
    MsgType,
    PartnerChanged,
    Precedence,
)
from shared.db import Transaction, raw
from shared.errors import Conflict
from shared.events import Event, Message
from shared.idempotency import Attempt, StoredResponse
from shared.ids import AlertId, CrisisId


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

_ADD_ENTRIES = (
    "INSERT INTO timeline SELECT * FROM jsonb_populate_recordset(NULL::timeline, $1::jsonb) ON CONFLICT DO NOTHING"
)


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
        _json([crisis_store.row_of(crisis, None) for crisis in opened]),
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


async def add_entries(tx: Transaction, entries: Iterable[Entry]) -> None:
    """Adds rows to the timeline; a row that is there already stays as it is."""
    rows = [_entry_row(entry) for entry in sorted(entries, key=lambda entry: entry.id)]
    if rows:
        await (await raw(tx)).execute(_ADD_ENTRIES, _json(rows))


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
        "time_zone": partner.time_zone,
        "languages": list(partner.languages),
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


async def save_deadlines(tx: Transaction, changed: DeadlinesChanged) -> None:
    """Keeps the network's table unless a newer one is kept."""
    rows = [
        {"precedence": precedence.value, "body": given.model_dump(mode="json"), "version": changed.version}
        for precedence, given in changed.deadlines.items()
    ]
    upsert = insert(deadlines)
    await tx.execute(
        upsert.on_conflict_do_update(
            index_elements=["precedence"],
            set_={"body": upsert.excluded.body, "version": upsert.excluded.version},
            where=deadlines.c.version < upsert.excluded.version,
        ),
        rows,
    )


# --- what a decision needs --------------------------------------------------------------------------------------------


_NETWORK = """
SELECT
    (SELECT jsonb_object_agg(code, active) FROM partners)::text AS partners,
    (SELECT jsonb_object_agg(precedence, body) FROM deadlines)::text AS deadlines
"""

_NEXT_NUMBER = f"""
WITH next AS (
    INSERT INTO reference_counters (raiser, year, last_number) VALUES ($1, $2, 1)
    ON CONFLICT (raiser, year) DO UPDATE SET last_number = reference_counters.last_number + 1
    RETURNING last_number
)
SELECT last_number, known.* FROM next, ({_NETWORK}) AS known
"""  # noqa: S608 - our own text

# A number is counted for a new request alone: one that was done before must not leave a gap.
_BEGIN = f"""
WITH held AS (
    {idempotency.HOLD}
), taken AS (
    SELECT raiser, request_sha256 FROM alerts WHERE id = $7
), next AS (
    INSERT INTO reference_counters (raiser, year, last_number) SELECT $8, $9, 1
    WHERE NOT EXISTS (SELECT FROM taken) AND ($6::text IS NULL OR EXISTS (SELECT FROM held))
    ON CONFLICT (raiser, year) DO UPDATE SET last_number = reference_counters.last_number + 1
    RETURNING last_number
)
SELECT EXISTS (SELECT FROM held) AS holds_key, taken.raiser, taken.request_sha256, next.last_number, known.*
FROM ({_NETWORK}) AS known LEFT JOIN taken ON true LEFT JOIN next ON true
"""  # noqa: S608 - our own text

_LOAD = "SELECT * FROM alerts WHERE id = $1 FOR UPDATE"


@dataclass(frozen=True, slots=True)
class Beginning:
    """What a request for a new alert finds: whether it holds its key now, who has made its id before, and its number.

    There is no number for a request that was done before, by its key or by its id.
    """

    holds_key: bool
    made_by: tuple[str, str | None] | None
    number: int | None
    network: Network


async def known_network(tx: Transaction) -> Network:
    """Every known partner code with whether it is active, and the network's deadlines."""
    return _network_of(await (await raw(tx)).fetchrow(_NETWORK))


def _network_of(row: Any) -> Network:
    return Network(orjson.loads(row["partners"] or "{}"), _table_of(row["deadlines"] or "{}"))


@lru_cache(maxsize=4)
def _table_of(stored: str) -> Mapping[Precedence, Deadlines]:
    """The network's deadlines, read once for as long as nobody changes them."""
    written = {Precedence(name): Deadlines.model_validate(body) for name, body in orjson.loads(stored).items()}
    return MappingProxyType({**DEFAULT_DEADLINES, **written})


async def next_number(tx: Transaction, raiser: str, year: int) -> tuple[int, Network]:
    """The next reference number of a raiser's year, and the network: what a new alert needs, in one question.

    The counter's row stays locked until the commit, so that no number is given twice or left out.
    """
    row = await (await raw(tx)).fetchrow(_NEXT_NUMBER, raiser, year)
    assert row is not None
    return row["last_number"], _network_of(row)


async def begin_alert(
    tx: Transaction, attempt: Attempt | None, *, alert_id: UUID | None, raiser: str, year: int, now: datetime
) -> Beginning:
    """Everything that a new alert begins with, in one question: key, id, number and network.

    The counter's row stays locked until the commit, so that no number is given twice or left out.
    """
    row = await (await raw(tx)).fetchrow(_BEGIN, *idempotency.hold_arguments(attempt, now), alert_id, raiser, year)
    assert row is not None
    made_by = None if row["raiser"] is None else (row["raiser"], row["request_sha256"])
    return Beginning(row["holds_key"], made_by, row["last_number"], _network_of(row))


async def load_alert(tx: Transaction, alert_id: UUID) -> Alert | None:
    """The alert, locked."""
    row = await (await raw(tx)).fetchrow(_LOAD, alert_id)
    return None if row is None else alert_of(SimpleNamespace(**row))


async def find_alert(tx: Transaction, alert_id: UUID) -> Alert | None:
    """The alert as it is now."""
    row = (await tx.execute(select(alerts).where(alerts.c.id == alert_id))).first()
    return None if row is None else alert_of(row)


async def find_id(tx: Transaction, reference: str) -> UUID | None:
    """The id of the alert that people call by this reference."""
    found = (await tx.execute(select(alerts.c.id).where(alerts.c.reference == reference))).scalar_one_or_none()
    return None if found is None else plain(found)


async def find_request(tx: Transaction, alert_id: UUID) -> tuple[str, str | None] | None:
    """Raiser and request hash of an alert, for a caller who supplied its id; None if there is no such alert."""
    row = (await tx.execute(select(alerts.c.raiser, alerts.c.request_sha256).where(alerts.c.id == alert_id))).first()
    return None if row is None else (row.raiser, row.request_sha256)


async def load_expired(tx: Transaction, *, now: datetime, limit: int) -> list[Alert]:
    """Released alerts whose time has passed, locked; those that somebody else holds are left to them."""
    query = (
        select(alerts)
        .where(alerts.c.state == AlertState.RELEASED.value, alerts.c.expires_at <= now)
        .order_by(alerts.c.expires_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [alert_of(row) for row in await tx.execute(query)]


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
    return [(alert_of(row), row.is_due) for row in await tx.execute(query)]


async def mark_said_again(tx: Transaction, alert_ids: Sequence[UUID], *, now: datetime) -> None:
    """Notes that these alerts were published once more."""
    await tx.execute(
        update(alerts)
        .where(alerts.c.id.in_(alert_ids))
        .values(said_again_at=now, times_said_again=alerts.c.times_said_again + 1)
    )


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
        "recipients": [
            {"partner": r.partner, "kind": r.kind, "addressed_at": r.addressed_at} for r in alert.recipients
        ],
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


def alert_of(row: Any) -> Alert:
    """The alert of a row."""
    return Alert(
        id=AlertId(plain(row.id)),
        root_id=AlertId(plain(row.root_id)),
        corrects=None if row.corrects is None else AlertId(plain(row.corrects)),
        asks_anew=row.asks_anew,
        reference=row.reference,
        crisis_id=CrisisId(plain(row.crisis_id)),
        raiser=row.raiser,
        msg_type=MsgType(row.msg_type),
        state=AlertState(row.state),
        version=row.version,
        content=Content.model_validate(row.content),
        recipients=RECIPIENTS.validate_python(row.recipients),
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
        superseded_by=None if row.superseded_by is None else AlertId(plain(row.superseded_by)),
        unconfirmed=frozenset(row.unconfirmed),
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
