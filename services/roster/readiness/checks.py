"""Proves the coming 14 days of one partner, or says what keeps them from being proven. Pure.

The promise: shifts come from `schedule.shifts`, which paging and screens use, and what counts as two ways to reach
somebody is the rule that pages are judged by. Nothing that lies behind `now` is found. Looked at are the rotas that a
level names and whoever is on duty there, whom levels name themselves, the offices that answer, and every endpoint; a
double duty is one in any rota.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import chain
from uuid import UUID

from services.roster import schedule
from services.roster.domain import Contact, ContactPoint, DutyOffice, Endpoint, Level, PartnerState, TargetKind
from services.roster.readiness.findings import (
    CONFIRMED_FOR,
    Facts,
    Finding,
    FindingCode,
    Grade,
    Measures,
    Proof,
)
from services.roster.schedule import Rota, Shift
from shared.carriers import has_two_ways, many_carriers
from shared.vocabulary import ChannelName

WINDOW = timedelta(days=14)
ALARM_WITHIN = timedelta(hours=24)
"""A hole that begins no later than this is an alarm."""

POINTS_MIN = 2
"""Procedure: two channels at least that share no provider."""

FIRST_CHECK_WITHIN = timedelta(hours=2)
"""Heartbeats are hourly: an endpoint that none has told of after two was forgotten."""

CHECKED_WITHIN = timedelta(hours=26)
"""What has not changed is told once a day; with two hours for what is late."""

FINDINGS_MAX = 500
"""Kept and shown, the worst first; a roster with more has one cause, not hundreds."""

Span = tuple[datetime, datetime]


def findings_of(state: PartnerState, facts: Facts, now: datetime) -> tuple[Finding, ...]:
    """Everything that keeps the coming 14 days from being proven, the worst and the soonest first."""
    return prove(state, facts, now).findings


def prove(state: PartnerState, facts: Facts, now: datetime) -> Proof:
    """The findings of the coming 14 days, from the minute of `now` on, with what the score is made from."""
    from_at = now.astimezone(UTC).replace(second=0, microsecond=0)
    looked = _Look(state, facts, from_at, now)
    found = sorted(looked.findings(), key=lambda one: (one.severity.rank, one.begins_at, one.code, str(one.what)))
    return Proof(
        from_at=from_at,
        to_at=looked.to_at,
        findings=tuple(found[:FINDINGS_MAX]),
        measures=looked.measures(found),
        counts=Counter(one.severity for one in found),
    )


def confirmed_until(point: ContactPoint) -> datetime | None:
    """When the 90 days of a contact point end; None if nobody has ever verified or confirmed it.

    Who returns a code from a point has said by it that it is right.
    """
    said = [at for at in (point.verified_at, point.confirmed_at) if at is not None]
    return max(said) + CONFIRMED_FOR if said else None


@dataclass(frozen=True, slots=True)
class _Duty:
    """One stretch in which somebody holds a rota, or stands in for its holder."""

    start_at: datetime
    end_at: datetime
    rota_id: UUID
    as_deputy: bool


class _Look:
    """One look at one partner: its shifts are computed once and asked for often."""

    def __init__(self, state: PartnerState, facts: Facts, from_at: datetime, now: datetime) -> None:
        self.state, self.facts, self.from_at, self.soon_at = state, facts, from_at, now + ALARM_WITHIN
        to_at = self.to_at = from_at + WINDOW
        levels = state.policy.levels
        named = {target.id for level in levels for target in level.targets if target.kind is TargetKind.ROTA}
        self.shifts: Mapping[UUID, tuple[Shift, ...]] = {
            rota.id: schedule.shifts(rota, from_at, to_at) for rota in state.rotas
        }
        self.named: tuple[Rota, ...] = tuple(rota for rota in state.rotas if rota.id in named)
        self.holes: Mapping[UUID, tuple[Span, ...]] = {
            rota.id: tuple(
                (gap.start_at, gap.end_at) for gap in schedule.gaps_between(self.shifts[rota.id], from_at, to_at)
            )
            for rota in self.named
        }
        self.on_duty = self._on_duty()
        self.offices = self._offices()
        self.unreached: Mapping[int, tuple[Span, ...]] = {
            number: self._unreached(level) for number, level in enumerate(levels, start=1)
        }

    def findings(self) -> Iterator[Finding]:
        """Everything, in no order."""
        yield from self._of_levels()
        for rota in self.named:
            yield from self._of_coverage(rota)
            yield from self._of_deputies(rota)
        yield from self._of_double_duties()
        for contact, begins_at in self.on_duty:
            yield from self._of_points(contact, begins_at)
        for office in self.offices:
            yield from self._of_points(office, self.from_at)
        for endpoint in self.state.endpoints:
            yield from self._of_endpoint(endpoint)
        yield from self._of_calendars()

    def measures(self, findings: Sequence[Finding]) -> Measures:
        """What the score is made from."""
        blocking = [one for one in findings if one.severity is not Grade.WARNING]
        unsound = {one.contact_id or one.office_id for one in blocking if one.code in _ABOUT_POINTS}
        broken = {one.endpoint_id for one in findings if one.endpoint_id is not None}
        people = [*(contact.id for contact, _ in self.on_duty), *(office.id for office in self.offices)]
        shifts = [shift for rota in self.named for shift in self.shifts[rota.id]]
        return Measures(
            minutes=len(self.named) * _minutes([(self.from_at, self.to_at)]),
            minutes_covered=_minutes((shift.start_at, shift.end_at) for shift in shifts),
            minutes_with_deputy=_minutes((one.start_at, one.end_at) for one in shifts if one.deputy_id is not None),
            people=len(people),
            people_sound=sum(one not in unsound for one in people),
            endpoints=len(self.state.endpoints),
            endpoints_sound=sum(endpoint.id not in broken for endpoint in self.state.endpoints),
            levels=len(self.unreached),
            levels_sound=sum(not spans for spans in self.unreached.values()),
        )

    # --- who is looked at ---

    def _on_duty(self) -> list[tuple[Contact, datetime]]:
        """Whoever is paged within the window, and from when on."""
        first: dict[UUID, datetime] = {}
        for rota in self.named:
            for shift in self.shifts[rota.id]:
                for contact_id in (shift.contact_id, shift.deputy_id):
                    if contact_id is not None:
                        first[contact_id] = min(first.get(contact_id, shift.start_at), shift.start_at)
        for level in self.state.policy.levels:
            first |= {target.id: self.from_at for target in level.targets if target.kind is TargetKind.CONTACT}
        return [(contact, first[contact.id]) for contact in self.state.contacts if contact.id in first]

    def _offices(self) -> list[DutyOffice]:
        """The office that answers when nobody else does, and those that levels name."""
        levels = self.state.policy.levels
        named = {target.id for level in levels for target in level.targets if target.kind is TargetKind.OFFICE}
        return [office for place, office in enumerate(self.state.offices) if place == 0 or office.id in named]

    def _usable(self, points: Iterable[ContactPoint]) -> list[ContactPoint]:
        return [point for point in points if point.channel in self.facts.carriers]

    # --- levels and rotas ---

    def _of_levels(self) -> Iterator[Finding]:
        if not self.state.policy.levels:
            yield Finding(FindingCode.NO_LEVEL, Grade.BLOCKING, self.from_at)
        for number, spans in self.unreached.items():
            for start_at, end_at in spans:
                yield Finding(FindingCode.NOBODY_REACHABLE, Grade.BLOCKING, start_at, end_at, level=number)

    def _unreached(self, level: Level) -> tuple[Span, ...]:
        """When a level pages nobody although its rotas have somebody on call; holes are found by themselves."""
        reaching = {
            owner.id
            for owner in chain[Contact | DutyOffice](self.state.contacts, self.state.offices)
            if self._usable(owner.points)
        }
        spans: list[Span] = []
        for target in level.targets:
            if target.kind is not TargetKind.ROTA:
                if target.id in reaching:
                    return ()
                continue
            spans.extend(
                (shift.start_at, shift.end_at)
                for shift in self.shifts.get(target.id, ())
                if (shift.deputy_id if target.deputy else shift.contact_id) in reaching
            )
            if not target.deputy:
                spans.extend(self.holes.get(target.id, ()))
        return _between(spans, self.from_at, self.to_at)

    def _of_coverage(self, rota: Rota) -> Iterator[Finding]:
        for start_at, end_at in self.holes[rota.id]:
            severity = Grade.ALARM if start_at <= self.soon_at else Grade.BLOCKING
            yield Finding(FindingCode.UNCOVERED, severity, start_at, end_at, rota_id=rota.id)
        shifts = self.shifts[rota.id]
        if not shifts or shifts[-1].end_at == self.to_at or schedule.shifts(rota, self.to_at, self.to_at + WINDOW):
            return
        last = shifts[-1]
        is_imported = last.origin in {shift.id for shift in rota.imported}
        code = FindingCode.CALENDAR_ENDING if is_imported else FindingCode.ROTA_ENDING
        yield Finding(code, Grade.WARNING, last.end_at, rota_id=rota.id)

    def _of_deputies(self, rota: Rota) -> Iterator[Finding]:
        alone = [(shift.start_at, shift.end_at) for shift in self.shifts[rota.id] if shift.deputy_id is None]
        for start_at, end_at in _joined(alone):
            yield Finding(FindingCode.NO_DEPUTY, Grade.WARNING, start_at, end_at, rota_id=rota.id)

    def _of_double_duties(self) -> Iterator[Finding]:
        duties: dict[UUID, list[_Duty]] = defaultdict(list)
        for rota in self.state.rotas:
            for shift in self.shifts[rota.id]:
                duties[shift.contact_id].append(_Duty(shift.start_at, shift.end_at, rota.id, as_deputy=False))
                if shift.deputy_id is not None:
                    duties[shift.deputy_id].append(_Duty(shift.start_at, shift.end_at, rota.id, as_deputy=True))
        for contact_id, own in duties.items():
            for (rota_id, other_rota_id, severity), spans in _overlaps(own).items():
                for start_at, end_at in _joined(spans):
                    yield Finding(
                        FindingCode.DOUBLE_DUTY,
                        severity,
                        start_at,
                        end_at,
                        rota_id=rota_id,
                        other_rota_id=other_rota_id,
                        contact_id=contact_id,
                    )

    def _of_calendars(self) -> Iterator[Finding]:
        named = {rota.id for rota in self.named}
        for calendar in self.facts.calendars:
            if calendar.rota_id in named:
                yield Finding(
                    FindingCode.CALENDAR_ENDING,
                    Grade.WARNING,
                    self.from_at,
                    rota_id=calendar.rota_id,
                    calendar_id=calendar.calendar_id,
                    reason=calendar.reason,
                )

    # --- points and endpoints ---

    def _of_points(self, owner: Contact | DutyOffice, begins_at: datetime) -> Iterator[Finding]:
        """What is wrong with the ways to reach somebody from `begins_at` on.

        One point that is not proven is a warning for whoever has two others that are, by different carriers.
        """
        carriers = self.facts.carriers
        usable = self._usable(owner.points)
        whose = {"office_id": owner.id} if isinstance(owner, DutyOffice) else {"contact_id": owner.id}
        if len(usable) < POINTS_MIN:
            yield Finding(FindingCode.TOO_FEW_POINTS, Grade.BLOCKING, begins_at, **whose)
        elif not self._are_two_ways(usable, carriers):
            yield Finding(FindingCode.ONE_PROVIDER, Grade.BLOCKING, begins_at, **whose)
        proven = [point for point in usable if self._is_proven(point)]
        has_enough = len(proven) >= POINTS_MIN and self._are_two_ways(proven, carriers)
        severity = Grade.WARNING if has_enough else Grade.BLOCKING
        for point in usable:
            until_at = confirmed_until(point)
            if (trouble := self.facts.failing.get(point.id)) is not None:
                yield Finding(
                    FindingCode.FAILING_POINT, severity, begins_at, point_id=point.id, reason=trouble.reason, **whose
                )
            elif point.verified_at is None or until_at is None:
                yield Finding(FindingCode.UNVERIFIED_POINT, severity, begins_at, point_id=point.id, **whose)
            elif until_at < self.to_at:
                is_over = until_at <= self.from_at
                yield Finding(
                    FindingCode.UNCONFIRMED_POINT,
                    severity if is_over else Grade.WARNING,
                    max(begins_at, until_at),
                    point_id=point.id,
                    **whose,
                )

    @staticmethod
    def _are_two_ways(points: Sequence[ContactPoint], carriers: Mapping[ChannelName, str]) -> bool:
        return not many_carriers(carriers) or has_two_ways((point.channel for point in points), carriers)

    def _is_proven(self, point: ContactPoint) -> bool:
        until_at = confirmed_until(point)
        is_fresh = until_at is not None and until_at > self.from_at
        return point.verified_at is not None and is_fresh and point.id not in self.facts.failing

    def _of_endpoint(self, endpoint: Endpoint) -> Iterator[Finding]:
        check, trouble = self.facts.checks.get(endpoint.id), self.facts.failing.get(endpoint.id)
        if trouble is not None or (check is not None and not check.answering):
            reason = trouble.reason if trouble is not None else check.reason if check is not None else None
            yield Finding(
                FindingCode.ENDPOINT_NOT_ANSWERING,
                Grade.BLOCKING,
                self.from_at,
                endpoint_id=endpoint.id,
                reason=reason,
            )
        if check is None:
            known_at = endpoint.created_at
            is_late = known_at is None or known_at + FIRST_CHECK_WITHIN <= self.from_at
        else:
            is_late = check.checked_at + CHECKED_WITHIN <= self.from_at
        if is_late:
            yield Finding(FindingCode.ENDPOINT_UNCHECKED, Grade.WARNING, self.from_at, endpoint_id=endpoint.id)
        ends_at = check.certificate_valid_until if check is not None else None
        if ends_at is not None and ends_at < self.to_at:
            severity = Grade.BLOCKING if ends_at <= self.from_at else Grade.WARNING
            begins_at = max(ends_at, self.from_at)
            yield Finding(FindingCode.CERTIFICATE_ENDING, severity, begins_at, endpoint_id=endpoint.id)


_ABOUT_POINTS = frozenset(
    {
        FindingCode.TOO_FEW_POINTS,
        FindingCode.ONE_PROVIDER,
        FindingCode.UNVERIFIED_POINT,
        FindingCode.UNCONFIRMED_POINT,
        FindingCode.FAILING_POINT,
    }
)


def _overlaps(duties: list[_Duty]) -> dict[tuple[UUID, UUID, Grade], list[Span]]:
    """When two duties of one person run at once, by the rotas that they are in. To stand in is the lesser duty."""
    found: dict[tuple[UUID, UUID, Grade], list[Span]] = defaultdict(list)
    running: list[_Duty] = []
    for duty in sorted(duties, key=lambda one: one.start_at):
        running = [one for one in running if one.end_at > duty.start_at]
        for one in running:
            first, second = sorted((one.rota_id, duty.rota_id))
            severity = Grade.WARNING if one.as_deputy or duty.as_deputy else Grade.BLOCKING
            found[first, second, severity].append((duty.start_at, min(one.end_at, duty.end_at)))
        running.append(duty)
    return found


def _joined(spans: Iterable[Span]) -> list[Span]:
    """The spans in order, those that touch or overlap as one."""
    joined: list[Span] = []
    for start_at, end_at in sorted(spans):
        if joined and start_at <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_at))
        else:
            joined.append((start_at, end_at))
    return joined


def _between(spans: Iterable[Span], from_at: datetime, to_at: datetime) -> tuple[Span, ...]:
    """What the spans leave open of [from_at, to_at)."""
    covered = _joined(spans)
    edges = [from_at, *(edge for span in covered for edge in span), to_at]
    pairs = zip(edges[::2], edges[1::2], strict=True)
    return tuple((start_at, end_at) for start_at, end_at in pairs if start_at < end_at)


def _minutes(spans: Iterable[Span]) -> int:
    return int(sum((end_at - start_at for start_at, end_at in spans), timedelta()) / timedelta(minutes=1))
