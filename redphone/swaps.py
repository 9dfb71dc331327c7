"""`redphone swap`: offer a stretch of your own shifts to a colleague, and take what is offered to you."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.text import Text

from redphone.client import segment
from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.output import instant, plain, state

app = typer.Typer(
    name="swap",
    help="Swaps of shifts: offer, accept, decline, withdraw.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

SwapArgument = Annotated[str, typer.Argument(metavar="SWAP", help="Its id, or as much of its end as tells it apart.")]
ForOption = Annotated[
    str | None,
    typer.Option("--for", help="For roster managers: on behalf of this contact (name or id).", metavar="CONTACT"),
]


@app.command()
@calls
async def offer(
    session: Session,
    rota: Annotated[str, typer.Argument(metavar="ROTA", help="Its name, or its id.", show_default=False)],
    *,
    start_at: Annotated[
        str, typer.Option("--from", help="2026-11-28T07:00:00Z.", metavar="INSTANT", show_default=False)
    ],
    end_at: Annotated[
        str, typer.Option("--until", help="2026-11-29T07:00:00Z.", metavar="INSTANT", show_default=False)
    ],
    to: Annotated[
        str | None, typer.Option("--to", help="One colleague (name or id); else all of the rota.", metavar="CONTACT")
    ] = None,
    return_start_at: Annotated[
        str | None, typer.Option("--return-from", help="What you take in return.", metavar="INSTANT")
    ] = None,
    return_end_at: Annotated[
        str | None, typer.Option("--return-until", help="Until when you take it.", metavar="INSTANT")
    ] = None,
    offered_by: ForOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be offered.")] = False,
) -> None:
    """Offers what you are on call for; it is told to whoever may take it, and nothing changes until they do.

    For example:

        redphone swap offer "Duty officers" --from 2026-11-28T07:00:00Z --until 2026-11-29T07:00:00Z --to "Ann Example"
    """
    if (return_start_at is None) != (return_end_at is None):
        raise Failed("Give both --return-from and --return-until, or neither.", exit_code=Exit.USAGE)
    code = segment(await session.client.own_partner())
    rota_id = await _id_of(session, f"/v1/partners/{code}/rotas", "rota", rota)
    body: dict[str, Any] = {"start_at": start_at, "end_at": end_at}
    if to is not None:
        body["offered_to"] = await _contact_id(session, code, to)
    if offered_by is not None:
        body["offered_by"] = await _contact_id(session, code, offered_by)
    if return_start_at is not None:
        body["in_return"] = {"start_at": return_start_at, "end_at": return_end_at}
    path = f"/v1/partners/{code}/rotas/{segment(rota_id)}/swaps" + ("?dry_run=true" if dry_run else "")
    made = await session.client.post(path, body, key=session.client.new_key())
    if made["double_duty"] and not session.output.as_json:
        session.output.warn(f"whoever takes it is on call in {', '.join(made['double_duty'])} at the same time.")
    whom = _person(made["offered_to"]) or "everybody of the rota"
    what = f"{made['rota']}, {_span(session, made)}"
    if dry_run:
        session.output.say(f"Would be offered to {whom}: {what}.", **made)
    else:
        session.output.say(f"Offered to {whom}: {what}. Swap {made['id']}.", **made)


@app.command("list")
@calls
async def list_swaps(
    session: Session,
    *,
    of_state: Annotated[
        str | None,
        typer.Option("--state", help="offered, accepted, declined, withdrawn or expired.", metavar="STATE"),
    ] = None,
) -> None:
    """Lists swaps, the newest first: your own and those open to you, or all of them if you read the rosters.

    For example:

        redphone swap list --state offered --as ca-duty-officer
    """
    code = segment(await session.client.own_partner())
    found = await session.client.items(f"/v1/partners/{code}/swaps", state=of_state)
    rows = [
        (
            str(one["id"])[-8:],
            state(one["state"]),
            plain(str(one["rota"] or "–")),
            _span(session, one),
            _person(one["offered_by"]),
            _person(one["accepted_by"]) or _person(one["offered_to"]) or Text("anybody", style="dim"),
            _span(session, one["in_return"]) if one["in_return"] else "",
        )
        for one in found
    ]
    columns = ["Swap", "State", "Rota", "Stretch", "From", "To", "In return"]
    session.output.table(columns, rows, items=found, empty="There are no swaps.")


@app.command()
@calls
async def accept(
    session: Session,
    swap: SwapArgument,
    *,
    on_behalf_of: ForOption = None,
    force: Annotated[
        bool, typer.Option("--force", help="For roster managers: also if it means two duties at once.")
    ] = False,
) -> None:
    """Takes the stretch that is offered; the rota has it at once and both are told.

    For example:

        redphone swap accept 3f9a11c2 --as ca-duty-officer-2
    """
    done = await _answered(session, swap, "acceptance", on_behalf_of, {"force": force})
    session.output.say(f"Accepted: {_person(done['accepted_by'])} is on call {_span(session, done)}.", **done)


@app.command()
@calls
async def decline(session: Session, swap: SwapArgument, *, on_behalf_of: ForOption = None) -> None:
    """Says no to an offer. One to everybody stays open for the others.

    For example:

        redphone swap decline 3f9a11c2 --as ca-duty-officer-2
    """
    done = await _answered(session, swap, "refusal", on_behalf_of, {})
    still = " It stays open for the others." if done["state"] == "offered" else ""
    session.output.say(f"Declined.{still}", **done)


@app.command()
@calls
async def withdraw(session: Session, swap: SwapArgument) -> None:
    """Takes back an offer that nobody has accepted.

    For example:

        redphone swap withdraw 3f9a11c2 --as ca-duty-officer
    """
    done = await _answered(session, swap, "withdrawal", None, None)
    session.output.say("Withdrawn.", **done)


async def _answered(
    session: Session, swap: str, what: str, on_behalf_of: str | None, body: dict[str, Any] | None
) -> dict[str, Any]:
    code = segment(await session.client.own_partner())
    swap_id = await _swap_id(session, code, swap)
    if on_behalf_of is not None and body is not None:
        body["on_behalf_of"] = await _contact_id(session, code, on_behalf_of)
    path = f"/v1/partners/{code}/swaps/{segment(swap_id)}/{what}"
    done: dict[str, Any] = await session.client.post(path, body, key=session.client.new_key())
    return done


async def _swap_id(session: Session, code: str, wanted: str) -> str:
    if (known := _uuid(wanted)) is not None:
        return known
    found = await session.client.items(f"/v1/partners/{code}/swaps")
    return _only([one for one in found if str(one["id"]).endswith(wanted.lower())], "swap", wanted)


async def _contact_id(session: Session, code: str, wanted: str) -> str:
    return await _id_of(session, f"/v1/partners/{code}/contacts", "contact", wanted)


async def _id_of(session: Session, path: str, noun: str, wanted: str) -> str:
    """The id of what has this name, whatever the case of its letters; an id is taken as it is."""
    if (known := _uuid(wanted)) is not None:
        return known
    items = (await session.client.get(path))["items"]
    return _only([one for one in items if one["name"].casefold() == wanted.casefold()], noun, wanted)


def _only(found: Sequence[Mapping[str, Any]], noun: str, wanted: str) -> str:
    if len(found) != 1:
        many = "more than one" if found else "no"
        raise Failed(f"There is {many} {noun} {plain(wanted)}.", details=["Name it by its id."], exit_code=Exit.REFUSED)
    return str(found[0]["id"])


def _uuid(text: str) -> str | None:
    try:
        return str(UUID(text))
    except ValueError:
        return None


def _person(person: Mapping[str, Any] | None) -> str:
    return "" if person is None else plain(str(person["name"] or person["contact_id"]))


def _span(session: Session, stretch: Mapping[str, Any]) -> str:
    now = session.clock.now()
    return f"{instant(stretch['start_at'], now=now)} – {instant(stretch['end_at'], now=now)}"
