"""What roster answers about rotas: layers and what lies over them, what a change would do, who carries what, holidays.

The promise: pure. A rota's own government alone is shown any of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from datetime import date, datetime
from uuid import UUID

from pydantic import BaseModel, Field

from services.roster import schedule
from services.roster.domain import PartnerState
from services.roster.readiness.views import FindingView, bare_view
from services.roster.schedule import (
    Burden,
    Frequency,
    Holiday,
    Layer,
    Load,
    OnHolidays,
    Override,
    Replacement,
    Rota,
)
from services.roster.weekdays import Weekday
from services.roster.what_if import Preview
from shared.web import UtcDateTime


class RestrictionView(BaseModel):
    """Hours of some weekdays that a layer covers."""

    weekdays: list[Weekday] = Field(description="Empty: every day.")
    from_time: str = Field(examples=["18:00"])
    until_time: str = Field(description="Not later than from_time: on the next day.", examples=["08:00"])


class LayerView(BaseModel):
    """One rotation of a rota. `hand_over_time` is local time in the layer's zone."""

    id: UUID
    name: str
    rotation: Frequency
    every: int = Field(description="Turns of so many hours, days or weeks.")
    rule: str | None = Field(default=None, description="The recurrence rule of a rotation by rule.")
    participants: list[UUID] = Field(description="Contacts, in the order of their turns.")
    deputies: list[UUID] = Field(default=[], description="Contacts who stand in, in the order of their turns.")
    starts_on: date
    hand_over_time: str = Field(examples=["08:00"])
    ends_on: date | None = None
    time_zone: str | None = Field(default=None, description="Absent: the rota's zone.", examples=["Asia/Kabul"])
    restrictions: list[RestrictionView] = Field(default=[], description="Empty: all hours.")
    on_holidays: OnHolidays = OnHolidays.ANY


class OverrideView(BaseModel):
    """Replaces whoever would be on call; no contact means that nobody is."""

    id: UUID
    contact_id: UUID | None = None
    start_at: UtcDateTime
    end_at: UtcDateTime
    deputy_id: UUID | None = Field(default=None, description="Absent: the deputy of what lies beneath.")


class ReplacementView(BaseModel):
    """Other layers in the place of all of the rota's for a time."""

    id: UUID
    name: str = Field(examples=["Summer"])
    start_at: UtcDateTime
    end_at: UtcDateTime
    layers: list[LayerView]


class HolidayView(BaseModel):
    """A day that is free, by the rota's own clock."""

    on: date
    name: str = Field(examples=["Independence Day"])


class RotaView(BaseModel):
    """An on-call schedule. The first layer that covers an instant answers; over the layers lies what came from
    calendars, over that replacements, over all overrides, of each the last.
    """

    id: UUID
    name: str = Field(examples=["Duty officers"])
    time_zone: str = Field(examples=["America/Toronto"])
    layers: list[LayerView]
    overrides: list[OverrideView]
    replacements: list[ReplacementView] = []
    imported: int = Field(default=0, description="How many shifts came from your own calendars.")
    holiday_calendar: str | None = Field(default=None, description="Whose holidays count.", examples=["CA-QC"])
    extra_holidays: list[HolidayView] = []
    signs_hand_over: bool = Field(default=False, description="Whether a hand-over is signed by both.")
    notice_hours: list[int] = Field(default=[], description="How many hours before a shift its holder is told.")


class DifferenceView(BaseModel):
    """A stretch of time in which somebody else would hold a rota, or be the holder's deputy; null is nobody."""

    rota_id: UUID
    rota: str = Field(examples=["Duty officers"])
    start_at: UtcDateTime
    end_at: UtcDateTime
    before: UUID | None = None
    after: UUID | None = None
    deputy_before: UUID | None = None
    deputy_after: UUID | None = None


class HoleView(BaseModel):
    """A stretch of time in which nobody would hold a rota."""

    rota_id: UUID
    rota: str
    start_at: UtcDateTime
    end_at: UtcDateTime


class PreviewView(BaseModel):
    """What a change would do to the coming 14 days. Nothing was stored."""

    from_at: UtcDateTime
    to_at: UtcDateTime
    changes: list[DifferenceView]
    omitted: int = Field(default=0, description="So many more changes are not listed.")
    holes_opened: list[HoleView] = Field(description="Where a rota would have nobody any more.")
    holes_closed: list[HoleView] = Field(description="Where a rota would have somebody again.")
    findings_new: list[FindingView] = Field(default=[], description="What readiness would find then, and not now.")
    findings_resolved: list[FindingView] = Field(default=[], description="What readiness would find no more.")


class LoadView(BaseModel):
    """Duty of one kind."""

    hours: float = Field(examples=[120.0])
    nights: int = Field(description="Nights (22:00 to 06:00) with at least an hour of duty.")
    weekend_days: int = Field(description="Saturdays and Sundays with any duty.")
    holidays: int = Field(description="Holidays of the rota with any duty.")


class BurdenView(BaseModel):
    """What one person carries in a rota."""

    contact_id: UUID
    name: str
    title: str
    as_holder: LoadView
    as_deputy: LoadView


class FairnessView(BaseModel):
    """What a rota asks of whom in a window, most hours first. Whoever it names and does not need has zeros."""

    rota_id: UUID
    rota: str
    from_at: UtcDateTime
    to_at: UtcDateTime
    people: list[BurdenView]


