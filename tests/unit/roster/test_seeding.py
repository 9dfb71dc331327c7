"""Applying a network file: what is created, updated, the same, and left alone with a reason."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import pytest

from services.roster import seeding
from services.roster.domain import Contact, ContactPoint, Credential, PartnerState
from services.roster.network import (
    Kind,
    NetworkFile,
    PrecedenceDeadlines,
    credential_id,
    deadlines_id,
    parse,
    partner_id,
)
from services.roster.schedule import Override, OverrideId
from services.roster.seeding import CurrentNetwork, NetworkPlan, Reason, content_hash, plan
from shared.contracts import Precedence, Standing
from shared.ids import ContactId, PartnerCode

SHIPPED = (Path(__file__).parents[3] / "network" / "rdn.toml").read_text(encoding="utf-8")
NOW = datetime(2026, 3, 20, tzinfo=UTC)
EMPTY = CurrentNetwork.of((), {}, {})


@pytest.fixture(scope="module")
def shipped() -> NetworkFile:
    """The network file of the repository."""
    return parse(SHIPPED, "network/rdn.toml")


def seeds(network_file: NetworkFile) -> dict[UUID, str]:
    """What is remembered after the file was applied to an empty network."""
    return {item.id: content_hash(item.value) for item in network_file.items}


def stored(network_file: NetworkFile, *edited: PartnerState) -> CurrentNetwork:
    """The network after the file was applied, with some partners edited since."""
    by_code = {state.partner.code: state for state in (*network_file.states(), *edited)}
    return CurrentNetwork.of(by_code.values(), network_file.deadlines(), seeds(network_file))


def state_of(network_file: NetworkFile, code: str) -> PartnerState:
    """One partner of the file."""
    return next(state for state in network_file.states() if state.partner.code == code)


def changed(**words: str) -> NetworkFile:
    """The shipped file with each word (as a key) replaced by another one."""
    text = SHIPPED
    for old, new in words.items():
        assert old in text
        text = text.replace(old, new)
    return parse(text, "network/rdn.toml")


def by_operator(network_file: NetworkFile, current: CurrentNetwork) -> NetworkPlan:
    """The plan of an operator on the machine, who acts for no partner."""
    return plan(network_file, current, acting_partner=None, is_administrator=True)


def keys(things: Iterable[seeding.Change | seeding.LeftAlone]) -> list[str]:
    """The keys of what a plan lists."""
    return [thing.item.key for thing in things]


def with_contact(state: PartnerState, key_name: str, **changes: str) -> PartnerState:
    """The partner with the contact of that name edited."""
    contacts = tuple(replace(c, **changes) if c.name == key_name else c for c in state.contacts)  # type: ignore[arg-type]
    assert contacts != state.contacts
    return replace(state, contacts=contacts)


def test_an_empty_network_is_seeded_whole(shipped: NetworkFile) -> None:
    """On an empty network everything in the file is created, in the order of the file's items."""
    result = by_operator(shipped, EMPTY)
    assert keys(result.creates) == [item.key for item in shipped.items]
    assert (result.updates, result.unchanged, result.left_alone) == ((), (), ())


def test_applying_twice_changes_nothing(shipped: NetworkFile) -> None:
    """The second application finds everything the same, whoever applies it."""
    for acting_partner, is_administrator in ((None, True), ("XR", True), ("CA", False)):
        result = plan(shipped, stored(shipped), acting_partner=acting_partner, is_administrator=is_administrator)
        assert not result.creates
        assert not result.updates
        own = [item for item in shipped.items if is_administrator or item.partner == acting_partner]
        assert list(result.unchanged) == own
        assert {one.reason for one in result.left_alone} <= {Reason.NOT_YOURS}
        assert len(result.left_alone) == len(shipped.items) - len(own)


def test_what_nobody_edited_is_updated(shipped: NetworkFile) -> None:
    """What the file changed and no partner touched is updated, and only that."""
    result = by_operator(changed(Amélie="Amandine"), stored(shipped))
    assert keys(result.updates) == ["partners.CA.contacts.duty-1", "partners.CA.credentials.ca-duty-officer"]
    assert (result.creates, result.left_alone) == ((), ())


