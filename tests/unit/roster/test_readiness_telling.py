"""Who is told of what, when, and never twice."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from services.roster.domain import Contact, ContactPoint, Credential, Partner, PartnerState
from services.roster.readiness.findings import CONFIRMED_FOR, Finding, FindingCode, Grade, Measures, Proof
from services.roster.readiness.telling import (
    NEAR,
    Because,
    News,
    ToldHole,
    chases,
    forgotten,
    holes_to_tell,
    managers_of,
    news,
    next_digest_at,
    next_look_at,
)
from shared.ids import ContactId, ContactPointId, PartnerCode
from shared.vocabulary import ChannelName, CredentialKind, Role, Standing

NOW = datetime(2026, 11, 2, 12, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


def uid(number: int) -> Any:
    """An id by number."""
    return UUID(int=number)


def hole(begins_in: float, ends_in: float, *, rota: int = 1, severity: Grade = Grade.ALARM) -> Finding:
    """A hole, in hours from now."""
    return Finding(FindingCode.UNCOVERED, severity, NOW + begins_in * HOUR, NOW + ends_in * HOUR, rota_id=uid(rota))


def told(begins_in: float, ends_in: float, *, ago: float, rota: int = 1) -> ToldHole:
    """A hole that people were told of so many hours ago."""
    return ToldHole(uid(70), uid(rota), NOW + begins_in * HOUR, NOW + ends_in * HOUR, NOW - ago * HOUR)


def proof(*findings: Finding) -> Proof:
    """A proof with these findings."""
    return Proof(NOW, NOW + timedelta(days=14), findings, Measures(), {})


# --- holes ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("finding", "known", "because"),
    [
        (hole(20, 21), None, Because.NEW),
        (hole(20, 21), told(20, 21, ago=3), None),
        (hole(20, 25), told(20, 21, ago=3), None),
        (hole(19, 21), told(20, 21, ago=1), Because.EARLIER),
        (hole(19.99, 21), told(20, 21, ago=1), None),
        (hole(2, 5), told(2, 5, ago=10), Because.NEAR),
        (hole(2.1, 5), told(2.1, 5, ago=10), None),
        (hole(1, 5), told(1, 5, ago=0.9), None),
        (hole(0, 5), told(-3, 5, ago=4), None),
        (hole(0, 5), told(-3, 5, ago=8), Because.NEAR),
        (hole(20, 21), told(10, 11, ago=3), Because.NEW),
        (hole(20, 21, rota=2), told(20, 21, ago=3), Because.NEW),
    ],
)
def test_a_hole_is_told_once_and_again_when_it_is_earlier_or_near(
    finding: Finding, known: ToldHole | None, because: Because | None
) -> None:
    """Once when it comes within a day, again when it begins earlier, and once more within two hours of it."""
    found = holes_to_tell(proof(finding), [known] if known is not None else [], NOW)
    assert [one.because for one in found] == ([because] if because is not None else [])


def test_a_rota_of_many_holes_is_told_once() -> None:
    """The soonest hole stands for all that were not told yet; they are remembered with it."""
    (found,) = holes_to_tell(proof(hole(1, 2), hole(3, 4), hole(5, 6)), [], NOW)
    assert (found.finding, found.others) == (hole(1, 2), (hole(3, 4), hole(5, 6)))
    fresh = replace(told(1, 1.5, ago=1), id=uid(71))
    known = [fresh, told(1.9, 3, ago=9)]
    assert holes_to_tell(proof(hole(1.9, 3)), known, NOW) == []
    assert len(holes_to_tell(proof(hole(1.9, 3)), [replace(fresh, told_at=NOW - NEAR), known[1]], NOW)) == 1


def test_a_hole_that_is_mended_is_forgotten() -> None:
    """So that it is news when it opens again; one that is a day away again is still the same."""
    known = [told(20, 21, ago=3)]
    assert forgotten(proof(), known) == [uid(70)]
    assert forgotten(proof(hole(20.5, 21, severity=Grade.BLOCKING)), known) == []


def test_the_next_look_is_when_a_hole_becomes_due() -> None:
    """A hole is told when it comes within a day, not at the next full hour."""
    assert next_look_at(proof(hole(24.5, 30)), NOW) == NOW + 0.5 * HOUR
    assert next_look_at(proof(hole(3, 30)), NOW) == NOW + HOUR
    assert next_look_at(proof(hole(1, 2)), NOW) is None
    assert next_look_at(proof(), NOW) is None


# --- the digest -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("zone", ["America/Toronto", "Pacific/Auckland", "Europe/Madrid", "UTC"])
def test_the_digest_is_on_monday_at_nine(zone: str) -> None:
    """By the partner's clock, the next one after any instant, in every week of a year with its clock changes."""
    at = NOW
    for _ in range(60):
        following = next_digest_at(zone, at)
        local = following.astimezone(ZoneInfo(zone))
        assert (local.weekday(), local.hour, local.minute) == (0, 9, 0)
        assert timedelta(0) < following - at <= timedelta(days=7, hours=1)
        assert next_digest_at(zone, following - timedelta(seconds=1)) == following
        at = following


