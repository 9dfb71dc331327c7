"""Whom escalation tells, without asking anything of them: partners' systems, and in an alarm people on duty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from services.escalation import store
from services.escalation.deps import EscalationDeps
from services.escalation.model import AlertFacts, Escalation, Outcome, planned_in_order
from services.escalation.saving import notice_rows
from shared.contracts import (
    SECRETARIAT,
    EscalationState,
    Gap,
)
from shared.db import Transaction
from shared.log import get_logger

log = get_logger(__name__)

ALARMING_GAPS = frozenset({Gap.NO_DUTY_PLAN, Gap.DUTY_PLAN_EXPIRED, Gap.DUTY_PLAN_UNREADABLE, Gap.ALL_LEVELS_EMPTY})
"""Gaps of which raiser and secretariat are told at once: nobody can be sure that a phone rings there."""


async def alarm_gaps(
    deps: EscalationDeps,
    tx: Transaction,
    before: Sequence[Escalation | None],
    outcomes: Sequence[Outcome],
    now: datetime,
) -> bool:
    """Tells raiser and secretariat at once where nobody can be sure that a telephone rings: their systems and people.

    `before` is None for an escalation that has just opened. A gap is told of once. Returns whether any was told of.
    """
    told = False
    for old, outcome in zip(before, outcomes, strict=True):
        escalation = outcome.escalation
        known = set(old.gaps) if old is not None else set()
        news = ALARMING_GAPS.intersection(escalation.gaps) - known
        unheard = old is None and not escalation.paged
        if escalation.state is EscalationState.ENDED or not (news or unheard):
            continue
        log.error(
            "duty_plan.lacking",
            partner=escalation.partner,
            alert_id=str(escalation.alert.alert_id),
            gaps=[gap.value for gap in escalation.gaps],
        )
        told = True
        codes = [c for c in (escalation.alert.raiser, SECRETARIAT) if c != escalation.partner]
        data = {"partner_without_duty": escalation.partner, "gaps": list(escalation.gaps)}
        await tell_partners(
            deps, tx, escalation.alert, codes=codes, message_type="level.raised", data=data, now=now, people=True
        )
    return told


async def tell_partners(
    deps: EscalationDeps,
    tx: Transaction,
    alert: AlertFacts,
    *,
    codes: Sequence[str],
    message_type: str,
    data: Mapping[str, Any],
    now: datetime,
    people: bool = False,
) -> None:
    """Informs partners of which no answer is asked: one page to each of their endpoints, and if it is an alarm, to
    whoever is on duty at their first level.
    """
    served = [code for code in dict.fromkeys(codes) if deps.serves(code)]
    directories = await deps.directories.find(tx, served)
    for code in served:
        targets = [*directories[code].endpoint_targets(), *(directories[code].on_duty(now) if people else ())]
        pages = planned_in_order(targets, message_type, level=0, asks=False, precedence=alert.precedence, now=now)
        rows = notice_rows(pages, alert=alert, partner=code, data=data, ids=deps.ids, now=now)
        await store.insert_pages(tx, rows)
