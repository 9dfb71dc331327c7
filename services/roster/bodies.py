"""What roster is sent, and the objects of the domain that it becomes.

The promise: an unknown field is refused. A `…Body` checks types and sizes; what the rules say of the result is raised
as `Invalid` with every fault, by the function that makes it. An id that the caller gives to something new is a UUIDv7,
so that it can never be one that is derived from a key of a network file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, time
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from services.roster import domain, schedule
from services.roster.changes import plain
from services.roster.domain import (
    Contact,
    ContactPoint,
    Credential,
    DutyOffice,
    Endpoint,
    EscalationPolicy,
    Level,
    Partner,
    PartnerState,
    Target,
    TargetKind,
    UrlRule,
)
from services.roster.merging import changed_point
from services.roster.schedule import (
    Frequency,
    Holiday,
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
)
from services.roster.weekdays import Weekday
from shared.contracts import ChannelName, CredentialKind, Deadlines, Precedence, Role, Standing
from shared.errors import FieldError, Invalid
from shared.ids import ContactId, ContactPointId, EndpointId, Ids, OfficeId, RotaId
from shared.web import UtcDateTime

TEXT_CHARACTERS_MAX = 1000
"""More than any text may have; the rules say which may have how much."""

Text = Annotated[str, Field(max_length=TEXT_CHARACTERS_MAX)]
NewId = Annotated[
    UUID | None,
    Field(description="A UUID of version 7 of your own, to know the id beforehand. The same again is safe."),
]


def _wall_time(value: object) -> object:
    if not isinstance(value, str) or len(value) != 5:
        raise ValueError("must be a local time in whole minutes, for example 08:00")
    return value


WallTime = Annotated[time, BeforeValidator(_wall_time)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class PartnerEdit(_Body):
    """Fields to change. `standing` and `active` are an administrator's, all others the partner's own."""

    model_config = ConfigDict(extra="forbid", json_schema_extra={"examples": [{"languages": ["en", "fr"]}]})

    name: Text | None = None
    time_zone: Text | None = None
    languages: Annotated[list[Text], Field(max_length=domain.LANGUAGES_MAX)] | None = None
    iso3: Text | None = None
    m49: Text | None = None
    standing: Standing | None = None
    active: bool | None = None

    @property
    def is_administrative(self) -> bool:
        """Whether it asks for what only an administrator decides."""
        return not self.model_fields_set.isdisjoint({"standing", "active"})

    @property
    def is_own(self) -> bool:
        """Whether it asks for what only the partner decides."""
        return not self.model_fields_set <= {"standing", "active"}


class PointBody(_Body):
    """One way to reach somebody. With the id of one that is there, it keeps what is known of that one."""

    id: UUID | None = Field(default=None, description="The id of a point that is there; leave it out for a new one.")
    channel: ChannelName
    address: Annotated[str, Field(max_length=domain.PUSH_ADDRESS_CHARACTERS_MAX)] = Field(
        default="",
        description="Telephone numbers as +, country code, number. A point that is there keeps its address if this is"
        " left out, or as it is shown when masked; another address has to be verified again.",
        examples=["+16135550123"],
    )
    label: Text | None = None
    delay_seconds: Annotated[int, Field(ge=0, le=domain.DELAY_SECONDS_MAX)] | None = Field(
        default=None,
        description="How long after its level this point is paged: push and SMS at once, voice after 120 s, say. Left"
        " out: as it was, and at once for a new point.",
        examples=[120],
    )


class OfficeBody(_Body):
    """A duty office: an office that answers, not a person."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "Watch Centre",
                    "switchboard": "+16135550100",
                    "embassies": {"AF": "+16135550190"},
                    "points": [{"channel": "voice", "address": "+16135550101", "label": "Duty desk"}],
                }
            ]
        },
    )

    id: NewId = None
    name: Text
    switchboard: Text | None = None
    embassies: Annotated[dict[str, Text], Field(max_length=domain.EMBASSIES_MAX)] = Field(
        default_factory=dict, description="Telephone numbers by ISO 3166-1 alpha-2 code of the country."
    )
    points: Annotated[list[PointBody], Field(max_length=domain.POINTS_MAX)] = Field(default_factory=list)


