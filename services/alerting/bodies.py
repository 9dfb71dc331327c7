"""What the HTTP face accepts, field by field, and how CAP goes in and out. Unknown fields are refused.

Field names and values follow CAP 1.2. An alert is written either with `info`, one block per language, or with the short
fields, which make one English block.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, TypeVar
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, ValidationError

from services.alerting import cap
from services.alerting.content import RECIPIENTS_MAX, Proposal, earliest_expiry, shown_headline
from services.alerting.crises.domain import CrisisState
from services.alerting.domain import Alert, AlertState
from services.alerting.views import AreaModel, InfoModel
from shared.contracts import (
    Category,
    Certainty,
    CoverageGoal,
    MsgType,
    Precedence,
    ResponseType,
    Severity,
    Status,
    Tlp,
    Urgency,
)
from shared.errors import Invalid
from shared.problems import HttpProblem, field_errors
from shared.web import UtcDateTime

M = TypeVar("M", bound=BaseModel)

REASON = "Only if you are alone: why no second person could release. It counts at once and is reviewed afterwards."

_KABUL: dict[str, Any] = {
    "headline": "Kabul: evacuation of people at risk before the airport closes",
    "description": "The government has fallen; embassies tell their citizens to shelter in place.",
    "instruction": "Say how many seats and visas you can offer in the coming 72 hours.",
    "countries": ["AFG"],
    "to": ["US", "GB", "DE"],
    "for_information": ["BR"],
    "precedence": "FLASH",
    "severity": "Extreme",
}

PartnerCode = Annotated[str, Field(pattern=r"^[A-Z]{2}$", description="ISO 3166-1 alpha-2, `EU`, or `XR`.")]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class CoverageGoalBody(_Body):
    """How many of the partners in `to` are to have acknowledged, and within which time of release.

    It is counted down. When it is missed, every partner that has not answered is asked at its next level at once, and
    your officers on duty and the secretariat are told.
    """

    model_config = ConfigDict(json_schema_extra={"examples": [{"partners": 2, "within_seconds": 900}]})

    partners: StrictInt = Field(ge=1, le=RECIPIENTS_MAX)
    within_seconds: StrictInt = Field(ge=1, description="At least 60, and before silent partners are unreached.")


class _Saying(_Body):
    """The fields that say something; what is left out is not said."""

    for_information: list[PartnerCode] | None = Field(default=None, description="Partners that are told only.")
    countries: list[str] | None = Field(
        default=None,
        description=(
            "ISO 3166-1, alpha-3 or alpha-2. In an edit or an Update they replace those before; beside `areas` or "
            "`info` they add to theirs."
        ),
        examples=[["AFG"]],
    )
    info: list[InfoModel] | None = Field(default=None, description="One block per language, in place of short fields.")
    headline: str | None = None
    description: str | None = None
    instruction: str | None = None
    event: str | None = None
    categories: list[Category] | None = None
    response_types: list[ResponseType] | None = None
    urgency: Urgency | None = None
    severity: Severity | None = None
    certainty: Certainty | None = None
    onset: UtcDateTime | None = None
    areas: list[AreaModel] | None = None
    status: Status | None = Field(default=None, description="Actual (the default), Exercise or Test.")
    tlp: Tlp | None = Field(default=None, description="Who may read; TLP:AMBER if nothing is said.")
    expires: UtcDateTime | None = Field(
        default=None, description="At least 24 h after the last partner would be unreached; that is the default."
    )
    acknowledge_within_seconds: StrictInt | None = Field(
        default=None, description="Shortens the time to acknowledge that the precedence gives."
    )
    coverage_goal: CoverageGoalBody | None = Field(
        default=None, description='For example "8 of 10 within 15 minutes". Left out, none is counted.'
    )
    answers_visible: StrictBool | None = Field(
        default=None, description="Whether the addressed partners see each other's answers."
    )
    note: str | None = Field(default=None, description="Needed for an Exercise: which one it is.")

    def proposal(self) -> Proposal:
        """What is asked for, as the rules take it."""
        said: dict[str, Any] = {}
        for name in _COPIED:
            if (value := getattr(self, name, None)) is not None:
                said[name] = tuple(value) if isinstance(value, list) else value
        if self.coverage_goal is not None:
            said["coverage_goal"] = CoverageGoal(**self.coverage_goal.model_dump())
        if self.info is not None:
            said["info"] = tuple(block.value() for block in self.info)
        if self.areas is not None:
            said["areas"] = tuple(area.value() for area in self.areas)
        return Proposal(**said, expires_at=self.expires)


_COPIED = [
    name for name in Proposal.__dataclass_fields__ if name not in {"info", "areas", "expires_at", "coverage_goal"}
]


class DraftBody(_Saying):
    """A new alert. The least: headline, countries, to, precedence."""

    model_config = ConfigDict(json_schema_extra={"examples": [_KABUL]})

    id: UUID | None = Field(
        default=None, description="A UUID of version 7 of your own; the same request again is safe."
    )
    precedence: Precedence = Field(description="How fast: it decides every deadline.")
    to: list[PartnerCode] = Field(description="Partners that must acknowledge.")
    crisis_id: UUID | None = Field(
        default=None, description="The crisis that this belongs to; left out, one is opened."
    )
    self_release_reason: str | None = Field(default=None, description=REASON)


class EditBody(_Saying):
    """Changes of a draft; what is left out stays."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"instruction": "Say how many seats you can offer."}]})

    precedence: Precedence | None = None
    to: list[PartnerCode] | None = None


