"""What HTTP asks of alerting and what the bus tells it; SUBSCRIPTIONS at the end.

Every handler shows the same lines: transaction → key or inbox → load with lock → decide → write → commit, and only then
publish and answer. Whoever may not know of an alert is told that there is none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from services.alerting import domain, journal, store, views
from services.alerting.calls import Call, begin, check_id, kept, same_request
from services.alerting.content import Proposal
from services.alerting.crises.domain import crisis_of_alert
from services.alerting.crises.handlers import crisis_to_join
from services.alerting.domain import Alert
from services.alerting.visibility import Access, access
from shared import idempotency, inbox, outbox, security
from shared.contracts import (
    AlertReleased,
    AnswerCodeLocked,
    ContactPointFailing,
    ContactPointRecovered,
    CoverageGoalMet,
    CoverageGoalMissed,
    CredentialsPublished,
    DeadlinesChanged,
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
    QuestionAnswered,
    QuestionAsked,
    ReadBackConfirmed,
    ReadBackGiven,
    Status,
)
from shared.db import Transaction
from shared.errors import Forbidden, NotFound
from shared.events import Event, Message
from shared.idempotency import StoredResponse
from shared.ids import AlertId, CrisisId
from shared.log import get_logger
from shared.process import Deps
from shared.together import Together
from shared.web import etag_of

log = get_logger(__name__)


def any_version(_version: int) -> None:
    """The `check_version` of a caller who did not say which version they had seen."""


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
    if alert_id is not None:
        check_id(alert_id)
    async with deps.intake.transaction() as tx:
        begun = await store.begin_alert(
            tx, call.attempt, alert_id=alert_id, raiser=call.principal.partner, year=now.year, now=now
        )
        if call.attempt is not None and not begun.holds_key:
            return await idempotency.first_answer(tx, call.attempt)
        if alert_id is not None and begun.made_by is not None:
            same_request(begun.made_by, call)
            existing = await _own_alert(tx, call, alert_id)
            return await kept(tx, call, _answer(202 if alone else 201, existing, call))
        crisis = await crisis_to_join(tx, call, crisis_id)
        number, network = begun.number, begun.network
        assert number is not None, "a new request is given a number"
        alert = domain.draft(
            proposal,
            alert_id=AlertId(alert_id or deps.ids.new()),
            crisis_id=crisis.id if crisis is not None else CrisisId(deps.ids.new()),
            reference=domain.reference_of(call.principal.partner, now.year, number),
            by=call.by,
            network=network,
            now=now,
            alone=alone,
        )
        opened = [] if crisis is not None else [crisis_of_alert(alert, by=call.by, now=now)]
        entries, messages = [journal.drafted_entry(deps, alert, now)], []
        records = [*map(journal.crisis_opened, opened), journal.about(alert, "alert.drafted", **journal.facts(alert))]
        if self_release_reason is not None:
            released = domain.self_release(alert, reason=self_release_reason, by=call.by, network=network, now=now)
            alert = released.alert
            messages = outbox.wrap([released.event], cause=call.cause, ids=deps.ids, now=now)
            entries += [journal.entry_of(message, alert) for message in messages]
            records.append(journal.released_record(alert))
        else:
            messages = outbox.wrap([domain.release_asked(alert)], cause=call.cause, ids=deps.ids, now=now)
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
        network = await store.known_network(tx)
        alert = domain.edit(before, proposal, by=call.by, network=network, predecessor=predecessor, now=now)
        answer = _answer(200, alert, call)
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
        if (stored := await begin(tx, call, now)) is not None:
            return stored
        if (existing := await _created_before(tx, call, update_id)) is not None:
            return await kept(tx, call, _answer(202 if alone else 201, existing, call))
        corrected = await _own_alert(tx, call, alert_id)
        number, network = await store.next_number(tx, call.principal.partner, now.year)
        alert = domain.draft_update(
            corrected,
            proposal,
            alert_id=AlertId(update_id or deps.ids.new()),
            reference=domain.reference_of(call.principal.partner, now.year, number),
            asks_anew=asks_anew,
            by=call.by,
            network=network,
            now=now,
        )
        changed: list[Alert] = []
        entries, messages = [journal.drafted_entry(deps, alert, now)], []
        records = [journal.about(alert, "alert.drafted", **journal.facts(alert))]
        if self_release_reason is not None:
            released = domain.self_release(
                alert, reason=self_release_reason, by=call.by, network=network, predecessor=corrected, now=now
            )
            alert, changed = released.alert, _superseded(released)
            messages = outbox.wrap([released.event], cause=call.cause, ids=deps.ids, now=now)
            entries += [journal.entry_of(message, alert) for message in messages]
            entries += [journal.superseded_entry(deps, before, alert, now) for before in changed]
            records += [journal.released_record(alert), *map(journal.superseded_record, changed)]
        else:
            messages = outbox.wrap([domain.release_asked(alert)], cause=call.cause, ids=deps.ids, now=now)
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
    deps: Deps,
    call: Call,
    alert_id: UUID,
    *,
    precedence: Precedence,
    self_release_reason: str | None = None,
    check_version: Callable[[int], None] = any_version,
) -> StoredResponse:
    """Releases a draft: by a second person who confirms the precedence, or alone with a reason.

    `check_version` as for `edit_alert`: the second person answers for the words that they have read.
    """
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        if (stored := await begin(tx, call, now)) is not None:
            return stored
        before = await _own_alert(tx, call, alert_id)
        check_version(before.version)
        predecessor = await _predecessor(tx, before)
        network = await store.known_network(tx)
        if self_release_reason is None:
            released = domain.release(
                before, precedence=precedence, by=call.by, network=network, predecessor=predecessor, now=now
            )
        else:
            domain.confirm_precedence(before, precedence)
            released = domain.self_release(
                before, reason=self_release_reason, by=call.by, network=network, predecessor=predecessor, now=now
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
        if (stored := await begin(tx, call, now)) is not None:
            return stored
        before = await _own_alert(tx, call, alert_id)
        grown = domain.add_recipients(
            before,
            to=to,
            for_information=for_information,
            by=call.by,
            network=await store.known_network(tx),
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
    deps: Deps,
    call: Call,
    alert_id: UUID,
    *,
    note: str,
    self_release_reason: str | None = None,
    check_version: Callable[[int], None] = any_version,
) -> StoredResponse:
    """Recalls a released alert: everyone whom it reached is told, and every escalation of it ends."""

    def decide(alert: Alert, now: datetime) -> domain.Ending:
        return domain.cancel(alert, note=note, by=call.by, reason=self_release_reason, now=now)

    return await _end(deps, call, alert_id, decide, reason=self_release_reason, check_version=check_version)


async def close_alert(
    deps: Deps,
    call: Call,
    alert_id: UUID,
    *,
    note: str | None = None,
    self_release_reason: str | None = None,
    check_version: Callable[[int], None] = any_version,
) -> StoredResponse:
    """Stands a released alert down: it is over, and no answer is owed any more."""

    def decide(alert: Alert, now: datetime) -> domain.Ending:
        return domain.close(alert, note=note, by=call.by, reason=self_release_reason, now=now)

    return await _end(deps, call, alert_id, decide, reason=self_release_reason, check_version=check_version)


async def _end(
    deps: Deps,
    call: Call,
    alert_id: UUID,
    decide: Callable[[Alert, datetime], domain.Ending],
    *,
    reason: str | None,
    check_version: Callable[[int], None],
) -> StoredResponse:
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        if (stored := await begin(tx, call, now)) is not None:
            return stored
        before = await _own_alert(tx, call, alert_id)
        check_version(before.version)
        ending = decide(before, now)
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


# --- what the bus tells -----------------------------------------------------------------------------------------------


async def on_partner_changed(deps: Deps, message: Message[PartnerChanged]) -> None:
    """Keeps who the partners are, so that an audience can be checked while roster is down."""
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(PartnerChanged), message_id=message.id, now=now):
            return
        await store.save_partner(tx, message.body)


async def on_deadlines_changed(deps: Deps, message: Message[DeadlinesChanged]) -> None:
    """Keeps the network's deadlines: an alert must outlive the last of them."""
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(DeadlinesChanged), message_id=message.id, now=now):
            return
        await store.save_deadlines(tx, message.body)


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


