"""The sign of life that somebody outside waits for: when it stops, the administrator is alarmed by somebody else.

The cast: a `Heartbeat`, which asks an outside address every minute; `trouble_of`, which says why it must not.

The promise: it speaks only while Red Phone can do its work: the database answers, the loops that page people and raise
levels have made a pass lately, and no escalation is overdue. Everything that it does not know is silence: a watchdog
that is told "well" by a process which no longer pages anybody would be worse than none.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import httpx
from pydantic import SecretStr

from shared.errors import Unavailable
from shared.log import get_logger
from shared.process import Deps

log = get_logger(__name__)

BEAT_SECONDS = 60.0
TOTAL_SECONDS = 10.0
VITAL_LOOPS = ("timers", "delivery", "recorder", "coverage", "relay")
"""What pages people, raises levels, and tells the other services."""


async def trouble_of(deps: Deps, overdue: Callable[[Deps], Awaitable[list[str]]]) -> str | None:
    """Why this process cannot be called well, in one sentence; None while it can.

    `overdue` names what is late although somebody should have acted on it.
    """
    stuck = sorted(name for name in VITAL_LOOPS if not deps.loops[name].running or deps.loops[name].stalled)
    if stuck:
        return f"these loops make no passes: {', '.join(stuck)}"
    try:
        late = await overdue(deps)
    except Unavailable as error:
        return error.detail
    return late[0] if late else None


class Heartbeat:
    """Asks `url` for as long as all is well. Whoever watches there alarms when nothing comes any more.

    The address is the administrator's own, so it may lie in a network of theirs. It holds a secret: whoever knows it
    can keep the alarm silent. No proxy from the environment is used, and no redirect is followed.
    """

    def __init__(
        self,
        deps: Deps,
        url: SecretStr,
        overdue: Callable[[Deps], Awaitable[list[str]]],
        *,
        total_seconds: float = TOTAL_SECONDS,
    ) -> None:
        self._deps = deps
        self._url = url
        self._overdue = overdue
        self._http = httpx.AsyncClient(timeout=total_seconds, trust_env=False, follow_redirects=False)
        self._silent_because: str | None = None
        self._unheard_because: str | None = None

    async def run_once(self) -> int:
        """One beat, or none."""
        because = await trouble_of(self._deps, self._overdue)
        if because != self._silent_because:
            self._silent_because = because
            if because is not None:
                log.warning("heartbeat.withheld", because=because)
        if because is not None:
            return 0
        unheard = await self._beat()
        if unheard != self._unheard_because:
            self._unheard_because = unheard
            if unheard is not None:
                log.warning("heartbeat.unheard", because=unheard)
        # Never a full batch: the next beat comes by the clock.
        return 0

    async def close(self) -> None:
        """Ends the connection."""
        await self._http.aclose()

    async def _beat(self) -> str | None:
        """Why the beat was not heard, or None. Never repeats the address."""
        try:
            answer = await self._http.get(self._url.get_secret_value())
        except (httpx.HTTPError, OSError) as error:
            return type(error).__name__
        return None if answer.is_success else f"HTTP {answer.status_code}"
