"""Why an attempt over HTTP ended as it did, for every channel that speaks HTTP.

The cast: an `Outcome`; `refused`, for what the guard did not let out; `failure_of`, for what the client raises.

The promise: the reason is true, and the detail is in words of our own: never a URL, nor anything that the other side
wrote.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyreqwest.exceptions import (
    BuilderError,
    ClientClosedError,
    DecodeError,
    PyreqwestError,
    RequestError,
    RequestPanicError,
    RequestTimeoutError,
)

from services.escalation.channels import Reason
from shared.egress import EgressRefused, RefusalReason


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an attempt ended, before it is timed."""

    reason: Reason
    detail: str | None = None
    retry_after_seconds: float | None = None


def refused(refusal: EgressRefused) -> Outcome:
    """What it means that the guard does not let out to an address."""
    match refusal.reason:
        case RefusalReason.ADDRESS_REFUSED | RefusalReason.TOO_MANY_ADDRESSES:
            reason = Reason.ADDRESS_REFUSED
        case RefusalReason.NAME_UNKNOWN | RefusalReason.NAME_SERVICE_TIMEOUT:
            reason = Reason.NAME_FAILED
        case _:
            reason = Reason.TARGET_REFUSED
    return Outcome(reason, refusal.detail)


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


def failure_of(error: PyreqwestError) -> Outcome:
    """What an error of the client means. Its class misleads, its causes do not.

    A request that was never answered raises `ConnectTimeoutError` and an endpoint that hangs up after it has read the
    page raises `ConnectError`, just as one that could not be connected to; only the chain of causes tells them apart.
    The texts are used to choose words of our own and never passed on, since they repeat the URL.
    """
    if isinstance(error, ClientClosedError):
        return Outcome(Reason.CHANNEL_UNAVAILABLE, "the channel was closed")
    if isinstance(error, BuilderError | RequestPanicError) or not isinstance(error, RequestError):
        return Outcome(Reason.INTERNAL, type(error).__name__)
    # The first cause names the URL, which its owner chooses.
    causes = [cause["message"].lower() for cause in error.details["causes"] or []]
    causes = [cause for cause in causes if not cause.startswith("error sending request for url")]
    if "client error (connect)" in causes:
        return _failure_to_connect(error, causes)
    if isinstance(error, RequestTimeoutError):
        return Outcome(Reason.TIMEOUT, "no complete answer in time")
    if isinstance(error, DecodeError) and "error reading a body from connection" not in causes:
        return Outcome(Reason.RESPONSE_MALFORMED, "the answer is not HTTP")
    return Outcome(Reason.DISCONNECTED, "the connection broke off before the answer was complete")


def _failure_to_connect(error: RequestError, causes: list[str]) -> Outcome:
    if isinstance(error, RequestTimeoutError):
        return Outcome(Reason.CONNECT_FAILED, "no connection in time")
    if "dns error" in causes:
        return Outcome(Reason.NAME_FAILED, "the host name could not be resolved")
    text = " ".join(causes)
    for word, detail in _TLS_DETAILS:
        if word in text:
            return Outcome(Reason.TLS_FAILED, detail)
    if any(word in text for word in _TLS_WORDS):
        return Outcome(Reason.TLS_FAILED, "no secure connection could be agreed")
    return Outcome(Reason.CONNECT_FAILED, "connection refused" if "connection refused" in text else "no connection")
