"""The HTTP face of calendars: what is imported into a rota, and rotas as calendars. No rule lives here.

A calendar counts its own versions: its ETag is not the partner's. The private address `/v1/calendars/{token}.ics` is
the only route of roster that needs no token of ours; its own token is in no log line, since those name the route.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Request
from starlette.responses import Response

from services.roster.addresses import url_fault
from services.roster.api_owned import Code, DryRun, RotaId, answer_of
from services.roster.calendars import handlers, linking, views
from services.roster.calendars.fetching import address_of
from services.roster.calendars.handlers import Outcome, Place
from services.roster.calendars.views import (
    CalendarBody,
    CalendarEdit,
    Calendars,
    CalendarView,
    LinkBody,
    Links,
    LinkView,
    MadeLinkView,
)
from services.roster.handlers import Call, RosterDeps
from shared import idempotency
from shared.egress import check_url, policy_of
from shared.errors import FieldError, Invalid
from shared.idempotency import OptionalIdempotencyKey, StoredResponse
from shared.problems import ProblemType, declare_problems, problem_responses
from shared.security import Principal
from shared.web import IfMatchHeader, UtcDateTime, authenticated, cause_of, etag_of

declare_problems(
    {
        "not_a_calendar": ProblemType(
            422, "This is no calendar", "Export it as iCalendar (.ics), or copy the address that ends in .ics."
        ),
        "calendar_empty": ProblemType(422, "The calendar is empty", "Export it again."),
        "calendar_compressed": ProblemType(422, "The calendar is compressed", "Unpack it first."),
        "calendar_too_large": ProblemType(
            422, "The calendar is too large", "Export the coming year alone, or the duty calendar alone."
        ),
        "calendar_too_costly": ProblemType(
            422,
            "The calendar takes too long to read",
            "Leave out events that recur without end, and what is long past.",
        ),
        "calendar_not_fetched": ProblemType(
            422, "The calendar could not be fetched", "See that the address works without signing in, over https."
        ),
        "too_many_calendars": ProblemType(409, "Too many calendars", "Remove one, or put two of them into one."),
        "calendar_busy": ProblemType(409, "The calendar is being refreshed", "Try again."),
        "too_many_calendar_links": ProblemType(409, "Too many private addresses", "Revoke those that nobody uses."),
    }
)

EXPORT_DAYS_MAX = 366
CALENDAR_TYPE = "text/calendar; charset=utf-8"

CalendarId = Annotated[UUID, Path(description="The calendar's id.")]
LinkId = Annotated[UUID, Path(description="The private address's id.")]
Token = Annotated[str, Path(description="What opens the private address.", examples=["this-is-an-example"])]

_UNREADABLE = (
    "not_a_calendar",
    "calendar_empty",
    "calendar_compressed",
    "calendar_too_large",
    "calendar_too_costly",
    "worker_busy",
)
_READ = problem_responses("not_found", "role_missing")
_FILE: dict[int | str, dict[str, Any]] = {
    200: {"content": {"text/calendar": {"schema": {"type": "string"}}}, "description": "The calendar."}
}


def add_routes(routes: APIRouter, deps: RosterDeps) -> None:
    """Adds all routes of calendars."""
    caller = authenticated(deps)
    _importing(routes, deps, caller)
    _changing(routes, deps, caller)
    _exporting(routes, deps, caller)
    _linking(routes, deps, caller)


Caller = Callable[..., Awaitable[Principal]]


# --- importing --------------------------------------------------------------------------------------------------------


def _importing(routes: APIRouter, deps: RosterDeps, caller: Caller) -> None:
    async def adding(
        request: Request,
        key: OptionalIdempotencyKey,
        principal: Principal = Depends(caller),
        dry_run: DryRun = False,
    ) -> Call:
        attempt = None if key is None else await idempotency.attempt(request, principal, key)
        return Call(principal, cause_of(request, principal), attempt=attempt, dry_run=dry_run)

    @routes.post(
        "/v1/partners/{code}/rotas/{rota_id}/calendars",
        summary="Import a calendar into a rota",
        status_code=201,
        response_model=CalendarView,
        responses={
            200: {"model": CalendarView, "description": "With dry_run: what it would bring. Nothing was stored."},
            **problem_responses(
                "not_found",
                "role_missing",
                "invalid",
                "calendar_not_fetched",
                "too_many_calendars",
                "idempotency_key_reused",
                *_UNREADABLE,
            ),
        },
    )
    async def add_calendar(code: Code, rota_id: RotaId, body: CalendarBody, call: Call = Depends(adding)) -> Response:
        """Takes shifts over from your ministry's own calendar: from a file, or from an address that is fetched hourly.

        An event is a contact's shift if the mapping says so, if an e-mail address of it is a contact point of theirs,
        or if their name stands in its summary; an event that names nobody or two is nobody's, and is listed. What is
        imported outranks the rota's layers; replacements and overrides outrank it. Try it with `dry_run` first.

        An address is fetched over https without following it elsewhere; what cannot be fetched now is refused.
        """
        draft = body.draft(None if body.url is None else _checked_url(deps, body.url))
        answer = partial(_answer, status=200 if call.dry_run else 201)
        return (await handlers.add_calendar(deps, call, code, rota_id, draft, answer=answer)).response()

    @routes.get(
        "/v1/partners/{code}/rotas/{rota_id}/calendars",
        summary="List calendars of a rota",
        response_model=Calendars,
        responses=_READ,
    )
    async def list_calendars(code: Code, rota_id: RotaId, principal: Principal = Depends(caller)) -> Response:
        """What is imported into a rota: when each was last read, since when it fails, and what could not be mapped."""
        found = await handlers.own_calendars(deps, principal, code, rota_id)
        return answer_of(Calendars(items=[views.calendar_view(one) for one in found]))

    @routes.get(
        "/v1/partners/{code}/rotas/{rota_id}/calendars/{calendar_id}",
        summary="One calendar of a rota",
        response_model=CalendarView,
        responses=_READ,
    )
    async def get_calendar(
        code: Code, rota_id: RotaId, calendar_id: CalendarId, principal: Principal = Depends(caller)
    ) -> Response:
        """One calendar. Its ETag counts its own edits."""
        found = await handlers.own_calendar(deps, principal, Place(code, rota_id, calendar_id))
        return answer_of(views.calendar_view(found), found.version)


def _changing(routes: APIRouter, deps: RosterDeps, caller: Caller) -> None:
    async def editing(
        request: Request, if_match: IfMatchHeader, principal: Principal = Depends(caller), dry_run: DryRun = False
    ) -> Call:
        return Call(principal, cause_of(request, principal), if_match.require, dry_run=dry_run)

    edited = ("not_found", "role_missing", "invalid", "precondition_failed", "precondition_required")

    @routes.put(
        "/v1/partners/{code}/rotas/{rota_id}/calendars/{calendar_id}",
        summary="Edit a calendar of a rota",
        response_model=CalendarView,
        responses=problem_responses(*edited, "calendar_busy", *_UNREADABLE),
    )
    async def edit_calendar(
        code: Code, rota_id: RotaId, calendar_id: CalendarId, body: CalendarEdit, call: Call = Depends(editing)
    ) -> Response:
        """Replaces the name, the mapping, or a file by a newer one, and maps again what was last read."""
        place = Place(code, rota_id, calendar_id)
        return (await handlers.edit_calendar(deps, call, place, body.edit(), answer=_answer)).response()

    @routes.delete(
        "/v1/partners/{code}/rotas/{rota_id}/calendars/{calendar_id}",
        summary="Remove a calendar from a rota",
        response_model=CalendarView,
        responses=problem_responses(*edited),
    )
    async def remove_calendar(
        code: Code, rota_id: RotaId, calendar_id: CalendarId, call: Call = Depends(editing)
    ) -> Response:
        """Takes the calendar away with every shift that it brought; the rota's layers show again."""
        place = Place(code, rota_id, calendar_id)
        return (await handlers.remove_calendar(deps, call, place, answer=_answer)).response()

    @routes.post(
        "/v1/partners/{code}/rotas/{rota_id}/calendars/{calendar_id}/refresh",
        summary="Refresh a calendar now",
        response_model=CalendarView,
        responses=problem_responses("not_found", "role_missing", "worker_busy"),
    )
    async def refresh_calendar(
        code: Code, rota_id: RotaId, calendar_id: CalendarId, request: Request, principal: Principal = Depends(caller)
    ) -> Response:
        """Fetches a subscription now, or reads a file again. If that fails, `reason` says why, and its shifts stay."""
        call = Call(principal, cause_of(request, principal))
        place = Place(code, rota_id, calendar_id)
        return (await handlers.refresh_calendar(deps, call, place, answer=_answer)).response()


