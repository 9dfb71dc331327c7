"""What a release opens, and how its first pages leave before that is stored.

The cast: `page_ahead` for a release of which nothing is known yet, `decide_opening` for every other, within the
transaction that stores it; both come to a `BegunRelease`. What comes before and after is `handlers.on_alert_released`.

The promise: a page leaves only when it is committed that it will be stored: either the page itself, or one row by which
whoever goes on after a crash comes to the same escalations and pages, with the same ids. Until they are stored
everybody else waits who has to do with the alert, so that nobody sees or ends half of it. See
`docs/decisions/0023-pages-leave-on-a-promise.md`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from uuid import UUID

from services.escalation import store
from services.escalation.deps import EscalationDeps
from services.escalation.directory import Directory
from services.escalation.handover import HandOver
from services.escalation.messages import content_of
from services.escalation.model import AlertFacts, Escalation
from services.escalation.opening import Opening, open_all
from services.escalation.saving import Part, in_parts, merged
from shared.contracts import AlertReleased, EndReason, EscalationKind, EscalationState, Recipient
from shared.db import Transaction
from shared.errors import ALERT_OPENING, Unavailable
from shared.events import Message
from shared.ids import PromisedIds

BEGUN_SECONDS_MAX = 2.0
"""A process that stood still for longer while it sent must not go on: somebody else may have stored it since."""

BEGUN_AT_ONCE = 32
"""So many pages leave in one step of the event loop, and the senders are at work while the next are decided."""


@dataclass(frozen=True, slots=True)
class BegunRelease:
    """What a release opens, and what was decided of it, some at a time."""

    openings: list[Opening]
    parts: Iterable[Part]


async def page_ahead(
    deps: EscalationDeps, message: Message[AlertReleased], handed: HandOver, now: datetime
) -> BegunRelease | None:
    """Sends the first pages of a release of which nothing is known yet, and that corrects nothing, before it is stored.

    What is committed first is the promise to open it, in one row: whoever goes on after a crash comes to the same ids,
    and everybody else waits. Returns when every page has been tried once or somebody waits for the rows; None if
    nothing was begun.
    """
    released = message.body
    if not handed.takes_pages or released.corrects is not None or now >= released.expires_at:
        return None
    if deps.senders.begun(released.alert_id) is not None:
        return None
    codes = [recipient.partner for recipient in _served(deps, released)]
    opening = store.BegunOpening(message.id, now)
    # Before the statement, so that nobody in this process comes in between.
    handed.begin(released.alert_id, opening)
    async with deps.database.statement() as connection:
        versions = await store.begin_opening(connection, released.alert_id, opening, codes)
        if versions is None:
            handed.withdraw()
            return None
        directories = await deps.directories.at(connection, codes, versions)
    facts = facts_of(released)
    handed.says(facts, content_of(released))
    ids = PromisedIds(opening.id, now)
    openings: list[Opening] = []

    def opening_each() -> Iterator[Opening]:
        for one in _openings(deps, released, directories, ids, facts=facts, now=now):
            openings.append(one)
            yield one

    parts = []
    _stop_if_late(deps, opening)
    for part in in_parts(open_all(opening_each(), now), ids=ids, now=now, handed=handed, at_once=BEGUN_AT_ONCE):
        parts.append(part)
        await deps.clock.sleep(0)
        _stop_if_late(deps, opening)
    await handed.tried_first()
    return BegunRelease(openings, merged(parts))


def _stop_if_late(deps: EscalationDeps, opening: store.BegunOpening) -> None:
    """Raises `Unavailable` where this process has stood still; its next try stores what has left and sends the rest."""
    if deps.clock.now() > opening.at + timedelta(seconds=BEGUN_SECONDS_MAX):
        raise Unavailable("sending has taken too long", code=ALERT_OPENING)


async def decide_opening(
    deps: EscalationDeps,
    tx: Transaction,
    released: AlertReleased,
    handed: HandOver,
    *,
    facts: AlertFacts,
    head: store.AlertHead,
    old: Sequence[Escalation],
    now: datetime,
) -> BegunRelease:
    """Decides what a release opens where nothing was sent ahead, or by a process that did not come to store it.

    `old` are the escalations of the message that it corrects. Parts are decided as they are read.
    """
    handed.says(facts, content_of(released))
    ids = PromisedIds(deps.ids.new() if head.opening is None else head.opening.id, now)
    if head.opening is not None:
        # What has left has left: what came since ends it once it is stored.
        head = replace(head, ended_at=None, end_reason=None, superseded_by=None)
    directories = await deps.directories.find(tx, [recipient.partner for recipient in _served(deps, released)])
    made = await _attempts_made(tx, old)
    openings = list(_openings(deps, released, directories, ids, facts=facts, head=head, old=old, made=made, now=now))
    return BegunRelease(openings, in_parts(open_all(openings, now), ids=ids, now=now, handed=handed))


def _served(deps: EscalationDeps, released: AlertReleased) -> list[Recipient]:
    """The recipients that this installation escalates for, each partner once: as it is named first."""
    named = {recipient.partner: recipient for recipient in reversed(released.recipients)}
    return [r for r in released.recipients if named[r.partner] is r and deps.serves(r.partner)]


def facts_of(released: AlertReleased, known: AlertFacts | None = None) -> AlertFacts:
    """What escalations keep of an alert. It is published again when recipients are added, and the older publication
    may come last: whoever is `known` to see answers goes on seeing them.
    """
    to = [r.partner for r in released.recipients if r.kind is EscalationKind.ANSWER] if released.answers_visible else []
    before = known.answers_visible_to if known is not None else ()
    return AlertFacts(
        alert_id=released.alert_id,
        root_alert_id=released.root_alert_id,
        reference=released.reference,
        raiser=released.raiser,
        status=released.status,
        precedence=released.precedence,
        tlp=released.tlp,
        # In our own UTC, which compares ten times as fast as a parser's: these are compared for every partner.
        released_at=released.released_at.astimezone(UTC),
        expires_at=released.expires_at.astimezone(UTC),
        released_by=released.released_by,
        answers_visible_to=tuple(sorted({*before, *to})),
        is_update=released.corrects is not None,
        asks_anew=released.asks_anew,
    )


async def _attempts_made(tx: Transaction, old: Sequence[Escalation]) -> Mapping[UUID, int]:
    """How many attempts the escalations of the corrected message took that ended unreached."""
    unreached = [e.id for e in old if e.state is EscalationState.UNREACHED and e.kind is not EscalationKind.TAKEOVER]
    return await store.count_attempts(tx, unreached) if unreached else {}


def _openings(
    deps: EscalationDeps,
    released: AlertReleased,
    directories: Mapping[str, Directory],
    ids: PromisedIds,
    *,
    facts: AlertFacts,
    now: datetime,
    head: store.AlertHead | None = None,
    old: Sequence[Escalation] = (),
    made: Mapping[UUID, int] = MappingProxyType({}),
) -> Iterator[Opening]:
    """What opens each recipient's escalation. `old` are those of the corrected message, `made` their attempts."""
    before = {e.partner: e for e in old if e.kind is not EscalationKind.TAKEOVER}
    ended_reason, ended_at = None, None
    if head is not None:
        ended_reason = head.end_reason or (EndReason.SUPERSEDED if head.superseded_by is not None else None)
        ended_at = head.ended_at
    if ended_reason is None and now >= facts.expires_at:
        ended_reason, ended_at = EndReason.EXPIRED, facts.expires_at
    for recipient in _served(deps, released):
        directory, predecessor = directories[recipient.partner], before.get(recipient.partner)
        yield Opening(
            id=ids.of(recipient.partner.encode()),
            alert=facts,
            partner=recipient.partner,
            kind=recipient.kind,
            addressed_at=recipient.addressed_at.astimezone(UTC),
            directory=directory,
            deadlines=deps.directories.deadlines_of(directory, facts.precedence),
            acknowledge_within_seconds=released.acknowledge_within_seconds,
            predecessor=predecessor,
            predecessor_attempts=0 if predecessor is None else made.get(predecessor.id, 0),
            ended_reason=ended_reason,
            ended_at=ended_at,
        )
