"""What is wrong with a rota: each limit on both sides, each fault under its own field and with what would be right."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from uuid import UUID

import pytest

from services.roster import schedule
from services.roster.schedule import (
    CalendarId,
    Frequency,
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
    rules,
)
from shared.errors import FieldError
from shared.ids import ContactId, RotaId

NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
DAY = timedelta(days=1)
A, B = (ContactId(UUID(int=number)) for number in (1, 2))
LAYER = Layer(
    LayerId(UUID(int=200)), "layer", Rotation(Frequency.DAILY), (A, B), date(2026, 1, 1), time(8), deputies=(B, A)
)
ROTA = Rota(RotaId(UUID(int=100)), "first level", "Europe/Madrid", (LAYER,))
OVERRIDE = Override(OverrideId(UUID(int=300)), A, NOW, NOW + DAY)
REPLACEMENT = Replacement(ReplacementId(UUID(int=400)), "summer", NOW, NOW + DAY, (LAYER,))
IMPORTED = ImportedShift(ImportedShiftId(UUID(int=500)), CalendarId(UUID(int=600)), A, NOW, NOW + DAY)


def fields(faults: Iterable[FieldError]) -> list[str]:
    """The fields alone."""
    return [fault.field for fault in faults]


def ruled(rule: str | None, **changes: Any) -> Layer:
    """A layer with a recurrence rule."""
    return replace(LAYER, rotation=Rotation(Frequency.RULE, 1, rule), **changes)


def test_a_rota_with_everything_is_allowed() -> None:
    """Every part at its limit is allowed at once."""
    office = Restriction(time(9), time(17), (1, 2, 3, 4, 5))
    layer = replace(
        LAYER,
        participants=(A,) * schedule.PARTICIPANTS_MAX,
        deputies=(B,) * schedule.PARTICIPANTS_MAX,
        time_zone="Pacific/Auckland",
        restrictions=(office,) * schedule.RESTRICTIONS_MAX,
        on_holidays=OnHolidays.NEVER,
        ends_on=schedule.LATEST_DATE,
    )
    layers = tuple(replace(layer, id=LayerId(UUID(int=200 + n))) for n in range(schedule.LAYERS_MAX))
    days = tuple(Holiday(date(2026, 1, 1) + n * DAY, "own") for n in range(schedule.EXTRA_HOLIDAYS_MAX))
    full = replace(
        ROTA,
        layers=layers,
        overrides=(replace(OVERRIDE, deputy_id=B, end_at=NOW + schedule.OVERRIDE_DAYS_MAX * DAY),)
        * schedule.OVERRIDES_MAX,
        replacements=(replace(REPLACEMENT, layers=layers),) * schedule.REPLACEMENTS_MAX,
        imported=(IMPORTED,) * schedule.IMPORTED_MAX,
        holiday_calendar="CA-QC",
        extra_holidays=days,
        notice_hours=(1, 24, schedule.NOTICE_HOURS_MAX),
    )
    assert list(schedule.rota_faults(full)) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": ""}, ["name"]),
        ({"name": "a\u202eb"}, ["name"]),
        ({"time_zone": "Europe/Atlantis"}, ["time_zone"]),
        ({"holiday_calendar": "QQ"}, ["holiday_calendar"]),
        ({"holiday_calendar": "CA-QQ"}, ["holiday_calendar"]),
        ({"holiday_calendar": "CA-"}, ["holiday_calendar"]),
        (
            {"extra_holidays": tuple(Holiday(date(2026, 1, 1) + n * DAY, "x") for n in range(101))},
            ["extra_holidays"],
        ),
        ({"extra_holidays": (Holiday(date(2026, 1, 1), "a"), Holiday(date(2026, 1, 1), "b"))}, ["extra_holidays"]),
        (
            {"extra_holidays": (Holiday(date(1969, 1, 1), ""),)},
            ["extra_holidays[0].on", "extra_holidays[0].name"],
        ),
        ({"notice_hours": (0,)}, ["notice_hours"]),
        ({"notice_hours": (schedule.NOTICE_HOURS_MAX + 1,)}, ["notice_hours"]),
        ({"notice_hours": (24, 24)}, ["notice_hours"]),
        ({"notice_hours": (1, 2, 3, 4)}, ["notice_hours"]),
        ({"overrides": (OVERRIDE,) * (schedule.OVERRIDES_MAX + 1)}, ["overrides"]),
        ({"replacements": (REPLACEMENT,) * (schedule.REPLACEMENTS_MAX + 1)}, ["replacements"]),
        ({"imported": (IMPORTED,) * (schedule.IMPORTED_MAX + 1)}, ["imported"]),
        ({"layers": (LAYER, LAYER)}, ["layers"]),
        ({"layers": (replace(LAYER, on_holidays=OnHolidays.ONLY),)}, ["layers[0].on_holidays"]),
        (
            {"replacements": (replace(REPLACEMENT, layers=(replace(LAYER, on_holidays=OnHolidays.NEVER),)),)},
            ["replacements[0].layers[0].on_holidays"],
        ),
        (
            {"replacements": (replace(REPLACEMENT, layers=(replace(LAYER, name=""),)),)},
            ["replacements[0].layers[0].name"],
        ),
        ({"overrides": (replace(OVERRIDE, deputy_id=A),)}, ["overrides[0].deputy_id"]),
        ({"imported": (replace(IMPORTED, end_at=NOW),)}, ["imported[0].end_at"]),
    ],
)
def test_each_fault_of_a_rota_names_its_field(changes: dict[str, Any], expected: list[str]) -> None:
    """A rota that breaks one rule has exactly that fault, under the path of what is wrong."""
    assert fields(schedule.rota_faults(replace(ROTA, **changes))) == expected


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rotation": Rotation(Frequency.HOURLY, 0)}, ["every"]),
        ({"rotation": Rotation(Frequency.HOURLY, 24 * 14 + 1)}, ["every"]),
        ({"rotation": Rotation(Frequency.DAILY, 53)}, ["every"]),
        ({"rotation": Rotation(Frequency.WEEKLY, 53)}, ["every"]),
        ({"rotation": Rotation(Frequency.RULE, 2, "FREQ=DAILY")}, ["every"]),
        ({"rotation": Rotation(Frequency.RULE)}, ["rule"]),
        ({"rotation": Rotation(Frequency.RULE, 1, "")}, ["rule"]),
        ({"rotation": Rotation(Frequency.DAILY, 1, "FREQ=DAILY")}, ["rule"]),
        ({"participants": ()}, ["participants"]),
        ({"participants": (A,) * 101}, ["participants"]),
        ({"deputies": (A,) * 101}, ["deputies"]),
        ({"starts_on": date(1969, 12, 31)}, ["starts_on"]),
        ({"hand_over_time": time(8, 0, 1)}, ["hand_over_time"]),
        ({"hand_over_time": time(8, tzinfo=UTC)}, ["hand_over_time"]),
        ({"ends_on": date(2026, 1, 1)}, ["ends_on"]),
        ({"time_zone": "Mars/Olympus"}, ["time_zone"]),
        ({"restrictions": (Restriction(time(9), time(17)),) * 15}, ["restrictions"]),
        ({"restrictions": (Restriction(time(9, 0, 1), time(17)),)}, ["restrictions[0].from_time"]),
        ({"restrictions": (Restriction(time(9), time(17, tzinfo=UTC)),)}, ["restrictions[0].until_time"]),
        ({"restrictions": (Restriction(time(9), time(17), (0,)),)}, ["restrictions[0].weekdays"]),
        ({"restrictions": (Restriction(time(9), time(17), (8,)),)}, ["restrictions[0].weekdays"]),
        ({"restrictions": (Restriction(time(9), time(17), (1, 1)),)}, ["restrictions[0].weekdays"]),
    ],
)
def test_each_fault_of_a_layer_names_its_field(changes: dict[str, Any], expected: list[str]) -> None:
    """A layer that breaks one rule has exactly that fault."""
    assert fields(schedule.layer_faults(replace(LAYER, **changes))) == expected


@pytest.mark.parametrize("every", [("hourly", 336), ("daily", 52), ("weekly", 52)])
def test_the_longest_turns_are_allowed(every: tuple[str, int]) -> None:
    """Turns of fourteen days in hours, of 52 days and of 52 weeks are allowed."""
    assert not list(schedule.layer_faults(replace(LAYER, rotation=Rotation(Frequency(every[0]), every[1]))))


@pytest.mark.parametrize(
    "rule",
    [
        "FREQ=WEEKLY;BYDAY=MO,FR",
        "freq=weekly;byday=mo",
        "FREQ=DAILY;INTERVAL=52;BYHOUR=8,20;BYMINUTE=30",
        "FREQ=MONTHLY;INTERVAL=12;BYDAY=1MO,-1FR",
        "FREQ=MONTHLY;BYDAY=MO,TU,WE,TH,FR;BYSETPOS=-1",
        "FREQ=YEARLY;INTERVAL=2;BYMONTH=1,7;BYMONTHDAY=1",
        "FREQ=YEARLY;BYWEEKNO=1,-1;BYDAY=MO;WKST=MO",
        "FREQ=YEARLY;BYYEARDAY=1,-1",
        "FREQ=HOURLY;INTERVAL=336",
        "FREQ=HOURLY;INTERVAL=6;BYDAY=SA,SU",
    ],
)
def test_rules_of_every_kind_are_allowed(rule: str) -> None:
    """Rules by hour, day, week, month and year are allowed."""
    assert list(schedule.layer_faults(ruled(rule))) == []


@pytest.mark.parametrize(
    ("rule", "remedy"),
    [
        ("FREQ=DAILY;COUNT=3", "use ends_on"),
        ("FREQ=DAILY;UNTIL=20270101T000000Z", "use ends_on"),
        ("FREQ=DAILY;DTSTART=20270101T000000Z", "use ends_on"),
        ("FREQ=DAILY;TZID=UTC", "use ends_on"),
        ("FREQ=MINUTELY", "needs FREQ"),
        ("FREQ=SECONDLY", "needs FREQ"),
        ("INTERVAL=2", "needs FREQ"),
        ("RRULE:FREQ=DAILY", "without RRULE:"),
        ("FREQ=DAILY\nEXRULE:FREQ=DAILY", "one line"),
        ("FREQ=DAILY;", "between them"),
        ("FREQ=DAILY;FREQ=WEEKLY", "name it once"),
        ("FREQ=DAILY;BYFUN=1", "no part of a rule"),
        ("FREQ=DAILY;BYSECOND=30", "whole minutes"),
        ("FREQ=DAILY;BYEASTER=1", "use holidays"),
        ("FREQ=DAILY;BYHOUR=8,9;BYMINUTE=0,30", "use one of 0 to 59"),
        ("FREQ=DAILY;BYHOUR=24", "0 to 23"),
        ("FREQ=DAILY;BYMONTH=13", "1 to 12"),
        ("FREQ=DAILY;BYMONTH=0", "1 to 12"),
        ("FREQ=DAILY;INTERVAL=0", "1 to 52"),
        ("FREQ=DAILY;INTERVAL=53", "1 to 52"),
        ("FREQ=YEARLY;INTERVAL=3", "1 to 2"),
        ("FREQ=WEEKLY;BYDAY=1MO", "MONTHLY, YEARLY only"),
        ("FREQ=MONTHLY;BYDAY=54MO", "such as MO"),
        ("FREQ=WEEKLY;BYMONTHDAY=1", "goes with"),
        ("FREQ=MONTHLY;BYWEEKNO=1;BYDAY=MO", "YEARLY only"),
        ("FREQ=YEARLY;BYWEEKNO=1", "add BYDAY"),
        ("FREQ=YEARLY;BYWEEKNO=1;BYDAY=1MO", "without numbers"),
        ("FREQ=MONTHLY;BYSETPOS=1", "name the days"),
        ("FREQ=HOURLY;BYDAY=MO;BYSETPOS=3", "goes with"),
        ("FREQ=WEEKLY;WKST=XX", "a day such as MO"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30", "does not happen within"),
        ("FREQ=DAILY;BYMONTH=2;BYMONTHDAY=30", "does not happen within"),
        ("FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30", "does not happen within"),
        ("FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=29", "does not happen"),
        ("FREQ=HOURLY;INTERVAL=2;BYHOUR=9", "never happens"),
        ("FREQ=HOURLY", "use the frequency hourly"),
        ("FREQ=DAILY;BYDAY=" + ",".join(["MO"] * 100), "at most 300 are possible"),
    ],
)
def test_each_fault_of_a_rule_says_what_would_be_right(rule: str, remedy: str) -> None:
    """A rule that says what a layer says elsewhere, that cannot happen or that happens too often is refused."""
    faults = list(schedule.layer_faults(ruled(rule)))
    assert fields(faults) == ["rule"]
    assert remedy in faults[0].detail


def test_a_rule_is_not_computed_for_a_layer_without_a_beginning() -> None:
    """A layer whose start cannot be right gets that fault alone: its rule has nothing to be counted from."""
    assert fields(schedule.layer_faults(ruled("FREQ=HOURLY", starts_on=date(9000, 1, 1)))) == ["starts_on"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"start_at": NOW.replace(tzinfo=None)}, ["start_at"]),
        ({"end_at": NOW.replace(tzinfo=None)}, ["end_at"]),
        ({"start_at": datetime(1969, 1, 1, tzinfo=UTC)}, ["start_at"]),
        ({"start_at": schedule.LATEST_AT, "end_at": schedule.LATEST_AT + DAY}, ["start_at"]),
        ({"start_at": schedule.LATEST_AT - DAY, "end_at": schedule.LATEST_AT + DAY}, ["end_at"]),
        ({"end_at": NOW}, ["end_at"]),
        ({"end_at": NOW + schedule.OVERRIDE_DAYS_MAX * DAY + timedelta(seconds=1)}, ["end_at"]),
    ],
)
def test_overrides_replacements_and_imported_shifts_keep_to_possible_times(
    changes: dict[str, Any], expected: list[str]
) -> None:
    """Naive, reversed, too early, too late and too long ones are refused, whatever they are."""
    assert fields(schedule.override_faults(replace(OVERRIDE, **changes))) == expected
    assert fields(schedule.replacement_faults(replace(REPLACEMENT, **changes))) == expected
    assert fields(schedule.imported_faults(replace(IMPORTED, **changes))) == expected


def test_a_deputy_of_an_override_stands_beside_somebody_else() -> None:
    """A deputy beside nobody, or beside oneself, is refused."""
    assert fields(schedule.override_faults(replace(OVERRIDE, contact_id=None, deputy_id=B))) == ["deputy_id"]
    assert fields(schedule.override_faults(replace(OVERRIDE, deputy_id=A))) == ["deputy_id"]
    assert fields(schedule.override_faults(replace(OVERRIDE, deputy_id=B))) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"name": " "}, ["name"]),
        ({"layers": ()}, ["layers"]),
        ({"layers": (LAYER, LAYER)}, ["layers"]),
        ({"layers": (replace(LAYER, participants=()),)}, ["layers[0].participants"]),
    ],
)
def test_each_fault_of_a_replacement_names_its_field(changes: dict[str, Any], expected: list[str]) -> None:
    """A replacement needs a name and layers without faults."""
    assert fields(schedule.replacement_faults(replace(REPLACEMENT, **changes))) == expected


def test_more_than_ten_layers_are_refused_in_a_replacement() -> None:
    """The eleventh layer of a replacement is one too many."""
    layers = tuple(replace(LAYER, id=LayerId(UUID(int=200 + n))) for n in range(schedule.LAYERS_MAX + 1))
    assert fields(schedule.replacement_faults(replace(REPLACEMENT, layers=layers))) == ["layers"]


def test_all_contacts_of_a_rota_are_found_wherever_they_stand() -> None:
    """Participants, deputies, stand-ins, their deputies, replacements and calendars all name contacts."""
    people = [ContactId(UUID(int=number)) for number in range(1, 8)]
    subject = replace(
        ROTA,
        layers=(replace(LAYER, participants=(people[0],), deputies=(people[1],)),),
        overrides=(replace(OVERRIDE, contact_id=people[2], deputy_id=people[3]), replace(OVERRIDE, contact_id=None)),
        replacements=(
            replace(REPLACEMENT, layers=(replace(LAYER, participants=(people[4],), deputies=(people[5],)),)),
        ),
        imported=(replace(IMPORTED, contact_id=people[6]),),
    )
    assert schedule.contacts_of(subject) == frozenset(people)


def test_a_rule_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However often a rota is checked, the turns of each of its rules are counted once."""
    counted: list[str] = []

    def turn_faults(rule: str, _first: datetime) -> Iterator[str]:
        counted.append(rule)
        return iter(())

    monkeypatch.setattr(rules, "_turn_faults", turn_faults)
    rules.rule_faults.cache_clear()
    once, twice = "FREQ=WEEKLY;BYDAY=MO,WE", "FREQ=WEEKLY;BYDAY=TU,TH"
    ruled_rota = replace(ROTA, layers=(ruled(once), replace(ruled(twice), id=LayerId(UUID(int=201)))))
    for _ in range(3):
        assert list(schedule.rota_faults(ruled_rota)) == []
    assert counted == [once, twice]
    rules.rule_faults.cache_clear()
