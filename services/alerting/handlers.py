"""What HTTP asks of alerting and what the bus tells it; SUBSCRIPTIONS at the end.

Every handler shows the same lines: transaction → key or inbox → load with lock → decide → write → commit, and only then
publish and answer. Whoever may not know of an alert is told that there is none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.alerting import domain, journal, store, views
from services.alerting.content import Proposal
from services.alerting.domain import Alert, Caller, Crisis, CrisisState
from services.alerting.visibility import Access, Viewer, access
from shared import idempotency, inbox, outbox, record, security
from shared.contracts import (
    ContactPointFailing,
    ContactPointRecovered,
    CredentialsPublished,
    EscalationKind,
    EscalationsEnded,
    EscalationsStarted,
    LevelRaised,
    PartnerAcknowledged,
    PartnerChanged,
    PartnerNotified,
    PartnerTakenOver,
    PartnerUnreached,
    PositionTaken,
    Precedence,
    Tlp,
)
from shared.db import Transaction
from shared.errors import Conflict, Forbidden, Invalid, NotFound
from shared.events import Cause, Event, Message
from shared.idempotency import Attempt, StoredResponse
from shared.ids import AlertId, CrisisId
from shared.log import get_logger
from shared.process import Deps
from shared.security import Principal
from shared.web import etag_of

log = get_logger(__name__)

UUID_VERSION = 7
"""Ids that callers supply sort by time like our own."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request: who asks, why, under which key (None: without one), and the hash of what it asks."""

    principal: Principal
    cause: Cause
    request_sha256: str
    attempt: Attempt | None = None

    @property
    def by(self) -> Caller:
        """Who asks, as the rules see them."""
        return Caller(actor=self.principal.actor(), roles=self.principal.roles)

    @property
    def viewer(self) -> Viewer:
        """Who asks, as what is shown sees them."""
        return Viewer(partner=self.principal.partner, roles=self.principal.roles)


# --- what HTTP asks ---------------------------------------------------------------------------------------------------


async def draft_alert(
    deps: Deps,
    call: Call,
    proposal: Proposal,
    *,
    alert_id: UUID | None = None,
    crisis_id: UUID | None = None,
    self_release_reason: str | None = None,
    left_out: Sequence[str] = (),
) -> StoredResponse:
    """Drafts an alert (201), or releases it at once for an officer who is alone and says why (202).

    `left_out` names what a message from elsewhere said and an alert cannot hold; the answer repeats it in a header.
    """
    now = deps.clock.now()
    alone = self_release_reason is not None
    domain.may_draft(call.by, alone=alone)
    async with deps.intake.transaction() as tx:
        if (stored := await _begin(tx, call, now)) is not None:
            return stored
        if (existing := await _created_before(tx, call, alert_id)) is not None:
            return await _kept(tx, call, _answer(202 if alone else 201, existing, call))
        crisis = await _crisis_to_join(tx, call, crisis_id)
        number, partners = await store.next_number(tx, call.principal.partner, now.year)
        alert = domain.draft(
            proposal,
            alert_id=AlertId(alert_id or deps.ids.new()),
            crisis_id=crisis.id if crisis is not None else CrisisId(deps.ids.new()),
            reference=domain.reference_of(call.principal.partner, now.year, number),
            by=call.by,
            partners=partners,
            now=now,
            alone=alone,
        )
        opened = [] if crisis is not None else [domain.crisis_of_alert(alert, by=call.by, now=now)]
        entries, messages = [journal.drafted_entry(deps, alert, now)], []
        records = [*map(journal.crisis_opened, opened), journal.about(alert, "alert.drafted", **journal.facts(alert))]
        if self_release_reason is not None:
            released = domain.self_release(alert, reason=self_release_reason, by=call.by, partners=partners, now=now)
            alert = released.alert
            messages = outbox.wrap([released.event], cause=call.cause, ids=deps.ids, now=now)
            entries += [journal.entry_of(message, alert) for message in messages]
            records.append(journal.released_record(alert))
        answer = _answer(202 if alone else 201, alert, call, left_out=left_out)
        await store.write(
            tx,
            new=[(alert, call.request_sha256)],
            opened=opened,
            entries=entries,
            messages=messages,
            records=journal.record_rows(deps, records, call.cause, now),
            answer=(call.attempt, answer),
        )
    await _published(deps, messages)
    return answer


