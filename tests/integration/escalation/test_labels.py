"""Channel × label: what really leaves, in the form in which it leaves, says no more than the alert's label allows."""

from __future__ import annotations

import html
import re
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import orjson
import pytest

from services.escalation.channels import Outgoing, PersonMessage, Reason
from services.escalation.channels.chat import words_of
from services.escalation.channels.mail import MailHouse, mail_address, page_mail
from services.escalation.channels.providers import Provider
from services.escalation.channels.providers.calls import CallState, begin
from services.escalation.channels.providers.http import ApiClient, Failure
from services.escalation.channels.providers.telnyx import Telnyx
from services.escalation.channels.providers.twilio import Twilio
from services.escalation.channels.push import payload_of
from shared.clock import ManualClock
from shared.contracts import ChannelName, DutyPlanPublished, Info, Status, Tlp
from tests.support.cluster import Cluster
from tests.support.escalation_rig import KABUL, Rig, escalation_rig

URL = "https://redphone.example"
PEOPLE = tuple(channel for channel in ChannelName if channel is not ChannelName.WEBHOOK)
STRICT = (Tlp.RED, Tlp.AMBER_STRICT)
HOUSE = MailHouse.of("Red Phone <redphone@example.org>", "answers@example.org")

PLANTED = Info(
    event="PLANTEDevent",
    headline="PLANTEDheadline",
    description="PLANTEDdescription",
    instruction="PLANTEDinstruction",
)
LEAKS = (
    *("PLANTED", "RP-CA", "R P,", "2021", "0001", "TLP"),
    *("United Kingdom", "Duty office", "+999", "9 9 9", "Example Person"),
)
"""Beside the planted words: reference, time, label, who is unreached, and numbers to call."""


