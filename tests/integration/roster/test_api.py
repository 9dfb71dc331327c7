from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import pytest_asyncio

from services.roster.api import SHIFT_DAYS_MAX
from shared.contracts import Role
from shared.hosting import host
from shared.security import Principal, PrincipalKind, Unauthenticated
from tests.support.cluster import Cluster
from tests.support.roster_rig import Rig, applied, roster_rig


@pytest_asyncio.fixture
async def rig(cluster: Cluster) -> AsyncIterator[Rig]:
    """The service with the shipped network."""
    async with roster_rig(cluster, after=applied) as made:
        yield made


async def signed_in(rig: Rig, partner: str, role: Role) -> dict[str, str]:
    """The headers of a partner's credential that has the role and as few others as possible."""
    published = await rig.credentials(partner)
    holders = [one for one in published.credentials if role in one.roles and one.revoked_at is None]
    found = min(holders, key=lambda one: len(one.roles))
    kind = PrincipalKind(found.kind.value)
    roles = frozenset(found.roles)
    return rig.headers(
        Principal(found.subject, found.client_id, partner, roles, kind, found.name, found.contact_id, found.version)
    )


async def manager(rig: Rig, partner: str = "CA") -> dict[str, str]:
    """The headers of a partner's roster manager."""
    return await signed_in(rig, partner, Role.ROSTER_MANAGER)


async def get(rig: Rig, path: str, headers: dict[str, str], **query: Any) -> httpx.Response:
    """One answer."""
    return await rig.client.get(path, headers=headers, params=query)


ENDPOINT = {"url": "https://second.canada.example/hook", "description": "Second room"}


# --- who sees what ----------------------------------------------------------------------------------------------------


async def test_everybody_sees_partners_and_nobody_a_name(rig: Rig) -> None:
    """Any known caller lists all partners with the office that answers, page by page, and no person or number."""
    headers = await signed_in(rig, "NZ", Role.DRAFTER)
    first = await get(rig, "/v1/partners", headers, limit=6)
    second = await get(rig, "/v1/partners", headers, limit=6, cursor=first.json()["next_cursor"])
    listed = first.json()["items"] + second.json()["items"]
    assert [one["code"] for one in listed] == ["AU", "BR", "CA", "DE", "ES", "EU", "GB", "IT", "NZ", "US", "XR"]
    assert second.json()["next_cursor"] is None
    canada = next(one for one in listed if one["code"] == "CA")
    state = await rig.stored("CA")
    assert canada["office"] == state.offices[0].name
    text = first.text + second.text
    assert not any(contact.name in text for contact in state.contacts)
    assert (state.offices[0].switchboard or "?") not in text


@pytest.mark.parametrize("what", ["offices", "contacts", "rotas", "policy", "endpoints", "credentials"])
async def test_what_another_partner_owns_is_not_there(rig: Rig, what: str) -> None:
    """Somebody else's roster and that of a partner who does not exist answer the same 404, for managers too."""
    headers = await manager(rig, "NZ")
    foreign = await get(rig, f"/v1/partners/CA/{what}", headers)
    absent = await get(rig, f"/v1/partners/FR/{what}", headers)
    answers = [{**one.json(), "instance": ""} for one in (foreign, absent)]
    assert (foreign.status_code, absent.status_code) == (404, 404)
    assert answers[0] == answers[1]
    assert (await get(rig, f"/v1/partners/NZ/{what}", headers)).status_code == 200


async def test_writing_for_another_partner_finds_nothing(rig: Rig) -> None:
    """A roster manager, and an administrator too, who writes into another partner's roster gets 404 and no row."""
    before = await rig.count("record")
    for headers in (await manager(rig, "NZ"), rig.administrator()):
        made = await rig.client.post("/v1/partners/CA/endpoints", json=ENDPOINT, headers=headers)
        assert made.status_code == 404
    assert await rig.count("record") == before


