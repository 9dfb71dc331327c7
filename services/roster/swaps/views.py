"""What HTTP is sent of swaps and answers: for people of the partner alone, so names stand in it, and never a number."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from services.roster.domain import PartnerState
from services.roster.swaps.domain import Stretch, Swap, SwapState
from shared.ids import ContactId
from shared.web import UtcDateTime


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class StretchBody(_Body):
    """A part of a rota's time, from `start_at` until `end_at`."""

    start_at: UtcDateTime = Field(examples=["2026-11-28T07:00:00Z"])
    end_at: UtcDateTime = Field(examples=["2026-11-29T07:00:00Z"])

    def stretch(self) -> Stretch:
        """As the domain has it."""
        return Stretch(self.start_at, self.end_at)


class OfferBody(StretchBody):
    """A stretch of your own shifts, to one colleague or to everybody of the rota."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "start_at": "2026-11-28T07:00:00Z",
                    "end_at": "2026-11-29T07:00:00Z",
                    "offered_to": "0191a8c0-0000-7000-8000-000000000004",
                    "in_return": {"start_at": "2026-12-05T07:00:00Z", "end_at": "2026-12-06T07:00:00Z"},
                }
            ]
        },
    )

    offered_to: UUID | None = Field(
        default=None, description="A contact who belongs to the rota. Left out, the offer is open to all who do."
    )
    in_return: StretchBody | None = Field(
        default=None, description="What that colleague holds in the same rota and you take for it."
    )
    offered_by: UUID | None = Field(
        default=None, description="For roster managers: the contact on whose behalf they offer. Left out: yourself."
    )


class AnswerBody(_Body):
    """On whose behalf a roster manager answers. Everybody else leaves it out."""

    on_behalf_of: UUID | None = Field(default=None, description="A contact of your government. Left out: yourself.")


class AcceptanceBody(AnswerBody):
    """As for any answer, and whether two duties at once are meant."""

    force: bool = Field(
        default=False, description="For roster managers: also if it puts somebody on two duties at the same time."
    )


class SwapPerson(BaseModel):
    """A contact of your government."""

    contact_id: UUID
    name: str | None = Field(default=None, description="Absent for somebody who is no contact any more.")


class StretchView(BaseModel):
    """A part of a rota's time."""

    start_at: UtcDateTime
    end_at: UtcDateTime


class SwapView(StretchView):
    """An offer, and what became of it."""

    id: UUID
    rota_id: UUID
    rota: str | None = Field(default=None, description="Absent if the rota is no more.", examples=["Duty officers"])
    state: SwapState
    offered_by: SwapPerson
    offered_to: SwapPerson | None = Field(default=None, description="Absent for an offer to everybody of the rota.")
    in_return: StretchView | None = None
    offered_at: UtcDateTime
    expires_at: UtcDateTime = Field(description="When the first of its stretches begins.")
    accepted_by: SwapPerson | None = None
    declined_by: list[SwapPerson] = Field(description="Who has said no. An open offer stays open for the others.")
    ended_at: UtcDateTime | None = None
    double_duty: list[str] = Field(
        default_factory=list,
        description="In the answer to an offer or an acceptance: other rotas in which the taker is on call meanwhile.",
    )
    version: int


def swap_view(swap: Swap, state: PartnerState, *, now: datetime, double_duty: tuple[str, ...] = ()) -> SwapView:
    """A swap for the people of its partner."""
    names: Mapping[ContactId, str] = {contact.id: contact.name for contact in state.contacts}

    def person(contact_id: ContactId | None) -> SwapPerson | None:
        return None if contact_id is None else SwapPerson(contact_id=contact_id, name=names.get(contact_id))

    def shown(stretch: Stretch) -> StretchView:
        return StretchView(start_at=stretch.start_at, end_at=stretch.end_at)

    now_state = swap.state_at(now)
    is_over = now_state is SwapState.EXPIRED
    return SwapView(
        id=swap.id,
        rota_id=swap.rota_id,
        rota=next((rota.name for rota in state.rotas if rota.id == swap.rota_id), None),
        state=now_state,
        offered_by=SwapPerson(contact_id=swap.offered_by, name=names.get(swap.offered_by)),
        offered_to=person(swap.offered_to),
        start_at=swap.stretch.start_at,
        end_at=swap.stretch.end_at,
        in_return=None if swap.in_return is None else shown(swap.in_return),
        offered_at=swap.offered_at,
        expires_at=swap.expires_at,
        accepted_by=person(swap.accepted_by),
        declined_by=[SwapPerson(contact_id=one, name=names.get(one)) for one in swap.declined_by],
        ended_at=swap.expires_at if is_over else swap.ended_at,
        double_duty=list(double_duty),
        version=swap.version,
    )
