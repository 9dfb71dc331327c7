"""Which notices there are before shifts begin, and when each is due. Pure.

The cast: a `ShiftNotice` tells one person of one shift, of their own or of one in which they stand in, so many hours
before it begins; or both people of a hand-over that has to be signed, a quarter of an hour before it. `notices_of`
computes all that lie ahead. What was issued is never due again: a shift that is still that person's, from the same
instant on, is told once for each of the rota's hours, however often it is computed.

`changes_of` compares what was computed before with who holds the time now: whoever has lost a shift of the coming 14
days, or the one that runs, is told so, unless they gave it away in a swap, of which both know. What they were told of
that shift is forgotten then, so that it is told again if it comes back. Whoever gains time is told as well: the holder
of a shift that has become longer, and whoever is put on a shift that has run for a while.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import pairwise
from uuid import UUID

from services.roster import schedule
from services.roster.domain import PartnerState
from services.roster.schedule import NOTICE_HOURS_MAX, Rota, Shift

AHEAD = timedelta(hours=NOTICE_HOURS_MAX)
"""How far ahead a rota may announce its shifts."""

BEGUN_WITHIN = timedelta(hours=1)
"""Whoever is put on a shift that has just begun is told. Of one that has run for longer they know, unless it was taken
from somebody else meanwhile."""

HAND_OVER_BEFORE = timedelta(minutes=15)
URGENT_WITHIN = timedelta(hours=2)
LATE_URGENT_WITHIN = timedelta(hours=12)
"""What begins within so long cannot wait for anybody's morning; longer for whoever did not expect it."""

LATE_BY = timedelta(minutes=5)
"""A notice that waited for less was not late."""


NOTICES_MAX = 2_000
"""Of one partner, the soonest: each duty plan, at the latest tomorrow's, has the next ones."""


class NoticeKind(StrEnum):
    """What a notice is about."""

    SHIFT = "shift"
    AS_DEPUTY = "as_deputy"
    HAND_OVER = "hand_over"
    TAKEN = "taken"


@dataclass(frozen=True, slots=True)
class ShiftNotice:
    """One notice. `other_id` is the deputy of a shift, its holder for whoever stands in, and who hands over.

    Of a hand-over `contact_id` is the incoming person, and `hours` is 0, as it is of what was taken from somebody. A
    shift that `goes_on` has no end that was seen: `end_at` is how far was looked.
    """

    kind: NoticeKind
    rota_id: UUID
    contact_id: UUID
    other_id: UUID | None
    start_at: datetime
    end_at: datetime
    hours: int
    due_at: datetime
    issued_at: datetime | None = None
    goes_on: bool = False

    @property
    def is_urgent(self) -> bool:
        """Whether it goes at once, at night, too, because the shift begins soon."""
        if self.kind is NoticeKind.HAND_OVER:
            return True
        left = self.start_at - self.due_at
        is_late = left < timedelta(hours=self.hours) - LATE_BY
        return left <= (LATE_URGENT_WITHIN if is_late else URGENT_WITHIN)


def notices_of(state: PartnerState, issued: Iterable[ShiftNotice], now: datetime) -> tuple[ShiftNotice, ...]:
    """The notices that lie ahead of a partner's people, the soonest first, those that were issued left out."""
    told = _Told(issued)
    found: list[ShiftNotice] = []
    for rota in state.rotas:
        if rota.notice_hours or rota.signs_hand_over:
            found.extend(notice for notice in _of_rota(rota, now) if not told.has(notice))
    return tuple(sorted(found, key=lambda notice: (notice.due_at, notice.start_at))[:NOTICES_MAX])


@dataclass(frozen=True, slots=True)
class GivenAway:
    """Time that a contact has given to another in a swap."""

    rota_id: UUID
    contact_id: UUID
    to_id: UUID
    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True)
