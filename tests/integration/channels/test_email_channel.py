"""The e-mail channel against real mail servers of the test's own: encrypted, refused, slow, broken."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.message import EmailMessage
from pathlib import Path
from uuid import UUID, uuid5

import httpx
import pytest

from services.escalation.answering.inbound_mail import PATH as INBOUND_PATH
from services.escalation.app import build
from services.escalation.channels import AttemptState, Outgoing, PersonMessage, Reason, SendResult, VoiceScript
from services.escalation.channels.email import EmailChannel, EmailLimits, MailServer, email_channel
from services.escalation.channels.mail import MailHouse
from shared.clock import ManualClock, SystemClock
from shared.ids import Ids, SeededBits
from shared.keys import KeyRing
from shared.settings import load
from shared.web import build_app
from tests.support.certificates import Authority
from tests.support.mail_server import MailBox, mail_server, scripted_server, until_client_leaves
from tests.support.memory_bus import MemoryBroker, MemoryBus
from tests.support.waiting import eventually

POINT = UUID("01990000-0000-7000-8000-000000000001")
PAGE = UUID("01990000-0000-7000-8000-000000000002")
THREAD = "01990000-0000-7000-8000-000000000003"
TOKEN = "a" * 38
SENT_AT = datetime(2021, 8, 15, 9, 30, tzinfo=UTC)
QUICK = EmailLimits(total_seconds=1.0)

SPEECH = VoiceScript("fr-FR", "alert", "menu", "acknowledged", "wrong person", "not understood", "goodbye")


def told(**changes: object) -> PersonMessage:
    """What a person is told, in Arabic: an exercise."""
    fields: dict[str, object] = {
        "language": "ar",
        "subject": "EXERCISE FLASH من كندا: إخلاء كابول",
        "text": "EXERCISE\n\nإخلاء قبل إغلاق المطار.\n.\nالرمز 4821",  # noqa: RUF001 - Arabic
        "html": '<p dir="rtl">EXERCISE إخلاء &amp; <b>4821</b></p>',
        "short": "EXERCISE 4821",
        "voice": SPEECH,
        "link": f"https://redphone.example/a/{TOKEN}",
        "code": "4821",
        "thread": THREAD,
        "is_urgent": True,
    }
    return PersonMessage(**{**fields, **changes})  # type: ignore[arg-type]


def page(
    target: str = "person@ministry.example", message: PersonMessage | None = None, page_id: UUID = PAGE
) -> Outgoing:
    """A page to a mailbox."""
    return Outgoing(
        page_id=page_id,
        attempt=1,
        message_type="alert.released",
        contact_point_id=POINT,
        target=target,
        body=b"",
        sent_at=SENT_AT,
        message=message or told(),
    )


@pytest.fixture
def authority() -> Authority:
    """The certificate authority that the channel trusts."""
    return Authority.create()


def channel(
    port: int,
    authority: Authority,
    *,
    scheme: str = "smtp",
    user: str = "",
    host: str = "127.0.0.1",
    development: bool = False,
    limits: EmailLimits | None = None,
) -> EmailChannel:
    """The channel as the settings would build it."""
    return EmailChannel(
        clock=SystemClock(),
        server=MailServer.of(f"{scheme}://{user}{host}:{port}", development=development),
        house=MailHouse.of("Red Phone <redphone@alerts.example>", "reply@alerts.example"),
        limits=limits,
        extra_roots_pem=authority.pem,
    )


@asynccontextmanager
async def plain(authority: Authority, limits: EmailLimits | None = None) -> AsyncIterator[tuple[MailBox, EmailChannel]]:
    """A server without encryption, as a developer has one, and a channel that may talk to it."""
    async with mail_server() as (box, port):
        email = channel(port, authority, development=True, limits=limits)
        yield box, email
        await email.close()


async def outcome(port: int, authority: Authority, **options: object) -> SendResult:
    """What becomes of one mail to a server at this port."""
    email = channel(port, authority, limits=QUICK, **options)  # type: ignore[arg-type]
    try:
        return await email.send(page())
    finally:
        await email.close()


# --- encrypted, or not at all -----------------------------------------------------------------------------------------


async def test_hands_in_after_starttls_and_login(authority: Authority, tmp_path: Path) -> None:
    """With smtp:// the session is encrypted before name, password or mail are sent; the server has the mail: sent."""
    context = authority.server_context("127.0.0.1", tmp_path)
    async with mail_server(starttls=context, login=True) as (box, port):
        email = channel(port, authority, user="red%40phone:open%20sesame@")
        result = await email.send(page())
        await email.close()
    assert (result.state, result.reason, result.status_code) == (AttemptState.SENT, Reason.ACCEPTED, 250)
    assert (result.provider, result.provider_id) == ("smtp", f"<{PAGE}@alerts.example>")
    assert box.secure == [True]
    assert box.logins == [(b"red@phone", b"open sesame")]
    assert (box.mails[0].mail_from, box.mails[0].rcpt_tos) == ("redphone@alerts.example", ["person@ministry.example"])


