"""Mails as text: nothing that goes into one can change its head, and nothing that comes in can break its reader."""

from __future__ import annotations

from datetime import UTC, datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from time import process_time
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.escalation.channels import PersonMessage, VoiceScript
from services.escalation.channels.mail import (
    PARTS_MAX,
    READ_BYTES_MAX,
    SUBJECT_LENGTH_MAX,
    TEXT_LENGTH_MAX,
    AddressMalformed,
    IncomingMail,
    MailHouse,
    answer_mail,
    mail_address,
    own_words,
    page_mail,
    read_mail,
    status_is_unknown_address,
)

PAGE = UUID("01990000-0000-7000-8000-000000000002")
SENT_AT = datetime(2021, 8, 15, 9, 30, tzinfo=UTC)
HOUSE = MailHouse.of("Rotes Telefon – Red Phone <redphone@alerts.example>", "reply@alerts.example")
TO = mail_address("person@ministry.example")
SPEECH = VoiceScript("en-GB", "alert", "menu", "acknowledged", "wrong person", "not understood", "goodbye")
HEADERS = [
    *("From", "To", "Subject", "Date", "Message-ID", "MIME-Version", "In-Reply-To", "References", "Reply-To"),
    *("Auto-Submitted", "X-Auto-Response-Suppress", "Content-Language", "Content-Type"),
]

anything = st.text(max_size=400)


def told(
    subject: str = "FLASH", text: str = "text", html: str = "<p>html</p>", thread: str = "t", link: str | None = "x"
) -> PersonMessage:
    """What a person is told."""
    return PersonMessage("en", subject, text, html, "short", SPEECH, link, "4821", thread, is_urgent=False)


def parsed(message: PersonMessage) -> EmailMessage:
    """The mail as its reader's program sees it; every line of it is one that servers take."""
    raw = page_mail(HOUSE, TO, message, page_id=PAGE, sent_at=SENT_AT)
    assert all(len(line) <= 998 for line in raw.split(b"\r\n"))
    assert b"\n" not in raw.replace(b"\r\n", b"")
    assert b"\r" not in raw.replace(b"\r\n", b"")
    assert raw.isascii()
    return message_from_bytes(raw, policy=policy.default)


@given(subject=anything, text=anything, html=anything, thread=anything, link=anything)
@example(
    subject="a\r\nBcc: spy@evil.example", text="\r\n.\r\n", html="", thread="x>\r\nX: y", link="https://x/a/b\r\nX: y"
)
@example(subject="=?utf-8?b?Qg==?=", text="--=_01990000000070008000000000000002--", html="=", thread="", link="")
@example(subject="\ud800" * 5, text="\ud800", html="\ud800", thread="\ud800", link="\ud800")
def test_no_text_changes_the_head(subject: str, text: str, html: str, thread: str, link: str) -> None:
    """Whatever the texts hold, a mail has exactly our headers, one recipient, and two parts."""
    mail = parsed(told(subject, text, html, thread, link))
    assert mail.keys() == HEADERS
    assert mail["to"] == "person@ministry.example"
    assert [part.get_content_type() for part in mail.iter_parts()] == ["text/plain", "text/html"]
    assert not mail.defects


@given(subject=st.text(st.characters(exclude_categories=("C", "Z")), max_size=SUBJECT_LENGTH_MAX), text=anything)
@example(subject="EXERCISE: из Канады " * 8, text="naïve=\n trailing \n\n.")
def test_texts_arrive_as_they_are(subject: str, text: str) -> None:
    """A subject of one line and a text come out as they went in, but for how lines end."""
    clean = text.encode("utf-8", "replace").decode()
    mail = parsed(told(" ".join(subject.split()), text))
    assert mail["subject"] == " ".join(subject.split())
    plain, _ = mail.iter_parts()
    assert isinstance(plain, EmailMessage)
    arrived = plain.get_content().replace("\r\n", "\n")
    assert arrived.rstrip("\n") == "\n".join(clean.splitlines()).rstrip("\n")


def test_long_subjects_are_cut() -> None:
    """A subject has a limit, and its beginning stays: EXERCISE and the precedence stand there."""
    subject = str(parsed(told("EXERCISE FLASH " + "x" * 1000))["subject"])
    assert len(subject) == SUBJECT_LENGTH_MAX
    assert subject.startswith("EXERCISE FLASH")
    assert subject.endswith("…")


