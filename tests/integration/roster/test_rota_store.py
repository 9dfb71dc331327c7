"""Rich rotas in the database: everything comes back, old rows are read, and the record counts what was imported."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import date, time, timedelta
from uuid import UUID

import pytest
from sqlalchemy import text

from services.roster import store
from services.roster.changes import changes, entries, in_order
from services.roster.domain import EscalationPolicy, Level, PartnerState, Target, TargetKind, reference_faults
from services.roster.network import parse
from services.roster.schedule import (
    IMPORTED_MAX,
    CalendarId,
    Frequency,
    Holiday,
    ImportedShift,
    ImportedShiftId,
    Layer,
    LayerId,
    OnHolidays,
    Override,
    OverrideId,
    Replacement,
    ReplacementId,
    Restriction,
    Rotation,
)
from services.roster.seeding import content_hash
from shared.db import Database
from shared.ids import ContactId, derived
from shared.keys import KeyRing
from shared.migrate import template
from tests.support.cluster import Cluster
from tests.support.roster_rig import NOW, network_text

KEYS = KeyRing.generate()
CANADA = next(state for state in parse(network_text(), "rdn.toml").states() if state.partner.code == "CA")
PEOPLE = tuple(contact.id for contact in CANADA.contacts)
NIGHTS = Layer(
    id=LayerId(derived("nights")),
    name="nights",
    rotation=Rotation(Frequency.RULE, rule="FREQ=WEEKLY;BYDAY=MO,FR"),
    participants=PEOPLE[:2],
    starts_on=date(2026, 1, 5),
    hand_over_time=time(20),
    deputies=PEOPLE[1:3],
    time_zone="America/Halifax",
    restrictions=(Restriction(time(20), time(6), (1, 2, 3, 4, 5)), Restriction(time(), time())),
    on_holidays=OnHolidays.NEVER,
)


def imported(number: int, *, contact_id: ContactId = PEOPLE[0]) -> ImportedShift:
    """The shift of that number from the ministry's calendar, one hour each."""
    start_at = NOW + timedelta(hours=number)
    return ImportedShift(
        ImportedShiftId(derived("imported", str(number))),
        CalendarId(derived("calendar")),
        contact_id,
        start_at,
        start_at + timedelta(hours=1),
    )


def rich() -> PartnerState:
    """Canada with everything in its first rota that a rota can hold."""
    rota = replace(
        CANADA.rotas[0],
        layers=(NIGHTS, *CANADA.rotas[0].layers),
        overrides=(Override(OverrideId(derived("override")), PEOPLE[0], NOW, NOW + timedelta(hours=8), PEOPLE[1]),),
        replacements=tuple(
            Replacement(
                ReplacementId(derived(name)), name, NOW, NOW + timedelta(days=30), (replace(NIGHTS, name=name),)
            )
            for name in ("summer", "conference")
        ),
        imported=in_order(imported(number) for number in (3, 1, 2)),
        holiday_calendar="CA-QC",
        extra_holidays=(Holiday(date(2026, 11, 30), "Founding day"),),
        signs_hand_over=True,
        notice_hours=(48, 2),
    )
    holder = Target(TargetKind.ROTA, rota.id)
    policy = EscalationPolicy((Level((holder, replace(holder, deputy=True))),))
    return replace(CANADA, rotas=(rota, *CANADA.rotas[1:]), policy=policy)


@pytest.fixture
async def database(cluster: Cluster) -> AsyncIterator[Database]:
    """A roster database of its own."""
    await cluster.prepare("roster", template("roster"))
    async with cluster.clone("roster") as clone:
        database = Database(clone.url)
        yield database
        await database.close()


async def save(database: Database, before: PartnerState | None, after: PartnerState) -> None:
    """Writes what differs."""
    async with database.transaction() as tx:
        await store.save_partner(tx, KEYS, after.partner, changes(before, after), now=NOW)


async def stored(database: Database) -> PartnerState:
    """What is stored of Canada."""
    async with database.transaction() as tx:
        found = await store.find_partner(tx, KEYS, "CA")
    assert found is not None
    return found.state


async def test_everything_in_a_rota_comes_back(database: Database) -> None:
    """Layers with all their fields, deputies, replacements, imported shifts, holidays and notices are kept as given."""
    await save(database, None, rich())
    assert await stored(database) == rich()


