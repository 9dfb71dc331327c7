"""Alerts, crises and timeline rows as JSON, as far as the viewer may read them.

The cast: the models that the documentation shows, and one function for each kind of thing. What a viewer may not read
is absent or null, and `withheld` says so. Instants end in `Z`, areas are GeoJSON.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from services.alerting.content import DEFAULT_EVENT, shown_headline
from services.alerting.crises.domain import Crisis, CrisisState
from services.alerting.domain import Alert, AlertState
from services.alerting.store import Entry
from services.alerting.visibility import Access, Viewer, access
from shared.contracts import (
    Actor,
    AlertEnded,
    AlertReleased,
    Area,
    Category,
    Certainty,
    CoverageGoal,
    EscalationKind,
    Info,
    MsgType,
    Precedence,
    ResponseType,
    Severity,
    Status,
    Tlp,
    Urgency,
)
from shared.events import REGISTRY, parse
from shared.web import UtcDateTime

NOBODY = ""
"""Whose eyes an observer reads with: the raiser's own observers learn no names either."""

Position = Annotated[list[float], Field(min_length=2, max_length=2, description="[longitude, latitude]")]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Polygon(_Model):
    """A GeoJSON polygon of one ring: CAP knows no holes."""

    type: Literal["Polygon"]
    coordinates: list[list[Position]] = Field(min_length=1, max_length=1)


class MultiPolygon(_Model):
    """Several GeoJSON polygons, each of one ring."""

    type: Literal["MultiPolygon"]
    coordinates: list[Annotated[list[list[Position]], Field(min_length=1, max_length=1)]]


class Circle(_Model):
    """A place and everything around it."""

    center: Position
    radius_km: float = Field(ge=0)


class NameValue(_Model):
    """A geocode or a parameter."""

    name: str
    value: str


class AreaModel(_Model):
    """A place: words, shapes as GeoJSON, and geocodes such as `iso3166-1-alpha-3` = `AFG`."""

    description: str
    geometry: Annotated[Polygon | MultiPolygon, Field(discriminator="type")] | None = None
    circles: list[Circle] = []
    geocodes: list[NameValue] = []

    def value(self) -> Area:
        """The area as events hold it."""
        rings: list[list[Position]] = []
        if isinstance(self.geometry, Polygon):
            rings = self.geometry.coordinates
        elif self.geometry is not None:
            rings = [ring for polygon in self.geometry.coordinates for ring in polygon]
        return Area(
            description=self.description,
            polygons=tuple(tuple((x, y) for x, y in ring) for ring in rings),
            circles=tuple((*_pair(circle.center), circle.radius_km) for circle in self.circles),
            geocodes=tuple((geocode.name, geocode.value) for geocode in self.geocodes),
        )

    @classmethod
    def of(cls, area: Area) -> AreaModel:
        """The area as JSON."""
        rings = [[list(position) for position in ring] for ring in area.polygons]
        geometry: Polygon | MultiPolygon | None = None
        if len(rings) == 1:
            geometry = Polygon(type="Polygon", coordinates=rings)
        elif rings:
            geometry = MultiPolygon(type="MultiPolygon", coordinates=[[ring] for ring in rings])
        return cls(
            description=area.description,
            geometry=geometry,
            circles=[Circle(center=[x, y], radius_km=radius) for x, y, radius in area.circles],
            geocodes=[NameValue(name=name, value=value) for name, value in area.geocodes],
        )


class InfoModel(_Model):
    """What the alert says in one language: a CAP `info` block."""

    language: str = Field(default="en", description="BCP 47 tag; at least one block is in English.")
    categories: list[Category] = [Category.OTHER]
    event: str = DEFAULT_EVENT
    response_types: list[ResponseType] = []
    urgency: Urgency = Urgency.UNKNOWN
    severity: Severity = Severity.UNKNOWN
    certainty: Certainty = Certainty.UNKNOWN
    headline: str = Field(examples=["Kabul airport: evacuation flights needed before 31 August"])
    description: str = ""
    instruction: str = ""
    onset: UtcDateTime | None = None
    expires: UtcDateTime | None = Field(default=None, description="The alert expires with its latest block.")
    sender_name: str | None = None
    web: str | None = Field(default=None, description="An https:// address with more.")
    is_translation: bool = Field(default=False, description="True for a translation: the original governs.")
    parameters: list[NameValue] = []
    areas: list[AreaModel] = []

    def value(self) -> Info:
        """The block as events hold it."""
        simple = self.model_dump(exclude={"parameters", "areas"})
        return Info(
            **simple,
            parameters=tuple((parameter.name, parameter.value) for parameter in self.parameters),
            areas=tuple(area.value() for area in self.areas),
        )

    @classmethod
    def of(cls, info: Info, status: Status) -> InfoModel:
        """The block as JSON; an exercise says so first in its headline."""
        simple = info.model_dump(exclude={"parameters", "areas", "contact", "headline"})
        return cls(
            **simple,
            headline=shown_headline(status, info.headline),
            parameters=[NameValue(name=name, value=value) for name, value in info.parameters],
            areas=[AreaModel.of(area) for area in info.areas],
        )


