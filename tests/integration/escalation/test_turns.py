"""A contact's points one after the other: by their delays, and at once where one before has failed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.escalation import answers, reading
from services.escalation.channels import AttemptState, Cost, ProviderStatus, Reason, SendResult
from services.escalation.joining import handlers as asked
from services.escalation.receipts import note_status
from services.escalation.retry import HOPELESS_REPEAT_SECONDS
from services.escalation.views import escalation_detail
from shared.contracts import ChannelName, Precedence
from shared.events import Cause
from tests.integration.escalation.test_people import URL, page_rows, plan, somebody
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Rig, escalation_rig, person, sent_by

NUMBER, MAIL = "+447700900101", "person-1@gb.example"


@pytest_asyncio.fixture
async def rig(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Rig]:
    """Escalation with an outlet for each channel to people; each has a provider of its own."""
    async with escalation_rig(cluster, tmp_path, people=("sms", "voice", "email"), public_url=URL) as built:
        yield built


def in_order(rig: Rig, **changes: Any) -> Any:
    """One person: SMS at once, voice after two minutes, mail after four."""
    points = (
        rig.point(NUMBER, ChannelName.SMS),
        rig.point(NUMBER, ChannelName.VOICE, delay_seconds=120),
        rig.point(MAIL, ChannelName.EMAIL, delay_seconds=240),
    )
    return plan(rig, [somebody(rig, 1, *points, **changes)], office=None)


def left(rig: Rig) -> dict[str, int]:
    """How many messages have left by each channel since the last call."""
    counted = {name: len(outlet.take()) for name, outlet in rig.outlets.items()}
    return {name: number for name, number in counted.items() if number}


def failed(reason: Reason, **changes: Any) -> SendResult:
    """A provider does not take the message."""
    fields: dict[str, Any] = {"retry_after_seconds": None, "elapsed_seconds": 0.01, "provider": "sms provider"}
    return SendResult(AttemptState.FAILED, reason, None, 400, **{**fields, **changes})


async def released(rig: Rig, precedence: Precedence = Precedence.FLASH) -> None:
    """Great Britain is asked."""
    await rig.handle(rig.released("GB", precedence=precedence))
    await rig.settle()


async def last_sent(rig: Rig, channel: str) -> ProviderStatus:
    """What the provider of a channel says when the last message has arrived."""
    page = rig.outlets[channel].sent[-1]
    return ProviderStatus(
        f"{channel} provider", f"{page.page_id}.{page.attempt}", AttemptState.DELIVERED, Reason.ACCEPTED
    )


def not_delivered(arrived: ProviderStatus) -> ProviderStatus:
    """What the provider says when it has not."""
    return ProviderStatus(arrived.provider, arrived.provider_id, AttemptState.FAILED, Reason.NOT_DELIVERED)


async def test_points_are_paged_after_their_delays(rig: Rig) -> None:
    """SMS at once, voice after two minutes, mail after four: each exactly then, and once."""
    await rig.handle(in_order(rig))
    await released(rig)
    assert left(rig) == {"sms": 1}
    await rig.forward(seconds=119)
    assert left(rig) == {}
    await rig.forward(seconds=1)
    assert left(rig) == {"voice": 1}
    await rig.forward(seconds=120)
    assert left(rig) == {"email": 1}


async def test_acknowledgement_ends_what_is_not_due_yet(rig: Rig) -> None:
    """Who has acknowledged is not rung by the point whose turn had not come."""
    await rig.handle(in_order(rig))
    await released(rig)
    escalation = await rig.escalation("GB")
    await answers.acknowledge(
        rig.deps, person("GB"), escalation["id"], contact_id=None, via="api", cause=Cause(rig.ids.new())
    )
    left(rig)
    await rig.forward(minutes=9)
    assert left(rig) == {}


@pytest.mark.parametrize("reason", [Reason.PROVIDER_UNAVAILABLE, Reason.PROVIDER_BUSY, Reason.TIMEOUT])
async def test_failing_first_channel_starts_the_next_at_once(rig: Rig, reason: Reason) -> None:
    """Where the SMS fails, whatever the reason, the call does not wait its two minutes; the mail keeps its time."""
    rig.outlets["sms"].answers[NUMBER] = failed(reason, retry_after_seconds=30.0)
    await rig.handle(in_order(rig))
    await released(rig)
    assert left(rig) == {"sms": 1, "voice": 1}
    await rig.forward(seconds=239)
    assert "email" not in left(rig)
    await rig.forward(seconds=1)
    assert left(rig)["email"] == 1


async def test_next_point_may_be_their_own_system(rig: Rig) -> None:
    """A person's next point is paged at once whatever its channel is."""
    points = (rig.point(NUMBER, ChannelName.SMS), rig.point("gb-1-desk", delay_seconds=60))
    rig.outlets["sms"].answers[NUMBER] = failed(Reason.PROVIDER_UNAVAILABLE)
    await rig.handle(plan(rig, [somebody(rig, 1, *points)], office=None))
    await released(rig)
    assert left(rig) == {"sms": 1, "webhook": 1}


