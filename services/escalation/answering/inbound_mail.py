"""Answers by mail: what a mail provider hands in, checked, read, and done.

The cast: `read_form` and `is_signed` (pure), which read what the provider posts and prove that it was the provider;
`InboundMail`, which does what a mail says; and `router`, with the one route.

The provider is Mailgun, or whatever speaks as its routes do (documentation.mailgun.com, "Receiving Messages via HTTP
through a forward() action" and "Securing Webhooks"): a form with `timestamp`, `token`, `signature`, the envelope's
`sender` and `recipient`, and `body-mime`, the mail as it came, which is posted only to an address that ends in `mime`.
The signature is HMAC-SHA256 over timestamp and token and does not cover the mail; therefore a token counts once.

Who wrote a mail is not known: a From line can be forged. What counts is the token in the address that it was sent to,
which stood in the mail that is answered, together with the code in its text. A mail without the token changes nothing,
not even the count of wrong codes: otherwise whoever knows somebody's address could have their messages locked.
"""

from __future__ import annotations

import asyncio
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol
from urllib.parse import parse_qsl
from uuid import UUID

from fastapi import APIRouter, BackgroundTasks, Request
from pydantic import BaseModel

from services.escalation.answering import links, replies
from services.escalation.answering import store as reply_store
from services.escalation.channels import AttemptState, ProviderStatus, Reason
from services.escalation.channels.email import EmailChannel
from services.escalation.channels.mail import Bounce, IncomingMail, MailHouse, own_words, read_mail
from services.escalation.deps import EscalationDeps
from services.escalation.heartbeats import loop_backs
from shared.contracts import ChannelName
from shared.events import Cause
from shared.log import get_logger
from shared.openapi import BODY_LIMIT
from shared.problems import CORRELATION_ID, HttpProblem, ProblemType, declare_problems
from shared.web import new_router

log = get_logger(__name__)

PATH = "/v1/inbound/mail/mime"
PROVIDER = "mailgun"
FORM_BYTES_MAX = 4_000_000
"""A mail of a megabyte, each byte of it written as three in a form, and some room."""
FIELDS_MAX = 100
AGE_SECONDS_MAX = 9 * 3600
"""The provider tries for eight hours to hand a mail in, and says that it may be late beyond that."""
AHEAD_SECONDS_MAX = 300

HEAD_BYTES_MAX = 1_000

_BOUNDARY = re.compile(r"boundary=(?:\"([^\"]{1,70})\"|([^\s;\"]{1,70}))", re.IGNORECASE)
_FIELD_NAME = re.compile(rb"content-disposition:\s*form-data;[^\r\n]*?\bname=\"([^\"\r\n]{1,100})\"", re.IGNORECASE)
_TOKEN = re.compile(r"[A-Za-z0-9_-]{16,100}")
_TIMESTAMP = re.compile(r"[0-9]{1,12}")
_ASKS_FOR_HELP = "?"

declare_problems(
    {
        "mail_not_signed": ProblemType(
            403, "Not from the mail provider", "Check REDPHONE_EMAIL_INBOUND_KEY and the clock of this machine."
        ),
        "mail_unreadable": ProblemType(
            406, "No mail in it", "Let the provider post raw mails: its address for them ends in `mime`."
        ),
    }
)


class MailOutcome(StrEnum):
    """What a mail came to."""

    ANSWERED = "answered"
    """It was from somebody whom we write to, and was answered by a mail of ours, which says what was done."""
    BOUNCED = "bounced"
    """It said that a mail of ours did not arrive."""
    RETURNED = "returned"
    """It was a loop-back of our own."""
    IGNORED = "ignored"
    """It was written by a machine, or has nothing to do with us."""


class MailTaken(BaseModel):
    """The receipt for a mail."""

    outcome: MailOutcome


class NoteStatus(Protocol):
    """`receipts.note_status`."""

    async def __call__(self, deps: EscalationDeps, status: ProviderStatus, *, now: datetime) -> bool:
        """Records what became of a message later; False if none is known by this id."""


# --- what the provider posts ------------------------------------------------------------------------------------------


