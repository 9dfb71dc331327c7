"""`redphone deploy` and `redphone serve` as a deployment starts them: given servers, one process per service."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import asyncpg
import httpx
import pytest

from redphone.local import LocalServers, ServerUrls
from shared.keys import KEY_FILE_NAME, KeyRing
from tests.support.waiting import eventually

START_SECONDS_MAX = 60.0
STOP_SECONDS_MAX = 20.0


def environment(directory: Path, urls: ServerUrls | None) -> dict[str, str]:
    """What a deployment sets: where the servers and the keys are."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("REDPHONE_")}
    if urls is None:
        return kept
    given = {f"REDPHONE_{name.upper()}_DATABASE_URL": url for name, url in urls.database_urls.items()}
    given |= {f"REDPHONE_{name.upper()}_OWNER_DATABASE_URL": url for name, url in urls.owner_urls.items()}
    return kept | given | {"REDPHONE_NATS_URL": urls.nats_url, "REDPHONE_KEYS_FILE": str(directory / KEY_FILE_NAME)}


async def start(directory: Path, urls: ServerUrls | None, *arguments: str) -> asyncio.subprocess.Process:
    """Starts a command of the deployment."""
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "redphone", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=environment(directory, urls),
        start_new_session=True,
    )


async def finish(process: asyncio.subprocess.Process) -> tuple[int, str, str]:
    """Waits for a command's end: exit code, standard output, standard error."""
    async with asyncio.timeout(START_SECONDS_MAX):
        out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


async def test_deploy_then_serve_one_service(tmp_path: Path) -> None:
    """A service waits for the deploy step, works after it, says its address in its first line, and stops on SIGTERM."""
    KeyRing.generate().save(tmp_path / KEY_FILE_NAME)
    servers = LocalServers(tmp_path / "servers", fsync=False, sync_always=False)
    urls = await servers.start()
    try:
        service = await start(tmp_path, urls, "serve", "alerting", "--port", "0", "--json")
        try:
            assert service.stdout is not None
            async with asyncio.timeout(START_SECONDS_MAX):
                said = json.loads(await service.stdout.readline())
            assert (said["event"], said["service"]) == ("listening", "alerting")
            async with httpx.AsyncClient(base_url=said["url"], trust_env=False) as http:

                async def ready(expected: int) -> bool:
                    try:
                        return (await http.get("/readyz")).status_code == expected
                    except httpx.TransportError:
                        return False

                await eventually(lambda: ready(503))
                for _ in range(2):
                    exit_code, out, err = await finish(await start(tmp_path, urls, "deploy"))
                    assert (exit_code, err) == (0, "")
                    assert "alerting, roster, escalation, console" in out
                await eventually(lambda: ready(200))
            service.send_signal(signal.SIGTERM)
            async with asyncio.timeout(STOP_SECONDS_MAX):
                assert await service.wait() == 0
        finally:
            if service.returncode is None:
                service.kill()
            await service.communicate()
    finally:
        await servers.stop()


async def test_deploy_lets_the_login_role_use_what_the_owner_makes(tmp_path: Path) -> None:
    """On given servers the login role reads and writes every table, old and new, and defines nothing."""
    KeyRing.generate().save(tmp_path / KEY_FILE_NAME)
    servers = LocalServers(tmp_path / "servers", fsync=False, sync_always=False)
    embedded = await servers.start()
    try:
        administrator = await asyncpg.connect(servers.postgres.url("postgres", role="postgres"))
        await administrator.execute('CREATE ROLE "the-owner" LOGIN CREATEDB; CREATE ROLE "the-login" LOGIN')
        await administrator.close()
        of_owner = {name: servers.postgres.url(f"given_{name}", role="the-owner") for name in embedded.database_urls}
        of_login = {name: servers.postgres.url(f"given_{name}", role="the-login") for name in embedded.database_urls}
        for database_urls in (of_owner, of_login, of_login):
            urls = replace(embedded, database_urls=database_urls, owner_urls=of_owner)
            exit_code, _, err = await finish(await start(tmp_path, urls, "deploy"))
            assert (exit_code, err) == (0, "")
        for name, owner_url in of_owner.items():
            owner = await asyncpg.connect(owner_url)
            await owner.execute("CREATE TABLE of_the_next_version (number bigserial)")
            await owner.close()
            login = await asyncpg.connect(of_login[name])
            tables = await login.fetch(
                "SELECT relname, has_table_privilege(oid, 'SELECT') AND has_table_privilege(oid, 'INSERT')"
                " AND has_table_privilege(oid, 'UPDATE') AND has_table_privilege(oid, 'DELETE') AS usable"
                " FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
            )
            assert {"outbox", "alembic_version", "of_the_next_version"} <= {table["relname"] for table in tables}
            assert [table["relname"] for table in tables if not table["usable"]] == []
            await login.execute("INSERT INTO of_the_next_version DEFAULT VALUES")
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await login.execute("CREATE TABLE of_the_service (number int)")
            await login.close()
    finally:
        await servers.stop()


async def test_serve_says_what_is_missing(tmp_path: Path) -> None:
    """Without servers in the environment every missing variable is named, and nothing is started."""
    exit_code, _, err = await finish(await start(tmp_path, None, "serve", "roster"))
    assert exit_code == 2
    assert "REDPHONE_NATS_URL" in err
    assert "REDPHONE_DATABASE_URL" in err


async def test_up_on_given_servers(tmp_path: Path) -> None:
    """With servers in the environment `up` starts none of its own, uses those, and leaves them running."""
    servers = LocalServers(tmp_path / "servers", fsync=False, sync_always=False)
    urls = await servers.start()
    try:
        options = ("up", "--data-dir", str(tmp_path / "data"), "--port", "0", "--json")
        KeyRing.generate().save(tmp_path / KEY_FILE_NAME)
        process = await start(tmp_path, urls, *options)
        assert process.stdout is not None
        async with asyncio.timeout(START_SECONDS_MAX):
            said = json.loads(await process.stdout.readline())
        assert (said["event"], said["partners"]) == ("up", 0)
        assert not (tmp_path / "data" / "postgres").exists()
        process.send_signal(signal.SIGTERM)
        exit_code, _, err = await finish(process)
        assert (exit_code, err) == (0, "")
        assert servers.postgres.running
        assert servers.nats.running
    finally:
        await servers.stop()
