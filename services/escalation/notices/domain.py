"""Which contact points a notice goes to, and when. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from services.escalation.directory import Directory, Target
from services.escalation.paging import not_at_night
from shared.contracts import ChannelName, Precedence

GATHERED_EVERY = timedelta(minutes=1)
"""What is not urgent leaves at the next full minute, so that all of that minute reach a person as one message."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A contact point, and when its page is due."""

    target: Target
    due_at: datetime


def choose(
    directory: Directory,
    contact_ids: Sequence[UUID],
    *,
    to_office: bool,
    urgent: bool,
    expires_at: datetime,
    now: datetime,
) -> tuple[Chosen, ...]:
    """The contact points of these people, and the office's. Whoever is no longer in the plan is passed over.

    Urgent: all of them, at once. Otherwise each person's e-mail points, or the first point where there is none.
    """
    groups = [directory.targets_of(contact_id) for contact_id in dict.fromkeys(contact_ids)]
    if to_office:
        groups.append(directory.office_targets())
    found: dict[UUID, Chosen] = {}
    for group in groups:
        for target in group if urgent else _quiet_points(group):
            due_at = now if urgent else _calm_due_at(target, expires_at, now)
            found.setdefault(target.contact_point_id, Chosen(target, due_at))
    return tuple(found.values())


def _quiet_points(targets: Sequence[Target]) -> Sequence[Target]:
    by_mail = [target for target in targets if target.channel is ChannelName.EMAIL]
    return by_mail or targets[:1]


def _calm_due_at(target: Target, expires_at: datetime, now: datetime) -> datetime:
    """The next full minute, or the morning after; not later than makes sense, because late at night is better than
    never.
    """
    minute = now.replace(second=0, microsecond=0)
    soon = minute if minute == now else minute + GATHERED_EVERY
    time_zone = target.time_zone if target.contact_id is not None else None
    morning = not_at_night(soon, target.channel, time_zone, Precedence.ROUTINE)
    due_at = morning if morning < expires_at else soon
    return due_at if due_at < expires_at else now