@pytest.mark.parametrize("role", [Role.DRAFTER, Role.SENIOR_CONTACT])
async def test_only_roster_managers_write(rig: Rig, role: Role) -> None:
    """A partner's other people read their roster and are refused as writers, by the name of the role they lack."""
    headers = await signed_in(rig, "CA", role)
    assert (await get(rig, "/v1/partners/CA/contacts", headers)).status_code == 200
    refused = await rig.client.post("/v1/partners/CA/endpoints", json=ENDPOINT, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (403, "role_missing")


async def test_without_a_token_nothing_is_shown(rig: Rig) -> None:
    """Every route of roster but the common ones asks for a token; a private address of a calendar is one itself."""
    paths = host([rig.service]).openapi()["paths"]
    some_id = str(rig.deps.ids.new())
    for path, operations in paths.items():
        for method, operation in operations.items():
            if operation["tags"] not in (["Installation"], ["Access"]):
                asked = re.sub(r"\{(\w+)\}", lambda found: "CA" if found[1] == "code" else some_id, path)
                answer = await rig.client.request(method, asked, json={})
                assert answer.status_code == (404 if path == "/v1/calendars/{token}.ics" else 401), path


# --- who answers ------------------------------------------------------------------------------------------------------


async def test_on_call_shows_names_to_their_owner_alone(rig: Rig) -> None:
    """Each level's office, role and end of shift for everybody; the name and the contact for their own government."""
    own = (await get(rig, "/v1/partners/CA/on-call", await manager(rig))).json()
    foreign = (await get(rig, "/v1/partners/CA/on-call", await manager(rig, "NZ"))).json()
    state = await rig.stored("CA")
    names = {contact.name for contact in state.contacts}
    paged = [target for level in own["levels"] for target in level["targets"] if target["kind"] == "rota"]
    assert len(own["levels"]) == len(state.policy.levels)
    assert {target["name"] for target in paged} <= names
    assert all(target["until_at"].endswith("Z") and target["title"] for target in paged)
    assert [level["level"] for level in foreign["levels"]] == [level["level"] for level in own["levels"]]
    for level in foreign["levels"]:
        for target in level["targets"]:
            assert (target["name"], target["contact_id"]) == (None, None)
    assert not any(name in str(foreign) for name in names)


async def test_on_call_answers_for_any_instant(rig: Rig) -> None:
    """`at` asks for another week; a time without its offset is refused."""
    headers = await manager(rig)
    weeks = [rig.clock.now() + timedelta(weeks=number) for number in range(3)]
    answers = [await get(rig, "/v1/partners/CA/on-call", headers, at=at.isoformat()) for at in weeks]
    paged = [answer.json()["levels"][0]["targets"][0]["contact_id"] for answer in answers]
    assert len(set(paged)) > 1
    assert (await get(rig, "/v1/partners/CA/on-call", headers, at="2026-10-20T09:30:00")).status_code == 422


async def test_shifts_are_those_of_the_plan(rig: Rig) -> None:
    """The screen and the duty plan show the same shifts; a window of more than a year is refused."""
    await rig.publish_plans()
    plan, headers = await rig.plan("CA"), await manager(rig)
    window = {"from": plan.valid_from.isoformat(), "to": plan.valid_until.isoformat()}
    shown = (await get(rig, "/v1/partners/CA/shifts", headers, **window)).json()
    assert [[shift["contact_id"] for shift in rota["shifts"]] for rota in shown["rotas"]] == [
        [str(shift.contact_id) for shift in rota.shifts] for rota in plan.rotas
    ]
    window["to"] = (plan.valid_from + timedelta(days=SHIFT_DAYS_MAX, seconds=1)).isoformat()
    assert (await get(rig, "/v1/partners/CA/shifts", headers, **window)).status_code == 422
    assert (await get(rig, "/v1/partners/CA/shifts", await manager(rig, "NZ"), **window)).status_code in (404, 422)
    window["to"] = plan.valid_until.isoformat()
    assert (await get(rig, "/v1/partners/CA/shifts", await manager(rig, "NZ"), **window)).status_code == 404


# --- edits ------------------------------------------------------------------------------------------------------------


async def test_of_two_edits_with_one_etag_one_is_refused(rig: Rig) -> None:
    """Two roster managers who have read the same version: one writes, the other is told (412), also at once."""
    headers = await manager(rig)
    etag = (await get(rig, "/v1/partners/CA", headers)).headers["ETag"]
    seen = {**headers, "If-Match": etag}
    answers = await asyncio.gather(
        rig.client.patch("/v1/partners/CA", json={"languages": ["en"]}, headers=seen),
        rig.client.patch("/v1/partners/CA", json={"languages": ["fr"]}, headers=seen),
    )
    assert sorted(answer.status_code for answer in answers) == [200, 412]
    blind = await rig.client.patch("/v1/partners/CA", json={"languages": ["en"]}, headers=headers)
    assert blind.status_code == 428


async def test_a_whole_roster_by_hand(rig: Rig) -> None:
    """Office, contact, rota, override, level and endpoint are added, read back, changed and removed by their owner."""
    headers = await manager(rig)

    async def add(what: str, body: dict[str, Any]) -> str:
        made = await rig.client.post(f"/v1/partners/CA/{what}", json=body, headers=headers)
        assert made.status_code == 201, made.text
        if "overrides" not in what:
            shown = await get(rig, made.headers["Location"], headers)
            assert shown.json()["id"] == made.json()["id"]
            assert shown.headers["ETag"] == made.headers["ETag"]
        return str(made.json()["id"])

    async def edit(method: str, path: str, body: Any = None) -> httpx.Response:
        etag = (await get(rig, "/v1/partners/CA", headers)).headers["ETag"]
        seen = {**headers, "If-Match": etag}
        return await rig.client.request(method, f"/v1/partners/CA/{path}", json=body, headers=seen)

    office = {"name": "Night desk", "embassies": {"AF": "+16135550144"}, "points": []}
    office_id = await add("offices", office)
    contact_id = await add(
        "contacts", {"name": "Zoë Example", "points": [{"channel": "sms", "address": "+16135550155"}]}
    )
    layer = {
        "name": "days", "rotation": "daily", "participants": [contact_id], "starts_on": "2026-10-01",
        "hand_over_time": "08:00",
    }  # fmt: skip
    rota_id = await add("rotas", {"name": "Nights", "layers": [layer]})
    override = {"contact_id": None, "start_at": "2026-10-21T00:00:00Z", "end_at": "2026-10-22T00:00:00Z"}
    override_id = await add(f"rotas/{rota_id}/overrides", override)
    targets = [{"kind": "rota", "id": rota_id}, {"kind": "office", "id": office_id}]
    policy = {"levels": [{"targets": [target]} for target in targets]}
    assert (await edit("PUT", "policy", policy)).status_code == 200
    endpoint_id = await add("endpoints", ENDPOINT)

    now = (await get(rig, "/v1/partners/CA/on-call", headers)).json()
    assert now["levels"][0]["targets"][0]["name"] == "Zoë Example"
    later = (await get(rig, "/v1/partners/CA/on-call", headers, at="2026-10-21T12:00:00Z")).json()
    assert later["levels"][0]["targets"][0]["nobody"] is True
    assert later["levels"][1]["targets"][0]["office"] == "Night desk"

    used = await edit("DELETE", f"contacts/{contact_id}")
    assert (used.status_code, used.json()["errors"][0]["field"].startswith("rotas[")) == (422, True)
    assert (await edit("PUT", f"offices/{office_id}", {**office, "name": "Night watch"})).status_code == 200
    assert (await edit("PUT", f"endpoints/{endpoint_id}", {**ENDPOINT, "description": ""})).status_code == 200
    assert (await edit("PUT", f"rotas/{rota_id}", {"name": "Nights", "layers": [layer]})).status_code == 200
    assert len((await get(rig, f"/v1/partners/CA/rotas/{rota_id}/overrides", headers)).json()["items"]) == 1
    assert (await edit("DELETE", f"rotas/{rota_id}/overrides/{override_id}")).status_code == 200
    policy["levels"].pop(0)
    assert (await edit("PUT", "policy", policy)).status_code == 200
    for path in (f"rotas/{rota_id}", f"contacts/{contact_id}", f"endpoints/{endpoint_id}"):
        assert (await edit("DELETE", path)).status_code == 200
        assert (await edit("DELETE", path)).status_code == 404
    changed = await rig.changed("CA")
    assert endpoint_id not in {str(endpoint.id) for endpoint in changed.endpoints}


async def test_the_last_office_stays(rig: Rig) -> None:
    """Every partner needs an office that answers, whatever its policy says."""
    headers = await manager(rig)
    listed = await get(rig, "/v1/partners/CA/offices", headers)
    (office, *_) = listed.json()["items"]
    answer = await rig.client.delete(
        f"/v1/partners/CA/offices/{office['id']}", headers={**headers, "If-Match": listed.headers["ETag"]}
    )
    assert answer.status_code == 422
    assert "needs a duty office" in str(answer.json()["errors"])


async def test_adding_is_safe_to_repeat(rig: Rig) -> None:
    """The same key, or the same id, adds once and answers the same; another thing under that id is refused."""
    headers, own_id = await manager(rig), str(rig.deps.ids.new())
    with_key = {**headers, "Idempotency-Key": "one"}
    first, second = [await rig.client.post("/v1/partners/CA/endpoints", json=ENDPOINT, headers=with_key) for _ in "ab"]
    assert (first.json(), second.headers["Idempotency-Replayed"]) == (second.json(), "true")
    body = {**ENDPOINT, "id": own_id}
    answers = [await rig.client.post("/v1/partners/CA/endpoints", json=body, headers=headers) for _ in "ab"]
    assert [answer.json()["id"] for answer in answers] == [own_id, own_id]
    other = await rig.client.post(
        "/v1/partners/CA/endpoints", json={**body, "url": "https://c.example/"}, headers=headers
    )
    assert (other.status_code, other.json()["code"]) == (409, "id_taken")
    foreign = await rig.client.post("/v1/partners/NZ/endpoints", json=body, headers=await manager(rig, "NZ"))
    assert (foreign.status_code, foreign.json()["code"]) == (409, "id_taken")
    early = {**ENDPOINT, "id": "0191a8c0-0000-4000-8000-000000000001"}
    assert (await rig.client.post("/v1/partners/CA/endpoints", json=early, headers=headers)).status_code == 422
    listed = await get(rig, "/v1/partners/CA/endpoints", headers)
    assert len([one for one in listed.json()["items"] if one["url"] == ENDPOINT["url"]]) == 2


@pytest.mark.parametrize(
    ("what", "body", "field"),
    [
        ("endpoints", {"url": "http://plain.example/"}, "url"),
        ("endpoints", {"url": "https://127.0.0.1/"}, "url"),
        ("endpoints", {"url": "https://ok.example/", "colour": "red"}, "colour"),
        ("contacts", {"name": "A", "points": [{"channel": "sms", "address": "call me"}]}, "points[0].address"),
        ("contacts", {"name": "A", "points": [{"channel": "chat", "address": "dbus://"}]}, "points[0].address"),
        ("contacts", {"name": "A", "points": [{"channel": "push", "address": "{}"}]}, "points[0].address"),
        ("contacts", {"name": "A", "points": [{"channel": "push", "address": "x" * 2_001}]}, "points[0].address"),
        ("contacts", {"name": ""}, "name"),
        ("offices", {"name": "A", "embassies": {"QQ": "+16135550144"}}, "embassies"),
        ("rotas", {"name": "A", "time_zone": "Mars/Olympus", "layers": []}, "time_zone"),
    ],
)
async def test_what_is_wrong_is_named(rig: Rig, what: str, body: dict[str, Any], field: str) -> None:
    """A refusal names the field and repeats nothing of what was sent; nothing is written."""
    before = await rig.count("record")
    answer = await rig.client.post(f"/v1/partners/CA/{what}", json=body, headers=await manager(rig))
    assert answer.status_code == 422
    assert field in {error["field"] for error in answer.json()["errors"]}
    assert "call me" not in answer.text
    assert await rig.count("record") == before


# --- partners and administrators --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("who", "body", "expected"),
    [
        ("manager", {"time_zone": "America/Halifax"}, 200),
        ("manager", {"active": False}, 403),
        ("manager", {"standing": "participating", "name": "X"}, 403),
        ("administrator", {"active": False}, 200),
        ("administrator", {"standing": "participating"}, 200),
        ("administrator", {"name": "Kanada"}, 403),
        ("administrator", {"standing": "secretariat"}, 422),
        ("stranger", {"time_zone": "America/Halifax"}, 403),
        ("manager", {"name": None}, 422),
    ],
)
async def test_who_edits_a_partner(rig: Rig, who: str, body: dict[str, Any], expected: int) -> None:
    """What describes a partner is its own to say; standing and taking part are an administrator's to decide."""
    found = {"manager": await manager(rig), "administrator": rig.administrator(), "stranger": await manager(rig, "NZ")}
    etag = (await get(rig, "/v1/partners/CA", found[who])).headers["ETag"]
    answer = await rig.client.patch("/v1/partners/CA", json=body, headers={**found[who], "If-Match": etag})
    assert answer.status_code == expected, answer.text
    if expected == 200:
        assert answer.json() | body == answer.json()
        assert (await rig.changed("CA")).version == int(answer.headers["ETag"].strip('"'))


