"""When a coverage goal is met, missed, or still open, and what an Update does to it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.coverage.domain import Countdown, GoalState, counted, earlier, opened
from shared.contracts import CoverageGoal

NOW = datetime(2021, 8, 15, 9, 30, tzinfo=UTC)
PARTNERS = ("DE", "ES", "GB", "IT", "US")
GOAL = CoverageGoal(partners=3, within_seconds=900)
FIRST, SECOND = UUID(int=1), UUID(int=2)


def at(seconds: float) -> datetime:
    """So many seconds after release."""
    return NOW + timedelta(seconds=seconds)


def begun(goal: CoverageGoal = GOAL) -> Countdown:
    """A goal as it begins."""
    return opened(FIRST, "CA", goal, asked=frozenset(PARTNERS), released_at=NOW, now=NOW)


def updated(
    predecessor: Countdown, seconds: float = 60, *, goal: CoverageGoal = GOAL, asks_anew: bool = False
) -> Countdown:
    """The goal of an Update released so many seconds later."""
    return opened(
        SECOND,
        "CA",
        goal,
        asked=frozenset(PARTNERS),
        released_at=at(seconds),
        now=at(seconds),
        asks_anew=asks_anew,
        predecessor=predecessor,
    )


@pytest.mark.parametrize(
    ("answers", "now", "state"),
    [
        ({}, 899.999, GoalState.OPEN),
        ({}, 900, GoalState.MISSED),
        ({"DE": 1, "ES": 2}, 900, GoalState.MISSED),
        ({"DE": 1, "ES": 2, "GB": 3}, 3, GoalState.MET),
        ({"DE": 1, "ES": 2, "GB": 900}, 900, GoalState.MET),
        ({"DE": 1, "ES": 2, "GB": 900}, 5_000, GoalState.MET),
        ({"DE": 1, "ES": 2, "GB": 900.001}, 5_000, GoalState.MISSED),
        ({"DE": 1, "ES": 2, "NZ": 3}, 10, GoalState.OPEN),
    ],
)
def test_what_counts_is_when_partners_acknowledged(answers: dict[str, float], now: float, state: GoalState) -> None:
    """Met by the answers that came in time, whenever they are counted; only those who were asked count."""
    count = counted(begun(), {partner: at(seconds) for partner, seconds in answers.items()}, at(now))
    assert count.state is state
    assert set(count.missing) == set(PARTNERS) - answers.keys()
    assert (count.met_at is not None) == (state is GoalState.MET)


def test_a_goal_is_met_when_the_last_wanted_answer_came() -> None:
    """Not the first, not the newest: the one that filled the number."""
    answers = {"US": at(40), "DE": at(10), "ES": at(30), "GB": at(20)}
    assert counted(begun(), answers, at(50)).met_at == at(30)


def test_an_update_carries_the_clock_on() -> None:
    """Correcting again and again never puts a goal off; an Update with less time takes less."""
    first = begun()
    assert updated(first).due_at == first.due_at
    assert updated(first, goal=CoverageGoal(partners=3, within_seconds=60)).due_at == at(120)


@pytest.mark.parametrize("state", [GoalState.MET, GoalState.MISSED])
def test_what_was_decided_is_not_decided_again(state: GoalState) -> None:
    """An Update of a decided goal keeps the outcome, so that nobody is told twice."""
    decided = replace(begun(), state=state, decided_at=at(30))
    carried = updated(decided)
    assert (carried.state, carried.decided_at, carried.alert_id) == (state, at(30), SECOND)


@pytest.mark.parametrize("state", [GoalState.MET, GoalState.MISSED])
def test_an_update_that_asks_anew_or_wants_more_counts_anew(state: GoalState) -> None:
    """Then the time runs from the Update."""
    decided = replace(begun(), state=state, decided_at=at(30))
    for again in (
        updated(decided, asks_anew=True),
        updated(decided, goal=CoverageGoal(partners=4, within_seconds=900)),
    ):
        assert (again.state, again.due_at) == (GoalState.OPEN, at(60 + 900))


def test_a_release_dated_ahead_starts_on_arrival() -> None:
    """Another node's clock that is ahead gives no more time."""
    ahead = opened(FIRST, "CA", GOAL, asked=frozenset(PARTNERS), released_at=at(500), now=NOW)
    assert ahead.due_at == at(900)


@given(
    st.integers(60, 3600),
    st.integers(60, 3600),
    st.integers(0, 3600),
)
def test_release_and_update_end_alike_in_any_order(first: int, second: int, later: int) -> None:
    """I7: an Update that overtakes its original ends with the due time that it would have had in order."""
    original = begun(CoverageGoal(partners=3, within_seconds=first))
    goal = CoverageGoal(partners=3, within_seconds=second)
    alone = opened(SECOND, "CA", goal, asked=frozenset(PARTNERS), released_at=at(later), now=at(later))
    assert earlier(alone, original).due_at == updated(original, later, goal=goal).due_at
