"""What an administrator sets for SMS and voice."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from shared.settings import SettingsWrong, load

TWILIO = {
    "REDPHONE_TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
    "REDPHONE_TWILIO_AUTH_TOKEN": "hidden-hidden-hidden",
    "REDPHONE_TWILIO_FROM": "+12025550100",
}
TELNYX = {
    "REDPHONE_TELNYX_API_KEY": "hidden-hidden-hidden",
    "REDPHONE_TELNYX_PUBLIC_KEY": base64.b64encode(bytes(32)).decode(),
    "REDPHONE_TELNYX_FROM": "+12025550107",
}
PUBLIC = {"REDPHONE_PUBLIC_URL": "https://redphone.example"}


def mistakes(environment: dict[str, str]) -> list[str]:
    """The sentences with which an environment is refused."""
    with pytest.raises(SettingsWrong) as refusal:
        load(environment)
    return refusal.value.mistakes


def test_providers_are_kept_in_their_order() -> None:
    """Without any, nothing is sent by telephone; otherwise the first that is named is the first that is asked."""
    assert load({}).sms_providers == load({}).voice_providers == ()
    settings = load(
        {
            **TWILIO,
            **TELNYX,
            **PUBLIC,
            "REDPHONE_TELNYX_CONNECTION_ID": "1494404757140276705",
            "REDPHONE_SMS_PROVIDERS": "telnyx, twilio",
            "REDPHONE_VOICE_PROVIDERS": "telnyx",
        }
    )
    assert (settings.sms_providers, settings.voice_providers) == (("telnyx", "twilio"), ("telnyx",))
    assert (settings.twilio_url, settings.telnyx_url) == ("https://api.twilio.com", "https://api.telnyx.com")
    assert "hidden" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("REDPHONE_SMS_PROVIDERS", "twilio secret", "must be 'twilio' or 'telnyx'"),
        ("REDPHONE_VOICE_PROVIDERS", "twilio,twilio", "must name each provider once"),
        ("REDPHONE_TWILIO_ACCOUNT_SID", "secret", "must be AC and 32 hexadecimal digits"),
        ("REDPHONE_TWILIO_AUTH_TOKEN", "secret", "at least 16"),
        ("REDPHONE_TWILIO_FROM", "+0secret", "must be a number like"),
        ("REDPHONE_TWILIO_FROM", "a secret of more than 11", "must be a number like"),
        ("REDPHONE_TWILIO_FROM", "12025550100", "must be a number like"),
        ("REDPHONE_TWILIO_URL", "ftp://secret", "must begin with http:// or https://"),
        ("REDPHONE_TWILIO_URL", "http://secret.example", "must begin with https://"),
        ("REDPHONE_TWILIO_URL", "https://a.example/secret", "scheme, host and port only"),
        ("REDPHONE_TELNYX_PUBLIC_KEY", "secret", "must be a public key of 32 bytes"),
        ("REDPHONE_TELNYX_FROM", "secret", "must be a telephone number"),
        ("REDPHONE_TELNYX_CONNECTION_ID", "secret", "must be the application's id"),
        ("REDPHONE_TELNYX_URL", "http://127.0.0.1:1", "must begin with https:// unless REDPHONE_DEVELOPMENT is set"),
    ],
)
def test_each_mistake_is_one_sentence(name: str, value: str, sentence: str) -> None:
    """A mistake names its variable and what would be right, and does not repeat the value."""
    (found,) = mistakes({name: value})
    assert found.startswith(f"{name} ")
    assert sentence in found
    assert "secret" not in found


def test_a_provider_needs_its_account() -> None:
    """Whatever is missing beside a provider's name is told, all at once."""
    found = mistakes({"REDPHONE_SMS_PROVIDERS": "twilio", "REDPHONE_VOICE_PROVIDERS": "telnyx"})
    names = {sentence.partition(" ")[0] for sentence in found}
    assert names == {*TWILIO, *TELNYX, *PUBLIC, "REDPHONE_TELNYX_CONNECTION_ID"}
    assert len(found) == len(names)


@pytest.mark.parametrize("sender", ["REDPHONE", "Red Phone", "MG" + "0" * 32])
def test_only_a_number_can_call(sender: str) -> None:
    """A sender's name or a messaging service is enough for SMS, and not for voice."""
    environment: dict[str, Any] = {**TWILIO, **PUBLIC, "REDPHONE_TWILIO_FROM": sender}
    assert load({**environment, "REDPHONE_SMS_PROVIDERS": "twilio"}).twilio_from == sender
    (found,) = mistakes({**environment, "REDPHONE_VOICE_PROVIDERS": "twilio"})
    assert found == "REDPHONE_TWILIO_FROM must be a number where twilio carries calls"


def test_a_counterpart_on_this_machine_needs_no_certificate() -> None:
    """In development the APIs may be plain HTTP on a loopback address, and nowhere else."""
    local = {"REDPHONE_TWILIO_URL": "http://127.0.0.1:8080/", "REDPHONE_DEVELOPMENT": "1"}
    assert load(local).twilio_url == "http://127.0.0.1:8080"
    (found,) = mistakes({**local, "REDPHONE_TWILIO_URL": "http://10.0.0.1:8080"})
    assert "must begin with https://" in found