def test_what_a_partner_edited_is_left_alone(shipped: NetworkFile) -> None:
    """An edited contact is reported and left alone, with the reason; the same partner's other things are updated."""
    edited = with_contact(state_of(shipped, "CA"), "Amélie Exemple", title="Minister")
    result = by_operator(changed(Amélie="Amandine", Benoît="Basile"), stored(shipped, edited))
    assert [(one.item.key, one.reason) for one in result.left_alone] == [("partners.CA.contacts.duty-1", Reason.EDITED)]
    assert "CA has edited it since" in result.left_alone[0].detail
    assert "partners.CA.contacts.duty-2" in keys(result.updates)


def test_an_edit_is_reported_even_if_the_file_is_the_same(shipped: NetworkFile) -> None:
    """The same file again does not undo an edit, and says that it did not."""
    edited = with_contact(state_of(shipped, "CA"), "Amélie Exemple", title="Minister")
    result = by_operator(shipped, stored(shipped, edited))
    assert not result.creates
    assert not result.updates
    assert keys(result.left_alone) == ["partners.CA.contacts.duty-1"]


def test_a_partners_own_credential_overwrites_its_own_edits(shipped: NetworkFile) -> None:
    """With the partner's own credential its edits are overwritten, and nobody else's."""
    edited = (
        with_contact(state_of(shipped, "CA"), "Amélie Exemple", title="Minister"),
        with_contact(state_of(shipped, "US"), "Avery Example", title="Secretary"),
    )
    result = plan(shipped, stored(shipped, *edited), acting_partner="CA", is_administrator=False)
    assert keys(result.updates) == ["partners.CA.contacts.duty-1"]
    assert {one.reason for one in result.left_alone} == {Reason.NOT_YOURS}
    assert {item.partner for item in result.unchanged} == {"CA"}


@pytest.mark.parametrize("guess", ["Avery Example", "Somebody Else"])
def test_a_guess_about_others_is_not_confirmed(shipped: NetworkFile, guess: str) -> None:
    """Whoever lays a file beside another partner's people learns nothing: right and wrong are answered alike."""
    guessed = changed(**{"Avery Example": guess})
    result = plan(guessed, stored(shipped), acting_partner="CA", is_administrator=False)
    others = [item for item in guessed.items if item.partner != "CA"]
    assert [one.item for one in result.left_alone] == others
    assert {one.reason for one in result.left_alone} == {Reason.NOT_YOURS}
    assert len({one.detail for one in result.left_alone}) == len({item.partner for item in others} - {None})


def test_the_secretariat_does_not_overwrite_a_partners_edits(shipped: NetworkFile) -> None:
    """The secretariat's administrator overwrites its own edits and the network's, never those of a partner."""
    own = replace(state_of(shipped, "XR"), partner=replace(state_of(shipped, "XR").partner, name="The Secretariat"))
    theirs = with_contact(state_of(shipped, "CA"), "Amélie Exemple", title="Minister")
    result = plan(shipped, stored(shipped, own, theirs), acting_partner="XR", is_administrator=True)
    assert keys(result.updates) == ["partners.XR"]
    assert keys(result.left_alone) == ["partners.CA.contacts.duty-1"]


def test_deadlines_changed_by_hand_belong_to_the_secretariat(shipped: NetworkFile) -> None:
    """Deadlines that were changed since are left alone by an operator and written with the secretariat's credential."""
    flash = shipped.deadlines()[Precedence.FLASH].model_copy(update={"position_within_seconds": 3600})
    current = CurrentNetwork.of(shipped.states(), {**shipped.deadlines(), Precedence.FLASH: flash}, seeds(shipped))
    assert keys(by_operator(shipped, current).left_alone) == ["deadlines.FLASH"]
    for acting_partner, is_administrator in (("XR", True), ("XR", False), ("CA", False)):
        result = plan(shipped, current, acting_partner=acting_partner, is_administrator=is_administrator)
        assert keys(result.updates) == (["deadlines.FLASH"] if is_administrator else [])


