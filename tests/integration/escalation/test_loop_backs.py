"""Heartbeats to addresses of our own: through each provider by itself, and back by whichever way it speaks to us."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import uvicorn
from pydantic import SecretStr

from redphone.counterparts.mail import REPLY_TO, SENDER, MailProvider
from redphone.counterparts.server import QuietServer
from redphone.counterparts.telephone import Line, Pickup, Sms, Trouble
from services.escalation import receipts
from services.escalation.channels.email import EmailChannel, MailServer
from services.escalation.channels.mail import MailHouse
from services.escalation.heartbeats import handlers as heartbeat_handlers
from services.escalation.heartbeats import loop_backs, paths
from services.escalation.heartbeats.beating import NOT_RETURNED
from services.escalation.heartbeats.domain import FAILING_RETRY_AFTER, INTERVAL, RETRY_AFTER, State
from services.escalation.heartbeats.handlers import Wanted
from services.escalation.heartbeats.paths import GONE_AFTER
from shared.clock import SystemClock
from shared.contracts import ChannelName, Role
from shared.ids import derived
from tests.integration.escalation.test_heartbeats import beat, beating, next_beat_at
from tests.support.cluster import Cluster
from tests.support.escalation_rig import REFUSED, Rig, escalation_rig, person
from tests.support.telephone_rig import Exchange, exchange
from tests.support.waiting import eventually

OURS = {"twilio": "+12025550170", "telnyx": "+12025550171"}
MAILBOX = "loopback@alerts.example"
BOTH = pytest.mark.parametrize("provider", ["twilio", "telnyx"])
PAIRS = ",".join(f"{name}={number}" for name, number in OURS.items())


@asynccontextmanager
async def telephones(cluster: Cluster, tmp_path: Path, channel: str) -> AsyncIterator[Exchange]:
    """An exchange with a number of our own at each provider."""
    async with exchange(cluster, tmp_path, loop_backs={f"REDPHONE_LOOPBACK_{channel.upper()}": PAIRS}) as x:
        await x.rig.handle(x.rig.plan("XR"))
        yield x
        await beating(x.rig).stop()


def path_id(channel: str, provider: str) -> UUID:
    """The path's id."""
    return derived("heartbeat", channel, provider)


async def row(rig: Rig, channel: str, provider: str) -> Any:
    """The path's row."""
    (found,) = await rig.rows("SELECT * FROM heartbeats WHERE id = $1", path_id(channel, provider))
    return found


async def answering(rig: Rig, channel: str, provider: str) -> bool | None:
    """Whether the path answers."""
    return (await row(rig, channel, provider))["answering"]  # type: ignore[no-any-return]


async def until_answering(rig: Rig, channel: str, provider: str) -> None:
    """Waits until the path answers."""

    async def is_so() -> bool:
        return await answering(rig, channel, provider) is True

    await eventually(is_so)


async def returned(rig: Rig, silent: str | None, lost: UUID | None = None) -> None:
    """Waits until all that comes back has come back: time must not pass while providers speak.

    `silent` is a provider from which nothing comes back, `lost` a single beat that will not.
    """

    async def is_so() -> bool:
        waiting = await rig.rows(
            "SELECT provider FROM heartbeats"
            " WHERE is_out AND provider IS DISTINCT FROM $1 AND beat_id IS DISTINCT FROM $2",
            silent,
            lost,
        )
        return not waiting

    await eventually(is_so)


async def first_beats(rig: Rig, *, silent: str | None = None) -> None:
    """Sends the first beat of every path; from the silent provider nothing comes back."""
    await beat(rig)
    rig.clock.advance(20)
    await beat(rig)
    await returned(rig, silent)


async def pass_time(rig: Rig, duration: timedelta, *, silent: str | None = None, lost: UUID | None = None) -> None:
    """Moves time on from due beat to due beat."""
    target = rig.clock.now() + duration
    while (due_at := await next_beat_at(rig)) is not None and due_at <= target:
        rig.clock.advance((due_at - rig.clock.now()).total_seconds())
        await beat(rig)
        await returned(rig, silent, lost)
    rig.clock.advance((target - rig.clock.now()).total_seconds())
    await beat(rig)
    await returned(rig, silent, lost)


