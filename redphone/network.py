"""Network files: sends one to roster, and says what was created, updated, left as it is, and which secrets are new.

Used by `redphone network apply`, and by `redphone up` on its first start. Mistakes come back as fields of one problem,
each with file, line and key, and then nothing has been applied.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode

import typer
from rich.text import Text

from redphone import files
from redphone.client import Client, segment
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
                client_secret=entry["secret"],
                partner=entry.get("partner") or "",
                name=entry.get("name") or "",
                roles=tuple(entry.get("roles") or ()),
            )
            for entry in self.answer["secrets"]
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
    """Applies a network file; `Failed` names every mistake. With `dry_run` nothing is written and no secret made.

    Sent once: an answer that is lost takes the new secrets with it, and a second try would only hide that.
    """
    query = urlencode({"filename": file_name} | ({"dry_run": "true"} if dry_run else {}))
    try:
        answer = await client.post(
            f"/v1/network?{query}",
            text.encode(),
            headers={"Content-Type": MEDIA_TYPE},
            timeout_seconds=APPLY_SECONDS_MAX,
        )
    except Failed as failed:
        raise _lost(failed) if failed.exit_code is Exit.UNREACHABLE else _mistakes(failed, file_name) from None
    return Applied(answer)


@app.callback()
def network() -> None:
    """Bring partners, people, rotas and credentials in from a file."""


@app.command("apply")
@calls
async def apply_network(
    session: Session,
    file: Annotated[Path, typer.Argument(help="The network file, TOML.", show_default=False)],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    save: Annotated[
        Path | None, typer.Option("--save", help="Keep new secrets in this file, mode 0600.", metavar="FILE")
    ] = None,
    verbose: Annotated[bool, typer.Option("--all", help="Also name what stays as it is.")] = False,
) -> None:
    """Creates what is missing and updates what nobody has edited since; deletes nothing. Twice changes nothing.

    On the installation's own machine the key file in the data directory is enough; elsewhere use --as. New secrets are
    shown this once: with --save they go to a file instead of the screen.

    For example:

        redphone network apply network/rdn.toml --dry-run
    """
    text = files.read_text(file)
    if save is not None and not dry_run:
        files.load_credentials(save)  # a file that cannot be added to is better found out before the secrets are made
    session.client.be_administrator()
    applied = await send_network(session.client, text, file.name, dry_run=dry_run)
    if save is not None and applied.secrets:
        files.save_credentials(save, applied.secrets)
    _show(session, applied, dry_run=dry_run, save=save, verbose=verbose)


@app.command("secret")
@calls
async def new_secrets(
    session: Session,
    partner: Annotated[str, typer.Argument(help="The partner's code, for example CA.", show_default=False)],
    client_ids: Annotated[
        list[str] | None, typer.Argument(help="Whose secret is lost.", metavar="[CLIENT]...", show_default=False)
    ] = None,
    *,
    every: Annotated[bool, typer.Option("--all", help="New secrets for all of the partner's credentials.")] = False,
    save: Annotated[
        Path | None, typer.Option("--save", help="Keep new secrets in this file, mode 0600.", metavar="FILE")
    ] = None,
) -> None:
    """Makes new secrets for credentials whose secrets are lost. The old secrets, and their tokens, end at once.

    For example:

        redphone network secret CA ca-duty-officer --save credentials.json
    """
    if bool(client_ids) == every:
        raise Failed("Name the credentials whose secrets are lost, or say --all.", exit_code=Exit.USAGE)
    if save is not None:
        files.load_credentials(save)
    session.client.be_administrator()
    path = f"/v1/partners/{segment(partner.upper())}/credentials"
    if every:
        listed = (await session.client.get(path))["items"]
        client_ids = [entry["client_id"] for entry in listed if entry.get("revoked_at") is None]
    made = []
    for client_id in client_ids or []:
        answer = await session.client.post(f"{path}/{segment(client_id)}/secret", {})
        made += Applied({"secrets": [answer]}).secrets
        if save is not None:
            # One by one: whatever interrupts this, no secret that was made is lost with it.
            files.save_credentials(save, made[-1:])
    if session.output.as_json:
        kept = [{"client_id": secret.client_id} for secret in made]
        shown = [{"client_id": secret.client_id, "secret": secret.client_secret} for secret in made]
        session.output.json({"secrets": shown if save is None else kept})
        return
    _show_secrets(session, made, save)


def _show(session: Session, applied: Applied, *, dry_run: bool, save: Path | None, verbose: bool) -> None:
    output = session.output
    if output.as_json:
        answer = dict(applied.answer) | {"dry_run": dry_run}
        if save is not None:
            answer["secrets"] = [{"client_id": secret.client_id} for secret in applied.secrets]
        output.json(answer)
        return
    shown = [outcome for outcome in OUTCOMES if verbose or outcome != "unchanged"]
    grid = grid_of(["Partner", "What", "Key", "Outcome"])
    for outcome in shown:
        for item in applied.items(outcome):
            said = state(outcome.replace("_", " "))
            if item.get("detail"):
                said = Text.assemble(said, f"\n{item['detail']}")
            grid.add_row(item.get("partner") or "–", item["kind"].replace("_", " "), clean(item["key"]), said)
    if grid.row_count:
        output.show(grid)
    output.show(Text(f"{'Would be: ' if dry_run else ''}{applied.sentence}.", style="bold"))
    _show_secrets(session, applied.secrets, save)


def _show_secrets(session: Session, secrets: Sequence[SavedCredential], save: Path | None) -> None:
    output = session.output
    if save is not None and secrets:
        output.show(Text(f"{len(secrets)} new secrets are in {save}, and nowhere else."))
    elif secrets:
        output.show(Text("\nNew credentials. Their secrets are shown this once: keep them now.", style="bold yellow"))
        for secret in secrets:
            roles = ", ".join(role.replace("_", " ") for role in secret.roles)
            output.show(Text.assemble((secret.client_id, "bold"), f"  {secret.name} · {roles}"))
            output.console.print(Text(f"  {secret.client_secret}"), soft_wrap=True)


def _lost(failed: Failed) -> Failed:
    """The same failure, with what it means for secrets that may have been made."""
    return Failed(
        failed.what,
        details=[
            *failed.details,
            "Applying the file again is safe, but secrets that the lost answer held are lost with it:",
            "have new ones made (redphone network secret PARTNER CLIENT).",
        ],
        exit_code=failed.exit_code,
        code=failed.code,
    )


def _mistakes(failed: Failed, file_name: str) -> Failed:
    """The same refusal as a list of places in the file; any other refusal as it is."""
    if failed.code != "invalid_network_file":
        return failed
    places = [
        detail[detail.index(f"{file_name}, line") :] for detail in failed.details if f"{file_name}, line" in detail
    ]
    return Failed(
        f"{file_name} has mistakes; nothing was applied.",
        details=places or failed.details,
        exit_code=failed.exit_code,
        code=failed.code,
    )
