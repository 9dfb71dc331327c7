"""Puts alerting together: its routes, its loops, and what it subscribes to."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter

from services.alerting import api, handlers
from services.alerting.confirming import say_again
from services.alerting.expiry import expiry_loop
from services.alerting.line_tests.handlers import unanswered_alarms
from services.alerting.line_tests.loop import line_tests_loop
from services.alerting.stream import News, news_loop
from shared.bus import Bus
from shared.clock import Clock
from shared.ids import Ids
from shared.keys import KeyRing
from shared.loops import Loop
from shared.process import Deps, Service, assemble
from shared.settings import Settings


def build(settings: Settings, *, clock: Clock, ids: Ids, bus: Bus, keys: KeyRing) -> Service:
    """The service, not yet started."""
    listeners: list[News] = []

    def news_of(deps: Deps) -> News:
        """One for routes and loops alike, whichever is built first."""
        if not listeners:
            listeners.append(News(deps.database))
        return listeners[0]

    def router(deps: Deps) -> APIRouter:
        return api.router(deps, news_of(deps))

    def loops(deps: Deps) -> Sequence[Loop]:
        return (expiry_loop(deps), line_tests_loop(deps), news_loop(news_of(deps), clock))

    return assemble(
        "alerting",
        settings,
        clock=clock,
        ids=ids,
        keys=keys,
        bus=bus,
        router=router,
        subscriptions=handlers.SUBSCRIPTIONS,
        loops=loops,
        reconcile=(say_again, unanswered_alarms),
    )
