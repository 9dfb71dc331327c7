"""What an acknowledgement, a position, a takeover and an end do to an escalation, in every state."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from services.escalation.domain import (
    Acknowledge,
    DueTimeReached,
    End,
    Input,
    PageAccepted,
    PagesAttempted,
    RaiseLevel,
    TakeOver,
    TakePosition,
    decide,
)
from services.escalation.model import NOTE_CHARACTERS_MAX, DueReason, Escalation, Outcome
from shared.contracts import (
    Actor,
    ChannelName,
    EndReason,
    EscalationKind,
    EscalationState,
    LevelRaised,
    LevelReason,
    PartnerAcknowledged,
    PartnerNotified,
    PartnerTakenOver,
    PositionStance,
    PositionTaken,
)
from shared.errors import Conflict, Invalid
from tests.support.escalation_cases import MINUTE, OFFICER, T0, Story, begin, directory, human, people

KNOWN = directory()
XR = Actor(subject="xr-1", partner="XR")
FINAL = (PositionStance.COMMITTED, PositionStance.DECLINED, PositionStance.NOTED)


def position(stance: PositionStance, by: Actor | None = None, **changes: Any) -> TakePosition:
    """A position of person 1."""
    if stance is PositionStance.CONSIDERING:
        changes.setdefault("answer_by_at", T0 + 60 * MINUTE)
    return TakePosition(stance, by or human(), KNOWN, **changes)


def in_state(state: EscalationState) -> Escalation:
    """An escalation that has come to a state, at minute 5 or, unreached, at minute 30."""
    story = begin(KNOWN, accepts=state is not EscalationState.PENDING)
    at = T0 + 5 * MINUTE
    steps: dict[EscalationState, Input] = {
        EscalationState.ACKNOWLEDGED: Acknowledge(human()),
        EscalationState.CONSIDERING: position(PositionStance.CONSIDERING),
        EscalationState.COMMITTED: position(PositionStance.COMMITTED),
        EscalationState.DECLINED: position(PositionStance.DECLINED),
        EscalationState.NOTED: position(PositionStance.NOTED),
        EscalationState.ENDED: End(EndReason.CLOSED, at),
    }
    if state is EscalationState.UNREACHED:
        story.until(T0 + 30 * MINUTE)
    elif state in steps:
        story.take(decide(story.escalation, steps[state], at), at)
    assert story.escalation.state is state
    return story.escalation


def refused(escalation: Escalation, command: Input, now: datetime) -> str:
    """The code by which a command is refused."""
    with pytest.raises((Conflict, Invalid)) as caught:
        decide(escalation, command, now)
    return str(caught.value.code)


# --- acknowledgement --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", [EscalationState.PENDING, EscalationState.NOTIFIED, EscalationState.UNREACHED])
def test_an_acknowledgement_is_valid_before_the_first_page_and_after_unreached(state: EscalationState) -> None:
    """Wherever it stands unanswered, an acknowledgement stops the partner's escalation and its pages."""
    outcome = decide(in_state(state), Acknowledge(human(), via="api"), T0 + 31 * MINUTE)
    assert outcome.escalation.state is EscalationState.ACKNOWLEDGED
    assert outcome.stops_pages
    assert outcome.pages == ()
    (event,) = outcome.events
    assert isinstance(event, PartnerAcknowledged)
    assert (event.acknowledged_by, event.seconds_from_release) == (human(), 31 * 60)


@pytest.mark.parametrize(("minute", "late"), [(5, False), (10, False), (10.1, True), (29, True)])
def test_late_is_after_the_acknowledge_by_time(minute: float, late: bool) -> None:
    """An acknowledgement after the acknowledge-by time is late, and as valid as any."""
    outcome = decide(begin(KNOWN).escalation, Acknowledge(human()), T0 + minute * MINUTE)
    assert outcome.escalation.late is late


def test_an_unreached_partner_that_acknowledges_is_late() -> None:
    """`unreached` becomes `acknowledged`, with late = true."""
    assert decide(in_state(EscalationState.UNREACHED), Acknowledge(human()), T0 + 40 * MINUTE).escalation.late


def test_after_the_end_an_acknowledgement_is_kept_and_changes_no_state() -> None:
    """Somebody answers a message that has ended: who and when is recorded, the end stands."""
    outcome = decide(in_state(EscalationState.ENDED), Acknowledge(human()), T0 + 40 * MINUTE)
    assert outcome.escalation.state is EscalationState.ENDED
    assert outcome.escalation.acknowledged_by == human()
    assert outcome.escalation.due_at is None
    assert len(outcome.events) == 1


