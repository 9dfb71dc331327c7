"""Contact points are verified over themselves; a provider that knows nobody there is believed at once."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from uuid import UUID

import pytest
import pytest_asyncio

from services.escalation.channels import AttemptState, Reason, SendResult
from services.escalation.verification import handlers as verification
from services.escalation.verification.handlers import CODE_VALID, Stage
from shared.contracts import ChannelName, DutyPlanPublished, PlannedPoint, Role
from shared.errors import Conflict, Forbidden, Invalid, NotFound
from shared.events import Cause
from shared.keys import fingerprints, point_context
from shared.security import Principal
from tests.support.cluster import Cluster
from tests.support.escalation_rig import REFUSED, Rig, escalation_rig, person, system

UNKNOWN = SendResult(AttemptState.FAILED, Reason.ADDRESS_UNKNOWN, "not in service", None, None, 0.01)
OWNER = person("GB")
KEEPER = person("GB", Role.ROSTER_MANAGER, number=2)
NUMBER = "+447700900001"


@pytest_asyncio.fixture
async def rig(cluster: Cluster, tmp_path: Path) -> AsyncIterator[Rig]:
    """Escalation that sends SMS beside webhooks."""
    async with escalation_rig(cluster, tmp_path, people=("sms",)) as built:
        yield built


async def planned(rig: Rig, *, version: int = 1, number: str = NUMBER, channel: str = "sms") -> PlannedPoint:
    """A plan of GB whose first person has one point, under the same id whatever its address is."""
    plan: DutyPlanPublished = rig.plan("GB", version=version)
    made = rig.point(NUMBER, ChannelName(channel), verified=False)
    moved = replaced(rig, made, number)
    contact = plan.contacts[0].model_copy(update={"points": (moved,), "languages": ("fr",)})
    await rig.handle(plan.model_copy(update={"contacts": (contact, *plan.contacts[1:])}))
    return moved


def replaced(rig: Rig, point: PlannedPoint, address: str) -> PlannedPoint:
    """The same point at another address."""
    return point.model_copy(update={"sealed_address": rig.keys.seal(address, context=point_context(point.id))})


async def ask(rig: Rig, point_id: UUID, principal: Principal = OWNER) -> verification.Verifying:
    """Asks for a code."""
    return await verification.start_verification(rig.deps, principal, point_id, cause=Cause(rig.ids.new()))


async def give(rig: Rig, point_id: UUID, code: str, principal: Principal = OWNER) -> verification.Verifying:
    """Returns a code."""
    return await verification.return_code(rig.deps, principal, point_id, code, cause=Cause(rig.ids.new()))


async def code_at(rig: Rig, number: str = NUMBER) -> str:
    """The code of the newest message to a number."""
    await rig.settle()
    sent = [page for page in rig.outlets["sms"].sent if page.target == number]
    assert sent[-1].message is not None
    (code,) = {str(found) for found in re.findall(r"\b[0-9]{6}\b", sent[-1].message.short)}
    return code


def other(code: str) -> str:
    """Another code."""
    return str((int(code) + 1) % 10**6).zfill(6)


async def test_the_code_that_arrives_verifies_the_point(rig: Rig) -> None:
    """It comes over that very point, in the owner's language, lies nowhere, and its return is announced once."""
    point = await planned(rig)
    asked = await ask(rig, point.id)
    assert (asked.stage, asked.code_valid_until) == (Stage.CODE_SENT, rig.clock.now() + CODE_VALID)
    code = await code_at(rig)
    (page,) = rig.outlets["sms"].sent
    assert page.message is not None
    assert (page.message_type, page.message.language) == ("contact_point.verification", "fr")
    assert (page.message.link, page.message.code) == (None, None)
    rows = await rig.rows("SELECT p::text AS p, v::text AS v FROM pages p, verifications v")
    assert not any(code in row[name] for row in rows for name in ("p", "v"))
    done = await give(rig, point.id, code)
    again = await give(rig, point.id, code)
    assert (done.stage, again.stage) == (Stage.VERIFIED, Stage.VERIFIED)
    (event,) = await rig.events("contact_point_verified")
    assert event["contact_point_id"] == str(point.id)
    assert event["fingerprint"] == fingerprints(rig.keys, point.id, NUMBER)[0]


async def test_five_wrong_codes_lock_it(rig: Rig) -> None:
    """Each is counted and recorded; after the fifth even the right one is refused, until another is asked for."""
    point = await planned(rig)
    await ask(rig, point.id)
    code = await code_at(rig)
    for left in (4, 3, 2, 1, 0):
        with pytest.raises(Invalid, match=f"{left} tr(y is|ies are) left"):
            await give(rig, point.id, other(code))
    with pytest.raises(Conflict) as refused:
        await give(rig, point.id, code)
    assert refused.value.code == "verification_locked"
    assert await rig.events("contact_point_verified") == []
    assert len(await rig.rows("SELECT 1 FROM record WHERE kind = 'contact_point.code_refused'")) == 5
    rig.clock.advance(60)
    await ask(rig, point.id)
    assert (await give(rig, point.id, await code_at(rig))).stage is Stage.VERIFIED


