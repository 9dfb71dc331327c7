"""Who is asked while an escalation runs: somebody who is added, somebody whom a new plan brings, and who stops."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from services.escalation import answers
from services.escalation.joining import handlers as asked
from shared.contracts import (
    ChannelName,
    LevelTarget,
    PlannedContact,
    PlannedLevel,
    PlannedRota,
    PlannedShift,
    Precedence,
    Role,
)
from shared.errors import Conflict, Forbidden, Invalid, NotFound
from shared.events import Cause
from shared.ids import derived
from tests.integration.escalation.test_people import URL, plan, somebody
from tests.support.cluster import Cluster
from tests.support.escalation_rig import Rig, escalation_rig, person, system


@pytest_asyncio.fixture
async def rig(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Rig]:
    """Two levels of one person each; a third person is in the plan and on no level."""
    async with escalation_rig(cluster, tmp_path, people=("sms", "voice"), public_url=URL) as built:
        await built.handle(three(built))
        yield built


def three(rig: Rig, *, version: int = 1, first: tuple[int, ...] = (1,), second: tuple[int, ...] = (2,)) -> Any:
    """A plan with persons 1 to 3 and two levels, each a rota that these hold now."""
    people = {number: reached(rig, number) for number in (1, 2, 3)}
    begin, end = rig.clock.now() - timedelta(days=1), rig.clock.now() + timedelta(days=13)
    rotas = tuple(
        PlannedRota(
            id=derived("rota", str(level)),
            name=f"Level {level}",
            shifts=tuple(PlannedShift(contact_id=people[n].id, start_at=begin, end_at=end) for n in holders),
        )
        for level, holders in enumerate((first, second), start=1)
    )
    levels = tuple(PlannedLevel(targets=(LevelTarget(kind="rota", id=rota.id),)) for rota in rotas)
    contacts = tuple(people.values())
    return plan(rig, contacts=contacts, levels=levels, rotas=rotas, plan_version=version, office=None)


def reached(rig: Rig, number: int) -> PlannedContact:
    """A person with SMS at once and voice a minute later."""
    address = f"+4477009001{number:02}"
    points = (rig.point(address, ChannelName.SMS), rig.point(address, ChannelName.VOICE, delay_seconds=60))
    return somebody(rig, number, *points)


def rung(rig: Rig) -> list[str]:
    """Who was reached since the last call, by channel and number of the person."""
    found = sorted(f"{name} {page.target[-1]}" for name, outlet in rig.outlets.items() for page in outlet.sent)
    for outlet in rig.outlets.values():
        outlet.sent.clear()
    return found


def cause(rig: Rig) -> Cause:
    """Somebody's request."""
    return Cause(rig.ids.new())


async def asked_about(rig: Rig, precedence: Precedence = Precedence.FLASH) -> UUID:
    """Great Britain is asked, and the first person's SMS has left."""
    await rig.handle(rig.released("GB", precedence=precedence))
    await rig.settle()
    assert rung(rig) == ["sms 1"]
    found: UUID = (await rig.escalation("GB"))["id"]
    return found


THIRD = derived("contact", "gb-3")


async def test_added_contact_is_paged_at_once_in_their_order(rig: Rig) -> None:
    """Whoever is added is paged at once, on each contact point in its turn; levels and deadlines stay as they were."""
    escalation_id = await asked_about(rig)
    before = await rig.escalation("GB")
    await rig.forward(seconds=90)
    rung(rig)
    await asked.add_contact(rig.deps, person("GB", number=2), escalation_id, THIRD, cause=cause(rig))
    await rig.settle()
    assert rung(rig) == ["sms 3"]
    await rig.forward(seconds=60)
    assert rung(rig) == ["voice 3"]
    after = await rig.escalation("GB")
    assert [(row["level"], row["due_at"], row["state"]) for row in (before, after)] == [
        (1, before["due_at"], "notified")
    ] * 2
    [entry] = await rig.rows("SELECT * FROM record WHERE kind = 'contact.added'")
    assert entry["data"]["contact_id"] == str(THIRD)


