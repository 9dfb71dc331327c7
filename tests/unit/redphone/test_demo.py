"""The parts of a demonstration that need no server: scenarios, the network file, receivers, report, pictures."""

from __future__ import annotations

import asyncio
import contextlib
import tomllib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from io import StringIO
from typing import Any

import httpx
import pytest
import typer
from rich.console import Console
from rich.text import Text

from redphone import demo, demo_screen
from redphone.counterparts.telephone import PlacedCall, Spoken
from redphone.demo_channels import Heard
from redphone.demo_network import ON_DUTY, RELIEF, RELIEF_OFFICER, demonstration_network, written
from redphone.demo_receivers import FAILURES_FIRST, Receipt, Receivers
from redphone.demo_report import AFTER_ANSWER_GRACE, LAST_LEVEL, Facts, HoleSeen, ShiftChange, report_of
from redphone.demo_scenario import (
    CRISES,
    HOLE_AT,
    NORMAL,
    QUICK,
    Machine,
    Pace,
    Part,
    Scenario,
    Timeline,
    Via,
    Wakes,
    scenario,
)
from redphone.demo_screen import Line
from redphone.exits import Failed
from redphone.output import Output
from services.alerting.content import PARAMETER_CHARACTERS_MAX, PARAMETERS_MAX, URGENT_WORDS_MAX, word_count
from services.roster.network import NetworkFile, parse
from shared import webhooks
from shared.clock import SystemClock
from shared.contracts import Category, ChannelName, PositionStance, Precedence, ResponseType
from shared.egress import EgressPolicy
from shared.webhooks import SigningKey

DEVELOPMENT = EgressPolicy(allow_http=True, allow_loopback=True)
AT = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CODES = {"US", "AU", "CA", "ES", "IT", "NZ", "GB", "EU", "DE", "BR"}

every_crisis = pytest.mark.parametrize("played", [scenario(name) for name in CRISES], ids=CRISES)
each_pace = pytest.mark.parametrize("pace", [NORMAL, QUICK], ids=["normal", "quick"])


# --- scenarios --------------------------------------------------------------------------------------------------------


@every_crisis
def test_every_partner_but_the_raiser_has_one_part_with_an_end(played: Scenario) -> None:
    """Each crisis is played by all ten partners, and the end of each fits what wakes its people."""
    assert {*played.addressed, played.raiser} == CODES
    assert len(played.addressed) == len(CODES) - 1
    for part in played.parts:
        assert part.end.was_unreached == (not part.answers_in_time)
        assert (part.end.taken_over_by is not None) == (part.wakes is Wakes.NEVER)
        assert part.end.taken_over_by in (None, "XR", played.raiser)
        assert part.plays


@every_crisis
def test_a_crisis_shows_every_kind_of_partner(played: Scenario) -> None:
    """Each crisis has systems that are slow, fail first and hang, people of each level, late ones and silent ones."""
    assert {part.machine for part in played.parts} == set(Machine)
    assert {Wakes.LEVEL_1, Wakes.LEVEL_2, Wakes.LEVEL_3, Wakes.UNREACHED, Wakes.NEVER} <= {
        p.wakes for p in played.parts
    }
    assert {part.stance.value for part in played.parts if part.stance} <= {stance.value for stance in PositionStance}
    assert len({part.stance for part in played.parts}) >= 4


@every_crisis
def test_texts_stay_within_the_limits_of_an_urgent_alert(played: Scenario) -> None:
    """Alert and Update have at most 200 words, few enough parameters, and values that CAP knows."""
    for text in (played.alert, played.update):
        info = played.info(text)
        assert word_count(info["headline"], info["description"], info["instruction"]) <= URGENT_WORDS_MAX
        assert len(info["parameters"]) <= PARAMETERS_MAX
        assert all(len(entry["value"]) <= PARAMETER_CHARACTERS_MAX for entry in info["parameters"])
        assert {Category(value) for value in info["categories"]}
        assert {ResponseType(value) for value in info["response_types"]}
        assert info["web"].startswith("https://")
        assert not info["headline"].upper().startswith("EXERCISE"), "the service says so itself, once"
    assert played.draft()["status"] == "Exercise"
    assert played.draft()["note"]
    assert played.correction()["asks_anew"] is False


@every_crisis
def test_every_fact_of_an_alert_stands_in_its_timeline(played: Scenario) -> None:
    """Descriptions quote the timeline, each figure carries its day, and each source is named."""
    for text in (played.alert, played.update):
        info = played.info(text)
        named = {entry["value"] for entry in info["parameters"] if entry["name"] == "source"}
        for place in text.tells:
            happening = played.timeline.happenings[place]
            assert happening.text in info["description"]
            assert happening.source in named
            for name, value in happening.figures.items():
                expected = {"name": f"figure:{name}", "value": f"{value} as of {happening.at[:10]}"}
                assert expected in info["parameters"]
    assert max(played.alert.tells) < min(played.update.tells) < played.closing + len(played.update.tells)


