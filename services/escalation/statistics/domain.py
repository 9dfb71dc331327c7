"""What statistics count, and over which period. Pure.

The promise: one obligation is counted once. An Update takes the obligation of what it corrects over, with clock and
answer, so only the newest message of a chain counts for a partner; where it asks anew, the answer to the earlier one
was an answer of its own and counts too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise

from shared.contracts import Precedence
from shared.errors import Invalid

BUCKETS_SECONDS = (60, 120, 300, 600, 1200, 1800, 3600, 10800, 21600, 86400)
"""Upper bounds of the distribution's buckets, inclusive; one more holds what took longer. The deadlines to acknowledge
of the network's default table (10 and 30 minutes, 3 and 24 hours) are among them.
"""

PERIOD_DEFAULT = timedelta(days=90)
PERIOD_MAX = timedelta(days=366)

PARTNERS_MAX = 26 * 26
"""As many as there are codes of two letters."""
ROWS_MAX = (PARTNERS_MAX + 1) * len(Precedence)
"""Of one answer: each partner and all together, by precedence."""


@dataclass(frozen=True, slots=True)
class Period:
    """From an instant up to another."""

    from_at: datetime
    to_at: datetime


@dataclass(frozen=True, slots=True)
class Sight:
    """What a caller may see: all partners' answers (None), or those of one partner and those to its own alerts."""

    partner: str | None


@dataclass(frozen=True, slots=True)
class Tally:
    """Obligations of one partner (None: of all that are seen) at one precedence, and what became of them.

    `unreached` were so at some time, whether or not they answered afterwards. Median and p90 are times that occurred:
    at least half, and nine tenths, took no longer.
    """

    partner: str | None
    precedence: Precedence
    asked: int
    acknowledged: int
    late: int
    unreached: int
    taken_over: int
    median_seconds: float | None
    p90_seconds: float | None
    distribution: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class CoverageTally:
    """Coverage goals that one raiser's alerts of one precedence met and missed."""

    raiser: str
    precedence: Precedence
    met: int
    missed: int


def period_of(from_at: datetime | None, to_at: datetime | None, now: datetime) -> Period:
    """The period asked for; without an end until now, without a beginning `PERIOD_DEFAULT` before the end."""
    end_at = now if to_at is None else to_at
    try:
        begin_at = end_at - PERIOD_DEFAULT if from_at is None else from_at
    except OverflowError:
        raise Invalid("is too early", code="out_of_range", field="to") from None
    if not begin_at < end_at:
        raise Invalid("must be before `to`", code="out_of_range", field="from")
    if end_at - begin_at > PERIOD_MAX:
        raise Invalid(f"at most {PERIOD_MAX.days} days at a time", code="out_of_range", field="from")
    return Period(begin_at, end_at)


def in_order(tallies: Sequence[Tally]) -> list[Tally]:
    """By partner, the most urgent precedence first."""
    return sorted(tallies, key=lambda one: (one.partner or "", one.precedence.rank))


def bucket_conditions(column: str) -> list[str]:
    """SQL by which a number of seconds falls into each bucket; exactly one of them is true of it."""
    first, last = BUCKETS_SECONDS[0], BUCKETS_SECONDS[-1]
    between = [f"{column} > {low} AND {column} <= {high}" for low, high in pairwise(BUCKETS_SECONDS)]
    return [f"{column} <= {first}", *between, f"{column} > {last}"]
