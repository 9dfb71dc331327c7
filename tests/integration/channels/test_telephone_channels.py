"""SMS and voice against a telephone company on this machine that behaves well and badly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from redphone.counterparts.telephone import (
    TELNYX_NUMBER,
    TWILIO_NUMBER,
    Line,
    Pickup,
    PlacedCall,
    SentMessage,
    Sms,
    TelephoneCompany,
    Trouble,
)
from services.escalation.channels import (
    AttemptState,
    Channel,
    Cost,
    Outgoing,
    PersonMessage,
    Reason,
    SendResult,
    VoiceScript,
    build_channels,
)
from services.escalation.channels.providers import Answer, Provider, http
from services.escalation.channels.providers.configured import build_providers
from services.escalation.channels.providers.failover import ATTEMPT_SECONDS, BEFORE_NEXT_SECONDS, Failover
from services.escalation.channels.providers.http import REPLY_BYTES_MAX
from services.escalation.channels.sms import SmsChannel
from services.escalation.channels.voice import VoiceChannel
from services.escalation.leased import LEASE_SECONDS
from shared.clock import ManualClock, SystemClock
from shared.egress import EgressPolicy
from shared.settings import Settings, load
from shared.webhooks import SigningKey
from tests.support.receiver import Behaviour, Receiver, garbage, hang, status
from tests.support.waiting import eventually

NUMBER = "+447700900001"
PAGE = UUID("01990000-0000-7000-8000-000000000001")
SENT_AT = datetime(2021, 8, 15, 9, 30, tzinfo=UTC)
TEXT = "FLASH from CA: Kabul – évacuation\nYES 4821 أو افتح"
SCRIPT = VoiceScript("fr-FR", "alerte", "menu", "accusé", "mauvaise personne", "pas compris", "au revoir")
PATIENT_SECONDS = 20.0
QUICK_SECONDS = 0.6


def told(short: str = TEXT, *, is_urgent: bool = True, is_drill: bool = False) -> PersonMessage:
    """What a person is told."""
    return PersonMessage("en", "subject", "text", "", short, SCRIPT, None, "4821", "thread", is_urgent, is_drill)


def page(target: str = NUMBER, message: PersonMessage | None = None) -> Outgoing:
    """A page to a telephone number."""
    return Outgoing(PAGE, 1, "alert.released", UUID(int=2), target, b"", SENT_AT, message=message or told())


@dataclass
class World:
    """A telephone company, and channels that use it."""

    company: TelephoneCompany
    opened: list[Provider] = field(default_factory=list)

    def settings(self, **changes: str) -> Settings:
        """What an administrator has set."""
        base = {"REDPHONE_DEVELOPMENT": "1", "REDPHONE_PUBLIC_URL": "http://127.0.0.1:9"}
        return load({**base, **self.company.environment(), **changes})

    def providers(self, *names: str, **changes: str) -> list[Provider]:
        """Providers in this order; closed at the end of the test."""
        built = build_providers(self.settings(**changes), clock=SystemClock(), version="1")
        self.opened += built.values()
        return [built[name] for name in names]

    def sms(self, *names: str, seconds: float = PATIENT_SECONDS, **changes: str) -> SmsChannel:
        """The SMS channel through these providers."""
        return SmsChannel(self.providers(*names, **changes), clock=SystemClock(), attempt_seconds=seconds)

    def voice(self, *names: str, seconds: float = PATIENT_SECONDS, **changes: str) -> VoiceChannel:
        """The voice channel through these providers."""
        return VoiceChannel(self.providers(*names, **changes), clock=SystemClock(), attempt_seconds=seconds)


@pytest_asyncio.fixture
async def world() -> AsyncIterator[World]:
    """A fresh company."""
    async with TelephoneCompany(clock=SystemClock()) as company:
        built = World(company)
        yield built
        company.release()
        for provider in built.opened:
            await provider.close()


def carried(messages: Sequence[SentMessage] | Sequence[PlacedCall]) -> list[tuple[str, str]]:
    """Who carried what to which number."""
    return [(one.provider, one.to) for one in messages]


# --- what works -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "sender"), [("twilio", TWILIO_NUMBER), ("telnyx", TELNYX_NUMBER)])
async def test_an_sms_is_handed_over(world: World, name: str, sender: str) -> None:
    """The provider has the whole text in Unicode from our number, and its id comes back with what it says to cost."""
    result = await world.sms(name).send(page())
    (message,) = world.company.messages
    assert (message.provider, message.to, message.sender, message.text) == (name, NUMBER, sender, TEXT)
    assert (result.state, result.reason, result.provider) == (AttemptState.SENT, Reason.ACCEPTED, name)
    assert result.provider_id == message.id
    assert result.detail is None
    assert result.cost == (Cost(Decimal("0.0075"), "USD") if name == "twilio" else None)
    assert message.callback_url is not None
    assert message.callback_url.startswith(f"http://127.0.0.1:9/v1/providers/{name}/")


@pytest.mark.parametrize("name", ["twilio", "telnyx"])
async def test_a_call_is_started(world: World, name: str) -> None:
    """The provider rings the number and knows where to ask for what is said; nothing of that is handed over with it."""
    world.company.lines[NUMBER] = Line(pickup=Pickup.SILENT)
    result = await world.voice(name).send(page())
    (call,) = world.company.calls
    assert (call.provider, call.to) == (name, NUMBER)
    assert call.url.startswith(f"http://127.0.0.1:9/v1/providers/{name}/")
    assert (result.state, result.provider, result.provider_id) == (AttemptState.SENT, name, call.id)


async def test_a_text_that_is_too_long_keeps_its_ends(world: World) -> None:
    """No provider refuses a page for its length: the middle goes, the code at the end stays."""
    text = f"FLASH from CA. {'é' * 3000} YES 4821"
    for name in ("twilio", "telnyx"):
        result = await world.sms(name).send(page(message=told(text)))
        assert result.state is AttemptState.SENT
    assert all(m.text.startswith("FLASH from CA") and m.text.endswith("YES 4821") for m in world.company.messages)


async def test_a_sender_by_messaging_service(world: World) -> None:
    """An account that sends through a messaging service names that in place of a number."""
    service = "MG" + "0" * 32
    result = await world.sms("twilio", REDPHONE_TWILIO_FROM=service, REDPHONE_VOICE_PROVIDERS="telnyx").send(page())
    assert result.state is AttemptState.SENT
    assert world.company.messages[0].sender == service


# --- the next provider ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trouble", [Trouble.DOWN, Trouble.BUSY, Trouble.REFUSING])
@pytest.mark.parametrize("first", ["twilio", "telnyx"])
async def test_the_next_provider_is_tried_in_the_same_attempt(world: World, first: str, trouble: Trouble) -> None:
    """One that is down, busy or unwilling costs no attempt: the other one has the message, and the result says why."""
    second = "telnyx" if first == "twilio" else "twilio"
    world.company.trouble[first] = trouble
    sms, voice = await world.sms(first, second).send(page()), await world.voice(first, second).send(page())
    assert carried(world.company.messages) == carried(world.company.calls) == [(second, NUMBER)]
    assert (sms.state, sms.provider) == (voice.state, voice.provider) == (AttemptState.SENT, second)
    assert sms.detail is not None
    assert sms.detail.startswith(f"{first}: HTTP ")


async def test_silence_is_worse_than_a_second_message(world: World) -> None:
    """A provider that does not answer may have the message; the next one is asked all the same, within the time."""
    world.company.trouble["twilio"] = Trouble.SLOW
    result = await world.sms("twilio", "telnyx", seconds=QUICK_SECONDS).send(page())
    assert (result.state, result.provider) == (AttemptState.SENT, "telnyx")
    assert result.detail == "twilio: no complete answer in time"
    assert QUICK_SECONDS / 2 <= result.elapsed_seconds < QUICK_SECONDS + 1
    world.company.release()
    await world.company.wait_for(lambda company: len(company.messages) == 2)
    assert sorted(carried(world.company.messages)) == [("telnyx", NUMBER), ("twilio", NUMBER)]


async def test_no_provider_keeps_the_next_one_waiting(world: World) -> None:
    """However much time an attempt has, a silent first provider gets a part of it, and the last one the rest.

    All of it stays below the lease, after which the page would be sent once more.
    """
    assert ATTEMPT_SECONDS < LEASE_SECONDS
    given: list[tuple[str, float]] = []

    async def ask(provider: Provider, seconds: float) -> Answer:
        given.append((provider.name, seconds))
        return Answer(Reason.TIMEOUT)

    await Failover(world.providers("twilio", "telnyx"), clock=ManualClock(SENT_AT), attempt_seconds=20).send(ask)
    assert given == [("twilio", BEFORE_NEXT_SECONDS), ("telnyx", 20)]


@pytest.mark.parametrize(("is_urgent", "is_drill"), [(False, False), (True, True)], ids=["calm", "drill"])
async def test_what_is_urgent_waits_for_nothing_that_is_not(
    world: World, monkeypatch: pytest.MonkeyPatch, *, is_urgent: bool, is_drill: bool
) -> None:
    """Our own limit on requests at once keeps drills and what is not urgent waiting, and neither FLASH nor its call."""
    monkeypatch.setattr(http, "IN_FLIGHT_MAX", 1)
    providers = world.providers("twilio")
    sms = SmsChannel(providers, clock=SystemClock(), attempt_seconds=PATIENT_SECONDS)
    hasty = SmsChannel(providers, clock=SystemClock(), attempt_seconds=QUICK_SECONDS)
    voice = VoiceChannel(providers, clock=SystemClock(), attempt_seconds=PATIENT_SECONDS)
    calm = page(message=told(is_urgent=is_urgent, is_drill=is_drill))
    world.company.trouble["twilio"] = Trouble.SLOW
    first = asyncio.create_task(sms.send(calm))
    await eventually(lambda: world.company.requests == 1)
    world.company.trouble["twilio"] = Trouble.NONE
    assert (await hasty.send(calm)).reason is Reason.PROVIDER_BUSY
    assert (await sms.send(page())).state is AttemptState.SENT
    assert (await voice.send(page())).state is AttemptState.SENT
    assert not first.done()
    world.company.release()
    assert (await first).state is AttemptState.SENT


async def test_a_provider_that_failed_delays_only_one_page(world: World) -> None:
    """After it has not answered once, the other provider is asked first for a while."""
    world.company.trouble["twilio"] = Trouble.SLOW
    channel = world.sms("twilio", "telnyx", seconds=QUICK_SECONDS)
    await channel.send(page())
    asked = world.company.requests
    results = [await channel.send(page()) for _ in range(3)]
    assert {result.provider for result in results} == {"telnyx"}
    assert all(result.detail is None for result in results)
    assert world.company.requests == asked + 3


async def test_nothing_is_left_when_all_are_down(world: World) -> None:
    """The attempt fails with what each of them said, and is tried again by the schedule."""
    world.company.trouble |= {"twilio": Trouble.DOWN, "telnyx": Trouble.BUSY}
    result = await world.sms("twilio", "telnyx").send(page())
    assert (result.state, result.reason, result.provider) == (AttemptState.FAILED, Reason.PROVIDER_BUSY, "telnyx")
    assert result.detail == "twilio: HTTP 503, error 20503; telnyx: HTTP 429, error 20429"
    assert result.retry_after_seconds is None


async def test_a_pause_that_is_asked_for_is_kept(world: World) -> None:
    """Where every provider asks for a pause, the shortest is passed on."""
    world.company.trouble |= {"twilio": Trouble.BUSY, "telnyx": Trouble.BUSY}
    assert (await world.sms("twilio", "telnyx").send(page())).retry_after_seconds == 7


async def test_one_attempt_ends_in_time(world: World) -> None:
    """Two providers that do not answer share the time of one attempt."""
    world.company.trouble |= {"twilio": Trouble.SLOW, "telnyx": Trouble.SLOW}
    result = await world.sms("twilio", "telnyx", seconds=QUICK_SECONDS).send(page())
    assert (result.state, result.reason) == (AttemptState.FAILED, Reason.TIMEOUT)
    assert result.elapsed_seconds < QUICK_SECONDS + 1


# --- what is wrong for good -------------------------------------------------------------------------------------------


async def test_a_number_that_is_none_is_a_hard_failure(world: World) -> None:
    """Only if every provider says so: one of them may know a number that the other does not."""
    world.company.lines[NUMBER] = Line(sms=Sms.UNKNOWN, pickup=Pickup.UNKNOWN)
    for channel in (world.sms("twilio", "telnyx"), world.voice("twilio", "telnyx")):
        result = await channel.send(page())
        assert (result.state, result.reason) == (AttemptState.FAILED, Reason.ADDRESS_UNKNOWN)
    world.company.trouble["telnyx"] = Trouble.DOWN
    world.company.lines[NUMBER] = Line()
    refused = world.sms("twilio", "telnyx", REDPHONE_TWILIO_FROM="+15005550001")
    assert (await refused.send(page())).reason is Reason.PROVIDER_UNAVAILABLE


async def test_a_wrong_secret_is_told(world: World) -> None:
    """An account that is not let in refuses; the operator sees the provider's code."""
    channel = world.sms("twilio", "telnyx", REDPHONE_TWILIO_AUTH_TOKEN="x" * 32, REDPHONE_TELNYX_API_KEY="y" * 32)
    result = await channel.send(page())
    assert result.reason is Reason.PROVIDER_REFUSED
    assert result.detail == "twilio: HTTP 401, error 20003; telnyx: HTTP 401, error 10009"


