"""Writes CAP 1.2: `parse(render(message)) == message`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from lxml import etree

from services.alerting.cap.message import NAMESPACE, CapArea, CapInfo, CapMessage, Resource, write_instant
from services.alerting.cap.reading import parse
from shared.errors import Invalid


def render(message: CapMessage) -> bytes:
    """The message as CAP 1.2 XML in UTF-8. Raises `Invalid` with code `cap_invalid` if the standard cannot say it."""
    alert = etree.Element(_tag("alert"), nsmap=cast("Any", {None: NAMESPACE}))
    try:
        _write_alert(alert, message)
    except ValueError:
        detail = "The text holds characters that XML cannot hold, such as NUL."
        raise Invalid(detail, code="cap_invalid", field="alert") from None
    document: bytes = etree.tostring(alert, xml_declaration=True, encoding="UTF-8", pretty_print=True)
    # What others would have to refuse is refused here, where its author still can correct it.
    parse(document)
    return document


def _tag(name: str) -> str:
    return f"{{{NAMESPACE}}}{name}"


def _write(parent: etree._Element, name: str, *texts: str | None) -> None:
    """One element for each text; what says nothing is left out."""
    for text in texts:
        if text:
            etree.SubElement(parent, _tag(name)).text = text


def _write_pairs(parent: etree._Element, name: str, pairs: Iterable[tuple[str, str]]) -> None:
    for value_name, value in pairs:
        pair = etree.SubElement(parent, _tag(name))
        etree.SubElement(pair, _tag("valueName")).text = value_name
        etree.SubElement(pair, _tag("value")).text = value


def _write_alert(alert: etree._Element, message: CapMessage) -> None:
    _write(alert, "identifier", message.identifier)
    _write(alert, "sender", message.sender)
    _write(alert, "sent", write_instant(message.sent))
    _write(alert, "status", message.status)
    _write(alert, "msgType", message.msg_type)
    _write(alert, "source", message.source)
    _write(alert, "scope", message.scope)
    _write(alert, "restriction", message.restriction)
    _write(alert, "addresses", _listed(message.addresses))
    _write(alert, "code", *message.codes)
    _write(alert, "note", message.note)
    names = (f"{r.sender},{r.identifier},{write_instant(r.sent)}" for r in message.references)
    _write(alert, "references", " ".join(names))
    _write(alert, "incidents", _listed(message.incidents))
    for info in message.info:
        _write_info(etree.SubElement(alert, _tag("info")), info)


def _write_info(block: etree._Element, info: CapInfo) -> None:
    _write(block, "language", info.language)
    _write(block, "category", *info.categories)
    _write(block, "event", info.event)
    _write(block, "responseType", *info.response_types)
    _write(block, "urgency", info.urgency)
    _write(block, "severity", info.severity)
    _write(block, "certainty", info.certainty)
    _write(block, "audience", info.audience)
    _write_pairs(block, "eventCode", info.event_codes)
    for name in ("effective", "onset", "expires"):
        instant: datetime | None = getattr(info, name)
        _write(block, name, None if instant is None else write_instant(instant))
    _write(block, "senderName", info.sender_name)
    _write(block, "headline", info.headline)
    _write(block, "description", info.description)
    _write(block, "instruction", info.instruction)
    _write(block, "web", info.web)
    _write(block, "contact", info.contact)
    _write_pairs(block, "parameter", info.parameters)
    for resource in info.resources:
        _write_resource(etree.SubElement(block, _tag("resource")), resource)
    for area in info.areas:
        _write_area(etree.SubElement(block, _tag("area")), area)


def _write_resource(block: etree._Element, resource: Resource) -> None:
    _write(block, "resourceDesc", resource.description)
    _write(block, "mimeType", resource.mime_type)
    _write(block, "size", None if resource.size_bytes is None else str(resource.size_bytes))
    _write(block, "uri", resource.uri)
    _write(block, "derefUri", resource.content_base64)
    _write(block, "digest", resource.digest)


def _write_area(block: etree._Element, area: CapArea) -> None:
    _write(block, "areaDesc", area.description)
    _write(block, "polygon", *(" ".join(f"{_digits(y)},{_digits(x)}" for x, y in ring) for ring in area.polygons))
    _write(block, "circle", *(f"{_digits(y)},{_digits(x)} {_digits(radius)}" for x, y, radius in area.circles))
    _write_pairs(block, "geocode", area.geocodes)
    _write(block, "altitude", None if area.altitude_feet is None else _digits(area.altitude_feet))
    _write(block, "ceiling", None if area.ceiling_feet is None else _digits(area.ceiling_feet))


def _listed(members: Iterable[str]) -> str:
    return " ".join(f'"{member}"' if " " in member else member for member in members)


def _digits(number: float | Decimal) -> str:
    """A number without an exponent, and without losing a digit."""
    return format(Decimal(repr(number)) if isinstance(number, float) else Decimal(number), "f")
