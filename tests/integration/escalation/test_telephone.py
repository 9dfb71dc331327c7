"""People paged by SMS and telephone, who answer by them; and what is believed of all that providers say.

Red Phone and the telephone company each listen on a port of their own and call each other, as in production.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, Protocol
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from prometheus_client import REGISTRY

from redphone.counterparts.telephone import Line, Pickup, Sms, Trouble, reply_yes
from services.escalation.channels.providers import CALLBACK_BYTES_MAX
from services.escalation.channels.providers.calls import ROUNDS_MAX, CallState
from shared.contracts import ChannelName, Info, LevelTarget, PlannedLevel, Tlp
from tests.support.cluster import Cluster
from tests.support.telephone_rig import Exchange, contact_id, exchange
from tests.support.waiting import eventually

FIRST, SECOND = "+447700900001", "+447700900002"
SMS, VOICE = ChannelName.SMS, ChannelName.VOICE
FRENCH = ("fr", "en")
BOTH = pytest.mark.parametrize("provider", ["twilio", "telnyx"])


class Opens(Protocol):
    """Opens an exchange."""

    def __call__(self, *, sms: str = ..., voice: str = ...) -> AbstractAsyncContextManager[Exchange]:
        """With these providers."""


@pytest_asyncio.fixture
async def opens(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Opens]:
    """Opens an exchange on a fresh database."""
    yield partial(exchange, cluster, tmp_path)


async def called(x: Exchange, number: str = FIRST) -> Any:
    """The call to a number, once it has ended."""
    await x.company.wait_for(lambda company: any(call.to == number and call.ended for call in company.calls))
    return next(call for call in x.company.calls if call.to == number)


async def ring(x: Exchange, line: Line, **released: Any) -> Any:
    """One person in London is called in French about an alert; returns the call after its end."""
    x.company.lines[FIRST] = line
    await x.plan("GB", x.person("GB", 1, (VOICE, FIRST, 0), languages=FRENCH))
    await x.rig.handle(x.rig.released("GB", **released))
    await x.rig.settle()
    call = await called(x)
    await x.rig.settle()
    return call


async def state(x: Exchange, partner: str = "GB") -> str:
    """Where the partner's escalation stands."""
    return str((await x.rig.escalation(partner))["state"])


# --- by SMS -----------------------------------------------------------------------------------------------------------


@BOTH
async def test_an_sms_is_answered_by_sms(opens: Opens, provider: str) -> None:
    """Whoever writes back the word and the code acknowledges, is told so, and the receipt stands beside the attempt."""
    async with opens(sms=provider) as x:
        x.company.lines[FIRST] = Line(reply=reply_yes)
        await x.plan("GB", x.person("GB", 1, (SMS, FIRST, 0), languages=FRENCH))
        await x.rig.handle(x.rig.released("GB"))
        await x.rig.settle()
        await x.company.wait_for(lambda company: any(message.in_reply for message in company.messages))
        await x.rig.settle()
        escalation = await x.rig.escalation("GB")
        assert (escalation["state"], escalation["acknowledged_by"]["contact_id"]) == (
            "acknowledged",
            str(contact_id("GB", 1)),
        )
        (acknowledged,) = await x.rig.events("partner_acknowledged")
        assert acknowledged["via"] == "sms"
        asked, answered = [message for message in x.company.messages if message.to == FIRST][:2]
        assert "FLASH" in asked.text
        assert x.public_url in asked.text
        assert answered.in_reply
        (attempt,) = await x.attempts("sms")
        assert (attempt["state"], attempt["provider"], attempt["provider_id"]) == ("delivered", provider, asked.id)
        assert (str(attempt["cost_amount"]), attempt["cost_currency"]) == ("0.0075", "USD")


@pytest.mark.parametrize(
    ("provider", "sms", "reason"),
    [("twilio", Sms.UNDELIVERED, "not_delivered"), ("telnyx", Sms.UNKNOWN_LATER, "address_unknown")],
)
async def test_a_message_that_did_not_arrive_starts_the_next_way(
    opens: Opens, provider: str, sms: Sms, reason: str
) -> None:
    """What the provider says later is believed as if it had said so at once: the telephone rings without its delay."""
    async with opens(sms=provider, voice="telnyx") as x:
        x.company.lines[FIRST] = Line(sms=sms, pickup=Pickup.SILENT)
        await x.plan("GB", x.person("GB", 1, (SMS, FIRST, 0), (VOICE, FIRST, 600)))
        await x.rig.handle(x.rig.released("GB"))
        await x.rig.settle()

        async def failed() -> bool:
            return [row["state"] for row in await x.attempts("sms")] == ["failed"]

        await eventually(failed)
        await x.rig.settle()
        assert [row["reason"] for row in await x.attempts("sms")] == [reason]
        assert [call.to for call in x.company.calls] == [FIRST]


