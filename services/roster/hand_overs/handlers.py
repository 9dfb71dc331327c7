"""What escalation says of hand-overs that were signed, and which of them stand at an instant."""

from __future__ import annotations

from collections.abc import Sequence

from services.roster.hand_overs import store
from services.roster.hand_overs.domain import CurrentChange, Signatures
from shared import inbox
from shared.contracts import HandOverSigned
from shared.events import Message
from shared.process import Deps


async def on_hand_over_signed(deps: Deps, message: Message[HandOverSigned]) -> None:
    """Keeps a signature, to be shown with who is on call."""
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        if await inbox.accept(tx, consumer=deps.consumer(HandOverSigned), message_id=message.id, now=now):
            await store.save(tx, message.body)


async def find_signatures(
    deps: Deps, partner: str, changes: Sequence[CurrentChange]
) -> dict[CurrentChange, Signatures]:
    """Who has signed these changes of a partner's rotas."""
    if not changes:
        return {}
    async with deps.intake.statement() as tx:
        return await store.find(tx, partner, changes)