async def edit_alert(
    deps: Deps, call: Call, alert_id: UUID, proposal: Proposal, *, check_version: Callable[[int], None]
) -> StoredResponse:
    """Changes a draft. `check_version` is given the version that is there, and raises if the caller saw another."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        before = await _own_alert(tx, call, alert_id)
        check_version(before.version)
        predecessor = await _predecessor(tx, before)
        partners = await store.known_partners(tx)
        alert = domain.edit(before, proposal, by=call.by, partners=partners, predecessor=predecessor, now=now)
        answer = _answer(200, alert, call)
        if alert.corrects is None:
            await store.follow_draft(tx, domain.crisis_of_alert(alert, by=call.by, now=now))
        await store.write(
            tx,
            changed=[alert],
            entries=[journal.local_entry(deps, alert, "alert_edited", {"by": call.principal.name}, now)],
            records=journal.record_rows(
                deps, [journal.about(alert, "alert.edited", **journal.facts(alert))], call.cause, now
            ),
        )
    await _published(deps, [])
    return answer


async def draft_update(
    deps: Deps,
    call: Call,
    alert_id: UUID,
    proposal: Proposal,
    *,
    asks_anew: bool,
    update_id: UUID | None = None,
    self_release_reason: str | None = None,
) -> StoredResponse:
    """Drafts a correction of a released alert (201), or releases it at once with a reason (202)."""
    now = deps.clock.now()
    alone = self_release_reason is not None
    async with deps.intake.transaction() as tx:
        if (stored := await _begin(tx, call, now)) is not None:
            return stored
        if (existing := await _created_before(tx, call, update_id)) is not None:
            return await _kept(tx, call, _answer(202 if alone else 201, existing, call))
        corrected = await _own_alert(tx, call, alert_id)
        number, partners = await store.next_number(tx, call.principal.partner, now.year)
        alert = domain.draft_update(
            corrected,
            proposal,
            alert_id=AlertId(update_id or deps.ids.new()),
            reference=domain.reference_of(call.principal.partner, now.year, number),
            asks_anew=asks_anew,
            by=call.by,
            partners=partners,
            now=now,
        )
        changed: list[Alert] = []
        entries, messages = [journal.drafted_entry(deps, alert, now)], []
        records = [journal.about(alert, "alert.drafted", **journal.facts(alert))]
        if self_release_reason is not None:
            released = domain.self_release(
                alert, reason=self_release_reason, by=call.by, partners=partners, predecessor=corrected, now=now
            )
            alert, changed = released.alert, _superseded(released)
            messages = outbox.wrap([released.event], cause=call.cause, ids=deps.ids, now=now)
            entries += [journal.entry_of(message, alert) for message in messages]
            entries += [journal.superseded_entry(deps, before, alert, now) for before in changed]
            records += [journal.released_record(alert), *map(journal.superseded_record, changed)]
        answer = _answer(202 if alone else 201, alert, call)
        await store.write(
            tx,
            new=[(alert, call.request_sha256)],
            changed=changed,
            entries=entries,
            messages=messages,
            records=journal.record_rows(deps, records, call.cause, now),
            answer=(call.attempt, answer),
        )
    await _published(deps, messages)
    return answer


async def release_alert(
    deps: Deps, call: Call, alert_id: UUID, *, precedence: Precedence, self_release_reason: str | None = None
) -> StoredResponse:
    """Releases a draft: by a second person who confirms the precedence, or alone with a reason."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        if (stored := await _begin(tx, call, now)) is not None:
            return stored
        before = await _own_alert(tx, call, alert_id)
        predecessor = await _predecessor(tx, before)
        partners = await store.known_partners(tx)
        if self_release_reason is None:
            released = domain.release(
                before, precedence=precedence, by=call.by, partners=partners, predecessor=predecessor, now=now
            )
        else:
            domain.confirm_precedence(before, precedence)
            released = domain.self_release(
                before, reason=self_release_reason, by=call.by, partners=partners, predecessor=predecessor, now=now
            )
        alert, superseded = released.alert, _superseded(released)
        messages = outbox.wrap([released.event], cause=call.cause, ids=deps.ids, now=now)
        answer = _answer(202, alert, call)
        await store.write(
            tx,
            changed=[alert, *superseded],
            entries=[
                *(journal.entry_of(message, alert) for message in messages),
                *(journal.superseded_entry(deps, before, alert, now) for before in superseded),
            ],
            messages=messages,
            records=journal.record_rows(
                deps, [journal.released_record(alert), *map(journal.superseded_record, superseded)], call.cause, now
            ),
            answer=(call.attempt, answer),
        )
    await _published(deps, messages)
    return answer


