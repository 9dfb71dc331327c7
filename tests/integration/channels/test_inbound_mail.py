"""Answers by mail, all the way: our mail over a real server, an answer to it, the provider's form, our mail back."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import datetime
from email.message import EmailMessage
from pathlib import Path
from time import process_time
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr

from services.escalation import receipts
from services.escalation.answering import inbound_mail, links
from services.escalation.answering.inbound_mail import (
    AGE_SECONDS_MAX,
    AHEAD_SECONDS_MAX,
    FORM_BYTES_MAX,
    PATH,
    read_form,
)
from services.escalation.channels import AttemptState, ProviderStatus, Reason
from services.escalation.channels.email import EmailChannel, MailServer
from services.escalation.channels.mail import MailHouse
from services.escalation.deps import EscalationDeps
from shared.contracts import ChannelName, LevelTarget, PlannedContact, PlannedLevel, Precedence
from shared.ids import derived
from shared.web import build_app
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Rig, escalation_rig
from tests.support.mail_server import MailBox, mail_server
from tests.support.waiting import eventually

KEY = "key-of-the-mail-provider"
PERSON = "gb.person@ministry.example"
URL = "https://redphone.example"
FORM = "application/x-www-form-urlencoded"
HOUSE = MailHouse.of("Red Phone <redphone@alerts.example>", "reply@alerts.example")


@dataclass
class Receipts:
    """Stands where receipts are noted: what was told, and whether it is about a page that is known."""

    rig: Rig
    told: list[ProviderStatus] = field(default_factory=list)
    known: bool = True

    async def note_status(self, deps: EscalationDeps, status: ProviderStatus, *, now: datetime) -> bool:
        """Remembers it."""
        assert deps is self.rig.deps
        assert now == self.rig.clock.now()
        self.told.append(status)
        return self.known


@dataclass
class Post:
    """Escalation with a real mail server on one side and the provider's forms on the other."""

    rig: Rig
    box: MailBox
    channel: EmailChannel
    http: httpx.AsyncClient
    receipts: Receipts
    _forms: int = 0

    async def page(self, **changes: Any) -> EmailMessage:
        """Releases an alert, mails the page over the real server, and returns the mail as its reader has it."""
        await self.release(**changes)
        result = await self.channel.send(self.rig.outlets["email"].sent[-1])
        assert result.state is AttemptState.SENT, result
        return self.box.parsed()

    async def release(self, **changes: Any) -> None:
        """Releases an alert to a person who has a mailbox and nothing else."""
        contact = PlannedContact(
            id=derived("contact", "gb-1"),
            name="Example Person 1 of GB",
            title="Senior contact",
            points=(self.rig.point(PERSON, ChannelName.EMAIL),),
            subjects=("gb-1",),
        )
        level = PlannedLevel(targets=(LevelTarget(kind="contact", id=contact.id),))
        plan = self.rig.plan("GB").model_copy(
            update={"endpoints": (), "rotas": (), "contacts": (contact,), "levels": (level,)}
        )
        await self.rig.handle(plan)
        await self.rig.handle(self.rig.released("GB", **changes))
        await self.rig.settle()

    def code(self) -> str:
        """The code of the newest page."""
        return links.code_of(self.rig.keys, self.rig.outlets["email"].sent[-1].page_id)

    def form(
        self, mail: bytes, *, at: datetime | None = None, key: str = KEY, token: str | None = None
    ) -> dict[str, Any]:
        """What the provider posts for a mail, signed as it signs."""
        self._forms += 1
        stamp = str(int((at or self.rig.clock.now()).timestamp()))
        token = token or f"{self._forms:050}"
        signature = hmac.new(key.encode(), f"{stamp}{token}".encode(), hashlib.sha256).hexdigest()
        return {"timestamp": stamp, "token": token, "signature": signature, "body-mime": mail}

    async def hand_in(self, mail: EmailMessage | bytes, **options: Any) -> httpx.Response:
        """Posts a mail as the provider does."""
        raw = mail if isinstance(mail, bytes) else mail.as_bytes()
        return await self.post(self.form(raw, **options))

    async def post(self, form: dict[str, Any]) -> httpx.Response:
        """Posts a form."""
        return await self.http.post(PATH, content=urlencode(form), headers={"content-type": FORM})

    async def state(self) -> str:
        """Where Great Britain's escalation stands."""
        await self.rig.settle()
        return str((await self.rig.escalation("GB"))["state"])


