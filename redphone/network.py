"""Network files: sends one to roster, and says what was created, updated, left as it is, and which secrets are new.

Used by `redphone network apply`, and by `redphone up` on its first start. Mistakes come back as fields of one problem,
each with file, line and key, and then nothing has been applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.text import Text

from redphone import files
from redphone.client import Client
from redphone.commands import Session, calls
from redphone.exits import Exit, Failed
from redphone.files import SavedCredential
from redphone.output import clean, grid_of, state

app = typer.Typer(no_args_is_help=True, help="Bring partners, people, rotas and credentials in from a file.")

MEDIA_TYPE = "application/toml"
APPLY_SECONDS_MAX = 120.0
"""A file of 300 partners is much work, and nobody wants to hear "no answer" while it is done."""


@dataclass(frozen=True)
class Applied:
    """What roster did, or would do; `secrets` are shown this once."""

    answer: Mapping[str, Any]

    @property
    def secrets(self) -> list[SavedCredential]:
        """The credentials that were made, with their secrets."""
        return [
            SavedCredential(
                client_id=entry["client_id"],
                client_secret=entry["client_secret"],
                partner=entry.get("partner") or "",
                name=entry.get("name") or "",
                roles=tuple(entry.get("roles") or ()),
            )
            for entry in self.answer["credentials"]
        ]

    def items(self, outcome: str) -> list[Mapping[str, Any]]:
        """The items of the file with which this was done: created, updated, unchanged, left_alone."""
        return list(self.answer[outcome])

    @property
    def sentence(self) -> str:
        """The counts in one line."""
        counts = [(len(self.items(outcome)), outcome.replace("_", " ")) for outcome in OUTCOMES]
        return ", ".join(f"{count} {word}" for count, word in counts if count) or "nothing in it"


OUTCOMES = ("created", "updated", "unchanged", "left_alone")


async def send_network(client: Client, text: str, file_name: str, *, dry_run: bool = False) -> Applied:
    """Applies a network file; `Failed` names every mistake. With `dry_run` nothing is written and no secret made."""
    query = "?dry_run=true" if dry_run else ""
    answer = await client.post(
        f"/v1/network{query}",
        text.encode(),
        key=client.new_key(),
        headers={"Content-Type": MEDIA_TYPE},
        timeout_seconds=APPLY_SECONDS_MAX,
    )
    return Applied(answer)
