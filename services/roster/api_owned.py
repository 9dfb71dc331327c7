"""The HTTP face of what a partner owns: offices, contacts, rotas, policy, endpoints. No rule lives here.

All of it counts in one version: the ETag of any of these answers is the partner's, and an edit that has not seen the
newest one is refused. Only the partner's own people read it, and only its roster managers write it; to everybody else
it is not there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request
from pydantic import BaseModel
from starlette.responses import Response

from services.roster import bodies, handlers, rota_views, store, views
from services.roster.addresses import url_fault
from services.roster.bodies import (
    ContactBody,
    EndpointBody,
    LayerBody,
    OfficeBody,
    OverrideBody,
    PolicyBody,
    ReplacementBody,
    RotaBody,
)
from services.roster.domain import PartnerState, UrlRule
from services.roster.handlers import Call, RosterDeps, missing
from services.roster.network import policy_id
from services.roster.rota_edits import with_override, with_replacement, with_rota, without_past_shifts
from services.roster.rota_views import RotaView
from services.roster.store import StoredPartner
from services.roster.views import (
    Contacts,
    ContactView,
    Endpoints,
    EndpointView,
    Failing,
    Offices,
    OfficeView,
    Overrides,
    PolicyView,
    Replacements,
    Rotas,
    Written,
)
from shared import idempotency
from shared.contracts import Role
from shared.egress import policy_of
from shared.errors import Conflict
from shared.idempotency import OptionalIdempotencyKey, StoredResponse
from shared.problems import ProblemType, declare_problems, problem_responses
from shared.security import Principal
from shared.web import IfMatchHeader, authenticated, cause_of, etag_of

declare_problems(
    {"id_taken": ProblemType(409, "The id is taken", "Make a new UUID of version 7, or leave id out.")},
)

Code = Annotated[str, Path(pattern="^[A-Z]{2}$", description="Your government's code.", examples=["CA"])]
ThingId = Annotated[UUID, Path(description="Its id.")]
RotaId = Annotated[UUID, Path(description="The rota's id.")]

_READ = problem_responses("not_found", "role_missing")
_MADE: dict[int | str, dict[str, Any]] = {
    200: {"model": Written, "description": "With dry_run: what it would do. Nothing was stored."},
    **problem_responses(
        "not_found", "role_missing", "invalid", "id_taken", "idempotency_key_reused", "precondition_failed"
    ),
}
_EDITED = problem_responses("not_found", "role_missing", "invalid", "precondition_failed", "precondition_required")


Make = Callable[[PartnerState], Any]
"""What a body becomes, given the rest of the partner."""

Change = Callable[[PartnerState], PartnerState]


DryRun = Annotated[
    bool,
    Query(
        description="Only say what this would do to the coming 14 days: everything is checked as for the write itself,"
        " nothing is stored, and the answer is 200 with `preview`."
    ),
]


@dataclass(frozen=True)
class _Face:
    """What every route works with. `adding` and `editing` give a route its `Call`; an edit needs If-Match.

    Every write can be asked for as a preview, which `_done` alone tells from the write.
    """

    deps: RosterDeps
    caller: Callable[..., Awaitable[Principal]]

    @property
    def url_fault(self) -> UrlRule:
        """What this installation says of an address that holds a URL."""
        settings = self.deps.settings
        return partial(url_fault, policy_of(settings), chat_schemas=settings.chat_schemas)

    def adding(self) -> Callable[..., Awaitable[Call]]:
        """The dependency for adding something, with or without an Idempotency-Key."""

        async def call(
            request: Request,
            if_match: IfMatchHeader,
            key: OptionalIdempotencyKey,
            principal: Principal = Depends(self.caller),
            dry_run: DryRun = False,
        ) -> Call:
            attempt = None if key is None else await idempotency.attempt(request, principal, key)
            return Call(principal, cause_of(request, principal), if_match.allow, attempt, dry_run)

        return call

    def editing(self) -> Callable[..., Awaitable[Call]]:
        """The dependency for changing or removing something."""

        async def call(
            request: Request,
            if_match: IfMatchHeader,
            principal: Principal = Depends(self.caller),
            dry_run: DryRun = False,
        ) -> Call:
            return Call(principal, cause_of(request, principal), if_match.require, dry_run=dry_run)

        return call

    async def prove_rules(self, call: Call, layers: Sequence[LayerBody]) -> None:
        """Reads the rules of layers in a thread, before any transaction: in it they are known, and nobody waits."""
        if call.principal.has(Role.ROSTER_MANAGER):
            await asyncio.to_thread(bodies.prove_rules, layers)

    async def seen(self, principal: Principal, code: str) -> tuple[StoredPartner, Failing]:
        """The caller's own partner, and which of its points and endpoints fail."""
        stored = await handlers.own_partner(self.deps, principal, code)
        async with self.deps.intake.transaction() as tx:
            return stored, await store.find_failing(tx, code)

    async def add(self, call: Call, code: str, noun: str, thing_id: UUID, make: Make) -> Response:
        """Adds something at the end of what the partner has of its kind. The same again changes nothing."""

        def change(state: PartnerState) -> PartnerState:
            return _with(state, noun, _added(_things(state, noun), thing_id, make(state)))

        return await self.created(call, code, f"{noun}s", thing_id, change)

    async def created(self, call: Call, code: str, path: str, thing_id: UUID, change: Change) -> Response:
        """The answer to what added something."""

        def answer(version: int) -> StoredResponse:
            headers = {"ETag": etag_of(version), "Location": f"/v1/partners/{code}/{path}/{thing_id}"}
            return StoredResponse.json(201, Written(id=thing_id, version=version), headers)

        return await self._done(call, code, thing_id, change, answer)

    async def replace(self, call: Call, code: str, noun: str, thing_id: UUID, make: Make) -> Response:
        """Puts something in the place of what has its id."""

        def change(state: PartnerState) -> PartnerState:
            things = _things(state, noun)
            _found(things, thing_id, noun)
            made = make(state)
            return _with(state, noun, tuple(made if thing.id == thing_id else thing for thing in things))

        return await self.write(call, code, thing_id, change)

    async def remove(self, call: Call, code: str, noun: str, thing_id: UUID) -> Response:
        """Takes something away; refused while something else names it."""

        def change(state: PartnerState) -> PartnerState:
            things = _things(state, noun)
            _found(things, thing_id, noun)
            return _with(state, noun, tuple(thing for thing in things if thing.id != thing_id))

        return await self.write(call, code, thing_id, change)

    async def write(self, call: Call, code: str, thing_id: UUID, change: Change) -> Response:
        """An edit and its answer."""

        def answer(version: int) -> StoredResponse:
            return StoredResponse.json(200, Written(id=thing_id, version=version), {"ETag": etag_of(version)})

        return await self._done(call, code, thing_id, change, answer)

    async def _done(
        self, call: Call, code: str, thing_id: UUID, change: Change, answer: Callable[[int], StoredResponse]
    ) -> Response:
        """The write, or what it would do."""
        if not call.dry_run:
            return (await handlers.change_partner(self.deps, call, code, change, answer=answer)).response()
        version, preview = await handlers.preview_change(self.deps, call, code, change)
        return answer_of(Written(id=thing_id, version=version, preview=rota_views.preview_view(preview)), version)


