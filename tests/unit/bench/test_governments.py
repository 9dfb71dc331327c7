"""The partners that `bench roster` makes are ones that roster would take."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from bench.governments import governments
from services.roster import domain, schedule
from services.roster.schedule import Frequency

NOW = datetime(2026, 10, 20, 9, 30, tzinfo=UTC)


def test_governments_break_no_rule() -> None:
    """References, rotas and points are as an edit would have to be, for each of the zones; no id is there twice."""
    made = governments(9, 50, NOW)
    for government in made:
        state = government.state
        assert list(domain.reference_faults(state)) == []
        assert [fault for rota in state.rotas for fault in schedule.rota_faults(rota)] == []
        assert len(state.contacts) == 50
        assert {len(contact.points) for contact in state.contacts} == {3}
    ids = [point.id for one in made for contact in one.state.contacts for point in contact.points]
    assert len(set(ids)) == len(ids) == 9 * 150


def test_every_kind_of_rota_is_there_and_somebody_is_always_on_call() -> None:
    """Hours, days, weeks, a rule, restrictions, holidays, zones, deputies, overrides and a replacement; and no hole."""
    (government,) = governments(1, 50, NOW)
    rotas = government.state.rotas
    layers = [layer for rota in rotas for layer in rota.layers]
    assert len(rotas) == 5
    assert {layer.rotation.frequency for layer in layers} == set(Frequency)
    assert all(any(getattr(layer, name) for layer in layers) for name in ("restrictions", "time_zone", "deputies"))
    assert {layer.on_holidays for layer in layers} == set(schedule.OnHolidays)
    assert any(rota.overrides and rota.replacements and rota.signs_hand_over for rota in rotas)
    for rota in rotas:
        assert schedule.gaps(rota, NOW, NOW + timedelta(days=14)) == ()
