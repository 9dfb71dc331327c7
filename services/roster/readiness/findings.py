"""What readiness can find, how bad it is, and what to do about it. Pure shapes.

The cast: a `Finding` is one thing that is wrong or will be within the window; `Facts` are what others have said of the
partner's points, systems and calendars; a `Proof` is all that was found at one instant with the `Measures` that the
score is made from. `what` tells findings apart without their times, so that the same one is known again tomorrow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any
from uuid import UUID

from shared.vocabulary import ChannelName

CONFIRMED_FOR = timedelta(days=90)
"""Procedure: contacts are confirmed every 90 days, because a fifth of focal points change within a year."""


class FindingCode(StrEnum):
    """The kinds of finding. Names are stable: notices, API and scripts speak them."""

    UNCOVERED = "uncovered"
    DOUBLE_DUTY = "double_duty"
    TOO_FEW_POINTS = "too_few_points"
    ONE_PROVIDER = "one_provider"
    UNVERIFIED_POINT = "unverified_point"
    UNCONFIRMED_POINT = "unconfirmed_point"
    FAILING_POINT = "failing_point"
    ENDPOINT_NOT_ANSWERING = "endpoint_not_answering"
    ENDPOINT_UNCHECKED = "endpoint_unchecked"
    CERTIFICATE_ENDING = "certificate_ending"
    NO_DEPUTY = "no_deputy"
    ROTA_ENDING = "rota_ending"
    CALENDAR_ENDING = "calendar_ending"
    NO_LEVEL = "no_level"
    NOBODY_REACHABLE = "nobody_reachable"


class Grade(StrEnum):
    """How bad a finding is.

    `alarm`: nobody is on call, within a day. `blocking`: the coming 14 days are not proven. `warning`: an alert would
    be answered, with less to fall back on, or what holds today ends within the window.
    """

    ALARM = "alarm"
    BLOCKING = "blocking"
    WARNING = "warning"

    @property
    def rank(self) -> int:
        """0 is the worst."""
        return _RANKS[self]


_RANKS = {Grade.ALARM: 0, Grade.BLOCKING: 1, Grade.WARNING: 2}

REMEDIES: Mapping[FindingCode, str] = {
    FindingCode.UNCOVERED: "Put somebody on call for this time: an override is the quickest, a further layer lasts.",
    FindingCode.DOUBLE_DUTY: "Give one of the two duties to somebody else for this time, by a swap or an override.",
    FindingCode.TOO_FEW_POINTS: "Add a contact point on another channel that this installation sends through.",
    FindingCode.ONE_PROVIDER: "Add a contact point that another provider carries, e-mail beside telephone for example.",
    FindingCode.UNVERIFIED_POINT: "Verify it: a code is sent there and has to come back (redphone points verify).",
    FindingCode.UNCONFIRMED_POINT: "Confirm that it is still right (redphone points confirm), every 90 days.",
    FindingCode.FAILING_POINT: "Nothing arrives there: correct the address or remove it, then verify it again.",
    FindingCode.ENDPOINT_NOT_ANSWERING: "Have the system answer 2xx within 5 s; redphone webhook ping tests it.",
    FindingCode.ENDPOINT_UNCHECKED: "No heartbeat has told of it for too long: ask the operators why.",
    FindingCode.CERTIFICATE_ENDING: "Renew the system's TLS certificate before it ends.",
    FindingCode.NO_DEPUTY: "Name deputies in the layer, or one in an override: no shift without a deputy.",
    FindingCode.ROTA_ENDING: "Take the layer's ends_on away, or add the layer that follows it.",
    FindingCode.CALENDAR_ENDING: "Import the calendar that follows, or see why its subscription cannot be read.",
    FindingCode.NO_LEVEL: "Write an escalation policy: without a level nobody but the duty office is paged.",
    FindingCode.NOBODY_REACHABLE: "Let the level name somebody who has a contact point, or give those it names one.",
}
"""One sentence each on what to do. They name nobody, so that everybody who sees the code may read them."""

_SPANNED = frozenset(
    {FindingCode.UNCOVERED, FindingCode.DOUBLE_DUTY, FindingCode.NO_DEPUTY, FindingCode.NOBODY_REACHABLE}
)
"""Findings that one thing may have several of, at different times."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong in [begins_at, ends_at); without an end it stays so until somebody acts.

    What it is about is named by ids, never by names: `rota_id` (and `other_rota_id` of a double duty), `contact_id` or
    `office_id` with `point_id`, `endpoint_id`, `calendar_id`, and the `level` counted from 1.
    """

    code: FindingCode
    severity: Grade
    begins_at: datetime
    ends_at: datetime | None = None
    rota_id: UUID | None = None
    other_rota_id: UUID | None = None
    contact_id: UUID | None = None
    office_id: UUID | None = None
    point_id: UUID | None = None
    endpoint_id: UUID | None = None
    calendar_id: UUID | None = None
    level: int | None = None
    reason: str | None = None

    @property
    def what(self) -> tuple[Any, ...]:
        """The code and what it is about, without times."""
        return (
            self.code,
            self.rota_id,
            self.other_rota_id,
            self.contact_id,
            self.office_id,
            self.point_id,
            self.endpoint_id,
            self.calendar_id,
            self.level,
        )

    @property
    def remedy(self) -> str:
        """What to do about it, in one sentence."""
        return REMEDIES[self.code]

    def is_same(self, other: Finding) -> bool:
        """Whether both speak of one thing: of holes and the like at times that touch, however their ends moved."""
        if self.what != other.what:
            return False
        if self.code not in _SPANNED or self.ends_at is None or other.ends_at is None:
            return True
        return self.begins_at <= other.ends_at and other.begins_at <= self.ends_at

    def to_json(self) -> dict[str, Any]:
        """As it is kept; what is not there is left out."""
        found = {one.name: getattr(self, one.name) for one in fields(self)}
        return {name: _text(value) for name, value in found.items() if value is not None}

    @staticmethod
    def of_json(kept: Mapping[str, Any]) -> Finding:
        """What `to_json` has written."""
        values: dict[str, Any] = dict(kept)
        values["code"], values["severity"] = FindingCode(kept["code"]), Grade(kept["severity"])
        for name in ("begins_at", "ends_at"):
            if name in values:
                values[name] = datetime.fromisoformat(values[name])
        for name in _ID_FIELDS:
            if name in values:
                values[name] = UUID(values[name])
        return Finding(**values)


_ID_FIELDS = tuple(one.name for one in fields(Finding) if one.name.endswith("_id"))


def _text(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something that fails since an instant, and why."""

    since_at: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class EndpointCheck:
    """What the heartbeat last said of one endpoint."""

    checked_at: datetime
    answering: bool
    since_at: datetime
    reason: str | None = None
    certificate_valid_until: datetime | None = None


