"""Who has to be told of what a proof found, given what was told before. Pure.

The cast: a `ToldHole` is a hole that people were warned of; `holes_to_tell` says which ones they hear of now. `news` is
what a digest would say that the last one did not. A `Chase` asks one contact to confirm their points.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from enum import StrEnum
from typing import Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from services.roster import schedule
from services.roster.domain import Contact, PartnerState
from services.roster.readiness.checks import ALARM_WITHIN, confirmed_until
from services.roster.readiness.findings import Finding, FindingCode, Proof
from shared.vocabulary import CredentialKind, Role

NEAR = timedelta(hours=2)
"""Whoever was told of a hole earlier hears of it once more when it is this near."""

EARLIER_BY = timedelta(minutes=1)
"""A hole that moved by less begins when it began."""

DIGEST_WEEKDAY, DIGEST_TIME = 0, time(9)
"""Mondays at nine, by the partner's clock."""

CHASED_BEFORE = (timedelta(days=14), timedelta(days=3), timedelta(0))
"""When a contact is asked to confirm their points, before the 90 days end; the last time when they have ended."""

CHASED_FOR = timedelta(days=365)
"""Nobody is asked about an end that is longer ago."""

ONE_END = timedelta(days=1)
"""Points that end so close to each other were confirmed together, and end as one."""


class Issued(Protocol):
    """What is asked of a credential, as the roster has it or as a row."""

    @property
    def contact_id(self) -> UUID | None:
        """Whose it is."""

    @property
    def kind(self) -> CredentialKind:
        """A person's or a system's."""

    @property
    def roles(self) -> Sequence[Role]:
        """What its holder may do."""

    @property
    def revoked_at(self) -> datetime | None:
        """When it ended."""


def managers_of(credentials: Iterable[Issued]) -> tuple[UUID, ...]:
    """The contacts who keep the roster: those whose own credential, not revoked, has the role."""
    found = {
        one.contact_id
        for one in credentials
        if one.contact_id is not None
        and one.kind == CredentialKind.PERSON
        and one.revoked_at is None
        and Role.ROSTER_MANAGER in one.roles
    }
    return tuple(sorted(found))


# --- holes ------------------------------------------------------------------------------------------------------------


class Because(StrEnum):
    """Why people are told of a hole now."""

    NEW = "new"
    EARLIER = "earlier"
    NEAR = "near"


@dataclass(frozen=True, slots=True)
class ToldHole:
    """A hole that people were told of, as it was then."""

    id: UUID
    rota_id: UUID
    begins_at: datetime
    ends_at: datetime
    told_at: datetime

    def is_about(self, finding: Finding) -> bool:
        """Whether the finding is this hole, however its ends have moved."""
        assert finding.ends_at is not None, "a hole ends, at the latest with the window"
        touches = finding.begins_at <= self.ends_at and self.begins_at <= finding.ends_at
        return finding.rota_id == self.rota_id and touches


@dataclass(frozen=True, slots=True)
class HoleToTell:
    """A hole that people hear of now. `others` are further holes of the same rota that are told with it."""

    finding: Finding
    because: Because
    known: ToldHole | None
    others: tuple[Finding, ...] = ()


def holes_to_tell(proof: Proof, told: Sequence[ToldHole], now: datetime) -> list[HoleToTell]:
    """Each rota's soonest hole that is new, or begins earlier than was told, or is near and was told long ago.

    One notice a rota at a time: a rota of hourly holes has one cause. A hole that comes near after another one of its
    rota was told is passed over for as long as that warning is fresh.
    """
    by_rota: dict[UUID | None, list[HoleToTell]] = defaultdict(list)
    for finding in proof.alarms:
        known = next((one for one in told if one.is_about(finding)), None)
        fresh = any(one.rota_id == finding.rota_id and one.told_at > now - NEAR for one in told)
        because = _because(finding, known, now)
        if because is not None and not (because is Because.NEAR and fresh):
            by_rota[finding.rota_id].append(HoleToTell(finding, because, known))
    return [
        HoleToTell(first.finding, first.because, first.known, tuple(one.finding for one in rest if one.known is None))
        for first, *rest in by_rota.values()
    ]