async def test_both_failing_start_the_third(rig: Rig) -> None:
    """Where SMS and call both fail, the mail goes at once, and no point is skipped."""
    rig.outlets["sms"].answers[NUMBER] = failed(Reason.PROVIDER_REFUSED)
    rig.outlets["voice"].answers[NUMBER] = failed(Reason.NOT_ANSWERED)
    await rig.handle(in_order(rig))
    await released(rig)
    assert left(rig) == {"sms": 1, "voice": 1, "email": 1}


async def test_one_failure_is_tried_again_and_starts_one_turn(rig: Rig) -> None:
    """The channel that failed goes on being tried, and its later failures start nothing further."""
    rig.outlets["sms"].answers[NUMBER] = failed(Reason.PROVIDER_UNAVAILABLE)
    await rig.handle(in_order(rig))
    await released(rig)
    left(rig)
    await rig.forward(seconds=20)
    assert left(rig) == {"sms": 5}


async def test_unknown_address_is_tried_rarely_and_the_next_starts(rig: Rig) -> None:
    """A provider that says for good that nobody is there is asked again only after ten minutes."""
    rig.outlets["sms"].answers[NUMBER] = failed(Reason.ADDRESS_UNKNOWN)
    await rig.handle(in_order(rig))
    await released(rig, Precedence.PRIORITY)
    assert left(rig) == {"sms": 1, "voice": 1}
    await rig.forward(seconds=HOPELESS_REPEAT_SECONDS - 1)
    assert "sms" not in left(rig)
    await rig.forward(seconds=1)
    assert left(rig) == {"sms": 1}
    assert await rig.events("contact_point_failing")


async def test_other_people_keep_their_own_turns(rig: Rig) -> None:
    """One person's failing channel starts nothing of another person."""
    one = somebody(rig, 1, rig.point(NUMBER, ChannelName.SMS), rig.point(NUMBER, ChannelName.VOICE, delay_seconds=60))
    other_number = "+447700900102"
    points = (rig.point(other_number, ChannelName.SMS), rig.point(other_number, ChannelName.VOICE, delay_seconds=60))
    rig.outlets["sms"].answers[NUMBER] = failed(Reason.PROVIDER_UNAVAILABLE)
    await rig.handle(plan(rig, [one, somebody(rig, 2, *points)], office=None))
    await released(rig)
    assert [page.target for page in rig.outlets["voice"].sent] == [NUMBER]


# --- what providers say later -----------------------------------------------------------------------------------------