async def on_answers(deps: Deps, messages: Sequence[Message[Any]]) -> None:
    """Puts what came back on the alerts' timelines, and so on the stream: only to be shown."""
    now = deps.clock.now()
    told = {(deps.consumer(type(message.body)), message.id): message for message in messages}
    async with deps.database.transaction() as tx:
        fresh = [told[pair] for pair in await inbox.accept_many(tx, told, now=now)]
        entries = [journal.told_entry(one, one.body.alert_id) for one in fresh if one.body.alert_id is not None]
        await store.add_entries(tx, entries)
    if fresh:
        deps.wake("timeline")


on_answer = Together(on_answers)
"""For reports that do nothing but be shown: one alert to ten partners brings twenty of them and more."""


# --- the lines that handlers share ------------------------------------------------------------------------------------


async def _published(deps: Deps, messages: list[Message[Event]]) -> None:
    """After the commit: the stream is woken, and the events go out at once; the relay finds what that misses."""
    deps.wake("timeline")
    if any(isinstance(message.body, AlertReleased) and message.body.status is Status.ACTUAL for message in messages):
        # It stops the line tests of those whom it addresses.
        deps.wake("line_tests")
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
    check_id(alert_id)
    found = await store.find_request(tx, alert_id)
    if found is None:
        return None
    same_request(found, call)
    return await _own_alert(tx, call, alert_id)


def _superseded(released: domain.Release) -> list[Alert]:
    return [] if released.superseded is None else [released.superseded]


def _answer(status: int, alert: Alert, call: Call, *, left_out: Sequence[str] = ()) -> StoredResponse:
    view = views.alert_view(alert, call.viewer)
    assert view is not None, "whoever may change an alert reads it"
    headers = {"ETag": etag_of(alert.version), "Location": f"/v1/alerts/{alert.id}"}
    if left_out:
        headers["Redphone-Left-Out"] = ", ".join(left_out)
    return StoredResponse.json(status, view, headers)


SUBSCRIPTIONS: dict[type[Event], Callable[[Any, Message[Any]], Awaitable[None]]] = {
    PartnerChanged: on_partner_changed,
    DeadlinesChanged: on_deadlines_changed,
    CredentialsPublished: on_credentials_published,
    EscalationsStarted: on_escalations_started,
    PartnerNotified: on_answer,
    LevelRaised: on_answer,
    PartnerAcknowledged: on_answer,
    PositionTaken: on_answer,
    PartnerUnreached: on_answer,
    PartnerTakenOver: on_answer,
    QuestionAsked: on_answer,
    QuestionAnswered: on_answer,
    ReadBackGiven: on_answer,
    ReadBackConfirmed: on_answer,
    AnswerCodeLocked: on_answer,
    CoverageGoalMet: on_answer,
    CoverageGoalMissed: on_answer,
    EscalationsEnded: on_answer,
    ContactPointFailing: on_answer,
    ContactPointRecovered: on_answer,
}
