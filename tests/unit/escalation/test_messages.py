"""Bodies of pages: the same bytes whenever they are rendered."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

from services.escalation.messages import page_body

ROW: dict[str, Any] = {
    "message_type": "answer.received",
    "created_at": datetime(2021, 8, 15, 9, 30, tzinfo=UTC),
    "partner": "CA",
    "alert_id": None,
    "escalation_id": None,
    "level": 0,
}


def test_a_body_does_not_depend_on_the_order_of_what_was_stored() -> None:
    """What a page says beside its alert comes back from the database in another order: the body stays the same."""
    first = {"reason": "closed", "answer": {"partner": "GB", "at": "x", "by": "y"}}
    stored = {"answer": {"at": "x", "by": "y", "partner": "GB"}, "reason": "closed"}
    assert page_body(ROW, first, None) == page_body(ROW, stored, None)
    assert orjson.loads(page_body(ROW, first, None))["data"] == {"partner": "CA", **first}
