"""An alert that expired a moment before its renewal arrived: nobody who answers either of them is asked again."""

from __future__ import annotations

from datetime import timedelta

from services.escalation import answers
from shared.contracts import EscalationState
from shared.events import Cause
from tests.support.escalation_rig import Rig, person


async def test_who_acknowledges_an_expired_message_has_acknowledged_its_renewal(rig: Rig) -> None:
    """The page that somebody holds in hand may be that of the old message; the Update that renews it asks no more."""
    await rig.handle(rig.plan("GB"))
    alert = rig.released("GB", expires_at=rig.clock.now() + timedelta(minutes=5))
    await rig.handle(alert)
    await rig.forward(minutes=6)
    expired = await rig.escalation("GB")
    assert expired["end_reason"] == "expired"
    await rig.handle(rig.update_of(alert, expires_at=rig.clock.now() + timedelta(days=1)))
    cause = Cause(correlation_id=rig.ids.new())
    await answers.acknowledge(rig.deps, person("GB"), expired["id"], contact_id=None, via="api", cause=cause)
    renewed = await rig.escalation("GB")
    assert renewed["id"] != expired["id"]
    assert renewed["state"] == EscalationState.ACKNOWLEDGED
    await rig.settle()
    rig.outlet.take()
    await rig.forward(minutes=11)
    assert rig.outlet.take() == []
