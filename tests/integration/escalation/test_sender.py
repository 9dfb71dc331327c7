"""The process that sends webhooks: it signs and sends as the channel itself would, and its end loses no page."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from uuid import UUID

import psutil
import pytest_asyncio

from services.escalation.channels import NOT_BEGUN, AttemptState, Outgoing, Reason, SendResult
from services.escalation.channels.webhook import WebhookChannel
from services.escalation.sender import SenderProcess, SetUp, SharedOut
from shared.clock import SystemClock
from shared.egress import EgressPolicy, Resolver
from shared.webhooks import SigningKey
from tests.support.receiver import Receiver, hang, ok
from tests.support.waiting import eventually

KEY = SigningKey(bytes(range(32)))
POLICY = EgressPolicy(allow_http=True, allow_loopback=True)
BODY = b'{"type":"test.ping","timestamp":"2026-08-15T12:00:00.000Z","data":{"text":"\xc3\xa9"}}'
POINT = UUID(int=7)
PATIENT_SECONDS = 60.0


class Senders:
    """Makes sender processes, and ends them with the test."""

    def __init__(self) -> None:
        self.made: list[SenderProcess] = []

    async def start(self, receiver: Receiver, *, answer_seconds_max: float = PATIENT_SECONDS) -> SenderProcess:
        """A sender whose child runs and knows the receiver."""
        clock = SystemClock()
        own = WebhookChannel(
            clock=clock, resolver=Resolver(POLICY, monotonic=clock.monotonic), signing_keys=[KEY], version="1"
        )
        set_up = SetUp.of(
            signing_keys=[KEY],
            version="1",
            policy=POLICY,
            log_level="ERROR",
            clock=clock,
        )
        sender = SenderProcess(own, set_up, clock=clock, answer_seconds_max=answer_seconds_max)
        self.made.append(sender)
        await sender.prepare(POINT, receiver.url)
        await eventually(lambda: sender.process_id is not None)
        return sender


@pytest_asyncio.fixture
async def senders() -> AsyncIterator[Senders]:
    """Makes sender processes; none outlives the test."""
    made = Senders()
    yield made
    for sender in made.made:
        await sender.close()


def page(receiver: Receiver, number: int = 1) -> Outgoing:
    """A page to the receiver."""
    return Outgoing(UUID(int=number), 1, "test.ping", POINT, receiver.url, BODY, SystemClock().now())


def child_of(sender: SenderProcess) -> int:
    """The child's process id."""
    assert sender.process_id is not None
    return sender.process_id


async def test_a_page_that_was_made_ready_arrives_signed(senders: Senders) -> None:
    """What the child signs beforehand and sends later is what the channel itself would have sent."""
    async with Receiver() as receiver:
        sender = await senders.start(receiver)
        result = await sender.send(sender.make_ready(page(receiver)))
        assert (result.state, result.reason, result.status_code) == (AttemptState.DELIVERED, Reason.ACCEPTED, 200)
        assert [request.body for request in receiver.requests] == [BODY]
        assert receiver.verify([KEY.verifying_key], now=SystemClock().now()) == [str(UUID(int=1))]


async def test_what_was_made_ready_is_not_sent_by_itself(senders: Senders) -> None:
    """A page leaves when it is told to: before that, its transaction may still fail."""
    async with Receiver() as receiver:
        sender = await senders.start(receiver)
        sender.make_ready(page(receiver, 1))
        await sender.send(sender.make_ready(page(receiver, 2)))
        assert [request.headers["webhook-id"] for request in receiver.requests] == [str(UUID(int=2))]


async def test_a_page_that_waited_too_long_is_not_begun(senders: Senders) -> None:
    """It is checked again by whoever sent it, and goes out when it is given once more."""
    async with Receiver() as receiver:
        sender = await senders.start(receiver)
        late = replace(page(receiver), begin_within_seconds=-1)
        assert await sender.send(sender.make_ready(late)) is NOT_BEGUN
        assert await sender.send(late) is NOT_BEGUN
        assert receiver.requests == []
        assert (await sender.send(page(receiver))).state is AttemptState.DELIVERED


