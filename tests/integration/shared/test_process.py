"""A service as a process runs it: it starts without its broker, waits for its database, says what is wrong, stops."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, cast

import asyncpg
import httpx
import pytest
from fastapi import APIRouter
from pydantic import SecretStr
from sqlalchemy import text

from redphone.local import LocalServers
from shared import inbox, upkeep
from shared.bus import NatsBus
from shared.clock import ManualClock, SystemClock
from shared.contracts import AlertEnded
from shared.db import Database
from shared.errors import Unavailable
from shared.events import Message
from shared.hosting import address_of, host, listen, serve
from shared.ids import Ids
from shared.keys import KeyRing
from shared.loops import Loop
from shared.migrate import template, upgrade
from shared.outbox import SEQUENCE_BATCH
from shared.process import AFTER_FIRST_PULL, Deps, Service, assemble
from shared.settings import Settings
from shared.subscriptions import DeadLetter, DeadLetterReason
from tests.integration.shared.conftest import Desk
from tests.support.cluster import Clone, Cluster
from tests.support.memory_bus import MemoryBroker, MemoryBus
from tests.support.waiting import eventually


class Deployment:
    """Alerting's shell around a handler of the test's own; `bus` moves by itself as a real one does."""

    def __init__(self, clone: Clone, directory: Path) -> None:
        self.settings = Settings(data_dir=directory, alerting_database_url=SecretStr(clone.url), development=True)
        self.clock = SystemClock()
        self.ids = Ids(self.clock.now)
        self.broker = MemoryBroker(self.clock)
        self.bus: MemoryBus | NatsBus = MemoryBus(self.clock, broker=self.broker)
        self.keys = KeyRing.generate()
        self.handled: list[str] = []
        self.fired: list[bool] = []
        self.alarms: list[str] = []
        self.stopped: list[str] = []
        self.feed_url: str | None = None

    async def on_alert_ended(self, deps: Deps, message: Message[AlertEnded]) -> None:
        async with deps.database.transaction() as tx:
            fresh = await inbox.accept(
                tx, consumer=deps.consumer(AlertEnded), message_id=message.id, now=deps.clock.now()
            )
        if fresh:
            self.handled.append(str(message.id))

    def service(self, *, clock: Any = None, feed_url: str | None = None) -> Service:
        settings = self.settings.model_copy(update={"feed_alerting_url": feed_url})

        async def fire(deps: Deps) -> int:
            self.fired.append(deps.first_pull.is_set())
            return 0

        async def reconcile(_: Deps) -> list[str]:
            return self.alarms

        async def stop() -> None:
            self.stopped.append("own")

        def loops(deps: Deps) -> Sequence[Loop]:
            timers = Loop("timers", lambda: fire(deps), interval_seconds=1.0, clock=deps.clock)
            if isinstance(self.bus, NatsBus):
                return (timers,)
            return (timers, Loop("delivery_by_bus", self.bus.run_once, interval_seconds=0.05, clock=deps.clock))

        return assemble(
            "alerting",
            settings,
            clock=clock or self.clock,
            ids=self.ids,
            keys=self.keys,
            bus=self.bus,
            router=lambda _: APIRouter(),
            subscriptions={AlertEnded: self.on_alert_ended},
            loops=loops,
            reconcile=(reconcile,),
            on_stop=(stop,),
        )


@pytest.fixture
async def deployment(desk: Desk, tmp_path: Path) -> Deployment:
    """One that is not started."""
    return Deployment(desk.clone, tmp_path)


@asynccontextmanager
async def running(deployment: Deployment, service: Service, *, port: int = 0) -> AsyncIterator[httpx.AsyncClient]:
    """The service behind a real socket, until the block ends."""
    app = host([service])
    listening = listen("127.0.0.1", port)
    url = address_of(listening)
    serving = asyncio.create_task(serve(app, listening))
    async with httpx.AsyncClient(base_url=url, trust_env=False) as http:
        try:
            yield http
        finally:
            app.state.stop()
            await serving


async def ready(http: httpx.AsyncClient) -> dict[str, Any]:
    """What `/readyz` says."""
    try:
        return cast("dict[str, Any]", (await http.get("/readyz")).json())
    except httpx.TransportError:
        return {"ready": False}


async def is_ready(http: httpx.AsyncClient) -> bool:
    """Whether the service says that it can work."""
    return bool((await ready(http))["ready"])


async def test_serves_and_stops(deployment: Deployment, desk: Desk) -> None:
    """A service behind a socket becomes ready, handles what is published, documents itself, and stops in order."""
    service = deployment.service()
    async with running(deployment, service) as http:
        await eventually(lambda: is_ready(http))
        assert (await http.get("/healthz")).status_code == 200
        assert "/v1/feed/alerting" in (await http.get("/openapi.json")).json()["paths"]
        messages = await desk.append(desk.ended())
        await service.deps.relay.publish(messages)
        await eventually(lambda: bool(deployment.handled))
        assert "redphone_outbox_unpublished" in (await http.get("/metrics")).text
    assert deployment.stopped == ["own"]
    assert not service.started


async def test_ready_without_broker_and_events_travel_by_the_feed(deployment: Deployment, desk: Desk) -> None:
    """With the broker away the service starts, is ready but degraded, and handles events from the feed."""
    deployment.broker.down = True
    async with running(deployment, deployment.service()) as http:
        await eventually(lambda: is_ready(http))
        found = await ready(http)
        assert found["checks"]["alerting.bus"]["degraded"]
        await desk.append(desk.ended())
        await eventually(lambda: bool(deployment.handled))


async def test_waits_for_its_database_and_says_so(cluster: Cluster, tmp_path: Path) -> None:
    """Before the migrations have run the process is alive and not ready; it starts by itself when they have."""
    async with cluster.empty("alerting") as clone:
        deployment = Deployment(clone, tmp_path)
        async with running(deployment, deployment.service()) as http:
            await eventually(lambda: _is_alive(http))
            found = await ready(http)
            assert not found["ready"]
            assert "migrations" in found["checks"]["alerting.database"]["detail"]
            assert found["checks"]["alerting.loops"]["detail"] == "the loops are not started"
            await template("alerting")(clone.owner_url)
            await eventually(lambda: is_ready(http))


async def test_database_lost_again_while_starting_is_waited_for(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A database that answers once and is gone when the clock is set delays the start, and does not end the process."""
    service = deployment.service()
    genuine, asked = service.deps.database.time, 0

    async def time() -> datetime:
        nonlocal asked
        asked += 1
        if asked <= 2:
            raise Unavailable("the database does not answer")
        return await genuine()

    monkeypatch.setattr(service.deps.database, "time", time)
    async with running(deployment, service) as http:
        await eventually(lambda: is_ready(http))
    assert asked >= 3


