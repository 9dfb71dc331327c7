"""Every event of Red Phone, declared once, with the value types that they share.

The cast: `alerting` says what is said, `roster` who answers, `escalation` whether they were reached. A declaration
here is the whole truth about a message: owner, name, version, key, meaning, fields, and who may read it on the feed.
Only optional additions keep a version; snapshots of the JSON Schemas hold that.

Instants are aware and in UTC. Durations are whole seconds and say so in their names. Partner codes are ISO 3166-1
alpha-2, `EU`, or `XR` for the secretariat.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field, TypeAdapter

from shared.events import EVERYONE, Event, Value, event
from shared.vocabulary import (
    Category,
    Certainty,
    ChannelName,
    CredentialKind,
    EndReason,
    EscalationKind,
    EscalationState,
    Gap,
    LevelReason,
    MsgType,
    PositionStance,
    Precedence,
    ResponseType,
    Role,
    Severity,
    Standing,
    Status,
    Tlp,
    Urgency,
)

__all__ = [
    "DEFAULT_DEADLINES",
    "POSITION_ANSWER_WITHIN_MAX",
    "RECIPIENTS",
    "SECRETARIAT",
    "Actor",
    "AlertEnded",
    "AlertReleased",
    "AnswerCodeLocked",
    "Area",
    "Category",
    "Certainty",
    "ChannelName",
    "Code",
    "ContactPointFailing",
    "ContactPointRecovered",
    "ContactPointVerified",
    "CoverageGoal",
    "CoverageGoalMet",
    "CoverageGoalMissed",
    "CredentialKind",
    "CredentialsPublished",
    "Deadlines",
    "DeadlinesChanged",
    "DutyPlanPublished",
    "EndReason",
    "EndedEscalation",
    "EscalationKind",
    "EscalationState",
    "EscalationsEnded",
    "EscalationsStarted",
    "Gap",
    "Info",
    "LevelRaised",
    "LevelReason",
    "LevelTarget",
    "MsgType",
    "PartnerAcknowledged",
    "PartnerChanged",
    "PartnerNotified",
    "PartnerTakenOver",
    "PartnerUnreached",
    "PlannedContact",
    "PlannedEndpoint",
    "PlannedLevel",
    "PlannedOffice",
    "PlannedPoint",
    "PlannedRota",
    "PlannedShift",
    "PositionStance",
    "PositionTaken",
    "Precedence",
    "PublishedCredential",
    "QuestionAnswered",
    "QuestionAsked",
    "ReadBackConfirmed",
    "ReadBackGiven",
    "Recipient",
    "ResponseType",
    "Role",
    "Severity",
    "Standing",
    "StartedEscalation",
    "Status",
    "Tlp",
    "Urgency",
]

SECRETARIAT = "XR"
"""The secretariat is a partner with a rota like any other."""

Code = Annotated[str, Field(pattern=r"^[A-Z]{2}$", description="ISO 3166-1 alpha-2, `EU`, or `XR`.", examples=["CA"])]


# --- values -----------------------------------------------------------------------------------------------------------


class Actor(Value):
    """Who did something: a subject of a partner, with the name that may be shown to those entitled to it."""

    subject: str
    partner: Code
    name: str | None = None
    contact_id: UUID | None = None
    kind: CredentialKind = CredentialKind.PERSON

    def is_same_person(self, other: Actor) -> bool:
        """Whether both are one person, who may have several credentials and answers by telephone under one of them."""
        if self.subject == other.subject:
            return True
        return self.contact_id is not None and (self.partner, self.contact_id) == (other.partner, other.contact_id)

    def withheld(self) -> Actor:
        """The same for those who may know which partner acted, and not who: a subject names a contact or a client."""
        return self.model_copy(update={"subject": f"partner:{self.partner}", "name": None, "contact_id": None})


class Area(Value):
    """A place: description, CAP polygons and circles, and geocodes.

    `polygons` are rings of [longitude, latitude], closed, as in GeoJSON; `circles` are (longitude, latitude,
    radius_km).
    """

    description: str
    polygons: tuple[tuple[tuple[float, float], ...], ...] = ()
    circles: tuple[tuple[float, float, float], ...] = ()
    geocodes: tuple[tuple[str, str], ...] = Field(
        default=(), description="Pairs of value name and value, for example `iso3166-1-alpha-3` and `AFG`."
    )


class Info(Value):
    """One language's text of an alert (a CAP `info` block)."""

    language: str = "en"
    categories: tuple[Category, ...] = (Category.OTHER,)
    event: str
    response_types: tuple[ResponseType, ...] = ()
    urgency: Urgency = Urgency.UNKNOWN
    severity: Severity = Severity.UNKNOWN
    certainty: Certainty = Certainty.UNKNOWN
    headline: str
    description: str = ""
    instruction: str = ""
    onset: datetime | None = None
    expires: datetime | None = None
    sender_name: str | None = None
    web: str | None = None
    contact: str | None = None
    is_translation: bool = False
    parameters: tuple[tuple[str, str], ...] = ()
    areas: tuple[Area, ...] = ()


