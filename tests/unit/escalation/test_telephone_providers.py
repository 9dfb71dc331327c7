"""What the two telephone providers' callbacks mean, and which of them are believed."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import orjson
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree
from twilio.request_validator import RequestValidator

from services.escalation.channels import AttemptState, Cost, Reason
from services.escalation.channels.providers import (
    CallAnswered,
    CallbackRequest,
    CallEnded,
    KeyPressed,
    SpeechEnded,
    StatusTold,
    TextReceived,
)
from services.escalation.channels.providers.calls import CallState, Step
from services.escalation.channels.providers.http import Reply, answer_of, cost_of, error_code
from services.escalation.channels.providers.telnyx import TOLERANCE_SECONDS, Telnyx
from services.escalation.channels.providers.telnyx import VOICES as TELNYX_VOICES
from services.escalation.channels.providers.twilio import FIELDS_MAX, Twilio, reply_document
from services.escalation.channels.providers.twilio import VOICES as TWILIO_VOICES
from services.escalation.people.texts import LANGUAGES
from shared.clock import ManualClock

NOW = datetime(2021, 8, 15, 9, 30, tzinfo=UTC)
PAGE = UUID("01990000-0000-7000-8000-000000000001")
ACCOUNT = "AC" + "0" * 32
TOKEN = "a made-up auth token"
PUBLIC = "https://redphone.example"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STATE = CallState(PAGE, round=2, turn=3)


@pytest.fixture
def twilio() -> Twilio:
    """An account at Twilio."""
    return Twilio(
        account_sid=ACCOUNT,
        auth_token=TOKEN,
        sender="+15005550006",
        api_url="https://api.twilio.example",
        public_url=PUBLIC,
        version="1",
        clock=ManualClock(NOW),
    )


@pytest.fixture
def telnyx() -> Telnyx:
    """An account at Telnyx."""
    return Telnyx(
        api_key="KEY" + "0" * 20,
        public_key=base64.b64encode(KEY.public_key().public_bytes_raw()).decode(),
        sender="+15005550107",
        connection_id="1",
        api_url="https://api.telnyx.example",
        public_url=PUBLIC,
        version="1",
        clock=ManualClock(NOW),
    )


def form(kind: str, query: str = "", **fields: str) -> CallbackRequest:
    """A callback of Twilio, unsigned."""
    url = f"{PUBLIC}/v1/providers/twilio/{kind}{query}"
    return CallbackRequest(url, {}, urlencode({"AccountSid": ACCOUNT, **fields}).encode())


def event(kind: str, **payload: Any) -> CallbackRequest:
    """A webhook of Telnyx, unsigned."""
    body = {"data": {"id": "event-1", "event_type": kind, "payload": payload}}
    return CallbackRequest(f"{PUBLIC}/v1/providers/telnyx/events", {}, orjson.dumps(body))


# --- Twilio -----------------------------------------------------------------------------------------------------------


def signed(
    request: CallbackRequest, fields: dict[str, str], *, token: str = TOKEN, url: str | None = None
) -> CallbackRequest:
    """The callback with a signature."""
    signature = RequestValidator(token).compute_signature(url or request.url, fields)
    return CallbackRequest(request.url, {"x-twilio-signature": signature}, urlencode(fields).encode())


def test_twilio_is_believed_for_its_own_signature_only(twilio: Twilio) -> None:
    """The signature covers address, query and every field, in Unicode, and is made with our token."""
    fields = {"MessageSid": "SM1", "Body": "OUI 4821 – été", "Empty": ""}
    request = form("sms", "?a=b%20c")
    assert twilio.verify(signed(request, fields), now=NOW)
    assert not twilio.verify(signed(request, fields, token="another"), now=NOW)
    assert not twilio.verify(signed(request, fields, url=f"{PUBLIC}/v1/providers/twilio/sms"), now=NOW)
    genuine = signed(request, fields)
    for changed in ({**fields, "Body": "YES 4821"}, {**fields, "More": "1"}, {"MessageSid": "SM1"}):
        assert not twilio.verify(CallbackRequest(genuine.url, genuine.headers, urlencode(changed).encode()), now=NOW)
    assert not twilio.verify(CallbackRequest(genuine.url, {}, genuine.body), now=NOW)


def test_a_form_that_is_none_is_not_believed(twilio: Twilio) -> None:
    """Neither too many fields nor bytes that are no text come further than the signature."""
    headers = {"x-twilio-signature": "c2lnbmF0dXJl"}
    for body in (b"\xff\xfe", b"&".join(b"a%d=1" % number for number in range(FIELDS_MAX + 2))):
        assert not twilio.verify(CallbackRequest(f"{PUBLIC}/v1/providers/twilio/sms", headers, body), now=NOW)


@pytest.mark.parametrize(
    ("told", "code", "state", "reason"),
    [
        ("delivered", None, AttemptState.DELIVERED, Reason.ACCEPTED),
        ("undelivered", "30003", AttemptState.FAILED, Reason.NOT_DELIVERED),
        ("undelivered", "30005", AttemptState.FAILED, Reason.ADDRESS_UNKNOWN),
        ("undelivered", "30006", AttemptState.FAILED, Reason.ADDRESS_UNKNOWN),
        ("failed", "21614", AttemptState.FAILED, Reason.ADDRESS_UNKNOWN),
        ("failed", "21211", AttemptState.FAILED, Reason.ADDRESS_UNKNOWN),
        ("failed", "99999", AttemptState.FAILED, Reason.NOT_DELIVERED),
        ("failed", None, AttemptState.FAILED, Reason.NOT_DELIVERED),
    ],
)
def test_what_twilio_says_of_a_message(
    twilio: Twilio, told: str, code: str | None, state: AttemptState, reason: Reason
) -> None:
    """Its last states become ours; a number that is none is told apart from a telephone that is off."""
    fields = {"MessageSid": "SM1", "MessageStatus": told} | ({} if code is None else {"ErrorCode": code})
    callback = twilio.parse(form("status", **fields))
    assert isinstance(callback, StatusTold)
    assert (callback.status.state, callback.status.reason) == (state, reason)
    assert (callback.status.provider, callback.status.provider_id) == ("twilio", "SM1")
    assert callback.event_id == f"SM1:{told}"


@pytest.mark.parametrize("told", ["queued", "sending", "sent", "accepted", "", "delivered\n"])
def test_states_on_the_way_say_nothing(twilio: Twilio, told: str) -> None:
    """That a network has the message is what `sent` says already."""
    assert twilio.parse(form("status", MessageSid="SM1", MessageStatus=told)) is None


@pytest.mark.parametrize(
    ("told", "sip", "reason"),
    [
        ("completed", None, None),
        ("busy", None, Reason.NOT_ANSWERED),
        ("no-answer", None, Reason.NOT_ANSWERED),
        ("canceled", None, Reason.NOT_ANSWERED),
        ("failed", None, Reason.NOT_DELIVERED),
        ("failed", "503", Reason.NOT_DELIVERED),
        ("failed", "404", Reason.ADDRESS_UNKNOWN),
    ],
)
def test_how_a_call_at_twilio_ends(twilio: Twilio, told: str, sip: str | None, reason: Reason | None) -> None:
    """Nobody there, no such number and a network that failed are three things."""
    fields = {"CallSid": "CA1", "CallStatus": told} | ({} if sip is None else {"SipResponseCode": sip})
    callback = twilio.parse(form("status", **fields))
    assert isinstance(callback, CallEnded)
    assert (callback.call_id, callback.reason) == ("CA1", reason)


def test_what_is_not_ours_at_twilio_says_nothing(twilio: Twilio) -> None:
    """Another account, an id that is none, a sender without a number, a call without a state: nothing happens."""
    assert twilio.parse(form("status", MessageSid="SM1", MessageStatus="delivered", AccountSid="AC" + "1" * 32)) is None
    assert twilio.parse(form("status", MessageSid="SM 1'", MessageStatus="delivered")) is None
    assert twilio.parse(form("sms", MessageSid="SM1", From="BANK", Body="YES 4821")) is None
    assert twilio.parse(form("keys", CallSid="CA1", Digits="1")) is None
    assert twilio.parse(form("keys", "?call=x", CallSid="CA1", Digits="1")) is None
    assert twilio.parse(form("other", MessageSid="SM1")) is None


def test_replies_and_calls_at_twilio_are_read(twilio: Twilio) -> None:
    """A reply has its sender and words; a call its state, its key, and whether a machine took it."""
    assert twilio.parse(form("sms", MessageSid="SM1", From="+447700900001", Body="نعم ٤٨٢١")) == TextReceived(
        "SM1", "+447700900001", "نعم ٤٨٢١"
    )
    query = f"?{urlencode({'call': STATE.encode()})}"
    answered = twilio.parse(form("voice", query, CallSid="CA1"))
    assert answered == CallAnswered("CA1:voice:3", "CA1", STATE)
    by_machine = twilio.parse(form("voice", query, CallSid="CA1", AnsweredBy="machine_start"))
    assert isinstance(by_machine, CallAnswered)
    assert by_machine.is_machine
    assert twilio.parse(form("keys", query, CallSid="CA1", Digits="1")) == KeyPressed("CA1:keys:3", "CA1", STATE, "1")
    assert twilio.parse(form("keys", query, CallSid="CA1", Digits="")) == KeyPressed("CA1:keys:3", "CA1", STATE, None)


def test_a_step_becomes_a_document(twilio: Twilio) -> None:
    """What is said stands inside of what listens, in the language's voice; the next question has the state."""
    says = ("Alerte <FLASH> & évacuation", "Appuyez sur 1")
    document = etree.fromstring(twilio.document(Step("fr-FR", says, STATE)))
    (gather,) = document
    assert gather.attrib["action"] == f"{PUBLIC}/v1/providers/twilio/keys?call={STATE.encode()}"
    assert (gather.attrib["numDigits"], gather.attrib["actionOnEmptyResult"]) == ("1", "true")
    assert [(say.text, say.attrib["language"], say.attrib["voice"]) for say in gather] == [
        (text, "fr-FR", "Polly.Lea-Neural") for text in says
    ]
    last = etree.fromstring(twilio.document(Step("ar", ("وداعا",), CallState(PAGE, is_closing=True))))
    assert [verb.tag for verb in last] == ["Say", "Hangup"]
    assert last[0].attrib["language"] == "ar-AE"