def _answer(outcome: Outcome, status: int = 200) -> StoredResponse:
    calendar = outcome.calendar
    headers = {} if outcome.preview is not None else {"ETag": etag_of(calendar.version)}
    if status == 201:
        path = f"/v1/partners/{calendar.partner}/rotas/{calendar.rota_id}/calendars/{calendar.id}"
        headers["Location"] = path
    return StoredResponse.json(status, views.outcome_view(outcome), headers)


def _checked_url(deps: RosterDeps, given: str) -> str:
    policy = policy_of(deps.settings)
    url = address_of(given.strip())
    fault = url_fault(policy, url)
    if fault is not None:
        raise Invalid("The address cannot be subscribed to.", errors=[FieldError("url", fault)])
    return check_url(url, policy).url


# --- exporting --------------------------------------------------------------------------------------------------------


def _exporting(routes: APIRouter, deps: RosterDeps, caller: Caller) -> None:
    @routes.get(
        "/v1/partners/{code}/shifts.ics",
        summary="Shifts as a calendar file",
        response_class=Response,
        responses={**_FILE, **problem_responses("not_found", "role_missing", "invalid", "worker_busy")},
    )
    async def download_shifts(
        code: Code,
        from_at: Annotated[
            UtcDateTime, Query(alias="from", description="Where the window begins.", examples=["2021-08-15T00:00:00Z"])
        ],
        to_at: Annotated[
            UtcDateTime, Query(alias="to", description="Where it ends.", examples=["2021-08-29T00:00:00Z"])
        ],
        principal: Principal = Depends(caller),
        rota: Annotated[UUID | None, Query(description="Of this rota alone.")] = None,
        contact: Annotated[UUID | None, Query(description="Of this contact alone, as holder or deputy.")] = None,
    ) -> Response:
        """The shifts of your own government as an iCalendar file, for calendar programs; at most 366 days at once.

        Times are in UTC; no number and no address of anybody stands in it.
        """
        if not timedelta(0) < to_at - from_at <= timedelta(days=EXPORT_DAYS_MAX):
            raise Invalid(f"a window ends after it begins, and is at most {EXPORT_DAYS_MAX} days long", field="to")
        raw = await linking.shifts_file(
            deps, principal, code, rota_id=rota, contact_id=contact, window=(from_at, to_at)
        )
        return Response(
            raw,
            media_type=CALENDAR_TYPE,
            headers={"Content-Disposition": 'attachment; filename="red-phone-shifts.ics"'},
        )