async def test_credentials_are_issued_by_administrators(rig: Rig) -> None:
    """An administrator issues; the secret works at once; roster managers may not, and a client id is given once."""
    body = {"client_id": "ca-extra", "kind": "system", "name": "Paging system", "roles": ["senior_contact"]}
    path = "/v1/partners/CA/credentials"
    refused = await rig.client.post(path, json=body, headers=await manager(rig))
    assert (refused.status_code, refused.json()["code"]) == (403, "role_missing")
    made = await rig.client.post(path, json=body, headers=rig.administrator())
    assert made.status_code == 201, made.text
    await rig.sign_in("ca-extra", made.json()["secret"])
    for partner in ("CA", "NZ"):
        again = await rig.client.post(f"/v1/partners/{partner}/credentials", json=body, headers=rig.administrator())
        assert (again.status_code, again.json()["code"]) == (409, "client_id_taken")
    listed = await get(rig, path, await manager(rig))
    assert "ca-extra" in {one["client_id"] for one in listed.json()["items"]}
    assert not any(word in listed.text for word in (made.json()["secret"], "secret", "sha256"))
    wrong = {**body, "client_id": "ca-wrong", "roles": ["administrator", "releaser"]}
    answer = await rig.client.post(path, json=wrong, headers=rig.administrator())
    assert answer.status_code == 422


