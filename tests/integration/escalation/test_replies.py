"""Replies by SMS, mail and telephone keys: who acted on what, what is said back, and what changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from services.escalation.answering import links
from services.escalation.answering import store as reply_store
from services.escalation.answering.replies import (
    CANDIDATES_MAX,
    REPLACEMENTS_MAX,
    REPLIED_TO_WITHIN,
    WRONG_TRIES_MAX,
    Result,
    answer_key,
    answer_text,
    forget_replies,
    people_on_duty,
)
from services.escalation.answers import PositionRequest, acknowledge, acknowledge_alerts, take_position
from services.escalation.channels import AttemptState, ProviderStatus, Reason, SendResult
from services.escalation.people.texts import ReplyText, reply_text
from services.escalation.receipts import note_status
from shared.contracts import AlertReleased, ChannelName, EndReason, LevelTarget, PlannedLevel, PositionStance, Tlp
from shared.errors import Unavailable
from shared.events import Cause
from tests.integration.escalation.test_link_page import URL, office_plan, plan, somebody
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Rig, escalation_rig, person

NUMBER = "+447700900101"
"""Person 1 of Great Britain."""


@pytest_asyncio.fixture
async def rig(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Rig]:
    """Escalation that pages people by SMS, voice and mail."""
    async with escalation_rig(cluster, tmp_path, people=("sms", "voice", "email"), public_url=URL) as built:
        yield built


async def asked(rig: Rig, *people: Any, **changes: Any) -> AlertReleased:
    """An alert of Canada to Great Britain, paged."""
    await rig.handle(plan(rig, *(people or (somebody(rig),))))
    alert = rig.released("GB", **changes)
    await rig.handle(alert)
    await rig.settle()
    return alert


async def page_of(rig: Rig, address: str = NUMBER) -> UUID:
    """The newest page to an address whose code it was told."""
    key = links.reply_key(rig.keys, "sms", address)
    rows = await rig.rows(
        "SELECT id FROM pages WHERE reply_key = $1 AND (sent_with IS NULL OR sent_with = id)"
        " ORDER BY created_at DESC, id DESC LIMIT 1",
        key,
    )
    return rows[0]["id"]  # type: ignore[no-any-return]


async def code_for(rig: Rig, address: str = NUMBER) -> str:
    """The code that the newest message to an address carries."""
    return links.code_of(rig.keys, await page_of(rig, address))


def none_of(*codes: str) -> str:
    """Four digits that are none of these."""
    return next(f"{number:04}" for number in range(10_000) if f"{number:04}" not in codes)


async def reply(rig: Rig, text: str, *, address: str = NUMBER, message_id: str | None = None) -> str:
    """An SMS from an address, as a provider hands it over; returns what is said back."""
    return await answer_text(
        rig.deps,
        channel="sms",
        address=address,
        text=text,
        provider="twilio",
        provider_message_id=message_id or f"SM{rig.ids.new().hex}",
        cause=Cause(correlation_id=rig.ids.new()),
    )


def said(kind: ReplyText, language: str = "en", **values: object) -> str:
    """What the approved texts say back."""
    return reply_text(kind, (language,), **values)  # type: ignore[arg-type]


async def test_yes_and_the_code_acknowledges(rig: Rig) -> None:
    """Replying "YES 4821" acknowledges as the contact whose number it came from, and says so with the reference."""
    alert = await asked(rig)
    answer = await reply(rig, f"YES {await code_for(rig)}")
    row = await rig.escalation("GB")
    assert (row["state"], row["acknowledged_via"]) == ("acknowledged", "sms")
    assert row["acknowledged_by"]["name"] == "Example Person 1 of GB"
    assert answer == said(ReplyText.ACKNOWLEDGED, what=alert.reference, by="Example Person 1 of GB")
    [entry] = await rig.rows("SELECT * FROM record WHERE kind = 'escalation.partner_acknowledged'")
    assert (entry["subject"], entry["data"]["via"]) == ("gb-1", "sms")
    assert entry["data"]["page_id"] == str(await page_of(rig))


async def test_any_language_is_understood_and_the_answer_is_in_theirs(rig: Rig) -> None:
    """An officer who reads Arabic answers with an Arabic word and Arabic-Indic digits, and is answered in Arabic."""
    alert = await asked(rig, somebody(rig, languages=("ar",)))
    code = "".join(chr(0x660 + int(digit)) for digit in await code_for(rig))
    answer = await reply(rig, f"نعم {code}")
    assert (await rig.escalation("GB"))["state"] == "acknowledged"
    assert answer == said(ReplyText.ACKNOWLEDGED, "ar", what=alert.reference, by="Example Person 1 of GB")


async def test_the_same_message_handed_over_again_is_one_reply(rig: Rig) -> None:
    """A provider that calls twice gets the same words, and nothing happens twice: not even a try is counted."""
    await asked(rig)
    code = await code_for(rig)
    first = await reply(rig, f"YES {code}", message_id="SM1")
    rig.clock.advance(5)
    assert await reply(rig, f"YES {code}", message_id="SM1") == first
    assert len(await rig.events("partner_acknowledged")) == 1
    wrong = await reply(rig, f"YES {none_of(code)}", message_id="SM2")
    assert await reply(rig, f"YES {none_of(code)}", message_id="SM2") == wrong
    [row] = await rig.rows("SELECT wrong_tries FROM answer_codes WHERE wrong_tries > 0")
    assert row["wrong_tries"] == 1


async def test_the_same_message_handed_over_twice_at_once_is_one_reply(rig: Rig) -> None:
    """Two copies at the same moment get the same words."""
    await asked(rig)
    text = f"YES {await code_for(rig)}"
    answers = await asyncio.gather(*(reply(rig, text, message_id="SM1") for _ in range(5)))
    assert len(set(answers)) == 1
    assert len(await rig.events("partner_acknowledged")) == 1


async def test_no_code_is_kept_of_a_reply(rig: Rig) -> None:
    """What is kept beside a reply is its outcome: neither its words nor a code nor the number."""
    await rig.handle(office_plan(rig))
    await rig.handle(rig.released("GB"))
    await rig.settle()
    code = await code_for(rig, "+447700900999")
    answer = await reply(rig, f"YES {code}", address="+447700900999", message_id="SM1")
    assert code in answer, "it says how to send the name with the code"
    [row] = await rig.rows("SELECT * FROM provider_messages")
    assert code not in str(row["answer"])
    assert "900999" not in str(dict(row))
    assert await reply(rig, f"YES {code}", address="+447700900999", message_id="SM1") == answer


async def test_what_no_provider_sends_again_is_forgotten(rig: Rig) -> None:
    """A reply is remembered for a month, and then no longer."""
    await asked(rig)
    await reply(rig, "HELP", message_id="SM1")
    rig.clock.advance(REPLIED_TO_WITHIN.total_seconds() - 1)
    assert await forget_replies(rig.deps) == 0
    rig.clock.advance(2)
    assert await forget_replies(rig.deps) == 1
    assert await rig.rows("SELECT 1 FROM provider_messages") == []


async def test_an_office_says_who_speaks(rig: Rig) -> None:
    """To an office's message "YES 4821" is not enough; with a name it is that person's acknowledgement."""
    await rig.handle(office_plan(rig))
    await rig.handle(rig.released("GB"))
    await rig.settle()
    code = await code_for(rig, "+447700900999")
    assert await reply(rig, f"YES {code}", address="+447700900999") == said(ReplyText.NAME_NEEDED, code=code)
    assert (await rig.escalation("GB"))["acknowledged_at"] is None
    await reply(rig, f"YES {code} Jo Example", address="+447700900999")
    row = await rig.escalation("GB")
    assert (row["state"], row["acknowledged_by"]["name"]) == ("acknowledged", "Jo Example")


@pytest.mark.parametrize("text", ["", "   ", "what is this?", "\U0001f600", "4" * 5000, "YES", "YES 12", "\x00\ufeff"])
async def test_unknown_words_change_nothing_and_are_answered_with_help(rig: Rig, text: str) -> None:
    """What is not understood, or has no code of four digits, changes nothing and is no try; it says what to send."""
    await asked(rig)
    answer = await reply(rig, text)
    assert answer in {said(ReplyText.NOT_UNDERSTOOD), said(ReplyText.HELP)}
    assert (await rig.escalation("GB"))["state"] == "notified"
    assert await rig.rows("SELECT 1 FROM answer_codes WHERE wrong_tries > 0") == []


async def test_strangers_are_not_answered(rig: Rig) -> None:
    """A number that we have not written to gets no answer, changes nothing, and locks nobody's code."""
    await asked(rig)
    code = await code_for(rig)
    for _ in range(WRONG_TRIES_MAX + 1):
        assert await reply(rig, f"YES {code}", address="+15005550006") == ""
    assert (await rig.escalation("GB"))["acknowledged_at"] is None
    assert await rig.rows("SELECT 1 FROM answer_codes") == []


