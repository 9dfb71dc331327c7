"""A mail server on loopback: a real one (aiosmtpd) that keeps what it was given, and one that misbehaves as told."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session


@dataclass
class MailBox:
    """What a server was given, and what it says to whom."""

    mails: list[Envelope] = field(default_factory=list)
    refusals: dict[str, str] = field(default_factory=dict)
    """What is said at RCPT, by a part of the address."""
    data_refusal: str | None = None
    logins: list[tuple[bytes, bytes]] = field(default_factory=list)
    sessions: int = 0
    secure: list[bool] = field(default_factory=list)
    """For each mail whether it came encrypted."""
    options: list[list[str]] = field(default_factory=list)
    at_once: int = 0
    at_once_max: int = 0
    gate: asyncio.Event | None = None
    """If set, a mail is answered only once this is."""

    async def handle_EHLO(  # noqa: N802
        self, _server: SMTP, session: Session, _envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        """Counts sessions."""
        session.host_name = hostname
        self.sessions += 1
        return responses

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Session, envelope: Envelope, address: str, _options: list[str]
    ) -> str:
        """Takes or refuses a recipient."""
        refusal = next((text for part, text in self.refusals.items() if part in address), None)
        if refusal is None:
            envelope.rcpt_tos.append(address)
        return refusal or "250 OK"

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keeps a mail."""
        self.at_once += 1
        self.at_once_max = max(self.at_once_max, self.at_once)
        try:
            if self.gate is not None:
                await self.gate.wait()
        finally:
            self.at_once -= 1
        if self.data_refusal is not None:
            return self.data_refusal
        self.secure.append(session.ssl is not None)
        self.options.append(list(envelope.mail_options))
        self.mails.append(envelope)
        return "250 2.0.0 taken"

    def authenticate(self, *arguments: Any) -> AuthResult:
        """Lets in who knows the word."""
        login = next(one for one in arguments if isinstance(one, LoginPassword))
        self.logins.append((login.login, login.password))
        return AuthResult(success=login.password == b"open sesame", handled=False)

    def parsed(self, index: int = -1) -> EmailMessage:
        """One mail as its reader's program sees it."""
        content = self.mails[index].content
        assert isinstance(content, bytes)
        return message_from_bytes(content, policy=policy.default)


@asynccontextmanager
async def mail_server(
    *, starttls: ssl.SSLContext | None = None, implicit_tls: ssl.SSLContext | None = None, login: bool = False
) -> AsyncIterator[tuple[MailBox, int]]:
    """A server and its port. With `login` it takes mail from those alone who know the word."""
    box = MailBox()

    def session() -> SMTP:
        return SMTP(
            box,
            hostname="mail.test",
            enable_SMTPUTF8=True,
            tls_context=starttls,
            require_starttls=starttls is not None,
            auth_required=login,
            auth_require_tls=implicit_tls is None,
            authenticator=box.authenticate,
        )

    server = await asyncio.get_running_loop().create_server(session, "127.0.0.1", 0, ssl=implicit_tls)
    try:
        yield box, server.sockets[0].getsockname()[1]
    finally:
        server.close()


Reply = Callable[[str], bytes | None]
"""What is answered to a command; None hangs up."""


@asynccontextmanager
async def scripted_server(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    """A server that says whatever `talk` writes; yields its port."""
    running: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        running.add(task)
        try:
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await talk(reader, writer)
        finally:
            writer.transport.abort()
            running.discard(task)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in list(running):
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def until_client_leaves(reader: asyncio.StreamReader) -> None:
    """Wait until the other side closes the connection."""
    while await reader.read(4096):
        pass
