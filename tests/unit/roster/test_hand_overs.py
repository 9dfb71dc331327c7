"""The last change of a rota: found however long ago within a month, whatever window is asked for, and published."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.hand_overs.domain import changes_of
from services.roster import schedule
from services.roster.domain import Contact, Partner, PartnerState
from services.roster.hand_overs.domain import LOOKED_BACK, CurrentChange, Signatures, current_change, with_change_before
from services.roster.publication import duty_plan
from services.roster.schedule import Frequency, Layer, LayerId, Override, OverrideId, Rota, Rotation, Shift
from shared.contracts import DutyPlanPublished, Standing
from shared.ids import ContactId, PartnerCode, RotaId

A, B, C = (ContactId(UUID(int=number)) for number in range(1, 4))
MADRID_EIGHT = datetime(2026, 3, 2, 7, 0, tzinfo=UTC)
"""Monday, 2 March 2026, 08:00 in Madrid: a turn begins."""
HOUR = timedelta(hours=1)


def rota(
    *participants: ContactId,
    every: int = 1,
    frequency: Frequency = Frequency.WEEKLY,
    overrides: tuple[Override, ...] = (),
) -> Rota:
    """A rota in Madrid that hands over at eight, on Mondays if by weeks, and wants that signed."""
    rotation = Rotation(frequency, every)
    layer = Layer(LayerId(UUID(int=200)), "layer", rotation, participants or (A, B), date(2026, 2, 2), time(8))
    return Rota(RotaId(UUID(int=100)), "Duty", "Europe/Madrid", (layer,), overrides, signs_hand_over=True)


def window(of: Rota, from_at: datetime, hours: int = 24) -> tuple[Shift, ...]:
    """The shifts of some hours with the change before them."""
    return with_change_before(of, schedule.shifts(of, from_at, from_at + hours * HOUR))


@pytest.mark.parametrize("hours", [0, 1, 30, 49, 24 * 7 - 1])
def test_the_change_is_found_however_long_the_turn_has_lasted(hours: int) -> None:
    """From its first instant to its last; two days back or a week."""
    found = current_change(rota(), MADRID_EIGHT + hours * HOUR)
    assert found == CurrentChange(UUID(int=100), MADRID_EIGHT, B, A)
    before, *_own, first = window(rota(), MADRID_EIGHT + hours * HOUR, hours=1)[: 3 if hours else 2]
    assert (before.contact_id, before.end_at) == (B, MADRID_EIGHT)
    assert first.start_at == MADRID_EIGHT + hours * HOUR


def test_a_rota_without_signatures_is_left_as_it_is() -> None:
    """Its plan is not longer by a single shift."""
    quiet = replace(rota(), signs_hand_over=False)
    assert window(quiet, MADRID_EIGHT + HOUR) == schedule.shifts(quiet, MADRID_EIGHT + HOUR, MADRID_EIGHT + 25 * HOUR)


def test_nobody_hands_over_across_a_gap() -> None:
    """Who begins after an hour of nobody has taken over from nobody."""
    nobody = Override(OverrideId(UUID(int=300)), None, MADRID_EIGHT - HOUR, MADRID_EIGHT)
    assert current_change(rota(overrides=(nobody,)), MADRID_EIGHT + HOUR) is None


def test_nobody_hands_over_to_themselves() -> None:
    """One person alone has no change, and an override for one's own shift is none."""
    assert current_change(rota(A), MADRID_EIGHT + HOUR) is None
    own = Override(OverrideId(UUID(int=300)), A, MADRID_EIGHT + 10 * HOUR, MADRID_EIGHT + 20 * HOUR)
    found = current_change(rota(overrides=(own,)), MADRID_EIGHT + 30 * HOUR)
    assert found is not None
    assert found.start_at == MADRID_EIGHT


def test_nobody_on_call_is_in_no_change() -> None:
    """Where nobody holds the rota nobody is paged beside them."""
    nobody = Override(OverrideId(UUID(int=300)), None, MADRID_EIGHT, MADRID_EIGHT + HOUR)
    assert current_change(rota(overrides=(nobody,)), MADRID_EIGHT) is None


