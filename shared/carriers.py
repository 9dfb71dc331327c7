"""Whether somebody can be reached in two ways that fail apart: channels that share a carrier fail together.

Escalation says so beside a page, and roster's readiness says so beforehand: both ask here, so that they agree. Who
carries what in this installation is `shared.senders`' to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import combinations

from shared.vocabulary import ChannelName

WEBHOOK, MAIL_SERVER, WEB_PUSH, CHAT = "webhook", "smtp", "web-push", "chat"
"""Carriers of the channels that no telephone provider carries."""


def joined(providers: Iterable[str]) -> str:
    """Several providers of one channel as one carrier: the channel works while one of them does."""
    return ",".join(sorted(providers))


def has_two_ways(channels: Iterable[ChannelName], carriers: Mapping[ChannelName, str]) -> bool:
    """Whether two of these channels share no carrier, so that no single one's failure silences a contact."""
    carried = [frozenset(carriers[channel].split(",")) for channel in set(channels) if channel in carriers]
    return any(one.isdisjoint(other) for one, other in combinations(carried, 2))


def many_carriers(carriers: Mapping[ChannelName, str]) -> bool:
    """Whether there is more than one: where everything goes one way in any case, no contact can be blamed for that."""
    return len(set(carriers.values())) > 1
