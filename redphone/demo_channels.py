"""What stands where telephones and mailboxes are in a demonstration, and the people who answer from there.

The cast: `Counterparts` is a telephone company and a mail provider on this machine, which Red Phone uses as it would
use real ones: through their APIs, configured by the same variables. `Heard` is one message as it reached somebody. An
answer goes back as a person would give it: a reply by SMS or mail, a key on the telephone, or the page behind a link.

The promise: nobody in here knows more than what stood in the message, and nothing is answered but by the means that the
message offers.
"""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self

import httpx

from redphone.counterparts.mail import MailProvider, ReceivedMail
from redphone.counterparts.telephone import Pickup, PlacedCall, Sms, TelephoneCompany
from redphone.demo_network import Network, Reached
from redphone.demo_scenario import Part, Scenario, Telephones, Via
from shared.clock import Clock
from shared.contracts import ChannelName

ACKNOWLEDGE_KEY = "1"
_LINK = re.compile(r"https?://\S+/a/[A-Za-z0-9_-]+")
_WORD_AND_CODE = re.compile(r"(?<!\w)([^\W\d_]{2,}) ([0-9]{4})(?![0-9])")


@dataclass(frozen=True)
class Heard:
    """One message that Red Phone handed to a provider. A call says more and more while it lasts."""

    channel: ChannelName
    partner: str
    place: str
    """`duty-1`, `senior-1` or `office`; the address itself where the network has none such."""
    text: str
    at: datetime
    address: str = ""
    mail: ReceivedMail | None = None
    call: PlacedCall | None = None

    @property
    def said(self) -> str:
        """What stood there, or was read aloud."""
        return self.text if self.call is None else self.call.heard

    @property
    def language(self) -> str:
        """Of a call: the language of its voice, `es-ES`; otherwise, and before anything was said, nothing."""
        return self.call.spoken[0].language if self.call is not None and self.call.spoken else ""

    @property
    def asks(self) -> bool:
        """Whether it asks for an acknowledgement by its text: then it says with which word and code."""
        return self.reply is not None

    @property
    def code(self) -> str | None:
        """The four digits that the message speaks of, most often where it has several numbers."""
        said = Counter(code for _, code in _WORD_AND_CODE.findall(self.text))
        return said.most_common(1)[0][0] if said else None

    @property
    def reply(self) -> str | None:
        """What the message says to write back: the word that stands last before its code, and the code."""
        words = [word for word, code in _WORD_AND_CODE.findall(self.text) if code == self.code]
        return f"{words[-1]} {self.code}" if words else None


class AnswerRefused(Exception):
    """An answer that Red Phone did not take; the text says which."""


