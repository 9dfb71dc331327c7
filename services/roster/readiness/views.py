"""What HTTP shows of readiness. Pure.

A partner's own people see each finding in full, addresses masked; the secretariat sees codes, times, levels, offices
and roles, and neither who it is about nor how anybody is reached.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date
from uuid import UUID

from pydantic import BaseModel, Field

from services.roster.domain import Contact, ContactPoint, DutyOffice, PartnerState
from services.roster.readiness.findings import Finding, FindingCode, Grade
from services.roster.readiness.store import DayScore, StoredReadiness, Summary
from services.roster.schedule import Rota
from shared.vocabulary import ChannelName
from shared.web import UtcDateTime


class FindingView(BaseModel):
    """One thing that is wrong in [begins_at, ends_at), why, and what to do about it."""

    code: FindingCode
    severity: Grade = Field(
        description="`alarm`: nobody is on call, within 24 hours. `blocking`: the 14 days are not proven. `warning`: an"
        " alert would be answered, with less to fall back on."
    )
    begins_at: UtcDateTime
    ends_at: UtcDateTime | None = Field(default=None, description="Absent: until somebody acts.")
    level: int | None = Field(default=None, description="The level of the policy, from 1.")
    rota: str | None = Field(default=None, examples=["Duty officers"])
    other_rota: str | None = Field(default=None, description="The second rota of a double duty.")
    office: str | None = None
    title: str | None = Field(default=None, description="The person's role.", examples=["Duty officer"])
    reason: str | None = Field(default=None, description="Why something fails.", examples=["HTTP 500"])
    remedy: str = Field(description="What to do about it.")
    rota_id: UUID | None = Field(default=None, description="This, and what follows, for its own government alone.")
    other_rota_id: UUID | None = None
    contact_id: UUID | None = None
    name: str | None = None
    office_id: UUID | None = None
    point_id: UUID | None = None
    channel: ChannelName | None = None
    address: str | None = Field(default=None, description="Masked.", examples=["+1613•••0101"])
    endpoint_id: UUID | None = None
    endpoint: str | None = Field(default=None, examples=["Crisis desk system"])
    calendar_id: UUID | None = None


class DayScoreView(BaseModel):
    """The score of one day (UTC): the last of it, and the lowest."""

    day: date
    score: int = Field(ge=0, le=100)
    lowest: int = Field(ge=0, le=100)
    alarms: int
    blocking: int
    warnings: int


class ReadinessView(BaseModel):
    """How far the coming 14 days of a partner are proven, and what keeps them from being so."""

    partner: str = Field(examples=["CA"])
    proved_at: UtcDateTime | None = Field(default=None, description="Absent before the first proof.")
    from_at: UtcDateTime | None = None
    to_at: UtcDateTime | None = None
    score: int | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Covered minutes 50, people who can be reached 25, systems 10, deputies 10, order 5; a hole takes"
        " 10 more, one within 24 hours 25.",
    )
    alarms: int
    blocking: int
    warnings: int
    findings: list[FindingView] = Field(description="The worst first.")
    omitted: int = Field(default=0, description="So many more findings are not listed.")
    history: list[DayScoreView] = Field(description="The scores of the days asked for, the oldest first.")


class HoleAheadView(BaseModel):
    """Nobody is on call in [begins_at, ends_at), which begins within 24 hours."""

    rota: str | None = Field(default=None, examples=["Duty officers"])
    begins_at: UtcDateTime
    ends_at: UtcDateTime | None = None


class PartnerReadinessView(BaseModel):
    """One partner's present score and alarms, as the secretariat sees them."""

    partner: str = Field(examples=["CA"])
    office: str | None = None
    proved_at: UtcDateTime | None = None
    score: int | None = Field(default=None, ge=0, le=100)
    alarms: int
    blocking: int
    warnings: int
    holes: list[HoleAheadView] = Field(description="The alarms, the soonest first.")