def test_a_partner_cannot_give_itself_credentials(shipped: NetworkFile) -> None:
    """Credentials and the joining of a partner need an administrator, also for what is the acting partner's own."""
    result = plan(shipped, EMPTY, acting_partner="CA", is_administrator=False)
    assert not result.creates
    assert not result.updates
    reasons = {one.item.key: one.reason for one in result.left_alone}
    assert reasons["partners.CA"] is Reason.NEEDS_ADMINISTRATOR
    assert reasons["partners.CA.credentials.ca-releaser"] is Reason.NEEDS_ADMINISTRATOR
    assert reasons["partners.CA.contacts.duty-1"] is Reason.MISSING_REFERENCE
    assert reasons["partners.US.contacts.duty-1"] is Reason.NOT_YOURS
    more = changed(**{'roles = ["senior_contact"]\n\n[partners.CA': 'roles = ["roster_manager"]\n\n[partners.CA'})
    raised = plan(more, stored(shipped), acting_partner="CA", is_administrator=False)
    assert not raised.creates
    assert not raised.updates
    assert {one.reason for one in raised.left_alone if one.item.partner == "CA"} == {Reason.NEEDS_ADMINISTRATOR}


def test_a_partner_cannot_change_its_standing(shipped: NetworkFile) -> None:
    """A partner can rename itself by its own credential, but its standing is an administrator's to change."""
    germany = state_of(shipped, "DE")
    edited = replace(germany, partner=replace(germany.partner, name="Bundesrepublik"))
    renamed = plan(shipped, stored(shipped, edited), acting_partner="DE", is_administrator=False)
    assert keys(renamed.updates) == ["partners.DE"]
    full = changed(**{'name = "Germany"\nstanding = "participating"': 'name = "Germany"\nstanding = "member"'})
    refused = plan(full, stored(shipped), acting_partner="DE", is_administrator=False)
    own = [(one.item.key, one.reason) for one in refused.left_alone if one.item.partner == "DE"]
    assert own == [("partners.DE", Reason.STANDING)]
    assert keys(by_operator(full, stored(shipped)).updates) == ["partners.DE"]
    assert state_of(full, "DE").partner.standing is Standing.MEMBER


def test_what_is_not_in_the_file_is_none_of_its_business(shipped: NetworkFile) -> None:
    """A file of one partner touches no other one, and nothing that is stored is ever deleted or reported as missing."""
    alone = SHIPPED[SHIPPED.index("[partners.CA]") : SHIPPED.index("[partners.ES]")]
    one = parse("\n".join(line for line in alone.split("\n") if not line.startswith("#")), "ca.toml")
    result = by_operator(one, stored(shipped))
    assert not result.creates
    assert not result.updates
    assert result.left_alone == ()


def test_what_a_partner_removed_stays_removed(shipped: NetworkFile) -> None:
    """What the partner removed is not created again by others, its own credential can bring it back."""
    canada = state_of(shipped, "CA")
    gone = next(contact for contact in canada.contacts if contact.name == "Amélie Exemple")
    edited = replace(
        canada,
        contacts=tuple(contact for contact in canada.contacts if contact != gone),
        rotas=(),
        policy=type(canada.policy)(),
        credentials=(),
    )
    result = by_operator(shipped, stored(shipped, edited))
    assert not result.creates
    assert not result.updates
    reasons = {one.item.key: one.reason for one in result.left_alone}
    assert reasons["partners.CA.contacts.duty-1"] is Reason.REMOVED
    assert reasons["partners.CA.rotas.duty"] is Reason.REMOVED
    by_itself = plan(shipped, stored(shipped, edited), acting_partner="CA", is_administrator=False)
    assert "partners.CA.contacts.duty-1" in keys(by_itself.creates)
    assert "partners.CA.rotas.duty" in keys(by_itself.creates)


def test_what_names_something_missing_is_left_alone(shipped: NetworkFile) -> None:
    """A new rota whose people the partner has removed is left alone, and the report says who is missing."""
    canada = state_of(shipped, "CA")
    edited = replace(canada, contacts=tuple(c for c in canada.contacts if c.name != "Douglas Exemple"))
    text = SHIPPED.replace("[partners.CA.endpoints.main]", CANADIAN_ROTA + "[partners.CA.endpoints.main]")
    result = by_operator(parse(text, "network.toml"), stored(shipped, edited))
    (left,) = [one for one in result.left_alone if one.item.key == "partners.CA.rotas.extra"]
    assert left.reason is Reason.MISSING_REFERENCE
    assert "partners.CA.contacts.senior-1" in left.detail


CANADIAN_ROTA = """
[partners.CA.rotas.extra]
name = "Extra"

[[partners.CA.rotas.extra.layers]]
rotation = "daily"
participants = ["senior-1"]
starts_on = 2026-01-05
hand_over_time = 08:00:00

"""