async def test_delivered_is_kept_with_time_and_cost(rig: Rig) -> None:
    """The word that a message arrived is kept with its time and what it cost; said twice, it changes nothing more."""
    await rig.handle(in_order(rig))
    await released(rig)
    arrived = await last_sent(rig, "sms")
    rig.clock.advance(3)
    told = ProviderStatus(
        arrived.provider, arrived.provider_id, arrived.state, arrived.reason, cost=Cost(Decimal("0.0075"), "USD")
    )
    assert await note_status(rig.deps, told, now=rig.clock.now())
    first = await rig.rows("SELECT * FROM attempts")
    rig.clock.advance(5)
    assert await note_status(rig.deps, told, now=rig.clock.now())
    [attempt] = again = await rig.rows("SELECT * FROM attempts")
    assert first == again
    assert (attempt["state"], attempt["provider"]) == ("delivered", "sms provider")
    assert attempt["delivered_at"] == rig.clock.now() - timedelta(seconds=5)
    assert (attempt["cost_amount"], attempt["cost_currency"]) == (Decimal("0.0075"), "USD")


async def test_not_delivered_pages_again_and_starts_the_next(rig: Rig) -> None:
    """A message that did not arrive after all is sent again, and the contact's next point is paged at once."""
    await rig.handle(in_order(rig))
    await released(rig)
    told = not_delivered(await last_sent(rig, "sms"))
    left(rig)
    rig.clock.advance(4)
    assert await note_status(rig.deps, told, now=rig.clock.now())
    await rig.settle()
    assert left(rig) == {"voice": 1}
    await rig.forward(seconds=60)
    assert left(rig) == {"sms": 1}
    # The provider says it again: it is old news.
    assert await note_status(rig.deps, told, now=rig.clock.now())
    await rig.settle()
    assert left(rig) == {}


async def test_arrived_is_the_last_word(rig: Rig) -> None:
    """Whatever order a provider's words come in, arrived stays arrived and nothing is sent again."""
    await rig.handle(in_order(rig))
    await released(rig)
    arrived = await last_sent(rig, "sms")
    assert await note_status(rig.deps, arrived, now=rig.clock.now())
    assert await note_status(rig.deps, not_delivered(arrived), now=rig.clock.now())
    left(rig)
    await rig.forward(seconds=90)
    assert left(rig) == {}
    [page] = await page_rows(rig, "sms")
    assert page["state"] == "done"


async def test_arrived_after_all_needs_no_second_message(rig: Rig) -> None:
    """A message that was called lost and then arrived is not sent again."""
    await rig.handle(in_order(rig))
    await released(rig)
    arrived = await last_sent(rig, "sms")
    assert await note_status(rig.deps, not_delivered(arrived), now=rig.clock.now())
    assert await note_status(rig.deps, arrived, now=rig.clock.now())
    left(rig)
    await rig.forward(seconds=90)
    assert "sms" not in left(rig)


async def test_not_delivered_after_the_answer_pages_nobody(rig: Rig) -> None:
    """Once somebody has acknowledged, a message that did not arrive is nobody's loss."""
    await rig.handle(in_order(rig))
    await released(rig)
    told = not_delivered(await last_sent(rig, "sms"))
    escalation = await rig.escalation("GB")
    await answers.acknowledge(
        rig.deps, person("GB"), escalation["id"], contact_id=None, via="api", cause=Cause(rig.ids.new())
    )
    left(rig)
    assert await note_status(rig.deps, told, now=rig.clock.now())
    await rig.forward(minutes=5)
    assert left(rig) == {}


async def test_not_delivered_to_who_has_stopped_pages_nobody(rig: Rig) -> None:
    """Whoever stopped their own pages does not get them back because one of them was lost."""
    await rig.handle(in_order(rig))
    await released(rig)
    told = not_delivered(await last_sent(rig, "sms"))
    escalation_id = (await rig.escalation("GB"))["id"]
    await asked.stop_pages(rig.deps, person("GB"), escalation_id, cause=Cause(rig.ids.new()))
    left(rig)
    assert await note_status(rig.deps, told, now=rig.clock.now())
    await rig.forward(minutes=5)
    assert left(rig) == {}


