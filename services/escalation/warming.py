"""Warming: opens sealed addresses and builds clients before the first page needs them.

A cold client costs milliseconds on the way to a phone. Plans arrive long before alerts do, so this is done then, and
again every half minute so that names stay resolved. A point that cannot be warmed is tried as it is when its page is
due.
"""

from __future__ import annotations

from services.escalation import store
from services.escalation.delivery import Delivery
from services.escalation.deps import EscalationDeps

CONTACT_POINTS_MAX = 5_000


class Warming:
    """Prepares the contact points of every stored plan."""

    def __init__(self, deps: EscalationDeps, delivery: Delivery) -> None:
        self._deps = deps
        self._delivery = delivery

    async def run_once(self) -> int:
        """One pass over all plans; always reports that nothing is left to do."""
        async with self._deps.database.transaction() as tx:
            codes = list(await store.find_versions(tx, None))
            directories = await self._deps.directories.find(tx, codes)
        left = CONTACT_POINTS_MAX
        for directory in directories.values():
            # Making the targets opens addresses as well, to know whose reply is whose.
            for target in directory.every_target():
                if left == 0:
                    return 0
                left -= 1
                await self._delivery.prepare(target.contact_point_id, target.channel, target.sealed_address)
        return 0
