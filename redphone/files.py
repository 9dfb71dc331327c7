"""What the command line keeps in files: credentials, and requests that were sent and not yet answered.

    <data directory>/credentials.json          client ids and secrets that were shown once (mode 0600)
    <state directory>/redphone/unanswered/     a request with its id and key, stored before it is sent (mode 0600)

The promise: a file that holds a secret or an alert's text is its owner's alone and never half written; a request that
got no answer is found again by its content, so that typing the same command again repeats it and does nothing twice.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from redphone.exits import Exit, Failed

CREDENTIALS_NAME = "credentials.json"
TEXT_BYTES_MAX = 4_000_000
REPEATED_SECONDS_MAX = 3600.0
"""The same words an hour later are a new request: the lost one has been found out about by then."""

UNANSWERED_MAX = 1000
"""Requests kept in all; more than this means that somebody's scripts fail all the time, and the oldest go."""


@dataclass(frozen=True)
class SavedCredential:
    """One credential as it was shown once."""

    client_id: str
    client_secret: str = field(repr=False)
    partner: str = ""
    name: str = ""
    roles: tuple[str, ...] = ()


def read_text(path: Path) -> str:
    """The file's text; `Failed` says why not."""
    try:
        with path.open("rb") as file:
            raw = file.read(TEXT_BYTES_MAX + 1)
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}.", exit_code=Exit.USAGE) from None
    if len(raw) > TEXT_BYTES_MAX:
        raise Failed(f"{path} has more than {TEXT_BYTES_MAX} bytes.", exit_code=Exit.USAGE)
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Failed(f"{path} is not UTF-8 (byte {error.start}).", exit_code=Exit.USAGE) from None


def write_private(path: Path, content: bytes) -> None:
    """Writes the file for its owner alone, whole or not at all."""
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    except OSError as error:
        raise Failed(f"{path} cannot be written: {error.strerror}.", exit_code=Exit.REFUSED) from None
    finally:
        fresh.unlink(missing_ok=True)


def holder_of(data_dir: Path) -> int | None:
    """The process that holds the data directory, or None; takes nothing and waits for nobody."""
    try:
        with (data_dir / "servers.lock").open("rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                text = lock.read(20).decode(errors="replace").strip()
                return int(text) if text.isdigit() else 0
    except OSError:
        return None
    return None


# --- credentials ------------------------------------------------------------------------------------------------------


def load_credentials(path: Path) -> dict[str, SavedCredential]:
    """The credentials of a file by client id; none if there is no file. `Failed` if others may read it."""
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            if mode & 0o077:
                raise Failed(
                    f"Others may read {path} (mode {mode:04o}).",
                    details=[f"Close it: chmod 600 {path}. If others may have read it, replace the secrets."],
                    exit_code=Exit.NOT_AUTHORISED,
                )
            document = orjson.loads(file.read(TEXT_BYTES_MAX))
        found = [
            SavedCredential(
                client_id=entry["client_id"],
                client_secret=entry["client_secret"],
                partner=entry.get("partner", ""),
                name=entry.get("name", ""),
                roles=tuple(entry.get("roles", ())),
            )
            for entry in document["credentials"]
        ]
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise Failed(f"{path} cannot be read: {error.strerror}.", exit_code=Exit.NOT_AUTHORISED) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise Failed(f"{path} is damaged or is no file of credentials.", exit_code=Exit.NOT_AUTHORISED) from None
    return {credential.client_id: credential for credential in found}


def save_credentials(path: Path, fresh: Sequence[SavedCredential]) -> None:
    """Adds the credentials to the file, which is made if it is missing; those of the same client id are replaced."""
    kept = load_credentials(path) | {credential.client_id: credential for credential in fresh}
    document = {"format": 1, "credentials": [asdict(credential) for credential in kept.values()]}
    write_private(path, orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE))


# --- requests that were sent and not answered -------------------------------------------------------------------------


@dataclass(frozen=True)
class StoredRequest:
    """A request as it is sent, each time the same: `body` holds the id, `key` is its Idempotency-Key."""

    path: Path
    key: str
    body: dict[str, Any]
    repeated: bool

    def answered(self) -> None:
        """There is a final answer: nothing is left to repeat."""
        self.path.unlink(missing_ok=True)


def store_request(
    environment: Mapping[str, str],
    target: Sequence[str],
    body: Mapping[str, Any],
    *,
    key: str,
    with_id: bool,
    now: datetime,
) -> StoredRequest:
    """Stores a request before it is sent, or finds one of the same content that got no answer in the last hour.

    `target` says where to and as whom; `key` is a new id for the Idempotency-Key and, if `with_id`, for what is made.
    """
    content = orjson.dumps([list(target), body], option=orjson.OPT_SORT_KEYS)
    path = _unanswered(environment) / f"{hashlib.sha256(content).hexdigest()[:32]}.json"
    try:
        stored = orjson.loads(path.read_bytes())
        if abs(now.timestamp() - path.stat().st_mtime) <= REPEATED_SECONDS_MAX:
            return StoredRequest(path, str(stored["key"]), dict(stored["body"]), repeated=True)
    except (OSError, ValueError, KeyError, TypeError):
        pass
    whole = {"id": key, **body} if with_id else dict(body)
    write_private(path, orjson.dumps({"target": list(target), "key": key, "body": whole}))
    _forget_oldest(path.parent)
    return StoredRequest(path, key, whole, repeated=False)


def _unanswered(environment: Mapping[str, str]) -> Path:
    base = environment.get("XDG_STATE_HOME") or str(Path(environment.get("HOME", "/")) / ".local" / "state")
    return Path(base) / "redphone" / "unanswered"


def _forget_oldest(directory: Path) -> None:
    kept = sorted(directory.glob("*.json"), key=lambda path: path.stat().st_mtime)
    for path in kept[: max(0, len(kept) - UNANSWERED_MAX)]:
        path.unlink(missing_ok=True)
