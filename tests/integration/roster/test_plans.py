from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from sqlalchemy import text

from services.roster import plans, store
from services.roster import worker as worker_module
from services.roster.changes import changes
from services.roster.worker import Worker, compute_plans, compute_sealed
from shared.contracts import DutyPlanPublished, Role
from shared.errors import Unavailable
from shared.keys import KeyRing, point_context
from shared.security import Principal, PrincipalKind
from tests.support.cluster import Cluster
from tests.support.roster_rig import Rig, applied, roster_rig


@pytest_asyncio.fixture
async def rig(cluster: Cluster) -> AsyncIterator[Rig]:
    """The service with the shipped network and a plan of every partner."""
    async with roster_rig(cluster, after=published) as made:
        yield made


async def published(rig: Rig) -> None:
    """The shipped network is known, and so are the plans of its partners."""
    await applied(rig)
    await rig.publish_plans()


async def manager(rig: Rig, partner: str = "CA") -> dict[str, str]:
    """The headers of a partner's roster manager, by a credential that is there."""
    published = await rig.credentials(partner)
    found = next(one for one in published.credentials if Role.ROSTER_MANAGER in one.roles)
    return rig.headers(
        Principal(
            found.subject,
            found.client_id,
            partner,
            frozenset(found.roles),
            PrincipalKind(found.kind.value),
            found.name,
            found.contact_id,
            found.version,
        )
    )


async def override_first_rota(rig: Rig, partner: str = "CA") -> tuple[Any, Any]:
    """Puts the partner's last contact on call in its first rota for a day; the rota's and the contact's ids."""
    state = await rig.stored(partner)
    rota, contact = state.rotas[0], state.contacts[-1]
    answer = await rig.client.post(
        f"/v1/partners/{partner}/rotas/{rota.id}/overrides",
        json={
            "contact_id": str(contact.id),
            "start_at": (rig.clock.now() + timedelta(hours=1)).isoformat(),
            "end_at": (rig.clock.now() + timedelta(hours=25)).isoformat(),
        },
        headers=await manager(rig, partner),
    )
    assert answer.status_code == 201, answer.text
    return rota.id, contact.id


async def test_every_partner_has_a_plan_of_fourteen_days(rig: Rig) -> None:
    """The first plans are number one, whole, and valid for 14 days from their computation."""
    published = await rig.events(DutyPlanPublished)
    assert len(published) == 11
    for plan in published:
        assert (plan.plan_version, plan.valid_until - plan.computed_at) == (1, timedelta(days=14))
        assert plan.office is not None
        assert len(plan.levels) >= 2
        assert plan.rotas[0].shifts
    assert await rig.count("record WHERE kind = 'duty_plan.published'") == 11


async def test_a_shift_change_is_published(rig: Rig) -> None:
    """An override is in the partner's next plan, whose number counts up; no other partner gets a new one."""
    rota_id, contact_id = await override_first_rota(rig)
    await rig.publish_plans()
    plan = await rig.plan("CA")
    (rota,) = [rota for rota in plan.rotas if rota.id == rota_id]
    (shift,) = [shift for shift in rota.shifts if shift.start_at <= rig.clock.now() + timedelta(hours=2) < shift.end_at]
    assert (plan.plan_version, shift.contact_id) == (2, contact_id)
    assert len(await rig.events(DutyPlanPublished)) == 12


async def test_a_change_that_was_committed_before_a_crash_gets_its_plan(rig: Rig) -> None:
    """The wish for a plan is in the change's own transaction: whoever starts next finds it without being woken."""
    await override_first_rota(rig)
    (row,) = await rig.rows("SELECT plan_due_at, plan_version FROM partners WHERE code = 'CA'")
    assert (row.plan_due_at, row.plan_version) == (rig.clock.now(), 1)
    assert await plans.publish_plans(rig.deps) == 1
    assert (await rig.plan("CA")).plan_version == 2


async def test_plans_are_renewed_each_day(rig: Rig) -> None:
    """Nothing is published for a day; then every plan is, so that none ever holds for less than 13 days."""
    rig.clock.advance(24 * 3600 - 1)
    assert await plans.publish_plans(rig.deps) == 0
    rig.clock.advance(1)
    await rig.publish_plans()
    assert len(await rig.events(DutyPlanPublished)) == 22
    plan = await rig.plan("NZ")
    assert plan.valid_until == rig.clock.now() + timedelta(days=14)


async def test_one_failing_partner_stops_no_other(rig: Rig) -> None:
    """A partner whose plan cannot be computed keeps its old one, is reported, and is tried again a minute later."""
    async with rig.database.transaction() as tx:
        (kept,) = await tx.execute(text("SELECT encrypted_address FROM contact_points WHERE partner = 'AU' LIMIT 1"))
        await tx.execute(
            text("UPDATE contact_points SET encrypted_address = 'ar1.x.y', sealing_key = NULL WHERE partner = 'AU'")
        )
    rig.clock.advance(24 * 3600)
    await rig.publish_plans()
    assert len(await rig.events(DutyPlanPublished)) == 21
    assert (await rig.plan("AU")).plan_version == 1
    assert await plans.plan_troubles(rig.deps) == ["the duty plan cannot be computed, and the old one holds: AU"]
    rig.clock.advance(59)
    assert await plans.publish_plans(rig.deps) == 0
    rig.clock.advance(1)
    assert await plans.publish_plans(rig.deps) == 1
    rig.clock.advance(2 * 24 * 3600)
    await rig.publish_plans()
    assert "the duty plan was not renewed: AU" in await plans.plan_troubles(rig.deps)
    assert kept.encrypted_address.startswith("ar1.")


