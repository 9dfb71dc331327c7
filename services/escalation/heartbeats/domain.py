"""What the end of a heartbeat means. Pure: a heartbeat as it was, and what became of the beat, give it as it is now.

The cast: a `Heartbeat` (one path, with its last beat and its next), and `passed`, `failed`, `handed_over`, `postponed`,
each of which gives an `After`: the heartbeat as it is now, whom to tell, and whether the other services are to know.

The rules: every path is tried hourly, at a minute of its own. After a first failure it is tried again five minutes
later; two failures in a row, or one that lasted a whole interval, are an alarm. A loop-back that has not come back by
its next beat has failed for an interval.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from uuid import UUID

INTERVAL = timedelta(hours=1)
RETRY_AFTER = timedelta(minutes=5)
FAILING_RETRY_AFTER = timedelta(minutes=15)
"""While an alarm stands: recovery is known soon, and a thousand dead endpoints take no more than six senders."""

FAILURES_MAX = 2
"""So many in a row are an alarm."""

POSTPONED = timedelta(minutes=1)
TOLD_AGAIN_AFTER = timedelta(days=1)
TOLD_APART = timedelta(hours=1)
"""A path that fails and recovers by turns wakes nobody more often."""
PUBLISHED_AGAIN_AFTER = timedelta(days=1)
CERTIFICATE_AGAIN_AFTER = timedelta(days=1)
FIRST_WITHIN_SECONDS = 20
"""A new path's first beat comes within so many seconds after it was seen, so that many new ones do not come at once."""


class Kind(StrEnum):
    """What a heartbeat goes to."""

    ENDPOINT = "endpoint"
    """A partner's own system."""
    LOOP_BACK = "loop_back"
    """An address of our own at a provider that carries messages to people."""


class State(StrEnum):
    """What is known of a path."""

    UNCHECKED = "unchecked"
    ANSWERING = "answering"
    FAILING = "failing"


class News(StrEnum):
    """What people are told."""

    FAILED = "failed"
    STILL_FAILING = "still_failing"
    RECOVERED = "recovered"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """One path. The names are those of its row."""

    id: UUID
    """The endpoint's own id; of a loop-back one that is derived from channel and provider."""
    kind: Kind
    partner: str
    """Whose it is; of a loop-back the secretariat."""
    channel: str
    provider: str | None
    told: str
    """The endpoint's description, or provider and channel: never an address."""
    sealed_address: str | None
    next_at: datetime
    leased_until: datetime | None = None
    beat_id: UUID | None = None
    """The beat on its way, or the loop-back that is waited for."""
    beat_at: datetime | None = None
    """When the newest beat began."""
    is_out: bool = False
    """A provider has it, and it has not come back yet."""
    provider_id: str | None = None
    ended_at: datetime | None = None
    """When it was last known what became of a beat."""
    answering: bool | None = None
    """The outcome that holds: one failure does not change it."""
    reason: str | None = None
    """Why the newest beat failed; None after one that did not."""
    answer_seconds: float | None = None
    answered_at: datetime | None = None
    failures: int = 0
    failing_since_at: datetime | None = None
    told_at: datetime | None = None
    """When people last heard that it fails, this time or before."""
    published_at: datetime | None = None
    certificate_valid_until: datetime | None = None
    certificate_checked_at: datetime | None = None
    requested_at: datetime | None = None

    @property
    def state(self) -> State:
        """What is known of the path."""
        if self.answering is None:
            return State.UNCHECKED
        return State.ANSWERING if self.answering else State.FAILING

    @property
    def is_endpoint(self) -> bool:
        """Whether it is a partner's own system."""
        return self.kind is Kind.ENDPOINT

    def needs_certificate(self, now: datetime) -> bool:
        """Whether the endpoint's certificate is to be looked at."""
        seen_at = self.certificate_checked_at
        return self.is_endpoint and (seen_at is None or now - seen_at >= CERTIFICATE_AGAIN_AFTER)


@dataclass(frozen=True, slots=True)
class After:
    """A heartbeat as it is after a beat, and what follows."""

    heartbeat: Heartbeat
    news: News | None = None
    publishes: bool = False
    """Whether the other services are to know: at the first outcome, at every change, and once a day."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """What was seen of an endpoint's certificate: its end, or None where there is no TLS."""

    valid_until: datetime | None