def _linking(routes: APIRouter, deps: RosterDeps, caller: Caller) -> None:
    @routes.post(
        "/v1/partners/{code}/calendar-links",
        summary="Make a private calendar address",
        status_code=201,
        response_model=MadeLinkView,
        responses=problem_responses("not_found", "role_missing", "not_a_contact", "invalid", "too_many_calendar_links"),
    )
    async def make_calendar_link(
        code: Code, body: LinkBody, request: Request, principal: Principal = Depends(caller)
    ) -> Response:
        """Makes an address that calendar programs subscribe to without signing in: of your own shifts, or, for roster
        managers, of a rota or of anybody's shifts.

        The address is shown this once. Whoever knows it reads those shifts, and nothing else, until it is revoked.
        There is no Idempotency-Key, because a kept answer would keep the address; one that was lost can be revoked.
        """
        call = Call(principal, cause_of(request, principal))
        made = await linking.make_link(deps, call, code, rota_id=body.rota_id, contact_id=body.contact_id)
        return answer_of(views.made_link_view(made, deps.settings.public_url or ""), status=201)

    @routes.get(
        "/v1/calendar-links",
        summary="List private calendar addresses",
        response_model=Links,
        responses=problem_responses("not_a_contact"),
    )
    async def list_calendar_links(principal: Principal = Depends(caller)) -> Response:
        """Your own private addresses; for roster managers all of their government's. What opens them is not shown."""
        found = await linking.own_links(deps, principal)
        return answer_of(Links(items=[views.link_view(link) for link in found]))

    @routes.delete(
        "/v1/calendar-links/{link_id}",
        summary="Revoke a private calendar address",
        response_model=LinkView,
        responses=problem_responses("not_found"),
    )
    async def revoke_calendar_link(
        link_id: LinkId, request: Request, principal: Principal = Depends(caller)
    ) -> Response:
        """Ends the address for ever; calendar programs lose what they showed of it. Twice is harmless."""
        revoked = await linking.revoke_link(deps, Call(principal, cause_of(request, principal)), link_id)
        return answer_of(views.link_view(revoked))

    @routes.get(
        "/v1/calendars/{token}.ics",
        summary="What a private calendar address shows",
        response_class=Response,
        responses={
            **_FILE,
            304: {"description": "You have it already, as If-None-Match says."},
            **problem_responses("not_found", "worker_busy"),
        },
    )
    async def read_calendar_link(
        token: Token,
        if_none_match: Annotated[str | None, Header(description="The ETag that you have.", max_length=1000)] = None,
    ) -> Response:
        """The calendar behind a private address, from a month ago to half a year ahead. Needs no token of yours.

        An address that was revoked and one that never was answer alike.
        """
        linked = await linking.read_link(deps, token, known_etag=if_none_match)
        headers = {"ETag": linked.etag, "Cache-Control": "private, no-cache", "X-Robots-Tag": "noindex, nofollow"}
        if linked.raw is None:
            return Response(status_code=304, headers=headers)
        return Response(linked.raw, media_type=CALENDAR_TYPE, headers=headers)

    # Some calendar programs look with HEAD whether an address is there before they subscribe to it.
    routes.add_api_route("/v1/calendars/{token}.ics", read_calendar_link, methods=["HEAD"], include_in_schema=False)
