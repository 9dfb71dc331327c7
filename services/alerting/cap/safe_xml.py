"""Reads XML from strangers: bytes in, a small tree of plain values out, and nothing else is ever touched.

The promise: no document type, entity, external file or network address is ever followed; what a parser could be
tricked with is refused before a tree is built; and the cost is bounded by the named limits, whatever is sent. The
document is decoded here, by one of three known encodings, so that the parser never guesses one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from lxml import etree

from shared.errors import FieldError, Invalid

DOCUMENT_BYTES_MAX = 256 * 1024
"""Ten times the largest real bilingual, signed message that we know of."""

DEPTH_MAX = 24
"""CAP itself is four deep; an XML signature adds about eight."""

ELEMENTS_MAX = 8_000
"""An alert to a thousand partners with every country's geocode in six languages stays below this."""

_ENCODINGS = {
    "utf-8": "utf-8",
    "utf8": "utf-8",
    "us-ascii": "ascii",
    "ascii": "ascii",
    "iso-8859-1": "iso-8859-1",
    "latin1": "iso-8859-1",
    "iso_8859-1": "iso-8859-1",
}
_UTF8_MARK = b"\xef\xbb\xbf"
_UTF16_MARKS = (b"\xff\xfe", b"\xfe\xff")
_DECLARATION = re.compile(
    rb"<\?xml[ \t\r\n]+version[ \t\r\n]*=[ \t\r\n]*(?:\"1\.0\"|'1\.0')"
    rb"(?:[ \t\r\n]+encoding[ \t\r\n]*=[ \t\r\n]*(?P<quote>[\"'])(?P<encoding>[A-Za-z][A-Za-z0-9._\-]*)(?P=quote))?"
    rb"(?:[ \t\r\n]+standalone[ \t\r\n]*=[ \t\r\n]*(?:\"(?:yes|no)\"|'(?:yes|no)'))?[ \t\r\n]*\?>"
)


@dataclass(slots=True)
class Node:
    """One element. `text` is all character data directly inside it; comments leave no trace."""

    namespace: str
    name: str
    attributes: tuple[str, ...]
    parts: list[str] = field(default_factory=list)
    children: list[Node] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The character data, joined."""
        return "".join(self.parts)


@dataclass(frozen=True, slots=True)
class Document:
    """A well-formed document: its root, and mistakes that are no danger once they are refused."""

    root: Node
    mistakes: tuple[FieldError, ...]


def read(document: bytes) -> Document:
    """The document as a tree. Raises `Invalid` with code `cap_unsafe` for what must not or cannot be read."""
    text = _decode(document)
    target = _Target()
    parser = etree.XMLParser(
        target=cast("Any", target),  # the stubs know no optional events and want bytes, too
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        huge_tree=False,
        recover=False,
    )
    try:
        etree.fromstring(text.encode("utf-8"), parser)
    except etree.XMLSyntaxError as error:
        raise _unsafe(
            f"The document is not well-formed XML: {error.msg}.", "not_well_formed", target.mistakes
        ) from None
    # A prefix without a namespace is no fatal error to the parser, but no namespace-aware reader may accept it.
    if len(parser.error_log) > 0 or target.root is None:
        raise _unsafe("The document declares or uses its XML namespaces wrongly.", "not_well_formed")
    return Document(target.root, tuple(target.mistakes))


def _decode(document: bytes) -> str:
    """The text after the XML declaration, decoded strictly."""
    if len(document) > DOCUMENT_BYTES_MAX:
        detail = f"The document has {len(document)} bytes; at most {DOCUMENT_BYTES_MAX} are read."
        raise _unsafe(detail, "too_large")
    if document.startswith(_UTF16_MARKS) or b"\x00" in document:
        raise _unsafe("The document holds NUL bytes or is UTF-16 or UTF-32; send UTF-8.", "encoding")
    marked = document.startswith(_UTF8_MARK)
    body = document.removeprefix(_UTF8_MARK)
    name = "utf-8"
    if re.match(rb"<\?xml[ \t\r\n]", body):
        declaration = _DECLARATION.match(body)
        if declaration is None:
            raise _unsafe("The XML declaration must be that of XML 1.0.", "not_well_formed")
        name = (declaration["encoding"] or b"utf-8").decode("ascii")
        body = body[declaration.end() :]
    encoding = _ENCODINGS.get(name.lower())
    if encoding is None or (marked and encoding != "utf-8"):
        raise _unsafe(f"The encoding {name[:40]!r} is not read; send UTF-8, ISO-8859-1 or US-ASCII.", "encoding")
    try:
        return body.decode(encoding)
    except UnicodeDecodeError as error:
        detail = f"Byte {error.start} after the XML declaration is not {name}; send UTF-8."
        raise _unsafe(detail, "encoding") from None


def _unsafe(detail: str, code: str, mistakes: list[FieldError] | None = None) -> Invalid:
    errors = [*(mistakes or []), FieldError(field="document", detail=detail, code=code)]
    return Invalid(detail, code="cap_unsafe", errors=errors)


class _Target:
    """Receives the parser's events and builds the tree, or stops it at the first sign of danger."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.mistakes: list[FieldError] = []
        self._open: list[Node] = []
        self._elements = 0

    def doctype(self, _name: str, _public_id: str | None, _system_id: str | None) -> None:
        detail = "A document type is never read, nor any entity or file that it names; leave <!DOCTYPE …> out."
        raise _unsafe(detail, "doctype", self.mistakes)

    def pi(self, target: str, _data: str | None = None) -> None:
        if not self.mistakes:
            detail = f"Processing instructions are never followed; leave <?{target[:40]} …?> out."
            self.mistakes.append(FieldError(field="document", detail=detail, code="processing_instruction"))

    def comment(self, text: str | bytes) -> None:
        """Comments are for people: nothing to do."""

    def start(self, tag: str, attributes: Mapping[str, str], _namespaces: Mapping[str, str] | None = None) -> None:
        self._elements += 1
        if self._elements > ELEMENTS_MAX:
            detail = f"The document has more than {ELEMENTS_MAX} elements."
            raise _unsafe(detail, "too_many_elements", self.mistakes)
        if len(self._open) >= DEPTH_MAX:
            raise _unsafe(f"Elements are nested more than {DEPTH_MAX} deep.", "too_deep", self.mistakes)
        namespace, _, name = tag[1:].rpartition("}") if tag.startswith("{") else ("", "", tag)
        node = Node(namespace, name, tuple(attributes))
        if self._open:
            self._open[-1].children.append(node)
        else:
            self.root = node
        self._open.append(node)

    def data(self, text: str) -> None:
        self._open[-1].parts.append(text)

    def end(self, _tag: str) -> None:
        self._open.pop()

    def close(self) -> None:
        """The tree is in `root`."""