def offset_of(path_id: UUID) -> timedelta:
    """When in the hour a path's turn is: always the same for it, and spread evenly over all paths."""
    number = int.from_bytes(hashlib.sha256(path_id.bytes).digest()[:8], "big")
    return timedelta(seconds=number % int(INTERVAL.total_seconds()))


def next_turn(path_id: UUID, after: datetime) -> datetime:
    """The path's next turn after an instant."""
    hour = after.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    turn = hour + offset_of(path_id)
    return turn if turn > after else turn + INTERVAL


def first_turn(path_id: UUID, seen_at: datetime) -> datetime:
    """The first beat of a path that is new, or has a new address: within the minute."""
    return seen_at + timedelta(seconds=offset_of(path_id).total_seconds() % FIRST_WITHIN_SECONDS)


def passed(beat: Heartbeat, now: datetime, *, answer_seconds: float | None, certificate: Certificate | None) -> After:
    """The beat was answered, or came back. `certificate` is None if it was not looked at."""
    seen = certificate is not None
    valid_until = certificate.valid_until if certificate is not None else beat.certificate_valid_until
    is_news = not beat.answering or valid_until != beat.certificate_valid_until
    after = replace(
        _ended(beat, now),
        next_at=next_turn(beat.id, now),
        answering=True,
        reason=None,
        answer_seconds=answer_seconds,
        answered_at=now,
        failures=0,
        failing_since_at=None,
        certificate_valid_until=valid_until,
        certificate_checked_at=now if seen else beat.certificate_checked_at,
    )
    news = News.RECOVERED if beat.answering is False and _is_told(beat, beat.failing_since_at) else None
    return _published(after, news, is_news=is_news, now=now)


def failed(beat: Heartbeat, now: datetime, *, reason: str) -> After:
    """The beat was not answered, was refused, or did not come back."""
    since_at = beat.failing_since_at or beat.beat_at or now
    failures = beat.failures + 1
    is_unreturned = beat.is_out and beat.beat_at is not None and now - beat.beat_at >= INTERVAL
    is_alarm = beat.answering is False or failures >= FAILURES_MAX or now - since_at >= INTERVAL
    pause = timedelta(0) if is_unreturned else FAILING_RETRY_AFTER if is_alarm else RETRY_AFTER
    news = None
    quiet = None if beat.told_at is None else now - beat.told_at
    if is_alarm and not _is_told(beat, since_at):
        news = News.FAILED if quiet is None or quiet >= TOLD_APART else None
    elif is_alarm and not beat.is_endpoint and quiet is not None and quiet >= TOLD_AGAIN_AFTER:
        news = News.STILL_FAILING
    after = replace(
        _ended(beat, now),
        next_at=now + pause,
        answering=False if is_alarm else beat.answering,
        reason=reason,
        answer_seconds=None,
        failures=failures,
        failing_since_at=since_at,
        told_at=beat.told_at if news is None else now,
    )
    if not is_alarm:
        return After(after)
    return _published(after, news, is_news=beat.answering is not False, now=now)


def handed_over(beat: Heartbeat, provider_id: str | None) -> After:
    """A provider has taken a loop-back, which is to come back before the next one leaves."""
    assert beat.beat_at is not None, "what was handed over was begun"
    until_at = beat.beat_at + INTERVAL
    return After(replace(beat, is_out=True, provider_id=provider_id, leased_until=None, next_at=until_at))


def postponed(beat: Heartbeat, now: datetime) -> After:
    """Nothing was learnt of the path: this process could not send."""
    return After(replace(beat, beat_id=None, leased_until=None, next_at=now + POSTPONED))


def _is_told(beat: Heartbeat, since_at: datetime | None) -> bool:
    """Whether people have heard of the failure that lasts since then."""
    return beat.told_at is not None and since_at is not None and beat.told_at >= since_at


def _ended(beat: Heartbeat, now: datetime) -> Heartbeat:
    return replace(beat, beat_id=None, is_out=False, provider_id=None, leased_until=None, ended_at=now)


def _published(after: Heartbeat, news: News | None, *, is_news: bool, now: datetime) -> After:
    if not after.is_endpoint:
        return After(after, news)
    is_old = after.published_at is None or now - after.published_at >= PUBLISHED_AGAIN_AFTER
    if not (is_news or is_old):
        return After(after, news)
    return After(replace(after, published_at=now), news, publishes=True)
