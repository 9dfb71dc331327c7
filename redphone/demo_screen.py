"""What a demonstration looks like: a live board with what happens beneath it, plain lines in a pipe, and the report.

The cast: a `Screen` holds what is known and draws it; `news_of` turns a change on the board into a sentence; `board`,
`told` and `report` are pictures made of data alone. Every colour stands beside a word, so that nothing is lost without
colours; nothing is wider than 80 columns where there are no more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from redphone.demo_report import CHANNEL_NAMES, VIA_NAMES, reason_in_words
from redphone.demo_scenario import PRECEDENCE, STATUS, Pace, Scenario
from redphone.output import Output, parse_instant, plain
from redphone.watch import ANSWERED, View, has_answered
from shared.clock import Clock

PICTURES_PER_SECOND = 8.0
WIDE_COLUMNS = 104
"""From this width on there is room for a bar that runs down, and for who was told."""

BAR_CELLS = 12
HEIGHT_MIN = 18
LINES_KEPT = 200
PARTNER_COLUMNS = 23
"""A margin, the code, and the longest of the ten names."""

REPORT_COLUMNS_MAX = 132
REPORT_WIDE_COLUMNS = 130
"""From this width on the report has room for what each partner played."""

_STYLES = {
    "pending": "yellow",
    "notified": "yellow",
    "acknowledged": "green",
    "considering": "cyan",
    "committed": "bold green",
    "declined": "cyan",
    "noted": "cyan",
    "unreached": "bold red",
    "ended": "dim",
}
_SHORT = {"webhook": "web", "sms": "SMS", "voice": "call", "email": "mail"}
_MARKS = {"pending": "○", "notified": "◐", "unreached": "✘", "ended": "■"}


@dataclass(frozen=True)
class Line:
    """One thing that happened: when, in seconds from the release, and what."""

    seconds: float | None
    text: Text


class Screen:
    """Shows one demonstration. Without a terminal each line is printed as it comes; with `--json` nothing is."""

    def __init__(self, output: Output, scenario: Scenario, pace: Pace, names: Mapping[str, str], clock: Clock) -> None:
        self._output, self._scenario, self._pace = output, scenario, pace
        self._names = names
        self._clock = clock
        self.lines: list[Line] = []
        self.view = View(clock, lambda cell: bool(cell["alert"]["raiser"] == scenario.raiser))
        self.reference = ""
        self.headline = ""
        self.alert_id: str | None = None
        self.released_at: datetime | None = None
        self.ended_at: datetime | None = None
        """When the alert was stood down: the clock of the picture stops there."""
        self._told_failures: set[tuple[str | tuple[str, str], ...]] = set()

    def tell_failure(self, cell: Mapping[str, Any]) -> None:
        """Tells of a failed attempt, each kind of failure of a partner once: the board shows that it goes on."""
        sentence = failure_of(cell, self.name_of(cell["partner"]))
        if sentence is not None and sentence not in self._told_failures:
            self._told_failures.add(sentence)
            self.tell(*sentence)

    @contextmanager
    def live(self) -> Iterator[None]:
        """Draws for as long as the block lasts; the last picture stays."""
        if not self._output.is_live:
            yield
            return
        console = self._output.console
        with Live(
            get_renderable=lambda: self.picture(console),
            console=console,
            refresh_per_second=PICTURES_PER_SECOND,
            vertical_overflow="crop",
        ):
            yield

    def tell(self, *parts: str | tuple[str, str] | Text) -> None:
        """One more line of what happens."""
        seconds = None
        if self.released_at is not None:
            seconds = (self._clock.now() - self.released_at).total_seconds()
        text = Text.assemble(*(plain(part) if isinstance(part, str) else part for part in parts))
        self.lines.append(Line(seconds, text))
        del self.lines[:-LINES_KEPT]
        if not self._output.is_live:
            self._output.show(told([self.lines[-1]]))

    def released(self, alert: Mapping[str, Any]) -> None:
        """A message has been released: the clock starts, or goes on with the correction."""
        self.reference, self.headline = alert["reference"], alert["info"][0]["headline"]
        self.alert_id = alert["id"]
        if self.released_at is None:
            self.released_at = parse_instant(alert["released_at"])

    def cells(self) -> list[Mapping[str, Any]]:
        """The escalations of the newest message, in the order of the scenario."""
        found = {
            cell["partner"]: cell
            for cell in self.view.cells.values()
            if cell["kind"] == "answer" and cell["alert"]["id"] == self.alert_id
        }
        return [found[partner] for partner in self._scenario.addressed if partner in found]

    def name_of(self, partner: str) -> str:
        """The partner's name, short."""
        return short_name(self._names.get(partner, partner))

    def picture(self, console: Console) -> RenderableType:
        """Everything, fitting the terminal."""
        now = self._clock.now()
        wide = console.width >= WIDE_COLUMNS
        cells = self.cells()
        top = self._head(console.width, now)
        middle = board(cells, self._names, self._pace, now=now, wide=wide, waiting=self._scenario.addressed)
        # The board has a line of names above its rows; the rule and the cursor take one each.
        room = max(HEIGHT_MIN, console.height) - len(top) - len(self._scenario.parts) - 3
        return Group(
            *top,
            middle,
            Rule(style="dim"),
            told(self.lines[-max(1, room) :], width=console.width - 1),
        )

    def _head(self, width: int, now: datetime) -> list[RenderableType]:
        elapsed = ""
        if self.released_at is not None:
            elapsed = f"{max(0.0, ((self.ended_at or now) - self.released_at).total_seconds()):5.1f} s "
        first = Table.grid(expand=True)
        first.add_column()
        first.add_column(justify="right")
        title = Text.assemble(("  RED PHONE  ", "bold white on red"), "  ", (self._scenario.timeline.title, "bold"))
        title.truncate(width - 10, overflow="ellipsis")
        first.add_row(title, Text(elapsed, style="bold"))
        answered = sum(has_answered(cell) for cell in self.cells())
        count = len(self._scenario.parts)
        second = Text.assemble(
            "  ",
            (PRECEDENCE, "bold red"),
            f" from {self.name_of(self._scenario.raiser)}",
            (f" · {self.reference or 'not released yet'} · ", "dim"),
            (f"{answered} of {count}", "bold green" if answered == count else "bold"),
            " acknowledged ",
        )
        second.append("●" * answered, style="green")
        second.append("○" * (count - answered), style="dim")
        third = Text(f"  {plain(self.headline or self._scenario.alert.headline)}", style="italic")
        third.highlight_words([STATUS.upper()], "bold black on yellow")
        for line in (second, third):
            line.truncate(width - 1, overflow="ellipsis")
        return [first, second, third, Text()]


