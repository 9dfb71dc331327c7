"""Pages that a transaction hands to the senders of its own process: sent at once, and no less safely."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import httpx
import orjson
import pytest

from services.escalation import answers, delivery, handed, store
from services.escalation.answering import links
from services.escalation.channels import Outgoing
from services.escalation.delivery import RECHECK_SECONDS, SENDERS_MAX, Delivery
from services.escalation.directories import Directories
from services.escalation.handlers.alerts import on_alert_released
from services.escalation.handlers.rosters import LEFT_BEHIND_SECONDS
from services.escalation.leased import LEASE_SECONDS, Leased
from services.escalation.store.heads import OPENING_SECONDS_MAX, OPENING_WAITED_FOR_SECONDS
from shared.contracts import AlertReleased, PartnerChanged, Standing
from shared.db import Database
from shared.errors import Unavailable
from shared.events import Cause, Message
from shared.loops import Loop
from tests.support.escalation_rig import Rig, calling, message, person, publish_credentials
from tests.support.waiting import eventually


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


async def test_the_first_pages_leave_before_they_are_stored(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is committed by then is that they will be; then the rows are those of what has left."""
    had_left: list[int] = []
    save = store.save_release

    async def counted(*arguments: Any) -> None:
        had_left.append(len(rig.outlet.sent))
        await save(*arguments)

    monkeypatch.setattr(store, "save_release", counted)
    await released(rig, "GB", "NL")
    assert had_left == [4]
    await delivery_of(rig).idle()
    rows = await rig.rows("SELECT id FROM pages")
    assert {row["id"] for row in rows} == {page.page_id for page in rig.outlet.sent}
    assert await rig.rows("SELECT FROM alert_heads WHERE opening_id IS NOT NULL OR opening_at IS NOT NULL") == []


