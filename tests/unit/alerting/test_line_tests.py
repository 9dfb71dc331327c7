"""Line tests without a database: when they are due, what they say, when they begin, and what comes of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.alerting import content, domain
from services.alerting.content import Network
from services.alerting.domain import AlertState, Caller
from services.alerting.line_tests import domain as lines
from services.alerting.line_tests import plan
from services.alerting.line_tests.domain import (
    Heard,
    LineTest,
    Obstacle,
    Outcome,
    Partner,
    Plan,
    StopReason,
    Surroundings,
)
from services.alerting.line_tests.plan import APART, STARTS_WITHIN, Kind, Planned
from services.alerting.line_tests.texts import LANGUAGES
from shared import holiday_calendars
from shared.contracts import DEFAULT_DEADLINES, Actor, CredentialKind, Deadlines, Precedence, Role, Status
from shared.errors import Conflict, Forbidden, Invalid
from shared.ids import AlertId, CrisisId

ZONES = {
    "US": "America/New_York",
    "AU": "Australia/Sydney",
    "CA": "America/Toronto",
    "ES": "Europe/Madrid",
    "IT": "Europe/Rome",
    "NZ": "Pacific/Auckland",
    "GB": "Europe/London",
    "EU": "Europe/Brussels",
    "DE": "Europe/Berlin",
    "BR": "America/Sao_Paulo",
}
YEARS = range(2026, 2031)
NOW = datetime(2026, 11, 3, 2, 17, tzinfo=UTC)
SASHA = Actor(subject="xr-1", partner="XR", name="Sasha Example")
GB = Partner("GB", active=True, time_zone="Europe/London", languages=("en-GB",))
NETWORK = Network({"GB": True, "US": True, "EU": True, "XR": True})
SECRETS = st.binary(min_size=32, max_size=32)


def holidays(code: str, year: int) -> frozenset[date]:
    """The partner's holidays."""
    return frozenset(holiday_calendars.names(code, year))


def five_years(code: str, secret: bytes, zone: str) -> list[Planned]:
    """All tests of a partner in five years."""
    return [
        test for year in YEARS for test in plan.planned_year(code, year, secret, ZoneInfo(zone), holidays(code, year))
    ]


# --- the plan ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ZONES)
@settings(max_examples=25, deadline=None)
@given(secret=SECRETS)
def test_five_years_of_a_partner_keep_every_rule(code: str, secret: bytes) -> None:
    """One test a month, every kind among them, fourteen days apart, each at an hour of its kind by the local clock."""
    zone = ZoneInfo(ZONES[code])
    tests = five_years(code, secret, ZONES[code])
    months = [(test.at.astimezone(zone).year, test.at.astimezone(zone).month) for test in tests]
    assert months == [(year, month) for year in YEARS for month in range(1, 13)]
    assert all(after.at - before.at >= APART for before, after in pairwise(tests))
    counted = Counter(test.kind for test in tests)
    assert set(counted) == set(Kind)
    assert counted[Kind.WORKING_DAY] == len(YEARS)
    for test in tests:
        local = test.at.astimezone(zone)
        free = local.date() in holidays(code, local.year)
        is_night = local.hour >= 22 or local.hour < 6
        assert is_night is (test.kind is Kind.NIGHT)
        assert not free or test.kind in (Kind.HOLIDAY, Kind.NIGHT)
        assert free or test.kind is not Kind.HOLIDAY
        assert test.kind is not Kind.WEEKEND or local.weekday() >= 5
        assert test.kind is not Kind.WORKING_DAY or (local.weekday() < 5 and 8 <= local.hour < 18)


@settings(max_examples=60, deadline=None)
@given(
    secret=SECRETS,
    zone=st.sampled_from(
        ["Pacific/Apia", "Australia/Lord_Howe", "Asia/Kathmandu", "America/Havana", "Africa/Cairo", "Asia/Beirut"]
    ),
    code=st.sampled_from(["AA", "NZ", "EG", "LB"]),
)
def test_no_zone_and_no_calendar_breaks_the_plan(secret: bytes, zone: str, code: str) -> None:
    """Clocks that change at midnight or by half an hour, and a partner without any holiday, keep the rules as well."""
    tests = five_years(code, secret, zone)
    assert len(tests) == 12 * len(YEARS)
    assert all(after.at - before.at >= APART for before, after in pairwise(tests))
    for test in tests:
        local = test.at.astimezone(ZoneInfo(zone))
        assert plan.kind_of(test.at, ZoneInfo(zone), holidays(code, local.year)) is test.kind


