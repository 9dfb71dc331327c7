"""The HTTP face of messages to systems: test an endpoint, read what was sent, send it again. No rule lives here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from services.escalation import reading
from services.escalation.deliveries import handlers as deliveries
from services.escalation.deliveries import store as delivery_log
from services.escalation.deliveries.handlers import PINGS_MAX, REPLAY_RANGE_MAX, Replayed
from services.escalation.deliveries.store import Wanted
from services.escalation.deps import EscalationDeps
from services.escalation.store import Row
from services.escalation.views import AttemptView, View, attempt_view
from shared.contracts import ChannelName
from shared.paging import PAGE_SIZE_DEFAULT, CursorText, Page, PageSize, decode_cursor, encode_cursor
from shared.problems import ProblemType, declare_problems, problem_responses
from shared.security import Principal
from shared.web import UtcDateTime, authenticated, cause_of

ATTEMPTS_LISTED_MAX = 20
ATTEMPTS_SHOWN_MAX = 500
"""The newest ones. A message that an endpoint refuses for two days is tried some three thousand times."""

declare_problems(
    {"too_many_pings": ProblemType(409, "Too many test messages", f"Wait: {PINGS_MAX} a minute are enough.")}
)

PageId = Annotated[UUID, Path(description="The message's id: its `webhook-id`.")]
EndpointId = Annotated[UUID, Path(description="The endpoint's id, as your roster lists it.")]


class DeliveryView(View):
    """One message to one of your systems, or to one of your people or offices."""

    page_id: UUID
    """The `webhook-id`; the same on every attempt and replay."""
    endpoint_id: UUID
    """The endpoint's id; of a message to people, the contact point's."""
    channel: ChannelName
    contact_id: UUID | None = Field(default=None, description="The person it went to; None for systems and offices.")
    told: str
    message_type: str
    alert_id: UUID | None
    """Shown to those who see alerts; absent for test messages."""
    escalation_id: UUID | None
    state: Literal["due", "leased", "done", "ended"]
    """`due` and `leased` are on their way; `done` is delivered or given up; `ended` is no longer wanted."""
    created_at: UtcDateTime
    delivered_at: UtcDateTime | None
    next_attempt_at: UtcDateTime | None
    attempts_made: int
    attempts: list[AttemptView]
    """The newest, oldest of them first."""


class DeliveryDetail(DeliveryView):
    """One message with its body."""

    body: str | None
    """The exact text that was sent and signed; shown to those who see alerts."""


class PingTaken(View):
    """A test message is on its way."""

    page_id: UUID
    """Its `webhook-id`; the result is at `GET /v1/deliveries/{page_id}`."""


class ReplayRequest(BaseModel):
    """Which messages to send again: those made from one instant up to another."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={"examples": [{"from": "2021-08-15T09:00:00Z", "to": "2021-08-15T12:00:00Z"}]},
    )

    from_at: UtcDateTime = Field(alias="from")
    to_at: UtcDateTime = Field(alias="to", description=f"At most {REPLAY_RANGE_MAX.days} days later.")


class ReplayTaken(View):
    """What is sent again."""

    page_ids: list[UUID]
    on_their_way: int
    """How many were being sent anyway; they are left alone."""
    continue_from: UtcDateTime | None = None
    """Send it as `from` for the rest, where the range holds more than one replay takes."""


