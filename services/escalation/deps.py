"""What escalation's handlers and loops need beside what every service has."""

from __future__ import annotations

from dataclasses import dataclass

from services.escalation.directories import Directories
from services.escalation.handover import Senders
from shared.process import Deps


@dataclass(frozen=True, kw_only=True)
class EscalationDeps(Deps):
    """What escalation's handlers need beside what every service has."""

    directories: Directories
    senders: Senders

    def serves(self, partner: str) -> bool:
        """Whether this installation escalates for the partner; a government may run its own node."""
        return self.settings.serves(partner)