def test_the_same_secret_draws_the_same_and_another_one_does_not() -> None:
    """A restart draws the same minute; whoever does not know the secret cannot."""
    zone, free = ZoneInfo("Europe/London"), holidays("GB", 2026)
    first = plan.planned("GB", date(2026, 11, 1), b"a" * 32, zone, free)
    assert plan.planned("GB", date(2026, 11, 30), b"a" * 32, zone, free) == first
    others = {plan.planned("GB", date(2026, 11, 1), bytes([n]) * 32, zone, free).at for n in range(50)}
    assert len(others) == 50


def test_every_day_of_the_year_can_be_hit() -> None:
    """Between Christmas and New Year too: the cut between two years lies elsewhere each year."""
    zone, free = ZoneInfo("Europe/London"), holidays("GB", 2026)
    drawn = (plan.planned_year("GB", 2026, n.to_bytes(32, "big"), zone, free) for n in range(5000))
    days = {test.at.astimezone(zone).strftime("%m-%d") for year in drawn for test in year}
    assert len(days) == 365


def test_the_order_of_kinds_is_not_always_the_same() -> None:
    """Nobody can count the kinds off by the month."""
    zone = ZoneInfo("Europe/London")
    orders = {
        tuple(test.kind for test in plan.planned_year("GB", year, b"a" * 32, zone, holidays("GB", year)))
        for year in range(2026, 2036)
    }
    assert len(orders) == 10


def test_a_third_of_the_year_without_a_holiday_gives_its_own_to_the_next() -> None:
    """The next month that has a holiday holds the test that was owed."""
    free = frozenset({date(2026, 9, 7), date(2026, 11, 11)})
    for n in range(30):
        year = plan.planned_year("AA", 2026, bytes([n]) * 32, ZoneInfo("UTC"), free)
        assert [month for month, test in enumerate(year, start=1) if test.kind is Kind.HOLIDAY] == [9]


def test_holidays_are_drawn_too() -> None:
    """A partner with one holiday in each third is not tested on each of them every year."""
    free = frozenset({date(2026, 3, 20), date(2026, 6, 10), date(2026, 10, 5)})
    found = {
        tuple(month for month, test in enumerate(year, start=1) if test.kind is Kind.HOLIDAY)
        for n in range(60)
        for year in [plan.planned_year("AA", 2026, bytes([n]) * 32, ZoneInfo("UTC"), free)]
    }
    assert found == {(3, 6), (3, 10), (6, 10)}


@pytest.mark.parametrize(
    ("later", "is_due"),
    [
        (timedelta(seconds=-1), False),
        (timedelta(0), True),
        (STARTS_WITHIN - timedelta(seconds=1), True),
        (STARTS_WITHIN, False),
        (timedelta(hours=23), False),
        (timedelta(days=1), True),
        (timedelta(days=9, minutes=14), True),
        (timedelta(days=10, minutes=14), False),
    ],
)
def test_a_test_is_put_off_by_days_and_never_out_of_its_month(later: timedelta, is_due: bool) -> None:
    """What could not begin within a quarter of an hour may begin at the same time of every later day of the month."""
    zone = ZoneInfo("Europe/London")
    test = Planned(Kind.NIGHT, datetime(2026, 11, 21, 23, 50, tzinfo=UTC))
    assert (plan.due_try(test, test.at + later, zone) is not None) is is_due


