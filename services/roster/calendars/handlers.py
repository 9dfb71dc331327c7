"""What people do with calendars: import a file, subscribe, correct the mapping, refresh, remove.

A calendar is fetched and read outside of any transaction; the transaction then maps what was read over the partner as
it is by then, with its row locked, and writes calendar and shifts together. Everything that a calendar brings goes the
one way of every change of a rota, with its checks, its record and its new duty plan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from services.roster import store as roster_store
from services.roster.calendars import store
from services.roster.calendars.fetching import Failed, Fetched, NotModified
from services.roster.calendars.importing import Brought, basis_of, bring, without_calendar
from services.roster.calendars.mapping import Rule
from services.roster.calendars.model import Reading, Unreadable
from services.roster.calendars.reading import read_calendar
from services.roster.calendars.store import StoredCalendar
from services.roster.domain import PartnerState
from services.roster.handlers import Call, RosterDeps, missing, own_partner, preview_change, save_changed
from services.roster.readiness.telling import managers_of
from services.roster.schedule import CalendarId, ImportedShift, Rota
from services.roster.store import StoredPartner
from services.roster.what_if import Preview
from shared import idempotency, outbox, record
from shared.contracts import NoticeIssued, Role
from shared.db import Transaction
from shared.errors import Conflict, FieldError, Invalid, Rejected
from shared.events import Cause, Event, Message
from shared.idempotency import StoredResponse
from shared.ids import PartnerCode
from shared.log import get_logger
from shared.security import Principal
from shared.web import render_instant

log = get_logger(__name__)

ROTA_CALENDARS_MAX = 5
PARTNER_CALENDARS_MAX = 20
READ_SECONDS_MAX = 8.0
"""A calendar of the greatest size takes about three; one that takes this long was made to."""
TRIES_MAX = 3
LOOKED_AT_EVERY = timedelta(hours=1)
"""So often a subscription is fetched, and a file mapped again if contacts or the rota's zone are others than before."""
READ_EVERY = timedelta(days=1)
"""What is the same as before is read again so often, so that what recurs is always known 399 days ahead."""
JITTER_SECONDS = 600
PATIENCE_FIRST, PATIENCE_MAX = timedelta(minutes=5), timedelta(hours=6)
TOLD_AFTER = timedelta(hours=24)
NOTICE_LASTS = timedelta(days=3)


@dataclass(frozen=True, slots=True)
class Draft:
    """What is imported: the text of a file, or the address of a subscription."""

    name: str
    rules: tuple[Rule, ...]
    content: bytes | None = None
    url: str | None = None


@dataclass(frozen=True, slots=True)
class Edit:
    """What of a calendar is replaced; None stays. A file can be replaced by a newer one of its kind."""

    name: str | None = None
    rules: tuple[Rule, ...] | None = None
    content: bytes | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A calendar after what was done; with `dry_run` the shifts that it would bring and what they would change."""

    calendar: StoredCalendar
    shifts: tuple[ImportedShift, ...] | None = None
    preview: Preview | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """Which calendar of which rota of which partner."""

    code: str
    rota_id: UUID
    calendar_id: UUID


Answer = Callable[[Outcome], StoredResponse]


# --- reading ----------------------------------------------------------------------------------------------------------


async def own_calendars(deps: RosterDeps, principal: Principal, code: str, rota_id: UUID) -> list[StoredCalendar]:
    """The calendars of a rota of the caller's government."""
    stored = await own_partner(deps, principal, code)
    rota_of(stored.state, rota_id)
    async with deps.intake.transaction() as tx:
        return await store.find_calendars(tx, deps.keys, code, rota_id)


async def own_calendar(deps: RosterDeps, principal: Principal, place: Place) -> StoredCalendar:
    """One of them."""
    found = await own_calendars(deps, principal, place.code, place.rota_id)
    calendar = next((one for one in found if one.id == place.calendar_id), None)
    if calendar is None:
        raise missing("calendar")
    return calendar


# --- writing ----------------------------------------------------------------------------------------------------------