def test_the_sender_has_a_name() -> None:
    """The name in From is read as a name, in whatever letters."""
    sender = parsed(told())["from"].addresses[0]
    assert (sender.display_name, sender.addr_spec) == ("Rotes Telefon – Red Phone", "redphone@alerts.example")


@pytest.mark.parametrize(
    ("link", "reply_to"),
    [
        ("https://redphone.example/a/Tok-en_1", "reply+Tok-en_1@alerts.example"),
        ("https://redphone.example/a/Tok-en_1/?x#y", "reply+Tok-en_1@alerts.example"),
        (None, "reply@alerts.example"),
        ("https://redphone.example/a/" + "x" * 60, "reply@alerts.example"),
        ("https://redphone.example/a/<b>", "reply@alerts.example"),
    ],
)
def test_reply_addresses(link: str | None, reply_to: str) -> None:
    """Answers go to the address with the page's token; where there is none that fits, to the bare address."""
    assert parsed(told(link=link))["reply-to"] == reply_to


def test_tokens_are_read_back() -> None:
    """The token of an address of ours, and of no other."""
    assert HOUSE.token_of("Reply+AbC@ALERTS.example") == "AbC"
    for other in ("reply@alerts.example", "reply+@alerts.example", "reply+a@other.example", "x+a@alerts.example", ""):
        assert HOUSE.token_of(other) is None
    assert MailHouse.of("a@alerts.example", None).token_of("reply+a@alerts.example") is None


def test_our_own_addresses_are_plain() -> None:
    """What every server must take is in ASCII and well-formed."""
    for wrong in ("用户@alerts.example", "nobody", ""):
        with pytest.raises(AddressMalformed):
            MailHouse.of(wrong, None)
    with pytest.raises(AddressMalformed):
        MailHouse.of("a@alerts.example", "用户@alerts.example")


@given(st.text(max_size=300))
@example("a@b\r\nRCPT TO:<c@d>")
@example("a b@c.example")
def test_addresses_are_one_address(text: str) -> None:
    """What passes as an address has no blank, bracket, comma or control character, and one @."""
    try:
        address = mail_address(text)
    except AddressMalformed:
        return
    assert address.text.count("@") == 1
    assert not set(address.text) & set(' \t\r\n\x00<>,;:"()[]\\')
    assert address.domain.isascii()


def test_message_ids_lead_back_to_their_page() -> None:
    """Only ids of our own domain are pages of ours."""
    assert HOUSE.page_of(HOUSE.message_id(PAGE)) == PAGE
    assert HOUSE.page_of(f"<{PAGE}@other.example>") is None
    assert HOUSE.page_of("<thread.x@alerts.example>") is None


# --- what comes in ----------------------------------------------------------------------------------------------------


@given(st.binary(max_size=600))
@example(b"From: \xff\xfe\r\nTo: =?utf-8?b?////?=\r\nContent-Type: text/plain; charset=nonsense\r\n\r\n\xff")
@example(b"Content-Type: multipart/mixed; boundary=\r\n\r\n--\r\n")
@example(b"Content-Type: message/delivery-status\r\n\r\nx")
@example(b"Content-Type: multipart/report; boundary=b\r\n\r\n--b\r\nContent-Type: message/delivery-status\r\n\r\n--b--")
def test_nothing_breaks_the_reader(raw: bytes) -> None:
    """Whatever bytes come in, reading them ends with a mail."""
    mail = read_mail(raw, HOUSE, recipients=("\ud800@",), sender="\ud800")
    assert len(mail.text) <= TEXT_LENGTH_MAX


def test_deep_and_wide_mails_are_bearable() -> None:
    """Parts within parts without end, thousands of them side by side, and a huge text are read up to the limits."""
    deep = b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(3000))
    assert read_mail(deep, HOUSE).text == ""
    wide = b"From: a@b.example\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n\r\n" * 5000
    last = b"--b\r\n\r\nYES 4821\r\n--b--\r\n"
    assert "YES" not in read_mail(wide + last, HOUSE).text
    assert PARTS_MAX < 5000
    huge = b"From: a@b.example\r\n\r\n" + b"YES 4821\r\n" + b"x" * (2 * READ_BYTES_MAX)
    assert read_mail(huge, HOUSE).text.startswith("YES 4821")


