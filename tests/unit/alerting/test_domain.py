"""The life of an alert: who may do what, and what can never happen. Facts are those of Kabul, August 2021."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.alerting import domain
from services.alerting.content import Content, Network, Proposal
from services.alerting.crises import domain as crises
from services.alerting.crises.domain import Crisis, CrisisState
from services.alerting.domain import Alert, AlertState, Caller
from shared.contracts import (
    DEFAULT_DEADLINES,
    Actor,
    CredentialKind,
    EndReason,
    EscalationKind,
    MsgType,
    Precedence,
    Role,
    Status,
    Tlp,
)
from shared.errors import Conflict, Forbidden, Invalid, Rejected
from shared.ids import AlertId, CrisisId, Ids, SeededBits

NOW = datetime(2021, 8, 15, 9, 30, tzinfo=UTC)
PARTNERS = dict.fromkeys(("US", "AU", "CA", "ES", "IT", "NZ", "GB", "EU", "DE", "BR", "XR"), True)
NETWORK = Network(PARTNERS)
IDS = Ids(lambda: NOW, SeededBits(1))


def caller(*roles: Role, partner: str = "CA", subject: str = "ca-1", **actor: Any) -> Caller:
    """Somebody of a partner with these roles."""
    return Caller(Actor(subject=subject, partner=partner, name="A. Person", **actor), frozenset(roles))


OFFICER = caller(Role.DUTY_OFFICER, subject="ca-officer")
DRAFTER = caller(Role.DRAFTER, subject="ca-drafter")
RELEASER = caller(Role.RELEASER, subject="ca-releaser")
SYSTEM = caller(Role.DUTY_OFFICER, Role.RELEASER, subject="ca-system", kind=CredentialKind.SYSTEM)


def asked(**changes: Any) -> Proposal:
    """The least alert, with changes."""
    fields: dict[str, Any] = {
        "headline": "Kabul: evacuation of people at risk before the airport closes",
        "countries": ("AFG",),
        "to": ("US", "GB", "DE"),
        "precedence": Precedence.FLASH,
    }
    return Proposal(**{**fields, **changes})


def drafted(by: Caller = OFFICER, **changes: Any) -> Alert:
    """A draft of it."""
    return domain.draft(
        asked(**changes),
        alert_id=AlertId(IDS.new()),
        crisis_id=CrisisId(IDS.new()),
        reference="RP-CA-2021-0042",
        by=by,
        network=NETWORK,
        now=NOW,
        alone=False,
    )


def released(
    alert: Alert | None = None, *, now: datetime = NOW, predecessor: Alert | None = None, **changes: Any
) -> Alert:
    """It, released by the second person."""
    draft = alert or drafted(**changes)
    return domain.release(
        draft,
        precedence=draft.content.precedence,
        by=RELEASER,
        network=NETWORK,
        now=now,
        predecessor=predecessor,
    ).alert


def updated(
    predecessor: Alert, *, now: datetime = NOW, by: Caller = OFFICER, asks_anew: bool = False, **changes: Any
) -> Alert:
    """A draft that corrects it."""
    return domain.draft_update(
        predecessor,
        Proposal(**changes),
        alert_id=AlertId(IDS.new()),
        reference="RP-CA-2021-0043",
        asks_anew=asks_anew,
        by=by,
        network=NETWORK,
        now=now,
    )


# --- release ----------------------------------------------------------------------------------------------------------


def test_release_by_second_person_addresses_everybody_from_that_instant() -> None:
    """Every addressed partner's clock begins at the release, `to` owes an answer, `for_information` is told."""
    draft = drafted(for_information=("BR",))
    later = NOW + timedelta(minutes=4)
    release = domain.release(draft, precedence=Precedence.FLASH, by=RELEASER, network=NETWORK, now=later)
    assert release.alert.state is AlertState.RELEASED
    assert [(r.partner, r.kind, r.addressed_at) for r in release.event.recipients] == [
        ("US", EscalationKind.ANSWER, later),
        ("GB", EscalationKind.ANSWER, later),
        ("DE", EscalationKind.ANSWER, later),
        ("BR", EscalationKind.INFORMATION, later),
    ]
    assert release.event.released_at == later
    assert release.event.msg_type is MsgType.ALERT
    assert release.superseded is None
    assert release.alert.needs_review is False
    assert release.alert.unconfirmed == {"US", "GB", "DE", "BR"}


