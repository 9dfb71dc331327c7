"""The chat channel with real worker processes and real servers on loopback that speak ntfy's and Mattermost's APIs."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from ipaddress import ip_network
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
import pytest_asyncio

from services.escalation.channels import AttemptState, Outgoing, PersonMessage, Reason, VoiceScript
from services.escalation.channels.chat import TEXT_CHARACTERS_MAX, ChatChannel, ChatLimits, outcome_of
from shared.chat_urls import SCHEMAS
from shared.clock import ManualClock
from shared.egress import EgressPolicy, Resolver
from tests.support import receiver as behaviours
from tests.support.receiver import Behaviour, Receiver, status
from tests.support.waiting import eventually

NOW = datetime(2026, 8, 15, 12, 0, tzinfo=UTC)
DEVELOPMENT = EgressPolicy(allow_http=True, allow_loopback=True)
PATIENT = ChatLimits(total_seconds=30)
HOOK = "3ccdd113474722377935511fc85d3dd4"
MESSAGE = PersonMessage(
    language="en",
    subject="FLASH from CA",
    text="Kabul: evacuation.\nAnswer: https://redphone.example/a/token",
    html="",
    short="short",
    voice=VoiceScript("en-GB", "", "", "", "", "", ""),
    link="https://redphone.example/a/token",
    code="4821",
    thread="chain-1",
    is_urgent=True,
)


def worker_processes() -> list[psutil.Process]:
    """The workers that this process has now."""
    found = []
    for process in psutil.Process().children():
        try:
            if any("chat_worker" in part for part in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


class Outside:
    """The name service of a test, and its channels."""

    def __init__(self) -> None:
        self.channels: list[ChatChannel] = []

    def channel(
        self,
        limits: ChatLimits = PATIENT,
        *,
        policy: EgressPolicy = DEVELOPMENT,
        addresses: Sequence[str] = ("127.0.0.1",),
    ) -> ChatChannel:
        """A channel in this world; closed at the end of the test."""
        clock = ManualClock(NOW)
        resolver = Resolver(policy, monotonic=clock.monotonic, look_up=lambda _host: addresses)
        channel = ChatChannel(clock=clock, resolver=resolver, schemas=SCHEMAS.keys(), limits=limits)
        self.channels.append(channel)
        return channel

    async def warm(self, limits: ChatLimits) -> ChatChannel:
        """A channel whose worker has loaded everything, so that short limits measure servers and not its start."""
        channel = self.channel(limits)
        async with Receiver() as room:
            async with asyncio.timeout(30):
                while (await channel.send(page(ntfy(room)))).state is not AttemptState.SENT:
                    pass
        return channel


@pytest_asyncio.fixture
async def outside() -> AsyncIterator[Outside]:
    """A fresh world, closed afterwards; no worker outlives it."""
    world = Outside()
    yield world
    for channel in world.channels:
        await channel.close()
    assert worker_processes() == []


def ntfy(room: Receiver, host: str = "127.0.0.1") -> str:
    """A room of an ntfy server of one's own."""
    return f"ntfy://duty:hidden@{host}:{room.port}/crisis"


def page(
    target: str, *, text: str = MESSAGE.text, has_message: bool = True, is_urgent: bool = True, is_drill: bool = False
) -> Outgoing:
    """A page to a chat room."""
    message = replace(MESSAGE, text=text, is_urgent=is_urgent, is_drill=is_drill)
    return Outgoing(
        page_id=UUID(int=1),
        attempt=1,
        message_type="alert.released",
        contact_point_id=UUID(int=2),
        target=target,
        body=b"",
        sent_at=NOW,
        message=message if has_message else None,
    )


async def test_a_room_of_an_ntfy_server_gets_the_message(outside: Outside) -> None:
    """Title and text arrive whole, with the credentials of the address; the result names the service."""
    async with Receiver() as room:
        result = await outside.channel().send(page(ntfy(room)))
    assert (result.state, result.reason, result.provider) == (AttemptState.SENT, Reason.ACCEPTED, "ntfy")
    (request,) = room.requests
    sent = json.loads(request.body)
    assert (sent["topic"], sent["title"], sent["message"]) == ("crisis", MESSAGE.subject, MESSAGE.text)
    assert request.headers["authorization"] == "Basic ZHV0eTpoaWRkZW4="
    assert "icon" not in sent