class Recipient(Value):
    """One addressed partner. Its clock runs from `addressed_at`: the release, or the moment it was added later."""

    partner: Code
    kind: Literal[EscalationKind.ANSWER, EscalationKind.INFORMATION] = EscalationKind.ANSWER
    addressed_at: datetime


RECIPIENTS = TypeAdapter(tuple[Recipient, ...])
"""Checks all recipients at once: one by one, two hundred take more than twice as long."""


class CoverageGoal(Value):
    """How many of the addressed partners the raiser wants to have acknowledged, and within which time of release."""

    partners: int = Field(ge=1)
    within_seconds: int = Field(ge=1)


class Deadlines(Value):
    """The network's waits for one precedence, in seconds from release (`next_level_every_seconds`: between levels)."""

    acknowledge_within_seconds: int = Field(ge=1)
    next_level_every_seconds: int | None = Field(default=None, ge=1)
    unreached_after_seconds: int = Field(ge=1)
    position_within_seconds: int = Field(ge=1)
    read_back: bool = Field(
        default=False,
        description="Whether who acknowledges also repeats country, request and time, and the sender confirms.",
    )


DEFAULT_DEADLINES: dict[Precedence, Deadlines] = {
    Precedence.FLASH: Deadlines(
        acknowledge_within_seconds=10 * 60,
        next_level_every_seconds=5 * 60,
        unreached_after_seconds=30 * 60,
        position_within_seconds=2 * 3600,
    ),
    Precedence.IMMEDIATE: Deadlines(
        acknowledge_within_seconds=30 * 60,
        next_level_every_seconds=15 * 60,
        unreached_after_seconds=90 * 60,
        position_within_seconds=6 * 3600,
    ),
    Precedence.PRIORITY: Deadlines(
        acknowledge_within_seconds=3 * 3600,
        next_level_every_seconds=3600,
        unreached_after_seconds=6 * 3600,
        position_within_seconds=24 * 3600,
    ),
    Precedence.ROUTINE: Deadlines(
        acknowledge_within_seconds=24 * 3600,
        next_level_every_seconds=None,
        unreached_after_seconds=48 * 3600,
        position_within_seconds=48 * 3600,
    ),
}
"""Used where the network says nothing. 10 min for FLASH, 30 min for IMMEDIATE and 3 h for PRIORITY are the handling
times of message precedence; all other figures are this network's own choice and are configuration."""


class PlannedPoint(Value):
    """One way to reach somebody. `sealed_address` can be opened by escalation's key alone."""

    id: UUID
    channel: ChannelName
    sealed_address: str
    verified: bool = False
    label: str | None = None
    delay_seconds: int = Field(default=0, ge=0, description="How long after its level this point is paged.")


class PlannedContact(Value):
    """A person as the duty plan knows them."""

    id: UUID
    name: str
    title: str = ""
    languages: tuple[str, ...] = ("en",)
    time_zone: str | None = Field(default=None, description="The person's own IANA zone; absent: the partner's.")
    points: tuple[PlannedPoint, ...] = ()
    subjects: tuple[str, ...] = Field(default=(), description="Subjects of this person's credentials.")


class PlannedOffice(Value):
    """A standing duty office, with the numbers that a takeover needs."""

    id: UUID
    name: str
    switchboard: str | None = None
    embassies: tuple[tuple[str, str], ...] = Field(
        default=(), description="Pairs of partner code and telephone number."
    )
    points: tuple[PlannedPoint, ...] = ()


class PlannedEndpoint(Value):
    """One of the partner's own systems: a signed webhook."""

    id: UUID
    sealed_url: str
    description: str = ""