UNVERIFIED = Finding(FindingCode.UNVERIFIED_POINT, Grade.WARNING, NOW, contact_id=uid(5), point_id=uid(6))


@pytest.mark.parametrize(
    ("finding", "known", "expected"),
    [
        (UNVERIFIED, (), News.NEW),
        (UNVERIFIED, (UNVERIFIED,), None),
        (replace(UNVERIFIED, point_id=uid(7)), (UNVERIFIED,), News.NEW),
        (replace(UNVERIFIED, severity=Grade.BLOCKING), (UNVERIFIED,), News.WORSE),
        (replace(UNVERIFIED, begins_at=NOW - HOUR), (UNVERIFIED,), News.WORSE),
        (replace(UNVERIFIED, begins_at=NOW + HOUR), (UNVERIFIED,), None),
        (hole(5, 9), (hole(5, 9),), None),
        (hole(6, 9), (hole(5, 9),), None),
        (hole(4, 9), (hole(5, 9),), News.WORSE),
        (hole(5, 10), (hole(5, 9),), News.WORSE),
        (hole(10, 11), (hole(5, 9),), News.NEW),
        (hole(5, 200), (hole(5, 100),), News.WORSE),
        (hole(5, 250), (hole(5, 168),), None),
    ],
)
def test_only_what_is_new_or_worse_is_news(finding: Finding, known: tuple[Finding, ...], expected: News | None) -> None:
    """Graver, earlier or longer is worse; a hole that reached the last digest's horizon is only seen further."""
    found = list(news([finding], known, NOW + 168 * HOUR))
    assert found == ([(finding, expected)] if expected is not None else [])


def test_managers_are_people_with_the_role() -> None:
    """Systems, revoked credentials, other roles, and people who are no contacts get no digest."""

    def credential(number: int, **other: Any) -> Credential:
        given = {"kind": CredentialKind.PERSON, "roles": (Role.ROSTER_MANAGER,), "contact_id": uid(number)}
        return Credential(client_id=f"c{number}", name="", **(given | other))

    given = [
        credential(3),
        credential(1),
        credential(1),
        credential(4, roles=(Role.DUTY_OFFICER,)),
        credential(5, revoked_at=NOW),
        credential(6, kind=CredentialKind.SYSTEM),
        credential(7, contact_id=None),
    ]
    assert managers_of(given) == (uid(1), uid(3))


# --- asking for confirmation ------------------------------------------------------------------------------------------


def state(*ages_days: float) -> PartnerState:
    """A partner with one contact whose points were confirmed so many days ago."""
    points = tuple(
        ContactPoint(
            ContactPointId(uid(number)), ChannelName.SMS, "+12025550100", confirmed_at=NOW - timedelta(days=days)
        )
        for number, days in enumerate(ages_days)
    )
    partner = Partner(PartnerCode("CA"), "Canada", Standing.MEMBER, "America/Toronto")
    return PartnerState(partner, contacts=(Contact(ContactId(uid(9)), "Ann", points=points),))


@pytest.mark.parametrize(
    ("ages", "stage", "count"),
    [
        ((), None, 0),
        ((75.9,), None, 0),
        ((76,), 14, 1),
        ((86.9, 10), 14, 1),
        ((90,), 0, 1),
        ((87, 86.5), 3, 2),
        ((400, 1), 0, 1),
        ((455.1,), None, 0),
    ],
)
def test_contacts_are_asked_in_three_stages(ages: tuple[float, ...], stage: int | None, count: int) -> None:
    """14 and 3 days before the 90 days of their first point end, and at the end."""
    found = list(chases(state(*ages), NOW))
    assert [(one.days_before, one.count) for one in found] == ([(stage, count)] if stage is not None else [])
    for one in found:
        assert one.expires_at == NOW - timedelta(days=max(ages)) + CONFIRMED_FOR


def test_one_end_hides_no_other() -> None:
    """Who lets one point lapse is asked for the next one in its turn, however long ago the first one ended."""
    found = list(chases(state(500, 120, 80, 79.8, 10), NOW))
    assert [(one.expires_at, one.days_before) for one in found] == [
        (NOW - timedelta(days=30), 0),
        (NOW + timedelta(days=10), 14),
    ]


def test_points_that_nobody_has_confirmed_are_not_chased() -> None:
    """They are unverified, which the digest says; there are no 90 days to end."""
    known = state(100)
    (contact,) = known.contacts
    never = replace(contact, points=tuple(replace(one, confirmed_at=None) for one in contact.points))
    assert list(chases(replace(known, contacts=(never,)), NOW)) == []
