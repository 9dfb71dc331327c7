"""The second look at a page that started late: whoever waits for it gets an answer, whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, cast

import pytest

from services.escalation import store
from services.escalation.channels import NOT_BEGUN, Outgoing, SendResult
from services.escalation.delivery import Delivery
from services.escalation.leased import LEASE_SECONDS
from shared.db import raw
from tests.support.escalation_rig import Rig

ANSWERED_WITHIN_SECONDS = 5.0


def delivery_of(rig: Rig) -> Delivery:
    """The rig's delivery loop."""
    return cast("Delivery", cast("Any", rig.service.loops["delivery"].run_once).__self__)


async def lease_late(rig: Rig, *, seconds: float) -> None:
    """Leases what is due; the process is held up for `seconds` before its pages can start."""
    await rig.service.loops["delivery"].run_once()
    rig.clock.advance(seconds)


async def test_two_attempts_at_one_page_both_get_an_answer(rig: Rig) -> None:
    """A page whose lease lapses while its attempt waits for the second look is leased again; neither attempt hangs."""
    await rig.handle(rig.plan("GB"), twice=False)
    await rig.handle(rig.released("GB"), twice=False)
    delivery = delivery_of(rig)
    started: list[tuple[Any, ...]] = []
    start = delivery._start
    cast("Any", delivery)._start = lambda *leased: started.append(leased)
    await lease_late(rig, seconds=LEASE_SECONDS + 1)
    await lease_late(rig, seconds=1)
    assert len(started) == 4, "two pages, leased twice"
    for leased in started:
        start(*leased)
    async with asyncio.timeout(ANSWERED_WITHIN_SECONDS):
        await delivery.idle()
    assert {target for _type, target in rig.outlet.take()} == {"gb-1", "gb-system"}


async def test_a_second_look_that_fails_lets_the_pages_go(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever goes wrong while a page is looked at again, it is sent: not knowing is no reason for silence."""
    await rig.handle(rig.plan("GB"), twice=False)
    await rig.handle(rig.released("GB"), twice=False)

    async def broken(*_arguments: object) -> set[Any]:
        raise RuntimeError("a bug")

    monkeypatch.setattr(store, "find_still_leased", broken)
    await lease_late(rig, seconds=1)
    async with asyncio.timeout(ANSWERED_WITHIN_SECONDS):
        await delivery_of(rig).idle()
    assert {target for _type, target in rig.outlet.take()} == {"gb-1", "gb-system"}


async def not_begun(rig: Rig, monkeypatch: pytest.MonkeyPatch, then: Callable[[], Awaitable[None]]) -> list[Outgoing]:
    """Sends two pages through a channel that begins none of them at first; `then` happens in between."""
    await rig.handle(rig.plan("GB"), twice=False)
    await rig.handle(rig.released("GB"), twice=False)
    given: list[Outgoing] = []
    send = rig.outlet.send

    async def begin(page: Outgoing) -> SendResult:
        given.append(page)
        if len(given) > 2:
            return await send(page)
        await then()
        return NOT_BEGUN

    monkeypatch.setattr(rig.outlet, "send", begin)
    await lease_late(rig, seconds=0)
    async with asyncio.timeout(ANSWERED_WITHIN_SECONDS):
        await delivery_of(rig).idle()
    return given


async def test_a_page_that_its_channel_did_not_begin_is_given_to_it_again(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is looked at once more, and goes out whole, as the same attempt."""

    async def nothing() -> None:
        pass

    given = await not_begun(rig, monkeypatch, nothing)
    assert {page.page_id for page in given[:2]} == {page.page_id for page in given[2:]}
    assert {target for _type, target in rig.outlet.take()} == {"gb-1", "gb-system"}
    attempts = await rig.rows("SELECT number, state FROM attempts")
    assert [(row["number"], row["state"]) for row in attempts] == [(1, "delivered")] * 2


async def test_a_page_that_was_not_begun_and_is_no_longer_wanted_is_not_sent(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is rung who has answered while the page waited in its channel."""

    async def end() -> None:
        async with rig.deps.database.transaction() as tx:
            await (await raw(tx)).execute("UPDATE pages SET state = 'ended'")

    given = await not_begun(rig, monkeypatch, end)
    assert len(given) == 2
    assert rig.outlet.take() == []
    assert {row["reason"] for row in await rig.rows("SELECT reason FROM attempts")} == {store.NOT_SENT}
