"""How an escalation begins: fresh, carried over by an Update, for information, ended before it began, as a takeover."""

from __future__ import annotations

from datetime import timedelta

import pytest

from services.escalation.directory import Directory
from services.escalation.domain import (
    Acknowledge,
    DueTimeReached,
    End,
    PageAccepted,
    PagesAttempted,
    TakeOver,
    TakePosition,
    decide,
)
from services.escalation.model import DueReason, Escalation, Outcome
from services.escalation.opening import merge_late_predecessor, open_escalation, open_takeover
from shared.contracts import (
    DEFAULT_DEADLINES,
    SECRETARIAT,
    Actor,
    ChannelName,
    EndReason,
    EscalationKind,
    EscalationState,
    Gap,
    LevelRaised,
    LevelReason,
    PartnerAcknowledged,
    PartnerUnreached,
    PositionStance,
    Precedence,
)
from shared.ids import derived
from tests.support.escalation_cases import (
    MINUTE,
    OFFICER,
    T0,
    Story,
    begin,
    contact,
    directory,
    facts,
    human,
    opening,
    paged,
    people,
    plan,
    update,
)


def test_endpoints_and_level_one_are_paged_at_the_same_instant() -> None:
    """The partner's system is paged once, beside the people of level 1 and not before them."""
    outcome = open_escalation(opening(directory()), T0)
    assert paged(outcome) == ["system", "person-1"]
    assert all(page.asks and page.message_type == "alert.released" for page in outcome.pages)
    assert outcome.events == ()
    assert outcome.escalation.state is EscalationState.PENDING


def test_the_clock_runs_from_release_not_from_arrival() -> None:
    """A release that took four minutes to arrive leaves six until level 2."""
    escalation = begin(directory(), at=T0 + 4 * MINUTE).escalation
    assert escalation.due_at == escalation.acknowledge_by_at == T0 + 10 * MINUTE


def test_a_release_dated_ahead_starts_on_arrival() -> None:
    """Another node's clock may be ahead: nobody waits for it, and no deadline is later because of it."""
    ahead = T0 + 3 * MINUTE
    outcome = open_escalation(opening(directory(), alert=facts(released_at=ahead), addressed_at=ahead), T0)
    assert people(outcome) == ["person-1"]
    assert outcome.escalation.due_at == T0 + 10 * MINUTE
    assert outcome.escalation.clock_started_at == T0


def test_a_recipient_that_is_added_later_has_a_clock_of_its_own() -> None:
    """Its clock runs from the moment at which it was addressed, not from the release."""
    added_at = T0 + timedelta(hours=2)
    escalation = begin(directory(), addressed_at=added_at, at=added_at).escalation
    assert escalation.due_at == added_at + 10 * MINUTE


def test_an_end_that_came_first_opens_nothing() -> None:
    """An alert that had ended before its release arrived is opened as ended, without a page."""
    outcome = open_escalation(opening(directory(), ended_reason=EndReason.CANCELLED, ended_at=T0 - MINUTE), T0)
    assert outcome.pages == ()
    assert outcome.escalation.state is EscalationState.ENDED
    assert (outcome.escalation.ended_at, outcome.escalation.due_at) == (T0 - MINUTE, None)


# --- plans that are missing -------------------------------------------------------------------------------------------


def test_without_a_plan_the_office_is_paged_and_the_gap_named() -> None:
    """Nobody of that partner is known: its duty office and its system are paged at once."""
    outcome = open_escalation(opening(Directory(office=plan().office)), T0)
    assert people(outcome) == ["office"]
    assert Gap.NO_DUTY_PLAN in outcome.escalation.gaps


@pytest.mark.parametrize(
    ("known", "gap"),
    [
        (Directory(plan=plan(True, True, valid_until=T0)), Gap.DUTY_PLAN_EXPIRED),
        (Directory(plan=plan(True, True), readable=False), Gap.DUTY_PLAN_UNREADABLE),
    ],
)
def test_a_plan_that_cannot_be_trusted_pages_the_last_known_people_and_the_office(known: Directory, gap: Gap) -> None:
    """Expired or unreadable: both the last known person and the duty office ring, at every level."""
    story = begin(known).until(T0 + 10 * MINUTE)
    assert [set(who) for _, who in story.log] == [{"office", "person-1"}, {"office", "person-2"}]
    assert gap in story.escalation.gaps


