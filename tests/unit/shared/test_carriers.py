"""Which channels fail together, and that roster and escalation name their carriers alike."""

from __future__ import annotations

import pytest

from services.escalation.channels import build_channels
from services.escalation.channels.providers.configured import build_providers
from shared.carriers import has_two_ways, many_carriers
from shared.clock import ManualClock
from shared.egress import policy_of
from shared.keys import KeyRing
from shared.senders import carriers_of
from shared.settings import load
from shared.vocabulary import ChannelName
from tests.support.world import STARTED_AT

CARRIED = {ChannelName.WEBHOOK: "webhook", ChannelName.EMAIL: "mail", ChannelName.SMS: "twilio,telnyx"} | {
    ChannelName.VOICE: "twilio"
}
TWILIO = {
    "REDPHONE_PUBLIC_URL": "https://redphone.example",
    "REDPHONE_TWILIO_ACCOUNT_SID": "AC" + "0" * 32,
    "REDPHONE_TWILIO_AUTH_TOKEN": "0123456789abcdef",
    "REDPHONE_TWILIO_FROM": "+12025550100",
}
TELNYX = {
    "REDPHONE_TELNYX_API_KEY": "0123456789abcdef",
    "REDPHONE_TELNYX_PUBLIC_KEY": "A" * 43 + "=",
    "REDPHONE_TELNYX_FROM": "+12025550101",
    "REDPHONE_TELNYX_CONNECTION_ID": "1",
}
MAIL = {"REDPHONE_EMAIL_SMTP_URL": "smtp://mail.example", "REDPHONE_EMAIL_FROM": "redphone@alerts.example"}


@pytest.mark.parametrize(
    ("channels", "enough"),
    [
        ((), False),
        (("sms",), False),
        (("sms", "sms"), False),
        (("sms", "voice"), False),
        (("sms", "email"), True),
        (("webhook", "voice"), True),
        (("sms", "push"), False),
    ],
)
def test_two_ways_share_no_carrier(channels: tuple[str, ...], enough: bool) -> None:
    """Two channels are two ways where no carrier has both; a channel that is not there is none."""
    assert has_two_ways([ChannelName(name) for name in channels], CARRIED) is enough


def test_where_one_carries_everything_there_are_not_many() -> None:
    """Two channels of one carrier are one carrier."""
    assert many_carriers(CARRIED)
    assert not many_carriers({ChannelName.SMS: "twilio", ChannelName.VOICE: "twilio"})
    assert not many_carriers({})


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"REDPHONE_CHANNELS": "webhook,email"} | MAIL,
        MAIL | {"REDPHONE_PUSH_SUBJECT": "mailto:ops@redphone.example"},
        TWILIO | {"REDPHONE_SMS_PROVIDERS": "twilio", "REDPHONE_VOICE_PROVIDERS": "twilio"},
        TWILIO | TELNYX | {"REDPHONE_SMS_PROVIDERS": "twilio,telnyx", "REDPHONE_VOICE_PROVIDERS": "telnyx"},
    ],
)
async def test_the_settings_say_what_the_channels_say(environment: dict[str, str]) -> None:
    """Roster, which has no channels, learns the same from the settings as escalation from the channels themselves."""
    settings, keys, clock = load(environment), KeyRing.generate(), ManualClock(STARTED_AT)
    providers = build_providers(settings, clock=clock, version="1")
    channels = build_channels(
        clock=clock,
        egress_policy=policy_of(settings),
        signing_keys=keys.webhook_keys,
        version="1",
        settings=settings,
        push_keys=keys.push_keys,
        providers=providers,
    )
    built = {
        ChannelName(name): channel.provider
        for name, channel in channels.items()
        if ChannelName(name) in settings.channels
    }
    assert carriers_of(settings, has_push_key=bool(keys.push_keys)) == built
    for channel in channels.values():
        await channel.close()
    for provider in providers.values():
        await provider.close()