def test_drafter_cannot_release_their_own_draft() -> None:
    """The second person is somebody else, whatever roles the first one holds."""
    both = caller(Role.DUTY_OFFICER, Role.RELEASER, subject="ca-officer")
    with pytest.raises(Forbidden) as refused:
        domain.release(drafted(), precedence=Precedence.FLASH, by=both, network=NETWORK, now=NOW)
    assert refused.value.code == "second_person_needed"


def test_second_credential_of_the_same_contact_is_no_second_person() -> None:
    """Two credentials of one contact are one human."""
    contact = IDS.new()
    first = caller(Role.DUTY_OFFICER, subject="phone", contact_id=contact)
    second = caller(Role.RELEASER, subject="laptop", contact_id=contact)
    with pytest.raises(Forbidden) as refused:
        domain.release(drafted(by=first), precedence=Precedence.FLASH, by=second, network=NETWORK, now=NOW)
    assert refused.value.code == "second_person_needed"


def test_editor_of_a_draft_cannot_release_it() -> None:
    """Whoever wrote any part of an alert is no second person for it."""
    both = caller(Role.DRAFTER, Role.RELEASER, subject="ca-releaser")
    edited = domain.edit(drafted(), Proposal(instruction="Say how many seats."), by=both, network=NETWORK, now=NOW)
    with pytest.raises(Forbidden) as refused:
        domain.release(edited, precedence=Precedence.FLASH, by=both, network=NETWORK, now=NOW)
    assert refused.value.code == "second_person_needed"


@pytest.mark.parametrize("precedence", [p for p in Precedence if p is not Precedence.FLASH])
def test_releaser_must_repeat_the_precedence(precedence: Precedence) -> None:
    """A release that names another precedence than the draft is refused."""
    with pytest.raises(Conflict) as refused:
        domain.release(drafted(), precedence=precedence, by=RELEASER, network=NETWORK, now=NOW)
    assert refused.value.code == "precedence_not_confirmed"


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.RELEASER])
def test_only_a_releaser_releases(role: Role) -> None:
    """No other role releases as second person."""
    with pytest.raises(Forbidden):
        domain.release(drafted(), precedence=Precedence.FLASH, by=caller(role), network=NETWORK, now=NOW)


@pytest.mark.parametrize("role", list(Role))
def test_who_may_draft(role: Role) -> None:
    """Drafters and duty officers draft, nobody else."""
    if role in (Role.DRAFTER, Role.DUTY_OFFICER):
        assert drafted(by=caller(role)).state is AlertState.DRAFT
    else:
        with pytest.raises(Forbidden) as refused:
            drafted(by=caller(role))
        assert refused.value.code == "role_missing"


def test_systems_neither_draft_nor_release_nor_end() -> None:
    """Only persons act on alerts, whatever roles a system's credential was given."""
    alert = released()
    acts: list[Any] = [
        lambda: drafted(by=SYSTEM),
        lambda: domain.release(drafted(), precedence=Precedence.FLASH, by=SYSTEM, network=NETWORK, now=NOW),
        lambda: domain.self_release(drafted(), reason="alone", by=SYSTEM, network=NETWORK, now=NOW),
        lambda: updated(alert, by=SYSTEM),
        lambda: domain.cancel(alert, note="wrong", by=SYSTEM, reason="alone", now=NOW),
        lambda: domain.close(alert, note=None, by=SYSTEM, reason="alone", now=NOW),
        lambda: domain.add_recipients(
            alert, to=["ES"], for_information=[], by=SYSTEM, network=NETWORK, reason="alone", now=NOW
        ),
    ]
    for act in acts:
        with pytest.raises(Forbidden) as refused:
            act()
        assert refused.value.code == "person_needed"


