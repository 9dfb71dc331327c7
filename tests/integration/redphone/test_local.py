"""The embedded servers with real processes: what survives, what is closed, what is said when something is wrong."""

from __future__ import annotations

import asyncio
import json
import os
import pwd
import shutil
import signal
import socket
import sys
from collections import namedtuple
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import nats
import psutil
import pytest
import pytest_asyncio

from redphone import local_process
from redphone.local import LocalServerError, LocalServers, given_servers, prepare_data_directory
from redphone.local_postgres import SOCKET_NAME, SOCKET_PATH_BYTES_MAX, create_missing_databases
from redphone.local_process import Account, guarded
from tests.support.cluster import Cluster
from tests.support.waiting import eventually

HOLDER = """
import asyncio, json, sys
from pathlib import Path
from redphone.local import LocalServers

async def main():
    servers = LocalServers(Path(sys.argv[1]), fsync=False, sync_always=False)
    urls = await servers.start()
    pids = [servers.postgres.pid, servers.nats.pid]
    print(json.dumps({"pids": pids, "database_url": urls.owner_urls["alerting"]}), flush=True)
    await asyncio.get_running_loop().create_future()

asyncio.run(main())
"""
REPOSITORY = Path(__file__).parents[3]


@pytest_asyncio.fixture
async def servers(tmp_path: Path) -> AsyncIterator[LocalServers]:
    """Servers of this test, not started yet, stopped at its end."""
    local = quick(tmp_path / "data")
    yield local
    await local.stop()


def quick(directory: Path, *, nats_port: int | None = None) -> LocalServers:
    """Servers that do not wait for the disk."""
    return LocalServers(directory, fsync=False, sync_always=False, nats_port=nats_port)


def is_running(pid: int) -> bool:
    """Whether the process does anything: a zombie that nobody collects does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def mode(path: Path) -> int:
    """The permission bits of a file."""
    return path.stat().st_mode & 0o777


async def query(url: str, statement: str) -> object:
    """The first value that the statement gives."""
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def holder(
    directory: Path, *, account: Account | None = None
) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, object]]]:
    """Another process that has started the servers, and what it says of them; killed at the end if it still runs."""
    command = [sys.executable, "-c", HOLDER, str(directory)]
    process = await asyncio.create_subprocess_exec(
        *(guarded(command, account) if account else command),
        stdout=asyncio.subprocess.PIPE,
        cwd=REPOSITORY,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    try:
        assert process.stdout is not None
        async with asyncio.timeout(60):
            line = await process.stdout.readline()
        assert line, "the holder did not start"
        yield process, json.loads(line)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def pids_of(said: dict[str, object]) -> list[int]:
    """The process ids of the servers that a holder started."""
    pids = said["pids"]
    assert isinstance(pids, list)
    return pids


async def test_both_servers_answer_after_start_and_are_gone_after_stop(servers: LocalServers) -> None:
    """After start every database and the broker answer; after stop neither process exists."""
    urls = await servers.start()
    assert await query(urls.database_urls["escalation"], "SELECT 1") == 1
    broker = await nats.connect(urls.nats_url)
    await broker.jetstream().account_info()
    await broker.close()
    pids = [servers.postgres.pid, servers.nats.pid]
    await servers.stop()
    assert [pid for pid in pids if pid is None or is_running(pid)] == []


async def test_data_and_urls_survive_a_restart(servers: LocalServers) -> None:
    """Rows and stream messages are there after stop and start, under the same URLs."""
    urls = await servers.start()
    await query(urls.owner_urls["alerting"], "CREATE TABLE kept AS SELECT 42 AS answer")
    broker = await nats.connect(urls.nats_url)
    await broker.jetstream().add_stream(name="kept", subjects=["kept.*"])
    await broker.jetstream().publish("kept.one", b"here")
    await broker.close()
    await servers.stop()
    assert await servers.start() == urls
    assert await query(urls.owner_urls["alerting"], "SELECT answer FROM kept") == 42
    broker = await nats.connect(urls.nats_url)
    assert (await broker.jetstream().get_msg("kept", 1)).data == b"here"
    await broker.close()


async def test_killing_the_holder_leaves_nothing_running(tmp_path: Path) -> None:
    """When the process that started the servers is killed with -9 they end, and the next start finds what was
    committed.
    """
    async with holder(tmp_path / "data") as (process, said):
        await query(str(said["database_url"]), "CREATE TABLE kept AS SELECT 42 AS answer")
        process.kill()
        await process.wait()
        if sys.platform == "linux":
            await eventually(lambda: not any(is_running(pid) for pid in pids_of(said)))
    local = quick(tmp_path / "data")
    try:
        urls = await local.start()
        assert await query(urls.owner_urls["alerting"], "SELECT answer FROM kept") == 42
    finally:
        await local.stop()


async def test_leftover_servers_are_taken_down_at_the_next_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers that outlived a killed holder (here: stopped ones, which no signal but SIGKILL ends) make room for new
    ones.
    """
    monkeypatch.setattr(local_process, "LEFTOVER_SECONDS_MAX", 0.2)
    local = quick(tmp_path / "data")
    async with holder(tmp_path / "data") as (process, said):
        pids = pids_of(said)
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        process.kill()
        await process.wait()
        assert all(is_running(pid) for pid in pids)
        try:
            urls = await local.start()
            assert await query(urls.database_urls["alerting"], "SELECT 1") == 1
            assert not any(is_running(pid) for pid in pids)
        finally:
            await local.stop()


