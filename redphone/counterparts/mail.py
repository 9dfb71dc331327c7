"""A mail provider on this machine: takes mails over SMTP, keeps them, and hands answers in by the provider's webhook.

The cast
    MailProvider   the server: a real one (aiosmtpd), and the webhook by which answers come back, signed
    ReceivedMail   what arrived, as its reader's program shows it

The webhook speaks as Mailgun's routes do ("Receiving Messages via HTTP through a forward() action" and "Securing
Webhooks" in its documentation): a form with `body-mime`, signed with HMAC-SHA256 over `timestamp` and `token`. There is
no TLS: a mail server on this very machine is spoken to in plain text, and that only in development.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from email import message_from_bytes, policy
from email.message import EmailMessage
from email.utils import make_msgid, parseaddr
from types import TracebackType
from typing import Self

import httpx
from aiosmtpd.smtp import SMTP, Envelope, Session

from shared.clock import Clock

SENDER = "Red Phone <redphone@alerts.example>"
REPLY_TO = "answer@alerts.example"
INBOUND_PATH = "/v1/inbound/mail/mime"
HOST_NAME = "mail.example"
WAIT_SECONDS = 15.0
POST_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class ReceivedMail:
    """A mail that Red Phone handed in."""

    to: str
    message: EmailMessage

    @property
    def subject(self) -> str:
        """One line."""
        return str(self.message["subject"])

    @property
    def text(self) -> str:
        """The plain part."""
        body = self.message.get_body(("plain",))
        return str(body.get_content()) if body is not None else ""

    @property
    def reply_to(self) -> str:
        """Where an answer goes: the address that holds the page's token."""
        return parseaddr(str(self.message["reply-to"]))[1]

    @property
    def is_answer(self) -> bool:
        """Whether it answers a mail of the address's owner."""
        return self.message["in-reply-to"] is not None and self.subject.lower().startswith("re:")


class MailProvider:
    """Mail server and provider on free ports of 127.0.0.1. Use it as an asynchronous context manager.

    `public_url` is where Red Phone is reached: answers are handed in there. It may be set later than the start.
    """

    def __init__(self, *, clock: Clock, public_url: str = "") -> None:
        self.public_url = public_url
        self.inbound_key = secrets.token_hex(16)
        self.mails: list[ReceivedMail] = []
        self._clock = clock
        self._changed = asyncio.Condition()
        self._http: httpx.AsyncClient | None = None
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        self._http = httpx.AsyncClient(timeout=POST_SECONDS, trust_env=False)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, hostname=HOST_NAME, enable_SMTPUTF8=True, loop=loop), "127.0.0.1", 0
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None, "leaving follows entering"
        assert self._http is not None, "leaving follows entering"
        self._server.close()
        await self._http.aclose()

    # --- what tests and demonstrations ask ----------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where mails are handed in."""
        assert self._server is not None, "the provider listens inside its block only"
        return f"smtp://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def environment(self) -> dict[str, str]:
        """The variables with which Red Phone uses this provider."""
        return {
            "REDPHONE_EMAIL_SMTP_URL": self.url,
            "REDPHONE_EMAIL_FROM": SENDER,
            "REDPHONE_EMAIL_REPLY_TO": REPLY_TO,
            "REDPHONE_EMAIL_INBOUND_KEY": self.inbound_key,
        }

    async def wait_for(self, condition: Callable[[MailProvider], bool]) -> None:
        """Waits until the condition holds; raises `TimeoutError` after `WAIT_SECONDS`."""
        async with asyncio.timeout(WAIT_SECONDS), self._changed:
            await self._changed.wait_for(lambda: condition(self))

    async def answer(self, mail: ReceivedMail, text: str) -> httpx.Response:
        """The reader of a mail answers it, the mail quoted below; what Red Phone says to the provider."""
        answer = EmailMessage()
        answer["From"] = mail.to
        answer["To"] = mail.reply_to
        answer["Subject"] = f"Re: {mail.subject}"
        answer["Message-ID"] = make_msgid(domain=HOST_NAME)
        answer["In-Reply-To"] = str(mail.message["message-id"])
        quoted = "\n".join(f"> {line}" for line in mail.text.splitlines())
        answer.set_content(f"{text}\n\n{quoted}\n")
        return await self.hand_in(answer, recipient=mail.reply_to, sender=mail.to)

    async def hand_in(self, mail: EmailMessage, *, recipient: str, sender: str) -> httpx.Response:
        """Posts a mail that came in, signed as the provider signs."""
        assert self._http is not None, "the provider posts inside its block only"
        timestamp, token = str(int(self._clock.now().timestamp())), secrets.token_hex(25)
        signed = (timestamp + token).encode()
        form = {
            "timestamp": timestamp,
            "token": token,
            "signature": hmac.new(self.inbound_key.encode(), signed, "sha256").hexdigest(),
            "recipient": recipient,
            "sender": sender,
            "body-mime": mail.as_bytes(policy=policy.SMTP).decode("utf-8", "replace"),
        }
        return await self._http.post(f"{self.public_url}{INBOUND_PATH}", data=form)

    # --- the server ---------------------------------------------------------------------------------------------------

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keeps a mail. The name is the library's."""
        content = envelope.content
        raw = content if isinstance(content, bytes) else (content or "").encode()
        for address in envelope.rcpt_tos:
            self.mails.append(ReceivedMail(address, message_from_bytes(raw, policy=policy.default)))
        async with self._changed:
            self._changed.notify_all()
        return "250 2.0.0 taken"
