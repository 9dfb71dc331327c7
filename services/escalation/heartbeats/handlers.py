"""What people ask about heartbeats: how the paths are, and one now.

Who sees what: a government the paths to its own systems, the secretariat all of them with our loop-backs, and whoever
runs the installation the loop-backs alone. Somebody else's path and a missing one are the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from uuid import UUID

from services.escalation import reading
from services.escalation.deps import EscalationDeps
from services.escalation.heartbeats import store
from services.escalation.heartbeats.domain import Heartbeat, Kind, State
from shared import record
from shared.contracts import Role
from shared.errors import Conflict, Forbidden, NotFound
from shared.events import Cause
from shared.security import Principal

ROLES = (Role.ROSTER_MANAGER, Role.DUTY_OFFICER, Role.SENIOR_CONTACT, Role.SECRETARIAT, Role.ADMINISTRATOR)
"""People who look after a government's systems or answer for it; its systems may look after themselves."""

ASKED_AGAIN_AFTER = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which paths to find. None means: whatever."""

    partner: str | None = None
    kind: Kind | None = None
    state: State | None = None
    after: tuple[str, UUID] | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True)
class Found:
    """Paths, and how many there are in each state of all that the caller may see."""

    heartbeats: Sequence[Heartbeat]
    counts: Mapping[State, int]


@dataclass(frozen=True, slots=True)
class _Sight:
    """What a caller may see: one partner's paths or all, of one kind or both."""

    partner: str | None
    kind: Kind | None

    def covers(self, beat: Heartbeat) -> bool:
        return self.partner in (None, beat.partner) and self.kind in (None, beat.kind)


def _sight_of(principal: Principal) -> _Sight:
    """Raises `Forbidden` for whoever sees none."""
    if principal.has(Role.SECRETARIAT):
        return _Sight(None, None)
    is_own_system = not principal.is_person and principal.has(*reading.SEEING_ROLES)
    if is_own_system or principal.has(Role.ROSTER_MANAGER, Role.DUTY_OFFICER, Role.SENIOR_CONTACT):
        return _Sight(principal.partner, None)
    if principal.has(Role.ADMINISTRATOR):
        return _Sight(None, Kind.LOOP_BACK)
    wanted = " or ".join(role.value for role in ROLES)
    raise Forbidden(f"this needs the role {wanted}", code="role_missing")


async def read_heartbeats(deps: EscalationDeps, principal: Principal, wanted: Wanted) -> Found:
    """The paths that the caller may see, by partner and id."""
    sight = _sight_of(principal)
    is_elsewhere = None not in (sight.partner, wanted.partner) and sight.partner != wanted.partner
    is_other_kind = None not in (sight.kind, wanted.kind) and sight.kind is not wanted.kind
    if is_elsewhere or is_other_kind:
        return Found((), dict.fromkeys(State, 0))
    partner, kind = wanted.partner or sight.partner, wanted.kind or sight.kind
    async with deps.intake.transaction() as tx:
        found = await store.find_visible(
            tx, partner=partner, kind=kind, state=wanted.state, after=wanted.after, limit=wanted.limit
        )
        numbers = await store.count(tx, partner=partner, kind=kind)
    counts = {state: sum(number for (_, each), number in numbers.items() if each is state) for state in State}
    return Found(found, counts)


async def read_heartbeat(deps: EscalationDeps, principal: Principal, path_id: UUID) -> Heartbeat:
    """One path; raises `NotFound` for one that is not the caller's to see."""
    sight = _sight_of(principal)
    async with deps.intake.transaction() as tx:
        beat = await store.find(tx, path_id)
    if beat is None or not sight.covers(beat):
        raise _missing()
    return beat


async def beat_now(deps: EscalationDeps, principal: Principal, path_id: UUID, *, cause: Cause) -> Heartbeat:
    """Has a path tried at once; returns it as it is before. One that is being tried just now is left to it.

    For the owner's roster manager and the secretariat, and a loop-back for administrators, too. Raises `Conflict`
    within a minute of the last request.
    """
    sight, now = _sight_of(principal), deps.clock.now()
    async with deps.intake.transaction() as tx:
        beat = await store.load(tx, path_id)
        if beat is None or not sight.covers(beat):
            raise _missing()
        operates = principal.has(Role.ADMINISTRATOR) and not beat.is_endpoint
        if not operates:
            principal.require(Role.ROSTER_MANAGER, Role.SECRETARIAT)
        if beat.requested_at is not None and now - beat.requested_at < ASKED_AGAIN_AFTER:
            raise Conflict("one was asked for less than a minute ago; wait for it", code="heartbeat_just_sent")
        is_on_its_way = beat.leased_until is not None and beat.leased_until > now
        asked = replace(beat, requested_at=now)
        if not is_on_its_way:
            # A loop-back that is waited for is given up: the new one says more.
            asked = replace(asked, next_at=now, beat_id=None, is_out=False, provider_id=None)
        await store.save(tx, asked)
        entry = record.Entry(kind="heartbeat.requested", partner=beat.partner, object_id=beat.id)
        await record.append(tx, [entry], cause=cause, ids=deps.ids, now=now)
    deps.wake("heartbeats")
    return asked


def _missing() -> NotFound:
    return NotFound("there is no such heartbeat, or it is not yours to see")
