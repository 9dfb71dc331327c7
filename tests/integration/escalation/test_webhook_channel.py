"""The webhook channel against a real receiver on loopback that behaves well and badly."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio

from services.escalation.channels import AttemptState, Channel, Outgoing, Reason, SendResult, build_channels
from services.escalation.channels.webhook import WebhookChannel, WebhookLimits
from shared.clock import ManualClock
from shared.egress import EgressPolicy, Resolver
from shared.webhooks import SigningKey
from tests.support import receiver as behaviours
from tests.support.certificates import Authority
from tests.support.receiver import Behaviour, Receiver, status

NOW = datetime(2026, 8, 15, 12, 0, tzinfo=UTC)
OLD = SigningKey(bytes(range(32)))
NEW = SigningKey(bytes(range(32, 64)))
DEVELOPMENT = EgressPolicy(allow_http=True, allow_loopback=True)
BODY = b'{"type":"test.ping","timestamp":"2026-08-15T12:00:00.000Z","data":{}}'
NAME = "partner.example"
TOTAL_SECONDS = 0.3
FRESH_SECONDS = 60
QUICK = WebhookLimits(total_seconds=TOTAL_SECONDS, connect_seconds=0.15)
PATIENT = WebhookLimits(total_seconds=20, connect_seconds=10)


class Outside:
    """The world around the channel that a test controls: the name service and the clock."""

    def __init__(self) -> None:
        self.clock = ManualClock(NOW)
        self.names: dict[str, Sequence[str]] = {NAME: ["127.0.0.1"]}
        self.channels: list[WebhookChannel] = []

    def look_up(self, host: str) -> Sequence[str]:
        """Answer from the table; anything else does not exist."""
        if host not in self.names:
            raise OSError("unknown")
        return self.names[host]

    def channel(
        self,
        limits: WebhookLimits = PATIENT,
        *,
        policy: EgressPolicy = DEVELOPMENT,
        keys: Sequence[SigningKey] = (OLD,),
        roots: bytes | None = None,
    ) -> WebhookChannel:
        """A channel in this world; closed at the end of the test."""
        resolver = Resolver(
            policy,
            monotonic=self.clock.monotonic,
            look_up=self.look_up,
            fresh_seconds=FRESH_SECONDS,
            timeout_seconds=10,
            stale_patience_seconds=10,
        )
        channel = WebhookChannel(
            clock=self.clock,
            resolver=resolver,
            signing_keys=keys,
            version="1.2.3",
            limits=limits,
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


def page(target: str, *, contact_point: int = 1, number: int = 1, attempt: int = 1) -> Outgoing:
    """A page to a receiver."""
    return Outgoing(
        page_id=UUID(int=number),
        attempt=attempt,
        message_type="test.ping",
        contact_point_id=UUID(int=contact_point),
        target=target,
        body=BODY,
        sent_at=NOW,
    )


async def test_a_page_arrives_as_a_signed_post(outside: Outside) -> None:
    """The endpoint gets exactly the body, under the page's id, signed, and with no more headers than needed."""
    async with Receiver() as receiver:
        result = await outside.channel().send(page(receiver.url))
    assert result.state is AttemptState.DELIVERED
    assert (result.reason, result.status_code, result.detail) == (Reason.ACCEPTED, 200, "HTTP 200")
    (request,) = receiver.requests
    assert (request.method, request.path, request.body) == ("POST", "/hook", BODY)
    assert receiver.verify([OLD.verifying_key], now=NOW) == [str(UUID(int=1))]
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"] == "RedPhone/1.2.3"
    assert request.headers["webhook-timestamp"] == str(int(NOW.timestamp()))
    assert set(request.headers) == {
        "host",
        "accept",
        "content-length",
        "content-type",
        "user-agent",
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
    }


async def test_two_keys_sign_during_a_change(outside: Outside) -> None:
    """With two active keys a receiver that knows either of them accepts the page."""
    async with Receiver() as receiver:
        await outside.channel(keys=[OLD, NEW]).send(page(receiver.url))
    for key in (OLD, NEW):
        assert receiver.verify([key.verifying_key], now=NOW)


