"""The broker as the deploy step and the operator see it: streams, durable consumers, and what is wrong with a server.

One stream per owner keeps what that owner publishes; one durable consumer per kind of work reads from it. Only the
deploy step creates streams, so no service needs the right to. Beside `shared.bus` the only importer of nats.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

import httpx
from nats.aio.client import Client
from nats.js import JetStreamContext, api
from nats.js.errors import NotFoundError

import shared.contracts as _declares_the_events  # noqa: F401 - fills the registry that names the streams
from shared.events import REGISTRY, Event
from shared.log import get_logger
from shared.nkeys import public_key, sign
from shared.subscriptions import durable_of, filter_of, stream_of

log = get_logger(__name__)

ACK_WAIT_SECONDS = 10.0

ACK_PENDING_MAX = 1000

STREAM_BYTES_MAX = 1 << 30

STREAM_AGE_SECONDS_MAX = 3 * 24 * 3600.0
"""The stream is not the truth: whoever is away for longer catches up from the feed."""

DUPLICATE_WINDOW_SECONDS = 600.0

FULL_RATIO_ALARM = 0.8

CLOSE_SECONDS_MAX = 3.0


class SigningClient(Client):
    """Signs in with a key from `shared.nkeys`, so that no second implementation of Ed25519 is needed."""

    def _setup_nkeys_seed_connect(self) -> None:
        seed = self._nkeys_seed_str or ""
        self._public_nkey = public_key(seed)
        self._signature_cb = lambda nonce: sign(seed, nonce)


async def ensure_streams(
    servers: Sequence[str],
    consumes: Mapping[str, Sequence[type[Event]]],
    *,
    replicas: int = 1,
    stream_bytes_max: int = STREAM_BYTES_MAX,
    nkey_seed: str | None = None,
    timeout_seconds: float = 10.0,
) -> None:
    """Creates the streams of all owners and the durable consumers of all services, and updates those that differ.

    Any number of times gives the same result. Raises `TimeoutError` if no server answers in time. In production with
    three replicas; a stream that exists is never emptied or deleted.
    """
    options: dict[str, Any] = {"reconnect_time_wait": 0.25, "connect_timeout": 2, "max_reconnect_attempts": -1}
    if nkey_seed is not None:
        options["nkeys_seed_str"] = nkey_seed

    async def on_error(error: Exception) -> None:
        log.warning("bus.deploy_failed", error=f"{type(error).__name__}: {error}")

    client = SigningClient()
    try:
        async with asyncio.timeout(timeout_seconds):
            await client.connect(
                list(servers), name="redphone-deploy", inbox_prefix="_INBOX_deploy", error_cb=on_error, **options
            )
            jetstream = client.jetstream(timeout=timeout_seconds)
            for stream in streams():
                await ensure_stream(jetstream, stream, replicas=replicas, bytes_max=stream_bytes_max)
            for service, events in consumes.items():
                for event in events:
                    await ensure_consumer(jetstream, service, event)
    finally:
        await discard(client, flush=False)


async def ensure_stream(jetstream: JetStreamContext, stream: str, *, replicas: int, bytes_max: int) -> None:
    """Creates the stream, or sets it right; what it holds stays."""
    wanted = api.StreamConfig(
        name=stream,
        subjects=[f"redphone.{stream.lower()}.>"],
        retention=api.RetentionPolicy.LIMITS,
        storage=api.StorageType.FILE,
        discard=api.DiscardPolicy.NEW,
        max_bytes=bytes_max,
        max_age=STREAM_AGE_SECONDS_MAX,
        duplicate_window=DUPLICATE_WINDOW_SECONDS,
        num_replicas=replicas,
    )
    try:
        present = (await jetstream.stream_info(stream)).config
    except NotFoundError:
        await jetstream.add_stream(wanted)
        return
    compared = ("subjects", "retention", "discard", "max_bytes", "max_age", "duplicate_window", "num_replicas")
    if any(getattr(present, field) != getattr(wanted, field) for field in compared):
        await jetstream.update_stream(wanted)


async def ensure_consumer(jetstream: JetStreamContext, service: str, event: type[Event]) -> None:
    """Creates the durable consumer, or sets it right; one that is right already stays as it is."""
    durable = durable_of(service, event)
    await jetstream.add_consumer(
        stream_of(event.owner),
        api.ConsumerConfig(
            name=durable,
            durable_name=durable,
            filter_subject=filter_of(event),
            deliver_policy=api.DeliverPolicy.ALL,
            ack_policy=api.AckPolicy.EXPLICIT,
            ack_wait=ACK_WAIT_SECONDS,
            max_deliver=-1,
            max_ack_pending=ACK_PENDING_MAX,
        ),
    )


async def check_server(monitor_url: str) -> list[str]:
    """What is wrong with the server whose monitoring endpoint this is, in words for an operator; empty if nothing is.

    A server that does not sync every write loses confirmed messages when the power fails, with three replicas too.
    """
    try:
        async with httpx.AsyncClient(base_url=monitor_url, timeout=2.0, trust_env=False) as http:
            server = (await http.get("/varz")).raise_for_status().json()
            jetstream = (await http.get("/jsz", params={"streams": "true", "config": "true"})).raise_for_status().json()
    except (httpx.HTTPError, ValueError) as error:
        return [f"the NATS server's monitoring endpoint does not answer ({type(error).__name__})"]
    settings = server.get("jetstream", {}).get("config")
    if not settings:
        return ["JetStream is off on this NATS server"]
    alarms = []
    if not settings.get("sync_always"):
        alarms.append("this NATS server does not run with `sync_interval: always`: confirmed messages can be lost")
    details = {
        stream["name"]: stream
        for account in jetstream.get("account_details", [])
        for stream in account.get("stream_detail", [])
    }
    for stream in streams():
        if stream not in details:
            alarms.append(f"the stream {stream} is missing: run the deploy step")
            continue
        config, state = details[stream].get("config", {}), details[stream].get("state", {})
        if config.get("max_bytes", -1) > 0 and state.get("bytes", 0) > FULL_RATIO_ALARM * config["max_bytes"]:
            alarms.append(f"the stream {stream} is more than {FULL_RATIO_ALARM:.0%} full")
        if server.get("cluster", {}).get("name") and config.get("num_replicas", 1) < 3:
            alarms.append(f"the stream {stream} has fewer than three replicas")
    return alarms


def streams() -> list[str]:
    """Names of the streams of all owners."""
    return sorted({stream_of(event.owner) for event in REGISTRY.values()})


async def discard(client: Client, *, flush: bool) -> None:
    """Closes a client that is not needed any more, whatever state it is in; may not hang and may not raise."""

    async def close() -> None:
        with suppress(Exception):
            if flush:
                await client.flush(timeout=1)
        with suppress(Exception):
            await client.close()

    closing = asyncio.create_task(close())
    await asyncio.wait({closing}, timeout=CLOSE_SECONDS_MAX)
    closing.cancel()
