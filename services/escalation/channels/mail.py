"""Mails as text: what ours look like, and what one that came in says. Pure.

The cast: `MailHouse` (who we are), `page_mail` and `answer_mail`, which write a mail, and `read_mail`, which reads one
as an `IncomingMail`: an answer of a person, a `Bounce` of one of ours, or something to leave alone.

The promise: no text that goes into a mail can add a header or a recipient to it. Every mail about one chain of alerts
hangs in one thread, and the mail of one page has the same Message-ID whenever it is sent, so that a second copy shows
itself as one. What comes in is hostile: reading never raises, and never looks further than the limits below.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass, replace
from datetime import datetime
from email import message_from_bytes, policy
from email.errors import MessageError
from email.message import EmailMessage
from email.utils import format_datetime, getaddresses, parseaddr
from html.parser import HTMLParser
from typing import Any
from uuid import UUID

import idna

from services.escalation.channels import PersonMessage

SUBJECT_LENGTH_MAX = 250
ADDRESS_LENGTH_MAX = 254
"""RFC 5321 allows 256 octets for a path with its angle brackets."""
LOCAL_PART_LENGTH_MAX = 64
READ_BYTES_MAX = 1_000_000
"""An answer is a few words; what is larger carries attachments that nobody here opens."""
TEXT_LENGTH_MAX = 10_000
"""So much of an incoming text is looked at: the answer stands at its beginning."""
PARTS_MAX = 50
DELIMITERS_MAX = 1_000
"""Lines that may end a part. A mail with more is not read: each part costs the library a tenth of a millisecond."""
RECIPIENTS_MAX = 20
HEADER_LENGTH_MAX = 2_000
"""So much of a header of an incoming mail is read: the library's time for one grows with the square of its length."""

REPLY_TAG = "+"
THREAD_LOCAL_PART = "thread"

PLAIN_HEADER_LENGTH_MAX = 60
ENCODED_WORD_BYTES_MAX = 45
"""In base64 with its frame 72 characters, of 75 that one word may have."""

_FOLD = "\r\n "
_PLAIN_HEADER = re.compile(r"[A-Za-z0-9 .,:;!?/'&%#+*-]*")
"""Words that mean themselves in every header, in a subject as before an address."""
_CONTROLS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,57}")
_DOT_ATOM = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_MESSAGE_ID = re.compile(r"<[\x21-\x3b\x3d\x3f-\x7e]{1,250}>")
_UNCLOSED_TAG = re.compile(r"<(?![A-Za-z/][^<>]{0,1000}>)")
"""What opens no tag, or one that does not end: the parser looks for its end through the whole text, for each anew."""
_CHARSET = re.compile(
    r"utf-?8|utf-?16|us-ascii|ascii|iso-?8859-[0-9]{1,2}|windows-125[0-8]|cp125[0-8]|koi8-[ru]|gb2312|gbk|gb18030|big5"
    r"|shift_jis|euc-(?:jp|kr)|iso-2022-jp"
)
"""Those that mails are written in. The language knows others, whose decoding takes hours or makes lone surrogates."""
_STATUS = re.compile(r"([245])\.([0-9]{1,3})\.([0-9]{1,3})")
_UNKNOWN_STATUS = frozenset({(1, 1), (1, 2), (1, 3), (1, 6), (1, 10)})
"""Subject and detail of RFC 3463 and RFC 7505: bad mailbox, bad domain, bad syntax, moved, takes no mail. 5.1.7 and
5.1.8 are about the sender and say nothing about whom we write to."""


class AddressMalformed(ValueError):
    """A text that is not one e-mail address, or one that no mail can be sent to. The message never repeats it."""


@dataclass(frozen=True, slots=True)
class MailAddress:
    """An e-mail address whose domain is in ASCII. `repr` hides nothing: never log it."""

    local_part: str
    domain: str

    @property
    def text(self) -> str:
        """As it stands in an envelope."""
        return f"{self.local_part}@{self.domain}"

    @property
    def needs_utf8(self) -> bool:
        """Whether only a server with SMTPUTF8 (RFC 6531) can be given it."""
        return not self.local_part.isascii()