async def notices(rig: Rig) -> list[Any]:
    """What the secretariat was told, oldest first, once for each notice."""
    found = await rig.rows("SELECT data FROM pages WHERE message_type = 'notice.issued' ORDER BY created_at, id")
    told = [one["data"] for one in found]
    return [one for number, one in enumerate(told) if number == 0 or one != told[number - 1]]


# --- SMS --------------------------------------------------------------------------------------------------------------


async def test_an_sms_goes_through_each_provider_and_its_receipt_ends_the_beat(
    cluster: Cluster, tmp_path: Path
) -> None:
    """Each provider carries its own, whatever the order of providers is; the receipt says that it came through."""
    async with telephones(cluster, tmp_path, "sms") as x:
        await first_beats(x.rig)
        for provider, number in OURS.items():
            await until_answering(x.rig, "sms", provider)
            (sent,) = [one for one in x.company.messages if one.to == number]
            assert sent.provider == provider
            assert sent.text.startswith("heartbeat ")
        assert await x.rig.rows("SELECT 1 FROM pages") == []
        assert await x.rig.rows("SELECT 1 FROM early_receipts") == []
        before = len(x.company.messages)
        await pass_time(x.rig, INTERVAL)
        assert len(x.company.messages) - before == len(OURS)


async def test_a_process_that_knows_no_loop_back_leaves_them_to_those_that_do(cluster: Cluster, tmp_path: Path) -> None:
    """Processes of other channels or settings do not forget each other's paths; what nobody sends for a day goes."""
    async with telephones(cluster, tmp_path, "sms") as x:
        await first_beats(x.rig)
        known = await x.rig.rows("SELECT * FROM heartbeats WHERE kind = 'loop_back' ORDER BY id")
        assert len(known) == len(OURS)
        await paths.refresh(x.rig.deps, {})
        assert await x.rig.rows("SELECT * FROM heartbeats WHERE kind = 'loop_back' ORDER BY id") == known
        x.rig.clock.advance((INTERVAL + paths.GONE_AFTER).total_seconds())
        await paths.refresh(x.rig.deps, {})
        assert await x.rig.rows("SELECT * FROM heartbeats WHERE kind = 'loop_back'") == []


@BOTH
async def test_an_sms_that_comes_in_ends_the_beat_and_is_not_answered(
    cluster: Cluster, tmp_path: Path, provider: str
) -> None:
    """Where no receipt comes, the text itself does; nothing is said back, and nobody has answered anything by it."""
    async with telephones(cluster, tmp_path, "sms") as x:
        x.company.lines[OURS[provider]] = Line(sms=Sms.SILENT)
        await first_beats(x.rig, silent=provider)
        assert await answering(x.rig, "sms", provider) is None
        (sent,) = [one for one in x.company.messages if one.to == OURS[provider]]
        before = len(x.company.messages)
        said = await x.company.text(sent.sender, f"Sent from a trial account - {sent.text}", provider=provider)
        assert await answering(x.rig, "sms", provider) is True
        assert not said
        assert len(x.company.messages) == before
        # Again, late, or made up: it is nobody's answer, and is not answered either.
        for text in (sent.text, "heartbeat abcdefghijklmnop"):
            assert not await x.company.text(OURS[provider], text, provider=provider)
        assert len(x.company.messages) == before