async def add_recipients(
    deps: Deps,
    call: Call,
    alert_id: UUID,
    *,
    to: Iterable[str],
    for_information: Iterable[str],
    self_release_reason: str | None = None,
) -> StoredResponse:
    """Addresses a released alert to more partners; those who were addressed before stay as they are."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        if (stored := await _begin(tx, call, now)) is not None:
            return stored
        before = await _own_alert(tx, call, alert_id)
        grown = domain.add_recipients(
            before,
            to=to,
            for_information=for_information,
            by=call.by,
            partners=await store.known_partners(tx),
            reason=self_release_reason,
            now=now,
        )
        alert = before if grown is None else grown.alert
        events = [] if grown is None else [grown.event]
        messages = outbox.wrap(events, cause=call.cause, ids=deps.ids, now=now)
        added = sorted(alert.addressed - before.addressed)
        about = journal.about(alert, "alert.recipients_added", added=added, self_release_reason=self_release_reason)
        answer = _answer(202, alert, call)
        await store.write(
            tx,
            changed=[alert] if events else [],
            entries=[journal.entry_of(message, alert) for message in messages],
            messages=messages,
            records=journal.record_rows(deps, [about] if events else [], call.cause, now),
            answer=(call.attempt, answer),
        )
    await _published(deps, messages)
    return answer


async def cancel_alert(
    deps: Deps, call: Call, alert_id: UUID, *, note: str, self_release_reason: str | None = None
) -> StoredResponse:
    """Recalls a released alert: everyone whom it reached is told, and every escalation of it ends."""

    def decide(alert: Alert, now: datetime) -> domain.Ending:
        return domain.cancel(alert, note=note, by=call.by, reason=self_release_reason, now=now)

    return await _end(deps, call, alert_id, decide, reason=self_release_reason)


async def close_alert(
    deps: Deps, call: Call, alert_id: UUID, *, note: str | None = None, self_release_reason: str | None = None
) -> StoredResponse:
    """Stands a released alert down: it is over, and no answer is owed any more."""

    def decide(alert: Alert, now: datetime) -> domain.Ending:
        return domain.close(alert, note=note, by=call.by, reason=self_release_reason, now=now)

    return await _end(deps, call, alert_id, decide, reason=self_release_reason)


async def _end(
    deps: Deps,
    call: Call,
    alert_id: UUID,
    decide: Callable[[Alert, datetime], domain.Ending],
    *,
    reason: str | None,
) -> StoredResponse:
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        if (stored := await _begin(tx, call, now)) is not None:
            return stored
        ending = decide(await _own_alert(tx, call, alert_id), now)
        messages = outbox.wrap([ending.event], cause=call.cause, ids=deps.ids, now=now)
        answer = _answer(202, ending.alert, call)
        await store.write(
            tx,
            changed=[ending.alert],
            entries=[journal.entry_of(message, ending.alert) for message in messages],
            messages=messages,
            records=journal.record_rows(deps, [journal.ended_record(ending.alert, reason)], call.cause, now),
            answer=(call.attempt, answer),
        )
    await _published(deps, messages)
    return answer


async def open_crisis(
    deps: Deps,
    call: Call,
    *,
    name: str,
    countries: Iterable[str],
    tlp: Tlp,
    state: CrisisState,
    crisis_id: UUID | None = None,
) -> StoredResponse:
    """Opens a crisis of the caller's partner (201)."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        if (stored := await _begin(tx, call, now)) is not None:
            return stored
        if crisis_id is not None:
            _check_id(crisis_id)
            if (found := await store.find_crisis_request(tx, crisis_id)) is not None:
                _same_request(found, call)
                existing = await store.find_crisis(tx, call.viewer, crisis_id)
                if existing is None:
                    raise NotFound("there is no such crisis")
                return await _kept(tx, call, _crisis_answer(201, existing))
        crisis = domain.open_crisis(
            crisis_id=CrisisId(crisis_id or deps.ids.new()),
            name=name,
            countries=countries,
            tlp=tlp,
            state=state,
            by=call.by,
            now=now,
        )
        await store.save_crisis(tx, crisis, request_sha256=call.request_sha256)
        await record.append(tx, [journal.crisis_opened(crisis)], cause=call.cause, ids=deps.ids, now=now)
        return await _kept(tx, call, _crisis_answer(201, crisis))


