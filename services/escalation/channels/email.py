"""Pages to people's mailboxes: one mail each over SMTP, always encrypted, to the mail server of this installation.

The cast: an `EmailChannel`, which keeps a few connections to the one server; `MailServer`, which reads the server's
URL; `EmailLimits`; and `_failure_of`, which turns what went wrong into a reason.

The promise: a mail leaves the house encrypted, to a server whose certificate was verified, or not at all; an attempt
ends within `total_seconds`, whatever the server does; a refusal of one mail says nothing about the next. A mail that
broke off after its text had gone may have arrived: it is sent again under the same Message-ID.

The server does not pass the address guard. The guard is for addresses that partners choose; this one is the
administrator's own setting, and a mail relay in one's own network is where it usually is.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit
from uuid import UUID

import structlog
from aiosmtplib import (
    SMTP,
    SMTPAuthenticationError,
    SMTPDataError,
    SMTPException,
    SMTPRecipientRefused,
    SMTPResponseException,
    SMTPServerDisconnected,
)

from services.escalation.channels import AttemptState, Outgoing, Reason, SendResult, mail
from services.escalation.channels.mail import AddressMalformed, IncomingMail, MailAddress, MailHouse, mail_address
from shared.carriers import MAIL_SERVER
from shared.clock import Clock

if TYPE_CHECKING:
    from shared.settings import Settings

log = structlog.get_logger(__name__)

STARTTLS_PORT = 587
IMPLICIT_TLS_PORT = 465

_ENHANCED = re.compile(r"[245]\.[0-9]{1,3}\.[0-9]{1,3}")
_LOCAL_HOST = "localhost"
_SERVICE_CLOSING = 421


@dataclass(frozen=True, slots=True)
class EmailLimits:
    """What a mail may take. Tests pass smaller ones; production keeps these."""

    total_seconds: float = 10.0
    """For everything: a place, connection, TLS, login, and the mail until the server has taken it."""
    connections_max: int = 8
    """At the same time, for what is urgent and once more for what is not: an urgent mail waits for urgent ones alone.
    Further mails wait for a place within their own ten seconds."""
    waiting_max: int = 512
    """Mails that wait for a place, of each of the two. Further ones fail at once and are tried again: a mail server
    that hangs must not take all of the senders, which other channels need as well."""
    idle_seconds: float = 20.0
    """A connection is kept so long after its last mail: a busy hour does not log in for every mail."""
    mails_per_connection_max: int = 50
    """Servers limit it, and say so by hanging up."""


@dataclass(frozen=True, slots=True)
class MailServer:
    """Where mails are handed in. `repr` leaves out the name and password."""

    host: str
    port: int
    is_implicit_tls: bool
    may_be_plain: bool
    user_name: str | None = field(repr=False)
    password: str | None = field(repr=False)

    @classmethod
    def of(cls, url: str, *, development: bool = False) -> MailServer:
        """Reads `smtp://name:password@host:port` (STARTTLS is required) or `smtps://…` (TLS from the first byte).

        Only in development, and only to this very machine, a server without STARTTLS is spoken to in plain text.
        Raises `ValueError` for a URL without a host.
        """
        parts = urlsplit(url)
        host = parts.hostname
        if host is None or parts.scheme not in {"smtp", "smtps"}:
            raise ValueError("a mail server is smtp://host or smtps://host")
        is_implicit = parts.scheme == "smtps"
        return cls(
            host=host,
            port=parts.port or (IMPLICIT_TLS_PORT if is_implicit else STARTTLS_PORT),
            is_implicit_tls=is_implicit,
            may_be_plain=development and not is_implicit and _is_this_machine(host),
            user_name=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password or "") if parts.username else None,
        )


def _is_this_machine(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == _LOCAL_HOST


@dataclass(slots=True)
class _Connection:
    """One session with the server."""

    smtp: SMTP
    mails: int = 0
    used_at: float = 0.0
    """By the monotonic clock."""

    def abort(self) -> None:
        """Lets go at once: a polite end waits for a server that may not answer."""
        transport = self.smtp.transport
        if isinstance(transport, asyncio.Transport):
            transport.abort()
        self.smtp.close()


@dataclass(slots=True)
class _Progress:
    """How far an attempt got, for the result of one that is cut off."""

    is_admitted: bool = False
    is_connected: bool = False


@dataclass(frozen=True, slots=True)
class _Outcome:
    reason: Reason
    detail: str | None = None
    status_code: int | None = None


class _StartTlsMissing(SMTPException):
    """The server does not offer STARTTLS."""


class EmailChannel:
    """Mails through one SMTP server. `extra_roots_pem` are certificate authorities to trust beside the system's.

    Must be made where an event loop runs or will run; it connects to nothing until the first mail.
    """

    name = "email"
    provider = MAIL_SERVER

    def __init__(
        self,
        *,
        clock: Clock,
        server: MailServer,
        house: MailHouse,
        limits: EmailLimits | None = None,
        extra_roots_pem: bytes | None = None,
    ) -> None:
        self.house = house
        self._clock = clock
        self._server = server
        self._limits = limits or EmailLimits()
        self._tls = ssl.create_default_context()
        self._tls.minimum_version = ssl.TLSVersion.TLSv1_2
        if extra_roots_pem is not None:
            self._tls.load_verify_locations(cadata=extra_roots_pem.decode("ascii"))
        # By whether the mail is urgent.
        self._room = {urgent: asyncio.Semaphore(self._limits.connections_max) for urgent in (True, False)}
        self._in_hand: Counter[bool] = Counter()
        self._idle: list[_Connection] = []
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    async def send(self, page: Outgoing) -> SendResult:
        """Hand the mail to the server once. Returns within `total_seconds`; never raises except for being cancelled."""
        started = self._clock.monotonic()
        outcome, message_id = await self._send_page(page)
        is_taken = outcome.reason is Reason.ACCEPTED
        return SendResult(
            state=AttemptState.SENT if is_taken else AttemptState.FAILED,
            reason=outcome.reason,
            detail=outcome.detail,
            status_code=outcome.status_code,
            retry_after_seconds=None,
            elapsed_seconds=self._clock.monotonic() - started,
            provider=self.provider,
            provider_id=message_id if is_taken else None,
        )

    async def answer(self, incoming: IncomingMail, text: str, *, message_id: UUID, sent_at: datetime) -> bool:
        """Sends an answer to a mail that came in, once, in its thread; whether the server took it. Never raises.

        Nothing depends on it: what the mail did is done and recorded.
        """
        try:
            recipient = mail_address(incoming.sender or "")
            raw = mail.answer_mail(self.house, recipient, incoming, text, message_id=message_id, sent_at=sent_at)
        except ValueError:
            return False
        outcome = await self._hand_in(recipient, raw, is_urgent=False)
        if outcome.reason is not Reason.ACCEPTED:
            log.warning("email.answer_failed", reason=outcome.reason.value, detail=outcome.detail)
        return outcome.reason is Reason.ACCEPTED

    def make_ready(self, page: Outgoing) -> Outgoing:
        """Nothing needs to be signed."""
        return page

    async def prepare(self, contact_point_id: UUID, target: str) -> None:
        """Nothing: all mails share the server, and the first one connects."""

    async def close(self) -> None:
        """Close all connections that are kept. Mails under way end by themselves within their time."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.abort()

    async def _send_page(self, page: Outgoing) -> tuple[_Outcome, str]:
        message_id = self.house.message_id(page.page_id)
        if page.message is None:
            return _Outcome(Reason.INTERNAL, "there is no text for a person"), message_id
        try:
            recipient = mail_address(page.target)
        except AddressMalformed:
            return _Outcome(Reason.TARGET_REFUSED, "the address is not an e-mail address"), message_id
        try:
            raw = mail.page_mail(self.house, recipient, page.message, page_id=page.page_id, sent_at=page.sent_at)
        except Exception as error:  # noqa: BLE001 - the delivery loop relies on a result for every page
            log.error("email.compose_failed", page_id=str(page.page_id), error=type(error).__name__)
            return _Outcome(Reason.INTERNAL, type(error).__name__), message_id
        return await self._hand_in(recipient, raw, is_urgent=page.message.goes_first), message_id

    async def _hand_in(self, recipient: MailAddress, raw: bytes, *, is_urgent: bool) -> _Outcome:
        if self._closed:
            return _Outcome(Reason.CHANNEL_UNAVAILABLE, "the channel is closed")
        if self._in_hand[is_urgent] >= self._limits.connections_max + self._limits.waiting_max:
            return _Outcome(Reason.PROVIDER_BUSY, "too many mails wait for the mail server")
        progress = _Progress()
        self._in_hand[is_urgent] += 1
        try:
            async with asyncio.timeout(self._limits.total_seconds), self._room[is_urgent]:
                progress.is_admitted = True
                return await self._hand_in_somehow(recipient, raw, progress)
        except TimeoutError:
            return self._late(progress)
        except Exception as error:  # noqa: BLE001 - the delivery loop relies on a result for every page
            log.error("email.send_failed", error=type(error).__name__)
            return _Outcome(Reason.INTERNAL, type(error).__name__)
        finally:
            self._in_hand[is_urgent] -= 1

    def _late(self, progress: _Progress) -> _Outcome:
        seconds = f"within {self._limits.total_seconds:g} s"
        if not progress.is_admitted:
            return _Outcome(Reason.PROVIDER_BUSY, f"no connection to the mail server came free {seconds}")
        if not progress.is_connected:
            return _Outcome(Reason.CONNECT_FAILED, f"no session with the mail server {seconds}")
        return _Outcome(Reason.TIMEOUT, f"the mail server did not take it {seconds}")

    async def _hand_in_somehow(self, recipient: MailAddress, raw: bytes, progress: _Progress) -> _Outcome:
        """On a connection that is kept, or on a new one if that turns out to be dead before the mail has gone."""
        while True:
            connection = self._take()
            was_kept = connection is not None
            try:
                if connection is None:
                    connection = await self._connect()
                progress.is_connected = True
                if recipient.needs_utf8 and not connection.smtp.supports_extension("smtputf8"):
                    self._keep(connection)
                    return _Outcome(Reason.TARGET_REFUSED, "the mail server takes no addresses beyond ASCII")
                await self._envelope(connection.smtp, recipient)
            except BaseException as error:
                if connection is not None:
                    await self._after_failure(connection, error)
                if not isinstance(error, Exception):
                    raise
                if was_kept and _is_gone(error):
                    continue
                return _failure_of(error)
            return await self._deliver(connection, raw)

    async def _envelope(self, smtp: SMTP, recipient: MailAddress) -> None:
        options = ["SMTPUTF8", "BODY=8BITMIME"] if recipient.needs_utf8 else []
        encoding = "utf-8" if recipient.needs_utf8 else "ascii"
        await smtp.mail(self.house.sender.text, options=options)
        await smtp.rcpt(recipient.text, encoding=encoding)

    async def _deliver(self, connection: _Connection, raw: bytes) -> _Outcome:
        try:
            response = await connection.smtp.data(raw)
        except BaseException as error:
            await self._after_failure(connection, error)
            if not isinstance(error, Exception):
                raise
            return _failure_of(error)
        connection.mails += 1
        self._keep(connection)
        return _Outcome(Reason.ACCEPTED, f"SMTP {response.code}", response.code)

    async def _connect(self) -> _Connection:
        server = self._server
        smtp = SMTP(
            hostname=server.host,
            port=server.port,
            use_tls=server.is_implicit_tls,
            start_tls=False,
            tls_context=self._tls,
            local_hostname=self.house.sender.domain,
            timeout=None,  # the attempt's own limit holds for everything
        )
        connection = _Connection(smtp)
        try:
            await smtp.connect()
            await smtp.ehlo()
            if not server.is_implicit_tls:
                if smtp.supports_extension("starttls"):
                    await smtp.starttls()
                    await smtp.ehlo()
                elif not server.may_be_plain:
                    raise _StartTlsMissing("STARTTLS is not offered")
            if server.user_name is not None:
                await smtp.login(server.user_name, server.password or "")
        except BaseException:
            connection.abort()
            raise
        return connection

    def _take(self) -> _Connection | None:
        """A kept connection that still stands, the one used last first."""
        while self._idle:
            connection = self._idle.pop()
            stale = self._clock.monotonic() - connection.used_at > self._limits.idle_seconds
            if connection.smtp.is_connected and not stale:
                return connection
            connection.abort()
        return None

    def _keep(self, connection: _Connection) -> None:
        connection.used_at = self._clock.monotonic()
        is_spent = connection.mails >= self._limits.mails_per_connection_max
        if self._closed or is_spent or not connection.smtp.is_connected:
            connection.abort()
            return
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._limits.idle_seconds, self._let_go)

    def _let_go(self) -> None:
        """Closes connections that nobody has used for a while."""
        self._sweep = None
        kept, self._idle = self._idle, []
        for connection in kept:
            if self._clock.monotonic() - connection.used_at < self._limits.idle_seconds:
                self._idle.append(connection)
            else:
                connection.abort()
        if self._idle:
            self._sweep = asyncio.get_running_loop().call_later(self._limits.idle_seconds, self._let_go)

    async def _after_failure(self, connection: _Connection, error: BaseException) -> None:
        """Keeps a connection whose server has only refused one mail, and lets go of every other."""
        if not isinstance(error, SMTPResponseException) or error.code == _SERVICE_CLOSING:
            connection.abort()
            return
        try:
            await connection.smtp.rset()
        except BaseException as unheard:
            # Its time may be over as well, while the server says nothing: nobody else would ever close it.
            connection.abort()
            if not isinstance(unheard, SMTPException | OSError):
                raise
            return
        connection.mails += 1
        self._keep(connection)


