"""Ten thousand rotas over every zone: at any instant the computed shifts say what a clock on the wall says."""

from __future__ import annotations

import secrets
from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise
from operator import attrgetter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.roster import schedule
from services.roster.schedule import Shift
from tests.support.slow_schedule import (
    ALL_ZONES,
    DAY,
    MINUTE,
    SECOND,
    Duty,
    Made,
    SeededChance,
    SlowRota,
    Thing,
    made_rota,
    partner_zones,
    wall_clock,
)

ROTAS_EVERYDAY = 10_000
PARTS = 10
"""The rotas are made in so many tests of their own, so that several processes can share them."""
EDGES_MAX = 30
"""Edges of one rota that are looked at from both sides; of more, as many are drawn."""


def first_seed() -> int:
    """Everyday the same rotas, in a search for counterexamples others each time; a failure names its seed."""
    return 0 if settings().derandomize else secrets.randbits(40)


def looked_up(shifts: tuple[Shift, ...], instant: datetime) -> Duty:
    """Who is on duty at an instant, by the computed shifts."""
    number = bisect_right(shifts, instant, key=attrgetter("start_at")) - 1
    if number >= 0 and instant < shifts[number].end_at:
        return shifts[number].contact_id, shifts[number].deputy_id
    return None


def check_order(made: Made, shifts: tuple[Shift, ...]) -> None:
    """Sorted, in UTC, within the window, none without length, none over another, neighbours that differ."""
    assert all(shift.start_at < shift.end_at for shift in shifts)
    assert all(shift.start_at.tzinfo is UTC and shift.end_at.tzinfo is UTC for shift in shifts)
    if shifts:
        assert made.from_at <= shifts[0].start_at
        assert shifts[-1].end_at <= made.to_at
    for before, after in pairwise(shifts):
        assert before.end_at <= after.start_at
        if before.end_at == after.start_at:
            said = attrgetter("contact_id", "deputy_id", "origin")
            assert said(before) != said(after)


def instants_to_look_at(made: Made, shifts: tuple[Shift, ...], chance: SeededChance) -> list[datetime]:
    """Both sides of every edge, of every instant at which a clock of the rota is set, and some at random."""
    edges = sorted({edge for shift in shifts for edge in (shift.start_at, shift.end_at)})
    if len(edges) > EDGES_MAX:
        edges = [chance.pick(edges) for _ in range(EDGES_MAX)]
    found = [edge + step for edge in edges for step in (-SECOND, 0 * SECOND, SECOND)]
    layers = [*made.rota.layers, *(layer for one in made.rota.replacements for layer in one.layers)]
    for zone_name in {made.rota.time_zone, *(layer.time_zone for layer in layers if layer.time_zone)}:
        for set_at in wall_clock(zone_name).set_at:
            if made.from_at <= set_at < made.to_at:
                found += [set_at + step for step in (-MINUTE, -SECOND, 0 * SECOND, SECOND, MINUTE)]
    seconds = int((made.to_at - made.from_at) / SECOND)
    found += [made.from_at + SECOND * chance.number(0, seconds - 1) for _ in range(12)]
    return [instant for instant in found if made.from_at <= instant < made.to_at]


def check(made: Made, chance: SeededChance) -> None:
    """The computed shifts of a rota against the second computation."""
    shifts = schedule.shifts(made.rota, made.from_at, made.to_at)
    check_order(made, shifts)
    slow = SlowRota(made.rota, made.to_at)
    for instant in instants_to_look_at(made, shifts, chance):
        assert looked_up(shifts, instant) == slow.at(instant), instant
    asked_at = made.from_at + (made.to_at - made.from_at) // 2
    found = schedule.on_call(made.rota, asked_at)
    assert (found and (found.contact_id, found.deputy_id)) == slow.at(asked_at)


