"""What a page says: the data of a webhook, and as much of the alert as its handling label allows.

At `TLP:RED` and `TLP:AMBER+STRICT` every channel carries only id, precedence, one line ("FLASH from CA: log in") and a
link. "EXERCISE" comes first in every headline of a drill. A body stays under the limit of the webhook format: first the
areas are left out, then every language but the first English one, then all but the link.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any

import orjson

from services.escalation.model import AlertFacts
from shared.contracts import AlertReleased, PartnerAcknowledged, PartnerUnreached, PositionTaken, Status
from shared.webhooks import BODY_BYTES_MAX

ENVELOPE_BYTES = 2_000
"""Room for what surrounds the alert in a body: ids, times, level, office."""

DRILL = "EXERCISE"

CONTENT_BYTES_MAX = BODY_BYTES_MAX - ENVELOPE_BYTES


def content_of(released: AlertReleased) -> dict[str, Any]:
    """What is kept of an alert for rendering: texts and recipients, nothing that a page does not need."""
    return {
        "info": [info.model_dump(mode="json", exclude_none=True) for info in released.info],
        "note": released.note,
        "msg_type": released.msg_type,
        "corrects": None if released.corrects is None else str(released.corrects),
        "crisis_id": str(released.crisis_id),
        "acknowledge_within_seconds": released.acknowledge_within_seconds,
    }


@dataclass(frozen=True, slots=True)
class AlertPart:
    """The part of a body that is the same for every partner, as JSON; rendered once for each alert.

    `summary` is the shortest form: id, precedence, one line and the link.
    """

    body: bytes
    summary: bytes
    link_only: bool
    facts: AlertFacts
    content: Mapping[str, Any] | None
    """What texts for people are made of, once for each page: they differ by reader."""


def alert_part(facts: AlertFacts, content: Mapping[str, Any] | None, public_url: str) -> AlertPart:
    """Renders what a page says of its alert, as far as handling allows. `content` is None before its release came."""
    is_drill = facts.status is Status.EXERCISE
    drill = f"{DRILL} " if is_drill else ""
    summary = {
        "id": facts.alert_id,
        "precedence": facts.precedence,
        "link": f"{public_url}/v1/alerts/{facts.alert_id}",
        "text": f"{drill}{facts.precedence} from {facts.raiser}: log in",
    }
    shortest = orjson.dumps(summary)
    if facts.tlp.link_only or content is None:
        return AlertPart(shortest, shortest, facts.tlp.link_only, facts, content)
    infos = [
        {
            **info,
            "headline": headline_of(info["headline"], is_drill=is_drill),
            "areas": [_geojson(area) for area in info.get("areas", ())],
        }
        for info in content["info"]
    ]
    whole = {
        **summary,
        "text": f"{drill}{facts.precedence} from {facts.raiser}: {content['info'][0]['headline']}",
        "reference": facts.reference,
        "root_alert_id": facts.root_alert_id,
        "corrects": content["corrects"],
        "crisis_id": content["crisis_id"],
        "raiser": facts.raiser,
        "status": facts.status,
        "msg_type": content["msg_type"],
        "tlp": facts.tlp,
        "released_at": instant(facts.released_at),
        "expires_at": instant(facts.expires_at),
        "note": content["note"],
        "info": infos,
    }
    return AlertPart(_within_limit(whole, summary), shortest, link_only=False, facts=facts, content=content)


def headline_of(headline: str, *, is_drill: bool) -> str:
    """The headline as it is shown: of a drill it begins with EXERCISE, once."""
    said = headline.upper().startswith(DRILL)
    return f"{DRILL} {headline}" if is_drill and not said else headline


def _within_limit(whole: dict[str, Any], summary: dict[str, Any]) -> bytes:
    # In a fixed order, because the database keeps its own: a retry after a restart repeats the body byte for byte.
    body = orjson.dumps(whole, option=orjson.OPT_SORT_KEYS)
    if len(body) <= CONTENT_BYTES_MAX:
        return body
    infos = [{key: value for key, value in info.items() if key != "areas"} for info in whole["info"]]
    body = orjson.dumps({**whole, "info": infos, "shortened": True}, option=orjson.OPT_SORT_KEYS)
    if len(body) <= CONTENT_BYTES_MAX:
        return body
    english = [info for info in infos if info["language"].lower().startswith("en")][:1]
    body = orjson.dumps({**whole, "info": english, "shortened": True}, option=orjson.OPT_SORT_KEYS)
    return body if len(body) <= CONTENT_BYTES_MAX else orjson.dumps({**summary, "shortened": True})


def page_body(row: Mapping[str, Any], data: Mapping[str, Any] | None, alert: AlertPart | None) -> bytes:
    """The body of one page. Stable over its retries: nothing in it depends on the attempt.

    `row` has message_type, created_at, partner, alert_id, escalation_id and level; `data` is what this page says beside
    the alert. A link-only label withholds it, and so does an alert of which nothing is known: what may not be said is
    known by its label alone. Where both together are too long, the alert is cut to its link first, then `data` goes.
    """
    known: dict[str, Any] = {"partner": row["partner"]}
    if row["escalation_id"] is not None:
        known["escalation_id"] = str(row["escalation_id"])
    if row["level"]:
        known["level"] = row["level"]
    says_data = row["alert_id"] is None if alert is None else not alert.link_only
    # Sorted, because the database keeps another order than whoever first sent it: a replay repeats it byte for byte.
    beside = orjson.loads(orjson.dumps(data, option=orjson.OPT_SORT_KEYS)) if data and says_data else {}
    forms: list[tuple[Mapping[str, Any], bytes | None]] = [(beside, None if alert is None else alert.body)]
    if alert is not None:
        forms += [(beside, alert.summary), ({}, alert.summary)]
    body = b""
    for content, part in forms:
        shown = {**known, **content} if part is None else {**known, **content, "alert": orjson.Fragment(part)}
        body = orjson.dumps({"type": row["message_type"], "timestamp": instant(row["created_at"]), "data": shown})
        if len(body) <= BODY_BYTES_MAX:
            break
    return body


def takeover_brief(event: PartnerUnreached) -> dict[str, Any]:
    """What whoever takes an unreached partner over needs at hand: the office's numbers and what to say."""
    office = event.office
    return {
        "unreached_partner": event.partner,
        "unreached_at": instant(event.unreached_at),
        "levels_tried": event.levels_tried,
        "attempts": event.attempts,
        "office": None
        if office is None
        else {
            "name": office.name,
            "switchboard": office.switchboard,
            "embassies": [{"partner": code, "number": number} for code, number in office.embassies],
        },
        "call_script": (
            f"This is the Red Phone. {event.raiser} has raised {event.precedence} alert {event.reference} and"
            f" {event.partner} has not answered. Please wake your duty officer and ask them to acknowledge"
            f" {event.reference} in Red Phone, or to call the duty office of {event.raiser}."
        ),
    }