async def test_a_provider_that_lies_only_costs_the_delay(opens: Opens) -> None:
    """A message that was taken and never arrives, without a word: the next way is tried when its time has come."""
    async with opens() as x:
        x.company.lines[FIRST] = Line(sms=Sms.SILENT, keys=("1",))
        await x.plan("GB", x.person("GB", 1, (SMS, FIRST, 0), (VOICE, FIRST, 120)))
        await x.rig.handle(x.rig.released("GB"))
        await x.rig.forward(seconds=119)
        assert not x.company.calls
        assert [row["state"] for row in await x.attempts("sms")] == ["sent"]
        await x.rig.forward(seconds=1)
        await called(x)
        assert await state(x) == "acknowledged"


async def test_the_next_provider_carries_page_and_answer(opens: Opens) -> None:
    """With the first provider down nothing changes for the person who is paged and answers."""
    async with opens(sms="twilio,telnyx") as x:
        x.company.trouble["twilio"] = Trouble.DOWN
        x.company.lines[FIRST] = Line(reply=reply_yes)
        await x.plan("GB", x.person("GB", 1, (SMS, FIRST, 0)))
        await x.rig.handle(x.rig.released("GB"))
        await x.rig.settle()
        await x.company.wait_for(lambda company: any(message.in_reply for message in company.messages))
        assert await state(x) == "acknowledged"
        assert {message.provider for message in x.company.messages} == {"telnyx"}


async def test_words_that_mean_nothing_change_nothing(opens: Opens) -> None:
    """A stranger gets no answer; whoever was paged is told what to write."""
    async with opens(sms="twilio") as x:
        await x.plan("GB", x.person("GB", 1, (SMS, FIRST, 0)))
        await x.rig.handle(x.rig.released("GB"))
        await x.rig.settle()
        assert await x.company.text(SECOND, "YES 4821") is None
        assert await x.company.text(FIRST, "who is this?")
        assert await x.company.text(FIRST, "YES 0000 <&>")
        assert await state(x) == "notified"


# --- by telephone -----------------------------------------------------------------------------------------------------


@BOTH
async def test_a_key_acknowledges_in_the_own_language(opens: Opens, provider: str) -> None:
    """The call speaks French with a French voice, and key 1 acknowledges as the person who was called."""
    async with opens(voice=provider) as x:
        call = await ring(x, Line(keys=("1",)))
        assert call.heard.startswith("Ici le Red Phone.")
        assert "Pour accuser réception, appuyez sur 1" in call.heard
        assert "accusé de réception est enregistré" in call.heard
        assert {re.sub(r"^AWS\.", "", spoken.voice) for spoken in call.spoken} == {"Polly.Lea-Neural"}
        escalation = await x.rig.escalation("GB")
        assert escalation["state"] == "acknowledged"
        (acknowledged,) = await x.rig.events("partner_acknowledged")
        assert acknowledged["via"] == "voice"
        assert acknowledged["acknowledged_by"]["contact_id"] == str(contact_id("GB", 1))
        assert [(row["state"], row["provider"]) for row in await x.attempts("voice")] == [("delivered", provider)]


@BOTH
async def test_nobody_presses_a_key(opens: Opens, provider: str) -> None:
    """After three rounds the call says goodbye; nobody has acknowledged, and the call counts as not answered."""
    async with opens(voice=provider) as x:
        call = await ring(x, Line(keys=()))
        assert call.pressed == [None] * ROUNDS_MAX
        assert call.heard.count("appuyez sur 1") == ROUNDS_MAX
        assert call.heard.endswith("Au revoir.")
        assert await state(x) != "acknowledged"
        (attempt, *_) = await x.attempts("voice")
        assert (attempt["state"], attempt["reason"]) == ("failed", "not_answered")


