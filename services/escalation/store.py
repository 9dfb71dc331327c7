"""The rows of escalation. `load_*` locks, `find_*` does not.

    alert_heads     one row per alert that was heard of, also if only its end was
    escalations     one partner's obligation; `due_at` is when the next thing happens
    pages           one message to one contact point; attempts: one try each, with its reason
    duty_plans      the newest plan of every partner; partners: office and endpoints as published
    point_health    contact points that failed several times in a row, or for good
    verifications   the newest code that was sent to each contact point; the code itself is nowhere

Locks are taken in one order everywhere: alert head, escalations by id, pages. There are no foreign keys between these
tables: a thousand pages that lock one alert row cost more than all the rest of the fan-out.

Batches are one statement, not 200: as one JSON array into `jsonb_populate_recordset`, and new escalations and pages,
of which most columns are the same for every partner, as one record of what they share with typed arrays of the rest.
That takes PostgreSQL half the time (`docs/decisions/0010-a-second-process-sends.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from operator import itemgetter
from typing import Any, TypeVar
from uuid import UUID

import orjson
from pydantic import TypeAdapter
from sqlalchemy import (
    Boolean,
    Column,
    DateTime,
    Float,
    Index,
    Integer,
    LargeBinary,
    Numeric,
    SmallInteger,
    Table,
    Text,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import dialect as postgresql_dialect

from services.escalation.model import AlertFacts, DueReason, Escalation, Position
from shared.contracts import (
    Actor,
    EndReason,
    EscalationKind,
    EscalationState,
    Gap,
    PlannedLevel,
)
from shared.db import Transaction, raw, service_metadata

T = TypeVar("T")

NOT_SENT = "no_longer_wanted"
"""The reason of an attempt that was leased and not begun, because its escalation had been answered or ended."""

ENDING_TYPES = ("alert.ended", "answer.received")
"""What is sent to those who were paged once it is over, for the alert or for a takeover."""

metadata = service_metadata()

Row = Mapping[str, Any]
"""A row as the driver gives it: columns by name."""


def _at(name: str, *, nullable: bool = True) -> Column[datetime]:
    return Column(name, DateTime(timezone=True), nullable=nullable)


alert_heads = Table(
    "alert_heads",
    metadata,
    Column("alert_id", Uuid, primary_key=True),
    Column("root_alert_id", Uuid),
    Column("corrects", Uuid),
    Column("superseded_by", Uuid),
    Column("facts", JSONB),
    Column("content", JSONB),
    Column("answered", JSONB),
    _at("ended_at"),
    Column("end_reason", Text),
    _at("received_at", nullable=False),
    Index("ix_alert_heads_root_alert_id", "root_alert_id"),
)

escalations = Table(
    "escalations",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("alert_id", Uuid, nullable=False),
    Column("partner", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject_partner", Text, nullable=False),
    Column("raiser", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("levels", JSONB, nullable=False),
    Column("level", SmallInteger, nullable=False),
    _at("opened_at", nullable=False),
    _at("clock_started_at", nullable=False),
    _at("expires_at", nullable=False),
    _at("acknowledge_by_at"),
    Column("next_level_every_seconds", Integer),
    _at("unreached_at"),
    _at("position_by_at"),
    _at("due_at"),
    Column("due_reason", Text),
    Column("paged", Boolean, nullable=False),
    _at("first_attempt_at"),
    Column("unreached_postponed", Boolean, nullable=False),
    Column("position_reminders", SmallInteger, nullable=False),
    _at("notified_at"),
    _at("acknowledged_at"),
    Column("acknowledged_by", JSONB),
    Column("asserted_by_system", Text),
    Column("acknowledged_via", Text),
    Column("late", Boolean, nullable=False),
    Column("position", JSONB),
    Column("taken_over_by", JSONB),
    _at("taken_over_at"),
    _at("ended_at"),
    Column("end_reason", Text),
    Column("gaps", ARRAY(Text), nullable=False),
    Column("one_provider", Boolean, nullable=False, server_default=text("false")),
    Column("added", ARRAY(Uuid)),
    Column("stopped", ARRAY(Uuid)),
    Column("brief", JSONB),
    _at("changed_at", nullable=False),
    Index("uq_escalations_alert_id_partner_subject_partner", "alert_id", "partner", "subject_partner", unique=True),
    Index("ix_escalations_due_at", "due_at", postgresql_where=text("due_at IS NOT NULL")),
    Index("ix_escalations_partner_opened_at", "partner", "opened_at"),
)

pages = Table(
    "pages",
    metadata,
    Column("id", Uuid, primary_key=True),
    Column("escalation_id", Uuid),
    Column("alert_id", Uuid),
    Column("partner", Text, nullable=False),
    Column("contact_point_id", Uuid, nullable=False),
    Column("contact_id", Uuid),
    Column("channel", Text, nullable=False),
    Column("sealed_address", Text, nullable=False),
    Column("told", Text, nullable=False),
    Column("message_type", Text, nullable=False),
    Column("level", SmallInteger, nullable=False),
    Column("asks", Boolean, nullable=False),
    Column("data", JSONB),
    Column("priority", SmallInteger, nullable=False),
    Column("state", Text, nullable=False),
    _at("due_at", nullable=False),
    _at("leased_until"),
    Column("attempts", Integer, nullable=False),
    _at("first_attempt_at"),
    _at("delivered_at"),
    _at("give_up_at", nullable=False),
    _at("created_at", nullable=False),
    Column("languages", ARRAY(Text)),
    Column("time_zone", Text),
    _at("answer_by_at"),
    Column("reply_key", LargeBinary),
    Column("sent_with", Uuid),
    Index("ix_pages_due", "due_at", postgresql_where=text("state = 'due'")),
    Index("ix_pages_leased", "leased_until", postgresql_where=text("state = 'leased'")),
    Index("ix_pages_escalation_id", "escalation_id"),
    Index("ix_pages_alert_id", "alert_id"),
    Index("ix_pages_reply_key", "reply_key", "created_at", postgresql_where=text("reply_key IS NOT NULL")),
    Index("ix_pages_sent_with", "sent_with", postgresql_where=text("sent_with IS NOT NULL")),
    Index("ix_pages_beside", "partner", "created_at", postgresql_where=text("escalation_id IS NULL")),
)

attempts = Table(
    "attempts",
    metadata,
    Column("page_id", Uuid, primary_key=True),
    Column("number", Integer, primary_key=True),
    _at("started_at", nullable=False),
    _at("finished_at"),
    Column("state", Text),
    Column("reason", Text),
    Column("detail", Text),
    Column("status_code", SmallInteger),
    Column("elapsed_seconds", Float),
    Column("provider_id", Text),
    Column("provider", Text),
    _at("delivered_at"),
    Column("cost_amount", Numeric),
    Column("cost_currency", Text),
    Index("ix_attempts_provider_id", "provider", "provider_id", postgresql_where=text("provider_id IS NOT NULL")),
)

early_receipts = Table(
    "early_receipts",
    metadata,
    Column("provider", Text, primary_key=True),
    Column("provider_id", Text, primary_key=True),
    Column("state", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("detail", Text),
    Column("cost_amount", Numeric),
    Column("cost_currency", Text),
    _at("received_at", nullable=False),
)

duty_plans = Table(
    "duty_plans",
    metadata,
    Column("partner", Text, primary_key=True),
    Column("plan_version", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("previous_body", Text),
    _at("received_at", nullable=False),
)

partners = Table(
    "partners",
    metadata,
    Column("partner", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    Column("body", Text, nullable=False),
    _at("received_at", nullable=False),
)

point_health = Table(
    "point_health",
    metadata,
    Column("contact_point_id", Uuid, primary_key=True),
    Column("partner", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("last_reason", Text),
    _at("since_at", nullable=False),
    Column("told", Boolean, nullable=False),
    Column("hard", Boolean, nullable=False, server_default=text("false")),
)

verifications = Table(
    "verifications",
    metadata,
    Column("contact_point_id", Uuid, primary_key=True),
    Column("partner", Text, nullable=False),
    Column("page_id", Uuid, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("wrong_tries", SmallInteger, nullable=False),
    _at("asked_at", nullable=False),
    _at("first_asked_at", nullable=False),
    Column("asked", SmallInteger, nullable=False),
    _at("verified_at"),
)


# --- rows and values --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AlertHead:
    """What is known of an alert. `facts` is None while only its end, or an Update of it, has arrived.

    `answered` says when partners of other nodes acknowledged, as far as this node has heard.
    """

    alert_id: UUID
    facts: AlertFacts | None
    superseded_by: UUID | None
    ended_at: datetime | None
    end_reason: EndReason | None
    answered: Mapping[str, datetime]


_answered = TypeAdapter(dict[str, datetime])
_facts = TypeAdapter(AlertFacts)
_position = TypeAdapter(Position)
_levels = TypeAdapter(tuple[PlannedLevel, ...])
_actor = TypeAdapter(Actor)


def dump(value: Any) -> str:
    """JSON text for a jsonb parameter."""
    return orjson.dumps(value, default=_plain).decode()


def _read(adapter: TypeAdapter[T], stored: object) -> T:
    """A value from a jsonb column, which the driver gives as an object, or as text where a query casts it."""
    return adapter.validate_json(stored) if isinstance(stored, str) else adapter.validate_python(stored)


def _plain(value: Any) -> Any:
    if isinstance(value, UUID):  # the driver's own UUID class, which orjson does not know
        return str(value)
    if isinstance(value, bytes):
        return f"\\x{value.hex()}"
    if isinstance(value, Decimal):
        return str(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(type(value).__name__)


def facts_of_json(stored: object) -> AlertFacts:
    """An alert's facts from what is stored."""
    return _read(_facts, stored)