async def test_whoever_leaves_can_be_removed(rig: Rig) -> None:
    """Their credential in force keeps a contact; once it is revoked they can go, and what is left is listed."""
    headers = await manager(rig)
    body = {"name": "Zoë Example", "points": [{"channel": "sms", "address": "+16135550155"}]}
    contact_id = (await rig.client.post("/v1/partners/CA/contacts", json=body, headers=headers)).json()["id"]
    path = "/v1/partners/CA/credentials"
    credential = {"client_id": "ca-zoe", "kind": "person", "roles": ["duty_officer"], "contact_id": contact_id}
    assert (await rig.client.post(path, json=credential, headers=rig.administrator())).status_code == 201

    async def remove() -> httpx.Response:
        etag = (await get(rig, "/v1/partners/CA", headers)).headers["ETag"]
        seen = {**headers, "If-Match": etag}
        return await rig.client.delete(f"/v1/partners/CA/contacts/{contact_id}", headers=seen)

    kept = await remove()
    assert kept.status_code == 422
    assert [error["field"].startswith("credentials[") for error in kept.json()["errors"]] == [True]
    assert (await rig.client.post(f"{path}/ca-zoe/revocation", headers=headers)).status_code == 200
    gone = await remove()
    assert gone.status_code == 200, gone.text
    assert contact_id not in {str(contact.id) for contact in (await rig.stored("CA")).contacts}
    assert "ca-zoe" in {one["client_id"] for one in (await get(rig, path, headers)).json()["items"]}
    await rig.publish_plans()


