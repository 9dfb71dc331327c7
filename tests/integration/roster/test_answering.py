"""Who answers at an instant is the same as shifts say, wherever it is computed and however little of it is read."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest_asyncio

from bench.governments import governments
from services.roster import answering, schedule, store
from services.roster.changes import changes
from services.roster.domain import PartnerState
from services.roster.hand_overs.domain import current_change
from services.roster.schedule import CalendarId, Frequency, ImportedShift, ImportedShiftId, Rota, Rotation, Shift
from services.roster.worker import Worker
from shared.ids import derived
from tests.support.cluster import Cluster
from tests.support.roster_rig import NOW, Rig, roster_rig


class NoWorker(Worker):
    """Is never asked."""

    async def run(self, seconds_max: float, function: Any, *args: Any) -> Any:  # noqa: ARG002 - it refuses all
        raise AssertionError(f"{function.__name__} was sent to the worker")


class AskedWorker(Worker):
    """Computes at once, and remembers what it was asked for."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[str] = []

    async def run(self, seconds_max: float, function: Any, *args: Any) -> Any:  # noqa: ARG002 - it computes at once
        self.asked.append(function.__name__)
        return function(*args)


@pytest_asyncio.fixture
async def rig(cluster: Cluster) -> AsyncIterator[Rig]:
    """The service with a government of every kind of rota, and with what a calendar said of one of them."""
    async with roster_rig(cluster) as made:
        (government,) = governments(1, 12, NOW)
        async with made.database.transaction() as tx:
            state = with_imported(government.state)
            await store.save_partner(tx, made.keys, state.partner, changes(None, state), now=NOW)
        yield made


def with_imported(state: PartnerState) -> PartnerState:
    """The state with a shift of two hours each day, for months, from the calendar of its first rota."""
    imported = tuple(
        ImportedShift(
            ImportedShiftId(derived("imported", str(day))),
            CalendarId(derived("calendar")),
            state.contacts[day % len(state.contacts)].id,
            NOW + timedelta(days=day),
            NOW + timedelta(days=day, hours=2),
        )
        for day in range(-60, 60)
    )
    return replace(state, rotas=(replace(state.rotas[0], imported=imported), *state.rotas[1:]))


def slowly(rota: Rota, at: datetime) -> Shift | None:
    """Who is on call, from the shifts of the weeks around."""
    found = schedule.shifts(rota, at - timedelta(days=14), at + timedelta(days=14))
    return next((shift for shift in found if shift.start_at <= at < shift.end_at), None)


async def test_who_answers_is_who_shifts_say(rig: Rig) -> None:
    """At instants all over two months, from what is read for it alone and without the worker: the same shifts."""
    deps = replace(rig.deps, shifts=NoWorker())
    whole = await rig.stored("AA")
    for hours in range(-30 * 24, 30 * 24, 37):
        at = NOW + timedelta(hours=hours)
        state = await answering.find_answering(deps, "AA", at)
        assert state is not None
        found = await answering.who_answers(deps, state.rotas, at)
        for rota, shift in zip(whole.rotas, found, strict=True):
            expected = slowly(rota, at)
            assert (shift is None) == (expected is None)
            if shift is not None and expected is not None:
                assert (shift.contact_id, shift.deputy_id) == (expected.contact_id, expected.deputy_id)
                assert shift == schedule.on_call(rota, at)
        expected_changes = [current_change(rota, at) for rota in whole.rotas if rota.signs_hand_over]
        assert await answering.changes_at(deps, state.rotas, at) == [one for one in expected_changes if one]


async def test_only_what_is_around_is_read(rig: Rig) -> None:
    """Neither contact points nor credentials, and of a year of a calendar some weeks."""
    state = await answering.find_answering(rig.deps, "AA", NOW)
    assert state is not None
    assert not any(contact.points for contact in state.contacts)
    assert state.credentials == ()
    assert 30 < len(state.rotas[0].imported) < 60


async def test_who_is_missing_is_missing(rig: Rig) -> None:
    """A partner that is not there is not made up."""
    assert await answering.find_answering(rig.deps, "ZZ", NOW) is None


async def test_a_costly_rota_is_computed_elsewhere(rig: Rig) -> None:
    """No deadline of this process waits for a rule that has to be counted for decades: the worker is asked."""
    state = await rig.stored("AA")
    rule = Rotation(Frequency.RULE, rule="FREQ=HOURLY;BYMINUTE=0")
    costly = [
        replace(
            rota, layers=(replace(rota.layers[0], rotation=rule, starts_on=date(1990, 1, 1)),), signs_hand_over=True
        )
        for rota in state.rotas[:1]
    ]
    worker = AskedWorker()
    deps = replace(rig.deps, shifts=worker)
    (found,) = await answering.who_answers(deps, costly, NOW)
    await answering.changes_at(deps, costly, NOW)
    assert worker.asked == ["compute_on_call", "compute_changes"]
    assert found == schedule.on_call(costly[0], NOW)


async def test_the_way_over_http_opens_no_address(rig: Rig) -> None:
    """Who answers is shown also where no address could be opened."""
    async with rig.database.transaction() as tx:
        for table, column in ((store.contact_points, "encrypted_address"), (store.endpoints, "encrypted_url")):
            await tx.execute(table.update().values({column: "ar1.x.y"}))
    answer = await rig.client.get("/v1/partners/AA/on-call", headers=rig.administrator())
    assert answer.status_code == 200, answer.text
    assert [len(level["targets"]) for level in answer.json()["levels"]] == [2, 2, 2, 2]