@pytest_asyncio.fixture
async def post(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Post]:
    """A rig whose mails go over a real server, and whose route takes what the provider posts."""
    async with (
        escalation_rig(cluster, tmp_path, people=("email",), public_url=URL, email_inbound_key=SecretStr(KEY)) as rig,
        mail_server() as (box, port),
    ):
        server = MailServer.of(f"smtp://127.0.0.1:{port}", development=True)
        channel = EmailChannel(clock=rig.clock, server=server, house=HOUSE)

        noted = Receipts(rig)
        router = inbound_mail.router(rig.deps, channel, noted.note_status)
        app = build_app("mail", [router], service="escalation", clock=rig.clock, ids=rig.ids)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as http:
            yield Post(rig, box, channel, http, noted)
        await channel.close()


def answer_to(mail: EmailMessage, text: str, **headers: str) -> EmailMessage:
    """An answer as a person's program writes it: to Reply-To, in the thread, with the mail quoted below."""
    answer = EmailMessage()
    answer["From"] = f"Example Person <{PERSON}>"
    answer["To"] = mail["reply-to"]
    answer["Subject"] = f"Re: {mail['subject']}"
    answer["Message-ID"] = "<answer-1@ministry.example>"
    answer["In-Reply-To"] = mail["message-id"]
    for name, value in headers.items():
        del answer[name.replace("_", "-")]
        answer[name.replace("_", "-")] = value
    quoted = "\n".join(f"> {line}" for line in mail.get_body(("plain",)).get_content().splitlines())  # type: ignore[union-attr]
    answer.set_content(f"{text}\n\nOn Sunday, Red Phone <redphone@alerts.example> wrote:\n{quoted}\n")
    return answer


async def test_an_answer_with_the_code_acknowledges(post: Post) -> None:
    """A person answers "YES" and the code: acknowledged by them, by mail; a mail of ours in their thread says so."""
    mail = await post.page()
    response = await post.hand_in(answer_to(mail, f"Yes {post.code()}"))
    assert (response.status_code, response.json()) == (200, {"outcome": "answered"})
    assert await post.state() == "acknowledged"
    row = await post.rig.escalation("GB")
    assert "email" in str(dict(row))
    await eventually(lambda: len(post.box.mails) == 2)
    said = post.box.parsed()
    assert post.box.mails[-1].rcpt_tos == [PERSON]
    assert said["in-reply-to"] == said["references"] == "<answer-1@ministry.example>"
    assert said["auto-submitted"] == "auto-replied"
    assert said["subject"].startswith("Re: ")
    assert said["reply-to"] == mail["reply-to"]
    assert post.code() not in said.get_content()


async def test_what_counts_is_the_token_and_the_code(post: Post) -> None:
    """An answer from another address than we wrote to acknowledges: mailboxes are forwarded, and From is no proof."""
    mail = await post.page()
    answer = answer_to(mail, f"{post.code()}", From="deputy@elsewhere.example")
    assert (await post.hand_in(answer)).json() == {"outcome": "answered"}
    assert await post.state() == "acknowledged"
    await eventually(lambda: len(post.box.mails) == 2)
    assert post.box.mails[-1].rcpt_tos == ["deputy@elsewhere.example"]


async def test_a_forged_sender_changes_nothing(post: Post) -> None:
    """A mail "from" the person without the token, even with the code, acknowledges nothing and counts no wrong try;
    the person gets a mail that says how to answer, and answering that one works.
    """
    mail = await post.page()
    for text in (f"YES {post.code()}", *(f"YES {number:04}" for number in range(8))):
        forged = answer_to(mail, text, To="reply@alerts.example")
        assert (await post.hand_in(forged)).json() == {"outcome": "answered"}
    assert await post.state() == "notified"
    assert not await post.rig.rows("SELECT 1 FROM answer_codes WHERE wrong_tries > 0 OR locked_at IS NOT NULL")
    await eventually(lambda: len(post.box.mails) == 10)
    guide = post.box.parsed()
    assert guide["reply-to"] == mail["reply-to"]
    await post.hand_in(answer_to(mail, f"YES {post.code()}", To=guide["reply-to"]))
    assert await post.state() == "acknowledged"