def _things(state: PartnerState, noun: str) -> tuple[Any, ...]:
    found: tuple[Any, ...] = getattr(state, f"{noun}s")
    return found


def _with(state: PartnerState, noun: str, things: tuple[Any, ...]) -> PartnerState:
    changed: Any = {f"{noun}s": things}
    return replace(state, **changed)


def _added(things: tuple[Any, ...], thing_id: UUID, made: Any) -> tuple[Any, ...]:
    """The things with the new one, or as they are if the same request has made it before."""
    return things if _is_there(things, made, thing_id) else (*things, made)


def _is_there(things: tuple[Any, ...], made: Any, thing_id: UUID | None = None) -> bool:
    """Whether the same request has made it before; raises if another one has taken its id."""
    old = next((thing for thing in things if thing.id == (thing_id or made.id)), None)
    if old is not None and bodies.asked(old) != bodies.asked(made):
        raise Conflict("this id names something else here; make a new UUID of version 7", code="id_taken")
    return old is not None


def _found(things: Any, thing_id: UUID, noun: str) -> Any:
    found = next((thing for thing in things if thing.id == thing_id), None)
    if found is None:
        raise missing(noun)
    return found


def answer_of(view: BaseModel, version: int | None = None, *, status: int = 200) -> Response:
    """A view as JSON; `version` becomes the ETag."""
    headers = {} if version is None else {"ETag": etag_of(version)}
    return Response(view.model_dump_json(), status_code=status, media_type="application/json", headers=headers)


