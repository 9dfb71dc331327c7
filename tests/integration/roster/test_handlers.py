from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
from sqlalchemy import text

from services.roster import handlers, worker
from services.roster.addresses import PUBLIC
from services.roster.network import FILE_CHARACTERS_MAX
from services.roster.worker import Worker, read
from shared.chat_urls import SCHEMAS_DEFAULT
from shared.contracts import (
    ChannelName,
    ContactPointFailing,
    ContactPointRecovered,
    CredentialsPublished,
    PartnerChanged,
    Precedence,
    Role,
)
from shared.errors import Forbidden, Invalid, Unavailable
from shared.events import Cause
from shared.keys import CannotOpen, point_context
from shared.security import Principal, PrincipalKind, Unauthenticated
from tests.support.cluster import Cluster
from tests.support.roster_rig import WORKER, Rig, network_text, roster_rig


@pytest_asyncio.fixture
async def rig(cluster: Cluster) -> AsyncIterator[Rig]:
    """The service on a fresh database."""
    async with roster_rig(cluster) as made:
        yield made


def keys_of(answer: Any, name: str) -> list[str]:
    """The keys of the things in one list of an answer."""
    return [thing["key"] for thing in answer.json()[name]]


async def secrets_of(rig: Rig) -> dict[str, str]:
    """Applies the shipped file; the secrets by client id."""
    answer = await rig.apply()
    assert answer.status_code == 200, answer.text
    return {made["client_id"]: made["secret"] for made in answer.json()["secrets"]}


async def manager_of(rig: Rig, partner: str, secrets: dict[str, str]) -> dict[str, str]:
    """The headers of a partner's own roster manager."""
    published = await rig.credentials(partner)
    client_id = next(one.client_id for one in published.credentials if Role.ROSTER_MANAGER in one.roles)
    return await rig.sign_in(client_id, secrets[client_id])


async def rename_contact(rig: Rig, headers: dict[str, str], partner: str, title: str) -> str:
    """Gives the partner's first contact another title, as its roster manager does; the contact's id."""
    listed = await rig.client.get(f"/v1/partners/{partner}/contacts", headers=headers)
    contact = listed.json()["items"][0]
    points = [{name: point[name] for name in ("id", "channel", "address", "label")} for point in contact["points"]]
    edited = {"name": contact["name"], "title": title, "languages": contact["languages"], "points": points}
    answer = await rig.client.put(
        f"/v1/partners/{partner}/contacts/{contact['id']}",
        json=edited,
        headers={**headers, "If-Match": listed.headers["ETag"]},
    )
    assert answer.status_code == 200, answer.text
    return str(contact["id"])


# --- applying ---------------------------------------------------------------------------------------------------------


async def test_applying_twice_changes_nothing(rig: Rig) -> None:
    """The shipped file creates everything once; the second application writes no row, event, record or secret."""
    first = (await rig.apply()).json()
    before = [await rig.count(table) for table in ("outbox", "record", "seeded_hashes")]
    second = (await rig.apply()).json()
    assert (len(first["created"]), first["updated"], first["unchanged"], first["left_alone"]) == (508, [], [], [])
    assert second["created"] == second["updated"] == second["left_alone"] == second["secrets"] == []
    assert len(second["unchanged"]) == 508
    assert [await rig.count(table) for table in ("outbox", "record", "seeded_hashes")] == before


async def test_one_transaction_announces_everything(rig: Rig) -> None:
    """Each of the eleven partners is announced with its credentials when the file is applied, and recorded."""
    await rig.apply()
    assert {changed.partner for changed in await rig.events(PartnerChanged)} == {
        "US", "AU", "CA", "ES", "IT", "NZ", "GB", "EU", "DE", "BR", "XR",
    }  # fmt: skip
    assert len(await rig.events(CredentialsPublished)) == 11
    recorded = {row.kind for row in await rig.rows("SELECT DISTINCT kind FROM record")}
    assert recorded == {
        "partner.created", "office.created", "contact.created", "contact_point.created", "rota.created",
        "policy.created", "endpoint.created", "credential.created", "deadlines.changed",
    }  # fmt: skip


async def test_a_dry_run_writes_nothing(rig: Rig) -> None:
    """A dry run says what would be created, makes no secret, and leaves every table as it was."""
    before = await rig.dump()
    answer = (await rig.apply(dry_run=True)).json()
    assert (answer["dry_run"], len(answer["created"]), answer["secrets"]) == (True, 508, [])
    assert await rig.dump() == before


