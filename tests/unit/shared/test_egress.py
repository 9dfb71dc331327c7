"""The address guard: which URLs and addresses are refused, and how names are resolved."""

# ruff: noqa: RUF001, S104 - deceptive characters and unspecified addresses are what is refused

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.egress import (
    ADDRESSES_MAX,
    URL_LENGTH_MAX,
    EgressPolicy,
    EgressRefused,
    RefusalReason,
    Resolver,
    check_url,
    is_public_address,
)

PRODUCTION = EgressPolicy()
DEVELOPMENT = EgressPolicy(allow_http=True, allow_loopback=True)
PUBLIC_IPV4 = "93.184.216.34"
PUBLIC_IPV6 = "2606:2800:220:1:248:1893:25c8:1946"

NOT_PUBLIC = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8",
    "192.0.0.9",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::8.8.8.8",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::8.8.8.8",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3ffe::1",
    "3fff::1",
    "4000::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fe80::1",
    "fe80::1%eth0",
    "2606:4700::1111%1",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]


@pytest.mark.parametrize("text", NOT_PUBLIC)
def test_special_addresses_are_not_public(text: str) -> None:
    """Private, local, translated, tunnelled, documented and multicast addresses are all refused."""
    assert not is_public_address(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    "text",
    [
        PUBLIC_IPV4,
        "8.8.8.8",
        "1.1.1.1",
        "100.63.255.255",
        "100.128.0.1",
        "172.32.0.1",
        "192.0.1.1",
        "223.255.255.255",
        PUBLIC_IPV6,
        "2606:4700:4700::1111",
        "2a00:1450:4001::1",
        "2001:200::1",
    ],
)
def test_ordinary_addresses_are_public(text: str) -> None:
    """Ordinary unicast addresses, also right beside a refused block, are allowed."""
    assert is_public_address(ipaddress.ip_address(text))


