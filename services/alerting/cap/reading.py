"""Reads CAP 1.2, strictly: what the official schema asks for, and what the standard asks for in words.

The promise: a valid message is never misread, and of an invalid one every mistake is reported at once, with its place
and what would be right. Where this is stricter than the schema (spaces in identifiers, open polygons, processing
instructions …) it is because the standard's text says so, or because no honest sender needs it.
"""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from enum import StrEnum
from typing import TypeVar
from urllib.parse import urlsplit

from services.alerting.cap import safe_xml
from services.alerting.cap.message import (
    NAMESPACE,
    CapArea,
    CapInfo,
    CapMessage,
    Findings,
    Reference,
    Resource,
    Scope,
    explain_instant,
    prose_mistakes,
    quoted,
    read_instant,
)
from services.alerting.cap.safe_xml import Node
from shared.contracts import Category, Certainty, MsgType, ResponseType, Severity, Status, Urgency

OLDER_NAMESPACES = ("urn:oasis:names:tc:emergency:cap:1.1", "http://www.incident.com/cap/1.0")
SIGNATURE_NAMESPACE = "http://www.w3.org/2000/09/xmldsig#"
SCHEMA_HINTS = tuple(
    f"{{http://www.w3.org/2001/XMLSchema-instance}}{name}" for name in ("schemaLocation", "noNamespaceSchemaLocation")
)
"""Attributes that the root may carry: a hint for validators, never followed here."""

INFO_MAX = 40
AREAS_MAX = 1_000
SHAPES_MAX = 1_000
"""Polygons and circles of the whole message."""
POINTS_MAX = 20_000
"""Polygon corners of the whole message."""
LIST_MAX = 2_000
"""Addresses, references or incidents of one message; elements of one name in one place."""
NAME_LENGTH_MAX = 200
"""Characters of an identifier or sender."""
RADIUS_KM_MAX = 20_038
"""Half of the Earth's circumference: a greater circle says nothing more."""

_NAME = re.compile(r"[^\s,<&]+")
_LISTED = re.compile(r'"([^"]*)"|([^\s"]+)')
_NUMBER = re.compile(r"[+-]?\d{1,5}(?:\.\d{1,20})?", re.ASCII)
_DECIMAL = re.compile(r"[+-]?(?:\d{1,12}(?:\.\d{0,12})?|\.\d{1,12})", re.ASCII)
_SIZE = re.compile(r"\+?\d{1,18}", re.ASCII)
_LANGUAGE = re.compile(r"[A-Za-z]{1,8}(?:-[A-Za-z0-9]{1,8})*", re.ASCII)
_URI_SCHEME = r"(?:[A-Za-z][A-Za-z0-9+.\-]*:|(?![^/?#]*:))"
_URI_HOST = r"(?://[A-Za-z0-9\-._~]+(?::\d{1,5})?(?=[/?#]|$)|(?!//))"
_URI_PART = r"(?:[A-Za-z0-9\-._~!$&'()*+,;=:@/?]|%[0-9A-Fa-f]{2})*"
_URI = re.compile(rf"{_URI_SCHEME}{_URI_HOST}{_URI_PART}(?:#{_URI_PART})?", re.ASCII)
_STAND_IN = datetime(1970, 1, 1, tzinfo=UTC)

E = TypeVar("E", bound=StrEnum)

# The children of each element in the standard's order: plain is exactly one, ? at most one, * any, + one or more.
_ALERT = (
    "identifier sender sent status msgType source? scope restriction? addresses? code* note? references? incidents? "
    "info*"
)
_INFO = (
    "language? category+ event responseType* urgency severity certainty audience? eventCode* effective? onset? "
    "expires? senderName? headline? description? instruction? web? contact? parameter* resource* area*"
)
_RESOURCE = "resourceDesc mimeType size? uri? derefUri? digest?"
_AREA = "areaDesc polygon* circle* geocode* altitude? ceiling?"
_PAIR = "valueName value"


def parse(document: bytes) -> CapMessage:
    """The message in `document`. Raises `Invalid`: `cap_unsafe` for XML that is not read, else `cap_invalid`."""
    read = safe_xml.read(document)
    findings = Findings(read.mistakes)
    root = read.root
    if (root.namespace, root.name) != (NAMESPACE, "alert"):
        _wrong_root(root, findings)
        findings.raise_if_any("This is not a CAP 1.2 message", "cap_invalid")
    signatures = _take_signatures(root, findings)
    message = replace(_message(_Block(root, "alert", _ALERT, findings)), signatures=signatures)
    places = {error.field for error in findings.errors}
    findings.errors += [mistake for mistake in prose_mistakes(message) if mistake.field not in places]
    findings.raise_if_any("The message breaks CAP 1.2", "cap_invalid")
    return message


