"""When a page whose attempt failed is tried again. Pure: nothing here reads a clock or draws a number.

The schedule counts from the first attempt: attempts at 0, 1, 2, 4, 8, 15, 30 and 60 s, then every 60 s, give or take a
fifth, until the endpoint accepts the page, a person acknowledges, or the alert ends. Whoever stores the due time of the
next attempt adds the gap returned here to the moment at which the last attempt *began*; if that has passed already,
because the attempt itself took its full five seconds, the next one is due at once.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

ATTEMPT_INSTANTS_SECONDS = (0, 1, 2, 4, 8, 15, 30, 60)
REPEAT_SECONDS = 60.0
REPEAT_SPREAD = 0.2
HOPELESS_REPEAT_SECONDS = 600.0
"""Where a provider says for good that nobody is reached. It may be wrong, and each try may cost: it is asked rarely."""

RETRY_AFTER_SECONDS_MAX = 60.0
"""An endpoint may ask for a pause, but never for one that would keep a crisis from it."""

_RETRY_AFTER_LENGTH_MAX = 64
_SECONDS = re.compile(r"[0-9]{1,9}")


def next_attempt_seconds(
    attempts_made: int, *, retry_after_seconds: float | None, jitter: Callable[[], float]
) -> float:
    """Seconds from the beginning of attempt number `attempts_made` (at least 1) to that of the next.

    `jitter` returns a number in [0, 1); it spreads the repetitions only, so that endpoints that failed together do not
    return together. `retry_after_seconds` is what the endpoint asked for: it can lengthen a gap up to
    `RETRY_AFTER_SECONDS_MAX` and never shorten one, so that no answer makes us press harder than the schedule.
    """
    if attempts_made < 1:
        raise ValueError("attempts_made counts from 1: the first attempt is due at once")
    if attempts_made < len(ATTEMPT_INSTANTS_SECONDS):
        gap_seconds = float(ATTEMPT_INSTANTS_SECONDS[attempts_made] - ATTEMPT_INSTANTS_SECONDS[attempts_made - 1])
    else:
        gap_seconds = REPEAT_SECONDS * (1.0 + REPEAT_SPREAD * (2.0 * jitter() - 1.0))
    if retry_after_seconds is None:
        return gap_seconds
    return max(gap_seconds, min(retry_after_seconds, RETRY_AFTER_SECONDS_MAX))


def parse_retry_after(value: str | None, *, now: datetime) -> float | None:
    """Read a `Retry-After` header (RFC 9110: whole seconds or an HTTP date) as seconds from `now`.

    The result is between 0 and `RETRY_AFTER_SECONDS_MAX`; `None` if there is none or it cannot be read.
    """
    text = (value or "").strip()
    if not text or len(text) > _RETRY_AFTER_LENGTH_MAX:
        return None
    if _SECONDS.fullmatch(text):
        return min(float(text), RETRY_AFTER_SECONDS_MAX)
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return min(max((moment - now).total_seconds(), 0.0), RETRY_AFTER_SECONDS_MAX)
