"""The network file: the one that is shipped, hostile ones, and what the messages say."""

from __future__ import annotations

import time as stopwatch
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.roster import domain, network, publication, schedule
from services.roster.network import Kind, NetworkFile, NetworkFileError, parse
from services.roster.readiness.checks import findings_of
from services.roster.readiness.findings import Facts, FindingCode
from services.roster.schedule import Frequency
from shared.contracts import DEFAULT_DEADLINES, ChannelName, CredentialKind, Precedence, Role, Standing
from shared.egress import EgressPolicy

DEVELOPMENT = EgressPolicy(allow_http=True, allow_loopback=True)
SHIPPED = Path(__file__).parents[3] / "network" / "rdn.toml"
FIXED_DAY = datetime(2026, 6, 1, tzinfo=UTC)
ZONES = {
    "US": "America/New_York",
    "AU": "Australia/Sydney",
    "CA": "America/Toronto",
    "ES": "Europe/Madrid",
    "IT": "Europe/Rome",
    "NZ": "Pacific/Auckland",
    "GB": "Europe/London",
    "EU": "Europe/Brussels",
    "DE": "Europe/Berlin",
    "BR": "America/Sao_Paulo",
    "XR": "Etc/UTC",
}
CANADA = """
[partners.CA]
name = "Canada"
standing = "member"
time_zone = "America/Toronto"

[partners.CA.offices.main]
name = "Watch"

[partners.CA.contacts.duty-1]
name = "Ann Example"
points.sms = { channel = "sms", address = "+16135550101" }

[partners.CA.rotas.duty]
name = "Duty"

[[partners.CA.rotas.duty.layers]]
rotation = "weekly"
every = 2
participants = ["duty-1"]
starts_on = "2026-01-05"
hand_over_time = "08:30"

[[partners.CA.levels]]
targets = ["rota:duty"]

[partners.CA.endpoints.main]
url = "https://redphone.ca.example/webhook"

[partners.CA.credentials.ca-duty]
kind = "person"
contact = "duty-1"
roles = ["duty_officer"]
"""


@pytest.fixture(scope="module")
def shipped() -> NetworkFile:
    """The network file of the repository."""
    return parse(SHIPPED.read_text(encoding="utf-8"), "network/rdn.toml")


def problems(text: str) -> list[tuple[int, str, str]]:
    """Line, key and message of each mistake in a text, none if it is a good network file."""
    try:
        parse(text, "network.toml")
    except NetworkFileError as error:
        return [(problem.line, problem.key, problem.message) for problem in error.problems]
    return []


def line_of(text: str, fragment: str) -> int:
    """The line on which a fragment stands first."""
    return text[: text.index(fragment)].count("\n") + 1


# --- the shipped file -------------------------------------------------------------------------------------------------


def test_the_shipped_file_holds_the_real_network(shipped: NetworkFile) -> None:
    """Ten partners and the secretariat, with their standings and time zones, and deadlines for each precedence."""
    states = {state.partner.code: state for state in shipped.states()}
    assert {code: state.partner.time_zone for code, state in states.items()} == ZONES
    by_standing = {
        standing: {code for code, state in states.items() if state.partner.standing is standing}
        for standing in Standing
    }
    assert by_standing[Standing.SECRETARIAT] == {"XR"}
    assert by_standing[Standing.PARTICIPATING] == {"DE", "BR"}
    assert len(by_standing[Standing.MEMBER]) == 8
    assert shipped.deadlines() == DEFAULT_DEADLINES
    assert {code: state.partner.iso3 for code, state in states.items() if code in ("GB", "EU", "XR")} == {
        "GB": "GBR",
        "EU": None,
        "XR": None,
    }


