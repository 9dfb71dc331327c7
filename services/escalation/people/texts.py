"""What a page tells a person: approved texts by language, filled in with what handling lets channels say.

The cast
    PageFacts     what is known of one page: its alert, whom it reaches, until when, and what it is about
    say           facts, link and code in; a `PersonMessage` in every form that a channel takes out
    reply_text    what is sent back to a reply; page_texts  what the page behind a link says

The texts themselves are in `wording`, what notices about the roster hold is in `notice_texts`, replies are read in
`reply_words`, and signs are counted in `plain_text`.

The promises: a word in capitals leads every form of a drill. Of an alert at `TLP:RED` or `TLP:AMBER+STRICT` nothing
leaves but precedence, sender, link and code, whatever the message is about. Whatever is missing, there is a message: a
text that one language lacks is said in English, and the message says that it does so. The short form fits three SMS
segments; it gives up the headline first, and never the link, the code or the time. Nothing in here waits or reads.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from functools import cache
from string import Formatter
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from services.escalation.channels import PersonMessage, VoiceScript
from services.escalation.model import AlertFacts
from services.escalation.people import notice_texts
from services.escalation.people.plain_text import (
    FIRST_STRONG,
    LEFT_TO_RIGHT,
    POP,
    RIGHT_TO_LEFT_MARK,
    cut_to,
    fits_sms,
    fitted,
    has_right_to_left,
    one_line,
    paragraphs,
    sentence,
    speakable,
    spelled,
    tidy,
    to_gsm,
)
from services.escalation.people.reply_words import Act, ParsedReply, parse_reply, reply_word
from services.escalation.people.wording import (
    FALLBACK,
    LANGUAGES,
    RIGHT_TO_LEFT,
    Catalogue,
    MissingText,
    catalogue,
    choose_language,
    country_name,
    is_right_to_left,
    own_name,
    partner_name,
    primary,
)
from shared.contracts import Precedence, Status, Tlp

__all__ = [
    "ALERT_TYPES",
    "LANGUAGES",
    "PEOPLE_IN_MENU_MAX",
    "Act",
    "AlertText",
    "Catalogue",
    "Key",
    "OfficeKey",
    "PageFacts",
    "ParsedReply",
    "ReplyText",
    "catalogue",
    "choose_language",
    "country_name",
    "facts_of",
    "instant_text",
    "is_right_to_left",
    "page_texts",
    "paragraphs_of",
    "parse_reply",
    "partner_name",
    "reply_text",
    "reply_word",
    "say",
    "voice_people",
]

DRILL_WORDS: Final = {Status.EXERCISE: "EXERCISE", Status.TEST: "TEST"}
"""Leads every form of a message, in every language. The local word may follow."""

SENDER: Final = "Red Phone"

SUBJECT_CHARACTERS_MAX: Final = 200
"""More than any program shows of a subject; the text has it whole."""

VALUE_CHARACTERS_MAX: Final = 60
"""Of a name that somebody wrote, in an answer by SMS."""

SPOKEN_CHARACTERS_MAX: Final = 900
"""About a minute of speech; whoever needs more has the link."""

SPOKEN_NUMBERS_CHARACTERS_MAX: Final = 1_800
"""The same where several partners have to be called; with script and menu it is what providers speak at once."""

SPOKEN_EMBASSIES_MAX: Final = 3

PEOPLE_IN_MENU_MAX: Final = 8
"""Keys 1 to 8 are people; 9 repeats, 0 is none of them."""


ALERT_TYPES: Final = frozenset({"alert.released", "alert.updated", "code.replaced"})
"""Messages that carry the alert's own words."""


class Key(StrEnum):
    """What the keys of a telephone do during a call to a person."""

    ACKNOWLEDGE = "1"
    REPEAT = "2"
    WRONG_PERSON = "3"


class OfficeKey(StrEnum):
    """The keys of a call to an office, beside 1 to 8, which are people in the order of `PageFacts.people`."""

    REPEAT = "9"
    NOBODY = "0"


class ReplyText(StrEnum):
    """What Red Phone says back to a reply: keys of `[reply]`, with the placeholders in brackets."""

    ACKNOWLEDGED = "acknowledged"  # {what} {by}
    ALL_ACKNOWLEDGED = "all_acknowledged"  # {count} {by}
    TAKEN_OVER = "taken_over"  # {what} {by}
    ALREADY_ANSWERED = "already_answered"  # {what}
    ENDED = "ended"  # {what}
    SUPERSEDED = "superseded"  # {what}
    NOTHING_ASKED = "nothing_asked"  # {what}
    EXPIRED = "expired"
    UNKNOWN_CODE = "unknown_code"
    LOCKED = "locked"
    NAME_NEEDED = "name_needed"  # {word} {code}
    WRONG_PERSON = "wrong_person"
    STOPPED = "stopped"
    QUESTION_SENT = "question_sent"  # {raiser}
    VERIFIED = "verified"
    NOT_UNDERSTOOD = "not_understood"  # {word}
    HELP = "help"  # {word} {all} {wrong} {stop} {ask}
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class AlertText:
    """The alert's own words in one language."""

    language: str
    headline: str
    description: str = ""
    instruction: str = ""
    is_translation: bool = False


