"""Fixtures of the contract tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from tests.support.bus_rig import Logs, MemoryRig, NatsRig, Rig, running_nats_rig


@pytest.fixture
async def nats_rig(tmp_path: Path) -> AsyncIterator[NatsRig]:
    """For the cases that only a real server can have."""
    async with running_nats_rig(tmp_path) as rig:
        yield rig


@pytest.fixture(params=["memory", "nats"])
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    """Each case runs on both."""
    if request.param == "nats":
        async with running_nats_rig(tmp_path) as real:
            yield real
        return
    memory = MemoryRig()
    yield memory
    await memory.close()


@pytest.fixture(autouse=True)
def logs() -> Iterator[Logs]:
    """Everything that was logged; tests look for errors with `errors_of`."""
    with structlog.testing.capture_logs() as captured:
        yield captured