async def test_a_process_that_dies_after_the_commit_leaves_a_lease_that_lapses(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was handed over and never started is sent by whoever looks for lapsed leases, as the second attempt."""

    def nothing(*_arguments: object) -> list[asyncio.Task[None]]:
        """The process is gone."""
        return []

    with monkeypatch.context() as dying:
        dying.setattr(Delivery, "start_promised", nothing)
        await released(rig, "GB")
    assert await sent(rig) == []
    assert await page_states(rig) == ["leased"] * 2
    rig.clock.advance(LEASE_SECONDS)
    await rig.service.loops["delivery"].run_once()
    assert await sent(rig) == ["gb-1", "gb-system"]
    rows = await rig.rows("SELECT number, state FROM attempts ORDER BY number")
    assert [(row["number"], row["state"]) for row in rows] == [(1, "expired")] * 2 + [(2, "delivered")] * 2


async def fail_once(rig: Rig, monkeypatch: pytest.MonkeyPatch, *to: str) -> Message[AlertReleased]:
    """A release whose pages have left, and whose transaction fails."""

    async def broken(*_arguments: object) -> None:
        raise RuntimeError("a bug")

    for code in to:
        await rig.handle(rig.plan(code), twice=False)
    arrived = message(rig.released(*to), rig.ids, rig.clock.now())
    with monkeypatch.context() as failing:
        failing.setattr(store, "insert_events", broken)
        with pytest.raises(RuntimeError, match="a bug"):
            await on_alert_released(rig.deps, arrived)
    assert await page_states(rig) == []
    return arrived


async def test_what_could_not_be_stored_is_stored_by_the_next_try(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages that have left leave no second time, and what became of them is recorded after all."""
    arrived = await fail_once(rig, monkeypatch, "GB")
    await eventually(lambda: len(rig.outlet.sent) == 2)
    await on_alert_released(rig.deps, arrived)
    await delivery_of(rig).idle()
    assert sorted(page.target for page in rig.outlet.sent) == ["https://gb-1", "https://gb-system"]
    rows = await rig.rows(
        "SELECT p.id, p.state, a.number, a.state AS came FROM pages p JOIN attempts a ON page_id = id"
    )
    assert [(row["state"], row["number"], row["came"]) for row in rows] == [("done", 1, "delivered")] * 2
    assert {row["id"] for row in rows} == {page.page_id for page in rig.outlet.sent}
    assert delivery_of(rig).free == SENDERS_MAX


async def test_another_process_goes_on_with_the_same_ids(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of one that died nobody knows which pages had left: they leave again when their lease lapses, by the same ids."""
    arrived = await fail_once(rig, monkeypatch, "GB")
    await eventually(lambda: len(rig.outlet.sent) == 2)
    delivery_of(rig).leave_promises()
    with pytest.raises(Unavailable):
        await on_alert_released(rig.deps, arrived)
    rig.clock.advance(OPENING_SECONDS_MAX)
    await on_alert_released(rig.deps, arrived)
    assert await page_states(rig) == ["leased"] * 2
    first = {page.page_id for page in rig.outlet.sent}
    await delivery_of(rig).idle()
    assert len(rig.outlet.sent) == 2
    rig.clock.advance(LEASE_SECONDS - OPENING_SECONDS_MAX)
    await rig.service.loops["delivery"].run_once()
    await delivery_of(rig).idle()
    assert {page.page_id for page in rig.outlet.sent[2:]} == first
    rows = await rig.rows("SELECT number, state FROM attempts ORDER BY number")
    assert [(row["number"], row["state"]) for row in rows] == [(1, "expired")] * 2 + [(2, "delivered")] * 2


async def test_the_end_of_an_alert_waits_for_its_opening(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What has left and is not stored would be told of no end; once it is stored, everybody who was paged is told."""
    arrived = await fail_once(rig, monkeypatch, "GB")
    with pytest.raises(Unavailable):
        await rig.handle(rig.ended(arrived.body), twice=False)
    await on_alert_released(rig.deps, arrived)
    await rig.handle(rig.ended(arrived.body))
    await sent(rig)
    await rig.service.loops["delivery"].run_once()
    await delivery_of(rig).idle()
    assert sorted(kind for kind, _target in rig.outlet.take()) == ["alert.ended"] * 2


async def test_an_update_waits_for_the_opening_of_what_it_corrects(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It carries clock and level over, which are not stored yet."""
    arrived = await fail_once(rig, monkeypatch, "GB")
    update = rig.released("GB", corrects=arrived.body.alert_id, root_alert_id=arrived.body.alert_id)
    with pytest.raises(Unavailable):
        await rig.handle(update, twice=False)
    await on_alert_released(rig.deps, arrived)
    await rig.handle(update)
    assert (await rig.rows("SELECT count(*) AS n FROM escalations WHERE end_reason = 'superseded'"))[0]["n"] == 1


async def test_a_new_plan_waits_for_an_opening_that_was_left_behind(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever goes on with it must come to the same people; one that is just being stored keeps no plan waiting."""
    arrived = await fail_once(rig, monkeypatch, "GB")
    await rig.handle(rig.plan("NL"), twice=False)
    rig.clock.advance(LEFT_BEHIND_SECONDS)
    changed = PartnerChanged(partner="ES", version=1, name="Spain", standing=Standing.MEMBER, time_zone="Europe/Madrid")
    for published in (rig.plan("ES"), changed):
        with pytest.raises(Unavailable):
            await rig.handle(published, twice=False)
    await on_alert_released(rig.deps, arrived)
    await rig.handle(rig.plan("ES"))


@pytest.mark.parametrize("ending", ["cancelled", "expired"])
async def test_who_was_paged_before_a_crash_is_told_of_an_end_that_came_first(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    """An end waits for a minute; if the release is gone on with after that, what has left is stored and recalled."""
    arrived = await fail_once(rig, monkeypatch, "GB")
    await eventually(lambda: len(rig.outlet.sent) == 2)
    delivery_of(rig).leave_promises()
    await delivery_of(rig).idle()
    if ending == "cancelled":
        rig.clock.advance(OPENING_WAITED_FOR_SECONDS)
        await rig.handle(rig.ended(arrived.body))
    else:
        rig.clock.advance((arrived.body.expires_at - rig.clock.now()).total_seconds())
    paged = {page.page_id for page in rig.outlet.sent}
    rig.outlet.take()
    await on_alert_released(rig.deps, arrived)
    for _ in range(2):
        rig.clock.advance(LEASE_SECONDS)
        await rig.service.loops["delivery"].run_once()
        await delivery_of(rig).idle()
    assert sorted(rig.outlet.take()) == [("alert.ended", "gb-1"), ("alert.ended", "gb-system")]
    assert paged <= {row["id"] for row in await rig.rows("SELECT id FROM pages WHERE state = 'ended'")}
    assert (await rig.escalation("GB"))["end_reason"] == ending


async def test_another_publication_of_the_alert_goes_on_with_no_opening(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Recipients were added, and the older publication comes last: the ids of whoever was paged stay as they were."""
    arrived = await fail_once(rig, monkeypatch, "GB", "NL")
    await eventually(lambda: len(rig.outlet.sent) == 4)
    older = arrived.body.model_copy(update={"recipients": arrived.body.recipients[:1]})
    with pytest.raises(Unavailable):
        await rig.handle(older, twice=False)
    await on_alert_released(rig.deps, arrived)
    await rig.handle(older)
    await delivery_of(rig).idle()
    assert {row["id"] for row in await rig.rows("SELECT id FROM pages")} == {page.page_id for page in rig.outlet.sent}
    assert len(rig.outlet.sent) == 4


async def test_what_has_not_left_leaves_with_the_next_try(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The promise was given and the plans could not be read: nothing waits for a lease that nobody holds."""
    await rig.handle(rig.plan("GB"), twice=False)
    arrived = message(rig.released("GB"), rig.ids, rig.clock.now())

    async def broken(*_arguments: object) -> None:
        raise Unavailable("the connection was lost")

    with monkeypatch.context() as failing:
        failing.setattr(Directories, "at", broken)
        with pytest.raises(Unavailable):
            await on_alert_released(rig.deps, arrived)
    assert rig.outlet.sent == []
    await on_alert_released(rig.deps, arrived)
    assert await sent(rig) == ["gb-1", "gb-system"]
    assert await page_states(rig) == ["done"] * 2
    assert delivery_of(rig).free == SENDERS_MAX


async def test_a_process_that_stood_still_sends_nothing_more(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one may have stored the opening meanwhile, and somebody may have answered."""
    await rig.handle(rig.plan("GB"), twice=False)
    arrived = message(rig.released("GB"), rig.ids, rig.clock.now())
    at, here = Directories.at, delivery_of(rig)

    async def stands_still(self: Directories, *arguments: Any) -> Any:
        found = await at(self, *arguments)
        monkeypatch.setattr(Directories, "at", at)
        rig.clock.advance(OPENING_SECONDS_MAX)
        with monkeypatch.context() as elsewhere:
            elsewhere.setattr(here, "_promises", {})
            await on_alert_released(rig.deps, arrived)
        return found

    monkeypatch.setattr(Directories, "at", stands_still)
    with pytest.raises(Unavailable):
        await on_alert_released(rig.deps, arrived)
    assert rig.outlet.sent == []
    assert await page_states(rig) == ["leased"] * 2
    await on_alert_released(rig.deps, arrived)
    assert await sent(rig) == []


async def test_a_commit_of_which_the_word_was_lost_is_a_commit(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next try finds everything there: nothing leaves twice, and what became of the pages is recorded."""
    await rig.handle(rig.plan("GB"), twice=False)
    arrived = message(rig.released("GB"), rig.ids, rig.clock.now())
    transaction = Database.transaction
    lost: list[bool] = []

    @asynccontextmanager
    async def loses(self: Database) -> AsyncIterator[Any]:
        async with transaction(self) as tx:
            yield tx
        if not lost:
            lost.append(True)
            raise Unavailable("the connection was lost")

    with monkeypatch.context() as losing:
        losing.setattr(Database, "transaction", loses)
        with pytest.raises(Unavailable):
            await on_alert_released(rig.deps, arrived)
    await on_alert_released(rig.deps, arrived)
    assert await sent(rig) == ["gb-1", "gb-system"]
    assert await page_states(rig) == ["done"] * 2
    assert [row["state"] for row in await rig.rows("SELECT state FROM attempts")] == ["delivered"] * 2


async def test_a_partner_that_is_named_twice_is_asked_once(rig: Rig) -> None:
    """Whoever is to acknowledge and is also told for information is to acknowledge."""
    await rig.handle(rig.plan("GB"), twice=False)
    await rig.handle(rig.released("GB", informed=("GB",)))
    assert await sent(rig) == ["gb-1", "gb-system"]
    assert [row["kind"] for row in await rig.rows("SELECT kind FROM escalations")] == ["answer"]


async def test_a_release_that_is_a_dead_letter_holds_nothing_back_for_ever(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a minute, in which people have been told of the dead letter, the end is taken as it is."""
    arrived = await fail_once(rig, monkeypatch, "GB")
    rig.clock.advance(OPENING_WAITED_FOR_SECONDS)
    await rig.handle(rig.ended(arrived.body))
    [head] = await rig.rows("SELECT end_reason FROM alert_heads")
    assert head["end_reason"] == "cancelled"


async def test_an_answer_that_comes_before_the_rows_waits_for_them(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever acknowledges the very moment that the page arrives is not told that there is no such escalation, and
    does not wait for the pages that are still on their way.
    """
    monkeypatch.setattr(handed, "SENDING_FIRST_SECONDS_MAX", 60)
    await publish_credentials(rig, [person("GB")])
    given: list[asyncio.Task[httpx.Response]] = []
    answered = asyncio.Event()

    async def acknowledge(page: Outgoing) -> None:
        if not given:
            given.append(asyncio.create_task(acknowledgement(rig, page)))
            given[0].add_done_callback(lambda _task: answered.set())
        await answered.wait()

    rig.outlet.on_send = acknowledge
    await released(rig, "GB")
    answer = await given[0]
    assert answer.status_code == 200, answer.text
    assert (await rig.escalation("GB"))["state"] == "acknowledged"
    await delivery_of(rig).idle()
    assert await page_states(rig) == ["ended"] * 2
    rows = await rig.rows("SELECT state FROM attempts")
    assert [row["state"] for row in rows] == ["delivered"] * 2


async def acknowledgement(rig: Rig, page: Outgoing) -> httpx.Response:
    """What is said to an answer to this page."""
    escalation_id = orjson.loads(page.body)["data"]["escalation_id"]
    async with calling(rig, person("GB")) as client:
        return await client.post(f"/v1/escalations/{escalation_id}/acknowledgement", json={})


async def test_what_another_process_opens_is_not_called_missing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """While first pages may have left that are no rows yet, what is not found is to be tried again; else it is not."""
    await publish_credentials(rig, [person("GB")])
    arrived = await fail_once(rig, monkeypatch, "GB")
    await eventually(lambda: len(rig.outlet.sent) == 2)
    page = rig.outlet.sent[0]
    early = await acknowledgement(rig, page)
    assert (early.status_code, early.json()["code"], early.headers["retry-after"]) == (503, "alert_opening", "1")
    async with calling(rig, person("GB")) as client:
        everything = await client.post("/v1/acknowledgements", json={"alert_ids": "all"})
        assert (everything.status_code, everything.json()["code"]) == (503, "alert_opening")
    async with calling(rig, None) as anybody:
        assert (await anybody.get(f"{links.PATH}whatever")).status_code == 404
        assert (await anybody.get(f"{links.PATH}{links.token_of(rig.keys, page.page_id)}")).status_code == 503
    await on_alert_released(rig.deps, arrived)
    assert (await acknowledgement(rig, page)).status_code == 200
    body = orjson.dumps({"data": {"escalation_id": str(rig.ids.new())}})
    assert (await acknowledgement(rig, replace(page, body=body))).status_code == 404


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
        row["id"]: delivery_of(rig)._outgoing(Leased(row, parts[row["alert_id"]]), rig.clock.now()).body for row in rows
    }
    assert first == second


async def test_nothing_leaves_of_a_deadline_whose_transaction_failed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """No page exists and none is sent; the senders that were kept for them are free again."""
    await released(rig, "GB")
    await sent(rig)
    before = await page_states(rig)

    async def broken(*_arguments: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(store, "insert_events", broken)
    [row] = await rig.rows("SELECT due_at FROM escalations")
    rig.clock.advance((row["due_at"] - rig.clock.now()).total_seconds())
    with pytest.raises(RuntimeError, match="a bug"):
        await rig.service.loops["timers"].run_once()
    assert await sent(rig) == []
    assert await page_states(rig) == before
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
    first = await released(rig, "GB", "NL")
    await sent(rig)
    rig.clock.advance(1)
    rig.outlet.on_send = answer
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
    update = rig.released("GB", "NL", corrects=first.alert_id, root_alert_id=first.alert_id)
    await rig.handle(update, twice=False)
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
