"""How a process ends."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from shared import hosting


class Stuck:
    """A service that never stops by itself."""

    name = "escalation"

    def __init__(self) -> None:
        self.told = False

    async def stop(self) -> None:
        self.told = True
        await asyncio.Event().wait()


@pytest.mark.logs_error("service.stop_abandoned")
async def test_a_service_that_does_not_stop_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process goes on ending: what was under way is a row, and the next start finds it."""
    monkeypatch.setattr(hosting, "STOP_SECONDS_MAX", 0.01)
    service = Stuck()
    await hosting.stop_in_time(cast("Any", service))
    assert service.told