def mail_address(text: str) -> MailAddress:
    """Reads one bare address; a domain of another alphabet becomes its ASCII form. Raises `AddressMalformed`.

    Quoted local parts are refused: nobody has one, and every part of the road reads them in another way.
    """
    local_part, at, domain = text.strip().rpartition("@")
    try:
        ascii_domain = idna.encode(domain, uts46=True).decode("ascii") if not domain.isascii() else domain.lower()
        idna.encode(ascii_domain)
    except (idna.IDNAError, UnicodeError):
        raise AddressMalformed("the domain of the address is malformed") from None
    plain = "".join(letter if letter.isascii() else "x" for letter in local_part)
    if not at or not _DOT_ATOM.fullmatch(plain) or _CONTROLS.search(local_part) or any(map(str.isspace, local_part)):
        raise AddressMalformed("this is not an e-mail address")
    try:
        length = len(local_part.encode())
    except UnicodeEncodeError:
        raise AddressMalformed("this is not an e-mail address") from None
    if length > LOCAL_PART_LENGTH_MAX or length + 1 + len(ascii_domain) > ADDRESS_LENGTH_MAX:
        raise AddressMalformed("the address is too long")
    return MailAddress(local_part, ascii_domain)


@dataclass(frozen=True, slots=True)
class MailHouse:
    """Whom our mails come from, and where answers go."""

    sender: MailAddress
    sender_name: str
    reply_to: MailAddress | None = None

    @classmethod
    def of(cls, sender: str, reply_to: str | None) -> MailHouse:
        """Reads `Red Phone <redphone@example.org>` or a bare address; raises `AddressMalformed`."""
        name, address = parseaddr(sender)
        house = cls(mail_address(address), _one_line(name), mail_address(reply_to) if reply_to else None)
        if house.sender.needs_utf8 or (house.reply_to is not None and house.reply_to.needs_utf8):
            raise AddressMalformed("our own addresses must be in ASCII, so that every server takes them")
        return house

    def message_id(self, page_id: UUID) -> str:
        """The Message-ID of a page's mail, at every attempt."""
        return f"<{page_id}@{self.sender.domain}>"

    def page_of(self, message_id: str) -> UUID | None:
        """The page whose mail has this Message-ID; None if it is not one of ours."""
        local_part, _, domain = message_id.strip().removeprefix("<").removesuffix(">").partition("@")
        if domain.lower() != self.sender.domain:
            return None
        try:
            return UUID(local_part)
        except ValueError:
            return None

    def reply_address(self, token: str | None) -> str | None:
        """Where an answer to a page goes: `reply+<token>@…`; without a token, or with one that does not fit, `reply@…`.

        None if no address for answers is configured.
        """
        if self.reply_to is None:
            return None
        tagged = f"{self.reply_to.local_part}{REPLY_TAG}{token}"
        if token is None or not _TOKEN.fullmatch(token) or len(tagged) > LOCAL_PART_LENGTH_MAX:
            return self.reply_to.text
        return f"{tagged}@{self.reply_to.domain}"

    def token_of(self, address: str) -> str | None:
        """The token in an address that `reply_address` made."""
        local_part, _, domain = address.strip().rpartition("@")
        if self.reply_to is None or domain.lower() != self.reply_to.domain:
            return None
        name, _, token = local_part.partition(REPLY_TAG)
        is_ours = name.lower() == self.reply_to.local_part.lower() and _TOKEN.fullmatch(token)
        return token if is_ours else None


def page_mail(
    house: MailHouse, recipient: MailAddress, message: PersonMessage, *, page_id: UUID, sent_at: datetime
) -> bytes:
    """A page as a mail: text and HTML, marked as sent by a machine and, where it is urgent, as urgent."""
    thread = message.thread if _DOT_ATOM.fullmatch(message.thread) else str(page_id)
    root = f"<{THREAD_LOCAL_PART}.{thread}@{house.sender.domain}>"
    headers = [
        *_first_headers(house, recipient, message.subject, house.message_id(page_id), sent_at),
        ("In-Reply-To", root),
        ("References", root),
        *_reply_to(house, _token_in(message.link)),
        ("Auto-Submitted", "auto-generated"),
        # Exchange answers machines with "out of office" unless it is asked not to.
        ("X-Auto-Response-Suppress", "OOF, AutoReply"),
        ("Content-Language", message.language),
    ]
    if message.is_urgent:
        headers += [("X-Priority", "1"), ("Importance", "high"), ("Priority", "urgent")]
    # Neither form in which the parts are written can hold these two characters one after the other.
    boundary = f"=_{page_id.hex}"
    headers.append(("Content-Type", f'multipart/alternative; boundary="{boundary}"'))
    delimiter = f"--{boundary}\r\n".encode()
    parts = (_part("plain", message.text), _part("html", message.html))
    return _head(headers) + b"\r\n" + b"".join(delimiter + part for part in parts) + f"--{boundary}--\r\n".encode()