class PlannedShift(Value):
    """A computed shift: this contact holds this rota from `start_at` until just before `end_at`."""

    contact_id: UUID
    start_at: datetime
    end_at: datetime
    deputy_id: UUID | None = Field(default=None, description="Who stands in if the contact cannot.")


class PlannedRota(Value):
    """One rota's computed shifts for the span of the plan."""

    id: UUID
    name: str
    shifts: tuple[PlannedShift, ...] = ()
    signs_hand_over: bool = Field(
        default=False, description="Whether outgoing and incoming are both paged until both have signed."
    )


class LevelTarget(Value):
    """Whom a level pages: whoever holds a rota, one contact, or an office."""

    kind: Literal["rota", "contact", "office"]
    id: UUID
    deputy: bool = Field(default=False, description="Of a rota: the deputy of whoever holds it, not the holder.")


class PlannedLevel(Value):
    """One step of the escalation policy. `wait_seconds` may only shorten the network's own wait after this level."""

    targets: tuple[LevelTarget, ...] = ()
    wait_seconds: int | None = Field(default=None, ge=1)


class PublishedCredential(Value):
    """What every service keeps of a credential. The secret's SHA-256 is of 256 random bits, so it cannot be guessed."""

    client_id: str
    kind: CredentialKind
    subject: str
    name: str
    partner: Code
    roles: tuple[Role, ...]
    contact_id: UUID | None = None
    secret_sha256: str
    revoked_at: datetime | None = None
    version: int = 1


class StartedEscalation(Value):
    """One escalation as it was opened."""

    escalation_id: UUID
    partner: Code
    kind: EscalationKind
    state: EscalationState
    level: int
    due_at: datetime | None = None
    acknowledge_by_at: datetime | None = None
    unreached_at: datetime | None = None
    gaps: tuple[Gap, ...] = ()
    one_provider: bool = Field(
        default=False, description="Somebody who is paged can be reached through one provider alone."
    )
    told: tuple[str, ...] = Field(default=(), description="Offices and roles that are paged, never names.")


class EndedEscalation(Value):
    """One escalation as it ended."""

    escalation_id: UUID
    partner: Code
    kind: EscalationKind
    state_before: EscalationState


# --- alerting ---------------------------------------------------------------------------------------------------------


@event(owner="alerting", version=1, key="alert_id")
class AlertReleased(Event):
    """An alert, or an Update of one, is released: every addressed partner owes an answer from now on.

    Published again, with more recipients, when some are added later; `unique (alert_id, partner)` at escalation makes
    that harmless. `root_alert_id` is the first message of the chain, `corrects` the one that this Update supersedes.
    """

    alert_id: UUID
    root_alert_id: UUID
    corrects: UUID | None = None
    asks_anew: bool = False
    reference: str = Field(examples=["RP-CA-2026-0042"])
    crisis_id: UUID
    raiser: Code
    status: Status
    msg_type: MsgType
    precedence: Precedence
    tlp: Tlp
    released_at: datetime
    expires_at: datetime
    acknowledge_within_seconds: int | None = Field(default=None, ge=1)
    coverage_goal: CoverageGoal | None = None
    recipients: tuple[Recipient, ...]
    answers_visible: bool = False
    released_by: Actor
    drafted_by: Actor
    info: tuple[Info, ...]
    note: str | None = None

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.raiser, *(r.partner for r in self.recipients)})

    def for_viewer(self, viewer: str) -> AlertReleased:
        if viewer == self.raiser:
            return self
        hidden = {"released_by": self.released_by.withheld(), "drafted_by": self.drafted_by.withheld()}
        return self.model_copy(update=hidden)


@event(owner="alerting", version=1, key="alert_id")
class AlertEnded(Event):
    """The alert is over: cancelled (recalled), closed (stood down) or expired. It may overtake its own
    `AlertReleased`.
    """

    alert_id: UUID
    root_alert_id: UUID
    reference: str
    raiser: Code
    reason: Literal[EndReason.CANCELLED, EndReason.CLOSED, EndReason.EXPIRED]
    ended_at: datetime
    note: str | None = None
    recipients: tuple[Recipient, ...] = ()

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.raiser, *(r.partner for r in self.recipients)})


