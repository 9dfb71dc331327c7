"""What every test may ask for: the real servers of this session."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support.cluster import Cluster


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    """PostgreSQL and NATS, started when the first test of this session asks for them."""
    servers = Cluster()
    await servers.start()
    yield servers
    await servers.stop()