@pytest.mark.parametrize("code", [200, 201, 202, 204, 299])
async def test_every_2xx_is_delivered(outside: Outside, code: int) -> None:
    """Any status from 200 to 299 confirms the page."""
    async with Receiver(status(code)) as receiver:
        result = await outside.channel().send(page(receiver.url))
    assert (result.state, result.status_code) == (AttemptState.DELIVERED, code)


@pytest.mark.parametrize("code", [400, 401, 404, 410, 429, 500, 502, 503, 599])
async def test_no_other_status_is_delivered(outside: Outside, code: int) -> None:
    """A status outside of 2xx is a failure that names the status."""
    async with Receiver(status(code, body=b"our internal error text")) as receiver:
        result = await outside.channel().send(page(receiver.url))
    assert (result.state, result.reason) == (AttemptState.FAILED, Reason.HTTP_STATUS)
    assert (result.status_code, result.detail) == (code, f"HTTP {code}")


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
async def test_redirects_are_not_followed(outside: Outside, code: int) -> None:
    """A redirect is a failure, and where it points is never contacted."""
    async with Receiver() as elsewhere, Receiver(status(code, headers=[("Location", elsewhere.url)])) as receiver:
        result = await outside.channel().send(page(receiver.url))
    assert (result.state, result.reason, result.status_code) == (AttemptState.FAILED, Reason.REDIRECT_REFUSED, code)
    assert elsewhere.connections == 0


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("17", 17), ("3600", 60), (format_datetime(NOW + timedelta(seconds=9), usegmt=True), 9), ("later", None)],
)
async def test_retry_after_is_passed_on(outside: Outside, value: str, seconds: float | None) -> None:
    """What the endpoint asks for is read in both forms and capped at a minute."""
    async with Receiver(status(503, headers=[("Retry-After", value)])) as receiver:
        result = await outside.channel().send(page(receiver.url))
    assert result.retry_after_seconds == seconds


@pytest.mark.parametrize(
    ("behaviour", "status_code"), [(behaviours.hang, None), (behaviours.drip, 200)], ids=["silent", "byte by byte"]
)
async def test_five_seconds_are_for_everything(outside: Outside, behaviour: Behaviour, status_code: int | None) -> None:
    """An endpoint that never answers, or never stops answering, costs the total limit and no more."""
    channel = outside.channel(QUICK)
    async with Receiver(behaviour) as receiver:
        await channel.prepare(UUID(int=1), receiver.url)
        started = asyncio.get_running_loop().time()
        result = await channel.send(page(receiver.url))
        elapsed = asyncio.get_running_loop().time() - started
        assert len(receiver.requests) == 1
        # The client must let go of the connection too, not only the caller of its answer.
        await receiver.wait_for(lambda it: it.connections_open == 0)
    assert (result.state, result.reason, result.status_code) == (AttemptState.FAILED, Reason.TIMEOUT, status_code)
    assert TOTAL_SECONDS * 0.9 <= elapsed < TOTAL_SECONDS * 3