async def test_an_incoming_webhook_gets_the_message(outside: Outside) -> None:
    """Mattermost's incoming webhooks, which are Slack's, get title and text in one."""
    async with Receiver() as room:
        result = await outside.channel().send(page(f"mmost://127.0.0.1:{room.port}/{HOOK}"))
    assert (result.state, result.provider) == (AttemptState.SENT, "mmost")
    assert room.requests[0].path == f"/hooks/{HOOK}"
    text = json.loads(room.requests[0].body)["text"]
    assert MESSAGE.subject in text
    assert "https://redphone.example/a/token" in text


async def test_a_text_that_is_too_long_arrives_in_parts(outside: Outside) -> None:
    """What a service does not take in one message comes in several at once, and nothing is lost before our own end."""
    text = " ".join(f"word{number}" for number in range(5_000))
    async with Receiver() as room:
        assert (await outside.channel().send(page(ntfy(room), text=text))).state is AttemptState.SENT
    joined = "".join(json.loads(request.body)["message"] for request in room.requests)
    assert len(room.requests) > 1
    assert joined.replace(" ", "") == text[:TEXT_CHARACTERS_MAX].replace(" ", "")


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (status(500), Reason.PROVIDER_UNAVAILABLE),
        (status(429, headers=[("Retry-After", "7")]), Reason.PROVIDER_BUSY),
        (status(403), Reason.PROVIDER_REFUSED),
        (status(302, headers=[("Location", "/elsewhere")]), Reason.PROVIDER_REFUSED),
        (behaviours.disconnect, Reason.CONNECT_FAILED),
    ],
)
async def test_why_a_room_did_not_get_it_is_told(outside: Outside, behaviour: Behaviour, reason: Reason) -> None:
    """The reason is the last HTTP answer's, and no redirect is followed."""
    async with Receiver(behaviour) as room:
        result = await outside.channel().send(page(ntfy(room)))
    assert (result.state, result.reason) == (AttemptState.FAILED, reason)
    assert len(room.requests) == 1
    assert result.retry_after_seconds == (7 if reason is Reason.PROVIDER_BUSY else None)


async def test_a_server_that_says_too_much_takes_no_worker_down(outside: Outside) -> None:
    """Headers as long as HTTP allows are an answer like any other: the worker lives, and the messages in it."""
    async with Receiver(status(429, headers=[("Retry-After", '"' * 60_000)])) as room:
        result = await outside.channel().send(page(ntfy(room)))
    assert (result.reason, result.retry_after_seconds) == (Reason.PROVIDER_BUSY, None)


@pytest.mark.parametrize(
    ("schema", "answer", "reason"),
    [
        ("slack", {"status": 404}, Reason.ADDRESS_UNKNOWN),
        ("mmosts", {"status": 404}, Reason.PROVIDER_REFUSED),
        ("mmosts", {"status": 410}, Reason.ADDRESS_UNKNOWN),
        ("ntfys", {"error": "SSLError"}, Reason.TLS_FAILED),
        ("ntfys", {"error": "ReadTimeout"}, Reason.TIMEOUT),
        ("ntfys", {"error": "ConnectTimeout"}, Reason.CONNECT_FAILED),
        ("threema", {"error": "UrlRefused"}, Reason.TARGET_REFUSED),
        ("threema", {"error": "KeyError"}, Reason.PROVIDER_REFUSED),
        ("threema", {"sent": True, "error": "KeyError"}, Reason.ACCEPTED),
    ],
)
def test_what_a_worker_answers_is_told_as_it_is(schema: str, answer: Mapping[str, Any], reason: Reason) -> None:
    """Only a great service's 404, and 410, say that a room is gone for good."""
    whole = {"sent": False, "status": None, "retry_after": None, "error": None, **answer}
    assert outcome_of(whole, schema, now=NOW).reason is reason


