"""What is logged: where something went wrong, and nothing of what it went wrong with."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator

import pytest
import structlog
from pydantic import BaseModel, ValidationError

from shared import log
from shared.errors import Conflict

ADDRESS = "ann@canada.example"


class Point(BaseModel):
    """Something with an address in it."""

    address: int


def read(address: str) -> Point:
    """Fails with a text that repeats the address."""
    return Point.model_validate({"address": address})


@pytest.fixture(autouse=True)
def configuration_comes_back() -> Iterator[None]:
    """Leave logging as it was found."""
    kept, handlers = structlog.get_config(), logging.getLogger().handlers[:]
    yield
    structlog.configure(**kept)
    logging.getLogger().handlers[:] = handlers


def unreachable() -> Point:
    """Fails for a reason, both of which repeat an address."""
    try:
        return read(ADDRESS)
    except ValidationError as error:
        raise RuntimeError(f"cannot reach {ADDRESS}") from error


def failed() -> Exception:
    """An error with a cause."""
    with pytest.raises(RuntimeError, match=ADDRESS) as raised:
        unreachable()
    return raised.value


@pytest.mark.parametrize("json_lines", [True, False])
def test_trace_holds_no_text_of_an_error(capsys: pytest.CaptureFixture[str], *, json_lines: bool) -> None:
    """A trace names kinds and places of an error and its causes; an address in their texts is not in the log."""
    log.configure(json_lines=json_lines)
    structlog.get_logger().warning("loop.failed", exc_info=failed())
    try:
        read(ADDRESS)
    except ValidationError:
        structlog.get_logger().warning("message.failed", exc_info=True)
    said = capsys.readouterr()
    assert said.out == ""
    assert ADDRESS not in said.err
    assert said.err.count("ValidationError") == 2
    assert "RuntimeError" in said.err
    assert "test_log.py" in said.err
    if json_lines:
        assert [json.loads(line)["event"] for line in said.err.splitlines()] == ["loop.failed", "message.failed"]


def test_libraries_traces_hold_no_text_either(capsys: pytest.CaptureFixture[str]) -> None:
    """What a library logs of an exception gets the same trace."""
    logging.getLogger().handlers.clear()
    log.configure(json_lines=True)
    logging.getLogger("library").warning("something failed", exc_info=failed())
    said = capsys.readouterr().err
    assert "something failed" in said
    assert "RuntimeError" in said
    assert ADDRESS not in said


def test_our_own_errors_say_what_they_are() -> None:
    """The detail and code of a deliberate error are written for people, and stay; groups show every part."""
    assert "Conflict (taken): it is taken" in log.trace_of(Conflict("it is taken", code="taken"))
    group = ExceptionGroup("several", [ValueError(ADDRESS), TypeError(ADDRESS)])
    trace = log.trace_of(group)
    assert "ValueError" in trace
    assert "TypeError" in trace
    assert ADDRESS not in trace