# --- the board --------------------------------------------------------------------------------------------------------


def board(
    cells: Sequence[Mapping[str, Any]],
    names: Mapping[str, str],
    pace: Pace,
    *,
    now: datetime,
    wide: bool,
    waiting: Sequence[str] = (),
) -> Table:
    """Partner × state × level × what happens next × last attempt. `waiting` are shown while they have no escalation."""
    table = _grid()
    table.add_column(" PARTNER", width=PARTNER_COLUMNS, no_wrap=True, overflow="ellipsis")
    table.add_column("STATE", width=14, no_wrap=True)
    table.add_column("LEVEL" if wide else "LVL", width=5 if wide else 3, no_wrap=True)
    if wide:
        table.add_column("", width=BAR_CELLS, no_wrap=True)
    table.add_column("NEXT", width=16, no_wrap=True, overflow="ellipsis")
    table.add_column("LAST ATTEMPT", ratio=1, no_wrap=True, overflow="ellipsis")
    for cell in cells:
        row = [
            _partner(cell["partner"], names),
            state_word(standing(cell), over=cell["state"] == "ended"),
            level_dots(cell["level"], cell["levels"], cell["state"]),
            *([_bar(cell, pace, now)] if wide else []),
            coming(cell, now),
            _attempt(cell, now, wide=wide),
        ]
        table.add_row(*row)
    for partner in waiting if not cells else ():
        table.add_row(_partner(partner, names), Text("–", style="dim"))
    return table