def test_a_client_id_of_another_partner_is_not_taken(shipped: NetworkFile) -> None:
    """A credential whose client id another partner uses already is left alone, although nothing else is in the way."""
    zealand = state_of(shipped, "NZ")
    taken = replace(zealand.credentials[0], client_id="ca-system-2")
    current = stored(shipped, replace(zealand, credentials=(*zealand.credentials, taken)))
    text = SHIPPED.replace("credentials.ca-system]", "credentials.ca-system-2]")
    (left,) = by_operator(parse(text, "network.toml"), current).left_alone
    assert (left.item.key, left.reason) == ("partners.CA.credentials.ca-system-2", Reason.CLIENT_ID_TAKEN)


def test_daily_work_is_no_edit(shipped: NetworkFile) -> None:
    """Overrides, verifications, secrets and revocations belong to the daily work: they make nothing look edited."""
    canada = state_of(shipped, "CA")
    override = Override(OverrideId(UUID(int=1)), canada.contacts[0].id, NOW, NOW + timedelta(days=1))
    worked = replace(
        canada,
        rotas=tuple(replace(rota, overrides=(override,)) for rota in canada.rotas),
        contacts=tuple(
            replace(c, points=tuple(replace(p, verified_at=NOW, confirmed_at=NOW) for p in c.points))
            for c in canada.contacts
        ),
        endpoints=tuple(replace(endpoint, created_at=NOW) for endpoint in canada.endpoints),
        credentials=tuple(replace(c, secret_sha256="0" * 64, revoked_at=NOW, version=3) for c in canada.credentials),
    )
    result = by_operator(shipped, stored(shipped, worked))
    assert not result.creates
    assert not result.updates
    assert result.left_alone == ()


def test_a_delay_of_nothing_is_no_edit(shipped: NetworkFile) -> None:
    """A point that was stored before points had delays has the hash that it had; one with a delay has another."""
    point = next(item.value for item in shipped.items if isinstance(item.value, ContactPoint))
    at_once = replace(point, delay_seconds=0, label=None)
    said = {"id": str(point.id), "channel": str(point.channel), "address": point.address}
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"))
    assert content_hash(at_once) == hashlib.sha256(canonical.encode()).hexdigest()
    assert content_hash(replace(at_once, delay_seconds=1)) != content_hash(at_once)


def test_hashes_outlive_new_optional_fields() -> None:
    """What is empty or absent has no part in a hash, so rows are recognised after a release added optional fields."""
    contact = Contact(ContactId(UUID(int=1)), "Ann Example", title="", languages=("en",))
    assert set(seeding._content(contact)) == {"id", "name", "languages"}
    assert content_hash(contact) != content_hash(replace(contact, title="Officer"))


def test_the_order_of_roles_and_embassies_means_nothing(shipped: NetworkFile) -> None:
    """Roles and embassies that come back from a table in another order make nothing look edited."""
    usa = state_of(shipped, "US")
    turned = replace(
        usa,
        offices=tuple(replace(office, embassies=office.embassies[::-1]) for office in usa.offices),
        credentials=tuple(replace(credential, roles=credential.roles[::-1]) for credential in usa.credentials),
    )
    assert turned != usa
    assert by_operator(shipped, stored(shipped, turned)).left_alone == ()


def test_every_field_that_a_file_can_give_counts(shipped: NetworkFile) -> None:
    """A change of any field that the file can give changes the hash; only the known exceptions do not."""
    for item in shipped.items:
        if isinstance(item.value, PrecedenceDeadlines):
            continue
        for field in fields(item.value):
            other = replace(item.value, **{field.name: ["something else"]})  # type: ignore[arg-type]
            is_ignored = field.name in seeding._NOT_SEEDED.get(type(item.value), frozenset())
            assert (content_hash(other) == content_hash(item.value)) is is_ignored, (item.key, field.name)


def test_ids_of_rows_can_be_told_without_the_file(shipped: NetworkFile) -> None:
    """The ids of partners, credentials and deadlines follow from their names, so stored rows are found again."""
    ids = {item.id for item in shipped.items}
    assert partner_id(PartnerCode("CA")) in ids
    assert credential_id("ca-releaser") in ids
    assert deadlines_id(Precedence.FLASH) in ids
    credentials = [item.value for item in shipped.items if item.kind is Kind.CREDENTIAL]
    assert all(isinstance(value, Credential) and not value.secret_sha256 for value in credentials)