def _wrong_root(root: Node, findings: Findings) -> None:
    if root.namespace in OLDER_NAMESPACES:
        detail = f"This is an older version of CAP ({root.namespace}); send CAP 1.2, whose namespace is {NAMESPACE}."
        findings.add("alert", detail, "older_version")
    else:
        findings.add("alert", f"The root must be <alert> in the namespace {NAMESPACE}.", "wrong_root")


def _take_signatures(root: Node, findings: Findings) -> int:
    """Removes the XML signatures at the end of the root. What they hold is not read, but must not be CAP in hiding."""
    count = 0
    while root.children and root.children[-1].namespace == SIGNATURE_NAMESPACE:
        waiting = [root.children.pop()]
        count += 1
        while waiting:
            node = waiting.pop()
            waiting += node.children
            if node.namespace == NAMESPACE:
                detail = f"<{node.name[:60]}> of CAP has no place inside a signature."
                findings.add("alert/Signature", detail, "unexpected_element")
    return count


class _Block:
    """One element with children: they are checked against the model at once, then read by name."""

    def __init__(self, node: Node, path: str, model: str, findings: Findings) -> None:
        self.path = path
        self.findings = findings
        self._found: dict[str, list[Node]] = {}
        _no_attributes(node, path, findings)
        if node.text.strip():
            findings.add(path, "Text may not stand between elements; move it into one.", "unexpected_text")
        slots = [(slot.rstrip("?*+"), slot[-1] if slot[-1] in "?*+" else "") for slot in model.split()]
        self._order = [name for name, _ in slots]
        self._repeatable = {name for name, times in slots if times in ("*", "+")}
        self._check_order(node)
        for name, times in slots:
            count = len(self._found.get(name, ()))
            if count == 0 and times in ("", "+"):
                findings.add(f"{path}/{name}", f"<{name}> is missing; it is required here.", "missing")
            if count > 1 and times in ("", "?"):
                findings.add(f"{path}/{name}", f"<{name}> stands here {count} times; once is right.", "too_many")

    def _check_order(self, node: Node) -> None:
        position = 0
        for child in node.children:
            known = child.namespace == NAMESPACE and child.name in self._order
            if not known:
                detail = f"<{child.name[:60]}> of namespace {child.namespace[:80]!r} has no place here."
                self.findings.add(self.path, detail, "unexpected_element")
                continue
            if self._order.index(child.name) < position:
                detail = f"<{child.name}> stands too late; the order is {', '.join(self._order)}."
                self.findings.add(f"{self.path}/{child.name}", detail, "wrong_order")
            position = max(position, self._order.index(child.name))
            self._found.setdefault(child.name, []).append(child)

    def nodes(self, name: str, limit: int = LIST_MAX) -> list[tuple[str, Node]]:
        """Every child of this name with its path: numbered from 1 where the standard allows several."""
        found = self._found.get(name, [])
        if len(found) > limit:
            self.findings.add(f"{self.path}/{name}", f"More than {limit} are not read.", "too_many")
            return []
        return [
            (f"{self.path}/{name}[{number}]" if name in self._repeatable else f"{self.path}/{name}", node)
            for number, node in enumerate(found, start=1)
        ]

    def blocks(self, name: str, model: str, limit: int = LIST_MAX) -> list[_Block]:
        return [_Block(node, path, model, self.findings) for path, node in self.nodes(name, limit)]

    def texts(self, name: str) -> list[tuple[str, str]]:
        """Path and character data, as written, of every child of this name."""
        return [(path, _plain(node, path, self.findings)) for path, node in self.nodes(name)]

    def optional(self, name: str) -> str | None:
        """The text without the white space around it. An empty element says no more than an absent one."""
        return next((text.strip() or None for _, text in self.texts(name)), None)

    def required(self, name: str) -> str:
        for path, text in self.texts(name):
            if not text.strip():
                self.findings.add(path, f"<{name}> is empty; it is required here.", "empty")
            return text.strip()
        return ""

    def enums(self, name: str, kind: type[E]) -> tuple[E, ...]:
        values = []
        for path, text in self.texts(name):
            try:
                values.append(kind(text))
            except ValueError:
                detail = f"{quoted(text)} is not one of {', '.join(kind)}."
                self.findings.add(path, detail, "not_in_list")
        return tuple(values)

    def enum(self, name: str, kind: type[E]) -> E:
        return next(iter(self.enums(name, kind)), next(iter(kind)))

    def instant(self, name: str) -> datetime | None:
        for path, text in self.texts(name):
            value = read_instant(text.strip())
            if value is None:
                self.findings.add(path, explain_instant(text), "wrong_time")
            return value
        return None

    def name(self, name: str) -> str:
        """An identifier or sender."""
        for path, text in self.texts(name):
            if not _NAME.fullmatch(text) or len(text) > NAME_LENGTH_MAX:
                detail = f"Write 1 to {NAME_LENGTH_MAX} characters without spaces, commas, < and &."
                self.findings.add(path, detail, "wrong_name")
            return text
        return ""

    def listed(self, name: str) -> tuple[str, ...]:
        """A list separated by white space, whose members stand in double quotes where they hold some."""
        for path, text in self.texts(name):
            if _LISTED.sub("", text).strip() or '""' in text:
                detail = "Separate by spaces, and put into double quotes what holds a space."
                self.findings.add(path, detail, "wrong_list")
                return ()
            members = tuple(" ".join((quoted or plain).split()) for quoted, plain in _LISTED.findall(text))
            if len(members) > LIST_MAX or not all(members):
                self.findings.add(path, f"List at most {LIST_MAX}, none of them blank.", "wrong_list")
                return ()
            return members
        return ()

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        blocks = self.blocks(name, _PAIR)
        return tuple((block.required("valueName"), block.optional("value") or "") for block in blocks)

    def uri(self, name: str, *, absolute: bool) -> str | None:
        for path, text in self.texts(name):
            value = text.strip()
            if value and not _is_uri(value, absolute=absolute):
                kind = "a full, absolute address" if absolute else "an address"
                detail = f"Write {kind} such as https://example.org/page, other characters percent-encoded."
                self.findings.add(path, detail, "wrong_uri")
            return value or None
        return None

    def decimal(self, name: str) -> Decimal | None:
        for path, text in self.texts(name):
            if _DECIMAL.fullmatch(text.strip()):
                return Decimal(text.strip())
            self.findings.add(path, f"{quoted(text)} is not a number such as 1200 or -3.5.", "wrong_number")
        return None

    def size(self, name: str) -> int | None:
        for path, text in self.texts(name):
            if _SIZE.fullmatch(text.strip()):
                return int(text)
            self.findings.add(path, "Write the size in bytes as a whole number.", "wrong_number")
        return None


