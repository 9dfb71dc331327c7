"""Builds escalation from its parts. Tests, the runner and production all use this."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from datetime import timedelta
from functools import partial
from importlib.metadata import version
from typing import Any, cast

from fastapi import APIRouter

from services.escalation import api, handlers, notices, receipts, store
from services.escalation.answering import inbound_mail, provider_api
from services.escalation.answering.replies import forget_replies
from services.escalation.board import NEWS_SECONDS, BoardNews
from services.escalation.channels import Channel, build_channels
from services.escalation.channels.email import EmailChannel
from services.escalation.channels.providers import Provider
from services.escalation.channels.providers.configured import build_providers
from services.escalation.coverage.countdown import Countdowns
from services.escalation.delivery import Delivery
from services.escalation.deps import EscalationDeps
from services.escalation.directories import Directories
from services.escalation.heartbeat import BEAT_SECONDS, Heartbeat
from services.escalation.heartbeats.beating import Heartbeats
from services.escalation.heartbeats.certificates import Certificates
from services.escalation.heartbeats.paths import loop_backs_of
from services.escalation.people.persons import Persons, reply_key_of
from services.escalation.sender import SenderProcess, SetUp, SharedOut
from services.escalation.settling import wait_for_rows
from services.escalation.timers import Timers
from services.escalation.warming import Warming
from shared.bus import Bus
from shared.clock import Clock
from shared.contracts import AlertReleased, ChannelName
from shared.egress import policy_of
from shared.ids import Ids, fraction
from shared.keys import KeyRing
from shared.loops import Loop
from shared.process import Deps, Handler, Service, assemble
from shared.settings import Settings
from shared.web import join

SENDER_PROCESSES_MAX = 4
"""Beyond so many, the one process that decides is what sending waits for."""

RELEASES_AT_ONCE = 8
SYSTEMS = frozenset({ChannelName.WEBHOOK.value})
"""Channels that no person reads."""

FORGETTING_SECONDS = 3600.0
HEARTBEATS_SECONDS = 1.0

OVERDUE_SECONDS_MAX = 10
"""An escalation that is due for longer than this is an alarm: whatever should act on it does not."""


def build(
    settings: Settings,
    *,
    clock: Clock,
    ids: Ids,
    keys: KeyRing,
    bus: Bus,
    channels: Mapping[str, Channel] | None = None,
    jitter: Callable[[], float] = fraction,
) -> Service:
    """The service, ready to start. `channels` replaces the outside world in tests; `jitter` is chance."""
    providers = build_providers(settings, clock=clock, version=version("redphone"))
    outlets = channels if channels is not None else _channels(settings, clock, keys, providers)
    directories = Directories(
        frozenset(ChannelName(name) for name in outlets),
        {ChannelName(name): outlet.provider for name, outlet in outlets.items()},
        lambda point: reply_key_of(keys, point.channel, point.id, point.sealed_address),
    )
    persons = Persons(directories, keys, settings.public_url or "")
    parts: dict[str, Any] = {}

    def extend(deps: Deps) -> Deps:
        shared = {field.name: getattr(deps, field.name) for field in fields(deps)}
        parts["delivery"] = Delivery(deps, outlets, persons, jitter)
        extended = EscalationDeps(**shared, directories=directories, senders=parts["delivery"])
        parts["forgetting"] = partial(_forget, extended)
        parts["timers"] = Timers(extended)
        parts["countdowns"] = Countdowns(extended)
        parts["heartbeat"] = (
            None if settings.heartbeat_url is None else Heartbeat(extended, settings.heartbeat_url, overdue)
        )
        parts["heartbeats"] = Heartbeats(
            extended,
            loop_backs_of(settings, outlets.keys()),
            channels=outlets,
            providers=providers,
            certificates=Certificates(policy_of(settings), clock=clock),
        )
        parts["news"] = BoardNews(extended)
        parts["warming"] = Warming(extended, parts["delivery"])
        return extended

    def loops(_deps: Deps) -> Sequence[Loop]:
        delivery, timers, countdowns = parts["delivery"], parts["timers"], parts["countdowns"]
        heart: Heartbeat | None = parts["heartbeat"]
        beating = (
            [] if heart is None else [Loop("heartbeat", heart.run_once, interval_seconds=BEAT_SECONDS, clock=clock)]
        )
        return (
            Loop("delivery", delivery.run_once, interval_seconds=delivery.next_in_seconds, clock=clock),
            Loop("recorder", delivery.recorder.run_once, interval_seconds=1.0, clock=clock),
            Loop("timers", timers.run_once, interval_seconds=timers.next_in_seconds, clock=clock),
            Loop("coverage", countdowns.run_once, interval_seconds=countdowns.next_in_seconds, clock=clock),
            *beating,
            Loop("heartbeats", parts["heartbeats"].run_once, interval_seconds=HEARTBEATS_SECONDS, clock=clock),
            Loop("warming", parts["warming"].run_once, interval_seconds=30.0, clock=clock),
            Loop("forgetting", parts["forgetting"], interval_seconds=FORGETTING_SECONDS, clock=clock),
            Loop("board", parts["news"].run_once, interval_seconds=NEWS_SECONDS, clock=clock),
        )

    async def failing_paths(_deps: Deps) -> list[str]:
        beating: Heartbeats = parts["heartbeats"]
        return await beating.alarms()

    async def stop() -> None:
        if parts["heartbeat"] is not None:
            await parts["heartbeat"].close()
        await parts["heartbeats"].stop()
        await parts["delivery"].stop()
        for provider in providers.values():
            await provider.close()

    return assemble(
        "escalation",
        settings,
        clock=clock,
        ids=ids,
        keys=keys,
        bus=bus,
        router=lambda deps: _router(cast("EscalationDeps", deps), parts["news"], outlets, providers),
        subscriptions=cast("Mapping[Any, Handler]", handlers.SUBSCRIPTIONS),
        loops=loops,
        reconcile=(
            overdue,
            failing_paths,
            *((without_links,) if settings.public_url is None and outlets.keys() - SYSTEMS else ()),
        ),
        on_stop=(stop,),
        concurrency={AlertReleased: RELEASES_AT_ONCE},
        extend=extend,
    )


async def _forget(deps: EscalationDeps) -> int:
    """Forgets what nobody asks for any more; returns how many rows."""
    return await forget_replies(deps) + await notices.forget_notices(deps)


def _router(
    deps: EscalationDeps, news: BoardNews, outlets: Mapping[str, Channel], providers: Mapping[str, Provider]
) -> APIRouter:
    """All routes: those of people and systems that log in, and those of providers, which sign what they say."""
    routes = api.router(deps, news)
    email = outlets.get(ChannelName.EMAIL)
    mailing = email if isinstance(email, EmailChannel) else None
    join(routes, inbound_mail.router(deps, mailing, receipts.note_status), provider_api.router(deps, providers))
    wait_for_rows(routes, deps)
    return routes


def _channels(settings: Settings, clock: Clock, keys: KeyRing, providers: Mapping[str, Provider]) -> dict[str, Channel]:
    built = build_channels(
        clock=clock,
        egress_policy=policy_of(settings),
        signing_keys=keys.webhook_keys,
        version=version("redphone"),
        settings=settings,
        push_keys=keys.push_keys,
        providers=providers,
    )
    outlets = {name: channel for name, channel in built.items() if ChannelName(name) in settings.channels}
    if ChannelName.WEBHOOK in outlets and _cores() > 1:
        set_up = SetUp.of(
            signing_keys=keys.webhook_keys,
            version=version("redphone"),
            policy=policy_of(settings),
            log_level=settings.log_level,
            clock=clock,
        )
        own, count = outlets[ChannelName.WEBHOOK], min(_cores(), SENDER_PROCESSES_MAX)
        outlets[ChannelName.WEBHOOK] = SharedOut([SenderProcess(own, set_up, clock=clock) for _ in range(count)])
    return outlets


def _cores() -> int:
    """How many processors this process may use: on one, a second sender would only take turns with the first."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


async def without_links(_deps: Deps) -> list[str]:
    """People are written to, and nothing says where the page is that they could open."""
    return ["messages to people carry no link to answer by: set REDPHONE_PUBLIC_URL"]


async def overdue(deps: Deps) -> list[str]:
    """Compares what should be with what is: open escalations without a due time, or long past theirs."""
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        timeless, late = await store.count_stuck(tx, now - timedelta(seconds=OVERDUE_SECONDS_MAX))
    alarms = []
    if timeless:
        alarms.append("escalations are open without a due time")
    if late:
        alarms.append("escalations are overdue and nothing acts on them")
    return alarms
