"""Why an attempt over HTTP ended as it did, for every channel that speaks HTTP.

The cast: an `Outcome`; `refused`, for what the guard did not let out; `failure_of`, for what the client raises.

The promise: the reason is true, and the detail is in words of our own: never a URL, nor anything that the other side
wrote.
"""

from __future__ import annotations

from dataclasses import dataclass

from pyreqwest.exceptions import PyreqwestError

from services.escalation.channels import Reason
from shared.egress import EgressRefused, RefusalReason
from shared.pinned import trouble_of


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


def failure_of(error: PyreqwestError) -> Outcome:
    """What an error of the client means."""
    trouble, detail = trouble_of(error)
    return Outcome(Reason(trouble.value), detail)