def test_nobody_at_all_is_an_escalation_all_the_same() -> None:
    """With neither plan nor office there is nothing to page; the obligation stands, has a due time, and is unreached
    in the end.
    """
    story = begin(Directory())
    assert story.log == []
    assert not story.escalation.paged
    assert story.until(T0 + 30 * MINUTE).escalation.state is EscalationState.UNREACHED


# --- information ------------------------------------------------------------------------------------------------------


def informed(known: Directory, at: object = T0) -> Outcome:
    """An escalation of kind information."""
    return open_escalation(opening(known, kind=EscalationKind.INFORMATION), at)  # type: ignore[arg-type]


def test_information_is_one_page_to_office_and_endpoints() -> None:
    """A partner that is only informed owes nothing: no level, no deadline but the alert's own expiry."""
    outcome = informed(directory())
    assert paged(outcome) == ["system", "office"]
    escalation = outcome.escalation
    assert (escalation.level, escalation.levels, escalation.unreached_at) == (0, (), None)
    assert (escalation.due_at, escalation.due_reason) == (escalation.expires_at, DueReason.EXPIRY)


def test_information_is_final_at_notified() -> None:
    """When a channel has accepted the page nothing more is due; the escalation ends with its alert."""
    story = Story.of(informed(directory()), directory()).until(T0 + timedelta(days=3))
    assert story.escalation.state is EscalationState.NOTIFIED
    assert len(story.log) == 1
    assert story.until(T0 + timedelta(days=4)).escalation.end_reason is EndReason.EXPIRED


def test_information_that_reaches_nobody_says_so() -> None:
    """Neither office nor endpoint can be paged: the gap is named, so that people are told."""
    outcome = informed(directory(office=None, endpoints=()))
    assert outcome.pages == ()
    assert outcome.escalation.gaps == (Gap.NO_REACHABLE_POINT,)


# --- updates ----------------------------------------------------------------------------------------------------------


def carried(old: Escalation, at: object, **changes: object) -> tuple[Outcome, Story]:
    """What an Update at `at` opens, and the story that goes on."""
    outcome = update(old, directory(), at, **changes)  # type: ignore[arg-type]
    return outcome, Story.of(outcome, directory())


def test_an_update_keeps_clock_and_level() -> None:
    """An unanswered partner goes on where it was: the same next step at the same time, corrected pages to those
    reached.
    """
    story = begin(directory()).until(T0 + 12 * MINUTE)
    outcome, after = carried(story.escalation, T0 + 13 * MINUTE)
    assert paged(outcome) == ["system", "person-1", "person-2"]
    assert {page.message_type for page in outcome.pages} == {"alert.updated"}
    assert after.escalation.level == 2
    assert after.escalation.due_at == T0 + 15 * MINUTE
    assert after.until(T0 + 30 * MINUTE).escalation.state is EscalationState.UNREACHED


def test_corrections_every_nine_minutes_never_keep_a_partner_from_the_next_level() -> None:
    """The earlier deadline counts: level 2 at minute 10, unreached at minute 30, whatever is corrected in between."""
    story, log = begin(directory()), []
    for number in range(1, 4):
        at = T0 + 9 * number * MINUTE
        story.until(at)
        log += story.log
        story = Story.of(update(story.escalation, directory(), at, number=str(number + 1)), directory())
    story.until(T0 + 30 * MINUTE)
    log += story.log
    assert [at for at, who in log if who == ["person-2"]] == [10, 15, 20, 25]
    assert story.escalation.state is EscalationState.UNREACHED


def test_an_update_that_is_more_urgent_shortens_the_clock() -> None:
    """ROUTINE corrected to FLASH: the deadlines of FLASH count from the Update."""
    story = begin(directory(), Precedence.ROUTINE).until(T0 + 5 * MINUTE)
    outcome, after = carried(story.escalation, T0 + 60 * MINUTE, precedence=Precedence.FLASH)
    assert outcome.escalation.next_level_every_seconds == 300
    assert after.until(T0 + 76 * MINUTE).log == [(60, ["person-1"]), (70, ["person-2"]), (75, ["person-2"])]


