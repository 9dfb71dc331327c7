"""A coverage goal, "8 of 10 within 15 minutes", and how it stands. Pure.

The cast: a `Countdown` is one alert's goal with the instant at which it is due; `opened` begins it, for an Update with
the clock of what it corrects; `counted` says how it stands.

    open → met | missed | ended

The promise: what counts is when partners acknowledged, not when anybody looked: a goal that was reached in time is met
although the count comes late, and one that was not is missed although the last answer came a second after.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from shared.contracts import CoverageGoal


class GoalState(StrEnum):
    """`ended`: the alert ended, or an Update took the goal over, before it was decided."""

    OPEN = "open"
    MET = "met"
    MISSED = "missed"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Countdown:
    """One alert's goal. `asked` are the partners that owe an answer."""

    alert_id: UUID
    raiser: str
    goal: CoverageGoal
    asked: frozenset[str]
    due_at: datetime
    state: GoalState = GoalState.OPEN
    decided_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Count:
    """How a goal stands: who has acknowledged by the due time, who has not, and when it was met."""

    state: GoalState
    acknowledged: int
    missing: tuple[str, ...]
    met_at: datetime | None = None


def opened(
    alert_id: UUID,
    raiser: str,
    goal: CoverageGoal,
    *,
    asked: frozenset[str],
    released_at: datetime,
    now: datetime,
    asks_anew: bool = False,
    predecessor: Countdown | None = None,
) -> Countdown:
    """The goal of a release. That of an Update goes on where its predecessor's stood, and the earlier due time wins.

    What was decided is not decided again, unless the Update asks anew or wants more partners than before.
    """
    # A release dated ahead comes from another node's clock: it starts on arrival.
    fresh = Countdown(
        alert_id=alert_id,
        raiser=raiser,
        goal=goal,
        asked=asked,
        due_at=min(released_at, now) + timedelta(seconds=goal.within_seconds),
    )
    if predecessor is None or predecessor.state is GoalState.ENDED:
        return fresh
    if predecessor.state is GoalState.OPEN:
        return earlier(fresh, predecessor)
    if asks_anew or goal.partners > predecessor.goal.partners:
        return fresh
    return replace(fresh, due_at=predecessor.due_at, state=predecessor.state, decided_at=predecessor.decided_at)


def earlier(countdown: Countdown, predecessor: Countdown) -> Countdown:
    """The countdown with the earlier of both due times, if it is still open."""
    if countdown.state is not GoalState.OPEN:
        return countdown
    return replace(countdown, due_at=min(countdown.due_at, predecessor.due_at))


def counted(countdown: Countdown, acknowledged: Mapping[str, datetime], now: datetime) -> Count:
    """How the goal stands at `now`, given when partners acknowledged."""
    in_time = sorted(
        at for partner, at in acknowledged.items() if partner in countdown.asked and at <= countdown.due_at
    )
    missing = tuple(sorted(countdown.asked - acknowledged.keys()))
    wanted = countdown.goal.partners
    if len(in_time) >= wanted:
        return Count(GoalState.MET, len(in_time), missing, in_time[wanted - 1])
    state = GoalState.MISSED if now >= countdown.due_at else GoalState.OPEN
    return Count(state, len(in_time), missing)