def test_dernas_update_revises_the_death_toll_down() -> None:
    """The correction of Derna lowers a figure that the alert had given."""
    played = scenario("derna")
    told, revised = (
        [played.timeline.happenings[place].figures.get("fatalities", 0) for place in text.tells]
        for text in (played.alert, played.update)
    )
    assert max(told) == 11_300
    assert max(revised) == 4_255


@pytest.mark.parametrize("name", ["afghanistan-2021-08", "gaza-2023-10", "libya-derna-2023-09", "sudan-2023-04"])
def test_timelines_are_read_whole(name: str) -> None:
    """Every timeline of the package has a country, an alpha-3 geocode of it, and happenings with day and source."""
    timeline = Timeline.load(name)
    assert timeline.id == name
    assert ("iso3166-1-alpha-3", timeline.country) in timeline.geocodes
    for happening in timeline.happenings:
        assert happening.text
        assert happening.source.startswith("https://")
        assert happening.day


def test_a_month_without_a_day_is_written_as_a_month() -> None:
    """What is known to the month only is not given a day."""
    assert Timeline.load("libya-derna-2023-09").happenings[-1].day == "Nov 2024"


@each_pace
def test_whoever_answers_does_so_well_within_the_time_of_their_level(pace: Pace) -> None:
    """No part answers so late that the next level could be paged first, even on a slow machine."""
    slack_seconds = 1.75
    interval = pace.next_level_every_seconds
    for part in (part for name in CRISES for part in scenario(name).parts if part.answers_in_time):
        waits = {Wakes.MACHINE: pace.acknowledge_within_seconds, Wakes.LEVEL_1: pace.acknowledge_within_seconds}
        available = waits.get(part.wakes, interval)
        system = {Machine.SLOW: pace.slow_seconds, Machine.FAILS_FIRST: 2.0}.get(part.machine, 0.0)
        used = part.after * interval + (system if part.wakes is Wakes.MACHINE else 0.0)
        assert used <= available - slack_seconds, part.partner


# --- network file -----------------------------------------------------------------------------------------------------


def _network(pace: Pace = NORMAL) -> NetworkFile:
    return parse(demonstration_network("http://127.0.0.1:4711", pace).text, "network.toml", policy=DEVELOPMENT)


@each_pace
def test_the_network_file_is_valid_and_has_the_deadlines_of_the_pace(pace: Pace) -> None:
    """The demonstration's network file has no mistake, and its FLASH deadlines are those of the pace."""
    network = _network(pace)
    flash = network.deadlines()[Precedence.FLASH]
    assert flash.acknowledge_within_seconds == pace.acknowledge_within_seconds
    assert flash.next_level_every_seconds == pace.next_level_every_seconds
    assert flash.unreached_after_seconds == pace.unreached_after_seconds
    assert {state.partner.code for state in network.states()} == CODES | {"XR"}


def test_every_webhook_of_the_demonstration_stays_on_this_machine() -> None:
    """No endpoint and no webhook contact point of the demonstration's network leads anywhere else."""
    for state in _network().states():
        assert state.endpoints
        urls = [endpoint.url for endpoint in state.endpoints]
        points = [point for office in state.offices for point in office.points]
        points += [point for contact in state.contacts for point in contact.points]
        urls += [point.address for point in points if point.channel == "webhook"]
        assert all(url.startswith(f"http://127.0.0.1:4711/{state.partner.code}/") for url in urls)


def test_whoever_is_on_duty_has_a_credential_to_answer_with() -> None:
    """Each rota has exactly the contact on duty for whom the network file names a credential."""
    document = tomllib.loads(demonstration_network("http://127.0.0.1:4711", NORMAL).text)
    for partner in document["partners"].values():
        holders = {credential.get("contact") for credential in partner["credentials"].values()}
        for key, rota in partner["rotas"].items():
            assert {tuple(layer["participants"]) for layer in rota["layers"]} == {(ON_DUTY[key],)}
            assert ON_DUTY[key] in holders
            assert rota["notice_hours"] == []


@every_crisis
def test_whoever_relieves_an_officer_can_sign_for_it(played: Scenario) -> None:
    """One addressed partner's shift ends in the midst, another's rota has a hole; its hand-overs are to be signed."""
    assert HOLE_AT in played.addressed
    assert played.relieved in played.addressed
    assert played.relieved != HOLE_AT
    document = tomllib.loads(demonstration_network("http://127.0.0.1:4711", NORMAL, played.parts).text)
    partner = document["partners"][played.relieved]
    assert partner["credentials"][f"{played.relieved.lower()}-{RELIEF_OFFICER}"]["contact"] == RELIEF
    assert partner["rotas"]["duty"]["signs_hand_over"] is True