def _because(finding: Finding, known: ToldHole | None, now: datetime) -> Because | None:
    if known is None:
        return Because.NEW
    was_ahead = known.begins_at > known.told_at
    if was_ahead and finding.begins_at < known.begins_at - EARLIER_BY:
        return Because.EARLIER
    was_far = known.begins_at - known.told_at > NEAR
    return Because.NEAR if was_far and finding.begins_at <= now + NEAR else None


def forgotten(proof: Proof, told: Sequence[ToldHole]) -> list[UUID]:
    """Told holes that are no more: should they open again, that is news."""
    holes = [finding for finding in proof.findings if finding.code is FindingCode.UNCOVERED]
    return [one.id for one in told if not any(one.is_about(finding) for finding in holes)]


def next_look_at(proof: Proof, now: datetime) -> datetime | None:
    """When a hole that is known comes within a day or becomes near; None where none does."""
    begins = [finding.begins_at for finding in proof.findings if finding.code is FindingCode.UNCOVERED]
    instants = [at for begin in begins for at in (begin - ALARM_WITHIN, begin - NEAR) if at > now]
    return min(instants, default=None)


# --- the digest -------------------------------------------------------------------------------------------------------


def next_digest_at(time_zone: str, after_at: datetime) -> datetime:
    """The first Monday, nine o'clock in the partner's zone, after an instant."""
    zone = ZoneInfo(time_zone)
    day = after_at.astimezone(zone).date()
    day += timedelta(days=(DIGEST_WEEKDAY - day.weekday()) % 7)
    at = schedule.hand_over_at(day, DIGEST_TIME, zone)
    return at if at > after_at else schedule.hand_over_at(day + timedelta(days=7), DIGEST_TIME, zone)


class News(StrEnum):
    """What is new about a finding."""

    NEW = "new"
    WORSE = "worse"


def news(
    findings: Iterable[Finding], told: Sequence[Finding], told_until_at: datetime | None
) -> Iterator[tuple[Finding, News]]:
    """What the last digest did not say: findings that were not there, and those that have become worse.

    Worse is graver, or earlier than was said, or longer. A finding that ended with the last digest's window, at
    `told_until_at`, has only been seen further.
    """
    for finding in findings:
        known = [one for one in told if one.is_same(finding)]
        if not known:
            yield finding, News.NEW
        elif _is_worse(finding, known, told_until_at):
            yield finding, News.WORSE


def _is_worse(finding: Finding, known: Sequence[Finding], told_until_at: datetime | None) -> bool:
    if finding.severity.rank < min(one.severity.rank for one in known):
        return True
    if finding.begins_at < min(one.begins_at for one in known) - EARLIER_BY:
        return True
    ends = [one.ends_at for one in known if one.ends_at is not None]
    if finding.ends_at is None or not ends:
        return False
    return max(ends) != told_until_at and finding.ends_at > max(ends) + EARLIER_BY


# --- asking for confirmation ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chase:
    """One contact is asked to confirm: points of theirs end at `expires_at`; `count` end soon or have ended."""

    contact_id: UUID
    expires_at: datetime
    days_before: int
    count: int


def chases(state: PartnerState, now: datetime) -> Iterator[Chase]:
    """Who is to be asked now, for each of their ends at the latest stage that it has come to, the earliest first.

    Each end counts: somebody who never confirms one point is asked for the others all the same.
    """
    for contact in state.contacts:
        yield from _chases_of(contact, now)


def _chases_of(contact: Contact, now: datetime) -> Iterator[Chase]:
    ends = sorted(at.astimezone(UTC) for at in map(confirmed_until, contact.points) if at is not None)
    soon = [at for at in ends if at - CHASED_BEFORE[0] <= now]
    asked_at: datetime | None = None
    for at in soon:
        if at <= now - CHASED_FOR or (asked_at is not None and at - asked_at < ONE_END):
            continue
        asked_at = at
        reached = [before for before in CHASED_BEFORE if at - before <= now]
        yield Chase(contact.id, at, min(reached).days, len(soon))
