"""Shifts: each rule of a rota by an example; `test_schedule_property` holds them against a second computation."""

from __future__ import annotations

import time as stopwatch
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

import pytest

from services.roster import schedule
from services.roster.schedule import (
    CalendarId,
    Frequency,
    Gap,
    Holiday,
    ImportedShift,
    ImportedShiftId,
    Layer,
    LayerId,
    OnHolidays,
    Override,
    OverrideId,
    Replacement,
    ReplacementId,
    Restriction,
    Rota,
    Rotation,
    Shift,
)
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


def test_hours_of_the_clock_do_not_drift() -> None:
    """Turns of six hours begin at 02:00, 08:00, 14:00 and 20:00 local on the days of both clock changes, too."""
    subject = rota(
        layer(A, B, C, D, starts_on=date(2026, 1, 1), hand_over_time=time(2), frequency=Frequency.HOURLY, every=6)
    )
    spring = schedule.shifts(subject, at(2026, 3, 29, 0), at(2026, 3, 30, 0))
    assert [(shift.contact_id, shift.start_at.hour) for shift in spring] == [(D, 0), (A, 1), (B, 6), (C, 12), (D, 18)]
    autumn = schedule.shifts(subject, at(2026, 10, 25, 0), at(2026, 10, 26, 0))
    assert [(shift.contact_id, shift.start_at.hour) for shift in autumn] == [(A, 0), (B, 7), (C, 13), (D, 19)]


def test_an_hour_that_the_clocks_skip_has_no_shift_and_still_counts() -> None:
    """Madrid has no 02:00 on 29 March 2026: whoever had that hour has no shift, and the next one does not move up."""
    subject = rota(layer(A, B, C, D, starts_on=date(2026, 3, 29), hand_over_time=time(0), frequency=Frequency.HOURLY))
    assert who(schedule.shifts(subject, at(2026, 3, 28, 23), at(2026, 3, 29, 3))) == [
        (A, at(2026, 3, 28, 23), at(2026, 3, 29, 0)),
        (B, at(2026, 3, 29, 0), at(2026, 3, 29, 1)),
        (D, at(2026, 3, 29, 1), at(2026, 3, 29, 2)),
        (A, at(2026, 3, 29, 2), at(2026, 3, 29, 3)),
    ]


def by_rule(rule: str, *participants: ContactId, starts_on: date = date(2026, 1, 1)) -> Layer:
    """A layer that hands over by a recurrence rule, at 08:00 unless the rule says otherwise."""
    return replace(layer(*participants, starts_on=starts_on), rotation=Rotation(Frequency.RULE, rule=rule))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("FREQ=WEEKLY;BYDAY=MO,FR", [(A, 2), (B, 5), (C, 9), (A, 12)]),
        ("FREQ=WEEKLY;INTERVAL=2;BYDAY=MO", [(A, 12)]),
        ("FREQ=DAILY;INTERVAL=5", [(A, 1), (B, 6), (C, 11)]),
        ("FREQ=MONTHLY;BYMONTHDAY=3,-20", [(A, 3), (B, 12)]),
        ("FREQ=MONTHLY;BYDAY=1TU", [(A, 6)]),
        ("freq=yearly;bymonth=1;byday=2sa", [(A, 10)]),
    ],
)
def test_a_recurrence_rule_says_when_turns_begin(rule: str, expected: list[tuple[ContactId, int]]) -> None:
    """Turn n begins at the n-th time that the rule names from `starts_on` on; before the first nobody has a turn."""
    result = schedule.shifts(rota(by_rule(rule, A, B, C), time_zone="UTC"), at(2026, 1, 1, 8), at(2026, 1, 14))
    assert [(shift.contact_id, shift.start_at.day) for shift in result] == expected
    assert all(shift.start_at.hour == 8 for shift in result)


