"""One escalation without a database: plans, alerts and openings as values, for tests of the pure rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from services.escalation.directory import Directory
from services.escalation.domain import DueTimeReached, PageAccepted, PagesAttempted, decide
from services.escalation.model import AlertFacts, Escalation, Outcome
from services.escalation.opening import Opening, open_escalation
from shared.contracts import (
    DEFAULT_DEADLINES,
    Actor,
    ChannelName,
    DutyPlanPublished,
    EscalationKind,
    LevelTarget,
    PlannedContact,
    PlannedEndpoint,
    PlannedLevel,
    PlannedOffice,
    PlannedPoint,
    PlannedRota,
    PlannedShift,
    Precedence,
    Status,
    Tlp,
)
from shared.events import Event
from shared.ids import derived

T0 = datetime(2021, 8, 15, 9, 30, tzinfo=UTC)
"""When the alert of these cases is released."""

MINUTE = timedelta(minutes=1)


def point(name: str, channel: ChannelName = ChannelName.WEBHOOK) -> PlannedPoint:
    """A contact point; its address is its name."""
    return PlannedPoint(id=derived("point", name), channel=channel, sealed_address=name)


def contact(number: int, *, reachable: bool = True) -> PlannedContact:
    """The person of level `number`."""
    return PlannedContact(
        id=derived("contact", str(number)),
        name=f"Example Person {number}",
        title=f"Senior contact {number}",
        points=(point(f"person-{number}"),) if reachable else (),
        subjects=(f"gb-{number}",),
    )


OFFICE = PlannedOffice(id=derived("office"), name="Duty office", switchboard="+999000100", points=(point("office"),))
ENDPOINT = PlannedEndpoint(id=derived("endpoint"), sealed_url="system", description="crisis room")


def plan(
    *on_duty: bool,
    waits: Sequence[int | None] = (),
    office: PlannedOffice | None = OFFICE,
    endpoints: tuple[PlannedEndpoint, ...] = (ENDPOINT,),
    **changes: Any,
) -> DutyPlanPublished:
    """A plan with one level for each flag, each with a rota that somebody holds or, for False, nobody."""
    numbers = range(1, len(on_duty) + 1)
    start_at, end_at = T0 - timedelta(days=1), T0 + timedelta(days=13)
    rotas = tuple(
        PlannedRota(
            id=derived("rota", str(number)),
            name=f"Level {number}",
            shifts=(PlannedShift(contact_id=contact(number).id, start_at=start_at, end_at=end_at),) if present else (),
        )
        for number, present in zip(numbers, on_duty, strict=True)
    )
    fields: dict[str, Any] = {
        "partner": "GB",
        "plan_version": 1,
        "computed_at": start_at,
        "valid_from": start_at,
        "valid_until": end_at,
        "time_zone": "Europe/London",
        "levels": tuple(
            PlannedLevel(targets=(LevelTarget(kind="rota", id=rota.id),), wait_seconds=waits[index] if waits else None)
            for index, rota in enumerate(rotas)
        ),
        "rotas": rotas,
        "contacts": tuple(contact(number) for number in numbers),
        "office": office,
        "endpoints": endpoints,
        "deadlines": DEFAULT_DEADLINES,
    }
    return DutyPlanPublished(**{**fields, **changes})


def directory(*on_duty: bool, **changes: Any) -> Directory:
    """The directory of such a plan; two levels with people if nothing is said."""
    return Directory(plan=plan(*(on_duty or (True, True)), **changes))


OFFICER = Actor(subject="ca-1", partner="CA", name="Example Officer", contact_id=derived("contact", "ca-1"))


def facts(precedence: Precedence = Precedence.FLASH, **changes: Any) -> AlertFacts:
    """An alert of Canada, released at T0, that expires in four days."""
    alert_id = derived("alert", "1")
    fields: dict[str, Any] = {
        "alert_id": alert_id,
        "root_alert_id": alert_id,
        "reference": "RP-CA-2021-0001",
        "raiser": "CA",
        "status": Status.ACTUAL,
        "precedence": precedence,
        "tlp": Tlp.AMBER,
        "released_at": T0,
        "expires_at": T0 + timedelta(days=4),
        "released_by": OFFICER,
    }
    return AlertFacts(**{**fields, **changes})


def opening(known: Directory, precedence: Precedence = Precedence.FLASH, **changes: Any) -> Opening:
    """The opening of Great Britain's escalation of such an alert."""
    fields: dict[str, Any] = {
        "id": derived("escalation", "1"),
        "alert": facts(precedence),
        "partner": "GB",
        "kind": EscalationKind.ANSWER,
        "addressed_at": T0,
        "directory": known,
        "deadlines": DEFAULT_DEADLINES[precedence],
    }
    return Opening(**{**fields, **changes})


