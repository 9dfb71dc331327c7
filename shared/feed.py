"""The feed: the second road of every event, and the only one for partners behind firewalls.

The cast: `router` serves the numbered outbox of one service, each entry signed on its own; `verify_entry` is what a
reader does first; a `Puller` reads the feed of one source and gives what it finds to the same handlers as the bus,
under the same consumer name, so that the inbox drops whichever copy comes second.

The promise: an event that was committed is delivered even if the broker is gone for ever. A reader sees only what it is
entitled to, shown as it is entitled to see it. What was not signed by the installation is never handled and raises an
alarm; an entry that cannot be handled blocks no other.

What is signed is this text in UTF-8, its lines separated by one line feed (U+000A) and without one at the end:

    redphone-feed-v1
    <source, for example alerting>
    <audience: the reader's partner code, ZZ for services of the installation>
    <cursor of the entry>
    <id>
    <type>
    <time, as it stands in the entry>
    <correlation_id>
    <causation_id, or nothing>
    <data, as it stands in the entry after JSON has been decoded>

`signature` is the Ed25519 signature of these bytes in base64, `key_id` the `kid` of a key among `feed_keys` in
`/.well-known/redphone-keys`.
"""

from __future__ import annotations

import asyncio
import base64
from collections import OrderedDict
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Annotated, Any, Protocol
from uuid import UUID

import httpx
from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Column, DateTime, Table, Text, select
from sqlalchemy.dialects.postgresql import insert

from shared import inbox
from shared.clock import Clock
from shared.contracts import SECRETARIAT, Role
from shared.db import Database, shared_metadata
from shared.errors import ALERT_OPENING, ContractViolation, Forbidden, Invalid, Unavailable
from shared.events import EVENT_BYTES_MAX, Message, parse
from shared.ids import Ids
from shared.keys import CannotOpen, KeyRing, key_id
from shared.log import get_logger
from shared.outbox import FeedRow, feed_page
from shared.problems import problem_responses
from shared.security import INSTALLATION, IdentityDeps, Principal, issue_token
from shared.security import service as service_principal
from shared.subscriptions import Delivery, End, Failures, Outcome, Subscription, attend
from shared.web import authenticated, new_router, render_instant, say_nothing_found
from shared.webhooks import SigningKey, VerifyingKey

log = get_logger(__name__)

LIMIT_DEFAULT = 100
LIMIT_MAX = 500
CURSOR_LENGTH_MAX = 200

PULL_LIMIT = 200
PULL_SECONDS_UNHEALTHY = 1.0
PULL_SECONDS_HEALTHY = 10.0
PULL_TIMEOUT_SECONDS = 4.0
PULL_CONCURRENCY = 4
PAGES_PAST_UNFINISHED_MAX = 10
"""So many pages are read in one pass past an entry that is not done yet; each pass reads them again."""

PAGE_BYTES_MAX = 12_000_000
"""More than the largest page that a source sends; an answer that goes on beyond it is not read."""

TOKEN_RENEWED_SECONDS = 600.0
ALARMS_REMEMBERED_MAX = 1000

_READERS = frozenset({Role.DRAFTER, Role.RELEASER, Role.DUTY_OFFICER, Role.SENIOR_CONTACT})
"""Roles that read what concerns their partner; those who only keep a roster read the feed of roster."""

_VERSION = "redphone-feed-v1"
_LINE = r"^[\x21-\x7e]+$"

feed_cursors = Table(
    "feed_cursors",
    shared_metadata,
    Column("source", Text, primary_key=True),
    Column("cursor", Text, nullable=False),
    Column("pulled_at", DateTime(timezone=True), nullable=False),
)


