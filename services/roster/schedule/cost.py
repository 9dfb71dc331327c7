"""What a question to a rota may cost, before it is asked: an upper bound that itself costs next to nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from services.roster.schedule.model import Frequency, Layer, OnHolidays, Rota

_HOURS_OF = {Frequency.HOURLY: 1, Frequency.DAILY: 24, Frequency.WEEKLY: 7 * 24}
_RULES_DAYS = {"HOURLY": 1 / 24, "WEEKLY": 7}
"""How many days a rule's frequency stands for; any other may look at each day of a year."""


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
    hours = _HOURS_OF.get(layer.rotation.frequency, 1) * layer.rotation.every
    windows = len(layer.restrictions) or (layer.on_holidays is not OnHolidays.ANY)
    return days * 24 // hours + 2 + (days + 2) * windows


def _counted(layer: Layer, at: datetime) -> int:
    """The turns of a rule from its beginning: up to twice the years until then are counted."""
    if layer.rotation.frequency is not Frequency.RULE:
        return 0
    years = 2 * (max(0, at.year - layer.starts_on.year) + 2)
    parts = dict(part.partition("=")[::2] for part in (layer.rotation.rule or "").upper().split(";"))
    times_a_day = len(parts.get("BYHOUR", "").split(","))
    days = _RULES_DAYS.get(parts.get("FREQ", ""), 1)
    times = len(parts.get("BYDAY", "").split(",")) if days > 1 else 1
    return int(years * 366 / days * times * times_a_day)
