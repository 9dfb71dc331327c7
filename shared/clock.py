"""Time: one injected clock, aware and in UTC.

The process clock takes the database's time at start and every minute and advances by the boot-time clock in between, so
that a wall clock that jumps fires nothing early. Differences below two seconds are slewed; greater ones are kept away
and reported as an alarm while the old count goes on.
"""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime, timedelta
from typing import Protocol

SLEW_SECONDS_MAX = 2.0
"""A difference up to this is taken over gradually; a greater one is an alarm and is not followed."""

SLEW_RATE = 0.01
"""Seconds of correction per second that passes."""


class Clock(Protocol):
    """What every component is given instead of the system's clocks."""

    def now(self) -> datetime:
        """The present instant, aware, in UTC."""

    def monotonic(self) -> float:
        """Seconds that never go back, also while the machine sleeps; only differences mean anything."""

    async def sleep(self, seconds: float) -> None:
        """Waits. Only loops call this; no promise to a human hangs on it."""


def boot_seconds() -> float:
    """Seconds since boot, suspended time included where the system offers that."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class SystemClock:
    """The production clock. Until the first `synchronise` it counts from this machine's wall clock."""

    def __init__(self) -> None:
        self._base_at = datetime.now(UTC)
        self._base_boot = boot_seconds()
        self._slew_seconds = 0.0
        self._synchronised = False

    def now(self) -> datetime:
        elapsed = boot_seconds() - self._base_boot
        limit = elapsed * SLEW_RATE
        correction = max(-limit, min(limit, self._slew_seconds))
        return self._base_at + timedelta(seconds=elapsed + correction)

    def monotonic(self) -> float:
        return boot_seconds()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def synchronise(self, reference_at: datetime) -> bool:
        """Follows `reference_at` (the database's time). False means: too far away to follow, raise an alarm.

        The first call sets the clock whatever the difference is. Later ones slew, so that time never jumps.
        """
        present = self.now()
        difference = (reference_at - present).total_seconds()
        if not self._synchronised:
            self._synchronised = True
            self._base_at, self._base_boot, self._slew_seconds = reference_at, boot_seconds(), 0.0
            return True
        if abs(difference) > SLEW_SECONDS_MAX:
            return False
        self._base_at, self._base_boot, self._slew_seconds = present, boot_seconds(), difference
        return True


class ManualClock:
    """A clock that moves only when told to, for tests and simulation. `sleep` yields once and returns."""

    def __init__(self, start: datetime) -> None:
        self._now = start
        self._monotonic = 0.0

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return self._monotonic

    async def sleep(self, seconds: float) -> None:  # noqa: ARG002 - a manual clock does not wait
        await asyncio.sleep(0)

    def advance(self, seconds: float) -> datetime:
        """Moves both readings forward and returns the new instant."""
        self._now += timedelta(seconds=seconds)
        self._monotonic += seconds
        return self._now