class ActorView(BaseModel):
    """Who did something. Other partners learn which partner, not who."""

    partner: str
    name: str | None = None
    subject: str | None = None


class RecipientView(BaseModel):
    """One addressed partner; its clock runs from `addressed_at`."""

    partner: str
    kind: EscalationKind = Field(description="`answer`: must acknowledge. `information`: is told.")
    addressed_at: UtcDateTime


_RECIPIENTS = TypeAdapter(list[RecipientView])


class CoverageGoalView(BaseModel):
    """How many of the partners in `to` are to have acknowledged, and within which time of release."""

    partners: int
    within_seconds: int


class AlertView(BaseModel):
    """An alert as the caller may read it."""

    id: UUID
    reference: str = Field(description="What people say on a line.", examples=["RP-CA-2026-0042"])
    root_id: UUID = Field(description="The first message of the chain of corrections.")
    corrects: UUID | None = Field(default=None, description="The message that this Update supersedes.")
    superseded_by: UUID | None = None
    crisis_id: UUID
    raiser: str
    state: AlertState
    version: int
    status: Status
    msg_type: MsgType
    precedence: Precedence
    tlp: Tlp
    asks_anew: bool = Field(description="Whether this Update asks those again who have answered.")
    answers_visible: bool = Field(description="Whether the addressed partners see each other's answers.")
    acknowledge_within_seconds: int | None = None
    coverage_goal: CoverageGoalView | None = Field(
        default=None, description="Whether it was met or missed, timeline and board tell raiser and secretariat."
    )
    to: list[str] = Field(description="Partners that must acknowledge.")
    for_information: list[str] = Field(description="Partners that are told.")
    recipients: list[RecipientView] = Field(description="Since when each partner is addressed; empty for a draft.")
    countries: list[str] | None = Field(description="ISO 3166-1 alpha-3. Null where the text is withheld.")
    info: list[InfoModel] | None = Field(description="Null where the text is withheld.")
    note: str | None = None
    withheld: bool = Field(description="True where handling (TLP) keeps the text from this caller.")
    drafted_at: UtcDateTime | None = None
    drafted_by: ActorView | None = None
    released_at: UtcDateTime | None = None
    released_by: ActorView | None = None
    expires_at: UtcDateTime | None = None
    ended_at: UtcDateTime | None = None
    ended_by: ActorView | None = None
    end_note: str | None = None
    needs_review: bool | None = Field(default=None, description="Somebody acted alone. For raiser and secretariat.")
    self_release_reason: str | None = Field(default=None, description="For the raiser.")


class CrisisView(BaseModel):
    """A situation that alerts belong to."""

    id: UUID
    owner: str = Field(description="The partner that opened it.")
    name: str = Field(
        description="Of a crisis that an alert has opened: its headline, for those who may read it; else its reference."
    )
    countries: list[str] = Field(
        description="ISO 3166-1 alpha-3. Empty for those who may not read the alert that has opened the crisis."
    )
    tlp: Tlp = Field(description="How what you see here is to be handled.")
    state: CrisisState
    opened_at: UtcDateTime
    changed_at: UtcDateTime
    version: int


class TimelineEntry(BaseModel):
    """Something that happened to an alert: who was told what, when, and what came back."""

    id: UUID
    alert_id: UUID
    at: UtcDateTime
    type: str = Field(examples=["partner_acknowledged"])
    data: dict[str, Any] = Field(description="The event, as far as the caller may read it.")