def test_a_try_keeps_the_local_time_when_clocks_change() -> None:
    """A test at 23:00 is put off to 23:00, also over the night in which the clocks change."""
    zone = ZoneInfo("Europe/London")
    test = Planned(Kind.NIGHT, datetime(2026, 10, 24, 23, 0, tzinfo=zone).astimezone(UTC))
    following = datetime(2026, 10, 25, 23, 0, tzinfo=zone).astimezone(UTC)
    assert following - test.at == timedelta(hours=25)
    assert plan.due_try(test, following, zone) == following
    assert plan.due_try(test, following - timedelta(minutes=1), zone) is None


# --- the switch -------------------------------------------------------------------------------------------------------


def secretariat(**changes: Any) -> Caller:
    """A person of the secretariat."""
    return Caller(SASHA.model_copy(update=changes), frozenset({Role.SECRETARIAT}))


def switched(by: Caller, partners: Any = None) -> Plan:
    """The plan switched on."""
    return lines.switch(Plan(), enabled=True, partners=partners, by=by, known=NETWORK.partners, now=NOW)


def test_the_plan_is_off_until_somebody_switches_it_on() -> None:
    """Off tests nobody; on tests all partners or those named, and never the secretariat itself."""
    assert not Plan().includes("GB")
    assert switched(secretariat()).includes("GB")
    assert not switched(secretariat()).includes("XR")
    some = switched(secretariat(), ["US", "GB", "US"])
    assert some.partners == ("GB", "US")
    assert not some.includes("EU")


@pytest.mark.parametrize(
    "by",
    [
        secretariat(kind=CredentialKind.SYSTEM),
        secretariat(partner="GB"),
        Caller(SASHA, frozenset({Role.DUTY_OFFICER, Role.RELEASER})),
    ],
    ids=["a system", "another partner", "another role"],
)
def test_only_a_person_of_the_secretariat_switches_the_plan(by: Caller) -> None:
    """The role counts at the secretariat only, and tests are released in the name of a person."""
    with pytest.raises(Forbidden):
        switched(by)


@pytest.mark.parametrize("partners", [[], ["FR"], ["XR"], [f"A{chr(n)}" for n in range(lines.PARTNERS_MAX + 1)]])
def test_partners_that_cannot_be_tested_are_refused(partners: list[str]) -> None:
    """None, unknown ones, the secretariat and too many."""
    with pytest.raises(Invalid):
        switched(secretariat(), partners)


# --- beginning --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("around", "by_plan", "by_hand"),
    [
        (Surroundings(), None, None),
        (Surroundings(is_tested=True), Obstacle.RUNNING, Obstacle.RUNNING),
        (Surroundings(has_actual=True), Obstacle.ACTUAL_ALERT, Obstacle.ACTUAL_ALERT),
        (Surroundings(tested_at=NOW - APART + timedelta(seconds=1)), Obstacle.TOO_SOON, None),
        (Surroundings(tested_at=NOW - APART), None, None),
        (Surroundings(drilled_at=NOW - timedelta(hours=12, seconds=-1)), Obstacle.ANOTHER_DRILL, None),
        (Surroundings(drilled_at=NOW - timedelta(hours=12)), None, None),
    ],
)
def test_what_keeps_a_test_from_beginning(
    around: Surroundings, by_plan: Obstacle | None, by_hand: Obstacle | None
) -> None:
    """An Actual alert always; earlier tests and drills only where nobody has asked for this one."""
    assert lines.obstacle(GB, around, NOW, by_plan=True) is by_plan
    assert lines.obstacle(GB, around, NOW, by_plan=False) is by_hand


@pytest.mark.parametrize("partner", [None, replace(GB, active=False)])
def test_nobody_who_does_not_take_part_is_tested(partner: Partner | None) -> None:
    """An unknown or inactive partner has no duty to answer."""
    assert lines.obstacle(partner, Surroundings(), NOW, by_plan=False) is Obstacle.NOT_ACTIVE


def begun(partner: Partner = GB, network: Network = NETWORK) -> domain.Release:
    """A test's release."""
    return lines.release(
        partner,
        alert_id=AlertId(UUID(int=1)),
        crisis_id=CrisisId(UUID(int=2)),
        reference="RP-XR-2026-0001",
        by=lines.authority(SASHA),
        network=network,
        now=NOW,
    )