async def test_a_killed_child_loses_no_page_and_is_replaced(senders: Senders) -> None:
    """What it had not answered is sent by the process itself, under the same id, and a new child takes over."""
    async with Receiver() as receiver:
        receiver.behaviour = hang
        sender = await senders.start(receiver)
        first = child_of(sender)
        sending = asyncio.create_task(sender.send(sender.make_ready(page(receiver))))
        await receiver.wait_for(lambda seen: len(seen.requests) == 1)
        receiver.behaviour = ok
        os.kill(first, signal.SIGKILL)
        assert (await sending).state is AttemptState.DELIVERED
        assert {request.headers["webhook-id"] for request in receiver.requests} == {str(UUID(int=1))}
        await eventually(lambda: sender.process_id not in {None, first})
        assert (await sender.send(sender.make_ready(page(receiver, 2)))).state is AttemptState.DELIVERED


async def test_a_page_that_a_former_child_made_ready_is_sent_by_the_next(senders: Senders) -> None:
    """What was signed in a child that has ended since is given to the next one whole."""
    async with Receiver() as receiver:
        sender = await senders.start(receiver)
        first = child_of(sender)
        ready = sender.make_ready(page(receiver))
        os.kill(first, signal.SIGKILL)
        await eventually(lambda: sender.process_id not in {None, first})
        assert (await sender.send(ready)).state is AttemptState.DELIVERED


async def test_a_child_that_stands_still_is_ended(senders: Senders) -> None:
    """It owes an answer for longer than any attempt may take: the page goes out without it."""
    async with Receiver() as receiver:
        sender = await senders.start(receiver, answer_seconds_max=0.2)
        os.kill(child_of(sender), signal.SIGSTOP)
        assert (await sender.send(page(receiver))).state is AttemptState.DELIVERED


class Noted:
    """A channel that notes what it is given."""

    name, provider = "webhook", "webhook"

    def __init__(self) -> None:
        self.given: list[UUID] = []
        self.closed = False

    async def send(self, page: Outgoing) -> SendResult:
        """Takes a page."""
        self.given.append(page.contact_point_id)
        return SendResult(AttemptState.DELIVERED, Reason.ACCEPTED, None, 204, None, 0.0)

    def make_ready(self, page: Outgoing) -> Outgoing:
        """Takes a page ahead of its attempt."""
        self.given.append(page.contact_point_id)
        return page

    async def prepare(self, contact_point_id: UUID, _target: str) -> None:
        """Takes a contact point."""
        self.given.append(contact_point_id)

    async def close(self) -> None:
        """It is over."""
        self.closed = True


async def test_each_contact_point_belongs_to_one_process() -> None:
    """Its client is warm in that one alone: what is made ready there is sent there, and all of them have some."""
    async with Receiver() as receiver:
        processes = [Noted() for _ in range(3)]
        shared = SharedOut(processes)
        for number in range(30):
            to = replace(page(receiver), contact_point_id=UUID(int=number))
            await shared.prepare(to.contact_point_id, to.target)
            await shared.send(shared.make_ready(to))
        for process in processes:
            assert len(process.given) == 30
            assert all(process.given.count(point) == 3 for point in process.given)
        await shared.close()
        assert all(process.closed for process in processes)


async def test_closing_ends_the_child(senders: Senders) -> None:
    """No process stays behind."""
    async with Receiver() as receiver:
        sender = await senders.start(receiver)
        child = psutil.Process(child_of(sender))
        await sender.close()
        assert not child.is_running()


async def test_the_child_ends_with_its_parent() -> None:
    """However the other end of its socket goes away, the child does not outlive it."""
    ours, theirs = socket.socketpair()
    with theirs:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "services.escalation.sender", str(theirs.fileno()), pass_fds=(theirs.fileno(),)
        )
    ours.close()
    async with asyncio.timeout(20):
        assert await child.wait() == 0