async def test_added_twice_is_added_once(rig: Rig) -> None:
    """Adding the same person again pages nobody again, and is no mistake."""
    escalation_id = await asked_about(rig)
    for _ in range(2):
        await asked.add_contact(rig.deps, person("GB"), escalation_id, THIRD, cause=cause(rig))
        await rig.settle()
    assert rung(rig) == ["sms 3"]


async def test_person_who_is_paged_already_is_not_paged_again(rig: Rig) -> None:
    """Adding whoever was paged before sends no second message."""
    escalation_id = await asked_about(rig)
    await asked.add_contact(rig.deps, person("GB"), escalation_id, derived("contact", "gb-1"), cause=cause(rig))
    await rig.settle()
    assert rung(rig) == []


async def test_added_contact_shares_in_repeats_corrections_and_the_end(rig: Rig) -> None:
    """Repeats of the last level, an Update and the end reach the added person like the others."""
    alert = rig.released("GB")
    await rig.handle(alert)
    await rig.settle()
    escalation_id = (await rig.escalation("GB"))["id"]
    await asked.add_contact(rig.deps, person("GB"), escalation_id, THIRD, cause=cause(rig))
    await rig.forward(minutes=14)
    rung(rig)
    await rig.forward(seconds=90)
    assert rung(rig) == ["sms 2", "sms 3"]
    update = rig.update_of(alert)
    await rig.handle(update)
    await rig.settle()
    assert rung(rig) == ["sms 1", "sms 2", "sms 3"]
    await rig.handle(rig.ended(update))
    await rig.settle()
    assert {"sms 1", "sms 2", "sms 3"} <= set(rung(rig))


@pytest.mark.parametrize(
    ("who", "contact", "refusal"),
    [
        ("nobody of them", THIRD, NotFound),
        ("raiser", THIRD, Forbidden),
        ("secretariat", THIRD, Forbidden),
        ("observer", THIRD, NotFound),
        ("drafter", THIRD, Forbidden),
        ("own", derived("contact", "us-1"), Invalid),
    ],
)
async def test_who_may_add_whom(rig: Rig, who: str, contact: UUID, refusal: type[Exception]) -> None:
    """Only whoever may answer for the government that is asked adds somebody, and only of that government's plan."""
    principal = {
        "nobody of them": person("US"),
        "raiser": person("CA"),
        "secretariat": person("XR", Role.SECRETARIAT),
        "observer": person("GB", Role.OBSERVER),
        "drafter": person("GB", Role.DRAFTER),
        "own": person("GB"),
    }[who]
    escalation_id = await asked_about(rig)
    with pytest.raises(refusal):
        await asked.add_contact(rig.deps, principal, escalation_id, contact, cause=cause(rig))
    await rig.settle()
    assert rung(rig) == []


async def test_nobody_is_added_after_the_answer(rig: Rig) -> None:
    """Once the government has answered, or the alert is over, nobody further is rung."""
    escalation_id = await asked_about(rig)
    await answers.acknowledge(rig.deps, person("GB"), escalation_id, contact_id=None, via="api", cause=cause(rig))
    with pytest.raises(Conflict) as refused:
        await asked.add_contact(rig.deps, person("GB"), escalation_id, THIRD, cause=cause(rig))
    assert refused.value.code == "already_answered"


async def test_new_plan_pages_who_comes_to_a_reached_level(rig: Rig) -> None:
    """Whoever a new plan puts on a level that was reached is paged at once; who was paged already is not, nor a level
    that is still to come.
    """
    await asked_about(rig)
    await rig.handle(three(rig, version=2, first=(1, 3)))
    await rig.settle()
    assert rung(rig) == ["sms 3"]
    await rig.handle(three(rig, version=3, first=(3, 1)))
    await rig.settle()
    assert rung(rig) == []
    [entry] = await rig.rows("SELECT * FROM record WHERE kind = 'contact.added'")
    assert entry["data"] == {"contact_ids": [str(THIRD)], "pages": 2, "by": "duty_plan"}


async def test_new_plan_pages_nobody_about_what_is_answered(rig: Rig) -> None:
    """A new plan rings nobody for an alert that the government has acknowledged."""
    escalation_id = await asked_about(rig)
    await answers.acknowledge(rig.deps, person("GB"), escalation_id, contact_id=None, via="api", cause=cause(rig))
    await rig.handle(three(rig, version=2, first=(3,)))
    await rig.settle()
    assert rung(rig) == []


