"""HTTP to addresses that others gave us: clients that reach exactly one address, and what their errors mean.

The cast: `pinned_client` says how every such client is built, whoever sends with it; `trouble_of` says why a request
failed.

The promise: a client connects to the address that the guard (`shared.egress`) has chosen and to no other, verifies TLS
against the name, follows no redirect, uses no proxy from the environment and unpacks nothing. The words about a failure
are our own: never a URL, nor anything that the other side wrote.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from enum import StrEnum

from pyreqwest.client import ClientBuilder
from pyreqwest.exceptions import (
    BuilderError,
    ClientClosedError,
    DecodeError,
    PyreqwestError,
    RequestError,
    RequestPanicError,
    RequestTimeoutError,
)

from shared.egress import Address, CheckedUrl


def pinned_client(
    url: CheckedUrl,
    address: Address,
    *,
    user_agent: str,
    connect_seconds: float,
    total_seconds: float,
    extra_roots_der: Sequence[bytes] = (),
) -> ClientBuilder:
    """How a client for this URL at this address is built; the caller may add to it, and then calls `build`.

    Building loads the certificate authorities, some milliseconds each: never on the event loop.
    """
    builder = (
        ClientBuilder()
        .no_proxy()
        .follow_redirects(False)
        .referer(False)
        .gzip(False)
        .brotli(False)
        .zstd(False)
        .deflate(False)
        .http1_only()
        .https_only(url.scheme == "https")
        .min_tls_version("TLSv1.2")
        .user_agent(user_agent)
        .connect_timeout(timedelta(seconds=connect_seconds))
        .timeout(timedelta(seconds=total_seconds))
    )
    if url.address is None:
        builder = builder.resolve(url.host, str(address), url.port)
    for root in extra_roots_der:
        builder = builder.add_root_certificate_der(root)
    return builder


class Trouble(StrEnum):
    """Why a request over HTTP came to nothing."""

    TIMEOUT = "timeout"
    CONNECT_FAILED = "connect_failed"
    TLS_FAILED = "tls_failed"
    DISCONNECTED = "disconnected"
    NAME_FAILED = "dns_failed"
    RESPONSE_MALFORMED = "response_malformed"
    CLIENT_CLOSED = "channel_unavailable"
    INTERNAL = "internal"


_TLS_DETAILS = (
    ("notvalidforname", "the certificate is for another name"),
    ("not valid for name", "the certificate is for another name"),
    ("expired", "the certificate has expired"),
    ("notvalidyet", "the certificate is not valid yet"),
    ("not valid yet", "the certificate is not valid yet"),
    ("unknownissuer", "the certificate's authority is not known"),
    ("unknown issuer", "the certificate's authority is not known"),
    ("certificate", "the certificate is not accepted"),
)
_TLS_WORDS = ("certificate", "tls", "handshake", "alert", "corrupt message")


def trouble_of(error: PyreqwestError) -> tuple[Trouble, str]:
    """What an error of the client means, and some words about it. Its class misleads, its causes do not.

    A request that was never answered raises `ConnectTimeoutError` and an endpoint that hangs up after it has read the
    page raises `ConnectError`, just as one that could not be connected to; only the chain of causes tells them apart.
    The texts are used to choose words of our own and never passed on, since they repeat the URL.
    """
    if isinstance(error, ClientClosedError):
        return Trouble.CLIENT_CLOSED, "the channel was closed"
    if isinstance(error, BuilderError | RequestPanicError) or not isinstance(error, RequestError):
        return Trouble.INTERNAL, type(error).__name__
    # The first cause names the URL, which its owner chooses.
    causes = [cause["message"].lower() for cause in error.details["causes"] or []]
    causes = [cause for cause in causes if not cause.startswith("error sending request for url")]
    if "client error (connect)" in causes:
        return _failure_to_connect(error, causes)
    if isinstance(error, RequestTimeoutError):
        return Trouble.TIMEOUT, "no complete answer in time"
    if isinstance(error, DecodeError) and "error reading a body from connection" not in causes:
        return Trouble.RESPONSE_MALFORMED, "the answer is not HTTP"
    return Trouble.DISCONNECTED, "the connection broke off before the answer was complete"


def _failure_to_connect(error: RequestError, causes: list[str]) -> tuple[Trouble, str]:
    if isinstance(error, RequestTimeoutError):
        return Trouble.CONNECT_FAILED, "no connection in time"
    if "dns error" in causes:
        return Trouble.NAME_FAILED, "the host name could not be resolved"
    text = " ".join(causes)
    for word, detail in _TLS_DETAILS:
        if word in text:
            return Trouble.TLS_FAILED, detail
    if any(word in text for word in _TLS_WORDS):
        return Trouble.TLS_FAILED, "no secure connection could be agreed"
    return Trouble.CONNECT_FAILED, "connection refused" if "connection refused" in text else "no connection"
