"""Logging: structlog, JSON lines on standard error, pretty on a terminal. Standard output is a command's own.

Event names are `noun.past_verb`. ERROR means that a person must act now; a retry is a WARNING; nothing to do is
silent. No contact detail, token, secret or message text is ever logged: `_redact` is the last fence, not the first, and
a trace says where an error came from and of what kind it is, because the text of one may repeat a row or a message.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import MutableMapping
from types import TracebackType
from typing import Any

import structlog

from shared.errors import RedPhoneError

_NEVER_LOGGED = frozenset(
    {
        "address",
        "authorization",
        "body",
        "client_secret",
        "description",
        "headline",
        "instruction",
        "secret",
        "target",
        "token",
        "url",
    }
)


def _redact(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for key in _NEVER_LOGGED & event.keys():
        event[key] = "[withheld]"
    return event


def trace_of(error: BaseException) -> str:
    """The places that an error and its causes went through, the first cause first, with kinds and codes, no texts."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    lines = [trace_of(before), "and then:"] if before is not None else []
    lines += [
        f"  {frame.filename}:{frame.lineno} in {frame.name}" for frame in traceback.extract_tb(error.__traceback__)
    ]
    lines.append(_kind_of(error))
    if isinstance(error, BaseExceptionGroup):
        lines += [trace_of(inner) for inner in error.exceptions]
    return "\n".join(lines)


def _kind_of(error: BaseException) -> str:
    if isinstance(error, RedPhoneError):
        return f"{type(error).__name__} ({error.code}): {error.detail}"
    state = getattr(error, "sqlstate", None)
    return f"{type(error).__name__} {state}" if isinstance(state, str) else type(error).__name__


def _trace(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    given = event.pop("exc_info", None)
    error = given if isinstance(given, BaseException) else sys.exc_info()[1] if given else None
    if error is not None:
        event["exception"] = trace_of(error)
    return event


class _Traces(logging.Formatter):
    """Gives what libraries log the same traces."""

    def formatException(  # noqa: N802 - the library's own name
        self, ei: tuple[type[BaseException] | None, BaseException | None, TracebackType | None]
    ) -> str:
        return "" if ei[1] is None else trace_of(ei[1])


def configure(*, level: str = "INFO", json_lines: bool | None = None) -> None:
    """Sets logging up for one process. `json_lines` None decides by whether standard error is a terminal."""
    if json_lines is None:
        json_lines = not sys.stderr.isatty()
    shared_processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _redact,
        _trace,
    ]
    renderer: Any = structlog.processors.JSONRenderer() if json_lines else structlog.dev.ConsoleRenderer()
    structlog.configure(
        processors=[*shared_processors, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Traces("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def get_logger(name: str) -> Any:
    """A structured logger; bind service, alert_id, page_id and the like to it."""
    return structlog.get_logger(logger_name=name)
