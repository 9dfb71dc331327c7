"""Keeps call trees ready: a loop that looks for what has changed and makes it anew, a little at a time.

Each partner's sheet follows that partner's version, and is renewed daily because shifts move on. An edition is made of
all sheets and of its partner's own part; it follows what they say, and not how often somebody edits: it is made anew
at most every five minutes, and daily. One that cannot be made is put off and reported, the old one stays, and the
others are made. A partner of which only shifts changed leaves the editions of others as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from services.roster import store as roster_store
from services.roster.call_tree import document, printing, store
from services.roster.call_tree.document import CallTree, OwnPart, PartnerSheet
from services.roster.call_tree.store import NETWORK_EDITION, Edition, EditionState
from services.roster.handlers import RosterDeps
from services.roster.worker import COMPUTE_SECONDS_MAX, WORKER_TROUBLES
from shared.errors import Unavailable
from shared.log import get_logger
from shared.loops import Loop
from shared.process import Deps

log = get_logger(__name__)

LOOK_SECONDS = 10.0
SHEETS_AT_ONCE = 20
EDITIONS_AT_ONCE = 5
"""So few in each pass: printing takes a processor half a second for each, and nobody waits for it."""

SETTLED = timedelta(seconds=30)
"""After an edit more of them often follow; and a change of who is on duty must get its duty plan first."""

AGAIN_AFTER = timedelta(minutes=5)
DAILY = timedelta(days=1)
FAILED_AGAIN_AFTER = timedelta(minutes=5)
LATE_AFTER = timedelta(days=2)
CODES_SHOWN_MAX = 10


async def renew_call_trees(deps: RosterDeps) -> int:
    """One pass: sheets first, then, when none is due any more, editions. Returns how many things it made."""
    now = deps.clock.now()
    async with deps.database.transaction() as tx:
        done = await store.drop_inactive(tx)
        codes = await store.find_sheets_due(tx, now=now, settled=SETTLED, age=DAILY, limit=SHEETS_AT_ONCE)
    made = 0
    for code in codes:
        made += await _made_sheet(deps, code, now)
    if made:
        return done + made
    async with deps.database.transaction() as tx:
        inputs = _inputs(await store.find_digest(tx), await store.find_versions(tx))
        states = await store.find_states(tx)
    due = [edition for edition, wanted in inputs.items() if _is_due(states.get(edition), wanted, now)]
    for edition in sorted(due, key=lambda one: _age(states.get(one), now), reverse=True)[:EDITIONS_AT_ONCE]:
        done += await _made_edition(deps, edition, inputs[edition], now)
    return done


def _inputs(digest: str, versions: Mapping[str, int]) -> dict[str, str]:
    """What each edition is made of, by its name."""
    if not versions:
        return {}
    return {NETWORK_EDITION: digest} | {code: f"{digest} {version}" for code, version in versions.items()}


def _is_due(state: EditionState | None, inputs: str, now: datetime) -> bool:
    if state is None or state.due_at <= now:
        return True
    changed = state.inputs != inputs and not state.failures
    return changed and (state.made_at is None or state.made_at <= now - AGAIN_AFTER)


def _age(state: EditionState | None, now: datetime) -> timedelta:
    return timedelta.max if state is None or state.made_at is None else now - state.made_at


async def _made_sheet(deps: RosterDeps, code: str, now: datetime) -> bool:
    try:
        async with deps.database.transaction() as tx:
            stored = await roster_store.find_partner(tx, deps.keys, code)
        if stored is None:
            return False
        sheet, _ = await deps.files.run(COMPUTE_SECONDS_MAX, document.parts_of, stored.state, now)
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one partner must not stop the others
        _raise_unless_ours(error)
        log.warning("call_tree.failed", partner=code, error=type(error).__name__)
        async with deps.database.transaction() as tx:
            await store.save_sheet_failure(tx, code, again_at=now + FAILED_AGAIN_AFTER)
        return False
    async with deps.database.transaction() as tx:
        await store.save_sheet(tx, code, version=stored.version, document=sheet, now=now)
    return True


async def _made_edition(deps: RosterDeps, edition: str, inputs: str, now: datetime) -> bool:
    try:
        made = await _made(deps, edition, now)
    except Exception as error:  # noqa: BLE001 - as above
        _raise_unless_ours(error)
        log.warning("call_tree.failed", partner=edition, error=type(error).__name__)
        async with deps.database.transaction() as tx:
            await store.save_failure(tx, edition, due_at=now + FAILED_AGAIN_AFTER)
        return False
    async with deps.database.transaction() as tx:
        await store.save_edition(tx, deps.keys, edition, made, inputs=inputs, due_at=now + DAILY)
    log.info("call_tree.made", partner=edition, bytes=len(made.pdf))
    return True


async def _made(deps: RosterDeps, edition: str, now: datetime) -> Edition:
    is_network = edition == NETWORK_EDITION
    async with deps.database.transaction() as tx:
        stored = None if is_network else await roster_store.find_partner(tx, deps.keys, edition)
        sheets = await store.find_sheets(tx)
    own = None
    if stored is not None:
        _, part = await deps.files.run(COMPUTE_SECONDS_MAX, document.parts_of, stored.state, now)
        own = OwnPart.model_validate_json(part)
    partners = sorted(map(PartnerSheet.model_validate_json, sheets), key=lambda sheet: sheet.name)
    tree = CallTree(
        made_at=now,
        valid_until=now + document.AHEAD,
        edition=None if is_network else edition,
        partners=partners,
        own=own,
    )
    text = tree.model_dump_json()
    return Edition(now, text, await deps.files.run(printing.RENDER_SECONDS_MAX, printing.render, text))


def _raise_unless_ours(error: Exception) -> None:
    """A database that does not answer is everybody's trouble, and the loop's to tell."""
    if isinstance(error, Unavailable) and error.code not in WORKER_TROUBLES:
        raise error


def call_trees_loop(deps: RosterDeps) -> Loop:
    """The loop, not yet started."""

    async def run_once() -> int:
        return await renew_call_trees(deps)

    return Loop("call-trees", run_once, interval_seconds=LOOK_SECONDS, again_when=SHEETS_AT_ONCE, clock=deps.clock)


async def call_tree_troubles(deps: Deps) -> list[str]:
    """Compares what should be with what is: partners whose call tree was not renewed for two days."""
    async with deps.database.transaction() as tx:
        late = await store.find_late(tx, now=deps.clock.now(), age=LATE_AFTER)
    if not late:
        return []
    more = f" and {len(late) - CODES_SHOWN_MAX} more" if len(late) > CODES_SHOWN_MAX else ""
    return [f"the call tree was not renewed: {', '.join(late[:CODES_SHOWN_MAX])}{more}"]
