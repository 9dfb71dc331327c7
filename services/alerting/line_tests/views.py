"""Plan, tests and report as JSON. Nothing here tells a time that lies ahead."""

from __future__ import annotations

from datetime import date
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, Field

from services.alerting.line_tests.domain import LineTest, Outcome, Plan, StopReason
from services.alerting.line_tests.plan import Kind
from services.alerting.line_tests.store import Summary
from shared.web import UtcDateTime


class MonthState(StrEnum):
    """How far a partner's test of this month is. When it comes, nobody is told."""

    STILL_TO_COME = "still_to_come"
    DONE = "done"
    ZONE_UNKNOWN = "zone_unknown"


class PlannedView(BaseModel):
    """One partner's test of this month."""

    partner: str
    month: str | None = Field(default=None, description="By the partner's own calendar.", examples=["2026-11"])
    this_month: MonthState


class PlanView(BaseModel):
    """The plan of the monthly line tests."""

    enabled: bool
    partners: list[str] | None = Field(default=None, description="Null: every partner that takes part.")
    switched_by: str | None = Field(default=None, description="In whose name the tests are released.")
    switched_at: UtcDateTime | None = None
    version: int
    months: list[PlannedView] = Field(description="By partner; empty while the plan is off. No time is told ahead.")


class LineTestView(BaseModel):
    """One line test and what came of it."""

    id: UUID
    partner: str
    kind: Kind = Field(description="What the instant was to those who were woken: by their own clock and calendar.")
    alert_id: UUID
    reference: str = Field(examples=["RP-XR-2026-0007"])
    planned_at: UtcDateTime | None = Field(default=None, description="Null for one that was asked for by hand.")
    started_at: UtcDateTime
    answer_by_at: UtcDateTime
    acknowledged_at: UtcDateTime | None = None
    seconds: float | None = Field(default=None, description="From the release to the acknowledgement.")
    level: int = Field(description="The highest level that was paged.")
    outcome: Outcome | None = Field(default=None, description="Null while it runs.")
    stop_reason: StopReason | None = None
    ended_at: UtcDateTime | None = None


class SummaryView(BaseModel):
    """What came of a partner's tests of one kind."""

    partner: str
    kind: Kind
    tests: int
    answered: int
    unanswered: int
    stopped: int = Field(description="Say nothing about the partner: an Actual alert came, or somebody ended them.")
    median_seconds: float | None = None
    p90_seconds: float | None = None


class ReportView(BaseModel):
    """Line tests by partner and kind. Actual alerts are not in it."""

    items: list[SummaryView]


def plan_view(plan: Plan, months: dict[str, date | None], done: set[tuple[str, date]]) -> PlanView:
    """The plan, with the month that each partner is in (None: its zone is not known) and who has had its test."""

    def planned(code: str, month: date | None) -> PlannedView:
        if month is None:
            return PlannedView(partner=code, this_month=MonthState.ZONE_UNKNOWN)
        state = MonthState.DONE if (code, month) in done else MonthState.STILL_TO_COME
        return PlannedView(partner=code, month=month.strftime("%Y-%m"), this_month=state)

    return PlanView(
        enabled=plan.enabled,
        partners=None if plan.partners is None else list(plan.partners),
        switched_by=None if plan.switched_by is None else plan.switched_by.name,
        switched_at=plan.switched_at,
        version=plan.version,
        months=[planned(code, month) for code, month in months.items()],
    )


def line_test_view(test: LineTest) -> LineTestView:
    """One test."""
    return LineTestView(
        id=test.id,
        partner=test.partner,
        kind=test.kind,
        alert_id=test.alert_id,
        reference=test.reference,
        planned_at=test.planned_at,
        started_at=test.started_at,
        answer_by_at=test.answer_by_at,
        acknowledged_at=test.acknowledged_at,
        seconds=test.seconds,
        level=test.level,
        outcome=test.outcome,
        stop_reason=test.stop_reason,
        ended_at=test.ended_at,
    )


def report_view(found: list[Summary]) -> ReportView:
    """The report."""
    return ReportView(
        items=[
            SummaryView(
                partner=one.partner,
                kind=one.kind,
                tests=one.tests,
                answered=one.answered,
                unanswered=one.unanswered,
                stopped=one.stopped,
                median_seconds=one.median_seconds,
                p90_seconds=one.p90_seconds,
            )
            for one in found
        ]
    )
