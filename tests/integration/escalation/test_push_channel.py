"""The push channel against a push service on loopback whose browser decrypts and whose checks are a service's own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio
from cryptography.hazmat.primitives.asymmetric import ec

from services.escalation.channels import AttemptState, Outgoing, PersonMessage, Reason, VoiceScript
from services.escalation.channels.push import (
    PAYLOAD_BYTES_MAX,
    TOKEN_SECONDS,
    PushChannel,
    PushLimits,
    payload_of,
    topic_of,
)
from shared.clock import ManualClock
from shared.egress import EgressPolicy, Resolver
from shared.keys import PushKey
from tests.support import receiver as behaviours
from tests.support.certificates import Authority
from tests.support.push_service import Browser, decode, verified_sender
from tests.support.receiver import Exchange, Receiver, status

NOW = datetime(2026, 8, 15, 12, 0, tzinfo=UTC)
DEVELOPMENT = EgressPolicy(allow_http=True, allow_loopback=True)
SUBJECT = "mailto:duty@redphone.example"
NAME = "push.example"
KEY = PushKey.generate()
BROWSER = Browser()
MESSAGE = PersonMessage(
    language="fr",
    subject="EXERCICE FLASH de CA",
    text="long",
    html="<p>long</p>",
    short="Kaboul : évacuation. Répondez.",
    voice=VoiceScript("fr-FR", "", "", "", "", "", ""),
    link="https://redphone.example/a/token",
    code="4821",
    thread="chain-1",
    is_urgent=True,
)
QUICK = PushLimits(total_seconds=0.3, connect_seconds=0.15)


class Outside:
    """The name service and the clock of a test, and its channels."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.channels: list[PushChannel] = []

    def channel(
        self,
        *,
        keys: Sequence[PushKey] = (KEY,),
        policy: EgressPolicy = DEVELOPMENT,
        limits: PushLimits | None = None,
        roots: bytes | None = None,
        address: str = "127.0.0.1",
    ) -> PushChannel:
        """A channel in this world; closed at the end of the test."""
        resolver = Resolver(policy, monotonic=self.clock.monotonic, look_up=lambda _host: [address])
        channel = PushChannel(
            clock=self.clock,
            resolver=resolver,
            keys=keys,
            subject=SUBJECT,
            version="1.2.3",
            limits=limits or PushLimits(total_seconds=20, connect_seconds=10),
            extra_roots_pem=roots,
        )
        self.channels.append(channel)
        return channel


@pytest_asyncio.fixture
async def outside() -> AsyncIterator[Outside]:
    """A fresh world, closed afterwards."""
    world = Outside()
    yield world
    for channel in world.channels:
        await channel.close()


def page(endpoint: str, *, message: PersonMessage | None = MESSAGE, target: str | None = None) -> Outgoing:
    """A page to a browser."""
    return Outgoing(
        page_id=UUID(int=1),
        attempt=1,
        message_type="alert.released",
        contact_point_id=UUID(int=2),
        target=target if target is not None else BROWSER.subscription(endpoint),
        body=b"",
        sent_at=NOW,
        message=message,
    )


async def test_only_the_browser_reads_the_message(outside: Outside, tmp_path: Path) -> None:
    """Over TLS, the service gets ciphertext with its headers, our signature checks out, and the browser decrypts."""
    authority = Authority.create()
    async with Receiver(status(201), tls=authority.server_context(NAME, tmp_path)) as service:
        channel = outside.channel(roots=authority.pem, policy=EgressPolicy(allow_loopback=True))
        result = await channel.send(channel.make_ready(page(service.named_url(NAME))))
    assert (result.state, result.reason, result.status_code) == (AttemptState.SENT, Reason.ACCEPTED, 201)
    assert result.provider == "web-push"
    (request,) = service.requests
    assert b"Kaboul" not in request.body
    assert json.loads(BROWSER.read(request.body)) == {
        "title": "EXERCICE FLASH de CA",
        "body": "Kaboul : évacuation. Répondez.",
        "link": "https://redphone.example/a/token",
        "tag": topic_of(MESSAGE, "alert.released"),
        "urgent": True,
        "language": "fr",
    }
    key, claims = verified_sender(request, origin=f"https://{NAME}:{service.port}", now=NOW)
    assert key == KEY.public_text
    assert claims["sub"] == SUBJECT
    assert request.headers["content-encoding"] == "aes128gcm"
    assert request.headers["urgency"] == "high"
    assert int(request.headers["ttl"]) > 0
    assert request.headers["topic"] == topic_of(MESSAGE, "alert.released")
    assert request.headers["user-agent"] == "RedPhone/1.2.3"


