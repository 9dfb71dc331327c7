"""What roster answers: each object as its owner sees it, and the little that everybody sees.

The promise: pure. Names, numbers and addresses stand only in the views of what a partner owns, and those are made for
the owner alone; a person's addresses are whole for that person and masked for their colleagues. `partner_view` and
`on_call_view` for others hold an office's name, a role and a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import date, datetime
from enum import StrEnum
from uuid import UUID

from pydantic import BaseModel, Field

from services.roster import schedule
from services.roster.domain import (
    Contact,
    ContactPoint,
    Credential,
    DutyOffice,
    Endpoint,
    EscalationPolicy,
    Partner,
    PartnerState,
    Target,
    TargetKind,
)
from services.roster.hand_overs.domain import CurrentChange, Signatures
from services.roster.handlers import Applied, NewSecret
from services.roster.network import Item, Kind
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
    Shift,
)
from services.roster.seeding import Reason
from services.roster.store import Health
from services.roster.weekdays import Weekday
from services.roster.what_if import Preview
from shared.contracts import ChannelName, CredentialKind, Deadlines, Precedence, Role, Standing
from shared.ids import ContactId, RotaId
from shared.web import UtcDateTime


class PartnerView(BaseModel):
    """A partner as everybody sees it."""

    code: str = Field(examples=["CA"])
    name: str = Field(examples=["Canada"])
    standing: Standing
    time_zone: str = Field(examples=["America/Toronto"])
    languages: list[str] = Field(examples=[["en", "fr"]])
    iso3: str | None = Field(default=None, examples=["CAN"])
    m49: str | None = Field(default=None, examples=["124"])
    active: bool = Field(description="Whether it can be addressed.")
    office: str | None = Field(default=None, description="The office that answers.", examples=["Watch Centre"])


class FailingView(BaseModel):
    """What escalation says of a contact point or endpoint that fails. Trying goes on all the same."""

    since_at: UtcDateTime
    failures: int = Field(description="Failures in a row.")
    reason: str | None = None
    hard: bool = Field(
        default=False, description="True if a provider says for good that nobody can be reached at this address."
    )


class PointView(BaseModel):
    """One way to reach somebody."""

    id: UUID
    channel: ChannelName
    address: str = Field(
        description="A person's is whole for that person alone, and masked for their colleagues.",
        examples=["+16135550123", "+1613•••0123", "a•••@canada.example"],
    )
    label: str | None = None
    delay_seconds: int = Field(default=0, description="How long after its level it is paged.", examples=[120])
    verified_at: UtcDateTime | None = Field(default=None, description="When it was last seen to work.")
    confirmed_at: UtcDateTime | None = Field(default=None, description="When it was last said to be right.")
    failing: FailingView | None = Field(default=None, description="Absent while it works.")


class OfficeView(BaseModel):
    """A duty office, for its own government."""

    id: UUID
    name: str = Field(examples=["Watch Centre"])
    switchboard: str | None = Field(default=None, examples=["+16135550100"])
    embassies: dict[str, str] = Field(description="Telephone numbers by the country that each embassy is in.")
    points: list[PointView]


class ContactView(BaseModel):
    """A person, for their own government."""

    id: UUID
    name: str = Field(examples=["Ann Example"])
    title: str = Field(examples=["Duty officer"])
    languages: list[str]
    time_zone: str | None = Field(default=None, description="Absent: your government's.", examples=["Asia/Kabul"])
    points: list[PointView]


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


class TargetView(BaseModel):
    """Whom a level pages."""

    kind: TargetKind
    id: UUID
    deputy: bool = Field(default=False, description="Of a rota: the deputy of whoever is on call.")


class LevelView(BaseModel):
    """One step of the policy."""

    targets: list[TargetView]
    wait_seconds: int | None = Field(default=None, description="Can only shorten the network's wait after this level.")


class PolicyView(BaseModel):
    """The levels, in the order in which they are paged."""

    levels: list[LevelView]


class EndpointView(BaseModel):
    """One of the partner's own systems, reached by signed webhook."""

    id: UUID
    url: str = Field(examples=["https://redphone.canada.example/webhook"])
    description: str
    created_at: UtcDateTime | None = None
    failing: FailingView | None = Field(default=None, description="Absent while it works.")


class CredentialView(BaseModel):
    """A credential without its secret, which nobody can read again."""

    client_id: str = Field(examples=["ca-duty-1"])
    kind: CredentialKind
    name: str
    roles: list[Role]
    contact_id: UUID | None = None
    subject: str = Field(description="Who stands behind it, as tokens and the record say.")
    revoked_at: UtcDateTime | None = None
    version: int = Field(description="Counts its changes. A token of an older version is refused.")


class SecretView(CredentialView):
    """A credential with its new secret, for the only time."""

    partner: str
    secret: str = Field(description="Shown now and never again.", examples=["rps_…"])


class ItemView(BaseModel):
    """One thing of a network file."""

    kind: Kind
    partner: str | None = Field(default=None, description="Absent for the network's own deadlines.")
    key: str = Field(description="Where it stands in the file.", examples=["partners.CA.contacts.duty-1"])


class LeftAloneView(ItemView):
    """One thing that differs from what is stored and was not written."""

    reason: Reason
    detail: str


class AppliedView(BaseModel):
    """What applying a network file did, or would do."""

    dry_run: bool
    created: list[ItemView]
    updated: list[ItemView]
    unchanged: list[ItemView]
    left_alone: list[LeftAloneView]
    secrets: list[SecretView] = Field(description="Of new credentials. Shown now and never again.")


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


class DeadlinesView(BaseModel):
    """The network's waits by precedence, in seconds from release."""

    deadlines: dict[Precedence, Deadlines]


