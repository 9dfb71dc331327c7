"""One rota: its weeks as bars, what lies over it, and what changing a stretch of it would do.

The promise: a change is shown before it is made, and made only as it was shown. What was typed stays in the form,
whatever the answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from services.console.apis import Down, Missing, Refused
from services.console.pages.roster import sections_of
from services.console.rosters import Change, OwnRoster, Tried, attempt, own_path, own_roster
from services.console.rota_view import (
    ORIGINS,
    WEEK,
    Clocks,
    NoSuchTime,
    instant_of,
    local_text,
    midnight,
    monday_of,
    people_of,
    shifts_between,
    weeks_of,
)
from services.console.sessions import Session
from services.console.web import HEADERS, Face
from services.console.words import Reader, _, as_instant, reader_of
from shared.contracts import Role
from shared.web import render_instant

WEEKS_SHOWN = 4
AROUND = timedelta(days=14)
"""So much more is asked for on both sides of what is shown, so that its first and last shifts are whole."""
FAIRNESS_DAYS = 90
"""Behind and ahead of today."""
YEARS = (2000, 2100)

RotaRef = Annotated[str, Path(max_length=40, pattern=r"^[0-9a-f-]+$")]
Instant = Annotated[str, Query(max_length=40)]
Said = Annotated[str, Query(max_length=40)]

SWAP, OVERRIDE, REMOVAL = "swap", "override", "removal"
NOBODY = "nobody"
"""Chosen, never left empty: a form that was sent too early takes nobody off duty."""


def add_routes(routes: APIRouter, face: Face) -> None:
    """Adds the pages and their acts."""
    _reading(routes, face)
    _overrides(routes, face)
    _swaps(routes, face)


def _reading(routes: APIRouter, face: Face) -> None:
    @routes.get("/roster/rotas/{rota}")
    async def show_rota(
        request: Request,
        rota: RotaRef,
        first: Annotated[str, Query(alias="from", max_length=10)] = "",
        said: Said = "",
    ) -> Response:
        """Four weeks of a rota from a Monday on, as bars and as a table, with what it asks of whom."""
        session, reader = await face.session(request), reader_of(request)
        own = await own_roster(face, session)
        shown, now = own.rota(rota), face.deps.clock.now()
        clocks = Clocks(reader, shown["time_zone"])
        monday = monday_of(_date(first) or reader.local(now, clocks.zone).date())
        last = monday + WEEKS_SHOWN * WEEK
        start_at, end_at = midnight(monday, clocks.zone), midnight(last, clocks.zone)
        found, fairness = await asyncio.gather(
            _shifts(face, session, rota, start_at - AROUND, end_at + AROUND), _fairness(face, session, rota, now)
        )
        weeks = weeks_of(
            found,
            shown,
            first=monday,
            count=WEEKS_SHOWN,
            now=now,
            names=own.names,
            is_mirrored=reader.direction == "rtl",
        )
        return face.page(
            request,
            "rota.html",
            session,
            rota=shown,
            weeks=weeks,
            holidays=[
                {"on": day.on, "name": day.holiday} for week in weeks for day in week.days if day.holiday is not None
            ],
            shifts=shifts_between(found, start_at, end_at),
            overrides=[one for one in shown["overrides"] if as_instant(one["end_at"]) > now],
            replacements=[one for one in shown["replacements"] if as_instant(one["end_at"]) > now],
            names=own.names,
            fairness=fairness,
            fairness_days=FAIRNESS_DAYS,
            origins=ORIGINS,
            clocks=clocks,
            first=monday,
            last=last - timedelta(days=1),
            before=monday - WEEKS_SHOWN * WEEK,
            after=last,
            is_manager=session.principal.has(Role.ROSTER_MANAGER),
            sections=sections_of(session),
            said=said,
        )

    @routes.get("/roster/rotas/{rota}/stretch")
    async def show_stretch(request: Request, rota: RotaRef, start_at: Instant = "", end_at: Instant = "") -> Response:
        """One stretch of a rota: who is on duty then, and the forms to put somebody else there or to offer it."""
        session = await face.session(request)
        stretch = await _stretch(face, session, rota, {"start_at": start_at, "end_at": end_at})
        return await _stretch_page(face, request, session, stretch)


async def _shifts(face: Face, session: Session, rota_id: str, start_at: datetime, end_at: datetime) -> dict[str, Any]:
    answer = await face.apis.get(session, "roster", f"{own_path(session)}/shifts", **_window(start_at, end_at))
    found = next((one for one in answer["rotas"] if one["id"] == rota_id), None)
    if found is None:
        raise Missing("there is no such rota")
    return dict(found)


async def _fairness(face: Face, session: Session, rota_id: str, now: datetime) -> list[Any]:
    """What the rota asks of whom around today; nothing while roster has no time to count it."""
    around = timedelta(days=FAIRNESS_DAYS)
    path = f"{own_path(session)}/rotas/{rota_id}/fairness"
    try:
        found = await face.apis.get(session, "roster", path, **_window(now - around, now + around))
    except Down:
        return []
    return list(found["people"])


def _window(start_at: datetime, end_at: datetime) -> dict[str, str]:
    return {"from": render_instant(start_at), "to": render_instant(end_at)}


def _date(text: str) -> date | None:
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return None
    return day if YEARS[0] < day.year < YEARS[1] else None


def _instant(text: str) -> datetime | None:
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        return None
    if instant.tzinfo is None or not YEARS[0] < instant.year < YEARS[1]:
        return None
    return as_instant(instant)


# --- one stretch ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Stretch:
    """A part of a rota's time that a page is about."""

    own: OwnRoster
    rota: Mapping[str, Any]
    start_at: datetime
    end_at: datetime


