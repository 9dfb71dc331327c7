"""Rows as values and values as rows: JSON columns, alert heads, escalations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any, TypeVar
from uuid import UUID

import orjson
from pydantic import TypeAdapter

from services.escalation.model import AlertFacts, DueReason, Escalation, Position
from services.escalation.store.tables import escalations
from shared.contracts import (
    Actor,
    EndReason,
    EscalationKind,
    EscalationState,
    Gap,
    PlannedLevel,
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class AlertHead:
    """What is known of an alert. `facts` is None while only its end, or an Update of it, has arrived.

    `answered` says when partners of other nodes acknowledged, as far as this node has heard. `opening` stands while
    first pages have left, or may have, and nothing of them is a row yet.
    """

    alert_id: UUID
    facts: AlertFacts | None
    superseded_by: UUID | None
    ended_at: datetime | None
    end_reason: EndReason | None
    answered: Mapping[str, datetime]
    opening: BegunOpening | None = None


@dataclass(frozen=True, slots=True)
class BegunOpening:
    """The promise that everything which `id` and `at` give ids to will be stored: see `docs/decisions/0023`."""

    id: UUID
    """The message's that is being handled: no other publication of the alert may go on with it."""
    at: datetime


INSTANTS_BY_PARTNER = TypeAdapter(dict[str, datetime])


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
def levels_text(levels: tuple[PlannedLevel, ...]) -> str:
    """Levels as they are stored; the same ones are written for partner after partner."""
    return _levels.dump_json(levels).decode()


ESCALATION_COLUMNS = tuple(column.name for column in escalations.columns)


SAVED_COLUMNS = tuple(
    name
    for name in ESCALATION_COLUMNS
    if name not in {"id", "alert_id", "partner", "kind", "subject_partner", "raiser"}
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
        "levels": orjson.Fragment(levels_text(escalation.levels)),
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