@given(st.text(st.characters(exclude_categories=()), max_size=200))
def test_any_text_makes_a_well_formed_document(text: str) -> None:
    """Control characters, brackets and lone surrogates break no document."""
    document = etree.fromstring(reply_document(f"x{text}"))
    assert [child.tag for child in document] == ["Message"]


# --- Telnyx -----------------------------------------------------------------------------------------------------------


def stamped(request: CallbackRequest, *, at: datetime = NOW, key: Ed25519PrivateKey = KEY) -> CallbackRequest:
    """The event with a signature."""
    timestamp = str(int(at.timestamp()))
    signature = base64.b64encode(key.sign(timestamp.encode() + b"|" + request.body)).decode()
    headers = {"telnyx-timestamp": timestamp, "telnyx-signature-ed25519": signature}
    return CallbackRequest(request.url, headers, request.body)


def test_telnyx_is_believed_for_its_own_signature_only(telnyx: Telnyx) -> None:
    """The signature covers time and body and is made with the provider's key."""
    genuine = stamped(event("message.received", text="YES 4821"))
    assert telnyx.verify(genuine, now=NOW)
    assert not telnyx.verify(stamped(event("message.received"), key=Ed25519PrivateKey.generate()), now=NOW)
    assert not telnyx.verify(CallbackRequest(genuine.url, genuine.headers, genuine.body + b" "), now=NOW)
    later = {**genuine.headers, "telnyx-timestamp": str(int(NOW.timestamp()) + 1)}
    assert not telnyx.verify(CallbackRequest(genuine.url, later, genuine.body), now=NOW)
    for damaged in ({}, {"telnyx-signature-ed25519": "%%"}, {"telnyx-timestamp": "now"}, {"telnyx-timestamp": "²"}):
        headers = {**genuine.headers, **damaged} if damaged else {}
        assert not telnyx.verify(CallbackRequest(genuine.url, headers, genuine.body), now=NOW)


