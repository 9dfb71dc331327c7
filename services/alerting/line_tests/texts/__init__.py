"""What a line test says, in the languages that Red Phone speaks: one file each, read once."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

ORIGINAL: Final = "en"
LANGUAGES: Final = ("en", "fr", "es", "it", "pt", "de", "ar")


@cache
def texts() -> Mapping[str, Mapping[str, str]]:
    """Every language's event, headline, description and instruction. `{minutes}` stands for the time to answer."""
    folder = Path(__file__).parent
    return {language: tomllib.loads((folder / f"{language}.toml").read_text("utf-8")) for language in LANGUAGES}