async def add_calendar(
    deps: RosterDeps, call: Call, code: str, rota_id: UUID, draft: Draft, *, answer: Answer
) -> StoredResponse:
    """Imports a file, or subscribes to an address: it is fetched now, and what cannot be fetched is refused."""
    seen = await own_partner(deps, call.principal, code, Role.ROSTER_MANAGER)
    rota = rota_of(seen.state, rota_id)
    _require_contacts(seen.state, draft.rules)
    now = deps.clock.now()
    source = await _first_content(deps, draft)
    reading = await read(deps, source.raw, rota.time_zone, now)
    if draft.url is not None and reading.truncated:
        raise Invalid("what the address gives breaks off", code="calendar_not_fetched")
    made = StoredCalendar(
        id=CalendarId(deps.ids.new()),
        partner=PartnerCode(code),
        rota_id=rota.id,
        name=draft.name,
        url=draft.url,
        rules=draft.rules,
        created_at=now,
        next_at=now,
        content=source.raw,
        etag=source.etag,
        last_modified=source.last_modified,
        content_sha256=_sha256(source.raw),
        fetched_at=now if draft.url is not None else None,
    )
    made = replace(made, next_at=next_at_of(made, now))
    if call.dry_run:
        return await _previewed(deps, call, made, reading, now=now, answer=answer)
    async with deps.intake.transaction() as tx:
        if call.attempt is not None and (done := await idempotency.begin(tx, call.attempt, now=now)) is not None:
            return done
        stored = await _loaded(tx, deps, call, code)
        others = await store.find_calendars(tx, deps.keys, code)
        if len(others) >= PARTNER_CALENDARS_MAX:
            raise Conflict(f"you have {len(others)} calendars; remove one", code="too_many_calendars")
        if sum(1 for one in others if one.rota_id == rota_id) >= ROTA_CALENDARS_MAX:
            raise Conflict(f"a rota has at most {ROTA_CALENDARS_MAX} calendars", code="too_many_calendars")
        brought = bring(stored.state, rota_of(stored.state, rota_id), made, reading, now=now)
        messages = await _save(tx, deps, stored, brought, kind="calendar.added", cause=call.cause)
        response = answer(Outcome(brought.calendar))
        if call.attempt is not None:
            await idempotency.finish(tx, call.attempt, response)
    await _told(deps, messages)
    return response


async def edit_calendar(deps: RosterDeps, call: Call, place: Place, edit: Edit, *, answer: Answer) -> StoredResponse:
    """Replaces name, mapping or file, and maps again what was last read."""
    for _ in range(TRIES_MAX):
        seen = await own_partner(deps, call.principal, place.code, Role.ROSTER_MANAGER)
        rota = rota_of(seen.state, place.rota_id)
        now = deps.clock.now()
        old = await _found(deps, place)
        if edit.content is not None and old.url is not None:
            raise Invalid("a subscription has no file; leave text out", field="text")
        if edit.rules is not None:
            _require_contacts(seen.state, edit.rules)
        raw = edit.content if edit.content is not None else old.content or b""
        reading = await read(deps, raw, rota.time_zone, now)
        if call.dry_run:
            call.check_version(old.version)
            return await _previewed(deps, call, _edited(old, edit), reading, now=now, answer=answer)
        async with deps.intake.transaction() as tx:
            stored = await _loaded(tx, deps, call, place.code)
            held = await store.load_calendar(tx, deps.keys, place.code, place.calendar_id)
            if held is None:
                raise missing("calendar")
            call.check_version(held.version)
            if held.content_sha256 != old.content_sha256:
                # It was refreshed between reading and writing, and what was read is not the newest any more.
                continue
            changed = replace(_edited(held, edit), version=held.version + 1)
            brought = bring(stored.state, rota_of(stored.state, place.rota_id), changed, reading, now=now)
            kind = "calendar.recovered" if held.failing_since is not None and changed.failing_since is None else None
            messages = await _save(tx, deps, stored, brought, kind=kind, cause=call.cause)
            differing = [
                field
                for field, is_other in (
                    ("name", changed.name != held.name),
                    ("mapping", changed.rules != held.rules),
                    ("text", changed.content_sha256 != held.content_sha256),
                )
                if is_other
            ]
            await _record(
                tx, deps, brought.calendar, "calendar.changed", cause=call.cause, fields=differing, before=_counts(held)
            )
        await _told(deps, messages)
        return answer(Outcome(brought.calendar))
    raise Conflict("the calendar is being refreshed; try again", code="calendar_busy")