def test_a_change_of_more_than_a_month_ago_is_over() -> None:
    """Whoever went off duty so long ago is not paged for ever, signed or not."""
    assert max(LOOKED_BACK) == timedelta(days=31)
    slow = rota(every=8)
    assert current_change(slow, MADRID_EIGHT - timedelta(days=28) + timedelta(days=56 + 30)) is not None
    assert current_change(slow, MADRID_EIGHT - timedelta(days=28) + timedelta(days=56 + 32)) is None


@given(
    frequency=st.sampled_from([Frequency.DAILY, Frequency.WEEKLY]),
    every=st.integers(1, 3),
    participants=st.lists(st.sampled_from([A, B, C]), min_size=1, max_size=4),
    hours=st.integers(0, 24 * 20),
    gaps=st.lists(st.tuples(st.integers(0, 24 * 20), st.integers(1, 12), st.sampled_from([None, A, B])), max_size=3),
)
def test_the_window_agrees_with_a_computation_of_everything(
    frequency: Frequency,
    every: int,
    participants: list[ContactId],
    hours: int,
    gaps: list[tuple[int, int, ContactId | None]],
) -> None:
    """Whoever held the rota right before the holder's unbroken time, found by walking over half a year."""
    overrides = tuple(
        Override(OverrideId(UUID(int=300 + n)), who, MADRID_EIGHT + at * HOUR, MADRID_EIGHT + (at + length) * HOUR)
        for n, (at, length, who) in enumerate(gaps)
    )
    of = rota(*participants, frequency=frequency, every=every, overrides=overrides)
    at = MADRID_EIGHT + hours * HOUR
    everything = schedule.shifts(of, at - timedelta(days=90), at + timedelta(days=1))
    expected = None
    held = None
    for earlier, later in pairwise(everything):
        if later.start_at > at:
            break
        joined = earlier.end_at == later.start_at
        if joined and earlier.contact_id != later.contact_id:
            held = CurrentChange(of.id, later.start_at, earlier.contact_id, later.contact_id)
        elif not joined:
            held = None
    if held is not None and at - held.start_at <= max(LOOKED_BACK) and schedule.shifts(of, at, at + HOUR):
        covering = [one for one in everything if one.start_at <= at < one.end_at]
        expected = held if covering else None
    assert current_change(of, at) == expected


def test_both_are_needed() -> None:
    """One signature leaves both paged."""
    assert not Signatures().both
    assert not Signatures(outgoing_at=MADRID_EIGHT).both
    assert not Signatures(incoming_at=MADRID_EIGHT).both
    assert Signatures(MADRID_EIGHT, MADRID_EIGHT).both


# --- what is published ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [0, 1, 100, 167])
def test_a_plan_carries_the_change_that_the_holder_is_in(hours: int) -> None:
    """Escalation finds it in the plan as roster does in the rota, whenever in the turn the plan was made."""
    now = MADRID_EIGHT + hours * HOUR
    planned = plan_of(rota(), now).rotas[0]
    found = [change for change in changes_of(planned) if change.start_at <= now < change.until_at]
    assert [(one.start_at, one.outgoing_id, one.incoming_id) for one in found] == [(MADRID_EIGHT, B, A)]
    changes = [shift.start_at for shift in planned.shifts]
    assert changes == sorted(changes)


def test_a_plan_of_a_rota_without_signatures_begins_with_its_window() -> None:
    """Nothing of the past is told without need."""
    planned = plan_of(replace(rota(), signs_hand_over=False), MADRID_EIGHT + 10 * HOUR)
    assert min(shift.start_at for shift in planned.rotas[0].shifts) == planned.valid_from


def plan_of(of: Rota, now: datetime) -> DutyPlanPublished:
    """The plan of a partner with one rota."""
    partner = Partner(PartnerCode("ES"), "Spain", Standing.MEMBER, "Europe/Madrid")
    contacts = tuple(Contact(id=each, name=f"Person {each}", title="Officer") for each in (A, B))
    state = PartnerState(partner=partner, contacts=contacts, rotas=(of,))
    return duty_plan(state, {}, plan_version=1, now=now, seal=lambda _id, address: address)