def _message(block: _Block) -> CapMessage:
    return CapMessage(
        identifier=block.name("identifier"),
        sender=block.name("sender"),
        sent=block.instant("sent") or _STAND_IN,
        status=block.enum("status", Status),
        msg_type=block.enum("msgType", MsgType),
        source=block.optional("source"),
        scope=block.enum("scope", Scope),
        restriction=block.optional("restriction"),
        addresses=block.listed("addresses"),
        codes=tuple(text.strip() for _, text in block.texts("code") if text.strip()),
        note=block.optional("note"),
        references=_references(block),
        incidents=block.listed("incidents"),
        info=tuple(_info(info) for info in block.blocks("info", _INFO, INFO_MAX)),
    )


def _references(block: _Block) -> tuple[Reference, ...]:
    references = []
    for path, text in block.texts("references"):
        members = text.split()
        if len(members) > LIST_MAX:
            block.findings.add(path, f"List at most {LIST_MAX} references.", "wrong_reference")
            continue
        for number, member in enumerate(members, start=1):
            sender, identifier, written, *rest = [*member.split(","), "", ""]
            sent = read_instant(written)
            if sent is None or any(rest) or not _NAME.fullmatch(sender) or not _NAME.fullmatch(identifier):
                detail = (
                    f"Reference {number} must be sender,identifier,sent of an earlier message, for example "
                    "ops@example.org,RP-CA-2026-0042,2026-01-05T09:00:00-00:00; separate several by spaces."
                )
                block.findings.add(path, detail, "wrong_reference")
            else:
                references.append(Reference(sender, identifier, sent))
    return tuple(references)


def _info(block: _Block) -> CapInfo:
    effective, onset, expires = (block.instant(name) for name in ("effective", "onset", "expires"))
    areas = block.blocks("area", _AREA, AREAS_MAX)
    return CapInfo(
        language=_language(block),
        categories=block.enums("category", Category),
        event=block.required("event"),
        response_types=block.enums("responseType", ResponseType),
        urgency=block.enum("urgency", Urgency),
        severity=block.enum("severity", Severity),
        certainty=block.enum("certainty", Certainty),
        audience=block.optional("audience"),
        event_codes=block.pairs("eventCode"),
        effective=_utc(effective),
        onset=_utc(onset),
        expires=_utc(expires),
        sender_name=block.optional("senderName"),
        headline=block.optional("headline") or "",
        description=block.optional("description") or "",
        instruction=block.optional("instruction") or "",
        web=block.uri("web", absolute=True),
        contact=block.optional("contact"),
        parameters=block.pairs("parameter"),
        resources=tuple(_resource(resource) for resource in block.blocks("resource", _RESOURCE)),
        areas=tuple(_area(area) for area in areas),
    )


