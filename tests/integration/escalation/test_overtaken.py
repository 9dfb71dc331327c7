"""Answers to messages that something has overtaken: an Update, a colleague's answer, somebody else's takeover."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.escalation import answers
from services.escalation.answering.replies import Result, answer_key
from services.escalation.answers import PositionRequest
from services.escalation.channels import AttemptState, ProviderStatus, Reason
from services.escalation.people.texts import ReplyText
from services.escalation.receipts import note_status
from services.escalation.statistics.domain import Period, Sight, Tally
from services.escalation.statistics.store import find_tallies
from shared.contracts import ChannelName, PositionStance, Precedence, Role
from shared.events import Cause
from shared.security import Principal
from tests.integration.escalation.test_link_page import URL, plan, somebody
from tests.integration.escalation.test_replies import code_for, reply, said
from tests.integration.escalation.test_takeover import NUMBERS, officer_of
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Rig, escalation_rig, person

SECOND_NUMBER = "+447700900102"
REFERENCE = "RP-CA-2021-0001"


@pytest_asyncio.fixture
async def rig(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Rig]:
    """Two senior contacts of GB at two levels; officers of CA and of the secretariat take over."""
    async with escalation_rig(cluster, tmp_path, people=("sms", "voice", "email"), public_url=URL) as built:
        for code in ("CA", "XR"):
            await built.handle(officer_of(built, code))
        await built.handle(plan(built, somebody(built), somebody(built, 2)))
        yield built


def cause(rig: Rig) -> Cause:
    """Why a person's act is written."""
    return Cause(correlation_id=rig.ids.new())


async def released(rig: Rig, **changes: Any) -> Any:
    """An alert to GB whose first pages have left."""
    alert = rig.released("GB", **changes)
    await rig.handle(alert)
    await rig.settle()
    return alert


async def updated(rig: Rig, alert: Any, **changes: Any) -> Any:
    """An Update of it, paged."""
    update = rig.update_of(alert, **changes)
    await rig.handle(update)
    await rig.settle()
    return update


async def acknowledge(rig: Rig, number: int = 1) -> None:
    """Person `number` acknowledges what is asked now."""
    row = await rig.escalation("GB")
    await answers.acknowledge(
        rig.deps, person("GB", number=number), row["id"], contact_id=None, via="api", cause=cause(rig)
    )
    await rig.settle()


async def take(rig: Rig, stance: PositionStance, *, who: Principal | None = None, **changes: Any) -> None:
    """Somebody takes a position on what is asked now."""
    row, request = await rig.escalation("GB"), PositionRequest(stance=stance, **changes)
    await answers.take_position(rig.deps, who or person("GB"), row["id"], request, cause=cause(rig))
    await rig.settle()


async def take_over(rig: Rig) -> None:
    """Half an hour later GB is unreached, and CA takes it over."""
    await rig.forward(minutes=31)
    row = await rig.escalation("GB")
    await answers.take_over(rig.deps, person("CA", Role.RELEASER), row["id"], cause=cause(rig))
    await rig.settle()


def forget_pages(rig: Rig) -> None:
    """What has left so far is not looked at."""
    for outlet in rig.outlets.values():
        outlet.take()


def texted(rig: Rig) -> list[str]:
    """The telephones that were sent an SMS since."""
    return [page.target for page in rig.outlets["sms"].sent]


async def tally(rig: Rig) -> Tally:
    """GB's answers as statistics count them."""
    now, day = rig.clock.now(), timedelta(days=1)
    async with rig.deps.database.transaction() as tx:
        found = await find_tallies(tx, Sight(None), Period(now - day, now + day), drills=False)
    (one,) = [each for each in found if each.partner == "GB"]
    return one


# --- an Update has come since -----------------------------------------------------------------------------------------


async def test_an_alert_and_its_update_are_one_question(rig: Rig) -> None:
    """Said back with its reference, not as two alerts."""
    alert = await released(rig)
    code = await code_for(rig)
    await updated(rig, alert)
    assert (await reply(rig, f"YES {code}")).startswith(f"Red Phone: recorded. {REFERENCE} is acknowledged.")


