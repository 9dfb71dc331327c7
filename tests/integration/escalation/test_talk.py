"""Questions back and read-backs: who may say what, who is told, who sees which words, and what is only said once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from services.escalation.answering import links
from services.escalation.talk.questions import QUESTION_CHARACTERS_MAX, QUESTIONS_MAX
from services.escalation.webhooks import WEBHOOKS
from shared.contracts import (
    DEFAULT_DEADLINES,
    Actor,
    ChannelName,
    DutyPlanPublished,
    EndReason,
    Precedence,
    QuestionAnswered,
    QuestionAsked,
    ReadBackConfirmed,
    ReadBackGiven,
    Role,
    Tlp,
)
from shared.errors import Unavailable
from tests.integration.escalation.test_api import PEOPLE, code_of
from tests.integration.escalation.test_link_page import URL
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Rig, calling, escalation_rig, person, publish_credentials, system

RAISER = person("CA", Role.RELEASER, Role.DUTY_OFFICER)
ASKED = person("GB")
OTHER = person("US")
SECRETARIAT = person("XR", Role.SECRETARIAT)
STRANGER = person("ES")

QUESTION = "Are there children among them?"
ANSWER = "Yes, eleven; UNICEF is with them."
READ_BACK = {"country": "Afghanistan", "request": "200 places in transit", "time": "before 31 August"}


@pytest_asyncio.fixture
async def rig(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Rig]:
    """Escalation with people by SMS beside the systems."""
    async with escalation_rig(cluster, tmp_path, people=("sms",), public_url=URL) as built:
        yield built


def with_read_back(plan: DutyPlanPublished) -> DutyPlanPublished:
    """The same plan in a network that wants FLASH alerts read back."""
    flash = DEFAULT_DEADLINES[Precedence.FLASH].model_copy(update={"read_back": True})
    return plan.model_copy(update={"deadlines": {**DEFAULT_DEADLINES, Precedence.FLASH: flash}})


async def asked(rig: Rig, *, read_back: bool = False, **changes: Any) -> str:
    """An alert of Canada to Great Britain and the United States; returns Great Britain's escalation id."""
    await publish_credentials(rig, PEOPLE)
    for code in ("GB", "US", "CA", "XR"):
        plan = rig.plan(code)
        await rig.handle(with_read_back(plan) if read_back else plan)
    await rig.handle(rig.released("GB", "US", **changes))
    await rig.settle()
    rig.outlet.take()
    return str((await rig.escalation("GB"))["id"])


async def post(rig: Rig, principal: Any, path: str, body: dict[str, Any]) -> Any:
    """What a caller gets for a POST."""
    async with calling(rig, principal) as client:
        return await client.post(path, json=body)


async def ask(rig: Rig, escalation_id: str, text: str = QUESTION, principal: Any = ASKED) -> Any:
    """Great Britain asks back."""
    return await post(rig, principal, f"/v1/escalations/{escalation_id}/questions", {"text": text})


async def questions_of(rig: Rig, principal: Any) -> Any:
    """The questions about the alert, as a caller sees them."""
    alert_id = (await rig.escalation("GB"))["alert_id"]
    async with calling(rig, principal) as client:
        return await client.get("/v1/questions", params={"alert_id": str(alert_id)})


def check_webhooks(rig: Rig) -> None:
    """Every body that left is one that the documentation describes."""
    models = {webhook.name: webhook.body for webhook in WEBHOOKS}
    for page in rig.outlet.sent:
        models[page.message_type].model_validate_json(page.body)


# --- questions --------------------------------------------------------------------------------------------------------


