"""Browsers' push subscriptions: what the address of a contact point of channel `push` is, and what makes one usable.

The cast: a `PushSubscription`, read by `read_subscription` from the JSON text that `JSON.stringify(subscription)` gives
in a browser (W3C Push API), or refused by `SubscriptionRefused` with the reason.

The promise: what is read here can be encrypted to and, as far as its text tells, posted to: a public URL that the guard
lets out, a key that is a point of P-256 (RFC 8291, section 3.1) and a secret of 16 bytes (section 3.2). No refusal
repeats any of it: whoever knows a subscription's keys can read and forge its messages.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, field
from typing import Any

import orjson
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicKey

from shared.egress import CheckedUrl, EgressPolicy, check_url
from shared.errors import Invalid

SUBSCRIPTION_CHARACTERS_MAX = 2_000
"""Endpoints of today's push services have 150 to 700 characters, the keys little more than 100."""

PUBLIC_KEY_BYTES = 65
"""An uncompressed point of P-256."""
SECRET_BYTES = 16
_BASE64_CHARACTERS_MAX = 200


class SubscriptionRefused(Invalid):
    """This is no subscription that can be sent to. The detail is one sentence that repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class PushSubscription:
    """Where one browser's push service takes messages, and the keys that only that browser can read them with."""

    endpoint: CheckedUrl
    public_key: bytes = field(repr=False)
    """`p256dh`: an uncompressed point of P-256."""
    secret: bytes = field(repr=False)
    """`auth`: 16 bytes."""

    @property
    def origin(self) -> str:
        """Scheme, host and port of the push service: what a VAPID token is made out to (RFC 8292, section 2)."""
        return self.endpoint.url[: self.endpoint.url.index("/", len(self.endpoint.scheme) + 3)]


def read_subscription(text: str, policy: EgressPolicy) -> PushSubscription:
    """The subscription of a JSON text; raises `SubscriptionRefused`, or `EgressRefused` for its endpoint.

    Fields that a browser adds, `expirationTime` for example, are read past.
    """
    if len(text) > SUBSCRIPTION_CHARACTERS_MAX:
        raise SubscriptionRefused(f"the subscription is longer than {SUBSCRIPTION_CHARACTERS_MAX} characters")
    try:
        document = orjson.loads(text)
    except ValueError:
        raise SubscriptionRefused("this is not the JSON of a browser's push subscription") from None
    keys = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(keys, dict) or not isinstance(document.get("endpoint"), str):
        raise SubscriptionRefused("a push subscription has endpoint, keys.p256dh and keys.auth")
    public_key, secret = _bytes_of(keys.get("p256dh")), _bytes_of(keys.get("auth"))
    if public_key is None or len(public_key) != PUBLIC_KEY_BYTES or not _is_point(public_key):
        raise SubscriptionRefused("keys.p256dh is no public key of P-256 in base64url")
    if secret is None or len(secret) != SECRET_BYTES:
        raise SubscriptionRefused(f"keys.auth is not {SECRET_BYTES} bytes in base64url")
    return PushSubscription(check_url(document["endpoint"], policy), public_key, secret)


def _bytes_of(value: Any) -> bytes | None:
    """What base64url says, with or without padding, as browsers of all ages write it; None if it is something else."""
    if not isinstance(value, str) or len(value) > _BASE64_CHARACTERS_MAX:
        return None
    text = value.rstrip("=")
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        return None


def _is_point(raw: bytes) -> bool:
    try:
        EllipticCurvePublicKey.from_encoded_point(SECP256R1(), raw)
    except ValueError:
        return False
    return True