class Changes:
    """`due` tells of what was taken away, what came back and what was added; `void` are notices of what is no longer
    so, and `kept` those of them that were issued and stay so, with another end.
    """

    due: tuple[ShiftNotice, ...] = ()
    void: tuple[ShiftNotice, ...] = ()
    kept: tuple[ShiftNotice, ...] = ()


def changes_of(
    state: PartnerState, known: Iterable[ShiftNotice], given_away: Sequence[GivenAway], now: datetime
) -> Changes:
    """What has changed for people since the `known` notices, issued or not, were computed."""
    rotas: dict[UUID, Rota] = {rota.id: rota for rota in state.rotas if rota.notice_hours}
    relevant = [
        one
        for one in known
        if one.kind in (NoticeKind.SHIFT, NoticeKind.TAKEN) and one.end_at > now and one.rota_id in rotas
    ]
    held = {rota_id: _Held(rotas[rota_id], now) for rota_id in {one.rota_id for one in relevant}}
    issued = {_shift_of(one): one for one in relevant if one.issued_at is not None}
    due: dict[tuple[object, ...], ShiftNotice] = {}
    void: list[ShiftNotice] = []
    standing: list[ShiftNotice] = []
    taken_now: list[ShiftNotice] = []
    for one in relevant:
        own = held[one.rota_id].of(one.contact_id)
        lost = list(_without(max(one.start_at, now), one.end_at, own))
        if one.kind is NoticeKind.SHIFT and lost:
            void.append(one)
            for start_at, end_at in lost:
                taken = _taken(one, start_at, end_at, now)
                before = issued.get(_shift_of(taken))
                # The same was taken once before, and had come back.
                void.extend([before] if before is not None and before not in void else [])
                due[_shift_of(taken)] = taken
        elif one.kind is NoticeKind.SHIFT and one.issued_at is not None:
            standing.append(one)
        elif one.kind is NoticeKind.TAKEN and lost:
            taken_now.append(one)
        elif one.kind is NoticeKind.TAKEN:
            back = replace(one, kind=NoticeKind.SHIFT, due_at=now, issued_at=None)
            back = replace(back, hours=min(rotas[one.rota_id].notice_hours))
            # A shift that begins just then is announced in its turn, like every other one.
            begins = any(each.start_at == one.start_at for each in own)
            if one.issued_at is None or begins or _shift_of(back) in issued:
                void.append(one)
            else:
                due[_shift_of(back)] = back
    told = {
        key: one
        for key, one in due.items()
        if one.kind is not NoticeKind.TAKEN or not _is_given(one, given_away, held[one.rota_id])
    }
    taken_now.extend(one for one in told.values() if one.kind is NoticeKind.TAKEN)
    ended = {one: held[one.rota_id].end_of(one) for one in standing}
    changed = {one: end_at for one, end_at in ended.items() if end_at is not None and one.goes_on}
    kept = tuple(
        replace(one, end_at=end_at, goes_on=held[one.rota_id].is_cut(end_at)) for one, end_at in changed.items()
    )
    standing = [*(one for one in standing if one not in changed), *kept]
    for notice in (
        *_longer(standing, held, now),
        *_stepped_in((one for one in taken_now if one.start_at <= now), standing, held, now),
    ):
        told.setdefault(_shift_of(notice), notice)
    return Changes(tuple(told.values()), (*void, *changed), kept)