def read_form(body: bytes, content_type: str) -> dict[str, bytes]:
    """The fields of a form of either kind; the first of each name. Nothing of what cannot be read."""
    if content_type.lower().startswith("multipart/form-data"):
        return _multipart(body, content_type)
    try:
        pairs = parse_qsl(body, keep_blank_values=True, max_num_fields=FIELDS_MAX)
    except ValueError:
        return {}
    return {name.decode("utf-8", "replace"): value for name, value in reversed(pairs)}


def _multipart(body: bytes, content_type: str) -> dict[str, bytes]:
    """The form that the provider takes for mails with attachments (RFC 7578). Nobody has proved yet who posts it, so
    nothing of it is searched more than once, and no part is looked into.
    """
    found = _BOUNDARY.search(content_type)
    if found is None:
        return {}
    delimiter = b"\r\n--" + (found[1] or found[2]).encode("ascii", "replace")
    parts = (b"\r\n" + body).split(delimiter, FIELDS_MAX + 1)
    fields: dict[str, bytes] = {}
    for part in parts[1 : FIELDS_MAX + 1]:
        head, _, value = part.partition(b"\r\n\r\n")
        name = _FIELD_NAME.search(head[:HEAD_BYTES_MAX])
        if name is not None:
            fields.setdefault(name[1].decode("utf-8", "replace"), value)
    return fields


def is_signed(fields: Mapping[str, bytes], key: str, now: datetime) -> bool:
    """Whether the holder of the key posted this within the time that the provider keeps trying."""
    timestamp, token, signature = (
        fields.get(name, b"").decode("ascii", "replace") for name in ("timestamp", "token", "signature")
    )
    if not _TIMESTAMP.fullmatch(timestamp) or not _TOKEN.fullmatch(token):
        return False
    made = hmac.new(key.encode(), (timestamp + token).encode(), "sha256").hexdigest()
    is_genuine = hmac.compare_digest(made.encode(), signature.strip().lower().encode())
    age_seconds = now.timestamp() - int(timestamp)
    return is_genuine and -AHEAD_SECONDS_MAX <= age_seconds <= AGE_SECONDS_MAX


# --- what a mail does -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """What is said back to a mail."""

    incoming: IncomingMail
    text: str
    id: UUID
    sent_at: datetime


@dataclass(frozen=True, slots=True)
class InboundMail:
    """Does what mails say. `channel` sends the answers."""

    deps: EscalationDeps
    channel: EmailChannel
    note_status: NoteStatus

    @property
    def house(self) -> MailHouse:
        """Who we are."""
        return self.channel.house

    async def take(self, incoming: IncomingMail, *, delivery_id: str, cause: Cause) -> tuple[MailOutcome, Reply | None]:
        """Does what one mail says, and returns what is to be said back. The same delivery again changes nothing."""
        if incoming.bounce is not None:
            return await self._bounced(incoming.bounce), None
        # Before anything else: it was sent by a machine, which is ours.
        if await loop_backs.note_text(self.deps, f"{incoming.subject}\n{incoming.text}"):
            return MailOutcome.RETURNED, None
        address = incoming.sender
        if incoming.is_automatic or address is None or self._is_ours(address):
            return MailOutcome.IGNORED, None
        page_id = links.page_of(self.deps.keys, incoming.token) if incoming.token is not None else None
        if page_id is None:
            incoming, text = await self._point_the_way(incoming, address, delivery_id, cause)
        else:
            text = await replies.answer_text(
                self.deps,
                channel=ChannelName.EMAIL,
                address=address,
                text=own_words(incoming.text, self.house),
                provider=PROVIDER,
                provider_message_id=delivery_id,
                page_id=page_id,
                cause=cause,
            )
        if not text:
            return MailOutcome.IGNORED, None
        return MailOutcome.ANSWERED, Reply(incoming, text, self.deps.ids.new(), self.deps.clock.now())

    async def _point_the_way(
        self, incoming: IncomingMail, address: str, delivery_id: str, cause: Cause
    ) -> tuple[IncomingMail, str]:
        """For a mail without the token: says to the mailbox that we write to how to answer, and to others nothing.

        Our mail goes to the address in From, whoever wrote to us, and its Reply-To holds the token of their newest
        page, which that mailbox has already: whoever answers it is heard.
        """
        since = self.deps.clock.now() - replies.REPLIED_TO_WITHIN
        async with self.deps.intake.transaction() as tx:
            keys = links.reply_keys(self.deps.keys, ChannelName.EMAIL, address)
            pages = await reply_store.find_replied_to(tx, keys, since, 1)
        if not pages:
            return incoming, ""
        text = await replies.answer_text(
            self.deps,
            channel=ChannelName.EMAIL,
            address=address,
            text=_ASKS_FOR_HELP,
            provider=PROVIDER,
            provider_message_id=delivery_id,
            cause=cause,
        )
        return incoming.with_token(links.token_of(self.deps.keys, pages[0]["id"])), text

    async def _bounced(self, bounce: Bounce) -> MailOutcome:
        """A forged report can do no more than have a page sent again: it names a Message-ID that only those know whom
        the mail has reached.
        """
        page_id = self.house.page_of(bounce.message_id)
        if page_id is None:
            return MailOutcome.IGNORED
        if await loop_backs.note_refused(self.deps, page_id, reason=f"SMTP {bounce.status}"):
            return MailOutcome.BOUNCED
        status = ProviderStatus(
            provider=self.channel.provider,
            provider_id=self.house.message_id(page_id),
            state=AttemptState.FAILED,
            reason=Reason.ADDRESS_UNKNOWN if bounce.is_address_unknown else Reason.NOT_DELIVERED,
            detail=f"SMTP {bounce.status}",
        )
        is_known = await self.note_status(self.deps, status, now=self.deps.clock.now())
        return MailOutcome.BOUNCED if is_known else MailOutcome.IGNORED

    def _is_ours(self, address: str) -> bool:
        """Two machines that answer each other never stop."""
        own = (self.house.sender, self.house.reply_to)
        return any(one is not None and address.casefold() == one.text.casefold() for one in own) or (
            self.house.token_of(address) is not None
        )

    async def say(self, reply: Reply) -> None:
        """Mails an answer. If it does not arrive, what was done stands all the same."""
        await self.channel.answer(reply.incoming, reply.text, message_id=reply.id, sent_at=reply.sent_at)


