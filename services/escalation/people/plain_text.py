"""Text for people and their devices: cleaned of signs that mislead, isolated, spelled for a voice, fitted to an SMS.

Nothing in here knows what a text is about.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Final

RIGHT_TO_LEFT_MARK: Final = "\u200f"
"""Makes a line that begins with a Latin name a right-to-left one."""

FIRST_STRONG: Final = "\u2068"
LEFT_TO_RIGHT: Final = "\u2066"
POP: Final = "\u2069"
"""Unicode's isolates: what stands between does not change the order of what surrounds it."""

SMS_SEGMENTS_MAX: Final = 3
GSM_UNITS_MAX: Final = 153 * SMS_SEGMENTS_MAX
UCS2_UNITS_MAX: Final = 67 * SMS_SEGMENTS_MAX
"""A long SMS loses some room of each segment to the header that joins them: 160 septets to 153, 70 characters to 67
(3GPP TS 23.040, 9.2.3.24.1)."""

TEXTS_KEPT_MAX: Final = 512
"""One alert's words go to hundreds of people: they are cleaned once."""


_UNSEEN: Final = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]"
)
"""Control characters, and those that reorder what surrounds them: in an alert's own words they could only mislead."""


@lru_cache(maxsize=TEXTS_KEPT_MAX)
def paragraphs(text: str) -> str:
    """Text of others in its own lines, without empty ones and without signs that reorder it."""
    lines = (" ".join(_UNSEEN.sub(" ", line).split()) for line in text.replace("\r\n", "\n").split("\n"))
    return "\n".join(line for line in lines if line)


@lru_cache(maxsize=TEXTS_KEPT_MAX)
def one_line(text: str) -> str:
    """Text of others on one line: nothing in it starts a new line or turns the order of signs round."""
    return " ".join(_UNSEEN.sub(" ", text).split())


def tidy(text: str) -> str:
    """A filled-in text without the blanks that an empty value leaves behind."""
    return " ".join(text.replace(" .", ".").replace(" ,", ",").split(" ")).strip()


def cut_to(text: str, length: int, *, mark: str = "...") -> str:
    """The text, cut between words to at most so many characters."""
    if len(text) <= length:
        return text
    room = length - len(mark)
    if room <= 0:
        return ""
    cut = text[:room]
    if not text[room].isspace() and " " in cut:
        cut = cut[: cut.rindex(" ")]
    opened = cut.count(FIRST_STRONG) + cut.count(LEFT_TO_RIGHT) - cut.count(POP)
    return cut.rstrip(" ,;:-–") + mark + POP * opened


def has_right_to_left(text: str) -> bool:
    """Whether anything in the text is written from right to left."""
    return any(unicodedata.bidirectional(sign) in ("R", "AL") for sign in text)


def sentence(text: str) -> str:
    """The text with a full stop, if it has no end of its own."""
    text = text.strip()
    return text if text.endswith((".", "!", "?", "؟")) else f"{text}."


@lru_cache(maxsize=TEXTS_KEPT_MAX)
def speakable(text: str) -> str:
    """Text as a voice reads it: letters, digits and the signs that make pauses."""
    kept = (
        sign if sign.isalnum() or sign in ".,;:?!'’-؟،" or unicodedata.combining(sign) else " "
        for sign in one_line(text)
    )
    return " ".join("".join(kept).split())


@lru_cache(maxsize=TEXTS_KEPT_MAX)
def spelled(reference: str) -> str:
    """`R P, C A, 2 0 2 6, 0 0 4 2`: sign by sign, with a pause where the reference has a dash."""
    return ", ".join(" ".join(part) for part in reference.split("-") if part)


_GSM_BASIC: Final = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿"
    "abcdefghijklmnopqrstuvwxyzäöñüà"
)
_GSM_EXTENDED: Final = frozenset("^{}\\[~]|€\f")
_GSM: Final = _GSM_BASIC | _GSM_EXTENDED
"""The default alphabet of 3GPP TS 23.038, 6.2.1, and its extension, whose characters take two units."""

_TYPOGRAPHY: Final = str.maketrans(
    {
        "’": "'",
        "\u2018": "'",
        "“": '"',
        "”": '"',
        "„": '"',
        "«": '"',
        "»": '"',
        "–": "-",
        "—": "-",
        "…": "...",
        "\u00a0": " ",
    }
)


@lru_cache(maxsize=TEXTS_KEPT_MAX)
def to_gsm(text: str) -> str:
    """The text in the SMS alphabet as far as letters without their accents and plain quotation marks make that."""
    text = text.translate(_TYPOGRAPHY)
    kept = []
    for sign in text:
        if sign in _GSM_BASIC or sign in _GSM_EXTENDED:
            kept.append(sign)
        else:
            plain = "".join(one for one in unicodedata.normalize("NFKD", sign) if not unicodedata.combining(one))
            kept.append(plain if plain and all(one in _GSM_BASIC for one in plain) else sign)
    return "".join(kept)


def sms_units(text: str) -> tuple[int, int]:
    """How many units an SMS takes, and how many three segments hold: septets, or UTF-16 units if one sign needs it."""
    if _GSM.issuperset(text):
        return len(text) + sum(map(text.count, _GSM_EXTENDED)), GSM_UNITS_MAX
    return len(text.encode("utf-16-le", "surrogatepass")) // 2, UCS2_UNITS_MAX


def fits_sms(text: str) -> bool:
    """Whether three segments hold the text."""
    units, units_max = sms_units(text)
    return units <= units_max


def fitted(head: str, tail: Sequence[str], *, least: str) -> str:
    """Head and tail as one SMS: with all accents if they fit, else without, else with the end of the head cut off.

    The tail stays whole. Where it alone is too long, one SMS more is better than a message that lacks a part: then the
    head is `least`.
    """
    whole = "\n".join((head, *tail))
    for text in (whole, to_gsm(whole)):
        if fits_sms(text):
            return text
    head, tail = to_gsm(head), [to_gsm(line) for line in tail]
    fitting, shortest, longest = "\n".join((least, *tail)), len(least), len(head)
    while shortest <= longest:
        length = (shortest + longest) // 2
        text = "\n".join((cut_to(head, length), *tail))
        if fits_sms(text):
            fitting, shortest = text, length + 1
        else:
            longest = length - 1
    return fitting