async def test_a_second_start_on_the_same_directory_says_who_holds_it(servers: LocalServers, tmp_path: Path) -> None:
    """While a directory is held, another start is refused with the holder's process id, and the holder is not
    disturbed.
    """
    urls = await servers.start()
    second = quick(tmp_path / "data")
    with pytest.raises(LocalServerError, match=rf"in use by another Red Phone \(process {os.getpid()}\)"):
        await second.start()
    assert await query(urls.database_urls["alerting"], "SELECT 1") == 1


async def test_a_stale_lock_is_taken_over(servers: LocalServers, tmp_path: Path) -> None:
    """A lock file without a living holder does not stop anybody, nor does a pid file that names a stranger."""
    urls = await servers.start()
    await servers.stop()
    (tmp_path / "data" / "servers.lock").write_text("1\n")
    (tmp_path / "data" / "postgres" / "postmaster.pid").write_text(f"{os.getpid()}\n{tmp_path}\n0\n5432\n\n\n")
    assert await servers.start() == urls


async def test_the_supervisor_brings_dead_servers_back(servers: LocalServers) -> None:
    """A killed server is started again under its old URL, with what was committed; one stopped on purpose is not."""
    urls = await servers.start()
    await query(urls.owner_urls["alerting"], "CREATE TABLE kept AS SELECT 42 AS answer")
    supervisor = asyncio.create_task(servers.supervise())
    for server in (servers.postgres, servers.nats):
        before = server.pid
        await server.kill()
        await eventually(lambda server=server, before=before: server.pid not in {None, before})  # type: ignore[misc]
        await server.start()  # returns once the supervisor's start is through
    assert await query(urls.owner_urls["alerting"], "SELECT answer FROM kept") == 42
    broker = await nats.connect(urls.nats_url)
    await broker.close()
    await servers.nats.stop()
    await servers.postgres.kill()
    await eventually(lambda: servers.postgres.pid is not None)
    assert servers.nats.pid is None
    supervisor.cancel()
    await asyncio.gather(supervisor, return_exceptions=True)


