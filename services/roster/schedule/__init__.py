"""Shifts from rotas: who is on call, computed once for paging, screen, export and readiness alike.

The cast: a `Rota` belongs to one partner and keeps local time in one IANA zone; a layer can have a zone of its own, so
that one rota follows the sun. Its `Layer`s are ordered by precedence: at any instant the first layer that covers it
answers, and the layers after it show through where it does not. A layer's `Rotation` cuts local time into *turns*:
hours, days or weeks counted from the hand-over of `starts_on`, or the dates of a recurrence rule; participants and
deputies take the turns in order. A `Restriction` leaves a layer some hours of some weekdays, and `OnHolidays` all but
holidays or nothing else; neither shifts a turn. An `ImportedShift` lies over the layers, a `Replacement` takes the
place of both for a time, an `Override` lies over all, and of two of a kind the one that was made last holds. A `Shift`
is what comes out: one contact, with a deputy if there is one, from one instant to another. A `Burden` is what a
contact carried of them.

The promise: `shifts` is the only place where local times become instants. Its result is sorted, does not overlap, and
any instant of it is the same whatever window was asked for, so that a screen and a page can never disagree.

Daylight saving follows one rule: **a hand-over happens at the first instant at which the local clock shows the
hand-over time or a later one.** So a hand-over time that does not exist on a day falls on the first instant after the
gap, one that exists twice falls on its first occurrence, and as this instant never moves backwards from one local time
to the next, turns can neither overlap nor leave a hole. The same rule holds for the beginning and end of a
restriction. Turns are counted in local times, an hour of the clock being an hour whatever the sun does, so that
nothing drifts: every four hours from 08:00 stays 08:00, 12:00, 16:00. A turn that lasts no time, because the clocks
jumped over it, has no shift and still counts.

`turns` knows the rotations, `rules` the recurrence rules, `windows` restrictions and holidays, `instants` the rule
above, `shifts` lays all over each other; `faults` says what is wrong with a rota, `fairness` what it asks of whom,
`cost` what a question to it may cost.
"""

from services.roster.schedule.cost import steps_around
from services.roster.schedule.fairness import NIGHT_FROM, NIGHT_UNTIL, Burden, Load, burdens, fairness
from services.roster.schedule.faults import (
    bare_rota_faults,
    contacts_of,
    imported_faults,
    layer_faults,
    layer_rule_faults,
    override_faults,
    replacement_faults,
    rota_faults,
)
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
from services.roster.schedule.rules import RULE_PROVEN_DAYS, RULE_SILENCE_DAYS_MAX, RULE_TURNS_MAX, rule_faults
from services.roster.schedule.shifts import gaps, gaps_between, on_call, shifts
from services.roster.schedule.windows import holiday_on, holidays_between
from shared.holiday_calendars import is_calendar as is_holiday_calendar

__all__ = [
    "EARLIEST_AT",
    "EARLIEST_DATE",
    "EVERY_MAX",
    "EXTRA_HOLIDAYS_MAX",
    "IMPORTED_MAX",
    "LATEST_AT",
    "LATEST_DATE",
    "LAYERS_MAX",
    "NIGHT_FROM",
    "NIGHT_UNTIL",
    "NOTICES_MAX",
    "NOTICE_HOURS_MAX",
    "ON_CALL_HORIZON_DAYS",
    "OVERRIDES_MAX",
    "OVERRIDE_DAYS_MAX",
    "PARTICIPANTS_MAX",
    "REPLACEMENTS_MAX",
    "RESTRICTIONS_MAX",
    "RULE_CHARACTERS_MAX",
    "RULE_PROVEN_DAYS",
    "RULE_SILENCE_DAYS_MAX",
    "RULE_TURNS_MAX",
    "SPAN_DAYS_MAX",
    "Burden",
    "CalendarId",
    "Frequency",
    "Gap",
    "Holiday",
    "ImportedShift",
    "ImportedShiftId",
    "Layer",
    "LayerId",
    "Load",
    "OnHolidays",
    "Override",
    "OverrideId",
    "Replacement",
    "ReplacementId",
    "Restriction",
    "Rota",
    "Rotation",
    "Shift",
    "bare_rota_faults",
    "burdens",
    "contacts_of",
    "fairness",
    "gaps",
    "gaps_between",
    "hand_over_at",
    "holiday_on",
    "holidays_between",
    "imported_faults",
    "is_holiday_calendar",
    "is_zone",
    "layer_faults",
    "layer_rule_faults",
    "on_call",
    "override_faults",
    "replacement_faults",
    "rota_faults",
    "rule_faults",
    "shifts",
    "steps_around",
]
