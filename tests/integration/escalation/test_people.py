"""Pages to people: what they are told, in which order their contact points are paged, and how messages gather."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from services.escalation import answers
from services.escalation.answering import links
from services.escalation.people import persons
from services.escalation.people.persons import message_of
from shared.contracts import (
    ChannelName,
    DutyPlanPublished,
    LevelTarget,
    PlannedContact,
    PlannedLevel,
    PlannedPoint,
    Tlp,
)
from shared.events import Cause
from shared.ids import derived
from shared.loops import Loop
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Rig, escalation_rig, person

URL = "https://redphone.example"


@pytest_asyncio.fixture
async def rig(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Rig]:
    """Escalation with an outlet for each channel to people; each has a provider of its own."""
    async with escalation_rig(cluster, tmp_path, people=("sms", "voice", "email"), public_url=URL) as built:
        yield built


def somebody(rig: Rig, number: int = 1, *points: PlannedPoint, **changes: Any) -> PlannedContact:
    """Person `number` of Great Britain with these contact points; an SMS alone if none is named."""
    fields: dict[str, Any] = {
        "id": derived("contact", f"gb-{number}"),
        "name": f"Example Person {number} of GB",
        "title": f"Senior contact {number}",
        "points": points or (rig.point(f"+4477009001{number:02}", ChannelName.SMS),),
        "subjects": (f"gb-{number}",),
    }
    return PlannedContact(**{**fields, **changes})


def plan(rig: Rig, *levels: Sequence[PlannedContact], **changes: Any) -> DutyPlanPublished:
    """Great Britain's plan: who is paged at each level, whatever the hour."""
    fields = {
        "endpoints": (),
        "levels": tuple(
            PlannedLevel(targets=tuple(LevelTarget(kind="contact", id=contact.id) for contact in level))
            for level in levels
        ),
        "contacts": tuple({contact.id: contact for level in levels for contact in level}.values()),
        "rotas": (),
    }
    return rig.plan("GB").model_copy(update={**fields, **changes})


async def page_rows(rig: Rig, channel: str) -> list[Any]:
    """The pages of one channel, oldest first."""
    return await rig.rows("SELECT * FROM pages WHERE channel = $1 ORDER BY created_at, id", channel)


async def test_person_is_told_in_their_language_with_link_and_code(rig: Rig) -> None:
    """A page to a person carries a message in their language, with the link and the code of that page."""
    await rig.handle(plan(rig, [somebody(rig, languages=("fr", "en"))]))
    await rig.handle(rig.released("GB"))
    await rig.settle()
    [sent] = rig.outlets["sms"].sent
    message = sent.message
    assert message is not None
    assert message.language == "fr"
    assert message.link == links.link_of(URL, rig.keys, sent.page_id)
    assert message.code == links.code_of(rig.keys, sent.page_id)
    assert message.link in message.short
    assert message.code in message.short
    assert message.is_urgent
    assert sent.body == b""


async def test_each_of_many_gets_their_own_link_and_code(rig: Rig) -> None:
    """Two people who are told the same get it each with their own link and code, and nobody else's."""
    await rig.handle(plan(rig, [somebody(rig, 1), somebody(rig, 2)]))
    await rig.handle(rig.released("GB"))
    await rig.settle()
    for sent in rig.outlets["sms"].sent:
        message = sent.message
        assert message is not None
        assert message.link == links.link_of(URL, rig.keys, sent.page_id)
        for form in (message.text, message.short, message.html):
            assert form.count(links.token_of(rig.keys, sent.page_id)) >= 1
            assert links.code_of(rig.keys, sent.page_id) in form
    one, other = (sent.message for sent in rig.outlets["sms"].sent)
    assert one is not None
    assert other is not None
    assert one.link is not None
    assert one.link not in other.text + other.html + other.short


async def test_same_message_at_any_time(rig: Rig) -> None:
    """Whoever asks again what a page says gets the message that was sent."""
    await rig.handle(plan(rig, [somebody(rig)]))
    await rig.handle(rig.released("GB"))
    await rig.settle()
    [sent] = rig.outlets["sms"].sent
    assert await message_of(rig.deps, sent.page_id) == sent.message


async def test_nothing_to_say_of_a_page_to_a_system(rig: Rig) -> None:
    """A page to a system, or one that there is not, has no message to a person."""
    await rig.handle(rig.plan("GB"))
    await rig.handle(rig.released("GB"))
    await rig.settle()
    assert await message_of(rig.deps, rig.outlet.sent[0].page_id) is None
    assert await message_of(rig.deps, rig.ids.new()) is None


