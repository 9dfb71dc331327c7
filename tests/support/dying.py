"""Starts `redphone` so that it ends by SIGKILL at one named place. Only tests run this; the product has no such switch.

python -m tests.support.dying before_publish serve alerting --port 8001
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
from collections.abc import Callable
from typing import Any


def die(*_arguments: Any, **_options: Any) -> Any:
    """Kill -9 of this very process: nothing is flushed, closed or told."""
    os.kill(os.getpid(), signal.SIGKILL)


def put(owner: object, name: str, function: Callable[..., Any]) -> None:
    """Puts a function in the place of another."""
    setattr(owner, name, function)


def before_publish() -> None:
    """Between the commit of a release and its publication."""
    from shared.bus import NatsBus

    publish = NatsBus.publish

    async def dying(self: NatsBus, messages: Any, *, timeout_seconds: float) -> Any:
        if any(message.body.event_name == "alert_released" for message in messages):
            die()
        return await publish(self, messages, timeout_seconds=timeout_seconds)

    put(NatsBus, "publish", dying)


def is_first_page(row: Any) -> bool:
    """Whether this is the first attempt at the first page of an alert: others are of alerts from before."""
    return bool(row["message_type"] == "alert.released" and row["attempts"] == 1 and row["level"] <= 1)


def before_opening() -> None:
    """Between the arrival of a release and the commit of its escalations."""
    from services.escalation import store

    insert = store.insert_opened

    async def dying(tx: Any, opened: Any, *arguments: Any) -> Any:
        if any(escalation.kind == "answer" for escalation in opened):
            die()
        return await insert(tx, opened, *arguments)

    put(store, "insert_opened", dying)


def after_opening() -> None:
    """Between the commit of the escalations and the sending of their first page."""
    from services.escalation.delivery import Delivery

    send = Delivery._send

    async def dying(self: Delivery, page: Any, *arguments: Any) -> Any:
        if is_first_page(page.row):
            die()
        return await send(self, page, *arguments)

    put(Delivery, "_send", dying)


def before_record() -> None:
    """Between the sending of the first pages and the record of it."""
    from services.escalation.recording import Recorder

    write = Recorder._write

    async def dying(self: Recorder, batch: Any) -> Any:
        if any(is_first_page(entry.row) for entry in batch):
            die()
        return await write(self, batch)

    put(Recorder, "_write", dying)


def after_acknowledgement() -> None:
    """Between the commit of an acknowledgement and the answer to whoever acknowledged."""
    from shared.outbox import Relay

    publish = Relay.publish

    async def dying(self: Relay, messages: Any) -> None:
        if any(message.body.event_name == "partner_acknowledged" for message in messages):
            die()
        await publish(self, messages)

    put(Relay, "publish", dying)


PLACES: dict[str, Callable[[], None]] = {
    place.__name__: place
    for place in (before_publish, before_opening, after_opening, before_record, after_acknowledgement)
}


if __name__ == "__main__":
    PLACES[sys.argv.pop(1)]()
    runpy.run_module("redphone", run_name="__main__")