def position_of_json(stored: object) -> Position | None:
    """A position from what is stored."""
    return None if stored is None else _read(_position, stored)


def facts_to_json(facts: AlertFacts) -> Any:
    """An alert's facts as they are stored."""
    return _facts.dump_python(facts, mode="json")


LEVELS_REMEMBERED_MAX = 4096


@lru_cache(maxsize=LEVELS_REMEMBERED_MAX)
def _levels_of(stored: str) -> tuple[PlannedLevel, ...]:
    return _levels.validate_json(stored)


@lru_cache(maxsize=LEVELS_REMEMBERED_MAX)
def _levels_text(levels: tuple[PlannedLevel, ...]) -> str:
    return _levels.dump_json(levels).decode()


_COLUMNS = tuple(column.name for column in escalations.columns)
_SAVED = tuple(
    name for name in _COLUMNS if name not in {"id", "alert_id", "partner", "kind", "subject_partner", "raiser"}
)


def escalation_row(escalation: Escalation, now: datetime) -> dict[str, Any]:
    """The row of an escalation, ready for JSON."""
    return {
        "id": escalation.id,
        "alert_id": escalation.alert.alert_id,
        "partner": escalation.partner,
        "kind": escalation.kind,
        "subject_partner": escalation.subject_partner,
        "raiser": escalation.alert.raiser,
        "state": escalation.state,
        "levels": orjson.Fragment(_levels_text(escalation.levels)),
        "level": escalation.level,
        "opened_at": escalation.opened_at,
        "clock_started_at": escalation.clock_started_at,
        "expires_at": escalation.expires_at,
        "acknowledge_by_at": escalation.acknowledge_by_at,
        "next_level_every_seconds": escalation.next_level_every_seconds,
        "unreached_at": escalation.unreached_at,
        "position_by_at": escalation.position_by_at,
        "due_at": escalation.due_at,
        "due_reason": escalation.due_reason,
        "paged": escalation.paged,
        "first_attempt_at": escalation.first_attempt_at,
        "unreached_postponed": escalation.unreached_postponed,
        "position_reminders": escalation.position_reminders,
        "notified_at": escalation.notified_at,
        "acknowledged_at": escalation.acknowledged_at,
        "acknowledged_by": escalation.acknowledged_by,
        "asserted_by_system": escalation.asserted_by_system,
        "acknowledged_via": escalation.acknowledged_via,
        "late": escalation.late,
        "position": None if escalation.position is None else _position.dump_python(escalation.position, mode="json"),
        "taken_over_by": escalation.taken_over_by,
        "taken_over_at": escalation.taken_over_at,
        "ended_at": escalation.ended_at,
        "end_reason": escalation.end_reason,
        "gaps": list(escalation.gaps),
        "one_provider": escalation.one_provider,
        "added": list(escalation.added) or None,
        "stopped": list(escalation.stopped) or None,
        "brief": escalation.brief,
        "changed_at": now,
    }