def alert_view(alert: Alert, viewer: Viewer) -> AlertView | None:
    """The alert as the viewer may read it; None if they may not know of it."""
    granted = access(viewer, alert)
    if granted is Access.NONE:
        return None
    own, reads = granted is Access.OWN, granted >= Access.TEXT
    content = alert.content
    return AlertView(
        id=alert.id,
        reference=alert.reference,
        root_id=alert.root_id,
        corrects=alert.corrects,
        superseded_by=alert.superseded_by,
        crisis_id=alert.crisis_id,
        raiser=alert.raiser,
        state=alert.state,
        version=alert.version,
        status=content.status,
        msg_type=alert.msg_type,
        precedence=content.precedence,
        tlp=content.tlp,
        asks_anew=alert.asks_anew,
        answers_visible=content.answers_visible,
        acknowledge_within_seconds=content.acknowledge_within_seconds,
        coverage_goal=_goal(content.coverage_goal),
        to=list(content.to),
        for_information=list(content.for_information),
        recipients=_RECIPIENTS.validate_python(alert.recipients, from_attributes=True),
        countries=list(content.countries) if reads else None,
        info=[InfoModel.of(block, content.status) for block in content.info] if reads else None,
        note=content.note if reads else None,
        withheld=not reads,
        drafted_at=alert.drafted_at if own else None,
        drafted_by=_actor(alert.drafted_by, own=own),
        released_at=alert.released_at,
        released_by=_actor(alert.released_by, own=own),
        expires_at=alert.expires_at or content.expires_at,
        ended_at=alert.ended_at,
        ended_by=_actor(alert.ended_by, own=own),
        end_note=alert.end_note if reads else None,
        needs_review=alert.needs_review if own or viewer.is_secretariat else None,
        self_release_reason=alert.self_release_reason if own else None,
    )


def crisis_view(crisis: Crisis) -> CrisisView:
    """The crisis; only for those whom the store found it for."""
    return CrisisView(
        id=crisis.id,
        owner=crisis.owner,
        name=crisis.name,
        countries=list(crisis.countries),
        tlp=crisis.tlp,
        state=crisis.state,
        opened_at=crisis.opened_at,
        changed_at=crisis.changed_at,
        version=crisis.version,
    )


def entry_view(entry: Entry, granted: Access, viewer: Viewer) -> TimelineEntry:
    """A timeline row that the viewer may see, without what it says about others' people or withheld texts."""
    return TimelineEntry(
        id=entry.id,
        alert_id=entry.alert_id,
        at=entry.occurred_at,
        type=short_type(entry.type),
        data=_entry_data(entry, granted, viewer),
    )


def short_type(type_: str) -> str:
    """`alert_released` of `redphone.alerting.alert_released.v1`; names without dots stay."""
    return type_.split(".")[2] if type_.count(".") == 3 else type_


def _entry_data(entry: Entry, granted: Access, viewer: Viewer) -> dict[str, Any]:
    if entry.type not in REGISTRY:
        data: dict[str, Any] = orjson.loads(entry.body)
        return data
    reads_as = viewer.partner if viewer.reads_for_partner or viewer.is_secretariat else NOBODY
    event = parse(entry.type, entry.body.encode()).for_viewer(reads_as)
    data = event.model_dump(mode="json")
    if granted < Access.TEXT and isinstance(event, (AlertReleased, AlertEnded)):
        data |= {name: None for name in ("info", "note") if name in data} | {"withheld": True}
    elif isinstance(event, AlertReleased):
        data["info"] = [InfoModel.of(block, event.status).model_dump(mode="json") for block in event.info]
    if data.get("office"):
        data["office"].pop("points", None)
    for name, value in data.items():
        if name.endswith("_by") and isinstance(value, dict) and value.get("name") is None:
            data[name] = {"partner": value["partner"]}
    return data


def _goal(goal: CoverageGoal | None) -> CoverageGoalView | None:
    return None if goal is None else CoverageGoalView(partners=goal.partners, within_seconds=goal.within_seconds)


def _actor(actor: Actor | None, *, own: bool) -> ActorView | None:
    if actor is None:
        return None
    return (
        ActorView(partner=actor.partner, name=actor.name, subject=actor.subject)
        if own
        else ActorView(partner=actor.partner)
    )


def _pair(position: list[float]) -> tuple[float, float]:
    return position[0], position[1]