@pytest.mark.parametrize("code", list(ZONES))
def test_every_partner_can_answer(shipped: NetworkFile, code: str) -> None:
    """Each partner has an office, two levels at least, an endpoint, and every credential that the work needs."""
    state = next(state for state in shipped.states() if state.partner.code == code)
    assert list(domain.reference_faults(state)) == []
    assert state.offices
    assert len(state.policy.levels) >= 2
    assert state.endpoints
    roles = {role for credential in state.credentials for role in credential.roles}
    assert roles >= {Role.DUTY_OFFICER, Role.SENIOR_CONTACT, Role.ROSTER_MANAGER}
    if code == "XR":
        assert roles >= {Role.SECRETARIAT, Role.ADMINISTRATOR, Role.AUDITOR}
    else:
        releasers = {credential.subject for credential in state.credentials if Role.RELEASER in credential.roles}
        officers = {credential.subject for credential in state.credentials if Role.DUTY_OFFICER in credential.roles}
        assert releasers
        assert not releasers & officers
    assert any(credential.kind is CredentialKind.SYSTEM for credential in state.credentials)
    for contact in state.contacts:
        if any(contact.id in layer.participants for rota in state.rotas for layer in rota.layers):
            assert {ChannelName.WEBHOOK, ChannelName.EMAIL, ChannelName.VOICE} <= {p.channel for p in contact.points}


@pytest.mark.parametrize("code", list(ZONES))
def test_every_partner_is_covered_for_a_year(shipped: NetworkFile, code: str) -> None:
    """No rota of any partner has a minute without somebody on call, or a deputy, in the year after a fixed date."""
    state = next(state for state in shipped.states() if state.partner.code == code)
    assert len(state.rotas) >= 2
    for rota in state.rotas:
        assert rota.time_zone == ZONES[code]
        shifts = schedule.shifts(rota, FIXED_DAY, FIXED_DAY + timedelta(days=366))
        assert schedule.gaps(rota, FIXED_DAY, FIXED_DAY + timedelta(days=366)) == ()
        assert all(shift.deputy_id not in (None, shift.contact_id) for shift in shifts)
        assert len({shift.contact_id for shift in shifts}) >= 2


DAYS = {
    "Christmas": "2026-12-20",
    "New Year": "2026-12-30",
    "clocks of America go forward": "2027-03-10",
    "clocks of Europe go forward": "2027-03-25",
    "clocks of Sydney and Auckland go back": "2027-04-01",
    "summer": "2027-07-01",
    "clocks of Auckland go forward": "2026-09-24",
    "clocks of Sydney go forward": "2026-10-01",
    "clocks of Europe and America go back": "2026-10-21",
}


@pytest.mark.parametrize("day", DAYS.values(), ids=DAYS.keys())
def test_readiness_of_the_shipped_file_lacks_only_what_nobody_can_know_yet(shipped: NetworkFile, day: str) -> None:
    """On every date: no hole, nobody on two duties, a deputy in every shift, two ways to everybody, no rota at its end.
    Only points that nobody has verified, and systems that no heartbeat has reached, are missing.
    """
    facts = Facts(carriers={channel: channel.value for channel in ChannelName})
    now = datetime.fromisoformat(f"{day}T05:30:00+00:00")
    for state in shipped.states():
        found = {finding.code for finding in findings_of(state, facts, now)}
        assert found == {FindingCode.UNVERIFIED_POINT, FindingCode.ENDPOINT_UNCHECKED}, state.partner.code


@pytest.mark.parametrize("day", DAYS.values(), ids=DAYS.keys())
def test_nobody_in_the_shipped_file_has_two_duties_at_once(shipped: NetworkFile, day: str) -> None:
    """Counted without readiness: in each hour of 14 days every holder and every deputy is somebody else."""
    begin = datetime.fromisoformat(f"{day}T05:30:00+00:00")
    for state in shipped.states():
        duties = [shift for rota in state.rotas for shift in schedule.shifts(rota, begin, begin + timedelta(days=14))]
        for hour in range(14 * 24):
            at = begin + timedelta(hours=hour)
            now = [shift for shift in duties if shift.start_at <= at < shift.end_at]
            people = [one for shift in now for one in (shift.contact_id, shift.deputy_id)]
            assert len(people) == len(set(people)) == 2 * len(state.rotas), (state.partner.code, at)


