"""A person's own contact points through all services: entered at roster, verified at escalation, believed by both."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from services.escalation.channels import AttemptState, Reason, SendResult
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Outlet, sent_by
from tests.support.marked_network import MarkedNetwork, marked_network
from tests.support.world import World, world

OWN = "/v1/me/contact-points"
NUMBER = "+447700900123"
UNKNOWN = SendResult(AttemptState.FAILED, Reason.ADDRESS_UNKNOWN, "not in service", None, None, 0.01)


async def entered(made: World, network: MarkedNetwork) -> tuple[dict[str, str], dict[str, Any]]:
    """GB's duty officer keeps one point: a new number. Their headers, and the point as they see it."""
    headers = await network.sign_in(made, "gb-duty")
    seen = await made.http.get(OWN, headers=headers)
    body = {"points": [{"channel": "sms", "address": NUMBER}]}
    answer = await made.http.put(OWN, json=body, headers={**headers, "If-Match": seen.headers["ETag"]})
    assert answer.status_code == 200, answer.text
    await made.settle()
    return headers, await own_point(made, headers)


async def own_point(made: World, headers: dict[str, str]) -> dict[str, Any]:
    """The one point, as its owner sees it."""
    (point,) = (await made.http.get(OWN, headers=headers)).json()["items"]
    return dict(point)


def texts(made: World) -> list[Any]:
    """What has left as SMS."""
    return [page for page in made.outlets["sms"].sent if page.target == NUMBER]


async def test_from_a_new_number_to_a_verified_one_and_back(cluster: Cluster, tmp_path: Path) -> None:
    """Entered, sent a code, verified; when a provider knows nobody there any more, unverified and marked as such."""
    outlets = {"webhook": Outlet(), "sms": Outlet(name="sms", provider="sms provider", usual=sent_by("sms"))}
    async with world(cluster, tmp_path, outlets=outlets) as made:
        network = marked_network(("CA", "GB", "XR"))
        await network.apply(made)
        headers, point = await entered(made, network)
        assert point["verified_at"] is None
        path = f"/v1/contact-points/{point['id']}/verification"
        asked = await made.http.post(path, headers=headers)
        assert (asked.status_code, asked.json()["stage"]) == (200, "code_sent"), asked.text
        await made.settle()
        (code,) = set(re.findall(r"\b[0-9]{6}\b", texts(made)[-1].message.short))
        done = await made.http.post(f"{path}/code", json={"code": code}, headers=headers)
        assert (done.status_code, done.json()["stage"]) == (200, "verified"), done.text
        await made.settle()
        assert (await own_point(made, headers))["verified_at"] == done.json()["verified_at"]
        outlets["sms"].usual = UNKNOWN
        draft = await made.http.post(
            "/v1/alerts",
            json={"headline": "Kabul", "countries": ["AFG"], "to": ["GB"], "precedence": "FLASH"},
            headers={**await network.sign_in(made, "ca-duty"), **made.key()},
        )
        await made.http.post(
            f"/v1/alerts/{draft.json()['id']}/release",
            json={"precedence": "FLASH"},
            headers={**await network.sign_in(made, "ca-releaser"), **made.key()},
        )
        await made.settle()
        point = await own_point(made, headers)
        assert (point["verified_at"], point["failing"]["hard"]) == (None, True)
        keeper = await network.sign_in(made, "gb-keeper")
        shown = (await made.http.get("/v1/partners/GB/contacts", headers=keeper)).text
        assert NUMBER not in shown
        assert "+4477•••0123" in shown