async def test_after_the_end_only_the_ending_is_sent_again(rig: Rig) -> None:
    """A lost page of an alert that is over is not sent again; a lost ending is."""
    await rig.handle(in_order(rig))
    alert = rig.released("GB")
    await rig.handle(alert)
    await rig.settle()
    lost_page = not_delivered(await last_sent(rig, "sms"))
    await rig.handle(rig.ended(alert))
    await rig.settle()
    lost_ending = not_delivered(await last_sent(rig, "sms"))
    left(rig)
    assert await note_status(rig.deps, lost_page, now=rig.clock.now())
    await rig.forward(minutes=3)
    assert left(rig) == {}
    assert await note_status(rig.deps, lost_ending, now=rig.clock.now())
    await rig.forward(minutes=3)
    assert [page.message_type for page in rig.outlets["sms"].sent] == ["alert.ended"]


async def test_receipt_of_nobodys_message_is_unknown(rig: Rig) -> None:
    """A word about a message that we did not send changes nothing and is said to be unknown."""
    told = ProviderStatus("sms provider", "nobody's", AttemptState.FAILED, Reason.NOT_DELIVERED)
    assert not await note_status(rig.deps, told, now=rig.clock.now())


async def test_receipt_before_its_attempt_is_kept(rig: Rig) -> None:
    """A provider that is quicker than our own record is not forgotten: its word counts once the attempt is recorded."""
    early = []

    async def tell(page: Any) -> None:
        status = ProviderStatus(
            "sms provider", f"{page.page_id}.{page.attempt}", AttemptState.FAILED, Reason.NOT_DELIVERED
        )
        early.append(await note_status(rig.deps, status, now=rig.clock.now()))

    rig.outlets["sms"].on_send = tell
    await rig.handle(in_order(rig))
    await released(rig)
    assert early == [False]
    assert left(rig) == {"sms": 1, "voice": 1}
    assert await rig.rows("SELECT * FROM early_receipts") == []


async def test_lying_provider_does_not_keep_the_next_point(rig: Rig) -> None:
    """A provider that takes a message and never delivers it, without a word, delays the next point by nothing."""
    rig.outlets["sms"].answers[NUMBER] = sent_by("sms")
    await rig.handle(in_order(rig))
    await released(rig)
    left(rig)
    await rig.forward(seconds=120)
    assert left(rig) == {"voice": 1}


# --- one provider -----------------------------------------------------------------------------------------------------


async def test_one_provider_alone_is_reported(rig: Rig) -> None:
    """Somebody with one channel, or two of the same provider, is paged all the same, and the lack is shown."""
    await rig.handle(plan(rig, [somebody(rig)]))
    await released(rig)
    assert left(rig) == {"sms": 1}
    assert (await rig.escalation("GB"))["one_provider"]
    [started] = await rig.events("escalations_started")
    assert started["escalations"][0]["one_provider"]


async def test_two_providers_are_enough(rig: Rig) -> None:
    """Somebody who is reached through two providers lacks nothing."""
    await rig.handle(in_order(rig))
    await released(rig)
    assert not (await rig.escalation("GB"))["one_provider"]


# --- what is shown ----------------------------------------------------------------------------------------------------


async def test_escalation_shows_provider_cost_and_latency_of_each_send(rig: Rig) -> None:
    """Beside state and reason, every attempt shows who carried it, under which name, what it cost and how long it took;
    a point whose turn is still to come shows when that is.
    """
    await rig.handle(in_order(rig))
    await released(rig)
    told = await last_sent(rig, "sms")
    rig.clock.advance(2.5)
    costly = ProviderStatus(
        told.provider, told.provider_id, told.state, told.reason, cost=Cost(Decimal("0.0075"), "USD")
    )
    assert await note_status(rig.deps, costly, now=rig.clock.now())
    escalation_id = (await rig.escalation("GB"))["id"]
    async with rig.deps.intake.transaction() as tx:
        row = await reading.find_one(tx, person("GB"), escalation_id)
        pages = await reading.find_pages(tx, escalation_id)
        attempts = await reading.find_attempts(tx, [page["id"] for page in pages])
    assert row is not None
    shown = {page.channel: page for page in escalation_detail(row, pages, attempts, person("GB")).pages}
    [attempt] = shown[ChannelName.SMS].attempts
    assert (attempt.state, attempt.reason) == ("delivered", "accepted")
    assert (attempt.provider, attempt.provider_id) == (told.provider, told.provider_id)
    assert attempt.latency_seconds == 2.5
    assert attempt.cost is not None
    assert (attempt.cost.amount, attempt.cost.currency) == ("0.0075", "USD")
    assert shown[ChannelName.VOICE].attempts == []
    assert shown[ChannelName.VOICE].next_attempt_at == rig.clock.now() + timedelta(seconds=120 - 2.5)


