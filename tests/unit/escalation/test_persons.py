"""A text that is made once and filled in with each page's link and code is the text that would be made for the page."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from itertools import product
from typing import Any
from uuid import UUID

import pytest

from services.escalation.answering import links
from services.escalation.directories import Directories
from services.escalation.messages import alert_part
from services.escalation.people import persons
from services.escalation.people.persons import Persons
from services.escalation.people.texts import LANGUAGES, facts_of, say
from shared.contracts import ChannelName, Precedence, Status, Tlp
from shared.ids import Ids, SeededBits, derived
from shared.keys import KeyRing
from tests.support.escalation_cases import T0, facts

URL = "https://redphone.example"
KEYS = KeyRing.generate()
IDS = Ids(lambda: T0, SeededBits(3))
LONG = "Kabul: evacuation of people at risk before the airport closes, seats and visas are needed " * 4


def content(headline: str = "Kabul: evacuation before the airport closes") -> dict[str, Any]:
    """What is kept of an alert; the same shape as `messages.content_of` makes."""
    info = {"language": "en", "event": "Evacuation", "headline": headline, "description": "Use 0AAA.", "areas": []}
    return {"info": [info], "note": None, "msg_type": "Alert", "corrects": None, "crisis_id": "1"}


def row(**changes: Any) -> dict[str, Any]:
    """A page to a person, as it is stored."""
    fields: dict[str, Any] = {
        "id": IDS.new(),
        "alert_id": derived("alert", "1"),
        "escalation_id": derived("escalation", "1"),
        "partner": "GB",
        "contact_id": derived("contact", "1"),
        "channel": ChannelName.SMS,
        "message_type": "alert.released",
        "level": 1,
        "asks": True,
        "data": None,
        "languages": ["en"],
        "time_zone": "Europe/London",
        "answer_by_at": T0 + timedelta(minutes=10),
    }
    return {**fields, **changes}


def made_for(page: dict[str, Any], part: Any, *, asks: bool) -> Any:
    """The message made for this page alone."""
    known = facts_of(
        {**page, "asks": asks},
        part.facts,
        part.content,
        languages=page["languages"],
        time_zone=page["time_zone"],
        now=T0,
        answer_by_at=page["answer_by_at"] if asks else None,
        position_due=page["message_type"] == "level.raised",
    )
    link = links.link_of(URL, KEYS, page["id"]) if asks else None
    return say(known, link=link, code=links.code_of(KEYS, page["id"]) if asks else None)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("headline", ["Kabul: flights are needed", LONG, "كابول: إجلاء", "0AAA 0AAB <b>&"])
def test_filled_in_is_as_made(language: str, headline: str) -> None:
    """In every language, for every label, drill or not, at the first page and at the thousandth."""
    for tlp, status, kind in product(
        (Tlp.CLEAR, Tlp.RED), (Status.ACTUAL, Status.EXERCISE), ("alert.released", "level.raised")
    ):
        part = alert_part(facts(tlp=tlp, status=status), content(headline), URL)
        renderer = Persons(Directories(frozenset(ChannelName)), KEYS, URL)
        for _ in range(3):
            page = row(languages=[language], message_type=kind)
            assert renderer.say([page], {page["alert_id"]: part}, T0) == made_for(page, part, asks=True)


def test_a_link_that_looks_like_the_stand_in_stays_whole() -> None:
    """What stands for the code in a text may occur in a page's token, which is not changed by it."""
    part = alert_part(facts(), {**content(), "info": [{**content()["info"][0], "description": ""}]}, URL)
    page = row(id=UUID(bytes=bytes.fromhex("019900000000d00000000000") + bytes(4)))
    assert "0AAA" in links.token_of(KEYS, page["id"])
    renderer = Persons(Directories(frozenset(ChannelName)), KEYS, URL)
    assert renderer.say([page], {page["alert_id"]: part}, T0) == made_for(page, part, asks=True)


def test_endings_are_as_made() -> None:
    """What asks for nothing has neither link nor code, and says why the alert ended."""
    part = alert_part(facts(), content(), URL)
    renderer = Persons(Directories(frozenset(ChannelName)), KEYS, URL)
    for reason in ("cancelled", "closed"):
        data = {"ended_at": "2021-08-15T10:00:00Z", "reason": reason}
        page = row(asks=False, answer_by_at=None, message_type="alert.ended", data=data)
        assert renderer.say([page], {page["alert_id"]: part}, T0) == made_for(page, part, asks=False)


def test_texts_are_made_once_for_a_level(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand readers of three languages are three texts."""
    made = []

    def counted(*arguments: Any, **options: Any) -> Any:
        made.append(1)
        return say(*arguments, **options)

    monkeypatch.setattr(persons, "say", counted)
    part = alert_part(facts(), content(), URL)
    renderer = Persons(Directories(frozenset(ChannelName)), KEYS, URL)
    seen: set[str | None] = set()
    for number in range(1000):
        page = row(languages=[LANGUAGES[number % 3]])
        seen.add(renderer.say([page], {page["alert_id"]: part}, T0).link)
    assert (len(made), len(seen)) == (3, 1000)


@pytest.mark.parametrize(
    "changes",
    [
        {"level": 2},
        {"time_zone": "Asia/Tokyo"},
        {"answer_by_at": T0 + timedelta(minutes=30)},
        {"languages": ["fr"]},
        {"contact_id": None},
        {"message_type": "level.raised"},
    ],
)
def test_nothing_of_another_page_is_said(changes: dict[str, Any]) -> None:
    """Whatever tells two pages apart is told in their texts."""
    part = alert_part(facts(), content(), URL)
    renderer = Persons(Directories(frozenset(ChannelName)), KEYS, URL)
    first, second = row(), row(**changes)
    parts: dict[UUID, Any] = {first["alert_id"]: part}
    renderer.say([first], parts, T0)
    assert renderer.say([second], parts, T0) == made_for(second, part, asks=True)


def test_another_alert_is_another_text() -> None:
    """Two alerts that differ in nothing but their ids have texts of their own."""
    one, other = (
        facts(),
        replace(facts(Precedence.IMMEDIATE), alert_id=derived("alert", "2"), reference="RP-CA-2021-0002"),
    )
    parts = {known.alert_id: alert_part(known, content(), URL) for known in (one, other)}
    renderer = Persons(Directories(frozenset(ChannelName)), KEYS, URL)
    said = [renderer.say([row(alert_id=known.alert_id)], parts, T0).text for known in (one, other)]
    assert "RP-CA-2021-0001" in said[0]
    assert "RP-CA-2021-0002" in said[1]


def test_late_is_said_once_it_is_late() -> None:
    """The text of a page that leaves after its time to answer does not promise that time."""
    part = alert_part(facts(), content(), URL)
    renderer = Persons(Directories(frozenset(ChannelName)), KEYS, URL)
    page = row()
    by = page["answer_by_at"]
    before = renderer.say([page], {page["alert_id"]: part}, by - timedelta(microseconds=1))
    after = renderer.say([page], {page["alert_id"]: part}, by)
    assert before.text != after.text
