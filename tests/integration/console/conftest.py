"""A console over a whole network on real databases, and a browser without script."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.cluster import Cluster
from tests.support.marked_network import MarkedNetwork, marked_world
from tests.support.world import PUBLIC_URL, World


@dataclass
class Browser:
    """What a browser without script would do."""

    network: MarkedNetwork
    http: httpx.AsyncClient
    csrf: str = ""
    key: str = ""
    version: str = ""

    async def get(self, path: str, **headers: str) -> httpx.Response:
        """A page; the marks of its form are remembered."""
        return self._seen(await self.http.get(path, headers=headers))

    async def post(self, path: str, data: dict[str, Any] | None = None, **headers: str) -> httpx.Response:
        """A form of the last page, with its marks; what the browser is sent on to."""
        kept = (("csrf", self.csrf), ("key", self.key), ("version", self.version))
        marks = {name: value for name, value in kept if value}
        answer = await self.http.post(path, data={**marks, **(data or {})}, headers={"origin": PUBLIC_URL, **headers})
        return self._seen(answer)

    async def sign_in(self, client_id: str, **fields: str) -> httpx.Response:
        """Signs in with first credentials."""
        secret = self.network.secrets[client_id]
        answer = await self.post("/sign-in", {"client_id": client_id, "client_secret": secret, **fields})
        self.csrf = self.key = self.version = ""
        return self._seen(answer)

    def _seen(self, response: httpx.Response) -> httpx.Response:
        for name in ("csrf", "key", "version"):
            if found := re.search(rf'name="{name}" value="([^"]+)"', response.text):
                setattr(self, name, found.group(1))
        return response


@pytest.fixture
async def known(cluster: Cluster, tmp_path: Path) -> AsyncIterator[tuple[World, MarkedNetwork]]:
    """Three governments and the secretariat, with rosters, known to all services."""
    async with marked_world(cluster, tmp_path, ("CA", "US", "GB", "XR")) as found:
        yield found


@pytest.fixture
def made(known: tuple[World, MarkedNetwork]) -> World:
    """Their world."""
    return known[0]


@pytest.fixture
def network(known: tuple[World, MarkedNetwork]) -> MarkedNetwork:
    """The network of that world."""
    return known[1]


@pytest.fixture
async def browser(made: World, network: MarkedNetwork) -> AsyncIterator[Browser]:
    """A browser that nobody has signed in with."""
    async with httpx.AsyncClient(transport=made.http._transport, base_url=PUBLIC_URL) as http:
        yield Browser(network, http)
