"""Shifts from a rota: what its sources say, laid over each other.

`shifts` is the only place where a rota becomes instants. Its result is sorted, does not overlap, and any instant of it
is the same whatever window was asked for, so that a screen and a page can never disagree.

The order, lowest first: the last layer, …, the first layer, imported shifts, replacements in the order of their making,
overrides in the order of their making. Each is laid over what is there already.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import NamedTuple
from zoneinfo import ZoneInfo

from services.roster.schedule.model import (
    EARLIEST_AT,
    EARLIEST_DATE,
    LATEST_AT,
    LATEST_DATE,
    ON_CALL_HORIZON_DAYS,
    SPAN_DAYS_MAX,
    Gap,
    ImportedShiftId,
    Layer,
    LayerId,
    OverrideId,
    Rota,
    Shift,
)
from services.roster.schedule.turns import holder_and_deputy, turns
from services.roster.schedule.windows import is_restricted, windows
from shared.errors import Invalid
from shared.ids import ContactId

_HORIZONS = tuple(timedelta(days=days) for days in (1, ON_CALL_HORIZON_DAYS))
"""How far `on_call` looks around its instant: most shifts are short, and the next wider look is for the others."""


class _Piece(NamedTuple):
    """What a rota says about a stretch of time. A list of pieces is sorted and without overlap."""

    start_at: datetime
    end_at: datetime
    contact_id: ContactId
    deputy_id: ContactId | None
    origin: LayerId | OverrideId | ImportedShiftId


_starts, _ends = attrgetter("start_at"), attrgetter("end_at")
_imported_order = attrgetter("start_at", "calendar_id", "id")
"""Of two that begin together that of the newer calendar is laid on top: ids of calendars are in the order of their
making. One calendar has no two people's that do.
"""


def shifts(rota: Rota, from_at: datetime, to_at: datetime) -> tuple[Shift, ...]:
    """All shifts of [from_at, to_at), in order, without overlap, cut at both ends of the window.

    Neighbouring turns of the same contact, deputy and origin are one shift. Raises `Invalid` if the window is naive,
    reversed, longer than `SPAN_DAYS_MAX` or outside the years that rotas may speak of.
    """
    from_at, to_at = _checked_window(from_at, to_at)
    if from_at == to_at:
        return ()
    pieces = _of_layers(rota, rota.layers, from_at, to_at)
    touching = [one for one in rota.imported if one.start_at < to_at and one.end_at > from_at]
    for imported in sorted(touching, key=_imported_order):
        start_at, end_at = _cut(imported.start_at, imported.end_at, from_at, to_at)
        _stand_in(pieces, _Piece(start_at, end_at, imported.contact_id, None, imported.id))
    for replacement in rota.replacements:
        if replacement.start_at < to_at and replacement.end_at > from_at:
            start_at, end_at = _cut(replacement.start_at, replacement.end_at, from_at, to_at)
            _replace(pieces, start_at, end_at, _of_layers(rota, replacement.layers, start_at, end_at))
    for override in rota.overrides:
        if override.start_at < to_at and override.end_at > from_at:
            start_at, end_at = _cut(override.start_at, override.end_at, from_at, to_at)
            if override.contact_id is None:
                _replace(pieces, start_at, end_at, ())
            else:
                whole = _Piece(start_at, end_at, override.contact_id, override.deputy_id, override.id)
                _stand_in(pieces, whole)
    return tuple(_joined(pieces))


def on_call(rota: Rota, at: datetime) -> Shift | None:
    """The shift that covers the instant `at`, or `None` if nobody is on call.

    Its beginning and end are told as far as `ON_CALL_HORIZON_DAYS` away.
    """
    at, _ = _checked_window(at, at)
    found = None
    for horizon in _HORIZONS:
        from_at, to_at = max(at - horizon, EARLIEST_AT), min(at + horizon, LATEST_AT)
        around = shifts(rota, from_at, to_at)
        found = next((shift for shift in around if shift.start_at <= at < shift.end_at), None)
        if found is None or (found.start_at > from_at and found.end_at < to_at):
            break
    return found


def gaps(rota: Rota, from_at: datetime, to_at: datetime) -> tuple[Gap, ...]:
    """The stretches of [from_at, to_at) in which nobody is on call, in order."""
    return gaps_between(shifts(rota, from_at, to_at), from_at, to_at)


def gaps_between(covered: tuple[Shift, ...], from_at: datetime, to_at: datetime) -> tuple[Gap, ...]:
    """The stretches of [from_at, to_at) that the given shifts, sorted and without overlap, leave open."""
    from_at, to_at = from_at.astimezone(UTC), to_at.astimezone(UTC)
    ends = [from_at, *(shift.end_at for shift in covered)]
    starts = [*(shift.start_at for shift in covered), to_at]
    return tuple(Gap(end_at, start_at) for end_at, start_at in zip(ends, starts, strict=True) if end_at < start_at)


def _checked_window(from_at: datetime, to_at: datetime) -> tuple[datetime, datetime]:
    if from_at.tzinfo is None or to_at.tzinfo is None:
        raise Invalid("Both ends of a window need an offset, such as 2026-03-01T08:00:00Z.", field="from")
    if not EARLIEST_AT <= from_at <= to_at <= LATEST_AT:
        raise Invalid(f"A window must end after it begins, between {EARLIEST_DATE} and {LATEST_DATE}.", field="to")
    if to_at - from_at > timedelta(days=SPAN_DAYS_MAX):
        raise Invalid(f"A window can be at most {SPAN_DAYS_MAX} days long.", field="to")
    return from_at.astimezone(UTC), to_at.astimezone(UTC)


def _cut(start_at: datetime, end_at: datetime, from_at: datetime, to_at: datetime) -> tuple[datetime, datetime]:
    return max(start_at, from_at).astimezone(UTC), min(end_at, to_at).astimezone(UTC)


def _of_layers(rota: Rota, layers: Sequence[Layer], from_at: datetime, to_at: datetime) -> list[_Piece]:
    """What layers in the order of their precedence say about a window."""
    result: list[_Piece] = []
    for layer in reversed(layers):
        result = _laid_over(list(_of_layer(rota, layer, from_at, to_at)), result)
    return result


def _of_layer(rota: Rota, layer: Layer, from_at: datetime, to_at: datetime) -> Iterator[_Piece]:
    zone = ZoneInfo(layer.time_zone or rota.time_zone)
    coming = turns(layer, zone, from_at, to_at)
    if not is_restricted(layer):
        for number, start_at, end_at in coming:
            yield _Piece(max(start_at, from_at), end_at, *holder_and_deputy(layer, number), layer.id)
        return
    left = windows(layer, rota, zone, from_at, to_at)
    turn, window = next(coming, None), next(left, None)
    while turn is not None and window is not None:
        number, turn_start_at, turn_end_at = turn
        start_at, end_at = max(turn_start_at, window[0]), min(turn_end_at, window[1])
        if start_at < end_at:
            yield _Piece(start_at, end_at, *holder_and_deputy(layer, number), layer.id)
        if turn_end_at <= window[1]:
            turn = next(coming, None)
        else:
            window = next(left, None)


def _laid_over(above: list[_Piece], beneath: list[_Piece]) -> list[_Piece]:
    """Both together; where they overlap `above` holds."""
    if not beneath:
        return above
    result: list[_Piece] = []
    coming = 0
    for piece in beneath:
        start_at = piece.start_at
        while coming < len(above) and above[coming].end_at <= start_at:
            result.append(above[coming])
            coming += 1
        while coming < len(above) and above[coming].start_at < piece.end_at:
            upper = above[coming]
            if start_at < upper.start_at:
                result.append(piece._replace(start_at=start_at, end_at=upper.start_at))
            start_at = upper.end_at
            if start_at > piece.end_at:
                break
            result.append(upper)
            coming += 1
        if start_at < piece.end_at:
            result.append(piece._replace(start_at=start_at))
    result.extend(above[coming:])
    return result


def _replace(pieces: list[_Piece], start_at: datetime, end_at: datetime, others: Sequence[_Piece]) -> list[_Piece]:
    """Puts the others, which lie within [start_at, end_at), in the place of what is there, and returns what was."""
    low = bisect_right(pieces, start_at, key=_ends)
    high = bisect_left(pieces, end_at, lo=low, key=_starts)
    hidden = pieces[low:high]
    left: list[_Piece] = []
    right: list[_Piece] = []
    if hidden and hidden[0].start_at < start_at:
        left = [hidden[0]._replace(end_at=start_at)]
        hidden[0] = hidden[0]._replace(start_at=start_at)
    if hidden and hidden[-1].end_at > end_at:
        right = [hidden[-1]._replace(start_at=end_at)]
        hidden[-1] = hidden[-1]._replace(end_at=end_at)
    pieces[low:high] = [*left, *others, *right]
    return hidden


def _stand_in(pieces: list[_Piece], whole: _Piece) -> None:
    """Puts one piece in the place of all that it covers; if it names no deputy, the deputies beneath stay."""
    hidden = _replace(pieces, whole.start_at, whole.end_at, [whole])
    if whole.deputy_id is None and any(one.deputy_id not in (None, whole.contact_id) for one in hidden):
        kept = [
            whole._replace(start_at=one.start_at, end_at=one.end_at, deputy_id=one.deputy_id)
            for one in hidden
            if one.deputy_id != whole.contact_id
        ]
        _replace(pieces, whole.start_at, whole.end_at, _laid_over(kept, [whole]))


def _joined(pieces: list[_Piece]) -> Iterator[Shift]:
    """One shift for neighbours that say the same."""
    held: _Piece | None = None
    for piece in pieces:
        if held is not None and held.end_at == piece.start_at and held[2:] == piece[2:]:
            held = held._replace(end_at=piece.end_at)
            continue
        if held is not None:
            yield _shift(held)
        held = piece
    if held is not None:
        yield _shift(held)


def _shift(piece: _Piece) -> Shift:
    return Shift(piece.contact_id, piece.start_at, piece.end_at, piece.origin, piece.deputy_id)
