from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio
from sqlalchemy import func, select

from services.roster import store
from services.roster.changes import changes, entries
from services.roster.domain import PartnerState
from services.roster.network import parse
from services.roster.seeding import CurrentNetwork, plan
from shared.clock import ManualClock
from shared.db import Database
from shared.keys import CannotOpen, KeyRing
from shared.migrate import template
from tests.support.cluster import Cluster
from tests.support.roster_rig import NOW, network_text

KEYS = KeyRing.generate()
SHIPPED = parse(network_text(), "rdn.toml")
CANADA = next(state for state in SHIPPED.states() if state.partner.code == "CA")


@pytest_asyncio.fixture
async def database(cluster: Cluster) -> AsyncIterator[Database]:
    """A fresh database of roster."""
    await cluster.prepare("roster", template("roster"))
    async with cluster.clone("roster") as clone:
        made = Database(clone.url)
        yield made
        await made.close()


async def save(database: Database, before: PartnerState | None, after: PartnerState) -> int:
    """Writes what differs."""
    async with database.transaction() as tx:
        return await store.save_partner(tx, KEYS, after.partner, changes(before, after), now=NOW)


async def stored(database: Database, code: str = "CA", keys: KeyRing = KEYS) -> store.StoredPartner:
    """What is there of a partner."""
    async with database.transaction() as tx:
        found = await store.find_partner(tx, keys, code)
    assert found is not None
    return found


@pytest.mark.parametrize("state", SHIPPED.states(), ids=lambda state: state.partner.code)
async def test_a_partner_comes_back_as_it_was_written(database: Database, state: PartnerState) -> None:
    """Each shipped partner is read as it was saved: nothing lost, nothing reordered, version one."""
    assert await save(database, None, state) == 1
    found = await stored(database, state.partner.code)
    unordered = [replace(office, embassies=tuple(sorted(office.embassies))) for office in found.state.offices]
    expected = [replace(office, embassies=tuple(sorted(office.embassies))) for office in state.offices]
    assert unordered == expected
    assert replace(found.state, offices=()) == replace(state, offices=())
    assert (found.version, found.plan_asked, found.plan_version) == (1, 1, 0)


async def test_what_is_stored_looks_unedited(database: Database) -> None:
    """The hash of what comes out of the tables is that of the file, for every object: else each would look edited."""
    for state in SHIPPED.states():
        await save(database, None, state)
    async with database.transaction() as tx:
        await store.save_deadlines(tx, SHIPPED.deadlines(), version=1, now=NOW)
        found = await store.load_partners(tx, KEYS, {state.partner.code for state in SHIPPED.states()})
        deadlines = await store.find_deadlines(tx)
    current = CurrentNetwork.of((one.state for one in found.values()), deadlines.table, {})
    result = plan(SHIPPED, current, acting_partner=None, is_administrator=True)
    assert (result.creates, result.updates, result.left_alone) == ((), (), ())


async def test_order_follows_every_edit(database: Database) -> None:
    """Things come back in the order in which they were saved, also after some moved, came or went."""
    await save(database, None, CANADA)
    contacts = CANADA.contacts
    turned = replace(CANADA, contacts=(contacts[-1], *contacts[1:-1]), policy=CANADA.policy)
    assert await save(database, CANADA, turned) == 2
    assert (await stored(database)).state.contacts == turned.contacts
    back = replace(turned, contacts=(contacts[0], *turned.contacts))
    await save(database, turned, back)
    assert (await stored(database)).state.contacts == back.contacts


async def test_points_of_a_removed_contact_go_with_them(database: Database) -> None:
    """No address outlives its owner."""
    await save(database, None, CANADA)
    without = replace(CANADA, contacts=CANADA.contacts[:1])
    await save(database, CANADA, without)
    async with database.transaction() as tx:
        kept = (await tx.execute(store.contact_points.select())).all()
    assert {row.owner_id for row in kept} == {
        *(office.id for office in CANADA.offices if office.points),
        *(contact.id for contact in CANADA.contacts[:1] if contact.points),
    }


async def test_addresses_are_bound_to_their_rows(database: Database) -> None:
    """An encrypted address that is moved to another contact point opens with no key."""
    await save(database, None, CANADA)
    async with database.transaction() as tx:
        (first, second, *_) = (await tx.execute(store.contact_points.select())).all()
        assert first.encrypted_address.startswith("ar1.")
        moved = store.contact_points.update().where(store.contact_points.c.id == first.id)
        await tx.execute(moved.values(encrypted_address=second.encrypted_address))
    with pytest.raises(CannotOpen):
        await stored(database)
    with pytest.raises(CannotOpen):
        await stored(database, keys=KeyRing.generate())


async def test_a_partner_is_read_as_of_one_instant(database: Database) -> None:
    """What is read after a partner, in the same transaction, shows no edit that was committed meanwhile."""
    await save(database, None, CANADA)
    async with database.transaction() as tx:
        read = await store.find_partner(tx, KEYS, "CA")
        assert read is not None
        assert read.state.rotas
        await save(database, CANADA, replace(CANADA, rotas=(), endpoints=()))
        rotas = (await tx.execute(select(func.count()).select_from(store.rotas))).scalar_one()
        assert rotas == len(read.state.rotas)
    assert (await stored(database)).state.rotas == ()


async def test_who_needs_no_addresses_reads_none(database: Database) -> None:
    """All else is the same, and no key is asked for."""
    await save(database, None, CANADA)
    whole = (await stored(database)).state
    async with database.transaction() as tx:
        read = await store.find_without_addresses(tx, "CA")
    assert read is not None
    assert {point.address for contact in read.state.contacts for point in contact.points} == {""}
    assert {endpoint.url for endpoint in read.state.endpoints} == {""}
    assert (read.state.rotas, read.state.policy) == (whole.rotas, whole.policy)
    assert [contact.name for contact in read.state.contacts] == [contact.name for contact in whole.contacts]


async def test_missing_partners_are_missing(database: Database) -> None:
    """Who is not there is not made up, and no lock is taken for them."""
    async with database.transaction() as tx:
        assert await store.load_partner(tx, KEYS, "CA") is None
        assert await store.load_partners(tx, KEYS, []) == {}
        assert await store.find_summary(tx, "CA") is None
        assert await store.find_plans_due(tx, now=ManualClock(NOW).now(), limit=10) == []


def test_the_record_never_holds_what_is_personal() -> None:
    """Of a partner's creation the record keeps roles, zones and ids, and no name, number, address or hash."""
    secret = "5" * 64
    state = replace(CANADA, credentials=tuple(replace(one, secret_sha256=secret) for one in CANADA.credentials))
    told = str(list(entries(changes(None, state))))
    personal = [contact.name for contact in state.contacts] + [secret, *(e.url for e in state.endpoints)]
    personal += [point.address for contact in state.contacts for point in contact.points]
    personal += [point.address for office in state.offices for point in office.points]
    personal += [office.switchboard or "" for office in state.offices if office.switchboard]
    assert len(personal) > 15
    assert [value for value in personal if value in told] == []
    assert "duty_officer" in told
