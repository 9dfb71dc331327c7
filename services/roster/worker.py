"""Work that takes long, in processes of its own: reading network files, computing shifts and duty plans.

The cast: `Worker` is one process that is started when it is first needed. `read_network_file`, `compute_plans`,
`compute_window`, `compute_on_call` and the like are what it can be asked for; they are pure and so give the same
anywhere.

The promise: no deadline of this process waits for a rota or for a hostile file. A task ends within its seconds and the
process within its memory, whatever it was given; a process that dies is replaced, and one whose parent dies ends.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
import signal
import threading
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from types import FrameType
from typing import Any, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey

from services.roster import network, publication, schedule
from services.roster.documents import state_of, unopened
from services.roster.hand_overs.domain import CurrentChange, current_change
from services.roster.network import NetworkFile, NetworkFileError, Problem
from services.roster.schedule import Holiday, Rota, Shift
from shared.contracts import Deadlines, DutyPlanPublished, Precedence
from shared.egress import EgressPolicy
from shared.errors import ContractViolation, Invalid, Unavailable
from shared.events import EVENT_BYTES_MAX
from shared.keys import point_context, seal

T = TypeVar("T")

READ_SECONDS_MAX = 10.0
"""A network file of the greatest size takes about two; one that takes this long was made to."""

COMPUTE_SECONDS_MAX = 10.0
QUEUE_SECONDS_MAX = 20.0
"""How long a caller waits for its turn and its result."""

MEMORY_BYTES_MAX = 2 * 1024**3

WORKER_TROUBLES = frozenset({"worker_lost", "worker_busy"})
"""Codes of `Unavailable` that speak of the process here, and may be the fault of what it was given."""


class Worker:
    """One process, or a few, for one kind of work. Tasks wait in line; a task that was given up still ends by its own
    limit.
    """

    def __init__(self, processes: int = 1) -> None:
        self.processes = processes
        self._executor: ProcessPoolExecutor | None = None

    async def run(self, seconds_max: float, function: Callable[..., T], *args: Any) -> T:
        """What the function returns; raises what it raises, `TimeoutError` if it takes longer than `seconds_max`.

        Raises `Unavailable` if the process died or is busy.
        """
        executor = self._executor
        if executor is None:
            # A process of its own start: a forked one would inherit sockets, threads and locks.
            executor = self._executor = ProcessPoolExecutor(
                max_workers=self.processes, mp_context=multiprocessing.get_context("spawn"), initializer=_begin
            )
        try:
            submitted = await asyncio.to_thread(executor.submit, _limited, seconds_max, function, *args)
            async with asyncio.timeout(QUEUE_SECONDS_MAX):
                outcome = await asyncio.wrap_future(submitted)
        except BrokenProcessPool:
            if self._executor is executor:
                self._executor = None
            raise Unavailable("the work was interrupted; try again", code="worker_lost") from None
        except TimeoutError:
            raise Unavailable("others are being worked for; try again", code="worker_busy") from None
        if outcome is _End.OUT_OF_TIME:
            raise TimeoutError
        return outcome  # type: ignore[no-any-return]

    async def stop(self) -> None:
        """Ends the process after the task that it is at."""
        executor, self._executor = self._executor, None
        if executor is not None:
            await asyncio.to_thread(executor.shutdown, cancel_futures=True)


class _End(Enum):
    """How a task ended that gave no result."""

    OUT_OF_TIME = "out_of_time"


class _OutOfTime(BaseException):
    """The task's seconds are over. No `Exception`, so that nothing that the task calls takes it for one of its own."""


def _begin() -> None:
    """What the process does first: it leaves Ctrl-C to its parent, ends with it, and bounds its memory."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGALRM, _on_alarm)
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))


def _end_with(parent: Any) -> None:
    parent.join()
    os._exit(0)


def _on_alarm(_signal: int, _frame: FrameType | None) -> None:
    raise _OutOfTime


def _limited(seconds_max: float, function: Callable[..., Any], *args: Any) -> Any:
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds_max)
        try:
            return function(*args)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except _OutOfTime:
        return _End.OUT_OF_TIME


# --- what it can be asked for -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a network file is refused: `NetworkFileError` in a form that travels between processes."""

    problems: tuple[Problem, ...]
    omitted: int


def read_network_file(text: str, filename: str, policy: EgressPolicy, chat_schemas: Set[str]) -> NetworkFile | Refusal:
    """The file, or all that is wrong with it."""
    try:
        return network.parse(text, filename, policy=policy, chat_schemas=chat_schemas)
    except NetworkFileError as error:
        return Refusal(error.problems, error.omitted)
    except MemoryError:
        return Refusal((Problem(filename, 1, "", "needs too much memory to be read; split it by partner"),), 0)


