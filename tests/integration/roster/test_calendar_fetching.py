"""Fetching calendars from a real server on loopback that behaves well and badly."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest

from services.roster.calendars.fetching import (
    CalendarFetcher,
    Failed,
    Fetched,
    FetchLimits,
    NotModified,
    address_of,
)
from services.roster.calendars.model import BYTES_MAX
from shared.clock import ManualClock
from shared.egress import EgressPolicy, Resolver
from tests.support import receiver as behaviours
from tests.support.certificates import Authority
from tests.support.receiver import Behaviour, Exchange, Receiver, status

CLOCK = ManualClock(datetime(2026, 10, 20, 9, 30, tzinfo=UTC))
DEVELOPMENT = EgressPolicy(allow_http=True, allow_loopback=True)
NAME = "calendar.example"
TEXT = b"BEGIN:VCALENDAR\r\nEND:VCALENDAR\r\n"
QUICK = FetchLimits(total_seconds=0.4, connect_seconds=0.2)


def fetcher(
    limits: FetchLimits | None = None,
    *,
    policy: EgressPolicy = DEVELOPMENT,
    names: dict[str, Sequence[str]] | None = None,
    roots: bytes | None = None,
) -> CalendarFetcher:
    """A fetcher whose name service answers from a table."""

    def look_up(host: str) -> Sequence[str]:
        if host not in (names or {}):
            raise OSError("unknown")
        return (names or {})[host]

    resolver = Resolver(policy, monotonic=CLOCK.monotonic, look_up=look_up)
    return CalendarFetcher(
        policy=policy,
        monotonic=CLOCK.monotonic,
        version="1",
        limits=limits,
        resolver=resolver,
        extra_roots_pem=roots,
    )


async def fetch(
    url: str, one: CalendarFetcher | None = None, etag: str | None = None, last_modified: str | None = None
) -> Fetched | NotModified | Failed:
    """One fetch."""
    used = one or fetcher()
    try:
        return await used.fetch(url, etag=etag, last_modified=last_modified)
    finally:
        await used.close()


def reason(outcome: Fetched | NotModified | Failed) -> str:
    """Why a fetch failed."""
    assert isinstance(outcome, Failed), outcome
    return outcome.reason


async def test_what_is_fetched() -> None:
    """The text comes with what its server names this version by, and the request tells nothing of who asks."""
    named = status(200, headers=[("ETag", '"7"'), ("Last-Modified", "Tue, 20 Oct 2026 09:00:00 GMT")], body=TEXT)
    async with Receiver(named) as server:
        outcome = await fetch(server.url)
    assert outcome == Fetched(TEXT, '"7"', "Tue, 20 Oct 2026 09:00:00 GMT")
    (request,) = server.requests
    assert request.method == "GET"
    assert request.headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie", "referer", "if-none-match", "if-modified-since"} & request.headers.keys()


async def test_what_has_not_changed() -> None:
    """What the server named its version by is sent back, and an answer of 304 means that nothing is newer."""
    async with Receiver(status(304)) as server:
        assert isinstance(await fetch(server.url, etag='"7"', last_modified="yesterday"), NotModified)
    assert server.requests[0].headers["if-none-match"] == '"7"'
    assert server.requests[0].headers["if-modified-since"] == "yesterday"


@pytest.mark.parametrize("etag", ["x" * 300, 'a"\x01', "é"])
async def test_versions_that_cannot_be_sent_back(etag: str) -> None:
    """A name of a version that is overlong or no plain text is not kept."""

    async def answer(exchange: Exchange) -> bool:
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(TEXT)}\r\nETag: {etag}\r\n\r\n"
        await exchange.write(head.encode() + TEXT)
        return True

    async with Receiver(answer) as server:
        outcome = await fetch(server.url)
    assert isinstance(outcome, Fetched | Failed)
    assert not isinstance(outcome, Fetched) or outcome.etag is None


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        (status(302, headers=[("Location", "http://127.0.0.1:1/elsewhere")]), "redirect_refused"),
        (status(401), "http_status"),
        (status(404), "http_status"),
        (status(503), "http_status"),
        (status(206, body=TEXT), "http_status"),
        (status(200, headers=[("Content-Encoding", "gzip")], body=gzip.compress(TEXT)), "response_compressed"),
        (status(200, body=b"x" * (BYTES_MAX + 1)), "response_too_large"),
        (behaviours.gzip_bomb, "response_compressed"),
        (behaviours.lying_length, "disconnected"),
        (behaviours.reset_after_200, "disconnected"),
        (behaviours.disconnect, "disconnected"),
    ],
)
async def test_answers_that_are_no_calendar(behaviour: Behaviour, expected: str) -> None:
    """Each wrong answer has its reason, and a redirect is not followed."""
    async with Receiver(behaviour) as server:
        outcome = await fetch(server.url)
    assert reason(outcome) == expected
    assert server.url not in str(outcome)


async def test_a_stream_without_end_is_cut_off() -> None:
    """Of a server that sends without end no more is read than a calendar may have."""
    async with Receiver(behaviours.oversize) as server:
        assert reason(await fetch(server.url)) == "response_too_large"
        await server.wait_for(lambda one: one.connections_open == 0)


@pytest.mark.parametrize("behaviour", [behaviours.hang, behaviours.drip, behaviours.huge_head])
async def test_slow_servers(behaviour: Behaviour) -> None:
    """However slowly a server answers, the fetch ends in its time."""
    async with Receiver(behaviour) as server:
        started = time.perf_counter()
        outcome = await fetch(server.url, fetcher(QUICK))
        assert time.perf_counter() - started < 5
    assert isinstance(outcome, Failed)


async def test_one_slow_server_does_not_hold_up_the_others() -> None:
    """While one server says nothing, another one's calendar is there."""
    one = fetcher(FetchLimits(total_seconds=20))
    async with Receiver(behaviours.hang) as slow, Receiver(status(200, body=TEXT)) as quick:
        waiting = asyncio.create_task(one.fetch(slow.url, etag=None, last_modified=None))
        await slow.wait_for(lambda server: len(server.requests) == 1)
        assert isinstance(await one.fetch(quick.url, etag=None, last_modified=None), Fetched)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
    await one.close()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://calendar.example/x.ics", "target_refused"),
        ("ftp://calendar.example/x.ics", "target_refused"),
        ("file:///etc/passwd", "target_refused"),
        ("https://user:password@calendar.example/x.ics", "target_refused"),
        ("https://127.0.0.1/x.ics", "address_refused"),
        ("https://[::1]/x.ics", "address_refused"),
        ("https://169.254.169.254/latest/meta-data", "address_refused"),
        ("https://[::ffff:10.0.0.1]/x.ics", "address_refused"),
        ("https://2130706433/x.ics", "target_refused"),
        ("https://inside.example/x.ics", "address_refused"),
        ("https://mixed.example/x.ics", "address_refused"),
        ("https://unknown.example/x.ics", "dns_failed"),
    ],
)
async def test_addresses_that_production_does_not_fetch(url: str, expected: str) -> None:
    """Only https to the public internet: no name with an inner address among its addresses, and no inner address."""
    names: dict[str, Sequence[str]] = {
        "inside.example": ["10.1.2.3"],
        "mixed.example": ["93.184.216.34", "127.0.0.1"],
        "calendar.example": ["93.184.216.34"],
    }
    outcome = await fetch(url, fetcher(QUICK, policy=EgressPolicy(), names=names))
    assert reason(outcome) == expected


