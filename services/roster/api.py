"""The HTTP face of roster: the network file, partners, who is on call, credentials, deadlines. No rule lives here.

What a partner owns (offices, contacts, rotas, policy, endpoints) is in `api_owned`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path as FilePath
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request
from starlette.responses import Response

from services.roster import (
    answering,
    api_me,
    api_owned,
    bodies,
    handlers,
    on_call_views,
    rota_views,
    schedule,
    store,
    views,
)
from services.roster.api_owned import Code, RotaId, answer_of
from services.roster.bodies import CredentialBody, DeadlinesBody, PartnerEdit
from services.roster.calendars import api as calendars
from services.roster.call_tree import api as call_tree
from services.roster.hand_overs.handlers import find_signatures
from services.roster.handlers import Call, RosterDeps, missing
from services.roster.on_call_views import OnCallView, ShiftsView
from services.roster.readiness import api as readiness
from services.roster.rota_views import FairnessView, HolidaysView
from services.roster.schedule import EARLIEST_DATE, LATEST_DATE
from services.roster.swaps import api as swaps
from services.roster.views import (
    AppliedView,
    Credentials,
    CredentialView,
    DeadlinesView,
    PartnerView,
    SecretView,
)
from services.roster.worker import compute, compute_window
from shared.errors import Invalid
from shared.openapi import BODY_LIMIT, Documentation, declare_documentation
from shared.paging import PAGE_SIZE_DEFAULT, CursorText, Page, PageSize, decode_cursor, encode_cursor
from shared.problems import HttpProblem, ProblemType, declare_problems, problem_responses
from shared.security import Principal
from shared.web import IfMatchHeader, UtcDateTime, authenticated, cause_of, join, new_router

FILE_BYTES_MAX = 4_000_000
FILENAME_CHARACTERS_MAX = 200
FILE_TYPES = ("application/toml", "text/plain")
SHIFT_DAYS_MAX = 366

declare_problems(
    {
        "invalid_network_file": ProblemType(
            422, "The network file has mistakes", "Correct what `errors` names by line and key; nothing was applied."
        ),
        "network_file_too_costly": ProblemType(
            422, "The network file takes too long to read", "Split it by partner and apply the parts."
        ),
        "client_id_taken": ProblemType(
            409,
            "The client id is taken",
            "Choose another one; if it is yours and its secret is lost, change that.",
        ),
        "credential_is_revoked": ProblemType(409, "The credential is revoked", "Have a new one issued."),
        "not_the_holder": ProblemType(
            403, "Not your credential", "Ask its holder, or an administrator, to change the secret."
        ),
        "not_an_administrator": ProblemType(
            403, "Only an administrator decides this", "Ask the secretariat's administrator."
        ),
        "not_your_partner": ProblemType(
            403, "Only the partner itself decides this", "Ask the partner's roster manager."
        ),
        "worker_busy": ProblemType(503, "Others are being worked for", "Retry after Retry-After."),
        "worker_lost": ProblemType(503, "The work was interrupted", "Retry after Retry-After."),
    }
)

declare_documentation("roster", Documentation(FilePath(__file__).with_name("examples.json")))

ClientId = Annotated[str, Path(max_length=80, description="The credential's client id.", examples=["ca-duty-1"])]
_AT = Query(description="An instant; left out, now.", examples=["2021-08-15T06:00:00Z"])


def router(deps: RosterDeps) -> APIRouter:
    """All routes of roster."""
    routes = new_router()
    for tag, adders in _PARTS.items():
        part = new_router(tags=[tag])
        for add in adders:
            add(part, deps)
        join(routes, part)
    return routes


# --- the network file -------------------------------------------------------------------------------------------------


def _network(routes: APIRouter, deps: RosterDeps) -> None:
    caller = authenticated(deps)

    @routes.post(
        "/v1/network",
        summary="Apply a network file",
        response_model=AppliedView,
        responses=problem_responses(
            "role_missing",
            "unsupported_media_type",
            "malformed",
            "body_too_large",
            "invalid_network_file",
            "network_file_too_costly",
        ),
        openapi_extra={
            BODY_LIMIT: FILE_BYTES_MAX,
            "requestBody": {
                "required": True,
                "content": {kind: {"schema": {"type": "string"}, "example": _EXAMPLE_FILE} for kind in FILE_TYPES},
            },
        },
    )
    async def apply_network(
        request: Request,
        principal: Principal = Depends(caller),
        dry_run: Annotated[bool, Query(description="Only say what would be done.")] = False,
        filename: Annotated[
            str,
            Query(
                max_length=FILENAME_CHARACTERS_MAX,
                pattern=r"^[^\x00-\x1f\x7f]+$",
                description="What messages call the file.",
            ),
        ] = "network.toml",
    ) -> Response:
        """Writes partners, offices, contacts, rotas, policies, endpoints, credentials and deadlines from TOML.

        All of it or, if there is a mistake anywhere, nothing; the problem then lists every mistake with file, line and
        key. Applying a file twice changes nothing. What a partner has edited since is reported and left alone, unless
        the file is applied with that partner's own credential; nothing is ever deleted. Secrets of new credentials
        stand in this answer and nowhere else: there is no Idempotency-Key, because a kept answer would keep them, and
        applying again is safe. If an answer was lost, change the secret of what it created.
        """
        text = await _text_of(request)
        cause = cause_of(request, principal)
        applied = await handlers.apply_network(deps, principal, text, filename, dry_run=dry_run, cause=cause)
        return answer_of(views.applied_view(applied))


async def _text_of(request: Request) -> str:
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in FILE_TYPES:
        raise HttpProblem(f"send the file as {' or '.join(FILE_TYPES)}", code="unsupported_media_type")
    body = await request.body()
    if len(body) > FILE_BYTES_MAX:
        raise HttpProblem(f"a network file may have at most {FILE_BYTES_MAX} bytes", code="body_too_large")
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        line = body.count(b"\n", 0, error.start) + 1
        raise HttpProblem(f"the file is not UTF-8 (line {line})", code="malformed") from None


_EXAMPLE_FILE = """format = 1