async def test_hands_in_with_implicit_tls(authority: Authority, tmp_path: Path) -> None:
    """With smtps:// the connection is encrypted from its first byte."""
    context = authority.server_context("127.0.0.1", tmp_path)
    async with mail_server(implicit_tls=context) as (box, port):
        result = await outcome(port, authority, scheme="smtps")
    assert result.state is AttemptState.SENT
    assert len(box.mails) == 1


async def test_refuses_a_server_without_starttls(authority: Authority) -> None:
    """A server that offers no encryption gets no mail; loopback alone is no excuse outside of development."""
    async with mail_server() as (box, port):
        result = await outcome(port, authority)
    assert (result.state, result.reason) == (AttemptState.FAILED, Reason.TLS_FAILED)
    assert result.detail == "the mail server does not offer STARTTLS"
    assert not box.mails


def test_plain_text_is_for_this_machine_in_development_alone() -> None:
    """Neither development nor loopback by itself allows plain text, and smtps:// never does."""
    assert MailServer.of("smtp://localhost:25", development=True).may_be_plain
    assert MailServer.of("smtp://[::1]:25", development=True).may_be_plain
    assert not MailServer.of("smtp://localhost:25").may_be_plain
    assert not MailServer.of("smtp://mail.example:25", development=True).may_be_plain
    assert not MailServer.of("smtp://10.0.0.1:25", development=True).may_be_plain
    assert not MailServer.of("smtps://localhost", development=True).may_be_plain


@pytest.mark.parametrize("scheme", ["smtp", "smtps"])
@pytest.mark.parametrize("fault", ["stranger", "other name", "expired"])
async def test_verifies_the_certificate(authority: Authority, tmp_path: Path, scheme: str, fault: str) -> None:
    """A certificate of an unknown authority, for another name, or expired: no mail, and the reason says TLS."""
    signer = Authority.create() if fault == "stranger" else authority
    name = "other.example" if fault == "other name" else "127.0.0.1"
    context = signer.server_context(name, tmp_path, expired=fault == "expired")
    implicit = context if scheme == "smtps" else None
    async with mail_server(starttls=context if implicit is None else None, implicit_tls=implicit) as (box, port):
        result = await outcome(port, authority, scheme=scheme)
    assert (result.state, result.reason) == (AttemptState.FAILED, Reason.TLS_FAILED)
    assert not box.mails


async def test_wrong_password(authority: Authority, tmp_path: Path) -> None:
    """A login that is refused is the provider's refusal, and the detail holds neither name nor password."""
    context = authority.server_context("127.0.0.1", tmp_path)
    async with mail_server(starttls=context, login=True) as (_, port):
        result = await outcome(port, authority, user="redphone:secret@")
    assert (result.reason, result.status_code) == (Reason.PROVIDER_REFUSED, 535)
    assert result.detail is not None
    assert "secret" not in result.detail
    assert "redphone" not in result.detail


# --- what arrives -----------------------------------------------------------------------------------------------------


async def test_arrives_whole_and_readable(authority: Authority) -> None:
    """Headers, Arabic, both parts and a lone full stop come out of the receiver's parser as they went in."""
    async with plain(authority) as (box, email):
        await email.send(page())
    mail = box.parsed()
    assert mail["subject"] == "EXERCISE FLASH من كندا: إخلاء كابول"
    assert mail["subject"].startswith("EXERCISE")
    assert mail["from"] == "Red Phone <redphone@alerts.example>"
    assert mail["to"] == "person@ministry.example"
    assert mail["date"].datetime == SENT_AT
    assert mail["content-language"] == "ar"
    assert not mail.defects
    text, html = mail.iter_parts()
    assert isinstance(text, EmailMessage)
    assert isinstance(html, EmailMessage)
    assert text.get_content_type() == "text/plain"
    assert text.get_content().splitlines() == told().text.splitlines()
    assert html.get_content_type() == "text/html"
    assert html.get_content().strip() == told().html