async def test_an_sms_that_never_comes_back_is_an_alarm_within_its_interval(cluster: Cluster, tmp_path: Path) -> None:
    """The other provider is not blamed. The secretariat is told at once, each day again, and when it is over."""
    async with telephones(cluster, tmp_path, "sms") as x:
        rig = x.rig
        x.company.lines[OURS["twilio"]] = Line(sms=Sms.SILENT)
        await first_beats(rig, silent="twilio")
        await until_answering(rig, "sms", "telnyx")
        assert await beating(rig).alarms() == []
        await pass_time(rig, INTERVAL, silent="twilio")
        assert await beating(rig).alarms() == ["our heartbeat through a provider fails: twilio, sms"]
        assert (await row(rig, "sms", "twilio"))["reason"] == NOT_RETURNED
        (told,) = await notices(rig)
        assert (told["kind"], told["urgent"]) == ("heartbeat_failed", True)
        assert told["facts"]["provider"] == "twilio, sms"
        assert OURS["twilio"] not in f"{told}"
        assert {one["partner"] for one in await rig.rows("SELECT partner FROM pages")} == {"XR"}
        await rig.rows("UPDATE pages SET state = 'done'")
        x.company.lines[OURS["twilio"]] = Line()
        # The beat that is out is lost; the one that leaves in its place comes back.
        await pass_time(rig, INTERVAL, lost=(await row(rig, "sms", "twilio"))["beat_id"])
        assert await answering(rig, "sms", "twilio")
        assert await beating(rig).alarms() == []
        assert [one["kind"] for one in await notices(rig)] == ["heartbeat_failed", "heartbeat_recovered"]


@BOTH
async def test_a_provider_that_refuses_twice_is_an_alarm(cluster: Cluster, tmp_path: Path, provider: str) -> None:
    """It is asked again five minutes later, alone: the other provider never stands in for it. Told daily."""
    async with telephones(cluster, tmp_path, "sms") as x:
        rig = x.rig
        x.company.lines[OURS[provider]] = Line(trouble=Trouble.DOWN)
        await first_beats(rig)
        assert await beating(rig).alarms() == []
        await pass_time(rig, RETRY_AFTER)
        assert await beating(rig).alarms() == [f"our heartbeat through a provider fails: {provider}, sms"]
        assert not [one for one in x.company.messages if one.to == OURS[provider]]
        (told,) = await notices(rig)
        assert "503" in told["facts"]["reason"]
        for _ in range(5):
            await rig.rows("UPDATE pages SET state = 'done'")
            await pass_time(rig, timedelta(hours=5))
        assert [one["kind"] for one in await rig.rows("SELECT kind FROM notices")] == ["heartbeat_failed"] * 2


async def test_a_receipt_that_says_not_delivered_is_a_failure(cluster: Cluster, tmp_path: Path) -> None:
    """It need not be waited for until the hour is over: it is tried again, and fails for the reason that was told."""
    async with telephones(cluster, tmp_path, "sms") as x:
        x.company.lines[OURS["twilio"]] = Line(sms=Sms.UNDELIVERED)
        await first_beats(x.rig)

        async def has_failed() -> bool:
            return bool((await row(x.rig, "sms", "twilio"))["failures"] == 1)

        await eventually(has_failed)
        assert "30003" in (await row(x.rig, "sms", "twilio"))["reason"]


@pytest.mark.parametrize(
    ("state", "reason", "detail", "answers", "failures"),
    [
        ("delivered", "accepted", None, True, 0),
        ("failed", "not_answered", "busy", None, 1),
        # Somebody or something has taken the call: the way there works.
        ("failed", "not_answered", receipts.NO_KEY, True, 0),
    ],
)
async def test_a_receipt_before_the_beat_is_written_down_counts(  # noqa: PLR0917 - a case of the table
    cluster: Cluster, tmp_path: Path, state: str, reason: str, detail: str | None, answers: bool | None, failures: int
) -> None:
    """Providers may be quicker than our own rows: what they said is looked for once it is known who has the beat."""
    async with telephones(cluster, tmp_path, "sms") as x:
        rig = x.rig
        x.company.lines[OURS["twilio"]] = Line(sms=Sms.SILENT)
        await first_beats(rig, silent="twilio")
        (sent,) = [one for one in x.company.messages if one.to == OURS["twilio"]]
        await rig.rows(
            "INSERT INTO early_receipts (provider, provider_id, state, reason, detail, received_at)"
            " VALUES ('twilio', $1, $2, $3, $4, $5)",
            sent.id,
            state,
            reason,
            detail,
            rig.clock.now(),
        )
        await loop_backs.note_early(rig.deps, "twilio", sent.id)
        found = await row(rig, "sms", "twilio")
        assert (found["answering"], found["failures"]) == (answers, failures)
        assert await rig.rows("SELECT 1 FROM early_receipts WHERE provider = 'twilio'") == []


