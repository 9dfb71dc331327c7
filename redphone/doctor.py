"""`redphone doctor`: says what is wrong and what to do, from this machine's side and from the server's.

The cast: each `check_…` looks at one thing and gives `Finding`s. The promise: every finding that is not `ok` says what
to do; looking changes nothing; nothing secret is shown; what cannot be looked at says why instead of passing.
"""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import orjson
from rich.text import Text

from redphone import files
from redphone.client import Client, Connection
from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.output import clean, grid_of, parse_instant, span, state
from shared.keys import KEY_FILE_NAME, KeyRing, KeysUnusable

PYTHON_LEAST = (3, 11)
DISK_BYTES_LEAST = 500_000_000
DISK_BYTES_ADVISED = 2_000_000_000
CLOCK_SECONDS_MAX = 5.0
"""The server's date has whole seconds and travels; what is shown must be a difference that matters."""

CREDENTIALS_TRIED_MAX = 200

WAYS_LEAST = 2
"""Two channels at least that share no provider."""
_CARRIED_TOGETHER = {"sms": "telephone", "voice": "telephone"}
"""Channels that one provider carries, as far as can be known from here: they fail together."""
CONFIRMED_WITHIN = timedelta(days=90)
LISTED_MAX = 5
HEARTBEATS_SHOWN_MAX = 20


class Verdict(StrEnum):
    """What was found: all is well, somebody should look, or something does not work."""

    OK = "ok"
    LOOK = "look"
    WRONG = "wrong"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `todo` is what to do about it."""

    check: str
    verdict: Verdict
    said: str
    todo: str = ""


@calls
async def doctor(session: Session) -> None:
    """Looks at this machine, the server and the network, and says what is wrong and what to do.

    On the installation's own machine it finds more; so it does with --as and the role that you have.

    For example:

        redphone doctor --as xr-administrator
    """
    findings = [
        *check_python(),
        *check_configuration(),
        *check_data_directory(session.connection.data_dir),
        *await check_server(session),
    ]
    _show(session, findings)
    if any(finding.verdict is Verdict.WRONG for finding in findings):
        raise Failed("Something is wrong; the table says what to do.", exit_code=Exit.UNHEALTHY)


def _show(session: Session, findings: Sequence[Finding]) -> None:
    if session.output.as_json:
        for finding in findings:
            session.output.json(
                {"check": finding.check, "verdict": finding.verdict, "said": finding.said, "todo": finding.todo}
            )
        return
    grid = grid_of(["What", "", "Found"])
    for finding in findings:
        said = clean(finding.said)
        if finding.todo:
            said = Text.assemble(said, "\n", (f"→ {finding.todo}", "bold"))
        grid.add_row(finding.check, state(finding.verdict.value), said)
    session.output.show(grid)
    if all(finding.verdict is Verdict.OK for finding in findings):
        session.output.show(Text("All is well.", style="bold green"))


# --- this machine -----------------------------------------------------------------------------------------------------


def check_python() -> list[Finding]:
    """Whether this Python will do."""
    present = ".".join(map(str, sys.version_info[:3]))
    if sys.version_info[:2] >= PYTHON_LEAST:
        return [Finding("Python", Verdict.OK, present)]
    least = ".".join(map(str, PYTHON_LEAST))
    return [Finding("Python", Verdict.WRONG, present, f"Install Python {least} or later.")]


def check_configuration() -> list[Finding]:
    """Whether the environment's settings can be used."""
    # Loaded here alone: other commands need no settings of servers.
    from shared.settings import PREFIX, SettingsWrong, load  # noqa: PLC0415

    try:
        settings = load(os.environ)
    except SettingsWrong as error:
        return [Finding("Configuration", Verdict.WRONG, mistake, "Correct or unset it.") for mistake in error.mistakes]
    count = sum(name.startswith(PREFIX) for name in os.environ)
    found = [Finding("Configuration", Verdict.OK, f"{count} {PREFIX}… variables" if count else "defaults")]
    # Of an installation alone: where people only call one, there is nothing to set.
    if settings.public_url is None:
        return found
    telephones = (
        ("sms", settings.sms_providers, settings.loopback_sms),
        ("voice", settings.voice_providers, settings.loopback_voice),
    )
    carried: list[tuple[str, str]] = [
        (channel, name) for channel, names, ours in telephones for name in names if name not in dict(ours)
    ]
    if settings.email_smtp_url is not None and settings.loopback_email is None:
        carried.append(("e-mail", "the mail server"))
    return [*found, _heartbeat(settings.heartbeat_url is not None), *_loop_backs(carried)]


