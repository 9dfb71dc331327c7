"""What HTTP asks about crises, and the crisis that a new alert joins. Handlers have the shape of those of alerts."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from uuid import UUID

from services.alerting import journal, views
from services.alerting.calls import Call, begin, check_id, kept, same_request
from services.alerting.crises import domain, store
from services.alerting.crises.domain import Crisis, CrisisState
from shared import record
from shared.contracts import Tlp
from shared.db import Transaction
from shared.errors import Forbidden, Invalid, NotFound
from shared.idempotency import StoredResponse
from shared.ids import CrisisId
from shared.process import Deps
from shared.web import etag_of


async def open_crisis(
    deps: Deps,
    call: Call,
    *,
    name: str,
    countries: Iterable[str],
    tlp: Tlp,
    state: CrisisState,
    crisis_id: UUID | None = None,
) -> StoredResponse:
    """Opens a crisis of the caller's partner (201)."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        if (stored := await begin(tx, call, now)) is not None:
            return stored
        if crisis_id is not None:
            check_id(crisis_id)
            if (found := await store.find_crisis_request(tx, crisis_id)) is not None:
                same_request(found, call)
                existing = await store.find_crisis(tx, call.viewer, crisis_id)
                if existing is None:
                    raise NotFound("there is no such crisis")
                return await kept(tx, call, _answer(201, existing))
        crisis = domain.open_crisis(
            crisis_id=CrisisId(crisis_id or deps.ids.new()),
            name=name,
            countries=countries,
            tlp=tlp,
            state=state,
            by=call.by,
            now=now,
        )
        await store.add_crisis(tx, crisis, request_sha256=call.request_sha256)
        await record.append(tx, [journal.crisis_opened(crisis)], cause=call.cause, ids=deps.ids, now=now)
        return await kept(tx, call, _answer(201, crisis))


async def move_crisis(
    deps: Deps, call: Call, crisis_id: UUID, state: CrisisState, *, check_version: Callable[[int], None]
) -> StoredResponse:
    """Moves a crisis of the caller's partner on."""
    now = deps.clock.now()
    async with deps.intake.transaction() as tx:
        before = await store.find_crisis(tx, call.viewer, crisis_id, lock=True)
        if before is None:
            raise NotFound("there is no such crisis")
        if before.owner != call.principal.partner:
            raise Forbidden("a crisis is moved by the partner that opened it", code="not_yours")
        check_version(before.version)
        crisis = domain.move_crisis(before, state, by=call.by, now=now)
        if crisis.version != before.version:
            await store.save_crisis(tx, crisis)
            moved = record.Entry(
                kind="crisis.moved",
                partner=crisis.owner,
                object_id=crisis.id,
                data={"before": before.state.value, "after": crisis.state.value},
            )
            await record.append(tx, [moved], cause=call.cause, ids=deps.ids, now=now)
    return _answer(200, crisis)


async def crisis_to_join(tx: Transaction, call: Call, crisis_id: UUID | None) -> Crisis | None:
    """The crisis that an alert names, if it names one that the caller may know of and that takes more alerts."""
    if crisis_id is None:
        return None
    crisis = await store.find_crisis(tx, call.viewer, crisis_id)
    if crisis is None:
        raise Invalid(
            "there is no such crisis; leave crisis_id out to open one", code="unknown_crisis", field="crisis_id"
        )
    domain.may_join(crisis)
    return crisis


def _answer(status: int, crisis: Crisis) -> StoredResponse:
    headers = {"ETag": etag_of(crisis.version), "Location": f"/v1/crises/{crisis.id}"}
    return StoredResponse.json(status, views.crisis_view(crisis), headers)
