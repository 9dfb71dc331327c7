"""`redphone demo`: a real crisis, played on this machine from the release to the stand-down, and judged.

What runs is what `redphone up` runs, on a directory that is thrown away: real servers, the three services, signed
webhooks over real connections, and people who answer through the public API. Different from production are only a
network file (deadlines of seconds, addresses on this machine) and the development switch, which allows such addresses.

The cast: `run` is the command; a `Play` is one performance: it sets up, raises, corrects, waits, stands down, and
hands over what it saw to `demo_report`. The promise: exit status 0 only if every partner ended as the scenario says.
"""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing, redirect_stderr, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import orjson
import typer
from rich.text import Text
from sqlalchemy import select

from redphone import demo_screen, files
from redphone.client import Client, Connection
from redphone.demo_channels import Counterparts, Heard
from redphone.demo_network import Network, demonstration_network
from redphone.demo_people import DUTY_OFFICER, RELEASER, People, machines_of
from redphone.demo_receivers import Receipt, Receivers
from redphone.demo_report import PAGING_TYPES, Facts, report_of
from redphone.demo_rosters import Rosters
from redphone.demo_scenario import NORMAL, PRECEDENCE, QUICK, Scenario, scenario
from redphone.demo_screen import REPORT_COLUMNS_MAX, REPORT_WIDE_COLUMNS, Screen, news_of
from redphone.exits import Exit, Failed
from redphone.files import SavedCredential
from redphone.installation import Installation, installation
from redphone.local import GivenServers
from redphone.network import send_network
from redphone.output import Output, parse_instant, summary_grid
from redphone.up import START_POLL_SECONDS, Signals, bind, console_url, explained, serve_until_stopped, until_stopped
from redphone.watch import follow_board
from shared import hosting, inbox, outbox
from shared.clock import SystemClock
from shared.contracts import DutyPlanPublished
from shared.log import configure
from shared.settings import Settings, load
from shared.webhooks import VerifyingKey

LOG_NAME = "redphone.log"
NETWORK_NAME = "network.toml"
LOG_LINES_SHOWN = 10
LOG_CHARACTERS_MAX = 200
LOG_FIELDS = ("service", "consumer", "loop", "error", "reason")
STEP_SECONDS_MAX = 30.0
"""How long any step may take beyond the deadlines that it waits for, before the demonstration is called stuck."""

SETTLE_SECONDS = 1.0
"""After the last message, so that one too many would be seen."""

LOOK_SECONDS = 0.1
WATCHING = "xr-secretariat"
"""Who looks at the board: the secretariat sees every alert."""
STOPPED = 130
"""The exit code that shells give to whatever Ctrl-C has ended."""


@dataclass(frozen=True)
class DemoOptions:
    """What the command line said."""

    crisis: str = "afghanistan"
    stay: bool = False
    quick: bool = False


def run(options: DemoOptions, output: Output) -> None:
    """Plays one crisis. Raises `Failed` if it did not end as its scenario says, `typer.Exit` after Ctrl-C."""
    hosting.run(play(options, output))


async def play(options: DemoOptions, output: Output) -> None:
    """The same inside a running event loop."""
    # A terminal that is closed ends it as Ctrl-C does, so that nothing is left behind.
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, signal.raise_signal, signal.SIGTERM)
    chosen = scenario(options.crisis)
    with tempfile.TemporaryDirectory(prefix="redphone-demo-", ignore_cleanup_errors=True) as name:
        try:
            report = await _perform(chosen, options, output, Path(name))
        except Failed as failed:
            details = [*failed.details, *_last_words(Path(name))]
            raise Failed(failed.what, details=details, exit_code=failed.exit_code) from None
        if report is None:
            output.note("Stopped before the end.")
            raise typer.Exit(STOPPED)
        if not report["passed"]:
            broken = [check["promise"] for check in report["checks"] if not check["holds"]]
            raise Failed(
                "The demonstration did not end as its scenario says.",
                details=[*(f"not so: {promise}" for promise in broken), *_last_words(Path(name))],
                exit_code=Exit.REFUSED,
            )


async def _perform(chosen: Scenario, options: DemoOptions, output: Output, directory: Path) -> dict[str, Any] | None:
    """The report, or None if somebody stopped it before there was one."""
    # The environment names other installations' servers, data and providers, which a demonstration must not touch.
    async with Counterparts(SystemClock()) as counterparts:
        return await _perform_with(counterparts, chosen, options, output, directory)


