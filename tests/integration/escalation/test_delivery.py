"""How pages leave: leased, tried again, recorded, and stopped; and that one that fails disturbs no other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

import orjson
import pytest

from services.escalation import answers
from services.escalation.channels import AttemptState, Outgoing, Reason, SendResult
from services.escalation.delivery import PER_POINT_MAX, Delivery
from services.escalation.leased import LEASE_SECONDS
from shared.contracts import Info, PlannedLevel, PositionStance, Status, Tlp
from shared.events import Cause
from shared.ids import derived
from shared.webhooks import BODY_BYTES_MAX
from tests.support.escalation_rig import REFUSED, Rig, person
from tests.support.waiting import eventually


def delivery(rig: Rig) -> Delivery:
    """The sender itself."""
    return cast("Delivery", cast("Any", rig.service.loops["delivery"].run_once).__self__)


async def released(rig: Rig, *to: str, **changes: Any) -> Any:
    """An alert of Canada to these partners, opened and not yet sent."""
    for code in to:
        await rig.handle(rig.plan(code))
    alert = rig.released(*to, **changes)
    await rig.handle(alert)
    return alert


async def acknowledge(rig: Rig, partner: str) -> None:
    """Person 1 of a partner has it."""
    row = await rig.escalation(partner)
    cause = Cause(correlation_id=rig.ids.new())
    await answers.acknowledge(rig.deps, person(partner), row["id"], contact_id=None, via="api", cause=cause)


async def attempts(rig: Rig, target: str) -> list[Any]:
    """The attempts at pages to one contact point, oldest first."""
    return await rig.rows(
        "SELECT a.*, p.state AS page_state FROM attempts a JOIN pages p ON p.id = a.page_id"
        " WHERE p.contact_point_id = $1 ORDER BY a.started_at, a.number",
        derived("point", target),
    )


class Gate:
    """Holds sends to targets that contain a word until it is opened."""

    def __init__(self, rig: Rig, word: str) -> None:
        self.opened = asyncio.Event()
        self.waiting = 0
        self.word = word
        rig.outlet.on_send = self

    async def __call__(self, page: Outgoing) -> None:
        if self.word in page.target:
            self.waiting += 1
            await self.opened.wait()


# --- leases -----------------------------------------------------------------------------------------------------------


async def test_a_page_is_leased_with_its_attempt_before_it_is_sent(rig: Rig) -> None:
    """Page and attempt are committed before anything leaves, so a crash leaves a trace and a due time."""
    await released(rig, "GB")
    gate = Gate(rig, "gb-1")
    assert await delivery(rig).run_once() == 2
    await eventually(lambda: gate.waiting == 1)
    (attempt,) = await attempts(rig, "gb-1")
    assert (attempt["number"], attempt["state"], attempt["page_state"]) == (1, None, "leased")
    gate.opened.set()
    await rig.settle()
    (attempt,) = await attempts(rig, "gb-1")
    assert (attempt["state"], attempt["reason"], attempt["page_state"]) == ("delivered", "accepted", "done")


async def test_a_lapsed_lease_is_sent_again_under_the_same_id(rig: Rig) -> None:
    """A crash between send and record: after the lease the page goes out again, and its receiver knows it by its id."""
    await released(rig, "GB")
    await rig.service.loops["delivery"].run_once()
    await eventually(lambda: len(rig.outlet.sent) == 2)
    delivery(rig).recorder._waiting.clear()
    first = {page.target: page.page_id for page in rig.outlet.sent}
    rig.outlet.sent.clear()
    rig.clock.advance(LEASE_SECONDS - 0.1)
    await rig.settle()
    assert rig.outlet.sent == []
    rig.clock.advance(0.1)
    await rig.settle()
    assert {page.target: page.page_id for page in rig.outlet.sent} == first
    assert {page.attempt for page in rig.outlet.sent} == {2}
    states = [(a["state"], a["reason"]) for a in await attempts(rig, "gb-1")]
    assert states == [("expired", "lease_lapsed"), ("delivered", "accepted")]


async def test_a_late_result_of_a_lapsed_lease_still_counts(rig: Rig) -> None:
    """An acceptance that is recorded after the page was leased again ends it: there is no third attempt."""
    await released(rig, "GB")
    gate = Gate(rig, "gb-1")
    await delivery(rig).run_once()
    await eventually(lambda: gate.waiting == 1)
    rig.clock.advance(LEASE_SECONDS + 1)
    await delivery(rig).run_once()
    gate.opened.set()
    await rig.settle()
    await rig.forward(minutes=1)
    assert len(await attempts(rig, "gb-1")) == 2
    assert {a["page_state"] for a in await attempts(rig, "gb-1")} == {"done"}


async def test_an_ended_page_with_a_lapsed_lease_is_not_sent(rig: Rig) -> None:
    """Leased, then answered, then the sender died: nothing leaves when the lease lapses."""
    await released(rig, "GB")
    await delivery(rig).run_once()
    await eventually(lambda: len(rig.outlet.sent) == 2)
    delivery(rig).recorder._waiting.clear()
    rig.outlet.sent.clear()
    await acknowledge(rig, "GB")
    rig.clock.advance(LEASE_SECONDS * 2)
    await rig.settle()
    assert rig.outlet.sent == []


# --- retries ----------------------------------------------------------------------------------------------------------


async def test_a_failing_endpoint_is_tried_by_the_schedule_and_the_person_is_not_kept_waiting(rig: Rig) -> None:
    """0, 1, 2, 4, 8, 15, 30, 60 s, then every minute; the telephone rang at once."""
    rig.outlet.answers["gb-system"] = REFUSED
    await released(rig, "GB")
    await rig.settle()
    await rig.forward(minutes=3, seconds=1)
    made = await attempts(rig, "gb-system")
    seconds = [round((a["started_at"] - made[0]["started_at"]).total_seconds()) for a in made]
    assert seconds == [0, 1, 2, 4, 8, 15, 30, 60, 120, 180]
    assert {(a["state"], a["reason"], a["status_code"]) for a in made} == {("failed", "http_status", 500)}
    assert [a["started_at"] for a in await attempts(rig, "gb-1")] == [made[0]["started_at"]]


async def test_retries_stop_with_the_acknowledgement(rig: Rig) -> None:
    """An endpoint that never answered is left alone once a human has."""
    rig.outlet.answers["gb-system"] = REFUSED
    await released(rig, "GB")
    await rig.settle()
    await acknowledge(rig, "GB")
    rig.outlet.take()
    await rig.forward(minutes=5)
    assert rig.outlet.take() == []


async def test_retry_after_is_honoured(rig: Rig) -> None:
    """An endpoint that asks for 30 seconds has them."""
    rig.outlet.answers["gb-system"] = SendResult(AttemptState.FAILED, Reason.HTTP_STATUS, "HTTP 503", 503, 30.0, 0.01)
    await released(rig, "GB")
    await rig.settle()
    await rig.forward(seconds=29)
    assert len([page for page in rig.outlet.sent if "gb-system" in page.target]) == 1
    await rig.forward(seconds=1)
    assert len([page for page in rig.outlet.sent if "gb-system" in page.target]) == 2


async def test_a_message_that_asks_nothing_is_given_up_after_a_day(rig: Rig) -> None:
    """A page that asks is tried as long as its alert lives; one that only informs is tried for a day."""
    rig.outlet.answers["ca-system"] = REFUSED
    await rig.handle(rig.plan("CA"))
    await released(rig, "GB")
    await rig.settle()
    await acknowledge(rig, "GB")
    await rig.settle()
    await rig.rows("UPDATE pages SET due_at = give_up_at - interval '0.5 seconds' WHERE partner = 'CA' RETURNING 1")
    rig.clock.advance(86400 - 0.4)
    await rig.settle()
    (page,) = await rig.rows("SELECT * FROM pages WHERE partner = 'CA'")
    assert (page["state"], page["delivered_at"]) == ("done", None)


async def test_three_failures_in_a_row_are_told_once_and_a_recovery_too(rig: Rig) -> None:
    """People on both sides hear of a failing endpoint, and of its recovery; it is never switched off."""
    rig.outlet.answers["gb-system"] = REFUSED
    await released(rig, "GB")
    await rig.forward(seconds=1)
    assert await rig.events("contact_point_failing") == []
    await rig.forward(minutes=2)
    (failing,) = await rig.events("contact_point_failing")
    assert (failing["partner"], failing["raiser"], failing["failures"], failing["reason"]) == (
        "GB",
        "CA",
        3,
        "http_status",
    )
    rig.outlet.answers.clear()
    await rig.forward(minutes=1)
    (recovered,) = await rig.events("contact_point_recovered")
    assert recovered["contact_point_id"] == failing["contact_point_id"]


# --- isolation --------------------------------------------------------------------------------------------------------


async def test_a_hanging_endpoint_never_takes_all_senders(rig: Rig) -> None:
    """However many pages wait for one contact point, a few are on their way at once, and others go out beside them."""
    await rig.handle(rig.plan("GB"))
    await rig.handle(rig.plan("US"))
    for _ in range(PER_POINT_MAX * 3):
        await rig.handle(rig.released("GB"))
    gate = Gate(rig, "gb-")
    for _ in range(3):
        await delivery(rig).run_once()
    await eventually(lambda: gate.waiting == 2 * PER_POINT_MAX)
    await rig.handle(rig.released("US"))
    await delivery(rig).run_once()
    await eventually(lambda: len([page for page in rig.outlet.sent if "us-" in page.target]) == 2)
    assert gate.waiting == 2 * PER_POINT_MAX
    gate.opened.set()
    await rig.settle()
    assert len([page for page in rig.outlet.sent if "gb-1" in page.target]) == PER_POINT_MAX * 3


@pytest.mark.logs_error("contact_point.unreadable")
async def test_an_address_that_cannot_be_opened_disturbs_nobody_else(rig: Rig) -> None:
    """Its attempts say so; the partner's system and all other partners are paged at once."""
    broken = rig.plan("GB")
    person_1 = broken.contacts[0]
    points = (person_1.points[0].model_copy(update={"sealed_address": "not sealed at all"}),)
    contacts = (person_1.model_copy(update={"points": points}), *broken.contacts[1:])
    await rig.handle(broken.model_copy(update={"contacts": contacts}))
    await rig.handle(rig.plan("US"))
    await rig.handle(rig.released("GB", "US"))
    await rig.settle()
    assert {target for _type, target in rig.outlet.take()} == {"gb-system", "us-1", "us-system"}
    (attempt,) = await attempts(rig, "gb-1")
    assert (attempt["state"], attempt["reason"]) == ("failed", "target_refused")


