"""Pages by telephone call, started with the first provider that takes it.

The promise is that of `sms`. What the call says is not handed over with it: the provider asks for it when somebody
answers (`provider_api`), so that a call that rings for long says what holds when it is taken.
"""

from __future__ import annotations

from services.escalation.channels import Outgoing
from services.escalation.channels.providers import Answer, Provider
from services.escalation.channels.sms import TelephoneChannel


class VoiceChannel(TelephoneChannel):
    """Calls through the configured providers."""

    name = "voice"

    async def ask(self, provider: Provider, page: Outgoing, seconds: float) -> Answer:
        """Starts the call."""
        assert page.message is not None
        is_urgent = page.message.goes_first
        return await provider.start_call(page.target, page_id=page.page_id, seconds=seconds, is_urgent=is_urgent)
