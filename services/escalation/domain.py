"""One partner's obligation to answer one alert, and what happens to it next.

`decide(escalation, input, now)` is pure: it returns the new state, the events, and the pages that follow from it, or
raises `Rejected`. Nothing here reads a clock, a database or the network. The shell (`handlers`, `timers`) loads the
row under a lock, asks, and saves everything in one transaction.

    pending → notified → acknowledged → considering → committed | declined | noted
                  ↘ unreached (all levels spent)          ended (the alert ended first)

The clock runs from release. Level 1 is paged at release, level 2 at the acknowledge-by time, each further level one
interval later; the last level repeats every interval until `unreached`. A level that nobody can be paged at is skipped
at once. After an outage the overdue levels are paged together, and nobody becomes unreached sooner than one interval
after the first page.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import singledispatch
from uuid import UUID

from services.escalation.directory import Directory
from services.escalation.levels import (
    level_pages,
    next_level,
    raise_due_levels,
    raise_left,
    raise_one,
    tell_one,
    unreached_event,
)
from services.escalation.model import (
    FINAL,
    NOTE_CHARACTERS_MAX,
    TAKEOVER_ASK_AGAIN_SECONDS,
    UNANSWERED,
    DueReason,
    Escalation,
    Outcome,
    PlannedPage,
    Position,
    about,
    asking_type,
    earlier,
    planned_in_order,
    with_due,
    with_gaps,
)
from shared.contracts import (
    POSITION_ANSWER_WITHIN_MAX,
    Actor,
    ChannelName,
    EndReason,
    EscalationKind,
    EscalationState,
    Gap,
    LevelRaised,
    LevelReason,
    PartnerAcknowledged,
    PartnerNotified,
    PartnerTakenOver,
    PositionStance,
    PositionTaken,
)
from shared.errors import Conflict, Invalid

# --- inputs -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class DueTimeReached:
    """The row's due time has come."""

    directory: Directory
    attempts: int = 0


@dataclass(frozen=True, slots=True)
class PageAccepted:
    """Where the first page was accepted: channel, office or role, level."""

    channel: ChannelName
    told: str
    level: int


@dataclass(frozen=True, slots=True)
class PagesAttempted:
    """Pages of this escalation were tried, the first at `started_at`; `accepted` is None if no channel took one."""

    started_at: datetime
    accepted: PageAccepted | None


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """A named human has it. `asserted_by_system` is the subject of the system that named them, if one did; `page_id`
    the page that they answered, if it was one.
    """

    by: Actor
    via: str = "api"
    asserted_by_system: str | None = None
    page_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class TakePosition:
    """The partner answers. `directory` is needed to page the next person at once after "wrong person"."""

    stance: PositionStance
    by: Actor
    directory: Directory
    asserted_by_system: str | None = None
    answer_by_at: datetime | None = None
    note: str | None = None
    offer: str | None = None
    estimated_arrival_at: datetime | None = None
    via: str = "api"
    page_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class TakeOver:
    """A human of raiser or secretariat takes an unreached partner over."""

    by: Actor
    via: str = "api"
    page_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class RaiseLevel:
    """The secretariat raises a level now."""

    by: Actor
    directory: Directory


@dataclass(frozen=True, slots=True)
class CoverageMissed:
    """Too few partners have acknowledged in time for the raiser's goal: this one, if silent, is asked more loudly."""

    directory: Directory


@dataclass(frozen=True, slots=True)
class End:
    """The alert ended, was superseded, or (takeover) the partner answered."""

    reason: EndReason
    at: datetime


Input = DueTimeReached | PagesAttempted | Acknowledge | TakePosition | TakeOver | RaiseLevel | CoverageMissed | End


# --- deciding ---------------------------------------------------------------------------------------------------------


def decide(escalation: Escalation, command: Input, now: datetime) -> Outcome:
    """What `command` does to `escalation` at `now`. Raises `Rejected` if the state does not allow it."""
    return _decide(command, escalation, now)


@singledispatch
def _decide(command: object, escalation: Escalation, now: datetime) -> Outcome:  # noqa: ARG001
    message = f"no rule for {type(command).__name__}"
    raise TypeError(message)