@pytest.mark.parametrize(
    "state",
    [
        EscalationState.ACKNOWLEDGED,
        EscalationState.CONSIDERING,
        EscalationState.COMMITTED,
        EscalationState.DECLINED,
        EscalationState.NOTED,
    ],
)
def test_a_second_acknowledgement_changes_nothing(state: EscalationState) -> None:
    """The first one stands, whoever comes second."""
    before = in_state(state)
    assert decide(before, Acknowledge(human(2)), T0 + 9 * MINUTE) == Outcome(before)


def test_no_deadline_from_before_an_acknowledgement_lives_on() -> None:
    """What was due to raise a level raises none: the next thing due is the position."""
    acknowledged = in_state(EscalationState.ACKNOWLEDGED)
    assert (acknowledged.due_at, acknowledged.due_reason) == (T0 + timedelta(hours=2), DueReason.POSITION)
    assert decide(acknowledged, DueTimeReached(KNOWN), T0 + 10 * MINUTE) == Outcome(acknowledged)


def test_a_system_that_names_a_contact_is_named_itself() -> None:
    """The escalation and the event say that a system asserted the acknowledgement, also when it came as a position."""
    for command in (
        Acknowledge(human(), asserted_by_system="gb-system"),
        position(PositionStance.NOTED, asserted_by_system="gb-system"),
    ):
        outcome = decide(begin(KNOWN).escalation, command, T0 + MINUTE)
        assert outcome.escalation.asserted_by_system == "gb-system"
        assert isinstance(outcome.events[0], PartnerAcknowledged)
        assert outcome.events[0].asserted_by_system == "gb-system"


def test_information_owes_no_acknowledgement() -> None:
    """A partner that is only informed has nothing to acknowledge, to answer or to be raised."""
    informed = begin(KNOWN, kind=EscalationKind.INFORMATION).escalation
    assert refused(informed, Acknowledge(human()), T0) == "nothing_to_acknowledge"
    assert refused(informed, position(PositionStance.NOTED), T0) == "no_position_asked"
    assert refused(informed, RaiseLevel(XR, KNOWN), T0) == "not_waiting"


# --- notified ---------------------------------------------------------------------------------------------------------


def test_a_page_that_nobody_accepted_notifies_nobody() -> None:
    """A failed attempt counts as an attempt, and as nothing else."""
    opened = begin(KNOWN, accepts=False).escalation
    tried = decide(opened, PagesAttempted(T0, None), T0)
    assert tried.escalation.state is EscalationState.PENDING
    assert tried.escalation.first_attempt_at == T0
    assert tried.events == ()


def test_notified_is_said_once_and_never_undoes_an_answer() -> None:
    """A page that is accepted after the acknowledgement is noted, and the partner stays acknowledged."""
    pending = in_state(EscalationState.PENDING)
    acknowledged = decide(pending, Acknowledge(human()), T0 + MINUTE).escalation
    accepted = PagesAttempted(T0, PageAccepted(ChannelName.WEBHOOK, "Senior contact 1", 1))
    noted = decide(acknowledged, accepted, T0 + 2 * MINUTE)
    assert noted.escalation.state is EscalationState.ACKNOWLEDGED
    assert [type(event) for event in noted.events] == [PartnerNotified]
    assert decide(noted.escalation, accepted, T0 + 3 * MINUTE).events == ()


# --- positions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stance", FINAL)
def test_a_final_position_ends_the_asking(stance: PositionStance) -> None:
    """Committed, declined and noted are answers: nothing is due any more but the alert's own end; no reason needed."""
    outcome = decide(begin(KNOWN).escalation, position(stance), T0 + MINUTE)
    assert outcome.escalation.state == EscalationState(stance.value)
    assert outcome.escalation.due_reason is DueReason.EXPIRY
    assert [type(event) for event in outcome.events] == [PartnerAcknowledged, PositionTaken]
    assert outcome.stops_pages


def test_a_position_of_an_unreached_partner_answers_for_it() -> None:
    """Late and substantive at once."""
    outcome = decide(in_state(EscalationState.UNREACHED), position(PositionStance.COMMITTED), T0 + 40 * MINUTE)
    assert outcome.escalation.state is EscalationState.COMMITTED
    assert outcome.escalation.late


