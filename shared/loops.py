"""Background loops: each takes no input, is woken early, and runs periodically anyway.

A loop reads what to do from the database alone, so the path after a crash is the everyday path. `run_once` returns how
much it did; a full batch runs again at once. An exception is answered by a growing pause: a loop never ends by itself.
One trouble is told once, however many loops share it and however often they try: `Troubles` keeps count.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from shared.clock import Clock
from shared.errors import Unavailable
from shared.log import get_logger

log = get_logger(__name__)

FAILURE_PAUSE_SECONDS_MAX = 5.0

STALLED_SECONDS = 30.0
"""A loop whose last finished pass is older than its interval and this is stalled."""


TROUBLE_REMINDER_SECONDS = 60.0
"""A trouble that lasts is told again after this long, then after twice that, and so on."""


@dataclass(slots=True)
class _Trouble:
    since_monotonic: float
    again_at_monotonic: float
    loops: set[str] = field(default_factory=set)
    failures: int = 0


class Troubles:
    """What is wrong with the loops that share this: a line when a trouble begins, one when it is over, and reminders
    in growing silence between. Loops that miss the same thing are in the same trouble.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._standing: dict[str, _Trouble] = {}

    def failed(self, loop: str, error: Exception) -> None:
        """A pass of the loop has failed."""
        missing = error.code if isinstance(error, Unavailable) else None
        present = self._clock.monotonic()
        name = missing or f"{loop}: {type(error).__name__}"
        trouble = self._standing.get(name)
        begins = trouble is None
        if trouble is None:
            trouble = self._standing[name] = _Trouble(present, present + TROUBLE_REMINDER_SECONDS)
        trouble.loops.add(loop)
        trouble.failures += 1
        if not begins:
            if present < trouble.again_at_monotonic:
                return
            trouble.again_at_monotonic = present + 2 * (present - trouble.since_monotonic)
        log.warning(
            "loop.failed",
            loop=loop,
            loops=len(trouble.loops),
            failures=trouble.failures,
            error=missing or type(error).__name__,
            seconds=round(present - trouble.since_monotonic, 1),
            # What does not answer is no bug and needs no trace.
            exc_info=error if missing is None else None,
        )

    def passed(self, loop: str) -> None:
        """A pass of the loop has succeeded: it is in no trouble any more."""
        for name, trouble in list(self._standing.items()):
            trouble.loops.discard(loop)
            if not trouble.loops:
                del self._standing[name]
                seconds = round(self._clock.monotonic() - trouble.since_monotonic, 1)
                log.info("loop.recovered", loop=loop, failures=trouble.failures, seconds=seconds)


class Loop:
    """Runs `run_once` when woken and every `interval_seconds`; `run_once` returns the number of things it did.

    An interval may be a question instead of a number: how long until the next row falls due. `again_when` is the count
    from which the next pass follows at once, because more work is likely to wait. A loop that is woken waits
    `linger_seconds` first: what nobody waits for leaves the processor to what somebody waits for, and comes in one go.
    """

    def __init__(
        self,
        name: str,
        run_once: Callable[[], Awaitable[int]],
        *,
        interval_seconds: float | Callable[[], Awaitable[float]],
        again_when: int = 1,
        linger_seconds: float = 0.0,
        clock: Clock,
    ) -> None:
        self.name = name
        self.run_once = run_once
        self.failures = 0
        self.passes = 0
        self.last_pass_monotonic: float | None = None
        self.troubles = Troubles(clock)
        self._interval_seconds = interval_seconds
        self._longest_seconds = 1.0 if callable(interval_seconds) else interval_seconds
        self._again_when = again_when
        self._linger_seconds = linger_seconds
        self._clock = clock
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._stopping = asyncio.Event()

    def wake(self) -> None:
        """Asks for a pass now. Cheap, and safe to call at any time, also before the start."""
        self._woken.set()

    def start(self) -> None:
        """Starts the periodic task on the running event loop."""
        self.last_pass_monotonic = self._clock.monotonic()
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._run(), name=f"loop:{self.name}")

    async def stop(self) -> None:
        """Ends the task; a pass that is under way is cancelled, and its rows stay for the next start."""
        if self._task is not None:
            # A library may take the cancellation for a failure of its own and go on: then the loop ends by itself.
            self._stopping.set()
            self._woken.set()
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._task is not None and not self._task.done()

    def age_seconds(self) -> float:
        """Seconds since the last finished pass, or since the start; 0 before the start."""
        return 0.0 if self.last_pass_monotonic is None else self._clock.monotonic() - self.last_pass_monotonic

    @property
    def stalled(self) -> bool:
        """Whether it was started and does not finish its passes any more."""
        return self._task is not None and (
            self._task.done() or self.age_seconds() > self._longest_seconds + STALLED_SECONDS
        )

    async def _run(self) -> None:
        while not self._stopping.is_set():
            self._woken.clear()
            try:
                done = await self.run_once()
                if self.failures:
                    self.troubles.passed(self.name)
                self.failures = 0
            except asyncio.CancelledError:
                raise
            except Exception as error:  # noqa: BLE001 - a loop never ends by itself; it is reported
                if self._stopping.is_set():
                    return
                self.failures += 1
                self.troubles.failed(self.name, error)
                await self._pause(min(FAILURE_PAUSE_SECONDS_MAX, 0.1 * 2 ** min(self.failures, 6)))
                continue
            self.passes += 1
            self.last_pass_monotonic = self._clock.monotonic()
            if done < self._again_when:
                await self._pause(await self._next_in_seconds())

    async def _next_in_seconds(self) -> float:
        if not callable(self._interval_seconds):
            return self._interval_seconds
        try:
            return await self._interval_seconds()
        except Unavailable:
            return 0.2
        except Exception as error:  # noqa: BLE001 - as above
            self.failures += 1
            self.troubles.failed(self.name, error)
            return self._longest_seconds

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        if self._linger_seconds:
            await self._clock.sleep(self._linger_seconds)


async def run_until_idle(loops: list[Loop], *, passes_max: int = 200) -> int:
    """Calls every loop's `run_once` until none of them finds anything to do; for tests and simulation."""
    total = 0
    for _ in range(passes_max):
        done = 0
        for loop in loops:
            done += await loop.run_once()
        total += done
        if done == 0:
            return total
    message = f"the loops {[loop.name for loop in loops]} were still busy after {passes_max} passes"
    raise RuntimeError(message)
