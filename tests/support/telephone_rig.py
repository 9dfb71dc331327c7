"""Escalation with its routes on a real port, and a telephone company on another: they call each other."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn

from redphone.counterparts.server import QuietServer
from redphone.counterparts.telephone import TelephoneCompany
from services.escalation.channels.providers.configured import build_providers
from services.escalation.channels.sms import SmsChannel
from services.escalation.channels.voice import VoiceChannel
from shared.clock import ManualClock, SystemClock
from shared.contracts import ChannelName, DutyPlanPublished, PlannedContact
from shared.ids import derived
from shared.settings import load
from shared.web import build_app
from tests.support.cluster import Cluster
from tests.support.escalation_rig import KABUL, Rig, escalation_rig

_PREFIXES = ("twilio", "telnyx", "loopback")
_SETTINGS = ("public_url", "development", "sms_providers", "voice_providers")


@dataclass
class Exchange:
    """Both sides."""

    rig: Rig
    company: TelephoneCompany
    public_url: str

    def person(
        self, partner: str, number: int, *points: tuple[ChannelName, str, int], **changes: Any
    ) -> PlannedContact:
        """A contact with (channel, telephone number, delay in seconds) as points."""
        contact = self.rig.contact(partner, number)
        planned = tuple(self.rig.point(address, channel, delay_seconds=seconds) for channel, address, seconds in points)
        return contact.model_copy(update={"points": planned, **changes})

    async def plan(self, partner: str, *contacts: PlannedContact, **changes: Any) -> DutyPlanPublished:
        """Publishes a plan with one of these contacts on each level and no other way to reach anybody."""
        plan = self.rig.plan(partner, levels=len(contacts))
        assert plan.office is not None
        office = plan.office.model_copy(update={"points": ()})
        fields = {"contacts": contacts, "endpoints": (), "office": office, **changes}
        published = plan.model_copy(update=fields)
        await self.rig.handle(published)
        return published

    async def attempts(self, channel: str) -> list[Any]:
        """The attempts over a channel, oldest first."""
        return await self.rig.rows(
            "SELECT a.* FROM attempts a JOIN pages p ON p.id = a.page_id WHERE p.channel = $1"
            " ORDER BY a.started_at, a.page_id, a.number",
            channel,
        )


@asynccontextmanager
async def exchange(
    cluster: Cluster,
    tmp_path: Path,
    *,
    sms: str = "twilio,telnyx",
    voice: str = "twilio,telnyx",
    loop_backs: Mapping[str, str] | None = None,
) -> AsyncIterator[Exchange]:
    """Red Phone and a telephone company, on free ports of this machine. Red Phone's time moves when told.

    `loop_backs` are variables that name numbers of our own, to which heartbeats go.
    """
    clock = ManualClock(KABUL)
    async with AsyncExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        public_url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        company = await stack.enter_async_context(TelephoneCompany(clock=clock, public_url=public_url))
        environment = {**company.environment(sms=sms, voice=voice), **(loop_backs or {})}
        settings = load({**environment, "REDPHONE_PUBLIC_URL": public_url, "REDPHONE_DEVELOPMENT": "1"})
        names = [*_SETTINGS, *(name for name in type(settings).model_fields if name.startswith(_PREFIXES))]
        providers = build_providers(settings, clock=SystemClock(), version="1")
        for provider in providers.values():
            stack.push_async_callback(provider.close)
        channels = {
            "sms": SmsChannel([providers[name] for name in settings.sms_providers], clock=SystemClock()),
            "voice": VoiceChannel([providers[name] for name in settings.voice_providers], clock=SystemClock()),
        }
        given = {name: getattr(settings, name) for name in names}
        rig = await stack.enter_async_context(
            escalation_rig(cluster, tmp_path, channels=channels, clock=clock, **given)
        )
        for end in rig.service.on_stop:
            stack.push_async_callback(end)
        app = build_app("Escalation", rig.service.routers, service="escalation", clock=clock, ids=rig.ids)
        server = QuietServer(uvicorn.Config(app, log_config=None, lifespan="off", access_log=False))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield Exchange(rig, company, public_url)
        finally:
            server.end()
            await serving


def contact_id(partner: str, number: int) -> Any:
    """The id of `Exchange.person`."""
    return derived("contact", f"{partner.lower()}-{number}")
