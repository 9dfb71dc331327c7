"""Seeds of the simulation: what holds in each of them, that one seed is one trace, and that planted faults show."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from services.escalation import delivery, domain, store
from shared import inbox, record
from shared.ids import Ids, PromisedIds
from shared.outbox import Relay
from tests.simulation.simulator import Arena, Failed, arena, play
from tests.support.cluster import Cluster
from tests.support.world import STARTED_AT

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]

SEEDS = range(1, 21)
SEEDS_PLAYED_TWICE = (3, 8)
SEEDS_TO_FIND_A_FAULT = 40


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ground(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Arena]:
    """The databases in which all seeds of this file play."""
    async with arena(cluster, Path(tmp_path_factory.mktemp("simulation"))) as made:
        yield made


@pytest.mark.parametrize("seed", SEEDS)
async def test_every_promise_holds_in(seed: int, ground: Arena) -> None:
    """Safety after every step under faults; liveness, and a replay without effect, once the faults are over."""
    await play(ground, seed)


@pytest.mark.parametrize("seed", SEEDS_PLAYED_TWICE)
async def test_one_seed_is_one_trace(seed: int, ground: Arena) -> None:
    """The same seed takes the same steps with the same results, so that a failure can be looked at again."""
    assert await play(ground, seed) == await play(ground, seed)


# --- an invariant that cannot fail protects nobody --------------------------------------------------------------------


def pages_go_on_after_the_answer(patch: pytest.MonkeyPatch) -> None:
    """The acknowledgement does not end the pages that wait."""

    async def forgotten(*_arguments: object, **_options: object) -> None:
        return None

    patch.setattr(store, "end_pages", forgotten)


def late_pages_are_not_looked_at_again(patch: pytest.MonkeyPatch) -> None:
    """A leased page starts late without a second look at its escalation."""

    async def wanted(_self: delivery.Delivery, _page_id: UUID) -> bool:
        return True

    patch.setattr(delivery.Delivery, "_still_wanted", wanted)


def nobody_is_given_an_interval(patch: pytest.MonkeyPatch) -> None:
    """Unreached comes at its time, however late the first page was."""
    patch.setattr(domain, "_grace_until", lambda *_arguments: None)


def the_record_names_nobody(patch: pytest.MonkeyPatch) -> None:
    """The record has its rows, and none of them says what it is about."""
    row_of = record.row_of

    def nameless(*arguments: Any, **options: Any) -> dict[str, Any]:
        return {**row_of(*arguments, **options), "object_id": None, "data": {}}

    patch.setattr(record, "row_of", nameless)


def events_are_marked_and_not_published(patch: pytest.MonkeyPatch) -> None:
    """Whoever has just committed is told that the broker has it, and the broker has nothing."""

    async def lost(self: Relay, messages: Any) -> None:
        self._confirmed |= {message.id for message in messages}

    patch.setattr(Relay, "publish", lost)


def timers_forget_what_is_due(patch: pytest.MonkeyPatch) -> None:
    """The timers do not find escalations that have reached the second level."""
    load_due = store.load_due

    async def first_only(tx: Any, now: Any, limit: int) -> Any:
        found = await load_due(tx, now, limit)
        return [escalation for escalation in found if escalation.level < 2]

    patch.setattr(store, "load_due", first_only)


def messages_are_handled_twice(patch: pytest.MonkeyPatch) -> None:
    """The inbox takes every copy for the first."""

    async def accept(*_arguments: object, **_options: object) -> bool:
        return True

    patch.setattr(inbox, "accept", accept)


def a_promise_gives_other_ids(patch: pytest.MonkeyPatch) -> None:
    """Whoever goes on with what was begun before a crash makes ids of its own."""
    others = Ids(lambda: STARTED_AT)
    patch.setattr(PromisedIds, "of", lambda _self, _name: others.new())


@pytest.mark.parametrize(
    ("plant", "invariants", "seed"),
    [
        (pages_go_on_after_the_answer, {"I3"}, 1),
        (late_pages_are_not_looked_at_again, {"I3"}, 1),
        # Few stories hold a rota with a gap at the right moment: the search begins near one.
        (nobody_is_given_an_interval, {"unreached"}, 20),
        (the_record_names_nobody, {"I9"}, 1),
        (events_are_marked_and_not_published, {"I1", "I2", "I6", "agree"}, 1),
        (timers_forget_what_is_due, {"I2"}, 1),
        (messages_are_handled_twice, {"I7", "pages", "I9"}, 1),
        # Few stories hold a death between a page that has left and its row.
        (a_promise_gives_other_ids, {"stored"}, 27),
    ],
)
async def test_a_planted_fault_is_found(
    plant: Callable[[pytest.MonkeyPatch], None],
    invariants: set[str],
    seed: int,
    ground: Arena,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each of these faults breaks the promise that names it within a few seeds."""
    plant(monkeypatch)
    found = await first_failure(ground, range(seed, seed + SEEDS_TO_FIND_A_FAULT))
    assert found is not None, f"{SEEDS_TO_FIND_A_FAULT} seeds did not find it"
    assert getattr(found.violated, "invariant", repr(found.violated)) in invariants, str(found)


async def first_failure(ground: Arena, seeds: Iterable[int]) -> Failed | None:
    """The first of these seeds that breaks a promise, or None."""
    for seed in seeds:
        try:
            await play(ground, seed)
        except Failed as failed:
            return failed
    return None