@_decide.register
def _(command: DueTimeReached, escalation: Escalation, now: datetime) -> Outcome:
    if escalation.due_at is None or escalation.due_at > now or escalation.state is EscalationState.ENDED:
        return Outcome(escalation)
    if now >= escalation.expires_at:
        return decide(escalation, End(reason=EndReason.EXPIRED, at=escalation.expires_at), now)
    if escalation.kind is EscalationKind.TAKEOVER:
        return _takeover_due(escalation, command.directory, now)
    if escalation.kind is EscalationKind.ANSWER and escalation.state in UNANSWERED:
        return _unanswered_due(escalation, command, now)
    if escalation.state in (EscalationState.ACKNOWLEDGED, EscalationState.CONSIDERING):
        return _position_due(escalation, command.directory, now)
    return Outcome(with_due(escalation, escalation.expires_at, DueReason.EXPIRY))


def _unanswered_due(escalation: Escalation, command: DueTimeReached, now: datetime) -> Outcome:
    assert escalation.unreached_at is not None
    if escalation.due_reason is DueReason.NEXT_LEVEL:
        return raise_due_levels(
            escalation, command.directory, asking_type(escalation), LevelReason.DEADLINE_PASSED, now
        )
    left = raise_left(escalation, command.directory, asking_type(escalation), now)
    if left is not None:
        return left
    wait_until = _grace_until(escalation, now)
    if wait_until is not None:
        postponed = replace(escalation, unreached_postponed=escalation.first_attempt_at is None)
        return Outcome(with_due(postponed, wait_until, DueReason.UNREACHED))
    unreached = replace(
        with_due(escalation, escalation.expires_at, DueReason.EXPIRY),
        state=EscalationState.UNREACHED,
        # Whoever had taken it over before did so until the partner answered.
        taken_over_by=None,
        taken_over_at=None,
    )
    return Outcome(unreached, events=(unreached_event(unreached, command.directory, command.attempts, now),))


def _grace_until(escalation: Escalation, now: datetime) -> datetime | None:
    """Until when `unreached` must wait, because the first page left less than one interval ago; None: no longer."""
    interval = timedelta(seconds=escalation.interval_seconds)
    if escalation.first_attempt_at is not None:
        wait_until = escalation.first_attempt_at + interval
        return wait_until if wait_until > now else None
    # Pages exist and none has been tried yet: the sender was down. It gets one interval, once.
    return now + interval if escalation.paged and not escalation.unreached_postponed else None


def _position_due(escalation: Escalation, directory: Directory, now: datetime) -> Outcome:
    """A first position, or the answer promised by a time, is missing: first a reminder, then level after level."""
    interval = timedelta(seconds=escalation.interval_seconds)
    reminders = escalation.position_reminders
    if reminders == 0:
        pages = level_pages(escalation, directory, "level.raised", now, asks=True)
        reason = LevelReason.POSITION_REMINDER
        return _position_step(
            escalation, level=escalation.level, reason=reason, pages=pages, due_at=now + interval, now=now
        )
    reason = LevelReason.POSITION_MISSED
    number, targets, skipped = next_level(escalation, directory, escalation.level, now)
    escalation = with_gaps(escalation, skipped)
    if number > escalation.level:
        pages = planned_in_order(
            targets, "level.raised", level=number, asks=True, precedence=escalation.alert.precedence, now=now
        )
        return _position_step(
            escalation, level=number, reason=reason, pages=pages, due_at=now + interval, now=now, gaps=skipped
        )
    # Everybody has been told, and the raiser sees the miss: the alert's own expiry is the end of asking.
    outcome = _position_step(
        escalation, level=escalation.level, reason=reason, pages=(), due_at=escalation.expires_at, now=now
    )
    return replace(outcome, escalation=replace(outcome.escalation, due_reason=DueReason.EXPIRY))


def _position_step(
    escalation: Escalation,
    *,
    level: int,
    reason: LevelReason,
    pages: tuple[PlannedPage, ...],
    due_at: datetime,
    now: datetime,
    gaps: Sequence[Gap] = (),
) -> Outcome:
    stepped = replace(
        with_due(escalation, due_at, DueReason.POSITION),
        level=max(level, escalation.level),
        position_reminders=escalation.position_reminders + 1,
    )
    event = LevelRaised(
        **about(stepped),
        level=stepped.level,
        reason=reason,
        raised_at=now,
        next_due_at=stepped.due_at,
        gaps=tuple(gaps),
        told=tuple(dict.fromkeys(page.target.told for page in pages)),
    )
    return Outcome(stepped, events=(event,), pages=pages)


