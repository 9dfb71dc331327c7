"""Line tests through the whole network: who is paged by one, who is not, and what a real alert does to it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from services.alerting.line_tests.handlers import unanswered_alarms
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Outlet
from tests.support.marked_network import MarkedNetwork, marked_world
from tests.support.world import World

HASTY = """
[deadlines.IMMEDIATE]
acknowledge_within_seconds = 300
next_level_every_seconds = 60
unreached_after_seconds = 900
position_within_seconds = 3600
"""
"""A network in which a partner is unreached long before a line test of half an hour would be over."""


class Stage:
    """Three services, three partners, and what has left."""

    def __init__(self, made: World, network: MarkedNetwork) -> None:
        self.made, self.network = made, network

    async def post(self, who: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """A call by somebody, and what follows at this instant."""
        headers = {**await self.network.sign_in(self.made, who), **self.made.key()}
        answer = await self.made.http.post(path, json=body, headers=headers)
        assert answer.is_success, answer.text
        await self.made.settle()
        return dict(answer.json())

    async def test_line(self, partner: str = "GB") -> dict[str, Any]:
        """The secretariat tests a partner now."""
        return await self.post("xr-secretariat", "/v1/line-tests", {"partner": partner})

    async def pass_through(self, *seconds: float) -> None:
        """Moves time on to each of these instants after now in turn, and lets happen what is due there."""
        begin = self.made.clock.now()
        for after in seconds:
            self.made.clock.advance(after - (self.made.clock.now() - begin).total_seconds())
            await self.made.settle()

    async def pages(self) -> list[tuple[str, str, int]]:
        """Every page: partner, message type and level."""
        rows = await self.made.rows("escalation", "SELECT partner, message_type, level FROM pages ORDER BY id")
        return [(row.partner, row.message_type, row.level) for row in rows]

    async def escalations(self) -> list[tuple[str, str, str, str | None]]:
        """Every escalation: partner, kind, state and why it ended."""
        rows = await self.made.rows(
            "escalation", "SELECT partner, kind, state, end_reason FROM escalations ORDER BY opened_at, id"
        )
        return [(row.partner, row.kind, row.state, row.end_reason) for row in rows]

    async def outcome(self) -> Any:
        """The one test."""
        (row,) = await self.made.rows("alerting", "SELECT * FROM line_tests")
        return row

    async def told(self, *events: str) -> int:
        """How many events of these kinds escalation has published."""
        types = [f"redphone.escalation.{name}.v1" for name in events]
        rows = await self.made.rows("escalation", "SELECT id FROM outbox WHERE type = ANY(:types)", types=types)
        return len(rows)


@pytest_asyncio.fixture
async def stage(cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Stage]:
    """A network with the deadlines by default, or those that the test brings."""
    deadlines = getattr(request, "param", "")
    outlets = {"webhook": Outlet(), "sms": Outlet(name="sms", provider="sms provider")}
    partners = ("CA", "GB", "XR")
    async with marked_world(cluster, tmp_path, partners, outlets=outlets, further=deadlines) as (made, network):
        yield Stage(made, network)


@pytest.mark.logs_error("reconciler.alarm_raised")
@pytest.mark.parametrize("stage", ["", HASTY], ids=["default deadlines", "hasty deadlines"], indirect=True)
async def test_an_unanswered_test_pages_nobody_else(stage: Stage) -> None:
    """It ends by itself before anybody is unreached: no takeover, no alarm, nobody at secretariat or other partners."""
    await stage.test_line()
    paged = {page for page in await stage.pages() if page[1] == "alert.released"}
    assert paged == {("GB", "alert.released", 0), ("GB", "alert.released", 1)}
    await stage.pass_through(60, 299, 300, 302, 899, 901, 1799, 1800, 1802, 2700)
    assert await stage.escalations() == [("GB", "answer", "ended", "expired")]
    assert {(partner, kind) for partner, kind, _ in await stage.pages()} == {
        ("GB", "alert.released"),
        ("GB", "alert.ended"),
        # Its roster managers, with the morning's mail.
        ("GB", "notice.issued"),
    }
    assert await stage.told("partner_unreached", "level_raised", "coverage_goal_missed", "partner_taken_over") == 0
    test = await stage.outcome()
    assert (test.outcome, test.level) == ("unanswered", 1)
    alarms = await unanswered_alarms(stage.made.services["alerting"].deps)
    assert alarms == [f"GB has not answered the line test {test.reference}; see the report of line tests"]


async def test_an_answered_test_ends_a_minute_later(stage: Stage) -> None:
    """A named human acknowledges as they would any alert; nothing is asked of anybody afterwards."""
    test = await stage.test_line()
    await stage.pass_through(200)
    await stage.post("gb-senior", "/v1/acknowledgements", {"alert_ids": [test["alert_id"]]})
    await stage.pass_through(59, 60, 62)
    assert await stage.escalations() == [("GB", "answer", "ended", "closed")]
    row = await stage.outcome()
    assert (row.outcome, (row.acknowledged_at - row.started_at).total_seconds()) == ("answered", 200.0)
    before = await stage.pages()
    await stage.pass_through(1800, 3700)
    assert await stage.pages() == before
    assert await stage.made.rows("escalation", "SELECT id FROM escalations WHERE due_at IS NOT NULL") == []
    people = {partner for partner, kind, _ in before if kind != "answer.received"}
    assert people == {"GB"}


async def test_every_message_of_a_test_says_that_it_is_one(stage: Stage) -> None:
    """EXERCISE comes first, on every channel."""
    await stage.test_line()
    messages = [page.message.short for page in stage.made.outlets["sms"].sent]
    assert messages
    assert all(message.startswith("EXERCISE") for message in messages)


async def test_an_actual_alert_is_paged_at_once_and_stops_the_test(stage: Stage) -> None:
    """Whoever was just woken by the test is paged by the alert in the same instant, and told that the test is over."""
    test = await stage.test_line()
    await stage.pass_through(5)
    sms = stage.made.outlets["sms"]
    sms.sent.clear()
    body = {
        "headline": "Kabul: evacuation before the airport closes",
        "countries": ["AF"],
        "to": ["GB"],
        "precedence": "IMMEDIATE",
        "self_release_reason": "alone on duty at night",
    }
    alert = await stage.post("ca-duty", "/v1/alerts", body)
    assert sms.sent[0].message_type == "alert.released"
    assert {page.message_type for page in sms.sent} == {"alert.released", "alert.ended"}
    rows = await stage.made.rows("escalation", "SELECT alert_id, state, end_reason FROM escalations")
    states = {str(row.alert_id): (row.state, row.end_reason) for row in rows}
    assert states == {test["alert_id"]: ("ended", "cancelled"), alert["id"]: ("notified", None)}
    row = await stage.outcome()
    assert (row.outcome, row.stop_reason) == ("stopped", "actual_alert")
