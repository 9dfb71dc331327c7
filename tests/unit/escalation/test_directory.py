"""Whom a duty plan says to page, at which moment, and what is done where it says nothing."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.escalation.directory import Directory
from shared.contracts import ChannelName, DutyPlanPublished, Gap, LevelTarget, PlannedLevel, PlannedShift
from tests.support.escalation_cases import ENDPOINT, MINUTE, OFFICE, T0, contact, directory, plan, point


def addresses(known: Directory, level: int = 1, at: datetime = T0) -> list[str]:
    """Whom a level pages at a moment."""
    targets, _gap = known.at_level(known.levels()[level - 1], at)
    return [target.sealed_address for target in targets]


def with_shifts(*shifts: PlannedShift, **changes: Any) -> Directory:
    """One level, whose rota has these shifts."""
    published = plan(True, True, True, **changes)
    rota = published.rotas[0].model_copy(update={"shifts": shifts})
    return Directory(plan=published.model_copy(update={"rotas": (rota, *published.rotas[1:])}))


def shift(number: int, start: int, end: int) -> PlannedShift:
    """Person `number` from minute `start` to minute `end`."""
    return PlannedShift(contact_id=contact(number).id, start_at=T0 + start * MINUTE, end_at=T0 + end * MINUTE)


@pytest.mark.parametrize(("minute", "who"), [(0, "person-1"), (9, "person-1"), (10, "person-2"), (19, "person-2")])
def test_a_shift_begins_at_its_start_and_ends_just_before_its_end(minute: int, who: str) -> None:
    """At the moment of change the next person is on duty, and nobody is on duty twice."""
    assert addresses(with_shifts(shift(1, 0, 10), shift(2, 10, 20)), at=T0 + minute * MINUTE) == [who]


def test_overlapping_shifts_page_both() -> None:
    """Until a handover is signed both are on duty: two pages are a nuisance, none is a catastrophe."""
    assert addresses(with_shifts(shift(1, 0, 10), shift(2, 5, 20)), at=T0 + 6 * MINUTE) == ["person-1", "person-2"]


def test_a_gap_between_shifts_is_an_empty_level() -> None:
    """While the plan holds, nobody is made up where the rota has nobody."""
    targets, gap = (known := with_shifts(shift(1, 0, 10), shift(2, 20, 30))).at_level(
        known.levels()[0], T0 + 15 * MINUTE
    )
    assert (targets, gap) == ((), Gap.EMPTY_LEVEL)


def test_an_expired_plan_names_the_last_known_person() -> None:
    """After the plan's end whoever held the rota last is paged: a known person is better than none."""
    known = with_shifts(shift(1, 0, 10), shift(2, 10, 20), valid_until=T0 + 20 * MINUTE)
    assert known.gap(T0 + 20 * MINUTE) is Gap.DUTY_PLAN_EXPIRED
    assert addresses(known, at=T0 + timedelta(days=30)) == ["person-2"]


def test_a_plan_dated_ahead_names_the_first_person() -> None:
    """A plan from a machine whose clock is ahead already names who will answer."""
    known = with_shifts(shift(1, 10, 20), valid_from=T0 + 10 * MINUTE)
    assert addresses(known, at=T0) == ["person-1"]


def test_levels_name_contacts_offices_and_rotas_without_repeats() -> None:
    """A level may page a person, an office and whoever holds a rota, each contact point once."""
    published = plan(True, True)
    level = PlannedLevel(
        targets=(
            LevelTarget(kind="contact", id=contact(2).id),
            LevelTarget(kind="rota", id=published.rotas[0].id),
            LevelTarget(kind="rota", id=published.rotas[0].id),
            LevelTarget(kind="office", id=OFFICE.id),
        )
    )
    known = Directory(plan=published)
    targets, gap = known.at_level(level, T0)
    assert [target.sealed_address for target in targets] == ["person-2", "person-1", "office"]
    assert gap is None


def test_targets_name_roles_never_people() -> None:
    """What others may read of a page is an office, a role or an endpoint."""
    known = directory(True)
    targets, _gap = known.at_level(known.levels()[0], T0)
    told = [target.told for target in (*targets, *known.office_targets(), *known.endpoint_targets())]
    assert told == ["Senior contact 1", "Duty office", "endpoint crisis room"]


