from __future__ import annotations

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from shared.nkeys import public_key, sign, user_seed

# The pair that the NATS documentation uses in its example of nkey authentication.
SEED = "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY"
PUBLIC = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4"


def test_the_public_key_is_that_of_other_implementations() -> None:
    """A known seed has the known public key."""
    assert public_key(SEED) == PUBLIC
    assert public_key(f" {SEED}\n") == PUBLIC


def test_a_seed_is_made_of_secret_bytes() -> None:
    """The same bytes give the same seed, in the form of a user's seed."""
    seed = user_seed(bytes(range(32)))
    assert seed == user_seed(bytes(range(32)))
    assert seed.startswith("SU")
    assert public_key(seed).startswith("U")


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_seed_needs_32_bytes(length: int) -> None:
    """Fewer or more secret bytes are refused."""
    with pytest.raises(ValueError, match="32 bytes"):
        user_seed(bytes(length))


def test_a_signature_is_verified_by_the_public_key() -> None:
    """The nonce's signature is plain Ed25519 over its characters."""
    raw = base64.b32decode(PUBLIC)[1:33]
    Ed25519PublicKey.from_public_bytes(raw).verify(base64.b64decode(sign(SEED, "a nonce")), b"a nonce")


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param("", id="nothing"),
        pytest.param("SU", id="cut off"),
        pytest.param(PUBLIC, id="public key"),
        pytest.param(SEED.replace("DXKF", "DXKE"), id="mistyped"),
        pytest.param(SEED.lower(), id="lower case"),
        pytest.param("!" * 58, id="no base 32"),
        pytest.param("SÜ" + SEED[2:], id="no ASCII"),
    ],
)
def test_what_is_no_seed_is_refused(seed: str) -> None:
    """A wrong seed is said to be wrong, without repeating it."""
    with pytest.raises(ValueError, match="seed of a NATS user") as refused:
        public_key(seed)
    assert len(seed) < 3 or seed not in str(refused.value)