async def test_label_withholds_the_text_from_every_channel(rig: Rig) -> None:
    """Of an alert at TLP:RED a person is told precedence and sender, and where to log in."""
    await rig.handle(plan(rig, [somebody(rig)]))
    await rig.handle(rig.released("GB", tlp=Tlp.RED))
    await rig.settle()
    message = rig.outlets["sms"].sent[0].message
    assert message is not None
    said = message.text + message.short + message.html + message.subject + message.voice.alert
    assert "FLASH" in said
    assert "Kabul" not in said
    assert "RP-CA-2021-0001" not in said


async def test_reply_finds_its_page_by_the_address(rig: Rig) -> None:
    """What is kept beside a page to find it by a reply is made of the address, and is not the address."""
    await rig.handle(plan(rig, [somebody(rig)]))
    await rig.handle(rig.released("GB"))
    [page] = await page_rows(rig, "sms")
    assert page["reply_key"] == links.reply_key(rig.keys, "sms", "+447700900101")
    assert page["languages"] == ["en"]
    assert page["answer_by_at"] == rig.clock.now() + timedelta(minutes=10)


async def test_pages_to_systems_hold_nothing_of_people(rig: Rig) -> None:
    """The row of a page to a system has no languages, no zone and no reply key."""
    await rig.handle(rig.plan("GB"))
    await rig.handle(rig.released("GB"))
    for page in await page_rows(rig, "webhook"):
        assert not page["languages"]
        assert (page["time_zone"], page["reply_key"], page["answer_by_at"]) == (None, None, None)


async def test_whoever_is_only_informed_is_asked_for_nothing(rig: Rig) -> None:
    """A partner that is only informed is told of the alert without link, code or a time to answer by."""
    office = rig.plan("GB").office
    assert office is not None
    points = (rig.point("+447700900100", ChannelName.SMS),)
    await rig.handle(plan(rig, [], office=office.model_copy(update={"points": points})))
    await rig.handle(rig.released(informed=("GB",)))
    await rig.settle()
    message = rig.outlets["sms"].sent[0].message
    assert message is not None
    assert (message.link, message.code) == (None, None)


@pytest.mark.logs_error("page.unsayable")
async def test_what_cannot_be_said_does_not_keep_the_next_point(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of ours while a message is made counts as a failure of that page: it is told, and tried again."""

    def unable(*_arguments: object, **_options: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(persons, "say", unable)
    await rig.handle(plan(rig, [somebody(rig)]))
    await rig.handle(rig.released("GB"))
    await rig.settle()
    [attempt] = await rig.rows("SELECT state, reason, detail FROM attempts")
    assert tuple(attempt) == ("failed", "internal", "ZeroDivisionError")
    [page] = await page_rows(rig, "sms")
    assert page["state"] == "due"


@pytest.mark.logs_error("reconciler.alarm_raised")
async def test_messages_without_links_are_an_alarm(cluster: Cluster, tmp_path: Path) -> None:
    """Where people are written to and the public URL is not set, the administrator is told; the code works anyway."""
    async with escalation_rig(cluster, tmp_path, people=("sms",)) as rig:
        await rig.handle(plan(rig, [somebody(rig)]))
        await rig.handle(rig.released("GB"))
        await rig.settle()
        message = rig.outlets["sms"].sent[0].message
        assert message is not None
        assert message.link is None
        assert message.code is not None
        assert message.code in message.short
        with capture_logs() as logged:
            await rig.service.loops["reconciler"].run_once()
    assert any("REDPHONE_PUBLIC_URL" in str(entry.get("alarm")) for entry in logged)


async def test_pages_that_are_handed_over_are_told_alike(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a transaction hands to the senders itself says what the loop would find, also where it only informs."""
    await rig.handle(plan(rig, [somebody(rig)]))
    monkeypatch.setattr(Loop, "running", property(lambda _loop: True))
    alert = rig.released("GB")
    await rig.handle(alert)
    escalation = await rig.escalation("GB")
    await rig.settle()
    await answers.acknowledge(
        rig.deps, person("GB"), escalation["id"], contact_id=None, via="api", cause=Cause(rig.ids.new())
    )
    await rig.handle(rig.update_of(alert))
    await rig.settle()
    asked, informed = rig.outlets["sms"].sent
    assert [page.message_type for page in (asked, informed)] == ["alert.released", "alert.updated"]
    for page in (asked, informed):
        assert await message_of(rig.deps, page.page_id) == page.message
    assert informed.message is not None
    assert informed.message.code is None
