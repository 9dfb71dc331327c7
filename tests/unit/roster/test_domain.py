"""The rules of partners and their people, and what roster publishes of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from ipaddress import IPv4Network
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.roster import domain, publication, schedule
from services.roster.addresses import PUBLIC, url_fault
from services.roster.domain import (
    Contact,
    ContactPoint,
    Credential,
    DutyOffice,
    Endpoint,
    EscalationPolicy,
    Level,
    Partner,
    PartnerState,
    Target,
    TargetKind,
)
from services.roster.schedule import Frequency, Layer, LayerId, Override, OverrideId, Rota, Rotation
from shared.contracts import (
    DEFAULT_DEADLINES,
    ChannelName,
    CredentialKind,
    Deadlines,
    Precedence,
    Role,
    Standing,
)
from shared.egress import EgressPolicy
from shared.errors import FieldError, Invalid
from shared.events import EVENT_BYTES_MAX
from shared.ids import ContactId, ContactPointId, EndpointId, OfficeId, PartnerCode, RotaId
from tests.support.push_service import Browser

NOW = datetime(2026, 3, 20, 12, tzinfo=UTC)
CANADA = Partner(PartnerCode("CA"), "Canada", Standing.MEMBER, "America/Toronto", ("en", "fr"), "CAN", "124")
POINT = ContactPoint(ContactPointId(UUID(int=1)), ChannelName.EMAIL, "duty@ca.example", verified_at=NOW)
ANN = Contact(ContactId(UUID(int=10)), "Ann Example", "Duty officer", ("en",), (POINT,))
BEN = Contact(ContactId(UUID(int=11)), "Ben Example")
OFFICE = DutyOffice(OfficeId(UUID(int=20)), "Watch", "+16135550180", (("AF", "+16135550190"),), (POINT,))
ENDPOINT = Endpoint(EndpointId(UUID(int=30)), "https://redphone.ca.example/webhook", "Desk", NOW)
LAYER = Layer(LayerId(UUID(int=40)), "Daily", Rotation(Frequency.DAILY), (ANN.id, BEN.id), date(2026, 1, 5), time(8))
ROTA = Rota(RotaId(UUID(int=41)), "Duty", "America/Toronto", (LAYER,))
POLICY = EscalationPolicy(
    (
        Level((Target(TargetKind.ROTA, ROTA.id),), 120),
        Level((Target(TargetKind.CONTACT, BEN.id), Target(TargetKind.OFFICE, OFFICE.id))),
    )
)
PERSON = Credential("ca-duty", CredentialKind.PERSON, "Ann Example", (Role.DUTY_OFFICER,), ANN.id, "0" * 64)
STATE = PartnerState(CANADA, (OFFICE,), (ANN, BEN), (ROTA,), POLICY, (ENDPOINT,), (PERSON,))


endpoint_faults = partial(domain.endpoint_faults, url_fault=partial(url_fault, PUBLIC))
point_faults = partial(domain.point_faults, url_fault=partial(url_fault, PUBLIC))


def fields(faults: Iterable[FieldError]) -> list[str]:
    """The fields that faults name."""
    return [fault.field for fault in faults]


def test_a_whole_partner_is_sound() -> None:
    """What a real partner looks like breaks no rule."""
    assert list(domain.partner_faults(CANADA)) == []
    assert list(domain.office_faults(OFFICE)) == []
    assert list(domain.contact_faults(ANN)) == []
    assert list(point_faults(POINT)) == []
    assert list(domain.rota_faults(ROTA)) == []
    assert list(domain.policy_faults(POLICY)) == []
    assert list(endpoint_faults(ENDPOINT)) == []
    assert list(domain.credential_faults(PERSON, CANADA.code)) == []
    assert list(domain.reference_faults(STATE)) == []


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"code": "ca"}, ["code", "iso3", "m49"]),
        ({"code": "ZZ", "iso3": None, "m49": None}, ["code"]),
        ({"name": " "}, ["name"]),
        ({"name": "n" * (domain.NAME_CHARACTERS_MAX + 1)}, ["name"]),
        ({"name": "Can\nada"}, ["name"]),
        ({"name": "Can\u202eada"}, ["name"]),
        ({"name": "Can\u2028ada"}, ["name"]),
        ({"name": "Can\ud800ada"}, ["name"]),
        ({"standing": Standing.SECRETARIAT}, ["standing"]),
        ({"code": "XR", "iso3": None, "m49": None}, ["standing"]),
        ({"time_zone": "America/Ottawa"}, ["time_zone"]),
        ({"time_zone": "../../etc/passwd"}, ["time_zone"]),
        ({"languages": ()}, ["languages"]),
        ({"languages": ("english",)}, ["languages"]),
        ({"languages": ("en",) * (domain.LANGUAGES_MAX + 1)}, ["languages"]),
        ({"iso3": "CHE"}, ["iso3"]),
        ({"m49": "840"}, ["m49"]),
        ({"code": "EU", "m49": None}, ["iso3"]),
    ],
)
def test_a_partner_breaks_a_rule(changes: dict[str, Any], wrong: list[str]) -> None:
    """Each rule of a partner is broken alone, and exactly its field is named."""
    assert fields(domain.partner_faults(replace(CANADA, **changes))) == wrong


@pytest.mark.parametrize(
    ("code", "standing"), [("EU", Standing.MEMBER), ("XR", Standing.SECRETARIAT), ("DE", Standing.PARTICIPATING)]
)
def test_union_and_secretariat_are_partners(code: str, standing: Standing) -> None:
    """The European Union and the secretariat are partners although ISO 3166-1 lists neither as a country."""
    partner = Partner(PartnerCode(code), "Some name", standing, "Europe/Brussels")
    assert list(domain.partner_faults(partner)) == []


@pytest.mark.parametrize(
    ("channel", "address", "is_allowed"),
    [
        (ChannelName.SMS, "+12025550123", True),
        (ChannelName.SMS, "0202 555 0123", False),
        (ChannelName.VOICE, "+0123456789", False),
        (ChannelName.VOICE, "+1234567890123456", False),
        (ChannelName.VOICE, "+12025550123\n", False),
        (ChannelName.VOICE, "+\u0661\u0662\u0663\u0664\u0665\u0666\u0667", False),
        (ChannelName.EMAIL, "duty.officer+night@ministry.gov.example", True),
        (ChannelName.EMAIL, "duty@", False),
        (ChannelName.EMAIL, "duty@ministry", False),
        (ChannelName.EMAIL, "a@b.example\r\nBcc: c@d.example", False),
        (ChannelName.EMAIL, "x" * 250 + "@b.example", False),
        (ChannelName.WEBHOOK, "https://redphone.ca.example/page", True),
        (ChannelName.WEBHOOK, "http://redphone.ca.example/page", False),
        (ChannelName.PUSH, Browser().subscription("https://push.example/abc"), True),
        (ChannelName.PUSH, Browser().subscription("https://push.example/" + "x" * 600), True),
        (ChannelName.PUSH, Browser().subscription("https://push.example/" + "x" * 2_000), False),
        (ChannelName.PUSH, Browser().subscription("ftp://push.example/abc"), False),
        (ChannelName.PUSH, Browser().subscription("https://printer.local/abc"), False),
        (ChannelName.PUSH, "https://push.example/abc", False),
        (ChannelName.CHAT, "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", True),
        (ChannelName.CHAT, "matrixs://duty:secret@matrix.ministry.example/room", True),
        (ChannelName.CHAT, "matrixs://duty:secret@matrix.internal/room", False),
        (ChannelName.CHAT, "slack://" + "x" * 1_000, False),
        (ChannelName.CHAT, "file:///etc/passwd", False),
        (ChannelName.CHAT, "duty-room", False),
        (ChannelName.CHAT, "", False),
    ],
)
def test_addresses_fit_their_channel(channel: ChannelName, address: str, is_allowed: bool) -> None:
    """Telephone numbers are E.164, e-mail addresses and URLs have their shape, and nothing holds a line break."""
    point = ContactPoint(POINT.id, channel, address)
    assert fields(point_faults(point)) == ([] if is_allowed else ["address"])


@pytest.mark.parametrize(
    ("delay_seconds", "wrong"), [(0, []), (1800, []), (-1, ["delay_seconds"]), (1801, ["delay_seconds"])]
)
def test_a_point_waits_half_an_hour_at_most(delay_seconds: int, wrong: list[str]) -> None:
    """A delay lies between nothing and the limit, which is half an hour."""
    assert fields(point_faults(replace(POINT, delay_seconds=delay_seconds))) == wrong


@pytest.mark.parametrize(("time_zone", "wrong"), [(None, []), ("Asia/Kabul", []), ("Kabul", ["time_zone"])])
def test_a_contact_may_live_elsewhere(time_zone: str | None, wrong: list[str]) -> None:
    """A contact's own zone is an IANA name, or absent."""
    assert fields(domain.contact_faults(replace(ANN, time_zone=time_zone))) == wrong


