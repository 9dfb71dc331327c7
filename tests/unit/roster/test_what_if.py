"""What a change would do: compared instant by instant with the shifts themselves."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, time, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.roster import publication, schedule, what_if
from services.roster.domain import Contact, Partner, PartnerState
from services.roster.rota_edits import with_override, with_replacement, with_rota
from services.roster.schedule import (
    OVERRIDES_MAX,
    REPLACEMENTS_MAX,
    Frequency,
    Layer,
    LayerId,
    Override,
    OverrideId,
    Replacement,
    ReplacementId,
    Rota,
    Rotation,
)
from services.roster.what_if import DIFFERENCES_MAX, Preview, ahead, compare
from shared.contracts import Standing
from shared.ids import ContactId, PartnerCode, RotaId
from tests.support.roster_rig import NOW

HOUR = timedelta(hours=1)
ANN, BEN, EVE = (ContactId(UUID(int=number)) for number in (1, 2, 3))
DAYS = Layer(LayerId(UUID(int=20)), "days", Rotation(Frequency.DAILY), (ANN, BEN), date(2026, 10, 1), time(8))
ROTA = Rota(RotaId(UUID(int=10)), "Duty", "Europe/Madrid", (DAYS,))
STATE = PartnerState(
    Partner(PartnerCode("ES"), "Spain", Standing.MEMBER, "Europe/Madrid"),
    contacts=tuple(Contact(contact_id, "A") for contact_id in (ANN, BEN, EVE)),
    rotas=(ROTA,),
)


def override(
    number: int, contact_id: ContactId | None, start: float, end: float, deputy: ContactId | None = None
) -> Override:
    """An override from so many to so many hours after the present."""
    return Override(OverrideId(UUID(int=100 + number)), contact_id, NOW + start * HOUR, NOW + end * HOUR, deputy)


def with_overrides(*overrides: Override) -> PartnerState:
    """The state with these overrides in its rota."""
    return with_rota(STATE, replace(ROTA, overrides=overrides))


def test_nothing_changes_nothing() -> None:
    """Two states with the same rotas differ in no shift, whatever else differs."""
    preview = ahead(STATE, replace(STATE, contacts=()), NOW)
    assert (preview.changes, preview.holes_opened, preview.holes_closed, preview.omitted) == ((), (), (), 0)
    assert preview.to_at - preview.from_at == timedelta(days=14)


def test_an_override_is_one_difference_for_each_holder_whom_it_hides() -> None:
    """The stretch is as long as it can be, cut only where somebody else held the rota before."""
    [first, second] = ahead(STATE, with_overrides(override(1, EVE, 0, 24, BEN)), NOW).changes
    assert (first.start_at, second.end_at) == (NOW, NOW + 24 * HOUR)
    assert first.end_at == second.start_at
    assert {first.before, second.before} == {ANN, BEN}
    assert {(one.after, one.deputy_after, one.deputy_before) for one in (first, second)} == {(EVE, BEN, None)}


def test_a_hole_is_opened_and_closed() -> None:
    """A stretch in which nobody is on duty opens; taken back it closes; of one that was there only the rest counts."""
    short, long = with_overrides(override(1, None, 2, 4)), with_overrides(override(1, None, 1, 6))
    opened = ahead(STATE, short, NOW)
    assert [(hole.start_at, hole.end_at) for hole in opened.holes_opened] == [(NOW + 2 * HOUR, NOW + 4 * HOUR)]
    assert ahead(short, STATE, NOW).holes_closed == opened.holes_opened
    grown = ahead(short, long, NOW)
    assert [((hole.start_at - NOW) / HOUR, (hole.end_at - NOW) / HOUR) for hole in grown.holes_opened] == [
        (1, 2),
        (4, 6),
    ]
    assert grown.holes_closed == ()


def test_a_rota_that_is_not_there_has_no_holes() -> None:
    """A new rota shows whom it puts on duty and its own holes; a removed one opens none."""
    without = replace(STATE, rotas=())
    partly = with_overrides(override(1, None, 0, 400))
    assert {one.before for one in ahead(without, STATE, NOW).changes} == {None}
    assert len(ahead(without, partly, NOW).holes_opened) == 1
    gone = ahead(STATE, without, NOW)
    assert ({one.after for one in gone.changes}, gone.holes_opened) == ({None}, ())


def test_a_deputy_alone_is_a_difference() -> None:
    """Whoever stands in is told, also where the holder stays."""
    after = with_rota(STATE, replace(ROTA, layers=(replace(DAYS, deputies=(EVE,)),)))
    found = ahead(STATE, after, NOW).changes
    assert {(one.before == one.after, one.deputy_before, one.deputy_after) for one in found} == {(True, None, EVE)}


def test_differences_are_listed_up_to_a_limit_and_then_counted() -> None:
    """A rota that changes hands every few minutes does not make an answer without end."""
    minutes = timedelta(minutes=9)
    many = tuple(
        Override(OverrideId(UUID(int=1000 + n)), (ANN, BEN, EVE)[n % 3], NOW + n * minutes, NOW + (n + 1) * minutes)
        for n in range(2 * DIFFERENCES_MAX)
    )
    empty = with_rota(STATE, replace(ROTA, layers=()))
    preview = ahead(empty, with_rota(STATE, replace(ROTA, layers=(), overrides=many)), NOW)
    assert (len(preview.changes), preview.omitted) == (DIFFERENCES_MAX, DIFFERENCES_MAX)


OVERRIDES = st.lists(
    st.tuples(st.sampled_from([ANN, BEN, EVE, None]), st.integers(-10, 90), st.integers(1, 40)), max_size=5
).map(
    lambda drawn: tuple(
        override(number, contact_id, start, start + length) for number, (contact_id, start, length) in enumerate(drawn)
    )
)


@settings(deadline=None)
@given(OVERRIDES, OVERRIDES)
def test_the_differences_are_exactly_where_the_shifts_differ(
    first: tuple[Override, ...], second: tuple[Override, ...]
) -> None:
    """At every half hour: a difference covers it if and only if somebody else is on duty; holes likewise."""
    before, after = with_overrides(*first), with_overrides(*second)
    preview: Preview = compare(before, after, NOW, NOW + 72 * HOUR)
    held = [schedule.shifts(state.rotas[0], NOW, NOW + 72 * HOUR) for state in (before, after)]
    for half_hours in range(144):
        at = NOW + half_hours * HOUR / 2
        then, now = (next((one for one in shifts if one.start_at <= at < one.end_at), None) for shifts in held)
        covering = [one for one in preview.changes if one.start_at <= at < one.end_at]
        people = [None if shift is None else shift.contact_id for shift in (then, now)]
        assert [(one.before, one.after) for one in covering] == ([tuple(people)] if people[0] != people[1] else [])
        opened = any(hole.start_at <= at < hole.end_at for hole in preview.holes_opened)
        closed = any(hole.start_at <= at < hole.end_at for hole in preview.holes_closed)
        assert (opened, closed) == (now is None and then is not None, then is None and now is not None)


def test_what_ended_first_makes_room() -> None:
    """A full rota drops only what is over, the longest ago first; without anything over it grows too large."""
    coming = tuple(override(n, ANN, n, n + 1) for n in range(OVERRIDES_MAX - 2))
    over = (override(901, BEN, -5, -4), override(902, BEN, -9, -8))
    rota = replace(ROTA, overrides=(coming[0], *over, *coming[1:]))
    once = with_override(rota, override(903, EVE, 1, 2), now=NOW)
    assert [one.id for one in once.overrides if one.end_at <= NOW] == [over[0].id]
    assert len(once.overrides) == OVERRIDES_MAX
    thrice = with_override(with_override(once, override(904, EVE, 1, 2), now=NOW), override(905, EVE, 1, 2), now=NOW)
    assert len(thrice.overrides) == OVERRIDES_MAX + 1
    assert "overrides" in {fault.field for fault in schedule.rota_faults(thrice)}


@pytest.mark.parametrize("count", [0, REPLACEMENTS_MAX - 1])
def test_while_there_is_room_nothing_goes(count: int) -> None:
    """What is over stays as long as the rota can hold it, for those who look back."""
    past = tuple(
        Replacement(ReplacementId(UUID(int=n)), "S", NOW - 2 * HOUR, NOW - HOUR, (DAYS,)) for n in range(count)
    )
    new = Replacement(ReplacementId(UUID(int=999)), "S", NOW, NOW + HOUR, (DAYS,))
    assert with_replacement(replace(ROTA, replacements=past), new, now=NOW).replacements == (*past, new)


def test_the_window_is_that_of_a_duty_plan() -> None:
    """A preview looks as far ahead as a duty plan reaches."""
    assert what_if.PREVIEW_DAYS == publication.PLAN_DAYS