def answer_data(event: PartnerAcknowledged | PositionTaken) -> dict[str, Any]:
    """What the raiser's own systems are told of an answer: the raiser learns the name of who answered."""
    if isinstance(event, PartnerAcknowledged):
        return {
            "answer": {
                "partner": event.partner,
                "state": "acknowledged",
                "at": instant(event.acknowledged_at),
                "by": event.acknowledged_by.name,
                "late": event.late,
            }
        }
    return {
        "answer": {
            "partner": event.partner,
            "state": event.stance,
            "at": instant(event.taken_at),
            "by": event.taken_by.name,
            "answer_by": None if event.answer_by_at is None else instant(event.answer_by_at),
            "note": event.note,
            "offer": event.offer,
            "estimated_arrival": None if event.estimated_arrival_at is None else instant(event.estimated_arrival_at),
        }
    }


def _geojson(area: Mapping[str, Any]) -> dict[str, Any]:
    geometry = None
    if area.get("polygons"):
        geometry = {"type": "MultiPolygon", "coordinates": [[ring] for ring in area["polygons"]]}
    return {
        "description": area["description"],
        "geocodes": area.get("geocodes", []),
        "circles": area.get("circles", []),
        "geometry": geometry,
    }


@lru_cache(maxsize=16)
def instant(at: datetime) -> str:
    """An instant as bodies write it: RFC 3339 with `Z`."""
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
