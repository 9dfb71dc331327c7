"""Shifts: one rule for hand-overs, checked against a second, slow computation over every zone of the IANA database."""

from __future__ import annotations

import time as stopwatch
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.roster import domain, schedule
from services.roster.schedule import Frequency, Gap, Layer, LayerId, Override, OverrideId, Rota, Rotation, Shift
from shared.errors import Invalid
from shared.ids import ContactId, RotaId

ZONES = sorted(available_timezones())
MINUTE = timedelta(minutes=1)
A, B, C, D = (ContactId(UUID(int=number)) for number in range(1, 5))
ROTA = RotaId(UUID(int=100))


def layer(
    *participants: ContactId,
    number: int = 0,
    starts_on: date = date(2026, 1, 1),
    hand_over_time: time = time(8),
    frequency: Frequency = Frequency.DAILY,
    every: int = 1,
    ends_on: date | None = None,
) -> Layer:
    """A layer that hands over each day at 08:00 unless the test says otherwise."""
    return Layer(
        LayerId(UUID(int=200 + number)),
        f"layer {number}",
        Rotation(frequency, every),
        participants or (A, B, C),
        starts_on,
        hand_over_time,
        ends_on,
    )


def override(contact_id: ContactId | None, start_at: datetime, end_at: datetime, number: int = 0) -> Override:
    """An override of made-up id."""
    return Override(OverrideId(UUID(int=300 + number)), contact_id, start_at, end_at)


def rota(*layers: Layer, overrides: tuple[Override, ...] = (), time_zone: str = "Europe/Madrid") -> Rota:
    """A rota of made-up id, in Madrid unless the test says otherwise."""
    return Rota(ROTA, "first level", time_zone, layers, overrides)