@BOTH
async def test_a_key_repeats_and_another_is_no_key(opens: Opens, provider: str) -> None:
    """Key 2 reads all of it again, a key without meaning is told as that, and after both key 1 still acknowledges."""
    async with opens(voice=provider) as x:
        call = await ring(x, Line(keys=("2", "7", None, "1")))
        assert call.heard.count("Ici le Red Phone.") == 3
        assert call.heard.count("pas de fonction") == 1
        assert await state(x) == "acknowledged"


async def test_the_wrong_person_passes_it_on(opens: Opens) -> None:
    """Key 3 says so, the call ends, and the next one is called at once."""
    async with opens(voice="telnyx") as x:
        x.company.lines[FIRST] = Line(keys=("3",))
        x.company.lines[SECOND] = Line(keys=("1",))
        people = (x.person("GB", 1, (VOICE, FIRST, 0)), x.person("GB", 2, (VOICE, SECOND, 0)))
        await x.plan("GB", *people)
        await x.rig.handle(x.rig.released("GB"))
        await x.rig.settle()
        first = await called(x)
        assert "next" in first.heard.lower()
        await x.rig.settle()
        await called(x, SECOND)
        escalation = await x.rig.escalation("GB")
        assert (escalation["state"], escalation["acknowledged_by"]["contact_id"]) == (
            "acknowledged",
            str(contact_id("GB", 2)),
        )


@pytest.mark.parametrize(
    ("provider", "pickup"),
    [("twilio", Pickup.NO_ANSWER), ("twilio", Pickup.MACHINE), ("telnyx", Pickup.BUSY)],
)
async def test_a_call_that_reaches_nobody(opens: Opens, provider: str, pickup: Pickup) -> None:
    """Nobody there, engaged, or a machine: none of them acknowledges anything, and the attempt says so."""
    async with opens(voice=provider) as x:
        await ring(x, Line(pickup=pickup, keys=("1",)))
        (attempt, *_) = await x.attempts("voice")
        assert (attempt["state"], attempt["reason"]) == ("failed", "not_answered")
        assert await state(x) != "acknowledged"


async def test_a_call_of_a_red_alert_only_asks_to_log_in(opens: Opens) -> None:
    """At TLP:RED precedence and sender are said and nothing else, and no key acknowledges."""
    async with opens(voice="twilio") as x:
        headline = "Kaboul : évacuation avant la fermeture de l’aéroport"
        secret = (Info(event="Evacuation", headline=headline, language="fr-FR"),)
        call = await ring(x, Line(keys=("1", "2")), tlp=Tlp.RED, info=secret)
        assert "FLASH" in call.heard
        assert "connectez-vous" in call.heard
        assert not re.search("Kaboul|évacuation", call.heard, re.IGNORECASE)
        assert call.heard.count("Ici le Red Phone.") > 1
        assert await state(x) != "acknowledged"


async def test_at_an_office_somebody_says_who_they_are(opens: Opens) -> None:
    """The menu names the people on duty; whoever presses their key acknowledges by it, and 9 repeats."""
    async with opens(voice="telnyx") as x:
        x.company.lines[FIRST] = Line(keys=("9", "2"))
        people = (x.person("GB", 1), x.person("GB", 2))
        plan = x.rig.plan("GB")
        assert plan.office is not None
        office = plan.office.model_copy(update={"points": (x.rig.point(FIRST, VOICE),)})
        levels = (PlannedLevel(targets=(LevelTarget(kind="office", id=office.id),)),)
        await x.plan("GB", *people, office=office, levels=levels)
        await x.rig.handle(x.rig.released("GB"))
        await x.rig.settle()
        call = await called(x)
        assert call.heard.count("If you are Example Person 2 of GB, press 2.") == 2
        (acknowledged,) = await x.rig.events("partner_acknowledged")
        assert acknowledged["acknowledged_by"]["contact_id"] == str(contact_id("GB", 2))


async def test_a_command_that_fails_is_asked_for_again(opens: Opens) -> None:
    """A provider that does not take our answer to its event gets an error, sends the event again, and goes on."""
    async with opens(voice="telnyx") as x:
        x.company.failing_commands = 2
        await ring(x, Line(keys=("1",)))
        assert x.company.callback_statuses.count(503) == 2
        assert await state(x) == "acknowledged"
        assert len(await x.rig.events("partner_acknowledged")) == 1


# --- what is believed -------------------------------------------------------------------------------------------------


async def refused(x: Exchange) -> int:
    """How many forged callbacks are recorded."""
    return len(await x.rig.rows("SELECT 1 FROM record WHERE kind = 'provider_callback.refused'"))