async def test_a_question_reaches_the_raiser_and_its_answer_all_who_were_asked(rig: Rig) -> None:
    """The raiser's officers and systems hear the question; systems and people of all who were asked hear the answer."""
    escalation_id = await asked(rig)
    said = await ask(rig, escalation_id)
    assert said.status_code == 201
    await rig.settle()
    check_webhooks(rig)
    assert sorted(rig.outlet.take()) == [("question.asked", "ca-1"), ("question.asked", "ca-system")]
    answered = await post(rig, RAISER, f"/v1/questions/{said.json()['id']}/answer", {"text": ANSWER})
    assert answered.status_code == 200
    assert answered.json()["answer"] == ANSWER
    await rig.settle()
    check_webhooks(rig)
    assert rig.outlet.data()["asked"] == {"question_id": said.json()["id"], "question": QUESTION, "answer": ANSWER}
    assert sorted(rig.outlet.take()) == [
        ("question.answered", target) for target in ("gb-1", "gb-system", "us-1", "us-system")
    ]


async def test_a_question_that_overtakes_its_alert_waits_for_it(rig: Rig) -> None:
    """A question whose alert is not known here yet is not dropped: it is handled when the release has arrived."""
    alert_id = rig.ids.new()
    question = QuestionAsked(
        alert_id=alert_id,
        escalation_id=rig.ids.new(),
        partner="GB",
        raiser="CA",
        question_id=rig.ids.new(),
        asked_at=rig.clock.now(),
        asked_by=Actor(subject="gb-1", partner="GB", name="B. Example"),
        question=QUESTION,
    )
    for code in ("CA", "GB"):
        await rig.handle(rig.plan(code))
    with pytest.raises(Unavailable):
        await rig.handle(question)
    await rig.handle(rig.released("GB", alert_id=alert_id))
    await rig.handle(question)
    await rig.settle()
    assert ("question.asked", "ca-system") in rig.outlet.take()


async def test_whoever_acknowledged_hears_the_answer_though_never_paged(rig: Rig) -> None:
    """Somebody who acknowledged by API without having been paged is told as well."""
    escalation_id = await asked(rig)
    await post(
        rig,
        system("GB"),
        f"/v1/escalations/{escalation_id}/acknowledgement",
        {"contact_id": str(rig.contact("GB", 2).id)},
    )
    said = await ask(rig, escalation_id)
    await rig.settle()
    rig.outlet.take()
    await post(rig, RAISER, f"/v1/questions/{said.json()['id']}/answer", {"text": ANSWER})
    await rig.settle()
    assert "gb-2" in [target for _type, target in rig.outlet.take()]


async def test_the_same_question_and_answer_again_are_one(rig: Rig) -> None:
    """A request that was sent twice is one question, and one answer; another answer is refused."""
    escalation_id = await asked(rig)
    first, second = await ask(rig, escalation_id), await ask(rig, escalation_id, f"  {QUESTION}\n")
    assert first.json()["id"] == second.json()["id"]
    path = f"/v1/questions/{first.json()['id']}/answer"
    assert (await post(rig, RAISER, path, {"text": ANSWER})).status_code == 200
    assert (await post(rig, RAISER, path, {"text": ANSWER})).status_code == 200
    assert code_of(await post(rig, RAISER, path, {"text": "No."})) == (409, "question_answered")
    assert len(await rig.events("question_asked")) == len(await rig.events("question_answered")) == 1


async def test_who_sees_a_question(rig: Rig) -> None:
    """Asker and raiser see all of it, the secretariat its words, others who were asked only once it is answered and not
    who wanted to know, and strangers nothing.
    """
    escalation_id = await asked(rig)
    said = (await ask(rig, escalation_id)).json()
    for viewer in (ASKED, RAISER):
        [shown] = (await questions_of(rig, viewer)).json()["questions"]
        assert (shown["partner"], shown["question"], shown["asked_by"]) == ("GB", QUESTION, "Example Person 1 of GB")
    [shown] = (await questions_of(rig, SECRETARIAT)).json()["questions"]
    assert (shown["partner"], shown["question"], shown["asked_by"]) == ("GB", QUESTION, None)
    assert (await questions_of(rig, OTHER)).json()["questions"] == []
    assert code_of(await questions_of(rig, STRANGER)) == (404, "not_found")
    await post(rig, RAISER, f"/v1/questions/{said['id']}/answer", {"text": ANSWER})
    [shown] = (await questions_of(rig, OTHER)).json()["questions"]
    assert (shown["partner"], shown["asked_by"], shown["answered_by"]) == (None, None, None)
    assert (shown["question"], shown["answer"]) == (QUESTION, ANSWER)


