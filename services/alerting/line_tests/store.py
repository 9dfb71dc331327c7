"""The rows of line tests, and every query on them. `load_*` locks, `find_*` does not; time is always a parameter.

Locks are taken in one order: the plan's row, tests, alerts.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, insert, or_, select, update

from services.alerting.content import EXPIRES_WITHIN_MAX
from services.alerting.crises.domain import CrisisState
from services.alerting.domain import Alert
from services.alerting.line_tests.domain import (
    CORRECTED_WITHIN,
    Heard,
    LineTest,
    Outcome,
    Partner,
    Plan,
    StopReason,
    Surroundings,
)
from services.alerting.line_tests.plan import Kind
from services.alerting.store import alert_of
from services.alerting.tables import alerts, crises, line_test_plan, line_tests, partners, plain
from shared.contracts import SECRETARIAT, Actor, EscalationsStarted, LevelRaised, PartnerAcknowledged
from shared.db import Transaction, raw
from shared.ids import AlertId, CrisisId


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of a partner's tests of one kind. Seconds are of those that were answered in time."""

    partner: str
    kind: Kind
    tests: int
    answered: int
    unanswered: int
    stopped: int
    median_seconds: float | None
    p90_seconds: float | None


# --- the plan's switch ------------------------------------------------------------------------------------------------


async def find_plan(tx: Transaction) -> Plan:
    """The plan as it is."""
    return _plan_of((await tx.execute(select(line_test_plan))).one())


async def load_plan(tx: Transaction) -> Plan:
    """The plan, locked: whoever begins a test holds it."""
    return _plan_of((await tx.execute(select(line_test_plan).with_for_update())).one())


async def save_plan(tx: Transaction, plan: Plan) -> None:
    """Writes the plan."""
    await tx.execute(
        update(line_test_plan).values(
            enabled=plan.enabled,
            partners=None if plan.partners is None else list(plan.partners),
            switched_by=plan.switched_by and plan.switched_by.model_dump(mode="json"),
            switched_at=plan.switched_at,
            version=plan.version,
        )
    )


# --- partners and what goes on there ----------------------------------------------------------------------------------


async def find_partners(tx: Transaction) -> list[Partner]:
    """Every partner that is known."""
    return [_partner_of(row) for row in await tx.execute(select(partners).order_by(partners.c.code))]


async def find_partner(tx: Transaction, code: str) -> Partner | None:
    """One partner."""
    row = (await tx.execute(select(partners).where(partners.c.code == code))).first()
    return None if row is None else _partner_of(row)


_AROUND = """
SELECT
    EXISTS (SELECT FROM line_tests WHERE partner = $1 AND outcome IS NULL) AS is_tested,
    EXISTS (
        SELECT FROM alerts
        WHERE state = 'released' AND expires_at > $2 AND status = 'Actual' AND addressed @> ARRAY[$1]
    ) AS has_actual,
    (
        SELECT max(CASE WHEN state = 'released' THEN least(expires_at, $2) ELSE coalesce(ended_at, released_at) END)
        FROM alerts
        WHERE status = 'Exercise' AND released_at IS NOT NULL AND released_at > $3 AND addressed @> ARRAY[$1]
    ) AS drilled_at,
    (SELECT max(started_at) FROM line_tests WHERE partner = $1) AS tested_at
"""


async def find_surroundings(tx: Transaction, partner: str, now: datetime) -> Surroundings:
    """What goes on at a partner. No drill lasts longer than an alert may."""
    row = await (await raw(tx)).fetchrow(_AROUND, partner, now, now - EXPIRES_WITHIN_MAX)
    assert row is not None
    return Surroundings(**row)


async def find_with_actual(tx: Transaction, codes: Collection[str], now: datetime) -> set[str]:
    """Those of these partners that an open Actual alert addresses."""
    rows = await (await raw(tx)).fetch(
        "SELECT DISTINCT code FROM alerts, unnest(addressed) AS code"
        " WHERE state = 'released' AND expires_at > $2 AND status = 'Actual'"
        " AND addressed && $1::text[] AND code = ANY($1)",
        list(codes),
        now,
    )
    return {row["code"] for row in rows}


