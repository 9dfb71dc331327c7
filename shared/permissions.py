"""What each service may say and hear on the broker, derived from the contracts and from what it consumes.

A service publishes its own events and nothing else, reads through its own durable consumers and nothing else, and hears
answers on an inbox prefix of its own. Only the deploy step may create streams. `deploy/nats.conf` holds the rendered
result, and a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from shared.events import Event
from shared.subscriptions import durable_of, filter_of, stream_of

DEPLOY = "deploy"
"""The user that runs the deploy step."""


@dataclass(frozen=True, slots=True)
class Permissions:
    """Subjects that a user of the broker may publish to and subscribe to; everything else is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def permissions_of(service: str, consumes: Sequence[type[Event]]) -> Permissions:
    """The permissions of one service that handles these events."""
    own = stream_of(service)
    publish = [f"redphone.{service}.>", f"$JS.API.STREAM.INFO.{own}"]
    for event in consumes:
        stream, durable = stream_of(event.owner), durable_of(service, event)
        publish += [
            f"$JS.API.CONSUMER.CREATE.{stream}.{durable}.{filter_of(event)}",
            f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}",
            f"$JS.ACK.{stream}.{durable}.>",
        ]
    return Permissions(tuple(publish), (f"_INBOX_{service}.>",))


def deploy_permissions() -> Permissions:
    """What creates and updates streams and consumers; it can neither publish nor read an event, nor delete a stream."""
    return Permissions(
        (
            "$JS.API.STREAM.INFO.*",
            "$JS.API.STREAM.CREATE.*",
            "$JS.API.STREAM.UPDATE.*",
            "$JS.API.CONSUMER.CREATE.>",
        ),
        (f"_INBOX_{DEPLOY}.>",),
    )


def authorization(consumes: Mapping[str, Sequence[type[Event]]]) -> str:
    """The `authorization` block of the server's configuration. Public keys come from the server's environment."""
    users = {service: permissions_of(service, events) for service, events in sorted(consumes.items())}
    users[DEPLOY] = deploy_permissions()
    lines = ["authorization {", "  users: ["]
    for name, permissions in users.items():
        lines += ["    {", f"      nkey: $REDPHONE_{name.upper()}_NKEY", "      permissions {"]
        for verb, subjects in (("publish", permissions.publish), ("subscribe", permissions.subscribe)):
            lines.append(f"        {verb}: [")
            lines += [f'          "{subject}"' for subject in subjects]
            lines.append("        ]")
        lines += ["      }", "    }"]
    return "\n".join([*lines, "  ]", "}"]) + "\n"
