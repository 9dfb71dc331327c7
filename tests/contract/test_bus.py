"""One set of cases for the memory bus and for NATS, then what only a real server can do to us."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from shared import subscriptions
from shared.broker import check_server, ensure_streams
from shared.bus import Bus, DeadLetter, DeadLetterReason, NatsBus, Subscription
from shared.contracts import AlertEnded
from shared.errors import NotFound, Rejected, Unavailable
from shared.events import Message, headers_of, wire_body
from shared.ids import MessageId
from tests.support.bus_rig import (
    CONSUMES,
    Logs,
    MemoryRig,
    NatsRig,
    Rig,
    errors_of,
    make_message,
    running_server,
    turn,
)

Handle = Callable[[Message[Any]], Awaitable[None]]


class Desk:
    """A service as the bus sees it: what it was handed, and what it wrote off."""

    def __init__(self, then: Handle | None = None) -> None:
        self.handled: list[Message[Any]] = []
        self.letters: list[DeadLetter] = []
        self._then = then

    async def handle(self, message: Message[Any]) -> None:
        self.handled.append(message)
        if self._then is not None:
            await self._then(message)

    async def dead_letter(self, letter: DeadLetter) -> None:
        self.letters.append(letter)

    def subscription(self, *, concurrency: int = 4) -> Subscription:
        return Subscription("escalation", AlertEnded, self.handle, self.dead_letter, concurrency=concurrency)

    def count(self, message: Message[Any]) -> int:
        return Counter(one.id for one in self.handled)[message.id]


def buried(logs: Logs) -> int:
    """How many messages were said to be written off; none of it at ERROR, because the alarm is made from the row."""
    assert errors_of(logs) == []
    return sum(line["event"] == "message.buried" for line in logs)


async def started(rig: Rig, desk: Desk, *, concurrency: int = 4) -> tuple[Bus, Bus]:
    """A publisher, and a consumer for the desk."""
    publisher, consumer = rig.bus("alerting"), rig.bus("escalation")
    await consumer.subscribe(desk.subscription(concurrency=concurrency))
    await publisher.start()
    await consumer.start()
    await rig.until(lambda: publisher.healthy and consumer.healthy)
    return publisher, consumer


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays between tries shrink, so that many tries take little time."""
    monkeypatch.setattr(subscriptions, "FIRST_DELAY_SECONDS", 0.01)


async def test_a_message_arrives_whole(rig: Rig, logs: Logs) -> None:
    """Id, body, times, chain and trace context arrive as they were sent, once."""
    desk = Desk()
    publisher, _ = await started(rig, desk)
    message = make_message()
    assert await publisher.publish([message], timeout_seconds=2) == {message.id}
    await rig.until(lambda: bool(desk.handled))
    await rig.quiet()
    assert desk.handled == [message]
    assert errors_of(logs) == []


async def test_a_batch_is_confirmed_and_delivered(rig: Rig) -> None:
    """More messages than fit on their way at once are all confirmed and all delivered."""
    desk = Desk()
    publisher, _ = await started(rig, desk)
    messages = [make_message() for _ in range(600)]
    assert await publisher.publish(messages, timeout_seconds=10) == {message.id for message in messages}
    await rig.until(lambda: len(desk.handled) >= 600)
    assert {message.id for message in desk.handled} == {message.id for message in messages}


async def test_nothing_to_publish_is_nothing(rig: Rig) -> None:
    """An empty batch confirms nothing and is no trouble."""
    publisher, _ = await started(rig, Desk())
    assert await publisher.publish([], timeout_seconds=1) == set()
    assert publisher.healthy


async def test_the_broker_drops_a_second_copy(rig: Rig) -> None:
    """The same id published twice is confirmed twice and delivered once."""
    desk = Desk()
    publisher, _ = await started(rig, desk)
    message = make_message()
    for _ in range(2):
        assert await publisher.publish([message], timeout_seconds=2) == {message.id}
    await rig.until(lambda: bool(desk.handled))
    await rig.quiet()
    assert desk.count(message) == 1