async def test_a_code_holds_for_half_an_hour_and_ends_the_one_before(rig: Rig) -> None:
    """One a minute, no more than twenty a day; an old code, and one that is too old, are refused."""
    point = await planned(rig)
    with pytest.raises(Conflict) as unasked:
        await give(rig, point.id, "123456")
    assert unasked.value.code == "verification_not_asked"
    await ask(rig, point.id)
    first = await code_at(rig)
    with pytest.raises(Conflict) as too_soon:
        await ask(rig, point.id)
    assert too_soon.value.code == "verification_just_sent"
    rig.clock.advance(60)
    await ask(rig, point.id)
    second = await code_at(rig)
    with pytest.raises(Invalid):
        await give(rig, point.id, first)
    rig.clock.advance(CODE_VALID.total_seconds() + 1)
    with pytest.raises(Conflict) as too_late:
        await give(rig, point.id, second)
    assert too_late.value.code == "verification_expired"
    for _ in range(verification.ASKED_PER_DAY_MAX - 2):
        await ask(rig, point.id)
        rig.clock.advance(60)
    with pytest.raises(Conflict) as too_many:
        await ask(rig, point.id)
    assert too_many.value.code == "verification_limit"
    rig.clock.advance(24 * 3600)
    assert (await ask(rig, point.id)).stage is Stage.CODE_SENT


async def test_a_code_verifies_only_where_it_was_sent(rig: Rig) -> None:
    """When the address has changed since, the code of the old one is worth nothing."""
    point = await planned(rig)
    await ask(rig, point.id)
    code = await code_at(rig)
    await planned(rig, version=2, number="+447700900999")
    with pytest.raises(Conflict) as refused:
        await give(rig, point.id, code)
    assert refused.value.code == "verification_expired"


async def test_who_may_verify_what(rig: Rig) -> None:
    """A person their own points, a roster manager those of office and systems; others' are not there at all."""
    point = await planned(rig)
    office = rig.point("gb-office").id
    for stranger in (person("GB", number=2), KEEPER, system("GB")):
        with pytest.raises(Forbidden) as refused:
            await ask(rig, point.id, stranger)
        assert refused.value.code == "not_your_contact_point"
    with pytest.raises(Forbidden) as refused:
        await ask(rig, office)
    assert refused.value.code == "role_missing"
    await rig.handle(rig.plan("FR"))
    for principal, point_id in ((person("FR"), point.id), (OWNER, rig.ids.new())):
        with pytest.raises(NotFound):
            await ask(rig, point_id, principal)
    assert rig.outlets["sms"].sent == []


async def test_a_system_verifies_itself_by_answering(rig: Rig) -> None:
    """A test message that is taken with 2xx verifies office webhooks and endpoints; one that is refused does not."""
    await planned(rig)
    office, endpoint = rig.point("gb-office").id, rig.plan("GB").endpoints[0].id
    assert (await ask(rig, office, KEEPER)).stage is Stage.VERIFIED
    assert rig.outlet.take() == [("test.ping", "gb-office")]
    rig.outlet.usual = REFUSED
    with pytest.raises(Conflict) as refused:
        await ask(rig, endpoint, KEEPER)
    assert refused.value.code == "endpoint_did_not_answer"
    assert [event["contact_point_id"] for event in await rig.events("contact_point_verified")] == [str(office)]
    with pytest.raises(Conflict) as no_code:
        await give(rig, office, "123456", KEEPER)
    assert no_code.value.code == "verification_not_asked"


async def test_a_channel_that_is_off_cannot_verify(rig: Rig) -> None:
    """A point whose channel nobody sends over is there, and says so."""
    point = await planned(rig, channel="voice")
    with pytest.raises(Conflict) as refused:
        await ask(rig, point.id)
    assert refused.value.code == "contact_point_unusable"


async def test_somebody_waits_for_the_code(rig: Rig) -> None:
    """A code is not held back to gather with pages to the same telephone."""
    point = await planned(rig)
    await rig.handle(rig.released("GB"))
    await rig.settle()
    await ask(rig, point.id)
    await rig.settle()
    assert [page.message_type for page in rig.outlets["sms"].sent] == ["alert.released", "contact_point.verification"]


# --- hard failures ----------------------------------------------------------------------------------------------------


async def test_a_provider_that_knows_nobody_there_is_believed_at_once(rig: Rig) -> None:
    """The first such failure is told, as final, and once; three of another kind are told as passing."""
    point = await planned(rig)
    rig.outlets["sms"].usual = UNKNOWN
    await rig.handle(rig.released("GB"))
    await rig.settle()
    (event,) = await rig.events("contact_point_failing")
    assert (event["contact_point_id"], event["hard"], event["failures"]) == (str(point.id), True, 1)
    assert event["reason"] == "address_unknown"
    await rig.forward(seconds=20)
    assert len(await rig.events("contact_point_failing")) == 1


async def test_that_it_is_final_is_news_once_more(rig: Rig) -> None:
    """A point that people were told is failing is told of again when nobody can be reached there any more."""
    await planned(rig)
    rig.outlets["sms"].usual = replace(UNKNOWN, reason=Reason.PROVIDER_UNAVAILABLE)
    await rig.handle(rig.released("GB"))
    await rig.settle()
    await rig.forward(seconds=5)
    rig.outlets["sms"].usual = UNKNOWN
    await rig.forward(seconds=20)
    assert [event["hard"] for event in await rig.events("contact_point_failing")] == [False, True]


async def test_what_a_provider_has_only_taken_heals_nothing_final(rig: Rig) -> None:
    """SENT is no sign that the address works; a code that came back is."""
    point = await planned(rig)
    rig.outlets["sms"].answers["+44"] = UNKNOWN
    await rig.handle(rig.released("GB"))
    await rig.settle()
    del rig.outlets["sms"].answers["+44"]
    await rig.forward(seconds=5)
    assert await rig.events("contact_point_recovered") == []
    rig.clock.advance(60)
    await ask(rig, point.id)
    await give(rig, point.id, await code_at(rig))
    assert await rig.rows("SELECT 1 FROM point_health") == []