async def test_actual_alerts_go_before_any_drill(rig: Rig) -> None:
    """A FLASH exercise waits for a ROUTINE alert that is real."""
    await rig.handle(rig.plan("GB"))
    await rig.handle(rig.plan("US"))
    await rig.handle(rig.released("US", status=Status.EXERCISE))
    await rig.handle(rig.released("GB", precedence="ROUTINE"))
    await rig.settle()
    sent = [page.target.removeprefix("https://")[:2] for page in rig.outlet.sent]
    assert sent == ["gb", "gb", "us", "us"]
    assert rig.outlet.data()["alert"]["text"].startswith("EXERCISE ")


# --- stopping ---------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def held_back(rig: Rig) -> AsyncIterator[list[tuple[Any, ...]]]:
    """Keeps leased pages from being started; gives what each start was asked for."""
    sender, held = delivery(rig), []
    start = sender._start

    def hold(*arguments: Any) -> asyncio.Task[None]:
        held.append(arguments)
        return asyncio.create_task(asyncio.sleep(0))  # noqa: TID251 - a task that ends at once

    sender._start = hold  # type: ignore[method-assign,assignment]
    yield held
    sender._start = start  # type: ignore[method-assign]


async def test_a_leased_page_that_starts_late_is_checked_again(rig: Rig) -> None:
    """Fifty milliseconds after its lease a page asks whether it is still wanted: an answered partner's is not sent, the
    others' are.
    """
    async with held_back(rig) as held:
        await released(rig, "GB", "US")
        await delivery(rig).run_once()
        await eventually(lambda: len(held) == 4)
    await acknowledge(rig, "GB")
    rig.clock.advance(0.051)
    await asyncio.gather(*(delivery(rig)._start(*arguments) for arguments in held))
    await rig.settle()
    assert {page.target.removeprefix("https://") for page in rig.outlet.sent} == {"us-1", "us-system"}
    (attempt,) = await attempts(rig, "gb-1")
    assert (attempt["state"], attempt["reason"], attempt["page_state"]) == ("expired", "no_longer_wanted", "ended")