@pytest.mark.parametrize(
    ("channel", "address", "shown"),
    [
        (ChannelName.SMS, "+16135550101", "+1613•••0101"),
        (ChannelName.VOICE, "+4670174", "+46•••74"),
        (ChannelName.EMAIL, "amelie@ca.example", "a•••@ca.example"),
        (ChannelName.WEBHOOK, "https://redphone.ca.example/page/duty-1?key=s", "https://redphone.ca.example/•••"),
        (ChannelName.CHAT, "slack://token-a/token-b/room", "slack://•••"),
        (ChannelName.CHAT, "nothing", "•••"),
    ],
)
def test_a_masked_address_tells_that_it_is_there(channel: ChannelName, address: str, shown: str) -> None:
    """Country and last digits, a mail's domain, a URL's host, of a chat the service alone: never the whole."""
    assert replace(POINT, channel=channel, address=address).masked_address == shown


@pytest.mark.parametrize(
    "url",
    [
        "http://redphone.ca.example/",
        "https://",
        "https:///path",
        "https://user:secret@redphone.ca.example/",
        "https://redphone.ca.example/#part",
        "https://redphone.ca.example:99999/",
        "https://redphone.ca.example:0/",
        "https://[::1",
        "https://localhost/",
        "https://api.localhost/",
        "https://printer.local/",
        "https://127.0.0.1/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[fd00::1]/",
        "javascript:alert(1)",
        "redphone.ca.example",
        "https://redphone.ca.example/a b",
        "https://redphone.ca.example:22/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://192.0.0.8/",
        "https://[64:ff9b::7f00:1]/",
        "https://[2002:7f00:1::]/",
        "https://224.0.0.1/",
    ],
)
def test_an_endpoint_needs_a_public_https_url(url: str) -> None:
    """Anything but https to a public host, without user name and fragment, is refused, and the message says why."""
    assert fields(endpoint_faults(replace(ENDPOINT, url=url))) == ["url"]