def add_routes(routes: APIRouter, deps: RosterDeps) -> None:
    """Adds the routes of what a partner owns."""
    face = _Face(deps, authenticated(deps))
    for add in (_offices, _contacts, _rotas, _overrides, _replacements, _policy, _endpoints):
        add(routes, face)


# --- offices ----------------------------------------------------------------------------------------------------------


def _offices(routes: APIRouter, face: _Face) -> None:
    caller, adding, editing, deps = face.caller, face.adding(), face.editing(), face.deps

    def make(body: OfficeBody, office_id: UUID) -> Make:
        return lambda state: bodies.office_of(body, office_id, state, ids=deps.ids, url_fault=face.url_fault)

    @routes.get("/v1/partners/{code}/offices", summary="List offices", response_model=Offices, responses=_READ)
    async def list_offices(code: Code, principal: Principal = Depends(caller)) -> Response:
        """Your duty offices with switchboards, embassies and contact points. The first is the one that answers."""
        stored, failing = await face.seen(principal, code)
        items = [views.office_view(office, failing) for office in stored.state.offices]
        return answer_of(Offices(items=items), stored.version)

    @routes.get(
        "/v1/partners/{code}/offices/{thing_id}", summary="One office", response_model=OfficeView, responses=_READ
    )
    async def get_office(code: Code, thing_id: ThingId, principal: Principal = Depends(caller)) -> Response:
        """One duty office with its numbers and contact points."""
        stored, failing = await face.seen(principal, code)
        return answer_of(views.office_view(_found(stored.state.offices, thing_id, "office"), failing), stored.version)

    @routes.post(
        "/v1/partners/{code}/offices",
        summary="Add an office",
        status_code=201,
        response_model=Written,
        responses=_MADE,
    )
    async def add_office(
        code: Code,
        body: OfficeBody,
        call: Call = Depends(adding),
    ) -> Response:
        """Adds an office after those that are there."""
        office_id = bodies.new_id(body.id, deps.ids)
        made = make(body, office_id)
        return await face.add(call, code, "office", office_id, made)

    @routes.put(
        "/v1/partners/{code}/offices/{thing_id}", summary="Replace an office", response_model=Written, responses=_EDITED
    )
    async def replace_office(
        code: Code,
        thing_id: ThingId,
        body: OfficeBody,
        call: Call = Depends(editing),
    ) -> Response:
        """Replaces an office whole. A point that is named by its id keeps when it was verified and confirmed."""
        return await face.replace(call, code, "office", thing_id, make(body, thing_id))

    @routes.delete(
        "/v1/partners/{code}/offices/{thing_id}", summary="Remove an office", response_model=Written, responses=_EDITED
    )
    async def remove_office(code: Code, thing_id: ThingId, call: Call = Depends(editing)) -> Response:
        """Removes an office that no level of your policy names. The last one stays."""
        return await face.remove(call, code, "office", thing_id)


# --- contacts ---------------------------------------------------------------------------------------------------------