def _takeover_due(escalation: Escalation, directory: Directory, now: datetime) -> Outcome:
    """Nobody has taken the partner over, or the time to ask again has come."""
    asked_again = escalation
    reason = LevelReason.DEADLINE_PASSED
    if escalation.due_reason is DueReason.ASK_AGAIN:
        # Whoever was the wrong person may say so again.
        asked_again = replace(escalation, state=EscalationState.NOTIFIED, level=0, due_at=now, position=None)
        reason = LevelReason.TAKEOVER_REPEATED
    return raise_due_levels(asked_again, directory, "partner.unreached", reason, now)


@_decide.register
def _(command: PagesAttempted, escalation: Escalation, now: datetime) -> Outcome:
    tried = replace(escalation, first_attempt_at=earlier(escalation.first_attempt_at, command.started_at))
    accepted = command.accepted
    if accepted is None or tried.notified_at is not None or tried.state is EscalationState.ENDED:
        return Outcome(tried)
    state = EscalationState.NOTIFIED if tried.state is EscalationState.PENDING else tried.state
    notified = replace(tried, notified_at=now, state=state)
    event = PartnerNotified(
        **about(notified), notified_at=now, channel=accepted.channel, told=accepted.told, level=accepted.level
    )
    return Outcome(notified, events=(event,))


@_decide.register
def _(command: Acknowledge, escalation: Escalation, now: datetime) -> Outcome:
    if escalation.kind is EscalationKind.INFORMATION:
        raise Conflict("this partner was only informed: no answer is owed", code="nothing_to_acknowledge")
    if escalation.kind is EscalationKind.TAKEOVER:
        raise Conflict("a takeover is taken over, not acknowledged: use the takeover call", code="use_takeover")
    if escalation.acknowledged_at is not None:
        return Outcome(escalation)
    if escalation.position is not None and escalation.position.stance is PositionStance.WRONG_PERSON:
        escalation = replace(escalation, position=None)
    late = escalation.acknowledge_by_at is not None and now > escalation.acknowledge_by_at
    acknowledged = replace(
        escalation,
        acknowledged_at=now,
        acknowledged_by=command.by,
        asserted_by_system=command.asserted_by_system,
        acknowledged_via=command.via,
        late=late or escalation.state is EscalationState.UNREACHED,
    )
    if escalation.state is not EscalationState.ENDED:
        # A position that is owed gets a time of its own; no deadline from before the acknowledgement lives on.
        position_by_at = max(escalation.position_by_at or now, now + timedelta(seconds=escalation.interval_seconds))
        acknowledged = replace(
            with_due(acknowledged, position_by_at, DueReason.POSITION),
            state=EscalationState.ACKNOWLEDGED,
            position_by_at=position_by_at,
            position_reminders=0,
        )
    event = PartnerAcknowledged(
        **about(acknowledged),
        acknowledged_at=now,
        acknowledged_by=command.by,
        asserted_by_system=command.asserted_by_system,
        via=command.via,
        page_id=command.page_id,
        late=acknowledged.late,
        seconds_from_release=(now - escalation.clock_started_at).total_seconds(),
    )
    return Outcome(acknowledged, events=(event,), stops_pages=True)


@_decide.register
def _(command: TakePosition, escalation: Escalation, now: datetime) -> Outcome:
    if _is_repeated(command, escalation):
        return Outcome(escalation)
    if escalation.kind is EscalationKind.TAKEOVER and command.stance is PositionStance.WRONG_PERSON:
        return _pass_takeover_on(command, escalation, now)
    _check_position(command, escalation, now)
    position = Position(
        stance=command.stance,
        taken_at=now,
        taken_by=command.by,
        answer_by_at=command.answer_by_at,
        note=command.note,
        offer=command.offer,
        estimated_arrival_at=command.estimated_arrival_at,
    )
    event = PositionTaken(
        **about(escalation),
        stance=command.stance,
        taken_at=now,
        taken_by=command.by,
        answer_by_at=command.answer_by_at,
        note=command.note,
        offer=command.offer,
        estimated_arrival_at=command.estimated_arrival_at,
        via=command.via,
        page_id=command.page_id,
    )
    if command.stance is PositionStance.WRONG_PERSON:
        return _wrong_person(escalation, command, position, event, now)
    # Whoever answers the question has received it.
    acknowledge = Acknowledge(
        by=command.by, via=command.via, asserted_by_system=command.asserted_by_system, page_id=command.page_id
    )
    received = decide(escalation, acknowledge, now)
    answered = replace(
        received.escalation,
        state=EscalationState(command.stance.value),
        position=position,
        position_reminders=0,
    )
    if command.stance is PositionStance.CONSIDERING:
        assert command.answer_by_at is not None
        answered = with_due(answered, command.answer_by_at, DueReason.POSITION)
    else:
        answered = with_due(answered, answered.expires_at, DueReason.EXPIRY)
    # Reminders of a missing position are still on their way, perhaps; they ask for what has just been given.
    return Outcome(answered, events=(*received.events, event), stops_pages=True)


