"""Many alerts at once: one message to each person that lists them all, and none of them is dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio

from services.escalation import answers, delivery, store
from services.escalation.answering import links
from services.escalation.answering.replies import answer_code
from services.escalation.channels import AttemptState, Cost, ProviderStatus, Reason, SendResult
from services.escalation.delivery import GATHER_SECONDS, PER_POINT_MAX, Delivery
from services.escalation.people.texts import Act
from services.escalation.receipts import note_status
from shared.contracts import ChannelName, Precedence, Status
from shared.db import raw
from shared.events import Cause
from shared.ids import derived
from tests.integration.escalation.test_people import URL, page_rows, plan, somebody
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Rig, escalation_rig, person

NUMBER = "+447700900101"


@pytest_asyncio.fixture
async def rig(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Rig]:
    """One person of Great Britain, reached by SMS."""
    async with escalation_rig(cluster, tmp_path, people=("sms",), public_url=URL) as built:
        await built.handle(plan(built, [somebody(built, 1, built.point(NUMBER, ChannelName.SMS))], office=None))
        yield built


def alert(rig: Rig, number: int, precedence: Precedence = Precedence.FLASH, **changes: Any) -> Any:
    """Alert `number` to Great Britain."""
    alert_id = derived("alert", str(number))
    named = {"alert_id": alert_id, "root_alert_id": alert_id, "reference": f"RP-CA-2021-{number:04}"}
    return rig.released("GB", precedence=precedence, **{**named, **changes})


def sent(rig: Rig) -> list[Any]:
    """The messages that have left since the last call."""
    messages = [page.message for page in rig.outlets["sms"].sent]
    rig.outlets["sms"].sent.clear()
    return messages


async def test_alerts_at_the_same_time_leave_as_one_message(rig: Rig) -> None:
    """Twelve alerts at once ring once; the message names each of them, and each has an attempt of its own."""
    for number in range(12):
        await rig.handle(alert(rig, number))
    await rig.settle()
    [message] = sent(rig)
    assert all(f"RP-CA-2021-{number:04}" in message.text for number in range(12))
    pages = await page_rows(rig, "sms")
    assert [page["state"] for page in pages] == ["done"] * 12
    attempts = await rig.rows(
        "SELECT page_id, state, provider_id FROM attempts WHERE page_id = ANY($1)", [p["id"] for p in pages]
    )
    assert {attempt["page_id"] for attempt in attempts} == {page["id"] for page in pages}
    assert len({attempt["provider_id"] for attempt in attempts}) == 1


async def test_very_many_are_several_messages(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one message can hold are several, each with its own code, and none of the alerts is dropped."""
    monkeypatch.setattr(delivery, "GATHERED_MAX", 3)
    for number in range(7):
        await rig.handle(alert(rig, number))
    await rig.settle()
    messages = sent(rig)
    assert len(messages) == len({message.code for message in messages}) == 3
    told = [f"RP-CA-2021-{number:04}" for number in range(7)]
    assert [sum(reference in message.text for message in messages) for reference in told] == [1] * 7


async def test_code_of_the_message_is_that_of_one_page_for_all(rig: Rig) -> None:
    """Which page's link and code the message carries is stored with all its pages before it leaves."""
    stored: list[Any] = []

    async def look(_page: Any) -> None:
        stored.extend(await page_rows(rig, "sms"))

    rig.outlets["sms"].on_send = look
    for number in range(PER_POINT_MAX + 3):
        await rig.handle(alert(rig, number))
    await rig.settle()
    [page] = rig.outlets["sms"].sent
    assert page.message is not None
    assert page.message.code == links.code_of(rig.keys, page.page_id)
    assert {row["sent_with"] for row in stored} == {page.page_id}
    assert len(stored) == PER_POINT_MAX + 3