@pytest.mark.parametrize("part", range(PARTS))
def test_rotas_of_every_zone_agree_with_the_clock_on_the_wall(part: int) -> None:
    """No hole, no overlap, no drift: 10,000 rotas of every kind, half of them in the zones of the partners."""
    zones = partner_zones() if part % 2 == 0 else ALL_ZONES
    first = first_seed()
    for number in range(ROTAS_EVERYDAY // PARTS):
        seed = first + part * ROTAS_EVERYDAY + number
        chance = SeededChance(seed)
        window_days = chance.pick((1, 2, 3, 3, 5, 8, 14)) if number % 10 else chance.pick((40, 200, 400))
        zone_name = zones[(part // 2 * 1000 + number) % len(zones)]
        try:
            check(made_rota(chance, zone_name, zones, window_days), chance)
        except AssertionError as wrong:
            wrong.add_note(f"seed {seed} in {zone_name}")
            raise


@pytest.mark.parametrize("part", range(4))
def test_ten_years_agree_with_the_clock_on_the_wall(part: int) -> None:
    """Over ten years, in every zone of a partner, rotas of every kind do not drift from the clock on the wall."""
    zones = partner_zones()
    first = first_seed()
    for number, zone_name in enumerate(zones[part::4]):
        seed = first + 1_000_000 + part * 1000 + number
        chance = SeededChance(seed)
        try:
            check(made_rota(chance, zone_name, zones, 3650), chance)
        except AssertionError as wrong:
            wrong.add_note(f"seed {seed} in {zone_name}")
            raise


class DrawnChance:
    """Choices that Hypothesis draws, so that it can look for a smaller rota that fails."""

    def __init__(self, draw: st.DrawFn) -> None:
        self._draw = draw

    def number(self, low: int, high: int) -> int:
        return self._draw(st.integers(low, high))

    def pick(self, things: Sequence[Thing]) -> Thing:
        return self._draw(st.sampled_from(list(things)))


@st.composite
def drawn(draw: st.DrawFn) -> Made:
    """A rota with a window of up to three days."""
    chance = DrawnChance(draw)
    zone_name = chance.pick(ALL_ZONES)
    return made_rota(chance, zone_name, partner_zones(), chance.number(1, 3))


@settings(max_examples=60, deadline=None)
@given(drawn(), st.integers(0, 59))
def test_every_third_minute_agrees_with_the_clock_on_the_wall(made: Made, second: int) -> None:
    """All through a window the shifts say who is on duty by the wall clock; the smallest failure is shown."""
    assert list(schedule.rota_faults(made.rota)) == []
    shifts = schedule.shifts(made.rota, made.from_at, made.to_at)
    check_order(made, shifts)
    slow = SlowRota(made.rota, made.to_at)
    instant = made.from_at + second * SECOND
    while instant < made.to_at:
        assert looked_up(shifts, instant) == slow.at(instant)
        instant += 3 * MINUTE


@settings(max_examples=150, deadline=None)
@given(drawn(), st.integers(0, 1000))
def test_no_window_changes_what_an_instant_says(made: Made, share: int) -> None:
    """Two windows that meet anywhere say together what one window over both says."""
    cut_at = made.from_at + (made.to_at - made.from_at) * share // 1000
    whole = schedule.shifts(made.rota, made.from_at, made.to_at)
    left, right = (
        schedule.shifts(made.rota, made.from_at, cut_at),
        schedule.shifts(made.rota, cut_at, made.to_at),
    )
    for shift in (*left, *right):
        middle = shift.start_at + (shift.end_at - shift.start_at) / 2
        for instant in (shift.start_at, middle, shift.end_at - SECOND / 1000):
            assert looked_up(whole, instant) == (shift.contact_id, shift.deputy_id)
    covered = sum(((shift.end_at - shift.start_at) for shift in whole), start=0 * DAY)
    assert covered == sum(((shift.end_at - shift.start_at) for shift in (*left, *right)), start=0 * DAY)


@settings(max_examples=100, deadline=None)
@given(drawn())
def test_shifts_and_gaps_fill_the_window(made: Made) -> None:
    """Shifts and gaps together fill the window: sorted, nothing twice, nothing left out, nothing without length."""
    pieces = sorted(
        [
            *((one.start_at, one.end_at) for one in schedule.shifts(made.rota, made.from_at, made.to_at)),
            *((one.start_at, one.end_at) for one in schedule.gaps(made.rota, made.from_at, made.to_at)),
        ]
    )
    assert (pieces[0][0], pieces[-1][1]) == (made.from_at, made.to_at)
    assert all(start_at < end_at for start_at, end_at in pieces)
    assert all(before[1] == after[0] for before, after in pairwise(pieces))
