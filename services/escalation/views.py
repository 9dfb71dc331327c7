"""What escalation shows, to whom: the JSON of its API.

Raiser and secretariat see state, level, times, reasons, office and role of every addressed partner; a partner sees its
own in full. Names belong to the partner, except that the raiser learns the name of who acknowledged. A headline is
withheld from whoever the handling label does not reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from services.escalation import reading
from services.escalation.messages import headline_of
from services.escalation.model import AlertFacts, DueReason, Position
from services.escalation.reading import READ_BACK_COLUMNS
from services.escalation.store import Row, actor_of, position_of_json
from services.escalation.talk.store import read_back_state
from shared.contracts import (
    SECRETARIAT,
    ChannelName,
    EndReason,
    EscalationKind,
    EscalationState,
    Gap,
    PositionStance,
    Precedence,
    Status,
    Tlp,
)
from shared.process import Deps
from shared.security import Principal
from shared.web import UtcDateTime


class View(BaseModel):
    """Base of what is shown."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class LastAttempt(View):
    """The newest try at reaching the partner, and what came of it."""

    at: UtcDateTime
    state: Literal["sent", "delivered", "failed", "expired"] | None
    """None while it is under way."""
    reason: str | None
    detail: str | None
    channel: ChannelName
    told: str
    """Office, role or endpoint; never a name."""


class Answer(View):
    """Who acknowledged, when."""

    at: UtcDateTime
    by: str | None
    """The person's name; shown to their own government and to the raiser."""
    asserted_by_system: str | None
    via: str | None
    late: bool


class PositionView(View):
    """The partner's substantive answer."""

    stance: PositionStance
    at: UtcDateTime
    by: str | None
    answer_by: UtcDateTime | None
    note: str | None
    offer: str | None
    estimated_arrival: UtcDateTime | None


class ReadBackView(View):
    """What the network wants repeated after an acknowledgement, as it stands."""

    state: Literal["required", "given", "confirmed"]
    """One that the raiser has rejected is required again."""
    required_at: UtcDateTime
    country: str | None
    """This and the next two are shown to the partner and the raiser; so is `by`, the person's name, and `note`."""
    request: str | None
    time: str | None
    given_at: UtcDateTime | None
    by: str | None
    correct: bool | None
    """What the raiser has said of it; None while it has said nothing."""
    note: str | None
    rejections: int


class Takeover(View):
    """Who has taken an unreached partner over."""

    at: UtcDateTime
    by: str | None
    partner: str


class AlertHeading(View):
    """The alert, as far as an escalation needs to name it."""

    id: UUID
    reference: str
    raiser: str
    precedence: Precedence
    status: Status
    tlp: Tlp
    headline: str | None
    """None where the handling label withholds it from you."""
    released_at: UtcDateTime
    expires_at: UtcDateTime
    ended_at: UtcDateTime | None


class EscalationView(View):
    """One partner's obligation to answer one alert, as it stands."""

    id: UUID
    alert: AlertHeading
    partner: str
    kind: EscalationKind
    subject_partner: str | None
    """For kind takeover: the partner that could not be reached."""
    state: EscalationState
    level: int | None
    """The level that was paged last. This, and all that says how the partner was reached, is None or empty where you
    see only its answer: as another addressed partner of an alert that makes answers visible.
    """
    levels: int | None
    clock_started_at: UtcDateTime
    acknowledge_by: UtcDateTime | None
    unreached_at: UtcDateTime | None
    next_due_at: UtcDateTime | None
    next_due: DueReason | None
    """What happens at `next_due_at` if nobody does anything."""
    notified_at: UtcDateTime | None
    acknowledgement: Answer | None
    read_back: ReadBackView | None
    """None where none is asked for, which is what the network's table of deadlines says by precedence."""
    position: PositionView | None
    takeover: Takeover | None
    gaps: list[Gap]
    one_provider: bool
    """Somebody who was paged can be reached through one provider alone: if that fails, nothing rings there."""
    last_attempt: LastAttempt | None
    ended_at: UtcDateTime | None
    end_reason: EndReason | None
    changed_at: UtcDateTime


class CostView(View):
    """What a provider says that a message cost."""

    amount: str = Field(description="A decimal number.")
    currency: str = Field(description="ISO 4217.")


class AttemptView(View):
    """One try at sending a page."""

    number: int
    started_at: UtcDateTime
    finished_at: UtcDateTime | None
    state: Literal["sent", "delivered", "failed", "expired"] | None
    reason: str | None
    detail: str | None
    status_code: int | None
    elapsed_seconds: float | None
    provider: str | None = Field(default=None, description="Who carried it, where somebody does.")
    provider_id: str | None = Field(default=None, description="The provider's own name for it.")
    delivered_at: UtcDateTime | None = Field(default=None, description="When it is known to have arrived.")
    latency_seconds: float | None = Field(default=None, description="From its start until it had arrived.")
    cost: CostView | None = Field(default=None, description="Where the provider tells it.")