def counted(provider: str) -> float:
    """How many forged callbacks the metric counts."""
    labels = {"provider": provider, "outcome": "forged"}
    return REGISTRY.get_sample_value("redphone_provider_callbacks_total", labels) or 0.0


async def test_a_forged_callback_changes_nothing(opens: Opens) -> None:
    """A reply, a receipt and a key with another's signature: 403 each, all counted, one a minute recorded."""
    async with opens(voice="twilio") as x:
        x.company.lines[FIRST] = Line(sms=Sms.SILENT)
        await x.plan("GB", x.person("GB", 1, (SMS, FIRST, 0)))
        await x.rig.handle(x.rig.released("GB"))
        await x.rig.settle()
        (message,) = x.company.messages
        code = reply_yes(message.text)
        assert code is not None
        (page,) = await x.rig.rows("SELECT id FROM pages WHERE channel = 'sms'")
        before = counted("twilio")
        base = f"{x.public_url}/v1/providers/twilio"
        for path, fields in (
            ("sms", {"MessageSid": "SM1", "From": FIRST, "Body": code}),
            ("status", {"MessageSid": message.id, "MessageStatus": "delivered"}),
            (f"keys?call={CallState(page['id']).encode()}", {"CallSid": "CA1", "Digits": "1"}),
        ):
            answer = await x.company.call_back_twilio(f"{base}/{path}", fields, token="forged")
            assert answer is not None
            assert (answer.status_code, answer.json()["code"]) == (403, "callback_forged")
            assert FIRST not in answer.text
        assert counted("twilio") == before + 3
        assert await refused(x) == 1
        await x.rig.forward(seconds=60)
        await x.company.call_back_twilio(f"{base}/sms", {"MessageSid": "SM1"}, token="forged")
        assert await refused(x) == 2
        (row, *_) = await x.rig.rows("SELECT * FROM record WHERE kind = 'provider_callback.refused'")
        assert row["data"] == '{"provider": "twilio"}' or row["data"] == {"provider": "twilio"}
        assert await state(x) == "notified"
        assert [row["state"] for row in await x.attempts("sms")] == ["sent"]


async def test_a_forged_event_changes_nothing(opens: Opens) -> None:
    """Another key, or a time long ago: 403, and no effect."""
    async with opens(sms="telnyx") as x:
        x.company.lines[FIRST] = Line(sms=Sms.SILENT)
        await x.plan("GB", x.person("GB", 1, (SMS, FIRST, 0)))
        await x.rig.handle(x.rig.released("GB"))
        await x.rig.settle()
        code = reply_yes(x.company.messages[0].text)
        payload = {"id": "m-1", "from": {"phone_number": FIRST}, "text": code}
        url = f"{x.public_url}/v1/providers/telnyx/events"
        forgeries: tuple[dict[str, Any], ...] = ({"key": Ed25519PrivateKey.generate()}, {"signed_seconds_ago": 400})
        for forgery in forgeries:
            answer = await x.company.call_back_telnyx(url, "message.received", payload, **forgery)
            assert answer is not None
            assert answer.status_code == 403
        assert await refused(x) == 1
        assert await state(x) == "notified"


async def test_a_replayed_reply_changes_nothing(opens: Opens) -> None:
    """The same message again, by either provider: 200, one acknowledgement, and no second answer from Telnyx."""
    async with opens() as x:
        x.company.lines[FIRST] = Line(sms=Sms.SILENT)
        await x.plan("GB", x.person("GB", 1, (SMS, FIRST, 0)))
        await x.rig.handle(x.rig.released("GB"))
        await x.rig.settle()
        code = reply_yes(x.company.messages[0].text)
        assert code is not None
        said = [await x.company.text(FIRST, code, message_id="SM" + "a" * 32) for _ in range(2)]
        assert said[0] is not None
        assert said[0] == said[1]
        for _ in range(2):
            await x.company.text(FIRST, code, provider="telnyx", message_id="m-1")
        assert set(x.company.callback_statuses[-4:]) == {200}
        assert len(await x.rig.events("partner_acknowledged")) == 1
        assert len([m for m in x.company.messages if m.in_reply and m.provider == "telnyx"]) == 1