async def test_an_answer_before_the_rows_is_asked_for_again(rig: Rig) -> None:
    """A message has left and is not stored yet: its code is no wrong one, and the provider hands it in again."""
    await asked(rig)
    head = "UPDATE alert_heads SET opening_id = alert_id, opening_at = received_at RETURNING alert_id"
    [row] = await rig.rows(head)
    with pytest.raises(Unavailable):
        await reply(rig, "YES 0000", message_id="one")
    await rig.rows("UPDATE alert_heads SET opening_id = NULL, opening_at = NULL WHERE alert_id = $1", row["alert_id"])
    assert await reply(rig, f"YES {await code_for(rig)}", message_id="one") != ""
    assert (await rig.escalation("GB"))["state"] == "acknowledged"


async def test_five_wrong_codes_lock_and_send_another_message(rig: Rig) -> None:
    """After five wrong codes the right one is refused and another message is sent, whose code counts."""
    await asked(rig)
    first = await page_of(rig)
    code = links.code_of(rig.keys, first)
    rig.clock.advance(1)
    for number in range(1, WRONG_TRIES_MAX + 1):
        expected = ReplyText.UNKNOWN_CODE if number < WRONG_TRIES_MAX else ReplyText.LOCKED
        assert await reply(rig, f"YES {none_of(code)}") == said(expected)
    assert await reply(rig, f"YES {code}") == said(ReplyText.LOCKED)
    assert (await rig.escalation("GB"))["acknowledged_at"] is None
    await rig.settle()
    again = await page_of(rig)
    assert again != first
    assert [event["via"] for event in await rig.events("answer_code_locked")] == ["sms"]
    await reply(rig, f"YES {links.code_of(rig.keys, again)}")
    assert (await rig.escalation("GB"))["state"] == "acknowledged"


