"""What a person writes back: the words of every language for what can be said in a reply, and how a reply is read.

A reply is a word, the code of the message that it answers, and perhaps a name or a question: "YES 4821 Anna Example".
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from typing import Final

from services.escalation.people.wording import FALLBACK, LANGUAGES, Catalogue, MissingText, catalogue, primary

REPLY_CHARACTERS_MAX: Final = 4000
REPLY_LINES_MAX: Final = 3
"""The answer stands in one of the first lines that say anything; below them are signatures and quotations."""

REST_CHARACTERS_MAX: Final = 1000


class Act(StrEnum):
    """What a person can say in a reply."""

    YES = "yes"
    ALL = "all"
    WRONG = "wrong"
    STOP = "stop"
    HELP = "help"
    ASK = "ask"


@dataclass(frozen=True, slots=True)
class ParsedReply:
    """`code` is ASCII digits, None if there was none; `rest` a name or a question as it was written, perhaps empty."""

    act: Act
    code: str | None
    rest: str = ""


def reply_word(act: Act, language: str, *, texts: Catalogue | None = None) -> str:
    """The word that messages in this language name for an act."""
    texts = texts or catalogue()
    for code in (primary(language), FALLBACK):
        try:
            return texts.items(code, f"words.{act.value}")[0].upper()
        except MissingText:
            continue
    return act.value.upper()


CODE_DIGITS: Final = 4
_DIGITS_MAX: Final = 8
_QUOTED: Final = re.compile(r"^\s*(>|\||-{2,}|_{5,}|\*{3,}|(from|von|de|da|من)\s*:)", re.IGNORECASE)
"""What begins a quotation or a signature: marks, a drawn line, or the header of the mail that is answered."""

_TOKEN: Final = re.compile("(?:[^\\W\\d_][\u0610-\u061a\u064b-\u065f\u0670]*)+|\\d+")
"""Letters, with the vowel marks that Arabic may carry, or digits: "YES4821" is two."""


@dataclass(frozen=True, slots=True)
class _Token:
    word: str
    start: int
    end: int


def parse_reply(text: str, *, texts: Catalogue | None = None) -> ParsedReply | None:
    """What a person wrote back, whatever language it is in: an act, a code before or after it, and the rest.

    A line that is nothing but a code says yes. None for everything that is no reply at all. Quoted mail below the
    answer is not read. Never fails, whatever it is given.
    """
    lines = _own_lines(text)
    for number, line in enumerate(lines[:REPLY_LINES_MAX]):
        parsed = _parse_line(line, _phrases(texts or catalogue()))
        if parsed is not None:
            rest = parsed.rest
            if parsed.act is Act.ASK:
                rest = " ".join(filter(None, (rest, *lines[number + 1 :])))
            return ParsedReply(parsed.act, parsed.code, rest[:REST_CHARACTERS_MAX].strip())
    return None


def _own_lines(text: str) -> list[str]:
    """The lines that the sender wrote: up to the first quoted line or signature mark."""
    clean = unicodedata.normalize("NFKC", text[:REPLY_CHARACTERS_MAX])
    kept = "".join(
        _ascii_digit(sign) for sign in clean if sign == "\n" or unicodedata.category(sign) not in ("Cf", "Cc", "Cs")
    )
    lines: list[str] = []
    for line in kept.split("\n"):
        if _QUOTED.match(line):
            # "On Sunday Red Phone wrote:" belongs to what it announces.
            return lines[:-1] if lines and lines[-1].endswith(":") else lines
        if line.strip():
            lines.append(" ".join(line.split()))
    return lines


def _ascii_digit(sign: str) -> str:
    value = unicodedata.decimal(sign, None)
    return sign if value is None else str(value)


_ARABIC_VARIANTS: Final = {0x0649: "\u064a", 0x0629: "\u0647", 0x0640: None}
"""Alef maksura is written for yeh, teh marbuta for heh, and the tatweel only stretches a word."""


def _plain_word(word: str) -> str:
    """A word without case, accents and vowel marks; Arabic letters that people write in two ways as one."""
    parts = unicodedata.normalize("NFD", word.casefold())
    bare = "".join(sign for sign in parts if not unicodedata.combining(sign))
    return bare.translate(_ARABIC_VARIANTS)


@cache
def _phrases(texts: Catalogue) -> dict[tuple[str, ...], Act]:
    """Every phrase of every language, as plain words."""
    found: dict[tuple[str, ...], Act] = {}
    for language in LANGUAGES:
        for act in Act:
            try:
                phrases = texts.items(language, f"words.{act.value}")
            except MissingText:
                continue
            for phrase in phrases:
                if words := tuple(
                    _plain_word(token) for token in _TOKEN.findall(unicodedata.normalize("NFKC", phrase))
                ):
                    found.setdefault(words, act)
    return found


def _parse_line(line: str, phrases: Mapping[tuple[str, ...], Act]) -> ParsedReply | None:
    tokens = [_Token(_plain_word(match[0]), match.start(), match.end()) for match in _TOKEN.finditer(line)]
    if not tokens:
        return ParsedReply(Act.HELP, None) if line.strip("؟? ") == "" and line.strip() else None
    code, used = _leading_code(tokens, 0)
    act, words = _act_at(tokens, used, phrases)
    if act is None:
        # A code alone is an answer; a code with words that mean nothing to us is not.
        return ParsedReply(Act.YES, code) if code is not None and used == len(tokens) else None
    used += words
    if code is None:
        code, digits = _leading_code(tokens, used)
        used += digits
    rest_from = tokens[used - 1].end
    return ParsedReply(act, code, line[rest_from:].strip(" .,;:!-–—\"'()[]،؛"))


def _leading_code(tokens: Sequence[_Token], at: int) -> tuple[str | None, int]:
    """The code that begins at a token, and how many tokens it takes: "48 21" is one code, "4821" too."""
    digits = ""
    for count, token in enumerate(tokens[at:], 1):
        if not token.word.isascii() or not token.word.isdecimal() or len(digits + token.word) > _DIGITS_MAX:
            break
        digits += token.word
        if len(digits) >= CODE_DIGITS:
            return digits, count
    return None, 0


def _act_at(tokens: Sequence[_Token], at: int, phrases: Mapping[tuple[str, ...], Act]) -> tuple[Act | None, int]:
    """The longest phrase that begins at a token."""
    for length in range(min(4, len(tokens) - at), 0, -1):
        act = phrases.get(tuple(token.word for token in tokens[at : at + length]))
        if act is not None:
            return act, length
    return None, 0