def test_a_rule_with_hours_hands_over_several_times_a_day() -> None:
    """BYHOUR and BYMINUTE stand in the place of the hand-over time."""
    result = schedule.shifts(
        rota(by_rule("FREQ=DAILY;BYHOUR=2,14;BYMINUTE=30", A, B)), at(2026, 3, 28, 12), at(2026, 3, 30)
    )
    assert [shift.start_at for shift in result] == [
        at(2026, 3, 28, 12),
        at(2026, 3, 28, 13, 30),
        at(2026, 3, 29, 1),
        at(2026, 3, 29, 12, 30),
    ]


def test_a_rule_counts_on_over_decades() -> None:
    """The turns of a rule are counted from its start however far away that is."""
    subject = rota(by_rule("FREQ=WEEKLY;BYDAY=MO", A, B, C, starts_on=date(1970, 1, 5)), time_zone="UTC")
    weeks = (date(2150, 6, 1) - date(1970, 1, 5)).days // 7
    found = schedule.on_call(subject, at(2150, 6, 1, 8))
    assert found is not None
    assert (found.contact_id, found.start_at) == ((A, B, C)[weeks % 3], at(2150, 6, 1, 8))


def test_a_rule_ends_after_its_last_turn() -> None:
    """After `RULE_TURNS_MAX` turns the layer covers nothing, so that nobody can make the computation endless."""
    subject = rota(by_rule("FREQ=DAILY", A, B, starts_on=date(1970, 1, 1)), time_zone="UTC")
    ends_at = at(1970, 1, 1, 8) + timedelta(days=schedule.RULE_TURNS_MAX - 1)
    assert schedule.on_call(subject, ends_at - timedelta(seconds=1)) is not None
    assert schedule.on_call(subject, ends_at) is None


def test_a_stored_rule_that_cannot_be_read_is_a_gap() -> None:
    """A rule that nobody can read any more leaves a gap that is seen, and never stops the rest of the rota."""
    subject = rota(by_rule("FREQ=NEVER", A), layer(B, number=1), time_zone="UTC")
    assert who(schedule.shifts(subject, at(2026, 2, 1), at(2026, 2, 2))) == [(B, at(2026, 2, 1), at(2026, 2, 2))]


OFFICE_HOURS = Restriction(time(9), time(17), (1, 2, 3, 4, 5))


def test_office_hours_leave_the_rest_to_the_layers_beneath() -> None:
    """A layer that is restricted to office hours answers then; nights and weekends show through."""
    office = replace(layer(A), restrictions=(OFFICE_HOURS,))
    result = schedule.shifts(rota(office, layer(B, number=1), time_zone="UTC"), at(2026, 1, 2, 12), at(2026, 1, 5, 12))
    assert who(result) == [
        (A, at(2026, 1, 2, 12), at(2026, 1, 2, 17)),
        (B, at(2026, 1, 2, 17), at(2026, 1, 5, 9)),
        (A, at(2026, 1, 5, 9), at(2026, 1, 5, 12)),
    ]


def test_a_night_belongs_to_the_day_on_which_it_begins() -> None:
    """Nights of Friday from 20:00 to 08:00 end on Saturday morning, and no night begins on Saturday."""
    nights = replace(layer(A), restrictions=(Restriction(time(20), time(8), (5,)),))
    assert who(schedule.shifts(rota(nights, time_zone="UTC"), at(2026, 1, 5), at(2026, 1, 12))) == [
        (A, at(2026, 1, 9, 20), at(2026, 1, 10, 8))
    ]


def test_restrictions_of_a_layer_add_up_and_never_shift_its_turns() -> None:
    """Two restrictions that touch are one stretch, the whole day is 00:00 to 00:00, and turns count closed days."""
    weekend = (Restriction(time(18), time(0), (5,)), Restriction(time(0), time(0), (6, 7)))
    result = schedule.shifts(
        rota(replace(layer(A, B, C), restrictions=weekend), time_zone="UTC"), at(2026, 1, 5), at(2026, 1, 12)
    )
    assert who(result) == [
        (C, at(2026, 1, 9, 18), at(2026, 1, 10, 8)),
        (A, at(2026, 1, 10, 8), at(2026, 1, 11, 8)),
        (B, at(2026, 1, 11, 8), at(2026, 1, 12)),
    ]