class PageView(View):
    """One message to one contact point."""

    id: UUID
    """The `webhook-id`; the same on every attempt."""
    channel: ChannelName
    told: str
    contact_id: UUID | None
    """Shown to the contact's own government."""
    message_type: str
    level: int
    asks: bool
    state: Literal["due", "leased", "done", "ended"]
    next_attempt_at: UtcDateTime | None
    delivered_at: UtcDateTime | None
    sent_with: UUID | None = Field(
        default=None, description="Where several pages left as one message: the page whose link and code it carried."
    )
    created_at: UtcDateTime
    attempts: list[AttemptView]


class EscalationDetail(EscalationView):
    """An escalation with every page and attempt."""

    pages: list[PageView]
    brief: dict[str, Any] | None = Field(default=None)
    """For a takeover: the unreached office's numbers and what to say."""


class CoverageView(View):
    """How a coverage goal stands: so many partners are to have acknowledged by its due time."""

    alert_id: UUID
    partners: int
    within_seconds: int
    due_at: UtcDateTime
    """Of an Update, the earlier of its own and that of the message that it corrects."""
    state: Literal["open", "met", "missed"]
    acknowledged: int
    """How many have acknowledged in time until now."""
    asked: int
    decided_at: UtcDateTime | None


class Board(View):
    """Alert × partner, as of one instant."""

    as_of: UtcDateTime
    escalations: list[EscalationView]
    coverage: list[CoverageView] = Field(
        default=[], description="For raiser and secretariat: goals that are counted down, or were decided within a day."
    )


def coverage_view(row: Row) -> CoverageView:
    """A goal as its raiser and the secretariat see it."""
    fields = {name: row[name] for name in CoverageView.model_fields if name != "asked"}
    return CoverageView(**fields, asked=len(row["asked"]))


def escalation_view(row: Row, principal: Principal) -> EscalationView:
    """The row as this caller may see it."""
    return EscalationView(**_fields(row, principal))


async def shown(deps: Deps, principal: Principal, escalation_id: UUID) -> EscalationView:
    """One escalation as the caller may see it, read anew; raises `NotFound`."""
    async with deps.intake.transaction() as tx:
        row = await reading.get_one(tx, principal, escalation_id)
    return escalation_view(row, principal)


def attempt_view(row: Row) -> AttemptView:
    """One attempt, with what it cost where a provider told."""
    plain = {name: row[name] for name in AttemptView.model_fields if name not in {"cost", "latency_seconds"}}
    if row["delivered_at"] is not None:
        plain["latency_seconds"] = (row["delivered_at"] - row["started_at"]).total_seconds()
    if row["cost_amount"] is None:
        return AttemptView(**plain)
    return AttemptView(**plain, cost=CostView(amount=str(row["cost_amount"]), currency=row["cost_currency"]))


def escalation_detail(
    row: Row, pages: Sequence[Row], attempts: Sequence[Row], principal: Principal
) -> EscalationDetail:
    """The row with pages and attempts as this caller may see them."""
    by_page: dict[UUID, list[AttemptView]] = {}
    for attempt in attempts:
        by_page.setdefault(attempt["page_id"], []).append(attempt_view(attempt))
    own = principal.partner == row["partner"]
    sees_course = _sees_course(row["alert"], row, principal)
    return EscalationDetail(
        **_fields(row, principal),
        pages=[
            PageView(
                id=page["id"],
                channel=page["channel"],
                told=page["told"],
                contact_id=page["contact_id"] if own else None,
                message_type=page["message_type"],
                level=page["level"],
                asks=page["asks"],
                state=page["state"],
                next_attempt_at=page["due_at"] if page["state"] == "due" else None,
                delivered_at=page["delivered_at"],
                sent_with=page["sent_with"],
                created_at=page["created_at"],
                attempts=by_page.get(page["id"], []),
            )
            for page in (pages if sees_course else ())
        ],
        brief=row["brief"] if sees_course else None,
    )