@each_pace
def test_a_shift_ends_after_level_1_was_paged_and_before_level_3_is(pace: Pace) -> None:
    """What is left of the shift at the release is more than nothing, and less than the wait for the last level."""
    assert 1 < pace.shift_left_seconds < pace.acknowledge_within_seconds
    assert pace.shift_left_seconds < pace.shift_ends_after_seconds


def test_whoever_answers_a_call_is_called_at_once_unless_messages_get_lost() -> None:
    """Two minutes are too long for a demonstration; where the call is to come early, they stay as they are."""
    parts = scenario("afghanistan").parts
    document = tomllib.loads(demonstration_network("http://127.0.0.1:4711", NORMAL, parts).text)
    delays = {
        code: partner["contacts"][part.answers_at]["points"]["voice"].get("delay_seconds")
        for part in parts
        for code, partner in document["partners"].items()
        if part.partner == code and part.via is Via.VOICE
    }
    assert delays == {"US": 120, "ES": None}


def test_a_message_says_how_it_is_answered() -> None:
    """The code is the number that the message repeats, the word the one before it; a year is neither."""
    text = "Released: March 2026. Open the link and enter the code 4821: http://x/a/t Or answer with: SÍ 4821"
    heard = _heard("ES", "email", 0, text)
    assert (heard.code, heard.reply, heard.asks) == ("4821", "SÍ 4821", True)
    assert not _heard("ES", "sms", 0, "The alert has ended.").asks


def test_toml_is_written_as_it_was_read() -> None:
    """What is written is read again as the same document, awkward names and texts included."""
    document: dict[str, Any] = {
        "number": 3,
        "share": 0.5,
        "on": True,
        "day": AT.date(),
        "hour": AT.time(),
        "text": 'a "quoted" \\ line\nand Ü, \x7f',
        "list": ["a", "b"],
        "empty": [],
        "table": {"with space": {"inner": 1}, "": "nameless"},
        "rows": [{"a": 1, "deep": {"b": [1, 2]}}, {"a": 2}],
    }
    assert tomllib.loads(written(document)) == document


def test_what_has_no_form_in_toml_is_refused() -> None:
    """A value that TOML does not know is a mistake, not a guess."""
    with pytest.raises(TypeError, match="bytes"):
        written({"key": b"raw"})


# --- receivers --------------------------------------------------------------------------------------------------------

KEY = SigningKey.generate()


async def _send(
    receivers: Receivers, client: httpx.AsyncClient, path: str, *, key: SigningKey = KEY, message_id: str = "page-1"
) -> int:
    body = webhooks.envelope("alert.released", AT, {"partner": "GB", "level": 1, "alert": {"id": "a"}})
    headers = webhooks.headers([key], message_id, SystemClock().now(), body)
    answer = await client.post(f"{receivers.url}{path}", content=body, headers=headers)
    return answer.status_code


def _receivers(seen: list[Receipt], **machines: Machine) -> Receivers:
    receivers = Receivers(SystemClock(), machines=machines, slow_seconds=0.01, on_receipt=seen.append)
    receivers.keys = [KEY.verifying_key]
    return receivers


async def test_a_good_message_is_accepted_and_its_second_copy_is_known() -> None:
    """A signed message is answered 200; the same id again is answered alike and counted as repeated."""
    seen: list[Receipt] = []
    async with _receivers(seen) as receivers, httpx.AsyncClient() as client:
        assert [await _send(receivers, client, "/GB/system") for _ in range(2)] == [200, 200]
    assert [receipt.repeated for receipt in seen] == [False, True]
    assert seen[0].refused is None
    assert (seen[0].partner, seen[0].place, seen[0].type, seen[0].level) == ("GB", "system", "alert.released", 1)


async def test_a_message_of_an_unknown_key_is_refused_and_remembered() -> None:
    """A signature of somebody else is answered 401, with the reason kept for the report."""
    seen: list[Receipt] = []
    async with _receivers(seen) as receivers, httpx.AsyncClient() as client:
        assert await _send(receivers, client, "/GB/system", key=SigningKey.generate()) == 401
    assert seen[0].refused == "signature_mismatch"


async def test_a_system_that_fails_first_then_works() -> None:
    """It answers 500 as often as said, then 200; the office beside it works all the time."""
    seen: list[Receipt] = []
    async with _receivers(seen, GB=Machine.FAILS_FIRST) as receivers, httpx.AsyncClient() as client:
        answers = [await _send(receivers, client, "/GB/system") for _ in range(FAILURES_FIRST + 1)]
        assert answers == [500] * FAILURES_FIRST + [200]
        assert await _send(receivers, client, "/GB/office") == 200
    assert not seen[FAILURES_FIRST].repeated, "what was refused before is no repetition"


