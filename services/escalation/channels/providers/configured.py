"""The providers that the settings name."""

from __future__ import annotations

from services.escalation.channels.providers import Provider
from services.escalation.channels.providers.telnyx import Telnyx
from services.escalation.channels.providers.twilio import Twilio
from shared.clock import Clock
from shared.settings import Settings


def build_providers(settings: Settings, *, clock: Clock, version: str) -> dict[str, Provider]:
    """Every provider that carries SMS or calls here, by name. Whoever calls this closes them.

    `shared.settings.load` has made sure that what they need is there; settings made otherwise raise `ValueError`.
    """
    named = {*settings.sms_providers, *settings.voice_providers}
    public_url = settings.public_url
    if not named:
        return {}
    if public_url is None:
        raise ValueError("providers need REDPHONE_PUBLIC_URL")
    built: dict[str, Provider] = {}
    if "twilio" in named:
        if settings.twilio_account_sid is None or settings.twilio_auth_token is None or settings.twilio_from is None:
            raise ValueError("twilio needs an account, its token and a number")
        built["twilio"] = Twilio(
            account_sid=settings.twilio_account_sid,
            auth_token=settings.twilio_auth_token.get_secret_value(),
            sender=settings.twilio_from,
            api_url=settings.twilio_url,
            public_url=public_url,
            version=version,
            clock=clock,
        )
    if "telnyx" in named:
        if settings.telnyx_api_key is None or settings.telnyx_public_key is None or settings.telnyx_from is None:
            raise ValueError("telnyx needs a key, its public key and a number")
        built["telnyx"] = Telnyx(
            api_key=settings.telnyx_api_key.get_secret_value(),
            public_key=settings.telnyx_public_key,
            sender=settings.telnyx_from,
            connection_id=settings.telnyx_connection_id or "",
            api_url=settings.telnyx_url,
            public_url=public_url,
            version=version,
            clock=clock,
        )
    return built