def short_name(name: str) -> str:
    """`United States` of `United States of America`."""
    return name.split(" of ", maxsplit=1)[0]


def _partner(code: str, names: Mapping[str, str]) -> Text:
    return Text.assemble(" ", (code, "bold"), " ", short_name(names.get(code, "")))


def _grid() -> Table:
    return Table(box=None, pad_edge=False, expand=True, header_style="dim", padding=(0, 1))


def standing(cell: Mapping[str, Any]) -> str:
    """The partner's state; after the end, the one that it ended with."""
    if cell["state"] != "ended":
        return str(cell["state"])
    if cell["position"] is not None:
        return str(cell["position"]["stance"])
    return "acknowledged" if cell["acknowledgement"] is not None else "unreached"


def state_word(state: str, *, over: bool = False) -> Text:
    """The state with its mark and colour; `over` marks one that cannot change any more."""
    mark = "■" if over else _MARKS.get(state, "●")
    return Text(f"{mark} {state}", style=_STYLES.get(state, ""))


def level_dots(level: int, levels: int, state: str) -> Text:
    """`●●○`: two of three levels paged."""
    style = "dim" if state in ANSWERED or state == "ended" else "red" if level >= levels else "yellow"
    shown = Text("●" * level, style=style)
    shown.append("○" * max(0, levels - level), style="dim")
    return shown


def coming(cell: Mapping[str, Any], now: datetime) -> Text:
    """What happens next and when; for a partner that has answered, how long it took."""
    answer, takeover = cell["acknowledgement"], cell["takeover"]
    if answer is not None:
        started, at = parse_instant(cell["clock_started_at"]), parse_instant(answer["at"])
        seconds = (at - started).total_seconds() if started and at else 0.0
        return Text(f"in {seconds:.1f} s{', late' if answer['late'] else ''}", style="dim")
    if takeover is not None:
        return Text(f"{takeover['partner']} takes over", style="magenta")
    if cell["state"] == "unreached":
        return Text("needs a person", style="bold red")
    due = parse_instant(cell["next_due_at"])
    if due is None or cell["state"] == "ended":
        return Text("–", style="dim")
    what = "unreached" if cell["next_due"] == "unreached" else "again"
    if cell["next_due"] == "next_level" and cell["level"] < cell["levels"]:
        what = f"level {cell['level'] + 1}"
    left = max(0.0, (due - now).total_seconds())
    return Text(f"{what} in {left:.0f} s", style="bold red" if what == "unreached" else "")


def _bar(cell: Mapping[str, Any], pace: Pace, now: datetime) -> Text:
    """How much of the present wait is left; empty for whoever has answered."""
    due = parse_instant(cell["next_due_at"])
    if due is None or cell["state"] not in ("pending", "notified"):
        return Text()
    whole = pace.acknowledge_within_seconds if cell["level"] <= 1 else pace.next_level_every_seconds
    left = min(1.0, max(0.0, (due - now).total_seconds() / whole))
    full = round(left * BAR_CELLS)
    style = "red" if left < 0.34 else "yellow"
    return Text.assemble(("━" * full, style), ("─" * (BAR_CELLS - full), "dim"))


