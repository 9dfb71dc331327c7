"""What comes by the wire is a message, or is refused."""

from __future__ import annotations

import pytest

from shared.errors import ContractViolation
from shared.events import from_wire, headers_of
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