@pytest.mark.parametrize("role", list(Role))
def test_who_may_release_alone(role: Role) -> None:
    """Duty officers and releasers release alone with a reason; it is marked for review."""
    alone = caller(role, subject="ca-officer")
    if role in (Role.DUTY_OFFICER, Role.RELEASER):
        release = domain.self_release(drafted(), reason="Nobody reachable at 03:00", by=alone, network=NETWORK, now=NOW)
        assert release.alert.needs_review
        assert release.alert.self_release_reason == "Nobody reachable at 03:00"
    else:
        with pytest.raises(Forbidden):
            domain.self_release(drafted(), reason="alone", by=alone, network=NETWORK, now=NOW)


@pytest.mark.parametrize("reason", ["", "   ", "x" * 501, "a\x00b"])
def test_reason_for_acting_alone_must_say_something(reason: str) -> None:
    """An empty, endless or unprintable reason is refused."""
    with pytest.raises(Invalid):
        domain.self_release(drafted(), reason=reason, by=OFFICER, network=NETWORK, now=NOW)


def test_released_alert_is_neither_edited_nor_released_again() -> None:
    """What was released never changes."""
    alert = released()
    with pytest.raises(Conflict) as refused:
        domain.edit(alert, Proposal(headline="Other"), by=OFFICER, network=NETWORK, now=NOW)
    assert refused.value.code == "not_a_draft"
    with pytest.raises(Conflict):
        released(alert)


def test_partner_that_left_since_the_draft_stops_the_release() -> None:
    """The audience is checked again when it counts."""
    with pytest.raises(Invalid) as refused:
        domain.release(
            drafted(), precedence=Precedence.FLASH, by=RELEASER, network=Network({**PARTNERS, "DE": False}), now=NOW
        )
    assert refused.value.code == "inactive_partner"


# --- expiry -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("precedence", list(Precedence))
def test_expires_a_day_after_the_last_partner_would_be_unreached(precedence: Precedence) -> None:
    """The default is the least that is allowed, counted from the release and not from the draft."""
    later = NOW + timedelta(hours=5)
    alert = released(drafted(precedence=precedence), now=later)
    unreached = timedelta(seconds=DEFAULT_DEADLINES[precedence].unreached_after_seconds)
    assert alert.expires_at == later + unreached + timedelta(hours=24)
    assert {block.expires for block in alert.content.info} == {alert.expires_at}


def test_earlier_expiry_is_refused_and_says_what_is_right() -> None:
    """One second too early is refused, with the earliest instant in the message."""
    least = NOW + timedelta(minutes=30, hours=24)
    assert drafted(expires_at=least).content.expires_at == least
    with pytest.raises(Invalid) as refused:
        drafted(expires_at=least - timedelta(seconds=1))
    assert refused.value.code == "expires_too_early"
    assert "2021-08-16T10:00:00Z" in refused.value.detail


def test_draft_that_waited_too_long_must_be_given_a_later_expiry() -> None:
    """What was late enough when it was drafted is checked again at the release."""
    draft = drafted(expires_at=NOW + timedelta(minutes=30, hours=24))
    with pytest.raises(Invalid) as refused:
        released(draft, now=NOW + timedelta(hours=1))
    assert refused.value.code == "expires_too_early"


def test_expiry_more_than_half_a_year_away_is_refused() -> None:
    """Activations are renewed by an Update, not made eternal."""
    with pytest.raises(Invalid) as refused:
        drafted(expires_at=NOW + timedelta(days=181))
    assert refused.value.code == "expires_too_late"


def test_expiry_comes_at_its_instant_and_not_before() -> None:
    """An alert expires at `expires_at`, once."""
    alert = released()
    assert alert.expires_at is not None
    assert domain.expire(alert, now=alert.expires_at - timedelta(microseconds=1)) is None
    ending = domain.expire(alert, now=alert.expires_at)
    assert ending is not None
    assert ending.event.reason is EndReason.EXPIRED
    assert ending.alert.unconfirmed == frozenset()
    assert domain.expire(ending.alert, now=alert.expires_at) is None
    assert domain.expire(drafted(), now=NOW + timedelta(days=400)) is None


