"""A browser with its push service: a real server on loopback that takes Web Push messages as RFC 8030 says, and reads
them as only the browser can.

Decryption (RFC 8291 with RFC 8188) and the check of the sender (RFC 8292) are written here from the documents, with
none of the libraries that the channel uses, so that the two cannot be wrong together.
"""

from __future__ import annotations

import base64
import json
import struct
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.receiver import Received


def encode(raw: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The bytes of base64url, with or without padding."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _derive(length: int, salt: bytes, secret: bytes, info: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=length, salt=salt, info=info).derive(secret)


@dataclass
class Browser:
    """One subscription: its private key and secret."""

    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    secret: bytes = bytes(range(16))

    @property
    def public_key(self) -> bytes:
        """`p256dh`."""
        return self.key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def subscription(self, endpoint: str, **more: Any) -> str:
        """What `JSON.stringify(subscription)` gives."""
        keys = {"p256dh": encode(self.public_key), "auth": encode(self.secret)}
        return json.dumps({"endpoint": endpoint, "expirationTime": None, "keys": keys, **more})

    def read(self, body: bytes) -> bytes:
        """Decrypts one message; raises if it was not made for this subscription."""
        salt, (record_size, length) = body[:16], struct.unpack("!LB", body[16:21])
        sender, ciphertext = body[21 : 21 + length], body[21 + length :]
        assert len(ciphertext) <= record_size
        shared = self.key.exchange(ec.ECDH(), ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), sender))
        key = _derive(32, self.secret, shared, b"WebPush: info\0" + self.public_key + sender)
        content_key = _derive(16, salt, key, b"Content-Encoding: aes128gcm\0")
        nonce = _derive(12, salt, key, b"Content-Encoding: nonce\0")
        padded = AESGCM(content_key).decrypt(nonce, ciphertext, None).rstrip(b"\0")
        assert padded[-1:] == b"\x02"
        return padded[:-1]


def verified_sender(request: Received, *, origin: str, now: datetime) -> tuple[str, dict[str, Any]]:
    """The key (as browsers get it) and the claims of a request's VAPID header, after all that a service checks."""
    scheme, _, parameters = request.headers["authorization"].partition(" ")
    assert scheme == "vapid"
    given = dict(part.strip().split("=", 1) for part in parameters.split(","))
    header, claims, signature = given["t"].split(".")
    raw = decode(signature)
    assert len(raw) == 64
    ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), decode(given["k"])).verify(
        encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:])),
        f"{header}.{claims}".encode(),
        ec.ECDSA(SHA256()),
    )
    assert json.loads(decode(header)) == {"typ": "JWT", "alg": "ES256"}
    told: dict[str, Any] = json.loads(decode(claims))
    assert told["aud"] == origin
    assert now.timestamp() < told["exp"] <= now.timestamp() + 24 * 3600
    assert told["sub"].startswith(("mailto:", "https://"))
    return given["k"], told