async def test_a_page_that_was_never_begun_earns_no_ending(rig: Rig) -> None:
    """Whoever was leased and not rung has not heard of the alert, and is not told that it ended."""
    async with held_back(rig) as held:
        alert = await released(rig, "GB")
        await delivery(rig).run_once()
        await eventually(lambda: len(held) == 2)
    await acknowledge(rig, "GB")
    rig.clock.advance(1)
    await asyncio.gather(*(delivery(rig)._start(*arguments) for arguments in held))
    await rig.handle(rig.ended(alert))
    await rig.settle()
    assert rig.outlet.sent == []


async def test_the_ending_reaches_everyone_who_was_paged_once(rig: Rig) -> None:
    """Level 1, level 2 and the partner's system are told of the end, once each; level 3 never heard of it."""
    await rig.handle(rig.plan("GB", levels=3))
    alert = rig.released("GB")
    await rig.handle(alert)
    await rig.forward(minutes=11)
    rig.outlet.take()
    await rig.handle(rig.ended(alert))
    await rig.settle()
    assert sorted(rig.outlet.take()) == [("alert.ended", name) for name in ("gb-1", "gb-2", "gb-system")]
    await rig.forward(minutes=30)
    assert rig.outlet.take() == []


async def test_the_ending_reaches_who_was_paged_before_a_correction(rig: Rig) -> None:
    """Person 1 was paged for the original and has gone off duty since; the Update's end is told to them, too."""
    await rig.handle(rig.plan("GB"))
    alert = rig.released("GB")
    await rig.handle(alert)
    await rig.settle()
    swapped = rig.plan("GB", version=2)
    await rig.handle(swapped.model_copy(update={"levels": (swapped.levels[1], swapped.levels[1])}))
    rota_1, rota_2 = swapped.rotas
    await rig.handle(
        swapped.model_copy(
            update={"plan_version": 3, "rotas": (rota_1.model_copy(update={"shifts": rota_2.shifts}), rota_2)}
        )
    )
    update = rig.update_of(alert)
    await rig.handle(update)
    await rig.settle()
    rig.outlet.take()
    await rig.handle(rig.ended(update))
    await rig.settle()
    assert sorted(rig.outlet.take()) == [("alert.ended", name) for name in ("gb-1", "gb-2", "gb-system")]


