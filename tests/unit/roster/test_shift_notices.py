"""Who is told of which shift, how long before, and never twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.roster.domain import Partner, PartnerState
from services.roster.schedule import Frequency, Layer, LayerId, Override, OverrideId, Rota, Rotation
from services.roster.shift_notices import (
    BEGUN_WITHIN,
    NOTICES_MAX,
    Changes,
    GivenAway,
    NoticeKind,
    ShiftNotice,
    changes_of,
    notices_of,
)
from shared.ids import ContactId, PartnerCode, RotaId
from shared.vocabulary import Standing

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
PARTNER = Partner(PartnerCode("CA"), "Canada", Standing.MEMBER, "America/Toronto")


def uid(number: int) -> Any:
    """An id by number."""
    return UUID(int=number)


def rota(*contacts: int, deputies: tuple[int, ...] = (), hand_over: time = time(18), **more: Any) -> Rota:
    """A daily rota in UTC that hands over at 18:00."""
    layer = Layer(
        id=LayerId(uid(51)),
        name="Daily",
        rotation=Rotation(Frequency.DAILY),
        participants=tuple(ContactId(uid(one)) for one in contacts),
        starts_on=date(2026, 1, 5),
        hand_over_time=hand_over,
        deputies=tuple(ContactId(uid(one)) for one in deputies),
    )
    return Rota(RotaId(uid(50)), "Duty officers", "UTC", (layer,), **more)


def override(contact: int | None, begins_in: float, hours: float) -> Override:
    """Somebody, or nobody, in the place of whoever would be on call."""
    contact_id = None if contact is None else ContactId(uid(contact))
    start_at = NOW + begins_in * HOUR
    return Override(OverrideId(uid(60)), contact_id, start_at, start_at + hours * HOUR)


def due(made: Rota, issued: tuple[ShiftNotice, ...] = (), now: datetime = NOW) -> tuple[ShiftNotice, ...]:
    """The notices of a partner with this rota."""
    return notices_of(PartnerState(PARTNER, rotas=(made,)), issued, now)


def of(notices: tuple[ShiftNotice, ...], begins_in: float, kind: NoticeKind = NoticeKind.SHIFT) -> list[ShiftNotice]:
    """Those of the shift that begins in so many hours."""
    return [one for one in notices if one.start_at == NOW + begins_in * HOUR and one.kind is kind]


def told(notice: ShiftNotice, at: datetime) -> ShiftNotice:
    """The notice once it was issued."""
    return replace(notice, issued_at=at)


def test_each_shift_is_told_before_it_begins() -> None:
    """So many hours before as the rota says, once for each of them, to whoever holds it."""
    found = due(rota(1, 2, notice_hours=(24, 72)))
    (late,) = of(found, 6)
    assert (late.hours, late.due_at) == (24, NOW)
    tomorrow = of(found, 30)
    assert [(one.hours, one.due_at - NOW) for one in tomorrow] == [(72, timedelta()), (24, 6 * HOUR)]
    later = of(found, 6 + 4 * 24)
    assert [(one.hours, one.due_at) for one in later] == [
        (72, NOW + (6 + 24) * HOUR),
        (24, NOW + (6 + 72) * HOUR),
    ]
    assert {one.contact_id for one in found} == {uid(1), uid(2)}


def test_a_rota_may_announce_nothing() -> None:
    """Without hours there are no notices."""
    assert due(rota(1, 2, notice_hours=())) == ()


def test_deputies_are_told_that_they_stand_in() -> None:
    """Whoever stands in is told so, and the holder who that is."""
    found = due(rota(1, 2, deputies=(3, 4)))
    (holder,) = of(found, 30)
    (deputy,) = of(found, 30, NoticeKind.AS_DEPUTY)
    assert (holder.other_id, deputy.contact_id, deputy.other_id) == (
        deputy.contact_id,
        holder.other_id,
        holder.contact_id,
    )
    assert deputy.contact_id in (uid(3), uid(4))


def test_what_was_issued_is_not_due_again() -> None:
    """However often it is computed, and whatever changes of the rest of the shift."""
    first = due(rota(1, 2))
    issued = tuple(told(one, NOW) for one in first)
    assert due(rota(1, 2), issued, NOW + timedelta(minutes=1)) == ()
    shorter = rota(1, 2, overrides=(override(None, 20, 2),))
    assert due(shorter, issued, NOW + HOUR) == tuple(of(due(shorter, issued, NOW + HOUR), 22))


def test_another_hour_later_does_not_tell_again() -> None:
    """Who was told 24 hours before is not told anew when the rota changes to 48; 2 hours before are to come."""
    (first,) = of(due(rota(1, 2)), 6)
    issued = (told(first, NOW - HOUR),)
    assert of(due(rota(1, 2, notice_hours=(48,)), issued), 6) == []
    (still,) = of(due(rota(1, 2, notice_hours=(48, 2)), issued), 6)
    assert (still.hours, still.due_at) == (2, NOW + 4 * HOUR)


def test_a_shift_that_is_put_on_somebody_late_is_told_at_once() -> None:
    """Inside the notice time, also one that has just begun; of one that has run for long its holder knows."""
    (found,) = of(due(rota(1, overrides=(override(9, 3, 2),))), 3)
    assert (found.contact_id, found.due_at, found.is_urgent) == (uid(9), NOW, True)
    (begun,) = of(due(rota(1, overrides=(override(9, -0.5, 2),))), -0.5)
    assert (begun.contact_id, begun.due_at) == (uid(9), NOW)
    assert of(due(rota(1, overrides=(override(9, -3, 5),))), -3) == []
    assert of(due(rota(1, overrides=(override(9, -(BEGUN_WITHIN / HOUR), 5),))), -1) == []


def test_what_was_expected_waits_for_the_morning() -> None:
    """A notice in time is not urgent, nor one that comes late for a shift that is still far."""
    found = due(rota(1, 2, notice_hours=(72,)))
    assert not of(found, 30)[0].is_urgent
    assert not of(due(rota(1, 2)), 54)[0].is_urgent
    assert of(due(rota(1, 2, notice_hours=(1,))), 6)[0].is_urgent


def test_an_override_by_the_same_person_is_no_new_shift() -> None:
    """One person's unbroken time is one shift, whatever it is made of."""
    assert due(rota(1, overrides=(override(1, 20, 5),))) == ()
    resumed = due(rota(1, overrides=(override(9, 20, 5),)))
    assert [(one.contact_id, one.start_at - NOW) for one in resumed] == [(uid(9), 20 * HOUR), (uid(1), 25 * HOUR)]