def test_an_update_that_is_less_urgent_lengthens_nothing() -> None:
    """FLASH corrected to ROUTINE: the earlier deadline of each counts."""
    story = begin(directory()).until(T0 + 5 * MINUTE)
    outcome, _after = carried(story.escalation, T0 + 6 * MINUTE, precedence=Precedence.ROUTINE)
    escalation = outcome.escalation
    assert (escalation.due_at, escalation.unreached_at) == (T0 + 10 * MINUTE, T0 + 30 * MINUTE)


def test_an_update_does_not_take_back_an_interval_that_was_granted() -> None:
    """After an outage whoever was paged late has one interval; an Update in between does not end it early."""
    story = begin(directory())
    story.overdue(T0 + 100 * MINUTE)
    outcome, after = carried(story.escalation, T0 + 102 * MINUTE)
    assert after.until(T0 + 104 * MINUTE).escalation.state is EscalationState.NOTIFIED
    assert outcome.escalation.level == 2
    assert after.until(T0 + 105 * MINUTE).escalation.state is EscalationState.UNREACHED


def test_an_update_pages_whoever_is_on_duty_now() -> None:
    """Level 1 has changed hands since the first message: the correction goes to who holds it now."""
    story = begin(directory())
    newer = plan(True, True)
    swapped = newer.rotas[0].model_copy(update={"shifts": newer.rotas[1].shifts})
    known = Directory(plan=newer.model_copy(update={"rotas": (swapped, newer.rotas[1])}))
    assert people(update(story.escalation, known, T0 + 2 * MINUTE)) == ["person-2"]


def test_an_update_rings_the_office_where_no_level_has_anybody() -> None:
    """Who was reached through the office alone is corrected through the office."""
    story = begin(directory(False, False))
    assert people(update(story.escalation, directory(False, False), T0 + MINUTE)) == ["office"]


def acknowledged(at_minute: float = 3) -> Escalation:
    """An escalation that person 1 has acknowledged."""
    story = begin(directory())
    return decide(story.escalation, Acknowledge(by=human()), T0 + at_minute * MINUTE).escalation


def test_an_update_keeps_an_answer() -> None:
    """Who had answered goes on having answered: told of the correction, asked nothing, raised never."""
    outcome, after = carried(acknowledged(), T0 + 5 * MINUTE)
    assert outcome.escalation.state is EscalationState.ACKNOWLEDGED
    assert outcome.escalation.acknowledged_by == human()
    assert paged(outcome) == ["system", "person-1"]
    assert not any(page.asks for page in outcome.pages)
    assert outcome.escalation.position_by_at == T0 + timedelta(hours=2)
    assert after.until(T0 + 100 * MINUTE).named(LevelRaised) == []


def test_asks_anew_reopens_those_who_had_answered() -> None:
    """`asks_anew` begins at level 1 under a new clock, and the old answer does not count for it."""
    outcome, after = carried(acknowledged(), T0 + 5 * MINUTE, asks_anew=True)
    assert outcome.escalation.acknowledged_at is None
    assert paged(outcome) == ["system", "person-1"]
    assert all(page.asks for page in outcome.pages)
    assert after.until(T0 + 15 * MINUTE).log == [(5, ["person-1"]), (15, ["person-2"])]


def test_asks_anew_does_not_reset_who_had_not_answered() -> None:
    """An unanswered partner's clock goes on, whatever the Update asks."""
    story = begin(directory()).until(T0 + 9 * MINUTE)
    outcome, _after = carried(story.escalation, T0 + 9 * MINUTE, asks_anew=True)
    assert outcome.escalation.due_at == T0 + 10 * MINUTE


def test_an_unreached_partner_stays_unreached() -> None:
    """The correction is paged to those who were tried, and the takeovers are asked about the new message."""
    story = begin(directory()).until(T0 + 31 * MINUTE)
    taken = decide(story.escalation, TakeOver(by=OFFICER), T0 + 31 * MINUTE).escalation
    outcome, _after = carried(taken, T0 + 32 * MINUTE, predecessor_attempts=7)
    (event,) = outcome.events
    assert isinstance(event, PartnerUnreached)
    assert (event.attempts, event.levels_tried, event.alert_id) == (7, 2, derived("alert", "2"))
    assert outcome.escalation.state is EscalationState.UNREACHED
    assert outcome.escalation.taken_over_by == OFFICER
    assert people(outcome) == ["person-1", "person-2"]


