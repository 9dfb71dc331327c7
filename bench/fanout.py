"""`python -m bench fanout`: from POST to the last webhook, beside a bare loop and Alertmanager, interleaved."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from bench import report
from bench.contenders import ALERTMANAGER_PATH, BARE_PATH, Alertmanager, BareLoop, least_seconds, signed_bodies
from bench.rig import PATH, Rig, rig

WARM_UP_ALERTS = 4
Progress = Callable[[str], None]


@dataclass
class Measured:
    """Milliseconds of every round."""

    accept: list[float] = field(default_factory=list)
    first: list[float] = field(default_factory=list)
    last: list[float] = field(default_factory=list)
    bare: list[float] = field(default_factory=list)
    alertmanager: list[float] = field(default_factory=list)
    floor: list[float] = field(default_factory=list)
    sender_cpu: list[float] = field(default_factory=list)

    def forget(self) -> None:
        """What was measured so far was warming up."""
        for values in vars(self).values():
            values.clear()


async def fanout(partners: int, *, alerts: int, runs: int, own_sink: bool, progress: Progress) -> dict[str, Any]:
    """The result of `runs` runs, each on a fresh build-up: medians over the runs, and each run's own figures."""
    each = []
    for number in range(1, runs + 1):
        progress(f"run {number} of {runs}: building up for {partners} partners")
        async with rig(partners, own_sink=own_sink) as running:
            each.append(await _run(running, alerts, progress))
    first = each[0]
    return {
        "bench": "fanout",
        "partners": partners,
        "alerts": alerts,
        "runs": runs,
        **report.median_of_runs(each),
        "each_run": [
            {name: run[name] for name in first if name.endswith("_ms") or name.startswith("ratio")} for run in each
        ],
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
    }


async def _run(running: Rig, alerts: int, progress: Progress) -> dict[str, Any]:
    bare = BareLoop(running.sink.urls(BARE_PATH))
    await bare.start()
    alertmanager = await Alertmanager.start(running.directory / "alertmanager", running.sink)
    measured = Measured()
    try:
        for number in range(WARM_UP_ALERTS + alerts):
            if number == WARM_UP_ALERTS:
                measured.forget()
            await _round(running, bare, alertmanager, measured)
            progress(f"{'warm-up' if number < WARM_UP_ALERTS else 'alert'} {number + 1}: {measured.last[-1]:.0f} ms")
    finally:
        await bare.close()
        if alertmanager is not None:
            await alertmanager.close()
    return {
        "processes": list(running.services),
        "addressed_partners": len(running.partners),
        "endpoints": running.endpoints,
        "sink": running.sink.kind,
        "accept_ms": report.percentiles(measured.accept),
        "first_ms": report.middle_and_worst(measured.first),
        "last_ms": report.middle_and_worst(measured.last),
        "bare_loop_last_ms": report.middle_and_worst(measured.bare),
        "ratio_to_bare_loop": report.ratio(measured.last, measured.bare),
        "alertmanager_last_ms": report.middle_and_worst(measured.alertmanager) if alertmanager else None,
        "ratio_to_alertmanager": report.ratio(measured.last, measured.alertmanager) if alertmanager else None,
        "floor_ms": report.middle_and_worst(measured.floor),
        "ratio_of_floor_to_alertmanager": report.ratio(measured.floor, measured.alertmanager) if alertmanager else None,
        "escalation_cpu_ms": report.middle_and_worst(measured.sender_cpu),
    }


async def _round(running: Rig, bare: BareLoop, alertmanager: Alertmanager | None, measured: Measured) -> None:
    """One alert by each contender, one after the other, each on a machine at rest."""
    arrivals, count = running.sink.arrivals, running.endpoints
    await running.quiet()
    arrivals.forget()
    cpu_before = running.services["escalation"].cpu_seconds()
    alert_id, sent_at, took = await running.raiser.raise_alert()
    came = await arrivals.wait_for(PATH, count)
    measured.accept.append(took * 1000)
    measured.first.append((came[0] - sent_at) * 1000)
    measured.last.append((came[-1] - sent_at) * 1000)
    await running.quiet()
    measured.sender_cpu.append((running.services["escalation"].cpu_seconds() - cpu_before) * 1000)

    signed = await signed_bodies(running, alert_id)
    begun_at = await bare.send(signed)
    measured.bare.append(((await arrivals.wait_for(BARE_PATH, count))[-1] - begun_at) * 1000)
    await running.quiet()
    measured.floor.append(measured.bare[-1] + await least_seconds(running, signed) * 1000)
    if alertmanager is not None:
        alertmanager.process.check()
        sent_at = await alertmanager.raise_alert()
        measured.alertmanager.append(((await arrivals.wait_for(ALERTMANAGER_PATH, count))[-1] - sent_at) * 1000)