async def test_each_server_stops_and_starts_alone(servers: LocalServers) -> None:
    """Stopping, killing and starting one server leaves the other alone; starting a running one changes nothing."""
    urls = await servers.start()
    broker_pid = servers.nats.pid
    await servers.postgres.stop()
    assert (servers.postgres.pid, servers.nats.pid) == (None, broker_pid)
    await servers.postgres.start()
    database_pid = servers.postgres.pid
    await servers.nats.kill()
    await servers.nats.start()
    await servers.postgres.start()
    assert servers.postgres.pid == database_pid
    assert await query(urls.database_urls["roster"], "SELECT 1") == 1


async def test_everything_is_closed_to_others(servers: LocalServers, tmp_path: Path) -> None:
    """Directories are 0700 and files 0600, also where one was open before; those above are left as they were."""
    tmp_path.chmod(0o711)
    (tmp_path / "data").mkdir(mode=0o755)
    await servers.start()
    data = tmp_path / "data"
    assert {path: mode(data / path) for path in (".", "postgres", "run", "nats")} == dict.fromkeys(
        (".", "postgres", "run", "nats"), 0o700
    )
    assert {path.name: oct(mode(path)) for path in data.iterdir() if path.is_file() and mode(path) != 0o600} == {}
    assert mode(tmp_path) == 0o711


async def test_the_broker_wants_its_token(servers: LocalServers) -> None:
    """A local user who knows the port but not the token is refused."""
    urls = await servers.start()
    async with asyncio.timeout(10):
        reader, writer = await asyncio.open_connection("127.0.0.1", int(urls.nats_url.rpartition(":")[2]))
        assert b'"auth_required":true' in await reader.readline()
        writer.write(b"CONNECT {}\r\nPING\r\n")
        assert b"Authorization Violation" in await reader.read()
        writer.close()
        await writer.wait_closed()


async def test_settings_that_keep_promises_are_on_by_default(tmp_path: Path) -> None:
    """By default both servers have every write on disk before they confirm it."""
    local = LocalServers(tmp_path / "data")
    try:
        urls = await local.start()
        shown = [
            await query(urls.database_urls["alerting"], f"SHOW {name}") for name in ("fsync", "synchronous_commit")
        ]
        assert shown == ["on", "on"]
        assert urls.monitor_url is not None
        assert json.loads(await local.nats.ask("/varz"))["jetstream"]["config"]["sync_always"] is True
    finally:
        await local.stop()


