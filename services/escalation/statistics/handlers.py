"""What people ask of statistics: how fast partners acknowledged in a period.

Who sees what: the secretariat every partner; a government itself as an addressed partner, and the partners that its own
alerts addressed, in these alerts alone; whoever sees no escalations nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from services.escalation.deps import EscalationDeps
from services.escalation.reading import SEEING_ROLES, sees_escalations
from services.escalation.statistics import store
from services.escalation.statistics.domain import CoverageTally, Period, Sight, Tally, in_order
from shared.contracts import SECRETARIAT
from shared.errors import Forbidden
from shared.security import Principal


@dataclass(frozen=True, slots=True)
class Found:
    """A period's counts: of each partner, of all together, and of coverage goals."""

    partners: Sequence[Tally]
    total: Sequence[Tally]
    coverage: Sequence[CoverageTally]


def sight_of(principal: Principal) -> Sight:
    """Raises `Forbidden` for whoever sees no escalations."""
    if not sees_escalations(principal):
        wanted = " or ".join(sorted(role.value for role in SEEING_ROLES))
        raise Forbidden(f"this needs the role {wanted}", code="role_missing")
    return Sight(None if principal.is_service or principal.partner == SECRETARIAT else principal.partner)


async def read_statistics(deps: EscalationDeps, principal: Principal, period: Period, *, drills: bool) -> Found:
    """What the caller may see of the period; drills, or what was real."""
    sight = sight_of(principal)
    async with deps.intake.transaction() as tx:
        tallies = in_order(await store.find_tallies(tx, sight, period, drills=drills))
        coverage = await store.find_coverage(tx, sight, period, drills=drills)
    total = [one for one in tallies if one.partner is None]
    return Found([one for one in tallies if one.partner is not None], total, coverage)