async def test_a_bug_is_tried_again(rig: Rig, logs: Logs) -> None:
    """A handler that fails once gets the message again, later and not at once, and that ends it."""
    moments: list[float] = []

    async def fail_once(_message: Message[Any]) -> None:
        moments.append(rig.clock.monotonic() if isinstance(rig, MemoryRig) else asyncio.get_running_loop().time())
        if len(moments) == 1:
            raise ZeroDivisionError

    desk = Desk(fail_once)
    publisher, _ = await started(rig, desk)
    message = make_message()
    await publisher.publish([message], timeout_seconds=2)
    await rig.until(lambda: len(moments) == 2)
    await rig.quiet()
    assert desk.count(message) == 2
    assert moments[1] - moments[0] >= 0.4
    assert desk.letters == []
    assert errors_of(logs) == []


async def test_five_failures_make_a_dead_letter(rig: Rig, logs: Logs, hasty: None) -> None:
    """A bug is tried five times, then the whole message becomes a dead letter, an operator alarm, and is never seen
    again.
    """

    async def fail(_message: Message[Any]) -> None:
        text = "contact +1 202 555 0143"
        raise ValueError(text)

    desk = Desk(fail)
    publisher, _ = await started(rig, desk)
    message = make_message()
    await publisher.publish([message], timeout_seconds=2)
    await rig.until(lambda: bool(desk.letters))
    await rig.quiet()
    (letter,) = desk.letters
    assert desk.count(message) == 5
    assert letter.consumer == "escalation-alert_ended-v1"
    assert (letter.message_id, letter.type, letter.subject) == (message.id, AlertEnded.type, message.body.subject)
    assert AlertEnded.model_validate_json(letter.body) == message.body
    assert letter.headers["ce-id"] == str(message.id)
    assert letter.reason is DeadLetterReason.FAILED_REPEATEDLY
    assert letter.error.startswith("ValueError at test_bus.py:")
    assert letter.deliveries == 5
    assert buried(logs) == 1
    assert "555" not in letter.error


async def test_unavailable_never_becomes_a_dead_letter(rig: Rig, logs: Logs, hasty: None) -> None:
    """However often something is unavailable, the message is tried again; a single bug after that changes nothing."""

    async def answer(message: Message[Any]) -> None:
        if desk.count(message) <= 8:
            detail = "the database does not answer"
            raise Unavailable(detail)
        if desk.count(message) == 9:
            raise ZeroDivisionError

    desk = Desk(answer)
    publisher, _ = await started(rig, desk)
    message = make_message()
    await publisher.publish([message], timeout_seconds=2)
    await rig.until(lambda: desk.count(message) == 10, within_seconds=20)
    await rig.quiet()
    assert desk.count(message) == 10
    assert desk.letters == []
    assert errors_of(logs) == []


async def test_a_rejected_message_is_a_dead_letter_at_once(rig: Rig, logs: Logs) -> None:
    """When the domain says no, trying again is pointless."""

    async def reject(_message: Message[Any]) -> None:
        detail = "no such partner"
        raise NotFound(detail)

    desk = Desk(reject)
    publisher, _ = await started(rig, desk)
    message = make_message()
    await publisher.publish([message], timeout_seconds=2)
    await rig.until(lambda: bool(desk.letters))
    await rig.quiet()
    assert desk.count(message) == 1
    assert desk.letters[0].reason is DeadLetterReason.REJECTED
    assert desk.letters[0].error == "NotFound (not_found): no such partner"
    assert buried(logs) == 1


async def test_text_as_it_was_stored_is_what_goes_out(rig: Rig) -> None:
    """A message that brings its own text is published as it stands, with fields that this version does not know."""
    reasons = iter([Rejected("so that the body can be looked at")])

    async def reject(_message: Message[Any]) -> None:
        raise next(reasons)

    desk = Desk(reject)
    publisher, _ = await started(rig, desk)
    message = make_message()
    newer = json.dumps({**json.loads(wire_body(message)), "field_of_a_newer_version": 7}).encode()
    await publisher.publish([replace(message, raw=newer)], timeout_seconds=2)
    await rig.until(lambda: bool(desk.letters))
    assert desk.letters[0].body == newer
    assert desk.handled == [message]


