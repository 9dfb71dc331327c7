"""Hand-overs in a duty plan: which there are, who may sign when, and whom a level pages until both have signed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.directory import Directory
from services.escalation.hand_overs.domain import (
    LISTED,
    SIGNED_AHEAD_MAX,
    Change,
    HandOverState,
    Side,
    changes_of,
    check_open,
    hand_over_id,
    listed,
    signed_changes,
    state_of,
)
from shared.contracts import DutyPlanPublished, Gap, LevelTarget, PlannedLevel, PlannedRota, PlannedShift
from shared.errors import Conflict
from shared.ids import derived
from tests.support.escalation_cases import MINUTE, T0, contact, plan

PEOPLE = (1, 2, 3)
ROTA = derived("rota", "1")


def shift(person: int, start: int, end: int, deputy: int | None = None) -> PlannedShift:
    """Person `person` from minute `start` to minute `end`."""
    return PlannedShift(
        contact_id=contact(person).id,
        start_at=T0 + start * MINUTE,
        end_at=T0 + end * MINUTE,
        deputy_id=None if deputy is None else contact(deputy).id,
    )


def planned(*shifts: PlannedShift, signs: bool = True, deputy: bool = False) -> DutyPlanPublished:
    """A plan of three people whose one level is a rota with these shifts."""
    published = plan(True, True, True)
    rota = PlannedRota(id=ROTA, name="Duty officers", shifts=shifts, signs_hand_over=signs)
    level = PlannedLevel(targets=(LevelTarget(kind="rota", id=ROTA, deputy=deputy),))
    return published.model_copy(update={"rotas": (rota,), "levels": (level,)})


def paged(published: DutyPlanPublished, minute: float, signed: frozenset[UUID] = frozenset()) -> set[str]:
    """Whom the level pages at a minute."""
    known = Directory(plan=published, signed=signed)
    targets, _gap = known.at_level(known.levels()[0], T0 + minute * MINUTE)
    return {target.sealed_address for target in targets}


def change_of(published: DutyPlanPublished, number: int = 0) -> Change:
    """One hand-over of the plan."""
    return signed_changes(published)[number]


# --- which there are --------------------------------------------------------------------------------------------------


def test_a_change_is_between_two_people_who_follow_each_other() -> None:
    """Not after a gap, not to oneself; shifts of one person without a break are one turn."""
    published = planned(shift(1, 0, 10), shift(2, 10, 20), shift(2, 20, 30), shift(3, 35, 40), shift(1, 40, 50))
    found = [(c.outgoing_id, c.incoming_id, c.start_at, c.until_at) for c in signed_changes(published)]
    one, two, three = (contact(number).id for number in PEOPLE)
    assert found == [
        (one, two, T0 + 10 * MINUTE, T0 + 30 * MINUTE),
        (three, one, T0 + 40 * MINUTE, T0 + 50 * MINUTE),
    ]


def test_an_id_names_rota_instant_and_both_people() -> None:
    """The same for ever and in every zone; another one if any of them differs."""
    one, two, three = (contact(number).id for number in PEOPLE)
    local = T0.astimezone(datetime.fromisoformat("2021-08-15T14:00:00+04:30").tzinfo)
    same = hand_over_id(ROTA, T0, one, two)
    assert hand_over_id(ROTA, local, one, two) == same
    others = {
        hand_over_id(one, T0, one, two),
        hand_over_id(ROTA, T0 + timedelta(microseconds=1), one, two),
        hand_over_id(ROTA, T0, two, one),
        hand_over_id(ROTA, T0, one, three),
    }
    assert len(others | {same}) == 5


def test_a_rota_that_does_not_ask_for_signatures_has_no_hand_overs_to_sign() -> None:
    """Most rotas change without ceremony."""
    assert signed_changes(planned(shift(1, 0, 10), shift(2, 10, 20), signs=False)) == []


def test_what_is_listed() -> None:
    """The last day, the coming day, and whatever still counts however old it is."""
    day = 24 * 60
    published = planned(
        shift(1, -9 * day, -8 * day),
        shift(2, -8 * day, -2 * day),
        shift(1, -2 * day, day),
        shift(3, day, 2 * day),
        shift(1, 2 * day, 3 * day),
    )
    assert [c.start_at for c in listed(published, T0)] == [T0 - 2 * LISTED, T0 + LISTED]


@pytest.mark.parametrize(
    ("minute", "code"),
    [(-121, "hand_over_not_yet"), (-120, None), (0, None), (59, None), (60, "hand_over_past")],
)
def test_it_can_be_signed_from_two_hours_before_until_the_next_change(minute: int, code: str | None) -> None:
    """Earlier nobody knows what is open, later it is another hand-over."""
    assert timedelta(minutes=120) == SIGNED_AHEAD_MAX
    change = change_of(planned(shift(1, -300, 0), shift(2, 0, 60), shift(3, 60, 90)))
    if code is None:
        check_open(change, T0 + minute * MINUTE)
        return
    with pytest.raises(Conflict) as refused:
        check_open(change, T0 + minute * MINUTE)
    assert refused.value.code == code


def test_who_is_on_which_side() -> None:
    """Each of the two has a side and another; nobody else has one."""
    change = change_of(planned(shift(1, 0, 10), shift(2, 10, 20)))
    sides = [change.side_of(contact(number).id) for number in PEOPLE]
    assert [*sides, change.side_of(None)] == [Side.OUTGOING, Side.INCOMING, None, None]
    assert change.other(Side.OUTGOING) == contact(2).id
    assert change.other(Side.INCOMING) == contact(1).id


@pytest.mark.parametrize(
    ("outgoing", "incoming", "state"),
    [
        (None, None, HandOverState.UNSIGNED),
        (T0, None, HandOverState.PARTLY_SIGNED),
        (None, T0, HandOverState.PARTLY_SIGNED),
        (T0, T0, HandOverState.SIGNED),
    ],
)
def test_the_state_says_who_has_signed(
    outgoing: datetime | None, incoming: datetime | None, state: HandOverState
) -> None:
    """Nobody, one of the two, or both."""
    assert state_of(outgoing, incoming) is state


# --- whom a level pages -----------------------------------------------------------------------------------------------


def test_until_both_have_signed_both_are_paged() -> None:
    """From the first minute of the new shift to its last; the incoming person first."""
    published = planned(shift(1, 0, 10), shift(2, 10, 20), shift(3, 20, 30))
    known = Directory(plan=published)
    targets, _gap = known.at_level(known.levels()[0], T0 + 10 * MINUTE)
    assert [target.sealed_address for target in targets] == ["person-2", "person-1"]
    assert [paged(published, minute) for minute in (9, 19, 20, 29)] == [
        {"person-1"},
        {"person-1", "person-2"},
        {"person-2", "person-3"},
        {"person-2", "person-3"},
    ]


def test_once_both_have_signed_only_the_incoming_person_is_paged() -> None:
    """And the next change is a hand-over of its own."""
    published = planned(shift(1, 0, 10), shift(2, 10, 20), shift(3, 20, 30))
    signed = frozenset({change_of(published).id})
    assert [paged(published, minute, signed) for minute in (10, 20)] == [{"person-2"}, {"person-2", "person-3"}]


def test_who_went_off_duty_and_left_the_plan_is_nobody() -> None:
    """A plan without the outgoing contact pages the incoming one."""
    published = planned(shift(1, 0, 10), shift(2, 10, 20))
    left = published.model_copy(update={"contacts": tuple(c for c in published.contacts if c != contact(1))})
    assert paged(left, 15) == {"person-2"}


def test_a_level_of_deputies_pages_those_who_stand_in_now() -> None:
    """Neither the holder nor, after a change, the former one."""
    published = planned(shift(1, 0, 10, deputy=3), shift(2, 10, 20, deputy=1), deputy=True)
    assert [paged(published, minute) for minute in (5, 10)] == [{"person-3"}, {"person-1"}]


def test_a_level_of_deputies_without_any_is_empty() -> None:
    """It is passed over like every empty level."""
    known = Directory(plan=planned(shift(1, 0, 10), deputy=True))
    assert known.at_level(known.levels()[0], T0) == ((), Gap.EMPTY_LEVEL)


def test_an_expired_plan_names_the_last_known_deputy() -> None:
    """As it names the last known holder."""
    published = planned(shift(1, 0, 10, deputy=2), deputy=True).model_copy(update={"valid_until": T0 + 10 * MINUTE})
    assert paged(published, 60) == {"person-2"}


@st.composite
def rotas(draw: st.DrawFn) -> list[PlannedShift]:
    """Shifts in order, without overlap, with gaps, of few people, so that they often follow themselves."""
    at, made = 0, []
    for _ in range(draw(st.integers(0, 8))):
        at += draw(st.sampled_from([0, 0, 0, 1, 5]))
        end = at + draw(st.integers(1, 6))
        made.append(shift(draw(st.sampled_from(PEOPLE)), at, end, draw(st.sampled_from([None, *PEOPLE]))))
        at = end
    return made


def slowly(shifts: Sequence[PlannedShift], minute: int, signed: set[int]) -> set[str]:
    """Whom to page, minute by minute: the holder, and whoever held it when the holder's time began, if it is the minute
    right before and that change is not signed. `signed` are the minutes whose changes are.
    """

    def holder(at: int) -> int | None:
        instant = T0 + at * MINUTE
        found = [s.contact_id for s in shifts if s.start_at <= instant < s.end_at]
        return next((n for n in PEOPLE if found and contact(n).id == found[0]), None)

    now = holder(minute)
    if now is None:
        return set()
    began = minute
    while holder(began - 1) == now:
        began -= 1
    before = holder(began - 1)
    both = before is not None and began not in signed
    return {f"person-{number}" for number in ({now, before} if both else {now})}


@given(shifts=rotas(), signed=st.sets(st.integers(0, 60)), signs=st.booleans())
def test_for_any_plan_and_instant_the_same_people_as_an_obvious_computation(
    shifts: list[PlannedShift], signed: set[int], signs: bool
) -> None:
    """The holder, and beside them the former one until the change is signed; the deputies of the running shift."""
    published = planned(*shifts, signs=signs)
    ids = frozenset(c.id for c in changes_of(published.rotas[0]) if (c.start_at - T0) // MINUTE in signed)
    deputies = planned(*shifts, signs=signs, deputy=True)
    for minute in range(-1, 60):
        expected = slowly(shifts, minute, signed if signs else set(range(61)))
        assert paged(published, minute, ids) == expected, minute
        running = [s for s in shifts if s.start_at <= T0 + minute * MINUTE < s.end_at]
        stand_in = {f"person-{n}" for n in PEOPLE for s in running if s.deputy_id == contact(n).id}
        assert paged(deputies, minute, ids) == stand_in, minute
