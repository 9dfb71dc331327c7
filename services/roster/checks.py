"""Checks that everything of a partner shares: text that people wrote, and how many of a kind there are."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence

from shared.errors import FieldError

NAME_CHARACTERS_MAX = 120

_REORDERING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
"""Characters that change the order in which text is shown: a name with one could pass for another."""


def text_faults(field: str, text: str, characters_max: int, *, required: bool = True) -> Iterator[FieldError]:
    """What is wrong with a text of one line."""
    if len(text) > characters_max or (required and not text.strip()):
        yield FieldError(field, f"must hold {1 if required else 0} to {characters_max} characters")
    elif any(c in _REORDERING or unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text):
        yield FieldError(field, "holds a control character; use plain text on one line")


def count_faults(field: str, things: Sequence[object], limit: int) -> Iterator[FieldError]:
    """Whether there are more than `limit` things."""
    if len(things) > limit:
        yield FieldError(field, f"holds {len(things)}; at most {limit} are possible")


def inside(field: str, faults: Iterable[FieldError]) -> Iterator[FieldError]:
    """The faults of a part, under the name of the part."""
    for fault in faults:
        yield FieldError(f"{field}.{fault.field}", fault.detail, fault.code)


def shown(text: str) -> str:
    """Foreign text inside a message: quoted, cut, without control characters."""
    return ascii(text[:40])
