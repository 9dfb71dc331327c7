"""What is wrong with a rota and its parts: everything at once, each with its field and with what would be right."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time, timedelta

from services.roster.checks import NAME_CHARACTERS_MAX, count_faults, inside, shown, text_faults
from services.roster.schedule.instants import is_zone
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
    OVERRIDE_DAYS_MAX,
    OVERRIDES_MAX,
    PARTICIPANTS_MAX,
    REPLACEMENTS_MAX,
    RESTRICTIONS_MAX,
    Frequency,
    Holiday,
    ImportedShift,
    Layer,
    OnHolidays,
    Override,
    Replacement,
    Restriction,
    Rota,
    Rotation,
)
from services.roster.schedule.rules import rule_faults
from shared import holiday_calendars
from shared.errors import FieldError
from shared.ids import ContactId

_ZONE = "is not a known time zone; use an IANA name such as Europe/Madrid"


def rota_faults(rota: Rota) -> Iterator[FieldError]:
    """What is wrong with a rota and all its parts."""
    yield from bare_rota_faults(rota)
    for field, things, limit in (
        ("overrides", rota.overrides, OVERRIDES_MAX),
        ("replacements", rota.replacements, REPLACEMENTS_MAX),
        ("imported", rota.imported, IMPORTED_MAX),
    ):
        yield from count_faults(field, things, limit)
    for index, override in enumerate(rota.overrides[:OVERRIDES_MAX]):
        yield from inside(f"overrides[{index}]", override_faults(override))
    for index, replacement in enumerate(rota.replacements[:REPLACEMENTS_MAX]):
        yield from inside(f"replacements[{index}]", replacement_faults(replacement))
    for index, imported in enumerate(rota.imported[:IMPORTED_MAX]):
        yield from inside(f"imported[{index}]", imported_faults(imported))


def bare_rota_faults(rota: Rota) -> Iterator[FieldError]:
    """What is wrong with a rota itself, and whether what lies over it fits it; each of that was checked by itself."""
    yield from text_faults("name", rota.name, NAME_CHARACTERS_MAX)
    if not is_zone(rota.time_zone):
        yield FieldError("time_zone", _ZONE)
    yield from _holiday_faults(rota)
    yield from _notice_faults(rota.notice_hours)
    yield from count_faults("layers", rota.layers, LAYERS_MAX)
    yield from _layers_faults(rota.layers)
    yield from _unknown_holidays(rota)


def layer_faults(layer: Layer) -> Iterator[FieldError]:
    """What is wrong with a layer."""
    yield from text_faults("name", layer.name, NAME_CHARACTERS_MAX)
    yield from _rotation_faults(layer.rotation)
    if not 1 <= len(layer.participants) <= PARTICIPANTS_MAX:
        yield FieldError("participants", f"must name 1 to {PARTICIPANTS_MAX} contacts")
    yield from count_faults("deputies", layer.deputies, PARTICIPANTS_MAX)
    if not EARLIEST_DATE <= layer.starts_on <= LATEST_DATE:
        yield FieldError("starts_on", f"must lie between {EARLIEST_DATE} and {LATEST_DATE}")
    if not _is_local(layer.hand_over_time):
        yield FieldError("hand_over_time", "must be a local time in whole minutes, without an offset, such as 08:00")
    for detail in layer_rule_faults(layer.rotation, layer.starts_on, layer.hand_over_time):
        yield FieldError("rule", detail)
    if layer.ends_on is not None and not layer.starts_on < layer.ends_on <= LATEST_DATE:
        yield FieldError("ends_on", f"must lie after starts_on and not after {LATEST_DATE}")
    if layer.time_zone is not None and not is_zone(layer.time_zone):
        yield FieldError("time_zone", f"{_ZONE}, or leave it out for the rota's")
    yield from count_faults("restrictions", layer.restrictions, RESTRICTIONS_MAX)
    for index, restriction in enumerate(layer.restrictions[:RESTRICTIONS_MAX]):
        yield from inside(f"restrictions[{index}]", _restriction_faults(restriction))


def layer_rule_faults(rotation: Rotation, starts_on: date, hand_over_time: time) -> tuple[str, ...]:
    """What is wrong with the rule of a layer, if it has one and a beginning by which it could be read."""
    starts = EARLIEST_DATE <= starts_on <= LATEST_DATE
    if rotation.frequency is not Frequency.RULE or not rotation.rule or not starts or not _is_local(hand_over_time):
        return ()
    return rule_faults(rotation.rule, datetime.combine(starts_on, hand_over_time))


def override_faults(override: Override) -> Iterator[FieldError]:
    """What is wrong with an override."""
    yield from _span_faults(override.start_at, override.end_at, "an override")
    if override.deputy_id is not None and override.contact_id is None:
        yield FieldError("deputy_id", "stands beside nobody; name a contact, or leave the deputy out")
    elif override.deputy_id is not None and override.deputy_id == override.contact_id:
        yield FieldError("deputy_id", "is the contact who stands in; name another one, or leave it out")


def replacement_faults(replacement: Replacement) -> Iterator[FieldError]:
    """What is wrong with a replacement and its layers; that it can tell holidays is the rota's to say."""
    yield from text_faults("name", replacement.name, NAME_CHARACTERS_MAX)
    yield from _span_faults(replacement.start_at, replacement.end_at, "a replacement")
    if not 1 <= len(replacement.layers) <= LAYERS_MAX:
        yield FieldError("layers", f"must hold 1 to {LAYERS_MAX} layers; for nobody on call use an override")
    yield from _layers_faults(replacement.layers)


def imported_faults(imported: ImportedShift) -> Iterator[FieldError]:
    """What is wrong with an imported shift."""
    yield from _span_faults(imported.start_at, imported.end_at, "an imported shift")


