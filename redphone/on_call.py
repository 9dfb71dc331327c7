"""`redphone on-call`: who answers for each partner, now or at another instant."""

from __future__ import annotations

from typing import Annotated

import typer

from redphone.commands import Session, calls


@calls
async def on_call(
    session: Session,
    partner: Annotated[str | None, typer.Argument(help="One partner, for example CA.", show_default=False)] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="Another instant: 2021-08-15T03:00:00Z.", metavar="INSTANT")
    ] = None,
) -> None:
    """Shows who is on call.

    For example:

        redphone on-call CA --at 2021-08-15T03:00:00Z
    """
