"""Statistics' pure part: the period, who sees what, and buckets that leave nothing out and count nothing twice."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.statistics.domain import (
    BUCKETS_SECONDS,
    PERIOD_DEFAULT,
    PERIOD_MAX,
    Sight,
    Tally,
    bucket_conditions,
    in_order,
    period_of,
)
from services.escalation.statistics.handlers import sight_of
from shared.contracts import DEFAULT_DEADLINES, Precedence, Role
from shared.errors import Forbidden, Invalid
from tests.support.escalation_rig import person, system

NOW = datetime(2021, 8, 15, 12, tzinfo=UTC)


def test_a_period_has_defaults_and_limits() -> None:
    """Without ends it is the last ninety days; a year and a day is the most, and it must not be empty."""
    usual = period_of(None, None, NOW)
    assert (usual.from_at, usual.to_at) == (NOW - PERIOD_DEFAULT, NOW)
    assert period_of(NOW - PERIOD_MAX, NOW, NOW).to_at == NOW
    for from_at, to_at in (
        (NOW - PERIOD_MAX - timedelta(seconds=1), NOW),
        (NOW, NOW),
        (NOW, NOW - timedelta(days=1)),
        (None, datetime(1, 1, 2, tzinfo=UTC)),
    ):
        with pytest.raises(Invalid) as refused:
            period_of(from_at, to_at, NOW)
        assert refused.value.code == "out_of_range"


def test_who_sees_whom() -> None:
    """The secretariat all, a government itself and whom it has asked, those who answer no alerts nothing."""
    assert sight_of(person("XR", Role.SECRETARIAT)) == Sight(None)
    assert sight_of(person("GB", Role.DUTY_OFFICER)) == Sight("GB")
    assert sight_of(system("GB")) == Sight("GB")
    for role in (Role.OBSERVER, Role.AUDITOR, Role.ADMINISTRATOR, Role.ROSTER_MANAGER):
        with pytest.raises(Forbidden) as refused:
            sight_of(person("GB", role))
        assert refused.value.code == "role_missing"


@given(st.floats(min_value=0, max_value=10**7) | st.sampled_from(BUCKETS_SECONDS).map(float))
def test_every_time_falls_into_exactly_one_bucket(seconds: float) -> None:
    """The conditions are SQL; its comparisons are written as Python's are."""
    held = [
        all(_holds(part, seconds) for part in condition.split(" AND ")) for condition in bucket_conditions("seconds")
    ]
    assert sum(held) == 1
    assert held.index(True) == sum(seconds > bound for bound in BUCKETS_SECONDS)


def _holds(comparison: str, seconds: float) -> bool:
    name, operator, bound = comparison.split()
    assert name == "seconds"
    return seconds <= int(bound) if operator == "<=" else seconds > int(bound)


def test_buckets_end_at_the_deadlines() -> None:
    """Who was late is seen in the distribution, as long as the network keeps to the default table."""
    within = {DEFAULT_DEADLINES[one].acknowledge_within_seconds for one in Precedence}
    assert within <= set(BUCKETS_SECONDS)
    assert list(BUCKETS_SECONDS) == sorted(set(BUCKETS_SECONDS))


def test_partners_come_in_order_and_what_is_urgent_first() -> None:
    """By code, and by rank, not by spelling."""

    def tally(partner: str, precedence: Precedence) -> Tally:
        return Tally(partner, precedence, 1, 0, 0, 0, 0, None, None, (0,) * (len(BUCKETS_SECONDS) + 1))

    mixed = [tally("US", Precedence.FLASH), tally("GB", Precedence.ROUTINE), tally("GB", Precedence.IMMEDIATE)]
    assert [(one.partner, one.precedence.value) for one in in_order(mixed)] == [
        ("GB", "IMMEDIATE"),
        ("GB", "ROUTINE"),
        ("US", "FLASH"),
    ]