def test_the_shipped_file_shows_what_rotas_can_do(shipped: NetworkFile) -> None:
    """Every kind of turn, hours, holidays, zones and signatures are in use, and every policy pages the deputy."""
    rotas = {str(state.partner.code): state.rotas[0] for state in shipped.states()}
    layers = [layer for rota in rotas.values() for layer in rota.layers]
    assert {layer.rotation.frequency for layer in layers} == set(Frequency)
    assert {layer.on_holidays for layer in layers} == set(schedule.OnHolidays)
    assert any(layer.time_zone for layer in layers)
    assert any(layer.restrictions for layer in layers)
    assert {code for code, rota in rotas.items() if rota.signs_hand_over} == {"CA", "GB", "DE", "XR"}
    assert rotas["EU"].holiday_calendar == "EU"
    for state in shipped.states():
        targets = [target for level in state.policy.levels for target in level.targets]
        assert any(target.deputy and target.id == rotas[state.partner.code].id for target in targets)


@pytest.mark.parametrize(
    ("code", "sunday", "expected"),
    [
        ("AU", "2026-10-04", "2026-10-03T16:00:00+00:00"),
        ("AU", "2027-04-04", "2027-04-03T15:30:00+00:00"),
        ("NZ", "2026-09-27", "2026-09-26T14:00:00+00:00"),
        ("NZ", "2027-04-04", "2027-04-03T13:30:00+00:00"),
    ],
)
def test_a_week_that_begins_at_half_past_two_begins_once(
    shipped: NetworkFile, code: str, sunday: str, expected: str
) -> None:
    """Where 02:30 is jumped over the week begins at 03:00, where it comes twice at the first."""
    state = next(state for state in shipped.states() if state.partner.code == code)
    around = datetime.fromisoformat(f"{sunday}T00:00:00+00:00")
    shifts = schedule.shifts(state.rotas[0], around - timedelta(days=2), around + timedelta(days=2))
    assert [shift.start_at.isoformat() for shift in shifts[1:]] == [expected]


def test_the_people_of_the_shipped_file_are_invented(shipped: NetworkFile) -> None:
    """Addresses are of `.example`, telephone numbers of ranges reserved for fiction or of a country code nobody has."""
    fictional = ("+120255501", "+161355501", "+614915", "+612555000", "+447700900", "+442079460", "+999")
    for state in shipped.states():
        owners: list[domain.DutyOffice | domain.Contact] = [*state.offices, *state.contacts]
        points = [point for owner in owners for point in owner.points]
        assert all(
            point.address.startswith(fictional)
            if point.channel in (ChannelName.SMS, ChannelName.VOICE)
            else ".example" in point.address
            for point in points
        )
        assert all(str(office.switchboard).startswith(fictional) for office in state.offices)
        assert all(".example/" in endpoint.url for endpoint in state.endpoints)


def test_the_shipped_file_makes_duty_plans(shipped: NetworkFile) -> None:
    """Every partner of the file has a duty plan in which every level leads to somebody."""
    for state in shipped.states():
        plan = publication.duty_plan(
            state, shipped.deadlines(), plan_version=1, now=FIXED_DAY, seal=lambda _, address: f"sealed {len(address)}"
        )
        rotas = {rota.id: rota for rota in plan.rotas}
        for level in plan.levels:
            assert all(rotas[target.id].shifts for target in level.targets if target.kind == "rota")
        assert len(plan.levels) >= 2


# --- reading ----------------------------------------------------------------------------------------------------------


def test_what_the_file_says_is_what_is_read() -> None:
    """A small file gives the partner it describes; a rota without a zone has the partner's, dates may be in quotes."""
    (state,) = parse(CANADA, "network.toml").states()
    (rota,) = state.rotas
    assert rota.time_zone == "America/Toronto"
    assert rota.layers[0].rotation == schedule.Rotation(Frequency.WEEKLY, 2)
    assert (rota.layers[0].starts_on, rota.layers[0].hand_over_time) == (date(2026, 1, 5), time(8, 30))
    assert rota.layers[0].participants == (state.contacts[0].id,)
    assert state.contacts[0].points[0].address == "+16135550101"
    assert state.policy.levels[0].targets[0].id == rota.id
    assert state.credentials[0].name == "Ann Example"
    assert state.credentials[0].contact_id == state.contacts[0].id