def email_channel(settings: Settings, *, clock: Clock, extra_roots_pem: bytes | None = None) -> EmailChannel | None:
    """The channel as the settings describe it; None if they name no mail server. Raises `ValueError` if they are wrong,
    which `shared.settings` has ruled out.
    """
    if settings.email_smtp_url is None or settings.email_from is None:
        return None
    url = settings.email_smtp_url.get_secret_value()
    return EmailChannel(
        clock=clock,
        server=MailServer.of(url, development=settings.development),
        house=MailHouse.of(settings.email_from, settings.email_reply_to),
        extra_roots_pem=extra_roots_pem,
    )


def _is_gone(error: Exception) -> bool:
    """Whether the server hung up, or says that it is about to."""
    closing = isinstance(error, SMTPResponseException) and error.code == _SERVICE_CLOSING
    return closing or isinstance(error, SMTPServerDisconnected | ConnectionError)


_FAILURES: tuple[tuple[type[BaseException], _Outcome], ...] = (
    (ssl.SSLCertVerificationError, _Outcome(Reason.TLS_FAILED, "the mail server's certificate is not accepted")),
    (ssl.SSLError, _Outcome(Reason.TLS_FAILED, "no secure connection could be agreed")),
    (socket.gaierror, _Outcome(Reason.NAME_FAILED, "the mail server's name could not be resolved")),
    (_StartTlsMissing, _Outcome(Reason.TLS_FAILED, "the mail server does not offer STARTTLS")),
    (ConnectionRefusedError, _Outcome(Reason.CONNECT_FAILED, "connection refused")),
    (SMTPServerDisconnected, _Outcome(Reason.DISCONNECTED, "the mail server hung up")),
    (OSError, _Outcome(Reason.CONNECT_FAILED, "no connection to the mail server")),
    (SMTPException, _Outcome(Reason.PROVIDER_REFUSED, "the mail server lacks something that is needed")),
)
"""The first that fits the error or what caused it: the client wraps the errors that say most."""


