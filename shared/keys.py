"""The installation's keys: what signs tokens, webhooks and feed entries, and what seals contact points and secrets.

The cast: a `KeyRing` holds them all and comes from the deployment's secrets: one JSON text, usually the file
`keys.json` that only its owner may read. Only the `push_keys`, which sign Web Push, may be missing: key files that are
older than they are stay good, and push is off. `seal` closes a text for the holder of a private key alone: roster seals
contact points, escalation opens them. `KeyRing.encrypt` is for what a service keeps for itself.

The promise: of each kind the first key signs or seals and all of them verify or open, so that keys change in the middle
of an alert without a gap: add the new key in front, and drop the old one when nothing signed by it is alive any more.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import fcntl
import hashlib
import hmac
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    derive_private_key,
    generate_private_key,
)
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from shared.errors import RedPhoneError
from shared.webhooks import KeyMalformed, SigningKey

KEY_FILE_NAME = "keys.json"
KEY_FILE_BYTES_MAX = 64_000
KEYS_PER_KIND_MAX = 4
"""More than a change of keys needs; every one of them costs a check."""

SEALED_LENGTH_MAX = 16_000
_FORMAT = 1
_KEY_BYTES = 32
_NONCE_BYTES = 12
_SEALED_VERSION = "sb1"
_ENCRYPTED_VERSION = "ar1"


class KeysUnusable(RedPhoneError):
    """The key file is missing, unreadable, or open to others. The detail says what to do and never repeats a key."""

    code = "keys_unusable"


class CannotOpen(RedPhoneError):
    """A sealed or encrypted text that no key of ours opens, or that belongs to another context."""

    code = "cannot_open"


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the text is not base64url") from None


def key_id(public: bytes) -> str:
    """The name of a key: 16 hexadecimal digits of the SHA-256 of its public half (or of a secret key that has none)."""
    return hashlib.sha256(public).hexdigest()[:16]


# --- sealed boxes -----------------------------------------------------------------------------------------------------


def _box_key(shared_secret: bytes, ephemeral: bytes, recipient: bytes, context: bytes) -> tuple[AESGCM, bytes]:
    salt, info = ephemeral + recipient, b"redphone sb1 " + context
    derived = HKDF(algorithm=SHA256(), length=_KEY_BYTES + _NONCE_BYTES, salt=salt, info=info).derive(shared_secret)
    return AESGCM(derived[:_KEY_BYTES]), derived[_KEY_BYTES:]


def seal(public_key: X25519PublicKey, plaintext: str, *, context: bytes) -> str:
    """Closes a text for the holder of the private key. Never the same twice, so compare plaintexts, not sealed texts.

    `context` says what the text belongs to (for example the id of the contact point) and must be given again to
    open it: a sealed text that is moved elsewhere stays shut. Form: `sb1.` and base64url of an ephemeral X25519 key
    followed by AES-256-GCM, its key and nonce from HKDF-SHA256.
    """
    ephemeral = X25519PrivateKey.generate()
    ephemeral_public = ephemeral.public_key().public_bytes_raw()
    box, nonce = _box_key(ephemeral.exchange(public_key), ephemeral_public, public_key.public_bytes_raw(), context)
    return f"{_SEALED_VERSION}.{_encode(ephemeral_public + box.encrypt(nonce, plaintext.encode(), context))}"


def unseal(private_key: X25519PrivateKey, sealed: str, *, context: bytes) -> str:
    """Opens what `seal` closed for this key and context; raises `CannotOpen` for anything else."""
    version, _, payload = sealed.partition(".")
    if version != _SEALED_VERSION or len(sealed) > SEALED_LENGTH_MAX:
        raise CannotOpen(f"a sealed text begins with {_SEALED_VERSION}. and is not longer than {SEALED_LENGTH_MAX}")
    try:
        raw = _decode(payload)
        ephemeral = raw[:_KEY_BYTES]
        exchanged = private_key.exchange(X25519PublicKey.from_public_bytes(ephemeral))
        box, nonce = _box_key(exchanged, ephemeral, private_key.public_key().public_bytes_raw(), context)
        return box.decrypt(nonce, raw[_KEY_BYTES:], context).decode()
    except (InvalidTag, ValueError):
        raise CannotOpen("the sealed text does not open with this key in this context") from None


@dataclass(frozen=True, slots=True)
class SealingKey:
    """A pair for sealed contact points; `private` is absent where only sealing is allowed (roster)."""

    public: X25519PublicKey
    private: X25519PrivateKey | None = field(default=None, repr=False)

    @property
    def id(self) -> str:
        """Names the key beside what it sealed."""
        return key_id(self.public.public_bytes_raw())

    @classmethod
    def generate(cls) -> SealingKey:
        """A new pair from the operating system's randomness."""
        private = X25519PrivateKey.generate()
        return cls(private.public_key(), private)