def router(deps: EscalationDeps, channel: EmailChannel | None, note_status: NoteStatus) -> APIRouter:
    """The route of incoming mail. Without a channel or a key it takes nothing."""
    routes = new_router()
    secret = deps.settings.email_inbound_key
    inbound = InboundMail(deps, channel, note_status) if channel is not None and secret is not None else None

    # Not in the API's document: partners have nothing to say here.
    @routes.post(PATH, response_model=MailTaken, include_in_schema=False, openapi_extra={BODY_LIMIT: FORM_BYTES_MAX})
    async def take_mail(request: Request, after: BackgroundTasks) -> MailTaken:
        """For the mail provider alone, which signs what it posts: Mailgun's routes, or whatever speaks as they do.

        An answer to one of our mails does what its text says, as a reply by SMS does. Mails of machines change
        nothing, except that a mail server's report of a mail that did not arrive counts as the page's failure.
        """
        if inbound is None or secret is None:
            raise HttpProblem("this installation takes no mail in", code="not_found")
        fields = read_form(await request.body(), request.headers.get("content-type", ""))
        if not is_signed(fields, secret.get_secret_value(), deps.clock.now()):
            log.warning("mail.not_signed")
            raise HttpProblem("the form is not signed with our key, or not lately", code="mail_not_signed")
        raw = fields.get("body-mime")
        if raw is None:
            raise HttpProblem("the form has no field body-mime", code="mail_unreadable")
        recipient, sender = (_address(fields, name) for name in ("recipient", "sender"))
        # Away from the event loop: a large mail takes some time to read, and its sender chooses how long.
        incoming = await asyncio.to_thread(
            read_mail, raw, inbound.house, recipients=(recipient,) if recipient else (), sender=sender
        )
        cause = Cause(correlation_id=request.scope[CORRELATION_ID])
        outcome, reply = await inbound.take(incoming, delivery_id=fields["token"].decode("ascii"), cause=cause)
        log.info("mail.taken", outcome=outcome.value)
        if reply is not None:
            after.add_task(inbound.say, reply)
        return MailTaken(outcome=outcome)

    return routes


def _address(fields: Mapping[str, bytes], name: str) -> str | None:
    value = fields.get(name)
    return value.decode("utf-8", "replace").strip() if value is not None else None
