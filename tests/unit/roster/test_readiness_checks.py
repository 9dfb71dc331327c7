"""What keeps the coming 14 days from being proven, and the score that comes of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.roster.domain import (
    Contact,
    ContactPoint,
    DutyOffice,
    Endpoint,
    EscalationPolicy,
    Level,
    Partner,
    PartnerState,
    Target,
    TargetKind,
)
from services.roster.readiness.checks import (
    CHECKED_WITHIN,
    FINDINGS_MAX,
    FIRST_CHECK_WITHIN,
    WINDOW,
    findings_of,
    prove,
)
from services.roster.readiness.findings import (
    CONFIRMED_FOR,
    REMEDIES,
    EndpointCheck,
    Facts,
    FailingCalendar,
    Finding,
    FindingCode,
    Grade,
    Trouble,
)
from services.roster.readiness.score import score_of
from services.roster.readiness.what_if import findings_changed
from services.roster.schedule import (
    CalendarId,
    Frequency,
    ImportedShift,
    ImportedShiftId,
    Layer,
    LayerId,
    Override,
    OverrideId,
    Rota,
    Rotation,
)
from shared.ids import ContactId, ContactPointId, EndpointId, OfficeId, PartnerCode, RotaId
from shared.vocabulary import ChannelName, Standing

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
END = NOW + WINDOW
CARRIERS = {ChannelName.SMS: "twilio", ChannelName.VOICE: "twilio", ChannelName.EMAIL: "smtp"} | {
    ChannelName.WEBHOOK: "webhook"
}


def uid(number: int) -> Any:
    """An id by number; ids of different kinds take different numbers."""
    return UUID(int=number)


def point(number: int, channel: ChannelName = ChannelName.SMS, *, age: timedelta | None = timedelta(days=1)) -> Any:
    """A contact point that was verified and confirmed `age` ago; None: never."""
    at = None if age is None else NOW - age
    return ContactPoint(ContactPointId(uid(number)), channel, "+12025550100", verified_at=at, confirmed_at=at)


def person(number: int, *points: ContactPoint) -> Contact:
    """A contact; without points given, two sound ones of different carriers."""
    sound = points or (point(1000 + number), point(2000 + number, ChannelName.EMAIL))
    return Contact(ContactId(uid(number)), f"Person {number}", points=sound)


def layer(number: int, *contacts: int, deputies: tuple[int, ...] = (), ends_on: date | None = None) -> Layer:
    """A daily layer that hands over at noon UTC."""
    return Layer(
        id=LayerId(uid(number)),
        name=f"Layer {number}",
        rotation=Rotation(Frequency.DAILY),
        participants=tuple(ContactId(uid(one)) for one in contacts),
        starts_on=date(2026, 1, 5),
        hand_over_time=time(12),
        ends_on=ends_on,
        deputies=tuple(ContactId(uid(one)) for one in deputies),
    )


def rota(number: int, *layers: Layer, **more: Any) -> Rota:
    """A rota in UTC."""
    return Rota(RotaId(uid(number)), f"Rota {number}", "UTC", layers, **more)


def nobody(number: int, begins_in_hours: float, hours: float) -> Override:
    """An override by which nobody is on call."""
    start_at = NOW + timedelta(hours=begins_in_hours)
    return Override(OverrideId(uid(number)), None, start_at, start_at + timedelta(hours=hours))


def level(*targets: Any) -> Level:
    """A level of rotas, contacts or offices."""
    kinds = {Rota: TargetKind.ROTA, Contact: TargetKind.CONTACT, DutyOffice: TargetKind.OFFICE}
    return Level(tuple(Target(kinds[type(one)], one.id) for one in targets))


OFFICE = DutyOffice(OfficeId(uid(900)), "Watch Centre", points=(point(901), point(902, ChannelName.EMAIL)))
SOUND_ROTA = rota(500, layer(501, 1, 2, deputies=(2, 1)))
SOUND = PartnerState(
    Partner(PartnerCode("CA"), "Canada", Standing.MEMBER, "America/Toronto"),
    offices=(OFFICE,),
    contacts=(person(1), person(2), person(3)),
    rotas=(SOUND_ROTA,),
    policy=EscalationPolicy((level(SOUND_ROTA), level(OFFICE))),
)
FACTS = Facts(CARRIERS)


def with_rotas(*rotas: Rota, state: PartnerState = SOUND) -> PartnerState:
    """The sound partner with other rotas, the first of which its first level names."""
    return replace(state, rotas=rotas, policy=EscalationPolicy((level(*rotas), level(OFFICE))))


def codes(state: PartnerState, facts: Facts = FACTS, now: datetime = NOW) -> list[str]:
    """The codes that are found."""
    return [finding.code.value for finding in findings_of(state, facts, now)]


def only(state: PartnerState, code: FindingCode, facts: Facts = FACTS, now: datetime = NOW) -> Finding:
    """The one finding of a code."""
    (found,) = [finding for finding in findings_of(state, facts, now) if finding.code is code]
    return found


def test_a_sound_roster_is_proven() -> None:
    """Nothing is found where everybody is reachable, everything covered and everybody has a deputy: 100."""
    proof = prove(SOUND, FACTS, NOW)
    assert (proof.findings, proof.from_at, proof.to_at) == ((), NOW, END)
    assert score_of(proof) == 100


def test_every_code_has_a_remedy() -> None:
    """A finding always says what to do about it."""
    assert set(REMEDIES) == set(FindingCode)


# --- holes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("begins_in_hours", "severity"),
    [
        (0, Grade.ALARM),
        (24, Grade.ALARM),
        (24.1, Grade.BLOCKING),
        (300, Grade.BLOCKING),
    ],
)
def test_a_hole_is_found_to_the_minute(begins_in_hours: float, severity: Grade) -> None:
    """Every uncovered minute of a rota that a level names, with begin and end; within 24 hours it is an alarm."""
    state = with_rotas(replace(SOUND_ROTA, overrides=(nobody(10, begins_in_hours, 1 / 60),)))
    found = only(state, FindingCode.UNCOVERED)
    begins_at = NOW + timedelta(hours=begins_in_hours)
    assert (found.begins_at, found.ends_at) == (begins_at, begins_at + timedelta(minutes=1))
    assert (found.severity, found.rota_id) == (severity, SOUND_ROTA.id)
    assert score_of(prove(state, FACTS, NOW)) <= (75 if severity is Grade.ALARM else 90)


def test_what_is_past_is_not_found() -> None:
    """A hole that has ended is gone, one that runs begins now, one behind the window is not there yet."""
    overrides = (nobody(10, -5, 5), nobody(11, 14 * 24, 5))
    assert codes(with_rotas(replace(SOUND_ROTA, overrides=overrides))) == []
    running = only(with_rotas(replace(SOUND_ROTA, overrides=(nobody(10, -5, 6),))), FindingCode.UNCOVERED)
    assert (running.begins_at, running.ends_at) == (NOW, NOW + timedelta(hours=1))


def test_a_rota_that_no_level_names_has_no_holes() -> None:
    """Nobody waits for a rota that is not paged."""
    spare = rota(600, layer(601, 3, ends_on=date(2026, 11, 5)))
    assert codes(replace(SOUND, rotas=(SOUND_ROTA, spare))) == []


def test_a_partner_without_levels_is_told_so() -> None:
    """No policy is no proof, and no points for coverage."""
    state = replace(SOUND, policy=EscalationPolicy())
    assert codes(state) == ["no_level"]
    assert score_of(prove(state, FACTS, NOW)) < 50


@pytest.mark.parametrize("state", [SOUND, replace(SOUND, rotas=(), policy=EscalationPolicy((level(OFFICE),)))])
def test_a_level_that_reaches_somebody_counts(state: PartnerState) -> None:
    """A policy of offices alone is no hole."""
    assert "nobody_reachable" not in codes(state)


def test_a_level_that_reaches_nobody() -> None:
    """A level whose people have no point that rings here pages nobody; it is skipped, and that is found."""
    mute = person(3, point(31, ChannelName.PUSH))
    state = replace(SOUND, contacts=(person(1), person(2), mute))
    state = replace(state, policy=EscalationPolicy((level(SOUND_ROTA), level(mute))))
    found = only(state, FindingCode.NOBODY_REACHABLE)
    assert (found.level, found.begins_at, found.ends_at) == (2, NOW, END)


def test_a_holder_without_points_is_a_level_that_reaches_nobody_during_the_shift() -> None:
    """Found for the shifts of whoever cannot be reached; what is a hole already is not found twice."""
    state = replace(
        with_rotas(replace(SOUND_ROTA, overrides=(nobody(10, 24, 1),))),
        contacts=(replace(person(1), points=()), person(2), person(3)),
    )
    found = [one for one in findings_of(state, FACTS, NOW) if one.code is FindingCode.NOBODY_REACHABLE]
    assert len(found) == 7
    hole = only(state, FindingCode.UNCOVERED)
    assert hole.ends_at is not None
    for one in found:
        assert one.ends_at is not None
        assert one.ends_at <= hole.begins_at or one.begins_at >= hole.ends_at
    assert {one.level for one in found} == {1}


def test_a_level_of_deputies_reaches_nobody_where_there_are_none() -> None:
    """Whoever stands in is asked for by a level of deputies: without any the level is empty."""
    target = Target(TargetKind.ROTA, SOUND_ROTA.id, deputy=True)
    policy = EscalationPolicy((level(SOUND_ROTA), Level((target,))))
    assert codes(replace(SOUND, policy=policy)) == []
    alone = rota(500, layer(501, 1, 2))
    found = only(replace(SOUND, rotas=(alone,), policy=policy), FindingCode.NOBODY_REACHABLE)
    assert (found.level, found.begins_at, found.ends_at) == (2, NOW, END)


# --- deputies, two duties, ends ---------------------------------------------------------------------------------------


def test_a_shift_without_a_deputy_is_found_once_a_stretch() -> None:
    """Shifts without a deputy that touch are one finding: a warning, because the holder is there."""
    found = only(with_rotas(rota(500, layer(501, 1, 2))), FindingCode.NO_DEPUTY)
    assert (found.severity, found.begins_at, found.ends_at) == (Grade.WARNING, NOW, END)


def test_two_rotas_at_once() -> None:
    """One person who holds two rotas at once is found, with both rotas and for as long as it is so."""
    state = with_rotas(SOUND_ROTA, rota(600, layer(601, 1)))
    found = [one for one in findings_of(state, FACTS, NOW) if one.code is FindingCode.DOUBLE_DUTY]
    both = [one for one in found if one.severity is Grade.BLOCKING]
    assert [one.begins_at for one in both] == [NOW + timedelta(days=day) for day in range(1, 14, 2)]
    for one in both:
        assert (one.contact_id, one.rota_id, one.other_rota_id) == (uid(1), uid(500), uid(600))
        assert one.ends_at == one.begins_at + timedelta(days=1)
    assert score_of(prove(state, FACTS, NOW)) < 100


def test_standing_in_beside_a_duty_is_a_warning() -> None:
    """Who holds one rota and is deputy in another has two duties, of which one may never come."""
    state = with_rotas(SOUND_ROTA, rota(600, layer(601, 3, deputies=(1,))))
    found = [one for one in findings_of(state, FACTS, NOW) if one.code is FindingCode.DOUBLE_DUTY]
    assert {one.severity for one in found} == {Grade.WARNING}
    assert {one.contact_id for one in found} == {uid(1)}


def test_duties_one_after_the_other_are_no_double_duty() -> None:
    """Who hands over one rota at noon may take another at noon."""
    early, late = nobody(10, 0, 24), nobody(11, 24, 24)
    state = with_rotas(
        rota(500, layer(501, 2), overrides=(replace(early, contact_id=ContactId(uid(1))),)),
        rota(600, layer(601, 3), overrides=(replace(late, contact_id=ContactId(uid(1))),)),
    )
    assert FindingCode.DOUBLE_DUTY not in codes(state)


def test_a_rota_at_its_end() -> None:
    """The end of the last layer within the window is found beside the hole behind it; one that goes on is not."""
    ending = rota(500, layer(501, 1, 2, deputies=(2, 1), ends_on=date(2026, 11, 10)))
    found = only(with_rotas(ending), FindingCode.ROTA_ENDING)
    assert found.begins_at == datetime(2026, 11, 10, 12, tzinfo=UTC)
    assert only(with_rotas(ending), FindingCode.UNCOVERED).ends_at == END
    behind = replace(ending, layers=(*ending.layers, layer(502, 1, 2, deputies=(2, 1))))
    assert codes(with_rotas(behind)) == []


def test_a_hole_before_more_shifts_is_no_end() -> None:
    """A hole that lasts until the window ends is no end of the rota if somebody comes after it."""
    state = with_rotas(replace(SOUND_ROTA, overrides=(nobody(10, 13 * 24, 48),)))
    assert codes(state) == ["uncovered"]


def test_a_calendar_at_its_end_and_one_that_cannot_be_read() -> None:
    """Imported shifts that run out with nothing behind them, and a subscription that fails, are found."""
    shift = ImportedShift(
        ImportedShiftId(uid(70)), CalendarId(uid(71)), ContactId(uid(1)), NOW - timedelta(days=1), NOW + WINDOW / 2
    )
    found = only(with_rotas(rota(500, imported=(shift,))), FindingCode.CALENDAR_ENDING)
    assert (found.begins_at, found.calendar_id) == (NOW + WINDOW / 2, None)
    failing = FailingCalendar(uid(71), SOUND_ROTA.id, NOW - timedelta(hours=3), "http_500")
    unread = only(SOUND, FindingCode.CALENDAR_ENDING, replace(FACTS, calendars=(failing,)))
    assert (unread.calendar_id, unread.reason) == (uid(71), "http_500")


# --- points -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("points", "found"),
    [
        ((), ["nobody_reachable", "too_few_points"]),
        ((point(31),), ["too_few_points"]),
        ((point(31), point(32, ChannelName.VOICE)), ["one_provider"]),
        ((point(31), point(32, ChannelName.PUSH)), ["too_few_points"]),
        ((point(31), point(32, ChannelName.EMAIL)), []),
        ((point(31), point(32, ChannelName.EMAIL, age=None)), ["unverified_point"]),
        ((point(31), point(32, ChannelName.EMAIL, age=timedelta(days=91))), ["unconfirmed_point"]),
    ],
)
def test_two_ways_to_reach_each_person(points: tuple[ContactPoint, ...], found: list[str]) -> None:
    """Two points at least, of different providers, each verified and confirmed within 90 days."""
    on_duty = replace(person(3), points=points)
    state = replace(SOUND, contacts=(person(1), person(2), on_duty))
    state = replace(state, policy=EscalationPolicy((level(SOUND_ROTA), level(on_duty))))
    proof = prove(state, FACTS, NOW)
    assert sorted({one.code.value for one in proof.findings}) == found
    assert all(one.severity is Grade.BLOCKING for one in proof.findings)
    assert (score_of(proof) < 100) is bool(found)


def test_one_provider_blames_nobody_where_there_is_no_other() -> None:
    """As escalation judges it: where one carries everything, a contact cannot have two ways."""
    facts = Facts({ChannelName.SMS: "twilio", ChannelName.VOICE: "twilio"})
    voice = tuple(person(n, point(1000 + n), point(2000 + n, ChannelName.VOICE)) for n in (1, 2, 3))
    office = replace(OFFICE, points=(point(901), point(902, ChannelName.VOICE)))
    assert codes(replace(SOUND, contacts=voice, offices=(office,)), facts) == []


def test_a_third_point_that_is_not_proven_is_a_warning() -> None:
    """Who has two proven ways without it is reached all the same."""
    spare = person(1, point(31), point(32, ChannelName.EMAIL), point(33, ChannelName.WEBHOOK, age=None))
    found = only(replace(SOUND, contacts=(spare, person(2))), FindingCode.UNVERIFIED_POINT)
    assert (found.severity, found.contact_id, found.point_id) == (Grade.WARNING, uid(1), uid(33))


def test_the_end_of_the_ninety_days_is_seen_ahead() -> None:
    """A confirmation that runs out within the window is a warning from then on; verified counts as confirmed."""
    ending = replace(point(31, age=CONFIRMED_FOR - timedelta(days=3)), confirmed_at=None)
    state = replace(SOUND, contacts=(person(1, ending, point(32, ChannelName.EMAIL)), person(2)))
    found = only(state, FindingCode.UNCONFIRMED_POINT)
    assert (found.severity, found.begins_at) == (Grade.WARNING, NOW + timedelta(days=3))
    later = replace(ending, confirmed_at=NOW - timedelta(days=1))
    assert codes(replace(state, contacts=(person(1, later, point(32, ChannelName.EMAIL)), person(2)))) == []


def test_points_are_looked_at_from_the_first_duty_on() -> None:
    """Whoever comes on duty only later is found from then on; who never does is not looked at."""
    absent = replace(person(3), points=())
    assert codes(replace(SOUND, contacts=(person(1), person(2), absent))) == []
    first, second = SOUND_ROTA.layers[0].participants
    shift = (NOW.date() - date(2026, 1, 5)).days
    later = second if shift % 2 == 0 else first
    alone = replace(SOUND_ROTA, layers=(replace(SOUND_ROTA.layers[0], deputies=()),))
    bad = [replace(one, points=()) if one.id == later else one for one in SOUND.contacts]
    found = only(replace(with_rotas(alone), contacts=tuple(bad)), FindingCode.TOO_FEW_POINTS)
    assert found.begins_at == NOW + timedelta(days=1)


def test_a_failing_point() -> None:
    """A point at which pages fail is found with its reason, and no way while it does."""
    failing = {uid(1001): Trouble(NOW - timedelta(hours=1), "address_unknown")}
    found = only(SOUND, FindingCode.FAILING_POINT, replace(FACTS, failing=failing))
    assert (found.severity, found.reason, found.contact_id) == (Grade.BLOCKING, "address_unknown", uid(1))


def test_the_office_is_looked_at_too() -> None:
    """The first office answers when every level is empty: it needs two ways like anybody."""
    found = only(replace(SOUND, offices=(replace(OFFICE, points=(point(901),)),)), FindingCode.TOO_FEW_POINTS)
    assert (found.office_id, found.contact_id) == (OFFICE.id, None)


# --- endpoints --------------------------------------------------------------------------------------------------------

ENDPOINT = Endpoint(EndpointId(uid(800)), "https://ca.example/hook", created_at=NOW - timedelta(days=30))
ANSWERING = EndpointCheck(NOW - timedelta(hours=1), answering=True, since_at=NOW - timedelta(days=9))


@pytest.mark.parametrize(
    ("check", "found"),
    [
        (ANSWERING, []),
        (replace(ANSWERING, answering=False, reason="HTTP 500"), ["endpoint_not_answering"]),
        (None, ["endpoint_unchecked"]),
        (replace(ANSWERING, checked_at=NOW - CHECKED_WITHIN), ["endpoint_unchecked"]),
        (replace(ANSWERING, checked_at=NOW - CHECKED_WITHIN + timedelta(minutes=1)), []),
        (replace(ANSWERING, certificate_valid_until=END), []),
        (replace(ANSWERING, certificate_valid_until=END - timedelta(seconds=1)), ["certificate_ending"]),
        (replace(ANSWERING, certificate_valid_until=NOW - timedelta(days=1)), ["certificate_ending"]),
    ],
)
def test_endpoints(check: EndpointCheck | None, found: list[str]) -> None:
    """Answering, checked lately, and with a certificate that outlasts the window."""
    state = replace(SOUND, endpoints=(ENDPOINT,))
    facts = replace(FACTS, checks={} if check is None else {ENDPOINT.id: check})
    assert codes(state, facts) == found
    assert score_of(prove(state, facts, NOW)) == (90 if found else 100)


def test_a_new_endpoint_has_two_hours() -> None:
    """Heartbeats are hourly: an endpoint that was just added is not found before two of them."""
    new = replace(ENDPOINT, created_at=NOW - FIRST_CHECK_WITHIN + timedelta(minutes=1))
    assert codes(replace(SOUND, endpoints=(new,))) == []
    assert codes(replace(SOUND, endpoints=(replace(new, created_at=NOW - FIRST_CHECK_WITHIN),))) != []


def test_an_endpoint_at_which_pages_fail() -> None:
    """What pages say counts, whatever the last heartbeat found."""
    facts = replace(FACTS, checks={ENDPOINT.id: ANSWERING}, failing={ENDPOINT.id: Trouble(NOW, "timeout")})
    assert only(replace(SOUND, endpoints=(ENDPOINT,)), FindingCode.ENDPOINT_NOT_ANSWERING, facts).reason == "timeout"


# --- order, limits, comparing -----------------------------------------------------------------------------------------


def test_the_worst_comes_first_and_there_is_a_limit() -> None:
    """Alarms before what blocks before warnings, the soonest first; what is cut off is counted."""
    holes = tuple(nobody(10_000 + n, n, 0.5) for n in range(100))
    rotas = tuple(rota(500 + n, layer(5000 + n, 1, 2), overrides=holes) for n in range(6))
    proof = prove(with_rotas(*rotas), FACTS, NOW)
    assert len(proof.findings) == FINDINGS_MAX
    order = [(one.severity.rank, one.begins_at) for one in proof.findings]
    assert order == sorted(order)
    assert sum(proof.counts.values()) > FINDINGS_MAX
    assert score_of(proof) >= 0


def test_findings_can_be_kept() -> None:
    """What is written as JSON comes back equal."""
    state = replace(with_rotas(rota(500, layer(501, 1, 2), overrides=(nobody(10, 5, 5),))), endpoints=(ENDPOINT,))
    found = findings_of(state, FACTS, NOW)
    assert len(found) >= 3
    assert [Finding.of_json(one.to_json()) for one in found] == list(found)


def test_what_a_change_would_do() -> None:
    """A preview names what would be new or worse, and what would be gone."""
    before = with_rotas(replace(SOUND_ROTA, overrides=(nobody(10, 5, 5),)))
    after = with_rotas(replace(SOUND_ROTA, overrides=(nobody(10, 5, 9), nobody(11, 100, 1))))
    changed = findings_changed(before, after, FACTS, NOW)
    assert [(one.code, one.begins_at) for one in changed.new] == [
        (FindingCode.UNCOVERED, NOW + timedelta(hours=5)),
        (FindingCode.UNCOVERED, NOW + timedelta(hours=100)),
    ]
    assert changed.resolved == ()
    mended = findings_changed(after, SOUND, FACTS, NOW)
    assert (mended.new, len(mended.resolved)) == ((), 2)