def test_a_test_is_an_exercise_of_half_an_hour_raised_by_the_secretariat() -> None:
    """It ends when its time to answer is over, which is before anybody could be unreached by it."""
    alert = begun().alert
    said = alert.content
    assert (alert.state, alert.raiser, said.to, said.status) == (AlertState.RELEASED, "XR", ("GB",), Status.EXERCISE)
    assert (said.precedence, said.note, alert.self_release_reason) == (
        Precedence.IMMEDIATE,
        "Line test",
        "line test plan",
    )
    assert alert.expires_at == NOW + timedelta(minutes=30)
    assert said.acknowledge_within_seconds == 1800
    assert said.coverage_goal is None
    assert said.info[0].headline == "EXERCISE – line test: acknowledge within 30 minutes"
    assert alert.released_by == SASHA


def test_a_network_in_a_hurry_gives_less_time() -> None:
    """Where the table gives less than half an hour, so does the test, and it ends before anybody is unreached."""
    table = Deadlines(
        acknowledge_within_seconds=300,
        next_level_every_seconds=60,
        unreached_after_seconds=900,
        position_within_seconds=3600,
    )
    hasty = Network(NETWORK.partners, {**DEFAULT_DEADLINES, Precedence.IMMEDIATE: table})
    alert = begun(network=hasty).alert
    assert alert.expires_at == NOW + timedelta(seconds=300)
    assert "5 minutes" in alert.content.info[0].headline


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_test_speaks_the_partners_languages(language: str) -> None:
    """English first, the others as marked translations, each with EXERCISE first; what we have no text for is left."""
    alert = begun(replace(GB, languages=("xx", f"{language}-XX", language))).alert
    blocks = alert.content.info
    assert [block.language for block in blocks] == list(dict.fromkeys(("en", language)))
    assert [block.is_translation for block in blocks] == [block.language != "en" for block in blocks]
    for block in blocks:
        assert block.headline.startswith("EXERCISE")
        assert "30" in block.headline
        assert "{" not in block.headline + block.description + block.instruction + block.event


def test_all_languages_together_keep_the_limits() -> None:
    """A partner that reads all seven gets all seven."""
    assert len(begun(replace(GB, languages=LANGUAGES)).alert.content.info) == len(LANGUAGES)


def test_a_partner_that_is_no_country_can_be_tested() -> None:
    """Every alert names a country; the European institutions' is where they sit."""
    assert begun(replace(GB, code="EU")).alert.content.countries == ("BEL",)


# --- following --------------------------------------------------------------------------------------------------------


def test_of(**changes: Any) -> LineTest:
    """A running test."""
    fields: dict[str, Any] = {
        "id": UUID(int=3),
        "alert_id": UUID(int=1),
        "reference": "RP-XR-2026-0001",
        "partner": "GB",
        "kind": Kind.NIGHT,
        "month": date(2026, 11, 1),
        "planned_at": NOW,
        "started_at": NOW,
        "started_by": SASHA,
        "answer_by_at": NOW + timedelta(minutes=30),
    }
    return LineTest(**{**fields, **changes})


test_of.__test__ = False  # type: ignore[attr-defined]


def followed(
    test: LineTest, alert: domain.Alert, heard: Heard, minutes: float, *, has_actual: bool = False
) -> tuple[LineTest, domain.Ending | None]:
    """The test some minutes after its beginning."""
    return lines.followed(test, alert, heard, has_actual=has_actual, now=NOW + timedelta(minutes=minutes))


def expired(alert: domain.Alert) -> domain.Alert:
    """The alert after its time."""
    ending = domain.expire(alert, now=NOW + timedelta(minutes=30, seconds=2))
    assert ending is not None
    return ending.alert


ANSWERED = Heard(opened=True, level=1, acknowledged_at=NOW + timedelta(minutes=4))


