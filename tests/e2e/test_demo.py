"""`redphone demo` as somebody runs it: one process, real servers in it, real receivers, and an exit status."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import orjson
import psutil
import pytest

pytestmark = pytest.mark.slow

RUN_SECONDS_MAX = 150.0


async def _start(directory: Path, *options: str) -> Process:
    """The command in an environment that names servers which a demonstration must leave alone."""
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("REDPHONE_")},
        "REDPHONE_DATABASE_URL": "postgresql://somebody@production.invalid/",
        "REDPHONE_NATS_URL": "nats://production.invalid:4222",
        "REDPHONE_DATA_DIR": str(directory / "not-touched"),
        "TMPDIR": str(directory),
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "redphone", "demo", "--quick", *options, env=environment, stdout=PIPE, stderr=PIPE
    )


async def test_a_crisis_is_played_to_its_end_and_judged(tmp_path: Path) -> None:
    """Exit status 0, one JSON report in which every partner ended as its scenario says, and nothing left behind."""
    process = await _start(tmp_path, "--json")
    async with asyncio.timeout(RUN_SECONDS_MAX):
        output, errors = await process.communicate()
    assert process.returncode == 0, (output[-2000:], errors[-2000:])
    [line] = output.splitlines()
    report = orjson.loads(line)
    assert report["passed"] is True
    assert [check["promise"] for check in report["checks"] if not check["holds"]] == []
    assert (report["crisis"], report["raiser"]) == ("afghanistan", "CA")
    assert (report["acknowledged"], report["addressed"]) == (8, 9)
    assert report["unreached"] == ["BR", "NZ"]
    assert report["signatures"]["refused"] == 0
    assert report["signatures"]["checked"] > 100
    partners = {partner["partner"]: partner for partner in report["partners"]}
    assert partners["DE"]["attempts"]["failed"] == {"HTTP 500": 2}
    answered = {code: partner["acknowledged_via"] for code, partner in partners.items()}
    expected = {"GB": "sms", "US": "voice", "AU": "email", "ES": "voice", "IT": "link", "NZ": "link", "BR": None}
    assert {code: answered[code] for code in expected} == expected
    assert {channel for channel, count in report["messages"].items() if count > 5} == {"sms", "voice", "email"}
    assert partners["BR"]["taken_over_by"] == "XR"
    assert partners["NZ"]["late"] is True
    assert [(one["rota"], one["severity"]) for one in report["hole"]["found"]] == [("Duty officers", "alarm")]
    assert (report["hole"]["partner"], report["hole"]["left"]) == ("ES", 0)
    assert report["shift_change"]["partner"] == "NZ"
    assert report["shift_change"]["signed_after_seconds"] > 0
    assert {"alert_released", "partner_acknowledged", "partner_unreached"} <= {e["type"] for e in report["timeline"]}
    assert list(tmp_path.iterdir()) == [], "everything is thrown away, and nothing of the environment was used"


async def test_ctrl_c_ends_everything_in_good_order(tmp_path: Path) -> None:
    """An interrupt in the middle ends servers and services, removes their data, and is told by exit status 130."""
    process = await _start(tmp_path)
    assert process.stdout is not None
    async with asyncio.timeout(RUN_SECONDS_MAX):
        async for line in process.stdout:
            if b"acknowledges" in line:
                break
        started = psutil.Process(process.pid).children(recursive=True)
        assert started, "PostgreSQL and NATS run as processes of their own"
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
    assert process.returncode == 130, errors[-2000:]
    assert b"Traceback" not in errors
    gone, alive = psutil.wait_procs(started, timeout=5)
    assert not alive, gone
    assert list(tmp_path.iterdir()) == []
