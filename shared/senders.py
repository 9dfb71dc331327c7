"""Which channels this installation can send through, and who carries each, as its settings say."""

from __future__ import annotations

from shared.carriers import CHAT, MAIL_SERVER, WEB_PUSH, WEBHOOK, joined
from shared.settings import Settings
from shared.vocabulary import ChannelName


def carriers_of(settings: Settings, *, has_push_key: bool) -> dict[ChannelName, str]:
    """The carrier of each channel that can send here, several separated by commas.

    A channel that is not named has no sender: a contact point on it cannot ring.
    """
    carriers = {ChannelName.WEBHOOK: WEBHOOK}
    if settings.email_smtp_url is not None and settings.email_from is not None:
        carriers[ChannelName.EMAIL] = MAIL_SERVER
    if settings.push_subject is not None and has_push_key:
        carriers[ChannelName.PUSH] = WEB_PUSH
    if settings.chat_schemas:
        carriers[ChannelName.CHAT] = CHAT
    if settings.sms_providers:
        carriers[ChannelName.SMS] = joined(settings.sms_providers)
    if settings.voice_providers:
        carriers[ChannelName.VOICE] = joined(settings.voice_providers)
    return {channel: carrier for channel, carrier in carriers.items() if channel in settings.channels}
