"""Who answers at an instant: here at once where the rotas are ordinary, in the worker's process where they may not be.

A question to ordinary rotas takes less than a millisecond, and the way to the worker and back more than that, behind
plans that are being computed. What is ordinary is decided by a bound of the cost, never by trying.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta

from services.roster import store
from services.roster.domain import PartnerState
from services.roster.hand_overs.domain import LOOKED_BACK, CurrentChange
from services.roster.handlers import RosterDeps
from services.roster.schedule import ON_CALL_HORIZON_DAYS, Rota, Shift, steps_around
from services.roster.worker import compute, compute_changes, compute_on_call
from shared import holiday_calendars
from shared.process import Deps

STEPS_MAX = 4000
"""What this process does itself: some ten milliseconds at most, and below one for ordinary rotas."""

_DAYS_AROUND = 2 * ON_CALL_HORIZON_DAYS + 2
_DAYS_BACK = sum(LOOKED_BACK, timedelta()).days


async def find_answering(deps: RosterDeps, code: str, at: datetime) -> PartnerState | None:
    """What says who answers for a partner at an instant; None if there is no such partner."""
    async with deps.intake.statement() as tx:
        return await store.find_answering(tx, code, at=at)


async def who_answers(deps: RosterDeps, rotas: Sequence[Rota], at: datetime) -> list[Shift | None]:
    """Who is on call in each rota at an instant."""
    if steps(rotas, at, _DAYS_AROUND) <= STEPS_MAX:
        return compute_on_call(rotas, at)
    return await compute(deps.shifts, compute_on_call, rotas, at)


async def changes_at(deps: RosterDeps, rotas: Sequence[Rota], at: datetime) -> list[CurrentChange]:
    """The change that whoever is on call is in, for each rota that wants hand-overs signed and has one."""
    signing = [rota for rota in rotas if rota.signs_hand_over]
    if steps(signing, at, _DAYS_BACK) <= STEPS_MAX:
        return compute_changes(signing, at)
    return await compute(deps.shifts, compute_changes, signing, at)


def steps(rotas: Sequence[Rota], at: datetime, days: int) -> int:
    """What a question to all these rotas may cost."""
    return sum(steps_around(rota, at, days) for rota in rotas)


async def prepare(deps: Deps) -> None:
    """Has the table of countries read that the first question about a holiday would otherwise wait for."""
    await asyncio.to_thread(holiday_calendars.names, "CA", deps.clock.now().year)
