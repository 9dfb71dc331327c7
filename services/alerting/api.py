"""The HTTP face of alerting: translates a request to a command and an outcome to an answer. No rule lives here."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path as FilePath
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from services.alerting import bodies, handlers, reading, stream, views
from services.alerting.bodies import (
    CancelBody,
    CloseBody,
    DraftBody,
    EditBody,
    RecipientsBody,
    ReleaseBody,
    UpdateBody,
)
from services.alerting.cap import DOCUMENT_BYTES_MAX
from services.alerting.cap import MEDIA_TYPE as CAP
from services.alerting.crises import api as crises
from services.alerting.domain import AlertState
from services.alerting.face import Face, needs_key, reader, seen, viewer_of
from services.alerting.line_tests import api as line_tests
from services.alerting.reading import Filters
from services.alerting.stream import News
from services.alerting.views import AlertView, TimelineEntry
from services.alerting.visibility import Access
from shared.contracts import Code, Precedence, Status
from shared.errors import Forbidden
from shared.idempotency import OptionalIdempotencyKey
from shared.openapi import Documentation, declare_documentation
from shared.paging import PAGE_SIZE_DEFAULT, CursorText, Page, PageSize, decode_cursor, encode_cursor
from shared.problems import HttpProblem, ProblemType, declare_problems, problem_responses
from shared.process import Deps
from shared.security import Principal
from shared.streams import STREAM_RESPONSES, last_event_id
from shared.web import IfMatchHeader, authenticated, etag_of, new_router, still_allowed

declare_problems(
    {
        "second_person_needed": ProblemType(
            403, "A second person is needed", "Let somebody release who wrote none of it, or give self_release_reason."
        ),
        "person_needed": ProblemType(
            403, "Only a person may do this", "Use the credential of a person, not a system's."
        ),
        "reason_needed": ProblemType(403, "Acting alone needs a reason", "Give self_release_reason; it is reviewed."),
        "not_yours": ProblemType(403, "It belongs to another partner", "Ask the partner that raised it."),
        "text_withheld": ProblemType(403, "Handling keeps the text from you", "Ask the raiser; TLP says who may read."),
        "not_a_draft": ProblemType(409, "It is no draft any more", "Correct a released alert with an Update."),
        "alert_draft": ProblemType(409, "It has not been released yet", "Release it first, or change the draft."),
        "alert_superseded": ProblemType(
            409, "An Update has replaced it", "Read the alert and follow superseded_by to the newest message."
        ),
        "alert_cancelled": ProblemType(409, "It was cancelled", "Raise a new alert."),
        "alert_closed": ProblemType(409, "It was closed", "Raise a new alert."),
        "alert_expired": ProblemType(409, "It has expired", "Raise a new alert."),
        "precedence_not_confirmed": ProblemType(
            409, "The precedence was not confirmed", "Read the draft again and repeat its precedence."
        ),
        "already_addressed": ProblemType(409, "It is addressed already", "Change how with an Update."),
        "alert_ends_too_soon": ProblemType(
            409, "It ends before their deadlines could", "Send an Update with a later expires that addresses them."
        ),
        "id_taken": ProblemType(409, "The id is taken", "Make a new UUID of version 7, or leave id out."),
        "crisis_closed": ProblemType(409, "The crisis is closed", "Open a new one, or leave crisis_id out."),
        "crisis_goes_forward": ProblemType(409, "A crisis only goes forward", "Open a new one for what begins again."),
        "expires_too_early": ProblemType(
            422, "It would expire too early", "Leave expires out, or take the instant that the detail names."
        ),
        "expires_too_late": ProblemType(
            422, "It would expire too late", "Take an instant before the one that the detail names."
        ),
        "empty_audience": ProblemType(422, "Nobody is addressed", "Name at least one partner that takes part."),
        "missing": ProblemType(422, "Something that is needed was left out", "Give the field that `errors` names."),
        "not_uuid7": ProblemType(422, "The id is not a UUID of version 7", "Make one, or leave id out."),
        "unknown_crisis": ProblemType(422, "There is no such crisis", "Leave crisis_id out to open one."),
        "status_changed": ProblemType(
            422, "The status never changes along a chain", "Leave status out, or raise a new alert."
        ),
        "cap_invalid": ProblemType(
            422, "The message is not CAP 1.2 in our profile", "Correct the elements that `errors` names."
        ),
        "cap_unsafe": ProblemType(
            422, "The XML is refused unread", "Send plain XML: no document type, no entities, nothing from outside."
        ),
        "cap_not_draftable": ProblemType(422, "Not drafted from CAP", "Use the call that the detail names."),
    }
)

declare_documentation("alerting", Documentation(FilePath(__file__).with_name("examples.json")))

_ABOUT_ID = "Its id, or the reference that people speak, for example `RP-CA-2026-0042`."
AlertRef = Annotated[str, Path(max_length=40, description=_ABOUT_ID, examples=["RP-CA-2026-0042"])]

_CREATED: dict[int | str, dict[str, Any]] = {
    201: {"model": AlertView, "description": "The draft."},
    202: {"model": AlertView, "description": "Released: stored for good, and on its way to every partner."},
}
_RELEASED: dict[int | str, dict[str, Any]] = {
    202: {"model": AlertView, "description": "Done and stored for good; whoever is concerned is being told."}
}


def _draft_request() -> dict[str, Any]:
    """The two forms of a new alert, for the documentation: the framework knows bodies of one form only."""
    schema = DraftBody.model_json_schema(ref_template="#/components/schemas/{model}")
    schema.pop("$defs", None)
    forms = {
        "application/json": {"schema": schema},
        CAP: {"schema": {"type": "string", "description": "OASIS CAP 1.2 in our profile. Drafts only."}},
    }
    return {"requestBody": {"required": True, "content": forms}}


def router(deps: Deps, news: News) -> APIRouter:
    """Every route of alerting."""
    routes = new_router()
    face = Face(deps, news, authenticated(deps))
    for add in (_drafting, _releasing, _reading, crises.add_routes, line_tests.add_routes, _stream):
        add(routes, face)
    return routes


def _reading(routes: APIRouter, face: Face) -> None:
    """Alerts as the caller may read them."""

    @routes.get(
        "/v1/alerts",
        tags=["Alerts"],
        summary="Alerts that you may see, the newest first",
        responses=problem_responses("role_missing", "cursor_invalid"),
    )
    async def list_alerts(
        *,
        principal: Principal = Depends(face.caller),
        limit: PageSize = PAGE_SIZE_DEFAULT,
        cursor: CursorText = None,
        state: AlertState | None = None,
        raiser: Annotated[Code | None, Query()] = None,
        status: Status | None = None,
        precedence: Precedence | None = None,
        crisis_id: UUID | None = None,
        reference: Annotated[str | None, Query(max_length=40)] = None,
    ) -> Page[AlertView]:
        """Your partner's own alerts, drafts too; those addressed to it; those for the whole network.

        The secretariat sees that every released alert exists; `withheld` tells where handling keeps the text inside.
        """
        viewer = reader(principal)
        before = None if cursor is None else decode_cursor(cursor, UUID)[0]
        filters = Filters(state, raiser, status, precedence, crisis_id, reference)
        async with face.deps.intake.transaction() as tx:
            found = await reading.find_alerts(tx, viewer, filters, before=before, limit=limit + 1)
        shown = [view for alert in found[:limit] if (view := views.alert_view(alert, viewer)) is not None]
        return Page(items=shown, next_cursor=encode_cursor(found[limit - 1].id) if len(found) > limit else None)

    @routes.get(
        "/v1/alerts/{alert}",
        tags=["Alerts"],
        summary="One alert, as JSON or CAP",
        response_model=None,
        responses={
            200: {"model": AlertView, "content": {CAP: {"schema": {"type": "string"}}}, "description": "The alert."},
            **problem_responses("not_found", "not_acceptable", "text_withheld"),
        },
    )
    async def show_alert(*, request: Request, principal: Principal = Depends(face.caller), alert: AlertRef) -> Response:
        """The alert as far as you may read it. `Accept: application/cap+xml` gives CAP 1.2 in our profile.

        The `ETag` is what an edit or a release of a draft sends back as `If-Match`.
        """
        viewer = viewer_of(principal)
        wanted = accepted(request.headers.get("accept", "*/*"))
        alert_id = await face.resolve(alert)
        async with face.deps.intake.transaction() as tx:
            found, granted = await seen(tx, viewer, alert_id)
            chain = await reading.find_chain(tx, found.root_id, found.id) if wanted == CAP else []
        headers = {"ETag": etag_of(found.version), "Vary": "Accept"}
        if wanted == CAP:
            if granted < Access.TEXT:
                raise Forbidden("handling keeps the text among those addressed", code="text_withheld")
            return Response(bodies.write_cap(found, chain), media_type=CAP, headers=headers)
        view = views.alert_view(found, viewer)
        assert view is not None
        return Response(view.model_dump_json(), media_type="application/json", headers=headers)

    @routes.get(
        "/v1/alerts/{alert}/timeline",
        tags=["Alerts"],
        summary="Who was told what, when, and what came back",
        responses=problem_responses("not_found", "cursor_invalid"),
    )
    async def show_timeline(
        *,
        principal: Principal = Depends(face.caller),
        alert: AlertRef,
        limit: PageSize = PAGE_SIZE_DEFAULT,
        cursor: CursorText = None,
    ) -> Page[TimelineEntry]:
        """Everything that happened to the alert, oldest first, as far as you may see it."""
        viewer = viewer_of(principal)
        after: tuple[datetime, UUID] | None = None
        if cursor is not None:
            at, entry_id = decode_cursor(cursor, datetime, UUID)
            after = (at, entry_id)
        alert_id = await face.resolve(alert)
        async with face.deps.intake.transaction() as tx:
            await seen(tx, viewer, alert_id)
            found = await reading.find_timeline(tx, viewer, alert_id, after=after, limit=limit + 1)
        shown = [views.entry_view(entry, granted, viewer) for entry, granted in found[:limit]]
        last = found[limit - 1][0] if len(found) > limit else None
        return Page(items=shown, next_cursor=None if last is None else encode_cursor(last.occurred_at, last.id))


def _drafting(routes: APIRouter, face: Face) -> None:
    """Drafts and corrections."""

    @routes.post(
        "/v1/alerts",
        tags=["Alerts"],
        summary="Draft an alert, or release it at once if you are alone",
        status_code=201,
        response_model=None,
        responses={
            **_CREATED,
            **problem_responses(
                "malformed",
                "idempotency_key_missing",
                "role_missing",
                "person_needed",
                "id_taken",
                "idempotency_in_flight",
                "body_too_large",
                "unsupported_media_type",
                "invalid",
                "expires_too_early",
                "cap_not_draftable",
            ),
        },
        openapi_extra=_draft_request(),
    )
    async def draft_alert(
        *, request: Request, principal: Principal = Depends(face.caller), key: OptionalIdempotencyKey
    ) -> Response:
        """Drafts an alert of your partner (201). A second person then releases it.

        With `self_release_reason` a duty officer or releaser who is alone releases it in the same call (202): it counts
        at once, every addressed partner is paged, and the secretariat reviews it. CAP 1.2 XML only drafts.

        Send an `Idempotency-Key`, or an `id` of your own: then a retry after a lost answer is safe.
        """
        media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        content = await request.body()
        if media_type == CAP:
            needs_key(key)
            if len(content) > DOCUMENT_BYTES_MAX:
                raise HttpProblem(f"a CAP message may have {DOCUMENT_BYTES_MAX} bytes", code="body_too_large")
            proposal, crisis_id, left_out = bodies.read_cap(content)
            call = await face.call_of(request, principal, key)
            stored = await handlers.draft_alert(face.deps, call, proposal, crisis_id=crisis_id, left_out=left_out)
            return stored.response()
        if media_type != "application/json":
            raise HttpProblem(f"send application/json or {CAP}", code="unsupported_media_type")
        body = bodies.read_json(DraftBody, content)
        needs_key(key or body.id)
        stored = await handlers.draft_alert(
            face.deps,
            await face.call_of(request, principal, key),
            body.proposal(),
            alert_id=body.id,
            crisis_id=body.crisis_id,
            self_release_reason=body.self_release_reason,
        )
        return stored.response()

    @routes.patch(
        "/v1/alerts/{alert}",
        tags=["Alerts"],
        summary="Change a draft",
        response_model=None,
        responses={
            200: {"model": AlertView, "description": "The draft as it is now."},
            **problem_responses(
                "role_missing", "not_yours", "not_found", "not_a_draft", "precondition_failed", "precondition_required"
            ),
        },
    )
    async def edit_alert(
        *,
        request: Request,
        principal: Principal = Depends(face.caller),
        alert: AlertRef,
        body: EditBody,
        if_match: IfMatchHeader,
    ) -> Response:
        """Changes what the body names and leaves the rest. Whoever edits is an author, and cannot be the second person.

        A released alert never changes: correct it with an Update.
        """
        alert_id = await face.resolve(alert)
        call = await face.call_of(request, principal, None)
        answer = await handlers.edit_alert(face.deps, call, alert_id, body.proposal(), check_version=if_match.require)
        return answer.response()

    @routes.post(
        "/v1/alerts/{alert}/updates",
        tags=["Alerts"],
        summary="Draft a correction",
        status_code=201,
        response_model=None,
        responses={
            **_CREATED,
            **problem_responses(
                "idempotency_key_missing", "role_missing", "not_yours", "not_found", "alert_superseded", "alert_draft"
            ),
        },
    )
    async def draft_update(
        *,
        request: Request,
        principal: Principal = Depends(face.caller),
        alert: AlertRef,
        body: UpdateBody,
        key: OptionalIdempotencyKey,
    ) -> Response:
        """Drafts an Update. Released, it supersedes the alert and reaches everyone whom that reached.

        Each partner's clock and level carry over, so a correction never gives anybody more time. `asks_anew: true`
        reopens those who had answered.
        """
        needs_key(key or body.id)
        alert_id = await face.resolve(alert)
        answer = await handlers.draft_update(
            face.deps,
            await face.call_of(request, principal, key),
            alert_id,
            body.proposal(),
            asks_anew=body.asks_anew,
            update_id=body.id,
            self_release_reason=body.self_release_reason,
        )
        return answer.response()


def _releasing(routes: APIRouter, face: Face) -> None:
    """What a released alert goes through."""

    @routes.post(
        "/v1/alerts/{alert}/release",
        tags=["Alerts"],
        summary="Release a draft",
        status_code=202,
        response_model=None,
        responses={
            **_RELEASED,
            **problem_responses(
                "role_missing",
                "second_person_needed",
                "person_needed",
                "not_yours",
                "not_found",
                "not_a_draft",
                "precedence_not_confirmed",
                "precondition_failed",
                "alert_superseded",
                "expires_too_early",
            ),
        },
    )
    async def release_alert(
        *,
        request: Request,
        principal: Principal = Depends(face.caller),
        alert: AlertRef,
        body: ReleaseBody,
        key: OptionalIdempotencyKey,
        if_match: IfMatchHeader,
    ) -> Response:
        """Releases a draft as its second person, who repeats the precedence. From now on every partner owes an answer.

        Send the `ETag` that you have read as `If-Match`: if somebody has changed the draft since, nothing is released
        (412), and you read it again. Without it, whatever the draft says by now is released.

        Answered after the alert is stored for good. Paging does not wait for anything else.
        """
        alert_id = await face.resolve(alert)
        answer = await handlers.release_alert(
            face.deps,
            await face.call_of(request, principal, key),
            alert_id,
            precedence=body.precedence,
            self_release_reason=body.self_release_reason,
            check_version=if_match.allow,
        )
        return answer.response()

    @routes.post(
        "/v1/alerts/{alert}/recipients",
        tags=["Alerts"],
        summary="Address a released alert to more partners",
        status_code=202,
        response_model=None,
        responses={
            **_RELEASED,
            **problem_responses(
                "role_missing",
                "reason_needed",
                "not_yours",
                "not_found",
                "already_addressed",
                "alert_draft",
                "alert_expired",
                "alert_ends_too_soon",
            ),
        },
    )
    async def add_recipients(
        *,
        request: Request,
        principal: Principal = Depends(face.caller),
        alert: AlertRef,
        body: RecipientsBody,
        key: OptionalIdempotencyKey,
    ) -> Response:
        """Adds partners; their clocks start now. Those who were addressed before stay as they are."""
        alert_id = await face.resolve(alert)
        answer = await handlers.add_recipients(
            face.deps,
            await face.call_of(request, principal, key),
            alert_id,
            to=body.to,
            for_information=body.for_information,
            self_release_reason=body.self_release_reason,
        )
        return answer.response()

    @routes.post(
        "/v1/alerts/{alert}/cancel",
        tags=["Alerts"],
        summary="Recall an alert",
        status_code=202,
        response_model=None,
        responses={
            **_RELEASED,
            **problem_responses(
                "role_missing", "reason_needed", "not_yours", "not_found", "alert_superseded", "precondition_failed"
            ),
        },
    )
    async def cancel_alert(
        *,
        request: Request,
        principal: Principal = Depends(face.caller),
        alert: AlertRef,
        body: CancelBody,
        key: OptionalIdempotencyKey,
        if_match: IfMatchHeader,
    ) -> Response:
        """Recalls an alert that should not have been sent: its escalations end, and everyone who was paged is told."""
        alert_id = await face.resolve(alert)
        call = await face.call_of(request, principal, key)
        answer = await handlers.cancel_alert(
            face.deps,
            call,
            alert_id,
            note=body.note,
            self_release_reason=body.self_release_reason,
            check_version=if_match.allow,
        )
        return answer.response()

    @routes.post(
        "/v1/alerts/{alert}/close",
        tags=["Alerts"],
        summary="Stand an alert down",
        status_code=202,
        response_model=None,
        responses={
            **_RELEASED,
            **problem_responses(
                "role_missing", "reason_needed", "not_yours", "not_found", "alert_superseded", "precondition_failed"
            ),
        },
    )
    async def close_alert(
        *,
        request: Request,
        principal: Principal = Depends(face.caller),
        alert: AlertRef,
        key: OptionalIdempotencyKey,
        if_match: IfMatchHeader,
        body: CloseBody | None = None,
    ) -> Response:
        """Ends an alert whose matter is over: no answer is owed any more, and everyone who was paged is told."""
        alert_id = await face.resolve(alert)
        said = body or CloseBody()
        call = await face.call_of(request, principal, key)
        answer = await handlers.close_alert(
            face.deps,
            call,
            alert_id,
            note=said.note,
            self_release_reason=said.self_release_reason,
            check_version=if_match.allow,
        )
        return answer.response()


def _stream(routes: APIRouter, face: Face) -> None:
    """The stream."""

    @routes.get(
        "/v1/stream",
        tags=["Stream"],
        summary="Everything that you may see, as it happens",
        response_model=None,
        responses={**STREAM_RESPONSES, **problem_responses("role_missing", "cursor_invalid", "too_many_streams")},
    )
    async def follow_stream(
        *,
        principal: Principal = Depends(face.caller),
        after: Annotated[str | None, Depends(last_event_id)],
    ) -> Response:
        """Server-sent events: `event:` names what happened (`alert_released`, `partner_acknowledged`, …), `data:` is a
        row as in an alert's timeline. Begins with what comes next, or after `Last-Event-ID`.
        """
        viewer = reader(principal)
        if after is None:
            async with face.deps.intake.transaction() as tx:
                begin = await reading.head(tx)
        else:
            begin = stream.place_of(after)
        source = stream.follow(face.deps.database, face.news, viewer, begin)
        return face.deps.streams.respond(principal, source, allowed=still_allowed(face.deps, principal))


def accepted(header: str) -> str:
    """The form that the caller takes: CAP only if it is named and JSON is not preferred. Raises 406 for neither."""
    best: dict[str, float] = {}
    for part in header.lower().split(","):
        name, *parameters = (piece.strip() for piece in part.split(";"))
        quality = next((piece[2:] for piece in parameters if piece.startswith("q=")), "1")
        best[name] = float(quality) if re.fullmatch(r"[01](\.\d{0,3})?", quality) else 0.0
    json = max(best.get(name, 0.0) for name in ("application/json", "application/*", "*/*"))
    cap = max(best.get(name, 0.0) for name in (CAP, "application/xml", "text/xml"))
    if json == cap == 0.0:
        raise HttpProblem(f"an alert is given as application/json or {CAP}", code="not_acceptable")
    return CAP if cap > 0 and (cap >= json or "application/json" not in best) else "application/json"