def test_a_position_may_change_until_the_end() -> None:
    """A "no" may become a "yes", and each is announced; after the end nothing is left to answer."""
    declined = in_state(EscalationState.DECLINED)
    committed = decide(declined, position(PositionStance.COMMITTED, offer="200 places"), T0 + 6 * MINUTE)
    assert committed.escalation.state is EscalationState.COMMITTED
    assert [type(event) for event in committed.events] == [PositionTaken]
    assert refused(in_state(EscalationState.ENDED), position(PositionStance.NOTED), T0) == "escalation_ended"


def test_the_same_position_twice_is_one() -> None:
    """A request that was sent again by the same person creates no second event; another person's does."""
    committed = decide(begin(KNOWN).escalation, position(PositionStance.COMMITTED, offer="200"), T0).escalation
    again = decide(committed, position(PositionStance.COMMITTED, offer="200"), T0 + MINUTE)
    assert again == Outcome(committed)
    other = decide(committed, position(PositionStance.COMMITTED, human(2), offer="200"), T0 + MINUTE)
    assert len(other.events) == 1


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (TakePosition(PositionStance.CONSIDERING, human(), KNOWN), "required"),
        (position(PositionStance.CONSIDERING, answer_by_at=T0), "out_of_range"),
        (position(PositionStance.CONSIDERING, answer_by_at=T0 + timedelta(days=30, seconds=1)), "out_of_range"),
        (position(PositionStance.NOTED, answer_by_at=T0 + MINUTE), "not_allowed"),
        (position(PositionStance.NOTED, note="n" * (NOTE_CHARACTERS_MAX + 1)), "too_long"),
        (position(PositionStance.NOTED, offer="o" * (NOTE_CHARACTERS_MAX + 1)), "too_long"),
    ],
)
def test_what_a_position_may_not_be(command: TakePosition, code: str) -> None:
    """`considering` needs a time from now to 30 days ahead, nothing else has one, and texts have a limit."""
    assert refused(begin(KNOWN).escalation, command, T0) == code


@pytest.mark.parametrize("at", [T0 + timedelta(seconds=1), T0 + timedelta(days=30)])
def test_considering_takes_any_time_within_thirty_days(at: datetime) -> None:
    """Both ends of what is allowed, and never beyond the alert's own expiry."""
    outcome = decide(begin(KNOWN).escalation, position(PositionStance.CONSIDERING, answer_by_at=at), T0)
    assert outcome.escalation.due_at == min(at, outcome.escalation.expires_at)


def after(escalation: Escalation) -> Story:
    """The story from here, everything accepted."""
    return Story(KNOWN, escalation)


@pytest.mark.parametrize(("state", "minute"), [(EscalationState.ACKNOWLEDGED, 120), (EscalationState.CONSIDERING, 60)])
def test_a_missed_position_first_reminds_then_raises_the_level(state: EscalationState, minute: int) -> None:
    """At its time whoever was reached is reminded, one interval later the next level is told, each with a new
    deadline; then everybody has been told and the asking rests.
    """
    story = after(in_state(state)).until(T0 + minute * MINUTE + timedelta(days=1))
    assert story.log == [(minute, ["person-1"]), (minute + 5, ["person-2"])]
    reasons = [event.reason for event in story.named(LevelRaised)]
    assert reasons == [LevelReason.POSITION_REMINDER, LevelReason.POSITION_MISSED, LevelReason.POSITION_MISSED]
    assert story.named(LevelRaised)[0].next_due_at == T0 + (minute + 5) * MINUTE
    assert story.escalation.state is state
    assert story.escalation.due_reason is DueReason.EXPIRY


def test_a_position_stops_the_reminders_that_are_under_way() -> None:
    """Reminders ask, so the answer ends those that are still being tried."""
    story = after(in_state(EscalationState.ACKNOWLEDGED))
    reminded = story.overdue(T0 + 120 * MINUTE)
    assert all(page.asks for page in reminded.pages)
    assert decide(story.escalation, position(PositionStance.NOTED), T0 + 121 * MINUTE).stops_pages


def test_a_new_time_for_considering_begins_anew() -> None:
    """Asked for a position, the partner names a later time: it is reminded then, as the first time."""
    story = after(in_state(EscalationState.CONSIDERING)).until(T0 + 61 * MINUTE)
    later = position(PositionStance.CONSIDERING, answer_by_at=T0 + 90 * MINUTE)
    story.take(decide(story.escalation, later, T0 + 62 * MINUTE), T0 + 62 * MINUTE)
    story.until(T0 + 90 * MINUTE)
    assert [at for at, _ in story.log] == [60, 90]