async def remove_calendar(deps: RosterDeps, call: Call, place: Place, *, answer: Answer) -> StoredResponse:
    """Removes a calendar with every shift that it brought."""
    now = deps.clock.now()
    if call.dry_run:
        await own_partner(deps, call.principal, place.code, Role.ROSTER_MANAGER)
        old = await _found(deps, place)
        call.check_version(old.version)
        unversioned = replace(call, check_version=lambda _: None)
        _, preview = await preview_change(
            deps,
            unversioned,
            place.code,
            lambda state: without_calendar(state, rota_of(state, place.rota_id), place.calendar_id),
        )
        return answer(Outcome(old, (), preview))
    async with deps.intake.transaction() as tx:
        stored = await _loaded(tx, deps, call, place.code)
        rota = rota_of(stored.state, place.rota_id)
        held = await store.load_calendar(tx, deps.keys, place.code, place.calendar_id)
        if held is None or held.rota_id != place.rota_id:
            raise missing("calendar")
        call.check_version(held.version)
        after = without_calendar(stored.state, rota, place.calendar_id)
        _, messages = await save_changed(tx, deps, stored, after, cause=call.cause, now=now)
        await store.remove_calendar(tx, place.calendar_id)
        await _record(tx, deps, held, "calendar.removed", cause=call.cause)
    await _told(deps, messages)
    return answer(Outcome(held))


async def refresh_calendar(deps: RosterDeps, call: Call, place: Place, *, answer: Answer) -> StoredResponse:
    """Fetches a subscription now, or reads a file again. Whether it went well stands in the calendar."""
    await own_partner(deps, call.principal, place.code, Role.ROSTER_MANAGER)
    await _found(deps, place)
    await refresh(deps, place.calendar_id, call.cause, is_asked_for=True)
    return answer(Outcome(await _found(deps, place)))


# --- refreshing -------------------------------------------------------------------------------------------------------


async def refresh(deps: RosterDeps, calendar_id: UUID, cause: Cause, *, is_asked_for: bool = False) -> None:
    """Brings one calendar up to date; what fails is kept with the calendar, and its shifts stay as they were."""
    async with deps.database.transaction() as tx:
        old = await store.find_calendar(tx, deps.keys, calendar_id)
    if old is None:
        return
    async with deps.database.transaction() as tx:
        seen = await roster_store.find_partner(tx, deps.keys, old.partner)
    rota = None if seen is None else next((one for one in seen.state.rotas if one.id == old.rota_id), None)
    if seen is None or rota is None:
        await _forget(deps, old, cause)
        return
    now = deps.clock.now()
    source: Fetched | Failed | NotModified = NotModified()
    if old.url is not None:
        source = await deps.calendars.fetch(old.url, etag=old.etag, last_modified=old.last_modified)
    if isinstance(source, Failed):
        await _failed(deps, old, source, cause)
        return
    raw = source.raw if isinstance(source, Fetched) else old.content or b""
    is_same = _sha256(raw) == old.content_sha256 and basis_of(seen.state, rota, old) == old.findings.basis
    is_fresh = old.read_at is not None and now - old.read_at < READ_EVERY and old.failing_since is None
    fetched = _fetched(old, source, raw, now)
    if is_same and is_fresh and not is_asked_for:
        await _keep(deps, fetched)
        return
    try:
        reading = await read(deps, raw, rota.time_zone, now)
    except Invalid as refusal:
        await _failed(deps, old, Failed(refusal.code, refusal.detail), cause)
        return
    if old.url is not None and reading.truncated:
        await _failed(deps, old, Failed("truncated", "what the address gives breaks off"), cause)
        return
    await _take_over(deps, fetched, reading, cause, now)


async def _take_over(deps: RosterDeps, fetched: StoredCalendar, reading: Reading, cause: Cause, now: datetime) -> None:
    trouble: Failed | None = None
    messages: list[Message[Event]] = []
    try:
        async with deps.database.transaction() as tx:
            stored = await roster_store.load_partner(tx, deps.keys, fetched.partner)
            held = await store.load_calendar(tx, deps.keys, fetched.partner, fetched.id)
            if stored is None or held is None:
                return
            if _is_overtaken(fetched, held):
                return
            # Name and mapping may have been edited since.
            changed = replace(fetched, name=held.name, rules=held.rules, version=held.version)
            brought = bring(stored.state, rota_of(stored.state, held.rota_id), changed, reading, now=now)
            if held.url is not None and brought.is_empty_now:
                trouble = Failed("calendar_emptied", "it has no shift ahead any more; the last ones are kept")
            else:
                kind = "calendar.recovered" if held.failing_since is not None else None
                messages = await _save(tx, deps, stored, brought, kind=kind, cause=cause)
    except Rejected as refusal:
        trouble = Failed("does_not_fit", refusal.detail)
    if trouble is not None:
        await _failed(deps, fetched, trouble, cause)
        return
    await _told(deps, messages)


def _is_overtaken(fetched: StoredCalendar, held: StoredCalendar) -> bool:
    """Whether somebody has put a newer file in the place of the one that was read, or fetched the calendar later."""
    if held.url is None:
        return held.content_sha256 != fetched.content_sha256
    return held.fetched_at is not None and fetched.fetched_at is not None and fetched.fetched_at < held.fetched_at


