"""`redphone docs`: where the API is described, and what a problem code means."""

from __future__ import annotations

import webbrowser
from typing import Annotated

import typer

from redphone.client import segment
from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.output import summary_grid

PAGES = (
    ("API", "/docs", "every call with examples and problems, to read"),
    ("OpenAPI", "/openapi.json", "the same for tools: OpenAPI 3.1"),
    ("Problems", "/problems", "every refusal: its code and what to do"),
    ("Keys", "/.well-known/redphone-keys", "public keys of tokens, webhooks and feed"),
    ("Health", "/readyz", "what works and what does not"),
    ("Metrics", "/metrics", "for Prometheus"),
)


@calls
async def docs(
    session: Session,
    topic: Annotated[str | None, typer.Argument(help="problems, for what codes mean.", show_default=False)] = None,
    code: Annotated[str | None, typer.Argument(help="One code.", show_default=False)] = None,
    browse: Annotated[bool, typer.Option("--open", help="Open the API's description in a browser.")] = False,
) -> None:
    """Shows where the API is described; redphone docs problems CODE explains one refusal.

    For example:

        redphone docs problems second_person_needed
    """
    if topic is None:
        _pages(session, browse=browse)
    elif topic != "problems":
        raise Failed(f"There is nothing about {topic}; try: redphone docs problems.", exit_code=Exit.USAGE)
    elif code is None:
        await _problems(session)
    else:
        await _problem(session, code)


def _pages(session: Session, *, browse: bool) -> None:
    url = session.connection.url
    if session.output.as_json:
        session.output.json({name.lower(): f"{url}{path}" for name, path, _ in PAGES})
    else:
        grid = summary_grid()
        for name, path, about in PAGES:
            grid.add_row(name, f"{url}{path}")
            grid.add_row("", about)
        session.output.show(grid)
    if browse and not webbrowser.open(f"{url}{PAGES[0][1]}"):
        raise Failed("There is no browser here.", exit_code=Exit.REFUSED)


async def _problems(session: Session) -> None:
    found = (await session.client.get_public("/problems"))["problems"]
    rows = [(page["code"], str(page["status"]), page["title"]) for page in found]
    session.output.table(["Code", "Status", "Means"], rows, items=found, empty="There are none.")


async def _problem(session: Session, code: str) -> None:
    page = await session.client.get_public(f"/problems/{segment(code)}")
    if session.output.as_json:
        session.output.json(page)
        return
    grid = summary_grid()
    grid.add_row("Code", f"{page['code']} (HTTP {page['status']})")
    grid.add_row("Means", page["title"])
    grid.add_row("What to do", page["what_to_do"])
    session.output.show(grid)