def test_an_ended_predecessor_gives_nothing_on() -> None:
    """An Update of a message that had ended begins afresh."""
    ended = decide(acknowledged(), End(EndReason.CLOSED, T0 + 4 * MINUTE), T0 + 4 * MINUTE).escalation
    outcome, _after = carried(ended, T0 + 5 * MINUTE)
    assert outcome.escalation.acknowledged_at is None
    assert outcome.escalation.due_at == T0 + 15 * MINUTE


@pytest.mark.parametrize("stance", [None, PositionStance.NOTED, PositionStance.CONSIDERING])
def test_a_renewal_that_arrives_after_the_expiry_keeps_an_answer(stance: PositionStance | None) -> None:
    """Released in time and arrived too late: who had answered is told of the renewal and not asked again."""
    answered = acknowledged()
    if stance is not None:
        at = T0 + 4 * MINUTE
        until = T0 + 60 * MINUTE if stance is PositionStance.CONSIDERING else None
        answer = TakePosition(stance=stance, by=human(), directory=directory(), answer_by_at=until)
        answered = decide(answered, answer, at).escalation
    late = answered.expires_at + MINUTE
    ended = decide(answered, End(EndReason.EXPIRED, answered.expires_at), answered.expires_at).escalation
    outcome, _after = carried(ended, late, expires_at=late + timedelta(days=1))
    assert outcome.escalation.state is answered.state
    assert outcome.escalation.acknowledged_by == human()
    assert outcome.escalation.due_at is not None
    assert not any(page.asks for page in outcome.pages)


def test_a_renewal_after_the_expiry_asks_who_had_not_answered() -> None:
    """Nothing is carried over from an expired message that nobody answered: the renewal asks under its own clock."""
    story = begin(directory())
    late = story.escalation.expires_at + MINUTE
    ended = decide(story.escalation, End(EndReason.EXPIRED, late - MINUTE), late - MINUTE).escalation
    outcome, _after = carried(ended, late, expires_at=late + timedelta(days=1))
    assert outcome.escalation.due_at == late + 10 * MINUTE


def test_who_was_informed_and_is_now_asked_begins_afresh() -> None:
    """Kind information becomes kind answer with the Update, under a clock of its own."""
    outcome, _after = carried(informed(directory()).escalation, T0 + 5 * MINUTE, addressed_at=T0 + 5 * MINUTE)
    assert outcome.escalation.kind is EscalationKind.ANSWER
    assert outcome.escalation.due_at == T0 + 15 * MINUTE


def test_who_owed_an_answer_goes_on_owing_it() -> None:
    """An Update that only informs releases nobody from an answer that was asked."""
    outcome, _after = carried(begin(directory()).escalation, T0 + 5 * MINUTE, kind=EscalationKind.INFORMATION)
    assert outcome.escalation.kind is EscalationKind.ANSWER
    assert outcome.escalation.due_at == T0 + 10 * MINUTE


def test_an_update_that_ended_first_shows_the_answer_that_was_given() -> None:
    """Its end came before it: it opens as ended, with what the partner had answered."""
    outcome, _after = carried(acknowledged(), T0 + 5 * MINUTE, ended_reason=EndReason.CANCELLED)
    assert outcome.escalation.state is EscalationState.ENDED
    assert outcome.escalation.acknowledged_by == human()
    assert outcome.pages == ()


# --- the release that comes after its own Update ----------------------------------------------------------------------


def fresh_update(at: object, **changes: object) -> Escalation:
    """The escalation of an Update whose predecessor has not arrived."""
    alert = facts(alert_id=derived("alert", "2"), released_at=at, is_update=True, **changes)  # type: ignore[arg-type]
    return begin(directory(), alert=alert, at=at, id=derived("escalation", "2")).escalation


