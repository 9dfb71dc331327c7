"""The partners of `bench roster`, as they lie in roster's own database. Pure: a number and a day in, a partner out.

Each has as many contacts as asked for, each of these an SMS, a voice and an email point, and five rotas of the kinds
that governments have: one that follows the sun over three zones, nights and weekends with holidays, eight-hour turns
with deputies, a recurrence rule, and weeks with overrides, a summer and signed hand-overs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta

from bench.network import CODES
from services.roster.domain import (
    Contact,
    ContactPoint,
    Credential,
    DutyOffice,
    EscalationPolicy,
    Level,
    Partner,
    PartnerState,
    Target,
    TargetKind,
)
from services.roster.schedule import (
    Frequency,
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
from shared.contracts import ChannelName, CredentialKind, Role, Standing
from shared.ids import ContactId, ContactPointId, OfficeId, PartnerCode, RotaId, derived
from shared.security import hash_secret

OVERRIDES = 10
BEGUN_DAYS_AGO = 200
"""How long ago the rotas began: as if they had been set up within the year."""

_HOMES = (
    ("America/Toronto", "CA"),
    ("Europe/Paris", "FR"),
    ("Pacific/Auckland", "NZ"),
    ("Europe/Dublin", "IE"),
    ("Asia/Tokyo", "JP"),
    ("Africa/Nairobi", "KE"),
    ("Europe/Berlin", "DE"),
    ("America/Santiago", "CL"),
)
"""Zones, and whose holidays."""

_WORKDAYS, _WEEKEND = (1, 2, 3, 4, 5), (6, 7)


@dataclass(frozen=True, slots=True)
class Government:
    """One partner, as the benchmark made it."""

    state: PartnerState

    @property
    def code(self) -> PartnerCode:
        """The partner's code."""
        return self.state.partner.code

    @property
    def manager(self) -> Credential:
        """The credential of its roster manager."""
        return self.state.credentials[0]


def governments(count: int, contacts: int, now: datetime) -> list[Government]:
    """So many partners with so many contacts each (three at least)."""
    return [_government(CODES[number], number, contacts, now) for number in range(count)]


def _government(code: str, number: int, contacts: int, now: datetime) -> Government:
    zone, calendar = _HOMES[number % len(_HOMES)]
    people = [_contact(code, number, place, now) for place in range(contacts)]
    ids = [contact.id for contact in people]
    office = DutyOffice(
        id=OfficeId(derived(code, "office")),
        name=f"Watch Centre {code}",
        switchboard=f"+1613{number:03d}0000",
        points=(_point(code, "office", ChannelName.VOICE, f"+1613{number:03d}0001", now),),
    )
    rotas = _rotas(code, ids, zone, calendar, now)
    sun, nights, hours, rule, weeks = (rota.id for rota in rotas)
    return Government(
        PartnerState(
            partner=Partner(PartnerCode(code), f"Government {code}", Standing.MEMBER, zone),
            offices=(office,),
            contacts=tuple(people),
            rotas=rotas,
            policy=EscalationPolicy(
                (
                    Level((Target(TargetKind.ROTA, sun), Target(TargetKind.ROTA, nights))),
                    Level((Target(TargetKind.ROTA, hours), Target(TargetKind.ROTA, hours, deputy=True))),
                    Level((Target(TargetKind.ROTA, rule), Target(TargetKind.ROTA, weeks))),
                    Level((Target(TargetKind.CONTACT, ids[0]), Target(TargetKind.OFFICE, office.id))),
                )
            ),
            credentials=(
                Credential(
                    client_id=f"{code.lower()}-roster-manager",
                    kind=CredentialKind.PERSON,
                    name=f"Roster manager of {code}",
                    roles=(Role.ROSTER_MANAGER,),
                    contact_id=ids[0],
                    secret_sha256=hash_secret(f"invented secret of {code}"),
                ),
            ),
        )
    )


