"""`python -m bench people`: from POST to the last SMS and mail, and what a dead provider does to the others.

Every partner pages three contacts at level 1, each by SMS and mail at once. Rounds with all providers alive and rounds
in which the telephone company hangs take turns, so that both meet the same machine.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from bench import network, report, sinks
from bench.fanout import Progress
from bench.people_sink import ALIVE, DEAD, EMAIL, SMS
from bench.processes import Process
from bench.rig import Rig, rig
from shared.contracts import ChannelName, DutyPlanPublished, LevelTarget, PlannedContact, PlannedLevel, PlannedPoint
from shared.events import Event
from shared.ids import derived
from shared.keys import KeyRing, point_context

CONTACTS = 3
LANGUAGES = ("en", "fr", "ar")
"""One of each partner's contacts reads each."""

WARM_UP_ALERTS = 2
REACHED_SECONDS_MAX = 30.0


@dataclass
class Measured:
    """Milliseconds of every round."""

    last: list[float] = field(default_factory=list)
    sms_last: list[float] = field(default_factory=list)
    email_last: list[float] = field(default_factory=list)
    email_p99: list[float] = field(default_factory=list)
    dead_email_last: list[float] = field(default_factory=list)
    dead_email_p99: list[float] = field(default_factory=list)
    sender_cpu: list[float] = field(default_factory=list)

    def forget(self) -> None:
        """What was measured so far was warming up."""
        for values in vars(self).values():
            values.clear()


@dataclass(frozen=True)
class Outside:
    """The sink for people's messages, and what of it stands in the configuration."""

    process: Process
    arrivals: sinks.Arrivals
    http_port: int
    environment: dict[str, str]


async def people(partners: int, *, alerts: int, progress: Progress) -> dict[str, Any]:
    """The result of so many alerts with all providers alive, and as many with a dead one."""
    measured = Measured()
    async with _outside() as outside:
        progress(f"building up {partners} partners with {CONTACTS} contacts of two channels each")
        async with rig(partners, own_sink=True, environment=outside.environment, events=events) as running:
            running.raiser.precedence = "FLASH"
            for number in range(WARM_UP_ALERTS + alerts):
                if number == WARM_UP_ALERTS:
                    measured.forget()
                await _alive(running, outside, measured)
                await _dead(running, outside, measured)
                shown = f"{measured.last[-1]:.0f} ms, mails alone {measured.dead_email_last[-1]:.0f} ms"
                progress(f"{'warm-up' if number < WARM_UP_ALERTS else 'alert'} {number + 1}: {shown}")
    return {
        "bench": "people",
        "partners": partners,
        "pages": partners * CONTACTS * 2,
        "alerts": alerts,
        "last_ms": report.middle_and_worst(measured.last),
        "sms_last_ms": report.middle_and_worst(measured.sms_last),
        "email_last_ms": report.middle_and_worst(measured.email_last),
        "email_p99_ms": report.middle_and_worst(measured.email_p99),
        "with_dead_sms": {
            "email_last_ms": report.middle_and_worst(measured.dead_email_last),
            "email_p99_ms": report.middle_and_worst(measured.dead_email_p99),
        },
        "ratio_of_email_p99": report.ratio(measured.dead_email_p99, measured.email_p99),
        "escalation_cpu_ms": report.middle_and_worst(measured.sender_cpu),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
    }


async def _alive(running: Rig, outside: Outside, measured: Measured) -> None:
    """One alert, and all of its messages."""
    count = len(running.partners) * CONTACTS
    await running.quiet()
    outside.arrivals.forget()
    cpu_before = running.services["escalation"].cpu_seconds()
    _alert_id, sent_at, _took = await running.raiser.raise_alert()
    mails = _after(await outside.arrivals.wait_for(EMAIL, count, seconds=REACHED_SECONDS_MAX), sent_at)
    messages = _after(await outside.arrivals.wait_for(SMS, count, seconds=REACHED_SECONDS_MAX), sent_at)
    await running.quiet()
    measured.sender_cpu.append((running.services["escalation"].cpu_seconds() - cpu_before) * 1000)
    measured.sms_last.append(messages[-1])
    measured.email_last.append(mails[-1])
    measured.email_p99.append(report.percentile(mails, 99))
    measured.last.append(max(mails[-1], messages[-1]))


