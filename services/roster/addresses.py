"""Which addresses of webhooks a partner may give: exactly those whose text escalation's guard lets out.

The promise: pure, and no second opinion. What is accepted here is not refused when it is sent to, except for what a
name resolves to, which is looked at whenever something is sent. What lies beyond the public internet is allowed by
deployment settings alone, never by who calls.
"""

from __future__ import annotations

from shared.egress import EgressPolicy, EgressRefused, RefusalReason, check_url

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


def url_fault(policy: EgressPolicy, url: str) -> str | None:
    """Why an address of a webhook is refused, as what is said after its field, or `None`."""
    try:
        checked = check_url(url, policy)
    except EgressRefused as refusal:
        return _SENTENCES.get(refusal.reason, _NO_URL)
    if checked.address is None and checked.host.endswith(_LOCAL_NAMES) and not policy.allows_private_hosts:
        return _NOT_PUBLIC
    return None
