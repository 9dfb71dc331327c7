"""Heartbeats of endpoints: real receivers, good and bad, on a real database; time moves when told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import httpx
import pytest
from prometheus_client import REGISTRY

from services.escalation.channels.webhook import WebhookChannel, WebhookLimits
from services.escalation.heartbeats import handlers as heartbeat_handlers
from services.escalation.heartbeats.beating import (
    HELD_BACK_SECONDS_MAX,
    LATE,
    LEASE_SECONDS,
    REFRESH_SECONDS,
    SENDERS_MAX,
    Heartbeats,
)
from services.escalation.heartbeats.certificates import Certificates
from services.escalation.heartbeats.domain import (
    FAILING_RETRY_AFTER,
    FIRST_WITHIN_SECONDS,
    INTERVAL,
    RETRY_AFTER,
    State,
)
from services.escalation.heartbeats.handlers import Wanted
from services.escalation.webhooks import TestHeartbeatMessage as HeartbeatMessage
from shared.clock import SystemClock
from shared.contracts import CredentialKind, CredentialsPublished, PlannedEndpoint, PublishedCredential, Role
from shared.egress import EgressPolicy, Resolver
from shared.errors import Conflict, Forbidden, NotFound
from shared.events import Cause
from shared.ids import derived
from shared.keys import point_context
from shared.security import issue_token
from tests.support.certificates import FAR_AHEAD, Authority
from tests.support.cluster import Cluster
from tests.support.escalation_rig import REFUSED, Rig, escalation_rig, person, system
from tests.support.receiver import Behaviour, Receiver, disconnect, garbage, hang, ok, status
from tests.support.waiting import eventually

SYSTEM = derived("point", "gb-system")
LIMITS = WebhookLimits(total_seconds=0.5, connect_seconds=0.5)
POLICY = EgressPolicy(allow_http=True, allow_loopback=True)


def beating(rig: Rig) -> Heartbeats:
    """The loop's own object."""
    return cast("Heartbeats", cast("Any", rig.service.loops["heartbeats"].run_once).__self__)


async def beat(rig: Rig, hearts: Heartbeats | None = None) -> None:
    """Sends all that is due, and waits for what becomes of it."""
    hearts = hearts or beating(rig)
    while await hearts.run_once():
        await hearts.idle()


async def next_beat_at(rig: Rig) -> datetime | None:
    """When the next path is due."""
    rows = await rig.rows("SELECT min(next_at) AS at FROM heartbeats WHERE next_at > $1", rig.clock.now())
    return cast("datetime | None", rows[0]["at"])


async def pass_time(rig: Rig, duration: timedelta) -> None:
    """Moves time on from due beat to due beat."""
    target = rig.clock.now() + duration
    while True:
        await beat(rig)
        due_at = await next_beat_at(rig)
        if due_at is None or due_at > target:
            break
        rig.clock.advance((due_at - rig.clock.now()).total_seconds())
    rig.clock.advance((target - rig.clock.now()).total_seconds())
    await beat(rig)


def endpoint(rig: Rig, name: str, url: str, description: str = "crisis room") -> PlannedEndpoint:
    """An endpoint as a plan holds it."""
    endpoint_id = derived("point", name)
    sealed = rig.keys.seal(url, context=point_context(endpoint_id))
    return PlannedEndpoint(id=endpoint_id, sealed_url=sealed, description=description)


async def plan(rig: Rig, *endpoints: PlannedEndpoint, partner: str = "GB", version: int = 1) -> None:
    """A partner's plan with these endpoints."""
    await rig.handle(rig.plan(partner, version=version, endpoints=endpoints))


async def row(rig: Rig, path_id: UUID = SYSTEM) -> Any:
    """The path's row."""
    (found,) = await rig.rows("SELECT * FROM heartbeats WHERE id = $1", path_id)
    return found


@asynccontextmanager
async def real(
    cluster: Cluster, tmp_path: Path, *, authority: Authority | None = None, limits: WebhookLimits = LIMITS
) -> AsyncIterator[Rig]:
    """A rig whose webhooks go over real sockets."""
    pem = authority.pem if authority is not None else None
    async with AsyncExitStack() as stack:
        clock = SystemClock()
        async with escalation_rig(cluster, tmp_path, development=True) as rig:
            channel = WebhookChannel(
                clock=clock,
                resolver=Resolver(POLICY, monotonic=clock.monotonic),
                signing_keys=rig.keys.webhook_keys,
                version="1",
                limits=limits,
                extra_roots_pem=pem,
            )
            stack.push_async_callback(channel.close)
            rig.deps.senders._channels = {"webhook": channel}  # type: ignore[attr-defined]
            yield rig
            await beating(rig).stop()