def escalation_of(row: Mapping[str, Any], facts: AlertFacts) -> Escalation:
    """The escalation of a row and its alert's facts."""
    return Escalation(
        id=row["id"],
        alert=facts,
        partner=row["partner"],
        kind=EscalationKind(row["kind"]),
        opened_at=row["opened_at"],
        clock_started_at=row["clock_started_at"],
        expires_at=row["expires_at"],
        subject_partner=row["subject_partner"],
        state=EscalationState(row["state"]),
        levels=_levels_of(row["levels"]),
        level=row["level"],
        acknowledge_by_at=row["acknowledge_by_at"],
        next_level_every_seconds=row["next_level_every_seconds"],
        unreached_at=row["unreached_at"],
        position_by_at=row["position_by_at"],
        due_at=row["due_at"],
        due_reason=None if row["due_reason"] is None else DueReason(row["due_reason"]),
        paged=row["paged"],
        first_attempt_at=row["first_attempt_at"],
        unreached_postponed=row["unreached_postponed"],
        position_reminders=row["position_reminders"],
        notified_at=row["notified_at"],
        acknowledged_at=row["acknowledged_at"],
        acknowledged_by=actor_of(row["acknowledged_by"]),
        asserted_by_system=row["asserted_by_system"],
        acknowledged_via=row["acknowledged_via"],
        late=row["late"],
        position=position_of_json(row["position"]),
        taken_over_by=actor_of(row["taken_over_by"]),
        taken_over_at=row["taken_over_at"],
        ended_at=row["ended_at"],
        end_reason=None if row["end_reason"] is None else EndReason(row["end_reason"]),
        gaps=tuple(Gap(gap) for gap in row["gaps"]),
        one_provider=row["one_provider"],
        added=tuple(row["added"] or ()),
        stopped=tuple(row["stopped"] or ()),
        brief=row["brief"],
    )


def actor_of(stored: object) -> Actor | None:
    """The person or system of a stored actor."""
    return None if stored is None else _read(_actor, stored)


# --- alert heads ------------------------------------------------------------------------------------------------------

_HEAD = "alert_id, facts, superseded_by, ended_at, end_reason, answered"
CHAIN_LENGTH_MAX = 1000
"""How many Updates of Updates are followed: more than any crisis has had, and an end to a ring of them."""


async def load_head(tx: Transaction, alert_id: UUID, now: datetime) -> AlertHead:
    """The alert's head, locked; inserted if unknown, because the end may come before the beginning."""
    connection = await raw(tx)
    row = await connection.fetchrow(
        "INSERT INTO alert_heads (alert_id, received_at) VALUES ($1, $2)"  # noqa: S608 - our own column names
        f" ON CONFLICT DO NOTHING RETURNING {_HEAD}",
        alert_id,
        now,
    )
    if row is None:
        row = await connection.fetchrow(f"SELECT {_HEAD} FROM alert_heads WHERE alert_id = $1 FOR UPDATE", alert_id)  # noqa: S608
    assert row is not None
    return _head_of(row)


async def find_heads(tx: Transaction, alert_ids: Sequence[UUID]) -> dict[UUID, AlertHead]:
    """The heads of the alerts that are known, without a lock."""
    connection = await raw(tx)
    rows = await connection.fetch(f"SELECT {_HEAD} FROM alert_heads WHERE alert_id = ANY($1)", list(alert_ids))  # noqa: S608
    return {row["alert_id"]: _head_of(row) for row in rows}


def _head_of(row: Any) -> AlertHead:
    return AlertHead(
        alert_id=row["alert_id"],
        facts=None if row["facts"] is None else facts_of_json(row["facts"]),
        superseded_by=row["superseded_by"],
        ended_at=row["ended_at"],
        end_reason=None if row["end_reason"] is None else EndReason(row["end_reason"]),
        answered={} if row["answered"] is None else _answered.validate_python(row["answered"]),
    )


async def load_newest(tx: Transaction, alert_id: UUID, now: datetime) -> UUID:
    """The newest Update in the chain that begins with this alert; the head of each is locked on the way, older first.

    It is the alert itself where nothing has corrected it.
    """
    for _ in range(CHAIN_LENGTH_MAX):
        head = await load_head(tx, alert_id, now)
        if head.superseded_by is None or head.superseded_by == alert_id:
            break
        alert_id = head.superseded_by
    return alert_id


async def save_facts(tx: Transaction, facts: AlertFacts) -> None:
    """Keeps what another message says of an alert until its release arrives."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE alert_heads SET root_alert_id = $2, facts = $3 WHERE alert_id = $1 AND facts IS NULL",
        facts.alert_id,
        facts.root_alert_id,
        dump(facts_to_json(facts)),
    )


async def save_answered(tx: Transaction, head: AlertHead, partner: str, at: datetime) -> None:
    """Remembers when a partner of another node acknowledged: its newest acknowledgement counts."""
    known = head.answered.get(partner)
    if known is None or known < at:
        connection = await raw(tx)
        answered = {code: instant.isoformat() for code, instant in {**head.answered, partner: at}.items()}
        await connection.execute(
            "UPDATE alert_heads SET answered = $2 WHERE alert_id = $1", head.alert_id, dump(answered)
        )


async def save_release(tx: Transaction, facts: AlertFacts, corrects: UUID | None, content: Any) -> None:
    """Fills a head with what its release says."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE alert_heads SET root_alert_id = $2, corrects = $3, facts = $4, content = $5 WHERE alert_id = $1",
        facts.alert_id,
        facts.root_alert_id,
        corrects,
        dump(facts_to_json(facts)),
        dump(content),
    )


async def save_superseded(tx: Transaction, alert_id: UUID, superseded_by: UUID) -> None:
    """Marks a head as corrected by an Update."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE alert_heads SET superseded_by = $2 WHERE alert_id = $1 AND superseded_by IS NULL",
        alert_id,
        superseded_by,
    )


async def save_end(tx: Transaction, alert_id: UUID, reason: EndReason, ended_at: datetime) -> None:
    """Marks a head as ended; the first end counts."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE alert_heads SET ended_at = $2, end_reason = $3 WHERE alert_id = $1 AND ended_at IS NULL",
        alert_id,
        ended_at,
        reason,
    )


