"""The loop of line tests: follows those that run, and begins those whose time has come.

It takes no input and runs every second, and is woken when an Actual alert is released, which stops the tests of those
whom it addresses. When tests are due is computed and never stored: a restart computes the same, and a time that passed
while nothing ran is put off to the next day.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from datetime import date, datetime
from itertools import islice
from zoneinfo import ZoneInfo

from services.alerting.line_tests import handlers, store
from services.alerting.line_tests.domain import Partner
from services.alerting.line_tests.handlers import Due, month_of, zone_of
from services.alerting.line_tests.plan import Planned, due_try, planned
from shared import holiday_calendars
from shared.log import get_logger
from shared.loops import Loop
from shared.process import Deps

log = get_logger(__name__)

INTERVAL_SECONDS = 1.0
LINGER_SECONDS = 0.1
"""After a release its own pages go first; many releases stop tests in one pass."""

PURPOSE = "redphone line tests 1"
"""The key that the times are drawn from serves nothing else."""

COMPUTED_AT_ONCE = 10
"""Months that one pass draws: some milliseconds each."""

BEGUN_AT_ONCE = 20


class LineTests:
    """One per process, any number of processes."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._secret = deps.keys.derived(PURPOSE)[0]
        self._drawn: dict[tuple[str, str, date], Planned | None] = {}

    async def run_once(self) -> int:
        """Follows what runs and begins what is due; returns how much that was."""
        deps = self._deps
        done = await handlers.follow(deps)
        if not deps.first_pull.is_set():
            # An Actual alert, or who takes part, may lie unread.
            return done
        now = deps.clock.now()
        async with deps.database.transaction() as tx:
            plan = await store.find_plan(tx)
            if not plan.enabled:
                return done
            partners = [partner for partner in await store.find_partners(tx) if partner.active]
        included = [partner for partner in partners if plan.includes(partner.code)]
        if missing := self._missing(included, now):
            # Never on the event loop, which releases alerts: a country's calendar is a module that is loaded once.
            drawn = await asyncio.to_thread(lambda: [(partner, self._draw_alone(*partner)) for partner in missing])
            for (code, zone, month), test in drawn:
                self._drawn = {known: other for known, other in self._drawn.items() if known[0] != code}
                self._drawn[code, zone.key, month] = test
        due = self._due(included, now)
        if not due:
            return done
        async with deps.database.transaction() as tx:
            had = await store.find_done(tx, {one.month for one in due})
        waiting = [one for one in due if (one.partner.code, one.month) not in had]
        for one in waiting[:BEGUN_AT_ONCE]:
            if await handlers.begin_planned(deps, one) is not None:
                done += 1
        return done

    def _missing(self, partners: Iterable[Partner], now: datetime) -> list[tuple[str, ZoneInfo, date]]:
        """What of this month is not drawn yet; more of it is drawn by the next passes."""
        zones = ((partner.code, zone) for partner in partners if (zone := zone_of(partner)) is not None)
        months = ((code, zone, month_of(now, zone)) for code, zone in zones)
        wanted = ((code, zone, month) for code, zone, month in months if (code, zone.key, month) not in self._drawn)
        return list(islice(wanted, COMPUTED_AT_ONCE))

    def _due(self, partners: Iterable[Partner], now: datetime) -> list[Due]:
        """Whose test of this month may begin now, as far as it is drawn."""
        found: list[Due] = []
        for partner in partners:
            zone = zone_of(partner)
            if zone is None:
                continue
            month = month_of(now, zone)
            test = self._drawn.get((partner.code, zone.key, month))
            if test is not None and due_try(test, now, zone) is not None:
                found.append(Due(partner, test, month))
        return found

    def _draw_alone(self, code: str, zone: ZoneInfo, month: date) -> Planned | None:
        """One partner's draw that fails takes the tests of no other with it."""
        try:
            return self._draw(code, zone, month)
        except Exception:
            log.exception("line_test.not_drawn", partner=code, month=month.isoformat())
            return None

    def _draw(self, code: str, zone: ZoneInfo, month: date) -> Planned:
        holidays = frozenset(holiday_calendars.names(code, month.year))
        return planned(code, month, self._secret, zone, holidays)


def line_tests_loop(deps: Deps) -> Loop:
    """The loop, not yet started."""
    return Loop(
        "line_tests",
        LineTests(deps).run_once,
        interval_seconds=INTERVAL_SECONDS,
        again_when=1_000_000,
        linger_seconds=LINGER_SECONDS,
        clock=deps.clock,
    )