def _contact(code: str, number: int, place: int, now: datetime) -> Contact:
    telephone = f"+1613{number:03d}{place + 100:04d}"
    return Contact(
        id=ContactId(derived(code, "contact", str(place))),
        name=f"Invented Officer {place}",
        title="Duty officer",
        languages=("en", "fr"),
        points=(
            _point(code, f"sms {place}", ChannelName.SMS, telephone, now),
            _point(code, f"voice {place}", ChannelName.VOICE, telephone, now),
            _point(code, f"email {place}", ChannelName.EMAIL, f"officer{place}@{code.lower()}.example", now),
        ),
    )


def _point(code: str, name: str, channel: ChannelName, address: str, now: datetime) -> ContactPoint:
    seen_at = now - timedelta(days=30)
    point_id = ContactPointId(derived(code, "point", name))
    return ContactPoint(point_id, channel, address, verified_at=seen_at, confirmed_at=seen_at)


def _rotas(code: str, ids: Sequence[ContactId], zone: str, calendar: str, now: datetime) -> tuple[Rota, ...]:
    begun = now.date() - timedelta(days=BEGUN_DAYS_AGO)
    teams = [tuple(ids[first :: len(_HOMES)]) or tuple(ids[:1]) for first in range(len(_HOMES))]

    def layer(name: str, rota: str, rotation: Rotation, team: int, hand_over: time, **more: object) -> Layer:
        given: dict[str, object] = {"starts_on": _monday(begun), "hand_over_time": hand_over, **more}
        layer_id = LayerId(derived(code, rota, name))
        return Layer(layer_id, name, rotation, teams[team % len(teams)], **given)  # type: ignore[arg-type]

    def rota(name: str, *layers: Layer, **more: object) -> Rota:
        return Rota(RotaId(derived(code, "rota", name)), name, zone, layers, **more)  # type: ignore[arg-type]

    weekly, daily = Rotation(Frequency.WEEKLY), Rotation(Frequency.DAILY)
    morning, evening = time(8), time(18)
    day = Restriction(time(8), time(16))
    nights = Restriction(evening, morning, _WORKDAYS)
    weekend = Restriction(morning, morning, _WEEKEND)
    return (
        rota(
            "Follow the sun",
            layer("Europe", "sun", weekly, 0, morning, time_zone="Europe/Paris", restrictions=(day,)),
            layer("America", "sun", weekly, 1, morning, time_zone="America/Vancouver", restrictions=(day,)),
            layer("Asia", "sun", weekly, 2, morning, time_zone="Asia/Singapore", restrictions=(day,)),
            layer("otherwise", "sun", weekly, 3, morning),
        ),
        rota(
            "Nights and weekends",
            layer("holidays", "nights", daily, 4, morning, on_holidays=OnHolidays.ONLY),
            layer("nights", "nights", daily, 5, evening, restrictions=(nights,), on_holidays=OnHolidays.NEVER),
            layer("weekends", "nights", weekly, 6, morning, restrictions=(weekend,)),
            layer("office hours", "nights", weekly, 7, morning),
            holiday_calendar=calendar,
        ),
        rota("Operations room", layer("eights", "hours", Rotation(Frequency.HOURLY, 8), 1, time(6), deputies=teams[2])),
        rota(
            "Mondays and Fridays",
            layer("halves", "rule", Rotation(Frequency.RULE, rule="FREQ=WEEKLY;BYDAY=MO,FR"), 3, time(9)),
        ),
        rota(
            "Senior officers",
            layer("weeks", "weeks", weekly, 0, morning, deputies=teams[4]),
            overrides=tuple(_override(code, number, ids, now) for number in range(OVERRIDES)),
            replacements=(
                Replacement(
                    ReplacementId(derived(code, "conference")),
                    "Conference",
                    now + timedelta(days=9),
                    now + timedelta(days=11),
                    (layer("conference", "weeks", daily, 6, morning),),
                ),
            ),
            signs_hand_over=True,
            notice_hours=(48, 2),
        ),
    )


def _override(code: str, number: int, ids: Sequence[ContactId], now: datetime) -> Override:
    start_at = now + timedelta(days=number - 3, hours=3 * number)
    override_id = OverrideId(derived(code, "override", str(number)))
    return Override(override_id, ids[(7 * number + 1) % len(ids)], start_at, start_at + timedelta(hours=9))


def _monday(on: date) -> date:
    return on - timedelta(days=on.weekday())