async def test_who_may_ask_and_answer(rig: Rig) -> None:
    """Only the partner that is asked asks, only persons of the raiser answer; a stranger's 404 is that of nothing."""
    escalation_id = await asked(rig)
    path = f"/v1/escalations/{escalation_id}/questions"
    assert code_of(await post(rig, RAISER, path, {"text": QUESTION})) == (403, "not_your_escalation")
    for stranger in (OTHER, STRANGER):
        assert code_of(await post(rig, stranger, path, {"text": QUESTION})) == (404, "not_found")
    assert code_of(await post(rig, person("GB", Role.DRAFTER, number=2), path, {"text": QUESTION}))[0] == 403
    assert code_of(await post(rig, None, path, {"text": QUESTION})) == (401, "token_missing")
    said = (await ask(rig, escalation_id)).json()
    answer = f"/v1/questions/{said['id']}/answer"
    assert code_of(await post(rig, ASKED, answer, {"text": ANSWER})) == (403, "not_the_raiser")
    assert code_of(await post(rig, SECRETARIAT, answer, {"text": ANSWER})) == (403, "not_the_raiser")
    for stranger in (OTHER, STRANGER):
        assert code_of(await post(rig, stranger, answer, {"text": ANSWER})) == (404, "not_found")
    missing = await post(rig, RAISER, f"/v1/questions/{rig.ids.new()}/answer", {"text": ANSWER})
    assert code_of(missing) == (404, "not_found")


@pytest.mark.parametrize("text", ["", "   \n ", "x" * (QUESTION_CHARACTERS_MAX + 1)])
async def test_a_question_has_words_and_not_too_many(rig: Rig, text: str) -> None:
    """No words, or more than 2000 characters, are refused and nothing is written."""
    assert (await ask(rig, await asked(rig), text)).status_code == 422
    assert await rig.events("question_asked") == []


async def test_questions_have_a_limit(rig: Rig) -> None:
    """A partner asks at most fifty questions about an alert; another partner's are not counted with them."""
    escalation_id = await asked(rig)
    for number in range(QUESTIONS_MAX):
        assert (await ask(rig, escalation_id, f"Question {number}?")).status_code == 201
    assert code_of(await ask(rig, escalation_id, "One more?")) == (409, "too_many_questions")
    assert (await ask(rig, str((await rig.escalation("US"))["id"]), QUESTION, OTHER)).status_code == 201


async def test_nothing_is_asked_after_the_end(rig: Rig) -> None:
    """When the alert has ended there is nobody to ask here."""
    await asked(rig)
    row = await rig.escalation("GB")
    alert = rig.released("GB", "US", alert_id=row["alert_id"])
    await rig.handle(rig.ended(alert, EndReason.CLOSED))
    assert code_of(await ask(rig, str(row["id"]))) == (409, "escalation_ended")


async def test_words_stay_out_of_the_record_and_of_strict_channels(rig: Rig) -> None:
    """The record says that a question was asked and answered, not its words; at RED no page carries them."""
    escalation_id = await asked(rig, tlp=Tlp.RED)
    said = (await ask(rig, escalation_id)).json()
    await rig.settle()
    await post(rig, RAISER, f"/v1/questions/{said['id']}/answer", {"text": ANSWER})
    await rig.settle()
    types = {page.message_type for page in rig.outlet.sent}
    assert types == {"question.asked", "question.answered"}
    for page in rig.outlet.sent:
        assert b"children" not in page.body
        assert b"eleven" not in page.body
    entries = await rig.rows("SELECT * FROM record WHERE kind LIKE 'escalation.question%' ORDER BY id")
    assert {entry["kind"] for entry in entries} == {"escalation.question_asked", "escalation.question_answered"}
    assert not any(word in str(dict(entry)) for entry in entries for word in ("children", "eleven", "Person"))
    [shown] = (await questions_of(rig, SECRETARIAT)).json()["questions"]
    assert (shown["question"], shown["answer"]) == (None, None)