@event(owner="alerting", version=1, key="alert_id")
class ReleaseAsked(Event):
    """A draft waits for a second person to release it. It says that there is one, and nothing of what it says."""

    alert_id: UUID
    reference: str = Field(examples=["RP-CA-2026-0042"])
    raiser: Code
    status: Status
    precedence: Precedence
    tlp: Tlp
    corrects: UUID | None = Field(default=None, description="The alert that this draft would update.")
    drafted_by: Actor
    drafted_at: datetime

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.raiser})

    def for_viewer(self, viewer: str) -> ReleaseAsked:
        if viewer == self.raiser:
            return self
        return self.model_copy(update={"drafted_by": self.drafted_by.withheld()})


# --- roster -----------------------------------------------------------------------------------------------------------


@event(owner="roster", version=1, key="partner")
class PartnerChanged(Event):
    """A partner's own data, office and endpoints, whole, as of `version`. A lower version is ignored."""

    partner: Code
    version: int
    name: str
    standing: Standing
    time_zone: str
    languages: tuple[str, ...] = ("en",)
    active: bool = True
    office: PlannedOffice | None = None
    endpoints: tuple[PlannedEndpoint, ...] = ()

    def visible_to(self) -> frozenset[str]:
        return frozenset({EVERYONE})

    def for_viewer(self, viewer: str) -> PartnerChanged:
        if viewer == self.partner:
            return self
        return self.model_copy(update={"office": None, "endpoints": ()})


@event(owner="roster", version=1, key="version")
class DeadlinesChanged(Event):
    """The network's whole table of deadlines as of `version`. A lower version is ignored.

    Duty plans carry it to those who page; this tells whoever has to know how long an alert must live.
    """

    version: int
    deadlines: dict[Precedence, Deadlines]

    def visible_to(self) -> frozenset[str]:
        return frozenset({EVERYONE})


@event(owner="roster", version=1, key="partner")
class DutyPlanPublished(Event):
    """A partner's computed shifts, people, levels and the network's deadlines. Escalation works from the newest one.

    `plan_version` counts up per partner; a lower one is ignored. After `valid_until` the plan still names the last
    known people, and is treated as expired.
    """

    partner: Code
    plan_version: int
    computed_at: datetime
    valid_from: datetime
    valid_until: datetime
    time_zone: str
    levels: tuple[PlannedLevel, ...] = ()
    rotas: tuple[PlannedRota, ...] = ()
    contacts: tuple[PlannedContact, ...] = ()
    office: PlannedOffice | None = None
    endpoints: tuple[PlannedEndpoint, ...] = ()
    deadlines: dict[Precedence, Deadlines] = Field(default_factory=dict)

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.partner})


@event(owner="roster", version=1, key="partner")
class CredentialsPublished(Event):
    """All credentials of one partner as of `version`, so that every service can issue and check tokens by itself."""

    partner: Code
    version: int
    credentials: tuple[PublishedCredential, ...]


# --- escalation -------------------------------------------------------------------------------------------------------


@event(owner="roster", version=1, key="partner")
class NoticeIssued(Event):
    """People of one partner, or its duty office, are to be told something about their roster. Nobody has to answer.

    `kind` says which text is sent (`swap_offered`, `shift_ahead`, `readiness_digest`, `hole_ahead` and so on), `facts`
    and `items` what stands in it: times as instants, names of rotas, reasons as codes. An `urgent` notice goes at once
    and over every contact point, at night, too; any other waits for the morning and goes by e-mail if there is one.
    """

    notice_id: UUID
    partner: Code
    kind: str = Field(examples=["shift_ahead"])
    contact_ids: tuple[UUID, ...] = ()
    to_office: bool = False
    facts: dict[str, str] = Field(default_factory=dict, examples=[{"rota": "Duty officers"}])
    items: tuple[dict[str, str], ...] = ()
    urgent: bool = False
    issued_at: datetime
    expires_at: datetime

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.partner})


@event(owner="escalation", version=1, key="alert_id")
class EscalationsStarted(Event):
    """Escalations were opened for an alert, in one transaction, with the pages of their first level."""

    alert_id: UUID
    raiser: Code
    started_at: datetime
    escalations: tuple[StartedEscalation, ...]

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.raiser, SECRETARIAT})