@dataclass(frozen=True, slots=True)
class PageFacts:
    """What is known of one page when it is sent.

    `data` is what the page says beside its alert, in the shapes of `messages` (answer, brief, ending) and:
    question.asked {asked: {partner, by, question}}; question.answered {asked: {question, answer}}; read_back.given
    {repeated: {partner, by, read_back}}; coverage.missed {wanted, addressed, answered, within_seconds};
    contact_point.verification {code, valid_until}; contact_point.failing {channel, partner};
    notice.issued {kind, urgent, facts, items}.
    """

    message_type: str
    as_of_at: datetime
    languages: tuple[str, ...] = (FALLBACK,)
    """The reader's, the best first."""
    time_zone: str = "UTC"
    asks: bool = False
    level: int = 0
    is_office: bool = False
    """Nobody in particular is reached: who acknowledges must say their name."""
    people: tuple[str, ...] = ()
    """Who is on duty at that office, for the menu of a call."""
    thread: str = ""
    precedence: Precedence | None = None
    """None for a message about no alert at all."""
    status: Status = Status.ACTUAL
    tlp: Tlp | None = None
    raiser: str = ""
    raiser_name: str = ""
    reference: str = ""
    infos: tuple[AlertText, ...] = ()
    countries: tuple[str, ...] = ()
    """ISO 3166-1 alpha-3 codes of the alert's areas."""
    released_at: datetime | None = None
    answer_by_at: datetime | None = None
    """Until when this page's answer is owed: the acknowledgement, or with `position_due` the position."""
    position_due: bool = False
    partner_names: Mapping[str, str] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    others: tuple[PageFacts, ...] = ()
    """Further pages that this message carries; the code answers all of them."""

    @property
    def is_about_alert(self) -> bool:
        """Whether there is an alert whose handling label binds the message."""
        return self.precedence is not None

    @property
    def is_notice(self) -> bool:
        """Whether it tells of the partner's own roster, or of a draft of its own."""
        return self.message_type == notice_texts.MESSAGE_TYPE and not self.is_about_alert

    @property
    def link_only(self) -> bool:
        """Whether only precedence, sender, link and code may be said: by label, or because no more is known."""
        if not self.is_about_alert:
            return False
        return self.tlp is None or self.tlp.link_only or (not self.infos and self.message_type in ALERT_TYPES)

    @property
    def drill_word(self) -> str | None:
        """What leads every form of this message, if it is a drill."""
        return DRILL_WORDS.get(self.status)


def page_texts(languages: Sequence[str], *, texts: Catalogue | None = None) -> dict[str, str]:
    """Everything that the page behind a link says: keys of `[page]`, besides `language` and `direction`.

    Placeholders in braces are the caller's to fill with `str.format`. A text that the language lacks is in English.
    """
    texts = texts or catalogue()
    language = choose_language(languages)
    keys = [key for key in texts.keys(FALLBACK) if key.startswith("page.")]
    said = {key.removeprefix("page."): texts.find_or_fallback(language, key) for key in keys}
    return {**said, "language": language, "direction": "rtl" if is_right_to_left(language) else "ltr"}


def reply_text(kind: ReplyText, languages: Sequence[str], *, texts: Catalogue | None = None, **values: object) -> str:
    """What is sent back to a reply: one short line that fits an SMS.

    `what` is a reference, and is left out where the label withholds it; `by` a person's name; `raiser` a partner's
    code or name. The reply words that a text shows ({word}, {all}, {wrong}, {stop}, {ask}) need not be given.
    """
    texts = texts or catalogue()
    language = choose_language(languages)
    try:
        template = texts.find(language, f"reply.{kind}")
    except MissingText:
        language, template = FALLBACK, texts.find(FALLBACK, f"reply.{kind}")
    words = {
        "word": reply_word(Act.YES, language, texts=texts),
        **{act.value: reply_word(act, language, texts=texts) for act in Act},
    }
    given = {
        key: cut_to(one_line(str(value)), VALUE_CHARACTERS_MAX)
        for key, value in values.items()
        if value not in (None, "")
    }
    if "by" in given:
        given["by"] = texts.find_or_fallback(language, "line.by").format(value=given["by"])
    if len(given.get("raiser", "")) == 2:
        given["raiser"] = partner_name(given["raiser"], "", language, texts=texts)
    defaults = {
        "what": texts.find_or_fallback(language, "word.the_alert"),
        "by": "",
        "raiser": "",
        "count": "",
        "code": "",
    }
    said = tidy(template.format_map({**defaults, **words, **given}))
    if language in RIGHT_TO_LEFT:
        said = RIGHT_TO_LEFT_MARK + said
    return said if fits_sms(said) else to_gsm(said)


def voice_people(names: Sequence[str], languages: Sequence[str], *, texts: Catalogue | None = None) -> str:
    """The menu of a call to an office: "press 1 if you are …". More than eight are not read out."""
    texts = texts or catalogue()
    language = choose_language(languages)
    each = texts.find_or_fallback(language, "voice.office_person")
    parts = [texts.find_or_fallback(language, "voice.office_menu")]
    parts += [each.format(key=key, name=speakable(name)) for key, name in enumerate(names[:PEOPLE_IN_MENU_MAX], 1)]
    parts.append(texts.find_or_fallback(language, "voice.office_rest"))
    return " ".join(parts)


# --- what is said -----------------------------------------------------------------------------------------------------


def facts_of(
    row: Mapping[str, Any],
    facts: AlertFacts | None,
    content: Mapping[str, Any] | None,
    *,
    languages: Sequence[str],
    time_zone: str | None,
    now: datetime,
    partner_names: Mapping[str, str] | None = None,
    answer_by_at: datetime | None = None,
    position_due: bool = False,
    people: Sequence[str] = (),
    others: Sequence[PageFacts] = (),
) -> PageFacts:
    """What a page row, its alert and its reader come to. `row` has message_type, asks, level, contact_id and data.

    `answer_by_at` is until when the escalation waits for what this page asks. The address in the row is not looked at.
    """
    names = partner_names or {}
    common: dict[str, Any] = {
        "message_type": row["message_type"],
        "as_of_at": now,
        "languages": tuple(languages) or (FALLBACK,),
        "time_zone": time_zone or "UTC",
        "asks": bool(row["asks"]),
        "level": row["level"] or 0,
        "is_office": row["contact_id"] is None,
        "people": tuple(people),
        "partner_names": names,
        "answer_by_at": answer_by_at,
        "position_due": position_due,
        "data": row["data"] or {},
        "others": tuple(others),
    }
    if facts is None:
        if row["alert_id"] is not None:
            # What may be said of an alert is known by its label alone, and that is not known yet.
            common |= {"message_type": "unknown", "data": {}}
        elif row["message_type"] == notice_texts.MESSAGE_TYPE:
            common["status"] = notice_texts.status_of_notice(common["data"])
        return PageFacts(**common, thread=str(row["alert_id"] or row["message_type"]))
    infos = () if content is None else tuple(_alert_text(info) for info in content["info"])
    return PageFacts(
        **common,
        thread=str(facts.root_alert_id),
        precedence=facts.precedence,
        status=facts.status,
        tlp=facts.tlp,
        raiser=facts.raiser,
        raiser_name=names.get(facts.raiser, ""),
        reference=facts.reference,
        infos=infos,
        countries=() if content is None else _countries_of(content["info"]),
        released_at=facts.released_at,
    )