async def test_a_code_that_no_message_has_is_a_try_at_each(rig: Rig) -> None:
    """With several open messages a guess has no better chance: it is counted at all of them."""
    await rig.handle(plan(rig, somebody(rig)))
    for number in (1, 2):
        await rig.handle(rig.released("GB", reference=f"RP-CA-2021-000{number}"))
        await rig.settle()
        rig.clock.advance(90)
    codes = [
        links.code_of(rig.keys, row["id"]) for row in await rig.rows("SELECT id FROM pages WHERE sent_with IS NULL")
    ]
    await reply(rig, f"YES {none_of(*codes)}")
    assert [row["wrong_tries"] for row in await rig.rows("SELECT wrong_tries FROM answer_codes")] == [1, 1]


async def test_forged_guesses_end(rig: Rig) -> None:
    """Whoever forges a number and guesses makes us write a few more messages, and then no more."""
    await asked(rig)
    for _ in range(REPLACEMENTS_MAX + 3):
        codes = [links.code_of(rig.keys, row["id"]) for row in await rig.rows("SELECT id FROM pages")]
        for _ in range(WRONG_TRIES_MAX):
            await reply(rig, f"YES {none_of(*codes)}")
        rig.clock.advance(61)
        await rig.settle()
    sent = [row["id"] for row in await rig.rows("SELECT id FROM pages WHERE message_type = 'code.replaced'")]
    assert len(sent) == REPLACEMENTS_MAX