async def test_an_alert_that_meets_its_own_repeat_is_one_alert(rig: Rig) -> None:
    """What no provider took for ten minutes leaves together with its repeat, as one alert and not as two; the code
    answers it, and both pages are done.
    """
    rig.outlets["sms"].answers[NUMBER] = SendResult(AttemptState.FAILED, Reason.PROVIDER_BUSY, None, 429, None, 0.01)
    await rig.handle(alert(rig, 1))
    await rig.settle()
    await rig.forward(minutes=9, seconds=30)
    assert len(sent(rig)) > 1
    rig.outlets["sms"].answers.clear()
    rig.clock.advance(30)
    await rig.settle()
    [message] = sent(rig)
    assert message.subject == "FLASH from Canada: Kabul: evacuation before the airport closes"
    assert [page["state"] for page in await page_rows(rig, "sms")] == ["done"] * 2


async def test_most_urgent_leads(rig: Rig) -> None:
    """An Actual FLASH leads the message, before what is less urgent and before any drill."""
    drill = {"status": Status.EXERCISE, "note": "RED BELL"}
    for number, precedence, changes in (
        (1, Precedence.PRIORITY, {}),
        (2, Precedence.FLASH, drill),
        (3, Precedence.FLASH, {}),
    ):
        await rig.handle(alert(rig, number, precedence, **changes))
    await rig.settle()
    [message] = sent(rig)
    places = [message.text.index(f"RP-CA-2021-{number:04}") for number in (3, 1, 2)]
    assert places == sorted(places)
    assert not message.text.startswith("EXERCISE")


async def test_further_ones_gather_for_a_minute(rig: Rig) -> None:
    """After a message, further ones that are not FLASH gather and leave together a minute later."""
    await rig.handle(alert(rig, 1, Precedence.IMMEDIATE))
    await rig.settle()
    assert len(sent(rig)) == 1
    for number in (2, 3, 4):
        await rig.forward(seconds=10)
        await rig.handle(alert(rig, number, Precedence.IMMEDIATE))
        await rig.settle()
    assert sent(rig) == []
    await rig.forward(seconds=GATHER_SECONDS - 30)
    [message] = sent(rig)
    assert all(f"RP-CA-2021-{number:04}" in message.text for number in (2, 3, 4))


async def test_gathering_waits_for_nobody(rig: Rig) -> None:
    """Pages that an answer is just ending are left to it: gathering takes no lock that it would wait for."""
    for number in (1, 2, 3):
        await rig.handle(alert(rig, number, Precedence.IMMEDIATE))
        if number == 1:
            await rig.settle()
    held = {rig.point(NUMBER, ChannelName.SMS).id: rig.clock.now() + timedelta(seconds=GATHER_SECONDS)}
    flash = Precedence.FLASH.rank
    database = rig.deps.database
    async with database.transaction() as ending, database.transaction() as gathering:
        await (await raw(ending)).execute("SELECT FROM pages WHERE state = 'due' ORDER BY id LIMIT 1 FOR UPDATE")
        async with asyncio.timeout(5):
            await store.hold_pages(gathering, held, by_actual=held.keys(), unheld_precedence=flash, now=rig.clock.now())
    waiting = await rig.rows("SELECT due_at FROM pages WHERE state = 'due' AND channel = 'sms'")
    assert sorted(row["due_at"] > rig.clock.now() for row in waiting) == [False, True]


async def test_flash_is_never_held_back(rig: Rig) -> None:
    """However much was just sent to somebody, a FLASH alert rings at once."""
    await rig.handle(alert(rig, 1, Precedence.IMMEDIATE))
    await rig.settle()
    for number in range(2, 7):
        sent(rig)
        rig.clock.advance(1)
        await rig.handle(alert(rig, number))
        await rig.settle()
        [message] = sent(rig)
        assert f"RP-CA-2021-{number:04}" in message.text


