"""What a question to a rota may cost is bounded before it is asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta

import pytest

from services.roster.answering import STEPS_MAX
from services.roster.schedule import (
    LAYERS_MAX,
    Frequency,
    Layer,
    LayerId,
    Replacement,
    ReplacementId,
    Restriction,
    Rota,
    Rotation,
    shifts,
    steps_around,
)
from shared.ids import ContactId, RotaId, derived

AT = datetime(2026, 10, 20, 9, 30, tzinfo=UTC)
DAYS = 30
PEOPLE = tuple(ContactId(derived("person", str(number))) for number in range(5))
NIGHT = Restriction(time(18), time(8))


def layer(rotation: Rotation, name: str = "layer", **more: object) -> Layer:
    """A layer that began in spring."""
    given: dict[str, object] = {"starts_on": date(2026, 4, 6), "hand_over_time": time(8), **more}
    return Layer(LayerId(derived(name)), name, rotation, PEOPLE, **given)  # type: ignore[arg-type]


def rota(*layers: Layer) -> Rota:
    """A rota of these layers."""
    return Rota(RotaId(derived("rota")), "rota", "Europe/Paris", layers)


@pytest.mark.parametrize(
    "made",
    [
        rota(layer(Rotation(Frequency.HOURLY, 1))),
        rota(layer(Rotation(Frequency.HOURLY, 8))),
        rota(layer(Rotation(Frequency.DAILY))),
        rota(layer(Rotation(Frequency.WEEKLY), restrictions=(NIGHT,)), layer(Rotation(Frequency.DAILY), "below")),
        rota(layer(Rotation(Frequency.RULE, rule="FREQ=DAILY;BYHOUR=8,20"))),
    ],
    ids=["hours", "eights", "days", "nights", "rule"],
)
def test_the_bound_is_not_below_the_shifts(made: Rota) -> None:
    """There are never more shifts than steps were counted for."""
    found = shifts(made, AT - timedelta(days=DAYS / 2), AT + timedelta(days=DAYS / 2))
    assert 0 < len(found) <= steps_around(made, AT, DAYS)


def test_ordinary_rotas_are_ordinary() -> None:
    """Ten rotas of weeks, of nights with restrictions, and of a weekly rule are answered without the worker."""
    nights = rota(layer(Rotation(Frequency.DAILY), restrictions=(NIGHT,)), layer(Rotation(Frequency.WEEKLY), "below"))
    rule = rota(layer(Rotation(Frequency.RULE, rule="FREQ=WEEKLY;BYDAY=MO,FR")))
    assert 5 * steps_around(nights, AT, DAYS) + 5 * steps_around(rule, AT, DAYS) < STEPS_MAX


@pytest.mark.parametrize(
    "rule", ["FREQ=HOURLY;BYMINUTE=0", "FREQ=DAILY;BYHOUR=0,4,8,12,16,20", "FREQ=YEARLY;BYHOUR=1,2,3,4,5,6,7,8"]
)
def test_a_rule_of_decades_is_costly(rule: str) -> None:
    """Its turns are counted from its beginning, however near the instant is."""
    made = rota(layer(Rotation(Frequency.RULE, rule=rule), starts_on=date(1990, 1, 1)))
    assert steps_around(made, AT, 1) > STEPS_MAX


def test_what_lies_over_each_other_counts_together() -> None:
    """The largest rota of hourly layers is costly, and so is one whose replacement holds them."""
    layers = tuple(layer(Rotation(Frequency.HOURLY), str(number)) for number in range(LAYERS_MAX))
    assert steps_around(rota(*layers), AT, DAYS) > STEPS_MAX
    summer = Replacement(ReplacementId(derived("summer")), "summer", AT, AT + timedelta(days=1), layers)
    assert steps_around(replace(rota(), replacements=(summer,)), AT, DAYS) > STEPS_MAX