@pytest.mark.parametrize(
    "target", ["", "07700900001", "+44 7700 900001", "+0", "https://x.example", "+4477009000011234"]
)
async def test_what_is_no_number_is_not_asked_for(world: World, target: str) -> None:
    """An address that cannot be a telephone number is refused before any provider hears of it."""
    result = await world.sms("twilio").send(page(target))
    assert (result.state, result.reason) == (AttemptState.FAILED, Reason.TARGET_REFUSED)
    assert world.company.requests == 0


async def test_a_page_without_words_for_people_is_a_mistake_of_ours(world: World) -> None:
    """A page that was made for systems is not sent to a telephone."""
    outgoing = Outgoing(PAGE, 1, "x", UUID(int=2), NUMBER, b"{}", SENT_AT)
    assert (await world.sms("twilio").send(outgoing)).reason is Reason.INTERNAL


async def test_a_closed_channel_sends_nothing(world: World) -> None:
    """After the end nothing leaves any more."""
    channel = world.sms("twilio")
    await channel.close()
    assert (await channel.send(page())).reason is Reason.CHANNEL_UNAVAILABLE
    closed = world.sms("twilio")
    await world.opened[-2].close()
    assert (await closed.send(page())).reason is Reason.CHANNEL_UNAVAILABLE


async def oversized(exchange: Any) -> bool:
    """Say 201 with more than a provider ever says."""
    body = b"x" * (REPLY_BYTES_MAX + 1)
    await exchange.write(b"HTTP/1.1 201 Created\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    return False


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (status(302, headers=(("location", "https://elsewhere.example"),)), Reason.REDIRECT_REFUSED),
        (status(200), Reason.RESPONSE_MALFORMED),
        (garbage, Reason.RESPONSE_MALFORMED),
        (oversized, Reason.RESPONSE_TOO_LARGE),
        (hang, Reason.TIMEOUT),
    ],
    ids=["redirect", "no id", "no HTTP", "too much", "no answer"],
)
async def test_a_provider_that_is_none(world: World, behaviour: Behaviour, reason: Reason) -> None:
    """Whatever sits at the address: the attempt ends, follows nothing, and says truly why."""
    async with Receiver(behaviour) as receiver:
        address = f"http://127.0.0.1:{receiver.port}"
        channel = world.sms("twilio", seconds=QUICK_SECONDS, REDPHONE_TWILIO_URL=address)
        result = await channel.send(page())
    assert (result.state, result.reason) == (AttemptState.FAILED, reason)
    assert len(receiver.requests) == 1