class FeedEntry(BaseModel):
    """One event on the feed. `data` is the event as JSON *text*, so that what was signed is exactly what is read."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    cursor: str = Field(pattern=_LINE, max_length=CURSOR_LENGTH_MAX, examples=["ar1.5f0c…"])
    id: UUID = Field(description="The same as on the bus; an id that you have seen is an event that you have seen.")
    type: str = Field(pattern=_LINE, max_length=200, examples=["redphone.alerting.alert_released.v1"])
    time: str = Field(pattern=_LINE, max_length=40, examples=["2021-08-15T06:00:00.000000Z"])
    correlation_id: UUID
    causation_id: UUID | None = None
    data: str = Field(max_length=EVENT_BYTES_MAX + 1000, examples=['{"alert_id":"…"}'])
    signature: str = Field(max_length=200, examples=["base64 of 64 bytes"])
    key_id: str = Field(max_length=64, examples=["0f1e2d3c4b5a6978"])


class FeedPage(BaseModel):
    """A page of a feed. Go on with `next_cursor`, at once if `has_more`; a page may be empty and still have more."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    source: str = Field(examples=["alerting"])
    audience: str = Field(examples=["NL"], description="For whom the entries were signed; part of each signature.")
    entries: list[FeedEntry] = Field(max_length=LIMIT_MAX)
    next_cursor: str = Field(max_length=CURSOR_LENGTH_MAX)
    has_more: bool


class EntryRefused(ContractViolation):
    """An entry that no key of the installation signed for this reader. It is never handled."""

    code = "feed_entry_refused"


class FeedDeps(IdentityDeps, Protocol):
    """What serving the feed needs of a service."""

    @property
    def service(self) -> str:
        """Whose outbox it is."""


# --- serving ----------------------------------------------------------------------------------------------------------


def signed_bytes(entry: FeedEntry, *, source: str, audience: str) -> bytes:
    """What is signed, as the module's description has it."""
    lines = (
        _VERSION,
        source,
        audience,
        entry.cursor,
        str(entry.id),
        entry.type,
        entry.time,
        str(entry.correlation_id),
        str(entry.causation_id or ""),
        entry.data,
    )
    return "\n".join(lines).encode()


def router(deps: FeedDeps) -> APIRouter:
    """`GET /v1/feed/<service>`."""
    router = new_router(tags=["Feed"])
    caller = authenticated(deps)

    async def read_feed(
        request: Request,
        principal: Principal = Depends(caller),
        after: Annotated[
            str | None, Query(max_length=CURSOR_LENGTH_MAX, description="`next_cursor` of the page before; none: all.")
        ] = None,
        limit: Annotated[int, Query(ge=1, le=LIMIT_MAX, description="At most so many entries.")] = LIMIT_DEFAULT,
    ) -> FeedPage:
        """Everything that this service has published and the caller may read, oldest first, each entry signed.

        A partner reads what concerns it, with other people's names withheld; order says nothing about what happened
        first. Keep `next_cursor`, which is opaque, and ask again whenever you like. Entries may come twice: their `id`
        tells. Verify each before use: `signature` is over the lines `redphone-feed-v1`, source, audience, cursor, id,
        type, time, correlation_id, causation_id (or nothing) and data, joined by line feeds, in UTF-8.
        """
        page = await _read(deps, principal, after, limit)
        if principal.is_service and not page.entries:
            say_nothing_found(request)
        return page

    router.add_api_route(
        f"/v1/feed/{deps.service}",
        read_feed,
        methods=["GET"],
        name=f"read_{deps.service}_feed",
        summary=f"The feed of {deps.service}: signed events, resumable",
        responses=problem_responses("cursor_invalid", "role_missing"),
    )
    return router


async def _read(deps: FeedDeps, principal: Principal, after: str | None, limit: int) -> FeedPage:
    if not _may_read(principal, deps.service):
        raise Forbidden("none of your roles reads this feed", code="role_missing")
    audience = principal.partner
    context = f"feed {deps.service} {audience}".encode()
    epoch, position = _open_cursor(deps.keyring, after, context)
    async with deps.intake.transaction() as tx:
        page = await feed_page(
            tx, epoch=epoch, after=position, limit=limit, viewer=None if principal.is_service else audience
        )
    key = deps.keyring.feed_keys[0]

    def cursor(position: int) -> str:
        return deps.keyring.encrypt(f"{page.epoch}.{position}", context=context)

    entries = [
        _sign(key, row, data=data, cursor=cursor(row.position), source=deps.service, audience=audience)
        for row in page.rows
        if (data := _shown(row, principal)) is not None
    ]
    return FeedPage(
        source=deps.service,
        audience=audience,
        entries=entries,
        next_cursor=cursor(page.read_up_to),
        has_more=page.has_more,
    )


def _may_read(principal: Principal, source: str) -> bool:
    if principal.is_service or principal.has(*_READERS):
        return True
    if principal.has(Role.SECRETARIAT) and principal.partner == SECRETARIAT:
        return True
    return source == "roster" and principal.has(Role.ROSTER_MANAGER)