async def _stretch(face: Face, session: Session, rota_id: str, sent: Mapping[str, str]) -> Stretch:
    """The stretch that a form or an address names; raises `Missing` where it names none."""
    start_at, end_at = _instant(sent.get("start_at", "")), _instant(sent.get("end_at", ""))
    if start_at is None or end_at is None or start_at >= end_at:
        raise Missing("there is no such stretch")
    own = await own_roster(face, session)
    return Stretch(own, own.rota(rota_id), start_at, end_at)


async def _stretch_page(
    face: Face,
    request: Request,
    session: Session,
    stretch: Stretch,
    *,
    typed: Mapping[str, str] | None = None,
    faults: Mapping[str, str] | None = None,
    tried: Tried | None = None,
    change: Change | None = None,
    offer: Mapping[str, Any] | None = None,
) -> Response:
    """The page of a stretch. `typed` is the form that was sent, `tried` what became of its change."""
    own, rota, start_at, end_at = stretch.own, stretch.rota, stretch.start_at, stretch.end_at
    reader, me = reader_of(request), session.principal
    clocks = Clocks(reader, rota["time_zone"])
    found = await _shifts(face, session, rota["id"], start_at - AROUND, end_at + AROUND)
    held = shifts_between(found, start_at, end_at)
    holders = list(dict.fromkeys(one["contact_id"] for one in held if one["name"] is not None))
    own_contact = str(me.contact_id) if me.contact_id is not None else None
    is_manager = me.has(Role.ROSTER_MANAGER)
    giver = holders[0] if len(holders) == 1 and all(one["name"] is not None for one in held) else None
    fresh = {"start": local_text(start_at, clocks.zone), "end": local_text(end_at, clocks.zone)}
    typed = typed or {}
    refusal = tried.refusal if tried is not None else None
    marked = {fault.field.removesuffix("_at"): fault.detail for fault in refusal.faults} if refusal is not None else {}
    which = typed.get("which", "")
    starts = {which: {**fresh, **typed}}
    return face.page(
        request,
        "stretch.html",
        session,
        status=refusal.status if refusal is not None else 422 if faults else 200,
        rota=rota,
        start_at=start_at,
        end_at=end_at,
        held=held,
        overrides=[
            one
            for one in rota["overrides"]
            if as_instant(one["start_at"]) < end_at and start_at < as_instant(one["end_at"])
        ],
        override=starts.get(OVERRIDE, fresh),
        swap=starts.get(SWAP, fresh),
        which=which,
        faults={**marked, **(faults or {})},
        tried=tried,
        change=change,
        offer=offer,
        people=sorted(own.contacts.values(), key=lambda one: str(one["name"]).casefold()),
        colleagues=[one for one in people_of(rota) if one != giver and one in own.contacts],
        names=own.names,
        giver=giver,
        may_override=is_manager,
        may_offer=giver is not None and (is_manager or giver == own_contact) and start_at > face.deps.clock.now(),
        is_manager=is_manager,
        origins=ORIGINS,
        clocks=clocks,
        sections=sections_of(session),
        key=str(face.deps.ids.new()),
    )


def _times(
    form: Mapping[str, str], reader: Reader, zone: str, *names: str
) -> tuple[dict[str, datetime], dict[str, str]]:
    """The instants that fields of a form mean, and what is wrong with those that mean none."""
    meant = [at for name in ("start_at", "end_at") if (at := _instant(form.get(name, ""))) is not None]
    found, faults = {}, {}
    for name in names:
        try:
            found[name] = instant_of(form.get(name, ""), zone, meant)
        except NoSuchTime:
            faults[name] = reader.say(_("This is not a time that the clocks there show."))
    return found, faults


def _id(text: str) -> str | None:
    try:
        return str(UUID(text)) if text else None
    except ValueError:
        return None