RICH = """
holiday_calendar = "CA-QC"
extra_holidays = { 2026-11-30 = "Founding day", 2026-06-24 = "St John" }
signs_hand_over = true
notice_hours = [48, 2]

[[partners.CA.rotas.duty.layers]]
name = "nights"
rotation = "rule"
rule = "FREQ=WEEKLY;BYDAY=MO,FR"
participants = ["duty-1", "duty-2"]
deputies = ["duty-2"]
starts_on = "2026-01-05"
hand_over_time = "20:00"
time_zone = "America/Halifax"
on_holidays = "never"
restrictions = [
    { weekdays = ["su", "mo"], from_time = "20:00", until_time = "06:00" },
    { from_time = 12:00:00, until_time = 13:00:00 },
]
"""


def rich() -> str:
    """The small file with everything that a rota can say, and a level that pages the deputy."""
    second = '[partners.CA.contacts.duty-2]\nname = "Bea Example"\n\n[partners.CA.rotas.duty]\nname = "Duty"' + RICH
    text = CANADA.replace('[partners.CA.rotas.duty]\nname = "Duty"', second)
    return text.replace('"rota:duty"', '"rota:duty", "rota:duty/deputy"')


def test_everything_that_a_rota_can_say_is_read() -> None:
    """Rules, deputies, zones, restrictions, holidays, notices and signed hand-overs; a rota's deputy as a target."""
    (state,) = parse(rich(), "network.toml").states()
    (rota,) = state.rotas
    nights = rota.layers[0]
    first, second = (contact.id for contact in state.contacts)
    assert nights.rotation == schedule.Rotation(Frequency.RULE, rule="FREQ=WEEKLY;BYDAY=MO,FR")
    assert (nights.participants, nights.deputies) == ((first, second), (second,))
    assert (nights.time_zone, nights.on_holidays) == ("America/Halifax", schedule.OnHolidays.NEVER)
    assert nights.restrictions == (
        schedule.Restriction(time(20), time(6), (7, 1)),
        schedule.Restriction(time(12), time(13)),
    )
    assert rota.holiday_calendar == "CA-QC"
    assert [(holiday.on, holiday.name) for holiday in rota.extra_holidays] == [
        (date(2026, 6, 24), "St John"),
        (date(2026, 11, 30), "Founding day"),
    ]
    assert (rota.signs_hand_over, rota.notice_hours) == (True, (48, 2))
    assert [target.deputy for target in state.policy.levels[0].targets] == [False, True]
    item = next(item for item in parse(rich(), "n").items if item.kind is Kind.ROTA)
    assert second in dict(item.references)


def test_holidays_of_a_rota_are_the_partners_own_unless_it_says_otherwise() -> None:
    """Left out they are those of its country, `none` is none, and a partner without a country has none."""
    assert parse(CANADA, "n").states()[0].rotas[0].holiday_calendar == "CA"
    none = CANADA.replace('name = "Duty"', 'name = "Duty"\nholiday_calendar = "none"')
    assert parse(none, "n").states()[0].rotas[0].holiday_calendar is None
    secretariat = CANADA.replace("partners.CA", "partners.XR").replace("member", "secretariat")
    assert parse(secretariat, "n").states()[0].rotas[0].holiday_calendar is None


def test_of_a_wrong_rotation_nothing_else_is_said() -> None:
    """What is right for `every` and `rule` hangs on the rotation: if that is wrong, it is the one mistake."""
    wrong = CANADA.replace('rotation = "weekly"', 'rotation = "hurly"\nrule = "FREQ=DAILY"').replace("= 2", "= 100")
    assert [key for _, key, _ in problems(wrong)] == ["partners.CA.rotas.duty.layers[0].rotation"]


def test_the_network_may_want_alerts_read_back() -> None:
    """`read_back` is true or false, false if it is not said, and nothing else."""
    head = "format = 1\n[deadlines.FLASH]\nacknowledge_within_seconds = 600\nunreached_after_seconds = 1800\n"
    text = f"{head}position_within_seconds = 7200\n"
    assert not parse(text, "n.toml").deadlines()[Precedence.FLASH].read_back
    assert parse(f"{text}read_back = true\n", "n.toml").deadlines()[Precedence.FLASH].read_back
    with pytest.raises(NetworkFileError) as refused:
        parse(f"{text}read_back = 1\n", "n.toml")
    assert "true or false" in str(refused.value.problems[0])