async def find_content(tx: Transaction, alert_ids: Sequence[UUID]) -> dict[UUID, tuple[AlertFacts, dict[str, Any]]]:
    """Facts and content of released alerts: what pages are rendered from."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT alert_id, facts, content FROM alert_heads WHERE alert_id = ANY($1) AND facts IS NOT NULL",
        list(alert_ids),
    )
    return {row["alert_id"]: (facts_of_json(row["facts"]), row["content"]) for row in rows}


# --- escalations ------------------------------------------------------------------------------------------------------

_SELECT = (
    "SELECT "  # noqa: S608 - our own column names
    + ", ".join(f"e.{name}::text" if name == "levels" else f"e.{name}" for name in _COLUMNS)
    + ", h.facts::text FROM escalations e JOIN alert_heads h USING (alert_id)"
)
"""Levels and facts come as text, because the same ones come for hundreds of rows and are read once."""


def _escalations_of(rows: Iterable[Any]) -> list[Escalation]:
    facts: dict[str, AlertFacts] = {}
    found = []
    for row in rows:
        stored = row["facts"]
        if stored not in facts:
            facts[stored] = facts_of_json(stored)
        found.append(escalation_of(row, facts[stored]))
    return found


async def load_of_alert(tx: Transaction, alert_id: UUID) -> list[Escalation]:
    """All escalations of an alert, locked in the order of their ids. The head must be locked before."""
    connection = await raw(tx)
    return _escalations_of(
        await connection.fetch(f"{_SELECT} WHERE alert_id = $1 ORDER BY e.id FOR UPDATE OF e", alert_id)
    )


async def find_escalation(tx: Transaction, escalation_id: UUID) -> Escalation | None:
    """One escalation, without a lock."""
    connection = await raw(tx)
    found = _escalations_of(await connection.fetch(f"{_SELECT} WHERE e.id = $1", escalation_id))
    return found[0] if found else None


async def find_carried_to(tx: Transaction, alert_id: UUID) -> UUID | None:
    """The newest Update of an alert, if none on the way to it asks anew; None otherwise, or if nothing corrects it."""
    connection = await raw(tx)
    rows = await connection.fetch(
        """
        WITH RECURSIVE chain AS (
            SELECT superseded_by AS alert_id, 1 AS place FROM alert_heads WHERE alert_id = $1
            UNION ALL
            SELECT h.superseded_by, c.place + 1 FROM chain c JOIN alert_heads h USING (alert_id) WHERE c.place < $2
        )
        SELECT c.alert_id, coalesce((h.facts ->> 'asks_anew')::boolean, false) AS asks_anew
        FROM chain c JOIN alert_heads h USING (alert_id) ORDER BY c.place
        """,
        alert_id,
        CHAIN_LENGTH_MAX,
    )
    return None if not rows or any(row["asks_anew"] for row in rows) else rows[-1]["alert_id"]


async def find_taken_over(
    tx: Transaction, root_alert_id: UUID, alert_id: UUID, subject_partner: str
) -> dict[str, Escalation]:
    """By taker, the newest takeover of a partner that a human took for an earlier message of this chain."""
    connection = await raw(tx)
    rows = await connection.fetch(
        f"{_SELECT} WHERE h.root_alert_id = $1 AND alert_id <> $2 AND e.subject_partner = $3"
        " AND e.taken_over_at IS NOT NULL ORDER BY e.taken_over_at",
        root_alert_id,
        alert_id,
        subject_partner,
    )
    return {escalation.partner: escalation for escalation in _escalations_of(rows)}


async def find_takeover_family(tx: Transaction, alert_id: UUID, subject_partner: str) -> list[UUID]:
    """The unreached partner's own escalation and the takeovers for it, as far as they are here."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT id FROM escalations WHERE alert_id = $1"
        " AND (subject_partner = $2 OR partner = $2 AND subject_partner = '')",
        alert_id,
        subject_partner,
    )
    return [row["id"] for row in rows]


async def load_one(tx: Transaction, escalation_id: UUID) -> Escalation | None:
    """One escalation, locked."""
    connection = await raw(tx)
    found = _escalations_of(await connection.fetch(f"{_SELECT} WHERE e.id = $1 FOR UPDATE OF e", escalation_id))
    return found[0] if found else None


async def load_many(tx: Transaction, escalation_ids: Sequence[UUID]) -> list[Escalation]:
    """Several escalations, locked in the order of their ids."""
    connection = await raw(tx)
    return _escalations_of(
        await connection.fetch(f"{_SELECT} WHERE e.id = ANY($1) ORDER BY e.id FOR UPDATE OF e", list(escalation_ids))
    )


async def load_takeovers(tx: Transaction, alert_id: UUID, subject_partner: str) -> list[Escalation]:
    """The takeover escalations for an unreached partner, locked."""
    connection = await raw(tx)
    return _escalations_of(
        await connection.fetch(
            f"{_SELECT} WHERE alert_id = $1 AND e.subject_partner = $2 ORDER BY e.id FOR UPDATE OF e",
            alert_id,
            subject_partner,
        )
    )


async def load_due(tx: Transaction, now: datetime, limit: int) -> list[Escalation]:
    """Escalations whose due time has come, locked; those that somebody else holds are left to them."""
    connection = await raw(tx)
    return _escalations_of(
        await connection.fetch(
            f"{_SELECT} WHERE e.due_at <= $1 ORDER BY e.due_at LIMIT $2 FOR UPDATE OF e SKIP LOCKED", now, limit
        )
    )


async def load_unattempted(tx: Transaction, escalation_ids: Sequence[UUID]) -> list[Escalation]:
    """Those of these escalations, locked, to which a first attempt or a first acceptance would be news."""
    if not escalation_ids:
        return []
    connection = await raw(tx)
    return _escalations_of(
        await connection.fetch(
            f"{_SELECT} WHERE e.id = ANY($1) AND (e.first_attempt_at IS NULL OR e.notified_at IS NULL)"
            " AND e.state <> 'ended' ORDER BY e.id FOR UPDATE OF e",
            list(escalation_ids),
        )
    )


async def find_next_due(tx: Transaction) -> datetime | None:
    """When the next escalation falls due."""
    connection = await raw(tx)
    return await connection.fetchval("SELECT min(due_at) FROM escalations WHERE due_at IS NOT NULL")  # type: ignore[no-any-return]