# --- beats ------------------------------------------------------------------------------------------------------------


async def test_every_endpoint_is_sent_a_signed_heartbeat_each_hour(cluster: Cluster, tmp_path: Path) -> None:
    """The first within a minute, then one an hour; each signed, documented and new; no page and no escalation."""
    async with real(cluster, tmp_path) as rig, Receiver() as receiver:
        await plan(rig, endpoint(rig, "gb-system", receiver.url))
        began_at = rig.clock.now()
        await pass_time(rig, timedelta(minutes=1))
        assert len(receiver.requests) == 1
        await pass_time(rig, timedelta(hours=5) - timedelta(minutes=1))
        assert 5 <= len(receiver.requests) <= 6
        bodies = [HeartbeatMessage.model_validate_json(request.body) for request in receiver.requests]
        assert {(body.type, body.data.partner, body.data.endpoint_id) for body in bodies} == {
            ("test.heartbeat", "GB", SYSTEM)
        }
        times = [body.timestamp for body in bodies]
        assert times[0] - began_at < timedelta(minutes=1)
        assert {later - sooner for sooner, later in pairwise(times[1:])} == {INTERVAL}
        last = receiver.requests[-1]
        assert len({request.headers["webhook-id"] for request in receiver.requests}) == len(receiver.requests)
        (key,) = [key.verifying_key for key in rig.keys.webhook_keys]
        receiver.requests[:] = [last]
        assert receiver.verify([key], now=times[-1]) == [last.headers["webhook-id"]]
        counts = "(SELECT count(*) FROM pages) + (SELECT count(*) FROM attempts) + (SELECT count(*) FROM escalations)"
        assert (await rig.rows(f"SELECT {counts} AS number"))[0]["number"] == 0
        found = await row(rig)
        assert (found["answering"], found["reason"], found["failures"]) == (True, None, 0)
        assert 0 < found["answer_seconds"] < LIMITS.total_seconds
        (event,) = await rig.events("endpoint_checked")
        assert (event["endpoint_id"], event["answering"]) == (str(SYSTEM), True)


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        (status(500), "HTTP 500"),
        (status(302), "HTTP 302"),
        (hang, "no complete answer"),
        (disconnect, "the connection broke off before the answer was complete"),
        (garbage, "the answer is not HTTP"),
    ],
)
async def test_an_endpoint_that_fails_twice_is_an_alarm(
    cluster: Cluster, tmp_path: Path, behaviour: Behaviour, reason: str
) -> None:
    """Within one interval the operator, its roster's keepers, the secretariat and the other services know, and why; and
    all but the operator hear when it is over. The address stands nowhere.
    """
    async with real(cluster, tmp_path) as rig, Receiver() as receiver:
        await plan(rig, endpoint(rig, "gb-system", receiver.url))
        await plan(rig, partner="XR")
        await pass_time(rig, timedelta(minutes=1))
        assert await beating(rig).alarms() == []
        receiver.behaviour = behaviour
        broke_at = rig.clock.now()
        while not await beating(rig).alarms():
            await pass_time(rig, timedelta(minutes=1))
            assert rig.clock.now() - broke_at <= INTERVAL + RETRY_AFTER
        (alarm,) = await beating(rig).alarms()
        assert alarm == "GB's endpoint 'crisis room' does not answer its heartbeat"
        first, second = await rig.events("endpoint_checked")
        assert (first["answering"], second["answering"]) == (True, False)
        assert second["reason"].startswith(reason)
        notices = await rig.rows("SELECT partner, data, priority FROM pages ORDER BY partner")
        told = {one["partner"]: one["data"] for one in notices}
        assert set(told) == {"GB", "XR"}
        assert all(one["kind"] == "heartbeat_failed" and not one["urgent"] for one in told.values())
        assert told["GB"]["facts"]["endpoint"] == "crisis room"
        assert told["XR"]["facts"]["endpoint"] == "GB: crisis room"
        assert told["GB"]["facts"]["reason"] == second["reason"]
        assert str(receiver.port) not in f"{alarm}{second}{told}"
        assert all(one["priority"] >= 20 for one in notices)

        receiver.behaviour = ok
        # No notice waits any more, since heartbeats would wait for it.
        await rig.rows("UPDATE pages SET state = 'done'")
        await pass_time(rig, FAILING_RETRY_AFTER)
        assert await beating(rig).alarms() == []
        assert (await rig.events("endpoint_checked"))[-1]["answering"] is True
        kinds = await rig.rows("SELECT partner FROM pages WHERE data ->> 'kind' = 'heartbeat_recovered'")
        assert sorted(one["partner"] for one in kinds) == ["GB", "XR"]
        entries = await rig.rows("SELECT kind FROM record WHERE object_id = $1 ORDER BY id", SYSTEM)
        assert [entry["kind"] for entry in entries] == ["heartbeat.failed", "heartbeat.recovered"]