async def test_the_first_acknowledgement_is_that_of_the_whole_chain(rig: Rig) -> None:
    """A colleague has answered the Update; whoever answers the older message late is told so, and nothing is late."""
    alert = await released(rig)
    code = await code_for(rig)
    await updated(rig, alert)
    await acknowledge(rig, 2)
    rig.clock.advance(660)
    assert await reply(rig, f"YES {code}") == said(ReplyText.ALREADY_ANSWERED, what=REFERENCE)
    assert len(await rig.events("partner_acknowledged")) == 1
    counted = await tally(rig)
    assert (counted.asked, counted.acknowledged, counted.late) == (1, 1, 0)
    rows = await rig.rows("SELECT DISTINCT acknowledged_by ->> 'subject' AS who FROM escalations WHERE partner = 'GB'")
    assert [row["who"] for row in rows] == ["gb-2"]


async def test_a_chain_is_counted_once_wherever_it_was_answered(rig: Rig) -> None:
    """Two Updates; the answer comes to the first message."""
    alert = await released(rig)
    code = await code_for(rig)
    await updated(rig, await updated(rig, alert))
    rig.clock.advance(120)
    await reply(rig, f"YES {code}")
    counted = await tally(rig)
    assert (counted.asked, counted.acknowledged) == (1, 1)


@pytest.mark.parametrize("word", ["YES", "WRONG"])
async def test_what_was_asked_anew_is_not_called_over(rig: Rig, word: str) -> None:
    """Nobody must believe that an alert has ended because its newer message is to be answered."""
    alert = await released(rig)
    code = await code_for(rig)
    await updated(rig, alert, asks_anew=True)
    assert await reply(rig, f"{word} {code}") == said(ReplyText.SUPERSEDED, what=REFERENCE)
    assert (await rig.escalation("GB"))["state"] == "notified"


async def test_a_takeover_follows_its_alerts_update(rig: Rig) -> None:
    """The officer answers the message of before: it is the Update's takeover that they have now."""
    alert = await released(rig)
    await rig.forward(minutes=31)
    code = await code_for(rig, NUMBERS["CA"])
    await updated(rig, alert)
    assert "You have taken this over" in await reply(rig, f"YES {code}", address=NUMBERS["CA"])
    assert (await rig.escalation("CA", "takeover"))["taken_over_by"]["contact_id"] is not None
    assert (await rig.escalation("GB"))["taken_over_at"] == rig.clock.now()


async def test_stop_after_an_update_stops_what_rings_now(rig: Rig) -> None:
    """By the code of the message that was corrected."""
    await rig.handle(plan(rig, somebody(rig)).model_copy(update={"plan_version": 2}))
    alert = await released(rig)
    code = await code_for(rig)
    await updated(rig, alert)
    assert await reply(rig, f"STOP {code}") == said(ReplyText.STOPPED)
    forget_pages(rig)
    await rig.forward(minutes=29)
    assert texted(rig) == []


@pytest.mark.parametrize("asks_anew", [False, True])
async def test_a_stop_outlives_an_update_that_asks_nothing_anew(rig: Rig, asks_anew: bool) -> None:
    """The correction itself is still told, once; what asks anew asks everybody."""
    await rig.handle(plan(rig, somebody(rig)).model_copy(update={"plan_version": 2}))
    alert = await released(rig)
    await reply(rig, f"STOP {await code_for(rig)}")
    forget_pages(rig)
    await updated(rig, alert, asks_anew=asks_anew)
    await rig.forward(minutes=20)
    assert (len(texted(rig)) > 1) == asks_anew


async def test_a_takeover_counts_after_an_update_too(rig: Rig) -> None:
    """GB was taken over before it answered; the Update that carries the answer carries that."""
    alert = await released(rig)
    await take_over(rig)
    await acknowledge(rig)
    assert (await tally(rig)).taken_over == 1
    await updated(rig, alert)
    assert (await tally(rig)).taken_over == 1


# --- somebody else has answered ---------------------------------------------------------------------------------------


