"""What a page tells a person, made when it is sent: from its row, its alert, the reader's languages, link and code.

The cast: `Persons` renders for the senders, `message_of` for whoever needs one page's message again (a call that asks
what to say). The promise: the same page has the same link and code whenever it is rendered, and nothing of the message
is stored. Of messages that differ by link and code alone, which is a whole level of an alert in one language, the text
is made once.
"""

from __future__ import annotations

import itertools
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from services.escalation import store
from services.escalation.answering import links
from services.escalation.answering.replies import people_on_duty
from services.escalation.channels import PersonMessage, VoiceScript
from services.escalation.deps import EscalationDeps
from services.escalation.directories import Directories
from services.escalation.messages import AlertPart, alert_part
from services.escalation.people.notice_texts import MESSAGE_TYPE, alert_of_notice
from services.escalation.people.texts import PageFacts, facts_of, say
from services.escalation.talk.read_backs import REQUESTED as READ_BACK_REQUESTED
from shared.contracts import ChannelName
from shared.db import Transaction
from shared.keys import CannotOpen, KeyRing, point_context

TEXTS_KEPT_MAX = 500
REPLIED_TO = frozenset({ChannelName.SMS, ChannelName.VOICE, ChannelName.EMAIL})
"""Channels whose readers can answer where the message came from."""

_SOME_TOKEN = "0" * links.TOKEN_CHARACTERS
"""Stands for a page's token in a text that is kept: as long as any, so that a short message is cut alike."""


@dataclass(frozen=True, slots=True)
class _Template:
    """A message with stand-ins for link and code."""

    message: PersonMessage
    link: str | None
    code: str | None

    def filled(self, link: str | None, code: str | None) -> PersonMessage:
        # The code first: a link is filled with a token, in which anything may occur.
        pairs = [(old, new) for old, new in ((self.code, code), (self.link, link)) if old is not None]
        message = self.message
        return replace(
            message,
            subject=_exchanged(message.subject, pairs),
            text=_exchanged(message.text, pairs),
            html=_exchanged(message.html, pairs),
            short=_exchanged(message.short, pairs),
            voice=_spoken(message.voice, pairs),
            link=link,
            code=code,
        )


def _exchanged(text: str, pairs: Sequence[tuple[str, str | None]]) -> str:
    for old, new in pairs:
        text = text.replace(old, new or "")
    return text


def _spoken(voice: VoiceScript, pairs: Sequence[tuple[str, str | None]]) -> VoiceScript:
    alert, menu = _exchanged(voice.alert, pairs), _exchanged(voice.menu, pairs)
    return voice if (alert, menu) == (voice.alert, voice.menu) else replace(voice, alert=alert, menu=menu)


