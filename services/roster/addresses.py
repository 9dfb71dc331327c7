"""Which URLs a partner may give: exactly those whose text escalation's guard lets out, on whichever channel.

The cast: `url_fault` for webhooks, for a browser's push subscription and for chat, each of which holds a URL.

The promise: pure, and no second opinion. What is accepted here is not refused when it is sent to, except for what a
name resolves to, which is looked at whenever something is sent. What lies beyond the public internet is allowed by
deployment settings alone, never by who calls.
"""

from __future__ import annotations

from collections.abc import Set

from shared.chat_urls import SCHEMAS_DEFAULT, ChatUrlRefused, check_chat_url
from shared.contracts import ChannelName
from shared.egress import EgressPolicy, EgressRefused, RefusalReason, check_url
from shared.push_subscription import SubscriptionRefused, read_subscription

PUBLIC = EgressPolicy()
"""What a deployment allows that says nothing: https to the public internet."""

_LOCAL_NAMES = (".localhost", ".local", ".internal")
"""Names that never lead to a public address."""

_EXAMPLE = "https://redphone.ministry.example/webhook"
_NO_URL = f"is no URL; use one such as {_EXAMPLE}"
_NOT_PUBLIC = "points to this machine or a private network; use a public name"

_SENTENCES = {
    RefusalReason.SCHEME_REFUSED: "must begin with https://",
    RefusalReason.USER_INFORMATION_REFUSED: "holds a user name or password; leave it out, webhooks are signed",
    RefusalReason.FRAGMENT_REFUSED: "holds a fragment (#); leave it out, it is never sent",
    RefusalReason.PORT_REFUSED: "names a port of another protocol; leave it out, or use one from 1024 to 65535",
    RefusalReason.HOST_MALFORMED: f"names no host in full; use a URL such as {_EXAMPLE}",
    RefusalReason.ADDRESS_REFUSED: _NOT_PUBLIC,
}


def url_fault(
    policy: EgressPolicy,
    address: str,
    channel: ChannelName = ChannelName.WEBHOOK,
    *,
    chat_schemas: Set[str] = SCHEMAS_DEFAULT,
) -> str | None:
    """Why an address is refused, as what is said after its field, or `None`. Never repeats any of it.

    `chat_schemas` are the services that this deployment allows chat addresses to name.
    """
    try:
        if channel is ChannelName.PUSH:
            checked = read_subscription(address, policy).endpoint
        elif channel is ChannelName.CHAT:
            server = check_chat_url(address, schemas=chat_schemas, policy=policy).server
            if server is None:
                return None
            checked = server
        else:
            checked = check_url(address, policy)
    except (SubscriptionRefused, ChatUrlRefused) as refusal:
        return f"cannot be used: {refusal.detail}"
    except EgressRefused as refusal:
        return _SENTENCES.get(refusal.reason, _NO_URL)
    if checked.address is None and checked.host.endswith(_LOCAL_NAMES) and not policy.allows_private_hosts:
        return _NOT_PUBLIC
    return None
