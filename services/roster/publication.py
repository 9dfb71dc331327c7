"""What roster publishes of one partner: the duty plan, the partner's own data, and its credentials.

The cast: `PartnerState` goes in, events go out. The promise: pure, whole and small enough. Each event carries
everything that its consumers need and replaces the one before it, and the largest state that the rules allow still
fits into a message. Addresses leave only through `seal`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from uuid import UUID

from services.roster import schedule
from services.roster.domain import Contact, ContactPoint, Credential, DutyOffice, Endpoint, PartnerState
from services.roster.hand_overs.domain import with_change_before
from services.roster.schedule import Rota, Shift
from shared.contracts import (
    DEFAULT_DEADLINES,
    CredentialKind,
    CredentialsPublished,
    Deadlines,
    DutyPlanPublished,
    LevelTarget,
    PartnerChanged,
    PlannedContact,
    PlannedEndpoint,
    PlannedLevel,
    PlannedOffice,
    PlannedPoint,
    PlannedRota,
    PlannedShift,
    Precedence,
    PublishedCredential,
)

PLAN_DAYS = 14
PLAN_LEAD = timedelta(hours=1)
"""A plan begins this long before it is computed, so that it answers for a release that was on its way."""

SHIFTS_MAX = 2000
"""Shifts of one plan. Rotas that change hands so often that more would be needed make the plan a shorter one, which is
then renewed sooner; with everything else as large as the rules allow, so many still fit into a message."""

Seal = Callable[[UUID, str], str]
"""Encrypts the address of the contact point or endpoint of this id, so that escalation alone can read it."""


def duty_plan(
    state: PartnerState,
    deadlines: Mapping[Precedence, Deadlines],
    *,
    plan_version: int,
    now: datetime,
    seal: Seal,
    days: int = PLAN_DAYS,
) -> DutyPlanPublished:
    """The plan of one partner for the coming `days`: every rota's shifts, people, office, endpoints, levels, deadlines.

    A precedence that the network says nothing about has its default deadlines. A plan of more than `SHIFTS_MAX` shifts
    ends where that many have begun.
    """
    from_at, to_at = now - PLAN_LEAD, now + timedelta(days=days)
    found = [with_change_before(rota, schedule.shifts(rota, from_at, to_at)) for rota in state.rotas]
    shifts, to_at = _fitting(found, to_at)
    return DutyPlanPublished(
        partner=state.partner.code,
        plan_version=plan_version,
        computed_at=now,
        valid_from=from_at,
        valid_until=to_at,
        time_zone=state.partner.time_zone,
        levels=tuple(
            PlannedLevel(
                targets=tuple(
                    LevelTarget(kind=target.kind.value, id=target.id, deputy=target.deputy) for target in level.targets
                ),
                wait_seconds=level.wait_seconds,
            )
            for level in state.policy.levels
        ),
        rotas=tuple(map(_planned_rota, state.rotas, shifts)),
        contacts=tuple(_planned_contact(contact, state.credentials, seal) for contact in state.contacts),
        office=_planned_office(state.offices, seal),
        endpoints=_planned_endpoints(state.endpoints, seal),
        deadlines={**DEFAULT_DEADLINES, **deadlines},
    )


def partner_changed(state: PartnerState, *, version: int, seal: Seal) -> PartnerChanged:
    """The partner's own data, office and endpoints, whole."""
    partner = state.partner
    return PartnerChanged(
        partner=partner.code,
        version=version,
        name=partner.name,
        standing=partner.standing,
        time_zone=partner.time_zone,
        languages=partner.languages,
        active=partner.active,
        office=_planned_office(state.offices, seal),
        endpoints=_planned_endpoints(state.endpoints, seal),
    )


def credentials_published(state: PartnerState, *, version: int) -> CredentialsPublished:
    """All credentials of the partner, revoked ones included, so that a revocation arrives."""
    return CredentialsPublished(
        partner=state.partner.code,
        version=version,
        credentials=tuple(
            PublishedCredential(
                client_id=credential.client_id,
                kind=credential.kind,
                subject=credential.subject,
                name=credential.name,
                partner=state.partner.code,
                roles=credential.roles,
                contact_id=credential.contact_id,
                secret_sha256=credential.secret_sha256,
                revoked_at=credential.revoked_at,
                version=credential.version,
            )
            for credential in state.credentials
        ),
    )


def _fitting(found: Sequence[tuple[Shift, ...]], to_at: datetime) -> tuple[list[tuple[Shift, ...]], datetime]:
    """The shifts of every rota up to the last instant until which there are not too many, and that instant."""
    beginnings = sorted(shift.start_at for shifts in found for shift in shifts)
    if len(beginnings) > SHIFTS_MAX:
        to_at = beginnings[SHIFTS_MAX]
    cut = [
        tuple(
            shift if shift.end_at <= to_at else replace(shift, end_at=to_at)
            for shift in shifts
            if shift.start_at < to_at
        )
        for shifts in found
    ]
    return cut, to_at


def _planned_rota(rota: Rota, shifts: Sequence[Shift]) -> PlannedRota:
    return PlannedRota(
        id=rota.id,
        name=rota.name,
        shifts=tuple(
            PlannedShift(
                contact_id=shift.contact_id, start_at=shift.start_at, end_at=shift.end_at, deputy_id=shift.deputy_id
            )
            for shift in shifts
        ),
        signs_hand_over=rota.signs_hand_over,
    )


def _planned_contact(contact: Contact, credentials: Sequence[Credential], seal: Seal) -> PlannedContact:
    return PlannedContact(
        id=contact.id,
        name=contact.name,
        title=contact.title,
        languages=contact.languages,
        time_zone=contact.time_zone,
        points=_planned_points(contact.points, seal),
        subjects=tuple(
            sorted(
                {
                    credential.subject
                    for credential in credentials
                    if credential.contact_id == contact.id
                    and credential.kind is CredentialKind.PERSON
                    and credential.revoked_at is None
                }
            )
        ),
    )


def _planned_office(offices: Sequence[DutyOffice], seal: Seal) -> PlannedOffice | None:
    if not offices:
        return None
    office = offices[0]
    return PlannedOffice(
        id=office.id,
        name=office.name,
        switchboard=office.switchboard,
        embassies=office.embassies,
        points=_planned_points(office.points, seal),
    )


def _planned_points(points: Sequence[ContactPoint], seal: Seal) -> tuple[PlannedPoint, ...]:
    return tuple(
        PlannedPoint(
            id=point.id,
            channel=point.channel,
            sealed_address=seal(point.id, point.address),
            verified=point.verified_at is not None,
            label=point.label,
            delay_seconds=point.delay_seconds,
        )
        for point in points
    )


def _planned_endpoints(endpoints: Sequence[Endpoint], seal: Seal) -> tuple[PlannedEndpoint, ...]:
    return tuple(
        PlannedEndpoint(id=endpoint.id, sealed_url=seal(endpoint.id, endpoint.url), description=endpoint.description)
        for endpoint in endpoints
    )