def add_routes(routes: APIRouter, deps: EscalationDeps) -> None:
    """Adds the routes about messages to systems."""
    caller = authenticated(deps)

    @routes.post(
        "/v1/endpoints/{endpoint_id}/ping",
        tags=["Webhooks"],
        summary="Send a test message",
        status_code=202,
        response_model=PingTaken,
        responses=problem_responses("not_found", "role_missing", "too_many_pings"),
    )
    async def ping_endpoint(
        endpoint_id: EndpointId, request: Request, principal: Principal = Depends(caller)
    ) -> PingTaken:
        """Sends a signed `test.ping` to one of your endpoints, once: no alert, no escalation, nobody is woken.

        What became of it stands in the delivery log a moment later. It needs no `Idempotency-Key`: sent again, it is
        another test message.
        """
        return PingTaken(
            page_id=await deliveries.ping_endpoint(deps, principal, endpoint_id, cause=cause_of(request, principal))
        )

    @routes.get(
        "/v1/deliveries",
        tags=["Webhooks"],
        summary="The delivery log",
        response_model=Page[DeliveryView],
        responses=problem_responses("role_missing", "invalid", "cursor_invalid"),
    )
    async def list_deliveries(
        *,
        principal: Principal = Depends(caller),
        kind: Annotated[
            Literal["systems", "people"],
            Query(description="`people`: to your people and offices. For roster managers."),
        ] = "systems",
        contact_point_id: Annotated[
            UUID | None, Query(description="One endpoint's, or one contact point's, messages only.")
        ] = None,
        state: Literal["due", "leased", "done", "ended"] | None = None,
        delivered: Annotated[bool | None, Query(description="Only those that were, or were not, delivered.")] = None,
        from_at: Annotated[
            UtcDateTime | None, Query(alias="from", description="Made at this instant or later.")
        ] = None,
        to_at: Annotated[UtcDateTime | None, Query(alias="to", description="Made before this instant.")] = None,
        limit: PageSize = PAGE_SIZE_DEFAULT,
        cursor: CursorText = None,
    ) -> Page[DeliveryView]:
        """Every message to your systems, newest first, with its attempts: when, what came of it, what comes next.

        With `kind=people` those to your people and offices, which belong to alerts, or are notices, tests and
        verifications: over which channel, to whom by office or role, through which provider, at what cost where that is
        known. Addresses are not shown. For those who look after your government's systems, and for these systems
        themselves.
        """
        to_people = kind == "people"
        if to_people:
            deliveries.require_roster(principal)
        else:
            deliveries.require_access(principal)
        after = None
        if cursor is not None:
            created_at, last_id = decode_cursor(cursor, UtcDateTime, UUID)
            after = (created_at, last_id)
        wanted = Wanted(to_people, contact_point_id, state, delivered, from_at, to_at, after, limit + 1)
        async with deps.intake.transaction() as tx:
            rows = await delivery_log.find_deliveries(tx, principal.partner, wanted)
            shown, more = rows[:limit], len(rows) > limit
            attempts = await delivery_log.find_newest_attempts(tx, [row["id"] for row in shown], ATTEMPTS_LISTED_MAX)
        by_page: dict[UUID, list[Row]] = {}
        for attempt in attempts:
            by_page.setdefault(attempt["page_id"], []).append(attempt)
        return Page(
            items=[DeliveryView(**_fields(row, by_page.get(row["id"], []), principal)) for row in shown],
            next_cursor=encode_cursor(shown[-1]["created_at"], str(shown[-1]["id"])) if more else None,
        )

    @routes.get(
        "/v1/deliveries/{page_id}",
        tags=["Webhooks"],
        summary="One message with its body",
        response_model=DeliveryDetail,
        responses=problem_responses("not_found", "role_missing"),
    )
    async def get_delivery(page_id: PageId, principal: Principal = Depends(caller)) -> DeliveryDetail:
        """The message with the body that was signed and sent, which holds what the alert's handling allows."""
        found = await deliveries.read_delivery(deps, principal, page_id, ATTEMPTS_SHOWN_MAX)
        body = None if found.body is None else found.body.decode()
        return DeliveryDetail(**_fields(found.row, found.attempts, principal), body=body)

    @routes.post(
        "/v1/deliveries/{page_id}/replay",
        tags=["Webhooks"],
        summary="Send a message again",
        status_code=202,
        response_model=ReplayTaken,
        responses=problem_responses("not_found", "role_missing"),
    )
    async def replay_delivery(page_id: PageId, request: Request, principal: Principal = Depends(caller)) -> ReplayTaken:
        """Sends it once more, under the same `webhook-id` and with the same body, to where the endpoint is now.

        A receiver that had it drops it by its id. It is tried for an hour. It needs no `Idempotency-Key`: while it is
        on its way, asking again changes nothing.
        """
        cause = cause_of(request, principal)
        return _taken(await deliveries.replay_delivery(deps, principal, page_id, cause=cause))

    @routes.post(
        "/v1/endpoints/{endpoint_id}/replay",
        tags=["Webhooks"],
        summary="Send a range of messages again",
        status_code=202,
        response_model=ReplayTaken,
        responses=problem_responses("not_found", "role_missing", "invalid", "out_of_range"),
    )
    async def replay_endpoint(
        endpoint_id: EndpointId, body: ReplayRequest, request: Request, principal: Principal = Depends(caller)
    ) -> ReplayTaken:
        """For a system that was down, or lost its data: everything that it was sent from one instant to another.

        Oldest first, under the same ids and with the same bodies, at most 500 at a time. New alerts go before it. Test
        messages are left out.
        """
        cause = cause_of(request, principal)
        return _taken(
            await deliveries.replay_endpoint(deps, principal, endpoint_id, body.from_at, body.to_at, cause=cause)
        )


def _fields(row: Row, attempts: Sequence[Row], principal: Principal) -> dict[str, Any]:
    sees_alerts = reading.sees_escalations(principal)
    return {
        "page_id": row["id"],
        "endpoint_id": row["contact_point_id"],
        "channel": row["channel"],
        "contact_id": row["contact_id"],
        "told": row["told"],
        "message_type": row["message_type"],
        "alert_id": row["alert_id"] if sees_alerts else None,
        "escalation_id": row["escalation_id"] if sees_alerts else None,
        "state": row["state"],
        "created_at": row["created_at"],
        "delivered_at": row["delivered_at"],
        "next_attempt_at": row["due_at"] if row["state"] == "due" else None,
        "attempts_made": row["attempts"],
        "attempts": [attempt_view(one) for one in attempts],
    }


def _taken(replayed: Replayed) -> ReplayTaken:
    return ReplayTaken(
        page_ids=list(replayed.page_ids), on_their_way=replayed.on_their_way, continue_from=replayed.continue_from
    )
