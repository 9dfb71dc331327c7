"""The HTTP face of heartbeats: how every path is, and one now. No rule lives here."""

from __future__ import annotations

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import Field

from services.escalation.deps import EscalationDeps
from services.escalation.heartbeats import handlers as heartbeats
from services.escalation.heartbeats.domain import Heartbeat, Kind, State
from services.escalation.heartbeats.handlers import Wanted
from services.escalation.views import View
from shared.contracts import ChannelName
from shared.paging import PAGE_SIZE_DEFAULT, CursorText, Page, PageSize, decode_cursor, encode_cursor
from shared.problems import ProblemType, declare_problems, problem_responses
from shared.security import Principal
from shared.web import UtcDateTime, authenticated, cause_of

declare_problems(
    {"heartbeat_just_sent": ProblemType(409, "A heartbeat was just asked for", "Wait a minute before the next.")}
)

HeartbeatId = Annotated[UUID, Path(description="The endpoint's id, or the loop-back's as the list shows it.")]


class HeartbeatView(View):
    """One path: an endpoint of a government, or a loop-back of our own at a provider."""

    id: UUID
    kind: Kind
    partner: str
    channel: ChannelName
    provider: str | None
    """Who carries it; None for an endpoint."""
    told: str
    """The endpoint's description, or provider and channel."""
    state: State
    """One failure does not change it: two in a row do, or one that lasts an hour."""
    last_beat_at: UtcDateTime | None
    """When the newest beat was sent."""
    ended_at: UtcDateTime | None
    """When it was last known what became of one."""
    waits: bool
    """A provider has the newest beat, and it has not come back yet."""
    answered_at: UtcDateTime | None
    answer_milliseconds: int | None
    """How long the newest beat took to be answered, or to come back; None if it failed."""
    reason: str | None
    """Why the newest beat failed."""
    failures: int
    """In a row."""
    failing_since_at: UtcDateTime | None
    certificate_valid_until: UtcDateTime | None
    """The end of the endpoint's TLS certificate, looked at once a day; None where it was not seen."""
    next_beat_at: UtcDateTime


class HeartbeatCounts(View):
    """How many of the paths that you may see are in each state."""

    answering: int
    failing: int
    unchecked: int


class HeartbeatPage(Page[HeartbeatView]):
    """Paths, and how many there are."""

    counts: HeartbeatCounts = Field(description="Over all pages, whatever `state` asks for.")


def add_routes(routes: APIRouter, deps: EscalationDeps) -> None:
    """Adds the routes about heartbeats."""
    caller = authenticated(deps)

    @routes.get(
        "/v1/heartbeats",
        tags=["Heartbeats"],
        summary="List heartbeats",
        response_model=HeartbeatPage,
        responses=problem_responses("role_missing", "invalid"),
    )
    async def list_heartbeats(
        principal: Principal = Depends(caller),
        partner: Annotated[str | None, Query(pattern="^[A-Z]{2}$")] = None,
        kind: Kind | None = None,
        state: State | None = None,
        limit: PageSize = PAGE_SIZE_DEFAULT,
        cursor: CursorText = None,
    ) -> HeartbeatPage:
        """Every path with its last beat, by partner: your government's own endpoints; for the secretariat those of all
        governments and our loop-backs at providers; for administrators the loop-backs.
        """
        after = None
        if cursor is not None:
            code, last_id = decode_cursor(cursor, str, UUID)
            after = (code, last_id)
        wanted = Wanted(partner=partner, kind=kind, state=state, after=after, limit=limit + 1)
        found = await heartbeats.read_heartbeats(deps, principal, wanted)
        page, more = found.heartbeats[:limit], len(found.heartbeats) > limit
        return HeartbeatPage(
            items=[_view(beat) for beat in page],
            next_cursor=encode_cursor(page[-1].partner, str(page[-1].id)) if more else None,
            counts=HeartbeatCounts(**{state.value: number for state, number in found.counts.items()}),
        )

    @routes.get(
        "/v1/heartbeats/{heartbeat_id}",
        tags=["Heartbeats"],
        summary="One heartbeat",
        response_model=HeartbeatView,
        responses=problem_responses("not_found", "role_missing"),
    )
    async def get_heartbeat(heartbeat_id: HeartbeatId, principal: Principal = Depends(caller)) -> HeartbeatView:
        """One path with its last beat."""
        return _view(await heartbeats.read_heartbeat(deps, principal, heartbeat_id))

    @routes.post(
        "/v1/heartbeats/{heartbeat_id}",
        tags=["Heartbeats"],
        summary="Send a heartbeat now",
        status_code=202,
        response_model=HeartbeatView,
        responses=problem_responses("not_found", "role_missing", "heartbeat_just_sent"),
    )
    async def send_heartbeat(
        heartbeat_id: HeartbeatId, request: Request, principal: Principal = Depends(caller)
    ) -> HeartbeatView:
        """Has a path tried at once, after it was mended for example; nobody is woken. Look at `ended_at` a moment
        later.

        For the roster manager of its government, and the secretariat; once a minute. It needs no `Idempotency-Key`:
        sent again within the minute, it is refused and nothing is sent.
        """
        cause = cause_of(request, principal)
        return _view(await heartbeats.beat_now(deps, principal, heartbeat_id, cause=cause))


def _view(beat: Heartbeat) -> HeartbeatView:
    return HeartbeatView(
        id=beat.id,
        kind=beat.kind,
        partner=beat.partner,
        channel=ChannelName(beat.channel),
        provider=beat.provider,
        told=beat.told,
        state=beat.state,
        last_beat_at=beat.beat_at,
        ended_at=beat.ended_at,
        waits=beat.is_out,
        answered_at=beat.answered_at,
        answer_milliseconds=None if beat.answer_seconds is None else round(1000 * beat.answer_seconds),
        reason=beat.reason,
        failures=beat.failures,
        failing_since_at=beat.failing_since_at,
        certificate_valid_until=beat.certificate_valid_until,
        next_beat_at=beat.next_at,
    )