async def test_parts_of_a_rota_change_one_by_one(database: Database) -> None:
    """A removed replacement is gone, the other keeps its place, and imported shifts go with their rota."""
    before = rich()
    await save(database, None, before)
    rota = replace(
        before.rotas[0], replacements=before.rotas[0].replacements[1:], imported=before.rotas[0].imported[:1]
    )
    after = replace(before, rotas=(rota, *before.rotas[1:]))
    await save(database, before, after)
    assert await stored(database) == after
    without = replace(after, rotas=after.rotas[1:], policy=CANADA.policy)
    await save(database, after, without)
    async with database.transaction() as tx:
        for table in ("overrides", "replacements", "imported_shifts"):
            assert (await tx.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one() == 0  # noqa: S608 - our names


async def test_rows_from_before_are_read(database: Database) -> None:
    """A layer, a level and a rota that were written before deputies and holidays existed mean what they meant."""
    await save(database, None, CANADA)
    async with database.transaction() as tx:
        for field in ("deputies", "time_zone", "restrictions", "on_holidays"):
            await tx.execute(
                text("UPDATE rotas SET layers = (SELECT jsonb_agg(l - :field) FROM jsonb_array_elements(layers) l)"),
                {"field": field},
            )
        await tx.execute(
            text(
                "UPDATE rotas SET layers = (SELECT jsonb_agg(jsonb_set(l, '{rotation}', (l->'rotation') - 'rule'))"
                " FROM jsonb_array_elements(layers) l)"
            )
        )
        levels = "SELECT levels->0->'targets'->0 AS target FROM policies"
        await tx.execute(text("UPDATE policies SET levels = levels #- '{0,targets,0,deputy}'"))
        assert "deputy" not in (await tx.execute(text(levels))).scalar_one()
        assert "restrictions" not in str((await tx.execute(text("SELECT layers FROM rotas"))).all())
    assert await stored(database) == CANADA


def test_an_import_is_one_entry_of_the_record() -> None:
    """Whatever number of shifts came, went or changed: one entry for the rota says how many, and of which calendar."""
    before = replace(CANADA.rotas[0], imported=in_order(imported(number) for number in range(3)))
    kept = replace(before.imported[0], contact_id=PEOPLE[1])
    after = replace(before, imported=in_order((kept, *(imported(number) for number in range(2, IMPORTED_MAX)))))
    states = [replace(CANADA, rotas=(rota, *CANADA.rotas[1:])) for rota in (before, after)]
    [(object_id, kind, data)] = list(entries(changes(*states)))
    assert (object_id, kind) == (before.id, "calendar.imported")
    assert data == {
        "added": IMPORTED_MAX - 3,
        "removed": 1,
        "changed": 1,
        "calendars": [str(derived("calendar"))],
        "from_at": NOW.isoformat(),
        "until_at": (NOW + timedelta(hours=IMPORTED_MAX)).isoformat(),
    }


def test_the_record_shows_what_a_replacement_was() -> None:
    """A replacement has entries of its own, with what it said before; the rota beneath is not mentioned."""
    before = rich()
    rota = replace(before.rotas[0], replacements=before.rotas[0].replacements[:1])
    [(object_id, kind, data)] = list(entries(changes(before, replace(before, rotas=(rota, *before.rotas[1:])))))
    assert (object_id, kind) == (derived("conference"), "replacement.removed")
    assert (data["before"]["name"], data["before"]["start_at"]) == ("conference", NOW.isoformat())


@pytest.mark.parametrize("where", ["deputies", "override", "replacement", "imported"])
def test_everybody_whom_a_rota_names_is_a_contact(where: str) -> None:
    """Deputies, those who stand in for them, and people of replacements and calendars must be known contacts."""
    stranger = ContactId(UUID(int=(1 << 120) + 7))
    rota = rich().rotas[0]
    wrong = {
        "deputies": lambda: replace(rota, layers=(replace(NIGHTS, deputies=(stranger,)),)),
        "override": lambda: replace(rota, overrides=(replace(rota.overrides[0], deputy_id=stranger),)),
        "replacement": lambda: replace(
            rota, replacements=(replace(rota.replacements[0], layers=(replace(NIGHTS, participants=(stranger,)),)),)
        ),
        "imported": lambda: replace(rota, imported=(imported(1, contact_id=stranger),)),
    }[where]()
    assert not list(reference_faults(rich()))
    [fault] = reference_faults(replace(rich(), rotas=(wrong, *CANADA.rotas[1:])))
    assert (fault.field, str(stranger) in fault.detail) == ("rotas[0]", True)


def test_what_a_file_wrote_before_is_not_taken_for_edited() -> None:
    """Fields that are as they were before they existed change no hash; notices that were switched off do."""
    rota = replace(CANADA.rotas[0], holiday_calendar=None)
    assert content_hash(rota) == content_hash(replace(rota, notice_hours=(24,), extra_holidays=()))
    assert len({content_hash(replace(rota, notice_hours=hours)) for hours in ((24,), (), (24, 2))}) == 3
    assert content_hash(rota) == content_hash(
        replace(
            rich().rotas[0],
            **{
                name: getattr(rota, name)
                for name in ("layers", "holiday_calendar", "extra_holidays", "signs_hand_over", "notice_hours")
            },
        )
    )
