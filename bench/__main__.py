"""The command: `python -m bench console | fanout | people | roster | sustained | timers`."""

from __future__ import annotations

import logging
from collections.abc import Coroutine
from typing import Annotated, Any

import orjson
import structlog
import typer
import uvloop
from rich.console import Console

from bench import report
from bench.console import console
from bench.fanout import fanout
from bench.people import people
from bench.roster import roster
from bench.sustained import sustained
from bench.timers import timers

app = typer.Typer(
    help="Measures Red Phone as production runs it: real servers that write to disk, one process per service.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object in place of a table.")]
OwnSinkOption = Annotated[bool, typer.Option(help="Use the built-in sink also where nginx is installed.")]


def _measure(title: str, measuring: Coroutine[Any, Any, dict[str, Any]], *, as_json: bool) -> None:
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    result = uvloop.run(measuring)
    if as_json:
        print(orjson.dumps(result, option=orjson.OPT_INDENT_2).decode())
        return
    rows = [(name.replace("_", " "), value) for name, value in result.items() if name != "each_run"]
    Console().print(report.table(title, rows))


def _progress(text: str) -> None:
    Console(stderr=True).print(text, style="dim", highlight=False)


@app.command("console")
def console_command(  # noqa: PLR0917 - options of a command
    partners: Annotated[int, typer.Option(min=1, max=600, help="How many partners each alert asks.")] = 200,
    boards: Annotated[int, typer.Option(min=1, max=1000, help="How many boards are open.")] = 200,
    alerts: Annotated[int, typer.Option(min=1, help="How many alerts the large board has.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="Measured alerts with boards and without, after the warm-up.")] = 6,
    changes: Annotated[int, typer.Option(min=1, max=200, help="Changes whose way to a board is timed.")] = 60,
    as_json: JsonOption = False,
) -> None:
    """How soon a board shows a change, what a large one weighs, and what many open boards cost."""
    measuring = console(partners, boards=boards, alerts=alerts, rounds=rounds, changes=changes, progress=_progress)
    _measure(f"Boards of {partners} partners", measuring, as_json=as_json)


@app.command("fanout")
def fanout_command(
    partners: Annotated[int, typer.Option(min=1, max=1000, help="How many partners, with one endpoint each.")] = 200,
    alerts: Annotated[int, typer.Option(min=1, help="Measured alerts per run, after the warm-up.")] = 10,
    runs: Annotated[int, typer.Option(min=1, help="Runs on fresh servers; the medians over them are printed.")] = 1,
    own_sink: OwnSinkOption = False,
    as_json: JsonOption = False,
) -> None:
    """From POST to 202 and to the first and last webhook, beside a bare loop and Alertmanager."""
    measuring = fanout(partners, alerts=alerts, runs=runs, own_sink=own_sink, progress=_progress)
    _measure(f"Fan-out to {partners} partners", measuring, as_json=as_json)


@app.command("people")
def people_command(
    partners: Annotated[int, typer.Option(min=1, max=600, help="How many partners, with three contacts each.")] = 200,
    alerts: Annotated[int, typer.Option(min=1, help="Measured alerts, after the warm-up.")] = 5,
    as_json: JsonOption = False,
) -> None:
    """From POST to the last SMS and mail to people, and what a dead provider does to the others."""
    _measure(f"People of {partners} partners", people(partners, alerts=alerts, progress=_progress), as_json=as_json)


@app.command("roster")
def roster_command(  # noqa: PLR0917 - options of a command
    partners: Annotated[int, typer.Option(min=1, max=600, help="How many partners, with five rotas each.")] = 200,
    contacts: Annotated[int, typer.Option(min=10, max=100, help="Contacts of each, with three points each.")] = 50,
    runs: Annotated[int, typer.Option(min=1, help="How often all plans are computed anew.")] = 3,
    edits: Annotated[int, typer.Option(min=1, help="Measured single edits, after the warm-up.")] = 100,
    reads: Annotated[int, typer.Option(min=1, help="Measured reads of who is on call, after the warm-up.")] = 2000,
    as_json: JsonOption = False,
) -> None:
    """All duty plans anew, one edit until its plan is published, and who is on call at an instant."""
    measuring = roster(partners, contacts, runs=runs, edits=edits, reads=reads, progress=_progress)
    _measure(f"Rotas of {partners} partners", measuring, as_json=as_json)


@app.command("sustained")
def sustained_command(
    seconds: Annotated[float, typer.Option(min=1, help="How long alerts are raised.")] = 30.0,
    own_sink: OwnSinkOption = False,
    as_json: JsonOption = False,
) -> None:
    """Alerts per second that the whole chain holds, with ten partners each, and the growth of memory."""
    _measure("Sustained rate", sustained(seconds, own_sink=own_sink, progress=_progress), as_json=as_json)


@app.command("timers")
def timers_command(
    escalations: Annotated[int, typer.Option(min=1, help="How many are open.")] = 10_000,
    due: Annotated[int, typer.Option(min=1, help="How many of them fall due at the same instant.")] = 1_000,
    own_sink: OwnSinkOption = False,
    as_json: JsonOption = False,
) -> None:
    """How late deadlines fire when many fall due together."""
    _measure("Lateness of deadlines", timers(escalations, due, own_sink=own_sink, progress=_progress), as_json=as_json)


if __name__ == "__main__":
    app()