def test_an_end_of_office_hours_that_does_not_exist_follows_the_rule_of_hand_overs() -> None:
    """A restriction until 02:30 ends at 03:00 local, 01:00 UTC, on the day on which Madrid's clocks skip 02:30."""
    nights = replace(layer(A), restrictions=(Restriction(time(22), time(2, 30)),))
    result = schedule.shifts(rota(nights), at(2026, 3, 28, 12), at(2026, 3, 29, 12))
    assert who(result) == [(A, at(2026, 3, 28, 21), at(2026, 3, 29, 1))]


def test_a_rota_follows_the_sun() -> None:
    """Each layer keeps the office hours of its own zone, summer time included."""
    layers = [
        replace(layer(one, number=number), time_zone=zone, restrictions=(Restriction(time(8), time(16)),))
        for number, (one, zone) in enumerate([(A, "Pacific/Auckland"), (B, "Europe/Madrid"), (C, "America/New_York")])
    ]
    result = schedule.shifts(rota(*layers, time_zone="UTC"), at(2026, 7, 1), at(2026, 7, 2))
    assert who(result) == [
        (A, at(2026, 7, 1), at(2026, 7, 1, 4)),
        (B, at(2026, 7, 1, 6), at(2026, 7, 1, 14)),
        (C, at(2026, 7, 1, 14), at(2026, 7, 1, 20)),
        (A, at(2026, 7, 1, 20), at(2026, 7, 2)),
    ]


def test_holidays_change_who_is_on_duty() -> None:
    """A layer for holidays answers on them, from hand-over to hand-over, by the calendar and by the partner's own."""
    special = replace(layer(D), on_holidays=OnHolidays.ONLY)
    usual = layer(A, number=1)
    subject = replace(
        rota(special, usual),
        holiday_calendar="ES",
        extra_holidays=(Holiday(date(2026, 1, 8), "Ministry day"),),
    )
    assert who(schedule.shifts(subject, at(2026, 1, 5, 12), at(2026, 1, 9, 12))) == [
        (A, at(2026, 1, 5, 12), at(2026, 1, 6, 7)),
        (D, at(2026, 1, 6, 7), at(2026, 1, 7, 7)),
        (A, at(2026, 1, 7, 7), at(2026, 1, 8, 7)),
        (D, at(2026, 1, 8, 7), at(2026, 1, 9, 7)),
        (A, at(2026, 1, 9, 7), at(2026, 1, 9, 12)),
    ]


def test_office_hours_can_leave_holidays_out() -> None:
    """With `NEVER` a restriction that begins on a holiday is dropped, and the next day's is not."""
    office = replace(layer(A), restrictions=(OFFICE_HOURS,), on_holidays=OnHolidays.NEVER)
    subject = replace(rota(office, time_zone="UTC"), holiday_calendar="DE")
    days = [shift.start_at.day for shift in schedule.shifts(subject, at(2026, 4, 30), at(2026, 5, 6))]
    assert days == [30, 4, 5]


def test_the_holidays_of_a_rota_are_listed_with_their_names() -> None:
    """The calendar's and the partner's own are listed in order, and the partner's own name goes first."""
    own = (Holiday(date(2026, 1, 6), "Ours"), Holiday(date(2026, 1, 2), "Bridge"))
    subject = replace(rota(), holiday_calendar="ES", extra_holidays=own)
    assert schedule.holidays_between(subject, date(2026, 1, 1), date(2026, 1, 6)) == (
        Holiday(date(2026, 1, 1), "New Year's Day"),
        Holiday(date(2026, 1, 2), "Bridge"),
        Holiday(date(2026, 1, 6), "Ours"),
    )
    assert schedule.holiday_on(rota(), date(2026, 1, 1)) is None


