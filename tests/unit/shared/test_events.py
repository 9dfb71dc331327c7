"""What comes by the wire is a message, or is refused."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest

from shared.contracts import Actor
from shared.errors import ContractViolation
from shared.events import REGISTRY, Event, from_wire, headers_of
from tests.support.bus_rig import make_message


def test_a_message_comes_back_as_it_went() -> None:
    """Headers and body hold the whole message."""
    message = make_message()
    assert from_wire(headers_of(message), message.body.model_dump_json().encode()) == message


@pytest.mark.parametrize("time", ["2021-08-15T09:30:00", "2021-08-15", "soon", ""])
def test_an_instant_without_offset_is_refused(time: str) -> None:
    """A naive instant would be compared with aware ones much later, so the envelope is refused at once."""
    message = make_message()
    with pytest.raises(ContractViolation):
        from_wire({**headers_of(message), "ce-time": time}, message.body.model_dump_json().encode())


CONTACT_ID = UUID("0191a8c0-0000-7000-8000-00000000c0de")
ANN = Actor(subject=f"contact:{CONTACT_ID}", partner="AU", name="Ann Example", contact_id=CONTACT_ID)


def of_ann(event: type[Event]) -> Event | None:
    """The event as Ann of AU has caused it towards US, raised by CA; None if it names nobody."""
    actors = {name: ANN for name, field in event.model_fields.items() if "Actor" in str(field.annotation)}
    if not actors:
        return None
    values: dict[str, Any] = {"partner": "AU", "raiser": "CA", "answers_visible_to": ("US",), "recipients": ()}
    values["asked"] = ("NZ", "US")
    if not actors.keys().isdisjoint({"released_by", "drafted_by", "answered_by", "confirmed_by"}):
        values |= {"partner": "NZ", "raiser": "AU"}
    given: Any = {name: value for name, value in values.items() if name in event.model_fields} | actors
    return event.model_construct(**given)


@pytest.mark.parametrize("event", REGISTRY.values(), ids=lambda event: event.event_name)
def test_nobody_else_learns_who_acted(event: type[Event]) -> None:
    """Another partner learns which partner acted: no name, no contact, and no subject, which would name the contact."""
    if (caused := of_ann(event)) is None:
        return
    shown = repr(caused.for_viewer("US"))
    for secret in ("Ann Example", str(CONTACT_ID)):
        assert secret in repr(caused)
        assert secret not in shown
    assert "AU" in shown
    assert "Ann Example" in repr(caused.for_viewer("AU")), "its own partner does"