def _attempt(cell: Mapping[str, Any], now: datetime, *, wide: bool) -> Text:
    tried, answer = cell["last_attempt"], cell["acknowledgement"]
    if answer is not None:
        by = f" ({plain(answer['by'])})" if wide and answer["by"] else ""
        return Text(f"✔ by {_via(answer)}{by}", style="green")
    if tried is None:
        return Text("–", style="dim")
    told_whom = f"{CHANNEL_NAMES.get(tried['channel'], tried['channel'])} to {_told(tried['told'])}"
    if tried["state"] is None:
        return Text(f"… {told_whom}", style="yellow")
    failed = tried["state"] in ("failed", "expired")
    shown = Text(f"✘ {reason_in_words(tried)}" if failed else f"✔ {told_whom}", style="red" if failed else "green")
    if wide:
        at = parse_instant(tried["at"])
        ago = f", {max(0.0, (now - at).total_seconds()):.0f} s ago" if at else ""
        shown.append(f"{f' by {told_whom}' if failed else ''}{ago}", style="dim")
    return shown


def _via(answer: Mapping[str, Any]) -> str:
    """From where somebody answered, in a word."""
    return VIA_NAMES.get(str(answer["via"]), plain(str(answer["via"])))


def _told(told_whom: str) -> str:
    """`system` of an endpoint; an office or a role as it is."""
    return "its system" if told_whom.startswith("endpoint") else plain(told_whom)


# --- what happens -----------------------------------------------------------------------------------------------------


def told(lines: Sequence[Line], *, width: int | None = None) -> RenderableType:
    """Lines of what happened, each with its seconds."""
    shown = []
    for line in lines:
        stamp = "        " if line.seconds is None else f"{line.seconds:6.1f} s"
        text = Text.assemble((stamp, "dim"), "  ", line.text)
        if width is not None:
            text.truncate(width, overflow="ellipsis")
        shown.append(text)
    return Group(*shown)


def news_of(
    before: Mapping[str, Any] | None, cell: Mapping[str, Any], name: str
) -> Iterator[tuple[str | tuple[str, str], ...]]:
    """What a change of one partner's escalation means, in sentences. `before` is None for a new escalation."""
    if cell["kind"] != "answer":
        return
    old = before or {"state": "pending", "level": 1, "acknowledgement": None, "takeover": None, "last_attempt": None}
    bold = (name, "bold")
    if cell["level"] > old["level"]:
        yield (bold, ": ", (f"level {cell['level']}", "yellow"), " is paged")
    if cell["acknowledgement"] is not None and old["acknowledgement"] is None:
        by, late = cell["acknowledgement"]["by"], cell["acknowledgement"]["late"]
        how = f" by {_via(cell['acknowledgement'])}"
        yield (bold, " ", ("acknowledges", "green"), how, f" ({by})" if by else "", ", late" if late else "")
    position = cell["position"]
    if cell["state"] != old["state"]:
        if position is not None and cell["state"] == position["stance"]:
            offer = f": {position['offer']}" if position["offer"] else ""
            yield (bold, ": ", (cell["state"], _STYLES.get(cell["state"], "")), offer)
        elif cell["state"] == "unreached":
            yield (bold, " is ", ("UNREACHED", "bold red"), ": raiser and secretariat are paged")
    if cell["takeover"] is not None and old["takeover"] is None:
        yield (bold, ": ", (f"{cell['takeover']['partner']} takes over", "magenta"), " and will call")


def failure_of(cell: Mapping[str, Any], name: str) -> tuple[str | tuple[str, str], ...] | None:
    """A sentence about the last attempt if it failed; the same sentence for the same failure."""
    tried = cell["last_attempt"]
    if tried is None or tried["state"] != "failed" or cell["kind"] != "answer":
        return None
    to_whom = f"{CHANNEL_NAMES.get(tried['channel'], tried['channel'])} to {_told(tried['told'])}"
    return ((name, "bold"), ": ", (f"{to_whom} fails", "red"), f" ({reason_in_words(tried)})")


# --- the report -------------------------------------------------------------------------------------------------------