async def test_what_a_partner_edited_is_left_alone(rig: Rig) -> None:
    """An edit by the partner survives the operator's next application, which says so; all the rest is unchanged."""
    manager = await manager_of(rig, "CA", await secrets_of(rig))
    await rename_contact(rig, manager, "CA", "Director of watch")
    answer = await rig.apply(network_text().replace('title = "Duty officer"', 'title = "Officer of the day"'))
    left = [one for one in answer.json()["left_alone"] if one["partner"] == "CA"]
    assert [(one["kind"], one["reason"]) for one in left] == [("contact", "edited")]
    assert "CA has edited it since" in left[0]["detail"]
    listed = await rig.client.get("/v1/partners/CA/contacts", headers=manager)
    assert listed.json()["items"][0]["title"] == "Director of watch"


async def test_the_partners_own_credential_overwrites_its_edit(rig: Rig) -> None:
    """With its own roster manager's credential the file is applied over the partner's own edit, and only there."""
    secrets = await secrets_of(rig)
    manager = await manager_of(rig, "CA", secrets)
    contact_id = await rename_contact(rig, manager, "CA", "Director of watch")
    title = re.search(r'\[partners\.CA\.contacts\.duty-1\]\n(?:.*\n)*?title = "(.+?)"', network_text())
    assert title is not None
    changed = network_text().replace('name = "Germany"', 'name = "Federal Republic of Germany"')
    answer = await rig.apply(changed, headers=manager)
    assert keys_of(answer, "updated") == ["partners.CA.contacts.duty-1"]
    assert {one["reason"] for one in answer.json()["left_alone"]} == {"not_yours"}
    assert "CA" not in {one["partner"] for one in answer.json()["left_alone"]}
    shown = await rig.client.get(f"/v1/partners/CA/contacts/{contact_id}", headers=manager)
    assert shown.json()["title"] == title.group(1)


async def test_a_file_confirms_no_guess_about_others(rig: Rig) -> None:
    """A roster manager's guess at another government's people is answered alike, right or wrong, and loads nobody."""
    manager = await manager_of(rig, "CA", await secrets_of(rig))
    right = (await rig.apply(headers=manager, dry_run=True)).json()
    assert "Avery Example" in network_text()
    guess = network_text().replace("Avery Example", "Somebody Else")
    async with rig.deps.database.transaction() as tx:
        # Another government's row that is being written keeps nobody waiting who only names it.
        await tx.execute(text("SELECT code FROM partners WHERE code = 'US' FOR UPDATE"))
        wrong = (await asyncio.wait_for(rig.apply(guess, headers=manager, dry_run=True), timeout=30)).json()
    assert wrong == right
    assert {one["partner"] for one in right["unchanged"]} == {"CA"}
    assert {one["partner"] for one in right["left_alone"]} >= {"US", "DE"}


async def test_what_a_partner_removed_stays_away(rig: Rig) -> None:
    """An endpoint that its partner has removed is not created again by the next application, which says why."""
    manager = await manager_of(rig, "CA", await secrets_of(rig))
    listed = await rig.client.get("/v1/partners/CA/endpoints", headers=manager)
    for endpoint in listed.json()["items"]:
        newest = (await rig.client.get("/v1/partners/CA/endpoints", headers=manager)).headers["ETag"]
        removed = await rig.client.delete(
            f"/v1/partners/CA/endpoints/{endpoint['id']}", headers={**manager, "If-Match": newest}
        )
        assert removed.status_code == 200
    answer = await rig.apply()
    assert {(one["kind"], one["reason"]) for one in answer.json()["left_alone"]} == {("endpoint", "removed")}
    assert (await rig.client.get("/v1/partners/CA/endpoints", headers=manager)).json()["items"] == []


async def test_a_mistake_anywhere_applies_nothing(rig: Rig) -> None:
    """One wrong key among eleven partners refuses the file whole; the problem names file, line and key."""
    wrong = network_text().replace('name = "Germany"', 'nmae = "Germany"')
    line = wrong[: wrong.index("nmae")].count("\n") + 1
    answer = await rig.apply(wrong, filename="ours.toml")
    problem = answer.json()
    assert (answer.status_code, problem["code"]) == (422, "invalid_network_file")
    assert "nothing was applied" in problem["detail"]
    assert any(
        error["field"] == "partners.DE.nmae" and f"ours.toml, line {line}:" in error["detail"]
        for error in problem["errors"]
    )
    assert [await rig.count(table) for table in ("partners", "outbox", "record", "seeded_hashes")] == [0, 0, 0, 0]


