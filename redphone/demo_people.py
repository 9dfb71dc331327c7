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
from redphone.demo_channels import AnswerRefused, Counterparts, Heard
from redphone.demo_network import Network
from redphone.demo_receivers import Receipt, place_name
from redphone.demo_scenario import DUTY, OFFICE, Machine, Pace, Part, Scenario, Stance, Telephones, Via, Wakes
from redphone.exits import Exit, Failed
from redphone.files import SavedCredential
from redphone.output import parse_instant
from shared.clock import Clock
from shared.contracts import SECRETARIAT, ChannelName
from shared.ids import Ids
from shared.web import render_instant

DUTY_OFFICER = "duty-officer"
SENIOR_CONTACT = "senior-contact"
RELEASER = "releaser"
POSITION_AFTER = 0.4
"""Intervals between an acknowledgement and the position: people talk before they promise."""

TAKEOVER_AFTER = 0.8
SIGNED_AFTER = 0.2
CONSIDERING_FOR = timedelta(hours=2)
EXERCISE_OFFER = "{} (exercise)"

_READ_ON = {
    Via.API: frozenset[ChannelName](),
    Via.SMS: frozenset({ChannelName.SMS}),
    Via.VOICE: frozenset[ChannelName](),
    Via.EMAIL: frozenset({ChannelName.EMAIL}),
    Via.LINK: frozenset({ChannelName.SMS, ChannelName.EMAIL}),
}
"""Where the message arrives that is answered so. Calls are answered while they last, by the telephone itself."""


class People:
    """Everybody who acts. Tasks run in `group`, so that the first refusal ends the demonstration and is told."""

    def __init__(
        self,
        scenario: Scenario,
        pace: Pace,
        *,
        connection: Connection,
        credentials: Mapping[str, SavedCredential],
        counterparts: Counterparts,
        network: Network,
        clock: Clock,
        ids: Ids,
        group: asyncio.TaskGroup,
        tell: Callable[..., None],
        name_of: Callable[[str], str],
    ) -> None:
        self._scenario, self._pace = scenario, pace
        self._connection, self._credentials = connection, credentials
        self._counterparts, self._network = counterparts, network
        self._clock, self._ids = clock, ids
        self._group, self._tell, self._name_of = group, tell, name_of
        self._clients: dict[str, Client] = {}
        self._acting: set[tuple[str, str]] = set()
        self._newest: dict[str, Receipt] = {}
        self._newest_heard: dict[str, Heard] = {}
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

    def on_heard(self, heard: Heard) -> None:
        """A message has come to somebody's telephone or mailbox: whoever answers from there begins to."""
        part = self._scenario.part_of(heard.partner)
        if part is not None and heard.channel is ChannelName.VOICE and part.via is Via.VOICE:
            self._tell_call(part, heard)
        if part is None or heard.place != part.answers_at or not heard.asks or heard.channel not in _READ_ON[part.via]:
            return
        self._newest_heard[part.partner] = heard
        if part.wakes not in (Wakes.UNREACHED, Wakes.NEVER):
            self._act("answer", part.partner, self._answer_from_there(part))

    def _tell_call(self, part: Part, heard: Heard) -> None:
        if heard.place != part.answers_at or part.partner in self.acknowledged_at:
            return
        why = ": the SMS got lost, so the call is not waited for" if part.telephones is Telephones.TEXTS_LOST else ""
        language = self._network.person(part.partner, part.answers_at).languages[0]
        name = self._name_of(part.partner)
        self._tell((name, "bold"), ": ", (place_name(heard.place), ""), "'s telephone rings ", f"({language}){why}")

    def on_acknowledged(self, cell: Mapping[str, Any]) -> None:
        """The board says that somebody acknowledged: whoever did so from a channel now thinks about a position."""
        partner = str(cell["partner"])
        part = self._scenario.part_of(partner)
        if part is None or part.via is Via.API or partner in self.acknowledged_at:
            return
        self.acknowledged_at[partner] = parse_instant(cell["acknowledgement"]["at"]) or self._clock.now()
        if part.stance is not None:
            role = DUTY_OFFICER if part.answers_at == DUTY else SENIOR_CONTACT
            client = self.client_of(partner, role)
            self._act("position", partner, self._take_position(part, part.stance, client, str(cell["id"])))

    def _on_page(self, part: Part, receipt: Receipt) -> None:
        """A telephone rings."""
        if part.via is not Via.API:
            return
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
        if part is not None and part.wakes is Wakes.UNREACHED and partner in self._newest_heard:
            self._act("answer", partner, self._answer_from_there(part))
        elif part is not None and part.wakes is Wakes.UNREACHED and part.via is Via.API and partner in self._newest:
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
        if part.stance is not None:
            await self._take_position(part, part.stance, client, said["escalations"][0]["id"])

    async def _answer_from_there(self, part: Part) -> None:
        """From telephone, mailbox or link, with what the message said. That it was heard stands on the board."""
        await self._wait(part.after)
        heard = self._newest_heard[part.partner]
        name = self._network.person(part.partner, part.answers_at).name
        doing = f"opens the link and types {heard.code}" if part.via is Via.LINK else f"answers {heard.reply}"
        self._tell((self._name_of(part.partner), "bold"), ": ", place_name(part.answers_at), f" {doing}")
        try:
            await self._counterparts.answer(part, heard, name)
        except AnswerRefused as refused:
            raise Failed(f"{part.partner}: {refused}.", exit_code=Exit.REFUSED) from None

    async def _take_position(self, part: Part, stance: Stance, client: Client, escalation_id: str) -> None:
        await self._wait(POSITION_AFTER)
        newest = self._newest.get(part.partner)
        known = newest.escalation_id if newest is not None else None
        await client.post(
            f"/v1/escalations/{known or escalation_id}/position", self._position(part, stance), key=client.new_key()
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
