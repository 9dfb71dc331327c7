"""Addresses of contact points of channel `chat`: Apprise URLs, and only those of well-understood services.

The cast: `SCHEMAS`, which says of each service that this channel can carry what its URLs hold; a `ChatUrl`, checked by
`check_chat_url` or refused by `ChatUrlRefused` with the reason.

The promise: pure, and without Apprise itself, which is large and slow to load. Apprise reaches far more than chat
rooms: local files, the desktop, other programs, mail and SMS gateways. What is not in the table can be configured by
nobody, and of a URL's query only the few settings that say where a message goes are let through: others read files
(`template`), switch off the verification of certificates (`verify`), or wait for ever (`rto`). No refusal repeats a
URL: nearly all of it is secret.
"""

from __future__ import annotations

import re
from collections.abc import Set
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import parse_qsl, unquote

from shared.egress import CheckedUrl, EgressPolicy, check_url
from shared.errors import Invalid

CHAT_URL_CHARACTERS_MAX = 1_000

_HARMLESS = re.compile(r"[!#$%&'()*+,\-./0-9:;=?@A-Z\[\]_a-z~]*")
"""The characters that a URL may hold (RFC 3986): whatever else stands in one is written as %41."""
_URL = re.compile(r"([a-z0-9]{2,20})://([^/?#]*)([^?#]*)(?:\?([^#]*))?")
_HOST_AND_PORT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]@]+)(?::([0-9]{1,5}))?")


class ChatUrlRefused(Invalid):
    """An address that this channel does not send to. The detail is one sentence that repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class ChatSchema:
    """What the URLs of one service hold."""

    service: str
    """Its name, for people."""
    own_host: bool = False
    """Whether the URL names the server. Where it does not, the service's own servers are known to Apprise."""
    encrypted: bool = True
    """Whether the connection is; schemas that are not serve development only."""
    settings: frozenset[str] = frozenset()
    """The settings after `?` that may be used."""
    cloud_without_path: bool = False
    """Whether a URL without a path names a room of the service's own cloud and no host (`ntfys://topic`)."""


_MATRIX = frozenset({"mode", "version", "msgtype", "path", "discovery", "token"})
_MATTERMOST = frozenset({"channel", "mode", "team"})
_ROCKET_CHAT = frozenset({"mode", "webhook", "avatar"})
_NEXTCLOUD_TALK = frozenset({"secret", "silent", "url_prefix"})
_NTFY = frozenset({"priority", "mode", "auth", "token"})

SCHEMAS = MappingProxyType(
    {
        "signals": ChatSchema("Signal, by a signal-cli REST API of one's own", own_host=True),
        "signal": ChatSchema("the same without TLS", own_host=True, encrypted=False),
        "workflows": ChatSchema(
            "Microsoft Teams, by a workflow", own_host=True, settings=frozenset({"id", "sig", "ver", "pa"})
        ),
        "slack": ChatSchema("Slack", settings=frozenset({"mode", "footer", "timestamp", "blocks"})),
        "matrixs": ChatSchema("Matrix", own_host=True, settings=_MATRIX),
        "matrix": ChatSchema("the same without TLS", own_host=True, encrypted=False, settings=_MATRIX),
        "mmosts": ChatSchema("Mattermost", own_host=True, settings=_MATTERMOST),
        "mmost": ChatSchema("the same without TLS", own_host=True, encrypted=False, settings=_MATTERMOST),
        "rockets": ChatSchema("Rocket.Chat", own_host=True, settings=_ROCKET_CHAT),
        "rocket": ChatSchema("the same without TLS", own_host=True, encrypted=False, settings=_ROCKET_CHAT),
        "nctalks": ChatSchema("Nextcloud Talk", own_host=True, settings=_NEXTCLOUD_TALK),
        "nctalk": ChatSchema("the same without TLS", own_host=True, encrypted=False, settings=_NEXTCLOUD_TALK),
        "zulip": ChatSchema("Zulip"),
        "wxteams": ChatSchema("Webex"),
        "gchat": ChatSchema("Google Chat"),
        "threema": ChatSchema("Threema Gateway"),
        "tgram": ChatSchema("Telegram", settings=frozenset({"silent", "thread", "topic"})),
        "discord": ChatSchema("Discord", settings=frozenset({"thread", "tts"})),
        "ntfys": ChatSchema("ntfy", own_host=True, settings=_NTFY, cloud_without_path=True),
        "ntfy": ChatSchema("the same without TLS", own_host=True, encrypted=False, settings=_NTFY),
        "gotifys": ChatSchema("Gotify", own_host=True, settings=frozenset({"priority"})),
        "gotify": ChatSchema("the same without TLS", own_host=True, encrypted=False, settings=frozenset({"priority"})),
    }
)
"""By the scheme of the URL. The settings are those that Apprise's page on the service documents."""

SCHEMAS_DEFAULT = frozenset(name for name, schema in SCHEMAS.items() if schema.encrypted)


@dataclass(frozen=True, slots=True)
class ChatUrl:
    """An address whose text is harmless."""

    url: str = field(repr=False)
    schema: str
    server: CheckedUrl | None
    """The server that the address itself names, with the path left out; None where the service's own is used."""


def check_chat_url(text: str, *, schemas: Set[str], policy: EgressPolicy) -> ChatUrl:
    """The address, checked as far as its text tells; raises `ChatUrlRefused`, or `EgressRefused` for its server.

    `schemas` are those that this installation allows. What a server's name resolves to is looked at when it is sent to.
    """
    if len(text) > CHAT_URL_CHARACTERS_MAX:
        raise ChatUrlRefused(f"the address is longer than {CHAT_URL_CHARACTERS_MAX} characters")
    found = _URL.fullmatch(text) if _HARMLESS.fullmatch(text) else None
    if found is None:
        raise ChatUrlRefused("this is no Apprise URL such as slack://… or matrixs://user:password@server/room")
    name, authority, path, query = found.groups()
    schema = SCHEMAS.get(name)
    if schema is None or name not in schemas or not (schema.encrypted or policy.allow_http):
        allowed = ", ".join(sorted(known for known in schemas if known in SCHEMAS and _is_usable(known, policy)))
        raise ChatUrlRefused(f"the address must begin with one of {allowed} and ://")
    if not authority:
        raise ChatUrlRefused("the address names no server, token or room after ://")
    for key, _ in parse_qsl(query or "", keep_blank_values=True):
        if key not in schema.settings:
            usable = f"only {', '.join(sorted(schema.settings))}" if schema.settings else "none"
            raise ChatUrlRefused(f"the address has a setting after ? that may not be used; of {name} {usable} may")
    return ChatUrl(text, name, _server_of(schema, authority, path, policy))


def _is_usable(name: str, policy: EgressPolicy) -> bool:
    return SCHEMAS[name].encrypted or policy.allow_http


def _server_of(schema: ChatSchema, authority: str, path: str, policy: EgressPolicy) -> CheckedUrl | None:
    if not schema.own_host or (schema.cloud_without_path and not path.strip("/")):
        return None
    # Decoded once, so that no other reading of the same text can find another host in it.
    host_and_port = authority.rpartition("@")[2]
    if unquote(host_and_port) != host_and_port or (found := _HOST_AND_PORT.fullmatch(host_and_port)) is None:
        raise ChatUrlRefused("the address names no server such as chat.ministry.example or chat.ministry.example:8443")
    host, port = found.groups()
    scheme = "https" if schema.encrypted else "http"
    return check_url(f"{scheme}://{host}{f':{port}' if port else ''}/", policy)