# --- calls ------------------------------------------------------------------------------------------------------------


@BOTH
async def test_a_call_comes_through_when_it_is_answered(cluster: Cluster, tmp_path: Path, provider: str) -> None:
    """A machine of ours that answers is enough; nothing is read out, and the call ends at once."""
    async with telephones(cluster, tmp_path, "voice") as x:
        x.company.lines[OURS[provider]] = Line(pickup=Pickup.MACHINE)
        await first_beats(x.rig)
        await until_answering(x.rig, "voice", provider)
        await x.company.wait_for(lambda company: any(c.to == OURS[provider] and c.ended for c in company.calls))
        (call,) = [one for one in x.company.calls if one.to == OURS[provider]]
        assert (call.provider, call.spoken) == (provider, [])


@BOTH
async def test_a_call_that_is_not_answered_fails(cluster: Cluster, tmp_path: Path, provider: str) -> None:
    """Busy twice is an alarm: the number is ours, and answers."""
    async with telephones(cluster, tmp_path, "voice") as x:
        rig = x.rig
        x.company.lines[OURS[provider]] = Line(pickup=Pickup.BUSY)
        await first_beats(rig)

        async def has_failed(times: int) -> bool:
            return bool((await row(rig, "voice", provider))["failures"] >= times)

        await eventually(lambda: has_failed(1))
        await pass_time(rig, RETRY_AFTER)
        await eventually(lambda: has_failed(2))
        assert await beating(rig).alarms() == [f"our heartbeat through a provider fails: {provider}, voice"]
        assert (await row(rig, "voice", provider))["reason"] == "busy"


# --- mail -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def post_office(cluster: Cluster, tmp_path: Path) -> AsyncIterator[tuple[Rig, MailProvider]]:
    """Red Phone on a port, a mail provider on another, and a mailbox of our own that comes back to us."""
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        public_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        clock = SystemClock()
        provider = await stack.enter_async_context(MailProvider(clock=clock, public_url=public_url))
        channel = EmailChannel(
            clock=clock,
            server=MailServer.of(provider.url, development=True),
            house=MailHouse.of(SENDER, REPLY_TO),
        )
        stack.push_async_callback(channel.close)
        rig = await stack.enter_async_context(
            escalation_rig(
                cluster,
                tmp_path,
                channels={"email": channel},
                email_smtp_url=SecretStr(provider.url),
                email_from=SENDER,
                email_reply_to=REPLY_TO,
                email_inbound_key=SecretStr(provider.inbound_key),
                loopback_email=MAILBOX,
            )
        )
        # The provider signs with the time of the machine.
        rig.clock.advance((clock.now() - rig.clock.now()).total_seconds())
        server = QuietServer(uvicorn.Config(rig.application, log_config=None, lifespan="off", access_log=False))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield rig, provider
        finally:
            await beating(rig).stop()
            server.end()
            await serving


async def test_a_mail_comes_back_by_the_inbound_route(cluster: Cluster, tmp_path: Path) -> None:
    """It says itself that a machine has sent it, and counts all the same; no mail is sent back."""
    async with post_office(cluster, tmp_path) as (rig, provider):
        await first_beats(rig, silent="smtp")
        (mail,) = provider.mails
        assert (mail.to, await answering(rig, "email", "smtp")) == (MAILBOX, None)
        response = await provider.hand_in(mail.message, recipient=MAILBOX, sender="redphone@alerts.example")
        assert response.json() == {"outcome": "returned"}
        assert await answering(rig, "email", "smtp") is True
        assert len(provider.mails) == 1


async def test_a_mail_that_bounces_fails(cluster: Cluster, tmp_path: Path) -> None:
    """The mail server's report ends the beat with its status."""
    async with post_office(cluster, tmp_path) as (rig, provider):
        await first_beats(rig, silent="smtp")
        (mail,) = provider.mails
        response = await provider.hand_in(bounce_of(mail.message), recipient="redphone@alerts.example", sender="")
        assert response.json() == {"outcome": "bounced"}
        found = await row(rig, "email", "smtp")
        assert (found["failures"], found["reason"]) == (1, "SMTP 5.1.1")


