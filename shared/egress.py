"""The address guard: which URLs that others gave us may be fetched, and which address is connected to.

The cast: an `EgressPolicy` (what this installation allows, from deployment settings only), `check_url` (what can be
refused by looking at the text), `is_public_address` (what can be refused by looking at an address) and the `Resolver`
(asks the name service once and refuses the name if *any* of its addresses is refused).

The promise: whoever connects to exactly an address that `Resolver.resolve` returned, for the host of the canonical URL
that `check_url` returned, reaches the public internet or a network that the deployment named, and nothing else. A name
that changes its answer between the check and the connection changes nothing, because the name is not asked again.
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import idna

from shared.errors import Invalid

if TYPE_CHECKING:
    from shared.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

URL_LENGTH_MAX = 2048
HOST_LENGTH_MAX = 253
ADDRESSES_MAX = 32
"""A name with more addresses than this is refused: no real service has them, and each must be classified."""
HOSTS_REMEMBERED_MAX = 4096
LOOKUP_THREADS_MAX = 64
"""A name server that never answers holds one thread per name: it takes this many bad names to delay a good one."""
LOOKUP_TIMEOUT_SECONDS = 2.0
STALE_PATIENCE_SECONDS = 0.25
"""How long a refresh may take before the last good answer is used again."""
FRESH_SECONDS = 60.0
STALE_SECONDS_MAX = 86_400.0
"""How long a good answer is used again while the name service does not answer: pages get out although it is down."""

PORT_UNPRIVILEGED_MIN = 1024
DEFAULT_PORTS = {"https": 443, "http": 80}

# IANA IPv4 Special-Purpose Address Registry, whole blocks: the few globally reachable addresses inside them (192.0.0.9,
# 192.0.0.10) serve protocols and not web servers. Multicast and the deprecated 6to4 relays are refused as well.
_REFUSED_IPV4 = tuple(
    ipaddress.IPv4Network(block)
    for block in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
        # The host agent of one large cloud answers on this address, which is public by its range only.
        "168.63.129.16/32",
    )
)

# Everything outside of global unicast is refused by not being in it: unspecified, loopback, IPv4-compatible and
# IPv4-mapped, NAT64 (64:ff9b::/96 and 64:ff9b:1::/48), discard-only, unique local, link local, site local, multicast.
_GLOBAL_UNICAST_IPV6 = ipaddress.IPv6Network("2000::/3")
_REFUSED_IPV6 = tuple(
    ipaddress.IPv6Network(block)
    for block in (
        "2001::/23",  # protocol assignments: Teredo, benchmarking, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4 carries any IPv4 address
        "3ffe::/16",  # the returned experimental network
        "3fff::/20",  # documentation
    )
)
_LOOPBACK = (ipaddress.IPv4Network("127.0.0.0/8"), ipaddress.IPv6Network("::1/128"))

_PATH_AND_QUERY = re.compile(r"[A-Za-z0-9\-._~!$&'()*+,;=:@/?]*(?:%[0-9A-Fa-f]{2}[A-Za-z0-9\-._~!$&'()*+,;=:@/?]*)*")
_LABEL = r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_HOST_NAME = re.compile(rf"(?=.{{1,{HOST_LENGTH_MAX}}}\Z){_LABEL}(?:\.{_LABEL})*")
_PORT = re.compile(r"[0-9]{1,5}")


class RefusalReason(StrEnum):
    """Why a URL, a name or an address is not used."""

    URL_TOO_LONG = "url_too_long"
    URL_MALFORMED = "url_malformed"
    SCHEME_REFUSED = "scheme_refused"
    USER_INFORMATION_REFUSED = "user_information_refused"
    FRAGMENT_REFUSED = "fragment_refused"
    PORT_REFUSED = "port_refused"
    HOST_MALFORMED = "host_malformed"
    ADDRESS_REFUSED = "address_refused"
    NAME_UNKNOWN = "name_unknown"
    NAME_SERVICE_TIMEOUT = "name_service_timeout"
    TOO_MANY_ADDRESSES = "too_many_addresses"


_SENTENCES = {
    RefusalReason.URL_TOO_LONG: f"the URL is longer than {URL_LENGTH_MAX} characters",
    RefusalReason.URL_MALFORMED: "this is not a URL of the form https://host/path",
    RefusalReason.SCHEME_REFUSED: "the URL must begin with https://",
    RefusalReason.USER_INFORMATION_REFUSED: "the URL must not hold a user name or password",
    RefusalReason.FRAGMENT_REFUSED: "the URL must not hold a fragment (#)",
    RefusalReason.PORT_REFUSED: f"the port must be the scheme's own or at least {PORT_UNPRIVILEGED_MIN}",
    RefusalReason.HOST_MALFORMED: "the host must be a full domain name or an address in its usual form",
    RefusalReason.ADDRESS_REFUSED: "the host is not on the public internet",
    RefusalReason.NAME_UNKNOWN: "the host name could not be resolved",
    RefusalReason.NAME_SERVICE_TIMEOUT: "the name service did not answer in time",
    RefusalReason.TOO_MANY_ADDRESSES: f"the host has more than {ADDRESSES_MAX} addresses",
}


class EgressRefused(Invalid):
    """A URL, name or address that this installation does not connect to.

    The message is one sentence that may be shown to whoever gave the URL: it never repeats the URL, which may hold a
    secret, nor the address, which would tell a stranger what our name service knows.
    """

    def __init__(self, reason: RefusalReason) -> None:
        super().__init__(_SENTENCES[reason], code=reason.value)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class EgressPolicy:
    """What this installation allows beyond https to the public internet. Deployment settings only, never the API."""

    allow_http: bool = False
    allow_loopback: bool = False
    """The development switch: receivers on this machine."""
    extra_networks: tuple[Network, ...] = ()
    """Networks of one's own. They win over every refusal, so they must not be broader than needed."""

    @property
    def allows_private_hosts(self) -> bool:
        """Whether names of a local network, which may have no dot, make sense here."""
        return self.allow_loopback or bool(self.extra_networks)

    def allows(self, address: Address) -> bool:
        """Whether this installation connects to `address`."""
        if isinstance(address, ipaddress.IPv6Address) and address.scope_id is not None:
            return False
        if is_public_address(address):
            return True
        if self.allow_loopback and any(address in network for network in _LOOPBACK):
            return True
        return any(address in network for network in self.extra_networks)


