"""The second look at a page that started late: whoever waits for it gets an answer, whatever happens."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from services.escalation import store
from services.escalation.delivery import LEASE_SECONDS, Delivery
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