async def test_tls_is_verified_against_the_name(tmp_path: Path) -> None:
    """The connection goes to the address that was resolved, and the certificate must be the name's."""
    authority = Authority.create()
    for host, expected in ((NAME, "fetched"), ("other.example", "tls_failed")):
        folder = tmp_path / host
        folder.mkdir()
        async with Receiver(status(200, body=TEXT), tls=authority.server_context(host, folder)) as server:
            one = fetcher(names={NAME: ["127.0.0.1"]}, roots=authority.pem)
            outcome = await fetch(server.named_url(NAME), one)
        assert (reason(outcome) if isinstance(outcome, Failed) else "fetched") == expected


async def test_the_proxy_of_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment names as a proxy learns of no address."""
    async with Receiver(status(200, body=b"proxied")) as proxy, Receiver(status(200, body=TEXT)) as server:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert isinstance(await fetch(server.url), Fetched)
    assert not proxy.requests


async def test_a_second_address_is_tried() -> None:
    """Where the first address of a name cannot be connected to, the second one is."""
    async with Receiver(status(200, body=TEXT)) as server:
        one = fetcher(names={NAME: ["127.0.0.9", "127.0.0.1"]})
        assert isinstance(await fetch(server.named_url(NAME), one), Fetched)


def test_addresses_that_people_copy() -> None:
    """What calendar programs show as webcal is fetched over https."""
    assert address_of("webcal://calendar.example/x.ics") == "https://calendar.example/x.ics"
    assert address_of("WEBCALS://calendar.example/x.ics") == "https://calendar.example/x.ics"
    assert address_of("https://calendar.example/webcal://") == "https://calendar.example/webcal://"