async def test_a_mended_partner_is_reported_no_more(rig: Rig) -> None:
    """The first plan after a failure clears the alarm."""
    async with rig.database.transaction() as tx:
        await tx.execute(text("UPDATE partners SET plan_failures = 3, plan_due_at = :now"), {"now": rig.clock.now()})
    assert await plans.plan_troubles(rig.deps) != []
    await rig.publish_plans()
    assert await plans.plan_troubles(rig.deps) == []


class DyingWorker(Worker):
    """Loses its process at the given partner's plan."""

    async def run(self, seconds_max: float, function: Any, *args: Any) -> Any:  # noqa: ARG002 - it computes at once
        if function is compute_plans and any("Australia" in task.document for task in args[0]):
            raise Unavailable("the work was interrupted", code="worker_lost")
        return function(*args)


async def test_a_plan_that_kills_its_process_stops_no_other(rig: Rig) -> None:
    """What kills the computing process counts as that partner's failure, so the others are not behind it for ever."""
    deps = replace(rig.deps, shifts=DyingWorker())
    rig.clock.advance(24 * 3600)
    while await plans.publish_plans(deps):
        pass
    assert len(await rig.events(DutyPlanPublished)) == 21


class ChangingWorker(Worker):
    """Lets something change while a plan is being computed, once."""

    def __init__(self, change: Any) -> None:
        super().__init__()
        self.change = change

    async def run(self, seconds_max: float, function: Any, *args: Any) -> Any:  # noqa: ARG002 - it computes at once
        result = function(*args)
        if function is compute_plans and self.change is not None:
            change, self.change = self.change, None
            await change()
        return result


async def test_a_plan_that_was_overtaken_is_computed_again(rig: Rig) -> None:
    """A change during the computation makes its result void: what is published shows the change."""
    await override_first_rota(rig)
    overtaking = ChangingWorker(lambda: override_first_rota(rig))
    deps = replace(rig.deps, shifts=overtaking)
    await plans.publish_plans(deps)
    assert (await rig.plan("CA")).plan_version == 1
    await plans.publish_plans(deps)
    assert (await rig.plan("CA")).plan_version == 2
    (row,) = await rig.rows("SELECT count(*) AS made FROM overrides")
    assert row.made == 2


async def test_two_replicas_publish_each_plan_once(rig: Rig) -> None:
    """Two processes that find the same plans due publish each number once."""
    rig.clock.advance(24 * 3600)
    await asyncio.gather(plans.publish_plans(rig.deps), plans.publish_plans(rig.deps))
    await rig.publish_plans()
    published = [(plan.partner, plan.plan_version) for plan in await rig.events(DutyPlanPublished)]
    assert len(published) == len(set(published)) == 22


@pytest.mark.parametrize("partner", ["US", "XR"])
async def test_a_plan_names_the_subjects_of_its_people(rig: Rig, partner: str) -> None:
    """Escalation knows by the plan which token belongs to which contact."""
    plan = await rig.plan(partner)
    subjects = {subject for contact in plan.contacts for subject in contact.subjects}
    people = {one.subject for one in (await rig.credentials(partner)).credentials if one.contact_id is not None}
    assert subjects == people
    assert subjects


# --- several plans at once --------------------------------------------------------------------------------------------


class CountingWorker(Worker):
    """Computes at once, and remembers how many plans each task was for."""

    def __init__(self, costly: str | None = None) -> None:
        super().__init__(processes=2)
        self.costly = costly
        self.tasks: list[int] = []
        self.sealed: list[int] = []

    async def run(self, seconds_max: float, function: Any, *args: Any) -> Any:  # noqa: ARG002 - it computes at once
        if function is compute_plans:
            self.tasks.append(len(args[0]))
            if self.costly is not None and any(self.costly in task.document for task in args[0]):
                raise TimeoutError
        if function is compute_sealed:
            self.sealed.append(len(args[0]))
        return function(*args)


async def test_plans_that_are_due_together_are_made_in_groups(rig: Rig) -> None:
    """Eleven partners take two tasks; each plan has an event and a record row of its own, under a cause of its own."""
    worker = CountingWorker()
    rig.clock.advance(24 * 3600)
    assert await plans.publish_plans(replace(rig.deps, shifts=worker)) == 11
    assert sorted(worker.tasks) == [1, 10]
    assert {plan.plan_version for plan in await rig.events(DutyPlanPublished)} == {1, 2}
    causes = await rig.rows(
        "SELECT o.correlation_id FROM outbox o JOIN record r USING (correlation_id)"
        " WHERE o.type = :type AND r.kind = 'duty_plan.published' AND r.partner = o.visible_to[1]"
        " AND (r.data ->> 'plan_version')::int = 2",
        type=DutyPlanPublished.type,
    )
    assert len({row.correlation_id for row in causes}) == 11