def _fields(row: Row, principal: Principal) -> dict[str, Any]:
    facts: AlertFacts = row["alert"]
    sees_names = principal.partner in (row["partner"], facts.raiser)
    fields = {
        "id": row["id"],
        "alert": _alert(facts, row, principal),
        "partner": row["partner"],
        "kind": row["kind"],
        "subject_partner": row["subject_partner"] or None,
        "state": row["state"],
        "level": row["level"],
        "levels": row["level_count"],
        "clock_started_at": row["clock_started_at"],
        "acknowledge_by": row["acknowledge_by_at"],
        "unreached_at": row["unreached_at"],
        "next_due_at": row["due_at"],
        "next_due": row["due_reason"],
        "notified_at": row["notified_at"],
        "acknowledgement": _answer(row, sees_names=sees_names),
        "read_back": _read_back(row, sees_words=sees_names),
        "position": _position(
            position_of_json(row["position"]), sees_names=sees_names, sees_text=_sees_answer(facts, row, principal)
        ),
        "takeover": _takeover(row, principal, facts),
        "gaps": list(row["gaps"]),
        "one_provider": row["one_provider"],
        "last_attempt": _last_attempt(row),
        "ended_at": row["ended_at"],
        "end_reason": row["end_reason"],
        "changed_at": row["changed_at"],
    }
    return fields if _sees_course(facts, row, principal) else {**fields, **_ANSWER_ONLY}


_ANSWER_ONLY: dict[str, Any] = {
    "level": None,
    "levels": None,
    "acknowledge_by": None,
    "unreached_at": None,
    "next_due_at": None,
    "next_due": None,
    "notified_at": None,
    "read_back": None,
    "takeover": None,
    "gaps": [],
    "one_provider": False,
    "last_attempt": None,
}


def _sees_course(facts: AlertFacts, row: Row, principal: Principal) -> bool:
    """Whether the caller sees how the partner was reached, and not its answer alone."""
    return principal.is_service or principal.partner in (row["partner"], facts.raiser, SECRETARIAT)


def _sees_answer(facts: AlertFacts, row: Row, principal: Principal) -> bool:
    """Whether the caller sees the words of the partner's answer; the secretariat sees that there is one, and which."""
    return principal.partner in (row["partner"], facts.raiser, *facts.answers_visible_to)


def _sees_text(facts: AlertFacts, row: Row, principal: Principal) -> bool:
    # Whoever is asked to take a partner over is not thereby addressed: handling still keeps the text from them.
    asked = () if row["kind"] == EscalationKind.TAKEOVER else (row["partner"],)
    addressed = principal.partner in (*asked, facts.raiser, *facts.answers_visible_to)
    return addressed if facts.tlp.link_only else addressed or principal.partner == SECRETARIAT


def _alert(facts: AlertFacts, row: Row, principal: Principal) -> AlertHeading:
    headline = None
    if row["headline"] and _sees_text(facts, row, principal):
        headline = headline_of(row["headline"], is_drill=facts.status is Status.EXERCISE)
    return AlertHeading(
        id=facts.alert_id,
        reference=facts.reference,
        raiser=facts.raiser,
        precedence=facts.precedence,
        status=facts.status,
        tlp=facts.tlp,
        headline=headline,
        released_at=facts.released_at,
        expires_at=facts.expires_at,
        ended_at=row["alert_ended_at"],
    )


def _answer(row: Row, *, sees_names: bool) -> Answer | None:
    by = actor_of(row["acknowledged_by"])
    if row["acknowledged_at"] is None or by is None:
        return None
    return Answer(
        at=row["acknowledged_at"],
        by=by.name if sees_names else None,
        asserted_by_system=row["asserted_by_system"] if sees_names else None,
        via=row["acknowledged_via"],
        late=row["late"],
    )


def _read_back(row: Row, *, sees_words: bool) -> ReadBackView | None:
    if row["read_back_required_at"] is None or row["acknowledged_at"] is None:
        return None
    stored = {name: row[f"read_back_{name}"] for name in READ_BACK_COLUMNS}
    by = actor_of(stored.pop("given_by"))
    if not sees_words:
        stored |= {"country": None, "request": None, "time": None, "note": None}
    return ReadBackView(
        **stored, state=read_back_state(row, "read_back_"), by=by.name if sees_words and by is not None else None
    )


def _position(position: Position | None, *, sees_names: bool, sees_text: bool) -> PositionView | None:
    if position is None:
        return None
    return PositionView(
        stance=position.stance,
        at=position.taken_at,
        by=position.taken_by.name if sees_names else None,
        answer_by=position.answer_by_at,
        note=position.note if sees_text else None,
        offer=position.offer if sees_text else None,
        estimated_arrival=position.estimated_arrival_at,
    )


def _takeover(row: Row, principal: Principal, facts: AlertFacts) -> Takeover | None:
    by = actor_of(row["taken_over_by"])
    if row["taken_over_at"] is None or by is None:
        return None
    sees_name = principal.partner in (by.partner, facts.raiser)
    return Takeover(at=row["taken_over_at"], by=by.name if sees_name else None, partner=by.partner)


def _last_attempt(row: Row) -> LastAttempt | None:
    at: datetime | None = row["last_finished_at"] or row["last_started_at"]
    if at is None:
        return None
    return LastAttempt(
        at=at,
        state=row["last_state"],
        reason=row["last_reason"],
        detail=row["last_detail"],
        channel=row["last_channel"],
        told=row["last_told"],
    )
