"""Builds the console from its parts. Tests, the runner and production all use this."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import httpx

from services.console import routes
from services.console.apis import Apis
from services.console.live import Hub
from services.console.sessions import Sessions
from services.console.web import Face
from shared.bus import Bus
from shared.clock import Clock
from shared.ids import Ids
from shared.keys import KeyRing
from shared.loops import Loop
from shared.process import Deps, Service, assemble
from shared.settings import Settings

CONNECTIONS = (2, 3)
"""Sessions are all that is asked of the database."""
CLEAN_SECONDS = 3600.0


def build(settings: Settings, *, clock: Clock, ids: Ids, keys: KeyRing, bus: Bus) -> Service:
    """The console, ready to start. In a process of its own the settings say where the three APIs are."""
    parts: dict[str, Any] = {}

    def router(deps: Deps) -> Any:
        sessions = Sessions(deps)
        apis = Apis(settings, sessions)
        parts.update(sessions=sessions, apis=apis, hub=Hub(apis, clock))
        return routes.router(Face(deps, sessions, apis), parts["hub"])

    def loops(deps: Deps) -> Sequence[Loop]:
        async def clean() -> int:
            await parts["sessions"].clean()
            return 0

        return (Loop("sessions", clean, interval_seconds=CLEAN_SECONDS, clock=deps.clock),)

    async def close() -> None:
        await parts["hub"].close()
        await parts["apis"].close()

    service = assemble(
        "console",
        settings,
        clock=clock,
        ids=ids,
        keys=keys.without_opening(),
        bus=bus,
        router=router,
        subscriptions={},
        loops=loops,
        on_stop=(close,),
        connections=CONNECTIONS,
    )

    def call_here(transport: httpx.AsyncBaseTransport, names: Sequence[str]) -> None:
        parts["apis"].call_here(transport, names)

    # It publishes nothing, so it has no feed.
    return replace(service, routes=service.routes[:1], on_hosted=call_here)
