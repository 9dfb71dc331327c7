"""Trouble with a database, as callers see it."""

from __future__ import annotations

import asyncpg
import pytest

from shared.db import Database
from shared.errors import Unavailable
from tests.support.cluster import Cluster


@pytest.mark.parametrize("lost", [asyncpg.InterfaceError("connection is closed"), asyncpg.InternalClientError("state")])
async def test_a_connection_that_is_lost_within_the_driver_is_no_bug_of_ours(cluster: Cluster, lost: Exception) -> None:
    """Killed in the middle of a step, the server leaves the driver in a state of its own: the caller tries again."""
    async with cluster.clone("alerting") as clone:
        database = Database(clone.url)
        with pytest.raises(Unavailable) as refused:
            async with database.statement():
                raise lost
        assert refused.value.code == "database_unavailable"
        await database.close()