# --- updates ----------------------------------------------------------------------------------------------------------


def test_update_supersedes_and_keeps_clocks() -> None:
    """A correction reaches the same partners on the clock that began with the first message."""
    first = released()
    later = NOW + timedelta(minutes=9)
    draft = updated(first, now=later, headline="Kabul: airport's civil side closed")
    release = domain.release(
        draft, precedence=Precedence.FLASH, by=RELEASER, network=NETWORK, now=later, predecessor=first
    )
    assert release.event.corrects == first.id
    assert release.event.root_alert_id == first.id
    assert release.event.crisis_id == first.crisis_id
    assert release.event.msg_type is MsgType.UPDATE
    assert {r.partner: r.addressed_at for r in release.event.recipients} == dict.fromkeys(("US", "GB", "DE"), NOW)
    assert release.superseded is not None
    assert release.superseded.state is AlertState.SUPERSEDED
    assert release.superseded.superseded_by == release.alert.id
    assert release.superseded.content == first.content


def test_partner_added_by_an_update_is_addressed_from_then_on() -> None:
    """A newly addressed partner's clock begins with the Update that addresses it."""
    first = released()
    later = NOW + timedelta(minutes=9)
    second = released(updated(first, now=later, to=("US", "GB", "DE", "ES")), now=later, predecessor=first)
    assert {r.partner: r.addressed_at for r in second.recipients}["ES"] == later
    assert {r.partner: r.addressed_at for r in second.recipients}["US"] == NOW


def test_partner_that_was_told_and_now_owes_an_answer_has_its_whole_time() -> None:
    """From information to answer is a new obligation with a new clock."""
    first = released(for_information=("BR",))
    later = NOW + timedelta(minutes=9)
    second = released(
        updated(first, now=later, to=("US", "GB", "DE", "BR"), for_information=()), now=later, predecessor=first
    )
    by_code = {r.partner: r for r in second.recipients}
    assert by_code["BR"].kind is EscalationKind.ANSWER
    assert by_code["BR"].addressed_at == later
    assert by_code["US"].addressed_at == NOW


@pytest.mark.parametrize(
    ("to", "for_information"),
    [(("US", "GB"), ("BR",)), (("US", "GB"), ("BR", "DE")), (("US", "GB", "DE"), ()), (("ES",), None)],
)
def test_update_cannot_leave_anybody_out(to: tuple[str, ...], for_information: tuple[str, ...] | None) -> None:
    """Whoever was addressed stays addressed, and who owes an answer is not demoted to being told."""
    first = released(for_information=("BR",))
    with pytest.raises(Invalid) as refused:
        updated(first, to=to, for_information=for_information)
    assert {error.code for error in refused.value.errors} == {"audience_too_small"}


def test_update_reaches_partners_added_after_it_was_drafted() -> None:
    """Recipients who joined between draft and release of a correction receive it, on their own clock."""
    first = released()
    draft = updated(first)
    joined = NOW + timedelta(minutes=2)
    grown = domain.add_recipients(
        first, to=["ES"], for_information=["IT"], by=RELEASER, network=NETWORK, reason=None, now=joined
    )
    assert grown is not None
    second = released(draft, now=NOW + timedelta(minutes=3), predecessor=grown.alert)
    assert {r.partner: (r.kind, r.addressed_at) for r in second.recipients} == {
        "US": (EscalationKind.ANSWER, NOW),
        "GB": (EscalationKind.ANSWER, NOW),
        "DE": (EscalationKind.ANSWER, NOW),
        "ES": (EscalationKind.ANSWER, joined),
        "IT": (EscalationKind.INFORMATION, joined),
    }


