"""Fairness: hours, nights, weekend days and holidays are counted for each contact, by the clock of the layer."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time
from uuid import UUID

from services.roster import schedule
from services.roster.schedule import (
    Burden,
    Frequency,
    Holiday,
    Layer,
    LayerId,
    Load,
    Override,
    OverrideId,
    Restriction,
    Rota,
    Rotation,
)
from shared.ids import ContactId, RotaId

A, B, C = (ContactId(UUID(int=number)) for number in range(1, 4))
LAYER = Layer(LayerId(UUID(int=200)), "layer", Rotation(Frequency.DAILY), (A, B), date(2026, 1, 5), time(8))
ROTA = Rota(RotaId(UUID(int=100)), "first level", "Europe/Madrid", (LAYER,))


def at(month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    """An instant of 2026 in UTC."""
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def holders(*found: Burden) -> dict[ContactId, Load]:
    """What each contact carries as holder."""
    return {burden.contact_id: burden.as_holder for burden in found}


def test_a_week_is_shared_by_days_nights_and_weekend() -> None:
    """Of a week of daily turns from Monday 08:00 A has four nights, B three, and both have some of both weekend days.

    A's turn of Friday ends on Saturday morning and B's of Saturday on Sunday morning.
    """
    found = schedule.fairness(ROTA, at(1, 5, 7), at(1, 12, 7))
    assert holders(*found) == {
        A: Load(hours=96.0, nights=4, weekend_days=2, holidays=0),
        B: Load(hours=72.0, nights=3, weekend_days=2, holidays=0),
    }
    assert [burden.contact_id for burden in found] == [A, B]


def test_a_night_counts_from_one_hour_on_and_once() -> None:
    """An hour of a night counts, less does not, and two pieces of one night are one night."""
    pieces = [
        (at(1, 5, 20), at(1, 5, 22)),
        (at(1, 6, 20), at(1, 6, 21, 59)),
        (at(1, 7, 21), at(1, 7, 21, 30)),
        (at(1, 8, 4), at(1, 8, 4, 30)),
        (at(1, 9, 5), at(1, 9, 9)),
    ]
    overrides = tuple(
        Override(OverrideId(UUID(int=300 + number)), A, start_at, end_at)
        for number, (start_at, end_at) in enumerate(pieces)
    )
    rota = Rota(ROTA.id, "r", "Europe/Madrid", (), overrides)
    expected = [
        # Madrid is an hour ahead, so its nights are 21:00 to 05:00 in UTC: an hour of one, a minute less, two half
        # hours of one, and what begins at 05:00 has none.
        (at(1, 5), at(1, 6), 1),
        (at(1, 6), at(1, 7), 0),
        (at(1, 7), at(1, 7, 23), 0),
        (at(1, 7), at(1, 8, 12), 1),
        (at(1, 9), at(1, 10), 0),
    ]
    for from_at, to_at, nights in expected:
        (burden,) = schedule.fairness(rota, from_at, to_at)
        assert burden.as_holder.nights == nights


def test_holidays_count_by_the_calendar_and_by_the_partners_own_list() -> None:
    """Whoever has any of a holiday has had it; one on a Sunday counts as a weekend day, too."""
    rota = replace(ROTA, holiday_calendar="ES", extra_holidays=(Holiday(date(2026, 1, 11), "Own"),))
    found = holders(*schedule.fairness(rota, at(1, 5, 7), at(1, 12, 7)))
    # Epiphany, a Tuesday, begins in A's turn of Monday and ends in B's; the Sunday begins in B's turn of Saturday.
    assert found[A].holidays == 2
    assert found[B].holidays == 2


def test_deputies_are_counted_on_their_own() -> None:
    """What somebody carries as deputy never mixes with what he holds, and a deputy alone is listed, too."""
    rota = replace(ROTA, layers=(replace(LAYER, participants=(A,), deputies=(C,)),))
    assert schedule.fairness(rota, at(1, 5, 7), at(1, 6, 7)) == (
        Burden(A, Load(24.0, 1, 0, 0), Load()),
        Burden(C, Load(), Load(24.0, 1, 0, 0)),
    )


def test_nights_are_those_of_the_zone_of_the_layer() -> None:
    """Office hours in Auckland are no night there, whatever the clock of the rota shows."""
    office = replace(LAYER, time_zone="Pacific/Auckland", restrictions=(Restriction(time(8), time(16)),))
    rota = replace(ROTA, layers=(office,))
    loads = holders(*schedule.fairness(rota, at(1, 5), at(1, 9)))
    assert {load.nights for load in loads.values()} == {0}
    without = replace(ROTA, layers=(replace(office, time_zone=None),), time_zone="UTC")
    assert {load.nights for load in holders(*schedule.fairness(without, at(1, 5), at(1, 9))).values()} == {0}
    shifted = replace(office, time_zone="Europe/Madrid", restrictions=(Restriction(time(20), time(4)),))
    loads = holders(*schedule.fairness(replace(ROTA, layers=(shifted,)), at(1, 5), at(1, 9)))
    assert sum(load.nights for load in loads.values()) == 4


def test_a_night_of_a_clock_change_is_counted_as_it_lasted() -> None:
    """The night of 29 March has seven hours in Madrid and the one of 25 October nine; hours are real hours."""
    nightly = replace(LAYER, participants=(A,), restrictions=(Restriction(time(22), time(6)),))
    rota = replace(ROTA, layers=(nightly,))
    (spring,) = schedule.fairness(rota, at(3, 28, 12), at(3, 29, 12))
    (autumn,) = schedule.fairness(rota, at(10, 24, 12), at(10, 25, 12))
    assert (spring.as_holder.hours, autumn.as_holder.hours) == (7.0, 9.0)
    assert (spring.as_holder.nights, autumn.as_holder.nights) == (1, 1)


def test_nobody_on_duty_is_nobody_to_list() -> None:
    """A rota without shifts asks nothing of anybody."""
    assert schedule.fairness(replace(ROTA, layers=()), at(1, 5), at(1, 6)) == ()
