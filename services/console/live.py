"""The board as it changes: one stream from escalation for all who see the same, and each change rendered once.

The cast: the `Hub` keeps one `Audience` for each kind of viewer (a partner, its roles and whether it is a person: what
escalation shows depends on nothing else), as long as somebody looks and a little longer. An `Audience` follows
escalation's stream. A `Rendering` holds the board in one language and zone, by pieces; each `Viewer` (one open board)
is given those that changed.

The promise: two hundred open boards cost escalation one, and a change is rendered once for each language and zone, cell
by cell. Every state of the board has a mark of its own; a board that has seen any other than the present one gets the
whole, so no change is ever lost, whoever was restarted meanwhile. While escalation's stream is cut no age is sent: the
page sees its data grow old and says STALE, with the name of what is down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from functools import lru_cache
from typing import Any
from uuid import UUID

import orjson

from services.console.apis import Apis, Down, Missing, Refused, ServerEvent, SignedOut
from services.console.asking import AskedOnce
from services.console.board_view import GAPS, AlertRow, Cell, Rows, attempt_text, order_of, order_of_cell
from services.console.sessions import Session
from services.console.web import pieces_of, render
from services.console.words import Reader, as_instant
from shared.clock import Clock
from shared.contracts import Role
from shared.log import get_logger
from shared.security import PrincipalKind
from shared.streams import StreamEvent

log = get_logger(__name__)

QUEUE_MAX = 200
"""A browser that is so many messages behind is sent away; it comes back and gets the whole."""
RETRY_SECONDS = 0.5
LINGER_SECONDS = 60.0
"""How long a board is kept up to date after the last viewer has gone: whoever comes next sees it at once."""
RENDERINGS_MAX = 12
"""Pairs of language and zone that are kept without a viewer; others are rendered when somebody asks for them."""
ENDED_SHOWN = timedelta(hours=1)
"""How long an alert that has ended stays, as escalation's own board has it."""
CHECKED_SECONDS = 15.0
"""How long an open board is believed that its credential stands."""
DOWN_EVERY_SECONDS = 2.0
"""How often open boards are told that escalation is down, which also says that the console is not."""
INSTANTS_MAX = 5_000

Kind = tuple[str, frozenset[str], PrincipalKind]


@dataclass(frozen=True, slots=True)
class Told(StreamEvent):
    """An event for many, encoded once."""

    encoded: bytes = b""

    def encode(self) -> bytes:
        return self.encoded


def told(data: str, *, event: str | None = None, mark: str | None = None) -> Told:
    """An event for many."""
    return Told(data, event, mark, StreamEvent(data, event, mark).encode())


@dataclass(eq=False)
class Viewer:
    """One open board."""

    reader: Reader
    session: Session
    queue: asyncio.Queue[StreamEvent | None] = field(default_factory=lambda: asyncio.Queue(QUEUE_MAX))

    def tell(self, event: StreamEvent) -> None:
        """Hands over one event; whoever does not read loses its stream."""
        with suppress(asyncio.QueueFull):
            self.queue.put_nowait(event)
            return
        self.end()

    def end(self) -> None:
        """Ends its stream; it comes back and is asked who it is."""
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class Hub:
    """All boards that are open in this process."""

    def __init__(self, apis: Apis, clock: Clock) -> None:
        self._apis = apis
        self._clock = clock
        self._audiences: dict[Kind, Audience] = {}
        self._stood_at: dict[UUID, float] = {}
        self._checking = AskedOnce[None]()

    def audience(self, session: Session) -> Audience:
        """Everybody who sees what this session sees."""
        me = session.principal
        kind = (me.partner, frozenset(role.value for role in me.roles), me.kind)
        if kind not in self._audiences:
            self._audiences = {key: kept for key, kept in self._audiences.items() if not kept.is_idle}
            answers = me.has(Role.DUTY_OFFICER, Role.SENIOR_CONTACT)
            self._audiences[kind] = Audience(self._apis, self._clock, me.partner if answers else None)
        return self._audiences[kind]

    async def check(self, session: Session, *, within_seconds: float = 0.0) -> None:
        """Asks escalation whether the session's credential still stands, unless it has said so lately: a shared board
        asks with somebody else's. Raises `SignedOut`; an API that is down says nothing about anybody.
        """
        now = self._clock.monotonic()
        if now - self._stood_at.get(session.id, float("-inf")) < within_seconds:
            return
        with suppress(Down, Missing, Refused):
            await self._checking.ask(session.id, lambda: self._ask(session))
            kept = {one: at for one, at in self._stood_at.items() if now - at < CHECKED_SECONDS}
            self._stood_at = {**kept, session.id: now}

    async def _ask(self, session: Session) -> None:
        await self._apis.get(session, "escalation", "/v1/escalations", limit=1)

    async def close(self) -> None:
        """Ends every stream."""
        for audience in self._audiences.values():
            await audience.close()