def _open_cursor(keyring: KeyRing, after: str | None, context: bytes) -> tuple[int | None, int]:
    """Epoch and position. They are encrypted, because gaps between positions would tell how busy others are."""
    if after is None:
        return None, 0
    try:
        epoch, _, position = keyring.decrypt(after, context=context).partition(".")
        return int(epoch), int(position)
    except (CannotOpen, ValueError):
        raise Invalid(
            "the cursor is not one that this feed gave you; start without one", code="cursor_invalid"
        ) from None


def _shown(row: FeedRow, principal: Principal) -> str | None:
    """The event's JSON as the reader may see it; None for one that this version cannot read, and so cannot redact."""
    if principal.is_service:
        return row.body
    try:
        return parse(row.type, row.body.encode()).for_viewer(principal.partner).model_dump_json()
    except ContractViolation as error:
        log.error("feed.entry_unreadable", message_id=str(row.id), type=row.type, code=error.code)
        return None


def _sign(key: SigningKey, row: FeedRow, *, data: str, cursor: str, source: str, audience: str) -> FeedEntry:
    entry = FeedEntry(
        cursor=cursor,
        id=row.id,
        type=row.type,
        time=render_instant(row.occurred_at),
        correlation_id=row.correlation_id,
        causation_id=row.causation_id,
        data=data,
        signature="",
        key_id=key_id(key.verifying_key.raw),
    )
    signature = key.signature(signed_bytes(entry, source=source, audience=audience))
    return entry.model_copy(update={"signature": base64.b64encode(signature).decode("ascii")})


# --- reading ----------------------------------------------------------------------------------------------------------


def verify_entry(entry: FeedEntry, *, source: str, audience: str, keys: Iterable[VerifyingKey]) -> None:
    """Raises `EntryRefused` unless one of the keys signed exactly this entry, of this source, for this reader."""
    key = next((key for key in keys if key_id(key.raw) == entry.key_id), None)
    if key is None:
        raise EntryRefused("the entry was signed by a key that this installation does not have")
    try:
        signature = base64.b64decode(entry.signature, validate=True)
    except ValueError:
        raise EntryRefused("the signature cannot be read") from None
    if not key.matches(signature, signed_bytes(entry, source=source, audience=audience)):
        raise EntryRefused("the signature does not hold")


def delivery_of(entry: FeedEntry) -> Delivery:
    """The entry as the bus would have brought it."""
    headers = {
        "ce-id": str(entry.id),
        "ce-type": entry.type,
        "ce-time": entry.time,
        "ce-correlationid": str(entry.correlation_id),
    }
    if entry.causation_id is not None:
        headers["ce-causationid"] = str(entry.causation_id)
    body = entry.data.encode()
    try:
        subject = parse(entry.type, body).subject
    except ContractViolation:
        # Nobody can tell its key any more; the handler's side refuses it for the same reason and buries it.
        subject = f"{entry.type}.unreadable"
    return Delivery(subject, headers, body, deliveries=1)


class _FeedTrouble(Exception):
    """This page cannot be had now."""


@dataclass(frozen=True, slots=True)
class _Turn:
    """What one page came to: whether to go on behind it, and whether an entry on it must be tried again."""

    handled: int
    next_cursor: str
    more: bool
    unfinished: bool