async def test_a_room_that_hangs_keeps_nobody_waiting(outside: Outside) -> None:
    """While many messages hang at one server, those to another arrive; the hanging ones end at their limit."""
    limits = ChatLimits(total_seconds=2.0, per_server_max=3)
    channel = await outside.warm(limits)
    async with Receiver(behaviours.hang) as dead, Receiver() as room:
        hanging = [asyncio.create_task(channel.send(page(ntfy(dead)))) for _ in range(8)]
        await dead.wait_for(lambda receiver: len(receiver.requests) == limits.per_server_max)
        started = asyncio.get_running_loop().time()
        results = await asyncio.gather(*(channel.send(page(ntfy(room))) for _ in range(6)))
        took = asyncio.get_running_loop().time() - started
        assert [result.state for result in results] == [AttemptState.SENT] * 6
        assert not any(task.done() for task in hanging), took
        ended = await asyncio.gather(*hanging)
        assert asyncio.get_running_loop().time() - started < limits.total_seconds + 1.0
    assert {result.reason for result in ended} == {Reason.TIMEOUT}
    assert all(len(receiver.requests) <= limits.per_server_max for receiver in (dead,))


async def test_a_worker_full_of_hanging_messages_is_replaced(outside: Outside) -> None:
    """Messages that never end, one byte after the other, end with their process, and a new one works on."""
    channel = await outside.warm(ChatLimits(total_seconds=1.0, abandoned_max=1))
    (first,) = worker_processes()
    async with Receiver(behaviours.drip) as dead, Receiver() as room:
        results = await asyncio.gather(*(channel.send(page(ntfy(dead))) for _ in range(2)))
        assert {result.reason for result in results} == {Reason.TIMEOUT}
        await eventually(lambda: not first.is_running() or first.status() == psutil.STATUS_ZOMBIE)
        await eventually(lambda: _is_sent(channel, ntfy(room)))


async def _is_sent(channel: ChatChannel, target: str) -> bool:
    return (await channel.send(page(target))).state is AttemptState.SENT


async def test_as_many_workers_as_may_be_are_a_busy_channel(outside: Outside) -> None:
    """With no room left anywhere a page fails at once and comes back by the schedule."""
    channel = await outside.warm(ChatLimits(total_seconds=20, per_worker_max=1, workers_max=1))
    async with Receiver(behaviours.hang) as dead, Receiver() as room:
        hanging = asyncio.create_task(channel.send(page(ntfy(dead), is_urgent=False)))
        await dead.wait_for(lambda receiver: len(receiver.requests) == 1)
        assert (await channel.send(page(ntfy(room), is_urgent=False))).reason is Reason.ENDPOINT_BUSY
        await channel.close()
        assert (await hanging).reason is Reason.CHANNEL_UNAVAILABLE


@pytest.mark.parametrize(("is_urgent", "is_drill"), [(False, False), (True, True)], ids=["calm", "drill"])
async def test_what_is_urgent_waits_for_nothing_that_is_not(
    outside: Outside, *, is_urgent: bool, is_drill: bool
) -> None:
    """Where all drills and all that is not urgent hang, in worker and server, FLASH finds a worker and a place."""
    limits = ChatLimits(total_seconds=20, per_worker_max=1, workers_max=1, per_server_max=1)
    channel = await outside.warm(limits)
    async with Receiver(behaviours.hang) as room:
        hanging = asyncio.create_task(channel.send(page(ntfy(room), is_urgent=is_urgent, is_drill=is_drill)))
        await room.wait_for(lambda receiver: len(receiver.requests) == 1)
        room.behaviour = behaviours.ok
        assert (await channel.send(page(ntfy(room)))).state is AttemptState.SENT
        assert not hanging.done()
        await channel.close()
        assert (await hanging).reason is Reason.CHANNEL_UNAVAILABLE


async def test_a_worker_that_dies_takes_nobody_with_it(outside: Outside) -> None:
    """Messages in a worker that is killed fail and say so; the next one finds a new worker."""
    channel = await outside.warm(PATIENT)
    async with Receiver(behaviours.hang) as dead, Receiver() as room:
        hanging = asyncio.create_task(channel.send(page(ntfy(dead))))
        await dead.wait_for(lambda receiver: len(receiver.requests) == 1)
        for process in worker_processes():
            process.kill()
        assert (await hanging).reason is Reason.CHANNEL_UNAVAILABLE
        assert (await channel.send(page(ntfy(room)))).state is AttemptState.SENT


