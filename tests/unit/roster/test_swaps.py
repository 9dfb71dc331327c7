from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.roster.domain import Contact, Partner, PartnerState
from services.roster.schedule import OVERRIDES_MAX, LayerId, Override, OverrideId, Rota, Shift
from services.roster.swaps import domain
from services.roster.swaps.domain import Stretch, Swap, SwapState
from shared.contracts import Standing
from shared.errors import Conflict
from shared.ids import ContactId, PartnerCode, RotaId

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
_IDS = UUID("00000000-0000-5000-8000-000000000000")


def person(name: str) -> ContactId:
    """A contact's id by a name."""
    return ContactId(uuid5(_IDS, name))


ANN, BOB, CAT = (person(name) for name in ("ann", "bob", "cat"))
LAYER = LayerId(uuid5(_IDS, "layer"))
ROTA = Rota(RotaId(uuid5(_IDS, "rota")), "Duty officers", "UTC")
OTHER = Rota(RotaId(uuid5(_IDS, "other")), "Senior contacts", "UTC")


def at(hours: float) -> datetime:
    """So many hours from now."""
    return NOW + timedelta(hours=hours)


def shift(who: ContactId, start: float, end: float) -> Shift:
    """A shift by hours from now."""
    return Shift(who, at(start), at(end), LAYER)


def stretch(start: float, end: float) -> Stretch:
    """A stretch by hours from now."""
    return Stretch(at(start), at(end))


def swap(to: ContactId | None = BOB, *, back: Stretch | None = None, given: Stretch | None = None) -> Swap:
    """Ann offers ten hours of tomorrow."""
    code = PartnerCode("CA")
    return Swap(uuid5(_IDS, "swap"), code, ROTA.id, ANN, to, given or stretch(24, 34), back, offered_at=NOW)


def state(overrides: int = 0, *, begin: float = -48) -> PartnerState:
    """A partner with the rota and so many overrides, of the past unless they begin later."""
    laid = tuple(
        Override(OverrideId(uuid5(_IDS, str(place))), BOB, at(begin + place / 60), at(begin + (place + 1) / 60))
        for place in range(overrides)
    )
    rota = Rota(ROTA.id, ROTA.name, "UTC", overrides=laid)
    partner = Partner(PartnerCode("CA"), "Canada", Standing.MEMBER, "UTC")
    contacts = tuple(Contact(one, str(one)) for one in (ANN, BOB, CAT))
    return PartnerState(partner, contacts=contacts, rotas=(rota, OTHER))


@given(
    st.lists(st.tuples(st.sampled_from([ANN, BOB, None]), st.integers(1, 6)), max_size=8),
    st.integers(0, 20),
    st.integers(1, 20),
)
def test_holding_is_being_on_call_in_every_hour(
    pieces: list[tuple[ContactId | None, int]], start: int, length: int
) -> None:
    """Whatever the shifts look like: a stretch is held if each of its hours is, looked at one by one."""
    shifts: list[Shift] = []
    holder: dict[int, ContactId | None] = {}
    reached = 0
    for who, hours in pieces:
        if who is not None:
            shifts.append(shift(who, reached, reached + hours))
        holder |= dict.fromkeys(range(reached, reached + hours), who)
        reached += hours
    wanted = all(holder.get(hour) == ANN for hour in range(start, start + length))
    assert domain.holds(shifts, ANN, stretch(start, start + length)) is wanted


def test_an_offer_is_over_when_the_first_of_its_stretches_begins() -> None:
    """The return may come first; a final state stays what it is."""
    offered = swap(back=stretch(10, 12))
    assert offered.expires_at == at(10)
    assert offered.state_at(at(9.99)) is SwapState.OFFERED
    assert offered.state_at(at(10)) is SwapState.EXPIRED
    assert domain.accepted(offered, BOB, now=NOW).state_at(at(10)) is SwapState.ACCEPTED


