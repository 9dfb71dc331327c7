"""What stands in a call tree, as JSON: the sheet that everybody has of a partner, and what its own people have.

The promise: pure. `sheet_of` is made of what other governments may know and is given nothing else to others; `own_of`
goes into the edition of that very partner alone. Both speak of the coming fortnight, as the duty plan does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from uuid import UUID
from zoneinfo import ZoneInfo

import pycountry
from pydantic import BaseModel, Field

from services.roster import schedule
from services.roster.domain import Contact, ContactPoint, DutyOffice, PartnerState, Target, TargetKind
from services.roster.schedule import Rota, Shift
from shared.contracts import ChannelName, Standing, Tlp
from shared.ids import ContactId
from shared.web import UtcDateTime

AHEAD = timedelta(days=14)
"""How far the shifts of a call tree reach, and so how long it is valid."""

TELEPHONES = (ChannelName.VOICE, ChannelName.SMS)
NOBODY = "contact"


class Embassy(BaseModel):
    """The number of an embassy in a country."""

    country: str = Field(examples=["AF"])
    country_name: str = Field(examples=["Afghanistan"])
    number: str = Field(examples=["+16135550190"])


class OfficeSheet(BaseModel):
    """A duty office with the numbers that everybody may ring."""

    name: str = Field(examples=["Watch Centre"])
    switchboard: str | None = Field(default=None, examples=["+16135550180"])
    embassies: list[Embassy]


class AskFor(BaseModel):
    """Whom to ask for at a level: an office, or people by their roles. A rota's name is its government's alone."""

    kind: TargetKind
    deputy: bool = Field(default=False, description="True for the deputies of a rota.")
    office: str | None = Field(default=None, examples=["Watch Centre"])
    titles: list[str] = Field(
        description="Roles of those who are on duty in the coming fortnight, in order.", examples=[["Duty officer"]]
    )


class LevelSheet(BaseModel):
    """One level: ring these first, then the next level."""

    level: int = Field(examples=[1])
    ask_for: list[AskFor]


class PartnerSheet(BaseModel):
    """One government as every other may know it."""

    code: str = Field(examples=["CA"])
    name: str = Field(examples=["Canada"])
    standing: Standing
    time_zone: str = Field(examples=["America/Toronto"])
    languages: list[str] = Field(examples=[["en", "fr"]])
    offices: list[OfficeSheet]
    levels: list[LevelSheet]


class Number(BaseModel):
    """A telephone number of your own people."""

    number: str = Field(examples=["+16135550101"])
    label: str | None = None


class Person(BaseModel):
    """One of your own people."""

    name: str = Field(examples=["Ann Example"])
    title: str = Field(examples=["Duty officer"])
    numbers: list[Number]


class OwnTarget(BaseModel):
    """Whom a level rings: an office, a person, or the people of a rota in the order of their shifts."""

    kind: TargetKind
    rota: str | None = None
    deputy: bool = False
    office: str | None = None
    numbers: list[Number] = Field(default_factory=list, description="Of the office.")
    people: list[Person]


class OwnLevel(BaseModel):
    """One level with names and numbers."""

    level: int
    targets: list[OwnTarget]


class OwnShift(BaseModel):
    """One shift; the local times are those of the rota's zone."""

    start_at: UtcDateTime
    end_at: UtcDateTime
    from_local: str = Field(description="`now` for one that is under way.", examples=["Sat 28 Nov 08:00"])
    until_local: str = Field(description="`later` for one that reaches further.", examples=["Sun 29 Nov 08:00"])
    name: str
    title: str
    deputy: str | None = None


class OwnRota(BaseModel):
    """The coming shifts of a rota, and the times at which nobody is on duty."""

    name: str
    time_zone: str
    shifts: list[OwnShift]
    gaps: list[str] = Field(description="Local times without anybody.", examples=[["Sat 28 Nov 08:00 – 12:00"]])


class OwnPart(BaseModel):
    """What only your own people have."""

    levels: list[OwnLevel]
    rotas: list[OwnRota]


class CallTree(BaseModel):
    """A whole call tree."""

    made_at: UtcDateTime
    valid_until: UtcDateTime = Field(description="Shifts are known until then.")
    tlp: Tlp = Tlp.AMBER
    edition: str | None = Field(default=None, description="Whose people's numbers it holds; absent: nobody's.")
    partners: list[PartnerSheet] = Field(description="By their names.")
    own: OwnPart | None = Field(default=None, description="Absent for the secretariat's edition.")


Found = Mapping[UUID, Sequence[Shift]]


def parts_of(state: PartnerState, now: datetime) -> tuple[str, str]:
    """The sheet and the own part of a partner as JSON, from one computation of its shifts. For a process of its own."""
    found: Found = {rota.id: schedule.shifts(rota, now, now + AHEAD) for rota in state.rotas}
    return sheet_of(state, found).model_dump_json(), own_of(state, found, now).model_dump_json()


