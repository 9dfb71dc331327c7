"""What a change would do to who is on duty, before it is saved.

The cast: `compare` lays the shifts of two states of a partner beside each other. A `Difference` is a stretch of time in
which another contact or another deputy answers than before, a `Hole` one in which a rota that is there has nobody.

The promise: pure, and from the same shifts as paging, so that what is previewed is what will happen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from services.roster import schedule
from services.roster.domain import PartnerState
from services.roster.readiness.findings import Finding
from services.roster.schedule import Gap, Rota, Shift
from shared.ids import ContactId, RotaId

PREVIEW_DAYS = 14
DIFFERENCES_MAX = 1000
"""Differences that are listed; more are counted."""


@dataclass(frozen=True, slots=True)
class Difference:
    """In [start_at, end_at) somebody else would hold the rota, or be the holder's deputy; `None` is nobody."""

    rota_id: RotaId
    rota: str
    start_at: datetime
    end_at: datetime
    before: ContactId | None
    after: ContactId | None
    deputy_before: ContactId | None
    deputy_after: ContactId | None


@dataclass(frozen=True, slots=True)
class Hole:
    """In [start_at, end_at) nobody holds the rota."""

    rota_id: RotaId
    rota: str
    start_at: datetime
    end_at: datetime


@dataclass(frozen=True, slots=True)
class Preview:
    """What a change would do; `omitted` counts the differences that are not listed.

    What readiness would find of it is added by `readiness.what_if.previewed`.
    """

    from_at: datetime
    to_at: datetime
    changes: tuple[Difference, ...]
    omitted: int
    holes_opened: tuple[Hole, ...]
    holes_closed: tuple[Hole, ...]
    findings_new: tuple[Finding, ...] = ()
    findings_resolved: tuple[Finding, ...] = ()


def compare(before: PartnerState, after: PartnerState, from_at: datetime, to_at: datetime) -> Preview:
    """What differs in [from_at, to_at) if `after` takes the place of `before`.

    A rota that is only in one of them has nobody in the other, and no hole there: what does not exist has no holes.
    """
    differences: list[Difference] = []
    opened: list[Hole] = []
    closed: list[Hole] = []
    old = {rota.id: rota for rota in before.rotas}
    new = {rota.id: rota for rota in after.rotas}
    for rota_id in {**old, **new}:
        then, now = old.get(rota_id), new.get(rota_id)
        if then == now:
            continue
        rota = now or then
        assert rota is not None, "the id comes from one of the two"
        shifts_then, gaps_then = _window(then, from_at, to_at)
        shifts_now, gaps_now = _window(now, from_at, to_at)
        differences += _differences(rota, shifts_then, shifts_now)
        opened += _holes(rota, gaps_now, gaps_then)
        closed += _holes(rota, gaps_then, gaps_now)
    differences.sort(key=lambda one: one.start_at)
    return Preview(
        from_at,
        to_at,
        tuple(differences[:DIFFERENCES_MAX]),
        max(0, len(differences) - DIFFERENCES_MAX),
        tuple(opened),
        tuple(closed),
    )


def ahead(before: PartnerState, after: PartnerState, now: datetime) -> Preview:
    """What differs in the coming `PREVIEW_DAYS`."""
    return compare(before, after, now, now + timedelta(days=PREVIEW_DAYS))


def _window(rota: Rota | None, from_at: datetime, to_at: datetime) -> tuple[tuple[Shift, ...], tuple[Gap, ...]]:
    if rota is None:
        return (), ()
    shifts = schedule.shifts(rota, from_at, to_at)
    return shifts, schedule.gaps_between(shifts, from_at, to_at)


def _differences(rota: Rota, then: Sequence[Shift], now: Sequence[Shift]) -> Iterator[Difference]:
    """The stretches in which holder or deputy differ, as long as they can be."""
    edges = sorted({edge for shift in (*then, *now) for edge in (shift.start_at, shift.end_at)})
    holders = zip(pairwise(edges), _at_each(then, edges), _at_each(now, edges), strict=False)
    pending: Difference | None = None
    for (start_at, end_at), (before, deputy_before), (after, deputy_after) in holders:
        if (before, deputy_before) == (after, deputy_after):
            continue
        found = Difference(rota.id, rota.name, start_at, end_at, before, after, deputy_before, deputy_after)
        if pending is not None and pending.end_at == start_at and _people(pending) == _people(found):
            found = Difference(rota.id, rota.name, pending.start_at, end_at, *_people(found))
        elif pending is not None:
            yield pending
        pending = found
    if pending is not None:
        yield pending


def _people(one: Difference) -> tuple[ContactId | None, ContactId | None, ContactId | None, ContactId | None]:
    return one.before, one.after, one.deputy_before, one.deputy_after


def _at_each(shifts: Sequence[Shift], edges: Sequence[datetime]) -> Iterator[tuple[ContactId | None, ContactId | None]]:
    """Holder and deputy from each edge on, up to the next one."""
    coming = iter(shifts)
    shift = next(coming, None)
    for edge in edges:
        while shift is not None and shift.end_at <= edge:
            shift = next(coming, None)
        covered = shift is not None and shift.start_at <= edge
        yield (shift.contact_id, shift.deputy_id) if shift is not None and covered else (None, None)


def _holes(rota: Rota, gaps: Sequence[Gap], without: Iterable[Gap]) -> Iterator[Hole]:
    """What the gaps cover and the others do not."""
    others = list(without)
    for gap in gaps:
        start_at = gap.start_at
        for other in others:
            if other.end_at <= start_at or other.start_at >= gap.end_at:
                continue
            if other.start_at > start_at:
                yield Hole(rota.id, rota.name, start_at, other.start_at)
            start_at = max(start_at, other.end_at)
        if start_at < gap.end_at:
            yield Hole(rota.id, rota.name, start_at, gap.end_at)
