"""The bodies of webhooks as models: what the documentation shows, and what tests compare every sent body with.

Nothing is built from these: `messages` renders pages at speed. Unknown fields are forbidden here, so that a field which
is sent and not documented fails a test.
"""

from __future__ import annotations

from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts import (
    Category,
    Certainty,
    EndReason,
    EscalationState,
    Gap,
    MsgType,
    PositionStance,
    Precedence,
    ResponseType,
    Severity,
    Status,
    Tlp,
    Urgency,
)
from shared.openapi import Webhook
from shared.web import UtcDateTime


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WebhookArea(_Part):
    """A place. Coordinates have the longitude first."""

    description: str
    geometry: dict[str, Any] | None = Field(description="A GeoJSON MultiPolygon.")
    circles: list[tuple[float, float, float]] = Field(description="Longitude, latitude, radius in kilometres.")
    geocodes: list[tuple[str, str]] = Field(description="Name and value, for example `iso3166-1-alpha-3`, `AFG`.")


class WebhookInfo(_Part):
    """What the alert says in one language."""

    language: str
    categories: list[Category]
    event: str
    response_types: list[ResponseType]
    urgency: Urgency
    severity: Severity
    certainty: Certainty
    headline: str
    description: str
    instruction: str
    onset: UtcDateTime | None = None
    expires: UtcDateTime | None = None
    sender_name: str | None = None
    web: str | None = None
    contact: str | None = None
    is_translation: bool = False
    parameters: list[tuple[str, str]] = []
    areas: list[WebhookArea] = []


class WebhookAlert(_Part):
    """The alert, as far as its handling allows: at `TLP:RED` and `TLP:AMBER+STRICT` the first four fields alone."""

    id: UUID
    precedence: Precedence
    link: str = Field(description="Where to read the alert; it needs a token.")
    text: str = Field(description="One line for a small display.")
    reference: str | None = None
    root_alert_id: UUID | None = None
    corrects: UUID | None = None
    crisis_id: UUID | None = None
    raiser: str | None = None
    status: Status | None = None
    msg_type: MsgType | None = None
    tlp: Tlp | None = None
    released_at: UtcDateTime | None = None
    expires_at: UtcDateTime | None = None
    note: str | None = None
    info: list[WebhookInfo] | None = None
    shortened: bool | None = Field(default=None, description="True where parts were left out to stay below 20 kB.")


class WebhookData(_Part):
    """What every message says."""

    partner: str = Field(description="Your government's code.")
    escalation_id: UUID | None = Field(default=None, description="Yours, to acknowledge. Absent where none is asked.")
    level: int | None = Field(default=None, description="The level that is paged; absent for systems.")
    alert: WebhookAlert | None = None


class WebhookAnswer(_Part):
    """What a partner has answered."""

    partner: str
    state: EscalationState | PositionStance
    at: UtcDateTime
    by: str | None = Field(default=None, description="The person; the raiser learns the name.")
    late: bool | None = Field(default=None, description="Whether the partner had been unreached before.")
    answer_by: UtcDateTime | None = Field(default=None, description="For `considering`: until when they will say.")
    note: str | None = None
    offer: str | None = None
    estimated_arrival: UtcDateTime | None = None


class WebhookEmbassy(_Part):
    """An embassy of the unreached partner."""

    partner: str = Field(description="The country that it is in.")
    number: str


class WebhookOffice(_Part):
    """The unreached partner's duty office, to be called by telephone."""

    name: str
    switchboard: str | None
    embassies: list[WebhookEmbassy]


class AnswerData(WebhookData):
    """An answer. Absent where handling lets only the link through."""

    answer: WebhookAnswer | None = None


class EndData(WebhookData):
    """An end. Absent parts are withheld by handling."""

    reason: EndReason | None = None
    ended_at: UtcDateTime | None = None
    never_paged: list[str] | None = Field(default=None, description="Partners that an expired alert never reached.")


class LevelData(WebhookData):
    """A level. The two fields are there in the alarm that a partner has nobody on duty."""

    partner_without_duty: str | None = None
    gaps: list[Gap] | None = None