async def test_threads_and_can_be_answered(authority: Authority) -> None:
    """Every mail of a chain refers to the same root; the page's own id is its Message-ID; answers carry its token."""
    async with plain(authority) as (box, email):
        await email.send(page())
        await email.send(page(page_id=uuid5(PAGE, "reminder"), message=told(subject="EXERCISE reminder")))
    first, second = box.parsed(0), box.parsed(1)
    assert first["message-id"] == f"<{PAGE}@alerts.example>"
    assert second["message-id"] != first["message-id"]
    root = f"<thread.{THREAD}@alerts.example>"
    assert first["references"] == first["in-reply-to"] == second["references"] == second["in-reply-to"] == root
    assert first["reply-to"] == f"reply+{TOKEN}@alerts.example"


async def test_says_that_a_machine_wrote_it(authority: Authority) -> None:
    """Absence notices are kept away, and what is urgent says so; what is not urgent does not."""
    async with plain(authority) as (box, email):
        await email.send(page())
        await email.send(page(message=told(is_urgent=False)))
    urgent, calm = box.parsed(0), box.parsed(1)
    assert urgent["auto-submitted"] == calm["auto-submitted"] == "auto-generated"
    assert (urgent["x-priority"], urgent["importance"]) == ("1", "high")
    assert (calm["x-priority"], calm["importance"]) == (None, None)


async def test_addresses_beyond_ascii(authority: Authority) -> None:
    """A domain of another alphabet travels in its ASCII form; a mailbox of one needs SMTPUTF8, which is asked for."""
    async with plain(authority) as (box, email):
        results = [await email.send(page(target)) for target in ("person@bücher.example", "用户@例え.example")]
    assert [result.state for result in results] == [AttemptState.SENT, AttemptState.SENT]
    assert box.mails[0].rcpt_tos == ["person@xn--bcher-kva.example"]
    assert box.mails[1].rcpt_tos == ["用户@xn--r8jz45g.example"]
    assert "SMTPUTF8" in box.options[1]
    assert "SMTPUTF8" not in box.options[0]
    assert box.parsed(1)["to"] == "用户@xn--r8jz45g.example"


async def test_a_server_without_smtputf8_keeps_the_connection(authority: Authority) -> None:
    """A mailbox that the server cannot take is refused by us, and the next mail goes over the same connection."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 old server\r\n")
        while line := await reader.readline():
            answer = {b"DATA": b"354 go\r\n", b"EHLO": b"250 old\r\n"}.get(line[:4], b"250 ok\r\n")
            writer.write(answer)
            if line.startswith(b"DATA"):
                await reader.readuntil(b"\r\n.\r\n")
                writer.write(b"250 taken\r\n")

    async with scripted_server(talk) as port:
        email = channel(port, authority, development=True, limits=QUICK)
        refused = await email.send(page("用户@ministry.example"))
        taken = await email.send(page())
        await email.close()
    assert (refused.state, refused.reason) == (AttemptState.FAILED, Reason.TARGET_REFUSED)
    assert taken.state is AttemptState.SENT


# --- what the server says ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "reason", "detail"),
    [
        ("550 5.1.1 no such user person@ministry.example", Reason.ADDRESS_UNKNOWN, "SMTP 550 5.1.1"),
        ("550 5.1.10 the domain takes no mail", Reason.ADDRESS_UNKNOWN, "SMTP 550 5.1.10"),
        ("553 5.1.3 bad address", Reason.ADDRESS_UNKNOWN, "SMTP 553 5.1.3"),
        ("550 5.1.8 bad sender", Reason.PROVIDER_REFUSED, "SMTP 550 5.1.8"),
        ("550 5.7.1 policy", Reason.PROVIDER_REFUSED, "SMTP 550 5.7.1"),
        ("550 no", Reason.PROVIDER_REFUSED, "SMTP 550"),
        ("552 5.2.2 mailbox full", Reason.PROVIDER_REFUSED, "SMTP 552 5.2.2"),
        ("450 4.2.1 greylisted", Reason.PROVIDER_BUSY, "SMTP 450 4.2.1"),
        ("451 try later", Reason.PROVIDER_BUSY, "SMTP 451"),
    ],
)
async def test_refused_recipients(authority: Authority, said: str, reason: Reason, detail: str) -> None:
    """Only what says that nobody is there is a hard failure; busy is busy; the server's words are not passed on."""
    async with plain(authority) as (box, email):
        box.refusals["person@"] = said
        result = await email.send(page())
        other = await email.send(page("other@ministry.example"))
    assert (result.state, result.reason, result.detail) == (AttemptState.FAILED, reason, detail)
    assert result.status_code == int(said[:3])
    assert result.provider_id is None
    assert other.state is AttemptState.SENT, "one refusal says nothing about the next mail"
    assert box.sessions == 1, "a refusal costs no connection"