def test_a_replacement_takes_the_place_of_the_whole_schedule() -> None:
    """Inside its window only its own layers speak, even where they cover nothing, and calendars give way, too."""
    instead = Replacement(
        ReplacementId(UUID(int=400)),
        "summer",
        at(2026, 1, 3),
        at(2026, 1, 5),
        (replace(layer(C, number=5), restrictions=(Restriction(time(8), time(20)),)),),
    )
    imported = (shift_of(D, at(2026, 1, 2), at(2026, 1, 4)),)
    subject = replace(rota(layer(A), time_zone="UTC"), replacements=(instead,), imported=imported)
    assert who(schedule.shifts(subject, at(2026, 1, 1, 8), at(2026, 1, 6))) == [
        (A, at(2026, 1, 1, 8), at(2026, 1, 2)),
        (D, at(2026, 1, 2), at(2026, 1, 3)),
        (C, at(2026, 1, 3, 8), at(2026, 1, 3, 20)),
        (C, at(2026, 1, 4, 8), at(2026, 1, 4, 20)),
        (A, at(2026, 1, 5), at(2026, 1, 6)),
    ]


def test_the_last_replacement_holds_and_overrides_lie_over_it() -> None:
    """Of two replacements that overlap the later made one holds; an override outranks both."""
    first, second = (
        Replacement(
            ReplacementId(UUID(int=400 + n)), "r", at(2026, 1, 2), at(2026, 1, 5 - n), (layer(p, number=5 + n),)
        )
        for n, p in enumerate((B, C))
    )
    subject = replace(
        rota(layer(A), overrides=(override(D, at(2026, 1, 3), at(2026, 1, 3, 12)),), time_zone="UTC"),
        replacements=(first, second),
    )
    assert [
        (shift.contact_id, shift.start_at.day) for shift in schedule.shifts(subject, at(2026, 1, 2), at(2026, 1, 6))
    ] == [
        (C, 2),
        (D, 3),
        (C, 3),
        (B, 4),
        (A, 5),
    ]


def shift_of(contact_id: ContactId, start_at: datetime, end_at: datetime, number: int = 0) -> ImportedShift:
    """A shift from a calendar."""
    return ImportedShift(
        ImportedShiftId(UUID(int=500 + number)), CalendarId(UUID(int=600)), contact_id, start_at, end_at
    )


def test_of_two_imported_shifts_the_one_that_begins_later_holds() -> None:
    """An imported shift outranks the layers; one that begins within another holds until its end, in any order."""
    long, short = shift_of(B, at(2026, 1, 2), at(2026, 1, 6)), shift_of(C, at(2026, 1, 3), at(2026, 1, 4), 1)
    for imported in ((long, short), (short, long)):
        subject = replace(rota(layer(A), time_zone="UTC"), imported=imported)
        result = schedule.shifts(subject, at(2026, 1, 1, 8), at(2026, 1, 7))
        assert [(shift.contact_id, shift.start_at.day) for shift in result] == [(A, 1), (B, 2), (C, 3), (B, 4), (A, 6)]
        assert result[2].origin == short.id


def with_deputies(result: tuple[Shift, ...]) -> list[tuple[ContactId, ContactId | None]]:
    """Holder and deputy of each shift."""
    return [(shift.contact_id, shift.deputy_id) for shift in result]


def test_deputies_are_counted_round_and_never_stand_beside_themselves() -> None:
    """Turn n has deputy n; a deputy who holds the turn gives way to the next one, or to nobody."""
    subject = rota(replace(layer(A, B, C), deputies=(A, D)), time_zone="UTC")
    result = schedule.shifts(subject, at(2026, 1, 1, 8), at(2026, 1, 7, 8))
    assert with_deputies(result) == [(A, D), (B, D), (C, A), (A, D), (B, A), (C, D)]
    alone = rota(replace(layer(A), deputies=(A,)), time_zone="UTC")
    assert with_deputies(schedule.shifts(alone, at(2026, 1, 2), at(2026, 1, 3))) == [(A, None)]


