"""Identifiers: UUIDv7 made from an injected clock and random source, one type per noun.

UUIDv7 sorts by time, needs no central counter, and may be made by the caller before it sends, so that a retry is safe.
Layout after RFC 9562, section 5.7: 48 bits of Unix milliseconds, version, 12 random bits, variant, 62 random bits.
"""

from __future__ import annotations

import hashlib
import random
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NewType
from uuid import UUID, uuid5

AlertId = NewType("AlertId", UUID)
CrisisId = NewType("CrisisId", UUID)
EscalationId = NewType("EscalationId", UUID)
PageId = NewType("PageId", UUID)
AttemptId = NewType("AttemptId", UUID)
MessageId = NewType("MessageId", UUID)
ContactId = NewType("ContactId", UUID)
ContactPointId = NewType("ContactPointId", UUID)
OfficeId = NewType("OfficeId", UUID)
RotaId = NewType("RotaId", UUID)
EndpointId = NewType("EndpointId", UUID)
PartnerCode = NewType("PartnerCode", str)

_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62
_RANDOM_BITS = 74
_LOW_MASK = (1 << 62) - 1
_NAMESPACE = UUID("5a0c1f0e-6f3b-5d0e-9d0a-72656470686f")


class Ids:
    """Makes UUIDv7. `bits(n)` gives n random bits: the system's source in production, a seeded one in simulation."""

    def __init__(self, now: Callable[[], datetime], bits: Callable[[int], int] = secrets.randbits) -> None:
        self._now = now
        self._bits = bits

    def new(self) -> UUID:
        """One new id."""
        return self.many(1)[0]

    def many(self, count: int) -> Sequence[UUID]:
        """`count` new ids of one instant; within one millisecond they sort at random, which nothing relies on."""
        prefix = int(self._now().timestamp() * 1000) << 80
        made = []
        for _ in range(count):
            noise = self._bits(_RANDOM_BITS)
            made.append(UUID(int=prefix | _VERSION | (noise >> 62) << 64 | _VARIANT | noise & _LOW_MASK))
        return made


class PromisedIds:
    """UUIDv7 of one instant that are the same whenever they are made again from the same seed, one for each name.

    What is told before it is stored gets such ids: whoever goes on after a crash makes them again.
    """

    def __init__(self, seed: UUID, at: datetime) -> None:
        self._prefix = int(at.timestamp() * 1000) << 80 | _VERSION
        self._key = seed.bytes

    def of(self, name: bytes) -> UUID:
        """The id of what bears this name."""
        noise = int.from_bytes(hashlib.blake2b(name, digest_size=10, key=self._key).digest())
        return UUID(int=self._prefix | (noise >> 62 & 0xFFF) << 64 | _VARIANT | noise & _LOW_MASK)


class SeededBits:
    """A repeatable source of random bits and fractions, for simulation and tests only."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def __call__(self, count: int) -> int:
        return self._random.getrandbits(count)


def fraction() -> float:
    """A random number in [0, 1), for jitter; production's source."""
    return secrets.randbits(53) / (1 << 53)


def derived(*names: str) -> UUID:
    """The same id for the same names, for ever: things that a file or another system names by key (UUIDv5)."""
    return uuid5(_NAMESPACE, "/".join(names))