def answer_mail(
    house: MailHouse, recipient: MailAddress, incoming: IncomingMail, text: str, *, message_id: UUID, sent_at: datetime
) -> bytes:
    """What we say back to a mail, in its thread. `Auto-Submitted` keeps other machines from answering it again."""
    threading = incoming.message_id
    headers = [
        *_first_headers(house, recipient, _reply_subject(incoming.subject), house.message_id(message_id), sent_at),
        *((("In-Reply-To", threading), ("References", threading)) if threading is not None else ()),
        *_reply_to(house, incoming.token),
        ("Auto-Submitted", "auto-replied"),
        ("X-Auto-Response-Suppress", "All"),
    ]
    return _head(headers) + _part("plain", text)


# Written by hand: the library takes four milliseconds for a mail, and a fan-out has six hundred of them.


def _first_headers(
    house: MailHouse, recipient: MailAddress, subject: str, message_id: str, sent_at: datetime
) -> list[tuple[str, str]]:
    name = _encoded(house.sender_name) if house.sender_name else ""
    return [
        ("From", f"{name} <{house.sender.text}>" if name else house.sender.text),
        ("To", recipient.text),
        ("Subject", _encoded(_subject(subject))),
        ("Date", format_datetime(sent_at)),
        ("Message-ID", message_id),
        ("MIME-Version", "1.0"),
    ]


def _reply_to(house: MailHouse, token: str | None) -> list[tuple[str, str]]:
    address = house.reply_address(token)
    return [("Reply-To", address)] if address is not None else []


def _head(headers: list[tuple[str, str]]) -> bytes:
    for _, value in headers:
        if _CONTROLS.search(value.replace(_FOLD, "")):
            raise ValueError("a header must be one line")
    return "".join(f"{name}: {value}\r\n" for name, value in headers).encode()


def _encoded(line: str) -> str:
    """A line as it may stand in a header: plain words as they are, anything else as encoded words (RFC 2047)."""
    if line.isascii() and len(line) <= PLAIN_HEADER_LENGTH_MAX and _PLAIN_HEADER.fullmatch(line):
        return line
    words, word = [], b""
    for letter in line:
        piece = letter.encode("utf-8", "replace")
        if len(word) + len(piece) > ENCODED_WORD_BYTES_MAX:
            words.append(word)
            word = b""
        word += piece
    words.append(word)
    return _FOLD.join(f"=?utf-8?b?{base64.b64encode(word).decode()}?=" for word in words)


def _part(kind: str, text: str) -> bytes:
    """The head and content of one part. Every line ends with CRLF, whatever the text's did."""
    raw = "\n".join(text.splitlines()).encode("utf-8", "replace") + b"\n"
    is_mostly_ascii = 3 * sum(byte >= 128 for byte in raw) < len(raw)
    # Base64 holds the text in its canonical form, with CRLF; quoted lines get theirs below.
    coded = binascii.b2a_qp(raw) if is_mostly_ascii else base64.encodebytes(raw.replace(b"\n", b"\r\n"))
    head = f'Content-Type: text/{kind}; charset="utf-8"\r\nContent-Transfer-Encoding: '
    head += "quoted-printable" if is_mostly_ascii else "base64"
    return head.encode() + b"\r\n\r\n" + coded.replace(b"\n", b"\r\n")


def _one_line(text: str) -> str:
    cleaned = _CONTROLS.sub(" ", text).encode("utf-8", "replace").decode()
    return " ".join(cleaned.split())


def _subject(text: str) -> str:
    line = _one_line(text)
    return line if len(line) <= SUBJECT_LENGTH_MAX else line[: SUBJECT_LENGTH_MAX - 1] + "…"


def _reply_subject(subject: str) -> str:
    return subject if subject.lower().startswith("re:") else f"Re: {subject}"


def _token_in(link: str | None) -> str | None:
    """The last part of a link's path, which is what the link proves."""
    if link is None:
        return None
    return link.partition("?")[0].partition("#")[0].rstrip("/").rpartition("/")[2]