def test_an_override_keeps_the_deputy_beneath_unless_it_is_the_person_who_stands_in() -> None:
    """Who stands in has the deputy of whom he replaces; if it is that deputy there is none; a named one holds."""
    beneath = replace(layer(A), deputies=(D,))
    result = schedule.shifts(
        rota(
            beneath,
            overrides=(
                override(B, at(2026, 1, 2), at(2026, 1, 3), 0),
                override(D, at(2026, 1, 3), at(2026, 1, 4), 1),
                replace(override(C, at(2026, 1, 4), at(2026, 1, 5), 2), deputy_id=B),
                override(None, at(2026, 1, 5), at(2026, 1, 6), 3),
                override(B, at(2026, 1, 5, 12), at(2026, 1, 6), 4),
                override(A, at(2026, 1, 4, 12), at(2026, 1, 5), 5),
            ),
            time_zone="UTC",
        ),
        at(2026, 1, 1, 8),
        at(2026, 1, 7),
    )
    assert with_deputies(result) == [(A, D), (B, D), (D, None), (C, B), (A, B), (B, None), (A, D)]


def test_an_imported_shift_keeps_the_deputies_of_the_layers() -> None:
    """A calendar says who holds, not who is deputy: the layer's deputies stay, and shifts change where they change."""
    subject = replace(
        rota(replace(layer(A), deputies=(C, D)), time_zone="UTC"),
        imported=(shift_of(B, at(2026, 1, 2), at(2026, 1, 3)), shift_of(C, at(2026, 1, 3), at(2026, 1, 4), 1)),
    )
    result = schedule.shifts(subject, at(2026, 1, 2), at(2026, 1, 4))
    assert [(shift.contact_id, shift.deputy_id, shift.start_at) for shift in result] == [
        (B, C, at(2026, 1, 2)),
        (B, D, at(2026, 1, 2, 8)),
        (C, D, at(2026, 1, 3)),
        (C, None, at(2026, 1, 3, 8)),
    ]


def test_on_call_sees_a_long_shift_whole_and_a_short_one_fast() -> None:
    """A weekly shift is told with its own beginning and end, just as a shift of hours is."""
    weekly = rota(layer(A, B, starts_on=date(2026, 1, 5), frequency=Frequency.WEEKLY), time_zone="UTC")
    found = schedule.on_call(weekly, at(2026, 1, 14))
    assert found is not None
    assert (found.start_at, found.end_at) == (at(2026, 1, 12, 8), at(2026, 1, 19, 8))
    hourly = rota(layer(A, B, frequency=Frequency.HOURLY, every=2), time_zone="UTC")
    found = schedule.on_call(hourly, at(2026, 1, 14, 11))
    assert found is not None
    assert (found.start_at, found.end_at) == (at(2026, 1, 14, 10), at(2026, 1, 14, 12))


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


@pytest.mark.parametrize("frequency", [Frequency.HOURLY, Frequency.DAILY, Frequency.WEEKLY])
def test_one_instant_takes_less_than_a_millisecond(frequency: Frequency) -> None:
    """Who is on call in a rota of two layers with deputies and office hours is known well below 1 ms (best of 50)."""
    office = replace(layer(A, B, frequency=frequency, every=2), restrictions=(OFFICE_HOURS,), deputies=(C, D))
    subject = replace(rota(office, layer(A, B, number=1)), holiday_calendar="ES")
    took = []
    for _ in range(50):
        begun = stopwatch.perf_counter()
        schedule.on_call(subject, at(2026, 3, 20, 9))
        took.append(stopwatch.perf_counter() - begun)
    assert min(took) < 0.001