# --- at night ---------------------------------------------------------------------------------------------------------

TOKYO = "Asia/Tokyo"
"""Where it is half past six in the evening when these tests begin."""


def asleep(rig: Rig) -> Any:
    """One person in Tokyo: SMS and mail at once."""
    points = (rig.point(NUMBER, ChannelName.SMS), rig.point(MAIL, ChannelName.EMAIL))
    return plan(rig, [somebody(rig, 1, *points, time_zone=TOKYO)], office=None)


async def test_routine_does_not_ring_at_night(rig: Rig) -> None:
    """At half past eleven in Tokyo a ROUTINE alert is mailed at once and sent as SMS at seven in the morning."""
    rig.clock.advance(5 * 3600)
    await rig.handle(asleep(rig))
    await released(rig, Precedence.ROUTINE)
    assert left(rig) == {"email": 1}
    await rig.forward(hours=7, minutes=29)
    assert left(rig) == {}
    await rig.forward(minutes=1)
    assert left(rig) == {"sms": 1}


async def test_flash_rings_at_night(rig: Rig) -> None:
    """A FLASH alert knows no night."""
    rig.clock.advance(5 * 3600)
    await rig.handle(asleep(rig))
    await released(rig, Precedence.FLASH)
    assert left(rig) == {"sms": 1, "email": 1}


async def test_failing_mail_rings_nobody_at_night(rig: Rig) -> None:
    """That the mail fails is no reason to ring for a ROUTINE alert before the morning."""
    rig.clock.advance(5 * 3600)
    rig.outlets["email"].answers[MAIL] = failed(Reason.PROVIDER_REFUSED)
    await rig.handle(asleep(rig))
    await released(rig, Precedence.ROUTINE)
    await rig.forward(hours=7)
    assert "sms" not in left(rig)


async def test_repeats_of_a_failing_send_stop_at_night(rig: Rig) -> None:
    """An SMS that fails in the evening is not tried again in the night, and is in the morning."""
    rig.clock.advance(3 * 3600 + 29 * 60 + 50)
    rig.outlets["sms"].answers[NUMBER] = failed(Reason.PROVIDER_UNAVAILABLE)
    await rig.handle(asleep(rig))
    await released(rig, Precedence.ROUTINE)
    await rig.forward(minutes=1)
    assert left(rig)["sms"] == 5
    rig.outlets["sms"].answers.clear()
    await rig.forward(hours=8, minutes=58)
    assert "sms" not in left(rig)
    await rig.forward(minutes=2)
    assert left(rig) == {"sms": 1}


async def test_end_of_a_routine_alert_waits_for_the_morning(rig: Rig) -> None:
    """Nobody is woken to hear that a ROUTINE alert is over."""
    await rig.handle(asleep(rig))
    alert = rig.released("GB", precedence=Precedence.ROUTINE)
    await rig.handle(alert)
    await rig.settle()
    assert left(rig) == {"sms": 1, "email": 1}
    await rig.forward(hours=6)
    await rig.handle(rig.ended(alert))
    await rig.settle()
    assert left(rig) == {"email": 1}
    await rig.forward(hours=7)
    assert left(rig) == {"sms": 1}
