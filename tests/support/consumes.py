"""Which service handles which events, as the services' own `SUBSCRIPTIONS` say."""

from __future__ import annotations

import importlib
import importlib.util

from shared import contracts
from shared.events import Event

EXPECTED: dict[str, tuple[type[Event], ...]] = {
    "roster": (contracts.ContactPointFailing, contracts.ContactPointRecovered),
}
"""Stands in for a service whose handlers are not there yet."""


def handled_by(service: str) -> tuple[type[Event], ...]:
    """Keys of `SUBSCRIPTIONS` at the end of the service's handlers."""
    name = f"services.{service}.handlers"
    if importlib.util.find_spec(name) is None:
        return EXPECTED[service]
    return tuple(importlib.import_module(name).SUBSCRIPTIONS)


CONSUMES = {service: handled_by(service) for service in ("alerting", "escalation", "roster")}
