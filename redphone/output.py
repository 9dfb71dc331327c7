"""How the command line speaks: tables and sentences for people, JSON lines for programs.

The cast: an `Output` for one command. `say` is a result, `note` is progress that a pipe does not want, `table` is a
list of things, `fail` is what ended a command. The promise: with `--json` standard output holds one JSON object a line
and nothing else; trouble goes to standard error; colours only where there is a terminal and NO_COLOR is not set; what
comes from elsewhere is never read as markup or as control characters.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson
from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from redphone.exits import Failed

PLAIN_WIDTH = 200
"""Columns of a table that goes to a file or a pipe, where nothing needs to wrap."""

_STATE_STYLES = {
    "acknowledged": "green",
    "committed": "bold green",
    "declined": "cyan",
    "noted": "cyan",
    "considering": "cyan",
    "notified": "yellow",
    "pending": "yellow",
    "unreached": "bold white on red",
    "ended": "dim",
    "FLASH": "bold red",
    "IMMEDIATE": "bold yellow",
    "draft": "yellow",
    "released": "green",
    "created": "green",
    "updated": "cyan",
    "left alone": "yellow",
    "ok": "green",
    "wrong": "bold red",
    "look": "yellow",
}


class Output:
    """Standard output and standard error of one command; `as_json` speaks JSON lines."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.as_json = as_json
        terminal = sys.stdout.isatty()
        self.console = Console(highlight=False, markup=False, width=None if terminal else PLAIN_WIDTH)
        self.errors = Console(
            stderr=True, highlight=False, markup=False, width=None if sys.stderr.isatty() else PLAIN_WIDTH
        )

    @property
    def is_live(self) -> bool:
        """Whether somebody looks at a terminal."""
        return not self.as_json and self.console.is_terminal

    def say(self, sentence: str | Text, **fields: Any) -> None:
        """A result: the sentence for people, the fields for programs."""
        if self.as_json:
            self.json(fields)
        else:
            self.console.print(clean(sentence), soft_wrap=not self.console.is_terminal)

    def note(self, sentence: str) -> None:
        """Progress, for somebody who waits at a terminal."""
        if self.is_live:
            self.console.print(Text(plain(sentence), style="dim"))

    def warn(self, sentence: str) -> None:
        """Something that does not end the command."""
        self.errors.print(Text.assemble(("Note: ", "yellow"), plain(sentence)))

    def show(self, thing: RenderableType) -> None:
        """Anything that Rich can show; nothing with `--json`."""
        if not self.as_json:
            self.console.print(thing)

    def json(self, item: object) -> None:
        """One line of JSON."""
        sys.stdout.write(orjson.dumps(item, default=str).decode() + "\n")
        sys.stdout.flush()

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[str | Text]],
        *,
        items: Iterable[Mapping[str, Any]],
        empty: str,
    ) -> None:
        """A list: rows for people, or `empty` if there are none; items for programs."""
        if self.as_json:
            for item in items:
                self.json(item)
            return
        grid = grid_of(columns)
        for row in rows:
            grid.add_row(*(clean(cell) for cell in row))
        self.console.print(grid if grid.row_count else Text(empty))

    def fail(self, failed: Failed) -> None:
        """What ended the command, on standard error."""
        if self.as_json:
            line = {"error": failed.what, "details": list(failed.details), "code": failed.code}
            sys.stderr.write(orjson.dumps({**line, "exit_code": int(failed.exit_code)}).decode() + "\n")
            return
        self.errors.print(Text(plain(failed.what), style="bold red"))
        for detail in failed.details:
            self.errors.print(Text(f"  {plain(detail)}"))


def grid_of(columns: Sequence[str], *, title: str | None = None) -> Table:
    """An empty table in the house's form."""
    grid = Table(
        box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True, show_edge=False, title=title, title_justify="left"
    )
    for column in columns:
        grid.add_column(column, overflow="fold")
    return grid


def summary_grid() -> Table:
    """An empty list of names and values, without a frame."""
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    return grid


def plain(text: str) -> str:
    """The text without control characters: what a partner wrote cannot move the cursor or change the title."""
    return "".join(character if character.isprintable() or character == "\n" else " " for character in text)


def clean(cell: str | Text) -> Text:
    """A cell or sentence as Rich shall show it: text as it is, never markup."""
    return cell if isinstance(cell, Text) else Text(plain(cell))


def state(word: str) -> Text:
    """A state in its colour."""
    return Text(word, style=_STATE_STYLES.get(word, ""))


def parse_instant(text: str | None) -> datetime | None:
    """An instant of the API, or None."""
    return datetime.fromisoformat(text) if text else None


def instant(value: str | datetime | None, *, now: datetime) -> str:
    """An instant in the local zone with UTC beside it; day and year only where they are not the present ones."""
    at = parse_instant(value) if isinstance(value, str) else value
    if at is None:
        return "–"
    utc, local = at.astimezone(UTC), at.astimezone()
    present = now.astimezone()
    year = "" if local.year == present.year else " %Y"
    form = "%H:%M:%S" if local.date() == present.date() else f"%d %b{year} %H:%M"
    if local.utcoffset() == utc.utcoffset():
        return f"{utc.strftime(form)} UTC"
    return f"{local.strftime(form)} {local.strftime('%Z')} ({utc:%H:%M}Z)"


def span(seconds: float) -> str:
    """A length of time as people say it: `4 s`, `12 min 05 s`, `3 h 20 min`, `2 d 4 h`."""
    whole = int(abs(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def countdown(seconds: float) -> str:
    """The time left as a clock shows it: `0:07`, `9:49`, `2:03:11`."""
    whole = max(0, int(seconds))
    hours, minutes = whole // 3600, whole % 3600 // 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
