"""The roster at a glance: who is on duty, what is not proven, what waits for the reader; and all partners' scores.

Rotas with their bars are in `rotas`, people and contact points in `people`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from services.console.apis import Down, Missing, Refused
from services.console.readiness_view import grouped, tone_of, worst_first
from services.console.rosters import READING_ROLES, own_path
from services.console.rota_view import Clocks, people_of
from services.console.sessions import Session
from services.console.web import HEADERS, Face
from services.console.words import _, as_instant, reader_of
from shared.contracts import Role

SWAPS_MAX = 200
NOTE_CHARACTERS_MAX = 1000

Code = Annotated[str, Path(pattern=r"^[A-Z]{2}$")]
ThingId = Annotated[str, Path(max_length=40, pattern=r"^[0-9a-f-]+$")]
Said = Annotated[str, Query(max_length=40)]

SWAP_ACTS = {"accept": "acceptance", "decline": "refusal", "withdraw": "withdrawal"}


def sections_of(session: Session) -> list[tuple[str, str]]:
    """The pages about rosters that the reader's roles can do something with: address and name."""
    me = session.principal
    is_secretariat, is_reading = me.has(Role.SECRETARIAT), me.has(*READING_ROLES)
    pages = [
        ("/roster", _("All partners"), is_secretariat),
        (_home(session), _("On duty"), is_reading),
        ("/roster/people", _("People"), is_reading),
        ("/roster/me", _("My contact points"), me.contact_id is not None),
        ("/roster/call-tree.pdf", _("Call tree (PDF)"), is_reading or is_secretariat),
    ]
    return [(address, name) for address, name, useful in pages if useful]


def _home(session: Session) -> str:
    """Where the roster of the reader's own government stands."""
    return "/roster/own" if session.principal.has(Role.SECRETARIAT) else "/roster"


def add_routes(routes: APIRouter, face: Face) -> None:
    """Adds the pages and their acts."""
    _reading(routes, face)
    _acting(routes, face)


def _reading(routes: APIRouter, face: Face) -> None:
    @routes.get("/roster")
    async def show_roster(request: Request, said: Said = "") -> Response:
        """For the secretariat all partners' scores, for everybody else their own government's roster."""
        session = await face.session(request)
        if session.principal.has(Role.SECRETARIAT):
            return await _network(face, request, session, said)
        if not session.principal.has(*READING_ROLES) and session.principal.contact_id is not None:
            return RedirectResponse("/roster/me", status_code=303, headers=dict(HEADERS))
        return await _own(face, request, session, said=said)

    @routes.get("/roster/own")
    async def show_own_roster(request: Request, said: Said = "") -> Response:
        """The reader's own government's roster."""
        return await _own(face, request, await face.session(request), said=said)

    @routes.get("/roster/partners/{code}")
    async def show_readiness(request: Request, code: Code) -> Response:
        """What is not proven at one partner; to the secretariat without names."""
        session = await face.session(request)
        reader = reader_of(request)
        partner, readiness = await asyncio.gather(
            face.apis.get(session, "roster", f"/v1/partners/{code}"),
            face.apis.get(session, "roster", f"/v1/partners/{code}/readiness"),
        )
        return face.page(
            request,
            "roster_partner.html",
            session,
            partner=partner,
            readiness=readiness,
            tone=tone_of(readiness),
            groups=grouped(readiness["findings"], reader),
            clocks=Clocks(reader, partner["time_zone"]),
            sections=sections_of(session),
        )

    @routes.get("/roster/call-tree.pdf")
    async def get_call_tree(request: Request) -> Response:
        """The call tree to keep in a drawer, as roster made it for the reader."""
        session = await face.session(request)
        try:
            answer = await face.apis.call(session, "roster", "GET", "/v1/call-tree.pdf", accept="application/pdf")
        except Down as error:
            if error.reason != "call_tree_not_ready":
                raise
            return RedirectResponse("/roster?said=tree_not_ready", status_code=303, headers=dict(HEADERS))
        name = f"call-tree-{face.deps.clock.now():%Y-%m-%d}.pdf"
        headers = {**HEADERS, "Content-Disposition": f'attachment; filename="{name}"'}
        return Response(answer.content, media_type="application/pdf", headers=headers)


async def _network(face: Face, request: Request, session: Session, said: str) -> Response:
    scores, partners = await asyncio.gather(
        face.apis.items(session, "roster", "/v1/readiness"), face.apis.items(session, "roster", "/v1/partners")
    )
    return face.page(
        request,
        "roster_network.html",
        session,
        scores=[{**one, "tone": tone_of(one)} for one in worst_first(scores)],
        names={one["code"]: one["name"] for one in partners},
        sections=sections_of(session),
        said=said,
    )


