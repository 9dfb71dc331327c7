"""Which paths there are: every endpoint of every partner, and the loop-backs that the settings name.

The cast: a `LoopBack` (an address of our own at one provider), `loop_backs_of` the settings, and `refresh`, which
brings the rows up to date: what is new is tried within the minute, and so is what has moved; what is gone is forgotten.
A process that does not know a loop-back leaves it to those that do, and forgets it only when nobody sends it any more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from uuid import UUID

from services.escalation import store
from services.escalation.deps import EscalationDeps
from services.escalation.directory import Directory
from services.escalation.heartbeats import store as heartbeat_store
from services.escalation.heartbeats.domain import Heartbeat, Kind, first_turn
from services.escalation.people.plain_text import cut_to, one_line
from shared.contracts import SECRETARIAT, ChannelName
from shared.ids import derived
from shared.settings import Settings

TOLD_CHARACTERS_MAX = 80
GONE_AFTER = timedelta(days=1)
"""A loop-back that this process does not know, and that nobody has sent for so long, stands in no settings any more."""

_ENDPOINT = "endpoint "


@dataclass(frozen=True, slots=True)
class LoopBack:
    """An address of our own at one provider."""

    channel: ChannelName
    provider: str
    address: str = field(repr=False)
    comes_back: bool
    """Whether a message to it is seen again: by a receipt, or by coming in. Otherwise handing it over has to do."""

    @property
    def id(self) -> UUID:
        """The same for ever: what it is called by in rows."""
        return derived("heartbeat", self.channel, self.provider)

    @property
    def told(self) -> str:
        """What people read: never the address."""
        return f"{self.provider}, {self.channel}"


@dataclass(frozen=True, slots=True)
class Refreshed:
    """What has changed among the paths."""

    new: tuple[Heartbeat, ...] = ()
    moved: tuple[Heartbeat, ...] = ()
    gone: tuple[UUID, ...] = ()


def loop_backs_of(settings: Settings, channels: Set[str]) -> dict[UUID, LoopBack]:
    """The loop-backs that the settings name, over channels that may send, by id."""
    mail_comes_back = settings.email_inbound_key is not None
    email, push, chat = settings.loopback_email, settings.loopback_push, settings.loopback_chat
    found = [
        *(LoopBack(ChannelName.SMS, name, number, comes_back=True) for name, number in settings.loopback_sms),
        *(LoopBack(ChannelName.VOICE, name, number, comes_back=True) for name, number in settings.loopback_voice),
        *([LoopBack(ChannelName.EMAIL, "smtp", email, comes_back=mail_comes_back)] if email is not None else []),
    ]
    if push is not None:
        found.append(LoopBack(ChannelName.PUSH, "web-push", push.get_secret_value(), comes_back=False))
    for number, secret in enumerate(chat, start=1):
        address = secret.get_secret_value()
        name = f"{address.partition(':')[0]} {number}"
        found.append(LoopBack(ChannelName.CHAT, name, address, comes_back=False))
    return {one.id: one for one in found if one.channel in channels}


async def refresh(deps: EscalationDeps, loop_backs: Mapping[UUID, LoopBack]) -> int:
    """Brings the rows up to date; returns how many changed."""
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        codes = [code for code in await store.find_versions(tx, None) if deps.settings.serves(code)]
        directories = await deps.directories.find(tx, codes)
        before = await heartbeat_store.find_paths(tx)
        wanted = [*_of_partners(directories, now), *(_of_loop_back(one, now) for one in loop_backs.values())]
        unreadable = {code for code, directory in directories.items() if not directory.readable}
        others = {beat.id for beat in before if not beat.is_endpoint and beat.next_at > now - GONE_AFTER}
        changed = compare(before, wanted, keep=unreadable, others=others)
        await heartbeat_store.insert(tx, changed.new)
        for moved in changed.moved:
            known = await heartbeat_store.load(tx, moved.id)
            if known is not None:
                await heartbeat_store.save(tx, _moved(known, moved))
        await heartbeat_store.delete(tx, changed.gone)
    return len(changed.new) + len(changed.moved) + len(changed.gone)


def compare(
    before: Sequence[Heartbeat], wanted: Sequence[Heartbeat], *, keep: Set[str], others: Set[UUID] = frozenset()
) -> Refreshed:
    """What is new, moved and gone.

    Of the partners in `keep` nothing is gone: what they have now could not be read. Paths in `others` are not gone
    either: somebody else may send them.
    """
    known = {beat.id: beat for beat in before}
    ids = {beat.id for beat in wanted}
    there = [(known[beat.id], beat) for beat in wanted if beat.id in known]
    return Refreshed(
        new=tuple(beat for beat in wanted if beat.id not in known),
        moved=tuple(beat for was, beat in there if _is_moved(was, beat) or was.told != beat.told),
        gone=tuple(beat.id for beat in before if beat.id not in ids | others and beat.partner not in keep),
    )


def _is_moved(was: Heartbeat, is_now: Heartbeat) -> bool:
    return (was.sealed_address, was.partner) != (is_now.sealed_address, is_now.partner)


def _moved(known: Heartbeat, wanted: Heartbeat) -> Heartbeat:
    """The path at its new address, whose beat on its way counts no more; or only under its new description."""
    if not _is_moved(known, wanted):
        return replace(known, told=wanted.told)
    return replace(
        known,
        partner=wanted.partner,
        told=wanted.told,
        sealed_address=wanted.sealed_address,
        next_at=wanted.next_at,
        leased_until=None,
        beat_id=None,
        certificate_checked_at=None,
    )


def _of_partners(directories: Mapping[str, Directory], now: datetime) -> Iterable[Heartbeat]:
    for code, directory in directories.items():
        for target in directory.endpoint_targets():
            described = cut_to(one_line(target.told.removeprefix(_ENDPOINT)), TOLD_CHARACTERS_MAX)
            yield Heartbeat(
                id=target.contact_point_id,
                kind=Kind.ENDPOINT,
                partner=code,
                channel=ChannelName.WEBHOOK,
                provider=None,
                told=described or _ENDPOINT.strip(),
                sealed_address=target.sealed_address,
                next_at=first_turn(target.contact_point_id, now),
            )


def _of_loop_back(loop_back: LoopBack, now: datetime) -> Heartbeat:
    return Heartbeat(
        id=loop_back.id,
        kind=Kind.LOOP_BACK,
        partner=SECRETARIAT,
        channel=loop_back.channel,
        provider=loop_back.provider,
        told=loop_back.told,
        sealed_address=None,
        next_at=first_turn(loop_back.id, now),
    )
