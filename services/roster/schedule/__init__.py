"""Shifts from rotas: who is on call, computed once for paging, screen, export and readiness alike.

The cast: a `Rota` belongs to one partner and keeps local time in one IANA zone. Its `Layer`s are ordered by
precedence: at any instant the first layer that covers it answers, and the layers after it show through where it does
not. A layer's `Rotation` cuts time into *turns*; turn 0 begins at the hand-over of `starts_on`, and the participants
take the turns in order. An `Override` lies over all layers, and of two overrides the one that comes last in the rota
holds, because it was said last. A `Shift` is what comes out: one contact from one instant to another.

The promise: `shifts` is the only place where local times become instants. Its result is sorted, does not overlap, and
any instant of it is the same whatever window was asked for, so that a screen and a page can never disagree.

Daylight saving follows one rule: **a hand-over happens at the first instant at which the local clock shows the
hand-over time or a later one.** So a hand-over time that does not exist on a day falls on the first instant after the
gap, one that exists twice falls on its first occurrence, and as this instant never moves backwards from one date to
the next, turns can neither overlap nor leave a hole. Turns are counted in local dates, never in hours, so that
nothing drifts.

Another kind of rotation is another way to yield turns: `shifts._turns` is the one place that knows about it.
"""

from services.roster.schedule.instants import hand_over_at, is_zone
from services.roster.schedule.model import (
    EARLIEST_AT,
    EARLIEST_DATE,
    EVERY_MAX,
    EXTRA_HOLIDAYS_MAX,
    IMPORTED_MAX,
    LATEST_AT,
    LATEST_DATE,
    LAYERS_MAX,
    NOTICE_HOURS_MAX,
    NOTICES_MAX,
    ON_CALL_HORIZON_DAYS,
    OVERRIDE_DAYS_MAX,
    OVERRIDES_MAX,
    PARTICIPANTS_MAX,
    REPLACEMENTS_MAX,
    RESTRICTIONS_MAX,
    RULE_CHARACTERS_MAX,
    SPAN_DAYS_MAX,
    CalendarId,
    Frequency,
    Gap,
    Holiday,
    ImportedShift,
    ImportedShiftId,
    Layer,
    LayerId,
    OnHolidays,
    Override,
    OverrideId,
    Replacement,
    ReplacementId,
    Restriction,
    Rota,
    Rotation,
    Shift,
)
from services.roster.schedule.shifts import gaps, gaps_between, on_call, shifts

__all__ = [
    "EARLIEST_AT",
    "EARLIEST_DATE",
    "EVERY_MAX",
    "EXTRA_HOLIDAYS_MAX",
    "IMPORTED_MAX",
    "LATEST_AT",
    "LATEST_DATE",
    "LAYERS_MAX",
    "NOTICES_MAX",
    "NOTICE_HOURS_MAX",
    "ON_CALL_HORIZON_DAYS",
    "OVERRIDES_MAX",
    "OVERRIDE_DAYS_MAX",
    "PARTICIPANTS_MAX",
    "REPLACEMENTS_MAX",
    "RESTRICTIONS_MAX",
    "RULE_CHARACTERS_MAX",
    "SPAN_DAYS_MAX",
    "CalendarId",
    "Frequency",
    "Gap",
    "Holiday",
    "ImportedShift",
    "ImportedShiftId",
    "Layer",
    "LayerId",
    "OnHolidays",
    "Override",
    "OverrideId",
    "Replacement",
    "ReplacementId",
    "Restriction",
    "Rota",
    "Rotation",
    "Shift",
    "gaps",
    "gaps_between",
    "hand_over_at",
    "is_zone",
    "on_call",
    "shifts",
]
