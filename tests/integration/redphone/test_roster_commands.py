"""`redphone swap` and `redphone call-tree` against the service itself, on a socket."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import uvicorn
from typer.testing import CliRunner, Result

from redphone.cli import app
from redphone.counterparts.server import QuietServer
from services.roster.call_tree.renewal import SETTLED
from services.roster.schedule import Rota, Shift, shifts
from shared.contracts import Role
from shared.ids import ContactId
from tests.support.cluster import Cluster
from tests.support.roster_rig import Rig, applied, roster_rig


@dataclass
class Desk:
    """Canada's duty officers at their command lines."""

    rig: Rig
    rota: Rota
    clients: dict[ContactId, tuple[str, str]]
    run: Callable[..., Awaitable[Result]]


def said(result: Result) -> list[Any]:
    """The JSON lines of a command; the service beside it writes its log to the same place."""
    return [json.loads(line) for line in result.output.splitlines() if line.startswith("{")]


async def credential(rig: Rig, contact_id: ContactId, role: Role) -> tuple[str, str]:
    """Client id and secret of a new credential."""
    client_id = f"ca-{contact_id}"
    body = {"client_id": client_id, "kind": "person", "contact_id": str(contact_id), "roles": [role.value]}
    made = await rig.client.post("/v1/partners/CA/credentials", json=body, headers=rig.administrator())
    assert made.status_code == 201, made.text
    return client_id, made.json()["secret"]


@pytest_asyncio.fixture
async def desk(cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Desk]:
    """The service on a free port of loopback."""
    async with roster_rig(cluster, after=applied) as rig:
        state = await rig.stored("CA")
        rota = next(rota for rota in state.rotas if rota.name == "Duty officers")
        clients = {one: await credential(rig, one, Role.DUTY_OFFICER) for one in rota.layers[0].participants}
        listening = socket.create_server(("127.0.0.1", 0))
        server = QuietServer(uvicorn.Config(rig.application, log_config=None, lifespan="off", access_log=False))
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        for name in ("REDPHONE_TOKEN", "REDPHONE_DATA_DIR"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("REDPHONE_URL", f"http://127.0.0.1:{listening.getsockname()[1]}")
        monkeypatch.setenv("COLUMNS", "160")
        monkeypatch.setenv("TZ", "UTC")
        monkeypatch.chdir(tmp_path)

        async def run(by: ContactId, *arguments: str) -> Result:
            monkeypatch.setenv("REDPHONE_CLIENT_ID", clients[by][0])
            monkeypatch.setenv("REDPHONE_CLIENT_SECRET", clients[by][1])
            result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments))
            rig.clock.advance(1)
            return result

        yield Desk(rig, rota, clients, run)
        server.end()
        await serving
        listening.close()


def coming(desk: Desk, contact_id: ContactId) -> Shift:
    """The contact's next shift that is still to begin."""
    now = desk.rig.clock.now()
    found = shifts(desk.rota, now, now + timedelta(days=30))
    return next(one for one in found if one.contact_id == contact_id and one.start_at > now)


async def test_a_swap_from_offer_to_acceptance(desk: Desk) -> None:
    """Rota and colleague by name, a dry run first; the colleague lists it and accepts it by the end of its id."""
    ann, bob, cat = desk.rota.layers[0].participants
    shift = coming(desk, ann)
    bobs_name = next(one.name for one in (await desk.rig.stored("CA")).contacts if one.id == bob)
    stretch = ("--from", shift.start_at.isoformat(), "--to", shift.end_at.isoformat())
    offer = ("swap", "offer", "duty", bobs_name, *stretch)
    would = await desk.run(ann, *offer, "--dry-run")
    assert (would.exit_code, f"Would be offered to {bobs_name}: " in would.output) == (0, True)
    assert "There are no swaps." in (await desk.run(bob, "swap", "list")).output
    assert (await desk.run(ann, *offer)).exit_code == 0
    listed = await desk.run(bob, "swap", "list", "--json", "--state", "offered")
    (swap,) = said(listed)
    assert swap["offered_to"]["contact_id"] == str(bob)
    shown = (await desk.run(bob, "swap", "list")).output
    assert swap["id"][-8:] in shown
    refused = await desk.run(cat, "swap", "accept", swap["id"][-8:])
    assert (refused.exit_code, "not_offered_to_you" in refused.output) == (4, True)
    accepted = await desk.run(bob, "swap", "accept", swap["id"][-8:])
    assert (accepted.exit_code, f"Accepted: {bobs_name} is on call" in accepted.output) == (0, True)
    late = await desk.run(ann, "swap", "withdraw", swap["id"])
    assert (late.exit_code, "swap_accepted" in late.output) == (1, True)


async def test_an_open_offer_is_declined_and_withdrawn(desk: Desk) -> None:
    """A no leaves it open for the others; whoever offered takes it back; a name that nobody has is said to be none."""
    ann, bob, _ = desk.rota.layers[0].participants
    shift = coming(desk, ann)
    stretch = ("--from", shift.start_at.isoformat(), "--to", shift.end_at.isoformat())
    unknown = await desk.run(ann, "swap", "offer", "No such rota", *stretch)
    assert (unknown.exit_code, "There is no rota No such rota" in unknown.output) == (1, True)
    half = await desk.run(ann, "swap", "offer", "Duty officers", *stretch, "--return-from", shift.start_at.isoformat())
    assert half.exit_code == 2
    made = await desk.run(ann, "swap", "offer", "Duty officers", *stretch, "--json")
    swap_id = said(made)[0]["id"]
    declined = await desk.run(bob, "swap", "decline", swap_id)
    assert "Declined. It stays open for the others." in declined.output
    assert "Withdrawn." in (await desk.run(ann, "swap", "withdraw", swap_id)).output


async def test_the_call_tree_is_shown_and_written(desk: Desk, tmp_path: Path) -> None:
    """A table with one's own people first, JSON on demand, and a PDF that its owner alone may read."""
    ann = desk.rota.layers[0].participants[0]
    early = await desk.run(ann, "call-tree")
    assert (early.exit_code, "call_tree_not_ready" in early.output) == (3, True)
    desk.rig.clock.advance(SETTLED.total_seconds())
    while await desk.rig.service.loops["call-trees"].run_once():
        pass
    state = await desk.rig.stored("CA")
    shown = (await desk.run(ann, "call-tree")).output
    own, _, others = shown.partition("Australia")
    assert state.contacts[0].name in own
    assert state.contacts[0].points[0].address in own
    assert not any(contact.name in others for contact in state.contacts)
    assert "embassy in Afghanistan" in others
    (tree,) = said(await desk.run(ann, "call-tree", "--json"))
    assert tree["edition"] == "CA"
    written = await desk.run(ann, "call-tree", "--pdf", "tree.pdf")
    assert written.exit_code == 0, written.output
    path = tmp_path / "tree.pdf"
    assert path.read_bytes().startswith(b"%PDF")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    nowhere = await desk.run(ann, "call-tree", "--pdf", "nowhere/tree.pdf")
    assert nowhere.exit_code == 2