def _loop_backs(missing: Sequence[tuple[str, str]]) -> list[Finding]:
    """What carries messages to people and is not tried by itself."""
    if not missing:
        return []
    said = "no heartbeat goes through " + _listed([f"{name} ({channel})" for channel, name in missing])
    return [Finding("Loop-backs", Verdict.LOOK, said, "Set REDPHONE_LOOPBACK_…: see docs/heartbeats.md")]


def _heartbeat(is_configured: bool) -> Finding:
    if is_configured:
        return Finding("Heartbeat", Verdict.OK, "somebody outside is told every minute that all is well")
    said = "nobody outside notices if Red Phone falls silent"
    return Finding("Heartbeat", Verdict.LOOK, said, "Set REDPHONE_HEARTBEAT_URL: see docs/silence.md")


def check_data_directory(data_dir: Path) -> list[Finding]:
    """Directory, disk, keys and saved credentials; one line if there is no directory."""
    found = [_disk(data_dir)]
    if not data_dir.exists():
        return [*found, Finding("Data", Verdict.OK, f"{data_dir} does not exist; redphone up makes it")]
    mode = stat.S_IMODE(data_dir.stat().st_mode)
    holder = files.holder_of(data_dir)
    by = f"in use by process {holder}" if holder else "in use by nobody"
    if mode & 0o077:
        found.append(
            Finding("Data", Verdict.WRONG, f"others may look into {data_dir} ({mode:04o})", f"chmod 700 {data_dir}")
        )
    else:
        found.append(Finding("Data", Verdict.OK, f"{data_dir}, {by}"))
    return [*found, _keys(data_dir), *_saved(data_dir)]


def _disk(data_dir: Path) -> Finding:
    place = next(path for path in (data_dir.resolve(), *data_dir.resolve().parents) if path.exists())
    free = shutil.disk_usage(place).free
    said = f"{free / 1e9:.1f} GB free at {place}"
    if free < DISK_BYTES_LEAST:
        return Finding("Disk", Verdict.WRONG, said, "Make room now: a full disk stops the database.")
    if free < DISK_BYTES_ADVISED:
        return Finding("Disk", Verdict.LOOK, said, "Make room: the record only grows.")
    return Finding("Disk", Verdict.OK, said)


def _keys(data_dir: Path) -> Finding:
    path = data_dir / KEY_FILE_NAME
    if not path.exists():
        return Finding("Keys", Verdict.OK, "none here; redphone up makes them, a deployment brings its own")
    try:
        KeyRing.load(path)
    except KeysUnusable as error:
        return Finding("Keys", Verdict.WRONG, error.detail, "Restore the file from a backup: nothing replaces it.")
    return Finding("Keys", Verdict.OK, f"{path}; back it up, the data is lost without it")


def _saved(data_dir: Path) -> list[Finding]:
    path = data_dir / files.CREDENTIALS_NAME
    try:
        count = len(files.load_credentials(path))
    except Failed as failed:
        return [Finding("Credentials", Verdict.WRONG, failed.what, " ".join(failed.details))]
    return [Finding("Credentials", Verdict.OK, f"{count} saved in {path}")] if count else []


# --- the server -------------------------------------------------------------------------------------------------------