def test_ids_are_the_same_every_time() -> None:
    """Reading the same keys again gives the same ids, whatever else has changed; another key gives another id."""
    first = {item.key: item.id for item in parse(CANADA, "a").items}
    again = {item.key: item.id for item in parse(CANADA.replace("Ann Example", "Eve Example"), "b").items}
    assert first == again
    assert len(set(first.values())) == len(first)
    renamed = {item.key: item.id for item in parse(CANADA.replace("duty-1", "duty-9"), "c").items}
    assert renamed["partners.CA.contacts.duty-9"] != first["partners.CA.contacts.duty-1"]


def test_items_stand_in_an_order_in_which_they_can_be_written(shipped: NetworkFile) -> None:
    """Nothing refers to an item that comes after it."""
    seen = set()
    for item in shipped.items:
        assert all(reference in seen for reference, _ in item.references), item.key
        seen.add(item.id)
    kinds = [list(Kind).index(item.kind) for item in shipped.items]
    assert kinds == sorted(kinds)


# --- mistakes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "key", "message"),
    [
        ('name = "Canada"', "name = 3", "partners.CA.name", "text in quotes"),
        ('name = "Canada"', "", "partners.CA.name", "is not there"),
        ('standing = "member"', 'standing = "membr"', "partners.CA.standing", "did you mean member?"),
        ('standing = "member"', 'standing = "secretariat"', "partners.CA.standing", "use member"),
        ("time_zone", "timezone", "partners.CA.timezone", "did you mean time_zone?"),
        ("America/Toronto", "America/Ottawa", "partners.CA.time_zone", "Europe/Madrid"),
        ("[partners.CA.offices.main]", "[partners.CA.ofices.main]", "partners.CA.ofices", "did you mean offices?"),
        ('channel = "sms"', 'channel = "smss"', "partners.CA.contacts.duty-1.points.sms.channel", "did you mean sms"),
        ("+16135550101", "613-555", "partners.CA.contacts.duty-1.points.sms.address", "E.164"),
        ('rotation = "weekly"', "rotation = 7", "partners.CA.rotas.duty.layers[0].rotation", "daily, weekly"),
        ("every = 2", "every = 0", "partners.CA.rotas.duty.layers[0].every", "1 to 52"),
        ("every = 2", "every = true", "partners.CA.rotas.duty.layers[0].every", "whole number"),
        ("every = 2", "evry = 2", "partners.CA.rotas.duty.layers[0].evry", "did you mean every?"),
        ('["duty-1"]', '["duty-2"]', "partners.CA.rotas.duty.layers[0].participants[0]", "did you mean duty-1?"),
        ('["duty-1"]', "[]", "partners.CA.rotas.duty.layers[0].participants", "1 to 100"),
        ('["duty-1"]', "[1]", "partners.CA.rotas.duty.layers[0].participants", "list of texts"),
        ('"2026-01-05"', '"5 Jan"', "partners.CA.rotas.duty.layers[0].starts_on", "2026-01-05"),
        ('"2026-01-05"', "2026-01-05T00:00:00Z", "partners.CA.rotas.duty.layers[0].starts_on", "a date"),
        ('"08:30"', "08:30:15", "partners.CA.rotas.duty.layers[0].hand_over_time", "whole minutes"),
        ("every = 2", 'rule = "FREQ=DAILY"', "partners.CA.rotas.duty.layers[0].rule", "leave it out"),
        ("every = 2", 'deputies = ["duty2"]', "partners.CA.rotas.duty.layers[0].deputies[0]", "did you mean duty-1?"),
        ("every = 2", 'time_zone = "Mars"', "partners.CA.rotas.duty.layers[0].time_zone", "Europe/Madrid"),
        ("every = 2", 'on_holidays = "nver"', "partners.CA.rotas.duty.layers[0].on_holidays", "did you mean never?"),
        ("every = 2", "restrictions = 1", "partners.CA.rotas.duty.layers[0].restrictions", "array of tables"),
        (
            "every = 2",
            'restrictions = [{ weekdays = ["mon"], from_time = "08:00", until_time = "09:00" }]',
            "partners.CA.rotas.duty.layers[0].restrictions[0].weekdays[0]",
            "did you mean mo?",
        ),
        (
            "every = 2",
            'restrictions = [{ from_time = "8", until_time = "09:00" }]',
            "partners.CA.rotas.duty.layers[0].restrictions[0].from_time",
            "a local time",
        ),
        (
            "every = 2",
            'restrictions = [{ from_time = "08:00", until_time = "09:00:01" }]',
            "partners.CA.rotas.duty.layers[0].restrictions[0].until_time",
            "whole minutes",
        ),
        (
            "every = 2",
            'restrictions = [{ from_time = "08:00", until_time = "09:00", days = [1] }]',
            "partners.CA.rotas.duty.layers[0].restrictions[0].days",
            "no key that is known",
        ),
        ('name = "Duty"', 'name = "Duty"\nholiday_calendar = "QQ"', "partners.CA.rotas.duty.holiday_calendar", "CA-QC"),
        (
            'name = "Duty"',
            'name = "Duty"\nsigns_hand_over = 1',
            "partners.CA.rotas.duty.signs_hand_over",
            "true or false",
        ),
        (
            'name = "Duty"',
            'name = "Duty"\nnotice_hours = ["a"]',
            "partners.CA.rotas.duty.notice_hours",
            "whole numbers",
        ),
        (
            'name = "Duty"',
            'name = "Duty"\nnotice_hours = [1, 2, 3, 4]',
            "partners.CA.rotas.duty.notice_hours",
            "at most 3",
        ),
        ('name = "Duty"', 'name = "Duty"\nnotice_hours = [400]', "partners.CA.rotas.duty.notice_hours", "1 to 336"),
        (
            'name = "Duty"',
            'name = "Duty"\nextra_holidays.St-John = "St John"',
            "partners.CA.rotas.duty.extra_holidays.St-John",
            "no date",
        ),
        (
            'name = "Duty"',
            'name = "Duty"\nextra_holidays = { 2026-06-24 = 3 }',
            "partners.CA.rotas.duty.extra_holidays.2026-06-24",
            "text in quotes",
        ),
        ("rota:duty", "rota:dty/deputy", "partners.CA.levels[0].targets[0]", "did you mean duty?"),
        ("rota:duty", "contact:duty-1/deputy", "partners.CA.levels[0].targets[0]", "did you mean duty-1?"),
        ("[[partners.CA.levels]]", "[partners.CA.levels]", "partners.CA.levels", "[[partners.CA.levels]]"),
        ("rota:duty", "rota:dty", "partners.CA.levels[0].targets[0]", "did you mean duty?"),
        ("rota:duty", "people:duty", "partners.CA.levels[0].targets[0]", "rota:<key>"),
        ("https://redphone", "http://redphone", "partners.CA.endpoints.main.url", "https://"),
        ('contact = "duty-1"', 'contact = "duty-7"', "partners.CA.credentials.ca-duty.contact", "did you mean duty-1"),
        ('["duty_officer"]', '["dutyofficer"]', "partners.CA.credentials.ca-duty.roles[0]", "duty_officer?"),
        ('["duty_officer"]', '["administrator"]', "partners.CA.credentials.ca-duty.roles", "only the secretariat"),
        ("credentials.ca-duty", "credentials.CA-duty", "partners.CA.credentials.CA-duty", "a-z"),
    ],
)
def test_a_mistake_is_reported_with_its_line_and_key(old: str, new: str, key: str, message: str) -> None:
    """Each mistake is found under its key, on its line, and the message says what would be right."""
    text = CANADA.replace(old, new, 1)
    found = [(line, said) for line, at, said in problems(text) if at == key]
    assert len(found) == 1
    assert message in found[0][1]
    if new:
        assert found[0][0] == line_of(text, new) + new.count("\n")
    else:
        assert found[0][0] == line_of(text, "[partners.CA]")