async def find_crisis(tx: Transaction, name: str) -> CrisisId | None:
    """The secretariat's crisis of this name that still takes alerts."""
    query = (
        select(crises.c.id)
        .where(crises.c.owner == SECRETARIAT, crises.c.name == name, crises.c.state != CrisisState.CLOSED.value)
        .order_by(crises.c.opened_at, crises.c.id)
        .limit(1)
    )
    found = (await tx.execute(query)).scalar_one_or_none()
    return None if found is None else CrisisId(plain(found))


# --- tests ------------------------------------------------------------------------------------------------------------


async def add_test(tx: Transaction, test: LineTest) -> None:
    """Inserts a test that begins."""
    await tx.execute(insert(line_tests).values(_row_of(test)))


async def save_test(tx: Transaction, test: LineTest) -> None:
    """Writes what became of a test."""
    row = _row_of(test)
    moved = {name: row[name] for name in ("level", "acknowledged_at", "outcome", "stop_reason", "ended_at")}
    await tx.execute(update(line_tests).where(line_tests.c.id == test.id).values(moved))


async def find_followed(tx: Transaction, now: datetime, limit: int) -> list[LineTest]:
    """Tests that run, and those of the last day whose outcome a late report may still correct."""
    correctable = or_(
        line_tests.c.outcome == Outcome.UNANSWERED.value, line_tests.c.stop_reason == StopReason.NOT_DELIVERED.value
    )
    query = (
        select(line_tests)
        .where(or_(line_tests.c.outcome.is_(None), correctable & (line_tests.c.ended_at > now - CORRECTED_WITHIN)))
        .order_by(line_tests.c.outcome.is_not(None), line_tests.c.id)
        .limit(limit)
    )
    return [_test_of(row) for row in await tx.execute(query)]


async def load_test(tx: Transaction, test_id: UUID) -> LineTest | None:
    """One test, locked; None if somebody else holds it, who does what is to be done."""
    query = select(line_tests).where(line_tests.c.id == test_id).with_for_update(skip_locked=True)
    row = (await tx.execute(query)).first()
    return None if row is None else _test_of(row)


async def find_alerts(tx: Transaction, alert_ids: Sequence[UUID]) -> dict[AlertId, Alert]:
    """The alerts of tests, without a lock."""
    found = (alert_of(row) for row in await tx.execute(select(alerts).where(alerts.c.id.in_(alert_ids))))
    return {alert.id: alert for alert in found}


_HEARD = """
SELECT n.alert_id,
    bool_or(e.type = $2) AS opened,
    max(CASE
        WHEN e.type = $2 THEN (e.said #>> '{escalations,0,level}')::integer
        WHEN e.type = $3 AND e.said ->> 'partner' = n.partner THEN (e.said ->> 'level')::integer
    END) AS level,
    min(CASE
        WHEN e.type = $4 AND e.said ->> 'partner' = n.partner THEN (e.said ->> 'acknowledged_at')::timestamptz
    END) AS acknowledged_at
FROM line_tests n JOIN (
    SELECT alert_id, type, body::jsonb AS said FROM timeline WHERE alert_id = ANY($1) AND type IN ($2, $3, $4)
) AS e USING (alert_id)
GROUP BY n.alert_id
"""


async def find_heard(tx: Transaction, alert_ids: Sequence[UUID]) -> dict[UUID, Heard]:
    """What escalation has reported of these alerts, from their timelines."""
    reports = (EscalationsStarted.type, LevelRaised.type, PartnerAcknowledged.type)
    rows = await (await raw(tx)).fetch(_HEARD, list(alert_ids), *reports)
    return {plain(row["alert_id"]): Heard(row["opened"], row["level"] or 0, row["acknowledged_at"]) for row in rows}


async def find_done(tx: Transaction, months: Collection[date]) -> set[tuple[str, date]]:
    """Which partners have had their planned test of these months, with the month."""
    query = select(line_tests.c.partner, line_tests.c.month).where(line_tests.c.month.in_(months))
    return {(row.partner, row.month) for row in await tx.execute(query)}


def _narrowed(query: Select[Any], partner: str | None, from_at: datetime | None, to_at: datetime | None) -> Select[Any]:
    if partner is not None:
        query = query.where(line_tests.c.partner == partner)
    if from_at is not None:
        query = query.where(line_tests.c.started_at >= from_at)
    if to_at is not None:
        query = query.where(line_tests.c.started_at < to_at)
    return query