@given(st.ip_addresses())
def test_nothing_is_public_that_the_standard_library_holds_private(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """The guard is never more generous than the standard library, whose list is known to be too short."""
    if is_public_address(address):
        assert address.is_global
        assert not address.is_multicast


@given(st.ip_addresses(v=4))
def test_an_address_inside_another_is_never_public(inner: ipaddress.IPv4Address) -> None:
    """Every way of carrying an IPv4 address in an IPv6 address is refused, whatever it carries."""
    number = int(inner)
    carriers = [
        number,  # IPv4-compatible
        (0xFFFF << 32) | number,  # IPv4-mapped
        int(ipaddress.IPv6Address("64:ff9b::")) | number,  # NAT64
        (0x2002 << 112) | (number << 80),  # 6to4
        (0x20010000 << 96) | (number << 64),  # Teredo, the server
        (0x20010000 << 96) | (number ^ 0xFFFFFFFF),  # Teredo, the client
    ]
    assert not any(is_public_address(ipaddress.IPv6Address(carrier)) for carrier in carriers)


def refusal_of(url: str, policy: EgressPolicy = PRODUCTION) -> RefusalReason:
    """Why the URL is refused."""
    with pytest.raises(EgressRefused) as caught:
        check_url(url, policy)
    assert caught.value.code == caught.value.reason
    return caught.value.reason


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", RefusalReason.URL_MALFORMED),
        ("hook", RefusalReason.SCHEME_REFUSED),
        ("//example.org/", RefusalReason.SCHEME_REFUSED),
        ("http://example.org/", RefusalReason.SCHEME_REFUSED),
        ("ftp://example.org/", RefusalReason.SCHEME_REFUSED),
        ("file:///etc/passwd", RefusalReason.SCHEME_REFUSED),
        ("gopher://example.org/", RefusalReason.SCHEME_REFUSED),
        ("https:example.org", RefusalReason.URL_MALFORMED),
        ("https:///example.org", RefusalReason.URL_MALFORMED),
        ("https:\\\\example.org", RefusalReason.URL_MALFORMED),
        ("https://example.org\\@127.0.0.1/", RefusalReason.URL_MALFORMED),
        ("https://exam\tple.org/", RefusalReason.URL_MALFORMED),
        ("https://example.org/a\r\nHost: b", RefusalReason.URL_MALFORMED),
        (" https://example.org/", RefusalReason.URL_MALFORMED),
        ("https://example.org/a b", RefusalReason.URL_MALFORMED),
        ("https://example.org/\x00", RefusalReason.URL_MALFORMED),
        ("https://example.org/%zz", RefusalReason.URL_MALFORMED),
        ("https://example.org/ü", RefusalReason.URL_MALFORMED),
        ("https://user@example.org/", RefusalReason.USER_INFORMATION_REFUSED),
        ("https://user:password@example.org/", RefusalReason.USER_INFORMATION_REFUSED),
        ("https://example.org@127.0.0.1/", RefusalReason.USER_INFORMATION_REFUSED),
        ("https://example.org/#part", RefusalReason.FRAGMENT_REFUSED),
        ("https://example.org/#", RefusalReason.FRAGMENT_REFUSED),
        ("https://example.org:0/", RefusalReason.PORT_REFUSED),
        ("https://example.org:22/", RefusalReason.PORT_REFUSED),
        ("https://example.org:25/", RefusalReason.PORT_REFUSED),
        ("https://example.org:80/", RefusalReason.PORT_REFUSED),
        ("https://example.org:65536/", RefusalReason.PORT_REFUSED),
        ("https://example.org:/", RefusalReason.PORT_REFUSED),
        ("https://example.org:４43/", RefusalReason.PORT_REFUSED),
        ("https://example.org:443:443/", RefusalReason.PORT_REFUSED),
        ("https://[::1/", RefusalReason.HOST_MALFORMED),
        ("https://[::1]x/", RefusalReason.HOST_MALFORMED),
        ("https://[fe80::1%25eth0]/", RefusalReason.HOST_MALFORMED),
        ("https://localhost/", RefusalReason.HOST_MALFORMED),
        ("https://intranet/", RefusalReason.HOST_MALFORMED),
        ("https://a..example.org/", RefusalReason.HOST_MALFORMED),
        ("https://-a.example.org/", RefusalReason.HOST_MALFORMED),
        ("https://a_b.example.org/", RefusalReason.HOST_MALFORMED),
        ("https://%31%32%37.0.0.1/", RefusalReason.HOST_MALFORMED),
        ("https://2130706433/", RefusalReason.HOST_MALFORMED),
        ("https://127.1/", RefusalReason.HOST_MALFORMED),
        ("https://0177.0.0.1/", RefusalReason.HOST_MALFORMED),
        ("https://0x7f.0.0.1/", RefusalReason.HOST_MALFORMED),
        ("https://0x7f000001/", RefusalReason.HOST_MALFORMED),
        ("https://127.0.0.0x1/", RefusalReason.HOST_MALFORMED),
        ("https://127.0.0.1.1/", RefusalReason.HOST_MALFORMED),
        ("https://127.0.0.1/", RefusalReason.ADDRESS_REFUSED),
        ("https://127.0.0.1./", RefusalReason.ADDRESS_REFUSED),
        ("https://１２７.0.0.1/", RefusalReason.ADDRESS_REFUSED),
        ("https://127。0。0。1/", RefusalReason.ADDRESS_REFUSED),
        ("https://169.254.169.254/latest/meta-data/", RefusalReason.ADDRESS_REFUSED),
        ("https://[::1]/", RefusalReason.ADDRESS_REFUSED),
        ("https://[::ffff:127.0.0.1]/", RefusalReason.ADDRESS_REFUSED),
        ("https://[64:ff9b::7f00:1]/", RefusalReason.ADDRESS_REFUSED),
        ("https://" + "a." * 127 + "org/", RefusalReason.HOST_MALFORMED),
        ("https://example.org/" + "a" * URL_LENGTH_MAX, RefusalReason.URL_TOO_LONG),
    ],
)
def test_urls_that_could_reach_elsewhere_are_refused(url: str, reason: RefusalReason) -> None:
    """Each trick is refused for its own reason, by its text alone."""
    assert refusal_of(url) is reason


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("https://example.org", "https://example.org/"),
        ("https://EXAMPLE.org:443/Hook?a=1&b=%2F", "https://example.org/Hook?a=1&b=%2F"),
        ("HTTPS://example.org./x", "https://example.org/x"),
        ("https://example.org:8443/x", "https://example.org:8443/x"),
        ("https://bücher.example/", "https://xn--bcher-kva.example/"),
        ("https://ｅｘａｍｐｌｅ.org/", "https://example.org/"),
        (f"https://{PUBLIC_IPV4}/", f"https://{PUBLIC_IPV4}/"),
        ("https://[2606:4700:4700:0::1111]:8443/", "https://[2606:4700:4700::1111]:8443/"),
    ],
)
def test_an_allowed_url_has_one_spelling(url: str, canonical: str) -> None:
    """What is allowed comes back in a form that every parser reads alike, and checking it again changes nothing."""
    checked = check_url(url, PRODUCTION)
    assert checked.url == canonical
    assert check_url(checked.url, PRODUCTION) == checked


