"""The HTTP face of statistics. No rule lives here."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field

from services.escalation.deps import EscalationDeps
from services.escalation.statistics.domain import BUCKETS_SECONDS, PERIOD_DEFAULT, PERIOD_MAX, Tally, period_of
from services.escalation.statistics.handlers import read_statistics
from services.escalation.views import View
from shared.contracts import Precedence
from shared.problems import problem_responses
from shared.security import Principal
from shared.web import UtcDateTime, authenticated


class TallyView(View):
    """How answers to alerts of one precedence went."""

    precedence: Precedence
    asked: int
    """Obligations to answer whose clock began in the period. An Update takes over what was owed before it."""
    acknowledged: int
    late: int
    """Of those acknowledged: after the time to acknowledge."""
    unreached: int
    """All levels were spent at some time, whether or not an answer came afterwards."""
    taken_over: int
    """Of those unreached: a human of raiser or secretariat took them over."""
    median_seconds: float | None
    """From release to acknowledgement: half took no longer. None where nobody has acknowledged."""
    p90_seconds: float | None
    """Nine tenths took no longer."""
    distribution: list[int]
    """How many acknowledgements fall into each bucket of `buckets_seconds`; the last number took longer than all."""


class PartnerTallyView(TallyView):
    """The same of one partner."""

    partner: str = Field(examples=["US"])


class CoverageTallyView(View):
    """How the coverage goals of one raiser's alerts of one precedence went."""

    raiser: str = Field(examples=["CA"])
    precedence: Precedence
    met: int
    missed: int


class StatisticsView(View):
    """How fast partners acknowledged in a period."""

    from_at: UtcDateTime
    to_at: UtcDateTime
    """Not itself included."""
    status: Literal["Actual", "drills"]
    buckets_seconds: list[int]
    """Upper bounds, inclusive."""
    partners: list[PartnerTallyView]
    """By partner, the most urgent precedence first."""
    total: list[TallyView]
    """All that you see together, by precedence."""
    coverage: list[CoverageTallyView]
    """Goals decided in the period."""


def add_routes(routes: APIRouter, deps: EscalationDeps) -> None:
    """Adds the route."""
    caller = authenticated(deps)

    @routes.get(
        "/v1/statistics",
        tags=["Statistics"],
        summary="Times to acknowledge by partner and precedence",
        response_model=StatisticsView,
        responses=problem_responses("role_missing", "invalid", "out_of_range"),
    )
    async def get_statistics(
        principal: Principal = Depends(caller),
        from_at: Annotated[
            UtcDateTime | None,
            Query(alias="from", description=f"Default: {PERIOD_DEFAULT.days} days before `to`."),
        ] = None,
        to_at: Annotated[
            UtcDateTime | None,
            Query(alias="to", description=f"Not itself included; default: now. At most {PERIOD_MAX.days} days later."),
        ] = None,
        status: Annotated[
            Literal["Actual", "drills"],
            Query(description="What was real, or line tests and exercises; never both in one number."),
        ] = "Actual",
    ) -> StatisticsView:
        """Who was asked, who acknowledged, how fast, who was late or unreached, and how coverage goals went.

        The secretariat sees every partner; a government itself as an addressed partner, and the partners that its own
        alerts addressed, in these alerts alone. Partners that were only informed are not counted.
        """
        period = period_of(from_at, to_at, deps.clock.now())
        found = await read_statistics(deps, principal, period, drills=status == "drills")
        return StatisticsView(
            from_at=period.from_at,
            to_at=period.to_at,
            status=status,
            buckets_seconds=list(BUCKETS_SECONDS),
            partners=[PartnerTallyView(**asdict(one)) for one in found.partners],
            total=[TallyView(**_shared(one)) for one in found.total],
            coverage=[CoverageTallyView(**asdict(one)) for one in found.coverage],
        )


def _shared(tally: Tally) -> dict[str, Any]:
    return {name: value for name, value in asdict(tally).items() if name != "partner"}