class _AboutOneEscalation(Event):
    """Fields that every event about one escalation has."""

    alert_id: UUID
    escalation_id: UUID
    partner: Code
    raiser: Code
    kind: EscalationKind = EscalationKind.ANSWER
    subject_partner: Code | None = Field(
        default=None, description="For kind takeover: the unreached partner. Otherwise absent."
    )
    answers_visible_to: tuple[Code, ...] = Field(
        default=(), description="The other addressed partners, if the alert lets them see answers."
    )

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.partner, self.raiser, SECRETARIAT})


@event(owner="escalation", version=1, key="alert_id")
class PartnerNotified(_AboutOneEscalation):
    """A channel accepted the first page of this escalation. It proves delivery and nothing more."""

    notified_at: datetime
    channel: ChannelName
    told: str = Field(description="Office, role or endpoint that was told; never a name.")
    level: int


@event(owner="escalation", version=1, key="alert_id")
class LevelRaised(_AboutOneEscalation):
    """A level was paged, or paged again. `next_due_at` is when the next thing happens if nobody answers."""

    level: int
    reason: LevelReason
    raised_at: datetime
    next_due_at: datetime | None
    gaps: tuple[Gap, ...] = ()
    one_provider: bool = Field(
        default=False, description="Somebody who is paged can be reached through one provider alone."
    )
    told: tuple[str, ...] = Field(default=(), description="Offices and roles that are paged, never names.")
    raised_by: Actor | None = None
    coverage_missed: bool = Field(
        default=False, description="The deadline that passed is that of the alert's coverage goal."
    )

    def for_viewer(self, viewer: str) -> LevelRaised:
        if self.raised_by is None or viewer == self.raised_by.partner:
            return self
        return self.model_copy(update={"raised_by": self.raised_by.withheld()})


@event(owner="escalation", version=1, key="alert_id")
class PartnerAcknowledged(_AboutOneEscalation):
    """A named, authorised human of the partner has received and understood the alert: this escalation stops."""

    acknowledged_at: datetime
    acknowledged_by: Actor
    asserted_by_system: str | None = Field(
        default=None, description="Subject of the system that named the person, if a system acknowledged."
    )
    via: str = Field(default="api", examples=["api", "command_line", "link", "sms", "voice", "email", "carried_over"])
    page_id: UUID | None = Field(default=None, description="The page that was answered, if the answer came to one.")
    late: bool = False
    seconds_from_release: float = 0.0

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.partner, self.raiser, SECRETARIAT, *self.answers_visible_to})

    def for_viewer(self, viewer: str) -> PartnerAcknowledged:
        if viewer in (self.partner, self.raiser):
            return self
        hidden = self.acknowledged_by.withheld()
        return self.model_copy(update={"acknowledged_by": hidden, "asserted_by_system": None, "page_id": None})


@event(owner="escalation", version=1, key="alert_id")
class PositionTaken(_AboutOneEscalation):
    """The partner's substantive answer, or that the wrong person was asked."""

    stance: PositionStance
    taken_at: datetime
    taken_by: Actor
    answer_by_at: datetime | None = None
    note: str | None = None
    offer: str | None = None
    estimated_arrival_at: datetime | None = None
    via: str = Field(default="api", examples=["api", "link", "sms", "voice", "email"])
    page_id: UUID | None = Field(default=None, description="The page that was answered, if the answer came to one.")

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.partner, self.raiser, SECRETARIAT, *self.answers_visible_to})

    def for_viewer(self, viewer: str) -> PositionTaken:
        if viewer in (self.partner, self.raiser):
            return self
        kept = {} if viewer in self.answers_visible_to else {"note": None, "offer": None}
        return self.model_copy(update={"taken_by": self.taken_by.withheld(), "page_id": None, **kept})


@event(owner="escalation", version=1, key="alert_id")
class PartnerUnreached(_AboutOneEscalation):
    """All levels are spent and nobody answered. Raiser and secretariat open takeover escalations of their own on this.

    Carries what those need, whatever node they run on: the office's numbers, the alert's urgency, and whom to call
    first.
    """

    root_alert_id: UUID
    reference: str
    unreached_at: datetime
    levels_tried: int
    attempts: int
    precedence: Precedence
    status: Status
    tlp: Tlp
    expires_at: datetime
    released_by: Actor
    office: PlannedOffice | None = None

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.partner, self.raiser, SECRETARIAT})

    def for_viewer(self, viewer: str) -> PartnerUnreached:
        released_by = self.released_by if viewer == self.raiser else self.released_by.withheld()
        # To call the office takes its numbers; how it is paged is nobody's but its own.
        office = self.office
        if office is not None and viewer != self.partner:
            office = office.model_copy(update={"points": ()})
        return self.model_copy(update={"released_by": released_by, "office": office})