# --- what comes in ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Bounce:
    """A mail server says that a mail did not arrive (RFC 3464)."""

    message_id: str
    """Of the mail that it is about."""
    status: str
    """Three numbers, `5.1.1`."""
    is_address_unknown: bool


@dataclass(frozen=True, slots=True)
class IncomingMail:
    """What there is to know about a mail that came in. Everything in it is only what its sender says."""

    sender: str | None
    """The address in From."""
    subject: str
    message_id: str | None
    text: str
    """Plain; made from the HTML if there is no plain text."""
    is_automatic: bool
    """Sent by a machine: an absence notice, a list, a bounce. Never answered, never acted on."""
    bounce: Bounce | None
    token: str | None
    """The token in one of its recipients, if it was sent to an address of ours that holds one."""

    def with_token(self, token: str) -> IncomingMail:
        """The same mail as if it had been sent to the address with this token."""
        return replace(self, token=token)


def read_mail(
    raw: bytes, house: MailHouse, *, recipients: tuple[str, ...] = (), sender: str | None = None
) -> IncomingMail:
    """Reads a mail as it came (RFC 5322). `recipients` and `sender` are those of its envelope, where they are known.

    Never raises: what cannot be read is empty.
    """
    try:
        cut = raw[:READ_BYTES_MAX]
        # The library compares each line with the boundaries of all parts that it is in.
        if cut.lower().count(b"boundary") > PARTS_MAX or cut.count(b"\n--") > DELIMITERS_MAX:
            raise ValueError("more parts than are looked at")
        return _read(cut, house, recipients, sender)
    except (RecursionError, ValueError, LookupError, TypeError, AttributeError, MessageError):
        # The library has no limit of its own on nesting, and fails in many ways at what is made to be unreadable.
        return IncomingMail(None, "", None, "", is_automatic=True, bounce=None, token=None)


class _ShortHeaders(policy.EmailPolicy):
    """Reads the beginning of each header."""

    def header_fetch_parse(self, name: str, value: str) -> Any:
        return super().header_fetch_parse(name, value[:HEADER_LENGTH_MAX])


# The class takes its parameter in the type stubs alone.
_HOSTILE: policy.EmailPolicy[EmailMessage] = _ShortHeaders()  # type: ignore[assignment]


def _read(raw: bytes, house: MailHouse, recipients: tuple[str, ...], sender: str | None) -> IncomingMail:
    mail: EmailMessage = message_from_bytes(raw, policy=_HOSTILE)
    named = [*recipients, *_addresses(mail, "to"), *_addresses(mail, "cc"), *_addresses(mail, "delivered-to")]
    tokens = (house.token_of(address) for address in named[:RECIPIENTS_MAX])
    senders = _addresses(mail, "from")
    parts = _parts(mail)
    return IncomingMail(
        sender=senders[0] if len(senders) == 1 else None,
        subject=_subject(_header(mail, "subject")),
        message_id=_id_in(_header(mail, "message-id")),
        text=_text_of(parts),
        is_automatic=_is_automatic(mail, sender),
        bounce=_bounce_of(mail, parts),
        token=next((token for token in tokens if token is not None), None),
    )


def own_words(text: str, house: MailHouse) -> str:
    """What a sender wrote above the mail that they answer. What names our own address is the head of a quotation, in
    every language and every program; the marks of quoted lines are left to whoever reads the answer.
    """
    names = [one.text.lower() for one in (house.sender, house.reply_to) if one is not None]
    names += [f"{one.local_part}{REPLY_TAG}".lower() for one in (house.reply_to,) if one is not None]
    kept: list[str] = []
    for line in text.splitlines():
        if any(name in line.lower() for name in names):
            break
        kept.append(line)
    return "\n".join(kept)


def status_is_unknown_address(status: str) -> bool:
    """Whether an enhanced status code (RFC 3463) says that nobody can be reached at the address, for good."""
    match = _STATUS.fullmatch(status)
    return match is not None and match[1] == "5" and (int(match[2]), int(match[3])) in _UNKNOWN_STATUS


def _header(mail: EmailMessage, name: str) -> str:
    try:
        return _one_line(str(mail.get(name, "")))
    except Exception:  # noqa: BLE001 - the library raises many things at headers that were made to be unreadable
        return ""