@pytest.mark.parametrize(("minutes", "seen"), [(20, True), (15, True), (1, True), (-14, True), (-15, False)])
def test_a_hand_over_is_told_to_both(minutes: int, seen: bool) -> None:
    """A quarter of an hour before, where it has to be signed; at once if the plan comes later than that."""
    signing = rota(1, 2, signs_hand_over=True, notice_hours=())
    at = NOW + 6 * HOUR - timedelta(minutes=minutes)
    found = [one for one in due(signing, now=at) if one.start_at == NOW + 6 * HOUR]
    assert bool(found) is seen
    for one in found:
        assert (one.kind, one.is_urgent) == (NoticeKind.HAND_OVER, True)
        assert {one.contact_id, one.other_id} == {uid(1), uid(2)}
        assert one.due_at == max(at, NOW + 6 * HOUR - timedelta(minutes=15))


def test_nothing_is_handed_over_across_a_hole() -> None:
    """Where nobody was on call there is nobody to sign."""
    signing = rota(1, 2, signs_hand_over=True, notice_hours=(), overrides=(override(None, 5, 2),))
    assert all(one.start_at not in (NOW + 6 * HOUR, NOW + 7 * HOUR) for one in due(signing))


def test_there_is_a_limit() -> None:
    """The soonest are kept; the next plan has the others."""
    hourly = replace(rota(1, 2).layers[0], rotation=Rotation(Frequency.HOURLY))
    rotas = tuple(
        Rota(RotaId(uid(500 + n)), "R", "UTC", (replace(hourly, id=LayerId(uid(900 + n))),), notice_hours=(1, 2, 3))
        for n in range(4)
    )
    found = notices_of(PartnerState(PARTNER, rotas=rotas), (), NOW)
    assert len(found) == NOTICES_MAX
    assert [one.due_at for one in found] == sorted(one.due_at for one in found)


def changes(made: Rota, known: tuple[ShiftNotice, ...], *given: GivenAway, now: datetime = NOW) -> Changes:
    """What has changed for the people of a partner with this rota."""
    return changes_of(PartnerState(PARTNER, rotas=(made,)), known, given, now)


def span(notice: ShiftNotice) -> tuple[NoticeKind, float, float]:
    """What it is about, in hours from now."""
    return (notice.kind, (notice.start_at - NOW) / HOUR, (notice.end_at - NOW) / HOUR)


def test_whoever_loses_a_shift_is_told() -> None:
    """Once, at once, and only whoever held it; an edit that changes nothing tells nobody."""
    daily = rota(1, 2)
    known = due(daily)
    assert changes(daily, known) == Changes()
    changed = replace(daily, overrides=(override(3, 30, 24),))
    (taken,) = changes(changed, known).due
    (held,) = of(known, 30)
    assert (taken.contact_id, taken.due_at, span(taken)) == (held.contact_id, NOW, (NoticeKind.TAKEN, 30, 54))
    assert [span(one) for one in changes(changed, known).void] == [(NoticeKind.SHIFT, 30, 54)]
    after = (*due(changed), told(taken, NOW))
    assert changes(changed, after) == Changes()


