"""The OpenAPI document of the three services in one process, made without any server."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import orjson

from shared.clock import ManualClock
from shared.hosting import host
from shared.ids import Ids, SeededBits
from shared.keys import KeyRing
from shared.settings import SERVICES
from tests.support.memory_bus import MemoryBroker, MemoryBus
from tests.support.world import STARTED_AT, settings_for


def build_document() -> dict[str, Any]:
    """The document as `redphone up` serves it, but for the address of its server."""
    clock = ManualClock(STARTED_AT)
    broker = MemoryBroker(clock)
    settings = settings_for({name: f"postgresql://nobody@nowhere/{name}" for name in SERVICES}, Path("nowhere"))
    settings = settings.model_copy(update={"public_url": None})
    services = [
        importlib.import_module(f"services.{name}.app").build(
            settings,
            clock=clock,
            ids=Ids(clock.now, SeededBits(1)),
            bus=MemoryBus(clock, broker=broker),
            keys=KeyRing.generate(),
        )
        for name in SERVICES
    ]
    document: dict[str, Any] = host(services).openapi()
    return document


def rendered(document: dict[str, Any]) -> str:
    """The document as it is committed."""
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n"