def bare_view(one: Finding) -> FindingView:
    """A finding for its own government, by ids alone."""
    return FindingView(
        remedy=one.remedy, **{name: getattr(one, name) for name in Finding.__slots__ if name != "office_id"}
    )


def finding_views(findings: Iterable[Finding], state: PartnerState, *, is_owner: bool) -> list[FindingView]:
    """The findings in the words of the partner; for others without ids, names and points."""
    rotas: dict[UUID | None, Rota] = {rota.id: rota for rota in state.rotas}
    contacts: dict[UUID | None, Contact] = {contact.id: contact for contact in state.contacts}
    offices: dict[UUID | None, DutyOffice] = {office.id: office for office in state.offices}
    endpoints: dict[UUID | None, str] = {endpoint.id: endpoint.description for endpoint in state.endpoints}
    owners: tuple[Contact | DutyOffice, ...] = (*state.contacts, *state.offices)
    points: dict[UUID | None, ContactPoint] = {point.id: point for owner in owners for point in owner.points}

    def view(one: Finding) -> FindingView:
        rota, other, office = rotas.get(one.rota_id), rotas.get(one.other_rota_id), offices.get(one.office_id)
        contact, point = contacts.get(one.contact_id), points.get(one.point_id)
        seen = FindingView(
            code=one.code,
            severity=one.severity,
            begins_at=one.begins_at,
            ends_at=one.ends_at,
            level=one.level,
            rota=rota.name if rota is not None else None,
            other_rota=other.name if other is not None else None,
            office=office.name if office is not None else None,
            title=(contact.title or None) if contact is not None else None,
            reason=one.reason,
            remedy=one.remedy,
        )
        if is_owner:
            seen.rota_id, seen.other_rota_id, seen.contact_id = one.rota_id, one.other_rota_id, one.contact_id
            seen.point_id, seen.endpoint_id, seen.calendar_id = one.point_id, one.endpoint_id, one.calendar_id
            seen.office_id = one.office_id
            seen.name = contact.name if contact is not None else None
            seen.channel = point.channel if point is not None else None
            seen.address = point.masked_address if point is not None else None
            seen.endpoint = endpoints.get(one.endpoint_id)
        return seen

    return [view(one) for one in findings]


def readiness_view(
    state: PartnerState, found: StoredReadiness | None, scores: Sequence[DayScore], *, is_owner: bool
) -> ReadinessView:
    """The newest proof of a partner with its history."""
    history = [
        DayScoreView(
            day=one.day,
            score=one.score,
            lowest=one.lowest,
            alarms=one.alarms,
            blocking=one.blocking,
            warnings=one.warnings,
        )
        for one in scores
    ]
    if found is None:
        return ReadinessView(partner=state.partner.code, alarms=0, blocking=0, warnings=0, findings=[], history=history)
    return ReadinessView(
        partner=state.partner.code,
        proved_at=found.proved_at,
        from_at=found.from_at,
        to_at=found.to_at,
        score=found.score,
        alarms=found.alarms,
        blocking=found.blocking,
        warnings=found.warnings,
        findings=finding_views(found.findings, state, is_owner=is_owner),
        omitted=max(0, found.alarms + found.blocking + found.warnings - len(found.findings)),
        history=history,
    )


def summary_view(summary: Summary) -> PartnerReadinessView:
    """One partner for the secretariat."""
    found = summary.readiness
    alarms = [one for one in found.findings if one.severity is Grade.ALARM] if found is not None else []
    return PartnerReadinessView(
        partner=summary.partner,
        office=summary.office,
        proved_at=found.proved_at if found is not None else None,
        score=found.score if found is not None else None,
        alarms=found.alarms if found is not None else 0,
        blocking=found.blocking if found is not None else 0,
        warnings=found.warnings if found is not None else 0,
        holes=[
            HoleAheadView(
                rota=summary.rotas.get(one.rota_id) if one.rota_id is not None else None,
                begins_at=one.begins_at,
                ends_at=one.ends_at,
            )
            for one in alarms
        ],
    )