async def test_whoever_answers_while_a_code_is_locked_is_not_sent_another(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An acknowledgement that arrives just as the fifth guess locks a code ends the message in its place, too."""
    await asked(rig)
    code = await code_for(rig)
    escalation_id = (await rig.escalation("GB"))["id"]
    for _ in range(WRONG_TRIES_MAX - 1):
        await reply(rig, f"YES {none_of(code)}")
    replace_pages, answering = reply_store.replace_pages, []

    async def replaced_late(*what: Any) -> None:
        given = acknowledge(
            rig.deps, person("GB"), escalation_id, contact_id=None, via="api", cause=Cause(rig.ids.new())
        )
        answering.append(asyncio.create_task(given))
        # It gets through, or waits for this very transaction.
        await asyncio.wait(answering, timeout=0.5)
        await replace_pages(*what)

    monkeypatch.setattr(reply_store, "replace_pages", replaced_late)
    await reply(rig, f"YES {none_of(code)}")
    await asyncio.gather(*answering)
    rig.outlets["sms"].sent.clear()
    await rig.settle()
    assert (await rig.escalation("GB"))["state"] == "acknowledged"
    assert rig.outlets["sms"].sent == []


async def test_guesses_and_answers_do_not_block_each_other(rig: Rig) -> None:
    """A guess that locks the codes of several messages, and an answer to all of them, at the same time: both come
    through.
    """
    await rig.handle(plan(rig, somebody(rig)))
    for number in (1, 2, 3, 4):
        await rig.handle(rig.released("GB", reference=f"RP-CA-2021-000{number}"))
        await rig.settle()
        rig.clock.advance(90)
    codes = [links.code_of(rig.keys, row["id"]) for row in await rig.rows("SELECT id FROM pages")]
    for _ in range(WRONG_TRIES_MAX - 1):
        await reply(rig, f"YES {none_of(*codes)}")
    cause = Cause(correlation_id=rig.ids.new())
    said_back, _ = await asyncio.gather(
        reply(rig, f"YES {none_of(*codes)}"),
        acknowledge_alerts(rig.deps, person("GB"), None, contact_id=None, via="api", cause=cause),
    )
    assert said_back == said(ReplyText.LOCKED)
    assert {row["state"] for row in await rig.rows("SELECT state FROM escalations")} == {"acknowledged"}
    await rig.settle()
    assert await rig.rows("SELECT 1 FROM pages WHERE asks AND state <> 'ended' AND state <> 'done'") == []


async def test_code_of_a_page_that_left_alone_after_it_had_left_with_others(rig: Rig) -> None:
    """A message that failed may be tried again in parts: the code that each part carries answers it."""
    rig.outlets["sms"].answers[NUMBER] = SendResult(AttemptState.FAILED, Reason.PROVIDER_BUSY, None, 429, None, 0.01)
    await rig.handle(plan(rig, somebody(rig)))
    for number in (1, 2):
        await rig.handle(rig.released("GB", reference=f"RP-CA-2021-000{number}"))
    await rig.settle()
    [leading] = await rig.rows("SELECT escalation_id FROM pages WHERE channel = 'sms' AND sent_with = id")
    await acknowledge(
        rig.deps,
        person("GB"),
        leading["escalation_id"],
        contact_id=None,
        via="api",
        cause=Cause(correlation_id=rig.ids.new()),
    )
    rig.outlets["sms"].answers.clear()
    rig.outlets["sms"].sent.clear()
    await rig.forward(seconds=2)
    [page] = rig.outlets["sms"].sent
    assert page.message is not None
    await reply(rig, f"YES {page.message.code}")
    assert {row["state"] for row in await rig.rows("SELECT state FROM escalations")} == {"acknowledged"}


async def test_what_only_informs_does_not_crowd_out_what_asks(rig: Rig) -> None:
    """However much a person was told since, the code of the message that asks them is known."""
    await asked(rig)
    code = await code_for(rig)
    await rig.rows(
        "INSERT INTO pages SELECT (jsonb_populate_record(p, jsonb_build_object('id', gen_random_uuid(), 'asks', false,"
        " 'message_type', 'answer.received', 'state', 'done', 'created_at', p.created_at + interval '1 minute'))).*"
        " FROM pages p, generate_series(1, $1::integer) WHERE p.asks RETURNING id",
        CANDIDATES_MAX + 1,
    )
    await reply(rig, f"YES {code}")
    assert (await rig.escalation("GB"))["state"] == "acknowledged"


async def test_all_answers_everything_together(rig: Rig) -> None:
    """Replying "ALL 4821" acknowledges all that the government still owes, and says how many."""
    await rig.handle(plan(rig, somebody(rig)))
    for number in (1, 2, 3):
        await rig.handle(rig.released("GB", reference=f"RP-CA-2021-000{number}"))
        await rig.settle()
        rig.clock.advance(90)
    answer = await reply(rig, f"ALL {await code_for(rig)}")
    assert answer == said(ReplyText.ALL_ACKNOWLEDGED, count=3, by="Example Person 1 of GB")
    states = await rig.rows("SELECT DISTINCT state FROM escalations")
    assert [row["state"] for row in states] == ["acknowledged"]


async def test_wrong_passes_on_and_stop_stops_only_their_own(rig: Rig) -> None:
    """Replying "WRONG 4821" pages the next person at once; "STOP 4821" ends what still asks this one."""
    await asked(rig, somebody(rig), somebody(rig, 2))
    rig.outlets["sms"].sent.clear()
    assert await reply(rig, f"WRONG {await code_for(rig)}") == said(ReplyText.WRONG_PERSON)
    await rig.settle()
    assert [sent.target for sent in rig.outlets["sms"].sent] == ["+447700900102"]
    answer = await reply(rig, f"STOP {await code_for(rig, '+447700900102')}", address="+447700900102")
    assert answer == said(ReplyText.STOPPED)
    assert (await rig.escalation("GB"))["state"] == "notified"


async def test_whoever_has_stopped_is_not_rung_by_what_comes_late(rig: Rig) -> None:
    """After STOP neither a provider's word that the message did not arrive, nor a stranger's guesses, send another."""
    await asked(rig)
    [sent] = rig.outlets["sms"].sent
    code = await code_for(rig)
    assert await reply(rig, f"STOP {code}") == said(ReplyText.STOPPED)
    lost = ProviderStatus("sms provider", f"{sent.page_id}.{sent.attempt}", AttemptState.FAILED, Reason.NOT_DELIVERED)
    assert await note_status(rig.deps, lost, now=rig.clock.now())
    await rig.forward(minutes=3)
    for _ in range(WRONG_TRIES_MAX):
        await reply(rig, f"YES {none_of(code)}")
    await rig.forward(minutes=3)
    assert rig.outlets["sms"].sent == [sent]


async def test_stop_needs_the_code(rig: Rig) -> None:
    """A "STOP" alone, which anybody with a forged number can send, stops nothing."""
    await asked(rig)
    assert await reply(rig, "STOP") == said(ReplyText.NOT_UNDERSTOOD)
    assert await rig.rows("SELECT 1 FROM record WHERE kind = 'pages.stopped'") == []


async def test_ended_and_answered_are_told_apart(rig: Rig) -> None:
    """Whoever answers after a colleague, or after the end, is told so and nothing changes."""
    alert = await asked(rig)
    code = await code_for(rig)
    await reply(rig, f"YES {code}")
    assert await reply(rig, f"YES {code}") == said(ReplyText.ALREADY_ANSWERED, what=alert.reference)
    await rig.handle(rig.ended(alert, EndReason.CANCELLED))
    changed_at = (await rig.escalation("GB"))["changed_at"]
    assert await reply(rig, f"YES {code}") == said(ReplyText.ENDED, what=alert.reference)
    assert (await rig.escalation("GB"))["changed_at"] == changed_at


async def test_a_refused_act_is_answered_and_kept(rig: Rig) -> None:
    """After the government's answer WRONG is refused; the same message again is refused in the same words."""
    await asked(rig)
    code = await code_for(rig)
    await reply(rig, f"YES {code}")
    escalation_id = (await rig.escalation("GB"))["id"]
    wanted = PositionRequest(stance=PositionStance.DECLINED)
    await take_position(rig.deps, person("GB"), escalation_id, wanted, cause=Cause(correlation_id=rig.ids.new()))
    answer = await reply(rig, f"WRONG {code}", message_id="SM1")
    assert answer == said(ReplyText.ALREADY_ANSWERED)
    assert await reply(rig, f"WRONG {code}", message_id="SM1") == answer
    assert (await rig.escalation("GB"))["state"] == "declined"


async def test_a_strict_label_is_not_named_in_an_answer(rig: Rig) -> None:
    """At RED what is said back names no reference."""
    alert = await asked(rig, tlp=Tlp.RED)
    answer = await reply(rig, f"YES {await code_for(rig)}")
    assert alert.reference not in answer
    assert (await rig.escalation("GB"))["state"] == "acknowledged"


async def test_a_question_by_message_reaches_the_raiser(rig: Rig) -> None:
    """Replying "ASK 4821 …" is a question to the raiser with the words that follow, and acknowledges nothing."""
    await rig.handle(rig.plan("CA"))
    await asked(rig)
    answer = await reply(rig, f"ASK {await code_for(rig)} Are there children among them?")
    assert answer == said(ReplyText.QUESTION_SENT, raiser="CA")
    [event] = await rig.events("question_asked")
    assert event["question"] == "Are there children among them?"
    assert (event["partner"], event["via"]) == ("GB", "sms")
    assert (await rig.escalation("GB"))["state"] == "notified"
    assert await reply(rig, f"ASK {await code_for(rig)}") == said(ReplyText.NOT_UNDERSTOOD)


# --- telephone --------------------------------------------------------------------------------------------------------


async def press(rig: Rig, page_id: UUID, key: str, **more: Any) -> Any:
    """A key pressed in a call for this page."""
    return await answer_key(rig.deps, page_id, key, cause=Cause(correlation_id=rig.ids.new()), **more)


async def called(rig: Rig, **changes: Any) -> UUID:
    """An alert that rang person 1 of Great Britain; returns the page."""
    await rig.handle(plan(rig, somebody(rig, points=(rig.point(NUMBER, ChannelName.VOICE),)), somebody(rig, 2)))
    await rig.handle(rig.released("GB", **changes))
    await rig.settle()
    return await page_of(rig)


async def test_a_key_acknowledges_and_a_key_passes_on(rig: Rig) -> None:
    """1 acknowledges as the person who was called, 3 says "wrong person"; other keys change nothing."""
    page_id = await called(rig)
    for key in ("2", "9", "#", "", "11"):
        assert (await press(rig, page_id, key)).result is Result.NOT_UNDERSTOOD
    assert (await press(rig, page_id, "3")).result is Result.PASSED_ON
    answered = await press(rig, page_id, "1")
    assert answered.result is Result.ACKNOWLEDGED
    row = await rig.escalation("GB")
    assert (row["acknowledged_via"], row["acknowledged_by"]["name"]) == ("voice", "Example Person 1 of GB")
    assert (await press(rig, page_id, "1")).result is Result.ALREADY_ANSWERED
    assert (await press(rig, rig.ids.new(), "1")).result is Result.UNKNOWN


@pytest.mark.parametrize("tlp", [Tlp.RED, Tlp.AMBER_STRICT])
async def test_a_strict_label_is_not_answered_by_a_key(rig: Rig, tlp: Tlp) -> None:
    """At RED and AMBER+STRICT whoever takes the call may be anybody: a key does nothing, the code is needed."""
    page_id = await called(rig, tlp=tlp)
    for key in "13":
        assert (await press(rig, page_id, key)).result is Result.LOG_IN
    assert (await rig.escalation("GB"))["state"] == "notified"


async def test_a_call_to_an_office_asks_who_speaks(rig: Rig) -> None:
    """The keys of an office's call are its people: whoever presses theirs acknowledges; 0 is none of them."""
    given = rig.plan("GB")
    assert given.office is not None
    office = given.office.model_copy(update={"points": (rig.point("+447700900999", ChannelName.VOICE),)})
    level = PlannedLevel(targets=(LevelTarget(kind="office", id=office.id),))
    await rig.handle(given.model_copy(update={"endpoints": (), "levels": (level,), "office": office}))
    await rig.handle(rig.released("GB"))
    await rig.settle()
    page_id = await page_of(rig, "+447700900999")
    nobody = await press(rig, page_id, "0")
    assert nobody.result is Result.NAME_NEEDED
    assert [contact.name for contact in nobody.choices] == ["Example Person 1 of GB", "Example Person 2 of GB"]
    for key in ("3", "8", "9"):
        assert (await press(rig, page_id, key)).result is Result.NOT_UNDERSTOOD
    assert (await press(rig, page_id, "2")).result is Result.ACKNOWLEDGED
    row = await rig.escalation("GB")
    assert row["acknowledged_by"]["name"] == "Example Person 2 of GB"


async def test_whoever_is_on_duty_has_the_first_keys(rig: Rig) -> None:
    """The menu of an office's call begins with those whose shift runs, and has no more people than keys."""
    people = tuple(somebody(rig, number) for number in range(1, 12))
    duty = rig.plan("GB").model_copy(update={"contacts": people})
    await rig.handle(duty)
    async with rig.deps.database.transaction() as tx:
        directory = await rig.deps.directories.find_one(tx, "GB")
    names = [contact.name for contact in people_on_duty(directory, rig.clock.now())]
    assert names[:2] == ["Example Person 1 of GB", "Example Person 2 of GB"]
    assert len(names) == 8
