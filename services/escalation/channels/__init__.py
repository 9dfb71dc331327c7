"""Channels: the ways in which a page leaves the house. One file each, behind one small protocol.

The cast: an `Outgoing` (what is to be sent), a `Channel` (how), a `SendResult` (what became of it, with a `Reason` that
an operator reads as it stands), and `build_channels`, the one place that knows which channels there are.

The promise: `send` always returns a result within the channel's own time limit and never raises, so that the delivery
loop has one code path; what one contact point does never delays the page to another. A failed result means that nobody
confirmed the page, not that it did not arrive: a page whose fate is unknown is sent again under the same id.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol
from uuid import UUID

from shared.clock import Clock
from shared.egress import EgressPolicy, Resolver
from shared.keys import PushKey
from shared.webhooks import SigningKey

if TYPE_CHECKING:
    from services.escalation.channels.providers import Provider
    from shared.settings import Settings


@dataclass(frozen=True, slots=True)
class VoiceScript:
    """What a telephone call says, in one language. Every text is read aloud as it stands."""

    language: str
    """BCP 47, for the provider's voice: `fr-FR`."""
    alert: str
    menu: str
    """Which key does what: 1 acknowledges, 2 repeats, 3 "I am the wrong person"."""
    acknowledged: str
    wrong_person: str
    not_understood: str
    goodbye: str
    can_acknowledge: bool = True
    """Whether a key answers; otherwise the call only tells, and a key repeats it."""
    repeat_key: str = "2"
    """Where keys are people, another one."""


@dataclass(frozen=True, slots=True)
class PersonMessage:
    """What one page tells a person, in their language, in the form that each channel takes."""

    language: str
    """The language of the texts around the alert's own words: `fr`."""
    subject: str
    """One line: an e-mail's subject, a push message's title."""
    text: str
    """Plain text of several lines, whole: e-mail and chat."""
    html: str
    short: str
    """A few short lines: SMS and push."""
    voice: VoiceScript
    link: str | None
    """Opens the page that acknowledges; None where nothing is asked."""
    code: str | None
    """The four digits that acknowledging needs beside the link."""
    thread: str
    """The same for all messages about one chain of alerts."""
    is_urgent: bool
    """FLASH and IMMEDIATE."""
    is_drill: bool = False
    """It speaks of drills alone."""

    @property
    def goes_first(self) -> bool:
        """Whether it waits for no place but behind its like: a drill rings as loudly, and keeps no Actual alert
        waiting.
        """
        return self.is_urgent and not self.is_drill


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One attempt at one page. `repr` leaves out whom it reaches and what it says, so that it may be logged."""

    page_id: UUID
    """Stable over all attempts; receivers drop the second copy by it."""
    attempt: int
    """Counts from 1."""
    message_type: str
    """For example `alert.released`."""
    contact_point_id: UUID
    """The key of isolation: what shares it may wait for each other, and nothing else may."""
    target: str = field(repr=False)
    """The address in clear: a URL for webhooks."""
    body: bytes = field(repr=False)
    sent_at: datetime
    headers: Mapping[str, str] | None = field(default=None, repr=False)
    """What `make_ready` has added."""
    request: object | None = field(default=None, repr=False, compare=False)
    """What else `make_ready` has made, for the channel alone."""
    begin_within_seconds: float | None = None
    """Where a channel has a queue: what waits there for longer is `NOT_BEGUN`, since somebody may have answered."""
    message: PersonMessage | None = field(default=None, repr=False)
    """What a person is told; None on the way to a system, which reads `body`."""


class AttemptState(StrEnum):
    """What became of an attempt: `sent` (a provider has it), `delivered` (the endpoint has it), or neither."""

    SENT = "sent"
    DELIVERED = "delivered"
    FAILED = "failed"
    EXPIRED = "expired"


class Reason(StrEnum):
    """Why an attempt ended as it did. A closed set: it is stored, counted, and read by operators and partners."""

    ACCEPTED = "accepted"
    HTTP_STATUS = "http_status"
    REDIRECT_REFUSED = "redirect_refused"
    RESPONSE_TOO_LARGE = "response_too_large"
    RESPONSE_MALFORMED = "response_malformed"
    TIMEOUT = "timeout"
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    DISCONNECTED = "disconnected"
    NAME_FAILED = "dns_failed"
    ADDRESS_REFUSED = "address_refused"
    TARGET_REFUSED = "target_refused"
    ENDPOINT_BUSY = "endpoint_busy"
    CHANNEL_UNAVAILABLE = "channel_unavailable"
    ADDRESS_UNKNOWN = "address_unknown"
    """The provider says for good that nobody can be reached there: the contact point is marked."""
    PROVIDER_REFUSED = "provider_refused"
    PROVIDER_BUSY = "provider_busy"
    PROVIDER_UNAVAILABLE = "provider_unavailable"
    NOT_DELIVERED = "not_delivered"
    """The provider took the message and said later that it did not arrive."""
    NOT_ANSWERED = "not_answered"
    """The telephone rang and nobody took the call, or it was busy."""
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class SendResult:
    """What became of one attempt."""

    state: AttemptState
    reason: Reason
    detail: str | None
    """A few words for an operator ("HTTP 503"); never a secret, an address or anything that the other side wrote."""
    status_code: int | None
    """Also set if the answer broke off after its status had come."""
    retry_after_seconds: float | None
    elapsed_seconds: float
    provider: str | None = None
    """Who carries the message, where somebody does: `twilio`."""
    provider_id: str | None = None
    """The provider's own name for the message."""
    cost: Cost | None = None