@pytest.mark.parametrize(
    ("off_seconds", "believed"), [(0, True), (-300, True), (300, True), (-301, False), (301, False)]
)
def test_an_old_webhook_is_not_believed(telnyx: Telnyx, off_seconds: int, believed: bool) -> None:
    """A copy that somebody kept is worth nothing after five minutes."""
    at = datetime.fromtimestamp(NOW.timestamp() + off_seconds, UTC)
    assert telnyx.verify(stamped(event("message.received"), at=at), now=NOW) is believed
    assert TOLERANCE_SECONDS == 300


@pytest.mark.parametrize(
    ("told", "code", "state", "reason"),
    [
        ("delivered", None, AttemptState.DELIVERED, Reason.ACCEPTED),
        ("delivery_failed", "40008", AttemptState.FAILED, Reason.NOT_DELIVERED),
        ("delivery_failed", "40001", AttemptState.FAILED, Reason.ADDRESS_UNKNOWN),
        ("sending_failed", "40310", AttemptState.FAILED, Reason.ADDRESS_UNKNOWN),
        ("sending_failed", "40300", AttemptState.FAILED, Reason.NOT_DELIVERED),
    ],
)
def test_what_telnyx_says_of_a_message(
    telnyx: Telnyx, told: str, code: str | None, state: AttemptState, reason: Reason
) -> None:
    """Its final states become ours, with what the message cost."""
    payload = {
        "id": "m-1",
        "to": [{"status": told}],
        "errors": [] if code is None else [{"code": code}],
        "cost": {"amount": "0.0051", "currency": "USD"},
    }
    callback = telnyx.parse(event("message.finalized", **payload))
    assert isinstance(callback, StatusTold)
    assert (callback.status.state, callback.status.reason) == (state, reason)
    assert callback.status.cost == Cost(Decimal("0.0051"), "USD")