class ContactBody(_Body):
    """A named person of your government."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "Ann Example",
                    "title": "Duty officer",
                    "languages": ["en", "fr"],
                    "points": [
                        {"channel": "sms", "address": "+16135550123"},
                        {"channel": "voice", "address": "+16135550123", "delay_seconds": 120},
                        {"channel": "email", "address": "ann@canada.example"},
                    ],
                }
            ]
        },
    )

    id: NewId = None
    name: Text
    title: Text = ""
    languages: Annotated[list[Text], Field(max_length=domain.LANGUAGES_MAX)] = Field(default=["en"])
    time_zone: Text | None = Field(
        default=None,
        description="An IANA name, for quiet hours; null: your government's zone. Left out, it stays as it is.",
    )
    points: Annotated[list[PointBody], Field(max_length=domain.POINTS_MAX)] = Field(default_factory=list)


class OwnPointsBody(_Body):
    """All your contact points, in the order of their importance. What is left out is removed."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "points": [
                        {"id": "0191a8c0-0000-7000-8000-000000000004", "channel": "sms"},
                        {"channel": "voice", "address": "+16135550123", "delay_seconds": 120},
                    ]
                }
            ]
        },
    )

    points: Annotated[list[PointBody], Field(max_length=domain.POINTS_MAX)]


class RestrictionBody(_Body):
    """Hours of some weekdays, by the local clock. A night belongs to the weekday on which it begins."""

    weekdays: Annotated[list[Weekday], Field(max_length=len(Weekday))] = Field(
        default_factory=list, description="Left out or empty: every day.", examples=[["mo", "tu", "we", "th", "fr"]]
    )
    from_time: WallTime = Field(examples=["18:00"])
    until_time: WallTime = Field(
        description="Not later than from_time: on the next day. 00:00 to 00:00 is the whole day.", examples=["08:00"]
    )


class LayerBody(_Body):
    """One rotation. A weekly one hands over on the weekday of `starts_on`."""

    id: UUID | None = Field(default=None, description="The id of a layer that is there; leave it out for a new one.")
    name: Text
    rotation: Frequency = Field(description="The unit in which turns are counted; rule: a recurrence rule.")
    every: int = Field(
        default=1,
        ge=1,
        le=max(schedule.EVERY_MAX.values()),
        description="Turns of so many hours (at most 336), days or weeks (at most 52); 1 with a rule.",
    )
    rule: Annotated[str, Field(max_length=schedule.RULE_CHARACTERS_MAX)] | None = Field(
        default=None,
        description="For the rotation rule alone: an RFC 5545 recurrence rule, on each date of which the turn changes.",
        examples=["FREQ=WEEKLY;BYDAY=MO,FR"],
    )
    participants: Annotated[list[UUID], Field(min_length=1, max_length=schedule.PARTICIPANTS_MAX)] = Field(
        description="Contacts, in the order of their turns."
    )
    deputies: Annotated[list[UUID], Field(max_length=schedule.PARTICIPANTS_MAX)] = Field(
        default_factory=list,
        description="Contacts who stand in turn by turn. One who holds the turn gives way to the next.",
    )
    starts_on: date = Field(examples=["2021-08-01"])
    hand_over_time: WallTime = Field(description="Local time in the layer's zone.", examples=["08:00"])
    ends_on: date | None = None
    time_zone: Text | None = Field(
        default=None, description="An IANA name, to follow the sun; null: the rota's zone.", examples=["Asia/Kabul"]
    )
    restrictions: Annotated[list[RestrictionBody], Field(max_length=schedule.RESTRICTIONS_MAX)] = Field(
        default_factory=list, description="The only hours that the layer covers. They never shift its turns."
    )
    on_holidays: OnHolidays = Field(
        default=OnHolidays.ANY, description="Whether the layer covers holidays: as any day, only them, or never."
    )


