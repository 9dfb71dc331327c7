"""What the broker lets each service do is what the contracts say, on paper and on a real server."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import nats.js.errors
import pytest
from nats.aio.client import Client

from redphone.local_nats import Nats, program
from redphone.local_process import Remembered, open_private
from shared.broker import SigningClient, ensure_streams
from shared.bus import NatsBus, Subscription
from shared.contracts import AlertEnded, PartnerChanged, Standing
from shared.events import Message
from shared.nkeys import public_key, user_seed
from shared.permissions import authorization, deploy_permissions, permissions_of
from tests.support.bus_rig import CLOCK, IDS, Logs, errors_of, make_message, turn
from tests.support.certificates import Authority
from tests.support.consumes import CONSUMES
from tests.support.snapshots import ROOT, check

CONFIGURATION = ROOT / "deploy" / "nats.conf"
SEEDS = {user: user_seed(bytes([number]) * 32) for number, user in enumerate([*CONSUMES, "deploy"])}


def with_keys(text: str) -> str:
    """The configuration with public keys in place of the variables of the environment."""
    return re.sub(r"\$REDPHONE_(\w+)_NKEY", lambda found: public_key(SEEDS[found[1].lower()]), text)


class GuardedNats(Nats):
    """The server of `redphone up`, with production's authorization in place of the token."""

    def _write_configuration(self) -> None:
        super()._write_configuration()
        text = self._configuration.read_text()
        guarded = re.sub(
            r"authorization \{.*?\n\}\n", lambda _: with_keys(authorization(CONSUMES)), text, flags=re.DOTALL
        )
        with open_private(self._configuration) as file:
            file.write(guarded.encode())

    @property
    def plain_url(self) -> str:
        """Without the token, which this server does not know."""
        return re.sub(r"//.*@", "//", self.url)


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[GuardedNats]:
    """A server that guards itself as in production, after the deploy step."""
    server = GuardedNats(tmp_path, Remembered(tmp_path / "servers.json"), sync_always=False, fixed_port=None)
    await server.start()
    await ensure_streams([server.plain_url], CONSUMES, nkey_seed=SEEDS["deploy"])
    yield server
    await server.stop()


async def connected(server: GuardedNats, user: str, errors: list[str]) -> Client:
    """A client signed in as a user, that notes what it is refused."""

    async def note(error: Exception) -> None:
        errors.append(str(error).lower())

    client = SigningClient()
    await client.connect(
        server.plain_url, nkeys_seed_str=SEEDS[user], inbox_prefix=f"_INBOX_{user}", error_cb=note, connect_timeout=5
    )
    return client


def test_the_production_configuration_has_the_derived_permissions() -> None:
    """The `authorization` block of `deploy/nats.conf` is exactly what the contracts give."""
    text = CONFIGURATION.read_text(encoding="utf-8")
    before = text[: text.index("authorization {")]
    check(CONFIGURATION, before + authorization(CONSUMES))


def test_the_production_configuration_syncs_every_write() -> None:
    """Without it confirmed messages are lost; and each setting stands on a line of its own, or it is misread."""
    lines = [line.strip() for line in CONFIGURATION.read_text(encoding="utf-8").splitlines()]
    assert "sync_interval: always" in lines