async def test_a_correction_reaches_who_was_told_and_has_gone_off_duty_since(rig: Rig) -> None:
    """Person 1 was paged for the original and is off duty now: they are told of the Update, once, and asked nothing."""
    await rig.handle(rig.plan("GB"))
    alert = rig.released("GB")
    await rig.handle(alert)
    await rig.settle()
    changed = rig.plan("GB", version=2)
    rota_1, rota_2 = changed.rotas
    await rig.handle(
        changed.model_copy(update={"rotas": (rota_1.model_copy(update={"shifts": rota_2.shifts}), rota_2)})
    )
    rig.outlet.take()
    await rig.handle(rig.update_of(alert))
    await rig.settle()
    assert sorted(rig.outlet.take()) == [("alert.updated", name) for name in ("gb-1", "gb-2", "gb-system")]
    asks = {
        row["told"]: row["asks"]
        for row in await rig.rows("SELECT told, asks FROM pages WHERE message_type = $1", "alert.updated")
    }
    assert sorted(asks.values()) == [False, True, True]


async def test_the_end_of_a_takeover_is_not_the_end_of_the_alert(rig: Rig) -> None:
    """When the partner answers, those who were woken for it hear of the answer."""
    for code in ("CA", "XR"):
        await rig.handle(rig.plan(code))
    await released(rig, "GB")
    await rig.forward(minutes=30)
    rig.outlet.take()
    await acknowledge(rig, "GB")
    await rig.settle()
    taken = rig.outlet.take()
    assert {kind for kind, _target in taken} == {"answer.received"}
    assert {"ca-1", "xr-1"} <= {target for _kind, target in taken}


# --- what a page says -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tlp", [Tlp.RED, Tlp.AMBER_STRICT])
async def test_at_red_every_page_carries_only_the_link(rig: Rig, tlp: Tlp) -> None:
    """No page of any kind, to partner, raiser or secretariat, says more than who calls, how urgently, and where."""
    for code in ("CA", "XR"):
        await rig.handle(rig.plan(code))
    alert = await released(rig, "GB", tlp=tlp)
    await rig.forward(minutes=31)
    await acknowledge(rig, "GB")
    await rig.settle()
    await rig.handle(rig.ended(alert))
    await rig.settle()
    kinds = {page.message_type for page in rig.outlet.sent}
    assert kinds == {"alert.released", "level.raised", "partner.unreached", "answer.received", "alert.ended"}
    for page in rig.outlet.sent:
        data = orjson.loads(page.body)["data"]
        assert data.keys() <= {"partner", "escalation_id", "level", "alert"}, page.message_type
        assert data["alert"].keys() == {"id", "precedence", "link", "text"}
        assert data["alert"]["text"] == "FLASH from CA: log in"


