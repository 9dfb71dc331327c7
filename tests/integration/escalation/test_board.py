"""The board: what is open, what changed, and how old what one sees is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast
from uuid import UUID

import orjson
import pytest

from services.escalation import answers
from services.escalation.board import AS_OF_SECONDS, BoardNews, follow_board, read_board
from shared.contracts import CoverageGoal, Role
from shared.db import Transaction
from shared.errors import Unavailable
from shared.events import Cause
from shared.problems import HttpProblem
from shared.security import Principal
from shared.streams import StreamEvent
from tests.support.escalation_rig import Rig, person

WATCHER = person("CA", Role.RELEASER)


async def released(rig: Rig, *to: str) -> Any:
    """An alert of Canada to these partners, paged."""
    for code in to:
        await rig.handle(rig.plan(code))
    alert = rig.released(*to)
    await rig.handle(alert)
    await rig.settle()
    return alert


class Watching:
    """An open board: takes one event after the other, and moves its clock when told."""

    def __init__(self, rig: Rig, source: AsyncIterator[StreamEvent], news: BoardNews) -> None:
        self.rig = rig
        self.source = source
        self.news = news

    async def next(self) -> StreamEvent:
        """The next event; fails if none comes."""
        return await asyncio.wait_for(anext(self.source), timeout=10)

    async def after(self, seconds: float) -> StreamEvent:
        """The next event, when so much time has passed and the loop has looked for news."""
        self.rig.clock.advance(seconds)
        waiting = asyncio.ensure_future(anext(self.source))
        for _ in range(200):
            if waiting.done():
                break
            await self.news.run_once()
            await asyncio.wait({waiting}, timeout=0.05)
        return await asyncio.wait_for(waiting, timeout=10)


@asynccontextmanager
async def watch(rig: Rig, principal: Principal = WATCHER, resume: str | None = None) -> AsyncIterator[Watching]:
    """Opens a board."""
    news = cast("BoardNews", cast("Any", rig.service.loops["board"].run_once).__self__)
    source = follow_board(rig.deps, principal, news, resume)
    try:
        yield Watching(rig, source, news)
    finally:
        await source.aclose()  # type: ignore[attr-defined]
        assert news.listeners == 0


def cells(event: StreamEvent) -> dict[str, str]:
    """The states in a `cells` event by partner."""
    return {cell["partner"]: cell["state"] for cell in orjson.loads(event.data)}


async def test_the_board_comes_whole_then_what_changed(rig: Rig) -> None:
    """First everything the caller may see; then the cells that changed and the age of it all."""
    await released(rig, "GB", "US")
    async with watch(rig) as board:
        whole = await board.next()
        assert whole.event == "board"
        assert {cell["partner"] for cell in orjson.loads(whole.data)["escalations"]} == {"GB", "US"}
        rig.clock.advance(10)
        row = await rig.escalation("GB")
        cause = Cause(correlation_id=rig.ids.new())
        await answers.acknowledge(rig.deps, person("GB"), row["id"], contact_id=None, via="api", cause=cause)
        await rig.settle()
        changed = await board.after(0.1)
        assert changed.event == "cells"
        assert cells(changed) == {"GB": "acknowledged"}
        assert (await board.next()).event == "as_of"


async def test_a_board_tells_how_its_coverage_goals_stand(rig: Rig) -> None:
    """The whole brings every goal; when an answer changes the count, the goals come again beside the cell."""
    for code in ("GB", "US"):
        await rig.handle(rig.plan(code))
    await rig.handle(rig.released("GB", "US", coverage_goal=CoverageGoal(partners=1, within_seconds=300)))
    await rig.settle()
    async with watch(rig) as board:
        whole = orjson.loads((await board.next()).data)
        assert [(goal["state"], goal["acknowledged"]) for goal in whole["coverage"]] == [("open", 0)]
        rig.clock.advance(10)
        row = await rig.escalation("GB")
        cause = Cause(correlation_id=rig.ids.new())
        await answers.acknowledge(rig.deps, person("GB"), row["id"], contact_id=None, via="api", cause=cause)
        await rig.settle()
        assert (await board.after(0.1)).event == "cells"
        goals = await board.next()
        assert goals.event == "coverage"
        assert [(goal["state"], goal["acknowledged"]) for goal in orjson.loads(goals.data)] == [("met", 1)]


async def test_a_quiet_board_says_every_two_seconds_how_old_it_is(rig: Rig) -> None:
    """Nothing happens, and the stream still speaks: what is cut looks different from what is quiet."""
    async with watch(rig) as board:
        await board.next()
        ages = [await board.after(AS_OF_SECONDS) for _ in range(3)]
        assert [event.event for event in ages] == ["as_of"] * 3
        stamps = [orjson.loads(event.data)["as_of"] for event in ages]
        assert stamps == ["2021-08-15T09:30:02Z", "2021-08-15T09:30:04Z", "2021-08-15T09:30:06Z"]


async def test_while_the_database_is_away_the_board_says_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """No `as_of` without data: the screen sees its data age and says STALE. When the database is back it goes on."""
    async with watch(rig) as board:
        await board.next()
        refused = asyncio.Event()
        transaction = type(rig.deps.intake).transaction

        def away(_self: Any) -> AbstractAsyncContextManager[Transaction]:
            refused.set()
            raise Unavailable("the database does not answer")

        with monkeypatch.context() as patch:
            patch.setattr(type(rig.deps.intake), "transaction", away)
            rig.clock.advance(AS_OF_SECONDS)
            waiting = asyncio.ensure_future(anext(board.source))
            await asyncio.wait_for(refused.wait(), timeout=10)
            done, _ = await asyncio.wait({waiting}, timeout=0.05)
            assert not done
            patch.setattr(type(rig.deps.intake), "transaction", transaction)
            assert (await asyncio.wait_for(waiting, timeout=10)).event == "as_of"


async def test_a_board_resumes_from_its_last_event(rig: Rig) -> None:
    """Whoever was cut off gets what changed since, not everything again."""
    await released(rig, "GB", "US")
    rig.clock.advance(60)
    async with watch(rig) as board:
        last = (await board.next()).id
    rig.clock.advance(30)
    row = await rig.escalation("US")
    cause = Cause(correlation_id=rig.ids.new())
    await answers.acknowledge(rig.deps, person("US"), row["id"], contact_id=None, via="api", cause=cause)
    async with watch(rig, resume=last) as board:
        assert cells(await board.after(0.1)) == {"US": "acknowledged"}


@pytest.mark.parametrize("resume", ["1", "999999999999999"])
async def test_a_resume_that_is_too_old_or_not_yet_begins_anew(rig: Rig, resume: str) -> None:
    """Nobody is sent the history of all alerts, and no instant is too far away to be read."""
    await released(rig, "GB")
    async with watch(rig, resume=resume) as board:
        assert (await board.next()).event == "board"


@pytest.mark.parametrize("resume", ["abc", "-1", "1e9", "²", "9" * 16])
async def test_an_id_that_the_stream_never_sent_is_refused_at_once(rig: Rig, resume: str) -> None:
    """Before the stream begins, so that the caller gets a problem and not a broken stream."""
    with pytest.raises(HttpProblem) as caught:
        follow_board(rig.deps, WATCHER, cast("BoardNews", None), resume)
    assert caught.value.code == "cursor_invalid"


async def test_ended_alerts_stay_for_an_hour(rig: Rig) -> None:
    """What has just ended can still be seen; an hour later the board shows what is open."""
    alert = await released(rig, "GB")
    await rig.handle(rig.ended(alert))
    assert [cell.state for cell in (await read_board(rig.deps, WATCHER)).escalations] == ["ended"]
    rig.clock.advance(3601)
    assert (await read_board(rig.deps, WATCHER)).escalations == []


async def test_everybody_sees_their_own_board(rig: Rig) -> None:
    """An addressed partner sees its own cell, the secretariat all, somebody else none."""
    await released(rig, "GB", "US")
    shown = []
    for principal in (person("GB"), person("XR", Role.SECRETARIAT), person("ES"), person("GB", Role.AUDITOR)):
        board = await read_board(rig.deps, principal)
        shown.append({cell.partner for cell in board.escalations})
        assert board.as_of == rig.clock.now()
    assert shown == [{"GB"}, {"GB", "US"}, set(), set()]


async def test_a_cell_has_what_an_operator_needs(rig: Rig) -> None:
    """Level, what comes next and when, and the last attempt with its reason."""
    await released(rig, "GB")
    (cell,) = (await read_board(rig.deps, WATCHER)).escalations
    assert (cell.level, cell.levels, cell.next_due) == (1, 2, "next_level")
    assert cell.next_due_at == cell.acknowledge_by
    assert cell.last_attempt is not None
    assert (cell.last_attempt.state, cell.last_attempt.reason) == ("delivered", "accepted")
    assert isinstance(cell.id, UUID)
