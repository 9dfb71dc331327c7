"""Raise an alert: one form, a preview that says whom it would wake, and then a draft or a release.

The promise: nothing is sent from here by accident. Preview is a POST that changes nothing; drafting and releasing carry
the key that the form was given, so a double click is one alert. What the API refuses comes back into the form, beside
the fields, with all that was typed.
"""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import pycountry
from fastapi import APIRouter, Request
from starlette.responses import RedirectResponse, Response

from services.console.apis import Down, Missing, Refused
from services.console.sessions import Session
from services.console.web import HEADERS, Face
from services.console.words import LANGUAGES, Reader, reader_of
from shared.holiday_calendars import names as holidays_of

PRECEDENCES = ("FLASH", "IMMEDIATE", "PRIORITY", "ROUTINE")
WORDS_MAX = 200
"""Of a FLASH and an IMMEDIATE; the API holds it."""
PARTNERS_ASKED_AT_ONCE = 10
NIGHT_HOURS = (22, 7)
TLPS = ("TLP:CLEAR", "TLP:GREEN", "TLP:AMBER", "TLP:AMBER+STRICT", "TLP:RED")
TEXTS = ("headline", "description", "instruction")
CAP_BYTES_MAX = 150_000


@dataclass(frozen=True, slots=True)
class Typed:
    """What stands in the form."""

    values: Mapping[str, str] = field(default_factory=dict)
    to: tuple[str, ...] = ()
    for_information: tuple[str, ...] = ()

    def get(self, name: str, default: str = "") -> str:
        """One field, trimmed."""
        return self.values.get(name, default).strip()

    @property
    def words(self) -> int:
        """How many words the text has."""
        return sum(len(self.get(name).split()) for name in TEXTS)

    def country_codes(self, language: str) -> list[str]:
        """The codes of the countries, which may be named in the reader's language; what is no name stays as it is."""
        named = {name.casefold(): code for code, name in countries(language)}
        found: list[str] = []
        for part in filter(None, map(str.strip, self.get("countries").split(","))):
            code = named.get(part.casefold())
            found += [code] if code else part.upper().split()
        return found

    def body(self, language: str) -> dict[str, Any]:
        """What the API is sent; what is empty is left out."""
        body: dict[str, Any] = {
            "headline": self.get("headline"),
            "to": list(self.to),
            "precedence": self.get("precedence"),
        }
        body["countries"] = self.country_codes(language)
        for name in ("description", "instruction", "note", "severity"):
            if self.get(name):
                body[name] = self.get(name)
        if self.for_information:
            body["for_information"] = list(self.for_information)
        if self.get("tlp") in TLPS:
            body["tlp"] = self.get("tlp")
        if self.get("status") == "Exercise":
            body["status"] = "Exercise"
        if self.get("goal_partners").isdigit() and self.get("goal_minutes").isdigit():
            body["coverage_goal"] = {
                "partners": int(self.get("goal_partners")),
                "within_seconds": int(self.get("goal_minutes")) * 60,
            }
        if self.get("answers_visible"):
            body["answers_visible"] = True
        return body


@dataclass(frozen=True, slots=True)
class Woken:
    """One partner as the preview names it: office and role of who is on duty, and what time it is there."""

    code: str
    name: str
    told: str
    at_there: str
    is_night: bool
    holiday: str | None
    is_hole: bool
    unknown: bool = False


def add_routes(routes: APIRouter, face: Face) -> None:
    """Adds the pages."""

    @routes.get("/raise")
    async def show_form(request: Request, template: str = "") -> Response:
        """The empty form, or one filled from a template."""
        session = await face.session(request)
        chosen = next((one for one in templates(reader_of(request).language) if one["key"] == template), None)
        values = {name: chosen.get(name, "") for name in (*TEXTS, "precedence")} if chosen else {}
        return await _form(face, request, session, Typed(values), fresh=not template)

    @routes.post("/raise/preview")
    async def preview(request: Request) -> Response:
        """The form again with whom it would wake; nothing is stored."""
        session = await face.session(request)
        typed = await _typed(face, request, session)
        return await _form(face, request, session, typed, woken=await woken(face, session, reader_of(request), typed))

    @routes.post("/raise")
    async def raise_alert(request: Request) -> Response:
        """Drafts for a second person, or releases at once with a reason."""
        session = await face.session(request)
        typed = await _typed(face, request, session)
        body, alone = typed.body(reader_of(request).language), typed.get("act") == "release"
        if alone:
            body["self_release_reason"] = typed.get("self_release_reason")
        try:
            answer = await face.apis.call(
                session, "alerting", "POST", "/v1/alerts", json=body, key=typed.get("key") or None
            )
        except Refused as error:
            people = await woken(face, session, reader_of(request), typed)
            return await _form(face, request, session, typed, refusal=error, woken=people)
        said = "release" if alone else "drafted"
        return RedirectResponse(f"/alerts/{answer.body['id']}?said={said}", status_code=303, headers=dict(HEADERS))

    @routes.post("/raise/cap")
    async def import_cap(request: Request) -> Response:
        """Drafts from the text of a CAP 1.2 message."""
        session = await face.session(request)
        form = await face.form(request, session)
        content = form.get("cap", "").encode()[: CAP_BYTES_MAX + 1]
        try:
            answer = await face.apis.call(
                session,
                "alerting",
                "POST",
                "/v1/alerts",
                content=content,
                content_type="application/cap+xml",
                key=form.get("key") or None,
            )
        except Refused as error:
            return await _form(face, request, session, Typed({"cap": form.get("cap", "")}), refusal=error)
        return RedirectResponse(f"/alerts/{answer.body['id']}?said=drafted", status_code=303, headers=dict(HEADERS))


