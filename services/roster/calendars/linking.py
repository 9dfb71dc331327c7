"""Rotas as calendars: as a file, and under private addresses that calendar programs read without signing in.

The promise: a private address opens one rota or one contact's shifts and nothing else, until it is revoked, the rota or
contact is gone, or the partner takes no part any more; then it answers like one that never was. Of its token only a
hash is kept.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, time, timedelta
from functools import partial
from uuid import UUID

from services.roster import store as roster_store
from services.roster.calendars import store
from services.roster.calendars.store import StoredLink
from services.roster.calendars.writing import Roster, words_of, write_calendar
from services.roster.domain import Contact, PartnerState
from services.roster.handlers import Call, RosterDeps, missing, own_partner
from services.roster.schedule import Rota, shifts
from services.roster.worker import compute
from shared import record
from shared.contracts import Role
from shared.errors import Conflict, Forbidden
from shared.ids import PartnerCode
from shared.security import Principal, hash_secret, new_secret

LINKS_MAX = 200
"""Private addresses of one partner that are open: four for each of 50 contacts."""
BEFORE, AFTER = timedelta(days=31), timedelta(days=184)
"""What a private address shows: programs forget what is no longer there, so the last month stays."""
USE_NOTED_EVERY = timedelta(hours=1)
TOKEN_CHARACTERS_MAX = 100


@dataclass(frozen=True, slots=True)
class MadeLink:
    """A new private address, and the token that opens it, for the only time that anybody sees it."""

    link: StoredLink
    token: str


@dataclass(frozen=True, slots=True)
class Linked:
    """What a private address shows; `raw` is None if the reader has it already, as `etag` tells."""

    etag: str
    raw: bytes | None


# --- a file -----------------------------------------------------------------------------------------------------------


async def shifts_file(
    deps: RosterDeps,
    principal: Principal,
    code: str,
    *,
    rota_id: UUID | None,
    contact_id: UUID | None,
    window: tuple[datetime, datetime],
) -> bytes:
    """The shifts of a window as a calendar: of all rotas or one, of everybody or one contact."""
    stored = await own_partner(deps, principal, code)
    rotas = [rota for rota in stored.state.rotas if rota_id in (None, rota.id)]
    if rota_id is not None and not rotas:
        raise missing("rota")
    contact = None if contact_id is None else _contact_of(stored.state, contact_id)
    async with deps.intake.transaction() as tx:
        version = await store.find_version(tx, code)
    changed_at = deps.clock.now() if version is None else version[1]
    return await _written(
        deps, stored.state, rotas, contact, window=window, version=stored.version, changed_at=changed_at
    )


# --- private addresses ------------------------------------------------------------------------------------------------


async def make_link(
    deps: RosterDeps, call: Call, code: str, *, rota_id: UUID | None, contact_id: UUID | None
) -> MadeLink:
    """Makes a private address: of one's own shifts for whoever is a contact, of anything for a roster manager."""
    principal = call.principal
    if principal.partner != code:
        raise missing()
    wanted = contact_id if contact_id is not None or rota_id is not None else principal.contact_id
    if rota_id is None and wanted is None:
        raise Forbidden("your credential belongs to no contact of your government", code="not_a_contact")
    if rota_id is not None or wanted != principal.contact_id or not principal.is_person:
        principal.require(Role.ROSTER_MANAGER)
    now = deps.clock.now()
    token = new_secret()
    async with deps.intake.transaction() as tx:
        stored = await roster_store.load_partner(tx, deps.keys, code)
        if stored is None:
            raise missing()
        rota = None if rota_id is None else _rota_of(stored.state, rota_id)
        contact = None if wanted is None else _contact_of(stored.state, wanted)
        if await store.count_links(tx, code) >= LINKS_MAX:
            detail = f"your government has {LINKS_MAX} private addresses; revoke one"
            raise Conflict(detail, code="too_many_calendar_links")
        link = StoredLink(
            id=deps.ids.new(),
            partner=PartnerCode(code),
            rota_id=None if rota is None else rota.id,
            contact_id=None if contact is None else contact.id,
            made_by=principal.client_id,
            made_at=now,
        )
        await store.add_link(tx, link, hash_secret(token))
        entry = record.Entry(kind="calendar_link.made", partner=code, object_id=link.id, data=_told(link))
        await record.append(tx, [entry], cause=call.cause, ids=deps.ids, now=now)
    return MadeLink(link, token)


async def own_links(deps: RosterDeps, principal: Principal) -> list[StoredLink]:
    """The open private addresses of the caller's own shifts; for roster managers all of their government's."""
    is_manager = principal.has(Role.ROSTER_MANAGER)
    if not is_manager and principal.contact_id is None:
        raise Forbidden("your credential belongs to no contact of your government", code="not_a_contact")
    async with deps.intake.transaction() as tx:
        return await store.find_links(tx, principal.partner, None if is_manager else principal.contact_id)


