"""Ids that can be made again: the same from the same promise, and UUIDv7 like all others."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from shared.ids import PromisedIds

AT = datetime(2021, 8, 15, 9, 30, 0, 123456, tzinfo=UTC)


@given(seed=st.uuids(), names=st.lists(st.binary(max_size=40), max_size=20, unique=True))
def test_a_promise_gives_the_same_ids_again(seed: UUID, names: list[bytes]) -> None:
    """Whoever goes on after a crash comes to the ids that were told; no two names share one."""
    first, again = PromisedIds(seed, AT), PromisedIds(seed, AT)
    made = [first.of(name) for name in names]
    assert made == [again.of(name) for name in names]
    assert len(set(made)) == len(names)


@given(seed=st.uuids(), other=st.uuids(), name=st.binary(max_size=40))
def test_another_promise_gives_other_ids(seed: UUID, other: UUID, name: bytes) -> None:
    """By its seed and by its instant, of which an id names the millisecond."""
    made = PromisedIds(seed, AT).of(name)
    assert made.version == 7
    assert made.variant == "specified in RFC 4122"
    assert made.int >> 80 == int(AT.timestamp() * 1000)
    assert (PromisedIds(other, AT).of(name) == made) is (seed == other)
    assert PromisedIds(seed, AT + timedelta(milliseconds=1)).of(name) != made