def test_a_part_that_is_taken_is_told_as_that_part() -> None:
    """Of a shift that runs only what lies ahead; of two holes both."""
    daily = rota(1, 2)
    known = tuple(told(one, NOW) for one in due(daily))
    later = NOW + 8 * HOUR
    changed = replace(daily, overrides=(override(3, 0, 12), override(3, 20, 2)))
    assert [span(one) for one in changes(changed, known, now=later).due if one.kind is NoticeKind.TAKEN] == [
        (NoticeKind.TAKEN, 8, 12),
        (NoticeKind.TAKEN, 20, 22),
    ]


def test_what_was_given_away_in_a_swap_is_not_told() -> None:
    """Both know of it; what of it somebody else takes beside is told."""
    daily = rota(1, 2)
    known = due(daily)
    (first, *_) = of(known, 30)
    changed = replace(daily, overrides=(override(3, 30, 24),))
    given = GivenAway(first.rota_id, first.contact_id, uid(3), first.start_at, first.end_at)
    assert changes(changed, known, given).due == ()
    assert changes(changed, known, replace(given, contact_id=uid(9))).due != ()
    assert changes(changed, known, replace(given, end_at=given.end_at - HOUR)).due != ()


def test_a_swap_that_was_undone_hides_no_later_loss() -> None:
    """Who was given their shift back and then loses it to somebody else is told: that was no swap."""
    daily = rota(1, 2)
    known = due(daily)
    (first, *_) = of(known, 30)
    given = GivenAway(first.rota_id, first.contact_id, uid(3), first.start_at, first.end_at)
    other = replace(daily, overrides=(override(4, 30, 24),))
    assert of_person(changes(other, known, given), first.contact_id.int) == [(NoticeKind.TAKEN, 30, 54)]
    half = replace(daily, overrides=(override(3, 30, 24), replace(override(4, 30, 12), id=OverrideId(uid(61)))))
    assert of_person(changes(half, known, given), first.contact_id.int) == [(NoticeKind.TAKEN, 30, 54)]


def test_what_comes_back_is_told() -> None:
    """The middle of a shift at once; a whole shift in its turn; and a second loss of the same time again."""
    daily = rota(1, 2)
    known = tuple(told(one, NOW) for one in due(daily) if one.start_at == NOW + 6 * HOUR)
    less = replace(daily, overrides=(override(3, 14, 2),))
    (taken,) = changes(less, known).due
    gone = told(taken, NOW)
    rest = tuple(told(one, NOW) for one in due(less) if one.start_at in (NOW + 6 * HOUR, NOW + 16 * HOUR))
    (back,) = changes(daily, (gone, *rest)).due
    assert span(back) == (NoticeKind.SHIFT, 14, 16)
    here = told(back, NOW)
    assert changes(daily, (gone, here, *rest)) == Changes(void=(gone,))
    again = changes(less, (gone, here, *rest))
    assert [span(one) for one in again.due] == [(NoticeKind.TAKEN, 14, 16)]
    assert gone in again.void
    whole = replace(gone, start_at=NOW + 6 * HOUR, end_at=NOW + 30 * HOUR)
    assert changes(daily, (whole,)) == Changes(void=(whole,))


def of_person(made: Changes, contact: int) -> list[tuple[NoticeKind, float, float]]:
    """What one person is told."""
    return [span(one) for one in made.due if one.contact_id == uid(contact)]


@pytest.mark.parametrize("hours_later", [1, 10])
def test_whoever_holds_on_is_told(hours_later: int) -> None:
    """Of what was added at the end of a shift they know of, at once and once, also if it has run for hours."""
    daily = rota(1, 2)
    known = tuple(told(one, NOW) for one in due(daily) if one.start_at == NOW + 6 * HOUR)
    (mine,) = known
    longer = replace(daily, overrides=(override(mine.contact_id.int, 30, 24),))
    later = NOW + hours_later * HOUR
    (added,) = changes(longer, known, now=later).due
    assert (added.contact_id, added.due_at, span(added)) == (mine.contact_id, later, (NoticeKind.SHIFT, 30, 54 + 24))
    assert changes(daily, known, now=later) == Changes()
    after = (*known, told(added, later))
    assert changes(longer, after, now=later + HOUR) == Changes()
    longest = replace(daily, overrides=(override(mine.contact_id.int, 30, 72),))
    assert [span(one) for one in changes(longest, after, now=later + HOUR).due] == [(NoticeKind.SHIFT, 78, 126)]
    less = changes(daily, after, now=later + HOUR)
    assert [span(one) for one in less.due] == [(NoticeKind.TAKEN, 30, 54)]


