"""What happens on an event that the bus brings, from alerting, roster, and escalation itself.

Every handler shows the same few lines: transaction, inbox, load with lock, decide, save, commit, publish. Locks are
taken in one order: alert head, coverage goal, escalations by id, pages. Events come in any order and more than once.

The cast: `alerts`, `answers` and `rosters`, by what they are told of; all of them are in SUBSCRIPTIONS.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from services.escalation.deps import EscalationDeps
from services.escalation.handlers.alerts import on_alert_ended, on_alert_released, on_release_asked
from services.escalation.handlers.answers import (
    on_coverage_goal_missed,
    on_partner_acknowledged,
    on_partner_unreached,
    on_position_taken,
    on_question_answered,
    on_question_asked,
    on_read_back_given,
)
from services.escalation.handlers.rosters import (
    on_credentials_published,
    on_duty_plan_published,
    on_notice_issued,
    on_partner_changed,
)
from shared.contracts import (
    AlertEnded,
    AlertReleased,
    CoverageGoalMissed,
    CredentialsPublished,
    DutyPlanPublished,
    NoticeIssued,
    PartnerAcknowledged,
    PartnerChanged,
    PartnerUnreached,
    PositionTaken,
    QuestionAnswered,
    QuestionAsked,
    ReadBackGiven,
    ReleaseAsked,
)
from shared.events import Event, Message

SUBSCRIPTIONS: dict[type[Event], Callable[[EscalationDeps, Message[Any]], Awaitable[None]]] = {
    AlertReleased: on_alert_released,
    AlertEnded: on_alert_ended,
    DutyPlanPublished: on_duty_plan_published,
    PartnerChanged: on_partner_changed,
    CredentialsPublished: on_credentials_published,
    PartnerUnreached: on_partner_unreached,
    PartnerAcknowledged: on_partner_acknowledged,
    CoverageGoalMissed: on_coverage_goal_missed,
    PositionTaken: on_position_taken,
    QuestionAsked: on_question_asked,
    QuestionAnswered: on_question_answered,
    ReadBackGiven: on_read_back_given,
    NoticeIssued: on_notice_issued,
    ReleaseAsked: on_release_asked,
}