def test_a_url_of_the_greatest_length_is_allowed() -> None:
    """The length limit is where it says it is."""
    start = "https://example.org/"
    assert len(check_url(start + "a" * (URL_LENGTH_MAX - len(start)), PRODUCTION).url) == URL_LENGTH_MAX


@given(st.text(max_size=60), st.sampled_from(["", "https://", "https://example.org", "https://example.org/"]))
def test_any_text_is_either_refused_or_made_canonical(text: str, start: str) -> None:
    """No text makes the check fail in an unforeseen way, and the result is plain ASCII without user information."""
    try:
        checked = check_url(start + text, PRODUCTION)
    except EgressRefused:
        return
    assert checked.url.isascii()
    assert checked.url.startswith("https://")
    assert "@" not in checked.url.split("/")[2]
    assert check_url(checked.url, PRODUCTION) == checked


def test_the_development_switch_allows_loopback_and_nothing_else() -> None:
    """With the switch on, this machine may be reached over http, other private networks may not."""
    assert check_url("http://127.0.0.1:8080/hook", DEVELOPMENT).url == "http://127.0.0.1:8080/hook"
    assert check_url("http://[::1]:8080/hook", DEVELOPMENT).host == "::1"
    assert check_url("http://localhost:8080/hook", DEVELOPMENT).host == "localhost"
    for host in ("10.0.0.1", "169.254.169.254", "0.0.0.0", "[::ffff:127.0.0.1]"):
        assert refusal_of(f"http://{host}:8080/", DEVELOPMENT) is RefusalReason.ADDRESS_REFUSED


def test_own_networks_come_from_the_settings() -> None:
    """A network that the deployment names is allowed, its neighbours are not, and https stays required."""
    policy = EgressPolicy(extra_networks=(ipaddress.IPv4Network("10.1.0.0/16"),))
    assert check_url("https://10.1.2.3/", policy).host == "10.1.2.3"
    assert refusal_of("https://10.2.0.1/", policy) is RefusalReason.ADDRESS_REFUSED
    assert refusal_of("https://[::1]/", policy) is RefusalReason.ADDRESS_REFUSED
    assert refusal_of("http://10.1.2.3/", policy) is RefusalReason.SCHEME_REFUSED


def test_a_refusal_and_a_checked_url_never_show_the_url() -> None:
    """A URL may hold a secret, so neither the error nor the printed value repeats it."""
    with pytest.raises(EgressRefused) as caught:
        check_url("https://10.0.0.1/secret", PRODUCTION)
    assert "secret" not in str(caught.value)
    assert "10.0.0.1" not in str(caught.value)
    assert "secret" not in repr(check_url("https://example.org/secret", PRODUCTION))


class NameService:
    """Answers from a table and counts the questions; can be made to hang."""

    def __init__(self) -> None:
        self.table: dict[str, Sequence[str]] = {}
        self.questions: list[str] = []
        self.hanging: set[str] = set()
        self.let_go = threading.Event()

    def __call__(self, host: str) -> Sequence[str]:
        self.questions.append(host)
        if host in self.hanging:
            self.let_go.wait(10)
        if host not in self.table:
            raise OSError("unknown")
        return self.table[host]


