"""Hands out call trees as they lie in the database. Each time is in the record: it is a list of people's numbers."""

from __future__ import annotations

from services.roster.call_tree import store
from services.roster.call_tree.store import NETWORK_EDITION, Edition
from services.roster.handlers import READING_ROLES, Call, RosterDeps
from shared import record
from shared.contracts import Role
from shared.errors import Unavailable
from shared.security import INSTALLATION, Principal


async def fetch_call_tree(deps: RosterDeps, call: Call, form: str) -> Edition:
    """The caller's edition: their government's, or for the secretariat the one without anybody's people.

    Raises `Unavailable` while it was never made, which takes about a minute after a partner is created.
    """
    edition = edition_of(call.principal)
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        found = await store.find_edition(tx, deps.keys, edition)
        if found is None:
            raise Unavailable("the call tree is being made; try again in a minute", code="call_tree_not_ready")
        entry = record.Entry(
            kind="call_tree.fetched",
            partner=call.principal.partner,
            data={"form": form, "made_at": found.made_at.isoformat(), "own": edition != NETWORK_EDITION},
        )
        await record.append(tx, [entry], cause=call.cause, ids=deps.ids, now=now)
    return found


def edition_of(principal: Principal) -> str:
    """Which edition the caller is given; raises `Forbidden` for whoever reads no roster."""
    if principal.partner != INSTALLATION and principal.has(*READING_ROLES):
        return principal.partner
    principal.require(Role.SECRETARIAT, *READING_ROLES)
    return NETWORK_EDITION
