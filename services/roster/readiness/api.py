"""The HTTP face of readiness. No rule lives here.

A partner's own people see it in full. The secretariat sees every partner's scores, codes, times and roles, without
names and points. To everybody else it is not there.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from starlette.responses import Response

from services.roster import store as roster_store
from services.roster.api_owned import Code, answer_of
from services.roster.handlers import READING_ROLES, RosterDeps, missing
from services.roster.readiness import store, views
from services.roster.readiness.views import PartnerReadinessView, ReadinessView
from shared.contracts import SECRETARIAT, Role
from shared.paging import PAGE_SIZE_DEFAULT, CursorText, Page, PageSize, decode_cursor, encode_cursor
from shared.problems import problem_responses
from shared.security import Principal
from shared.web import authenticated

HISTORY_DAYS_DEFAULT = 30
HISTORY_DAYS_MAX = 731

_DAYS = Query(ge=0, le=HISTORY_DAYS_MAX, description="So many days of scores, today's among them.")


def add_routes(routes: APIRouter, deps: RosterDeps) -> None:
    """Adds the routes by which readiness is seen."""
    caller = authenticated(deps)

    @routes.get(
        "/v1/partners/{code}/readiness",
        summary="Readiness of a partner",
        response_model=ReadinessView,
        responses=problem_responses("not_found", "role_missing", "invalid"),
    )
    async def get_readiness(
        code: Code, principal: Principal = Depends(caller), days: Annotated[int, _DAYS] = HISTORY_DAYS_DEFAULT
    ) -> Response:
        """Whether the coming 14 days are proven: what is missing, why, and what to do; with a score and its history.

        Proven anew after each change and every hour. The secretariat sees it without names and contact points.
        """
        is_owner = _is_owner(principal, code)
        since = deps.clock.now().date() - timedelta(days=days - 1)
        async with deps.intake.transaction() as tx:
            stored = await roster_store.find_partner(tx, deps.keys, code)
            if stored is None:
                raise missing()
            found = await store.find_readiness(tx, code)
            scores = await store.find_scores(tx, code, since=since)
        return answer_of(views.readiness_view(stored.state, found, scores, is_owner=is_owner))

    @routes.get(
        "/v1/readiness",
        summary="Readiness of every partner",
        response_model=Page[PartnerReadinessView],
        responses=problem_responses("role_missing", "cursor_invalid"),
    )
    async def list_readiness(
        principal: Principal = Depends(caller), limit: PageSize = PAGE_SIZE_DEFAULT, cursor: CursorText = None
    ) -> Page[PartnerReadinessView]:
        """For the secretariat: each active partner's present score, and where nobody is on call within 24 hours."""
        principal.require(Role.SECRETARIAT)
        after = decode_cursor(cursor, str)[0] if cursor is not None else None
        async with deps.intake.transaction() as tx:
            found = await store.find_summaries(tx, after=after, limit=limit + 1)
        page = found[:limit]
        return Page(
            items=[views.summary_view(one) for one in page],
            next_cursor=encode_cursor(page[-1].partner) if len(found) > limit else None,
        )


def _is_owner(principal: Principal, code: str) -> bool:
    """Whether the caller sees everything; raises where they see nothing."""
    if principal.partner == code and principal.has(*READING_ROLES):
        return True
    if principal.partner == SECRETARIAT and principal.has(Role.SECRETARIAT):
        return False
    if principal.partner != code:
        raise missing()
    principal.require(*READING_ROLES)
    return True
