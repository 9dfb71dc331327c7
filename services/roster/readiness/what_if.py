"""What a change to a roster would bring about, and what it would set right. Pure: for previews."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime

from services.roster.domain import PartnerState
from services.roster.readiness.checks import findings_of
from services.roster.readiness.findings import Facts, Finding
from services.roster.readiness.telling import news
from services.roster.what_if import Preview, ahead


@dataclass(frozen=True, slots=True)
class FindingsChanged:
    """`new` holds what would not be found without the change, or would be less bad; `resolved` what would be gone."""

    new: tuple[Finding, ...]
    resolved: tuple[Finding, ...]


def findings_changed(before: PartnerState, after: PartnerState, facts: Facts, now: datetime) -> FindingsChanged:
    """Compares the coming 14 days as they are with what they would be."""
    was, would_be = findings_of(before, facts, now), findings_of(after, facts, now)
    return FindingsChanged(
        new=tuple(finding for finding, _ in news(would_be, was, None)),
        resolved=tuple(one for one in was if not any(one.is_same(other) for other in would_be)),
    )


def previewed(before: PartnerState, after: PartnerState, facts: Facts, now: datetime) -> Preview:
    """What a change would do to the coming days: who is on duty, and what readiness would find of it."""
    changed = findings_changed(before, after, facts, now)
    return replace(ahead(before, after, now), findings_new=changed.new, findings_resolved=changed.resolved)