def test_a_late_acknowledgement_leaves_one_interval_for_the_position() -> None:
    """Acknowledged after the position was due: it is asked for one interval later, not at once."""
    outcome = decide(in_state(EscalationState.UNREACHED), Acknowledge(human()), T0 + 300 * MINUTE)
    assert outcome.escalation.due_at == T0 + 305 * MINUTE


# --- wrong person -----------------------------------------------------------------------------------------------------


def wrong(by: int = 1) -> TakePosition:
    """Person `by` says that they are the wrong one to ask."""
    return position(PositionStance.WRONG_PERSON, human(by))


def test_a_wrong_person_who_was_paged_sends_the_question_on_at_once() -> None:
    """The next level is paged now; nobody has acknowledged, other pages go on, and the clock is not put off."""
    outcome = decide(in_state(EscalationState.NOTIFIED), wrong(), T0 + 5 * MINUTE)
    assert people(outcome) == ["person-2"]
    assert not outcome.stops_pages
    escalation = outcome.escalation
    assert (escalation.state, escalation.acknowledged_at) == (EscalationState.NOTIFIED, None)
    assert (escalation.due_at, escalation.unreached_at) == (T0 + 10 * MINUTE, T0 + 30 * MINUTE)
    assert [type(event) for event in outcome.events] == [PositionTaken, LevelRaised]


def test_wrong_persons_cannot_keep_a_partner_from_being_unreached() -> None:
    """Somebody answers "wrong person" every four minutes: at minute 30 the partner is unreached all the same."""
    story = begin(KNOWN)
    for number in range(1, 8):
        at = T0 + 4 * number * MINUTE
        story.until(at)
        story.take(decide(story.escalation, wrong(number), at), at)
    assert story.until(T0 + 30 * MINUTE).escalation.state is EscalationState.UNREACHED


def test_an_unreached_partner_stays_unreached_after_a_wrong_person() -> None:
    """People are being woken to take it over: "not me" is no reason to call them off. The next one is paged."""
    outcome = decide(in_state(EscalationState.UNREACHED), wrong(), T0 + 40 * MINUTE)
    assert outcome.escalation.state is EscalationState.UNREACHED
    assert outcome.escalation.due_reason is DueReason.EXPIRY
    assert people(outcome) == ["person-2"]


def test_whoever_takes_their_own_acknowledgement_back_is_replaced_at_once() -> None:
    """Nobody has it any more: the next level is paged now, under a new deadline that ends in unreached."""
    at = T0 + 50 * MINUTE
    story = after(in_state(EscalationState.ACKNOWLEDGED))
    story.take(decide(story.escalation, wrong(), at), at)
    assert story.escalation.state is EscalationState.NOTIFIED
    assert story.escalation.acknowledged_by is None
    assert story.log == [(50, ["person-2"])]
    assert story.until(T0 + 59 * MINUTE).log[1:] == [(55, ["person-2"])]
    assert story.until(T0 + 60 * MINUTE).escalation.state is EscalationState.UNREACHED


def test_a_colleagues_acknowledgement_stands() -> None:
    """Somebody else is the wrong one, person 1 has it: the acknowledgement is not undone; the position is asked for
    sooner, and of the next person now. Nobody who has answered is asked, nor the office in their place.
    """
    outcome = decide(in_state(EscalationState.ACKNOWLEDGED), wrong(3), T0 + 6 * MINUTE)
    assert outcome.escalation.state is EscalationState.ACKNOWLEDGED
    assert outcome.escalation.acknowledged_by == human(1)
    assert (outcome.escalation.due_at, outcome.escalation.due_reason) == (T0 + 11 * MINUTE, DueReason.POSITION)
    assert people(outcome) == ["person-2"]
    assert {page.message_type for page in outcome.pages} == {"level.raised"}
    outcome = decide(in_state(EscalationState.ACKNOWLEDGED), wrong(2), T0 + 6 * MINUTE)
    assert (outcome.escalation.level, people(outcome)) == (1, [])
    acknowledged = decide(in_state(EscalationState.NOTIFIED), Acknowledge(human(2)), T0 + 5 * MINUTE).escalation
    outcome = decide(acknowledged, wrong(1), T0 + 6 * MINUTE)
    assert (outcome.escalation.acknowledged_by, people(outcome)) == (human(2), [])


