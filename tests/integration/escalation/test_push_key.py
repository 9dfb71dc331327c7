"""Which of the channels to browsers and rooms an installation has, and the key that it gives to browsers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx
import pytest

from services.escalation import push_key
from services.escalation.channels import build_channels
from shared.clock import ManualClock
from shared.egress import EgressPolicy
from shared.ids import Ids, SeededBits
from shared.keys import KeyRing, PushKey
from shared.settings import Settings, load
from shared.web import build_app
from tests.support.escalation_rig import KABUL

KEYS = KeyRing.generate()
NO_PUSH_KEYS = replace(KEYS, push_keys=())
PUSH: dict[str, Any] = {"push_subject": "mailto:duty@redphone.example"}


async def asked(settings: Settings, keys: KeyRing) -> httpx.Response:
    """What a browser without a login is answered."""
    clock = ManualClock(KABUL)
    app = build_app(
        "Escalation",
        [push_key.router(settings, keys)],
        service="escalation",
        clock=clock,
        ids=Ids(clock.now, SeededBits(1)),
    )
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://redphone.test") as client:
        return await client.get("/v1/push/key")


async def built(settings: Settings, keys: KeyRing) -> set[str]:
    """The channels that these settings make."""
    channels = build_channels(
        clock=ManualClock(KABUL),
        egress_policy=EgressPolicy(),
        signing_keys=keys.webhook_keys,
        version="1.2.3",
        settings=settings,
        push_keys=keys.push_keys,
    )
    for channel in channels.values():
        await channel.close()
    return set(channels)


async def test_a_browser_gets_the_key_without_a_login() -> None:
    """The public half of the key that signs now: during a change, new subscriptions are made with the new one."""
    keys = replace(KEYS, push_keys=(PushKey.generate(), *KEYS.push_keys))
    answer = await asked(load({}, **PUSH), keys)
    assert answer.status_code == 200
    assert answer.json() == {"public_key": keys.push_keys[0].public_text}


@pytest.mark.parametrize(
    ("settings", "keys"),
    [
        (load({}), KEYS),
        (load({}, **PUSH), NO_PUSH_KEYS),
        (load({"REDPHONE_CHANNELS": "webhook,sms"}, **PUSH), KEYS),
    ],
)
async def test_there_is_no_key_where_push_is_off(settings: Settings, keys: KeyRing) -> None:
    """Without a subject, without keys, or with the channel switched off, no browser subscribes in vain."""
    answer = await asked(settings, keys)
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_push_is_there_once_it_is_configured() -> None:
    """Push needs a subject and a key; chat is there unless no service is allowed."""
    assert {"webhook", "chat"} <= await built(load({}), KEYS)
    assert "push" not in await built(load({}), KEYS)
    assert "push" not in await built(load({}, **PUSH), NO_PUSH_KEYS)
    assert {"webhook", "chat", "push"} <= await built(load({}, **PUSH), KEYS)
