"""What roster answers: each object as its owner sees it, and the little that everybody sees.

The promise: pure. Names, numbers and addresses stand only in the views of what a partner owns, and those are made for
the owner alone; a person's addresses are whole for that person and masked for their colleagues. `partner_view` holds an
office's name and no person. Rotas are in `rota_views`, and who answers in `on_call_views`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from pydantic import BaseModel, Field

from services.roster.domain import (
    Contact,
    ContactPoint,
    Credential,
    DutyOffice,
    Endpoint,
    EscalationPolicy,
    Partner,
    TargetKind,
)
from services.roster.handlers import Applied, NewSecret
from services.roster.network import Item, Kind
from services.roster.rota_views import OverrideView, PreviewView, ReplacementView, RotaView
from services.roster.seeding import Reason
from services.roster.store import Health
from shared.contracts import ChannelName, CredentialKind, Deadlines, Precedence, Role, Standing
from shared.web import UtcDateTime


class PartnerView(BaseModel):
    """A partner as everybody sees it."""

    code: str = Field(examples=["CA"])
    name: str = Field(examples=["Canada"])
    standing: Standing
    time_zone: str = Field(examples=["America/Toronto"])
    languages: list[str] = Field(examples=[["en", "fr"]])
    iso3: str | None = Field(default=None, examples=["CAN"])
    m49: str | None = Field(default=None, examples=["124"])
    active: bool = Field(description="Whether it can be addressed.")
    office: str | None = Field(default=None, description="The office that answers.", examples=["Watch Centre"])


class FailingView(BaseModel):
    """What escalation says of a contact point or endpoint that fails. Trying goes on all the same."""

    since_at: UtcDateTime
    failures: int = Field(description="Failures in a row.")
    reason: str | None = None
    hard: bool = Field(
        default=False, description="True if a provider says for good that nobody can be reached at this address."
    )


class PointView(BaseModel):
    """One way to reach somebody."""

    id: UUID
    channel: ChannelName
    address: str = Field(
        description="A person's is whole for that person alone, and masked for their colleagues.",
        examples=["+16135550123", "+1613•••0123", "a•••@canada.example"],
    )
    label: str | None = None
    delay_seconds: int = Field(default=0, description="How long after its level it is paged.", examples=[120])
    verified_at: UtcDateTime | None = Field(default=None, description="When it was last seen to work.")
    confirmed_at: UtcDateTime | None = Field(default=None, description="When it was last said to be right.")
    failing: FailingView | None = Field(default=None, description="Absent while it works.")


class OfficeView(BaseModel):
    """A duty office, for its own government."""

    id: UUID
    name: str = Field(examples=["Watch Centre"])
    switchboard: str | None = Field(default=None, examples=["+16135550100"])
    embassies: dict[str, str] = Field(description="Telephone numbers by the country that each embassy is in.")
    points: list[PointView]


class ContactView(BaseModel):
    """A person, for their own government."""

    id: UUID
    name: str = Field(examples=["Ann Example"])
    title: str = Field(examples=["Duty officer"])
    languages: list[str]
    time_zone: str | None = Field(default=None, description="Absent: your government's.", examples=["Asia/Kabul"])
    points: list[PointView]


class TargetView(BaseModel):
    """Whom a level pages."""

    kind: TargetKind
    id: UUID
    deputy: bool = Field(default=False, description="Of a rota: the deputy of whoever is on call.")


class LevelView(BaseModel):
    """One step of the policy."""

    targets: list[TargetView]
    wait_seconds: int | None = Field(default=None, description="Can only shorten the network's wait after this level.")


class PolicyView(BaseModel):
    """The levels, in the order in which they are paged."""

    levels: list[LevelView]


class EndpointView(BaseModel):
    """One of the partner's own systems, reached by signed webhook."""

    id: UUID
    url: str = Field(examples=["https://redphone.canada.example/webhook"])
    description: str
    created_at: UtcDateTime | None = None
    failing: FailingView | None = Field(default=None, description="Absent while it works.")


class CredentialView(BaseModel):
    """A credential without its secret, which nobody can read again."""

    client_id: str = Field(examples=["ca-duty-1"])
    kind: CredentialKind
    name: str
    roles: list[Role]
    contact_id: UUID | None = None
    subject: str = Field(description="Who stands behind it, as tokens and the record say.")
    revoked_at: UtcDateTime | None = None
    version: int = Field(description="Counts its changes. A token of an older version is refused.")


class SecretView(CredentialView):
    """A credential with its new secret, for the only time."""

    partner: str
    secret: str = Field(description="Shown now and never again.", examples=["rps_…"])


class ItemView(BaseModel):
    """One thing of a network file."""

    kind: Kind
    partner: str | None = Field(default=None, description="Absent for the network's own deadlines.")
    key: str = Field(description="Where it stands in the file.", examples=["partners.CA.contacts.duty-1"])


class LeftAloneView(ItemView):
    """One thing that differs from what is stored and was not written."""

    reason: Reason
    detail: str


class AppliedView(BaseModel):
    """What applying a network file did, or would do."""

    dry_run: bool
    created: list[ItemView]
    updated: list[ItemView]
    unchanged: list[ItemView]
    left_alone: list[LeftAloneView]
    secrets: list[SecretView] = Field(description="Of new credentials. Shown now and never again.")