class UnreachedData(WebhookData):
    """Whom to call, and what to say."""

    unreached_partner: str | None = None
    unreached_at: UtcDateTime | None = None
    levels_tried: int | None = None
    attempts: int | None = None
    office: WebhookOffice | None = None
    call_script: str | None = None


class CoverageData(WebhookData):
    """How the goal stood at its due time. Absent where handling lets only the link through."""

    wanted: int | None = Field(default=None, description="Partners that were to have acknowledged.")
    addressed: int | None = Field(default=None, description="Partners that were asked.")
    answered: int | None = Field(default=None, description="Partners that had acknowledged in time.")
    within_seconds: int | None = None
    due_at: UtcDateTime | None = None
    missing: list[str] | None = Field(default=None, description="Partners that had not acknowledged.")


class WebhookQuestion(_Part):
    """A question back, and its answer once there is one."""

    question_id: UUID
    partner: str | None = Field(default=None, description="Who asks; the raiser alone is told.")
    by: str | None = Field(default=None, description="The person who asks; the raiser learns the name.")
    question: str | None = None
    answer: str | None = None


class QuestionData(WebhookData):
    """A question back, or its answer. Absent where handling lets only the link through."""

    asked: WebhookQuestion | None = None


class WebhookReadBack(_Part):
    """What a partner has repeated."""

    escalation_id: UUID = Field(description="The partner's, to confirm it.")
    partner: str
    by: str | None = None
    read_back: str = Field(description="Country, request and time in the person's own words.")


class ReadBackData(WebhookData):
    """A read-back. Absent where handling lets only the link through."""

    repeated: WebhookReadBack | None = None


class ReadBackRequestData(WebhookData):
    """A read-back that is asked for."""

    note: str | None = Field(default=None, description="What the raiser said of the one before.")


class HeartbeatData(WebhookData):
    """Which path is looked at."""

    endpoint_id: UUID = Field(description="The endpoint's id, as your roster lists it.")
    next_by: UtcDateTime = Field(description="The next one comes by then; allow it a few minutes.")


class _Message(_Part):
    timestamp: UtcDateTime = Field(description="When it happened; the same on every attempt.")


class AlertReleasedMessage(_Message):
    """`alert.released`"""

    type: Literal["alert.released"]
    data: WebhookData


class AlertUpdatedMessage(_Message):
    """`alert.updated`"""

    type: Literal["alert.updated"]
    data: WebhookData


class AlertEndedMessage(_Message):
    """`alert.ended`"""

    type: Literal["alert.ended"]
    data: EndData


class LevelRaisedMessage(_Message):
    """`level.raised`"""

    type: Literal["level.raised"]
    data: LevelData


class PartnerUnreachedMessage(_Message):
    """`partner.unreached`"""

    type: Literal["partner.unreached"]
    data: UnreachedData


class AnswerReceivedMessage(_Message):
    """`answer.received`"""

    type: Literal["answer.received"]
    data: AnswerData


class CoverageMissedMessage(_Message):
    """`coverage.missed`"""

    type: Literal["coverage.missed"]
    data: CoverageData


class QuestionAskedMessage(_Message):
    """`question.asked`"""

    type: Literal["question.asked"]
    data: QuestionData


class QuestionAnsweredMessage(_Message):
    """`question.answered`"""

    type: Literal["question.answered"]
    data: QuestionData


class ReadBackGivenMessage(_Message):
    """`read_back.given`"""

    type: Literal["read_back.given"]
    data: ReadBackData


class ReadBackRequestedMessage(_Message):
    """`read_back.requested`"""

    type: Literal["read_back.requested"]
    data: ReadBackRequestData


class NoticeData(_Part):
    """What is told about the partner's own roster, or a draft of its own. Only what `kind` needs is there."""

    partner: str
    kind: str = Field(examples=["shift_ahead"])
    urgent: bool
    facts: dict[str, str] = Field(
        description="Instants under names that end in `_at`, names of rotas and of your own people, reasons as codes."
    )
    items: list[dict[str, str]] = Field(description="The findings of a digest.")


class NoticeIssuedMessage(_Message):
    """`notice.issued`"""

    type: Literal["notice.issued"]
    data: NoticeData


class TestPingMessage(_Message):
    """`test.ping`"""

    type: Literal["test.ping"]
    data: WebhookData