class Puller:
    """Reads the feed of one source into the handlers of one service.

    The cursor is stored after the handling, up to the first entry that must be tried again; what comes after that, on
    its page and on the next ten, is handled all the same, and the inbox knows it when it is read again. Only when
    something that a handler needs does not answer is the rest left for later. `trouble` says what is
    wrong, if anything is.
    """

    def __init__(
        self,
        source: str,
        *,
        service: str,
        subscriptions: Iterable[Subscription],
        database: Database,
        keyring: KeyRing,
        clock: Clock,
        ids: Ids,
        bus_healthy: Callable[[], bool],
        base_url: str | None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.source = source
        self.base_url = base_url
        self.transport = transport
        self.trouble: str | None = None
        self.trouble_since_monotonic: float | None = None
        self.first_pull = asyncio.Event()
        self._service = service
        self._subscriptions = {subscription.event.type: subscription for subscription in subscriptions}
        self._database = database
        self._keyring = keyring
        self._clock = clock
        self._ids = ids
        self._bus_healthy = bus_healthy
        self._failures = Failures()
        self._pulling = asyncio.Lock()
        self._pulled_monotonic: float | None = None
        self._again_at_monotonic: float | None = None
        self._token: tuple[str, float] | None = None
        self._refused: OrderedDict[UUID, None] = OrderedDict()
        self._http: httpx.AsyncClient | None = None

    async def run_once(self) -> int:
        """Pulls if it is time to: every second while the bus is in trouble, otherwise every ten."""
        present = self._clock.monotonic()
        every = PULL_SECONDS_HEALTHY if self._bus_healthy() else PULL_SECONDS_UNHEALTHY
        again = self._again_at_monotonic is not None and present >= self._again_at_monotonic
        # The loop ticks about once a second, so "every second" must not miss a tick by a hair.
        if not again and self._pulled_monotonic is not None and present - self._pulled_monotonic < every - 0.5:
            return 0
        return await self.pull_now()

    async def pull_now(self) -> int:
        """Reads everything that is new and returns how many events it handled. Trouble with the source is noted, not
        raised; trouble with our own database is `Unavailable`.
        """
        async with self._pulling:
            self._again_at_monotonic = None
            handled = 0
            try:
                cursor, unfinished, pages_past, more = await self._stored_cursor(), False, 0, True
                while more and pages_past <= PAGES_PAST_UNFINISHED_MAX:
                    turn = await self._pull_page(cursor, store=not unfinished)
                    handled += turn.handled
                    cursor, more = turn.next_cursor, turn.more
                    unfinished = unfinished or turn.unfinished
                    pages_past += unfinished
            except _FeedTrouble as trouble:
                self._in_trouble(str(trouble))
            else:
                self._recovered()
            finally:
                self._pulled_monotonic = self._clock.monotonic()
            self.first_pull.set()
            return handled

    async def close(self) -> None:
        """Lets the connection go."""
        if self._http is not None:
            await self._http.aclose()
            self._http = None

    async def _stored_cursor(self) -> str | None:
        async with self._database.transaction() as tx:
            query = select(feed_cursors.c.cursor).where(feed_cursors.c.source == self.source)
            return (await tx.execute(query)).scalar_one_or_none()

    async def _pull_page(self, cursor: str | None, *, store: bool) -> _Turn:
        page = await self._fetch(cursor)
        if page is None:
            log.warning("feed.restarted", source=self.source)
            cursor, page = None, await self._fetch(None)
        if page is None or page.source != self.source or page.audience != INSTALLATION:
            raise _FeedTrouble("the answer is not the feed that was asked for")
        unavailable = asyncio.Event()
        outcomes = await self._handle(page, unavailable)
        waiting = [index for index, outcome in enumerate(outcomes) if outcome is not None and outcome.end is End.NAK]
        if waiting:
            delay = min(o.delay_seconds for o in outcomes if o is not None and o.end is End.NAK)
            again_at = self._clock.monotonic() + delay
            self._again_at_monotonic = min(again_at, self._again_at_monotonic or again_at)
            reached = page.entries[waiting[0] - 1].cursor if waiting[0] else cursor
        else:
            reached = page.next_cursor
        if store and reached is not None and reached != cursor and (page.entries or page.has_more):
            await self._store(reached)
        handled = sum(outcome is not None and outcome.end is End.ACK for outcome in outcomes)
        return _Turn(handled, page.next_cursor, page.has_more and not unavailable.is_set(), unfinished=bool(waiting))

    async def _fetch(self, cursor: str | None) -> FeedPage | None:
        """A page of the source; None if it does not know the cursor any more."""
        if self.base_url is None and self.transport is None:
            raise _FeedTrouble("no address is configured for it")
        if self._http is None:
            self._http = httpx.AsyncClient(
                base_url=self.base_url or "http://in-process",
                transport=self.transport,
                timeout=PULL_TIMEOUT_SECONDS,
                trust_env=False,
                follow_redirects=False,
            )
        query: dict[str, Any] = {"limit": PULL_LIMIT} | ({} if cursor is None else {"after": cursor})
        headers = {"Authorization": f"Bearer {self._bearer()}", "Accept-Encoding": "identity"}
        body = bytearray()
        try:
            async with asyncio.timeout(PULL_TIMEOUT_SECONDS):
                async with self._http.stream("GET", f"/v1/feed/{self.source}", params=query, headers=headers) as answer:
                    async for chunk in answer.aiter_raw():
                        body += chunk
                        if len(body) > PAGE_BYTES_MAX:
                            raise _FeedTrouble("the answer is too long")
        except (httpx.HTTPError, OSError, TimeoutError) as error:
            raise _FeedTrouble(f"it does not answer ({type(error).__name__})") from error
        if answer.status_code == 422 and cursor is not None:
            return None
        if answer.status_code != 200:
            raise _FeedTrouble(f"it answers {answer.status_code}")
        try:
            return FeedPage.model_validate_json(bytes(body))
        except ValidationError:
            raise _FeedTrouble("its answer cannot be read") from None

    def _bearer(self) -> str:
        present = self._clock.monotonic()
        if self._token is None or present - self._token[1] > TOKEN_RENEWED_SECONDS:
            caller = service_principal(self._service)
            token = issue_token(self._keyring, caller, now=self._clock.now(), token_id=self._ids.new())
            self._token = (token, present)
        return self._token[0]

    async def _handle(self, page: FeedPage, unavailable: asyncio.Event) -> list[Outcome | None]:
        """The end of each entry; None for one that is not ours to handle or was handled before."""
        wanted = [
            (self._subscriptions[entry.type].durable, entry.id)
            for entry in page.entries
            if entry.type in self._subscriptions
        ]
        async with self._database.transaction() as tx:
            ended = await inbox.ended(tx, wanted)
        places = asyncio.Semaphore(PULL_CONCURRENCY)

        async def handle(entry: FeedEntry) -> Outcome | None:
            subscription = self._subscriptions.get(entry.type)
            if subscription is None or (subscription.durable, entry.id) in ended:
                return None
            async with nullcontext() if subscription.together else places:
                if unavailable.is_set():
                    return Outcome(End.NAK, PULL_SECONDS_UNHEALTHY)
                if not self._is_genuine(entry, page):
                    return Outcome(End.NAK, PULL_SECONDS_HEALTHY)
                return await attend(_noticing(subscription, unavailable), delivery_of(entry), self._failures)

        return list(await asyncio.gather(*(handle(entry) for entry in page.entries)))

    def _is_genuine(self, entry: FeedEntry, page: FeedPage) -> bool:
        keys = [key.verifying_key for key in self._keyring.feed_keys]
        try:
            verify_entry(entry, source=page.source, audience=INSTALLATION, keys=keys)
        except EntryRefused as error:
            if entry.id not in self._refused:
                log.error("feed.entry_refused", source=self.source, message_id=str(entry.id), error=error.detail)
                self._refused[entry.id] = None
                if len(self._refused) > ALARMS_REMEMBERED_MAX:
                    self._refused.popitem(last=False)
            return False
        self._refused.pop(entry.id, None)
        return True

    async def _store(self, cursor: str) -> None:
        row = insert(feed_cursors).values(source=self.source, cursor=cursor, pulled_at=self._clock.now())
        async with self._database.transaction() as tx:
            await tx.execute(
                row.on_conflict_do_update(
                    index_elements=["source"], set_={"cursor": row.excluded.cursor, "pulled_at": row.excluded.pulled_at}
                )
            )

    def _in_trouble(self, trouble: str) -> None:
        if self.trouble != trouble:
            log.warning("feed.pull_failed", source=self.source, reason=trouble)
        if self.trouble is None:
            self.trouble_since_monotonic = self._clock.monotonic()
        self.trouble = trouble

    def _recovered(self) -> None:
        if self.trouble is not None:
            log.info("feed.recovered", source=self.source)
        self.trouble, self.trouble_since_monotonic = None, None


def _noticing(subscription: Subscription, unavailable: asyncio.Event) -> Subscription:
    """The subscription, telling when something that it needs does not answer: the rest of the page can wait, too."""

    async def handle(message: Message[Any]) -> None:
        try:
            await subscription.handle(message)
        except Unavailable as error:
            # What is only said of one alert keeps nothing else waiting.
            if error.code != ALERT_OPENING:
                unavailable.set()
            raise

    return replace(subscription, handle=handle)