def test_receivers_on_this_machine_are_allowed_by_the_deployment_alone() -> None:
    """Plain http to loopback needs a deployment for development; other schemes are refused even then."""
    local = replace(ENDPOINT, url="http://127.0.0.1:9000/ca")
    development = partial(url_fault, EgressPolicy(allow_http=True, allow_loopback=True))
    assert fields(endpoint_faults(local)) == ["url"]
    assert list(domain.endpoint_faults(local, url_fault=development)) == []
    file = replace(ENDPOINT, url="file:///etc/passwd")
    assert fields(domain.endpoint_faults(file, url_fault=development)) == ["url"]


@pytest.mark.parametrize(
    "url", ["https://10.1.2.3/hook", "https://redphone.ministry.internal/", "https://crisis-room/"]
)
def test_networks_of_ones_own_are_allowed_by_the_deployment_alone(url: str) -> None:
    """Where a deployment names a network of its own, addresses and names in it can be given; elsewhere they cannot."""
    own = partial(url_fault, EgressPolicy(extra_networks=(IPv4Network("10.1.0.0/16"),)))
    assert fields(endpoint_faults(replace(ENDPOINT, url=url))) == ["url"]
    assert list(domain.endpoint_faults(replace(ENDPOINT, url=url), url_fault=own)) == []