async def count_stuck(tx: Transaction, before: datetime) -> tuple[int, int]:
    """How many open escalations have no due time, and how many have been due since before an instant."""
    connection = await raw(tx)
    row = await connection.fetchrow(
        "SELECT count(*) FILTER (WHERE due_at IS NULL) AS timeless, count(*) FILTER (WHERE due_at < $1) AS late"
        " FROM escalations WHERE state <> 'ended' AND (due_at IS NULL OR due_at < $1)",
        before,
    )
    assert row is not None
    return row["timeless"], row["late"]


async def find_escalation_id(tx: Transaction, alert_id: UUID, partner: str) -> UUID | None:
    """The partner's own escalation of an alert, or None."""
    connection = await raw(tx)
    return await connection.fetchval(  # type: ignore[no-any-return]
        "SELECT id FROM escalations WHERE alert_id = $1 AND partner = $2 AND subject_partner = ''", alert_id, partner
    )


async def find_open_alerts_of(tx: Transaction, partner: str) -> list[UUID]:
    """Alerts to which the partner still owes an answer, oldest first."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT alert_id FROM escalations WHERE partner = $1 AND kind = 'answer'"
        " AND state IN ('pending', 'notified', 'unreached') ORDER BY opened_at",
        partner,
    )
    return [row["alert_id"] for row in rows]


async def load_asked_of(tx: Transaction, partner: str) -> list[Escalation]:
    """The escalations in which a partner's people are still asked, locked in the order of their ids."""
    connection = await raw(tx)
    return _escalations_of(
        await connection.fetch(
            f"{_SELECT} WHERE e.partner = $1 AND e.kind <> 'information'"
            " AND e.state IN ('pending', 'notified', 'unreached') ORDER BY e.id FOR UPDATE OF e",
            partner,
        )
    )


async def find_points_paged(tx: Transaction, escalation_ids: Sequence[UUID]) -> dict[UUID, set[UUID]]:
    """The contact points that have a page of each of these escalations."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT escalation_id, array_agg(DISTINCT contact_point_id) AS points FROM pages"
        " WHERE escalation_id = ANY($1) GROUP BY 1",
        list(escalation_ids),
    )
    return {row["escalation_id"]: set(row["points"]) for row in rows}


async def save_stopped(tx: Transaction, escalation_ids: Sequence[UUID], contact_id: UUID) -> None:
    """Keeps that a contact, or a contact point of an office, is not paged any more for these escalations."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE escalations SET stopped = array_append(stopped, $2) WHERE id IN ("
        "SELECT id FROM escalations WHERE id = ANY($1) AND state <> 'ended'"
        " AND NOT $2 = ANY(coalesce(stopped, '{}')) ORDER BY id FOR UPDATE)",
        list(escalation_ids),
        contact_id,
    )


async def save_due_without_levels(tx: Transaction, partner: str, now: datetime) -> int:
    """Makes due what waits for a partner's next level without knowing any level; returns how many."""
    connection = await raw(tx)
    done = await connection.execute(
        "UPDATE escalations SET due_at = $2 WHERE id IN ("
        "SELECT id FROM escalations WHERE partner = $1 AND due_reason = 'next_level' AND due_at > $2"
        " AND levels = '[]' ORDER BY id FOR UPDATE)",
        partner,
        now,
    )
    return int(done.split()[-1])


async def save(tx: Transaction, changed: Sequence[Escalation], now: datetime) -> None:
    """Writes changed escalations back, in one statement."""
    if not changed:
        return
    connection = await raw(tx)
    assignments = ", ".join(f"{name} = n.{name}" for name in _SAVED)
    await connection.execute(
        f"UPDATE escalations e SET {assignments}"  # noqa: S608 - our own column names
        " FROM jsonb_populate_recordset(NULL::escalations, $1) n WHERE e.id = n.id",
        dump([escalation_row(escalation, now) for escalation in changed]),
    )


