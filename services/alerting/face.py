"""What every route of alerting works with, and who may read what behind it."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from uuid import UUID

from fastapi import Request

from services.alerting import store
from services.alerting.calls import Call
from services.alerting.domain import Alert
from services.alerting.stream import News
from services.alerting.visibility import Access, Viewer, access
from shared import idempotency
from shared.db import Transaction
from shared.errors import Forbidden, NotFound
from shared.problems import HttpProblem
from shared.process import Deps
from shared.security import Principal
from shared.web import cause_of

REFERENCE = re.compile(r"RP-[A-Z]{2}-\d{4}-\d{4,}")


@dataclass(frozen=True)
class Face:
    """What every route works with."""

    deps: Deps
    news: News
    caller: Callable[..., Awaitable[Principal]]

    async def call_of(self, request: Request, principal: Principal, key: str | None) -> Call:
        """The request as handlers take it."""
        attempt = await idempotency.attempt(request, principal, key or "-")
        return Call(
            principal=principal,
            cause=cause_of(request, principal),
            request_sha256=attempt.request_sha256,
            attempt=None if key is None else attempt,
        )

    async def resolve(self, alert: str) -> UUID:
        """The id behind an id or a reference."""
        if REFERENCE.fullmatch(alert):
            async with self.deps.intake.transaction() as tx:
                found = await store.find_id(tx, alert)
            if found is not None:
                return found
        try:
            return UUID(alert)
        except ValueError:
            raise NotFound("there is no such alert") from None


def viewer_of(principal: Principal) -> Viewer:
    """The caller as what is shown sees them."""
    return Viewer(partner=principal.partner, roles=principal.roles)


def reader(principal: Principal) -> Viewer:
    """The caller, if their roles read alerts at all; a list tells nobody that something is hidden from them."""
    viewer = viewer_of(principal)
    if not viewer.reads_community:
        raise Forbidden("none of your roles reads alerts", code="role_missing")
    return viewer


async def seen(tx: Transaction, viewer: Viewer, alert_id: UUID) -> tuple[Alert, Access]:
    """The alert and how much of it the viewer may see; one that they may not know of is as one that is missing."""
    alert = await store.find_alert(tx, alert_id)
    granted = Access.NONE if alert is None else access(viewer, alert)
    if alert is None or granted is Access.NONE:
        raise NotFound("there is no such alert")
    return alert, granted


def needs_key(key: object) -> None:
    """Raises 400 for a creating request that a retry would do twice."""
    if key is None:
        detail = "send an Idempotency-Key (or, in JSON, an id of your own): then a retry after a lost answer is safe"
        raise HttpProblem(detail, code="idempotency_key_missing")