def _language(block: _Block) -> str:
    """The standard's default is en-US, also for an empty element."""
    written = next((text for _, text in block.texts("language")), "")
    language = written.strip() if written else "en-US"
    if not _LANGUAGE.fullmatch(language):
        detail = f"{quoted(language)} is not a language code such as en, fr-CA or es."
        block.findings.add(f"{block.path}/language", detail, "wrong_language")
    return language


def _resource(block: _Block) -> Resource:
    return Resource(
        description=block.required("resourceDesc"),
        mime_type=block.required("mimeType"),
        size_bytes=block.size("size"),
        uri=block.uri("uri", absolute=False),
        content_base64=block.optional("derefUri"),
        digest=block.optional("digest"),
    )


def _area(block: _Block) -> CapArea:
    polygons = [_polygon(path, text, block.findings) for path, text in block.texts("polygon")]
    circles = [_circle(path, text, block.findings) for path, text in block.texts("circle")]
    block.findings.shapes += len(polygons) + len(circles)
    block.findings.areas += 1
    if block.findings.shapes > SHAPES_MAX or block.findings.areas > AREAS_MAX or block.findings.points > POINTS_MAX:
        detail = f"A message may have {AREAS_MAX} areas, {SHAPES_MAX} polygons and circles, {POINTS_MAX} corners."
        block.findings.add(block.path, detail, "too_many")
    altitude, ceiling = block.decimal("altitude"), block.decimal("ceiling")
    if ceiling is not None and altitude is None:
        block.findings.add(f"{block.path}/ceiling", "<ceiling> needs <altitude> beside it.", "missing")
    return CapArea(
        description=block.required("areaDesc"),
        polygons=tuple(polygons),
        circles=tuple(circle for circle in circles if circle is not None),
        geocodes=block.pairs("geocode"),
        altitude_feet=altitude,
        ceiling_feet=ceiling,
    )


def _polygon(path: str, text: str, findings: Findings) -> tuple[tuple[float, float], ...]:
    pairs = text.split()
    findings.points += len(pairs)
    if findings.points > POINTS_MAX:
        return ()
    points = [_point(pair) for pair in pairs]
    ring = tuple(point for point in points if point is not None)
    if len(ring) < len(points):
        wrong = quoted(next(pair for pair, point in zip(pairs, points, strict=True) if point is None))
        detail = f"{wrong} is not latitude,longitude in degrees (latitude first, -90 to 90; longitude -180 to 180)."
        findings.add(path, detail, "wrong_polygon")
    elif len(ring) < 4 or ring[0] != ring[-1]:
        detail = "A polygon needs at least four latitude,longitude pairs, the last equal to the first."
        findings.add(path, detail, "wrong_polygon")
    return ring


def _circle(path: str, text: str, findings: Findings) -> tuple[float, float, float] | None:
    center, _, radius = " ".join(text.split()).partition(" ")
    point = _point(center)
    if point is None or not _NUMBER.fullmatch(radius) or not 0 <= float(radius) <= RADIUS_KM_MAX:
        detail = f"Write latitude,longitude, a space, and the radius in kilometres (0 to {RADIUS_KM_MAX})."
        findings.add(path, detail, "wrong_circle")
        return None
    return (*point, float(radius))


def _point(pair: str) -> tuple[float, float] | None:
    """CAP's `latitude,longitude` as (longitude, latitude)."""
    latitude, _, longitude = pair.partition(",")
    if not _NUMBER.fullmatch(latitude) or not _NUMBER.fullmatch(longitude):
        return None
    if abs(float(latitude)) > 90 or abs(float(longitude)) > 180:
        return None
    return float(longitude), float(latitude)


def _plain(node: Node, path: str, findings: Findings) -> str:
    _no_attributes(node, path, findings)
    if node.children:
        detail = f"<{node.name}> holds text only, no <{node.children[0].name[:60]}>."
        findings.add(path, detail, "unexpected_element")
    return node.text


def _no_attributes(node: Node, path: str, findings: Findings) -> None:
    allowed = SCHEMA_HINTS if path == "alert" else ()
    for name in node.attributes:
        if name not in allowed:
            findings.add(path, f"CAP has no attributes; leave {name[:80]} out.", "unexpected_attribute")


def _utc(value: datetime | None) -> datetime | None:
    return None if value is None else value.astimezone(UTC)


def _is_uri(text: str, *, absolute: bool) -> bool:
    if not _URI.fullmatch(text):
        return False
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError:
        return False
    return (port is None or port > 0) and (bool(parts.scheme) or not absolute)