async def _perform_with(
    counterparts: Counterparts, chosen: Scenario, options: DemoOptions, output: Output, directory: Path
) -> dict[str, Any] | None:
    chosen_here: dict[str, Any] = {
        "data_dir": directory / "data",
        "port": 0,
        "development": True,
        "log_level": "WARNING",
    }
    settings = load({}, **chosen_here)
    with (directory / LOG_NAME).open("w", encoding="utf-8") as log:
        with redirect_stderr(log):
            configure(level=settings.log_level, json_lines=True)
        listening = bind(settings)
        address = hosting.address_of(listening)
        settings = load(counterparts.environment(), **chosen_here, public_url=address)
        reports: list[dict[str, Any]] = []
        waiting = Waiting(output)

        async def perform(signals: Signals) -> None:
            async with explained(), installation(settings, GivenServers()) as running:
                signals.leave_to_server()
                await serve_until_stopped(running.app, listening, beside(running))

        async def beside(running: Installation) -> None:
            while not running.started:
                await running.clock.sleep(START_POLL_SECONDS)
            try:
                async with Play(
                    chosen, options, output, running, waiting=waiting, counterparts=counterparts
                ) as performance:
                    reports.append(await performance.run())
                    _show(reports[0], output)
                    if options.stay:
                        await _stay(output, address, settings)
            except Failed:
                # Whoever stops it takes the server away from those who are just calling it.
                if not _is_stopping(running):
                    raise
                return
            signal.raise_signal(signal.SIGTERM)

        waiting.show("Starting PostgreSQL, NATS and the three services in a directory of their own …")
        try:
            await until_stopped(perform)
        finally:
            waiting.hide()
            listening.close()
    return reports[0] if reports else None


def _is_stopping(running: Installation) -> bool:
    """Whether a signal has begun to end the services."""
    return any(service.deps.streams.closing.is_set() for service in running.services)


def _show(report: Mapping[str, Any], output: Output) -> None:
    if output.as_json:
        output.json(report)
    else:
        width = min(output.console.width, REPORT_COLUMNS_MAX)
        output.console.print(demo_screen.report(report, wide=width >= REPORT_WIDE_COLUMNS), width=width)


async def _stay(output: Output, address: str, settings: Settings) -> None:
    """Keeps everything alive until a signal, and says where to look."""
    data_dir = settings.data_dir.resolve()
    if not output.as_json:
        shown = summary_grid()
        shown.add_row("Console", f"{console_url(address)} in a browser: the board as the crisis has left it")
        shown.add_row("Sign in", f"{WATCHING}, secret {_secret_of(WATCHING, data_dir)}")
        shown.add_row("Credentials", str(data_dir / files.CREDENTIALS_NAME))
        shown.add_row("Look around", f"redphone board --url {address} --data-dir {data_dir} --as {WATCHING}")
        output.show(Text("\nEverything goes on running. Ctrl-C ends it and removes its data.", style="bold"))
        output.show(shown)
    await asyncio.Event().wait()


def _secret_of(client_id: str, data_dir: Path) -> str:
    """The secret of a made-up person, which ends with the directory."""
    return files.load_credentials(data_dir / files.CREDENTIALS_NAME)[client_id].client_secret


def _last_words(directory: Path) -> list[str]:
    """The last different things that the services' log says, which goes away with the directory."""
    try:
        lines = (directory / LOG_NAME).read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return []
    said = list(dict.fromkeys(_in_words(line) for line in lines))[-LOG_LINES_SHOWN:]
    return ["The services' last words:", *(f"  {line}" for line in said)] if said else []


def _in_words(line: str) -> str:
    """One line of the log without what only programs read."""
    try:
        entry = orjson.loads(line)
        shown = [f"{name}={entry[name]}" for name in LOG_FIELDS if entry.get(name)]
        return " ".join([entry["level"], entry["event"], *shown])
    except (ValueError, KeyError, TypeError):
        return line[:LOG_CHARACTERS_MAX]


class Waiting:
    """A sentence that moves while somebody waits at a terminal, and is gone afterwards."""

    def __init__(self, output: Output) -> None:
        self._live = output.is_live
        self._status = output.console.status("")

    def show(self, sentence: str) -> None:
        """Shows the sentence, in place of the one before."""
        if self._live:
            self._status.update(Text(sentence))
            self._status.start()

    def hide(self) -> None:
        """Takes it away; may be called at any time."""
        if self._live:
            self._status.stop()