class HolidayBody(_Body):
    """A day that is free for your government."""

    on: date = Field(examples=["2021-08-19"])
    name: Text = Field(examples=["Independence Day"])


class RotaBody(_Body):
    """An on-call schedule. The first layer that covers an instant answers. Its overrides, its replacements and what
    came from calendars stay as they are.
    """

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "Duty officers",
                    "time_zone": "America/Toronto",
                    "layers": [
                        {
                            "name": "weeks",
                            "rotation": "weekly",
                            "participants": ["0191a8c0-0000-7000-8000-000000000001"],
                            "deputies": ["0191a8c0-0000-7000-8000-000000000005"],
                            "starts_on": "2021-08-02",
                            "hand_over_time": "08:00",
                            "restrictions": [{"weekdays": ["sa", "su"], "from_time": "08:00", "until_time": "20:00"}],
                            "on_holidays": "never",
                        }
                    ],
                    "holiday_calendar": "CA-ON",
                    "extra_holidays": [{"on": "2021-09-30", "name": "Day for Truth and Reconciliation"}],
                    "signs_hand_over": True,
                    "notice_hours": [48, 2],
                }
            ]
        },
    )

    id: NewId = None
    name: Text
    time_zone: Text | None = Field(default=None, description="An IANA name; left out, the partner's own zone.")
    layers: Annotated[list[LayerBody], Field(max_length=schedule.LAYERS_MAX)]
    holiday_calendar: Text | None = Field(
        default=None,
        description="Whose holidays count: a country (CA), a region (CA-QC) or EU. Left out: your own country's, if"
        " there is such a calendar; null: none.",
        examples=["CA-QC"],
    )
    extra_holidays: Annotated[list[HolidayBody], Field(max_length=schedule.EXTRA_HOLIDAYS_MAX)] = Field(
        default_factory=list, description="Free days that are in no calendar. They come before those of the calendar."
    )
    signs_hand_over: bool = Field(
        default=False, description="At each change both are paged until outgoing and incoming have signed."
    )
    notice_hours: Annotated[list[int], Field(max_length=schedule.NOTICES_MAX)] = Field(
        default_factory=lambda: [24],
        description="How many hours before a shift its holder is told; empty: never.",
        examples=[[48, 2]],
    )


class OverrideBody(_Body):
    """Somebody else, or nobody, for a time."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "contact_id": "0191a8c0-0000-7000-8000-000000000001",
                    "start_at": "2021-08-15T06:00:00Z",
                    "end_at": "2021-08-16T06:00:00Z",
                }
            ]
        },
    )

    id: NewId = None
    contact_id: UUID | None = Field(description="Who is on call instead; null means that nobody is.")
    start_at: UtcDateTime
    end_at: UtcDateTime
    deputy_id: UUID | None = Field(
        default=None,
        description="Their deputy. Left out: the deputy beneath stays, unless it is the person who stands in.",
    )


class ReplacementBody(_Body):
    """Other layers in the place of all of a rota's for a time: a summer, a conference, a move."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "name": "Summer",
                    "start_at": "2021-07-01T06:00:00Z",
                    "end_at": "2021-09-01T06:00:00Z",
                    "layers": [
                        {
                            "name": "summer weeks",
                            "rotation": "weekly",
                            "participants": ["0191a8c0-0000-7000-8000-000000000001"],
                            "starts_on": "2021-06-28",
                            "hand_over_time": "08:00",
                        }
                    ],
                }
            ]
        },
    )

    id: NewId = None
    name: Text
    start_at: UtcDateTime
    end_at: UtcDateTime
    layers: Annotated[list[LayerBody], Field(max_length=schedule.LAYERS_MAX)] = Field(
        description="Where they cover nothing, nobody is on call: nothing beneath shows through."
    )


class TargetBody(_Body):
    """Whom a level pages: whoever is on call in a rota or their deputy, one contact, or an office."""

    kind: TargetKind
    id: UUID
    deputy: bool = Field(default=False, description="Of a rota: the deputy of whoever is on call.")


