"""Line tests: what one says, when it may begin, when it is over, and what came of it. Pure: no I/O, no clock.

A line test is an alert like any other, with status Exercise, raised by the secretariat to one partner. It ends with the
time to answer, so that nobody is ever called unreached by it, or a minute after the answer. It gives way to every
Actual alert: one that addresses the partner stops it, and while one is open none begins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from enum import StrEnum
from uuid import UUID

from services.alerting import content as said
from services.alerting import countries, domain
from services.alerting.content import Network, Proposal
from services.alerting.crises.domain import Crisis, CrisisState
from services.alerting.domain import AlertState, Caller
from services.alerting.line_tests.plan import APART, Kind
from services.alerting.line_tests.texts import LANGUAGES, ORIGINAL, texts
from shared.contracts import (
    SECRETARIAT,
    Actor,
    Category,
    Info,
    Precedence,
    ResponseType,
    Role,
    Severity,
    Status,
    Tlp,
)
from shared.errors import Conflict, FieldError, Forbidden, Invalid
from shared.ids import AlertId, CrisisId

PRECEDENCE = Precedence.IMMEDIATE
ANSWER_WITHIN = timedelta(minutes=30)
"""Time to answer, where the network's own table gives no less."""

CLOSES_AFTER = timedelta(minutes=1)
"""So long after the answer the test is closed."""

APART_FROM_DRILLS = timedelta(hours=12)
"""At least this lies between a planned test and any other drill that addresses the partner."""

CORRECTED_WITHIN = timedelta(days=1)
"""An answer that was given in time and heard of so late still counts."""

ALARMED_FOR = timedelta(days=1)
"""So long an unanswered test stands as an alarm."""

PARTNERS_MAX = 1_000
REASON = "line test plan"
NOTE = "Line test"
STOPPED_NOTE = "an actual alert"
ANSWERED_NOTE = "the line test has been answered"
SEAT = "BEL"
"""The country of a partner that is none: where the European institutions sit."""


class Outcome(StrEnum):
    """What came of a test."""

    ANSWERED = "answered"
    UNANSWERED = "unanswered"
    STOPPED = "stopped"


class StopReason(StrEnum):
    """Why a test says nothing about its partner."""

    ACTUAL_ALERT = "actual_alert"
    BY_HAND = "by_hand"
    NOT_DELIVERED = "not_delivered"
    """No escalation was opened before its time was over."""


class Obstacle(StrEnum):
    """Why a test does not begin now."""

    NOT_ACTIVE = "not_active"
    RUNNING = "line_test_running"
    ACTUAL_ALERT = "actual_alert_open"
    ANOTHER_DRILL = "another_drill"
    TOO_SOON = "too_soon"


@dataclass(frozen=True, slots=True)
class Plan:
    """The switch of the monthly tests. `partners` None: all that take part. Tests run in the name of `switched_by`."""

    enabled: bool = False
    partners: tuple[str, ...] | None = None
    switched_by: Actor | None = None
    switched_at: datetime | None = None
    version: int = 1

    def includes(self, partner: str) -> bool:
        """Whether the partner is tested by the plan."""
        return self.enabled and partner != SECRETARIAT and (self.partners is None or partner in self.partners)


@dataclass(frozen=True, slots=True)
class Partner:
    """What a test needs to know of a partner. `time_zone` None: not told yet, and so not planned."""

    code: str
    active: bool
    time_zone: str | None
    languages: tuple[str, ...] = (ORIGINAL,)


@dataclass(frozen=True, slots=True)
class LineTest:
    """One test and what came of it. `month` and `planned_at` are None for one that was asked for by hand."""

    id: UUID
    alert_id: AlertId
    reference: str
    partner: str
    kind: Kind
    month: date | None
    planned_at: datetime | None
    started_at: datetime
    started_by: Actor
    answer_by_at: datetime
    level: int = 0
    acknowledged_at: datetime | None = None
    outcome: Outcome | None = None
    stop_reason: StopReason | None = None
    ended_at: datetime | None = None

    @property
    def seconds(self) -> float | None:
        """How long the answer took."""
        return None if self.acknowledged_at is None else (self.acknowledged_at - self.started_at).total_seconds()


