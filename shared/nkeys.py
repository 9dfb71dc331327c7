"""NATS keys: the seed that a service holds, its public half in the server's configuration, and signing the server's
nonce.

An nkey is an Ed25519 key in base 32 with a type prefix and a CRC-16. The server keeps public keys only.
"""

from __future__ import annotations

import base64
import binascii

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_SEED = 18 << 3
_USER = 20 << 3
_SEED_BYTES = 2 + 32 + 2


def user_seed(secret: bytes) -> str:
    """The seed, `SU…`, of 32 secret random bytes."""
    if len(secret) != 32:
        message = "a seed is made of exactly 32 bytes"
        raise ValueError(message)
    return _encode(bytes([_SEED | _USER >> 5, (_USER & 31) << 3]) + secret)


def public_key(seed: str) -> str:
    """The public key, `U…`, for the server's configuration."""
    return _encode(bytes([_USER]) + _private(seed).public_key().public_bytes_raw())


def sign(seed: str, nonce: str) -> bytes:
    """The signature of the server's nonce, in base 64."""
    return base64.b64encode(_private(seed).sign(nonce.encode()))


def _encode(raw: bytes) -> str:
    return base64.b32encode(raw + binascii.crc_hqx(raw, 0).to_bytes(2, "little")).decode().rstrip("=")


def _private(seed: str) -> Ed25519PrivateKey:
    try:
        raw = base64.b32decode(seed.strip() + "=" * (-len(seed.strip()) % 8))
    except ValueError:
        raw = b""
    kind = (raw[0] & 7) << 5 | raw[1] >> 3 if len(raw) == _SEED_BYTES else None
    if kind != _USER or raw[0] & 248 != _SEED or binascii.crc_hqx(raw[:-2], 0).to_bytes(2, "little") != raw[-2:]:
        message = "this is not the seed of a NATS user (SU…)"
        raise ValueError(message)
    return Ed25519PrivateKey.from_private_bytes(raw[2:-2])