async def test_an_endpoint_that_is_never_served_times_out(outside: Outside) -> None:
    """A process that hangs while its kernel goes on accepting connections costs the total limit."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        result = await outside.channel(QUICK).send(page(f"http://127.0.0.1:{deaf.getsockname()[1]}/"))
    assert (result.state, result.reason) == (AttemptState.FAILED, Reason.TIMEOUT)


def test_the_limits_of_production() -> None:
    """Five seconds in all, two to connect, 64 kB of answer."""
    limits = WebhookLimits()
    assert (limits.total_seconds, limits.connect_seconds, limits.response_bytes_max) == (5, 2, 65_536)


async def test_a_handshake_that_never_ends_is_no_connection(outside: Outside) -> None:
    """An endpoint that accepts the connection but not the TLS handshake costs the connect limit."""
    async with Receiver() as receiver:
        channel = outside.channel(WebhookLimits(connect_seconds=0.1, total_seconds=10))
        result = await channel.send(page(receiver.url.replace("http:", "https:")))
    assert (result.reason, result.detail) == (Reason.CONNECT_FAILED, "no connection in time")


async def test_an_answer_without_end_is_cut_off(outside: Outside) -> None:
    """More than 64 kB of answer is a failure, and what was not read was not fetched either."""
    async with Receiver(behaviours.oversize) as receiver:
        result = await outside.channel().send(page(receiver.url))
        assert (result.state, result.reason) == (AttemptState.FAILED, Reason.RESPONSE_TOO_LARGE)
        assert result.status_code == 200
        await receiver.wait_for(lambda it: it.connections_open == 0)
        # Kernel buffers on both sides hold a few megabytes at most.
        assert receiver.bytes_sent < 16_000_000


async def test_the_response_limit_is_where_it_says(outside: Outside) -> None:
    """An answer of exactly 64 kB is read, one byte more is not."""
    limit = PATIENT.response_bytes_max
    async with Receiver(status(200, body=bytes(limit))) as receiver:
        channel = outside.channel()
        assert (await channel.send(page(receiver.url))).reason is Reason.ACCEPTED
        receiver.behaviour = status(200, body=bytes(limit + 1))
        assert (await channel.send(page(receiver.url))).reason is Reason.RESPONSE_TOO_LARGE


async def test_a_packed_answer_stays_packed(outside: Outside) -> None:
    """An answer that would unpack to 50 MB is counted as it came and confirms the page."""
    async with Receiver(behaviours.gzip_bomb) as receiver:
        result = await outside.channel().send(page(receiver.url))
    assert result.reason is Reason.ACCEPTED


@pytest.mark.parametrize(
    ("behaviour", "reason", "status_code"),
    [
        (behaviours.disconnect, Reason.DISCONNECTED, None),
        (behaviours.reset_after_200, Reason.DISCONNECTED, 200),
        (behaviours.lying_length, Reason.DISCONNECTED, 200),
        (behaviours.garbage, Reason.RESPONSE_MALFORMED, None),
        (behaviours.huge_head, Reason.RESPONSE_MALFORMED, None),
    ],
)
async def test_a_broken_answer_is_no_confirmation(
    outside: Outside, behaviour: Behaviour, reason: Reason, status_code: int | None
) -> None:
    """Only a complete 2xx answer counts, although the page has arrived; and nothing is sent twice behind our back."""
    async with Receiver(behaviour) as receiver:
        result = await outside.channel().send(page(receiver.url))
        assert (result.state, result.reason, result.status_code) == (AttemptState.FAILED, reason, status_code)
        assert len(receiver.requests) == 1


async def test_an_endpoint_that_hangs_up_at_once_is_disconnected(outside: Outside) -> None:
    """Hanging up before reading the page is told apart from not being there."""
    async with Receiver(hang_up_on_connect=True) as receiver:
        result = await outside.channel().send(page(receiver.url))
    assert result.reason is Reason.DISCONNECTED


async def test_nobody_listening_is_a_failed_connection(outside: Outside) -> None:
    """A closed port is a failure of the connection, told in words of our own."""
    async with Receiver() as receiver:
        url = receiver.url
    result = await outside.channel().send(page(url))
    assert (result.reason, result.detail) == (Reason.CONNECT_FAILED, "connection refused")


async def test_connections_are_kept(outside: Outside) -> None:
    """Pages one after another to one endpoint share one connection."""
    async with Receiver() as receiver:
        channel = outside.channel()
        for number in range(5):
            await channel.send(page(receiver.url, number=number + 1))
        assert (len(receiver.requests), receiver.connections) == (5, 1)


async def test_retries_share_the_webhook_id(outside: Outside) -> None:
    """Two attempts at one page carry the same id, so that the receiver can drop the second."""
    async with Receiver() as receiver:
        channel = outside.channel()
        for attempt in (1, 2):
            await channel.send(page(receiver.url, attempt=attempt))
        assert len({request.headers["webhook-id"] for request in receiver.requests}) == 1


async def test_tls_verifies_the_name_on_the_guarded_address(outside: Outside, tmp_path: Path) -> None:
    """The connection goes to the address that was resolved here, and the certificate must be the name's."""
    authority = Authority.create()
    async with Receiver(tls=authority.server_context(NAME, tmp_path)) as receiver:
        channel = outside.channel(roots=authority.pem)
        result = await channel.send(page(receiver.named_url(NAME)))
    assert result.reason is Reason.ACCEPTED
    assert receiver.requests[0].headers["host"] == f"{NAME}:{receiver.port}"