@dataclass(frozen=True, slots=True)
class Heard:
    """What escalation has reported of a test: whether it opened, the highest level, and the first acknowledgement."""

    opened: bool = False
    level: int = 0
    acknowledged_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else goes on at a partner. Instants are the latest, None if there was none."""

    is_tested: bool = False
    has_actual: bool = False
    drilled_at: datetime | None = None
    tested_at: datetime | None = None


# --- the plan's switch ------------------------------------------------------------------------------------------------


def must_be_secretariat(by: Caller) -> None:
    """Raises `Forbidden` unless a person of the secretariat asks: it runs drills."""
    domain.must_be_person(by)
    if by.partner != SECRETARIAT or not by.has(Role.SECRETARIAT):
        raise Forbidden("line tests are run by the secretariat", code="role_missing")


def switch(
    plan: Plan, *, enabled: bool, partners: Iterable[str] | None, by: Caller, known: Mapping[str, bool], now: datetime
) -> Plan:
    """The plan switched on or off. Tests run in the name of whoever did it last."""
    must_be_secretariat(by)
    codes = None if partners is None else tuple(sorted(set(partners)))
    errors = []
    if codes is not None and not 1 <= len(codes) <= PARTNERS_MAX:
        errors.append(FieldError("partners", f"name 1 to {PARTNERS_MAX} partners, or leave it out for all", "too_many"))
    for code in codes or ():
        if code == SECRETARIAT:
            detail = "the secretariat raises line tests and cannot be addressed by them"
            errors.append(FieldError("partners", detail, "raiser_addressed"))
        elif code not in known:
            errors.append(FieldError("partners", f"{code} is no partner of this network", "unknown_partner"))
    if errors:
        raise said.invalid(errors)
    return Plan(enabled, codes, by.actor, now, plan.version + 1)


# --- beginning --------------------------------------------------------------------------------------------------------


def obstacle(partner: Partner | None, around: Surroundings, now: datetime, *, by_plan: bool) -> Obstacle | None:
    """Why no test of the partner begins now; None: one may. By hand, drills and earlier tests are no hindrance."""
    if partner is None or not partner.active:
        return Obstacle.NOT_ACTIVE
    if around.is_tested:
        return Obstacle.RUNNING
    if around.has_actual:
        return Obstacle.ACTUAL_ALERT
    if by_plan and around.tested_at is not None and now < around.tested_at + APART:
        return Obstacle.TOO_SOON
    if by_plan and around.drilled_at is not None and now < around.drilled_at + APART_FROM_DRILLS:
        return Obstacle.ANOTHER_DRILL
    return None


_REFUSALS = {
    Obstacle.RUNNING: "a line test of this partner is running",
    Obstacle.ACTUAL_ALERT: "an Actual alert that addresses this partner is open; it goes before any drill",
}


def refuse(found: Obstacle) -> Conflict:
    """The refusal of a test that was asked for by hand."""
    return Conflict(_REFUSALS[found], code=found.value, field="partner")


def not_tested(partner: str) -> Invalid:
    """The refusal of a partner that cannot be tested: unknown, not active, or the secretariat itself."""
    detail = f"{partner} is no partner that takes part in line tests"
    return said.invalid([FieldError("partner", detail, "unknown_partner")])


def authority(person: Actor) -> Caller:
    """The person as raiser of line tests: who runs drills may release and end them, whatever else they may do."""
    return Caller(person, frozenset({Role.RELEASER}))


def release(
    partner: Partner,
    *,
    alert_id: AlertId,
    crisis_id: CrisisId,
    reference: str,
    by: Caller,
    network: Network,
    now: datetime,
) -> domain.Release:
    """The alert of a test, drafted and released in one act."""
    lasts = answer_within(network)
    draft = domain.draft(
        proposal(partner, lasts),
        alert_id=alert_id,
        crisis_id=crisis_id,
        reference=reference,
        by=by,
        network=network,
        now=now,
        alone=True,
        lasts=lasts,
    )
    return domain.self_release(draft, reason=REASON, by=by, network=network, now=now, lasts=lasts)


def answer_within(network: Network) -> timedelta:
    """The time to answer. It is over before anybody could be unreached, whatever the network's table says."""
    return min(ANSWER_WITHIN, timedelta(seconds=network.deadlines[PRECEDENCE].acknowledge_within_seconds))


