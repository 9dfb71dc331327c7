"""Twilio: SMS through the Messages API, voice through the Calls API and TwiML.

After Twilio's own documentation:
    Messages    https://www.twilio.com/docs/messaging/api/message-resource
    Calls       https://www.twilio.com/docs/voice/api/call-resource
    TwiML       https://www.twilio.com/docs/voice/twiml/gather, .../say, https://www.twilio.com/docs/messaging/twiml
    signatures  https://www.twilio.com/docs/usage/webhooks/webhooks-security
    errors      https://www.twilio.com/docs/api/errors

Requests are form-encoded with basic authentication. Callbacks are form-encoded as well and signed with the account's
auth token over the public URL and all fields, so that a state in the URL cannot be changed on its way.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit
from uuid import UUID
from xml.sax.saxutils import escape, quoteattr

from starlette.datastructures import ImmutableMultiDict
from twilio.request_validator import RequestValidator

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

NAME = "twilio"
FIELDS_MAX = 100
CALL_SECONDS_MAX = 600
"""No call lasts longer, whatever happens on it."""

UNKNOWN_NUMBER_CODES = frozenset({"21211", "21217", "21614", "30005", "30006"})
"""Invalid 'To' number, invalid number for a call, not a mobile number, unknown handset, landline or no carrier."""

VOICES: Mapping[str, tuple[str, str]] = {
    "en": ("en-GB", "Polly.Amy-Neural"),
    "fr": ("fr-FR", "Polly.Lea-Neural"),
    "es": ("es-ES", "Polly.Lucia-Neural"),
    "it": ("it-IT", "Polly.Bianca-Neural"),
    "pt": ("pt-PT", "Polly.Ines-Neural"),
    "de": ("de-DE", "Polly.Vicki-Neural"),
    "ar": ("ar-AE", "Polly.Hala-Neural"),
}
"""Locale and voice by language (https://www.twilio.com/docs/voice/twiml/say/text-speech)."""

HANG_UP = b'<?xml version="1.0" encoding="UTF-8"?>\n<Response><Hangup/></Response>'
NOTHING = b'<?xml version="1.0" encoding="UTF-8"?>\n<Response/>'

PATH = "/v1/providers/twilio"
_FORM = "application/x-www-form-urlencoded"
_UNANSWERED = {"no-answer": "no answer", "busy": "busy", "canceled": "cancelled"}
_SIP_UNKNOWN = frozenset({"404", "484", "604"})
"""Not found, address incomplete, does not exist anywhere (RFC 3261, section 21)."""


class Twilio:
    """An account. `sender` is a number, an alphanumeric sender or the id of a messaging service (`MG…`); calls need a
    number. `public_url` is where Twilio reaches us.
    """

    name = NAME

    def __init__(
        self,
        *,
        account_sid: str,
        auth_token: str,
        sender: str,
        api_url: str,
        public_url: str,
        version: str,
        clock: Clock,
    ) -> None:
        self._account_sid = account_sid
        self._sender = sender
        self._callbacks = f"{public_url.rstrip('/')}{PATH}"
        self._validator = RequestValidator(auth_token)
        credentials = base64.b64encode(f"{account_sid}:{auth_token}".encode()).decode()
        self._api = ApiClient(
            api_url,
            headers={"authorization": f"Basic {credentials}", "accept": "application/json"},
            user_agent=f"RedPhone/{version}",
            clock=clock,
        )

    async def send_sms(
        self, to: str, text: str, *, page_id: UUID | None, seconds: float, is_urgent: bool = True
    ) -> Answer:
        """Creates a message."""
        sender = "MessagingServiceSid" if self._sender.startswith("MG") else "From"
        fields = {"To": to, sender: self._sender, "Body": fit(text, SMS_CHARACTERS_MAX)}
        if page_id is not None:
            fields["StatusCallback"] = f"{self._callbacks}/status"
        return await self._create("Messages", fields, seconds, is_urgent=is_urgent)

    async def start_call(self, to: str, *, page_id: UUID, seconds: float, is_urgent: bool = True) -> Answer:
        """Creates a call, which asks `voice` what to say when somebody answers."""
        fields = {
            "To": to,
            "From": self._sender,
            "Url": self.call_url("voice", CallState(page_id)),
            "Method": "POST",
            "StatusCallback": f"{self._callbacks}/status",
            "StatusCallbackEvent": "completed",
            "StatusCallbackMethod": "POST",
            "Timeout": str(RING_SECONDS),
            "TimeLimit": str(CALL_SECONDS_MAX),
        }
        return await self._create("Calls", fields, seconds, is_urgent=is_urgent)

    async def prepare(self) -> None:
        """Builds the client."""
        await self._api.prepare()

    async def close(self) -> None:
        """Closes all connections."""
        await self._api.close()

    def verify(self, request: CallbackRequest, *, now: datetime) -> bool:  # noqa: ARG002 - Twilio signs no time
        """Whether the signature is of our auth token over this URL and these fields."""
        fields = _fields(request.body)
        signature = request.headers.get("x-twilio-signature", "")
        if fields is None or not signature:
            return False
        return bool(self._validator.validate(request.url, fields, signature))

    def parse(self, request: CallbackRequest) -> Callback | None:
        """What a verified callback tells, by the last part of its path."""
        parts = urlsplit(request.url)
        fields = _fields(request.body)
        if fields is None or fields.get("AccountSid", self._account_sid) != self._account_sid:
            return None
        match parts.path.rpartition("/")[2]:
            case "status" if "CallSid" in fields:
                return _call_ended(fields)
            case "status":
                return _status_told(fields)
            case "sms":
                return _text_received(fields)
            case "voice" | "keys" as kind:
                return _call_asks(kind, fields, parts.query)
        return None

    def call_url(self, kind: str, state: CallState) -> str:
        """Where Twilio asks how the call goes on: `voice` when it is answered, `keys` after each round."""
        return f"{self._callbacks}/{kind}?{urlencode({'call': state.encode()})}"

    def document(self, step: Step) -> bytes:
        """The TwiML of a step."""
        says = "".join(_say(text, step.language) for text in step.says)
        if step.state.is_closing:
            return _document(f"{says}<Hangup/>")
        action = quoteattr(self.call_url("keys", step.state))
        return _document(
            f'<Gather input="dtmf" numDigits="1" timeout="{LISTEN_SECONDS}" action={action} method="POST"'
            f' actionOnEmptyResult="true">{says}</Gather>'
        )

    async def _create(self, kind: str, fields: Mapping[str, str], seconds: float, *, is_urgent: bool) -> Answer:
        path = f"/2010-04-01/Accounts/{self._account_sid}/{kind}.json"
        said = await self._api.post(path, urlencode(fields).encode(), _FORM, seconds=seconds, is_urgent=is_urgent)
        body: Mapping[str, object] = {} if isinstance(said, Failure) else said.body
        return answer_of(
            said,
            provider_id=body.get("sid"),
            code=error_code(body.get("code")),
            unknown_address_codes=UNKNOWN_NUMBER_CODES,
            cost=cost_of(body.get("price"), body.get("price_unit")),
        )


def reply_document(text: str) -> bytes:
    """The TwiML that answers an SMS; an empty text answers nothing."""
    return _document(f"<Message>{_xml(fit(text, SMS_CHARACTERS_MAX))}</Message>") if text else NOTHING


def _fields(body: bytes) -> ImmutableMultiDict[str, str] | None:
    """The fields of a form; None if it is none."""
    try:
        pairs = parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=FIELDS_MAX, errors="strict")
    except ValueError:
        return None
    return ImmutableMultiDict(pairs)


