"""What a CAP 1.2 message is, as values, and what reading, writing and checking one share.

Instants are in UTC, except `sent` and those in references: they are part of a message's name, which others quote, and
keep the offset that they were written with.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from shared.contracts import Area, Info, MsgType, Status
from shared.errors import FieldError, Invalid
from shared.events import Value

NAMESPACE = "urn:oasis:names:tc:emergency:cap:1.2"
MEDIA_TYPE = "application/cap+xml"

ERRORS_MAX = 100
"""A message with more mistakes than this has the first hundred reported."""

_INSTANT = re.compile(
    r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):[0-5]\d:[0-5]\d[+-](?:(?:0\d|1[0-3]):[0-5]\d|14:00)", re.ASCII
)


class Scope(StrEnum):
    """CAP 1.2 `scope`. Our profile knows only Private."""

    PUBLIC = "Public"
    RESTRICTED = "Restricted"
    PRIVATE = "Private"


@dataclass(frozen=True, slots=True)
class Reference:
    """The full name of an earlier message, as CAP spells it: `sender,identifier,sent`."""

    sender: str
    identifier: str
    sent: datetime


class Resource(Value):
    """Something that goes with a message: described, never fetched."""

    description: str
    mime_type: str
    size_bytes: int | None = None
    uri: str | None = None
    content_base64: str | None = None
    digest: str | None = None


class CapArea(Area):
    """An area with CAP's own heights, in feet above mean sea level."""

    altitude_feet: Decimal | None = None
    ceiling_feet: Decimal | None = None


class CapInfo(Info):
    """An info block with the elements that only CAP has."""

    audience: str | None = None
    event_codes: tuple[tuple[str, str], ...] = ()
    effective: datetime | None = None
    resources: tuple[Resource, ...] = ()
    areas: tuple[CapArea, ...] = ()


@dataclass(frozen=True, slots=True)
class CapMessage:
    """Everything that a CAP 1.2 message says. `signatures` counts what was ignored; equality leaves it out."""

    identifier: str
    sender: str
    sent: datetime
    status: Status
    msg_type: MsgType
    scope: Scope
    source: str | None = None
    restriction: str | None = None
    addresses: tuple[str, ...] = ()
    codes: tuple[str, ...] = ()
    note: str | None = None
    references: tuple[Reference, ...] = ()
    incidents: tuple[str, ...] = ()
    info: tuple[CapInfo, ...] = ()
    signatures: int = field(default=0, compare=False)


class Findings:
    """Collects mistakes. Values read after a mistake are stand-ins that nobody ever sees, for `parse` then raises."""

    def __init__(self, errors: Iterable[FieldError] = ()) -> None:
        self.errors = list(errors)
        self.areas = 0
        self.shapes = 0
        self.points = 0

    def add(self, path: str, detail: str, code: str) -> None:
        """Notes a mistake at `path`: what is wrong, and what would be right."""
        if len(self.errors) < ERRORS_MAX:
            self.errors.append(FieldError(field=path, detail=detail, code=code))

    def raise_if_any(self, what: str, code: str) -> None:
        """Raises `Invalid` with everything found so far."""
        if self.errors:
            count = len(self.errors)
            mistakes = "1 mistake" if count == 1 else f"{count} mistakes"
            raise Invalid(f"{what}: {mistakes}.", code=code, errors=self.errors)


def prose_mistakes(message: CapMessage) -> list[FieldError]:
    """What the standard asks for in words and no schema can check."""
    findings = Findings()
    if message.scope is Scope.RESTRICTED and message.restriction is None:
        findings.add(
            "alert/restriction", "Scope Restricted needs <restriction>: the rule of who may see it.", "missing"
        )
    if message.scope is Scope.PRIVATE and not message.addresses:
        findings.add("alert/addresses", "Scope Private needs <addresses>: the intended recipients.", "missing")
    if message.msg_type is not MsgType.ALERT and not message.references:
        detail = (
            f"{message.msg_type} needs <references>: the earlier message that it is about, as sender,identifier,sent."
        )
        findings.add("alert/references", detail, "missing")
    return findings.errors


def read_instant(text: str) -> datetime | None:
    """CAP's date and time with its offset, or None. A written year must survive being converted to UTC."""
    if not _INSTANT.fullmatch(text):
        return None
    try:
        value = datetime.fromisoformat(text)
        value.astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return value


def explain_instant(text: str) -> str:
    """Why `text` is no time of CAP, and what would be."""
    return (
        f"{quoted(text)} is not a time such as 2026-01-05T09:00:00+01:00: whole seconds and a numeric offset; "
        "UTC is written -00:00, never Z."
    )


def write_instant(instant: datetime) -> str:
    """CAP's date and time: whole seconds, numeric offset, UTC as -00:00 (which says: no local time is meant)."""
    text = instant.isoformat(timespec="seconds")
    return f"{text.removesuffix('+00:00')}-00:00" if instant.utcoffset() == timedelta(0) else text


def quoted(text: str) -> str:
    """The beginning of what somebody sent, safe to show back to them."""
    return repr(text if len(text) <= 40 else text[:40] + "…")