@pytest.mark.parametrize("ends", [False, True], ids=["the drill runs", "the drill ends"])
async def test_no_drill_holds_an_actual_alert_back(rig: Rig, *, ends: bool) -> None:
    """Who has just been paged or told by a drill is paged at once by an Actual alert, whatever its precedence."""
    drill = alert(rig, 1, Precedence.IMMEDIATE, status=Status.EXERCISE, note="RED BELL")
    await rig.handle(drill)
    await rig.settle()
    assert len(sent(rig)) == 1
    rig.clock.advance(1)
    if ends:
        await rig.handle(rig.ended(drill))
        await rig.settle()
        assert len(sent(rig)) == 1
    for number in (2, 3):
        await rig.handle(alert(rig, number, Precedence.IMMEDIATE))
        await rig.settle()
    [message] = sent(rig)
    assert "RP-CA-2021-0002" in message.text
    await rig.forward(seconds=GATHER_SECONDS)
    assert any("RP-CA-2021-0003" in message.text for message in sent(rig))


async def test_a_drill_gathers_behind_an_actual_alert(rig: Rig) -> None:
    """Who has just been paged by an Actual alert is not disturbed by a drill before a minute has passed."""
    await rig.handle(alert(rig, 1, Precedence.IMMEDIATE))
    await rig.settle()
    sent(rig)
    await rig.handle(alert(rig, 2, Precedence.IMMEDIATE, status=Status.EXERCISE, note="RED BELL"))
    await rig.settle()
    assert sent(rig) == []
    await rig.forward(seconds=GATHER_SECONDS)
    assert any("RP-CA-2021-0002" in message.text for message in sent(rig))


async def test_answered_meanwhile_is_left_out(rig: Rig) -> None:
    """What was acknowledged while it gathered is not in the message, and its attempt does not exist."""
    for number in (1, 2, 3):
        await rig.handle(alert(rig, number, Precedence.IMMEDIATE))
        await rig.settle()
    sent(rig)
    rows = await rig.rows("SELECT id FROM escalations WHERE alert_id = $1", derived("alert", "2"))
    await answers.acknowledge(
        rig.deps, person("GB"), rows[0]["id"], contact_id=None, via="api", cause=Cause(rig.ids.new())
    )
    await rig.forward(seconds=GATHER_SECONDS)
    [message] = sent(rig)
    assert "RP-CA-2021-0003" in message.text
    assert "RP-CA-2021-0002" not in message.text


async def test_one_failure_tries_all_of_them_again(rig: Rig) -> None:
    """A message that the provider does not take is tried again with all its pages; none is lost on the way."""
    rig.outlets["sms"].answers[NUMBER] = SendResult(
        AttemptState.FAILED, Reason.PROVIDER_UNAVAILABLE, None, 503, None, 0.01, provider="sms provider"
    )
    for number in (1, 2):
        await rig.handle(alert(rig, number))
    await rig.settle()
    sent(rig)
    rig.outlets["sms"].answers.clear()
    await rig.forward(seconds=1)
    [message] = sent(rig)
    assert all(f"RP-CA-2021-{number:04}" in message.text for number in (1, 2))
    assert [page["state"] for page in await page_rows(rig, "sms")] == ["done", "done"]


async def test_lost_message_brings_all_its_pages_back(rig: Rig) -> None:
    """A gathered message that did not arrive makes every page in it due again; its cost is counted once."""
    for number in (1, 2, 3):
        await rig.handle(alert(rig, number))
    await rig.settle()
    page = rig.outlets["sms"].sent[0]
    lost = ProviderStatus(
        "sms provider",
        f"{page.page_id}.{page.attempt}",
        AttemptState.FAILED,
        Reason.NOT_DELIVERED,
        cost=Cost(Decimal("0.02"), "EUR"),
    )
    assert await note_status(rig.deps, lost, now=rig.clock.now())
    assert [row["state"] for row in await page_rows(rig, "sms")] == ["due"] * 3
    costs = await rig.rows("SELECT sum(cost_amount) AS cost, count(cost_amount) AS counted FROM attempts")
    assert (costs[0]["cost"], costs[0]["counted"]) == (Decimal("0.02"), 1)
    sent(rig)
    await rig.forward(seconds=60)
    [message] = sent(rig)
    assert all(f"RP-CA-2021-{number:04}" in message.text for number in (1, 2, 3))