async def test_the_feed_shows_each_viewer_what_is_theirs(rig: Rig) -> None:
    """On the feed a question's words are the asker's and the raiser's; the answer is for all who were asked."""
    escalation_id = await asked(rig)
    said = (await ask(rig, escalation_id)).json()
    await post(rig, RAISER, f"/v1/questions/{said['id']}/answer", {"text": ANSWER})
    question = QuestionAsked(**(await rig.events("question_asked"))[0])
    assert question.visible_to() == {"GB", "CA", "XR"}
    assert question.for_viewer("CA") == question
    hidden = question.for_viewer("XR")
    assert (hidden.question, hidden.asked_by.name) == (None, None)
    answer = QuestionAnswered(**(await rig.events("question_answered"))[0])
    assert answer.visible_to() == {"GB", "US", "CA", "XR"}
    assert answer.for_viewer("US").partner is None
    assert answer.for_viewer("US").answer == ANSWER
    assert answer.for_viewer("GB").answered_by.name is None
    assert answer.for_viewer("XR").answer is None


# --- read-back --------------------------------------------------------------------------------------------------------


async def view(rig: Rig, escalation_id: str, principal: Any = ASKED) -> Any:
    """The escalation's read-back, as a caller sees it."""
    async with calling(rig, principal) as client:
        return (await client.get(f"/v1/escalations/{escalation_id}")).json()["read_back"]


async def acknowledge(rig: Rig, escalation_id: str) -> None:
    """Person 1 of Great Britain acknowledges by API."""
    answer = await post(rig, ASKED, f"/v1/escalations/{escalation_id}/acknowledgement", {})
    assert answer.status_code == 200


async def test_where_the_network_does_not_ask_there_is_no_read_back(rig: Rig) -> None:
    """Nothing is required, and giving one is refused."""
    escalation_id = await asked(rig)
    await acknowledge(rig, escalation_id)
    assert await view(rig, escalation_id) is None
    refused = await post(rig, ASKED, f"/v1/escalations/{escalation_id}/read-back", READ_BACK)
    assert code_of(refused) == (409, "no_read_back_asked")


async def test_a_read_back_is_given_and_confirmed(rig: Rig) -> None:
    """After the acknowledgement it is required and asked for; the raiser hears it, and its word settles it."""
    escalation_id = await asked(rig, read_back=True)
    assert await view(rig, escalation_id) is None
    path = f"/v1/escalations/{escalation_id}/read-back"
    assert code_of(await post(rig, ASKED, path, READ_BACK)) == (409, "no_read_back_asked")
    await acknowledge(rig, escalation_id)
    assert (await view(rig, escalation_id))["state"] == "required"
    await rig.settle()
    check_webhooks(rig)
    assert ("read_back.requested", "gb-1") in rig.outlet.take()
    given = await post(rig, ASKED, path, READ_BACK)
    assert given.status_code == 200
    assert given.json()["read_back"]["state"] == "given"
    await rig.settle()
    check_webhooks(rig)
    assert sorted(rig.outlet.take()) == [("read_back.given", "ca-1"), ("read_back.given", "ca-system")]
    confirmed = await post(rig, RAISER, f"{path}/confirmation", {"correct": True})
    assert confirmed.status_code == 200
    assert confirmed.json()["read_back"]["state"] == "confirmed"
    assert code_of(await post(rig, ASKED, path, {**READ_BACK, "time": "now"})) == (409, "read_back_confirmed")
    [event] = await rig.events("read_back_confirmed")
    assert event["correct"] is True


