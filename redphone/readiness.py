"""`redphone readiness`: whether the coming 14 days will hold, what is missing, and what to do about it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any

import typer
from rich.text import Text

from redphone.client import segment
from redphone.commands import Session, calls
from redphone.exits import Exit
from redphone.output import clean, instant, plain

ALL = "ALL"
HISTORY_DAYS = 60
CHART_COLUMNS_MAX = 60
_BARS = "▁▂▃▄▅▆▇█"
_SEVERITY_STYLES = {"alarm": "bold white on red", "blocking": "bold red", "warning": "yellow"}


@calls
async def readiness(
    session: Session,
    partner: Annotated[
        str | None,
        typer.Argument(help="One partner, or `all`, for the secretariat; left out, your own.", show_default=False),
    ] = None,
    *,
    history: Annotated[bool, typer.Option("--history", help="Draw the score of the last 60 days as well.")] = False,
) -> None:
    """Shows what keeps the coming 14 days from being proven, the worst first, with what to do about each.

    Ends with 6 while nobody is on call at some time within 24 hours.

    For example:

        redphone readiness --history --as ca-roster-manager
    """
    code = partner.upper() if partner else await session.client.own_partner()
    if code == ALL:
        has_alarm = await _show_all(session)
    else:
        has_alarm = await _show_one(session, code, history=history)
    if has_alarm:
        raise typer.Exit(int(Exit.UNHEALTHY))


async def _show_one(session: Session, code: str, *, history: bool) -> bool:
    days = HISTORY_DAYS if history else 0
    found = await session.client.get(f"/v1/partners/{segment(code)}/readiness", days=str(days))
    if session.output.as_json:
        session.output.json(found)
        return bool(found["alarms"])
    session.output.show(_headline(session, found))
    rows = [_row(session, finding) for finding in found["findings"]]
    columns = ["", "What", "About", "From", "Until", "What to do"]
    empty = "Nothing is missing." if found["proved_at"] else "It was not looked at yet; ask again in a moment."
    session.output.table(columns, rows, items=[found], empty=empty)
    if found["omitted"]:
        session.output.say(f"{found['omitted']} more are not listed.")
    if history:
        session.output.show(_chart(found["history"]))
    return bool(found["alarms"])


async def _show_all(session: Session) -> bool:
    found = await session.client.items("/v1/readiness")
    now = session.clock.now()
    rows = [
        (
            str(one["partner"]),
            _score(one["score"]),
            _count(one["alarms"], "alarm"),
            _count(one["blocking"], "blocking"),
            _count(one["warnings"], "warning"),
            ", ".join(
                f"{plain(str(hole['rota'] or '?'))} from {instant(hole['begins_at'], now=now)}" for hole in one["holes"]
            ),
        )
        for one in found
    ]
    columns = ["", "Score", "Alarms", "Blocking", "Warnings", "Nobody on call"]
    session.output.table(columns, rows, items=found, empty="There are no partners yet.")
    return any(one["alarms"] for one in found)


def _headline(session: Session, found: Mapping[str, Any]) -> Text:
    line = Text.assemble((str(found["partner"]), "bold"), "  ", _score(found["score"]), " of 100")
    if found["proved_at"]:
        now = session.clock.now()
        line.append(f"  {instant(found['from_at'], now=now)} to {instant(found['to_at'], now=now)}", style="dim")
    return line


def _row(session: Session, finding: Mapping[str, Any]) -> tuple[Text | str, ...]:
    now = session.clock.now()
    reason = f" ({plain(str(finding['reason']))})" if finding["reason"] else ""
    return (
        Text(str(finding["severity"]), style=_SEVERITY_STYLES.get(str(finding["severity"]), "")),
        plain(str(finding["code"]).replace("_", " ")) + reason,
        clean("\n".join(_about(finding))),
        instant(finding["begins_at"], now=now),
        instant(finding["ends_at"], now=now) if finding["ends_at"] else "",
        plain(str(finding["remedy"])),
    )


def _about(finding: Mapping[str, Any]) -> Iterator[str]:
    """Whom or what the finding is about, as far as the caller may know it."""
    if finding["level"]:
        yield f"level {finding['level']}"
    for rota in (finding["rota"], finding["other_rota"]):
        if rota:
            yield str(rota)
    who = [one for one in (finding["name"], finding["title"]) if one]
    if who:
        yield ", ".join(map(str, who))
    for name in ("office", "endpoint"):
        if finding[name]:
            yield str(finding[name])
    if finding["channel"]:
        yield f"{finding['channel']} {finding['address']}"


def _score(score: int | None) -> Text:
    if score is None:
        return Text("–", style="dim")
    style = "bold green" if score >= 90 else "yellow" if score >= 70 else "bold red"
    return Text(str(score), style=style)


def _count(count: int, severity: str) -> Text:
    return Text(str(count), style=_SEVERITY_STYLES[severity] if count else "dim")


def _chart(history: Sequence[Mapping[str, Any]]) -> Text:
    """One bar a day, as high as the score at its end; red where there was an alarm at its end."""
    days = list(history)[-CHART_COLUMNS_MAX:]
    if not days:
        return Text("There is no history yet.", style="dim")
    line = Text("Score  ")
    for one in days:
        height = min(len(_BARS) - 1, int(one["score"]) * len(_BARS) // 100)
        line.append(_BARS[height], style="red" if one["alarms"] else "green")
    lowest = min(int(one["lowest"]) for one in days)
    line.append(f"  {days[0]['day']} to {days[-1]['day']}, lowest {lowest}, now {days[-1]['score']}", style="dim")
    return line
