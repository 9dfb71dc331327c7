"""What every test may ask for: the real servers of this session. What every test must keep: no unannounced ERROR."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Iterator, MutableMapping
from typing import Any

import pytest
import pytest_asyncio
import structlog
from hypothesis import settings

from tests.support.cluster import Cluster

# Everyday runs draw the same examples each time, so that a red run is about the change; `make search` draws others.
settings.register_profile("everyday", derandomize=True)
settings.register_profile("search", max_examples=2000, deadline=None)
settings.load_profile("everyday")


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def cluster() -> AsyncIterator[Cluster]:
    """PostgreSQL and NATS, started when the first test of this session asks for them."""
    servers = Cluster()
    await servers.start()
    yield servers
    await servers.stop()


@pytest.fixture(autouse=True)
def only_announced_errors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the test on a log line at ERROR (a person must act now) unless `logs_error` announces it."""
    announced = {event for marker in request.node.iter_markers("logs_error") for event in marker.args}
    unannounced: list[str] = []

    def note(event: str) -> None:
        if event not in announced:
            unannounced.append(event)

    def note_structured(_logger: object, method: str, entry: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if method in {"error", "exception", "critical"}:
            note(str(entry.get("event")))
        return entry

    class Noting(logging.Handler):
        """Sees what libraries log, for example asyncio of a task whose exception nobody took."""

        def emit(self, record: logging.LogRecord) -> None:
            note(record.getMessage())

    handler = Noting(logging.ERROR)
    logging.getLogger().addHandler(handler)
    processors = structlog.get_config()["processors"]
    structlog.configure(processors=[note_structured, *processors])
    yield
    structlog.configure(processors=processors)
    logging.getLogger().removeHandler(handler)
    assert unannounced == [], "logged at ERROR; if that is right here, announce it: @pytest.mark.logs_error(<event>)"