async def test_a_single_failure_tells_nobody(rig: Rig) -> None:
    """What answers again five minutes later was no alarm, and the endpoint is answering all the while."""
    await plan(rig, endpoint(rig, "gb-system", "https://gb-system"))
    await pass_time(rig, timedelta(minutes=1))
    rig.outlet.answers["gb-system"] = REFUSED
    while (await row(rig))["failures"] == 0:
        await pass_time(rig, timedelta(minutes=1))
    assert ((await row(rig))["answering"], await beating(rig).alarms()) == (True, [])
    rig.outlet.answers.clear()
    await pass_time(rig, RETRY_AFTER)
    assert (await row(rig))["failures"] == 0
    assert len(await rig.events("endpoint_checked")) == 1
    assert await rig.rows("SELECT 1 FROM pages") == []


async def test_a_dead_endpoint_holds_nobody_else(cluster: Cluster, tmp_path: Path) -> None:
    """While one receiver hangs, every other one has its heartbeat, and the one that hangs ends by its own limit."""
    patient = WebhookLimits(total_seconds=3.0)
    async with real(cluster, tmp_path, limits=patient) as rig, Receiver(behaviour=hang) as dead, Receiver() as alive:
        others = [endpoint(rig, f"alive-{number}", alive.url) for number in range(3 * SENDERS_MAX)]
        await plan(rig, endpoint(rig, "dead", dead.url), *others)
        rig.clock.advance(30)
        await beating(rig).run_once()
        rig.clock.advance(30)
        while await beating(rig).run_once():
            await eventually(lambda: len(beating(rig)._sending) <= 1)
        sent = {HeartbeatMessage.model_validate_json(request.body).data.endpoint_id for request in alive.requests}
        assert sent == {one.id for one in others}
        assert len(dead.requests) == len(beating(rig)._sending) == 1
        await beating(rig).idle()
        assert (await row(rig, derived("point", "dead")))["reason"].startswith("no complete answer")
        assert (await rig.rows("SELECT count(*) AS n FROM heartbeats WHERE answering"))[0]["n"] == len(others)


# --- endpoints come and go --------------------------------------------------------------------------------------------


async def test_paths_follow_the_roster(rig: Rig) -> None:
    """A removed endpoint is forgotten and not sent to; one that moved is tried at its new address within a minute."""
    await plan(rig, endpoint(rig, "gb-system", "https://old"), endpoint(rig, "gb-second", "https://second"))
    await pass_time(rig, timedelta(minutes=1))
    assert {target for _, target in rig.outlet.take()} == {"old", "second"}
    await plan(rig, endpoint(rig, "gb-system", "https://new"), version=2)
    await pass_time(rig, timedelta(seconds=REFRESH_SECONDS))
    await pass_time(rig, timedelta(seconds=FIRST_WITHIN_SECONDS))
    assert rig.outlet.take() == [("test.heartbeat", "new")]
    assert [found["id"] for found in await rig.rows("SELECT id FROM heartbeats")] == [SYSTEM]


@pytest.mark.logs_error("duty_plan.unreadable")
async def test_a_plan_that_cannot_be_read_forgets_nothing(rig: Rig) -> None:
    """The endpoints that were known last are tried on."""
    await plan(rig, endpoint(rig, "gb-system", "https://gb-system"))
    await pass_time(rig, timedelta(minutes=1))
    await rig.rows("UPDATE duty_plans SET body = '{}', previous_body = '{}', plan_version = 9")
    rig.deps.directories._kept.clear()
    await pass_time(rig, timedelta(hours=1))
    assert len(rig.outlet.take()) >= 2


# --- alerts go first --------------------------------------------------------------------------------------------------


