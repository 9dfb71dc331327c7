"""Which texts are push subscriptions that can be sent to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.egress import EgressPolicy, EgressRefused
from shared.push_subscription import SUBSCRIPTION_CHARACTERS_MAX, SubscriptionRefused, read_subscription
from tests.support.push_service import Browser

PUBLIC = EgressPolicy()
BROWSER = Browser()
ENDPOINT = "https://updates.push.example/wpush/v2/token"
GOOD = json.loads(BROWSER.subscription(ENDPOINT))


def test_what_a_browser_gives_is_read() -> None:
    """Endpoint and keys come back as they were; further fields of newer browsers do not disturb."""
    read = read_subscription(BROWSER.subscription(ENDPOINT, contentEncodings=["aes128gcm"]), PUBLIC)
    assert (read.endpoint.url, read.public_key, read.secret) == (ENDPOINT, BROWSER.public_key, BROWSER.secret)
    assert BROWSER.subscription(ENDPOINT) not in repr(read)
    assert "token" not in repr(read)


def test_padded_keys_are_read() -> None:
    """Older browsers pad the keys."""
    padded = {**GOOD, "keys": {name: key + "=" * (-len(key) % 4) for name, key in GOOD["keys"].items()}}
    assert read_subscription(json.dumps(padded), PUBLIC).secret == BROWSER.secret


@pytest.mark.parametrize(
    ("endpoint", "origin"),
    [
        (ENDPOINT, "https://updates.push.example"),
        ("https://push.example:8443/x?y=1", "https://push.example:8443"),
        ("https://PUSH.example:443", "https://push.example"),
    ],
)
def test_a_token_is_made_out_to_the_origin(endpoint: str, origin: str) -> None:
    """The origin is scheme, host and port in their canonical spelling, as a push service compares them."""
    assert read_subscription(BROWSER.subscription(endpoint), PUBLIC).origin == origin


@pytest.mark.parametrize(
    "document",
    [
        None,
        [],
        "text",
        {},
        {"endpoint": ENDPOINT},
        {"endpoint": ENDPOINT, "keys": []},
        {"endpoint": 7, "keys": GOOD["keys"]},
        {"endpoint": ENDPOINT, "keys": {"auth": GOOD["keys"]["auth"]}},
        {"endpoint": ENDPOINT, "keys": {**GOOD["keys"], "auth": "AAAA"}},
        {"endpoint": ENDPOINT, "keys": {**GOOD["keys"], "auth": "*" * 22}},
        {"endpoint": ENDPOINT, "keys": {**GOOD["keys"], "auth": 7}},
        {"endpoint": ENDPOINT, "keys": {**GOOD["keys"], "p256dh": GOOD["keys"]["auth"]}},
        {"endpoint": ENDPOINT, "keys": {**GOOD["keys"], "p256dh": "B" + "A" * 86}},
        {"endpoint": ENDPOINT, "keys": GOOD["keys"], "more": "x" * SUBSCRIPTION_CHARACTERS_MAX},
    ],
)
def test_what_cannot_be_encrypted_to_is_refused(document: Any) -> None:
    """Missing, misshapen or impossible keys and endless texts are refused in a sentence that repeats nothing."""
    with pytest.raises(SubscriptionRefused) as refusal:
        read_subscription(json.dumps(document), PUBLIC)
    assert GOOD["keys"]["auth"] not in refusal.value.detail
    assert "wpush" not in refusal.value.detail


@pytest.mark.parametrize("endpoint", ["http://push.example/x", "https://10.0.0.1/x", "https://localhost/x", ""])
def test_an_endpoint_is_a_public_url(endpoint: str) -> None:
    """Whoever gives a subscription names the host that we post to: it is guarded as every other."""
    with pytest.raises(EgressRefused):
        read_subscription(BROWSER.subscription(endpoint), PUBLIC)


@given(st.text(max_size=200) | st.recursive(st.text() | st.integers(), st.lists, max_leaves=3).map(json.dumps))
def test_no_text_breaks_the_reader(text: str) -> None:
    """Whatever text comes, it is a subscription or refused."""
    with pytest.raises(SubscriptionRefused):
        read_subscription(text, PUBLIC)