def test_a_test_is_closed_a_minute_after_the_answer() -> None:
    """The answer is noted at once; the test ends when the minute is over, and is answered."""
    noted, ending = followed(test_of(), begun().alert, ANSWERED, 4.5)
    assert (noted.seconds, noted.level, noted.outcome, ending) == (240.0, 1, None, None)
    done, ending = followed(noted, begun().alert, ANSWERED, 5)
    assert ending is not None
    assert (ending.alert.state, done.outcome, done.ended_at) == (
        AlertState.CLOSED,
        Outcome.ANSWERED,
        NOW + timedelta(minutes=5),
    )


def test_a_test_that_runs_out_is_unanswered() -> None:
    """Nobody has acknowledged within the time, although somebody was paged."""
    test, ending = followed(test_of(), expired(begun().alert), Heard(opened=True, level=2), 31)
    assert (test.outcome, test.level, ending) == (Outcome.UNANSWERED, 2, None)


def test_an_actual_alert_stops_a_test_and_counts_against_nobody() -> None:
    """The test is recalled with the reason, and is stopped, not failed."""
    test, ending = followed(test_of(), begun().alert, Heard(opened=True, level=1), 3, has_actual=True)
    assert ending is not None
    assert (ending.alert.state, ending.event.note) == (AlertState.CANCELLED, "an actual alert")
    assert (test.outcome, test.stop_reason) == (Outcome.STOPPED, StopReason.ACTUAL_ALERT)


def test_what_was_answered_before_the_actual_alert_stays_answered() -> None:
    """The answer was given; the test is ended all the same."""
    test, ending = followed(test_of(), begun().alert, ANSWERED, 4.5, has_actual=True)
    assert ending is not None
    assert (test.outcome, test.stop_reason) == (Outcome.ANSWERED, None)


def test_a_test_that_never_reached_anybody_says_nothing_of_the_partner() -> None:
    """Escalation was away for the whole half hour: stopped, and corrected if the report of an answer comes late."""
    lost, _ = followed(test_of(), expired(begun().alert), Heard(), 31)
    assert (lost.outcome, lost.stop_reason) == (Outcome.STOPPED, StopReason.NOT_DELIVERED)
    corrected, _ = followed(lost, expired(begun().alert), ANSWERED, 90)
    assert (corrected.outcome, corrected.stop_reason, corrected.ended_at) == (Outcome.ANSWERED, None, lost.ended_at)


def test_an_answer_after_the_time_is_noted_and_does_not_count() -> None:
    """Late is late: the time it took is kept, the outcome stays."""
    test, _ = followed(test_of(), expired(begun().alert), Heard(opened=True, level=1), 31)
    late = Heard(opened=True, level=1, acknowledged_at=NOW + timedelta(minutes=30, seconds=1))
    again, _ = followed(test, expired(begun().alert), late, 40)
    assert (again.outcome, again.seconds) == (Outcome.UNANSWERED, 1801.0)


@pytest.mark.parametrize("end", [domain.cancel, domain.close])
def test_a_test_that_people_end_is_stopped(end: Any) -> None:
    """The secretariat's releaser may end a test like any alert."""
    ending = end(begun().alert, note="a mistake", by=lines.authority(SASHA), reason=None, now=NOW)
    test, none = followed(test_of(), ending.alert, Heard(opened=True, level=1), 3)
    assert (test.outcome, test.stop_reason, none) == (Outcome.STOPPED, StopReason.BY_HAND, None)


def test_following_again_changes_nothing() -> None:
    """What is settled stays as it is, however often it is looked at."""
    alert = expired(begun().alert)
    settled, _ = followed(test_of(), alert, Heard(opened=True, level=1), 31)
    assert followed(settled, alert, Heard(opened=True, level=1), 60) == (settled, None)


def test_other_alerts_live_no_shorter_for_it() -> None:
    """Only a line test may end before anybody could be unreached."""
    said = begun().alert.content
    with pytest.raises(Invalid):
        content.expiry_at_release(said, network=NETWORK, released_at=NOW)


def test_refusals_name_what_stands_in_the_way() -> None:
    """Whoever asks for a test by hand learns why there is none."""
    refused = lines.refuse(Obstacle.ACTUAL_ALERT)
    assert isinstance(refused, Conflict)
    assert refused.code == "actual_alert_open"
