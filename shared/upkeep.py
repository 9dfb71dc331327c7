"""The work that every service does for itself: alarms for dead letters, the clock, cleaning, reconciling, readiness.

The promise: no fault is silent. What needs a person becomes a log line at ERROR within 30 seconds, once, and stands in
`/readyz` until it is over.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from prometheus_client import Gauge

from shared import idempotency, inbox, migrate, outbox
from shared.bus import Bus
from shared.clock import SystemClock
from shared.errors import Unavailable
from shared.ids import derived
from shared.log import get_logger
from shared.loops import Loop
from shared.subscriptions import DeadLetter
from shared.web import Degraded, ReadinessCheck

if TYPE_CHECKING:
    from shared.process import Deps, Reconcile

log = get_logger(__name__)

CLEANED_AT_ONCE_MAX = min(idempotency.CLEANED_AT_ONCE_MAX, inbox.CLEANED_AT_ONCE_MAX)
"""A pass that cleans as much of anything is followed by the next at once."""

DEAD_LETTER_SECONDS = 5.0
CLOCK_SECONDS = 60.0
CLEANING_SECONDS = 60.0
RECONCILE_SECONDS = 10.0
UNPUBLISHED_SECONDS_MAX = 30.0
"""An event that waits for a healthy broker longer than this is an alarm."""

NO_ROAD_SECONDS_MAX = 20.0
"""With the broker away, a source whose feed cannot be read for this long is an alarm."""

ROUND_TRIP_SECONDS_MAX = 1.0
"""A database that took longer to tell the time has not told it well enough to follow."""

LOOP_FAILURES = Gauge("redphone_loop_failures", "Failures in a row of a loop.", ("service", "loop"))
LOOP_AGE_SECONDS = Gauge("redphone_loop_age_seconds", "Seconds since a loop's last finished pass.", ("service", "loop"))
OUTBOX_UNPUBLISHED = Gauge(
    "redphone_outbox_unpublished", "Events that have waited for the broker for over a second.", ("service",)
)
DEAD_LETTERS = Gauge("redphone_dead_letters", "Messages that could not be handled and wait for a person.", ("service",))
BUS_HEALTHY = Gauge("redphone_bus_healthy", "1 while the broker answers.", ("service",))
ALARMS = Gauge("redphone_alarms", "Alarms of the reconciler that stand.", ("service",))


def loops(deps: Deps, bus: Bus, reconcile: Sequence[Reconcile]) -> list[Loop]:
    """The loops `dead_letters`, `clock`, `cleaning` and `reconciler`."""
    reconciler = Reconciler(deps, bus, reconcile)

    def loop(name: str, run_once: Callable[[], Awaitable[int]], seconds: float, again_when: int = 1) -> Loop:
        return Loop(name, run_once, interval_seconds=seconds, again_when=again_when, clock=deps.clock)

    return [
        loop("dead_letters", lambda: alarm_dead_letters(deps), DEAD_LETTER_SECONDS),
        loop("clock", lambda: synchronise(deps), CLOCK_SECONDS),
        loop("cleaning", lambda: clean(deps), CLEANING_SECONDS, again_when=CLEANED_AT_ONCE_MAX),
        loop("reconciler", reconciler.run_once, RECONCILE_SECONDS, again_when=1_000_000),
    ]


# --- dead letters -----------------------------------------------------------------------------------------------------


def burial(deps: Deps) -> Callable[[DeadLetter], Awaitable[None]]:
    """What a subscription does with a message that can never be handled: a row, and an alarm soon after."""

    async def bury(letter: DeadLetter) -> None:
        message = str(letter.message_id or letter.headers.get("ce-id") or hashlib.sha256(letter.body).hexdigest())
        async with deps.database.transaction() as tx:
            await inbox.bury(
                tx,
                id=derived("dead_letter", letter.consumer, message),
                consumer=letter.consumer,
                message_id=letter.message_id,
                type=_storable(letter.type),
                subject=_storable(letter.subject),
                headers={_storable(name): _storable(value) for name, value in letter.headers.items()},
                body=_storable(letter.body.decode("utf-8", "replace")),
                reason=letter.reason.value,
                error=_storable(letter.error),
                deliveries=letter.deliveries,
                buried_at=deps.clock.now(),
            )
        deps.wake("dead_letters")

    return bury


def _storable(text: str | None) -> Any:
    """Text without the one character that PostgreSQL does not store."""
    return None if text is None else text.replace("\0", "\N{REPLACEMENT CHARACTER}")


async def alarm_dead_letters(deps: Deps) -> int:
    """Tells the operators of every dead letter once; a crash in between tells them again rather than never."""
    async with deps.database.transaction() as tx:
        fresh = await inbox.raise_alarms(tx, deps.clock.now())
        for row in fresh:
            log.error(
                "message.dead_lettered",
                service=deps.service,
                dead_letter_id=str(row.id),
                consumer=row.consumer,
                type=row.type,
                reason=row.reason,
            )
    return len(fresh)


# --- clock and cleaning -----------------------------------------------------------------------------------------------


async def synchronise(deps: Deps) -> int:
    """Lets the process clock follow the database's."""
    if not isinstance(deps.clock, SystemClock):
        return 0
    asked = deps.clock.monotonic()
    reference_at = await deps.database.time()
    round_trip_seconds = deps.clock.monotonic() - asked
    if round_trip_seconds > ROUND_TRIP_SECONDS_MAX:
        log.warning("clock.reference_slow", service=deps.service, seconds=round(round_trip_seconds, 3))
        return 0
    reference_at += timedelta(seconds=round_trip_seconds / 2)
    difference_seconds = (reference_at - deps.clock.now()).total_seconds()
    if not deps.clock.synchronise(reference_at):
        log.error("clock.jumped", service=deps.service, difference_seconds=round(difference_seconds, 3))
    return 0