def bounce_of(mail: EmailMessage) -> EmailMessage:
    """A report that this mail did not arrive (RFC 3464)."""
    report = EmailMessage()
    report["From"] = "mailer-daemon@mail.example"
    report["Subject"] = "Undelivered"
    report.set_content("It did not arrive.")
    report.make_mixed()
    report.set_type("multipart/report")
    status = EmailMessage()
    status.set_type("message/delivery-status")
    status.set_payload([_block("Reporting-MTA: dns; mail.example"), _block("Action: failed\nStatus: 5.1.1")])
    headers = EmailMessage()
    headers.set_content(f"Message-ID: {mail['message-id']}\n", subtype="rfc822-headers")
    report.attach(status)
    report.attach(headers)
    return report


def _block(text: str) -> EmailMessage:
    block = EmailMessage()
    for line in text.splitlines():
        name, _, value = line.partition(": ")
        block[name] = value
    return block


# --- channels that say nothing ----------------------------------------------------------------------------------------


async def test_where_nothing_comes_back_handing_over_counts(cluster: Cluster, tmp_path: Path) -> None:
    """Push and chat tell nothing later: a service that takes the message answers, and one that refuses fails."""
    settings: dict[str, Any] = {
        "loopback_push": SecretStr("subscription"),
        "loopback_chat": (SecretStr("slack://one"), SecretStr("ntfys://two")),
    }
    async with escalation_rig(cluster, tmp_path, people=("push", "chat"), **settings) as rig:
        rig.outlets["chat"].answers["ntfys"] = REFUSED
        await first_beats(rig)
        assert await answering(rig, "push", "web-push") is True
        assert await answering(rig, "chat", "slack 1") is True
        await pass_time(rig, RETRY_AFTER)
        assert await answering(rig, "chat", "ntfys 2") is False
        (sent,) = rig.outlets["push"].sent
        assert sent.message is not None
        assert (sent.message.is_urgent, sent.message.link, sent.message.code) == (False, None, None)
        assert sent.message.text.startswith("heartbeat ")


async def test_loop_backs_are_for_those_who_run_the_network(cluster: Cluster, tmp_path: Path) -> None:
    """Secretariat and administrators see them and may ask for one; governments see none. A row holds no address."""
    async with escalation_rig(cluster, tmp_path, people=("push",), loopback_push=SecretStr("subscription")) as rig:
        await first_beats(rig)
        for role in (Role.SECRETARIAT, Role.ADMINISTRATOR):
            found = await heartbeat_handlers.read_heartbeats(rig.deps, person("XR", role), Wanted())
            (one,) = found.heartbeats
            assert (one.told, one.partner, one.state) == ("web-push, push", "XR", State.ANSWERING)
        assert not (await heartbeat_handlers.read_heartbeats(rig.deps, person("GB"), Wanted())).heartbeats
        (stored,) = await rig.rows("SELECT h::text AS text FROM heartbeats h")
        assert "subscription" not in stored["text"]
        rig.outlets["push"].usual = REFUSED
        await pass_time(rig, INTERVAL + FAILING_RETRY_AFTER)
        assert await beating(rig).alarms() == [f"our heartbeat through a provider fails: web-push, {ChannelName.PUSH}"]


async def test_a_loop_back_that_is_configured_no_more_is_forgotten(cluster: Cluster, tmp_path: Path) -> None:
    """Its row goes a day after the setting did, which another process may still have; no alarm stays behind."""
    async with escalation_rig(cluster, tmp_path, people=("push",), loopback_push=SecretStr("subscription")) as rig:
        await first_beats(rig)
        beating(rig)._loop_backs = {}
        await pass_time(rig, timedelta(minutes=1))
        assert len(await rig.rows("SELECT 1 FROM heartbeats")) == 1
        assert await beating(rig).alarms() == []
        await pass_time(rig, GONE_AFTER)
        await pass_time(rig, timedelta(hours=2))
        assert await rig.rows("SELECT 1 FROM heartbeats") == []