@pytest.mark.parametrize(
    ("known", "gap"),
    [
        (Directory(), Gap.NO_DUTY_PLAN),
        (Directory(plan=plan(True), readable=False), Gap.DUTY_PLAN_UNREADABLE),
        (Directory(readable=False), Gap.DUTY_PLAN_UNREADABLE),
        (Directory(plan=plan(True, valid_until=T0)), Gap.DUTY_PLAN_EXPIRED),
        (Directory(plan=plan(True)), None),
    ],
)
def test_what_is_wrong_with_a_plan_has_a_name(known: Directory, gap: Gap | None) -> None:
    """Missing, unreadable, expired, or nothing."""
    assert known.gap(T0) is gap


def test_without_a_plan_office_and_endpoints_are_those_that_the_partner_published() -> None:
    """Roster publishes both beside the plan, for the day when it is missing."""
    known = Directory(office=OFFICE, endpoints=(ENDPOINT,))
    assert [t.sealed_address for t in known.office_targets()] == ["office"]
    assert [t.sealed_address for t in known.endpoint_targets()] == ["system"]
    assert known.levels() == ()


def test_points_that_no_channel_serves_are_no_way_to_reach_anybody() -> None:
    """An installation without telephones counts a telephone number as a gap."""
    published: DutyPlanPublished = plan(True)
    telephone = contact(1).model_copy(update={"points": (point("+999", ChannelName.VOICE),)})
    known = Directory(
        plan=published.model_copy(update={"contacts": (telephone,)}), channels=frozenset({ChannelName.WEBHOOK})
    )
    targets, gap = known.at_level(known.levels()[0], T0)
    assert (targets, gap) == ((), Gap.NO_REACHABLE_POINT)


def test_verified_points_come_first() -> None:
    """A contact point that was confirmed is tried before one that was not."""
    points = (point("new"), point("old").model_copy(update={"verified": True}))
    published = plan(True)
    person = contact(1).model_copy(update={"points": points})
    known = Directory(plan=published.model_copy(update={"contacts": (person,)}))
    assert addresses(known) == ["old", "new"]


def test_a_rota_or_contact_that_the_plan_does_not_hold_is_nobody() -> None:
    """A level that names what is not there is a gap and no error."""
    known = directory(True)
    level = PlannedLevel(targets=(LevelTarget(kind="rota", id=OFFICE.id), LevelTarget(kind="contact", id=OFFICE.id)))
    assert known.at_level(level, T0) == ((), Gap.EMPTY_LEVEL)


def test_who_is_on_duty_now() -> None:
    """A person is on duty while they hold any rota; outside of that, or without a plan, they are not."""
    known = with_shifts(shift(1, 0, 10))
    assert known.is_on_duty(contact(1).id, T0)
    assert not known.is_on_duty(contact(1).id, T0 + 10 * MINUTE)
    assert not Directory().is_on_duty(contact(1).id, T0)


def test_whom_an_alarm_rings() -> None:
    """The first level that has anybody, or the office: what the secretariat's people are told by."""
    assert [t.sealed_address for t in directory(False, True).on_duty(T0)] == ["person-2"]
    assert [t.sealed_address for t in directory(False).on_duty(T0)] == ["office"]


@given(
    instants=st.lists(st.integers(min_value=-5, max_value=65), min_size=1, max_size=12),
    ends=st.lists(st.integers(min_value=1, max_value=60), min_size=1, max_size=6, unique=True),
)
def test_what_is_kept_is_what_would_be_found(instants: list[int], ends: list[int]) -> None:
    """Whom a level reaches is looked up once for each turn; at no moment, in whatever order, does it differ by that."""
    edges = [0, *sorted(ends)]
    turns = [
        shift(1 + number % 3, start, end + number % 2 * 5)
        for number, (start, end) in enumerate(pairwise(edges))
        if number % 4 != 2
    ]
    known = with_shifts(*turns, valid_until=T0 + 50 * MINUTE)
    level = known.levels()[0]
    for minute in instants:
        at = T0 + minute * MINUTE
        assert known.at_level(level, at) == known._found_at(level, at)
        assert known.at_level(level.model_copy(), at) == known._found_at(level, at)


def test_the_systems_of_a_partner_are_put_together_once() -> None:
    """Every alert asks for them."""
    known = directory()
    assert known.endpoint_targets() is known.endpoint_targets()