def test_update_reaches_a_partner_that_has_become_inactive() -> None:
    """A correction is owed to everyone who received what it corrects."""
    first = released()
    gone = Network({**PARTNERS, "DE": False})
    draft = domain.draft_update(
        first,
        Proposal(),
        alert_id=AlertId(IDS.new()),
        reference="RP-CA-2021-0043",
        asks_anew=False,
        by=OFFICER,
        network=gone,
        now=NOW,
    )
    release = domain.release(draft, precedence=Precedence.FLASH, by=RELEASER, network=gone, now=NOW, predecessor=first)
    assert release.alert.addressed == {"US", "GB", "DE"}


def test_status_never_changes_along_a_chain() -> None:
    """An exercise cannot be corrected into the real thing."""
    first = released(status=Status.EXERCISE, note="Line test of August")
    with pytest.raises(Invalid) as refused:
        updated(first, status=Status.ACTUAL)
    assert refused.value.code == "status_changed"


def test_only_the_newest_released_message_is_corrected() -> None:
    """Drafts, superseded and ended alerts take no correction, and say why."""
    first = released()
    release = domain.release(
        updated(first), precedence=Precedence.FLASH, by=RELEASER, network=NETWORK, now=NOW, predecessor=first
    )
    assert release.superseded is not None
    cancelled = domain.cancel(first, note="Wrong list", by=RELEASER, reason=None, now=NOW).alert
    for alert, code in [
        (drafted(), "alert_draft"),
        (release.superseded, "alert_superseded"),
        (cancelled, "alert_cancelled"),
    ]:
        with pytest.raises(Conflict) as refused:
            updated(alert)
        assert refused.value.code == code


@pytest.mark.parametrize("ended", ["superseded", "cancelled", "closed", "expired"])
def test_draft_whose_predecessor_has_ended_is_not_released(ended: str) -> None:
    """A correction of what is over would reopen it."""
    first = released()
    draft = updated(first)
    over = replace(first, state=AlertState(ended))
    with pytest.raises(Conflict) as refused:
        released(draft, predecessor=over)
    assert refused.value.code == f"alert_{ended}"


def test_update_lives_at_least_as_long_as_what_it_corrects() -> None:
    """A correction does not shorten the alert's life unless it says so."""
    far = NOW + timedelta(days=20)
    first = released(expires_at=far)
    assert released(updated(first), predecessor=first).expires_at == far
    near = NOW + timedelta(days=3)
    assert released(updated(first, expires_at=near), predecessor=first).expires_at == near


def test_update_of_several_languages_needs_every_block() -> None:
    """One language cannot be corrected while the others keep saying the old."""
    english = drafted().content.info[0]
    french = english.model_copy(update={"language": "fr", "headline": "Kaboul : évacuation avant la fermeture"})
    first = released(headline=None, info=(english, french))
    with pytest.raises(Invalid) as refused:
        updated(first, headline="New")
    assert refused.value.code == "every_language"
    assert len(updated(first, info=(english, french)).content.info) == 2


# --- recipients -------------------------------------------------------------------------------------------------------


def test_added_recipient_has_its_own_clock_and_the_rest_stay() -> None:
    """The event holds everybody, each with the instant at which they were addressed."""
    first = released()
    later = NOW + timedelta(minutes=7)
    grown = domain.add_recipients(
        first, to=["ES"], for_information=[], by=RELEASER, network=NETWORK, reason=None, now=later
    )
    assert grown is not None
    assert {r.partner: r.addressed_at for r in grown.event.recipients} == {"US": NOW, "GB": NOW, "DE": NOW, "ES": later}
    assert grown.event.released_at == NOW
    assert grown.alert.content.to == ("US", "GB", "DE", "ES")
    assert grown.alert.unconfirmed == {"US", "GB", "DE", "ES"}


def test_adding_those_who_are_addressed_changes_nothing() -> None:
    """The same addition again is no second event."""
    first = released(for_information=("BR",))
    again = domain.add_recipients(
        first, to=["US"], for_information=["BR"], by=RELEASER, network=NETWORK, reason=None, now=NOW
    )
    assert again is None


def test_adding_in_the_other_way_is_refused() -> None:
    """Who is told cannot be made to answer by addition; that takes an Update."""
    first = released(for_information=("BR",))
    with pytest.raises(Conflict) as refused:
        domain.add_recipients(first, to=["BR"], for_information=[], by=RELEASER, network=NETWORK, reason=None, now=NOW)
    assert refused.value.code == "already_addressed"