def without(headers: dict[str, str], name: str) -> dict[str, str]:
    """Headers that lack one."""
    return {key: value for key, value in headers.items() if key != name}


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda m, _h, b: (m, {}, b), id="no headers"),
        pytest.param(lambda m, h, b: (m, without(h, "ce-id"), b), id="no id"),
        pytest.param(lambda m, h, b: (m, {**h, "ce-id": "1"}, b), id="id is no UUID"),
        pytest.param(lambda m, h, b: (m, {**h, "ce-type": "redphone.alerting.alert_ended.v9"}, b), id="unknown type"),
        pytest.param(lambda m, h, b: (m, {**h, "ce-type": "redphone.roster.partner_changed.v1"}, b), id="other type"),
        pytest.param(lambda m, h, _b: (m, h, b"{"), id="body cut off"),
        pytest.param(lambda m, h, _b: (m, h, b"\xff" * 100), id="body is no text"),
        pytest.param(lambda m, h, _b: (m, h, b"[" * 100_000), id="body nested without end"),
        pytest.param(lambda m, h, _b: (m, h, b""), id="no body"),
        pytest.param(lambda m, h, b: (f"{m.rsplit('.', 1)[0]}.{UUID(int=1)}", h, b), id="subject of another alert"),
    ],
)
async def test_what_cannot_be_read_is_a_dead_letter_at_once(
    rig: Rig, logs: Logs, spoil: Callable[[str, dict[str, str], bytes], tuple[str, dict[str, str], bytes]]
) -> None:
    """A malformed or misplaced message never reaches the handler, and the one after it does."""
    desk = Desk()
    publisher, _ = await started(rig, desk)
    message = make_message()
    subject, headers, body = spoil(message.body.subject, headers_of(message), message.body.model_dump_json().encode())
    await rig.publish_raw(subject, headers, body)
    good = make_message()
    await publisher.publish([good], timeout_seconds=2)
    await rig.until(lambda: bool(desk.letters) and bool(desk.handled))
    await rig.quiet()
    (letter,) = desk.letters
    assert desk.handled == [good]
    assert letter.reason is DeadLetterReason.MALFORMED
    assert (letter.subject, letter.body, letter.deliveries) == (subject, body, 1)
    assert buried(logs) == 1


async def test_a_dead_letter_that_cannot_be_written_comes_again(rig: Rig, logs: Logs, hasty: None) -> None:
    """The message is terminated only after its dead letter is committed."""
    tries: list[DeadLetter] = []

    async def write(letter: DeadLetter) -> None:
        tries.append(letter)
        if len(tries) < 3:
            detail = "the database does not answer"
            raise Unavailable(detail)

    publisher, consumer = rig.bus("alerting"), rig.bus("escalation")
    await consumer.subscribe(Subscription("escalation", AlertEnded, Desk().handle, write))
    await publisher.start()
    await consumer.start()
    await rig.until(lambda: publisher.healthy and consumer.healthy)
    await rig.publish_raw(make_message().body.subject, {}, b"?")
    await rig.until(lambda: len(tries) == 3)
    await rig.quiet()
    assert len(tries) == 3
    assert buried(logs) == 1


async def test_poison_blocks_nothing(rig: Rig) -> None:
    """While messages fail again and again, each of the others is handled once and soon."""
    bad, good = [make_message() for _ in range(3)], [make_message() for _ in range(100)]

    async def choke(message: Message[Any]) -> None:
        if message in bad:
            raise ZeroDivisionError

    desk = Desk(choke)
    publisher, _ = await started(rig, desk)
    await publisher.publish([*bad, *good], timeout_seconds=5)
    await rig.until(lambda: all(desk.count(message) == 1 for message in good), within_seconds=3)
    assert desk.letters == []