def test_chat_addresses_name_what_the_deployment_allows() -> None:
    """A deployment that allows one service alone refuses the others, and says which one it is."""
    point = ContactPoint(POINT.id, ChannelName.CHAT, "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ")
    only_matrix = partial(url_fault, PUBLIC, chat_schemas={"matrixs"})
    (fault,) = domain.point_faults(point, url_fault=only_matrix)
    assert "one of matrixs and" in fault.detail


@pytest.mark.parametrize(
    ("channel", "address"),
    [
        (ChannelName.PUSH, Browser().subscription("https://push.example/token")),
        (ChannelName.PUSH, '{"keys":{"auth":"token"},"endpoint":"https://push.example:8443/token"}'),
        (ChannelName.PUSH, '{"keys":{"auth":"token://x"}}'),
        (ChannelName.CHAT, "matrixs://duty:token@matrix.ministry.example/room"),
    ],
)
def test_a_masked_address_tells_no_secret(channel: ChannelName, address: str) -> None:
    """Of a subscription at most the push service's name is shown, of a chat address the service alone."""
    shown = domain.masked(channel, address)
    assert "token" not in shown
    assert len(shown) < 40
    assert not set(shown) & set('{}"')


@given(st.text(max_size=300))
def test_no_text_breaks_the_address_rules(text: str) -> None:
    """Whatever text is given as an address, the rules answer and never crash."""
    for channel in ChannelName:
        assert set(fields(point_faults(ContactPoint(POINT.id, channel, text)))) <= {"address"}
    assert set(fields(endpoint_faults(replace(ENDPOINT, url="https://" + text)))) <= {"url"}


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"switchboard": "1234"}, ["switchboard"]),
        ({"embassies": (("ZZ", "+16135550190"), ("AF", "none"))}, ["embassies", "embassies.AF"]),
        ({"embassies": (("AF", "+16135550190"),) * (domain.EMBASSIES_MAX + 1)}, ["embassies"]),
        ({"points": (POINT,) * (domain.POINTS_MAX + 1)}, ["points"]),
        ({"name": ""}, ["name"]),
    ],
)
def test_an_office_breaks_a_rule(changes: dict[str, Any], wrong: list[str]) -> None:
    """Each rule of an office is broken alone, and its field is named."""
    assert fields(domain.office_faults(replace(OFFICE, **changes))) == wrong


def test_a_contact_breaks_rules() -> None:
    """Name, title, languages and the number of contact points of a contact are limited."""
    bad = replace(ANN, name="", title="t" * 121, languages=("EN",), points=(POINT,) * (domain.POINTS_MAX + 1))
    assert fields(domain.contact_faults(bad)) == ["name", "title", "languages", "points"]


def test_each_fault_of_a_rota_names_its_field() -> None:
    """Every mistake of a rota is found at once, each under its own field."""
    bad_layer = Layer(
        LAYER.id, " ", Rotation(Frequency.DAILY, 0), (), date(1900, 1, 1), time(8, 0, 1), date(1899, 1, 1)
    )

    def override(start_at: datetime, end_at: datetime) -> Override:
        return Override(OverrideId(UUID(int=50)), ANN.id, start_at, end_at)

    overrides = (
        override(NOW, NOW - timedelta(days=1)),
        override(NOW.replace(tzinfo=None), NOW),
        override(NOW, NOW + timedelta(days=schedule.OVERRIDE_DAYS_MAX, seconds=1)),
        override(datetime(1960, 1, 1, tzinfo=UTC), NOW),
    )
    faulty = Rota(ROTA.id, "", "Europe/Atlantis", (bad_layer, bad_layer), overrides)
    found = fields(domain.rota_faults(faulty))
    assert found[:3] == ["name", "time_zone", "layers"]
    layer_fields = ["name", "every", "participants", "starts_on", "hand_over_time", "ends_on"]
    assert found[3:-4] == [f"layers[{index}].{field}" for index in (0, 1) for field in layer_fields]
    assert found[-4:] == [
        "overrides[0].end_at",
        "overrides[1].start_at",
        "overrides[2].end_at",
        "overrides[3].start_at",
    ]