def test_a_browser_reads_the_example_of_the_standard() -> None:
    """The counterpart of these tests is right itself: it decrypts the example of RFC 8291, appendix A."""
    private = int.from_bytes(decode("q1dXpw3UpT5VOmu_cf_v6ih07Aems3njxI-JWgLcM94"))
    browser = Browser(ec.derive_private_key(private, ec.SECP256R1()), decode("BTBZMqHH6r4Tts7J_aSIgg"))
    body = decode(
        "DGv6ra1nlYgDCS1FRnbzlwAAEABBBP4z9KsN6nGRTbVYI_c7VJSPQTBtkgcy27ml"
        "mlMoZIIgDll6e3vCYLocInmYWAmS6TlzAC8wEqKK6PBru3jl7A_yl95bQpu6cVPT"
        "pK4Mqgkf1CXztLVBSt2Ks3oZwbuwXPXLWyouBWLVWGNWQexSgSxsj_Qulcy4a-fN"
    )
    assert browser.read(body) == b"When I grow up, I want to be a watermelon"


@pytest.mark.parametrize(
    ("location", "named"),
    [
        ("https://push.example/m/0:1629019895%7d", "0:1629019895%7d"),
        ("/m/" + "a" * 200, "a" * 40),
        ("https://push.example/m/<script>", None),
        ("https://push.example/", None),
        (None, None),
    ],
)
async def test_a_message_has_the_name_that_its_service_gave_it(
    outside: Outside, location: str | None, named: str | None
) -> None:
    """Of the address under which the service keeps it, so much is kept as names it; anything strange is no name."""
    headers = [] if location is None else [("Location", location)]
    async with Receiver(status(201, headers=headers)) as service:
        assert (await outside.channel().send(page(service.url))).provider_id == named


async def test_a_page_that_is_not_urgent_may_wait_for_the_screen(outside: Outside) -> None:
    """Only FLASH and IMMEDIATE wake a sleeping telephone."""
    async with Receiver(status(201)) as service:
        await outside.channel().send(page(service.url, message=replace(MESSAGE, is_urgent=False)))
    assert service.requests[0].headers["urgency"] == "normal"


def test_a_newer_message_replaces_its_own_kind_alone() -> None:
    """One name for each chain of alerts and kind of message, in the alphabet and length that services take."""
    topic = topic_of(MESSAGE, "alert.released")
    assert len(topic) == 32
    assert set(topic) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")
    assert topic == topic_of(replace(MESSAGE, subject="another"), "alert.released")
    assert topic != topic_of(replace(MESSAGE, thread="chain-2"), "alert.released")
    assert topic != topic_of(MESSAGE, "question.asked")


@pytest.mark.parametrize("text", ["x" * 10_000, "\u0001" * 5_000, "ع" * 4_000, "🚨" * 3_000])
def test_a_long_text_is_cut_to_what_services_take(text: str) -> None:
    """However long a text is, the payload fits, says that it goes on, and uses most of the room."""
    payload = payload_of(replace(MESSAGE, short=text), "alert.released")
    shown = json.loads(payload)
    assert PAYLOAD_BYTES_MAX - 100 < len(payload) <= PAYLOAD_BYTES_MAX
    assert shown["body"].endswith("…")
    assert shown["title"] == MESSAGE.subject


async def test_a_token_is_signed_once_for_many_messages(outside: Outside) -> None:
    """Signing is not repeated for every message, and a token is replaced before it ends."""
    channel = outside.channel()
    async with Receiver(status(201)) as service:
        for _ in range(2):
            await channel.send(page(service.url))
        outside.clock.advance(TOKEN_SECONDS)
        await channel.send(page(service.url))
        first, second, third = (request.headers["authorization"] for request in service.requests)
        verified_sender(service.requests[2], origin=f"http://127.0.0.1:{service.port}", now=outside.clock.now())
    assert first == second != third


