"""A telephone company on this machine: it speaks the APIs of Twilio and Telnyx as far as Red Phone uses them.

The cast
    TelephoneCompany   the server: checks what the real ones check, answers in their shapes, and calls back, signed
    Line               what happens at one telephone number: does a message arrive, who answers, which keys they press
    SentMessage, PlacedCall   what it remembers

Its manners are those of the providers' documentation, which `services/escalation/channels/providers` names: status
codes, error codes, ids, form or JSON, basic authentication or a bearer key, and callbacks that are signed with the
account's token over URL and fields (Twilio), or with an Ed25519 key over `timestamp|body` (Telnyx). A callback that is
answered with 5xx or not at all is sent again, as the real ones do.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import re
import secrets
import socket
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urljoin, urlsplit

import httpx
import orjson
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from lxml import etree
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from twilio.request_validator import RequestValidator

from redphone.counterparts.server import QuietServer
from shared.clock import Clock

TWILIO_NUMBER = "+15005550006"
TELNYX_NUMBER = "+15005550107"
WAIT_SECONDS = 15.0
CALLBACK_SECONDS = 10.0
CALLBACK_TRIES = 3
PRICE = "0.0075"

_E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_CODE_AFTER_WORD = re.compile(r"(?<!\w)([^\W\d_]{2,}) ([0-9]{4})(?![0-9])")
_PARSER = etree.XMLParser(resolve_entities=False, no_network=True)


class Sms(StrEnum):
    """What becomes of messages to a number."""

    DELIVERED = "delivered"
    UNDELIVERED = "undelivered"
    """Taken, and reported as not delivered: the telephone is switched off."""
    UNKNOWN_LATER = "unknown_later"
    """Taken, and reported as an unknown number."""
    UNKNOWN = "unknown"
    """Not taken: the number is none."""
    SILENT = "silent"
    """Taken, never delivered, and never a word about it."""


class Pickup(StrEnum):
    """What becomes of calls to a number."""

    ANSWERED = "answered"
    MACHINE = "machine"
    """A machine answers, hears everything and presses nothing."""
    NO_ANSWER = "no_answer"
    BUSY = "busy"
    UNKNOWN = "unknown"
    SILENT = "silent"
    """The provider takes the call and never says a word about it."""


class Trouble(StrEnum):
    """What is wrong with a provider, or with its way to one number."""

    NONE = "none"
    DOWN = "down"
    """Every request is answered with 503."""
    BUSY = "busy"
    """Every request is answered with 429."""
    SLOW = "slow"
    """Requests are taken and not answered before `release`."""
    REFUSING = "refusing"
    """The account may not do this."""


@dataclass(slots=True)
class Line:
    """One telephone number."""

    sms: Sms = Sms.DELIVERED
    pickup: Pickup = Pickup.ANSWERED
    keys: tuple[str | None, ...] = ()
    """What is pressed after each time something was read out; None, and after the last: nothing."""
    reply: Callable[[str], str | None] | None = None
    """What its owner writes back to a message; None writes nothing."""
    trouble: Trouble = Trouble.NONE


@dataclass(slots=True)
class SentMessage:
    """An SMS that Red Phone handed over."""

    provider: str
    id: str
    to: str
    sender: str
    text: str
    callback_url: str | None
    in_reply: bool = False
    """It came as the answer to a message of the number's owner."""


@dataclass(slots=True)
class Spoken:
    """Something that a call said."""

    text: str
    language: str
    voice: str


@dataclass(slots=True)
class PlacedCall:
    """A call that Red Phone has started."""

    provider: str
    id: str
    to: str
    sender: str
    url: str
    spoken: list[Spoken] = field(default_factory=list)
    pressed: list[str | None] = field(default_factory=list)
    ended: str | None = None
    """How it ended, in the provider's words."""

    @property
    def heard(self) -> str:
        """All that was said."""
        return "\n".join(spoken.text for spoken in self.spoken)