def test_the_limits_of_a_rota_hold() -> None:
    """The limits of layers, participants and overrides are allowed, and one more of each is refused."""
    override = Override(OverrideId(UUID(int=50)), None, NOW, NOW + timedelta(days=schedule.OVERRIDE_DAYS_MAX))
    crowd = replace(LAYER, participants=(ANN.id,) * schedule.PARTICIPANTS_MAX)
    layers = tuple(replace(crowd, id=LayerId(UUID(int=60 + n))) for n in range(schedule.LAYERS_MAX + 1))
    full = replace(ROTA, layers=layers[:-1], overrides=(override,) * schedule.OVERRIDES_MAX)
    assert list(domain.rota_faults(full)) == []
    over = replace(ROTA, layers=layers, overrides=(override,) * (schedule.OVERRIDES_MAX + 1))
    assert fields(domain.rota_faults(over)) == ["layers", "overrides"]
    crowded = replace(crowd, participants=(*crowd.participants, ANN.id))
    assert fields(domain.rota_faults(replace(ROTA, layers=(crowded,)))) == ["layers[0].participants"]


@pytest.mark.parametrize(
    ("levels", "wrong"),
    [
        ((), ["levels"]),
        ((POLICY.levels[0],) * (domain.LEVELS_MAX + 1), ["levels"]),
        ((Level(()),), ["levels[0].targets"]),
        ((Level((Target(TargetKind.ROTA, ROTA.id),) * 2),), ["levels[0].targets"]),
        ((POLICY.levels[0], Level(POLICY.levels[0].targets, 0)), ["levels[1].wait_seconds"]),
        ((Level(POLICY.levels[0].targets, domain.WAIT_SECONDS_MAX + 1),), ["levels[0].wait_seconds"]),
    ],
)
def test_a_policy_breaks_a_rule(levels: tuple[Level, ...], wrong: list[str]) -> None:
    """A policy has at least one level, each level at least one target, and waits are positive and bounded."""
    assert fields(domain.policy_faults(EscalationPolicy(levels))) == wrong


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"client_id": "CA Duty"}, ["client_id"]),
        ({"client_id": "c" * (domain.CLIENT_ID_CHARACTERS_MAX + 1)}, ["client_id"]),
        ({"name": ""}, ["name"]),
        ({"secret_sha256": "plain secret"}, ["secret_sha256"]),
        ({"roles": ()}, ["roles"]),
        ({"roles": (Role.DRAFTER, Role.DRAFTER)}, ["roles"]),
        ({"roles": (Role.ADMINISTRATOR,)}, ["roles"]),
        ({"roles": (Role.SECRETARIAT,)}, ["roles"]),
        ({"kind": CredentialKind.SYSTEM, "roles": (Role.SENIOR_CONTACT,)}, ["contact"]),
    ],
)
def test_a_credential_breaks_a_rule(changes: dict[str, Any], wrong: list[str]) -> None:
    """Each rule of a credential is broken alone, and its field is named."""
    assert fields(domain.credential_faults(replace(PERSON, **changes), CANADA.code)) == wrong


@pytest.mark.parametrize("role", [Role.DRAFTER, Role.RELEASER, Role.DUTY_OFFICER])
def test_a_system_never_drafts_or_releases(role: Role) -> None:
    """A system's credential is refused every role that drafts or releases; the same roles are allowed to a person."""
    system = replace(PERSON, kind=CredentialKind.SYSTEM, contact_id=None, roles=(role,))
    assert fields(domain.credential_faults(system, CANADA.code)) == ["roles"]
    assert list(domain.credential_faults(replace(PERSON, roles=(role,)), CANADA.code)) == []