class Rendering:
    """The board in one language and zone, piece by piece."""

    def __init__(self, reader: Reader, answers_for: str | None) -> None:
        self.reader = Reader(reader.language, reader.zone)
        self._answers_for = answers_for
        at = lru_cache(maxsize=INSTANTS_MAX)(self.reader.at)
        self._made = pieces_of(
            "board_pieces.html",
            self.reader,
            at=at,
            gaps=GAPS,
            attempt=lambda cell: attempt_text(cell, self.reader),
        )
        self._heads: dict[str, str] = {}
        self._cells: dict[str, dict[str, str]] = {}
        self._needs = ""

    def take(self, rows: Iterable[AlertRow]) -> None:
        """Renders all of these alerts anew, and forgets every other one."""
        self._heads, self._cells = {}, {}
        for row in rows:
            self._heads[row.id] = self._head(row)
            self._cells[row.id] = {cell.id: self._cell(cell) for cell in row.cells}

    def whole(self, rows: Iterable[AlertRow]) -> str:
        """All alerts."""
        return "".join(self._alert(row) for row in rows)

    def needs(self, rows: Iterable[AlertRow]) -> str:
        """The list of what needs a human now."""
        listed = list(rows)
        self._needs = render(
            "needs.html",
            self.reader,
            alerts=[row for row in listed if row.rank == 0],
            owed=sum(row.owed.count(self._answers_for) for row in listed) if self._answers_for is not None else 0,
            answers_for=self._answers_for,
        )
        return self._needs

    def changes(self, rows: Iterable[AlertRow], changed: Mapping[str, Iterable[Cell]], gone: Iterable[str]) -> str:
        """What a page that shows the state before has to replace: heads and cells of alerts that `changed`, whole
        alerts that are new, those that are gone, and the list of needs if that is another one.
        """
        listed = list(rows)
        parts = []
        for row in listed:
            if row.id not in changed:
                continue
            if row.id not in self._heads:
                self._heads[row.id] = self._head(row)
                self._cells[row.id] = {cell.id: self._cell(cell) for cell in row.cells}
                parts.append(_partial("#alerts", "beforeend", self._alert(row)))
                continue
            head = self._head(row)
            if self._heads[row.id] != head:
                self._heads[row.id] = head
                parts.append(_partial(f"#head-{row.id}", "outerMorph", head))
            known = self._cells[row.id]
            for cell in changed[row.id]:
                html = self._cell(cell)
                if cell.id not in known:
                    parts.append(_partial(f"#cells-{row.id}", "beforeend", html))
                elif known[cell.id] != html:
                    parts.append(_partial(f"#cell-{cell.id}", "outerMorph", html))
                known[cell.id] = html
        for alert_id in gone:
            if self._heads.pop(alert_id, None) is not None:
                del self._cells[alert_id]
                parts.append(_partial(f"#alert-{alert_id}", "delete", ""))
        before = self._needs
        # Said aloud by screen readers whenever it is replaced, so it is replaced only when it has changed.
        if self.needs(listed) != before:
            parts.append(_partial("#needs", "innerMorph", self._needs))
        return "".join(parts)

    def _head(self, row: AlertRow) -> str:
        return str(self._made.head(row, order_of(row)))

    def _cell(self, cell: Cell) -> str:
        return str(self._made.cell(cell, order_of_cell(cell)))

    def _alert(self, row: AlertRow) -> str:
        pieces = self._cells[row.id]
        return str(self._made.alert(row, order_of(row), "\n".join(pieces[cell.id] for cell in row.cells)))