[partners.CA]
name = "Canada"
standing = "member"
time_zone = "America/Toronto"

[partners.CA.offices.main]
name = "Watch Centre"
points.desk = { channel = "voice", address = "+16135550101" }

[[partners.CA.levels]]
targets = ["office:main"]
"""


# --- partners ---------------------------------------------------------------------------------------------------------


def _partners(routes: APIRouter, deps: RosterDeps) -> None:
    caller = authenticated(deps)

    @routes.get(
        "/v1/partners",
        summary="List partners",
        response_model=Page[PartnerView],
        responses=problem_responses("cursor_invalid"),
    )
    async def list_partners(
        principal: Principal = Depends(caller),  # noqa: ARG001 - whoever is known may see who takes part
        limit: PageSize = PAGE_SIZE_DEFAULT,
        cursor: CursorText = None,
    ) -> Page[PartnerView]:
        """All partners of the network by their codes, each with the office that answers."""
        after = decode_cursor(cursor, str)[0] if cursor is not None else None
        async with deps.intake.transaction() as tx:
            found = await store.find_summaries(tx, after=after, limit=limit + 1)
        page = found[:limit]
        return Page(
            items=[views.partner_view(one.partner, one.office) for one in page],
            next_cursor=encode_cursor(page[-1].partner.code) if len(found) > limit else None,
        )

    @routes.get(
        "/v1/partners/{code}",
        summary="One partner",
        response_model=PartnerView,
        responses=problem_responses("not_found"),
    )
    async def get_partner(
        code: Code,
        principal: Principal = Depends(caller),  # noqa: ARG001 - whoever is known may see who takes part
    ) -> Response:
        """Name, standing, time zone, languages, and the office that answers. The ETag counts all that it owns."""
        return await _shown_partner(deps, code)

    @routes.patch(
        "/v1/partners/{code}",
        summary="Edit a partner",
        response_model=PartnerView,
        responses=problem_responses(
            "not_found",
            "role_missing",
            "not_an_administrator",
            "not_your_partner",
            "precondition_failed",
            "precondition_required",
            "invalid",
        ),
    )
    async def edit_partner(
        code: Code, body: PartnerEdit, request: Request, if_match: IfMatchHeader, principal: Principal = Depends(caller)
    ) -> Response:
        """Changes the fields that are sent. The partner's roster manager changes what describes it; standing, and
        whether it takes part, are an administrator's to decide.
        """
        call = Call(principal, cause_of(request, principal), if_match.require)
        await handlers.edit_partner(
            deps,
            call,
            code,
            lambda partner: bodies.edited_partner(body, partner),
            is_own=body.is_own,
            is_administrative=body.is_administrative,
        )
        return await _shown_partner(deps, code)


async def _shown_partner(deps: RosterDeps, code: str) -> Response:
    async with deps.intake.transaction() as tx:
        found = await store.find_summary(tx, code)
    if found is None:
        raise missing()
    return answer_of(views.partner_view(found.partner, found.office), version=found.version)


# --- who answers ------------------------------------------------------------------------------------------------------


def _answering(routes: APIRouter, deps: RosterDeps) -> None:
    caller = authenticated(deps)

    @routes.get(
        "/v1/partners/{code}/on-call",
        summary="Who answers at an instant",
        response_model=OnCallView,
        responses=problem_responses("not_found", "invalid"),
    )
    async def get_on_call(
        code: Code, principal: Principal = Depends(caller), at: Annotated[UtcDateTime | None, _AT] = None
    ) -> Response:
        """Whom each level pages at that instant: office, role, and until when; names for their own government alone.

        A rota also tells whether whoever is on call has a deputy.
        """
        instant = at if at is not None else deps.clock.now()
        state = await answering.find_answering(deps, code, instant)
        if state is None:
            raise missing()
        found = await answering.who_answers(deps, state.rotas, instant)
        is_owner = principal.partner == code and principal.has(*handlers.READING_ROLES)
        changes = await answering.changes_at(deps, state.rotas, instant) if is_owner else []
        signatures = await find_signatures(deps, code, changes)
        view = on_call_views.on_call_view(state, found, at=instant, is_owner=is_owner, signatures=signatures)
        return answer_of(view)

    @routes.get(
        "/v1/partners/{code}/shifts",
        summary="Shifts of your own government",
        response_model=ShiftsView,
        responses=problem_responses("not_found", "role_missing", "invalid"),
    )
    async def list_shifts(
        code: Code,
        from_at: Annotated[
            UtcDateTime, Query(alias="from", description="Where the window begins.", examples=["2021-08-15T00:00:00Z"])
        ],
        to_at: Annotated[
            UtcDateTime, Query(alias="to", description="Where it ends.", examples=["2021-08-29T00:00:00Z"])
        ],
        principal: Principal = Depends(caller),
    ) -> Response:
        """The shifts of every rota with deputies, gaps and holidays, computed as paging computes them.

        Each shift says what puts its holder on duty. At most 366 days at once.
        """
        if to_at - from_at > timedelta(days=SHIFT_DAYS_MAX):
            raise Invalid(f"a window can be at most {SHIFT_DAYS_MAX} days long", field="to")
        stored = await handlers.own_partner(deps, principal, code)
        rotas = stored.state.rotas
        found = await compute(deps.shifts, compute_window, rotas, from_at, to_at)
        return answer_of(on_call_views.shifts_view(stored.state, found, from_at, to_at))

    @routes.get(
        "/v1/partners/{code}/rotas/{rota_id}/fairness",
        summary="What a rota asks of whom",
        response_model=FairnessView,
        responses=problem_responses("not_found", "role_missing", "invalid"),
    )
    async def get_fairness(
        code: Code,
        rota_id: RotaId,
        from_at: Annotated[
            UtcDateTime, Query(alias="from", description="Where the window begins.", examples=["2021-01-01T00:00:00Z"])
        ],
        to_at: Annotated[
            UtcDateTime, Query(alias="to", description="Where it ends.", examples=["2022-01-01T00:00:00Z"])
        ],
        principal: Principal = Depends(caller),
    ) -> Response:
        """Hours, nights, weekend days and holidays of each of your people, as holder and as deputy; at most 366 days.

        They are counted from the shifts that page, by the local clock of each.
        """
        if to_at - from_at > timedelta(days=SHIFT_DAYS_MAX):
            raise Invalid(f"a window can be at most {SHIFT_DAYS_MAX} days long", field="to")
        stored = await handlers.own_partner(deps, principal, code)
        rota = next((rota for rota in stored.state.rotas if rota.id == rota_id), None)
        if rota is None:
            raise missing("rota")
        carried = await compute(deps.shifts, schedule.fairness, rota, from_at, to_at)
        return answer_of(rota_views.fairness_view(stored.state, rota, carried, from_at, to_at))

    @routes.get(
        "/v1/partners/{code}/holidays",
        summary="Holidays of your own government",
        response_model=HolidaysView,
        responses=problem_responses("not_found", "role_missing", "invalid"),
    )
    async def list_holidays(
        code: Code,
        from_on: Annotated[date, Query(alias="from", description="The first day.", examples=["2021-08-01"])],
        to_on: Annotated[date, Query(alias="to", description="The last day.", examples=["2021-12-31"])],
        principal: Principal = Depends(caller),
    ) -> Response:
        """The free days of every calendar that your rotas use, and those that a rota names itself; at most 366."""
        if not EARLIEST_DATE <= from_on <= to_on <= LATEST_DATE:
            raise Invalid(f"the days must be in order, from {EARLIEST_DATE} to {LATEST_DATE}", field="to")
        if (to_on - from_on).days > SHIFT_DAYS_MAX:
            raise Invalid(f"a window can be at most {SHIFT_DAYS_MAX} days long", field="to")
        stored = await handlers.own_partner(deps, principal, code)
        return answer_of(await compute(deps.shifts, rota_views.holidays_view, stored.state, from_on, to_on))


# --- credentials ------------------------------------------------------------------------------------------------------


def _credentials(routes: APIRouter, deps: RosterDeps) -> None:
    caller = authenticated(deps)

    @routes.get(
        "/v1/partners/{code}/credentials",
        summary="List credentials",
        response_model=Credentials,
        responses=problem_responses("not_found", "role_missing"),
    )
    async def list_credentials(code: Code, principal: Principal = Depends(caller)) -> Response:
        """For administrators and the partner's own roster managers. Secrets cannot be read, by nobody."""
        stored = await handlers.find_credentials(deps, principal, code)
        items = [views.credential_view(credential) for credential in stored.state.credentials]
        return answer_of(Credentials(items=items), version=stored.version)

    @routes.post(
        "/v1/partners/{code}/credentials",
        summary="Issue a credential",
        status_code=201,
        response_model=SecretView,
        responses=problem_responses("not_found", "role_missing", "client_id_taken", "invalid"),
    )
    async def issue_credential(
        code: Code, body: CredentialBody, request: Request, principal: Principal = Depends(caller)
    ) -> Response:
        """An administrator gives one person or one system of a partner a credential; the answer holds its secret.

        The secret is shown this once. The client id makes it safe to send twice: the second is refused, and if the
        first answer was lost, the secret can be changed.
        """
        call = Call(principal, cause_of(request, principal))
        version, made = await handlers.issue_credential(deps, call, code, bodies.credential_of(body))
        return answer_of(views.secret_view(made), version=version, status=201)

    @routes.post(
        "/v1/partners/{code}/credentials/{client_id}/secret",
        summary="Change a credential's secret",
        response_model=SecretView,
        responses=problem_responses("not_found", "not_the_holder", "credential_is_revoked"),
    )
    async def rotate_secret(
        code: Code, client_id: ClientId, request: Request, principal: Principal = Depends(caller)
    ) -> Response:
        """Makes a new secret, shown this once. The old one, and every token that it bought, end at once."""
        call = Call(principal, cause_of(request, principal))
        version, made = await handlers.rotate_secret(deps, call, code, client_id)
        return answer_of(views.secret_view(made), version=version)

    @routes.post(
        "/v1/partners/{code}/credentials/{client_id}/revocation",
        summary="Revoke a credential",
        response_model=CredentialView,
        responses=problem_responses("not_found", "role_missing"),
    )
    async def revoke_credential(
        code: Code, client_id: ClientId, request: Request, principal: Principal = Depends(caller)
    ) -> Response:
        """Ends the credential for ever, with every token that it bought; every service refuses them as soon as the
        news arrives there. For administrators, the partner's roster managers, and the holder.
        """
        call = Call(principal, cause_of(request, principal))
        version, credential = await handlers.revoke_credential(deps, call, code, client_id)
        return answer_of(views.credential_view(credential), version=version)