async def test_a_secret_is_changed_by_its_holder(rig: Rig) -> None:
    """The holder gets a new secret, the old one and its tokens end; a roster manager gets none of another."""
    published = (await rig.credentials("CA")).credentials
    client_id = next(one.client_id for one in published if Role.RELEASER in one.roles)
    path = f"/v1/partners/CA/credentials/{client_id}/secret"
    refused = await rig.client.post(path, headers=await manager(rig))
    assert (refused.status_code, refused.json()["code"]) == (403, "not_the_holder")
    made = await rig.client.post(path, headers=rig.administrator())
    assert made.status_code == 200
    fresh = await rig.sign_in(client_id, made.json()["secret"])
    again = await rig.client.post(path, headers=fresh)
    assert again.status_code == 200
    assert (await get(rig, "/v1/partners", fresh)).status_code == 401
    with pytest.raises(Unauthenticated):
        await rig.sign_in(client_id, made.json()["secret"])
    await rig.sign_in(client_id, again.json()["secret"])
    revoke = f"/v1/partners/CA/credentials/{client_id}/revocation"
    assert (await rig.client.post(revoke, headers=await manager(rig))).status_code == 200
    late = await rig.client.post(path, headers=rig.administrator())
    assert (late.status_code, late.json()["code"]) == (409, "credential_is_revoked")