async def move_crisis(
    deps: Deps, call: Call, crisis_id: UUID, state: CrisisState, *, check_version: Callable[[int], None]
) -> StoredResponse:
    """Moves a crisis of the caller's partner on."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        before = await store.find_crisis(tx, call.viewer, crisis_id, lock=True)
        if before is None:
            raise NotFound("there is no such crisis")
        if before.owner != call.principal.partner:
            raise Forbidden("a crisis is moved by the partner that opened it", code="not_yours")
        check_version(before.version)
        crisis = domain.move_crisis(before, state, by=call.by, now=now)
        if crisis.version != before.version:
            await store.save_crisis(tx, crisis)
            moved = record.Entry(
                kind="crisis.moved",
                partner=crisis.owner,
                object_id=crisis.id,
                data={"before": before.state.value, "after": crisis.state.value},
            )
            await record.append(tx, [moved], cause=call.cause, ids=deps.ids, now=now)
    return _crisis_answer(200, crisis)


# --- what the bus tells -----------------------------------------------------------------------------------------------


async def on_partner_changed(deps: Deps, message: Message[PartnerChanged]) -> None:
    """Keeps who the partners are, so that an audience can be checked while roster is down."""
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(PartnerChanged), message_id=message.id, now=now):
            return
        await store.save_partner(tx, message.body)


async def on_credentials_published(deps: Deps, message: Message[CredentialsPublished]) -> None:
    """Keeps a partner's credentials, so that tokens are given and checked while roster is down."""
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(CredentialsPublished), message_id=message.id, now=now):
            return
        await security.on_credentials_published(tx, message.body)


async def on_escalations_started(deps: Deps, message: Message[EscalationsStarted]) -> None:
    """Notes whose escalations are open, so that nobody has to be told again, and shows it."""
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(EscalationsStarted), message_id=message.id, now=now):
            return
        opened = [e.partner for e in message.body.escalations if e.kind is not EscalationKind.TAKEOVER]
        await store.confirm(tx, message.body.alert_id, opened)
        await store.add_entries(tx, [journal.told_entry(message, message.body.alert_id)])
    deps.wake("timeline")


async def on_answer(deps: Deps, message: Message[Any]) -> None:
    """Puts what came back on the alert's timeline, and so on the stream: only to be shown."""
    now = deps.clock.now()
    event = message.body
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(type(event)), message_id=message.id, now=now):
            return
        if event.alert_id is not None:
            await store.add_entries(tx, [journal.told_entry(message, event.alert_id)])
    deps.wake("timeline")


# --- the lines that handlers share ------------------------------------------------------------------------------------


