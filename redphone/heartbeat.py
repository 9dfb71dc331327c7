"""`redphone heartbeat list|now`: whether every path would carry an alert, tried hourly, or now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any
from uuid import UUID

import typer

from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.output import instant, plain, state

HEARTBEATS = "/v1/heartbeats"
LISTED_MAX = 2000
RESULT_WITHIN_SECONDS = 20.0
"""A path has five seconds, a provider ten, and a heartbeat waits while alerts leave."""
LOOK_AGAIN_SECONDS = 0.3

app = typer.Typer(
    name="heartbeat",
    help="Whether your government's systems, and the providers, would carry an alert: tried every hour.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
@calls
async def list_heartbeats(
    session: Session,
    *,
    partner: Annotated[
        str | None, typer.Option("--partner", help="One partner's; for the secretariat.", metavar="CODE")
    ] = None,
    failing: Annotated[bool, typer.Option("--failing", help="Only those that fail.")] = False,
) -> None:
    """Lists every path with its last heartbeat: your own endpoints; for the secretariat all, and our loop-backs.

    For example:

        redphone heartbeat list --failing --as xr-secretariat
    """
    session.client.be_administrator()
    found = await session.client.items(
        HEARTBEATS,
        items_max=LISTED_MAX,
        partner=None if partner is None else partner.upper(),
        state="failing" if failing else None,
    )
    now = session.clock.now()
    rows = [
        (
            one["partner"],
            one["told"],
            state(one["state"]),
            instant(one["last_beat_at"], now=now) if one["last_beat_at"] else "",
            plain(_outcome(one)),
            instant(one["certificate_valid_until"], now=now) if one["certificate_valid_until"] else "",
            one["id"],
        )
        for one in found
    ]
    columns = ["Of", "Path", "State", "Last", "Came to", "Certificate until", "Id"]
    session.output.table(columns, rows, items=found, empty="Nothing fails." if failing else "There are no paths.")


@app.command()
@calls
async def now(
    session: Session,
    heartbeat: Annotated[UUID, typer.Argument(metavar="ID", help="The path's id, as list shows it.")],
) -> None:
    """Has one path tried now, after it was mended for example, and says what became of it. Nobody is woken.

    For example:

        redphone heartbeat now 01900000-0000-7000-8000-000000000001 --as us-roster-manager
    """
    session.client.be_administrator()
    path = f"{HEARTBEATS}/{heartbeat}"
    before = await session.client.post(path)
    deadline = session.clock.monotonic() + RESULT_WITHIN_SECONDS
    found = before
    while not _is_news(found, before) and session.clock.monotonic() < deadline:
        await session.clock.sleep(LOOK_AGAIN_SECONDS)
        found = await session.client.get(path)
    if not _is_news(found, before):
        raise Failed(
            "The heartbeat has not ended yet.",
            details=["redphone heartbeat list"],
            exit_code=Exit.UNREACHABLE,
            code="heartbeat_not_ended",
        )
    if found["reason"] is not None and not found["waits"]:
        raise Failed(
            f"{plain(found['told'])} fails: {plain(found['reason'])}.",
            exit_code=Exit.REFUSED,
            code="heartbeat_failed",
        )
    session.output.say(f"{plain(found['told'])}: {_outcome(found)}.", **found)


def _is_news(found: Mapping[str, Any], before: Mapping[str, Any]) -> bool:
    """Whether a beat has ended since, or a provider has a newer one."""
    is_newer = bool(found["last_beat_at"] != before["last_beat_at"])
    return bool(found["ended_at"] != before["ended_at"]) or (is_newer and bool(found["waits"]))


def _outcome(found: Mapping[str, Any]) -> str:
    """What the newest beat came to."""
    if found["waits"]:
        return "on its way back"
    if found["reason"] is not None:
        return str(found["reason"])
    if found["answer_milliseconds"] is None:
        return "not tried yet"
    return f"answered in {found['answer_milliseconds']} ms"