async def test_deadlines_are_the_administrators(rig: Rig) -> None:
    """Everybody reads the network's table; an administrator who has seen it writes what makes sense."""
    headers = await manager(rig)
    table = await get(rig, "/v1/deadlines", headers)
    flash = table.json()["deadlines"]["FLASH"]
    seen = {"If-Match": table.headers["ETag"]}
    body = {"deadlines": {"FLASH": {**flash, "position_within_seconds": 3600}}}
    assert (await rig.client.put("/v1/deadlines", json=body, headers={**headers, **seen})).status_code == 403
    admin = {**rig.administrator(), **seen}
    wrong = {"deadlines": {"FLASH": {**flash, "acknowledge_within_seconds": 999_999}}}
    refused = await rig.client.put("/v1/deadlines", json=wrong, headers=admin)
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "FLASH.acknowledge_within_seconds")
    assert (await rig.client.put("/v1/deadlines", json=body, headers=admin)).status_code == 200
    assert (await rig.client.put("/v1/deadlines", json=body, headers=admin)).status_code == 412
    assert (await get(rig, "/v1/deadlines", headers)).json()["deadlines"]["FLASH"]["position_within_seconds"] == 3600
    told = (await rig.rows("SELECT body FROM outbox WHERE type LIKE '%deadlines_changed%' ORDER BY id"))[-1]
    assert '"position_within_seconds":3600' in told.body


# --- the file and the document ----------------------------------------------------------------------------------------


async def test_a_file_of_another_kind_is_refused(rig: Rig) -> None:
    """Another content type, another encoding and too much are each refused by their own code."""
    headers = rig.administrator()
    found = [
        await rig.client.post("/v1/network", content=content, headers={**headers, "Content-Type": kind})
        for kind, content in (
            ("application/json", b"{}"),
            ("application/toml", b"format = 1\nname = '\xff'"),
            ("text/plain", b"#" * 4_000_001),
        )
    ]
    codes = [(answer.status_code, answer.json()["code"]) for answer in found]
    assert codes == [(415, "unsupported_media_type"), (400, "malformed"), (413, "body_too_large")]
    assert "line 2" in found[1].json()["detail"]