async def test_the_wrong_person_passes_on_what_is_still_open(rig: Rig) -> None:
    """Two alerts in one message, of which a colleague has answered one: the other goes to the next level."""
    first = rig.released("GB", precedence=Precedence.IMMEDIATE)
    second = rig.released("GB", precedence=Precedence.IMMEDIATE, reference="RP-CA-2021-0002")
    await rig.handle(first)
    await rig.handle(second)
    await rig.settle()
    code = await code_for(rig)
    rows = await rig.rows("SELECT id, alert_id FROM escalations WHERE partner = 'GB'")
    ids = {row["alert_id"]: row["id"] for row in rows}
    declined = PositionRequest(stance=PositionStance.DECLINED)
    await answers.take_position(rig.deps, person("GB", number=2), ids[first.alert_id], declined, cause=cause(rig))
    assert await reply(rig, f"WRONG {code}") == said(ReplyText.WRONG_PERSON)
    levels = await rig.rows("SELECT alert_id, level, state FROM escalations WHERE partner = 'GB'")
    assert {row["alert_id"]: (row["level"], row["state"]) for row in levels} == {
        first.alert_id: (1, "declined"),
        second.alert_id: (2, "notified"),
    }


async def test_whoever_has_acknowledged_is_not_asked_again_by_a_colleague(rig: Rig) -> None:
    """Person 2 has it; person 1, whose telephone was still ringing, says that it is not theirs."""
    await released(rig)
    code = await code_for(rig)
    await acknowledge(rig, 2)
    forget_pages(rig)
    await reply(rig, f"WRONG {code}")
    await rig.settle()
    assert SECOND_NUMBER not in texted(rig)


async def test_who_is_told_after_a_colleagues_answer_is_tried_again(rig: Rig) -> None:
    """The next person's message did not arrive: it is wanted like every reminder."""
    await rig.handle(plan(rig, *(somebody(rig, n) for n in (1, 2, 3))).model_copy(update={"plan_version": 2}))
    await released(rig)
    code = await code_for(rig)
    await acknowledge(rig, 3)
    forget_pages(rig)
    await reply(rig, f"WRONG {code}")
    await rig.settle()
    (sent,) = rig.outlets["sms"].sent
    assert (sent.target, sent.message_type) == (SECOND_NUMBER, "level.raised")
    failed = ProviderStatus("sms provider", f"{sent.page_id}.{sent.attempt}", AttemptState.FAILED, Reason.PROVIDER_BUSY)
    await note_status(rig.deps, failed, now=rig.clock.now())
    (row,) = await rig.rows("SELECT state FROM pages WHERE id = $1", sent.page_id)
    assert row["state"] == "due"


async def test_a_person_takes_back_by_another_credential(rig: Rig) -> None:
    """Acknowledged by SMS, taken back in the console with a card."""
    twice = somebody(rig, subjects=("gb-1", "gb-1-card"))
    await rig.handle(plan(rig, twice, somebody(rig, 2)).model_copy(update={"plan_version": 2}))
    await released(rig)
    await reply(rig, f"YES {await code_for(rig)}")
    card = replace(person("GB"), subject="gb-1-card", client_id="gb-1-card")
    await take(rig, PositionStance.WRONG_PERSON, who=card)
    assert (await rig.escalation("GB"))["state"] == "notified"


# --- takeovers --------------------------------------------------------------------------------------------------------


async def test_the_partners_own_late_answer_is_an_acknowledgement(rig: Rig) -> None:
    """CA has taken GB over; GB's own contact is told that they have acknowledged, not that they have taken over."""
    await released(rig)
    await take_over(rig)
    assert f"{REFERENCE} is acknowledged" in await reply(rig, f"YES {await code_for(rig)}")


def two_officers(rig: Rig) -> Any:
    """CA's plan with a second level, of another officer."""
    officers = officer_of(rig, "CA")
    deputy = somebody(rig, 2).model_copy(update={"id": rig.contact("CA", 2).id, "subjects": ("ca-2",)})
    target = officers.levels[0].targets[0].model_copy(update={"kind": "contact", "id": deputy.id})
    return officers.model_copy(
        update={
            "contacts": (*officers.contacts, deputy),
            "levels": (*officers.levels, officers.levels[0].model_copy(update={"targets": (target,)})),
            "plan_version": officers.plan_version + 1,
        }
    )


