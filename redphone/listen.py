"""`redphone webhook listen`: a partner's side, for trying out. Receives webhooks, checks them, prints them, answers.

The cast: a `Receiver` is the ASGI application; `Behaviour` says what it does with what it receives. It needs nothing
but the public keys of the installation. The promise: what is shown as genuine was signed by one of the keys; nothing
else is acted upon; what does not fit the limits is refused unread.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any

import orjson
import typer
from rich.text import Text

from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.output import clean, instant, state
from shared.webhooks import BODY_BYTES_MAX, HEADER_TIMESTAMP, KeyMalformed, VerifyingKey, WebhookRefused, verify

app = typer.Typer(no_args_is_help=True, help="Try webhooks out: receive them here, or have one sent.")

DELAY_SECONDS_DEFAULT = 20.0
"""Longer than the sender's patience, so that it counts as a time-out there."""

SEEN_MAX = 10_000
ASKING = frozenset({"alert.released", "alert.updated", "level.raised"})

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]


class Answer(StrEnum):
    """How the receiver answers."""

    OK = "ok"
    FAIL = "fail"
    DELAY = "delay"
    SILENT = "silent"


@dataclass(frozen=True)
class Behaviour:
    """What the receiver does. `acknowledges` also says, as a person, that the alert was understood."""

    answer: Answer
    status: int
    delay_seconds: float
    acknowledges: bool


