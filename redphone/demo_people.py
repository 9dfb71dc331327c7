"""The people of a demonstration: officers whom a page wakes, and who answer through the public API.

Each signs in with a credential of their own, as a person of their government would. What they say and when stands in
the scenario; what they know is what the page told them: the alert, their escalation, and nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

from redphone.client import Client, Connection
from redphone.demo_network import OFFICE
from redphone.demo_receivers import Receipt
from redphone.demo_scenario import Machine, Pace, Part, Scenario, Stance, Wakes
from redphone.files import SavedCredential
from shared.clock import Clock
from shared.contracts import SECRETARIAT
from shared.ids import Ids
from shared.web import render_instant

DUTY_OFFICER = "duty-officer"
SENIOR_CONTACT = "senior-contact"
RELEASER = "releaser"
POSITION_AFTER = 0.4
"""Intervals between an acknowledgement and the position: people talk before they promise."""

TAKEOVER_AFTER = 0.8
CONSIDERING_FOR = timedelta(hours=2)
EXERCISE_OFFER = "{} (exercise)"


class People:
    """Everybody who acts. Tasks run in `group`, so that the first refusal ends the demonstration and is told."""

    def __init__(
        self,
        scenario: Scenario,
        pace: Pace,
        *,
        connection: Connection,
        credentials: Mapping[str, SavedCredential],
        clock: Clock,
        ids: Ids,
        group: asyncio.TaskGroup,
        tell: Callable[..., None],
        name_of: Callable[[str], str],
    ) -> None:
        self._scenario, self._pace = scenario, pace
        self._connection, self._credentials = connection, credentials
        self._clock, self._ids = clock, ids
        self._group, self._tell, self._name_of = group, tell, name_of
        self._clients: dict[str, Client] = {}
        self._acting: set[tuple[str, str]] = set()
        self._newest: dict[str, Receipt] = {}
        self.acknowledged_at: dict[str, datetime] = {}
        """By partner the instant at which its acknowledgement was confirmed to its officer."""

    async def close(self) -> None:
        """Lets go of all connections."""
        for client in self._clients.values():
            await client.__aexit__(None, None, None)

    def client_of(self, partner: str, role: str) -> Client:
        """The calls of one person; `KeyError` if the network file gave them no credential."""
        client_id = f"{partner.lower()}-{'secretariat' if partner == SECRETARIAT else role}"
        if client_id not in self._clients:
            secret = self._credentials[client_id].client_secret
            connection = replace(self._connection, client_id=client_id, secret=secret)
            self._clients[client_id] = Client(connection, clock=self._clock, ids=self._ids)
        return self._clients[client_id]

    # --- what wakes whom

    def on_receipt(self, receipt: Receipt) -> None:
        """A page has come somewhere: whoever's part it is begins to act."""
        if receipt.refused is not None:
            return
        if receipt.type == "partner.unreached":
            self._on_unreached_page(receipt)
            return
        part = self._scenario.part_of(receipt.partner)
        if part is None or receipt.type not in ("alert.released", "alert.updated", "level.raised"):
            return
        if receipt.alert_id:
            self._newest[part.partner] = receipt
        if receipt.at_system:
            if part.wakes is Wakes.MACHINE and receipt.status == 200 and receipt.asks:
                self._begin(part, DUTY_OFFICER, receipt)
        elif receipt.type != "alert.updated":
            self._on_page(part, receipt)

    def _on_page(self, part: Part, receipt: Receipt) -> None:
        """A telephone rings."""
        if part.wrong_person_first and receipt.level == 1:
            self._act("wrong person", part.partner, self._say_wrong_person(part, receipt))
        elif part.wakes is Wakes.LEVEL_1 and receipt.level == 1:
            self._begin(part, DUTY_OFFICER, receipt)
        elif (part.wakes is Wakes.LEVEL_2 and receipt.level == 2) or (
            part.wakes is Wakes.LEVEL_3 and receipt.level == 3 and receipt.place == OFFICE
        ):
            self._begin(part, SENIOR_CONTACT, receipt)

    def on_unreached(self, partner: str) -> None:
        """The board calls a partner unreached: somebody there finds the page only now."""
        part = self._scenario.part_of(partner)
        if part is not None and part.wakes is Wakes.UNREACHED and partner in self._newest:
            self._begin(part, SENIOR_CONTACT, self._newest[partner])

    def _on_unreached_page(self, receipt: Receipt) -> None:
        """Raiser or secretariat is asked to take a partner over; the scenario says which of them does."""
        subject = str(receipt.data.get("unreached_partner", ""))
        part = self._scenario.part_of(subject)
        if part is None or part.end.taken_over_by != receipt.partner or receipt.at_system:
            return
        self._act(f"takeover of {subject}", receipt.partner, self._take_over(receipt))

    def _begin(self, part: Part, role: str, receipt: Receipt) -> None:
        self._act("answer", part.partner, self._answer(part, role, receipt))

    def _act(self, what: str, partner: str, acting: Coroutine[Any, Any, None]) -> None:
        if (partner, what) in self._acting:
            acting.close()
            return
        self._acting.add((partner, what))
        self._group.create_task(acting, name=f"{partner}: {what}")

    # --- what they do

    async def _wait(self, intervals: float) -> None:
        await self._clock.sleep(intervals * self._pace.next_level_every_seconds)

    async def _answer(self, part: Part, role: str, receipt: Receipt) -> None:
        await self._wait(part.after)
        client = self.client_of(part.partner, role)
        newest = self._newest.get(part.partner, receipt)
        said = await client.post("/v1/acknowledgements", {"alert_ids": [newest.alert_id]}, key=client.new_key())
        self.acknowledged_at[part.partner] = self._clock.now()
        if part.stance is None:
            return
        await self._wait(POSITION_AFTER)
        escalation_id = said["escalations"][0]["id"]
        newest = self._newest.get(part.partner, newest)
        await client.post(
            f"/v1/escalations/{newest.escalation_id or escalation_id}/position",
            self._position(part, part.stance),
            key=client.new_key(),
        )

    def _position(self, part: Part, stance: Stance) -> dict[str, str]:
        position = {"stance": stance.value}
        if part.offer is not None:
            position["offer"] = EXERCISE_OFFER.format(part.offer)
        if stance is Stance.CONSIDERING:
            position["answer_by"] = render_instant(self._clock.now() + CONSIDERING_FOR)
        return position

    async def _say_wrong_person(self, part: Part, receipt: Receipt) -> None:
        await self._wait(part.after)
        client = self.client_of(part.partner, DUTY_OFFICER)
        self._tell((self._name_of(part.partner), "bold"), "'s duty officer says: ", ("wrong person", "yellow"))
        body = {"stance": "wrong_person"}
        await client.post(f"/v1/escalations/{receipt.escalation_id}/position", body, key=client.new_key())

    async def _take_over(self, receipt: Receipt) -> None:
        await self._wait(TAKEOVER_AFTER)
        client = self.client_of(receipt.partner, DUTY_OFFICER)
        await client.post(f"/v1/escalations/{receipt.escalation_id}/takeover", key=client.new_key())


def machines_of(scenario: Scenario) -> dict[str, Machine]:
    """How each partner's system behaves; those of raiser and secretariat work."""
    return {part.partner: part.machine for part in scenario.parts}
