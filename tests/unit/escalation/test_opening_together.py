"""Openings of one release, decided together: each comes to what it would have come to alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from string import ascii_uppercase
from unittest.mock import patch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation import opening as module
from services.escalation.directory import Directory
from services.escalation.opening import Opening, open_all, open_escalation
from shared.contracts import DEFAULT_DEADLINES, ChannelName, EndReason, EscalationKind, Precedence
from shared.ids import derived
from tests.support.escalation_cases import MINUTE, T0, begin, directory, facts, opening

SEVERAL_PROVIDERS = {ChannelName.WEBHOOK: "webhook", ChannelName.EMAIL: "email"}
"""With these, somebody who has webhooks alone is reached one way only."""

DIRECTORIES: tuple[Callable[[], Directory], ...] = (
    directory,
    lambda: directory(True),
    lambda: directory(True, True, True),
    lambda: directory(False, True),
    lambda: directory(True, False),
    lambda: directory(False),
    lambda: directory(True, True, waits=(60, None)),
    lambda: directory(True, True, waits=(60, 120)),
    lambda: directory(True, True, endpoints=()),
    lambda: directory(True, True, office=None),
    lambda: directory(True, True, valid_until=T0 + timedelta(minutes=1)),
    lambda: directory(True, True, valid_until=T0 - timedelta(minutes=1)),
    Directory,
    lambda: replace(directory(), readable=False),
    lambda: replace(directory(), channels=frozenset()),
    lambda: replace(directory(), providers=SEVERAL_PROVIDERS),
    lambda: replace(directory(False, True), providers=SEVERAL_PROVIDERS),
)
CHANGES = st.fixed_dictionaries(
    {},
    optional={
        "kind": st.sampled_from([EscalationKind.ANSWER, EscalationKind.INFORMATION]),
        "addressed_at": st.sampled_from([T0, T0 + MINUTE]),
        "acknowledge_within_seconds": st.sampled_from([None, 30, 86_400]),
        "deadlines": st.sampled_from([DEFAULT_DEADLINES[Precedence.FLASH], DEFAULT_DEADLINES[Precedence.ROUTINE]]),
        "predecessor": st.sampled_from([None, begin(directory()).escalation]),
        "ended_reason": st.sampled_from([None, EndReason.CANCELLED]),
    },
)
INSTANTS = (T0, T0 + 5 * MINUTE, T0 + 25 * MINUTE, T0 + 600 * MINUTE, T0 + timedelta(days=3, hours=23, minutes=59))


@st.composite
def openings(draw: st.DrawFn) -> list[Opening]:
    """Some openings of one release, most of them alike."""
    alert = facts(draw(st.sampled_from([Precedence.FLASH, Precedence.ROUTINE])))
    some = draw(st.lists(st.tuples(st.sampled_from(DIRECTORIES), CHANGES | st.just({})), min_size=1, max_size=12))
    return [
        opening(
            known(),
            alert.precedence,
            **{
                "id": derived("escalation", str(number)),
                "partner": f"P{ascii_uppercase[number]}",
                "alert": alert,
                **changes,
            },
        )
        for number, (known, changes) in enumerate(some)
    ]


@given(some=openings(), now=st.sampled_from(INSTANTS))
def test_openings_together_come_to_what_each_comes_to_alone(some: list[Opening], now: datetime) -> None:
    """Filling a decision in for the next partner changes nothing, whatever their plans, waits and pasts are."""
    assert list(open_all(some, now)) == [open_escalation(one, now) for one in some]


def test_what_is_alike_is_decided_once() -> None:
    """Of many partners with the same clock and people at level 1, one is decided and the rest filled in."""
    alert = facts()
    some = [
        opening(directory(), id=derived("escalation", str(n)), partner=f"P{ascii_uppercase[n]}", alert=alert)
        for n in range(26)
    ]
    with patch.object(module, "open_escalation", side_effect=open_escalation) as decided:
        together = list(open_all(some, T0))
    assert decided.call_count == 1
    assert [outcome.escalation.partner for outcome in together] == [one.partner for one in some]


@pytest.mark.parametrize("other", [directory(False, True), Directory(), directory(True, True, waits=(60, None))])
def test_what_is_not_alike_is_decided_by_itself(other: Directory) -> None:
    """An empty level, a missing plan, or a wait of one's own is nobody else's decision."""
    alert = facts()
    some = [opening(directory(), alert=alert), opening(other, alert=alert)]
    with patch.object(module, "open_escalation", side_effect=open_escalation) as decided:
        list(open_all(some, T0))
    assert decided.call_count == len(some)