@pytest.mark.parametrize(
    ("to", "for_information", "code"),
    [
        (["CA"], [], "raiser_addressed"),
        (["FR"], [], "unknown_partner"),
        (["ES", "ES"], [], "duplicate"),
        (["ES"], ["ES"], "duplicate"),
        ([], [], "empty_audience"),
    ],
)
def test_added_recipients_keep_the_rules_of_an_audience(to: list[str], for_information: list[str], code: str) -> None:
    """Unknown partners, the raiser itself and doubles are refused."""
    with pytest.raises(Invalid) as refused:
        domain.add_recipients(
            released(), to=to, for_information=for_information, by=RELEASER, network=NETWORK, reason=None, now=NOW
        )
    assert code in {error.code for error in refused.value.errors}


@pytest.mark.parametrize("precedence", list(Precedence))
def test_partner_that_could_not_be_found_unreached_in_time_is_not_added(precedence: Precedence) -> None:
    """Whoever must answer is added only while their last deadline comes before the alert's end; others may be told."""
    first = released(precedence=precedence)
    assert first.expires_at is not None
    unreached_after = timedelta(seconds=DEFAULT_DEADLINES[precedence].unreached_after_seconds)
    last = first.expires_at - unreached_after

    def add(now: datetime, **audience: list[str]) -> domain.Release | None:
        asked_for = {"to": [], "for_information": [], **audience}
        return domain.add_recipients(first, **asked_for, by=RELEASER, network=NETWORK, reason=None, now=now)

    late = last + timedelta(microseconds=1)
    assert add(last, to=["ES"]) is not None
    assert add(late, for_information=["BR"]) is not None
    assert add(late, to=["US"]) is None
    with pytest.raises(Conflict) as refused:
        add(late, to=["ES"])
    assert refused.value.code == "alert_ends_too_soon"
    assert "send an Update with a later expires" in refused.value.detail


# --- ends -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("reason", [None, "Nobody reachable"])
def test_who_may_recall(role: Role, reason: str | None) -> None:
    """Releasers recall; duty officers only with a reason, which is reviewed; nobody else does."""
    by = caller(role)
    alert = released()
    if role is Role.RELEASER or (role is Role.DUTY_OFFICER and reason):
        ending = domain.cancel(alert, note="Sent to the wrong partners", by=by, reason=reason, now=NOW)
        assert ending.alert.needs_review is (role is Role.DUTY_OFFICER)
        assert ending.alert.state is AlertState.CANCELLED
    else:
        with pytest.raises(Forbidden):
            domain.cancel(alert, note="Sent to the wrong partners", by=by, reason=reason, now=NOW)


def test_end_names_everybody_whom_the_alert_reached() -> None:
    """The ending message goes to all recipients, those who were only told too."""
    ending = domain.close(released(for_information=("BR",)), note="Over", by=RELEASER, reason=None, now=NOW)
    assert {r.partner for r in ending.event.recipients} == {"US", "GB", "DE", "BR"}
    assert ending.event.reason is EndReason.CLOSED
    assert ending.event.note == "Over"


@pytest.mark.parametrize("note", ["", "  \n", "a\x00b", "x" * 2001])
def test_recall_needs_a_note_that_can_be_read(note: str) -> None:
    """A recall says why."""
    with pytest.raises(Invalid):
        domain.cancel(released(), note=note, by=RELEASER, reason=None, now=NOW)


def test_nothing_ends_twice() -> None:
    """An ended alert, and a draft, cannot be ended."""
    cancelled = domain.cancel(released(), note="Wrong", by=RELEASER, reason=None, now=NOW).alert
    for alert in (cancelled, drafted()):
        with pytest.raises(Conflict):
            domain.close(alert, note=None, by=RELEASER, reason=None, now=NOW)


