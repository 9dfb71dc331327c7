"""What a service wants from the bus, and the three ends that a delivery can have.

The cast: a `Subscription` names one kind of work, a `Delivery` is one message as it came off the wire, an `Outcome` is
what the broker is told. `attend` turns the one into the other and is the same for every transport:

- done → ack;
- `Unavailable`, and a handler out of time → nak with a growing delay, for ever: the message is not to blame;
- any other exception is a bug → nak with a growing delay, and after five failures a dead letter;
- `Rejected`, `ContractViolation` and what cannot be read → a dead letter at once.

A dead letter is written by the service's own callback and raises an operator alarm; only then is the message
terminated. If the callback fails, the message comes again. So a delivery never ends in a mere ack unless its work is
done.
"""

from __future__ import annotations

import asyncio
import traceback
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from structlog.contextvars import bound_contextvars

from shared.errors import ContractViolation, RedPhoneError, Rejected, Unavailable
from shared.events import Event, Message, from_wire
from shared.ids import MessageId
from shared.log import get_logger

log = get_logger(__name__)

HANDLER_SECONDS_MAX = 8.0
"""A handler that takes longer is cancelled: the broker delivers again after ten seconds anyway. It counts as
`Unavailable`, for a database that is slow but answers must never turn messages into dead letters."""

FAILURES_MAX = 5
"""So many failures that are bugs make a dead letter."""

BUG_DELAY_SECONDS_MAX = 2.0
"""Short, so that five failures, also spread over several processes, take less than the 30 seconds to the alarm."""

UNAVAILABLE_DELAY_SECONDS_MAX = 5.0
"""Longest wait before a message is tried again when something that it needs did not answer."""

FIRST_DELAY_SECONDS = 0.5

FAILURES_REMEMBERED_MAX = 10_000
"""Messages whose failures are counted; beyond it the longest-known is forgotten and starts again at zero."""


class DeadLetterReason(StrEnum):
    """Why a message will not be tried again."""

    MALFORMED = "malformed"
    REJECTED = "rejected"
    FAILED_REPEATEDLY = "failed_repeatedly"


class End(StrEnum):
    """What the broker is told about a delivery."""

    ACK = "ack"
    NAK = "nak"
    TERMINATE = "terminate"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The end of one delivery; `delay_seconds` is for a nak and never zero."""

    end: End
    delay_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message as it came off the wire. `deliveries` counts from 1, and counts those to other processes too."""

    subject: str
    headers: Mapping[str, str]
    body: bytes
    deliveries: int


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message that will not be tried again, whole, so that an operator can look into it and replay it.

    `error` is the class name and a detail without contact data or message text. `message_id` and `type` are None where
    even the envelope could not be read.
    """

    consumer: str
    message_id: MessageId | None
    type: str | None
    subject: str
    headers: Mapping[str, str]
    body: bytes
    reason: DeadLetterReason
    error: str
    deliveries: int


@dataclass(frozen=True, slots=True)
class Subscription:
    """One kind of work of one service: an event and who handles it.

    `handle` commits inbox row and effects in one transaction before it returns. `dead_letter` commits the dead letter
    and is idempotent by consumer and message id. At most `concurrency` messages are in `handle` at once, in any order.
    `together` says that they wait there for each other, and so cost no more than one of them (`shared.together`).
    """

    service: str
    event: type[Event]
    handle: Callable[[Message[Any]], Awaitable[None]]
    dead_letter: Callable[[DeadLetter], Awaitable[None]]
    concurrency: int = 4
    together: bool = False

    @property
    def durable(self) -> str:
        """Name of the durable consumer, and of the inbox's consumer: `escalation-alert_released-v1`."""
        return durable_of(self.service, self.event)

    def read(self, delivery: Delivery) -> Message[Event]:
        """The typed message; `ContractViolation` if it cannot be read or does not belong on this subject."""
        try:
            message = from_wire(delivery.headers, delivery.body)
        except ContractViolation:
            raise
        except Exception as error:
            detail = f"the message cannot be read: {type(error).__name__}"
            raise ContractViolation(detail, code="malformed_event") from error
        if not isinstance(message.body, self.event) or message.body.subject != delivery.subject:
            detail = f"a {message.body.type} does not belong on the subject {delivery.subject}"
            raise ContractViolation(detail, code="misplaced_event")
        return message


def stream_of(owner: str) -> str:
    """Name of the stream that keeps everything that `owner` publishes."""
    return owner.upper()


def filter_of(event: type[Event]) -> str:
    """Subjects of one event, for all keys."""
    return f"{event.type}.*"


def durable_of(service: str, event: type[Event]) -> str:
    """Name of the durable consumer of one kind of work; without dots, which NATS does not allow in names."""
    return f"{service}-{event.event_name}-v{event.event_version}"


