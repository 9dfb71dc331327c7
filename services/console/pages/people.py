"""People and offices with their contact points, and the reader's own: kept, verified, confirmed.

The promise: what is typed into one's own points is kept until it is saved or left; roster alone says what is right, and
its words stand beside the point that they are about.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, Request
from starlette.responses import RedirectResponse, Response

from services.console.apis import Down, FieldFault, Missing, Refused
from services.console.board_view import CHANNELS, REASONS
from services.console.pages.roster import sections_of
from services.console.rosters import own_path
from services.console.rota_view import Clocks
from services.console.sessions import Session
from services.console.web import HEADERS, Face
from services.console.words import _, n_, reader_of
from shared.contracts import Role

POINTS_MAX = 6
"""Of one person; roster holds it."""
DELAYS_SECONDS = (0, 60, 120, 180, 300, 600, 900, 1800)
NEW_CHANNELS = ("sms", "voice", "email", "chat", "webhook")
"""What can be typed; push comes from the browser itself."""
PUSH_CHARACTERS_MAX = 4096
PLACES = {"me": "/roster/me", "people": "/roster/people"}

PointId = Annotated[str, Path(max_length=40, pattern=r"^[0-9a-f-]+$")]
Said = Annotated[str, Query(max_length=40)]

_POINT_FAULT = re.compile(r"points\[(\d+)\]\.?(.*)")
_NUMBERED = re.compile(r"(id|channel|address|label|delay)-(\d{1,2})")

CONFIRMED = n_("%(num)s contact point is still right.", "%(num)s contact points are still right.")


SAID_OF_POINT: Mapping[str, tuple[str, str]] = {
    "sent": ("good", _("A code is on its way. Enter it here within half an hour.")),
    "verified": ("good", _("Verified: it works.")),
    "unknown": ("waiting", _("This contact point is not known to escalation yet. Try again in a moment.")),
    "code_wrong": ("alarm", _("This is not the code: six digits, from the newest message.")),
    "verification_code_wrong": ("alarm", _("This is not the code: six digits, from the newest message.")),
    "verification_just_sent": ("waiting", _("A code was just sent. Wait a minute before you ask for another.")),
    "verification_limit": ("waiting", _("Too many codes in a day. Check the address, and try tomorrow.")),
    "verification_not_asked": ("waiting", _("No code was sent. Ask for one first.")),
    "verification_expired": ("waiting", _("The code holds no more. Ask for another one.")),
    "verification_locked": ("alarm", _("Too many wrong codes. Ask for another one.")),
    "contact_point_unusable": ("alarm", _("Nothing can be sent there: this installation has not set up the channel.")),
    "endpoint_did_not_answer": ("alarm", _("The system did not answer with 2xx.")),
    "not_your_contact_point": ("waiting", _("Only its owner verifies it.")),
}
"""What is said beside a contact point after a code was asked for or entered, and how loud."""


@dataclass(frozen=True, slots=True)
class OwnPoint:
    """One of the reader's points as it stands in the form. Without an id it is new."""

    id: str = ""
    channel: str = "sms"
    address: str = ""
    label: str = ""
    delay: str = "0"
    known: Mapping[str, Any] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        """What the API is sent."""
        body: dict[str, Any] = {"channel": self.channel, "address": self.address.strip()}
        if self.id:
            body["id"] = self.id
        if self.label.strip():
            body["label"] = self.label.strip()
        if self.delay.isdigit():
            body["delay_seconds"] = min(int(self.delay), 10**6)
        return body


def points_of(known: list[Mapping[str, Any]]) -> list[OwnPoint]:
    """The points as roster has them."""
    return [
        OwnPoint(one["id"], one["channel"], one["address"], one["label"] or "", str(one["delay_seconds"]), one)
        for one in known
    ]


def typed_points(form: Mapping[str, str], known: list[Mapping[str, Any]]) -> list[OwnPoint]:
    """The points as they stand in a form that was sent."""
    by_id = {one["id"]: one for one in known}
    rows: dict[int, dict[str, str]] = {}
    for name, value in form.items():
        if found := _NUMBERED.fullmatch(name):
            rows.setdefault(int(found.group(2)), {})[found.group(1)] = value
    return [OwnPoint(**row, known=by_id.get(row.get("id", ""), {})) for _number, row in sorted(rows.items())]


