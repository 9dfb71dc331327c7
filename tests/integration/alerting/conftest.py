from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support.alerting_rig import Rig, alerting_rig
from tests.support.cluster import Cluster


@pytest_asyncio.fixture
async def rig(cluster: Cluster) -> AsyncIterator[Rig]:
    """Alerting on a database of its own."""
    async with alerting_rig(cluster) as made:
        yield made