async def test_after_a_change_of_keys_old_subscriptions_still_work(outside: Outside) -> None:
    """A service that refuses the new key gets the message under the old one, next time at once."""
    old, new = KEY, PushKey.generate()

    async def only_old(exchange: Exchange) -> bool:
        key, _ = verified_sender(exchange.request, origin=f"http://127.0.0.1:{exchange.receiver.port}", now=NOW)
        return await status(201 if key == old.public_text else 403)(exchange)

    async with Receiver(only_old) as service:
        channel = outside.channel(keys=[new, old])
        results = [await channel.send(page(service.url)) for _ in range(2)]
    assert [result.reason for result in results] == [Reason.ACCEPTED, Reason.ACCEPTED]
    assert len(service.requests) == 3


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (404, Reason.ADDRESS_UNKNOWN),
        (410, Reason.ADDRESS_UNKNOWN),
        (400, Reason.PROVIDER_REFUSED),
        (403, Reason.PROVIDER_REFUSED),
        (413, Reason.PROVIDER_REFUSED),
        (429, Reason.PROVIDER_BUSY),
        (500, Reason.PROVIDER_UNAVAILABLE),
        (503, Reason.PROVIDER_UNAVAILABLE),
        (307, Reason.REDIRECT_REFUSED),
    ],
)
async def test_what_a_service_says_is_told_as_it_is(outside: Outside, code: int, reason: Reason) -> None:
    """Each status has its reason; only a subscription that is gone is an unknown address; nothing is followed."""
    headers = [("Retry-After", "30"), ("Location", "http://127.0.0.1:1/elsewhere")]
    async with Receiver(status(code, headers=headers, body=b"a reason that nobody reads")) as service:
        result = await outside.channel().send(page(service.url))
    assert (result.state, result.reason, result.status_code) == (AttemptState.FAILED, reason, code)
    assert result.retry_after_seconds == (30 if code in (400, 403, 413, 429, 500, 503) else None)


async def test_a_service_that_hangs_costs_its_time_limit_only(outside: Outside) -> None:
    """Neither silence nor an answer that never ends holds a page for longer than the limit."""
    channel = outside.channel(limits=QUICK)
    async with Receiver(behaviours.hang) as service:
        assert (await channel.send(page(service.url))).reason is Reason.TIMEOUT
    async with Receiver(behaviours.huge_head) as service:
        assert (await channel.send(page(service.url))).state is AttemptState.FAILED
    async with Receiver(hang_up_on_connect=True) as service:
        assert (await channel.send(page(service.url))).reason is Reason.DISCONNECTED


async def test_a_certificate_for_another_name_is_refused(outside: Outside, tmp_path: Path) -> None:
    """The name of the push service is verified although its address is pinned."""
    authority = Authority.create()
    async with Receiver(tls=authority.server_context("another.example", tmp_path)) as service:
        channel = outside.channel(roots=authority.pem)
        result = await channel.send(page(service.named_url(NAME)))
    assert result.reason is Reason.TLS_FAILED


@pytest.mark.parametrize(
    ("endpoint", "address", "reason"),
    [
        ("https://push.example/x", "10.0.0.1", Reason.ADDRESS_REFUSED),
        ("https://169.254.169.254/x", "1.1.1.1", Reason.ADDRESS_REFUSED),
        ("http://push.example/x", "1.1.1.1", Reason.TARGET_REFUSED),
    ],
)
async def test_a_subscription_cannot_name_an_inner_host(
    outside: Outside, endpoint: str, address: str, reason: Reason
) -> None:
    """The endpoint of a subscription is as hostile as any webhook: nothing inside is reached through it."""
    channel = outside.channel(policy=EgressPolicy(), address=address)
    assert (await channel.send(page(endpoint))).reason is reason


@pytest.mark.parametrize("target", ["", "https://push.example/x", "{}", '{"endpoint":"https://push.example/x"}'])
async def test_an_address_that_is_no_subscription_fails_and_says_so(outside: Outside, target: str) -> None:
    """What was stored by other rules than today's is a failed attempt, and stays quiet while it is made ready."""
    channel = outside.channel()
    outgoing = page("", target=target)
    assert channel.make_ready(outgoing) is outgoing
    await channel.prepare(outgoing.contact_point_id, target)
    assert (await channel.send(outgoing)).reason is Reason.TARGET_REFUSED


async def test_a_page_without_a_text_for_people_is_not_sent(outside: Outside) -> None:
    """A page that has no text for a person is a failure here, not an empty notification."""
    async with Receiver() as service:
        result = await outside.channel().send(page(service.url, message=None))
    assert (result.reason, service.requests) == (Reason.INTERNAL, [])


async def test_preparing_warms_the_client_and_sends_nothing(outside: Outside) -> None:
    """After preparing nothing has been sent; after closing nothing is."""
    channel = outside.channel()
    async with Receiver(status(201)) as service:
        await channel.prepare(UUID(int=2), BROWSER.subscription(service.url))
        assert service.requests == []
        await channel.close()
        assert (await channel.send(page(service.url))).reason is Reason.CHANNEL_UNAVAILABLE


def test_nothing_of_a_subscription_is_printed() -> None:
    """A page to a browser may be logged: neither endpoint nor keys are in it."""
    shown = repr(page("https://push.example/secret"))
    keys: dict[str, Any] = json.loads(BROWSER.subscription("https://push.example/secret"))["keys"]
    assert not any(part in shown for part in ("secret", keys["auth"], keys["p256dh"]))
