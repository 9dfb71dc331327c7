"""Providers in order: the next is asked when the one before does not take the message.

The cast: a `Failover`, which belongs to one channel and remembers which providers have just failed it.

The promise: an attempt ends within `ATTEMPT_SECONDS`, below the lease of its page. After an outcome that is not known,
a request that was sent and never answered for example, the next provider is asked as well: two messages are a
nuisance, silence is a catastrophe. That an address is unknown for good is said only if every provider says so.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from services.escalation.channels import AttemptState, Reason, SendResult
from services.escalation.channels.providers import Answer, Provider
from shared.clock import Clock

ATTEMPT_SECONDS = 10.0
"""For one attempt with all providers. Each gets an even share of what is left, so that a silent one leaves the next its
time."""

BEFORE_NEXT_SECONDS = 3.0
"""No provider keeps the next one waiting for longer. Those of today answer within one."""

REST_SECONDS = 30.0
"""A provider that could not be reached or did not answer is asked last for so long, so that it delays one page and not
all of them."""

UNAVAILABLE = frozenset(
    {
        Reason.TIMEOUT,
        Reason.CONNECT_FAILED,
        Reason.NAME_FAILED,
        Reason.TLS_FAILED,
        Reason.DISCONNECTED,
        Reason.RESPONSE_MALFORMED,
        Reason.PROVIDER_UNAVAILABLE,
        Reason.PROVIDER_BUSY,
    }
)
"""Reasons that say nothing about the message: the provider itself was not there for it."""

Ask = Callable[[Provider, float], Awaitable[Answer]]


class Failover:
    """Asks the providers of one channel in the order in which they were configured."""

    def __init__(
        self, providers: Sequence[Provider], *, clock: Clock, attempt_seconds: float = ATTEMPT_SECONDS
    ) -> None:
        self.providers = tuple(providers)
        self._clock = clock
        self._attempt_seconds = attempt_seconds
        self._resting_until: dict[str, float] = {}

    async def send(self, ask: Ask) -> SendResult:
        """The first provider's answer that takes the message, or what all of them together come to."""
        started = self._clock.monotonic()
        refusals: list[tuple[Provider, Answer]] = []
        order = self._order(started)
        for position, provider in enumerate(order):
            left_seconds = self._attempt_seconds - (self._clock.monotonic() - started)
            if left_seconds <= 0:
                break
            is_last = position == len(order) - 1
            share_seconds = left_seconds / (len(order) - position)
            answer = await ask(provider, share_seconds if is_last else min(share_seconds, BEFORE_NEXT_SECONDS))
            if answer.reason in UNAVAILABLE:
                self._resting_until[provider.name] = self._clock.monotonic() + REST_SECONDS
            else:
                self._resting_until.pop(provider.name, None)
            if answer.is_taken:
                return self._taken(provider, answer, refusals, started)
            refusals.append((provider, answer))
        return self._refused(refusals, started)

    def _order(self, now: float) -> list[Provider]:
        return sorted(self.providers, key=lambda provider: self._resting_until.get(provider.name, 0.0) > now)

    def _taken(
        self, provider: Provider, answer: Answer, refusals: Sequence[tuple[Provider, Answer]], started: float
    ) -> SendResult:
        return SendResult(
            state=AttemptState.SENT,
            reason=Reason.ACCEPTED,
            detail=_told(refusals),
            status_code=answer.status_code,
            retry_after_seconds=None,
            elapsed_seconds=self._clock.monotonic() - started,
            provider=provider.name,
            provider_id=answer.provider_id,
            cost=answer.cost,
        )

    def _refused(self, refusals: Sequence[tuple[Provider, Answer]], started: float) -> SendResult:
        hopeful = [pair for pair in refusals if pair[1].reason is not Reason.ADDRESS_UNKNOWN]
        provider, answer = (hopeful or refusals)[-1]
        pauses = [answer.retry_after_seconds for _, answer in refusals if answer.retry_after_seconds is not None]
        return SendResult(
            state=AttemptState.FAILED,
            reason=answer.reason,
            detail=_told(refusals),
            status_code=answer.status_code,
            # One provider that asks for a pause must not hold up another that only failed.
            retry_after_seconds=min(pauses) if len(pauses) == len(refusals) else None,
            elapsed_seconds=self._clock.monotonic() - started,
            provider=provider.name,
        )


def _told(refusals: Sequence[tuple[Provider, Answer]]) -> str | None:
    """Why those that were asked did not take it: `twilio: HTTP 503`."""
    return "; ".join(f"{provider.name}: {answer.detail or answer.reason}" for provider, answer in refusals) or None
