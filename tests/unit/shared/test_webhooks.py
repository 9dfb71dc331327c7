"""Signing and checking webhooks."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import orjson
import pytest
import standardwebhooks
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from shared import webhooks
from shared.webhooks import (
    BODY_BYTES_MAX,
    SIGNATURES_MAX,
    SIGNING_KEYS_MAX,
    TOLERANCE_SECONDS,
    BodyTooLarge,
    KeyMalformed,
    SigningKey,
    VerifyingKey,
    WebhookRefusal,
    WebhookRefused,
)

NOW = datetime(2026, 8, 15, 12, 0, tzinfo=UTC)
ID = "0198f2c4-5a6b-7c8d-9e0f-112233445566"
OLD = SigningKey(bytes(range(32)))
NEW = SigningKey(bytes(range(32, 64)))
STRANGER = SigningKey(bytes(range(64, 96)))
BODY = b'{"type":"test.ping","timestamp":"2026-08-15T12:00:00.000Z","data":{}}'


def refusal_of(
    headers: Mapping[str, str], body: bytes = BODY, *, now: datetime = NOW, keys: list[SigningKey] | None = None
) -> WebhookRefusal:
    """Why the message is refused."""
    known = [key.verifying_key for key in keys or [OLD]]
    with pytest.raises(WebhookRefused) as caught:
        webhooks.verify(known, headers, body, now=now)
    return caught.value.reason


@given(st.binary(max_size=200), st.binary(min_size=32, max_size=32))
def test_what_was_signed_is_believed(body: bytes, seed: bytes) -> None:
    """Any body signed with any key is accepted by the holder of the public half, which learns the id."""
    key = SigningKey(seed)
    headers = webhooks.headers([key], ID, NOW, body)
    assert webhooks.verify([key.verifying_key], headers, body, now=NOW) == ID


@given(st.binary(max_size=100), st.integers(min_value=0, max_value=10_000), st.integers(min_value=1, max_value=255))
def test_a_changed_byte_is_noticed(body: bytes, place: int, change: int) -> None:
    """A body that differs in any byte, or by one byte more, is refused."""
    headers = webhooks.headers([OLD], ID, NOW, body)
    changed = bytearray(body + b"\x00")
    changed[place % len(changed)] ^= change
    assert refusal_of(headers, bytes(changed)) is WebhookRefusal.SIGNATURE_MISMATCH


def test_the_signature_covers_id_timestamp_and_body() -> None:
    """What is signed is `{id}.{timestamp}.{body}`, checked here without the code under test."""
    headers = webhooks.headers([OLD], ID, NOW, BODY)
    version, _, encoded = headers["webhook-signature"].partition(",")
    assert version == "v1a"
    content = ID.encode() + b"." + str(int(NOW.timestamp())).encode() + b"." + BODY
    Ed25519PublicKey.from_public_bytes(OLD.verifying_key.raw).verify(base64.b64decode(encoded), content)


def test_the_signed_content_is_that_of_the_reference_implementation() -> None:
    """The reference library's HMAC over our signed content is its own signature: the framing is the standard's."""
    secret = bytes(24)
    content = webhooks.signed_content(ID, int(NOW.timestamp()), BODY)
    ours = "v1," + base64.b64encode(hmac.new(secret, content, hashlib.sha256).digest()).decode()
    reference = standardwebhooks.Webhook("whsec_" + base64.b64encode(secret).decode())
    assert ours == reference.sign(ID, NOW, BODY.decode())


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_each_header_is_needed(name: str) -> None:
    """A missing or an empty header is refused by name, never passed over."""
    headers = webhooks.headers([OLD], ID, NOW, BODY)
    assert refusal_of({**headers, name: ""}) is WebhookRefusal.HEADER_MISSING
    del headers[name]
    assert refusal_of(headers) is WebhookRefusal.HEADER_MISSING


def test_header_names_may_be_in_any_case() -> None:
    """HTTP header names have no case."""
    headers = {name.title(): value for name, value in webhooks.headers([OLD], ID, NOW, BODY).items()}
    assert webhooks.verify([OLD.verifying_key], headers, BODY, now=NOW) == ID


def test_moved_headers_are_forged_headers() -> None:
    """The signature of one message does not fit the id or the timestamp of another."""
    headers = webhooks.headers([OLD], ID, NOW, BODY)
    other = webhooks.headers([OLD], ID[:-1] + "7", NOW + timedelta(seconds=1), BODY)
    for name in ("webhook-id", "webhook-timestamp", "webhook-signature"):
        assert refusal_of({**headers, name: other[name]}) is WebhookRefusal.SIGNATURE_MISMATCH


def test_a_stranger_is_not_believed() -> None:
    """A well-formed signature by an unknown key is refused, and so is every signature when no key is known."""
    headers = webhooks.headers([STRANGER], ID, NOW, BODY)
    assert refusal_of(headers, keys=[OLD, NEW]) is WebhookRefusal.SIGNATURE_MISMATCH
    with pytest.raises(WebhookRefused):
        webhooks.verify([], headers, BODY, now=NOW)


def test_messages_live_five_minutes() -> None:
    """The tolerance holds in both directions and includes its last second."""
    headers = webhooks.headers([OLD], ID, NOW, BODY)
    keys = [OLD.verifying_key]
    for seconds in (-TOLERANCE_SECONDS, TOLERANCE_SECONDS):
        assert webhooks.verify(keys, headers, BODY, now=NOW + timedelta(seconds=seconds)) == ID
    late = NOW + timedelta(seconds=TOLERANCE_SECONDS + 1)
    early = NOW - timedelta(seconds=TOLERANCE_SECONDS + 1)
    assert TOLERANCE_SECONDS == 300
    assert refusal_of(headers, now=late) is WebhookRefusal.TIMESTAMP_TOO_OLD
    assert refusal_of(headers, now=early) is WebhookRefusal.TIMESTAMP_TOO_NEW


def test_a_change_of_keys_needs_no_appointment() -> None:
    """With two active keys a receiver that knows either one believes the message, in any order of signatures."""
    headers = webhooks.headers([OLD, NEW], ID, NOW, BODY)
    entries = headers["webhook-signature"].split(" ")
    assert len(entries) == 2
    for signature in (" ".join(entries), " ".join(reversed(entries))):
        for key in (OLD, NEW):
            received = {**headers, "webhook-signature": signature}
            assert webhooks.verify([key.verifying_key], received, BODY, now=NOW) == ID
    assert refusal_of(headers, keys=[STRANGER]) is WebhookRefusal.SIGNATURE_MISMATCH


def test_other_versions_are_passed_over() -> None:
    """An HMAC signature or one of a version yet to come neither helps nor hurts."""
    headers = webhooks.headers([OLD], ID, NOW, BODY)
    ours = headers["webhook-signature"]
    mixed = {**headers, "webhook-signature": f"v1,{base64.b64encode(bytes(32)).decode()} v9,anything {ours}"}
    assert webhooks.verify([OLD.verifying_key], mixed, BODY, now=NOW) == ID
    # The same bytes under another version's name are not our signature.
    renamed = {**headers, "webhook-signature": ours.replace("v1a,", "v1,")}
    assert refusal_of(renamed) is WebhookRefusal.SIGNATURE_MISMATCH


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("webhook-signature", "v1a"),
        ("webhook-signature", "v1a,"),
        ("webhook-signature", "v1a,***"),
        ("webhook-signature", "v1a,YWJj"),
        ("webhook-signature", "v1a," + base64.b64encode(bytes(65)).decode()),
        ("webhook-signature", " "),
        ("webhook-signature", " ".join(["v1,x"] * (SIGNATURES_MAX + 1))),
        ("webhook-signature", "v1," + "x" * 5000),
        ("webhook-timestamp", "now"),
        ("webhook-timestamp", "-1"),
        ("webhook-timestamp", "1e9"),
        ("webhook-timestamp", "nan"),
        ("webhook-timestamp", "9" * 13),
        ("webhook-timestamp", f"0{int(NOW.timestamp())}"),
        ("webhook-timestamp", "١٧٥٥٢٥٩٢٠٠"),
        ("webhook-id", "a.b"),
        ("webhook-id", "a b"),
        ("webhook-id", "x" * 129),
    ],
)
def test_unreadable_headers_are_refused_as_such(name: str, value: str) -> None:
    """Nonsense in a header is an answer with a reason, never an unforeseen error."""
    headers = {**webhooks.headers([OLD], ID, NOW, BODY), name: value}
    assert refusal_of(headers) is WebhookRefusal.HEADER_MALFORMED


@given(st.text(), st.text(), st.text())
def test_no_header_makes_checking_fail(message_id: str, timestamp: str, signature: str) -> None:
    """Whatever the headers hold, the result is a refusal with a reason."""
    headers = {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": signature}
    assert refusal_of(headers) in WebhookRefusal


def test_signing_refuses_what_receivers_would() -> None:
    """An id with a full stop, no key at all, or more keys than a receiver would read are the caller's mistakes."""
    for keys, message_id in (([OLD], "a.b"), ([OLD], ""), ([], ID), ([OLD] * (SIGNING_KEYS_MAX + 1), ID)):
        with pytest.raises(ValueError, match=r"key|id"):
            webhooks.sign(keys, message_id, 0, BODY)


