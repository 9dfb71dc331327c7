"""alerting as a process builds it, beside escalation: what goes out comes back and is shown."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import insert

from services.alerting import handlers, tables
from services.alerting.handlers import SUBSCRIPTIONS
from shared.bus import BATCH_MAX
from shared.contracts import EscalationKind, EscalationsStarted, EscalationState, Role, StartedEscalation
from shared.events import REGISTRY, Message
from shared.ids import MessageId
from tests.support.cluster import Cluster
from tests.support.world import World, world

LEAST: dict[str, Any] = {
    "headline": "Kabul: evacuation of people at risk before the airport closes",
    "countries": ["AFG"],
    "to": ["US", "GB"],
    "precedence": "FLASH",
    "self_release_reason": "Nobody else reachable at 03:00",
}


async def know(world: World, *codes: str) -> None:
    """Makes partners known to alerting, as if roster had published them."""
    rows = [{"code": code, "name": code, "standing": "member", "active": True, "version": 1} for code in codes]
    async with world.database("alerting").transaction() as tx:
        await tx.execute(insert(tables.partners), rows)


@pytest.mark.logs_error("duty_plan.lacking")  # nobody has published one here
async def test_answer_comes_back_to_the_raiser(cluster: Cluster, tmp_path: Path) -> None:
    """A release opens escalations, which confirm it; an acknowledgement appears on the raiser's timeline."""
    async with world(cluster, tmp_path, services=("alerting", "escalation")) as all_of_it:
        await know(all_of_it, "CA", "US", "GB")
        raiser = await all_of_it.officer("CA")
        senior = await all_of_it.officer("US", Role.SENIOR_CONTACT, name="senior")
        released = await all_of_it.http.post("/v1/alerts", json=LEAST, headers={**raiser, **all_of_it.key()})
        assert released.status_code == 202, released.text
        alert_id = released.json()["id"]
        await all_of_it.settle()
        (row,) = await all_of_it.rows("alerting", "SELECT unconfirmed FROM alerts")
        assert row.unconfirmed == [], "escalation has reported every escalation as open"
        answer = await all_of_it.http.post(
            "/v1/acknowledgements", json={"alert_ids": [alert_id]}, headers={**senior, **all_of_it.key()}
        )
        assert answer.status_code in (200, 201, 202), answer.text
        await all_of_it.settle()
        page = (await all_of_it.http.get(f"/v1/alerts/{alert_id}/timeline", headers=raiser)).json()
        seen = [(item["type"], item["data"].get("partner")) for item in page["items"]]
        assert ("partner_acknowledged", "US") in seen
        assert ("partner_acknowledged", "GB") not in seen
        assert await all_of_it.rows("alerting", "SELECT id FROM timeline WHERE position IS NULL") == []


async def test_alert_expires_by_itself(cluster: Cluster, tmp_path: Path) -> None:
    """With nobody doing anything, an alert ends at its instant: the loop is among those that the service runs."""
    async with world(cluster, tmp_path, services=("alerting",)) as alone:
        await know(alone, "CA", "US", "GB")
        raiser = await alone.officer("CA")
        released = await alone.http.post("/v1/alerts", json=LEAST, headers={**raiser, **alone.key()})
        service = alone.services["alerting"]
        await handlers.on_escalations_started(service.deps, started(alone, released.json()["id"]))
        alone.clock.advance(24 * 3600 + 30 * 60)
        assert await service.loops["expiry"].run_once() == 1
        shown = await alone.http.get(
            f"/v1/alerts/{released.json()['id']}", headers=await alone.officer("CA", name="second")
        )
        assert shown.json()["state"] == "expired"


def test_everything_that_escalation_reports_is_subscribed_to() -> None:
    """No report about an alert is left unread."""
    reports = {event for event in REGISTRY.values() if event.owner == "escalation" and "alert_id" in event.model_fields}
    assert reports
    assert reports <= set(SUBSCRIPTIONS)


async def test_reports_that_are_only_shown_are_handled_together(cluster: Cluster, tmp_path: Path) -> None:
    """All of them share one batch, and as many as the bus fetches at once may wait in it; the others are as ever."""
    async with world(cluster, tmp_path, services=("alerting",)) as alone:
        subscriptions = alone.services["alerting"].subscriptions
        together = [one for one in subscriptions if one.together]
        assert {one.event for one in together} == {
            one for one in SUBSCRIPTIONS if one.owner == "escalation" and one is not EscalationsStarted
        }
        assert {one.concurrency for one in together} == {BATCH_MAX}
        assert len({one.handle for one in together}) == 1
        assert all(one.concurrency < BATCH_MAX for one in subscriptions if not one.together)


def started(world: World, alert_id: str) -> Message[EscalationsStarted]:
    """What escalation reports once it has opened, so that nothing is said again."""
    body = EscalationsStarted(
        alert_id=UUID(alert_id),
        raiser="CA",
        started_at=world.clock.now(),
        escalations=tuple(
            StartedEscalation(
                escalation_id=world.ids.new(),
                partner=code,
                kind=EscalationKind.ANSWER,
                state=EscalationState.PENDING,
                level=1,
            )
            for code in ("US", "GB")
        ),
    )
    return Message(
        id=MessageId(world.ids.new()), body=body, occurred_at=world.clock.now(), correlation_id=world.ids.new()
    )
