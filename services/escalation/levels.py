"""Which level is paged, and when the next one is: the steps of one escalation, purely.

Step times come from the waits that were copied when the escalation opened; people come from the directory of the
moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from services.escalation.directory import Directory, Target
from services.escalation.model import (
    UNANSWERED,
    DueReason,
    Escalation,
    Outcome,
    PlannedPage,
    about,
    asking_type,
    planned,
    with_due,
    with_gaps,
)
from shared.contracts import Actor, EscalationKind, Gap, LevelRaised, LevelReason, PartnerUnreached


def raise_due_levels(
    escalation: Escalation, directory: Directory, message_type: str, reason: LevelReason, now: datetime
) -> Outcome:
    """Pages every level whose time has come by `now`, together, and sets the next due time."""
    assert escalation.due_at is not None
    step_at, level = escalation.due_at, escalation.level
    reached: dict[int, LevelReason] = {}
    pages: list[PlannedPage] = []
    gaps: dict[Gap, None] = dict.fromkeys(gap_tuple(directory.gap(now)))
    limit = escalation.unreached_at or datetime.max.replace(tzinfo=now.tzinfo)

    def page(found: int, targets: tuple[Target, ...], why: LevelReason) -> None:
        if found not in reached:
            reached[found] = why
            pages.extend(planned(targets, message_type, level=found, asks=True))

    while step_at <= now and step_at < limit:
        found, targets, skipped = next_level(escalation, directory, level, now)
        gaps.update(dict.fromkeys(skipped))
        page(found, targets, LevelReason.REPEATED if 0 < found <= level else reason)
        if escalation.next_level_every_seconds is None and level > 0:
            # A precedence without an interval names no time for the levels beyond the second: they follow at once,
            # because a contact whom nobody ever paged must not be among those who are called unreached.
            while found > level:
                level = found
                found, targets, skipped = next_level(escalation, directory, level, now)
                gaps.update(dict.fromkeys(skipped))
                if found > level:
                    page(found, targets, reason)
        step_at = _step_after(escalation, level, max(level, found), step_at)
        level = max(level, found)
    due_at, due_reason = step_at, DueReason.NEXT_LEVEL
    if due_at >= limit:
        due_at, due_reason = limit, DueReason.UNREACHED
        if due_at <= now:
            # Overdue after an outage: whoever was paged just now has one interval to answer.
            due_at = now + timedelta(seconds=escalation.interval_seconds)
    raised = replace(
        with_gaps(with_due(escalation, due_at, due_reason), gaps),
        level=level,
        paged=escalation.paged or bool(pages),
    )
    told = _told(pages)
    events = tuple(
        LevelRaised(
            **about(raised),
            level=number,
            reason=why,
            raised_at=now,
            next_due_at=due_at,
            gaps=tuple(gaps),
            told=told.get(number, ()),
        )
        for number, why in sorted(reached.items())
    )
    notices = _notices(raised, directory) if escalation.level else ()
    return Outcome(raised, events=events, pages=(*pages, *notices))


def next_level(
    escalation: Escalation, directory: Directory, level: int, now: datetime
) -> tuple[int, tuple[Target, ...], list[Gap]]:
    """The next level that somebody can be paged at: its number, the contact points, and the gaps passed on the way.

    Beyond the last level, the last one that has people repeats. If no level has any, the duty office is paged in their
    place.
    """
    skipped: list[Gap] = []
    count = len(escalation.levels)
    for number in range(level + 1, count + 1):
        targets, gap = directory.at_level(escalation.levels[number - 1], now)
        if targets:
            return number, targets, skipped
        skipped.append(gap or Gap.EMPTY_LEVEL)
    for number in range(min(level, count), 0, -1):
        targets, _gap = directory.at_level(escalation.levels[number - 1], now)
        if targets:
            return number, targets, skipped
    skipped.append(Gap.ALL_LEVELS_EMPTY)
    return max(count, 1), directory.office_targets(), skipped


def _step_after(escalation: Escalation, before: int, level: int, step_at: datetime) -> datetime:
    """When the step after one at `step_at`, from level `before` to `level`, comes.

    After the first step it is the acknowledge-by time, then an interval each; the partner's own wait may only shorten
    it.
    """
    acknowledge_by_at = escalation.acknowledge_by_at
    if before == 0 and acknowledge_by_at is not None and step_at < acknowledge_by_at:
        next_at = acknowledge_by_at
    elif escalation.next_level_every_seconds is None and escalation.kind is not EscalationKind.TAKEOVER:
        next_at = max(escalation.unreached_at or step_at, step_at + timedelta(seconds=1))
    else:
        next_at = step_at + timedelta(seconds=escalation.interval_seconds)
    own_wait = escalation.levels[level - 1].wait_seconds if 0 < level <= len(escalation.levels) else None
    return next_at if own_wait is None else min(next_at, step_at + timedelta(seconds=own_wait))


def raise_one(
    escalation: Escalation, directory: Directory, reason: LevelReason, now: datetime, by: Actor | None = None
) -> Outcome:
    """Pages the next level now, whatever the clock says; the due time moves one interval ahead at most."""
    number, targets, skipped = next_level(escalation, directory, escalation.level, now)
    gaps = tuple(dict.fromkeys((*gap_tuple(directory.gap(now)), *skipped)))
    due_at = now + timedelta(seconds=escalation.interval_seconds)
    due_reason = DueReason.NEXT_LEVEL
    if escalation.unreached_at is not None and due_at >= escalation.unreached_at:
        due_at, due_reason = max(escalation.unreached_at, now + timedelta(seconds=1)), DueReason.UNREACHED
    pages = planned(targets, asking_type(escalation), level=number, asks=True)
    raised = replace(
        with_gaps(with_due(escalation, due_at, due_reason), gaps),
        level=max(escalation.level, number),
        paged=escalation.paged or bool(pages),
    )
    event = LevelRaised(
        **about(raised),
        level=number,
        reason=reason,
        raised_at=now,
        next_due_at=raised.due_at,
        gaps=gaps,
        told=tuple(dict.fromkeys(page.target.told for page in pages)),
        raised_by=by,
    )
    return Outcome(raised, events=(event,), pages=(*pages, *_notices(raised, directory)))


def _notices(escalation: Escalation, directory: Directory) -> tuple[PlannedPage, ...]:
    """The partner's own systems were paged once; afterwards they are told of each further level."""
    if escalation.kind is not EscalationKind.ANSWER:
        return ()
    return planned(directory.endpoint_targets(), "level.raised", level=escalation.level, asks=False)