class UpdateBody(_Saying):
    """A correction of a released alert; what is left out stays as it was, the audience too."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"asks_anew": False, "description": "The airport's civil side is closed."}]}
    )

    id: UUID | None = None
    asks_anew: StrictBool = Field(description="Whether those who have answered are asked again.")
    precedence: Precedence | None = None
    to: list[PartnerCode] | None = None
    self_release_reason: str | None = Field(default=None, description=REASON)


class ReleaseBody(_Body):
    """The second person's confirmation."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"precedence": "FLASH"}]})

    precedence: Precedence = Field(description="Repeats the draft's precedence: you have read it.")
    self_release_reason: str | None = Field(default=None, description=REASON)


class RecipientsBody(_Body):
    """More partners for a released alert. Their clocks start now."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"to": ["ES"]}]})

    to: list[PartnerCode] = []
    for_information: list[PartnerCode] = []
    self_release_reason: str | None = Field(default=None, description=REASON)


class CancelBody(_Body):
    """A recall: the alert should not have been sent."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"note": "Sent to the wrong partners."}]})

    note: str = Field(description="Why; everyone whom the alert reached is told.")
    self_release_reason: str | None = Field(default=None, description=REASON)


class CloseBody(_Body):
    """A stand-down: the matter is over."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"note": "The last flight left on 30 August."}]})

    note: str | None = None
    self_release_reason: str | None = Field(default=None, description=REASON)


class CrisisBody(_Body):
    """A new crisis."""

    model_config = ConfigDict(
        json_schema_extra={"examples": [{"name": "Afghanistan, August 2021", "countries": ["AFG"]}]}
    )

    id: UUID | None = Field(
        default=None, description="A UUID of version 7 of your own; the same request again is safe."
    )
    name: str
    countries: list[str] = Field(description="ISO 3166-1, alpha-3 or alpha-2.")
    tlp: Tlp = Tlp.AMBER
    state: CrisisState = CrisisState.WATCH


class CrisisEdit(_Body):
    """A later state; steps may be left out, none leads back."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"state": "activated"}]})

    state: CrisisState


def read_json(model: type[M], body: bytes) -> M:
    """The body as the model; raises the same problems as a declared body would."""
    try:
        return model.model_validate(orjson.loads(body))
    except orjson.JSONDecodeError as error:
        raise HttpProblem(f"the body is not JSON (at character {error.pos})", code="malformed") from None
    except ValidationError as error:
        errors = field_errors(error.errors(include_url=False, include_input=False))
        named = ", ".join(dict.fromkeys(mistake.field for mistake in errors[:5]))
        raise Invalid(f"the input is wrong in: {named}", errors=errors) from None


# --- CAP --------------------------------------------------------------------------------------------------------------


def read_cap(document: bytes) -> tuple[Proposal, UUID | None, tuple[str, ...]]:
    """What a CAP message asks for, the crisis that it names, and which of its elements an alert cannot hold.

    Only an Alert is drafted from CAP: CAP cannot say whether an Update asks anew.
    """
    drafted = cap.to_draft(cap.parse(document))
    if drafted.msg_type is not MsgType.ALERT:
        detail = f"CAP drafts an Alert only; for {drafted.msg_type} use POST /v1/alerts/{{id}}/updates or /cancel"
        raise Invalid(detail, code="cap_not_draftable", field="alert/msgType")
    proposal = Proposal(
        precedence=drafted.precedence,
        to=drafted.to,
        for_information=drafted.for_information,
        info=drafted.info,
        status=drafted.status,
        tlp=drafted.tlp,
        expires_at=drafted.expires_at,
        acknowledge_within_seconds=drafted.acknowledge_within_seconds,
        coverage_goal=drafted.coverage_goal,
        note=drafted.note,
    )
    return proposal, _crisis_named(drafted.incidents), drafted.left_out


def write_cap(alert: Alert, chain: list[Alert]) -> bytes:
    """The alert as CAP 1.2 XML; `chain` are the earlier messages that it corrects, the oldest first."""
    content = alert.content
    is_draft = alert.state is AlertState.DRAFT
    sent_at = alert.released_at or alert.drafted_at
    within = content.acknowledge_within_seconds
    source = cap.CapSource(
        identifier=alert.reference,
        sender=_sender(alert),
        sent_at=sent_at,
        status=Status.DRAFT if is_draft else content.status,
        msg_type=alert.msg_type,
        to=content.to,
        for_information=content.for_information,
        precedence=content.precedence,
        tlp=content.tlp,
        expires_at=alert.expires_at or content.expires_at or earliest_expiry(content.precedence, sent_at),
        acknowledge_by_at=None if within is None else sent_at + timedelta(seconds=within),
        coverage_goal=content.coverage_goal,
        info=tuple(
            block.model_copy(update={"headline": shown_headline(content.status, block.headline)})
            for block in content.info
        ),
        note=content.note,
        references=tuple(
            cap.Reference(sender=_sender(earlier), identifier=earlier.reference, sent=earlier.released_at)
            for earlier in chain
            if earlier.released_at is not None
        ),
        incidents=(str(alert.crisis_id),),
    )
    return cap.render(cap.from_source(source))


def _sender(alert: Alert) -> str:
    """The raiser's sending system as CAP names it: no spaces, and unique among the senders of this network."""
    return f"redphone:{alert.raiser}"


def _crisis_named(incidents: tuple[str, ...]) -> UUID | None:
    """The crisis if the message names exactly one in our own form; other systems' incidents are their own."""
    try:
        return UUID(incidents[0]) if len(incidents) == 1 else None
    except ValueError:
        return None