def _pass_takeover_on(command: TakePosition, takeover: Escalation, now: datetime) -> Outcome:
    """Whoever is asked to take a partner over and is the wrong person: the next level is asked at once."""
    if takeover.state is EscalationState.ENDED:
        raise Conflict("the takeover has ended: there is nothing left to answer", code="escalation_ended")
    if takeover.state not in UNANSWERED:
        raise Conflict("the partner has been taken over", code="already_answered")
    position = Position(stance=PositionStance.WRONG_PERSON, taken_at=now, taken_by=command.by)
    passed_on = replace(takeover, position=position)
    return raise_one(passed_on, command.directory, LevelReason.WRONG_PERSON, now)


def _is_repeated(command: TakePosition, escalation: Escalation) -> bool:
    """Whether the same person says again what stands: a request that was sent twice is one answer."""
    stands = escalation.position
    if stands is None or escalation.position_reminders or escalation.state is EscalationState.ENDED:
        return False
    return (
        stands.stance is command.stance
        and stands.taken_by.is_same_person(command.by)
        and (stands.answer_by_at, stands.note, stands.offer, stands.estimated_arrival_at)
        == (command.answer_by_at, command.note, command.offer, command.estimated_arrival_at)
    )


def _check_position(command: TakePosition, escalation: Escalation, now: datetime) -> None:
    if escalation.kind is not EscalationKind.ANSWER:
        raise Conflict("this escalation asks for no position", code="no_position_asked")
    if escalation.state is EscalationState.ENDED:
        raise Conflict("the alert has ended: there is nothing left to answer", code="escalation_ended")
    for field, value in (("note", command.note), ("offer", command.offer)):
        if value is not None and len(value) > NOTE_CHARACTERS_MAX:
            raise Invalid(f"at most {NOTE_CHARACTERS_MAX} characters", code="too_long", field=field)
    if command.stance is PositionStance.CONSIDERING:
        if command.answer_by_at is None:
            raise Invalid("`considering` needs the time by which you will answer", code="required", field="answer_by")
        if not now < command.answer_by_at <= now + POSITION_ANSWER_WITHIN_MAX:
            raise Invalid("a time from now to at most 30 days ahead", code="out_of_range", field="answer_by")
    elif command.answer_by_at is not None:
        raise Invalid("only `considering` has a time to answer by", code="not_allowed", field="answer_by")


def _wrong_person(
    escalation: Escalation, command: TakePosition, position: Position, event: PositionTaken, now: datetime
) -> Outcome:
    """The question goes on to the next person at once, whoever else is still being tried.

    Unanswered, the clock goes on as it was: no number of wrong persons keeps a partner from being called unreached, or
    an unreached one from being taken over. Whoever takes their own acknowledgement back leaves nobody who has it, so
    asking begins again under a new deadline. Somebody else's acknowledgement stands, also where an answer that came
    after it is taken back: then the next person is told, and the missing position is asked for one interval from now at
    the latest. Somebody else's answer stands, too. Whoever has acknowledged is not told to.
    """
    interval = timedelta(seconds=escalation.interval_seconds)
    answered_by = escalation.position.taken_by if escalation.position is not None else None
    is_considering = escalation.state is EscalationState.CONSIDERING
    if escalation.state in FINAL or (is_considering and not _is_by(answered_by, command)):
        raise Conflict(
            f"your government's answer stands: {escalation.state}; take another position to change that",
            code="already_answered",
        )
    if escalation.state in UNANSWERED or escalation.state is EscalationState.UNREACHED:
        passed_on = replace(escalation, position=position)
    elif _is_by(escalation.acknowledged_by, command):
        passed_on = replace(
            escalation,
            state=EscalationState.NOTIFIED,
            acknowledged_at=None,
            acknowledged_by=None,
            asserted_by_system=None,
            acknowledged_via=None,
            late=False,
            position=position,
            position_reminders=0,
            unreached_postponed=False,
            acknowledge_by_at=now + interval,
            unreached_at=max(escalation.unreached_at or now, now + 2 * interval),
        )
        passed_on = with_due(passed_on, now + interval, DueReason.NEXT_LEVEL)
    else:
        passed_on = replace(escalation, state=EscalationState.ACKNOWLEDGED, position=position)
        passed_on = with_due(passed_on, min(escalation.due_at or now, now + interval), DueReason.POSITION)
    if passed_on.acknowledged_by is None:
        raised = raise_one(passed_on, command.directory, LevelReason.WRONG_PERSON, now)
    else:
        knowing = _known_to(escalation, command)
        raised = tell_one(passed_on, command.directory, LevelReason.WRONG_PERSON, now, besides=knowing)
    return Outcome(raised.escalation, events=(event, *raised.events), pages=raised.pages)


