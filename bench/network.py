"""The partners of a benchmark, as the events by which roster would publish them.

Each partner has one duty officer on a rota, who is paged at level 1 by one webhook: the partner's endpoint. Level 2 is
the duty office, with a webhook of its own. So a release sends exactly one webhook to every endpoint. There are only
674 two-letter codes beside raiser and secretariat; beyond that, officers get further endpoints until there are as many
as asked for.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from shared.contracts import (
    SECRETARIAT,
    ChannelName,
    CredentialKind,
    CredentialsPublished,
    DutyPlanPublished,
    LevelTarget,
    PartnerChanged,
    PlannedContact,
    PlannedLevel,
    PlannedOffice,
    PlannedPoint,
    PlannedRota,
    PlannedShift,
    PublishedCredential,
    Role,
    Standing,
)
from shared.events import Event
from shared.ids import derived
from shared.keys import KeyRing, point_context
from shared.security import hash_secret

RAISER = "CA"
CLIENT_ID = "ca-duty-officer"
PLAN_DAYS = 14
CODES = tuple(
    code
    for code in map("".join, itertools.product(string.ascii_uppercase, repeat=2))
    if code not in {RAISER, SECRETARIAT}
)


@dataclass(frozen=True)
class Partner:
    """One partner and the URLs at which its officer is paged."""

    code: str
    urls: tuple[str, ...]
    office_url: str


def partners(urls: Sequence[str], office_urls: Sequence[str]) -> list[Partner]:
    """As many partners as there are URLs, one each, as far as there are codes; the rest are second endpoints."""
    count = min(len(urls), len(CODES))
    return [
        Partner(code=CODES[number], urls=tuple(urls[number::count]), office_url=office_urls[number])
        for number in range(count)
    ]


def events(listed: Sequence[Partner], keys: KeyRing, secret: str, now: datetime) -> Iterator[Event]:
    """Everything that roster would publish: the raiser with its credential, and every partner with its plan."""
    yield PartnerChanged(
        partner=RAISER, version=1, name="The raiser", standing=Standing.MEMBER, time_zone="America/Toronto"
    )
    yield CredentialsPublished(
        partner=RAISER,
        version=1,
        credentials=(
            PublishedCredential(
                client_id=CLIENT_ID,
                kind=CredentialKind.PERSON,
                subject=CLIENT_ID,
                name="Duty officer",
                partner=RAISER,
                roles=(Role.DUTY_OFFICER, Role.RELEASER),
                secret_sha256=hash_secret(secret),
            ),
        ),
    )
    for partner in listed:
        office = _office(partner, keys)
        yield PartnerChanged(
            partner=partner.code,
            version=1,
            name=f"Partner {partner.code}",
            standing=Standing.MEMBER,
            time_zone="Europe/Amsterdam",
            office=office,
        )
        yield _plan(partner, office, keys, now)


def _plan(partner: Partner, office: PlannedOffice, keys: KeyRing, now: datetime) -> DutyPlanPublished:
    officer, rota = derived(partner.code, "officer"), derived(partner.code, "rota")
    begin = now - timedelta(hours=1)
    shifts = tuple(
        PlannedShift(contact_id=officer, start_at=begin + timedelta(days=day), end_at=begin + timedelta(days=day + 1))
        for day in range(PLAN_DAYS)
    )
    contact = PlannedContact(
        id=officer,
        name="Invented Officer",
        title="duty officer",
        points=tuple(_point(derived(partner.code, url), url, keys) for url in partner.urls),
    )
    return DutyPlanPublished(
        partner=partner.code,
        plan_version=1,
        computed_at=now,
        valid_from=begin,
        valid_until=begin + timedelta(days=PLAN_DAYS),
        time_zone="Europe/Amsterdam",
        levels=(
            PlannedLevel(targets=(LevelTarget(kind="rota", id=rota),)),
            PlannedLevel(targets=(LevelTarget(kind="office", id=office.id),)),
        ),
        rotas=(PlannedRota(id=rota, name="duty", shifts=shifts),),
        contacts=(contact,),
        office=office,
    )


def _office(partner: Partner, keys: KeyRing) -> PlannedOffice:
    return PlannedOffice(
        id=derived(partner.code, "office"),
        name=f"Duty office {partner.code}",
        points=(_point(derived(partner.code, "office", partner.office_url), partner.office_url, keys),),
    )


def _point(point_id: UUID, url: str, keys: KeyRing) -> PlannedPoint:
    sealed = keys.seal(url, context=point_context(point_id))
    return PlannedPoint(id=point_id, channel=ChannelName.WEBHOOK, sealed_address=sealed, verified=True)