def report(document: Mapping[str, Any], *, wide: bool) -> RenderableType:
    """The report for people."""
    table = _grid()
    table.add_column("  PARTNER", width=PARTNER_COLUMNS + 1, no_wrap=True, overflow="ellipsis")
    table.add_column("ENDED", width=14, no_wrap=True)
    table.add_column("LEVEL" if wide else "LVL", width=5 if wide else 3, no_wrap=True)
    table.add_column("ACKNOWLEDGED", width=17, no_wrap=True)
    table.add_column("ATTEMPTS", width=28 if wide else None, ratio=None if wide else 1, overflow="fold")
    if wide:
        table.add_column("WHAT IT PLAYED", ratio=1, overflow="fold", style="dim")
    for partner in document["partners"]:
        table.add_row(
            Text.assemble(
                ("✔" if partner["as_expected"] else "✘", "green" if partner["as_expected"] else "bold red"),
                _partner(partner["partner"], {partner["partner"]: partner["name"]}),
            ),
            state_word(partner["state"] or "none"),
            level_dots(partner["level"] or 0, partner["levels"] or 0, partner["state"] or ""),
            _acknowledged(partner),
            _attempts(partner["attempts"], wide=wide),
            *([partner["plays"]] if wide else []),
        )
    return Group(
        Rule("Report · ✔ ended as the scenario says", style="dim"),
        table,
        Text(),
        *(_check(check) for check in document["checks"]),
        Text(),
        Padding(_summary(document), (0, 0, 0, 2)),
        Padding(_verdict(document), (0, 0, 0, 2)),
    )


def _acknowledged(partner: Mapping[str, Any]) -> Text:
    seconds = partner["acknowledged_after_seconds"]
    if seconds is not None:
        via = VIA_NAMES.get(str(partner["acknowledged_via"]), "")
        return Text.assemble(f"{seconds:.1f} s", f" {via}", (" late" if partner["late"] else "", "yellow"))
    if partner["taken_over_by"]:
        return Text(f"no, {partner['taken_over_by']} has it", style="magenta")
    return Text("no", style="bold red")


def _attempts(attempts: Mapping[str, Any], *, wide: bool) -> Text:
    if not wide:
        # There is no room for the long words of all channels beneath one another.
        said = [f"{count} {_SHORT.get(name, name)}" for name, count in attempts["by_channel"].items()]
        said += [f"{count} failed" for count in [sum(attempts["failed"].values())] if count]
        return Text(" ".join(said) or "none", style="red" if attempts["failed"] else "green")
    channels = [_counted(count, CHANNEL_NAMES.get(name, name)) for name, count in attempts["by_channel"].items()]
    shown = Text(", ".join(channels) or "0 ok", style="green")
    for reason, count in attempts["failed"].items():
        shown.append(f", {count} × {reason.removeprefix('HTTP ')}", style="red")
    return shown


def _check(check: Mapping[str, Any]) -> Text:
    if check["holds"]:
        return Text.assemble(("  ✔ ", "green"), check["promise"])
    shown = Text.assemble(("  ✘ ", "bold red"), (check["promise"], "bold"))
    for why in check["broken"]:
        shown.append(f"\n      {plain(why)}", style="red")
    return shown


def _summary(document: Mapping[str, Any]) -> Text:
    first = document["first_page_after_seconds"]
    told_all = (
        f"everybody was paged {first * 1000:.0f} ms after the release" if first is not None else "nobody was paged"
    )
    unreached = ", ".join(document["unreached"]) or "nobody"
    repeats = document["duplicates"]
    messages = ", ".join(_counted(count, CHANNEL_NAMES[channel]) for channel, count in document["messages"].items())
    return Text(
        f"{document['acknowledged']} of {document['addressed']} acknowledged · unreached: {unreached} · {told_all} · "
        f"{document['signatures']['checked']} signatures checked · {repeats} arrived twice · {messages}"
    )


def _counted(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 or what.isupper() else f"{count} {what}s"


def _verdict(document: Mapping[str, Any]) -> Text:
    if document["passed"]:
        return Text(
            f"Every partner ended as the scenario says. {document['seconds']:.0f} s in all.", style="bold green"
        )
    broken = sum(not check["holds"] for check in document["checks"])
    return Text(f"{broken} of {len(document['checks'])} checks do not hold.", style="bold red")
