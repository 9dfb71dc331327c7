"""The newest duty plan of every partner, kept parsed in memory and checked by version each time.

Reading 200 plans from JSON takes longer than paging 200 partners; comparing 200 version numbers does not. The database
stays the truth: a cached plan is used only if its version is the one that is stored. A plan that cannot be read never
fails anybody else's: its partner gets the last readable one, marked as unreadable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from services.escalation import store
from services.escalation.directory import Directory
from shared.contracts import (
    DEFAULT_DEADLINES,
    ChannelName,
    Deadlines,
    DutyPlanPublished,
    PartnerChanged,
    Precedence,
)
from shared.db import Transaction
from shared.log import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Kept:
    plan_version: int | None
    version: int | None
    directory: Directory


class Directories:
    """Finds whom each partner can be reached by. One instance per process."""

    def __init__(self, channels: frozenset[ChannelName]) -> None:
        self._channels = channels
        self._kept: dict[str, _Kept] = {}
        self._deadlines: dict[Precedence, Deadlines] = {}

    async def find(self, tx: Transaction, codes: Sequence[str]) -> dict[str, Directory]:
        """The directory of each partner; an empty one where nothing was ever published."""
        versions = {
            row["partner"]: (row["plan_version"], row["version"]) for row in await store.find_versions(tx, codes)
        }
        stale = [code for code, known in versions.items() if not self._is_fresh(code, known)]
        if stale:
            for row in await store.find_bodies(tx, stale):
                self._keep(row)
        nobody = Directory(channels=self._channels)
        return {code: self._kept[code].directory if code in versions else nobody for code in codes}

    async def find_one(self, tx: Transaction, code: str) -> Directory:
        """The directory of one partner."""
        return (await self.find(tx, [code]))[code]

    def deadlines(self, precedence: Precedence) -> Deadlines:
        """The network's waits, as the newest plan that was read carries them."""
        return self._deadlines.get(precedence, DEFAULT_DEADLINES[precedence])

    def deadlines_of(self, directory: Directory, precedence: Precedence) -> Deadlines:
        """The waits for one partner: its own plan's table, or the network's where it has no plan."""
        if directory.plan is not None and precedence in directory.plan.deadlines:
            return directory.plan.deadlines[precedence]
        return self.deadlines(precedence)

    def _is_fresh(self, code: str, known: tuple[int | None, int | None]) -> bool:
        kept = self._kept.get(code)
        return kept is not None and (kept.plan_version, kept.version) == known

    def _keep(self, row: store.Row) -> None:
        code = row["partner"]
        before = self._kept.get(code)
        plan, readable = None, True
        if row["plan"] is not None:
            try:
                plan = DutyPlanPublished.model_validate_json(row["plan"])
            except ValidationError:
                readable = False
                plan = before.directory.plan if before is not None else None
                log.error("duty_plan.unreadable", partner=code, plan_version=row["plan_version"])
        own = PartnerChanged.model_validate_json(row["own"]) if row["own"] is not None else None
        if plan is not None and plan.deadlines:
            self._deadlines = dict(plan.deadlines)
        self._kept[code] = _Kept(
            plan_version=row["plan_version"],
            version=row["version"],
            directory=Directory(
                plan=plan,
                readable=readable,
                office=own.office if own is not None else None,
                endpoints=own.endpoints if own is not None else (),
                channels=self._channels,
            ),
        )
