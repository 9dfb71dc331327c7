"""Commands in the documents: each one that is shown exists with its options, and each one that exists is shown."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperGroup

from redphone.cli import app
from tests.support.snapshots import ROOT

COMMAND = typer.main.get_command(app)
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHOWN = re.compile(r"^ {4}redphone ((?:.+\\\n)*.+)", re.MULTILINE)
ANOTHER_PROGRAM = re.compile(r"\s+(?:\||\|\||>|#)\s.*$")
IN_PLACE_OF_AN_ID, AN_ID = re.compile(r"(\w+_)?ID"), "0191a8c0-0000-7000-8000-000000000001"
WRONG: type[Exception] = typer.BadParameter.__mro__[1]
"""How a command line that fits no command is refused."""


def _commands(command: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from _commands(inner, (*path, name))
    elif not command.hidden:
        yield " ".join(path)


def _shown() -> Iterator[tuple[str, str]]:
    """Each command line of the documents, with where it stands, without what follows it in a shell."""
    for page in PAGES:
        for line in SHOWN.findall(page.read_text(encoding="utf-8")):
            yield page.relative_to(ROOT).as_posix(), ANOTHER_PROGRAM.sub("", line.replace("\\\n", " "))


def _parse(line: str) -> None:
    """Parses a whole command line and runs nothing; raises as the command itself would."""
    command: Any = COMMAND
    left = [AN_ID if IN_PLACE_OF_AN_ID.fullmatch(word) else word for word in shlex.split(line)]
    while isinstance(command, TyperGroup):
        within = command.make_context(command.name, [], resilient_parsing=True)
        within.resilient_parsing = False
        _, command, left = command.resolve_command(within, left)
    context = command.make_context(command.name, left)
    assert context.args == []


COMMANDS, LINES = sorted(_commands(COMMAND)), sorted(set(_shown()))


def test_commands_and_documents_were_found() -> None:
    """There is much to look at: what finds nothing proves nothing."""
    assert len(COMMANDS) > 60
    assert len(LINES) > 100


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_stands_in_the_command_line_page(command: str) -> None:
    """Whoever looks for a command finds it in `docs/command-line.md`."""
    page = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert re.search(rf"redphone {re.escape(command)}(?![\w-])", page)


@pytest.mark.parametrize(("page", "line"), LINES)
def test_every_command_of_the_documents_is_one(
    page: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command line that a document shows has a command, options and arguments that exist."""
    monkeypatch.chdir(tmp_path)
    try:
        _parse(line)
    except WRONG as wrong:
        if "does not exist" not in str(wrong):  # A file of the reader's own.
            pytest.fail(f"{page}: redphone {line}: {wrong}")


@pytest.mark.parametrize("line", ["rota shew duty", "rota show duty --week 4", "rota show duty too many", "shout"])
def test_what_is_no_command_is_found(line: str) -> None:
    """A command, an option or an argument that does not exist is refused by the parser used here."""
    with pytest.raises(WRONG):
        _parse(line)