async def test_endings_are_not_held_back(rig: Rig) -> None:
    """That an alert is over is told at once, whatever was just sent."""
    released = alert(rig, 1, Precedence.IMMEDIATE)
    await rig.handle(released)
    await rig.settle()
    sent(rig)
    await rig.handle(rig.ended(released))
    await rig.settle()
    [message] = sent(rig)
    assert message.code is None


async def test_code_of_the_message_answers_all_of_it(rig: Rig) -> None:
    """Whoever returns the code of a gathered message acknowledges every alert in it for their government."""
    for number in range(3):
        await rig.handle(alert(rig, number))
    await rig.settle()
    [page] = rig.outlets["sms"].sent
    code = links.code_of(rig.keys, page.page_id)
    await answer_code(rig.deps, page.page_id, code, Act.YES, via="sms", cause=Cause(rig.ids.new()))
    states = await rig.rows("SELECT state FROM escalations WHERE partner = 'GB'")
    assert [row["state"] for row in states] == ["acknowledged"] * 3


async def test_pages_that_were_answered_before_the_message_leave_no_open_attempt(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is answered between the lease and the message is left out of it, and its attempt says that it was not sent:
    nobody is told later that something is over which they never heard of.
    """
    for number in range(3):
        await rig.handle(alert(rig, number))
    rows = await rig.rows("SELECT id, alert_id FROM escalations WHERE partner = 'GB'")
    answered = next(row for row in rows if row["alert_id"] == derived("alert", "1"))
    sender = cast("Delivery", cast("Any", rig.service.loops["delivery"].run_once).__self__)
    held: list[tuple[Any, float]] = []
    start = sender._start
    monkeypatch.setattr(sender, "_start", lambda page, leased_at: held.append((page, leased_at)))
    await sender.run_once()
    monkeypatch.undo()
    await answers.acknowledge(
        rig.deps, person("GB"), answered["id"], contact_id=None, via="api", cause=Cause(rig.ids.new())
    )
    for page, leased_at in held:
        start(page, leased_at)
    await rig.settle()
    [message] = sent(rig)
    assert "RP-CA-2021-0001" not in message.text
    attempts = await rig.rows(
        "SELECT a.state, a.reason FROM attempts a JOIN pages p ON p.id = a.page_id WHERE p.escalation_id = $1",
        answered["id"],
    )
    assert [tuple(attempt) for attempt in attempts] == [("expired", "no_longer_wanted")]


async def test_a_correction_is_told_to_who_has_gone_off_duty(rig: Rig) -> None:
    """Person 1 was told by SMS and is off duty now: the correction reaches their telephone, without a code."""
    numbers = (NUMBER, "+447700900102")
    people = tuple(somebody(rig, n, rig.point(at, ChannelName.SMS)) for n, at in enumerate(numbers, start=1))

    async def on_duty(number: int) -> None:
        base = rig.plan("GB", levels=1, version=number + 1, contacts=people, office=None, endpoints=())
        [rota] = base.rotas
        shift = rota.shifts[0].model_copy(update={"contact_id": people[number - 1].id})
        await rig.handle(base.model_copy(update={"rotas": (rota.model_copy(update={"shifts": (shift,)}),)}))

    await on_duty(1)
    first = alert(rig, 1)
    await rig.handle(first)
    await rig.settle()
    [asked] = sent(rig)
    await on_duty(2)
    await rig.handle(rig.update_of(first))
    await rig.settle()
    told: dict[str, Any] = {page.target: page.message for page in rig.outlets["sms"].sent}
    assert set(told) == set(numbers)
    assert asked.code is not None
    assert told[NUMBER].code is None
    assert [row["state"] for row in await rig.rows("SELECT state FROM pages WHERE message_type = 'alert.updated'")] == [
        "done"
    ] * 2
