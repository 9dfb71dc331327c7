"""Each channel is switched off by configuration alone, and whoever had no other is seen to be out of reach."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import pytest

from services.escalation.app import build
from services.escalation.deps import EscalationDeps
from shared.clock import ManualClock
from shared.contracts import ChannelName, Gap
from shared.ids import Ids, SeededBits
from shared.keys import KeyRing
from shared.settings import load
from tests.integration.escalation.test_people import plan, somebody
from tests.support.cluster import Cluster
from tests.support.escalation_rig import KABUL, escalation_rig
from tests.support.memory_bus import MemoryBroker, MemoryBus

EVERYTHING = {
    "REDPHONE_PUBLIC_URL": "https://redphone.example",
    "REDPHONE_ESCALATION_DATABASE_URL": "postgresql://nobody@nowhere/escalation",
    "REDPHONE_EMAIL_SMTP_URL": "smtp://mail.example",
    "REDPHONE_EMAIL_FROM": "redphone@example.org",
    "REDPHONE_SMS_PROVIDERS": "twilio",
    "REDPHONE_VOICE_PROVIDERS": "twilio",
    "REDPHONE_TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
    "REDPHONE_TWILIO_AUTH_TOKEN": "0" * 32,
    "REDPHONE_TWILIO_FROM": "+15005550006",
    "REDPHONE_PUSH_SUBJECT": "mailto:duty@redphone.example",
}


@asynccontextmanager
async def usable(environment: Mapping[str, str]) -> AsyncIterator[frozenset[ChannelName]]:
    """The channels by which a service with these settings reaches anybody."""
    clock = ManualClock(KABUL)
    service = build(
        load(environment),
        clock=clock,
        ids=Ids(clock.now, SeededBits(1)),
        keys=KeyRing.generate(),
        bus=MemoryBus(clock, broker=MemoryBroker(clock)),
    )
    try:
        yield cast("EscalationDeps", service.deps).directories.kept("GB").channels
    finally:
        for stop in service.on_stop:
            await stop()
        await service.deps.intake.close()
        await service.deps.database.close()


async def test_all_of_them_are_there_where_all_are_configured() -> None:
    """Without `REDPHONE_CHANNELS` every channel that has what it needs sends."""
    async with usable(EVERYTHING) as channels:
        assert channels == set(ChannelName)


@pytest.mark.parametrize("off", list(ChannelName))
async def test_one_is_switched_off_and_no_other(off: ChannelName) -> None:
    """Whatever else is configured for it, a channel that `REDPHONE_CHANNELS` leaves out is not used."""
    left = set(ChannelName) - {off}
    async with usable({**EVERYTHING, "REDPHONE_CHANNELS": ",".join(sorted(left))}) as channels:
        assert channels == left


async def test_whoever_has_no_other_channel_is_a_gap_and_the_next_level_is_paged(
    cluster: Cluster, tmp_path: Path
) -> None:
    """With voice off, a senior contact who has only a telephone holds nothing up: the gap is named, level 2 rings."""
    async with escalation_rig(cluster, tmp_path, people=("sms",)) as rig:
        silent = somebody(rig, 1, rig.point("+447700900101", ChannelName.VOICE))
        await rig.handle(plan(rig, [silent], [somebody(rig, 2)], office=None))
        await rig.handle(rig.released("GB"))
        await rig.settle()
        assert rig.outlets["sms"].take() == [("alert.released", "+447700900102")]
        escalation = await rig.escalation("GB")
        assert escalation["level"] == 2
        assert Gap.NO_REACHABLE_POINT in escalation["gaps"]