async def read(deps: RosterDeps, raw: bytes, zone: str, now: datetime) -> Reading:
    """What a calendar says, read in the process for files; `Invalid` for what is none, and for what takes too long."""
    try:
        found = await deps.files.run(READ_SECONDS_MAX, partial(read_calendar, zone=zone, now=now), raw)
    except (TimeoutError, MemoryError):
        detail = f"the calendar takes longer than {READ_SECONDS_MAX:g} s to read; leave out what is long past"
        raise Invalid(detail, code="calendar_too_costly") from None
    if isinstance(found, Unreadable):
        raise Invalid(found.detail, code=found.code)
    return found


def rota_of(state: PartnerState, rota_id: UUID) -> Rota:
    """The rota of this id; `NotFound` if there is none."""
    found = next((rota for rota in state.rotas if rota.id == rota_id), None)
    if found is None:
        raise missing("rota")
    return found


def next_at_of(calendar: StoredCalendar, now: datetime) -> datetime:
    """When a calendar that is well is read again: not all of them in the same minute."""
    return now + LOOKED_AT_EVERY + timedelta(seconds=calendar.id.int % JITTER_SECONDS - JITTER_SECONDS // 2)


def patience_after(failures: int) -> timedelta:
    """How long a calendar that failed so often in a row is left alone."""
    return min(PATIENCE_FIRST * (1 << min(failures - 1, 10)), PATIENCE_MAX)


# --- parts ------------------------------------------------------------------------------------------------------------


async def _first_content(deps: RosterDeps, draft: Draft) -> Fetched:
    if draft.url is None:
        return Fetched(draft.content or b"", None, None)
    source = await deps.calendars.fetch(draft.url, etag=None, last_modified=None)
    if isinstance(source, Fetched):
        return source
    detail = source.detail if isinstance(source, Failed) else "the server says that nothing has changed"
    raise Invalid(f"the calendar could not be fetched: {detail}", code="calendar_not_fetched", field="url")


def _require_contacts(state: PartnerState, rules: Sequence[Rule]) -> None:
    known = {contact.id for contact in state.contacts}
    faults = [
        FieldError(f"mapping[{number}].contact_id", "is no contact of yours", "unknown")
        for number, rule in enumerate(rules)
        if rule.contact_id not in known
    ]
    if faults:
        raise Invalid("The mapping names somebody who is not there.", errors=faults)


async def _loaded(tx: Transaction, deps: RosterDeps, call: Call, code: str) -> StoredPartner:
    found = await roster_store.load_partner(tx, deps.keys, code) if call.principal.partner == code else None
    if found is None:
        raise missing()
    call.principal.require(Role.ROSTER_MANAGER)
    return found


async def _found(deps: RosterDeps, place: Place) -> StoredCalendar:
    async with deps.intake.transaction() as tx:
        found = await store.find_calendar(tx, deps.keys, place.calendar_id)
    if found is None or (found.partner, found.rota_id) != (place.code, place.rota_id):
        raise missing("calendar")
    return found


async def _previewed(
    deps: RosterDeps, call: Call, calendar: StoredCalendar, reading: Reading, *, now: datetime, answer: Answer
) -> StoredResponse:
    brought: list[Brought] = []

    def change(state: PartnerState) -> PartnerState:
        brought.append(bring(state, rota_of(state, calendar.rota_id), calendar, reading, now=now))
        return brought[-1].state

    unversioned = replace(call, check_version=lambda _: None)
    _, preview = await preview_change(deps, unversioned, calendar.partner, change)
    return answer(Outcome(brought[-1].calendar, brought[-1].mapped.shifts, preview))


def _edited(old: StoredCalendar, edit: Edit) -> StoredCalendar:
    changed = replace(
        old,
        name=edit.name if edit.name is not None else old.name,
        rules=edit.rules if edit.rules is not None else old.rules,
    )
    if old.url is None:
        # It has just been read, and fits.
        changed = _well(changed)
    if edit.content is None:
        return changed
    return replace(changed, content=edit.content, content_sha256=_sha256(edit.content))


def _well(calendar: StoredCalendar) -> StoredCalendar:
    return replace(calendar, failing_since=None, failures=0, reason=None, detail=None, told_at=None)


def _fetched(old: StoredCalendar, source: Fetched | NotModified, raw: bytes, now: datetime) -> StoredCalendar:
    """The calendar after a fetch that went well."""
    fetched = replace(_well(old), content=raw, content_sha256=_sha256(raw), next_at=next_at_of(old, now))
    if old.url is None:
        return fetched
    fetched = replace(fetched, fetched_at=now)
    if isinstance(source, NotModified):
        return fetched
    return replace(fetched, etag=source.etag, last_modified=source.last_modified)


async def _keep(deps: RosterDeps, fetched: StoredCalendar) -> None:
    async with deps.database.transaction() as tx:
        held = await store.load_calendar(tx, deps.keys, fetched.partner, fetched.id)
        if held is not None:
            kept = replace(
                held,
                fetched_at=fetched.fetched_at,
                next_at=fetched.next_at,
                etag=fetched.etag,
                last_modified=fetched.last_modified,
            )
            await store.save_calendar(tx, deps.keys, kept)


async def _failed(deps: RosterDeps, old: StoredCalendar, trouble: Failed, cause: Cause) -> None:
    """Keeps that the calendar fails, and tells its roster managers once when it has failed for a day."""
    now = deps.clock.now()
    messages: list[Message[Event]] = []
    async with deps.database.transaction() as tx:
        stored = await roster_store.load_partner(tx, deps.keys, old.partner)
        held = await store.load_calendar(tx, deps.keys, old.partner, old.id)
        if stored is None or held is None:
            return
        failing = replace(
            held,
            failing_since=held.failing_since or now,
            failures=held.failures + 1,
            reason=trouble.reason,
            detail=trouble.detail,
            next_at=now + patience_after(held.failures + 1),
        )
        if held.failing_since is None:
            await _record(tx, deps, failing, "calendar.failing", cause=cause, reason=trouble.reason)
        if failing.told_at is None and failing.failing_since is not None and now - failing.failing_since >= TOLD_AFTER:
            failing = replace(failing, told_at=now)
            notice = _notice(deps, stored.state, failing, now)
            messages = await outbox.append(tx, [notice], cause=cause, ids=deps.ids, now=now)
        await store.save_calendar(tx, deps.keys, failing)
    await deps.relay.publish(messages)
    log.warning("calendar.failing", calendar_id=str(old.id), partner=old.partner, reason=trouble.reason)


def _notice(deps: RosterDeps, state: PartnerState, calendar: StoredCalendar, now: datetime) -> NoticeIssued:
    managers = managers_of(state.credentials)
    rota = rota_of(state, calendar.rota_id)
    facts = {"rota": rota.name, "calendar": calendar.name, "reason": calendar.reason or ""}
    if calendar.failing_since is not None:
        facts["since_at"] = render_instant(calendar.failing_since)
    return NoticeIssued(
        notice_id=deps.ids.new(),
        partner=state.partner.code,
        kind="calendar_trouble",
        contact_ids=managers,
        # Somebody has to hear of it.
        to_office=not managers,
        facts=facts,
        issued_at=now,
        expires_at=now + NOTICE_LASTS,
    )


async def _forget(deps: RosterDeps, calendar: StoredCalendar, cause: Cause) -> None:
    """The calendar's rota is gone, and its shifts with it."""
    async with deps.database.transaction() as tx:
        await store.remove_calendar(tx, calendar.id)
        await _record(tx, deps, calendar, "calendar.removed", cause=cause)


async def _save(
    tx: Transaction, deps: RosterDeps, stored: StoredPartner, brought: Brought, *, kind: str | None, cause: Cause
) -> list[Message[Event]]:
    now = deps.clock.now()
    _, messages = await save_changed(tx, deps, stored, brought.state, cause=cause, now=now)
    await store.save_calendar(tx, deps.keys, brought.calendar)
    if kind is not None:
        await _record(tx, deps, brought.calendar, kind, cause=cause)
    return messages


async def _record(
    tx: Transaction, deps: RosterDeps, calendar: StoredCalendar, kind: str, *, cause: Cause, **more: Any
) -> None:
    data = {
        "rota_id": str(calendar.rota_id),
        "source": "subscription" if calendar.url is not None else "file",
        "after": _counts(calendar),
        **more,
    }
    entry = record.Entry(kind=kind, partner=calendar.partner, object_id=calendar.id, data=data)
    await record.append(tx, [entry], cause=cause, ids=deps.ids, now=deps.clock.now())


def _counts(calendar: StoredCalendar) -> dict[str, int]:
    """What the record keeps of a calendar: its texts name people."""
    return {"rules": len(calendar.rules), "shifts": calendar.shifts, "unmapped": calendar.unmapped}


async def _told(deps: RosterDeps, messages: list[Message[Event]]) -> None:
    await deps.relay.publish(messages)
    deps.wake("plans")


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()