async def test_a_system_that_is_down_says_so_and_one_that_is_slow_answers() -> None:
    """`down` is 503 each time, `slow` is 200 after its while."""
    seen: list[Receipt] = []
    machines = {"GB": Machine.DOWN, "DE": Machine.SLOW}
    async with _receivers(seen, **machines) as receivers, httpx.AsyncClient() as client:
        assert await _send(receivers, client, "/GB/system") == 503
        assert await _send(receivers, client, "/DE/system") == 200


async def test_a_system_that_hangs_has_the_message_and_never_answers() -> None:
    """The message is kept, with no status, and the sender waits until it gives up."""
    seen: list[Receipt] = []
    async with _receivers(seen, GB=Machine.HANGS) as receivers:
        async with httpx.AsyncClient(timeout=0.3) as client:
            with pytest.raises(httpx.ReadTimeout):
                await _send(receivers, client, "/GB/system")
        assert seen[0].status is None


@pytest.mark.parametrize("path", ["/", "/gb/system", "/GB/", "/GB/system/more", "/GB/..%2f"])
async def test_what_is_for_no_partner_is_counted_as_stray(path: str) -> None:
    """Other addresses are answered 404 and counted, so that the report can say so."""
    seen: list[Receipt] = []
    async with _receivers(seen) as receivers, httpx.AsyncClient() as client:
        assert await _send(receivers, client, path) == 404
        assert receivers.strays == 1
    assert not seen


@pytest.mark.parametrize(
    "raw",
    [
        b"\x00\x01\x02\r\n\r\n",
        b"POST /GB/system HTTP/1.1\r\nContent-Length: none\r\n\r\n",
        b"POST /GB/system HTTP/1.1\r\nContent-Length: 999999999\r\n\r\n",
        b"POST /GB/system HTTP/1.1\r\n" + b"X: y\r\n" * 10_000,
    ],
    ids=["no HTTP", "no number", "too long", "endless head"],
)
async def test_what_is_no_http_ends_its_connection_only(raw: bytes) -> None:
    """Garbage closes its own connection, and the next message is taken."""
    seen: list[Receipt] = []
    async with _receivers(seen) as receivers, httpx.AsyncClient() as client:
        reader, writer = await asyncio.open_connection("127.0.0.1", httpx.URL(receivers.url).port)
        writer.write(raw)
        async with asyncio.timeout(5):
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
        writer.close()
        assert await _send(receivers, client, "/GB/system") == 200


# --- report -----------------------------------------------------------------------------------------------------------