@event(owner="escalation", version=1, key="alert_id")
class PartnerTakenOver(_AboutOneEscalation):
    """A human of raiser or secretariat has taken an unreached partner over and will reach it by other means."""

    taken_over_at: datetime
    taken_over_by: Actor
    ask_again_at: datetime
    via: str = Field(default="api", examples=["api", "link", "sms", "voice", "email"])
    page_id: UUID | None = Field(default=None, description="The page that was answered, if the answer came to one.")

    def for_viewer(self, viewer: str) -> PartnerTakenOver:
        if viewer in (self.raiser, self.taken_over_by.partner):
            return self
        return self.model_copy(update={"taken_over_by": self.taken_over_by.withheld()})


class _AboutCoverage(Event):
    """Fields that both outcomes of a coverage goal have."""

    alert_id: UUID
    raiser: Code
    goal: CoverageGoal
    due_at: datetime
    acknowledged: int = Field(ge=0, description="How many of those who were asked had acknowledged.")
    asked: int = Field(ge=0, description="How many were asked to answer.")

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.raiser, SECRETARIAT})


@event(owner="escalation", version=1, key="alert_id")
class CoverageGoalMet(_AboutCoverage):
    """As many partners as the raiser wanted have acknowledged in time; `met_at` is when the last of them did."""

    met_at: datetime


@event(owner="escalation", version=1, key="alert_id")
class CoverageGoalMissed(_AboutCoverage):
    """Too few partners have acknowledged in time: who has not is asked at the next level, and people are told."""

    missed_at: datetime
    missing: tuple[Code, ...] = Field(description="Partners that had not acknowledged.")


@event(owner="escalation", version=1, key="alert_id")
class AnswerCodeLocked(_AboutOneEscalation):
    """A wrong code was given too often for one page: its link and code answer nothing any more.

    Unless `replaced` is false, the same contact point is sent another message with a code of its own.
    """

    page_id: UUID
    locked_at: datetime
    wrong_tries: int
    via: str = Field(examples=["link", "sms", "email"])
    told: str = Field(description="Office or role whose page it was; never a name.")
    replaced: bool

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.partner, SECRETARIAT})


@event(owner="escalation", version=1, key="alert_id")
class QuestionAsked(_AboutOneEscalation):
    """A partner that was asked has a question of its own to the raiser. Its words are the partner's and the raiser's,
    until they are answered.
    """

    question_id: UUID
    asked_at: datetime
    asked_by: Actor
    question: str | None = None
    via: str = Field(default="api", examples=["api", "link", "sms", "email"])
    page_id: UUID | None = Field(default=None, description="The page that was answered, if the question came to one.")

    def for_viewer(self, viewer: str) -> QuestionAsked:
        if viewer in (self.partner, self.raiser):
            return self
        return self.model_copy(update={"asked_by": self.asked_by.withheld(), "question": None, "page_id": None})


@event(owner="escalation", version=1, key="alert_id")
class QuestionAnswered(Event):
    """The raiser has answered a question. All who were asked by the alert learn both, and not who wanted to know."""

    alert_id: UUID
    question_id: UUID
    raiser: Code
    partner: Code | None = Field(default=None, description="Who wanted to know: shown to that partner and the raiser.")
    asked: tuple[Code, ...] = Field(description="The partners that the alert was addressed to.")
    question: str | None = None
    answer: str | None = None
    answered_at: datetime
    answered_by: Actor

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.raiser, SECRETARIAT, *self.asked})

    def for_viewer(self, viewer: str) -> QuestionAnswered:
        if viewer == self.raiser:
            return self
        hidden: dict[str, object] = {"answered_by": self.answered_by.withheld()}
        if viewer != self.partner:
            hidden["partner"] = None
        if viewer not in self.asked:
            hidden |= {"question": None, "answer": None}
        return self.model_copy(update=hidden)


