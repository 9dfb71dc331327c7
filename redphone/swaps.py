"""`redphone swap`: offer a stretch of your own shifts to a colleague, and take what is offered to you."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID
from zoneinfo import ZoneInfo

import typer
from rich.text import Text

from redphone import rota, rota_files
from redphone.client import segment
from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.output import instant, plain, state
from redphone.rota import FromOption, RotaArgument, ToOption

ANYBODY = "anybody"

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
    rota_name: RotaArgument,
    who: Annotated[
        str, typer.Argument(metavar="WHO", help="A colleague of the rota by name or id, or anybody.")
    ] = ANYBODY,
    *,
    from_time: FromOption,
    to_time: ToOption,
    return_from: Annotated[
        str | None, typer.Option("--return-from", metavar="TIME", help="What you take in return, likewise.")
    ] = None,
    return_to: Annotated[str | None, typer.Option("--return-to", metavar="TIME", help="When that ends.")] = None,
    offered_by: ForOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be offered.")] = False,
) -> None:
    """Offers what you are on call for; it is told to whoever may take it, and nothing changes until they do.

    For example:

        redphone swap offer duty Ann --from 2026-11-28T08:00 --to 2026-11-29T08:00 --as ca-duty-officer
    """
    if (return_from is None) != (return_to is None):
        raise Failed("Give both --return-from and --return-to, or neither.", exit_code=Exit.USAGE)
    roster = await rota.roster_of(session)
    one = roster.rota(rota_name)
    zone = ZoneInfo(str(one["time_zone"]))
    body: dict[str, Any] = {
        "start_at": rota.instant_of(from_time, zone),
        "end_at": rota.instant_of(to_time, zone),
        "offered_to": None if who.casefold() == ANYBODY else rota_files.contact_id(who, roster.contacts),
        "offered_by": None if offered_by is None else rota_files.contact_id(offered_by, roster.contacts),
    }
    if return_from is not None and return_to is not None:
        body["in_return"] = {
            "start_at": rota.instant_of(return_from, zone),
            "end_at": rota.instant_of(return_to, zone),
        }
    path = f"{roster.rota_path(one)}/swaps" + ("?dry_run=true" if dry_run else "")
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
    meant = [str(one["id"]) for one in found if str(one["id"]).endswith(wanted.lower())]
    if len(meant) != 1:
        what = f"There is {'more than one' if meant else 'no'} swap {plain(wanted)}."
        raise Failed(what, details=["redphone swap list shows them."], exit_code=Exit.REFUSED, code="not_found")
    return meant[0]


async def _contact_id(session: Session, code: str, wanted: str) -> str:
    if (known := _uuid(wanted)) is not None:
        return known
    return rota_files.contact_id(wanted, (await session.client.get(f"/v1/partners/{code}/contacts"))["items"])


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
