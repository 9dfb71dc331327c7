"""Signed webhooks in the form of Standard Webhooks, with Ed25519 signatures (`v1a`).

The cast: a `SigningKey` (ours, text form `whsk_…`), a `VerifyingKey` (what partners hold, `whpk_…`), `sign` and
`verify`, and `envelope`, which makes the body `{"type", "timestamp", "data"}`.

The promise: what `verify` lets through was signed by the holder of one of the keys within the last five minutes, byte
for byte. During a change of keys each message carries one signature per active key, so that a receiver that knows only
one of them goes on working.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from nacl.bindings import crypto_sign

from shared.errors import Invalid

BODY_BYTES_MAX = 20_000
"""The standard's own advice: receivers and their proxies may refuse more."""
TOLERANCE_SECONDS = 300
SIGNATURES_MAX = 8
"""Checking costs time, so a header with more signatures than any change of keys needs is refused unread."""
SIGNING_KEYS_MAX = 4

HEADER_ID = "webhook-id"
HEADER_TIMESTAMP = "webhook-timestamp"
HEADER_SIGNATURE = "webhook-signature"

_SIGNING_PREFIX = "whsk_"
_VERIFYING_PREFIX = "whpk_"
_VERSION = "v1a"
_SIGNATURE_BYTES = 64
_KEY_BYTES = 32
_HEADER_LENGTH_MAX = 1024
# No full stop: it separates the parts of what is signed, so an id with one could be cut elsewhere.
_MESSAGE_ID = re.compile(r"[A-Za-z0-9_-]{1,128}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


class WebhookRefusal(StrEnum):
    """Why a received message is not believed."""

    HEADER_MISSING = "header_missing"
    HEADER_MALFORMED = "header_malformed"
    TIMESTAMP_TOO_OLD = "timestamp_too_old"
    TIMESTAMP_TOO_NEW = "timestamp_too_new"
    SIGNATURE_MISMATCH = "signature_mismatch"


class WebhookRefused(Invalid):
    """A message that was not signed by a known key, or not lately."""

    def __init__(self, reason: WebhookRefusal, detail: str) -> None:
        super().__init__(detail, code=reason.value)
        self.reason = reason


class BodyTooLarge(Invalid):
    """The finished body would exceed `BODY_BYTES_MAX`."""

    code = "body_too_large"


class KeyMalformed(Invalid):
    """A text that is not a key of the expected kind. The message never repeats the text."""

    code = "key_malformed"


@dataclass(frozen=True, slots=True)
class VerifyingKey:
    """The public half, as it is published and as partners store it."""

    raw: bytes
    _key: Ed25519PublicKey = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.raw) != _KEY_BYTES:
            raise KeyMalformed(f"a public key has {_KEY_BYTES} bytes")
        object.__setattr__(self, "_key", Ed25519PublicKey.from_public_bytes(self.raw))

    @classmethod
    def from_text(cls, text: str) -> VerifyingKey:
        """Read `whpk_` and base64 of 32 bytes; raises `KeyMalformed`."""
        return cls(_decode_key(text, _VERIFYING_PREFIX))

    def to_text(self) -> str:
        """The form that is published."""
        return _VERIFYING_PREFIX + base64.b64encode(self.raw).decode("ascii")

    def matches(self, signature: bytes, content: bytes) -> bool:
        """Whether the holder of the private half signed exactly `content`."""
        try:
            self._key.verify(signature, content)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The private half. Never printed: `repr` shows the public half only."""

    seed: bytes = field(repr=False)
    verifying_key: VerifyingKey = field(init=False)
    _secret: bytes = field(init=False, repr=False, compare=False)
    """Seed and public key: what libsodium signs with, in two thirds of the time that `cryptography` takes."""

    def __post_init__(self) -> None:
        if len(self.seed) != _KEY_BYTES:
            raise KeyMalformed(f"a private key has {_KEY_BYTES} bytes")
        public = Ed25519PrivateKey.from_private_bytes(self.seed).public_key().public_bytes_raw()
        object.__setattr__(self, "_secret", self.seed + public)
        object.__setattr__(self, "verifying_key", VerifyingKey(public))

    @classmethod
    def generate(cls) -> SigningKey:
        """A new key from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate().private_bytes_raw())

    @classmethod
    def from_text(cls, text: str) -> SigningKey:
        """Read `whsk_` and base64 of the seed (32 bytes), or of seed and public key (64), as both are in use.

        Raises `KeyMalformed`, also if the two halves do not belong together.
        """
        raw = _decode_key(text, _SIGNING_PREFIX)
        key = cls(raw[:_KEY_BYTES])
        if len(raw) != _KEY_BYTES and raw[_KEY_BYTES:] != key.verifying_key.raw:
            raise KeyMalformed("the public half of the key does not belong to its private half")
        return key

    def to_text(self) -> str:
        """The secret itself, as seed and public key."""
        return _SIGNING_PREFIX + base64.b64encode(self._secret).decode("ascii")

    def signature(self, content: bytes) -> bytes:
        """The 64 bytes of the signature. Ed25519 is deterministic: the same content gives the same bytes."""
        return crypto_sign(content, self._secret)[:_SIGNATURE_BYTES]


def signed_content(message_id: str, timestamp: int, body: bytes) -> bytes:
    """What is signed: `{id}.{timestamp}.{body}`, the timestamp in whole seconds since 1970."""
    return f"{message_id}.{timestamp}.".encode("ascii") + body