class Time:
    """A monotonic clock that moves when told to."""

    def __init__(self) -> None:
        self.seconds = 100.0

    def __call__(self) -> float:
        return self.seconds


MakeResolver = Callable[..., Resolver]


@pytest.fixture
def names() -> NameService:
    """The name service of one test."""
    return NameService()


@pytest.fixture
def time() -> Time:
    """The time of one test."""
    return Time()


@pytest.fixture
async def make_resolver(names: NameService, time: Time) -> AsyncIterator[MakeResolver]:
    """Makes resolvers with short limits and closes them."""
    made: list[Resolver] = []

    def make(policy: EgressPolicy = PRODUCTION) -> Resolver:
        resolver = Resolver(
            policy,
            monotonic=time,
            look_up=names,
            fresh_seconds=60,
            stale_seconds_max=3600,
            timeout_seconds=0.1,
            stale_patience_seconds=0.02,
        )
        made.append(resolver)
        return resolver

    yield make
    names.let_go.set()
    for resolver in made:
        resolver.close()


async def resolve(resolver: Resolver, host: str) -> list[str]:
    """The addresses of a name, as text."""
    return [str(address) for address in await resolver.resolve(check_url(f"https://{host}/", resolver.policy))]


async def refused(resolver: Resolver, host: str) -> RefusalReason:
    """Why a name is refused."""
    with pytest.raises(EgressRefused) as caught:
        await resolve(resolver, host)
    return caught.value.reason


async def test_a_name_is_asked_once_while_its_answer_is_fresh(
    make_resolver: MakeResolver, names: NameService, time: Time
) -> None:
    """Within the time to live the first answer is used; after it the name is asked anew and the new answer counts."""
    resolver = make_resolver()
    names.table["a.example"] = [PUBLIC_IPV4, PUBLIC_IPV6, PUBLIC_IPV4]
    assert await resolve(resolver, "a.example") == [PUBLIC_IPV4, PUBLIC_IPV6]
    names.table["a.example"] = ["1.1.1.1"]
    time.seconds += 59
    assert await resolve(resolver, "a.example") == [PUBLIC_IPV4, PUBLIC_IPV6]
    time.seconds += 2
    assert await resolve(resolver, "a.example") == ["1.1.1.1"]
    assert names.questions == ["a.example"] * 2


@pytest.mark.parametrize(
    "answer",
    [["10.0.0.1"], [PUBLIC_IPV4, "127.0.0.1"], [PUBLIC_IPV6, "::ffff:8.8.8.8"], ["fe80::1%eth0"], ["nonsense"]],
)
async def test_one_bad_address_refuses_the_name(
    make_resolver: MakeResolver, names: NameService, answer: Sequence[str]
) -> None:
    """A name with any address that is not public is refused altogether, not used at its good one."""
    names.table["a.example"] = answer
    assert await refused(make_resolver(), "a.example") is RefusalReason.ADDRESS_REFUSED


async def test_a_name_that_turns_inwards_is_refused_although_it_was_good(
    make_resolver: MakeResolver, names: NameService, time: Time
) -> None:
    """A rebound name is refused at its next resolution and its old answer is forgotten."""
    resolver = make_resolver()
    names.table["a.example"] = [PUBLIC_IPV4]
    await resolve(resolver, "a.example")
    names.table["a.example"] = ["127.0.0.1"]
    time.seconds += 61
    assert await refused(resolver, "a.example") is RefusalReason.ADDRESS_REFUSED
    del names.table["a.example"]
    assert await refused(resolver, "a.example") is RefusalReason.NAME_UNKNOWN