def _contacts(routes: APIRouter, face: _Face) -> None:
    caller, adding, editing, deps = face.caller, face.adding(), face.editing(), face.deps

    def make(body: ContactBody, contact_id: UUID) -> Make:
        return lambda state: bodies.contact_of(body, contact_id, state, ids=deps.ids, url_fault=face.url_fault)

    @routes.get("/v1/partners/{code}/contacts", summary="List contacts", response_model=Contacts, responses=_READ)
    async def list_contacts(code: Code, principal: Principal = Depends(caller)) -> Response:
        """Your people with their contact points, and which of those fail. No other government ever sees them.

        Addresses are masked, except your own: your people keep their own contact points (`/v1/me/contact-points`).
        """
        stored, failing = await face.seen(principal, code)
        items = [views.contact_view(contact, failing, principal.contact_id) for contact in stored.state.contacts]
        return answer_of(Contacts(items=items), stored.version)

    @routes.get(
        "/v1/partners/{code}/contacts/{thing_id}", summary="One contact", response_model=ContactView, responses=_READ
    )
    async def get_contact(code: Code, thing_id: ThingId, principal: Principal = Depends(caller)) -> Response:
        """One of your people with their contact points. Addresses are masked, except your own."""
        stored, failing = await face.seen(principal, code)
        contact = _found(stored.state.contacts, thing_id, "contact")
        return answer_of(views.contact_view(contact, failing, principal.contact_id), stored.version)

    @routes.post(
        "/v1/partners/{code}/contacts",
        summary="Add a contact",
        status_code=201,
        response_model=Written,
        responses=_MADE,
    )
    async def add_contact(
        code: Code,
        body: ContactBody,
        call: Call = Depends(adding),
    ) -> Response:
        """Adds a person. They are paged once a rota or a level names them."""
        contact_id = bodies.new_id(body.id, deps.ids)
        made = make(body, contact_id)
        return await face.add(call, code, "contact", contact_id, made)

    @routes.put(
        "/v1/partners/{code}/contacts/{thing_id}",
        summary="Replace a contact",
        response_model=Written,
        responses=_EDITED,
    )
    async def replace_contact(
        code: Code,
        thing_id: ThingId,
        body: ContactBody,
        call: Call = Depends(editing),
    ) -> Response:
        """Replaces a person whole. A point that is named by its id keeps when it was verified and confirmed.

        Leave its `address` out, or send it as it was shown, to keep where it leads.
        """
        return await face.replace(call, code, "contact", thing_id, make(body, thing_id))

    @routes.delete(
        "/v1/partners/{code}/contacts/{thing_id}",
        summary="Remove a contact",
        response_model=Written,
        responses=_EDITED,
    )
    async def remove_contact(code: Code, thing_id: ThingId, call: Call = Depends(editing)) -> Response:
        """Removes a person whom no rota or level names, no credential in force, and no calendar for the time to come.

        Revoke their credentials first. A revoked credential stays listed and keeps nobody.
        """
        now = deps.clock.now()

        def change(state: PartnerState) -> PartnerState:
            _found(state.contacts, thing_id, "contact")
            left = tuple(contact for contact in state.contacts if contact.id != thing_id)
            return replace(without_past_shifts(state, thing_id, now=now), contacts=left)

        return await face.write(call, code, thing_id, change)


# --- rotas and overrides ----------------------------------------------------------------------------------------------


def _rotas(routes: APIRouter, face: _Face) -> None:
    caller, adding, editing, deps = face.caller, face.adding(), face.editing(), face.deps

    def make(body: RotaBody, rota_id: UUID) -> Make:
        return lambda state: bodies.rota_of(body, rota_id, state, ids=deps.ids)

    @routes.get("/v1/partners/{code}/rotas", summary="List rotas", response_model=Rotas, responses=_READ)
    async def list_rotas(code: Code, principal: Principal = Depends(caller)) -> Response:
        """Your on-call schedules with layers, overrides and replacements."""
        stored, _ = await face.seen(principal, code)
        return answer_of(Rotas(items=[rota_views.rota_view(rota) for rota in stored.state.rotas]), stored.version)

    @routes.get("/v1/partners/{code}/rotas/{rota_id}", summary="One rota", response_model=RotaView, responses=_READ)
    async def get_rota(code: Code, rota_id: RotaId, principal: Principal = Depends(caller)) -> Response:
        """One on-call schedule with its layers, overrides and replacements."""
        stored, _ = await face.seen(principal, code)
        return answer_of(rota_views.rota_view(_found(stored.state.rotas, rota_id, "rota")), stored.version)

    @routes.post(
        "/v1/partners/{code}/rotas", summary="Add a rota", status_code=201, response_model=Written, responses=_MADE
    )
    async def add_rota(
        code: Code,
        body: RotaBody,
        call: Call = Depends(adding),
    ) -> Response:
        """Adds an on-call schedule. It is paged once a level names it."""
        rota_id = bodies.new_id(body.id, deps.ids)
        await face.prove_rules(call, body.layers)
        made = make(body, rota_id)
        return await face.add(call, code, "rota", rota_id, made)

    @routes.put(
        "/v1/partners/{code}/rotas/{rota_id}", summary="Replace a rota", response_model=Written, responses=_EDITED
    )
    async def replace_rota(
        code: Code,
        rota_id: RotaId,
        body: RotaBody,
        call: Call = Depends(editing),
    ) -> Response:
        """Replaces name, zone, layers and holidays; overrides, replacements and what came from calendars stay.

        Escalation has the new shifts within moments.
        """
        await face.prove_rules(call, body.layers)
        return await face.replace(call, code, "rota", rota_id, make(body, rota_id))

    @routes.delete(
        "/v1/partners/{code}/rotas/{rota_id}", summary="Remove a rota", response_model=Written, responses=_EDITED
    )
    async def remove_rota(code: Code, rota_id: RotaId, call: Call = Depends(editing)) -> Response:
        """Removes a rota that no level of your policy names."""
        return await face.remove(call, code, "rota", rota_id)