async def find_tests(
    tx: Transaction,
    *,
    partner: str | None,
    from_at: datetime | None,
    to_at: datetime | None,
    before: UUID | None,
    limit: int,
) -> list[LineTest]:
    """Tests that have begun, the newest first."""
    query = _narrowed(select(line_tests), partner, from_at, to_at).order_by(line_tests.c.id.desc()).limit(limit)
    if before is not None:
        query = query.where(line_tests.c.id < before)
    return [_test_of(row) for row in await tx.execute(query)]


async def find_unanswered(tx: Transaction, since: datetime, limit: int) -> list[LineTest]:
    """Tests that nobody has answered, ended since then, unless their partner has answered one begun after it."""
    later = line_tests.alias()
    answered_since = select(later.c.id).where(
        later.c.partner == line_tests.c.partner,
        later.c.outcome == Outcome.ANSWERED.value,
        later.c.started_at > line_tests.c.started_at,
    )
    query = (
        select(line_tests)
        .where(
            line_tests.c.outcome == Outcome.UNANSWERED.value,
            line_tests.c.ended_at > since,
            ~answered_since.exists(),
        )
        .order_by(line_tests.c.id)
        .limit(limit)
    )
    return [_test_of(row) for row in await tx.execute(query)]


async def summarise(
    tx: Transaction, *, partner: str | None, from_at: datetime | None, to_at: datetime | None
) -> list[Summary]:
    """What came of finished tests, by partner and kind."""
    answered = line_tests.c.outcome == Outcome.ANSWERED.value
    seconds = func.extract("epoch", line_tests.c.acknowledged_at - line_tests.c.started_at)
    query = (
        select(
            line_tests.c.partner,
            line_tests.c.kind,
            func.count().label("tests"),
            func.count().filter(answered).label("answered"),
            func.count().filter(line_tests.c.outcome == Outcome.UNANSWERED.value).label("unanswered"),
            func.count().filter(line_tests.c.outcome == Outcome.STOPPED.value).label("stopped"),
            func.percentile_cont(0.5).within_group(seconds).filter(answered).label("median_seconds"),
            func.percentile_cont(0.9).within_group(seconds).filter(answered).label("p90_seconds"),
        )
        .where(line_tests.c.outcome.is_not(None))
        .group_by(line_tests.c.partner, line_tests.c.kind)
        .order_by(line_tests.c.partner, line_tests.c.kind)
    )
    rows = await tx.execute(_narrowed(query, partner, from_at, to_at))
    return [
        Summary(
            row.partner,
            Kind(row.kind),
            tests=row.tests,
            answered=row.answered,
            unanswered=row.unanswered,
            stopped=row.stopped,
            median_seconds=row.median_seconds,
            p90_seconds=row.p90_seconds,
        )
        for row in rows
    ]


# --- rows and values --------------------------------------------------------------------------------------------------


def _plan_of(row: Any) -> Plan:
    return Plan(
        enabled=row.enabled,
        partners=None if row.partners is None else tuple(row.partners),
        switched_by=row.switched_by and Actor.model_validate(row.switched_by),
        switched_at=row.switched_at,
        version=row.version,
    )


def _partner_of(row: Any) -> Partner:
    return Partner(row.code, row.active, row.time_zone, tuple(row.languages))


def _row_of(test: LineTest) -> dict[str, Any]:
    return {
        "id": test.id,
        "alert_id": test.alert_id,
        "reference": test.reference,
        "partner": test.partner,
        "kind": test.kind.value,
        "month": test.month,
        "planned_at": test.planned_at,
        "started_at": test.started_at,
        "started_by": test.started_by.model_dump(mode="json"),
        "answer_by_at": test.answer_by_at,
        "level": test.level,
        "acknowledged_at": test.acknowledged_at,
        "outcome": test.outcome and test.outcome.value,
        "stop_reason": test.stop_reason and test.stop_reason.value,
        "ended_at": test.ended_at,
    }


def _test_of(row: Any) -> LineTest:
    return LineTest(
        id=plain(row.id),
        alert_id=AlertId(plain(row.alert_id)),
        reference=row.reference,
        partner=row.partner,
        kind=Kind(row.kind),
        month=row.month,
        planned_at=row.planned_at,
        started_at=row.started_at,
        started_by=Actor.model_validate(row.started_by),
        answer_by_at=row.answer_by_at,
        level=row.level,
        acknowledged_at=row.acknowledged_at,
        outcome=row.outcome and Outcome(row.outcome),
        stop_reason=row.stop_reason and StopReason(row.stop_reason),
        ended_at=row.ended_at,
    )
