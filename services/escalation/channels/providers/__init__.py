"""Telephone providers: who carries SMS and calls for us, one adapter each behind one protocol.

The cast
    Provider    sends an SMS, starts a call, proves that a callback is the provider's, and reads it
    Answer      what a provider said to a request of ours
    Callback    what a provider tells later, as one of a few typed values
    calls       one telephone call as a conversation, purely: what is said, what is listened for
    http        one HTTP client for each provider
    failover    asks providers in order until one takes the message
    twilio, telnyx   the adapters

The promise: a request ends within the seconds that it was given and never raises; no secret, number or text of a
message is logged or stands in a detail. What comes in is believed only after `verify`, and read only then.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol
from uuid import UUID

from services.escalation.channels import Cost, ProviderStatus, Reason
from services.escalation.channels.providers.calls import CallState

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
"""A telephone number as both providers want it (ITU-T E.164: at most 15 digits, the country code first)."""

SMS_CHARACTERS_MAX = 1_500
"""Below the 1,600 that Twilio takes in one message, and the ten parts that Telnyx takes (ten of 153 characters)."""

INBOUND_CHARACTERS_MAX = 1_600
CALLBACK_BYTES_MAX = 65_536
"""Callbacks have some hundred bytes; the largest are messages that people send."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a provider said to one request."""

    reason: Reason
    """`ACCEPTED` if it took the message."""
    detail: str | None = None
    """A few words of our own for an operator."""
    status_code: int | None = None
    retry_after_seconds: float | None = None
    provider_id: str | None = None
    """The provider's name for the message or call; callbacks come under it."""
    cost: Cost | None = None

    @property
    def is_taken(self) -> bool:
        """Whether the provider has the message."""
        return self.reason is Reason.ACCEPTED


@dataclass(frozen=True, slots=True)
class CallbackRequest:
    """A request that claims to come from a provider, as it arrived. `url` is the public one that the provider used."""

    url: str
    headers: Mapping[str, str] = field(repr=False)
    """Names in lower case."""
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class StatusTold:
    """What became of a message that the provider took."""

    event_id: str
    status: ProviderStatus


@dataclass(frozen=True, slots=True)
class TextReceived:
    """Somebody has sent us an SMS."""

    message_id: str
    sender: str = field(repr=False)
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """A call of ours was answered, by a machine perhaps; the provider asks what to say."""

    event_id: str
    call_id: str
    state: CallState
    is_machine: bool = False


@dataclass(frozen=True, slots=True)
class KeyPressed:
    """A round of listening is over; `key` is None if none was pressed."""

    event_id: str
    call_id: str
    state: CallState
    key: str | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class SpeechEnded:
    """The last words of a call were spoken: it can be hung up."""

    event_id: str
    call_id: str


@dataclass(frozen=True, slots=True)
class CallEnded:
    """A call is over. `reason` is None if somebody or something had answered it."""

    event_id: str
    call_id: str
    reason: Reason | None
    detail: str | None = None
    cost: Cost | None = None


Callback = StatusTold | TextReceived | CallAnswered | KeyPressed | SpeechEnded | CallEnded


class Provider(Protocol):
    """One company that carries SMS and calls."""

    @property
    def name(self) -> str:
        """How settings, attempts and callbacks name it."""

    async def send_sms(
        self, to: str, text: str, *, page_id: UUID | None, seconds: float, is_urgent: bool = True
    ) -> Answer:
        """Hands over an SMS to an E.164 number within so many seconds. `page_id` is None for an answer to a reply. What
        is urgent waits for nothing that is not.
        """

    async def start_call(self, to: str, *, page_id: UUID, seconds: float, is_urgent: bool = True) -> Answer:
        """Starts a call that reads the page. What is said is asked for when somebody answers."""

    def verify(self, request: CallbackRequest, *, now: datetime) -> bool:
        """Whether the provider itself has sent this, lately where it says when."""

    def parse(self, request: CallbackRequest) -> Callback | None:
        """What a verified callback tells; None if it is of no interest or cannot be read."""

    async def prepare(self) -> None:
        """Builds the client ahead of the first message. Never raises."""

    async def close(self) -> None:
        """Closes all connections; requests under way end as failed."""


def fit(text: str, characters_max: int) -> str:
    """The text, with its middle left out where it is too long: beginning and end hold who asks, link and code."""
    if len(text) <= characters_max:
        return text
    tail = characters_max // 3
    return f"{text[: characters_max - tail - 3].rstrip()} … {text[-tail:].lstrip()}"