async def _own(
    face: Face,
    request: Request,
    session: Session,
    *,
    said: str = "",
    refusal: Refused | None = None,
    typed: Mapping[str, str] | None = None,
) -> Response:
    """The page of the reader's own roster; `refusal` and `typed` are of a signature that was not taken."""
    reader, down, path = reader_of(request), [], own_path(session)

    async def unless_down(read: Any, instead: Any) -> Any:
        try:
            return await read
        except Down as error:
            down.append(error.api)
        except (Missing, Refused):
            pass
        return instead

    partner, on_call, rotas = await asyncio.gather(
        face.apis.get(session, "roster", path),
        face.apis.get(session, "roster", f"{path}/on-call"),
        face.apis.get(session, "roster", f"{path}/rotas"),
    )
    readiness, swaps, hand_overs = await asyncio.gather(
        unless_down(face.apis.get(session, "roster", f"{path}/readiness"), None),
        unless_down(face.apis.items(session, "roster", f"{path}/swaps", state="offered", limit=SWAPS_MAX), []),
        unless_down(face.apis.get(session, "escalation", "/v1/hand-overs"), {"hand_overs": [], "open_escalations": []}),
    )
    me = session.principal
    own_contact = str(me.contact_id) if me.contact_id is not None else None
    now = face.deps.clock.now()
    return face.page(
        request,
        "roster.html",
        session,
        status=refusal.status if refusal is not None else 200,
        partner=partner,
        levels=on_call["levels"],
        rotas=rotas["items"],
        readiness=readiness,
        tone=tone_of(readiness) if readiness is not None else "waiting",
        groups=grouped(readiness["findings"], reader, own_contact=own_contact) if readiness is not None else [],
        swaps=[
            {**one, "acts": acts}
            for one in swaps
            if (acts := swap_acts(one, own_contact, rotas["items"], is_manager=me.has(Role.ROSTER_MANAGER)))
        ],
        hand_overs=[_hand_over(one, now) for one in hand_overs["hand_overs"]],
        open_escalations=hand_overs["open_escalations"],
        clocks=Clocks(reader, partner["time_zone"]),
        sections=sections_of(session),
        down=sorted(set(down)),
        said=said,
        refusal=refusal,
        typed=typed or {},
        note_max=NOTE_CHARACTERS_MAX,
        key=str(face.deps.ids.new()),
    )


def swap_acts(swap: Mapping[str, Any], own: str | None, rotas: list[Any], *, is_manager: bool) -> list[str]:
    """What the reader may do about an open offer; a roster manager answers for the colleague that it names."""
    if swap["offered_by"]["contact_id"] == own:
        return ["withdraw"]
    named, declined = swap["offered_to"], {one["contact_id"] for one in swap["declined_by"]}
    if named is not None:
        acts = ["accept", "decline"] if named["contact_id"] == own or is_manager else []
    else:
        rota = next((one for one in rotas if one["id"] == swap["rota_id"]), None)
        is_open_to_me = rota is not None and own in people_of(rota) and own not in declined
        acts = ["accept", "decline"] if is_open_to_me else []
    return [*acts, "withdraw"] if is_manager else acts


def _hand_over(one: Mapping[str, Any], now: Any) -> dict[str, Any]:
    side = one["own_side"]
    unsigned = side is not None and one[side]["signed_at"] is None
    is_open = as_instant(one["signed_from"]) <= now < as_instant(one["until_at"])
    return {**one, "waits_for_me": unsigned and is_open, "is_signed": one["state"] == "signed"}


def _acting(routes: APIRouter, face: Face) -> None:
    @routes.post("/roster/swaps/{swap}/{act}")
    async def answer_swap(request: Request, swap: ThingId, act: str) -> Response:
        """Accepts, declines or withdraws."""
        session = await face.session(request)
        form = await face.form(request, session)
        if act not in SWAP_ACTS:
            raise Missing("there is no such act")
        behalf = form.get("on_behalf_of", "")
        body = {"on_behalf_of": behalf} if behalf and act != "withdraw" else {}
        path = f"{own_path(session)}/swaps/{swap}/{SWAP_ACTS[act]}"
        await face.apis.call(
            session, "roster", "POST", path, json=None if act == "withdraw" else body, key=form.get("key")
        )
        return RedirectResponse(f"{_home(session)}?said={act}", status_code=303, headers=dict(HEADERS))

    @routes.post("/roster/hand-overs/{hand_over}")
    async def sign_hand_over(request: Request, hand_over: ThingId) -> Response:
        """Signs for the reader; a note that is refused stays in its field."""
        session = await face.session(request)
        form = await face.form(request, session)
        note = form.get("note", "").strip()
        path = f"/v1/hand-overs/{hand_over}/signature"
        try:
            await face.apis.call(session, "escalation", "POST", path, json={"note": note} if note else {})
        except Refused as error:
            return await _own(face, request, session, refusal=error, typed={"note": note, "hand_over": hand_over})
        return RedirectResponse(f"{_home(session)}?said=signed", status_code=303, headers=dict(HEADERS))