def test_what_is_not_issued_yet_tells_the_new_end() -> None:
    """Nothing beside it is due: the notice that is computed anew has the end of the longer shift."""
    daily = rota(1, 2)
    known = due(daily)
    (mine,) = of(known, 30)
    longer = replace(daily, overrides=(override(mine.contact_id.int, 54, 24),))
    assert of_person(changes(longer, known), mine.contact_id.int) == []
    (anew,) = of(due(longer), 30)
    assert (anew.end_at - NOW) / HOUR == 102


def test_how_far_was_looked_is_no_end() -> None:
    """Who holds a rota for longer than is looked ahead is told once; a real end that moves is told, too."""
    alone = rota(1, overrides=(override(2, 0, 4),))
    (mine,) = of(due(alone), 4)
    assert mine.goes_on
    known = (told(mine, NOW),)
    later = NOW + 24 * HOUR
    day_after = changes(alone, known, now=later)
    (kept,) = day_after.kept
    assert (day_after.due, day_after.void) == ((), known)
    assert (kept.end_at - mine.end_at, kept.issued_at, kept.goes_on) == (24 * HOUR, NOW, True)
    ending = replace(alone, overrides=(*alone.overrides, replace(override(2, 300, 100), id=OverrideId(uid(61)))))
    ends = changes(ending, (kept,), now=later)
    assert of_person(ends, 1) == [(NoticeKind.TAKEN, 300, (kept.end_at - NOW) / HOUR)]
    known = (replace(mine, issued_at=NOW, goes_on=False, end_at=NOW + 300 * HOUR),)
    assert of_person(changes(alone, known, now=later), 1) == [(NoticeKind.SHIFT, 300, (kept.end_at - NOW) / HOUR)]


def test_what_came_back_goes_on_as_before() -> None:
    """Taken up to how far was looked, and given back: the edge of what was seen is no end then either."""
    alone = rota(1, overrides=(override(2, 0, 4),))
    (mine,) = of(due(alone), 4)
    known = (told(mine, NOW),)
    taken_away = replace(alone, overrides=(*alone.overrides, replace(override(2, 40, 1440), id=OverrideId(uid(61)))))
    (taken,) = [one for one in changes(taken_away, known).due if one.kind is NoticeKind.TAKEN]
    (rest,) = of(due(taken_away), 4)
    (back,) = [one for one in changes(alone, (told(rest, NOW), told(taken, NOW))).due if one.start_at == taken.start_at]
    assert (taken.goes_on, back.goes_on) == (True, True)
    later = NOW + 24 * HOUR
    assert of_person(changes(alone, (told(rest, NOW), told(back, NOW)), now=later), 1) == []


def test_whoever_steps_in_is_told_however_long_it_has_run() -> None:
    """Of an override that begins hours ago both people hear: who has lost the time, and who is on call from now on."""
    daily = rota(1, 2)
    (ill,) = (told(one, NOW) for one in due(daily) if one.start_at == NOW + 6 * HOUR)
    at = NOW + 9.5 * HOUR
    changed = replace(daily, overrides=(override(3, 6, 24),))
    made = changes(changed, (ill,), now=at)
    assert of_person(made, ill.contact_id.int) == [(NoticeKind.TAKEN, 9.5, 30)]
    assert of_person(made, 3) == [(NoticeKind.SHIFT, 9.5, 30)]
    taken, added = made.due
    assert (added.due_at, added.is_urgent) == (at, True)
    # A pass that fails before it issues them computes both again; afterwards both know.
    again = changes(changed, (taken,), now=at + HOUR)
    assert of_person(again, 3) == [(NoticeKind.SHIFT, 10.5, 30)]
    assert changes(changed, (told(taken, at), told(added, at)), now=at + HOUR) == Changes()


def test_whoever_stepped_in_by_a_swap_or_just_now_is_not_told_twice() -> None:
    """Both know of a swap, and a shift that has just begun is announced as every other one."""
    daily = rota(1, 2)
    (ill,) = (told(one, NOW) for one in due(daily) if one.start_at == NOW + 6 * HOUR)
    at = NOW + 9.5 * HOUR
    changed = replace(daily, overrides=(override(3, 6, 24),))
    given = GivenAway(ill.rota_id, ill.contact_id, uid(3), ill.start_at, ill.end_at)
    assert changes(changed, (ill,), given, now=at).due == ()
    begun = replace(daily, overrides=(override(3, 9, 21),))
    assert of_person(changes(begun, (ill,), now=at), 3) == []
    assert [one.start_at for one in due(begun, (ill,), at) if one.contact_id == uid(3)] == [NOW + 9 * HOUR]


def test_a_rota_that_announces_nothing_takes_nothing() -> None:
    """Whoever was told of no shift is told of none that goes."""
    daily = rota(1, 2)
    silent = replace(daily, notice_hours=(), overrides=(override(3, 30, 24),))
    assert changes(silent, due(daily)) == Changes()
