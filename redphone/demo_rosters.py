"""The rosters of a demonstration: a hole that is found and filled before the crisis, and a shift that ends amid it.

The cast: `Rosters` acts for two partners, as their roster manager and as the two officers of one hand-over, through the
public API and with credentials of their own. What it did stands in a `HoleSeen` and a `ShiftChange`, for the report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from redphone.demo_network import RELIEF, RELIEF_OFFICER, Network
from redphone.demo_people import DUTY_OFFICER, SIGNED_AFTER, People
from redphone.demo_receivers import Receipt
from redphone.demo_report import LAST_LEVEL, HoleSeen, ShiftChange
from redphone.demo_scenario import DUTY, HOLE_AT, Pace, Scenario
from redphone.output import parse_instant
from shared.clock import Clock
from shared.contracts import SECRETARIAT
from shared.web import render_instant

ROSTER_MANAGER = "roster-manager"
STAND_IN, STAND_INS_DEPUTY = "duty-2", "duty-3"
HOLE_AHEAD = timedelta(hours=2)
HOLE_LASTS = timedelta(hours=8)
SHIFT_LASTS = timedelta(days=1)
SHIFT_LEFT_SECONDS_MIN = 1.0
"""With less than this left of a shift it could end before the release, and is made to end later."""
TRIES_MAX = 4
PROVEN_WITHIN_SECONDS = 30.0
"""Beyond what any step may take: duty plans come first, and proofs after them."""


Until = Callable[[Callable[[], bool | Awaitable[bool]], str, float], Awaitable[None]]


class Rosters:
    """What happens to two partners' rotas. `until` waits for a condition, `receipts` are all that came so far."""

    def __init__(
        self,
        scenario: Scenario,
        pace: Pace,
        *,
        people: People,
        network: Network,
        clock: Clock,
        group: asyncio.TaskGroup,
        tell: Callable[..., None],
        name_of: Callable[[str], str],
        until: Until,
        receipts: Sequence[Receipt],
    ) -> None:
        self._scenario, self._pace = scenario, pace
        self._people, self._network, self._clock, self._group = people, network, clock, group
        self._tell, self._name_of, self._until, self._receipts = tell, name_of, until, receipts
        self.hole: HoleSeen | None = None
        self.change: ShiftChange | None = None
        self._is_signing = False
        self._relief_id: str | None = None
        self._hand_over_id: str | None = None

    async def prepare(self) -> None:
        """Before the crisis. Returns when some seconds are left of the shift that is to end in its midst."""
        self.hole = await self._find_and_fill_a_hole()
        change_at = self._clock.now()
        for times in range(1, TRIES_MAX + 1):
            change_at = await self._let_a_shift_end(times * self._pace.shift_ends_after_seconds)
            if (change_at - self._clock.now()).total_seconds() >= SHIFT_LEFT_SECONDS_MIN:
                break
        left = (change_at - self._clock.now()).total_seconds()
        await self._clock.sleep(max(0.0, left - self._pace.shift_left_seconds))
        left = (change_at - self._clock.now()).total_seconds()
        self._tell(
            (self._name_of(self._scenario.relieved), "bold"),
            f": the duty officer's shift ends in {left:.0f} s; no one has signed the hand-over",
        )

    # --- a hole -------------------------------------------------------------------------------------------------------

    async def _find_and_fill_a_hole(self) -> HoleSeen:
        name = self._name_of(HOLE_AT)
        manager = self._people.client_of(HOLE_AT, ROSTER_MANAGER)
        rota, ids = await self._duty_rota(HOLE_AT)
        begins_at = self._clock.now().replace(second=0, microsecond=0) + HOLE_AHEAD
        ends_at = begins_at + HOLE_LASTS
        span = {"start_at": render_instant(begins_at), "end_at": render_instant(ends_at)}
        path = f"/v1/partners/{HOLE_AT}/rotas/{rota['id']}/overrides"
        await manager.post(path, {"contact_id": None, **span}, key=manager.new_key())
        self._tell((name, "bold"), "'s duty officer falls ill and is taken off the next shift")
        found: list[Mapping[str, Any]] = []

        async def is_found() -> bool:
            found[:] = await self._holes()
            return bool(found) and {HOLE_AT, SECRETARIAT} <= {
                receipt.partner for receipt in self._receipts if receipt.notice_kind in HoleSeen.NOTICES
            }

        await self._until(is_found, "readiness has found the hole and told of it", PROVEN_WITHIN_SECONDS)
        for hole in found:
            times = [parse_instant(hole[edge]) for edge in ("begins_at", "ends_at")]
            from_until = " to ".join(f"{at:%a %H:%M}" for at in times if at is not None)
            self._tell(
                ("Readiness", "bold"),
                f" finds: {HOLE_AT}, {hole['rota']}: ",
                ("nobody on duty", "bold red"),
                f" from {from_until} UTC",
            )
        self._tell("  told at once to its roster manager, its office and the secretariat")
        body = {"contact_id": ids[STAND_IN], "deputy_id": ids[STAND_INS_DEPUTY], **span}
        await manager.post(path, body, key=manager.new_key())
        left: list[Mapping[str, Any]] = []

        async def is_filled() -> bool:
            left[:] = await self._holes()
            return not left

        await self._until(is_filled, "readiness has seen that the hole is filled", PROVEN_WITHIN_SECONDS)
        stand_in = self._network.person(HOLE_AT, STAND_IN).name
        self._tell((name, "bold"), f"'s roster manager puts {stand_in} in: ", ("no hole in 14 days", "green"))
        return HoleSeen(HOLE_AT, begins_at, ends_at, found=tuple(found), left=tuple(left))

    async def _holes(self) -> list[Mapping[str, Any]]:
        """Where readiness says that nobody is on duty."""
        manager = self._people.client_of(HOLE_AT, ROSTER_MANAGER)
        proof = await manager.get(f"/v1/partners/{HOLE_AT}/readiness", days="0")
        return [finding for finding in proof["findings"] if finding["code"] == "uncovered"]

    # --- a shift that ends --------------------------------------------------------------------------------------------

    async def _let_a_shift_end(self, after_seconds: int) -> datetime:
        """Lets somebody else take over after so long; returns when that is, once escalation knows or it is past."""
        code = self._scenario.relieved
        manager = self._people.client_of(code, ROSTER_MANAGER)
        rota, ids = await self._duty_rota(code)
        change_at = self._clock.now() + timedelta(seconds=after_seconds)
        change_at = change_at.replace(microsecond=0)
        path = f"/v1/partners/{code}/rotas/{rota['id']}"
        if self._relief_id is not None:
            # It came too early: until the next one the officer who was there stays.
            etag = (await manager.get_raw(path)).headers["ETag"]
            await manager.delete(f"{path}/overrides/{self._relief_id}", etag=etag)
        self._relief_id = manager.new_key()
        body = {
            "id": self._relief_id,
            "contact_id": ids[RELIEF],
            "deputy_id": ids[STAND_INS_DEPUTY],
            "start_at": render_instant(change_at),
            "end_at": render_instant(change_at + SHIFT_LASTS),
        }
        await manager.post(f"{path}/overrides", body, key=manager.new_key())
        self.change = ShiftChange(code, outgoing=DUTY, incoming=RELIEF, change_at=change_at)

        async def is_known() -> bool:
            self._hand_over_id = await self._find_hand_over()
            return self._clock.now() >= change_at or self._hand_over_id is not None

        await self._until(is_known, "escalation knows of the hand-over", after_seconds)
        return change_at

    async def _find_hand_over(self) -> str | None:
        """The id of the hand-over that is meant, as soon as escalation knows of it."""
        assert self.change is not None, "there is a change by then"
        officer = self._people.client_of(self.change.partner, DUTY_OFFICER)
        listed = (await officer.get("/v1/hand-overs"))["hand_overs"]
        meant = (one for one in listed if parse_instant(one["start_at"]) == self.change.change_at)
        return next((str(one["id"]) for one in meant), None)

    def on_receipt(self, receipt: Receipt) -> None:
        """Once both officers have been paged at the last level, they sign."""
        change = self.change
        if change is None or self._is_signing or receipt.partner != change.partner or receipt.level != LAST_LEVEL:
            return
        paged = {one.place for one in change.pages(self._receipts) if one.level == LAST_LEVEL}
        if {change.outgoing, change.incoming} <= paged:
            self._is_signing = True
            self._group.create_task(self._sign(change), name=f"{change.partner}: hand-over")

    async def _sign(self, change: ShiftChange) -> None:
        name = self._name_of(change.partner)
        self._tell((name, "bold"), ": the shift has changed, and both officers are paged: nobody has signed")
        await self._clock.sleep(SIGNED_AFTER * self._pace.next_level_every_seconds)
        path = f"/v1/hand-overs/{self._hand_over_id}/signature"
        clients = [self._people.client_of(change.partner, role) for role in (DUTY_OFFICER, RELIEF_OFFICER)]
        await asyncio.gather(*(client.post(path, {}) for client in clients))
        change.signed_at = self._clock.now()
        self._tell((name, "bold"), ": both have signed; from now on only the new officer is paged")

    # --- what the roster holds ----------------------------------------------------------------------------------------

    async def _duty_rota(self, code: str) -> tuple[Mapping[str, Any], Mapping[str, str]]:
        """The duty officers' rota, and the ids of contacts by their keys in the network file."""
        manager = self._people.client_of(code, ROSTER_MANAGER)
        contacts = (await manager.get(f"/v1/partners/{code}/contacts"))["items"]
        by_name = {contact["name"]: str(contact["id"]) for contact in contacts}
        wanted = (DUTY, STAND_IN, STAND_INS_DEPUTY, RELIEF)
        ids = {key: by_name[self._network.person(code, key).name] for key in wanted}
        rotas = (await manager.get(f"/v1/partners/{code}/rotas"))["items"]
        return next(rota for rota in rotas if ids[DUTY] in rota["layers"][0]["participants"]), ids