def _id(fields: Mapping[str, str], name: str) -> str | None:
    value = fields.get(name, "")
    return value if 0 < len(value) <= PROVIDER_ID_CHARACTERS_MAX and value.isalnum() and value.isascii() else None


def _status_told(fields: Mapping[str, str]) -> StatusTold | None:
    """Of the states only the last ones say anything: `sent` means that a carrier has it, which we knew to be likely."""
    message_id, told = _id(fields, "MessageSid"), fields.get("MessageStatus")
    if message_id is None:
        return None
    code = error_code(fields.get("ErrorCode", ""))
    match told:
        case "delivered" | "read":
            state, reason, detail = AttemptState.DELIVERED, Reason.ACCEPTED, None
        case "undelivered" | "failed" | "canceled":
            state = AttemptState.FAILED
            reason = Reason.ADDRESS_UNKNOWN if code in UNKNOWN_NUMBER_CODES else Reason.NOT_DELIVERED
            detail = told if code is None else f"{told}, error {code}"
        case _:
            return None
    cost = cost_of(fields.get("Price"), fields.get("PriceUnit"))
    return StatusTold(f"{message_id}:{told}", ProviderStatus(NAME, message_id, state, reason, detail, cost))


def _call_ended(fields: Mapping[str, str]) -> CallEnded | None:
    call_id, told = _id(fields, "CallSid"), fields.get("CallStatus", "")
    if call_id is None:
        return None
    event_id = f"{call_id}:{told}"
    cost = cost_of(fields.get("Price"), fields.get("PriceUnit"))
    if told == "completed":
        return CallEnded(event_id, call_id, None, None, cost)
    if told in _UNANSWERED:
        return CallEnded(event_id, call_id, Reason.NOT_ANSWERED, _UNANSWERED[told], cost)
    if told == "failed":
        sip = error_code(fields.get("SipResponseCode", ""))
        reason = Reason.ADDRESS_UNKNOWN if sip in _SIP_UNKNOWN else Reason.NOT_DELIVERED
        return CallEnded(event_id, call_id, reason, "failed" if sip is None else f"failed, SIP {sip}", cost)
    return None


def _text_received(fields: Mapping[str, str]) -> TextReceived | None:
    message_id, sender = _id(fields, "MessageSid"), fields.get("From", "")
    if message_id is None or not E164.fullmatch(sender):
        return None
    return TextReceived(message_id, sender, fields.get("Body", "")[:INBOUND_CHARACTERS_MAX])


def _call_asks(kind: str, fields: Mapping[str, str], query: str) -> CallAnswered | KeyPressed | None:
    call_id = _id(fields, "CallSid")
    state = CallState.decode(parse_qs(query).get("call", [""])[0])
    if call_id is None or state is None:
        return None
    event_id = f"{call_id}:{kind}:{state.turn}"
    if kind == "voice":
        answered_by = fields.get("AnsweredBy", "human")
        return CallAnswered(event_id, call_id, state, answered_by.startswith("machine") or answered_by == "fax")
    digits = fields.get("Digits", "")
    return KeyPressed(event_id, call_id, state, digits[:1] or None)


def _document(content: str) -> bytes:
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Response>{content}</Response>'.encode()


def _say(text: str, language: str) -> str:
    locale, voice = VOICES.get(language.partition("-")[0], (language, ""))
    voiced = f" voice={quoteattr(voice)}" if voice else ""
    return f"<Say language={quoteattr(locale)}{voiced}>{_xml(fit(text, SPOKEN_CHARACTERS_MAX))}</Say>"


def _xml(text: str) -> str:
    """Text as XML 1.0 allows it: control characters and lone surrogates have no form there."""
    allowed = (c for c in text if c in "\t\n\r" or "\x20" <= c <= "\ud7ff" or "\ue000" <= c <= "\ufffd" or c > "\uffff")
    return escape("".join(allowed))