@dataclass(frozen=True, slots=True)
class StorageKey:
    """A secret key for what lies in a service's own database."""

    raw: bytes = field(repr=False)

    @property
    def id(self) -> str:
        """Names the key beside what it encrypted."""
        return key_id(self.raw)


@dataclass(frozen=True, slots=True)
class PushKey:
    """A P-256 key that proves to push services who sends (VAPID, RFC 8292). Browsers subscribe to its public half."""

    private: EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def generate(cls) -> PushKey:
        """A new key from the operating system's randomness."""
        return cls(generate_private_key(SECP256R1()))

    @classmethod
    def parse(cls, text: str) -> PushKey:
        """The key of `to_text`; raises `ValueError`."""
        raw = _decode(text)
        if len(raw) != _KEY_BYTES:
            raise ValueError(f"a push key has {_KEY_BYTES} bytes")
        return cls(derive_private_key(int.from_bytes(raw), SECP256R1()))

    def to_text(self) -> str:
        """The private value as base64url."""
        return _encode(self.private.private_numbers().private_value.to_bytes(_KEY_BYTES))

    @property
    def public_text(self) -> str:
        """The uncompressed point as base64url: `applicationServerKey` in a browser, `k` of a VAPID header."""
        return _encode(self.private.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint))


# --- the ring ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class KeyRing:
    """All keys of one installation. Nothing in its `repr` is secret."""

    token_keys: tuple[SigningKey, ...]
    webhook_keys: tuple[SigningKey, ...]
    feed_keys: tuple[SigningKey, ...]
    sealing_keys: tuple[SealingKey, ...]
    storage_keys: tuple[StorageKey, ...]
    push_keys: tuple[PushKey, ...] = ()
    """Empty in files that are older than push."""

    def __post_init__(self) -> None:
        for name in ("token_keys", "webhook_keys", "feed_keys", "sealing_keys", "storage_keys"):
            if not 1 <= len(getattr(self, name)) <= KEYS_PER_KIND_MAX:
                raise KeysUnusable(f"the keys need between 1 and {KEYS_PER_KIND_MAX} {name}")
        if len(self.push_keys) > KEYS_PER_KIND_MAX:
            raise KeysUnusable(f"the keys may have at most {KEYS_PER_KIND_MAX} push_keys")

    @classmethod
    def generate(cls) -> KeyRing:
        """New keys of every kind, from the operating system's randomness."""
        return cls(
            token_keys=(SigningKey.generate(),),
            webhook_keys=(SigningKey.generate(),),
            feed_keys=(SigningKey.generate(),),
            sealing_keys=(SealingKey.generate(),),
            storage_keys=(StorageKey(secrets.token_bytes(_KEY_BYTES)),),
            push_keys=(PushKey.generate(),),
        )

    def without_opening(self) -> KeyRing:
        """The same ring for a service that seals contact points and may never open them, nor send to them."""
        return KeyRing(
            token_keys=self.token_keys,
            webhook_keys=self.webhook_keys,
            feed_keys=self.feed_keys,
            sealing_keys=tuple(SealingKey(key.public) for key in self.sealing_keys),
            storage_keys=self.storage_keys,
        )

    # --- text and file

    @classmethod
    def parse(cls, text: str | bytes) -> KeyRing:
        """The ring of a JSON text, as `to_text` writes it; raises `KeysUnusable`."""
        if len(text) > KEY_FILE_BYTES_MAX:
            raise KeysUnusable(f"the keys are longer than {KEY_FILE_BYTES_MAX} bytes, so this is not a key file")
        try:
            document = orjson.loads(text)
            if document["format"] != _FORMAT:
                raise KeysUnusable(f"the keys have an unknown format; this version reads format {_FORMAT}")
            return cls(
                token_keys=tuple(SigningKey(_decode(key)) for key in document["token_keys"]),
                webhook_keys=tuple(SigningKey(_decode(key)) for key in document["webhook_keys"]),
                feed_keys=tuple(SigningKey(_decode(key)) for key in document["feed_keys"]),
                sealing_keys=tuple(_sealing_key(key) for key in document["sealing_keys"]),
                storage_keys=tuple(_storage_key(key) for key in document["storage_keys"]),
                push_keys=tuple(PushKey.parse(key) for key in document.get("push_keys", ())),
            )
        except (ValueError, KeyError, TypeError, AttributeError, KeyMalformed):
            raise KeysUnusable("the keys cannot be read: the text is damaged, or is not a key file") from None

    def to_text(self) -> str:
        """The ring as JSON, secrets included."""
        document = {
            "format": _FORMAT,
            "token_keys": [_encode(key.seed) for key in self.token_keys],
            "webhook_keys": [_encode(key.seed) for key in self.webhook_keys],
            "feed_keys": [_encode(key.seed) for key in self.feed_keys],
            "sealing_keys": [
                {"public": _encode(key.public.public_bytes_raw())}
                | ({"private": _encode(key.private.private_bytes_raw())} if key.private is not None else {})
                for key in self.sealing_keys
            ],
            "storage_keys": [_encode(key.raw) for key in self.storage_keys],
        }
        if self.push_keys:
            document["push_keys"] = [key.to_text() for key in self.push_keys]
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE).decode()

    @classmethod
    def load(cls, path: Path) -> KeyRing:
        """The ring of a file; raises `KeysUnusable`, also when anybody but the owner may read the file."""
        try:
            with path.open("rb") as file:
                mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
                if mode & 0o077:
                    raise KeysUnusable(f"others may read the key file {path} (mode {mode:04o}); run: chmod 600 {path}")
                text = file.read(KEY_FILE_BYTES_MAX + 1)
        except FileNotFoundError:
            raise KeysUnusable(f"there is no key file {path}; run: redphone doctor") from None
        except OSError as error:
            raise KeysUnusable(f"the key file {path} cannot be read: {error.strerror}") from None
        return cls.parse(text)

    def save(self, path: Path) -> None:
        """Writes the file for its owner alone, whole or not at all, over one that may be there."""
        with _written_beside(path, self.to_text()) as temporary:
            temporary.replace(path)

    @classmethod
    def load_or_generate(cls, path: Path) -> KeyRing:
        """The ring of a file, which is made if it is missing, and completed if it is older than a kind of keys.

        Two processes that start at once get one ring.
        """
        if not path.exists():
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _written_beside(path, cls.generate().to_text()) as temporary, contextlib.suppress(FileExistsError):
                path.hardlink_to(temporary)
        ring = cls.load(path)
        if not ring.push_keys:
            # A file that cannot be written stays as it is; push is off then, which its channel says.
            with contextlib.suppress(OSError):
                return cls._complete(path)
        return ring

    @classmethod
    def _complete(cls, path: Path) -> KeyRing:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            # Whoever had the lock before may have completed the file, which is then another one than was locked.
            ring = cls.load(path)
            if not ring.push_keys:
                ring = replace(ring, push_keys=(PushKey.generate(),))
                ring.save(path)
        return ring

    # --- what others may know

    def public_keys(self) -> dict[str, Any]:
        """What `/.well-known/redphone-keys` answers: a JSON Web Key Set for tokens; keys of webhooks and feed."""
        return {
            "keys": [_web_key(key) for key in self.token_keys],
            "webhook_keys": [
                {"id": key_id(key.verifying_key.raw), "public_key": key.verifying_key.to_text()}
                for key in self.webhook_keys
            ],
            "feed_keys": [_web_key(key) for key in self.feed_keys],
        }

    # --- sealing, encrypting, deriving

    def derived(self, purpose: str) -> tuple[bytes, ...]:
        """A key for one purpose from each storage key: the first makes, all verify. No purpose learns another's."""
        return tuple(_derived(key.raw, purpose) for key in self.storage_keys)

    def seal(self, plaintext: str, *, context: bytes) -> str:
        """Closes a contact point's address for escalation."""
        return seal(self.sealing_keys[0].public, plaintext, context=context)

    def unseal(self, sealed: str, *, context: bytes) -> str:
        """Opens an address with whichever of our keys fits; raises `CannotOpen`."""
        for key in self.sealing_keys:
            if key.private is not None:
                with contextlib.suppress(CannotOpen):
                    return unseal(key.private, sealed, context=context)
        raise CannotOpen("no key of this installation opens the sealed text in this context")

    def encrypt(self, plaintext: str, *, context: bytes) -> str:
        """Encrypts what a service keeps at rest; `context` (say, the row's id) must be given again to decrypt."""
        key = self.storage_keys[0]
        nonce = secrets.token_bytes(_NONCE_BYTES)
        ciphertext = AESGCM(key.raw).encrypt(nonce, plaintext.encode(), context)
        return f"{_ENCRYPTED_VERSION}.{key.id}.{_encode(nonce + ciphertext)}"

    def decrypt(self, encrypted: str, *, context: bytes) -> str:
        """Reads what `encrypt` wrote with any of our storage keys; raises `CannotOpen`."""
        version, _, rest = encrypted.partition(".")
        name, _, payload = rest.partition(".")
        key = next((key for key in self.storage_keys if key.id == name), None)
        if version != _ENCRYPTED_VERSION or key is None:
            raise CannotOpen("the stored text was encrypted with a key that this installation no longer has")
        try:
            raw = _decode(payload)
            return AESGCM(key.raw).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], context).decode()
        except (InvalidTag, ValueError):
            raise CannotOpen("the stored text is damaged or belongs elsewhere") from None