def test_a_message_nobody_can_tell_of_says_nothing(telnyx: Telnyx) -> None:
    """Networks that give no receipt are no failure, and no delivery either."""
    assert telnyx.parse(event("message.finalized", id="m-1", to=[{"status": "delivery_unconfirmed"}])) is None
    assert telnyx.parse(event("message.sent", id="m-1", to=[{"status": "sent"}])) is None


@pytest.mark.parametrize(
    ("cause", "reason"),
    [
        ("normal_clearing", None),
        ("time_limit", None),
        ("user_busy", Reason.NOT_ANSWERED),
        ("timeout", Reason.NOT_ANSWERED),
        ("call_rejected", Reason.NOT_ANSWERED),
        ("not_found", Reason.ADDRESS_UNKNOWN),
        ("unspecified", Reason.NOT_DELIVERED),
        (None, Reason.NOT_DELIVERED),
    ],
)
def test_how_a_call_at_telnyx_ends(telnyx: Telnyx, cause: str | None, reason: Reason | None) -> None:
    """Nobody there, no such number and a network that failed are three things."""
    state = base64.b64encode(STATE.encode().encode()).decode()
    callback = telnyx.parse(event("call.hangup", call_control_id="v3:x", client_state=state, hangup_cause=cause))
    assert isinstance(callback, CallEnded)
    assert (callback.call_id, callback.reason) == ("v3:x", reason)


