"""`redphone points`: your own contact points, how each of them is verified, and that they are still right."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Annotated, Any
from uuid import UUID

import typer
from rich.text import Text

from redphone.client import segment
from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.output import instant, plain, span
from shared.contracts import ChannelName

OWN = "/v1/me/contact-points"
KNOWN_WITHIN_SECONDS = 10.0
"""So long a point that was just entered may take to reach the service that sends its code."""
LOOK_AGAIN_SECONDS = 0.5

app = typer.Typer(
    name="points",
    help="How you are reached: your own contact points.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

PointArgument = Annotated[
    str, typer.Argument(metavar="POINT", help="Its number in the list, or its id.", show_default=False)
]
DelayOption = Annotated[
    int | None, typer.Option("--delay", help="Seconds behind its level, at most 1800.", metavar="SECONDS")
]
LabelOption = Annotated[str | None, typer.Option("--label", help="What you call it.", metavar="TEXT")]


@app.command("list")
@calls
async def list_points(session: Session) -> None:
    """Lists your contact points, whether each is verified, and when you last said that it is right.

    For example:

        redphone points list --as ca-duty-officer
    """
    points, _ = await _own(session)
    _show(session, points)


@app.command()
@calls
async def add(
    session: Session,
    channel: Annotated[ChannelName, typer.Argument(help="Which kind of way.", show_default=False)],
    address: Annotated[
        str, typer.Argument(metavar="ADDRESS", help="+ and country code, an address, or a URL.", show_default=False)
    ],
    *,
    delay: DelayOption = None,
    label: LabelOption = None,
) -> None:
    """Adds a contact point at the end. Verify it then: until it is, it is tried last.

    For example:

        redphone points add voice +16135550123 --delay 120 --as ca-duty-officer
    """
    new: dict[str, Any] = {"channel": channel.value, "address": address, "label": label}
    if delay is not None:
        new["delay_seconds"] = delay
    points = await _replace(session, lambda points: [*map(_kept, points), new])
    _tell(session, points[-1], "is added", len(points))


@app.command()
@calls
async def change(
    session: Session,
    point: PointArgument,
    *,
    address: Annotated[
        str | None, typer.Option("--address", help="Where it leads now; to be verified again.", metavar="ADDRESS")
    ] = None,
    delay: DelayOption = None,
    label: LabelOption = None,
) -> None:
    """Changes a contact point. Another address has to be verified again; another label or delay has not.

    For example:

        redphone points change 2 --delay 60 --as ca-duty-officer
    """
    given = {"address": address, "delay_seconds": delay, "label": label}
    changes = {name: value for name, value in given.items() if value is not None}
    if not changes:
        raise Failed("Say what to change: --address, --delay or --label.", exit_code=Exit.USAGE)
    number = 0

    def changed(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
        nonlocal number
        number = _number_of(points, point)
        return [_kept(one) | (changes if place == number else {}) for place, one in enumerate(points, start=1)]

    points = await _replace(session, changed)
    _tell(session, points[number - 1], "is changed", number)


@app.command()
@calls
async def remove(session: Session, point: PointArgument) -> None:
    """Removes a contact point: nothing is sent there any more.

    For example:

        redphone points remove 3 --as ca-duty-officer
    """

    def without(points: list[dict[str, Any]]) -> list[dict[str, Any]]:
        number = _number_of(points, point)
        return [_kept(one) for place, one in enumerate(points, start=1) if place != number]

    _show(session, await _replace(session, without))


@app.command()
@calls
async def verify(
    session: Session,
    point: PointArgument,
    code: Annotated[
        str | None, typer.Option("--code", help="The six digits that arrived.", metavar="CODE", show_default=False)
    ] = None,
) -> None:
    """Has a code sent over that very contact point, and takes it back. At a terminal it asks for the code.

    Roster managers verify offices' points and endpoints so, by id: a system is verified by taking a test message.

    For example:

        redphone points verify 1 --as ca-duty-officer
    """
    point_id = await _id_of(session, point)
    path = f"/v1/contact-points/{segment(point_id)}/verification"
    if code is None:
        asked = await _asked(session, path)
        if asked["stage"] == "verified":
            session.output.say("It answered: the contact point is verified.", **asked)
            return
        until = instant(asked["code_valid_until"], now=session.clock.now())
        if not (session.output.is_live and sys.stdin.isatty()):
            session.output.say(f"A code is on its way, valid until {until}. Return it with --code.", **asked)
            return
        code = typer.prompt(f"A code is on its way, valid until {until}. Code")
    done = await session.client.post(f"{path}/code", {"code": str(code).replace(" ", "")})
    session.output.say("The contact point is verified.", **done)


@app.command()
@calls
async def confirm(
    session: Session,
    point: Annotated[str, typer.Argument(metavar="POINT|all", help="Its number in the list, its id, or all.")] = "all",
) -> None:
    """Says that you are still reached this way. Do so every 90 days: a fifth of all contacts change within a year.

    For example:

        redphone points confirm all --as ca-duty-officer
    """
    points, _ = await _own(session)
    chosen = points if point.lower() == "all" else [points[_number_of(points, point) - 1]]
    for one in chosen:
        await session.client.post(f"{OWN}/{segment(str(one['id']))}/confirmation")
    _show(session, (await _own(session))[0])


async def _own(session: Session) -> tuple[list[dict[str, Any]], str]:
    answer = await session.client.get_raw(OWN)
    return answer.json()["items"], answer.headers["ETag"]


async def _replace(
    session: Session, change: Callable[[list[dict[str, Any]]], list[dict[str, Any]]]
) -> list[dict[str, Any]]:
    """Writes what `change` makes of the points; the points as they are then."""
    points, etag = await _own(session)
    await session.client.put(OWN, {"points": change(points)}, etag=etag)
    return (await _own(session))[0]


def _kept(point: Mapping[str, Any]) -> dict[str, Any]:
    """A point as it is, for sending it back: without an address it keeps its own."""
    return {name: point[name] for name in ("id", "channel", "label", "delay_seconds")}


def _number_of(points: list[dict[str, Any]], wanted: str) -> int:
    """The place of a point in the list, counted from 1."""
    for number, point in enumerate(points, start=1):
        if wanted in (str(number), str(point["id"])):
            return number
    raise Failed(
        f"You have no contact point {wanted}.",
        details=["redphone points list shows them with their numbers."],
        exit_code=Exit.REFUSED,
        code="not_found",
    )


async def _id_of(session: Session, point: str) -> str:
    """The id, which need not be one's own: an office's, for example."""
    try:
        return str(UUID(point))
    except ValueError:
        points, _ = await _own(session)
        return str(points[_number_of(points, point) - 1]["id"])


async def _asked(session: Session, path: str) -> dict[str, Any]:
    """Asks for a code; a point that was just entered reaches the service that sends it within moments."""
    deadline = session.clock.monotonic() + KNOWN_WITHIN_SECONDS
    while True:
        try:
            said: dict[str, Any] = await session.client.post(path)
        except Failed as failed:
            if failed.code != "not_found" or session.clock.monotonic() > deadline:
                raise
            await session.clock.sleep(LOOK_AGAIN_SECONDS)
        else:
            return said


def _tell(session: Session, point: Mapping[str, Any], what: str, number: int) -> None:
    hint = "" if point["verified_at"] else f" Verify it: redphone points verify {number}"
    session.output.say(f"The contact point {point['channel']} {point['address']} {what}.{hint}", **point)


def _show(session: Session, points: list[dict[str, Any]]) -> None:
    now = session.clock.now()
    rows = [
        (
            str(number),
            str(point["channel"]),
            plain(str(point["address"])),
            span(point["delay_seconds"]) if point["delay_seconds"] else "at once",
            plain(point["label"] or ""),
            _verified(point, instant(point["verified_at"], now=now)),
            instant(point["confirmed_at"], now=now),
        )
        for number, point in enumerate(points, start=1)
    ]
    columns = ["", "Channel", "Address", "After", "Label", "Verified", "Confirmed"]
    session.output.table(columns, rows, items=points, empty="You have no contact points: nobody can reach you.")


def _verified(point: Mapping[str, Any], at: str) -> Text:
    failing = point.get("failing")
    if failing and failing["hard"]:
        return Text("nobody is reached there", style="bold red")
    if failing:
        return Text(f"failing: {plain(str(failing['reason'] or '?'))}", style="red")
    return Text(at) if point["verified_at"] else Text("not verified", style="yellow")
