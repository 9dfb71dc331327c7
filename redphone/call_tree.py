"""`redphone call-tree`: who to ring at each government when nothing electronic works; best printed beforehand."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.output import instant, plain, span

PRIVATE_MODE = 0o600


@calls
async def call_tree(
    session: Session,
    *,
    pdf: Annotated[
        Path | None, typer.Option("--pdf", help="Write the printable document here.", metavar="FILE")
    ] = None,
) -> None:
    """Shows offices, switchboards and whom to ask for at each level; your own people with names and numbers.

    Print it once a week and keep it in a drawer: it is for the day when this command does not work.

    For example:

        redphone call-tree --pdf call-tree.pdf --as ca-duty-officer
    """
    if pdf is not None:
        answer = await session.client.get_raw("/v1/call-tree.pdf", accept="application/pdf")
        _write(pdf, answer.content)
        session.output.say(
            f"Written: {pdf}. It holds people's numbers: print it, and keep it locked away.",
            file=str(pdf),
            bytes=len(answer.content),
        )
        return
    tree = await session.client.get("/v1/call-tree.json")
    if session.output.as_json:
        session.output.json(tree)
        return
    columns = ["", "Level", "Who", "Number"]
    rows = [*_own_rows(tree), *(row for partner in tree["partners"] for row in _rows(partner))]
    session.output.table(columns, rows, items=[tree], empty="There are no partners yet.")
    now = session.clock.now()
    made = f"Made {span(tree['age_seconds'])} ago, valid until {instant(tree['valid_until'], now=now)}. {tree['tlp']}."
    session.output.say(f"{made} To print it: redphone call-tree --pdf FILE")


def _rows(partner: Mapping[str, Any]) -> Iterator[tuple[Text | str, ...]]:
    """A row that names the government, one for each office, then one for each level."""
    yield Text(str(partner["code"]), style="bold"), "", Text(plain(str(partner["name"])), style="bold"), ""
    for office in partner["offices"]:
        yield "", "", plain(str(office["name"])), Text(str(office["switchboard"] or "–"), style="bold")
        for embassy in office["embassies"]:
            yield "", "", Text(f"  embassy in {plain(str(embassy['country_name']))}", style="dim"), embassy["number"]
    for level in partner["levels"]:
        for target in level["ask_for"]:
            yield "", str(level["level"]), _ask_for(target), ""


def _ask_for(target: Mapping[str, Any]) -> str:
    if target["kind"] == "office":
        return "the duty office"
    who = " or ".join(target["titles"]) or "nobody on duty in this fortnight"
    return plain(f"{who} (deputy)" if target["deputy"] else who)


def _own_rows(tree: Mapping[str, Any]) -> Iterator[tuple[Text | str, ...]]:
    """Your own people, level by level, in the order of their shifts."""
    if not tree["own"]:
        return
    yield Text(str(tree["edition"]), style="bold"), "", Text("Your own people", style="bold"), ""
    for level in tree["own"]["levels"]:
        for target in level["targets"]:
            named = [(target["office"], target["numbers"])] if target["kind"] == "office" else []
            named += [(f"{one['name']}, {one['title'] or 'contact'}", one["numbers"]) for one in target["people"]]
            for name, numbers in named:
                listed = ", ".join(str(one["number"]) for one in numbers)
                yield "", str(level["level"]), plain(str(name)), Text(listed or "no telephone", style="bold")


def _write(path: Path, content: bytes) -> None:
    """Writes the file for its owner alone, over one that may be there."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_MODE), "wb") as file:
            os.fchmod(file.fileno(), PRIVATE_MODE)
            file.write(content)
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror}.", exit_code=Exit.USAGE) from None