@pytest.mark.parametrize(
    ("moved", "code"),
    [
        (domain.accepted(swap(), BOB, now=NOW), "swap_accepted"),
        (domain.declined(swap(), BOB, [], now=NOW), "swap_declined"),
        (domain.ended(swap(), SwapState.WITHDRAWN, now=NOW), "swap_withdrawn"),
        (domain.ended(swap(), SwapState.EXPIRED, now=NOW), "swap_expired"),
    ],
)
def test_a_swap_that_is_over_names_its_state(moved: Swap, code: str) -> None:
    """The refusal's code is the state, and each move counts the version up once."""
    with pytest.raises(Conflict) as refused:
        domain.require_open(moved, now=NOW)
    assert (refused.value.code, moved.version) == (code, 2)


def test_an_open_offer_is_declined_when_all_have_said_no() -> None:
    """The offerer is not asked; the same person twice counts once."""
    once = domain.declined(swap(None), BOB, [ANN, BOB, CAT], now=NOW)
    twice = domain.declined(once, BOB, [ANN, BOB, CAT], now=NOW)
    assert (once.state, twice.declined_by) == (SwapState.OFFERED, (BOB,))
    assert domain.declined(twice, CAT, [ANN, BOB, CAT], now=NOW).state is SwapState.DECLINED


def test_each_taker_is_looked_up_in_the_other_rotas() -> None:
    """The accepter in the stretch, the offerer in the return; the swap's own rota does not count."""
    given, back = (
        [(ROTA.id, (shift(BOB, 24, 34),)), (OTHER.id, (shift(CAT, 24, 34),))],
        [(ROTA.id, (shift(ANN, 48, 58),)), (OTHER.id, (shift(ANN, 50, 51),))],
    )
    names = {ROTA.id: ROTA.name, OTHER.id: OTHER.name}
    assert domain.double_duties(names, (BOB, ANN), [given], ROTA.id) == ()
    assert domain.double_duties(names, (CAT, ANN), [given], ROTA.id) == ("Senior contacts",)
    assert domain.double_duties(names, (BOB, ANN), [given, back], ROTA.id) == ("Senior contacts",)


def test_both_must_hold_what_they_give() -> None:
    """The refusal tells whose stretch is not theirs."""
    offered = swap(back=stretch(48, 58))
    own, theirs = [shift(ANN, 20, 40)], [shift(BOB, 40, 60)]
    domain.require_held(offered, BOB, [own, theirs])
    for held, who in (([theirs, theirs], "whoever offers"), ([own, own], "the other one")):
        with pytest.raises(Conflict, match=who):
            domain.require_held(offered, BOB, held)


def test_the_overrides_lie_over_what_is_there() -> None:
    """One for each stretch, after those that are there, crosswise; not beyond the limit of the rota."""
    ids = [OverrideId(uuid5(_IDS, name)) for name in ("first", "second")]
    offered = swap(back=stretch(48, 58))
    after = domain.with_overrides(state(3), offered, BOB, ids, now=NOW)
    made = after.rotas[0].overrides[3:]
    assert [(one.contact_id, one.start_at, one.end_at) for one in made] == [
        (BOB, at(24), at(34)),
        (ANN, at(48), at(58)),
    ]
    assert after.rotas[1] == OTHER
    domain.with_overrides(state(OVERRIDES_MAX - 2, begin=1), offered, BOB, ids, now=NOW)
    with pytest.raises(Conflict) as refused:
        domain.with_overrides(state(OVERRIDES_MAX - 1, begin=1), offered, BOB, ids, now=NOW)
    assert refused.value.code == "too_many_overrides"


def test_overrides_that_are_over_make_room_for_a_swap() -> None:
    """A rota full of what is past refuses no swap: as many of the oldest go as come."""
    ids = [OverrideId(uuid5(_IDS, name)) for name in ("first", "second")]
    full = state(OVERRIDES_MAX)
    after = domain.with_overrides(full, swap(back=stretch(48, 58)), BOB, ids, now=NOW).rotas[0].overrides
    assert (len(after), after[:-2]) == (OVERRIDES_MAX, full.rotas[0].overrides[2:])
    assert [one.id for one in after[-2:]] == ids