async def test_steady_load_is_numbered_in_batches(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sequencer passes again at once only after a full batch; fewer rows wait for its next turn."""
    sequencer = deployment.service().loops["sequencer"]
    numbered = iter((SEQUENCE_BATCH, SEQUENCE_BATCH - 1, 0))
    done: list[int] = []
    paused = asyncio.Event()

    async def number() -> int:
        done.append(next(numbered))
        return done[-1]

    async def pause(_seconds: float) -> None:
        paused.set()
        await asyncio.Event().wait()

    monkeypatch.setattr(sequencer, "run_once", number)
    monkeypatch.setattr(sequencer, "_pause", pause)
    sequencer.start()
    async with asyncio.timeout(10):
        await paused.wait()
    await sequencer.stop()
    assert done == [SEQUENCE_BATCH, SEQUENCE_BATCH - 1]


async def _is_alive(http: httpx.AsyncClient) -> bool:
    try:
        return (await http.get("/healthz")).status_code == 200
    except httpx.TransportError:
        return False


async def test_loops_survive_cut_connections(deployment: Deployment, desk: Desk, cluster: Cluster) -> None:
    """When the database drops every connection, work is late and nothing is lost: loops go on by themselves."""
    deployment.broker.down = True
    service = deployment.service()
    async with running(deployment, service) as http:
        await eventually(lambda: is_ready(http))
        superuser = await asyncpg.connect(cluster.servers.postgres.url("postgres", role="postgres"))
        await superuser.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1", desk.clone.name
        )
        await superuser.close()
        messages = await desk.append(desk.ended())
        await eventually(lambda: deployment.handled == [str(messages[0].id)])
        deployment.broker.down = False
        await eventually(lambda: _all_published(desk))
        assert deployment.handled == [str(messages[0].id)]


async def _all_published(desk: Desk) -> bool:
    async with desk.database.transaction() as tx:
        return not (await tx.execute(text("SELECT 1 FROM outbox WHERE published_at IS NULL"))).all()


async def test_deadlines_wait_for_the_feeds(deployment: Deployment) -> None:
    """Loops that fire deadlines begin only after the feeds have been read."""
    assert "timers" in AFTER_FIRST_PULL
    async with running(deployment, deployment.service()):
        await eventually(lambda: bool(deployment.fired))
    assert deployment.fired[0] is True


@pytest.mark.logs_error("message.dead_lettered")
async def test_dead_letter_is_kept_shown_and_told_once(deployment: Deployment, desk: Desk) -> None:
    """A message that can never be handled becomes one row, one alarm, and a degraded but ready service."""
    service = deployment.service()
    letter = DeadLetter(
        consumer="alerting-alert_ended-v1",
        message_id=None,
        type="nul\0",
        subject="s",
        headers={"ce-type": "nul\0"},
        body=b"\xff\0{",
        reason=DeadLetterReason.MALFORMED,
        error="ContractViolation (malformed_event)",
        deliveries=1,
    )
    bury = upkeep.burial(service.deps)
    await bury(letter)
    await bury(letter)
    assert await service.loops["dead_letters"].run_once() == 1
    assert await service.loops["dead_letters"].run_once() == 0
    finding = await service.checks["dead_letters"]()
    assert "1 messages" in str(finding)
    await service.deps.database.close()


@pytest.mark.logs_error("reconciler.alarm_raised")
async def test_alarm_is_raised_once_until_it_clears(deployment: Deployment) -> None:
    """The same alarm in round after round is told once; after it has cleared, it is told again."""
    service = deployment.service()
    run_once = service.loops["reconciler"].run_once
    deployment.alarms = ["escalations are open without a due time"]
    assert [await run_once(), await run_once()] == [1, 0]
    deployment.alarms = []
    assert await run_once() == 0
    deployment.alarms = ["escalations are open without a due time"]
    assert await run_once() == 1
    await service.deps.database.close()


@pytest.mark.logs_error("reconciler.alarm_raised")
async def test_unpublished_events_with_a_healthy_broker_are_an_alarm(deployment: Deployment, desk: Desk) -> None:
    """Events that wait for over thirty seconds raise an alarm while the broker claims to be well, and only then."""
    clock = ManualClock(desk.clock.now())
    service = deployment.service(clock=clock)
    await desk.append(desk.ended())
    clock.advance(upkeep.UNPUBLISHED_SECONDS_MAX + 1)
    assert await service.loops["reconciler"].run_once() == 0
    await deployment.bus.start()
    assert await service.loops["reconciler"].run_once() == 1
    await service.deps.database.close()


@pytest.mark.logs_error("reconciler.alarm_raised")
async def test_no_road_at_all_is_an_alarm(deployment: Deployment, desk: Desk) -> None:
    """With the broker away and a feed that cannot be read, people are told within thirty seconds."""
    clock = ManualClock(desk.clock.now())
    service = deployment.service(clock=clock)
    for _ in range(30):
        await service.loops["feed:alerting"].run_once()
        clock.advance(1)
        if await service.loops["reconciler"].run_once():
            break
    assert (clock.now() - desk.clock.now()).total_seconds() < 30
    await service.deps.pullers["alerting"].close()
    await service.deps.database.close()


@pytest.mark.logs_error("clock.jumped")
async def test_clock_follows_the_database_but_no_jump(deployment: Deployment, desk: Desk) -> None:
    """The clock takes the database's time at the start; a later jump is an alarm and is not followed."""
    service = deployment.service()
    await upkeep.synchronise(service.deps)
    reference_at = await desk.database.time()
    assert abs((deployment.clock.now() - reference_at).total_seconds()) < 1
    before = deployment.clock.now()

    class Jumped:
        """A database whose clock was set."""

        async def time(self) -> Any:
            return reference_at + timedelta(hours=1)

    await upkeep.synchronise(cast("Deps", type("D", (), {**_fields(service.deps), "database": Jumped()})()))
    assert (deployment.clock.now() - before).total_seconds() < 1
    await service.deps.database.close()


def _fields(deps: Deps) -> dict[str, Any]:
    return {"clock": deps.clock, "service": deps.service}


@pytest.mark.logs_error("service.start_failed")
async def test_service_that_cannot_start_ends_the_process(deployment: Deployment) -> None:
    """A fault at the start that waiting does not mend ends the process with an error, so that somebody sees it."""

    async def fail(_: Deps) -> None:
        raise RuntimeError("this deployment is wrong")

    service = deployment.service()
    object.__setattr__(service, "on_start", (fail,))
    with pytest.raises(RuntimeError, match="could not start"):
        await serve(host([service]), listen("127.0.0.1", 0))
    assert not service.started


async def test_missing_database_setting_is_named(tmp_path: Path, deployment: Deployment) -> None:
    """A service without a database says which variable to set."""
    deployment.settings = Settings(data_dir=tmp_path)
    with pytest.raises(ValueError, match="REDPHONE_ALERTING_DATABASE_URL"):
        deployment.service()


async def test_signal_ends_it_in_order(deployment: Deployment) -> None:
    """SIGTERM stops the service, its own parts included, and leaves the caller its turn to clean up."""
    service = deployment.service()
    serving = asyncio.create_task(serve(host([service]), listen("127.0.0.1", 0)))
    await eventually(lambda: service.started)
    os.kill(os.getpid(), signal.SIGTERM)
    async with asyncio.timeout(10):
        await serving
    assert deployment.stopped == ["own"]
    assert not service.started


@pytest.mark.logs_error("bus.unreachable")
async def test_servers_restart_delays_and_loses_nothing(tmp_path: Path) -> None:
    """While PostgreSQL and NATS are away the process lives and is not ready; then it does what was committed before."""
    servers = LocalServers(tmp_path / "data", fsync=False, sync_always=False)
    urls = await servers.start()
    try:
        await upgrade("alerting", urls.owner_urls["alerting"])
        clone = Clone("alerting", urls.database_urls["alerting"], urls.owner_urls["alerting"])
        deployment = Deployment(clone, tmp_path)
        deployment.bus = NatsBus([urls.nats_url], service="alerting", clock=deployment.clock, manage_streams=True)
        database = Database(clone.url, pool_size=1)
        desk = Desk(database, clone)
        async with running(deployment, deployment.service()) as http:
            await eventually(lambda: is_ready(http))
            await eventually(lambda: deployment.bus.healthy)
            await servers.nats.stop()
            messages = await desk.append(desk.ended())
            await servers.postgres.stop()
            await eventually(lambda: _is_not_ready(http))
            assert (await http.get("/healthz")).status_code == 200
            await servers.postgres.start()
            await eventually(lambda: deployment.handled == [str(messages[0].id)])
            await servers.nats.start()
            await eventually(lambda: _all_published(desk))
            await eventually(lambda: is_ready(http))
        assert deployment.handled == [str(messages[0].id)]
        await database.close()
    finally:
        await servers.stop()


async def _is_not_ready(http: httpx.AsyncClient) -> bool:
    return not await is_ready(http)