class _Held:
    """Who holds a rota from a little before now on, as far as notices look."""

    def __init__(self, rota: Rota, now: datetime) -> None:
        self.rota = rota
        self._from_at, self._to_at = _window(now)
        self._shifts = schedule.shifts(rota, self._from_at, self._to_at)
        self._stretches = _stretches(self._shifts, lambda one: one.contact_id, lambda one: one.deputy_id)

    def of(self, contact_id: UUID) -> list[_Stretch]:
        """One person's time, in order."""
        return [one for one in self._stretches if one.contact_id == contact_id]

    def end_of(self, notice: ShiftNotice) -> datetime | None:
        """Until when its reader holds what the notice is about, and on; None where its end has been cut off."""
        return next(
            (one.end_at for one in self.of(notice.contact_id) if one.start_at < notice.end_at <= one.end_at), None
        )

    def since_long(self, at: datetime) -> _Stretch | None:
        """Who holds the rota at this instant, and has since before the time in which beginnings are announced."""
        found = next((one for one in self._stretches if one.start_at <= at < one.end_at), None)
        return found if found is not None and found.start_at <= self._from_at else None

    def is_cut(self, end_at: datetime) -> bool:
        """Whether this is no end but how far was looked."""
        return end_at == self._to_at

    def added(self, contact_id: UUID, start_at: datetime, end_at: datetime, now: datetime) -> ShiftNotice:
        """Tells somebody at once of time that they have beside what they knew."""
        deputy_id = next((one.deputy_id for one in self._shifts if one.start_at <= start_at < one.end_at), None)
        return ShiftNotice(
            NoticeKind.SHIFT,
            self.rota.id,
            contact_id,
            deputy_id,
            start_at,
            end_at,
            hours=min(self.rota.notice_hours),
            due_at=now,
            goes_on=self.is_cut(end_at),
        )


def _longer(told: Sequence[ShiftNotice], held: dict[UUID, _Held], now: datetime) -> Iterator[ShiftNotice]:
    """What has been added at the end of shifts of which their holders were told, and of which they were not."""
    for one in told:
        holders = held[one.rota_id]
        end_at = holders.end_of(one)
        if end_at is not None and end_at > one.end_at:
            for start_at, until_at in _without(one.end_at, end_at, _spans(told, one.rota_id, one.contact_id)):
                yield holders.added(one.contact_id, start_at, until_at, now)


def _stepped_in(
    taken: Iterable[ShiftNotice], told: Sequence[ShiftNotice], held: dict[UUID, _Held], now: datetime
) -> Iterator[ShiftNotice]:
    """Whoever holds now what was taken from somebody else and was not told: its beginning may lie far back."""
    for rota_id in {one.rota_id for one in taken}:
        stretch = held[rota_id].since_long(now)
        if stretch is not None:
            spans = _spans(told, rota_id, stretch.contact_id)
            if not any(one.start_at <= now < one.end_at for one in spans):
                yield held[rota_id].added(stretch.contact_id, now, stretch.end_at, now)


def _spans(told: Iterable[ShiftNotice], rota_id: UUID, contact_id: UUID) -> list[ShiftNotice]:
    """Of what time of a rota somebody was told, in order."""
    spans = (one for one in told if (one.rota_id, one.contact_id) == (rota_id, contact_id))
    return sorted(spans, key=lambda one: (one.start_at, one.end_at))


def _without(
    start_at: datetime, end_at: datetime, own: Iterable[_Stretch | ShiftNotice]
) -> Iterator[tuple[datetime, datetime]]:
    """The parts of a time that none of the others, which are in the order of their beginnings, covers."""
    for each in own:
        if each.start_at >= end_at:
            break
        if each.start_at > start_at:
            yield start_at, each.start_at
        start_at = max(start_at, each.end_at)
    if start_at < end_at:
        yield start_at, end_at


def _taken(shift: ShiftNotice, start_at: datetime, end_at: datetime, now: datetime) -> ShiftNotice:
    whose, goes_on = (shift.rota_id, shift.contact_id), shift.goes_on and end_at == shift.end_at
    return ShiftNotice(NoticeKind.TAKEN, *whose, None, start_at, end_at, hours=0, due_at=now, goes_on=goes_on)


def _is_given(taken: ShiftNotice, given_away: Iterable[GivenAway], held: _Held) -> bool:
    """Whether the loss is a swap's, and the swap still holds: what has become of it since, nobody has agreed to."""
    return any(
        (one.rota_id, one.contact_id) == (taken.rota_id, taken.contact_id)
        and one.start_at <= taken.start_at
        and taken.end_at <= one.end_at
        and not list(_without(taken.start_at, taken.end_at, held.of(one.to_id)))
        for one in given_away
    )


