"""Writes what was decided: escalations, pages, events and record in the transaction that the caller holds.

Every decision, whoever asked for it, is saved by `save_outcomes`, so an acknowledgement and its stop can only be one
transaction, and no page exists without the decision that it follows from.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from services.escalation import store
from services.escalation.handover import HandOver
from services.escalation.messages import instant
from services.escalation.model import AlertFacts, Escalation, Outcome, PlannedPage
from services.escalation.paging import not_at_night
from shared import outbox, record
from shared.contracts import (
    Actor,
    EndedEscalation,
    EndReason,
    EscalationsEnded,
    EscalationsStarted,
    EscalationState,
    PlannedOffice,
    Precedence,
    StartedEscalation,
    Status,
)
from shared.db import Transaction
from shared.events import Cause, Event, Message
from shared.ids import Ids, PromisedIds
from shared.process import Deps

INFORMING_GIVE_UP_SECONDS = 24 * 3600
"""Messages that nobody has to answer are tried for a day."""

OPENED_AT_ONCE = 100
"""So many escalations are one statement: some 200 kB, which a socket takes without waiting for its reader."""

DRILL_PRIORITY = 10
"""From this priority on a page is of a drill: later than any page of an Actual alert."""

NOT_IN_RECORD = frozenset({"note", "offer", "question", "answer", "country", "request", "time"})
"""Texts that people wrote: the record says that an answer was given and which, not its words."""


def priority_of(status: Status, precedence: Precedence) -> int:
    """The order in which waiting pages are sent: an Actual alert goes before any drill, then by precedence."""
    return (0 if status is Status.ACTUAL else DRILL_PRIORITY) + precedence.rank


def page_row(page: PlannedPage, escalation: Escalation, page_id: UUID, now: datetime) -> dict[str, Any]:
    """The row of a new page of an escalation."""
    row = _row(page, escalation.alert, escalation.partner, page_id, now)
    row.update(escalation_id=escalation.id, data=escalation.brief)
    if page.asks and page.target.languages is not None:
        acknowledged = escalation.acknowledged_at is not None
        row["answer_by_at"] = escalation.position_by_at if acknowledged else escalation.acknowledge_by_at
    if page.asks:
        row["give_up_at"] = max(row["give_up_at"], escalation.expires_at)
    return row


def notice_rows(
    pages: Sequence[PlannedPage],
    *,
    alert: AlertFacts,
    partner: str,
    data: Mapping[str, Any],
    ids: Ids,
    now: datetime,
) -> list[dict[str, Any]]:
    """The rows of pages that belong to no escalation of the partner: what its systems are told beside."""
    return [
        {**_row(page, alert, partner, page_id, now), "data": data}
        for page, page_id in zip(pages, ids.many(len(pages)), strict=True)
    ]


def again_rows(
    points: Sequence[Mapping[str, Any]],
    message_type: str,
    *,
    alert: AlertFacts,
    data: Mapping[str, Any],
    ids: Ids,
    now: datetime,
) -> list[dict[str, Any]]:
    """The rows of pages that inform contact points which were paged before."""
    return [
        {
            **point,
            "id": page_id,
            "message_type": message_type,
            "level": 0,
            "asks": False,
            "data": data,
            "state": "due",
            "due_at": due_at_of(point, alert.precedence, now),
            "attempts": 0,
            "give_up_at": now + timedelta(seconds=INFORMING_GIVE_UP_SECONDS),
            "created_at": now,
        }
        for point, page_id in zip(points, ids.many(len(points)), strict=True)
    ]


def _row(page: PlannedPage, alert: AlertFacts, partner: str, page_id: UUID, now: datetime) -> dict[str, Any]:
    target = page.target
    row = {
        "id": page_id,
        "alert_id": alert.alert_id,
        "partner": partner,
        "contact_point_id": target.contact_point_id,
        "channel": target.channel,
        "sealed_address": target.sealed_address,
        "told": target.told,
        "contact_id": target.contact_id,
        "message_type": page.message_type,
        "level": page.level,
        "asks": page.asks,
        "priority": priority_of(alert.status, alert.precedence),
        "state": "due",
        "due_at": now,
        "attempts": 0,
        "give_up_at": now + timedelta(seconds=INFORMING_GIVE_UP_SECONDS),
        "created_at": now,
    }
    if page.delay_seconds:
        row["due_at"] = now + timedelta(seconds=page.delay_seconds)
    if target.languages is not None:
        row.update(
            languages=list(target.languages),
            time_zone=target.time_zone,
            reply_key=target.reply_key,
            answer_by_at=None,
        )
    return row


async def save_outcomes(
    tx: Transaction,
    outcomes: Sequence[Outcome],
    *,
    ids: Ids,
    cause: Cause,
    now: datetime,
    more_events: Sequence[Event] = (),
    handed: HandOver | None = None,
) -> list[Message[Event]]:
    """Saves decisions about escalations that exist. Publish the returned messages, and wake delivery, after the
    commit. `handed` takes the pages that it can under a lease.
    """
    await store.save(tx, [outcome.escalation for outcome in outcomes], now)
    await _save_pages(tx, outcomes, ids=ids, now=now, handed=handed)
    events = [*(event for outcome in outcomes for event in outcome.events), *more_events]
    return await announce(tx, events, ids=ids, cause=cause, now=now)


async def open_outcomes(
    tx: Transaction, outcomes: Iterable[Outcome], *, ids: Ids, now: datetime, handed: HandOver | None = None
) -> list[Outcome]:
    """Inserts escalations that open, with their pages; returns those that were new. The caller announces them."""
    return await open_parts(tx, in_parts(outcomes, ids=ids, now=now, handed=handed), now=now, handed=handed)


class Part(NamedTuple):
    """Some of what a release opens: the decisions, and the rows of their pages."""

    outcomes: list[Outcome]
    rows: list[dict[str, Any]]


def in_parts(
    outcomes: Iterable[Outcome],
    *,
    ids: Ids | PromisedIds,
    now: datetime,
    handed: HandOver | None = None,
    at_once: int = OPENED_AT_ONCE,
) -> Iterator[Part]:
    """Decides and makes rows of some at a time. `handed` takes the pages under a lease; without it, or without free
    senders, they are due.
    """
    deciding = iter(outcomes)
    while some := list(itertools.islice(deciding, at_once)):
        assert not any(outcome.stops_pages or outcome.sends_ending for outcome in some), "what opens ends nothing"
        rows = _new_rows(some, ids=ids, now=now)
        if handed is not None:
            handed.lease(rows)
        yield Part(some, rows)


def merged(parts: Sequence[Part], at_once: int = OPENED_AT_ONCE) -> Iterator[Part]:
    """The same in fewer parts, of at least so many escalations but for the last."""
    outcomes: list[Outcome] = []
    rows: list[dict[str, Any]] = []
    for part in parts:
        outcomes += part.outcomes
        rows += part.rows
        if len(outcomes) >= at_once:
            yield Part(outcomes, rows)
            outcomes, rows = [], []
    if outcomes:
        yield Part(outcomes, rows)


async def open_parts(
    tx: Transaction, parts: Iterable[Part], *, now: datetime, handed: HandOver | None = None
) -> list[Outcome]:
    """Inserts escalations that open, with their pages; returns those that were new.

    `parts` may be made while it is read: the database writes one while the next is decided.
    """
    every: list[Outcome] = []
    fresh: set[UUID] = set()
    writing: asyncio.Task[set[UUID]] | None = None
    try:
        for some, rows in parts:
            every += some
            if writing is not None:
                fresh |= await writing
            writing = asyncio.create_task(store.insert_opened(tx, [o.escalation for o in some], rows, now))
            await asyncio.wait({writing}, timeout=0)  # lets it send its statement
    finally:
        # Also when deciding fails: a transaction cannot be rolled back under a statement.
        if writing is not None:
            fresh |= await writing
    if handed is not None and len(fresh) < len(every):
        handed.keep(fresh)
    return [outcome for outcome in every if outcome.escalation.id in fresh]


async def announce(
    tx: Transaction, events: Sequence[Event], *, ids: Ids, cause: Cause, now: datetime
) -> list[Message[Event]]:
    """Writes events to the outbox, and each as a state change to the record."""
    if not events:
        return []
    messages = outbox.wrap(events, cause=cause, ids=ids, now=now)
    entries = [
        record.row_of(_entry_of(event), cause=cause, row_id=row_id, now=now)
        for event, row_id in zip(events, ids.many(len(events)), strict=True)
    ]
    await store.insert_events(tx, entries, [outbox.row_of(message) for message in messages])
    return messages


async def _save_pages(
    tx: Transaction, outcomes: Sequence[Outcome], *, ids: Ids, now: datetime, handed: HandOver | None = None
) -> None:
    ended = [o.escalation.id for o in outcomes if o.stops_pages and o.escalation.state is EscalationState.ENDED]
    answered = [o.escalation.id for o in outcomes if o.stops_pages and o.escalation.state is not EscalationState.ENDED]
    await store.end_pages(tx, ended, only_asking=False)
    await store.end_pages(tx, answered, only_asking=True)
    rows = _new_rows(outcomes, ids=ids, now=now)
    if handed is not None:
        handed.lease(rows)
    rows += await _ending_rows(tx, [o.escalation for o in outcomes if o.sends_ending], ids=ids, now=now)
    await store.insert_pages(tx, rows)


def _new_rows(outcomes: Sequence[Outcome], *, ids: Ids | PromisedIds, now: datetime) -> list[dict[str, Any]]:
    planned = [(page, outcome.escalation) for outcome in outcomes for page in outcome.pages]
    if isinstance(ids, PromisedIds):
        return [page_row(page, escalation, ids.of(_name_of(page, escalation)), now) for page, escalation in planned]
    return [
        page_row(page, escalation, page_id, now)
        for (page, escalation), page_id in zip(planned, ids.many(len(planned)), strict=True)
    ]


def _name_of(page: PlannedPage, escalation: Escalation) -> bytes:
    """What tells a page from all others of the same opening: a contact point gets one at each level at most."""
    return escalation.id.bytes + page.target.contact_point_id.bytes + page.level.to_bytes()


async def _ending_rows(
    tx: Transaction, ended: Sequence[Escalation], *, ids: Ids, now: datetime
) -> list[dict[str, Any]]:
    """One ending message to every contact point that was paged: a recall reaches all that the alert reached.

    Where only a takeover is over because the partner has answered, the message says so: the alert goes on.
    """
    by_id = {escalation.id: escalation for escalation in ended}
    points = await store.find_paged_points(tx, list(by_id))
    return [
        {
            **point,
            "id": page_id,
            **_ending_of(by_id[point["escalation_id"]]),
            "asks": False,
            "state": "due",
            "due_at": due_at_of(point, by_id[point["escalation_id"]].alert.precedence, now),
            "attempts": 0,
            "give_up_at": now + timedelta(seconds=INFORMING_GIVE_UP_SECONDS),
            "created_at": now,
        }
        for point, page_id in zip(points, ids.many(len(points)), strict=True)
    ]


def due_at_of(page: Mapping[str, Any], precedence: Precedence, at: datetime) -> datetime:
    """`at`, or the morning after where the page would ring a sleeping person for a ROUTINE alert."""
    asleep = page["time_zone"] if page["contact_id"] is not None else None
    return not_at_night(at, page["channel"], asleep, precedence)


def _ending_of(ended: Escalation) -> dict[str, Any]:
    if ended.end_reason is EndReason.ACKNOWLEDGED:
        answer = {"partner": ended.subject_partner, "state": EscalationState.ACKNOWLEDGED, "at": _said(ended)}
        return {"message_type": "answer.received", "data": {"answer": answer}}
    return {"message_type": "alert.ended", "data": {"ended_at": _said(ended), "reason": ended.end_reason}}


def _said(ended: Escalation) -> str | None:
    return None if ended.ended_at is None else instant(ended.ended_at)


def _entry_of(event: Event) -> record.Entry:
    """The record row of an event: no text, no telephone number and no name. Of a person it keeps the contact's id.

    Who asked for the change is the subject of the cause.
    """
    data = event.model_dump(
        mode="json", exclude=set(NOT_IN_RECORD) | {name for name, _value in _personal(event)}, exclude_none=True
    )
    for name, value in _personal(event):
        if isinstance(value, Actor) and value.contact_id is not None:
            data[f"{name}_contact_id"] = str(value.contact_id)
    return record.Entry(
        kind=f"{event.owner}.{event.event_name}",
        partner=getattr(event, "partner", None),
        alert_id=getattr(event, "alert_id", None),
        object_id=getattr(event, "escalation_id", None),
        data=data,
    )


def _personal(event: Event) -> list[tuple[str, Any]]:
    """The fields of an event that hold a person or an office with its numbers."""
    fields = ((name, getattr(event, name)) for name in type(event).model_fields)
    return [(name, value) for name, value in fields if isinstance(value, (Actor, PlannedOffice))]


async def save_ended(
    tx: Transaction,
    deps: Deps,
    before: Sequence[Escalation],
    outcomes: Sequence[Outcome],
    *,
    cause: Cause,
    now: datetime,
    handed: HandOver | None = None,
) -> list[Message[Event]]:
    """Saves decisions, and announces those that are endings in one event for each alert and reason."""
    endings: dict[tuple[UUID, str, EndReason], list[EndedEscalation]] = {}
    for old, outcome in zip(before, outcomes, strict=True):
        reason = outcome.escalation.end_reason
        if reason is not None and old.state is not EscalationState.ENDED:
            ended = EndedEscalation(escalation_id=old.id, partner=old.partner, kind=old.kind, state_before=old.state)
            endings.setdefault((old.alert.alert_id, old.alert.raiser, reason), []).append(ended)
    events = [
        EscalationsEnded(alert_id=alert_id, raiser=raiser, reason=reason, ended_at=now, escalations=tuple(listed))
        for (alert_id, raiser, reason), listed in endings.items()
    ]
    return await save_outcomes(tx, outcomes, ids=deps.ids, cause=cause, now=now, more_events=events, handed=handed)


def started_events(alert_id: UUID, raiser: str, opened: Sequence[Outcome], now: datetime) -> list[Event]:
    """The events of what was opened: one for all escalations of the alert, and those of each."""
    if not opened:
        return []
    started = EscalationsStarted(
        alert_id=alert_id,
        raiser=raiser,
        started_at=now,
        escalations=tuple(
            StartedEscalation(
                escalation_id=outcome.escalation.id,
                partner=outcome.escalation.partner,
                kind=outcome.escalation.kind,
                state=outcome.escalation.state,
                level=outcome.escalation.level,
                due_at=outcome.escalation.due_at,
                acknowledge_by_at=outcome.escalation.acknowledge_by_at,
                unreached_at=outcome.escalation.unreached_at,
                gaps=outcome.escalation.gaps,
                one_provider=outcome.escalation.one_provider,
                told=tuple(dict.fromkeys(page.target.told for page in outcome.pages)),
            )
            for outcome in opened
        ),
    )
    return [started, *(event for outcome in opened for event in outcome.events)]
