"""The commands of the guide for roster managers, as they stand there: run against roster itself, in their order."""

from __future__ import annotations

import asyncio
import re
import shlex
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from typer.testing import CliRunner, Result

from redphone import files
from redphone.cli import app
from redphone.counterparts.server import QuietServer
from redphone.files import SavedCredential
from services.roster.readiness.proving import prove_partners
from tests.support.cluster import Cluster
from tests.support.roster_rig import Rig, roster_rig, shipped_text
from tests.support.snapshots import ROOT

GUIDE = ROOT / "docs" / "rosters"
FILES = re.compile(r"`(\w+\.toml)`.*?\n\n```toml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
COMMANDS = re.compile(r"^ {4}redphone (.*)$", re.MULTILINE)
CHART = re.compile(r"^ {16}00  02 .*\n(?: {5}.+\n)+", re.MULTILINE)
NEEDS_A_CODE = "points verify"
"""Asks for the code that was sent."""


@pytest_asyncio.fixture
async def rig(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Rig]:
    """The service with the shipped network, its credentials where the command line finds them."""
    async with roster_rig(cluster) as made:
        applied = (await made.apply(shipped_text())).json()
        secrets = [SavedCredential(one["client_id"], one["secret"]) for one in applied["secrets"]]
        (tmp_path / ".redphone").mkdir()
        files.save_credentials(tmp_path / ".redphone" / files.CREDENTIALS_NAME, secrets)
        yield made


@pytest_asyncio.fixture
async def run(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Callable[[str], Coroutine[Any, Any, Result]]]:
    """Runs a command line of the guide beside the server; as whom stands in it."""
    for name in ("REDPHONE_TOKEN", "REDPHONE_CLIENT_ID", "REDPHONE_CLIENT_SECRET", "REDPHONE_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        monkeypatch.setenv("REDPHONE_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.chdir(tmp_path)

        async def invoke(line: str) -> Result:
            return await asyncio.to_thread(CliRunner().invoke, app, shlex.split(line))

        server = QuietServer(uvicorn.Config(rig.application, log_config=None, lifespan="off", access_log=False))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        try:
            yield invoke
        finally:
            server.end()
            await serving


async def _proven(rig: Rig) -> None:
    """Duty plans come first, and proofs after them."""
    await rig.publish_plans()
    while await prove_partners(rig.deps):
        pass


async def test_every_command_of_the_first_ten_minutes_and_of_rotas_works(
    rig: Rig, run: Callable[[str], Coroutine[Any, Any, Result]], tmp_path: Path
) -> None:
    """Page by page, with the files that a page holds, each command ends with 0; pictures are what is really drawn."""
    await _proven(rig)
    said = ""
    for page in ("README.md", "rotas.md"):
        text = (GUIDE / page).read_text(encoding="utf-8")
        for name, content in FILES.findall(text):
            (tmp_path / name).write_text(content, encoding="utf-8")
        commands = [command for command in COMMANDS.findall(text) if NEEDS_A_CODE not in command]
        assert len(commands) >= 6
        for command in commands:
            result = await run(command)
            assert result.exit_code == 0, (page, command, result.output)
            said += result.output
        for chart in CHART.findall(text):
            for line in chart.splitlines():
                assert line.strip() in said, f"{page} shows a line that is not drawn: {line}"


async def test_what_the_guide_says_of_refusals_is_so(
    rig: Rig, run: Callable[[str], Coroutine[Any, Any, Result]]
) -> None:
    """A hole that somebody makes is shown before it is made, and readiness finds it afterwards."""
    making = 'rota override add "Duty officers" nobody --from 2026-10-20T08:00 --to 2026-10-20T20:00'
    tried = await run(f"{making} --dry-run --as ca-roster-manager")
    assert tried.exit_code == 0, tried.output
    assert (await rig.stored("CA")).rotas[0].overrides == ()
    assert (await run(f"{making} --as ca-roster-manager")).exit_code == 0
    await _proven(rig)
    found = await run("readiness --as ca-roster-manager")
    assert found.exit_code == 6, found.output
    assert "uncovered" in found.output
