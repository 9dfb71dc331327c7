"""Who is on call shows the hand-over that they are in, and who has signed it, to their own government."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import pytest_asyncio

from services.roster.handlers import SUBSCRIPTIONS
from shared.contracts import HandOverSigned
from tests.integration.roster.test_api import get, manager
from tests.integration.roster.test_rotas_api import people, send
from tests.support.cluster import Cluster
from tests.support.roster_rig import NOW, Rig, applied, roster_rig

BEGAN_AT = datetime.fromisoformat("2026-10-20T04:00:00+00:00")
"""Midnight in Toronto, five and a half hours before `NOW`."""


@pytest_asyncio.fixture
async def rig(cluster: Cluster) -> AsyncIterator[Rig]:
    """The service with the shipped network, and a rota of Canada on its first level that two people share by days."""
    async with roster_rig(cluster, after=applied) as made:
        yield made


async def shared_rota(rig: Rig, *, signs: bool = True) -> str:
    """A rota that hands over each midnight, as Canada's only level; its id."""
    first, second = (await people(rig))[:2]
    layer = {
        "name": "days",
        "rotation": "daily",
        "participants": [first, second],
        "starts_on": "2026-10-01",
        "hand_over_time": "00:00",
    }
    body = {"name": "Watch", "time_zone": "America/Toronto", "layers": [layer], "signs_hand_over": signs}
    rota_id = str((await send(rig, "POST", "rotas", body)).json()["id"])
    policy = {"levels": [{"targets": [{"kind": "rota", "id": rota_id}]}]}
    assert (await send(rig, "PUT", "policy", policy)).status_code == 200
    return rota_id


async def on_call(rig: Rig, partner: str = "CA", **query: str) -> dict[str, Any]:
    """The target of Canada's only level as a partner's roster manager sees it."""
    answer = await get(rig, "/v1/partners/CA/on-call", await manager(rig, partner), **query)
    target: dict[str, Any] = answer.json()["levels"][0]["targets"][0]
    return target


async def signed(rig: Rig, **changes: Any) -> None:
    """Escalation says that a hand-over was signed; said twice, it changes nothing more."""
    shown = await on_call(rig)
    fields: dict[str, Any] = {
        "partner": "CA",
        "rota_id": (await rig.stored("CA")).rotas[-1].id,
        "start_at": BEGAN_AT,
        "outgoing_id": shown["hand_over"]["outgoing_id"],
        "incoming_id": shown["contact_id"],
    }
    message = rig.message(HandOverSigned(**{**fields, **changes}))
    for _ in range(2):
        await SUBSCRIPTIONS[HandOverSigned](rig.deps, message)


async def test_who_is_on_call_shows_who_is_paged_beside_them(rig: Rig) -> None:
    """Whoever handed over, since when, and that it is not signed."""
    await shared_rota(rig)
    shown = await on_call(rig)
    state = await rig.stored("CA")
    outgoing = next(contact for contact in state.contacts if str(contact.id) == shown["hand_over"]["outgoing_id"])
    assert shown["hand_over"]["outgoing"] == outgoing.name
    assert str(outgoing.id) != shown["contact_id"]
    assert datetime.fromisoformat(shown["hand_over"]["start_at"]) == BEGAN_AT
    assert (shown["hand_over"]["signed"], shown["hand_over"]["outgoing_signed_at"]) == (False, None)


async def test_signatures_are_shown_in_whatever_order_they_come(rig: Rig) -> None:
    """Both events may come the wrong way round; a signature is never taken back."""
    await shared_rota(rig)
    both = {"outgoing_signed_at": NOW, "incoming_signed_at": NOW - timedelta(minutes=5)}
    await signed(rig, incoming_signed_at=NOW - timedelta(minutes=5))
    assert (await on_call(rig))["hand_over"]["signed"] is False
    await signed(rig, **both)
    assert (await on_call(rig))["hand_over"]["signed"] is True
    await signed(rig, incoming_signed_at=NOW - timedelta(minutes=5))
    assert (await on_call(rig))["hand_over"]["signed"] is True


async def test_signatures_belong_to_one_change_of_one_partner(rig: Rig) -> None:
    """The next midnight is another hand-over, and another government's word about ours is nothing."""
    await shared_rota(rig)
    both = {"outgoing_signed_at": NOW, "incoming_signed_at": NOW}
    await signed(rig, **both, partner="NZ")
    assert (await on_call(rig))["hand_over"]["signed"] is False
    await signed(rig, **both, start_at=BEGAN_AT + timedelta(days=1))
    assert (await on_call(rig))["hand_over"]["signed"] is False


async def test_signatures_of_long_ago_are_forgotten(rig: Rig) -> None:
    """What no change of the last month can be is gone with the next signature of that partner."""
    await shared_rota(rig)
    for days in (100, 90, 0):
        await signed(rig, outgoing_signed_at=NOW, start_at=BEGAN_AT - timedelta(days=days))
    rows = await rig.rows("SELECT start_at FROM hand_overs ORDER BY start_at")
    assert [row.start_at for row in rows] == [BEGAN_AT - timedelta(days=90), BEGAN_AT]


async def test_nobody_else_learns_of_it(rig: Rig) -> None:
    """Another government sees the role of who is on call, and nothing of who was."""
    await shared_rota(rig)
    assert (await on_call(rig, "NZ"))["hand_over"] is None


async def test_a_rota_without_signatures_shows_no_hand_over(rig: Rig) -> None:
    """Most rotas change without ceremony."""
    await shared_rota(rig, signs=False)
    assert (await on_call(rig))["hand_over"] is None


async def test_the_published_plan_carries_the_change(rig: Rig) -> None:
    """Escalation pages both by it, however long before the plan was made it took place."""
    rota_id = await shared_rota(rig)
    await rig.publish_plans()
    (rota,) = [rota for rota in (await rig.plan("CA")).rotas if str(rota.id) == rota_id]
    before, own = rota.shifts[:2]
    assert (before.end_at, own.start_at) == (BEGAN_AT, BEGAN_AT)
    assert before.contact_id != own.contact_id
