"""What escalation does when alerts, ends and answers arrive, in whatever order; every message is handled twice."""

from __future__ import annotations

from services.escalation import answers
from shared.contracts import Role
from shared.events import Cause
from tests.support.escalation_rig import REFUSED, Rig, person


def cause(rig: Rig) -> Cause:
    """The cause of a request."""
    return Cause(correlation_id=rig.ids.new())


async def test_a_release_pages_level_one_and_the_endpoint_at_once(rig: Rig) -> None:
    """The partner's system and the person of level 1 are paged at the same instant, once each."""
    await rig.handle(rig.plan("GB"))
    await rig.handle(rig.released("GB"))
    await rig.settle()
    assert sorted(rig.outlet.take()) == [("alert.released", "gb-1"), ("alert.released", "gb-system")]
    assert (await rig.escalation("GB"))["state"] == "notified"


async def test_silence_raises_level_after_level_and_ends_in_a_takeover(rig: Rig) -> None:
    """FLASH: level 2 after 10 minutes, again every 5, unreached after 30; then raiser and secretariat are asked."""
    for code in ("GB", "CA", "XR"):
        await rig.handle(rig.plan(code))
    await rig.handle(rig.released("GB"))
    await rig.settle()
    rig.outlet.take()
    await rig.forward(minutes=10)
    assert sorted(rig.outlet.take()) == [("alert.released", "gb-2"), ("level.raised", "gb-system")]
    await rig.forward(minutes=5)
    assert ("alert.released", "gb-2") in rig.outlet.take()
    await rig.forward(minutes=15)
    taken = rig.outlet.take()
    assert ("partner.unreached", "ca-1") in taken
    assert ("partner.unreached", "xr-1") in taken
    assert (await rig.escalation("GB"))["state"] == "unreached"
    assert (await rig.escalation("CA", "takeover"))["subject_partner"] == "GB"


async def test_an_acknowledgement_stops_one_partner_and_tells_the_raiser(rig: Rig) -> None:
    """One partner's answer stops its own escalation and no other's, and reaches the raiser's system."""
    for code in ("GB", "US", "CA"):
        await rig.handle(rig.plan(code))
    await rig.handle(rig.released("GB", "US"))
    await rig.settle()
    rig.outlet.take()
    escalation = await rig.escalation("GB")
    await answers.acknowledge(rig.deps, person("GB"), escalation["id"], contact_id=None, via="api", cause=cause(rig))
    await rig.settle()
    assert rig.outlet.take() == [("answer.received", "ca-system")]
    await rig.forward(minutes=11)
    targets = {target for _type, target in rig.outlet.take()}
    assert targets == {"us-2", "us-system"}


async def test_a_takeover_by_a_human_is_asked_again_after_half_an_hour(rig: Rig) -> None:
    """A human who takes an unreached partner over quiets both takeovers for 30 minutes, not for ever."""
    for code in ("GB", "CA", "XR"):
        await rig.handle(rig.plan(code))
    await rig.handle(rig.released("GB"))
    await rig.forward(minutes=30)
    unreached = await rig.escalation("GB")
    officer = person("CA", Role.DUTY_OFFICER)
    await answers.take_over(rig.deps, officer, unreached["id"], cause=cause(rig))
    rig.outlet.take()
    await rig.forward(minutes=29)
    assert rig.outlet.take() == []
    await rig.forward(minutes=2)
    assert ("partner.unreached", "xr-1") in rig.outlet.take()


async def test_an_answer_also_ends_what_tells_of_levels(rig: Rig) -> None:
    """A partner's failing system is not told of a level any more once its person has answered."""
    await rig.handle(rig.plan("GB"))
    await rig.handle(rig.released("GB"))
    await rig.settle()
    rig.outlet.answers["gb-system"] = REFUSED
    await rig.forward(minutes=10)
    escalation = await rig.escalation("GB")
    await answers.acknowledge(rig.deps, person("GB"), escalation["id"], contact_id=None, via="api", cause=cause(rig))
    await rig.settle()
    rig.outlet.take()
    await rig.forward(minutes=3)
    assert rig.outlet.take() == []
