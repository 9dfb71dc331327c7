"""The days of the week as people write them in requests and files: the two letters of RFC 5545, in small letters."""

from __future__ import annotations

from enum import StrEnum


class Weekday(StrEnum):
    """A day of the week; the rotas themselves count them as ISO does, from 1 for Monday."""

    MO = "mo"
    TU = "tu"
    WE = "we"
    TH = "th"
    FR = "fr"
    SA = "sa"
    SU = "su"

    @property
    def iso(self) -> int:
        """Its number: 1 is Monday."""
        return list(Weekday).index(self) + 1

    @classmethod
    def of(cls, iso: int) -> Weekday:
        """The day of an ISO number from 1 to 7."""
        return list(cls)[iso - 1]
