"""When each contact point is paged: delays, unverified points, quiet hours, and what sharing a provider means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.escalation.directory import Directory
from services.escalation.model import planned_in_order
from services.escalation.paging import (
    AT_ONCE,
    QUIET_FROM,
    QUIET_UNTIL,
    RINGING,
    UNVERIFIED_AFTER_SECONDS,
    URGENT,
    Delays,
    delays_of,
    not_at_night,
    wait_seconds,
)
from shared.contracts import ChannelName, LevelTarget, PlannedContact, PlannedLevel, PlannedPoint, Precedence
from shared.ids import derived
from tests.support.escalation_cases import T0, begin, plan

ROUTINE, FLASH = Precedence.ROUTINE, Precedence.FLASH
CALM = [precedence for precedence in Precedence if precedence not in URGENT]
BERLIN = "Europe/Berlin"
CARRIED = {ChannelName.WEBHOOK: "webhook", ChannelName.EMAIL: "mail", ChannelName.SMS: "twilio,telnyx"} | {
    ChannelName.VOICE: "twilio"
}


def point(name: str, channel: ChannelName = ChannelName.SMS, *, verified: bool = True, delay: int = 0) -> PlannedPoint:
    """A contact point whose address is its name."""
    return PlannedPoint(
        id=derived("point", name), channel=channel, sealed_address=name, verified=verified, delay_seconds=delay
    )


def somebody(*points: PlannedPoint, time_zone: str | None = None) -> PlannedContact:
    """A person with these points."""
    return PlannedContact(
        id=derived("contact", "1"), name="Example Person", title="Senior contact", points=points, time_zone=time_zone
    )


def known(
    *points: PlannedPoint, time_zone: str | None = None, carried: dict[ChannelName, str] | None = None
) -> Directory:
    """A directory whose one level pages one person."""
    contact = somebody(*points, time_zone=time_zone)
    level = PlannedLevel(targets=(LevelTarget(kind="contact", id=contact.id),))
    return Directory(
        plan=plan(contacts=(contact,), levels=(level,), endpoints=(), office=None), providers=carried or {}
    )


def waits(directory: Directory, precedence: Precedence, now: datetime = T0) -> dict[str, float]:
    """How long each point's page waits."""
    level = directory.levels()[0]
    targets, _gap = directory.at_level(level, now)
    pages = planned_in_order(targets, "alert.released", level=1, asks=True, precedence=precedence, now=now)
    return {page.target.sealed_address: page.delay_seconds for page in pages}


@pytest.mark.parametrize("precedence", list(Precedence))
def test_verified_points_keep_their_delays(precedence: Precedence) -> None:
    """Push and SMS at once, voice after two minutes: at every precedence."""
    directory = known(
        point("push", ChannelName.PUSH), point("sms"), point("voice", ChannelName.VOICE, delay=120), time_zone="UTC"
    )
    assert waits(directory, precedence) == {"push": 0, "sms": 0, "voice": 120}


@pytest.mark.parametrize("precedence", sorted(URGENT))
def test_unverified_points_come_last_in_an_emergency(precedence: Precedence) -> None:
    """An unverified point is paged a minute after the last verified one, or by its own delay if that is later."""
    directory = known(point("good", delay=30), point("new", verified=False), point("late", verified=False, delay=600))
    assert waits(directory, precedence) == {"good": 30, "new": 30 + UNVERIFIED_AFTER_SECONDS, "late": 600}


@pytest.mark.parametrize("precedence", CALM)
def test_unverified_points_are_left_alone_where_there_is_no_hurry(precedence: Precedence) -> None:
    """What is not urgent goes to verified points alone, where there is one."""
    directory = known(point("good", delay=30), point("new", verified=False), time_zone="UTC")
    assert waits(directory, precedence) == {"good": 30}


@pytest.mark.parametrize("precedence", list(Precedence))
def test_nobody_is_left_out_for_lack_of_verification(precedence: Precedence) -> None:
    """Whoever has no verified point is paged on all of them as they are."""
    directory = known(point("one", verified=False), point("two", verified=False, delay=60), time_zone="UTC")
    assert waits(directory, precedence) == {"one": 0, "two": 60}


points_drawn = st.lists(
    st.tuples(st.sampled_from(list(ChannelName)), st.booleans(), st.integers(0, 3600)), min_size=1, max_size=8
)


@given(points_drawn, st.sampled_from(list(Precedence)))
def test_every_contact_gets_a_page(drawn: list[tuple[ChannelName, bool, int]], precedence: Precedence) -> None:
    """Whatever points a contact has, somebody sends one; in an emergency each is used, unverified ones last."""
    points = [point(str(n), channel, verified=ok, delay=delay) for n, (channel, ok, delay) in enumerate(drawn)]
    found = delays_of(points)
    urgent = precedence in URGENT
    paged = {p: (found[p.id].urgent_seconds if urgent else found[p.id].calm_seconds) for p in points}
    due = {p: seconds for p, seconds in paged.items() if seconds is not None}
    assert due
    assert all(seconds >= p.delay_seconds for p, seconds in due.items())
    if urgent:
        assert len(due) == len(points)
        verified = [seconds for p, seconds in due.items() if p.verified]
        if verified:
            last = max(verified)
            assert all(seconds > last for p, seconds in due.items() if not p.verified)


