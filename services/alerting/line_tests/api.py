"""The HTTP face of line tests. No rule lives here."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field, StrictBool

from services.alerting.bodies import PartnerCode
from services.alerting.face import Face, viewer_of
from services.alerting.line_tests import handlers, store
from services.alerting.line_tests.domain import PARTNERS_MAX
from services.alerting.line_tests.views import LineTestView, PlanView, ReportView, line_test_view, report_view
from services.alerting.visibility import READERS
from shared.contracts import Code, Role
from shared.errors import Forbidden, NotFound
from shared.idempotency import IdempotencyKey
from shared.paging import PAGE_SIZE_DEFAULT, CursorText, Page, PageSize, decode_cursor, encode_cursor
from shared.problems import ProblemType, declare_problems, problem_responses
from shared.security import Principal
from shared.web import IfMatchHeader, UtcDateTime

declare_problems(
    {
        "line_test_running": ProblemType(409, "A line test of this partner is running", "Wait until it is over."),
        "actual_alert_open": ProblemType(
            409, "An Actual alert goes before any drill", "Test this partner when the alert is over."
        ),
    }
)

PartnerQuery = Annotated[Code | None, Query(description="One partner; left out: yours, at the secretariat all.")]
FromQuery = Annotated[UtcDateTime | None, Query(alias="from", description="Begun at this instant or later.")]
ToQuery = Annotated[UtcDateTime | None, Query(alias="to", description="Begun before this instant.")]

OWN_READERS = READERS | {Role.ROSTER_MANAGER}
"""Roles that see how their partner did."""


class PlanBody(BaseModel):
    """The switch of the monthly line tests."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"enabled": True, "partners": None}]})

    enabled: StrictBool
    partners: list[PartnerCode] | None = Field(
        default=None, max_length=PARTNERS_MAX, description="Null: every partner that takes part, later ones too."
    )


class StartBody(BaseModel):
    """A line test that is wanted now."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"partner": "GB"}]})

    partner: PartnerCode


def add_routes(routes: APIRouter, face: Face) -> None:
    """Adds the routes of line tests."""
    _plan(routes, face)
    _tests(routes, face)


def _plan(routes: APIRouter, face: Face) -> None:
    @routes.get(
        "/v1/line-test-plan",
        tags=["Line tests"],
        summary="Whether line tests are on, and who has had this month's",
        response_model=None,
        responses={
            200: {"model": PlanView, "description": "The plan."},
            **problem_responses("role_missing", "person_needed"),
        },
    )
    async def show_line_test_plan(*, request: Request, principal: Principal = Depends(face.caller)) -> Response:
        """The plan, for the secretariat. Line tests are unannounced to its people too: no time ahead is told."""
        answer = await handlers.show_plan(face.deps, await face.call_of(request, principal, None))
        return answer.response()

    @routes.put(
        "/v1/line-test-plan",
        tags=["Line tests"],
        summary="Switch line tests on or off",
        response_model=None,
        responses={
            200: {"model": PlanView, "description": "The plan as it is now."},
            **problem_responses("role_missing", "person_needed", "precondition_failed", "precondition_required"),
        },
    )
    async def switch_line_test_plan(
        *, request: Request, principal: Principal = Depends(face.caller), body: PlanBody, if_match: IfMatchHeader
    ) -> Response:
        """Switched on, somebody at every partner is paged once a month, at an instant that nobody can foresee.

        The tests are released in the name of whoever switched the plan last. A test that runs goes on when the plan is
        switched off.
        """
        call = await face.call_of(request, principal, None)
        answer = await handlers.switch_plan(
            face.deps, call, enabled=body.enabled, partners=body.partners, check_version=if_match.require
        )
        return answer.response()


def _tests(routes: APIRouter, face: Face) -> None:
    @routes.post(
        "/v1/line-tests",
        tags=["Line tests"],
        summary="Test one partner now",
        status_code=202,
        response_model=None,
        responses={
            202: {"model": LineTestView, "description": "Begun: whoever is on duty there is being paged."},
            **problem_responses("role_missing", "person_needed", "line_test_running", "actual_alert_open"),
        },
    )
    async def start_line_test(
        *, request: Request, principal: Principal = Depends(face.caller), body: StartBody, key: IdempotencyKey
    ) -> Response:
        """Pages whoever is on duty at the partner with an exercise that is to be acknowledged within 30 minutes.

        For the secretariat. It is stopped by the first Actual alert that addresses the partner.
        """
        call = await face.call_of(request, principal, key)
        answer = await handlers.start_line_test(face.deps, call, body.partner)
        return answer.response()

    @routes.get(
        "/v1/line-tests",
        tags=["Line tests"],
        summary="Line tests and what came of them, the newest first",
        responses=problem_responses("role_missing", "not_found", "cursor_invalid"),
    )
    async def list_line_tests(
        *,
        principal: Principal = Depends(face.caller),
        limit: PageSize = PAGE_SIZE_DEFAULT,
        cursor: CursorText = None,
        partner: PartnerQuery = None,
        from_at: FromQuery = None,
        to_at: ToQuery = None,
    ) -> Page[LineTestView]:
        """Tests that have begun: your partner's own; for the secretariat those of all."""
        narrowed = whose(principal, partner)
        before = None if cursor is None else decode_cursor(cursor, UUID)[0]
        async with face.deps.intake.transaction() as tx:
            found = await store.find_tests(
                tx, partner=narrowed, from_at=from_at, to_at=to_at, before=before, limit=limit + 1
            )
        shown = [line_test_view(test) for test in found[:limit]]
        return Page(items=shown, next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None)

    @routes.get(
        "/v1/line-tests/report",
        tags=["Line tests"],
        summary="How partners do in line tests, by kind",
        responses=problem_responses("role_missing", "not_found"),
    )
    async def report_line_tests(
        *,
        principal: Principal = Depends(face.caller),
        partner: PartnerQuery = None,
        from_at: FromQuery = None,
        to_at: ToQuery = None,
    ) -> ReportView:
        """Numbers and answer times by partner and kind: nights, weekends, holidays, working days. Drills alone.

        `p90_seconds`: nine answers of ten came within so long.
        """
        narrowed = whose(principal, partner)
        async with face.deps.intake.transaction() as tx:
            return report_view(await store.summarise(tx, partner=narrowed, from_at=from_at, to_at=to_at))


def whose(principal: Principal, asked: str | None) -> str | None:
    """The partner whose tests the caller sees; None: everybody's. Another's are as if they were missing."""
    if viewer_of(principal).is_secretariat:
        return asked
    if principal.roles.isdisjoint(OWN_READERS):
        raise Forbidden("none of your roles sees line tests", code="role_missing")
    if asked not in (None, principal.partner):
        raise NotFound("there is no such partner, or its line tests are not yours to see")
    return principal.partner