def _filled(row: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of a new row that hold anything: half of an escalation's are empty when it opens."""
    return {name: value for name, value in row.items() if value is not None}


class _Alike:
    """Inserts rows of one table that share all columns but some: what they share travels once.

    `own` are the columns that each row has for itself, `shared` the keys of a row by which two are told to be alike.
    """

    def __init__(self, table: Table, own: Sequence[str], shared: Iterable[str]) -> None:
        dialect = postgresql_dialect()  # type: ignore[no-untyped-call]
        kinds = {column.name: column.type.compile(dialect=dialect) for column in table.columns}
        arrays = ", ".join(f"${place}::{_sent_as(kinds[name])}[]" for place, name in enumerate(own, start=2))
        values = ", ".join(f"o.{name}::{kinds[name]}" if name in own else f"s.{name}" for name in kinds)
        self.shared: Callable[[Mapping[str, Any]], tuple[Any, ...]] = itemgetter(*shared)
        self.columns = ", ".join(kinds)
        self.rows = (
            f"SELECT {values} FROM jsonb_populate_record(NULL::{table.name}, $1) s,"  # noqa: S608 - our own names
            f" unnest({arrays}) AS o({', '.join(own)})"
        )

    def groups(self, rows: Iterable[Mapping[str, Any]]) -> list[list[int]] | None:
        """The places of rows that are alike; None if there are more than `ALIKE_MAX` kinds of them."""
        found: list[tuple[tuple[Any, ...], list[int]]] = []
        for place, row in enumerate(rows):
            shared = self.shared(row)
            for known, places in found:
                if known == shared:  # mostly the very same objects, which costs next to nothing
                    places.append(place)
                    break
            else:
                if len(found) == ALIKE_MAX:
                    return None
                found.append((shared, [place]))
        return [places for _, places in found]


ALIKE_MAX = 4
"""So many kinds of rows are a statement each; of more, every row travels with all its columns."""


def _sent_as(kind: str) -> str:
    """The type of an array's elements: there is no array of arrays, and JSON comes as text."""
    return "text" if kind == "JSONB" or kind.endswith("[]") else kind


_OPENED = _Alike(
    escalations,
    ("id", "partner", "levels", "level", "due_at"),
    (field.name for field in fields(Escalation) if field.name not in {"id", "partner", "levels", "level", "due_at"}),
)
_INSERT_OPENED = f"INSERT INTO escalations ({_OPENED.columns}) {{rows}} ON CONFLICT DO NOTHING RETURNING id"
_INSERT_OPENED_ALIKE = _INSERT_OPENED.format(rows=_OPENED.rows)
_INSERT_OPENED_OTHERS = _INSERT_OPENED.format(
    rows=f"SELECT {_OPENED.columns} FROM jsonb_populate_recordset(NULL::escalations, $1)"  # noqa: S608 - as above
)


async def insert_opened(
    tx: Transaction, opened: Sequence[Escalation], page_rows: Sequence[Mapping[str, Any]], now: datetime
) -> set[UUID]:
    """Inserts opened escalations with their pages, and the first attempt of pages under a lease.

    Returns the ids of escalations that were new, which are those whose pages were inserted: one per alert, partner and
    subject ever exists.
    """
    if not opened:
        return set()
    connection = await raw(tx)
    groups = _OPENED.groups(map(vars, opened))
    if groups is None:
        everything = dump([_filled(escalation_row(escalation, now)) for escalation in opened])
        found = await connection.fetch(_INSERT_OPENED_OTHERS, everything)
    else:
        found = []
        for places in groups:
            alike = [opened[place] for place in places]
            found += await connection.fetch(
                _INSERT_OPENED_ALIKE,
                dump(_filled(escalation_row(alike[0], now))),
                [escalation.id for escalation in alike],
                [escalation.partner for escalation in alike],
                [_levels_text(escalation.levels) for escalation in alike],
                [escalation.level for escalation in alike],
                [escalation.due_at for escalation in alike],
            )
    fresh = {row["id"] for row in found}
    await insert_pages(tx, [row for row in page_rows if row["escalation_id"] in fresh])
    return fresh


async def insert_events(
    tx: Transaction, record_rows: Sequence[Mapping[str, Any]], outbox_rows: Sequence[Mapping[str, Any]]
) -> None:
    """Writes rows of record and outbox in one statement."""
    connection = await raw(tx)
    # `record` alone would mean PostgreSQL's own type of that name.
    await connection.execute(
        "WITH recorded AS (INSERT INTO record SELECT * FROM jsonb_populate_recordset(NULL::public.record, $1))"
        " INSERT INTO outbox SELECT * FROM jsonb_populate_recordset(NULL::outbox, $2)",
        dump(record_rows),
        dump(outbox_rows),
    )


# --- pages and attempts -----------------------------------------------------------------------------------------------


_PAGE_OWN = (
    *("id", "escalation_id", "partner", "contact_point_id", "contact_id", "channel", "sealed_address", "told", "level"),
)
_PAGES = _Alike(pages, _PAGE_OWN, (column.name for column in pages.columns if column.name not in _PAGE_OWN))
_NO_PAGE: dict[str, Any] = {
    str(column.name): [] if isinstance(column.type, ARRAY) else None for column in pages.columns
}
_INSERT_PAGES = f"""
WITH fresh AS (INSERT INTO pages ({_PAGES.columns}) {{rows}} RETURNING id, state, attempts, created_at)
INSERT INTO attempts (page_id, number, started_at) SELECT id, attempts, created_at FROM fresh WHERE state = 'leased'
"""  # noqa: S608 - our own column names
_INSERT_PAGES_ALIKE = _INSERT_PAGES.format(rows=_PAGES.rows)
_INSERT_PAGES_OTHERS = _INSERT_PAGES.format(
    rows=f"SELECT {_PAGES.columns} FROM jsonb_populate_recordset(NULL::pages, $1)"  # noqa: S608 - as above
)


async def insert_pages(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts pages, and the first attempt of those that are inserted under a lease."""
    if not rows:
        return
    connection = await raw(tx)
    whole = [{**_NO_PAGE, **row} for row in rows]
    groups = _PAGES.groups(whole)
    if groups is None:
        await connection.execute(_INSERT_PAGES_OTHERS, dump([_filled(row) for row in whole]))
        return
    for places in groups:
        alike = [whole[place] for place in places]
        shared = dump(_filled(alike[0]))
        await connection.execute(_INSERT_PAGES_ALIKE, shared, *([row[name] for row in alike] for name in _PAGE_OWN))


async def end_pages(tx: Transaction, escalation_ids: Sequence[UUID], *, only_asking: bool) -> None:
    """Ends the pages of these escalations that are still to be sent: those that an answer makes idle, or all.

    Idle are pages that ask for the answer, and those that tell the partner's own system of a level.
    """
    if escalation_ids:
        connection = await raw(tx)
        await connection.execute(
            "UPDATE pages SET state = 'ended' WHERE id IN ("
            "SELECT id FROM pages WHERE escalation_id = ANY($1) AND state IN ('due', 'leased')"
            " AND (asks OR message_type = 'level.raised' OR NOT $2) ORDER BY id FOR UPDATE)",
            list(escalation_ids),
            only_asking,
        )


async def find_paged_points(tx: Transaction, escalation_ids: Sequence[UUID]) -> list[Any]:
    """Every contact point that was paged for these escalations or for those that they go on from, once each: where an
    ending message goes.

    Who was paged for a message that an Update has corrected may have gone off duty since, and still believes it. Who
    has had an ending message since they were last paged needs no second one.
    """
    if not escalation_ids:
        return []
    connection = await raw(tx)
    return list(
        await connection.fetch(
            f"""
            WITH ending AS (
                SELECT e.id, e.alert_id, e.partner, e.subject_partner, h.root_alert_id
                FROM escalations e JOIN alert_heads h USING (alert_id) WHERE e.id = ANY($1)
            ), chain AS (
                SELECT n.id AS ending_id, n.alert_id AS ending_alert_id, e.id
                FROM ending n JOIN alert_heads h ON h.root_alert_id = n.root_alert_id
                JOIN escalations e ON e.alert_id = h.alert_id
                    AND e.partner = n.partner AND e.subject_partner = n.subject_partner
            )
            SELECT DISTINCT ON (c.ending_id, p.contact_point_id) c.ending_id AS escalation_id,
                c.ending_alert_id AS alert_id, p.partner, p.contact_point_id, p.contact_id, p.channel,
                p.sealed_address, p.told, p.level, p.priority, p.languages, p.time_zone
            FROM chain c JOIN pages p ON p.escalation_id = c.id
            WHERE p.message_type <> ALL($2) AND EXISTS (
                SELECT FROM attempts a WHERE a.page_id = p.id AND a.reason IS DISTINCT FROM '{NOT_SENT}'
            ) AND NOT EXISTS (
                SELECT FROM chain x JOIN pages o ON o.escalation_id = x.id
                WHERE x.ending_id = c.ending_id AND o.contact_point_id = p.contact_point_id
                    AND o.message_type = ANY($2) AND o.created_at >= p.created_at
            )
            ORDER BY c.ending_id, p.contact_point_id, p.created_at DESC
            """,  # noqa: S608 - our own text
            list(escalation_ids),
            list(ENDING_TYPES),
        )
    )


PAGE_COLUMNS = (
    "id, escalation_id, alert_id, partner, contact_point_id, contact_id, channel, sealed_address, told, message_type,"
    " level, data, attempts, due_at, give_up_at, created_at, asks, priority, languages, time_zone, answer_by_at"
)


async def lease_pages(
    tx: Transaction, *, now: datetime, leased_until: datetime, limit: int, busy: Mapping[UUID, int], per_point: int
) -> list[Any]:
    """Leases due pages and those whose lease has lapsed, and writes their attempt rows.

    `busy` says how many sends each endpoint has under way already: at most `per_point` in all, so that one that hangs
    never takes all senders. Of a person's contact point all pages are leased, because they leave as one message.
    """
    connection = await raw(tx)
    return list(
        await connection.fetch(
            f"""
            WITH candidates AS (
                SELECT id, channel, priority, due_at, row_number() OVER (
                    PARTITION BY contact_point_id ORDER BY priority, due_at, id
                ) AS place
                FROM pages
                WHERE (state = 'due' AND due_at <= $1 OR state = 'leased' AND leased_until <= $1)
            ), busy AS (
                SELECT * FROM unnest($5::uuid[], $6::integer[]) AS b(contact_point_id, sending)
            ), chosen AS (
                SELECT p.id FROM pages p JOIN candidates c USING (id) LEFT JOIN busy b USING (contact_point_id)
                WHERE (c.channel <> 'webhook' OR c.place <= $4 - coalesce(b.sending, 0))
                  AND (p.state = 'due' AND p.due_at <= $1 OR p.state = 'leased' AND p.leased_until <= $1)
                ORDER BY c.priority, c.due_at, p.id LIMIT $3 FOR UPDATE OF p SKIP LOCKED
            ), lapsed AS (
                UPDATE attempts a SET state = 'expired', reason = 'lease_lapsed', finished_at = $1
                FROM pages p JOIN chosen USING (id)
                WHERE a.page_id = p.id AND a.number = p.attempts AND a.state IS NULL
            ), leased AS (
                UPDATE pages p SET state = 'leased', leased_until = $2, attempts = p.attempts + 1
                FROM chosen c WHERE p.id = c.id RETURNING p.*
            ), begun AS (
                INSERT INTO attempts (page_id, number, started_at) SELECT id, attempts, $1 FROM leased
            )
            SELECT {PAGE_COLUMNS} FROM leased ORDER BY priority, due_at, id
            """,  # noqa: S608 - our own column names
            now,
            leased_until,
            limit,
            per_point,
            list(busy),
            list(busy.values()),
        )
    )


async def hold_pages(tx: Transaction, held: Mapping[UUID, datetime], *, unheld_precedence: int, now: datetime) -> None:
    """Lets asking pages to these contact points of people wait until the instant given for each, so that they gather.

    Those of `unheld_precedence`, an Actual alert's or a drill's, are left alone.
    """
    connection = await raw(tx)
    await connection.execute(
        "WITH held AS ("
        " SELECT p.id, h.until FROM unnest($1::uuid[], $2::timestamptz[]) AS h(contact_point_id, until)"
        " JOIN pages p USING (contact_point_id) WHERE p.state = 'due' AND p.due_at <= $3 AND h.until > $3"
        # What an answer ends just now is left to it: pages of several escalations are locked here.
        " AND p.asks AND p.channel <> 'webhook' AND p.priority % 10 <> $4 FOR UPDATE OF p SKIP LOCKED"
        ") UPDATE pages p SET due_at = held.until FROM held WHERE p.id = held.id",
        list(held),
        list(held.values()),
        now,
        unheld_precedence,
    )


async def find_message(tx: Transaction, page_id: UUID) -> list[Any]:
    """The pages that leave as one message with this one, itself first; none if there is no such page."""
    connection = await raw(tx)
    return list(
        await connection.fetch(
            f"SELECT {PAGE_COLUMNS} FROM pages WHERE id = $1 OR sent_with = $1"  # noqa: S608 - our own column names
            " ORDER BY id <> $1, priority, due_at, id",
            page_id,
        )
    )


async def save_sent_with(tx: Transaction, page_ids: Sequence[UUID], now: datetime) -> set[UUID]:
    """Lets these leased pages leave in the message of the first; returns those that are still to be sent. The rest were
    ended meanwhile, and their attempts say so.
    """
    connection = await raw(tx)
    rows = await connection.fetch(
        "UPDATE pages SET sent_with = $1 WHERE id IN ("
        # Pages of several escalations: in the order in which answers lock them as well.
        "SELECT id FROM pages WHERE id = ANY($2) AND state = 'leased' ORDER BY id FOR UPDATE) RETURNING id",
        page_ids[0],
        list(page_ids),
    )
    wanted = {row["id"] for row in rows}
    if len(wanted) < len(page_ids):
        await find_still_leased(tx, [page_id for page_id in page_ids if page_id not in wanted], now)
    return wanted


async def load_waiting(tx: Transaction, page_ids: Sequence[UUID], now: datetime) -> list[Any]:
    """Pages that wait for their turn behind one of these: to the same contact or office, of the same escalation.

    Locked; one that somebody else holds is left to them, because it is being sent or ended.
    """
    connection = await raw(tx)
    return list(
        await connection.fetch(
            "SELECT w.id, p.id AS behind, w.due_at, w.channel, w.contact_id, w.time_zone, w.priority"
            " FROM pages p JOIN pages w ON w.escalation_id = p.escalation_id AND w.partner = p.partner"
            " AND w.contact_id IS NOT DISTINCT FROM p.contact_id AND w.asks = p.asks"
            " WHERE p.id = ANY($1) AND w.state = 'due' AND w.attempts = 0 AND w.due_at > $2"
            " AND (w.channel <> 'webhook' OR w.contact_id IS NOT NULL)"
            " ORDER BY w.due_at, w.id FOR UPDATE OF w SKIP LOCKED",
            list(page_ids),
            now,
        )
    )


async def save_due(tx: Transaction, due: Mapping[UUID, datetime]) -> None:
    """Moves the time at which waiting pages are due."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE pages p SET due_at = d.due_at FROM unnest($1::uuid[], $2::timestamptz[]) AS d(id, due_at)"
        " WHERE p.id = d.id AND p.state = 'due'",
        list(due),
        list(due.values()),
    )


async def find_next_page_due(tx: Transaction) -> datetime | None:
    """When the next page falls due or the next lease lapses."""
    connection = await raw(tx)
    return await connection.fetchval(  # type: ignore[no-any-return]
        "SELECT least((SELECT min(due_at) FROM pages WHERE state = 'due'),"
        " (SELECT min(leased_until) FROM pages WHERE state = 'leased'))"
    )


async def find_still_leased(tx: Transaction, page_ids: Sequence[UUID], now: datetime) -> set[UUID]:
    """Which of these leased pages are still to be sent: the rest were ended meanwhile, and their attempts say so."""
    connection = await raw(tx)
    rows = await connection.fetch("SELECT id FROM pages WHERE id = ANY($1) AND state = 'leased'", list(page_ids))
    wanted = {row["id"] for row in rows}
    if dropped := [page_id for page_id in page_ids if page_id not in wanted]:
        await connection.execute(
            f"UPDATE attempts a SET state = 'expired', reason = '{NOT_SENT}', finished_at = $2"  # noqa: S608
            " FROM pages p WHERE p.id = ANY($1) AND a.page_id = p.id AND a.number = p.attempts AND a.state IS NULL",
            dropped,
            now,
        )
    return wanted


async def save_results(tx: Transaction, results: Sequence[Mapping[str, Any]]) -> None:
    """Records finished attempts and moves their pages on, in one statement.

    A result row has page_id, number, started_at, finished_at, state, reason, detail, status_code, elapsed_seconds,
    provider, provider_id, cost_amount, cost_currency, next_due_at (None: the page is done), accepted and delivered_at.
    A page that was ended meanwhile stays ended, and one that was leased again since belongs to the newer attempt.
    """
    connection = await raw(tx)
    await connection.execute(
        """
        WITH results AS (
            SELECT * FROM jsonb_to_recordset($1) AS r(
                page_id uuid, number integer, started_at timestamptz, finished_at timestamptz, state text, reason text,
                detail text, status_code smallint, elapsed_seconds double precision, provider text, provider_id text,
                cost_amount numeric, cost_currency text, next_due_at timestamptz, accepted boolean,
                delivered_at timestamptz
            )
        ), recorded AS (
            UPDATE attempts a SET finished_at = r.finished_at, state = r.state, reason = r.reason, detail = r.detail,
                status_code = r.status_code, elapsed_seconds = r.elapsed_seconds, provider = r.provider,
                provider_id = r.provider_id, cost_amount = r.cost_amount, cost_currency = r.cost_currency,
                delivered_at = r.delivered_at
            FROM results r WHERE a.page_id = r.page_id AND a.number = r.number
        )
        UPDATE pages p SET
            state = CASE WHEN p.state <> 'leased' THEN p.state WHEN r.next_due_at IS NULL THEN 'done' ELSE 'due' END,
            due_at = coalesce(r.next_due_at, p.due_at),
            leased_until = NULL,
            first_attempt_at = coalesce(p.first_attempt_at, r.started_at),
            delivered_at = coalesce(p.delivered_at, r.delivered_at)
        FROM results r WHERE p.id = r.page_id AND (p.attempts = r.number OR r.accepted)
        """,
        dump(list(results)),
    )


async def save_reopened(tx: Transaction, due: Mapping[UUID, datetime]) -> None:
    """Makes pages due again that were done, because their message did not arrive after all."""
    if due:
        connection = await raw(tx)
        await connection.execute(
            "UPDATE pages p SET state = 'due', due_at = d.due_at FROM unnest($1::uuid[], $2::timestamptz[])"
            " AS d(id, due_at) WHERE p.id = d.id AND p.state = 'done'",
            list(due),
            list(due.values()),
        )


async def save_arrived(tx: Transaction, attempts: Sequence[tuple[UUID, int]], now: datetime) -> None:
    """Notes that these attempts' messages have arrived; what waits to be sent again because of them need not be."""
    connection = await raw(tx)
    await connection.execute(
        "UPDATE pages p SET delivered_at = coalesce(p.delivered_at, $3),"
        " state = CASE WHEN p.state = 'due' AND p.attempts = n.number THEN 'done' ELSE p.state END"
        " FROM unnest($1::uuid[], $2::integer[]) AS n(id, number) WHERE p.id = n.id",
        [page_id for page_id, _ in attempts],
        [number for _, number in attempts],
        now,
    )


async def count_attempts(tx: Transaction, escalation_ids: Sequence[UUID]) -> dict[UUID, int]:
    """How many attempts were made for each of these escalations."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT escalation_id, sum(attempts)::integer AS made FROM pages WHERE escalation_id = ANY($1) GROUP BY 1",
        list(escalation_ids),
    )
    return {row["escalation_id"]: row["made"] for row in rows}


async def find_raisers(tx: Transaction, alert_ids: Sequence[UUID | None]) -> dict[UUID | None, str]:
    """Who raised each of these alerts."""
    connection = await raw(tx)
    rows = await connection.fetch(
        "SELECT alert_id, facts ->> 'raiser' AS raiser FROM alert_heads WHERE alert_id = ANY($1) AND facts IS NOT NULL",
        [alert_id for alert_id in alert_ids if alert_id is not None],
    )
    return {row["alert_id"]: row["raiser"] for row in rows}


# --- plans, partners, health ------------------------------------------------------------------------------------------


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


async def find_versions(tx: Transaction, codes: Sequence[str] | None) -> list[Any]:
    """Which version of plan and partner data is kept for each partner; None asks for all."""
    connection = await raw(tx)
    return list(
        await connection.fetch(
            "SELECT coalesce(d.partner, p.partner) AS partner, d.plan_version, p.version"
            " FROM duty_plans d FULL JOIN partners p ON p.partner = d.partner"
            " WHERE $1::text[] IS NULL OR coalesce(d.partner, p.partner) = ANY($1)",
            None if codes is None else list(codes),
        )
    )


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