def _overrides(routes: APIRouter, face: Face) -> None:
    @routes.post("/roster/rotas/{rota}/overrides")
    async def add_override(request: Request, rota: RotaRef) -> Response:
        """Tries an override, and makes it once it was shown."""
        session, reader = await face.session(request), reader_of(request)
        form = await face.form(request, session)
        stretch = await _stretch(face, session, rota, form)
        shown, form["which"] = stretch.rota, OVERRIDE
        times, faults = _times(form, reader, shown["time_zone"], "start", "end")
        chosen = _id(form.get("contact_id", ""))
        if chosen is None and form.get("contact_id") != NOBODY:
            faults["contact_id"] = reader.say(_("Choose somebody, or nobody."))
        if faults:
            return await _stretch_page(face, request, session, stretch, typed=form, faults=faults)
        body = {
            "contact_id": chosen,
            "deputy_id": _id(form.get("deputy_id", "")),
            "start_at": render_instant(times["start"]),
            "end_at": render_instant(times["end"]),
        }
        change = Change("POST", f"{own_path(session)}/rotas/{rota}/overrides", body)
        tried = await attempt(face, session, stretch.own, change, reader=reader, form=form)
        if tried.done:
            return _back(rota, times["start"], shown, "override")
        return await _stretch_page(face, request, session, stretch, typed=form, tried=tried, change=change)

    async def removal(request: Request, rota: str, override: str, form: Mapping[str, str]) -> Response:
        session, reader = await face.session(request), reader_of(request)
        own = await own_roster(face, session)
        shown = own.rota(rota)
        found = next((one for one in shown["overrides"] if one["id"] == override), None)
        if found is None:
            raise Missing("there is no such override")
        change = Change("DELETE", f"{own_path(session)}/rotas/{rota}/overrides/{override}")
        tried = await attempt(face, session, own, change, reader=reader, form=form)
        if tried.done:
            return _back(rota, as_instant(found["start_at"]), shown, REMOVAL)
        return face.page(
            request,
            "override_removal.html",
            session,
            rota=shown,
            override=found,
            names=own.names,
            tried=tried,
            change=change,
            clocks=Clocks(reader, shown["time_zone"]),
            sections=sections_of(session),
            key="",
        )

    @routes.get("/roster/rotas/{rota}/overrides/{override}")
    async def show_removal(request: Request, rota: RotaRef, override: RotaRef) -> Response:
        """What removing an override would do."""
        return await removal(request, rota, override, {})

    @routes.post("/roster/rotas/{rota}/overrides/{override}")
    async def remove_override(request: Request, rota: RotaRef, override: RotaRef) -> Response:
        """Removes it, if the roster is still the one that was shown."""
        session = await face.session(request)
        return await removal(request, rota, override, await face.form(request, session))


def _swaps(routes: APIRouter, face: Face) -> None:
    @routes.post("/roster/rotas/{rota}/swaps")
    async def offer_swap(request: Request, rota: RotaRef) -> Response:
        """Tries an offer, and makes it once it was shown."""
        session, reader = await face.session(request), reader_of(request)
        form = await face.form(request, session)
        stretch = await _stretch(face, session, rota, form)
        shown, form["which"] = stretch.rota, SWAP
        has_return = bool(form.get("return_start") or form.get("return_end"))
        names = ("start", "end", *(("return_start", "return_end") if has_return else ()))
        times, faults = _times(form, reader, shown["time_zone"], *names)
        if faults:
            return await _stretch_page(face, request, session, stretch, typed=form, faults=faults)
        giver = _id(form.get("offered_by", ""))
        is_own = session.principal.contact_id is not None and giver == str(session.principal.contact_id)
        body: dict[str, Any] = {
            "start_at": render_instant(times["start"]),
            "end_at": render_instant(times["end"]),
            "offered_to": _id(form.get("offered_to", "")),
            "offered_by": None if is_own else giver,
        }
        if has_return:
            body["in_return"] = {
                "start_at": render_instant(times["return_start"]),
                "end_at": render_instant(times["return_end"]),
            }
        change = Change("POST", f"{own_path(session)}/rotas/{rota}/swaps", body)
        is_saved = form.get("act") == "save" and form.get("tried") == change.text
        try:
            answer = await face.apis.call(
                session,
                "roster",
                change.method,
                change.path,
                params=None if is_saved else {"dry_run": "true"},
                json=body,
                key=form.get("key") if is_saved else None,
            )
        except Refused as error:
            return await _stretch_page(face, request, session, stretch, typed=form, tried=Tried(refusal=error))
        if is_saved:
            return _back(rota, times["start"], shown, SWAP)
        tried = Tried(is_other=form.get("act") == "save")
        return await _stretch_page(
            face,
            request,
            session,
            stretch,
            typed=form,
            tried=tried,
            change=change,
            offer=answer.body,
        )


def _back(rota_id: str, at: datetime, rota: Mapping[str, Any], said: str) -> Response:
    monday = monday_of(date.fromisoformat(local_text(at, rota["time_zone"])[:10]))
    address = f"/roster/rotas/{rota_id}?from={monday.isoformat()}&said={said}"
    return RedirectResponse(address, status_code=303, headers=dict(HEADERS))
