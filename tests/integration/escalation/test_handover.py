"""Pages that a transaction hands to the senders of its own process: sent at once, and no less safely."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from services.escalation import answers, delivery, store
from services.escalation.channels import Outgoing
from services.escalation.delivery import LEASE_SECONDS, RECHECK_SECONDS, SENDERS_MAX, Delivery, _Leased
from shared.events import Cause
from shared.loops import Loop
from tests.support.escalation_rig import Rig, person


@pytest.fixture(autouse=True)
def running(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the loops ran: otherwise nothing is handed over. None of their passes happens by itself."""
    monkeypatch.setattr(Loop, "running", property(lambda _loop: True))


def delivery_of(rig: Rig) -> Delivery:
    """The rig's delivery."""
    return cast("Delivery", cast("Any", rig.service.loops["delivery"].run_once).__self__)


async def sent(rig: Rig) -> list[str]:
    """Targets of everything that has left, once all of it has been tried."""
    await delivery_of(rig).idle()
    return sorted(target for _type, target in rig.outlet.take())


async def released(rig: Rig, *to: str) -> Any:
    """An alert to these partners, which have plans."""
    for code in to:
        await rig.handle(rig.plan(code), twice=False)
    alert = rig.released(*to)
    await rig.handle(alert)
    return alert


async def page_states(rig: Rig) -> list[str]:
    """The state of every page."""
    return [row["state"] for row in await rig.rows("SELECT state FROM pages ORDER BY id")]


async def test_what_a_release_opens_leaves_without_a_pass_of_the_loop(rig: Rig) -> None:
    """Each page leaves once, although the message came twice; its attempt was stored with it and is recorded."""
    await released(rig, "GB", "NL")
    assert await sent(rig) == ["gb-1", "gb-system", "nl-1", "nl-system"]
    assert await page_states(rig) == ["done"] * 4
    rows = await rig.rows("SELECT number, state FROM attempts")
    assert [(row["number"], row["state"]) for row in rows] == [(1, "delivered")] * 4
    assert delivery_of(rig).free == SENDERS_MAX


async def test_a_process_that_dies_after_the_commit_leaves_a_lease_that_lapses(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was handed over and never started is sent by whoever looks for lapsed leases, as the second attempt."""

    async def nothing() -> None:
        """The process is gone."""

    with monkeypatch.context() as dying:
        dying.setattr(Delivery, "start_all", lambda *_arguments: asyncio.create_task(nothing()))
        await released(rig, "GB")
    assert await sent(rig) == []
    assert await page_states(rig) == ["leased"] * 2
    rig.clock.advance(LEASE_SECONDS)
    await rig.service.loops["delivery"].run_once()
    assert await sent(rig) == ["gb-1", "gb-system"]
    rows = await rig.rows("SELECT number, state FROM attempts ORDER BY number")
    assert [(row["number"], row["state"]) for row in rows] == [(1, "expired")] * 2 + [(2, "delivered")] * 2


async def test_first_and_second_attempt_say_the_same(rig: Rig) -> None:
    """What was rendered from the event and what is rendered from the database are the same bytes."""
    await released(rig, "GB")
    await delivery_of(rig).idle()
    first = {page.page_id: page.body for page in rig.outlet.sent}
    delivery_of(rig)._alerts.clear()
    async with rig.deps.database.transaction() as tx:
        rows = await rig.rows("SELECT * FROM pages")
        parts = await delivery_of(rig).parts_of(tx, {row["alert_id"] for row in rows})
    second = {
        row["id"]: delivery_of(rig)._outgoing(_Leased(row, parts[row["alert_id"]]), rig.clock.now()).body
        for row in rows
    }
    assert first == second


async def test_nothing_leaves_of_a_transaction_that_failed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """No page exists and none is sent; the senders that were kept for them are free again."""
    await rig.handle(rig.plan("GB"), twice=False)

    async def broken(*_arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(store, "insert_events", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        await rig.handle(rig.released("GB"), twice=False)
    assert await sent(rig) == []
    assert await page_states(rig) == []
    assert delivery_of(rig).free == SENDERS_MAX


async def test_what_finds_no_free_sender_stays_due(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages beyond the number of senders are left to the loop, and leave with its passes."""
    monkeypatch.setattr(delivery, "SENDERS_MAX", 3)
    await released(rig, "GB", "NL")
    assert sorted(await page_states(rig)) == ["due", "leased", "leased", "leased"]
    assert len(await sent(rig)) == 3
    await rig.service.loops["delivery"].run_once()
    assert len(await sent(rig)) == 1
    assert await page_states(rig) == ["done"] * 4


async def test_an_acknowledgement_stops_what_still_waits_for_its_start(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page that waits for longer than the limit is looked at again first: nobody is rung who has just answered."""
    monkeypatch.setattr(delivery, "STARTED_AT_ONCE", 1)
    answered = asyncio.Event()

    async def answer(page: Outgoing) -> None:
        if answered.is_set():
            return
        answered.set()
        other = "NL" if "gb" in page.target else "GB"
        row = await rig.escalation(other)
        cause = Cause(correlation_id=rig.ids.new())
        await answers.acknowledge(rig.deps, person(other), row["id"], contact_id=None, via="api", cause=cause)
        rig.clock.advance(RECHECK_SECONDS)
        acknowledged.append(other.lower())

    acknowledged: list[str] = []
    rig.outlet.on_send = answer
    await rig.handle(rig.plan("GB"), twice=False)
    await rig.handle(rig.plan("NL"), twice=False)
    hold = asyncio.Event()
    find = Delivery._find_wanted

    async def find_when_answered(self: Delivery, page_ids: Any) -> set[Any]:
        hold.set()
        return await find(self, page_ids)

    monkeypatch.setattr(Delivery, "_find_wanted", find_when_answered)
    sleep = rig.clock.sleep

    async def until_answered(seconds: float) -> None:
        await sleep(seconds)
        if answered.is_set() and not acknowledged:
            async with asyncio.timeout(5):
                while not acknowledged:
                    await sleep(0)

    monkeypatch.setattr(rig.clock, "sleep", until_answered)
    await rig.handle(rig.released("GB", "NL"), twice=False)
    left = await sent(rig)
    assert hold.is_set()
    assert acknowledged
    assert f"{acknowledged[0]}-1" not in left
    assert delivery_of(rig).free == SENDERS_MAX


async def test_the_pages_of_a_deadline_are_handed_over_too(rig: Rig) -> None:
    """A level that is raised pages its people without a pass of the delivery loop."""
    await released(rig, "GB")
    await sent(rig)
    [row] = await rig.rows("SELECT due_at FROM escalations")
    rig.clock.advance((row["due_at"] - rig.clock.now()).total_seconds())
    assert await rig.service.loops["timers"].run_once() == 1
    assert await sent(rig)