@pytest.mark.parametrize("act", ["correct", "release", "add", "cancel", "close"])
def test_nothing_is_done_to_an_alert_from_its_expiry_on(act: str) -> None:
    """From `expires_at` on an alert is expired for every act, before anything has noted it; until then it is not."""
    first = released()
    draft = updated(first)
    assert first.expires_at is not None

    def attempt(now: datetime) -> object:
        match act:
            case "correct":
                return updated(first, now=now)
            case "release":
                return released(draft, predecessor=first, now=now)
            case "add":
                return domain.add_recipients(
                    first, to=[], for_information=["BR"], by=RELEASER, network=NETWORK, reason=None, now=now
                )
            case "cancel":
                return domain.cancel(first, note="Wrong", by=RELEASER, reason=None, now=now)
            case _:
                return domain.close(first, note=None, by=RELEASER, reason=None, now=now)

    assert attempt(first.expires_at - timedelta(microseconds=1))
    with pytest.raises(Conflict) as refused:
        attempt(first.expires_at)
    assert refused.value.code == "alert_expired"
    assert refused.value.detail.endswith("it has expired; raise a new alert")


# --- crises -----------------------------------------------------------------------------------------------------------


def crisis(**changes: Any) -> Crisis:
    """The crisis of Kabul."""
    fields: dict[str, Any] = {
        "crisis_id": CrisisId(IDS.new()),
        "name": "Afghanistan, August 2021",
        "countries": ["AF"],
        "tlp": Tlp.AMBER,
        "state": CrisisState.WATCH,
        "by": OFFICER,
        "now": NOW,
    }
    return crises.open_crisis(**{**fields, **changes})


@pytest.mark.parametrize("before", list(CrisisState))
@pytest.mark.parametrize("after", list(CrisisState))
def test_crisis_goes_forward_only(before: CrisisState, after: CrisisState) -> None:
    """Later states are reached, also by leaving steps out; earlier ones are not; the same one changes nothing."""
    start = replace(crisis(), state=before)
    if after.rank < before.rank:
        with pytest.raises(Conflict):
            crises.move_crisis(start, after, by=RELEASER, now=NOW)
    else:
        moved = crises.move_crisis(start, after, by=RELEASER, now=NOW)
        assert moved.state is after
        assert moved.version == start.version + (after is not before)


@pytest.mark.parametrize(
    "changes", [{"name": " "}, {"name": "x" * 161}, {"countries": []}, {"countries": ["ZZZ"]}, {"name": "a\nb"}]
)
def test_crisis_needs_name_and_country(changes: dict[str, Any]) -> None:
    """Empty or endless names and unknown countries are refused."""
    with pytest.raises(Invalid):
        crisis(**changes)


@pytest.mark.parametrize("tlp", list(Tlp))
def test_crisis_of_an_alert_holds_nothing_of_what_it_says(tlp: Tlp) -> None:
    """Whatever the handling, the crisis itself is called by the reference; only readers see it as the alert has it."""
    alert = drafted(tlp=tlp)
    opened = crises.crisis_of_alert(alert, by=OFFICER, now=NOW)
    assert (opened.name, opened.countries, opened.tlp) == ("Crisis of RP-CA-2021-0042", (), Tlp.AMBER)
    assert opened.led_by == alert.id
    led = crises.as_led(opened, alert.content, alert_version=3, released_at=NOW + timedelta(minutes=2))
    assert led.name == (opened.name if tlp.link_only else alert.content.info[0].headline)
    assert (led.countries, led.tlp, led.version) == (("AFG",), tlp, 3)
    assert led.changed_at == NOW + timedelta(minutes=2)


def test_closed_crisis_takes_no_alert() -> None:
    """What begins again is a new crisis."""
    with pytest.raises(Conflict):
        crises.may_join(replace(crisis(), state=CrisisState.CLOSED))


def test_reference_is_counted_per_raiser_and_year() -> None:
    """Four digits at least, more when they are needed."""
    assert domain.reference_of("CA", 2026, 42) == "RP-CA-2026-0042"
    assert domain.reference_of("CA", 2026, 12345) == "RP-CA-2026-12345"