@event(owner="escalation", version=1, key="alert_id")
class ReadBackGiven(_AboutOneEscalation):
    """Who acknowledged has repeated country, request and time; the raiser says whether that is right."""

    given_at: datetime
    given_by: Actor
    country: str | None = None
    request: str | None = None
    time: str | None = None
    via: str = Field(default="api", examples=["api", "link"])
    page_id: UUID | None = None

    def for_viewer(self, viewer: str) -> ReadBackGiven:
        if viewer in (self.partner, self.raiser):
            return self
        hidden = {"given_by": self.given_by.withheld(), "page_id": None}
        return self.model_copy(update={**hidden, "country": None, "request": None, "time": None})


@event(owner="escalation", version=1, key="alert_id")
class ReadBackConfirmed(_AboutOneEscalation):
    """The raiser says whether a read-back is right. If it is not, the partner is asked for another."""

    correct: bool
    confirmed_at: datetime
    confirmed_by: Actor
    note: str | None = None

    def for_viewer(self, viewer: str) -> ReadBackConfirmed:
        if viewer == self.raiser:
            return self
        hidden: dict[str, object] = {"confirmed_by": self.confirmed_by.withheld()}
        if viewer != self.partner:
            hidden["note"] = None
        return self.model_copy(update=hidden)


@event(owner="escalation", version=1, key="alert_id")
class EscalationsEnded(Event):
    """Escalations ended with their alert, or because a takeover is no longer needed."""

    alert_id: UUID
    raiser: Code
    reason: EndReason
    ended_at: datetime
    escalations: tuple[EndedEscalation, ...]

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.raiser, SECRETARIAT})


@event(owner="escalation", version=1, key="contact_point_id")
class ContactPointFailing(Event):
    """A contact point or endpoint has failed several times in a row, or once for good (`hard`). Trying goes on; people
    on both sides are told.
    """

    contact_point_id: UUID
    partner: Code
    raiser: Code | None = None
    alert_id: UUID | None = None
    channel: ChannelName
    failures: int
    reason: str
    since_at: datetime
    hard: bool = Field(
        default=False, description="A provider says that nobody can be reached there: the point is unverified again."
    )

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.partner, SECRETARIAT} | ({self.raiser} if self.raiser else set()))


@event(owner="escalation", version=1, key="contact_point_id")
class ContactPointRecovered(Event):
    """A contact point or endpoint that was failing has accepted a page again."""

    contact_point_id: UUID
    partner: Code
    raiser: Code | None = None
    alert_id: UUID | None = None
    channel: ChannelName
    recovered_at: datetime

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.partner, SECRETARIAT} | ({self.raiser} if self.raiser else set()))


@event(owner="escalation", version=1, key="contact_point_id")
class ContactPointVerified(Event):
    """Whoever a contact point belongs to has returned the code that was sent there, or the system there has answered.

    `fingerprint` names the address that was tried without telling it: one that has changed since is not verified.
    """

    contact_point_id: UUID
    partner: Code
    channel: ChannelName
    verified_at: datetime
    fingerprint: str = Field(examples=["5c1f3ad9e0b74a11"])

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.partner})


@event(owner="escalation", version=1, key="endpoint_id")
class EndpointChecked(Event):
    """What the hourly heartbeat found at one of the partner's systems: said at the first one, whenever the outcome
    changes, and once a day.
    """

    endpoint_id: UUID
    partner: Code
    checked_at: datetime
    answering: bool
    reason: str | None = Field(default=None, description="Why it does not answer.", examples=["HTTP 500"])
    certificate_valid_until: datetime | None = Field(
        default=None, description="The end of its TLS certificate; absent without TLS, or where it was not seen."
    )

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.partner, SECRETARIAT})


@event(owner="escalation", version=1, key="partner")
class HandOverSigned(Event):
    """Outgoing or incoming has signed the hand-over of a rota. Once both have, the outgoing person is paged no more."""

    partner: Code
    rota_id: UUID
    start_at: datetime = Field(description="When the incoming person's shift begins.")
    outgoing_id: UUID
    incoming_id: UUID
    outgoing_signed_at: datetime | None = None
    incoming_signed_at: datetime | None = None

    def visible_to(self) -> frozenset[str]:
        return frozenset({self.partner})


POSITION_ANSWER_WITHIN_MAX = timedelta(days=30)
"""A `considering` may put its own `answer_by` off by at most this."""