async def test_the_installation_is_no_partner(rig: Rig) -> None:
    """`ZZ` stands for services and administrators, so no file can make it a partner."""
    answer = await rig.apply(network_text().replace("partners.DE", "partners.ZZ"))
    assert answer.status_code == 422
    assert any(error["field"] == "partners.ZZ" for error in answer.json()["errors"])


@pytest.mark.parametrize("role", [Role.DUTY_OFFICER, Role.SECRETARIAT, Role.OBSERVER, Role.AUDITOR])
async def test_only_administrators_and_roster_managers_apply(rig: Rig, role: Role) -> None:
    """Nobody else applies a network file, whatever else they may do."""
    somebody = Principal("x", "x", "XR", frozenset({role}), PrincipalKind.PERSON, "X")
    with pytest.raises(Forbidden):
        await handlers.apply_network(
            rig.deps,
            somebody,
            network_text(),
            "network.toml",
            dry_run=False,
            cause=Cause(correlation_id=rig.deps.ids.new()),
        )
    assert await rig.count("partners") == 0


async def test_two_applications_at_once_create_once(rig: Rig) -> None:
    """Two operators who apply the same file at the same moment create each thing once, and one of them every secret."""

    async def apply() -> Any:
        # Whoever has waited a second for the other is asked to come again.
        while (answer := await rig.apply()).status_code == 503:
            pass
        return answer

    answers = await asyncio.gather(apply(), apply())
    assert sorted(len(answer.json()["created"]) for answer in answers) == [0, 508]
    assert sorted(len(answer.json()["secrets"]) for answer in answers) == [0, 56]


async def test_an_update_keeps_what_a_file_cannot_say(rig: Rig) -> None:
    """An update by file keeps verifications, secrets and revocations; an address that changes is unverified again."""
    secrets = await secrets_of(rig)
    async with rig.database.transaction() as tx:
        await tx.execute(text("UPDATE contact_points SET verified_at = :at"), {"at": rig.clock.now()})
    changed = network_text().replace('label = "Duty desk"', 'label = "Desk"').replace("+12025550181", "+12025550182")
    changed = changed.replace('roles = ["drafter"]', 'roles = ["drafter", "observer"]')
    answer = await rig.apply(changed)
    assert answer.json()["secrets"] == []
    rows = await rig.rows(
        "SELECT label, count(*) FILTER (WHERE verified_at IS NULL) AS lost FROM contact_points"
        " WHERE label = 'Desk' GROUP BY label"
    )
    assert [row.lost for row in rows] == [1]
    for client_id, secret in secrets.items():
        await rig.sign_in(client_id, secret)


# --- identity ---------------------------------------------------------------------------------------------------------