def _known_to(escalation: Escalation, command: TakePosition) -> frozenset[UUID]:
    """Contacts who need not be told: whoever has acknowledged, and whoever speaks now."""
    actors = (escalation.acknowledged_by, command.by)
    return frozenset(actor.contact_id for actor in actors if actor is not None and actor.contact_id is not None)


def _is_by(actor: Actor | None, command: TakePosition) -> bool:
    """Whether something was done by whoever speaks now."""
    return actor is not None and actor.is_same_person(command.by)


@_decide.register
def _(command: RaiseLevel, escalation: Escalation, now: datetime) -> Outcome:
    if escalation.kind is not EscalationKind.ANSWER or escalation.state not in UNANSWERED:
        raise Conflict(
            f"only an unanswered escalation can be raised; this one is {escalation.state}", code="not_waiting"
        )
    return raise_one(escalation, command.directory, LevelReason.RAISED_BY_HAND, now, by=command.by)


@_decide.register
def _(command: CoverageMissed, escalation: Escalation, now: datetime) -> Outcome:
    if escalation.kind is not EscalationKind.ANSWER or escalation.state not in UNANSWERED:
        return Outcome(escalation)
    raised = raise_one(escalation, command.directory, LevelReason.DEADLINE_PASSED, now)
    events = tuple(
        event.model_copy(update={"coverage_missed": True}) if isinstance(event, LevelRaised) else event
        for event in raised.events
    )
    return replace(raised, events=events)


@_decide.register
def _(command: TakeOver, escalation: Escalation, now: datetime) -> Outcome:
    ask_again_at = now + timedelta(seconds=TAKEOVER_ASK_AGAIN_SECONDS)
    if escalation.kind is EscalationKind.TAKEOVER:
        if escalation.state is EscalationState.ENDED:
            raise Conflict("this takeover is over", code="escalation_ended")
        if _has_taken_over(escalation, command.by, now):
            return Outcome(escalation)
        taken = replace(
            with_due(escalation, ask_again_at, DueReason.ASK_AGAIN),
            state=EscalationState.ACKNOWLEDGED,
            taken_over_by=command.by,
            taken_over_at=now,
        )
        return Outcome(taken, events=(_taken_over(taken, command, now, ask_again_at),), stops_pages=True)
    if escalation.state is not EscalationState.UNREACHED:
        raise Conflict(
            f"only an unreached partner can be taken over; this one is {escalation.state}", code="not_unreached"
        )
    if _has_taken_over(escalation, command.by, now):
        return Outcome(escalation)
    taken = replace(escalation, taken_over_by=command.by, taken_over_at=now)
    return Outcome(taken, events=(_taken_over(taken, command, now, ask_again_at),))


def _taken_over(taken: Escalation, command: TakeOver, now: datetime, ask_again_at: datetime) -> PartnerTakenOver:
    return PartnerTakenOver(
        **about(taken),
        taken_over_at=now,
        taken_over_by=command.by,
        ask_again_at=ask_again_at,
        via=command.via,
        page_id=command.page_id,
    )


def _has_taken_over(escalation: Escalation, by: Actor, now: datetime) -> bool:
    """Whether this person has done so and was not asked again since: a request that was sent twice is one act."""
    return (
        escalation.taken_over_by is not None
        and escalation.taken_over_at is not None
        and escalation.taken_over_by.is_same_person(by)
        and now < escalation.taken_over_at + timedelta(seconds=TAKEOVER_ASK_AGAIN_SECONDS)
    )


@_decide.register
def _(command: End, escalation: Escalation, now: datetime) -> Outcome:  # noqa: ARG001 - the alert says when it ended
    if escalation.state is EscalationState.ENDED:
        return Outcome(escalation)
    ended = replace(
        escalation,
        state=EscalationState.ENDED,
        ended_at=command.at,
        end_reason=command.reason,
        due_at=None,
        due_reason=None,
    )
    return Outcome(ended, stops_pages=True, sends_ending=command.reason is not EndReason.SUPERSEDED)