def test_an_own_acknowledgement_is_taken_back_after_a_colleagues_wrong_person() -> None:
    """Person 2 has said that it is not them, and now person 1, who had it: nobody has it any more."""
    once = decide(in_state(EscalationState.ACKNOWLEDGED), wrong(2), T0 + 6 * MINUTE).escalation
    outcome = decide(once, wrong(), T0 + 7 * MINUTE)
    assert (outcome.escalation.state, outcome.escalation.acknowledged_by) == (EscalationState.NOTIFIED, None)
    assert (outcome.escalation.due_at, outcome.escalation.due_reason) == (T0 + 12 * MINUTE, DueReason.NEXT_LEVEL)


def test_a_person_is_one_under_several_credentials() -> None:
    """Acknowledged by SMS, taken back in the console: the contact is the same, and so it is their own."""
    once = decide(in_state(EscalationState.NOTIFIED), Acknowledge(human(1)), T0 + 5 * MINUTE).escalation
    other = human(1).model_copy(update={"subject": "another-credential"})
    outcome = decide(once, position(PositionStance.WRONG_PERSON, other), T0 + 6 * MINUTE)
    assert (outcome.escalation.state, outcome.escalation.acknowledged_by) == (EscalationState.NOTIFIED, None)
    stranger = other.model_copy(update={"contact_id": None})
    assert decide(once, position(PositionStance.WRONG_PERSON, stranger), T0 + 6 * MINUTE).escalation.acknowledged_by


def test_a_second_silence_is_taken_over_by_nobody_yet() -> None:
    """Whoever took the partner over did so until it answered; what it took back is everybody's again."""
    taken = decide(in_state(EscalationState.UNREACHED), TakeOver(OFFICER), T0 + 31 * MINUTE).escalation
    answered = decide(taken, Acknowledge(human()), T0 + 32 * MINUTE).escalation
    assert answered.taken_over_by == OFFICER
    story = after(answered)
    story.take(decide(answered, wrong(), T0 + 33 * MINUTE), T0 + 33 * MINUTE)
    unreached = story.until(T0 + 43 * MINUTE).escalation
    assert (unreached.state, unreached.taken_over_by) == (EscalationState.UNREACHED, None)


def test_who_takes_back_what_they_considered_leaves_a_colleagues_acknowledgement() -> None:
    """Person 1 has acknowledged, somebody else was considering: the first stands, a position is asked for soon."""
    considering = position(PositionStance.CONSIDERING, human(3), answer_by_at=T0 + 90 * MINUTE)
    once = decide(in_state(EscalationState.ACKNOWLEDGED), considering, T0 + 6 * MINUTE).escalation
    assert refused(once, wrong(1), T0 + 7 * MINUTE) == "already_answered"
    outcome = decide(once, wrong(3), T0 + 7 * MINUTE)
    assert (outcome.escalation.state, outcome.escalation.acknowledged_by) == (EscalationState.ACKNOWLEDGED, human(1))
    assert (outcome.escalation.due_at, outcome.escalation.due_reason) == (T0 + 12 * MINUTE, DueReason.POSITION)
    assert people(outcome) == ["person-2"]


@pytest.mark.parametrize("state", [EscalationState.COMMITTED, EscalationState.DECLINED, EscalationState.NOTED])
def test_a_governments_answer_is_not_undone_by_a_wrong_person(state: EscalationState) -> None:
    """Whoever wants to change an answer takes another position."""
    assert refused(in_state(state), wrong(), T0 + 6 * MINUTE) == "already_answered"
    assert refused(in_state(EscalationState.CONSIDERING), wrong(2), T0 + 6 * MINUTE) == "already_answered"


def test_the_same_wrong_person_twice_is_one() -> None:
    """A request that was sent again raises no second level."""
    once = decide(in_state(EscalationState.NOTIFIED), wrong(), T0 + 5 * MINUTE).escalation
    assert decide(once, wrong(), T0 + 5 * MINUTE) == Outcome(once)
    assert decide(once, wrong(2), T0 + 6 * MINUTE).events


def test_an_acknowledgement_after_a_wrong_person_is_the_answer() -> None:
    """The right person has it: nothing of the wrong one is left to be shown."""
    once = decide(in_state(EscalationState.NOTIFIED), wrong(), T0 + 5 * MINUTE).escalation
    acknowledged = decide(once, Acknowledge(human(2)), T0 + 6 * MINUTE).escalation
    assert acknowledged.state is EscalationState.ACKNOWLEDGED
    assert acknowledged.position is None


