"""What a question to a rota may cost, before it is asked: an upper bound that itself costs next to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.roster.schedule.model import Frequency, Layer, OnHolidays, Rota, Rotation

_HOURS_OF = {Frequency.HOURLY: 1, Frequency.DAILY: 24, Frequency.WEEKLY: 7 * 24}


def steps_around(rota: Rota, at: datetime, days: int) -> int:
    """A bound of the turns, windows and pieces that a window of so many days around an instant can go through.

    One step takes a few microseconds. The turns of a rule are counted from its beginning, as if nobody had asked for
    them before.
    """
    steps = _laid(rota.layers, at, days) + len(rota.overrides) + len(rota.imported)
    return steps + sum(_laid(replacement.layers, at, days) for replacement in rota.replacements)


def _laid(layers: Sequence[Layer], at: datetime, days: int) -> int:
    """Each layer's own steps, and for each layer above it a walk along all pieces beneath."""
    pieces = [_pieces(layer, days) for layer in layers]
    return sum(len(layers) * count for count in pieces) + sum(_counted(layer, at) for layer in layers)


def _pieces(layer: Layer, days: int) -> int:
    windows = len(layer.restrictions) or (layer.on_holidays is not OnHolidays.ANY)
    return int(days * _turns_a_day(layer.rotation)) + 2 + (days + 2) * windows


def _counted(layer: Layer, at: datetime) -> int:
    """The turns of a rule from its beginning: up to twice the years until then are counted."""
    if layer.rotation.frequency is not Frequency.RULE:
        return 0
    years = 2 * (max(0, at.year - layer.starts_on.year) + 1)
    return int(years * 366 * _turns_a_day(layer.rotation))


def _turns_a_day(rotation: Rotation) -> float:
    if rotation.frequency is not Frequency.RULE:
        return 24 / (_HOURS_OF[rotation.frequency] * rotation.every)
    parts = dict(part.partition("=")[::2] for part in (rotation.rule or "").upper().split(";"))
    times_a_day = len(parts.get("BYHOUR", "").split(","))
    match parts.get("FREQ"):
        case "HOURLY":
            return 24
        case "WEEKLY":
            return len(parts.get("BYDAY", "").split(",")) * times_a_day / 7
        case _:
            # Each day is looked at, whether or not the rule names it.
            return times_a_day
