"""When a page is tried again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.retry import RETRY_AFTER_SECONDS_MAX, next_attempt_seconds, parse_retry_after

NOW = datetime(2026, 8, 15, 12, 0, tzinfo=UTC)


def gap(attempts_made: int, retry_after_seconds: float | None = None, jitter: float = 0.5) -> float:
    """The gap with a fixed jitter; 0.5 is the middle."""
    return next_attempt_seconds(attempts_made, retry_after_seconds=retry_after_seconds, jitter=lambda: jitter)


def test_attempts_are_made_at_the_promised_instants() -> None:
    """Attempts begin 0, 1, 2, 4, 8, 15, 30 and 60 s after the first, then every 60 s."""
    instants = [0.0]
    for attempts_made in range(1, 11):
        instants.append(instants[-1] + gap(attempts_made))
    assert instants == [0, 1, 2, 4, 8, 15, 30, 60, 120, 180, 240]


def test_only_the_repetitions_are_spread() -> None:
    """The first minute is exact; every later gap lies within a fifth of 60 s."""
    for attempts_made in range(1, 8):
        assert gap(attempts_made, jitter=0.0) == gap(attempts_made, jitter=0.999)
    assert gap(8, jitter=0.0) == pytest.approx(48)
    assert gap(500, jitter=1.0) == pytest.approx(72)


@given(
    st.integers(min_value=1, max_value=10_000),
    st.none() | st.floats(min_value=0, allow_infinity=True, allow_nan=False),
    st.floats(min_value=0, max_value=1, exclude_max=True),
)
def test_an_endpoint_can_ask_for_patience_but_not_for_silence(
    attempts_made: int, retry_after_seconds: float | None, jitter: float
) -> None:
    """Whatever is asked for, the gap is never shorter than the schedule's and never longer than it or 60 s."""
    scheduled = gap(attempts_made, None, jitter)
    actual = gap(attempts_made, retry_after_seconds, jitter)
    assert scheduled <= actual <= max(scheduled, RETRY_AFTER_SECONDS_MAX)


def test_a_pause_within_the_limit_is_kept() -> None:
    """`Retry-After: 20` after the first attempt means 20 s and not one."""
    assert gap(1, 20) == 20
    assert gap(1, 3600) == 60
    assert gap(6, 0) == 15


def test_the_first_attempt_has_no_gap() -> None:
    """Asking for the gap before any attempt is a mistake of the caller."""
    with pytest.raises(ValueError, match="from 1"):
        gap(0)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("7", 7),
        (" 7 ", 7),
        ("60", 60),
        ("61", 60),
        ("999999999", 60),
        (format_datetime(NOW + timedelta(seconds=30), usegmt=True), 30),
        (format_datetime(NOW + timedelta(days=9000), usegmt=True), 60),
        (format_datetime(NOW - timedelta(seconds=30), usegmt=True), 0),
        ("Sat, 15 Aug 2026 12:00:10 -0000", 10),
        (None, None),
        ("", None),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
        ("1e3", None),
        ("٣", None),
        ("9" * 400, None),
        ("Sat, 99 Aug 2026 12:00:10 GMT", None),
        ("Sat, 15 Aug 99999 12:00:10 GMT", None),
    ],
)
def test_retry_after_is_read_in_both_forms(value: str | None, seconds: float | None) -> None:
    """Whole seconds and HTTP dates are read and capped; anything else is as good as no header."""
    assert parse_retry_after(value, now=NOW) == seconds


@given(st.text())
def test_any_retry_after_is_harmless(value: str) -> None:
    """No text makes the reading fail, and the result is always within bounds."""
    seconds = parse_retry_after(value, now=NOW)
    assert seconds is None or 0 <= seconds <= RETRY_AFTER_SECONDS_MAX