@pytest.mark.parametrize(
    ("old", "new", "mistaken", "key", "message"),
    [
        ("[partners.CA.offices.main]", "[partners.CA.offices]", 'name = "Watch"', "offices.name", "a table"),
        ('kind = "person"', 'kind = "system"', "roles = [", "credentials.ca-duty.roles", "only a person"),
        ('kind = "person"', 'kind = "system"', 'contact = "duty-1"', "credentials.ca-duty.contact", "leave it out"),
    ],
)
def test_the_line_is_that_of_the_key_which_is_wrong(old: str, new: str, mistaken: str, key: str, message: str) -> None:
    """Where one line makes another one wrong, the line of the key that the message speaks of is given."""
    text = CANADA.replace(old, new, 1)
    ((line, said),) = [(line, said) for line, at, said in problems(text) if at == f"partners.CA.{key}"]
    assert line == line_of(text, mistaken)
    assert message in said


def test_all_mistakes_are_reported_at_once() -> None:
    """A file with mistakes in many places reports them together, in the order of their lines, and gives nothing."""
    text = (
        CANADA.replace('"Canada"', '""')
        .replace("America/Toronto", "Mars")
        .replace("613555", "-")
        .replace("every = 2", "every = 99")
        .replace("rota:duty", "rota:x")
        .replace("https", "ftp")
        .replace('"duty_officer"', '"releaser", "boss"')
    )
    found = problems("surprise = 1\n" + text)
    assert [key.removeprefix("partners.CA.") for _, key, _ in found] == [
        "surprise",
        "name",
        "time_zone",
        "contacts.duty-1.points.sms.address",
        "rotas.duty.layers[0].every",
        "levels[0].targets[0]",
        "endpoints.main.url",
        "credentials.ca-duty.roles[1]",
    ]
    assert [line for line, _, _ in found] == sorted(line for line, _, _ in found)


