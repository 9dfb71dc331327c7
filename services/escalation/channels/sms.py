"""Pages by SMS: a few lines in the contact's language, handed to the first provider that takes them.

The promise: an attempt ends within `failover.ATTEMPT_SECONDS` and never raises. `sent` means that a provider has the
message; whether it arrived comes later, by the provider's callback.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from services.escalation.channels import AttemptState, Outgoing, Reason, SendResult
from services.escalation.channels.providers import E164, Answer, Provider
from services.escalation.channels.providers.failover import ATTEMPT_SECONDS, Failover
from shared.carriers import joined
from shared.clock import Clock
from shared.log import get_logger

log = get_logger(__name__)


class TelephoneChannel:
    """What SMS and voice share: the order of providers, and what is refused before any of them is asked."""

    name = ""

    def __init__(
        self, providers: Sequence[Provider], *, clock: Clock, attempt_seconds: float = ATTEMPT_SECONDS
    ) -> None:
        self._clock = clock
        self._failover = Failover(providers, clock=clock, attempt_seconds=attempt_seconds)
        self._closed = False
        self.provider = joined(provider.name for provider in providers)

    async def send(self, page: Outgoing) -> SendResult:
        """Tries the providers in order, once each."""
        refused = self._refusal(page)
        if refused is not None:
            return refused
        started = self._clock.monotonic()
        try:
            return await self._failover.send(lambda provider, seconds: self.ask(provider, page, seconds))
        except Exception as error:  # noqa: BLE001 - the delivery loop relies on a result for every page
            log.error("telephone.send_failed", channel=self.name, page_id=str(page.page_id), error=type(error).__name__)
            result = _failed(Reason.INTERNAL, type(error).__name__)
            return replace(result, elapsed_seconds=self._clock.monotonic() - started)

    async def ask(self, provider: Provider, page: Outgoing, seconds: float) -> Answer:
        """Hands the page to one provider."""
        raise NotImplementedError

    def make_ready(self, page: Outgoing) -> Outgoing:
        """Nothing needs the processor here."""
        return page

    async def prepare(self, contact_point_id: UUID, target: str) -> None:  # noqa: ARG002 - one client serves all points
        """Builds the providers' clients."""
        for provider in self._failover.providers:
            try:
                await provider.prepare()
            except Exception as error:  # noqa: BLE001 - preparing is a convenience and must not stop its caller
                log.warning("telephone.prepare_failed", provider=provider.name, error=type(error).__name__)

    async def close(self) -> None:
        """Takes no further page. The providers are closed by whoever made them: channels share them."""
        self._closed = True

    def _refusal(self, page: Outgoing) -> SendResult | None:
        if self._closed:
            return _failed(Reason.CHANNEL_UNAVAILABLE, "the channel is closed")
        if not E164.fullmatch(page.target):
            return _failed(Reason.TARGET_REFUSED, "not a telephone number with + and country code")
        if page.message is None:
            return _failed(Reason.INTERNAL, "there is no text for a person")
        return None


class SmsChannel(TelephoneChannel):
    """SMS through the configured providers."""

    name = "sms"

    async def ask(self, provider: Provider, page: Outgoing, seconds: float) -> Answer:
        """Hands the short text over."""
        assert page.message is not None
        message = page.message
        return await provider.send_sms(
            page.target, message.short, page_id=page.page_id, seconds=seconds, is_urgent=message.goes_first
        )


def _failed(reason: Reason, detail: str) -> SendResult:
    return SendResult(AttemptState.FAILED, reason, detail, None, None, 0.0)