async def test_refused_after_the_text(authority: Authority) -> None:
    """A server that finds out only after DATA that nobody is there is believed as well."""
    async with plain(authority) as (box, email):
        box.data_refusal = "550 5.1.1 no such user"
        unknown = await email.send(page())
        box.data_refusal = "554 5.7.1 spam"
        spam = await email.send(page())
    assert (unknown.reason, spam.reason) == (Reason.ADDRESS_UNKNOWN, Reason.PROVIDER_REFUSED)


@pytest.mark.parametrize(
    "target",
    [
        "",
        "nobody",
        "a@b@c",
        "two@ministry.example,three@ministry.example",
        "person@ministry.example\r\nRCPT TO:<spy@evil.example>",
        "person@ministry.example> SIZE=1",
        '"quoted person"@ministry.example',
        "per\x00son@ministry.example",
        "person@ministry..example",
        f"{'x' * 65}@ministry.example",
    ],
)
async def test_refuses_what_is_not_one_address(authority: Authority, target: str) -> None:
    """What is not exactly one address is never said to a server."""
    async with plain(authority) as (box, email):
        result = await email.send(page(target))
    assert (result.state, result.reason) == (AttemptState.FAILED, Reason.TARGET_REFUSED)
    assert box.sessions == 0


# --- servers that are slow, or break off ------------------------------------------------------------------------------


async def test_nobody_there(authority: Authority) -> None:
    """A closed port and a name that leads nowhere are told apart."""
    async with mail_server() as (_, port):
        pass
    refused = await outcome(port, authority)
    nameless = await outcome(port, authority, host="mail.invalid")
    assert (refused.reason, refused.detail) == (Reason.CONNECT_FAILED, "connection refused")
    assert nameless.reason is Reason.NAME_FAILED