async def test_the_last_good_answer_outlives_the_name_service(
    make_resolver: MakeResolver, names: NameService, time: Time
) -> None:
    """While the name service fails or hangs, the last guarded answer is used for a limited time."""
    resolver = make_resolver()
    names.table["a.example"] = [PUBLIC_IPV4]
    await resolve(resolver, "a.example")
    del names.table["a.example"]
    time.seconds += 61
    assert await resolve(resolver, "a.example") == [PUBLIC_IPV4]
    names.hanging.add("a.example")
    assert await resolve(resolver, "a.example") == [PUBLIC_IPV4]
    time.seconds += 3600
    assert await refused(resolver, "a.example") is RefusalReason.NAME_SERVICE_TIMEOUT


async def test_a_hanging_name_delays_no_other_and_is_asked_once(
    make_resolver: MakeResolver, names: NameService
) -> None:
    """Many callers of a name that hangs share one question and time out; another name is answered meanwhile."""
    resolver = make_resolver()
    names.hanging.add("slow.example")
    names.table["a.example"] = [PUBLIC_IPV4]
    slow = [asyncio.create_task(refused(resolver, "slow.example")) for _ in range(20)]
    assert await resolve(resolver, "a.example") == [PUBLIC_IPV4]
    assert set(await asyncio.gather(*slow)) == {RefusalReason.NAME_SERVICE_TIMEOUT}
    assert names.questions.count("slow.example") == 1


async def test_too_many_addresses_are_refused(make_resolver: MakeResolver, names: NameService) -> None:
    """The number of addresses of one name has a limit, and it is where it says it is."""
    names.table["a.example"] = [f"1.1.1.{number}" for number in range(ADDRESSES_MAX)]
    names.table["b.example"] = [f"1.1.1.{number}" for number in range(ADDRESSES_MAX + 1)]
    assert len(await resolve(make_resolver(), "a.example")) == ADDRESSES_MAX
    assert await refused(make_resolver(), "b.example") is RefusalReason.TOO_MANY_ADDRESSES


async def test_a_name_without_addresses_is_unknown(make_resolver: MakeResolver, names: NameService) -> None:
    """An empty answer is no answer."""
    names.table["a.example"] = []
    assert await refused(make_resolver(), "a.example") is RefusalReason.NAME_UNKNOWN


async def test_an_address_is_not_looked_up_but_still_guarded(make_resolver: MakeResolver, names: NameService) -> None:
    """For a URL whose host is an address no question is asked, and the policy in force now decides."""
    resolver = make_resolver()
    assert await resolve(resolver, PUBLIC_IPV4) == [PUBLIC_IPV4]
    with pytest.raises(EgressRefused):
        await resolver.resolve(check_url("http://127.0.0.1/", DEVELOPMENT))
    assert names.questions == []


async def test_remembered_names_have_a_limit(names: NameService, time: Time) -> None:
    """The memory of answers does not grow without end; the name unused for longest is forgotten first."""
    resolver = Resolver(PRODUCTION, monotonic=time, look_up=names, hosts_remembered_max=2)
    names.table.update({f"{letter}.example": [PUBLIC_IPV4] for letter in "abc"})
    for host in ("a.example", "b.example", "a.example", "c.example", "a.example", "b.example"):
        await resolve(resolver, host)
    resolver.close()
    assert names.questions == ["a.example", "b.example", "c.example", "b.example"]


async def test_the_system_resolver_finds_this_machine() -> None:
    """The real look-up works: localhost is loopback, which production refuses and development allows. How a name that
    nobody has fails is the affair of this machine's name servers, which may be slow.
    """
    unknown = await refused_by_system(PRODUCTION, "localhost.localdomain.invalid")
    assert unknown in {RefusalReason.NAME_UNKNOWN, RefusalReason.NAME_SERVICE_TIMEOUT}
    resolver = Resolver(DEVELOPMENT, monotonic=Time())
    found = await resolver.resolve(check_url("http://localhost/", DEVELOPMENT))
    resolver.close()
    assert all(address.is_loopback for address in found)


async def refused_by_system(policy: EgressPolicy, host: str) -> RefusalReason:
    """Why a name is refused when the real name service is asked."""
    resolver = Resolver(policy, monotonic=Time())
    try:
        return await refused(resolver, host)
    finally:
        resolver.close()
