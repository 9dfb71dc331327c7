from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from services.roster.domain import Contact, ContactPoint, Credential, DutyOffice, PartnerState
from services.roster.merging import changed_point, merged
from services.roster.network import Item, Kind, NetworkFile, parse
from services.roster.schedule import Override, OverrideId, Rota
from shared.contracts import ChannelName, Role
from shared.ids import ContactPointId, derived

NOW = datetime(2026, 10, 20, 9, 30, tzinfo=UTC)
FILE: NetworkFile = parse((Path(__file__).parents[3] / "network" / "rdn.toml").read_text(encoding="utf-8"), "rdn.toml")
CANADA: PartnerState = next(state for state in FILE.states() if state.partner.code == "CA")
ITEMS = [item for item in FILE.items if item.partner == "CA"]


def first(kind: Kind) -> Item:
    """The first item of Canada of a kind."""
    return next(item for item in ITEMS if item.kind is kind)


def test_a_file_alone_makes_the_partner_that_it_describes() -> None:
    """Merged over nothing, a partner's items are that partner; what is new is dated."""
    made = merged(None, ITEMS, now=NOW)
    assert {endpoint.created_at for endpoint in made.endpoints} == {NOW}
    undated = tuple(replace(endpoint, created_at=None) for endpoint in made.endpoints)
    assert replace(made, endpoints=undated) == CANADA


def test_what_is_there_keeps_its_place_and_its_parts() -> None:
    """A changed office, contact or rota stays where it was, with its points and overrides; a new one comes last."""
    override = Override(OverrideId(derived("override")), None, NOW, NOW + timedelta(hours=8))
    rota = replace(CANADA.rotas[0], overrides=(override,))
    before = replace(CANADA, rotas=(rota, *CANADA.rotas[1:]))
    office, contact, changed_rota = (first(kind) for kind in (Kind.OFFICE, Kind.CONTACT, Kind.ROTA))
    assert isinstance(office.value, DutyOffice)
    assert isinstance(contact.value, Contact)
    assert isinstance(changed_rota.value, Rota)
    new = replace(contact, id=derived("new"), value=replace(contact.value, id=derived("new"), name="New"))  # type: ignore[arg-type]
    after = merged(
        before,
        [
            replace(office, value=replace(office.value, name="Night desk")),
            replace(contact, value=replace(contact.value, title="Chief")),
            new,
            replace(changed_rota, value=replace(changed_rota.value, name="Nights")),
        ],
        now=NOW,
    )
    assert (after.offices[0].name, after.offices[0].points) == ("Night desk", CANADA.offices[0].points)
    assert [one.id for one in after.contacts] == [*(one.id for one in CANADA.contacts), new.id]
    assert (after.contacts[0].title, after.contacts[0].points) == ("Chief", CANADA.contacts[0].points)
    assert (after.rotas[0].name, after.rotas[0].overrides) == ("Nights", (override,))


@pytest.mark.parametrize(
    ("changes", "is_known"),
    [
        ({"label": "New label"}, True),
        ({"delay_seconds": 30}, True),
        ({"address": "+16135550999"}, False),
        ({"channel": ChannelName.SMS}, False),
    ],
)
def test_what_leads_elsewhere_is_not_verified_any_more(changes: dict[str, Any], is_known: bool) -> None:
    """Another address or channel forgets when the point was verified and confirmed; a label or a delay does not."""
    point = ContactPoint(ContactPointId(derived("p")), ChannelName.VOICE, "+16135550101", None, NOW, NOW)
    after = changed_point(point, replace(point, verified_at=None, confirmed_at=None, **changes))
    assert (after.verified_at, after.confirmed_at) == ((NOW, NOW) if is_known else (None, None))


def test_a_credential_keeps_its_secret_and_counts_the_change() -> None:
    """New roles by file touch neither secret nor revocation, and raise the version, so that old tokens end."""
    held = replace(CANADA.credentials[0], secret_sha256="5" * 64, revoked_at=NOW, version=7)
    before = replace(CANADA, credentials=(held, *CANADA.credentials[1:]))
    item = next(item for item in ITEMS if isinstance(item.value, Credential) and item.value.client_id == held.client_id)
    assert isinstance(item.value, Credential)
    changed = replace(item, value=replace(item.value, roles=(Role.OBSERVER,)))
    after = merged(before, [changed], now=NOW)
    assert after.credentials[0] == replace(held, roles=(Role.OBSERVER,), version=8)


def test_a_partner_that_takes_no_part_stays_so() -> None:
    """Whether a partner takes part is no business of a file."""
    before = replace(CANADA, partner=replace(CANADA.partner, active=False))
    assert merged(before, [first(Kind.PARTNER)], now=NOW).partner.active is False
