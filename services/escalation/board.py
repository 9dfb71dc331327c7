"""The board as a stream: the whole once, then what changed, and every two seconds the age of it all.

`as_of` is how an operator's screen knows that it is alive: a stream that only spoke when something happened would look
the same cut as quiet. One loop per process asks whether there is news; a hundred screens do not ask a hundred times.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta

import orjson

from services.escalation import reading
from services.escalation.coverage import store as coverage_store
from services.escalation.deps import EscalationDeps
from services.escalation.views import Board, CoverageView, coverage_view, escalation_view
from shared.contracts import SECRETARIAT
from shared.db import Transaction
from shared.errors import Unavailable
from shared.problems import HttpProblem
from shared.security import Principal
from shared.streams import StreamEvent
from shared.web import render_instant

AS_OF_SECONDS = 2.0
NEWS_SECONDS = 0.1
"""How often a process with an open board looks whether anything has happened; one short question."""
OVERLAP = timedelta(seconds=2)
"""Changes are looked for from a little before the last look: a transaction that began earlier may commit later."""

ENDED_SHOWN = timedelta(hours=1)
"""How long an alert that has ended stays on the board."""

DECIDED_SHOWN = timedelta(days=1)
"""How long a coverage goal that was met or missed stays on the board."""


RESUMABLE = ENDED_SHOWN
"""Who was away for longer, or names an instant that has not come, gets the whole board again."""


class BoardNews:
    """Tells open boards that something has been committed. Asks nothing while no board is open."""

    def __init__(self, deps: EscalationDeps) -> None:
        self._deps = deps
        self._condition = asyncio.Condition()
        self.newest = ""
        self.listeners = 0

    async def run_once(self) -> int:
        """One look; returns 1 if there was news."""
        if not self.listeners:
            return 0
        async with self._deps.database.transaction() as tx:
            newest = await reading.find_newest(tx)
        if newest == self.newest:
            return 0
        self.newest = newest
        async with self._condition:
            self._condition.notify_all()
        return 1

    async def wait(self, seen: str, seconds: float) -> None:
        """Returns when there is news beyond `seen`, at the latest after `seconds`."""
        try:
            async with asyncio.timeout(seconds), self._condition:
                await self._condition.wait_for(lambda: self.newest != seen)
        except TimeoutError:
            return


async def read_board(deps: EscalationDeps, principal: Principal) -> Board:
    """Everything that the caller may see of the alerts that are open, or ended within the last hour."""
    now = deps.clock.now()
    wanted = reading.Wanted(open_alerts_only=True, ended_since=now - ENDED_SHOWN)
    async with deps.intake.transaction() as tx:
        rows = await reading.find_cells(tx, principal, wanted)
        goals = await _find_goals(tx, principal, now)
    return Board(as_of=now, escalations=[escalation_view(row, principal) for row in rows], coverage=goals)


async def _find_goals(tx: Transaction, principal: Principal, now: datetime) -> list[CoverageView]:
    """How the caller's own coverage goals stand; the secretariat sees everybody's."""
    if not reading.sees_escalations(principal):
        return []
    raiser = None if principal.is_service or principal.partner == SECRETARIAT else principal.partner
    return [coverage_view(row) for row in await coverage_store.find_shown(tx, raiser, now - DECIDED_SHOWN)]


def follow_board(
    deps: EscalationDeps, principal: Principal, news: BoardNews, last_event_id: str | None
) -> AsyncIterator[StreamEvent]:
    """Events `board` (the whole, first), `cells` and `coverage` (what changed) and `as_of`, with ids to resume from.

    Raises a problem at once for an id that this stream cannot have sent.
    """
    return _follow(deps, principal, news, _instant_of(last_event_id))


async def _follow(
    deps: EscalationDeps, principal: Principal, news: BoardNews, since: datetime | None
) -> AsyncIterator[StreamEvent]:
    seen, spoke_at = news.newest, deps.clock.monotonic()
    shown: dict[str, str] = {}
    goals = "[]"
    if since is None or not RESUMABLE > deps.clock.now() - since >= -OVERLAP:
        board = await read_board(deps, principal)
        since = board.as_of
        shown = {str(cell.id): cell.model_dump_json() for cell in board.escalations}
        goals = _json_of(board.coverage)
        whole = {
            "as_of": render_instant(since),
            "escalations": list(map(orjson.Fragment, shown.values())),
            "coverage": orjson.Fragment(goals),
        }
        yield StreamEvent(orjson.dumps(whole).decode(), event="board", id=_id_of(since))
    news.listeners += 1
    try:
        while True:
            await news.wait(seen, max(0.0, spoke_at + AS_OF_SECONDS - deps.clock.monotonic()))
            seen, now = news.newest, deps.clock.now()
            try:
                cells, goals_now = await _changed(deps, principal, since - OVERLAP, shown)
            except Unavailable:
                # No `as_of` while the database is away: the screen sees its data age, and says STALE.
                await deps.clock.sleep(NEWS_SECONDS)
                continue
            since = now
            if cells:
                payload = orjson.dumps([orjson.Fragment(cell) for cell in cells]).decode()
                yield StreamEvent(payload, event="cells", id=_id_of(now))
            if goals_now != goals:
                goals = goals_now
                yield StreamEvent(goals, event="coverage", id=_id_of(now))
            if cells or deps.clock.monotonic() - spoke_at >= AS_OF_SECONDS:
                spoke_at = deps.clock.monotonic()
                yield StreamEvent(orjson.dumps({"as_of": render_instant(now)}).decode(), event="as_of", id=_id_of(now))
    finally:
        news.listeners -= 1


async def _changed(
    deps: EscalationDeps, principal: Principal, since: datetime, shown: dict[str, str]
) -> tuple[list[str], str]:
    """The cells that are news, and all coverage goals as they stand."""
    async with deps.intake.transaction() as tx:
        rows = await reading.find_cells(tx, principal, reading.Wanted(changed_since=since))
        goals = _json_of(await _find_goals(tx, principal, deps.clock.now()))
    texts = {str(row["id"]): escalation_view(row, principal).model_dump_json() for row in rows}
    fresh = [text for cell, text in texts.items() if shown.get(cell) != text]
    shown.clear()
    shown.update(texts)
    return fresh, goals


def _json_of(goals: Sequence[CoverageView]) -> str:
    return orjson.dumps([orjson.Fragment(goal.model_dump_json()) for goal in goals]).decode()


_LATEST = datetime(9999, 1, 1, tzinfo=UTC).timestamp()


def _id_of(at: datetime) -> str:
    return str(int(at.timestamp() * 1000))


def _instant_of(event_id: str | None) -> datetime | None:
    if event_id is None:
        return None
    if not (event_id.isascii() and event_id.isdigit()) or len(event_id) > 15:
        raise HttpProblem("Last-Event-ID must be an id that this stream has sent", code="cursor_invalid")
    return datetime.fromtimestamp(min(int(event_id) / 1000, _LATEST), tz=UTC)
