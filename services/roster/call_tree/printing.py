"""Makes a PDF of a call tree. Runs in a process of its own, and gives the same on every machine.

The promise: what partners wrote reaches the typesetter as data and never as markup. A name never vanishes: letters of
scripts that the fonts which come along do not have (Chinese, Japanese, Korean, Ethiopic and others) are printed in
their Latin form; the HTML page and the JSON have them as they are.
"""

from __future__ import annotations

import struct
import unicodedata
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson

RENDER_SECONDS_MAX = 15.0

_TEMPLATE = Path(__file__).with_name("pages") / "call_tree.typ"

_FONTS = ("figo", "figbo")
"""FiraGO, regular and bold, beside what the typesetter brings along."""

_CMAP_SEGMENTS, _CMAP_GROUPS = 4, 12
"""The two forms in which a font says which characters it has (OpenType, table `cmap`)."""


def render(document: str) -> bytes:
    """The PDF of a `CallTree` as JSON."""
    import typst  # noqa: PLC0415 - a large library that only the process for documents needs
    from pymupdf_fonts import myfont  # noqa: PLC0415 - as above

    data = _printable(orjson.loads(document))
    with TemporaryDirectory() as folder:
        for name in _FONTS:
            (Path(folder) / f"{name}.ttf").write_bytes(myfont(name))
        compiled = typst.compile(
            _TEMPLATE,
            root=_TEMPLATE.parent,
            # Nothing of this machine, so that all print alike.
            font_paths=typst.Fonts(include_system_fonts=False, include_embedded_fonts=True, font_paths=[folder]),
            sys_inputs={"data": orjson.dumps(data).decode()},
            format="pdf",
            pdf_tags=False,
        )
    assert isinstance(compiled, bytes), "one document, not one picture for each page"
    return compiled


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return printable(value)
    if isinstance(value, list):
        return [_printable(one) for one in value]
    if isinstance(value, dict):
        return {name: _printable(one) for name, one in value.items()}
    return value


def printable(text: str) -> str:
    """The text with every letter that the fonts do not have in its Latin form, so that none vanishes."""
    if text.isascii():
        return text
    shown: list[str] = []
    for character in unicodedata.normalize("NFC", text):
        latin = None if _has_shape(character) else _latin(character)
        # A syllable or a word for each character, so that they are kept apart.
        if latin is not None and latin[:1].isupper() and shown and shown[-1][-1:].isalpha():
            shown.append(" ")
        shown.append(character if latin is None else latin)
    return "".join(shown)


def _has_shape(character: str) -> bool:
    return ord(character) in _shapes() or unicodedata.category(character) == "Cf"


@cache
def _shapes() -> frozenset[int]:
    """The characters of which both weights of the font have a shape."""
    from pymupdf_fonts import myfont  # noqa: PLC0415 - as above

    regular, bold = (_characters_of(myfont(name)) for name in _FONTS)
    return frozenset(regular & bold)


def _characters_of(font: bytes) -> set[int]:
    """The characters of an OpenType font, from its own table of them."""
    tables = (font[at : at + 16] for at in range(12, 12 + 16 * struct.unpack_from(">H", font, 4)[0], 16))
    begin: int = next(struct.unpack_from(">L", table, 8)[0] for table in tables if table[:4] == b"cmap")
    found: set[int] = set()
    for number in range(struct.unpack_from(">H", font, begin + 2)[0]):
        at = begin + struct.unpack_from(">L", font, begin + 8 + 8 * number)[0]
        form = struct.unpack_from(">H", font, at)[0]
        if form == _CMAP_GROUPS:
            for group in range(struct.unpack_from(">L", font, at + 12)[0]):
                first, last = struct.unpack_from(">LL", font, at + 16 + 12 * group)
                found.update(range(first, last + 1))
        elif form == _CMAP_SEGMENTS:
            count = struct.unpack_from(">H", font, at + 6)[0] // 2
            lasts = struct.unpack_from(f">{count}H", font, at + 14)
            firsts = struct.unpack_from(f">{count}H", font, at + 16 + 2 * count)
            for first, last in zip(firsts, lasts, strict=True):
                found.update(range(first, last + 1))
    return found


def _latin(character: str) -> str:
    from anyascii import anyascii  # noqa: PLC0415 - as above

    return anyascii(character) or "?"