async def test_an_alert_at_the_same_instant_goes_first(rig: Rig) -> None:
    """While pages are due no heartbeat leaves; afterwards all of them do."""
    await plan(rig, endpoint(rig, "gb-system", "https://gb-system"))
    await pass_time(rig, timedelta(minutes=1))
    rig.outlet.take()
    await rig.rows("UPDATE heartbeats SET next_at = $1", rig.clock.now())
    await rig.handle(rig.released("GB"))
    await beat(rig)
    assert rig.outlet.take() == []
    await rig.settle()
    await beat(rig)
    sent = [kind for kind, _ in rig.outlet.take()]
    assert sent[-1] == "test.heartbeat"
    assert sent.count("test.heartbeat") == 1
    assert set(sent[:-1]) == {"alert.released"}


async def test_an_endless_emergency_does_not_end_heartbeats(rig: Rig) -> None:
    """After a minute behind pages they go out one at a time."""
    await plan(rig, *(endpoint(rig, f"gb-{number}", f"https://gb-{number}") for number in range(3)))
    await beat(rig)
    rig.clock.advance(20)
    await rig.handle(rig.released("GB"))
    await beat(rig)
    assert rig.outlet.take() == []
    rig.clock.advance(HELD_BACK_SECONDS_MAX)
    assert await beating(rig).run_once() == 1
    await beating(rig).idle()


# --- crashes and replicas ---------------------------------------------------------------------------------------------


def another(rig: Rig) -> Heartbeats:
    """The loop of a second process."""
    certificates = Certificates(POLICY, clock=rig.clock)
    return Heartbeats(rig.deps, {}, channels={}, providers={}, certificates=certificates)


async def test_a_beat_cut_off_by_a_crash_is_sent_again_under_its_id(cluster: Cluster, tmp_path: Path) -> None:
    """The next process waits for the lease to lapse, and repeats that beat alone, byte for byte."""
    async with real(cluster, tmp_path, limits=WebhookLimits()) as rig, Receiver(behaviour=hang) as receiver:
        await plan(rig, endpoint(rig, "gb-system", receiver.url))
        await beating(rig).run_once()
        rig.clock.advance(20)
        assert await beating(rig).run_once() == 1
        await receiver.wait_for(lambda seen: len(seen.requests) == 1)
        await beating(rig).stop()
        receiver.behaviour = ok
        restarted = another(rig)
        await beat(rig, restarted)
        assert len(receiver.requests) == 1
        rig.clock.advance(LEASE_SECONDS)
        await beat(rig, restarted)
        first, second = receiver.requests
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert first.body == second.body
        await beat(rig, restarted)
        assert len(receiver.requests) == 2
        assert (await row(rig))["answering"] is True


async def test_replicas_share_the_beats(rig: Rig) -> None:
    """Three processes at once send each due beat once."""
    names = [f"gb-{number}" for number in range(60)]
    await plan(rig, *(endpoint(rig, name, f"https://{name}") for name in names))
    await beating(rig).run_once()
    rig.clock.advance(20)
    processes = [beating(rig), another(rig), another(rig)]

    async def work(process: Heartbeats) -> None:
        while await process.run_once():
            await process.idle()

    await asyncio.gather(*(work(process) for process in processes))
    assert sorted(target for _, target in rig.outlet.take()) == sorted(names)


async def test_beats_that_nobody_sends_are_an_alarm(rig: Rig) -> None:
    """A process that has had its time and leaves beats overdue says so; one that has just started does not."""
    await plan(rig, endpoint(rig, "gb-system", "https://gb-system"))
    await beating(rig).run_once()
    await rig.rows("UPDATE heartbeats SET next_at = $1", rig.clock.now() - timedelta(hours=3))
    assert await beating(rig).alarms() == []
    rig.clock.advance(LATE.total_seconds())
    assert await beating(rig).alarms() == ["heartbeats are overdue and nobody sends them"]


# --- certificates -----------------------------------------------------------------------------------------------------