def policy_of(settings: Settings) -> EgressPolicy:
    """What this deployment allows, wherever addresses are taken or connected to."""
    return EgressPolicy(
        allow_http=settings.development,
        allow_loopback=settings.development,
        extra_networks=tuple(settings.extra_networks),
    )


@dataclass(frozen=True, slots=True)
class CheckedUrl:
    """A URL whose text is harmless, in the one spelling that every parser reads alike."""

    url: str = field(repr=False)
    """Canonical: ASCII host in lower case, explicit port unless default, no user information, no fragment."""
    scheme: str
    host: str
    """A lower-case ASCII name without a final dot, or an address without brackets."""
    port: int
    address: Address | None
    """The address, if the host is one. Then there is no name to resolve."""


def is_public_address(address: Address) -> bool:
    """Whether `address` is an ordinary host of the public internet.

    The standard library's `is_global` is not used: in Python 3.11 it allows 64:ff9b::/96, 2002::/16, ::/96, 192.0.0.8
    and multicast, each of which can reach an inner host. An IPv6 address that carries an IPv4 address is refused
    whatever it carries, and so is one with a zone.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _REFUSED_IPV4)
    if address.scope_id is not None:
        return False
    return address in _GLOBAL_UNICAST_IPV6 and not any(address in network for network in _REFUSED_IPV6)


def check_url(url: str, policy: EgressPolicy) -> CheckedUrl:
    """Return the canonical form of `url`, or raise `EgressRefused` with the reason.

    Looks at the text only. A host that is an address is classified here; a name must still be resolved.
    """
    if len(url) > URL_LENGTH_MAX:
        raise EgressRefused(RefusalReason.URL_TOO_LONG)
    # urlsplit silently drops tabs and line ends and reads a backslash differently from a browser, so these go first.
    if not url or any(character <= " " or character in '\\\x7f"<>^`{|}' for character in url):
        raise EgressRefused(RefusalReason.URL_MALFORMED)
    try:
        parts = urlsplit(url)
    except ValueError:
        raise EgressRefused(RefusalReason.HOST_MALFORMED) from None
    scheme = parts.scheme
    if scheme not in DEFAULT_PORTS or (scheme == "http" and not policy.allow_http):
        raise EgressRefused(RefusalReason.SCHEME_REFUSED)
    if not url[len(scheme) :].startswith("://") or not parts.netloc:
        raise EgressRefused(RefusalReason.URL_MALFORMED)
    if "@" in parts.netloc:
        raise EgressRefused(RefusalReason.USER_INFORMATION_REFUSED)
    if "#" in url:
        raise EgressRefused(RefusalReason.FRAGMENT_REFUSED)
    host_text, port = _split_port(parts.netloc, DEFAULT_PORTS[scheme])
    host, address = _check_host(host_text, policy)
    if address is not None and not policy.allows(address):
        raise EgressRefused(RefusalReason.ADDRESS_REFUSED)
    path_and_query = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not _PATH_AND_QUERY.fullmatch(path_and_query):
        raise EgressRefused(RefusalReason.URL_MALFORMED)
    shown_host = f"[{host}]" if isinstance(address, ipaddress.IPv6Address) else host
    shown_port = "" if port == DEFAULT_PORTS[scheme] else f":{port}"
    return CheckedUrl(f"{scheme}://{shown_host}{shown_port}{path_and_query}", scheme, host, port, address)


def _split_port(netloc: str, default: int) -> tuple[str, int]:
    if netloc.startswith("["):
        host, bracket, rest = netloc.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise EgressRefused(RefusalReason.HOST_MALFORMED)
        host, port_text = host + bracket, rest[1:] if rest else None
    else:
        host, colon, after = netloc.partition(":")
        port_text = after if colon else None
    if port_text is None:
        return host, default
    if not _PORT.fullmatch(port_text):
        raise EgressRefused(RefusalReason.PORT_REFUSED)
    port = int(port_text)
    # The well-known ports below 1024 belong to other protocols, whose servers may act on what a request says.
    if port != default and not PORT_UNPRIVILEGED_MIN <= port <= 65_535:
        raise EgressRefused(RefusalReason.PORT_REFUSED)
    return host, port


def _check_host(text: str, policy: EgressPolicy) -> tuple[str, Address | None]:
    if text.startswith("["):
        try:
            if "%" in text:
                raise ValueError("zone")
            address = ipaddress.IPv6Address(text[1:-1])
        except ValueError:
            raise EgressRefused(RefusalReason.HOST_MALFORMED) from None
        return str(address), address
    try:
        # UTS 46 also turns full-width digits and ideographic dots into plain ones: addresses are looked for after it.
        name = idna.encode(text, uts46=True, std3_rules=True).decode("ascii").lower()
    except (idna.IDNAError, UnicodeError, ValueError):
        raise EgressRefused(RefusalReason.HOST_MALFORMED) from None
    name = name.removesuffix(".")
    if not _HOST_NAME.fullmatch(name):
        raise EgressRefused(RefusalReason.HOST_MALFORMED)
    last_label = name.rpartition(".")[2]
    if last_label.isdigit() or re.fullmatch(r"0x[0-9a-f]*", last_label):
        # 2130706433, 127.1, 0177.0.0.1 and 0x7f.0.0.1 are loopback to many resolvers; the dotted quad alone is clear.
        try:
            return name, ipaddress.IPv4Address(name)
        except ValueError:
            raise EgressRefused(RefusalReason.HOST_MALFORMED) from None
    if "." not in name and not policy.allows_private_hosts:
        raise EgressRefused(RefusalReason.HOST_MALFORMED)
    return name, None


@dataclass(frozen=True, slots=True)
class _Answer:
    addresses: tuple[Address, ...]
    fresh_until: float
    stale_until: float


def look_up(host: str) -> Sequence[str]:
    """Ask the system's name service for all addresses of `host`, preferred first. Blocks; raises `OSError`."""
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(entry[4][0]) for entry in found]