def test_a_late_predecessor_gives_its_earlier_deadlines() -> None:
    """Either order ends in the same deadlines."""
    late = begin(directory()).escalation
    merged = merge_late_predecessor(fresh_update(T0 + 4 * MINUTE), late).escalation
    in_order = update(late, directory(), T0 + 4 * MINUTE).escalation
    for name in ("acknowledge_by_at", "unreached_at", "position_by_at", "due_at", "due_reason", "level"):
        assert getattr(merged, name) == getattr(in_order, name), name


def test_a_late_predecessor_with_a_shorter_wait_gives_that_too() -> None:
    """A partner's own wait counts from the first release, in either order."""
    known = directory(True, True, waits=[180, None])
    late = begin(known).escalation
    alert = facts(alert_id=derived("alert", "2"), released_at=T0 + 2 * MINUTE, is_update=True)
    newer = begin(known, alert=alert, at=T0 + 2 * MINUTE).escalation
    assert merge_late_predecessor(newer, late).escalation.due_at == T0 + 3 * MINUTE


def test_a_level_that_the_predecessor_would_have_reached_is_due_at_once() -> None:
    """The original arrives when its level 2 is overdue: the Update's escalation pages level 2 now."""
    now = T0 + 12 * MINUTE
    late = begin(directory(), at=now).escalation
    merged = merge_late_predecessor(fresh_update(T0 + 8 * MINUTE), late).escalation
    assert merged.due_at is not None
    assert merged.due_at <= now
    raised = decide(merged, DueTimeReached(directory()), now)
    assert people(raised) == ["person-2"]
    assert raised.escalation.due_at == T0 + 15 * MINUTE


def test_a_late_predecessors_answer_is_carried_over() -> None:
    """Who acknowledged the original has acknowledged an Update that asks nothing anew: its pages stop."""
    outcome = merge_late_predecessor(fresh_update(T0 + 5 * MINUTE), acknowledged())
    (event,) = outcome.events
    assert isinstance(event, PartnerAcknowledged)
    assert (event.via, event.acknowledged_at) == ("carried_over", T0 + 3 * MINUTE)
    assert outcome.escalation.state is EscalationState.ACKNOWLEDGED
    assert outcome.stops_pages


def test_a_late_predecessors_answer_does_not_answer_what_is_asked_anew() -> None:
    """`asks_anew` counts in either order."""
    newer = fresh_update(T0 + 5 * MINUTE, asks_anew=True)
    assert merge_late_predecessor(newer, acknowledged()).escalation is newer


def test_an_answered_update_takes_nothing_from_a_late_predecessor() -> None:
    """No deadline that was set before an acknowledgement lives on after it."""
    newer = decide(fresh_update(T0 + 5 * MINUTE), Acknowledge(by=human()), T0 + 6 * MINUTE).escalation
    assert merge_late_predecessor(newer, begin(directory()).escalation).escalation is newer


# --- takeovers --------------------------------------------------------------------------------------------------------


def unreached_event(**changes: object) -> PartnerUnreached:
    """Great Britain is unreached at minute 30."""
    (event,) = begin(directory()).until(T0 + 30 * MINUTE).named(PartnerUnreached)
    return event.model_copy(update=changes)  # type: ignore[no-any-return]


def takeover(taker: str, known: Directory, at: object = T0 + 30 * MINUTE, **changes: object) -> Outcome:
    """The takeover escalation that a taker opens."""
    return open_takeover(
        id=derived("takeover", taker),
        event=unreached_event(**changes),
        taker=taker,
        directory=known,
        deadlines=DEFAULT_DEADLINES[Precedence.FLASH],
        brief={"unreached_partner": "GB"},
        now=at,  # type: ignore[arg-type]
    )


def test_the_raising_officer_is_paged_first_if_on_duty() -> None:
    """Whoever released the alert and holds a rota now is in the takeover's first level, beside that level's people."""
    on_duty = Actor(subject="ca-2", partner="CA", contact_id=contact(2).id)
    outcome = takeover("CA", directory(True, True), released_by=on_duty)
    assert people(outcome) == ["person-2", "person-1"]
    assert {page.message_type for page in outcome.pages} == {"partner.unreached"}


def test_a_raising_officer_off_duty_is_left_alone() -> None:
    """An officer who holds no rota now is not woken: those on duty are."""
    assert people(takeover("CA", directory(True, True))) == ["person-1"]