def _partial(target: str, swap: str, html: str) -> str:
    return f'<hx-partial hx-target="{target}" hx-swap="{swap}">{html}</hx-partial>'


class Audience:
    """Everybody who sees the same of the board."""

    def __init__(self, apis: Apis, clock: Clock, answers_for: str | None) -> None:
        self._apis = apis
        self._clock = clock
        self._answers_for = answers_for
        """The government for which they may acknowledge."""
        self._viewers: set[Viewer] = set()
        self._following: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._left_at = clock.monotonic()
        self._news = asyncio.Event()
        self._epoch = ""
        self._version = 0
        self._renderings: dict[tuple[str, str], Rendering] = {}
        self._listed: list[AlertRow] | None = None
        self.rows = Rows()
        self.as_of: str | None = None
        self.trouble: Exception | None = None

    @property
    def mark(self) -> str:
        """What names the present state of the board, in this process and in no other; empty if nothing is known."""
        return f"{self._epoch}-{self._version}" if self._version else ""

    @property
    def is_idle(self) -> bool:
        """Whether nobody looks and nothing is followed."""
        return self._following is None and not self._viewers

    @property
    def down(self) -> str | None:
        """The API that does not answer, if one does not."""
        return self.trouble.api if isinstance(self.trouble, Down) else None

    async def ready(self, session: Session) -> None:
        """Waits until the board is known, however old it is; raises what stands in the way of knowing it at all."""
        self._follow(session)
        while not self._version:
            self._news.clear()
            await self._news.wait()
            if self.trouble is not None and not self._version:
                raise self.trouble

    def board(self, reader: Reader) -> str:
        """The alerts as HTML."""
        return self._rendering(reader).whole(self._rows())

    def needs(self, reader: Reader) -> str:
        """The list of what needs a human now, as HTML."""
        return self._rendering(reader).needs(self._rows())

    async def follow(self, session: Session, reader: Reader, seen: str | None) -> AsyncIterator[StreamEvent]:
        """Events for one open board that has seen the state of this mark; any other one gets the whole first."""
        viewer = Viewer(reader, session)
        self._viewers.add(viewer)
        try:
            self._follow(session)
            if self._version and seen != self.mark:
                viewer.tell(self._whole(reader))
            if self._version:
                viewer.tell(self._age() if self.trouble is None else self._down())
            while (event := await viewer.queue.get()) is not None:
                yield event
        finally:
            self._viewers.discard(viewer)
            self._left_at = self._clock.monotonic()

    async def close(self) -> None:
        """Ends the stream from escalation and those to browsers."""
        for viewer in self._viewers:
            viewer.end()
        tasks = [*self._ending, *([self._following] if self._following is not None else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- the stream from escalation ---------------------------------------------------------------------------------

    def _follow(self, session: Session) -> None:
        if self._following is not None:
            return
        self._epoch, self._version = f"{self._clock.now().timestamp():.6f}".replace(".", ""), 0
        self.rows, self._listed, self._renderings = Rows(), None, {}
        self.as_of, self.trouble, self._left_at = None, None, self._clock.monotonic()
        self._following = asyncio.create_task(self._listen(session), name="board of escalation")

    def _stop_following(self) -> None:
        """The task that runs this ends; whoever comes from now on begins another one."""
        task, self._following = self._following, None
        if task is not None:
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _nobody_looks(self) -> bool:
        return not self._viewers and self._clock.monotonic() - self._left_at > LINGER_SECONDS

    async def _listen(self, session: Session) -> None:
        last: str | None = None
        refused: set[UUID] = set()
        said_at = self._clock.monotonic() - DOWN_EVERY_SECONDS
        while True:
            asking = next((one.session for one in self._viewers if one.session.id not in refused), session)
            try:
                async with self._apis.stream(asking, "escalation", "/v1/board/stream", last) as events:
                    async for event in events:
                        if self._nobody_looks():
                            self._stop_following()
                            return
                        self.trouble = None
                        last = event.id or last
                        self._hear(event)
                    # The API has ended the stream: it stops, or the credential was revoked.
            except (SignedOut, Missing, Refused) as error:
                refused.add(asking.id)
                for viewer in [one for one in self._viewers if one.session.id == asking.id]:
                    viewer.end()
                if all(one.session.id in refused for one in self._viewers):
                    self.trouble = error
                    self._version = 0
                    self._stop_following()
                    self._news.set()
                    return
            except Down as error:
                self.trouble = error
                self._news.set()
                if self._clock.monotonic() - said_at >= DOWN_EVERY_SECONDS:
                    said_at = self._clock.monotonic()
                    self._tell_all(lambda _reader: self._down())
                if self._nobody_looks():
                    self._stop_following()
                    return
            await self._clock.sleep(RETRY_SECONDS)

    def _hear(self, event: ServerEvent) -> None:
        said = orjson.loads(event.data)
        if event.event == "board":
            self.rows.replace(said)
            self.as_of = said["as_of"]
            self._version += 1
            self._listed = None
            for rendering in self._renderings.values():
                rendering.take(self._rows())
            self._tell_all(self._whole)
        elif event.event == "cells":
            self._changed(self.rows.update(said))
        elif event.event == "coverage":
            self._changed({alert_id: [] for alert_id in self.rows.goals(said)})
        elif event.event == "as_of":
            self.as_of = said["as_of"]
            gone = self.rows.forget(as_instant(said["as_of"]) - ENDED_SHOWN)
            if gone:
                self._changed({}, gone)
            self._tell_all(lambda _reader: self._age())
        self._news.set()

    def _changed(self, changed: Mapping[str, Iterable[Cell]], gone: Iterable[str] = ()) -> None:
        self._listed = None
        rows = self._rows()
        html = {key: one.changes(rows, changed, gone) for key, one in self._renderings.items()}
        if html and not any(html.values()):
            # What has changed is not shown: the next try of the same attempt, for example.
            return
        self._version += 1
        parts = {key: told(text, mark=self.mark) for key, text in html.items()}
        self._tell_all(lambda reader: parts.get((reader.language, reader.zone)) or self._whole(reader))

    # --- what browsers are told -------------------------------------------------------------------------------------

    def _tell_all(self, make: Callable[[Reader], StreamEvent]) -> None:
        made: dict[tuple[str, str], StreamEvent] = {}
        for viewer in list(self._viewers):
            key = (viewer.reader.language, viewer.reader.zone)
            if key not in made:
                made[key] = make(viewer.reader)
            viewer.tell(made[key])

    def _whole(self, reader: Reader) -> StreamEvent:
        alerts, needs = self.board(reader), self.needs(reader)
        html = _partial("#alerts", "innerMorph", alerts) + _partial("#needs", "innerMorph", needs)
        return told(html, mark=self.mark)

    def _age(self) -> StreamEvent:
        return told(self.as_of or "", event="as_of", mark=self.mark)

    def _down(self) -> StreamEvent:
        return told(self.down or "", event="down")

    def _rows(self) -> list[AlertRow]:
        if self._listed is None:
            self._listed = self.rows.alerts()
        return self._listed

    def _rendering(self, reader: Reader) -> Rendering:
        """The board in this reader's language and zone."""
        key = (reader.language, reader.zone)
        if key not in self._renderings:
            used = {(one.reader.language, one.reader.zone) for one in self._viewers}
            idle = [one for one in self._renderings if one not in used]
            for one in idle[: max(0, len(idle) - RENDERINGS_MAX + 1)]:
                del self._renderings[one]
            self._renderings[key] = Rendering(reader, self._answers_for)
            self._renderings[key].take(self._rows())
        return self._renderings[key]


def facts_of(audience: Audience, reader: Reader) -> dict[str, Any]:
    """What the page of a board begins with."""
    return {
        "alerts": audience.board(reader),
        "needs": audience.needs(reader),
        "is_empty": audience.rows.is_empty,
        "as_of": audience.as_of,
        "mark": audience.mark,
        "down": audience.down,
    }