def test_the_secretariat_has_its_own_roles() -> None:
    """Secretariat and administrator are roles that XR alone can give."""
    for role in (Role.SECRETARIAT, Role.ADMINISTRATOR):
        assert list(domain.credential_faults(replace(PERSON, roles=(role,)), PartnerCode("XR"))) == []


def test_two_credentials_of_one_person_have_one_subject() -> None:
    """Whoever holds two credentials is one subject, so drafting with one and releasing with the other is found out."""
    assert PERSON.subject == replace(PERSON, client_id="ca-duty-again").subject
    assert PERSON.subject != replace(PERSON, contact_id=BEN.id).subject
    system = Credential("ca-system", CredentialKind.SYSTEM, "Desk", (Role.SENIOR_CONTACT,))
    assert system.subject == "system:ca-system"


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"acknowledge_within_seconds": 0}, ["acknowledge_within_seconds"]),
        ({"acknowledge_within_seconds": 1800}, ["acknowledge_within_seconds"]),
        ({"next_level_every_seconds": 0}, ["next_level_every_seconds"]),
        ({"next_level_every_seconds": 1801}, ["next_level_every_seconds"]),
        ({"position_within_seconds": domain.DEADLINE_SECONDS_MAX + 1}, ["position_within_seconds"]),
        ({"next_level_every_seconds": None}, []),
    ],
)
def test_deadlines_break_a_rule(changes: dict[str, Any], wrong: list[str]) -> None:
    """Deadlines are positive, and a partner is asked to acknowledge before it is called unreached."""
    flash = DEFAULT_DEADLINES[Precedence.FLASH].model_copy(update=changes)
    assert fields(domain.deadlines_faults(flash)) == wrong


@pytest.mark.parametrize("precedence", list(Precedence))
def test_the_default_deadlines_break_no_rule(precedence: Precedence) -> None:
    """The defaults of each precedence obey the rules that hold for everybody's."""
    assert list(domain.deadlines_faults(DEFAULT_DEADLINES[precedence])) == []


def test_names_of_what_does_not_exist_are_found() -> None:
    """A rota, a level or a credential in force that names nobody is found, and so are too many of a kind."""
    lonely = replace(STATE, contacts=(BEN,), offices=())
    assert fields(domain.reference_faults(lonely)) == ["rotas[0]", "levels[1].targets", "credentials[0].contact"]
    left = replace(lonely, credentials=tuple(replace(one, revoked_at=NOW) for one in lonely.credentials))
    assert fields(domain.reference_faults(left)) == ["rotas[0]", "levels[1].targets"]
    crowd = replace(STATE, contacts=tuple(replace(BEN, id=ContactId(UUID(int=n))) for n in range(10, 111)))
    assert fields(domain.reference_faults(crowd)) == ["contacts"]


def test_faults_are_raised_together() -> None:
    """`require` raises all faults in one error, and nothing where there are none."""
    domain.require([], "fine")
    with pytest.raises(Invalid) as refused:
        domain.require(domain.partner_faults(replace(CANADA, name="", time_zone="Mars")), "The partner is refused.")
    assert fields(refused.value.errors) == ["name", "time_zone"]


# --- what is published ------------------------------------------------------------------------------------------------


