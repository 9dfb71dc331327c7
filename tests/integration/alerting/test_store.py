"""The rows: what is written comes back, migrations make what the tables say, and SQL sees what the rules see."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import MetaData, select

from services.alerting import domain, reading, store, tables
from services.alerting.content import Network
from services.alerting.domain import Alert, AlertState, Caller
from services.alerting.reading import Filters, Head
from services.alerting.visibility import Access, Viewer, access
from shared import db
from shared.contracts import (
    Area,
    Info,
    Precedence,
    Role,
    Severity,
    Status,
    Tlp,
)
from shared.errors import Conflict
from shared.ids import AlertId, CrisisId
from tests.support.alerting_rig import KABUL, PARTNERS, Rig, person, proposal

KNOWN = Network(dict.fromkeys(PARTNERS, True))


def by(partner: str, what: str) -> Caller:
    """Somebody as the rules see them."""
    principal = person(partner, what)
    return Caller(principal.actor(), principal.roles)


def made(rig: Rig, *, raiser: str = "CA", release: bool = True, **changes: Any) -> Alert:
    """An alert that is nowhere yet."""
    ids = rig.deps.ids
    draft = domain.draft(
        proposal(**changes),
        alert_id=AlertId(ids.new()),
        crisis_id=CrisisId(ids.new()),
        reference=f"RP-{raiser}-2021-{next(_numbers):04d}",
        by=by(raiser, "officer"),
        network=KNOWN,
        now=KABUL,
    )
    if not release:
        return draft
    return domain.release(
        draft, precedence=draft.content.precedence, by=by(raiser, "second"), network=KNOWN, now=KABUL
    ).alert


_numbers = itertools.count(1)


async def put(rig: Rig, *alerts: Alert) -> None:
    """Stores alerts as they are."""
    async with rig.deps.database.transaction() as tx:
        await store.known_network(tx)
        await store.write(tx, new=[(alert, "f" * 64) for alert in alerts])


async def got(rig: Rig, alert: Alert) -> Alert | None:
    """The alert as it is stored."""
    async with rig.deps.database.transaction() as tx:
        return await store.find_alert(tx, alert.id)


async def test_alert_comes_back_as_it_was_written(rig: Rig) -> None:
    """Every field survives the way into rows and back, in every script and shape."""
    kabul = Area(
        description="Kabul airport",
        polygons=(((69.19, 34.55), (69.24, 34.55), (69.24, 34.58), (69.19, 34.55)),),
        circles=((69.2, 34.56, 5.5),),
        geocodes=(("iso3166-1-alpha-3", "AFG"), ("un-m49", "004")),
    )
    blocks = (
        Info(
            event="Displacement crisis", headline="Kabul “falls” – O'Brien\\", severity=Severity.EXTREME, areas=(kabul,)
        ),
        Info(
            language="prs",
            event="بحران",
            headline="کابل",
            severity=Severity.EXTREME,
            is_translation=True,
            areas=(kabul,),
        ),
    )
    alert = made(
        rig,
        headline=None,
        countries=None,
        info=blocks,
        for_information=("BR",),
        note="first line\nsecond",
        answers_visible=True,
        acknowledge_within_seconds=300,
        tlp=Tlp.RED,
    )
    ended = domain.cancel(alert, note="Wrong list", by=by("CA", "second"), reason=None, now=KABUL).alert
    await put(rig, alert)
    assert await got(rig, alert) == alert
    async with rig.deps.database.transaction() as tx:
        await store.load_alert(tx, alert.id)
        await store.write(tx, changed=[ended])
    assert await got(rig, alert) == ended


async def test_tables_are_what_the_migrations_make(rig: Rig) -> None:
    """Columns, types, keys and indexes of the database are those of the table objects, in both directions."""
    found = MetaData()
    async with rig.deps.database.transaction() as tx:
        await tx.run_sync(found.reflect)
    wanted = {**tables.metadata.tables, **db.shared_metadata.tables}
    assert set(found.tables) - {"alembic_version"} == set(wanted)
    for name, table in tables.metadata.tables.items():
        actual = found.tables[name]
        assert [(c.name, str(c.type), c.nullable) for c in actual.columns] == [
            (c.name, str(c.type).replace("DATETIME", "TIMESTAMP").replace("CHAR(32)", "UUID"), c.nullable)
            for c in table.columns
        ], name
        assert {i.name for i in actual.indexes} == {i.name for i in table.indexes}
        assert not actual.foreign_key_constraints, "locking a parent would be the dearest part of a release"


async def test_id_that_was_taken_meanwhile_is_a_conflict(rig: Rig) -> None:
    """A second alert with the same id stores nothing."""
    alert = made(rig)
    await put(rig, alert)
    with pytest.raises(Conflict):
        await put(rig, replace(alert, reference="RP-CA-2021-9999"))
    assert await rig.count("alerts") == 1


async def test_alert_that_is_ending_is_left_to_who_holds_it(rig: Rig) -> None:
    """A row that another transaction has locked is skipped, not waited for."""
    one, two = made(rig), made(rig)
    await put(rig, one, two)
    later = KABUL + timedelta(days=3)
    async with rig.deps.database.transaction() as first:
        await store.load_alert(first, one.id)
        async with rig.deps.database.transaction() as second:
            found = await store.load_expired(second, now=later, limit=10)
    assert [alert.id for alert in found] == [two.id]


@pytest.mark.parametrize("tlp", list(Tlp))
async def test_sql_sees_what_the_rules_see(rig: Rig, tlp: Tlp) -> None:
    """For every role of every partner, list and rules agree on every alert: drafts, addressed or not, ended or not."""
    draft = made(rig, tlp=tlp, release=False)
    plain = made(rig, tlp=tlp)
    told = made(rig, tlp=tlp, to=("US",), for_information=("XR", "BR"))
    other = made(rig, tlp=tlp, raiser="US", to=("CA",))
    ended = domain.close(made(rig, tlp=tlp), note=None, by=by("CA", "second"), reason=None, now=KABUL).alert
    alerts = (draft, plain, told, other, ended)
    await put(rig, *alerts)
    seen_by_anybody = set()
    async with rig.deps.database.transaction() as tx:
        for partner, role in itertools.product(("CA", "US", "BR", "ES", "XR", "ZZ"), [None, *Role]):
            viewer = Viewer(partner, frozenset() if role is None else frozenset({role}))
            listed = {alert.id for alert in await reading.find_alerts(tx, viewer, Filters(), before=None, limit=99)}
            allowed = {alert.id for alert in alerts if access(viewer, alert) > Access.NONE}
            assert listed == allowed, (partner, role)
            seen_by_anybody |= listed
    assert seen_by_anybody == {alert.id for alert in alerts}


async def test_filters_and_pages(rig: Rig) -> None:
    """Filters narrow, pages follow each other without gap or repetition, the newest first."""
    alerts = [made(rig, precedence=Precedence.FLASH if n % 2 else Precedence.ROUTINE) for n in range(7)]
    drill = made(rig, status=Status.EXERCISE, note="Line test")
    await put(rig, *alerts, drill)
    viewer = Viewer("CA", frozenset({Role.DUTY_OFFICER}))
    async with rig.deps.database.transaction() as tx:
        pages, before = [], None
        while page := await reading.find_alerts(tx, viewer, Filters(status="Actual"), before=before, limit=3):
            pages.append(page)
            before = page[-1].id
        flat = [alert.id for page in pages for alert in page]
        assert flat == sorted((alert.id for alert in alerts), reverse=True)
        assert [len(page) for page in pages] == [3, 3, 1]
        flash = await reading.find_alerts(
            tx, viewer, Filters(precedence="FLASH", status="Actual"), before=None, limit=9
        )
        assert len(flash) == 3
        (one,) = await reading.find_alerts(tx, viewer, Filters(reference=drill.reference), before=None, limit=9)
        assert one.id == drill.id
        assert await reading.find_alerts(tx, viewer, Filters(raiser="US"), before=None, limit=9) == []
        (of_crisis,) = await reading.find_alerts(tx, viewer, Filters(crisis_id=drill.crisis_id), before=None, limit=9)
        assert of_crisis.id == drill.id


async def test_chain_is_found_oldest_first(rig: Rig) -> None:
    """The messages that an Update stands on, without unreleased siblings."""
    first = made(rig)
    chain = [first]
    for number in range(2):
        draft = domain.draft_update(
            chain[-1],
            proposal(to=None, precedence=None, countries=None, headline=f"Update {number}"),
            alert_id=AlertId(rig.deps.ids.new()),
            reference=f"RP-CA-2021-{next(_numbers):04d}",
            asks_anew=False,
            by=by("CA", "officer"),
            network=KNOWN,
            now=KABUL,
        )
        release = domain.release(
            draft,
            precedence=Precedence.FLASH,
            by=by("CA", "second"),
            network=KNOWN,
            now=KABUL,
            predecessor=chain[-1],
        )
        assert release.superseded is not None
        chain[-1:] = [release.superseded, release.alert]
    await put(rig, *chain)
    async with rig.deps.database.transaction() as tx:
        found = await reading.find_chain(tx, first.id, chain[-1].id)
    assert [alert.id for alert in found] == [alert.id for alert in chain[:-1]]


async def test_timeline_positions_follow_commits(rig: Rig) -> None:
    """A row that commits late gets a later position, so a reader who resumes never skips it."""
    alert = made(rig)
    await put(rig, alert)
    viewer = Viewer("CA", frozenset({Role.DUTY_OFFICER}))

    def entry() -> store.Entry:
        return store.Entry(rig.deps.ids.new(), alert.id, KABUL, "alert_drafted", "{}", ("CA",))

    early, late = entry(), entry()
    async with rig.deps.database.transaction() as slow:
        await store.add_entries(slow, [early])
        async with rig.deps.database.transaction() as fast:
            await store.add_entries(fast, [late])
        assert await rig.news.run_once() == 1
        async with rig.deps.database.transaction() as tx:
            found, head, _ = await reading.find_news(tx, viewer, after=Head(0, 0), limit=10)
        assert [one.id for one, _ in found] == [late.id]
    await rig.news.run_once()
    async with rig.deps.database.transaction() as tx:
        found, head, _ = await reading.find_news(tx, viewer, after=head, limit=10)
    assert [one.id for one, _ in found] == [early.id]
    assert head.position == 2


async def test_place_of_another_epoch_begins_at_the_start(rig: Rig) -> None:
    """After a restore from a backup nobody is left waiting for positions that were given out anew."""
    alert = made(rig)
    await put(rig, alert)
    viewer = Viewer("CA", frozenset({Role.DUTY_OFFICER}))
    async with rig.deps.database.transaction() as tx:
        await store.add_entries(tx, [store.Entry(rig.deps.ids.new(), alert.id, KABUL, "alert_drafted", "{}", ("CA",))])
    await rig.news.run_once()
    async with rig.deps.database.transaction() as tx:
        found, _, _ = await reading.find_news(tx, viewer, after=Head(41, 9_000), limit=10)
    assert len(found) == 1


async def test_confirm_removes_exactly_those_reported(rig: Rig) -> None:
    """Partners are taken off one report at a time, twice is once, strangers change nothing."""
    alert = made(rig)
    await put(rig, alert)
    for codes, left in [(["US", "FR"], {"GB", "DE"}), (["US"], {"GB", "DE"}), (["DE", "GB"], set()), (["US"], set())]:
        async with rig.deps.database.transaction() as tx:
            await store.confirm(tx, alert.id, codes)
        stored = await got(rig, alert)
        assert stored is not None
        assert stored.unconfirmed == left
        assert stored.version == alert.version


async def test_only_released_alerts_fall_due(rig: Rig) -> None:
    """Drafts and ended alerts never expire."""
    ended = domain.close(made(rig), note=None, by=by("CA", "second"), reason=None, now=KABUL).alert
    await put(rig, made(rig, release=False), ended)
    async with rig.deps.database.transaction() as tx:
        assert await store.load_expired(tx, now=KABUL + timedelta(days=999), limit=9) == []
        states = (await tx.execute(select(tables.alerts.c.state))).scalars().all()
    assert sorted(states) == [AlertState.CLOSED, AlertState.DRAFT]