def sheet_of(state: PartnerState, found: Found) -> PartnerSheet:
    """A partner as every other may know it; `found` holds the shifts of its rotas."""
    partner = state.partner
    return PartnerSheet(
        code=partner.code,
        name=partner.name,
        standing=partner.standing,
        time_zone=partner.time_zone,
        languages=list(partner.languages),
        offices=[_office(office) for office in state.offices],
        levels=[
            LevelSheet(level=number, ask_for=[_ask_for(state, target, found) for target in level.targets])
            for number, level in enumerate(state.policy.levels, start=1)
        ],
    )


def own_of(state: PartnerState, found: Found, now: datetime) -> OwnPart:
    """Levels and shifts with names and numbers, for the partner's own people."""
    return OwnPart(
        levels=[
            OwnLevel(level=number, targets=[_own_target(state, target, found) for target in level.targets])
            for number, level in enumerate(state.policy.levels, start=1)
        ],
        rotas=[_own_rota(state, rota, found.get(rota.id, ()), now) for rota in state.rotas],
    )


def _office(office: DutyOffice) -> OfficeSheet:
    embassies = [
        Embassy(country=country, country_name=country_name(country), number=number)
        for country, number in office.embassies
    ]
    embassies.sort(key=lambda one: one.country_name)
    return OfficeSheet(name=office.name, switchboard=office.switchboard, embassies=embassies)


def _ask_for(state: PartnerState, target: Target, found: Found) -> AskFor:
    office, _rota = _named(state, target)
    titles = [contact.title or NOBODY for contact in _people(state, target, found)]
    return AskFor(
        kind=target.kind,
        deputy=target.deputy,
        office=office.name if office is not None else None,
        titles=list(dict.fromkeys(titles)),
    )


def _own_target(state: PartnerState, target: Target, found: Found) -> OwnTarget:
    office, rota = _named(state, target)
    people = [
        Person(name=contact.name, title=contact.title, numbers=_numbers(contact.points))
        for contact in _people(state, target, found)
    ]
    switchboard = [] if office is None or office.switchboard is None else [Number(number=office.switchboard)]
    return OwnTarget(
        kind=target.kind,
        rota=rota.name if rota is not None else None,
        deputy=target.deputy,
        office=office.name if office is not None else None,
        numbers=[] if office is None else [*switchboard, *_numbers(office.points)],
        people=people,
    )


def _named(state: PartnerState, target: Target) -> tuple[DutyOffice | None, Rota | None]:
    office = next((one for one in state.offices if one.id == target.id), None)
    return office, next((one for one in state.rotas if one.id == target.id), None)


def _people(state: PartnerState, target: Target, found: Found) -> list[Contact]:
    """Whom the target means in the fortnight, each once, in the order in which their turns come."""
    contacts: Mapping[UUID, Contact] = {contact.id: contact for contact in state.contacts}
    wanted: Iterable[ContactId | UUID | None] = (target.id,)
    if target.kind is TargetKind.ROTA:
        shifts = found.get(target.id, ())
        wanted = [shift.deputy_id if target.deputy else shift.contact_id for shift in shifts]
    return [contacts[one] for one in dict.fromkeys(wanted) if one is not None and one in contacts]


def _numbers(points: Iterable[ContactPoint]) -> list[Number]:
    """The telephone numbers among the contact points, each once."""
    numbers: dict[str, Number] = {}
    for point in points:
        if point.channel in TELEPHONES:
            numbers.setdefault(point.address, Number(number=point.address, label=point.label))
    return list(numbers.values())


def _own_rota(state: PartnerState, rota: Rota, shifts: Sequence[Shift], now: datetime) -> OwnRota:
    contacts = {contact.id: contact for contact in state.contacts}
    zone = ZoneInfo(rota.time_zone)
    gaps = schedule.gaps_between(tuple(shifts), now, now + AHEAD)
    return OwnRota(
        name=rota.name,
        time_zone=rota.time_zone,
        shifts=[
            OwnShift(
                start_at=shift.start_at,
                end_at=shift.end_at,
                from_local=local(shift.start_at, zone) if shift.start_at > now else "now",
                until_local=local(shift.end_at, zone) if shift.end_at < now + AHEAD else "later",
                name=contacts[shift.contact_id].name,
                title=contacts[shift.contact_id].title,
                deputy=contacts[shift.deputy_id].name if shift.deputy_id in contacts else None,
            )
            for shift in shifts
        ],
        gaps=[f"{local(gap.start_at, zone)} – {local(gap.end_at, zone)}" for gap in gaps],
    )


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def local(at: datetime, zone: ZoneInfo) -> str:
    """`Sat 28 Nov 08:00`, whatever language the machine speaks."""
    there = at.astimezone(zone)
    return f"{_DAYS[there.weekday()]} {there.day} {_MONTHS[there.month - 1]} {there:%H:%M}"


@lru_cache(maxsize=300)
def country_name(code: str) -> str:
    """The country's common English name; the code itself where there is none."""
    country = pycountry.countries.get(alpha_2=code)
    if country is None:
        return "European Union" if code == "EU" else code
    return str(getattr(country, "common_name", country.name))