@dataclass(frozen=True, slots=True)
class FailingCalendar:
    """A subscription that a rota takes shifts from and that cannot be read."""

    calendar_id: UUID
    rota_id: UUID
    since_at: datetime
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known beside the roster itself.

    `carriers` says who carries each channel that can send here; `failing` are contact points and endpoints that
    pages fail at; `checks` what heartbeats found at endpoints.
    """

    carriers: Mapping[ChannelName, str]
    failing: Mapping[UUID, Trouble] = field(default_factory=dict)
    checks: Mapping[UUID, EndpointCheck] = field(default_factory=dict)
    calendars: tuple[FailingCalendar, ...] = ()


@dataclass(frozen=True, slots=True)
class Measures:
    """What the score is made from: parts and wholes. Minutes are those of every rota that a level names."""

    minutes: int = 0
    minutes_covered: int = 0
    minutes_with_deputy: int = 0
    people: int = 0
    people_sound: int = 0
    endpoints: int = 0
    endpoints_sound: int = 0
    levels: int = 0
    levels_sound: int = 0


@dataclass(frozen=True, slots=True)
class Proof:
    """What was found for one partner in [from_at, to_at), the worst first. `counts` counts what was cut off, too."""

    from_at: datetime
    to_at: datetime
    findings: tuple[Finding, ...]
    measures: Measures
    counts: Mapping[Grade, int]

    @property
    def alarms(self) -> tuple[Finding, ...]:
        """The findings that people are told of at once."""
        return tuple(finding for finding in self.findings if finding.severity is Grade.ALARM)
