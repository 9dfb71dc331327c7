"""`redphone keys`: the installation's keys by name, and changing them step by step. Needs the key file, no server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from redphone.commands import DataDirOption, blocks, chosen_data_dir
from redphone.exits import Exit, Failed
from redphone.output import Output
from shared import key_changes
from shared.key_changes import KeyChangeRefused, KeyKind, names_of
from shared.keys import KEY_FILE_NAME, KeyRing, KeysUnusable

app = typer.Typer(
    name="keys",
    help="The installation's keys: which there are, and how they are changed.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

KindArgument = Annotated[KeyKind, typer.Argument(help="What the key is for.", show_default=False)]
IdArgument = Annotated[str, typer.Argument(metavar="ID", help="Its id in the list.", show_default=False)]

_RESTART = "Give this key file to every node and restart every service there: they read their keys at start."


@app.command("list")
@blocks
def list_keys(output: Output, *, data_dir: DataDirOption = None) -> None:
    """Lists the keys by kind. The first of each kind signs; all of them verify. Nothing secret is shown.

    For example:

        redphone keys list
    """
    path = _path(data_dir)
    try:
        ring = KeyRing.load(path)
    except KeysUnusable as error:
        raise _refused(error) from None
    named = [name for kind in KeyKind for name in names_of(ring, kind)]
    rows = [(name.kind.value, name.id, "signs" if name.signs else "verifies", name.public_key or "") for name in named]
    items = [
        {"kind": name.kind.value, "id": name.id, "signs": name.signs, "public_key": name.public_key} for name in named
    ]
    output.table(["Kind", "Id", "Does", "Public key"], rows, items=items, empty="There are none.")


@app.command()
@blocks
def add(output: Output, kind: KindArgument, *, data_dir: DataDirOption = None) -> None:
    """Makes a new key that verifies and does not sign yet: the first of three steps.

    For example:

        redphone keys add webhook
    """
    _change(output, data_dir, kind, lambda ring: key_changes.add(ring, kind), "A new {kind} key verifies: {id}.")


@app.command()
@blocks
def promote(output: Output, kind: KindArgument, key_id: IdArgument, *, data_dir: DataDirOption = None) -> None:
    """Lets a key sign that every node knows already: the second step.

    For example:

        redphone keys promote webhook 0123456789abcdef
    """
    _change(
        output, data_dir, kind, lambda ring: key_changes.promote(ring, kind, key_id), "This {kind} key signs: {id}."
    )


@app.command()
@blocks
def drop(output: Output, kind: KindArgument, key_id: IdArgument, *, data_dir: DataDirOption = None) -> None:
    """Forgets a key that no longer signs: the last step, when nothing that it signed is needed any more.

    For example:

        redphone keys drop webhook 0123456789abcdef
    """
    _change(output, data_dir, kind, lambda ring: key_changes.drop(ring, kind, key_id), "The {kind} key is gone: {id}.")


@app.command()
@blocks
def rotate(output: Output, kind: KindArgument, *, data_dir: DataDirOption = None) -> None:
    """Makes a new key that signs at once. Only where one redphone up is everything; else add, then promote.

    For example:

        redphone keys rotate webhook
    """
    _change(output, data_dir, kind, lambda ring: key_changes.rotate(ring, kind), "A new {kind} key signs: {id}.")


def _change(
    output: Output, data_dir: Path | None, kind: KeyKind, change: Callable[[KeyRing], KeyRing], sentence: str
) -> None:
    try:
        before, after = key_changes.change_file(_path(data_dir), change)
    except KeysUnusable as error:
        raise _refused(error) from None
    except KeyChangeRefused as error:
        raise Failed(
            f"{error.detail[:1].upper()}{error.detail[1:]}.", exit_code=Exit.REFUSED, code=error.code
        ) from None
    old, new = names_of(before, kind), names_of(after, kind)
    # The one that came or went, else the one that signs now.
    moved = {name.id for name in old} ^ {name.id for name in new} or {new[0].id}
    fields: dict[str, Any] = {"kind": kind.value, "id": moved.pop(), "keys": [name.id for name in new]}
    output.say(sentence.format(**fields), **fields)
    output.warn(_RESTART)


def _path(data_dir: Path | None) -> Path:
    if os.environ.get("REDPHONE_KEYS"):
        raise Failed(
            "REDPHONE_KEYS holds the keys themselves: there is no file to look at.",
            details=["Write its value to a file for you alone, and name that in REDPHONE_KEYS_FILE."],
            exit_code=Exit.USAGE,
        )
    named = os.environ.get("REDPHONE_KEYS_FILE")
    return Path(named) if named else chosen_data_dir(data_dir) / KEY_FILE_NAME


def _refused(error: KeysUnusable | KeyChangeRefused) -> Failed:
    return Failed(f"{error.detail[:1].upper()}{error.detail[1:]}.", exit_code=Exit.REFUSED, code=error.code)