async def check_server(session: Session) -> list[Finding]:
    """Whether it answers, is ready, has our time; then what the caller's role can see of the network."""
    connection, client = session.connection, session.client
    try:
        alive = await client.probe("/healthz")
        ready = await client.probe("/readyz")
    except Failed as failed:
        return [_nobody(connection, failed)]
    if not alive.is_success:
        return [
            Finding("Server", Verdict.WRONG, f"{connection.url} answered {alive.status_code}", "Is it Red Phone's?")
        ]
    found = [
        Finding("Server", Verdict.OK, f"{connection.url} answers"),
        *_readiness(ready),
        _clock(session, alive),
        *await _broker(connection),
    ]
    return [*found, *await _credentials(session), *await _network(session)]


def _nobody(connection: Connection, failed: Failed) -> Finding:
    holder = files.holder_of(connection.data_dir)
    port = urlsplit(connection.url).port or (443 if connection.url.startswith("https") else 80)
    if holder and connection.is_local:
        todo = f"Process {holder} holds {connection.data_dir}: it may listen elsewhere than on {port}, or still start."
    elif connection.is_local:
        todo = "Start it: redphone up"
    else:
        todo = "Check the address (--url), the network and the proxy before it."
    return Finding("Server", Verdict.WRONG, failed.what, todo)


def _readiness(answer: httpx.Response) -> list[Finding]:
    try:
        checks: dict[str, dict[str, Any]] = answer.json()["checks"]
    except (ValueError, KeyError):
        return [Finding("Ready", Verdict.WRONG, f"/readyz answered {answer.status_code}", "Is this Red Phone?")]
    found = []
    for name, result in checks.items():
        if not result["ok"]:
            found.append(Finding(name, Verdict.WRONG, str(result["detail"]), _remedy(name, str(result["detail"]))))
        elif result.get("degraded"):
            found.append(Finding(name, Verdict.LOOK, str(result["detail"]), _remedy(name, str(result["detail"]))))
    well = len(checks) - len(found)
    return [Finding("Ready", Verdict.OK, f"{well} of {len(checks)} checks pass"), *found]


def _remedy(name: str, detail: str) -> str:
    kind = name.rpartition(".")[2]
    if "deploy step" in detail:
        return "Run: redphone deploy"
    return {
        "database": "See that PostgreSQL runs and has room; alerts are refused until it answers.",
        "loops": "Restart this service, and keep its log.",
        "bus": "See that NATS runs. Nothing is lost meanwhile, and alerts go out by the feeds.",
        "feeds": "See that the services reach each other (REDPHONE_FEED_…_URL).",
        "dead_letters": "Read the service's log for message.buried: somebody must decide what becomes of them.",
    }.get(kind, "Read the service's log.")


def _clock(session: Session, answer: httpx.Response) -> Finding:
    try:
        theirs = parsedate_to_datetime(answer.headers["date"])
    except (KeyError, ValueError):
        return Finding("Clock", Verdict.LOOK, "the server does not say its time", "Compare the clocks by hand.")
    difference = (session.clock.now() - theirs).total_seconds()
    if abs(difference) <= CLOCK_SECONDS_MAX:
        return Finding("Clock", Verdict.OK, "this machine and the server agree")
    word = "ahead of" if difference > 0 else "behind"
    return Finding(
        "Clock",
        Verdict.WRONG,
        f"this machine is {span(difference)} {word} the server",
        "Let both follow NTP: tokens and webhook signatures are refused when clocks differ.",
    )