def seal(_point_id: UUID, address: str) -> str:
    """Stands in for encryption: of the length that encryption gives, and without the address."""
    return f"sealed:{len(address)}:" + "x" * (len(address) * 4 // 3 + 200)


def test_a_duty_plan_says_who_answers() -> None:
    """A plan holds every rota's shifts of 14 days, people with their subjects, office, levels and deadlines."""
    shorter = {
        Precedence.FLASH: DEFAULT_DEADLINES[Precedence.FLASH].model_copy(update={"unreached_after_seconds": 900})
    }
    plan = publication.duty_plan(STATE, shorter, plan_version=7, now=NOW, seal=seal)
    assert (plan.partner, plan.plan_version, plan.computed_at) == ("CA", 7, NOW)
    assert plan.valid_until == NOW + timedelta(days=14)
    (rota,) = plan.rotas
    assert (rota.shifts[0].start_at, rota.shifts[-1].end_at) == (plan.valid_from, plan.valid_until)
    assert {shift.contact_id for shift in rota.shifts} == {ANN.id, BEN.id}
    assert [contact.subjects for contact in plan.contacts] == [(f"contact:{ANN.id}",), ()]
    assert [(target.kind, target.id) for target in plan.levels[1].targets] == [
        ("contact", BEN.id),
        ("office", OFFICE.id),
    ]
    assert plan.levels[0].wait_seconds == 120
    assert plan.office is not None
    assert plan.office.embassies == (("AF", "+16135550190"),)
    assert plan.deadlines[Precedence.FLASH].unreached_after_seconds == 900
    assert plan.deadlines[Precedence.ROUTINE] == DEFAULT_DEADLINES[Precedence.ROUTINE]
    assert [point.verified for point in plan.contacts[0].points] == [True]


def test_plans_and_shifts_agree() -> None:
    """The shifts of a plan are those that `schedule` gives for any instant in it."""
    plan = publication.duty_plan(STATE, {}, plan_version=1, now=NOW, seal=seal)
    for shift in plan.rotas[0].shifts:
        for at in (shift.start_at, shift.end_at - timedelta(seconds=1)):
            found = schedule.on_call(ROTA, at)
            assert found is not None
            assert found.contact_id == shift.contact_id


def test_addresses_leave_only_sealed() -> None:
    """No address of a contact point or an endpoint appears in anything that roster publishes."""
    plan = publication.duty_plan(STATE, {}, plan_version=1, now=NOW, seal=seal).model_dump_json()
    changed = publication.partner_changed(STATE, version=1, seal=seal).model_dump_json()
    for text in (plan, changed):
        assert POINT.address not in text
        assert ENDPOINT.url not in text
        assert seal(ENDPOINT.id, ENDPOINT.url) in text


def test_a_revoked_credential_is_published_and_gives_nobody_a_subject() -> None:
    """A revocation is published like any change, and its person can no longer be named by that subject."""
    revoked = replace(STATE, credentials=(replace(PERSON, revoked_at=NOW, version=2),))
    published = publication.credentials_published(revoked, version=4)
    assert [(one.revoked_at, one.version) for one in published.credentials] == [(NOW, 2)]
    assert publication.duty_plan(revoked, {}, plan_version=1, now=NOW, seal=seal).contacts[0].subjects == ()


def test_a_partner_without_anything_still_has_a_plan() -> None:
    """A partner that has entered nothing yet gets a plan without people instead of an error."""
    plan = publication.duty_plan(PartnerState(CANADA), {}, plan_version=1, now=NOW, seal=seal)
    assert (plan.levels, plan.rotas, plan.contacts, plan.office) == ((), (), (), None)


def test_the_largest_partner_fits_into_a_message() -> None:
    """The largest state that every rule allows still gives a duty plan below the limit of a message."""

    def ids(start: int) -> Iterator[UUID]:
        return (UUID(int=(1 << 120) + start + n) for n in range(100_000))

    contact_ids, point_ids, rota_ids, other_ids = ids(0), ids(1 << 20), ids(1 << 21), ids(1 << 22)
    longest_address = "https://redphone.example/".ljust(250, "p")

    def points() -> tuple[ContactPoint, ...]:
        made = (ContactPoint(ContactPointId(next(point_ids)), ChannelName.WEBHOOK, longest_address) for _ in range(6))
        return tuple(made)

    name = "n" * domain.NAME_CHARACTERS_MAX
    contacts = tuple(
        Contact(ContactId(next(contact_ids)), name, name, ("zh-Hans-CN",) * domain.LANGUAGES_MAX, points())
        for _ in range(domain.CONTACTS_MAX)
    )
    overrides = tuple(
        Override(
            OverrideId(next(other_ids)),
            contacts[n % 7].id,
            NOW + timedelta(hours=3 * n),
            NOW + timedelta(hours=3 * n + 1),
            contacts[n % 7 + 1].id,
        )
        for n in range(schedule.OVERRIDES_MAX)
    )
    rotas = tuple(
        Rota(
            RotaId(next(rota_ids)),
            name,
            "Europe/Madrid",
            (
                replace(
                    LAYER,
                    participants=tuple(contact.id for contact in contacts),
                    deputies=tuple(contact.id for contact in reversed(contacts)),
                ),
            ),
            overrides,
        )
        for _ in range(domain.ROTAS_MAX)
    )
    embassies = (("AF", "+123456789012345"),) * domain.EMBASSIES_MAX
    office = DutyOffice(OFFICE.id, name, "+123456789012345", embassies, points())
    target_ids = [Target(TargetKind.CONTACT, contact.id) for contact in contacts[: domain.TARGETS_MAX]]
    policy = EscalationPolicy((Level(tuple(target_ids), 60),) * domain.LEVELS_MAX)
    url = "https://redphone.example/".ljust(domain.URL_CHARACTERS_MAX, "p")
    endpoints = tuple(
        Endpoint(EndpointId(next(other_ids)), url, "d" * domain.DESCRIPTION_CHARACTERS_MAX)
        for _ in range(domain.ENDPOINTS_MAX)
    )
    state = PartnerState(CANADA, (office,), contacts, rotas, policy, endpoints)
    faults = [
        *domain.reference_faults(state),
        *domain.office_faults(office),
        *(fault for contact in contacts for fault in domain.contact_faults(contact)),
        *(fault for contact in contacts for point in contact.points for fault in point_faults(point)),
        *(fault for rota in rotas for fault in domain.rota_faults(rota)),
        *(fault for endpoint in endpoints for fault in endpoint_faults(endpoint)),
        *domain.policy_faults(policy),
    ]
    assert faults == []
    plan = publication.duty_plan(state, {}, plan_version=1, now=NOW, seal=seal)
    assert len(plan.model_dump_json().encode()) < EVENT_BYTES_MAX


def test_deadlines_of_the_network_are_carried_as_given() -> None:
    """Deadlines of seconds, as a demonstration uses them, are allowed and carried unchanged."""
    quick = Deadlines(
        acknowledge_within_seconds=2,
        next_level_every_seconds=1,
        unreached_after_seconds=5,
        position_within_seconds=20,
    )
    assert list(domain.deadlines_faults(quick)) == []
    plan = publication.duty_plan(STATE, {Precedence.FLASH: quick}, plan_version=1, now=NOW, seal=seal)
    assert plan.deadlines[Precedence.FLASH] == quick


def test_a_plan_of_too_many_shifts_is_a_shorter_one() -> None:
    """Rotas that change hands every quarter of an hour give a plan that fits, whole until its end."""
    quarter = timedelta(minutes=15)
    contact_ids = [contact.id for contact in STATE.contacts]
    assert len(contact_ids) > 1, "one person alone has one shift"
    overrides = tuple(
        Override(
            OverrideId(UUID(int=(1 << 120) + n)),
            contact_ids[n % 2],
            NOW + n * quarter,
            NOW + (n + 1) * quarter,
            contact_ids[1 - n % 2],
        )
        for n in range(3000)
    )
    rota = replace(STATE.rotas[0], layers=(), overrides=overrides)
    state = replace(STATE, rotas=(rota,))
    plan = publication.duty_plan(state, {}, plan_version=1, now=NOW, seal=seal)
    assert len(plan.rotas[0].shifts) == 1344 == 14 * 24 * 4
    doubled = replace(rota, id=RotaId(UUID(int=(1 << 121))))
    plan = publication.duty_plan(replace(state, rotas=(rota, doubled)), {}, plan_version=1, now=NOW, seal=seal)
    assert sum(len(one.shifts) for one in plan.rotas) == publication.SHIFTS_MAX
    assert plan.valid_until == NOW + publication.SHIFTS_MAX // 2 * quarter
    assert {one.shifts[-1].end_at for one in plan.rotas} == {plan.valid_until}