_PERSON = b"From: a@b.example\r\n"
_HTML = _PERSON + b"Content-Type: text/html\r\n\r\n"


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(_HTML + b"<a " * 33_000, id="tags that never end"),
        pytest.param(_HTML + b"<!-->" * 20_000, id="comments that never end"),
        pytest.param(_PERSON + b"To: " + b"a," * 200_000 + b"\r\n\r\n", id="recipients"),
        pytest.param(_PERSON + b"Subject: " + b"=?utf-8?q?a?= " * 30_000 + b"\r\n\r\n", id="encoded words"),
        pytest.param(
            _PERSON + b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\n" * 90_000, id="parts"
        ),
        pytest.param(
            _PERSON
            + b"".join(b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(250))
            + b"-\r\n" * 250_000,
            id="parts within parts",
        ),
        pytest.param(
            _PERSON + b"Content-Type: text/plain; charset=punycode\r\n\r\n" + b"a" * 400_000 + b"-" + b"a0" * 200_000,
            id="a coding that takes hours",
        ),
    ],
)
def test_nobody_keeps_the_reader_busy(raw: bytes) -> None:
    """A mail that was made to be slow to read, which any stranger can send, costs no more than a moment."""
    begun = process_time()
    read_mail(raw, HOUSE)
    assert process_time() - begun < 2


def test_only_the_codings_of_mails_are_read() -> None:
    """A coding that mails are not written in cannot smuggle in what no database stores."""
    raw = _PERSON + b"Content-Type: text/plain; charset=unicode_escape\r\n\r\nASK 4821 \\ud800"
    read_mail(raw, HOUSE).text.encode()


def test_texts_in_other_charsets() -> None:
    """Old charsets and transfer codings are read as they say they are."""
    latin = (
        b"From: a@b.example\r\nContent-Type: text/plain; charset=iso-8859-6\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
    )
    assert read_mail(latin + "نعم 4821".encode("iso-8859-6"), HOUSE).text.strip() == "نعم 4821"
    quoted = (
        b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ns=C3=AD 4821"
    )
    assert read_mail(quoted, HOUSE).text == "sí 4821"


def test_attachments_are_not_read() -> None:
    """A text that is attached is no answer."""
    mail = EmailMessage()
    mail["From"] = "a@b.example"
    mail.set_content("\n")
    mail.add_attachment("YES 4821", filename="note.txt")
    assert read_mail(mail.as_bytes(), HOUSE).text.strip() == ""


@pytest.mark.parametrize(
    "head",
    [
        "On Sun, Red Phone <redphone@alerts.example> wrote:",
        "Le dim. 15 août, Red Phone <redphone@alerts.example> a écrit :",
        "From: Red Phone [mailto:REDPHONE@alerts.example]",
        "Reply-To: reply+abc@alerts.example",
    ],
)
def test_quotations_are_cut_off(head: str) -> None:
    """What follows a line with our own address is a quotation of us, in every language."""
    assert own_words(f"What?\n\n{head}\nYES 4821", HOUSE) == "What?\n"


def test_answers_thread_and_do_not_inject() -> None:
    """Our answer repeats only a well-formed Message-ID, and a subject without a line break."""
    raw = b"From: a@b.example\r\nSubject: =?utf-8?q?x=0D=0ABcc:_spy@evil.example?=\r\nMessage-ID: <a@b>\x01\r\n\r\nx"
    incoming = read_mail(raw, HOUSE)
    answer = message_from_bytes(
        answer_mail(HOUSE, TO, incoming, "text", message_id=PAGE, sent_at=SENT_AT), policy=policy.default
    )
    assert answer["bcc"] is None
    assert answer["in-reply-to"] == "<a@b>"
    assert answer["subject"] == "Re: x Bcc: spy@evil.example"
    again = IncomingMail("a@b.example", "RE: x", None, "", is_automatic=False, bounce=None, token=None)
    answer = message_from_bytes(
        answer_mail(HOUSE, TO, again, "text", message_id=PAGE, sent_at=SENT_AT), policy=policy.default
    )
    assert (answer["subject"], answer["in-reply-to"]) == ("RE: x", None)


def test_which_codes_mean_nobody_is_there() -> None:
    """Permanent codes about the recipient's address, and no others."""
    for unknown in ("5.1.1", "5.1.2", "5.1.3", "5.1.6", "5.1.10"):
        assert status_is_unknown_address(unknown)
    for other in ("4.1.1", "2.1.1", "5.1.7", "5.1.8", "5.2.1", "5.7.1", "5.11.1", "", "5.1", "x"):
        assert not status_is_unknown_address(other)