NOT_BEGUN = SendResult(AttemptState.EXPIRED, Reason.CHANNEL_UNAVAILABLE, "not begun in time", None, None, 0.0)
"""A channel's answer to a page that it has made ready and could not begin at once. It is checked, and sent as a fresh
one: that is not refused."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What a provider says that a message cost."""

    amount: Decimal
    currency: str
    """ISO 4217."""


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """What a provider tells later of a message that it took: delivered, or failed with the reason."""

    provider: str
    provider_id: str
    state: AttemptState
    reason: Reason
    detail: str | None = None
    cost: Cost | None = None


class Channel(Protocol):
    """One way to reach a contact point."""

    name: str
    provider: str
    """Who carries its messages: channels that share a provider fail together. Its own name where nobody does."""

    async def send(self, page: Outgoing) -> SendResult:
        """Try once. Never raises, except for being cancelled; ends within the channel's time limit."""

    def make_ready(self, page: Outgoing) -> Outgoing:
        """Do what needs the processor and not the network, signing for example, so that `send` need not."""

    async def prepare(self, contact_point_id: UUID, target: str) -> None:
        """Do ahead of time what a first attempt would otherwise wait for. Never raises, and may do nothing."""

    async def close(self) -> None:
        """Release everything. Attempts under way end as failed."""


def build_channels(
    *,
    clock: Clock,
    egress_policy: EgressPolicy,
    signing_keys: Sequence[SigningKey],
    version: str,
    extra_roots_pem: bytes | None = None,
    settings: Settings | None = None,
    push_keys: Sequence[PushKey] = (),
    providers: Mapping[str, Provider] | None = None,
) -> dict[str, Channel]:
    """All channels of this installation by the name that contact points use for them.

    `extra_roots_pem` holds certificate authorities that partners' endpoints use and the system does not know. Beside
    webhooks there are the channels that the settings configure; without settings none. `providers` carry SMS and calls,
    by name; whoever has made them closes them.
    """
    # Here and not above, because every channel imports the protocol from this file.
    from services.escalation.channels.chat import ChatChannel  # noqa: PLC0415
    from services.escalation.channels.email import email_channel  # noqa: PLC0415
    from services.escalation.channels.push import push_channel  # noqa: PLC0415
    from services.escalation.channels.sms import SmsChannel  # noqa: PLC0415
    from services.escalation.channels.voice import VoiceChannel  # noqa: PLC0415
    from services.escalation.channels.webhook import WebhookChannel  # noqa: PLC0415

    def resolver() -> Resolver:
        """Each channel has its own: a name service that hangs for one keeps no thread from the others."""
        return Resolver(egress_policy, monotonic=clock.monotonic)

    channels: list[Channel] = [
        WebhookChannel(
            clock=clock,
            resolver=resolver(),
            signing_keys=signing_keys,
            version=version,
            extra_roots_pem=extra_roots_pem,
        )
    ]
    if settings is not None and (email := email_channel(settings, clock=clock)) is not None:
        channels.append(email)
    if settings is not None:
        push = push_channel(
            settings,
            push_keys,
            clock=clock,
            resolver=resolver(),
            version=version,
            extra_roots_pem=extra_roots_pem,
        )
        if push is not None:
            channels.append(push)
        if settings.chat_schemas:
            channels.append(ChatChannel(clock=clock, resolver=resolver(), schemas=settings.chat_schemas))
        if sms := [providers[name] for name in settings.sms_providers if providers and name in providers]:
            channels.append(SmsChannel(sms, clock=clock))
        if voice := [providers[name] for name in settings.voice_providers if providers and name in providers]:
            channels.append(VoiceChannel(voice, clock=clock))
    return {channel.name: channel for channel in channels}