class Persons:
    """Renders messages to people. One per process."""

    def __init__(self, directories: Directories, keys: KeyRing, public_url: str) -> None:
        self._directories = directories
        self._keys = keys
        self._public_url = public_url
        self._kept: dict[tuple[object, ...], _Template] = {}

    async def learn(self, tx: Transaction, codes: Sequence[str]) -> None:
        """Reads what partners are called and who is on duty there, ahead of rendering."""
        if unknown := [code for code in codes if not self._directories.knows(code)]:
            await self._directories.find(tx, unknown)

    def say(self, rows: Sequence[store.Row], parts: Mapping[UUID, AlertPart], now: datetime) -> PersonMessage:
        """The message that carries these pages, all to one contact point: the first gives link and code."""
        row = rows[0]
        link, code = self._answered_by(row) if any(_asks(one) for one in rows) else (self._page_of(row), None)
        rows = _said_once(rows)
        part = parts.get(row["alert_id"])
        if len(rows) > 1 or part is None or part.content is None:
            return say(self._facts(rows, parts, now), link=link, code=code)
        key = self._key(row, part, now)
        template = self._kept.get(key)
        if template is None:
            template = self._template(self._facts(rows, parts, now), asks=code is not None)
            while len(self._kept) >= TEXTS_KEPT_MAX:
                self._kept.pop(next(iter(self._kept)))
            self._kept[key] = template
        return template.filled(link, code)

    def _answered_by(self, row: store.Row) -> tuple[str | None, str]:
        link = links.link_of(self._public_url, self._keys, row["id"]) if self._public_url else None
        return link, links.code_of(self._keys, row["id"])

    def _page_of(self, row: store.Row) -> str | None:
        """Where the reader of a notice looks at the draft that it is about, after signing in."""
        if row["message_type"] != MESSAGE_TYPE or not self._public_url:
            return None
        alert_id = alert_of_notice(row["data"] or {})
        return None if alert_id is None else f"{self._public_url.rstrip('/')}/alerts/{alert_id}"

    def _key(self, row: store.Row, part: AlertPart, now: datetime) -> tuple[object, ...]:
        """What a text depends on beside link and code. Times in it are told by the minute, and as before or after."""
        by = row["answer_by_at"]
        return (
            part.facts.alert_id,
            part.facts.answers_visible_to,
            row["message_type"],
            _asks(row),
            row["level"],
            tuple(row["languages"] or ()),
            row["time_zone"],
            row["contact_id"] is None and (row["channel"], self._people(row, now)),
            by,
            by is not None and now < by,
            now.replace(second=0, microsecond=0),
            self._directories.names.get(part.facts.raiser),
            _said_beside(row),
        )

    def _template(self, facts: PageFacts, *, asks: bool) -> _Template:
        if not asks:
            return _Template(say(facts, link=None, code=None), None, None)
        link = f"{self._public_url.rstrip('/')}{links.PATH}{_SOME_TOKEN}" if self._public_url else None
        code = _stand_in(f"{facts!r} {link}")
        return _Template(say(facts, link=link, code=code), link, code)

    def _facts(self, rows: Sequence[store.Row], parts: Mapping[UUID, AlertPart], now: datetime) -> PageFacts:
        first, *others = [self._facts_of(row, parts.get(row["alert_id"]), now) for row in rows]
        return replace(first, others=tuple(others)) if others else first

    def _facts_of(self, row: store.Row, part: AlertPart | None, now: datetime) -> PageFacts:
        said = {name: row[name] for name in ("message_type", "level", "contact_id", "data", "alert_id")}
        if row["message_type"] == links.VERIFICATION_TYPE:
            said["data"] = {**(row["data"] or {}), "code": links.verification_code_of(self._keys, row["id"])}
        return facts_of(
            {**said, "asks": _asks(row)},
            None if part is None else part.facts,
            None if part is None else part.content,
            languages=row["languages"] or (),
            time_zone=row["time_zone"],
            now=now,
            partner_names=self._directories.names,
            answer_by_at=row["answer_by_at"] if _asks(row) else None,
            position_due=row["message_type"] == "level.raised",
            people=self._people(row, now),
        )

    def _people(self, row: store.Row, now: datetime) -> tuple[str, ...]:
        """Who is on duty at an office, for the menu of a call to it."""
        if row["contact_id"] is not None or row["channel"] != ChannelName.VOICE:
            return ()
        return tuple(contact.name for contact in people_on_duty(self._directories.kept(row["partner"]), now))


def _asks(row: store.Row) -> bool:
    """Whether this page wants an answer by a time. One that only informs a partner has no such time; a read-back, which
    is asked for after the answer, has none either.
    """
    return (bool(row["asks"]) and row["answer_by_at"] is not None) or row["message_type"] == READ_BACK_REQUESTED


def _said_once(rows: Sequence[store.Row]) -> list[store.Row]:
    """The pages without those that say again what one before them says: what could not leave for a while meets its own
    repeat, and that is one alert, not two.
    """
    found: dict[tuple[object, ...], store.Row] = {}
    for row in rows:
        said = (row["escalation_id"] or row["id"], row["message_type"], _said_beside(row))
        found.setdefault(said, row)
    return list(found.values())


def _said_beside(row: store.Row) -> str | None:
    """What a page says beside its alert, as one text to compare; None if it says nothing."""
    return store.dump(row["data"]) if row["data"] else None


def _stand_in(said: str) -> str:
    """Four characters that stand for a code and occur nowhere in what is said."""
    candidates = ("".join(letters) for letters in itertools.product(string.ascii_uppercase, repeat=3))
    return next(f"0{letters}" for letters in candidates if f"0{letters}" not in said)


def reply_key_of(keys: KeyRing, channel: ChannelName, point_id: UUID, sealed_address: str) -> bytes | None:
    """By which a reply from this address is found; None where nobody can reply, or the address does not open."""
    if channel not in REPLIED_TO:
        return None
    try:
        return links.reply_key(keys, channel, keys.unseal(sealed_address, context=point_context(point_id)))
    except CannotOpen:
        return None


async def message_of(deps: EscalationDeps, page_id: UUID) -> PersonMessage | None:
    """What one page says to whoever it reaches, as it would be sent now; None if there is no such page to a person."""
    async with deps.intake.transaction() as tx:
        rows = await store.find_message(tx, page_id)
        if not rows or rows[0]["channel"] == ChannelName.WEBHOOK:
            return None
        found = await store.find_content(tx, sorted({row["alert_id"] for row in rows} - {None}))
        persons = Persons(deps.directories, deps.keys, deps.settings.public_url or "")
        # As of now: whoever reads out who is on duty at an office is answered by the same plan.
        await deps.directories.find(tx, sorted({*(facts.raiser for facts, _ in found.values()), rows[0]["partner"]}))
    parts: dict[Any, AlertPart] = {
        alert_id: alert_part(facts, content, deps.settings.public_url or "")
        for alert_id, (facts, content) in found.items()
    }
    return persons.say(rows, parts, deps.clock.now())