def test_a_mistake_hides_no_other_and_causes_none() -> None:
    """A value of a wrong type is one mistake: rules about its neighbours still speak, those about itself do not."""
    text = "[deadlines.FLASH]\nacknowledge_within_seconds = 600\nunreached_after_seconds = '1800'\n"
    found = problems(text + "next_level_every_seconds = 0\nposition_within_seconds = 10")
    assert [(line, key) for line, key, _ in found] == [
        (3, "deadlines.FLASH.unreached_after_seconds"),
        (4, "deadlines.FLASH.next_level_every_seconds"),
    ]


def test_a_partner_needs_an_office_and_a_level() -> None:
    """A partner without an office or without a level is refused, for nobody could be reached there."""
    text = '[partners.CA]\nname = "Canada"\nstanding = "member"\ntime_zone = "America/Toronto"\n'
    assert [key for _, key, _ in problems(text)] == ["partners.CA.levels", "partners.CA.offices"]


def test_a_client_id_belongs_to_one_partner() -> None:
    """The same client id under two partners is refused, and the message names the first one."""
    twin = CANADA.replace("partners.CA", "partners.NZ").replace("America/Toronto", "Pacific/Auckland")
    ((_, key, message),) = problems(CANADA + twin)
    assert key == "partners.NZ.credentials.ca-duty"
    assert "partners.CA.credentials.ca-duty" in message


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("[partners.CA\nname = 1", 1, "no valid TOML"),
        ("format = 1\nformat = 1\n", 2, "Cannot overwrite"),
        ("format = 1\n\n[partners.CA]\n[partners.CA]\n", 4, "Cannot declare"),
        ('format = "1', 1, "no valid TOML"),
        ("format = 2", 1, "use 1"),
        ("format = 1" + "0" * 5000, 1, "too many digits"),
        ("x = " + "[" * 5000 + "]" * 5000, 1, "too deeply"),
        ("partners = 3", 1, "a table"),
        ("partners.CA = 3", 1, "a table"),
        ("deadlines.FLASH = []", 1, "a table"),
        ("deadlines.FLSH = {}", 1, "did you mean FLASH?"),
        ("a = 1\x00", 1, "no valid TOML"),
    ],
)
def test_a_broken_file_is_refused(text: str, line: int, message: str) -> None:
    """Text that is no TOML, or no network file at all, is refused with its line and a reason, never with a crash."""
    found = problems(text)
    assert found[0][0] == line
    assert message in found[0][2]