async def test_strangers_get_no_mail(post: Post) -> None:
    """Somebody whom we never wrote to is not written to, whatever they say: nobody can have us write to others."""
    mail = await post.page()
    stranger = answer_to(mail, f"YES {post.code()}", From="spy@evil.example", To="reply@alerts.example")
    assert (await post.hand_in(stranger)).json() == {"outcome": "ignored"}
    invented = f"reply+{'x' * links.TOKEN_CHARACTERS}@alerts.example"
    stranger = answer_to(mail, f"YES {post.code()}", From="spy@evil.example", To=invented)
    assert (await post.hand_in(stranger)).json() == {"outcome": "ignored"}
    assert await post.state() == "notified"
    assert len(post.box.mails) == 1


async def test_the_quoted_mail_is_no_answer(post: Post) -> None:
    """A question above our own quoted words, which hold the code, acknowledges nothing, in plain text or HTML."""
    mail = await post.page()
    await post.hand_in(answer_to(mail, "What is this about?"))
    html = EmailMessage()
    html["From"], html["To"] = PERSON, mail["reply-to"]
    html.set_content(
        f"<p>Who are you?</p><blockquote>YES {post.code()}</blockquote><p>From: Red Phone"
        f" &lt;redphone@alerts.example&gt;</p><p>YES {post.code()}</p>",
        subtype="html",
    )
    await post.hand_in(html)
    assert await post.state() == "notified"


async def test_an_answer_in_html_alone(post: Post) -> None:
    """A program that writes HTML only is understood as well."""
    mail = await post.page()
    html = EmailMessage()
    html["From"], html["To"] = PERSON, mail["reply-to"]
    html.set_content(f"<style>p{{}}</style><div>oui&nbsp;<b>{post.code()}</b></div>", subtype="html")
    await post.hand_in(html)
    assert await post.state() == "acknowledged"


async def test_wrong_codes_lock(post: Post) -> None:
    """Wrong codes in answers count as anywhere: the fifth locks, and then the right one does not help."""
    mail = await post.page()
    wrong = f"{(int(post.code()) + 1) % 10_000:04}"
    right = post.code()
    for _ in range(5):
        await post.hand_in(answer_to(mail, f"YES {wrong}"))
    await post.hand_in(answer_to(mail, f"YES {right}"))
    assert await post.state() == "notified"


@pytest.mark.parametrize(
    "headers",
    [
        {"Auto_Submitted": "auto-replied"},
        {"Auto_Submitted": "auto-generated; owner=x"},
        {"Precedence": "bulk"},
        {"List_Id": "<list.ministry.example>"},
        {"Return_Path": "<>"},
        {"From": "redphone@alerts.example"},
        {"From": "reply+abc@alerts.example"},
        {"From": "one@ministry.example, two@ministry.example"},
    ],
)
async def test_machines_are_not_answered(post: Post, headers: dict[str, str]) -> None:
    """Absence notices, lists, reports and our own mails do nothing and get nothing, even with the right code."""
    mail = await post.page()
    response = await post.hand_in(answer_to(mail, f"YES {post.code()}", **headers))
    assert response.json() == {"outcome": "ignored"}
    assert await post.state() == "notified"
    assert len(post.box.mails) == 1


async def test_an_empty_envelope_sender_is_a_machine(post: Post) -> None:
    """The null sender of the envelope is looked at, whatever the headers say."""
    mail = await post.page()
    form = post.form(answer_to(mail, f"YES {post.code()}").as_bytes()) | {"sender": "<>"}
    assert (await post.post(form)).json() == {"outcome": "ignored"}


async def test_the_envelope_holds_the_token(post: Post) -> None:
    """A mail whose To was rewritten on the way is known by its envelope's recipient."""
    mail = await post.page()
    form = post.form(answer_to(mail, f"YES {post.code()}", To="somebody@ministry.example").as_bytes())
    await post.post(form | {"recipient": mail["reply-to"]})
    assert await post.state() == "acknowledged"


# --- the provider's form ----------------------------------------------------------------------------------------------


