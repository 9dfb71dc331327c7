"""Who else is asked while an escalation runs, and who is not any more: purely.

Somebody is added by hand, or stands at a level that was reached already once a new plan has arrived: they are paged
like everybody else there, each contact point once. And everybody can stop their own pages; that answers nothing, and
neither levels nor deadlines move because of it.
"""

from __future__ import annotations

from collections.abc import Set
from datetime import datetime
from uuid import UUID

from services.escalation.directory import Directory
from services.escalation.levels import level_pages
from services.escalation.model import (
    UNANSWERED,
    Escalation,
    Outcome,
    PlannedPage,
    asking_type,
    changed,
    planned_in_order,
)
from shared.contracts import EscalationKind, EscalationState
from shared.errors import Conflict, Invalid

ADDED_MAX = 50
"""So many contacts can be added to one escalation."""

ASKED_STILL = UNANSWERED | {EscalationState.UNREACHED}


def add_contact(
    escalation: Escalation, contact_id: UUID, directory: Directory, paged: Set[UUID], now: datetime
) -> Outcome:
    """Pages one more person of the partner at once. `paged` are the contact points that were paged before.

    Adding somebody twice is adding them once.
    """
    if escalation.kind is EscalationKind.INFORMATION:
        raise Conflict("this partner was only informed: nobody is asked", code="nothing_to_acknowledge")
    if escalation.state is EscalationState.ENDED:
        raise Conflict("the alert has ended: nobody is asked any more", code="escalation_ended")
    if escalation.state not in ASKED_STILL:
        raise Conflict("your government has answered: nobody is asked any more", code="already_answered")
    if directory.contact(contact_id) is None:
        raise Invalid("no such contact in your government's duty plan", code="unknown_contact", field="contact_id")
    if contact_id in escalation.stopped:
        raise Conflict("this person has stopped their own pages for this alert", code="pages_stopped")
    targets = directory.targets_of(contact_id)
    if not targets:
        raise Conflict("nothing can be sent to this person: they have no usable contact point", code="unreachable")
    if contact_id in escalation.added:
        return Outcome(escalation)
    if len(escalation.added) >= ADDED_MAX:
        raise Conflict(f"no more than {ADDED_MAX} people can be added", code="too_many_added")
    pages = planned_in_order(
        [target for target in targets if target.contact_point_id not in paged],
        asking_type(escalation),
        level=max(escalation.level, 1),
        asks=True,
        precedence=escalation.alert.precedence,
        now=now,
    )
    added = changed(escalation, added=(*escalation.added, contact_id))
    return Outcome(_with_pages(added, pages), pages=pages)


def page_newcomers(escalation: Escalation, directory: Directory, paged: Set[UUID], now: datetime) -> Outcome | None:
    """Pages whoever a new plan puts on a level that was reached already; None if there is nobody."""
    if escalation.state not in ASKED_STILL or escalation.kind is EscalationKind.INFORMATION or not escalation.levels:
        return None
    everybody = level_pages(escalation, directory, asking_type(escalation), now, asks=True)
    pages = tuple(page for page in everybody if page.target.contact_point_id not in paged)
    return Outcome(_with_pages(escalation, pages), pages=pages) if pages else None


def stop_pages(escalation: Escalation, contact_id: UUID) -> Outcome:
    """One person, or one contact point of an office, is not paged any more for this escalation."""
    if contact_id in escalation.stopped or escalation.state is EscalationState.ENDED:
        return Outcome(escalation)
    return Outcome(changed(escalation, stopped=(*escalation.stopped, contact_id)))


def _with_pages(escalation: Escalation, pages: tuple[PlannedPage, ...]) -> Escalation:
    if not pages:
        return escalation
    single = any(page.target.is_single_way for page in pages)
    return changed(escalation, paged=True, one_provider=escalation.one_provider or single)
