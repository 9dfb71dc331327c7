"""Changing the installation's keys while it runs: a new key is known everywhere before anything is signed with it.

The cast: `add`, `promote`, `drop` and `rotate`, pure, from one `KeyRing` to the next, and `change_file`, which does one
of them to a key file.

The promise: no step makes what another node has just signed unverifiable. Services read their keys at start and never
again, so a change in several processes has three steps with a restart of all of them after each: `add` puts the new key
behind the one that signs, and everybody verifies with it; `promote` has it sign; `drop` forgets the old one, when
nothing that it signed is alive any more. Where one process is everything, `rotate` is the first two in one.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from shared.errors import RedPhoneError
from shared.keys import KEYS_PER_KIND_MAX, KeyRing, KeysUnusable, SealingKey, StorageKey, key_id
from shared.webhooks import SigningKey

STORAGE_KEY_BYTES = 32


class KeyKind(StrEnum):
    """What keys are for. Push keys are not among them: browsers are bound to the one that they subscribed with."""

    TOKEN = "token"  # noqa: S105 - a kind, not a secret
    WEBHOOK = "webhook"
    FEED = "feed"
    SEALING = "sealing"
    STORAGE = "storage"


KEPT = frozenset({KeyKind.SEALING, KeyKind.STORAGE})
"""Kinds whose old keys stay: what lies in the databases was closed with them."""


class KeyChangeRefused(RedPhoneError):
    """A change that would leave something unverifiable or unreadable, or that has no meaning."""

    code = "key_change_refused"


@dataclass(frozen=True, slots=True)
class KeyName:
    """One key of a ring, without anything secret."""

    kind: KeyKind
    id: str
    signs: bool
    """Whether it is the first: it signs or seals, and the others only verify or open."""
    public_key: str | None = None
    """In the form that partners hold; of webhooks only."""


def names_of(ring: KeyRing, kind: KeyKind) -> tuple[KeyName, ...]:
    """The keys of one kind, the one that signs first."""
    return tuple(
        KeyName(
            kind,
            _id_of(key),
            place == 0,
            key.verifying_key.to_text() if kind is KeyKind.WEBHOOK and isinstance(key, SigningKey) else None,
        )
        for place, key in enumerate(_keys(ring, kind))
    )


def add(ring: KeyRing, kind: KeyKind) -> KeyRing:
    """A new key behind all others of its kind: it verifies, and does not sign yet."""
    return _with(ring, kind, [*_room(ring, kind), _new(kind)])


def promote(ring: KeyRing, kind: KeyKind, name: str) -> KeyRing:
    """The named key signs from now on; the others stay behind it in their order."""
    chosen = _find(ring, kind, name)
    return _with(ring, kind, [chosen, *(key for key in _keys(ring, kind) if key is not chosen)])


def drop(ring: KeyRing, kind: KeyKind, name: str) -> KeyRing:
    """The ring without a key that no longer signs."""
    chosen = _find(ring, kind, name)
    if kind in KEPT:
        raise KeyChangeRefused(f"{kind} keys are kept: what lies in the databases could not be opened without them")
    if chosen is _keys(ring, kind)[0]:
        raise KeyChangeRefused("this key signs; promote another one first, and restart every service")
    return _with(ring, kind, [key for key in _keys(ring, kind) if key is not chosen])


def rotate(ring: KeyRing, kind: KeyKind) -> KeyRing:
    """A new key that signs at once; the others verify. Only where one process is the whole installation."""
    return _with(ring, kind, [_new(kind), *_room(ring, kind)])


def change_file(path: Path, change: Callable[[KeyRing], KeyRing]) -> tuple[KeyRing, KeyRing]:
    """Does one change to a key file, whole or not at all; returns the ring before and after it.

    Two changes at once come one after the other. Raises `KeysUnusable`, also where the new file would not belong to
    whom the old one belongs to: a service that cannot read its keys does not start.
    """
    try:
        while True:
            with path.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                found = os.fstat(file.fileno())
                if not os.path.samestat(found, path.stat()):
                    # Whoever had the lock before has put another file in this one's place: that one is to be locked.
                    continue
                if found.st_uid != os.geteuid():
                    raise KeysUnusable(f"the key file {path} belongs to somebody else; run this as its owner")
                before = KeyRing.load(path)
                after = change(before)
                after.save(path)
                return before, after
    except FileNotFoundError:
        raise KeysUnusable(f"there is no key file {path}") from None
    except OSError as error:
        raise KeysUnusable(f"the key file {path} cannot be changed: {error.strerror}") from None


Key = SigningKey | SealingKey | StorageKey


def _keys(ring: KeyRing, kind: KeyKind) -> Sequence[Key]:
    keys: Sequence[Key] = getattr(ring, f"{kind.value}_keys")
    return keys


def _with(ring: KeyRing, kind: KeyKind, keys: Sequence[Key]) -> KeyRing:
    changed: dict[str, Any] = {f"{kind.value}_keys": tuple(keys)}
    return replace(ring, **changed)


def _room(ring: KeyRing, kind: KeyKind) -> Sequence[Key]:
    keys = _keys(ring, kind)
    if len(keys) >= KEYS_PER_KIND_MAX:
        advice = "no more can be made" if kind in KEPT else "drop one that is no longer needed"
        raise KeyChangeRefused(f"there are {KEYS_PER_KIND_MAX} {kind} keys already; {advice}")
    return keys


def _find(ring: KeyRing, kind: KeyKind, name: str) -> Key:
    for key in _keys(ring, kind):
        if _id_of(key) == name:
            return key
    raise KeyChangeRefused(f"there is no {kind} key with this id; redphone keys list shows them")


def _id_of(key: Key) -> str:
    if isinstance(key, SigningKey):
        return key_id(key.verifying_key.raw)
    return key.id if isinstance(key, StorageKey) else key_id(key.public.public_bytes_raw())


def _new(kind: KeyKind) -> Key:
    if kind is KeyKind.SEALING:
        return SealingKey.generate()
    return StorageKey(secrets.token_bytes(STORAGE_KEY_BYTES)) if kind is KeyKind.STORAGE else SigningKey.generate()