class CalendarHolidays(BaseModel):
    """The free days of one calendar."""

    calendar: str = Field(examples=["CA-QC"])
    days: list[HolidayView]


class RotaHolidays(BaseModel):
    """The free days that a rota names itself."""

    rota_id: UUID
    rota: str
    days: list[HolidayView]


class HolidaysView(BaseModel):
    """The holidays of a partner's rotas from one date to another, both included."""

    partner: str
    from_on: date
    to_on: date
    calendars: list[CalendarHolidays]
    extra: list[RotaHolidays]


def rota_view(rota: Rota) -> RotaView:
    """A rota for its owner."""
    return RotaView(
        id=rota.id,
        name=rota.name,
        time_zone=rota.time_zone,
        layers=[_layer(layer) for layer in rota.layers],
        overrides=[override_view(override) for override in rota.overrides],
        replacements=[replacement_view(replacement) for replacement in rota.replacements],
        imported=len(rota.imported),
        holiday_calendar=rota.holiday_calendar,
        extra_holidays=holiday_views(rota.extra_holidays),
        signs_hand_over=rota.signs_hand_over,
        notice_hours=list(rota.notice_hours),
    )


def override_view(override: Override) -> OverrideView:
    """An override for its owner."""
    return OverrideView(
        id=override.id,
        contact_id=override.contact_id,
        start_at=override.start_at,
        end_at=override.end_at,
        deputy_id=override.deputy_id,
    )


def replacement_view(replacement: Replacement) -> ReplacementView:
    """A replacement for its owner."""
    return ReplacementView(
        id=replacement.id,
        name=replacement.name,
        start_at=replacement.start_at,
        end_at=replacement.end_at,
        layers=[_layer(layer) for layer in replacement.layers],
    )


def preview_view(preview: Preview) -> PreviewView:
    """What a change would do, for the owner."""
    return PreviewView(
        from_at=preview.from_at,
        to_at=preview.to_at,
        changes=[DifferenceView(**asdict(one)) for one in preview.changes],
        omitted=preview.omitted,
        holes_opened=[HoleView(**asdict(hole)) for hole in preview.holes_opened],
        holes_closed=[HoleView(**asdict(hole)) for hole in preview.holes_closed],
        findings_new=[bare_view(finding) for finding in preview.findings_new],
        findings_resolved=[bare_view(finding) for finding in preview.findings_resolved],
    )


def fairness_view(
    state: PartnerState, rota: Rota, carried: Sequence[Burden], from_at: datetime, to_at: datetime
) -> FairnessView:
    """What a rota asks of whom, for its owner."""
    contacts = {contact.id: contact for contact in state.contacts}
    idle = sorted(schedule.contacts_of(rota) - {one.contact_id for one in carried})
    burdens = (*carried, *(Burden(contact_id, Load(), Load()) for contact_id in idle))
    return FairnessView(
        rota_id=rota.id,
        rota=rota.name,
        from_at=from_at,
        to_at=to_at,
        people=[
            BurdenView(
                contact_id=one.contact_id,
                name=contacts[one.contact_id].name,
                title=contacts[one.contact_id].title,
                as_holder=LoadView(**asdict(one.as_holder)),
                as_deputy=LoadView(**asdict(one.as_deputy)),
            )
            for one in burdens
        ],
    )


def holidays_view(state: PartnerState, from_on: date, to_on: date) -> HolidaysView:
    """The holidays of all rotas, those of one calendar once; for the owner."""
    by_calendar = {rota.holiday_calendar: rota for rota in reversed(state.rotas) if rota.holiday_calendar is not None}
    return HolidaysView(
        partner=state.partner.code,
        from_on=from_on,
        to_on=to_on,
        calendars=[
            CalendarHolidays(
                calendar=calendar,
                days=holiday_views(schedule.holidays_between(replace(rota, extra_holidays=()), from_on, to_on)),
            )
            for calendar, rota in sorted(by_calendar.items())
        ],
        extra=[
            RotaHolidays(
                rota_id=rota.id,
                rota=rota.name,
                days=holiday_views(one for one in rota.extra_holidays if from_on <= one.on <= to_on),
            )
            for rota in state.rotas
            if rota.extra_holidays
        ],
    )


def holiday_views(holidays: Iterable[Holiday]) -> list[HolidayView]:
    """Holidays with their names."""
    return [HolidayView(on=holiday.on, name=holiday.name) for holiday in holidays]


def _layer(layer: Layer) -> LayerView:
    return LayerView(
        id=layer.id,
        name=layer.name,
        rotation=layer.rotation.frequency,
        every=layer.rotation.every,
        rule=layer.rotation.rule,
        participants=list(layer.participants),
        deputies=list(layer.deputies),
        starts_on=layer.starts_on,
        hand_over_time=layer.hand_over_time.isoformat(timespec="minutes"),
        ends_on=layer.ends_on,
        time_zone=layer.time_zone,
        restrictions=[
            RestrictionView(
                weekdays=[Weekday.of(day) for day in one.weekdays],
                from_time=one.from_time.isoformat(timespec="minutes"),
                until_time=one.until_time.isoformat(timespec="minutes"),
            )
            for one in layer.restrictions
        ],
        on_holidays=layer.on_holidays,
    )