async def test_forged_forms_are_refused(post: Post) -> None:
    """Another key, another timestamp or token than was signed, a form without a signature: 403, and nothing done."""
    mail = answer_to(await post.page(), f"YES {post.code()}").as_bytes()
    genuine = post.form(mail)
    forged = [
        post.form(mail, key="another key of sixteen"),
        genuine | {"token": "9" * 50},
        genuine | {"timestamp": str(int(genuine["timestamp"]) + 1)},
        genuine | {"signature": genuine["signature"][:-1]},
        genuine | {"signature": "ä"},
        genuine | {"timestamp": "-1"},
        genuine | {"token": ""},
        {"body-mime": mail},
        {},
    ]
    for form in forged:
        response = await post.post(form)
        assert (response.status_code, response.json()["code"]) == (403, "mail_not_signed")
    assert await post.state() == "notified"


async def test_old_and_early_forms_are_refused(post: Post) -> None:
    """A form counts as long as the provider keeps trying, and not if it comes from the future."""
    mail = answer_to(await post.page(), "hello").as_bytes()
    now = post.rig.clock.now().timestamp()
    ages = {-AGE_SECONDS_MAX: 200, -AGE_SECONDS_MAX - 1: 403, AHEAD_SECONDS_MAX: 200, AHEAD_SECONDS_MAX + 1: 403}
    for age, status in ages.items():
        at = datetime.fromtimestamp(int(now) + age, tz=post.rig.clock.now().tzinfo)
        assert (await post.hand_in(mail, at=at)).status_code == status, age


async def test_a_replayed_form_changes_nothing(post: Post) -> None:
    """The signature does not cover the mail: its token counts once, whatever mail comes with it the second time."""
    mail = await post.page()
    first = post.form(answer_to(mail, "what?").as_bytes())
    await post.post(first)
    replayed = first | {"body-mime": answer_to(mail, f"YES {post.code()}").as_bytes()}
    assert (await post.post(replayed)).status_code == 200
    assert await post.state() == "notified"


async def test_the_same_form_again_gets_the_same_words(post: Post) -> None:
    """A provider that did not hear our 200 posts again: acknowledged once, and the answer is mailed again."""
    mail = await post.page()
    form = post.form(answer_to(mail, f"YES {post.code()}").as_bytes())
    assert (await post.post(form)).json() == (await post.post(form)).json() == {"outcome": "answered"}
    assert await post.state() == "acknowledged"
    await eventually(lambda: len(post.box.mails) == 3)
    assert post.box.parsed(1).get_content() == post.box.parsed(2).get_content()
    assert len(await post.rig.events("partner_acknowledged")) == 1


async def test_multipart_forms(post: Post) -> None:
    """The form for mails with attachments is read, too, byte for byte."""
    answer = answer_to(await post.page(), f"YES {post.code()}")
    answer.add_attachment(bytes(range(256)) * 10, maintype="image", subtype="png", filename="logo.png")
    form = post.form(answer.as_bytes())
    response = await post.http.post(PATH, files={name: (None, value) for name, value in form.items()})
    assert response.json() == {"outcome": "answered"}
    assert await post.state() == "acknowledged"


def test_whoever_is_not_proved_yet_keeps_nobody_busy() -> None:
    """A form that was made to be slow to read, from anybody at all, costs no more than a moment of the event loop."""
    deep = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(250))
    begun = process_time()
    for body in (b"--x\r\n" + deep + b"-\r\n" * 1_000_000, b"--x\r\n\r\n" * 400_000):
        assert read_form(body, "multipart/form-data; boundary=x") == {}
    assert process_time() - begun < 1


async def test_forms_without_a_raw_mail(post: Post) -> None:
    """A form of mails that the provider has taken apart is refused for good, and says what to configure."""
    form = post.form(b"")
    del form["body-mime"]
    response = await post.post(form | {"body-plain": "YES"})
    assert (response.status_code, response.json()["code"]) == (406, "mail_unreadable")
    assert (await post.http.post(PATH, content=b"x" * (FORM_BYTES_MAX + 1))).status_code == 413


async def test_takes_nothing_where_nothing_is_configured(post: Post) -> None:
    """Without a mail server the route is not there."""
    router = inbound_mail.router(post.rig.deps, None, None)  # type: ignore[arg-type]
    app = build_app("mail", [router], service="escalation", clock=post.rig.clock, ids=post.rig.ids)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as http:
        assert (await http.post(PATH, data=post.form(b"x"))).status_code == 404


