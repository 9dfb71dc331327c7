"""Exit codes of the `redphone` command, and the one exception that ends a command with a sentence instead of a trace.

0  done                                    4  not authorised: no credential, a wrong one, or a missing role
1  refused: the request is wrong           5  not everybody acknowledged (`alert watch --until-acknowledged`)
2  the command line is wrong               6  `doctor` or `readiness` found what needs a person
3  no answer: nobody there, or not now     7  the servers or services could not start or go on
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum


class Exit(IntEnum):
    """What a script can tell apart."""

    DONE = 0
    REFUSED = 1
    USAGE = 2
    UNREACHABLE = 3
    NOT_AUTHORISED = 4
    NOT_EVERYBODY = 5
    UNHEALTHY = 6
    NOT_RUNNING = 7


class Failed(Exception):
    """Ends a command. `what` is one sentence; `details` name fields and what would be right; `code` is a problem's."""

    def __init__(self, what: str, *, exit_code: Exit, details: Sequence[str] = (), code: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.exit_code = exit_code
        self.details = tuple(details)
        self.code = code