def rearranged(points: list[OwnPoint], act: str) -> list[OwnPoint]:
    """The points after one of the form's small buttons: `up:2`, `remove:0`, `add`."""
    verb, _colon, number = act.partition(":")
    changed, place = list(points), int(number) if number.isdigit() else -1
    if verb == "add" and len(changed) < POINTS_MAX:
        changed.append(OwnPoint())
    elif verb == "remove" and 0 <= place < len(changed):
        del changed[place]
    elif verb == "up" and 0 < place < len(changed):
        changed[place - 1], changed[place] = changed[place], changed[place - 1]
    elif verb == "down" and 0 <= place < len(changed) - 1:
        changed[place + 1], changed[place] = changed[place], changed[place + 1]
    return changed


def faults_of(faults: tuple[FieldFault, ...]) -> tuple[dict[int, list[FieldFault]], list[FieldFault]]:
    """What is wrong with each point by its place, and with them all."""
    by_place: dict[int, list[FieldFault]] = {}
    rest = []
    for fault in faults:
        found = _POINT_FAULT.fullmatch(fault.field)
        if found is None:
            rest.append(fault)
        else:
            by_place.setdefault(int(found.group(1)), []).append(
                FieldFault(found.group(2) or "address", fault.detail, fault.code)
            )
    return by_place, rest


def add_routes(routes: APIRouter, face: Face) -> None:
    """Adds the pages and their acts."""
    _reading(routes, face)
    _keeping(routes, face)
    _verifying(routes, face)


def _reading(routes: APIRouter, face: Face) -> None:
    @routes.get("/roster/people")
    async def show_people(request: Request, said: Said = "", point: Said = "") -> Response:
        """The reader's colleagues and offices with how they are reached; colleagues' addresses are masked."""
        session = await face.session(request)
        path = own_path(session)
        partner, contacts, offices = await asyncio.gather(
            face.apis.get(session, "roster", path),
            face.apis.get(session, "roster", f"{path}/contacts"),
            face.apis.get(session, "roster", f"{path}/offices"),
        )
        return face.page(
            request,
            "people.html",
            session,
            contacts=sorted(contacts["items"], key=lambda one: str(one["name"]).casefold()),
            offices=offices["items"],
            own=str(session.principal.contact_id),
            is_manager=session.principal.has(Role.ROSTER_MANAGER),
            **_words(request, partner["time_zone"]),
            sections=sections_of(session),
            said=said,
            point=point,
        )

    @routes.get("/roster/me")
    async def show_own_points(
        request: Request, said: Said = "", point: Said = "", number: Annotated[int, Query(ge=0, le=99)] = 0
    ) -> Response:
        """How the reader is reached."""
        session = await face.session(request)
        return await _own_page(face, request, session, said=said, point=point, number=number)


def _words(request: Request, zone: str) -> dict[str, Any]:
    return {
        "channels": CHANNELS,
        "reasons": REASONS,
        "said_of_point": SAID_OF_POINT,
        "clocks": Clocks(reader_of(request), zone),
    }


async def _own_page(
    face: Face,
    request: Request,
    session: Session,
    *,
    points: list[OwnPoint] | None = None,
    refusal: Refused | None = None,
    is_conflict: bool = False,
    said: str = "",
    point: str = "",
    number: int = 0,
) -> Response:
    """The page of the reader's own points; `points` are those that were typed and are not saved."""
    answer, partner, push_key = await asyncio.gather(
        face.apis.call(session, "roster", "GET", "/v1/me/contact-points"),
        face.apis.get(session, "roster", own_path(session)),
        _push_key(face, session),
    )
    reader = reader_of(request)
    by_place, rest = faults_of(refusal.faults) if refusal is not None else ({}, [])
    return face.page(
        request,
        "me.html",
        session,
        status=refusal.status if refusal is not None else 200,
        saved=answer.body["items"],
        points=points if points is not None else points_of(answer.body["items"]),
        is_typed=points is not None,
        seen=answer.etag or "",
        refusal=refusal,
        faults=by_place,
        other_faults=rest,
        is_conflict=is_conflict,
        new_channels=NEW_CHANNELS,
        delays=DELAYS_SECONDS,
        points_max=POINTS_MAX,
        push_key=push_key,
        **_words(request, partner["time_zone"]),
        span=reader.span,
        sections=sections_of(session),
        said=said,
        point=point,
        confirmed=reader.say_number(*CONFIRMED, number) if said == "confirmed" else "",
    )


