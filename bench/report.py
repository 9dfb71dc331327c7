"""The arithmetic of the benchmarks, and how results are shown. Pure: figures in, figures and text out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

from rich.table import Table

DIGITS = 2


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all values do not exceed (nearest rank): always a measured one."""
    if not values:
        raise ValueError("no values")
    rank = max(1, math.ceil(percent / 100 * len(values)))
    return sorted(values)[rank - 1]


def rounded(value: float) -> float:
    """A figure as it is printed."""
    return round(value, DIGITS)


def middle_and_worst(values: Sequence[float]) -> dict[str, float]:
    """Median and maximum."""
    return {"median": rounded(median(values)), "max": rounded(max(values))}


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """The 50th and the 99th percentile."""
    return {"p50": rounded(percentile(values, 50)), "p99": rounded(percentile(values, 99))}


def ratio(ours: Sequence[float], theirs: Sequence[float]) -> float:
    """Median by median: how many times as long as theirs ours took. Below 1 we were faster."""
    return rounded(median(ours) / median(theirs))


def median_of_runs(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """One result of several of the same shape: the median of each figure; what is no figure comes from the first.

    A figure that some run lacks (None) is the median of the runs that have it.
    """
    return {name: _middle([run[name] for run in runs]) for name in runs[0]}


def _middle(values: Sequence[Any]) -> Any:
    present = [value for value in values if value is not None]
    if not present:
        return None
    if isinstance(present[0], Mapping):
        return median_of_runs(present)
    if isinstance(present[0], (int, float)) and not isinstance(present[0], bool):
        middle = median(present)
        return int(middle) if all(isinstance(value, int) for value in present) else rounded(middle)
    return present[0]


def table(title: str, rows: Sequence[tuple[str, object]]) -> Table:
    """A readable table of named figures."""
    shown = Table(title=title, show_header=False, title_justify="left")
    shown.add_column(style="bold")
    shown.add_column()
    for name, value in rows:
        shown.add_row(name, _words(value))
    return shown


def _words(value: object) -> str:
    if value is None:
        return "not measured"
    if isinstance(value, Mapping):
        return " · ".join(f"{name} {_words(part)}" for name, part in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_words(part) for part in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