def contacts_of(rota: Rota) -> frozenset[ContactId]:
    """All contacts that a rota names, in whatever part and as whatever."""
    found: set[ContactId] = {imported.contact_id for imported in rota.imported}
    for layers in (rota.layers, *(replacement.layers for replacement in rota.replacements)):
        for layer in layers:
            found.update(layer.participants, layer.deputies)
    for override in rota.overrides:
        found.update(named for named in (override.contact_id, override.deputy_id) if named is not None)
    return frozenset(found)


def _layers_faults(layers: tuple[Layer, ...]) -> Iterator[FieldError]:
    if len({layer.id for layer in layers}) < len(layers):
        yield FieldError("layers", "names the same layer twice; each layer needs a name of its own")
    for index, layer in enumerate(layers[:LAYERS_MAX]):
        yield from inside(f"layers[{index}]", layer_faults(layer))


def _rotation_faults(rotation: Rotation) -> Iterator[FieldError]:
    every_max = EVERY_MAX.get(rotation.frequency, 1)
    if not 1 <= rotation.every <= every_max:
        remedy = "; how often a rule happens is its INTERVAL" if rotation.frequency is Frequency.RULE else ""
        yield FieldError("every", f"must be {'1' if every_max == 1 else f'1 to {every_max}'}{remedy}")
    if rotation.frequency is Frequency.RULE and not rotation.rule:
        yield FieldError("rule", "is missing; use one such as FREQ=WEEKLY;BYDAY=MO,FR, or another frequency")
    elif rotation.frequency is not Frequency.RULE and rotation.rule is not None:
        yield FieldError("rule", f"goes with the frequency {Frequency.RULE} only; leave it out")


def _restriction_faults(restriction: Restriction) -> Iterator[FieldError]:
    for field, at in (("from_time", restriction.from_time), ("until_time", restriction.until_time)):
        if not _is_local(at):
            yield FieldError(field, "must be a local time in whole minutes, without an offset, such as 17:00")
    if not all(1 <= weekday <= 7 for weekday in restriction.weekdays):
        yield FieldError("weekdays", "names a day that does not exist; use 1 (Monday) to 7 (Sunday)")
    elif len(set(restriction.weekdays)) < len(restriction.weekdays):
        yield FieldError("weekdays", "names the same day twice; name each once")


def _holiday_faults(rota: Rota) -> Iterator[FieldError]:
    if rota.holiday_calendar is not None and not holiday_calendars.is_calendar(rota.holiday_calendar):
        detail = f"is {shown(rota.holiday_calendar)}, of which nothing is known; use one such as CA, CA-QC or EU"
        yield FieldError("holiday_calendar", detail)
    yield from count_faults("extra_holidays", rota.extra_holidays, EXTRA_HOLIDAYS_MAX)
    for index, holiday in enumerate(rota.extra_holidays[:EXTRA_HOLIDAYS_MAX]):
        yield from inside(f"extra_holidays[{index}]", _extra_faults(holiday))
    if len({holiday.on for holiday in rota.extra_holidays}) < len(rota.extra_holidays):
        yield FieldError("extra_holidays", "names the same date twice; name each once")


def _extra_faults(holiday: Holiday) -> Iterator[FieldError]:
    if not EARLIEST_DATE <= holiday.on <= LATEST_DATE:
        yield FieldError("on", f"must lie between {EARLIEST_DATE} and {LATEST_DATE}")
    yield from text_faults("name", holiday.name, NAME_CHARACTERS_MAX)


def _unknown_holidays(rota: Rota) -> Iterator[FieldError]:
    """A layer that asks for holidays in a rota that knows none would cover always or never, without saying so."""
    if rota.holiday_calendar is not None or rota.extra_holidays:
        return
    parts = [("layers", rota.layers)]
    parts += [(f"replacements[{index}].layers", one.layers) for index, one in enumerate(rota.replacements)]
    for field, layers in parts:
        for index, layer in enumerate(layers):
            if layer.on_holidays is not OnHolidays.ANY:
                detail = "asks for holidays, and the rota knows none; give it a holiday_calendar or extra_holidays"
                yield FieldError(f"{field}[{index}].on_holidays", detail)


def _notice_faults(notice_hours: tuple[int, ...]) -> Iterator[FieldError]:
    yield from count_faults("notice_hours", notice_hours, NOTICES_MAX)
    if not all(1 <= hours <= NOTICE_HOURS_MAX for hours in notice_hours):
        yield FieldError("notice_hours", f"must each be 1 to {NOTICE_HOURS_MAX}")
    elif len(set(notice_hours)) < len(notice_hours):
        yield FieldError("notice_hours", "names the same hour twice; name each once")


def _span_faults(start_at: datetime, end_at: datetime, what: str) -> Iterator[FieldError]:
    for field, at in (("start_at", start_at), ("end_at", end_at)):
        if at.tzinfo is None:
            yield FieldError(field, "has no offset; use an instant such as 2026-03-01T08:00:00Z")
            return
    if not EARLIEST_AT <= start_at < LATEST_AT:
        yield FieldError("start_at", f"is too far away; use one from {EARLIEST_DATE} to {LATEST_DATE}")
    elif end_at <= start_at:
        yield FieldError("end_at", "does not lie after start_at; use a later instant")
    elif end_at > LATEST_AT:
        yield FieldError("end_at", f"is too far away; use one until {LATEST_DATE}")
    elif end_at - start_at > timedelta(days=OVERRIDE_DAYS_MAX):
        yield FieldError("end_at", f"is too late; {what} lasts at most {OVERRIDE_DAYS_MAX} days")


def _is_local(at: time) -> bool:
    return not (at.tzinfo or at.second or at.microsecond)