def _z(seconds: float) -> str:
    return (AT + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def _receipt(partner: str, type_: str, seconds: float, **more: Any) -> Receipt:
    fields: dict[str, Any] = {
        "place": "system",
        "message_id": "1",
        "level": 1,
        "asks_partner": partner,
        "alert_id": "a",
        "escalation_id": "e",
        "headline": "EXERCISE Kabul",
        "data": {},
        "status": 200,
        "refused": None,
        "repeated": False,
    }
    return Receipt(partner=partner, type=type_, at=AT + timedelta(seconds=seconds), **(fields | more))


def _cell(partner: str, state: str, level: int, **more: Any) -> dict[str, Any]:
    return {
        "id": partner,
        "partner": partner,
        "kind": "answer",
        "subject_partner": None,
        "state": state,
        "level": level,
        "levels": 3,
        "clock_started_at": _z(0),
        "acknowledgement": None,
        "position": None,
        "takeover": None,
        "last_attempt": None,
        "next_due_at": None,
        "next_due": None,
        "ended_at": None,
        "alert": {"id": "a", "raiser": "CA", "released_at": _z(0)},
        "pages": [],
        **more,
    }


def _heard(partner: str, channel: str, seconds: float, text: str = "EXERCISE FLASH", place: str = "duty-1") -> Heard:
    at = AT + timedelta(seconds=seconds)
    if channel != "voice":
        return Heard(ChannelName(channel), partner, place, text, at)
    language = "es-ES" if partner == "ES" else "en-GB"
    call = PlacedCall("twilio", "CA1", "+1", "+2", "", spoken=[Spoken(text, language, "voice")])
    return Heard(ChannelName.VOICE, partner, place, "", at, call=call)


def _heard_by(part: Part) -> list[Heard]:
    """The messages of one partner's people: an SMS, and a call where that is how they answer."""
    texts = [_heard(part.partner, "sms", 0.2, place=part.answers_at)]
    return texts + ([_heard(part.partner, "voice", 0.4, place=part.answers_at)] if part.via is Via.VOICE else [])


def _facts(played: Scenario) -> Facts:
    """Everything as the scenario says it should be."""
    cells, receipts, heard = [], [], list[Heard]()
    unreached, acknowledged = {}, {}
    for number, part in enumerate(played.parts):
        end, at_seconds = part.end, 2.0 + number
        receipts += [
            _receipt(part.partner, "alert.released", 0.1),
            _receipt(part.partner, "alert.updated", 19),
            _receipt(part.partner, "alert.ended", 25),
        ]
        said = {"at": _z(at_seconds), "by": "Avery Example", "late": end.late, "via": part.via.value}
        answer = said if end.state != "unreached" else None
        heard += _heard_by(part)
        position = {"stance": part.stance.value, "offer": part.offer} if part.stance else None
        takeover = {"partner": end.taken_over_by, "by": None} if end.taken_over_by else None
        cells.append(
            _cell(part.partner, end.state, end.level, acknowledgement=answer, position=position, takeover=takeover)
        )
        if end.was_unreached:
            unreached[part.partner] = AT + timedelta(seconds=18)
            for taker in (played.raiser, "XR"):
                data = {"unreached_partner": part.partner}
                receipts.append(_receipt(taker, "partner.unreached", 18.1, data=data))
        if answer:
            acknowledged[part.partner] = AT + timedelta(seconds=at_seconds)
            states = ["acknowledged", part.stance.value] if part.stance else ["acknowledged"]
            receipts += [
                _receipt(
                    played.raiser, "answer.received", 20, data={"answer": {"partner": part.partner, "state": state}}
                )
                for state in states
            ]
    hole = {"rota": "Duty officers", "begins_at": _z(7200), "ends_at": _z(36000), "severity": "alarm"}
    relieved = played.relieved
    receipts += [
        _receipt(HOLE_AT, "notice.issued", -3, data={"kind": "hole_ahead"}, place="office", headline=""),
        _receipt("XR", "notice.issued", -3, data={"kind": "hole_ahead_elsewhere"}, place="office", headline=""),
        _receipt(relieved, "alert.released", 0.1, place="duty-1"),
        *(_receipt(relieved, "level.raised", 12, level=3, place=place) for place in ("duty-1", RELIEF)),
        _receipt(relieved, "level.raised", 16, level=3, place=RELIEF),
        _receipt(relieved, "alert.updated", 19, place=RELIEF),
        *(_receipt(relieved, "alert.ended", 25, place=place) for place in ("duty-1", RELIEF)),
    ]
    acknowledged[relieved] = AT + timedelta(seconds=19)
    alert = {
        "id": "a",
        "reference": "RP-CA-2026-0001",
        "msg_type": "Alert",
        "state": "closed",
        "released_at": _z(0),
        "info": [{"headline": "EXERCISE Kabul"}],
    }
    return Facts(
        scenario=played,
        pace=NORMAL,
        names={code: code for code in CODES},
        receipts=receipts,
        heard=heard,
        languages={(part.partner, part.answers_at): ["es" if part.partner == "ES" else "en"] for part in played.parts},
        strays=0,
        cells=cells,
        ended=[_cell(partner, "ended", 1) for partner in played.addressed],
        details=cells,
        alerts=[alert],
        timeline=[{"at": _z(0), "type": "alert_released", "data": {}}],
        unreached_at=unreached,
        acknowledged_at=acknowledged,
        rotas=frozenset({"Duty officers"}),
        hole=HoleSeen(HOLE_AT, AT + timedelta(hours=2), AT + timedelta(hours=10), found=(hole,), left=()),
        change=ShiftChange(relieved, "duty-1", RELIEF, AT + timedelta(seconds=7), AT + timedelta(seconds=13)),
        seconds=30.0,
    )


def _broken(facts: Facts) -> str:
    report = report_of(facts)
    found = [f"{check['promise']}: {check['broken']}" for check in report["checks"] if not check["holds"]]
    assert report["passed"] == (not found)
    return "\n".join(found)


@every_crisis
def test_a_performance_that_went_as_it_should_passes(played: Scenario) -> None:
    """With every partner where the scenario wants it, every check holds."""
    assert _broken(_facts(played)) == ""


def test_a_partner_that_ended_otherwise_fails_the_report_by_name() -> None:
    """A wrong state or level names the partner, what it is and what it should be."""
    facts = _facts(scenario("afghanistan"))
    cells = [{**cell, "state": "notified", "level": 2} if cell["partner"] == "GB" else cell for cell in facts.cells]
    found = _broken(replace(facts, cells=cells))
    assert "GB: state is notified, not committed" in found
    assert "GB: level is 2, not 1" in found


def test_a_partner_without_an_escalation_fails_the_report() -> None:
    """A missing partner is a failure, not a gap in a table."""
    facts = _facts(scenario("afghanistan"))
    found = _broken(replace(facts, cells=[cell for cell in facts.cells if cell["partner"] != "DE"]))
    assert "DE: it has no escalation" in found


@pytest.mark.parametrize(
    ("receipt", "sentence"),
    [
        (_receipt("GB", "alert.released", 3, refused="signature_mismatch"), "GB system: signature_mismatch"),
        (_receipt("XR", "alert.released", 3), "XR system got alert.released"),
        (_receipt("GB", "partner.unreached", 3), "GB system got partner.unreached"),
        (_receipt("GB", "alert.released", 1, asks_partner="DE"), "GB system got a page of DE"),
        (
            _receipt("GB", "level.raised", 9, level=2, place="senior-1"),
            "GB senior contact got level.raised 7.0 s after",
        ),
        (_receipt("GB", "alert.released", 9), "GB system got alert.released 7.0 s after it had acknowledged"),
        (_receipt("BR", "level.raised", 7.9, level=2), "BR system was paged at level 2 0.10 s early"),
        (_receipt("BR", "level.raised", 11.9, level=3), "BR system was paged at level 3 0.10 s early"),
        (_receipt("GB", "alert.released", 1, headline="Kabul"), "GB system read: Kabul"),
        (_receipt("GB", "alert.released", 1, headline="EXERCISE EXERCISE Kabul"), "GB system read: EXERCISE EXERCISE"),
        (_receipt("GB", "alert.released", 1, place="duty-1"), "GB duty officer"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_one_message_too_many_fails_the_report(receipt: Receipt, sentence: str) -> None:
    """A message that should not have come, or not so, is named with whom it reached."""
    facts = _facts(scenario("afghanistan"))
    assert sentence in _broken(replace(facts, receipts=[*facts.receipts, receipt]))


def test_what_was_on_its_way_at_an_acknowledgement_is_no_fault() -> None:
    """A page that arrives within the grace after an acknowledgement was sent before it."""
    facts = _facts(scenario("afghanistan"))
    at = (facts.acknowledged_at["GB"] - AT + AFTER_ANSWER_GRACE).total_seconds()
    late = _receipt("GB", "alert.released", at)
    assert _broken(replace(facts, receipts=[*facts.receipts, late])) == ""


@pytest.mark.parametrize(
    ("missing", "sentence"),
    [
        ("alert.updated", "the correction reaches everybody who was paged"),
        ("alert.ended", "the stand-down reaches everybody who was paged"),
        ("answer.received", "the raiser's system is told of every answer"),
        ("partner.unreached", "raiser and secretariat are asked for each unreached partner"),
    ],
)
def test_one_message_too_few_fails_the_report(missing: str, sentence: str) -> None:
    """Each kind of message that should have come is missed by one check."""
    facts = _facts(scenario("afghanistan"))
    receipts = list(facts.receipts)
    receipts.remove(next(receipt for receipt in receipts if receipt.type == missing))
    assert sentence in _broken(replace(facts, receipts=receipts))


@pytest.mark.parametrize(
    ("heard", "sentence"),
    [
        (_heard("GB", "sms", 1, "FLASH from Canada"), "GB duty officer by SMS: FLASH from Canada"),
        (_heard("GB", "email", 1, "EXERCISE EXERCISE FLASH"), "GB duty officer by mail: EXERCISE EXERCISE"),
        (_heard("GB", "voice", 1, "Alert"), "GB duty officer by call: Alert"),
        (_heard("ES", "voice", 1, place="senior-1"), ""),
        (_heard("GB", "sms", 9, "EXERCISE FLASH: YES 4821"), "GB duty officer by SMS was asked 7.0 s after"),
        (replace(_heard("GB", "voice", 1), partner="ES", place="senior-1"), "ES senior contact by call heard en-GB"),
    ],
)
def test_a_message_to_a_person_that_is_not_as_it_should_be_fails_the_report(heard: Heard, sentence: str) -> None:
    """Without EXERCISE, with it twice, in another language than the reader's, or after the answer."""
    facts = _facts(scenario("afghanistan"))
    found = _broken(replace(facts, heard=[*facts.heard, heard]))
    assert sentence in found
    assert bool(found) == bool(sentence)


def test_an_answer_from_elsewhere_fails_the_report() -> None:
    """Whoever should have answered by SMS and did so through the API is named."""
    facts = _facts(scenario("afghanistan"))
    cells = [
        {**cell, "acknowledgement": {**cell["acknowledgement"], "via": "api"}} if cell["partner"] == "GB" else cell
        for cell in facts.cells
    ]
    assert "GB acknowledged by api, not sms" in _broken(replace(facts, cells=cells))


def test_a_call_that_waits_for_its_turn_after_a_lost_message_fails_the_report() -> None:
    """Where messages get lost, the call must follow at once, and there must be one."""
    facts = _facts(scenario("afghanistan"))
    others = [one for one in facts.heard if (one.partner, one.channel) != ("US", "voice")]
    assert "US got no call" in _broken(replace(facts, heard=others))
    assert "US was called only 9.8 s after" in _broken(replace(facts, heard=[*others, _heard("US", "voice", 10)]))


def test_a_notice_about_a_roster_is_part_of_no_alert() -> None:
    """It names a rota, and needs no EXERCISE; it is for those alone whose rota it is about, and the secretariat."""
    facts = _facts(scenario("afghanistan"))
    heard = _heard("NZ", "sms", 1, "Hand-over to sign: Duty officers, Sunday")
    assert _broken(replace(facts, heard=[*facts.heard, heard])) == ""
    stray = _receipt("GB", "notice.issued", 1, data={"kind": "shift_ahead"}, headline="")
    assert "GB system got notice.issued" in _broken(replace(facts, receipts=[*facts.receipts, stray]))


def test_a_hole_that_is_not_found_told_or_filled_fails_the_report() -> None:
    """Readiness must find the very hole, tell both before the alert, and find none once it is filled."""
    facts = _facts(scenario("afghanistan"))
    assert facts.hole is not None
    assert "there was none" in _broken(replace(facts, hole=None))
    assert "ES: readiness did not find it" in _broken(replace(facts, hole=replace(facts.hole, found=())))
    assert "still found one" in _broken(replace(facts, hole=replace(facts.hole, left=facts.hole.found)))
    late = [
        replace(one, at=AT + timedelta(seconds=1)) if one.notice_kind == "hole_ahead" else one for one in facts.receipts
    ]
    assert "ES was not told before the alert" in _broken(replace(facts, receipts=late))


def test_a_shift_change_that_is_not_honoured_fails_the_report() -> None:
    """Without a change after the release, without a page to the new officer, or with one to the wrong officer."""
    facts = _facts(scenario("afghanistan"))
    change = facts.change
    assert change is not None
    assert "no shift ended after the release" in _broken(replace(facts, change=replace(change, change_at=AT)))
    to_old = [one for one in facts.receipts if one.place != RELIEF]
    assert "NZ: second officer was never paged" in _broken(replace(facts, receipts=to_old))
    assert "no hand-over was signed" in _broken(replace(facts, change=replace(change, signed_at=None)))
    early = _receipt("NZ", "alert.released", 1, place=RELIEF)
    assert "before the change duty officer and second officer" in _broken(
        replace(facts, receipts=[*facts.receipts, early])
    )
    again = _receipt("NZ", "level.raised", 16, level=LAST_LEVEL, place="duty-1")
    assert "duty officer and second officer was paged after both had signed" in _broken(
        replace(facts, receipts=[*facts.receipts, again])
    )
    alone = [one for one in facts.receipts if (one.place, one.level) != ("duty-1", LAST_LEVEL)]
    assert "NZ: second officer was paged before both had signed" in _broken(replace(facts, receipts=alone))


def test_strays_and_open_escalations_fail_the_report() -> None:
    """Requests for nobody and an escalation that outlives its alert are faults."""
    facts = _facts(scenario("afghanistan"))
    found = _broken(replace(facts, strays=2, ended=[*facts.ended, _cell("NZ", "notified", 3)]))
    assert "2 requests were no messages" in found
    assert "NZ is notified" in found


def test_attempts_are_counted_with_their_reasons() -> None:
    """Accepted attempts are a number, failed ones are counted by what an operator would read."""
    attempts = [
        {"state": "failed", "reason": "http_status", "detail": "HTTP 500"},
        {"state": "failed", "reason": "http_status", "detail": "HTTP 500"},
        {"state": "failed", "reason": "connect_failed", "detail": "connection refused"},
        {"state": "delivered", "reason": "accepted", "detail": None},
        {"state": None, "reason": None, "detail": None},
    ]
    facts = _facts(scenario("afghanistan"))
    pages = [{"channel": "webhook", "attempts": attempts}, {"channel": "sms", "attempts": attempts[3:]}]
    report = report_of(replace(facts, details=[_cell("DE", "committed", 1, pages=pages)]))
    partner = next(partner for partner in report["partners"] if partner["partner"] == "DE")
    assert partner["attempts"] == {
        "accepted": 2,
        "by_channel": {"webhook": 1, "sms": 1},
        "failed": {"HTTP 500": 2, "connect failed": 1},
    }


# --- pictures ---------------------------------------------------------------------------------------------------------


def _drawn(thing: Any, width: int, *, colours: bool = False) -> list[str]:
    console = Console(
        file=StringIO(), width=width, force_terminal=colours, no_color=not colours, highlight=False, markup=False
    )
    with console.capture() as captured:
        console.print(thing)
    return captured.get().splitlines()


def _board_cells() -> list[dict[str, Any]]:
    tried = {"at": _z(1), "state": "failed", "reason": "http_status", "detail": "HTTP 503", "channel": "webhook"}
    due = {"next_due_at": _z(6), "next_due": "next_level"}
    answer = {"at": _z(8.7), "by": "Avery Example", "late": True, "via": "email"}
    return [
        _cell("GB", "notified", 1, last_attempt={**tried, "told": "endpoint Crisis desk system"}, **due),
        _cell("EU", "acknowledged", 2, acknowledgement=answer),
        _cell("NZ", "unreached", 3),
        _cell("BR", "unreached", 3, takeover={"partner": "XR", "by": None}),
        _cell("DE", "notified", 3, next_due_at=_z(9), next_due="unreached"),
    ]


@pytest.mark.parametrize("width", [80, 104, 140])
def test_the_board_fits_its_terminal_and_says_everything_in_words(width: int) -> None:
    """At every width no line is longer than the terminal, and each state stands there as a word."""
    names = {"GB": "United Kingdom", "EU": "European Commission", "NZ": "New Zealand"}
    lines = _drawn(
        demo_screen.board(_board_cells(), names, NORMAL, now=AT + timedelta(seconds=3), wide=width >= 104), width
    )
    text = "\n".join(lines)
    assert max(map(len, lines)) <= width
    for word in (
        "level 2 in 3 s",
        "HTTP 503",
        "in 8.7 s, late",
        "✔ by mail",
        "needs a person",
        "XR takes over",
        "unreached in 6 s",
    ):
        assert word in text
    assert "European Commission" in text


def test_what_a_partner_wrote_cannot_reach_the_terminal() -> None:
    """Control characters and markup of names and offers are shown as text, or not at all."""
    cell = _cell("GB", "committed", 1, position={"stance": "committed", "offer": "\x1b[2J[bold]200 places"})
    before = _cell("GB", "acknowledged", 1)
    screen = demo_screen.Screen(_Silent(), scenario("afghanistan"), NORMAL, {}, SystemClock())  # type: ignore[arg-type]
    for sentence in demo_screen.news_of(before, cell, "United Kingdom"):
        screen.tell(*sentence)
    [line] = _drawn(demo_screen.told(screen.lines), 80)
    assert "\x1b" not in line
    assert "[bold]200 places" in line


class _Silent:
    is_live = True


def test_a_change_is_told_once() -> None:
    """What has not changed is no news; an acknowledgement is."""
    before, after = _cell("GB", "notified", 1), _cell("GB", "acknowledged", 1)
    after["acknowledgement"] = {"at": _z(2), "by": "Avery Example", "late": False, "via": "sms"}
    assert list(demo_screen.news_of(before, before, "United Kingdom")) == []
    [sentence] = demo_screen.news_of(before, after, "United Kingdom")
    words = "".join(part if isinstance(part, str) else part[0] for part in sentence)
    assert "acknowledges by SMS" in words


@pytest.mark.parametrize("width", [80, 140])
def test_the_report_fits_its_terminal_and_names_what_failed(width: int) -> None:
    """The report keeps to the width, marks each check, and shows why one does not hold."""
    facts = _facts(scenario("afghanistan"))
    document = report_of(replace(facts, strays=1))
    lines = _drawn(demo_screen.report(document, wide=width >= 130), width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    assert "✔ nobody is paged for whom it was not" in text
    assert "✘ all" in text
    assert "1 requests were no messages" in text
    assert "1 of 17 checks do not hold" in text


def test_lines_carry_the_seconds_since_the_release() -> None:
    """Each line begins with its time; what came before the release has none."""
    [first, second] = _drawn(demo_screen.told([Line(None, Text("drafted")), Line(7.25, Text("answered"))]), 80)
    assert first.strip() == "drafted"
    assert second.split() == ["7.2", "s", "answered"]


# --- how the command ends ---------------------------------------------------------------------------------------------


async def _played(monkeypatch: pytest.MonkeyPatch, report: dict[str, Any] | None) -> None:
    async def perform(*_: object) -> dict[str, Any] | None:
        return report

    monkeypatch.setattr(demo, "_perform", perform)
    await demo.play(demo.DemoOptions(), Output(as_json=True))


async def test_a_report_that_does_not_pass_ends_the_command_with_its_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1 and the promise that broke, by name; a report that passes ends it silently."""
    facts = _facts(scenario("afghanistan"))
    await _played(monkeypatch, report_of(facts))
    with pytest.raises(Failed) as failed:
        await _played(monkeypatch, report_of(replace(facts, strays=1)))
    assert failed.value.exit_code == 1
    assert any("carry a good signature" in detail for detail in failed.value.details)


async def test_a_command_that_was_stopped_says_so_by_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """No report means that somebody stopped it: 130, never 0."""
    with pytest.raises(typer.Exit) as stopped:
        await _played(monkeypatch, None)
    assert stopped.value.exit_code == 130
