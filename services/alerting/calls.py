"""One request as handlers take it, and the lines about keys and ids that every creating handler shares."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.alerting.domain import Caller
from services.alerting.visibility import Viewer
from shared import idempotency
from shared.db import Transaction
from shared.errors import Conflict, Invalid
from shared.events import Cause
from shared.idempotency import Attempt, StoredResponse
from shared.security import Principal

UUID_VERSION = 7
"""Ids that callers supply sort by time like our own."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request: who asks, why, under which key (None: without one), and the hash of what it asks."""

    principal: Principal
    cause: Cause
    request_sha256: str
    attempt: Attempt | None = None

    @property
    def by(self) -> Caller:
        """Who asks, as the rules see them."""
        return Caller(actor=self.principal.actor(), roles=self.principal.roles)

    @property
    def viewer(self) -> Viewer:
        """Who asks, as what is shown sees them."""
        return Viewer(partner=self.principal.partner, roles=self.principal.roles)


async def begin(tx: Transaction, call: Call, now: datetime) -> StoredResponse | None:
    """The first answer to a request that was done before; None for a new one, which now holds its key if it has one."""
    return None if call.attempt is None else await idempotency.begin(tx, call.attempt, now=now)


async def kept(tx: Transaction, call: Call, answer: StoredResponse) -> StoredResponse:
    """The answer, kept with the request's key if it has one: a key that is begun and never finished is never free."""
    if call.attempt is not None:
        await idempotency.finish(tx, call.attempt, answer)
    return answer


def check_id(given: UUID) -> None:
    """Raises `Invalid` for an id that does not sort by time like our own."""
    if given.version != UUID_VERSION:
        raise Invalid("an id that you supply is a UUID of version 7", code="not_uuid7", field="id")


def same_request(found: tuple[str, str | None], call: Call) -> None:
    """Raises `Conflict` unless what has the id was made by the same request of the same partner."""
    if found != (call.principal.partner, call.request_sha256):
        raise Conflict("this id is taken by something else; make a new one", code="id_taken", field="id")