def update(old: Escalation, known: Directory, at: datetime, *, asks_anew: bool = False, **changes: Any) -> Outcome:
    """What the release of an Update at `at` makes of an escalation; `changes` are of the opening."""
    number = changes.pop("number", "2")
    alert = replace(
        old.alert,
        alert_id=derived("alert", number),
        released_at=at,
        expires_at=changes.pop("expires_at", old.alert.expires_at),
        is_update=True,
        asks_anew=asks_anew,
    )
    precedence = changes.pop("precedence", old.alert.precedence)
    alert = replace(alert, precedence=precedence)
    fields: dict[str, Any] = {"id": derived("escalation", number), "alert": alert, "predecessor": old}
    return open_escalation(opening(known, precedence, **{**fields, **changes}), at)


def human(number: int = 1) -> Actor:
    """Person `number` of Great Britain."""
    return Actor(subject=f"gb-{number}", partner="GB", name=f"Example Person {number}", contact_id=contact(number).id)


def paged(outcome: Outcome) -> list[str]:
    """The addresses that a decision pages, in order."""
    return [page.target.sealed_address for page in outcome.pages]


def people(outcome: Outcome) -> list[str]:
    """The same without the partner's own system."""
    return [address for address in paged(outcome) if address != "system"]


@dataclass
class Story:
    """One escalation that lives through time: each due time is decided when it comes, each page is accepted."""

    known: Directory
    escalation: Escalation
    accepts: bool = True
    log: list[tuple[float, list[str]]] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)

    @classmethod
    def of(cls, opened: Outcome, known: Directory, *, accepts: bool = True) -> Story:
        """The story that begins with an opening."""
        story = cls(known, opened.escalation, accepts)
        story.take(opened, opened.escalation.opened_at)
        return story

    def take(self, outcome: Outcome, at: datetime) -> None:
        """Goes on from a decision made at `at`."""
        self.escalation = outcome.escalation
        self.events += outcome.events
        if outcome.pages:
            self.log.append(((at - T0) / MINUTE, people(outcome)))
            if self.accepts:
                accepted = PageAccepted(ChannelName.WEBHOOK, outcome.pages[0].target.told, outcome.pages[0].level)
                tried = decide(self.escalation, PagesAttempted(at, accepted), at)
                self.escalation = tried.escalation
                self.events += tried.events

    def until(self, at: datetime) -> Story:
        """Decides every due time up to `at`, each when it comes."""
        for _ in range(1000):
            due_at = self.escalation.due_at
            if due_at is None or due_at > at:
                return self
            now = max(due_at, self.escalation.opened_at)
            self.take(decide(self.escalation, DueTimeReached(self.known), now), now)
        raise AssertionError("the escalation never stopped being due")

    def overdue(self, at: datetime) -> Outcome:
        """Decides once, at `at`, as after an outage."""
        outcome = decide(self.escalation, DueTimeReached(self.known), at)
        self.take(outcome, at)
        return outcome

    def named(self, kind: type[Event]) -> list[Any]:
        """The events of one kind so far."""
        return [event for event in self.events if isinstance(event, kind)]


def begin(known: Directory, precedence: Precedence = Precedence.FLASH, **changes: Any) -> Story:
    """A released alert's escalation, opened at T0."""
    accepts = changes.pop("accepts", True)
    at = changes.pop("at", T0)
    return Story.of(open_escalation(opening(known, precedence, **changes), at), known, accepts=accepts)