def test_a_file_that_is_too_large_is_refused_unread() -> None:
    """One character above the limit is refused at once, without being parsed."""
    begun = stopwatch.perf_counter()
    ((line, key, message),) = problems("#" * (network.FILE_CHARACTERS_MAX + 1))
    assert stopwatch.perf_counter() - begun < 1
    assert (line, key) == (1, "")
    assert str(network.FILE_CHARACTERS_MAX) in message


def test_more_partners_than_possible_are_refused() -> None:
    """One partner more than the limit is refused with one mistake, not with one for each."""
    text = "".join(f"[partners.A{n}]\n" for n in range(network.PARTNERS_MAX + 1))
    assert problems(text) == [(1, "partners", "holds 301; at most 300 are possible")]


def test_many_mistakes_are_counted_and_not_all_listed() -> None:
    """A file of nothing but mistakes lists the first ones and says how many more there are."""
    with pytest.raises(NetworkFileError) as refused:
        parse("".join(f"k{n} = 1\n" for n in range(1500)), "network.toml")
    assert len(refused.value.problems) == network.PROBLEMS_MAX
    assert refused.value.omitted == 1500 - network.PROBLEMS_MAX
    assert "1500 mistakes" in refused.value.detail


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"k{n} = 1\n" for n in range(50_000)),
        CANADA.replace('["duty-1"]', "[" + '"duty-x", ' * 100_000 + "]"),
        CANADA.replace('["rota:duty"]', "[" + '"rota:x", ' * 100_000 + "]"),
        "".join(f"[partners.C{n}]\n" for n in range(20_000)),
        CANADA.replace(
            'name = "Watch"', 'name = "Watch"\nembassies = {' + ", ".join(f"k{n}=1" for n in range(9_000)) + "}"
        ),
        "[[partners.CA.levels]]\n" * 50_000,
    ],
    ids=["keys", "participants", "targets", "partners", "embassies", "levels"],
)
def test_a_file_of_mistakes_takes_no_long_time(text: str) -> None:
    """A hostile file is refused after a bounded number of mistakes, in seconds at most."""
    begun = stopwatch.perf_counter()
    assert 1 <= len(problems(text)) <= network.PROBLEMS_MAX
    assert stopwatch.perf_counter() - begun < 10


def test_a_message_shows_foreign_text_harmlessly() -> None:
    """Keys and values from the file appear in messages cut and escaped, so that they cannot write to a terminal."""
    found = problems(CANADA.replace("rota:duty", "\\u001b[31m" + "x" * 500)) + problems('"\\u001b[2J" = 1')
    assert len(found) == 2
    for _, key, message in found:
        assert (key + message).isprintable()
        assert len(message) < 400


@given(st.text(max_size=200))
def test_no_text_crashes_the_reader(text: str) -> None:
    """Whatever the text, it is either a network file or refused with mistakes."""
    assert all(line >= 1 and message for line, _, message in problems(text))


JUNK = st.recursive(
    st.sampled_from(["1", '"x"', "true", "2026-01-05", "08:00:00", "1.5", "[]", "{}", '["duty-1"]', '"member"']),
    lambda inner: st.builds("[{}]".format, inner) | st.builds("{{ a = {} }}".format, inner),
    max_leaves=3,
)


@given(st.data())
def test_no_value_crashes_the_reader(data: st.DataObject) -> None:
    """Whatever value stands at any key of a good file, the file is read or refused, never a crash."""
    lines = CANADA.split("\n")
    places = [index for index, line in enumerate(lines) if " = " in line]
    place = data.draw(st.sampled_from(places))
    lines[place] = f"{lines[place].split(' = ')[0]} = {data.draw(JUNK)}"
    assert all(1 <= line <= len(lines) and message for line, _, message in problems("\n".join(lines)))


# --- overriding -------------------------------------------------------------------------------------------------------


def test_receivers_on_this_machine_can_be_read_from_a_file() -> None:
    """A file with receivers on this machine is refused, and read with the flag for demonstrations."""
    text = CANADA.replace("https://redphone.ca.example", "http://127.0.0.1:9000")
    assert [key for _, key, _ in problems(text)] == ["partners.CA.endpoints.main.url"]
    assert parse(text, "network.toml", policy=DEVELOPMENT).items