def _addresses(mail: EmailMessage, name: str) -> list[str]:
    header = _header(mail, name)
    return [address for _, address in getaddresses([header])[:RECIPIENTS_MAX] if address] if header else []


def _id_in(text: str) -> str | None:
    match = _MESSAGE_ID.search(text)
    return match[0] if match is not None else None


def _is_automatic(mail: EmailMessage, sender: str | None) -> bool:
    submitted = _header(mail, "auto-submitted").partition(";")[0].strip().lower()
    precedence = _header(mail, "precedence").lower()
    null_sender = sender in {"", "<>"} or _header(mail, "return-path") == "<>"
    return (
        submitted not in {"", "no"}
        or precedence in {"bulk", "junk", "list", "auto_reply"}
        or null_sender
        or any(mail.get(name) is not None for name in ("list-id", "x-autoreply", "x-autorespond"))
        or mail.get_content_type() == "multipart/report"
    )


def _parts(mail: EmailMessage) -> list[EmailMessage]:
    parts: list[EmailMessage] = []
    for part in mail.walk():
        if len(parts) >= PARTS_MAX:
            break
        parts.append(part)
    return parts


def _content(part: EmailMessage) -> str:
    payload = part.get_payload(decode=True)
    if not isinstance(payload, bytes):
        return ""
    charset = str(part.get_content_charset("utf-8"))
    try:
        return payload.decode(charset if _CHARSET.fullmatch(charset) else "utf-8", "replace")
    except LookupError:
        return payload.decode("utf-8", "replace")


def _text_of(parts: list[EmailMessage]) -> str:
    shown = [part for part in parts if part.get_content_disposition() != "attachment"]
    plain = next((part for part in shown if part.get_content_type() == "text/plain"), None)
    text = _content(plain)[:TEXT_LENGTH_MAX] if plain is not None else ""
    if not text.strip():
        html = next((part for part in shown if part.get_content_type() == "text/html"), None)
        text = _plain_of(_content(html)[: 10 * TEXT_LENGTH_MAX]) if html is not None else ""
    return text[:TEXT_LENGTH_MAX]


class _Words(HTMLParser):
    """Collects what a reader would see, a line for each block; what is quoted is left out."""

    _HIDDEN = frozenset({"style", "script", "head", "title", "blockquote"})
    _BLOCKS = frozenset({"br", "p", "div", "li", "tr", "hr", "h1", "h2", "h3", "table"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.pieces: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        if tag in self._HIDDEN:
            self._hidden += 1
        elif tag in self._BLOCKS:
            self.pieces.append("\n")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag in self._BLOCKS:
            self.pieces.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.pieces.append(data)


def _plain_of(html: str) -> str:
    words = _Words()
    words.feed(_UNCLOSED_TAG.sub(" ", html))
    words.close()
    lines = (" ".join(line.split()) for line in "".join(words.pieces).splitlines())
    return "\n".join(line for line in lines if line)


def _bounce_of(mail: EmailMessage, parts: list[EmailMessage]) -> Bounce | None:
    report = next((part for part in parts if part.get_content_type() == "message/delivery-status"), None)
    if report is None or mail.get_content_type() != "multipart/report":
        return None
    # One block of fields for the report, then one for each recipient; ours have one recipient each.
    blocks = [block for block in report.get_payload() if isinstance(block, EmailMessage)][:PARTS_MAX]
    failed = next((block for block in blocks if _header(block, "action").lower() == "failed"), None)
    original = _original_id(parts)
    if failed is None or original is None:
        return None
    match = _STATUS.search(_header(failed, "status"))
    status = match[0] if match is not None else "5.0.0"
    return Bounce(original, status, status_is_unknown_address(status))


def _original_id(parts: list[EmailMessage]) -> str | None:
    """The Message-ID of the mail that a report is about: it returns that mail, or its headers."""
    for part in parts:
        if part.get_content_type() == "text/rfc822-headers":
            returned: object = message_from_bytes(_content(part).encode("utf-8", "replace"), policy=_HOSTILE)
        elif part.get_content_type() == "message/rfc822":
            inner = part.get_payload()
            returned = inner[0] if isinstance(inner, list) and inner else None
        else:
            continue
        if isinstance(returned, EmailMessage) and (found := _id_in(_header(returned, "message-id"))) is not None:
            return found
    return None
