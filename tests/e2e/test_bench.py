"""The benchmarks run, on real processes, and print what their README says."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from typing import Any

import orjson
import pytest

SECONDS_MAX = 110

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        os.environ.get("REDPHONE_TEST_ALL") != "1", reason="make test-all runs the benchmarks beside their contenders"
    ),
]


async def run(*arguments: str) -> dict[str, Any]:
    """The JSON object that a benchmark prints."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench", *arguments, "--json"), stdout=PIPE, stderr=PIPE
    )
    try:
        async with asyncio.timeout(SECONDS_MAX):
            output, errors = await process.communicate()
    except TimeoutError:
        process.terminate()
        await process.wait()
        raise
    assert process.returncode == 0, errors.decode()
    printed: dict[str, Any] = orjson.loads(output)
    return printed


async def test_a_small_fanout_prints_every_figure() -> None:
    """One JSON object: every webhook of every alert came, figures are ordered as they must be, contenders are named."""
    printed = await run("fanout", "--partners", "3", "--alerts", "2")
    assert printed["bench"] == "fanout"
    assert (printed["partners"], printed["endpoints"], printed["addressed_partners"]) == (3, 3, 3)
    assert printed["processes"] == ["alerting", "roster", "escalation"]
    assert printed["sink"] in {"nginx", "own"}
    assert 0 < printed["accept_ms"]["p50"] <= printed["accept_ms"]["p99"]
    for name in ("first_ms", "last_ms", "bare_loop_last_ms"):
        assert printed[name]["median"] <= printed[name]["max"]
    assert 0 < printed["first_ms"]["median"] <= printed["last_ms"]["median"]
    assert (printed["alertmanager_last_ms"] is None) == (printed["ratio_to_alertmanager"] is None)
    assert len(printed["each_run"]) == printed["runs"] == 1


async def test_a_few_people_are_reached_beside_a_dead_provider() -> None:
    """Every message came by either channel, within two seconds here, and the mails did beside a dead provider."""
    printed = await run("people", "--partners", "3", "--alerts", "1")
    assert (printed["bench"], printed["pages"]) == ("people", 18)
    assert 0 < printed["last_ms"]["max"] < 2000
    assert printed["last_ms"]["max"] >= printed["email_last_ms"]["max"] >= printed["email_p99_ms"]["max"] > 0
    assert printed["with_dead_sms"]["email_p99_ms"]["max"] > 0
    assert printed["ratio_of_email_p99"] > 0


async def test_a_few_rotas_are_published_edited_and_read() -> None:
    """Every plan was made anew in each run, every edit had its plan, every read its answer; figures are ordered."""
    printed = await run("roster", "--partners", "3", "--contacts", "10", "--runs", "1", "--edits", "4", "--reads", "10")
    assert (printed["bench"], printed["partners"], printed["rotas"], printed["contact_points"]) == ("roster", 3, 5, 31)
    assert 0 < printed["all_plans_seconds"]["median"] <= printed["all_plans_seconds"]["max"]
    assert printed["settled_seconds"]["median"] >= printed["all_plans_seconds"]["median"]
    for name in ("edit_answer_ms", "edit_published_ms", "on_call_ms"):
        assert 0 <= printed[name]["p50"] <= printed[name]["p99"] <= printed[name]["max"]
    assert (printed["edits"], printed["reads"]) == (4, 10)
    assert printed["memory_mib"] > 0


async def test_a_short_sustained_run_prints_rate_lag_and_memory() -> None:
    """Everything that was raised was delivered and is counted; memory is given for each service."""
    printed = await run("sustained", "--seconds", "2")
    assert printed["alerts"] > 0
    assert printed["alerts_per_second"] == pytest.approx(printed["alerts"] / 2, abs=0.01)
    assert 0 < printed["lag_ms"]["p50"] <= printed["lag_ms"]["p99"]
    assert set(printed["memory_mib"]) == {"alerting", "roster", "escalation"}
    assert all(figures["end"] > 0 for figures in printed["memory_mib"].values())


async def test_a_few_timers_print_how_late_they_were() -> None:
    """Every deadline fired once, and none too early."""
    printed = await run("timers", "--escalations", "40", "--due", "10")
    assert (printed["open_escalations"], printed["due_at_once"]) == (40, 10)
    assert printed["too_early"] == 0
    assert 0 <= printed["raised_late_ms"]["p50"] <= printed["raised_late_ms"]["max"]
    # The sink has a clock of its own, so its lateness may be a little less than that of the decision, or negative.
    assert printed["page_arrived_late_ms"]["p50"] <= printed["page_arrived_late_ms"]["max"]


async def test_a_few_boards_show_every_change() -> None:
    """Each change came to an open board, the first view is complete, and both kinds of rounds were measured."""
    options = ("--partners", "4", "--boards", "5", "--alerts", "6", "--rounds", "1", "--changes", "2")
    printed = await run("console", *options)
    assert (printed["bench"], printed["boards"], printed["alerts"]) == ("console", 5, 6)
    assert 0 < printed["visible_ms"]["p50"] <= printed["visible_ms"]["p95"]
    assert 0 < printed["first_view_kb"]["page"] < printed["first_view_kb"]["with_files"]
    assert min(printed["first_view_ms"].values()) > 0
    assert printed["last_ms_with_boards"]["median"] > 0
    assert printed["ratio_of_last"] > 0