def _overrides(routes: APIRouter, face: _Face) -> None:
    caller, adding, editing, deps = face.caller, face.adding(), face.editing(), face.deps

    @routes.get(
        "/v1/partners/{code}/rotas/{rota_id}/overrides",
        summary="List overrides",
        response_model=Overrides,
        responses=_READ,
    )
    async def list_overrides(code: Code, rota_id: RotaId, principal: Principal = Depends(caller)) -> Response:
        """What lies over the layers of a rota. Of two that overlap, the last one holds."""
        stored, _ = await face.seen(principal, code)
        rota = _found(stored.state.rotas, rota_id, "rota")
        items = [rota_views.override_view(override) for override in rota.overrides]
        return answer_of(Overrides(items=items), stored.version)

    @routes.post(
        "/v1/partners/{code}/rotas/{rota_id}/overrides",
        summary="Add an override",
        status_code=201,
        response_model=Written,
        responses=_MADE,
    )
    async def add_override(
        code: Code,
        rota_id: RotaId,
        body: OverrideBody,
        call: Call = Depends(adding),
    ) -> Response:
        """Puts somebody else, or nobody, on call for a time. Whoever is paged from then on is paged by it."""
        override_id = bodies.new_id(body.id, deps.ids)

        def change(state: PartnerState) -> PartnerState:
            rota = _found(state.rotas, rota_id, "rota")
            made = bodies.override_of(body, override_id)
            if _is_there(rota.overrides, made):
                return state
            return with_rota(state, with_override(rota, made, now=deps.clock.now()))

        return await face.created(call, code, f"rotas/{rota_id}/overrides", override_id, change)

    @routes.delete(
        "/v1/partners/{code}/rotas/{rota_id}/overrides/{override_id}",
        summary="Remove an override",
        response_model=Written,
        responses=_EDITED,
    )
    async def remove_override(
        code: Code,
        rota_id: RotaId,
        override_id: Annotated[UUID, Path(description="The override's id.")],
        call: Call = Depends(editing),
    ) -> Response:
        """Lets the layers beneath show again."""

        def change(state: PartnerState) -> PartnerState:
            rota = _found(state.rotas, rota_id, "rota")
            _found(rota.overrides, override_id, "override")
            left = tuple(override for override in rota.overrides if override.id != override_id)
            return with_rota(state, replace(rota, overrides=left))

        return await face.write(call, code, override_id, change)


def _replacements(routes: APIRouter, face: _Face) -> None:
    caller, adding, editing, deps = face.caller, face.adding(), face.editing(), face.deps

    @routes.get(
        "/v1/partners/{code}/rotas/{rota_id}/replacements",
        summary="List replacements",
        response_model=Replacements,
        responses=_READ,
    )
    async def list_replacements(code: Code, rota_id: RotaId, principal: Principal = Depends(caller)) -> Response:
        """The times in which other layers take the place of all of a rota's. Of two that overlap, the last one holds.

        Overrides lie over a replacement as over anything else.
        """
        stored, _ = await face.seen(principal, code)
        rota = _found(stored.state.rotas, rota_id, "rota")
        items = [rota_views.replacement_view(replacement) for replacement in rota.replacements]
        return answer_of(Replacements(items=items), stored.version)

    @routes.post(
        "/v1/partners/{code}/rotas/{rota_id}/replacements",
        summary="Add a replacement",
        status_code=201,
        response_model=Written,
        responses=_MADE,
    )
    async def add_replacement(
        code: Code,
        rota_id: RotaId,
        body: ReplacementBody,
        call: Call = Depends(adding),
    ) -> Response:
        """Puts other layers in the place of all of a rota's, and of what came from calendars, for a time.

        Where they cover nothing, nobody is on call. Try it with `dry_run` first: the answer names the holes.
        """
        replacement_id = bodies.new_id(body.id, deps.ids)
        await face.prove_rules(call, body.layers)

        def change(state: PartnerState) -> PartnerState:
            rota = _found(state.rotas, rota_id, "rota")
            made = bodies.replacement_of(body, replacement_id, rota, ids=deps.ids)
            if _is_there(rota.replacements, made):
                return state
            return with_rota(state, with_replacement(rota, made, now=deps.clock.now()))

        return await face.created(call, code, f"rotas/{rota_id}/replacements", replacement_id, change)

    @routes.delete(
        "/v1/partners/{code}/rotas/{rota_id}/replacements/{replacement_id}",
        summary="Remove a replacement",
        response_model=Written,
        responses=_EDITED,
    )
    async def remove_replacement(
        code: Code,
        rota_id: RotaId,
        replacement_id: Annotated[UUID, Path(description="The replacement's id.")],
        call: Call = Depends(editing),
    ) -> Response:
        """Lets the rota's own layers and calendars show again."""

        def change(state: PartnerState) -> PartnerState:
            rota = _found(state.rotas, rota_id, "rota")
            _found(rota.replacements, replacement_id, "replacement")
            left = tuple(one for one in rota.replacements if one.id != replacement_id)
            return with_rota(state, replace(rota, replacements=left))

        return await face.write(call, code, replacement_id, change)