def test_events_of_a_call_at_telnyx_are_read(telnyx: Telnyx) -> None:
    """Answered, a key or none, last words spoken; whatever is not of a call of ours says nothing."""

    def told(kind: str, state: CallState = STATE, **payload: Any) -> Any:
        packed = base64.b64encode(state.encode().encode()).decode()
        return telnyx.parse(event(kind, call_control_id="v3:x", client_state=packed, **payload))

    assert told("call.answered") == CallAnswered("event-1", "v3:x", STATE)
    assert told("call.gather.ended", digits="1", status="valid") == KeyPressed("event-1", "v3:x", STATE, "1")
    assert told("call.gather.ended", digits="", status="timeout") == KeyPressed("event-1", "v3:x", STATE, None)
    assert told("call.gather.ended", digits="", status="call_hangup") is None
    assert told("call.speak.ended", CallState(PAGE, is_closing=True)) == SpeechEnded("event-1", "v3:x")
    assert told("call.speak.ended") is None
    assert told("call.initiated") is None
    assert telnyx.parse(event("call.answered", call_control_id="v3:x", client_state="bm90IG91cnM=")) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    ["data", "id", "event_type", "payload", "to", "status", "from", "errors", "cost", "text"]
                ),
                inner,
                max_size=5,
            )
        ),
        max_leaves=12,
    ),
    st.sampled_from(["message.finalized", "message.received", "call.hangup", "call.gather.ended"]),
)
def test_no_event_of_any_shape_raises(content: Any, kind: str) -> None:
    """A provider that changes its shapes overnight does not become an error of ours."""
    provider = Telnyx(
        api_key="k" * 20,
        public_key=base64.b64encode(KEY.public_key().public_bytes_raw()).decode(),
        sender="+15005550107",
        connection_id="1",
        api_url="https://api.telnyx.example",
        public_url=PUBLIC,
        version="1",
        clock=ManualClock(NOW),
    )
    bodies = (content, {"data": content}, {"data": {"id": "1", "event_type": kind, "payload": content}})
    for body in bodies:
        provider.parse(CallbackRequest(f"{PUBLIC}/v1/providers/telnyx/events", {}, orjson.dumps(body)))


# --- values -----------------------------------------------------------------------------------------------------------


def test_prices_and_codes_are_read_strictly() -> None:
    """A price is a number with a currency, whatever its sign; a code is digits, and nothing else gets into a detail."""
    assert cost_of("-0.00750", "usd") == Cost(Decimal("0.00750"), "USD")
    for amount, currency in ((None, "USD"), ("1e9", "USD"), ("1", None), ("1", "US"), (0.5, "USD"), ("NaN", "USD")):
        assert cost_of(amount, currency) is None
    assert [error_code(value) for value in (30003, "30003", "+447700900001", "x", None, "")] == [
        "30003",
        "30003",
        None,
        None,
        None,
        None,
    ]


def test_every_language_has_a_voice() -> None:
    """Whatever language a contact chooses, both providers read it with a voice of that language."""
    assert set(TWILIO_VOICES) == set(TELNYX_VOICES) == set(LANGUAGES)


@pytest.mark.parametrize("provider_id", [None, 7, "", "SM\x00", "SM\ud800", "é", "S" * 201])
def test_an_id_that_cannot_be_stored_is_none(provider_id: object) -> None:
    """A provider's name for a message that no row could hold is an answer that is not understood: one such result
    would otherwise hold up the recording of all others.
    """
    answer = answer_of(Reply(201, {}, None), provider_id=provider_id, code=None, unknown_address_codes=frozenset())
    assert (answer.reason, answer.provider_id) == (Reason.RESPONSE_MALFORMED, None)
