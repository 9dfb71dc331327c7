"""`python -m bench console`: how soon a board shows a change, what a large one weighs, and what two hundred cost.

Alerts to all partners are raised in turn with and without two hundred open boards, so that both meet the same machine;
then on a board of twenty alerts single changes are timed, and the first view is weighed. A board here is a bare client
of the stream that reads and looks for a name, in four languages.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import platform
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any
from uuid import uuid4

from pyreqwest.client import ClientBuilder

from bench import network, report
from bench.fanout import Progress
from bench.rig import PATH, Refused, Rig, rig
from shared.contracts import SECRETARIAT, CredentialKind, CredentialsPublished, PublishedCredential, Role
from shared.events import Event
from shared.keys import KeyRing
from shared.security import hash_secret
from shared.settings import SERVICES
from shared.streams import STREAMS_PER_CLIENT_MAX

LANGUAGES = ("en", "fr", "de", "ar")
WARM_UP_ALERTS = 2
SECRETARIAT_CLIENT = "xr-watch"
OPEN_SECONDS_MAX = 30.0
VISIBLE_SECONDS_MAX = 10.0


@dataclass
class Measured:
    """Milliseconds and shares of a core."""

    last_without: list[float] = field(default_factory=list)
    last_with: list[float] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)
    visible: list[float] = field(default_factory=list)
    view_first: list[float] = field(default_factory=list)
    view_cold: list[float] = field(default_factory=list)
    view_warm: list[float] = field(default_factory=list)

    def forget(self) -> None:
        """What was measured so far was warming up."""
        for values in vars(self).values():
            values.clear()


class Board(asyncio.Protocol):
    """One open board. `wanted` is what it waits for, and `seen` is done when that has come."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self._tail = b""
        self._transport: Any = None
        self.head = b""
        self.wanted = b" 200 "
        self.seen: asyncio.Future[float] = asyncio.get_running_loop().create_future()
        self.lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        self.head = self.head or data[:200]
        if not self.seen.done():
            text = self._tail + data
            if self.wanted in text:
                self.seen.set_result(time.time())
            self._tail = text[-len(self.wanted) :]

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - the shape of a protocol
        self.lost = True

    def want(self, text: str) -> asyncio.Future[float]:
        """Waits for this text from now on."""
        self.wanted, self._tail = text.encode(), b""
        self.seen = asyncio.get_running_loop().create_future()
        return self.seen

    def close(self) -> None:
        """Ends it."""
        if self._transport is not None:
            self._transport.abort()


