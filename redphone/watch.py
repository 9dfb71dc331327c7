"""Live status: follows escalation's board and shows partner × state × level × countdown × last attempt.

The cast: `follow_board` is an endless source of what the board says, which reconnects with `Last-Event-ID`; a `View`
holds what has been said and how old it is; `watch_alert` and `watch_board` show it, as a table that lives on a
terminal, as JSON lines otherwise.

The promise: a screen that does not hear from the server says so; nothing on it looks fresher than it is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import httpx
import orjson
import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from redphone.client import Client, segment
from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.output import countdown, grid_of, parse_instant, plain, span, state
from shared.clock import Clock

HURRY_SECONDS = 60.0
STALE_SECONDS = 6.0
"""The server speaks every two seconds; after three silences in a row what is shown is not the present any more."""

RECONNECT_SECONDS = 1.0
NAME_CHARACTERS_SHOWN = 22
PICTURES_PER_SECOND = 2.0
ANSWERED = frozenset({"acknowledged", "considering", "committed", "declined", "noted"})
URGENCY = {"FLASH": 0, "IMMEDIATE": 1, "PRIORITY": 2, "ROUTINE": 3}

_NEXT = {
    "next_level": "again",
    "unreached": "unreached",
    "position": "answer",
    "ask_again": "again",
    "expiry": "expires",
}


@dataclass(frozen=True)
class ServerEvent:
    """One event of a stream."""

    name: str
    data: Any
    id: str | None


@dataclass
class View:
    """What the board has said, by escalation; `wanted` chooses what is kept."""

    clock: Clock
    wanted: Callable[[Mapping[str, Any]], bool]
    cells: dict[str, dict[str, Any]] = field(default_factory=dict)
    goals: dict[str, dict[str, Any]] = field(default_factory=dict)
    """The coverage goals that we may see, by alert."""
    ahead: timedelta = timedelta(0)
    """How far the server's clock is ahead of ours."""
    heard_at: float | None = None

    def take(self, event: ServerEvent) -> list[dict[str, Any]]:
        """Takes an event in and returns the cells that it brought or changed."""
        self.heard_at = self.clock.monotonic()
        if event.name in ("as_of", "board"):
            as_of = parse_instant(event.data["as_of"])
            if as_of is not None:
                self.ahead = as_of - self.clock.now()
        if event.name == "board":
            self.cells.clear()
        if event.name in ("board", "coverage"):
            goals = event.data.get("coverage", []) if event.name == "board" else event.data
            self.goals = {goal["alert_id"]: goal for goal in goals}
        brought = event.data["escalations"] if event.name == "board" else event.data if event.name == "cells" else []
        fresh = [cell for cell in brought if self.wanted(cell)]
        self.cells.update({cell["id"]: cell for cell in fresh})
        return fresh

    def now(self) -> datetime:
        """The server's present, as far as we know it."""
        return self.clock.now() + self.ahead

    @property
    def silence_seconds(self) -> float | None:
        """How long the server has said nothing, if that is too long; None while it speaks."""
        silent = 0.0 if self.heard_at is None else self.clock.monotonic() - self.heard_at
        return silent if silent > STALE_SECONDS else None

    def answering(self) -> list[dict[str, Any]]:
        """The escalations of partners that owe an answer."""
        return [cell for cell in self.cells.values() if cell["kind"] == "answer"]

    @property
    def everybody_answered(self) -> bool:
        """Whether there are partners that owed an answer and all of them have acknowledged."""
        owed = self.answering()
        return bool(owed) and all(has_answered(cell) for cell in owed)

    @property
    def is_over(self) -> bool:
        """Whether the alert has ended, so that nobody will answer any more."""
        owed = self.answering()
        return bool(owed) and all(cell["ended_at"] is not None for cell in owed)


def has_answered(cell: Mapping[str, Any]) -> bool:
    """Whether a named human of the partner has acknowledged, also if the escalation has ended since."""
    return cell["state"] in ANSWERED or cell["acknowledgement"] is not None


# --- following --------------------------------------------------------------------------------------------------------


async def events_of(answer: httpx.Response) -> AsyncIterator[ServerEvent]:
    """The events of an open stream; comments and what is not JSON are passed over."""
    name, data, event_id = "message", "", None
    async for line in answer.aiter_lines():
        if line == "":
            if data:
                with suppress(orjson.JSONDecodeError):
                    yield ServerEvent(name, orjson.loads(data), event_id)
            name, data = "message", ""
            continue
        part, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if part == "event":
            name = value
        elif part == "data":
            data += value
        elif part == "id":
            event_id = value