async def test_a_costly_partner_is_found_alone(rig: Rig) -> None:
    """A group that takes too long is made again partner by partner: one is put off, ten are published."""
    worker = CountingWorker(costly="Australia")
    rig.clock.advance(24 * 3600)
    await plans.publish_plans(replace(rig.deps, shifts=worker))
    assert sorted(worker.tasks) == [1] * 11 + [10]
    assert len(await rig.events(DutyPlanPublished)) == 21
    assert await plans.plan_troubles(rig.deps) == ["the duty plan cannot be computed, and the old one holds: AU"]


async def test_a_plan_that_is_too_large_stops_no_other(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """What no broker would take is that partner's failure alone."""
    largest = max(await rig.events(DutyPlanPublished), key=lambda plan: len(plan.model_dump_json()))
    monkeypatch.setattr(worker_module, "EVENT_BYTES_MAX", len(largest.model_dump_json()) - 1)
    rig.clock.advance(24 * 3600)
    await plans.publish_plans(replace(rig.deps, shifts=CountingWorker()))
    (failed,) = await rig.rows("SELECT code FROM partners WHERE plan_failures > 0")
    assert failed.code == largest.partner
    assert len(await rig.events(DutyPlanPublished)) == 21


async def test_trouble_of_the_database_is_nobodys_failure(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pass fails and is tried again; no partner is reported."""

    async def unavailable(*_: Any, **__: Any) -> Any:
        raise Unavailable("the database does not answer", code="database_unavailable")

    rig.clock.advance(24 * 3600)
    with monkeypatch.context() as patched:
        patched.setattr(store, "save_plans", unavailable)
        with pytest.raises(Unavailable):
            await plans.publish_plans(rig.deps)
    assert await plans.plan_troubles(rig.deps) == []
    await rig.publish_plans()
    assert len(await rig.events(DutyPlanPublished)) == 22


# --- sealed addresses -------------------------------------------------------------------------------------------------


def opened(plan: DutyPlanPublished, keys: KeyRing) -> set[str]:
    """The addresses of the people of a plan."""
    return {
        keys.unseal(point.sealed_address, context=point_context(point.id))
        for contact in plan.contacts
        for point in contact.points
    }


async def test_an_address_is_sealed_once(rig: Rig) -> None:
    """The next plan carries the same sealed forms; one whose address was edited has a new one, and it opens."""
    first = await rig.plan("CA")
    worker = CountingWorker()
    rig.clock.advance(24 * 3600)
    await plans.publish_plans(replace(rig.deps, shifts=worker))
    assert worker.sealed == []
    assert (await rig.plan("CA")).contacts == first.contacts
    state = await rig.stored("CA")
    contact = state.contacts[0]
    points = (replace(contact.points[0], address="+16135550999"), *contact.points[1:])
    after = replace(state, contacts=(replace(contact, points=points), *state.contacts[1:]))
    async with rig.database.transaction() as tx:
        await store.save_partner(tx, rig.keys, state.partner, changes(state, after), now=rig.clock.now())
    await plans.publish_plans(replace(rig.deps, shifts=worker))
    assert worker.sealed == [1]
    assert "+16135550999" in opened(await rig.plan("CA"), rig.keys)


async def test_another_sealing_key_seals_everything_anew(rig: Rig) -> None:
    """After a change of keys the next plan opens with the new one alone, and what is kept is sealed with it."""
    new = KeyRing.generate()
    keys = replace(rig.keys, sealing_keys=(*new.sealing_keys, *rig.keys.sealing_keys))
    rig.clock.advance(24 * 3600)
    await plans.publish_plans(replace(rig.deps, keys=keys))
    state = await rig.stored("CA")
    addresses = {point.address for contact in state.contacts for point in contact.points}
    assert opened(await rig.plan("CA"), new) == addresses
    kept = await rig.rows(
        "SELECT DISTINCT sealing_key FROM contact_points UNION SELECT DISTINCT sealing_key FROM endpoints"
    )
    assert [row.sealing_key for row in kept] == [keys.sealing_keys[0].id]


async def test_an_address_that_is_edited_while_it_is_sealed_keeps_no_old_form(rig: Rig) -> None:
    """The form of the old address is not kept beside the new one."""
    async with rig.database.transaction() as tx:
        await tx.execute(text("UPDATE contact_points SET sealing_key = NULL, sealed_address = NULL"))
        before = await store.find_unsealed(tx, ["CA"], sealing_key="key")
    async with rig.database.transaction() as tx:
        await tx.execute(
            text("UPDATE contact_points SET encrypted_address = 'other' WHERE id = :id"), {"id": before[0].id}
        )
        await store.save_sealed(tx, [(one, f"sealed {one.id}") for one in before], sealing_key="key")
        assert [one.id for one in await store.find_unsealed(tx, ["CA"], sealing_key="key")] == [before[0].id]