async def test_a_rejected_read_back_is_asked_for_again(rig: Rig) -> None:
    """The person who gave it is asked again with the raiser's note, and the next one may be right."""
    escalation_id = await asked(rig, read_back=True)
    await acknowledge(rig, escalation_id)
    path = f"/v1/escalations/{escalation_id}/read-back"
    await post(rig, ASKED, path, READ_BACK)
    await rig.settle()
    rig.outlet.take()
    await post(rig, RAISER, f"{path}/confirmation", {"correct": False, "note": "It is 400 places."})
    shown = await view(rig, escalation_id)
    assert (shown["state"], shown["correct"], shown["rejections"]) == ("required", False, 1)
    await rig.settle()
    assert rig.outlet.take() == [("read_back.requested", "gb-1")]
    await post(rig, ASKED, path, {**READ_BACK, "request": "400 places in transit"})
    await post(rig, RAISER, f"{path}/confirmation", {"correct": True})
    assert (await view(rig, escalation_id))["state"] == "confirmed"
    assert [event["correct"] for event in await rig.events("read_back_confirmed")] == [False, True]


async def test_read_backs_said_again_are_one(rig: Rig) -> None:
    """The same words again, and the same confirmation again, change nothing; the opposite is refused."""
    escalation_id = await asked(rig, read_back=True)
    await acknowledge(rig, escalation_id)
    path = f"/v1/escalations/{escalation_id}/read-back"
    for _ in range(2):
        assert (await post(rig, ASKED, path, READ_BACK)).status_code == 200
    for _ in range(2):
        assert (await post(rig, RAISER, f"{path}/confirmation", {"correct": True})).status_code == 200
    refused = await post(rig, RAISER, f"{path}/confirmation", {"correct": False})
    assert code_of(refused) == (409, "read_back_confirmed")
    assert len(await rig.events("read_back_given")) == len(await rig.events("read_back_confirmed")) == 1


async def test_who_may_read_back_and_confirm(rig: Rig) -> None:
    """The partner repeats, a person of the raiser confirms; nobody else, and before anything was said nobody."""
    escalation_id = await asked(rig, read_back=True)
    await acknowledge(rig, escalation_id)
    path = f"/v1/escalations/{escalation_id}/read-back"
    assert code_of(await post(rig, RAISER, f"{path}/confirmation", {"correct": True})) == (409, "no_read_back_given")
    assert code_of(await post(rig, RAISER, path, READ_BACK)) == (403, "not_your_escalation")
    assert code_of(await post(rig, OTHER, path, READ_BACK)) == (404, "not_found")
    await post(rig, ASKED, path, READ_BACK)
    for other in (ASKED, SECRETARIAT):
        assert code_of(await post(rig, other, f"{path}/confirmation", {"correct": True})) == (403, "not_the_raiser")
    assert code_of(await post(rig, STRANGER, f"{path}/confirmation", {"correct": True})) == (404, "not_found")


async def test_who_sees_a_read_back(rig: Rig) -> None:
    """Partner and raiser see its words; the secretariat how it stands; the record neither words nor names."""
    escalation_id = await asked(rig, read_back=True)
    await acknowledge(rig, escalation_id)
    await post(rig, ASKED, f"/v1/escalations/{escalation_id}/read-back", READ_BACK)
    for viewer in (ASKED, RAISER):
        assert (await view(rig, escalation_id, viewer))["request"] == READ_BACK["request"]
    shown = await view(rig, escalation_id, SECRETARIAT)
    assert (shown["state"], shown["request"], shown["by"]) == ("given", None, None)
    given = ReadBackGiven(**(await rig.events("read_back_given"))[0])
    assert given.for_viewer("XR").country is None
    assert given.for_viewer("CA") == given
    [entry] = await rig.rows("SELECT * FROM record WHERE kind = 'escalation.read_back_given'")
    assert not any(word in str(dict(entry)) for word in ("Afghanistan", "places", "August", "Person"))
    await post(rig, RAISER, f"/v1/escalations/{escalation_id}/read-back/confirmation", {"correct": False, "note": "No"})
    confirmed = ReadBackConfirmed(**(await rig.events("read_back_confirmed"))[0])
    assert (confirmed.for_viewer("GB").note, confirmed.for_viewer("XR").note) == ("No", None)
    assert confirmed.for_viewer("GB").confirmed_by.name is None