class Counterparts:
    """Telephones, mailboxes and browsers of one demonstration. `on_heard` is called for each message as it comes."""

    def __init__(self, clock: Clock) -> None:
        self.telephone = TelephoneCompany(clock=clock)
        self.mail = MailProvider(clock=clock)
        self.heard: list[Heard] = []
        self.on_heard: Callable[[Heard], None] = lambda _: None
        self._clock = clock
        self._places: Mapping[tuple[ChannelName, str], tuple[str, str]] = {}
        self._seen = Counter[str]()
        self._stack = AsyncExitStack()
        self._watching: list[asyncio.Task[None]] = []
        self._browser: httpx.AsyncClient | None = None

    async def __aenter__(self) -> Self:
        await self._stack.enter_async_context(self.telephone)
        await self._stack.enter_async_context(self.mail)
        self._browser = await self._stack.enter_async_context(httpx.AsyncClient(timeout=10, trust_env=False))
        self._watching = [
            asyncio.create_task(self._watch_telephone(), name="watch telephones"),
            asyncio.create_task(self._watch_mail(), name="watch mailboxes"),
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        await self._stack.aclose()

    def environment(self) -> dict[str, str]:
        """The variables with which Red Phone uses both, as an administrator would set them."""
        return self.telephone.environment() | self.mail.environment()

    def serve(self, network: Network, scenario: Scenario, public_url: str) -> None:
        """Gives every number and mailbox of the network its owner, and lets them behave as the scenario says."""
        self.telephone.public_url = self.mail.public_url = public_url
        self._places = {
            key: (reached.partner, reached.place) for reached in network.reached for key in keys_of(reached)
        }
        for reached in network.reached:
            part = scenario.part_of(reached.partner)
            is_answering = part is not None and part.answers_at == reached.place
            for number in {reached.sms, reached.voice} - {None}:
                line = self.telephone.lines[str(number)]
                if part is not None and part.telephones is Telephones.DEAD:
                    line.sms, line.pickup = Sms.SILENT, Pickup.NO_ANSWER
                elif part is not None and part.telephones is Telephones.TEXTS_LOST and is_answering:
                    line.sms = Sms.UNDELIVERED
                if part is not None and part.via is Via.VOICE and is_answering:
                    line.keys = (ACKNOWLEDGE_KEY,)

    # --- what comes ---------------------------------------------------------------------------------------------------

    async def _watch_telephone(self) -> None:
        seen, company = self._seen, self.telephone
        while True:
            with suppress(TimeoutError):
                await company.wait_for(
                    lambda known: len(known.messages) > seen["messages"] or len(known.calls) > seen["calls"]
                )
            for sent in company.messages[seen["messages"] :]:
                seen["messages"] += 1
                if not sent.in_reply:
                    self._keep(ChannelName.SMS, sent.to, sent.text)
            for call in company.calls[seen["calls"] :]:
                seen["calls"] += 1
                self._keep(ChannelName.VOICE, call.to, "", call=call)

    async def _watch_mail(self) -> None:
        seen = self._seen
        while True:
            with suppress(TimeoutError):
                await self.mail.wait_for(lambda provider: len(provider.mails) > seen["mails"])
            for mail in self.mail.mails[seen["mails"] :]:
                seen["mails"] += 1
                if not mail.is_answer:
                    self._keep(ChannelName.EMAIL, mail.to, f"{mail.subject}\n{mail.text}", mail=mail)

    def _keep(
        self,
        channel: ChannelName,
        address: str,
        text: str,
        *,
        mail: ReceivedMail | None = None,
        call: PlacedCall | None = None,
    ) -> None:
        partner, place = self._places.get((channel, address), ("", address))
        heard = Heard(channel, partner, place, text, self._clock.now(), address=address, mail=mail, call=call)
        self.heard.append(heard)
        self.on_heard(heard)

    # --- what people do with it ---------------------------------------------------------------------------------------

    async def answer(self, part: Part, heard: Heard, name: str) -> None:
        """Acknowledges from where the message was read. Raises `AnswerRefused` if Red Phone does not take it."""
        if part.via is Via.SMS:
            said = await self.telephone.text(heard.address, str(heard.reply))
            if said is None:
                raise AnswerRefused("the answer by SMS got no word back")
        elif part.via is Via.EMAIL:
            assert heard.mail is not None, "mails are answered by whoever got one"
            taken = await self.mail.answer(heard.mail, str(heard.reply))
            if taken.status_code != httpx.codes.OK:
                raise AnswerRefused(f"the answer by mail was answered with {taken.status_code}")
        elif part.via is Via.LINK:
            await self._open_link(heard, name)

    async def _open_link(self, heard: Heard, name: str) -> None:
        """Opens the page, which changes nothing, reads it, and sends the form with the code of the message."""
        assert self._browser is not None, "pages are opened inside the block only"
        link, code = _LINK.search(heard.text), heard.code
        if link is None or code is None:
            raise AnswerRefused("the message has no link, or no code")
        opened = await self._browser.get(link[0])
        if opened.status_code != httpx.codes.OK or 'name="code"' not in opened.text:
            raise AnswerRefused(f"the page behind the link was answered with {opened.status_code}")
        form = {"act": "acknowledge", "code": code} | ({"name": name} if 'name="name"' in opened.text else {})
        done = await self._browser.post(link[0], data=form)
        if done.status_code != httpx.codes.OK:
            raise AnswerRefused(f"the form behind the link was answered with {done.status_code}")


def keys_of(reached: Reached) -> list[tuple[ChannelName, str]]:
    """By what a message to this person or office is recognised."""
    pairs = [(ChannelName.SMS, reached.sms), (ChannelName.VOICE, reached.voice), (ChannelName.EMAIL, reached.email)]
    return [(channel, address) for channel, address in pairs if address is not None]