async def revoke_link(deps: RosterDeps, call: Call, link_id: UUID) -> StoredLink:
    """Ends a private address for ever: one's own, or any of one's government for a roster manager."""
    principal, now = call.principal, deps.clock.now()
    async with deps.intake.transaction() as tx:
        link = await store.load_link(tx, principal.partner, link_id)
        is_own = link is not None and link.contact_id is not None and link.contact_id == principal.contact_id
        if link is None or not (is_own or principal.has(Role.ROSTER_MANAGER)):
            raise missing("calendar link")
        if link.revoked_at is None:
            link = replace(link, revoked_at=now)
            await store.revoke_link(tx, link_id, now=now)
            entry = record.Entry(
                kind="calendar_link.revoked", partner=link.partner, object_id=link.id, data=_told(link)
            )
            await record.append(tx, [entry], cause=call.cause, ids=deps.ids, now=now)
    return link


async def read_link(deps: RosterDeps, token: str, *, known_etag: str | None) -> Linked:
    """What a private address shows today. One that was revoked and one that never was answer alike."""
    now = deps.clock.now()
    if len(token) > TOKEN_CHARACTERS_MAX:
        raise missing("calendar")
    async with deps.intake.transaction() as tx:
        link = await store.find_link(tx, hash_secret(token))
        version = None if link is None else await store.find_version(tx, link.partner)
        if link is not None:
            await store.mark_used(tx, link.id, now=now, before=now - USE_NOTED_EVERY)
    if link is None or version is None:
        raise missing("calendar")
    today = datetime.combine(now.date(), time(0), now.tzinfo)
    etag = _etag_of(link, version[0], today)
    async with deps.intake.transaction() as tx:
        stored = await roster_store.find_without_addresses(tx, link.partner)
    if stored is None or not stored.state.partner.active:
        raise missing("calendar")
    rotas = [rota for rota in stored.state.rotas if link.rota_id in (None, rota.id)]
    contact = next((one for one in stored.state.contacts if one.id == link.contact_id), None)
    if (link.rota_id is not None and not rotas) or (link.contact_id is not None and contact is None):
        raise missing("calendar")
    if stored.version == version[0] and known_etag is not None and etag in known_etag:
        return Linked(etag, None)
    raw = await _written(
        deps,
        stored.state,
        rotas,
        contact,
        window=(today - BEFORE, today + AFTER),
        version=stored.version,
        changed_at=version[1],
    )
    return Linked(_etag_of(link, stored.version, today), raw)


async def _written(
    deps: RosterDeps,
    state: PartnerState,
    rotas: Sequence[Rota],
    contact: Contact | None,
    *,
    window: tuple[datetime, datetime],
    version: int,
    changed_at: datetime,
) -> bytes:
    language = (contact.languages if contact is not None else state.partner.languages)[0]
    words = words_of(language)
    if contact is not None:
        title = words["title_own"]
    else:
        title = words["title_all"].format(rota=rotas[0].name if len(rotas) == 1 else state.partner.name)
    roster = Roster(
        title=title,
        rotas=[(rota, ()) for rota in rotas],
        names={one.id: one.name for one in state.contacts},
        version=version,
        changed_at=changed_at,
        contact_id=None if contact is None else contact.id,
        language=language,
    )
    return await compute(deps.shifts, partial(compute_calendar, roster), *window)


def compute_calendar(roster: Roster, from_at: datetime, to_at: datetime) -> bytes:
    """The calendar with the shifts of a window; for the process that computes shifts."""
    filled = [(rota, shifts(rota, from_at, to_at)) for rota, _ in roster.rotas]
    return write_calendar(replace(roster, rotas=filled))


def _etag_of(link: StoredLink, version: int, today: datetime) -> str:
    told = f"1 {link.id} {version} {today.isoformat()}"
    return f'"{hashlib.sha256(told.encode()).hexdigest()[:32]}"'


def _told(link: StoredLink) -> dict[str, str | None]:
    return {
        "rota_id": None if link.rota_id is None else str(link.rota_id),
        "contact_id": None if link.contact_id is None else str(link.contact_id),
    }


def _rota_of(state: PartnerState, rota_id: UUID) -> Rota:
    found = next((rota for rota in state.rotas if rota.id == rota_id), None)
    if found is None:
        raise missing("rota")
    return found


def _contact_of(state: PartnerState, contact_id: UUID) -> Contact:
    found = next((contact for contact in state.contacts if contact.id == contact_id), None)
    if found is None:
        raise missing("contact")
    return found