def at(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    """An instant in UTC."""
    return datetime(year, month, day, hour, minute, tzinfo=UTC)


def who(result: tuple[Shift, ...]) -> list[tuple[ContactId, datetime, datetime]]:
    """Shifts without their origin."""
    return [(shift.contact_id, shift.start_at, shift.end_at) for shift in result]


@cache
def changes_of(zone_name: str) -> tuple[datetime, ...]:
    """The hours (1990 to 2045) after which the offset of a zone is another one."""
    zone = ZoneInfo(zone_name)
    found = []
    day = at(1990, 1, 1)
    while day < at(2045, 1, 1):
        if day.astimezone(zone).utcoffset() != (day + timedelta(days=1)).astimezone(zone).utcoffset():
            found += [
                hour
                for hour in (day + timedelta(hours=n) for n in range(24))
                if hour.astimezone(zone).utcoffset() != (hour + timedelta(hours=1)).astimezone(zone).utcoffset()
            ]
        day += timedelta(days=1)
    return tuple(found)


class SlowClock:
    """The second computation: it walks through a window minute by minute, watching a clock on the wall.

    It keeps the latest time that the clock has shown, so a clock that is set back shows nothing new, and asks which
    date of the rotation that time belongs to. It knows nothing of offsets, gaps or folds.
    """

    def __init__(self, subject: Rota, from_at: datetime, to_at: datetime) -> None:
        self._rota = subject
        self._zone = ZoneInfo(subject.time_zone)
        self._from_at, self._to_at = from_at, to_at

    def expected(self) -> list[ContactId | None]:
        """Who is on call at each whole minute of the window."""
        latest_shown = datetime.min  # noqa: DTZ901 - what a clock on the wall shows has no zone
        instant = self._from_at - timedelta(days=3)
        result = []
        while instant < self._to_at:
            latest_shown = max(latest_shown, instant.astimezone(self._zone).replace(tzinfo=None))
            if instant >= self._from_at:
                result.append(self._who(instant, latest_shown))
            instant += MINUTE
        return result

    def _who(self, instant: datetime, shown: datetime) -> ContactId | None:
        for said_last in reversed(self._rota.overrides):
            if said_last.start_at <= instant < said_last.end_at:
                return said_last.contact_id
        for one in self._rota.layers:
            duty_date = shown.date() if shown.time() >= one.hand_over_time else shown.date() - timedelta(days=1)
            if duty_date < one.starts_on or (one.ends_on is not None and duty_date >= one.ends_on):
                continue
            turn = (duty_date - one.starts_on).days // one.rotation.turn_days
            return one.participants[turn % len(one.participants)]
        return None


@st.composite
def rota_and_window(draw: st.DrawFn) -> tuple[Rota, datetime, datetime]:
    """A rota of any zone, and two and a half days, mostly around a change of that zone's offset."""
    zone_name = draw(st.sampled_from(ZONES))
    changes = changes_of(zone_name)
    if changes and draw(st.integers(0, 9)) > 0:
        middle = draw(st.sampled_from(changes))
    else:
        middle = at(1990, 1, 1) + timedelta(hours=draw(st.integers(0, 480_000)))
    from_at = middle - timedelta(hours=draw(st.integers(0, 48)))
    to_at = from_at + timedelta(hours=60)
    layers = []
    for number in range(draw(st.integers(1, 3))):
        starts_on = middle.date() - timedelta(
            days=draw(st.sampled_from([0, 1, 2, 3, 13, 400, 3650]) | st.integers(-2, 90))
        )
        ends_on = None
        if draw(st.booleans()):
            ends_on = starts_on + timedelta(days=draw(st.integers(1, 90)))
        layers.append(
            layer(
                *draw(st.lists(st.sampled_from([A, B, C, D]), min_size=1, max_size=5)),
                number=number,
                starts_on=starts_on,
                hand_over_time=time(draw(st.integers(0, 23)), draw(st.sampled_from([0, 1, 15, 30, 45, 59]))),
                frequency=draw(st.sampled_from(Frequency)),
                every=draw(st.integers(1, 3)),
                ends_on=ends_on,
            )
        )
    overrides = []
    for number in range(draw(st.integers(0, 3))):
        start_at = from_at + MINUTE * draw(st.integers(-600, 3600))
        end_at = start_at + MINUTE * draw(st.integers(1, 2000))
        overrides.append(override(draw(st.sampled_from([A, B, C, D, None])), start_at, end_at, number))
    return rota(*layers, overrides=tuple(overrides), time_zone=zone_name), from_at, to_at


@settings(max_examples=250, deadline=None)
@given(rota_and_window())
def test_every_minute_agrees_with_the_slow_clock(drawn: tuple[Rota, datetime, datetime]) -> None:
    """At every minute of any window of any zone the same contact is on call as a walk over a wall clock finds."""
    subject, from_at, to_at = drawn
    assert list(domain.rota_faults(subject)) == []
    result = schedule.shifts(subject, from_at, to_at)
    found: list[ContactId | None] = []
    instant = from_at
    remaining = list(result)
    while instant < to_at:
        while remaining and remaining[0].end_at <= instant:
            remaining.pop(0)
        found.append(remaining[0].contact_id if remaining and remaining[0].start_at <= instant else None)
        instant += MINUTE
    assert found == SlowClock(subject, from_at, to_at).expected()


@settings(max_examples=200, deadline=None)
@given(rota_and_window(), st.integers(0, 3600))
def test_windows_never_disagree(drawn: tuple[Rota, datetime, datetime], cut_minutes: int) -> None:
    """Two neighbouring windows together say exactly what one window over both says, and `on_call` says the same."""
    subject, from_at, to_at = drawn
    cut_at = from_at + MINUTE * cut_minutes
    whole = schedule.shifts(subject, from_at, to_at)
    left, right = schedule.shifts(subject, from_at, cut_at), schedule.shifts(subject, cut_at, to_at)
    if left and right and left[-1].end_at == cut_at == right[0].start_at:
        same = (left[-1].contact_id, left[-1].origin) == (right[0].contact_id, right[0].origin)
        if same:
            joined = Shift(left[-1].contact_id, left[-1].start_at, right[0].end_at, left[-1].origin)
            left, right = (*left[:-1], joined), right[1:]
    assert left + right == whole
    covering = next((shift for shift in whole if shift.start_at <= cut_at < shift.end_at), None)
    found = schedule.on_call(subject, cut_at)
    if cut_at < to_at:
        assert (found and found.contact_id) == (covering and covering.contact_id)


@settings(max_examples=200, deadline=None)
@given(rota_and_window())
def test_shifts_and_gaps_fill_the_window(drawn: tuple[Rota, datetime, datetime]) -> None:
    """Shifts and gaps together fill the window: sorted, nothing twice, nothing left out, nothing without length."""
    subject, from_at, to_at = drawn
    pieces = sorted(
        [
            *((shift.start_at, shift.end_at) for shift in schedule.shifts(subject, from_at, to_at)),
            *((gap.start_at, gap.end_at) for gap in schedule.gaps(subject, from_at, to_at)),
        ]
    )
    assert pieces[0][0] == from_at
    assert pieces[-1][1] == to_at
    assert all(start_at < end_at for start_at, end_at in pieces)
    assert all(before[1] == after[0] for before, after in pairwise(pieces))


@pytest.mark.parametrize("hand_over_time", [time(0), time(2, 30), time(8)])
def test_ten_years_hold_in_every_zone(hand_over_time: time) -> None:
    """Over ten years, in every zone, a weekly rota has no hole, one hand-over a week, and no drift in local time."""
    from_at, to_at = at(2025, 1, 7), at(2035, 1, 7)
    for zone_name in ZONES:
        zone = ZoneInfo(zone_name)
        weekly = layer(A, B, C, starts_on=date(2024, 12, 30), hand_over_time=hand_over_time, frequency=Frequency.WEEKLY)
        result = schedule.shifts(rota(weekly, time_zone=zone_name), from_at, to_at)
        assert (result[0].start_at, result[-1].end_at) == (from_at, to_at)
        assert all(before.end_at == after.start_at for before, after in pairwise(result))
        for turn, shift in enumerate(result[1:], start=2):
            local = shift.start_at.astimezone(zone)
            assert shift.contact_id == (A, B, C)[turn % 3]
            assert local.date() == date(2024, 12, 30) + timedelta(weeks=turn)
            assert local.time() >= hand_over_time
            if local.time() > hand_over_time:
                just_before = (shift.start_at - timedelta(microseconds=1)).astimezone(zone)
                assert just_before.replace(tzinfo=None) < datetime.combine(local.date(), hand_over_time)


def test_a_hand_over_that_does_not_exist_falls_on_the_first_instant_after_the_gap() -> None:
    """Madrid jumps from 02:00 to 03:00 on 29 March 2026: a hand-over at 02:30 happens at 03:00 local, 01:00 UTC."""
    daily = rota(layer(A, B, starts_on=date(2026, 3, 28), hand_over_time=time(2, 30)))
    assert who(schedule.shifts(daily, at(2026, 3, 28, 12), at(2026, 3, 30, 12))) == [
        (A, at(2026, 3, 28, 12), at(2026, 3, 29, 1)),
        (B, at(2026, 3, 29, 1), at(2026, 3, 30, 0, 30)),
        (A, at(2026, 3, 30, 0, 30), at(2026, 3, 30, 12)),
    ]


def test_a_hand_over_that_exists_twice_falls_on_the_first_occurrence() -> None:
    """Madrid shows 02:30 twice on 25 October 2026, at 00:30 and 01:30 UTC: the hand-over happens once, at 00:30 UTC."""
    daily = rota(layer(A, B, starts_on=date(2026, 10, 24), hand_over_time=time(2, 30)))
    assert who(schedule.shifts(daily, at(2026, 10, 24, 12), at(2026, 10, 26, 12))) == [
        (A, at(2026, 10, 24, 12), at(2026, 10, 25, 0, 30)),
        (B, at(2026, 10, 25, 0, 30), at(2026, 10, 26, 1, 30)),
        (A, at(2026, 10, 26, 1, 30), at(2026, 10, 26, 12)),
    ]


@pytest.mark.parametrize(
    ("zone_name", "on", "hand_over_time", "expected"),
    [
        ("Australia/Lord_Howe", date(2026, 10, 4), time(2, 10), at(2026, 10, 3, 15, 30)),
        ("Africa/Cairo", date(2026, 4, 24), time(0), at(2026, 4, 23, 22)),
        ("America/Santiago", date(2026, 9, 6), time(0, 15), at(2026, 9, 6, 4)),
        ("Pacific/Apia", date(2011, 12, 30), time(9), at(2011, 12, 30, 10)),
        ("America/Sao_Paulo", date(2026, 10, 18), time(0), at(2026, 10, 18, 3)),
    ],
)
def test_known_changes(zone_name: str, on: date, hand_over_time: time, expected: datetime) -> None:
    """Half-hour changes, changes at midnight and a skipped date follow the same rule, by instants from almanacs."""
    assert schedule.hand_over_at(on, hand_over_time, ZoneInfo(zone_name)) == expected


def test_a_skipped_date_gives_its_turn_no_time() -> None:
    """Apia skipped 30 December 2011: whoever had that turn from midnight has no shift, and no hole is left."""
    daily = rota(layer(A, B, C, starts_on=date(2011, 12, 29), hand_over_time=time(0)), time_zone="Pacific/Apia")
    assert who(schedule.shifts(daily, at(2011, 12, 29, 10), at(2011, 12, 31, 10))) == [
        (A, at(2011, 12, 29, 10), at(2011, 12, 30, 10)),
        (C, at(2011, 12, 30, 10), at(2011, 12, 31, 10)),
    ]


def test_the_first_layer_outranks_the_ones_after_it() -> None:
    """Where two layers cover an instant the earlier one answers; where it has ended the later one shows through."""
    first = layer(A, number=0, ends_on=date(2026, 1, 3))
    second = layer(B, number=1)
    result = schedule.shifts(rota(first, second, time_zone="UTC"), at(2026, 1, 1), at(2026, 1, 5))
    assert who(result) == [(A, at(2026, 1, 1, 8), at(2026, 1, 3, 8)), (B, at(2026, 1, 3, 8), at(2026, 1, 5))]


def test_an_override_replaces_and_the_last_one_holds() -> None:
    """An override replaces every layer for its time, and where two overlap the one that was made last holds."""
    overrides = (
        override(C, at(2026, 1, 2), at(2026, 1, 4), 0),
        override(D, at(2026, 1, 3), at(2026, 1, 5), 1),
    )
    result = schedule.shifts(rota(layer(A), overrides=overrides, time_zone="UTC"), at(2026, 1, 1, 8), at(2026, 1, 6))
    assert [(shift.contact_id, shift.start_at.day, shift.end_at.day) for shift in result] == [
        (A, 1, 2),
        (C, 2, 3),
        (D, 3, 5),
        (A, 5, 6),
    ]
    assert [shift.origin for shift in result[1:3]] == [overrides[0].id, overrides[1].id]


def test_an_override_by_nobody_is_a_gap() -> None:
    """An override without a contact leaves nobody on call, and the gap is reported as what it is."""
    nobody = override(None, at(2026, 1, 2), at(2026, 1, 3))
    subject = rota(layer(A), overrides=(nobody,), time_zone="UTC")
    assert schedule.gaps(subject, at(2026, 1, 1, 8), at(2026, 1, 6)) == (Gap(at(2026, 1, 2), at(2026, 1, 3)),)
    assert schedule.on_call(subject, at(2026, 1, 2, 12)) is None


def test_turns_of_one_contact_are_one_shift() -> None:
    """Somebody who follows upon himself has one long shift, not one per turn; `on_call` tells it 14 days either way."""
    subject = rota(layer(A), time_zone="UTC")
    assert len(schedule.shifts(subject, at(2026, 2, 1), at(2026, 3, 1))) == 1
    found = schedule.on_call(subject, at(2026, 3, 1))
    assert found is not None
    assert (found.start_at, found.end_at) == (at(2026, 2, 15), at(2026, 3, 15))


def test_nobody_is_on_call_before_a_rota_begins() -> None:
    """Before the first hand-over and in a rota without layers nobody is on call, and that is a gap, not an error."""
    assert schedule.on_call(rota(layer(A), time_zone="UTC"), at(2026, 1, 1, 7, 59)) is None
    assert schedule.gaps(rota(), at(2026, 1, 1), at(2026, 1, 2)) == (Gap(at(2026, 1, 1), at(2026, 1, 2)),)
    assert schedule.gaps(rota(), at(2026, 1, 1), at(2026, 1, 1)) == ()


@pytest.mark.parametrize(
    ("from_at", "to_at", "field"),
    [
        (datetime(2026, 1, 1), at(2026, 1, 2), "from"),  # noqa: DTZ001 - the naive instant is what is refused
        (at(2026, 1, 2), at(2026, 1, 1), "to"),
        (at(1969, 1, 1), at(1969, 1, 2), "to"),
        (at(2026, 1, 1), at(2026, 1, 1) + timedelta(days=schedule.SPAN_DAYS_MAX, seconds=1), "to"),
        (datetime.max.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC), "to"),
    ],
)
def test_a_bad_window_is_refused(from_at: datetime, to_at: datetime, field: str) -> None:
    """A naive, reversed, too early, too late or too long window is refused, and the field is named."""
    with pytest.raises(Invalid) as refused:
        schedule.shifts(rota(layer(A)), from_at, to_at)
    assert refused.value.errors[0].field == field


@pytest.mark.parametrize("instant", [datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)])
def test_on_call_at_the_ends_of_time_is_refused(instant: datetime) -> None:
    """The first and the last instant that exist are refused as out of range, never a crash."""
    with pytest.raises(Invalid):
        schedule.on_call(rota(layer(A)), instant)


def test_fourteen_days_take_less_than_a_millisecond() -> None:
    """The shifts of 14 days of a rota of two layers and ten overrides are computed in well below 1 ms (best of 50)."""
    overrides = tuple(override(D, at(2026, 3, 20 + n), at(2026, 3, 20 + n, 6), n) for n in range(10))
    layers = (layer(A, B, C), layer(A, B, number=1, frequency=Frequency.WEEKLY))
    subject = rota(*layers, overrides=overrides)
    took = []
    for _ in range(50):
        begun = stopwatch.perf_counter()
        schedule.shifts(subject, at(2026, 3, 20), at(2026, 4, 3))
        took.append(stopwatch.perf_counter() - begun)
    assert min(took) < 0.001