@lru_cache(maxsize=64)
def _derived(raw: bytes, purpose: str) -> bytes:
    return HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=purpose.encode()).derive(raw)


@contextlib.contextmanager
def _written_beside(path: Path, text: str) -> Iterator[Path]:
    """A temporary file that holds `text` on disk, in the same directory, so that it can be moved into place at once."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _web_key(key: SigningKey) -> dict[str, str]:
    public = key.verifying_key.raw
    return {
        "kty": "OKP",
        "crv": "Ed25519",
        "x": _encode(public),
        "kid": key_id(public),
        "alg": "Ed25519",
        "use": "sig",
    }


def _sealing_key(document: dict[str, str]) -> SealingKey:
    public = X25519PublicKey.from_public_bytes(_decode(document["public"]))
    if "private" not in document:
        return SealingKey(public)
    private = X25519PrivateKey.from_private_bytes(_decode(document["private"]))
    if private.public_key().public_bytes_raw() != public.public_bytes_raw():
        raise ValueError("the public half of a sealing key does not belong to its private half")
    return SealingKey(public, private)


def _storage_key(text: str) -> StorageKey:
    raw = _decode(text)
    if len(raw) != _KEY_BYTES:
        raise ValueError(f"a storage key has {_KEY_BYTES} bytes")
    return StorageKey(raw)


FINGERPRINT_CHARACTERS = 32


def fingerprints(keys: KeyRing, contact_point_id: UUID, address: str) -> tuple[str, ...]:
    """Names of the address of one contact point that tell nothing of it, one by each of our keys; the first is said."""
    told = point_context(contact_point_id) + b" " + address.encode()
    made = (hmac.digest(key, told, "sha256").hex() for key in keys.derived("redphone address fingerprint 1"))
    return tuple(text[:FINGERPRINT_CHARACTERS] for text in made)


def point_context(contact_point_id: UUID) -> bytes:
    """What a sealed address is bound to, so that it cannot be moved to another contact point or endpoint."""
    return f"contact_point:{contact_point_id}".encode()