class Failures:
    """Counts the failures of each message that are bugs, in this process.

    The broker's own count of deliveries will not do: it includes those that ended because something was unavailable,
    and an outage must never turn messages into dead letters.
    """

    def __init__(self) -> None:
        self._counts: OrderedDict[tuple[str, MessageId], int] = OrderedDict()

    def add(self, consumer: str, message_id: MessageId) -> int:
        """Counts one more and returns the total."""
        key = (consumer, message_id)
        self._counts[key] = count = self._counts.pop(key, 0) + 1
        if len(self._counts) > FAILURES_REMEMBERED_MAX:
            self._counts.popitem(last=False)
        return count

    def forget(self, consumer: str, message_id: MessageId) -> None:
        """The message has ended."""
        self._counts.pop((consumer, message_id), None)


def delay_seconds(tries: int, *, at_most_seconds: float) -> float:
    """How long to wait after so many tries: doubling from half a second, up to the given limit."""
    return min(at_most_seconds, FIRST_DELAY_SECONDS * float(1 << min(max(tries, 1) - 1, 10)))


async def attend(subscription: Subscription, delivery: Delivery, failures: Failures) -> Outcome:
    """Handles one delivery and says how it ended. Never raises, except when it is cancelled."""
    consumer = subscription.durable
    try:
        message = subscription.read(delivery)
    except ContractViolation as error:
        return await _bury(subscription, delivery, DeadLetterReason.MALFORMED, error)
    with bound_contextvars(
        consumer=consumer,
        message_id=str(message.id),
        correlation_id=str(message.correlation_id),
        attempt=delivery.deliveries,
    ):
        try:
            await _handle_in_time(subscription, message)
        except Unavailable as error:
            log.warning("message.postponed", code=error.code)
            return Outcome(End.NAK, delay_seconds(delivery.deliveries, at_most_seconds=UNAVAILABLE_DELAY_SECONDS_MAX))
        except Rejected as error:
            outcome = await _bury(subscription, delivery, DeadLetterReason.REJECTED, error, message)
        except ContractViolation as error:
            outcome = await _bury(subscription, delivery, DeadLetterReason.MALFORMED, error, message)
        except Exception as error:
            count = failures.add(consumer, message.id)
            log.warning("message.failed", failures=count, error=type(error).__name__, exc_info=True)
            if count < FAILURES_MAX:
                return Outcome(End.NAK, delay_seconds(count, at_most_seconds=BUG_DELAY_SECONDS_MAX))
            outcome = await _bury(subscription, delivery, DeadLetterReason.FAILED_REPEATEDLY, error, message)
        else:
            log.info("message.handled")
            outcome = Outcome(End.ACK)
    if outcome.end is not End.NAK:
        failures.forget(consumer, message.id)
    return outcome


async def _handle_in_time(subscription: Subscription, message: Message[Event]) -> None:
    limit = asyncio.timeout(HANDLER_SECONDS_MAX)
    try:
        async with limit:
            await subscription.handle(message)
    except TimeoutError as error:
        if not limit.expired():
            raise
        detail = f"what the handler waits for took longer than {HANDLER_SECONDS_MAX:g} seconds"
        raise Unavailable(detail) from error


async def _bury(
    subscription: Subscription,
    delivery: Delivery,
    reason: DeadLetterReason,
    error: Exception,
    message: Message[Event] | None = None,
) -> Outcome:
    letter = DeadLetter(
        consumer=subscription.durable,
        message_id=message.id if message else None,
        type=message.body.type if message else delivery.headers.get("ce-type"),
        subject=delivery.subject,
        headers=dict(delivery.headers),
        body=delivery.body,
        reason=reason,
        error=_describe(error),
        deliveries=delivery.deliveries,
    )
    try:
        async with asyncio.timeout(HANDLER_SECONDS_MAX):
            await subscription.dead_letter(letter)
    except Exception as failure:
        log.warning("message.dead_letter_failed", consumer=letter.consumer, error=type(failure).__name__, exc_info=True)
        return Outcome(End.NAK, delay_seconds(delivery.deliveries, at_most_seconds=UNAVAILABLE_DELAY_SECONDS_MAX))
    # The alarm for people is made from the row, which outlives a crash: `alarm_dead_letters` in `shared.upkeep`.
    log.warning(
        "message.buried",
        consumer=letter.consumer,
        message_id=str(letter.message_id),
        type=letter.type,
        reason=reason.value,
        error=letter.error,
        deliveries=letter.deliveries,
    )
    return Outcome(End.TERMINATE)


def _describe(error: Exception) -> str:
    """What went wrong, without anything that a message or a database row may have put into the text of a bug."""
    if isinstance(error, RedPhoneError):
        return f"{type(error).__name__} ({error.code}): {error.detail}"
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno} in {frames[-1].name}" if frames else ""
    return f"{type(error).__name__}{where}"
