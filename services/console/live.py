"""The board as it changes: one stream from escalation for all who see the same, and each change rendered once.

The cast: the `Hub` keeps one `Audience` for each kind of viewer (a partner and its roles: what escalation shows depends
on nothing else), as long as somebody looks. An `Audience` follows escalation's stream, and gives each `Viewer` (one
open board) the pieces of the page that changed, in the viewer's language.

The promise: two hundred open boards cost escalation one, and a change is rendered once for each language and zone. A
board that was away gets the whole again, so no change is ever lost. While escalation's stream is cut nothing is sent,
not even an age: the page sees its data grow old and says STALE.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from dataclasses import dataclass, field

import orjson

from services.console.apis import Apis, Down, Missing, Refused, ServerEvent, SignedOut
from services.console.board_view import GAPS, AlertRow, Json, Rows, attempt_text, order_of, owes_acknowledgement
from services.console.sessions import Session
from services.console.web import render
from services.console.words import Reader
from shared.clock import Clock
from shared.contracts import Role
from shared.log import get_logger
from shared.streams import StreamEvent

log = get_logger(__name__)

QUEUE_MAX = 200
"""A browser that is so many messages behind is sent away; it comes back and gets the whole."""
RETRY_SECONDS = 0.5
RENDERINGS_MAX = 50
"""Pairs of language and zone whose pieces are kept; more are rendered when they are asked for."""

Kind = tuple[str, frozenset[str]]


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
        while not self.queue.empty():
            self.queue.get_nowait()
        self.queue.put_nowait(None)


class Hub:
    """All boards that are open in this process."""

    def __init__(self, apis: Apis, clock: Clock) -> None:
        self._apis = apis
        self._clock = clock
        self._audiences: dict[Kind, Audience] = {}

    def audience(self, session: Session) -> Audience:
        """Everybody who sees what this session sees."""
        kind = (session.principal.partner, frozenset(role.value for role in session.principal.roles))
        if kind not in self._audiences:
            answers = session.principal.has(Role.DUTY_OFFICER, Role.SENIOR_CONTACT)
            answers_for = session.principal.partner if answers else None
            self._audiences[kind] = Audience(self._apis, self._clock, answers_for)
        return self._audiences[kind]

    async def close(self) -> None:
        """Ends every stream."""
        for audience in self._audiences.values():
            await audience.close()


class Audience:
    """Everybody who sees the same of the board."""

    def __init__(self, apis: Apis, clock: Clock, answers_for: str | None) -> None:
        self._apis = apis
        self._clock = clock
        self._answers_for = answers_for
        """The government for which they may acknowledge."""
        self._viewers: set[Viewer] = set()
        self._following: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self.rows = Rows()
        self.version = 0
        """Counts changes; 0: nothing is known yet."""
        self.as_of: str | None = None
        self.trouble: Exception | None = None
        self._pieces: dict[tuple[str, str], dict[str, str]] = {}
        self._needs: dict[tuple[str, str], str] = {}
        """The list of needs as open boards have it, by language and zone."""

    async def ready(self, session: Session) -> None:
        """Waits until the board is known; raises what stands in the way."""
        self._follow(session)
        while self.version == 0:
            self._news.clear()
            await self._news.wait()
            if self.trouble is not None:
                raise self.trouble

    def board(self, reader: Reader) -> str:
        """The alerts as HTML."""
        pieces = self._pieces_of(reader)
        return "".join(pieces[row.id] for row in self.rows.alerts())

    def needs(self, reader: Reader) -> str:
        """The list of what needs a human now, as HTML."""
        owed = [one for one in self.rows.cells.values() if self._is_owed(one)]
        needy = [row for row in self.rows.alerts() if row.rank == 0]
        html = render("needs.html", reader, alerts=needy, owed=len(owed), answers_for=self._answers_for)
        self._needs[reader.language, reader.zone] = html
        return html

    def _is_owed(self, one: Json) -> bool:
        mine = one["partner"] == self._answers_for and one["alert"]["ended_at"] is None
        return mine and owes_acknowledgement(one)

    async def follow(self, session: Session, reader: Reader, seen: int | None) -> AsyncIterator[StreamEvent]:
        """Events for one open board that has seen this version; None or an older one gets the whole first."""
        viewer = Viewer(reader, session)
        self._viewers.add(viewer)
        self._follow(session)
        try:
            if self.version and seen != self.version:
                viewer.tell(self._whole(reader))
            if self.as_of is not None and self.trouble is None:
                viewer.tell(self._age())
            while (event := await viewer.queue.get()) is not None:
                yield event
        finally:
            self._viewers.discard(viewer)
            if not self._viewers and self._following is not None:
                self._following.cancel()

    async def close(self) -> None:
        """Ends the stream from escalation and those to browsers."""
        for viewer in self._viewers:
            while not viewer.queue.empty():
                viewer.queue.get_nowait()
            viewer.queue.put_nowait(None)
        if self._following is not None:
            self._following.cancel()
            await asyncio.gather(self._following, return_exceptions=True)

    # --- the stream from escalation ---------------------------------------------------------------------------------

    def _follow(self, session: Session) -> None:
        if self._following is None or self._following.done():
            self.version, self.as_of, self.trouble = 0, None, None
            self._following = asyncio.create_task(self._listen(session), name="board of escalation")

    async def _listen(self, session: Session) -> None:
        last: str | None = None
        while True:
            asking = next(iter(self._viewers)).session if self._viewers else session
            try:
                async with self._apis.stream(asking, "escalation", "/v1/board/stream", last) as events:
                    async for event in events:
                        self.trouble = None
                        last = event.id or last
                        self._hear(event)
                    # The API has ended the stream: it stops, or the credential was revoked.
            except (SignedOut, Missing, Refused) as error:
                self._fail(error)
                for viewer in [one for one in self._viewers if one.session.id == asking.id]:
                    viewer.queue.put_nowait(None)
                if not any(one.session.id != asking.id for one in self._viewers):
                    return
            except Down as error:
                self._fail(error)
            await self._clock.sleep(RETRY_SECONDS)

    def _fail(self, error: Exception) -> None:
        self.trouble = error
        self._news.set()

    def _hear(self, event: ServerEvent) -> None:
        said = orjson.loads(event.data)
        if event.event == "board":
            self.rows.replace(said)
            self.as_of = said["as_of"]
            self._pieces = {}
            self._tell_all(self._whole)
        elif event.event == "cells":
            self._changed(self.rows.update(said))
        elif event.event == "coverage":
            self._changed(self.rows.goals(said))
        elif event.event == "as_of":
            self.as_of = said["as_of"]
            self._tell_all(lambda _reader: self._age(), count=False)
        self._news.set()

    def _changed(self, alerts: set[str]) -> None:
        before = {row_id for pieces in self._pieces.values() for row_id in pieces}
        rows = self.rows.alerts(only=alerts)
        for (language, zone), pieces in self._pieces.items():
            pieces |= {row.id: piece(row, Reader(language, zone)) for row in rows}
        if any(row.id not in before for row in rows) and before:
            self._tell_all(self._whole)
        else:
            self._tell_all(lambda reader: self._part(reader, rows))

    # --- what browsers are told -------------------------------------------------------------------------------------

    def _tell_all(self, make: Callable[[Reader], StreamEvent], *, count: bool = True) -> None:
        if count:
            self.version += 1
        made: dict[tuple[str, str], StreamEvent] = {}
        for viewer in list(self._viewers):
            key = (viewer.reader.language, viewer.reader.zone)
            if key not in made:
                made[key] = make(viewer.reader)
            viewer.tell(made[key])

    def _whole(self, reader: Reader) -> StreamEvent:
        html = (
            f'<hx-partial hx-target="#alerts" hx-swap="innerHTML">{self.board(reader)}</hx-partial>'
            f'<hx-partial hx-target="#needs" hx-swap="innerHTML">{self.needs(reader)}</hx-partial>'
        )
        return StreamEvent(html, id=str(self.version))

    def _part(self, reader: Reader, rows: list[AlertRow]) -> StreamEvent:
        pieces = self._pieces_of(reader)
        html = "".join(
            f'<hx-partial hx-target="#alert-{row.id}" hx-swap="outerHTML">{pieces[row.id]}</hx-partial>' for row in rows
        )
        # Said aloud by screen readers whenever it is replaced, so it is replaced only when it has changed.
        if self._needs.get((reader.language, reader.zone)) != (needs := self.needs(reader)):
            html += f'<hx-partial hx-target="#needs" hx-swap="innerHTML">{needs}</hx-partial>'
        return StreamEvent(html, id=str(self.version))

    def _age(self) -> StreamEvent:
        return StreamEvent(self.as_of or "", event="as_of", id=str(self.version))

    def _pieces_of(self, reader: Reader) -> dict[str, str]:
        """The HTML of every alert in this reader's language and zone."""
        key = (reader.language, reader.zone)
        if key not in self._pieces:
            if len(self._pieces) >= RENDERINGS_MAX:
                self._pieces.pop(next(iter(self._pieces)))
            self._pieces[key] = {row.id: piece(row, Reader(*key)) for row in self.rows.alerts()}
        return self._pieces[key]


def piece(row: AlertRow, reader: Reader) -> str:
    """One alert of the board as HTML."""
    return render(
        "board_alert.html",
        reader,
        row=row,
        order=order_of(row),
        gaps=GAPS,
        attempt=lambda cell: attempt_text(cell, reader),
    )
