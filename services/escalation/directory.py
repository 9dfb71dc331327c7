"""Whom to page: a duty plan, read at a moment.

A plan can be missing, expired or unreadable. Then the last known people and the duty office are paged, and the gap is
named, so that raiser and secretariat are told. People and contact points always come from the newest plan at the
moment a level is reached; only levels and waits are fixed when an escalation opens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple
from uuid import UUID

from services.escalation.hand_overs.domain import changes_of
from services.escalation.paging import AT_ONCE, Delays, delays_of, wait_seconds
from shared.carriers import has_two_ways, many_carriers
from shared.contracts import (
    ChannelName,
    DutyPlanPublished,
    Gap,
    LevelTarget,
    PlannedContact,
    PlannedEndpoint,
    PlannedLevel,
    PlannedOffice,
    PlannedPoint,
    Precedence,
)

ALL_CHANNELS: frozenset[ChannelName] = frozenset(ChannelName)


@dataclass(frozen=True, slots=True)
class Target:
    """One contact point that a page goes to. `told` names an office, role or endpoint, never a person."""

    contact_point_id: UUID
    channel: ChannelName
    sealed_address: str
    told: str
    contact_id: UUID | None = None
    delays: Delays = AT_ONCE
    languages: tuple[str, ...] | None = None
    """What the reader understands, the best first; None where a system reads."""
    time_zone: str | None = None
    reply_key: bytes | None = None
    """By which a reply from this address finds its pages."""
    is_single_way: bool = False
    """Its contact has no two channels that share no provider."""

    def wait_seconds(self, precedence: Precedence, now: datetime) -> float | None:
        """How long a page of such an alert waits for this point's turn; None: this point gets none."""
        if self.delays is AT_ONCE and precedence is not Precedence.ROUTINE:
            return 0
        # Somebody is awake at an office at any hour: only a person has a night.
        time_zone = self.time_zone if self.contact_id is not None else None
        return wait_seconds(self.delays, self.channel, time_zone, precedence, now)


class _Shift(NamedTuple):
    """A shift in our own UTC, which compares ten times as fast as a parser's."""

    start_at: datetime
    end_at: datetime
    contact_id: UUID
    deputy_id: UUID | None


class _Unsigned(NamedTuple):
    """A hand-over that not both have signed: from `start_at` to `end_at` the outgoing person is paged, too."""

    start_at: datetime
    end_at: datetime
    outgoing_id: UUID


class _Paged(NamedTuple):
    """Whom a level reaches from `since_at` until before `until_at`."""

    since_at: datetime
    until_at: datetime
    found: tuple[tuple[Target, ...], Gap | None]


_BEGINNING, _END = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


class _Rota(NamedTuple):
    """What is looked up of a rota for every alert."""

    shifts: list[_Shift]
    unsigned: list[_Unsigned]


