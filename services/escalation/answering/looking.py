"""What stands behind a page's link, read without a lock: nothing here changes anything, however often it is asked.

A message that an Update has corrected meanwhile shows the Update, because that is what its code acknowledges.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from services.escalation import store
from services.escalation.answering import store as reply_store
from services.escalation.answering.replies import CODE_VALID, languages_of
from services.escalation.answers import find_corrected_by
from services.escalation.deps import EscalationDeps
from services.escalation.model import UNANSWERED, Escalation
from services.escalation.people.texts import PageFacts, facts_of
from services.escalation.store import Row
from services.escalation.talk import store as question_store
from shared.contracts import EscalationKind, EscalationState
from shared.db import Transaction


@dataclass(frozen=True, slots=True)
class Looked:
    """A page and what its message carried, as it stands now. `escalations` has that of the page itself first."""

    page: Row
    escalations: tuple[Escalation, ...]
    contents: Mapping[UUID, dict[str, Any]]
    languages: tuple[str, ...]
    time_zone: str
    open_count: int
    """How many alerts the partner still owes an answer to."""
    is_locked: bool
    is_expired: bool
    read_backs_owed: frozenset[UUID]
    """The escalations of which the network wants a read-back that nobody has given, or that was rejected."""

    @property
    def is_office(self) -> bool:
        """Whether nobody in particular was paged, so that whoever answers gives their name."""
        return self.page["contact_id"] is None

    @property
    def is_over(self) -> bool:
        """Whether nothing that the message carried is still open."""
        return all(e.state is EscalationState.ENDED for e in self.escalations)

    @property
    def asks_acknowledgement(self) -> bool:
        """Whether somebody is still waited for."""
        return any(_is_waited_for(e) for e in self.escalations)

    @property
    def has_answered(self) -> bool:
        """Whether all that was asked was acknowledged and has its position."""
        answered = (e.acknowledged_at is not None and e.state not in _POSITION_DUE for e in self.escalations)
        return bool(self.escalations) and all(answered)

    @property
    def answerable(self) -> tuple[Escalation, ...]:
        """Those about which a position can be taken."""
        return tuple(
            e for e in self.escalations if e.kind is EscalationKind.ANSWER and e.state is not EscalationState.ENDED
        )

    @property
    def owes_read_back(self) -> tuple[Escalation, ...]:
        """Those whose acknowledgement is to be repeated."""
        return tuple(e for e in self.escalations if e.id in self.read_backs_owed and e.acknowledged_at is not None)

    def facts(self, languages: Sequence[str], now: datetime) -> PageFacts:
        """What the link page says of it, before anything that handling withholds is taken away."""
        each = [self._facts_of(e, languages, now) for e in self.escalations]
        if not each:
            return facts_of(self.page, None, None, languages=languages, time_zone=self.time_zone, now=now)
        return replace(each[0], others=tuple(each[1:]))

    def _facts_of(self, escalation: Escalation, languages: Sequence[str], now: datetime) -> PageFacts:
        over = escalation.state is EscalationState.ENDED
        waited_for = _is_waited_for(escalation)
        position_due = escalation.state is EscalationState.ACKNOWLEDGED and escalation.kind is EscalationKind.ANSWER
        takeover = escalation.kind is EscalationKind.TAKEOVER
        row = {
            "message_type": "partner.unreached" if takeover else _type_of(escalation),
            "asks": not over and (waited_for or position_due),
            "level": 0,
            "contact_id": self.page["contact_id"],
            "data": escalation.brief if takeover else None,
            "alert_id": escalation.alert.alert_id,
        }
        return facts_of(
            row,
            escalation.alert,
            self.contents.get(escalation.alert.alert_id),
            languages=languages,
            time_zone=self.time_zone,
            now=now,
            answer_by_at=escalation.position_by_at if position_due else escalation.acknowledge_by_at,
            position_due=position_due and not over,
        )


_POSITION_DUE = frozenset({EscalationState.ACKNOWLEDGED, EscalationState.CONSIDERING})


def _type_of(escalation: Escalation) -> str:
    return "alert.updated" if escalation.alert.is_update else "alert.released"


def _is_waited_for(escalation: Escalation) -> bool:
    if escalation.kind is EscalationKind.TAKEOVER:
        return escalation.state in UNANSWERED
    return escalation.kind is EscalationKind.ANSWER and (
        escalation.state in UNANSWERED or escalation.state is EscalationState.UNREACHED
    )


async def look(deps: EscalationDeps, page_id: UUID) -> Looked | None:
    """What stands behind a page's link; None if there is no such page."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        page = await reply_store.find_page(tx, page_id, now)
        if page is None:
            return None
        escalations = await _current(tx, page)
        contents = await store.find_content(tx, [e.alert.alert_id for e in escalations])
        directory = await deps.directories.find_one(tx, page["partner"])
        contact = None if page["contact_id"] is None else directory.contact(page["contact_id"])
        read_backs = await question_store.find_read_backs(tx, [e.id for e in escalations])
        zone = page["time_zone"] or (None if contact is None else contact.time_zone)
        return Looked(
            page=page,
            escalations=escalations,
            contents={alert_id: content for alert_id, (_facts, content) in contents.items() if content},
            languages=await languages_of(deps, tx, page),
            time_zone=zone or (directory.plan.time_zone if directory.plan is not None else "UTC"),
            open_count=len(await store.find_open_alerts_of(tx, page["partner"])),
            is_locked=await reply_store.is_locked(tx, page_id),
            is_expired=now > page["created_at"] + CODE_VALID,
            read_backs_owed=frozenset(
                escalation_id
                for escalation_id, row in read_backs.items()
                if question_store.read_back_state(row) == "required"
            ),
        )


async def _current(tx: Transaction, page: Row) -> tuple[Escalation, ...]:
    """The escalations that the message's code answers now, each once, that of the page itself first."""
    rows = await reply_store.find_message(tx, page["id"])
    rows.sort(key=lambda row: row["id"] != page["id"])
    found: dict[UUID, Escalation] = {}
    for escalation_id in dict.fromkeys(row["escalation_id"] for row in rows if row["escalation_id"] is not None):
        escalation = await store.find_escalation(tx, escalation_id)
        if escalation is not None and escalation.state is EscalationState.ENDED:
            escalation = await find_corrected_by(tx, escalation) or escalation
        if escalation is not None:
            found[escalation.id] = escalation
    return tuple(found.values())