async def test_a_durable_consumer_keeps_its_place(rig: Rig) -> None:
    """What is published while a service is away is there when it comes back, and nothing that it had done."""
    first = Desk()
    publisher, consumer = await started(rig, first)
    before, after = make_message(), make_message()
    await publisher.publish([before], timeout_seconds=2)
    await rig.until(lambda: bool(first.handled))
    await rig.quiet()
    await consumer.stop()
    await publisher.publish([after], timeout_seconds=2)
    second, again = Desk(), rig.bus("escalation")
    await again.subscribe(second.subscription())
    await again.start()
    await rig.until(lambda: bool(second.handled))
    await rig.quiet()
    assert first.handled == [before]
    assert second.handled == [after]


async def test_publishing_while_the_broker_is_away(rig: Rig, logs: Logs) -> None:
    """Nothing is confirmed and nothing raised; the bus says that it is not healthy; later the same id goes through."""
    desk = Desk()
    publisher, _ = await started(rig, desk)
    await rig.cut()
    message = make_message()
    assert await publisher.publish([message], timeout_seconds=0.5) == set()
    await rig.until(lambda: not publisher.healthy)
    await rig.mend()
    await rig.until(lambda: publisher.healthy)
    assert await publisher.publish([message], timeout_seconds=2) == {message.id}
    await rig.until(lambda: bool(desk.handled))
    await rig.quiet()
    assert desk.count(message) == 1
    assert errors_of(logs) == []


async def test_a_broker_that_is_absent_at_the_start(rig: Rig) -> None:
    """The service starts without it, is not healthy, and picks it up when it appears."""
    await rig.cut()
    desk = Desk()
    publisher, consumer = rig.bus("alerting"), rig.bus("escalation")
    await consumer.subscribe(desk.subscription())
    async with asyncio.timeout(3):
        await publisher.start()
        await consumer.start()
    assert not publisher.healthy
    assert await publisher.publish([make_message()], timeout_seconds=0.5) == set()
    await rig.mend()
    await rig.until(lambda: publisher.healthy and consumer.healthy)
    message = make_message()
    assert await publisher.publish([message], timeout_seconds=2) == {message.id}
    await rig.until(lambda: bool(desk.handled))


async def test_a_restart_in_the_middle_loses_nothing(rig: Rig) -> None:
    """The broker dies and returns while messages flow: with retries of what is unconfirmed, each one is handled."""
    desk = Desk()
    publisher, _ = await started(rig, desk)
    messages = [make_message() for _ in range(300)]
    unconfirmed = {message.id: message for message in messages}

    async def relay() -> None:
        while unconfirmed:
            for message_id in await publisher.publish(list(unconfirmed.values())[:20], timeout_seconds=0.5):
                unconfirmed.pop(message_id)
            await turn(0.005)

    relaying = asyncio.create_task(relay())
    await rig.until(lambda: len(desk.handled) >= 50)
    await rig.cut()
    await turn(0.2)
    await rig.mend()
    wanted: set[MessageId] = {message.id for message in messages}
    await rig.until(lambda: {message.id for message in desk.handled} == wanted, within_seconds=20)
    await relaying


async def test_replaying_reaches_each_handler_again(rig: Rig) -> None:
    """The stream can be delivered anew, as after a lost consumer: handlers must and do see messages twice."""
    desk = Desk()
    publisher, _ = await started(rig, desk)
    message = make_message()
    await publisher.publish([message], timeout_seconds=2)
    await rig.until(lambda: desk.count(message) == 1)
    if isinstance(rig, MemoryRig):
        rig.broker.replay()
    else:
        assert isinstance(rig, NatsRig)
        async with rig.client() as client:
            await client.jetstream().delete_consumer("ALERTING", "escalation-alert_ended-v1")
    await rig.until(lambda: desk.count(message) == 2)