async def _push_key(face: Face, session: Session) -> str | None:
    """What a browser subscribes with; None where no push is sent, or nobody can say now."""
    try:
        return str((await face.apis.get(session, "escalation", "/v1/push/key"))["public_key"])
    except (Missing, Refused, Down):
        return None


def _keeping(routes: APIRouter, face: Face) -> None:
    @routes.post("/roster/me")
    async def save_own_points(request: Request) -> Response:
        """Saves the reader's points, or moves, adds and removes rows of the form."""
        session = await face.session(request)
        form = await face.form(request, session)
        known = (await face.apis.get(session, "roster", "/v1/me/contact-points"))["items"]
        points = typed_points(form, known)
        act = form.get("act", "save")
        if act != "save":
            return await _own_page(face, request, session, points=rearranged(points, act))
        return await _saved(face, request, session, points, form.get("seen") or None)

    @routes.post("/roster/me/push")
    async def add_push(request: Request) -> Response:
        """Adds this browser: its push subscription, as its script has got it, is a contact point."""
        session = await face.session(request)
        form = await face.form(request, session)
        answer = await face.apis.call(session, "roster", "GET", "/v1/me/contact-points")
        address = form.get("subscription", "")[:PUSH_CHARACTERS_MAX]
        label = form.get("label", "").strip()
        points = [*points_of(answer.body["items"]), OwnPoint(channel="push", address=address, label=label)]
        return await _saved(face, request, session, points, answer.etag)

    @routes.post("/roster/me/confirm")
    async def confirm_points(request: Request) -> Response:
        """Says that all of them are still right."""
        session = await face.session(request)
        await face.form(request, session)
        points = (await face.apis.get(session, "roster", "/v1/me/contact-points"))["items"]
        for one in points:
            path = f"/v1/me/contact-points/{one['id']}/confirmation"
            await face.apis.call(session, "roster", "POST", path)
        address = f"/roster/me?said=confirmed&number={len(points)}"
        return RedirectResponse(address, status_code=303, headers=dict(HEADERS))


async def _saved(face: Face, request: Request, session: Session, points: list[OwnPoint], seen: str | None) -> Response:
    body = {"points": [one.body() for one in points]}
    try:
        await face.apis.call(session, "roster", "PUT", "/v1/me/contact-points", json=body, etag=seen)
    except Refused as error:
        is_conflict = error.code == "precondition_failed"
        return await _own_page(face, request, session, points=points, refusal=error, is_conflict=is_conflict)
    return RedirectResponse("/roster/me?said=saved", status_code=303, headers=dict(HEADERS))


def _verifying(routes: APIRouter, face: Face) -> None:
    @routes.post("/roster/points/{point}/verification")
    async def send_code(request: Request, point: PointId) -> Response:
        """Has a code sent over a contact point; a system is asked for 2xx instead."""
        session = await face.session(request)
        form = await face.form(request, session)
        path = f"/v1/contact-points/{point}/verification"
        try:
            answer = await face.apis.call(session, "escalation", "POST", path)
        except Missing:
            return _at_point(form, point, "unknown")
        except Refused as error:
            return _at_point(form, point, error.code)
        return _at_point(form, point, "sent" if answer.body["stage"] == "code_sent" else "verified")

    @routes.post("/roster/points/{point}/code")
    async def return_code(request: Request, point: PointId) -> Response:
        """Returns the code that came."""
        session = await face.session(request)
        form = await face.form(request, session)
        path = f"/v1/contact-points/{point}/verification/code"
        code = re.sub(r"\s", "", form.get("code", ""))
        try:
            await face.apis.call(session, "escalation", "POST", path, json={"code": code})
        except Missing:
            return _at_point(form, point, "unknown")
        except Refused as error:
            return _at_point(form, point, "code_wrong" if error.code == "invalid" else error.code)
        return _at_point(form, point, "verified")


def _at_point(form: Mapping[str, str], point: str, said: str) -> Response:
    place = PLACES.get(form.get("place", ""), PLACES["me"])
    address = f"{place}?said={said}&point={point}#point-{point}"
    return RedirectResponse(address, status_code=303, headers=dict(HEADERS))
