"""Which service handles which events: the design's table, and what the services' handlers say."""

from __future__ import annotations

import importlib
import importlib.util

from shared import contracts
from shared.events import Event

CONSUMES: dict[str, tuple[type[Event], ...]] = {
    "alerting": (
        contracts.PartnerChanged,
        contracts.CredentialsPublished,
        contracts.EscalationsStarted,
        contracts.PartnerNotified,
        contracts.LevelRaised,
        contracts.PartnerAcknowledged,
        contracts.PositionTaken,
        contracts.PartnerUnreached,
        contracts.PartnerTakenOver,
        contracts.EscalationsEnded,
    ),
    "escalation": (
        contracts.AlertReleased,
        contracts.AlertEnded,
        contracts.DutyPlanPublished,
        contracts.PartnerChanged,
        contracts.CredentialsPublished,
        contracts.PartnerUnreached,
    ),
    "roster": (contracts.ContactPointFailing, contracts.ContactPointRecovered),
}


def handled_by(service: str) -> tuple[type[Event], ...] | None:
    """Keys of `SUBSCRIPTIONS` in the service's handlers, or None while it has none."""
    name = f"services.{service}.handlers"
    if importlib.util.find_spec(name) is None:
        return None
    subscriptions = getattr(importlib.import_module(name), "SUBSCRIPTIONS", None)
    return None if subscriptions is None else tuple(subscriptions)