# --- reports of mails that did not arrive -----------------------------------------------------------------------------


def bounce_of(message_id: str, *, action: str = "failed", status: str = "5.1.1", as_headers: bool = False) -> bytes:
    """A report as mail servers write it (RFC 3464)."""
    returned = f"Message-ID: {message_id}\r\nSubject: x\r\n\r\n" + ("" if as_headers else "text\r\n")
    kind = "text/rfc822-headers" if as_headers else "message/rfc822"
    return (
        "From: MAILER-DAEMON@ministry.example\r\nTo: redphone@alerts.example\r\nSubject: Undelivered\r\n"
        "MIME-Version: 1.0\r\nContent-Type: multipart/report; report-type=delivery-status; boundary=b\r\n\r\n"
        "--b\r\n\r\nSorry.\r\n"
        "--b\r\nContent-Type: message/delivery-status\r\n\r\nReporting-MTA: dns; mx.ministry.example\r\n\r\n"
        f"Final-Recipient: rfc822; {PERSON}\r\nAction: {action}\r\nStatus: {status}\r\n\r\n"
        f"--b\r\nContent-Type: {kind}\r\n\r\n{returned}\r\n--b--\r\n"
    ).encode()


@pytest.mark.parametrize("as_headers", [False, True])
@pytest.mark.parametrize(
    ("status", "reason"),
    [("5.1.1", Reason.ADDRESS_UNKNOWN), ("5.2.2", Reason.NOT_DELIVERED), ("garbage", Reason.NOT_DELIVERED)],
)
async def test_bounces_are_failures_of_their_page(post: Post, status: str, reason: Reason, *, as_headers: bool) -> None:
    """A report about one of our mails is that page's failure: for good if nobody is there, otherwise not delivered."""
    mail = await post.page(precedence=Precedence.IMMEDIATE)
    response = await post.hand_in(bounce_of(mail["message-id"], status=status, as_headers=as_headers))
    assert response.json() == {"outcome": "bounced"}
    [told] = post.receipts.told
    assert (told.provider, told.provider_id) == ("smtp", mail["message-id"])
    assert (told.state, told.reason) == (AttemptState.FAILED, reason)
    assert len(post.box.mails) == 1, "a bounce is never answered"


async def test_other_reports_are_ignored(post: Post) -> None:
    """A delay, a report about a mail that is not ours, and one about nothing we know: nothing fails."""
    mail = await post.page()
    assert (await post.hand_in(bounce_of(mail["message-id"], action="delayed"))).json() == {"outcome": "ignored"}
    assert (await post.hand_in(bounce_of("<x@ministry.example>"))).json() == {"outcome": "ignored"}
    assert (await post.hand_in(bounce_of("<x@alerts.example>"))).json() == {"outcome": "ignored"}
    assert not post.receipts.told
    post.receipts.known = False
    assert (await post.hand_in(bounce_of(mail["message-id"]))).json() == {"outcome": "ignored"}


async def test_a_bounce_makes_its_page_fail(post: Post) -> None:
    """Sent by delivery itself and taken by the server; then a report comes: the attempt has failed, with its reason."""
    rig = post.rig
    rig.outlets["email"].send = post.channel.send  # type: ignore[method-assign]
    await post.release()
    [attempt] = await rig.rows("SELECT * FROM attempts WHERE provider = 'smtp'")
    assert (attempt["state"], attempt["provider_id"]) == ("sent", post.box.parsed()["message-id"])
    assert await post.state() == "notified"
    router = inbound_mail.router(rig.deps, post.channel, receipts.note_status)
    app = build_app("mail", [router], service="escalation", clock=rig.clock, ids=rig.ids)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as http:
        form = post.form(bounce_of(post.box.parsed()["message-id"]))
        answer = await http.post(PATH, content=urlencode(form), headers={"content-type": FORM})
    assert answer.json() == {"outcome": "bounced"}
    [attempt] = await rig.rows("SELECT * FROM attempts WHERE provider = 'smtp' AND number = 1")
    assert (attempt["state"], attempt["reason"]) == ("failed", "address_unknown")
    [failing] = await rig.events("contact_point_failing")
    assert failing["hard"]