@pytest.mark.parametrize(
    ("host", "expired", "trusted", "detail"),
    [
        ("other.example", False, True, "the certificate is for another name"),
        (NAME, True, True, "the certificate has expired"),
        (NAME, False, False, "the certificate's authority is not known"),
    ],
    ids=["wrong name", "expired", "unknown authority"],
)
async def test_a_bad_certificate_gets_no_page(
    outside: Outside, tmp_path: Path, *, host: str, expired: bool, trusted: bool, detail: str
) -> None:
    """A wrong, expired or unknown certificate ends the attempt before anything is sent, and says which it was."""
    authority = Authority.create()
    async with Receiver(tls=authority.server_context(host, tmp_path, expired=expired)) as receiver:
        channel = outside.channel(roots=authority.pem if trusted else None)
        result = await channel.send(page(receiver.named_url(NAME)))
    assert (result.reason, result.detail) == (Reason.TLS_FAILED, detail)
    assert receiver.requests == []


async def test_a_moved_endpoint_is_found_again(outside: Outside) -> None:
    """When the name's answer changes, pages follow it once the old answer is no longer fresh, and not before."""
    async with Receiver() as first, Receiver(host="127.0.0.2", port=first.port) as second:
        channel = outside.channel()
        url = first.named_url(NAME)
        await channel.send(page(url))
        outside.names[NAME] = ["127.0.0.2"]
        await channel.send(page(url))
        assert (len(first.requests), len(second.requests)) == (2, 0)
        outside.clock.advance(FRESH_SECONDS + 1)
        await channel.send(page(url))
        assert (len(first.requests), len(second.requests)) == (2, 1)


async def test_a_warm_client_outlives_its_resolution(outside: Outside) -> None:
    """While the address is still among the name's answers, in any order, the connection is kept."""
    async with Receiver() as receiver:
        channel = outside.channel()
        for answer in (["127.0.0.1"], ["127.0.0.2", "127.0.0.1"], ["127.0.0.1", "127.0.0.3"]):
            outside.names[NAME] = answer
            assert (await channel.send(page(receiver.named_url(NAME)))).reason is Reason.ACCEPTED
            outside.clock.advance(FRESH_SECONDS + 1)
        assert receiver.connections == 1


async def test_a_name_that_turns_inwards_is_refused(outside: Outside) -> None:
    """A name rebound to an address that is not allowed is refused and that address is never contacted."""
    policy = EgressPolicy(allow_http=True, extra_networks=(ipaddress.IPv4Network("127.0.0.1/32"),))
    async with Receiver() as allowed, Receiver(host="127.0.0.2", port=allowed.port) as inner:
        channel = outside.channel(policy=policy)
        assert (await channel.send(page(allowed.named_url(NAME)))).reason is Reason.ACCEPTED
        for answer in (["127.0.0.2"], ["127.0.0.1", "127.0.0.2"]):
            outside.names[NAME] = answer
            outside.clock.advance(FRESH_SECONDS + 1)
            result = await channel.send(page(allowed.named_url(NAME)))
            assert (result.state, result.reason) == (AttemptState.FAILED, Reason.ADDRESS_REFUSED)
        assert (len(allowed.requests), inner.connections) == (1, 0)


async def test_production_does_not_reach_this_machine(outside: Outside) -> None:
    """Without the development switch neither loopback nor a name of it is contacted."""
    async with Receiver() as receiver:
        channel = outside.channel(policy=EgressPolicy(allow_http=True))
        for url in (receiver.url, receiver.named_url(NAME)):
            assert (await channel.send(page(url))).reason is Reason.ADDRESS_REFUSED
        assert receiver.connections == 0


async def test_an_unreachable_first_address_costs_no_attempt(outside: Outside) -> None:
    """If the first of several addresses refuses, the second is tried at once, and preferred from then on."""
    outside.names[NAME] = ["127.0.0.9", "127.0.0.1"]
    async with Receiver() as receiver:
        channel = outside.channel()
        for _ in range(2):
            assert (await channel.send(page(receiver.named_url(NAME)))).reason is Reason.ACCEPTED
        assert receiver.connections == 1