async def test_the_board_moves_when_a_read_back_does(rig: Rig) -> None:
    """The board shows the read-back, and what it sends of changes has it."""
    escalation_id = await asked(rig, read_back=True)
    await acknowledge(rig, escalation_id)
    before = (await rig.escalation("GB"))["changed_at"]
    rig.clock.advance(5)
    await post(rig, ASKED, f"/v1/escalations/{escalation_id}/read-back", READ_BACK)
    assert (await rig.escalation("GB"))["changed_at"] > before
    async with calling(rig, RAISER) as client:
        board = (await client.get("/v1/board")).json()
    [cell] = [cell for cell in board["escalations"] if cell["id"] == escalation_id]
    assert cell["read_back"]["state"] == "given"


async def test_an_acknowledgement_taken_back_takes_the_read_back_with_it(rig: Rig) -> None:
    """After "wrong person" nothing is required until the next one acknowledges, who then repeats it anew."""
    escalation_id = await asked(rig, read_back=True)
    await acknowledge(rig, escalation_id)
    path = f"/v1/escalations/{escalation_id}"
    await post(rig, ASKED, f"{path}/read-back", READ_BACK)
    await post(rig, ASKED, f"{path}/position", {"stance": "wrong_person"})
    assert await view(rig, escalation_id) is None
    await acknowledge(rig, escalation_id)
    shown = await view(rig, escalation_id)
    assert (shown["state"], shown["request"]) == ("required", None)


async def test_the_link_page_asks_for_the_read_back(rig: Rig) -> None:
    """Whoever acknowledged by link finds the three fields there, and no further page asks for what the page does."""
    await publish_credentials(rig, PEOPLE)
    point = rig.point("+447700900101", ChannelName.SMS)
    contact = rig.contact("GB", 1).model_copy(update={"points": (point,)})
    plan = with_read_back(rig.plan("GB", levels=1)).model_copy(update={"contacts": (contact,), "endpoints": ()})
    await rig.handle(plan)
    await rig.handle(rig.released("GB"))
    await rig.settle()
    page_id: UUID = (await rig.rows("SELECT id FROM pages"))[0]["id"]
    path, code = f"/a/{links.token_of(rig.keys, page_id)}", links.code_of(rig.keys, page_id)
    async with calling(rig, None) as client:
        shown = await client.post(path, data={"code": code, "act": "acknowledge"})
        assert 'name="country"' in shown.text
        await rig.settle()
        assert [sent.message_type for sent in rig.outlets["sms"].sent] == ["alert.released"]
        missing = await client.post(path, data={"code": code, "act": "read_back", **READ_BACK, "time": " "})
        assert missing.status_code == 409
        given = await client.post(path, data={"code": code, "act": "read_back", **READ_BACK})
        assert given.status_code == 200
        assert 'name="country"' not in given.text
    [event] = await rig.events("read_back_given")
    assert (event["via"], event["page_id"]) == ("link", str(page_id))


async def test_a_page_that_asks_for_a_read_back_leads_to_the_form(rig: Rig) -> None:
    """Whoever acknowledged elsewhere gets a message with a link and a code of its own, which opens the form."""
    await publish_credentials(rig, PEOPLE)
    point = rig.point("+447700900101", ChannelName.SMS)
    contact = rig.contact("GB", 1).model_copy(update={"points": (point,)})
    plan = with_read_back(rig.plan("GB", levels=1)).model_copy(update={"contacts": (contact,), "endpoints": ()})
    await rig.handle(plan)
    await rig.handle(rig.released("GB"))
    await rig.settle()
    await acknowledge(rig, str((await rig.escalation("GB"))["id"]))
    await rig.settle()
    sent = rig.outlets["sms"].sent[-1]
    assert sent.message_type == "read_back.requested"
    assert sent.message is not None
    assert sent.message.link is not None
    async with calling(rig, None) as client:
        path = sent.message.link.removeprefix(URL)
        shown = await client.post(path, data={"code": sent.message.code or "", "act": "show"})
        assert 'name="country"' in shown.text
        await client.post(path, data={"code": sent.message.code or "", "act": "read_back", **READ_BACK})
    assert len(await rig.events("read_back_given")) == 1