async def _begin(tx: Transaction, call: Call, now: datetime) -> StoredResponse | None:
    return None if call.attempt is None else await idempotency.begin(tx, call.attempt, now=now)


async def _kept(tx: Transaction, call: Call, answer: StoredResponse) -> StoredResponse:
    """The answer, kept with the request's key if it has one: a key that is begun and never finished is never free."""
    if call.attempt is not None:
        await idempotency.finish(tx, call.attempt, answer)
    return answer


async def _published(deps: Deps, messages: list[Message[Event]]) -> None:
    """After the commit: the stream is woken, and the events go out at once; the relay finds what that misses."""
    deps.wake("timeline")
    await deps.relay.publish(messages)


async def _own_alert(tx: Transaction, call: Call, alert_id: UUID) -> Alert:
    """The alert, locked, if it is of the caller's partner; whoever may not know of it is told that there is none."""
    alert = await store.load_alert(tx, alert_id)
    granted = Access.NONE if alert is None else access(call.viewer, alert)
    if alert is None or granted is Access.NONE:
        raise NotFound("there is no such alert")
    if granted is not Access.OWN:
        raise Forbidden("only the partner that raised an alert changes it", code="not_yours")
    return alert


async def _predecessor(tx: Transaction, alert: Alert) -> Alert | None:
    return None if alert.corrects is None else await store.load_alert(tx, alert.corrects)


async def _created_before(tx: Transaction, call: Call, alert_id: UUID | None) -> Alert | None:
    """The alert that the same request has created under this id before; raises `Conflict` for another's id."""
    if alert_id is None:
        return None
    _check_id(alert_id)
    found = await store.find_request(tx, alert_id)
    if found is None:
        return None
    _same_request(found, call)
    return await _own_alert(tx, call, alert_id)


def _check_id(given: UUID) -> None:
    if given.version != UUID_VERSION:
        raise Invalid("an id that you supply is a UUID of version 7", code="not_uuid7", field="id")


def _same_request(found: tuple[str, str | None], call: Call) -> None:
    if found != (call.principal.partner, call.request_sha256):
        raise Conflict("this id is taken by something else; make a new one", code="id_taken", field="id")


async def _crisis_to_join(tx: Transaction, call: Call, crisis_id: UUID | None) -> Crisis | None:
    if crisis_id is None:
        return None
    crisis = await store.find_crisis(tx, call.viewer, crisis_id)
    if crisis is None:
        raise Invalid(
            "there is no such crisis; leave crisis_id out to open one", code="unknown_crisis", field="crisis_id"
        )
    domain.may_join(crisis)
    return crisis


def _superseded(released: domain.Release) -> list[Alert]:
    return [] if released.superseded is None else [released.superseded]


def _answer(status: int, alert: Alert, call: Call, *, left_out: Sequence[str] = ()) -> StoredResponse:
    view = views.alert_view(alert, call.viewer)
    assert view is not None, "whoever may change an alert reads it"
    headers = {"ETag": etag_of(alert.version), "Location": f"/v1/alerts/{alert.id}"}
    if left_out:
        headers["Redphone-Left-Out"] = ", ".join(left_out)
    return StoredResponse.json(status, view, headers)


def _crisis_answer(status: int, crisis: Crisis) -> StoredResponse:
    headers = {"ETag": etag_of(crisis.version), "Location": f"/v1/crises/{crisis.id}"}
    return StoredResponse.json(status, views.crisis_view(crisis), headers)


SUBSCRIPTIONS: dict[type[Event], Callable[[Any, Message[Any]], Awaitable[None]]] = {
    PartnerChanged: on_partner_changed,
    CredentialsPublished: on_credentials_published,
    EscalationsStarted: on_escalations_started,
    PartnerNotified: on_answer,
    LevelRaised: on_answer,
    PartnerAcknowledged: on_answer,
    PositionTaken: on_answer,
    PartnerUnreached: on_answer,
    PartnerTakenOver: on_answer,
    EscalationsEnded: on_answer,
    ContactPointFailing: on_answer,
    ContactPointRecovered: on_answer,
}