def test_a_server_accepts_the_production_configuration(tmp_path: Path) -> None:
    """The real server reads the whole file without complaint."""
    authority = Authority.create()
    authority.server_context("127.0.0.1", tmp_path)
    (tmp_path / "authority.pem").write_bytes(authority.pem)
    environment = {
        "NATS_NAME": '"nats-1"',
        "NATS_DATA": json.dumps(str(tmp_path / "data")),
        "NATS_CERTIFICATE": json.dumps(str(tmp_path / "certificate.pem")),
        "NATS_KEY": json.dumps(str(tmp_path / "key.pem")),
        "NATS_AUTHORITY": json.dumps(str(tmp_path / "authority.pem")),
        "NATS_ROUTES": '["nats-route://nats-2:6222","nats-route://nats-3:6222"]',
        **{f"REDPHONE_{user.upper()}_NKEY": public_key(seed) for user, seed in SEEDS.items()},
    }
    command = [program(), "-t", "-c", str(CONFIGURATION)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 0, done.stderr


def test_a_service_may_publish_its_own_events_only() -> None:
    """The one event subject of a service is its own; the rest is JetStream for its own consumers."""
    for service, consumed in CONSUMES.items():
        allowed = permissions_of(service, consumed)
        assert [subject for subject in allowed.publish if not subject.startswith("$JS.")] == [f"redphone.{service}.>"]
        assert allowed.subscribe == (f"_INBOX_{service}.>",)
        assert all(
            f".{service}-" in subject for subject in allowed.publish if "CONSUMER" in subject or "ACK" in subject
        )
    assert not any("DELETE" in subject or "PURGE" in subject for subject in deploy_permissions().publish)


async def test_services_work_under_their_permissions(guarded: GuardedNats, logs: Logs) -> None:
    """With its key and nothing more, each service publishes, handles, and reports itself healthy."""
    handled: list[Message[AlertEnded]] = []

    async def handle(message: Message[AlertEnded]) -> None:
        handled.append(message)

    async def dead_letter(_letter: object) -> None:
        pytest.fail("there is nothing to write off")

    buses = {
        service: NatsBus([guarded.plain_url], service=service, clock=CLOCK, nkey_seed=SEEDS[service])
        for service in CONSUMES
    }
    for service, events in CONSUMES.items():
        for event in events:
            await buses[service].subscribe(Subscription(service, event, handle, dead_letter))
    try:
        for bus in buses.values():
            await bus.start()
        message = make_message()
        assert await buses["alerting"].publish([message], timeout_seconds=2) == {message.id}
        for _ in range(500):
            if handled and all(bus.healthy for bus in buses.values()):
                break
            await turn()
        assert handled == [message]
        assert [bus.healthy for bus in buses.values()] == [True, True, True]
    finally:
        for bus in buses.values():
            await bus.stop()
    assert errors_of(logs) == []


async def test_a_service_cannot_publish_for_another(guarded: GuardedNats, logs: Logs) -> None:
    """Nothing is confirmed, and a person is told: somebody uses a key that is not theirs."""
    partner = PartnerChanged(partner="CA", version=1, name="Canada", standing=Standing.MEMBER, time_zone="UTC")
    forged = Message(id=make_message().id, body=partner, occurred_at=CLOCK.now(), correlation_id=IDS.new())
    bus = NatsBus([guarded.plain_url], service="alerting", clock=CLOCK, nkey_seed=SEEDS["alerting"])
    await bus.start()
    try:
        assert await bus.publish([forged], timeout_seconds=0.5) == set()
    finally:
        await bus.stop()
    assert "bus.permission_denied" in errors_of(logs)
    errors: list[str] = []
    client = await connected(guarded, "deploy", errors)
    try:
        assert (await client.jetstream().stream_info("ROSTER")).state.messages == 0
    finally:
        await client.close()


@pytest.mark.parametrize(
    "subject",
    [
        "$JS.API.STREAM.DELETE.ALERTING",
        "$JS.API.STREAM.PURGE.ALERTING",
        "$JS.API.STREAM.UPDATE.ROSTER",
        "$JS.API.STREAM.MSG.GET.ALERTING",
        "$JS.API.DIRECT.GET.ALERTING",
        "$JS.API.CONSUMER.DELETE.ALERTING.escalation-alert_ended-v1",
        "$JS.API.CONSUMER.MSG.NEXT.ALERTING.escalation-alert_ended-v1",
        "$JS.API.CONSUMER.CREATE.ALERTING.roster-alert_ended-v1.redphone.alerting.alert_ended.v1.*",
        "$JS.ACK.ALERTING.escalation-alert_ended-v1.1.1.1.1.0",
        "_INBOX_escalation.forged",
    ],
)
async def test_a_service_cannot_reach_beyond_its_part(guarded: GuardedNats, subject: str) -> None:
    """Roster, with its own key, can neither read nor hinder what is between alerting and escalation."""
    errors: list[str] = []
    client = await connected(guarded, "roster", errors)
    try:
        with pytest.raises(nats.errors.Error):
            await client.request(subject, b"{}", timeout=0.3)
    finally:
        await client.close()
    assert any("permissions violation for publish" in error for error in errors)


@pytest.mark.parametrize("subject", ["redphone.>", "redphone.alerting.>", "_INBOX_escalation.>", ">", "$JS.>"])
async def test_a_service_cannot_listen_in(guarded: GuardedNats, subject: str) -> None:
    """Events and the answers to others can only be read through a consumer of one's own."""
    errors: list[str] = []
    client = await connected(guarded, "roster", errors)
    try:
        await client.subscribe(subject)
        for _ in range(500):
            if errors:
                break
            await turn()
    finally:
        await client.close()
    assert any("permissions violation for subscription" in error for error in errors)


async def test_without_a_key_nothing_works(guarded: GuardedNats) -> None:
    """A bus without a key, or with an unknown one, starts, says that it is not healthy, and publishes nothing."""
    for seed in (None, user_seed(b"\xff" * 32)):
        bus = NatsBus([guarded.plain_url], service="alerting", clock=CLOCK, nkey_seed=seed)
        await bus.start()
        try:
            assert not bus.healthy
            assert await bus.publish([make_message()], timeout_seconds=0.3) == set()
        finally:
            await bus.stop()
