"""Read-back: who acknowledged repeats country, request and time, and the sender says whether that is right.

The network asks for it by precedence, in its table of deadlines; no other alert knows of it. It keeps nobody from
acting: the acknowledgement stands while it is outstanding. A rejected read-back is asked for again, on every contact
point of the person who gave it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.escalation import store
from services.escalation.deps import EscalationDeps
from services.escalation.directory import Target
from services.escalation.model import Escalation, Outcome, about, planned
from services.escalation.saving import announce, page_row
from services.escalation.store import actor_of
from services.escalation.talk import store as question_store
from services.escalation.talk.questions import Asking, checked_text
from shared.contracts import (
    Actor,
    ChannelName,
    EscalationKind,
    PartnerAcknowledged,
    ReadBackConfirmed,
    ReadBackGiven,
)
from shared.db import Transaction
from shared.errors import Conflict
from shared.events import Cause, Event, Message

READ_BACK_CHARACTERS_MAX = 500
NOTE_CHARACTERS_MAX = 2000

REQUESTED = "read_back.requested"


@dataclass(frozen=True, slots=True)
class ReadBack:
    """What a person repeats."""

    country: str
    request: str
    time: str

    def checked(self) -> tuple[str, str, str]:
        """All three, trimmed; raises `Invalid`."""
        return (
            checked_text(self.country, "country", READ_BACK_CHARACTERS_MAX),
            checked_text(self.request, "request", READ_BACK_CHARACTERS_MAX),
            checked_text(self.time, "time", READ_BACK_CHARACTERS_MAX),
        )


async def require(deps: EscalationDeps, tx: Transaction, outcomes: Sequence[Outcome], now: datetime) -> None:
    """After acknowledgements: those that the network wants read back wait for it from now on.

    Whoever acknowledged elsewhere than on the link page, which asks by itself, is asked by a page.
    """
    acknowledged = [
        (outcome.escalation, event)
        for outcome in outcomes
        for event in outcome.events
        if isinstance(event, PartnerAcknowledged) and outcome.escalation.kind is EscalationKind.ANSWER
    ]
    if not acknowledged:
        return
    directories = await deps.directories.find(tx, list({escalation.partner for escalation, _ in acknowledged}))
    for escalation, event in acknowledged:
        waits = deps.directories.deadlines_of(directories[escalation.partner], escalation.alert.precedence)
        if waits.read_back:
            await question_store.require_read_back(tx, escalation.id, escalation.alert.alert_id, now)
            if event.via != "link":
                await _request(deps, tx, escalation, event.acknowledged_by, now)


async def give(
    deps: EscalationDeps,
    tx: Transaction,
    escalation_id: UUID,
    giving: Asking,
    said: ReadBack,
    *,
    cause: Cause,
    now: datetime,
) -> list[Message[Event]]:
    """Writes a read-back; returns what to publish after the commit. The same words again change nothing.

    Who may speak for the partner is the caller's to check.
    """
    words = said.checked()
    escalation = await store.load_one(tx, escalation_id)
    assert escalation is not None, "escalations are never deleted"
    row = await question_store.load_read_back(tx, escalation_id)
    if row is None or escalation.acknowledged_at is None:
        raise Conflict("no read-back is asked for", code="no_read_back_asked")
    if row["correct"]:
        raise Conflict("the read-back is confirmed", code="read_back_confirmed")
    if row["correct"] is None and (row["country"], row["request"], row["time"]) == words:
        return []
    await question_store.save_read_back(tx, escalation_id, words, now, giving.actor)
    await question_store.touch_escalation(tx, escalation_id, now)
    country, request, time = words
    event = ReadBackGiven(
        **about(escalation),
        given_at=now,
        given_by=giving.actor,
        country=country,
        request=request,
        time=time,
        via=giving.via,
        page_id=giving.page_id,
    )
    return await announce(tx, [event], ids=deps.ids, cause=cause, now=now)


async def confirm(
    deps: EscalationDeps,
    tx: Transaction,
    escalation_id: UUID,
    by: Actor,
    *,
    correct: bool,
    note: str | None,
    cause: Cause,
    now: datetime,
) -> list[Message[Event]]:
    """Writes what the raiser says of a read-back; if it is wrong, whoever gave it is asked again."""
    said = checked_text(note, "note", NOTE_CHARACTERS_MAX) if note else None
    escalation = await store.load_one(tx, escalation_id)
    assert escalation is not None, "escalations are never deleted"
    row = await question_store.load_read_back(tx, escalation_id)
    if row is None or row["given_at"] is None:
        raise Conflict("no read-back was given", code="no_read_back_given")
    if row["correct"] is not None:
        if row["correct"] is correct:
            return []
        raise Conflict("this read-back was confirmed or rejected before", code="read_back_confirmed")
    await question_store.save_confirmation(tx, escalation_id, correct=correct, note=said, at=now, by=by)
    await question_store.touch_escalation(tx, escalation_id, now)
    if not correct:
        giver = actor_of(row["given_by"])
        assert giver is not None, "a read-back was given by somebody"
        await _request(deps, tx, escalation, giver, now, note=said)
    event = ReadBackConfirmed(**about(escalation), correct=correct, confirmed_at=now, confirmed_by=by, note=said)
    return await announce(tx, [event], ids=deps.ids, cause=cause, now=now)


async def _request(
    deps: EscalationDeps,
    tx: Transaction,
    escalation: Escalation,
    person: Actor,
    now: datetime,
    *,
    note: str | None = None,
) -> None:
    """Asks one person for a read-back on all their points; whoever is on duty where no point of theirs is known."""
    directory = await deps.directories.find_one(tx, escalation.partner)
    own: tuple[Target, ...] = ()
    if person.contact_id is not None:
        own = tuple(t for t in directory.every_target() if t.contact_id == person.contact_id)
    targets = own or directory.on_duty(now)
    # There are no keys for it: a call only where there is nothing else.
    written = tuple(target for target in targets if target.channel is not ChannelName.VOICE)
    pages = planned(written or targets, REQUESTED, level=0, asks=False)
    data = {"note": note} if note else None
    rows = [
        {**page_row(page, escalation, page_id, now), "data": data}
        for page, page_id in zip(pages, deps.ids.many(len(pages)), strict=True)
    ]
    await store.insert_pages(tx, rows)