async def test_older_plan_pages_nobody(rig: Rig) -> None:
    """A plan that is older than the one that is known changes nothing."""
    await rig.handle(three(rig, version=7))
    await asked_about(rig)
    await rig.handle(three(rig, version=6, first=(1, 3)))
    await rig.settle()
    assert rung(rig) == []


# --- stopping ---------------------------------------------------------------------------------------------------------


async def test_own_pages_stop_and_the_escalation_goes_on(rig: Rig) -> None:
    """Who stops their pages is not rung by the point that was still to come; the next level is reached in its time."""
    escalation_id = await asked_about(rig)
    before = (await rig.escalation("GB"))["due_at"]
    await asked.stop_pages(rig.deps, person("GB"), escalation_id, cause=cause(rig))
    await rig.forward(seconds=61)
    assert rung(rig) == []
    after = await rig.escalation("GB")
    assert (after["state"], after["due_at"]) == ("notified", before)
    await rig.forward(minutes=9)
    assert rung(rig) == ["sms 2"]
    [entry] = await rig.rows("SELECT * FROM record WHERE kind = 'pages.stopped'")
    assert entry["data"]["contact_id"] == str(derived("contact", "gb-1"))


async def test_repeats_leave_out_who_has_stopped(rig: Rig) -> None:
    """The last level repeats without whoever stopped; where nobody is left there, whoever else was asked is."""
    escalation_id = await asked_about(rig)
    await rig.forward(minutes=10)
    rung(rig)
    await asked.stop_pages(rig.deps, person("GB", number=2), escalation_id, cause=cause(rig))
    await rig.forward(minutes=5)
    assert rung(rig) == ["sms 1"]
    assert (await rig.escalation("GB"))["gaps"] == []


@pytest.mark.logs_error("duty_plan.lacking")
async def test_everybody_stopping_ends_in_takeover(rig: Rig) -> None:
    """Where everybody has stopped, nothing is answered: the partner becomes unreached in its time and people hear."""
    escalation_id = await asked_about(rig)
    for number in (1, 2):
        await asked.stop_pages(rig.deps, person("GB", number=number), escalation_id, cause=cause(rig))
    await rig.forward(minutes=31)
    assert (await rig.escalation("GB"))["state"] == "unreached"
    assert rung(rig) == []


async def test_stopped_twice_is_stopped_once(rig: Rig) -> None:
    """Stopping again changes nothing and is no mistake; somebody who has stopped is not added again."""
    escalation_id = await asked_about(rig)
    for _ in range(2):
        await asked.stop_pages(rig.deps, person("GB"), escalation_id, cause=cause(rig))
    assert len(await rig.rows("SELECT * FROM record WHERE kind = 'pages.stopped'")) == 1
    with pytest.raises(Conflict) as refused:
        await asked.add_contact(
            rig.deps, person("GB", number=2), escalation_id, derived("contact", "gb-1"), cause=cause(rig)
        )
    assert refused.value.code == "pages_stopped"


async def test_only_a_person_stops_their_own(rig: Rig) -> None:
    """Neither a system nor another government stops anybody's pages."""
    escalation_id = await asked_about(rig)
    for principal, refusal in ((system("GB"), Forbidden), (person("CA"), Forbidden), (person("US"), NotFound)):
        with pytest.raises(refusal):
            await asked.stop_pages(rig.deps, principal, escalation_id, cause=cause(rig))
    await rig.forward(seconds=60)
    assert rung(rig) == ["voice 1"]


async def test_who_has_stopped_still_hears_the_end(rig: Rig) -> None:
    """That the alert is over is told to everybody who was paged."""
    alert = rig.released("GB")
    await rig.handle(alert)
    await rig.settle()
    rung(rig)
    escalation_id = (await rig.escalation("GB"))["id"]
    await asked.stop_pages(rig.deps, person("GB"), escalation_id, cause=cause(rig))
    await rig.handle(rig.ended(alert))
    await rig.settle()
    assert rung(rig) == ["sms 1"]
