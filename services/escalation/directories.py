"""The newest duty plan of every partner, kept parsed in memory and checked by version each time.

Reading 200 plans from JSON takes longer than paging 200 partners; comparing 200 version numbers does not. The database
stays the truth: a cached plan is used only if its version is the one that is stored. A plan that cannot be read never
fails anybody else's: its partner gets the last readable one, marked as unreadable.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TypeVar

from pydantic import ValidationError

from services.escalation import store
from services.escalation.directory import Directory
from shared.contracts import (
    DEFAULT_DEADLINES,
    ChannelName,
    Deadlines,
    DutyPlanPublished,
    PartnerChanged,
    PlannedPoint,
    Precedence,
)
from shared.db import Transaction
from shared.log import get_logger

log = get_logger(__name__)

P = TypeVar("P", DutyPlanPublished, PartnerChanged)


@dataclass(frozen=True, slots=True)
class _Kept:
    plan_version: int | None
    version: int | None
    signed_version: int | None
    directory: Directory


class Directories:
    """Finds whom each partner can be reached by. One instance per process."""

    def __init__(
        self,
        channels: frozenset[ChannelName],
        providers: Mapping[ChannelName, str] | None = None,
        reply_key_of: Callable[[PlannedPoint], bytes | None] | None = None,
    ) -> None:
        self._channels = channels
        self._providers = providers or {}
        self._reply_key_of = reply_key_of
        self._kept: dict[str, _Kept] = {}
        self.names: dict[str, str] = {}
        """What partners call themselves, as far as they have been read."""
        self._deadlines: dict[Precedence, Deadlines] = {}
        self._deadlines_as_of = datetime.min.replace(tzinfo=UTC)

    async def find(self, tx: Transaction, codes: Sequence[str]) -> dict[str, Directory]:
        """The directory of each partner; an empty one where nothing was ever published."""
        return await self.at(tx, codes, await store.find_versions(tx, codes))

    async def at(
        self, tx: Transaction, codes: Sequence[str], versions: Mapping[str, store.Versions]
    ) -> dict[str, Directory]:
        """The directory of each partner, where it is known already which versions are stored."""
        stale = [code for code, known in versions.items() if not self._is_fresh(code, known)]
        if stale:
            await self._refresh(tx, stale, versions)
        nobody = Directory(channels=self._channels)
        return {code: self._kept[code].directory if code in versions else nobody for code in codes}

    async def find_one(self, tx: Transaction, code: str) -> Directory:
        """The directory of one partner."""
        return (await self.find(tx, [code]))[code]

    def knows(self, code: str) -> bool:
        """Whether the partner has been read."""
        return code in self._kept

    def kept(self, code: str) -> Directory:
        """The directory of a partner as it was last read, without asking the database."""
        known = self._kept.get(code)
        return known.directory if known is not None else Directory(channels=self._channels)

    def deadlines(self, precedence: Precedence) -> Deadlines:
        """The network's waits, as the newest plan that was read carries them; the default table before any was."""
        return self._deadlines.get(precedence, DEFAULT_DEADLINES[precedence])

    def deadlines_of(self, directory: Directory, precedence: Precedence) -> Deadlines:
        """The waits for one partner: its own plan's table, or the network's where it has no plan."""
        if directory.plan is not None and precedence in directory.plan.deadlines:
            return directory.plan.deadlines[precedence]
        return self.deadlines(precedence)

    def _is_fresh(self, code: str, known: store.Versions) -> bool:
        kept = self._kept.get(code)
        return kept is not None and (kept.plan_version, kept.version, kept.signed_version) == known

    async def _refresh(self, tx: Transaction, stale: Sequence[str], versions: Mapping[str, store.Versions]) -> None:
        """Reads what has changed: plans and partners, and after that which of their hand-overs are signed."""
        changed = [
            code for code in stale if (kept := self._kept.get(code)) is None or _of_plan(kept) != versions[code][:2]
        ]
        if changed:
            for row in await store.find_bodies(tx, changed):
                self._keep(row)
        since: dict[str, datetime] = {}
        for code in stale:
            begins_at = _signing_since(self._kept[code].directory.plan)
            if versions[code][2] is not None and begins_at is not None:
                since[code] = begins_at
        found = await store.find_signed(tx, since) if since else ()
        # Only now: what could not be read must not pass for read.
        for code in stale:
            self._kept[code] = replace(self._kept[code], signed_version=versions[code][2])
        for row in found:
            kept = self._kept[row["partner"]]
            directory = replace(kept.directory, signed=frozenset(row["hand_over_ids"]))
            self._kept[row["partner"]] = replace(kept, signed_version=row["version"], directory=directory)

    def _keep(self, row: store.Row) -> None:
        code = row["partner"]
        before = self._kept.get(code)
        plan, readable = None, True
        if row["plan"] is not None:
            plan = self._read(DutyPlanPublished, row["plan"], code)
            readable = plan is not None
            if plan is None:
                plan = before.directory.plan if before is not None else None
            if plan is None and row["previous"] is not None:
                plan = self._read(DutyPlanPublished, row["previous"], code)
        own = self._read(PartnerChanged, row["own"], code) if row["own"] is not None else None
        office = own.office if own is not None else None
        endpoints = own.endpoints if own is not None else ()
        languages, time_zone = (own.languages, own.time_zone) if own is not None else (("en",), None)
        if own is None and row["own"] is not None and before is not None:
            office, endpoints = before.directory.office, before.directory.endpoints
            languages, time_zone = before.directory.languages, before.directory.time_zone
        if own is not None:
            self.names[code] = own.name
        if plan is not None and plan.deadlines and plan.computed_at >= self._deadlines_as_of:
            self._deadlines, self._deadlines_as_of = dict(plan.deadlines), plan.computed_at
        self._kept[code] = _Kept(
            plan_version=row["plan_version"],
            version=row["version"],
            signed_version=None,
            directory=Directory(
                plan=plan,
                readable=readable,
                office=office,
                endpoints=endpoints,
                channels=self._channels,
                languages=languages,
                time_zone=time_zone,
                providers=self._providers,
                reply_key_of=self._reply_key_of,
            ),
        )

    @staticmethod
    def _read(published: type[P], stored: str, code: str) -> P | None:
        """What a partner published, or None if this version cannot read it: nobody else's page waits for that."""
        try:
            return published.model_validate_json(stored)
        except ValidationError:
            log.error("duty_plan.unreadable", partner=code, what=published.event_name)
            return None


def _of_plan(kept: _Kept) -> tuple[int | None, int | None]:
    return kept.plan_version, kept.version


def _signing_since(plan: DutyPlanPublished | None) -> datetime | None:
    """When the first shift of the rotas begins whose hand-overs are signed; None where there is none."""
    rotas = () if plan is None else plan.rotas
    starts = [shift.start_at for rota in rotas if rota.signs_hand_over for shift in rota.shifts]
    return min(starts, default=None)
