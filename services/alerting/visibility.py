"""Who may read what of an alert. Pure; `reading.visible` says the same in SQL, and a test compares the two.

A draft is its raiser's alone. A released alert is read by its raiser, by whom it addresses, and at TLP:GREEN and
TLP:CLEAR by everybody in the network. The secretariat sees that every released alert exists, to whom it went and what
became of it, and reads its text unless handling keeps that among those addressed. Whoever runs the installation, audits
the record or keeps a roster reads no alert.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from enum import IntEnum

from services.alerting.domain import Alert, AlertState
from shared.contracts import SECRETARIAT, Role, Tlp

READERS = frozenset({Role.DRAFTER, Role.RELEASER, Role.DUTY_OFFICER, Role.SENIOR_CONTACT})
"""Roles that read what their partner may read."""

COMMUNITY = frozenset({Tlp.GREEN, Tlp.CLEAR})
"""Labels under which every partner and observer may read a released alert."""


class Access(IntEnum):
    """How much of an alert somebody may see; each includes those before it."""

    NONE = 0
    EXISTENCE = 1
    TEXT = 2
    OWN = 3


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who reads: a partner, and the roles of the credential that was used."""

    partner: str
    roles: frozenset[Role]

    @property
    def reads_for_partner(self) -> bool:
        """Whether the viewer reads what their partner raised or received."""
        return not self.roles.isdisjoint(READERS)

    @property
    def is_secretariat(self) -> bool:
        """Whether the viewer watches every released alert. The role counts at partner `XR` only."""
        return Role.SECRETARIAT in self.roles and self.partner == SECRETARIAT

    @property
    def reads_community(self) -> bool:
        """Whether the viewer reads what is for the whole network."""
        return self.reads_for_partner or self.is_secretariat or Role.OBSERVER in self.roles

    @property
    def keys(self) -> tuple[str, ...]:
        """What a timeline row must be visible to, for this viewer to see it."""
        own = (self.partner,) if self.reads_for_partner or self.is_secretariat else ()
        return (*own, "*")


def access(viewer: Viewer, alert: Alert) -> Access:
    """How much of the alert the viewer may see."""
    return access_to(viewer, raiser=alert.raiser, state=alert.state, tlp=alert.content.tlp, addressed=alert.addressed)


def access_to(viewer: Viewer, *, raiser: str, state: AlertState, tlp: Tlp, addressed: Container[str]) -> Access:
    """How much of an alert with these properties the viewer may see."""
    if viewer.reads_for_partner and viewer.partner == raiser:
        return Access.OWN
    if state is AlertState.DRAFT:
        return Access.NONE
    if (viewer.reads_for_partner or viewer.is_secretariat) and viewer.partner in addressed:
        return Access.TEXT
    if viewer.reads_community and tlp in COMMUNITY:
        return Access.TEXT
    if viewer.is_secretariat:
        return Access.EXISTENCE if tlp.link_only else Access.TEXT
    return Access.NONE