async def follow_board(client: Client, clock: Clock) -> AsyncIterator[ServerEvent]:
    """What the board says, for ever. The first connection fails aloud; later ones are tried until they succeed.

    A later connection asks for what changed since the last event.
    """
    last_id: str | None = None
    connected = False
    while True:
        try:
            async with client.stream("/v1/board/stream", last_event_id=last_id) as answer:
                connected = True
                async with aclosing(events_of(answer)) as events:  # type: ignore[type-var]
                    async for event in events:
                        last_id = event.id or last_id
                        yield event
        except Failed as failed:
            # A token that ended is renewed by the next try; whoever is refused again has lost the right to look.
            if not connected or (
                failed.exit_code is not Exit.UNREACHABLE and failed.code not in _RENEWED_BY_SIGNING_IN
            ):
                raise
        await clock.sleep(RECONNECT_SECONDS)


_RENEWED_BY_SIGNING_IN = frozenset({"token_expired", "credential_revoked", "token_invalid"})


# --- commands ---------------------------------------------------------------------------------------------------------


@calls
async def watch_alert(
    session: Session,
    alert: Annotated[str, typer.Argument(metavar="ALERT", help="Its reference or its id.", show_default=False)],
    until_acknowledged: Annotated[
        bool,
        typer.Option("--until-acknowledged", help="End when all have acknowledged (0), or no more can (5)."),
    ] = False,
    within: Annotated[
        float | None, typer.Option("--within", help="With --until-acknowledged: give up after so many seconds (5).")
    ] = None,
) -> None:
    """Shows live who has the alert and who does not. Ctrl-C ends it.

    For example:

        redphone alert watch RP-CA-2026-0042 --until-acknowledged --within 600
    """
    name = alert.strip()
    wanted = _is_id(name)

    def is_of_alert(cell: Mapping[str, Any]) -> bool:
        return bool(cell["alert"]["id"] == name.lower() if wanted else cell["alert"]["reference"] == name.upper())

    # Unknown or not ours: better said now than shown as an empty table for ever.
    await session.client.get(f"/v1/alerts/{segment(name.lower() if wanted else name.upper())}")
    view = View(session.clock, is_of_alert)
    watching = _watch(session, view, until=(lambda: view.everybody_answered or view.is_over), ends=until_acknowledged)
    try:
        async with asyncio.timeout(within if until_acknowledged else None):
            await watching
    except TimeoutError:
        pass
    if until_acknowledged and not view.everybody_answered:
        open_partners = sorted(cell["partner"] for cell in view.answering() if not has_answered(cell))
        raise Failed(
            f"Not everybody has acknowledged {alert}.",
            details=[f"Missing: {', '.join(open_partners)}."] if open_partners else [],
            exit_code=Exit.NOT_EVERYBODY,
        )


async def watch_board(session: Session) -> None:
    """Shows the whole board live, until Ctrl-C."""
    await _watch(session, View(session.clock, lambda _: True), until=lambda: False, ends=False)


async def _watch(session: Session, view: View, *, until: Callable[[], bool], ends: bool) -> None:
    follow = follow_board(session.client, session.clock)
    if not session.output.is_live:
        async with aclosing(follow) as events:  # type: ignore[type-var]
            async for event in events:
                for cell in view.take(event):
                    session.output.json(cell)
                if ends and until():
                    return
        return
    with Live(
        get_renderable=lambda: picture(view),
        console=session.output.console,
        refresh_per_second=PICTURES_PER_SECOND,
        transient=False,
    ):
        async with aclosing(follow) as events:  # type: ignore[type-var]
            async for event in events:
                view.take(event)
                if ends and until():
                    return


# --- pictures ---------------------------------------------------------------------------------------------------------


def picture(view: View) -> RenderableType:
    """The board as it stands: one table for each alert, the most urgent and newest first."""
    alerts: dict[str, list[dict[str, Any]]] = {}
    for cell in view.cells.values():
        alerts.setdefault(cell["alert"]["id"], []).append(cell)
    ordered = sorted(alerts.values(), key=_urgency)
    parts: list[RenderableType] = []
    silent = view.silence_seconds
    if silent is not None:
        parts.append(Text(f" STALE: nothing heard for {span(silent)}; trying to connect ", style="bold white on red"))
    elif view.heard_at is None:
        parts.append(Text("Connecting …", style="dim"))
    if not ordered and view.heard_at is not None:
        parts.append(Text("Nothing is open. This screen shows what comes.", style="dim"))
    for cells in ordered:
        alert = cells[0]["alert"]
        parts += [
            _title(alert, cells, view.now(), view.goals.get(alert["id"])),
            alert_grid(cells, now=view.now()),
            Text(),
        ]
    return Group(*parts)


def _urgency(cells: list[dict[str, Any]]) -> tuple[bool, bool, int, float]:
    alert = cells[0]["alert"]
    released = parse_instant(alert["released_at"])
    return (
        alert["ended_at"] is not None,
        alert["status"] != "Actual",
        URGENCY.get(alert["precedence"], 9),
        -(released.timestamp() if released else 0),
    )