class LevelBody(_Body):
    """One step."""

    targets: Annotated[list[TargetBody], Field(max_length=domain.TARGETS_MAX)]
    wait_seconds: int | None = Field(default=None, ge=1, le=domain.WAIT_SECONDS_MAX)


class PolicyBody(_Body):
    """The levels, in the order in which they are paged. Two at least are wise."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "levels": [
                        {"targets": [{"kind": "rota", "id": "0191a8c0-0000-7000-8000-000000000002"}]},
                        {"targets": [{"kind": "office", "id": "0191a8c0-0000-7000-8000-000000000003"}]},
                    ]
                }
            ]
        },
    )

    levels: Annotated[list[LevelBody], Field(max_length=domain.LEVELS_MAX)]


class EndpointBody(_Body):
    """One of your systems. It receives webhooks that are signed after Standard Webhooks, and needs https."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"url": "https://redphone.canada.example/webhook", "description": "Crisis room"}]
        },
    )

    id: NewId = None
    url: Text
    description: Text = ""


class CredentialBody(_Body):
    """A credential for one person or one system. Its secret is made here and told once."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "client_id": "ca-duty-3",
                    "kind": "person",
                    "roles": ["duty_officer"],
                    "contact_id": "0191a8c0-0000-7000-8000-000000000001",
                }
            ]
        },
    )

    client_id: Text
    kind: CredentialKind
    name: Text = Field(default="", description="Left out, the contact's.")
    roles: Annotated[list[Role], Field(max_length=len(Role))]
    contact_id: UUID | None = Field(default=None, description="The person whom it belongs to, if they are a contact.")


class DeadlinesRow(_Body):
    """The waits of one precedence, in seconds from release."""

    acknowledge_within_seconds: int = Field(ge=1, le=domain.DEADLINE_SECONDS_MAX)
    next_level_every_seconds: int | None = Field(default=None, ge=1, le=domain.DEADLINE_SECONDS_MAX)
    unreached_after_seconds: int = Field(ge=1, le=domain.DEADLINE_SECONDS_MAX)
    position_within_seconds: int = Field(ge=1, le=domain.DEADLINE_SECONDS_MAX)
    read_back: bool = Field(default=False, description="Whether whoever acknowledges also reads the alert back.")


class DeadlinesBody(_Body):
    """The network's table. A precedence that is left out stays as it is."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "deadlines": {
                        "FLASH": {
                            "acknowledge_within_seconds": 600,
                            "next_level_every_seconds": 300,
                            "unreached_after_seconds": 1800,
                            "position_within_seconds": 7200,
                        }
                    }
                }
            ]
        },
    )

    deadlines: Annotated[dict[Precedence, DeadlinesRow], Field(min_length=1)]

    def table(self) -> dict[Precedence, Deadlines]:
        """The table as the domain keeps it."""
        return {precedence: Deadlines(**row.model_dump()) for precedence, row in self.deadlines.items()}


# --- what they become -------------------------------------------------------------------------------------------------


def new_id(given: UUID | None, ids: Ids) -> UUID:
    """The id of something new."""
    if given is None:
        return ids.new()
    if given.version != 7:
        raise Invalid("an id of your own must be a UUID of version 7", field="id")
    return given


def edited_partner(edit: PartnerEdit, partner: Partner) -> Partner:
    """The partner with the fields that were sent; a null only clears what may be absent."""
    sent: dict[str, Any] = {name: getattr(edit, name) for name in edit.model_fields_set}
    nulls = [name for name, value in sent.items() if value is None and name not in ("iso3", "m49")]
    domain.require((FieldError(name, "cannot be null; leave it out to keep it") for name in nulls), _REFUSED)
    if "languages" in sent:
        sent["languages"] = tuple(sent["languages"])
    edited = replace(partner, **sent)
    domain.require(domain.partner_faults(edited), _REFUSED)
    return edited