async def test_no_body_is_longer_than_a_webhook_may_be(rig: Rig) -> None:
    """The longest alert, the longest answer in the widest letters: everything is cut before it is refused."""
    await rig.handle(rig.plan("CA"))
    wide = "\U0001f198" * 1000
    long = tuple(Info(language=code, event="E", headline=wide[:100], description=wide) for code in ("en", "fr", "es"))
    await released(rig, "GB", info=long)
    await rig.settle()
    row = await rig.escalation("GB")
    request = answers.PositionRequest(PositionStance.COMMITTED, note="\U0001f198" * 2000, offer="\x01" * 2000)
    cause = Cause(correlation_id=rig.ids.new())
    await answers.take_position(rig.deps, person("GB"), UUID(str(row["id"])), request, cause=cause)
    await rig.settle()
    assert {"alert.released", "answer.received"} <= {page.message_type for page in rig.outlet.sent}
    assert max(len(page.body) for page in rig.outlet.sent) <= BODY_BYTES_MAX
    assert all(orjson.loads(page.body)["data"]["alert"]["link"] for page in rig.outlet.sent)


# --- plans that fail --------------------------------------------------------------------------------------------------


async def alarmed(rig: Rig) -> set[str]:
    """Who was told of a partner whose people nobody can be sure of."""
    return {page.target.removeprefix("https://") for page in rig.outlet.sent if page.message_type == "level.raised"}


EVERYONE_WHO_MUST_KNOW = {"ca-system", "ca-1", "xr-system", "xr-1"}


@pytest.mark.logs_error("duty_plan.lacking", "duty_plan.unreadable")
@pytest.mark.parametrize("fault", ["missing", "expired", "unreadable", "unreadable after a restart", "empty"])
async def test_a_plan_that_fails_pages_who_is_known_and_alarms_raiser_and_secretariat(rig: Rig, fault: str) -> None:
    """Last known people and the office ring, raiser's and secretariat's systems and people are told at once, and the
    other partners' pages are as always.
    """
    for code in ("CA", "XR", "US"):
        await rig.handle(rig.plan(code))
    known = {"gb-system", "gb-1", "gb-office"}
    if fault == "missing":
        known = set()
    elif fault == "expired":
        await rig.handle(rig.plan("GB", valid_until=rig.clock.now()))
    elif fault == "empty":
        await rig.handle(rig.plan("GB", levels=1).model_copy(update={"rotas": (), "levels": (PlannedLevel(),)}))
        known = {"gb-system", "gb-office"}
    else:
        await rig.handle(rig.plan("GB"))
        if fault == "unreadable":
            async with rig.deps.database.transaction() as tx:
                await rig.deps.directories.find(tx, ["GB"])
        await rig.handle(rig.plan("GB", version=2))
        await rig.rows("UPDATE duty_plans SET body = '{\"partner\": 7}' WHERE partner = 'GB' RETURNING 1")
    await rig.handle(rig.released("GB", "US"))
    await rig.settle()
    sent = {page.target.removeprefix("https://") for page in rig.outlet.sent if page.message_type == "alert.released"}
    assert sent == known | {"us-1", "us-system"}
    assert await alarmed(rig) == EVERYONE_WHO_MUST_KNOW


@pytest.mark.logs_error("duty_plan.lacking", "duty_plan.unreadable")
async def test_unreadable_partner_data_disturbs_nobody(rig: Rig) -> None:
    """What a partner publishes about itself may fail to be read, too: the other partners are paged as always."""
    await rig.handle(rig.plan("US"))
    await rig.rows(
        "INSERT INTO partners (partner, version, body, received_at) VALUES ('GB', 1, '[]', $1) RETURNING 1",
        rig.clock.now(),
    )
    await rig.handle(rig.released("GB", "US"))
    await rig.settle()
    assert {target for _type, target in rig.outlet.take()} == {"us-1", "us-system"}
    assert (await rig.escalation("GB"))["due_at"] is not None


@pytest.mark.logs_error("duty_plan.lacking")
async def test_a_plan_that_expires_while_people_are_asked_is_an_alarm_too(rig: Rig) -> None:
    """The gap appears at the next step: raiser and secretariat are told then, and once."""
    for code in ("CA", "XR"):
        await rig.handle(rig.plan(code))
    await rig.handle(rig.plan("GB", valid_until=rig.clock.now().replace(minute=35)))
    await rig.handle(rig.released("GB"))
    await rig.settle()
    assert await alarmed(rig) == set()
    await rig.forward(minutes=10)
    assert await alarmed(rig) == EVERYONE_WHO_MUST_KNOW | {"gb-system"}
    rig.outlet.take()
    await rig.forward(minutes=5)
    assert await alarmed(rig) == {"gb-system"}
