"""Logging: structlog, JSON lines on standard output, pretty on a terminal.

Event names are `noun.past_verb`. ERROR means that a person must act now; a retry is a WARNING; nothing to do is
silent. No contact detail, token, secret or message text is ever logged: `_redact` is the last fence, not the first.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

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


def configure(*, level: str = "INFO", json_lines: bool | None = None) -> None:
    """Sets logging up for one process. `json_lines` None decides by whether standard output is a terminal."""
    if json_lines is None:
        json_lines = not sys.stderr.isatty()
    shared_processors: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _redact,
    ]
    renderers: list[Any] = (
        [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
        if json_lines
        else [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
    )
    structlog.configure(
        processors=[*shared_processors, *renderers],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)


def get_logger(name: str) -> Any:
    """A structured logger; bind service, alert_id, page_id and the like to it."""
    return structlog.get_logger(logger_name=name)