class TestHeartbeatMessage(_Message):
    """`test.heartbeat`"""

    type: Literal["test.heartbeat"]
    data: HeartbeatData


WEBHOOKS = (
    Webhook(
        "alert.released",
        "An alert is addressed to you",
        "Your government owes an answer, or is told for information. Acknowledge in the name of a human with"
        " `POST /v1/escalations/{escalation_id}/acknowledgement`; a 2xx to this message acknowledges nothing.",
        AlertReleasedMessage,
    ),
    Webhook(
        "alert.updated",
        "An alert was corrected",
        "The Update takes the place of the message that `corrects` names; clock and level carry over. Whoever had"
        " answered is asked again only if the Update asks anew.",
        AlertUpdatedMessage,
    ),
    Webhook(
        "level.raised",
        "The next level is paged",
        "Nobody of your government has acknowledged yet. With `partner_without_duty` it is an alarm for raiser and"
        " secretariat: nobody can be sure that a telephone rings there.",
        LevelRaisedMessage,
    ),
    Webhook(
        "partner.unreached",
        "A partner could not be reached",
        "For raiser and secretariat: all levels are spent and nobody has answered. Call the office, then"
        " `POST /v1/escalations/{escalation_id}/takeover`. Asked again after 30 minutes.",
        PartnerUnreachedMessage,
    ),
    Webhook(
        "answer.received",
        "A partner has answered",
        "For the raiser: an acknowledgement or a position. Also ends a takeover whose partner has answered.",
        AnswerReceivedMessage,
    ),
    Webhook(
        "coverage.missed",
        "Too few partners have acknowledged in time",
        "For raiser and secretariat: the alert's coverage goal was missed. Every partner that has not answered is asked"
        " at its next level at once; `missing` names them.",
        CoverageMissedMessage,
    ),
    Webhook(
        "question.asked",
        "A partner has a question",
        "For the raiser: a partner that was asked wants to know something first. Answer it with"
        " `POST /v1/questions/{question_id}/answer`; everybody who was asked is told.",
        QuestionAskedMessage,
    ),
    Webhook(
        "question.answered",
        "A question was answered",
        "For everybody who was asked by the alert: what one of them wanted to know, and what the raiser says.",
        QuestionAnsweredMessage,
    ),
    Webhook(
        "read_back.requested",
        "A read-back is asked for",
        "Whoever acknowledged repeats country, request and time with"
        " `POST /v1/escalations/{escalation_id}/read-back`: the network asks for it at this precedence, or the raiser"
        " has rejected the one before. It goes to the person; to a system only where that is how they are reached.",
        ReadBackRequestedMessage,
    ),
    Webhook(
        "read_back.given",
        "A partner has read the alert back",
        "For the raiser: say whether it is right with `POST /v1/escalations/{escalation_id}/read-back/confirmation`.",
        ReadBackGivenMessage,
    ),
    Webhook(
        "alert.ended",
        "An alert has ended",
        "It was cancelled, closed, has expired or was superseded: nothing is asked of you any more. Everybody who was"
        " paged is told.",
        AlertEndedMessage,
    ),
    Webhook(
        "notice.issued",
        "A notice about your roster, or a draft that waits",
        "A shift that lies ahead, a swap, a hand-over, a hole in a rota, a draft that waits for its release. It goes to"
        " the people whom it is for; to a system only where that is how they are reached. Nothing has to be answered.",
        NoticeIssuedMessage,
    ),
    Webhook(
        "test.ping",
        "A test message",
        "Somebody of your government verifies this endpoint, or tries it out. There is no emergency and nothing to do"
        " but to answer with 2xx; it is signed like every other message.",
        TestPingMessage,
    ),
    Webhook(
        "test.heartbeat",
        "The hourly heartbeat",
        "Every endpoint gets one each hour, so that a way that has broken is known before it is needed. There is"
        " nothing to do but to answer with 2xx. If none comes by `next_by`, Red Phone or the way from it to you has"
        " failed: let your own monitoring say so.",
        TestHeartbeatMessage,
    ),
)
"""Every type that is sent, in the order of an alert's life, and the two test messages."""
