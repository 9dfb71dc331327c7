"""No silent end: who takes an unreached partner over is paged on everything they have, with what they need to call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.escalation import answers
from services.escalation.answering.replies import answer_text
from services.escalation.channels import PersonMessage
from shared.contracts import ChannelName, DutyPlanPublished, Role
from shared.events import Cause
from tests.integration.escalation.test_people import URL
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Rig, escalation_rig, person

CHANNELS = ("sms", "voice", "email")
SWITCHBOARD, EMBASSY = "+999000100", "+999000200"
SWITCHBOARD_SPOKEN, EMBASSY_SPOKEN = "plus 9 9 9 0 0 0 1 0 0", "plus 9 9 9 0 0 0 2 0 0"
NUMBERS = {"CA": "+16135550101", "XR": "+41225550101"}
MAILS = {"CA": "officer@ca.example", "XR": "officer@xr.example"}


@pytest_asyncio.fixture
async def rig(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Rig]:
    """Nobody of Great Britain has answered for 29 minutes; the officers of Canada and the secretariat have SMS, voice
    and mail.
    """
    async with escalation_rig(cluster, tmp_path, people=CHANNELS, public_url=URL) as built:
        for partner in ("CA", "XR"):
            await built.handle(officer_of(built, partner))
        await built.handle(built.plan("GB"))
        await built.handle(built.released("GB"))
        await built.forward(minutes=29)
        for outlet in built.outlets.values():
            outlet.take()
        yield built


def officer_of(rig: Rig, partner: str) -> DutyPlanPublished:
    """A plan with one officer, who is reached by SMS, telephone and mail, and nobody and nothing else."""
    points = (
        rig.point(NUMBERS[partner], ChannelName.SMS),
        rig.point(NUMBERS[partner], ChannelName.VOICE),
        rig.point(MAILS[partner], ChannelName.EMAIL),
    )
    planned = rig.plan(partner, levels=1)
    assert planned.office is not None
    contacts = (rig.contact(partner, 1).model_copy(update={"points": points}),)
    office = planned.office.model_copy(update={"points": ()})
    return planned.model_copy(update={"contacts": contacts, "office": office, "endpoints": ()})


def left(rig: Rig) -> dict[tuple[str, str], PersonMessage]:
    """What has left since the last call about an unreached partner, by channel and address."""
    found: dict[tuple[str, str], PersonMessage] = {}
    for name in CHANNELS:
        for page in rig.outlets[name].sent:
            if page.message_type == "partner.unreached":
                assert page.message is not None
                found[name, page.target] = page.message
        rig.outlets[name].take()
    return found


EVERYWHERE = {
    *((name, number) for name in ("sms", "voice") for number in NUMBERS.values()),
    *(("email", mail) for mail in MAILS.values()),
}


async def test_raiser_and_secretariat_are_paged_on_every_channel_with_numbers_and_script(rig: Rig) -> None:
    """At 30 minutes both officers get SMS, call and mail: switchboard, embassy and what to say, in text and voice."""
    await rig.forward(minutes=1)
    messages = left(rig)
    assert messages.keys() == EVERYWHERE
    for (channel, _), message in messages.items():
        if channel == "voice":
            for part in (SWITCHBOARD_SPOKEN, EMBASSY_SPOKEN, "This is the Red Phone", "wake your duty officer"):
                assert part in message.voice.alert, part
            assert "To take this over, press 1." in message.voice.menu
        elif channel == "sms":
            assert SWITCHBOARD in message.short
            assert message.link is not None
            assert message.link in message.short
        else:
            for form in (message.text, message.html):
                for part in (SWITCHBOARD, EMBASSY, "This is the Red Phone", "wake your duty officer"):
                    assert part in form, part


async def test_they_are_paged_again_and_again(rig: Rig) -> None:
    """Hour after hour while nobody reacts: each interval of the alert rings every telephone once more."""
    await rig.forward(minutes=1)
    left(rig)
    for _ in range(20):
        await rig.forward(minutes=5)
        assert left(rig).keys() == EVERYWHERE


@pytest.mark.parametrize("who", ["CA", "XR"])
async def test_it_rests_when_one_of_them_takes_it_over(rig: Rig, who: str) -> None:
    """One takes it over: neither of them is rung for half an hour, and then both are asked again."""
    await rig.forward(minutes=1)
    left(rig)
    role = Role.SECRETARIAT if who == "XR" else Role.RELEASER
    unreached = await rig.escalation("GB")
    await answers.take_over(rig.deps, person(who, role), unreached["id"], cause=Cause(rig.ids.new()))
    await rig.forward(minutes=29)
    assert left(rig) == {}
    await rig.forward(minutes=2)
    assert left(rig).keys() == EVERYWHERE


async def test_several_unreached_at_once_keep_their_numbers_and_one_answer_takes_all_over(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Two partners fall silent at the same minute: one message on each channel names both and how to call each; "YES"
    with its code takes both over.
    """
    async with escalation_rig(cluster, tmp_path, people=CHANNELS, public_url=URL) as rig:
        for partner in ("CA", "XR"):
            await rig.handle(officer_of(rig, partner))
        for partner, number in (("GB", "+999000100"), ("IT", "+999000300")):
            planned = rig.plan(partner)
            assert planned.office is not None
            office = planned.office.model_copy(update={"switchboard": number})
            await rig.handle(planned.model_copy(update={"office": office}))
        await rig.handle(rig.released("GB", "IT"))
        await rig.settle()
        await rig.forward(minutes=30)
        messages = left(rig)
        sms, mail = messages["sms", NUMBERS["CA"]], messages["email", MAILS["CA"]]
        for number in ("+999000100", "+999000300"):
            assert number in sms.short
            assert number in mail.text
        assert mail.text.count("What to say on the telephone") == 2
        assert "plus 9 9 9 0 0 0 3 0 0" in messages["voice", NUMBERS["CA"]].voice.alert
        await answer_text(
            rig.deps,
            channel="sms",
            address=NUMBERS["CA"],
            text=f"YES {sms.code}",
            provider="twilio",
            provider_message_id="SM1",
            cause=Cause(rig.ids.new()),
        )
        rows = await rig.rows("SELECT subject_partner, taken_over_at FROM escalations WHERE partner = 'CA' ORDER BY 1")
        assert [row["subject_partner"] for row in rows] == ["GB", "IT"]
        assert all(row["taken_over_at"] == rig.clock.now() for row in rows)


async def test_it_ends_when_the_partner_answers_after_all(rig: Rig) -> None:
    """A late acknowledgement ends both takeovers: no telephone rings for them any more."""
    await rig.forward(minutes=1)
    left(rig)
    unreached = await rig.escalation("GB")
    await answers.acknowledge(
        rig.deps, person("GB"), unreached["id"], contact_id=None, via="api", cause=Cause(rig.ids.new())
    )
    await rig.settle()
    await rig.forward(hours=2)
    assert left(rig) == {}
    assert {(await rig.escalation(who, "takeover"))["state"] for who in ("CA", "XR")} == {"ended"}