# --- takeover, raise, end ---------------------------------------------------------------------------------------------


def test_an_unreached_partner_is_taken_over_by_a_named_human() -> None:
    """Who and when is kept, and when they will be asked again is said; the partner stays unreached."""
    outcome = decide(in_state(EscalationState.UNREACHED), TakeOver(OFFICER), T0 + 31 * MINUTE)
    assert outcome.escalation.state is EscalationState.UNREACHED
    assert (outcome.escalation.taken_over_by, outcome.escalation.taken_over_at) == (OFFICER, T0 + 31 * MINUTE)
    (event,) = outcome.events
    assert isinstance(event, PartnerTakenOver)
    assert event.ask_again_at == T0 + 61 * MINUTE


def test_the_same_takeover_twice_is_one_until_asked_again() -> None:
    """A request that was sent again is the same act; after half an hour it is a new one."""
    taken = decide(in_state(EscalationState.UNREACHED), TakeOver(OFFICER), T0 + 31 * MINUTE).escalation
    assert decide(taken, TakeOver(OFFICER), T0 + 32 * MINUTE) == Outcome(taken)
    assert decide(taken, TakeOver(OFFICER), T0 + 61 * MINUTE).events
    assert decide(taken, TakeOver(XR), T0 + 32 * MINUTE).events


@pytest.mark.parametrize(
    "state", [EscalationState.PENDING, EscalationState.NOTIFIED, EscalationState.ACKNOWLEDGED, EscalationState.ENDED]
)
def test_only_an_unreached_partner_is_taken_over(state: EscalationState) -> None:
    """There is nothing to take over while it is asked, or has answered, or it is over."""
    assert refused(in_state(state), TakeOver(OFFICER), T0 + 6 * MINUTE) == "not_unreached"


@pytest.mark.parametrize(
    "state", [EscalationState.ACKNOWLEDGED, EscalationState.COMMITTED, EscalationState.UNREACHED, EscalationState.ENDED]
)
def test_only_an_unanswered_escalation_is_raised_by_hand(state: EscalationState) -> None:
    """Whoever has answered, is unreached, or has ended is raised no further."""
    assert refused(in_state(state), RaiseLevel(XR, KNOWN), T0 + 40 * MINUTE) == "not_waiting"


@pytest.mark.parametrize("state", [state for state in EscalationState if state is not EscalationState.ENDED])
def test_an_end_stops_everything_in_every_state(state: EscalationState) -> None:
    """Cancelled, closed or expired: all pages stop, one ending message goes out, nothing is ever due again."""
    outcome = decide(in_state(state), End(EndReason.CANCELLED, T0 + 40 * MINUTE), T0 + 41 * MINUTE)
    assert outcome.escalation.state is EscalationState.ENDED
    assert (outcome.escalation.ended_at, outcome.escalation.end_reason) == (T0 + 40 * MINUTE, EndReason.CANCELLED)
    assert outcome.escalation.due_at is None
    assert outcome.stops_pages
    assert outcome.sends_ending
    again = decide(outcome.escalation, End(EndReason.CLOSED, T0 + 50 * MINUTE), T0 + 50 * MINUTE)
    assert again == Outcome(outcome.escalation)


def test_a_superseded_escalation_sends_no_ending_of_its_own() -> None:
    """The Update that follows says more than an ending would."""
    outcome = decide(in_state(EscalationState.NOTIFIED), End(EndReason.SUPERSEDED, T0), T0)
    assert not outcome.sends_ending
    assert outcome.stops_pages


@pytest.mark.parametrize("state", [state for state in EscalationState if state is not EscalationState.ENDED])
def test_an_escalation_ends_itself_when_its_alert_expires(state: EscalationState) -> None:
    """No message is needed: the row knows when its alert expires."""
    story = after(in_state(state)).until(T0 + timedelta(days=5))
    assert story.escalation.state is EscalationState.ENDED
    assert story.escalation.end_reason is EndReason.EXPIRED
    assert story.escalation.ended_at == T0 + timedelta(days=4)


@pytest.mark.parametrize("state", list(EscalationState))
def test_nothing_happens_before_its_time(state: EscalationState) -> None:
    """A timer that looks too early, or at an escalation that has ended, changes nothing."""
    escalation = in_state(state)
    early = T0 + 5 * MINUTE if escalation.due_at is None else escalation.due_at - timedelta(microseconds=1)
    assert decide(escalation, DueTimeReached(KNOWN), early) == Outcome(escalation)