# --- only on a real server --------------------------------------------------------------------------------------------


async def test_handlers_run_side_by_side_up_to_the_limit(nats_rig: NatsRig) -> None:
    """As many handlers as the subscription allows run at once, and not one more."""
    running, most, gate = 0, 0, asyncio.Event()

    async def wait(_message: Message[Any]) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await gate.wait()
        running -= 1

    desk = Desk(wait)
    publisher, _ = await started(nats_rig, desk, concurrency=3)
    await publisher.publish([make_message() for _ in range(10)], timeout_seconds=2)
    await nats_rig.until(lambda: running == 3)
    await turn(0.2)
    gate.set()
    await nats_rig.until(lambda: len(desk.handled) == 10)
    assert most == 3


async def test_stopping_lets_a_handler_finish_and_gives_the_rest_back(nats_rig: NatsRig) -> None:
    """The handler that runs is waited for and acked; what had only arrived goes to another process at once, and what
    was still on its way when the broker holds it for lost.
    """
    gate, begun = asyncio.Event(), asyncio.Event()

    async def wait(_message: Message[Any]) -> None:
        begun.set()
        await gate.wait()

    first, second = Desk(wait), Desk()
    publisher, consumer = await started(nats_rig, first, concurrency=1)
    messages = [make_message() for _ in range(5)]
    await publisher.publish(messages, timeout_seconds=2)
    await begun.wait()
    stopping = asyncio.create_task(consumer.stop())
    await turn(0.1)
    assert not stopping.done()
    gate.set()
    await stopping
    again = nats_rig.bus("escalation")
    await again.subscribe(second.subscription())
    await again.start()
    await nats_rig.until(lambda: len(second.handled) >= 4, within_seconds=20)
    await nats_rig.quiet()
    assert len(first.handled) == 1
    assert sorted(m.id for m in first.handled + second.handled) == sorted(m.id for m in messages)