# --- whatever happens -------------------------------------------------------------------------------------------------

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("update"), st.sets(st.sampled_from(["ES", "IT", "NZ"]), max_size=3)),
        st.tuples(st.just("add"), st.sets(st.sampled_from(["AU", "EU", "BR", "US"]), min_size=1, max_size=3)),
        st.tuples(st.just("cancel"), st.just(set[str]())),
        st.tuples(st.just("expire"), st.just(set[str]())),
    ),
    max_size=8,
)


@given(steps=STEPS, minutes=st.lists(st.integers(0, 600), min_size=8, max_size=8))
def test_chain_never_loses_anybody_nor_restarts_a_clock(steps: list[tuple[str, set[str]]], minutes: list[int]) -> None:
    """Over any sequence of acts everyone addressed stays addressed from their first instant, and ends are final."""
    now, alert = NOW, released()
    first_addressed = {r.partner: r.addressed_at for r in alert.recipients}
    for (act, codes), wait in zip(steps, minutes, strict=False):
        now += timedelta(minutes=wait)
        said_before, state_before, refused = alert.content.info, alert.state, None
        try:
            if act == "update":
                wanted = (*alert.content.to, *sorted(codes - alert.addressed))
                alert = released(updated(alert, now=now, to=wanted), now=now, predecessor=alert)
            elif act == "add":
                grown = domain.add_recipients(
                    alert, to=sorted(codes), for_information=[], by=RELEASER, network=NETWORK, reason=None, now=now
                )
                alert = alert if grown is None else grown.alert
                assert alert.content.info == said_before
            elif act == "cancel":
                alert = domain.cancel(alert, note="Recalled", by=RELEASER, reason=None, now=now).alert
            elif (ending := domain.expire(alert, now=now)) is not None:
                alert = ending.alert
        except Conflict as conflict:
            refused = conflict.code
        # A released message refuses an act for one reason only: its time is over, or too nearly over to ask anybody.
        assert alert.expires_at is not None
        if refused is not None and state_before is AlertState.RELEASED:
            assert alert.expires_at <= now or refused == "alert_ends_too_soon"
        for recipient in alert.recipients:
            assert recipient.addressed_at == first_addressed.setdefault(recipient.partner, recipient.addressed_at)
        assert set(first_addressed) == alert.addressed


@given(
    st.builds(
        Proposal,
        precedence=st.none() | st.sampled_from(Precedence),
        to=st.none() | st.lists(st.sampled_from([*PARTNERS, "FR", "ZZ"]), max_size=5).map(tuple),
        for_information=st.none() | st.lists(st.sampled_from([*PARTNERS]), max_size=3).map(tuple),
        countries=st.none() | st.lists(st.sampled_from(["AF", "AFG", "LBY", "XX", ""]), max_size=3).map(tuple),
        headline=st.none() | st.text(max_size=200),
        description=st.none() | st.text(max_size=3000),
        status=st.none() | st.sampled_from(Status),
        tlp=st.none() | st.sampled_from(Tlp),
        note=st.none() | st.text(max_size=50),
        expires_at=st.none() | st.datetimes(timezones=st.just(UTC)),
        acknowledge_within_seconds=st.none() | st.integers(-5, 10**9),
    )
)
def test_any_proposal_is_refused_cleanly_or_releasable(proposal: Proposal) -> None:
    """Whatever is asked for either becomes a draft that a second person can release, or is rejected with its fields."""
    rejected: Rejected | None = None
    alert: Alert | None = None
    try:
        alert = domain.draft(
            proposal,
            alert_id=AlertId(IDS.new()),
            crisis_id=CrisisId(IDS.new()),
            reference="RP-CA-2021-0042",
            by=OFFICER,
            network=NETWORK,
            now=NOW,
        )
    except Rejected as refusal:
        rejected = refusal
    if alert is None:
        assert rejected is not None
        assert rejected.errors
        return
    event = domain.released_event(released(alert))
    assert "CA" not in {r.partner for r in event.recipients}
    assert event.expires_at > NOW
    assert Content.model_validate_json(alert.content.model_dump_json()) == alert.content