def _title(
    alert: Mapping[str, Any], cells: list[dict[str, Any]], now: datetime, goal: Mapping[str, Any] | None = None
) -> Text:
    owed = [cell for cell in cells if cell["kind"] == "answer"]
    answered = sum(has_answered(cell) for cell in owed)
    released = parse_instant(alert["released_at"])
    age = f"{span((now - released).total_seconds())} ago" if released else ""
    title = Text.assemble((alert["reference"], "bold"), " ", state(alert["precedence"]))
    title.append(f" · {answered} of {len(owed)} acknowledged · released {age}")
    if goal is not None:
        title.append_text(_goal(goal, now))
    if alert["ended_at"] is not None:
        title.append(" · ended", style="dim")
    if alert["headline"]:
        title.append(f"\n{plain(alert['headline'])}")
    return title


def _goal(goal: Mapping[str, Any], now: datetime) -> Text:
    due_at = parse_instant(goal["due_at"])
    shown = Text(f" · goal {goal['acknowledged']} of {goal['partners']} ")
    if goal["state"] == "met":
        return shown.append("met", style="green")
    if goal["state"] == "missed":
        return shown.append("missed", style="bold red")
    return shown.append(f"in {countdown((due_at - now).total_seconds())}" if due_at else "")


def alert_grid(cells: list[dict[str, Any]], *, now: datetime) -> Table:
    """One alert's partners: those who need somebody first."""
    grid = grid_of(["", "State", "Level", "Next", "Last attempt"])
    # What people look for stays in one line; the last attempt may take two.
    grid.columns[1].no_wrap = True
    for cell in sorted(cells, key=lambda cell: (has_answered(cell), cell["kind"], cell["partner"])):
        grid.add_row(_partner(cell), _state(cell), _level(cell), _due(cell, now), _attempt(cell, now))
    return grid


def _partner(cell: Mapping[str, Any]) -> Text:
    if cell["kind"] == "takeover":
        return Text(f"{cell['partner']} for {cell['subject_partner']}", style="magenta")
    return Text(cell["partner"], style="bold" if cell["kind"] == "answer" else "dim")


def _state(cell: Mapping[str, Any]) -> Text:
    shown = state(cell["state"])
    answer = cell["acknowledgement"]
    if answer is not None:
        started, at = parse_instant(cell["clock_started_at"]), parse_instant(answer["at"])
        if started is not None and at is not None:
            shown.append(f" in {countdown((at - started).total_seconds())}", style="default")
        if answer["late"]:
            shown.append(" late", style="yellow")
        if answer["by"]:
            shown.append(f"\n{_short(answer['by'])}", style="dim")
        if cell.get("read_back"):
            settled = cell["read_back"]["state"] == "confirmed"
            shown.append(f"\nread-back {cell['read_back']['state']}", style="dim" if settled else "yellow")
    elif cell["takeover"] is not None:
        by = cell["takeover"]["by"] or cell["takeover"]["partner"]
        shown.append(f"\ntaken over by\n{_short(by)}", style="dim")
    if cell["kind"] == "information":
        shown.append(" (told)", style="dim")
    return shown


def _short(name: str) -> str:
    clean = plain(name)
    return clean if len(clean) <= NAME_CHARACTERS_SHOWN else clean[: NAME_CHARACTERS_SHOWN - 1] + "…"


def _level(cell: Mapping[str, Any]) -> str:
    return f"{cell['level']}/{cell['levels']}" if cell["levels"] else "–"


def _due(cell: Mapping[str, Any], now: datetime) -> Text:
    due = parse_instant(cell["next_due_at"])
    if due is None or cell["ended_at"] is not None:
        return Text("")
    left = (due - now).total_seconds()
    if cell["next_due"] == "expiry":
        return Text("")
    word = f"level {cell['level'] + 1}" if _raises_level(cell) else _NEXT.get(cell["next_due"] or "", "")
    text = f"{word} in {countdown(left)}" if left >= 0 else f"{word} due"
    return Text(text, style="bold red" if left < HURRY_SECONDS and not has_answered(cell) else "")


def _raises_level(cell: Mapping[str, Any]) -> bool:
    return bool(cell["next_due"] == "next_level" and cell["level"] < cell["levels"])


def _attempt(cell: Mapping[str, Any], now: datetime) -> Text:
    tried = cell["last_attempt"]
    shown = Text()
    if tried is not None:
        at = parse_instant(tried["at"])
        word = tried["state"] or "under way"
        style = {"delivered": "green", "sent": "green", "failed": "red", "expired": "red"}.get(word, "yellow")
        why = tried["reason"] or tried["detail"] if word in ("failed", "expired") else None
        shown.append(plain(str(why)).replace("_", " ") if why else word, style=style)
        shown.append(f" {tried['channel']}")
        if at is not None:
            shown.append(f" {span((now - at).total_seconds())}", style="dim")
    lacks = [*cell["gaps"], *(("one_provider",) if cell.get("one_provider") else ())]
    if lacks:
        shown.append(("\n" if tried else "") + "\n".join(lacks).replace("_", " "), style="yellow")
    return shown


def _is_id(text: str) -> bool:
    try:
        UUID(text)
    except ValueError:
        return False
    return True