async def _typed(face: Face, request: Request, session: Session) -> Typed:
    values = await face.form(request, session)
    pairs = await face.form_pairs(request)
    to = tuple(value for name, value in pairs if name == "to")
    informed = tuple(value for name, value in pairs if name == "for_information")
    return Typed(values, to, informed)


async def _form(
    face: Face,
    request: Request,
    session: Session,
    typed: Typed,
    *,
    woken: Sequence[Woken] | None = None,
    refusal: Refused | None = None,
    fresh: bool = False,
) -> Response:
    reader = reader_of(request)
    partners = await face.apis.items(session, "roster", "/v1/partners")
    deadlines = (await face.apis.get(session, "roster", "/v1/deadlines"))["deadlines"]
    me = session.principal
    return face.page(
        request,
        "raise.html",
        session,
        status=refusal.status if refusal is not None else 200,
        typed=typed,
        partners=[one for one in partners if one["code"] != me.partner and one["active"] and one["code"] != "XR"],
        deadlines=deadlines,
        precedences=PRECEDENCES,
        tlps=TLPS,
        countries=countries(reader.language),
        woken=woken,
        refusal=refusal,
        faults=refusal.by_field if refusal is not None else {},
        words_max=WORDS_MAX,
        templates=templates(reader.language),
        fresh=fresh,
        key=typed.get("key") or str(face.deps.ids.new()),
        span=reader.span,
    )


async def woken(face: Face, session: Session, reader: Reader, typed: Typed) -> list[Woken]:
    """Whom the alert would wake now, partner by partner."""
    partners = {one["code"]: one for one in await face.apis.items(session, "roster", "/v1/partners")}
    limit = asyncio.Semaphore(PARTNERS_ASKED_AT_ONCE)

    async def one(code: str) -> Woken | None:
        partner = partners.get(code)
        if partner is None:
            return None
        async with limit:
            try:
                levels = (await face.apis.get(session, "roster", f"/v1/partners/{code}/on-call"))["levels"]
            except (Down, Missing, Refused):
                levels = None
        return _woken(face, reader, partner, levels)

    found = await asyncio.gather(*(one(code) for code in typed.to))
    return [each for each in found if each is not None]


def _woken(face: Face, reader: Reader, partner: Mapping[str, Any], levels: Sequence[Any] | None) -> Woken:
    now = face.deps.clock.now()
    zone = partner["time_zone"]
    local = reader.local(now, zone)
    first = levels[0]["targets"] if levels else []
    told = [target["title"] or target["office"] or "" for target in first if not target["nobody"]]
    is_night = local.hour >= NIGHT_HOURS[0] or local.hour < NIGHT_HOURS[1]
    return Woken(
        code=partner["code"],
        name=partner["name"],
        told=", ".join(dict.fromkeys(filter(None, told))),
        at_there=reader.at(now, zone),
        is_night=is_night,
        holiday=holidays_of(partner["code"], local.year).get(local.date()),
        is_hole=levels is not None and not told,
        unknown=levels is None,
    )


@cache
def countries(language: str) -> list[tuple[str, str]]:
    """Every country by its alpha-3 code, named in the reader's language, in the order of the names."""
    territories = Reader(language).locale.territories
    found = [(one.alpha_3, str(territories.get(one.alpha_2, one.name))) for one in pycountry.countries]
    return sorted(found, key=lambda pair: pair[1].casefold())


@cache
def templates(language: str) -> list[dict[str, str]]:
    """Approved beginnings of alerts, in the reader's language where there is one, else in English."""
    found = tomllib.loads((Path(__file__).parent.parent / "alert_templates.toml").read_text("utf-8"))
    shown = []
    for key, one in found.items():
        words = one.get(language if language in LANGUAGES else "en") or one["en"]
        shown.append({"key": key, "precedence": one["precedence"], **words})
    return shown
