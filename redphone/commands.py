"""What every command shares: the common options, the session that they make, and how a command ends.

`calls` turns an async function into a command that calls the API: it gets a `Session` first and the options `--json`,
`--url`, `--as` and `--data-dir` beside its own. `blocks` is for commands that call nobody, or serve: an `Output` first
and `--json`. Both end with a documented exit code instead of a trace.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import typing
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from redphone import files
from redphone.client import Client, Connection
from redphone.exits import Exit, Failed
from redphone.output import Output
from shared.clock import Clock, SystemClock
from shared.ids import Ids

DATA_DIR_DEFAULT = Path(".redphone")


def chosen_data_dir(option: Path | None) -> Path:
    """The data directory: the option's, the environment's, else `./.redphone`."""
    return option or Path(os.environ.get("REDPHONE_DATA_DIR") or DATA_DIR_DEFAULT)


def _saved_clients(incomplete: str) -> list[str]:
    """For the shell's completion of `--as`: the client ids that are saved on this machine."""
    try:
        saved = files.load_credentials(chosen_data_dir(None) / files.CREDENTIALS_NAME)
    except Failed:
        return []
    return [client_id for client_id in saved if client_id.startswith(incomplete)]


JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object a line, for programs.")]
UrlOption = Annotated[
    str | None,
    typer.Option("--url", help="Where Red Phone is [REDPHONE_URL, else http://127.0.0.1:8000].", show_default=False),
]
AsOption = Annotated[
    str | None,
    typer.Option(
        "--as",
        help="Client id to use, its secret from the environment or the saved file.",
        metavar="CLIENT",
        autocompletion=_saved_clients,
    ),
]
DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Where keys and saved credentials are [REDPHONE_DATA_DIR, else ./.redphone].",
        show_default=False,
    ),
]

_CALL_OPTIONS: dict[str, Any] = {
    "json_lines": (JsonOption, False),
    "url": (UrlOption, None),
    "client_id": (AsOption, None),
    "data_dir": (DataDirOption, None),
}
_WORK_OPTIONS: dict[str, Any] = {"json_lines": (JsonOption, False)}

CommandBody = Callable[..., Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class Session:
    """What a command works with."""

    output: Output
    client: Client
    clock: Clock
    ids: Ids

    @property
    def connection(self) -> Connection:
        """Where and as whom."""
        return self.client.connection


def calls(function: CommandBody) -> Callable[..., None]:
    """A command that calls the API; its function takes a `Session` first."""

    @functools.wraps(function)
    def command(
        *args: Any,
        json_lines: bool,
        url: str | None,
        client_id: str | None,
        data_dir: Path | None,
        **options: Any,
    ) -> None:
        output = Output(as_json=json_lines)
        with ending_well(output):
            connection = Connection.of(os.environ, url=url, client_id=client_id, data_dir=chosen_data_dir(data_dir))
            asyncio.run(_call(function, connection, output, *args, **options))

    return _with_options(command, function, _CALL_OPTIONS)


def blocks(function: Callable[..., None]) -> Callable[..., None]:
    """A command that calls nobody, or serves until it is stopped; its function takes an `Output` first."""

    @functools.wraps(function)
    def command(*args: Any, json_lines: bool, **options: Any) -> None:
        output = Output(as_json=json_lines)
        with ending_well(output):
            function(output, *args, **options)

    return _with_options(command, function, _WORK_OPTIONS)


@contextmanager
def ending_well(output: Output) -> Iterator[None]:
    """Ends the command with the exit code of what failed, and with 130 after Ctrl-C, without a trace."""
    try:
        yield
    except Failed as failed:
        output.fail(failed)
        raise typer.Exit(int(failed.exit_code)) from None
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except BrokenPipeError:
        # Whoever read our output has gone; Python would complain once more while it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise typer.Exit(int(Exit.DONE)) from None


async def _call(function: CommandBody, connection: Connection, output: Output, *args: Any, **options: Any) -> None:
    clock = SystemClock()
    ids = Ids(clock.now)
    async with Client(connection, clock=clock, ids=ids) as client:
        if connection.url.startswith("http://") and not connection.is_local:
            output.warn("this address is not https: secrets and alerts can be read on the way.")
        await function(Session(output, client, clock, ids), *args, **options)


def _with_options(
    command: Callable[..., None], function: Callable[..., Any], options: dict[str, Any]
) -> Callable[..., None]:
    """Gives the command a signature that Typer reads: the function's own parameters, then the common options."""
    hints = typing.get_type_hints(function, include_extras=True)
    own = list(inspect.signature(function).parameters.values())[1:]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
        for name, (annotation, default) in options.items()
    ]
    declared = [parameter.replace(annotation=hints[parameter.name]) for parameter in own]
    command.__signature__ = inspect.Signature([*declared, *added])  # type: ignore[attr-defined]
    command.__annotations__ = {
        **{parameter.name: hints[parameter.name] for parameter in own},
        **{name: annotation for name, (annotation, _) in options.items()},
    }
    del command.__wrapped__  # type: ignore[attr-defined] # or Typer would read the function beneath
    return command