async def test_the_login_role_uses_but_does_not_own(servers: LocalServers) -> None:
    """A service reads and writes its owner's tables, but can neither define anything nor enter another's database."""
    urls = await servers.start()
    await query(urls.owner_urls["alerting"], "CREATE TABLE notes (id bigserial PRIMARY KEY, note text)")
    login = urls.database_urls["alerting"]
    assert await query(login, "INSERT INTO notes (note) VALUES ('x') RETURNING id") == 1
    for statement in ("CREATE TABLE mine (id int)", "DROP TABLE notes", "ALTER TABLE notes ADD COLUMN more int"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await query(login, statement)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await query(
            login.replace("redphone_alerting@/redphone_alerting", "redphone_alerting@/redphone_roster"), "SELECT 1"
        )


async def test_the_log_holds_no_data(servers: LocalServers, tmp_path: Path) -> None:
    """A failing statement leaves neither its text nor its row in PostgreSQL's log."""
    urls = await servers.start()
    await query(urls.owner_urls["roster"], "CREATE TABLE numbers (number text CHECK (length(number) < 3))")
    with pytest.raises(asyncpg.CheckViolationError):
        await query(urls.owner_urls["roster"], "INSERT INTO numbers VALUES ('+1 555 0100')")
    assert "555 0100" not in (tmp_path / "data" / "postgres.log").read_text()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give up root")
async def test_root_runs_postgres_as_somebody_else_in_a_closed_directory(servers: LocalServers, tmp_path: Path) -> None:
    """Started by root below a directory that only root may enter, PostgreSQL runs without root; nothing is opened."""
    tmp_path.chmod(0o700)
    urls = await servers.start()
    assert psutil.Process(servers.postgres.pid).uids().effective != 0
    assert await query(urls.database_urls["alerting"], "SELECT 1") == 1
    assert (mode(tmp_path), mode(tmp_path / "data"), (tmp_path / "data").stat().st_uid) == (0o700, 0o700, 0)


@pytest.mark.skipif(os.geteuid() != 0, reason="every other test shows it when they run as an ordinary user")
async def test_an_ordinary_user_needs_no_root(tmp_path: Path) -> None:
    """An ordinary user starts both servers, which run as that user."""
    nobody = pwd.getpwnam("nobody")
    directory = tmp_path / "data"
    directory.mkdir()
    os.chown(directory, nobody.pw_uid, nobody.pw_gid)
    async with holder(directory, account=Account(nobody.pw_uid, nobody.pw_gid)) as (process, said):
        assert [psutil.Process(pid).uids().effective for pid in pids_of(said)] == [nobody.pw_uid] * 2
        process.kill()
        await process.wait()
        await eventually(lambda: not any(is_running(pid) for pid in pids_of(said)))


async def test_a_long_path_gets_a_short_private_socket_directory(tmp_path: Path) -> None:
    """Where the data directory's path is too long for a socket, or has odd characters, the socket lies elsewhere until
    stop.
    """
    for name in ("d" * 120, "with space, and comma"):
        local = quick(tmp_path / name)
        try:
            urls = await local.start()
            directory = Path(urls.database_urls["alerting"].partition("?host=")[2])
            assert len(os.fsencode(directory / SOCKET_NAME)) <= SOCKET_PATH_BYTES_MAX
            assert mode(directory) == 0o700
            assert directory.parent != tmp_path / name
            assert await query(urls.database_urls["alerting"], "SELECT 1") == 1
        finally:
            await local.stop()
        assert not directory.exists()


async def test_a_directory_of_somebody_else_is_left_alone(tmp_path: Path) -> None:
    """A directory with other things in it is refused and keeps its permissions; so is a path that cannot be made."""
    tmp_path.chmod(0o755)
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(LocalServerError, match="is not empty and was not made by Red Phone"):
        await quick(tmp_path).start()
    assert mode(tmp_path) == 0o755
    with pytest.raises(LocalServerError, match="cannot be used as data directory"):
        await quick(tmp_path / "thesis.txt" / "data").start()


async def test_data_of_another_postgres_is_refused(servers: LocalServers, tmp_path: Path) -> None:
    """Data of another major version, or none at all under its name, is named in one sentence and not touched."""
    await servers.start()
    await servers.stop()
    version = tmp_path / "data" / "postgres" / "PG_VERSION"
    version.write_text("16\n")
    with pytest.raises(LocalServerError, match="is of PostgreSQL 16, this is 18"):
        await servers.start()
    version.unlink()
    with pytest.raises(LocalServerError, match="is no PostgreSQL data"):
        await servers.start()


async def test_an_interrupted_first_start_is_repeated(servers: LocalServers, tmp_path: Path) -> None:
    """Half-made data of a first start that was killed is thrown away and made anew."""
    prepare_data_directory(tmp_path / "data")
    (tmp_path / "data" / "postgres.new").mkdir()
    (tmp_path / "data" / "postgres.new" / "PG_VERSION").write_text("18\n")
    urls = await servers.start()
    assert await query(urls.database_urls["alerting"], "SELECT 1") == 1


async def test_a_full_disk_is_named(servers: LocalServers, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too little room for a new data directory is said before anything is written; a disk found full later is named,
    too.
    """
    usage = namedtuple("usage", "total used free")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 10**9 - 10**6, 10**6))
        with pytest.raises(LocalServerError, match="has 1 MB left on its disk and needs 200 MB"):
            await servers.start()
    await servers.start()
    said = 'FATAL:  could not write lock file "postmaster.pid": No space left on device'
    assert "the disk is full; free some space" in str(servers.postgres.explain(said))
    assert "the disk is full; free some space" in str(servers.nats.explain("[FTL] write: no space left on device"))


async def test_a_taken_port_is_named_or_replaced(servers: LocalServers, tmp_path: Path) -> None:
    """A port asked for and taken is an error that names it; one chosen by ourselves is replaced at the next start."""
    urls = await servers.start()
    await servers.stop()
    port = int(urls.nats_url.rpartition(":")[2])
    with socket.create_server(("127.0.0.1", port)):
        with pytest.raises(LocalServerError, match=f"another program has taken port {port}"):
            await quick(tmp_path / "other", nats_port=port).start()
        moved = await servers.start()
    assert moved.nats_url != urls.nats_url


async def test_a_server_that_does_not_start_leaves_nothing_running(servers: LocalServers, tmp_path: Path) -> None:
    """When one server fails, the other is stopped and the directory is free again."""
    await servers.start()
    await servers.stop()
    (tmp_path / "data" / "postgres" / "global" / "pg_control").write_bytes(b"")
    with pytest.raises(LocalServerError, match="PostgreSQL did not start"):
        await servers.start()
    commands = [process.info["cmdline"] or [] for process in psutil.process_iter(["cmdline"])]
    assert [command for command in commands if str(tmp_path) in " ".join(command)] == []


def test_given_urls_replace_our_own_servers() -> None:
    """One URL names a server for all services; a service's own URL wins; owners default to the same URL."""
    given = given_servers(
        {
            "REDPHONE_DATABASE_URL": "postgresql://admin:pass@db.example:5433/postgres?ssl=require",
            "REDPHONE_ROSTER_DATABASE_URL": "postgresql://roster@other.example/people",
            "REDPHONE_ROSTER_OWNER_DATABASE_URL": "postgresql://owner@other.example/people",
            "REDPHONE_NATS_URL": "nats://bus.example:4222",
        }
    )
    assert given.has_databases
    assert given.database_urls["alerting"] == "postgresql://admin:pass@db.example:5433/redphone_alerting?ssl=require"
    assert given.database_urls["roster"] == "postgresql://roster@other.example/people"
    assert given.owner_urls["roster"] == "postgresql://owner@other.example/people"
    assert given.owner_urls["alerting"] == given.database_urls["alerting"]
    assert given.nats_url == "nats://bus.example:4222"
    assert not given_servers({}).has_databases


async def test_given_servers_are_used_and_nothing_is_started(cluster: Cluster, tmp_path: Path) -> None:
    """With both servers given, no directory is made, no process started, and missing databases are created."""
    base = cluster.servers.postgres.url("postgres", role="postgres")
    environment = {"REDPHONE_DATABASE_URL": base, "REDPHONE_NATS_URL": cluster.nats_url}
    local = LocalServers(tmp_path / "data", given=given_servers(environment))
    urls = await local.start()
    assert await query(urls.database_urls["escalation"], "SELECT current_database()") == "redphone_escalation"
    assert (urls.nats_url, urls.monitor_url) == (cluster.nats_url, None)
    assert not (tmp_path / "data").exists()
    await local.stop()
    fresh = cluster.servers.postgres.url("made_on_demand", role="postgres")
    await create_missing_databases([fresh])
    assert await query(fresh, "SELECT current_database()") == "made_on_demand"
    await query(base, "DROP DATABASE made_on_demand")


async def test_an_unreachable_given_database_is_named_without_its_password() -> None:
    """The sentence about a given database that does not answer holds its name and host, never its password."""
    with pytest.raises(LocalServerError, match=r"redphone_alerting on 127\.0\.0\.1 cannot be used") as refusal:
        await create_missing_databases(["postgresql://admin:hunter2@127.0.0.1:1/redphone_alerting"])
    assert "hunter2" not in str(refusal.value)
