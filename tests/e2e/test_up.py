"""`redphone up` as people start it: a real process on a directory and a port of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import stat
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.support.waiting import eventually

NETWORK = Path(__file__).parents[2] / "network" / "rdn.toml"
START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0


@dataclass
class Up:
    """A running `redphone up`, and what it said when it was ready."""

    process: asyncio.subprocess.Process
    said: dict[str, Any]

    @property
    def url(self) -> str:
        """Where it listens."""
        return str(self.said["url"])

    async def stop(self) -> tuple[int, str]:
        """Ends it as an operator would: its exit code, and what it said at the end."""
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(STOP_SECONDS_MAX):
            rest, _ = await self.process.communicate()
        return self.process.returncode or 0, rest.decode()


def environment(home: Path) -> dict[str, str]:
    """This environment without any setting of Red Phone, and with a state directory of the test's own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REDPHONE_")}
    return kept | {"XDG_STATE_HOME": str(home / "state"), "NO_COLOR": "1"}


async def start(directory: Path, *options: str) -> asyncio.subprocess.Process:
    """Starts `redphone up` on the directory's `data`, and does not wait for it."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "redphone", "up", "--data-dir", str(directory / "data"), *options),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(directory),
        start_new_session=True,
    )


@asynccontextmanager
async def up(directory: Path, *options: str) -> AsyncIterator[Up]:
    """A `redphone up` that is ready; killed at the end if the test has left it running."""
    process = await start(directory, "--port", "0", "--json", *options)
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_SECONDS_MAX):
            line = await process.stdout.readline()
        assert line, (await process.communicate())[1].decode()
        yield Up(process, json.loads(line))
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
            await eventually(lambda: servers_of(directory) == [])


def servers_of(directory: Path) -> list[str]:
    """The programs that still run on the directory, of whoever started them."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        arguments = process.info["cmdline"] or []
        if process.info["status"] != psutil.STATUS_ZOMBIE and any(str(directory) in word for word in arguments):
            found.append(Path(arguments[0]).name)
    return found


@pytest.fixture
def redphone(tmp_path: Path) -> Callable[..., Any]:
    """Runs a command against a running installation; its exit code, standard output, standard error."""

    async def run(running: Up, *arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "redphone", *arguments, "--url", running.url),
            *("--data-dir", str(tmp_path / "data")),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=environment(tmp_path),
        )
        async with asyncio.timeout(START_SECONDS_MAX):
            out, err = await process.communicate()
        return process.returncode or 0, out.decode(), err.decode()

    return run


async def test_first_start_brings_the_network_and_a_restart_keeps_it(
    tmp_path: Path, redphone: Callable[..., Any]
) -> None:
    """The first start makes keys, partners and credentials; SIGTERM leaves no process; the next start has it all."""
    credentials = tmp_path / "data" / "credentials.json"
    async with up(tmp_path, "--network", str(NETWORK), "--development") as first:
        assert first.said["partners"] == 11
        assert stat.S_IMODE(credentials.stat().st_mode) == 0o600
        saved = {entry["client_id"]: entry for entry in json.loads(credentials.read_bytes())["credentials"]}
        client_id = next(name for name in saved if name.startswith("ca-"))
        exit_code, token, trouble = await redphone(first, "token", "--as", client_id)
        assert (exit_code, trouble) == (0, "")
        async with httpx.AsyncClient(base_url=first.url, trust_env=False) as http:
            answer = await http.get("/v1/partners", headers={"Authorization": f"Bearer {token.strip()}"})
        assert len(answer.json()["items"]) == 11
        exit_code, out, trouble = await redphone(first, "network", "apply", str(NETWORK), "--json")
        assert (exit_code, trouble) == (0, "")
        applied = json.loads(out)
        assert (applied["created"], applied["updated"], applied["left_alone"], applied["secrets"]) == ([], [], [], [])
        exit_code, last_words = await first.stop()
        assert exit_code == 0, last_words
        assert json.loads(last_words) == {"event": "stopped"}
        assert servers_of(tmp_path) == []

    async with up(tmp_path, "--network", str(NETWORK), "--development") as second:
        assert (second.said["partners"], second.said["credentials_file"]) == (11, None)
        assert (await redphone(second, "token", "--as", client_id))[0] == 0
        assert saved[client_id]["client_secret"] not in json.dumps(second.said)


async def test_a_killed_installation_starts_again(tmp_path: Path, redphone: Callable[..., Any]) -> None:
    """After kill -9 no server outlives the command, and the next start finds everything that was there."""
    async with up(tmp_path, "--network", str(NETWORK), "--development") as killed:
        killed.process.kill()
        await killed.process.wait()
        await eventually(lambda: servers_of(tmp_path) == [])
    async with up(tmp_path) as again:
        assert again.said["partners"] == 11
        shown: list[str] = []

        # What one service had not told the others before it was killed, it tells them now.
        async def is_known() -> bool:
            exit_code, out, _ = await redphone(again, "on-call", "CA", "--json", "--as", "ca-releaser")
            shown.append(out)
            return bool(exit_code == 0)

        await eventually(is_known, within_seconds=30)
        assert [level["level"] for level in json.loads(shown[-1])["levels"]][:2] == [1, 2]


async def test_a_second_one_on_the_same_directory_is_refused(tmp_path: Path) -> None:
    """Who holds the directory is named, and the one that runs is not disturbed."""
    async with up(tmp_path) as first:
        second = await start(tmp_path, "--port", "0")
        async with asyncio.timeout(START_SECONDS_MAX):
            _, trouble = await second.communicate()
        assert second.returncode == 7
        assert f"process {first.process.pid}" in trouble.decode()
        assert "Traceback" not in trouble.decode()
        async with httpx.AsyncClient(base_url=first.url, trust_env=False) as http:
            assert (await http.get("/readyz")).status_code == 200


async def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """A taken port is named before anything is started."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        process = await start(tmp_path, "--port", str(port))
        async with asyncio.timeout(START_SECONDS_MAX):
            _, trouble = await process.communicate()
    assert process.returncode == 7
    assert f"port {port}" in trouble.decode()
    assert not (tmp_path / "data").exists()


async def test_a_network_file_with_mistakes_ends_the_start(tmp_path: Path) -> None:
    """Mistakes are told with file, line and key, nothing of the file is applied, and nothing keeps running."""
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(NETWORK.read_text().replace('standing = "member"', 'standing = "friend"', 1))
    process = await start(tmp_path, "--port", "0", "--network", str(wrong))
    async with asyncio.timeout(START_SECONDS_MAX):
        _, trouble = await process.communicate()
    said = trouble.decode()
    assert process.returncode == 1, said
    assert "wrong.toml" in said
    assert "standing" in said
    assert "line" in said
    assert servers_of(tmp_path) == []


async def test_a_signal_while_it_starts_stops_it(tmp_path: Path) -> None:
    """Ctrl-C before it is ready ends it in good order: no process stays, and the next start works."""
    process = await start(tmp_path, "--port", "0")
    lock = tmp_path / "data" / "servers.lock"
    await eventually(lock.exists)
    process.send_signal(signal.SIGINT)
    async with asyncio.timeout(STOP_SECONDS_MAX):
        _, trouble = await process.communicate()
    assert process.returncode == 0, trouble.decode()
    assert servers_of(tmp_path) == []
    async with up(tmp_path) as again:
        assert again.said["event"] == "up"