async def console(partners: int, *, boards: int, alerts: int, rounds: int, changes: int, progress: Progress) -> Any:
    """The result."""
    measured = Measured()

    def events(listed: Sequence[network.Partner], keys: KeyRing, secret: str, now: datetime) -> Iterator[Event]:
        for event in network.events(listed, keys, secret, now):
            yield _with_people(event, boards) if isinstance(event, CredentialsPublished) else event
        yield _secretariat(secret)

    progress(f"building up {partners} partners")
    async with rig(partners, own_sink=True, events=events, services=SERVICES) as running:
        raised = []
        sessions = [await sign_in(running, client_id(number)) for number in range(1 + boards // STREAMS_PER_CLIENT_MAX)]
        for number in range(WARM_UP_ALERTS + rounds):
            if number == WARM_UP_ALERTS:
                measured.forget()
            raised.append(await _without(running, measured))
            raised.append(await _with(running, sessions, boards, measured))
            shown = f"{measured.last_without[-1]:.0f} ms, with boards {measured.last_with[-1]:.0f} ms"
            progress(f"{'warm-up' if number < WARM_UP_ALERTS else 'round'} {number + 1}: {shown}")
        while len(raised) < alerts:
            raised.append((await running.raiser.raise_alert())[0])
            await running.quiet()
        progress(f"{len(raised)} alerts are open: timing {changes} changes")
        await _changes(running, sessions[0], str(raised[-1]), changes, measured)
        weight = await _views(running, sessions[0], measured)
    return {
        "bench": "console",
        "partners": partners,
        "alerts": len(raised),
        "boards": boards,
        "changes": changes,
        "visible_ms": {
            "p50": report.rounded(report.percentile(measured.visible, 50)),
            "p95": report.rounded(report.percentile(measured.visible, 95)),
        },
        "first_view_ms": {
            "first": report.rounded(max(measured.view_first)),
            "cold": report.rounded(max(measured.view_cold)),
            "warm": report.rounded(max(measured.view_warm)),
        },
        "first_view_kb": weight,
        "console_cores_with_boards": report.middle_and_worst(measured.cores),
        "last_ms_without_boards": report.middle_and_worst(measured.last_without),
        "last_ms_with_boards": report.middle_and_worst(measured.last_with),
        "ratio_of_last": report.ratio(measured.last_with, measured.last_without),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
    }


def _secretariat(secret: str) -> CredentialsPublished:
    """Somebody who may raise a level."""
    credential = PublishedCredential(
        client_id=SECRETARIAT_CLIENT,
        kind=CredentialKind.PERSON,
        subject=SECRETARIAT_CLIENT,
        name="Secretariat",
        partner=SECRETARIAT,
        roles=(Role.SECRETARIAT,),
        secret_sha256=hash_secret(secret),
    )
    return CredentialsPublished(partner=SECRETARIAT, version=1, credentials=(credential,))


def client_id(number: int) -> str:
    """The credential of one of the people who look."""
    return f"{network.RAISER.lower()}-watch-{number}"


def _with_people(event: CredentialsPublished, boards: int) -> CredentialsPublished:
    first = event.credentials[0]
    watching = (
        first.model_copy(update={"client_id": client_id(number), "subject": client_id(number)})
        for number in range(1 + boards // STREAMS_PER_CLIENT_MAX)
    )
    return event.model_copy(update={"credentials": (first, *watching)})


async def sign_in(running: Rig, name: str) -> str:
    """A session's cookie, as it is sent back."""
    body = f"client_id={name}&client_secret={running.raiser.secret}".encode()
    client = ClientBuilder().no_proxy().follow_redirects(False).build()
    try:
        answer = await client.post(f"{running.url('console')}/sign-in").body_bytes(body).build().send()
    finally:
        await client.close()
    cookie = answer.headers.get("set-cookie")
    if answer.status != 303 or cookie is None:
        raise Refused(f"the console did not sign {name} in: {answer.status}")
    return str(cookie).partition(";")[0]


async def page(running: Rig, cookie: str, path: str = "/", language: str = "en") -> tuple[bytes, float]:
    """A page as it comes over the wire, and how many milliseconds it took."""
    begun = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", running.port("console"))
    head = f"GET {path} HTTP/1.1\r\nhost: x\r\ncookie: {cookie}\r\naccept-language: {language}\r\n"
    writer.write(f"{head}accept-encoding: gzip\r\nconnection: close\r\n\r\n".encode())
    answer = await reader.read()
    took = (time.perf_counter() - begun) * 1000
    writer.close()
    if b" 200 " not in answer[:20]:
        raise Refused(f"the console answered {path}: {answer[:200]!r}")
    return answer, took


def text_of(answer: bytes) -> str:
    """What a page says."""
    head, _, body = answer.partition(b"\r\n\r\n")
    return (gzip.decompress(body) if b"gzip" in head.lower() else body).decode()


def _same(board: Board) -> Board:
    return board


async def _open(running: Rig, sessions: Sequence[str], boards: int) -> list[Board]:
    answer, _ = await page(running, sessions[0])
    found = re.search(r"/board/stream\?seen=([0-9a-z-]*)", text_of(answer))
    mark = found.group(1) if found else ""
    opened, loop = [], asyncio.get_running_loop()
    for number in range(boards):
        head = (
            f"GET /board/stream?seen={mark} HTTP/1.1\r\nhost: x\r\ncookie: {sessions[number // STREAMS_PER_CLIENT_MAX]}"
        )
        language = LANGUAGES[number % len(LANGUAGES)]
        board = Board(f"{head}\r\naccept-language: {language}\r\n\r\n".encode())
        await loop.create_connection(partial(_same, board), "127.0.0.1", running.port("console"))
        opened.append(board)
    _, late = await asyncio.wait([board.seen for board in opened], timeout=OPEN_SECONDS_MAX)
    if late:
        refused = next(board.head for board in opened if not board.seen.done())
        raise Refused(f"{len(late)} of {boards} boards did not open: {refused!r}")
    return opened


async def _without(running: Rig, measured: Measured) -> Any:
    await running.quiet()
    running.sink.arrivals.forget()
    alert_id, sent_at, _took = await running.raiser.raise_alert()
    arrivals = await running.sink.arrivals.wait_for(PATH, running.endpoints)
    measured.last_without.append((arrivals[-1] - sent_at) * 1000)
    return alert_id


async def _with(running: Rig, sessions: Sequence[str], boards: int, measured: Measured) -> Any:
    opened = await _open(running, sessions, boards)
    try:
        await running.quiet()
        running.sink.arrivals.forget()
        cpu_before, begun = running.services["console"].cpu_seconds(), time.perf_counter()
        alert_id, sent_at, _took = await running.raiser.raise_alert()
        arrivals = await running.sink.arrivals.wait_for(PATH, running.endpoints)
        measured.last_with.append((arrivals[-1] - sent_at) * 1000)
        await running.quiet()
        elapsed = time.perf_counter() - begun
        measured.cores.append((running.services["console"].cpu_seconds() - cpu_before) / elapsed)
        if any(board.lost for board in opened):
            raise Refused("the console has closed boards")
    finally:
        for board in opened:
            board.close()
    return alert_id


async def _changes(running: Rig, cookie: str, alert_id: str, changes: int, measured: Measured) -> None:
    """Raises the level of one partner after the other, and waits until an open board shows it."""
    [board] = await _open(running, [cookie], 1)
    url = running.url("escalation")
    body = {"client_id": SECRETARIAT_CLIENT, "client_secret": running.raiser.secret}
    answer = await running.raiser.client.post(f"{url}/v1/tokens").body_json(body).build().send()
    headers = {"authorization": f"Bearer {(await answer.json())['access_token']}"}
    query = f"{url}/v1/escalations?alert_id={alert_id}&limit={changes}"
    answer = await running.raiser.client.get(query).headers(headers).build().send()
    for escalation in (await answer.json())["items"]:
        await running.quiet()
        seen = board.want(f"cell-{escalation['id']}")
        key = {"idempotency-key": str(uuid4())}
        sent_at = time.time()
        address = f"{url}/v1/escalations/{escalation['id']}/raise-level"
        raised = await running.raiser.client.post(address).headers({**headers, **key}).body_json({}).build().send()
        if raised.status >= 300:
            raise Refused(f"escalation answered {raised.status}: {await raised.text()}")
        async with asyncio.timeout(VISIBLE_SECONDS_MAX):
            measured.visible.append((await seen - sent_at) * 1000)
    board.close()


async def _views(running: Rig, cookie: str, measured: Measured) -> dict[str, float]:
    """The first view: of somebody whose like nobody is, then in languages that nobody has asked for yet, and again; and
    what comes over the wire.
    """
    secretariat = await sign_in(running, SECRETARIAT_CLIENT)
    await running.quiet()
    answer, took = await page(running, secretariat)
    measured.view_first.append(took)
    for language in ("es", "it", "pt"):
        answer, took = await page(running, cookie, language=language)
        measured.view_cold.append(took)
    for language in ("es", "it", "pt"):
        answer, took = await page(running, cookie, language=language)
        measured.view_warm.append(took)
    files = sorted(set(re.findall(r"/static/[^\"'#]+", text_of(answer))))
    static = sum([len((await page(running, cookie, path))[0]) for path in files if not path.endswith(".png")])
    return {"page": report.rounded(len(answer) / 1000), "with_files": report.rounded((len(answer) + static) / 1000)}
