"""`redphone deliveries`, and `redphone webhook ping`: what was sent to your systems, tests, and sending again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.text import Text

from redphone import listen
from redphone.client import segment
from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.output import clean, instant, plain, state, summary_grid

DELIVERIES = "/v1/deliveries"
LISTED_MAX = 1000
RESULT_WITHIN_SECONDS = 15.0
"""A test message is sent at once and once, and an endpoint has five seconds."""
LOOK_AGAIN_SECONDS = 0.3
WAITING = frozenset({"due", "leased"})

app = typer.Typer(
    name="deliveries",
    help="What was sent to your government's systems, and sending it again.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

EndpointOption = Annotated[UUID | None, typer.Option("--endpoint", help="One endpoint only.", metavar="ID")]
FromOption = Annotated[
    str | None, typer.Option("--from", help="Made at this instant or after: 2021-08-15T09:00:00Z.", metavar="INSTANT")
]
ToOption = Annotated[str | None, typer.Option("--to", help="Made before this instant.", metavar="INSTANT")]


@listen.app.command("ping")
@calls
async def ping(
    session: Session,
    endpoint: Annotated[UUID, typer.Argument(metavar="ENDPOINT_ID", help="The endpoint's id.", show_default=False)],
) -> None:
    """Sends a signed test message to one of your endpoints and says what became of it. Nobody is woken.

    For example:

        redphone webhook ping 01900000-0000-7000-8000-000000000001 --as us-roster-manager
    """
    page_id = (await session.client.post(f"/v1/endpoints/{endpoint}/ping"))["page_id"]
    deadline = session.clock.monotonic() + RESULT_WITHIN_SECONDS
    while True:
        found = await session.client.get(f"{DELIVERIES}/{segment(page_id)}")
        if found["state"] not in WAITING or session.clock.monotonic() > deadline:
            break
        await session.clock.sleep(LOOK_AGAIN_SECONDS)
    outcome = _outcome(found)
    if found["delivered_at"] is None:
        raise Failed(
            f"The endpoint did not take the test message: {outcome}.",
            details=[f"redphone deliveries show {page_id}"],
            exit_code=Exit.REFUSED,
            code="endpoint_did_not_answer",
        )
    milliseconds = round(1000 * (found["attempts"][-1]["elapsed_seconds"] or 0))
    session.output.say(f"The endpoint took the test message: {outcome}, {milliseconds} ms.", **found)


@app.command("list")
@calls
async def list_deliveries(
    session: Session,
    *,
    endpoint: EndpointOption = None,
    wanted_state: Annotated[
        str | None, typer.Option("--state", help="due, leased, done or ended.", metavar="STATE")
    ] = None,
    undelivered: Annotated[bool, typer.Option("--undelivered", help="Only those that have not arrived.")] = False,
    from_at: FromOption = None,
    to_at: ToOption = None,
) -> None:
    """Lists messages to your systems, newest first, and what came of each.

    For example:

        redphone deliveries list --undelivered --from 2021-08-15T09:00:00Z --as us-duty-officer
    """
    query: dict[str, Any] = {
        "contact_point_id": None if endpoint is None else str(endpoint),
        "state": wanted_state,
        "delivered": "false" if undelivered else None,
        "from": from_at,
        "to": to_at,
    }
    found = await session.client.items(DELIVERIES, items_max=LISTED_MAX, **query)
    now = session.clock.now()
    rows = [
        (
            instant(one["created_at"], now=now),
            one["message_type"],
            one["told"],
            state(one["state"]),
            str(one["attempts_made"]),
            plain(_outcome(one)),
            instant(one["next_attempt_at"], now=now) if one["next_attempt_at"] else "",
            one["page_id"],
        )
        for one in found
    ]
    columns = ["Made", "Message", "To", "State", "Tries", "Last", "Next", "Id"]
    session.output.table(columns, rows, items=found, empty="Nothing was sent.")


@app.command()
@calls
async def show(
    session: Session,
    page: Annotated[UUID, typer.Argument(metavar="ID", help="The message's id: its webhook-id.", show_default=False)],
) -> None:
    """Shows one message: its body as it was sent and signed, and every attempt.

    For example:

        redphone deliveries show 01900000-0000-7000-8000-000000000001 --as us-duty-officer
    """
    found = await session.client.get(f"{DELIVERIES}/{page}")
    if session.output.as_json:
        session.output.json(found)
        return
    now = session.clock.now()
    grid = summary_grid()
    grid.add_row("Message", Text(f"{found['message_type']} to {plain(found['told'])}"))
    grid.add_row("Made", instant(found["created_at"], now=now))
    grid.add_row("State", state(found["state"]))
    for one in found["attempts"]:
        said = Text.assemble(str(one["number"]), ". ", instant(one["started_at"], now=now), " ", plain(_said(one)))
        grid.add_row("Attempt", said)
    grid.add_row("Body", clean(found["body"]) if found["body"] is not None else "not shown to your role")
    session.output.show(grid)


@app.command()
@calls
async def replay(
    session: Session,
    page: Annotated[UUID | None, typer.Argument(metavar="[ID]", help="One message.", show_default=False)] = None,
    *,
    endpoint: EndpointOption = None,
    from_at: FromOption = None,
    to_at: ToOption = None,
) -> None:
    """Sends a message again, or with --endpoint, --from and --to all of a time, under the same ids and bodies.

    For example:

        redphone deliveries replay 01900000-0000-7000-8000-000000000001 --as us-duty-officer
    """
    if page is not None and endpoint is None and from_at is None and to_at is None:
        again = [await session.client.post(f"{DELIVERIES}/{page}/replay")]
    elif page is None and endpoint is not None and from_at is not None and to_at is not None:
        again = await _replay_range(session, endpoint, from_at, to_at)
    else:
        raise Failed("Name one message, or --endpoint, --from and --to.", exit_code=Exit.USAGE)
    page_ids = [page_id for part in again for page_id in part["page_ids"]]
    on_their_way = sum(part["on_their_way"] for part in again)
    also = f"; {on_their_way} on the way already" if on_their_way else ""
    count = "1 message is" if len(page_ids) == 1 else f"{len(page_ids)} messages are"
    session.output.say(f"{count} sent again{also}.", page_ids=page_ids, on_their_way=on_their_way)


async def _replay_range(session: Session, endpoint: UUID, begin: str, end: str) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    following: str | None = begin
    while following is not None:
        part = await session.client.post(f"/v1/endpoints/{endpoint}/replay", {"from": following, "to": end})
        parts.append(part)
        # Many that were made at one instant would otherwise lead in a circle.
        following = part["continue_from"] if part["continue_from"] != following else None
    return parts


def _outcome(found: Mapping[str, Any]) -> str:
    """What came of the newest attempt."""
    return _said(found["attempts"][-1]) if found["attempts"] else "not tried yet"


def _said(attempt: Mapping[str, Any]) -> str:
    words = [attempt["state"] or "under way", attempt["reason"] or "", attempt["detail"] or ""]
    return " · ".join(word for word in words if word)