@dataclass(frozen=True, slots=True)
class Directory:
    """What is known of one partner: its newest readable plan, and office and endpoints as the partner published them.

    `signed` are the ids of the hand-overs that both have signed.

    `readable` is False when the newest plan could not be read, so that `plan` is an older one or None. `channels` are
    those that this installation can send through; a point on another channel cannot ring and is not counted as a way
    to reach. `providers` says who carries each; with one provider in all, no contact can be blamed for having one way.
    """

    plan: DutyPlanPublished | None = None
    readable: bool = True
    office: PlannedOffice | None = None
    endpoints: tuple[PlannedEndpoint, ...] = ()
    channels: frozenset[ChannelName] = ALL_CHANNELS
    languages: tuple[str, ...] = ("en",)
    time_zone: str | None = None
    providers: Mapping[ChannelName, str] = field(default_factory=dict)
    signed: frozenset[UUID] = frozenset()
    reply_key_of: Callable[[PlannedPoint], bytes | None] | None = field(default=None, repr=False, compare=False)
    """Opens a point's address and makes the key of it by which replies are found."""
    _targets_of: dict[UUID | None, dict[UUID, Target]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )
    _rotas: dict[UUID, _Rota] = field(default_factory=dict, init=False, repr=False, compare=False)
    """What is looked up for every alert, kept: contact points by person (None: the office), and each rota's shifts."""
    _paged: dict[int, _Paged] = field(default_factory=dict, init=False, repr=False, compare=False)
    """Whom each of the plan's own levels reaches, by its place, until somebody's turn ends or begins."""
    _systems: list[tuple[Target, ...]] = field(default_factory=list, init=False, repr=False, compare=False)

    def gap(self, now: datetime) -> Gap | None:
        """What is wrong with the plan itself at this moment, or None."""
        if not self.readable:
            return Gap.DUTY_PLAN_UNREADABLE
        if self.plan is None:
            return Gap.NO_DUTY_PLAN
        return Gap.DUTY_PLAN_EXPIRED if now >= self.plan.valid_until else None

    def levels(self) -> tuple[PlannedLevel, ...]:
        """The partner's escalation policy; empty without a plan."""
        return self.plan.levels if self.plan is not None else ()

    def at_level(self, level: PlannedLevel, now: datetime) -> tuple[tuple[Target, ...], Gap | None]:
        """The contact points to page at a level, without repeats, and why there are none if there are none."""
        place = next((number for number, own in enumerate(self.levels()) if own is level), None)
        if place is None:
            return self._found_at(level, now)
        known = self._paged.get(place)
        if known is None or not known.since_at <= now < known.until_at:
            since_at, until_at = self._unchanged(level, now)
            known = self._paged[place] = _Paged(since_at, until_at, self._found_at(level, now))
        return known.found

    def _unchanged(self, level: PlannedLevel, now: datetime) -> tuple[datetime, datetime]:
        """The span around `now` in which nobody's turn at this level begins or ends: `now` is in it."""
        assert self.plan is not None
        instants = [self.plan.valid_from, self.plan.valid_until]
        for target in level.targets:
            if target.kind == "rota":
                rota = self._rota(target.id)
                instants += [at for shift in rota.shifts for at in (shift.start_at, shift.end_at)]
                instants += [at for change in rota.unsigned for at in (change.start_at, change.end_at)]
        since_at = max((at for at in instants if at <= now), default=_BEGINNING)
        return since_at, min((at for at in instants if at > now), default=_END)

    def _found_at(self, level: PlannedLevel, now: datetime) -> tuple[tuple[Target, ...], Gap | None]:
        found: dict[UUID, Target] = {}
        somebody = False
        for target in level.targets:
            for contact in self._contacts(target, now):
                somebody = True
                found.update(self._points_of(contact))
            if target.kind == "office":
                office = self._known_office()
                somebody = somebody or office is not None
                found.update(self._office_points(office))
        if found:
            return tuple(found.values()), None
        return (), Gap.NO_REACHABLE_POINT if somebody else Gap.EMPTY_LEVEL

    def office_targets(self) -> tuple[Target, ...]:
        """The duty office's own contact points."""
        return tuple(self._office_points(self._known_office()).values())

    def on_duty(self, now: datetime) -> tuple[Target, ...]:
        """Whoever is on duty at the first level that has anybody; the duty office where no level has."""
        for level in self.levels():
            targets, _gap = self.at_level(level, now)
            if targets:
                return targets
        return self.office_targets()

    def endpoint_targets(self) -> tuple[Target, ...]:
        """The partner's own systems."""
        if not self._systems:
            self._systems.append(self._found_systems())
        return self._systems[0]

    def _found_systems(self) -> tuple[Target, ...]:
        endpoints = self.plan.endpoints if self.plan is not None else self.endpoints
        if ChannelName.WEBHOOK not in self.channels:
            return ()
        return tuple(
            Target(
                contact_point_id=endpoint.id,
                channel=ChannelName.WEBHOOK,
                sealed_address=endpoint.sealed_url,
                told=f"endpoint {endpoint.description}".strip(),
            )
            for endpoint in endpoints
        )

    def targets_of(self, contact_id: UUID) -> tuple[Target, ...]:
        """The contact points of one person; none of whom the plan does not know."""
        contact = self.contact(contact_id)
        return () if contact is None else tuple(self._points_of(contact).values())

    def every_target(self) -> tuple[Target, ...]:
        """Every contact point of this partner that this installation can send to."""
        contacts = self.plan.contacts if self.plan is not None else ()
        people = (target for contact in contacts for target in self._points_of(contact).values())
        return (*self.endpoint_targets(), *self.office_targets(), *people)

    def contact(self, contact_id: UUID) -> PlannedContact | None:
        """A person of this partner's plan, or None."""
        if self.plan is None:
            return None
        return next((contact for contact in self.plan.contacts if contact.id == contact_id), None)

    def is_on_duty(self, contact_id: UUID, now: datetime) -> bool:
        """Whether this person holds any rota at this moment."""
        if self.plan is None:
            return False
        return any(
            shift.contact_id == contact_id and shift.start_at <= now < shift.end_at
            for rota in self.plan.rotas
            for shift in rota.shifts
        )

    def known_office(self) -> PlannedOffice | None:
        """The duty office: its newest published form."""
        return self._known_office()

    def _known_office(self) -> PlannedOffice | None:
        if self.plan is not None and self.plan.office is not None:
            return self.plan.office
        return self.office

    def _contacts(self, target: LevelTarget, now: datetime) -> Iterable[PlannedContact]:
        if self.plan is None or target.kind == "office":
            return
        if target.kind == "contact":
            contact = self.contact(target.id)
            contacts = [contact] if contact is not None else []
        else:
            paged = self._deputies_of(target.id, now) if target.deputy else self._holders_of(target.id, now)
            found = (self.contact(contact_id) for contact_id in paged)
            contacts = [contact for contact in found if contact is not None]
        yield from contacts

    def _holders_of(self, rota_id: UUID, now: datetime) -> tuple[UUID, ...]:
        """Who holds the rota now: everybody whose shift runs, and whoever has not handed it over yet by both having
        signed, where the rota wants that.
        """
        holding = [shift.contact_id for shift in self._running(rota_id, now)]
        unsigned = self._rota(rota_id).unsigned
        holding += [change.outgoing_id for change in unsigned if change.start_at <= now < change.end_at]
        return tuple(dict.fromkeys(holding))

    def _deputies_of(self, rota_id: UUID, now: datetime) -> tuple[UUID, ...]:
        """Who stands in for those whose shift runs."""
        deputies = [shift.deputy_id for shift in self._running(rota_id, now)]
        return tuple(dict.fromkeys(deputy for deputy in deputies if deputy is not None))

    def _running(self, rota_id: UUID, now: datetime) -> list[_Shift]:
        """Every shift that runs now: they may overlap.

        Outside of the plan's span it is the one that was last, or will be first: a known person is better than none.
        """
        assert self.plan is not None
        shifts = self._rota(rota_id).shifts
        running = [shift for shift in shifts if shift.start_at <= now < shift.end_at]
        if running or not shifts:
            return running
        if now >= self.plan.valid_until:
            return [max(shifts, key=lambda shift: shift.end_at)]
        if now < self.plan.valid_from:
            return [min(shifts, key=lambda shift: shift.start_at)]
        return []

    def _rota(self, rota_id: UUID) -> _Rota:
        if rota_id not in self._rotas:
            assert self.plan is not None
            rota = next((rota for rota in self.plan.rotas if rota.id == rota_id), None)
            shifts = rota.shifts if rota is not None else ()
            changes = changes_of(rota) if rota is not None and rota.signs_hand_over else []
            self._rotas[rota_id] = _Rota(
                [
                    _Shift(
                        shift.start_at.astimezone(UTC),
                        shift.end_at.astimezone(UTC),
                        shift.contact_id,
                        shift.deputy_id,
                    )
                    for shift in shifts
                ],
                [
                    _Unsigned(change.start_at, change.until_at, change.outgoing_id)
                    for change in changes
                    if change.id not in self.signed
                ],
            )
        return self._rotas[rota_id]

    def _points_of(self, contact: PlannedContact) -> dict[UUID, Target]:
        return self._targets(
            contact.points,
            told=contact.title or "contact",
            contact_id=contact.id,
            languages=contact.languages,
            time_zone=contact.time_zone,
        )

    def _office_points(self, office: PlannedOffice | None) -> dict[UUID, Target]:
        if office is None:
            return {}
        return self._targets(office.points, told=office.name, contact_id=None, languages=self.languages, time_zone=None)

    def _targets(
        self,
        points: tuple[PlannedPoint, ...],
        *,
        told: str,
        contact_id: UUID | None,
        languages: tuple[str, ...],
        time_zone: str | None,
    ) -> dict[UUID, Target]:
        if contact_id in self._targets_of:
            return self._targets_of[contact_id]
        usable = [point for point in points if point.channel in self.channels]
        usable.sort(key=lambda point: (not point.verified, point.delay_seconds))
        delays = delays_of(usable)
        channels = (point.channel for point in usable)
        single = many_carriers(self.providers) and not has_two_ways(channels, self.providers)
        self._targets_of[contact_id] = {
            point.id: self._target(
                Target(
                    contact_point_id=point.id,
                    channel=point.channel,
                    sealed_address=point.sealed_address,
                    told=told,
                    contact_id=contact_id,
                    delays=delays[point.id],
                    is_single_way=single,
                ),
                point,
                languages,
                time_zone or self._zone,
            )
            for point in usable
        }
        return self._targets_of[contact_id]

    def _target(self, target: Target, point: PlannedPoint, languages: tuple[str, ...], time_zone: str | None) -> Target:
        """The target with what only a page to a person needs."""
        if point.channel is ChannelName.WEBHOOK:
            return target
        key = None if self.reply_key_of is None else self.reply_key_of(point)
        return replace(target, languages=languages or ("en",), time_zone=time_zone, reply_key=key)

    @property
    def _zone(self) -> str | None:
        return self.plan.time_zone if self.plan is not None else self.time_zone