# --- deadlines --------------------------------------------------------------------------------------------------------


def _deadlines(routes: APIRouter, deps: RosterDeps) -> None:
    caller = authenticated(deps)

    @routes.get(
        "/v1/deadlines",
        summary="The network's deadlines",
        response_model=DeadlinesView,
    )
    async def get_deadlines(
        principal: Principal = Depends(caller),  # noqa: ARG001 - the table is everybody's
    ) -> Response:
        """How long the network waits at each precedence. A partner's policy can only shorten it."""
        kept = await handlers.find_deadlines(deps)
        return answer_of(DeadlinesView(deadlines=dict(kept.table)), version=kept.version)

    @routes.put(
        "/v1/deadlines",
        summary="Set the network's deadlines",
        response_model=DeadlinesView,
        responses=problem_responses("role_missing", "precondition_failed", "precondition_required", "invalid"),
    )
    async def set_deadlines(
        body: DeadlinesBody, request: Request, if_match: IfMatchHeader, principal: Principal = Depends(caller)
    ) -> Response:
        """For administrators. Every duty plan carries the table, so alerts that are released from now on keep to it."""
        call = Call(principal, cause_of(request, principal), if_match.require)
        kept = await handlers.set_deadlines(deps, call, body.table())
        return answer_of(DeadlinesView(deadlines=dict(kept.table)), version=kept.version)


_PARTS: dict[str, tuple[Callable[[APIRouter, RosterDeps], None], ...]] = {
    "Partners": (_partners, _answering),
    "Roster": (api_owned.add_routes,),
    "Contact points": (api_me.add_routes,),
    "Swaps": (swaps.add_routes,),
    "Calendars": (calendars.add_routes,),
    "Call tree": (call_tree.add_routes,),
    "Readiness": (readiness.add_routes,),
    "Credentials": (_credentials,),
    "Network": (_network, _deadlines),
}
"""All routes by the tag under which they are documented."""