async def test_each_secret_works_and_is_kept_as_a_hash(rig: Rig) -> None:
    """Every secret buys a token at roster itself at once, and stands in no table, whole or in part."""
    secrets = await secrets_of(rig)
    assert len(secrets) == 56
    for client_id, secret in secrets.items():
        answer = await rig.client.post(
            "/v1/tokens",
            data={"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret},
        )
        assert answer.status_code == 200, answer.text
    kept = await rig.dump()
    assert not any(secret in kept or secret.removeprefix("rps_") in kept for secret in secrets.values())


async def test_a_revocation_acts_at_once(rig: Rig) -> None:
    """A revoked credential buys no token, the tokens that it bought are refused, and all other services are told."""
    secrets = await secrets_of(rig)
    manager = await manager_of(rig, "CA", secrets)
    published = await rig.credentials("CA")
    client_id = next(one.client_id for one in published.credentials if Role.DUTY_OFFICER in one.roles)
    officer = await rig.sign_in(client_id, secrets[client_id])
    assert (await rig.client.get("/v1/partners", headers=officer)).status_code == 200
    answer = await rig.client.post(f"/v1/partners/CA/credentials/{client_id}/revocation", headers=manager)
    assert answer.status_code == 200, answer.text
    refused = await rig.client.get("/v1/partners", headers=officer)
    assert (refused.status_code, refused.json()["code"]) == (401, "credential_revoked")
    with pytest.raises(Unauthenticated):
        await rig.sign_in(client_id, secrets[client_id])
    told = {one.client_id: one for one in (await rig.credentials("CA")).credentials}[client_id]
    assert (told.revoked_at, told.version) == (rig.clock.now(), 2)
    again = await rig.client.post(f"/v1/partners/CA/credentials/{client_id}/revocation", headers=manager)
    assert again.json()["version"] == 2


# --- what stays closed ------------------------------------------------------------------------------------------------


async def test_addresses_are_nowhere_in_clear(rig: Rig, capsys: pytest.CaptureFixture[str]) -> None:
    """No number, address or URL of a contact point stands in any table, event, record or log line."""
    await rig.apply()
    await rig.publish_plans()
    addresses = set(re.findall(r'(?:address|url) = "(.+?)"', network_text()))
    assert len(addresses) > 100
    kept = await rig.dump() + capsys.readouterr().out
    assert [address for address in addresses if address in kept] == []


async def test_sealed_addresses_open_with_escalations_key_alone(rig: Rig) -> None:
    """Escalation opens each address of plan and partner by the point's own id; roster's own ring opens none."""
    await rig.apply()
    await rig.publish_plans()
    plan, changed = await rig.plan("CA"), await rig.changed("CA")
    assert plan.office is not None
    assert changed.office is not None
    points = [*plan.office.points, *changed.office.points, *(p for contact in plan.contacts for p in contact.points)]
    opened = [rig.keys.unseal(point.sealed_address, context=point_context(point.id)) for point in points]
    opened += [
        rig.keys.unseal(e.sealed_url, context=point_context(e.id)) for e in (*plan.endpoints, *changed.endpoints)
    ]
    assert opened
    assert all(f'"{address}"' in network_text() for address in opened)
    assert all(key.private is None for key in rig.deps.keys.sealing_keys)
    with pytest.raises(CannotOpen):
        rig.deps.keys.unseal(points[0].sealed_address, context=point_context(points[0].id))


async def test_the_record_says_what_changed_and_no_name(rig: Rig) -> None:
    """An edit records its fields and the values before and after that are not personal, and who did it."""
    manager = await manager_of(rig, "CA", await secrets_of(rig))
    contact_id = await rename_contact(rig, manager, "CA", "Director of watch")
    (row,) = await rig.rows("SELECT * FROM record WHERE kind = 'contact.changed'")
    assert (str(row.object_id), row.partner, row.subject_partner) == (contact_id, "CA", "CA")
    assert row.data["fields"] == ["title"]
    assert row.data["after"] == {"title": "Director of watch"}
    names = set(re.findall(r'\[partners\.\w+\.contacts\.[\w-]+\]\nname = "(.+?)"', network_text()))
    recorded = str(await rig.rows("SELECT data::text FROM record"))
    assert len(names) > 20
    assert [name for name in names if name in recorded] == []


# --- the bus ----------------------------------------------------------------------------------------------------------


def failing(point: Any, rig: Rig, failures: int = 3) -> ContactPointFailing:
    """Escalation's news that a point of Canada fails."""
    return ContactPointFailing(
        contact_point_id=point,
        partner="CA",
        channel=ChannelName.WEBHOOK,
        failures=failures,
        reason="timeout",
        since_at=rig.clock.now(),
    )


async def shown_failing(rig: Rig, headers: dict[str, str]) -> list[Any]:
    """What the owner sees of the health of its endpoints."""
    listed = await rig.client.get("/v1/partners/CA/endpoints", headers=headers)
    return [endpoint["failing"] for endpoint in listed.json()["items"]]


async def test_a_failing_endpoint_is_shown_to_its_owner_until_it_recovers(rig: Rig) -> None:
    """The mark comes with the news, goes with the recovery, comes back for no second copy and for no late news."""
    manager = await manager_of(rig, "CA", await secrets_of(rig))
    endpoint = (await rig.stored("CA")).endpoints[0].id
    first = rig.message(failing(endpoint, rig))
    await handlers.on_contact_point_failing(rig.deps, first)
    await handlers.on_contact_point_failing(rig.deps, first)
    assert [one["failures"] for one in await shown_failing(rig, manager) if one] == [3]
    late = rig.message(failing(endpoint, rig, 4))
    rig.clock.advance(10)
    recovered = ContactPointRecovered(
        contact_point_id=endpoint, partner="CA", channel=ChannelName.WEBHOOK, recovered_at=rig.clock.now()
    )
    await handlers.on_contact_point_recovered(rig.deps, rig.message(recovered))
    await handlers.on_contact_point_failing(rig.deps, late)
    assert [one for one in await shown_failing(rig, manager) if one] == []
    kinds = await rig.rows("SELECT kind FROM record WHERE kind LIKE 'contact_point.%ing' OR kind LIKE '%.recovered'")
    assert sorted(row.kind for row in kinds) == ["contact_point.failing", "contact_point.recovered"]


async def test_news_about_unknown_points_is_passed_over(rig: Rig) -> None:
    """A point that nobody has, or that belongs to another partner, is no reason for a dead letter or a row."""
    await rig.apply()
    foreign = (await rig.stored("US")).endpoints[0].id
    for point in (rig.deps.ids.new(), foreign):
        await handlers.on_contact_point_failing(rig.deps, rig.message(failing(point, rig)))
    assert await rig.count("point_health") == 0


# --- hostile files ----------------------------------------------------------------------------------------------------


async def test_a_file_that_takes_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading ends when its seconds are over, with a refusal that says what to do; the process goes on working."""
    monkeypatch.setattr(worker, "READ_SECONDS_MAX", 0.05)
    hostile = "".join(f"[partners.CA.contacts.c{number}]\nname = 1\n" for number in range(60_000))
    with pytest.raises(Invalid) as refused:
        await read(WORKER, hostile[:FILE_CHARACTERS_MAX], "hostile.toml", policy=PUBLIC, chat_schemas=SCHEMAS_DEFAULT)
    assert refused.value.code == "network_file_too_costly"
    monkeypatch.setattr(worker, "READ_SECONDS_MAX", 10.0)
    assert (await read(WORKER, network_text(), "network.toml", policy=PUBLIC, chat_schemas=SCHEMAS_DEFAULT)).items


async def test_a_worker_that_dies_is_replaced() -> None:
    """What it was at is answered `Unavailable`; the next task finds a new process."""
    own = Worker()
    try:
        with pytest.raises(Unavailable):
            await own.run(5, os.abort)
        assert await own.run(5, os.getppid) == os.getpid()
        assert await own.run(5, signal.getsignal, signal.SIGINT) == signal.SIG_IGN
    finally:
        await own.stop()


async def test_a_worker_of_two_processes_does_two_things_at_once(tmp_path: Path) -> None:
    """Each end of a pipe waits until the other one is opened, so one process alone would never come to the second."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    own = Worker(processes=2)
    try:
        ends = [own.run(30, os.open, pipe, flags) for flags in (os.O_RDONLY, os.O_WRONLY)]
        assert all(end >= 0 for end in await asyncio.gather(*ends))
    finally:
        await own.stop()


ORPHAN = """
import asyncio, os, sys
from services.roster.worker import Worker

async def main():
    worker = Worker()
    print(await worker.run(10, os.getpid), flush=True)
    sys.stdin.read()

if __name__ == "__main__":
    asyncio.run(main())
"""


async def test_a_worker_ends_with_its_parent(tmp_path: Path) -> None:
    """When the service is killed, its workers end by themselves: no process and no memory stays behind."""
    script = tmp_path / "service.py"
    script.write_text(ORPHAN)
    root = Path(__file__).parents[3]
    parent = await asyncio.create_subprocess_exec(
        sys.executable, script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root, env={"PYTHONPATH": str(root)}
    )
    assert parent.stdout is not None
    orphan = psutil.Process(int(await asyncio.wait_for(parent.stdout.readline(), 20)))
    parent.kill()
    await parent.wait()
    gone, _ = await asyncio.to_thread(psutil.wait_procs, [orphan], timeout=10)
    assert gone == [orphan]


async def test_plans_carry_new_deadlines(rig: Rig) -> None:
    """The network's table is written by an administrator and reaches every partner's next plan."""
    await rig.apply()
    await rig.publish_plans()
    rig.clock.advance(60)
    table = await rig.client.get("/v1/deadlines", headers=rig.administrator())
    quick = {**table.json()["deadlines"]["FLASH"], "unreached_after_seconds": 1200}
    answer = await rig.client.put(
        "/v1/deadlines",
        json={"deadlines": {"FLASH": quick}},
        headers={**rig.administrator(), "If-Match": table.headers["ETag"]},
    )
    assert answer.status_code == 200, answer.text
    await rig.publish_plans()
    for partner in ("CA", "XR"):
        plan = await rig.plan(partner)
        assert (plan.plan_version, plan.deadlines[Precedence.FLASH].unreached_after_seconds) == (2, 1200)
