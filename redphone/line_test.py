"""`redphone line-test`: the monthly unannounced tests of whether somebody at each partner answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich.text import Text

from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.output import instant, plain, span, state

PLAN = "/v1/line-test-plan"
TESTS = "/v1/line-tests"
LISTED_MAX = 200

app = typer.Typer(
    name="line-test",
    help="Monthly unannounced tests: does somebody at each partner answer?",
    no_args_is_help=True,
    rich_markup_mode=None,
)

PartnerOption = Annotated[
    str | None, typer.Option("--partner", help="One partner, for example GB.", metavar="CODE", show_default=False)
]
FromOption = Annotated[
    str | None, typer.Option("--from", help="Begun at this instant or later: 2026-01-01T00:00:00Z.", metavar="INSTANT")
]
ToOption = Annotated[str | None, typer.Option("--to", help="Begun before this instant.", metavar="INSTANT")]


@app.command()
@calls
async def plan(
    session: Session,
    *,
    on: Annotated[bool, typer.Option("--on", help="Switch the plan on.")] = False,
    off: Annotated[bool, typer.Option("--off", help="Switch the plan off.")] = False,
    partner: Annotated[
        list[str] | None,
        typer.Option("--partner", help="With --on: test this one; several times for several.", metavar="CODE"),
    ] = None,
) -> None:
    """Shows the plan, or switches it; for the secretariat. When a test comes is told to nobody.

    For example:

        redphone line-test plan --on --as xr-secretariat
    """
    if on and off:
        raise Failed("Say --on or --off, not both.", exit_code=Exit.USAGE)
    if partner and not on:
        raise Failed("--partner goes with --on.", exit_code=Exit.USAGE)
    answer = await session.client.get_raw(PLAN)
    shown = answer.json()
    if on or off:
        codes = [code.upper() for code in partner] if partner else None
        shown = await session.client.put(PLAN, {"enabled": on, "partners": codes}, etag=answer.headers["ETag"])
    if not shown["enabled"]:
        session.output.say("Line tests are off.", **shown)
        return
    now = session.clock.now()
    rows = [(row["partner"], row.get("month") or "", _month(row["this_month"])) for row in shown["months"]]
    since = instant(shown["switched_at"], now=now)
    session.output.note(f"On since {since}, in the name of {plain(shown['switched_by'] or 'the secretariat')}.")
    session.output.table(["", "Month", "Test"], rows, items=[shown], empty="No partner is tested.")


@app.command("list")
@calls
async def list_tests(
    session: Session, *, partner: PartnerOption = None, begin: FromOption = None, end: ToOption = None
) -> None:
    """Lists line tests and what came of them: your own partner's; for the secretariat all.

    For example:

        redphone line-test list --as gb-roster-manager
    """
    found = await session.client.items(TESTS, items_max=LISTED_MAX, **_narrowed(partner, begin, end))
    now = session.clock.now()
    rows = [
        (
            test["partner"],
            instant(test["started_at"], now=now),
            _words(test["kind"]),
            _outcome(test),
            "" if test["seconds"] is None else span(test["seconds"]),
            str(test["level"] or ""),
            test["reference"],
        )
        for test in found
    ]
    session.output.table(
        ["", "Begun", "Kind", "Outcome", "After", "Level", "Alert"], rows, items=found, empty="There are none yet."
    )


@app.command()
@calls
async def report(
    session: Session, *, partner: PartnerOption = None, begin: FromOption = None, end: ToOption = None
) -> None:
    """Shows how partners do, by kind: how many were answered, and how fast. Real alerts are not in it.

    For example:

        redphone line-test report --from 2026-01-01T00:00:00Z --as xr-secretariat
    """
    found = (await session.client.get(f"{TESTS}/report", **_narrowed(partner, begin, end)))["items"]
    rows = [
        (
            row["partner"],
            _words(row["kind"]),
            str(row["tests"]),
            str(row["answered"]),
            Text(str(row["unanswered"]), style="bold red" if row["unanswered"] else ""),
            str(row["stopped"]),
            "" if row["median_seconds"] is None else span(row["median_seconds"]),
            "" if row["p90_seconds"] is None else span(row["p90_seconds"]),
        )
        for row in found
    ]
    columns = ["", "Kind", "Tests", "Answered", "Unanswered", "Stopped", "Median", "9 of 10"]
    session.output.table(columns, rows, items=found, empty="No test has ended yet.")


@app.command()
@calls
async def now(
    session: Session,
    partner: Annotated[str, typer.Argument(metavar="CODE", help="The partner to test.", show_default=False)],
) -> None:
    """Tests one partner now: whoever is on duty there is paged. For the secretariat.

    For example:

        redphone line-test now GB --as xr-secretariat
    """
    begun = await session.client.post(TESTS, {"partner": partner.upper()}, key=session.client.new_key())
    until = instant(begun["answer_by_at"], now=session.clock.now())
    session.output.say(f"{begun['reference']} is on its way to {begun['partner']}; it runs until {until}.", **begun)


def _narrowed(partner: str | None, begin: str | None, end: str | None) -> dict[str, Any]:
    return {"partner": partner.upper() if partner else None, "from": begin, "to": end}


def _words(code: str) -> str:
    return code.replace("_", " ")


def _month(code: str) -> Text:
    return Text(_words(code), style="bold red" if code == "zone_unknown" else "")


def _outcome(test: Mapping[str, Any]) -> Text:
    if test["outcome"] is None:
        return Text("running", style="bold")
    if test["stop_reason"] is not None:
        return Text(f"stopped: {_words(test['stop_reason'])}")
    return state(test["outcome"])
