"""Escalation on a database of its own for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.support.cluster import Cluster
from tests.support.escalation_rig import Rig, escalation_rig


@pytest_asyncio.fixture
async def rig(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Rig]:
    """Escalation as production builds it; time moves when told."""
    async with escalation_rig(cluster, tmp_path) as built:
        yield built