# --- quiet hours ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("local", "until"),
    [
        ("2021-08-15T21:59", "2021-08-15T21:59"),
        ("2021-08-15T22:00", "2021-08-16T07:00"),
        ("2021-08-15T23:30", "2021-08-16T07:00"),
        ("2021-08-16T00:00", "2021-08-16T07:00"),
        ("2021-08-16T06:59", "2021-08-16T07:00"),
        ("2021-08-16T07:00", "2021-08-16T07:00"),
        # Clocks go forward at 02:00 on 28 March and back at 03:00 on 31 October: seven is seven all the same.
        ("2021-03-27T23:00", "2021-03-28T07:00"),
        ("2021-10-30T23:00", "2021-10-31T07:00"),
        ("2021-10-31T02:30", "2021-10-31T07:00"),
    ],
)
def test_routine_waits_for_the_morning(local: str, until: str) -> None:
    """From 22:00 to 07:00 by the contact's own clock, ROUTINE waits until 07:00."""
    zone = ZoneInfo(BERLIN)
    at = datetime.fromisoformat(local).replace(tzinfo=zone).astimezone(UTC)
    expected = datetime.fromisoformat(until).replace(tzinfo=zone).astimezone(UTC)
    assert not_at_night(at, ChannelName.SMS, BERLIN, ROUTINE) == expected


NIGHT = datetime(2021, 8, 15, 23, 0, tzinfo=UTC)


@pytest.mark.parametrize("precedence", [precedence for precedence in Precedence if precedence is not ROUTINE])
@pytest.mark.parametrize("channel", list(ChannelName))
def test_only_routine_is_quiet(precedence: Precedence, channel: ChannelName) -> None:
    """Everything above ROUTINE rings at any hour."""
    assert not_at_night(NIGHT, channel, BERLIN, precedence) == NIGHT
    assert wait_seconds(AT_ONCE, channel, BERLIN, precedence, NIGHT) == 0


@pytest.mark.parametrize("channel", sorted(set(ChannelName) - RINGING))
def test_what_does_not_ring_goes_at_once(channel: ChannelName) -> None:
    """Mail and webhooks leave at night, too."""
    assert not_at_night(NIGHT, channel, BERLIN, ROUTINE) == NIGHT


def test_zone_is_the_contacts_or_the_partners() -> None:
    """A contact's own zone counts; without one it is their partner's; an office has no night."""
    late_in_london = datetime(2021, 8, 15, 23, 0, tzinfo=ZoneInfo("Europe/London")).astimezone(UTC)
    at_home = known(point("sms"))
    abroad = known(point("sms"), time_zone="America/Toronto")
    assert waits(at_home, ROUTINE, late_in_london) == {"sms": 8 * 3600}
    assert waits(abroad, ROUTINE, late_in_london) == {"sms": 0}
    office = plan().office
    assert office is not None
    staffed = Directory(plan=plan(office=office.model_copy(update={"points": (point("office"),)}), time_zone=BERLIN))
    [page] = planned_in_order(
        staffed.office_targets(), "alert.released", level=1, asks=True, precedence=ROUTINE, now=late_in_london
    )
    assert page.delay_seconds == 0


@pytest.mark.parametrize("name", ["Nowhere/Nothing", "", "../etc/passwd", "Europe"])
def test_unknown_zone_keeps_no_page_back(name: str) -> None:
    """A zone that there is not, in somebody's plan, is no reason to wait."""
    assert not_at_night(NIGHT, ChannelName.SMS, name, ROUTINE) == NIGHT


instants = st.integers(1_420_000_000, 2_050_000_000).map(lambda seconds: datetime.fromtimestamp(seconds, UTC))


@given(instants, st.sampled_from(sorted(available_timezones())), st.integers(0, 7200))
@example(datetime(2021, 3, 28, 0, 30, tzinfo=UTC), BERLIN, 0)
@example(datetime(2021, 10, 31, 0, 30, tzinfo=UTC), BERLIN, 0)
@example(datetime(2021, 4, 3, 14, 30, tzinfo=UTC), "Australia/Lord_Howe", 0)
def test_no_routine_page_rings_at_night_anywhere(now: datetime, zone: str, delay: int) -> None:
    """Whatever the zone and whatever its clocks do: never by night, never early, and never later than one night."""
    wait = wait_seconds(Delays(delay, delay), ChannelName.VOICE, zone, ROUTINE, now)
    assert wait is not None
    due_at = now + timedelta(seconds=wait)
    assert QUIET_UNTIL <= due_at.astimezone(ZoneInfo(zone)).time() < QUIET_FROM
    assert timedelta(seconds=delay) <= due_at - now <= timedelta(seconds=delay, hours=11)


# --- providers --------------------------------------------------------------------------------------------------------


def test_one_provider_is_a_lack_that_delays_nothing() -> None:
    """The lack is shown beside the level that it was found at, and everybody is paged as before."""
    points = (point("sms"), point("voice", ChannelName.VOICE))
    story = begin(known(*points, carried=CARRIED))
    assert story.escalation.one_provider
    assert story.log == [(0, ["sms", "voice"])]
    assert begin(known(*points, point("mail", ChannelName.EMAIL), carried=CARRIED)).escalation.one_provider is False


def test_no_lack_where_the_installation_has_one_provider_alone() -> None:
    """Where everything goes one way in any case, no partner's plan is to blame."""
    alone = known(point("hook", ChannelName.WEBHOOK), carried={ChannelName.WEBHOOK: "webhook"})
    assert begin(alone).escalation.one_provider is False