async def test_an_unknown_name_is_a_reason(outside: Outside) -> None:
    """A name that does not exist is told as such."""
    result = await outside.channel().send(page("http://nowhere.example:8080/"))
    assert (result.reason, result.status_code) == (Reason.NAME_FAILED, None)


@pytest.mark.parametrize("target", ["", "ftp://a.example/", "http://user:secret@a.example/", "http://a.example:22/"])
async def test_a_bad_target_is_refused_without_repeating_it(outside: Outside, target: str) -> None:
    """A URL that should never have been stored fails the attempt; the result does not quote it."""
    result = await outside.channel().send(page(target))
    assert result.reason is Reason.TARGET_REFUSED
    assert "secret" not in repr(result)


async def test_a_proxy_of_the_environment_is_not_used(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Proxy variables do not divert pages."""
    async with Receiver() as proxy, Receiver() as receiver:
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.upper(), proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        outside.channel()
        result = await outside.channel().send(page(receiver.named_url(NAME)))
        assert (result.reason, proxy.connections) == (Reason.ACCEPTED, 0)


async def test_one_endpoint_never_delays_another(outside: Outside) -> None:
    """While an endpoint holds as many attempts as it may and more are waiting, another one is served at once."""
    channel = outside.channel(WebhookLimits(in_flight_max=8, total_seconds=20))
    async with Receiver(behaviours.hang) as slow, Receiver() as healthy:
        held = [asyncio.create_task(channel.send(page(slow.url, number=number))) for number in range(20)]
        await slow.wait_for(lambda it: len(it.requests) == 8)
        assert channel.is_busy(UUID(int=1))
        result = await channel.send(page(healthy.url, contact_point=2))
        assert result.reason is Reason.ACCEPTED
        assert not channel.is_busy(UUID(int=2))
        assert not any(task.done() for task in held)
        assert len(slow.requests) == 8
        await channel.close()
        assert {(await task).reason for task in held} <= {Reason.CHANNEL_UNAVAILABLE, Reason.DISCONNECTED}


async def test_waiting_for_a_place_has_the_same_limit(outside: Outside) -> None:
    """An attempt that finds no place at its endpoint within the total limit ends and says so."""
    channel = outside.channel(WebhookLimits(in_flight_max=1, total_seconds=TOTAL_SECONDS))
    async with Receiver(behaviours.hang) as receiver:
        await channel.prepare(UUID(int=1), receiver.url)
        results = await asyncio.gather(*(channel.send(page(receiver.url, number=number)) for number in (1, 2)))
        assert [result.reason for result in results] == [Reason.TIMEOUT, Reason.ENDPOINT_BUSY]
        assert len(receiver.requests) == 1


async def test_cancelling_is_passed_on_and_frees_the_place(outside: Outside) -> None:
    """A cancelled attempt raises `CancelledError`, and the endpoint can be paged afterwards."""
    channel = outside.channel(WebhookLimits(in_flight_max=1))
    async with Receiver(behaviours.hang) as receiver:
        task = asyncio.create_task(channel.send(page(receiver.url)))
        await receiver.wait_for(lambda it: len(it.requests) == 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        receiver.behaviour = behaviours.ok
        assert (await channel.send(page(receiver.url))).reason is Reason.ACCEPTED


async def test_closing_ends_what_is_under_way(outside: Outside) -> None:
    """Attempts under way and later ones end as failed, with the channel as the reason."""
    channel = outside.channel()
    async with Receiver(behaviours.hang) as receiver:
        task = asyncio.create_task(channel.send(page(receiver.url)))
        await receiver.wait_for(lambda it: len(it.requests) == 1)
        await channel.close()
        assert (await task).reason is Reason.CHANNEL_UNAVAILABLE
        assert (await channel.send(page(receiver.url))).reason is Reason.CHANNEL_UNAVAILABLE


async def test_preparing_sends_nothing_and_spares_the_first_page_the_work(outside: Outside) -> None:
    """After preparing, the name is resolved and the client built, in a thread; the endpoint has noticed nothing."""
    channel = outside.channel()
    threads: list[str] = []
    build = channel._build_client

    def watched(*arguments: object) -> object:
        threads.append(threading.current_thread().name)
        return build(*arguments)  # type: ignore[arg-type]

    channel._build_client = watched  # type: ignore[method-assign, assignment]
    async with Receiver() as receiver:
        await asyncio.gather(*(channel.prepare(UUID(int=1), receiver.named_url(NAME)) for _ in range(5)))
        assert receiver.connections == 0
        del outside.names[NAME]
        assert (await channel.send(page(receiver.named_url(NAME)))).reason is Reason.ACCEPTED
    assert len(threads) == 1
    assert threads[0].startswith("webhook-client")


async def test_preparing_never_raises(outside: Outside) -> None:
    """What cannot be prepared is left for the first attempt to report."""
    channel = outside.channel()
    for target in ("nonsense", "http://10.0.0.1:8080/", "http://nowhere.example:8080/"):
        await channel.prepare(UUID(int=1), target)


async def test_a_changed_url_is_used_at_once(outside: Outside) -> None:
    """When the contact point's URL changes, the next page goes to the new one."""
    async with Receiver() as before, Receiver() as after:
        channel = outside.channel()
        await channel.send(page(before.url))
        await channel.send(page(after.url))
        assert (len(before.requests), len(after.requests)) == (1, 1)


async def test_warm_clients_have_a_limit(outside: Outside) -> None:
    """Beyond the limit the client unused for longest is given up, its connection with it, and built anew if needed."""
    channel = outside.channel(WebhookLimits(clients_max=2))
    async with Receiver() as first, Receiver() as second, Receiver() as third:
        for number, receiver in ((1, first), (2, second), (1, first), (3, third)):
            await channel.send(page(receiver.url, contact_point=number))
        await second.wait_for(lambda it: it.connections_open == 0)
        assert (first.connections_open, third.connections_open) == (1, 1)
        assert (await channel.send(page(second.url, contact_point=2))).reason is Reason.ACCEPTED


async def test_a_client_in_use_is_never_given_up(outside: Outside) -> None:
    """The limit of warm clients neither cuts off an attempt under way nor forgets that its endpoint is busy."""
    channel = outside.channel(WebhookLimits(clients_max=1, in_flight_max=1, total_seconds=20))
    async with Receiver(behaviours.hang) as slow, Receiver() as other:
        task = asyncio.create_task(channel.send(page(slow.url, contact_point=1)))
        await slow.wait_for(lambda it: len(it.requests) == 1)
        assert (await channel.send(page(other.url, contact_point=2))).reason is Reason.ACCEPTED
        assert channel.is_busy(UUID(int=1))
        assert (slow.connections_open, task.done()) == (1, False)
        await channel.close()
        await task


@pytest.mark.logs_error("webhook.send_failed")
async def test_an_unforeseen_error_is_a_result(outside: Outside) -> None:
    """Whatever breaks inside, the delivery loop gets a result and no exception."""

    def broken(_host: str) -> Sequence[str]:
        raise RuntimeError("the name service's client is broken")

    channel = outside.channel()
    channel._resolver._look_up = broken
    result = await channel.send(page("http://partner.example:8080/"))
    assert (result.state, result.reason, result.detail) == (AttemptState.FAILED, Reason.INTERNAL, "RuntimeError")


@pytest.mark.parametrize(
    "roots", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"]
)
def test_an_unreadable_authority_fails_the_start(outside: Outside, roots: bytes) -> None:
    """A certificate authority that cannot be read stops the start, not the first page."""
    with pytest.raises(ValueError, match=r"PEM|certificate|pars"):
        outside.channel(roots=roots)


async def test_the_registry_names_its_channels(outside: Outside) -> None:
    """The one place that knows the channels gives each under its own name, ready to send."""
    channels = build_channels(clock=outside.clock, egress_policy=DEVELOPMENT, signing_keys=[OLD], version="1.2.3")
    assert list(channels) == ["webhook"]
    channel: Channel = channels["webhook"]
    async with Receiver() as receiver:
        result: SendResult = await channel.send(page(receiver.url))
    await channel.close()
    assert result.state is AttemptState.DELIVERED


def test_a_page_may_be_logged() -> None:
    """Printing an outgoing page shows neither whom it reaches nor what it says."""
    shown = repr(page("https://partner.example/secret"))
    assert "secret" not in shown
    assert "test.ping" in shown
    assert "timestamp" not in shown
