"""Telnyx: SMS through the Messages API v2, voice through Call Control v2.

After Telnyx's own documentation:
    Messages    https://developers.telnyx.com/docs/messaging/messages/send-message
    Webhooks    https://developers.telnyx.com/docs/messaging/messages/receiving-webhooks
                https://developers.telnyx.com/docs/voice/programmable-voice/receiving-webhooks
    Dial        https://developers.telnyx.com/api-reference/call-commands/dial
    Gather      https://developers.telnyx.com/api-reference/call-commands/gather-using-speak
    Speak       https://developers.telnyx.com/api-reference/call-commands/speak-text
    errors      https://developers.telnyx.com/docs/messaging/messages/error-codes
    hang-up     https://developers.telnyx.com/api-reference/callbacks/call-hangup

Requests are JSON with a bearer key. Webhooks carry an Ed25519 signature over `timestamp|body`. They come in any order
and more than once; a command that repeats its `command_id` within a minute is ignored. A call asks for nothing: each
event of it is answered by a command of ours, and its state travels with it as `client_state`.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from services.escalation.channels import AttemptState, ProviderStatus, Reason
from services.escalation.channels.providers import (
    E164,
    INBOUND_CHARACTERS_MAX,
    SMS_CHARACTERS_MAX,
    Answer,
    CallAnswered,
    Callback,
    CallbackRequest,
    CallEnded,
    KeyPressed,
    SpeechEnded,
    StatusTold,
    TextReceived,
    fit,
)
from services.escalation.channels.providers.calls import (
    LISTEN_SECONDS,
    RING_SECONDS,
    SPOKEN_CHARACTERS_MAX,
    CallState,
    Step,
)
from services.escalation.channels.providers.http import (
    PROVIDER_ID_CHARACTERS_MAX,
    ApiClient,
    Failure,
    answer_of,
    cost_of,
    error_code,
)
from shared.clock import Clock

NAME = "telnyx"
TOLERANCE_SECONDS = 300
"""How old, or how far ahead, a webhook's timestamp may be: what Telnyx's own libraries allow."""

CALL_SECONDS_MAX = 600
COMMAND_SECONDS = 1.5
"""A webhook is to be answered within two seconds; what a command has not done by then is asked for again with it."""

UNKNOWN_NUMBER_CODES = frozenset({"10002", "10016", "40001", "40310"})
"""Invalid number, not E.164, not routable (a landline, or no number at all), invalid 'to' address."""

VOICES: Mapping[str, str] = {
    "en": "AWS.Polly.Amy-Neural",
    "fr": "AWS.Polly.Lea-Neural",
    "es": "AWS.Polly.Lucia-Neural",
    "it": "AWS.Polly.Bianca-Neural",
    "pt": "AWS.Polly.Ines-Neural",
    "de": "AWS.Polly.Vicki-Neural",
    "ar": "AWS.Polly.Hala-Neural",
}
"""Voices by language (https://developers.telnyx.com/docs/voice/programmable-voice/tts)."""

PATH = "/v1/providers/telnyx"
_NOT_ANSWERED = {
    "user_busy": "busy",
    "timeout": "no answer",
    "no_answer": "no answer",
    "originator_cancel": "cancelled",
    "call_rejected": "rejected",
}
_ANSWERED = frozenset({"normal_clearing", "time_limit"})
_UNDELIVERED = frozenset({"sending_failed", "delivery_failed", "expired"})
_JSON = "application/json"


class Telnyx:
    """An account. `public_key` is what Telnyx signs webhooks with (32 bytes, base64), `connection_id` the Voice API
    application that calls go through.
    """

    name = NAME

    def __init__(
        self,
        *,
        api_key: str,
        public_key: str,
        sender: str,
        connection_id: str,
        api_url: str,
        public_url: str,
        version: str,
        clock: Clock,
    ) -> None:
        self._sender = sender
        self._connection_id = connection_id
        self._webhook_url = f"{public_url.rstrip('/')}{PATH}/events"
        self._public_key = Ed25519PublicKey.from_public_bytes(base64.b64decode(public_key))
        self._api = ApiClient(
            api_url,
            headers={"authorization": f"Bearer {api_key}", "accept": _JSON},
            user_agent=f"RedPhone/{version}",
            clock=clock,
        )

    async def send_sms(
        self, to: str, text: str, *, page_id: UUID | None, seconds: float, is_urgent: bool = True
    ) -> Answer:
        """Creates a message."""
        fields: dict[str, Any] = {"from": self._sender, "to": to, "text": fit(text, SMS_CHARACTERS_MAX), "type": "SMS"}
        if page_id is not None:
            fields |= {"webhook_url": self._webhook_url, "use_profile_webhooks": False}
        return await self._create("/v2/messages", fields, "id", seconds, is_urgent=is_urgent)

    async def start_call(self, to: str, *, page_id: UUID, seconds: float, is_urgent: bool = True) -> Answer:
        """Dials."""
        fields = {
            "to": to,
            "from": self._sender,
            "connection_id": self._connection_id,
            "webhook_url": self._webhook_url,
            "webhook_url_method": "POST",
            "timeout_secs": RING_SECONDS,
            "time_limit_secs": CALL_SECONDS_MAX,
            "client_state": _packed(CallState(page_id)),
        }
        return await self._create("/v2/calls", fields, "call_control_id", seconds, is_urgent=is_urgent)

    async def continue_call(self, call_id: str, step: Step | None, *, command_id: str) -> Answer:
        """Says what is next and listens, says the last words, or hangs up if there is nothing to say.

        `command_id` names the event that asks for it, so that an event that comes twice does it once.
        """
        fields: dict[str, Any] = {"command_id": command_id}
        action = "hangup"
        if step is not None:
            spoken = "\n".join(step.says)
            voice = VOICES.get(step.language.partition("-")[0], VOICES["en"])
            fields |= {"payload": fit(spoken, SPOKEN_CHARACTERS_MAX), "voice": voice}
            fields["client_state"] = _packed(step.state)
            action = "speak"
            if not step.state.is_closing:
                action = "gather_using_speak"
                fields |= {
                    "minimum_digits": 1,
                    "maximum_digits": 1,
                    "maximum_tries": 1,
                    "timeout_millis": LISTEN_SECONDS * 1000,
                    "valid_digits": "0123456789",
                }
        path = f"/v2/calls/{quote(call_id, safe='')}/actions/{action}"
        said = await self._api.post(path, orjson.dumps(fields), _JSON, seconds=COMMAND_SECONDS)
        done = not isinstance(said, Failure) and 200 <= said.status_code < 300
        return answer_of(
            said, provider_id=call_id if done else None, code=None, unknown_address_codes=UNKNOWN_NUMBER_CODES
        )

    async def prepare(self) -> None:
        """Builds the client."""
        await self._api.prepare()

    async def close(self) -> None:
        """Closes all connections."""
        await self._api.close()

    def verify(self, request: CallbackRequest, *, now: datetime) -> bool:
        """Whether the signature is Telnyx's over exactly this body, made within `TOLERANCE_SECONDS` of now."""
        timestamp = request.headers.get("telnyx-timestamp", "")
        if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
            return False
        if abs(now.timestamp() - int(timestamp)) > TOLERANCE_SECONDS:
            return False
        try:
            signature = base64.b64decode(request.headers.get("telnyx-signature-ed25519", ""), validate=True)
            self._public_key.verify(signature, timestamp.encode() + b"|" + request.body)
        except (InvalidSignature, binascii.Error, ValueError):
            return False
        return True

    def parse(self, request: CallbackRequest) -> Callback | None:
        """What a verified event tells."""
        try:
            data = orjson.loads(request.body)["data"]
            event_id, kind, payload = data["id"], data["event_type"], data["payload"]
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return None
        if not isinstance(payload, dict) or not isinstance(event_id, str) or not _is_id(event_id):
            return None
        match kind:
            case "message.finalized":
                return _status_told(event_id, payload)
            case "message.received":
                return _text_received(payload)
            case "call.answered" | "call.gather.ended" | "call.speak.ended" | "call.hangup":
                return _call_event(event_id, kind, payload)
        return None

    async def _create(
        self, path: str, fields: Mapping[str, Any], id_name: str, seconds: float, *, is_urgent: bool
    ) -> Answer:
        said = await self._api.post(path, orjson.dumps(fields), _JSON, seconds=seconds, is_urgent=is_urgent)
        body: Mapping[str, Any] = {} if isinstance(said, Failure) else said.body
        data = _object(body.get("data"))
        cost = _object(data.get("cost"))
        return answer_of(
            said,
            provider_id=data.get(id_name),
            code=_first_code(body.get("errors")),
            unknown_address_codes=UNKNOWN_NUMBER_CODES,
            cost=cost_of(cost.get("amount"), cost.get("currency")),
        )


def _status_told(event_id: str, payload: Mapping[str, Any]) -> StatusTold | None:
    message_id = payload.get("id")
    receivers = payload.get("to")
    told = _object(receivers[0]).get("status") if isinstance(receivers, list) and receivers else None
    if not _is_id(message_id):
        return None
    code = _first_code(payload.get("errors"))
    if told == "delivered":
        state, reason, detail = AttemptState.DELIVERED, Reason.ACCEPTED, None
    elif told in _UNDELIVERED:
        state = AttemptState.FAILED
        reason = Reason.ADDRESS_UNKNOWN if code in UNKNOWN_NUMBER_CODES else Reason.NOT_DELIVERED
        detail = str(told) if code is None else f"{told}, error {code}"
    else:
        # `delivery_unconfirmed`: the network never tells; whoever needs to know has the next contact point rung.
        return None
    cost = _object(payload.get("cost"))
    told_cost = cost_of(cost.get("amount"), cost.get("currency"))
    return StatusTold(event_id, ProviderStatus(NAME, str(message_id), state, reason, detail, told_cost))


def _text_received(payload: Mapping[str, Any]) -> TextReceived | None:
    message_id, text = payload.get("id"), payload.get("text")
    sender = _object(payload.get("from")).get("phone_number")
    if not _is_id(message_id) or not isinstance(sender, str) or not E164.fullmatch(sender):
        return None
    return TextReceived(str(message_id), sender, text[:INBOUND_CHARACTERS_MAX] if isinstance(text, str) else "")


def _call_event(event_id: str, kind: str, payload: Mapping[str, Any]) -> Callback | None:
    call_id, state = payload.get("call_control_id"), _unpacked(payload.get("client_state"))
    if not _is_id(call_id) or state is None:
        return None
    call = str(call_id)
    match kind:
        case "call.answered":
            return CallAnswered(event_id, call, state)
        case "call.speak.ended":
            return SpeechEnded(event_id, call) if state.is_closing else None
        case "call.hangup":
            return _call_ended(event_id, call, str(payload.get("hangup_cause")))
    if payload.get("status") in {"call_hangup", "cancelled"}:
        return None
    digits = payload.get("digits")
    return KeyPressed(event_id, call, state, digits[:1] or None if isinstance(digits, str) else None)


def _call_ended(event_id: str, call_id: str, cause: str) -> CallEnded:
    if cause in _ANSWERED:
        return CallEnded(event_id, call_id, None)
    if cause == "not_found":
        return CallEnded(event_id, call_id, Reason.ADDRESS_UNKNOWN, "not found")
    if cause in _NOT_ANSWERED:
        return CallEnded(event_id, call_id, Reason.NOT_ANSWERED, _NOT_ANSWERED[cause])
    return CallEnded(event_id, call_id, Reason.NOT_DELIVERED, "failed")


def _is_id(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= PROVIDER_ID_CHARACTERS_MAX and value.isprintable()


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _first_code(errors: object) -> str | None:
    return error_code(_object(errors[0]).get("code")) if isinstance(errors, list) and errors else None


def _packed(state: CallState) -> str:
    return base64.b64encode(state.encode().encode()).decode()


def _unpacked(value: object) -> CallState | None:
    if not isinstance(value, str) or len(value) > 200:
        return None
    try:
        return CallState.decode(base64.b64decode(value, validate=True).decode())
    except (binascii.Error, ValueError):
        return None