@dataclass(frozen=True, slots=True)
class PlanTask:
    """A partner's document, sealed forms in place of addresses, and the number of its next duty plan."""

    document: str
    plan_version: int


@dataclass(frozen=True, slots=True)
class PlanText:
    """A duty plan as the text that goes out, and as an event without people, shifts and the like: nobody needs more of
    it on its way.
    """

    text: bytes
    head: DutyPlanPublished


@dataclass(frozen=True, slots=True)
class PlanFault:
    """Why a plan could not be computed: the name of an error, which tells nothing of anybody."""

    error: str


def compute_plans(
    tasks: Sequence[PlanTask], deadlines: Mapping[Precedence, Deadlines], now: datetime
) -> list[PlanText | PlanFault]:
    """The duty plan of each document, or what kept it from being computed: one that fails stops no other."""
    return [_plan_or_fault(task, deadlines, now) for task in tasks]


def _plan_or_fault(task: PlanTask, deadlines: Mapping[Precedence, Deadlines], now: datetime) -> PlanText | PlanFault:
    try:
        state = state_of(task.document, unopened)
        plan = publication.duty_plan(
            state, deadlines, plan_version=task.plan_version, now=now, seal=lambda _, sealed: sealed
        )
        text = plan.model_dump_json().encode()
    except Exception as error:  # noqa: BLE001 - whatever is wrong with one partner must not stop the others
        return PlanFault(type(error).__name__)
    if len(text) > EVENT_BYTES_MAX:
        return PlanFault(ContractViolation.__name__)
    parts: dict[str, Any] = {
        "levels": (),
        "rotas": (),
        "contacts": (),
        "office": None,
        "endpoints": (),
        "deadlines": {},
    }
    return PlanText(text, plan.model_copy(update=parts))


def compute_sealed(addresses: Sequence[tuple[UUID, str]], sealing_key: bytes) -> list[str]:
    """Each address sealed for the holder of the private half of `sealing_key`."""
    public_key = X25519PublicKey.from_public_bytes(sealing_key)
    return [seal(public_key, address, context=point_context(point_id)) for point_id, address in addresses]


def compute_shifts(rotas: Sequence[Rota], from_at: datetime, to_at: datetime) -> list[tuple[Shift, ...]]:
    """The shifts of each rota in a window."""
    return [schedule.shifts(rota, from_at, to_at) for rota in rotas]


def compute_window(
    rotas: Sequence[Rota], from_at: datetime, to_at: datetime
) -> list[tuple[tuple[Shift, ...], tuple[Holiday, ...]]]:
    """The shifts of each rota in a window, and the holidays of the days that the window touches in the rota's zone."""
    found = []
    for rota, shifts in zip(rotas, compute_shifts(rotas, from_at, to_at), strict=True):
        zone = ZoneInfo(rota.time_zone)
        days = from_at.astimezone(zone).date(), to_at.astimezone(zone).date()
        found.append((shifts, schedule.holidays_between(rota, *days)))
    return found


def compute_on_call(rotas: Sequence[Rota], at: datetime) -> list[Shift | None]:
    """Who is on call in each rota at an instant."""
    return [schedule.on_call(rota, at) for rota in rotas]


def compute_changes(rotas: Sequence[Rota], at: datetime) -> list[CurrentChange]:
    """The change that whoever is on call is in, for each rota that wants hand-overs signed and has one."""
    found = (current_change(rota, at) for rota in rotas if rota.signs_hand_over)
    return [change for change in found if change is not None]


async def read(
    worker: Worker, text: str, filename: str, *, policy: EgressPolicy, chat_schemas: Set[str]
) -> NetworkFile:
    """The checked network file; raises `NetworkFileError`, and `Invalid` for one that takes too long to read."""
    try:
        found = await worker.run(READ_SECONDS_MAX, read_network_file, text, filename, policy, chat_schemas)
    except TimeoutError:
        detail = f"The network file takes longer than {READ_SECONDS_MAX:g} s to read; split it by partner."
        raise Invalid(detail, code="network_file_too_costly") from None
    if isinstance(found, Refusal):
        raise NetworkFileError(found.problems, found.omitted)
    return found


async def compute(worker: Worker, function: Callable[..., T], *args: Any) -> T:
    """What a computation of shifts returns; raises what it raises, and `Unavailable` if it takes too long."""
    try:
        return await worker.run(COMPUTE_SECONDS_MAX, function, *args)
    except TimeoutError:
        detail = f"the shifts take longer than {COMPUTE_SECONDS_MAX:g} s to compute; ask for a shorter window"
        raise Unavailable(detail, code="worker_busy") from None