async def test_nobody_listens_where_the_provider_should_be(world: World) -> None:
    """A connection that is refused is told as that."""
    async with Receiver() as receiver:
        address = f"http://127.0.0.1:{receiver.port}"
    result = await world.sms("twilio", REDPHONE_TWILIO_URL=address).send(page())
    assert (result.reason, result.detail) == (Reason.CONNECT_FAILED, "twilio: connection refused")


async def test_no_result_says_whom_or_what(world: World) -> None:
    """Neither number nor text nor secret stands in what is kept of an attempt."""
    world.company.trouble |= {"twilio": Trouble.REFUSING, "telnyx": Trouble.REFUSING}
    result: SendResult = await world.sms("twilio", "telnyx").send(page())
    for secret in (NUMBER, "Kabul", "4821", world.company.auth_token, world.company.api_key):
        assert secret not in repr(result)
    assert NUMBER not in repr(page())


# --- what there is ----------------------------------------------------------------------------------------------------


async def test_channels_are_there_if_configured(world: World) -> None:
    """Without providers there is no SMS and no voice; with them each goes through its own, in their order."""

    async def built(**changes: str) -> dict[str, Channel]:
        async with AsyncExitStack() as closing:
            settings = world.settings(**changes)
            providers = build_providers(settings, clock=SystemClock(), version="1")
            channels = build_channels(
                clock=SystemClock(),
                egress_policy=EgressPolicy(),
                signing_keys=[SigningKey(bytes(32))],
                version="1",
                settings=settings,
                providers=providers,
            )
            for channel in channels.values():
                closing.push_async_callback(channel.close)
            for provider in providers.values():
                closing.push_async_callback(provider.close)
        return channels

    none = await built(REDPHONE_SMS_PROVIDERS="", REDPHONE_VOICE_PROVIDERS="")
    assert not {"sms", "voice"} & none.keys()
    some = await built(REDPHONE_SMS_PROVIDERS="telnyx,twilio", REDPHONE_VOICE_PROVIDERS="twilio")
    assert (some["sms"].provider, some["voice"].provider) == ("telnyx,twilio", "twilio")