async def test_a_replayed_key_press_gets_the_same_words(opens: Opens) -> None:
    """A key press that the provider hands over twice acknowledges once and is answered alike."""
    async with opens(voice="twilio") as x:
        x.company.lines[FIRST] = Line(pickup=Pickup.SILENT)
        await x.plan("GB", x.person("GB", 1, (VOICE, FIRST, 0)))
        await x.rig.handle(x.rig.released("GB"))
        await x.rig.settle()
        (call,) = x.company.calls
        fields = {"CallSid": call.id, "AccountSid": x.company.account_sid, "Digits": "3"}
        url = call.url.replace("/voice", "/keys")
        first = await x.company.call_back_twilio(url, fields)
        recorded = await x.rig.rows("SELECT id FROM record")
        again = await x.company.call_back_twilio(url, fields)
        assert first is not None
        assert again is not None
        assert "next" in first.text.lower()
        assert again.content == first.content
        assert await x.rig.rows("SELECT id FROM record") == recorded


async def test_a_replayed_receipt_changes_nothing(opens: Opens) -> None:
    """The same receipt again, or an older state after the last word: 200, and the attempt stays as it is."""
    async with opens(sms="twilio") as x:
        await x.plan("GB", x.person("GB", 1, (SMS, FIRST, 0)))
        await x.rig.handle(x.rig.released("GB"))
        await x.rig.settle()
        (message,) = x.company.messages

        async def delivered() -> bool:
            await x.rig.settle()
            return [row["state"] for row in await x.attempts("sms")] == ["delivered"]

        await eventually(delivered)
        noted = len(await x.rig.rows("SELECT 1 FROM record WHERE kind = 'page.receipt_noted'"))
        for told in ("delivered", "sent", "undelivered"):
            fields = {"MessageSid": message.id, "AccountSid": x.company.account_sid, "MessageStatus": told}
            answer = await x.company.call_back_twilio(f"{x.public_url}/v1/providers/twilio/status", fields)
            assert answer is not None
            assert answer.status_code == 200
        assert await delivered()
        assert len(await x.rig.rows("SELECT 1 FROM record WHERE kind = 'page.receipt_noted'")) == noted


async def test_what_is_not_ours_is_taken_quietly(opens: Opens) -> None:
    """Ids that nobody knows, a call of a page that does not exist, an unknown kind of event: 200 and nothing more."""
    async with opens() as x:
        twilio, telnyx = f"{x.public_url}/v1/providers/twilio", f"{x.public_url}/v1/providers/telnyx/events"
        nobody = CallState(UUID("01990000-0000-7000-8000-000000000009")).encode()
        account = {"AccountSid": x.company.account_sid}
        for path, fields in (
            ("status", {"MessageSid": "SM" + "f" * 32, "MessageStatus": "delivered"}),
            ("status", {"CallSid": "CA" + "f" * 32, "CallStatus": "completed"}),
            ("sms", {"MessageSid": "SM" + "f" * 32, "From": "BANK", "Body": "buy"}),
            (f"voice?call={nobody}", {"CallSid": "CA1"}),
            ("voice?call=nonsense", {"CallSid": "CA1"}),
            (f"keys?call={nobody}", {"CallSid": "CA1", "Digits": "1"}),
        ):
            answer = await x.company.call_back_twilio(f"{twilio}/{path}", {**account, **fields})
            assert answer is not None
            assert answer.status_code == 200
            assert ("<Hangup/>" in answer.text) is path.startswith(("voice", "keys"))
        for kind, payload in (
            ("message.finalized", {"id": "m-9", "to": [{"status": "delivered"}]}),
            ("fax.received", {"id": "f-1"}),
            ("call.hangup", {"call_control_id": "v3:other"}),
        ):
            answer = await x.company.call_back_telnyx(telnyx, kind, payload)
            assert answer is not None
            assert answer.status_code == 200


async def test_nothing_large_is_read_and_nothing_is_there_unless_configured(opens: Opens) -> None:
    """A callback beyond the limit is refused before it is looked at; a provider that is not used has no address."""
    async with opens(sms="twilio", voice="twilio") as x, httpx.AsyncClient(base_url=x.public_url) as stranger:
        large = await stranger.post("/v1/providers/twilio/sms", content=b"a" * (CALLBACK_BYTES_MAX + 1))
        assert large.status_code == 413
        assert (await stranger.post("/v1/providers/twilio/sms", content=b"Body=YES")).status_code == 403
        assert (await stranger.post("/v1/providers/telnyx/events", content=b"{}")).status_code == 404
        assert (await stranger.get("/v1/providers/twilio/voice")).status_code == 405