def level_pages(
    escalation: Escalation, directory: Directory, levels: range, message_type: str, now: datetime
) -> tuple[PlannedPage, ...]:
    """Pages to whoever holds the given levels now."""
    pages: list[PlannedPage] = []
    for number in levels:
        if number <= len(escalation.levels):
            targets, _gap = directory.at_level(escalation.levels[number - 1], now)
            pages.extend(planned(targets, message_type, level=number, asks=escalation.state in UNANSWERED))
    return tuple(pages)


def _told(pages: Sequence[PlannedPage]) -> dict[int, tuple[str, ...]]:
    told: dict[int, dict[str, None]] = {}
    for page in pages:
        told.setdefault(page.level, {})[page.target.told] = None
    return {level: tuple(names) for level, names in told.items()}


def gap_tuple(gap: Gap | None) -> tuple[Gap, ...]:
    """The gap as a tuple of none or one."""
    return () if gap is None else (gap,)


def unreached_event(escalation: Escalation, directory: Directory, attempts: int, now: datetime) -> PartnerUnreached:
    """The event that opens the takeovers, carrying all that other nodes need for theirs."""
    alert = escalation.alert
    return PartnerUnreached(
        **about(escalation),
        root_alert_id=alert.root_alert_id,
        reference=alert.reference,
        unreached_at=now,
        levels_tried=escalation.level,
        attempts=attempts,
        precedence=alert.precedence,
        status=alert.status,
        tlp=alert.tlp,
        expires_at=alert.expires_at,
        released_by=alert.released_by,
        office=directory.known_office(),
    )