@dataclass(slots=True)
class _Leg:
    """The moving parts of a Telnyx call."""

    call: PlacedCall
    state: str
    keys: deque[str | None]
    commands: set[str] = field(default_factory=set)
    answered: bool = False


def reply_yes(text: str) -> str | None:
    """What somebody writes back who wants to acknowledge: the word and the code that the message asks for."""
    found = _CODE_AFTER_WORD.search(text)
    return f"{found[1]} {found[2]}" if found else None


class TelephoneCompany:
    """Both providers on one free port of 127.0.0.1. Use it as an asynchronous context manager.

    `public_url` is where Red Phone is reached; messages of the numbers' owners are handed in there. It may be set later
    than the start.
    """

    def __init__(self, *, clock: Clock, public_url: str = "", port: int = 0) -> None:
        self.public_url = public_url
        self.account_sid = f"AC{secrets.token_hex(16)}"
        self.auth_token = secrets.token_hex(16)
        self.api_key = f"KEY{secrets.token_hex(24)}"
        self.connection_id = "1494404757140276705"
        self.trouble: dict[str, Trouble] = {"twilio": Trouble.NONE, "telnyx": Trouble.NONE}
        self.lines: defaultdict[str, Line] = defaultdict(Line)
        self.messages: list[SentMessage] = []
        self.calls: list[PlacedCall] = []
        self.callback_statuses: list[int] = []
        """What Red Phone answered to each callback, in order."""
        self.requests = 0
        self.failing_commands = 0
        """So many further commands to a call are answered with 503."""
        self._clock = clock
        self._port = port
        self._signing_key = Ed25519PrivateKey.generate()
        self._validator = RequestValidator(self.auth_token)
        self._legs: dict[str, _Leg] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Condition()
        self._released = asyncio.Event()
        self._http: httpx.AsyncClient | None = None
        self._server: QuietServer | None = None
        self._serving: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        listening = socket.create_server(("127.0.0.1", self._port))
        self._port = listening.getsockname()[1]
        self._http = httpx.AsyncClient(timeout=CALLBACK_SECONDS, trust_env=False)
        self._server = QuietServer(uvicorn.Config(self._app(), log_config=None, lifespan="off", access_log=False))
        self._serving = asyncio.create_task(self._server.serve(sockets=[listening]), name="telephone company")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._server is not None
        assert self._serving is not None
        assert self._http is not None
        self.release()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._server.end()
        await self._serving
        await self._http.aclose()

    # --- what tests and demonstrations ask ----------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """Where both APIs are."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def public_key(self) -> str:
        """What the second provider signs webhooks with, as its portal shows it."""
        return base64.b64encode(self._signing_key.public_key().public_bytes_raw()).decode()

    def environment(self, *, sms: str = "twilio,telnyx", voice: str = "twilio,telnyx") -> dict[str, str]:
        """The variables with which Red Phone uses this company."""
        return {
            "REDPHONE_SMS_PROVIDERS": sms,
            "REDPHONE_VOICE_PROVIDERS": voice,
            "REDPHONE_TWILIO_ACCOUNT_SID": self.account_sid,
            "REDPHONE_TWILIO_AUTH_TOKEN": self.auth_token,
            "REDPHONE_TWILIO_FROM": TWILIO_NUMBER,
            "REDPHONE_TWILIO_URL": self.url,
            "REDPHONE_TELNYX_API_KEY": self.api_key,
            "REDPHONE_TELNYX_PUBLIC_KEY": self.public_key,
            "REDPHONE_TELNYX_FROM": TELNYX_NUMBER,
            "REDPHONE_TELNYX_CONNECTION_ID": self.connection_id,
            "REDPHONE_TELNYX_URL": self.url,
        }

    def release(self) -> None:
        """Answers all requests that a slow provider has kept waiting."""
        self._released.set()

    async def wait_for(self, condition: Callable[[TelephoneCompany], bool]) -> None:
        """Waits until the condition holds; raises `TimeoutError` after `WAIT_SECONDS`."""
        async with asyncio.timeout(WAIT_SECONDS), self._changed:
            await self._changed.wait_for(lambda: condition(self))

    async def text(
        self, sender: str, text: str, *, provider: str = "twilio", message_id: str | None = None
    ) -> str | None:
        """Somebody writes to Red Phone; returns what it answers at once (Twilio), or None."""
        if provider == "twilio":
            fields = {
                "MessageSid": message_id or _sid("SM"),
                "AccountSid": self.account_sid,
                "From": sender,
                "To": TWILIO_NUMBER,
                "Body": text,
                "NumMedia": "0",
                "NumSegments": "1",
                "ApiVersion": "2010-04-01",
            }
            answer = await self.call_back_twilio(f"{self.public_url}/v1/providers/twilio/sms", fields)
            said = _message_of(answer.content) if answer is not None and answer.status_code == 200 else None
            if said is not None:
                await self._remember(
                    SentMessage("twilio", _sid("SM"), sender, TWILIO_NUMBER, said, None, in_reply=True)
                )
            return said
        payload = {
            "id": message_id or _uuid(),
            "record_type": "message",
            "direction": "inbound",
            "type": "SMS",
            "from": {"phone_number": sender, "carrier": "", "line_type": "Wireless"},
            "to": [{"phone_number": TELNYX_NUMBER, "status": "webhook_delivered"}],
            "text": text,
        }
        await self.call_back_telnyx(f"{self.public_url}/v1/providers/telnyx/events", "message.received", payload)
        return None

    async def call_back_twilio(
        self, url: str, fields: Mapping[str, str], *, token: str | None = None
    ) -> httpx.Response | None:
        """Posts a form, signed with the account's token or, to play a forger, another; None if nobody answers."""
        validator = self._validator if token is None else RequestValidator(token)
        headers = {"x-twilio-signature": validator.compute_signature(url, dict(fields))}
        return await self._post(url, headers, data=dict(fields))

    async def call_back_telnyx(
        self,
        url: str,
        kind: str,
        payload: Mapping[str, Any],
        *,
        event_id: str | None = None,
        signed_seconds_ago: int = 0,
        key: Ed25519PrivateKey | None = None,
    ) -> httpx.Response | None:
        """Posts an event, signed now with the company's key; a forger has another key, a replayer an old time."""
        now = self._clock.now()
        event = {
            "record_type": "event",
            "event_type": kind,
            "id": event_id or _uuid(),
            "occurred_at": now.isoformat(),
            "payload": dict(payload),
        }
        body = orjson.dumps({"data": event, "meta": {"attempt": 1, "delivered_to": url}})
        timestamp = str(int(now.timestamp()) - signed_seconds_ago)
        signature = (key or self._signing_key).sign(timestamp.encode() + b"|" + body)
        headers = {
            "content-type": "application/json",
            "telnyx-timestamp": timestamp,
            "telnyx-signature-ed25519": base64.b64encode(signature).decode(),
        }
        return await self._post(url, headers, content=body)

    # --- the server ---------------------------------------------------------------------------------------------------

    def _app(self) -> Starlette:
        account = "/2010-04-01/Accounts/{account}"
        return Starlette(
            routes=[
                Route(f"{account}/Messages.json", self._twilio_message, methods=["POST"]),
                Route(f"{account}/Calls.json", self._twilio_call, methods=["POST"]),
                Route("/v2/messages", self._telnyx_message, methods=["POST"]),
                Route("/v2/calls", self._telnyx_call, methods=["POST"]),
                *(
                    Route(f"/v2/calls/{{call}}/actions/{action}", self._telnyx_command, methods=["POST"], name=action)
                    for action in ("speak", "gather_using_speak", "hangup")
                ),
            ]
        )

    async def _trouble(self, provider: str, to: str) -> Response | None:
        """The answer of a provider that is in trouble; a slow one goes on after it was released."""
        self.requests += 1
        for trouble in (self.trouble[provider], self.lines[to].trouble):
            match trouble:
                case Trouble.DOWN:
                    return _problem(provider, 503, "20503", "Service unavailable")
                case Trouble.BUSY:
                    return _problem(provider, 429, "20429", "Too many requests", {"retry-after": "7"})
                case Trouble.REFUSING:
                    return _problem(provider, 403, "21408", "Permission to send to this region is not enabled")
                case Trouble.SLOW:
                    await self._released.wait()
        return None

    async def _remember(self, what: SentMessage | PlacedCall) -> None:
        if isinstance(what, SentMessage):
            self.messages.append(what)
        else:
            self.calls.append(what)
        await self._tell()

    async def _tell(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _later(self, doing: Any) -> None:
        task = asyncio.create_task(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _post(self, url: str, headers: Mapping[str, str], **body: Any) -> httpx.Response | None:
        assert self._http is not None
        answer: httpx.Response | None = None
        for _ in range(CALLBACK_TRIES):
            with contextlib.suppress(httpx.HTTPError):
                answer = await self._http.post(url, headers=dict(headers), **body)
                self.callback_statuses.append(answer.status_code)
                if answer.status_code < 500:
                    break
        await self._tell()
        return answer

    # --- Twilio -------------------------------------------------------------------------------------------------------

    def _twilio_refusal(self, request: Request, fields: Mapping[str, str]) -> Response | None:
        expected = base64.b64encode(f"{self.account_sid}:{self.auth_token}".encode()).decode()
        if request.headers.get("authorization") != f"Basic {expected}":
            return _problem("twilio", 401, "20003", "Authenticate")
        if request.path_params["account"] != self.account_sid:
            return _problem("twilio", 404, "20404", "The requested resource was not found")
        if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            return _problem("twilio", 415, "20415", "Unsupported media type")
        if not fields.get("To"):
            return _problem("twilio", 400, "21604", "A 'To' phone number is required")
        return None

    async def _twilio_message(self, request: Request) -> Response:
        fields = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
        if (refusal := self._twilio_refusal(request, fields)) is not None:
            return refusal
        to, sender, text = (
            fields["To"],
            fields.get("From", fields.get("MessagingServiceSid", "")),
            fields.get("Body", ""),
        )
        checks = (
            (bool(sender), "21603", "A 'From' number is required"),
            (sender == TWILIO_NUMBER or sender.startswith("MG"), "21606", "The 'From' number is not yours"),
            (bool(text), "21602", "A message body is required"),
            (len(text) <= 1600, "21617", "The message body exceeds the 1600 character limit"),
            (_E164.fullmatch(to) and self.lines[to].sms is not Sms.UNKNOWN, "21211", "Invalid 'To' phone number"),
            (_is_url(fields.get("StatusCallback", "http://x")), "21609", "Invalid 'StatusCallback' URL"),
        )
        for fine, code, message in checks:
            if not fine:
                return _problem("twilio", 400, code, message)
        if (trouble := await self._trouble("twilio", to)) is not None:
            return trouble
        sent = SentMessage("twilio", _sid("SM"), to, sender, text, fields.get("StatusCallback"))
        await self._remember(sent)
        self._later(self._carry(sent))
        answer = {
            "sid": sent.id,
            "account_sid": self.account_sid,
            "to": to,
            "from": sender,
            "body": text,
            "status": "queued",
            "direction": "outbound-api",
            "price": f"-{PRICE}",
            "price_unit": "USD",
            "error_code": None,
            "error_message": None,
        }
        return JSONResponse(answer, status_code=201)

    async def _twilio_status(self, sent: SentMessage, status: str, code: str | None = None) -> None:
        if sent.callback_url is None:
            return
        fields = {
            "MessageSid": sent.id,
            "SmsSid": sent.id,
            "AccountSid": self.account_sid,
            "MessageStatus": status,
            "SmsStatus": status,
            "To": sent.to,
            "From": sent.sender,
            "ApiVersion": "2010-04-01",
        }
        if code is not None:
            fields["ErrorCode"] = code
        await self.call_back_twilio(sent.callback_url, fields)

    async def _twilio_call(self, request: Request) -> Response:
        fields = dict(parse_qsl((await request.body()).decode(), keep_blank_values=True))
        if (refusal := self._twilio_refusal(request, fields)) is not None:
            return refusal
        to = fields["To"]
        if fields.get("From") != TWILIO_NUMBER:
            return _problem("twilio", 400, "21210", "The source phone number is not yours")
        if not _is_url(fields.get("Url", "")):
            return _problem("twilio", 400, "21205", "Url is not a valid URL")
        if not _E164.fullmatch(to) or self.lines[to].pickup is Pickup.UNKNOWN:
            return _problem("twilio", 400, "21217", "The phone number does not appear to be valid")
        if (trouble := await self._trouble("twilio", to)) is not None:
            return trouble
        call = PlacedCall("twilio", _sid("CA"), to, TWILIO_NUMBER, fields["Url"])
        await self._remember(call)
        self._later(self._ring_twilio(call, fields.get("StatusCallback")))
        answer = {"sid": call.id, "account_sid": self.account_sid, "to": to, "status": "queued", "price": None}
        return JSONResponse(answer | {"price_unit": "USD", "direction": "outbound-api"}, status_code=201)

    async def _ring_twilio(self, call: PlacedCall, status_url: str | None) -> None:
        line = self.lines[call.to]
        match line.pickup:
            case Pickup.SILENT:
                return
            case Pickup.BUSY:
                ended = "busy"
            case Pickup.NO_ANSWER:
                ended = "no-answer"
            case _:
                await self._listen(call, deque(line.keys if line.pickup is Pickup.ANSWERED else ()))
                ended = "completed"
        if status_url is not None:
            await self.call_back_twilio(status_url, self._call_fields(call, ended) | {"CallDuration": "20"})
        call.ended = ended
        await self._tell()

    async def _listen(self, call: PlacedCall, keys: deque[str | None]) -> None:
        """Carries out TwiML document after document, as the telephone's owner hears it and presses keys."""
        url = call.url
        extra: dict[str, str] = {}
        while True:
            answer = await self.call_back_twilio(url, self._call_fields(call, "in-progress") | extra)
            if answer is None or answer.status_code != 200:
                return
            gather = None
            for verb in etree.fromstring(answer.content, _PARSER):
                said = verb.iter("Say") if verb.tag == "Gather" else [verb] if verb.tag == "Say" else []
                call.spoken += [Spoken(one.text or "", one.get("language", ""), one.get("voice", "")) for one in said]
                if verb.tag == "Gather":
                    gather = verb
                    break
                if verb.tag == "Hangup":
                    return
            if gather is None:
                return
            key = keys.popleft() if keys else None
            call.pressed.append(key)
            if key is None and gather.get("actionOnEmptyResult") != "true":
                return
            url, extra = urljoin(url, gather.get("action", "")), {"Digits": key or ""}

    def _call_fields(self, call: PlacedCall, status: str) -> dict[str, str]:
        return {
            "CallSid": call.id,
            "AccountSid": self.account_sid,
            "From": call.sender,
            "To": call.to,
            "CallStatus": status,
            "Direction": "outbound-api",
            "ApiVersion": "2010-04-01",
        }

    # --- Telnyx -------------------------------------------------------------------------------------------------------

    async def _telnyx_fields(self, request: Request, *needed: str) -> dict[str, Any] | Response:
        if request.headers.get("authorization") != f"Bearer {self.api_key}":
            return _problem("telnyx", 401, "10009", "Authentication failed")
        try:
            fields = orjson.loads(await request.body())
        except orjson.JSONDecodeError:
            return _problem("telnyx", 400, "10015", "Bad request")
        for name in needed:
            if not fields.get(name):
                return _problem("telnyx", 422, "10004", f"Missing required parameter {name}")
        return dict(fields)

    async def _telnyx_message(self, request: Request) -> Response:
        fields = await self._telnyx_fields(request, "from", "to", "text")
        if isinstance(fields, Response):
            return fields
        to = str(fields["to"])
        if fields["from"] != TELNYX_NUMBER:
            return _problem("telnyx", 400, "40305", "Invalid 'from' address")
        if not _E164.fullmatch(to) or self.lines[to].sms is Sms.UNKNOWN:
            return _problem("telnyx", 400, "40310", "Invalid 'to' address")
        if (trouble := await self._trouble("telnyx", to)) is not None:
            return trouble
        sent = SentMessage(
            "telnyx",
            _uuid(),
            to,
            TELNYX_NUMBER,
            str(fields["text"]),
            fields.get("webhook_url"),
            in_reply="webhook_url" not in fields,
        )
        await self._remember(sent)
        self._later(self._carry(sent))
        return JSONResponse({"data": self._telnyx_payload(sent, "queued")})

    def _telnyx_payload(self, sent: SentMessage, status: str, code: str | None = None) -> dict[str, Any]:
        return {
            "id": sent.id,
            "record_type": "message",
            "direction": "outbound",
            "type": "SMS",
            "from": {"phone_number": sent.sender},
            "to": [{"phone_number": sent.to, "status": status}],
            "text": sent.text,
            "errors": [] if code is None else [{"code": code, "title": "Not delivered"}],
            "cost": None if status == "queued" else {"amount": PRICE, "currency": "USD"},
        }

    async def _telnyx_call(self, request: Request) -> Response:
        fields = await self._telnyx_fields(request, "connection_id", "to", "from", "webhook_url")
        if isinstance(fields, Response):
            return fields
        to = str(fields["to"])
        if fields["connection_id"] != self.connection_id:
            return _problem("telnyx", 422, "10015", "Invalid connection_id")
        if not _E164.fullmatch(to) or self.lines[to].pickup is Pickup.UNKNOWN:
            return _problem("telnyx", 422, "10016", "Phone number must be in +E.164 format")
        if (trouble := await self._trouble("telnyx", to)) is not None:
            return trouble
        call = PlacedCall("telnyx", f"v3:{secrets.token_urlsafe(40)}", to, TELNYX_NUMBER, str(fields["webhook_url"]))
        line = self.lines[to]
        keys = deque(line.keys if line.pickup is Pickup.ANSWERED else ())
        self._legs[call.id] = leg = _Leg(call, str(fields.get("client_state", "")), keys)
        await self._remember(call)
        self._later(self._ring_telnyx(leg))
        ids = {"call_control_id": call.id, "call_leg_id": _uuid(), "call_session_id": _uuid()}
        return JSONResponse({"data": {"record_type": "call", "is_alive": True, **ids}})

    async def _ring_telnyx(self, leg: _Leg) -> None:
        causes = {Pickup.BUSY: "user_busy", Pickup.NO_ANSWER: "timeout"}
        pickup = self.lines[leg.call.to].pickup
        if pickup is Pickup.SILENT:
            return
        await self._event(leg, "call.initiated", {"direction": "outgoing"})
        if pickup in causes:
            await self._hang_up(leg, causes[pickup])
        else:
            leg.answered = True
            await self._event(leg, "call.answered", {})

    async def _telnyx_command(self, request: Request) -> Response:
        fields = await self._telnyx_fields(request)
        if isinstance(fields, Response):
            return fields
        leg = self._legs.get(request.path_params["call"])
        if (trouble := await self._trouble_of_command(leg)) is not None:
            return trouble
        done = JSONResponse({"data": {"result": "ok"}})
        if leg is None or leg.call.ended is not None or not leg.answered:
            return _problem("telnyx", 422, "90018", "Call has already ended")
        if (command_id := str(fields.get("command_id"))) in leg.commands:
            return done
        leg.commands.add(command_id)
        action = request.url.path.rpartition("/")[2]
        if action == "hangup":
            self._later(self._hang_up(leg, "normal_clearing"))
        elif not fields.get("payload") or not fields.get("voice"):
            return _problem("telnyx", 422, "10004", "Missing required parameter")
        else:
            leg.state = str(fields.get("client_state", leg.state))
            said = Spoken(str(fields["payload"]), str(fields.get("language", "")), str(fields["voice"]))
            leg.call.spoken.append(said)
            self._later(self._spoken(leg, gathers=action == "gather_using_speak"))
        return done

    async def _trouble_of_command(self, leg: _Leg | None) -> Response | None:
        if self.failing_commands:
            self.failing_commands -= 1
            return _problem("telnyx", 503, "10007", "Unexpected error")
        return None if leg is None else await self._trouble("telnyx", leg.call.to)

    async def _spoken(self, leg: _Leg, *, gathers: bool) -> None:
        if not gathers:
            await self._event(leg, "call.speak.ended", {"status": "completed"})
            return
        key = leg.keys.popleft() if leg.keys else None
        leg.call.pressed.append(key)
        result = {"digits": key or "", "status": "timeout" if key is None else "valid"}
        await self._event(leg, "call.gather.ended", result)

    async def _hang_up(self, leg: _Leg, cause: str) -> None:
        await self._event(leg, "call.hangup", {"hangup_cause": cause, "hangup_source": "caller", "state": "hangup"})
        leg.call.ended = cause
        await self._tell()

    async def _event(self, leg: _Leg, kind: str, more: Mapping[str, Any]) -> None:
        call = leg.call
        payload = {
            "call_control_id": call.id,
            "connection_id": self.connection_id,
            "client_state": leg.state,
            "from": call.sender,
            "to": call.to,
            **more,
        }
        await self.call_back_telnyx(call.url, kind, payload)

    # --- both ---------------------------------------------------------------------------------------------------------

    async def _carry(self, sent: SentMessage) -> None:
        """Brings a message to its telephone, tells the sender, and lets its owner answer."""
        line = self.lines[sent.to]
        if line.sms is Sms.SILENT:
            return
        arrived = line.sms is Sms.DELIVERED
        if sent.provider == "twilio":
            code = {Sms.UNDELIVERED: "30003", Sms.UNKNOWN_LATER: "30005"}.get(line.sms)
            await self._twilio_status(sent, "sent")
            await self._twilio_status(sent, "delivered" if arrived else "undelivered", code)
        elif sent.callback_url is not None:
            code = {Sms.UNDELIVERED: "40008", Sms.UNKNOWN_LATER: "40001"}.get(line.sms)
            await self.call_back_telnyx(sent.callback_url, "message.sent", self._telnyx_payload(sent, "sent"))
            final = self._telnyx_payload(sent, "delivered" if arrived else "delivery_failed", code)
            await self.call_back_telnyx(sent.callback_url, "message.finalized", final)
        if arrived and not sent.in_reply and line.reply is not None and (answer := line.reply(sent.text)) is not None:
            await self.text(sent.to, answer, provider=sent.provider)


def _problem(
    provider: str, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> JSONResponse:
    if provider == "twilio":
        body: dict[str, Any] = {"code": int(code), "message": message, "status": status, "more_info": ""}
    else:
        body = {"errors": [{"code": code, "title": message, "detail": message}]}
    return JSONResponse(body, status_code=status, headers=dict(headers or {}))


def _message_of(document: bytes) -> str | None:
    """The text of the TwiML that answers a message."""
    found = etree.fromstring(document, _PARSER).find("Message")
    return None if found is None else found.text


def _is_url(text: str) -> bool:
    parts = urlsplit(text)
    return parts.scheme in ("http", "https") and bool(parts.hostname)


def _sid(kind: str) -> str:
    return f"{kind}{secrets.token_hex(16)}"


def _uuid() -> str:
    raw = binascii.hexlify(secrets.token_bytes(16)).decode()
    return f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-a{raw[17:20]}-{raw[20:]}"
