"""What roster answers about who is on call: at an instant, level by level, and the shifts of a window.

The promise: pure. To others `on_call_view` shows an office's name, a role and a time, and no person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, Field

from services.roster import schedule
from services.roster.domain import (
    Contact,
    PartnerState,
    Target,
    TargetKind,
)
from services.roster.hand_overs.domain import CurrentChange, Signatures
from services.roster.rota_views import HolidayView, holiday_views
from services.roster.schedule import (
    Holiday,
    Rota,
    Shift,
)
from shared.ids import ContactId, RotaId
from shared.web import UtcDateTime


class Origin(StrEnum):
    """What puts somebody on duty."""

    LAYER = "layer"
    REPLACEMENT = "replacement"
    OVERRIDE = "override"
    CALENDAR = "calendar"


class OnCallHandOver(BaseModel):
    """The change from one person to the next. Until both have signed it, both are paged."""

    outgoing_id: UUID
    outgoing: str = Field(description="The name of whoever handed over.")
    start_at: UtcDateTime = Field(description="When the shift of whoever is on call began.")
    outgoing_signed_at: UtcDateTime | None = None
    incoming_signed_at: UtcDateTime | None = None
    signed: bool = Field(description="Whether both have; then only whoever is on call is paged.")


class OnCallTarget(BaseModel):
    """Who is paged: an office, or a person by their role. The name is there for their own government alone."""

    kind: TargetKind
    office: str | None = Field(default=None, examples=["Watch Centre"])
    title: str | None = Field(default=None, description="The person's role.", examples=["Duty officer"])
    until_at: UtcDateTime | None = Field(default=None, description="When the shift ends.")
    nobody: bool = Field(default=False, description="True where a rota has nobody on call: a gap.")
    contact_id: UUID | None = None
    name: str | None = None
    deputy: bool = Field(default=False, description="True where the level pages the deputy of whoever is on call.")
    has_deputy: bool = Field(default=False, description="Whether whoever is on call in a rota has a deputy.")
    deputy_id: UUID | None = Field(default=None, description="The deputy, for their own government alone.")
    deputy_name: str | None = None
    origin: Origin | None = Field(default=None, description="What says so, for their own government alone.")
    hand_over: OnCallHandOver | None = Field(
        default=None, description="Where hand-overs are signed: the last one, for their own government alone."
    )


class OnCallLevel(BaseModel):
    """One level of the policy. A level whose targets are all gaps is skipped at once."""

    level: int = Field(examples=[1])
    targets: list[OnCallTarget]


class OnCallView(BaseModel):
    """Who answers for a partner at an instant."""

    partner: str
    at: UtcDateTime
    levels: list[OnCallLevel]


class ShiftView(BaseModel):
    """One contact on call."""

    contact_id: UUID
    name: str
    title: str
    start_at: UtcDateTime
    end_at: UtcDateTime
    deputy_id: UUID | None = None
    deputy_name: str | None = None
    origin: Origin = Field(default=Origin.LAYER, description="What says so.")
    origin_name: str | None = Field(default=None, description="The name of the layer, and of its replacement.")


class GapView(BaseModel):
    """Nobody is on call."""

    start_at: UtcDateTime
    end_at: UtcDateTime


class RotaShifts(BaseModel):
    """The shifts of one rota, cut at both ends of the window, and the gaps between them."""

    id: UUID
    name: str
    shifts: list[ShiftView]
    gaps: list[GapView]
    time_zone: str = Field(default="UTC", examples=["America/Toronto"])
    holidays: list[HolidayView] = Field(default=[], description="The rota's holidays that touch the window.")


class ShiftsView(BaseModel):
    """The shifts of every rota of a partner."""

    partner: str
    from_at: UtcDateTime
    to_at: UtcDateTime
    rotas: list[RotaShifts]


def on_call_view(
    state: PartnerState,
    on_call: Sequence[Shift | None],
    *,
    at: datetime,
    is_owner: bool,
    signatures: Mapping[CurrentChange, Signatures] | None = None,
) -> OnCallView:
    """Who answers at `at`; `on_call` holds the shifts in the order of the rotas. Names for the owner alone.

    `signatures` are those of the changes that those on call are in, as far as their rotas want them signed.
    """
    changes = {change.rota_id: (change, signed) for change, signed in (signatures or {}).items()}
    contacts = {contact.id: contact for contact in state.contacts}
    shifts = dict(zip((rota.id for rota in state.rotas), zip(state.rotas, on_call, strict=True), strict=True))
    first_office = state.offices[0].name if state.offices else None

    def person(kind: TargetKind, contact: Contact) -> OnCallTarget:
        return OnCallTarget(
            kind=kind,
            office=first_office,
            title=contact.title or None,
            contact_id=contact.id if is_owner else None,
            name=contact.name if is_owner else None,
        )

    def holder(target: Target) -> OnCallTarget:
        rota, shift = shifts.get(RotaId(target.id), (None, None))
        contact_id = None if shift is None else shift.deputy_id if target.deputy else shift.contact_id
        if rota is None or shift is None or contact_id is None:
            return OnCallTarget(kind=target.kind, office=first_office, nobody=True, deputy=target.deputy)
        shown = person(target.kind, contacts[contact_id])
        shown.deputy, shown.until_at, shown.has_deputy = target.deputy, shift.end_at, shift.deputy_id is not None
        if is_owner:
            shown.origin = _origins(rota)[shift.origin][0]
            if shift.deputy_id is not None and not target.deputy:
                shown.deputy_id, shown.deputy_name = shift.deputy_id, contacts[shift.deputy_id].name
            if not target.deputy and rota.id in changes:
                shown.hand_over = _hand_over(*changes[rota.id], contacts)
        return shown

    def shown(target: Target) -> OnCallTarget:
        if target.kind is TargetKind.OFFICE:
            name = next((office.name for office in state.offices if office.id == target.id), first_office)
            return OnCallTarget(kind=target.kind, office=name)
        if target.kind is TargetKind.CONTACT:
            return person(target.kind, contacts[ContactId(target.id)])
        return holder(target)

    levels = [
        OnCallLevel(level=number, targets=[shown(target) for target in level.targets])
        for number, level in enumerate(state.policy.levels, start=1)
    ]
    return OnCallView(partner=state.partner.code, at=at, levels=levels)


def _hand_over(
    change: CurrentChange, signed: Signatures, contacts: Mapping[ContactId, Contact]
) -> OnCallHandOver | None:
    outgoing = contacts.get(ContactId(change.outgoing_id))
    if outgoing is None:
        return None
    return OnCallHandOver(
        outgoing_id=outgoing.id,
        outgoing=outgoing.name,
        start_at=change.start_at,
        outgoing_signed_at=signed.outgoing_at,
        incoming_signed_at=signed.incoming_at,
        signed=signed.both,
    )


def shifts_view(
    state: PartnerState,
    found: Sequence[tuple[Sequence[Shift], Sequence[Holiday]]],
    from_at: datetime,
    to_at: datetime,
) -> ShiftsView:
    """The shifts and holidays of every rota, for the owner; `found` holds them in the order of the rotas."""
    contacts = {contact.id: contact for contact in state.contacts}

    def shown(shift: Shift, origins: Mapping[UUID, tuple[Origin, str | None]]) -> ShiftView:
        contact, deputy_id = contacts[shift.contact_id], shift.deputy_id
        origin, origin_name = origins[shift.origin]
        return ShiftView(
            contact_id=contact.id,
            name=contact.name,
            title=contact.title,
            start_at=shift.start_at,
            end_at=shift.end_at,
            deputy_id=deputy_id,
            deputy_name=contacts[deputy_id].name if deputy_id is not None else None,
            origin=origin,
            origin_name=origin_name,
        )

    return ShiftsView(
        partner=state.partner.code,
        from_at=from_at,
        to_at=to_at,
        rotas=[
            RotaShifts(
                id=rota.id,
                name=rota.name,
                shifts=[shown(shift, origins) for shift in shifts],
                gaps=[
                    GapView(start_at=gap.start_at, end_at=gap.end_at)
                    for gap in schedule.gaps_between(tuple(shifts), from_at, to_at)
                ],
                time_zone=rota.time_zone,
                holidays=holiday_views(holidays),
            )
            for rota, (shifts, holidays) in zip(state.rotas, found, strict=True)
            for origins in (_origins(rota),)
        ],
    )


def _origins(rota: Rota) -> dict[UUID, tuple[Origin, str | None]]:
    """What each thing is that can put somebody on duty, and what it is called."""
    origins: dict[UUID, tuple[Origin, str | None]] = {shift.id: (Origin.CALENDAR, None) for shift in rota.imported}
    origins.update({override.id: (Origin.OVERRIDE, None) for override in rota.overrides})
    origins.update({layer.id: (Origin.LAYER, layer.name) for layer in rota.layers})
    for one in rota.replacements:
        origins.update({layer.id: (Origin.REPLACEMENT, f"{one.name}: {layer.name}") for layer in one.layers})
    return origins
