"""The draft of an after-action review: what happened at each partner, from the record, without blame. Pure.

The cast: `CourseOf` is one partner's course with its numbers, `courses` makes them of escalation's answers, `goals`
reads the coverage goals from the timeline, `CSV_HEAD` and `csv_rows` are the download.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.console.csv_text import Cell
from services.console.words import as_instant

Json = Mapping[str, Any]

_FAILED = ("failed", "expired")


@dataclass(frozen=True, slots=True)
class Failure:
    """What failed in the same way: over which channel, why, how often."""

    channel: str
    reason: str
    times: int


@dataclass(frozen=True, slots=True)
class CourseOf:
    """How one partner was asked and answered. `failures` and the counts are None where the reader may not see them."""

    partner: str
    kind: str
    state: str
    began_at: str
    told_seconds: float | None
    acknowledged_at: str | None
    acknowledged_by: str | None
    acknowledged_seconds: float | None
    late: bool
    level: int | None
    levels: int | None
    pages: int | None
    attempts: int | None
    failures: tuple[Failure, ...] | None
    was_unreached: bool
    taken_over_at: str | None
    taken_over_by: str | None
    stance: str | None
    gaps: tuple[str, ...]
    read_back: str | None


@dataclass(frozen=True, slots=True)
class Goal:
    """A coverage goal as it was decided."""

    is_met: bool
    have: int | None
    want: int | None
    within_seconds: int | None
    at: str
    missing: tuple[str, ...]


def courses(escalations: Iterable[Json], details: Mapping[str, Json]) -> list[CourseOf]:
    """The courses of the partners that were asked or informed, by code; `details` are those escalations that were read.

    A takeover is told with the partner that it is about.
    """
    listed = list(escalations)
    unreached = {one["subject_partner"] for one in listed if one["kind"] == "takeover"}
    own = [one for one in listed if one["kind"] != "takeover"]
    found = [_course(one, details.get(one["id"]), one["partner"] in unreached) for one in own]
    return sorted(found, key=lambda one: (one.kind != "answer", one.partner))


def goals(timeline: Iterable[Json]) -> list[Goal]:
    """The goals that were decided, in the order of the timeline."""
    return [
        Goal(
            is_met=entry["type"] == "coverage_goal_met",
            have=entry["data"].get("acknowledged"),
            want=(entry["data"].get("goal") or {}).get("partners"),
            within_seconds=(entry["data"].get("goal") or {}).get("within_seconds"),
            at=entry["at"],
            missing=tuple(entry["data"].get("missing") or ()),
        )
        for entry in timeline
        if entry["type"] in ("coverage_goal_met", "coverage_goal_missed")
    ]


def _course(one: Json, detail: Json | None, was_asked_to_take_over: bool) -> CourseOf:
    answer, takeover = one["acknowledgement"] or {}, one["takeover"] or {}
    sees_course = detail is not None and one["levels"] is not None
    pages: Sequence[Json] = detail["pages"] if detail is not None and sees_course else ()
    failed = Counter(
        (page["channel"], attempt["reason"] or "")
        for page in pages
        for attempt in page["attempts"]
        if attempt["state"] in _FAILED
    )
    return CourseOf(
        partner=one["partner"],
        kind=one["kind"],
        state=one["state"],
        began_at=one["clock_started_at"],
        told_seconds=_since(one, one["notified_at"]),
        acknowledged_at=answer.get("at"),
        acknowledged_by=answer.get("by"),
        acknowledged_seconds=_since(one, answer.get("at")),
        late=bool(answer.get("late")),
        level=one["level"],
        levels=one["levels"],
        pages=len(pages) if sees_course else None,
        attempts=sum(len(page["attempts"]) for page in pages) if sees_course else None,
        failures=tuple(Failure(*key, times) for key, times in sorted(failed.items())) if sees_course else None,
        was_unreached=one["state"] == "unreached" or bool(takeover) or was_asked_to_take_over,
        taken_over_at=takeover.get("at"),
        taken_over_by=takeover.get("partner"),
        stance=(one["position"] or {}).get("stance"),
        gaps=tuple(one["gaps"]),
        read_back=(one["read_back"] or {}).get("state"),
    )


def _since(one: Json, at: str | None) -> float | None:
    if at is None:
        return None
    return (as_instant(at) - as_instant(one["clock_started_at"])).total_seconds()


CSV_HEAD = (
    "reference",
    "status",
    "precedence",
    "partner",
    "kind",
    "state",
    "asked_at",
    "told_after_seconds",
    "acknowledged_at",
    "acknowledged_after_seconds",
    "acknowledged_by",
    "late",
    "level",
    "pages",
    "attempts",
    "failed_attempts",
    "failures",
    "unreached",
    "taken_over_at",
    "taken_over_by",
    "position",
    "gaps",
    "read_back",
)


def csv_rows(alert: Json, found: Iterable[CourseOf]) -> list[list[Cell]]:
    """One row for each partner; yes and no are 1 and 0."""
    return [
        [
            alert["reference"],
            alert["status"],
            alert["precedence"],
            one.partner,
            one.kind,
            one.state,
            one.began_at,
            one.told_seconds,
            one.acknowledged_at,
            one.acknowledged_seconds,
            one.acknowledged_by,
            int(one.late),
            one.level,
            one.pages,
            one.attempts,
            None if one.failures is None else sum(failure.times for failure in one.failures),
            "; ".join(f"{how.channel} {how.reason} x{how.times}" for how in one.failures or ()),
            int(one.was_unreached),
            one.taken_over_at,
            one.taken_over_by,
            one.stance,
            " ".join(one.gaps),
            one.read_back,
        ]
        for one in found
    ]
