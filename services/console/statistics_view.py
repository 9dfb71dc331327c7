"""What the page of statistics shows of escalation's and roster's answers. Pure.

The cast: `period_asked` reads the period chooser, `bars` and `line` draw, `CSV_HEAD` and `csv_rows` are the download.
A drawing is one path; what it shows is said in words beside it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from services.console.csv_text import Cell
from services.console.words import Reader, _

Json = Mapping[str, Any]

DAYS_OFFERED = (7, 30, 90, 365)
DAYS_DEFAULT = 90

BAR_WIDTH, BAR_GAP, BARS_HEIGHT = 7, 1, 24
LINE_WIDTH, LINE_HEIGHT = 180, 24

_COUNTS = ("asked", "acknowledged", "late", "unreached", "taken_over", "median_seconds", "p90_seconds")


@dataclass(frozen=True, slots=True)
class PeriodAsked:
    """Whole days (UTC), both included. `is_readable` is false where what was typed is no day and was passed over."""

    first: date
    last: date
    is_readable: bool = True

    @property
    def from_at(self) -> datetime:
        """Where it begins."""
        return datetime.combine(self.first, time(), UTC)

    @property
    def to_at(self) -> datetime:
        """Where it ends, not itself included."""
        return datetime.combine(self.last, time(), UTC) + timedelta(days=1)

    @property
    def days(self) -> int:
        """How many days."""
        return (self.last - self.first).days + 1


def period_asked(days: str, first: str, last: str, now: datetime) -> PeriodAsked:
    """The period of the chooser: two days, or so many days until today."""
    today = now.astimezone(UTC).date()
    chosen = next((offered for offered in DAYS_OFFERED if str(offered) == days), DAYS_DEFAULT)
    usual = PeriodAsked(today - timedelta(days=chosen - 1), today)
    if not first and not last:
        return usual
    try:
        end = date.fromisoformat(last) if last else today
        begin = date.fromisoformat(first) if first else end - timedelta(days=chosen - 1)
        asked = PeriodAsked(begin, end)
        # The last days that there are have no day after them.
        return asked if asked.from_at < asked.to_at else PeriodAsked(usual.first, usual.last, is_readable=False)
    except (ValueError, OverflowError):
        return PeriodAsked(usual.first, usual.last, is_readable=False)


def duration(seconds: float | None) -> str:
    """Hours, minutes and seconds, the same in every language; a dash where there is none."""
    if seconds is None:
        return "–"
    whole = round(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"


def bars(distribution: Sequence[int]) -> str:
    """The path of a distribution: one bar for each bucket, the fullest as high as the drawing."""
    most = max(distribution, default=0)
    drawn = []
    for number, count in enumerate(distribution):
        if count:
            height = max(2, round(BARS_HEIGHT * count / most))
            drawn.append(f"M{number * (BAR_WIDTH + BAR_GAP)} {BARS_HEIGHT}v-{height}h{BAR_WIDTH}v{height}z")
    return "".join(drawn)


def bars_width(buckets: int) -> int:
    """How wide a drawing of so many bars is."""
    return buckets * (BAR_WIDTH + BAR_GAP) - BAR_GAP


def bars_text(distribution: Sequence[int], bounds: Sequence[int], reader: Reader) -> str:
    """The distribution in words: the buckets that hold any."""
    said = [
        reader.say(_("up to %(time)s: %(count)s"), time=reader.span(bound), count=reader.number(count))
        for bound, count in zip(bounds, distribution, strict=False)
        if count
    ]
    if distribution and distribution[-1]:
        more = reader.number(distribution[-1])
        said.append(reader.say(_("more than %(time)s: %(count)s"), time=reader.span(bounds[-1]), count=more))
    return "; ".join(said)


def line(history: Sequence[Json]) -> str:
    """The path of scores from 0 to 100 over the days, the newest at the end; empty for less than two days."""
    if len(history) < 2:
        return ""
    step = LINE_WIDTH / (len(history) - 1)
    points = [
        f"{number * step:.1f} {LINE_HEIGHT - LINE_HEIGHT * day['score'] / 100:.1f}"
        for number, day in enumerate(history)
    ]
    return "M" + "L".join(points)


def csv_head(bounds: Sequence[int]) -> list[str]:
    """The names of the columns: a machine's, the same in every language."""
    buckets = [f"acknowledged_within_{bound}_seconds" for bound in bounds]
    after = [f"acknowledged_after_{bounds[-1]}_seconds"] if bounds else []
    return ["status", "partner", "precedence", *_COUNTS, *buckets, *after]


def csv_rows(answers: Iterable[Json]) -> list[list[Cell]]:
    """One row for each partner and precedence; the distribution's numbers do not add up over buckets."""
    return [
        [answer["status"], one["partner"], one["precedence"], *(one[name] for name in _COUNTS), *one["distribution"]]
        for answer in answers
        for one in answer["partners"]
    ]