def test_as_many_signatures_as_keys_can_be_checked() -> None:
    """The greatest number of active keys gives a header that our own check still reads."""
    keys = [SigningKey(bytes([number] * 32)) for number in range(SIGNING_KEYS_MAX)]
    headers = webhooks.headers(keys, ID, NOW, BODY)
    assert webhooks.verify([keys[-1].verifying_key], headers, BODY, now=NOW) == ID


@given(st.binary(min_size=32, max_size=32))
def test_keys_survive_their_text_form(seed: bytes) -> None:
    """Written and read again, both halves are the same; the short form of the private half is read, too."""
    key = SigningKey(seed)
    assert key.to_text().startswith("whsk_")
    assert key.verifying_key.to_text().startswith("whpk_")
    assert SigningKey.from_text(key.to_text()) == key
    assert SigningKey.from_text("whsk_" + base64.b64encode(seed).decode()) == key
    assert VerifyingKey.from_text(key.verifying_key.to_text()) == key.verifying_key


def test_generated_keys_differ() -> None:
    """Two new keys are two keys."""
    assert SigningKey.generate() != SigningKey.generate()


def test_keys_are_not_mistaken_for_one_another() -> None:
    """A shared secret, the other half, wrong lengths and halves that do not belong together are refused."""
    wrong_halves = "whsk_" + base64.b64encode(OLD.seed + NEW.verifying_key.raw).decode()
    for text in ("", "whsec_" + "A" * 32, OLD.verifying_key.to_text(), "whsk_!!", "whsk_YWJj", wrong_halves):
        with pytest.raises(KeyMalformed) as caught:
            SigningKey.from_text(text)
        assert len(text) < 10 or text not in str(caught.value)
    for text in (OLD.to_text(), "whpk_" + OLD.to_text()[5:], "whpk_", "whpk_" + base64.b64encode(bytes(31)).decode()):
        with pytest.raises(KeyMalformed):
            VerifyingKey.from_text(text)


