"""The reader's own roster as the API has it, and how a change of it is tried before it is made.

The promise: a change is saved only as it was shown: it is tried first, and saved with the version that the trial saw.
Whoever changes the roster in between is not overwritten; the reader sees what the change would do now.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from services.console.apis import Missing, Refused
from services.console.readiness_view import Preview, preview_of
from services.console.sessions import Session
from services.console.web import Face
from services.console.words import Reader
from shared.contracts import Role

Json = Mapping[str, Any]

READING_ROLES = frozenset({Role.ROSTER_MANAGER, Role.DUTY_OFFICER, Role.SENIOR_CONTACT, Role.DRAFTER, Role.RELEASER})
"""Who finds something on a roster page. The API decides; this only spares calls that it would refuse."""


def own_path(session: Session) -> str:
    """Where the reader's own government lies in the API."""
    return f"/v1/partners/{session.principal.partner}"


@dataclass(frozen=True, slots=True)
class OwnRoster:
    """The reader's government with its people and rotas."""

    partner: Json
    contacts: Mapping[str, Json]
    rotas: Mapping[str, Json]

    @property
    def zone(self) -> str:
        """By whose clock the government lives."""
        return str(self.partner["time_zone"])

    @property
    def names(self) -> dict[str, str]:
        """The names of its people by their ids."""
        return {key: one["name"] for key, one in self.contacts.items()}

    def rota(self, rota_id: str) -> Json:
        """One rota; raises `Missing`."""
        found = self.rotas.get(rota_id)
        if found is None:
            raise Missing("there is no such rota")
        return found


async def own_roster(face: Face, session: Session) -> OwnRoster:
    """People and rotas of the reader's government; raises `Refused` for whoever may not read them."""
    path = own_path(session)
    partner, contacts, rotas = await asyncio.gather(
        face.apis.get(session, "roster", path),
        face.apis.get(session, "roster", f"{path}/contacts"),
        face.apis.get(session, "roster", f"{path}/rotas"),
    )
    return OwnRoster(partner, {one["id"]: one for one in contacts["items"]}, {one["id"]: one for one in rotas["items"]})


@dataclass(frozen=True, slots=True)
class Change:
    """One write to the roster's API."""

    method: str
    path: str
    body: Json | None = None

    @property
    def text(self) -> str:
        """What tells this change from any other: a form carries it from the trial to the saving."""
        return orjson.dumps([self.method, self.path, self.body], option=orjson.OPT_SORT_KEYS).decode()


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of a change that is asked for. `preview` without `done` waits for the reader's word.

    `seen` is the version that was looked at, `is_conflict` says that the roster was changed since the reader's trial,
    `is_other` that the change is another one than was tried.
    """

    done: bool = False
    preview: Preview | None = None
    seen: str = ""
    refusal: Refused | None = None
    is_conflict: bool = False
    is_other: bool = False


async def attempt(
    face: Face, session: Session, own: OwnRoster, change: Change, *, reader: Reader, form: Mapping[str, str]
) -> Tried:
    """Saves a change if the form says so and has been shown just this; else says what it would do."""
    tried = Tried()
    if form.get("act") == "save":
        if form.get("tried") == change.text:
            try:
                await face.apis.call(
                    session,
                    "roster",
                    change.method,
                    change.path,
                    json=change.body,
                    key=form.get("key") if change.method == "POST" else None,
                    etag=form.get("seen") or None,
                )
            except Refused as error:
                if error.code != "precondition_failed":
                    return Tried(refusal=error)
                tried = Tried(is_conflict=True)
            else:
                return Tried(done=True)
        else:
            tried = Tried(is_other=True)
    return await _trial(face, session, own, change, reader=reader, tried=tried)


async def _trial(
    face: Face, session: Session, own: OwnRoster, change: Change, *, reader: Reader, tried: Tried
) -> Tried:
    etag = None
    if change.method != "POST":
        # An edit names the version that it has seen, in a trial too.
        etag = (await face.apis.call(session, "roster", "GET", f"{own_path(session)}/rotas")).etag
    try:
        answer = await face.apis.call(
            session, "roster", change.method, change.path, params={"dry_run": "true"}, json=change.body, etag=etag
        )
    except Refused as error:
        return replace(tried, refusal=error)
    rotas = {key: one["name"] for key, one in own.rotas.items()}
    preview = preview_of(answer.body["preview"], reader, names=own.names, rotas=rotas)
    return replace(tried, preview=preview, seen=answer.etag or "")