class _Told:
    """What was issued, by what it was about."""

    def __init__(self, issued: Iterable[ShiftNotice]) -> None:
        self._at: dict[tuple[object, ...], dict[int, datetime]] = {}
        for one in issued:
            if one.issued_at is not None:
                self._at.setdefault(_shift_of(one), {})[one.hours] = one.issued_at

    def has(self, notice: ShiftNotice) -> bool:
        """Whether the notice was issued, or another of the same shift when this one was already due."""
        told = self._at.get(_shift_of(notice), {})
        due_at = notice.start_at - timedelta(hours=notice.hours)
        return notice.hours in told or any(at >= due_at for at in told.values())


def _shift_of(notice: ShiftNotice) -> tuple[object, ...]:
    return (notice.kind, notice.rota_id, notice.contact_id, notice.start_at)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """One person's unbroken time in a rota, whatever shifts and layers it is made of."""

    contact_id: UUID
    start_at: datetime
    end_at: datetime
    other_id: UUID | None


def _window(now: datetime) -> tuple[datetime, datetime]:
    """From when on and how far notices look."""
    return now - BEGUN_WITHIN, now + AHEAD + BEGUN_WITHIN


def _of_rota(rota: Rota, now: datetime) -> Iterator[ShiftNotice]:
    from_at, to_at = _window(now)
    shifts = schedule.shifts(rota, from_at, to_at)
    holders = _stretches(shifts, lambda one: one.contact_id, lambda one: one.deputy_id)
    deputies = _stretches(shifts, lambda one: one.deputy_id, lambda one: one.contact_id)
    for kind, stretches in ((NoticeKind.SHIFT, holders), (NoticeKind.AS_DEPUTY, deputies)):
        for stretch in stretches:
            # What begins with the window may have begun long before it.
            if stretch.start_at > from_at:
                yield from _of_stretch(rota, kind, stretch, now)
    if rota.signs_hand_over:
        for outgoing, incoming in pairwise(holders):
            if outgoing.end_at == incoming.start_at and incoming.start_at > now - HAND_OVER_BEFORE:
                due_at = max(incoming.start_at - HAND_OVER_BEFORE, now)
                yield ShiftNotice(
                    NoticeKind.HAND_OVER,
                    rota.id,
                    incoming.contact_id,
                    outgoing.contact_id,
                    incoming.start_at,
                    incoming.end_at,
                    0,
                    due_at,
                )


def _of_stretch(rota: Rota, kind: NoticeKind, stretch: _Stretch, now: datetime) -> Iterator[ShiftNotice]:
    """One notice for each of the rota's hours; of those that are overdue only the last, at once."""

    def notice(hours: int, due_at: datetime) -> ShiftNotice:
        goes_on = stretch.end_at == _window(now)[1]
        whose = (rota.id, stretch.contact_id, stretch.other_id)
        return ShiftNotice(kind, *whose, stretch.start_at, stretch.end_at, hours, due_at, goes_on=goes_on)

    due = {hours: stretch.start_at - timedelta(hours=hours) for hours in rota.notice_hours}
    overdue = [hours for hours, at in due.items() if at <= now]
    if overdue:
        yield notice(min(overdue), now)
    for hours, at in due.items():
        if at > now:
            yield notice(hours, at)


def _stretches(
    shifts: Sequence[Shift], who: Callable[[Shift], UUID | None], other: Callable[[Shift], UUID | None]
) -> list[_Stretch]:
    """Each person's time in order, shifts that touch as one: an override that changes nothing is no new shift."""
    found: list[_Stretch] = []
    for shift in shifts:
        contact_id = who(shift)
        if contact_id is None:
            continue
        last = found[-1] if found else None
        if last is not None and (last.contact_id, last.end_at) == (contact_id, shift.start_at):
            found[-1] = _Stretch(contact_id, last.start_at, shift.end_at, last.other_id)
        else:
            found.append(_Stretch(contact_id, shift.start_at, shift.end_at, other(shift)))
    return found