class Listed(BaseModel):
    """Base of lists that are answered whole: they are bounded by what a partner may own."""


class Offices(Listed):
    """All offices; the first is the one that answers."""

    items: list[OfficeView]


class OwnPoints(Listed):
    """Your own contact points, in the order of their importance."""

    contact_id: UUID
    items: list[PointView]


class Contacts(Listed):
    """All contacts."""

    items: list[ContactView]


class Rotas(Listed):
    """All rotas."""

    items: list[RotaView]


class Overrides(Listed):
    """All overrides of a rota, in the order of their making."""

    items: list[OverrideView]


class Replacements(Listed):
    """All replacements of a rota, in the order of their making."""

    items: list[ReplacementView]


class Endpoints(Listed):
    """All endpoints."""

    items: list[EndpointView]


class Credentials(Listed):
    """All credentials, revoked ones included."""

    items: list[CredentialView]


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


class Written(BaseModel):
    """What a write answers: what was written, and the version of the roster that it made."""

    id: UUID
    version: int = Field(description="The partner's version; the ETag of everything that it owns.")
    preview: PreviewView | None = Field(
        default=None, description="With dry_run alone: what the change would do. The version is then the present one."
    )


Failing = Mapping[UUID, Health]


def partner_view(partner: Partner, office: str | None) -> PartnerView:
    """A partner as everybody sees it."""
    return PartnerView(
        code=partner.code,
        name=partner.name,
        standing=partner.standing,
        time_zone=partner.time_zone,
        languages=list(partner.languages),
        iso3=partner.iso3,
        m49=partner.m49,
        active=partner.active,
        office=office,
    )


def office_view(office: DutyOffice, failing: Failing) -> OfficeView:
    """An office for its owner."""
    return OfficeView(
        id=office.id,
        name=office.name,
        switchboard=office.switchboard,
        embassies=dict(office.embassies),
        points=_points(office.points, failing),
    )


def contact_view(contact: Contact, failing: Failing, reader: UUID | None) -> ContactView:
    """A contact for its government; addresses are whole if the `reader` is this contact."""
    return ContactView(
        id=contact.id,
        name=contact.name,
        title=contact.title,
        languages=list(contact.languages),
        time_zone=contact.time_zone,
        points=_points(contact.points, failing, masked=reader != contact.id),
    )


def own_points_view(contact: Contact, failing: Failing) -> OwnPoints:
    """A contact's points for the contact."""
    return OwnPoints(contact_id=contact.id, items=_points(contact.points, failing))


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
        extra_holidays=_holidays(rota.extra_holidays),
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
                days=_holidays(schedule.holidays_between(replace(rota, extra_holidays=()), from_on, to_on)),
            )
            for calendar, rota in sorted(by_calendar.items())
        ],
        extra=[
            RotaHolidays(
                rota_id=rota.id,
                rota=rota.name,
                days=_holidays(one for one in rota.extra_holidays if from_on <= one.on <= to_on),
            )
            for rota in state.rotas
            if rota.extra_holidays
        ],
    )


def policy_view(policy: EscalationPolicy) -> PolicyView:
    """A policy for its owner."""
    return PolicyView(
        levels=[
            LevelView(
                targets=[TargetView(kind=target.kind, id=target.id, deputy=target.deputy) for target in level.targets],
                wait_seconds=level.wait_seconds,
            )
            for level in policy.levels
        ]
    )


def endpoint_view(endpoint: Endpoint, failing: Failing) -> EndpointView:
    """An endpoint for its owner."""
    return EndpointView(
        id=endpoint.id,
        url=endpoint.url,
        description=endpoint.description,
        created_at=endpoint.created_at,
        failing=_failing(failing.get(endpoint.id)),
    )


def credential_view(credential: Credential) -> CredentialView:
    """A credential without anything of its secret."""
    return CredentialView(
        client_id=credential.client_id,
        kind=credential.kind,
        name=credential.name,
        roles=list(credential.roles),
        contact_id=credential.contact_id,
        subject=credential.subject,
        revoked_at=credential.revoked_at,
        version=credential.version,
    )


def secret_view(made: NewSecret) -> SecretView:
    """A credential with its new secret."""
    return SecretView(**credential_view(made.credential).model_dump(), partner=made.partner, secret=made.secret)


def applied_view(applied: Applied) -> AppliedView:
    """What applying a network file did."""
    return AppliedView(
        dry_run=applied.dry_run,
        created=[_item(change.item) for change in applied.plan.creates],
        updated=[_item(change.item) for change in applied.plan.updates],
        unchanged=[_item(item) for item in applied.plan.unchanged],
        left_alone=[
            LeftAloneView(**_item(left.item).model_dump(), reason=left.reason, detail=left.detail)
            for left in applied.plan.left_alone
        ],
        secrets=[secret_view(made) for made in applied.secrets],
    )


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
                holidays=_holidays(holidays),
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


def _holidays(holidays: Iterable[Holiday]) -> list[HolidayView]:
    return [HolidayView(on=holiday.on, name=holiday.name) for holiday in holidays]


def _item(item: Item) -> ItemView:
    return ItemView(kind=item.kind, partner=item.partner, key=item.key)


def _points(points: Sequence[ContactPoint], failing: Failing, *, masked: bool = False) -> list[PointView]:
    return [
        PointView(
            id=point.id,
            channel=point.channel,
            address=point.masked_address if masked else point.address,
            label=point.label,
            delay_seconds=point.delay_seconds,
            verified_at=point.verified_at,
            confirmed_at=point.confirmed_at,
            failing=_failing(failing.get(point.id)),
        )
        for point in points
    ]


def _failing(health: Health | None) -> FailingView | None:
    if health is None:
        return None
    return FailingView(since_at=health.since_at, failures=health.failures, reason=health.reason, hard=health.hard)


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
