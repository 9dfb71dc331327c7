"""`redphone hand-over`: hand a shift over, or take it over, by signing; until both have signed, both are paged."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import typer

from redphone.client import segment
from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.output import clean, instant, plain, state

PATH = "/v1/hand-overs"

app = typer.Typer(
    name="hand-over",
    help="From one shift to the next, signed by both.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
@calls
async def list_hand_overs(
    session: Session,
    *,
    in_state: Annotated[
        str | None, typer.Option("--state", help="unsigned, partly_signed or signed.", metavar="STATE")
    ] = None,
) -> None:
    """Lists your government's hand-overs of a day back and a day ahead, and what is open to be handed over.

    For example:

        redphone hand-over list --as ca-duty-officer
    """
    found = await session.client.get(PATH, state=in_state)
    _show(session, found["hand_overs"])
    _show_open(session, found["open_escalations"])


@app.command()
@calls
async def sign(
    session: Session,
    hand_over: Annotated[
        str | None,
        typer.Argument(metavar="ID", help="Its id; left out, the one that waits for you.", show_default=False),
    ] = None,
    *,
    note: Annotated[
        str | None, typer.Option("--note", help="For the other one, who alone can read it.", metavar="TEXT")
    ] = None,
) -> None:
    """Signs for yourself, as the one who hands over or the one who takes over, from two hours before the shift.

    For example:

        redphone hand-over sign --note "Ottawa calls back at six" --as ca-duty-officer
    """
    hand_over_id = hand_over or await _waiting(session)
    body = {"note": note} if note else {}
    _show(session, [await session.client.post(f"{PATH}/{segment(hand_over_id)}/signature", body)])


async def _waiting(session: Session) -> str:
    """The one hand-over that the caller can sign now and has not."""
    now = session.clock.now()
    waiting = [one for one in (await session.client.get(PATH))["hand_overs"] if _waits(one, now)]
    if len(waiting) == 1:
        return str(waiting[0]["id"])
    if not waiting:
        raise Failed("No hand-over waits for your signature.", exit_code=Exit.REFUSED, code="nothing_to_sign")
    listed = ", ".join(f"{one['id']} ({one['rota']})" for one in waiting)
    raise Failed(f"Several wait for your signature; name one of: {listed}", exit_code=Exit.USAGE)


def _waits(hand_over: Mapping[str, Any], now: datetime) -> bool:
    side = hand_over["own_side"]
    if side is None or hand_over[side]["signed_at"] is not None:
        return False
    return datetime.fromisoformat(hand_over["signed_from"]) <= now < datetime.fromisoformat(hand_over["until_at"])


def _show(session: Session, hand_overs: list[dict[str, Any]]) -> None:
    now = session.clock.now()
    rows = [
        (
            plain(str(one["id"])),
            plain(str(one["rota"])),
            instant(one["start_at"], now=now),
            _person(one["outgoing"]),
            _person(one["incoming"]),
            state(str(one["state"])),
        )
        for one in hand_overs
    ]
    columns = ["Hand-over", "Rota", "At", "From", "To", "State"]
    session.output.table(columns, rows, items=hand_overs, empty="No rota of yours is handed over by signature.")
    for one in hand_overs:
        for side in (one["outgoing"], one["incoming"]):
            if side["note"]:
                session.output.show(clean(f"{side['name']}: {side['note']}"))


def _person(side: Mapping[str, Any]) -> str:
    signed = " (signed)" if side["signed_at"] is not None else ""
    return plain(f"{side['name'] or 'no longer in the plan'}{signed}")


def _show_open(session: Session, escalations: list[dict[str, Any]]) -> None:
    if not escalations or session.output.as_json:
        return
    rows = [
        (
            plain(str(one["reference"])),
            plain(str(one["precedence"])),
            state(str(one["state"])),
            plain(str(one["level"])),
        )
        for one in escalations
    ]
    session.output.table(["Open", "Precedence", "State", "Level"], rows, items=escalations, empty="")