def office_of(body: OfficeBody, office_id: UUID, state: PartnerState, *, ids: Ids, url_fault: UrlRule) -> DutyOffice:
    """The office that a body describes; points that it names by id keep what is known of them."""
    old = next((office for office in state.offices if office.id == office_id), None)
    office = DutyOffice(
        id=OfficeId(office_id),
        name=body.name,
        switchboard=body.switchboard,
        embassies=tuple(sorted(body.embassies.items())),
        points=_points(body.points, old.points if old is not None else (), ids, url_fault=url_fault),
    )
    domain.require(domain.office_faults(office), _REFUSED)
    return office


def contact_of(body: ContactBody, contact_id: UUID, state: PartnerState, *, ids: Ids, url_fault: UrlRule) -> Contact:
    """The contact that a body describes; points that it names by id keep what is known of them."""
    old = next((contact for contact in state.contacts if contact.id == contact_id), None)
    contact = Contact(
        id=ContactId(contact_id),
        name=body.name,
        title=body.title,
        languages=tuple(body.languages),
        time_zone=old.time_zone if old is not None and "time_zone" not in body.model_fields_set else body.time_zone,
        points=_points(body.points, old.points if old is not None else (), ids, url_fault=url_fault),
    )
    domain.require(domain.contact_faults(contact), _REFUSED)
    return contact


def with_own_points(body: OwnPointsBody, contact: Contact, *, ids: Ids, url_fault: UrlRule) -> Contact:
    """The contact with these points; those that are named by id keep what is known of them."""
    return replace(contact, points=_points(body.points, contact.points, ids, url_fault=url_fault))


def prove_rules(layers: Sequence[LayerBody]) -> None:
    """Finds out what is wrong with the rules of layers, which takes a while, so that whoever asks next knows."""
    for layer in layers:
        rotation = Rotation(layer.rotation, layer.every, layer.rule)
        schedule.layer_rule_faults(rotation, layer.starts_on, layer.hand_over_time)


def rota_of(body: RotaBody, rota_id: UUID, state: PartnerState, *, ids: Ids) -> Rota:
    """The rota that a body describes, with what lies over its layers, which was checked when it was laid there."""
    old = next((rota for rota in state.rotas if rota.id == rota_id), None)
    rota = Rota(
        id=RotaId(rota_id),
        name=body.name,
        time_zone=body.time_zone if body.time_zone is not None else state.partner.time_zone,
        layers=tuple(_layer(layer, ids) for layer in body.layers),
        overrides=old.overrides if old is not None else (),
        replacements=old.replacements if old is not None else (),
        imported=old.imported if old is not None else (),
        holiday_calendar=(
            body.holiday_calendar
            if "holiday_calendar" in body.model_fields_set
            else domain.own_holiday_calendar(state.partner.code)
        ),
        extra_holidays=tuple(Holiday(holiday.on, holiday.name) for holiday in body.extra_holidays),
        signs_hand_over=body.signs_hand_over,
        notice_hours=tuple(body.notice_hours),
    )
    domain.require(schedule.bare_rota_faults(rota), _REFUSED)
    return rota


def _layer(body: LayerBody, ids: Ids) -> Layer:
    return Layer(
        id=LayerId(body.id if body.id is not None else ids.new()),
        name=body.name,
        rotation=Rotation(body.rotation, body.every, body.rule),
        participants=tuple(map(ContactId, body.participants)),
        starts_on=body.starts_on,
        hand_over_time=body.hand_over_time,
        ends_on=body.ends_on,
        deputies=tuple(map(ContactId, body.deputies)),
        time_zone=body.time_zone,
        restrictions=tuple(
            Restriction(one.from_time, one.until_time, tuple(day.iso for day in one.weekdays))
            for one in body.restrictions
        ),
        on_holidays=body.on_holidays,
    )


def replacement_of(body: ReplacementBody, replacement_id: UUID, rota: Rota, *, ids: Ids) -> Replacement:
    """The replacement that a body describes, fit for this rota, whose holidays its layers may ask for."""
    replacement = Replacement(
        id=ReplacementId(replacement_id),
        name=body.name,
        start_at=body.start_at,
        end_at=body.end_at,
        # With ids of their own, because layers that were copied from the rota would bring theirs along.
        layers=tuple(replace(_layer(layer, ids), id=LayerId(ids.new())) for layer in body.layers),
    )
    domain.require(schedule.replacement_faults(replacement), _REFUSED)
    alone = replace(rota, layers=(), overrides=(), imported=(), replacements=(replacement,))
    domain.require(schedule.bare_rota_faults(alone), _REFUSED)
    return replacement