async def test_a_handler_that_hangs_does_not_hold_a_stop(nats_rig: NatsRig, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the grace it is cancelled and its message is given back."""
    monkeypatch.setattr("shared.bus.STOP_SECONDS_MAX", 0.2)
    begun = asyncio.Event()

    async def hang(_message: Message[Any]) -> None:
        begun.set()
        await asyncio.Event().wait()

    desk, other = Desk(hang), Desk()
    publisher, consumer = await started(nats_rig, desk)
    await publisher.publish([make_message()], timeout_seconds=2)
    await begun.wait()
    async with asyncio.timeout(3):
        await consumer.stop()
    again = nats_rig.bus("escalation")
    await again.subscribe(other.subscription())
    await again.start()
    await nats_rig.until(lambda: bool(other.handled), within_seconds=3)


async def test_a_handler_out_of_time_never_becomes_a_dead_letter(
    nats_rig: NatsRig, monkeypatch: pytest.MonkeyPatch, hasty: None
) -> None:
    """A handler has a limited time; however often a slow database uses it up, the message is tried again."""
    monkeypatch.setattr(subscriptions, "HANDLER_SECONDS_MAX", 0.05)

    async def answer_slowly(message: Message[Any]) -> None:
        if desk.count(message) <= 7:
            await asyncio.Event().wait()

    desk = Desk(answer_slowly)
    publisher, _ = await started(nats_rig, desk)
    message = make_message()
    await publisher.publish([message], timeout_seconds=2)
    await nats_rig.until(lambda: desk.count(message) == 8, within_seconds=20)
    await nats_rig.quiet()
    assert desk.count(message) == 8
    assert desk.letters == []


async def test_a_timeout_of_the_handlers_own_is_a_bug(rig: Rig, hasty: None) -> None:
    """Only the limit on the handler is excused: a `TimeoutError` that it raises itself is tried five times."""

    async def fail(_message: Message[Any]) -> None:
        raise TimeoutError

    desk = Desk(fail)
    publisher, _ = await started(rig, desk)
    await publisher.publish([make_message()], timeout_seconds=2)
    await rig.until(lambda: bool(desk.letters))
    assert len(desk.handled) == 5


async def test_two_replicas_share_the_work(nats_rig: NatsRig) -> None:
    """Each message is handled by one of them."""
    one, two = Desk(), Desk()
    publisher, _ = await started(nats_rig, one)
    replica = nats_rig.bus("escalation")
    await replica.subscribe(two.subscription())
    await replica.start()
    messages = [make_message() for _ in range(400)]
    await publisher.publish(messages, timeout_seconds=5)
    await nats_rig.until(lambda: len(one.handled) + len(two.handled) >= 400)
    await nats_rig.quiet()
    assert sorted(m.id for m in one.handled + two.handled) == sorted(m.id for m in messages)


async def test_a_server_that_hangs_is_noticed(nats_rig: NatsRig) -> None:
    """Publishing keeps its time-out although the sockets stay open, the bus turns unhealthy, and recovers by itself."""
    desk = Desk()
    publisher, consumer = await started(nats_rig, desk)
    nats_rig.pause()
    try:
        began = asyncio.get_running_loop().time()
        assert await publisher.publish([make_message() for _ in range(300)], timeout_seconds=0.5) == set()
        assert asyncio.get_running_loop().time() - began < 1.0
        await nats_rig.until(lambda: not publisher.healthy and not consumer.healthy, within_seconds=5)
    finally:
        nats_rig.resume()
    await nats_rig.until(lambda: publisher.healthy and consumer.healthy)
    message = make_message()
    assert await publisher.publish([message], timeout_seconds=2) == {message.id}
    await nats_rig.until(lambda: desk.count(message) == 1)


async def test_a_deleted_stream_is_an_alarm(nats_rig: NatsRig, logs: Logs) -> None:
    """Only the deploy step may create it: a person is told once per bus, the loops go on and are back after it."""
    desk = Desk()
    publisher, consumer = await started(nats_rig, desk)
    async with nats_rig.client() as client:
        await client.jetstream().delete_stream("ALERTING")
    await nats_rig.until(lambda: not publisher.healthy and not consumer.healthy)
    assert await publisher.publish([make_message()], timeout_seconds=1) == set()
    await nats_rig.until(lambda: errors_of(logs).count("bus.stream_missing") == 2)
    await ensure_streams([nats_rig.server.url], CONSUMES)
    message = make_message()
    assert await publisher.publish([message], timeout_seconds=2) == {message.id}
    await nats_rig.until(lambda: desk.count(message) == 1)
    await nats_rig.until(lambda: publisher.healthy and consumer.healthy)
    assert errors_of(logs) == ["bus.stream_missing"] * 2


async def test_a_machine_without_deploy_step_makes_its_streams(nats_rig: NatsRig, logs: Logs) -> None:
    """Where the bus manages streams, a stream that vanishes is made anew and messages flow again."""
    desk = Desk()
    publisher = nats_rig.bus("alerting", manage_streams=True)
    consumer = nats_rig.bus("escalation", manage_streams=True)
    async with nats_rig.client() as client:
        for stream in ("ALERTING", "ESCALATION", "ROSTER"):
            await client.jetstream().delete_stream(stream)
    await consumer.subscribe(desk.subscription())
    await publisher.start()
    await consumer.start()
    await nats_rig.until(lambda: publisher.healthy and consumer.healthy)
    message = make_message()
    assert await publisher.publish([message], timeout_seconds=2) == {message.id}
    await nats_rig.until(lambda: desk.count(message) == 1)
    assert errors_of(logs) == []


async def test_an_outage_is_told_once(nats_rig: NatsRig, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broker that stays away is an operator alarm, one per outage, and not a line per attempt."""
    monkeypatch.setattr("shared.bus.DISCONNECTED_SECONDS_MAX", 0.5)
    monkeypatch.setattr("shared.bus.PROBE_SECONDS", 0.2)
    publisher = nats_rig.bus("alerting")
    await publisher.start()
    await nats_rig.until(lambda: publisher.healthy)
    await nats_rig.cut()
    await nats_rig.until(lambda: "bus.unreachable" in errors_of(logs))
    await turn(1.5)
    assert errors_of(logs) == ["bus.unreachable"]
    assert sum(entry["event"] == "bus.connection_failed" for entry in logs) <= 3
    await nats_rig.mend()
    await nats_rig.until(lambda: publisher.healthy)


async def test_the_deploy_step_can_be_repeated(nats_rig: NatsRig) -> None:
    """Running it again keeps what the streams hold, and sets right what differs."""
    publisher = nats_rig.bus("alerting")
    await publisher.start()
    await nats_rig.until(lambda: publisher.healthy)
    await publisher.publish([make_message()], timeout_seconds=2)
    async with nats_rig.client() as client:
        jetstream = client.jetstream()
        config = (await jetstream.stream_info("ALERTING")).config
        await jetstream.update_stream(config.evolve(max_bytes=1_000_000))
        await ensure_streams([nats_rig.server.url], CONSUMES)
        info = await jetstream.stream_info("ALERTING")
        consumer = await jetstream.consumer_info("ALERTING", "escalation-alert_ended-v1")
    assert info.state.messages == 1
    assert info.config.max_bytes == 1 << 30
    assert info.config.duplicate_window == 600
    assert info.config.discard == "new"
    assert info.config.storage == "file"
    assert info.config.subjects == ["redphone.alerting.>"]
    assert (consumer.config.ack_wait, consumer.config.max_deliver, consumer.config.max_ack_pending) == (10, -1, 1000)
    assert not consumer.config.backoff


async def test_the_deploy_step_without_a_server(tmp_path: Path) -> None:
    """It waits for a server as long as it was told to, and then says so."""
    async with running_server(tmp_path) as server:
        url = server.url
    async with asyncio.timeout(5):
        with pytest.raises(TimeoutError):
            await ensure_streams([url], CONSUMES, timeout_seconds=0.5)


async def test_a_healthy_server_has_no_alarms(nats_rig: NatsRig) -> None:
    """A server that syncs every write and holds all streams is in order."""
    assert await check_server(nats_rig.server.monitor_url) == []


async def test_a_server_that_does_not_sync_is_an_alarm(tmp_path: Path) -> None:
    """The default loses confirmed messages when the power fails, so it is told, and missing streams too."""
    async with running_server(tmp_path, sync_always=False) as server:
        alarms = await check_server(server.monitor_url)
    assert any("sync_interval: always" in alarm for alarm in alarms)
    assert any("the stream ALERTING is missing" in alarm for alarm in alarms)


async def test_a_server_that_does_not_answer_is_an_alarm(tmp_path: Path) -> None:
    """No answer is an answer for the operator, not an exception."""
    async with running_server(tmp_path) as server:
        url = server.monitor_url
    assert await check_server(url) == ["the NATS server's monitoring endpoint does not answer (ConnectError)"]


async def test_the_real_bus_sends_what_a_cloudevents_reader_expects(nats_rig: NatsRig) -> None:
    """On the wire: CloudEvents attributes, trace context and the deduplication id as headers, the event as body."""
    publisher = nats_rig.bus("alerting")
    assert isinstance(publisher, NatsBus)
    await publisher.start()
    await nats_rig.until(lambda: publisher.healthy)
    message = make_message()
    await publisher.publish([message], timeout_seconds=2)
    async with nats_rig.client() as client:
        stored = await client.jetstream().get_msg("ALERTING", 1)
    assert stored.subject == f"redphone.alerting.alert_ended.v1.{message.body.alert_id}"
    assert stored.headers is not None
    assert stored.headers["Nats-Msg-Id"] == stored.headers["ce-id"] == str(message.id)
    assert stored.headers["traceparent"] == message.trace_parent
    assert json.loads(stored.data or b"")["reference"] == "RP-CA-2026-0042"
