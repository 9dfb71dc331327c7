"""Which level is paged, and when the next one is: the steps of one escalation, purely.

Step times come from the waits that were copied when the escalation opened; people come from the directory of the
moment.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

from services.escalation.directory import Directory, Target
from services.escalation.model import (
    LAST_LEVEL_WAIT_SECONDS_MIN,
    LEVELS_MAX,
    DueReason,
    Escalation,
    Outcome,
    PlannedPage,
    about,
    asking_type,
    changed,
    planned,
    planned_in_order,
    with_due,
    with_gaps,
)
from shared.contracts import Actor, EscalationKind, Gap, LevelRaised, LevelReason, PartnerUnreached

NEVER = datetime.max.replace(tzinfo=UTC)
PLAN_GAPS = frozenset({Gap.NO_DUTY_PLAN, Gap.DUTY_PLAN_UNREADABLE, Gap.ALL_LEVELS_EMPTY})
"""Gaps of an escalation that opened without levels; they close when a plan arrives."""


@dataclass(slots=True)
class _Climb:
    """What one decision pages, level by level: each level once, each contact point once."""

    escalation: Escalation
    directory: Directory
    message_type: str
    now: datetime
    reached: dict[int, LevelReason] = field(default_factory=dict)
    told: dict[int, tuple[str, ...]] = field(default_factory=dict)
    pages: list[PlannedPage] = field(default_factory=list)
    gaps: dict[Gap, None] = field(default_factory=dict)
    one_provider: bool = False
    first_is_announced: bool = False
    """Whether another event tells of the first level that is paged."""

    def up(self, level: int, reason: LevelReason) -> int:
        """Pages the level after `level`, or the last one again; returns its number."""
        found, targets, skipped = next_level(self.escalation, self.directory, level, self.now)
        self.gaps.update(dict.fromkeys((*gap_tuple(self.directory.gap(self.now)), *skipped)))
        self.page(found, targets, LevelReason.REPEATED if 0 < found <= level else reason)
        return found

    def up_to_the_last(self, level: int, reason: LevelReason) -> int:
        """Pages every level after `level` that has anybody; returns the highest."""
        while True:
            found, targets, skipped = next_level(self.escalation, self.directory, level, self.now)
            self.gaps.update(dict.fromkeys(gap for gap in skipped if gap is not Gap.ALL_LEVELS_EMPTY))
            if found <= level or not targets:
                return level
            self.page(found, targets, reason)
            level = found

    def page(self, level: int, targets: Sequence[Target], reason: LevelReason) -> None:
        """Pages a level, if this decision has not yet."""
        if level not in self.reached:
            self.reached[level] = reason
            self.told[level] = tuple(dict.fromkeys(target.told for target in targets))
            paged = {page.target.contact_point_id for page in self.pages}
            fresh = [target for target in targets if target.contact_point_id not in paged]
            self.one_provider = self.one_provider or any(target.is_single_way for target in targets)
            precedence = self.escalation.alert.precedence
            self.pages.extend(
                planned_in_order(fresh, self.message_type, level=level, asks=True, precedence=precedence, now=self.now)
            )

    def outcome(self, raised: Escalation, *, by: Actor | None = None, notices: Sequence[PlannedPage] = ()) -> Outcome:
        """The decision: `raised` has level and due time already."""
        told_of = sorted(self.reached.items())[1 if self.first_is_announced else 0 :]
        if self.gaps:
            raised = with_gaps(raised, self.gaps)
        if self.one_provider and not raised.one_provider:
            raised = changed(raised, one_provider=True)
        if self.pages and not raised.paged:
            raised = changed(raised, paged=True)
        events = tuple(
            LevelRaised(
                **about(raised),
                level=number,
                reason=why,
                raised_at=self.now,
                next_due_at=raised.due_at,
                gaps=tuple(self.gaps),
                one_provider=self.one_provider,
                told=self.told[number],
                raised_by=by,
            )
            for number, why in told_of
        )
        return Outcome(raised, events=events, pages=(*self.pages, *notices))


def raise_due_levels(
    escalation: Escalation,
    directory: Directory,
    message_type: str,
    reason: LevelReason,
    now: datetime,
    *,
    first_is_announced: bool = False,
) -> Outcome:
    """Pages every level whose time has come by `now`, together, and sets the next due time.

    The last step before `unreached` pages every level that is left: a contact whom nobody ever paged must not be among
    those who are called unreached. So does a precedence that names no interval, at its acknowledge-by time.
    """
    assert escalation.due_at is not None
    known = with_levels_known_now(escalation, directory)
    climb = _Climb(known, directory, message_type, now, first_is_announced=first_is_announced)
    step_at, level = escalation.due_at, known.level
    limit = known.unreached_at or NEVER
    while step_at <= now and step_at < limit:
        before = level
        why = reason if step_at == escalation.due_at else LevelReason.DEADLINE_PASSED
        found = climb.up(before, why)
        level = max(before, found)
        next_at = _step_after(known, before, level, step_at)
        if next_at >= limit:
            level = climb.up_to_the_last(level, LevelReason.DEADLINE_PASSED)
        elif found <= before:
            # Repeats of the last level page nobody twice in one decision: go to the last one that is due.
            apart = next_at - step_at
            next_at += max(0, (min(now, limit) - next_at) // apart) * apart
        step_at = next_at
    due_at, due_reason = step_at, DueReason.NEXT_LEVEL
    if due_at >= limit:
        due_at, due_reason = limit, DueReason.UNREACHED
        if due_at <= now:
            # Overdue after an outage: whoever was paged just now has one interval to answer.
            due_at = now + timedelta(seconds=known.interval_seconds)
    raised = changed(with_due(known, due_at, due_reason), level=level)
    return climb.outcome(raised, notices=_announcing(escalation, known, directory, message_type, level))


def raise_left(escalation: Escalation, directory: Directory, message_type: str, now: datetime) -> Outcome | None:
    """Pages the levels that nobody has paged yet, before `unreached`, and gives them one interval; None: none is
    left.
    """
    known = with_levels_known_now(escalation, directory)
    climb = _Climb(known, directory, message_type, now)
    level = climb.up_to_the_last(known.level, LevelReason.DEADLINE_PASSED)
    if not climb.reached:
        return None
    due_at = now + timedelta(seconds=known.interval_seconds)
    raised = changed(with_due(known, due_at, DueReason.UNREACHED), level=level)
    return climb.outcome(raised, notices=_announcing(escalation, known, directory, message_type, level))


def raise_one(
    escalation: Escalation, directory: Directory, reason: LevelReason, now: datetime, by: Actor | None = None
) -> Outcome:
    """Pages the next level now, whatever the clock says. It never puts off what the clock would have done."""
    known = with_levels_known_now(escalation, directory)
    climb = _Climb(known, directory, asking_type(known), now)
    found = climb.up(known.level, reason)
    level = max(known.level, found)
    # The reason is the act, also where it reached nobody new.
    climb.reached[found] = reason
    raised = replace(known, level=level)
    if known.due_reason is DueReason.NEXT_LEVEL and known.due_at is not None:
        due_at = min(known.due_at, now + timedelta(seconds=known.interval_seconds))
        raised = with_due(raised, due_at, DueReason.NEXT_LEVEL)
    return climb.outcome(
        raised, by=by, notices=_announcing(escalation, known, directory, asking_type(escalation), level)
    )


def tell_one(
    escalation: Escalation, directory: Directory, reason: LevelReason, now: datetime, *, besides: frozenset[UUID]
) -> Outcome:
    """Asks the next level for a position where somebody has acknowledged; the contacts `besides` whom it is to reach
    know already. Nobody is asked a second time, no office is rung in anybody's place, and no deadline changes.
    """
    told = replace(escalation, stopped=tuple({*escalation.stopped, *besides}))
    climb = _Climb(escalation, directory, "level.raised", now)
    for number in range(escalation.level + 1, len(escalation.levels) + 1):
        targets = _asked(told, directory.at_level(escalation.levels[number - 1], now)[0])
        if targets:
            climb.page(number, targets, reason)
            notices = _announcing(escalation, escalation, directory, "level.raised", number)
            return climb.outcome(replace(escalation, level=number), notices=notices)
    return Outcome(escalation)


def with_levels_known_now(escalation: Escalation, directory: Directory) -> Escalation:
    """The escalation with its partner's levels if it opened while none were known, so that it begins at the first.

    Levels are copied when an escalation opens; but a plan that arrives later is better than ringing the office again.
    """
    levels = directory.levels()[:LEVELS_MAX]
    if escalation.levels or not levels or escalation.kind is EscalationKind.INFORMATION:
        return escalation
    gaps = tuple(gap for gap in escalation.gaps if gap not in PLAN_GAPS)
    return replace(escalation, levels=levels, level=0, gaps=gaps)


def next_level(
    escalation: Escalation, directory: Directory, level: int, now: datetime
) -> tuple[int, tuple[Target, ...], list[Gap]]:
    """The next level that somebody can be paged at: its number, the contact points, and the gaps passed on the way.

    Beyond the last level, the last one that has people repeats, with those who were added. If no level has any, the
    duty office is paged in their place; if the plan itself is missing, expired or unreadable, the duty office is paged
    beside them. Whoever stopped their own pages gets none: a level of theirs alone is passed, which is no gap.
    """
    skipped: list[Gap] = []
    count, somebody = len(escalation.levels), False
    beside = _asked(escalation, directory.office_targets()) if directory.gap(now) is not None else ()
    for number in range(level + 1, count + 1):
        targets, gap = directory.at_level(escalation.levels[number - 1], now)
        if asked := _asked(escalation, targets):
            return number, _together(asked, beside), skipped
        if not targets:
            skipped.append(gap or Gap.EMPTY_LEVEL)
    added = added_targets(escalation, directory)
    for number in range(min(level, count), 0, -1):
        targets, _gap = directory.at_level(escalation.levels[number - 1], now)
        somebody = somebody or bool(targets)
        if asked := _together(_asked(escalation, targets), added):
            return number, _together(asked, beside), skipped
    if not somebody:
        skipped.append(Gap.ALL_LEVELS_EMPTY)
    return max(count, 1), _asked(escalation, directory.office_targets()), skipped


def added_targets(escalation: Escalation, directory: Directory) -> tuple[Target, ...]:
    """The contact points of those who were added while the escalation ran."""
    if not escalation.added:
        return ()
    found = (target for contact_id in escalation.added for target in directory.targets_of(contact_id))
    return _asked(escalation, tuple(found))


def _asked(escalation: Escalation, targets: tuple[Target, ...]) -> tuple[Target, ...]:
    """Without those who stopped their pages."""
    if not escalation.stopped:
        return targets
    return tuple(target for target in targets if escalation.still_asks(target))


def _together(targets: Sequence[Target], beside: Sequence[Target]) -> tuple[Target, ...]:
    """Both, each contact point once."""
    return tuple({target.contact_point_id: target for target in (*beside, *targets)}.values())


def _step_after(escalation: Escalation, before: int, level: int, step_at: datetime) -> datetime:
    """When the step after one at `step_at`, from level `before` to `level`, comes.

    After the first step it is the acknowledge-by time, then an interval each; the partner's own wait may only shorten
    it. A precedence without an interval repeats nothing: what follows is `unreached`.
    """
    acknowledge_by_at = escalation.acknowledge_by_at
    endless = escalation.next_level_every_seconds is None and escalation.kind is not EscalationKind.TAKEOVER
    if before == 0 and acknowledge_by_at is not None and step_at < acknowledge_by_at:
        next_at = acknowledge_by_at
    elif endless:
        next_at = escalation.unreached_at or NEVER
    else:
        next_at = step_at + timedelta(seconds=escalation.interval_seconds)
    own_wait = escalation.levels[level - 1].wait_seconds if 0 < level <= len(escalation.levels) else None
    if own_wait is None:
        return next_at
    if level >= len(escalation.levels):
        if endless:
            return next_at
        own_wait = max(own_wait, LAST_LEVEL_WAIT_SECONDS_MIN)
    return min(next_at, step_at + timedelta(seconds=own_wait))


def _announcing(
    before: Escalation, known: Escalation, directory: Directory, message_type: str, level: int
) -> tuple[PlannedPage, ...]:
    """The partner's own systems were paged once; afterwards they are told of each further level.

    Where nothing was known of the partner when the escalation opened, they are paged now.
    """
    if before.level == 0 or before.kind is not EscalationKind.ANSWER:
        return ()
    if known.levels != before.levels:
        return planned(directory.endpoint_targets(), message_type, level=0, asks=True)
    return planned(directory.endpoint_targets(), "level.raised", level=level, asks=False)


def level_pages(
    escalation: Escalation, directory: Directory, message_type: str, now: datetime, *, asks: bool
) -> tuple[PlannedPage, ...]:
    """Pages to whoever holds the levels that were reached so far; to the duty office where nobody does."""
    pages: dict[object, PlannedPage] = {}
    reached, precedence = max(escalation.level, 1), escalation.alert.precedence
    for number, level in enumerate(escalation.levels[:reached], start=1):
        targets, _gap = directory.at_level(level, now)
        for page in planned_in_order(targets, message_type, level=number, asks=asks, precedence=precedence, now=now):
            pages.setdefault(page.target.contact_point_id, page)
    for page in planned_in_order(
        added_targets(escalation, directory), message_type, level=reached, asks=asks, precedence=precedence, now=now
    ):
        pages.setdefault(page.target.contact_point_id, page)
    if not pages or directory.gap(now) is not None:
        for page in planned_in_order(
            directory.office_targets(), message_type, level=reached, asks=asks, precedence=precedence, now=now
        ):
            pages.setdefault(page.target.contact_point_id, page)
    return tuple(page for page in pages.values() if escalation.still_asks(page.target))


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
