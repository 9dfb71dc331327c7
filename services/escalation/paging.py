"""When each contact point of whoever is paged gets its page. Pure: delays, unverified points, quiet hours.

The order within one contact is theirs: each point has a delay that counts from its level. Unverified points come after
the verified ones, and for what is not urgent only where there is no verified one. ROUTINE does not ring at night. None
of this ever leaves a contact without a page, and FLASH and IMMEDIATE know no quiet hour.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from functools import lru_cache
from uuid import UUID
from zoneinfo import ZoneInfo

from shared.contracts import ChannelName, PlannedPoint, Precedence

UNVERIFIED_AFTER_SECONDS = 60
"""In an emergency an unverified point is paged this long after the last verified one of the same contact."""

QUIET_FROM, QUIET_UNTIL = time(22), time(7)
"""The contact's own night, by their clock on the wall."""

URGENT = frozenset({Precedence.FLASH, Precedence.IMMEDIATE})
RINGING = frozenset({ChannelName.SMS, ChannelName.VOICE, ChannelName.PUSH, ChannelName.CHAT})
"""Channels that make a noise beside a bed; e-mail and systems wait in silence for whoever looks."""

ZONES_KEPT_MAX = 512


@dataclass(frozen=True, slots=True)
class Delays:
    """How long after its level a point is paged: by an urgent alert, and by one that is not (None: not at all)."""

    urgent_seconds: int = 0
    calm_seconds: int | None = 0


AT_ONCE = Delays()


def delays_of(points: Sequence[PlannedPoint]) -> dict[UUID, Delays]:
    """The delays of one contact's points, or of one office's."""
    verified = [point.delay_seconds for point in points if point.verified]
    after = max(verified, default=0) + UNVERIFIED_AFTER_SECONDS
    found = {}
    for point in points:
        own = point.delay_seconds
        last = bool(verified) and not point.verified
        found[point.id] = Delays(max(own, after), None) if last else Delays(own, own) if own else AT_ONCE
    return found


def wait_seconds(
    delays: Delays, channel: ChannelName, time_zone: str | None, precedence: Precedence, now: datetime
) -> float | None:
    """How long from `now` the page to a point waits; None: this point is not paged by such an alert.

    `time_zone` is the contact's own IANA zone; None where nobody sleeps, as at an office.
    """
    seconds = delays.urgent_seconds if precedence in URGENT else delays.calm_seconds
    if seconds is None or precedence is not Precedence.ROUTINE:
        return seconds
    due_at = now + timedelta(seconds=seconds)
    return (not_at_night(due_at, channel, time_zone, precedence) - now).total_seconds()


def not_at_night(due_at: datetime, channel: str, time_zone: str | None, precedence: Precedence) -> datetime:
    """The instant itself, or the next morning where it would ring somebody at night for a ROUTINE alert."""
    if precedence is not Precedence.ROUTINE or time_zone is None or channel not in RINGING:
        return due_at
    return _morning_after(due_at, time_zone)


def _morning_after(at: datetime, time_zone: str) -> datetime:
    zone = _zone(time_zone)
    if zone is None:
        return at
    local = at.astimezone(zone)
    if QUIET_UNTIL <= local.time() < QUIET_FROM:
        return at
    day = local.date() + timedelta(days=1) if local.time() >= QUIET_FROM else local.date()
    # By the wall clock of that morning, whatever the clocks have done in between.
    return max(at, datetime.combine(day, QUIET_UNTIL, tzinfo=zone).astimezone(UTC))


@lru_cache(maxsize=ZONES_KEPT_MAX)
def _zone(name: str) -> ZoneInfo | None:
    """None for a name that no zone has: a mistake in a plan keeps nobody's page back."""
    try:
        return ZoneInfo(name)
    except (ValueError, OSError, LookupError):
        return None
