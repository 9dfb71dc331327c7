"""CAP messages for tests: our own examples from `tests/data/cap`, and Hypothesis strategies for any message."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path

from hypothesis import strategies as st

from services.alerting.cap import CapArea, CapInfo, CapMessage, Reference, Resource, Scope
from shared.contracts import Category, Certainty, MsgType, ResponseType, Severity, Status, Urgency

EXAMPLES = Path(__file__).parents[1] / "data" / "cap"


def example(name: str) -> bytes:
    """One of our own example messages, for example `kabul_2021_flash`."""
    return (EXAMPLES / f"{name}.cap.xml").read_bytes()


_CHARACTERS = st.characters(
    codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"
) | st.sampled_from("\t\n\r")
_TEXTS = st.text(_CHARACTERS, min_size=1, max_size=20).map(str.strip).filter(bool)
_NAMES = st.text(
    st.characters(codec="ascii", categories=("L", "N"), include_characters="@.:-_"), min_size=1, max_size=20
)
_WORDS = st.lists(_NAMES, min_size=1, max_size=3).map(" ".join)
_UTC = st.datetimes(datetime(1990, 1, 1), datetime(2100, 1, 1)).map(lambda at: at.replace(microsecond=0, tzinfo=UTC))  # noqa: DTZ001 - a bound for naive draws
_OFFSETS = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
_LOCAL = st.builds(lambda at, zone: at.astimezone(zone), _UTC, _OFFSETS)
_PAIRS = st.lists(st.tuples(_TEXTS, _TEXTS | st.just("")), max_size=2).map(tuple)
_COORDINATES = st.tuples(
    st.floats(-180, 180).map(lambda x: round(x, 7)),
    st.floats(-90, 90).map(lambda y: round(y, 7)),
)
_RINGS = st.lists(_COORDINATES, min_size=3, max_size=5).map(lambda points: (*points, points[0]))
_CIRCLES = st.builds(lambda at, radius: (*at, radius), _COORDINATES, st.floats(0, 20_000).map(lambda r: round(r, 7)))
_HEIGHTS = st.decimals(-1_000, 100_000, places=2)
_URIS = st.sampled_from(["https://example.org/a?b=c#d", "urn:a:b", "mailto:ops@example.org", "http://example.org:8080"])


def _area(draw: st.DrawFn) -> CapArea:
    altitude: Decimal | None = draw(st.none() | _HEIGHTS)
    return CapArea(
        description=draw(_TEXTS),
        polygons=draw(st.lists(_RINGS, max_size=2).map(tuple)),
        circles=draw(st.lists(_CIRCLES, max_size=2).map(tuple)),
        geocodes=draw(_PAIRS),
        altitude_feet=altitude,
        ceiling_feet=None if altitude is None else draw(st.none() | _HEIGHTS),
    )


_AREAS = st.composite(_area)()
_RESOURCES = st.builds(
    Resource,
    description=_TEXTS,
    mime_type=_TEXTS,
    size_bytes=st.none() | st.integers(0, 10**12),
    uri=st.none() | _URIS | st.just("map.png"),
    content_base64=st.none() | _TEXTS,
    digest=st.none() | _TEXTS,
)
_INFOS = st.builds(
    CapInfo,
    language=st.sampled_from(["en", "en-US", "fr-CA", "ar", "zh-Hans-CN"]),
    categories=st.lists(st.sampled_from(Category), min_size=1, max_size=3).map(tuple),
    event=_TEXTS,
    response_types=st.lists(st.sampled_from(ResponseType), max_size=2).map(tuple),
    urgency=st.sampled_from(Urgency),
    severity=st.sampled_from(Severity),
    certainty=st.sampled_from(Certainty),
    audience=st.none() | _TEXTS,
    event_codes=_PAIRS,
    effective=st.none() | _UTC,
    onset=st.none() | _UTC,
    expires=st.none() | _UTC,
    sender_name=st.none() | _TEXTS,
    headline=_TEXTS | st.just(""),
    description=_TEXTS | st.just(""),
    instruction=_TEXTS | st.just(""),
    web=st.none() | _URIS,
    contact=st.none() | _TEXTS,
    parameters=_PAIRS,
    resources=st.lists(_RESOURCES, max_size=2).map(tuple),
    areas=st.lists(_AREAS, max_size=2).map(tuple),
    is_translation=st.just(False),
)
_REFERENCES = st.builds(Reference, sender=_NAMES, identifier=_NAMES, sent=_LOCAL)

messages = st.builds(
    CapMessage,
    identifier=_NAMES,
    sender=_NAMES,
    sent=_LOCAL,
    status=st.sampled_from(Status),
    msg_type=st.sampled_from(MsgType),
    scope=st.sampled_from(Scope),
    source=st.none() | _TEXTS,
    restriction=_TEXTS,
    addresses=st.lists(_WORDS, min_size=1, max_size=3).map(tuple),
    codes=st.lists(_TEXTS, max_size=2).map(tuple),
    note=st.none() | _TEXTS,
    references=st.lists(_REFERENCES, min_size=1, max_size=3).map(tuple),
    incidents=st.lists(_WORDS, max_size=2).map(tuple),
    info=st.lists(_INFOS, max_size=2).map(tuple),
    signatures=st.just(0),
)
"""Any message that the standard can say, within and outside of our profile."""
