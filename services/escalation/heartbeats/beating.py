"""The loop of heartbeats: claims what is due, sends it, and writes down what became of it.

The cast: `Heartbeats`, of which each process has one. It has a few senders of its own, so that a path that hangs holds
one of them for five seconds and nothing else. While pages wait to be sent it holds back, for a minute at most.

A beat is leased, not locked, while it is on its way: if this process dies, the lease lapses and the beat is sent again
under the same id.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from uuid import UUID

from prometheus_client import Gauge

from services.escalation.channels import AttemptState, Channel, Reason, SendResult
from services.escalation.channels.providers import Provider
from services.escalation.deps import EscalationDeps
from services.escalation.heartbeats import loop_backs, store
from services.escalation.heartbeats.certificates import Certificates
from services.escalation.heartbeats.domain import (
    INTERVAL,
    After,
    Certificate,
    Heartbeat,
    Kind,
    State,
    failed,
    handed_over,
    passed,
    postponed,
)
from services.escalation.heartbeats.loop_backs import MESSAGE_TYPE
from services.escalation.heartbeats.paths import LoopBack, refresh
from services.escalation.heartbeats.saving import count, save_after
from services.escalation.messages import instant
from shared.contracts import ChannelName
from shared.errors import Unavailable
from shared.keys import CannotOpen, point_context
from shared.log import get_logger

log = get_logger(__name__)

SENDERS_MAX = 16
"""Beats on their way at once. A thousand paths that answer take seconds an hour; a hundred that hang, half a minute."""

LEASE_SECONDS = 30.0
"""Longer than a beat and its certificate may take: a crash delays a beat by at most this."""

HELD_BACK_SECONDS_MAX = 60.0
"""So long heartbeats wait for pages. After that one at a time goes out beside them: an emergency that lasts for hours
is no time to stop looking whether the paths hold."""

REFRESH_SECONDS = 30.0
LATE = timedelta(minutes=15)
ALARMS_MAX = 100

NOT_RETURNED = "it did not come back"

PATHS = Gauge("redphone_heartbeat_paths", "Paths that have a heartbeat, by what is known of them.", ("kind", "state"))


class Heartbeats:
    """Sends heartbeats. `run_once` claims what is due and starts to send it."""

    def __init__(
        self,
        deps: EscalationDeps,
        ways_back: Mapping[UUID, LoopBack],
        *,
        channels: Mapping[str, Channel],
        providers: Mapping[str, Provider],
        certificates: Certificates,
    ) -> None:
        self._deps = deps
        self._loop_backs = ways_back
        self._channels = channels
        self._providers = providers
        self._certificates = certificates
        self._sending: set[asyncio.Task[None]] = set()
        self._refreshed_at: datetime | None = None
        self._began_at: datetime | None = None

    async def run_once(self) -> int:
        """Brings the paths up to date, and starts as many due beats as there are free senders; returns how many."""
        now = self._deps.clock.now()
        self._began_at = self._began_at or now
        if self._refreshed_at is None or (now - self._refreshed_at).total_seconds() >= REFRESH_SECONDS:
            await refresh(self._deps, self._loop_backs)
            self._refreshed_at = now
        if self._loop_backs:
            await self._end_unreturned(now)
        free = SENDERS_MAX - len(self._sending)
        if free <= 0:
            return 0
        async with self._deps.database.transaction() as tx:
            if await store.are_pages_leaving(tx, now):
                oldest = await store.find_oldest_due(tx, now, loop_backs=list(self._loop_backs))
                if oldest is None or self._sending or (now - oldest).total_seconds() < HELD_BACK_SECONDS_MAX:
                    return 0
                free = 1
            beats = await store.lease(
                tx,
                ids=self._deps.ids.many(free),
                now=now,
                leased_until=now + timedelta(seconds=LEASE_SECONDS),
                loop_backs=list(self._loop_backs),
            )
        for beat in beats:
            task = asyncio.create_task(self._send(beat), name="heartbeat")
            self._sending.add(task)
            task.add_done_callback(self._sent)
        return len(beats)

    async def idle(self) -> None:
        """Waits until nothing is on its way."""
        while self._sending:
            await asyncio.gather(*self._sending, return_exceptions=True)

    async def stop(self) -> None:
        """Lets go of beats on their way: whoever is next sends them again."""
        for task in self._sending:
            task.cancel()
        await self.idle()
        self._certificates.close()

    async def alarms(self) -> list[str]:
        """One sentence for each path that fails, and one if nobody sends heartbeats; counts the paths."""
        now = self._deps.clock.now()
        async with self._deps.database.transaction() as tx:
            numbers = await store.count(tx, partner=None, kind=None)
            failing = await store.find_visible(
                tx, partner=None, kind=None, state=State.FAILING, after=None, limit=ALARMS_MAX
            )
            oldest = await store.find_oldest_due(tx, now, loop_backs=list(self._loop_backs))
        for kind in Kind:
            for state in State:
                PATHS.labels(kind.value, state.value).set(numbers.get((kind, state), 0))
        # Of a loop-back whoever sends it speaks; nobody does of one that was taken out of the settings.
        found = [_alarm(beat) for beat in failing if beat.is_endpoint or beat.id in self._loop_backs]
        # What was due while nothing ran is no alarm until this process has had its time.
        is_late = oldest is not None and now - oldest >= LATE
        if is_late and self._began_at is not None and now - self._began_at >= LATE:
            found.append("heartbeats are overdue and nobody sends them")
        return found

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not task.cancelled() and "heartbeats" in self._deps.loops:
            self._deps.wake("heartbeats")

    async def _end_unreturned(self, now: datetime) -> None:
        """Loop-backs that have not come back by their next beat have failed."""
        async with self._deps.database.transaction() as tx:
            messages = []
            overdue = await store.load_unreturned(tx, now, SENDERS_MAX)
            for beat in overdue:
                messages += await save_after(self._deps, tx, beat, failed(beat, now, reason=NOT_RETURNED))
        for beat in overdue:
            count(beat, "failed")
        self._deps.relay.publish_soon(messages)

    async def _send(self, beat: Heartbeat) -> None:
        loop_back = self._loop_backs.get(beat.id)
        try:
            certificate = None
            if loop_back is None:
                result = await self._deps.senders.try_once(_page_row(beat))
                if result.state is AttemptState.DELIVERED and beat.needs_certificate(self._deps.clock.now()):
                    certificate = await self._look(beat)
            else:
                result = await loop_backs.send(
                    self._deps, loop_back, beat, channels=self._channels, providers=self._providers
                )
            await self._write(beat, result, certificate, comes_back=loop_back is not None and loop_back.comes_back)
        except Unavailable as error:
            log.warning("heartbeat.unrecorded", path_id=str(beat.id), error=type(error).__name__)
        except Exception:  # a bug in one beat must not take the others down; its lease lapses and it is sent again
            log.exception("heartbeat.failed_to_send", path_id=str(beat.id))

    async def _look(self, beat: Heartbeat) -> Certificate | None:
        assert beat.sealed_address is not None, "an endpoint has an address"
        try:
            url = self._deps.keys.unseal(beat.sealed_address, context=point_context(beat.id))
        except CannotOpen:
            return None
        return await self._certificates.look(url)

    async def _write(
        self, beat: Heartbeat, result: SendResult, certificate: Certificate | None, *, comes_back: bool
    ) -> None:
        now = self._deps.clock.now()
        assert beat.beat_id is not None, "what was sent was begun"
        async with self._deps.database.transaction() as tx:
            known = await store.load_beat(tx, beat.beat_id)
            if known is None or known.is_out:
                # It has come back already, its path is gone or has moved, or somebody sent it again after our lease.
                return
            after, outcome = _after(known, result, certificate, comes_back=comes_back, now=now)
            messages = await save_after(self._deps, tx, known, after)
        count(beat, outcome)
        self._deps.relay.publish_soon(messages)
        if after.heartbeat.is_out and result.provider is not None and result.provider_id is not None:
            await loop_backs.note_early(self._deps, result.provider, result.provider_id)


def _after(
    beat: Heartbeat, result: SendResult, certificate: Certificate | None, *, comes_back: bool, now: datetime
) -> tuple[After, str]:
    """What a beat comes to by its sending alone, and how it is counted."""
    if result.reason is Reason.CHANNEL_UNAVAILABLE:
        return postponed(beat, now), "postponed"
    if result.state not in (AttemptState.SENT, AttemptState.DELIVERED):
        return failed(beat, now, reason=result.detail or result.reason.value), "failed"
    if comes_back:
        return handed_over(beat, result.provider_id), "handed_over"
    return passed(beat, now, answer_seconds=result.elapsed_seconds, certificate=certificate), "answered"


def _page_row(beat: Heartbeat) -> dict[str, object]:
    """The beat as a page that is stored nowhere. Its body is the same if it is sent again after a crash."""
    assert beat.beat_at is not None, "what is sent was begun"
    return {
        "id": beat.beat_id,
        "attempts": 1,
        "message_type": MESSAGE_TYPE,
        "contact_point_id": beat.id,
        "sealed_address": beat.sealed_address,
        "channel": ChannelName.WEBHOOK,
        "partner": beat.partner,
        "alert_id": None,
        "escalation_id": None,
        "level": 0,
        "data": {"endpoint_id": str(beat.id), "next_by": instant(beat.beat_at + INTERVAL)},
        "created_at": beat.beat_at,
    }


def _alarm(beat: Heartbeat) -> str:
    """What operators read. No address stands in it."""
    if beat.is_endpoint:
        return f"{beat.partner}'s endpoint {beat.told!r} does not answer its heartbeat"
    return f"our heartbeat through a provider fails: {beat.told}"