async def _dead(running: Rig, outside: Outside, measured: Measured) -> None:
    """One alert while the telephone company hangs: its mails; then it recovers and takes what is left."""
    await running.quiet()
    outside.arrivals.forget()
    await _tell(running, outside, DEAD)
    _alert_id, sent_at, _took = await running.raiser.raise_alert()
    count = len(running.partners) * CONTACTS
    mails = _after(await outside.arrivals.wait_for(EMAIL, count, seconds=REACHED_SECONDS_MAX), sent_at)
    await _tell(running, outside, ALIVE)
    await outside.arrivals.wait_for(SMS, count, seconds=REACHED_SECONDS_MAX * 3)
    measured.dead_email_last.append(mails[-1])
    measured.dead_email_p99.append(report.percentile(mails, 99))


def _after(times: Sequence[float], sent_at: float) -> list[float]:
    return [(at - sent_at) * 1000 for at in times]


async def _tell(running: Rig, outside: Outside, path: str) -> None:
    await running.raiser.client.post(f"http://127.0.0.1:{outside.http_port}{path}").build().send()


@asynccontextmanager
async def _outside() -> AsyncIterator[Outside]:
    """Starts the sink, and ends it again."""
    directory = Path(tempfile.mkdtemp(prefix="redphone-bench-people-"))
    log = directory / "arrivals.log"
    log.touch()
    http_port, smtp_port = sinks.free_ports(2)
    command = [sys.executable, "-m", "bench.people_sink", str(log), str(http_port), str(smtp_port)]
    process = Process.start("sink (people)", command, directory / "sink.log")
    try:
        await process.until_listening(http_port)
        await process.until_listening(smtp_port)
        environment = {
            "REDPHONE_SMS_PROVIDERS": "twilio",
            "REDPHONE_TWILIO_ACCOUNT_SID": f"AC{0:032x}",
            "REDPHONE_TWILIO_AUTH_TOKEN": "not a secret of anybody",
            "REDPHONE_TWILIO_FROM": "+15005550006",
            "REDPHONE_TWILIO_URL": f"http://127.0.0.1:{http_port}",
            "REDPHONE_EMAIL_SMTP_URL": f"smtp://127.0.0.1:{smtp_port}",
            "REDPHONE_EMAIL_FROM": "redphone@redphone.example",
        }
        yield Outside(process, sinks.Arrivals(log), http_port, environment)
    finally:
        process.stop()
        shutil.rmtree(directory, ignore_errors=True)


def events(listed: Sequence[network.Partner], keys: KeyRing, secret: str, now: datetime) -> Iterator[Event]:
    """What roster would publish: as for the other benchmarks, with people at level 1 and without systems."""
    numbers = iter(range(1, 1_000_000))
    for event in network.events(listed, keys, secret, now):
        if not isinstance(event, DutyPlanPublished):
            yield event
            continue
        contacts = tuple(
            _contact(event.partner, next(numbers), LANGUAGES[n % len(LANGUAGES)], keys) for n in range(CONTACTS)
        )
        level = PlannedLevel(targets=tuple(LevelTarget(kind="contact", id=contact.id) for contact in contacts))
        yield event.model_copy(update={"levels": (level,), "rotas": (), "contacts": contacts, "office": None})


def _contact(partner: str, number: int, language: str, keys: KeyRing) -> PlannedContact:
    """A person with a telephone and a mailbox, both paged at once."""
    addresses = {ChannelName.SMS: f"+4477{number:08}", ChannelName.EMAIL: f"person-{number}@partner.example"}
    points = []
    for channel, address in addresses.items():
        point_id = derived(partner, address)
        sealed = keys.seal(address, context=point_context(point_id))
        points.append(PlannedPoint(id=point_id, channel=channel, sealed_address=sealed, verified=True))
    return PlannedContact(
        id=derived(partner, f"person {number}"),
        name=f"Invented Person {number}",
        title="duty officer",
        languages=(language,),
        points=tuple(points),
    )
