"""The process in which Apprise does its blocking work: for each message a thread, and a line of JSON in and out.

The cast: `main`, which reads jobs from the standard input until it closes; `deliver`, which sends one; `fence`, which
this process cannot take down again.

The promise: it holds nothing of the installation's: no database, no key, no environment. It connects to no address that
the guard would not let out to, whatever a library resolves, is redirected to or is talked into, and it starts no other
program. It may hang or be killed at any moment: who started it keeps the time.

A job is `{"id", "url", "title", "body"}`; the answer `{"id", "sent", "status", "retry_after", "error"}`, where `status`
and `retry_after` are those of the last HTTP answer, and `error` is the name of what the last request failed with.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import resource
import socket
import sys
import threading
from typing import Any

from shared.egress import PORT_UNPRIVILEGED_MIN, EgressPolicy

MEMORY_BYTES_MAX = 2 * 1024**3
"""Of address space: what a server answers is read into memory by the libraries, however much it is."""
STACK_BYTES = 512 * 1024
RETRY_AFTER_CHARACTERS_MAX = 40
"""An HTTP date has 29. A server can send thousands, and a line of an answer has a limit, which all in it would meet."""
_WEB_PORTS = frozenset({80, 443})

_STARTING_PROGRAMS = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.forkpty",
    "os.startfile",
)


class Fenced(OSError):
    """What a library gets that tries to leave the fence."""


class _Last(threading.local):
    """What this thread's last request ended with."""

    status: int | None = None
    retry_after: str | None = None
    error: str | None = None
    fenced: bool = False


_last = _Last()


def fence(policy: EgressPolicy) -> None:
    """From now on, this process connects to allowed addresses alone and starts nothing. There is no way back."""

    def check(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("socket.connect", "socket.sendto"):
            family, address = arguments[0].family, arguments[1]
            if family in (socket.AF_INET, socket.AF_INET6) and _is_allowed(policy, address):
                return
            _last.fenced = True
            raise Fenced("this address is not allowed")
        if event in _STARTING_PROGRAMS:
            raise Fenced("no program may be started")

    sys.addaudithook(check)


def _is_allowed(policy: EgressPolicy, address: Any) -> bool:
    try:
        host, port = address[0], address[1]
        return (port in _WEB_PORTS or port >= PORT_UNPRIVILEGED_MIN) and policy.allows(ipaddress.ip_address(host))
    except (ValueError, TypeError, LookupError):
        return False


def deliver(job: dict[str, Any]) -> dict[str, Any]:
    """Sends one message; never raises."""
    _last.status = _last.retry_after = _last.error = None
    _last.fenced = False
    sent = False
    try:
        sent = _notify(job["url"], job["title"], job["body"])
    except BaseException as error:  # noqa: BLE001 - a library's bug is this message's failure and nobody else's
        _last.error = type(error).__name__
    return {
        "id": job["id"],
        "sent": bool(sent),
        "status": _last.status,
        "retry_after": _last.retry_after,
        "error": "Fenced" if _last.fenced else _last.error,
    }


def _notify(url: str, title: str, body: str) -> bool:
    from apprise import Apprise, AppriseAsset, NotifyFormat, OverflowMode  # noqa: PLC0415 - loaded by `_prepare`

    asset = AppriseAsset(
        app_id="Red Phone",
        app_desc="Red Phone",
        app_url="",
        image_url_mask="",
        image_path_mask="",
        image_url_logo="",
        http_redirects=False,
        secure_logging=True,
        plugin_paths=[],
    )
    room = Apprise.instantiate(url, asset=asset)
    if room is None:
        _last.error = "UrlRefused"
        return False
    # A text that is too long for one message becomes several at once, in place of seconds apart.
    room.overflow_mode = OverflowMode.SPLIT
    room.request_rate_per_sec = 0
    return bool(room.notify(body=body, title=title, body_format=NotifyFormat.TEXT))


def _prepare() -> None:
    """Loads what is slow to load, and has every HTTP request leave its status behind for its thread."""
    import apprise  # noqa: F401, PLC0415
    import requests  # noqa: PLC0415

    send = requests.Session.send

    def noted(session: requests.Session, request: requests.PreparedRequest, **settings: Any) -> requests.Response:
        _last.status = _last.retry_after = _last.error = None
        try:
            response = send(session, request, **settings)
        except Exception as error:
            _last.error = type(error).__name__
            raise
        _last.status = response.status_code
        _last.retry_after = response.headers.get("Retry-After", "")[:RETRY_AFTER_CHARACTERS_MAX] or None
        return response

    requests.Session.send = noted  # type: ignore[method-assign, assignment]


def _bound() -> None:
    # No memory image: it would hold the messages' addresses.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    limit = MEMORY_BYTES_MAX if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES_MAX, hard)
    resource.setrlimit(resource.RLIMIT_AS, (limit, hard))
    threading.stack_size(STACK_BYTES)


def main() -> None:
    """Works until the standard input closes, which it does when whoever started this process is gone."""
    logging.disable(logging.CRITICAL)
    _bound()
    order = json.loads(sys.stdin.buffer.readline())
    _prepare()
    fence(
        EgressPolicy(
            allow_http=order["allow_http"],
            allow_loopback=order["allow_loopback"],
            extra_networks=tuple(ipaddress.ip_network(network) for network in order["extra_networks"]),
        )
    )
    answering = threading.Lock()
    answers = sys.stdout.buffer

    def answer(value: dict[str, Any]) -> None:
        with answering:
            answers.write(json.dumps(value).encode() + b"\n")
            answers.flush()

    def work(job: dict[str, Any]) -> None:
        answer(deliver(job))

    answer({"ready": True})
    for line in sys.stdin.buffer:
        threading.Thread(target=work, args=(json.loads(line),), daemon=True).start()
    # Without waiting for threads, which may hang.
    os._exit(0)


if __name__ == "__main__":
    main()