def test_a_private_key_is_never_printed() -> None:
    """Neither the seed nor its text form appears when a key is shown, in a traceback for example."""
    shown = repr(OLD) + str(OLD)
    assert base64.b64encode(OLD.seed).decode() not in shown
    assert repr(OLD.seed) not in shown
    assert "seed" not in shown


def test_the_envelope_has_three_fields_and_a_utc_time() -> None:
    """The body is `{"type", "timestamp", "data"}` with an RFC 3339 time that ends in Z."""

    class DriverUUID(UUID):
        """What a database driver returns."""

    page_id = UUID(ID)
    occurred_at = datetime(2026, 8, 15, 14, 0, 0, 123456, tzinfo=timezone(timedelta(hours=2)))
    body = webhooks.envelope("alert.released", occurred_at, {"page_id": page_id, "alert_id": DriverUUID(ID)})
    assert orjson.loads(body) == {
        "type": "alert.released",
        "timestamp": "2026-08-15T12:00:00.123Z",
        "data": {"page_id": ID, "alert_id": ID},
    }


def test_the_envelope_refuses_what_has_no_form() -> None:
    """A time without a zone and a value without a JSON form are the caller's mistakes."""
    with pytest.raises(ValueError, match="time zone"):
        webhooks.envelope("test.ping", datetime(2026, 8, 15), {})  # noqa: DTZ001 - the mistake under test
    with pytest.raises(TypeError):
        webhooks.envelope("test.ping", NOW, {"value": object()})


def test_a_body_holds_at_most_20_kilobytes() -> None:
    """The limit counts bytes of the finished body and is where it says it is."""
    empty = len(webhooks.envelope("test.ping", NOW, {"text": ""}))
    fits = webhooks.envelope("test.ping", NOW, {"text": "x" * (BODY_BYTES_MAX - empty)})
    assert len(fits) == BODY_BYTES_MAX == 20_000
    for text in ("x" * (BODY_BYTES_MAX - empty + 1), "ü" * (BODY_BYTES_MAX // 2)):
        with pytest.raises(BodyTooLarge):
            webhooks.envelope("test.ping", NOW, {"text": text})