class Play:
    """One performance on a running installation. Use as an asynchronous context manager; `run` may be called once."""

    def __init__(
        self,
        chosen: Scenario,
        options: DemoOptions,
        output: Output,
        running: Installation,
        *,
        waiting: Waiting,
        counterparts: Counterparts,
    ) -> None:
        self._scenario = chosen
        self._pace = QUICK if options.quick else NORMAL
        self._running, self._waiting, self._counterparts = running, waiting, counterparts
        counterparts.on_heard = self._on_heard
        self._clock, self._ids = running.clock, running.ids
        self._output = output
        self._changed = asyncio.Event()
        self._people: People | None = None
        self._rosters: Rosters | None = None
        self._unreached_at: dict[str, datetime] = {}
        self._receivers = Receivers(
            self._clock,
            machines=machines_of(chosen),
            slow_seconds=self._pace.slow_seconds,
            on_receipt=self._on_receipt,
        )
        self._connection = Connection(url=str(running.settings.public_url), data_dir=running.settings.data_dir)

    async def __aenter__(self) -> Self:
        await self._receivers.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._people is not None:
            await self._people.close()
        await self._receivers.__aexit__(kind, error, trace)

    async def run(self) -> dict[str, Any]:
        """Plays everything and returns the report. Raises `Failed` when something refuses or does not come."""
        network = demonstration_network(self._receivers.url, self._pace, self._scenario.parts)
        self._counterparts.serve(network, self._scenario, str(self._running.settings.public_url))
        credentials = await self._set_up(network)
        self._waiting.hide()
        screen = Screen(self._output, self._scenario, self._pace, network.names, self._clock)
        try:
            async with asyncio.TaskGroup() as group:
                self._people = People(
                    self._scenario,
                    self._pace,
                    connection=self._connection,
                    credentials=credentials,
                    counterparts=self._counterparts,
                    network=network,
                    clock=self._clock,
                    ids=self._ids,
                    group=group,
                    tell=screen.tell,
                    name_of=screen.name_of,
                )
                self._rosters = Rosters(
                    self._scenario,
                    self._pace,
                    people=self._people,
                    network=network,
                    clock=self._clock,
                    group=group,
                    tell=screen.tell,
                    name_of=screen.name_of,
                    until=self._until,
                    receipts=self._receivers.receipts,
                )
                following = group.create_task(self._follow(screen, self._people))
                try:
                    with screen.live():
                        facts = await self._tell(screen, self._people, self._rosters, network)
                finally:
                    following.cancel()
        except* Failed as several:
            raise _first(several) from None
        return report_of(facts)

    # --- setting up

    async def _set_up(self, network: Network) -> dict[str, SavedCredential]:
        """Applies the network file and waits until every service knows what it says."""
        self._waiting.show("Bringing in ten partners and the secretariat, with deadlines of seconds …")
        data_dir = self._running.settings.data_dir
        files.write_private(data_dir / NETWORK_NAME, network.text.encode())
        async with Client(self._connection, clock=self._clock, ids=self._ids) as client:
            client.be_administrator()
            applied = await send_network(client, network.text, NETWORK_NAME)
            keys = await client.get("/.well-known/redphone-keys")
        files.save_credentials(data_dir / files.CREDENTIALS_NAME, applied.secrets)
        self._receivers.keys = [VerifyingKey.from_text(key["public_key"]) for key in keys["webhook_keys"]]
        count = len(network.names)
        await self._until(lambda: self._has_spread(count), "the duty plans have reached every service")
        return files.load_credentials(data_dir / files.CREDENTIALS_NAME)

    async def _has_spread(self, partners: int) -> bool:
        """Whether all that roster published has been taken in by whoever consumes it, the plan of each partner too."""
        roster = next(service for service in self._running.services if service.name == "roster")
        async with roster.deps.database.transaction() as tx:
            rows = (await tx.execute(select(outbox.outbox.c.id, outbox.outbox.c.type, outbox.outbox.c.key))).all()
        if len({row.key for row in rows if row.type == DutyPlanPublished.type}) < partners:
            return False
        for service in self._running.services:
            consumers = {s.event.type: s.durable for s in service.subscriptions if s.event.owner == roster.name}
            async with service.deps.database.transaction() as tx:
                taken = (await tx.execute(select(inbox.inbox.c.consumer, inbox.inbox.c.message_id))).all()
            done = {(row.consumer, row.message_id) for row in taken}
            if any(row.type in consumers and (consumers[row.type], row.id) not in done for row in rows):
                return False
        return True

    # --- the story

    async def _tell(self, screen: Screen, people: People, rosters: Rosters, network: Network) -> Facts:
        scenario, raiser = self._scenario, self._scenario.raiser
        officer, releaser = people.client_of(raiser, DUTY_OFFICER), people.client_of(raiser, RELEASER)
        began = self._clock.monotonic()
        where = screen.name_of(raiser)
        await rosters.prepare()
        screen.tell((where, "bold"), "'s duty officer drafts an alert to ", str(len(scenario.addressed)), " partners")
        draft = await officer.post("/v1/alerts", scenario.draft(), key=officer.new_key())
        alert = await self._release(releaser, draft, screen)
        screen.tell("A second person confirms ", (PRECEDENCE, "bold red"), " and releases it: every clock runs")
        await self._until(
            lambda: self._have_answered(screen), "everybody who answers in time has answered", self._deadline_seconds
        )
        corrected = await officer.post(
            f"/v1/alerts/{alert['id']}/updates", scenario.correction(), key=officer.new_key()
        )
        update = await self._release(releaser, corrected, screen)
        screen.tell((where, "bold"), " corrects its figures; whoever has answered is not asked again")
        await self._until(
            lambda: self._is_settled(screen), "every partner stands where it should", self._deadline_seconds
        )
        cells = [dict(cell) for cell in screen.cells()]
        await releaser.post(f"/v1/alerts/{update['id']}/close", {"note": scenario.closing_note}, key=releaser.new_key())
        screen.ended_at = self._clock.now()
        screen.tell((where, "bold"), " stands down: ", scenario.closing_note)
        # Whoever is not told stands in the report, by name.
        with suppress(Failed):
            await self._until(lambda: self._is_over(screen), "everybody is told of the end")
        await self._clock.sleep(SETTLE_SECONDS)
        if self._is_over(screen):
            screen.tell("Everybody who was paged has been told of the end")
        return await self._facts(
            officer,
            acknowledged_at=people.acknowledged_at,
            network=network,
            rosters=rosters,
            alerts=[alert, update],
            cells=cells,
            seconds=self._clock.monotonic() - began,
        )

    async def _release(self, releaser: Client, draft: Mapping[str, Any], screen: Screen) -> Mapping[str, Any]:
        """A second person reads the draft, repeats its precedence, and releases it."""
        body = {"precedence": draft["precedence"]}
        released: Mapping[str, Any] = await releaser.post(
            f"/v1/alerts/{draft['id']}/release", body, key=releaser.new_key()
        )
        screen.released(released)
        return released

    @property
    def _deadline_seconds(self) -> float:
        return float(self._pace.unreached_after_seconds)

    def _have_answered(self, screen: Screen) -> bool:
        """Whether all who answer in time stand as they should, or time is over for them."""
        in_time = {part.partner: part.end.state for part in self._scenario.parts if part.answers_in_time}
        standing = {cell["partner"]: cell["state"] for cell in screen.cells() if cell["partner"] in in_time}
        return standing == in_time

    def _is_settled(self, screen: Screen) -> bool:
        cells = {cell["partner"]: cell for cell in screen.cells()}
        return all(
            (cell := cells.get(part.partner)) is not None
            and cell["state"] == part.end.state
            and (part.end.taken_over_by is None or cell["takeover"] is not None)
            for part in self._scenario.parts
        )

    def _is_over(self, screen: Screen) -> bool:
        """Whether all escalations have ended and each place that was paged has been told so."""
        told = {(r.partner, r.place) for r in self._receivers.receipts if r.type == "alert.ended"}
        paged = {(r.partner, r.place) for r in self._receivers.receipts if r.type in PAGING_TYPES}
        cells = screen.cells()
        return bool(cells) and all(cell["state"] == "ended" for cell in cells) and paged <= told

    async def _facts(
        self,
        officer: Client,
        *,
        acknowledged_at: Mapping[str, datetime],
        network: Network,
        rosters: Rosters,
        alerts: Sequence[Mapping[str, Any]],
        cells: Sequence[Mapping[str, Any]],
        seconds: float,
    ) -> Facts:
        """Everything that was seen, with what the raiser may read of it afterwards."""
        newest: list[Mapping[str, Any]] = []
        details: list[Mapping[str, Any]] = []
        timeline: list[Mapping[str, Any]] = []
        for alert in alerts:
            newest.append(await officer.get(f"/v1/alerts/{alert['id']}"))
            timeline += await officer.items(f"/v1/alerts/{alert['id']}/timeline")
            items = await officer.items("/v1/escalations", alert_id=alert["id"])
            details += [await officer.get(f"/v1/escalations/{item['id']}") for item in items]
        ended = [detail for detail in details if detail["alert"]["id"] == alerts[-1]["id"]]
        return Facts(
            scenario=self._scenario,
            pace=self._pace,
            names=network.names,
            heard=tuple(self._counterparts.heard),
            languages={(one.partner, one.place): one.languages for one in network.reached},
            receipts=tuple(self._receivers.receipts),
            strays=self._receivers.strays,
            cells=cells,
            ended=ended,
            details=details,
            alerts=newest,
            timeline=sorted(timeline, key=lambda entry: str(entry["at"])),
            unreached_at=dict(self._unreached_at),
            acknowledged_at=dict(acknowledged_at),
            rotas=network.rotas,
            hole=rosters.hole,
            change=rosters.change,
            seconds=seconds,
        )

    # --- what is heard

    def _on_receipt(self, receipt: Receipt) -> None:
        self._changed.set()
        if self._people is not None:
            self._people.on_receipt(receipt)
        if self._rosters is not None:
            self._rosters.on_receipt(receipt)

    def _on_heard(self, heard: Heard) -> None:
        self._changed.set()
        if self._people is not None:
            self._people.on_heard(heard)

    async def _follow(self, screen: Screen, people: People) -> None:
        """Follows the raiser's board for as long as the performance lasts."""
        client = people.client_of(self._scenario.raiser, DUTY_OFFICER)
        async with aclosing(follow_board(client, self._clock)) as events:  # type: ignore[type-var]
            async for event in events:
                known = {(cell["partner"], cell["kind"], cell["subject_partner"]): cell for cell in self._known(screen)}
                for cell in screen.view.take(event):
                    if cell["alert"]["id"] != screen.alert_id and screen.alert_id is not None:
                        continue
                    before = known.get((cell["partner"], cell["kind"], cell["subject_partner"]))
                    for sentence in news_of(before, cell, screen.name_of(cell["partner"])):
                        screen.tell(*sentence)
                    screen.tell_failure(cell)
                    self._note_unreached(cell, people)
                    if cell["kind"] == "answer" and cell["acknowledgement"] is not None:
                        people.on_acknowledged(cell)
                self._changed.set()

    def _known(self, screen: Screen) -> list[Mapping[str, Any]]:
        """The newest escalation of each partner: what an Update carries over is no news."""
        return sorted(screen.view.cells.values(), key=lambda cell: (str(cell["alert"]["released_at"]), cell["id"]))

    def _note_unreached(self, cell: Mapping[str, Any], people: People) -> None:
        if cell["kind"] == "answer" and cell["state"] == "unreached" and cell["partner"] not in self._unreached_at:
            self._unreached_at[cell["partner"]] = parse_instant(cell["changed_at"]) or self._clock.now()
            people.on_unreached(cell["partner"])

    async def _until(self, holds: Callable[[], bool | Awaitable[bool]], what: str, beyond_seconds: float = 0.0) -> None:
        """Waits until the condition holds; `Failed` says what did not come."""
        try:
            async with asyncio.timeout(beyond_seconds + STEP_SECONDS_MAX):
                while True:
                    self._changed.clear()
                    found = holds()
                    if found if isinstance(found, bool) else await found:
                        return
                    with suppress(TimeoutError):
                        async with asyncio.timeout(LOOK_SECONDS):
                            await self._changed.wait()
        except TimeoutError:
            raise Failed(
                f"The demonstration is stuck: it waited for this in vain: {what}.", exit_code=Exit.REFUSED
            ) from None


def _first(several: BaseExceptionGroup[Failed]) -> Failed:
    """One of several failures: the others follow from it, or are as good."""
    found = several.exceptions[0]
    return found if isinstance(found, Failed) else _first(found)
