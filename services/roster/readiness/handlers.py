"""What is known beside the roster itself, and what heartbeats say of the partners' systems."""

from __future__ import annotations

from services.roster.readiness import store
from services.roster.readiness.findings import Facts
from shared import inbox
from shared.contracts import EndpointChecked
from shared.db import Transaction
from shared.events import Message
from shared.process import Deps
from shared.senders import carriers_of


async def known_facts(tx: Transaction, deps: Deps, code: str) -> Facts:
    """What a partner's coming days are judged by: who carries what here, and what fails."""
    carriers = carriers_of(deps.settings, has_push_key=bool(deps.keys.push_keys))
    return await store.find_facts(tx, deps.keys, code, carriers)


async def on_endpoint_checked(deps: Deps, message: Message[EndpointChecked]) -> None:
    """Keeps what was found, for the address that the endpoint has now, and asks for a new proof of its partner.

    News of an endpoint that the partner does not have (any more) is passed over.
    """
    now, body = deps.clock.now(), message.body
    async with deps.database.transaction() as tx:
        if not await inbox.accept(tx, consumer=deps.consumer(EndpointChecked), message_id=message.id, now=now):
            return
        fingerprint = await store.find_fingerprint(tx, deps.keys, body.partner, body.endpoint_id)
        if fingerprint is None or not await store.save_check(tx, body, fingerprint):
            return
        await store.ask(tx, body.partner, now=now)
    deps.wake("readiness")
