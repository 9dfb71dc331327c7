"""One service as a process: `python -m bench.serving NAME`, configured by the environment like `redphone serve`."""

from __future__ import annotations

import importlib
import sys

from shared import hosting
from shared.bus import NatsBus
from shared.clock import SystemClock
from shared.ids import Ids
from shared.log import configure
from shared.settings import load


async def main(name: str) -> None:
    """Serves until SIGTERM."""
    settings = load()
    configure(level=settings.log_level, json_lines=settings.log_json)
    assert settings.nats_url is not None, "REDPHONE_NATS_URL is missing"
    clock = SystemClock()
    service = importlib.import_module(f"services.{name}.app").build(
        settings,
        clock=clock,
        ids=Ids(clock.now),
        keys=settings.keyring(),
        bus=NatsBus([settings.nats_url.get_secret_value()], service=name, clock=clock),
    )
    await hosting.serve(hosting.host([service]), hosting.listen(settings.host, settings.port))


if __name__ == "__main__":
    hosting.run(main(sys.argv[1]))
