"""Every error that Red Phone raises on purpose, and what HTTP and the bus make of it.

RedPhoneError
├── Rejected            the domain says no             HTTP   bus
│   ├── Invalid         the input is wrong             422    dead letter
│   ├── NotFound        missing, or not yours to see   404    dead letter
│   ├── Forbidden       known, but not your role       403    dead letter
│   └── Conflict        not in this state              409    dead letter
├── Unavailable         try again                      503    nak with delay
└── ContractViolation   can never be handled           —      dead letter and operator alarm

Anything else is a bug: 500 without details; on the bus a nak with delay, and after five deliveries a dead letter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class FieldError:
    """One mistake in the input: where it stands, what is wrong, and what would be right."""

    field: str
    detail: str
    code: str = "invalid"


class RedPhoneError(Exception):
    """Base of every deliberate error. `code` is stable and documented; `detail` is written for a person."""

    code = "error"

    def __init__(self, detail: str, *, code: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        if code is not None:
            self.code = code


class Rejected(RedPhoneError):
    """The domain says no. Trying the same again gives the same answer."""

    code = "rejected"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        field: str | None = None,
        errors: Sequence[FieldError] = (),
    ) -> None:
        super().__init__(detail, code=code)
        if field is not None and not errors:
            errors = (FieldError(field=field, detail=detail, code=self.code),)
        self.errors: tuple[FieldError, ...] = tuple(errors)


class Invalid(Rejected):
    """The input is wrong; `errors` names each field and what would be right."""

    code = "invalid"


class NotFound(Rejected):
    """There is no such object, or the caller may not know of it: the two answer alike."""

    code = "not_found"


class Forbidden(Rejected):
    """The caller may know of the object, but their roles do not allow this act."""

    code = "forbidden"


class Conflict(Rejected):
    """The act does not fit the state that the object is in now."""

    code = "conflict"


ALERT_OPENING = "alert_opening"
"""The code of an `Unavailable` that is only said of an alert whose first pages have left and are not stored yet."""


class Unavailable(RedPhoneError):
    """Something that we need does not answer now. Nothing is known to be wrong with the request."""

    code = "unavailable"


class ContractViolation(RedPhoneError):
    """A message that can never be handled: unknown type, or a body that breaks its declared schema."""

    code = "contract_violation"