class Resolver:
    """Resolves names for outgoing connections, each name once per `fresh_seconds`, and guards every answer.

    A name server that is slow or gone neither delays other names nor silences this one: questions have threads of their
    own, one per name, and the last guarded answer is used again for up to `stale_seconds_max`. An answer that the
    policy refuses is never covered up by an older one.
    """

    def __init__(
        self,
        policy: EgressPolicy,
        *,
        monotonic: Callable[[], float],
        fresh_seconds: float = FRESH_SECONDS,
        stale_seconds_max: float = STALE_SECONDS_MAX,
        timeout_seconds: float = LOOKUP_TIMEOUT_SECONDS,
        stale_patience_seconds: float = STALE_PATIENCE_SECONDS,
        hosts_remembered_max: int = HOSTS_REMEMBERED_MAX,
        look_up: Callable[[str], Sequence[str]] = look_up,
    ) -> None:
        self.policy = policy
        self._monotonic = monotonic
        self._fresh_seconds = fresh_seconds
        self._stale_seconds_max = stale_seconds_max
        self._timeout_seconds = timeout_seconds
        self._stale_patience_seconds = stale_patience_seconds
        self._hosts_remembered_max = hosts_remembered_max
        self._look_up = look_up
        self._answers: OrderedDict[str, _Answer] = OrderedDict()
        self._questions: dict[str, asyncio.Task[_Answer]] = {}
        self._threads = ThreadPoolExecutor(LOOKUP_THREADS_MAX, thread_name_prefix="name-service")

    async def resolve(self, target: CheckedUrl) -> tuple[Address, ...]:
        """Return the addresses that may be connected to for `target`, preferred first; never empty.

        Raises `EgressRefused`: `address_refused` if any address of the name is not allowed, `name_unknown`,
        `name_service_timeout` or `too_many_addresses`.
        """
        if target.address is not None:
            if not self.policy.allows(target.address):
                raise EgressRefused(RefusalReason.ADDRESS_REFUSED)
            return (target.address,)
        known = self._answers.get(target.host)
        now = self._monotonic()
        if known is not None and now < known.fresh_until:
            self._answers.move_to_end(target.host)
            return known.addresses
        usable = known if known is not None and now < known.stale_until else None
        patience_seconds = self._timeout_seconds if usable is None else self._stale_patience_seconds
        question = self._questions.get(target.host) or self._ask(target.host)
        try:
            async with asyncio.timeout(patience_seconds):
                return (await asyncio.shield(question)).addresses
        except TimeoutError:
            if usable is None:
                raise EgressRefused(RefusalReason.NAME_SERVICE_TIMEOUT) from None
        except EgressRefused as refusal:
            if usable is None or refusal.reason is not RefusalReason.NAME_UNKNOWN:
                raise
        return usable.addresses

    def close(self) -> None:
        """Forget all answers and stop asking. A question that hangs is left to its own end."""
        for question in self._questions.values():
            question.cancel()
        self._answers.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _ask(self, host: str) -> asyncio.Task[_Answer]:
        question = asyncio.get_running_loop().create_task(self._answer(host), name=f"resolve {host}")
        self._questions[host] = question

        def done(task: asyncio.Task[_Answer]) -> None:
            if self._questions.get(host) is task:
                del self._questions[host]
            if not task.cancelled():
                # Read so that a refusal nobody waits for any more is not reported as an unhandled error.
                task.exception()

        question.add_done_callback(done)
        return question

    async def _answer(self, host: str) -> _Answer:
        loop = asyncio.get_running_loop()
        try:
            texts = await loop.run_in_executor(self._threads, self._look_up, host)
            addresses = tuple(dict.fromkeys(ipaddress.ip_address(text) for text in texts))
        except (OSError, UnicodeError):
            raise EgressRefused(RefusalReason.NAME_UNKNOWN) from None
        except ValueError:
            self._answers.pop(host, None)
            raise EgressRefused(RefusalReason.ADDRESS_REFUSED) from None
        if not addresses:
            raise EgressRefused(RefusalReason.NAME_UNKNOWN)
        if len(addresses) > ADDRESSES_MAX:
            self._answers.pop(host, None)
            raise EgressRefused(RefusalReason.TOO_MANY_ADDRESSES)
        if not all(self.policy.allows(address) for address in addresses):
            self._answers.pop(host, None)
            raise EgressRefused(RefusalReason.ADDRESS_REFUSED)
        now = self._monotonic()
        answer = _Answer(addresses, now + self._fresh_seconds, now + self._stale_seconds_max)
        self._answers[host] = answer
        self._answers.move_to_end(host)
        while len(self._answers) > self._hosts_remembered_max:
            self._answers.popitem(last=False)
        return answer