def _failure_of(error: Exception) -> _Outcome:
    """What an error means. The server's words are never passed on: they may repeat the address."""
    if isinstance(error, SMTPResponseException):
        return _refusal_of(error)
    causes = _causes_of(error)
    for kind, outcome in _FAILURES:
        if any(isinstance(cause, kind) for cause in causes):
            return outcome
    log.error("email.send_failed", error=type(error).__name__)
    return _Outcome(Reason.INTERNAL, type(error).__name__)


def _refusal_of(error: SMTPResponseException) -> _Outcome:
    match = _ENHANCED.match(error.message.strip())
    enhanced = match[0] if match is not None else None
    detail = f"SMTP {error.code}" + (f" {enhanced}" if enhanced is not None else "")
    if not 400 <= error.code < 600:
        return _Outcome(Reason.RESPONSE_MALFORMED, "the mail server's answer is not SMTP")
    if error.code < 500:
        return _Outcome(Reason.PROVIDER_BUSY, detail, error.code)
    if isinstance(error, SMTPAuthenticationError):
        return _Outcome(Reason.PROVIDER_REFUSED, f"{detail}: name or password not accepted", error.code)
    # Servers speak of the recipient at RCPT, and some only once they have read the mail.
    if enhanced is not None and mail.status_is_unknown_address(enhanced) and not _is_about_us(error):
        return _Outcome(Reason.ADDRESS_UNKNOWN, detail, error.code)
    return _Outcome(Reason.PROVIDER_REFUSED, detail, error.code)


def _is_about_us(error: SMTPResponseException) -> bool:
    return not isinstance(error, SMTPRecipientRefused | SMTPDataError)


def _causes_of(error: BaseException) -> list[BaseException]:
    causes: list[BaseException] = []
    current: BaseException | None = error
    while current is not None and len(causes) < 5:
        causes.append(current)
        current = current.__cause__ or current.__context__
    return causes