def test_the_secretariat_pages_its_own_people() -> None:
    """The raising officer is none of the secretariat's."""
    on_duty = Actor(subject="ca-2", partner="CA", contact_id=contact(2).id)
    assert people(takeover(SECRETARIAT, directory(True, True), released_by=on_duty)) == ["person-1"]


def test_a_takeover_repeats_until_a_human_takes_over() -> None:
    """Level after level at the alert's interval, then the last again and again; it is never unreached itself."""
    story = Story.of(takeover("CA", directory()), directory()).until(T0 + 50 * MINUTE)
    assert story.log == [
        (30, ["person-1"]), (35, ["person-2"]), (40, ["person-2"]), (45, ["person-2"]), (50, ["person-2"]),
    ]  # fmt: skip
    story.until(T0 + timedelta(days=1))
    assert story.escalation.state is EscalationState.NOTIFIED


def test_who_took_over_is_asked_again_after_half_an_hour() -> None:
    """Taken over at minute 32: quiet until minute 62, then from level 1 on, with the reason."""
    story = Story.of(takeover("CA", directory()), directory())
    taken = decide(story.escalation, TakeOver(by=OFFICER), T0 + 32 * MINUTE)
    assert taken.stops_pages
    story.take(taken, T0 + 32 * MINUTE)
    story.until(T0 + 61 * MINUTE)
    assert len(story.log) == 1
    story.until(T0 + 67 * MINUTE)
    assert story.log[1:] == [(62, ["person-1"]), (67, ["person-2"])]
    assert story.named(LevelRaised)[0].reason is LevelReason.TAKEOVER_REPEATED


def test_a_takeover_without_anybody_rings_the_takers_office() -> None:
    """The raiser's own plan is missing: its office rings, and the gap is shown."""
    outcome = takeover("CA", Directory(office=plan().office))
    assert people(outcome) == ["office"]
    assert Gap.NO_DUTY_PLAN in outcome.escalation.gaps


def test_a_takeover_ends_when_the_partner_answers() -> None:
    """Its end is told to those who were paged for it."""
    ended = decide(takeover("CA", directory()).escalation, End(EndReason.ACKNOWLEDGED, T0 + 33 * MINUTE), T0)
    assert ended.escalation.state is EscalationState.ENDED
    assert ended.sends_ending


def test_notified_says_where_the_first_page_was_accepted() -> None:
    """A channel's acceptance is a delivery and no answer: the clock goes on."""
    opened = open_escalation(opening(directory()), T0).escalation
    tried = decide(opened, PagesAttempted(T0, PageAccepted(ChannelName.WEBHOOK, "Senior contact 1", 1)), T0)
    assert tried.escalation.state is EscalationState.NOTIFIED
    assert tried.escalation.due_at == opened.due_at


def test_a_position_is_carried_with_its_deadline() -> None:
    """`considering` until a time stays considering until then, across a correction."""
    answer_by_at = T0 + 60 * MINUTE
    considering = decide(
        begin(directory()).escalation,
        TakePosition(PositionStance.CONSIDERING, human(), directory(), answer_by_at=answer_by_at),
        T0 + MINUTE,
    ).escalation
    escalation = update(considering, directory(), T0 + 5 * MINUTE).escalation
    assert escalation.state is EscalationState.CONSIDERING
    assert (escalation.due_at, escalation.due_reason) == (answer_by_at, DueReason.POSITION)
    assert escalation.position == considering.position


def test_what_the_end_of_a_message_had_cut_off_is_owed_by_its_own_time() -> None:
    """A position that was owed after the message's own end is asked for when it is owed, not when that message ends."""
    known = directory()
    story = begin(known, alert=facts(expires_at=T0 + 30 * MINUTE))
    story.take(decide(story.escalation, Acknowledge(human()), T0 + MINUTE), T0 + MINUTE)
    assert story.escalation.due_reason is DueReason.EXPIRY
    renewed = update(story.escalation, known, T0 + 2 * MINUTE, expires_at=T0 + 600 * MINUTE)
    assert renewed.escalation.due_reason is DueReason.POSITION
    assert renewed.escalation.due_at == story.escalation.position_by_at