def sign(keys: Sequence[SigningKey], message_id: str, timestamp: int, body: bytes) -> str:
    """The value of `webhook-signature`: one signature per key, separated by spaces, in the order of `keys`."""
    if not 1 <= len(keys) <= SIGNING_KEYS_MAX:
        raise ValueError(f"between 1 and {SIGNING_KEYS_MAX} signing keys are needed")
    if not _MESSAGE_ID.fullmatch(message_id) or timestamp < 0:
        raise ValueError("a message id holds letters, digits, - and _ only, and a timestamp is not negative")
    content = signed_content(message_id, timestamp, body)
    return " ".join(f"{_VERSION},{base64.b64encode(key.signature(content)).decode('ascii')}" for key in keys)


def headers(keys: Sequence[SigningKey], message_id: str, sent_at: datetime, body: bytes) -> dict[str, str]:
    """The three headers of a message that is sent at `sent_at`."""
    timestamp = int(sent_at.timestamp())
    return {
        HEADER_ID: message_id,
        HEADER_TIMESTAMP: str(timestamp),
        HEADER_SIGNATURE: sign(keys, message_id, timestamp, body),
    }


def verify(
    keys: Sequence[VerifyingKey],
    received: Mapping[str, str],
    body: bytes,
    *,
    now: datetime,
    tolerance_seconds: int = TOLERANCE_SECONDS,
) -> str:
    """Check a received message and return its id; raises `WebhookRefused` with the reason.

    The names in `received` may be in any case. Signatures of versions that are not `v1a` are passed over, because a
    sender may add newer ones. The caller must drop ids it has seen: the same message may rightly come again.
    """
    lowered: dict[str, str] = {}
    for name, value in received.items():
        lowered[name.lower()] = value
    values = [lowered.get(name) for name in (HEADER_ID, HEADER_TIMESTAMP, HEADER_SIGNATURE)]
    message_id, timestamp_text, signature_text = (value or "" for value in values)
    if not (message_id and timestamp_text and signature_text):
        raise WebhookRefused(WebhookRefusal.HEADER_MISSING, "webhook-id, -timestamp and -signature are all needed")
    if not _MESSAGE_ID.fullmatch(message_id) or not _TIMESTAMP.fullmatch(timestamp_text):
        raise WebhookRefused(WebhookRefusal.HEADER_MALFORMED, "webhook-id or webhook-timestamp is not readable")
    signatures = _decode_signatures(signature_text)
    timestamp = int(timestamp_text)
    age_seconds = now.timestamp() - timestamp
    if age_seconds > tolerance_seconds:
        raise WebhookRefused(WebhookRefusal.TIMESTAMP_TOO_OLD, f"sent more than {tolerance_seconds} s ago")
    if -age_seconds > tolerance_seconds:
        raise WebhookRefused(WebhookRefusal.TIMESTAMP_TOO_NEW, f"sent more than {tolerance_seconds} s in the future")
    content = signed_content(message_id, timestamp, body)
    # The text as it came is what was signed: a leading zero would otherwise be another message with the same signature.
    if str(timestamp) != timestamp_text:
        raise WebhookRefused(WebhookRefusal.HEADER_MALFORMED, "webhook-timestamp has leading zeros")
    if not any(key.matches(signature, content) for signature in signatures for key in keys):
        raise WebhookRefused(WebhookRefusal.SIGNATURE_MISMATCH, "no signature was made by a known key")
    return message_id


def envelope(message_type: str, occurred_at: datetime, data: Mapping[str, object]) -> bytes:
    """The body of a webhook: `{"type", "timestamp", "data"}`; raises `BodyTooLarge` above `BODY_BYTES_MAX`.

    `occurred_at` (aware) is when the thing happened, not when this attempt is made: all attempts share one body.
    """
    if occurred_at.tzinfo is None:
        raise ValueError("occurred_at needs a time zone")
    timestamp = occurred_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    body = orjson.dumps(
        {"type": message_type, "timestamp": timestamp, "data": data},
        default=_plain,
        option=orjson.OPT_UTC_Z,
    )
    if len(body) > BODY_BYTES_MAX:
        raise BodyTooLarge(f"the body has {len(body)} bytes, {BODY_BYTES_MAX} are allowed")
    return body


def _plain(value: object) -> str:
    # Database drivers return subclasses of UUID, which orjson does not take for one.
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def _decode_key(text: str, prefix: str) -> bytes:
    if not text.startswith(prefix):
        raise KeyMalformed(f"the key must begin with {prefix}")
    try:
        raw = base64.b64decode(text[len(prefix) :], validate=True)
    except (binascii.Error, ValueError):
        raise KeyMalformed(f"what follows {prefix} is not base64") from None
    if len(raw) != _KEY_BYTES and not (prefix == _SIGNING_PREFIX and len(raw) == 2 * _KEY_BYTES):
        raise KeyMalformed("the key has the wrong length")
    return raw


def _decode_signatures(text: str) -> list[bytes]:
    entries = text.split(" ") if len(text) <= _HEADER_LENGTH_MAX else []
    if not 1 <= len(entries) <= SIGNATURES_MAX:
        raise WebhookRefused(WebhookRefusal.HEADER_MALFORMED, f"webhook-signature holds 1 to {SIGNATURES_MAX} entries")
    signatures = []
    for entry in entries:
        version, comma, encoded = entry.partition(",")
        if not comma:
            raise WebhookRefused(WebhookRefusal.HEADER_MALFORMED, "an entry of webhook-signature has no version")
        if version != _VERSION:
            continue
        try:
            signature = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise WebhookRefused(WebhookRefusal.HEADER_MALFORMED, "a signature is not base64") from None
        if len(signature) != _SIGNATURE_BYTES:
            raise WebhookRefused(WebhookRefusal.HEADER_MALFORMED, f"a signature has {_SIGNATURE_BYTES} bytes")
        signatures.append(signature)
    return signatures