@pytest.mark.parametrize("way", ["text", "key"])
async def test_the_wrong_person_to_take_over_passes_the_question_on(rig: Rig, way: str) -> None:
    """The next one is asked at once; the same again is one; and nobody is told that anything has ended."""
    await rig.handle(two_officers(rig))
    await released(rig)
    await rig.forward(minutes=30)
    code = await code_for(rig, NUMBERS["CA"])
    (call, *_) = await rig.rows("SELECT id FROM pages WHERE partner = 'CA' AND channel = 'voice' AND asks")
    for _ in range(2):
        if way == "text":
            assert await reply(rig, f"WRONG {code}", address=NUMBERS["CA"]) == said(ReplyText.WRONG_PERSON)
        else:
            assert (await answer_key(rig.deps, call["id"], "3", cause=cause(rig))).result is Result.PASSED_ON
    await rig.settle()
    row = await rig.escalation("CA", "takeover")
    assert (row["state"], row["level"]) == ("notified", 2)
    assert SECOND_NUMBER in texted(rig)


async def test_who_is_only_informed_is_told_that_nothing_is_asked(rig: Rig) -> None:
    """The alert has not ended."""
    office = rig.plan("GB").office
    assert office is not None
    number = "+447700900999"
    office = office.model_copy(update={"points": (rig.point(number, ChannelName.SMS),)})
    await rig.handle(plan(rig, somebody(rig)).model_copy(update={"office": office, "plan_version": 2}))
    await rig.handle(rig.released("XR", informed=("GB",)))
    await rig.settle()
    text = await reply(rig, f"WRONG {await code_for(rig, number)} Anna Example", address=number)
    assert text == said(ReplyText.NOTHING_ASKED, what=REFERENCE)


async def test_a_second_silence_is_taken_over_anew(rig: Rig) -> None:
    """CA took GB over, GB answered, an Update came, and GB took its answer back: CA is rung again, at once."""
    alert = await released(rig)
    await take_over(rig)
    await rig.forward(minutes=1)
    await acknowledge(rig)
    await rig.forward(minutes=1)
    await updated(rig, alert)
    await take(rig, PositionStance.WRONG_PERSON)
    forget_pages(rig)
    await rig.forward(minutes=10, seconds=5)
    own, takeover = await rig.escalation("GB"), await rig.escalation("CA", "takeover")
    assert (own["state"], own["taken_over_at"]) == ("unreached", None)
    assert (takeover["state"], takeover["taken_over_at"]) == ("notified", None)
    assert NUMBERS["CA"] in texted(rig)


async def test_a_takeover_of_before_the_answer_is_over_whichever_message_it_was_about(rig: Rig) -> None:
    """The Update came between takeover and answer: what GB takes back then rings CA again, at once."""
    alert = await released(rig)
    await take_over(rig)
    await rig.forward(minutes=1)
    await updated(rig, alert)
    await acknowledge(rig)
    await take(rig, PositionStance.WRONG_PERSON)
    forget_pages(rig)
    await rig.forward(minutes=10, seconds=5)
    assert (await rig.escalation("GB"))["state"] == "unreached"
    assert (await rig.escalation("CA", "takeover"))["taken_over_at"] is None
    assert NUMBERS["CA"] in texted(rig)


async def test_who_is_asked_again_to_take_over_may_be_the_wrong_person_again(rig: Rig) -> None:
    """The secretariat took over; half an hour later CA's first officer is asked again, and it is still not theirs."""
    await rig.handle(two_officers(rig))
    await released(rig)
    await rig.forward(minutes=30, seconds=5)
    await reply(rig, f"WRONG {await code_for(rig, NUMBERS['CA'])}", address=NUMBERS["CA"])
    row = await rig.escalation("GB")
    await answers.take_over(rig.deps, person("XR", Role.SECRETARIAT), row["id"], cause=cause(rig))
    await rig.forward(minutes=30, seconds=5)
    assert (await rig.escalation("CA", "takeover"))["level"] == 1
    forget_pages(rig)
    await reply(rig, f"WRONG {await code_for(rig, NUMBERS['CA'])}", address=NUMBERS["CA"])
    await rig.settle()
    assert (await rig.escalation("CA", "takeover"))["level"] == 2
    assert SECOND_NUMBER in texted(rig)