async def clean(deps: Deps) -> int:
    """Forgets what no retry and no second copy can need any more, a batch of each; returns the larger count."""
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        keys = await idempotency.clean(tx, now=now)
    async with deps.database.transaction() as tx:
        return max(keys, await inbox.clean(tx, now=now))


# --- reconciler -------------------------------------------------------------------------------------------------------


class Reconciler:
    """Asks what should be and is not; each answer is an alarm, raised once and cleared when it is gone."""

    def __init__(self, deps: Deps, bus: Bus, checks: Sequence[Reconcile]) -> None:
        self._deps = deps
        self._bus = bus
        self._checks = checks
        self._standing: set[str] = set()

    async def run_once(self) -> int:
        """One round; returns the number of new alarms."""
        found = set(await self._built_in())
        for check in self._checks:
            found |= set(await check(self._deps))
        fresh = found - self._standing
        for alarm in sorted(fresh):
            log.error("reconciler.alarm_raised", service=self._deps.service, alarm=alarm)
        for alarm in sorted(self._standing - found):
            log.info("reconciler.alarm_cleared", service=self._deps.service, alarm=alarm)
        self._standing = found
        ALARMS.labels(self._deps.service).set(len(found))
        return len(fresh)

    async def _built_in(self) -> list[str]:
        deps, now = self._deps, self._deps.clock.now()
        async with deps.database.transaction() as tx:
            late = await outbox.unpublished(tx, older_than=now - timedelta(seconds=UNPUBLISHED_SECONDS_MAX))
            waiting = await outbox.unpublished(tx, older_than=now - timedelta(seconds=1))
            buried = await inbox.count_dead_letters(tx)
        OUTBOX_UNPUBLISHED.labels(deps.service).set(waiting)
        DEAD_LETTERS.labels(deps.service).set(buried)
        BUS_HEALTHY.labels(deps.service).set(self._bus.healthy)
        for loop in deps.loops.values():
            LOOP_FAILURES.labels(deps.service, loop.name).set(loop.failures)
            LOOP_AGE_SECONDS.labels(deps.service, loop.name).set(loop.age_seconds())
        alarms = [f"the loop {loop.name} has stopped making passes" for loop in deps.loops.values() if loop.stalled]
        if late and self._bus.healthy:
            alarms.append(f"events have waited for a healthy broker for more than {UNPUBLISHED_SECONDS_MAX:g} s")
        if not self._bus.healthy:
            present = deps.clock.monotonic()
            alarms += [
                f"no events arrive from {source}: the broker is away, and its feed cannot be read"
                for source, puller in deps.pullers.items()
                if puller.trouble_since_monotonic is not None
                and present - puller.trouble_since_monotonic > NO_ROAD_SECONDS_MAX
            ]
        return alarms


# --- readiness --------------------------------------------------------------------------------------------------------


def checks(deps: Deps, bus: Bus) -> Mapping[str, ReadinessCheck]:
    """The service's readiness: database and loops decide; bus, feeds and dead letters are shown."""

    async def database() -> str | Degraded | None:
        try:
            current = await migrate.is_current(deps.database, deps.service)
        except Unavailable as error:
            return error.detail
        return None if current else "the database lacks migrations of this version: run the deploy step"

    async def running() -> str | Degraded | None:
        if not any(loop.running for loop in deps.loops.values()):
            return "the loops are not started"
        stalled = sorted(loop.name for loop in deps.loops.values() if loop.stalled)
        return f"these loops make no passes: {', '.join(stalled)}" if stalled else None

    async def broker() -> str | Degraded | None:
        return None if bus.healthy else Degraded("the broker does not answer; events travel by the feeds")

    async def feeds() -> str | Degraded | None:
        troubles = [f"{source}: {p.trouble}" for source, p in deps.pullers.items() if p.trouble is not None]
        return Degraded("; ".join(troubles)) if troubles else None

    async def dead_letters() -> str | Degraded | None:
        if await database() is not None:
            return None  # that check says so; before the migrations there is no table to count in
        try:
            async with deps.database.transaction() as tx:
                count = await inbox.count_dead_letters(tx)
        except Unavailable:
            return None
        return Degraded(f"{count} messages could not be handled and wait for a person") if count else None

    return {"database": database, "loops": running, "bus": broker, "feeds": feeds, "dead_letters": dead_letters}
