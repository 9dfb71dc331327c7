"""Builds roster from its parts. Tests, the runner and production all use this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from importlib.metadata import version
from typing import Any, cast

from services.roster import answering, api, handlers
from services.roster.calendars.fetching import CalendarFetcher
from services.roster.calendars.refreshing import calendars_loop
from services.roster.call_tree.renewal import call_tree_troubles, call_trees_loop
from services.roster.handlers import RosterDeps
from services.roster.plans import plan_troubles, plans_loop
from services.roster.readiness.proving import readiness_loop, readiness_troubles
from services.roster.shift_notifying import shift_notices_loop
from services.roster.swaps.expiry import swaps_loop
from services.roster.worker import Worker
from shared.bus import Bus
from shared.clock import Clock
from shared.egress import policy_of
from shared.ids import Ids
from shared.keys import KeyRing
from shared.loops import Loop
from shared.process import Deps, Handler, Service, assemble
from shared.settings import Settings

SHIFT_PROCESSES = 2
"""So that two groups of duty plans are computed at once, and a question does not wait for the plan of another."""


def build(
    settings: Settings,
    *,
    clock: Clock,
    ids: Ids,
    keys: KeyRing,
    bus: Bus,
    files: Worker | None = None,
    shifts: Worker | None = None,
    calendars: CalendarFetcher | None = None,
) -> Service:
    """The service, ready to start. Workers that are given are not stopped with it: tests share theirs.

    Of the sealing keys only the public halves stay: what roster has sealed it cannot open.
    """
    file_worker, shift_worker = files or Worker(), shifts or Worker(SHIFT_PROCESSES)
    fetcher = calendars or CalendarFetcher(
        policy=policy_of(settings), monotonic=clock.monotonic, version=version("redphone")
    )

    def extend(deps: Deps) -> Deps:
        shared: dict[str, Any] = {field.name: getattr(deps, field.name) for field in fields(deps)}
        return RosterDeps(**shared, files=file_worker, shifts=shift_worker, calendars=fetcher)

    def loops(deps: Deps) -> Sequence[Loop]:
        roster = cast("RosterDeps", deps)
        return (
            plans_loop(roster),
            swaps_loop(roster),
            calendars_loop(roster),
            call_trees_loop(roster),
            readiness_loop(roster),
            shift_notices_loop(roster),
        )

    async def stop() -> None:
        await fetcher.close()
        if files is None:
            await file_worker.stop()
        if shifts is None:
            await shift_worker.stop()

    return assemble(
        "roster",
        settings,
        clock=clock,
        ids=ids,
        keys=keys.without_opening(),
        bus=bus,
        router=lambda deps: api.router(cast("RosterDeps", deps)),
        subscriptions=cast("Mapping[Any, Handler]", handlers.SUBSCRIPTIONS),
        loops=loops,
        reconcile=(plan_troubles, call_tree_troubles, readiness_troubles),
        on_start=(answering.prepare,),
        on_stop=(stop,),
        extend=extend,
    )