@dataclass
class Receiver:
    """Takes webhooks at any path."""

    session: Session
    keys: Sequence[VerifyingKey]
    behaviour: Behaviour
    _seen: OrderedDict[str, int] = field(default_factory=OrderedDict)
    _acknowledging: set[asyncio.Task[None]] = field(default_factory=set)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles one request."""
        if scope["type"] != "http":
            return
        if scope["method"] != "POST":
            await _respond(send, 405, "webhooks come by POST")
            return
        body = await _read(receive)
        if body is None:
            await _respond(send, 413, f"a webhook has at most {BODY_BYTES_MAX} bytes")
            return
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        try:
            message_id = verify(self.keys, headers, body, now=self.session.clock.now())
            message = orjson.loads(body)
            data: Mapping[str, Any] = message["data"]
            kind = str(message["type"])
        except WebhookRefused as refused:
            self._tell_refused(refused.detail, headers)
            await _respond(send, 401, refused.detail)
            return
        except (ValueError, KeyError, TypeError):
            self._tell_refused("signed, but not in the form of a webhook of Red Phone", headers)
            await _respond(send, 400, "not in the form of a webhook of Red Phone")
            return
        times = self._count(message_id)
        self._tell(message_id, kind, message, times)
        if self.behaviour.acknowledges and kind in ASKING and times == 1:
            task = asyncio.create_task(self._acknowledge(data))
            self._acknowledging.add(task)
            task.add_done_callback(self._acknowledging.discard)
        await self._answer(send)

    async def _answer(self, send: Send) -> None:
        match self.behaviour.answer:
            case Answer.OK:
                await _respond(send, 204, "")
            case Answer.FAIL:
                await _respond(send, self.behaviour.status, "failing, as asked to")
            case Answer.DELAY:
                await self.session.clock.sleep(self.behaviour.delay_seconds)
                await _respond(send, 204, "")
            case Answer.SILENT:
                # Until the sender hangs up, which cancels this.
                await asyncio.get_running_loop().create_future()

    async def settle(self) -> None:
        """Returns when every acknowledgement that is under way has been answered."""
        await asyncio.gather(*self._acknowledging)

    def _count(self, message_id: str) -> int:
        times = self._seen.pop(message_id, 0) + 1
        self._seen[message_id] = times
        if len(self._seen) > SEEN_MAX:
            self._seen.popitem(last=False)
        return times

    async def _acknowledge(self, data: Mapping[str, Any]) -> None:
        alert = data.get("alert") or {}
        body = {"alert_ids": [alert.get("id")], "via": "command_line"}
        try:
            await self.session.client.post("/v1/acknowledgements", body)
        except Failed as failed:
            self.session.output.warn(f"not acknowledged: {failed.what} {' '.join(failed.details)}")
            return
        said = Text.assemble("         ", state("acknowledged"), f" {alert.get('reference') or alert.get('id')}")
        self.session.output.say(said, event="acknowledged", alert_id=alert.get("id"))

    # --- what is shown

    def _tell_refused(self, why: str, headers: Mapping[str, str]) -> None:
        sent = headers.get(HEADER_TIMESTAMP, "?")
        line = Text.assemble(
            (self._time(), "dim"), " ", ("refused", "bold red"), clean(f" {why} (timestamp {sent[:20]})")
        )
        self.session.output.say(line, event="refused", reason=why)

    def _tell(self, message_id: str, kind: str, message: Mapping[str, Any], times: int) -> None:
        if self.session.output.as_json:
            self.session.output.json(
                {"event": "received", "webhook_id": message_id, "times": times, "message": message}
            )
            return
        data = message["data"]
        alert = data.get("alert") or {}
        line = Text.assemble((self._time(), "dim"), " ", (kind, "bold cyan"), " ")
        if alert.get("precedence"):
            line.append_text(state(str(alert["precedence"]))).append(" ")
        line.append_text(clean(str(alert.get("reference") or alert.get("id") or "")))
        if times > 1:
            line.append(f" again, no. {times}", style="yellow")
        self.session.output.show(line)
        for detail in _details(data, alert):
            self.session.output.show(Text.assemble("         ", clean(detail)))
        self.session.output.show(Text(f"         signed by Red Phone · {message_id}", style="dim"))

    def _time(self) -> str:
        now = self.session.clock.now()
        return instant(now, now=now).split(" ")[0]


def _details(data: Mapping[str, Any], alert: Mapping[str, Any]) -> list[str]:
    found = [str(alert.get("text") or "")]
    for_whom = [f"for {data['partner']}"] if data.get("partner") else []
    level = [f"level {data['level']}"] if data.get("level") else []
    found.append(", ".join([*for_whom, *level]))
    answer = data.get("answer")
    if isinstance(answer, dict):
        found.append(f"{answer.get('partner')} {answer.get('state')} by {answer.get('by') or 'somebody'}")
    if data.get("unreached_partner"):
        found.append(f"{data['unreached_partner']} could not be reached")
    return [line for line in found if line]


async def _read(receive: Receive) -> bytes | None:
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += bytes(message.get("body", b""))
        if len(body) > BODY_BYTES_MAX:
            return None
        if not message.get("more_body"):
            return body


async def _respond(send: Send, status: int, text: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(text.encode())).encode())]
    with contextlib.suppress(OSError):
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text.encode()})


# --- the command ------------------------------------------------------------------------------------------------------


@app.callback()
def webhook() -> None:
    """Try webhooks out: receive them here, or have one sent."""


@app.command("listen")
@calls
async def listen(
    session: Session,
    *,
    port: Annotated[int, typer.Option("--port", min=0, max=65535, help="Port; 0 takes a free one.")] = 9000,
    host: Annotated[str, typer.Option("--host", help="Address to listen on.")] = "127.0.0.1",
    key: Annotated[
        list[str] | None,
        typer.Option("--key", help="A public key, whpk_…; by default those that --url publishes.", metavar="KEY"),
    ] = None,
    answer: Annotated[Answer, typer.Option("--answer", help="How to answer.")] = Answer.OK,
    status: Annotated[int, typer.Option("--status", min=300, max=599, help="With --answer fail.")] = 500,
    delay_seconds: Annotated[
        float, typer.Option("--delay-seconds", min=0, help="With --answer delay.")
    ] = DELAY_SECONDS_DEFAULT,
    acknowledge: Annotated[
        bool, typer.Option("--acknowledge", help="Also acknowledge, as the person that --as names.")
    ] = False,
) -> None:
    """Receives webhooks here, checks their signatures, prints them, and answers as you choose. Ctrl-C ends it.

    For example:

        redphone webhook listen --port 9000 --acknowledge --as us-duty-officer
    """
    if acknowledge:
        await session.client.sign_in()
    receiver = Receiver(
        session, await _keys(session, key), Behaviour(answer, status, delay_seconds, acknowledges=acknowledge)
    )
    await _serve(session, receiver, host, port)


async def _keys(session: Session, given: Sequence[str] | None) -> list[VerifyingKey]:
    texts = given
    if not texts:
        published = await session.client.get_public("/.well-known/redphone-keys")
        texts = [entry["public_key"] for entry in published["webhook_keys"]]
    try:
        return [VerifyingKey.from_text(text) for text in texts]
    except KeyMalformed as error:
        raise Failed(f"This is no public key of Red Phone: {error.detail}.", exit_code=Exit.USAGE) from None


async def _serve(session: Session, receiver: Receiver, host: str, port: int) -> None:
    # Loaded here alone: the other commands serve nothing.
    import uvicorn  # noqa: PLC0415

    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family)
    except OSError as error:
        raise Failed(
            f"Cannot listen on {host} port {port}: {error.strerror}.",
            details=["Choose another port: --port 0 takes a free one."],
            exit_code=Exit.NOT_RUNNING,
        ) from None
    shown = f"[{host}]" if family is socket.AF_INET6 else host
    url = f"http://{shown}:{listening.getsockname()[1]}/"
    config = uvicorn.Config(
        receiver,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    session.output.say(f"Listening on {url} · Ctrl-C ends it", event="listening", url=url)
    with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
        await uvicorn.Server(config).serve(sockets=[listening])