def _alert_text(info: Mapping[str, Any]) -> AlertText:
    return AlertText(
        language=info.get("language", FALLBACK),
        headline=info["headline"],
        description=info.get("description", ""),
        instruction=info.get("instruction", ""),
        is_translation=bool(info.get("is_translation", False)),
    )


def _countries_of(infos: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    codes = [
        value
        for info in infos
        for area in info.get("areas", ())
        for name, value in area.get("geocodes", ())
        if name == "iso3166-1-alpha-3"
    ]
    return tuple(dict.fromkeys(codes))


def say(page: PageFacts, *, link: str | None, code: str | None, texts: Catalogue | None = None) -> PersonMessage:
    """The page in every form that a channel takes. `link` and `code` are None where nothing is asked.

    Never fails over what an alert or a page holds: a time zone that nobody knows is UTC, a message type that nobody
    knows is said in general words, a text that the reader's language lacks is said in English.
    """
    texts = texts or catalogue()
    language = choose_language(page.languages)
    if page.languages and FALLBACK not in map(primary, page.languages) and language == FALLBACK:
        return _Writer(texts, FALLBACK, page, link, code, instead_of=page.languages[0]).message()
    try:
        return _Writer(texts, language, page, link, code).message()
    except MissingText:
        return _Writer(texts, FALLBACK, page, link, code, instead_of=language).message()


def paragraphs_of(page: PageFacts, *, texts: Catalogue | None = None) -> tuple[tuple[str, str], ...]:
    """What `say` says without link and code, as pairs of kind and text, for the page behind a link.

    Kinds are banner, notice, lead, todo, headline, body, facts and foot.
    """
    texts = texts or catalogue()
    try:
        blocks = _Writer(texts, choose_language(page.languages), page, None, None).blocks()
    except MissingText:
        blocks = _Writer(texts, FALLBACK, page, None, None).blocks()
    return tuple((block.kind, block.text) for block in blocks)


def instant_text(at: datetime, page: PageFacts, *, texts: Catalogue | None = None) -> str:
    """An instant in the reader's own zone, as messages write it."""
    return _Writer(texts or catalogue(), choose_language(page.languages), page, None, None).time(at)


@dataclass(frozen=True, slots=True)
class _Block:
    """One paragraph of a message; `kind` says how a mail sets it."""

    kind: str
    text: str


class _Writer:
    """Writes one message in one language."""

    def __init__(
        self,
        texts: Catalogue,
        language: str,
        page: PageFacts,
        link: str | None,
        code: str | None,
        *,
        instead_of: str | None = None,
    ) -> None:
        self._texts, self._language, self._page = texts, language, page
        self._link, self._code = link, code
        self._instead_of = instead_of
        self._items = (page, *page.others)
        self._takes_over = all(item.message_type == "partner.unreached" and not item.link_only for item in self._items)
        unreached = {item.data.get("unreached_partner") for item in self._items}
        self._kind = "_unreached" if self._takes_over and len(unreached) == len(self._items) else ""
        if all(item.is_notice for item in self._items):
            self._kind = "_notices"
        self._is_drill = all(item.drill_word for item in self._items)
        self._zone = _zone(page.time_zone)
        self._info = _info_for(page, language)
        self._known: dict[tuple[int, bool], dict[str, object]] = {}

    def message(self) -> PersonMessage:
        """All forms at once."""
        page = self._page
        blocks = self.blocks()
        precedences = [item.precedence for item in self._items if item.precedence is not None]
        return PersonMessage(
            language=self._language,
            subject=cut_to(self._led(self._subject()), SUBJECT_CHARACTERS_MAX),
            text="\n\n".join(block.text for block in blocks) + "\n",
            html=self._html(blocks),
            short=self._short(),
            voice=self._voice(),
            link=self._link,
            code=self._code,
            thread=page.thread,
            is_urgent=any(one in (Precedence.FLASH, Precedence.IMMEDIATE) for one in precedences)
            or any(item.is_notice and item.data.get("urgent") is True for item in self._items),
            is_drill=self._is_drill,
        )

    # --- the parts ----------------------------------------------------------------------------------------------------

    def _subject(self) -> str:
        if len(self._items) > 1:
            return self._text(f"several.subject{self._kind}", self._page, count=len(self._items))
        return self._text(f"{_message_key(self._texts, self._page)}.subject", self._page)

    def _what(self, *, spoken: bool = False) -> str:
        if len(self._items) > 1:
            return self._text(f"several.what{self._kind}", self._page, spoken=spoken, count=len(self._items))
        return self._text(f"{_message_key(self._texts, self._page)}.what", self._page, spoken=spoken)

    def _todo(self, *, spoken: bool = False) -> str | None:
        if self._kind == "_notices" and len(self._items) > 1:
            return None
        told = [item for item in self._items if not item.link_only and item.answer_by_at is not None]
        # Of several it is the earliest that counts.
        first = (
            min(told, key=lambda item: item.answer_by_at or item.as_of_at)
            if len(self._items) > 1 and told
            else self._page
        )
        key = _todo_key(first)
        return None if key is None else self._text(f"todo.{key}", first, spoken=spoken)

    def blocks(self) -> list[_Block]:
        """The message as paragraphs."""
        page, blocks = self._page, []
        if self._is_drill:
            blocks.append(_Block("banner", f"{page.drill_word} – {self._plain(self._drill_key())}"))
        if self._instead_of is not None:
            missing = own_name(self._texts, self._instead_of)
            blocks.append(_Block("notice", self._plain("line.language_missing", language=missing)))
        blocks.append(_Block("lead", self._what()))
        if (todo := self._todo()) is not None:
            blocks.append(_Block("todo", todo))
        if self._kind == "_notices" and len(self._items) > 1:
            for item in self._items:
                blocks.append(_Block("headline", self._item(item)))
                blocks.append(_Block("body", self._text(f"{_message_key(self._texts, item)}.what", item)))
                blocks += [_Block("body", text) for text in self._notice_lines(item)]
        elif len(self._items) > 1:
            blocks.append(_Block("facts", "\n".join(self._item(item) for item in self._items)))
            for item in self._unreached():
                blocks.append(_Block("headline", self._item(item)))
                blocks += [_Block("body", text) for text in self._takeover_lines(item)]
        elif not page.link_only:
            blocks += self._own_blocks()
        blocks += self._how_blocks()
        blocks.append(_Block("foot", self._plain("line.foot")))
        return blocks

    def _own_blocks(self) -> list[_Block]:
        """What one message says beside its first sentences: never called for one that may say nothing."""
        page, blocks = self._page, []
        if page.asks and page.level > 1 and page.message_type in ALERT_TYPES:
            blocks.append(_Block("body", self._text("line.level", page)))
        blocks += [_Block("body", text) for text in self._data_lines()]
        if self._info is not None and page.message_type in ALERT_TYPES:
            blocks += self._alert_blocks(self._info)
        if page.is_about_alert:
            blocks.append(_Block("facts", "\n".join(self._fact_lines())))
        return blocks

    def _alert_blocks(self, info: AlertText) -> list[_Block]:
        blocks = [_Block("headline", self._isolated_line(_headline(self._page, info)))]
        blocks += [_Block("body", paragraphs(text)) for text in (info.description, info.instruction) if text.strip()]
        if primary(info.language) != self._language:
            name = self._language_name(info.language)
            blocks.append(_Block("notice", self._plain("line.alert_language", language=name)))
        if info.is_translation:
            blocks.append(_Block("notice", self._plain("line.translation")))
        return blocks

    def _fact_lines(self) -> list[str]:
        page = self._page
        lines = [self._text("line.reference", page), self._text("line.raiser", page)]
        if page.countries and page.message_type in ALERT_TYPES:
            named = ", ".join(country_name(code, self._language) for code in page.countries)
            lines.append(self._plain("line.countries", countries=named))
        if page.released_at is not None:
            lines.append(self._plain("line.released", time=self.time(page.released_at)))
        if page.tlp is not None:
            lines.append(self._plain("line.handling", tlp=page.tlp.value))
        return lines

    def _data_lines(self) -> list[str]:
        """What the page's own data adds: the numbers of an office to call, what an answer says, a question's words."""
        page = self._page
        if page.message_type == "partner.unreached":
            return self._takeover_lines(page)
        if page.is_notice:
            return self._notice_lines(page)
        said = _data_of(page)
        lines = [
            self._plain(f"line.{key}", value=self._said(key, said[key]))
            for key in ("by", "answer_by", "estimated_arrival")
            if said.get(key)
        ]
        written = {key: said.get(key) for key in ("offer", "note", "question", "answer", "read_back")}
        lines += [
            self._plain(f"line.{key}", value=one_line(value))
            for key, value in written.items()
            if isinstance(value, str) and value.strip()
        ]
        return lines

    def _said(self, key: str, value: object) -> str:
        at = _instant(value) if key in _INSTANTS else None
        return one_line(str(value)) if at is None else self.time(at)

    def _unreached(self) -> list[PageFacts]:
        """Those of several whose partners have to be called: each with its own numbers and words."""
        return [item for item in self._items if item.message_type == "partner.unreached" and not item.link_only]

    def _takeover_lines(self, page: PageFacts) -> list[str]:
        lines = []
        office = _mapped(page.data.get("office"))
        numbers = []
        if office.get("switchboard"):
            numbers.append(
                self._plain("line.switchboard", office=office.get("name") or "", number=office["switchboard"])
            )
        for embassy in map(_mapped, _listed(office.get("embassies"))):
            where = self._partner(embassy.get("partner") or "")
            numbers.append(self._plain("line.embassy", partner=where, number=embassy.get("number") or ""))
        lines.append("\n".join(numbers) if numbers else self._plain("line.no_numbers"))
        lines.append(self._plain("line.script") + "\n" + self._text("script.text", page))
        if self._language != FALLBACK:
            english = _Writer(self._texts, FALLBACK, page, None, None)
            lines.append(self._plain("line.script_english") + "\n" + english._text("script.text", page))
        return lines

    def _how_blocks(self) -> list[_Block]:
        if self._link is None and self._code is None:
            return []
        blocks = []
        if self._code is not None:
            word = reply_word(Act.YES, self._language, texts=self._texts)
            key = "line.how_office" if self._page.is_office else "line.how"
            if len(self._items) > 1:
                blocks.append(_Block("how", self._plain(f"line.how_all{self._verb()}")))
            if self._link is not None:
                blocks.append(_Block("how", self._plain(f"line.how_link{self._verb()}", code=self._code)))
                blocks.append(_Block("link", self._link))
            blocks.append(_Block("how", self._plain(key, word=word, code=self._code)))
        elif self._link is not None:
            blocks += [_Block("how", self._plain("line.open")), _Block("link", self._link)]
        return blocks

    def _item(self, item: PageFacts) -> str:
        """One alert of several on one line, as far as its own label allows."""
        lead = f"{item.drill_word} " if item.drill_word else ""
        if item.link_only or item.message_type not in ALERT_TYPES:
            return lead + self._text(f"{_message_key(self._texts, item)}.subject", item)
        key = "line.item" if item.answer_by_at is None else "line.item_by"
        return lead + self._text(key, item)

    # --- short --------------------------------------------------------------------------------------------------------

    def _short(self) -> str:
        tail = []
        todo = self._todo()
        if todo is not None:
            tail.append(todo)
        if self._page.message_type == "partner.unreached" and not self._page.link_only and len(self._items) == 1:
            tail += filter(None, [_switchboard(self._page)])
        if self._code is not None:
            word = reply_word(Act.YES, self._language, texts=self._texts)
            key = "line.short_office" if self._page.is_office else "line.short"
            tail.append(self._plain(key, word=word, code=self._code))
        if self._link is not None:
            tail.append(self._link)
        if len(self._items) > 1:
            return self._short_list(tail)
        return self._fitted(self._subject(), tail)

    def _short_list(self, tail: Sequence[str]) -> str:
        """All alerts with their headlines; where that is too long with their references; at last only how many."""
        head = self._led(self._subject())
        numbers = [self._number_line(item) for item in self._unreached()]
        whole = [f"{self._item(item)} {_switchboard(item)}".rstrip() for item in self._items]
        names = dict.fromkeys(item.reference for item in self._items if not item.link_only)
        withheld = [self._item(item) for item in self._items if item.link_only]
        for listed in (whole, [*withheld, *numbers, ", ".join(names)]):
            for fold in (str, to_gsm):
                text = fold("\n".join(filter(None, (head, *listed, *tail))))
                if fits_sms(text):
                    return text
        return self._fitted(self._subject(), tail)

    def _number_line(self, item: PageFacts) -> str:
        return f"{self._partner_of(item)} {_switchboard(item)}".rstrip()

    def _partner_of(self, item: PageFacts) -> str:
        """The partner that one of several takeovers is about."""
        return self._partner(str(item.data.get("unreached_partner") or ""))

    def _fitted(self, subject: str, tail: Sequence[str]) -> str:
        least = self._led(self._page.precedence.value if self._page.precedence else SENDER)
        return fitted(self._led(subject), tail, least=least)

    # --- spoken -------------------------------------------------------------------------------------------------------

    def _voice(self) -> VoiceScript:
        page = self._page
        parts = [self._plain("voice.greeting")]
        if self._is_drill:
            parts.insert(0, f"{page.drill_word}. {self._plain(self._drill_key())}")
        if self._instead_of is not None:
            parts.append(self._plain("line.language_missing", language=own_name(self._texts, self._instead_of)))
        parts.append(self._what(spoken=True))
        parts += self._spoken_items() if len(self._items) > 1 else self._spoken_own()
        if (todo := self._todo(spoken=True)) is not None:
            parts.append(todo)
        # A call can take no name: at an office it acknowledges only where it can offer names.
        names_lack = page.is_office and not page.people
        can_acknowledge = self._code is not None and not names_lack and not any(item.link_only for item in self._items)
        return VoiceScript(
            language=self._texts.find(self._language, "about.voice"),
            alert=" ".join(sentence(part) for part in parts if part.strip()),
            menu=self._menu(can_acknowledge=can_acknowledge),
            acknowledged=self._plain(f"voice.acknowledged{self._verb()}"),
            wrong_person=self._plain("voice.wrong_person"),
            not_understood=self._plain("voice.not_understood"),
            goodbye=self._plain("voice.goodbye"),
            can_acknowledge=can_acknowledge,
            repeat_key=(
                OfficeKey.REPEAT if can_acknowledge and self._page.is_office and self._page.people else Key.REPEAT
            ),
        )

    def _menu(self, *, can_acknowledge: bool) -> str:
        if not can_acknowledge:
            return self._plain("voice.menu_listen" if self._code is None else "voice.menu_log_in")
        if self._page.is_office and self._page.people:
            return voice_people(self._page.people, (self._language,), texts=self._texts)
        return self._plain(f"voice.menu{self._verb()}")

    def _spoken_items(self) -> list[str]:
        said: list[str] = []
        unreached = self._unreached()
        # Whoever has to call hears every number, as far as a provider speaks so much at once.
        room = SPOKEN_NUMBERS_CHARACTERS_MAX if unreached else SPOKEN_CHARACTERS_MAX
        for number, item in enumerate(self._items):
            lead = f"{item.drill_word}. " if item.drill_word else ""
            told = item.message_type in ALERT_TYPES and not item.link_only
            key = "voice.item" if told else f"{_message_key(self._texts, item)}.what"
            by_name = self._kind == "_unreached"
            text = lead + (self._partner_of(item) if by_name else self._text(key, item, spoken=True))
            room -= len(text)
            if room < 0 and said:
                said.append(self._plain("voice.more", count=len(self._items) - number))
                break
            said.append(text)
            if item.message_type == "partner.unreached" and not item.link_only:
                numbers = self._spoken_numbers(item)
                room -= sum(map(len, numbers))
                said += numbers
        if unreached:
            # In one call there is time for the words to one of them; the others differ by the partner's name.
            said += self._spoken_script(unreached[0])
        return said

    def _spoken_numbers(self, item: PageFacts) -> list[str]:
        parts = []
        office = _mapped(item.data.get("office"))
        if office.get("switchboard"):
            parts.append(self._plain("voice.switchboard", number=self._spoken_number(office["switchboard"])))
        for embassy in map(_mapped, _listed(office.get("embassies"))[:SPOKEN_EMBASSIES_MAX]):
            where, number = self._partner(embassy.get("partner") or ""), str(embassy.get("number") or "")
            parts.append(self._plain("voice.embassy", partner=where, number=self._spoken_number(number)))
        return parts

    def _spoken_script(self, item: PageFacts) -> list[str]:
        return [self._plain("voice.script"), self._text("script.text", item, spoken=True)]

    def _spoken_own(self) -> list[str]:
        page = self._page
        if page.link_only:
            return []
        parts = []
        if self._info is not None and page.message_type in ALERT_TYPES:
            parts += [speakable(_headline(page, self._info)), speakable(self._info.instruction)]
            room = SPOKEN_CHARACTERS_MAX - sum(map(len, parts))
            parts.insert(1, cut_to(speakable(self._info.description), room))
            parts[2] = cut_to(parts[2], SPOKEN_CHARACTERS_MAX)
        if page.message_type == "partner.unreached":
            parts += self._spoken_numbers(page) + self._spoken_script(page)
        if page.is_notice:
            return parts + self._notice_sentences(page, spoken=True)
        said = _data_of(page)
        parts += [
            cut_to(speakable(str(said[key])), 400) for key in ("question", "answer", "read_back") if said.get(key)
        ]
        return parts

    # --- filling in ---------------------------------------------------------------------------------------------------

    def _text(self, key: str, item: PageFacts, *, spoken: bool = False, **more: object) -> str:
        """A text with what is known of one alert. What a label withholds is never looked up, because the texts that
        stand for it ask for precedence and sender alone.
        """
        template = self._texts.find(self._language, key)
        known = self._known.get((id(item), spoken))
        if known is None:
            known = self._known[id(item), spoken] = self._values(item, spoken=spoken)
        return self._fill(template, {**known, **more}, spoken)

    def _plain(self, key: str, **values: object) -> str:
        return self._fill(self._texts.find(self._language, key), values, key.startswith("voice."))

    def _fill(self, template: str, values: Mapping[str, object], spoken: bool) -> str:
        try:
            wanted = {key: str(values[key]) for key in _fields_of(template)}
        except (KeyError, ValueError) as error:
            raise MissingText(f"{template!r} asks for {error}") from error
        if not spoken and self._language in RIGHT_TO_LEFT:
            wanted = {key: self._isolated(key, value) for key, value in wanted.items()}
        text = template.format_map(wanted)
        return text if all(wanted.values()) else tidy(text)

    def _isolated(self, key: str, value: str) -> str:
        # In a right-to-left line a reference or a time would be shown back to front. Code and link stay bare: people
        # copy them, and programs that find links take the invisible marks for a part of them.
        if self._language not in RIGHT_TO_LEFT or key in ("code", "word") or not value or value.isdecimal():
            return value
        mark = FIRST_STRONG if has_right_to_left(value) else LEFT_TO_RIGHT
        return f"{mark}{value}{POP}"

    def _isolated_line(self, value: str) -> str:
        return self._isolated("headline", value)

    def _values(self, item: PageFacts, *, spoken: bool) -> dict[str, object]:
        """What texts may ask for. With a label that withholds the alert there is nothing but precedence and sender."""
        values: dict[str, object] = {
            "precedence": "" if item.precedence is None else item.precedence.value,
            "raiser": self._partner(item.raiser, item.raiser_name),
        }
        if item.link_only:
            return values
        info = _info_for(item, self._language)
        data = _data_of(item)
        headline = "" if info is None else _headline(item, info)
        partner = data.get("partner") or data.get("unreached_partner") or data.get("partner_without_duty") or ""
        values |= {
            "reference": spelled(item.reference) if spoken else item.reference,
            "headline": speakable(headline) if spoken else headline,
            "level": item.level,
            "partner": self._partner(str(partner)),
            "by": one_line(str(data.get("by") or "")),
            "deadline": "" if item.answer_by_at is None else self.time(item.answer_by_at, spoken=spoken),
        }
        for key in _INSTANTS:
            at = _instant(data.get(key))
            values[key] = "" if at is None else self.time(at, spoken=spoken)
        for key in ("levels_tried", "attempts", "wanted", "addressed", "answered", "channel"):
            values[key] = one_line(str(data.get(key, "")))
        within_seconds = data.get("within_seconds")
        values["minutes"] = within_seconds // 60 if isinstance(within_seconds, int) else ""
        values["partners"] = ", ".join(self._partner(str(code)) for code in _listed(data.get("never_paged")))
        if item.is_notice:
            values |= self._notice_values(item, spoken=spoken)
        code = one_line(str(data.get("code") or ""))
        values["verification_code"] = " ".join(code) if spoken else code
        return values

    def _partner(self, code: str, given: str = "") -> str:
        given = one_line(given or self._page.partner_names.get(code, ""))
        return partner_name(code, given, self._language, texts=self._texts)

    # --- notices about the roster -------------------------------------------------------------------------------------

    def _notice_values(self, item: PageFacts, *, spoken: bool) -> dict[str, object]:
        """The facts of a notice as its texts show them; those that it does not have are empty."""
        facts = notice_texts.facts_of_notice(item.data)
        values: dict[str, object] = {
            name: self._fact(name, facts.get(name, ""), spoken=spoken) for name in notice_texts.fact_names()
        }
        named = notice_texts.named(facts)
        values["named"] = self._fact("endpoint", named, spoken=spoken) if named else values["what"]
        return values

    def _fact(self, name: str, value: str, *, spoken: bool = False) -> str:
        kind = notice_texts.kind_of(name)
        if kind is notice_texts.FactKind.INSTANT:
            at = notice_texts.parsed(value)
            return "" if at is None else self.when(at, spoken=spoken)
        if kind is notice_texts.FactKind.PARTNER:
            said = self._partner(value)
        elif kind is notice_texts.FactKind.CODE:
            said = self._code_text(name, value)
        else:
            said = value
        said = cut_to(one_line(said), notice_texts.FACT_CHARACTERS_MAX)
        return speakable(said) if spoken else said

    def _code_text(self, table: str, code: str) -> str:
        """A code in words; one that there are none for as it stands."""
        if "." not in code and self._texts.has(f"{table}.{code}"):
            return self._texts.find_or_fallback(self._language, f"{table}.{code}")
        return code.replace("_", " ")

    def _notice_sentences(self, page: PageFacts, *, spoken: bool = False) -> list[str]:
        """What a notice says beside its first sentence, where it has the facts for it."""
        wanted = notice_texts.sentences_of(page.data)
        return [self._text(f"notice.{name}", page, spoken=spoken) for name in wanted]

    def _notice_lines(self, page: PageFacts) -> list[str]:
        lines = self._notice_sentences(page)
        if notice_texts.text_key(page.data) == "notice_other":
            return lines
        items = notice_texts.items_of_notice(page.data)
        listed = [f"- {self._notice_item(item)}" for item in items[: notice_texts.ITEMS_SHOWN_MAX]]
        if len(items) > notice_texts.ITEMS_SHOWN_MAX:
            listed.append(self._plain("notice.more", count=len(items) - notice_texts.ITEMS_SHOWN_MAX))
        return [*lines, "\n".join(listed)] if listed else lines

    def _notice_item(self, item: Mapping[str, str]) -> str:
        """One finding of a digest: what it is, whether it is new or worse, and where and when."""
        said = self._code_text("finding", item.get("code", ""))
        if (news := item.get("new")) in ("new", "worse"):
            said = f"{said} ({self._plain(f'notice.{news}')})"
        about = [
            self._isolated(name, self._fact(name, item[name]))
            for name in ("rota", "contact", "endpoint")
            if item.get(name)
        ]
        begins_at, ends_at = (self._fact(name, item.get(name, "")) for name in ("begins_at", "ends_at"))
        if begins_at and ends_at:
            about.append(self._plain("notice.span", begins_at=begins_at, ends_at=ends_at))
        elif begins_at or ends_at:
            about.append(self._isolated("begins_at", begins_at or ends_at))
        return f"{said}: {', '.join(about)}" if about else said

    def when(self, at: datetime, *, spoken: bool = False) -> str:
        """An instant that may be days away: with weekday and day, in the reader's own zone."""
        local = at.astimezone(self._zone)
        weekday = self._texts.items(self._language, "about.weekdays")[local.weekday()]
        if spoken:
            hour = self._texts.find(self._language, "voice.time").format(hour=local.hour, minute=f"{local:%M}")
        elif local.utcoffset() == at.astimezone(UTC).utcoffset():
            hour = f"{local:%H:%M} UTC"
        else:
            universal = at.astimezone(UTC)
            day = "" if universal.date() == local.date() else self._day(universal) + " "
            hour = f"{local:%H:%M} ({day}{universal:%H:%M} UTC)"
        template = self._texts.find(self._language, "about.when")
        return template.format(weekday=weekday, day=self._day(local), time=hour)

    def _language_name(self, tag: str) -> str:
        try:
            return self._texts.find(self._language, f"languages.{primary(tag)}")
        except MissingText:
            return own_name(self._texts, tag)

    def _verb(self) -> str:
        """Which texts say what the code does: it acknowledges, or takes an unreached partner over."""
        return "_take_over" if self._takes_over else ""

    def _drill_key(self) -> str:
        return "line.drill" if self._page.status is Status.EXERCISE else "line.test"

    def _led(self, text: str) -> str:
        return f"{self._page.drill_word} {text}" if self._is_drill else text

    def time(self, at: datetime, *, spoken: bool = False) -> str:
        """An instant in the reader's own zone, with UTC beside it where text has room for it; with the day where it is
        not the day of the message.
        """
        local, universal = at.astimezone(self._zone), at.astimezone(UTC)
        if spoken:
            return self._spoken_time(local)
        today = self._page.as_of_at.astimezone(self._zone).date()
        day = "" if local.date() == today else self._day(local) + " "
        if local.utcoffset() == universal.utcoffset():
            return f"{day}{local:%H:%M} UTC"
        universal_day = "" if universal.date() == local.date() else self._day(universal) + " "
        return f"{day}{local:%H:%M} ({universal_day}{universal:%H:%M} UTC)"

    def _day(self, at: datetime) -> str:
        months = self._texts.items(self._language, "about.months")
        return self._texts.find(self._language, "about.day").format(day=at.day, month=months[at.month - 1])

    def _spoken_time(self, local: datetime) -> str:
        said = self._texts.find(self._language, "voice.time").format(hour=local.hour, minute=f"{local:%M}")
        if local.date() == self._page.as_of_at.astimezone(self._zone).date():
            return said
        return f"{self._day(local)}, {said}"

    def _spoken_number(self, number: str) -> str:
        plus = self._texts.find(self._language, "voice.plus")
        said = [plus if sign == "+" else sign for sign in number if sign == "+" or sign.isalnum()]
        return " ".join(said)

    # --- html ---------------------------------------------------------------------------------------------------------

    def _html(self, blocks: Sequence[_Block]) -> str:
        button = self._plain(f"line.button{self._verb()}" if self._code is not None else "line.button_open")
        rows = "".join(_row_of(block, button) for block in blocks)
        direction = "rtl" if self._language in RIGHT_TO_LEFT else "ltr"
        return _HTML.format(
            language=self._language,
            direction=direction,
            align="right" if direction == "rtl" else "left",
            subject=html.escape(self._led(self._subject())),
            rows=rows,
        )


_INSTANTS: Final = ("ended_at", "unreached_at", "at", "answer_by", "estimated_arrival", "valid_until")
_STYLES: Final = {
    "banner": "padding:12px 16px;background-color:#7a4b00;color:#ffffff;font-weight:bold;font-size:18px;",
    "lead": "padding:16px 16px 4px;font-size:18px;font-weight:bold;",
    "todo": "padding:4px 16px 8px;font-size:18px;font-weight:bold;",
    "headline": "padding:12px 16px 4px;font-size:17px;font-weight:bold;border-top:1px solid #888888;",
    "body": "padding:6px 16px;",
    "notice": "padding:6px 16px;font-style:italic;",
    "facts": "padding:12px 16px;border-top:1px solid #888888;font-size:14px;",
    "how": "padding:6px 16px;",
    "link": "padding:8px 16px 12px;",
    "foot": "padding:12px 16px 16px;border-top:1px solid #888888;font-size:12px;",
}
"""Colours are set where both of a pair are: elsewhere the reader's own, light or dark, are kept."""

_HTML: Final = """<!DOCTYPE html>
<html lang="{language}" dir="{direction}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="supported-color-schemes" content="light dark">
<title>{subject}</title>
</head>
<body style="margin:0;padding:8px;">
<table role="presentation" dir="{direction}" align="center" cellpadding="0" cellspacing="0" \
style="width:100%;max-width:600px;margin:0 auto;border:1px solid #888888;border-collapse:collapse;\
font-family:Arial,Helvetica,sans-serif;font-size:16px;line-height:1.45;text-align:{align};">
{rows}</table>
</body>
</html>
"""

_BUTTON: Final = (
    '<a href="{link}" style="display:inline-block;padding:12px 20px;background-color:#b00020;color:#ffffff;'
    'font-weight:bold;text-decoration:none;border-radius:4px;">{label}</a>'
)


def _row_of(block: _Block, button: str) -> str:
    if block.kind == "link":
        inner = _BUTTON.format(link=html.escape(block.text), label=html.escape(button))
    else:
        inner = html.escape(block.text).replace("\n", "<br>\n")
    own = ' dir="auto"' if block.kind in ("headline", "body") else ""
    return f'<tr><td{own} style="{_STYLES[block.kind]}">{inner}</td></tr>\n'


@cache
def _fields_of(template: str) -> tuple[str, ...]:
    """The placeholders of a text. Texts are ours, so there are few."""
    return tuple(name for _, name, _, _ in Formatter().parse(template) if name)


def _message_key(texts: Catalogue, page: PageFacts) -> str:
    """Which texts a page is told in."""
    if page.link_only:
        return "message.link_only"
    key = page.message_type.replace(".", "_").replace("-", "_")
    data = page.data
    if page.position_due and not data.get("partner_without_duty"):
        key = "position_due"
    elif key == "alert_ended":
        key = "alert_never_paged" if data.get("never_paged") else f"alert_ended_{data.get('reason')}"
    elif key == "answer_received":
        key = f"answer_{_data_of(page).get('state')}"
    elif key == "level_raised" and data.get("partner_without_duty"):
        key = "partner_without_duty"
    elif page.is_notice:
        key = notice_texts.text_key(data)
    elif not page.is_about_alert and key not in _ABOUT_NO_ALERT:
        key = "other"
    found = f"message.{key}"
    return found if texts.has(f"{found}.subject") else "message.other"


_ABOUT_NO_ALERT: Final = frozenset({"contact_point_verification", "contact_point_failing", "test_ping", "other"})


def _todo_key(page: PageFacts) -> str | None:
    """What the reader is asked to do."""
    if page.link_only or page.is_notice:
        return None if page.link_only else notice_texts.todo_key(page.data)
    simple = {
        "question.asked": "answer_question",
        "read_back.requested": "read_back",
        "read_back.given": "confirm_read_back",
        "contact_point.verification": "verify",
        "partner.unreached": "take_over",
    }
    if page.message_type in simple:
        return simple[page.message_type]
    if not page.asks:
        return "nothing" if page.message_type in ("alert.released", "alert.updated", "test.ping") else None
    if page.position_due:
        return "position_at_once" if page.answer_by_at is None else "position"
    if page.answer_by_at is None:
        return "acknowledge_at_once"
    return "acknowledge" if page.as_of_at < page.answer_by_at else "acknowledge_late"


def _switchboard(page: PageFacts) -> str:
    """The number of the unreached office, as a short text has room for it."""
    return "" if page.link_only else one_line(str(_mapped(page.data.get("office")).get("switchboard") or ""))[:40]


def _data_of(page: PageFacts) -> Mapping[str, Any]:
    nested = (page.data.get(key) for key in ("answer", "asked", "repeated"))
    return next((said for said in nested if isinstance(said, Mapping)), page.data)


def _mapped(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _listed(value: object) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) else ()


def _info_for(page: PageFacts, language: str) -> AlertText | None:
    """The alert's words: in the message's own language, else one that the reader also reads, else English, else the
    first.
    """
    for wanted in (language, *map(primary, page.languages), FALLBACK):
        for info in page.infos:
            if primary(info.language) == wanted:
                return info
    return page.infos[0] if page.infos else None


def _headline(page: PageFacts, info: AlertText) -> str:
    """The headline on one line. The word of a drill leads the whole message, so it is not said again here."""
    headline = one_line(info.headline)
    word = page.drill_word
    if word and headline.upper().startswith(word):
        headline = headline[len(word) :].lstrip(" :.,-–—") or headline
    return headline


def _zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return ZoneInfo("UTC")


def _instant(value: object) -> datetime | None:
    if not isinstance(value, str):
        return value if isinstance(value, datetime) else None
    try:
        at = datetime.fromisoformat(value)
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)