class DeadlinesView(BaseModel):
    """The network's waits by precedence, in seconds from release."""

    deadlines: dict[Precedence, Deadlines]


class Listed(BaseModel):
    """Base of lists that are answered whole: they are bounded by what a partner may own."""


class Offices(Listed):
    """All offices; the first is the one that answers."""

    items: list[OfficeView]


class OwnPoints(Listed):
    """Your own contact points, in the order of their importance."""

    contact_id: UUID
    items: list[PointView]


class Contacts(Listed):
    """All contacts."""

    items: list[ContactView]


class Rotas(Listed):
    """All rotas."""

    items: list[RotaView]


class Overrides(Listed):
    """All overrides of a rota, in the order of their making."""

    items: list[OverrideView]


class Replacements(Listed):
    """All replacements of a rota, in the order of their making."""

    items: list[ReplacementView]


class Endpoints(Listed):
    """All endpoints."""

    items: list[EndpointView]


class Credentials(Listed):
    """All credentials, revoked ones included."""

    items: list[CredentialView]


class Written(BaseModel):
    """What a write answers: what was written, and the version of the roster that it made."""

    id: UUID
    version: int = Field(description="The partner's version; the ETag of everything that it owns.")
    preview: PreviewView | None = Field(
        default=None, description="With dry_run alone: what the change would do. The version is then the present one."
    )


Failing = Mapping[UUID, Health]


def partner_view(partner: Partner, office: str | None) -> PartnerView:
    """A partner as everybody sees it."""
    return PartnerView(
        code=partner.code,
        name=partner.name,
        standing=partner.standing,
        time_zone=partner.time_zone,
        languages=list(partner.languages),
        iso3=partner.iso3,
        m49=partner.m49,
        active=partner.active,
        office=office,
    )


def office_view(office: DutyOffice, failing: Failing) -> OfficeView:
    """An office for its owner."""
    return OfficeView(
        id=office.id,
        name=office.name,
        switchboard=office.switchboard,
        embassies=dict(office.embassies),
        points=_points(office.points, failing),
    )


def contact_view(contact: Contact, failing: Failing, reader: UUID | None) -> ContactView:
    """A contact for its government; addresses are whole if the `reader` is this contact."""
    return ContactView(
        id=contact.id,
        name=contact.name,
        title=contact.title,
        languages=list(contact.languages),
        time_zone=contact.time_zone,
        points=_points(contact.points, failing, masked=reader != contact.id),
    )


def own_points_view(contact: Contact, failing: Failing) -> OwnPoints:
    """A contact's points for the contact."""
    return OwnPoints(contact_id=contact.id, items=_points(contact.points, failing))


def policy_view(policy: EscalationPolicy) -> PolicyView:
    """A policy for its owner."""
    return PolicyView(
        levels=[
            LevelView(
                targets=[TargetView(kind=target.kind, id=target.id, deputy=target.deputy) for target in level.targets],
                wait_seconds=level.wait_seconds,
            )
            for level in policy.levels
        ]
    )


def endpoint_view(endpoint: Endpoint, failing: Failing) -> EndpointView:
    """An endpoint for its owner."""
    return EndpointView(
        id=endpoint.id,
        url=endpoint.url,
        description=endpoint.description,
        created_at=endpoint.created_at,
        failing=_failing(failing.get(endpoint.id)),
    )


def credential_view(credential: Credential) -> CredentialView:
    """A credential without anything of its secret."""
    return CredentialView(
        client_id=credential.client_id,
        kind=credential.kind,
        name=credential.name,
        roles=list(credential.roles),
        contact_id=credential.contact_id,
        subject=credential.subject,
        revoked_at=credential.revoked_at,
        version=credential.version,
    )


def secret_view(made: NewSecret) -> SecretView:
    """A credential with its new secret."""
    return SecretView(**credential_view(made.credential).model_dump(), partner=made.partner, secret=made.secret)


def applied_view(applied: Applied) -> AppliedView:
    """What applying a network file did."""
    return AppliedView(
        dry_run=applied.dry_run,
        created=[_item(change.item) for change in applied.plan.creates],
        updated=[_item(change.item) for change in applied.plan.updates],
        unchanged=[_item(item) for item in applied.plan.unchanged],
        left_alone=[
            LeftAloneView(**_item(left.item).model_dump(), reason=left.reason, detail=left.detail)
            for left in applied.plan.left_alone
        ],
        secrets=[secret_view(made) for made in applied.secrets],
    )


def _item(item: Item) -> ItemView:
    return ItemView(kind=item.kind, partner=item.partner, key=item.key)


def _points(points: Sequence[ContactPoint], failing: Failing, *, masked: bool = False) -> list[PointView]:
    return [
        PointView(
            id=point.id,
            channel=point.channel,
            address=point.masked_address if masked else point.address,
            label=point.label,
            delay_seconds=point.delay_seconds,
            verified_at=point.verified_at,
            confirmed_at=point.confirmed_at,
            failing=_failing(failing.get(point.id)),
        )
        for point in points
    ]


def _failing(health: Health | None) -> FailingView | None:
    if health is None:
        return None
    return FailingView(since_at=health.since_at, failures=health.failures, reason=health.reason, hard=health.hard)