# --- policy -----------------------------------------------------------------------------------------------------------


def _policy(routes: APIRouter, face: _Face) -> None:
    caller, editing = face.caller, face.editing()

    @routes.get("/v1/partners/{code}/policy", summary="The levels", response_model=PolicyView, responses=_READ)
    async def get_policy(code: Code, principal: Principal = Depends(caller)) -> Response:
        """Whom you have paged at each level, and how long each waits."""
        stored, _ = await face.seen(principal, code)
        return answer_of(views.policy_view(stored.state.policy), stored.version)

    @routes.put("/v1/partners/{code}/policy", summary="Set the levels", response_model=Written, responses=_EDITED)
    async def set_policy(code: Code, body: PolicyBody, call: Call = Depends(editing)) -> Response:
        """Replaces all levels. Escalations that are under way keep the levels they began with."""

        def change(state: PartnerState) -> PartnerState:
            return replace(state, policy=bodies.policy_of(body))

        return await face.write(call, code, policy_id(code), change)


# --- endpoints --------------------------------------------------------------------------------------------------------


def _endpoints(routes: APIRouter, face: _Face) -> None:
    caller, adding, editing, deps = face.caller, face.adding(), face.editing(), face.deps

    def make(body: EndpointBody, endpoint_id: UUID) -> Make:
        now = deps.clock.now()
        return lambda state: bodies.endpoint_of(body, endpoint_id, state, now=now, url_fault=face.url_fault)

    @routes.get("/v1/partners/{code}/endpoints", summary="List endpoints", response_model=Endpoints, responses=_READ)
    async def list_endpoints(code: Code, principal: Principal = Depends(caller)) -> Response:
        """Your systems that receive webhooks, and which of them fail."""
        stored, failing = await face.seen(principal, code)
        items = [views.endpoint_view(endpoint, failing) for endpoint in stored.state.endpoints]
        return answer_of(Endpoints(items=items), stored.version)

    @routes.get(
        "/v1/partners/{code}/endpoints/{thing_id}", summary="One endpoint", response_model=EndpointView, responses=_READ
    )
    async def get_endpoint(code: Code, thing_id: ThingId, principal: Principal = Depends(caller)) -> Response:
        """One of your systems, and whether it fails."""
        stored, failing = await face.seen(principal, code)
        endpoint = _found(stored.state.endpoints, thing_id, "endpoint")
        return answer_of(views.endpoint_view(endpoint, failing), stored.version)

    @routes.post(
        "/v1/partners/{code}/endpoints",
        summary="Add an endpoint",
        status_code=201,
        response_model=Written,
        responses=_MADE,
    )
    async def add_endpoint(
        code: Code,
        body: EndpointBody,
        call: Call = Depends(adding),
    ) -> Response:
        """Adds a system. From then on it is told of every alert that is addressed to you."""
        endpoint_id = bodies.new_id(body.id, deps.ids)
        made = make(body, endpoint_id)
        return await face.add(call, code, "endpoint", endpoint_id, made)

    @routes.put(
        "/v1/partners/{code}/endpoints/{thing_id}",
        summary="Replace an endpoint",
        response_model=Written,
        responses=_EDITED,
    )
    async def replace_endpoint(
        code: Code,
        thing_id: ThingId,
        body: EndpointBody,
        call: Call = Depends(editing),
    ) -> Response:
        """Replaces address and description."""
        return await face.replace(call, code, "endpoint", thing_id, make(body, thing_id))

    @routes.delete(
        "/v1/partners/{code}/endpoints/{thing_id}",
        summary="Remove an endpoint",
        response_model=Written,
        responses=_EDITED,
    )
    async def remove_endpoint(code: Code, thing_id: ThingId, call: Call = Depends(editing)) -> Response:
        """Removes a system; it is told of nothing from then on."""
        return await face.remove(call, code, "endpoint", thing_id)