async def test_the_certificate_is_looked_at_once_a_day(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is published with the first outcome; a day later it is looked at again, and not before."""
    authority = Authority.create()
    trusted = tmp_path / "trusted.pem"
    trusted.write_bytes(authority.pem)
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    tls = authority.server_context("127.0.0.1", tmp_path)
    async with real(cluster, tmp_path, authority=authority) as rig, Receiver(tls=tls) as receiver:
        await plan(rig, endpoint(rig, "gb-system", receiver.url))
        await pass_time(rig, timedelta(hours=3))
        (event,) = await rig.events("endpoint_checked")
        assert event["certificate_valid_until"].startswith(FAR_AHEAD.isoformat()[:19])
        looked_at = (await row(rig))["certificate_checked_at"]
        handshakes = receiver.connections
        await pass_time(rig, timedelta(hours=24))
        assert (await row(rig))["certificate_checked_at"] - looked_at >= timedelta(days=1)
        assert receiver.connections > handshakes
        assert len(await rig.events("endpoint_checked")) == 2


async def test_a_certificate_that_has_expired_fails_the_heartbeat(cluster: Cluster, tmp_path: Path) -> None:
    """Nothing is sent to it, and the reason says what is wrong."""
    authority = Authority.create()
    tls = authority.server_context("127.0.0.1", tmp_path, expired=True)
    async with real(cluster, tmp_path, authority=authority) as rig, Receiver(tls=tls) as receiver:
        await plan(rig, endpoint(rig, "gb-system", receiver.url))
        await pass_time(rig, timedelta(minutes=10))
        (event,) = await rig.events("endpoint_checked")
        assert (event["answering"], event["reason"]) == (False, "the certificate has expired")
        assert event["certificate_valid_until"] is None
        assert receiver.requests == []


async def test_a_certificate_is_looked_at_behind_the_guard() -> None:
    """An address that the guard refuses is not connected to, a name that hangs costs its time alone, http has none."""
    clock = SystemClock()
    guarded = Certificates(EgressPolicy(), clock=clock)
    async with Receiver() as receiver:
        assert await guarded.look(f"https://127.0.0.1:{receiver.port}/") is None
        assert receiver.connections == 0
        certificate = await Certificates(POLICY, clock=clock).look(receiver.url)
        assert certificate is not None
        assert certificate.valid_until is None
        # It accepts and never shakes hands.
        assert await Certificates(POLICY, clock=clock, seconds=0.2).look(f"https://127.0.0.1:{receiver.port}/") is None


# --- what people ask --------------------------------------------------------------------------------------------------


@pytest.fixture
def keeper() -> Any:
    """Whoever keeps GB's roster."""
    return person("GB", Role.ROSTER_MANAGER, number=2)


async def test_everybody_sees_what_is_theirs(rig: Rig, keeper: Any) -> None:
    """A government its own endpoints, the secretariat all, administrators no endpoint, observers nothing."""
    await plan(rig, endpoint(rig, "gb-system", "https://gb-system"))
    await plan(rig, endpoint(rig, "us-system", "https://us-system"), partner="US")
    await pass_time(rig, timedelta(minutes=1))

    async def seen(principal: Any, **wanted: Any) -> list[str]:
        found = await heartbeat_handlers.read_heartbeats(rig.deps, principal, Wanted(**wanted))
        return [one.partner for one in found.heartbeats]

    secretariat = person("XR", Role.SECRETARIAT)
    assert await seen(keeper) == await seen(system("GB")) == await seen(person("GB")) == ["GB"]
    assert await seen(secretariat) == ["GB", "US"]
    assert await seen(secretariat, partner="US") == ["US"]
    assert await seen(secretariat, state=State.FAILING) == []
    assert await seen(secretariat, limit=1, after=("GB", SYSTEM)) == ["US"]
    assert await seen(keeper, partner="US") == []
    assert await seen(person("XR", Role.ADMINISTRATOR)) == []
    found = await heartbeat_handlers.read_heartbeats(rig.deps, secretariat, Wanted())
    assert found.counts == {State.ANSWERING: 2, State.FAILING: 0, State.UNCHECKED: 0}
    with pytest.raises(Forbidden):
        await seen(person("GB", Role.OBSERVER))
    with pytest.raises(NotFound):
        await heartbeat_handlers.read_heartbeat(rig.deps, keeper, derived("point", "us-system"))


async def test_heartbeats_over_http(rig: Rig) -> None:
    """A list by pages with counts, one path, and one at once; what is nobody's business to know is missing."""
    keeper = replace(person("GB", Role.ROSTER_MANAGER), credential_version=1)
    credential = PublishedCredential(
        client_id=keeper.client_id,
        kind=CredentialKind.PERSON,
        subject=keeper.subject,
        name=keeper.name,
        partner="GB",
        roles=tuple(keeper.roles),
        contact_id=keeper.contact_id,
        secret_sha256="0" * 64,
    )
    await rig.handle(CredentialsPublished(partner="GB", version=1, credentials=(credential,)))
    await plan(rig, *(endpoint(rig, f"gb-{number}", f"https://gb-{number}") for number in range(3)))
    rig.outlet.answers["gb-2"] = REFUSED
    await pass_time(rig, timedelta(minutes=10))
    token = issue_token(rig.keys, keeper, now=rig.clock.now(), token_id=rig.ids.new())
    headers = {"Authorization": f"Bearer {token}"}
    transport = httpx.ASGITransport(rig.application)
    async with httpx.AsyncClient(transport=transport, base_url="http://escalation", headers=headers) as http:
        first = (await http.get("/v1/heartbeats", params={"limit": 2})).json()
        rest = (await http.get("/v1/heartbeats", params={"limit": 2, "cursor": first["next_cursor"]})).json()
        items = [*first["items"], *rest["items"]]
        assert (len(first["items"]), len(items), rest["next_cursor"]) == (2, 3, None)
        assert first["counts"] == rest["counts"] == {"answering": 2, "failing": 1, "unchecked": 0}
        (failing,) = (await http.get("/v1/heartbeats", params={"state": "failing"})).json()["items"]
        assert (failing["reason"], failing["failures"], failing["told"]) == ("HTTP 500", 2, "crisis room")
        assert failing["failing_since_at"] is not None
        path = f"/v1/heartbeats/{failing['id']}"
        assert (await http.get(path)).json() == failing
        assert "https://" not in str(items)
        assert (await http.post(path)).status_code == 202
        refused = await http.post(path)
        assert (refused.status_code, refused.json()["code"]) == (409, "heartbeat_just_sent")
        assert (await http.get(f"/v1/heartbeats/{rig.ids.new()}")).status_code == 404


async def test_one_can_be_had_at_once(rig: Rig, keeper: Any) -> None:
    """For the roster's keeper and the secretariat, once a minute and recorded; other governments' are missing."""
    await plan(rig, endpoint(rig, "gb-system", "https://gb-system"))
    await pass_time(rig, timedelta(minutes=1))
    rig.outlet.take()
    cause = Cause(rig.ids.new())

    async def ask(principal: Any) -> None:
        await heartbeat_handlers.beat_now(rig.deps, principal, SYSTEM, cause=cause)

    await ask(keeper)
    await beat(rig)
    assert rig.outlet.take() == [("test.heartbeat", "gb-system")]
    with pytest.raises(Conflict):
        await ask(person("XR", Role.SECRETARIAT))
    rig.clock.advance(60)
    await ask(person("XR", Role.SECRETARIAT))
    with pytest.raises(Forbidden):
        await ask(person("GB", Role.SENIOR_CONTACT))
    with pytest.raises(NotFound):
        await ask(person("US", Role.ROSTER_MANAGER))
    assert len(await rig.rows("SELECT 1 FROM record WHERE kind = 'heartbeat.requested'")) == 2


async def test_what_could_not_leave_blames_nobody(rig: Rig) -> None:
    """While this process has no channel, beats are put off, and no endpoint fails for it."""
    await plan(rig, endpoint(rig, "gb-system", "https://gb-system"))
    channels = rig.deps.senders._channels  # type: ignore[attr-defined]
    rig.deps.senders._channels = {}  # type: ignore[attr-defined]
    await pass_time(rig, timedelta(minutes=10))
    assert ((await row(rig))["failures"], await beating(rig).alarms()) == (0, [])
    rig.deps.senders._channels = channels  # type: ignore[attr-defined]
    await pass_time(rig, timedelta(minutes=2))
    assert (await row(rig))["answering"] is True


async def test_paths_are_counted(rig: Rig) -> None:
    """The metrics say how many paths answer and fail, and count what becomes of beats."""
    await plan(rig, endpoint(rig, "gb-system", "https://gb-system"), endpoint(rig, "gb-second", "https://second"))
    rig.outlet.answers["second"] = REFUSED

    def counted(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, {"kind": "endpoint", **labels}) or 0.0

    failed_before = counted("redphone_heartbeats_total", outcome="failed")
    await pass_time(rig, timedelta(minutes=10))
    await beating(rig).alarms()
    assert counted("redphone_heartbeats_total", outcome="failed") - failed_before == 2
    states = {state.value: counted("redphone_heartbeat_paths", state=state.value) for state in State}
    assert states == {"answering": 1, "failing": 1, "unchecked": 0}
