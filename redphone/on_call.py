"""`redphone on-call`: who answers for each partner, now or at another instant."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich.text import Text

from redphone.client import segment
from redphone.commands import Session, calls
from redphone.output import clean, instant, plain


@calls
async def on_call(
    session: Session,
    partner: Annotated[str | None, typer.Argument(help="One partner, for example CA.", show_default=False)] = None,
    at: Annotated[
        str | None, typer.Option("--at", help="Another instant: 2021-08-15T03:00:00Z.", metavar="INSTANT")
    ] = None,
) -> None:
    """Shows who is paged first and who next, with deputies, by office and role; names to their own government alone.

    For example:

        redphone on-call CA --at 2021-08-15T03:00:00Z
    """
    session.client.be_administrator()
    codes = [partner.upper()] if partner else [each["code"] for each in await session.client.items("/v1/partners")]
    found = [await session.client.get(f"/v1/partners/{segment(code)}/on-call", at=at) for code in codes]
    rows = [row for view in found for row in _rows(session, view)]
    session.output.table(["", "Level", "Who", "Until"], rows, items=found, empty="There are no partners yet.")


def _rows(session: Session, view: Mapping[str, Any]) -> Iterator[tuple[Text | str, ...]]:
    """A row that names partner and office, then one for each target."""
    now = session.clock.now()
    targets = [(str(level["level"]), target) for level in view["levels"] for target in level["targets"]]
    office = next((target["office"] for _, target in targets if target.get("office")), "")
    yield Text(str(view["partner"]), style="bold"), "", Text(plain(office), style="bold"), ""
    if not targets:
        yield "", "", Text("nobody: no escalation policy", style="bold red"), ""
    for level, target in targets:
        yield "", level, _who(target), instant(target["until_at"], now=now) if target.get("until_at") else ""


def _who(target: Mapping[str, Any]) -> Text:
    if target.get("nobody"):
        what = "no deputy" if target.get("deputy") else "nobody: a gap in the rota"
        return Text(what, style="bold red")
    if target["kind"] == "office":
        return Text("the duty office")
    title = target.get("title") or "contact"
    who = clean(f"{target['name']}, {title}" if target.get("name") else title)
    if target.get("deputy"):
        who.append(", as deputy", "dim")
    elif target.get("deputy_name"):
        who.append(f"; deputy {plain(target['deputy_name'])}", "dim")
    elif target.get("has_deputy"):
        who.append("; with a deputy", "dim")
    hand_over = target.get("hand_over")
    if hand_over and not hand_over["signed"]:
        who.append(f"; {plain(hand_over['outgoing'])} as well, until both have signed the hand-over", "yellow")
    return who
