"""A network in which every name, number, address and text of every partner is a mark that is found nowhere else.

Whoever reads an answer, a webhook, a log line or a bus message can tell from the marks in it whose it shows. Each mark
says who may see it: `owner` always, and `others` because of what has been played.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.cluster import Cluster
from tests.support.world import World, world

PARTNERS = ("CA", "US", "GB", "DE", "NZ", "XR")
PEOPLE = {
    "duty": '["duty_officer"]',
    "releaser": '["drafter", "releaser"]',
    "senior": '["senior_contact"]',
    "keeper": '["roster_manager"]',
    "observer": '["observer"]',
    "auditor": '["auditor"]',
}
SECRETARIAT_PEOPLE = {"secretariat": '["secretariat"]', "administrator": '["administrator"]'}


@dataclass(frozen=True, slots=True)
class Mark:
    """A text that occurs once in the world, and whom it belongs to. `kind` is what it stands for."""

    text: str
    owner: str
    kind: str
    about: str = ""


@dataclass
class MarkedNetwork:
    """The network file, its marks, and the secrets that applying it gave out."""

    toml: str
    marks: list[Mark]
    secrets: dict[str, str] = field(default_factory=dict)
    partners: dict[str, str] = field(default_factory=dict)

    def of(self, kind: str, owner: str, about: str = "") -> str:
        """The text of one mark."""
        return next(m.text for m in self.marks if (m.kind, m.owner, m.about) == (kind, owner, about))

    async def apply(self, world: World) -> None:
        """Brings the network in and lets it reach every service."""
        answer = await world.http.post(
            "/v1/network",
            content=self.toml.encode(),
            headers={"Content-Type": "application/toml", **world.administrator()},
        )
        assert answer.status_code == 200, answer.text
        for made in answer.json()["secrets"]:
            self.secrets[made["client_id"]] = made["secret"]
            self.partners[made["client_id"]] = made["partner"]
            self.marks.append(Mark(made["secret"], "", "secret", made["client_id"]))
        await world.settle()

    async def sign_in(self, world: World, client_id: str) -> dict[str, str]:
        """The headers of a credential, bought with its secret as everybody does."""
        answer = await world.http.post(
            "/v1/tokens", json={"client_id": client_id, "client_secret": self.secrets[client_id]}
        )
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}


@asynccontextmanager
async def marked_world(
    cluster: Cluster,
    directory: Path,
    codes: Sequence[str],
    *,
    outlets: Mapping[str, Any] | None = None,
    further: str = "",
) -> AsyncIterator[tuple[World, MarkedNetwork]]:
    """A world that knows the network of these partners already; `further` is TOML that stands above it."""

    async def apply(made: World) -> MarkedNetwork:
        network = marked_network(codes)
        network.toml = network.toml.replace("[deadlines.FLASH]", f"{further}\n[deadlines.FLASH]")
        await network.apply(made)
        return network

    state = f"network of {', '.join(codes)} {further}"
    async with world(cluster, directory, outlets=outlets, after=apply, state=state) as made:
        yield made, made.told


READ_BACK = """
[deadlines.FLASH]
acknowledge_within_seconds = 600
next_level_every_seconds = 300
unreached_after_seconds = 1800
position_within_seconds = 7200
read_back = true
"""
"""The network's table as it is by default, and read-back asked for."""


def marked_network(codes: Iterable[str] = PARTNERS) -> MarkedNetwork:
    """The file and its marks, before it is applied."""
    parts, marks = ["format = 1\n", READ_BACK], []
    for number, code in enumerate(codes, start=1):
        text, own = _partner(code, number)
        parts.append(text)
        marks += own
    return MarkedNetwork("\n".join(parts), marks)


def _partner(code: str, number: int) -> tuple[str, list[Mark]]:
    low, standing = code.lower(), "secretariat" if code == "XR" else "member"
    people = PEOPLE | (SECRETARIAT_PEOPLE if code == "XR" else {})
    marks = [
        Mark(f"+9990{number}00100", code, "switchboard"),
        Mark(f"+9990{number}00200", code, "embassy"),
        Mark(f"+9990{number}00300", code, "point", "office"),
        Mark(f"https://endpoint-{low}.example/hook", code, "endpoint"),
        Mark(f"Endpointtext{code}", code, "endpoint description"),
        Mark(f"Rotaname{code}", code, "rota"),
        Mark(f"Labeltext{code}", code, "label"),
        Mark(f"Systemname{code}", code, "name", "system"),
    ]
    lines = [
        f'[partners.{code}]\nname = "Partner {code}"\nstanding = "{standing}"\ntime_zone = "Europe/London"',
        f'[partners.{code}.offices.main]\nname = "Office of {code}"\nswitchboard = "+9990{number}00100"',
        f'embassies = {{ AF = "+9990{number}00200" }}',
        f'points.desk = {{ channel = "voice", address = "+9990{number}00300", label = "Labeltext{code}" }}',
        f'points.web = {{ channel = "webhook", address = "https://office-{low}.example/page" }}',
        f'[partners.{code}.rotas.duty]\nname = "Rotaname{code}"\n[[partners.{code}.rotas.duty.layers]]',
        'name = "Daily"\nrotation = "daily"\nparticipants = ["duty"]',
        "starts_on = 2021-01-01\nhand_over_time = 08:00:00",
        f'[[partners.{code}.levels]]\ntargets = ["rota:duty"]',
        f'[[partners.{code}.levels]]\ntargets = ["contact:senior", "office:main"]',
        f'[partners.{code}.endpoints.main]\nurl = "https://endpoint-{low}.example/hook"',
        f'description = "Endpointtext{code}"',
        f'[partners.{code}.credentials.{low}-system]\nkind = "system"\nname = "Systemname{code}"',
        'roles = ["senior_contact"]',
    ]
    marks.append(Mark(f"https://office-{low}.example", code, "point", "office web"))
    for who, (person, roles) in enumerate(people.items(), start=1):
        name, address = f"Name{person.title()}{code}", f"https://{person}-{low}.example"
        phone, mail = f"+9990{number}00{who}77", f"{person}{number}@mail-{low}.example"
        marks += [
            Mark(name, code, "name", person),
            Mark(address, code, "point", f"{person} web"),
            Mark(phone, code, "point", f"{person} phone"),
            Mark(mail, code, "point", f"{person} mail"),
        ]
        lines += [
            f'[partners.{code}.contacts.{person}]\nname = "{name}"\ntitle = "{person.title()} role"',
            f'points.web = {{ channel = "webhook", address = "{address}/page" }}',
            f'points.sms = {{ channel = "sms", address = "{phone}" }}',
            f'points.mail = {{ channel = "email", address = "{mail}" }}',
            f'[partners.{code}.credentials.{low}-{person}]\nkind = "person"\ncontact = "{person}"\nroles = {roles}',
        ]
    return "\n".join(lines) + "\n", marks
