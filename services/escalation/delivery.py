"""Delivery: claims due pages, sends them, and records every attempt with its reason.

`Delivery` leases due pages, as many as it has free senders, and sends each through its channel. Pages that a
transaction has stored under a lease, or has promised to store, come from `handed`; what became of each attempt goes to
`recording`.

A page is `due → leased → done | ended`. The attempt row is committed with the lease; nothing is locked while a page is
on its way. A lapsed lease is sent again under the same id: two pages are a nuisance, silence is a catastrophe. A
leased page that could not start within 50 ms is checked again against its escalation first, all waiting ones in one
query, so that nobody who has just acknowledged is rung.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence, Set
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from services.escalation import store
from services.escalation.channels import (
    NOT_BEGUN,
    AttemptState,
    Channel,
    Outgoing,
    PersonMessage,
    Reason,
    SendResult,
)
from services.escalation.handed import HandedOver
from services.escalation.leased import LEASE_SECONDS, Leased, Promise, together
from services.escalation.messages import AlertPart, alert_part, page_body
from services.escalation.model import AlertFacts
from services.escalation.notices.issuing import CALM_PRIORITY
from services.escalation.people.persons import Persons
from services.escalation.recording import Finished, Recorder
from services.escalation.saving import DRILL_PRIORITY
from shared.contracts import ChannelName, Precedence
from shared.db import Transaction
from shared.errors import Unavailable
from shared.keys import CannotOpen, point_context
from shared.log import get_logger
from shared.process import Deps

log = get_logger(__name__)

SENDERS_MAX = 4096
"""Pages on their way at once. Far more than are ever busy: those that hang must not keep the others waiting."""

PER_POINT_MAX = 4
"""Pages on their way to one contact point at once."""

GATHER_SECONDS = 60.0
"""After a message to a person, further ones to the same contact point gather for so long. FLASH is never held back."""

GATHERED_MAX = 250
"""So many pages at most leave as one message: some 25 kB of text, made in some 25 ms. More are further messages."""

RECHECK_SECONDS = 0.05
"""A leased page that starts later than this is checked again first."""

PROMISED_BEGUN_SECONDS = 0.1
"""A page that leaves before it is stored may wait for so long in its channel: an answer to another page of the same
escalation waits for the rows, and no send may start more than a tenth of a second after it."""

RECHECK_AHEAD_SECONDS = 0.04
"""Where many wait for their start, all of them are checked before the first is too late, so that it is one query."""

STARTED_AT_ONCE = 32
READY_AT_ONCE = 16
"""So many pages are started, or rendered and signed, in one step of the event loop: what else waits, the database's
answers for example, gets its turn in between."""

ADDRESSES_KEPT_MAX = 20_000
ALERTS_KEPT_MAX = 500


class Delivery:
    """Sends pages. `run_once` leases what is due and starts to send it."""

    def __init__(
        self, deps: Deps, channels: Mapping[str, Channel], persons: Persons, jitter: Callable[[], float]
    ) -> None:
        self._deps = deps
        self._persons = persons
        self._spoken: dict[UUID, datetime] = {}
        self._spoken_actual: dict[UUID, datetime] = {}
        self._public_url = deps.settings.public_url or ""
        self._channels = channels
        self._sending: set[asyncio.Task[None]] = set()
        self._busy: Counter[UUID] = Counter()
        self._addresses: dict[tuple[UUID, str], str] = {}
        self._alerts: dict[UUID, AlertPart] = {}
        self._recheck: dict[UUID, asyncio.Future[bool]] = {}
        self._recheck_task: asyncio.Task[None] | None = None
        self._reserved = 0
        self._starting: set[asyncio.Task[None]] = set()
        self._promises: dict[UUID, Promise] = {}
        self._at_rest = asyncio.Event()
        self._at_rest.set()
        self.recorder = Recorder(deps, jitter, self._at_rest)

    @property
    def free(self) -> int:
        """How many more pages can be on their way."""
        return max(0, SENDERS_MAX - len(self._sending) - self._reserved)

    @asynccontextmanager
    async def hand_over(self) -> AsyncIterator[HandedOver]:
        """As `handover.Senders` says. While the loop does not run, nothing is taken, and every page stays due."""
        running = "delivery" in self._deps.loops and self._deps.loops["delivery"].running
        handed = HandedOver(self, self._deps.clock.now(), open_for=self.free if running else 0)
        try:
            yield handed
        except BaseException:
            handed.drop()
            raise
        finally:
            self._reserved -= handed.reserved
        handed.start()

    def promise(self, alert_id: UUID, opening: store.BegunOpening) -> Promise:
        """What this process knows of an opening that is not stored yet."""
        for other in self._promises.values():
            other.hurry.set()  # who comes next waits for nobody's sending
        known = self._promises.get(alert_id)
        if known is None or known.opening != opening:
            known = self._promises[alert_id] = Promise(opening)
        return known

    def end_promise(self, alert_id: UUID, promise: Promise, *, kept: bool) -> None:
        """It is stored, or is left to whichever process gets the release again."""
        promise.end(kept=kept)
        if self._promises.get(alert_id) is promise:
            del self._promises[alert_id]

    def begun(self, alert_id: UUID, *, by: UUID | None = None) -> store.BegunOpening | None:
        """As `handover.Senders` says."""
        promise = self._promises.get(alert_id)
        return None if promise is None or by not in {None, promise.opening.id} else promise.opening

    async def settled(self, *alert_ids: UUID | None) -> None:
        """As `handover.Senders` says."""
        for alert_id, promise in list(self._promises.items()):
            if not alert_ids or alert_id in alert_ids:
                promise.hurry.set()
                await promise.settled.wait()

    async def try_once(self, row: store.Row) -> SendResult:
        """As `handover.Senders` says."""
        return await self._attempt(Leased(row, None), self._deps.clock.now())

    def monotonic(self) -> float:
        """The reading that leases are measured by."""
        return self._deps.clock.monotonic()

    def reserve(self, rows: Sequence[dict[str, Any]], limit: int, points: Counter[UUID]) -> list[dict[str, Any]]:
        """As many of the rows as there are free senders for, within the limit of each contact point.

        `points` counts what the same transaction has reserved at each of them.
        """
        taken: list[dict[str, Any]] = []
        for row in rows:
            point = row["contact_point_id"]
            if len(taken) < min(limit, self.free) and self._busy[point] + points[point] < self._at_once(row):
                points[point] += 1
                taken.append(row)
        self._reserved += len(taken)
        return taken

    def _at_once(self, row: Mapping[str, Any]) -> int:
        """How many messages may be on their way to a contact point. Several pages to a person leave as one message,
        which the loop puts together, perhaps after some time of gathering.
        """
        if row["channel"] == ChannelName.WEBHOOK:
            return PER_POINT_MAX
        # Nothing of a drill keeps an Actual alert waiting.
        spoken = self._spoken if row["priority"] >= DRILL_PRIORITY else self._spoken_actual
        spoken_at = spoken.get(row["contact_point_id"])
        is_held = spoken_at is not None and row["asks"] and row["priority"] % 10 != Precedence.FLASH.rank
        return 0 if is_held else 1

    async def make_ready(self, handed: HandedOver) -> None:
        """Renders and signs pages, some at a time. What cannot be made ready is left to its attempt, which says so."""
        while (number := len(handed.ready)) < len(handed.rows):
            if number % READY_AT_ONCE == 0:
                await self._deps.clock.sleep(0)
            row = handed.rows[number]
            handed.ready.append(None)
            if row["channel"] in self._channels:
                with suppress(Exception):
                    page = Leased(row, handed.parts[row["alert_id"]])
                    outgoing = self._outgoing(page, self._deps.clock.now(), RECHECK_SECONDS)
                    handed.ready[number] = self._channels[row["channel"]].make_ready(outgoing)

    def start_all(self, leased: Sequence[Leased], leased_at: float) -> asyncio.Task[None]:
        """Starts pages that are leased and committed; the task ends when all of them have been tried."""
        self._reserved += len(leased)
        task = asyncio.create_task(self._start_in_steps(leased, leased_at), name="start pages")
        self._starting.add(task)
        task.add_done_callback(self._starting.discard)
        return task

    def start_promised(self, pages: Sequence[Leased]) -> list[asyncio.Task[None]]:
        """Starts pages that are promised, and stored later."""
        self._reserved -= len(pages)
        present, started = self._deps.clock.monotonic(), []
        for page in pages:
            assert page.promise is not None
            page.promise.begun(page.row["id"])
            started.append(self._start(page, present))
        return started

    async def _start_in_steps(self, leased: Sequence[Leased], checked_at: float) -> None:
        """Starts pages some at a time; before those that have waited for too long start, all that wait are checked."""
        started = []
        while leased:
            if self._deps.clock.monotonic() - checked_at > RECHECK_AHEAD_SECONDS:
                checked_at = self._deps.clock.monotonic()
                wanted = await self._find_wanted([one.row["id"] for page in leased for one in page.pages])
                waited, leased = len(leased), [left for page in leased if (left := page.only(wanted)) is not None]
                self._reserved -= waited - len(leased)
            some, leased = leased[:STARTED_AT_ONCE], leased[STARTED_AT_ONCE:]
            self._reserved -= len(some)
            started += [self._start(page, checked_at) for page in some]
            await self._deps.clock.sleep(0)
        await asyncio.gather(*started, return_exceptions=True)

    async def run_once(self) -> int:
        """Leases due pages and starts to send them; returns how many."""
        free = self.free
        if not free:
            return 0
        now, leased_at = self._deps.clock.now(), self._deps.clock.monotonic()
        async with self._deps.database.transaction() as tx:
            if held := self._gathering(now):
                await store.hold_pages(
                    tx, held, by_actual=self._spoken_actual.keys(), unheld_precedence=Precedence.FLASH.rank, now=now
                )
            rows = await store.lease_pages(
                tx,
                now=now,
                leased_until=now + timedelta(seconds=LEASE_SECONDS),
                limit=free,
                busy=self._busy,
                per_point=PER_POINT_MAX,
            )
            parts = await self.parts_of(tx, {row["alert_id"] for row in rows} - {None})
            if people := {row["partner"] for row in rows if row["channel"] != ChannelName.WEBHOOK}:
                await self._persons.learn(tx, [*people, *{part.facts.raiser for part in parts.values()}])
        leased = _messages([Leased(row, parts.get(row["alert_id"])) for row in rows])
        if len(leased) > STARTED_AT_ONCE:
            self.start_all(leased, leased_at)
        else:
            for page in leased:
                self._start(page, leased_at)
        return len(rows)

    def _gathering(self, now: datetime) -> dict[UUID, datetime]:
        """The contact points of people that a message has just gone to, and until when the next one gathers."""
        gather = timedelta(seconds=GATHER_SECONDS)
        self._spoken = {point: at for point, at in self._spoken.items() if at + gather > now}
        self._spoken_actual = {point: at for point, at in self._spoken_actual.items() if at + gather > now}
        return {point: at + gather for point, at in self._spoken.items()}

    async def parts_of(self, tx: Transaction, alert_ids: Set[UUID]) -> dict[UUID, AlertPart]:
        """What these alerts say. What is kept between passes has a limit; what one pass needs has none."""
        parts = {alert_id: self._alerts[alert_id] for alert_id in alert_ids if alert_id in self._alerts}
        if missing := alert_ids - parts.keys():
            for alert_id, (facts, content) in (await store.find_content(tx, sorted(missing))).items():
                parts[alert_id] = alert_part(facts, content, self._public_url)
                if content is not None:
                    self.remember_alert(alert_id, parts[alert_id])
        return parts

    async def next_in_seconds(self) -> float:
        """How long until the next page falls due, at most a second."""
        async with self._deps.database.transaction() as tx:
            due_at = await store.find_next_page_due(tx)
        if due_at is None:
            return 1.0
        return min(1.0, max(0.0, (due_at - self._deps.clock.now()).total_seconds()))

    def render(self, facts: AlertFacts, content: Mapping[str, Any]) -> AlertPart:
        """What pages say of an alert, kept for the next ones."""
        part = alert_part(facts, content, self._public_url)
        self.remember_alert(facts.alert_id, part)
        return part

    def remember_alert(self, alert_id: UUID, rendered: AlertPart) -> None:
        """Keeps the part of the body that all partners share; a released alert never changes."""
        if len(self._alerts) >= ALERTS_KEPT_MAX:
            self._alerts.pop(next(iter(self._alerts)))
        self._alerts[alert_id] = rendered

    async def idle(self) -> None:
        """Waits until nothing is on its way and everything is recorded."""
        while self._sending or self._starting:
            await asyncio.gather(*self._sending, *self._starting, return_exceptions=True)
        while await self.recorder.run_once():
            pass

    def leave_promises(self) -> None:
        """What has been begun and could not be stored is left to whichever process gets the release again."""
        for alert_id, promise in list(self._promises.items()):
            self.end_promise(alert_id, promise, kept=False)

    async def stop(self) -> None:
        """Lets attempts under way finish (each has its own time limit), and records them."""
        self.leave_promises()
        await self.idle()
        for channel in self._channels.values():
            await channel.close()

    def _start(self, page: Leased, leased_at: float) -> asyncio.Task[None]:
        self._busy[page.row["contact_point_id"]] += 1
        task = asyncio.create_task(self._send(page, leased_at))
        self._sending.add(task)
        self._at_rest.clear()
        task.add_done_callback(self._sent)
        return task

    def _sent(self, task: asyncio.Task[None]) -> None:
        self._sending.discard(task)
        if not self._sending:
            self._at_rest.set()

    async def _send(self, page: Leased, leased_at: float) -> None:
        point = page.row["contact_point_id"]
        try:
            left: Leased | None = page
            if page.others:
                left = await self._gathered(page)
            elif self._deps.clock.monotonic() - leased_at > RECHECK_SECONDS and not await self._still_wanted(page):
                return
            if left is None:
                return
            started_at = self._deps.clock.now()
            try:
                result = await self._attempt(left, started_at)
            finally:
                if page.promise is not None:
                    page.promise.tried()
            if result is NOT_BEGUN or (page.promise is not None and not await page.promise.is_kept()):
                return
            finished_at = started_at + timedelta(seconds=result.elapsed_seconds)
            for one in left.pages:
                # What the message cost is counted once.
                own = result if one is left or result.cost is None else replace(result, cost=None)
                self.recorder.add(Finished(one.row, started_at, finished_at, own))
            to_person = page.row["channel"] != ChannelName.WEBHOOK
            # What tells of no alert holds none back.
            if to_person and page.row["alert_id"] is not None and result.state is not AttemptState.FAILED:
                self._spoken[point] = started_at
                if any(one.row["priority"] < DRILL_PRIORITY for one in left.pages):
                    self._spoken_actual[point] = started_at
        except Exception:  # a bug in one page must not take the others down; its lease lapses and it is tried again
            log.exception("page.failed", page_id=str(page.row["id"]))
        finally:
            self._busy[point] -= 1
            if not self._busy[point]:
                del self._busy[point]

    async def _gathered(self, page: Leased) -> Leased | None:
        """The message with those of its pages that are still wanted, once it is stored which code answers them all.

        The answer may come before the attempt is recorded, so this is stored before the message leaves.
        """
        left: Leased | None = page
        while left is not None and left.others:
            ids = [one.row["id"] for one in left.pages]
            try:
                async with self._deps.database.transaction() as tx:
                    wanted = await store.save_sent_with(tx, ids, self._deps.clock.now())
            except Unavailable as error:
                # Then this code answers the first page alone, and the others by what else they are sent.
                log.warning("page.unchecked", pages=len(ids), error=type(error).__name__)
                return left
            if ids[0] in wanted:
                return left.only(wanted)
            left = left.only(wanted)
        return left

    async def _attempt(self, page: Leased, started_at: datetime) -> SendResult:
        """The channel's result; `NOT_BEGUN` for a page that waited there, and is no longer wanted."""
        row = page.row
        channel = self._channels.get(row["channel"])
        if channel is None:
            return SendResult(AttemptState.FAILED, Reason.CHANNEL_UNAVAILABLE, None, None, None, 0.0)
        try:
            within = None
            if page.promise is not None:
                within = PROMISED_BEGUN_SECONDS if page.promise.is_open(started_at) else RECHECK_SECONDS
            outgoing = page.ready or self._outgoing(page, started_at, within)
        except CannotOpen:
            log.error("contact_point.unreadable", contact_point_id=str(row["contact_point_id"]), partner=row["partner"])
            return SendResult(AttemptState.FAILED, Reason.TARGET_REFUSED, "address cannot be opened", None, None, 0.0)
        except Exception as error:  # so that it counts as a failure, and the contact's next point is paged
            log.exception("page.unsayable", page_id=str(row["id"]))
            return SendResult(AttemptState.FAILED, Reason.INTERNAL, type(error).__name__, None, None, 0.0)
        result = await channel.send(outgoing)
        if result is NOT_BEGUN and await self._still_wanted(page):
            result = await channel.send(self._outgoing(page, started_at))
        return result

    def _outgoing(self, page: Leased, sent_at: datetime, begin_within_seconds: float | None = None) -> Outgoing:
        """The page as its channel takes it; raises `CannotOpen`."""
        row = page.row
        to_system = row["channel"] == ChannelName.WEBHOOK
        return Outgoing(
            page_id=row["id"],
            attempt=row["attempts"],
            message_type=row["message_type"],
            contact_point_id=row["contact_point_id"],
            target=self._address(row["contact_point_id"], row["sealed_address"]),
            body=page_body(row, row["data"], page.part) if to_system else b"",
            sent_at=sent_at,
            begin_within_seconds=begin_within_seconds,
            message=None if to_system else self._said(page, sent_at),
        )

    def _said(self, page: Leased, now: datetime) -> PersonMessage:
        """What the person is told."""
        parts = {one.row["alert_id"]: one.part for one in page.pages if one.part is not None}
        return self._persons.say([one.row for one in page.pages], parts, now)

    def _address(self, point: UUID, sealed: str) -> str:
        known = self._addresses.get((point, sealed))
        if known is None:
            known = self._deps.keys.unseal(sealed, context=point_context(point))
            if len(self._addresses) >= ADDRESSES_KEPT_MAX:
                self._addresses.pop(next(iter(self._addresses)))
            self._addresses[point, sealed] = known
        return known

    async def prepare(self, point: UUID, channel: ChannelName, sealed: str) -> None:
        """Opens an address and warms its channel ahead of the first page."""
        if channel in self._channels:
            try:
                await self._channels[channel].prepare(point, self._address(point, sealed))
            except CannotOpen:
                log.error("contact_point.unreadable", contact_point_id=str(point))

    async def _still_wanted(self, page: Leased) -> bool:
        if page.promise is not None and page.promise.is_open(self._deps.clock.now()):
            return True
        page_id = page.row["id"]
        # A page whose lease lapsed while it waited is leased again, and then two attempts wait for one answer.
        future = self._recheck.setdefault(page_id, asyncio.get_running_loop().create_future())
        if self._recheck_task is None:
            self._recheck_task = asyncio.create_task(self._recheck_all())
        wanted: bool = await future
        return wanted

    async def _recheck_all(self) -> None:
        self._recheck_task = None
        waiting, self._recheck = self._recheck, {}
        wanted = await self._find_wanted(list(waiting))
        for page_id, future in waiting.items():
            if not future.done():
                future.set_result(page_id in wanted)

    async def _find_wanted(self, page_ids: Sequence[UUID]) -> set[UUID]:
        """Which of these leased pages are still to be sent."""
        try:
            async with self._deps.database.transaction() as tx:
                return await store.find_still_leased(tx, page_ids, self._deps.clock.now())
        except Exception as error:
            # Whatever it was: not knowing is no reason for silence, nor to wait for ever. The pages go out.
            log.warning(
                "page.unchecked",
                pages=len(page_ids),
                error=type(error).__name__,
                exc_info=not isinstance(error, Unavailable),
            )
            return set(page_ids)


def _messages(leased: Sequence[Leased]) -> list[Leased]:
    """The pages as they leave: what asks one person for answers at the same time, as one message on each channel; and
    of notices that are not urgent as many as are due at once.
    """
    found: dict[object, list[Leased]] = {}
    for page in leased:
        point, to_person = page.row["contact_point_id"], page.row["channel"] != ChannelName.WEBHOOK
        if to_person and page.row["asks"]:
            together_by: object = point
        elif to_person and page.row["priority"] == CALM_PRIORITY:
            together_by = (point, CALM_PRIORITY)
        else:
            together_by = page.row["id"]
        found.setdefault(together_by, []).append(page)
    parts = (pages[n : n + GATHERED_MAX] for pages in found.values() for n in range(0, len(pages), GATHERED_MAX))
    return [message for pages in parts if (message := together(pages)) is not None]