async def test_a_server_that_hangs(authority: Authority) -> None:
    """A server that never says a word costs the whole time and no more."""

    async def talk(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
        await until_client_leaves(reader)

    async with scripted_server(talk) as port:
        result = await outcome(port, authority)
    assert (result.state, result.reason) == (AttemptState.FAILED, Reason.CONNECT_FAILED)
    assert 0.9 < result.elapsed_seconds < 3


async def test_a_server_that_refuses_and_hangs_is_let_go(authority: Authority) -> None:
    """A server that refuses a recipient and then says no more costs the whole time, and keeps no connection."""
    left = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        while not (line := await reader.readline()).startswith(b"RCPT"):
            writer.write(b"250 ok\r\n" if line else b"")
        writer.write(b"550 5.1.1 nobody\r\n")
        await until_client_leaves(reader)
        left.set()

    async with scripted_server(talk) as port:
        result = await outcome(port, authority, development=True)
        assert result.state is AttemptState.FAILED
        async with asyncio.timeout(5):
            await left.wait()


async def test_one_byte_after_another(authority: Authority) -> None:
    """A server that always says something, and never enough, is left after the whole time."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        leaving = asyncio.create_task(until_client_leaves(reader))
        for byte in b"220-" + b"x" * 10_000:
            writer.write(bytes([byte]))
            await writer.drain()
            done, _ = await asyncio.wait({leaving}, timeout=0.05)
            if done:
                return

    async with scripted_server(talk) as port:
        result = await outcome(port, authority)
    assert (result.state, result.reason) == (AttemptState.FAILED, Reason.CONNECT_FAILED)
    assert 0.9 < result.elapsed_seconds < 3


async def test_hangs_up_in_the_middle_of_the_mail(authority: Authority) -> None:
    """A server that goes in the middle of DATA may have the mail: failed, to be sent again under the same id."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        while not (line := await reader.readline()).startswith(b"DATA"):
            writer.write(b"250 ok\r\n" if line else b"")
        writer.write(b"354 go on\r\n")
        await reader.readline()

    async with scripted_server(talk) as port:
        result = await outcome(port, authority, development=True)
    assert (result.state, result.reason) == (AttemptState.FAILED, Reason.DISCONNECTED)


@pytest.mark.parametrize(
    ("greeting", "reason"),
    [
        (b"421 4.3.2 too many connections\r\n", Reason.PROVIDER_BUSY),
        (b"554 go away\r\n", Reason.PROVIDER_REFUSED),
        (b"HTTP/1.1 400 Bad Request\r\n", Reason.RESPONSE_MALFORMED),
        (b"250 " + b"x" * 100_000 + b"\r\n", Reason.RESPONSE_MALFORMED),
    ],
)
async def test_greetings(authority: Authority, greeting: bytes, reason: Reason) -> None:
    """A busy server, one that wants nothing from us, and one that is no mail server."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await until_client_leaves(reader)

    async with scripted_server(talk) as port:
        result = await outcome(port, authority)
    assert (result.state, result.reason) == (AttemptState.FAILED, reason)


# --- connections ------------------------------------------------------------------------------------------------------


async def test_several_mails_share_a_connection(authority: Authority) -> None:
    """Mails one after the other log in once, and every one has one recipient."""
    async with plain(authority) as (box, email):
        for number in range(4):
            await email.send(page(f"person-{number}@ministry.example"))
    assert box.sessions == 1
    assert [mail.rcpt_tos for mail in box.mails] == [[f"person-{number}@ministry.example"] for number in range(4)]


async def test_a_spent_connection_is_replaced(authority: Authority) -> None:
    """After so many mails as servers bear on one connection, the next one opens another."""
    async with plain(authority, EmailLimits(mails_per_connection_max=2)) as (box, email):
        for _ in range(5):
            assert (await email.send(page())).state is AttemptState.SENT
    assert box.sessions == 3


async def test_an_idle_connection_is_let_go(authority: Authority) -> None:
    """A connection that nobody uses is closed by us after a while."""
    gone = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 ready\r\n")
        while line := await reader.readline():
            writer.write(b"354 go\r\n" if line.startswith(b"DATA") else b"250 ok\r\n")
            if line.startswith(b"DATA"):
                await reader.readuntil(b"\r\n.\r\n")
                writer.write(b"250 taken\r\n")
        gone.set()

    async with scripted_server(talk) as port:
        email = channel(port, authority, development=True, limits=EmailLimits(idle_seconds=0.1))
        assert (await email.send(page())).state is AttemptState.SENT
        async with asyncio.timeout(10):
            await gone.wait()
        await email.close()


async def test_a_connection_that_died_meanwhile_costs_no_mail(authority: Authority) -> None:
    """A server that closes kept connections, or says 421 on them, gets the mail over a new one in the same attempt."""
    sessions = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sessions
        sessions += 1
        mine, mails = sessions, 0
        writer.write(b"220 ready\r\n")
        while line := await reader.readline():
            if line.startswith(b"MAIL") and mails:
                writer.write(b"421 idle for too long\r\n" if mine == 1 else b"")
                return
            writer.write(b"354 go\r\n" if line.startswith(b"DATA") else b"250 ok\r\n")
            if line.startswith(b"DATA"):
                await reader.readuntil(b"\r\n.\r\n")
                mails += 1
                writer.write(b"250 taken\r\n")

    async with scripted_server(talk) as port:
        email = channel(port, authority, development=True, limits=EmailLimits(total_seconds=5))
        results = [await email.send(page()) for _ in range(3)]
        await email.close()
    assert [result.state for result in results] == [AttemptState.SENT] * 3
    assert sessions == 3


async def test_only_so_many_at_once(authority: Authority) -> None:
    """A fan-out opens no more connections than the limit; what finds no place in time is busy and not lost."""
    limits = EmailLimits(total_seconds=0.5, connections_max=2)
    async with plain(authority, limits) as (box, email):
        box.gate = asyncio.Event()
        results = await asyncio.gather(*(email.send(page(f"p{number}@ministry.example")) for number in range(5)))
        assert [result.state for result in results] == [AttemptState.FAILED] * 5
        # Places come free in the last moment of those who wait for them, so that each of these may find one, or none.
        assert {result.reason for result in results} <= {Reason.PROVIDER_BUSY, Reason.TIMEOUT, Reason.CONNECT_FAILED}
        assert [result.reason for result in results].count(Reason.TIMEOUT) >= limits.connections_max
        assert all(result.elapsed_seconds < 2 for result in results)
        assert box.at_once_max == 2
        box.gate.set()
        await eventually(lambda: box.at_once == 0)
        again = await asyncio.gather(*(email.send(page(f"p{number}@ministry.example")) for number in range(5)))
    assert [result.state for result in again] == [AttemptState.SENT] * 5
    assert box.at_once_max == 2


async def test_a_server_that_hangs_takes_only_so_many(authority: Authority) -> None:
    """Mails beyond those that may wait fail at once: whoever sends them is free for other channels."""
    limits = EmailLimits(total_seconds=2.0, connections_max=1, waiting_max=2)
    async with plain(authority, limits) as (box, email):
        box.gate = asyncio.Event()
        waiting = [asyncio.create_task(email.send(page(f"p{number}@ministry.example"))) for number in range(3)]
        await eventually(lambda: box.at_once == 1)
        refused = await email.send(page())
        assert (refused.reason, refused.elapsed_seconds < 0.5) == (Reason.PROVIDER_BUSY, True)
        box.gate.set()
        assert [result.state for result in await asyncio.gather(*waiting)] == [AttemptState.SENT] * 3
        assert (await email.send(page())).state is AttemptState.SENT


@pytest.mark.parametrize("behind", [{"is_urgent": False}, {"is_drill": True}], ids=["calm", "drill"])
async def test_what_is_urgent_waits_for_nothing_that_is_not(authority: Authority, behind: dict[str, bool]) -> None:
    """While mails that are not urgent, or of drills, take every place there is, a FLASH has a connection at once."""
    limits = EmailLimits(total_seconds=5.0, connections_max=1, waiting_max=0)
    calm = told(**behind)
    async with plain(authority, limits) as (box, email):
        box.gate = asyncio.Event()
        first = asyncio.create_task(email.send(page(message=calm)))
        await eventually(lambda: box.at_once == 1)
        assert (await email.send(page(message=calm))).reason is Reason.PROVIDER_BUSY
        urgent = asyncio.create_task(email.send(page()))
        await eventually(lambda: box.at_once == 2)
        box.gate.set()
        assert [(await task).state for task in (first, urgent)] == [AttemptState.SENT] * 2


async def test_closing_ends_what_comes_later(authority: Authority) -> None:
    """After `close` a mail fails at once, with a reason of its own."""
    async with plain(authority) as (box, email):
        await email.close()
        result = await email.send(page())
    assert (result.state, result.reason) == (AttemptState.FAILED, Reason.CHANNEL_UNAVAILABLE)
    assert box.sessions == 0


async def test_a_page_without_a_text_is_our_mistake(authority: Authority) -> None:
    """A page that was rendered for a system is not sent to a person."""
    async with plain(authority) as (box, email):
        bare = page()
        result = await email.send(
            Outgoing(PAGE, 1, "alert.released", POINT, bare.target, b"{}", SENT_AT, message=None),
        )
    assert (result.state, result.reason) == (AttemptState.FAILED, Reason.INTERNAL)
    assert not box.mails


CONFIGURED = {
    "REDPHONE_EMAIL_SMTP_URL": "smtp://mail.example",
    "REDPHONE_EMAIL_FROM": "redphone@alerts.example",
    "REDPHONE_EMAIL_INBOUND_KEY": "key-of-the-mail-provider",
    "REDPHONE_ESCALATION_DATABASE_URL": "postgresql://nobody@nowhere/escalation",
}


def test_is_built_only_where_it_is_configured() -> None:
    """Without a mail server there is no e-mail channel; with one there is."""
    assert email_channel(load({}), clock=SystemClock()) is None
    built = email_channel(load(CONFIGURED), clock=SystemClock())
    assert built is not None
    assert (built.name, built.provider, built.house.reply_to) == ("email", "smtp", None)


@pytest.mark.parametrize(("channels", "status"), [("webhook,email", 403), ("webhook", 404)])
async def test_the_service_has_it_by_its_settings(channels: str, status: int) -> None:
    """Escalation takes mails in where e-mail is configured, and nothing where it is switched off."""
    clock = ManualClock(SENT_AT)
    ids = Ids(clock.now, SeededBits(1))
    settings = load(CONFIGURED | {"REDPHONE_CHANNELS": channels})
    bus = MemoryBus(clock, broker=MemoryBroker(clock))
    service = build(settings, clock=clock, ids=ids, keys=KeyRing.generate(), bus=bus)
    app = build_app("Escalation", service.routers, service="escalation", clock=clock, ids=ids)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://escalation") as http:
        assert (await http.post(INBOUND_PATH, data={"body-mime": "x"})).status_code == status
    for stop in service.on_stop:
        await stop()
    await service.deps.intake.close()
    await service.deps.database.close()