class Wire:
    """What is handed to providers of SMS and calls."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []

    async def post(self, _path: str, body: bytes, _content_type: str, **_options: object) -> Failure:
        """Takes the request down."""
        self.bodies.append(body)
        return Failure(Reason.TIMEOUT, "taken down")

    def form(self) -> dict[str, str]:
        """The fields of the newest request, which is a form."""
        return {name: values[0] for name, values in parse_qs(self.bodies[-1].decode()).items()}

    def json(self) -> dict[str, Any]:
        """The newest request, which is JSON."""
        found: dict[str, Any] = orjson.loads(self.bodies[-1])
        return found


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wire:
    """In place of the way to both providers."""
    taken = Wire()
    monkeypatch.setattr(ApiClient, "post", lambda _client, *given, **named: taken.post(*given, **named))
    return taken


def twilio() -> Twilio:
    """An account at Twilio."""
    return Twilio(
        account_sid="AC" + "0" * 32,
        auth_token="0" * 32,
        sender="+15005550006",
        api_url="https://api.twilio.example",
        public_url=URL,
        version="1",
        clock=ManualClock(KABUL),
    )


def telnyx() -> Telnyx:
    """An account at Telnyx."""
    return Telnyx(
        api_key="KEY",
        public_key="11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=",
        sender="+15005550006",
        connection_id="1",
        api_url="https://api.telnyx.example",
        public_url=URL,
        version="1",
        clock=ManualClock(KABUL),
    )


async def leaving(page: Outgoing, channel: ChannelName, wire: Wire) -> dict[str, str]:
    """Everything that a channel lets out of one page, part by part, as whoever gets it reads it."""
    if channel is ChannelName.WEBHOOK:
        # A message's own instant, like a mail's, says nothing of the alert.
        return {"body": re.sub(r'"timestamp":"[^"]*"', "", page.body.decode())}
    assert page.message is not None
    return await _LEAVING[channel](page, page.message, wire)


async def _mail(page: Outgoing, message: PersonMessage, _wire: Wire) -> dict[str, str]:
    raw = page_mail(HOUSE, mail_address(page.target), message, page_id=page.page_id, sent_at=page.sent_at)
    mail = message_from_bytes(raw, policy=policy.default)
    text, markup = mail.get_body(("plain",)), mail.get_body(("html",))
    assert text is not None
    assert markup is not None
    # The instant at which a mail is sent says nothing of the alert.
    headers = "\n".join(f"{name}: {value}" for name, value in mail.items() if name not in {"Date", "Subject"})
    shown = html.unescape(re.sub(r"<(style|title)\b.*?</\1>|<[^>]*>", " ", markup.get_content(), flags=re.DOTALL))
    hidden = markup.get_content()
    return {
        "subject": mail["Subject"],
        "text": text.get_content(),
        "html": shown,
        "(headers)": headers,
        "(markup)": hidden,
    }


async def _sms(page: Outgoing, message: PersonMessage, wire: Wire) -> dict[str, str]:
    said = {}
    senders: tuple[Provider, ...] = (twilio(), telnyx())
    for provider in senders:
        await provider.send_sms(page.target, message.short, page_id=page.page_id, seconds=1)
        fields = wire.form() if provider.name == "twilio" else wire.json()
        said[provider.name] = fields.pop("Body" if provider.name == "twilio" else "text")
        said[f"({provider.name})"] = str(fields)
    return said


async def _voice(page: Outgoing, message: PersonMessage, wire: Wire) -> dict[str, str]:
    step = begin(message.voice, CallState(page.page_id))
    document = twilio().document(step).decode()
    await telnyx().continue_call("call", step, command_id=str(page.page_id))
    asked = wire.json()
    said = {"twilio": html.unescape(re.sub(r"<[^>]*>", " ", document)), "telnyx": asked.pop("payload")}
    await twilio().start_call(page.target, page_id=page.page_id, seconds=1)
    started = wire.form()
    return {**said, "(twilio)": f"{document} {started}", "(telnyx)": str(asked)}


async def _push(page: Outgoing, message: PersonMessage, _wire: Wire) -> dict[str, str]:
    payload = payload_of(message, page.message_type)
    shown = orjson.loads(payload)
    return {"title": shown["title"], "body": shown["body"], "(payload)": payload.decode()}


async def _chat(_page: Outgoing, message: PersonMessage, _wire: Wire) -> dict[str, str]:
    return words_of(message)


_LEAVING = {
    ChannelName.EMAIL: _mail,
    ChannelName.SMS: _sms,
    ChannelName.VOICE: _voice,
    ChannelName.PUSH: _push,
    ChannelName.CHAT: _chat,
}


def reached_by_all(rig: Rig, partner: str) -> DutyPlanPublished:
    """A plan of one level, whose contact, and the office, are reached on every channel that there is."""
    planned = rig.plan(partner, levels=1)
    assert planned.office is not None

    def points(whom: str) -> Any:
        return tuple(
            rig.point(
                f"{whom}@{partner.lower()}.example" if channel is ChannelName.EMAIL else f"+1613555{whom}", channel
            )
            for channel in PEOPLE
        )

    [contact] = planned.contacts
    number = {"GB": 1, "CA": 2, "XR": 3}[partner]
    contact = contact.model_copy(update={"points": points(f"010{number}")})
    office = planned.office.model_copy(update={"points": points(f"020{number}")})
    return planned.model_copy(update={"contacts": (contact,), "office": office})


async def pages_of_a_night(rig: Rig, **changes: Any) -> list[tuple[ChannelName, Outgoing]]:
    """Whatever leaves for an alert that nobody answers, until others have been asked to take it over."""
    for partner in ("GB", "CA", "XR"):
        await rig.handle(reached_by_all(rig, partner))
    await rig.handle(rig.released("GB", info=(PLANTED,), **changes))
    await rig.settle()
    await rig.forward(minutes=36)
    return [(ChannelName(name), page) for name, outlet in rig.outlets.items() for page in outlet.sent]


def without_ids(text: str, page: Outgoing) -> str:
    """The text without ids and link, whose digits are by chance what they are."""
    for part in (page.message.link if page.message else None, page.message.code if page.message else None):
        text = text.replace(part or "\0", "")
    return re.sub(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", "", text)


@pytest.mark.parametrize("status", [Status.ACTUAL, Status.EXERCISE])
@pytest.mark.parametrize("tlp", list(Tlp))
async def test_every_channel_says_what_the_label_allows(
    cluster: Cluster, tmp_path: Path, wire: Wire, tlp: Tlp, status: Status
) -> None:
    """Strict: precedence, sender and link in headers, bodies, payloads and speech, and nothing else; otherwise the
    alert's words. A drill's texts begin with EXERCISE on each channel; those of an actual alert never say it.
    """
    async with escalation_rig(cluster, tmp_path, people=PEOPLE, public_url=URL) as rig:
        left = await pages_of_a_night(rig, tlp=tlp, status=status)
        seen: set[tuple[ChannelName, str]] = set()
        for channel, page in left:
            if page.message_type not in {"alert.released", "level.raised", "partner.unreached"}:
                continue
            seen.add((channel, page.message_type))
            for part, text in (await leaving(page, channel, wire)).items():
                where = (channel, page.message_type, part)
                if tlp in STRICT:
                    found = [leak for leak in LEAKS if leak in without_ids(text, page)]
                    assert not found, (where, found)
                if part.startswith("("):
                    continue
                assert "FLASH" in text, where
                if channel is ChannelName.WEBHOOK:
                    assert ("EXERCISE FLASH" in text) == (status is Status.EXERCISE), where
                else:
                    assert text.strip().startswith("EXERCISE") == (status is Status.EXERCISE), where
                    assert ("EXERCISE" in text) == (status is Status.EXERCISE), where
                if tlp not in STRICT and page.message_type == "alert.released":
                    assert "PLANTEDheadline" in text, where
        kinds = ("alert.released", "partner.unreached")
        assert {(channel, kind) for channel in ChannelName for kind in kinds} <= seen