async def _broker(connection: Connection) -> list[Finding]:
    """The embedded broker, where this is its machine; elsewhere the operator asks its own monitoring."""
    try:
        chosen = orjson.loads((connection.data_dir / "servers.json").read_bytes())
        port = int(chosen["nats_monitor_port"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    if not connection.is_local or not files.holder_of(connection.data_dir):
        return []
    # Loaded here alone, because it brings the broker's library along.
    from shared.broker import check_server as check_broker  # noqa: PLC0415

    alarms = await check_broker(f"http://127.0.0.1:{port}")
    if not alarms:
        return [Finding("NATS", Verdict.OK, "every write is synced to disk, all streams are there")]
    return [
        Finding("NATS", Verdict.WRONG, alarm, "Restart redphone up; if it stays, keep nats.log.") for alarm in alarms
    ]


async def _credentials(session: Session) -> list[Finding]:
    """Which of the saved credentials are not valid any more."""
    connection = session.connection
    try:
        saved = files.load_credentials(connection.data_dir / files.CREDENTIALS_NAME)
    except Failed:
        return []
    if not saved or not connection.is_local:
        return []
    refused = []
    for client_id in list(saved)[:CREDENTIALS_TRIED_MAX]:
        tried = Connection(url=connection.url, client_id=client_id, data_dir=connection.data_dir)
        async with Client(tried, clock=session.clock, ids=session.ids) as client:
            try:
                await client.sign_in()
            except Failed as failed:
                if failed.exit_code is not Exit.NOT_AUTHORISED:
                    return [Finding("Sign-in", Verdict.WRONG, failed.what, "Retry when the database answers.")]
                refused.append(client_id)
    if not refused:
        return [Finding("Sign-in", Verdict.OK, f"{len(saved)} saved credentials are valid")]
    return [
        Finding(
            "Sign-in",
            Verdict.LOOK,
            f"refused: {', '.join(refused)}",
            "Revoked or replaced: get new secrets from the roster manager, and remove the old ones.",
        )
    ]


# --- the network ------------------------------------------------------------------------------------------------------


async def _network(session: Session) -> list[Finding]:
    """Partners whom nobody would answer for, and one's own contact points that fail; as far as the caller may see."""
    client = session.client
    try:
        if not client.be_administrator() and session.connection.token is None:
            await client.sign_in()
        partners = await client.items("/v1/partners")
    except Failed as failed:
        return [Finding("Network", Verdict.LOOK, "not looked at: " + failed.what, "Give a credential with --as.")]
    if not partners:
        return [Finding("Network", Verdict.LOOK, "no partners yet", "redphone network apply network/rdn.toml")]
    found = [Finding("Network", Verdict.OK, f"{len(partners)} partners")]
    for code in [partner["code"] for partner in partners if partner.get("active", True)]:
        found += await _answering(client, code)
    return [*found, *await _holes(client), *await _heartbeats(client), *await _failing(client, session.clock.now())]


async def _holes(client: Client) -> list[Finding]:
    """One line about who would not be woken within 24 hours: of all partners for the secretariat, else of one's own."""
    try:
        ahead = [one["partner"] for one in await client.items("/v1/readiness") if one["alarms"]]
    except Failed:
        try:
            own = await client.own_partner()
            ahead = [own] if (await client.get(f"/v1/partners/{own}/readiness", days="0"))["alarms"] else []
        except Failed:
            return []
    if not ahead:
        return []
    said = f"nobody is on call at some time within 24 hours: {_listed(ahead)}"
    return [Finding("Readiness", Verdict.WRONG, said, "See redphone readiness; an override fills a hole at once.")]


async def _heartbeats(client: Client) -> list[Finding]:
    """Endpoints and providers whose heartbeat fails, as far as the caller may see."""
    try:
        found = await client.items("/v1/heartbeats", items_max=HEARTBEATS_SHOWN_MAX, state="failing")
    except Failed:
        return []
    return [
        Finding(
            "Heartbeats",
            Verdict.WRONG,
            f"{one['partner']}, {one['told']}: {one['reason']}",
            f"Mend it, then: redphone heartbeat now {one['id']}",
        )
        for one in found
    ]


async def _answering(client: Client, code: str) -> list[Finding]:
    try:
        levels = (await client.get(f"/v1/partners/{code}/on-call"))["levels"]
    except Failed as failed:
        return [Finding(code, Verdict.LOOK, failed.what, "Read roster's log.")]
    if not levels:
        todo = "Its roster manager writes an escalation policy; until then its duty office is paged alone."
        return [Finding(code, Verdict.WRONG, "has no escalation policy", todo)]
    gaps = [str(level["level"]) for level in levels if level["targets"] and all(t["nobody"] for t in level["targets"])]
    if not gaps:
        return []
    verdict = Verdict.WRONG if len(gaps) == len(levels) else Verdict.LOOK
    said = f"nobody is on call now at level {', '.join(gaps)} of {len(levels)}"
    return [Finding(code, verdict, said, "Its roster manager fills the rota, or adds an override.")]


async def _failing(client: Client, now: datetime) -> list[Finding]:
    """What escalation could not reach of one's own partner, and who is badly reached; others' points are theirs."""
    partner = await client.own_partner()
    try:
        contacts = (await client.get(f"/v1/partners/{partner}/contacts"))["items"]
        offices = (await client.get(f"/v1/partners/{partner}/offices"))["items"]
        endpoints = (await client.get(f"/v1/partners/{partner}/endpoints"))["items"]
    except Failed:
        return []
    failing = [
        (f"{owner['name']}, {point['channel']}", point.get("failing"))
        for owner in (*contacts, *offices)
        for point in owner["points"]
    ]
    failing += [(endpoint.get("description") or "endpoint", endpoint.get("failing")) for endpoint in endpoints]
    found = [_failure(what, how) for what, how in failing if how]
    return [*found, *check_ways(contacts), *check_points((*contacts, *offices), now)]


def check_ways(contacts: Sequence[dict[str, Any]]) -> list[Finding]:
    """Contacts whom the failure of one single provider would silence."""
    carried = (
        {_CARRIED_TOGETHER.get(point["channel"], point["channel"]) for point in one["points"]} for one in contacts
    )
    alone = [str(one["name"]) for one, ways in zip(contacts, carried, strict=True) if len(ways) < WAYS_LEAST]
    if not alone:
        return []
    todo = "Each adds a way that another provider carries: redphone points add. SMS and calls share one."
    return [Finding("One way only", Verdict.LOOK, _listed(alone), todo)]


def check_points(owners: Sequence[dict[str, Any]], now: datetime) -> list[Finding]:
    """Contact points that nobody has shown to work, and those that nobody has said to be right for long."""
    points = [(f"{owner['name']}, {point['channel']}", point) for owner in owners for point in owner["points"]]
    unverified = [what for what, point in points if not point["verified_at"]]
    confirmed = [(what, parse_instant(point["confirmed_at"])) for what, point in points if point["verified_at"]]
    old = [what for what, at in confirmed if at is None or now - at > CONFIRMED_WITHIN]
    found = []
    if unverified:
        todo = "Their owners return the code of redphone points verify; until then these are tried last."
        found.append(Finding("Not verified", Verdict.LOOK, _listed(unverified), todo))
    if old:
        todo = f"Not confirmed for {CONFIRMED_WITHIN.days} days: redphone points confirm all"
        found.append(Finding("Not confirmed", Verdict.LOOK, _listed(old), todo))
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED_MAX} more" if len(names) > LISTED_MAX else ""
    return "; ".join(names[:LISTED_MAX]) + more


def _failure(what: str, failing: dict[str, Any]) -> Finding:
    if failing.get("hard"):
        todo = "Its owner corrects it: redphone points change."
        return Finding("Unreachable", Verdict.WRONG, f"{what}: a provider says that nobody is reached there", todo)
    said = f"{what}: {failing['failures']} failures in a row, the last: {failing.get('reason') or 'unknown'}"
    return Finding("Unreachable", Verdict.WRONG, said, "Correct the contact point, or mend the system behind it.")
