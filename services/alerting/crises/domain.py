"""Crises: the situations that alerts belong to. Pure: no I/O, no clock, no logging.

A crisis belongs to the partner that opened it and only goes forward. An alert that names none opens its own and leads
it.

The promise: of what an alert says, its crisis tells nobody more than the alert itself does. The crisis is called by the
reference; whoever may read the alert sees it as the alert has it now.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from services.alerting import content as said
from services.alerting.content import Content
from services.alerting.domain import Alert, Caller, must_be_person
from shared.contracts import Actor, Role, Tlp
from shared.errors import Conflict, FieldError, Forbidden
from shared.ids import AlertId, CrisisId

NAME_CHARACTERS_MAX = 160
COUNTRIES_MAX = 50


class CrisisState(StrEnum):
    """`watch → information_sharing → activated → stood_down → closed`; steps may be left out, none leads back."""

    WATCH = "watch"
    INFORMATION_SHARING = "information_sharing"
    ACTIVATED = "activated"
    STOOD_DOWN = "stood_down"
    CLOSED = "closed"

    @property
    def rank(self) -> int:
        """How far the crisis has come."""
        return list(CrisisState).index(self)


@dataclass(frozen=True, slots=True)
class Crisis:
    """A situation that alerts belong to. It belongs to the partner that opened it.

    `led_by` is the alert that opened it, if one did. Name, countries and TLP are then what everybody may know; what
    that alert says is added by `as_led`.
    """

    id: CrisisId
    owner: str
    name: str
    countries: tuple[str, ...]
    tlp: Tlp
    state: CrisisState
    opened_at: datetime
    opened_by: Actor
    changed_at: datetime
    version: int = 1
    led_by: AlertId | None = None


def open_crisis(
    *, crisis_id: CrisisId, name: str, countries: Iterable[str], tlp: Tlp, state: CrisisState, by: Caller, now: datetime
) -> Crisis:
    """A new crisis of the caller's partner."""
    must_be_person(by)
    if not by.has(Role.DRAFTER, Role.DUTY_OFFICER, Role.RELEASER):
        raise Forbidden("opening a crisis needs the role drafter, duty_officer or releaser", code="role_missing")
    errors: list[FieldError] = []
    if not name.strip():
        errors.append(FieldError("name", "name must not be empty", "missing"))
    said.check_text(name, "name", NAME_CHARACTERS_MAX, errors, one_line=True)
    codes = said.alpha_3_codes(countries, errors)
    if not 1 <= len(codes) <= COUNTRIES_MAX and not errors:
        detail = f"countries holds 1 to {COUNTRIES_MAX} ISO 3166-1 codes"
        errors.append(FieldError("countries", detail, "country_missing"))
    if errors:
        raise said.invalid(errors)
    return Crisis(
        id=crisis_id,
        owner=by.partner,
        name=name,
        countries=tuple(codes),
        tlp=tlp,
        state=state,
        opened_at=now,
        opened_by=by.actor,
        changed_at=now,
    )


def crisis_of_alert(alert: Alert, *, by: Caller, now: datetime) -> Crisis:
    """The crisis that an alert opens and leads when it names none. It holds nothing of what the alert says."""
    return Crisis(
        id=alert.crisis_id,
        owner=alert.raiser,
        name=f"Crisis of {alert.reference}",
        countries=(),
        tlp=Tlp.AMBER,
        state=CrisisState.WATCH,
        opened_at=now,
        opened_by=by.actor,
        changed_at=now,
        led_by=alert.id,
    )


def as_led(crisis: Crisis, content: Content, *, alert_version: int, released_at: datetime | None) -> Crisis:
    """The crisis as the alert that leads it has it now: only for those who may read that alert.

    It is called by the headline, unless handling keeps that out of lists. Whatever changes the alert changes the
    crisis: `version` counts both.
    """
    return replace(
        crisis,
        name=crisis.name if content.tlp.link_only else content.info[0].headline[:NAME_CHARACTERS_MAX],
        countries=content.countries,
        tlp=content.tlp,
        changed_at=max(crisis.changed_at, released_at or crisis.changed_at),
        version=crisis.version + alert_version - 1,
    )


def move_crisis(crisis: Crisis, state: CrisisState, *, by: Caller, now: datetime) -> Crisis:
    """The crisis in a later state; the same state again changes nothing."""
    must_be_person(by)
    if not by.has(Role.RELEASER, Role.DUTY_OFFICER):
        raise Forbidden("moving a crisis needs the role releaser or duty_officer", code="role_missing")
    if state is crisis.state:
        return crisis
    if state.rank < crisis.state.rank:
        detail = f"a crisis goes from {crisis.state} only forward; open a new one for what begins again"
        raise Conflict(detail, code="crisis_goes_forward", field="state")
    return replace(crisis, state=state, changed_at=now, version=crisis.version + 1)


def may_join(crisis: Crisis) -> None:
    """Raises `Conflict` for a crisis that takes no more alerts."""
    if crisis.state is CrisisState.CLOSED:
        raise Conflict("this crisis is closed; open a new one", code="crisis_closed", field="crisis_id")