def override_of(body: OverrideBody, override_id: UUID) -> Override:
    """The override that a body describes."""
    contact_id = ContactId(body.contact_id) if body.contact_id is not None else None
    deputy_id = ContactId(body.deputy_id) if body.deputy_id is not None else None
    override = Override(OverrideId(override_id), contact_id, body.start_at, body.end_at, deputy_id)
    domain.require(domain.override_faults(override), _REFUSED)
    return override


def policy_of(body: PolicyBody) -> EscalationPolicy:
    """The policy that a body describes."""
    policy = EscalationPolicy(
        tuple(
            Level(
                tuple(Target(target.kind, target.id, deputy=target.deputy) for target in level.targets),
                level.wait_seconds,
            )
            for level in body.levels
        )
    )
    domain.require(domain.policy_faults(policy), _REFUSED)
    return policy


def endpoint_of(
    body: EndpointBody, endpoint_id: UUID, state: PartnerState, *, now: datetime, url_fault: UrlRule
) -> Endpoint:
    """The endpoint that a body describes."""
    old = next((endpoint for endpoint in state.endpoints if endpoint.id == endpoint_id), None)
    endpoint = Endpoint(
        id=EndpointId(endpoint_id),
        url=body.url,
        description=body.description,
        created_at=old.created_at if old is not None else now,
    )
    domain.require(domain.endpoint_faults(endpoint, url_fault=url_fault), _REFUSED)
    return endpoint


def credential_of(body: CredentialBody) -> Credential:
    """The credential that a body asks for, still without a secret."""
    return Credential(
        client_id=body.client_id,
        kind=body.kind,
        name=body.name,
        roles=tuple(sorted(body.roles)),
        contact_id=ContactId(body.contact_id) if body.contact_id is not None else None,
    )


_REFUSED = "The input is wrong; nothing was changed."


def _points(
    bodies: Sequence[PointBody], old: Sequence[ContactPoint], ids: Ids, *, url_fault: UrlRule
) -> tuple[ContactPoint, ...]:
    known: Mapping[UUID, ContactPoint] = {point.id: point for point in old}
    points: list[ContactPoint] = []
    faults: list[FieldError] = []
    for index, body in enumerate(bodies):
        before = known.get(body.id) if body.id is not None else None
        point_id = before.id if before is not None else ContactPointId(new_id(body.id, ids))
        keeps = before is not None and before.channel is body.channel and body.address in ("", before.masked_address)
        address = before.address if before is not None and keeps else body.address
        if not address or domain.MASK in address:
            detail = "must be given whole for a new point, and for another channel"
            faults.append(FieldError(f"points[{index}].address", detail))
            continue
        delay_seconds = before.delay_seconds if before is not None else 0
        if body.delay_seconds is not None:
            delay_seconds = body.delay_seconds
        point = ContactPoint(point_id, body.channel, address, body.label, delay_seconds=delay_seconds)
        points.append(changed_point(before, point) if before is not None else point)
        found = domain.point_faults(point, url_fault=url_fault)
        faults.extend(FieldError(f"points[{index}].{fault.field}", fault.detail, fault.code) for fault in found)
    if len({point.id for point in points}) < len(points):
        faults.append(FieldError("points", "names the same id twice; name each once"))
    domain.require(faults, _REFUSED)
    return tuple(points)


_FILLED_IN = frozenset({"id", "verified_at", "confirmed_at", "created_at", "overrides", "replacements", "imported"})


def asked(thing: Any) -> Any:
    """What a request said of an object: two requests that say the same make objects of which this is the same."""
    value = plain(thing)
    if isinstance(value, dict):
        return {name: asked(part) for name, part in value.items() if name not in _FILLED_IN}
    return [asked(part) for part in value] if isinstance(value, list) else value