def proposal(partner: Partner, lasts: timedelta) -> Proposal:
    """What a test says: English, which governs, and a translation for each of the partner's languages that we have."""
    spoken = (language.lower().split("-")[0] for language in partner.languages)
    languages = dict.fromkeys((ORIGINAL, *(language for language in spoken if language in LANGUAGES)))
    minutes = max(1, int(lasts.total_seconds() // 60))
    return Proposal(
        precedence=PRECEDENCE,
        to=(partner.code,),
        countries=(countries.alpha_3(partner.code) or SEAT,),
        info=tuple(_info(language, minutes) for language in languages),
        status=Status.EXERCISE,
        note=NOTE,
        acknowledge_within_seconds=int(lasts.total_seconds()),
    )


def _info(language: str, minutes: int) -> Info:
    written = texts()[language]
    return Info(
        language=language,
        categories=(Category.OTHER,),
        response_types=(ResponseType.NONE,),
        severity=Severity.MINOR,
        is_translation=language != ORIGINAL,
        event=written["event"],
        headline=written["headline"].format(minutes=minutes),
        description=written["description"],
        instruction=written["instruction"],
    )


def crisis_name(year: int) -> str:
    """What the crisis is called that all line tests of a year belong to."""
    return f"Line tests {year}"


def crisis_of_year(crisis_id: CrisisId, alpha_3: Iterable[str], by: Actor, now: datetime) -> Crisis:
    """The crisis that the line tests of this year belong to, in the countries of the network."""
    return Crisis(
        id=crisis_id,
        owner=SECRETARIAT,
        name=crisis_name(now.year),
        countries=tuple(alpha_3),
        tlp=Tlp.AMBER,
        state=CrisisState.INFORMATION_SHARING,
        opened_at=now,
        opened_by=by,
        changed_at=now,
    )


# --- ending -----------------------------------------------------------------------------------------------------------


def followed(
    test: LineTest, alert: domain.Alert, heard: Heard, *, has_actual: bool, now: datetime
) -> tuple[LineTest, domain.Ending | None]:
    """The test as it stands now, and the end of its alert if that is due: by an Actual alert, or by its answer.

    It expires like every other alert. The same again changes nothing.
    """
    known = replace(
        test,
        level=max(test.level, heard.level),
        acknowledged_at=test.acknowledged_at or heard.acknowledged_at,
    )
    ending = None
    if alert.state is AlertState.RELEASED and now < test.answer_by_at:
        by = authority(test.started_by)
        answered_at = known.acknowledged_at
        if has_actual:
            ending = domain.cancel(alert, note=STOPPED_NOTE, by=by, reason=None, now=now)
        elif answered_at is not None and now >= answered_at + CLOSES_AFTER:
            ending = domain.close(alert, note=ANSWERED_NOTE, by=by, reason=None, now=now)
    ended = alert if ending is None else ending.alert
    if ended.state is AlertState.RELEASED:
        return known, ending
    outcome, stop_reason = _outcome(known, ended, heard)
    return replace(
        known, outcome=outcome, stop_reason=stop_reason, ended_at=test.ended_at or ended.ended_at or now
    ), ending


def _outcome(test: LineTest, ended: domain.Alert, heard: Heard) -> tuple[Outcome, StopReason | None]:
    over_at = min(ended.ended_at or test.answer_by_at, test.answer_by_at)
    if test.acknowledged_at is not None and test.acknowledged_at <= over_at:
        return Outcome.ANSWERED, None
    if ended.state is AlertState.EXPIRED:
        if heard.opened:
            return Outcome.UNANSWERED, None
        return Outcome.STOPPED, StopReason.NOT_DELIVERED
    by_us = ended.state is AlertState.CANCELLED and ended.end_note == STOPPED_NOTE
    return Outcome.STOPPED, StopReason.ACTUAL_ALERT if by_us else StopReason.BY_HAND


def alarm(test: LineTest) -> str:
    """What people are told of a test that nobody has answered."""
    return f"{test.partner} has not answered the line test {test.reference}; see the report of line tests"
