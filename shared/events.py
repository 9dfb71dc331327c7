"""The mechanics behind `contracts`: what an event is, its wire type, subject, envelope and registry.

One declaration is the whole truth. From the class come the wire type `redphone.<owner>.<name>.v<version>`, the subject
`<wire type>.<key>`, the JSON Schema and the AsyncAPI channel. The envelope follows CloudEvents 1.0 in binary mode:
attributes travel in headers, the body is the event.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Generic, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from shared.errors import ContractViolation
from shared.ids import MessageId

EVERYONE = "*"
"""In `Event.visible_to`: every partner may read the event on the feed."""

EVENT_BYTES_MAX = 900_000
"""A larger event is refused when it is appended: nats-server's own limit is 1 MiB, headers included."""


class Value(BaseModel):
    """A part of an event: immutable; unknown fields are ignored, so that an older reader understands a newer writer."""

    model_config = ConfigDict(frozen=True, extra="ignore")


class Event(Value):
    """Base of every event. Subclasses are declared with `@event` in `shared.contracts` and nowhere else."""

    owner: ClassVar[str]
    event_name: ClassVar[str]
    event_version: ClassVar[int]
    key_field: ClassVar[str]
    type: ClassVar[str]

    @property
    def key(self) -> str:
        """The last token of the subject: an id or a partner code, in lower case."""
        return str(getattr(self, self.key_field)).lower()

    @property
    def subject(self) -> str:
        """Where the event is published."""
        return f"{self.type}.{self.key}"

    def visible_to(self) -> frozenset[str]:
        """Codes of the partners that may read this event on the feed; `EVERYONE` alone, or none for services only."""
        return frozenset()

    def for_viewer(self, viewer: str) -> Event:  # noqa: ARG002 - most events look the same to all who may see them
        """The event as `viewer` may read it: names withheld where they belong to somebody else."""
        return self


E = TypeVar("E", bound=Event)
E_co = TypeVar("E_co", bound=Event, covariant=True)

REGISTRY: dict[str, type[Event]] = {}
"""Wire type → class, in the order of declaration."""


def event(*, owner: str, version: int, key: str) -> Callable[[type[E]], type[E]]:
    """Declares an event: who owns it, the version of its shape, and the field that keys its subject."""

    def declare(cls: type[E]) -> type[E]:
        cls.owner, cls.event_version, cls.key_field = owner, version, key
        cls.event_name = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).lower()
        cls.type = f"redphone.{owner}.{cls.event_name}.v{version}"
        if key not in cls.model_fields:
            message = f"{cls.__name__} has no field {key!r} to key its subject"
            raise TypeError(message)
        if cls.type in REGISTRY:
            message = f"{cls.type} is declared twice"
            raise TypeError(message)
        REGISTRY[cls.type] = cls
        return cls

    return declare


@dataclass(frozen=True, slots=True)
class Message(Generic[E_co]):
    """An event with its envelope, as a handler receives it.

    `id` is the outbox row's id: the same on the bus and on the feed, so the inbox drops the second copy.
    `correlation_id` is the message or request that began the chain, `causation_id` the one right before. `raw` is the
    body's own text, as it is in the outbox; read from there it may hold fields of a newer version, which `body` lacks.
    """

    id: MessageId
    body: E_co
    occurred_at: datetime
    correlation_id: UUID
    causation_id: UUID | None = None
    trace_parent: str | None = None
    raw: bytes | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Cause:
    """Why something is written: the chain of messages and requests, and who acted (None: Red Phone itself)."""

    correlation_id: UUID
    causation_id: UUID | None = None
    subject: str | None = None
    partner: str | None = None
    trace_parent: str | None = None

    @classmethod
    def of(cls, message: Message[Any]) -> Cause:
        """The cause of what a handler writes because of `message`."""
        return cls(correlation_id=message.correlation_id, causation_id=message.id, trace_parent=message.trace_parent)


def wire_body(message: Message[Any]) -> bytes:
    """The body as it goes over the bus: the text that was stored, so that an older relay drops no newer field."""
    return message.raw if message.raw is not None else message.body.model_dump_json().encode()


def headers_of(message: Message[Any]) -> dict[str, str]:
    """CloudEvents attributes as bus headers. A fresh dictionary each time: the client library writes into it."""
    headers = {
        "ce-specversion": "1.0",
        "ce-id": str(message.id),
        "ce-type": message.body.type,
        "ce-source": f"/redphone/{message.body.owner}",
        "ce-time": message.occurred_at.isoformat(),
        "ce-correlationid": str(message.correlation_id),
        "content-type": "application/json",
    }
    if message.causation_id is not None:
        headers["ce-causationid"] = str(message.causation_id)
    if message.trace_parent is not None:
        headers["traceparent"] = message.trace_parent
    return headers


def parse(type_: str, body: bytes) -> Event:
    """The typed event of a wire type and body; raises `ContractViolation` for an unknown type or a malformed body."""
    cls = REGISTRY.get(type_)
    if cls is None:
        detail = f"unknown event type {type_!r}"
        raise ContractViolation(detail, code="unknown_event_type")
    try:
        return cls.model_validate_json(body)
    except ValidationError as error:
        fields = ", ".join(sorted({".".join(map(str, e["loc"])) for e in error.errors(include_input=False)}))
        detail = f"{type_} has a malformed body (fields: {fields})"
        raise ContractViolation(detail, code="malformed_event") from None


def from_wire(headers: Mapping[str, str], body: bytes) -> Message[Event]:
    """The message of bus headers and body; raises `ContractViolation` when either cannot be read."""
    try:
        causation = headers.get("ce-causationid")
        occurred_at = datetime.fromisoformat(headers["ce-time"])
        if occurred_at.tzinfo is None:
            raise ValueError("an instant without an offset")
        return Message(
            id=MessageId(UUID(headers["ce-id"])),
            body=parse(headers["ce-type"], body),
            occurred_at=occurred_at,
            correlation_id=UUID(headers["ce-correlationid"]),
            causation_id=UUID(causation) if causation else None,
            trace_parent=headers.get("traceparent"),
        )
    except (KeyError, ValueError) as error:
        detail = f"the envelope cannot be read: {type(error).__name__}"
        raise ContractViolation(detail, code="malformed_envelope") from None