async def test_a_name_that_turns_inside_after_the_check_reaches_nothing(outside: Outside) -> None:
    """The worker looks at the address that it connects to, whatever the name meant when it was checked."""
    policy = EgressPolicy(allow_http=True, extra_networks=(ip_network("10.1.0.0/16"),))
    channel = outside.channel(policy=policy, addresses=["10.1.2.3"])
    async with Receiver() as inside:
        result = await channel.send(page(ntfy(inside, "localhost")))
    assert result.reason is Reason.ADDRESS_REFUSED
    assert inside.connections == 0


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("ntfys://10.0.0.1/crisis", Reason.ADDRESS_REFUSED),
        ("ntfys://chat.example/crisis", Reason.ADDRESS_REFUSED),
        ("ntfy://chat.example/crisis", Reason.TARGET_REFUSED),
        ("file:///etc/passwd", Reason.TARGET_REFUSED),
        ("slack://", Reason.TARGET_REFUSED),
        ("", Reason.TARGET_REFUSED),
    ],
)
async def test_what_leads_inside_or_elsewhere_is_refused(outside: Outside, target: str, reason: Reason) -> None:
    """Inner addresses, connections without TLS and other schemas are refused before any worker sees them."""
    channel = outside.channel(policy=EgressPolicy(), addresses=["192.168.1.1"])
    assert (await channel.send(page(target))).reason is reason
    await channel.prepare(UUID(int=2), "")


async def test_an_incomplete_address_is_told_by_its_service(outside: Outside) -> None:
    """What only Apprise can know of an address comes back as a reason, without a word of the address."""
    result = await outside.channel().send(page("slack://hidden-token"))
    assert (result.reason, result.detail) == (Reason.TARGET_REFUSED, "the address is not complete")


async def test_a_page_without_a_text_for_people_is_not_sent(outside: Outside) -> None:
    """A page that has no text for a person is a failure here, not an empty message."""
    async with Receiver() as room:
        result = await outside.channel().send(page(ntfy(room), has_message=False))
    assert (result.reason, room.requests) == (Reason.INTERNAL, [])


async def test_a_worker_knows_nothing_of_the_installation(outside: Outside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither configuration nor addresses stand in a worker's environment or arguments, where others could read."""
    monkeypatch.setenv("REDPHONE_KEYS", "hidden-key")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    await outside.warm(PATIENT)
    (process,) = worker_processes()
    told = str(process.environ()) + str(process.cmdline())
    assert not any(word in told for word in ("hidden", "REDPHONE_", "PROXY", "ntfy"))


async def test_preparing_starts_a_worker_and_sends_nothing(outside: Outside) -> None:
    """After preparing a worker is there and nothing has been sent; after closing nothing is."""
    channel = outside.channel()
    async with Receiver() as room:
        await channel.prepare(UUID(int=2), ntfy(room))
        assert len(worker_processes()) == 1
        assert room.connections == 0
        await channel.close()
        assert (await channel.send(page(ntfy(room)))).reason is Reason.CHANNEL_UNAVAILABLE


def test_a_worker_starts_no_program() -> None:
    """Behind its fence a process starts no other one and connects to nothing that is not allowed."""
    script = """
import socket, subprocess, os
from services.escalation.channels.chat_worker import fence
from shared.egress import EgressPolicy
fence(EgressPolicy())
tried = [
    lambda: subprocess.run(["true"]), lambda: os.system("true"), lambda: os.fork(),
    lambda: socket.create_connection(("127.0.0.1", 80)), lambda: socket.create_connection(("::1", 80)),
    lambda: socket.create_connection(("1.1.1.1", 25)),
    lambda: socket.socket(socket.AF_UNIX).connect("/nowhere"),
    lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("127.0.0.1", 5353)),
]
for attempt in tried:
    try:
        attempt()
    except OSError as error:
        print(type(error).__name__)
"""
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root, timeout=60
    )
    assert done.stdout.split() == ["Fenced"] * 8
